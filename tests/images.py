# SPDX-License-Identifier: MIT
"""images.py - pixels, parameters and the measure of error, for tests of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]

INPUT_DTYPES = ["uint8", "float32", "float16", "bfloat16", "float64"]
# In units in the last place of float32. Half is the best that rounding can do.
CLASS = 0.50001


def dtype_named(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(name)


def pixels(shape: tuple[int, ...], dtype: str = "uint8") -> Array:
    values = np.random.default_rng(len(shape)).integers(0, 256, shape)
    if dtype == "uint8":
        return values.astype(np.uint8)
    return (values / 255).astype(np.float32).astype(dtype_named(dtype))


def parameters(channels: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(channels)
    return rng.uniform(0, 1, channels), rng.uniform(0.1, 1, channels)


def units(y: Array, exact: Array) -> float:
    """The largest error in units in the last place of float32, of longdouble values."""
    unit = np.spacing(np.maximum(np.abs(exact), np.finfo("f4").tiny).astype(np.float32))
    return float(np.max(np.abs(y.astype(np.longdouble) - exact) / unit))


def formula(x: Array, mean: Any, std: Any, scale: float) -> Array:
    m, s = np.asarray(mean, np.longdouble), np.asarray(std, np.longdouble)
    return (x.astype(np.longdouble) * np.longdouble(scale) - m) / s
