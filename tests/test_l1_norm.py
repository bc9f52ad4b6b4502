# SPDX-License-Identifier: MIT
"""test_l1_norm.py - l1_norm, and normalize with p=1, on every ISA.

Errors are relative to the exact result itself, as nothing in this norm cancels; no root
halves those of the sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from formats import BYTES, HALVES, MIXING, assert_rounded, hostile_rows, some
from numpy.typing import NDArray
from oracle import LENGTHS, hostile, same_bits, shifted

import fastnorm
from fastnorm import reference

BOUND = {np.dtype("f4"): 8e-7, np.dtype("f8"): 3e-15}
FLOATS = ["float32", "float64", *HALVES]


def relative_error(y: NDArray[Any], exact: Any) -> float:
    """The largest, where a subnormal result may be a step of its own kind off."""
    limits = np.finfo(y.dtype)
    off = np.abs(y.astype(np.longdouble) - exact)
    assert np.all(np.isfinite(off))
    small = np.abs(exact) < limits.tiny
    off = np.where(small & (off <= limits.smallest_subnormal), 0, off)
    return float(np.max(off / np.maximum(np.abs(exact), limits.tiny), initial=0.0))


def assert_exact(y: NDArray[Any], exact: Any, what: str = "") -> None:
    found = relative_error(y, exact)
    assert found <= BOUND[y.dtype], f"{what}: {found:.3g}"


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.usefixtures("isa")
def test_every_length_is_within_the_bound(n: int, dtype: str) -> None:
    x = some((11, n), dtype, n)
    y, norm = fastnorm.l1_norm(x, return_norm=True)
    exact, exact_norm = reference.l1_norm(x, return_norm=True)
    assert y.dtype == norm.dtype == x.dtype and norm.shape == (11, 1)
    assert_exact(y, exact)
    assert_exact(norm, exact_norm)


@pytest.mark.parametrize("eps", [1e-12, 0.0, 0.5])
@pytest.mark.parametrize("n", [1, 2, 5, 16, 64, 100, 768, 4096, 20000])
@pytest.mark.usefixtures("isa")
def test_hostile_rows_are_within_the_bound(n: int, eps: float, dtype: str) -> None:
    rows = hostile(n, dtype)
    x = np.stack(list(rows.values()))
    top = np.finfo(dtype).max
    exact, exact_norm = reference.l1_norm(x, eps=eps, return_norm=True)
    columns = fastnorm.l1_norm(np.ascontiguousarray(x.T), 0, eps=eps, return_norm=True)
    across = (columns[0].T, columns[1].T)
    for y, norm in (fastnorm.l1_norm(x, eps=eps, return_norm=True), across):
        for i, name in enumerate(rows):
            assert_exact(y[i], exact[i], name)
            if exact_norm[i, 0] > top:
                assert norm[i, 0] == np.inf, name
            else:
                assert_exact(norm[i], exact_norm[i], name)


@pytest.mark.usefixtures("isa")
def test_a_sum_beyond_the_range_of_its_dtype(dtype: str) -> None:
    limits = np.finfo(dtype)
    for size in (limits.max, limits.tiny, limits.smallest_subnormal):
        x = np.full((3, 1000), size, dtype)
        x[:, ::3] *= -1
        y, norm = fastnorm.l1_norm(x, eps=0.0, return_norm=True)
        np.testing.assert_allclose(y, np.copysign(1e-3, x), rtol=BOUND[x.dtype])
        with np.errstate(over="ignore"):
            right = (1000 * np.longdouble(size)).astype(dtype)
        np.testing.assert_array_equal(norm, np.full((3, 1), right))


@pytest.mark.usefixtures("isa")
def test_an_eps_whose_square_leaves_the_range() -> None:
    for eps in (1e-200, 1e-310, 1e200):
        x = np.array([[eps / 4, -eps / 1e3], [eps * 4, eps]])
        exact = reference.l1_norm(x, eps=eps)
        assert_exact(fastnorm.l1_norm(x, eps=eps), exact)
        assert_exact(fastnorm.l1_norm(x.T, 0, eps=eps).T, exact)


@pytest.mark.usefixtures("isa")
def test_ten_million_values_in_a_row(dtype: str) -> None:
    x = (1e6 + some((1, 10_000_000), dtype)).astype(dtype)
    y, norm = fastnorm.l1_norm(x, return_norm=True)
    exact = np.abs(x).sum(dtype=np.longdouble)
    assert abs(norm[0, 0] / exact - 1) <= BOUND[x.dtype]
    assert_exact(y[0, :1000], x[0, :1000] / exact)
    assert same_bits(y, fastnorm.l1_norm(x, num_threads=2))


@pytest.mark.parametrize("name", [*HALVES, *BYTES])
@pytest.mark.usefixtures("isa")
def test_other_dtypes_are_rounded_once(name: str) -> None:
    given: dict[str, Any] = (
        {"in_scale": 0.1, "in_zero_point": 3} if name in BYTES else {}
    )
    for n in (1, 5, 64, 100, 769, 20000):
        for key, row in hostile_rows(n, name).items():
            y, norm = fastnorm.l1_norm(row, return_norm=True, **given)
            exact, exact_norm = reference.l1_norm(row, return_norm=True, **given)
            assert norm.dtype == np.float32, key
            assert_rounded(y, exact)
            if exact_norm[0] < 3.4e38:
                np.testing.assert_allclose(norm, exact_norm, rtol=8e-7, atol=1e-40)
            else:
                assert norm[0] == np.inf, key


@pytest.mark.parametrize("name", [*HALVES, *BYTES])
@pytest.mark.usefixtures("isa")
def test_the_bits_are_those_of_the_widened_input(name: str) -> None:
    for n in (1, 7, 100, 4099, 20000):
        x = some((3, n), name, n)
        y = fastnorm.l1_norm(x)
        assert same_bits(y, fastnorm.l1_norm(x.astype(np.float32)).astype(y.dtype))
        y = fastnorm.l1_norm(x, 0)
        assert same_bits(y, fastnorm.l1_norm(x.astype(np.float32), 0).astype(y.dtype))


@pytest.mark.parametrize("out", [*MIXING, *BYTES])
def test_results_of_other_dtypes(out: str) -> None:
    x = some((4, 100), "float32", 1)
    quantized: dict[str, Any] = (
        {"out_scale": 0.0005, "out_zero_point": 9} if out in BYTES else {}
    )
    y = fastnorm.l1_norm(x, out_dtype=out, **quantized)
    plain = fastnorm.l1_norm(x)
    if out in BYTES:
        limits = np.iinfo(out)
        steps = np.rint(plain * (np.float32(1) / np.float32(0.0005))) + 9
        np.testing.assert_array_equal(y, np.clip(steps, limits.min, limits.max))
    else:
        assert same_bits(y, plain.astype(y.dtype))


@pytest.mark.parametrize("inner", [1, 2, 7, 33, 196])
@pytest.mark.parametrize("cols", [1, 3, 16, 65, 300, 3000])
@pytest.mark.usefixtures("isa")
def test_a_middle_axis(cols: int, inner: int, dtype: str) -> None:
    x = some((3, cols, inner), dtype, cols)
    y, norm = fastnorm.l1_norm(x, 1, return_norm=True)
    exact, exact_norm = reference.l1_norm(x, 1, return_norm=True)
    assert norm.shape == (3, 1, inner)
    assert_exact(y, exact)
    assert_exact(norm, exact_norm)
    assert same_bits(y, fastnorm.normalize(x, 1.0))


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.usefixtures("isa")
def test_zeros_stay_zeros(name: str) -> None:
    for n in (1, 5, 64, 100):
        x = some((3, n), name)
        x[1] = 0
        for eps in (1e-12, 0.0):
            y, norm = fastnorm.l1_norm(x, eps=eps, return_norm=True)
            assert not y[1].astype("f4").any() and norm[1, 0] == 0
            assert np.all(np.isfinite(y.astype("f4")))


def test_eps_is_the_least_norm_that_is_divided_by() -> None:
    x = np.array([[3.0, -1.0], [0.25, 0.5]])
    np.testing.assert_array_equal(
        fastnorm.l1_norm(x, eps=2.0), [[0.75, -0.25], [0.125, 0.25]]
    )


def test_nan_and_inf_stay_in_their_row(isa: str, dtype: str) -> None:
    clean = some((6, 100), dtype)
    expected = fastnorm.l1_norm(clean)
    for bad in (np.nan, np.inf, -np.inf):
        x = clean.copy()
        x[3, 50] = bad
        y, norm = fastnorm.l1_norm(x, return_norm=True)
        np.testing.assert_equal(norm[3, 0], np.dtype(dtype).type(abs(bad)))
        assert np.isnan(y[3, 50]), isa
        assert same_bits(np.delete(y, 3, 0), np.delete(expected, 3, 0))
        y = fastnorm.l1_norm(np.ascontiguousarray(x.T), 0).T
        assert np.isnan(y[3, 50]) and np.all(np.isfinite(np.delete(y, 3, 0)))


def test_several_axes_are_one_row(dtype: str) -> None:
    x = some((4, 5, 6, 7), dtype)
    y, norm = fastnorm.l1_norm(x, (2, -1), return_norm=True)
    assert norm.shape == (4, 5, 1, 1)
    assert same_bits(y, fastnorm.l1_norm(x.reshape(20, 42)).reshape(x.shape))


@pytest.mark.parametrize("name", FLOATS)
def test_out_strides_and_in_place(name: str) -> None:
    x = some((5, 60), name)
    y = fastnorm.l1_norm(x)
    out = np.empty((5, 120), x.dtype)[:, ::2]
    assert fastnorm.l1_norm(x, out=out) is out
    assert same_bits(np.ascontiguousarray(out), y)
    rows = np.zeros((5, 77), x.dtype)[:, :60]
    rows[...] = x
    assert same_bits(fastnorm.l1_norm(rows), y)
    assert fastnorm.normalize(x, 1, out=x) is x
    assert same_bits(x, y)


def test_threads_place_and_alignment_do_not_change_bits(dtype: str) -> None:
    x = some((3000, 333), dtype)
    one = fastnorm.l1_norm(x, num_threads=1)
    assert same_bits(one, fastnorm.l1_norm(x, num_threads=4))
    assert same_bits(one[777], fastnorm.l1_norm(x[777]))
    for elements in (1, 3, 7):
        assert same_bits(one[:9], fastnorm.l1_norm(shifted(x[:9], elements)))


def test_instruction_sets_agree_to_the_bit(dtype: str) -> None:
    results = set()
    for name in fastnorm.isas():
        fastnorm.set_isa(name)
        try:
            for n in (1, 7, 16, 64, 333, 5000, 70000):
                x = some((5, n), dtype, n)
                results.add((n, fastnorm.l1_norm(x).tobytes()))
                results.add((-n, fastnorm.l1_norm(x, 0).tobytes()))
        finally:
            fastnorm.set_isa(None)
    assert len(results) == 14


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_an_empty_input_gives_an_empty_result(shape: tuple[int, int]) -> None:
    y, norm = fastnorm.l1_norm(np.empty(shape), return_norm=True)
    assert y.shape == shape and norm.shape == (shape[0], 1)


def test_normalize_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    x = some((3, 5, 7), "float32")
    for dim in (1, 0, -1):
        right = torch.nn.functional.normalize(torch.from_numpy(x), p=1.0, dim=dim)
        np.testing.assert_allclose(fastnorm.normalize(x, 1.0, dim), right, rtol=1e-6)


def test_the_numba_backend_refuses_it() -> None:
    pytest.importorskip("numba")
    from fastnorm._core import run_on
    from fastnorm.jit._backend import Backend

    out = np.full((3, 4), 7.0, np.float32)
    for function, more in ((fastnorm.l1_norm, {}), (fastnorm.normalize, {"p": 1})):
        with pytest.raises(NotImplementedError, match="the Numba backend has no l1_n"):
            run_on(Backend(), function, X, out=out, **more)
    assert np.all(out == 7.0)


X = np.ones((3, 4), np.float32)
REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"axis": 2}, ValueError, "axis is 2, input has 2 axes"),
    ({"axis": ()}, ValueError, "axis is empty"),
    ({"axis": None}, ValueError, "axis is None, an axis is needed"),
    ({"eps": np.nan}, ValueError, "eps is nan, a finite number >= 0"),
    ({"out": X[:2].copy()}, ValueError, "out has shape (2, 4), input's"),
    ({"out_dtype": "int8"}, ValueError, "out_dtype int8 needs out_scale"),
    ({"in_scale": 1}, ValueError, "in_scale and in_zero_point are for int8"),
    ({"num_threads": 0}, ValueError, "num_threads is 0, at least 1"),
    ({"input": X.astype(int)}, TypeError, "input has dtype int64, not"),
]


@pytest.mark.parametrize(("kwargs", "error", "text"), REFUSED)
def test_what_is_refused(
    kwargs: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as raised:
        fastnorm.l1_norm(**{"input": X, **kwargs})
    assert str(raised.value).startswith(f"l1_norm: {text}"), str(raised.value)
