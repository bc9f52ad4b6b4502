# SPDX-License-Identifier: MIT
"""test_dtypes.py - the row norms on every dtype, in and out, on every ISA."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from formats import (
    BFLOAT16,
    BYTES,
    HALVES,
    MIXING,
    assert_rounded,
    dtype_named,
    hostile_rows,
    some,
    wide,
)
from oracle import BOUND, LENGTHS, error, same_bits

import fastnorm
from fastnorm import reference

NORMS = ["layer_norm", "rms_norm"]
INPUTS = [*HALVES, *BYTES]


def run(function: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(fastnorm, function)(*args, **kwargs)


def exact(function: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(reference, function)(*args, **kwargs)


def scales(name: str) -> dict[str, Any]:
    if name == "int8":
        return {"in_scale": 0.037, "in_zero_point": -17}
    return {"in_scale": 0.25, "in_zero_point": 128} if name == "uint8" else {}


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("function", NORMS)
@pytest.mark.usefixtures("isa")
def test_every_length_is_rounded_once(function: str, name: str) -> None:
    for n in LENGTHS:
        x = some((7, n), name, seed=n)
        y, *stats = run(function, x, n, return_stats=True, **scales(name))
        wanted, *wanted_stats = exact(function, x, n, return_stats=True, **scales(name))
        assert y.dtype == (np.float32 if name in BYTES else x.dtype)
        assert_rounded(y, wanted)
        # A mean is as near as the deviations about it allow.
        for found, right in zip(stats, wanted_stats, strict=True):
            assert found.dtype == np.float32
            assert found.shape == (7, 1)
            deviation = 1 / np.maximum(wanted_stats[-1], 1e-300)
            assert error(found, right, deviation) <= BOUND[found.dtype]


@pytest.mark.parametrize("eps", [None, 0.0])
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("function", NORMS)
@pytest.mark.usefixtures("isa")
def test_hostile_rows_are_rounded_once(
    function: str, name: str, eps: float | None
) -> None:
    given: dict[str, Any] = {} if eps is None else {"eps": eps}
    for n in (1, 2, 5, 16, 64, 100, 768, 4099, 20000):
        for key, row in hostile_rows(n, name).items():
            x = row.reshape(1, n)
            y = run(function, x, n, **given, **scales(name))
            wanted = exact(function, x, n, **given, **scales(name))
            try:
                assert_rounded(y, wanted)
            except AssertionError as found:
                raise AssertionError(f"{key}, {n} values: {found}") from None


@pytest.mark.parametrize("params", MIXING)
@pytest.mark.parametrize("out", [*MIXING, *BYTES])
@pytest.mark.parametrize("name", ["float32", *INPUTS])
def test_every_mixture_of_dtypes(name: str, out: str, params: str) -> None:
    x, n = some((5, 200), name, 1), 200
    w, b = some(n, params, 2), some(n, "float32", 3)
    quantized: dict[str, Any] = (
        {"out_scale": 0.03, "out_zero_point": 20} if out in BYTES else {}
    )
    y = fastnorm.layer_norm(
        x, n, w, b, out_dtype=dtype_named(out), **quantized, **scales(name)
    )
    assert y.dtype == dtype_named(out)
    wanted: Any = reference.layer_norm(x, n, w, b, **scales(name))
    if out in BYTES:
        steps = wanted / np.float32(0.03) + 20
        limits = np.iinfo(y.dtype)
        near = np.abs(np.clip(steps, limits.min, limits.max) - y.astype(np.int64))
        assert near.max() <= 0.5 + 1e-4
        return
    size = np.abs(reference.layer_norm(x, n, w, **scales(name))) + np.abs(b)
    assert_rounded(y, wanted, size)


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("function", NORMS)
@pytest.mark.usefixtures("isa")
def test_the_bits_are_those_of_the_widened_input(function: str, name: str) -> None:
    """Widening is exact, so that nothing but the store may differ."""
    for n in (1, 7, 16, 100, 768, 4099, 40000):
        x = some((3, n), name, seed=n)
        given = scales(name)
        if given:
            zero, scale = given["in_zero_point"], np.float32(given["in_scale"])
            widened = (x.astype(np.float32) - np.float32(zero)) * scale
        else:
            widened = x.astype(np.float32)
        weight = some(n, "float32", 1)
        y, *stats = run(function, x, n, weight, return_stats=True, **given)
        f, *f_stats = run(function, widened, n, weight, return_stats=True)
        assert same_bits(y, f.astype(y.dtype))
        assert all(same_bits(a, b) for a, b in zip(stats, f_stats, strict=True))


@pytest.mark.parametrize("inner", [1, 2, 7, 33])
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("function", NORMS)
def test_a_middle_axis(function: str, name: str, inner: int) -> None:
    x = some((3, 65, inner), name, seed=inner)
    weight = some(65, "float32", 1)
    y = run(function, x, None, weight, axis=1, **scales(name))
    wanted = exact(function, x, None, weight, axis=1, **scales(name))
    size = np.abs(wanted)
    assert_rounded(y, wanted, size)


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.usefixtures("isa")
def test_a_constant_row_gives_exactly_the_bias(name: str) -> None:
    for n in (1, 5, 16, 100, 768):
        weight, bias = some(n, name, 1), some(n, "float32", 2)
        for value in (3.3, 0.0, -0.1, 6e4, 6e-8):
            x = np.full((3, n), value, dtype_named(name))
            y = fastnorm.layer_norm(x, n, weight, bias)
            rounded = np.broadcast_to(bias.astype(y.dtype), y.shape)
            np.testing.assert_array_equal(wide(y), wide(rounded))


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.usefixtures("isa")
def test_nan_and_inf_stay_in_their_row(name: str) -> None:
    n = 100
    clean = some((12, n), name)
    expected = fastnorm.layer_norm(clean, n)
    for bad in (np.nan, np.inf, -np.inf):
        x = clean.copy()
        x[5, 60] = bad
        y = fastnorm.layer_norm(x, n)
        assert not np.any(np.isfinite(wide(y[5])))
        assert same_bits(np.delete(y, 5, 0), np.delete(expected, 5, 0))


def test_values_beyond_the_type_become_inf() -> None:
    x = some((2, 8), "float32")
    y = fastnorm.layer_norm(x, 8, np.full(8, 1e9, np.float32), out_dtype=np.float16)
    assert np.all(np.isinf(y)) and np.all(np.sign(y) == np.sign(x - x.mean(1)[:, None]))


@pytest.mark.parametrize("name", BYTES)
@pytest.mark.usefixtures("isa")
def test_given_quantization_saturates_and_rounds_to_even(name: str) -> None:
    # Rows whose norm is exactly k + 1/2 steps, by stored statistics of 0 and 1.
    steps = np.concatenate([np.arange(-200.5, 200), [1e30, -1e30, np.nan]])
    x = steps.astype(np.float32).reshape(1, -1)
    limits = np.iinfo(name)
    zero, one = np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)
    y = fastnorm.layer_norm(
        x, x.shape[1], eps=0.0, mean=zero, var=one, out_dtype=name, out_scale=1.0,
        out_zero_point=5,
    )  # fmt: skip
    wanted = np.clip(np.rint(steps[:-1]) + 5, limits.min, limits.max)
    np.testing.assert_array_equal(y[0, :-1], wanted.astype(name))
    assert y[0, -1] == 5  # NaN


@pytest.mark.parametrize("name", BYTES)
@pytest.mark.parametrize("function", NORMS)
@pytest.mark.usefixtures("isa")
def test_dynamic_scales(function: str, name: str) -> None:
    zero = {"int8": 0, "uint8": 128}[name]
    for n in (1, 5, 64, 100, 768, 5000):
        x = some((2, 3, n), "float32", n)
        x[0, 1] = 0
        given: dict[str, Any] = {"out_dtype": name, "out_zero_point": zero}
        y, scale, *stats = run(function, x, n, return_stats=True, **given)
        plain, *plain_stats = run(function, x, n, return_stats=True)
        assert y.dtype == np.dtype(name)
        assert scale.dtype == np.float32 and scale.shape == (2, 3, 1)
        largest = np.abs(plain).max(axis=-1, keepdims=True)
        right = np.where(largest == 0, 1.0, largest.astype(np.float64) / 127)
        np.testing.assert_allclose(scale, right, rtol=1.2e-7)
        steps = plain.astype(np.float64) / scale + zero
        near = np.abs(np.clip(steps, *limits_of(name)) - y.astype(np.int64))
        assert near.max() <= 0.5 + 1e-4
        assert all(same_bits(a, b) for a, b in zip(stats, plain_stats, strict=True))
        first, second = run(function, x, n, **given)
        assert same_bits(first, y) and same_bits(second, scale)


def limits_of(name: str) -> tuple[int, int]:
    limits = np.iinfo(name)
    return int(limits.min), int(limits.max)


def test_a_row_with_nan_does_not_touch_the_scales_of_others() -> None:
    x = some((3, 50), "float32")
    clean, clean_scale = fastnorm.rms_norm(x, 50, out_dtype="int8")
    x[1, 7] = np.nan
    y, scale = fastnorm.rms_norm(x, 50, out_dtype="int8")
    assert np.isnan(scale[1, 0]) and np.all(y[1] == 0)
    np.testing.assert_array_equal(y[::2], clean[::2])
    np.testing.assert_array_equal(scale[::2], clean_scale[::2])


@pytest.mark.parametrize("offset", [0, 16, 33, 63])
@pytest.mark.parametrize("given", [{"out_scale": 0.05}, {}])
@pytest.mark.usefixtures("isa")
def test_bytes_of_many_rows_are_those_of_few(
    given: dict[str, float], offset: int
) -> None:
    """Large results are written past the cache, from the first whole line on."""
    rows, cols = 3300, 1001  # 13 MB
    x = some((rows, cols), "float32", 5)
    weight, bias = some((2, cols), "float32", 6)
    y = np.zeros(rows * cols + 128, np.int8)
    start = -y.ctypes.data % 64 + offset
    out = y[start : start + rows * cols].reshape(rows, cols)
    kwargs = {"out_dtype": "int8", **given}
    many = fastnorm.layer_norm(x, cols, weight, bias, out=out, **kwargs)
    for first in range(0, rows, rows // 3):
        some_rows = slice(first, first + rows // 3)
        few = fastnorm.layer_norm(x[some_rows], cols, weight, bias, **kwargs)
        if given:
            assert same_bits(out[some_rows], few)
        else:
            assert same_bits(out[some_rows], few[0])
            assert same_bits(many[1][some_rows], few[1])
    assert not y[:start].any()
    assert not y[start + rows * cols :].any()


@pytest.mark.parametrize("name", ["float32", *HALVES, "int8", "float64"])
def test_out_and_in_place(name: str) -> None:
    x = some((4, 60), name)
    y = fastnorm.rms_norm(x, 60)
    out = np.empty_like(y)
    assert fastnorm.rms_norm(x, 60, out=out) is out
    assert same_bits(out, y)
    strided = np.empty((4, 120), y.dtype)[:, ::2]
    assert fastnorm.rms_norm(x, 60, out=strided) is strided
    assert same_bits(np.ascontiguousarray(strided), y)
    if name != "int8":
        assert fastnorm.rms_norm(x, 60, out=x) is x
        assert same_bits(x, y)


@pytest.mark.parametrize("name", [*HALVES, "uint8"])
def test_every_memory_layout(name: str) -> None:
    wide_x = some((8, 3, 80), name)
    for x in (wide_x[::-2, :, 3:43], wide_x[:, 1, ::2], wide_x.transpose(1, 0, 2)):
        n = x.shape[-1]
        assert same_bits(
            fastnorm.layer_norm(x, n), fastnorm.layer_norm(np.array(x, order="C"), n)
        )
    if name == "float16":
        x = wide_x[:, 0]
        swapped = x.astype(x.dtype.newbyteorder())
        assert same_bits(fastnorm.layer_norm(swapped, 80), fastnorm.layer_norm(x, 80))


@pytest.mark.parametrize("name", [*HALVES, *BYTES])
def test_an_empty_input_gives_an_empty_result(name: str) -> None:
    for shape in [(0, 5), (5, 0)]:
        y, mean, _ = fastnorm.layer_norm(some(shape, name), shape[1], return_stats=True)
        assert y.shape == shape and mean.shape == (shape[0], 1)
    y, scale = fastnorm.layer_norm(some((5, 0), name), 0, out_dtype="int8")
    assert y.shape == (5, 0) and np.all(scale == 1) and scale.shape == (5, 1)


MODES = ["plain", "cast_before_weight", "one_plus_weight"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MIXING)
@pytest.mark.usefixtures("isa")
def test_rms_norm_modes(name: str, mode: str) -> None:
    for n in (5, 64, 100, 4099):
        x, w = some((6, n), name, n), some(n, "float32", 1)
        y = run("rms_norm", x, n, w, mode=mode)
        wanted = reference.rms_norm(x, n, w, mode=mode)
        if mode == "cast_before_weight" and name != "float32":
            # The first rounding may go the other way where it is nearly a tie.
            step = 2.0**-11 if name == "float16" else 2.0**-8
            right = fastnorm.rms_norm(x, n).astype(np.float32) * w
            assert same_bits(y, right.astype(y.dtype))
            allowed = 2.1 * step * np.abs(wanted) + 2.0**-23
            assert np.all(np.abs(wide(y) - wanted) <= allowed)
        else:
            assert_rounded(y, wanted, np.abs(wanted) + np.abs(wide(x)))


def test_modes_differ_where_they_should() -> None:
    x, w = some((4, 64), "float16"), some(64, "float16", 1)
    plain, cast, plus = (run("rms_norm", x, 64, w, mode=mode) for mode in MODES)
    assert not same_bits(plain, cast) and not same_bits(plain, plus)
    assert same_bits(plus, fastnorm.rms_norm(x, 64, 1 + w.astype(np.float32)))


@pytest.mark.parametrize("name", ["float32", "float64", *HALVES])
@pytest.mark.usefixtures("isa")
def test_stored_statistics(name: str) -> None:
    n, work = 75, "float64" if name == "float64" else "float32"
    x = some((5, n), name, 1)
    mean, var = some((5, 1), work, 2), np.abs(some((5, 1), work, 3))
    var[2] = 0
    y, same_mean, rstd = fastnorm.layer_norm(
        x, n, mean=mean, var=var, return_stats=True
    )
    wanted: Any = reference.layer_norm(x, n, mean=mean, var=var)
    if name == "float64":
        assert error(y, wanted) <= BOUND[y.dtype]
    else:
        assert_rounded(y, wanted)
    assert same_bits(same_mean, mean)
    np.testing.assert_allclose(rstd, 1 / np.sqrt(var.astype("f8") + 1e-5), rtol=2e-7)
    middle = fastnorm.layer_norm(
        x.reshape(5, n, 1).repeat(3, 2), None, axis=1,
        mean=mean.reshape(5, 1, 1).repeat(3, 2), var=var.reshape(5, 1, 1).repeat(3, 2),
    )  # fmt: skip
    np.testing.assert_allclose(wide(middle[..., 1]), wide(y), rtol=1e-2, atol=1e-2)
    assert error(wide(middle), wanted[..., None].repeat(3, 2)) <= max(
        BOUND[np.dtype(work)], 0 if name == work else 2.0**-7
    )


def test_own_statistics_stored_give_the_same_result() -> None:
    x = 100 + some((6, 500), "float32")
    y, mean, _ = fastnorm.layer_norm(x, 500, return_stats=True)
    var = np.var(x.astype(np.float64), axis=1, keepdims=True).astype(np.float32)
    again = fastnorm.layer_norm(x, 500, mean=mean, var=var)
    # The mean is rounded to float32 here and is not inside the norm.
    assert np.abs(again - y).max() <= 1e-5


@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_flush_denormals(name: str) -> None:
    tiny = 4 * np.finfo(name).smallest_subnormal
    x = np.array([[tiny, -tiny, tiny, -tiny]], name)
    zero, one = np.zeros((1, 1), "f8"), np.ones((1, 1), "f8")
    work = "f8" if name == "float64" else "f4"
    given: dict[str, Any] = {
        "eps": 0.0,
        "mean": zero.astype(work),
        "var": one.astype(work),
    }
    kept = fastnorm.layer_norm(x, 4, **given)
    np.testing.assert_array_equal(kept, x)
    flushed = fastnorm.layer_norm(x, 4, flush_denormals=True, **given)
    if name == "float16":
        # No subnormal of float32, in which it is worked on.
        np.testing.assert_array_equal(flushed, x)
    else:
        np.testing.assert_array_equal(flushed, np.zeros((1, 4)))
    # The control register is as before, on this thread and on the others.
    assert np.float32(1e-30) * np.float32(1e-10) == np.float32(1e-40)
    np.testing.assert_array_equal(fastnorm.layer_norm(x, 4, **given), x)


def test_flush_denormals_on_every_thread() -> None:
    big = np.full((4096, 512), np.float32(1e-40))
    given: dict[str, Any] = {
        "eps": 0.0,
        "mean": np.zeros((4096, 1), np.float32),
        "var": np.ones((4096, 1), np.float32),
    }
    for threads in (1, 2, 4):
        y = fastnorm.layer_norm(
            big, 512, flush_denormals=True, num_threads=threads, **given
        )
        assert not y.any()
        kept = fastnorm.layer_norm(big, 512, num_threads=threads, **given)
        assert np.all(kept == np.float32(1e-40))


@pytest.mark.parametrize("name", ["float16", BFLOAT16])
def test_threads_do_not_change_bits(name: str) -> None:
    x, r = some((3000, 700), name, 1), some((3000, 700), name, 2)
    given: dict[str, Any] = {"residual": r, "activation": "silu", "out_dtype": "int8"}
    one = fastnorm.rms_norm(x, 700, num_threads=1, **given)
    many = fastnorm.rms_norm(x, 700, num_threads=4, **given)
    assert all(same_bits(a, b) for a, b in zip(one, many, strict=True))
    alone = fastnorm.rms_norm(x[1234], 700, **{**given, "residual": r[1234]})
    assert same_bits(alone[0], one[0][1234])


WITHOUT = """
import sys
sys.modules["ml_dtypes"] = None
import numpy as np
import fastnorm
x = np.ones((2, 4), np.float32)
try:
    fastnorm.layer_norm(x, 4, out_dtype="bfloat16")
except ImportError as error:
    print(error)
print(fastnorm.layer_norm(x.astype(np.float16), 4).dtype)
"""


def test_without_ml_dtypes_only_bfloat16_is_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "layer_norm: a bfloat16 array needs the package ml_dtypes, or give out",
        "float16",
    ]
