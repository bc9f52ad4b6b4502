# SPDX-License-Identifier: MIT
"""test_layer_norm.py - layer_norm against the exact result, on every ISA."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import (
    BOUND,
    LENGTHS,
    WIDE,
    assert_close,
    error,
    hostile,
    random,
    same_bits,
    terms,
)

import fastnorm
from fastnorm import reference


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.usefixtures("backend")
def test_every_length_is_within_the_bound(n: int, dtype: str) -> None:
    # 11 rows: more than any group of short rows, and not a multiple of one.
    x = 3 + random((11, n), dtype, seed=n)
    y, mean, rstd = fastnorm.layer_norm(x, n, return_stats=True)
    exact, exact_mean, exact_rstd = reference.layer_norm(x, n, return_stats=True)
    assert y.dtype == mean.dtype == rstd.dtype == x.dtype
    assert mean.shape == rstd.shape == (11, 1)
    assert_close(y, exact)
    assert_close(mean, exact_mean)
    assert error(rstd / exact_rstd, np.ones((11, 1))) <= BOUND[x.dtype]


@pytest.mark.parametrize("eps", [1e-5, 0.0])
@pytest.mark.parametrize("n", [1, 2, 5, 16, 64, 100, 768, 4096, 20000])
@pytest.mark.usefixtures("backend")
def test_hostile_rows_are_within_the_bound(n: int, eps: float, dtype: str) -> None:
    rows = hostile(n, dtype)
    x = np.stack(list(rows.values()))
    y = fastnorm.layer_norm(x, n, eps=eps)
    exact = reference.layer_norm(x, n, eps=eps)
    errors = {
        name: e
        for i, name in enumerate(rows)
        if (e := error(y[i], exact[i])) > BOUND[x.dtype]
    }
    assert not errors


@pytest.mark.parametrize("n", [5, 16, 64, 100, 768, 4099])
@pytest.mark.parametrize("given", ["weight", "bias", "both"])
@pytest.mark.usefixtures("backend")
def test_weight_and_bias_are_each_optional(n: int, given: str, dtype: str) -> None:
    x = 100 + random((9, n), dtype, seed=1)
    weight = random(n, dtype, seed=2) if given != "bias" else None
    bias = random(n, dtype, seed=3) if given != "weight" else None
    size = terms(
        x, np.ones(n) if weight is None else weight, 0.0 if bias is None else bias
    )
    y = fastnorm.layer_norm(x, (n,), weight, bias)
    assert_close(y, reference.layer_norm(x, (n,), weight, bias), size)


@pytest.mark.parametrize("inner", [1, 2, 3, 7, 16, 33, 196])
@pytest.mark.parametrize("cols", [1, 3, 16, 65, 300])
@pytest.mark.usefixtures("backend")
def test_a_middle_axis_is_normalized_in_place_of_the_last(
    cols: int, inner: int, dtype: str
) -> None:
    x = 1e3 + random((3, cols, inner), dtype, seed=cols)
    weight, bias = random(cols, dtype, seed=2), random(cols, dtype, seed=3)
    y, mean, rstd = fastnorm.layer_norm(
        x, None, weight, bias, axis=1, return_stats=True
    )
    exact = reference.layer_norm(x, None, weight, bias, axis=1)
    moved = np.moveaxis(x, 1, 2)
    size = np.moveaxis(terms(moved, weight, bias), 2, 1)
    assert y.shape == x.shape and mean.shape == rstd.shape == (3, 1, inner)
    assert_close(y, exact, size)


@pytest.mark.usefixtures("backend")
def test_hostile_columns_are_within_the_bound(dtype: str) -> None:
    rows = hostile(515, dtype)
    x = np.ascontiguousarray(np.stack(list(rows.values())).T)
    exact = reference.layer_norm(x, None, axis=0)
    y = fastnorm.layer_norm(x, None, axis=0)
    errors = {
        name: e
        for i, name in enumerate(rows)
        if (e := error(y[:, i], exact[:, i])) > BOUND[x.dtype]
    }
    assert not errors


@pytest.mark.usefixtures("either")
def test_several_axes_are_one_row(dtype: str) -> None:
    x = random((4, 5, 6, 7), dtype)
    weight, bias = random((6, 7), dtype, 1), random((6, 7), dtype, 2)
    y, mean, _ = fastnorm.layer_norm(x, (6, 7), weight, bias, return_stats=True)
    flat = fastnorm.layer_norm(x.reshape(20, 42), 42, weight.ravel(), bias.ravel())
    assert mean.shape == (4, 5, 1, 1)
    assert same_bits(y, flat.reshape(x.shape))
    middle = fastnorm.layer_norm(x, (5, 6), axis=(1, 2))
    assert_close(middle, reference.layer_norm(x, None, axis=(1, 2)))
    assert same_bits(middle, fastnorm.layer_norm(x, None, axis=(-2, -3)))


@pytest.mark.usefixtures("either")
def test_all_axes_are_one_row(dtype: str) -> None:
    x = random((3, 4, 5), dtype)
    assert_close(fastnorm.layer_norm(x, x.shape), reference.layer_norm(x, x.shape))


@pytest.mark.parametrize("n", [1, 3, 16, 64, 100, 768, 5000])
@pytest.mark.parametrize("value", [3.3, 0.0, -0.1, 1e30, 1e-40, 65504.3])
@pytest.mark.parametrize("eps", [1e-5, 0.0])
@pytest.mark.usefixtures("backend")
def test_a_constant_row_gives_exactly_the_bias(
    n: int, value: float, eps: float, dtype: str
) -> None:
    x = np.full((3, n), value, dtype)
    weight, bias = random(n, dtype, 1), random(n, dtype, 2)
    y = fastnorm.layer_norm(x, n, weight, bias, eps)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, x.shape))
    np.testing.assert_array_equal(fastnorm.layer_norm(x, n, eps=eps), np.zeros((3, n)))


@pytest.mark.usefixtures("either")
def test_one_element_gives_exactly_the_bias(dtype: str) -> None:
    x = hostile(50, dtype)["1e20"].reshape(50, 1)
    bias = np.array([0.7], dtype)
    y = fastnorm.layer_norm(x, 1, np.array([3], dtype), bias)
    np.testing.assert_array_equal(y, np.full((50, 1), bias[0]))


@pytest.mark.usefixtures("backend")
def test_zero_variance_and_zero_eps_give_rstd_zero(dtype: str) -> None:
    y, mean, rstd = fastnorm.layer_norm(
        np.full((2, 37), 5, dtype), 37, eps=0.0, return_stats=True
    )
    assert np.all(y == 0) and np.all(mean == 5) and np.all(rstd == 0)


@pytest.mark.usefixtures("either")
def test_eps_is_inside_the_square_root() -> None:
    x = np.array([[-1.0, 1.0]])
    np.testing.assert_allclose(fastnorm.layer_norm(x, 2, eps=3.0), [[-0.5, 0.5]])


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.0, 100.0, 1e6])
@pytest.mark.usefixtures("either")
def test_a_row_of_ten_million_is_within_the_bound(offset: float) -> None:
    x = (offset + random(10_000_000)).astype("float32")
    y, mean, rstd = fastnorm.layer_norm(x, x.shape, return_stats=True)
    # float64 has digits to spare for float32 data, and is faster than the reference.
    wide = x.astype("float64")
    exact_mean = wide.mean()
    wide -= exact_mean
    low = wide.mean()
    wide -= low
    deviation = np.sqrt(np.square(wide).mean() + 1e-5)
    wide /= deviation
    assert_close(y, wide)
    assert abs(mean[0] - exact_mean - low) <= np.spacing(np.float32(max(offset, 1)))
    assert abs(rstd[0] * deviation - 1) <= 4e-7


def test_nan_and_inf_stay_in_their_row(isa: str, dtype: str) -> None:
    for n in (5, 16, 64, 100, 768, 5000):
        clean = random((12, n), dtype, seed=n)
        expected = fastnorm.layer_norm(clean, n)
        for bad in (np.nan, np.inf, -np.inf):
            for column in (0, n // 2, n - 1):
                x = clean.copy()
                x[5, column] = bad
                y = fastnorm.layer_norm(x, n)
                assert not np.any(np.isfinite(y[5])), (isa, n, bad, column)
                assert same_bits(np.delete(y, 5, 0), np.delete(expected, 5, 0))


def test_nan_and_inf_stay_in_their_column(isa: str, dtype: str) -> None:
    clean = random((4, 70, 21), dtype)
    expected = fastnorm.layer_norm(clean, None, axis=1)
    for bad in (np.nan, np.inf):
        x = clean.copy()
        x[2, 40, 13] = bad
        y = fastnorm.layer_norm(x, None, axis=1)
        assert not np.any(np.isfinite(y[2, :, 13])), isa
        y[2, :, 13] = expected[2, :, 13]
        assert same_bits(y, expected)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (3, 0, 4)])
@pytest.mark.usefixtures("either")
def test_an_empty_input_gives_an_empty_result(shape: tuple[int, ...]) -> None:
    x = np.empty(shape, "float32")
    y, mean, rstd = fastnorm.layer_norm(x, shape[1:], return_stats=True)
    assert y.shape == shape
    assert mean.shape == rstd.shape == (shape[0], *(1 for _ in shape[1:]))


@pytest.mark.skipif(not WIDE, reason="longdouble is float64 here")
@pytest.mark.usefixtures("either")
def test_float64_keeps_its_digits_far_from_zero() -> None:
    x = 1e12 + random((4, 3000), "float64")
    assert_close(fastnorm.layer_norm(x, 3000), reference.layer_norm(x, 3000))
