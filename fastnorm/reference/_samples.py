# reference/_samples.py - group_norm and instance_norm.
# SPDX-License-Identifier: MIT
from __future__ import annotations

import math
import operator

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
    stored_statistics,
)
from ._channels import _checked_momentum, _running, _stored_deviations, _update
from ._elements import Activation, wide
from ._masks import channel_masking, masked_deviations, too_few, unbiased
from ._results import Output, Results, results


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
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    masked: str = "zero",
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
    mask, lengths, masked
        As for `batch_norm`.

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
    masking = channel_masking(fn, given.x, channel, mask, lengths, masked)
    part = masking.moved(channel, 1)
    shape = (x.shape[0], groups, math.prod(x.shape[1:]) // groups)
    grouped = np.moveaxis(masking.cleaned(given.x), channel, 1).reshape(shape)
    if stored is None:
        deviations, centre, square, count = masked_deviations(
            grouped, None if part is None else part.reshape(shape), (2,)
        )
        rstd = _of_something(reciprocal_deviation(square, eps), count, part)
    else:
        centre, square = (a[..., np.newaxis] for a in stored)
        with np.errstate(invalid="ignore"):
            deviations = grouped - centre
        rstd = reciprocal_deviation(square, eps)
    y = affine(product(deviations, rstd).reshape(x.shape), w, b)
    stats = (centre[..., 0], rstd[..., 0]) if return_stats else ()
    return results(output.store(np.moveaxis(y, 1, channel), masking=masking), stats)


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
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    masked: str = "zero",
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
in_zero_point, out_scale, out_zero_point, flush_denormals, mask, lengths, masked
        As for `group_norm`. Means over the samples are weighted by their counts.
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
    masking = channel_masking(fn, given.x, channel, mask, lengths, masked)
    part = masking.moved(channel, 1)
    x = np.moveaxis(masking.cleaned(given.x), channel, 1)
    if not use_input_stats:
        deviations, mean, var = _stored_deviations(fn, running, x)
        rstd = reciprocal_deviation(var, eps)
    else:
        if math.prod(x.shape[2:]) == 1:
            raise ValueError(f"{fn}: more than one value per channel is needed")
        deviations, mean, var, count = masked_deviations(
            x, part, tuple(range(2, x.ndim))
        )
        if too_few(part, count, running is not None):
            raise ValueError(f"{fn}: more than one value per channel is needed")
        if running is not None and x.size and f > 0:
            total = count.sum(axis=0)
            share = wide(count) / np.where(total > 0, total, 1)
            spread_out = _total(unbiased(var, count), share)
            _update(running_mean, running[0], _total(mean, share), f, total)
            _update(running_var, running[1], spread_out, f, total)
        rstd = _of_something(reciprocal_deviation(var, eps), count, part)
    y = affine(product(deviations, rstd), w, b)
    stats: tuple[Array, ...] = ()
    if return_stats:
        every = (*x.shape[:2], *[1] * (x.ndim - 2))
        stats = tuple(
            np.broadcast_to(a, every).reshape(x.shape[:2]) for a in (mean, rstd)
        )
    return results(output.store(np.moveaxis(y, 1, channel), masking=masking), stats)


def _of_something(rstd: Array, count: Array, part: Array | None) -> Array:
    """0 where a mask leaves nothing."""
    return rstd if part is None else np.where(count == 0, wide(0), rstd)


def _total(values: Array, share: Array) -> Array:
    """The mean over the samples, by their shares; those of nothing do not count."""
    with np.errstate(invalid="ignore"):
        total: Array = np.where(share > 0, values * share, wide(0)).sum(axis=0)
        return total


def _samples(function: str, x: Array, channel_axis: int) -> tuple[Array, int]:
    """The input as [N, C, *], and where its channels were."""
    if x.ndim < 2:
        raise ValueError(f"{function}: input has {x.ndim} axes, at least 2 are needed")
    channel = axis_index(function, channel_axis, x.ndim)
    return np.moveaxis(x, channel, 1), channel
