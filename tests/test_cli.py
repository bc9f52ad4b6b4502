# SPDX-License-Identifier: MIT
"""test_cli.py - the command line on real files, and on every mistake we thought of."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from oracle import assert_close, hostile, random, same_bits

import fastnorm
from fastnorm import reference
from fastnorm.cli import main


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def normalize(x: ArrayLike, *arguments: object) -> NDArray[Any]:
    np.save("x.npy", x)
    words = [str(a) for a in arguments]
    assert main(["normalize", "x.npy", "y.npy", "--force", *words]) == 0
    return np.load("y.npy")


def complaint(
    capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 2
) -> str:
    """The one sentence on stderr that these arguments earn."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("fastnorm: ") and captured.err.count("\n") == 1
    assert not leftovers()
    return captured.err


def leftovers() -> list[str]:
    return [p.name for p in Path().iterdir() if p.name.startswith(".")]


# ---- normalize: what it computes ---------------------------------------------------

MEMORY = ["32", "1000", "64M"]
SHAPES = [(7,), (33, 5), (3, 4, 50), (2, 5, 4, 3), (1, 300), (300, 1)]


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", ">f8"])
def test_layer_and_rms_norm_of_any_file_over_any_axes(
    memory: str, order: str, kind: str
) -> None:
    for shape in SHAPES:
        x = np.asarray((100 + random(shape, "f8")).astype(kind), order=order)
        native = x.astype(x.dtype.newbyteorder("="))
        axes = [(i,) for i in range(x.ndim)] + [(i, i + 1) for i in range(x.ndim - 1)]
        for axis in [*axes, tuple(range(x.ndim))]:
            n = tuple(shape[i] for i in axis)
            weight, bias = random(n, native.dtype, 1), random(n, native.dtype, 2)
            np.save("w.npy", weight)
            np.save("b.npy", bias)
            common = ["--axis", ",".join(map(str, axis)), "--memory", memory]
            y = normalize(x, "--op", "layer_norm", *common)
            assert y.dtype == native.dtype and y.shape == shape
            assert y.flags.f_contiguous == x.flags.f_contiguous
            assert_close(y, reference.layer_norm(x, None, axis=axis))
            y = normalize(x, "--op", "rms_norm", *common, "--weight", "w.npy")
            assert_close(y, reference.rms_norm(native, None, weight, axis=axis))
            y = normalize(
                x, "--op", "layer_norm", *common, "--weight", "w.npy", "--bias", "b.npy"
            )
            exact = reference.layer_norm(x, None, weight, bias, axis=axis)
            assert_close(y, exact, np.abs(exact) + 4)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f8"])
def test_channels_of_any_file(memory: str, order: str, kind: str) -> None:
    for shape in SHAPES:
        x = np.asarray((100 + random(shape, "f8")).astype(kind), order=order)
        native = x.dtype.newbyteorder("=")
        for axis in range(x.ndim):
            c = shape[axis]
            if c == x.size:
                continue
            common = ["--channel-axis", axis, "--memory", memory]
            exact = reference.batch_norm(
                x, None, None, training=True, eps=0.0, channel_axis=axis
            )
            assert_close(normalize(x, "--op", "standardize", *common), exact)
            rows = [random(c, native, seed) for seed in (1, 2, 3)]
            weight, bias, mean = rows
            var = random(c, native, 4) ** 2
            for name, array in zip("wbmv", (weight, bias, mean, var), strict=True):
                np.save(f"{name}.npy", array)
            affine = ["--weight", "w.npy", "--bias", "b.npy"]
            y = normalize(x, "--op", "batch_norm", *common, *affine)
            exact = reference.batch_norm(
                x, None, None, weight, bias, True, channel_axis=axis
            )
            assert_close(y, exact, np.abs(exact) + 4)
            y = normalize(
                x, "--op", "batch_norm", *common, *affine,
                "--running-mean", "m.npy", "--running-var", "v.npy", "--eps", "1e-3",
            )  # fmt: skip
            in_memory = fastnorm.batch_norm(
                x, mean, var, weight, bias, eps=1e-3, channel_axis=axis
            )
            assert same_bits(y, in_memory)


