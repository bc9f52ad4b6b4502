# SPDX-License-Identifier: MIT
"""fastnorm.reference - slow, readable twins of the compiled functions.

Same names, same arguments, same shapes, same errors for the same shapes; the results
are float64. Every formula here is the definition that docs and tests hold the compiled
code to.

All arithmetic is done in ``numpy.longdouble`` and rounded once at the end. Where that
type is the 80-bit or the 128-bit format (x86 with GCC or clang, AArch64 Linux) it has
15 bits of exponent, so that no finite float64 overflows when it is squared, and at
least 11 more bits of precision than float64, so that these functions can judge float64
results. Where ``longdouble`` is float64 (MSVC, macOS on ARM) they can judge float32
only.

``num_threads`` is accepted so that the signatures agree; NumPy decides here.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import Moments, MomentsState

__all__ = ["batch_norm", "layer_norm", "merge_moments", "moments", "rms_norm"]

_wide = np.longdouble
_Stats = tuple[NDArray[Any], ...]


def layer_norm(
    input: ArrayLike,
    normalized_shape: int | Sequence[int] | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    out: NDArray[Any] | None = None,
    axis: int | Sequence[int] | None = None,
    return_stats: bool = False,
    num_threads: int | None = None,  # noqa: ARG001
) -> NDArray[Any] | _Stats:
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

    Returns
    -------
    y : ndarray
        float64 (or `out`), shape of `input`.
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
    x = _numbers(input).astype(_wide)
    axes = _normalized_axes("layer_norm", x, normalized_shape, axis)
    w = _spread("layer_norm", "weight", weight, x, axes)
    b = _spread("layer_norm", "bias", bias, x, axes)
    deviations, mean, var = _deviations(x, axes)
    rstd = _rstd(var, _checked_eps("layer_norm", eps))
    y = _affine(_product(deviations, rstd), w, b)
    return _results(y, out, (mean, rstd) if return_stats else ())


def rms_norm(
    input: ArrayLike,
    normalized_shape: int | Sequence[int] | None,
    weight: ArrayLike | None = None,
    eps: float | None = None,
    *,
    out: NDArray[Any] | None = None,
    axis: int | Sequence[int] | None = None,
    return_stats: bool = False,
    num_threads: int | None = None,  # noqa: ARG001
) -> NDArray[Any] | _Stats:
    """Root-mean-square normalization: ``x / sqrt(mean(x**2) + eps) * weight``.

    Parameters
    ----------
    input, normalized_shape, weight, out, axis, num_threads
        As for `layer_norm`.
    eps : float, optional
        Inside the square root; by default the machine epsilon of the dtype of `input`
        (``2**-23`` for float32, ``2**-52`` for float64).
    return_stats : bool
        Also return rstd.

    Returns
    -------
    y : ndarray
        float64 (or `out`), shape of `input`.
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
    given = _numbers(input)
    x = given.astype(_wide)
    axes = _normalized_axes("rms_norm", x, normalized_shape, axis)
    w = _spread("rms_norm", "weight", weight, x, axes)
    if eps is None:
        kind = np.float32 if given.dtype == np.float32 else np.float64
        eps = float(np.finfo(kind).eps)
    rstd = _rstd(_mean(np.square(x), axes), _checked_eps("rms_norm", eps))
    y = _affine(_product(x, rstd), w, None)
    return _results(y, out, (rstd,) if return_stats else ())


