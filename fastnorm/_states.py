# _states.py - what a RunningMoments has taken in, as arrays, a dict and a file.
# SPDX-License-Identifier: MIT
"""A state is the shape of the features, a count for each, and rows of float64.

The rows are in the order of the C struct. In a dict each is an array of the shape of
the features; in a file every value is an array, so that nothing is unpickled.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Float64 = NDArray[np.float64]
    _State = tuple[tuple[int, ...] | None, NDArray[np.int64], _Float64]

ROWS = ("weight", "mean", "mean_low", "m2", "m2_low", "min", "max")


def no_values() -> tuple[NDArray[np.int64], _Float64]:
    """Count and rows of the one feature that there is before the first batch."""
    rows = np.zeros((len(ROWS), 1))
    rows[-2], rows[-1] = np.inf, -np.inf
    return np.zeros(1, np.int64), rows


def axis_of(axis: Any) -> int | tuple[int, ...] | None:
    try:
        if axis is None:
            return None
        if isinstance(axis, (list, tuple)):
            return tuple(operator.index(a) for a in axis)
        return operator.index(axis)
    except TypeError:
        raise TypeError(
            f"RunningMoments: axis is {axis!r}, an int, a sequence of ints or None is "
            "needed"
        ) from None


def ddof_of(value: Any) -> float:
    try:
        ddof = float(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"RunningMoments: ddof is {value!r}, a number is needed"
        ) from None
    if not 0 <= ddof < np.inf:
        raise ValueError(f"RunningMoments: ddof is {value}, 0 or more is needed")
    return ddof


# ---- A dict ----


def as_dict(
    axis: int | tuple[int, ...] | None,
    nan: str,
    shape: tuple[int, ...] | None,
    count: NDArray[np.int64],
    rows: _Float64,
) -> dict[str, Any]:
    """All of it, in copies."""
    state: dict[str, Any] = {"axis": axis, "nan": nan, "shape": shape}
    state["count"] = count.reshape(shape or ()).copy()
    for name, row in zip(ROWS, rows, strict=True):
        state[name] = row.reshape(shape or ()).copy()
    return state


def of_dict(function: str, state: Mapping[str, Any]) -> _State:
    """Shape, count and rows, checked; for errors, the function that asks."""
    needed = {"axis", "nan", "shape", "count", *ROWS}
    for what, keys in (
        ("missing", needed - state.keys()),
        ("unknown", state.keys() - needed),
    ):
        if keys:
            raise ValueError(f"{function}: {what} keys {', '.join(sorted(keys))}")
    shape = state["shape"]
    if shape is not None:
        shape = tuple(operator.index(n) for n in shape)
    arrays = {
        name: _array(function, name, state[name], shape or (), dtype)
        for name, dtype in (("count", np.int64), *((r, np.float64) for r in ROWS))
    }
    count, rows = arrays["count"], np.stack([arrays[name] for name in ROWS])
    _check(function, count, rows)
    return shape, count, rows


def _array(
    function: str, name: str, value: Any, shape: tuple[int, ...], dtype: Any
) -> NDArray[Any]:
    """A copy, flat; of exactly this shape."""
    array = np.asarray(value)
    kinds = "iu" if dtype == np.int64 else "iuf"
    if array.size and array.dtype.kind not in kinds:
        raise TypeError(
            f"{function}: {name} has dtype {array.dtype}, {np.dtype(dtype)} is needed"
        )
    if array.shape != shape:
        raise ValueError(
            f"{function}: {name} has shape {array.shape}, {shape} is needed"
        )
    return np.array(array, dtype).ravel()


def _check(function: str, count: NDArray[np.int64], rows: _Float64) -> None:
    """ValueError for what no batches can have led to."""
    weight, m2 = rows[0], rows[3]
    if np.any(count < 0):
        raise ValueError(f"{function}: count is negative")
    if not np.all(np.where(count > 0, weight > 0, weight == 0)):
        raise ValueError(f"{function}: weight does not go with count")
    if np.any(m2 < 0):
        raise ValueError(f"{function}: m2 is negative")


# ---- A file ----


def as_arrays(state: dict[str, Any]) -> dict[str, Any]:
    """A dict of arrays alone."""
    axis, shape = state["axis"], state["shape"]
    kind = "none" if axis is None else "int" if isinstance(axis, int) else "tuple"
    return {
        **state,
        "axis": np.array([] if axis is None else np.atleast_1d(axis), np.int64),
        "axis_kind": np.array(kind),
        "shape": np.array([-1] if shape is None else shape, np.int64),
    }


def of_file(function: str, file: Any) -> dict[str, Any]:
    """The dict that went into `as_arrays`."""
    found = np.load(file, allow_pickle=False)
    if not isinstance(found, np.lib.npyio.NpzFile):
        raise ValueError(f"{function}: not a file that save has written")
    with found:
        state: dict[str, Any] = {name: found[name] for name in found.files}
    try:
        axis, kind = state.pop("axis").tolist(), str(state.pop("axis_kind"))
        shape = state.pop("shape").tolist()
        state["nan"] = str(state["nan"])
    except KeyError as error:
        raise ValueError(
            f"{function}: not a file that save has written: {error} is missing"
        ) from error
    state["axis"] = (
        None if kind == "none" else axis[0] if kind == "int" else tuple(axis)
    )
    state["shape"] = None if shape == [-1] else tuple(shape)
    return state
