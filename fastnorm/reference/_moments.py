# reference/_moments.py - moments and merge_moments.
# SPDX-License-Identifier: MIT
from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastnorm import Moments, MomentsState

from ._arrays import Array, Axes, Input, as_float64, axis_indices
from ._elements import wide
from ._masks import checked_lengths, checked_mask, first_of, masked_deviations


def moments(
    input: ArrayLike,
    axis: Axes | None = None,
    *,
    ddof: int = 0,
    keepdims: bool = False,
    return_state: bool = False,
    num_threads: int | None = None,  # noqa: ARG001
    in_scale: float | None = None,
    in_zero_point: int | None = None,
    flush_denormals: bool = False,
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
) -> Moments | MomentsState:
    """Mean and variance over `axis`, by two passes.

    Parameters
    ----------
    input : array_like
        Any shape.
    axis : int or sequence of int, optional
        The axes to reduce; all by default.
    ddof : int
        The variance is divided by ``count - ddof``.
    keepdims : bool
        Keep the reduced axes with extent 1.
    return_state : bool
        Return a `MomentsState` (count, mean, m2), which `merge_moments` can merge.
    num_threads : int, optional
        Has no effect here.
    in_scale, in_zero_point : number, optional
        What int8 and uint8 input stands for: see `dequantize`.
    flush_denormals : bool
        Input that is subnormal in the working type counts as zero.
    mask : array_like of bool, float32 or float64, optional
        Broadcastable to `input`: what is False takes no part; numbers are weights.
    lengths : array_like of int, optional
        For each entry of the first axis: how many of the first positions along the
        first other axis that is reduced take part.

    Returns
    -------
    Moments or MomentsState
        float64; NaN where there are too few values.
    """
    x = Input("moments", input, in_scale, in_zero_point, flush_denormals).x
    every = tuple(range(x.ndim))
    axes = every if axis is None else axis_indices("moments", axis, x.ndim)
    if ddof < 0 or (return_state and ddof != 0):
        raise ValueError("moments: ddof must be >= 0, and 0 with return_state")
    part, pattern = _part(x, axes, mask, lengths)
    full = math.prod(x.shape[i] for i in axes)
    _, mean, var, count = masked_deviations(x, part, axes)
    m2 = var * count
    if return_state:
        if any(n > 1 and i not in axes for i, n in enumerate(pattern)):
            raise ValueError("moments: return_state needs one pattern for all")
        if part is not None and count.size:
            full = int(count.flat[0])
            if full != count.flat[0]:
                raise ValueError("moments: return_state needs a whole sum of weights")
    if not keepdims:
        mean, m2, count = mean.squeeze(axes), m2.squeeze(axes), count.squeeze(axes)
    if return_state:
        if full == 0:
            mean, m2 = np.zeros_like(mean), np.zeros_like(m2)
        return MomentsState(full, as_float64(mean), as_float64(m2))
    mean = np.where(count == 0, wide(np.nan), mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        m2 = np.where(count > ddof, m2 / (count - wide(ddof)), wide(np.nan))
    return Moments(as_float64(mean), as_float64(m2))


def _part(
    x: Array, axes: tuple[int, ...], mask: ArrayLike | None, lengths: ArrayLike | None
) -> tuple[Array | None, tuple[int, ...]]:
    """What takes part, and the extents along which that differs."""
    if mask is not None and lengths is not None:
        raise ValueError("moments: mask and lengths cannot be given together")
    if mask is not None:
        own = np.shape(mask)
        part = checked_mask("moments", mask, x.shape)
        return part, (1,) * (x.ndim - len(own)) + own
    if lengths is None:
        return None, ()
    position = next((i for i in axes if i != 0), None)
    if position is None:
        raise ValueError("moments: lengths needs a reduced axis of positions")
    found = checked_lengths("moments", lengths, x.shape[:1], x.shape[position])
    part = first_of(found, x.shape, 0, position)
    return part, tuple(n if i in (0, position) else 1 for i, n in enumerate(x.shape))


def merge_moments(a: MomentsState, b: MomentsState) -> MomentsState:
    """The moments of two sets of samples together.

    A set of no samples takes no part, whatever its mean and m2 hold.

    References
    ----------
    Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing
    sample variances. Stanford STAN-CS-79-773 (1979).
    """
    if a.count == 0 or b.count == 0:
        return b if a.count == 0 else a
    count = a.count + b.count
    mean_a, m2_a, mean_b, m2_b = (
        np.asarray(part, wide) for part in (a.mean, a.m2, b.mean, b.m2)
    )
    share_a, share_b = wide(a.count) / count, wide(b.count) / count
    with np.errstate(invalid="ignore"):
        delta = mean_b - mean_a
        infinite = np.isinf(mean_a) | np.isinf(mean_b)
        plain = mean_a * share_a + mean_b * share_b
        mean = np.where(infinite, plain, mean_a + delta * share_b)
        m2 = m2_a + m2_b + delta * delta * (wide(a.count) * share_b)
    return MomentsState(count, as_float64(mean), as_float64(m2))
