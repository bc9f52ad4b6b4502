# reference/_backward_channels.py - the gradients of the norms of channels.
# SPDX-License-Identifier: MIT
from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnorm import Gradients

from ._arrays import (
    Array,
    axis_index,
    checked_eps,
    fitted,
    product,
    spread,
)
from ._backward import (
    Pair,
    both_or_neither,
    checked_needs,
    normalized,
    through_statistics,
    times,
    total_over,
)

ALL = ("input", "weight", "bias")


def batch_norm_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    rstd: ArrayLike | None = None,
    training: bool = True,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    out: Array | None = None,
    needs: Sequence[str] = ALL,
    num_threads: int | None = None,  # noqa: ARG001
    flush_denormals: bool = False,
) -> Gradients:
    """The gradients of `batch_norm`.

    In training, with sums and means over all axes but the channels::

        grad_input = weight * rstd * (g - mean(g) - x_hat * mean(g * x_hat))
        grad_weight = sum(g * x_hat)
        grad_bias = sum(g)

    Otherwise mean and rstd are constants: ``grad_input = g * weight * rstd``, and the
    other two as they are. ``g`` is grad_output.

    Parameters
    ----------
    grad_output, out, needs, num_threads, flush_denormals
        As for `layer_norm_backward`.
    input, weight, training, eps, channel_axis
        As `batch_norm` had them.
    mean, rstd : array_like, optional
        What `batch_norm` returned with `return_stats`: shape [C], both or neither.
        Needed if not training, and then taken as they are.

    Returns
    -------
    Gradients
        ``(input, weight, bias)``, as for `layer_norm_backward`.

    Raises
    ------
    TypeError
        As for `layer_norm_backward`.
    ValueError
        If shapes do not fit, one value per channel was trained on, mean and rstd are
        needed and missing, `eps` is negative or not finite, or `needs` names what there
        is not.

    References
    ----------
    Ioffe, Szegedy: Batch Normalization. arXiv:1502.03167 (2015), section 3.
    """
    return batch_renorm_gradients(
        "batch_norm_backward",
        Pair("batch_norm_backward", grad_output, input, flush_denormals),
        weight, mean, rstd, None, None, training, eps, channel_axis, out, needs,
    )  # fmt: skip


def batch_renorm_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    rstd: ArrayLike | None = None,
    r: ArrayLike | None = None,
    d: ArrayLike | None = None,
    training: bool = True,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    out: Array | None = None,
    needs: Sequence[str] = ALL,
    num_threads: int | None = None,  # noqa: ARG001
    flush_denormals: bool = False,
) -> Gradients:
    """The gradients of `batch_renorm`: ``y = (x_hat * r + d) * weight + bias``.

    r and d are constants, as the paper has it::

        grad_input = weight * r * rstd * (g - mean(g) - x_hat * mean(g * x_hat))
        grad_weight = sum(g * (x_hat * r + d))
        grad_bias = sum(g)

    Parameters
    ----------
    grad_output, input, weight, mean, rstd, training, eps, channel_axis, out, needs, \
num_threads, flush_denormals
        As for `batch_norm_backward`.
    r, d : array_like
        What `batch_renorm` returned with `return_stats`: shape [C]. Needed in training,
        and 1 and 0 otherwise if not given.

    Returns
    -------
    Gradients
        ``(input, weight, bias)``, as for `layer_norm_backward`.

    Raises
    ------
    TypeError, ValueError
        As for `batch_norm_backward`, and if r or d is missing.

    References
    ----------
    Ioffe: Batch Renormalization. arXiv:1702.03275 (2017), section 3.
    """
    fn = "batch_renorm_backward"
    if (r is None) != (d is None):
        raise ValueError(f"{fn}: r and d must come together")
    if training and r is None:
        raise ValueError(f"{fn}: training needs r and d")
    pair = Pair(fn, grad_output, input, flush_denormals)
    return batch_renorm_gradients(
        fn, pair, weight, mean, rstd, r, d, training, eps, channel_axis, out, needs
    )