def batch_norm(
    input: ArrayLike,
    running_mean: NDArray[Any] | None,
    running_var: NDArray[Any] | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    num_batches_tracked: int | None = None,
    out: NDArray[Any] | None = None,
    return_stats: bool = False,
    num_threads: int | None = None,  # noqa: ARG001
) -> NDArray[Any] | _Stats:
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
    out, num_threads
        As for `layer_norm`.
    return_stats : bool
        Also return the mean and rstd that were used.

    Returns
    -------
    y : ndarray
        float64 (or `out`), shape of `input`.
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
    x = _numbers(input).astype(_wide)
    if x.ndim == 0:
        raise ValueError("batch_norm: input has no axes")
    channel = _axis_index("batch_norm", channel_axis, x.ndim)
    w = _spread("batch_norm", "weight", weight, x, (channel,))
    b = _spread("batch_norm", "bias", bias, x, (channel,))
    eps = _checked_eps("batch_norm", eps)
    f = _new_weight(momentum, num_batches_tracked)
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: running_mean and running_var must come together")
    others = tuple(i for i in range(x.ndim) if i != channel)
    count = x.size // max(x.shape[channel], 1)
    if not training:
        if running_mean is None:
            raise ValueError("batch_norm: inference needs running_mean and running_var")
        mean = _spread("batch_norm", "running_mean", running_mean, x, (channel,))
        var = _spread("batch_norm", "running_var", running_var, x, (channel,))
        with np.errstate(invalid="ignore"):
            deviations = x - mean
    else:
        if x.size and count == 1:
            raise ValueError(
                "batch_norm: training needs more than one value per channel"
            )
        deviations, mean, var = _deviations(x, others)
        _spread("batch_norm", "running_mean", running_mean, x, (channel,))
        _spread("batch_norm", "running_var", running_var, x, (channel,))
        if running_mean is not None and running_var is not None:
            if f is None:
                raise ValueError("batch_norm: momentum=None needs num_batches_tracked")
            if x.size == 0:
                f = 0
            if f > 0:
                unbiased = var.reshape(-1) * (_wide(count) / (count - 1))
                running_mean[...] = (1 - f) * running_mean + f * mean.reshape(-1)
                running_var[...] = (1 - f) * running_var + f * unbiased
    rstd = _rstd(var, eps)
    y = _affine(_product(deviations, rstd), w, b)
    stats = (mean.reshape(-1), rstd.reshape(-1)) if return_stats else ()
    return _results(y, out, stats)


