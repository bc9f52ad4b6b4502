# SPDX-License-Identifier: MIT
"""test_rms_norm.py - rms_norm against the exact result, on every ISA."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import BOUND, LENGTHS, assert_close, error, hostile, random, same_bits

import fastnorm
from fastnorm import reference


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.usefixtures("backend")
def test_every_length_is_within_the_bound(n: int, dtype: str) -> None:
    x = 3 + random((11, n), dtype, seed=n)
    y, rstd = fastnorm.rms_norm(x, n, return_stats=True)
    exact, exact_rstd = reference.rms_norm(x, n, return_stats=True)
    assert y.dtype == rstd.dtype == x.dtype and rstd.shape == (11, 1)
    assert_close(y, exact)
    assert error(rstd / exact_rstd, np.ones((11, 1))) <= BOUND[x.dtype]


@pytest.mark.parametrize("eps", [None, 1e-5, 0.0])
@pytest.mark.parametrize("n", [1, 2, 5, 16, 64, 100, 768, 4096, 20000])
@pytest.mark.usefixtures("backend")
def test_hostile_rows_are_within_the_bound(
    n: int, eps: float | None, dtype: str
) -> None:
    rows = hostile(n, dtype)
    x = np.stack(list(rows.values()))
    y = fastnorm.rms_norm(x, n, eps=eps)
    exact = reference.rms_norm(x, n, eps=eps)
    errors = {
        name: e
        for i, name in enumerate(rows)
        if (e := error(y[i], exact[i])) > BOUND[x.dtype]
    }
    assert not errors


@pytest.mark.parametrize("n", [5, 16, 64, 100, 768, 4099])
@pytest.mark.usefixtures("backend")
def test_weight_scales_each_column(n: int, dtype: str) -> None:
    x, weight = random((9, n), dtype, 1), random(n, dtype, 2)
    y = fastnorm.rms_norm(x, (n,), weight)
    assert_close(y, reference.rms_norm(x, (n,), weight))


@pytest.mark.parametrize("inner", [2, 3, 7, 16, 33, 196])
@pytest.mark.parametrize("cols", [1, 3, 16, 65, 300])
@pytest.mark.usefixtures("backend")
def test_a_middle_axis_is_normalized_in_place_of_the_last(
    cols: int, inner: int, dtype: str
) -> None:
    x, weight = 5 + random((3, cols, inner), dtype), random(cols, dtype, 2)
    y, rstd = fastnorm.rms_norm(x, None, weight, axis=1, return_stats=True)
    assert rstd.shape == (3, 1, inner)
    assert_close(y, reference.rms_norm(x, None, weight, axis=1))


@pytest.mark.usefixtures("backend")
def test_hostile_columns_are_within_the_bound(dtype: str) -> None:
    rows = hostile(515, dtype)
    x = np.ascontiguousarray(np.stack(list(rows.values())).T)
    exact = reference.rms_norm(x, None, axis=0)
    y = fastnorm.rms_norm(x, None, axis=0)
    errors = {
        name: e
        for i, name in enumerate(rows)
        if (e := error(y[:, i], exact[:, i])) > BOUND[x.dtype]
    }
    assert not errors


@pytest.mark.usefixtures("either")
def test_the_default_eps_is_the_machine_epsilon(dtype: str) -> None:
    x = np.full((1, 8), 1e-4, dtype)
    eps = float(np.finfo(dtype).eps)
    y = fastnorm.rms_norm(x, 8)
    assert_close(y, np.full((1, 8), 1e-4 / np.sqrt(1e-8 + eps)))
    assert same_bits(y, fastnorm.rms_norm(x, 8, eps=eps))
    assert not same_bits(y, fastnorm.rms_norm(x, 8, eps=1e-5))


@pytest.mark.usefixtures("backend")
def test_zeros_stay_zeros_without_eps(dtype: str) -> None:
    y, rstd = fastnorm.rms_norm(
        np.zeros((3, 100), dtype), 100, eps=0.0, return_stats=True
    )
    assert np.all(y == 0) and np.all(rstd == 0)


@pytest.mark.usefixtures("either")
def test_one_element_gives_its_sign(dtype: str) -> None:
    x = hostile(40, dtype)["1e20"].reshape(40, 1)
    assert_close(fastnorm.rms_norm(x, 1, eps=0.0), np.sign(x))


def test_nan_and_inf_stay_in_their_row(isa: str, dtype: str) -> None:
    for n in (5, 16, 64, 100, 768, 5000):
        clean = random((12, n), dtype, seed=n)
        expected = fastnorm.rms_norm(clean, n)
        for bad in (np.nan, np.inf, -np.inf):
            x = clean.copy()
            x[5, n - 1] = bad
            y = fastnorm.rms_norm(x, n)
            assert np.isnan(y[5, n - 1]), (isa, n, bad)
            # NaN spoils its whole row; one Inf makes all else of it vanish.
            np.testing.assert_array_equal(y[5, :-1], bad * 0 if bad != bad else 0)
            assert same_bits(np.delete(y, 5, 0), np.delete(expected, 5, 0))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (3, 0, 4)])
@pytest.mark.usefixtures("either")
def test_an_empty_input_gives_an_empty_result(shape: tuple[int, ...]) -> None:
    y, rstd = fastnorm.rms_norm(
        np.empty(shape, "float32"), shape[1:], return_stats=True
    )
    assert y.shape == shape and rstd.shape == (shape[0], *(1 for _ in shape[1:]))
