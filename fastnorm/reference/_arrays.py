# reference/_arrays.py - sums, shapes and axes that the twins share.
# SPDX-License-Identifier: MIT
from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._elements import dequantize, is_byte, wide

Array: TypeAlias = NDArray[Any]
Axes: TypeAlias = int | Sequence[int]


def numbers(values: ArrayLike) -> Array:
    """An array of real numbers, of whatever dtype."""
    x = np.asarray(values)
    if x.dtype.kind not in "biuf" and x.dtype.name != "bfloat16":
        raise TypeError(f"input has dtype {x.dtype}, which is not a real number type")
    return x


def widened(values: ArrayLike) -> Array:
    x = numbers(values)
    if x.dtype.name == "bfloat16":
        x = x.astype(np.float32)
    return x.astype(wide)


def smallest_normal(x: Array) -> float:
    """That of the working type of an input."""
    exact = x.dtype.kind in "biu" and not is_byte(x.dtype)
    double = exact or (x.dtype.kind == "f" and x.dtype.itemsize > 4)
    return float(np.finfo(np.float64 if double else np.float32).tiny)


def flushed(x: Array, least: float | None) -> Array:
    """Zero for what is smaller than `least`; that is None where nothing is flushed."""
    if least is None:
        return x
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(x) < least, x * 0, x)


class Input:
    """The numbers that an input stands for, and the type that arithmetic has on them.

    Attributes
    ----------
    x : ndarray
        The numbers, in longdouble.
    dtype : dtype
        The type of the input itself.
    work : dtype
        float64 for float64 and for integers beyond 8 bits, which a list may hold; else
        float32.
    least : float or None
        With `flush_denormals`, the smallest number that does not count as zero.
    """

    def __init__(
        self,
        function: str,
        input: ArrayLike,
        scale: float | None = None,
        zero_point: int | None = None,
        flush_denormals: bool = False,
    ) -> None:
        given = numbers(input)
        self.dtype = given.dtype
        least = smallest_normal(given)
        self.work = np.dtype(np.float64 if least < 1e-300 else np.float32)
        self.least = least if flush_denormals else None
        if is_byte(given.dtype):
            self.x = dequantize(given, scale, zero_point).astype(wide)
        elif scale is not None or zero_point is not None:
            raise ValueError(
                f"{function}: in_scale and in_zero_point are for int8 and uint8, "
                f"input has dtype {given.dtype}"
            )
        else:
            self.x = widened(given)
        self.x = flushed(self.x, self.least)


def mean_over(x: Array, axes: tuple[int, ...]) -> Array:
    """The mean over `axes`, kept as extents of 1; NaN over nothing."""
    kept = [1 if i in axes else n for i, n in enumerate(x.shape)]
    count = math.prod(x.shape[i] for i in axes)
    if count == 0:
        return np.full(kept, np.nan, wide)
    # NumPy sums pairwise along the last axis only, and an error that grows with the
    # count is too much of one here.
    last = np.moveaxis(x, axes, range(x.ndim - len(axes), x.ndim))
    rows = np.ascontiguousarray(last).reshape(-1, count)
    with np.errstate(invalid="ignore"):
        means: Array = rows.sum(axis=1) / count
        return means.reshape(kept)


