# SPDX-License-Identifier: MIT
"""test_running_moments_merging.py - batches, merging and threads, however split."""

from __future__ import annotations

import math
import threading
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from oracle import random, same_bits
from running_moments_cases import MEAN, VAR, assert_exact, state_bits

import fastnorm
from fastnorm import RunningMoments, reference

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
