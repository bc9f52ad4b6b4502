# SPDX-License-Identifier: MIT
"""test_running_moments.py - RunningMoments against the exact result, however split."""

from __future__ import annotations

import copy
import io
import math
import pickle
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from oracle import WIDE, hostile, random, same_bits

import fastnorm
from fastnorm import RunningMoments, reference

# What the documentation promises: of the variance, relatively; of the mean, relative to
# itself and to the deviation.
VAR, MEAN = 1e-14, 1e-15

SHAPES = [
    ((1000, 7), 0), ((2100, 3), 0), ((17, 300), 0), ((90, 513), 0), ((3, 700), -1),
    ((50, 40), 1), ((3, 9000), 1), ((6, 7, 8), 1), ((4, 5, 6, 7), (0, 2, 3)),
    ((4, 5, 6, 7), (0, 1, 2)), ((4, 5, 6, 7), (1, 3)), ((20, 5, 49), (0, -1)),
    ((2, 3, 3000), (0, 2)), ((3000,), 0), ((7, 11), None), ((1, 1), 0), ((1, 300), 0),
    ((300, 1), 0), ((2, 0, 3), 1), ((0, 3), 0), ((3, 0), 0),
]  # fmt: skip


def assert_exact(found: Any, exact: Any, var: float = VAR) -> None:
    """All of `found` is within the bounds of `exact`, a reference.RunningMoments."""
    assert np.array_equal(found.count, exact.count)
    assert np.allclose(found.weight, exact.weight, rtol=1e-15, atol=0)
    for name in ("min", "max"):
        mine, theirs = getattr(found, name), getattr(exact, name)
        assert np.array_equal(mine, theirs, equal_nan=True), name
    allowed = MEAN * (np.abs(exact.mean) + exact.std()) + 5e-324
    finite = np.isfinite(exact.mean) & np.isfinite(exact.var())
    off = np.abs(np.subtract(found.mean, exact.mean, where=finite, out=None))
    assert np.all((off <= allowed) | ~finite)
    assert np.array_equal(
        np.where(finite, 0, found.mean), np.where(finite, 0, exact.mean), equal_nan=True
    )
    for ddof in (0, 1):
        mine, theirs = found.var(ddof), exact.var(ddof)
        close = np.abs(np.subtract(mine, theirs)) <= var * np.abs(theirs) + 1e-300
        assert np.all(close | (mine == theirs) | (np.isnan(mine) & np.isnan(theirs)))
        assert np.allclose(found.std(ddof), np.sqrt(mine), rtol=2e-16, equal_nan=True)


def state_bits(m: RunningMoments) -> bytes:
    return b"".join(np.asarray(m.to_dict()[n]).tobytes() for n in STATE)


STATE = ["count", "weight", "mean", "mean_low", "m2", "m2_low", "min", "max"]


# ---- One batch ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "u1", "i1"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.usefixtures("isa")
def test_every_layout(shape: tuple[int, ...], axis: Any, dtype: str) -> None:
    x = 20 + 30 * random(shape, "f8", seed=3)
    x = np.clip(x, 0, 100).astype(dtype)
    other = np.stack([x, x], axis=-1)[..., 0]
    for view in (x, np.asfortranarray(x), x[::-1], other):
        found = RunningMoments(axis).update(view)
        assert found.shape == np.sum(x, axis=axis).shape
        assert found.count.dtype == np.int64 and found.mean.dtype == np.float64
        assert_exact(found, reference.RunningMoments(axis).update(view))


@pytest.mark.parametrize(
    "n", [1, 2, 15, 16, 17, 255, 256, 257, 4095, 4096, 4097, 70000]
)
@pytest.mark.usefixtures("isa")
def test_every_length_gives_the_same_way_up_and_across(n: int) -> None:
    x = 100 + random((3, n), seed=n)
    exact = reference.RunningMoments(1).update(x)
    for axis, view in ((1, x), (0, np.ascontiguousarray(x.T)), ((0, 2), x[None])):
        assert_exact(RunningMoments(axis).update(view), exact)


