# SPDX-License-Identifier: MIT
"""running_moments_cases.py - shapes, and what is promised of RunningMoments."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnorm import RunningMoments, reference

# What the documentation promises: of the variance, relatively; of the mean, relative to
# itself and to the deviation.
VAR, MEAN = 1e-14, 1e-15

SHAPES = [
    ((1000, 7), 0), ((2100, 3), 0), ((17, 300), 0), ((90, 513), 0), ((3, 700), -1),
    ((50, 40), 1), ((3, 9000), 1), ((6, 7, 8), 1), ((4, 5, 6, 7), (0, 2, 3)),
    ((4, 5, 6, 7), (0, 1, 2)), ((4, 5, 6, 7), (1, 3)), ((20, 5, 49), (0, -1)),
    ((2, 3, 3000), (0, 2)), ((3000,), 0), ((7, 11), None), ((1, 1), 0), ((1, 300), 0),
    ((300, 1), 0), ((2, 0, 3), 1), ((0, 3), 0), ((3, 0), 0),
]  # fmt: skip


class Exact:
    """What a reference.RunningMoments says now, each number computed once."""

    def __init__(self, moments: reference.RunningMoments) -> None:
        self.count, self.weight = moments.count, moments.weight
        self.mean, self.min, self.max = moments.mean, moments.min, moments.max
        self.vars = moments.var(0), moments.var(1)
        self.deviation = moments.std()

    def var(self, ddof: int = 0) -> Any:
        return self.vars[ddof]

    def std(self) -> Any:
        return self.deviation


def assert_exact(found: Any, exact: Any, var: float = VAR) -> None:
    """All of `found` is within the bounds of a reference.RunningMoments, or Exact."""
    exact = exact if isinstance(exact, Exact) else Exact(exact)
    assert np.array_equal(found.count, exact.count)
    assert np.allclose(found.weight, exact.weight, rtol=1e-15, atol=0)
    for name in ("min", "max"):
        mine, theirs = getattr(found, name), getattr(exact, name)
        assert np.array_equal(mine, theirs, equal_nan=True), name
    allowed = MEAN * (np.abs(exact.mean) + exact.std()) + 5e-324
    finite = np.isfinite(exact.mean) & np.isfinite(exact.var())
    off = np.abs(np.subtract(found.mean, exact.mean, where=finite, out=None))
    assert np.all((off <= allowed) | ~finite)
    assert np.array_equal(
        np.where(finite, 0, found.mean), np.where(finite, 0, exact.mean), equal_nan=True
    )
    for ddof in (0, 1):
        mine, theirs = found.var(ddof), exact.var(ddof)
        close = np.abs(np.subtract(mine, theirs)) <= var * np.abs(theirs) + 1e-300
        assert np.all(close | (mine == theirs) | (np.isnan(mine) & np.isnan(theirs)))
        assert np.allclose(found.std(ddof), np.sqrt(mine), rtol=2e-16, equal_nan=True)


def state_bits(m: RunningMoments) -> bytes:
    return b"".join(np.asarray(m.to_dict()[n]).tobytes() for n in STATE)


STATE = ["count", "weight", "mean", "mean_low", "m2", "m2_low", "min", "max"]
