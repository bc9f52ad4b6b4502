# test_jit_fuse_errors.py - what cannot be fused, in which words.
# SPDX-License-Identifier: MIT
"""Errors name the function or the array and its types; nothing is written."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from oracle import random, same_bits

import fastnorm

numba = pytest.importorskip("numba")

from fastnorm.jit import fuse  # noqa: E402


@numba.njit
def before(v, low):
    return max(v, low)


@numba.njit
def after(v, gate):
    return v * gate


def open_file(v: float) -> Any:
    return open(v)  # noqa: PTH123


def on_several_lines(*values: float) -> float:
    return values[0]


def by_keyword(v: float, *, gate: float) -> float:
    return v * gate


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("layer_norm",), TypeError, "a prologue, an epilogue or both are needed"),
        (("softmax", abs), ValueError, "norm is 'softmax', one of layer_norm, r"),
        ((fastnorm.l2_norm, before), ValueError, "l2_norm at 0x"),
        ((None, before), ValueError, "norm is None, one of layer_norm"),
        (("layer_norm", 3), TypeError, "prologue is 3 (int), a Python function"),
        (("layer_norm", None, math.exp), TypeError, "epilogue is <built-in function e"),
        (("layer_norm", np.tanh), TypeError, "prologue is <ufunc 'tanh'> (ufunc), a"),
        (("layer_norm", str), TypeError, "prologue is <class 'str'> (type), a Python"),
        (("layer_norm", functools.partial(before, low=0)), TypeError, "(partial), a P"),
        (("layer_norm", lambda: 1), TypeError, "'<lambda>' must take the element"),
        (("layer_norm", on_several_lines), TypeError, "'on_several_lines' must take"),
        (("layer_norm", None, by_keyword), TypeError, "epilogue 'by_keyword' must"),
        (
            ("batch_norm", lambda v, momentum: v * momentum),
            ValueError,
            "prologue '<lambda>' has a parameter 'momentum', which is one of",
        ),
    ],
)
def test_what_is_no_function_of_numbers_is_refused(
    arguments: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=f"^fuse: .*{re.escape(text)}"):
        fuse(*arguments)


X = random((4, 6))


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (open_file, "'open_file' cannot be compiled for (float32): "),
        (lambda v: v.real.imag.none, "'<lambda>' cannot be compiled for (float32): "),
        (lambda v: v + 1j, "'<lambda>' gives complex128 for (float32), a real number"),
        (lambda v: (v, v), "'<lambda>' gives UniTuple(float32 x 2) for (float32)"),
        (lambda v: None, "'<lambda>' gives none for (float32), a real number"),  # noqa: ARG005
        (
            numba.njit("int64(unicode_type)")(lambda v: len(v)),
            "'<lambda>' cannot be compiled for (float32): none of its signatures",
        ),
    ],
)
@pytest.mark.parametrize("place", ["prologue", "epilogue"])
def test_what_cannot_be_compiled_is_named(
    function: Callable[..., Any], text: str, place: str
) -> None:
    out = X.copy()
    fused = fuse("layer_norm", **{place: function})
    for _ in range(2):  # what failed is not taken for checked
        with pytest.raises(TypeError, match=f"^fuse: {place} {re.escape(text)}"):
            fused(X, 6, out=out)
    assert same_bits(out, X)


def test_the_types_of_the_call_are_named() -> None:
    fused = fuse("rms_norm", epilogue=lambda v, gate: v @ gate)
    halves = np.ones(6, np.float16)
    with pytest.raises(TypeError, match=r"'<lambda>' cannot .* for \(float32, int64\)"):
        fused(X, 6, gate=3)
    with pytest.raises(TypeError, match=r"for \(float64, float32\)"):
        fused(X.astype(np.float64), 6, gate=halves)


GATED = fuse("layer_norm", epilogue=after)
CHANNELS = fuse("batch_norm", epilogue=after)
V = np.ones(6, np.float32)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, TypeError, "fuse(layer_norm): gate must be given by name"),
        ({"gate": 1, "gates": 2}, TypeError, "layer_norm() got an unexpected keyword"),
        ({"gate": 1, "low": 2}, TypeError, "layer_norm() got an unexpected keyword"),
        ({"gate": X[:, :5]}, ValueError, "gate has shape (4, 5), which does not"),
        ({"gate": X[None]}, ValueError, "gate has shape (1, 4, 6), which does not br"),
        ({"gate": V[:4]}, ValueError, "gate has shape (4,), which does not broadcast"),
        ({"gate": "1"}, TypeError, "gate has dtype <U1, numbers are needed"),
        ({"gate": None}, TypeError, "gate has dtype object, numbers are needed"),
        ({"gate": 1j}, TypeError, "gate has dtype complex128, numbers are needed"),
        ({"gate": V.astype(">f4")}, TypeError, "gate has dtype >f4, a native one"),
        ({"gate": V.astype("g")}, TypeError, "gate has dtype float"),
        ({"gate": np.ma.masked_array(V)}, TypeError, "gate is a masked array"),
        ({"gate": [[1.0], [1.0, 2.0]]}, ValueError, "gate is not an array: "),
        ({"gate": V, "eps": -1}, ValueError, "layer_norm: eps is -1.0"),
        ({"gate": V, "out": X[:2]}, ValueError, "layer_norm: out has shape (2, 6)"),
        ({"gate": V, "activation": "relu"}, NotImplementedError, "has no activation"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    out = np.full(X.shape, 7, np.float32)
    with pytest.raises(error, match=re.escape(text)) as found:
        GATED(X, 6, **{"out": out, **options})
    assert "\n" not in str(found.value)
    assert np.all(out == 7)


def test_one_value_for_each_channel_and_no_other_number() -> None:
    with pytest.raises(ValueError, match=r"gate has 4 values, one per channel \(6\)"):
        CHANNELS(X, V, V, gate=V[:4])
    with pytest.raises(ValueError, match=r"gate has 6 values, one per channel \(4\)"):
        CHANNELS(X, V[:4], V[:4], gate=V, channel_axis=np.int64(0))
    with pytest.raises(ValueError, match="^batch_norm: channel_axis is 2, input has 2"):
        CHANNELS(X, V, V, gate=1, channel_axis=2)
    with pytest.raises(TypeError, match="^batch_norm: channel_axis is float"):
        CHANNELS(X, V, V, gate=1, channel_axis=1.0)


def test_8_bit_input_is_refused_where_the_prologue_has_a_pass_of_its_own() -> None:
    x = np.ones((2, 3, 4), np.uint8)
    doubled = fuse(fastnorm.layer_norm, prologue=lambda v: v * 2)
    with pytest.raises(NotImplementedError, match="8-bit"):
        doubled(x, None, axis=1)
