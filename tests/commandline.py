# SPDX-License-Identifier: MIT
"""commandline.py - calls of the command line in this process, for the tests of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from fastnorm.cli import main


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
