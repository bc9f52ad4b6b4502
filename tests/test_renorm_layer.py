# SPDX-License-Identifier: MIT
"""test_renorm_layer.py - the BatchRenorm layer: training, limits, evaluation."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from oracle import random, same_bits

import fastnorm


@pytest.mark.parametrize("axis", [1, -1])
def test_the_layer_trains_and_evaluates(axis: int, dtype: str) -> None:
    layer = fastnorm.BatchRenorm(
        4, r_max=1.5, d_max=0.5, weight=[1, 2, 3, 4], channel_axis=axis, dtype=dtype
    ).train()
    mean, var = np.zeros(4, dtype), np.ones(4, dtype)
    weight, bias = np.arange(1, 5, dtype=dtype), np.zeros(4, dtype)
    for i in range(3):
        x = 1 + 3 * random((6, 4, 5) if axis == 1 else (6, 5, 4), dtype, i)
        y, batch, rstd, r, d = fastnorm.batch_renorm(
            x, mean, var, weight, bias, True, r_max=1.5, d_max=0.5, channel_axis=axis,
            return_stats=True,
        )  # fmt: skip
        assert same_bits(layer(x), y)
        grad = random(x.shape, dtype, 9)
        right = fastnorm.batch_renorm_backward(
            grad, x, weight, batch, rstd, r, d, channel_axis=axis
        )
        layer.zero_grad()
        assert same_bits(layer.backward(grad), right.input)
        assert same_bits(layer.grads["weight"], right.weight)
    layer.eval()
    assert layer.running_mean is not None and layer.running_var is not None
    assert same_bits(layer.running_mean, mean) and same_bits(layer.running_var, var)
    assert layer.num_batches_tracked == 3
    plain = fastnorm.batch_norm(x, mean, var, weight, bias, channel_axis=axis)
    assert same_bits(layer(x), plain)
    other = fastnorm.BatchNorm(4, channel_axis=axis, dtype=dtype)
    other.load_state_dict(layer.state_dict())
    assert same_bits(other(x), plain)


def test_the_limits_of_the_layer_widen() -> None:
    layer = fastnorm.BatchRenorm(4, momentum=None, affine=False, r_max=1, d_max=0)
    x = 2 + random((9, 4))
    layer.train()
    assert same_bits(layer(x), fastnorm.batch_norm(x, None, None, training=True))
    layer.set_limits(np.inf, np.inf)
    mean = np.array(layer.running_mean)
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-6)
    y = layer(x[:3])
    sigma = np.sqrt(x.var(0, ddof=1) + 1e-5)
    np.testing.assert_allclose(y, (x[:3] - x.mean(0)) / sigma, atol=1e-5)
    assert layer.num_batches_tracked == 2
    again = pickle.loads(pickle.dumps(layer))
    assert (again.r_max, again.d_max, again.training) == (np.inf, np.inf, True)
    assert repr(layer) == (
        "BatchRenorm(4, eps=1e-05, momentum=None, affine=False, bias=False, r_max=inf, "
        "d_max=inf)"
    )
    for limits, text in (
        ((0.5, 0), "r_max is 0.5, a number >= 1"),
        ((2, -1), "d_max is -1, a number >= 0"),
        ((np.nan, 0), "r_max is nan, a number >= 1"),
    ):
        with pytest.raises(ValueError, match=f"BatchRenorm: {text}"):
            layer.set_limits(*limits)
    with pytest.raises(TypeError, match="BatchRenorm: r_max is 'x', a number"):
        fastnorm.BatchRenorm(4, r_max="x")  # type: ignore[arg-type]
    assert layer.r_max == np.inf
