# test_layers_masks.py - masks and lengths in the calls and the training of layers.
# SPDX-License-Identifier: MIT
"""What a layer does with a batch of which a part takes part."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from layer_cases import C, build, call, values
from oracle import random, same_bits

import fastnorm
from fastnorm import BatchNorm, BatchRenorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm

SHAPE = (4, C, 5, 2)
LENGTHS = [3, 5, 2, 3]
CHANNELS = [
    "batch", "batch without weight", "batch of its input", "group",
    "group without weight", "instance", "instance with weight",
    "instance with statistics",
]  # fmt: skip
of_channels = pytest.mark.parametrize("name", CHANNELS)
by = pytest.mark.parametrize("by", ["lengths", "mask", "full mask"])


def inside(by: str = "lengths") -> dict[str, Any]:
    """The keywords of a call for SHAPE."""
    if by == "lengths":
        return {"lengths": LENGTHS}
    mask = random((4, 1, 5, 2), seed=77) > -0.4
    return {"mask": mask if by == "mask" else np.repeat(mask, C, 1)}


def pattern(given: dict[str, Any]) -> np.ndarray:
    """The same as a mask of SHAPE."""
    if "mask" in given:
        return np.broadcast_to(given["mask"], SHAPE)
    part = np.arange(5) < np.array(given["lengths"])[:, None]
    return np.broadcast_to(part[:, None, :, None], SHAPE)


def slope(function: Any, at: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central differences of a function of an array that is changed in place."""
    found = np.zeros(at.shape)
    for i in np.ndindex(at.shape):
        middle, ends = at[i], []
        for way in (step, -step):
            at[i] = middle + way
            ends.append(function())
        at[i] = middle
        found[i] = (ends[0] - ends[1]) / (2 * step)
    return found


@of_channels
@by
@pytest.mark.parametrize("masked", ["zero", "keep"])
def test_evaluation_is_the_functions(name: str, by: str, masked: str) -> None:
    layer, x, given = build(name), 3 + random(SHAPE), inside(by)
    layer.load_state_dict(values(layer))
    expected = call(layer, x, masked=masked, **given)
    assert same_bits(layer(x, masked=masked, **given), expected)
    assert same_bits(layer.forward(x, masked=masked, **given), expected)
    assert np.all(expected[~pattern(given)] == 0) == (masked == "zero")


def test_evaluation_of_ragged_rows_is_the_functions() -> None:
    layer, x = build("layer of two axes"), 3 + random((4, 7, 5, 3))
    layer.load_state_dict(values(layer))
    lengths = np.arange(28).reshape(4, 7) % 6
    expected = call(layer, x, lengths=lengths)
    assert same_bits(layer(x, lengths=lengths), expected)
    assert np.all(expected[0, 0] == 0) and np.all(expected[0, 5] != 0)


