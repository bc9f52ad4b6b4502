# test_layers_training.py - layers that learn: train, backward, grads, parameters.
# SPDX-License-Identifier: MIT
"""Every layer in training against torch's module, and what training changes."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_cases import LAYERS, MODULES, SHAPE, C, build, every_layer, new, values
from oracle import random, same_bits

import fastnorm
from fastnorm import BatchNorm, InstanceNorm, LayerNorm, RMSNorm

TOLERANCE = {"float32": 1e-4, "float64": 1e-12}
with_weight = pytest.mark.parametrize(
    "name", [name for name in LAYERS if build(name).weight is not None]
)


@every_layer
def test_several_steps_are_torchs(name: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    kind, arguments, options = LAYERS[name]
    module = getattr(torch.nn, MODULES[kind.__name__])(
        *arguments, **options, dtype=getattr(torch, dtype)
    )
    layer = build(name, dtype=dtype)
    start = values(layer)
    if "num_batches_tracked" in start:
        start["num_batches_tracked"] = np.array(0)
    layer.load_state_dict(start)
    module.load_state_dict({key: torch.from_numpy(v) for key, v in start.items()})
    assert layer.train() is layer and layer.training
    module.train()
    for step in range(3):
        x = 3 + random(SHAPE, dtype, 50 + step)
        grad = random(SHAPE, dtype, 70 + step)
        t = torch.tensor(x, requires_grad=True)
        expected = module(t)
        y = layer(x)
        tolerance = TOLERANCE[dtype]
        np.testing.assert_allclose(y, expected.detach(), rtol=tolerance, atol=tolerance)
        expected.backward(torch.tensor(grad))
        found = layer.backward(grad)
        np.testing.assert_allclose(found, t.grad, rtol=tolerance, atol=tolerance)
        # torch's are added up as well.
        names = [key for key, _ in module.named_parameters()]
        assert list(layer.grads) == names
        for key, parameter in module.named_parameters():
            np.testing.assert_allclose(
                layer.grads[key], parameter.grad, rtol=tolerance, atol=50 * tolerance
            )
    theirs = module.state_dict()
    assert list(layer.state_dict()) == list(theirs)
    for key, array in layer.state_dict().items():
        if key == "num_batches_tracked" and kind is InstanceNorm:
            # torch's does not count, though it has a count.
            assert array == 3
            continue
        np.testing.assert_allclose(array, theirs[key], rtol=1e-5, atol=1e-6)


@every_layer
def test_training_calls_the_functions(name: str) -> None:
    layer = build(name)
    layer.load_state_dict(values(layer))
    x, grad = 3 + random(SHAPE, seed=1), random(SHAPE, seed=2)
    copied = copy.deepcopy(layer)
    layer.train()
    out = np.empty_like(x)
    assert layer.forward(x, out, num_threads=1, flush_denormals=True) is out
    copied.train()
    assert same_bits(copied.forward(x), out)
    into = np.empty_like(x)
    assert layer.backward(grad, into) is into
    assert same_bits(copied.backward(grad, grad), into)
    for key, array in layer.grads.items():
        assert same_bits(copied.grads[key], array)


@every_layer
def test_evaluation_is_what_it_was(name: str) -> None:
    layer = build(name)
    layer.load_state_dict(values(layer))
    x = 3 + random(SHAPE, seed=1)
    expected, state = layer(x), layer.state_dict()
    assert not layer.training
    layer.train()
    assert layer.eval() is layer and not layer.training
    assert same_bits(layer(x), expected)
    for key, array in layer.state_dict().items():
        assert same_bits(array, state[key])
    for _, array in layer.named_parameters():
        assert not array.flags.writeable


@with_weight
def test_parameters_are_changed_in_place(name: str) -> None:
    layer = build(name)
    layer.load_state_dict(values(layer))
    assert all(not array.flags.writeable for array in layer.parameters())
    before = layer.state_dict()
    layer.train()
    x, grad = 3 + random(SHAPE, seed=1), random(SHAPE, seed=2)
    first = layer(x).copy()
    layer.backward(grad)
    for key, array in layer.named_parameters():
        assert array is getattr(layer, key)
        array -= np.float32(0.5) * layer.grads[key]
    assert [key for key, _ in layer.named_parameters()] == list(layer.grads)
    assert not same_bits(layer(x), first)
    # The optimizer's arrays stay the layer's when a state is loaded.
    held = dict(layer.named_parameters())
    layer.load_state_dict(before)
    for key, array in layer.named_parameters():
        assert array is held[key] and same_bits(array, before[key])
    assert same_bits(layer(x), first)
    held["weight"][...] = 7
    layer.eval()
    held["weight"][...] = 8
    assert np.all(layer.weight == 7)


def test_gradients_are_added_up_until_forgotten() -> None:
    layer = LayerNorm(3).train()
    assert layer.grads == {}
    x, grad = random(SHAPE), random(SHAPE, seed=2)
    layer(x)
    layer.backward(grad)
    once = {key: array.copy() for key, array in layer.grads.items()}
    layer(x)
    layer.backward(grad)
    for key, array in layer.grads.items():
        np.testing.assert_array_equal(array, 2 * once[key])
    taken = layer.grads["weight"]
    layer.zero_grad()
    assert layer.grads == {}
    np.testing.assert_array_equal(taken, 2 * once["weight"])
    layer(x)
    layer.backward(grad)
    assert same_bits(layer.grads["weight"], once["weight"])


def test_backward_needs_a_call_in_training() -> None:
    layer, x = RMSNorm(3), random(SHAPE)
    for _ in range(2):
        layer(x)
        with pytest.raises(RuntimeError, match=r"RMSNorm.backward: there was no call"):
            layer.backward(x)
        layer.train()
        with pytest.raises(RuntimeError, match="no call in training"):
            layer.backward(x)
        layer(x)
        layer.backward(x)
        with pytest.raises(RuntimeError, match="no call in training"):
            layer.backward(x)
        layer(x)
        layer.eval()


def test_a_backward_that_fails_changes_nothing() -> None:
    layer, x, grad = LayerNorm(3).train(), random(SHAPE), random(SHAPE, seed=2)
    layer(x)
    expected = fastnorm.layer_norm_backward(grad, x, 3, layer.weight)
    with pytest.raises(ValueError, match="grad_output has shape"):
        layer.backward(grad[0])
    assert layer.grads == {}
    np.testing.assert_allclose(layer.backward(grad), expected.input, atol=1e-6)


def test_a_call_that_fails_changes_nothing() -> None:
    layer = BatchNorm(C).train()
    layer(random(SHAPE))
    state = pickle.dumps(layer.state_dict())
    with pytest.raises(ValueError, match="batch_norm: "):
        layer(np.ones((2, 5, 3), np.float32))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(np.ones((1, C), np.float32))
    assert pickle.dumps(layer.state_dict()) == state
    # And the call before can still be gone back through.
    assert layer.backward(random(SHAPE)).shape == SHAPE


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"activation": "relu"}, "activation"), ({"out_dtype": "f2"}, "out_dtype"),
        ({"post_add": np.ones(SHAPE, "f4")}, "post_add"),
        ({"residual": np.ones(SHAPE, "f4")}, "residual"),
    ],
)  # fmt: skip
def test_what_has_no_gradient_is_refused(options: dict[str, Any], text: str) -> None:
    layer = LayerNorm(3).train()
    with pytest.raises(ValueError, match=f"LayerNorm: {text} has no gradient here"):
        layer(random(SHAPE), **options)
    nothing: dict[str, Any] = dict.fromkeys(options)
    layer(random(SHAPE), **nothing)
    if "post_add" not in options and "residual" not in options:
        kept = new(LayerNorm, 3, **options)
        with pytest.raises(ValueError, match=rf"LayerNorm.train: the layer has {text}"):
            kept.train()
        assert not kept.training
        assert kept.train(False) is kept


def test_the_input_is_not_written_over() -> None:
    layer, x = LayerNorm(3).train(), random(SHAPE)
    for out in (x, x[:, ::-1]):
        with pytest.raises(ValueError, match="LayerNorm: out is the input"):
            layer(x, out)
    layer.eval()
    assert layer(x, x) is x


@every_layer
@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_copies_go_on_training(name: str, how: str) -> None:
    layer = build(name).train()
    x, grad = 3 + random(SHAPE, seed=1), random(SHAPE, seed=2)
    layer(x)
    other = (
        pickle.loads(pickle.dumps(layer)) if how == "pickle" else copy.deepcopy(layer)
    )
    assert other.training and other.grads == {}
    with pytest.raises(RuntimeError, match="no call"):
        other.backward(grad)
    assert same_bits(other(x), layer(x))
    assert same_bits(other.backward(grad), layer.backward(grad))
    for key, array in other.state_dict().items():
        assert same_bits(array, layer.state_dict()[key])


@pytest.mark.parametrize("kind", [BatchNorm, InstanceNorm])
def test_without_momentum_all_batches_count_alike(kind: Any) -> None:
    layer = kind(C, momentum=None, track_running_stats=True).train()
    batches = [3 + random(SHAPE, seed=i) for i in range(4)]
    for x in batches:
        layer(x)
    assert layer.num_batches_tracked == 4
    axes = (0, 2, 3)
    means = [x.astype("f8").mean(axes) for x in batches]
    np.testing.assert_allclose(layer.running_mean, np.mean(means, 0), rtol=1e-6)
    assert layer(np.empty((0, C, 5, 3), np.float32)).size == 0
    assert layer.num_batches_tracked == 4
    np.testing.assert_allclose(layer.running_mean, np.mean(means, 0), rtol=1e-6)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_sixteen_bits_learn_with_float32_parameters(kind: str) -> None:
    dtype = np.dtype("f2")
    if kind == "bfloat16":
        dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    layer = BatchNorm(C).train()
    x, grad = random(SHAPE).astype(dtype), random(SHAPE, seed=1).astype(dtype)
    assert layer(x).dtype == dtype
    assert layer.backward(grad).dtype == dtype
    assert layer.grads["weight"].dtype == np.float32


def test_axes_and_modes_are_those_of_the_layer() -> None:
    x, grad = random((2, C, 5)), random((2, C, 5), seed=1)
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    last_grad = np.ascontiguousarray(np.moveaxis(grad, 1, -1))
    for kind, arguments, option in (
        (BatchNorm, (C,), "channel_axis"), (InstanceNorm, (C,), "channel_axis"),
        (LayerNorm, (C,), "axis"), (RMSNorm, (C,), "axis"),
        (fastnorm.GroupNorm, (2, C), "channel_axis"),
    ):  # fmt: skip
        found = []
        for axis, given, g in ((1, x, grad), (-1, last, last_grad)):
            layer = new(kind, *arguments, **{option: axis}).train()
            layer(given)
            found.append(np.moveaxis(layer.backward(g), axis, 1))
        np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-6)
    gemma = RMSNorm(5, mode="one_plus_weight").train()
    gemma.load_state_dict({"weight": random(5, seed=4)})
    gemma(x)
    plain = RMSNorm(5, weight=1 + random(5, seed=4)).train()
    plain(x)
    np.testing.assert_allclose(gemma.backward(grad), plain.backward(grad), atol=1e-6)


def test_renorm_learns_as_its_functions_say() -> None:
    layer = fastnorm.BatchRenorm(C).train()
    layer.load_state_dict({**values(layer), "num_batches_tracked": np.array(0)})
    state = layer.state_dict()
    x, grad = 3 + 2 * random(SHAPE, seed=1), random(SHAPE, seed=2)
    mean, var = state["running_mean"].copy(), state["running_var"].copy()
    y, *stats = fastnorm.batch_renorm(
        x, mean, var, state["weight"], state["bias"], True, return_stats=True
    )
    assert same_bits(layer(x), y)
    assert np.any(stats[2] != 1) and np.any(stats[3] != 0)
    expected = fastnorm.batch_renorm_backward(grad, x, state["weight"], *stats)
    assert same_bits(layer.backward(grad), expected.input)
    assert same_bits(layer.grads["weight"], expected.weight)
    assert same_bits(layer.grads["bias"], expected.bias)
    assert layer.running_mean is not None and same_bits(layer.running_mean, mean)
    assert layer.running_var is not None and same_bits(layer.running_var, var)
    assert layer.num_batches_tracked == 1


def test_the_examples_of_the_docs() -> None:
    docs = Path(__file__).parents[1] / "docs" / "gradients.md"
    blocks = re.findall(r"```python\n(.*?)```", docs.read_text("utf-8"), re.S)
    assert len(blocks) == 2
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    np.testing.assert_array_equal(names["norm"].num_batches_tracked, 1)
    assert names["norm"].grads == {} and not np.all(names["norm"].weight == 1)
