# tables.py - stored mean and deviation applied to a table, and taken off again.
# SPDX-License-Identifier: MIT
"""standardize and unstandardize: features by statistics that the caller has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ._core import batch_norm
from ._values import integer, real_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    _Array = NDArray[Any]

__all__ = ["standardize", "unstandardize"]


def standardize(
    x: ArrayLike,
    mean: ArrayLike,
    std: ArrayLike,
    axis: int = -1,
    *,
    out: _Array | None = None,
    out_dtype: DTypeLike | None = None,
    num_threads: int | None = None,
) -> _Array:
    """Subtract each feature's mean and divide by its standard deviation.

    Parameters
    ----------
    x : array_like
        Of the types and layouts that `batch_norm` takes; features along `axis`.
    mean, std : array_like of shape (features,) or ()
        Of any real type; in float64 they lose nothing, also where x is narrower. One
        number stands for all features.
    axis : int, default -1
        The axis of the features.
    out : ndarray of x's shape, optional
        Written and returned; may be `x` itself.
    out_dtype : dtype, optional
        Of the result, as for `batch_norm`.
    num_threads : int, optional
        At most this many threads, for this call; see `set_num_threads`.

    Returns
    -------
    y : ndarray of x's shape and dtype (float32 where x is 8-bit)
        `out` if given.

    Raises
    ------
    TypeError
        If `x` is of a type that `batch_norm` does not take, or `mean` or `std` is no
        array of real numbers.
    ValueError
        If shapes do not fit, `std` has a negative value, a mean is beyond the range of
        x's type, or arrays overlap. Nothing has been written then.

    See Also
    --------
    unstandardize : the inverse.
    moments : mean and variance of a table.
    batch_norm : with ``training=True, eps=0`` by the table's own statistics.

    Notes
    -----
    A feature whose `std` is 0 becomes 0, as by ``fastnorm normalize --op standardize``
    (scikit-learn divides it by 1). NaN or Inf in one feature, or its statistics, stay
    in it.

    ``y = (x - m) * (1 / std) + (m - mean) / std`` where m is `mean` rounded to the
    working type (float64 for float64, else float32), each quotient from float64 and
    rounded once. With u = 2**-24 (float32) or 2**-53 (float64) the error is at most
    ``3 * u * (abs(y) + u * abs(mean) / std)``: up to 3 units in the last place, also
    where the mean is large.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> fastnorm.standardize(np.array([[1.0, 5.0], [3.0, 9.0]]), [1.0, 7.0], [2.0, 1.0])
    array([[ 0., -2.],
           [ 1.,  2.]])
    """
    axis, mean, std, work = _given("standardize", "x", x, mean, std, axis)
    near = _near("standardize", mean, work)
    ones, inverse = _inverse("standardize", std, work)
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        rest = np.where(std > 0, (near.astype(np.float64) - mean) / std, 0.0)
        shift = rest.astype(work)
    parameters = near, ones, inverse, shift
    return _apply("standardize", "x", x, parameters, axis, out, out_dtype, num_threads)


def unstandardize(
    y: ArrayLike,
    mean: ArrayLike,
    std: ArrayLike,
    axis: int = -1,
    *,
    out: _Array | None = None,
    out_dtype: DTypeLike | None = None,
    num_threads: int | None = None,
) -> _Array:
    """Multiply each feature by its standard deviation and add its mean.

    Parameters
    ----------
    y : array_like
        What `standardize` returned; of the types and layouts that `batch_norm` takes.
    mean, std, axis, out, out_dtype, num_threads
        As for `standardize`.

    Returns
    -------
    x : ndarray of y's shape and dtype (float32 where y is 8-bit)
        `out` if given.

    Raises
    ------
    TypeError, ValueError
        As by `standardize`; also if `std` is beyond the range of y's type.

    Notes
    -----
    ``x = y * std + mean`` with one rounding, `mean` and `std` first rounded to the
    working type: with u as in `standardize` the error is at most
    ``u * (abs(x) + abs(y * std) + abs(mean))``, and ``u * abs(x)`` for float64. A
    feature whose `std` is 0 becomes its mean.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> fastnorm.unstandardize(np.array([[0.0, -2.0]]), [1.0, 7.0], [2.0, 1.0])
    array([[1., 5.]])
    """
    axis, mean, std, work = _given("unstandardize", "y", y, mean, std, axis)
    zeros, ones = np.zeros(mean.shape, work), np.ones(mean.shape, work)
    scale = _near("unstandardize", std, work, "std")
    shift = _near("unstandardize", mean, work)
    parameters = zeros, ones, scale, shift
    return _apply(
        "unstandardize", "y", y, parameters, axis, out, out_dtype, num_threads
    )


def _given(
    function: str,
    called: str,
    x: ArrayLike,
    mean: ArrayLike,
    std: ArrayLike,
    axis: int,
) -> tuple[int, _Array, _Array, np.dtype[Any]]:
    """The axis of features, mean and std of each in float64, and the working type."""
    table = real_array(function, called, x)
    axis = integer(function, "axis", axis)
    if not -table.ndim <= axis < table.ndim:
        raise ValueError(f"{function}: axis is {axis}, {called} has {table.ndim} axes")
    features = (table.shape[axis],)
    wide = []
    for name, value in (("mean", mean), ("std", std)):
        array = real_array(function, name, value).astype(np.float64)
        if array.shape not in (features, ()):
            raise ValueError(
                f"{function}: {name} has shape {array.shape}, {called} of shape "
                f"{table.shape} needs {features}"
            )
        wide.append(np.broadcast_to(array, features))
    if np.any(wide[1] < 0):
        feature = int(np.argmax(wide[1] < 0))
        raise ValueError(
            f"{function}: std is {wide[1][feature]} in feature {feature}, a number "
            ">= 0 is needed"
        )
    work = np.dtype(np.float64 if table.dtype == np.float64 else np.float32)
    return axis, wide[0], wide[1], work


def _near(
    function: str, values: _Array, work: np.dtype[Any], name: str = "mean"
) -> _Array:
    with np.errstate(over="ignore", under="ignore"):
        near: _Array = values.astype(work)
    lost = np.isfinite(values) & ~np.isfinite(near)
    if np.any(lost):
        feature = int(np.argmax(lost))
        raise ValueError(
            f"{function}: {name} is {values[feature]} in feature {feature}, beyond the "
            f"range of {work.name}"
        )
    return near


def _inverse(function: str, std: _Array, work: np.dtype[Any]) -> tuple[_Array, _Array]:
    """Two arrays, var and weight, such that ``weight / sqrt(var) = 1 / std``.

    They are 1 and 1 / std, but where 1 / std overflows or is subnormal: there a power
    of two goes into var.
    """
    exponent = 50 if work == np.float32 else 500
    least = float(np.finfo(work).smallest_normal)
    small, large = std < 4 * least, std > 0.25 / least
    move = np.where(small, exponent, np.where(large, -exponent, 0))
    # Divided by Inf, a feature whose std is 0 gets the weight 0.
    divisor = np.where(std == 0, np.inf, np.ldexp(std, move))
    with np.errstate(over="ignore", under="ignore"):
        weight = (1.0 / divisor).astype(work)
    if np.any(np.isinf(weight)):
        feature = int(np.argmax(np.isinf(weight)))
        raise ValueError(
            f"{function}: std is {std[feature]} in feature {feature}, too small for "
            f"{work.name}"
        )
    return np.ldexp(1.0, -2 * move).astype(work), weight


def _apply(
    function: str,
    called: str,
    table: ArrayLike,
    parameters: tuple[_Array, ...],
    axis: int,
    out: _Array | None,
    out_dtype: DTypeLike | None,
    num_threads: int | None,
) -> _Array:
    mean, var, weight, bias = parameters
    options: dict[str, Any] = {} if out_dtype is None else {"out_dtype": out_dtype}
    try:
        result: _Array = batch_norm(
            table, mean, var, weight, bias, eps=0.0, channel_axis=axis, out=out,
            num_threads=num_threads, **options,
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        words = re.sub(r"\binput\b", called, str(error).removeprefix("batch_norm: "))
        raise type(error)(f"{function}: {words}") from None
    return result
