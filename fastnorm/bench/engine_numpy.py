"""The NumPy engines: norms as usually written, and the copy they are held to.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

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
from .masks import numpy_masked
from .running import numpy_running
from .scaler import numpy_scaler
from .weights import numpy_renorm, numpy_weight_norm


def _normalized(x: Array, weight: Array, bias: Array, out: Array | None) -> Array:
    mean = x.mean(-1, keepdims=True)
    deviation = np.sqrt(x.var(-1, keepdims=True) + EPS)
    if out is None:
        y: Array = (x - mean) / deviation * weight + bias
        return y
    np.subtract(x, mean, out=out)
    np.divide(out, deviation, out=out)
    np.multiply(out, weight, out=out)
    np.add(out, bias, out=out)
    return out


def _layer_norm(case: Case, data: Data) -> Job:
    out = data.output() if case.out else None
    return Job(partial(_normalized, data.x, data.weight, data.bias, out))


def _root_mean_square(x: Array, weight: Array, out: Array | None) -> Array:
    square = np.multiply(x, x, out=out)
    root = np.sqrt(square.mean(-1, keepdims=True) + EPS)
    if out is None:
        y: Array = x / root * weight
        return y
    np.divide(x, root, out=out)
    np.multiply(out, weight, out=out)
    return out


def _rms_norm(case: Case, data: Data) -> Job:
    out = data.output() if case.out else None
    return Job(partial(_root_mean_square, data.x, data.weight, out))


def _residual(case: Case, data: Data) -> Job:
    out, total = data.output(), data.output()

    def call() -> Any:
        np.add(data.x, data.other, out=total)
        if case.op == "rms_norm_residual":
            return _root_mean_square(total, data.weight, out)
        return _normalized(total, data.weight, data.bias, out)

    return Job(call, lambda y: (y, total))


def _sixteen_bits(_case: Case, data: Data) -> Job:
    """In float32, because 16 bits are not enough for the sums."""
    out, wide = data.output(), data.output("float32")
    weight, bias = data.weight.astype(np.float32), data.bias.astype(np.float32)

    def call() -> Any:
        np.copyto(wide, data.x)
        _normalized(wide, weight, bias, wide)
        np.copyto(out, wide, casting="same_kind")
        return out

    return Job(call)


def _int8(case: Case, data: Data) -> Job:
    out, wide = data.output("int8"), data.output()
    given = np.full((1, 1), INT8_SCALE, np.float32)

    def call() -> Any:
        y = _normalized(data.x, data.weight, data.bias, wide)
        scale = given
        if case.detail == "dynamic":
            scale = np.maximum(y.max(-1, keepdims=True), -y.min(-1, keepdims=True))
            scale /= 127
        np.divide(y, scale, out=y)
        np.rint(y, out=y)
        np.clip(y, -128, 127, out=y)
        np.copyto(out, y, casting="unsafe")
        return out, scale

    return Job(call, lambda result: (result[0] * result[1].astype(np.float64),))


def _activation(case: Case, data: Data) -> Job | None:
    if case.detail == "gelu":
        return None  # NumPy has no erf
    out, other = data.output(), data.output()

    def call() -> Any:
        y = _normalized(data.x, data.weight, data.bias, out)
        if case.detail == "relu":
            return np.maximum(y, 0, out=y)
        if case.detail == "silu":
            np.exp(np.negative(y, out=other), out=other)
            np.add(other, 1, out=other)
            return np.divide(y, other, out=y)
        np.multiply(y, y, out=other)
        np.multiply(other, y, out=other)
        np.multiply(other, 0.044715, out=other)
        np.add(other, y, out=other)
        np.multiply(other, np.sqrt(2 / np.pi).astype(y.dtype), out=other)
        np.tanh(other, out=other)
        np.add(other, 1, out=other)
        np.multiply(other, y, out=y)
        return np.multiply(y, 0.5, out=y)

    return Job(call)


def _subnormal(case: Case, data: Data) -> Job | None:
    return None if case.detail == "flushed" else _layer_norm(case, data)


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
        if case.op == "batch_norm_add_relu":
            np.add(out, data.other, out=out)
            np.maximum(out, 0, out=out)
        return out

    return Job(call)


def _group_norm(case: Case, data: Data) -> Job:
    """Group and instance norm: groups of channels, or each channel, of each sample."""
    groups = GROUPS if case.op == "group_norm" else case.channels
    each = case.channels // groups
    if case.layout == "NCHW":
        split, axes = (case.shape[0], groups, each, *case.shape[2:]), (2, 3, 4)
        parameters: tuple[int, ...] = (groups, each, 1, 1)
    else:
        split, axes = (*case.shape[:3], groups, each), (1, 2, 4)
        parameters = (groups, each)
    x = data.x.reshape(split)
    weight, bias = data.weight.reshape(parameters), data.bias.reshape(parameters)
    out = data.output().reshape(split) if case.out else None

    def call() -> Any:
        mean = x.mean(axes, keepdims=True)
        deviation = np.sqrt(x.var(axes, keepdims=True) + EPS)
        if out is None:
            return (x - mean) / deviation * weight + bias
        np.subtract(x, mean, out=out)
        np.divide(out, deviation, out=out)
        np.multiply(out, weight, out=out)
        np.add(out, bias, out=out)
        return out

    return Job(call, lambda y: (y.reshape(case.shape),))


def _lp_norm(case: Case, data: Data) -> Job:
    x = data.x
    out = data.output() if case.out else None
    order = ORDER[case.op]

    def call() -> Any:
        norm = np.linalg.norm(x, order, axis=-1, keepdims=True)
        return np.divide(x, np.maximum(norm, L2_EPS), out=out)

    return Job(call)


def _normalize_image(case: Case, data: Data) -> Job:
    x = data.x
    mean = np.array(fastnorm.IMAGENET_MEAN, np.float32)
    std = np.array(fastnorm.IMAGENET_STD, np.float32)
    n, height, width, channels = case.shape
    out = np.full((n, channels, height, width), 0.5, np.float32) if case.out else None

    def call() -> Any:
        y = ((x.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)
        if out is None:
            return np.ascontiguousarray(y)
        np.copyto(out, y)
        return out

    return Job(call)


def _moments(case: Case, data: Data) -> Job:
    x = data.x
    axis = 0 if case.layout == "columns" else None
    return Job(lambda: (x.mean(axis), x.var(axis)), pair)


def _copy(_case: Case, data: Data) -> Job:
    out = data.output()
    return Job(partial(np.copyto, out, data.x), lambda _: (out,))


def _copy_two(_case: Case, data: Data) -> Job:
    """Two arrays are read and two written: input and residual, result and sum."""
    first, second = data.output(), data.output()

    def call() -> None:
        np.copyto(first, data.x)
        np.copyto(second, data.other)

    return Job(call, lambda _: (first, second))


def _copy_bytes(total: int) -> Job:
    """As many bytes read and written, in all, where these are not the same number."""
    source, out = np.full(total // 2, 1, np.uint8), np.full(total // 2, 2, np.uint8)
    return Job(partial(np.copyto, out, source), lambda _: (out,))


def _copy_int8(_case: Case, data: Data) -> Job:
    return _copy_bytes(data.x.nbytes + data.x.size)


def _copy_add(_case: Case, data: Data) -> Job:
    """Two arrays read, one written: what is added, or the gradient of the output."""
    return _copy_bytes(data.x.nbytes + data.other.nbytes + data.x.nbytes)


def _copy_image(_case: Case, data: Data) -> Job:
    """The result alone, which is four times the input."""
    source = data.x.astype(np.float32)
    out = data.output("float32")
    return Job(partial(np.copyto, out, source), lambda _: (out,))


NUMPY = Engine(
    "numpy",
    (),
    {
        "layer_norm": _layer_norm,
        "rms_norm": _rms_norm,
        "layer_norm_residual": _residual,
        "rms_norm_residual": _residual,
        "layer_norm_16bit": _sixteen_bits,
        "layer_norm_int8": _int8,
        "layer_norm_activation": _activation,
        "layer_norm_subnormal": _subnormal,
        "batch_norm": _batch_norm,
        "batch_norm_training": _batch_norm,
        "batch_norm_add_relu": _batch_norm,
        "batch_norm_masked": numpy_masked,
        "group_norm": _group_norm,
        "instance_norm": _group_norm,
        **dict.fromkeys(ORDER, _lp_norm),
        "normalize_image": _normalize_image,
        "moments": _moments,
        "running_moments": numpy_running,
        "running_moments_bytes": numpy_running,
        "batch_renorm": numpy_renorm,
        "weight_norm": numpy_weight_norm,
        "scaler_fit": numpy_scaler,
        "scaler_transform": numpy_scaler,
    },
)

COPYTO = Engine(
    "copyto",
    (),
    {
        **dict.fromkeys(NUMPY.builders, _copy),
        "layer_norm_residual": _copy_two,
        "rms_norm_residual": _copy_two,
        "layer_norm_int8": _copy_int8,
        "batch_norm_add_relu": _copy_add,
        **dict.fromkeys(GRADIENTS, _copy_add),
        "normalize_image": _copy_image,
    },
)