@pytest.mark.parametrize("n", [1, 5, 64, 768, 5000])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.usefixtures("isa")
def test_hostile_values(n: int, axis: int, dtype: str) -> None:
    if dtype == "float64" and not WIDE:
        pytest.skip("longdouble is float64 here")
    x = np.stack(list(hostile(n, dtype).values()))
    exact = reference.RunningMoments(1).update(x)
    found = RunningMoments(axis).update(x if axis else np.ascontiguousarray(x.T))
    # Where the sum of squares is no float64, neither is the state's.
    kept = (exact.var() < 1e308 / n) & ((exact.var() > 1e-280) | (exact.var() == 0))
    allowed = MEAN * (np.abs(exact.mean) + np.where(kept, exact.std(), 0)) + 5e-324
    assert np.all((np.abs(found.mean - exact.mean) <= allowed) | ~kept)
    assert np.all(np.isfinite(found.mean))
    largest = np.max(np.abs(x.astype("f8")), axis=1)
    assert np.all(np.abs(found.mean - exact.mean) <= 1e-14 * largest + 5e-324)
    off = np.abs(np.where(kept, found.var(), 0) - np.where(kept, exact.var(), 0))
    assert np.all((off <= VAR * exact.var()) | ~kept)
    assert np.array_equal(found.min, exact.min) and np.array_equal(found.max, exact.max)


@pytest.mark.usefixtures("isa")
def test_the_mean_of_the_largest_numbers_is_finite() -> None:
    top = np.finfo("f8").max
    x = np.array([top, -top, top, -top, top, top] * 100)
    for view in (x, x[:, None], np.stack([x, x / 4], axis=1)):
        found = RunningMoments().update(view)
        assert np.allclose(found.mean.flat[0], top / 3, rtol=1e-15)
        assert np.all(np.isinf(found.var()))
    halves = RunningMoments().update(x[:1]).update(x[1:2])
    assert halves.mean == 0 and halves.var() == np.inf


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.usefixtures("isa")
def test_bytes_are_summed_exactly(dtype: type) -> None:
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(1)
    for shape, axis in (
        ((300000, 3), 0), ((2, 300000), 1), ((300, 513), 0), ((40, 4000), 1),
    ):  # fmt: skip
        x = rng.integers(limits.min, limits.max + 1, shape).astype(dtype)
        x[rng.random(shape) < 0.8] = limits.max
        n = shape[axis]
        sums = x.astype(np.int64).sum(axis)
        squares = (x.astype(np.int64) ** 2).sum(axis)
        found = RunningMoments(axis).update(x)
        for c in range(sums.size):
            mean = Fraction(int(sums[c]), n)
            m2 = Fraction(int(squares[c])) - Fraction(int(sums[c]) ** 2, n)
            assert found.mean[c] == float(mean)
            assert abs(Fraction(found.var()[c]) - m2 / n) <= m2 / n / 2**51


@pytest.mark.usefixtures("isa")
def test_constants_have_exactly_no_variance() -> None:
    for dtype in ("f4", "f8", "f2", "u1"):
        for n in (1, 3, 100, 5000):
            found = RunningMoments().update(np.full((n, 7), 3.3, dtype))
            found.update(np.full((n + 1, 7), 3.3, dtype))
            value = np.array(3.3, dtype).astype("f8")
            assert np.all(found.mean == value) and np.all(found.var() == 0)


def test_bfloat16_is_widened() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = (100 + random((700, 5))).astype(ml_dtypes.bfloat16)
    for axis in (0, 1):
        found = RunningMoments(axis).update(x)
        wide = RunningMoments(axis).update(x.astype("f4"))
        assert state_bits(found) == state_bits(wide)


# ---- Same bits ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((120000, 5), 0), ((900, 300), 0), ((2, 550000), 1), ((40, 30, 100), (0, 2)),
     ((500, 40), 1)],
)  # fmt: skip
def test_the_same_bits_everywhere(shape: Any, axis: Any, dtype: str) -> None:
    x = np.clip(100 + 30 * random(shape, "f8"), 0, 255).astype(dtype)
    mask = random(shape, seed=1) < 1
    weights = np.abs(random(shape, "f4", seed=2))
    seen = set()
    for isa in fastnorm.isas():
        fastnorm.set_isa(isa)
        for threads, strides in ((1, 1), (3, 1), (2, 2)):
            view = np.stack([x] * strides, axis=1)[:, 0]
            m = RunningMoments(axis, num_threads=threads).update(view)
            seen.add(state_bits(m.update(view, mask).update(view, mask, weights)))
    assert len(seen) == 1


def test_a_call_does_not_change_its_input() -> None:
    for dtype in ("f4", "f8"):
        x, mask = random((5000, 3), dtype), random((5000, 3)) < 0
        x[7, 1] = np.nan
        kept = x.copy(), mask.copy()
        for nan in ("propagate", "omit"):
            RunningMoments(nan=nan).update(x).update(x, mask).update(
                x, weights=mask * 2
            )
        assert same_bits(x, kept[0]) and same_bits(mask, kept[1])


