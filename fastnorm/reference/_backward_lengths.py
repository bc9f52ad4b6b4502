# reference/_backward_lengths.py - the gradients of l2_norm and weight_norm.
# SPDX-License-Identifier: MIT
"""Both divide a vector by its length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ._arrays import (
    Array,
    Axes,
    axis_index,
    checked_eps,
    normalized_axes,
    product,
    widened,
)
from ._backward import Pair, checked_needs, total_over
from ._elements import wide


def l2_norm_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    axis: Axes = -1,
    eps: float = 1e-12,
    *,
    out: Array | None = None,
    num_threads: int | None = None,  # noqa: ARG001
    flush_denormals: bool = False,
) -> Array:
    """The gradient of `l2_norm`.

    With ``y = input / norm`` and sums over `axis`::

        grad_input = (g - y * sum(g * y)) / norm      where norm >= eps
        grad_input = g / eps                          elsewhere

    and 0 where both norm and eps are 0. ``g`` is grad_output.

    Parameters
    ----------
    grad_output, out, num_threads, flush_denormals
        As for `layer_norm_backward`.
    input, axis, eps
        As `l2_norm` had them.

    Returns
    -------
    ndarray
        float64 (or `out`), shape of `input`.

    Raises
    ------
    TypeError
        If an array has 8-bit elements.
    ValueError
        If shapes do not fit or `eps` is negative or not finite.
    """
    fn = "l2_norm_backward"
    pair = Pair(fn, grad_output, input, flush_denormals)
    axes = normalized_axes(fn, pair.x, None, axis)
    eps = checked_eps(fn, eps)
    checked_needs(fn, ("input",), ("input",), out, pair.x.shape)
    norm = np.sqrt(total_over(np.square(pair.x), axes))
    _, across = _parts(pair, norm, axes)
    with np.errstate(invalid="ignore", divide="ignore"):
        short = pair.g / wide(eps) if eps > 0 else np.zeros_like(pair.g)
        gradient = np.where((norm < wide(eps)) | (norm == 0), short, across / norm)
    found: Array = pair.stored(np.asarray(gradient), out)
    return found


def weight_norm_backward(
    grad_output: ArrayLike,
    v: ArrayLike,
    g: ArrayLike,
    dim: int | None = 0,
    *,
    norm: ArrayLike | None = None,
    out: Array | None = None,
    needs: Sequence[str] = ("v", "g"),
    num_threads: int | None = None,  # noqa: ARG001
    flush_denormals: bool = False,
) -> tuple[Array | None, Array | None]:
    """The gradients of `weight_norm`, ``w = g * v / norm``.

    With ``u = v / norm`` and sums over all axes but `dim`::

        grad_g = sum(grad_output * u)
        grad_v = g / norm * (grad_output - u * grad_g)

    Both are 0 where the norm is 0.

    Parameters
    ----------
    grad_output : array_like
        Gradient of the weight w: shape of `v`.
    v, g, dim
        As `weight_norm` had them.
    norm : array_like, optional
        That of `v`, in the shape of `v` with 1 for all axes but `dim`.
    out : ndarray, optional
        Receives grad_v, rounded to its dtype; may be `grad_output` or `v`.
    needs : sequence of str
        Which gradients: "v", "g".
    num_threads, flush_denormals
        As for `layer_norm_backward`.

    Returns
    -------
    grad_v, grad_g : ndarray or None
        float64 (or `out`), shapes of `v` and `g`; None for what is not in `needs`.

    Raises
    ------
    TypeError
        If `needs` is a str, or an array has 8-bit elements.
    ValueError
        If shapes do not fit, or `needs` names what there is not.

    References
    ----------
    Salimans, Kingma: Weight Normalization. arXiv:1602.07868 (2016), equation 3.
    """
    fn = "weight_norm_backward"
    pair = Pair(fn, grad_output, v, flush_denormals, "v")
    x = pair.x
    kept = None if dim is None else axis_index(fn, dim, x.ndim)
    others = tuple(i for i in range(x.ndim) if i != kept)
    lengths = tuple(n if i == kept else 1 for i, n in enumerate(x.shape))
    length = 1 if kept is None else x.shape[kept]
    scale = widened(g)
    if scale.shape not in ((length,), lengths, () if kept is None else lengths):
        raise ValueError(f"{fn}: g has shape {scale.shape}, needs {lengths}")
    wanted = checked_needs(fn, needs, ("v", "g"), out, x.shape)
    if norm is None:
        size = np.sqrt(total_over(np.square(x), others))
    else:
        size = widened(norm).reshape(lengths)
    along, across = _parts(pair, size, others)
    grad_v = grad_g = None
    if "v" in wanted:
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = np.where(size == 0, wide(0), scale.reshape(lengths) / size)
            grad_v = np.where(size == 0, wide(0), product(across, factor))
    if "g" in wanted:
        grad_g = along.reshape(scale.shape)
    return pair.stored(grad_v, out), pair.stored(grad_g, None)


def _parts(pair: Pair, norm: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """The gradient's length along x, 0 where x is, and its part across x."""
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = np.where(norm == 0, wide(0), pair.x / norm)
        along = total_over(pair.g * unit, axes)
        return along, np.asarray(pair.g - unit * along)
