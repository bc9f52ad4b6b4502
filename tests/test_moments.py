# SPDX-License-Identifier: MIT
"""test_moments.py - moments and merge_moments against the exact result."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from oracle import BOUND, LENGTHS, hostile, random, same_bits

import fastnorm
from fastnorm import reference


def assert_moments(
    found: fastnorm.Moments,
    exact: fastnorm.Moments,
    dtype: np.dtype,
    std: ArrayLike | None = None,
) -> None:
    """The mean is as good as normalizing by it needs, the variance relatively so.

    No float64 is nearer to a mean than 1e-16 of it, nor to a variance below the
    normal numbers than the smallest one; `std` if the variance is one of those.
    """
    std = np.sqrt(exact.var) if std is None else std
    allowed = BOUND[dtype] * std + BOUND[np.dtype("f8")] * np.abs(exact.mean)
    assert np.all(np.abs(found.mean - exact.mean) <= allowed)
    allowed = 2 * BOUND[dtype] * exact.var + 1e-322
    assert np.all(np.abs(found.var - exact.var) <= allowed)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.usefixtures("backend")
def test_every_length_as_rows_columns_and_channels(n: int, dtype: str) -> None:
    x = 1e3 + random((3, n), dtype, seed=n)
    exact = reference.moments(x, axis=1)
    for found in (
        fastnorm.moments(x, axis=1),
        fastnorm.moments(np.ascontiguousarray(x.T), axis=0),
        fastnorm.moments(np.stack([x, x]), axis=(0, 2)),
    ):
        assert found.mean.dtype == found.var.dtype == np.float64
        assert found.mean.shape == found.var.shape == (3,)
        assert_moments(found, exact, x.dtype)


@pytest.mark.parametrize("n", [1, 5, 64, 768, 20000])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.usefixtures("backend")
def test_hostile_values_are_within_the_bound(n: int, axis: int, dtype: str) -> None:
    x = np.stack(list(hostile(n, dtype).values()))
    exact = reference.moments(x, axis=1)
    # Of float64 data of 1e160 the sum of squared deviations is no float64.
    representable = exact.var < np.finfo("f8").max / n
    x, exact = x[representable], fastnorm.Moments(*(a[representable] for a in exact))
    std = x.astype(np.longdouble).std(axis=1)
    found = fastnorm.moments(x if axis else np.ascontiguousarray(x.T), axis=axis)
    assert_moments(found, exact, x.dtype, std)


@pytest.mark.usefixtures("either")
def test_the_mean_of_the_largest_numbers_is_finite(dtype: str) -> None:
    top = np.finfo(dtype).max
    x = np.array([top, -top, top, -top, top, top] * 100, dtype)
    mean = fastnorm.moments(x).mean
    assert math.isclose(mean, float(top) / 3, rel_tol=1e-6)


def with_infinities(n: int, dtype: str, value: float, where: str) -> NDArray:
    """Two rows with infinities, the second's others have no sum; and two without."""
    x = random((4, n), dtype, seed=n)
    x[1] = -np.copysign(np.finfo(dtype).max, value)
    x[:2, {"first": 0, "last": -1, "inside": n // 2, "all": slice(None)}[where]] = value
    return x


def assert_infinite(
    found: fastnorm.Moments, mean: float, exact: fastnorm.Moments
) -> None:
    np.testing.assert_array_equal(found.mean[:2], [mean, mean])
    assert np.all(np.isnan(found.var[:2]))
    np.testing.assert_allclose(found.mean[2:], exact.mean[2:], atol=1e-6)


@pytest.mark.parametrize("where", ["first", "last", "inside", "all"])
@pytest.mark.parametrize("n", [2, 5, 40, 300, 5000])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.usefixtures("backend")
def test_infinities_are_in_the_mean(
    value: float, n: int, where: str, dtype: str
) -> None:
    x = with_infinities(n, dtype, value, where)
    for mean in (value, np.nan):
        exact = reference.moments(x, axis=1)
        assert_infinite(exact, mean, exact)
        assert_infinite(fastnorm.moments(x, axis=1), mean, exact)
        columns = np.ascontiguousarray(x.T)
        assert_infinite(fastnorm.moments(columns, axis=0), mean, exact)
        channels = np.stack([x, x])
        assert_infinite(fastnorm.moments(channels, axis=(0, 2)), mean, exact)
        x[:2, :2] = value, -value  # of which no mean is right


@pytest.mark.parametrize("ddof", [0, 1, 2])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.usefixtures("either")
def test_every_choice_of_axes(ddof: int, keepdims: bool, dtype: str) -> None:
    x = 10 + random((3, 4, 5, 6), dtype)
    for length in range(5):
        for axes in itertools.combinations(range(4), length):
            found = fastnorm.moments(x, axis=axes, ddof=ddof, keepdims=keepdims)
            exact = reference.moments(x, axis=axes, ddof=ddof, keepdims=keepdims)
            assert found.mean.shape == exact.mean.shape
            if axes == () and ddof:
                assert np.all(np.isnan(found.var))
            elif math.prod(x.shape[i] for i in axes) > ddof:
                assert_moments(found, exact, x.dtype)


@pytest.mark.usefixtures("either")
def test_too_few_values_have_no_variance() -> None:
    mean, var = fastnorm.moments(np.array([[1.0], [2.0]]), axis=1, ddof=1)
    assert np.array_equal(mean, [1, 2]) and np.all(np.isnan(var))
    for module in (fastnorm, reference):
        assert np.isnan(module.moments(np.ones(3), ddof=2**70)[1])
    assert all(np.isnan(m) for m in fastnorm.moments(np.empty(0)))


@pytest.mark.usefixtures("backend")
def test_constants_have_exactly_no_variance(dtype: str) -> None:
    for n in (1, 3, 100, 5000):
        mean, var = fastnorm.moments(np.full((n, 7), 3.3, dtype), axis=0)
        assert np.all(mean == np.dtype(dtype).type(3.3)) and np.all(var == 0)


def states(x: NDArray, cuts: ArrayLike) -> list[fastnorm.MomentsState]:
    return [
        fastnorm.moments(part, axis=0, return_state=True) for part in np.split(x, cuts)
    ]


@pytest.mark.usefixtures("either")
def test_merged_parts_are_the_whole(dtype: str) -> None:
    x = 10 + random((1000, 5), dtype)
    merged = states(x, [0, 1, 400, 401, 999])
    total = merged[0]
    for state in merged[1:]:
        total = fastnorm.merge_moments(total, state)
    assert total.count == 1000
    exact = reference.moments(x, axis=0)
    found = fastnorm.Moments(total.mean, total.m2 / total.count)
    assert_moments(found, exact, x.dtype)


@pytest.mark.usefixtures("either")
def test_an_empty_set_takes_no_part() -> None:
    state = fastnorm.moments(random((9, 3), "f8"), axis=0, return_state=True)
    nothing = fastnorm.MomentsState(0, np.full(3, np.nan), np.full(3, np.inf))
    for merged in (
        fastnorm.merge_moments(state, nothing),
        fastnorm.merge_moments(nothing, state),
    ):
        assert merged.count == 9
        assert same_bits(merged.mean, state.mean) and same_bits(merged.m2, state.m2)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("sizes", [(3, 7), (7, 3), (5, 5)])
def test_infinities_are_in_merged_means(sizes: tuple[int, int]) -> None:
    with_one, finite = random((10, 1), "f8"), random((10, 1), "f8")
    with_one[2] = np.inf
    parts = (with_one, finite, -with_one)
    for a, b, mean in ((0, 1, np.inf), (1, 2, -np.inf), (0, 0, np.inf), (0, 2, np.nan)):
        first, second = (
            fastnorm.moments(parts[i][:n], axis=0, return_state=True)
            for i, n in zip((a, b), sizes, strict=True)
        )
        for merge in (fastnorm.merge_moments, reference.merge_moments):
            for pair in ((first, second), (second, first)):
                merged = merge(*pair)
                np.testing.assert_array_equal(merged.mean, [mean])
                assert np.all(np.isnan(merged.m2))


@pytest.mark.usefixtures("either")
def test_the_means_of_far_parts_merge() -> None:
    """The distance between the two is no float64."""
    top = np.finfo("f8").max
    a, b = (
        fastnorm.moments(np.full((n, 1), x), axis=0, return_state=True)
        for n, x in ((3, top), (1, -top))
    )
    assert math.isclose(fastnorm.merge_moments(a, b).mean[0], top / 2)


@pytest.mark.usefixtures("either")
def test_merging_changes_neither_part() -> None:
    a, b = states(random((50, 4)), [20])
    kept = [array.copy() for array in (a.mean, a.m2, b.mean, b.m2)]
    fastnorm.merge_moments(a, b)
    for now, before in zip((a.mean, a.m2, b.mean, b.m2), kept, strict=True):
        assert same_bits(now, before)


@pytest.mark.usefixtures("either")
def test_counts_beyond_32_bits_merge() -> None:
    big = fastnorm.MomentsState(2**40, np.array([1.0]), np.array([2.0**40]))
    merged = fastnorm.merge_moments(big, big)
    assert merged.count == 2**41
    assert merged.mean == [1.0] and merged.m2 == [2.0**41]


@pytest.mark.usefixtures("either")
def test_a_state_can_be_pickled() -> None:
    state = fastnorm.moments(random((8, 2)), axis=0, return_state=True)
    again = pickle.loads(pickle.dumps(state))
    assert type(again) is fastnorm.MomentsState and again.count == 8
    assert same_bits(again.m2, state.m2)


def test_nan_stays_in_its_column(isa: str, dtype: str) -> None:
    clean = random((300, 40), dtype)
    x = clean.copy()
    x[17, 11] = np.nan
    expected, found = fastnorm.moments(clean, axis=0), fastnorm.moments(x, axis=0)
    assert np.isnan(found.mean[11]) and np.isnan(found.var[11]), isa
    for a, b in zip(found, expected, strict=True):
        assert same_bits(np.delete(a, 11), np.delete(b, 11))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("n", [1, 7, 64, 515, 4099])
@pytest.mark.usefixtures("backend")
def test_16_bit_values_are_widened_exactly(name: str, n: int) -> None:
    if name == "bfloat16":
        pytest.importorskip("ml_dtypes")
    x = reference.round_to(10 + random((5, n), "f8"), name)
    for axis, array in ((1, x), (0, np.ascontiguousarray(x.T))):
        found = fastnorm.moments(array, axis=axis)
        wide = fastnorm.moments(array.astype("f4"), axis=axis)
        assert found.mean.dtype == np.float64
        for a, b in zip(found, wide, strict=True):
            assert same_bits(a, b)
        assert_moments(found, reference.moments(array, axis=axis), np.dtype("f4"))
    for axes in ((0, 2), (1,), (0, 1, 2)):
        cube = np.stack([x, x[::-1]])[..., ::-1]
        found = fastnorm.moments(cube, axis=axes, ddof=0)
        assert_moments(found, reference.moments(cube, axis=axes), np.dtype("f4"))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("axis", [0, 1, (0, 1)])
@pytest.mark.usefixtures("backend")
def test_8_bit_values_are_scaled(dtype: type, axis: int | tuple[int, ...]) -> None:
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(3)
    x = rng.integers(limits.min, limits.max + 1, (300, 70)).astype(dtype)
    for options in ({}, {"in_scale": 0.04}, {"in_scale": 2.5, "in_zero_point": 100}):
        found = fastnorm.moments(x, axis=axis, **options)
        exact = reference.moments(x, axis=axis, **options)
        assert_moments(found, exact, np.dtype("f4"))
    constant = np.full((40, 9), 77, dtype)
    mean, var = fastnorm.moments(constant, axis=0, in_scale=0.1, in_zero_point=7)
    assert np.all(mean == mean[0]) and np.all(var == 0)
    assert abs(mean[0] - 7) < 7e-7


def test_denormals_are_flushed_only_when_asked(isa: str) -> None:
    x = np.full((50, 40), 1e-40, np.float32)
    for axis in (0, 1, None):
        assert np.all(fastnorm.moments(x, axis).mean == np.float64(np.float32(1e-40)))
        assert np.all(fastnorm.moments(x, axis, flush_denormals=True).mean == 0), isa
        assert np.all(fastnorm.moments(x, axis).mean > 0)


@pytest.mark.usefixtures("either")
def test_quantization_without_use_is_refused() -> None:
    x = np.zeros((2, 3), np.float32)
    for options in ({"in_scale": 2.0}, {"in_zero_point": 0}):
        with pytest.raises(ValueError, match="^moments: in_scale and in_zero_point"):
            fastnorm.moments(x, **options)
    with pytest.raises(ValueError, match="^moments: in_scale is -1.0, a positive"):
        fastnorm.moments(x.astype("i1"), in_scale=-1.0)
    with pytest.raises(ValueError, match="^moments: in_zero_point is 300, uint8 needs"):
        fastnorm.moments(x.astype("u1"), in_zero_point=300)


@pytest.mark.slow
@pytest.mark.usefixtures("either")
def test_ten_million_values_are_within_the_bound() -> None:
    x = 100 + random(10_000_000)
    wide = x.astype("f8")
    mean = wide.mean()
    wide -= mean
    mean += wide.mean()
    found = fastnorm.moments(x)
    assert abs(found.mean - mean) <= 4e-7
    assert abs(found.var / np.square(wide).mean() - 1) <= 4e-7
