# SPDX-License-Identifier: MIT
"""test_reference.py - the oracle itself, against exact rational arithmetic."""

from __future__ import annotations

import inspect
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import WIDE, hostile, random, same_bits

import fastnorm
from fastnorm import reference

NAMES = [
    "layer_norm", "rms_norm", "l2_norm", "l1_norm", "normalize", "batch_norm",
    "group_norm", "instance_norm", "batch_renorm", "weight_norm", "moments",
    "merge_moments",
]  # fmt: skip


def exact_layer_norm(row: NDArray, eps: float, centred: bool = True) -> list[float]:
    """In fractions, with a square root of 60 digits; rounded once."""
    values = [Fraction(float(v)) for v in row]
    mean = sum(values) / len(values) if centred else Fraction(0)
    deviations = [v - mean for v in values]
    square = sum(d * d for d in deviations) / len(values) + Fraction(eps)
    with localcontext() as context:
        context.prec = 60
        context.Emin, context.Emax = -99999, 99999
        root = (Decimal(square.numerator) / Decimal(square.denominator)).sqrt()
        if root == 0:
            return [0.0] * len(values)
        return [
            float(Decimal(d.numerator) / Decimal(d.denominator) / root)
            for d in deviations
        ]


@pytest.mark.parametrize("eps", [1e-5, 0.0])
@pytest.mark.parametrize("n", [1, 2, 50])
def test_hostile_rows_are_exact(n: int, eps: float, dtype: str) -> None:
    if dtype == "float64" and not WIDE:
        pytest.skip("longdouble is float64 here")
    for name, row in hostile(n, dtype).items():
        for centred, norm in (
            (True, reference.layer_norm),
            (False, reference.rms_norm),
        ):
            exact = exact_layer_norm(row, eps, centred)
            found = norm(row, n, eps=eps)
            error = np.abs(found - exact) / np.maximum(1, np.abs(exact))
            assert np.max(error) <= 2.3e-16, (name, centred)


