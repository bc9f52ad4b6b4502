# test_standardize.py - tables standardized by given statistics, and back.
# SPDX-License-Identifier: MIT
"""standardize and unstandardize against their formulas in wider arithmetic."""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import WIDE, random, same_bits

import fastnorm
from fastnorm import standardize, unstandardize
from fastnorm.cli import main

UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}


def formula(
    x: NDArray[Any], mean: NDArray[Any], std: NDArray[Any], axis: int = -1
) -> NDArray[Any]:
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    m, s = (np.asarray(a, np.longdouble).reshape(shape) for a in (mean, std))
    return (x.astype(np.longdouble) - m) / s


def excess(y: NDArray[Any], x: NDArray[Any], mean: Any, std: Any) -> float:
    """The largest error, as a part of the stated bound."""
    u = UNIT[y.dtype.name]
    exact = formula(x, mean, std)
    bound = 3 * u * (np.abs(exact) + u * np.abs(np.asarray(mean, np.longdouble)) / std)
    error = np.abs(y.astype(np.longdouble) - exact)
    return float(
        np.max(np.where(error == 0, 0, error / np.where(error == 0, 1, bound)))
    )


def back_excess(x: NDArray[Any], y: NDArray[Any], mean: Any, std: Any) -> float:
    u = UNIT[x.dtype.name]
    m, s = np.asarray(mean, np.longdouble), np.asarray(std, np.longdouble)
    scaled = y.astype(np.longdouble) * s
    exact = scaled + m
    size = np.abs(scaled) + np.abs(m)
    # Two roundings of longdouble itself; for float32 those of mean and std.
    bound = u * np.abs(exact) + size * (u if x.dtype == np.float32 else 2.0**-63)
    return float(np.max(np.abs(x - exact) / bound))


def table_of(name: str) -> NDArray[np.float64]:
    datasets = pytest.importorskip("sklearn.datasets")
    table: NDArray[np.float64] = getattr(datasets, f"load_{name}")().data
    return table


@pytest.fixture(params=["diabetes", "breast_cancer", "wine", "iris"])
def table(request: pytest.FixtureRequest) -> NDArray[np.float64]:
    return table_of(request.param)


@pytest.mark.usefixtures("isa")
def test_real_tables_within_the_bound_and_back(
    table: NDArray[np.float64], dtype: str
) -> None:
    if dtype == "float64" and not WIDE:
        pytest.skip("longdouble is float64")
    x = table.astype(dtype)
    mean, var = fastnorm.moments(x, axis=0)
    std = np.sqrt(var)
    y = standardize(x, mean, std)
    assert y.dtype == x.dtype
    assert excess(y, x, mean, std) <= 1
    again = unstandardize(y, mean, std)
    assert again.dtype == x.dtype
    assert back_excess(again, y, mean, std) <= 1
    # There and back: the errors of both ways, each at the size of its terms.
    size = np.abs(x) + np.abs(x - mean) + np.abs(mean)
    assert np.all(np.abs(again - x.astype("f8")) <= 5 * UNIT[dtype] * size)


def test_a_standard_scaler_says_the_same(table: NDArray[np.float64]) -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    train, test = table[::2], table[1::2]
    scaler = preprocessing.StandardScaler().fit(train)
    y = standardize(test, scaler.mean_, scaler.scale_)
    np.testing.assert_allclose(y, scaler.transform(test), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        unstandardize(y, scaler.mean_, scaler.scale_),
        scaler.inverse_transform(y), rtol=1e-14, atol=1e-14,
    )  # fmt: skip


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("mean", [0.1, 1e3, 1e6, -1e6, 1e12])
@pytest.mark.parametrize("std", [1e-30, 1e-3, 1.0, 1e4, 1e25])
def test_a_mean_that_the_type_cannot_hold(mean: float, std: float, dtype: str) -> None:
    # A feature whose mean, in float64, is far from the nearest float32.
    if dtype == "float64" and not WIDE:
        pytest.skip("longdouble is float64")
    rng = np.random.default_rng(3)
    means = mean * (1 + rng.random(33) / 3)
    x = (means + max(std, abs(mean) * 1e-6) * rng.standard_normal((50, 33))).astype(
        dtype
    )
    stds = std * (1 + rng.random(33))
    y = standardize(x, means, stds)
    assert excess(y, x, means, stds) <= 1
    x = unstandardize(random((50, 33), dtype, 8), means, stds)
    assert back_excess(x, random((50, 33), dtype, 8), means, stds) <= 1