@pytest.mark.parametrize("memory", ["3K", "64M"])
def test_rows_that_fit_a_block_have_the_library_s_bits(memory: str, dtype: str) -> None:
    x, weight = random((500, 64), dtype), random(64, dtype, 1)
    np.save("w.npy", weight)
    y = normalize(x, "--op", "layer_norm", "--weight", "w.npy", "--memory", memory)
    assert same_bits(y, fastnorm.layer_norm(x, 64, weight))
    y = normalize(x, "--op", "rms_norm", "--weight", "w.npy", "--memory", memory)
    assert same_bits(y, fastnorm.rms_norm(x, 64, weight))


@pytest.mark.parametrize("eps", ["0", "1e-5"])
@pytest.mark.parametrize("memory", ["500", "20K", "64M"])
def test_hostile_files_are_within_the_bound(eps: str, memory: str, dtype: str) -> None:
    rows = hostile(600, dtype)
    x = np.stack(list(rows.values()))
    common = ["--eps", eps, "--memory", memory]
    options = {"training": True, "eps": float(eps)}
    for array, axis in ((x, 0), (np.ascontiguousarray(x.T), 1)):
        exact = reference.batch_norm(array, None, None, channel_axis=axis, **options)
        y = normalize(array, "--op", "standardize", "--channel-axis", axis, *common)
        assert_close(y, exact)
        other = 1 - axis
        y = normalize(array, "--op", "layer_norm", "--axis", other, *common)
        assert_close(y, exact)
        y = normalize(array, "--op", "rms_norm", "--axis", other, *common)
        exact = reference.rms_norm(array, None, eps=float(eps), axis=other)
        assert_close(y, exact)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i4", "f2", "?"])
def test_integers_are_converted_when_asked(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    x = (50 * np.abs(random((40, 30, 3)))).astype(kind)
    np.save("x.npy", x)
    said = complaint(capsys, "normalize", "x.npy", "y.npy", "--op", "standardize")
    assert "--dtype float32" in said and str(x.dtype) in said
    assert not Path("y.npy").exists()
    for dtype in ("float32", "float64"):
        y = normalize(x, "--op", "standardize", "--dtype", dtype, "--memory", "2K")
        exact = reference.batch_norm(
            x, None, None, training=True, eps=0.0, channel_axis=-1
        )
        assert y.dtype == dtype
        assert_close(y, exact)


def test_a_file_of_one_axis_is_one_feature() -> None:
    x = 5 + random(1000)
    y = normalize(x, "--op", "standardize", "--memory", "1K")
    assert_close(y, reference.layer_norm(x, 1000, eps=0.0))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)])
def test_an_empty_file_gives_an_empty_file(shape: tuple[int, ...]) -> None:
    for op in ("layer_norm", "standardize"):
        assert normalize(np.empty(shape, "f4"), "--op", op).shape == shape


def test_nan_stays_in_its_feature() -> None:
    x = random((100, 5))
    x[17, 3] = np.nan
    y = normalize(x, "--op", "standardize", "--memory", "700")
    assert np.all(np.isnan(y[:, 3]))
    assert np.all(np.isfinite(np.delete(y, 3, 1)))


def test_in_place_with_force() -> None:
    x = random((200, 16))
    np.save("x.npy", x)
    arguments = ["x.npy", "x.npy", "--op", "layer_norm", "--force", "--memory", "1K"]
    assert main(["normalize", *arguments]) == 0
    assert same_bits(np.load("x.npy"), fastnorm.layer_norm(x, 16))
    assert not leftovers()


def test_a_link_keeps_pointing_and_the_mode_stays() -> None:
    np.save("real.npy", random((4, 4)))
    Path("real.npy").chmod(0o640)
    Path("link.npy").symlink_to("real.npy")
    x = random((8, 3))
    np.save("x.npy", x)
    assert (
        main(["normalize", "x.npy", "link.npy", "--op", "layer_norm", "--force"]) == 0
    )
    assert Path("link.npy").is_symlink()
    assert Path("real.npy").stat().st_mode & 0o777 == 0o640
    assert same_bits(np.load("real.npy"), fastnorm.layer_norm(x, 3))


