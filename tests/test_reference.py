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

NAMES = ["layer_norm", "rms_norm", "batch_norm", "moments", "merge_moments"]


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
