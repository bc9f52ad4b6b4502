# SPDX-License-Identifier: MIT
"""test_masks_moments.py - moments of what takes part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from oracle import hostile, random, same_bits

import fastnorm
from fastnorm import reference


@pytest.mark.parametrize("axis", [None, 0, 1, 2, (0, 2), (1, 2), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("pattern", [(4, 1, 9), (4, 5, 9), (1, 5, 1), (1, 1, 9), ()])
@pytest.mark.parametrize("order", ["C", "F", "strided"])
@pytest.mark.parametrize("keepdims", [False, True])
def test_moments_of_what_takes_part(
    axis: Any, pattern: tuple[int, ...], order: str, keepdims: bool, dtype: str
) -> None:
    x = 1e3 + random((4, 5, 9), dtype)
    mask = np.asarray(np.random.default_rng(9).random(pattern) < 0.5)
    x[~np.broadcast_to(mask, x.shape)] = np.nan
    if order == "F":
        x = np.asfortranarray(x)
    elif order == "strided":
        x = np.repeat(x, 2, axis=2)[..., ::2]
    for ddof in (0, 1):
        options: dict[str, Any] = {"keepdims": keepdims, "ddof": ddof, "mask": mask}
        found = fastnorm.moments(x, axis, **options)
        wanted: Any = reference.moments(x, axis, **options)
        for a, b in zip(found, wanted, strict=True):
            assert a.shape == b.shape and a.dtype == np.float64
            assert np.array_equal(np.isnan(a), np.isnan(b))
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("of", ["bool", "f4"])
@pytest.mark.parametrize("n", [5, 300])
def test_infinities_that_take_part_are_in_the_mean(
    value: float, of: str, n: int, dtype: str
) -> None:
    x = random((3, n), dtype)
    mask = np.arange(n) % 3 != 1
    x[0, 2], x[1, 1] = value, -value  # the second takes no part
    x[2, 0], x[2, 2] = value, -value
    weights = mask * 0.75 if of == "f4" else mask
    for by, axis in ((x, 1), (np.ascontiguousarray(x.T), 0)):
        part = np.asarray(weights, of).reshape((1, n) if axis else (n, 1))
        for found in (
            fastnorm.moments(by, axis, mask=part),
            reference.moments(by, axis, mask=part),
        ):
            np.testing.assert_array_equal(found.mean[[0, 2]], [value, np.nan])
            np.testing.assert_array_equal(np.isnan(found.var), [True, False, True])


@pytest.mark.parametrize("axis", [None, 1, (0, 2), (0, 1), (1, 2)])
def test_lengths_of_moments_are_a_mask(axis: Any, dtype: str) -> None:
    x = random((4, 5, 9), dtype)
    position = 2 if axis == (0, 2) else 1
    most = x.shape[position]
    lengths = [most, 0, 3, 1]
    mask = np.arange(most) < np.array(lengths)[:, None]
    mask = mask[:, None, :] if position == 2 else mask[:, :, None]
    found = fastnorm.moments(x, axis, lengths=lengths)
    wanted = fastnorm.moments(x, axis, mask=mask)
    assert all(map(same_bits, found, wanted))


def test_states_of_masked_moments_merge(dtype: str) -> None:
    x = 10 + random((8, 3, 50), dtype)
    mask = np.random.default_rng(4).random((8, 1, 50)) < 0.5
    a, b = (
        fastnorm.moments(x[part], (0, 2), mask=mask[part], return_state=True)
        for part in (slice(5), slice(5, 8))
    )
    assert a.count == np.count_nonzero(mask[:5]) and isinstance(a.count, int)
    merged = fastnorm.merge_moments(a, b)
    whole = fastnorm.moments(x, (0, 2), mask=mask, return_state=True)
    assert merged.count == whole.count
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-7)
    np.testing.assert_allclose(merged.m2, whole.m2, rtol=1e-6)
    nothing = fastnorm.moments(x, (0, 2), mask=False, return_state=True)
    assert nothing.count == 0 and not np.any(nothing.mean) and not np.any(nothing.m2)
    assert all(map(same_bits, fastnorm.merge_moments(nothing, a)[1:], a[1:]))
    with pytest.raises(ValueError, match="return_state=True needs a mask"):
        fastnorm.moments(x, (0, 2), mask=np.ones((1, 3, 1), bool), return_state=True)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("n", [2, 33, 1000])
@pytest.mark.usefixtures("isa")
def test_hostile_values_have_the_bits_of_what_takes_part_alone(
    last: bool, n: int, dtype: str
) -> None:
    rows = np.stack(list(hostile(n, dtype).values()))
    part = np.zeros(3 * n, bool)
    part[np.random.default_rng(n).permutation(3 * n)[:n]] = True
    x = np.full((len(rows), 3 * n), np.nan, dtype)
    x[:, part] = rows
    if last:
        x, rows = np.ascontiguousarray(x.T), np.ascontiguousarray(rows.T)
        found = fastnorm.moments(x, 0, mask=part[:, None])
    else:
        found = fastnorm.moments(x, 1, mask=part)
    wanted = fastnorm.moments(rows, 0 if last else 1)
    assert all(map(same_bits, found, wanted))
