"""Batch renormalization and weight norm among the cases, in each engine that has them.

SPDX-License-Identifier: MIT

The running statistics are those of the case, and a momentum of 0 keeps them. The
lengths of weight norm, one per row, come from the input itself.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import fastnorm

from .cases import EPS, Array, Case, Data
from .engine import Job

_R_MAX, _D_MAX = 1.2, 0.3  # some channels are limited, some are not


def _renorm(module: Any, case: Case, data: Data, **more: Any) -> partial[Any]:
    return partial(
        module.batch_renorm, data.x, data.running_mean.copy(), data.running_var.copy(),
        data.weight, data.bias, True, 0.0, EPS, r_max=_R_MAX, d_max=_D_MAX,
        channel_axis=case.channel_axis, **more,
    )  # fmt: skip


def row_lengths(data: Data) -> Array:
    """[rows, 1], of weight norm."""
    lengths: Array = np.abs(data.x[:, :1]) + data.x.dtype.type(0.5)
    return lengths


def fastnorm_renorm(case: Case, data: Data) -> Job:
    """The public function."""
    out = {"out": data.output()} if case.out else {}
    return Job(_renorm(fastnorm, case, data, **out))


def fastnorm_weight_norm(case: Case, data: Data) -> Job:
    """The public function."""
    out = {"out": data.output()} if case.out else {}
    return Job(partial(fastnorm.weight_norm, data.x, row_lengths(data), 0, **out))


def exact_weights(case: Case, data: Data) -> Any:
    """From fastnorm.reference, as float64."""
    from fastnorm import reference

    if case.op == "weight_norm":
        return reference.weight_norm(data.x, row_lengths(data), 0)
    return _renorm(reference, case, data)()


def numpy_renorm(case: Case, data: Data) -> Job:
    """The formula, with one temporary array."""
    x = data.x
    out = data.output() if case.out else None
    axes = tuple(axis for axis in range(x.ndim) if axis != case.channel_axis)
    shape = tuple(case.channels if a == case.channel_axis else 1 for a in range(x.ndim))
    weight, bias, mean, var = (
        a.reshape(shape)
        for a in (data.weight, data.bias, data.running_mean, data.running_var)
    )

    def call() -> Any:
        batch = x.mean(axes, keepdims=True)
        deviation = np.sqrt(x.var(axes, keepdims=True) + EPS)
        sigma = np.sqrt(var + EPS)
        r = np.clip(deviation / sigma, 1 / _R_MAX, _R_MAX)
        d = np.clip((batch - mean) / sigma, -_D_MAX, _D_MAX)
        y: Array = np.subtract(x, batch, out=out)
        np.multiply(y, weight * r / deviation, out=y)
        return np.add(y, bias + d * weight, out=y)

    return Job(call)


def numpy_weight_norm(case: Case, data: Data) -> Job:
    """The formula, row by row."""
    x, g = data.x, row_lengths(data)
    out = data.output() if case.out else None

    def call() -> Any:
        norm = np.linalg.norm(x, axis=1, keepdims=True)
        return np.multiply(x, g / norm, out=out)

    return Job(call)


def torch_weight_norm(case: Case, data: Data) -> Job:  # noqa: ARG001
    """What its weight_norm modules call in each forward."""
    import torch

    x, g = torch.from_numpy(data.x), torch.from_numpy(row_lengths(data))
    function: Any = torch._weight_norm
    return Job(partial(function, x, g, 0), allocates=True)
