"""The NumPy engines: norms as usually written, and the copy they are held to.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .cases import EPS, MOMENTUM, Case, Data
from .engine import Engine, Job, pair


def _layer_norm(case: Case, data: Data) -> Job:
    x, weight, bias = data.x, data.weight, data.bias
    out = data.output() if case.out else None

    def call() -> Any:
        mean = x.mean(-1, keepdims=True)
        deviation = np.sqrt(x.var(-1, keepdims=True) + EPS)
        if out is None:
            return (x - mean) / deviation * weight + bias
        np.subtract(x, mean, out=out)
        np.divide(out, deviation, out=out)
        np.multiply(out, weight, out=out)
        np.add(out, bias, out=out)
        return out

    return Job(call)


def _rms_norm(case: Case, data: Data) -> Job:
    x, weight = data.x, data.weight
    out = data.output() if case.out else None

    def call() -> Any:
        square = np.multiply(x, x, out=out)
        root = np.sqrt(square.mean(-1, keepdims=True) + EPS)
        if out is None:
            return x / root * weight
        np.divide(x, root, out=out)
        np.multiply(out, weight, out=out)
        return out

    return Job(call)


def _batch_norm(case: Case, data: Data) -> Job:
    x = data.x
    out = data.output() if case.out else None
    axes = tuple(axis for axis in range(x.ndim) if axis != case.channel_axis)
    shape = tuple(case.channels if a == case.channel_axis else 1 for a in range(x.ndim))
    weight, bias = data.weight.reshape(shape), data.bias.reshape(shape)
    running_mean = data.running_mean.reshape(shape).copy()
    running_var = data.running_var.reshape(shape).copy()
    count = x.size // case.channels

    def call() -> Any:
        mean, var = running_mean, running_var
        if case.op == "batch_norm_training":
            mean = x.mean(axes, keepdims=True)
            var = x.var(axes, keepdims=True)
            unbiased = var * (count / (count - 1))
            running_mean[:] = (1 - MOMENTUM) * running_mean + MOMENTUM * mean
            running_var[:] = (1 - MOMENTUM) * running_var + MOMENTUM * unbiased
        scale = weight / np.sqrt(var + EPS)
        if out is None:
            return (x - mean) * scale + bias
        np.subtract(x, mean, out=out)
        np.multiply(out, scale, out=out)
        np.add(out, bias, out=out)
        return out

    return Job(call)


def _moments(case: Case, data: Data) -> Job:
    x = data.x
    axis = 0 if case.layout == "columns" else None
    return Job(lambda: (x.mean(axis), x.var(axis)), pair)


def _copy(_case: Case, data: Data) -> Job:
    out = data.output()
    return Job(partial(np.copyto, out, data.x), lambda _: (out,))


NUMPY = Engine(
    "numpy",
    (),
    {
        "layer_norm": _layer_norm,
        "rms_norm": _rms_norm,
        "batch_norm": _batch_norm,
        "batch_norm_training": _batch_norm,
        "moments": _moments,
    },
)

COPYTO = Engine("copyto", (), dict.fromkeys(NUMPY.builders, _copy))
