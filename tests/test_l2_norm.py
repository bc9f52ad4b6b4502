# SPDX-License-Identifier: MIT
"""test_l2_norm.py - l2_norm and normalize against the exact result, on every ISA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from formats import BYTES, HALVES, MIXING, assert_rounded, hostile_rows, some
from oracle import BOUND, LENGTHS, assert_close, error, hostile, same_bits

import fastnorm
from fastnorm import reference

FLOATS = ["float32", "float64", *HALVES]


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.usefixtures("isa")
def test_every_length_is_within_the_bound(n: int, dtype: str) -> None:
    x = some((11, n), dtype, n)
    y, norm = fastnorm.l2_norm(x, return_norm=True)
    exact, exact_norm = reference.l2_norm(x, return_norm=True)
    assert y.dtype == norm.dtype == x.dtype and norm.shape == (11, 1)
    # Results are at most 1: the bound is relative to the result here, nearly.
    assert error(y * n**0.5, exact * n**0.5) <= BOUND[x.dtype]
    assert error(norm / exact_norm, np.ones((11, 1))) <= BOUND[x.dtype]


@pytest.mark.parametrize("eps", [1e-12, 0.0, 0.5])
@pytest.mark.parametrize("n", [1, 2, 5, 16, 64, 100, 768, 4096, 20000])
@pytest.mark.usefixtures("isa")
def test_hostile_rows_are_within_the_bound(n: int, eps: float, dtype: str) -> None:
    rows = hostile(n, dtype)
    x = np.stack(list(rows.values()))
    y, norm = fastnorm.l2_norm(x, eps=eps, return_norm=True)
    exact, exact_norm = reference.l2_norm(x, eps=eps, return_norm=True)
    top = np.finfo(dtype).max
    for i, name in enumerate(rows):
        assert error(y[i], exact[i]) <= BOUND[x.dtype], name
        if exact_norm[i, 0] > top:
            assert norm[i, 0] == np.inf, name
        elif exact_norm[i, 0] > np.finfo(dtype).tiny:
            assert abs(norm[i, 0] / exact_norm[i, 0] - 1) <= BOUND[x.dtype], name


@pytest.mark.parametrize("name", [*HALVES, *BYTES])
@pytest.mark.usefixtures("isa")
def test_other_dtypes_are_rounded_once(name: str) -> None:
    given: dict[str, Any] = (
        {"in_scale": 0.1, "in_zero_point": 3} if name in BYTES else {}
    )
    for n in (1, 5, 64, 100, 769, 20000):
        for key, row in hostile_rows(n, name).items():
            y, norm = fastnorm.l2_norm(row, return_norm=True, **given)
            exact, exact_norm = reference.l2_norm(row, return_norm=True, **given)
            assert norm.dtype == np.float32, key
            assert_rounded(y, exact)
            if exact_norm[0] < 3.4e38:
                np.testing.assert_allclose(norm, exact_norm, rtol=4e-7, atol=1e-40)
            else:
                assert norm[0] == np.inf, key


@pytest.mark.parametrize("name", [*HALVES, *BYTES])
@pytest.mark.usefixtures("isa")
def test_the_bits_are_those_of_the_widened_input(name: str) -> None:
    for n in (1, 7, 100, 4099):
        x = some((3, n), name, n)
        y = fastnorm.l2_norm(x)
        right = fastnorm.l2_norm(x.astype(np.float32))
        assert same_bits(y, right.astype(y.dtype))


@pytest.mark.parametrize("out", [*MIXING, *BYTES])
def test_results_of_other_dtypes(out: str) -> None:
    x = some((4, 100), "float32", 1)
    quantized: dict[str, Any] = (
        {"out_scale": 0.002, "out_zero_point": 9} if out in BYTES else {}
    )
    y = fastnorm.l2_norm(x, out_dtype=out, **quantized)
    plain = fastnorm.l2_norm(x)
    if out in BYTES:
        limits = np.iinfo(out)
        steps = np.rint(plain * (np.float32(1) / np.float32(0.002))) + 9
        right = np.clip(steps, limits.min, limits.max)
        np.testing.assert_array_equal(y, right)
    else:
        assert same_bits(y, plain.astype(y.dtype))


@pytest.mark.parametrize("inner", [1, 2, 7, 33, 196])
@pytest.mark.parametrize("cols", [1, 3, 16, 65, 300])
@pytest.mark.usefixtures("isa")
def test_a_middle_axis(cols: int, inner: int, dtype: str) -> None:
    x = some((3, cols, inner), dtype, cols)
    y, norm = fastnorm.l2_norm(x, 1, return_norm=True)
    assert norm.shape == (3, 1, inner)
    assert_close(y, reference.l2_norm(x, 1))
    np.testing.assert_allclose(norm[:, 0], np.sqrt((x.astype("f8") ** 2).sum(1)), 1e-6)
    assert same_bits(y, fastnorm.normalize(x))


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.usefixtures("isa")
def test_zeros_stay_zeros(name: str) -> None:
    for n in (1, 5, 64, 100):
        x = some((3, n), name)
        x[1] = 0
        for eps in (1e-12, 0.0):
            y, norm = fastnorm.l2_norm(x, eps=eps, return_norm=True)
            assert not y[1].astype("f4").any() and norm[1, 0] == 0
            assert np.all(np.isfinite(y.astype("f4")))


def test_eps_is_the_least_norm_that_is_divided_by() -> None:
    x = np.array([[3.0, 4.0], [0.03, 0.04]])
    np.testing.assert_allclose(
        fastnorm.l2_norm(x, eps=1.0), [[0.6, 0.8], [0.03, 0.04]], rtol=1e-15
    )


@pytest.mark.usefixtures("isa")
def test_an_eps_whose_square_leaves_the_range() -> None:
    for eps in (1e-200, 1e-310, 1e200):
        x = np.array([[eps / 4, -eps / 1e3], [eps * 4, eps]])
        assert_close(fastnorm.l2_norm(x, eps=eps), reference.l2_norm(x, eps=eps))
        assert_close(fastnorm.l2_norm(x.T, 0, eps=eps).T, reference.l2_norm(x, eps=eps))


def test_nan_and_inf_stay_in_their_row(isa: str, dtype: str) -> None:
    clean = some((6, 100), dtype)
    expected = fastnorm.l2_norm(clean)
    for bad in (np.nan, np.inf):
        x = clean.copy()
        x[3, 50] = bad
        y, norm = fastnorm.l2_norm(x, return_norm=True)
        np.testing.assert_equal(norm[3, 0], np.dtype(dtype).type(bad))
        assert np.isnan(y[3, 50]), isa
        assert same_bits(np.delete(y, 3, 0), np.delete(expected, 3, 0))


def test_several_axes_are_one_row(dtype: str) -> None:
    x = some((4, 5, 6, 7), dtype)
    y, norm = fastnorm.l2_norm(x, (2, -1), return_norm=True)
    assert norm.shape == (4, 5, 1, 1)
    assert same_bits(y, fastnorm.l2_norm(x.reshape(20, 42)).reshape(x.shape))
    whole, length = fastnorm.l2_norm(x, (0, 1, 2, 3), return_norm=True)
    assert length.shape == (1, 1, 1, 1)
    assert abs(np.sum(whole.astype("f8") ** 2) - 1) <= 2 * BOUND[x.dtype]


@pytest.mark.parametrize("name", FLOATS)
def test_out_and_in_place(name: str) -> None:
    x = some((5, 60), name)
    y = fastnorm.l2_norm(x)
    out = np.empty((5, 120), x.dtype)[:, ::2]
    assert fastnorm.l2_norm(x, out=out) is out
    assert same_bits(np.ascontiguousarray(out), y)
    assert fastnorm.normalize(x, out=x) is x
    assert same_bits(x, y)


def test_threads_and_place_do_not_change_bits(dtype: str) -> None:
    x = some((3000, 333), dtype)
    one = fastnorm.l2_norm(x, num_threads=1)
    assert same_bits(one, fastnorm.l2_norm(x, num_threads=4))
    assert same_bits(one[777], fastnorm.l2_norm(x[777]))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_an_empty_input_gives_an_empty_result(shape: tuple[int, int]) -> None:
    y, norm = fastnorm.l2_norm(np.empty(shape), return_norm=True)
    assert y.shape == shape and norm.shape == (shape[0], 1)


def test_normalize_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    x = some((3, 5, 7), "float32")
    for dim in (1, 0, -1):
        right = torch.nn.functional.normalize(torch.from_numpy(x), dim=dim)
        y = fastnorm.normalize(x, 2.0, dim)
        np.testing.assert_allclose(y, right.numpy(), atol=3e-7)
    default = torch.nn.functional.normalize(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(fastnorm.normalize(x), default, atol=3e-7)


X = np.ones((3, 4), np.float32)
REFUSED: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("normalize", {"p": 3}, ValueError, "p is 3, only 1 and 2 are supported"),
    ("normalize", {"p": "2"}, TypeError, "p is str, a real number is needed"),
    ("normalize", {"dim": 2}, ValueError, "dim is 2, input has 2 axes"),
    ("normalize", {"input": X[0]}, ValueError, "dim is 1, input has 1 axes"),
    ("normalize", {"dim": (0, 1)}, TypeError, "dim is tuple, an integer is needed"),
    ("normalize", {"eps": -1}, ValueError, "eps is -1.0, a finite number >= 0"),
    ("l2_norm", {"axis": 2}, ValueError, "axis is 2, input has 2 axes"),
    ("l2_norm", {"axis": ()}, ValueError, "axis is empty"),
    ("l2_norm", {"axis": None}, ValueError, "axis is None, an axis is needed"),
    ("l2_norm", {"eps": np.nan}, ValueError, "eps is nan, a finite number >= 0"),
    ("l2_norm", {"out": X[:2].copy()}, ValueError, "out has shape (2, 4), input's"),
    ("l2_norm", {"out_dtype": "int8"}, ValueError, "out_dtype int8 needs out_scale"),
    ("l2_norm", {"in_scale": 1}, ValueError, "in_scale and in_zero_point are for int8"),
    ("l2_norm", {"num_threads": 0}, ValueError, "num_threads is 0, at least 1"),
    ("l2_norm", {"input": X.astype(int)}, TypeError, "input has dtype int64, not"),
]


@pytest.mark.parametrize(("function", "kwargs", "error", "text"), REFUSED)
def test_what_is_refused(
    function: str, kwargs: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as raised:
        getattr(fastnorm, function)(**{"input": X, **kwargs})
    assert str(raised.value).startswith(f"{function}: {text}"), str(raised.value)
