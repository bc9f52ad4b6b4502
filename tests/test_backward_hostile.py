# test_backward_hostile.py - gradients where obvious code goes wrong, and exact zeros.
# SPDX-License-Identifier: MIT
"""Far offsets, scales at the ends of the range, constants, NaN; what must be 0 is 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backward_cases import (
    CASES,
    Case,
    batch,
    every_case,
    group,
    instance,
    l2,
    layer,
    rms,
    weight,
)
from backward_errors import BOUND, assert_gradients, units
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import WIDE, hostile, random, same_bits

import fastnorm
from fastnorm import reference

CENTRED = [name for name, case in CASES.items() if case.axes and case.kind == "centred"]
CENTRED += ["group", "group channels last"]

# The rows of oracle.hostile, as what each norm normalizes.
NORMS: dict[str, Any] = {
    "layer": lambda n: layer((2, n), (1,)),
    "rms": lambda n: rms((2, n), (1,)),
    "batch": lambda n: batch((n, 2)),
    "batch of channels": lambda n: batch((2, n), 0),
    "group": lambda n: group((1, 2, n), 2),
    "instance": lambda n: instance((1, 2, n)),
    "l2": lambda n: l2((2, n), (1,)),
    "weight": lambda n: weight((2, n), 0),
}


def laid(case: Case, rows: np.ndarray) -> np.ndarray:
    """Rows in the shape of the case."""
    return np.ascontiguousarray(rows.T if case.shape[0] > 2 else rows).reshape(
        case.shape
    )


def representable(case: Case, grad: Any, values: Any, exact: Any) -> bool:
    """Whether no gradient, nor a term of one, is beyond the range of the type."""
    top = float(np.finfo(grad.dtype).max) / 4
    with np.errstate(all="ignore"):
        found = list(units(case, grad, values, exact).values())
    return all(np.all(np.isfinite(unit) & (unit < top)) for unit in found)


@pytest.mark.parametrize("n", [7, 130, 2049])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.usefixtures("isa")
def test_hostile_rows(norm: str, n: int, dtype: str) -> None:
    if dtype == "float64" and not WIDE:
        pytest.skip("longdouble is float64 here")
    case: Case = NORMS[norm](n)
    tried = 0
    for name, row in hostile(n, dtype).items():
        values = case.values(dtype)
        values[case.first] = laid(case, np.stack([row, row[::-1]]))
        grad = case.grad(dtype)
        with np.errstate(all="ignore"):
            exact = case.backward(reference, grad, values)
        if not representable(case, grad, values, exact):
            continue
        tried += 1
        found = case.backward(fastnorm, grad, values)
        try:
            assert_gradients(case, found, grad, values)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
    assert tried >= 15


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
@pytest.mark.parametrize("norm", NORMS)
def test_hostile_gradients(norm: str, scale: float, dtype: str) -> None:
    case: Case = NORMS[norm](300)
    values, grad = case.values(dtype), case.grad(dtype) * np.dtype(dtype).type(scale)
    assert_gradients(case, case.backward(fastnorm, grad, values), grad, values)
    # And one of them far larger than all others.
    grad = case.grad(dtype)
    grad[0, 0] = scale
    assert_gradients(case, case.backward(fastnorm, grad, values), grad, values)


@pytest.mark.parametrize("norm", [n for n in NORMS if n not in ("l2", "weight")])
@pytest.mark.usefixtures("isa")
def test_an_offset_with_a_mean_of_float32(norm: str) -> None:
    case: Case = NORMS[norm](1000)
    values, grad = case.values("f4"), case.grad("f4")
    values["input"] = (1e6 + 10 * random(case.shape)).astype("f4")
    assert case.statistics is not None
    stats = case.statistics(fastnorm, values)
    if "mean" in stats:
        exact = case.statistics(reference, values)["mean"]
        # The mean itself is off by a good part of the deviation.
        assert np.max(np.abs(stats["mean"] - exact)) > 1e-3
    found = case.backward(fastnorm, grad, values, **stats)
    assert_gradients(case, found, grad, values)


@pytest.mark.parametrize("name", CENTRED)
@pytest.mark.parametrize("value", [1.0, 3.3, -1e30, 1e-30])
@pytest.mark.usefixtures("isa")
def test_a_constant_gradient_gives_exactly_zero(
    name: str, value: float, dtype: str
) -> None:
    case = CASES[name]
    values = case.values(dtype)
    if case.op in ("layer_norm", "group_norm"):
        values.pop("weight", None)
    grad = np.full(case.shape, value, dtype)
    found = case.backward(fastnorm, grad, values)
    np.testing.assert_array_equal(found["input"], 0)
    assert case.statistics is not None
    stats = case.statistics(fastnorm, values)
    found = case.backward(fastnorm, grad, values, **stats)
    np.testing.assert_array_equal(found["input"], 0)


@every_case
def test_no_gradient_gives_none(name: str, dtype: str) -> None:
    case = CASES[name]
    found = case.backward(fastnorm, np.zeros(case.shape, dtype), case.values(dtype))
    for array in found.values():
        np.testing.assert_array_equal(array, 0)


@pytest.mark.parametrize("name", CENTRED)
@pytest.mark.parametrize("value", [0.0, 3.3, 1e6, -1e30])
@pytest.mark.usefixtures("isa")
def test_a_constant_input_moves_no_weight(name: str, value: float, dtype: str) -> None:
    case = CASES[name]
    if "weight" not in case.shapes or case.op == "batch_renorm":
        return
    values, grad = case.values(dtype), case.grad(dtype)
    values["input"] = np.full(case.shape, value, dtype)
    found = case.backward(fastnorm, grad, values)
    np.testing.assert_array_equal(found["weight"], 0)
    assert np.all(np.isfinite(found["input"]))
    # Nothing is added to a variance of nothing: there is no slope, and not NaN.
    flat = case.backward(fastnorm, grad, values, eps=0.0)
    np.testing.assert_array_equal(flat["input"], 0)
    np.testing.assert_array_equal(flat["weight"], 0)


def test_single_values_and_zeros_have_no_slope(dtype: str) -> None:
    x, grad = random((5, 1), dtype), random((5, 1), dtype, 1)
    w = random(1, dtype, 2)
    found: Any = fastnorm.layer_norm_backward(grad, x, 1, w)
    np.testing.assert_array_equal(found.input, 0)
    np.testing.assert_array_equal(found.weight, 0)
    zeros = np.zeros((5, 3), dtype)
    grad = random((5, 3), dtype)
    found = fastnorm.l2_norm_backward(grad, zeros, eps=0.0)
    np.testing.assert_array_equal(found, 0)
    eps = 0.25
    np.testing.assert_array_equal(
        fastnorm.l2_norm_backward(grad, zeros, eps=eps),
        grad / np.dtype(dtype).type(eps),
    )
    grad_v, grad_g = fastnorm.weight_norm_backward(grad, zeros, np.ones((5, 1), dtype))
    np.testing.assert_array_equal(grad_v, 0)
    np.testing.assert_array_equal(grad_g, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["input", "grad"])
@pytest.mark.parametrize(
    "name", ["layer", "rms", "l2", "batch", "batch channels last", "group", "instance"]
)
@pytest.mark.usefixtures("isa")
def test_what_is_not_finite_stays_where_it_is(
    name: str, where: str, bad: float, dtype: str
) -> None:
    case = CASES[name]
    values, grad = case.values(dtype), case.grad(dtype)
    clean = case.backward(fastnorm, grad, values)
    place = (1,) * len(case.shape)
    (values["input"] if where == "input" else grad)[place] = bad
    found = case.backward(fastnorm, grad, values)
    if case.op == "batch_norm":
        hit = np.zeros(case.shape, bool)
        hit[(slice(None),) * case.along[0] + (1,)] = True
    elif case.op == "instance_norm":
        hit = np.zeros(case.shape, bool)
        hit[1, 1] = True
    elif case.op == "group_norm":
        hit = np.zeros(case.shape, bool)
        hit[1, :3] = True
    else:
        hit = np.zeros(case.shape, bool)
        hit[1] = True
    assert not np.all(np.isfinite(found["input"][hit]))
    assert same_bits(found["input"][~hit], clean["input"][~hit])
    if "weight" in found and case.op != "layer_norm" and case.op != "rms_norm":
        others = np.arange(len(found["weight"])) != 1
        if case.op == "group_norm":
            others[:3] = False
        assert same_bits(found["weight"][others], clean["weight"][others])
        assert not np.isfinite(found["weight"][1])


@pytest.mark.parametrize("name", ["layer", "batch", "group", "l2", "weight"])
def test_flushed_numbers_count_as_zero(name: str) -> None:
    case = CASES[name]
    values, grad = case.values("f4"), case.grad("f4")
    grad[..., ::2] = 1e-40
    values[case.first][..., ::3] = 1e-41
    found = case.backward(fastnorm, grad, values, flush_denormals=True)
    zeroed = {key: np.where(np.abs(v) < 1e-37, 0, v) for key, v in values.items()}
    zeroed = {key: v.astype("f4") for key, v in zeroed.items()}
    expected = case.backward(
        fastnorm, np.where(np.abs(grad) < 1e-37, 0, grad).astype("f4"), zeroed
    )
    for key, array in found.items():
        np.testing.assert_array_equal(array, expected[key])
    # Without, they count: the subnormal gradients are what the sums are of.
    tiny = np.full(case.shape, 1e-40, np.float32)
    tiny[..., 0] = 2e-40
    kept = case.backward(fastnorm, tiny, case.values("f4"))
    assert any(np.any(array != 0) for array in kept.values())
    gone = case.backward(fastnorm, tiny, case.values("f4"), flush_denormals=True)
    assert all(np.all(array == 0) for array in gone.values())


# ---- Properties ---------------------------------------------------------------------

shapes = st.sampled_from(list(CASES))
seeds = st.integers(0, 2**32 - 1)


@given(shapes, seeds, st.floats(-8, 8))
@settings(max_examples=80)
def test_gradients_are_linear_in_that_of_the_output(
    name: str, seed: int, factor: float
) -> None:
    case = CASES[name]
    values = case.values("f8", seed % 1000)
    a, b = case.grad("f8", seed % 997), case.grad("f8", seed % 991 + 1000)
    parts = [case.backward(fastnorm, grad, values) for grad in (a, b)]
    whole = case.backward(fastnorm, a + factor * b, values)
    for key, array in whole.items():
        expected = parts[0][key] + factor * parts[1][key]
        scale = 10 * np.max(np.abs(parts[0][key])) + 10 * np.max(np.abs(parts[1][key]))
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-13 * scale + 1e-13)


@given(st.sampled_from(CENTRED), seeds, st.floats(-6, 6))
@settings(max_examples=80)
def test_what_shifts_or_scales_an_input_has_no_slope(
    name: str, seed: int, power: float
) -> None:
    case = CASES[name]
    values, grad = case.values("f8", seed % 1000), case.grad("f8", 1000 + seed % 997)
    values["input"] = values["input"] * 10**power
    found = case.backward(fastnorm, grad, values, needs=("input",), eps=0.0)["input"]
    axes = case.axes
    view, x = case.view(found), case.view(values["input"])
    size = np.max(np.abs(view)) * view.size
    np.testing.assert_allclose(view.sum(axes), 0, atol=1e-14 * size)
    along = (view * (x - x.mean(axes, keepdims=True))).sum(axes)
    np.testing.assert_allclose(along, 0, atol=1e-13 * size * 10**power)


def test_the_bounds_are_those_of_the_header() -> None:
    assert {str(dtype): bound for dtype, bound in BOUND.items()} == {
        "float32": 8e-7, "float64": 2e-15,
    }  # fmt: skip


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.usefixtures("isa")
def test_constant_gradients_of_many_16_bit_channels_are_exactly_zero(
    dtype: str,
) -> None:
    # More channels than are gathered at once, each with a gradient of its own.
    pytest.importorskip("ml_dtypes")  # knows bfloat16 by its name
    kind = np.dtype(dtype)
    x = random((2, 96, 7, 7), seed=1).astype(kind)
    grad = np.empty_like(x)
    grad[...] = (1 + np.arange(96, dtype=np.float32)).reshape(96, 1, 1)
    found = fastnorm.group_norm_backward(grad, x, 96)
    assert not np.any(found.input.astype(np.float32))
