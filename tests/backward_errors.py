# backward_errors.py - how far gradients may be from the exact ones.
# SPDX-License-Identifier: MIT
"""The measure of error that the bounds of gradients are in, and those bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from backward_cases import EPS, Array, Case, Values

from fastnorm import reference

# What is promised of gradients: of that of the input relative to the largest of the
# terms that it is the difference of, within what shares its statistics; of those of
# parameters to the sum of the magnitudes of g * max(1, |x_hat|), or for weight norm of
# g * x_hat: what is promised of x_hat itself, times g, added up.
BOUND = {np.dtype("f4"): 8e-7, np.dtype("f8"): 2e-15}


def units(case: Case, grad: Array, values: Values, exact: Values) -> Values:
    """The unit of errors for each gradient, that broadcasts with it."""
    g, x = np.asarray(grad, "f8"), np.asarray(values[case.first], "f8")
    found: Values = {}
    if case.axes:
        found[case.first] = _unit_of_input(case, g, x, values)
    else:
        found[case.first] = np.abs(case.view(exact[case.first]))
    others = tuple(i for i in range(g.ndim) if i not in case.along)
    plain: Values = {case.first: np.asarray(values[case.first], np.longdouble)}
    if case.op == "weight_norm":
        plain["g"] = np.ones(case.shapes["g"])
    for name in exact.keys() - {case.first}:
        factor = np.ones_like(x)
        if name != "bias":
            factor = np.maximum(1, np.abs(case.forward(reference, plain)))
        if case.op == "weight_norm":
            factor = np.abs(case.forward(reference, plain))
        found[name] = np.sum(np.abs(g) * factor, axis=others).reshape(exact[name].shape)
    return found


def _unit_of_input(case: Case, g: Array, x: Array, values: Values) -> Array:
    wide = np.longdouble
    gradient = case.view(np.broadcast_to(g * case.gain(values), g.shape)).astype(wide)
    x, axes = case.view(x).astype(wide), case.axes
    mean = np.mean if case.kind in ("centred", "rms") else np.sum
    if case.kind == "centred":
        x = x - x.mean(axes, keepdims=True)
        x = x - x.mean(axes, keepdims=True)
    square = mean(np.square(x), axis=axes, keepdims=True)
    if case.kind in ("centred", "rms"):
        square = square + wide(EPS)
    rstd = 1 / np.sqrt(square)
    x_hat = x * rstd
    along = mean(gradient * x_hat, axis=axes, keepdims=True)
    if case.kind == "scale":
        rstd, along = wide(1) / 100, 0 * along
    terms = [rstd * gradient, rstd * x_hat * along]
    if case.kind == "centred":
        terms.append(rstd * gradient.mean(axes, keepdims=True))
    largest = [np.max(np.abs(t), axis=axes, keepdims=True, initial=0) for t in terms]
    unit: Array = np.maximum.reduce(np.broadcast_arrays(*largest))
    return unit


def assert_gradients(
    case: Case, found: Values, grad: Array, values: Values, **more: Any
) -> None:
    """Every gradient within the promised bound; those of 16 bits after one rounding."""
    exact = case.backward(reference, grad, values, **more)
    total = float(np.sum(np.abs(np.asarray(grad, "f8"))))
    assert found.keys() == exact.keys()
    work = np.dtype("f8" if values[case.first].dtype == np.float64 else "f4")
    for name, unit in units(case, grad, values, exact).items():
        view = case.view if name == case.first else np.asarray
        y, wanted = view(found[name].astype("f8")), view(exact[name])
        assert np.all(np.isfinite(wanted)), "not finite: a bad test"
        # A few subnormals more: with numbers near the ends of the range rstd is one.
        allowed = BOUND[work] * unit + 4 * np.finfo(work).smallest_subnormal
        if name != case.first:
            # As much as a subnormal in x_hat, which is up to 1 / sqrt(eps) times x.
            allowed = allowed + 320 * total * np.finfo(work).smallest_subnormal
        elif values[name].dtype.itemsize == 2:
            allowed = allowed + _half_unit(wanted, values[name].dtype)
        wrong = ~(np.abs(y - wanted) <= allowed)
        assert not np.any(wrong), (
            f"{name}: {np.max(np.abs(y - wanted) / np.maximum(unit, 1e-300)):.3g} of "
            f"the unit where {BOUND[work]:.3g} is promised"
        )


def _half_unit(exact: Array, dtype: np.dtype[Any]) -> Array:
    bits, least = (11, -14) if dtype == np.float16 else (8, -126)
    _, exponent = np.frexp(exact)
    half: Array = np.ldexp(0.5, np.maximum(exponent, least + 1) - bits)
    return half
