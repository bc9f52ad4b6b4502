# reference/_rows.py - layer_norm, rms_norm, l2_norm, l1_norm and normalize.
# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ._arrays import (
    Array,
    Axes,
    Input,
    affine,
    axis_index,
    checked_eps,
    flushed,
    mean_over,
    normalized_axes,
    product,
    reciprocal_deviation,
    spread,
    stored_statistics,
)
from ._elements import Activation, round_to, wide
from ._masks import Masking, checked_lengths, first_of, masked_deviations
from ._results import Output, Results, residual_sum, results


def layer_norm(
    input: ArrayLike,
    normalized_shape: Axes | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
    axis: Axes | None = None,
    return_stats: bool = False,
    num_threads: int | None = None,  # noqa: ARG001
    residual: ArrayLike | None = None,
    residual_bias: ArrayLike | None = None,
    residual_out: Array | None = None,
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
    lengths: ArrayLike | None = None,
    masked: str = "zero",
) -> Results:
    """Layer normalization: ``(x - mean) / sqrt(var + eps) * weight + bias``.

    Parameters
    ----------
    input : array_like
        Any shape that has the normalized axes.
    normalized_shape : int or sequence of int or None
        Extents of the trailing axes that are normalized together; None with `axis`.
    weight, bias : array_like, optional
        Shape `normalized_shape`; ones and zeros if not given.
    eps : float
        Added to the variance, inside the square root.
    out : ndarray, optional
        Receives the result, rounded to its dtype; may be `input`.
    axis : int or sequence of int, optional
        Adjacent axes to normalize instead of the trailing ones.
    return_stats : bool
        Also return mean and rstd.
    num_threads : int, optional
        Has no effect here.
    residual, residual_bias : array_like, optional
        ``(input + residual) + residual_bias`` is what is normalized. Each sum is
        rounded to the working type: float64 for float64 input, else float32. Shapes of
        `input` and of `normalized_shape`.
    residual_out : ndarray, optional
        Receives that sum, rounded to its dtype; may be `residual`.
    post_add : array_like, optional
        Shape of `input`, added after weight and bias, before the activation.
    activation : str or tuple, optional
        See `activate`.
    out_dtype : dtype, optional
        Round the result to this type. int8 and uint8 without `out_scale` get a scale
        for each row, which is returned after y.
    in_scale, in_zero_point : number, optional
        What int8 and uint8 input stands for: see `dequantize`.
    out_scale, out_zero_point : number, optional
        See `quantize`.
    mean, var : array_like, optional
        Normalize by these; shape of `input` with normalized axes 1.
    flush_denormals : bool
        Elements of `input`, `residual` and `post_add`, and results, that are subnormal
        in the working type count as zero.
    lengths : array_like of int, optional
        Of the shape of the axes before the normalized ones: how many entries of the
        first normalized axis take part, from the first on.
    masked : str
        What stands in y for the others: "zero", or "keep" for the input's own value.

    Returns
    -------
    y : ndarray
        float64 (or `out`, or of `out_dtype`), shape of `input`.
    scale : ndarray of float32
        Only for int8 and uint8 results without `out_scale`: shape of `input` with
        normalized axes 1.
    mean, rstd : ndarray
        Only with `return_stats`: float64, shape of `input` with normalized axes 1.
        rstd is ``1 / sqrt(var + eps)``, and 0 where ``var + eps`` is 0.

    Raises
    ------
    ValueError
        If shapes do not fit or `eps` is negative or not finite.

    References
    ----------
    Ba, Kiros, Hinton: Layer Normalization. arXiv:1607.06450 (2016).
    """
    fn = "layer_norm"
    given = Input(fn, input, in_scale, in_zero_point, flush_denormals)
    axes = normalized_axes(fn, given.x, normalized_shape, axis)
    w = spread(fn, "weight", weight, given.x, axes)
    b = spread(fn, "bias", bias, given.x, axes)
    eps = checked_eps(fn, eps)
    kept = tuple(1 if i in axes else n for i, n in enumerate(given.x.shape))
    stored = stored_statistics(fn, mean, var, kept)
    output = Output(
        fn, given, out, out_dtype, out_scale, out_zero_point, post_add, activation
    )
    part = None
    if lengths is not None:
        if residual is not None or stored is not None or output.has_row_scales:
            raise ValueError(f"{fn}: lengths cannot be given with other statistics")
        before, most = given.x.shape[: axes[0]], given.x.shape[axes[0]]
        found = checked_lengths(fn, lengths, before, most)
        rows = given.x.reshape(-1, *given.x.shape[axes[0] :])
        part = first_of(found.reshape(-1), rows.shape, 0, 1).reshape(given.x.shape)
    masking = Masking(fn, part, masked, part is not None)
    x = residual_sum(fn, given, axes, residual, residual_bias, residual_out)
    x = masking.cleaned(x)
    if stored is None:
        deviations, centre, square, count = masked_deviations(x, part, axes)
    else:
        centre, square = stored
        with np.errstate(invalid="ignore"):
            deviations = x - centre
    rstd = reciprocal_deviation(square, eps)
    if part is not None:
        rstd = np.where((count == 0) & (x.size > 0), wide(0), rstd)
    y = affine(product(deviations, rstd), w, b)
    stats = (centre, rstd) if return_stats else ()
    return results(output.store(y, rows=axes, masking=masking), stats)


