"""The fastnorm engine: the public functions, as a caller would write them.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import fastnorm

from .cases import EPS, MOMENTUM, Array, Case, Data
from .engine import Engine, Job, pair


@contextmanager
def _session(threads: int) -> Iterator[None]:
    before = fastnorm.get_num_threads()
    fastnorm.set_num_threads(threads)
    try:
        yield
    finally:
        fastnorm.set_num_threads(before)


def _out(case: Case, data: Data) -> dict[str, Array]:
    return {"out": data.output()} if case.out else {}


def _layer_norm(case: Case, data: Data) -> Job:
    call = partial(
        fastnorm.layer_norm,
        data.x,
        case.shape[1:],
        data.weight,
        data.bias,
        EPS,
        **_out(case, data),
    )
    return Job(call)


def _rms_norm(case: Case, data: Data) -> Job:
    out = _out(case, data)
    return Job(
        partial(fastnorm.rms_norm, data.x, case.shape[1:], data.weight, EPS, **out)
    )


def _batch_norm(case: Case, data: Data) -> Job:
    call = partial(
        fastnorm.batch_norm,
        data.x,
        data.running_mean.copy(),
        data.running_var.copy(),
        data.weight,
        data.bias,
        case.op == "batch_norm_training",
        MOMENTUM,
        EPS,
        channel_axis=case.channel_axis,
        **_out(case, data),
    )
    return Job(call)


def _moments(case: Case, data: Data) -> Job:
    axis = 0 if case.layout == "columns" else None
    return Job(partial(fastnorm.moments, data.x, axis), pair)


FASTNORM = Engine(
    "fastnorm",
    (),
    {
        "layer_norm": _layer_norm,
        "rms_norm": _rms_norm,
        "batch_norm": _batch_norm,
        "batch_norm_training": _batch_norm,
        "moments": _moments,
    },
    _session,
)