# ---- Batches and merging -----------------------------------------------------------


@given(
    cuts=st.lists(st.integers(0, 400), max_size=8),
    order=st.randoms(use_true_random=False),
    offset=st.sampled_from([0.0, 1e3, -1e6]),
    scale=st.sampled_from([1.0, 1e-3, 1e-30, 1e30]),
    dtype=st.sampled_from(["f4", "f8"]),
)
def test_any_split_merged_in_any_order(
    cuts: list[int], order: Any, offset: float, scale: float, dtype: str
) -> None:
    x = ((offset + random((400, 3), "f8")) * scale).astype(dtype)
    exact = reference.RunningMoments().update(x)
    parts = np.split(x, sorted(cuts))
    one_by_one = RunningMoments()
    for part in parts:
        one_by_one.update(part)
    assert_exact(one_by_one, exact)
    states = [RunningMoments().update(part) for part in parts]
    order.shuffle(states)
    while len(states) > 1:
        i = order.randrange(len(states) - 1)
        states[i : i + 2] = [states[i] + states[i + 1]]
    assert_exact(states[0], exact)


def test_merging_is_commutative_to_the_bit() -> None:
    a = RunningMoments().update(1e6 + random((100, 50)))
    b = RunningMoments().update(1e6 + random((37, 50), seed=1))
    assert state_bits(a + b) == state_bits(b + a)


def test_a_billion_samples_by_merging_equal_halves() -> None:
    x = (1e6 + random(1_000_000, "f8")).astype("f4")
    whole = [Fraction(int(v)) for v in np.asarray(exact_sums(x), dtype=object)]
    n = 1_000_000
    var = whole[1] / n - (whole[0] / n) ** 2
    moments = RunningMoments().update(x)
    for _ in range(10):
        moments += moments
    assert moments.count == n * 1024
    assert abs(Fraction(float(moments.var())) / (var / 256) - 1) <= VAR
    assert abs(Fraction(float(moments.mean)) - whole[0] / n / 16) <= MEAN * 1e6
    assert math.isclose(moments.var(1), float(var / 256) * n * 1024 / (n * 1024 - 1))


def exact_sums(x: NDArray[np.float32]) -> tuple[int, int]:
    """Of 16 x, which are whole numbers here, and of its squares."""
    whole = x.astype(np.float64) * 16
    assert np.all(whole == np.rint(whole))
    whole = whole.astype(np.int64)
    # Python's integers have no limit.
    squares = sum(int(np.sum(part * part)) for part in np.array_split(whole, 1000))
    return int(whole.sum()), squares


def test_a_billion_samples_by_merging_blocks() -> None:
    """A thousand states of a million samples each, whose moments are known exactly."""
    rng = np.random.default_rng(5)
    n, blocks = 10**6, 1000
    means = 1e6 + rng.standard_normal(blocks) / 1000
    variances = 1 + rng.standard_normal(blocks) / 1000
    exact_mean = sum(map(Fraction, means)) / blocks
    exact = sum(
        Fraction(v) + (Fraction(m) - exact_mean) ** 2
        for m, v in zip(means, variances, strict=True)
    )
    states = [
        RunningMoments.from_dict({
            "axis": 0, "nan": "propagate", "shape": (), "count": n, "weight": float(n),
            "mean": m, "mean_low": 0.0, "m2": v * n, "m2_low": 0.0, "min": m, "max": m,
        })
        for m, v in zip(means, variances, strict=True)
    ]  # fmt: skip
    in_order = RunningMoments(axis=0)
    for state in states:
        in_order.merge(state)
    tree = list(states)
    while len(tree) > 1:
        tree = [sum_of(tree[i : i + 2]) for i in range(0, len(tree), 2)]
    for found in (in_order, tree[0]):
        assert found.count == n * blocks
        assert abs(Fraction(float(found.var())) / (exact / blocks) - 1) <= VAR
        assert abs(Fraction(float(found.mean)) - exact_mean) <= 2 * MEAN * 1e6


def sum_of(states: list[RunningMoments]) -> RunningMoments:
    total = states[0].copy()
    for state in states[1:]:
        total += state
    return total