@pytest.mark.parametrize("name", NAMES)
def test_the_twins_have_the_same_signature(name: str) -> None:
    twin = inspect.signature(getattr(reference, name))
    compiled = inspect.signature(getattr(fastnorm, name))
    assert [(p.name, p.kind, p.default) for p in twin.parameters.values()] == [
        (p.name, p.kind, p.default) for p in compiled.parameters.values()
    ]


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_is_a_layer_norm_of_the_channels(training: bool) -> None:
    x = 7 + random((4, 3, 5), "f8")
    mean, var = x.mean((0, 2)), x.var((0, 2))
    y = reference.batch_norm(x, mean.copy(), var.copy(), training=training)
    rows = np.moveaxis(x, 1, 0).reshape(3, 20)
    expected = reference.layer_norm(rows, 20).reshape(3, 4, 5)
    np.testing.assert_allclose(np.moveaxis(y, 1, 0), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm_is_a_layer_norm_of_the_groups(groups: int) -> None:
    x = 7 + random((4, 6, 5, 3), "f8")
    weight, bias = random(6, "f8"), random(6, "f8", 1)
    y, mean, rstd = reference.group_norm(x, groups, weight, bias, return_stats=True)
    rows = x.reshape(4, groups, -1)
    expected, *stats = reference.layer_norm(rows, rows.shape[-1], return_stats=True)
    expected = expected.reshape(x.shape) * weight.reshape(-1, 1, 1)
    np.testing.assert_allclose(y, expected + bias.reshape(-1, 1, 1), rtol=0, atol=1e-14)
    for found, wanted in zip((mean, rstd), stats, strict=True):
        np.testing.assert_array_equal(found, wanted[..., 0])
    turned = np.moveaxis(x, 1, 2)
    last = reference.group_norm(turned, groups, weight, bias, channel_axis=2)
    np.testing.assert_array_equal(np.moveaxis(last, 2, 1), y)
    var = rows.var(-1)
    stored = reference.group_norm(x, groups, weight, bias, mean=mean, var=var)
    np.testing.assert_allclose(stored, y, rtol=0, atol=1e-13)


def test_instance_norm_and_its_running_statistics() -> None:
    x, mean, var = 7 + random((4, 3, 9), "f8"), np.ones(3), np.full(3, 2.0)
    y = reference.instance_norm(x, mean, var, momentum=0.25)
    np.testing.assert_array_equal(y, reference.group_norm(x, 3))
    np.testing.assert_allclose(mean, 0.75 + 0.25 * x.mean((0, 2)))
    np.testing.assert_allclose(var, 1.5 + 0.25 * x.var(2, ddof=1).mean(0))
    y = reference.instance_norm(x, mean, var, use_input_stats=False)
    np.testing.assert_array_equal(y, reference.batch_norm(x, mean, var))


def test_batch_renorm_of_infinity() -> None:
    x = np.array([[1.0, 1.0], [np.inf, 2.0], [3.0, 6.0]])
    for module in (fastnorm, reference):
        y, mean, *stats = module.batch_renorm(
            x, np.zeros(2), np.ones(2), training=True, return_stats=True
        )
        np.testing.assert_array_equal(mean, [np.inf, 3.0])
        for found in (*y, *stats):
            np.testing.assert_array_equal(np.isnan(found), [True, False])


def test_l2_norm() -> None:
    x = np.array([[3.0, 4.0], [0.0, 0.0], [1e200, 0.0]])
    y, norm = reference.l2_norm(x, return_norm=True)
    np.testing.assert_array_equal(y, [[0.6, 0.8], [0, 0], [1, 0]])
    np.testing.assert_array_equal(norm, [[5], [0], [1e200]])
    np.testing.assert_array_equal(reference.normalize(x), y)
    np.testing.assert_array_equal(reference.l2_norm(x, eps=10.0)[0], [0.3, 0.4])
    flat = reference.l2_norm(x[:2], (0, 1))
    np.testing.assert_array_equal(flat, x[:2] / 5)


def test_l1_norm() -> None:
    x = np.array([[3.0, -1.0], [0.0, 0.0], [1e308, 1e308]])
    y, norm = reference.l1_norm(x, return_norm=True)
    np.testing.assert_array_equal(y, [[0.75, -0.25], [0, 0], [0.5, 0.5]])
    np.testing.assert_array_equal(norm, [[4], [0], [np.inf]])
    np.testing.assert_array_equal(reference.normalize(x, 1), y)
    np.testing.assert_array_equal(reference.l1_norm(x, eps=8.0)[0], [0.375, -0.125])
    with pytest.raises(ValueError, match="p is 3, only 1 and 2 are supported"):
        reference.normalize(x, 3)


def test_what_is_fused_is_what_is_done_after_one_another() -> None:
    x, residual, added = (random((3, 8), "f8", seed) for seed in range(3))
    bias, total = random(8, "f8", 3), np.empty((3, 8))
    y = reference.layer_norm(
        x, 8, residual=residual, residual_bias=bias, residual_out=total,
        post_add=added, activation="relu",
    )  # fmt: skip
    np.testing.assert_array_equal(total, x + residual + bias)
    expected = np.maximum(reference.layer_norm(total, 8) + added, 0)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-15)


def test_the_modes_of_rms_norm() -> None:
    x, weight = random((3, 8), "f2"), random(8, "f4", 1)
    plain = reference.rms_norm(x, 8)
    cast = reference.rms_norm(x, 8, weight, mode="cast_before_weight")
    np.testing.assert_array_equal(cast, plain.astype("f2").astype("f8") * weight)
    plus = reference.rms_norm(x, 8, weight, mode="one_plus_weight")
    np.testing.assert_allclose(plus, plain * (1 + weight), rtol=1e-15)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_rounding_is_exact(name: str) -> None:
    if name == "bfloat16":
        pytest.importorskip("ml_dtypes")
    bits, least, most = {
        "float16": (11, -14, 15), "bfloat16": (8, -126, 127),
        "float32": (24, -126, 127), "float64": (53, -1022, 1023),
    }[name]  # fmt: skip
    if name == "float64" and not WIDE:
        pytest.skip("longdouble is float64 here")
    step, top = np.longdouble(2) ** (1 - bits), np.longdouble(2) ** most
    halves = 1 + step * np.array([0.5, 0.5 + 2.0**-9, 1.5, 1.5 - 2.0**-9, 2.5])
    below = np.longdouble(2) ** (least + 1 - bits) * np.array([0.5, 0.75, 1.5, 2.5])
    ends = top * (2 - step * np.array([0.5, 0.5 + 2.0**-8, 1]))
    y = reference.round_to(np.concatenate([halves, below, ends, [-np.inf]]), name)
    assert y.dtype.name == name
    wide = y.astype("f8" if name == "float64" else "f4").astype(np.longdouble)
    np.testing.assert_array_equal(
        wide[:9],
        [1, 1 + step, 1 + 2 * step, 1 + step, 1 + 2 * step]
        + [below[0] * 2 * k for k in (0, 1, 2, 2)],
    )
    assert wide[9] == np.inf and wide[10] == wide[11] == top * (2 - step)
    assert wide[12] == -np.inf