@pytest.mark.parametrize(
    ("std", "dtype"),
    [
        (1e-45, "float32"), (1e-40, "float32"), (2e-38, "float32"), (1e38, "float32"),
        (3e38, "float32"), (7e40, "float32"), (5e-324, "float64"), (1e-310, "float64"),
        (1e308, "float64"), (1.7e308, "float64"), (1e-200, "float64"),
    ],
)  # fmt: skip
def test_deviations_at_the_ends_of_the_range(std: float, dtype: str) -> None:
    if dtype == "float64" and not WIDE:
        pytest.skip("longdouble is float64")
    largest = float(np.finfo(dtype).max)
    x = (min(std, largest) * np.array([[0.25], [-1], [0.75], [0]])).astype(dtype)
    y = standardize(x, [0.0], [std])
    exact = formula(x, np.zeros(1), np.array([std]))
    np.testing.assert_allclose(
        y.astype(np.longdouble), exact, rtol=4 * UNIT[dtype], atol=0
    )


@pytest.mark.parametrize("shape", [(7, 5), (5,), (2, 5, 3), (2, 3, 4, 5)], ids=str)
def test_any_axis_and_out(shape: tuple[int, ...], dtype: str) -> None:
    axis = shape.index(5)
    x = random(shape, dtype)
    mean, std = random(5, "f8", 1), np.abs(random(5, "f8", 2)) + 0.1
    exact = formula(x, mean, std, axis).astype("f8")
    for given in (axis, axis - x.ndim):
        y = standardize(x, mean, std, given)
        np.testing.assert_allclose(y, exact, rtol=1e-5, atol=1e-6)
        out = np.empty_like(x)
        assert standardize(x, mean, std, given, out=out, num_threads=1) is out
        assert same_bits(out, y)
        assert unstandardize(y, mean, std, given, out=y) is y
        np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-6)
    here = x.copy()
    assert standardize(here, mean, std, axis, out=here) is here
    assert same_bits(here, out)
    for layout in (
        np.asfortranarray(x),
        np.repeat(x, 2, axis=0)[::2],
        x[::-1].copy()[::-1],
    ):
        assert same_bits(standardize(layout, mean, std, axis), out)


def test_one_number_stands_for_all_features() -> None:
    x = random((6, 4))
    assert same_bits(
        standardize(x, 0.5, 0.25), standardize(x, [0.5] * 4, np.full(4, 0.25))
    )
    assert same_bits(unstandardize(x, 0.5, 2), 2 * x + np.float32(0.5))


def test_types_of_statistics_and_tables() -> None:
    x = random((6, 4))
    mean, std = np.array([1, 2, 3, 4]), np.array([1, 2, 4, 8])
    expected = standardize(x, mean.astype("f8"), std.astype("f8"))
    for kind in ("i4", "u1", "f2", "f4", ">f8"):
        assert same_bits(standardize(x, mean.astype(kind), std.astype(kind)), expected)
    assert same_bits(
        standardize(x.astype(">f4"), mean.tolist(), std.tolist()), expected
    )
    assert standardize(x.tolist(), mean, std).dtype == np.float64
    torch = pytest.importorskip("torch")
    tensors = [torch.from_numpy(a) for a in (x, mean, std)]
    assert same_bits(standardize(*tensors), expected)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "uint8", "int8"])
def test_narrow_tables(kind: str) -> None:
    if kind == "bfloat16":
        dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    else:
        dtype = np.dtype(kind)
    x = (40 + 20 * random((50, 7))).astype(dtype)
    mean, std = 40 + random(7, "f8", 1), 1 + np.abs(random(7, "f8", 2))
    wide = standardize(x.astype("f4"), mean, std)
    y = standardize(x, mean, std)
    assert y.dtype == (np.float32 if dtype.itemsize == 1 else dtype)
    assert same_bits(y, wide.astype(y.dtype))
    assert same_bits(standardize(x, mean, std, out_dtype="f4"), wide)
    assert same_bits(
        unstandardize(y, mean, std, out_dtype="f4"),
        unstandardize(y.astype("f4"), mean, std),
    )


