# test_layers.py - prepared norms give what the functions give, and refuse what they do.
# SPDX-License-Identifier: MIT
"""LayerNorm, RMSNorm, BatchNorm, GroupNorm, InstanceNorm: calls and arguments."""

from __future__ import annotations

import doctest
import sys
from typing import Any

import numpy as np
import pytest
from layer_cases import SHAPE, C, build, call, every_layer, new, values, variances
from numpy.typing import NDArray
from oracle import random, same_bits

import fastnorm
from fastnorm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm

# ---- The same as the functions ----------------------------------------------------


@pytest.mark.usefixtures("isa")
@every_layer
def test_a_call_has_the_bits_of_the_function(name: str, dtype: str) -> None:
    layer = build(name, dtype=dtype)
    layer.load_state_dict(values(layer))
    x = 3 + random(SHAPE, dtype, 50)
    expected = call(layer, x)
    assert same_bits(layer(x), expected)
    out = np.empty_like(x)
    assert layer(x, out) is out
    assert same_bits(out, expected)
    assert layer(x, out=x, num_threads=1) is x
    assert same_bits(x, expected)


@pytest.mark.parametrize("axis", [1, -1, 0, 2])
def test_the_axis_of_the_channels(axis: int) -> None:
    x = np.moveaxis(random(SHAPE), 1, axis)
    mean, var = random(C, seed=1), variances(C)
    layer = BatchNorm(C, running_mean=mean, running_var=var, channel_axis=axis)
    expected = fastnorm.batch_norm(x, mean, var, channel_axis=axis)
    assert same_bits(layer(x), expected)
    for kind in (
        GroupNorm(2, C, channel_axis=axis),
        InstanceNorm(C, channel_axis=axis),
    ):
        assert same_bits(kind(x), call(kind, x, channel_axis=axis))


@pytest.mark.parametrize(
    ("axis", "extents"), [(1, C), ((1, 2), (C, 5)), (-1, 3), ([-2, -1], (5, 3)), (0, 4)]
)
def test_the_axes_of_layer_and_rms_norm(axis: Any, extents: Any) -> None:
    x = random(SHAPE)
    weight, bias = random(extents, seed=1), random(extents, seed=2)
    layer = LayerNorm(extents, weight=weight, bias=bias, axis=axis)
    expected = fastnorm.layer_norm(x, extents, weight, bias, axis=axis)
    assert same_bits(layer(x), expected)
    rms = RMSNorm(extents, weight=weight, axis=axis)
    assert same_bits(rms(x), fastnorm.rms_norm(x, extents, weight, axis=axis))


def test_the_scale_prepared_has_the_bits_of_the_variance(dtype: str) -> None:
    rng = np.random.default_rng(5)
    for i in range(200):
        n = int(rng.integers(1, 70))
        mean, weight = (
            (rng.standard_normal(n) * 10 ** rng.uniform(-3, 6, n)).astype(dtype)
            for _ in range(2)
        )
        var = (10 ** rng.uniform(-10, 12, n)).astype(dtype)
        bias, eps = random(n, dtype, i), float(rng.choice([0, 1e-5, 1e-3, 1e-12]))
        layer = BatchNorm(
            n, eps, weight=weight, bias=bias, running_mean=mean, running_var=var,
            dtype=dtype,
        )  # fmt: skip
        # Otherwise this compares the function with itself.
        assert layer._now[5] == 0.0 and np.all(layer._now[1] == 1)
        x = (rng.standard_normal((3, n, 7)) * 10 ** rng.uniform(-5, 5)).astype(dtype)
        assert same_bits(
            layer(x), fastnorm.batch_norm(x, mean, var, weight, bias, eps=eps)
        )


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("running_var", 0.0), ("running_var", 1e-38), ("running_var", 3e38),
        ("running_var", np.inf), ("running_var", np.nan), ("running_var", -1.0),
        ("running_mean", np.inf), ("running_mean", np.nan), ("running_mean", 3e38),
        ("weight", 0.0), ("weight", 3e38), ("weight", 1e-30), ("weight", np.nan),
        ("bias", np.inf), ("bias", np.nan),
    ],
)  # fmt: skip
@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_channels_out_of_range_have_the_bits_of_the_function(
    place: str, value: float, eps: float
) -> None:
    layer = BatchNorm(C, eps)
    state = values(layer)
    state[place][2] = value
    layer.load_state_dict(state)
    x = random(SHAPE, seed=3)
    x[0, 2, 0] = 1e-40, 3e38, -1.0
    x[0, 2, 1, 0] = np.inf
    expected = fastnorm.batch_norm(
        x, state["running_mean"], state["running_var"], state["weight"], state["bias"],
        eps=eps,
    )  # fmt: skip
    assert same_bits(layer(x), expected)


