"""What a case should give, from fastnorm.reference, and what errors are measured in.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .cases import EPS, GROUPS, INT8_SCALE, L2_EPS, MOMENTUM, ORDER, Array, Case, Data
from .engine import pair
from .gradients import exact_gradient
from .masks import exact_masked
from .running import exact_bytes
from .scaler import exact_scaler
from .weights import exact_weights

# columns of a table at a time: the reference needs many times the input's memory
_BLOCK = 8
_FRACTION_BITS = {"bfloat16": 7, "float16": 10}


def exact_key(case: Case) -> tuple[Any, ...]:
    """Equal for cases with the same data and the same exact results.

    How results are stored does not change them, and whether they are subnormal or zero
    is beyond the error measure.
    """
    op, detail = case.op, case.detail
    if op == "layer_norm_int8":
        op, detail = "layer_norm", ""
    elif op in ("layer_norm_subnormal", "batch_norm_masked"):
        detail = ""
    return (op, case.shape, case.layout, detail)


def exact_results(case: Case, data: Data) -> tuple[Array, ...]:
    """What the case should give, as float64.

    (y,) but for (mean, var) of moments, (y, sum) where a residual is added, and the
    gradients. 8-bit results are judged by the numbers that they stand for.
    """
    from fastnorm import reference

    if case.op in ("moments", "running_moments"):
        return _exact_moments(case, data.x)
    if case.op == "running_moments_bytes":
        return exact_bytes(data.x)
    if case.op.endswith("_backward"):
        return exact_gradient(case, data)
    if case.op.startswith("scaler"):
        return exact_scaler(case, data)
    if case.op in ("batch_renorm", "weight_norm"):
        y = exact_weights(case, data)
    elif case.op == "batch_norm_masked":
        y = exact_masked(case, data)
    elif case.op.startswith("batch_norm"):
        y = _exact_batch_norm(case, data)
    elif case.op == "group_norm":
        y = reference.group_norm(
            data.x,
            GROUPS,
            data.weight,
            data.bias,
            EPS,
            channel_axis=case.channel_axis,
        )
    elif case.op == "instance_norm":
        y = reference.instance_norm(
            data.x,
            weight=data.weight,
            bias=data.bias,
            eps=EPS,
            channel_axis=case.channel_axis,
        )
    elif case.op in ORDER:
        y = reference.normalize(data.x, ORDER[case.op], -1, L2_EPS)
    elif case.op == "normalize_image":
        y = reference.normalize_image(data.x, "imagenet", "imagenet")
    else:
        return _exact_rows(case, data)
    return (np.asarray(y),)


def _exact_rows(case: Case, data: Data) -> tuple[Array, ...]:
    from fastnorm import reference

    x, shape = data.x, case.shape[1:]
    extras: dict[str, Any] = {}
    total = np.empty(case.shape) if case.op.endswith("_residual") else None
    if total is not None:
        extras = {"residual": data.other, "residual_out": total}
    elif case.op == "layer_norm_activation":
        extras = {"activation": case.detail}
    if case.op.startswith("rms_norm"):
        y = reference.rms_norm(x, shape, data.weight, EPS, **extras)
    else:
        y = reference.layer_norm(x, shape, data.weight, data.bias, EPS, **extras)
    return (np.asarray(y),) if total is None else (np.asarray(y), total)


def _exact_batch_norm(case: Case, data: Data) -> Any:
    from fastnorm import reference

    training = case.op == "batch_norm_training"
    extras: dict[str, Any] = {}
    if case.op == "batch_norm_add_relu":
        extras = {"post_add": data.other, "activation": "relu"}
    return reference.batch_norm(
        data.x,
        None if training else data.running_mean,
        None if training else data.running_var,
        data.weight,
        data.bias,
        training,
        MOMENTUM,
        EPS,
        channel_axis=case.channel_axis,
        **extras,
    )


def _exact_moments(case: Case, x: Array) -> tuple[Array, ...]:
    from fastnorm import reference

    if case.layout == "flat":
        return pair(reference.moments(x))
    blocks = [
        pair(reference.moments(x[:, first : first + _BLOCK], 0))
        for first in range(0, x.shape[1], _BLOCK)
    ]
    means, variances = zip(*blocks, strict=True)
    return np.concatenate(means), np.concatenate(variances)


def error_unit(case: Case, exact: Array) -> Array | None:
    """What an error of 1 is, element by element, or None for max(1, |exact|).

    For 16-bit results the unit in the last place of max(1, |exact|); for int8 results
    the step of the quantization, which is that of the row if the scale is dynamic. So
    0.5 is the best that the type allows.
    """
    if case.error_unit == "ulp":
        _, exponent = np.frexp(np.maximum(1, np.abs(exact)))
        unit: Array = np.ldexp(1.0, exponent - 1 - _FRACTION_BITS[case.detail])
        return unit
    if case.error_unit == "step":
        if case.detail == "given":
            return np.full((1, 1), INT8_SCALE)
        steps: Array = np.abs(exact).max(-1, keepdims=True) / 127
        return steps
    return None
