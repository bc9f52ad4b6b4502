"""The fastnorm engine: the public functions, as a caller would write them.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

import fastnorm

from .cases import (
    EPS,
    GRADIENTS,
    GROUPS,
    INT8_SCALE,
    L2_EPS,
    MOMENTUM,
    ORDER,
    Array,
    Case,
    Data,
)
from .engine import Engine, Job, pair
from .gradients import fastnorm_gradient
from .masks import fastnorm_masked
from .running import fastnorm_running
from .scaler import fastnorm_scaler
from .weights import fastnorm_renorm, fastnorm_weight_norm


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


def _rows(case: Case, data: Data, **extras: Any) -> Any:
    """layer_norm or rms_norm of the rows, with these further arguments."""
    shape, out = case.shape[1:], _out(case, data) | extras
    if case.op.startswith("rms_norm"):
        return partial(fastnorm.rms_norm, data.x, shape, data.weight, EPS, **out)
    return partial(
        fastnorm.layer_norm, data.x, shape, data.weight, data.bias, EPS, **out
    )


def _plain(case: Case, data: Data) -> Job:
    return Job(_rows(case, data))


def _residual(case: Case, data: Data) -> Job:
    total = data.output()
    call = _rows(case, data, residual=data.other, residual_out=total)
    return Job(call, lambda y: (y, total))


def _int8(case: Case, data: Data) -> Job:
    out = data.output("int8")
    if case.detail == "given":
        return Job(
            _rows(case, data, out=out, out_dtype="int8", out_scale=INT8_SCALE),
            lambda q: (q * np.float64(INT8_SCALE),),
        )
    call = _rows(case, data, out=out, out_dtype="int8")
    return Job(call, lambda result: (result[0] * result[1].astype(np.float64),))


def _activation(case: Case, data: Data) -> Job:
    return Job(_rows(case, data, activation=case.detail))


def _subnormal(case: Case, data: Data) -> Job:
    return Job(_rows(case, data, flush_denormals=case.detail == "flushed"))


def _batch_norm(case: Case, data: Data) -> Job:
    extras: dict[str, Any] = {}
    if case.op == "batch_norm_add_relu":
        extras = {"post_add": data.other, "activation": "relu"}
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
        **extras,
    )
    return Job(call)


def _group_norm(case: Case, data: Data) -> Job:
    call = partial(
        fastnorm.group_norm,
        data.x,
        GROUPS,
        data.weight,
        data.bias,
        EPS,
        channel_axis=case.channel_axis,
        **_out(case, data),
    )
    return Job(call)


def _instance_norm(case: Case, data: Data) -> Job:
    call = partial(
        fastnorm.instance_norm,
        data.x,
        weight=data.weight,
        bias=data.bias,
        eps=EPS,
        channel_axis=case.channel_axis,
        **_out(case, data),
    )
    return Job(call)


def _lp_norm(case: Case, data: Data) -> Job:
    norm = getattr(fastnorm, case.op)
    return Job(partial(norm, data.x, -1, L2_EPS, **_out(case, data)))


def _normalize_image(case: Case, data: Data) -> Job:
    call = partial(fastnorm.normalize_image, data.x, "imagenet", "imagenet")
    if not case.out:
        return Job(call)
    n, height, width, channels = case.shape
    out = np.full((n, channels, height, width), 0.5, np.float32)
    return Job(partial(call, out=out))


def _moments(case: Case, data: Data) -> Job:
    axis = 0 if case.layout == "columns" else None
    return Job(partial(fastnorm.moments, data.x, axis), pair)


FASTNORM = Engine(
    "fastnorm",
    (),
    {
        "layer_norm": _plain,
        "rms_norm": _plain,
        "layer_norm_residual": _residual,
        "rms_norm_residual": _residual,
        "layer_norm_16bit": _plain,
        "layer_norm_int8": _int8,
        "layer_norm_activation": _activation,
        "layer_norm_subnormal": _subnormal,
        "batch_norm": _batch_norm,
        "batch_norm_training": _batch_norm,
        "batch_norm_add_relu": _batch_norm,
        "group_norm": _group_norm,
        "instance_norm": _instance_norm,
        "batch_norm_masked": fastnorm_masked,
        **dict.fromkeys(GRADIENTS, fastnorm_gradient),
        **dict.fromkeys(ORDER, _lp_norm),
        "normalize_image": _normalize_image,
        "moments": _moments,
        "running_moments": fastnorm_running,
        "running_moments_bytes": fastnorm_running,
        "batch_renorm": fastnorm_renorm,
        "weight_norm": fastnorm_weight_norm,
        "scaler_fit": fastnorm_scaler,
        "scaler_transform": fastnorm_scaler,
    },
    _session,
)