def rms_norm(
    input: ArrayLike,
    normalized_shape: Axes | None,
    weight: ArrayLike | None = None,
    eps: float | None = None,
    *,
    out: Array | None = None,
    axis: Axes | None = None,
    return_stats: bool = False,
    num_threads: int | None = None,  # noqa: ARG001
    residual: ArrayLike | None = None,
    residual_bias: ArrayLike | None = None,
    residual_out: Array | None = None,
    post_add: ArrayLike | None = None,
    activation: Activation | None = None,
    out_dtype: DTypeLike | None = None,
    in_scale: float | None = None,
    in_zero_point: int | None = None,
    out_scale: float | None = None,
    out_zero_point: int | None = None,
    mode: str = "plain",
    flush_denormals: bool = False,
) -> Results:
    """Root-mean-square normalization: ``x / sqrt(mean(x**2) + eps) * weight``.

    Parameters
    ----------
    input, normalized_shape, weight, out, axis, num_threads
        As for `layer_norm`.
    eps : float, optional
        Inside the square root; by default the machine epsilon of the working type
        (``2**-52`` for float64, else ``2**-23``).
    return_stats : bool
        Also return rstd.
    residual, residual_bias, residual_out, post_add, activation, out_dtype, in_scale, \
in_zero_point, out_scale, out_zero_point, flush_denormals
        As for `layer_norm`.
    mode : str
        "plain"; "cast_before_weight": ``x / sqrt(...)`` is rounded to the type of
        `input`, where that has 16 bits, before the weight (LLaMA, T5);
        "one_plus_weight": ``1 + weight``, rounded to the working type, is the weight
        (Gemma).

    Returns
    -------
    y : ndarray
        float64 (or `out`, or of `out_dtype`), shape of `input`.
    scale : ndarray of float32
        As for `layer_norm`.
    rstd : ndarray
        Only with `return_stats`: ``1 / sqrt(mean(x**2) + eps)``, float64, shape of
        `input` with normalized axes 1.

    Raises
    ------
    ValueError
        If shapes do not fit or `eps` is negative or not finite.

    References
    ----------
    Zhang, Sennrich: Root Mean Square Layer Normalization. arXiv:1910.07467 (2019).
    """
    fn = "rms_norm"
    given = Input(fn, input, in_scale, in_zero_point, flush_denormals)
    axes = normalized_axes(fn, given.x, normalized_shape, axis)
    w = spread(fn, "weight", weight, given.x, axes)
    if eps is None:
        eps = 2.0**-52 if given.work == np.float64 else 2.0**-23
    eps = checked_eps(fn, eps)
    if mode not in ("plain", "cast_before_weight", "one_plus_weight"):
        raise ValueError(f"{fn}: mode is {mode!r}, which is not one of them")
    output = Output(
        fn, given, out, out_dtype, out_scale, out_zero_point, post_add, activation
    )
    x = residual_sum(fn, given, axes, residual, residual_bias, residual_out)
    rstd = reciprocal_deviation(mean_over(np.square(x), axes), eps)
    y = product(x, rstd)
    if mode == "cast_before_weight" and given.dtype.name in ("float16", "bfloat16"):
        y = round_to(y, given.dtype).astype(np.float32).astype(wide)
    if mode == "one_plus_weight" and w is not None:
        w = round_to(1 + w, given.work).astype(wide)
    y = affine(y, w, None)
    return results(output.store(y, rows=axes), (rstd,) if return_stats else ())