def test_a_call_costs_no_conversion() -> None:
    # What a call hands on is what the function takes as it is: same objects each time.
    layer = LayerNorm(8, weight=list(range(8)), dtype="float32")
    weight = layer.weight
    assert weight is not None and weight is layer.weight is layer._now[1]
    assert weight.dtype == np.float32 and weight.flags.c_contiguous
    assert weight.dtype.isnative and weight.flags.aligned


def test_parameters_of_any_kind_are_laid_out_once() -> None:
    w = random(C, seed=1)
    expected = LayerNorm(C, weight=w)(random((2, C)))
    strided = np.repeat(w, 2)[::2]
    swapped = w.astype(">f4")
    for given in (
        w.tolist(),
        strided,
        swapped,
        w.astype("f8"),
        w.astype("f8")[:, None].T[0],
    ):
        assert same_bits(LayerNorm(C, weight=given)(random((2, C))), expected)
    half = np.array([0.5, 1, 2, 4, 8, 16], "f2")
    assert new(LayerNorm, C, weight=half).weight.tolist() == half.tolist()
    ml_dtypes = pytest.importorskip("ml_dtypes")
    brain = half.astype(ml_dtypes.bfloat16)
    assert new(LayerNorm, C, weight=brain).weight.tolist() == half.tolist()


# ---- Other types, and what is fused ------------------------------------------------


def narrow(name: str, x: NDArray[Any]) -> NDArray[Any]:
    if name == "bfloat16":
        return x.astype(pytest.importorskip("ml_dtypes").bfloat16)
    return x.astype(name)


@every_layer
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_16_bit_data_with_parameters_of_float32(name: str, kind: str) -> None:
    layer = build(name)
    layer.load_state_dict(values(layer))
    x = narrow(kind, 3 + random(SHAPE))
    y = layer(x)
    assert y.dtype == x.dtype
    assert same_bits(y, call(layer, x))
    wide = layer(x, out_dtype="float32")
    assert same_bits(wide, call(layer, x, out_dtype="float32"))
    # Rounded once from what float32 data of the same values give.
    assert same_bits(wide, layer(x.astype("float32")))
    assert same_bits(y, wide.astype(x.dtype))


@every_layer
def test_what_is_fused_has_the_bits_of_the_function(name: str) -> None:
    layer = build(name)
    layer.load_state_dict(values(layer))
    x, add = random(SHAPE, seed=1), random(SHAPE, seed=2)
    options: dict[str, Any] = {"post_add": add, "activation": ("leaky_relu", 0.1)}
    expected = call(layer, x, **options)
    assert same_bits(layer(x, **options), expected)
    plain = layer(x)
    summed = plain + add
    np.testing.assert_allclose(
        expected, np.where(summed < 0, np.float32(0.1) * summed, summed), 1e-5, 1e-6
    )
    if isinstance(layer, (LayerNorm, RMSNorm)):
        total, again = np.empty_like(x), np.empty_like(x)
        found = layer(x, residual=add, residual_out=total)
        assert same_bits(found, call(layer, x, residual=add, residual_out=again))
        assert same_bits(total, x + add) and same_bits(total, again)
        assert not same_bits(found, plain)
    else:
        with pytest.raises(TypeError, match="residual"):
            layer(x, residual=add)


