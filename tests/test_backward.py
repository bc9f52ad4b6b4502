# test_backward.py - the compiled gradients against the reference and torch.
# SPDX-License-Identifier: MIT
"""Every norm's gradients: values, what is asked for, types, and the same bits."""

from __future__ import annotations

import doctest
import inspect
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
    renorm,
    rms,
    weight,
)
from backward_errors import assert_gradients
from oracle import same_bits, shifted

import fastnorm
from fastnorm import Gradients, reference

FUNCTIONS = [name for name in fastnorm.__all__ if name.endswith("_backward")]
WITH_STATISTICS = [name for name, case in CASES.items() if case.statistics is not None]

# Long enough for several vectors, blocks, chunks and threads.
LONG: dict[str, Case] = {
    "layer": layer((37, 1031), (1,)),
    "layer of a middle axis": layer((3, 65, 131), (1,)),
    "layer of few": layer((1000, 5), (1,)),
    "rms": rms((19, 2050), (1,)),
    "batch": batch((5, 17, 13, 11)),
    "batch of long channels": batch((2, 3, 9001)),
    "batch table": batch((513, 70)),
    "batch table of few": batch((3000, 3)),
    "batch channels last": batch((4, 9, 8, 33), -1),
    "batch inference": batch((5, 17, 13, 11), training=False),
    "batch inference table": batch((513, 70), training=False),
    "renorm": renorm((5, 17, 143)),
    "group": group((3, 32, 7, 9), 8),
    "group channels last": group((3, 7, 9, 32), 8, -1),
    "instance": instance((3, 17, 19, 23)),
    "instance channels last": instance((3, 19, 23, 17), -1),
    "instance stored": instance((3, 17, 19, 23), stored=True),
    "l2": l2((37, 1031), (1,)),
    "weight": weight((65, 33, 9), 0),
    "weight along the last": weight((65, 129), -1),
    "weight of everything": weight((65, 1029), None),
}
every_long = pytest.mark.parametrize("name", LONG)


