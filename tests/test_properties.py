# SPDX-License-Identifier: MIT
"""test_properties.py - what must hold for every array that hypothesis can think of."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracle import BOUND, assert_close, random, same_bits

import fastnorm
from fastnorm import reference

dtypes = st.sampled_from(["float32", "float64"])
seeds = st.integers(0, 2**32 - 1)


@st.composite
def rows(draw: st.DrawFn) -> NDArray[Any]:
    """A table whose rows have any offset and any scale that the type can hold."""
    dtype = draw(dtypes)
    shape = draw(st.integers(1, 20)), draw(st.integers(1, 300))
    reach = 30 if dtype == "float32" else 290
    scale = 10.0 ** draw(st.floats(-reach, reach))
    offset = draw(st.sampled_from([0, 0, 1, -100, 1e4])) * scale
    return (scale * random(shape, "f8", draw(seeds)) + offset).astype(dtype)


@given(rows(), st.sampled_from([0.0, 1e-5, 1.0]))
def test_layer_norm_is_within_the_bound(x: NDArray[Any], eps: float) -> None:
    n = x.shape[1]
    y = fastnorm.layer_norm(x, n, eps=eps)
    assert_close(y, reference.layer_norm(x, n, eps=eps))


@given(rows(), st.sampled_from([0.0, None, 1.0]))
def test_rms_norm_is_within_the_bound(x: NDArray[Any], eps: float | None) -> None:
    n = x.shape[1]
    assert_close(fastnorm.rms_norm(x, n, eps=eps), reference.rms_norm(x, n, eps=eps))


@given(rows(), st.sampled_from([0.0, 1e-5]), st.booleans())
def test_batch_norm_is_within_the_bound(
    x: NDArray[Any], eps: float, first: bool
) -> None:
    if x.shape[0] == 1:
        x = np.vstack([x, 2 * x])
    if first:
        x = np.ascontiguousarray(x.T)
    axis = 0 if first else 1
    options: dict[str, Any] = {"training": True, "eps": eps, "channel_axis": axis}
    y = fastnorm.batch_norm(x, None, None, **options)
    assert_close(y, reference.batch_norm(x, None, None, **options))


@given(rows(), st.integers(-60, 60))
def test_scaling_a_row_does_not_change_its_norm(x: NDArray[Any], power: int) -> None:
    scaled = x * x.dtype.type(2.0**power)
    if not np.array_equal(scaled / x.dtype.type(2.0**power), x):
        return  # a value left the range, the rows are no longer multiples
    n = x.shape[1]
    for norm in (fastnorm.layer_norm, fastnorm.rms_norm):
        a, b = norm(x, n, eps=0.0), norm(scaled, n, eps=0.0)
        bound = 2 * BOUND[x.dtype] * np.maximum(1, np.abs(a))
        assert np.all(np.abs(a - b) <= bound)


@given(seeds, dtypes, st.integers(1, 500), st.integers(-(2**20), 2**20))
def test_shifting_a_row_does_not_change_its_norm(
    seed: int, dtype: str, n: int, shift: int
) -> None:
    # Integers, so that the shift itself is exact.
    x = np.random.default_rng(seed).integers(-100, 100, (3, n)).astype(dtype)
    a = fastnorm.layer_norm(x, n, eps=0.0)
    b = fastnorm.layer_norm(x + x.dtype.type(shift), n, eps=0.0)
    bound = 2 * BOUND[x.dtype] * np.maximum(1, np.abs(a))
    assert np.all(np.abs(a - b) <= bound)


@given(rows())
def test_negating_a_row_negates_its_norm(x: NDArray[Any]) -> None:
    n = x.shape[1]
    for norm in (fastnorm.layer_norm, fastnorm.rms_norm):
        np.testing.assert_array_equal(norm(-x, n), -norm(x, n))


@given(rows(), st.data())
def test_chunked_equals_unchunked_bits(x: NDArray[Any], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, x.shape[0]), max_size=4)))
    n = x.shape[1]
    weight = random(n, x.dtype, 5)
    for norm in (fastnorm.layer_norm, fastnorm.rms_norm):
        parts = [norm(part, n, weight) for part in np.split(x, cuts)]
        assert same_bits(np.concatenate(parts), norm(x, n, weight))
    mean, var = random(n, x.dtype, 1), np.ones(n, x.dtype)
    parts = [fastnorm.batch_norm(part, mean, var) for part in np.split(x, cuts)]
    assert same_bits(np.concatenate(parts), fastnorm.batch_norm(x, mean, var))


@given(seeds, st.data())
def test_rows_can_be_permuted(seed: int, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 80)))
    x = random(shape, seed=seed)
    order = np.random.default_rng(seed).permutation(x.shape[0])
    for norm in (fastnorm.layer_norm, fastnorm.rms_norm):
        assert same_bits(norm(x[order], x.shape[1]), norm(x, x.shape[1])[order])


@given(seeds, dtypes, st.data())
def test_merging_any_split_gives_the_whole(
    seed: int, dtype: str, data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, 400))
    offset = data.draw(st.sampled_from([0.0, 1e3, -1e5]))
    x = (offset + random((n, 3), "f8", seed)).astype(dtype)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=6)))
    states = [
        fastnorm.moments(part, axis=0, return_state=True) for part in np.split(x, cuts)
    ]
    while len(states) > 1:
        i = data.draw(st.integers(0, len(states) - 2))
        states[i : i + 2] = [fastnorm.merge_moments(states[i], states[i + 1])]
    exact = reference.moments(x, axis=0, return_state=True)
    std = np.sqrt(exact.m2 / n)
    bound = BOUND[x.dtype]
    assert states[0].count == n
    allowed = bound * std + 1e-15 * np.abs(exact.mean)
    assert np.all(np.abs(states[0].mean - exact.mean) <= allowed)
    # Each merge may add the rounding of two float64 means to what lies between them.
    allowed = 2 * bound * exact.m2 + n * std * 1e-15 * np.abs(exact.mean) * 2
    assert np.all(np.abs(states[0].m2 - exact.m2) <= allowed)


@given(seeds, dtypes, st.data())
def test_moments_over_any_axes_of_any_strides(
    seed: int, dtype: str, data: st.DataObject
) -> None:
    shape = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1)))
    order = data.draw(st.permutations(range(len(shape))))
    steps = data.draw(
        st.lists(st.sampled_from([1, 2, -1]), min_size=len(shape), max_size=len(shape))
    )
    x = random([n * abs(s) for n, s in zip(shape, steps, strict=True)], dtype, seed)
    x = x[tuple(slice(None, None, s) for s in steps)].transpose(order)
    found = fastnorm.moments(x, axis=tuple(axes))
    exact = reference.moments(x, axis=tuple(axes))
    assert found.mean.shape == exact.mean.shape
    assert np.all(np.abs(found.mean - exact.mean) <= BOUND[x.dtype] * 4)
    assert np.all(np.abs(found.var - exact.var) <= 2 * BOUND[x.dtype] * exact.var)
