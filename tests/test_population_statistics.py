# SPDX-License-Identifier: MIT
"""test_population_statistics.py - calibrate, cumulative averages, and both momenta."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import random, same_bits

import fastnorm
import fastnorm.stats
from fastnorm import reference
from fastnorm.stats import momentum

SHAPES = [((6, 5), 1), ((6, 5, 7, 3), 1), ((6, 7, 3, 5), -1), ((5, 6, 8), 0)]


def batches_of(
    shape: tuple[int, ...], axis: int, dtype: str = "f4"
) -> list[NDArray[Any]]:
    """Batches of different means and sizes."""
    found = []
    for i, size in enumerate((6, 3, 1, 5)):
        part = list(shape)
        part[1 if axis == 0 else 0] = size
        found.append((random(part, "f8", seed=i) + 3 * i).astype(dtype))
    return found


def pooled(batches: list[NDArray[Any]], axis: int) -> reference.RunningMoments:
    rows = [np.moveaxis(b, axis, -1).reshape(-1, b.shape[axis]) for b in batches]
    return reference.RunningMoments(0).update(np.concatenate(rows))


@pytest.mark.parametrize("kind", [fastnorm.BatchNorm, fastnorm.InstanceNorm])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("unbiased", [True, False])
def test_statistics_are_those_of_all_batches_together(
    kind: Any, shape: tuple[int, ...], axis: int, unbiased: bool
) -> None:
    if kind is fastnorm.InstanceNorm and len(shape) < 3:
        pytest.skip("an instance needs positions")
    layer = kind(5, track_running_stats=True, affine=True, channel_axis=axis)
    batches = batches_of(shape, axis)
    exact = pooled(batches, axis)
    assert fastnorm.calibrate(layer, iter(batches), unbiased=unbiased) is layer
    assert np.allclose(layer.running_mean, exact.mean, rtol=1e-7)
    assert np.allclose(layer.running_var, exact.var(int(unbiased)), rtol=1e-7)
    assert layer.num_batches_tracked == 4
    # Not the mean of the batches' variances: that between batches is in it.
    within = np.mean([pooled([b], axis).var() for b in batches], axis=0)
    assert np.all(layer.running_var > 2 * within)
    # And applied: the mean and variance of all outputs are those of the weight.
    outputs = [layer(b) for b in batches]
    assert np.allclose(pooled(outputs, axis).mean, 0, atol=1e-5)
    assert np.allclose(pooled(outputs, axis).var(), 1, rtol=0.1)


@pytest.mark.parametrize("name", ["RunningMoments", "calibrate", "momentum"])
def test_the_examples_are_true(name: str) -> None:
    found = doctest.DocTestFinder(recurse=False).find(
        getattr(fastnorm.stats, name), name, module=False, globs={}
    )
    assert len(found) == 1 and found[0].examples
    assert doctest.DocTestRunner().run(found[0]).failed == 0


def test_the_split_does_not_matter() -> None:
    x = 1e3 + random((60, 4))
    layers = []
    for cuts in ([], [1], [10, 20, 59], range(1, 60)):
        layer = fastnorm.BatchNorm(4, dtype="f8")
        layers.append(fastnorm.calibrate(layer, np.split(x, list(cuts))))
    for layer in layers[1:]:
        assert np.allclose(layer.running_mean, layers[0].running_mean, rtol=1e-15)
        assert np.allclose(layer.running_var, layers[0].running_var, rtol=1e-14)


def test_calibrate_calls_what_comes_before() -> None:
    first, second = fastnorm.BatchNorm(3), fastnorm.BatchNorm(3)
    batches = batches_of((6, 3), 1)
    fastnorm.calibrate(first, batches)
    fastnorm.calibrate(second, batches, forward=lambda b: np.maximum(first(b), 0))
    exact = pooled([np.maximum(first(b), 0) for b in batches], 1)
    assert np.allclose(second.running_mean, exact.mean, rtol=1e-6)
    assert np.allclose(second.running_var, exact.var(1), rtol=1e-6)
    kept = fastnorm.BatchNorm(3, weight=[1, 2, 3], bias=[4, 5, 6])
    fastnorm.calibrate(kept, batches)
    assert np.all(kept.weight == [1, 2, 3]) and np.all(kept.bias == [4, 5, 6])


def test_bytes_stand_for_what_the_layer_takes_them_for() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (n, 3), np.uint8) for n in (50, 30)]
    layer = fastnorm.BatchNorm(3, in_scale=0.5, in_zero_point=100)
    exact = pooled([(b.astype("f8") - 100) * 0.5 for b in batches], 1)
    fastnorm.calibrate(layer, batches)
    assert np.allclose(layer.running_mean, exact.mean, rtol=1e-6)
    assert np.allclose(layer.running_var, exact.var(1), rtol=1e-6)
    assert np.allclose(np.mean(layer(np.concatenate(batches)), axis=0), 0, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "batches", "error", "text"),
    [
        (3, [], TypeError, "layer is int, BatchNorm or InstanceNorm"),
        (fastnorm.LayerNorm(3), [], TypeError, "layer is LayerNorm"),
        (fastnorm.InstanceNorm(3), [], ValueError, "keeps no running statistics"),
        (fastnorm.BatchNorm(3), [], ValueError, "0 values per channel, more than 1"),
        (fastnorm.BatchNorm(3), [np.ones((1, 3))], ValueError, "1 values per channel"),
        (fastnorm.BatchNorm(3), [np.ones((4, 2))], ValueError, "2 channels, the layer"),
        (fastnorm.BatchNorm(3), [np.ones(3)], ValueError, "a batch has 1 axes"),
        (fastnorm.BatchNorm(3), [np.ones((4, 3)), np.ones((4, 2))], ValueError, "2 ch"),
    ],
)
def test_errors_change_nothing(
    layer: Any, batches: Any, error: type, text: str
) -> None:
    before = layer.state_dict() if isinstance(layer, fastnorm.BatchNorm) else {}
    with pytest.raises(error, match=f"^calibrate: .*{text}"):
        fastnorm.calibrate(layer, batches)
    for name, value in before.items():
        assert same_bits(layer.state_dict()[name], value)


# ---- Momentum ----------------------------------------------------------------------


def train(batches: list[NDArray[Any]], **options: Any) -> tuple[Any, Any]:
    mean, var = np.zeros(5), np.ones(5)
    for i, batch in enumerate(batches):
        more = {"num_batches_tracked": i} if options["momentum"] is None else {}
        fastnorm.batch_norm(
            batch.astype("f8"), mean, var, training=True, **options, **more
        )
    return mean, var


def test_the_two_conventions_are_one_formula() -> None:
    batches = [b for b in batches_of((6, 5), 1) if len(b) > 1]
    for new, old in ((0.1, 0.9), (0.01, 0.99), (0.5, 0.5), (1.0, 0.0)):
        mean, var = np.zeros(5), np.ones(5)
        for batch in batches:
            exact = pooled([batch], 1)
            mean = old * mean + new * exact.mean
            var = old * var + new * exact.var(1)
        for options in ({"new_weight": new}, {"old_weight": old}):
            found = train(batches, momentum=momentum(**options))
            assert np.allclose(found[0], mean, rtol=1e-13)
            assert np.allclose(found[1], var, rtol=1e-13)


def test_the_cumulative_mode_is_the_mean_of_all_batches() -> None:
    batches = [b for b in batches_of((6, 5), 1) if len(b) > 1]
    exact = [pooled([b], 1) for b in batches]
    mean, var = train(batches, momentum=None)
    assert np.allclose(mean, np.mean([e.mean for e in exact], axis=0), rtol=1e-13)
    assert np.allclose(var, np.mean([e.var(1) for e in exact], axis=0), rtol=1e-13)


def test_a_layer_in_training_has_the_cumulative_mode() -> None:
    batches = [b for b in batches_of((6, 5), 1) if len(b) > 1]
    layer = fastnorm.BatchNorm(5, momentum=None, dtype="f8").train()
    for batch in batches:
        layer(batch.astype("f8"))
    mean, var = train(batches, momentum=None)
    assert np.allclose(layer.running_mean, mean, rtol=1e-13)
    assert np.allclose(layer.running_var, var, rtol=1e-13)
    assert layer.num_batches_tracked == len(batches)


@pytest.mark.parametrize("new", [0.1, 0.3, None])
def test_torch_has_the_same_statistics(new: float | None) -> None:
    torch = pytest.importorskip("torch")
    batches = [b for b in batches_of((6, 5), 1) if len(b) > 1]
    theirs = torch.nn.BatchNorm1d(5, momentum=new, dtype=torch.float64)
    for batch in batches:
        theirs(torch.from_numpy(batch.astype("f8")))
    mine = train(batches, momentum=new if new is None else momentum(new_weight=new))
    assert np.allclose(mine[0], theirs.running_mean.numpy(), rtol=1e-13)
    assert np.allclose(mine[1], theirs.running_var.numpy(), rtol=1e-13)
    if new is None:
        # One pass over the same batches in one: the statistics of calibrate.
        whole = torch.nn.BatchNorm1d(5, momentum=None, dtype=torch.float64)
        whole(torch.from_numpy(np.concatenate(batches).astype("f8")))
        layer = fastnorm.calibrate(fastnorm.BatchNorm(5, dtype="f8"), batches)
        assert np.allclose(layer.running_mean, whole.running_mean.numpy(), rtol=1e-13)
        assert np.allclose(layer.running_var, whole.running_var.numpy(), rtol=1e-13)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, TypeError, "one of new_weight and old_weight is needed"),
        ({"new_weight": 0.1, "old_weight": 0.9}, TypeError, "one of new_weight and"),
        ({"new_weight": 1.5}, ValueError, "new_weight is 1.5, a number from 0 to 1"),
        ({"old_weight": -0.1}, ValueError, "old_weight is -0.1, a number from 0 to 1"),
        ({"old_weight": np.nan}, ValueError, "old_weight is nan, a number from 0 to 1"),
        ({"old_weight": "a"}, TypeError, "old_weight is 'a', a number is needed"),
    ],
)
def test_a_weight_that_is_none_is_refused(options: Any, error: type, text: str) -> None:
    with pytest.raises(error, match=f"^momentum: {text}"):
        momentum(**options)
    with pytest.raises(TypeError):
        momentum(0.1)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [fastnorm.BatchNorm, fastnorm.InstanceNorm])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("by", ["lengths", "mask", "weights"])
def test_calibrate_counts_what_takes_part(kind: Any, axis: int, by: str) -> None:
    layer = kind(5, track_running_stats=True, channel_axis=axis, dtype="f8")
    exact, batches = reference.RunningMoments(0), []
    for seed, size in enumerate((4, 1, 3)):
        x = 3 * seed + random((size, 5, 7), "f8", seed)
        lengths = (np.arange(size) * 3 + 2) % 8
        part = np.arange(7) < lengths[:, None]
        weights = part[:, None] * (1.0 + np.arange(7))
        for row, n in zip(x, lengths, strict=True):
            repeats = 1 + np.arange(n) if by == "weights" else 1
            exact.update(np.repeat(row[:, :n], repeats, axis=1).T)
        garbage = np.where(part[:, None], x, np.nan)
        given = {
            "lengths": {"lengths": lengths.tolist()}, "mask": {"mask": part[:, None]},
            "weights": {"mask": weights},
        }[by]  # fmt: skip
        if "mask" in given:
            given = {"mask": np.moveaxis(given["mask"], 1, axis)}
        batches.append({"x": np.moveaxis(garbage, 1, axis), **given})
    fastnorm.calibrate(layer, batches)
    assert np.allclose(layer.running_mean, exact.mean, rtol=1e-13, atol=0)
    assert np.allclose(layer.running_var, exact.var(1), rtol=1e-13, atol=0)
    assert layer.num_batches_tracked == 3
    again = kind(5, track_running_stats=True, channel_axis=axis, dtype="f8")
    fastnorm.calibrate(again, range(3), forward=lambda i: batches[i])
    assert same_bits(again.running_var, layer.running_var)


def test_mistakes_with_masks_in_calibrate() -> None:
    layer, x = fastnorm.BatchNorm(3), random((4, 3, 5))
    before = layer.state_dict()
    for batch, error, words in (
        ({"y": x}, ValueError, "a batch has the keys y; x, and mask or lengths"),
        ({"x": x, "weights": x}, ValueError, "the keys x, weights"),
        ({"x": x, "lengths": [1, 2]}, ValueError, r"lengths of shape \(2,\)"),
        ({"x": x, "lengths": [1, 2, 3, 6]}, ValueError, "outside of 0 to 5"),
        ({"x": x, "lengths": [1, 2, 3, -1]}, ValueError, "outside of 0 to 5"),
        ({"x": x, "lengths": [1.0] * 4}, TypeError, "lengths of float64"),
        ({"x": x[:, :, 0], "lengths": [1] * 4}, ValueError, "one for each sample"),
        ({"x": x, "lengths": [1] * 4, "mask": x > 0}, ValueError, "given together"),
        ({"x": x, "mask": np.ones((4, 2, 5), bool)}, ValueError, "mask has shape"),
        ({"x": x, "lengths": [0] * 4}, ValueError, "0 values per channel"),
    ):
        given: list[Any] = [batch]
        with pytest.raises(error, match=words):
            fastnorm.calibrate(layer, given)
    for name, array in layer.state_dict().items():
        assert same_bits(array, before[name])


@pytest.mark.parametrize("zero", [0.0, 0, -0.0, momentum(new_weight=0)])
def test_no_momentum_leaves_the_statistics_alone(zero: float) -> None:
    x = 5 + random((6, 4, 7))
    mean, var = random(4, seed=1), np.abs(random(4, seed=2)) + 1
    before = mean.copy(), var.copy()
    plain = fastnorm.batch_norm(x, None, None, training=True)
    for more in ({}, {"lengths": [3, 7, 1, 2, 5, 0]}):
        y = fastnorm.batch_norm(x, mean, var, None, None, True, zero, **more)
        assert more or same_bits(y, plain)
        fastnorm.instance_norm(
            x, mean, var, momentum=zero, **{"mask": x > 0} if more else {}
        )
    fastnorm.batch_renorm(x, mean, var, None, None, True, zero)
    assert same_bits(mean, before[0]) and same_bits(var, before[1])
    for kind in (fastnorm.BatchNorm, fastnorm.InstanceNorm, fastnorm.BatchRenorm):
        options: Any = (
            {} if kind is fastnorm.BatchRenorm else {"track_running_stats": True}
        )
        make: Any = kind
        layer = make(4, momentum=zero, running_mean=mean, running_var=var, **options)
        layer.train()(x)
        assert same_bits(layer.running_mean, mean) and layer.num_batches_tracked == 1
        assert same_bits(layer.running_var, var)
