# SPDX-License-Identifier: MIT
"""oracle.py - hostile inputs, and the measure of error that every bound is in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

import fastnorm
from fastnorm import reference

# The promise: |y - exact| <= BOUND * max(1, |exact|), for results without parameters.
BOUND = {np.dtype("f4"): 4e-7, np.dtype("f8"): 1e-15}
DTYPES = ["float32", "float64"]
ISAS = ["avx512", "avx2", "neon", "portable"]

# Where float64 cannot be judged, because the reference is itself no wider.
WIDE = np.finfo(np.longdouble).nmant > 52

# One, the vector widths of every ISA and type, tails beside them, and block borders.
LENGTHS = [
    1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 96, 127,
    128, 129, 196, 255, 256, 257, 511, 512, 513, 768, 1000, 1023, 1024, 1025, 2047,
    2048, 2049, 4095, 4096, 4097, 8191, 8193, 16385,
]  # fmt: skip


def each_isa() -> Iterator[str]:
    """The instruction sets of this machine, each in use during its turn."""
    for name in fastnorm.isas():
        fastnorm.set_isa(name)
        yield name


def random(shape: Any, dtype: DTypeLike = "float32", seed: int = 0) -> NDArray[Any]:
    """N(0, 1) that is the same on every run."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def hostile(n: int, dtype: DTypeLike) -> dict[str, NDArray[Any]]:
    """Rows of n values that break a norm written in the obvious way."""
    dtype = np.dtype(dtype)
    z = np.random.default_rng(n).standard_normal(n)
    top = float(np.finfo(dtype).max)
    tiny = float(np.finfo(dtype).smallest_subnormal)
    signs = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    above = np.nextafter(dtype.type(7), dtype.type(8))
    far = {np.dtype("f4"): 1e6, np.dtype("f8"): 1e14}[dtype]
    rows = {
        "normal": z,
        "offset 1e3": 1e3 + z,
        "offset 1e4": 1e4 + z,
        "offset -1e4": -1e4 + z,
        "far offset": far + 10 * z,
        "constant 3.3": np.full(n, 3.3),
        "zeros": np.zeros(n),
        "1e20": 1e20 * z,
        "1e30": 1e30 * z,
        "1e-20": 1e-20 * z,
        "1e-30": 1e-30 * z,
        "largest, both signs": 0.88 * top * signs,
        "largest, one sign": 0.88 * top * (1 - 1e-3 * np.abs(z) / 10),
        "largest itself": top * np.where(np.arange(n) % 3 == 0, 1.0, 0.5),
        "subnormal": tiny * np.round(100 * z),
        "outlier first": np.where(np.arange(n) == 0, 1e5, z),
        "outlier last": np.where(np.arange(n) == n - 1, 1e5, z),
        "huge outlier first": np.where(np.arange(n) == 0, math.sqrt(top) * 10, z),
        "huge outlier last": np.where(np.arange(n) == n - 1, math.sqrt(top) * 10, z),
        "ramp": np.arange(n) - n / 3,
        "two values": 1e3 + signs,
        "half zero": np.where(np.arange(n) < n // 2, 0.0, 1e4 + z),
        "sparse": np.where(np.arange(n) % 17 == 3, z, 0.0),
        "negative zeros": np.full(n, -0.0),
        "one ulp apart": np.where(np.arange(n) % 5 == 0, above, 7),
    }
    if dtype == np.float64:
        rows |= {"1e160": 1e160 * z, "1e300": 1e300 * z, "1e-160": 1e-160 * z,
                 "1e-300": 1e-300 * z}  # fmt: skip
    with np.errstate(over="ignore", under="ignore"):
        return {name: row.astype(dtype) for name, row in rows.items()}


def error(y: ArrayLike, exact: ArrayLike, size: ArrayLike = 1.0) -> float:
    """The largest error relative to max(1, |exact|, size); inf where y is not finite.

    `size` is that of the terms of a sum, whose rounding the sum cannot be blamed for.
    """
    y, exact = np.asarray(y, np.float64), np.asarray(exact, np.float64)
    assert y.shape == exact.shape
    if y.size == 0:
        return 0.0
    if not np.all(np.isfinite(exact)):
        raise AssertionError("the exact result is not finite: a bad test")
    scale = np.maximum(np.maximum(1.0, np.abs(exact)), size)
    found = float(np.max(np.abs(y - exact) / scale))
    return found if math.isfinite(found) else math.inf


def assert_close(y: NDArray[Any], exact: ArrayLike, size: ArrayLike = 1.0) -> None:
    """Within the promised bound of y's dtype."""
    found = error(y, exact, size)
    assert found <= BOUND[y.dtype], f"error {found:.3g}, promised {BOUND[y.dtype]:.3g}"


def terms(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike, **options: Any
) -> NDArray[Any]:
    """|x_hat * weight| + |bias| of a layer norm over the last axis."""
    n = np.shape(weight)
    return np.abs(reference.layer_norm(x, n, weight, **options)) + np.abs(bias)


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Equal dtype, shape and bits; NaN equals NaN of the same bits, 0 is not -0."""
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()
    )


def shifted(a: NDArray[Any], elements: int) -> NDArray[Any]:
    """A copy of a that lies `elements` elements past a 64-byte boundary."""
    room = np.empty(a.nbytes + 64 + elements * a.itemsize, np.uint8)
    start = -room.ctypes.data % 64 + elements * a.itemsize
    copy = room[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    copy[...] = a
    return copy