def test_features_without_deviation_are_zero_as_on_the_command_line(
    tmp_path: Path, dtype: str
) -> None:
    x = table_of("digits").astype(dtype)
    moments = fastnorm.RunningMoments(0).update(x)
    moments.save(tmp_path / "stats.npz")
    mean, std = moments.mean, moments.std()
    constant = std == 0
    assert constant.any()
    # Also where the new table has other values there.
    x[:7, constant] = 3
    y = standardize(x, mean, std)
    assert np.all(y[:, constant] == 0)
    again = unstandardize(y, mean, std)
    assert np.all(again[:, constant] == mean[constant])
    np.save(tmp_path / "x.npy", x)
    paths = [str(tmp_path / name) for name in ("x.npy", "y.npy", "stats.npz")]
    assert main(
        ["normalize", *paths[:2], "--op", "standardize", "--stats", paths[2], "--quiet"]
    ) == 0  # fmt: skip
    atol = 4 * UNIT[dtype] * float(np.max(np.abs(y)))
    np.testing.assert_allclose(y, np.load(paths[1]), rtol=0, atol=atol)


def test_nan_and_inf_stay_in_their_feature() -> None:
    x = random((5, 4))
    expected = standardize(x, np.zeros(4), np.ones(4))
    for mean, std in (
        ([0, np.nan, 0, 0], np.ones(4)), ([0, np.inf, 0, 0], np.ones(4)),
        (np.zeros(4), [1, np.nan, 1, 1]),
    ):  # fmt: skip
        y = standardize(x, mean, std)
        assert not np.isfinite(y[:, 1]).any()
        assert same_bits(y[:, [0, 2, 3]], expected[:, [0, 2, 3]])
    assert np.all(standardize(x, np.zeros(4), [1, np.inf, 1, 1])[:, 1] == 0)
    x[2, 1] = np.nan
    y = standardize(x, np.zeros(4), np.ones(4))
    assert np.isnan(y[2, 1]) and np.isfinite(y).sum() == 19


def test_an_empty_table() -> None:
    assert standardize(np.empty((0, 3)), [1, 2, 3], [1, 2, 3]).shape == (0, 3)
    assert unstandardize(np.empty((3, 0)), [], []).shape == (3, 0)


X = np.ones((2, 3), np.float32)


@pytest.mark.parametrize("function", [standardize, unstandardize])
@pytest.mark.parametrize(
    ("given", "options", "kind", "message"),
    [
        ((X, np.ones(2), np.ones(3)), {}, ValueError,
         r"mean has shape \(2,\), . of shape \(2, 3\) needs \(3,\)"),
        ((X, np.ones(3), np.ones((1, 3))), {}, ValueError, r"std has shape \(1, 3\)"),
        ((X, np.ones(3), [1, -2, 1]), {}, ValueError,
         "std is -2.0 in feature 1, a number >= 0 is needed"),
        ((X, np.ones(3), np.ones(3), 2), {}, ValueError, "axis is 2, . has 2 axes"),
        ((X, np.ones(3), np.ones(3), 0.5), {}, TypeError,
         "axis is 0.5, an integer is needed"),
        ((1.0, 1.0, 1.0), {}, ValueError, "axis is -1, . has 0 axes"),
        ((X, ["a"] * 3, np.ones(3)), {}, TypeError, "mean has dtype <U1"),
        ((X, [1, 1e39, 1], np.ones(3)), {}, ValueError,
         r"mean is 1e\+39 in feature 1, beyond the range of float32"),
        ((X.astype(int), np.ones(3), np.ones(3)), {}, TypeError, "dtype int64"),
        ((np.ma.ones((2, 3)), np.ones(3), np.ones(3)), {}, TypeError,
         ". is a masked array"),
        ((X, np.ones(3), np.ones(3)), {"out": X.T.copy()}, ValueError, "out has shape"),
        ((X, np.ones(3), np.ones(3)), {"num_threads": 0}, ValueError,
         "num_threads is 0"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(
    function: Any, given: Any, options: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        function(*given, **options)
    assert str(caught.value).startswith(f"{function.__name__}: ")
    assert not re.search(r"\binput\b", str(caught.value))


def test_deviations_beyond_the_type_are_named() -> None:
    with pytest.raises(ValueError, match="std is 1e-60 in feature 0, too small for"):
        standardize(X, 0.0, 1e-60)
    with pytest.raises(
        ValueError, match=r"std is 1e\+39 in feature 0, beyond the range"
    ):
        unstandardize(X, 0.0, 1e39)


def test_examples_in_docstrings() -> None:
    results = doctest.testmod(sys.modules["fastnorm.tables"])
    assert results.attempted >= 5
    assert results.failed == 0
