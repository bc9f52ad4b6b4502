# test_backward_reference.py - the formulas of the gradients, before anything compiled.
# SPDX-License-Identifier: MIT
"""fastnorm.reference's gradients against finite differences and torch's autograd."""

from __future__ import annotations

import numpy as np
import pytest
from backward_cases import CASES, Array, Case, Values, every_case

from fastnorm import Gradients, reference


def differences(case: Case, grad: Array, values: Values) -> Values:
    """Central differences of sum(grad * forward), in float64."""
    step, found = 1e-5, {}
    for name, array in values.items():
        slopes = np.empty(array.shape)
        for i in np.ndindex(array.shape):
            sums = []
            for h in (step, -step):
                moved = array.copy()
                moved[i] += h
                y = case.forward(reference, values | {name: moved})
                sums.append(np.sum(grad * y))
            slopes[i] = (sums[0] - sums[1]) / (2 * step)
        found[name] = slopes
    return found


@every_case
def test_they_are_the_slopes_of_the_norm(name: str) -> None:
    case = CASES[name]
    values, grad = case.values(), case.grad()
    found = case.backward(reference, grad, values)
    for key, slopes in differences(case, grad, values).items():
        scale = np.max(np.abs(slopes))
        np.testing.assert_allclose(found[key], slopes, rtol=0, atol=2e-8 * scale + 1e-9)


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case.torch is not None]
)
def test_they_are_those_of_autograd(name: str) -> None:
    torch = pytest.importorskip("torch")
    case = CASES[name]
    values, grad = case.values(), case.grad()
    tensors = {k: torch.tensor(v, requires_grad=True) for k, v in values.items()}
    assert case.torch is not None
    case.torch(torch, tensors).backward(torch.tensor(grad))
    found = case.backward(reference, grad, values)
    for key, tensor in tensors.items():
        expected = tensor.grad.numpy()
        scale = max(1.0, float(np.max(np.abs(expected))))
        np.testing.assert_allclose(found[key], expected, rtol=0, atol=1e-13 * scale)


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case.statistics is not None]
)
def test_statistics_that_are_given_change_only_digits(name: str) -> None:
    case = CASES[name]
    values, grad = case.values(), case.grad()
    assert case.statistics is not None
    stats = case.statistics(reference, values)
    own = case.backward(reference, grad, values)
    rough = {key: array.astype("f4") for key, array in stats.items()}
    for given, bound in ((stats, 1e-14), (rough, 1e-6)):
        found = case.backward(reference, grad, values, **given)
        assert found.keys() == own.keys()
        for key, expected in own.items():
            scale = np.max(np.abs(expected))
            np.testing.assert_allclose(
                found[key], expected, rtol=0, atol=bound * scale + 1e-15
            )


def test_the_rounding_of_a_mean_is_made_up_for() -> None:
    x = 1e6 + np.random.default_rng(0).standard_normal((3, 50))
    grad = np.random.default_rng(1).standard_normal(x.shape)
    exact = reference.layer_norm_backward(grad, x, 50)
    mean, rstd = (
        a.astype("f4") for a in reference.layer_norm(x, 50, return_stats=True)[1:]
    )
    assert np.max(np.abs(mean - x.mean(1, keepdims=True))) > 1e-3
    found = reference.layer_norm_backward(grad, x, 50, None, mean, rstd)
    np.testing.assert_allclose(found.input, exact.input, rtol=0, atol=1e-6)


def test_what_is_asked_for_is_what_is_returned() -> None:
    x = np.arange(6.0).reshape(2, 3)
    grad, w = np.ones((2, 3)), np.array([1.0, 2.0, 3.0])
    every = reference.layer_norm_backward(grad, x, 3, w)
    assert isinstance(every, Gradients)
    for i, name in enumerate(Gradients._fields):
        found = reference.layer_norm_backward(grad, x, 3, w, needs=(name,))
        np.testing.assert_array_equal(found[i], every[i])
        assert [part is not None for part in found] == [j == i for j in range(3)]
    out = np.empty((2, 3), "f4")
    assert reference.layer_norm_backward(grad, x, 3, w, out=out).input is out
    np.testing.assert_array_equal(out, every.input.astype("f4"))
    assert reference.layer_norm_backward(grad, x, 3).weight is None


def test_what_it_refuses() -> None:
    x, w = np.ones((2, 3)), np.ones(3)
    backward = reference.layer_norm_backward
    with pytest.raises(ValueError, match="needs names 'wait'"):
        backward(x, x, 3, needs=("wait",))
    with pytest.raises(TypeError, match="needs is a str"):
        backward(x, x, 3, needs="input")
    with pytest.raises(ValueError, match="grad_output has shape"):
        backward(w, x, 3)
    with pytest.raises(ValueError, match="must come together"):
        backward(x, x, 3, None, np.zeros((2, 1)))
    with pytest.raises(ValueError, match="out is given"):
        backward(x, x, 3, out=np.empty((2, 3)), needs=("weight",))
    with pytest.raises(TypeError, match="8 bits"):
        backward(x, np.ones((2, 3), np.int8), 3)
    with pytest.raises(ValueError, match="more than one value"):
        reference.batch_norm_backward(np.ones((1, 3)), np.ones((1, 3)))
    with pytest.raises(ValueError, match="inference needs"):
        reference.batch_norm_backward(x, x, training=False)
    with pytest.raises(ValueError, match="training needs r and d"):
        reference.batch_renorm_backward(x, x)
    with pytest.raises(ValueError, match="g has shape"):
        reference.weight_norm_backward(x, x, np.ones((3, 1)))


def test_a_vector_of_zeros_has_no_slope() -> None:
    v, g = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[2.0], [5.0]])
    grad_v, grad_g = reference.weight_norm_backward(np.ones((2, 2)), v, g)
    assert grad_v is not None and grad_g is not None
    np.testing.assert_array_equal(grad_v[0], 0)
    np.testing.assert_allclose(grad_g, [[0.0], [1.4]], rtol=1e-15)
    found = reference.l2_norm_backward(np.ones((2, 2)), v, eps=0.0)
    np.testing.assert_array_equal(found[0], 0)
    below = reference.l2_norm_backward(np.ones((2, 2)), v, eps=0.5)
    np.testing.assert_array_equal(below[0], 2)
    np.testing.assert_allclose(below[1], found[1], rtol=1e-15)
