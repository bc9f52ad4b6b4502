# reference/_channels.py - batch_norm, group_norm and instance_norm.
# SPDX-License-Identifier: MIT
from __future__ import annotations

import math
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
    deviations_over,
    product,
    reciprocal_deviation,
    spread,
    stored_statistics,
)
from ._elements import Activation, round_to, wide
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
    if not training:
        deviations, mean, var = _stored_deviations(fn, running, x)
    else:
        others = tuple(i for i in range(x.ndim) if i != channel)
        count = math.prod(x.shape[i] for i in others)
        if x.size and count == 1:
            raise ValueError(f"{fn}: training needs more than one value per channel")
        deviations, mean, var = deviations_over(x, others)
        if running is not None:
            if f is None:
                raise ValueError(f"{fn}: momentum=None needs num_batches_tracked")
            if x.size and f > 0:
                unbiased = var * (wide(count) / (count - 1))
                _update(running_mean, running[0], mean, f)
                _update(running_var, running[1], unbiased, f)
    rstd = reciprocal_deviation(var, eps)
    y = affine(product(deviations, rstd), w, b)
    stats = (mean.reshape(-1), rstd.reshape(-1)) if return_stats else ()
    return results(output.store(y), stats)


def group_norm(
    input: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
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
    mean: ArrayLike | None = None,
    var: ArrayLike | None = None,
    flush_denormals: bool = False,
) -> Results:
    """Group normalization: each group of adjacent channels of each sample by its own.

    Parameters
    ----------
    input : array_like
        At least two axes: the channels, and the samples, which are the first of the
        other axes. All others are positions.
    num_groups : int
        How many groups the channels form; divides their number.
    weight, bias : array_like, optional
        Shape [C].
    eps : float
        Added to the variance, inside the square root.
    channel_axis : int
        The axis of the channels.
    return_stats : bool
        Also return mean and rstd.
    mean, var : array_like, optional
        Normalize by these; shape [N, num_groups].
    out, num_threads, post_add, activation, out_dtype, in_scale, in_zero_point, \
out_scale, out_zero_point, flush_denormals
        As for `layer_norm`; int8 and uint8 results need `out_scale`.

    Returns
    -------
    y : ndarray
        float64 (or `out`, or of `out_dtype`), shape of `input`.
    mean, rstd : ndarray
        Only with `return_stats`: float64, shape [N, num_groups].

    Raises
    ------
    ValueError
        If shapes do not fit or `eps` is negative or not finite.

    References
    ----------
    Wu, He: Group Normalization. arXiv:1803.08494 (2018).
    """
    fn = "group_norm"
    given = Input(fn, input, in_scale, in_zero_point, flush_denormals)
    x, channel = _samples(fn, given.x, channel_axis)
    groups = operator.index(num_groups)
    if groups < 1 or x.shape[1] % groups:
        raise ValueError(f"{fn}: num_groups {groups} does not divide {x.shape[1]}")
    w = spread(fn, "weight", weight, x, (1,))
    b = spread(fn, "bias", bias, x, (1,))
    eps = checked_eps(fn, eps)
    stored = stored_statistics(fn, mean, var, (x.shape[0], groups))
    output = Output(
        fn, given, out, out_dtype, out_scale, out_zero_point, post_add, activation
    )
    size = math.prod(x.shape[1:]) // groups
    grouped = x.reshape(x.shape[0], groups, size)
    if stored is None:
        deviations, centre, square = deviations_over(grouped, (2,))
    else:
        centre, square = (a[..., np.newaxis] for a in stored)
        with np.errstate(invalid="ignore"):
            deviations = grouped - centre
    rstd = reciprocal_deviation(square, eps)
    y = affine(product(deviations, rstd).reshape(x.shape), w, b)
    stats = (centre[..., 0], rstd[..., 0]) if return_stats else ()
    return results(output.store(np.moveaxis(y, 1, channel)), stats)


def instance_norm(
    input: ArrayLike,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
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
) -> Results:
    """Instance normalization: each channel of each sample by its own statistics.

    The running arrays, if given, are updated in place as by `batch_norm`, by the means
    over the samples of their means and unbiased variances.

    Parameters
    ----------
    input : array_like
        As for `group_norm`.
    running_mean, running_var : ndarray or None
        Shape [C]. Both or neither.
    weight, bias : array_like, optional
        Shape [C].
    use_input_stats : bool
        If not, normalize by the running arrays, which are then needed and only read.
    momentum : float
        The weight of the new value, from 0 to 1.
    eps, channel_axis, out, num_threads, post_add, activation, out_dtype, in_scale, \
in_zero_point, out_scale, out_zero_point, flush_denormals
        As for `group_norm`.
    return_stats : bool
        Also return the mean and rstd that were used.

    Returns
    -------
    y : ndarray
        float64 (or `out`, or of `out_dtype`), shape of `input`.
    mean, rstd : ndarray
        Only with `return_stats`: float64, shape [N, C].

    Raises
    ------
    ValueError
        If shapes do not fit, a sample has one value per channel (unless
        `use_input_stats` is false), or `momentum` or `eps` is out of range.

    References
    ----------
    Ulyanov, Vedaldi, Lempitsky: Instance Normalization. arXiv:1607.08022 (2016).
    """
    fn = "instance_norm"
    given = Input(fn, input, in_scale, in_zero_point, flush_denormals)
    x, channel = _samples(fn, given.x, channel_axis)
    w = spread(fn, "weight", weight, x, (1,))
    b = spread(fn, "bias", bias, x, (1,))
    eps = checked_eps(fn, eps)
    f = _checked_momentum(fn, momentum)
    running = _running(fn, running_mean, running_var, x, 1)
    output = Output(
        fn, given, out, out_dtype, out_scale, out_zero_point, post_add, activation
    )
    if not use_input_stats:
        deviations, mean, var = _stored_deviations(fn, running, x)
    else:
        count = math.prod(x.shape[2:])
        if count == 1:
            raise ValueError(f"{fn}: more than one value per channel is needed")
        deviations, mean, var = deviations_over(x, tuple(range(2, x.ndim)))
        if running is not None and x.size and f > 0:
            unbiased = var * (wide(count) / (count - 1))
            _update(running_mean, running[0], mean.mean(axis=0), f)
            _update(running_var, running[1], unbiased.mean(axis=0), f)
    rstd = reciprocal_deviation(var, eps)
    y = affine(product(deviations, rstd), w, b)
    stats: tuple[Array, ...] = ()
    if return_stats:
        every = (*x.shape[:2], *[1] * (x.ndim - 2))
        stats = tuple(
            np.broadcast_to(a, every).reshape(x.shape[:2]) for a in (mean, rstd)
        )
    return results(output.store(np.moveaxis(y, 1, channel)), stats)


def _samples(function: str, x: Array, channel_axis: int) -> tuple[Array, int]:
    """The input as [N, C, *], and where its channels were."""
    if x.ndim < 2:
        raise ValueError(f"{function}: input has {x.ndim} axes, at least 2 are needed")
    channel = axis_index(function, channel_axis, x.ndim)
    return np.moveaxis(x, channel, 1), channel


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


def _update(target: Array | None, old: Array, observed: Array, f: Any) -> None:
    if target is None:
        return
    with np.errstate(invalid="ignore"):
        new = (1 - f) * old.reshape(-1) + f * observed.reshape(-1)
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
