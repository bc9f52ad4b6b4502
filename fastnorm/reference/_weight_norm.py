# reference/_weight_norm.py - weight_norm.
# SPDX-License-Identifier: MIT
from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ._arrays import Array, Input, axis_index, mean_over, product, widened
from ._results import Output, Results, results


def weight_norm(
    v: ArrayLike,
    g: ArrayLike,
    dim: int | None = 0,
    *,
    out: Array | None = None,
    return_norm: bool = False,
    num_threads: int | None = None,  # noqa: ARG001
    flush_denormals: bool = False,
) -> Results:
    """``g * v / norm(v)``, the norm over all axes but `dim`; zeros stay zeros.

    Parameters
    ----------
    v : array_like
        At least one axis.
    g : array_like
        One number for each index of `dim`: of one axis, or with extents of 1 for the
        others. With ``dim=None`` one number.
    dim : int or None
        The axis that is kept; None: the norm is that of everything.
    out, num_threads, flush_denormals
        As for `layer_norm`.
    return_norm : bool
        Also return the norm.

    Returns
    -------
    w : ndarray
        float64 (or `out`), shape of `v`.
    norm : ndarray
        Only with `return_norm`: float64, v's shape with 1 for every axis but `dim`.

    Raises
    ------
    ValueError
        If shapes do not fit, or `dim` is no axis.

    References
    ----------
    Salimans, Kingma: Weight Normalization. arXiv:1602.07868 (2016).
    """
    fn = "weight_norm"
    given = Input(fn, v, flush_denormals=flush_denormals)
    x = given.x
    kept = [1] * x.ndim
    others = tuple(range(x.ndim))
    if dim is not None:
        axis = axis_index(fn, dim, x.ndim)
        kept[axis] = x.shape[axis]
        others = tuple(i for i in others if i != axis)
    lengths = widened(g)
    flat = () if dim is None else (math.prod(kept),)
    if lengths.shape not in (flat, (math.prod(kept),), tuple(kept)):
        raise ValueError(f"{fn}: g has shape {lengths.shape}, needs {tuple(kept)}")
    output = Output(fn, given, out, None, None, None)
    count = math.prod(x.shape[i] for i in others)
    with np.errstate(divide="ignore", invalid="ignore"):
        square = mean_over(np.square(x), others) if count else np.zeros(kept)
        norm = np.sqrt(square * count)
        reciprocal = np.where(norm == 0, 0, 1 / norm)
    w = product(product(x, reciprocal), lengths.reshape(kept))
    return results(output.store(w), (norm,) if return_norm else ())
