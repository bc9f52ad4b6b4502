# fold.py - batch norm folded into the layer before it.
# SPDX-License-Identifier: MIT
"""fold_batch_norm: weights of a convolution or linear layer that contain its norm."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ._values import integer, real_array, rounded

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["fold_batch_norm"]

_NAME = "fold_batch_norm"
_FLOATS = ("float32", "float64", "float16", "bfloat16")


def fold_batch_norm(
    weight: ArrayLike,
    bias: ArrayLike | None,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    bn_weight: ArrayLike | None = None,
    bn_bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    transposed: bool = False,
    groups: int = 1,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights that do a convolution or linear layer and the batch norm after it.

    Parameters
    ----------
    weight : array_like of float32, float64, float16 or bfloat16
        Of a convolution of any rank, shape (out, in / groups, ...); with `transposed`
        (in, out / groups, ...); of a linear layer (out, in). Arrays of other libraries
        that NumPy or DLPack can read will do.
    bias : array_like of shape (out,), or None
        Of that layer; None stands for zeros.
    running_mean, running_var : array_like of shape (out,)
        The stored statistics of the batch norm.
    bn_weight, bn_bias : array_like of shape (out,), optional
        Its scale and shift; None stands for ones and zeros.
    eps : float, default 1e-5
        Its eps, inside the square root.
    transposed : bool, default False
        The layer is a transposed convolution.
    groups : int, default 1
        Groups of the convolution. Where the output channels are in `weight` depends on
        it for transposed ones only; for the others it must divide them.

    Returns
    -------
    weight, bias : ndarray of weight's dtype
        New arrays, of weight's shape and of shape (out,). The caller's are unchanged.

    Raises
    ------
    TypeError
        If an argument is no array of real numbers or `weight` not of floats.
    ValueError
        If shapes do not fit, `groups` does not divide the channels, `eps` or a variance
        is negative or NaN, or a folded value is too large for the dtype.

    Notes
    -----
    With ``scale = bn_weight / sqrt(running_var + eps)`` per output channel, 0 where the
    root is 0 as in `batch_norm`::

        weight = weight * scale
        bias = (bias - running_mean) * scale + bn_bias

    in float64, rounded once to weight's dtype. So with u half the distance from 1 to
    the next number of that dtype, the folded layer differs from the two by at most
    ``u * (sum(abs(weight * input)) + abs(bias))`` of the folded weight and bias, plus
    the rounding of whoever computes the convolution.

    This is for a norm that takes the output of the layer. A norm before a convolution
    that pads cannot be folded, because the padding would have to be normalized too, and
    is not covered.

    References
    ----------
    .. [1] S. Ioffe, C. Szegedy, "Batch Normalization", 2015, arXiv:1502.03167, 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> weight = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> fastnorm.fold_batch_norm(weight, None, [1.0, 0.0], [4.0, 1.0], eps=0.0)
    (array([[0.5, 1. ],
           [3. , 4. ]]), array([-0.5,  0. ]))
    """
    old = real_array(_NAME, "weight", weight)
    if old.dtype.name not in _FLOATS:
        raise TypeError(
            f"{_NAME}: weight has dtype {old.dtype}, one of {', '.join(_FLOATS)} is "
            "needed"
        )
    groups = integer(_NAME, "groups", groups)
    spread, places = _layout(old.shape, bool(transposed), groups)
    channels = math.prod(places)

    def wide(name: str, value: Any, default: float) -> NDArray[np.float64]:
        if value is None:
            return np.full(channels, default)
        array = real_array(_NAME, name, value).astype(np.float64)
        if array.shape != (channels,):
            raise ValueError(
                f"{_NAME}: {name} has shape {array.shape}, weight of shape "
                f"{old.shape} needs {(channels,)}"
            )
        return array

    if running_mean is None or running_var is None:
        raise TypeError(f"{_NAME}: running_mean and running_var are needed")
    # NaN and Inf of trained weights are the caller's: they pass without a warning.
    with np.errstate(invalid="ignore", over="ignore"):
        shift = wide("bias", bias, 0.0) - wide("running_mean", running_mean, 0.0)
        scale = _scale(
            wide("running_var", running_var, 1.0),
            wide("bn_weight", bn_weight, 1.0),
            float(eps),
        )
        new_weight = old.astype(np.float64).reshape(spread) * scale.reshape(places)
        new_bias = shift * scale + wide("bn_bias", bn_bias, 0.0)
    return (
        _stored("weight", new_weight.reshape(old.shape), old.dtype),
        _stored("bias", new_bias, old.dtype),
    )


def _layout(
    shape: tuple[int, ...], transposed: bool, groups: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape of weight, and that of the output channels which broadcasts with it."""
    if len(shape) < 2:
        raise ValueError(
            f"{_NAME}: weight has shape {shape}, at least 2 axes are needed"
        )
    if groups < 1 or shape[0] % groups != 0:
        whose = "input" if transposed else "output"
        raise ValueError(
            f"{_NAME}: groups is {groups}, which does not divide the {shape[0]} "
            f"{whose} channels"
        )
    if not transposed:
        return (shape[0], math.prod(shape[1:])), (shape[0], 1)
    inside = shape[0] // groups
    return (groups, inside, shape[1], math.prod(shape[2:])), (groups, 1, shape[1], 1)


def _scale(
    var: NDArray[np.float64], weight: NDArray[np.float64], eps: float
) -> NDArray[np.float64]:
    if not 0 <= eps < np.inf:
        raise ValueError(f"{_NAME}: eps is {eps}, a finite number >= 0 is needed")
    total = var + eps
    if not np.all(total >= 0):
        channel = int(np.argmin(total >= 0))
        raise ValueError(
            f"{_NAME}: running_var is {var[channel]} in channel {channel}, a number "
            ">= 0 is needed"
        )
    root = np.sqrt(total)
    return np.divide(weight, root, out=np.zeros_like(root), where=root > 0)


def _stored(
    name: str, values: NDArray[np.float64], dtype: np.dtype[Any]
) -> NDArray[Any]:
    result = rounded(values, dtype.newbyteorder("="))
    # What came in as Inf or NaN goes out as such; what was finite must not become so.
    if np.any(np.isfinite(values) & ~np.isfinite(result)):
        raise ValueError(f"{_NAME}: the folded {name} is too large for {dtype.name}")
    return result
