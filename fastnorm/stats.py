# stats.py - statistics of data that come in batches.
# SPDX-License-Identifier: MIT
"""RunningMoments; and by name what is in fastnorm.population.

Whole-dataset statistics without the whole dataset in memory: batches are taken in one
by one, in any number of threads or processes, and what each has found is merged.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import _core
from ._states import as_arrays, as_dict, axis_of, ddof_of, no_values, of_dict, of_file
from ._values import integer

if TYPE_CHECKING:
    import os

    from numpy.typing import ArrayLike

    from ._core import _Input
    from .population import calibrate, momentum

    _Nan = Literal["propagate", "error", "omit"]

__all__ = ["RunningMoments", "calibrate", "momentum"]

_NAN = ("propagate", "error", "omit")


class RunningMoments:
    """Count, mean, variance, minimum and maximum of batches, feature by feature.

    The features are the axes that are not reduced: of a table ``[N, C]`` its columns,
    of images ``[N, H, W, C]`` with ``axis=(0, 1, 2)`` their channels. The shape of the
    features is fixed by the first batch; the reduced axes may have any extent.

    Parameters
    ----------
    axis : int, sequence of int or None, default 0
        The axes of a batch that are reduced; None reduces all.
    nan : {"propagate", "error", "omit"}, default "propagate"
        What NaN means: the statistics of its feature are NaN; the batch is refused and
        nothing changes; or the value is missing, and each feature has a count of its
        own. Inf is a value like others: the mean becomes Inf or NaN, the variance NaN.
    num_threads : int, optional
        At most this many threads for a batch; see `set_num_threads`.
    flush_denormals : bool, default False
        Count subnormal numbers as zero, which is faster where there are many.

    Attributes
    ----------
    axis, nan : as given
    shape : tuple of int or None
        That of the features; None before the first batch.
    count : ndarray of int64
        How many values have been taken in, of `shape`; 0 before the first batch.
    weight : ndarray of float64
        The sum of their weights; the count where there are none.
    mean, min, max : ndarray of float64
        NaN where there are no values.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    See Also
    --------
    fastnorm.moments : the same of one array.

    Notes
    -----
    A state holds, in float64, the mean and the sum of squared deviations of each
    feature, each with the part that one float64 cannot hold, never a sum of squares.
    Batches of float32 and 16-bit elements are summed in float64, the sums of 8-bit ones
    are exact whole numbers, and states are merged by the formulae of [1]_. So the
    result does not depend on how the data were split and in which order the parts were
    merged, beyond a relative error of 1e-14 of the variance, and of 1e-15 of the mean's
    distance from zero or of the deviation. The same batches in the same order give
    the same bits on every instruction set and for every number of threads.

    Weights count as repetitions: an element of weight 3 is as good as three equal
    elements of weight 1 in mean and variance, also with ``ddof=1`` (frequency weights;
    see `var`). Only `count` tells them apart. For weights that say how reliable an
    element is only ``ddof=0`` has a meaning. An element of weight 0 takes no part.

    An object may be used by any number of threads: batches are reduced without the GIL
    and in parallel, and merged one after another, in the order in which they are ready;
    a fixed order, and so fixed last bits, needs one object per thread and `merge`.

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise
       algorithm for computing sample variances", 1979, Stanford STAN-CS-79-773.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> moments = fastnorm.RunningMoments()
    >>> moments.update(np.array([[1.0, 10.0], [2.0, 30.0]]))
    RunningMoments(axis=0, shape=(2,), count=2)
    >>> moments.update([[6.0, 20.0]]).mean
    array([ 3., 20.])
    >>> moments.var(ddof=1), moments.max
    (array([  7., 100.]), array([ 6., 30.]))
    """

    __slots__ = (
        "_axis", "_count", "_flush_denormals", "_lock", "_nan", "_num_threads", "_rows",
        "_shape",
    )  # fmt: skip
    __module__ = "fastnorm"
    __hash__ = None  # type: ignore[assignment]  # it changes

    def __init__(
        self,
        axis: int | Sequence[int] | None = 0,
        *,
        nan: _Nan = "propagate",
        num_threads: int | None = None,
        flush_denormals: bool = False,
    ) -> None:
        if nan not in _NAN:
            raise ValueError(
                f"RunningMoments: nan is {nan!r}, one of {', '.join(map(repr, _NAN))} "
                "is needed"
            )
        given = num_threads
        if given is not None and integer("RunningMoments", "num_threads", given) < 1:
            raise ValueError(
                f"RunningMoments: num_threads is {num_threads}, at least 1 is needed"
            )
        self._axis = axis_of(axis)
        self._nan = nan
        self._num_threads = num_threads
        self._flush_denormals = bool(flush_denormals)
        self._lock = threading.Lock()
        self._shape: tuple[int, ...] | None = None
        self._count, self._rows = no_values()

    # ---- Taking in ----

    def update(
        self,
        batch: _Input,
        mask: ArrayLike | None = None,
        weights: ArrayLike | None = None,
    ) -> RunningMoments:
        """Take in a batch.

        Parameters
        ----------
        batch : array_like
            float32, float64, float16, bfloat16, int8 or uint8, whose axes that are not
            reduced have the shape of the features. A batch of no elements is taken in
            like others.
        mask : array_like of bool, optional
            Broadcastable to batch: False takes no part, whatever batch holds there.
        weights : array_like of real numbers, optional
            Broadcastable to batch: how many times an element counts, 0 or more.

        Returns
        -------
        RunningMoments
            This object.

        Raises
        ------
        TypeError
            If a dtype is none of those above.
        ValueError
            If the shapes do not fit, a weight is negative, infinite or NaN, or there is
            a NaN where that is an error. Nothing has changed then.
        """
        given: Any = batch
        if self._axis is None and np.ndim(given) == 0:
            given = np.reshape(given, 1)
        count, rows, shape = _core._batch_state(
            given, self._axis, mask, weights, self._nan, self._num_threads,
            self._flush_denormals, self._shape,
        )  # fmt: skip
        self._take_in("update", count, rows, shape)
        return self

    def merge(self, other: RunningMoments) -> RunningMoments:
        """Take in all that another object, which does not change, has taken in.

        Parameters
        ----------
        other : RunningMoments
            With features of the same shape; it may be this object.

        Returns
        -------
        RunningMoments
            This object.

        Raises
        ------
        TypeError
            If `other` is none.
        ValueError
            If its features have another shape.
        OverflowError
            If a count would pass 2**63 - 1. Nothing has changed then.
        """
        if not isinstance(other, RunningMoments):
            raise TypeError(
                f"RunningMoments.merge: other is {type(other).__name__}, "
                "a RunningMoments is needed"
            )
        shape, count, rows = other._snapshot()
        if shape is not None:
            self._take_in("merge", count, rows, shape)
        return self

    def __add__(self, other: object) -> RunningMoments:
        if not isinstance(other, RunningMoments):
            return NotImplemented
        return self.copy().merge(other)

    def __iadd__(self, other: object) -> RunningMoments:
        if not isinstance(other, RunningMoments):
            return NotImplemented
        return self.merge(other)

    def _take_in(
        self, function: str, count: Any, rows: Any, shape: tuple[int, ...]
    ) -> None:
        """Merge a state of which the arrays are ours."""
        with self._lock:
            if self._shape is None:
                self._shape, self._count, self._rows = shape, count, rows
                return
            if shape != self._shape:
                raise ValueError(
                    f"RunningMoments.{function}: features of shape {shape}, "
                    f"{self._shape} is needed"
                )
            # Into copies: others may be reading the arrays that are there.
            new_count, new_rows = self._count.copy(), self._rows.copy()
            _core._merge_states(new_count, new_rows, count, rows)
            self._count, self._rows = new_count, new_rows

    def _snapshot(self) -> tuple[tuple[int, ...] | None, Any, Any]:
        """Shape and state of one moment; the arrays are not to be written."""
        with self._lock:
            return self._shape, self._count, self._rows

    # ---- Results ----

    def _results(self, row: int, ddof: float = 0) -> Any:
        shape, count, rows = self._snapshot()
        found = _core._state_results(count, rows, ddof)[row]
        return found.reshape(shape or ())[()]

    @property
    def axis(self) -> int | tuple[int, ...] | None:
        """The axes that are reduced, as given."""
        return self._axis

    @property
    def nan(self) -> str:
        """What NaN means, as given."""
        return self._nan

    @property
    def shape(self) -> tuple[int, ...] | None:
        """That of the features; None before the first batch."""
        return self._shape

    @property
    def count(self) -> Any:
        """How many values have been taken in, int64, of each feature."""
        shape, count, _ = self._snapshot()
        return count.reshape(shape or ())[()].copy()

    @property
    def weight(self) -> Any:
        """The sum of their weights, of each feature."""
        shape, _, rows = self._snapshot()
        return rows[0].reshape(shape or ())[()].copy()

    @property
    def mean(self) -> Any:
        """The weighted mean of each feature, float64."""
        return self._results(0)

    @property
    def min(self) -> Any:
        """The smallest value of each feature, float64."""
        return self._results(3)

    @property
    def max(self) -> Any:
        """The largest value of each feature, float64."""
        return self._results(4)

    def var(self, ddof: float = 0) -> Any:
        """The variance of each feature, float64: the sum over ``weight - ddof``.

        Parameters
        ----------
        ddof : float, default 0
            0 gives the biased variance, 1 the unbiased one.

        Returns
        -------
        ndarray of float64
            NaN where the weight is not more than `ddof`.
        """
        return self._results(1, ddof_of(ddof))

    def std(self, ddof: float = 0) -> Any:
        """The standard deviation: the root of `var`, with the same `ddof`."""
        return self._results(2, ddof_of(ddof))

    # ---- Keeping ----

    def copy(self) -> RunningMoments:
        """Another one that has taken in the same."""
        new = RunningMoments(
            self._axis, nan=self._nan, num_threads=self._num_threads,
            flush_denormals=self._flush_denormals,
        )  # fmt: skip
        new._shape, new._count, new._rows = self._snapshot()
        return new

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> RunningMoments:
        return self.copy()

    def to_dict(self) -> dict[str, Any]:
        """All that it has taken in, as a dict of arrays and plain values.

        Returns
        -------
        dict
            ``axis``, ``nan``, ``shape``, ``count``, ``weight``, ``mean``, ``mean_low``,
            ``m2``, ``m2_low`` (``m2 + m2_low`` is the sum of squared deviations from
            ``mean + mean_low``), ``min`` and ``max``; arrays of the shape of the
            features. Where there are no values min is Inf and max -Inf.
        """
        return as_dict(self._axis, self._nan, *self._snapshot())

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> RunningMoments:
        """What `to_dict` has returned, or the same with lists for arrays, as an object.

        Parameters
        ----------
        state : mapping
            All keys of `to_dict`, and no others.

        Returns
        -------
        RunningMoments

        Raises
        ------
        TypeError, ValueError
            If a key is missing or unknown, or a value is not what it must be.
        """
        taken = of_dict("RunningMoments.from_dict", state)
        new = cls(state["axis"], nan=state["nan"])
        new._shape, new._count, new._rows = taken
        return new

    def save(self, file: str | os.PathLike[str] | Any) -> None:
        """Write to a file, or a file object, in NumPy's ``.npz`` format.

        `load` reads it back, exactly. A path without ``.npz`` at its end gets one.
        """
        np.savez(file, **as_arrays(self.to_dict()))

    @classmethod
    def load(cls, file: str | os.PathLike[str] | Any) -> RunningMoments:
        """Read what `save` has written.

        Raises
        ------
        ValueError
            If the file holds something else.
        """
        return cls.from_dict(of_file("RunningMoments.load", file))

    def __reduce__(self) -> tuple[Any, ...]:
        options = self._num_threads, self._flush_denormals
        return _rebuild, (self.to_dict(), *options)

    def __eq__(self, other: object) -> bool:
        """Whether both reduce the same axes and hold the same state, to the bit."""
        if not isinstance(other, RunningMoments):
            return NotImplemented
        (shape, count, rows), theirs = self._snapshot(), other._snapshot()
        return (
            (self._axis, self._nan, shape) == (other._axis, other._nan, theirs[0])
            and np.array_equal(count, theirs[1])
            and np.array_equal(rows, theirs[2], equal_nan=True)
        )

    def __repr__(self) -> str:
        words = [f"axis={self._axis!r}"]
        if self._nan != "propagate":
            words.append(f"nan={self._nan!r}")
        shape, count, _ = self._snapshot()
        if shape is not None:
            words.append(f"shape={shape}")
            few, many = (count.min(), count.max()) if count.size else (0, 0)
            words.append(f"count={few}" if few == many else f"count={few} to {many}")
        return f"RunningMoments({', '.join(words)})"


def _rebuild(
    state: dict[str, Any], num_threads: int | None, flush_denormals: bool
) -> RunningMoments:
    new = RunningMoments.from_dict(state)
    new._num_threads, new._flush_denormals = num_threads, flush_denormals
    return new


def __getattr__(name: str) -> object:
    # Later, because fastnorm.population needs this module, and the layers.
    if name not in ("calibrate", "momentum"):
        raise AttributeError(f"module 'fastnorm.stats' has no attribute {name!r}")
    from . import population

    return getattr(population, name)