def l2_norm(
    input: ArrayLike,
    axis: Axes = -1,
    eps: float = 1e-12,
    *,
    out: Array | None = None,
    return_norm: bool = False,
    num_threads: int | None = None,  # noqa: ARG001
    out_dtype: DTypeLike | None = None,
    in_scale: float | None = None,
    in_zero_point: int | None = None,
    out_scale: float | None = None,
    out_zero_point: int | None = None,
    flush_denormals: bool = False,
) -> Results:
    """Division by the Euclidean norm: ``x / max(sqrt(sum(x**2)), eps)``.

    Parameters
    ----------
    input : array_like
        Any shape.
    axis : int or sequence of int
        Adjacent axes that are normalized together.
    eps : float
        The least norm that is divided by.
    return_norm : bool
        Also return the norm.
    out, num_threads, out_dtype, in_scale, in_zero_point, out_scale, out_zero_point, \
flush_denormals
        As for `layer_norm`; int8 and uint8 results need `out_scale`.

    Returns
    -------
    y : ndarray
        float64 (or `out`, or of `out_dtype`), shape of `input`. Zeros stay zeros.
    norm : ndarray
        Only with `return_norm`: float64, shape of `input` with normalized axes 1.

    Raises
    ------
    ValueError
        If shapes do not fit or `eps` is negative or not finite.
    """
    return _by_norm(
        "l2_norm", np.square, input, axis, eps, out, return_norm, out_dtype, in_scale,
        in_zero_point, out_scale, out_zero_point, flush_denormals,
    )  # fmt: skip


def l1_norm(
    input: ArrayLike,
    axis: Axes = -1,
    eps: float = 1e-12,
    *,
    out: Array | None = None,
    return_norm: bool = False,
    num_threads: int | None = None,  # noqa: ARG001
    out_dtype: DTypeLike | None = None,
    in_scale: float | None = None,
    in_zero_point: int | None = None,
    out_scale: float | None = None,
    out_zero_point: int | None = None,
    flush_denormals: bool = False,
) -> Results:
    """Division by the sum of magnitudes: ``x / max(sum(abs(x)), eps)``.

    Parameters, results and errors are those of `l2_norm`.
    """
    return _by_norm(
        "l1_norm", np.abs, input, axis, eps, out, return_norm, out_dtype, in_scale,
        in_zero_point, out_scale, out_zero_point, flush_denormals,
    )  # fmt: skip


def _by_norm(
    fn: str, terms: Any, input: ArrayLike, axis: Axes, eps: float, out: Array | None,
    return_norm: bool, out_dtype: DTypeLike | None, in_scale: float | None,
    in_zero_point: int | None, out_scale: float | None, out_zero_point: int | None,
    flush_denormals: bool,
) -> Results:  # fmt: skip
    """Both norms: the sum of `terms`, or the root of it if they are squares."""
    given = Input(fn, input, in_scale, in_zero_point, flush_denormals)
    axes = normalized_axes(fn, given.x, None, axis)
    eps = checked_eps(fn, eps)
    output = Output(fn, given, out, out_dtype, out_scale, out_zero_point)
    last = np.moveaxis(given.x, axes, range(given.x.ndim - len(axes), given.x.ndim))
    kept = [1 if i in axes else n for i, n in enumerate(given.x.shape)]
    rows = last.reshape(*last.shape[: last.ndim - len(axes)], -1) if last.size else last
    if given.x.size:
        norm = terms(rows).sum(axis=-1).reshape(kept)
        norm = np.sqrt(norm) if terms is np.square else norm
    else:
        norm = np.zeros(kept, wide)
    with np.errstate(invalid="ignore", divide="ignore"):
        divisor = np.where(norm < wide(eps), wide(eps), norm)  # NaN stays NaN
        y = np.where(divisor == 0, wide(0), given.x / divisor)
    y = flushed(y, given.least)
    return results(output.store(y), (norm,) if return_norm else ())


def normalize(
    input: ArrayLike,
    p: float = 2.0,
    dim: int = 1,
    eps: float = 1e-12,
    *,
    out: Array | None = None,
    num_threads: int | None = None,
    out_dtype: DTypeLike | None = None,
    in_scale: float | None = None,
    in_zero_point: int | None = None,
    out_scale: float | None = None,
    out_zero_point: int | None = None,
    flush_denormals: bool = False,
) -> Any:
    """`l2_norm` (or, for a `p` of 1, `l1_norm`) along `dim`, called as torch has it.

    Raises
    ------
    ValueError
        If `p` is neither 1 nor 2, or as for `l2_norm`.
    """
    if p not in (1, 2):
        raise ValueError(f"normalize: p is {p}, only 1 and 2 are supported")
    return (l2_norm if p == 2 else l1_norm)(
        input,
        axis_index("normalize", dim, np.ndim(input)),
        eps,
        out=out,
        num_threads=num_threads,
        out_dtype=out_dtype,
        in_scale=in_scale,
        in_zero_point=in_zero_point,
        out_scale=out_scale,
        out_zero_point=out_zero_point,
        flush_denormals=flush_denormals,
    )
