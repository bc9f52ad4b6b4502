# SPDX-License-Identifier: MIT
"""conftest.py - every ISA of the machine in one process, and settings put back."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from oracle import DTYPES

import fastnorm

# Before anything starts OpenMP, which Numba's threads are: where another process has
# one of the processors, threads that wait by spinning take up to 100 times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The machines that run this are shared and slow at times: no deadlines, same examples.
settings.register_profile("fastnorm", deadline=None, derandomize=True)
settings.load_profile("fastnorm")


@pytest.fixture(autouse=True)
def _settings_are_put_back() -> Iterator[None]:
    isa, threads = fastnorm.isa(), fastnorm.get_num_threads()
    yield
    fastnorm.set_isa(isa)
    fastnorm.set_num_threads(threads)


@pytest.fixture(params=fastnorm.isas())
def isa(request: pytest.FixtureRequest) -> str:
    """Runs the test once on each instruction set of this machine."""
    fastnorm.set_isa(request.param)
    return request.param


NUMBA = "numba"
SERVED = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "moments",
    "rms_norm",
]


NOT_BY_NUMBA = ("no post_add", "not 8-bit data")  # of what the tests of both ask for


def by_numba(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the Numba backend; what it is known not to have is skipped."""

    def serve(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except NotImplementedError as error:
            if not any(text in str(error) for text in NOT_BY_NUMBA):
                raise
            return pytest.skip(str(error))

    return serve


def use_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")  # fastnorm.jit asks for it only when called
    jit = importlib.import_module("fastnorm.jit")
    for name in SERVED:
        monkeypatch.setattr(fastnorm, name, by_numba(getattr(jit, name)))


@pytest.fixture(params=[*fastnorm.isas(), NUMBA])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs the test on each instruction set, and by the kernels that Numba compiles."""
    if request.param == NUMBA:
        use_numba(monkeypatch)
    else:
        fastnorm.set_isa(request.param)
    return request.param


@pytest.fixture(params=["c", NUMBA])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs the test on the best instruction set, and by Numba."""
    if request.param == NUMBA:
        use_numba(monkeypatch)
    return request.param


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the test in an empty directory."""
    monkeypatch.chdir(tmp_path)