def test_quantization() -> None:
    y = [0.5, 1.5, 2.5, -0.5, -2.0, 300, -300, np.inf, -np.inf, np.nan]
    expected = [3, 5, 5, 3, 1, 127, -128, 127, -128, 3]
    assert reference.quantize(y, np.int8, 1.0, 3).tolist() == expected
    assert reference.quantize([-1, 9, 600], np.uint8, 2.0).tolist() == [0, 4, 255]
    q = np.array([-128, 3, 127], np.int8)
    assert reference.dequantize(q, 0.5, 3).tolist() == [-65.5, 0.0, 62.0]
    x = reference.dequantize(q, 0.5, 3)
    y = reference.layer_norm(q, 3, in_scale=0.5, in_zero_point=3)
    np.testing.assert_array_equal(y, reference.layer_norm(x, 3))
    y, scale = reference.layer_norm([[1.0, 2, 6], [5, 5, 5]], 3, out_dtype="int8")
    assert y.dtype == np.int8 and scale.dtype == np.float32 and scale.shape == (2, 1)
    assert y[0, 2] == 127 and not np.any(y[1]) and scale[1] == 1
    exact = reference.layer_norm([1.0, 2, 6], 3)
    np.testing.assert_allclose(y[0] * scale[0], exact, atol=float(scale[0, 0]) / 2)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("relu", [0, 0, 0, 1, 8]),
        ("leaky_relu", [-0.04, -0.01, 0, 1, 8]),
        (("leaky_relu", 0.5), [-2, -0.5, 0, 1, 8]),
        ("relu6", [0, 0, 0, 1, 6]),
        (("clamp", -2, 0.5), [-2, -1, 0, 0.5, 0.5]),
        ("hardswish", [0, -1 / 3, 0, 2 / 3, 8]),
    ],
    ids=str,
)  # fmt: skip
def test_pieces_of_lines(activation: str, expected: list[float]) -> None:
    found = reference.activate([-4, -1, 0, 1, 8], activation)
    np.testing.assert_allclose(found.astype("f8"), expected, rtol=1e-15)
    assert np.isnan(reference.activate(np.nan, activation))


def exact_activation(name: str, number: float) -> float:
    """By series and exponentials of 100 digits."""
    pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
    with localcontext() as context:
        context.prec = 100
        v = Decimal(number)
        cubic = 2 * (2 / pi).sqrt() * (v + Decimal("0.044715") * v**3)
        if name == "gelu":
            u, erf, term = v / Decimal(2).sqrt(), Decimal(0), Decimal(1)
            for n in range(400):
                erf += term * u / (2 * n + 1)
                term *= -u * u / (n + 1)
            return float(v * (1 + 2 * erf / pi.sqrt()) / 2)
        if name == "tanh":
            return float(1 - 2 / (1 + (2 * v).exp()))
        factor = {"sigmoid": 1, "silu": v, "gelu_tanh": v}[name]
        return float(factor / (1 + (-(cubic if name == "gelu_tanh" else v)).exp()))


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu", "sigmoid", "tanh"])
def test_curves(name: str) -> None:
    v = np.concatenate([np.linspace(-9, 9, 73), [1e-9, -1e-9, 0.1, -0.7]])
    expected = [exact_activation(name, float(number)) for number in v]
    found = reference.activate(v, name).astype("f8")
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-300)
    assert np.isnan(reference.activate(np.nan, name))
    x = random((2, 9), "f8")
    fused = reference.layer_norm(x, 9, activation=name)
    expected = reference.activate(reference.layer_norm(x, 9), name).astype("f8")
    np.testing.assert_allclose(fused, expected, rtol=1e-13, atol=1e-15)


def test_denormals_are_flushed_only_when_asked() -> None:
    x = np.array([1e-40, 0, 0, 0], np.float32)
    assert np.all(reference.rms_norm(x, 4, eps=0.0)[0] == 2)
    assert np.all(reference.rms_norm(x, 4, eps=0.0, flush_denormals=True) == 0)
    assert reference.moments(x, flush_denormals=True).mean == 0
    y = reference.layer_norm(np.float32([1, 2]), 2, np.float32([0, 1e-40]))
    assert y[1] > 0
    y = reference.layer_norm(
        np.float32([1, 2]), 2, np.float32([0, 1e-40]), flush_denormals=True
    )
    assert y[1] == 0