def moments(
    input: ArrayLike,
    axis: int | Sequence[int] | None = None,
    *,
    ddof: int = 0,
    keepdims: bool = False,
    return_state: bool = False,
    num_threads: int | None = None,  # noqa: ARG001
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

    Returns
    -------
    Moments or MomentsState
        float64; NaN where there are too few values.
    """
    x = _numbers(input).astype(_wide)
    axes = tuple(range(x.ndim)) if axis is None else _axes("moments", axis, x.ndim)
    if ddof < 0 or (return_state and ddof != 0):
        raise ValueError("moments: ddof must be >= 0, and 0 with return_state")
    count = math.prod(x.shape[i] for i in axes)
    _, mean, var = _deviations(x, axes)
    m2 = var * count
    if not keepdims:
        mean, m2 = mean.squeeze(axes), m2.squeeze(axes)
    if return_state:
        if count == 0:
            mean, m2 = np.zeros_like(mean), np.zeros_like(m2)
        return MomentsState(count, _rounded(mean), _rounded(m2))
    m2 = m2 / (count - ddof) if count > ddof else np.full(m2.shape, np.nan)
    return Moments(_rounded(mean), _rounded(m2))


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
        np.asarray(part, _wide) for part in (a.mean, a.m2, b.mean, b.m2)
    )
    delta = mean_b - mean_a
    mean = mean_a + delta * (_wide(b.count) / count)
    m2 = m2_a + m2_b + delta * delta * (_wide(a.count) * b.count / count)
    return MomentsState(count, _rounded(mean), _rounded(m2))


def _numbers(input: ArrayLike) -> NDArray[Any]:
    x = np.asarray(input)
    if x.dtype.kind not in "biuf":
        raise TypeError(f"input has dtype {x.dtype}, which is not a real number type")
    return x


def _mean(x: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
    """The mean over `axes`, kept as extents of 1; NaN over nothing."""
    kept = [1 if i in axes else n for i, n in enumerate(x.shape)]
    count = math.prod(x.shape[i] for i in axes)
    if count == 0:
        return np.full(kept, np.nan, _wide)
    # NumPy sums pairwise along the last axis only, and an error that grows with the
    # count is too much of one here.
    last = np.moveaxis(x, axes, range(x.ndim - len(axes), x.ndim))
    rows = np.ascontiguousarray(last).reshape(-1, count)
    with np.errstate(invalid="ignore"):
        means: NDArray[Any] = rows.sum(axis=1) / count
        return means.reshape(kept)


def _deviations(
    x: NDArray[Any], axes: tuple[int, ...]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Give x - mean, the mean and the variance over `axes`, kept as extents of 1.

    Far from zero no longdouble is near enough to the mean: what it lacks is the mean of
    the deviations from it.
    """
    mean = _mean(x, axes)
    with np.errstate(invalid="ignore"):
        deviations = x - mean
        low = _mean(deviations, axes)
        deviations = deviations - low
        return deviations, mean + low, _mean(np.square(deviations), axes)


def _rstd(var: NDArray[Any], eps: float) -> NDArray[Any]:
    """1 / sqrt(var + eps); 0 where that is 0, so that the result is the bias."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rstd = 1 / np.sqrt(var + _wide(eps))
    return np.where(var + _wide(eps) == 0, _wide(0), rstd)


def _product(x: NDArray[Any], rstd: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(invalid="ignore"):
        return np.asarray(x * rstd)


def _affine(
    y: NDArray[Any], weight: NDArray[Any] | None, bias: NDArray[Any] | None
) -> NDArray[Any]:
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def _rounded(x: ArrayLike) -> NDArray[np.float64]:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(x, dtype=np.float64)


def _results(
    y: NDArray[Any], out: NDArray[Any] | None, stats: _Stats
) -> NDArray[Any] | _Stats:
    if out is None:
        out = _rounded(y)
    elif out.shape != y.shape:
        raise ValueError(f"out has shape {out.shape}, input has {y.shape}")
    else:
        with np.errstate(over="ignore", under="ignore"):
            out[...] = y
    return (out, *(_rounded(s) for s in stats)) if stats else out


def _checked_eps(function: str, eps: float) -> float:
    if not 0 <= eps < np.inf:
        raise ValueError(
            f"{function}: eps is {eps}, it must be finite and not negative"
        )
    return float(eps)


def _axis_index(function: str, axis: int, ndim: int) -> int:
    index = operator.index(axis)
    if not -ndim <= index < ndim:
        raise ValueError(f"{function}: axis {index} is outside of {ndim} dimensions")
    return index % ndim


def _axes(function: str, axis: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    given = axis if isinstance(axis, Sequence) else (axis,)
    axes = sorted({_axis_index(function, i, ndim) for i in given})
    if len(axes) != len(given):
        raise ValueError(f"{function}: axis {axis} names an axis twice")
    return tuple(axes)


def _normalized_axes(
    function: str,
    x: NDArray[Any],
    normalized_shape: int | Sequence[int] | None,
    axis: int | Sequence[int] | None,
) -> tuple[int, ...]:
    """The axes to normalize over, ascending, after checking that they fit."""
    if normalized_shape is None:
        shape = None
    elif isinstance(normalized_shape, Sequence):
        shape = tuple(map(operator.index, normalized_shape))
    else:
        shape = (operator.index(normalized_shape),)
    if axis is None:
        if not shape:
            raise ValueError(f"{function}: normalized_shape or axis must name an axis")
        axes = tuple(range(x.ndim - len(shape), x.ndim))
    else:
        axes = _axes(function, axis, x.ndim)
        if not axes or axes != tuple(range(axes[0], axes[0] + len(axes))):
            raise ValueError(f"{function}: axis {axis} must be adjacent axes")
    if shape is not None and (axes[0] < 0 or shape != tuple(x.shape[i] for i in axes)):
        raise ValueError(
            f"{function}: normalized_shape {shape} does not fit input {x.shape}"
        )
    return axes


def _spread(
    function: str,
    name: str,
    values: ArrayLike | None,
    x: NDArray[Any],
    axes: tuple[int, ...],
) -> Any:
    """`values`, whose shape is that of `axes` of `x`, shaped to broadcast with `x`."""
    if values is None:
        return None
    array = _numbers(values).astype(_wide)
    wanted = tuple(x.shape[i] for i in axes)
    if array.shape != wanted:
        raise ValueError(f"{function}: {name} has shape {array.shape}, needs {wanted}")
    return array.reshape([n if i in axes else 1 for i, n in enumerate(x.shape)])


def _new_weight(momentum: float | None, num_batches_tracked: int | None) -> Any:
    """The weight of the new value in the running update; None if not given."""
    if momentum is None:
        if num_batches_tracked is None:
            return None
        if operator.index(num_batches_tracked) < 0:
            raise ValueError("batch_norm: num_batches_tracked is negative")
        return _wide(1) / (operator.index(num_batches_tracked) + 1)
    if num_batches_tracked is not None:
        raise ValueError("batch_norm: num_batches_tracked needs momentum=None")
    if not 0 <= momentum <= 1:
        raise ValueError(f"batch_norm: momentum is {momentum}, it must be in [0, 1]")
    return _wide(momentum)
