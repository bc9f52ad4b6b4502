# SPDX-License-Identifier: MIT
"""test_weight_norm_layer.py - WeightNorm: parameters, torch's names, training."""

from __future__ import annotations

import copy
import doctest
import pickle
from typing import Any

import numpy as np
import pytest
from oracle import random, same_bits

import fastnorm
from fastnorm import WeightNorm

dims = pytest.mark.parametrize("dim", [0, 1, -1, None])


def lengths(v: np.ndarray, dim: int | None, seed: int = 3) -> np.ndarray:
    shape = [1] * v.ndim
    if dim is not None:
        shape[dim] = v.shape[dim]
    found = random(shape if dim is not None else (), v.dtype, seed)
    return np.asarray(found + v.dtype.type(2))


@dims
def test_a_call_gives_the_weight(dim: int | None, dtype: str) -> None:
    v = random((5, 4, 3), dtype)
    g = lengths(v, dim)
    layer = WeightNorm(v, g, dim, dtype=dtype, num_threads=1)
    right = fastnorm.weight_norm(v, g, dim)
    assert same_bits(layer(), right) and same_bits(layer.forward(), right)
    weight = layer.weight
    assert layer() is weight and not weight.flags.writeable
    out = np.empty_like(v)
    assert layer(out) is out and same_bits(out, right)
    assert same_bits(layer(flush_denormals=True), right)
    v[:], g[...] = 0, 0
    assert same_bits(layer(), right)
    assert layer.weight_v.shape == v.shape and layer.weight_g.shape == g.shape


@dims
def test_without_lengths_the_weight_is_the_direction(dim: int | None) -> None:
    v = random((5, 4, 3), seed=1)
    np.testing.assert_allclose(WeightNorm(v, dim=dim)(), v, rtol=1e-6)


@dims
def test_it_learns_as_its_functions_say(dim: int | None, dtype: str) -> None:
    v, grad = random((5, 4, 3), dtype), random((5, 4, 3), dtype, 2)
    g = lengths(v, dim)
    layer = WeightNorm(v, g, dim, dtype=dtype).train()
    assert [name for name, _ in layer.named_parameters()] == ["weight_g", "weight_v"]
    right, norm = fastnorm.weight_norm(v, g, dim, return_norm=True)
    by_v, by_g = fastnorm.weight_norm_backward(grad, v, g, dim, norm=norm)
    for times in (1, 2):
        assert same_bits(layer(), right)
        layer.backward(grad)
        np.testing.assert_array_equal(layer.grads["weight_v"], times * by_v)
        np.testing.assert_array_equal(layer.grads["weight_g"], times * by_g)
        assert layer.grads["weight_g"].shape == g.shape
    with pytest.raises(RuntimeError, match=r"WeightNorm.backward: there was no call"):
        layer.backward(grad)
    held = layer.weight_v
    for name, array in layer.named_parameters():
        array -= array.dtype.type(0.5) * layer.grads[name]
    assert layer.weight_v is held and not same_bits(layer(), right)
    after = layer()
    layer.eval()
    held[...] = 0
    assert same_bits(layer(), after) and not layer.weight_g.flags.writeable


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("form", ["weight_norm", "parametrizations.weight_norm"])
@pytest.mark.parametrize("dim", [0, 1, 2, None])  # -1 means None to torch
def test_torchs_states_are_read(form: str, dim: int | None) -> None:
    torch: Any = pytest.importorskip("torch")
    make = torch.nn.utils
    for part in form.split("."):
        make = getattr(make, part)
    module = make(torch.nn.Conv1d(4, 6, 3, bias=False), dim=dim)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.25)
    right = module.weight if form[0] == "p" else torch._weight_norm(
        module.weight_v, module.weight_g, -1 if dim is None else dim
    )  # fmt: skip
    state = {"conv." + name: value for name, value in module.state_dict().items()}
    layer = WeightNorm(np.ones((6, 4, 3)), dim=dim)
    assert layer.load_state_dict(state, prefix="conv.") == ([], [])
    np.testing.assert_allclose(layer(), right.detach().numpy(), rtol=1e-6)
    assert layer.load_state_dict({**state, "conv.bias": 0}, False, prefix="conv.") == (
        [], ["bias"],
    )  # fmt: skip
    if form == "weight_norm":
        assert list(layer.state_dict(prefix="conv.")) == list(state)
    # And its gradients are torch's.
    grad = random((6, 4, 3), seed=5)
    right.backward(torch.from_numpy(grad))
    layer.train()
    layer()
    layer.backward(grad)
    theirs = {name: p.grad for name, p in module.named_parameters()}
    for ours, old, new in (
        ("weight_g", "weight_g", "0"),
        ("weight_v", "weight_v", "1"),
    ):
        name = old if old in theirs else f"parametrizations.weight.original{new}"
        np.testing.assert_allclose(
            layer.grads[ours], theirs[name], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_copies(how: str) -> None:
    layer = WeightNorm(random((3, 4)), dim=1, num_threads=1, dtype="f8").train()
    layer.weight_g[...] += 1.0
    other = (
        pickle.loads(pickle.dumps(layer)) if how == "pickle" else copy.deepcopy(layer)
    )
    assert other.training and other.options == {"num_threads": 1}
    assert repr(other) == repr(layer)
    assert same_bits(other(), layer())
    other.weight_v[...] = 1
    assert not same_bits(other(), layer())


def test_repr_and_the_example() -> None:
    assert repr(WeightNorm(np.ones((3, 4)), dim=None)) == "WeightNorm((3, 4), dim=None)"
    found = repr(WeightNorm(np.ones((3, 4)), dim=-1, dtype="f8", num_threads=2))
    assert found == "WeightNorm((3, 4), dim=-1, dtype='float64', num_threads=2)"
    tests = doctest.DocTestFinder(recurse=False).find(WeightNorm, globs={})
    assert len(tests) == 1 and tests[0].examples
    assert doctest.DocTestRunner().run(tests[0]).failed == 0


def test_zeros_stay_zeros() -> None:
    layer = WeightNorm(np.zeros((2, 3)), [[1], [2]]).train()
    assert np.all(layer() == 0)
    layer.backward(np.ones((2, 3), np.float32))
    assert all(np.all(array == 0) for array in layer.grads.values())


def test_mistakes() -> None:
    make: Any = WeightNorm
    v = np.ones((3, 4))
    for arguments, options, error, words in (
        ((v, np.ones(3)), {}, ValueError, r"weight_g has shape \(3,\), \(3, 1\)"),
        ((v, None, 2), {}, ValueError, "dim is 2"),
        ((v,), {"activation": "relu"}, TypeError, "unexpected arguments activation"),
        ((v,), {"dtype": "f2"}, TypeError, "float32 or float64 is needed"),
        ((v,), {"num_threads": 0}, ValueError, "num_threads"),
        ((["a"],), {}, TypeError, "v has dtype"),
    ):
        with pytest.raises(error, match=words):
            make(*arguments, **options)
    layer = WeightNorm(v)
    before = layer()
    with pytest.raises(ValueError, match="missing keys: weight_g; weight_v has shape"):
        layer.load_state_dict({"weight_v": np.ones(3)})
    with pytest.raises(AttributeError, match="cannot be set"):
        layer.dim = 1
    assert layer() is before
    layer.train()
    with pytest.raises(ValueError, match="out is the input"):
        layer(layer.weight_v)
    layer()
    with pytest.raises(ValueError, match="grad_output has shape"):
        layer.backward(np.ones(3, np.float32))
    assert layer.grads == {}
