"""The table of engines: all that the same work is given to.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

from collections.abc import Sequence

from .engine import Engine
from .engine_albucore import ALBUCORE
from .engine_fastnorm import FASTNORM
from .engine_numba import NUMBA
from .engine_numpy import COPYTO, NUMPY
from .engine_onnxruntime import ONNXRUNTIME
from .engine_opencv import OPENCV
from .engine_sklearn import SKLEARN
from .engine_torch import TORCH

ENGINES: tuple[Engine, ...] = (
    FASTNORM,
    NUMPY,
    TORCH,
    ONNXRUNTIME,
    SKLEARN,
    OPENCV,
    ALBUCORE,
    NUMBA,
)

ENGINE_NAMES = tuple(engine.name for engine in ENGINES)

# the floor that every ratio is taken to; it and fastnorm always run
FLOOR = COPYTO


def select_engines(names: Sequence[str]) -> list[Engine]:
    """The engines to run: fastnorm and these, or all that are installed.

    Raises
    ------
    ValueError
        If a name is unknown, or what that engine needs is not installed.
    """
    if not names:
        return [engine for engine in ENGINES if engine.available()]
    known = {engine.name: engine for engine in ENGINES}
    for name in names:
        if name not in known:
            raise ValueError(
                f"bench: --engine {name!r} is not one of {', '.join(ENGINE_NAMES)}"
            )
        if not known[name].available():
            needs = " and ".join(known[name].modules)
            raise ValueError(f"bench: --engine {name} needs {needs} to be installed")
    return [engine for engine in ENGINES if engine.name in (FASTNORM.name, *names)]
