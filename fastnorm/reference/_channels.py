# reference/_channels.py - batch_norm.
# SPDX-License-Identifier: MIT
from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ._arrays import (
    Array,
    Input,
    affine,
    axis_index,
    checked_eps,
    product,
    reciprocal_deviation,
    spread,
)
from ._elements import Activation, round_to, wide
from ._masks import channel_masking, masked_deviations, too_few, unbiased
from ._results import Output, Results, results


def batch_norm(
    input: ArrayLike,
    running_mean: Array | None,
    running_var: Array | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    num_batches_tracked: int | None = None,
    out: Array | None = None,
    return_stats: bool = False,
    num_threads: int | None = None,  # noqa: ARG001
    post_add: ArrayLike | None = None,
    activation: Activation | None = None,
    out_dtype: DTypeLike | None = None,
    in_scale: float | None = None,
    in_zero_point: int | None = None,
    out_scale: float | None = None,
    out_zero_point: int | None = None,
    flush_denormals: bool = False,
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    masked: str = "zero",
) -> Results:
    """Batch normalization of each channel over all other axes.

    In training, mean and variance are those of `input` (the variance divided by the
    count), and the running arrays, if given, are updated in place::

        running = (1 - f) * running + f * observed

    with the unbiased variance (divided by the count - 1) as the observed one. Otherwise
    mean and variance are the running ones, which are only read.

    Parameters
    ----------
    input : array_like
        At least one axis besides, or instead of, the channels.
    running_mean, running_var : ndarray or None
        Shape [C]. Both or neither; needed if not training.
    weight, bias : array_like, optional
        Shape [C].
    training : bool
        Use the statistics of `input`.
    momentum : float or None
        f, the weight of the new value, from 0 to 1. None:
        ``1 / (num_batches_tracked + 1)``, the plain mean over all batches.
    eps : float
        Added to the variance, inside the square root.
    channel_axis : int
        The axis whose entries have their own statistics.
    num_batches_tracked : int, optional
        Batches already in the running arrays; needed, and allowed, only where
        `momentum` is None. The caller counts.
    return_stats : bool
        Also return the mean and rstd that were used.
    out, num_threads, post_add, activation, out_dtype, in_scale, in_zero_point, \
out_scale, out_zero_point, flush_denormals
        As for `layer_norm`; int8 and uint8 results need `out_scale`.
    mask : array_like of bool, float32 or float64, optional
        Broadcastable to `input`: what is False is in no statistics and in no count.
        Numbers are weights of the statistics.
    lengths : array_like of int, optional
        Of each sample (the first axis that is not the channels): how many of its first
        positions along the next axis take part.
    masked : str
        What stands in y for the others: "zero", or "keep" for the input's own value.

    Returns
    -------
    y : ndarray
        float64 (or `out`, or of `out_dtype`), shape of `input`.
    mean, rstd : ndarray
        Only with `return_stats`: float64, shape [C].

    Raises
    ------
    ValueError
        If shapes do not fit, one value per channel is to be trained on, only one
        running array is given, or `momentum` or `eps` is out of range.

    References
    ----------
    Ioffe, Szegedy: Batch Normalization. arXiv:1502.03167 (2015).
    """
    fn = "batch_norm"
    given = Input(fn, input, in_scale, in_zero_point, flush_denormals)
    x = given.x
    if x.ndim == 0:
        raise ValueError(f"{fn}: input has no axes")
    channel = axis_index(fn, channel_axis, x.ndim)
    w = spread(fn, "weight", weight, x, (channel,))
    b = spread(fn, "bias", bias, x, (channel,))
    eps = checked_eps(fn, eps)
    f = _new_weight(momentum, num_batches_tracked)
    running = _running(fn, running_mean, running_var, x, channel)
    output = Output(
        fn, given, out, out_dtype, out_scale, out_zero_point, post_add, activation
    )
    masking = channel_masking(fn, x, channel, mask, lengths, masked)
    x = masking.cleaned(x)
    if not training:
        deviations, mean, var = _stored_deviations(fn, running, x)
        rstd = reciprocal_deviation(var, eps)
    else:
        others = tuple(i for i in range(x.ndim) if i != channel)
        if x.size and x.size == x.shape[channel]:
            raise ValueError(f"{fn}: training needs more than one value per channel")
        deviations, mean, var, count = masked_deviations(x, masking.part, others)
        if x.size and too_few(masking.part, count, running is not None):
            raise ValueError(f"{fn}: training needs more than one value per channel")
        if running is not None:
            if f is None:
                raise ValueError(f"{fn}: momentum=None needs num_batches_tracked")
            if x.size and f > 0:
                _update(running_mean, running[0], mean, f, count)
                _update(running_var, running[1], unbiased(var, count), f, count)
        rstd = np.where(
            (count == 0) & (x.size > 0), wide(0), reciprocal_deviation(var, eps)
        )
    y = affine(product(deviations, rstd), w, b)
    stats = (mean.reshape(-1), rstd.reshape(-1)) if return_stats else ()
    return results(output.store(y, masking=masking), stats)


def _running(
    function: str,
    running_mean: Array | None,
    running_var: Array | None,
    x: Array,
    channel: int,
) -> tuple[Array, Array] | None:
    """The running arrays in longdouble, shaped to broadcast with `x`."""
    if (running_mean is None) != (running_var is None):
        raise ValueError(f"{function}: running_mean and running_var must come together")
    if running_mean is None:
        return None
    return (
        spread(function, "running_mean", running_mean, x, (channel,)),
        spread(function, "running_var", running_var, x, (channel,)),
    )


def _stored_deviations(
    function: str, running: tuple[Array, Array] | None, x: Array
) -> tuple[Array, Array, Array]:
    if running is None:
        raise ValueError(f"{function}: inference needs running_mean and running_var")
    with np.errstate(invalid="ignore"):
        return x - running[0], *running


def _update(
    target: Array | None, old: Array, observed: Array, f: Any, count: Any = 1
) -> None:
    """What is observed of a count of 0 is not."""
    if target is None:
        return
    with np.errstate(invalid="ignore"):
        new = (1 - f) * old.reshape(-1) + f * observed.reshape(-1)
    new = np.where(np.reshape(count, -1) == 0, old.reshape(-1), new)
    target[...] = round_to(new, target.dtype)


def _checked_momentum(function: str, momentum: float) -> Any:
    if not 0 <= momentum <= 1:
        raise ValueError(f"{function}: momentum is {momentum}, it must be in [0, 1]")
    return wide(momentum)


def _new_weight(momentum: float | None, num_batches_tracked: int | None) -> Any:
    """The weight of the new value in the running update; None if not given."""
    if momentum is None:
        if num_batches_tracked is None:
            return None
        if operator.index(num_batches_tracked) < 0:
            raise ValueError("batch_norm: num_batches_tracked is negative")
        return wide(1) / (operator.index(num_batches_tracked) + 1)
    if num_batches_tracked is not None:
        raise ValueError("batch_norm: num_batches_tracked needs momentum=None")
    return _checked_momentum("batch_norm", momentum)
