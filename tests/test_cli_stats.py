# SPDX-License-Identifier: MIT
"""test_cli_stats.py - stats, bench, info, help, and what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import complaint, leftovers, normalize
from oracle import random

import fastnorm
from fastnorm.cli import main

pytestmark = pytest.mark.usefixtures("own_directory")


# ---- stats -------------------------------------------------------------------------


def stats(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["stats", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("memory", ["64", "1000", "64M"])
@pytest.mark.parametrize("kind", ["<f4", ">f8", "u1", "i2", "i4", "f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_stats_over_several_files(
    memory: str, kind: str, order: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [
        np.asarray((100 + 10 * random((n, 4, 5, 3), "f8")).astype(kind), order=order)
        for n in (7, 1, 12)
    ]
    for i, part in enumerate(parts):
        np.save(f"{i}.npy", part)
    whole = np.concatenate(parts).astype("f8")
    files = ["0.npy", "1.npy", "2.npy", "--memory", memory]
    for options, axes in (
        ([], (0, 1, 2)),
        (["--channel-axis", 1], (0, 2, 3)),
        (["--channel-axis", -2], (0, 1, 3)),
        (["--all"], (0, 1, 2, 3)),
    ):
        found = stats(capsys, *files, *options, "--ddof", 1)
        channels = np.atleast_1d(whole.mean(axes)).size
        assert found["count"] == [whole.size // channels] * channels
        assert found["files"] == files[:3] and found["ddof"] == 1
        np.testing.assert_allclose(
            found["mean"], np.atleast_1d(whole.mean(axes)), rtol=1e-14
        )
        for name, expected in (("var", whole.var), ("std", whole.std)):
            np.testing.assert_allclose(
                found[name], np.atleast_1d(expected(axes, ddof=1)), rtol=1e-12
            )
        for name, extreme in (("min", whole.min), ("max", whole.max)):
            np.testing.assert_array_equal(found[name], np.atleast_1d(extreme(axes)))


def test_stats_of_wide_integers_are_not_rounded_to_float32(
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save("x.npy", np.array([2**30 + 1, 2**30 + 3]))
    found = stats(capsys, "x.npy")
    assert found["mean"] == [2**30 + 2] and found["var"] == [1]


def test_stats_that_are_not_numbers_are_null(
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save("x.npy", np.array([[1.0, np.nan], [2.0, 1.0]]))
    found = stats(capsys, "x.npy")
    assert found["mean"] == [1.5, None] and found["std"] == [0.5, None]
    np.save("e.npy", np.empty((0, 2)))
    found = stats(capsys, "e.npy")
    assert found["count"] == [0, 0] and found["mean"] == found["min"] == [None, None]


def test_nan_is_what_it_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", np.array([[1.0, np.nan], [3.0, 4.0]], np.float32))
    assert stats(capsys, "x.npy", "--nan", "propagate")["max"] == [3, None]
    found = stats(capsys, "x.npy", "--nan", "omit")
    assert found["count"] == [2, 1] and found["mean"] == [2, 4]
    assert found["min"] == [1, 4] and found["max"] == [3, 4] and found["var"] == [1, 0]
    said = complaint(capsys, "stats", "x.npy", "--nan", "error", "--save", "s.npz")
    assert said.startswith("fastnorm: x.npy: ") and "NaN" in said
    assert not Path("s.npz").exists()


@pytest.mark.parametrize("memory", ["1K", "64M"])
@pytest.mark.parametrize("kind", ["f4", "u1", "i4"])
def test_what_is_saved_is_a_running_moments(memory: str, kind: str) -> None:
    parts = [(1e2 + 9 * random((n, 5, 4, 3), "f8")).astype(kind) for n in (9, 20)]
    for i, part in enumerate(parts):
        np.save(f"{i}.npy", part)
        assert (
            main(["stats", f"{i}.npy", "--save", f"{i}.npz", "--memory", memory]) == 0
        )
    saved = [fastnorm.RunningMoments.load(f"{i}.npz") for i in range(2)]
    assert saved[0].axis == (0, 1, 2) and saved[0].shape == (3,)
    whole = np.concatenate(parts)
    right = fastnorm.RunningMoments((0, 1, 2)).update(whole.astype("f8"))
    merged = saved[0] + saved[1]
    assert np.array_equal(merged.count, right.count)
    assert np.array_equal(merged.min, right.min)
    np.testing.assert_allclose(merged.mean, right.mean, rtol=1e-15)
    np.testing.assert_allclose(merged.var(), right.var(), rtol=1e-14)
    assert main(["stats", "0.npy", "--all", "--save", "all.npz"]) == 0
    one = fastnorm.RunningMoments.load("all.npz")
    assert (
        one.axis is None
        and one.shape == ()
        and one.update(parts[1].astype("f8")).count == 29 * 60
    )


def test_far_from_zero_no_digits_are_lost(capsys: pytest.CaptureFixture[str]) -> None:
    x = (1e6 + random((1000, 3))).astype(np.float32)
    np.save("x.npy", x)
    found = stats(capsys, "x.npy", "--memory", "3K")
    np.testing.assert_allclose(found["var"], x.astype("g").var(0), rtol=1e-14)


def test_the_table_shows_every_channel_or_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save("x.npy", np.arange(12.0).reshape(4, 3))
    assert main(["stats", "x.npy"]) == 0
    shown = capsys.readouterr().out
    assert (
        "4.5" in shown and "5.5" in shown and "6.5" in shown and "3.35410197" in shown
    )
    assert all(word in shown for word in ("count", "min", "max", " 11 "))
    np.save("wide.npy", random((3, 1000)))
    assert main(["stats", "wide.npy"]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) < 60 and "1000 channels in all" in shown
    assert " 999 " in shown


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
@pytest.mark.parametrize("channels", [1, 3, 1000])
def test_a_plot_of_few_and_of_many_channels(ending: str, channels: int) -> None:
    np.save("x.npy", random((10, channels)))
    assert main(["stats", "x.npy", "--plot", f"p.{ending}"]) == 0
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert Path(f"p.{ending}").read_bytes().startswith(start)
    if ending == "png":
        image = pytest.importorskip("matplotlib.image").imread("p.png")
        assert image.shape[0] > 300 and 0.01 < np.mean(image[..., :3] < 0.9) < 0.5


def test_saved_stats_normalize_another_file() -> None:
    train, test = 1e4 + random((300, 6)), 1e4 + random((50, 6), seed=1)
    np.save("a.npy", train[:100])
    np.save("b.npy", train[100:])
    assert main(["stats", "a.npy", "b.npy", "--save", "s.npz", "--ddof", "1"]) == 0
    mean, var = train.astype("f8").mean(0), train.astype("f8").var(0)
    y = normalize(test, "--op", "standardize", "--stats", "s.npz", "--memory", "1K")
    np.testing.assert_allclose(y, (test - mean) / np.sqrt(var), rtol=2e-6, atol=1e-6)
    y = normalize(test, "--op", "batch_norm", "--stats", "s.npz", "--eps", "0.5")
    np.testing.assert_allclose(
        y, (test - mean) / np.sqrt(var + 0.5), rtol=2e-6, atol=1e-6
    )


def test_mistakes_with_stats_are_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save("x.npy", random((6, 4)))
    np.save("y.npy", random((6, 5)))
    np.save("z.npy", random(6))
    Path("t.npy").write_text("no")
    for arguments, words in (
        ([], "FILE.npy"),
        (["none.npy"], "none.npy: No such file"),
        (["t.npy"], "t.npy is not a .npy file"),
        (["x.npy", "y.npy"], "y.npy has 5 channels, x.npy has 4"),
        (["x.npy", "z.npy"], "z.npy has no channels, x.npy has 4"),
        (["x.npy", "--channel-axis", "5"], "axis 5"),
        (["x.npy", "--all", "--channel-axis", "0"], "exclude"),
        (["x.npy", "--ddof", "-1"], "--ddof"),
        (["x.npy", "--plot", "p.bmp"], "p.bmp must end in"),
        (["x.npy", "--plot", "gone/p.png"], "gone/p.png: No such file"),
        (["x.npy", "--save", "gone/s.npz"], "gone/s.npz: No such file"),
    ):
        assert words in complaint(capsys, "stats", *arguments), arguments


# ---- The rest ------------------------------------------------------------------------


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == fastnorm.__version__
    assert found["isa"] == fastnorm.isa()
    assert found["isas"] == list(fastnorm.isas())
    assert found["num_threads"] == fastnorm.get_num_threads()
    assert found["compiler"]
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    assert fastnorm.isa() in shown and fastnorm.__version__ in shown


def test_bench_passes_on_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = pytest.importorskip("fastnorm.bench")
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(bench, "main", lambda **options: calls.append(options))
    assert main(["bench", "--quick", "--json"]) == 0
    assert main(
        ["bench", "--json", "b.json", "--plot", "b.png", "--case", "LN", "--engine",
         "numpy", "--engine", "fastnorm", "--threads", "2", "--rounds", "3",
         "--accuracy", "--dtype", "float64"]
    ) == 0  # fmt: skip
    defaults = {
        "quick": True, "json_path": "-", "plot": None, "case": None, "engines": (),
        "threads": 1, "rounds": None, "accuracy": False, "dtype": "float32",
    }  # fmt: skip
    assert calls == [
        defaults,
        {
            "quick": False, "json_path": "b.json", "plot": "b.png", "case": "LN",
            "engines": ("numpy", "fastnorm"), "threads": 2, "rounds": 3,
            "accuracy": True, "dtype": "float64",
        },
    ]  # fmt: skip


def test_mistakes_with_bench_are_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "abacus" in complaint(capsys, "bench", "--quick", "--engine", "abacus")
    complaint(capsys, "bench", "--quick", "--case", "no case is called this")


def test_a_missing_extra_is_one_sentence(tmp_path: Path) -> None:
    for package in ("click", "rich"):
        script = (
            f"import sys; sys.modules[{package!r}] = None;"
            "from fastnorm.cli import main; sys.exit(main(['info']))"
        )
        result = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True, text=True, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert result.returncode == 2
        assert result.stderr == (
            f"fastnorm: the command line needs {package}, "
            "install it with: pip install 'fastnorm[cli]'\n"
        )


def test_a_missing_matplotlib_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    np.save("x.npy", random((5, 3)))
    said = complaint(capsys, "stats", "x.npy", "--plot", "p.png")
    assert "pip install 'fastnorm[cli]'" in said


def test_as_a_module_and_its_version() -> None:
    command = [sys.executable, "-m", "fastnorm", "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert fastnorm.__version__ in shown


@pytest.mark.parametrize("words", [[], ["normalize"], ["stats"], ["bench"], ["info"]])
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    assert "Usage: fastnorm" in capsys.readouterr().out


def test_the_examples_of_the_help_keep_their_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words, example in (
        ([], "fastnorm stats train.npy --save stats.npz"),
        (["normalize"], "fastnorm normalize table.npy out.npy --op standardize"),
        (["stats"], "fastnorm stats table.npy --ddof 1 --json"),
        (["bench"], "fastnorm bench --quick"),
    ):
        assert main([*words, "--help"]) == 0
        assert example in map(str.strip, capsys.readouterr().out.splitlines())


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Usage: fastnorm" in capsys.readouterr().err


def test_a_wrong_isa_in_the_environment_is_one_sentence() -> None:
    np.save("x.npy", random((5, 3)))
    result = subprocess.run(
        [sys.executable, "-m", "fastnorm", "normalize", "x.npy", "y.npy", "--op",
         "layer_norm"], env=os.environ | {"FASTNORM_ISA": "sse9"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 2 and "sse9" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("y.npy").exists() and not leftovers()
