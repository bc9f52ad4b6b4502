# SPDX-License-Identifier: MIT
"""test_batch_renorm.py - batch_renorm against the exact result, on every ISA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from formats import HALVES, assert_rounded, some
from numpy.typing import NDArray
from oracle import BOUND, assert_close, error, hostile, random, same_bits

import fastnorm
from fastnorm import reference

SHAPES = [
    (7, 1), (64, 16), (33, 17), (5, 300), (2, 1030), (3000, 5), (2, 3, 1), (4, 5, 7),
    (1, 300, 7, 7), (8, 40, 14, 14), (1, 1, 5000), (3, 2, 9000), (4, 2, 90000),
]  # fmt: skip
LIMITS = [(3.0, 5.0), (1.0, 0.0), (1.0, 5.0), (3.0, 0.0), (1.1, 0.1), (np.inf, np.inf)]

Array = NDArray[Any]


def stored(channels: int, dtype: str) -> tuple[Array, Array]:
    """Some within all limits of N(0, 1), some far outside."""
    index = np.arange(channels)
    mean = random(channels, dtype, 2) * np.where(index % 3 == 0, 9, 0.3)
    var = np.exp(random(channels, "f8", 3) * np.where(index % 2 == 0, 5, 0.2))
    return mean.astype(dtype), var.astype(dtype)


def both(x: Array, mean: Array, var: Array, *args: Any, **options: Any) -> Any:
    """Results and updated running statistics, and the exact ones."""
    found = []
    for module in (fastnorm, reference):
        m, v = mean.copy(), var.copy()
        results = module.batch_renorm(x, m, v, *args, return_stats=True, **options)
        found.append((*results, m, v))
    return found


def terms(x: Array, exact: Any, weight: Array, bias: Array, axis: int) -> Array:
    """The sizes that the bound is relative to, without the ratio beyond its limit."""
    _, mean, rstd, r, d, *_ = exact
    shape = [1] * x.ndim
    shape[axis] = -1
    t = np.abs((x - mean.reshape(shape)) * (rstd * r * weight).reshape(shape))
    size: Array = t + np.abs(d * weight).reshape(shape) + np.abs(bias).reshape(shape)
    return size


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.usefixtures("isa")
def test_results_corrections_and_running_statistics_are_exact(
    shape: tuple[int, ...], limits: tuple[float, float], dtype: str
) -> None:
    x = random(shape, dtype)
    mean, var = stored(shape[1], dtype)
    weight, bias = random(shape[1], dtype, 4), random(shape[1], dtype, 5)
    options = {"training": True, "r_max": limits[0], "d_max": limits[1]}
    ours, exact = both(x, mean, var, weight, bias, **options)
    sigma = np.sqrt(var.astype("f8") + 1e-5)
    ratio = np.abs(weight) / sigma / exact[2]
    size = terms(x, exact, weight, bias, 1) + ratio.reshape(
        [-1 if i == 1 else 1 for i in range(x.ndim)]
    )
    assert_close(ours[0], exact[0], size)
    bound = BOUND[x.dtype]
    for y in ours[1:5]:
        assert y.dtype == x.dtype and y.shape == (shape[1],)
    assert_close(ours[1], exact[1])
    for y, z in zip(ours[2:4], exact[2:4], strict=True):
        assert error(y / z, np.ones_like(z)) <= bound
    # What the mean may be off by is relative to the deviation of the batch.
    off = np.abs(ours[4] - exact[4])
    assert np.all(off <= bound * (1 + np.abs(exact[4]) + 1 / sigma / exact[2]))
    assert_close(ours[5], exact[5])
    assert_close(ours[6], exact[6])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("parameters", [False, True])
@pytest.mark.usefixtures("isa")
def test_without_room_for_corrections_it_is_batch_norm_to_the_bit(
    shape: tuple[int, ...], parameters: bool, dtype: str
) -> None:
    x = 1e3 + random(shape, dtype)
    mean, var = stored(shape[1], dtype)
    given: dict[str, Any] = {"training": True, "return_stats": True}
    if parameters:
        given |= {"weight": random(shape[1], dtype, 4)}
        given |= {"bias": random(shape[1], dtype, 5)}
    copies: Any = [(mean.copy(), var.copy()) for _ in range(2)]
    plain = fastnorm.batch_norm(x, *copies[0], **given)
    y, *stats, r, d = fastnorm.batch_renorm(x, *copies[1], **given, r_max=1, d_max=0)
    assert np.all(r == 1) and np.all(d == 0) and not np.any(np.signbit(d))
    for a, b in zip(plain, (y, *stats), strict=True):
        assert same_bits(a, b)
    for a, b in zip(*copies, strict=True):
        assert same_bits(a, b)


@pytest.mark.parametrize("layout", ["table", "channels first"])
@pytest.mark.parametrize("n", [2, 6, 516, 4096])
@pytest.mark.parametrize("eps", [1e-5, 0.0])
@pytest.mark.usefixtures("isa")
def test_hostile_channels_keep_the_bits_of_batch_norm(
    layout: str, n: int, eps: float, dtype: str
) -> None:
    rows = np.stack(list(hostile(n, dtype).values()))
    halves = np.ascontiguousarray(rows.reshape(len(rows), 2, -1).transpose(1, 0, 2))
    x = np.ascontiguousarray(rows.T) if layout == "table" else halves
    c = len(rows)
    plain = fastnorm.batch_norm(x, None, None, training=True, eps=eps)
    mean, var = np.ones(c, dtype), np.ones(c, dtype)
    y = fastnorm.batch_renorm(x, mean, var, None, None, True, eps=eps, r_max=1, d_max=0)
    assert same_bits(y, plain)


@pytest.mark.parametrize("layout", ["table", "channels first"])
@pytest.mark.parametrize("n", [2, 6, 516, 4096])
@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.usefixtures("isa")
def test_hostile_channels_are_within_the_bound(
    layout: str, n: int, limits: tuple[float, float], dtype: str
) -> None:
    # The stored statistics are of the size of the batch's: else no result is finite.
    named = hostile(n, dtype)
    rows = np.stack(list(named.values()))
    wide = rows.astype(np.longdouble)
    top = np.finfo(dtype).max
    var = np.minimum(wide.var(1) * 1.7 + 1e-3, top).astype(dtype)
    mean = np.clip(wide.mean(1) + 0.3 * wide.std(1), -top, top).astype(dtype)
    halves = np.ascontiguousarray(rows.reshape(len(rows), 2, -1).transpose(1, 0, 2))
    x = np.ascontiguousarray(rows.T) if layout == "table" else halves
    options = {"training": True, "r_max": limits[0], "d_max": limits[1]}
    ours, exact = both(x, mean, var, **options)
    sigma = np.sqrt(var.astype("f8") + 1e-5)
    ones = np.ones(len(rows))
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = terms(x.astype(np.longdouble), exact, ones, 0 * ones, 1)
    for i, name in enumerate(named):
        size = np.moveaxis(sizes, 1, 0)[i].ravel() + 1 / sigma[i] / exact[2][i]
        assert np.all(np.isfinite(ours[0].take(i, 1))), name
        found = error(ours[0].take(i, 1).ravel(), exact[0].take(i, 1).ravel(), size)
        assert found <= BOUND[x.dtype], name


@pytest.mark.usefixtures("isa")
def test_unlimited_it_is_inference_from_the_statistics_before(dtype: str) -> None:
    for shape in [(40, 6), (4, 6, 50)]:
        x = 3 + random(shape, dtype)
        mean, var = 3 + random(6, dtype, 1) / 8, np.exp(random(6, dtype, 2))
        plain = fastnorm.batch_norm(x, mean, var)
        y = fastnorm.batch_renorm(
            x, mean, var, training=True, r_max=np.inf, d_max=np.inf
        )
        assert_close(y, plain.astype("f8"), 4 * np.abs(plain) + 8)


def test_inference_is_that_of_batch_norm(dtype: str) -> None:
    x, (mean, var) = random((5, 4, 3), dtype), stored(4, dtype)
    kept = mean.copy(), var.copy()
    plain = fastnorm.batch_norm(x, mean, var, return_stats=True)
    y, *stats, r, d = fastnorm.batch_renorm(x, mean, var, return_stats=True)
    for a, b in zip(plain, (y, *stats), strict=True):
        assert same_bits(a, b)
    assert np.all(r == 1) and np.all(d == 0)
    assert same_bits(mean, kept[0]) and same_bits(var, kept[1])


@pytest.mark.parametrize("channels", [1, 3, 16, 33, 515])
@pytest.mark.usefixtures("isa")
def test_channels_last_is_channels_first_transposed(channels: int, dtype: str) -> None:
    x = 10 + random((2, 9, 11, channels), dtype)
    first = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    mean, var = 10 + stored(channels, dtype)[0], stored(channels, dtype)[1]
    last = fastnorm.batch_renorm(
        x, mean.copy(), var.copy(), training=True, channel_axis=-1
    )
    other = fastnorm.batch_renorm(first, mean.copy(), var.copy(), training=True)
    exact = reference.batch_renorm(first, mean.copy(), var.copy(), training=True)
    sigma = np.sqrt(var.astype("f8") + 1e-5)
    size = 12 + (2 / sigma).reshape(-1, 1, 1)
    assert_close(other, exact, size)
    assert_close(np.moveaxis(last, -1, 1), exact, size)


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("shape", [(64, 5), (4, 5, 700)], ids=str)
@pytest.mark.usefixtures("isa")
def test_halves_are_rounded_once(name: str, shape: tuple[int, ...]) -> None:
    x = some(shape, name, 1)
    mean, var = stored(5, "float32")
    var += np.float32(0.1)
    ours, exact = both(x, mean, var, training=True)
    assert ours[0].dtype == x.dtype and ours[3].dtype == np.float32
    assert_rounded(ours[0], exact[0], 16)
    assert_close(ours[5], exact[5])
    # running statistics of 16 bits
    mean, var = mean.astype(x.dtype), var.astype(x.dtype)
    ours, exact = both(x, mean, var, training=True)
    assert ours[5].dtype == x.dtype
    assert_rounded(ours[0], exact[0], 16)
    assert_rounded(ours[6], exact[6].astype("f8"))


def test_activation_and_post_add_come_after(dtype: str) -> None:
    x, added = random((9, 4), dtype), random((9, 4), dtype, 1)
    mean, var = np.zeros(4, dtype), np.ones(4, dtype)
    options: dict[str, Any] = {"training": True, "momentum": 0.0}
    plain = fastnorm.batch_renorm(x, mean, var, **options)
    y = fastnorm.batch_renorm(
        x, mean, var, post_add=added, activation="relu", **options
    )
    assert same_bits(y, np.maximum(plain + added, 0))
    assert np.all(mean == 0) and np.all(var == 1), "momentum is 0"


def test_cumulative_momentum_counts_the_batches(dtype: str) -> None:
    means, variances = [], []
    mean, var = np.full(3, 7, dtype), np.full(3, 8, dtype)
    for i in range(4):
        x = 2 + random((20, 3), dtype, i)
        fastnorm.batch_renorm(
            x, mean, var, training=True, momentum=None, num_batches_tracked=i
        )
        means.append(x.astype("f8").mean(0))
        variances.append(x.astype("f8").var(0, ddof=1))
    assert_close(mean, np.mean(means, 0))
    assert_close(var, np.mean(variances, 0))


def test_no_stored_deviation_counts_as_none(dtype: str) -> None:
    x, bias = random((8, 3), dtype), random(3, dtype, 1)
    zeros = np.zeros(3, dtype)
    _, _, _, r, d = fastnorm.batch_renorm(
        x, zeros.copy(), zeros.copy(), training=True, eps=0.0, return_stats=True
    )
    np.testing.assert_allclose(r, 1 / 3, rtol=1e-6)
    assert np.all(d == 0)
    y = fastnorm.batch_renorm(
        x, zeros, zeros.copy(), None, bias, True, eps=0.0, r_max=np.inf
    )
    np.testing.assert_array_equal(y, np.broadcast_to(bias, x.shape))


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.usefixtures("isa")
def test_a_constant_channel_gives_bias_and_difference(axis: int, dtype: str) -> None:
    x = np.full((5, 17, 23), 3.25, dtype)
    c = x.shape[axis]
    mean, var = np.full(c, 2.25, dtype), np.full(c, 4, dtype)
    y = fastnorm.batch_renorm(
        x, mean, var, np.full(c, 2, dtype), np.full(c, 8, dtype), True, eps=0.0,
        channel_axis=axis,
    )  # fmt: skip
    np.testing.assert_array_equal(y, np.full(x.shape, 9))  # (3.25 - 2.25) / 2 * 2 + 8


@pytest.mark.parametrize("axis", [1, 3])
def test_nan_and_inf_stay_in_their_channel(isa: str, axis: int, dtype: str) -> None:
    clean = random((3, 19, 5, 18), dtype)
    c = clean.shape[axis]

    def run(x: Array, mean: Array) -> Array:
        y: Array = fastnorm.batch_renorm(
            x, mean.copy(), np.ones(c, dtype), training=True, channel_axis=axis
        )
        return y

    zeros = np.zeros(c, dtype)
    expected = run(clean, zeros)
    for bad in (np.nan, np.inf):
        x, mean = clean.copy(), zeros.copy()
        x[1, 7, 2, 7] = bad
        mean[9] = np.nan
        y = run(x, mean)
        assert not np.any(np.isfinite(y.take(7, axis))), isa
        assert not np.any(np.isfinite(y.take(9, axis))), isa
        assert same_bits(np.delete(y, (7, 9), axis), np.delete(expected, (7, 9), axis))


def test_a_large_mean_that_float32_cannot_store() -> None:
    # The running mean is a multiple of 1/16 here, and d says so exactly.
    x = (1e6 + 10 * random((400, 3), "f8")).astype("f4")
    mean = x.astype("f8").mean(0).astype("f4")
    var = x.astype("f8").var(0).astype("f4")
    _, _, _, r, d = fastnorm.batch_renorm(
        x, mean.copy(), var.copy(), training=True, return_stats=True
    )
    lost = x.astype("f8").mean(0) - mean.astype("f8")
    np.testing.assert_allclose(d, lost / np.sqrt(var + 1e-5), atol=4e-7)
    assert np.any(np.abs(d) > 1e-4)
    np.testing.assert_allclose(r, 1, atol=4e-7)


@pytest.mark.parametrize("shape", [(3000, 333), (40, 40, 700), (2, 3, 300000)])
def test_threads_and_place_do_not_change_bits(shape: tuple[int, ...]) -> None:
    x = random(shape)
    mean, var = stored(shape[1], "float32")

    def run(**options: Any) -> list[Array]:
        m, v = mean.copy(), var.copy()
        y = fastnorm.batch_renorm(x, m, v, training=True, return_stats=True, **options)
        return [*y, m, v]

    one = run(num_threads=1)
    many = run(num_threads=4)
    kept = x.copy()
    placed = run(out=x)
    assert placed[0] is x
    for a, b, c in zip(one, many, placed, strict=True):
        assert same_bits(a, b) and same_bits(a, c)
    x[...] = kept
    if x.ndim > 2:
        i = 7 % shape[1]
        alone = fastnorm.batch_renorm(
            x[:, i : i + 1], mean[i : i + 1], var[i : i + 1], training=True
        )
        assert same_bits(alone[:, 0], one[0][:, i])


@pytest.mark.parametrize("shape", [(0, 3), (2, 3, 0), (5, 0)], ids=str)
def test_an_empty_batch_changes_nothing(shape: tuple[int, ...]) -> None:
    c = shape[1]
    mean, var = np.full(c, 2.0), np.full(c, 3.0)
    y, *stats = fastnorm.batch_renorm(
        np.empty(shape), mean, var, training=True, return_stats=True
    )
    assert y.shape == shape and np.all(mean == 2) and np.all(var == 3)
    assert all(np.all(np.isnan(s)) for s in stats)


def test_the_formula_of_the_paper() -> None:
    x = random((30, 4), "f8")
    mean, var = stored(4, "float64")
    y = fastnorm.batch_renorm(x, mean.copy(), var.copy(), training=True)
    sigma, sigma_b = np.sqrt(var + 1e-5), np.sqrt(x.var(0) + 1e-5)
    r = np.clip(sigma_b / sigma, 1 / 3, 3)
    d = np.clip((x.mean(0) - mean) / sigma, -5, 5)
    np.testing.assert_allclose(y, (x - x.mean(0)) / sigma_b * r + d, atol=1e-11)


X = random((6, 4))
M, V = np.zeros(4, np.float32), np.ones(4, np.float32)
REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"r_max": 0.5}, ValueError, "r_max is 0.5, a number >= 1 is needed"),
    ({"r_max": np.nan}, ValueError, "r_max is nan, a number >= 1 is needed"),
    ({"r_max": "3"}, TypeError, "r_max is str, a real number is needed"),
    ({"d_max": -0.1}, ValueError, "d_max is -0.1, a number >= 0 is needed"),
    ({"d_max": -1.0}, ValueError, "d_max is -1.0, a number >= 0 is needed"),
    ({"d_max": np.nan}, ValueError, "d_max is nan, a number >= 0 is needed"),
    ({"running_mean": None}, ValueError, "running_mean and running_var are needed"),
    ({"running_var": None}, ValueError, "running_mean and running_var are needed"),
    ({"running_mean": M[:3]}, ValueError, "running_mean has 3 values, the channel"),
    ({"momentum": 2}, ValueError, "momentum is 2.0, a number from 0 to 1 or None"),
    ({"momentum": None}, ValueError, "momentum=None needs num_batches_tracked"),
    ({"num_batches_tracked": 1}, ValueError, "num_batches_tracked is only used with"),
    ({"input": X[:1]}, ValueError, "expected more than 1 value per channel when tr"),
    ({"eps": -1}, ValueError, "eps is -1.0, a finite number >= 0 is needed"),
    ({"weight": V.astype("f8")}, TypeError, "weight has dtype float64, float32 or a"),
    ({"out": X[:3].copy()}, ValueError, "out has shape (3, 4), input's (6, 4)"),
    ({"out": X.T.copy().T[:, :3]}, ValueError, "out has shape (6, 3), input's"),
    ({"activation": "swish"}, ValueError, "activation"),
    ({"num_threads": 0}, ValueError, "num_threads is 0, at least 1 is needed"),
]


@pytest.mark.parametrize(("kwargs", "error", "text"), REFUSED)
def test_what_is_refused(
    kwargs: dict[str, Any], error: type[Exception], text: str
) -> None:
    mean, var = M.copy(), V.copy()
    given: dict[str, Any] = {"input": X, "running_mean": mean, "running_var": var}
    with pytest.raises(error) as raised:
        fastnorm.batch_renorm(**(given | {"training": True} | kwargs))
    assert str(raised.value).startswith(f"batch_renorm: {text}"), str(raised.value)
    assert np.all(mean == 0) and np.all(var == 1)


def test_running_statistics_that_overlap_are_refused() -> None:
    memory = np.ones(6, np.float32)
    with pytest.raises(ValueError, match="batch_renorm: an output overlaps"):
        fastnorm.batch_renorm(X, memory[:4], memory[2:], training=True)
    assert np.all(memory == 1)
