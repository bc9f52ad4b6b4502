# SPDX-License-Identifier: MIT
"""test_running_moments.py - RunningMoments of a batch against the exact result."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from oracle import WIDE, each_isa, hostile, random
from running_moments_cases import MEAN, SHAPES, VAR, Exact, assert_exact, state_bits

from fastnorm import RunningMoments, reference

# ---- One batch ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "u1", "i1"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_every_layout(shape: tuple[int, ...], axis: Any, dtype: str) -> None:
    x = 20 + 30 * random(shape, "f8", seed=3)
    x = np.clip(x, 0, 100).astype(dtype)
    other = np.stack([x, x], axis=-1)[..., 0]
    exact = Exact(reference.RunningMoments(axis).update(x))
    reverse = Exact(reference.RunningMoments(axis).update(x[::-1]))
    for _ in each_isa():
        for view in (x, np.asfortranarray(x), x[::-1], other):
            found = RunningMoments(axis).update(view)
            assert found.shape == np.sum(x, axis=axis, dtype="f8").shape
            assert found.count.dtype == np.int64 and found.mean.dtype == np.float64
            assert_exact(found, reverse if view.strides[0] < 0 else exact)


@pytest.mark.parametrize(
    "n", [1, 2, 15, 16, 17, 255, 256, 257, 4095, 4096, 4097, 70000]
)
def test_every_length_gives_the_same_way_up_and_across(n: int) -> None:
    x = 100 + random((3, n), seed=n)
    exact = Exact(reference.RunningMoments(1).update(x))
    for _ in each_isa():
        for axis, view in ((1, x), (0, np.ascontiguousarray(x.T)), ((0, 2), x[None])):
            assert_exact(RunningMoments(axis).update(view), exact)


@pytest.mark.parametrize("n", [1, 5, 64, 768, 5000])
def test_hostile_values(n: int, dtype: str) -> None:
    if dtype == "float64" and not WIDE:
        pytest.skip("longdouble is float64 here")
    x = np.stack(list(hostile(n, dtype).values()))
    exact = Exact(reference.RunningMoments(1).update(x))
    # Where the sum of squares is no float64, neither is the state's.
    kept = (exact.var() < 1e308 / n) & ((exact.var() > 1e-280) | (exact.var() == 0))
    allowed = MEAN * (np.abs(exact.mean) + np.where(kept, exact.std(), 0)) + 5e-324
    largest = np.max(np.abs(x.astype("f8")), axis=1)
    across = np.ascontiguousarray(x.T)
    for isa, axis in itertools.product(each_isa(), (0, 1)):
        found = RunningMoments(axis).update(x if axis else across)
        assert np.all((np.abs(found.mean - exact.mean) <= allowed) | ~kept), isa
        assert np.all(np.isfinite(found.mean))
        assert np.all(np.abs(found.mean - exact.mean) <= 1e-14 * largest + 5e-324)
        off = np.abs(np.where(kept, found.var(), 0) - np.where(kept, exact.var(), 0))
        assert np.all((off <= VAR * exact.var()) | ~kept), isa
        assert np.array_equal(found.min, exact.min)
        assert np.array_equal(found.max, exact.max)


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


# ---- NaN, masks, weights -----------------------------------------------------------


@pytest.mark.parametrize("nan", ["propagate", "omit"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES[:16])
def test_nan_is_what_was_asked_for(
    shape: tuple[int, ...], axis: Any, nan: Any, dtype: str
) -> None:
    x = random(shape, dtype, seed=2)
    x[np.random.default_rng(0).random(shape) < 0.1] = np.nan
    weights = np.arange(x.size).reshape(shape) % 4
    moments = reference.RunningMoments(axis, nan=nan).update(x)
    exact = Exact(moments)
    both = Exact(moments.update(x, weights % 3 > 0, weights))
    for _ in each_isa():
        found = RunningMoments(axis, nan=nan).update(x)
        assert_exact(found, exact)
        again = found.copy().update(x, weights % 3 > 0, weights)
        assert_exact(again, both)


@pytest.mark.parametrize("axis", [0, 1])
def test_nan_stays_in_its_feature(axis: int, dtype: str) -> None:
    clean = random((300, 300), dtype)
    x = clean.copy()
    x[17, 11] = np.nan
    c = 17 if axis else 11
    exact = Exact(reference.RunningMoments(axis).update(clean))
    for isa in each_isa():
        m = RunningMoments(axis).update(x)
        assert all(np.isnan(v[c]) for v in (m.mean, m.var(), m.min, m.max)), isa
        assert m.count[c] == 300, isa
        for mine, theirs in ((m.mean, exact.mean), (m.var(), exact.var())):
            off = np.abs(np.delete(mine, c) - np.delete(theirs, c))
            assert np.all(off <= VAR * np.delete(exact.var(), c)), isa


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
        exact = Exact(reference.RunningMoments(axis).update(x, mask))
        if mask.shape == x.shape:
            reverse = Exact(reference.RunningMoments(axis).update(x[::-1], mask[::-1]))
        for _ in each_isa():
            assert_exact(RunningMoments(axis).update(garbage, mask), exact)
            if mask.shape == x.shape:
                backward = np.asfortranarray(garbage)[::-1]
                found = RunningMoments(axis).update(backward, mask[::-1])
                assert_exact(found, reverse)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_weights(shape: tuple[int, ...], axis: Any, dtype: str) -> None:
    x = np.clip(50 + 20 * random(shape, "f8"), 0, 200).astype(dtype)
    rng = np.random.default_rng(4)
    types = ["f4", "f8", "u1"]
    for i, part in enumerate(((*shape[:-1], 1), shape)):
        for k, kind in enumerate(("f4", "f8", "i8")):
            if x.size > 4000 and (i + k + types.index(dtype)) % 3 != 0:
                continue  # each type of x has others
            weights = (rng.integers(0, 5, part) / (1 if kind == "i8" else 3)).astype(
                kind
            )
            exact = Exact(reference.RunningMoments(axis).update(x, weights=weights))
            for _ in each_isa():
                found = RunningMoments(axis).update(x, weights=weights)
                assert_exact(found, exact)
    mask = rng.random(shape) < 0.5
    exact = Exact(reference.RunningMoments(axis).update(x, mask, weights))
    for _ in each_isa():
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