@pytest.mark.slow
def test_a_hundred_million_floats_at_a_million() -> None:
    moments, sums, squares = RunningMoments(), 0, 0
    rng = np.random.default_rng(0)
    for _ in range(50):
        x = (1e6 + rng.standard_normal(2_000_000, dtype="f4").astype("f8")).astype("f4")
        moments.update(x)
        s, q = exact_sums(x)
        sums, squares = sums + s, squares + q
    n = 10**8
    var = Fraction(squares, n) - Fraction(sums, n) ** 2
    assert moments.count == n
    assert abs(Fraction(float(moments.var())) / (var / 256) - 1) <= 1e-14


def test_batches_one_value_at_a_time() -> None:
    x = 1e6 + random((300, 2), "f8")
    moments = RunningMoments()
    for row in x:
        moments.update(row[None])
    assert_exact(moments, reference.RunningMoments().update(x))


def test_an_empty_batch_takes_no_part_but_fixes_the_shape() -> None:
    moments = RunningMoments().update(np.empty((0, 3)))
    assert moments.shape == (3,) and np.all(moments.count == 0)
    for value in (moments.mean, moments.var(), moments.std(), moments.min, moments.max):
        assert value.shape == (3,) and np.all(np.isnan(value))
    with pytest.raises(ValueError, match=r"shape \(5, 4\).*had \(3,\)"):
        moments.update(np.empty((5, 4)))
    moments.update(np.ones((2, 3)))
    before = state_bits(moments)
    assert state_bits(moments.update(np.empty((0, 3)))) == before
    assert state_bits(moments.merge(RunningMoments())) == before


def test_before_the_first_batch() -> None:
    moments = RunningMoments((0, 1))
    assert moments.shape is None and moments.count == 0 and moments.weight == 0
    assert np.isnan(moments.mean) and np.isnan(moments.var()) and np.isnan(moments.max)
    assert repr(moments) == "RunningMoments(axis=(0, 1))"


def test_scalars_are_taken_in_where_all_axes_are_reduced() -> None:
    moments = RunningMoments(None)
    for value in (1.0, 2.0, 6.0):
        moments.update(value)
    moments.update([[3.0, 3.0]])
    assert moments.shape == () and moments.count == 5
    assert moments.mean == 3 and math.isclose(moments.var(), 2.8)


# ---- NaN, masks, weights -----------------------------------------------------------


