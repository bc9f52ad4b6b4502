# SPDX-License-Identifier: MIT
"""test_channel_dtypes.py - batch, group and instance norm on 16-bit and 8-bit data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channel_cases import (
    BFLOAT16,
    EPS,
    FLOAT32,
    SHORT,
    Array,
    assert_rounded,
    assert_steps,
    case,
    every_axis,
    images,
    norms,
    plain_size,
    short,
)
from oracle import error, hostile, random, same_bits

import fastnorm
from fastnorm import reference

# ---- 16 bits --------------------------------------------------------------------


@norms
@short
@every_axis
@pytest.mark.usefixtures("isa")
def test_16_bit_results_are_rounded_once(norm: str, name: str, axis: int) -> None:
    for shape in [(2, 12, 5, 7), (4, 12, 3), (1, 12, 1, 40), (3, 12, 700)]:
        call, x = case(norm, shape, axis), images(axis, shape=shape).astype(SHORT[name])
        y = call(fastnorm, x)
        assert y.dtype == x.dtype and y.shape == x.shape
        assert_rounded(y, call(reference, x), plain_size(call, x))


@norms
@short
def test_statistics_of_16_bit_input_are_float32(norm: str, name: str) -> None:
    call, x = case(norm), images(1).astype(SHORT[name])
    _, mean, rstd = call(fastnorm, x, return_stats=True)
    _, exact_mean, exact_rstd = call(reference, x, return_stats=True)
    assert mean.dtype == rstd.dtype == np.float32
    assert error(mean, exact_mean) <= FLOAT32
    assert error(rstd / exact_rstd, np.ones(rstd.shape)) <= FLOAT32


@norms
@short
@pytest.mark.parametrize("out", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("given", ["float32", "float16", "bfloat16"])
def test_every_mixture_of_types(norm: str, name: str, out: str, given: str) -> None:
    dtypes = SHORT | {"float32": np.dtype(np.float32)}
    call, x = case(norm), images(1).astype(dtypes[given])
    parameters = {
        "weight": (1 + random(12) / 4).astype(SHORT[name]),
        "bias": random(12, seed=1),
    }
    y = call(fastnorm, x, out_dtype=dtypes[out], **parameters)
    exact = call(reference, x, **parameters)
    assert y.dtype == dtypes[out]
    size = 2 * np.abs(exact) + 8
    if out == "float32":
        assert error(y, exact, size) <= FLOAT32
    else:
        assert_rounded(y, exact, size)
    room = np.empty(x.shape, dtypes[out])
    assert call(fastnorm, x, out_dtype=out, out=room, **parameters) is room
    assert same_bits(room, y)


@norms
def test_parameters_of_one_16_bit_type_are_those_widened(norm: str) -> None:
    call, x = case(norm), images(1).astype(BFLOAT16)
    weight, bias = (random(12, BFLOAT16, seed) for seed in (1, 2))
    wide = {"weight": weight.astype("f4"), "bias": bias.astype("f4")}
    y = call(fastnorm, x, weight=weight, bias=bias)
    assert same_bits(y, call(fastnorm, x, **wide))
    assert same_bits(y, call(fastnorm, x, weight=weight, bias=wide["bias"]))


@short
@pytest.mark.parametrize("kind", ["16-bit", "float32", "both"])
@pytest.mark.parametrize("function", ["batch_norm", "instance_norm"])
def test_running_statistics_of_16_bit_input(
    name: str, kind: str, function: str
) -> None:
    x = images(1).astype(SHORT[name])
    first = SHORT[name] if kind != "float32" else np.dtype("f4")
    second = SHORT[name] if kind == "16-bit" else np.dtype("f4")
    mean = random(12, first, 2)
    var = (np.abs(random(12, "f4", 3)) + 1).astype(second)
    exact = mean.astype("f8"), var.astype("f8")
    own = {"training": True} if function == "batch_norm" else {}
    y = getattr(fastnorm, function)(x, mean, var, **own)
    z = getattr(reference, function)(x, *exact, **own)
    assert_rounded(y, z)
    assert mean.dtype == first and var.dtype == second
    for found, wanted in zip((mean, var), exact, strict=True):
        if found.dtype == np.float32:
            assert error(found, wanted) <= FLOAT32
        else:
            assert_rounded(found, wanted)
    stored = getattr(fastnorm, function)(
        x, mean, var, **({"use_input_stats": False} if not own else {})
    )
    assert_rounded(stored, reference.batch_norm(x, mean, var), 8)


@short
@pytest.mark.parametrize("n", [2, 6, 64, 516, 4096])
@pytest.mark.parametrize("layout", ["first", "last", "table"])
@pytest.mark.parametrize("eps", [1e-5, 0.0])
@pytest.mark.usefixtures("isa")
def test_hostile_16_bit_data(name: str, n: int, layout: str, eps: float) -> None:
    with np.errstate(over="ignore"):
        rows = {k: v.astype(SHORT[name]) for k, v in hostile(n, "f4").items()}
    rows = {k: v for k, v in rows.items() if np.all(np.isfinite(v.astype("f4")))}
    assert len(rows) >= 15
    x = np.stack(list(rows.values()))
    exact = reference.layer_norm(x, n, eps=eps)
    if layout == "table":
        y = fastnorm.batch_norm(
            np.ascontiguousarray(x.T), None, None, training=True, eps=eps
        ).T
    elif layout == "last":
        y = fastnorm.instance_norm(
            np.ascontiguousarray(x.T)[np.newaxis], eps=eps, channel_axis=-1
        )[0].T
    else:
        y = fastnorm.group_norm(x[:, np.newaxis], 1, eps=eps)[:, 0]
    assert_rounded(y, exact)


@norms
@short
@every_axis
@pytest.mark.usefixtures("isa")
def test_constants_give_exactly_the_bias(norm: str, name: str, axis: int) -> None:
    if norm == "batch inference":
        pytest.skip("its statistics are not those of the input")
    x = np.full(images(axis).shape, 3.3, SHORT[name])
    y = np.moveaxis(case(norm, axis=axis)(fastnorm, x), axis, 1)
    wanted = random(12, seed=1).astype(SHORT[name]).reshape(12, 1, 1)
    assert np.array_equal(y, np.broadcast_to(wanted, y.shape))


# ---- 8 bits ---------------------------------------------------------------------


@norms
@every_axis
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.usefixtures("isa")
def test_8_bit_input_is_scaled(norm: str, axis: int, dtype: type) -> None:
    limits = np.iinfo(dtype)
    x = np.random.default_rng(7).integers(
        limits.min, limits.max + 1, images(axis).shape
    )
    x = x.astype(dtype)
    call = case(norm, axis=axis)
    for options in ({}, {"in_scale": 0.02}, {"in_scale": 0.5, "in_zero_point": 3}):
        y = call(fastnorm, x, **options)
        exact = call(reference, x, **options)
        assert y.dtype == np.float32
        assert error(y, exact, plain_size(call, x, **options)) <= FLOAT32


@norms
@every_axis
@pytest.mark.parametrize("given", ["float32", "float16", "bfloat16", "uint8"])
@pytest.mark.parametrize(
    ("out", "scale", "zero"),
    [("int8", 0.02, -3), ("uint8", 0.031, 120), ("int8", 1, 0)],
)
@pytest.mark.usefixtures("isa")
def test_8_bit_results_are_quantized(
    norm: str, axis: int, given: str, out: str, scale: float, zero: int
) -> None:
    call = case(norm, axis=axis)
    x = (40 * images(axis) if given == "uint8" else images(axis)).clip(0, 255)
    x = x.astype(SHORT.get(given, given))
    options = {"in_scale": 0.05} if given == "uint8" else {}
    y = call(
        fastnorm, x, out_dtype=out, out_scale=scale, out_zero_point=zero, **options
    )
    assert y.dtype == np.dtype(out)
    assert_steps(y, call(reference, x, **options), scale, zero)


@every_axis
def test_quantization_saturates_and_nan_is_the_zero_point(isa: str, axis: int) -> None:
    x = images(axis)
    np.moveaxis(x, axis, 1)[1, 4] = np.nan
    weight = np.full(12, 100, np.float32)
    y = fastnorm.instance_norm(
        x, weight=weight, channel_axis=axis, out_dtype="int8", out_scale=0.25,
        out_zero_point=-7,
    )  # fmt: skip
    y = np.moveaxis(y, axis, 1)
    assert isa and np.all(y[1, 4] == -7)
    assert y.min() == -128 and y.max() == 127


# ---- Tensors --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_tensors_are_read_and_written_in_place(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = images(1).astype(SHORT.get(name, name))
    weight, mean = random(12), random(12, seed=1)
    var = np.ones(12, np.float32)
    tensor = torch.from_numpy(x.astype("f4")).to(getattr(torch, name))
    t_weight, t_mean, t_var = (torch.from_numpy(a.copy()) for a in (weight, mean, var))
    y = fastnorm.batch_norm(x, mean, var, weight, training=True)
    out = torch.empty_like(tensor)
    z = fastnorm.batch_norm(tensor, t_mean, t_var, t_weight, training=True, out=out)
    assert z is out
    assert np.array_equal(out.float().numpy(), y.astype("f4"))
    assert same_bits(t_mean.numpy(), mean) and same_bits(t_var.numpy(), var)
    last = tensor.to(memory_format=torch.channels_last)
    out = torch.empty_like(last)
    assert fastnorm.group_norm(last, 3, t_weight, post_add=last, out=out) is out
    wanted = fastnorm.group_norm(x, 3, weight, post_add=x)
    close = {"rtol": EPS[name], "atol": 8 * EPS["float32"]}
    np.testing.assert_allclose(out.float().numpy(), wanted.astype("f4"), **close)
    assert isinstance(fastnorm.instance_norm(tensor), np.ndarray)
    kept = out.clone()
    with pytest.raises(ValueError, match="^group_norm: out overlaps post_add$"):
        fastnorm.group_norm(last, 3, post_add=out, out=out)
    assert torch.equal(out, kept)


# ---- Second opinion -------------------------------------------------------------


@short
def test_torch_says_the_same(name: str) -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = images(1).astype(SHORT[name])
    weight, bias, mean = (random(12, seed=i).astype(SHORT[name]) for i in range(3))
    var = (np.abs(random(12, seed=3)) + 1).astype(SHORT[name])

    def tensor(a: Array) -> Any:
        return torch.from_numpy(a.astype("f4")).to(getattr(torch, name))

    pairs = [
        (
            fastnorm.group_norm(x, 3, weight, bias),
            functional.group_norm(tensor(x), 3, tensor(weight), tensor(bias)),
        ),
        (
            fastnorm.instance_norm(x, None, None, weight, bias),
            functional.instance_norm(
                tensor(x), None, None, tensor(weight), tensor(bias)
            ),
        ),
        (
            fastnorm.batch_norm(x, mean, var, weight, bias),
            functional.batch_norm(
                *map(tensor, (x, mean, var, weight, bias))
            ),
        ),
    ]  # fmt: skip
    for ours, theirs in pairs:
        a, b = ours.astype("f8"), theirs.float().numpy()
        np.testing.assert_allclose(a, b, rtol=3 * EPS[name], atol=3 * EPS[name])