@every_layer
def test_an_activation_of_the_layer_and_another_of_a_call(name: str) -> None:
    x = random(SHAPE)
    plain = build(name)(x)
    layer = build(name, activation="relu")
    assert same_bits(layer(x), np.maximum(plain, np.float32(0)))
    clamped = layer(x, activation=("clamp", -0.5, 0.5))
    assert same_bits(clamped, np.clip(plain, np.float32(-0.5), np.float32(0.5)))
    assert same_bits(layer(x, activation=None), plain)
    assert "activation='relu'" in repr(layer)
    with pytest.raises(ValueError, match="activation"):
        build(name, activation="rely")


def test_eight_bits_in_and_out() -> None:
    mean, var = random(C, seed=1), variances(C)
    x = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    options: dict[str, Any] = {"in_scale": 0.5, "in_zero_point": 200}
    layer = BatchNorm(C, running_mean=mean, running_var=var, **options)
    expected = fastnorm.batch_norm(x, mean, var, **options)
    assert expected.dtype == np.float32
    assert same_bits(layer(x), expected)
    stored = layer(x, out_dtype="int8", out_scale=0.25)
    assert stored.dtype == np.int8
    quantized = np.clip(np.rint(expected / np.float32(0.25)), -128, 127)
    assert np.max(np.abs(stored - quantized)) <= 1
    norm = LayerNorm(3, out_dtype="int8")
    rows = random((5, 3))
    for a, b in zip(
        norm(rows), fastnorm.layer_norm(rows, 3, out_dtype="int8"), strict=True
    ):
        assert same_bits(a, b)


@every_layer
def test_tensors_in_and_out(name: str) -> None:
    torch = pytest.importorskip("torch")
    layer = build(name, flush_denormals=True)
    x = random(SHAPE)
    expected = layer(x)
    out = torch.empty(SHAPE)
    assert layer(torch.from_numpy(x), out=out) is out
    assert same_bits(out.numpy(), expected)


@pytest.mark.parametrize("mode", ["plain", "cast_before_weight", "one_plus_weight"])
def test_the_modes_of_rms_norm(mode: Any) -> None:
    x = narrow("float16", random((5, 8)))
    weight = random(8, seed=1)
    layer = RMSNorm(8, weight=weight, mode=mode)
    assert same_bits(layer(x), fastnorm.rms_norm(x, 8, weight, mode=mode))
    # Without a weight given none changes anything.
    assert same_bits(RMSNorm(8, mode=mode)(x), fastnorm.rms_norm(x, 8))
    with pytest.raises(ValueError, match="mode"):
        new(RMSNorm, 8, mode="plane")


