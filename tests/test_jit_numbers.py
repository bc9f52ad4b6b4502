# test_jit_numbers.py - what the Numba backend makes of numbers of all kinds.
# SPDX-License-Identifier: MIT
"""16-bit types, NaN and infinity, running statistics, large arrays."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats import assert_rounded, dtype_named, hostile_rows, some, wide
from numpy.typing import NDArray
from oracle import BOUND, assert_close, random, same_bits, shifted

import fastnorm
from fastnorm import reference

pytest.importorskip("numba")
pytest.importorskip("ml_dtypes")

import fastnorm.jit as jit

Array = NDArray[Any]
Call = Callable[..., Any]
V = np.ones(4, np.float32)


# ---- 16 bits ----


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("function", ["layer_norm", "rms_norm"])
def test_16_bit_rows_are_rounded_once(function: str, name: str) -> None:
    ones = {n: np.ones(n, np.float32) for n in (1, 2, 5, 16, 100, 768, 4099)}
    for n, weight in ones.items():
        rows = hostile_rows(n, name)
        for eps in (1e-5, 0.0):
            x = np.stack(list(rows.values()))
            y = getattr(jit, function)(x, n, weight, eps=eps)
            wanted = getattr(reference, function)(x, n, eps=eps)
            assert y.dtype == x.dtype
            for i, key in enumerate(rows):
                try:
                    assert_rounded(y[i], wanted[i])
                except AssertionError as found:
                    raise AssertionError(f"{key}, {n} values: {found}") from None


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_16_bit_rows_with_parameters_of_32(name: str) -> None:
    x = some((9, 300), name)
    weight, bias = some(300, "float32", 1), some(300, "float32", 2)
    y, mean, rstd = jit.layer_norm(x, 300, weight, bias, return_stats=True)
    exact = reference.layer_norm(x, 300, weight, bias, return_stats=True)
    plain = np.abs(reference.layer_norm(x, 300, weight))
    assert_rounded(y, exact[0], plain + np.abs(bias))
    assert mean.dtype == rstd.dtype == np.float32
    np.testing.assert_allclose(mean, exact[1], 1e-6, 1e-6)
    np.testing.assert_allclose(rstd, exact[2], 1e-6)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_16_bit_special_values_survive(name: str) -> None:
    x = np.zeros((6, 64), dtype_named(name))
    x[:, ::2] = 1
    x[1, 3], x[2, 5], x[3, 7] = np.nan, np.inf, -np.inf
    weight = np.full(64, 1e30, np.float32)  # beyond float16, not beyond bfloat16
    y = wide(jit.layer_norm(x, 64, weight))
    assert not np.any(np.isfinite(y[1:4]))
    clean = y[[0, 4, 5]]
    assert np.all(clean == clean[0]) and np.all(np.sign(clean[0]) == wide(x[0]) * 2 - 1)
    assert np.all(np.isinf(clean)) == (name == "float16")


def test_nan_of_any_bits_is_nan_in_bfloat16() -> None:
    x = random((2, 64))
    x.view(np.uint32)[1] = 0x7FFFFFFF  # which rounding would carry over to -0
    y = wide(jit.layer_norm(x, 64, out_dtype=dtype_named("bfloat16")))
    assert np.all(np.isfinite(y[0])) and np.all(np.isnan(y[1]))


@pytest.mark.parametrize("shape", [(5, 6, 33), (40, 6)])
def test_16_bit_channels_are_rounded_once(shape: tuple[int, ...]) -> None:
    x = (some(shape, "float16") * 3 + 20).astype(np.float16)
    x[:, 1], x[:, 2] = 65504, 1e-7
    weight, bias = some(6, "float32", 1), some(6, "float32", 2)
    mean, var = some(6, "float32", 3), np.abs(some(6, "float32", 4)) + 1
    for training in (False, True):
        call = (x, mean.copy(), var.copy(), weight)
        y = jit.batch_norm(*call, bias, training)
        exact = reference.batch_norm(*call, bias, training)
        size = np.abs(reference.batch_norm(*call, None, training)) + 4
        assert y.dtype == np.float16
        assert_rounded(y, exact, size)


def test_rms_norm_in_every_mode() -> None:
    weight = 1 + some(256, "float32", 1) / 4
    for name in ("float32", "float16"):
        x = some((8, 256), name)
        for mode in ("plain", "one_plus_weight", "cast_before_weight"):
            wanted = fastnorm.rms_norm(x, 256, weight, mode=mode)
            if mode == "cast_before_weight" and name == "float16":
                with pytest.raises(NotImplementedError, match=mode):
                    jit.rms_norm(x, 256, weight, mode=mode)
                continue
            y = jit.rms_norm(x, 256, weight, mode=mode)
            close = 1e-3 if name == "float16" else 1e-6
            np.testing.assert_allclose(wide(y), wide(wanted), close, 1e-7)


# ---- NaN, infinity, nothing ----


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_stay_where_they_are(bad: float) -> None:
    def check(call: Call, x: Array, at: Any, part: Any) -> None:
        expected = call(x)
        x = x.copy()
        x[at] = bad
        y = call(x)
        assert not np.any(np.isfinite(y[part])), at
        y[part] = expected[part]
        assert same_bits(y, expected)

    for n in (3, 16, 100, 5000):
        for call in (lambda x: jit.layer_norm(x, x.shape[1]),):
            check(call, random((6, n)), (4, n // 2), np.s_[4])
    images = random((4, 70, 21))
    check(lambda x: jit.layer_norm(x, None, axis=1), images, (2, 9, 4), np.s_[2, :, 4])

    def batch(x: Array, axis: int = 1) -> Any:
        return jit.batch_norm(x, None, None, training=True, channel_axis=axis)

    check(batch, images, (2, 9, 4), np.s_[:, 9])
    check(batch, random((300, 9)), (222, 5), np.s_[:, 5])
    check(lambda x: batch(x, -1), images, (2, 9, 4), np.s_[..., 4])
    check(lambda x: jit.group_norm(x, 10), images, (2, 9, 4), np.s_[2, 7:14])
    check(
        lambda x: jit.group_norm(x, 3, channel_axis=-1),
        images, (2, 9, 4), np.s_[2, :, :7],
    )  # fmt: skip
    check(lambda x: jit.instance_norm(x), images, (2, 9, 4), np.s_[2, 9])


def test_rms_norm_of_inf_stays_in_its_row() -> None:
    x = random((6, 100))
    expected = jit.rms_norm(x, 100)
    x[4, 7] = np.inf
    y, wanted = jit.rms_norm(x, 100), fastnorm.rms_norm(x, 100)
    np.testing.assert_array_equal(y[4], wanted[4])  # NaN, and zeros beside it
    assert same_bits(np.delete(y, 4, 0), np.delete(expected, 4, 0))


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 4, 0), (0, 4)])
def test_an_empty_input_gives_an_empty_result(shape: tuple[int, ...]) -> None:
    x = np.empty(shape, np.float32)
    n = shape[-1]
    mean, var = V.copy(), V.copy()
    assert jit.layer_norm(x, n).shape == shape
    assert jit.rms_norm(x, n).shape == shape
    assert jit.batch_norm(x, mean, var, training=True).shape == shape
    assert jit.group_norm(x, 2).shape == shape
    assert np.all(mean == 1) and np.all(var == 1)
    for axis in (0, -1):
        with np.errstate(invalid="ignore"):
            got, wanted = jit.moments(x, axis), fastnorm.moments(x, axis)
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(a, b)


# ---- Running statistics ----


@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0, None])
def test_running_statistics_are_those_of_the_reference(momentum: float | None) -> None:
    for shape, axis in (((5, 6, 33), 1), ((40, 6), 1), ((5, 33, 6), -1)):
        x = 100 + random(shape)
        ours, exact = (
            [random(6, "float32", 3), np.abs(random(6, "float32", 4))] for _ in "ab"
        )
        exact = [a.astype(np.float64) for a in exact]
        for tracked in range(3):
            more: dict[str, Any] = {"momentum": momentum, "channel_axis": axis}
            if momentum is None:
                more["num_batches_tracked"] = tracked
            jit.batch_norm(x + np.float32(tracked), *ours, training=True, **more)
            reference.batch_norm(
                (x + np.float32(tracked)).astype(np.float64), *exact, training=True,
                **more,
            )  # fmt: skip
        for a, b in zip(ours, exact, strict=True):
            np.testing.assert_allclose(a, b, 1e-6, 1e-6)


def test_instance_norm_keeps_the_average_of_the_samples() -> None:
    x = random((5, 4, 33)) * np.arange(1, 6, dtype=np.float32)[:, None, None]
    ours, theirs = ([np.zeros(4, np.float32), V.copy()] for _ in "ab")
    jit.instance_norm(x, *ours)
    fastnorm.instance_norm(x, *theirs)
    assert np.any(ours[0] != 0)
    np.testing.assert_allclose(ours, theirs, 1e-6, 1e-7)
    y = jit.instance_norm(x, *ours, use_input_stats=False)
    np.testing.assert_allclose(
        y, fastnorm.instance_norm(x, *ours, use_input_stats=False), 2e-6, 2e-6
    )


# ---- Large arrays ----


def exact_of(x: Array, axis: int) -> tuple[Array, Array, Array]:
    """Normalised with eps=0, mean and deviation, by two passes in float64."""
    d = x.astype(np.float64)
    mean = d.mean(axis=axis, keepdims=True)
    d -= mean
    low = d.mean(axis=axis, keepdims=True)
    d -= low
    deviation = np.sqrt(np.square(d).mean(axis=axis, keepdims=True))
    d /= deviation
    return d, mean + low, deviation


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_rows_of_a_million_are_within_the_bound(offset: float) -> None:
    x = (offset + random((2, 1_000_000))).astype(np.float32)
    y, mean, rstd = jit.layer_norm(x, 1_000_000, eps=0.0, return_stats=True)
    exact, exact_mean, deviation = exact_of(x, 1)
    assert_close(y, exact)
    assert np.all(np.abs(mean - exact_mean) <= 4e-7 * max(offset, 1))
    assert np.all(np.abs(rstd * deviation - 1) <= BOUND[np.dtype("f4")])


@pytest.mark.parametrize(("cols", "axis"), [(16, 0), (16, 1), (1024, 0)])
def test_sixteen_million_elements_far_from_zero(cols: int, axis: int) -> None:
    rows = 2**24 // cols
    x = (1e6 + 3 * random(2**24)).astype(np.float32).reshape(rows, cols)
    if axis == 1:  # few long channels
        x = x.reshape(1, cols, rows)
    y = jit.batch_norm(x, None, None, training=True, eps=0.0)
    mean, var = jit.moments(x, (0, 2) if axis else 0)
    exact, exact_mean, deviation = exact_of(x, 2 if axis else 0)
    assert_close(y, exact)
    assert np.all(np.abs(mean / exact_mean.ravel() - 1) <= BOUND[np.dtype("f4")])
    np.testing.assert_allclose(np.sqrt(var), deviation.ravel(), 4e-7)


@pytest.mark.parametrize("cols", [1024, 1027, 5000])
def test_what_goes_past_the_caches_has_the_same_bits(cols: int) -> None:
    rows = 13_000_000 // (4 * cols)  # 13 MB: the output is streamed
    x = 5 + random((rows, cols))
    weight, bias = random(cols, seed=1), random(cols, seed=2)
    calls: list[Call] = [
        lambda x, out: jit.layer_norm(x, cols, weight, bias, out=out),
        lambda x, out: jit.rms_norm(x, cols, weight, out=out),
    ]
    for call in calls:
        wanted = np.concatenate([call(part, None) for part in np.array_split(x, 9)])
        for elements in (0, 1, 15):
            out = shifted(np.zeros_like(x), elements)
            assert call(x, out) is out
            assert same_bits(out, wanted)


LARGE = [
    ("batch_norm", (8, 20, 20_500), {"channel_axis": 1}),
    ("batch_norm", (16, 2, 103_000), {"channel_axis": 1}),
    ("batch_norm", (55_000, 60), {"channel_axis": 1}),
    ("batch_norm", (550_001, 6), {"channel_axis": 1}),
    ("group_norm", (8, 20, 20_500), {"num_groups": 5}),
    ("group_norm", (8, 20_500, 20), {"num_groups": 5, "channel_axis": -1}),
    ("instance_norm", (8, 20, 20_500), {}),
]


@pytest.mark.parametrize(("name", "shape", "options"), LARGE)
def test_channels_past_the_caches_have_the_bits_of_those_in_place(
    name: str, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    c = shape[options.get("channel_axis", 1)]
    more = {**options, "weight": random(c, seed=1), "bias": random(c, seed=2)}
    if name == "batch_norm":
        more |= {"running_mean": random(c, seed=3), "running_var": np.ones(c, "f4")}
    x = 5 + random(shape)
    assert x.nbytes > 12_600_000
    for inputs in ("training", "use_input_stats", None):
        if inputs not in (None, *inspect.signature(getattr(jit, name)).parameters):
            continue
        given = more if inputs is None else {**more, inputs: True}
        inside = x.copy()
        getattr(jit, name)(inside, out=inside, **given)
        for elements in (0, 3):
            out = shifted(np.zeros_like(x), elements)
            getattr(jit, name)(x, out=out, **given)
            assert same_bits(out, inside)


def test_kernels_do_not_read_what_they_have_freed() -> None:
    # glibc fills what is freed with this byte, but for what it keeps for each thread;
    # elsewhere both runs are the same.
    fill = {"MALLOC_PERTURB_": "165", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
    code = """
        import hashlib
        import test_jit_threads as threads

        found = hashlib.sha256()
        for case in threads.OPERATIONS:
            operation, shapes = case.values
            for shape in shapes:
                for result in operation(threads.hostile(shape), num_threads=1):
                    found.update(result.tobytes())
        print(found.hexdigest())
    """
    said = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, **more}, cwd=Path(__file__).parent, timeout=300,
            capture_output=True, text=True, check=True,
        ).stdout
        for more in (fill, {})
    ]  # fmt: skip
    assert said[0] == said[1]
