# reference/_backward.py - what the gradients of all norms have in common.
# SPDX-License-Identifier: MIT
"""Of a loss L, `grad_output` is dL/dy, and what is returned is dL/d(argument).

Written ``g`` here, times the weight ``G``. Each norm is linear in the weight and bias,
and its input is ``x = mean + x_hat / rstd``; the rest is the chain rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._arrays import (
    Array,
    Input,
    as_float64,
    check_shape,
    deviations_over,
    fitted,
    flushed,
    mean_over,
    product,
    reciprocal_deviation,
)
from ._elements import is_byte, round_to


class Pair:
    """The input of a norm and the gradient of its output, widened.

    Attributes
    ----------
    g, x : ndarray
        The numbers, in longdouble.
    given : Input
        The input as it came.
    """

    def __init__(
        self,
        function: str,
        grad_output: ArrayLike,
        input: ArrayLike,
        flush_denormals: bool,
        name: str = "input",
    ) -> None:
        for key, value in (("grad_output", grad_output), (name, input)):
            if is_byte(np.asarray(value).dtype):
                raise TypeError(f"{function}: {key} has 8 bits, which no gradient has")
        self.function = function
        self.given = Input(function, input, flush_denormals=flush_denormals)
        self.x = self.given.x
        self.g = flushed(
            fitted(function, "grad_output", grad_output, self.x.shape), self.given.least
        )

    def stored(self, gradient: Array | None, out: Array | None) -> Any:
        """The gradient rounded once: to float64, or to the type of `out`; or None."""
        if gradient is None:
            return None
        found = flushed(gradient, self.given.least)
        if out is None:
            return as_float64(found)
        out[...] = round_to(found, out.dtype)
        return out


def checked_needs(
    function: str,
    needs: Sequence[str],
    known: tuple[str, ...],
    out: Array | None,
    shape: tuple[int, ...],
) -> set[str]:
    """What is asked for; `out` takes the first of them, which must then be wanted."""
    if isinstance(needs, str):
        raise TypeError(f"{function}: needs is a str, a sequence of names is needed")
    unknown = [name for name in needs if name not in known]
    if unknown:
        raise ValueError(f"{function}: needs names {unknown[0]!r}, not one of {known}")
    if out is not None and known[0] not in needs:
        raise ValueError(f"{function}: out is given and needs has no {known[0]!r}")
    check_shape(function, "out", out, shape)
    return set(needs)


def total_over(x: Array, axes: tuple[int, ...]) -> Array:
    """The sum over `axes`, kept as extents of 1; 0 over nothing."""
    kept = [1 if i in axes else n for i, n in enumerate(x.shape)]
    last = np.moveaxis(x, axes, range(x.ndim - len(axes), x.ndim))
    count = math.prod(x.shape[i] for i in axes)
    rows = np.ascontiguousarray(last).reshape(-1 if count else math.prod(kept), count)
    with np.errstate(invalid="ignore"):
        sums: Array = rows.sum(axis=1)
    return sums.reshape(kept)


def times(a: Array, b: Array | None) -> Array:
    return a if b is None else product(a, b)


def normalized(
    x: Array,
    axes: tuple[int, ...],
    mean: Array | None,
    rstd: Array | None,
    eps: float,
) -> tuple[Array, Array]:
    """x_hat and rstd of a norm of its own statistics.

    A mean that is given is that of x, rounded; here, where it is known to more digits,
    the rest of it is found again.
    """
    if mean is None or rstd is None:
        deviations, _, var = deviations_over(x, axes)
        rstd = reciprocal_deviation(var, eps)
    else:
        with np.errstate(invalid="ignore"):
            deviations = x - mean
            deviations = deviations - mean_over(deviations, axes)
    return product(deviations, rstd), rstd


def through_statistics(
    gradient: Array, x_hat: Array, rstd: Array, axes: tuple[int, ...]
) -> Array:
    """dL/dx of ``x_hat = (x - mean) * rstd`` with the mean and rstd of x itself.

    ``rstd * (G - mean(G) - x_hat * mean(G * x_hat))``: what shifts or scales all of x
    changes nothing, so those two parts of G are taken out.
    """
    with np.errstate(invalid="ignore"):
        centred, _, _ = deviations_over(gradient, axes)
        along = mean_over(centred * x_hat, axes)
        return product(centred - x_hat * along, rstd)


def both_or_neither(function: str, mean: Any, rstd: Any) -> None:
    if (mean is None) != (rstd is None):
        raise ValueError(f"{function}: mean and rstd must come together")
