# reference/_renorm.py - batch_renorm.
# SPDX-License-Identifier: MIT
from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ._arrays import (
    Array,
    Input,
    affine,
    axis_index,
    checked_eps,
    deviations_over,
    mean_over,
    product,
    reciprocal_deviation,
    spread,
)
from ._channels import _new_weight, _running, _update, batch_norm
from ._elements import Activation, wide
from ._results import Output, Results, results


def batch_renorm(
    input: ArrayLike,
    running_mean: Array,
    running_var: Array,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    r_max: float = 3.0,
    d_max: float = 5.0,
    channel_axis: int = 1,
    num_batches_tracked: int | None = None,
    out: Array | None = None,
    return_stats: bool = False,
    num_threads: int | None = None,
    post_add: ArrayLike | None = None,
    activation: Activation | None = None,
    out_dtype: DTypeLike | None = None,
    in_scale: float | None = None,
    in_zero_point: int | None = None,
    out_scale: float | None = None,
    out_zero_point: int | None = None,
    flush_denormals: bool = False,
) -> Results:
    """Batch renormalization: batch norm that stays close to the running statistics.

    In training::

        r = clip(sigma_batch / sigma, 1 / r_max, r_max)
        d = clip((mean_batch - running_mean) / sigma, -d_max, d_max)
        y = ((input - mean_batch) / sigma_batch * r + d) * weight + bias

    with ``sigma = sqrt(running_var + eps)``, whose reciprocal is taken as zero where it
    is zero; then the running arrays are updated as by `batch_norm`.

    Parameters
    ----------
    input : array_like
        At least one axis besides, or instead of, the channels.
    running_mean, running_var : ndarray
        Shape [C].
    weight, bias, training, momentum, eps, channel_axis, num_batches_tracked, out, \
num_threads, post_add, activation, out_dtype, in_scale, in_zero_point, out_scale, \
out_zero_point, flush_denormals
        As for `batch_norm`, which this is if not training.
    r_max, d_max : float
        The limits: at least 1 and 0, perhaps infinite.
    return_stats : bool
        Also return the mean and rstd of the batch (or the running ones), r and d.

    Returns
    -------
    y : ndarray
        float64 (or `out`, or of `out_dtype`), shape of `input`.
    mean, rstd, r, d : ndarray
        Only with `return_stats`: float64, shape [C].

    Raises
    ------
    ValueError
        As `batch_norm`, and if a limit is out of range or a running array missing.

    References
    ----------
    Ioffe: Batch Renormalization. arXiv:1702.03275 (2017).
    """
    fn = "batch_renorm"
    if not r_max >= 1:
        raise ValueError(f"{fn}: r_max is {r_max}, it must be at least 1")
    if not d_max >= 0:
        raise ValueError(f"{fn}: d_max is {d_max}, it must not be negative")
    if running_mean is None or running_var is None:
        raise ValueError(f"{fn}: running_mean and running_var are needed")
    if not training:
        found: Any = batch_norm(
            input, running_mean, running_var, weight, bias, False, momentum, eps,
            channel_axis=channel_axis, num_batches_tracked=num_batches_tracked,
            out=out, return_stats=return_stats, num_threads=num_threads,
            post_add=post_add, activation=activation, out_dtype=out_dtype,
            in_scale=in_scale, in_zero_point=in_zero_point, out_scale=out_scale,
            out_zero_point=out_zero_point, flush_denormals=flush_denormals,
        )  # fmt: skip
        if not return_stats:
            return found  # type: ignore[no-any-return]
        return (*found, np.ones_like(found[1]), np.zeros_like(found[1]))
    given = Input(fn, input, in_scale, in_zero_point, flush_denormals)
    x = given.x
    channel = axis_index(fn, channel_axis, x.ndim)
    w = spread(fn, "weight", weight, x, (channel,))
    b = spread(fn, "bias", bias, x, (channel,))
    eps = checked_eps(fn, eps)
    f = _new_weight(momentum, num_batches_tracked)
    running: Any = _running(fn, running_mean, running_var, x, channel)
    output = Output(
        fn, given, out, out_dtype, out_scale, out_zero_point, post_add, activation
    )
    others = tuple(i for i in range(x.ndim) if i != channel)
    count = math.prod(x.shape[i] for i in others)
    if x.size and count == 1:
        raise ValueError(f"{fn}: training needs more than one value per channel")
    if f is None:
        raise ValueError(f"{fn}: momentum=None needs num_batches_tracked")
    deviations, mean, var = deviations_over(x, others)
    sigma = reciprocal_deviation(running[1], eps)
    with np.errstate(invalid="ignore"):
        r = np.clip(np.sqrt(var + wide(eps)) * sigma, 1 / wide(r_max), wide(r_max))
        # Far from zero the difference of the means would lack digits.
        difference = mean_over(x - running[0], others)
        d = np.clip(difference * sigma, -wide(d_max), wide(d_max))
        d = np.where(np.isfinite(mean), d, np.nan)  # no deviation from it is a number
    rstd = reciprocal_deviation(var, eps)
    y = affine(product(product(deviations, rstd), r) + d, w, b)
    if x.size and f > 0:
        _update(running_mean, running[0], mean, f)
        _update(running_var, running[1], var * (wide(count) / (count - 1)), f)
    stats = tuple(a.reshape(-1) for a in (mean, rstd, r, d)) if return_stats else ()
    return results(output.store(y), stats)