def batch_renorm_gradients(
    fn: str,
    pair: Pair,
    weight: ArrayLike | None,
    mean: ArrayLike | None,
    rstd: ArrayLike | None,
    r: ArrayLike | None,
    d: ArrayLike | None,
    training: bool,
    eps: float,
    channel_axis: int,
    out: Array | None,
    needs: Sequence[str],
) -> Gradients:
    """Batch norm is the case of r = 1 and d = 0."""
    x = pair.x
    if x.ndim == 0:
        raise ValueError(f"{fn}: input has no axes")
    channel = axis_index(fn, channel_axis, x.ndim)
    given = {"weight": weight, "mean": mean, "rstd": rstd, "r": r, "d": d}
    w, centre, scale, factor, shift = (
        spread(fn, name, value, x, (channel,)) for name, value in given.items()
    )
    both_or_neither(fn, mean, rstd)
    eps = checked_eps(fn, eps)
    wanted = checked_needs(fn, needs, ALL, out, x.shape)
    others = tuple(i for i in range(x.ndim) if i != channel)
    if training:
        if x.size and math.prod(x.shape[i] for i in others) == 1:
            raise ValueError(f"{fn}: training needs more than one value per channel")
        x_hat, scale = normalized(x, others, centre, scale, eps)
    elif scale is None:
        raise ValueError(f"{fn}: inference needs mean and rstd")
    else:
        with np.errstate(invalid="ignore"):
            x_hat = product(x - centre, scale)
    grad_input = None
    if "input" in wanted:
        # Here the factors of a channel can wait until the end.
        grad_input = (
            through_statistics(pair.g, x_hat, scale, others)
            if training
            else product(pair.g, scale)
        )
        grad_input = times(times(grad_input, w), factor)
    x_hat = times(x_hat, factor)
    if shift is not None:
        x_hat = x_hat + shift
    return Gradients(
        pair.stored(grad_input, out),
        *_of_parameters(pair, x_hat, w, wanted, channel),
    )


