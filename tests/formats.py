# SPDX-License-Identifier: MIT
"""formats.py - arrays of every dtype, what they stand for, and how near a result is."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

HAS_BFLOAT16 = importlib.util.find_spec("ml_dtypes") is not None

BFLOAT16 = pytest.param(
    "bfloat16",
    marks=pytest.mark.skipif(not HAS_BFLOAT16, reason="ml_dtypes is not installed"),
)
HALVES = ["float16", BFLOAT16]
BYTES = ["int8", "uint8"]
MIXING = ["float32", *HALVES]  # what goes with each other, and with 8-bit input

# The smallest numbers apart from each other, relative to the power of two below them,
# and the exponent of the smallest normal number.
_BITS = {"float16": (11, -14), "bfloat16": (8, -126), "float32": (24, -126)}


def dtype_named(name: str) -> np.dtype[Any]:
    kind: Any = name
    if name == "bfloat16":
        import ml_dtypes

        kind = ml_dtypes.bfloat16
    found: np.dtype[Any] = np.dtype(kind)
    return found


def wide(x: NDArray[Any]) -> NDArray[np.float64]:
    """The numbers of a floating-point array, exactly."""
    return np.asarray(x, np.float32 if x.dtype.name == "bfloat16" else None).astype(
        np.float64
    )


def half_ulp(exact: ArrayLike, name: str) -> NDArray[np.float64]:
    """Half the distance of neighbours in the type, around these numbers."""
    bits, least = _BITS[name]
    _, exponent = np.frexp(np.asarray(exact, np.float64))
    half: NDArray[np.float64] = np.ldexp(0.5, np.maximum(exponent, least + 1) - bits)
    return half


def assert_rounded(
    y: NDArray[Any], exact: ArrayLike, size: ArrayLike = 1.0, bound: float = 4e-7
) -> None:
    """That y is a value within `bound` of the exact one, rounded to nearest.

    The bound is relative to max(1, |exact|, size), `size` that of the terms of a sum.
    """
    exact = np.asarray(exact, np.float64)
    near = bound * np.maximum(np.maximum(1.0, np.abs(exact)), size)
    name = y.dtype.name
    allowed = near if name == "float32" else near + half_ulp(np.abs(exact) + near, name)
    error = np.abs(wide(y) - exact)
    assert np.all(error <= allowed), float(np.max(error / allowed))


def some(shape: Any, name: str, seed: int = 0) -> NDArray[Any]:
    """N(0, 1) numbers, or bytes of the whole range, the same on every run."""
    random = np.random.default_rng(seed)
    dtype = dtype_named(name)
    if name in BYTES:
        limits = np.iinfo(dtype)
        numbers: Any = random.integers(limits.min, limits.max + 1, shape)
    else:
        numbers = random.standard_normal(shape)
    return np.asarray(numbers.astype(dtype))


def hostile_rows(n: int, name: str) -> dict[str, NDArray[Any]]:
    """Rows of n values that break a norm written in the obvious way."""
    dtype = dtype_named(name)
    z = np.random.default_rng(n).standard_normal(n)
    index = np.arange(n)
    if name in BYTES:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        rows = {
            "whole range": low + index * 37 % 256,
            "lowest": np.full(n, low),
            "highest": np.full(n, high),
            "ends": np.where(index % 2 == 0, low, high),
            "one step": np.where(index % 5 == 0, 8, 7),
            "outlier first": np.where(index == 0, high, low + 1),
            "outlier last": np.where(index == n - 1, low, high),
        }
        return {key: row.astype(dtype) for key, row in rows.items()}
    top = 65504.0 if name == "float16" else 3.3895313892515355e38
    tiny = 2.0**-24 if name == "float16" else 2.0**-133
    signs = np.where(index % 2 == 0, 1.0, -1.0)
    rows = {
        "normal": z,
        "far offset": (6e4 if name == "float16" else 1e6) + 100 * z,
        "offset": -1e3 + z,
        "constant": np.full(n, 3.3),
        "zeros": np.zeros(n),
        "small": 1e-5 * z,
        "large": (1e4 if name == "float16" else 1e30) * z,
        "largest, both signs": top * signs,
        "largest, one sign": np.where(index % 3 == 0, top, 0.5 * top),
        "subnormal": tiny * np.round(100 * z),
        "outlier first": np.where(index == 0, 6e4, z),
        "outlier last": np.where(index == n - 1, 6e4, z),
        "two values": 1e3 + signs,
        "one ulp apart": np.where(index % 5 == 0, 7.0 + 2.0**-5, 7.0),
        "sparse": np.where(index % 17 == 3, z, 0.0),
        "negative zeros": np.full(n, -0.0),
    }
    if name == "bfloat16":
        rows |= {"tiny": 1e-30 * z, "huge outlier": np.where(index == n // 2, 1e38, z)}
    with np.errstate(over="ignore", under="ignore"):
        return {key: row.astype(dtype) for key, row in rows.items()}
