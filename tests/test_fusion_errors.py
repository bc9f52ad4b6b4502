# SPDX-License-Identifier: MIT
"""test_fusion_errors.py - what the fused row norms refuse, with nothing written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnorm

X, N = np.arange(12, dtype=np.float32).reshape(3, 4), 4
R = np.ones((3, 4), np.float32)
F = np.ones((3, 4))
COLUMN = np.ones((3, 1), np.float32)


def read_only() -> NDArray[Any]:
    a = R.copy()
    a.flags.writeable = False
    return a


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"residual": R[:2]}, ValueError, "residual has shape (2, 4), input's (3, 4) is"),
    ({"residual": F}, TypeError, "residual has dtype float64, float32 or a 16-bit"),
    ({"residual": X.astype("i1")}, TypeError, "residual has dtype int8, float32 or a"),
    ({"residual_out": R}, ValueError, "residual_out needs residual"),
    ({"residual_bias": R[0]}, ValueError, "residual_bias needs residual"),
    (
        {"residual": R, "residual_bias": R[0, :3]},
        ValueError,
        "residual_bias has 3 values, normalized_shape needs 4",
    ),
    (
        {"residual": R, "residual_out": F},
        TypeError,
        "residual_out has dtype float64, residual's float32 is needed",
    ),
    (
        {"residual": R, "residual_out": R[:2].copy()},
        ValueError,
        "residual_out has shape (2, 4), input's (3, 4) is needed",
    ),
    ({"residual": R, "residual_out": read_only()}, ValueError, "_out is read-only"),
    ({"residual": R, "residual_out": X}, ValueError, "residual_out overlaps input"),
    ({"residual": R, "out": R}, ValueError, "out overlaps residual"),
    (
        {"residual": X.copy(), "residual_out": R, "out": R},
        ValueError,
        "out overlaps residual_out",
    ),
    (
        {"residual": F[:, ::-1].astype("f4")[:, ::-1], "residual_out": [0.0]},
        TypeError,
        "residual_out is list, an ndarray, a buffer or a DLPack object is needed",
    ),
    ({"post_add": R[0]}, ValueError, "post_add has shape (4,), input's (3, 4) is"),
    ({"post_add": F}, TypeError, "post_add has dtype float64, float32 or a 16-bit"),
    ({"post_add": R, "out": R}, ValueError, "out overlaps post_add"),
    ({"activation": "swish"}, ValueError, "activation is 'swish', not one of relu, "),
    ({"activation": 3}, TypeError, "activation is int, a name or a tuple of"),
    ({"activation": ()}, TypeError, "activation is tuple, a name or a tuple of"),
    ({"activation": "clamp"}, ValueError, "'clamp' takes two numbers, low and high"),
    ({"activation": ("relu", 1)}, ValueError, "activation 'relu' takes no numbers"),
    ({"activation": ("clamp", 2, 1)}, ValueError, "clamp from 2.0 to 1.0, low <= high"),
    ({"activation": ("clamp", np.nan, 1)}, ValueError, "clamp from nan to 1.0"),
    ({"activation": ("clamp", "0", 1)}, TypeError, "activation's low is str, a real"),
    (
        {"activation": ("leaky_relu", np.inf)},
        ValueError,
        "activation's slope is inf, a finite number is needed",
    ),
    ({"out_dtype": np.float64}, TypeError, "out_dtype is float64, which float32 input"),
    ({"out_dtype": int}, TypeError, "out_dtype is int64, not one of float32,"),
    ({"out_dtype": "halves"}, TypeError, "out_dtype is 'halves', not one of flo"),
    ({"out_dtype": ">f4"}, TypeError, "out_dtype is >f4, not one of"),
    (
        {"out_dtype": np.float16, "out": X.copy()},
        TypeError,
        "out has dtype float32, the result's float16 is needed",
    ),
    ({"in_scale": 2.0}, ValueError, "in_scale and in_zero_point are for int8 and"),
    ({"out_zero_point": 2}, ValueError, "out_scale and out_zero_point are for int8"),
    (
        {"out_dtype": "int8", "out_scale": 0.0},
        ValueError,
        "out_scale is 0.0, a positive finite number is needed",
    ),
    ({"out_dtype": "int8", "out_scale": -1}, ValueError, "out_scale is -1, a positive"),
    ({"out_dtype": "int8", "out_scale": 1e-45}, ValueError, "out_scale is 1e-45, a po"),
    ({"out_dtype": "int8", "out_scale": np.nan}, ValueError, "out_scale is nan, a pos"),
    ({"out_dtype": "int8", "out_scale": "1"}, TypeError, "out_scale is str, a real nu"),
    (
        {"out_dtype": "int8", "out_scale": 1, "out_zero_point": 128},
        ValueError,
        "out_zero_point is 128, int8 needs -128 to 127",
    ),
    (
        {"out_dtype": "uint8", "out_zero_point": -1},
        ValueError,
        "out_zero_point is -1, uint8 needs 0 to 255",
    ),
    (
        {"out_dtype": "uint8", "out_zero_point": 1.0},
        TypeError,
        "out_zero_point is float, an integer is needed",
    ),
]
REFUSED_BY_LAYER_NORM: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"mean": COLUMN}, ValueError, "mean and var must come together"),
    ({"mean": COLUMN, "var": R}, ValueError, "var has shape (3, 4), (3, 1) is needed"),
    ({"mean": COLUMN, "var": COLUMN.astype("f8")}, TypeError, "var has dtype float64"),
]
REFUSED_BY_RMS_NORM: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"mode": "llama"}, ValueError, "mode is 'llama', not one of plain, cast_before"),
    ({"mode": None}, TypeError, "mode is NoneType, a str is needed"),
]


def assert_refused(
    function: str, kwargs: dict[str, Any], error: type[Exception], text: str
) -> None:
    arrays = [a for a in (X, *kwargs.values()) if isinstance(a, np.ndarray)]
    before = [a.tobytes() for a in arrays]
    with pytest.raises(error) as raised:
        getattr(fastnorm, function)(X, N, **kwargs)
    assert type(raised.value) is error
    message = str(raised.value)
    assert message.startswith(f"{function}: ") and text in message, message
    assert before == [a.tobytes() for a in arrays]


@pytest.mark.parametrize("function", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize(("kwargs", "error", "text"), REFUSED)
def test_what_is_refused(
    function: str, kwargs: dict[str, Any], error: type[Exception], text: str
) -> None:
    assert_refused(function, kwargs, error, text)


@pytest.mark.parametrize(("kwargs", "error", "text"), REFUSED_BY_LAYER_NORM)
def test_what_layer_norm_refuses(
    kwargs: dict[str, Any], error: type[Exception], text: str
) -> None:
    assert_refused("layer_norm", kwargs, error, text)


@pytest.mark.parametrize(("kwargs", "error", "text"), REFUSED_BY_RMS_NORM)
def test_what_rms_norm_refuses(
    kwargs: dict[str, Any], error: type[Exception], text: str
) -> None:
    assert_refused("rms_norm", kwargs, error, text)


def test_a_middle_axis_has_no_residual_and_no_dynamic_scale() -> None:
    with pytest.raises(ValueError, match="^rms_norm: residual needs the last axes"):
        fastnorm.rms_norm(X, None, axis=0, residual=R)
    with pytest.raises(ValueError, match="^rms_norm: out_dtype int8 needs out_scale"):
        fastnorm.rms_norm(X, None, axis=0, out_dtype="int8")
    y = fastnorm.rms_norm(X, None, axis=0, out_dtype="int8", out_scale=0.01)
    assert y.dtype == np.int8


@pytest.mark.parametrize("given", ["residual", "post_add", "mean", "weight"])
def test_outputs_overlap_nothing_of_another_dtype(given: str) -> None:
    """Not even where the first byte is the same."""
    memory = np.zeros(64, np.float32)
    shape = {"mean": (4, 1), "weight": (4,)}.get(given, (4, 4))
    shared = memory[: np.prod(shape)].reshape(shape)
    out = memory.view(np.float16)[:16].reshape(4, 4)
    kwargs: dict[str, Any] = {given: shared, "out": out, "out_dtype": np.float16}
    if given == "mean":
        kwargs["var"] = np.ones((4, 1), np.float32)
    x = np.arange(16, dtype=np.float32).reshape(4, 4)
    with pytest.raises(ValueError, match="^layer_norm: .*overlap"):
        fastnorm.layer_norm(x, 4, **kwargs)
    assert not memory.any()


def test_another_dtype_on_the_memory_of_the_input_is_not_in_place() -> None:
    x = np.arange(16, dtype=np.float32).reshape(4, 4)
    before = x.copy()
    out = x.view(np.float16).reshape(-1)[:16].reshape(4, 4)
    with pytest.raises(ValueError, match="^layer_norm: .*overlap"):
        fastnorm.layer_norm(x, 4, out=out, out_dtype=np.float16)
    np.testing.assert_array_equal(x, before)


def test_two_outputs_on_one_memory() -> None:
    """Also where one of them is written through a temporary array."""
    memory = np.zeros((3, 8), np.float32)
    out, total = memory[:, ::2], memory[:, 0:4]
    with pytest.raises(ValueError, match="^rms_norm: out overlaps residual_out"):
        fastnorm.rms_norm(X, 4, residual=R, residual_out=total, out=out)
    assert not memory.any()


@pytest.mark.parametrize(
    "given", ["residual", "post_add", "residual_bias", "weight", "mean", "var"]
)
def test_overlap_with_what_is_copied_first_is_refused(given: str) -> None:
    """C sees the copy: the memory of the caller's own array counts."""
    memory = np.zeros((4, 8), np.float32)
    out = memory[:, :4]
    shared = {
        "residual_bias": memory[1, ::2],
        "weight": memory[1, ::2],
        "mean": memory[:, ::8],
        "var": memory[:, ::8],
    }.get(given, memory[:, ::2])
    kwargs: dict[str, Any] = {given: shared, "out": out}
    if given == "residual_bias":
        kwargs["residual"] = np.ones((4, 4), np.float32)
    if given in ("mean", "var"):
        kwargs["var" if given == "mean" else "mean"] = np.ones((4, 1), np.float32)
    x = np.arange(16, dtype=np.float32).reshape(4, 4)
    with pytest.raises(ValueError, match=f"^layer_norm: out overlaps {given}$"):
        fastnorm.layer_norm(x, 4, **kwargs)
    assert not memory.any()