@pytest.mark.slow
def test_a_file_larger_than_the_memory_it_may_use() -> None:
    # 256 MB through a process whose own memory is far below that.
    rows, n = 65536, 1024
    x = np.lib.format.open_memmap("x.npy", "w+", "f4", (rows, n))
    for i in range(0, rows, 4096):
        x[i : i + 4096] = 10 + random((4096, n), seed=i)
    x.flush()
    script = (
        "import resource, sys; from fastnorm.cli import main;"
        "resource.setrlimit(resource.RLIMIT_DATA, (300 << 20, 300 << 20));"
        "sys.exit(main(sys.argv[1:]))"
    )
    for op in ("layer_norm", "standardize"):
        arguments = ["normalize", "x.npy", f"{op}.npy", "--op", op, "--memory", "16M"]
        subprocess.run([sys.executable, "-c", script, *arguments], check=True)
    y = np.load("layer_norm.npy", mmap_mode="r")
    for i in (0, 30000, rows - 8):
        assert same_bits(y[i : i + 8], fastnorm.layer_norm(x[i : i + 8], n))
    y = np.load("standardize.npy", mmap_mode="r")
    exact = reference.batch_norm(x[:, :3], None, None, training=True, eps=0.0)
    assert_close(np.array(y[:, :3]), exact)


# ---- normalize: what it refuses ------------------------------------------------------


def test_mistakes_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", random((6, 4)))
    np.save("w3.npy", random(3))
    np.save("n.npy", -(random(4) ** 2))
    np.save("c.npy", np.zeros((2, 2), complex))
    np.save("zero.npy", np.float32(3))
    np.save("row.npy", random((1, 4)))
    np.save("obj.npy", np.array([{}, None], object), allow_pickle=True)
    np.savez("z.npz", a=random(3))
    Path("text.npy").write_text("1,2,3\n")
    Path("empty.npy").touch()
    Path("cut.npy").write_bytes(Path("x.npy").read_bytes()[:-10])
    Path("head.npy").write_bytes(Path("x.npy").read_bytes()[:20])
    Path("dir").mkdir()
    ln, bn = ["--op", "layer_norm"], ["--op", "batch_norm"]
    running = ["--running-mean", "x.npy", "--running-var"]
    cases: list[tuple[list[str], str]] = [
        (["none.npy", "y.npy", *ln], "none.npy: No such file"),
        (["dir", "y.npy", *ln], "dir: Is a directory"),
        (["text.npy", "y.npy", *ln], "text.npy is not a .npy file"),
        (["empty.npy", "y.npy", *ln], "empty.npy is not a .npy file"),
        (["z.npz", "y.npy", *ln], "z.npz is an .npz archive"),
        (["obj.npy", "y.npy", *ln], "obj.npy holds Python objects"),
        (["cut.npy", "y.npy", *ln], "cut.npy is damaged"),
        (["head.npy", "y.npy", *ln], "head.npy is damaged"),
        (["c.npy", "y.npy", *ln], "complex128"),
        (["zero.npy", "y.npy", *ln], "no axes"),
        (["x.npy", "gone/y.npy", *ln], "gone/y.npy: No such file"),
        (["x.npy", "dir", *ln], "dir is not a regular file"),
        (["x.npy", "/dev/null", *ln, "--force"], "/dev/null is not a regular file"),
        (["x.npy", "row.npy", *ln], "row.npy exists, --force"),
        (["x.npy", "x.npy", *ln], "x.npy exists, --force"),
        (["x.npy", "y.npy"], "--op"),
        (["x.npy", "y.npy", "--op", "norm"], "norm"),
        (["x.npy", "y.npy", *ln, "--axis", "2"], "axis 2"),
        (["x.npy", "y.npy", *ln, "--axis", "a"], "'a'"),
        (["x.npy", "y.npy", *ln, "--axis", "0,0"], "adjacent"),
        (["x.npy", "y.npy", *ln, "--channel-axis", "1"], "--channel-axis has"),
        (["x.npy", "y.npy", "--op", "rms_norm", "--bias", "w3.npy"], "--bias has"),
        (["x.npy", "y.npy", "--op", "standardize", "--weight", "w3.npy"], "--weight"),
        (["x.npy", "y.npy", *ln, "--weight", "w3.npy"], "w3.npy has shape (3,), (4,)"),
        (["x.npy", "y.npy", *ln, "--weight", "no.npy"], "no.npy: No such file"),
        (["x.npy", "y.npy", *ln, "--eps", "-1"], "--eps is -1.0"),
        (["x.npy", "y.npy", *ln, "--eps", "nan"], "--eps is nan"),
        (["x.npy", "y.npy", *ln, "--memory", "0"], "not a size"),
        (["x.npy", "y.npy", *ln, "--memory", "much"], "not a size"),
        (["x.npy", "y.npy", *ln, "--threads", "0"], "--threads"),
        (["x.npy", "y.npy", *bn, "--running-mean", "w3.npy"], "come together"),
        (["x.npy", "y.npy", *bn, *running, "w3.npy"], "x.npy has shape (6, 4)"),
        (["x.npy", "y.npy", *bn, "--running-mean", "n.npy", "--running-var", "n.npy"],
         "n.npy has negative values"),
        (["x.npy", "y.npy", *bn, *running, "n.npy", "--stats", "z.npz"], "two sources"),
        (["x.npy", "y.npy", *bn, "--stats", "z.npz"], "z.npz is not what"),
        (["x.npy", "y.npy", *bn, "--stats", "x.npy"], "x.npy is not what"),
        (["x.npy", "y.npy", *bn, "--stats", "no.npz"], "no.npz: No such file"),
        (["row.npy", "y.npy", *bn], "one value per channel"),
        (["x.npy", "y.npy", *ln, "--nonsense"], "--nonsense"),
    ]  # fmt: skip
    for arguments, words in cases:
        said = complaint(capsys, "normalize", *arguments)
        assert words in said, (arguments, said)
        assert not Path("y.npy").exists(), arguments
    assert np.load("row.npy").shape == (1, 4)


