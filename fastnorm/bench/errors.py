"""How far results are from the exact ones, on the bench data and on hostile input.

SPDX-License-Identifier: MIT

The exact results are those of fastnorm.reference. An error is relative to
max(1, |exact|), or in the unit of exact.error_unit; a value that is not finite where
the exact one is counts as inf.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .cases import GROUPS, Array, Case, Data, compiled, make_data
from .engine import Engine
from .exact import exact_results


def largest_error(
    got: tuple[Array, ...],
    exact: tuple[Array, ...],
    unit: Array | None = None,
) -> float:
    """The largest of |got - exact| / max(1, |exact|), or / `unit`, over all elements.

    inf if a value is not finite where the exact one, rounded to the type of `got`, is.
    """
    return max(
        (_array_error(g, e, unit) for g, e in zip(got, exact, strict=True)), default=0.0
    )


def _array_error(got: Array, exact: Array, unit: Array | None) -> float:
    if got.shape != exact.shape:
        return math.inf
    if got.size == 0:
        return 0.0
    got, exact = np.atleast_1d(got), np.atleast_1d(exact)
    with np.errstate(all="ignore"):
        error = np.abs(got.astype(np.float64, copy=False) - exact)
        error /= np.maximum(1, np.abs(exact)) if unit is None else unit
    rounded_away = ~np.isfinite(error)
    if rounded_away.any():
        with np.errstate(all="ignore"):
            wanted = exact[rounded_away].astype(got.dtype)
        if not np.array_equal(got[rounded_away], wanted, equal_nan=True):
            return math.inf
        error[rounded_away] = 0
    return float(error.max())


_OPS = (
    "layer_norm",
    "rms_norm",
    "batch_norm_training",
    "group_norm",
    "instance_norm",
    "moments",
)
_ROWS, _COLUMNS, _LONG = 16, 4096, 1 << 22


@dataclass(frozen=True)
class Hostile:
    """Input that is easy to get wrong: standard normal values put somewhere else."""

    text: str
    offset: float = 0.0
    scale: float = 1.0
    signs: bool = False  # only the signs of the values count
    long: bool = False  # one row of four million


HOSTILE: tuple[Hostile, ...] = (
    Hostile("N(0,1)"),
    Hostile("1e3 + N(0,1)", 1e3),
    Hostile("1e4 + N(0,1)", 1e4),
    Hostile("1e6 + 10 N(0,1)", 1e6, 10.0),
    Hostile("constant 3.3", 3.3, 0.0),
    Hostile("1e20 N(0,1)", 0.0, 1e20),
    Hostile("1e-30 N(0,1)", 0.0, 1e-30),
    Hostile("+-3e38", 0.0, 3e38, signs=True),
    Hostile("100 + N(0,1), 4M values", 100.0, long=True),
)


@dataclass
class ErrorRow:
    """The largest error of each engine for one operation on one kind of input."""

    op: str
    input: str
    errors: dict[str, float]


def hostile_cases(pattern: str | None = None) -> list[tuple[Case, Hostile]]:
    """Every operation on every kind of input, 4096 values to a row, channel or group.

    Raises
    ------
    ValueError
        If `pattern` is not a regular expression, or is found in no "op: input".
    """
    wanted = compiled("" if pattern is None else pattern)
    pairs = [
        (_hostile_case(op, hostile), hostile)
        for op in _OPS
        for hostile in HOSTILE
        # 32 groups of four million would take minutes, and show nothing new
        if not (op == "group_norm" and hostile.long)
        and wanted.search(f"{op}: {hostile.text}")
    ]
    if not pairs:
        raise ValueError(
            f"bench: --case {pattern!r} matches no row of the accuracy table,"
            f" which are named like {f'{_OPS[0]}: {HOSTILE[0].text}'!r}"
        )
    return pairs


def _hostile_case(op: str, hostile: Hostile) -> Case:
    rows, columns = (1, _LONG) if hostile.long else (_ROWS, _COLUMNS)
    if op == "batch_norm_training":
        return Case(op, (4, rows, 1, columns // 4), "NCHW", out=False)
    if op == "instance_norm":
        return Case(op, (1, rows, 1, columns), "NCHW", out=False)
    if op == "group_norm":
        return Case(op, (1, 2 * GROUPS, 1, columns // 2), "NCHW", out=False)
    if op == "moments":
        return Case(op, (columns, rows), "columns", out=False)
    return Case(op, (rows, columns), "rows", out=False)


def hostile_data(case: Case, hostile: Hostile, dtype: str) -> Data:
    """The arrays of such a case."""
    normal = np.random.default_rng(7).standard_normal(case.shape)
    x = np.sign(normal) if hostile.signs else normal
    x = (hostile.offset + hostile.scale * x).astype(dtype)
    return make_data(case, dtype, 1, x)


def run_accuracy(
    pairs: list[tuple[Case, Hostile]], engines: list[Engine], dtype: str
) -> Iterator[ErrorRow]:
    """The error of every engine that has the operation, row after row."""
    for case, hostile in pairs:
        data = hostile_data(case, hostile, dtype)
        exact = exact_results(case, data)
        errors = {}
        for engine in engines:
            job = engine.prepare(case, data)
            if job is None:
                continue
            # peers warn of the overflow that the table is about to show
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                errors[engine.name] = largest_error(job.read(job.call()), exact)
        yield ErrorRow(case.op, hostile.text, errors)
