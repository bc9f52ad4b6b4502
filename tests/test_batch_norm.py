# SPDX-License-Identifier: MIT
"""test_batch_norm.py - batch_norm against the exact result, on every ISA."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import BOUND, assert_close, error, hostile, random, same_bits

import fastnorm
from fastnorm import reference

SHAPES = [
    (2, 3), (7, 1), (64, 16), (33, 17), (1000, 64), (5, 300), (2, 2050),
    (2, 3, 1), (1, 3, 2), (4, 5, 7), (1, 2048, 7, 7), (2, 3, 50, 40), (8, 4, 14, 14),
    (1, 1, 5000), (3, 2, 9000),
]  # fmt: skip


def parameters(channels: int, dtype: str) -> list[NDArray[np.floating]]:
    """Weight, bias, running mean, running variance."""
    rows = [random(channels, dtype, seed) for seed in range(3)]
    return [*rows, np.abs(random(channels, dtype, 3)) + np.asarray(0.1, dtype)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("backend")
def test_inference_uses_the_stored_statistics(
    shape: tuple[int, ...], dtype: str
) -> None:
    x = random(shape, dtype)
    weight, bias, mean, var = parameters(shape[1], dtype)
    y = fastnorm.batch_norm(x, mean, var, weight, bias)
    exact = reference.batch_norm(x, mean, var, weight, bias)
    size = np.abs(reference.batch_norm(x, mean, var, weight)) + 4
    assert_close(y, exact, size)
    plain, used_mean, rstd = fastnorm.batch_norm(x, mean, var, return_stats=True)
    assert_close(plain, reference.batch_norm(x, mean, var))
    assert same_bits(used_mean, mean)
    assert_close(rstd, 1 / np.sqrt(var.astype("f8") + 1e-5))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("backend")
def test_training_uses_the_statistics_of_the_batch(
    shape: tuple[int, ...], dtype: str
) -> None:
    x = 1e3 + random(shape, dtype)
    y, mean, rstd = fastnorm.batch_norm(x, None, None, training=True, return_stats=True)
    exact, exact_mean, exact_rstd = reference.batch_norm(
        x, None, None, training=True, return_stats=True
    )
    assert mean.shape == rstd.shape == (shape[1],) and mean.dtype == x.dtype
    assert_close(y, exact)
    assert_close(mean, exact_mean)
    assert error(rstd / exact_rstd, np.ones(shape[1])) <= BOUND[x.dtype]


@pytest.mark.parametrize("layout", ["table", "channels first", "channels last"])
@pytest.mark.parametrize("n", [2, 6, 64, 516, 4096])
@pytest.mark.parametrize("eps", [1e-5, 0.0])
@pytest.mark.usefixtures("backend")
def test_hostile_channels_are_within_the_bound(
    layout: str, n: int, eps: float, dtype: str
) -> None:
    rows = hostile(n, dtype)
    x = np.stack(list(rows.values()))  # [C, n]
    if layout == "table":
        x, axis = np.ascontiguousarray(x.T), 1
    elif layout == "channels last":
        x, axis = np.ascontiguousarray(x.T).reshape(2, n // 2, -1), 2
    else:
        halves = x.reshape(len(rows), 2, n // 2)
        x, axis = np.ascontiguousarray(halves.transpose(1, 0, 2)), 1
    if x.size == x.shape[axis]:
        pytest.skip("one value per channel")
    y = fastnorm.batch_norm(x, None, None, training=True, eps=eps, channel_axis=axis)
    exact = reference.batch_norm(
        x, None, None, training=True, eps=eps, channel_axis=axis
    )
    errors = {
        name: e
        for i, name in enumerate(rows)
        if (e := error(y.take(i, axis), exact.take(i, axis))) > BOUND[x.dtype]
    }
    assert not errors


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 8, 15, 16, 17, 33, 64, 100, 515])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.usefixtures("backend")
def test_channels_last_is_channels_first_transposed(
    channels: int, training: bool, dtype: str
) -> None:
    x = 10 + random((2, 9, 11, channels), dtype)
    first = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    weight, bias, mean, var = parameters(channels, dtype)
    means, variances = ([a.copy() for _ in range(3)] for a in (mean, var))
    y = fastnorm.batch_norm(
        x, means[0], variances[0], weight, bias, training, channel_axis=-1
    )
    other = fastnorm.batch_norm(first, means[1], variances[1], weight, bias, training)
    exact = reference.batch_norm(
        x, means[2], variances[2], weight, bias, training, channel_axis=-1
    )
    size = 2 * np.abs(y) + 4
    assert_close(y, exact, size)
    assert_close(np.moveaxis(other, 1, -1), exact, size)
    for i in (0, 1):
        assert_close(means[i], means[2])
        assert_close(variances[i], variances[2])


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -4])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.usefixtures("either")
def test_any_axis_can_be_the_channels(axis: int, training: bool, dtype: str) -> None:
    x = random((4, 5, 6, 3), dtype)
    _, _, mean, var = parameters(x.shape[axis], dtype)
    exact = reference.batch_norm(
        x, mean.copy(), var.copy(), training=training, channel_axis=axis
    )
    y = fastnorm.batch_norm(x, mean, var, training=training, channel_axis=axis)
    assert_close(y, exact)


@pytest.mark.parametrize("shape", [(32, 7), (4, 7, 5, 3)], ids=str)
@pytest.mark.parametrize("momentum", [0.1, 0.9, 1.0])
@pytest.mark.usefixtures("backend")
def test_momentum_weights_the_new_value(
    shape: tuple[int, ...], momentum: float, dtype: str
) -> None:
    _, _, mean, var = parameters(7, dtype)
    x = 2 + random(shape, dtype)
    wide = np.moveaxis(x, 1, 0).reshape(7, -1).astype("f8")
    expected_mean = (1 - momentum) * mean.astype("f8") + momentum * wide.mean(1)
    expected_var = (1 - momentum) * var.astype("f8") + momentum * wide.var(1, ddof=1)
    fastnorm.batch_norm(x, mean, var, training=True, momentum=momentum)
    assert_close(mean, expected_mean)
    assert_close(var, expected_var)


@pytest.mark.usefixtures("either")
def test_zero_momentum_leaves_the_running_statistics() -> None:
    _, _, mean, var = parameters(5, "float32")
    kept = mean.copy(), var.copy()
    fastnorm.batch_norm(random((6, 5)), mean, var, training=True, momentum=0.0)
    assert same_bits(mean, kept[0]) and same_bits(var, kept[1])


@pytest.mark.usefixtures("either")
def test_cumulative_statistics_are_the_mean_over_all_batches(dtype: str) -> None:
    # One epoch: equal mini-batches, the mean of their means and unbiased variances.
    mean, var = np.full(6, 123, dtype), np.full(6, 456, dtype)
    batches = [5 + random((16, 6, 3), dtype, seed) for seed in range(10)]
    for i, x in enumerate(batches):
        fastnorm.batch_norm(
            x, mean, var, training=True, momentum=None, num_batches_tracked=i
        )
    wide = [x.astype("f8").transpose(1, 0, 2).reshape(6, -1) for x in batches]
    tolerance = 10 * BOUND[mean.dtype]
    np.testing.assert_allclose(
        mean, np.mean([b.mean(1) for b in wide], 0), rtol=tolerance
    )
    np.testing.assert_allclose(
        var, np.mean([b.var(1, ddof=1) for b in wide], 0), rtol=tolerance
    )


@pytest.mark.usefixtures("either")
def test_evaluation_in_the_middle_of_training_changes_nothing(dtype: str) -> None:
    x, mean, var = random((8, 3, 4), dtype), np.zeros(3, dtype), np.ones(3, dtype)
    fastnorm.batch_norm(x, mean, var, training=True)
    kept = mean.copy(), var.copy()
    first = fastnorm.batch_norm(x, mean, var)
    second = fastnorm.batch_norm(x, mean, var, training=False, momentum=1.0)
    assert same_bits(first, second)
    assert same_bits(mean, kept[0]) and same_bits(var, kept[1])


@pytest.mark.usefixtures("either")
def test_the_running_variance_is_unbiased_and_the_norm_biased() -> None:
    x = np.array([[-1.0], [1.0]])
    mean, var = np.zeros(1), np.zeros(1)
    y = fastnorm.batch_norm(x, mean, var, training=True, momentum=1.0, eps=0.0)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(var, [2.0])


@pytest.mark.usefixtures("either")
def test_one_value_per_channel_is_refused_and_changes_nothing() -> None:
    mean, var, out = np.zeros(3), np.ones(3), np.full((1, 3), 9.0)
    with pytest.raises(ValueError, match="batch_norm"):
        fastnorm.batch_norm(np.ones((1, 3)), mean, var, training=True, out=out)
    assert np.all(mean == 0) and np.all(var == 1) and np.all(out == 9)


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0), (5, 0)], ids=str)
@pytest.mark.usefixtures("either")
def test_an_empty_batch_leaves_the_running_statistics(shape: tuple[int, ...]) -> None:
    c = shape[1]
    mean, var = np.full(c, 2.0), np.full(c, 3.0)
    y = fastnorm.batch_norm(np.empty(shape), mean, var, training=True)
    assert y.shape == shape and np.all(mean == 2) and np.all(var == 3)


@pytest.mark.parametrize("eps", [1e-5, 0.0])
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.usefixtures("backend")
def test_a_constant_channel_gives_exactly_the_bias(
    eps: float, axis: int, dtype: str
) -> None:
    x = np.full((5, 17, 23), 3.3, dtype)
    bias = random(x.shape[axis], dtype)
    weight = random(x.shape[axis], dtype, 1)
    y = fastnorm.batch_norm(
        x, None, None, weight, bias, True, eps=eps, channel_axis=axis
    )
    shape = (1, -1, 1) if axis == 1 else (1, 1, -1)
    np.testing.assert_array_equal(y, np.broadcast_to(bias.reshape(shape), x.shape))


@pytest.mark.usefixtures("either")
def test_zero_stored_variance_without_eps_gives_the_bias(dtype: str) -> None:
    zeros, bias = np.zeros(4, dtype), random(4, dtype)
    y = fastnorm.batch_norm(random((3, 4), dtype), zeros, zeros, None, bias, eps=0.0)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, (3, 4)))


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("training", [False, True])
def test_nan_and_inf_stay_in_their_channel(
    isa: str, layout: str, training: bool, dtype: str
) -> None:
    axis = 1 if layout == "channels first" else 3
    clean = random((3, 19, 5, 18), dtype)
    c = clean.shape[axis]
    mean, var = np.zeros(c, dtype), np.ones(c, dtype)

    def run(x: NDArray[np.floating]) -> NDArray[np.floating]:
        return fastnorm.batch_norm(
            x, mean.copy(), var.copy(), training=training, channel_axis=axis
        )

    expected = run(clean)
    for bad in (np.nan, np.inf):
        x = clean.copy()
        x[1, 7, 2, 7] = bad
        y = run(x)
        assert not np.isfinite(y[1, 7, 2, 7]), isa
        if training:
            assert not np.any(np.isfinite(y.take(7, axis))), isa
        assert same_bits(np.delete(y, 7, axis), np.delete(expected, 7, axis))


@pytest.mark.slow
@pytest.mark.usefixtures("either")
def test_a_channel_of_five_million_is_within_the_bound() -> None:
    x = (1e4 + random((2, 2, 2_500_000))).astype("float32")
    y = fastnorm.batch_norm(x, None, None, training=True)
    wide = x.astype("f8")
    wide -= wide.mean((0, 2), keepdims=True)
    wide -= wide.mean((0, 2), keepdims=True)
    assert_close(y, wide / np.sqrt(np.square(wide).mean((0, 2), keepdims=True) + 1e-5))
