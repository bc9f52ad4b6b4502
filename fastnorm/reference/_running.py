# reference/_running.py - RunningMoments, which keeps all that it has seen.
# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._arrays import Array, Axes, Input, as_float64, axis_indices, widened
from ._elements import wide


class RunningMoments:
    """Every value of every batch is kept, and the statistics are their definitions.

    Parameters
    ----------
    axis : int, sequence of int or None
        The axes of a batch that are reduced; None reduces all.
    nan : {"propagate", "error", "omit"}
        What NaN means: see `fastnorm.RunningMoments`.
    num_threads : int, optional
        Has no effect here.
    flush_denormals : bool
        Values that are subnormal in float32, or float64 where they have that type,
        count as zero.

    Attributes
    ----------
    shape : tuple of int or None
        That of the features.
    """

    def __init__(
        self,
        axis: Axes | None = 0,
        *,
        nan: str = "propagate",
        num_threads: int | None = None,  # noqa: ARG002
        flush_denormals: bool = False,
    ) -> None:
        self.axis, self.nan, self.flush_denormals = axis, nan, flush_denormals
        self.shape: tuple[int, ...] | None = None
        self.values = self.weights = np.empty((0, 1), wide)

    def update(
        self,
        batch: ArrayLike,
        mask: ArrayLike | None = None,
        weights: ArrayLike | None = None,
    ) -> RunningMoments:
        """Take in a batch: rows of values and of weights, 0 where none takes part."""
        x = Input("update", batch, flush_denormals=self.flush_denormals).x
        every = tuple(range(x.ndim))
        axes = every if self.axis is None else axis_indices("update", self.axis, x.ndim)
        w = np.ones((), wide) if weights is None else widened(weights)
        if mask is not None:
            w = np.where(mask, w, wide(0))
        w = np.broadcast_to(w, x.shape)
        if self.nan == "omit":
            w = np.where(np.isnan(x), wide(0), w)
        elif self.nan == "error" and np.any(np.isnan(x) & (w > 0)):
            raise ValueError("update: batch holds NaN")
        shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
        if self.shape not in (None, shape):
            raise ValueError(f"update: features of {shape}, {self.shape} is needed")
        order = [*axes, *(i for i in every if i not in axes)]
        size = int(np.prod(shape, dtype=int))
        rows = [a.transpose(order).reshape(-1, size) if size else np.empty((0, 0), wide)
                for a in (x, w)]  # fmt: skip
        if self.shape is None:
            self.values = self.weights = np.empty((0, size), wide)
        self.shape = shape
        self.values = np.concatenate([self.values, rows[0]])
        self.weights = np.concatenate([self.weights, rows[1]])
        return self

    def _of_each(self, statistic: Any) -> Array:
        """`statistic` of the values that take part and their weights."""
        found = [
            statistic(v[w > 0], w[w > 0]) if np.any(w > 0) else wide(np.nan)
            for v, w in zip(self.values.T, self.weights.T, strict=True)
        ]
        return as_float64(np.array(found, wide).reshape(self.shape or ()))

    @property
    def count(self) -> Array:
        """How many values take part."""
        count: Array = np.sum(self.weights > 0, axis=0)
        return count.reshape(self.shape or ())

    @property
    def weight(self) -> Array:
        """The sum of their weights."""
        return as_float64(np.sum(self.weights, axis=0).reshape(self.shape or ()))

    @property
    def mean(self) -> Array:
        """The weighted mean."""
        return self._of_each(_mean)

    @property
    def min(self) -> Array:
        """The smallest value."""
        return self._of_each(lambda v, _: np.min(v))

    @property
    def max(self) -> Array:
        """The largest value."""
        return self._of_each(lambda v, _: np.max(v))

    def var(self, ddof: float = 0) -> Array:
        """The weighted sum of squared deviations, over the weight less `ddof`."""
        return self._of_each(lambda v, w: _var(v, w, ddof))

    def std(self, ddof: float = 0) -> Array:
        """The root of `var`."""
        return self._of_each(lambda v, w: np.sqrt(_var(v, w, ddof)))


def _mean(v: Array, w: Array) -> Any:
    with np.errstate(invalid="ignore"):
        mean = np.sum(v * w) / np.sum(w)
        if not np.isfinite(mean):
            return mean
        return mean + np.sum((v - mean) * w) / np.sum(w)


def _var(v: Array, w: Array, ddof: float) -> Any:
    if not np.sum(w) > ddof:
        return wide(np.nan)
    with np.errstate(invalid="ignore"):
        d = v - _mean(v, w)
        # The rounding of the mean, which is large beside values one unit apart.
        rest = np.sum(d * w) ** 2 / np.sum(w)
        return (np.sum(d**2 * w) - rest) / (np.sum(w) - ddof)
