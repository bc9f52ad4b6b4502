# SPDX-License-Identifier: MIT
"""test_fuzz_python.py - any call with any arguments: a result as the reference says, or
one of a few exceptions and nothing written. `tests/fuzz/fuzz_python.py` goes further.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FUZZ = Path(__file__).parent / "fuzz"
sys.path.insert(0, str(FUZZ))

from draw_python import Drawing, Source, run  # noqa: E402


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300)
@given(st.binary(max_size=160))
def test_drawn_calls(data: bytes) -> None:
    run(Drawing(Source(data)).call())


@pytest.mark.filterwarnings("ignore")
def test_random_calls() -> None:
    # Bytes that are all random give other calls than those that hypothesis thinks of.
    rng = np.random.default_rng(1)
    accepted = sum(run(Drawing(Source(rng.bytes(200))).call()) for _ in range(3000))
    assert accepted > 600


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
def test_atheris_runs() -> None:
    done = subprocess.run(
        [sys.executable, FUZZ / "fuzz_python.py", "-runs=300", "-seed=1"],
        cwd=FUZZ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