def group_norm_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    rstd: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    out: Array | None = None,
    needs: Sequence[str] = ALL,
    num_threads: int | None = None,  # noqa: ARG001
    flush_denormals: bool = False,
) -> Gradients:
    """The gradients of `group_norm`: those of `layer_norm` within each group.

    With ``G = grad_output * weight`` and means over a group::

        grad_input = rstd * (G - mean(G) - x_hat * mean(G * x_hat))
        grad_weight = sum(grad_output * x_hat)       over samples and positions
        grad_bias = sum(grad_output)

    Parameters
    ----------
    grad_output, out, needs, num_threads, flush_denormals
        As for `layer_norm_backward`.
    input, num_groups, weight, eps, channel_axis
        As `group_norm` had them.
    mean, rstd : array_like, optional
        What `group_norm` returned with `return_stats`: shape [N, num_groups], both or
        neither.

    Returns
    -------
    Gradients
        ``(input, weight, bias)``, as for `layer_norm_backward`.

    Raises
    ------
    TypeError, ValueError
        As for `layer_norm_backward`.

    References
    ----------
    Wu, He: Group Normalization. arXiv:1803.08494 (2018).
    """
    fn = "group_norm_backward"
    pair, channel = _samples(fn, grad_output, input, channel_axis, flush_denormals)
    x = pair.x
    groups = operator.index(num_groups)
    if groups < 1 or x.shape[1] % groups:
        raise ValueError(f"{fn}: num_groups {groups} does not divide {x.shape[1]}")
    w = spread(fn, "weight", weight, x, (1,))
    both_or_neither(fn, mean, rstd)
    shape = (x.shape[0], groups, math.prod(x.shape[1:]) // groups)
    stats = [
        None if a is None else a[..., np.newaxis]
        for a in (
            fitted(fn, "mean", mean, shape[:2]),
            fitted(fn, "rstd", rstd, shape[:2]),
        )
    ]
    wanted = checked_needs(fn, needs, ALL, out, np.moveaxis(x, 1, channel).shape)
    x_hat, scale = normalized(
        x.reshape(shape), (2,), stats[0], stats[1], checked_eps(fn, eps)
    )
    grad_input = None
    if "input" in wanted:
        gradient = times(pair.g, w).reshape(shape)
        found = through_statistics(gradient, x_hat, scale, (2,)).reshape(x.shape)
        grad_input = np.moveaxis(found, 1, channel)
    return Gradients(
        pair.stored(grad_input, out),
        *_of_parameters(pair, x_hat.reshape(x.shape), w, wanted, 1),
    )


def instance_norm_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    rstd: ArrayLike | None = None,
    use_input_stats: bool = True,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    out: Array | None = None,
    needs: Sequence[str] = ALL,
    num_threads: int | None = None,  # noqa: ARG001
    flush_denormals: bool = False,
) -> Gradients:
    """The gradients of `instance_norm`: of `group_norm` with groups of one channel.

    Where `use_input_stats` is false, mean and rstd are constants, as for
    `batch_norm_backward` without training.

    Parameters
    ----------
    grad_output, out, needs, num_threads, flush_denormals
        As for `layer_norm_backward`.
    input, weight, use_input_stats, eps, channel_axis
        As `instance_norm` had them.
    mean, rstd : array_like, optional
        What `instance_norm` returned with `return_stats`: shape [N, C], both or
        neither. Needed where `use_input_stats` is false.

    Returns
    -------
    Gradients
        ``(input, weight, bias)``, as for `layer_norm_backward`.

    Raises
    ------
    TypeError, ValueError
        As for `batch_norm_backward`.

    References
    ----------
    Ulyanov, Vedaldi, Lempitsky: Instance Normalization. arXiv:1607.08022 (2016).
    """
    fn = "instance_norm_backward"
    pair, channel = _samples(fn, grad_output, input, channel_axis, flush_denormals)
    x = pair.x
    w = spread(fn, "weight", weight, x, (1,))
    centre = spread(fn, "mean", mean, x, (0, 1))
    scale = spread(fn, "rstd", rstd, x, (0, 1))
    both_or_neither(fn, mean, rstd)
    eps = checked_eps(fn, eps)
    wanted = checked_needs(fn, needs, ALL, out, np.moveaxis(x, 1, channel).shape)
    others = tuple(range(2, x.ndim))
    if use_input_stats:
        if math.prod(x.shape[2:]) == 1:
            raise ValueError(f"{fn}: more than one value per channel is needed")
        x_hat, scale = normalized(x, others, centre, scale, eps)
    elif scale is None:
        raise ValueError(f"{fn}: use_input_stats=False needs mean and rstd")
    else:
        with np.errstate(invalid="ignore"):
            x_hat = product(x - centre, scale)
    grad_input = None
    if "input" in wanted:
        found = (
            through_statistics(pair.g, x_hat, scale, others)
            if use_input_stats
            else product(pair.g, scale)
        )
        grad_input = np.moveaxis(times(found, w), 1, channel)
    return Gradients(
        pair.stored(grad_input, out), *_of_parameters(pair, x_hat, w, wanted, 1)
    )


def _samples(
    function: str,
    grad_output: ArrayLike,
    input: ArrayLike,
    channel_axis: int,
    flush_denormals: bool,
) -> tuple[Pair, int]:
    """Both arrays as [N, C, *], and where their channels were."""
    pair = Pair(function, grad_output, input, flush_denormals)
    if pair.x.ndim < 2:
        raise ValueError(
            f"{function}: input has {pair.x.ndim} axes, at least 2 are needed"
        )
    channel = axis_index(function, channel_axis, pair.x.ndim)
    pair.x = np.moveaxis(pair.x, channel, 1)
    pair.g = np.moveaxis(pair.g, channel, 1)
    return pair, channel


def _of_parameters(
    pair: Pair, factor: Array, weight: Any, wanted: set[str], channel: int
) -> tuple[Array | None, Array | None]:
    """The gradients of the weight, which is multiplied by `factor`, and the bias."""
    others = tuple(i for i in range(factor.ndim) if i != channel)
    grad_weight = grad_bias = None
    if "weight" in wanted and weight is not None:
        grad_weight = total_over(product(pair.g, factor), others).reshape(-1)
    if "bias" in wanted:
        grad_bias = total_over(pair.g, others).reshape(-1)
    return pair.stored(grad_weight, None), pair.stored(grad_bias, None)
