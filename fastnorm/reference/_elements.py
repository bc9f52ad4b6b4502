# reference/_elements.py - what single elements are: types, quantization, activations.
# SPDX-License-Identifier: MIT
from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array: TypeAlias = NDArray[Any]
Activation: TypeAlias = str | tuple[str | float, ...]

wide = np.longdouble

# Bits of precision and the exponent of the smallest normal number.
_FORMATS = {
    "bfloat16": (8, -126),
    "float16": (11, -14),
    "float32": (24, -126),
    "float64": (53, -1022),
}


def is_byte(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" and dtype.itemsize == 1


def as_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """A dtype, also for the name "bfloat16", which NumPy does not know by itself."""
    if isinstance(dtype, str) and dtype == "bfloat16":
        import ml_dtypes

        dtype = ml_dtypes.bfloat16
    found: np.dtype[Any] = np.dtype(dtype)
    return found


def round_to(x: ArrayLike, dtype: DTypeLike) -> Array:
    """Numbers rounded once, to nearest even, to a floating-point type.

    Parameters
    ----------
    x : array_like
        Numbers of any real type; longdouble is not rounded to float64 on the way.
    dtype : dtype
        float16, bfloat16, float32 or float64.

    Returns
    -------
    ndarray of dtype
        Inf beyond the largest number, as IEEE 754 says.
    """
    wanted = as_dtype(dtype)
    if wanted.name not in _FORMATS:
        raise TypeError(f"round_to: dtype is {wanted}, a floating-point type is needed")
    bits, least = _FORMATS[wanted.name]
    number = np.asarray(x, wide)
    _, exponent = np.frexp(number)
    step = np.maximum(exponent, least + 1) - bits
    with np.errstate(all="ignore"):
        rounded = np.ldexp(np.rint(np.ldexp(number, -step)), step)
        if bits < 24:
            rounded = rounded.astype(np.float32)  # exact, or beyond both types
        return np.asarray(rounded.astype(wanted))


def checked_scale(function: str, name: str, scale: ArrayLike | None) -> Array:
    """A scale as the float32 that it is stored as; 1 for None."""
    value = np.asarray(1.0 if scale is None else scale).astype(np.float32)
    if not np.all((value > 0) & (value < np.inf)):
        raise ValueError(f"{function}: {name} is {value}, it must be positive")
    return np.asarray(value, wide)


def checked_zero_point(
    function: str, name: str, zero_point: int | None, dtype: np.dtype[Any]
) -> int:
    value = 0 if zero_point is None else operator.index(zero_point)
    limits = np.iinfo(dtype)
    if not limits.min <= value <= limits.max:
        raise ValueError(f"{function}: {name} is {value}, outside of {dtype}")
    return value


def dequantize(
    q: ArrayLike, scale: float | None = None, zero_point: int | None = None
) -> NDArray[np.float64]:
    """The numbers that 8-bit elements stand for: ``(q - zero_point) * scale``.

    Rounded to float32, as every library that dequantizes has it.

    Parameters
    ----------
    q : array_like of int8 or uint8
    scale : float, optional
        1 if not given; as float32.
    zero_point : int, optional
        0 if not given.
    """
    elements = np.asarray(q)
    if not is_byte(elements.dtype):
        raise TypeError(f"dequantize: q has dtype {elements.dtype}, not int8 or uint8")
    zero = checked_zero_point("dequantize", "zero_point", zero_point, elements.dtype)
    factor = checked_scale("dequantize", "scale", scale)
    numbers = round_to((elements.astype(wide) - zero) * factor, np.float32)
    return np.asarray(numbers, np.float64)


def quantize(
    y: ArrayLike,
    dtype: DTypeLike,
    scale: ArrayLike | None = None,
    zero_point: int | None = None,
) -> Array:
    """Numbers as 8-bit elements: ``round(y / scale) + zero_point``.

    To nearest even, limited to the range of the type; NaN becomes the zero point.

    Parameters
    ----------
    y : array_like
    dtype : dtype
        int8 or uint8.
    scale : array_like, optional
        A number, or an array that broadcasts with `y`; 1 if not given; as float32.
    zero_point : int, optional
        0 if not given.

    Notes
    -----
    The compiled functions multiply by the reciprocal of the scale in float32. Where
    ``y / scale`` is within that rounding of half a step, they may be one step off this.
    """
    wanted = as_dtype(dtype)
    if not is_byte(wanted):
        raise TypeError(f"quantize: dtype is {wanted}, int8 or uint8 is needed")
    zero = checked_zero_point("quantize", "zero_point", zero_point, wanted)
    factor = checked_scale("quantize", "scale", scale)
    return _quantized(np.asarray(y, wide), wanted, factor, zero)


def _quantized(y: Array, dtype: np.dtype[Any], scale: Array, zero: int) -> Array:
    limits = np.iinfo(dtype)
    with np.errstate(all="ignore"):
        steps = np.rint(y / scale) + zero
    steps = np.where(np.isnan(steps), zero, steps)
    return np.asarray(np.clip(steps, limits.min, limits.max), dtype)


def quantize_rows(
    y: Array, dtype: np.dtype[Any], axes: tuple[int, ...], zero_point: int | None
) -> tuple[Array, Array]:
    """Elements and scales, kept as extents of 1, with a scale for each row over `axes`.

    The largest magnitude of a row becomes 127 steps; a row of zeros has a scale of 1.
    """
    zero = checked_zero_point("quantize", "zero_point", zero_point, dtype)
    largest = np.max(np.abs(y), axis=axes, keepdims=True, initial=0)
    with np.errstate(all="ignore"):
        scale = np.where(largest == 0, wide(1), largest / 127)
        scale = np.asarray(scale, np.float32)
        return _quantized(y, dtype, np.asarray(scale, wide), zero), scale


def _clamp(low: float, high: float) -> Callable[[Array], Array]:
    # NumPy's maximum and minimum keep NaN.
    return lambda v: np.minimum(np.maximum(v, wide(low)), wide(high))


def _sigmoid(v: Array) -> Array:
    return 1 / (1 + np.exp(-v))


def _gelu(v: Array) -> Array:
    # 1 + erf(u) = erfc(-u), which loses nothing where erf(u) is near -1.
    erfc = np.vectorize(math.erfc, otypes=[np.float64])
    return np.asarray(v * erfc(np.asarray(-v / np.sqrt(wide(2)), np.float64)) / 2)


def _gelu_tanh(v: Array) -> Array:
    pi = wide("3.14159265358979323846264338327950288")
    # (1 + tanh(u)) / 2 = 1 / (1 + exp(-2 u))
    return v * _sigmoid(2 * np.sqrt(2 / pi) * (v + wide("0.044715") * v * v * v))


_PLAIN: dict[str, Callable[[Array], Array]] = {
    "relu": lambda v: np.maximum(v, wide(0)),
    "leaky_relu": lambda v: np.where(v < 0, wide("0.01") * v, v),
    "relu6": _clamp(0, 6),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": lambda v: v * _sigmoid(v),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "hardswish": lambda v: v * np.minimum(np.maximum(v + 3, wide(0)), wide(6)) / 6,
}


def activate(v: ArrayLike, activation: Activation | None) -> Array:
    """An activation function of numbers, in longdouble.

    Parameters
    ----------
    v : array_like
    activation : str or tuple or None
        "relu", "leaky_relu" (slope 0.01), "relu6", "gelu", "gelu_tanh", "silu",
        "sigmoid", "tanh", "hardswish"; ``("leaky_relu", slope)``;
        ``("clamp", low, high)``; None for `v` itself.
    """
    x = np.asarray(v, wide)
    if activation is None:
        return x
    function = _find_activation(activation)
    with np.errstate(all="ignore"):
        return np.asarray(function(x), wide)


def _find_activation(activation: Activation) -> Callable[[Array], Array]:
    name, *values = (activation,) if isinstance(activation, str) else activation
    if not values and name in _PLAIN:
        return _PLAIN[str(name)]
    limits = [float(value) for value in values]
    if name == "leaky_relu" and len(limits) == 1 and not math.isnan(limits[0]):
        return lambda v: np.where(v < 0, wide(limits[0]) * v, v)
    if name == "clamp" and len(limits) == 2 and limits[0] <= limits[1]:
        return _clamp(*limits)
    raise ValueError(f"activation is {activation!r}, which is not one of them")
