# SPDX-License-Identifier: MIT
"""test_lengths.py - layer_norm of rows of which only the first values take part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channel_cases import assert_rounded, assert_steps
from numpy.typing import NDArray
from oracle import BOUND, assert_close, error, hostile, random, same_bits

import fastnorm
from fastnorm import reference

Array = NDArray[Any]
COLS = [1, 2, 17, 64, 200, 1000, 5000, 20_000]


def ragged(rows: int, cols: int) -> Array:
    """Lengths with neighbours that are equal, nothing, one, and all."""
    lengths = np.random.default_rng(rows + cols).integers(0, cols + 1, rows)
    lengths[: rows // 2] = np.repeat(lengths[: rows // 4 + 1], 2)[: rows // 2]
    lengths[-3:] = [0, 1, cols]
    return lengths


def poisoned(x: Array, lengths: Array) -> Array:
    behind = np.arange(x.shape[-1]) >= lengths[..., None]
    return np.where(behind, np.asarray(np.nan, x.dtype), x)


@pytest.mark.parametrize("cols", COLS)
@pytest.mark.parametrize("rows", [3, 70])
@pytest.mark.parametrize("masked", ["zero", "keep"])
@pytest.mark.usefixtures("isa")
def test_a_row_has_the_bits_of_a_row_of_its_length(
    rows: int, cols: int, masked: Any, dtype: str
) -> None:
    if rows * cols > 400_000:
        rows = 5
    x = 30 + random((rows, cols), dtype)
    weight, bias = random(cols, dtype, 1), random(cols, dtype, 2)
    lengths = ragged(rows, cols)
    bad = poisoned(x, lengths)
    y, mean, rstd = fastnorm.layer_norm(
        bad, cols, weight, bias, lengths=lengths, masked=masked, return_stats=True
    )
    for i, n in enumerate(lengths.tolist()):
        rest = bad[i, n:] if masked == "keep" else np.zeros_like(x[i, n:])
        assert same_bits(y[i, n:], rest)
        if n == 0:
            assert mean[i] == 0 and rstd[i] == 0
            continue
        wanted = fastnorm.layer_norm(
            x[i, :n], n, weight[:n], bias[:n], return_stats=True
        )
        assert same_bits(y[i, :n], wanted[0])
        assert same_bits(mean[i], wanted[1]) and same_bits(rstd[i], wanted[2])


@pytest.mark.parametrize("masked", ["zero", "keep"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((4, 6, 5), 1), ((2, 3, 30, 40), 2), ((3, 5, 7), (1, 2)), ((3, 5, 4, 6), (1, 2))],
    ids=str,
)
@pytest.mark.usefixtures("isa")
def test_several_and_middle_axes(
    shape: tuple[int, ...], axis: Any, masked: str, dtype: str
) -> None:
    x = 5 + random(shape, dtype)
    first = axis if isinstance(axis, int) else axis[0]
    lengths = np.random.default_rng(8).integers(0, shape[first] + 1, shape[:first])
    part = np.arange(shape[first]) < lengths[..., None]
    part = part.reshape(shape[: first + 1] + (1,) * (len(shape) - first - 1))
    x = np.where(part, x, np.asarray(np.inf, dtype))
    options: dict[str, Any] = {
        "axis": axis, "lengths": lengths, "masked": masked, "return_stats": True,
    }  # fmt: skip
    y, *stats = fastnorm.layer_norm(x, None, **options)
    whole = np.broadcast_to(part, shape)
    exact, *exact_stats = reference.layer_norm(x, None, **options)
    assert_close(y[whole], exact[whole])
    rest = x[~whole] if masked == "keep" else np.zeros_like(x[~whole])
    assert same_bits(y[~whole], rest)
    for found, wanted in zip(stats, exact_stats, strict=True):
        assert_close(found, wanted)


@pytest.mark.parametrize("n", [2, 65, 1025])
@pytest.mark.parametrize("eps", [1e-5, 0.0])
@pytest.mark.usefixtures("isa")
def test_hostile_rows_are_within_the_bound(n: int, eps: float, dtype: str) -> None:
    rows = hostile(n, dtype)
    x = np.full((len(rows), n + 9), np.nan, dtype)
    x[:, :n] = list(rows.values())
    options: dict[str, Any] = {"eps": eps, "lengths": [n] * len(rows)}
    y = fastnorm.layer_norm(x, n + 9, **options)
    exact = reference.layer_norm(x, n + 9, **options)
    for i, name in enumerate(rows):
        assert error(y[i], exact[i]) <= BOUND[x.dtype], name


@pytest.mark.parametrize("masked", ["zero", "keep"])
@pytest.mark.parametrize("axis", [1, 2])
def test_in_place_and_threads(masked: str, axis: int, dtype: str) -> None:
    x = random((60, 90, 80), dtype)
    lengths = np.random.default_rng(1).integers(0, 81, x.shape[:axis])
    options: dict[str, Any] = {"axis": axis, "lengths": lengths, "masked": masked}
    wanted = fastnorm.layer_norm(x, None, num_threads=1, **options)
    for isa in fastnorm.isas():
        fastnorm.set_isa(isa)
        for threads in (1, 3):
            y = fastnorm.layer_norm(x, None, num_threads=threads, **options)
            assert same_bits(y, wanted)
    assert fastnorm.layer_norm(x, None, out=x, **options) is x
    assert same_bits(x, wanted)


@pytest.mark.parametrize("masked", ["zero", "keep"])
def test_other_types_and_what_follows_the_norm(masked: str) -> None:
    x = (3 + random((9, 300))).astype(np.float16)
    lengths = ragged(9, 300)
    part = np.arange(300) < lengths[:, None]
    added = random((9, 300), seed=4)
    options: dict[str, Any] = {
        "lengths": lengths, "masked": masked, "post_add": added,
        "activation": "sigmoid", "weight": random(300, seed=5),
    }  # fmt: skip
    y = fastnorm.layer_norm(poisoned(x, lengths), 300, **options)
    exact = reference.layer_norm(x, 300, **options)
    assert_rounded(y[part], exact[part], 8.0)
    if masked == "zero":
        assert not np.any(y[~part])
    else:
        assert np.all(np.isnan(y[~part]))
    y = fastnorm.layer_norm(
        x, 300, **options, out_dtype=np.uint8, out_scale=0.01, out_zero_point=9
    )
    exact = reference.layer_norm(x, 300, **options)
    assert_steps(y[part], exact[part], 0.01, 9)
    if masked == "zero":
        assert np.all(y[~part] == 9)


def test_full_lengths_change_nothing(dtype: str) -> None:
    x = random((40, 77), dtype)
    assert same_bits(
        fastnorm.layer_norm(x, 77, lengths=[77] * 40), fastnorm.layer_norm(x, 77)
    )


def test_strided_rows_and_outputs(dtype: str) -> None:
    room = random((20, 100), dtype)
    out = np.full((20, 100), 7, dtype)
    x, y = room[::2, :60], out[::2, 30:90]
    lengths = ragged(10, 60)
    wanted = fastnorm.layer_norm(x.copy(), 60, lengths=lengths)
    assert fastnorm.layer_norm(x, 60, lengths=lengths, out=y) is y
    assert same_bits(y.copy(), wanted)
    assert np.all(out[1::2] == 7) and np.all(out[:, :30] == 7)
    assert np.all(out[:, 90:] == 7)


@pytest.mark.parametrize(
    ("options", "error_type", "match"),
    [
        ({"lengths": [1, 2]}, ValueError, r"lengths has shape \(2,\), \(3,\) is"),
        ({"lengths": [[1, 2, 3]]}, ValueError, r"lengths has shape \(1, 3\)"),
        ({"lengths": [1, 2, 5]}, ValueError, "lengths has 5, a number from 0 to 4"),
        ({"lengths": [1, -2, 4]}, ValueError, "lengths has -2, a number from 0 to 4"),
        ({"lengths": [1.0, 2.0, 3.0]}, TypeError, "lengths has dtype float64"),
        ({"masked": "keep"}, ValueError, "needs mask or lengths"),
        ({"lengths": [1, 2, 3], "masked": "no"}, ValueError, "masked is 'no'"),
        (
            {"lengths": [1, 2, 3], "residual": np.ones((3, 4), np.float32)},
            ValueError,
            "lengths cannot be given with residual",
        ),
        (
            {"lengths": [1, 2, 3], "out_dtype": np.int8, "out": None},
            ValueError,
            "lengths cannot be given with int8 without out_scale",
        ),
        (
            {"lengths": [1, 2, 3], "mean": np.ones((3, 1)), "var": np.ones((3, 1))},
            (ValueError, TypeError),
            "mean",
        ),
    ],
)
def test_mistakes_name_function_and_argument(
    options: dict[str, Any], error_type: type[Exception], match: str
) -> None:
    out = np.full((3, 4), 7, np.float32)
    with pytest.raises(error_type, match=f"layer_norm: .*{match}"):
        fastnorm.layer_norm(random((3, 4)), 4, **{"out": out} | options)
    assert np.all(out == 7)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)], ids=str)
def test_empty_input(shape: tuple[int, int]) -> None:
    x = np.empty(shape, np.float32)
    y = fastnorm.layer_norm(x, shape[1], lengths=[0] * shape[0])
    assert y.shape == shape


@pytest.mark.parametrize("inner", [1, 3])
@pytest.mark.usefixtures("isa")
def test_what_is_kept_in_place_is_quantized_anew(inner: int) -> None:
    x = np.tile(np.arange(50, 90, 10, np.int8), (3, 5))[..., None].repeat(inner, 2)
    options: dict[str, Any] = {"axis": 1, "lengths": [4, 0, 20], "masked": "keep"}
    options |= {"in_scale": 0.1, "out_dtype": np.int8, "out_scale": 0.5}
    wanted = fastnorm.layer_norm(x, None, **options)
    assert np.all(wanted[0, 4:8, 0] == [10, 12, 14, 16])
    assert fastnorm.layer_norm(x, None, out=x, **options) is x
    assert same_bits(x, wanted)


def test_what_is_kept_in_place_is_converted() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = np.arange(1, 25, dtype=np.float16).reshape(3, 8)
    options: dict[str, Any] = {"lengths": [4, 0, 8], "masked": "keep"}
    wanted = fastnorm.layer_norm(x, 8, out_dtype=bfloat16, **options)
    assert np.all(wanted[0, 4:] == [5, 6, 7, 8])
    out = x.view(bfloat16)
    assert fastnorm.layer_norm(x, 8, out_dtype=bfloat16, out=out, **options) is out
    assert same_bits(out, wanted)