@of_channels
@by
@pytest.mark.parametrize("masked", ["zero", "keep"])
def test_gradients_are_the_differences(name: str, by: str, masked: str) -> None:
    layer, given = build(name, dtype="f8"), {**inside(by), "masked": masked}
    state = values(layer)
    layer.load_state_dict(state)
    layer.train()
    x, grad = 3 + random(SHAPE, "f8", 1), random(SHAPE, "f8", 2)
    y = layer(x, **given)
    part = pattern(given)
    assert np.array_equal(y[~part], x[~part] if masked == "keep" else 0 * y[~part])
    found = layer.backward(grad)
    other = copy.deepcopy(layer)

    def loss() -> float:
        return float(np.vdot(grad, other(x, **given)))

    np.testing.assert_allclose(found, slope(loss, x), rtol=1e-5, atol=1e-7)
    assert np.array_equal(found[~part], grad[~part] * (masked == "keep"))
    assert list(layer.grads) == [key for key, _ in layer.named_parameters()]
    for key, array in other.named_parameters():
        np.testing.assert_allclose(
            layer.grads[key], slope(loss, array), rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize(
    ("options", "arguments", "shape", "rows"),
    [
        ({}, (6,), (3, 4, 6), (3, 4)), ({"axis": 1}, (6,), (3, 6, 2), (3,)),
        ({"bias": False}, ((4, 3),), (5, 4, 3), (5,)),
        ({"elementwise_affine": False}, (6,), (4, 6), (4,)),
        ({"axis": -2}, (6,), (2, 3, 6, 2), (2, 3)), ({"axis": (0, 1)}, ((4, 2),),
        (4, 2, 3), ()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("masked", ["zero", "keep"])
def test_gradients_of_ragged_rows_are_the_differences(
    options: Any, arguments: Any, shape: Any, rows: Any, masked: str
) -> None:
    layer = LayerNorm(*arguments, dtype="f8", **options)
    layer.load_state_dict(
        {k: random(v.shape, "f8", 5) for k, v in layer._now[-1].items()}
    )
    layer.train()
    most = layer.normalized_shape[0]
    lengths = (np.arange(np.prod(rows, dtype=int)).reshape(rows) * 2 + 3) % (most + 1)
    x, grad = 3 + random(shape, "f8", 1), random(shape, "f8", 2)
    given: dict[str, Any] = {"lengths": lengths, "masked": masked}
    layer(x, **given)
    found = layer.backward(grad)
    other = copy.deepcopy(layer)

    def loss() -> float:
        return float(np.vdot(grad, other(x, **given)))

    np.testing.assert_allclose(found, slope(loss, x), rtol=1e-5, atol=1e-6)
    for key, array in other.named_parameters():
        np.testing.assert_allclose(
            layer.grads[key], slope(loss, array), rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("kind", [BatchNorm, InstanceNorm, GroupNorm])
def test_channels_may_be_any_axis(kind: Any, axis: int) -> None:
    x, grad = 3 + random((4, C, 5)), random((4, C, 5), seed=2)
    found = []
    for place in (1, axis):
        arguments = (2, C) if kind is GroupNorm else (C,)
        layer = kind(*arguments, affine=True, channel_axis=place).train()
        there, grad_there = (
            np.ascontiguousarray(np.moveaxis(a, 1, place)) for a in (x, grad)
        )
        layer(there, lengths=LENGTHS)
        back = layer.backward(grad_there)
        assert back.flags.c_contiguous
        found.append((np.moveaxis(back, place, 1), *layer.grads.values()))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)


@of_channels
def test_running_statistics_and_counts_are_the_functions(name: str) -> None:
    layer, x = build(name), 3 + random(SHAPE)
    start = values(layer)
    layer.load_state_dict(start)
    layer.train()
    y = layer(x, lengths=LENGTHS)
    if "running_mean" not in start:
        assert same_bits(y, call(layer, x, lengths=LENGTHS))
        return
    mean, var, seen = (
        start[k] for k in ("running_mean", "running_var", "num_batches_tracked")
    )
    momentum = 1 / (int(seen) + 1) if layer.momentum is None else layer.momentum
    function = (
        fastnorm.batch_norm if isinstance(layer, BatchNorm) else fastnorm.instance_norm
    )
    weight, bias = layer.weight, layer.bias
    expected = function(
        x, mean, var, weight, bias, True, momentum, layer.eps, lengths=LENGTHS
    )
    assert same_bits(y, expected)
    np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-6)
    np.testing.assert_allclose(layer.running_var, var, rtol=1e-6)
    assert layer.num_batches_tracked == seen + 1
    # Nothing takes part: nothing is counted.
    state = layer.state_dict()
    assert np.all(layer(x, lengths=[0] * 4) == 0)
    assert np.all(layer.backward(random(SHAPE)) == 0)
    assert all(np.all(array == 0) for array in layer.grads.values())
    for key, array in layer.state_dict().items():
        assert same_bits(array, state[key])


@of_channels
@by
def test_garbage_stays_where_it_is(name: str, by: str) -> None:
    given = inside(by)
    part = pattern(given)
    results = []
    for garbage in (0.0, np.nan, np.inf):
        layer = build(name).train()
        x, grad = (
            np.where(part, random(SHAPE, seed=s), np.float32(garbage)) for s in (1, 2)
        )
        y = layer(x, **given)
        results.append((y, layer.backward(grad), *layer.grads.values()))
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            assert same_bits(one, other)


def test_batch_norm_has_the_bits_of_what_takes_part() -> None:
    x, grad = 3 + random(SHAPE), random(SHAPE, seed=2)
    mask = inside("mask")["mask"]
    layer = BatchNorm(C, weight=random(C, seed=3)).train()
    layer(x, mask=mask)
    found = layer.backward(grad)
    where = mask[:, 0]
    g, packed = (np.moveaxis(a, 1, -1)[where] for a in (grad, x))
    _, *stats = fastnorm.batch_norm(
        x, None, None, layer.weight, training=True, mask=mask, return_stats=True
    )
    right = fastnorm.batch_norm_backward(g, packed, layer.weight, *stats)
    assert same_bits(np.moveaxis(found, 1, -1)[where], right.input)
    assert same_bits(layer.grads["weight"], right.weight)
    assert same_bits(layer.grads["bias"], right.bias)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_sixteen_bits(kind: str) -> None:
    dtype = np.dtype("f2")
    if kind == "bfloat16":
        dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    for name in ("batch", "group", "instance with weight"):
        x, grad = random(SHAPE).astype(dtype), random(SHAPE, seed=1).astype(dtype)
        narrow, wide = build(name).train(), build(name).train()
        for masked in ("zero", "keep"):
            narrow(x, lengths=LENGTHS, masked=masked)
            found = narrow.backward(grad)
            assert found.dtype == dtype and narrow.grads["weight"].dtype == np.float32
            wide(x.astype("f4"), lengths=LENGTHS, masked=masked)
            expected = wide.backward(grad.astype("f4"))
            np.testing.assert_allclose(
                found.astype("f4"), expected, rtol=2e-2, atol=2e-2
            )


def test_out_is_written_and_may_be_the_gradient() -> None:
    for layer in (BatchNorm(C).train(), InstanceNorm(C).train()):
        x, grad = random(SHAPE), random(SHAPE, seed=2)
        layer(x, lengths=LENGTHS)
        with pytest.raises(ValueError, match=r"backward: grad_output has shape \(6, 5"):
            layer.backward(grad[0])
        with pytest.raises(ValueError, match=r"backward: out has shape .* float64"):
            layer.backward(grad, grad.astype("f8"))
        fixed = grad.copy()
        fixed.flags.writeable = False
        with pytest.raises(ValueError, match="backward: out is read-only"):
            layer.backward(grad, fixed)
        assert layer.grads == {}
        expected = copy.deepcopy(layer)
        expected(x, lengths=LENGTHS)
        right = expected.backward(grad)
        assert layer.backward(grad, grad) is grad
        assert same_bits(grad, right)


def test_a_plain_call_forgets_the_mask() -> None:
    layer, x, grad = BatchNorm(C).train(), random(SHAPE), random(SHAPE, seed=2)
    layer(x, lengths=LENGTHS)
    layer(x)
    plain = fastnorm.batch_norm_backward(grad, x, layer.weight)
    np.testing.assert_allclose(layer.backward(grad), plain.input, atol=1e-6)


def test_what_has_no_gradient_is_refused() -> None:
    x = random(SHAPE)
    whole = np.ones(SHAPE, bool)
    whole[1, 2, 3] = False
    for layer in (build("batch"), build("group"), build("instance")):
        layer.train()
        for given, error, words in (
            (
                {"mask": whole},
                ValueError,
                "mask differs between channels, which has no",
            ),
            (
                {"mask": np.ones(SHAPE, "f4")},
                TypeError,
                "dtype float32, bool is needed",
            ),
            ({"mask": np.ones((3, 1, 5, 2), bool)}, ValueError, "does not broadcast"),
            ({"lengths": [1, 2]}, ValueError, "lengths has shape"),
            ({"masked": "keep"}, ValueError, "needs mask or lengths"),
            ({"mask": whole[:, :1], "lengths": [1] * 4}, ValueError, "together"),
        ):
            before = layer.state_dict()
            with pytest.raises(error, match=words):
                layer(x, **given)
            for key, array in layer.state_dict().items():
                assert same_bits(array, before[key])
            with pytest.raises(RuntimeError, match="no call in training"):
                layer.backward(x)
    for other, lengths_or_mask in (
        (BatchRenorm(C), {"lengths": LENGTHS}), (BatchRenorm(C), {"mask": whole}),
        (RMSNorm(2), {"lengths": np.ones((4, C, 5), int)}),
        (LayerNorm(2), {"mask": whole}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="has no gradient here; in training"):
            other.train()(x, **lengths_or_mask)


def test_a_mask_in_evaluation_is_as_batch_norms_for_renorm() -> None:
    layer, x = BatchRenorm(C, running_mean=random(C)), random(SHAPE)
    state = layer.running_mean, layer.running_var, layer.weight, layer.bias
    expected = fastnorm.batch_norm(x, *state, lengths=LENGTHS)
    assert same_bits(layer(x, lengths=LENGTHS), expected)