def deviations_over(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Give x - mean, the mean and the variance over `axes`, kept as extents of 1.

    Far from zero no longdouble is near enough to the mean: what it lacks is the mean of
    the deviations from it.
    """
    mean = mean_over(x, axes)
    with np.errstate(invalid="ignore"):
        deviations = x - mean
        low = mean_over(deviations, axes)
        deviations = deviations - low
        mean = with_rest(mean, low)
        return deviations, mean, mean_over(np.square(deviations), axes)


def with_rest(mean: Array, low: Array) -> Array:
    """The mean and what it lacks, which is no number where the mean is infinite."""
    return np.asarray(np.where(np.isfinite(mean), mean + low, mean))


def reciprocal_deviation(var: Array, eps: float) -> Array:
    """1 / sqrt(var + eps); 0 where that is 0, so that the result is the bias."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rstd = 1 / np.sqrt(var + wide(eps))
    return np.where(var + wide(eps) == 0, wide(0), rstd)


def product(x: Array, rstd: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return np.asarray(x * rstd)


def affine(y: Array, weight: Array | None, bias: Array | None) -> Array:
    with np.errstate(invalid="ignore"):
        if weight is not None:
            y = y * weight
        return y if bias is None else y + bias


def as_float64(x: ArrayLike) -> NDArray[np.float64]:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(x, dtype=np.float64)


def checked_eps(function: str, eps: float) -> float:
    if not 0 <= eps < np.inf:
        raise ValueError(
            f"{function}: eps is {eps}, it must be finite and not negative"
        )
    return float(eps)


def axis_index(function: str, axis: int, ndim: int) -> int:
    index = operator.index(axis)
    if not -ndim <= index < ndim:
        raise ValueError(f"{function}: axis {index} is outside of {ndim} dimensions")
    return index % ndim


def axis_indices(function: str, axis: Axes, ndim: int) -> tuple[int, ...]:
    given = axis if isinstance(axis, Sequence) else (axis,)
    axes = sorted({axis_index(function, i, ndim) for i in given})
    if len(axes) != len(given):
        raise ValueError(f"{function}: axis {axis} names an axis twice")
    return tuple(axes)


def normalized_axes(
    function: str, x: Array, normalized_shape: Axes | None, axis: Axes | None
) -> tuple[int, ...]:
    """The axes to normalize over, ascending, after checking that they fit."""
    if normalized_shape is None:
        shape = None
    elif isinstance(normalized_shape, Sequence):
        shape = tuple(map(operator.index, normalized_shape))
    else:
        shape = (operator.index(normalized_shape),)
    if axis is None:
        if not shape:
            raise ValueError(f"{function}: normalized_shape or axis must name an axis")
        axes = tuple(range(x.ndim - len(shape), x.ndim))
    else:
        axes = axis_indices(function, axis, x.ndim)
        if not axes or axes != tuple(range(axes[0], axes[0] + len(axes))):
            raise ValueError(f"{function}: axis {axis} must be adjacent axes")
    if shape is not None and (axes[0] < 0 or shape != tuple(x.shape[i] for i in axes)):
        raise ValueError(
            f"{function}: normalized_shape {shape} does not fit input {x.shape}"
        )
    return axes


def fitted(
    function: str, name: str, values: ArrayLike | None, wanted: tuple[int, ...]
) -> Any:
    """`values`, widened, which must have this shape; None for None."""
    if values is None:
        return None
    array = widened(values)
    if array.shape != wanted:
        raise ValueError(f"{function}: {name} has shape {array.shape}, needs {wanted}")
    return array


def spread(
    function: str, name: str, values: ArrayLike | None, x: Array, axes: tuple[int, ...]
) -> Any:
    """`values`, whose shape is that of `axes` of `x`, shaped to broadcast with `x`."""
    array = fitted(function, name, values, tuple(x.shape[i] for i in axes))
    if array is None:
        return None
    return array.reshape([n if i in axes else 1 for i, n in enumerate(x.shape)])


def stored_statistics(
    function: str,
    mean: ArrayLike | None,
    var: ArrayLike | None,
    wanted: tuple[int, ...],
) -> tuple[Array, Array] | None:
    """The mean and variance to normalize by, if they are given."""
    if (mean is None) != (var is None):
        raise ValueError(f"{function}: mean and var must come together")
    if mean is None or var is None:
        return None
    return (
        fitted(function, "mean", mean, wanted),
        fitted(function, "var", var, wanted),
    )


def check_shape(
    function: str, name: str, array: Array | None, wanted: tuple[int, ...]
) -> None:
    if array is not None and array.shape != wanted:
        raise ValueError(
            f"{function}: {name} has shape {array.shape}, input has {wanted}"
        )
