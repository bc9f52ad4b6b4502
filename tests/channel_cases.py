# SPDX-License-Identifier: MIT
"""channel_cases.py - calls, data and bounds for tests of norms of channels.

16-bit results are rounded once from a value within the float32 bound of the exact one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from oracle import BOUND, random

from fastnorm import reference

ml_dtypes = pytest.importorskip("ml_dtypes")

Array = NDArray[Any]
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
SHORT = {"float16": np.dtype(np.float16), "bfloat16": BFLOAT16}
FLOAT32 = BOUND[np.dtype("f4")]
# The difference between 1 and the next number.
EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23}
LEAST = {"float16": -14, "bfloat16": -126}
short = pytest.mark.parametrize("name", list(SHORT))
every_axis = pytest.mark.parametrize("axis", [1, -1])


def assert_rounded(y: Array, exact: ArrayLike, size: ArrayLike = 1.0) -> None:
    """Half a unit of the 16-bit type from a value within the bound of float32."""
    exact = np.asarray(exact, np.float64)
    bits = y.dtype.name
    assert np.all(np.isfinite(exact)), "the exact result is not finite: a bad test"
    _, exponent = np.frexp(exact)
    half = np.ldexp(EPS[bits] / 2, np.maximum(exponent - 1, LEAST[bits]))
    allowed = half + FLOAT32 * np.maximum(np.maximum(1, np.abs(exact)), size)
    wrong = np.abs(y.astype("f8") - exact) > allowed
    assert not np.any(wrong), (y[wrong][:3], exact[wrong][:3])


def assert_steps(q: Array, exact: ArrayLike, scale: float, zero: int) -> None:
    """The nearest step, or its neighbour where the exact result is near the middle."""
    scale = float(np.float32(scale))
    exact = np.asarray(exact, np.float64)
    wanted = reference.quantize(exact, q.dtype, scale, zero).astype(int)
    off = q.astype(int) - wanted
    middle = np.abs(np.abs(exact / scale - np.rint(exact / scale)) - 0.5)
    near = middle <= 2 * FLOAT32 * np.maximum(1, np.abs(exact)) / scale + 1e-5
    assert np.all((off == 0) | ((np.abs(off) == 1) & near))


def case(
    norm: str, shape: tuple[int, ...] = (2, 12, 5, 7), axis: int = 1
) -> Callable[..., Any]:
    """A call f(module, x, **options) of the norm, with parameters of float32."""
    c = shape[1]
    parameters = {"weight": 1 + random(c) / 4, "bias": random(c, seed=1)}
    mean, var = random(c, seed=2), np.abs(random(c, seed=3)) + np.float32(0.5)

    def call(module: Any, x: Array, **options: Any) -> Any:
        given = parameters | {"channel_axis": axis} | options
        if norm == "group":
            return module.group_norm(x, 3, **given)
        if norm == "instance":
            return module.instance_norm(x, **given)
        training = norm == "batch training"
        running = {"running_mean": mean, "running_var": var} | (
            {"running_mean": None, "running_var": None} if training else {}
        )
        return module.batch_norm(x, training=training, **(running | given))

    return call


NORMS = ["batch inference", "batch training", "group", "instance"]
norms = pytest.mark.parametrize("norm", NORMS)


def images(axis: int, seed: int = 5, shape: tuple[int, ...] = (2, 12, 5, 7)) -> Array:
    x = 3 + 2 * random(shape, seed=seed)
    return x if axis == 1 else np.ascontiguousarray(np.moveaxis(x, 1, -1))


def plain_size(call: Callable[..., Any], x: Array, **options: Any) -> Array:
    """The size of the terms that the bias is added to."""
    y: Array = np.abs(call(reference, x, bias=None, **options)) + 4
    return y
