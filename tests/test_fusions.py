# SPDX-License-Identifier: MIT
"""test_fusions.py - residual, post_add and activations in the pass of a row norm."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from formats import (
    BFLOAT16,
    HALVES,
    MIXING,
    assert_rounded,
    dtype_named,
    hostile_rows,
    some,
    wide,
)
from numpy.typing import NDArray
from oracle import BOUND, error, same_bits

import fastnorm
from fastnorm import reference

FLOATS = ["float32", "float64", *HALVES]
ACTIVATIONS: list[Any] = [
    "relu",
    "leaky_relu",
    "relu6",
    "gelu",
    "gelu_tanh",
    "silu",
    "sigmoid",
    "tanh",
    "hardswish",
    ("leaky_relu", 0.3),
    ("leaky_relu", 0),
    ("leaky_relu", -2),
    ("clamp", -0.25, 1.5),
    ("clamp", 0, 0),
]
# What is done with a few exact steps has the bits of the steps.
EXACT = [a for a in ACTIVATIONS if a[0] == "leaky_relu" or a[0] == "clamp"]
EXACT += ["relu", "leaky_relu", "relu6"]


def norm(function: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(fastnorm, function)(*args, **kwargs)


def working(name: str) -> str:
    return "float64" if name == "float64" else "float32"


def assert_near(
    y: NDArray[Any], exact: Any, size: Any = 1.0, factor: float = 1
) -> None:
    if y.dtype == np.float64:
        assert error(y, exact, size) <= factor * BOUND[y.dtype]
    else:
        assert_rounded(y, exact, size, factor * 4e-7)


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("function", ["layer_norm", "rms_norm"])
@pytest.mark.usefixtures("isa")
def test_residual_is_the_norm_of_the_sum(function: str, name: str) -> None:
    for n in (1, 5, 16, 64, 100, 768, 4099, 20000):
        x, r = some((6, n), name, 1), some((6, n), name, 2)
        weight, bias = some(n, name, 3), some(n, working(name), 4)
        given: dict[str, Any] = {"residual": r, "residual_bias": bias}
        total = np.empty_like(r)
        y, *stats = norm(
            function, x, n, weight, residual_out=total, return_stats=True, **given
        )
        work = working(name)
        # In the working type, in this order, so that the bits can be told.
        s = x.astype(work) + r.astype(work) + bias.astype(work)
        right, *right_stats = norm(
            function, s, n, weight.astype(work), return_stats=True
        )
        assert same_bits(total, s.astype(r.dtype))
        assert same_bits(y, right.astype(y.dtype))
        assert all(same_bits(a, b) for a, b in zip(stats, right_stats, strict=True))
        exact = getattr(reference, function)(x, n, weight, **given)
        assert_near(y, exact, np.abs(exact))


@pytest.mark.parametrize("name", ["float32", "float16", BFLOAT16])
def test_statistics_are_those_of_the_sum_before_it_is_rounded(name: str) -> None:
    """With a sum that 16 bits cannot hold, the norm of the rounded one is another."""
    n = 256
    x, r = some((4, n), name, 1), some((4, n), "float16", 2) * np.float16(1e-3)
    total = np.empty_like(r)
    y = fastnorm.layer_norm(x, n, residual=r, residual_out=total)
    exact: Any = reference.layer_norm(x, n, residual=r)
    assert_rounded(y, exact)
    of_rounded: Any = reference.layer_norm(total, n)
    if name == "float32":
        assert np.abs(of_rounded - exact).max() > 1e-5 > np.abs(y - exact).max()


@pytest.mark.parametrize("name", FLOATS)
def test_the_residual_stream_in_place(name: str) -> None:
    x, stream = some((9, 130), name, 1), some((9, 130), name, 2)
    kept = stream.copy()
    total = np.empty_like(stream)
    wanted = fastnorm.rms_norm(x, 130, residual=stream, residual_out=total)
    assert same_bits(stream, kept)
    y = x.copy()
    got = fastnorm.rms_norm(y, 130, residual=stream, residual_out=stream, out=y)
    assert got is y
    assert same_bits(y, wanted) and same_bits(stream, total)


@pytest.mark.parametrize("residual", MIXING)
@pytest.mark.parametrize("name", [*MIXING, "int8"])
def test_residuals_of_other_dtypes(name: str, residual: str) -> None:
    n = 90
    x, r = some((5, n), name, 1), some((5, n), residual, 2)
    given: dict[str, Any] = {"in_scale": 0.02} if name == "int8" else {}
    total = np.empty_like(r)
    y = fastnorm.layer_norm(x, n, residual=r, residual_out=total, **given)
    assert total.dtype == r.dtype
    assert_rounded(y, reference.layer_norm(x, n, residual=r, **given))
    values = x * np.float32(0.02) if name == "int8" else x
    sum_of = values.astype(np.float32) + r.astype(np.float32)
    assert same_bits(total, sum_of.astype(r.dtype))


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.usefixtures("isa")
def test_activations(name: str, activation: Any) -> None:
    for n in (1, 7, 64, 100, 769):
        x, weight = some((5, n), name, n), 3 * some(n, working(name), 1)
        y = fastnorm.layer_norm(x, n, weight, activation=activation)
        exact = reference.layer_norm(x, n, weight, activation=activation)
        size = 1 + np.abs(reference.layer_norm(x, n, weight))
        # Slopes are at most 2; the function itself adds a few units in the last place.
        assert_near(y, exact, size, 3)


@pytest.mark.parametrize("activation", EXACT, ids=str)
@pytest.mark.usefixtures("isa")
def test_piecewise_linear_activations_are_exact(activation: Any, dtype: str) -> None:
    x = some((7, 333), dtype, 5)
    weight = 4 * some(333, dtype, 6)
    plain = fastnorm.layer_norm(x, 333, weight)
    y = fastnorm.layer_norm(x, 333, weight, activation=activation)
    right = reference.activate(plain.astype(np.float64), activation)
    name = activation if isinstance(activation, str) else activation[0]
    if name == "leaky_relu":
        alpha = np.dtype(dtype).type(0.01 if activation == name else activation[1])
        right = np.where(plain < 0, plain * alpha, plain)
    np.testing.assert_array_equal(y, right.astype(dtype))


def at_ends(activation: Any, dtype: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """An activation at the ends of the range, by stored statistics of 0 and 1."""
    top, tiny = float(np.finfo(dtype).max), float(np.finfo(dtype).smallest_subnormal)
    v = [np.nan, np.inf, -np.inf, top, -top, 1e30, -1e30, 90, -90, 20, -20, tiny]
    x = np.array([[*v, -tiny, 0.0, -0.0, 1e-20, -1e-20]], dtype)
    stored: dict[str, Any] = {
        "mean": np.zeros((1, 1), dtype),
        "var": np.ones((1, 1), dtype),
    }
    y = fastnorm.layer_norm(x, x.size, eps=0.0, activation=activation, **stored)
    return x[0], y[0]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.usefixtures("isa")
def test_activations_at_the_ends_of_the_range(activation: Any, dtype: str) -> None:
    x, y = at_ends(activation, dtype)
    name = activation if isinstance(activation, str) else activation[0]
    assert np.isnan(y[0])
    assert not np.any(np.isnan(y[3:]))
    limit: Any = {"sigmoid": 1, "tanh": 1, "relu6": 6}.get(name, np.inf)
    low: Any = {"sigmoid": 0, "tanh": -1}.get(name, 0)
    if name == "clamp":
        low, limit = activation[1:]
    if name == "leaky_relu":
        alpha = 0.01 if activation == name else activation[1]
        low = -np.inf if alpha > 0 else (np.inf if alpha < 0 else 0)
    assert y[1] == limit and y[2] == low
    finite = x[3:].astype(np.float64)
    with np.errstate(over="ignore"):
        exact = reference.activate(finite, activation).astype(np.float64)
    inside = np.abs(exact) < np.finfo(dtype).max
    bound = 4e-7 if dtype == "float32" else 1e-15
    scale = np.maximum(np.abs(exact[inside]), 1)
    assert np.max(np.abs(y[3:][inside] - exact[inside]) / scale) <= 3 * bound


@pytest.mark.parametrize("added", MIXING)
@pytest.mark.parametrize("name", [*MIXING, "uint8"])
@pytest.mark.parametrize("function", ["layer_norm", "rms_norm"])
def test_post_add(function: str, name: str, added: str) -> None:
    n = 77
    x, a = some((4, n), name, 1), some((4, n), added, 2)
    plain = norm(function, x, n, out_dtype=np.float32)
    y = norm(function, x, n, post_add=a, activation="relu")
    right = np.maximum(plain + a.astype(np.float32), 0)
    assert same_bits(y, right.astype(y.dtype))


@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
@pytest.mark.usefixtures("isa")
def test_post_add_of_a_middle_axis(name: str) -> None:
    x, a = some((3, 40, 21), name, 1), some((3, 40, 21), name, 2)
    weight = some(40, working(name), 3)
    y = fastnorm.layer_norm(x, None, weight, axis=1, post_add=a, activation="tanh")
    exact = reference.layer_norm(x, None, weight, axis=1, post_add=a, activation="tanh")
    size = 1 + np.abs(wide(a)) + np.abs(reference.layer_norm(x, None, weight, axis=1))
    assert_near(y, exact, size, 3)


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.usefixtures("isa")
def test_hostile_residuals(name: str) -> None:
    for n in (1, 5, 64, 768, 4099):
        rows = hostile_rows(n, name)
        x = np.stack(list(rows.values()))
        r = np.roll(x, 1, axis=0)
        y = fastnorm.layer_norm(x, n, residual=r, activation="gelu")
        with np.errstate(over="ignore"):
            total = x.astype(np.float32) + r.astype(np.float32)
        exact: Any = reference.layer_norm(total, n, activation="gelu")
        fine = np.isfinite(exact).all(axis=1)
        assert fine.sum() >= len(rows) - 3
        size = 1 + np.abs(reference.layer_norm(total, n))
        assert_rounded(y[fine], exact[fine], size[fine], 1.2e-6)


def every_layout(shape: tuple[int, int], name: str) -> dict[str, NDArray[Any]]:
    rows, cols = shape
    big = some((2 * rows, 3 * cols), name, 9)
    read_only = big[:rows, :cols].copy()
    read_only.flags.writeable = False
    return {
        "packed": big[:rows, :cols].copy(),
        "rows apart": big[:rows, cols : 2 * cols],
        "upside down": big[:rows, :cols][::-1],
        "every other": big[::2, ::3],
        "fortran": np.asfortranarray(big[:rows, :cols]),
        "broadcast": np.broadcast_to(big[:1, :cols], shape),
        "read-only": read_only,
    }


@pytest.mark.parametrize("name", ["float32", "float16"])
def test_companions_of_every_layout(name: str) -> None:
    x = some((4, 50), name, 1)
    for layout, a in every_layout((4, 50), name).items():
        packed = np.array(a, order="C")
        for key in ("residual", "post_add"):
            right = norm("layer_norm", x, 50, **{key: packed})
            assert same_bits(norm("layer_norm", x, 50, **{key: a}), right), layout
        if layout in ("broadcast", "read-only"):
            continue
        total = np.empty_like(packed)
        right = fastnorm.rms_norm(x, 50, residual=packed, residual_out=total)
        y = fastnorm.rms_norm(x, 50, residual=a, residual_out=a)
        assert same_bits(y, right), layout
        np.testing.assert_array_equal(a, total)


def test_lists_are_taken_as_float32() -> None:
    x = some((2, 3), "float16")
    r = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]]
    y = fastnorm.layer_norm(x, 3, [1, 2, 3], residual=r, post_add=r)
    array = np.array(r, np.float32)
    right = fastnorm.layer_norm(
        x, 3, np.array([1, 2, 3], "f4"), residual=array, post_add=array
    )
    assert same_bits(y, right)


def test_interleaved_arrays_do_not_overlap() -> None:
    both = some((5, 4, 8), "float32")
    x, r, out, total = (both[:, i] for i in range(4))
    right_total = np.empty((5, 8), np.float32)
    right = fastnorm.layer_norm(x, 8, residual=r, residual_out=right_total)
    fastnorm.layer_norm(x, 8, residual=r, residual_out=total, out=out)
    assert same_bits(np.ascontiguousarray(out), right)
    assert same_bits(np.ascontiguousarray(total), right_total)


def test_nothing_is_copied_that_can_be_read_where_it_is() -> None:
    wide_x = np.ones((64, 4, 4096), np.float16)
    x, r, a, out = (wide_x[:, i] for i in range(4))
    weight = np.ones(4096, np.float32)

    def run() -> None:
        fastnorm.layer_norm(
            x, 4096, weight, out=out, residual=r, post_add=a, activation="relu"
        )

    separate = np.ones((64, 4096), np.float16)
    out = separate
    run()
    tracemalloc.start()
    try:
        run()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < separate.nbytes / 2


@pytest.mark.parametrize("name", MIXING)
def test_out_dtype_of_every_kind_of_name(name: str) -> None:
    x, dtype = some((3, 4), "float32"), dtype_named(name)
    for given in (dtype, dtype.type, name):
        assert fastnorm.layer_norm(x, 4, out_dtype=given).dtype == dtype