def test_an_unwritable_directory(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", random((6, 4)))
    Path("locked").mkdir()
    Path("locked").chmod(0o555)
    if os.access("locked", os.W_OK):
        pytest.skip("this user may write anywhere")
    said = complaint(capsys, "normalize", "x.npy", "locked/y.npy", "--op", "layer_norm")
    assert "locked/y.npy: Permission denied" in said


def test_a_full_disk_leaves_the_old_file(capsys: pytest.CaptureFixture[str]) -> None:
    # A limit on the size of files stands in for the disk.
    np.save("y.npy", np.arange(3))
    np.save("x.npy", random((4000, 64)))
    kept = Path("y.npy").read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        said = complaint(
            capsys, "normalize", "x.npy", "y.npy", "--op", "layer_norm",
            "--memory", "1M", "--force",
        )  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "y.npy: File too large" in said
    assert Path("y.npy").read_bytes() == kept


def test_no_space_left_on_a_real_file_system(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    np.save("x.npy", random((8000, 64)))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip("mounting needs root")
    try:
        result = subprocess.run(
            [sys.executable, "-m", "fastnorm", "normalize", "x.npy", "disk/y.npy",
             "--op", "standardize"], capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert result.returncode == 2
    assert result.stderr == "fastnorm: disk/y.npy: No space left on device\n"


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "terminated"),
    ],
)
def test_an_interrupted_run_leaves_nothing(
    number: signal.Signals, status: int, word: str
) -> None:
    np.save("x.npy", random((100_000, 16)))
    np.save("y.npy", np.arange(3))
    kept = Path("y.npy").read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnorm", "normalize", "x.npy", "y.npy", "--force",
         "--op", "layer_norm", "--memory", "512"],
        stderr=subprocess.PIPE, text=True,
        # A shell in the background makes its children ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    for _ in range(600):
        if leftovers():
            break
        time.sleep(0.05)
    assert process.poll() is None, "the run ended before it could be interrupted"
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert said == f"fastnorm: {word}\n"
    assert not leftovers()
    assert Path("y.npy").read_bytes() == kept


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
        assert found["count"] == whole.size // np.atleast_1d(whole.mean(axes)).size
        assert found["files"] == files[:3] and found["ddof"] == 1
        np.testing.assert_allclose(
            found["mean"], np.atleast_1d(whole.mean(axes)), rtol=1e-6
        )
        for name, expected in (("var", whole.var), ("std", whole.std)):
            np.testing.assert_allclose(
                found[name], np.atleast_1d(expected(axes, ddof=1)), rtol=1e-6
            )


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
    assert found["count"] == 0 and found["mean"] == [None, None]


def test_the_table_shows_every_channel_or_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save("x.npy", np.arange(12.0).reshape(4, 3))
    assert main(["stats", "x.npy"]) == 0
    shown = capsys.readouterr().out
    assert (
        "4.5" in shown and "5.5" in shown and "6.5" in shown and "3.35410197" in shown
    )
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
    Path("t.npy").write_text("no")
    for arguments, words in (
        ([], "FILE.npy"),
        (["none.npy"], "none.npy: No such file"),
        (["t.npy"], "t.npy is not a .npy file"),
        (["x.npy", "y.npy"], "y.npy has 5 channels, x.npy has 4"),
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