@pytest.mark.parametrize("nan", ["propagate", "omit"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES[:16])
@pytest.mark.usefixtures("isa")
def test_nan_is_what_was_asked_for(
    shape: tuple[int, ...], axis: Any, nan: Any, dtype: str
) -> None:
    x = random(shape, dtype, seed=2)
    x[np.random.default_rng(0).random(shape) < 0.1] = np.nan
    found = RunningMoments(axis, nan=nan).update(x)
    exact = reference.RunningMoments(axis, nan=nan).update(x)
    assert_exact(found, exact)
    weights = np.arange(x.size).reshape(shape) % 4
    again = found.copy().update(x, weights % 3 > 0, weights)
    assert_exact(again, exact.update(x, weights % 3 > 0, weights))


@pytest.mark.parametrize("axis", [0, 1])
def test_nan_stays_in_its_feature(isa: str, axis: int, dtype: str) -> None:
    clean = random((300, 300), dtype)
    x = clean.copy()
    x[17, 11] = np.nan
    c = 17 if axis else 11
    found = RunningMoments(axis).update(x)
    assert all(np.isnan(v[c]) for v in (found.mean, found.var(), found.min, found.max))
    assert found.count[c] == 300, isa
    exact = reference.RunningMoments(axis).update(clean)
    for mine, theirs in ((found.mean, exact.mean), (found.var(), exact.var())):
        off = np.abs(np.delete(mine, c) - np.delete(theirs, c))
        assert np.all(off <= VAR * np.delete(exact.var(), c))


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.usefixtures("isa")
def test_infinity_is_a_value(axis: int, bad: float, dtype: str) -> None:
    x = random((40, 40), dtype)
    x[3, 3] = bad
    found = RunningMoments(axis).update(x)
    assert_exact(found, reference.RunningMoments(axis).update(x))
    assert found.mean[3] == bad and np.isnan(found.var()[3])
    found.update(random((40, 40), dtype))
    assert found.mean[3] == bad and np.isnan(found.var()[3])
    x[3, 3] = -bad
    found.update(x)
    assert np.isnan(found.mean[3]) and found.min[3] == -np.inf


def test_nan_as_an_error_changes_nothing(dtype: str) -> None:
    x = random((3000, 5), dtype)
    for axis in (0, 1, (0, 1)):
        moments = RunningMoments(axis, nan="error").update(x)
        before = state_bits(moments)
        bad = x.copy()
        bad[2999, 4] = np.nan
        with pytest.raises(
            ValueError, match=r"^RunningMoments.update: batch holds NaN"
        ):
            moments.update(bad)
        assert state_bits(moments) == before
        mask = np.ones(x.shape, bool)
        mask[2999, 4] = False
        moments.update(bad, mask)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.usefixtures("isa")
def test_masked_elements_take_no_part(
    shape: tuple[int, ...], axis: Any, dtype: str
) -> None:
    x = np.clip(50 + 20 * random(shape, "f8"), 0, 200).astype(dtype)
    rng = np.random.default_rng(4)
    for part in ((*shape[:-1], 1), shape, shape[-1:], ()):
        mask = rng.random(part) < 0.7
        garbage = x.copy()
        hidden = ~np.broadcast_to(mask, shape)
        garbage[hidden] = 255 if dtype == "u1" else np.nan
        if dtype != "u1":
            garbage.reshape(-1)[:1] = np.where(
                hidden.ravel()[:1], np.inf, x.ravel()[:1]
            )
        exact = reference.RunningMoments(axis).update(x, mask)
        assert_exact(RunningMoments(axis).update(garbage, mask), exact)
        if mask.shape == x.shape:
            backward = np.asfortranarray(garbage)[::-1]
            exact = reference.RunningMoments(axis).update(x[::-1], mask[::-1])
            assert_exact(RunningMoments(axis).update(backward, mask[::-1]), exact)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.usefixtures("isa")
def test_weights(shape: tuple[int, ...], axis: Any, dtype: str) -> None:
    x = np.clip(50 + 20 * random(shape, "f8"), 0, 200).astype(dtype)
    rng = np.random.default_rng(4)
    for part in ((*shape[:-1], 1), shape):
        for kind in ("f4", "f8", "i8"):
            weights = (rng.integers(0, 5, part) / (1 if kind == "i8" else 3)).astype(
                kind
            )
            exact = reference.RunningMoments(axis).update(x, weights=weights)
            found = RunningMoments(axis).update(x, weights=weights)
            assert_exact(found, exact)
    mask = rng.random(shape) < 0.5
    exact = reference.RunningMoments(axis).update(x, mask, weights)
    assert_exact(RunningMoments(axis).update(x, mask, weights), exact)


def test_a_weight_is_a_number_of_repetitions() -> None:
    x, times = random((50, 3), "f8"), np.arange(50) % 4
    weighted = RunningMoments().update(x, weights=times[:, None])
    repeated = RunningMoments().update(np.repeat(x, times, axis=0))
    assert np.allclose(weighted.mean, repeated.mean, rtol=1e-15, atol=1e-16)
    for ddof in (0, 1):
        assert np.allclose(weighted.var(ddof), repeated.var(ddof), rtol=1e-14)
    assert np.all(weighted.count == np.sum(times > 0))
    assert np.all(weighted.weight == repeated.count)


def test_nothing_looks_at_weights_of_masked_elements() -> None:
    weights = np.array([1.0, np.nan, -1.0, np.inf])
    mask = np.array([True, False, False, False])
    assert RunningMoments().update([5.0, 1.0, 1.0, 1.0], mask, weights).mean == 5


# ---- Errors ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"nan": "ignore"}, ValueError, "nan is 'ignore', one of 'propagate', 'error'"),
        ({"axis": 1.5}, TypeError, "axis is 1.5, an int, a sequence of ints or None"),
        ({"axis": "0"}, TypeError, "axis is '0'"),
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


# ---- Threads -----------------------------------------------------------------------


def test_one_object_may_be_shared_by_threads() -> None:
    x = 10 + random((64, 500, 7))
    shared = RunningMoments(num_threads=1)

    def work(i: int) -> None:
        for batch in x[i::4]:
            shared.update(batch)
            assert np.all(shared.count % 500 == 0)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_exact(shared, reference.RunningMoments().update(x.reshape(-1, 7)))


def test_denormals_are_flushed_only_when_asked(isa: str) -> None:
    x: ArrayLike = np.full((50, 40), 1e-40, np.float32)
    for axis in (0, 1, None):
        assert np.all(RunningMoments(axis).update(x).mean > 0), isa
        flushed = RunningMoments(axis, flush_denormals=True).update(x)
        assert np.all(flushed.mean == 0) and np.all(flushed.max == 0)
