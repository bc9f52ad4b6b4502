# SPDX-License-Identifier: MIT
"""test_running_moments_state.py - RunningMoments refuses nonsense, and can be kept."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import random
from running_moments_cases import state_bits

from fastnorm import RunningMoments

# ---- Errors ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"nan": "ignore"}, ValueError, "nan is 'ignore', one of 'propagate', 'error'"),
        ({"axis": 1.5}, TypeError, "axis is 1.5, an int, a sequence of ints or None"),
        ({"axis": "0"}, TypeError, "axis is '0'"),
        ({"num_threads": 1.5}, TypeError, "num_threads is 1.5, an integer is needed"),
        ({"num_threads": 0}, ValueError, "num_threads is 0, at least 1 is needed"),
    ],
)
def test_construction_errors(options: Any, error: type, text: str) -> None:
    with pytest.raises(error, match=f"^RunningMoments: {text}"):
        RunningMoments(**options)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"batch": np.ones((3, 4))}, ValueError, r"batch has shape \(3, 4\)"),
        ({"batch": np.ones(3)}, ValueError, r"batch has shape \(3,\)"),
        ({"batch": np.float32(1)}, ValueError, "batch is 0-d"),
        ({"batch": np.ones((3, 2), int)}, TypeError, "batch has dtype int64"),
        ({"mask": np.ones(3, bool)}, ValueError, r"mask has shape \(3,\), which"),
        ({"mask": np.ones((3, 2))}, TypeError, "mask has dtype float64, bool"),
        ({"mask": np.ones((2, 3, 2), bool)}, ValueError, r"mask has shape \(2, 3, 2\)"),
        ({"weights": np.ones(3)}, ValueError, r"weights has shape \(3,\), which"),
        ({"weights": np.ones(2, complex)}, TypeError, "weights has dtype complex128"),
        ({"weights": np.ones(2, bool)}, TypeError, "weights has dtype bool"),
        ({"weights": [1.0, -1.0]}, ValueError, "weights holds a number that is neg"),
        ({"weights": [1.0, np.nan]}, ValueError, "weights holds a number that is neg"),
        ({"weights": [np.inf, 1.0]}, ValueError, "weights holds a number that is neg"),
    ],
)
def test_update_errors_change_nothing(arguments: Any, error: type, text: str) -> None:
    moments = RunningMoments().update(random((5, 2)))
    before = state_bits(moments)
    with pytest.raises(error, match=f"^RunningMoments.update: {text}"):
        moments.update(**{"batch": np.ones((3, 2)), **arguments})
    assert state_bits(moments) == before


def test_other_errors() -> None:
    moments = RunningMoments().update(random((5, 2)))
    with pytest.raises(TypeError, match=r"merge: other is int, a RunningMoments"):
        moments.merge(1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"merge: features of shape \(3,\), \(2,\)"):
        moments.merge(RunningMoments().update(random((5, 3))))
    with pytest.raises(TypeError, match="unsupported operand"):
        moments + 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(moments)
    for ddof in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"ddof is {ddof}, 0 or more"):
            moments.var(ddof)
    with pytest.raises(TypeError, match="ddof is 'one', a number"):
        moments.std("one")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="axis is 2, input has 2 axes"):
        RunningMoments(2).update(random((3, 3)))
    with pytest.raises(ValueError, match="names an axis twice"):
        RunningMoments((0, -2)).update(random((3, 3)))


def test_counts_beyond_63_bits_are_refused() -> None:
    moments = RunningMoments().update(np.ones((2**10, 1)))
    for _ in range(52):
        moments += moments
    assert moments.count == 2**62 and moments.weight == 2.0**62
    before = state_bits(moments)
    with pytest.raises(OverflowError, match=r"more than 2\*\*63-1"):
        moments += moments
    assert state_bits(moments) == before


# ---- Keeping -----------------------------------------------------------------------


def some() -> list[RunningMoments]:
    x = random((40, 2, 3), "f8")
    x[5, 1, 1] = np.nan
    return [
        RunningMoments(), RunningMoments(None).update(x), RunningMoments(0).update(x),
        RunningMoments((0, 1), nan="omit").update(x),
        RunningMoments(0).update(np.empty((0, 2))),
    ]  # fmt: skip


@pytest.mark.parametrize("i", range(5))
def test_what_was_kept_is_the_same(i: int, tmp_path: Path) -> None:
    moments = some()[i]
    moments.save(tmp_path / "state.npz")
    room = io.BytesIO()
    moments.save(room)
    room.seek(0)
    plain = {
        k: v.tolist() if isinstance(v, np.ndarray) else v
        for k, v in moments.to_dict().items()
    }
    for again in (
        pickle.loads(pickle.dumps(moments)),
        copy.copy(moments), copy.deepcopy(moments), moments.copy(),
        RunningMoments.from_dict(moments.to_dict()), RunningMoments.from_dict(plain),
        RunningMoments.load(tmp_path / "state.npz"), RunningMoments.load(room),
    ):  # fmt: skip
        assert again is not moments and again == moments
        assert state_bits(again) == state_bits(moments)
        assert repr(again) == repr(moments) and again.shape == moments.shape
        again.update(np.ones((2, *((1,) if again.axis == (0, 1) else ()),
                              *(again.shape or (2,)))))  # fmt: skip
        assert again != moments


def test_equality_sees_all() -> None:
    x = random((40, 3))
    moments = RunningMoments().update(x)
    assert moments == RunningMoments().update(x)
    assert moments != RunningMoments(nan="omit").update(x)
    assert moments != RunningMoments(-2).update(x)
    assert moments != RunningMoments().update(x[1:])
    assert moments != 3 and RunningMoments() == RunningMoments()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"count": None}, ValueError, "missing keys count"),
        ({"total": 3}, ValueError, "unknown keys total"),
        ({"count": [1]}, ValueError, r"count has shape \(1,\), \(2,\) is needed"),
        ({"count": [1.5, 2]}, TypeError, "count has dtype float64, int64 is needed"),
        ({"count": [-1, 2]}, ValueError, "count is negative"),
        ({"mean": ["a", "b"]}, TypeError, "mean has dtype <U1"),
        ({"m2": [-1, 2]}, ValueError, "m2 is negative"),
        ({"weight": [0, 2]}, ValueError, "weight does not go with count"),
    ],
)
def test_no_object_is_made_of_nonsense(change: Any, error: type, text: str) -> None:
    state = RunningMoments().update(random((4, 2))).to_dict() | change
    state = {k: v for k, v in state.items() if v is not None}
    with pytest.raises(error, match=f"^RunningMoments.from_dict: {text}"):
        RunningMoments.from_dict(state)


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    np.save(tmp_path / "b.npy", np.ones(3))
    for name in ("a.npz", "b.npy"):
        with pytest.raises(ValueError, match=r"^RunningMoments.load: not a file that"):
            RunningMoments.load(tmp_path / name)
