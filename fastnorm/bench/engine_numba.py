"""The Numba engine: fastnorm's own calls, made by the kernels of fastnorm.jit.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .cases import Case, Data
from .engine import Builder, Engine, Job
from .engine_fastnorm import FASTNORM

_OPS = (
    "layer_norm", "rms_norm", "batch_norm", "batch_norm_training", "group_norm",
    "instance_norm", "moments",
)  # fmt: skip


def _served(build: Builder) -> Builder:
    """The job of the fastnorm engine with its function's twin; it is compiled."""

    def prepare(case: Case, data: Data) -> Job | None:
        from fastnorm import jit

        job = build(case, data)
        if job is None:
            return None
        own: Any = job.call
        call = partial(getattr(jit, own.func.__name__), *own.args, **own.keywords)
        call()
        return Job(call, job.read)

    return prepare


# fastnorm.set_num_threads() holds for both backends
NUMBA = Engine(
    "numba",
    ("numba",),
    {op: _served(FASTNORM.builders[op]) for op in _OPS},
    FASTNORM.session,
)
