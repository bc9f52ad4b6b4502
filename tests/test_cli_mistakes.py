# SPDX-License-Identifier: MIT
"""test_cli_mistakes.py - normalize refuses, fails and is interrupted cleanly."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commandline import complaint, leftovers
from oracle import random

pytestmark = pytest.mark.usefixtures("own_directory")


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


def heed_signals() -> None:
    # A shell makes what it runs in the background ignore SIGINT, and nohup SIGHUP.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


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
        preexec_fn=heed_signals,
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