def test_all_norms_have_them() -> None:
    assert sorted({f"{case.op}_backward" for case in CASES.values()}) == FUNCTIONS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_twins_have_the_same_signature(name: str) -> None:
    twin, compiled = (
        [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
        for f in (getattr(reference, name), getattr(fastnorm, name))
    )
    assert twin == compiled


@every_case
@pytest.mark.usefixtures("isa")
def test_small_shapes(name: str, dtype: str) -> None:
    case = CASES[name]
    grad, values = case.grad(dtype), case.values(dtype)
    found = case.backward(fastnorm, grad, values)
    assert_gradients(case, found, grad, values)
    for key, array in found.items():
        assert array.dtype == dtype and array.shape == case.shapes.get(key, array.shape)


@every_long
@pytest.mark.usefixtures("isa")
def test_long_shapes(name: str, dtype: str) -> None:
    case = LONG[name]
    grad, values = case.grad(dtype), case.values(dtype)
    assert_gradients(case, case.backward(fastnorm, grad, values), grad, values)


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_with_the_statistics_of_the_forward(name: str, dtype: str) -> None:
    case = CASES[name]
    grad, values = case.grad(dtype), case.values(dtype)
    assert case.statistics is not None
    stats = case.statistics(fastnorm, values)
    found = case.backward(fastnorm, grad, values, **stats)
    assert_gradients(case, found, grad, values)
    # They are used: with another rstd the gradient of the input is another.
    other = case.backward(
        fastnorm, grad, values, **{**stats, "rstd": stats["rstd"] * 2}
    )
    assert not np.allclose(other[case.first], found[case.first], rtol=0.1, atol=0)


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_statistics_of_sixteen_bits_are_widened(name: str) -> None:
    case = CASES[name]
    grad, values = case.grad("f4"), case.values("f4")
    assert case.statistics is not None
    short = {k: v.astype("f2") for k, v in case.statistics(fastnorm, values).items()}
    wide = {k: v.astype("f4") for k, v in short.items()}
    found = case.backward(fastnorm, grad, values, **short)
    for key, array in case.backward(fastnorm, grad, values, **wide).items():
        assert same_bits(found[key], array)


@pytest.mark.parametrize("name", [k for k, v in CASES.items() if v.torch is not None])
def test_against_autograd(name: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    case = CASES[name]
    assert case.torch is not None
    grad, values = case.grad(dtype), case.values(dtype)
    tensors = {k: torch.tensor(v, requires_grad=True) for k, v in values.items()}
    case.torch(torch, tensors).backward(torch.tensor(grad))
    found = case.backward(fastnorm, grad, values)
    for key, tensor in tensors.items():
        expected = tensor.grad.numpy()
        bound = 1e-5 if dtype == "float32" else 1e-13
        scale = max(1.0, float(np.max(np.abs(expected))))
        np.testing.assert_allclose(found[key], expected, rtol=0, atol=bound * scale)


@every_case
def test_only_what_is_asked_for(name: str) -> None:
    case = CASES[name]
    grad, values = case.grad("f4"), case.values("f4")
    every = case.backward(fastnorm, grad, values)
    if case.op == "l2_norm":
        assert isinstance(case.call(fastnorm, grad, values), np.ndarray)
        return
    result = case.call(fastnorm, grad, values)
    assert isinstance(result, tuple if case.op == "weight_norm" else Gradients)
    for key, array in every.items():
        only = case.backward(fastnorm, grad, values, needs=(key,))
        assert list(only) == [key]
        assert same_bits(only[key], array)
    assert case.backward(fastnorm, grad, values, needs=()) == {}
    pairs = case.backward(fastnorm, grad, values, needs=list(every)[::-1])
    assert pairs.keys() == every.keys()


# ---- The same bits ------------------------------------------------------------------


def bits(case: Case, found: dict[str, Any]) -> list[bytes]:
    return [found[name].tobytes() for name in case.names if name in found]


@every_long
def test_the_same_bits_on_every_isa_and_for_every_number_of_threads(
    name: str, dtype: str
) -> None:
    case = LONG[name]
    grad, values = case.grad(dtype), case.values(dtype)
    expected = None
    for isa in fastnorm.isas():
        fastnorm.set_isa(isa)
        for threads in (1, 2, 7):
            found = case.backward(fastnorm, grad, values, num_threads=threads)
            expected = expected or bits(case, found)
            assert bits(case, found) == expected, (isa, threads)


@every_long
def test_the_same_bits_in_place_and_wherever_arrays_lie(name: str, dtype: str) -> None:
    case = LONG[name]
    grad, values = case.grad(dtype), case.values(dtype)
    expected = bits(case, case.backward(fastnorm, grad, values))
    for moved in (1, 3, 8):
        apart = {key: shifted(array, moved) for key, array in values.items()}
        out = shifted(grad, moved + 2)
        found = case.backward(fastnorm, shifted(grad, moved + 1), apart, out=out)
        assert found[case.names[0]] is out
        assert bits(case, found) == expected, moved
    for target in ("grad", "input"):
        given = {key: array.copy() for key, array in values.items()}
        g = grad.copy()
        out = g if target == "grad" else given[case.first]
        found = case.backward(fastnorm, g, given, out=out)
        assert found[case.names[0]] is out
        assert bits(case, found) == expected, target


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_has_its_bits_in_any_batch(dtype: str) -> None:
    case = layer((37, 1031), (1,))
    grad, values = case.grad(dtype), case.values(dtype)
    w = values["weight"]
    every = fastnorm.layer_norm_backward(grad, values["input"], 1031, w).input
    for i in (0, 17, 36):
        alone = fastnorm.layer_norm_backward(
            grad[i : i + 1], values["input"][i : i + 1], 1031, w
        )
        assert same_bits(alone.input[0], every[i])


# ---- Types --------------------------------------------------------------------------


def narrow(kind: str, array: Any) -> Any:
    if kind == "bfloat16":
        return array.astype(pytest.importorskip("ml_dtypes").bfloat16)
    return array.astype(kind)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("parameters", ["float32", "the same"])
@pytest.mark.parametrize("name", [*CASES, "long layer", "long batch", "long group"])
def test_sixteen_bits(name: str, parameters: str, kind: str) -> None:
    case = LONG[name[5:]] if name.startswith("long ") else CASES[name]
    grad, values = narrow(kind, case.grad()), case.values("float32")
    for key, array in values.items():
        if key == case.first or parameters == "the same":
            values[key] = narrow(kind, array)
    wide = {key: array.astype("f4") for key, array in values.items()}
    found = case.backward(fastnorm, grad, values)
    expected = case.backward(fastnorm, grad.astype("f4"), wide)
    assert found.keys() == expected.keys()
    for key, array in found.items():
        rounded = expected[key].astype(grad.dtype if key == case.names[0] else "f4")
        assert same_bits(array, rounded), key


@pytest.mark.parametrize("name", ["layer", "batch", "group", "weight", "l2"])
def test_types_that_differ_are_widened(name: str) -> None:
    case = CASES[name]
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kinds = ["float16", ml_dtypes.bfloat16, "float32"]
    for first in kinds:
        for second in kinds:
            values = case.values("float32")
            values[case.first] = values[case.first].astype(first)
            grad = case.grad("float32").astype(second)
            wide = {**values, case.first: values[case.first].astype("f4")}
            expected = case.backward(fastnorm, grad.astype("f4"), wide)
            found = case.backward(fastnorm, grad, values)
            assert same_bits(
                found[case.names[0]], expected[case.names[0]].astype(first)
            )
            out = np.empty(case.shape, first)
            assert case.backward(fastnorm, grad, values, out=out)[case.names[0]] is out
            assert same_bits(out, found[case.names[0]])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_examples(name: str) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    function = getattr(fastnorm, name)
    tests = finder.find(function, name, globs={})
    assert tests and tests[0].examples
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0
