# test_jit_fuse.py - a user's functions in the loops of the norms.
# SPDX-License-Identifier: MIT
"""Fused norms against the same steps one by one, and what cannot be fused.

Kernels with a user's functions in them take seconds to compile and are not kept, so
that few are made here, for many shapes each.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import test_binding_layouts as layouts
from numpy.typing import NDArray
from oracle import random, same_bits

import fastnorm

numba = pytest.importorskip("numba")

from fastnorm.jit import _backend, fuse  # noqa: E402

Array = NDArray[Any]
ZERO = np.float32(0)


@numba.njit
def before(v, scale, low):
    v = v * scale
    if v != v:
        return ZERO
    return max(v, low)


@numba.njit
def after(v, gate):
    return v * gate if v > 0 else -v


def numpy_before(x: Array, scale: Any, low: Any) -> Array:
    v = x * np.asarray(scale, x.dtype)
    return np.maximum(np.where(np.isnan(v), x.dtype.type(0), v), x.dtype.type(low))


def numpy_after(y: Array, gate: Any) -> Array:
    return np.where(y > 0, y * np.asarray(gate, y.dtype), -y)


def along(values: Array, x: Array, axis: int) -> Array:
    """Values of channels, so that they broadcast to x."""
    return values.reshape([-1 if a == axis % x.ndim else 1 for a in range(x.ndim)])


def positive(shape: Any) -> Array:
    return 0.5 + np.abs(random(shape, seed=5))


class Both:
    """A norm with both functions, in one pass and step by step."""

    def __init__(self, norm: str) -> None:
        self.fused = fuse(norm, before, after)
        self.norm = getattr(fastnorm, norm)

    def steps(
        self, x: Array, *args: Any, scale: Any, low: Any, gate: Any, **options: Any
    ) -> Array:
        options.pop("out", None)
        return numpy_after(
            self.norm(numpy_before(x, scale, low), *args, **options), gate
        )

    def check(self, x: Array, *args: Any, **options: Any) -> Array:
        gate, axis = np.asarray(options["gate"]), options.get("channel_axis", 1)
        named = dict(options)
        if self.norm.__name__ not in ("layer_norm", "rms_norm") and gate.ndim == 1:
            named["gate"] = along(gate, x, axis)
        wanted = self.steps(x, *args, **named)
        y: Array = self.fused(x, *args, **options)
        assert y.dtype == x.dtype and y.shape == x.shape
        assert np.all(np.isfinite(wanted)) and np.mean(np.abs(wanted) > 0.1) > 0.3
        np.testing.assert_allclose(y, wanted, 3e-6, 3e-6)
        return y


@pytest.fixture(scope="module")
def both() -> Callable[[str], Both]:
    return functools.cache(Both)


def hostile(shape: tuple[int, ...], axis: int = 1) -> Array:
    """Offsets, infinities that the prologue clips, NaN that it replaces."""
    x = np.moveaxis(1 + 3 * random(shape), axis, 1)
    x[0, 0] *= np.float32(1e30)
    x[-1, -1] *= np.float32(1e-40)
    x[..., 1] = np.nan
    x[(0, 1, *(0,) * (x.ndim - 2))] = -np.inf
    return np.ascontiguousarray(np.moveaxis(x, 1, axis))


# ---- Every norm, first and last axes, training and inference ----


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_rows(norm: str, both: Callable[[str], Both]) -> None:
    case = both(norm)
    parts: list[Any] = [((4, 6, 35), (35,)), ((9, 20, 50), (20, 50)), ((2, 4099), 4099)]
    for shape, part in parts:
        x = hostile(shape)
        weight = random(part, seed=2)
        gates = [random(part, seed=3), random(shape, seed=4)]
        scales = [positive(shape), positive(part)]
        for gate, scale in zip(gates, scales, strict=True):
            given = {
                "gate": gate,
                "scale": scale.astype(np.float16),
                "low": np.int16(-1),
            }
            case.check(x, part, weight, eps=1e-3, **given)


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_rows_of_a_middle_axis(norm: str, both: Callable[[str], Both]) -> None:
    case = both(norm)
    for shape in ((3, 7, 20), (2, 40, 300)):
        x = hostile(shape)
        given = {"low": -0.5, "scale": positive(shape)}
        weight = random(shape[1], seed=2)
        for gate in (random(shape, seed=4), random(shape[2], seed=4)):
            case.check(x, None, weight, axis=1, gate=gate, **given)


BATCHES = [((4, 6, 5, 7), 1), ((4, 6, 5, 7), 0), ((3, 4, 20, 9), 2), ((50, 6), 1)]
BATCHES_LAST = [((4, 5, 7, 6), -1), ((4, 60, 100), 2)]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [*BATCHES, *BATCHES_LAST])
def test_batch_norm(
    shape: tuple[int, ...], axis: int, training: bool, both: Callable[[str], Both]
) -> None:
    x = hostile(shape, axis)
    c = shape[axis]
    mean, var = random(c, seed=7), np.abs(random(c, seed=8)) + np.float32(0.5)
    ours, theirs = ([mean.copy(), var.copy()] for _ in "ab")
    weight, bias = random(c, seed=2), random(c, seed=3)
    case = both("batch_norm")
    more = {"channel_axis": axis, "eps": 1e-3}
    given = {"gate": random(c, seed=4), "low": -0.5, "scale": positive(shape)}
    if not training:
        case.check(x, *ours, weight, bias, **more, **given)
        return
    y = case.fused(x, *ours, weight, bias, True, **more, **given)
    first = numpy_before(x, given["scale"], -0.5)
    wanted = fastnorm.batch_norm(first, *theirs, weight, bias, True, **more)
    wanted = numpy_after(wanted, along(given["gate"], x, axis))
    np.testing.assert_allclose(y, wanted, 3e-6, 3e-6)
    np.testing.assert_allclose(ours, theirs, 1e-6, 1e-6)
    assert np.any(ours[0] != mean)


def test_batch_norm_of_few_long_channels(both: Callable[[str], Both]) -> None:
    x = hostile((3, 2, 100_000))
    mean, var = random(2, seed=7), np.abs(random(2, seed=8)) + np.float32(0.5)
    given = {"low": -0.5, "scale": positive(x.shape), "num_threads": 1}
    case = both("batch_norm")
    case.check(x, mean, var, gate=random(2, seed=4), **given)
    case.check(x, None, None, training=True, gate=random(2, seed=4), **given)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("axis", [1, -1])
def test_instance_norm(axis: int, stored: bool, both: Callable[[str], Both]) -> None:
    x = hostile((3, 6, 5, 7) if axis == 1 else (3, 5, 7, 6), axis)
    mean, var = random(6, seed=7), np.abs(random(6, seed=8)) + np.float32(0.5)
    call = (x, mean, var) if stored else (x,)
    given = {"gate": random(6, seed=4), "low": -0.5, "scale": positive(x.shape)}
    more = {"channel_axis": axis, "use_input_stats": not stored, "eps": 1e-3}
    both("instance_norm").check(*call, weight=random(6, seed=2), **more, **given)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_group_norm(axis: int, both: Callable[[str], Both]) -> None:
    for size in ((5, 7), (20, 30)):
        shape = list(size)
        shape.insert(axis - 1 if axis > 0 else 2, 6)
        x = hostile((3, *shape), axis)
        given = {"low": -0.5, "scale": positive(x.shape), "channel_axis": axis}
        parameters = random(6, seed=2), random(6, seed=3)
        both("group_norm").check(x, 3, *parameters, gate=random(6, seed=4), **given)


# ---- Memory ----


def test_any_layout_of_input_arrays_and_output(both: Callable[[str], Both]) -> None:
    shape = (4, 6, 5)
    x = random(shape)
    gates = dict(layouts.views(shape, np.float32))
    del gates["swapped"]
    for norm, call in (("layer_norm", (5,)), ("instance_norm", ())):
        case = both(norm)
        plain: dict[str, Any] = {"scale": positive(shape), "low": -0.5}
        if norm == "layer_norm":
            plain = {"scale": plain["scale"].astype(np.float16), "low": np.int16(-1)}
        for name, gate in gates.items():
            wanted = case.steps(x, *call, gate=gate, **plain)
            for out_name, out in layouts.outs(shape, np.float32):
                assert case.fused(x, *call, gate=gate, out=out, **plain) is out
                np.testing.assert_allclose(
                    out, wanted, 3e-6, 3e-6, err_msg=f"{name} {out_name}"
                )
        gate = random(shape, seed=4)
        for name, y in layouts.views(shape, np.float32):
            wanted = case.steps(y.astype(np.float32), *call, gate=gate, **plain)
            got = case.fused(y, *call, gate=gate, **plain)
            np.testing.assert_allclose(got, wanted, 3e-6, 3e-6, err_msg=name)


@pytest.mark.parametrize(
    ("norm", "call"), [("layer_norm", (35,)), ("instance_norm", ())]
)
def test_in_place_and_over_the_arrays_of_the_functions(
    norm: str, call: tuple[int, ...], both: Callable[[str], Both]
) -> None:
    fused = both(norm).fused
    x, gate = random((4, 6, 35)), random((4, 6, 35), seed=4)
    half = np.float16 if norm == "layer_norm" else np.float32
    scale = positive((4, 6, 35)).astype(half)
    low: Any = np.int16(-1) if norm == "layer_norm" else -1.0
    given = {"scale": scale, "low": low}
    wanted = fused(x, *call, gate=gate, **given)

    own = x.copy()
    assert fused(own, *call, gate=gate, out=own, **given) is own
    assert same_bits(own, wanted)
    own = gate.copy()
    fused(x, *call, gate=own, out=own, **given)
    assert same_bits(own, wanted)
    room = np.zeros(gate.size + 40, np.float32)
    for at in (0, 3, 35):  # the array of the function begins before the output, in it
        own = room[at : at + gate.size].reshape(gate.shape)
        own[...] = gate
        out = room[35 - at : 35 - at + gate.size].reshape(gate.shape)
        fused(x, *call, gate=own, out=out, **given)
        assert same_bits(out, wanted)
    itself = x.copy()
    squares = fused(x, *call, gate=x, **given)
    fused(itself, *call, gate=itself, out=itself, **given)
    assert same_bits(itself, squares)


def test_an_empty_input_gives_an_empty_result(both: Callable[[str], Both]) -> None:
    x = np.empty((0, 7), np.float32)
    assert both("layer_norm").fused(x, 7, gate=1, scale=1, low=0).shape == (0, 7)


# ---- Examples ----


def silu_gated(v: float, gate: float) -> float:
    return v / (1 + math.exp(-v)) * gate


def test_a_gated_activation_after_rms_norm() -> None:
    swiglu = fuse(fastnorm.rms_norm, epilogue=silu_gated)
    assert repr(swiglu) == "<fastnorm.jit.fuse(rms_norm, epilogue=silu_gated)>"
    # The large one goes past the caches, in stages.
    for shape in ((7, 768), (700, 5000)):
        x, weight, gate = random(shape), random(shape[1], seed=1), random(shape, seed=2)
        v = fastnorm.rms_norm(x, shape[1], weight)
        y = swiglu(x, shape[1], weight, gate=gate)
        np.testing.assert_allclose(y, v / (1 + np.exp(-v)) * gate, 4e-6, 4e-6)
        assert np.std(y) > 0.3


def test_clip_then_norm_in_float64_by_many_threads_at_once() -> None:
    clipped = fuse("layer_norm", prologue=lambda v, most: min(max(v, -most), most))
    x = 2 * random((40, 300), "float64")
    wanted = fastnorm.layer_norm(np.clip(x, -1.5, 1.5), 300)
    start = threading.Barrier(4)

    def first_call(_: int) -> Array:
        start.wait()
        y: Array = clipped(x, 300, most=1.5)
        return y

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(first_call, range(4)))
        found += list(pool.map(lambda _: clipped(x, 300, most=1.5), range(100)))
    np.testing.assert_allclose(found[0], wanted, 1e-14, 1e-14)
    assert all(same_bits(y, found[0]) for y in found)


def test_a_threshold_for_each_channel_after_batch_norm() -> None:
    cut = fuse("batch_norm", epilogue=lambda v, least: v if v > least else 0)
    x, mean, var = random((4, 6, 50)), random(6, seed=1), np.ones(6, np.float32)
    least = np.array([-1, 0, 1, -2, 2, 0], np.int64)
    y = cut(x, mean, var, least=least)
    v = fastnorm.batch_norm(x, mean, var)
    column = least[None, :, None]
    far = np.abs(v - column) > 1e-5
    np.testing.assert_allclose(y[far], np.where(v > column, v, 0)[far], 2e-6, 2e-6)
    assert 0.2 < np.mean(y == 0) < 0.8


def test_channels_that_go_past_the_caches() -> None:
    gated = fuse("group_norm", epilogue=after)
    for shape in ((2, 4, 35), (8, 20, 20_500)):
        x, gate = random(shape), random(shape, seed=2)
        wanted = numpy_after(fastnorm.group_norm(x, 2), gate)
        np.testing.assert_allclose(gated(x, 2, gate=gate), wanted, 2e-6, 2e-6)


def test_rows_that_go_past_the_caches(both: Callable[[str], Both]) -> None:
    x, gate = random((1600, 1357)), random((1600, 1357), seed=2)
    given = {"gate": gate, "scale": positive(1357), "low": -0.5}
    with pytest.MonkeyPatch.context() as patch:
        y = both("layer_norm").check(x, 1357, **given)
        patch.setattr("fastnorm.jit._backend.STREAM_BYTES", 2**62)
        _backend._row_way.cache_clear()
        near = both("layer_norm").fused(x, 1357, **given)
    _backend._row_way.cache_clear()
    np.testing.assert_array_equal(y, near)


def test_plain_functions_divide_as_numpy_does() -> None:
    inverse = fuse("rms_norm", epilogue=lambda v: 1 / v)
    x = np.array([[0.0, -0.0, 3.0, -4.0]])
    with np.errstate(divide="ignore"):
        wanted = 1 / fastnorm.rms_norm(x, 4)
    np.testing.assert_allclose(inverse(x, 4), wanted, 1e-14)
