# reference/_moments.py - moments and merge_moments.
# SPDX-License-Identifier: MIT
from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastnorm import Moments, MomentsState

from ._arrays import Axes, Input, as_float64, axis_indices, deviations_over
from ._elements import wide


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
    count = math.prod(x.shape[i] for i in axes)
    _, mean, var = deviations_over(x, axes)
    m2 = var * count
    if not keepdims:
        mean, m2 = mean.squeeze(axes), m2.squeeze(axes)
    if return_state:
        if count == 0:
            mean, m2 = np.zeros_like(mean), np.zeros_like(m2)
        return MomentsState(count, as_float64(mean), as_float64(m2))
    m2 = m2 / (count - ddof) if count > ddof else np.full(m2.shape, np.nan)
    return Moments(as_float64(mean), as_float64(m2))


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
    delta = mean_b - mean_a
    mean = mean_a + delta * (wide(b.count) / count)
    m2 = m2_a + m2_b + delta * delta * (wide(a.count) * b.count / count)
    return MomentsState(count, as_float64(mean), as_float64(m2))