# ---- Arguments --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: new(LayerNorm, 3, weight=np.ones(4)), ValueError,
         r"LayerNorm: weight has shape \(4,\), \(3,\) is needed"),
        (lambda: new(LayerNorm, (2, 3), bias=np.ones(6)), ValueError,
         r"LayerNorm: bias has shape \(6,\), \(2, 3\) is needed"),
        (lambda: new(LayerNorm, 3, weight=2.0), ValueError,
         r"LayerNorm: weight has shape \(\), \(3,\) is needed"),
        (lambda: new(LayerNorm, 3, eps=-1), ValueError, "LayerNorm: eps is -1.0"),
        (lambda: new(LayerNorm, 3, eps=np.nan), ValueError, "LayerNorm: eps is nan"),
        (lambda: new(LayerNorm, 3, eps="small"), TypeError,
         "LayerNorm: eps is 'small'"),
        (lambda: new(LayerNorm, 3.5), TypeError, "LayerNorm: normalized_shape is 3.5"),
        (lambda: new(LayerNorm, -3), ValueError, "LayerNorm: normalized_shape is -3"),
        (lambda: new(LayerNorm, ()), ValueError, "normalized_shape is empty"),
        (lambda: new(LayerNorm, (2, 3), axis=1), ValueError, "normalized_shape"),
        (lambda: new(LayerNorm, (2, 3), axis=(0, 2)), ValueError, "not adjacent"),
        (lambda: new(LayerNorm, 3, axis=0.5), TypeError, "LayerNorm: axis is 0.5"),
        (lambda: new(LayerNorm, 3, dtype="f2"), TypeError,
         "LayerNorm: dtype is float16"),
        (lambda: new(LayerNorm, 3, elementwise_affine=False, weight=[1, 2, 3]),
         ValueError,
         "LayerNorm: weight is given and elementwise_affine is False"),
        (lambda: new(LayerNorm, 3, elementwise_affine=False, bias=[1, 2, 3]),
         ValueError,
         "LayerNorm: bias is given and elementwise_affine is False"),
        (lambda: new(LayerNorm, 3, num_threads=0), ValueError, "num_threads is 0"),
        (lambda: new(LayerNorm, 3, speed=3), TypeError,
         "LayerNorm: unexpected arguments speed"),
        (lambda: new(LayerNorm, 3, residual=np.ones(3)), TypeError,
         "LayerNorm: unexpected arguments residual"),
        (lambda: new(BatchNorm, 3, running_mean=np.ones(2)), ValueError,
         r"BatchNorm: running_mean has shape \(2,\), \(3,\) is needed"),
        (lambda: new(BatchNorm, 3, track_running_stats=False, running_var=[1, 1, 1]),
         ValueError, "running_var is given and track_running_stats is False"),
        (lambda: new(BatchNorm, 3, affine=False, weight=[1, 1, 1]), ValueError,
         "BatchNorm: weight is given and affine is False"),
        (lambda: new(BatchNorm, 3, momentum=1.5), ValueError,
         "BatchNorm: momentum is 1.5"),
        (lambda: new(BatchNorm, 3, momentum=-1), ValueError,
         "BatchNorm: momentum is -1"),
        (lambda: new(BatchNorm, "3"), TypeError, "BatchNorm: num_features is '3'"),
        (lambda: new(BatchNorm, 3, channel_axis=None), TypeError,
         "BatchNorm: channel_axis is None, an integer is needed"),
        (lambda: new(GroupNorm, 4, 6), ValueError,
         "GroupNorm: num_groups is 4, which does not divide the 6 channels"),
        (lambda: new(GroupNorm, 0, 6), ValueError, "GroupNorm: num_groups is 0"),
        (lambda: new(InstanceNorm, 3, weight=[1, 1, 1]), ValueError,
         "InstanceNorm: weight is given and affine is False"),
        (lambda: new(RMSNorm, 3, weight=["a", "b", "c"]), TypeError,
         "RMSNorm: weight has dtype <U1"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(
    make: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        make()


def test_a_call_cannot_override_the_parameters() -> None:
    layer = new(LayerNorm, 3)
    with pytest.raises(TypeError, match="weight"):
        layer(random((2, 3)), weight=np.ones(3, "f4"))
    with pytest.raises(ValueError, match="layer_norm"):
        layer(random((2, 4)))


@every_layer
def test_options_of_the_layer_and_of_a_call(name: str) -> None:
    # The function gets them: when the layer is made, and the call's before the layer's.
    with pytest.raises(ValueError, match="num_threads is 0"):
        build(name, num_threads=0)
    layer = build(name, num_threads=1)
    assert layer.options == {"num_threads": 1}
    x = random(SHAPE)
    with pytest.raises(ValueError, match="num_threads is 0"):
        layer(x, num_threads=0)
    assert same_bits(layer(x), layer(x, num_threads=2))
    with pytest.raises(TypeError, match="speed"):
        layer(x, speed=3)


def test_arguments_in_torchs_order() -> None:
    layer = LayerNorm(3, 0.5, True, False)
    assert layer.eps == 0.5 and layer.weight is not None and layer.bias is None
    assert LayerNorm(3, bias=None).bias is None
    norm = BatchNorm(3, 0.5, 0.2, False, False)
    assert (norm.eps, norm.momentum, norm.affine) == (0.5, 0.2, False)
    assert norm.running_mean is norm.running_var is norm.num_batches_tracked is None
    assert GroupNorm(2, 4, 0.5, False).weight is None
    assert RMSNorm(3, 0.5, False).weight is None
    assert InstanceNorm(3, 0.5, 0.2, True, True).running_mean is not None


def test_examples_in_docstrings() -> None:
    results = doctest.testmod(sys.modules["fastnorm.layers"])
    assert results.attempted >= 20
    assert results.failed == 0
