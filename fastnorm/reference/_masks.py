# reference/_masks.py - which positions take part: mask and lengths.
# SPDX-License-Identifier: MIT
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ._arrays import Array, deviations_over, mean_over, with_rest
from ._elements import wide


class Masking:
    """What takes part, and what stands in a result where nothing does.

    Attributes
    ----------
    part : ndarray of bool or longdouble, or None
        Of the shape of the input: what takes part, or with which weight; None where all
        of it does.
    keep : bool
        The input's own value stands there, and not zero.
    """

    def __init__(
        self, function: str, part: Array | None, masked: str, given: bool
    ) -> None:
        if masked not in ("zero", "keep"):
            raise ValueError(f"{function}: masked is {masked!r}, not zero or keep")
        if masked == "keep" and not given:
            raise ValueError(f"{function}: masked='keep' needs mask or lengths")
        self.part = part
        self.keep = masked == "keep"

    def cleaned(self, x: Array) -> Array:
        """`x` with zeros for what takes no part."""
        return x if self.part is None else np.where(self.part, x, wide(0))

    def moved(self, source: int, to: int) -> Array | None:
        """`part` with an axis elsewhere, as `numpy.moveaxis` has it."""
        return None if self.part is None else np.moveaxis(self.part, source, to)


def checked_mask(function: str, mask: ArrayLike, shape: tuple[int, ...]) -> Array:
    array = np.asarray(mask)
    if array.dtype in (np.float32, np.float64):
        if not np.all((array >= 0) & np.isfinite(array)):
            raise ValueError(f"{function}: mask holds a number that is no weight")
        is_part = array != 0
        array = is_part if np.all(array == is_part) else array.astype(wide)
    elif array.dtype != np.bool_:
        raise TypeError(f"{function}: mask has dtype {array.dtype}, bool is needed")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{function}: mask of shape {array.shape} does not broadcast to {shape}"
        ) from None


def checked_lengths(
    function: str, lengths: ArrayLike, wanted: tuple[int, ...], most: int
) -> Array:
    array = np.asarray(lengths)
    if array.size == 0 and isinstance(lengths, Sequence):
        array = array.astype(int)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{function}: lengths has dtype {array.dtype}, not integers")
    if array.shape != wanted:
        raise ValueError(f"{function}: lengths has shape {array.shape}, needs {wanted}")
    if array.size and not (array.min() >= 0 and array.max() <= most):
        raise ValueError(f"{function}: lengths must be from 0 to {most}")
    return array


def first_of(
    lengths: Array, shape: tuple[int, ...], sample: int, position: int
) -> Array:
    """True for the first `lengths` of the positions of each sample."""
    extents = [1] * len(shape)
    extents[sample] = shape[sample]
    index = np.arange(shape[position])
    index = index.reshape([-1 if i == position else 1 for i in range(len(shape))])
    return np.broadcast_to(index < lengths.reshape(extents), shape)


def channel_masking(
    function: str,
    x: Array,
    channel: int,
    mask: ArrayLike | None,
    lengths: ArrayLike | None,
    masked: str,
) -> Masking:
    """Samples are the first axis that is not the channels, positions the next one."""
    part = None
    if mask is not None and lengths is not None:
        raise ValueError(f"{function}: mask and lengths cannot be given together")
    if mask is not None:
        part = checked_mask(function, mask, x.shape)
    if lengths is not None:
        others = [i for i in range(x.ndim) if i != channel]
        if len(others) < 2:
            raise ValueError(f"{function}: lengths needs an axis of positions")
        sample, position = others[:2]
        found = checked_lengths(
            function, lengths, (x.shape[sample],), x.shape[position]
        )
        part = first_of(found, x.shape, sample, position)
    return Masking(function, part, masked, part is not None)


def count_over(part: Array, axes: tuple[int, ...]) -> Array:
    """How many take part over `axes`, kept as extents of 1, or with which weight."""
    if part.dtype == np.bool_:
        return np.count_nonzero(part, axis=axes, keepdims=True)
    total: Array = part.sum(axis=axes, keepdims=True)
    return total


def too_few(part: Array | None, count: Array, updates: bool) -> bool:
    """Whether a variance is not there: of one value, or an unbiased one of weights."""
    weighted = part is not None and part.dtype != np.bool_
    return bool(np.any((count > 0) & (count <= 1))) and (updates or not weighted)


def unbiased(var: Array, count: Array) -> Array:
    result: Array = var * (wide(count) / np.where(count > 1, count - 1, 1))
    return result


def masked_deviations(
    x: Array, part: Array | None, axes: tuple[int, ...]
) -> tuple[Array, Array, Array, Array]:
    """`deviations_over` of what takes part, and how much does; all 0 of nothing."""
    if part is None:
        count = math.prod(x.shape[i] for i in axes)
        deviations, mean, var = deviations_over(x, axes)
        return deviations, mean, var, np.full(mean.shape, count)
    count = count_over(part, axes)
    # mean_over divides by the full count.
    full = wide(math.prod(x.shape[i] for i in axes))
    more = full / np.where(count > 0, count, 1)
    with np.errstate(invalid="ignore"):
        mean = mean_over(part * np.where(part, x, wide(0)), axes) * more
        deviations = np.where(part, x - mean, wide(0))
        low = mean_over(part * deviations, axes) * more
        deviations = np.where(part, deviations - low, wide(0))
        var = mean_over(part * np.square(deviations), axes) * more
        mean = with_rest(mean, low)
        if part.dtype != np.bool_:  # a constant times a weight is rounded
            some = x.max(axes, keepdims=True, initial=-np.inf, where=part > 0)
            other = x.min(axes, keepdims=True, initial=np.inf, where=part > 0)
            deviations = np.where(some == other, 0, deviations)
            mean, var = np.where(some == other, (some, 0 * mean), (mean, var))
    if count.shape == mean.shape and x.size == 0:
        return deviations, mean, var, count
    nothing = count == 0
    return deviations, np.where(nothing, 0, mean), np.where(nothing, 0, var), count