def test_running_statistics() -> None:
    x = np.array([[0.0, 10.0], [2.0, 14.0]])
    mean, var = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    reference.batch_norm(x, mean, var, training=True, momentum=0.25)
    np.testing.assert_allclose(mean, [1.0, 4.5])
    np.testing.assert_allclose(var, [2.75, 5.0])
    reference.batch_norm(
        x, mean, var, training=True, momentum=None, num_batches_tracked=0
    )
    np.testing.assert_allclose(mean, [1, 12])
    np.testing.assert_allclose(var, [2, 8])


def test_merged_moments_are_those_of_the_whole() -> None:
    x = 1e3 + random((30, 2), "f8")
    a, b = (reference.moments(p, axis=0, return_state=True) for p in (x[:7], x[7:]))
    merged = reference.merge_moments(a, b)
    whole = reference.moments(x, axis=0, return_state=True)
    assert merged.count == whole.count == 30
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-15)
    np.testing.assert_allclose(merged.m2, whole.m2, rtol=1e-11)


def test_out_is_written_and_returned() -> None:
    x = random((3, 4))
    out = np.empty_like(x)
    assert reference.layer_norm(x, 4, out=out) is out
    assert same_bits(out, reference.layer_norm(x, 4).astype("float32"))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: reference.layer_norm(x, 5), "normalized_shape"),
        (lambda x: reference.layer_norm(x, (1, 2, 3, 4)), "normalized_shape"),
        (lambda x: reference.layer_norm(x, None), "axis"),
        (lambda x: reference.layer_norm(x, None, axis=3), "axis"),
        (lambda x: reference.layer_norm(x, None, axis=(0, 2)), "adjacent"),
        (lambda x: reference.layer_norm(x, None, axis=(1, 1)), "twice"),
        (lambda x: reference.layer_norm(x, 4, np.ones(3)), "weight"),
        (lambda x: reference.layer_norm(x, 4, eps=-1), "eps"),
        (lambda x: reference.layer_norm(x, 4, out=np.empty(4)), "out"),
        (lambda x: reference.rms_norm(x, 4, np.ones((2, 2))), "weight"),
        (lambda x: reference.batch_norm(x, None, None), "running_mean"),
        (lambda x: reference.batch_norm(x, np.zeros(3), None), "together"),
        (lambda x: reference.batch_norm(x, None, None, momentum=2), "momentum"),
        (lambda x: reference.batch_norm(x[:1, :, 0], None, None, training=True), "one"),
        (lambda x: reference.group_norm(x, 2), "divide"),
        (lambda x: reference.group_norm(x, 0), "divide"),
        (lambda x: reference.group_norm(x[0, 0], 1), "axes"),
        (lambda x: reference.group_norm(x, 3, mean=np.ones((2, 3))), "together"),
        (lambda x: reference.instance_norm(x[..., :1]), "more than one"),
        (lambda x: reference.instance_norm(x, use_input_stats=False), "running_mean"),
        (lambda x: reference.instance_norm(x, momentum=2), "momentum"),
        (lambda x: reference.normalize(x, 3.0), "p is 3.0"),
        (lambda x: reference.l2_norm(x, out_dtype="int8"), "out_scale"),
        (lambda x: reference.layer_norm(x, 4, residual_bias=np.ones(4)), "residual"),
        (lambda x: reference.layer_norm(x, 4, activation="swish"), "activation"),
        (lambda x: reference.layer_norm(x, 4, activation=("clamp", 2, 1)), "clamp"),
        (lambda x: reference.layer_norm(x, 4, in_scale=2.0), "in_scale"),
        (lambda x: reference.layer_norm(x, 4, out_scale=2.0), "out_scale"),
        (lambda x: reference.layer_norm(x, 4, post_add=x[0]), "post_add"),
        (lambda x: reference.rms_norm(x, 4, mode="llama"), "mode"),
        (lambda x: reference.quantize(x, np.int8, -1.0), "scale"),
        (lambda x: reference.quantize(x, np.int8, 1.0, 200), "zero_point"),
        (lambda x: reference.moments(x, axis=7), "axis"),
        (lambda x: reference.moments(x, ddof=-1), "ddof"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(np.zeros((2, 3, 4)))


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match="complex"):
        reference.layer_norm(np.zeros(3, complex), 3)
