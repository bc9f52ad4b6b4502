# SPDX-License-Identifier: MIT
"""test_lp_norms.py - l1_norm, l2_norm and normalize on every ISA.

Errors are relative to the exact result itself, as nothing in these norms cancels.
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

# The root of l2_norm halves the error of its sum.
BOUND = {
    ("l1_norm", "f"): 8e-7,
    ("l2_norm", "f"): 4e-7,
    ("l1_norm", "d"): 3e-15,
    ("l2_norm", "d"): 1e-15,
}
FLOATS = ["float32", "float64", *HALVES]


@pytest.fixture(params=["l1_norm", "l2_norm"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def norm(name: str) -> Any:
    return getattr(fastnorm, name)


@pytest.fixture
def exactly(name: str) -> Any:
    return getattr(reference, name)


def relative_error(y: NDArray[Any], exact: Any) -> float:
    """The largest, where a subnormal result may be a step of its own kind off."""
    limits = np.finfo(y.dtype)
    off = np.abs(y.astype(np.longdouble) - exact)
    assert np.all(np.isfinite(off))
    small = np.abs(exact) < limits.tiny
    off = np.where(small & (off <= limits.smallest_subnormal), 0, off)
    return float(np.max(off / np.maximum(np.abs(exact), limits.tiny), initial=0.0))


def assert_exact(y: NDArray[Any], exact: Any, name: str, what: str = "") -> None:
    found = relative_error(y, exact)
    assert found <= BOUND[name, y.dtype.char], f"{what}: {found:.3g}"


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.usefixtures("isa")
def test_every_length_is_within_the_bound(
    n: int, dtype: str, name: str, norm: Any, exactly: Any
) -> None:
    x = some((11, n), dtype, n)
    y, length = norm(x, return_norm=True)
    exact, exact_length = exactly(x, return_norm=True)
    assert y.dtype == length.dtype == x.dtype and length.shape == (11, 1)
    assert_exact(y, exact, name)
    assert_exact(length, exact_length, name)


@pytest.mark.parametrize("eps", [1e-12, 0.0, 0.5])
@pytest.mark.parametrize("n", [1, 2, 5, 16, 64, 100, 768, 4096, 20000])
@pytest.mark.usefixtures("isa")
def test_hostile_rows_are_within_the_bound(
    n: int, eps: float, dtype: str, name: str, norm: Any, exactly: Any
) -> None:
    rows = hostile(n, dtype)
    x = np.stack(list(rows.values()))
    top = np.finfo(dtype).max
    exact, exact_length = exactly(x, eps=eps, return_norm=True)
    columns = norm(np.ascontiguousarray(x.T), 0, eps=eps, return_norm=True)
    across = (columns[0].T, columns[1].T)
    for y, length in (norm(x, eps=eps, return_norm=True), across):
        for i, row in enumerate(rows):
            assert_exact(y[i], exact[i], name, row)
            if exact_length[i, 0] > top:
                assert length[i, 0] == np.inf, row
            else:
                assert_exact(length[i], exact_length[i], name, row)


@pytest.mark.usefixtures("isa")
def test_a_length_beyond_the_range_of_its_dtype(
    dtype: str, name: str, norm: Any
) -> None:
    limits = np.finfo(dtype)
    times = {"l1_norm": 1000, "l2_norm": np.sqrt(np.longdouble(1000))}[name]
    for size in (limits.max, limits.tiny, limits.smallest_subnormal):
        x = np.full((3, 1000), size, dtype)
        x[:, ::3] *= -1
        y, length = norm(x, eps=0.0, return_norm=True)
        exact = np.copysign(1 / np.longdouble(times), x)
        assert_exact(y, exact, name)
        with np.errstate(over="ignore"):
            right = (times * np.longdouble(size)).astype(dtype)
        np.testing.assert_allclose(length, np.full((3, 1), right), rtol=limits.eps)


@pytest.mark.usefixtures("isa")
def test_an_eps_whose_square_leaves_the_range(
    name: str, norm: Any, exactly: Any
) -> None:
    for eps in (1e-200, 1e-310, 1e200):
        x = np.array([[eps / 4, -eps / 1e3], [eps * 4, eps]])
        exact = exactly(x, eps=eps)
        assert_exact(norm(x, eps=eps), exact, name)
        assert_exact(norm(x.T, 0, eps=eps).T, exact, name)


@pytest.mark.usefixtures("isa")
def test_ten_million_values_in_a_row(dtype: str) -> None:
    x = (1e6 + some((1, 10_000_000), dtype)).astype(dtype)
    y, length = fastnorm.l1_norm(x, return_norm=True)
    exact = np.abs(x).sum(dtype=np.longdouble)
    assert abs(length[0, 0] / exact - 1) <= BOUND["l1_norm", x.dtype.char]
    assert_exact(y[0, :1000], x[0, :1000] / exact, "l1_norm")
    assert same_bits(y, fastnorm.l1_norm(x, num_threads=2))


@pytest.mark.parametrize("of", [*HALVES, *BYTES])
@pytest.mark.usefixtures("isa")
def test_other_dtypes_are_rounded_once(
    of: str, name: str, norm: Any, exactly: Any
) -> None:
    given: dict[str, Any] = {"in_scale": 0.1, "in_zero_point": 3} if of in BYTES else {}
    for n in (1, 5, 64, 100, 769, 20000):
        for key, row in hostile_rows(n, of).items():
            y, length = norm(row, return_norm=True, **given)
            exact, right = exactly(row, return_norm=True, **given)
            assert length.dtype == np.float32, key
            assert_rounded(y, exact)
            if right[0] < 3.4e38:
                bound = BOUND[name, "f"]
                np.testing.assert_allclose(length, right, rtol=bound, atol=1e-40)
            else:
                assert length[0] == np.inf, key


@pytest.mark.parametrize("of", [*HALVES, *BYTES])
@pytest.mark.usefixtures("isa")
def test_the_bits_are_those_of_the_widened_input(of: str, norm: Any) -> None:
    for n in (1, 7, 100, 4099, 20000):
        x = some((3, n), of, n)
        for axis in (-1, 0):
            y = norm(x, axis)
            assert same_bits(y, norm(x.astype(np.float32), axis).astype(y.dtype))


@pytest.mark.parametrize("out", [*MIXING, *BYTES])
def test_results_of_other_dtypes(out: str, norm: Any) -> None:
    x = some((4, 100), "float32", 1)
    quantized: dict[str, Any] = (
        {"out_scale": 0.002, "out_zero_point": 9} if out in BYTES else {}
    )
    y = norm(x, out_dtype=out, **quantized)
    plain = norm(x)
    if out in BYTES:
        limits = np.iinfo(out)
        steps = np.rint(plain * (np.float32(1) / np.float32(0.002))) + 9
        np.testing.assert_array_equal(y, np.clip(steps, limits.min, limits.max))
    else:
        assert same_bits(y, plain.astype(y.dtype))


@pytest.mark.parametrize("inner", [1, 2, 7, 33, 196])
@pytest.mark.parametrize("cols", [1, 3, 16, 65, 300, 3000])
@pytest.mark.usefixtures("isa")
def test_a_middle_axis(
    cols: int, inner: int, dtype: str, name: str, norm: Any, exactly: Any
) -> None:
    x = some((3, cols, inner), dtype, cols)
    y, length = norm(x, 1, return_norm=True)
    exact, exact_length = exactly(x, 1, return_norm=True)
    assert length.shape == (3, 1, inner)
    assert_exact(y, exact, name)
    assert_exact(length, exact_length, name)
    assert same_bits(y, fastnorm.normalize(x, {"l1_norm": 1.0, "l2_norm": 2.0}[name]))


@pytest.mark.parametrize("of", FLOATS)
@pytest.mark.usefixtures("isa")
def test_zeros_stay_zeros(of: str, norm: Any) -> None:
    for n in (1, 5, 64, 100):
        x = some((3, n), of)
        x[1] = 0
        for eps in (1e-12, 0.0):
            y, length = norm(x, eps=eps, return_norm=True)
            assert not y[1].astype("f4").any() and length[1, 0] == 0
            assert np.all(np.isfinite(y.astype("f4")))


def test_eps_is_the_least_norm_that_is_divided_by() -> None:
    x = np.array([[3.0, -1.0], [0.25, 0.5]])
    right = [[0.75, -0.25], [0.125, 0.25]]
    np.testing.assert_array_equal(fastnorm.l1_norm(x, eps=2.0), right)
    x = np.array([[3.0, 4.0], [0.03, 0.04]])
    right = [[0.6, 0.8], [0.03, 0.04]]
    np.testing.assert_allclose(fastnorm.l2_norm(x, eps=1.0), right, rtol=1e-15)


def test_nan_and_inf_stay_in_their_row(isa: str, dtype: str, norm: Any) -> None:
    clean = some((6, 100), dtype)
    expected = norm(clean)
    for bad in (np.nan, np.inf, -np.inf):
        x = clean.copy()
        x[3, 50] = bad
        y, length = norm(x, return_norm=True)
        np.testing.assert_equal(length[3, 0], np.dtype(dtype).type(abs(bad)))
        assert np.isnan(y[3, 50]), isa
        assert same_bits(np.delete(y, 3, 0), np.delete(expected, 3, 0))
        y = norm(np.ascontiguousarray(x.T), 0).T
        assert np.isnan(y[3, 50]) and np.all(np.isfinite(np.delete(y, 3, 0)))


def test_several_axes_are_one_row(dtype: str, norm: Any) -> None:
    x = some((4, 5, 6, 7), dtype)
    y, length = norm(x, (2, -1), return_norm=True)
    assert length.shape == (4, 5, 1, 1)
    assert same_bits(y, norm(x.reshape(20, 42)).reshape(x.shape))
    y, length = norm(x, (0, 1, 2, 3), return_norm=True)
    assert length.shape == (1, 1, 1, 1)
    assert same_bits(y, norm(x.reshape(-1)).reshape(x.shape))


@pytest.mark.parametrize("of", FLOATS)
def test_out_strides_and_in_place(of: str, name: str, norm: Any) -> None:
    x = some((5, 60), of)
    y = norm(x)
    out = np.empty((5, 120), x.dtype)[:, ::2]
    assert norm(x, out=out) is out
    assert same_bits(np.ascontiguousarray(out), y)
    rows = np.zeros((5, 77), x.dtype)[:, :60]
    rows[...] = x
    assert same_bits(norm(rows), y)
    assert fastnorm.normalize(x, 1 if name == "l1_norm" else 2, out=x) is x
    assert same_bits(x, y)


def test_threads_place_and_alignment_do_not_change_bits(dtype: str, norm: Any) -> None:
    x = some((3000, 333), dtype)
    one = norm(x, num_threads=1)
    assert same_bits(one, norm(x, num_threads=4))
    assert same_bits(one[777], norm(x[777]))
    for elements in (1, 3, 7):
        assert same_bits(one[:9], norm(shifted(x[:9], elements)))


def test_instruction_sets_agree_to_the_bit(dtype: str, norm: Any) -> None:
    results = set()
    for isa in fastnorm.isas():
        fastnorm.set_isa(isa)
        try:
            for n in (1, 7, 16, 64, 333, 5000, 70000):
                x = some((5, n), dtype, n)
                results.add((n, norm(x).tobytes()))
                results.add((-n, norm(x, 0).tobytes()))
        finally:
            fastnorm.set_isa(None)
    assert len(results) == 14


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_an_empty_input_gives_an_empty_result(
    shape: tuple[int, int], norm: Any
) -> None:
    y, length = norm(np.empty(shape), return_norm=True)
    assert y.shape == shape and length.shape == (shape[0], 1)


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_normalize_is_that_of_torch(p: float) -> None:
    torch = pytest.importorskip("torch")
    x = some((3, 5, 7), "float32")
    for dim in (1, 0, -1):
        right = torch.nn.functional.normalize(torch.from_numpy(x), p=p, dim=dim)
        y = fastnorm.normalize(x, p, dim)
        np.testing.assert_allclose(y, right.numpy(), rtol=1e-6)
    right = torch.nn.functional.normalize(torch.from_numpy(x))
    np.testing.assert_allclose(fastnorm.normalize(x), right.numpy(), rtol=1e-6)


def test_the_numba_backend_refuses_l1_norm() -> None:
    pytest.importorskip("numba")
    from fastnorm._core import run_on
    from fastnorm.jit._backend import Backend

    out = np.full((3, 4), 7.0, np.float32)
    for function, more in ((fastnorm.l1_norm, {}), (fastnorm.normalize, {"p": 1})):
        with pytest.raises(NotImplementedError, match="the Numba backend has no l1_n"):
            run_on(Backend(), function, (X,), {"out": out, **more})
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
REFUSED_BY_NORMALIZE: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"p": 3}, ValueError, "p is 3, only 1 and 2 are supported"),
    ({"p": "2"}, TypeError, "p is str, a real number is needed"),
    ({"dim": 2}, ValueError, "dim is 2, input has 2 axes"),
    ({"input": X[0]}, ValueError, "dim is 1, input has 1 axes"),
    ({"dim": (0, 1)}, TypeError, "dim is tuple, an integer is needed"),
    ({"eps": -1}, ValueError, "eps is -1.0, a finite number >= 0"),
]
CALLS = [
    *(("l1_norm", *case) for case in REFUSED),
    *(("l2_norm", *case) for case in REFUSED),
    *(("normalize", *case) for case in REFUSED_BY_NORMALIZE),
]


@pytest.mark.parametrize(("function", "kwargs", "error", "text"), CALLS)
def test_what_is_refused(
    function: str, kwargs: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as raised:
        getattr(fastnorm, function)(**{"input": X, **kwargs})
    assert str(raised.value).startswith(f"{function}: {text}"), str(raised.value)
