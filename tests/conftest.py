# SPDX-License-Identifier: MIT
"""conftest.py - every ISA of the machine in one process, and settings put back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from oracle import DTYPES

import fastnorm

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


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the test in an empty directory."""
    monkeypatch.chdir(tmp_path)
