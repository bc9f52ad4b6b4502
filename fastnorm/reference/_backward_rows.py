# reference/_backward_rows.py - the gradients of layer_norm and rms_norm.
# SPDX-License-Identifier: MIT
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastnorm import Gradients

from ._arrays import (
    Array,
    Axes,
    checked_eps,
    fitted,
    mean_over,
    normalized_axes,
    product,
    reciprocal_deviation,
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
from ._elements import round_to, wide


def layer_norm_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    normalized_shape: Axes | None,
    weight: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    rstd: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    axis: Axes | None = None,
    out: Array | None = None,
    needs: Sequence[str] = ("input", "weight", "bias"),
    num_threads: int | None = None,  # noqa: ARG001
    flush_denormals: bool = False,
) -> Gradients:
    """The gradients of `layer_norm`.

    With ``G = grad_output * weight`` and means over the normalized axes::

        grad_input = rstd * (G - mean(G) - x_hat * mean(G * x_hat))
        grad_weight = sum(grad_output * x_hat)       over all other axes
        grad_bias = sum(grad_output)

    Parameters
    ----------
    grad_output : array_like
        Gradient of the output: shape of `input`.
    input, normalized_shape, weight, eps, axis
        As `layer_norm` had them.
    mean, rstd : array_like, optional
        What `layer_norm` returned with `return_stats`; both or neither. Computed from
        `input` and `eps` if not given. What the rounding of the mean lost is found
        again, so a mean of float32 is as good as any.
    out : ndarray, optional
        Receives grad_input, rounded to its dtype; may be `grad_output` or `input`.
    needs : sequence of str
        Which gradients: "input", "weight", "bias".
    num_threads : int, optional
        Has no effect here.
    flush_denormals : bool
        Elements of `input` and `grad_output`, and results, that are subnormal in the
        working type count as zero.

    Returns
    -------
    Gradients
        ``(input, weight, bias)``, float64 (or `out`); None for what is not in `needs`
        and for the weight where there is none.

    Raises
    ------
    TypeError
        If `needs` is a str, or an array has 8-bit elements.
    ValueError
        If shapes do not fit, `eps` is negative or not finite, or `needs` names what
        there is not.

    References
    ----------
    Ba, Kiros, Hinton: Layer Normalization. arXiv:1607.06450 (2016).
    """
    fn = "layer_norm_backward"
    pair = Pair(fn, grad_output, input, flush_denormals)
    axes = normalized_axes(fn, pair.x, normalized_shape, axis)
    w = spread(fn, "weight", weight, pair.x, axes)
    kept = tuple(1 if i in axes else n for i, n in enumerate(pair.x.shape))
    both_or_neither(fn, mean, rstd)
    wanted = checked_needs(fn, needs, ("input", "weight", "bias"), out, pair.x.shape)
    x_hat, scale = normalized(
        pair.x,
        axes,
        fitted(fn, "mean", mean, kept),
        fitted(fn, "rstd", rstd, kept),
        checked_eps(fn, eps),
    )
    grad_input = grad_weight = grad_bias = None
    if "input" in wanted:
        grad_input = through_statistics(times(pair.g, w), x_hat, scale, axes)
    if "weight" in wanted and w is not None:
        grad_weight = over_rows(product(pair.g, x_hat), axes)
    if "bias" in wanted:
        grad_bias = over_rows(pair.g, axes)
    return Gradients(
        pair.stored(grad_input, out),
        pair.stored(grad_weight, None),
        pair.stored(grad_bias, None),
    )


def rms_norm_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    normalized_shape: Axes | None,
    weight: ArrayLike | None = None,
    rstd: ArrayLike | None = None,
    eps: float | None = None,
    *,
    mode: str = "plain",
    axis: Axes | None = None,
    out: Array | None = None,
    needs: Sequence[str] = ("input", "weight"),
    num_threads: int | None = None,  # noqa: ARG001
    flush_denormals: bool = False,
) -> Gradients:
    """The gradients of `rms_norm`.

    With ``x_hat = input * rstd`` and ``G = grad_output * weight``::

        grad_input = rstd * (G - x_hat * mean(G * x_hat))
        grad_weight = sum(grad_output * x_hat)       over all other axes

    Parameters
    ----------
    grad_output, out, needs, num_threads, flush_denormals
        As for `layer_norm_backward`; there is no "bias".
    input, normalized_shape, weight, eps, axis
        As `rms_norm` had them.
    rstd : array_like, optional
        What `rms_norm` returned with `return_stats`.
    mode : str
        As `rms_norm` had it. "one_plus_weight": ``1 + weight``, rounded to the working
        type, takes the place of the weight. "cast_before_weight" is treated as "plain":
        rounding has the gradient 1.

    Returns
    -------
    Gradients
        ``(input, weight, None)``, as for `layer_norm_backward`.

    Raises
    ------
    TypeError, ValueError
        As for `layer_norm_backward`.

    References
    ----------
    Zhang, Sennrich: Root Mean Square Layer Normalization. arXiv:1910.07467 (2019).
    """
    fn = "rms_norm_backward"
    pair = Pair(fn, grad_output, input, flush_denormals)
    axes = normalized_axes(fn, pair.x, normalized_shape, axis)
    w = spread(fn, "weight", weight, pair.x, axes)
    kept = tuple(1 if i in axes else n for i, n in enumerate(pair.x.shape))
    scale = fitted(fn, "rstd", rstd, kept)
    if eps is None:
        eps = 2.0**-52 if pair.given.work == np.float64 else 2.0**-23
    if mode not in ("plain", "cast_before_weight", "one_plus_weight"):
        raise ValueError(f"{fn}: mode is {mode!r}, which is not one of them")
    if mode == "one_plus_weight" and w is not None:
        w = round_to(1 + w, pair.given.work).astype(wide)
    wanted = checked_needs(fn, needs, ("input", "weight"), out, pair.x.shape)
    eps = checked_eps(fn, eps)
    if scale is None:
        scale = reciprocal_deviation(mean_over(np.square(pair.x), axes), eps)
    x_hat = product(pair.x, scale)
    grad_input = grad_weight = None
    if "input" in wanted:
        gradient = times(pair.g, w)
        with np.errstate(invalid="ignore"):
            along = mean_over(gradient * x_hat, axes)
            grad_input = product(gradient - x_hat * along, scale)
    if "weight" in wanted and w is not None:
        grad_weight = over_rows(product(pair.g, x_hat), axes)
    return Gradients(pair.stored(grad_input, out), pair.stored(grad_weight, None), None)


def over_rows(x: Array, axes: tuple[int, ...]) -> Array:
    """The sum over all axes but `axes`."""
    others = tuple(i for i in range(x.ndim) if i not in axes)
    return total_over(x, others).reshape([x.shape[i] for i in axes])
