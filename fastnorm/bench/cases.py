"""The table of benchmark cases: one row per piece of work, its targets beside it.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

EPS = 1e-5
MOMENTUM = 0.1


@dataclass(frozen=True)
class Bars:
    """Targets of a case for float32 on one thread; None where there is none."""

    copy: float | None = None  # at most this many times np.copyto
    microseconds: float | None = None  # at most this long in all
    over: Mapping[str, float] = field(default_factory=dict)  # times faster than these


@dataclass(frozen=True)
class Case:
    """One piece of work.

    `shape` is the shape in memory: NHWC shapes end with the channels. `layout` is
    "rows" (norm over the last axis), "NCHW", "NHWC", "columns" (moments over axis 0)
    or "flat" (moments of everything). `out` tells whether results go to an array that
    the caller keeps, or to a new one. `quick` rows are those of `--quick`.
    """

    op: str
    shape: tuple[int, ...]
    layout: str
    out: bool
    bars: Bars = Bars()
    quick: bool = True

    @property
    def shape_text(self) -> str:
        """The shape as it is usually written: images by their N, C, H, W."""
        shape = self.shape
        if self.layout == "NHWC":
            shape = (shape[0], shape[3], shape[1], shape[2])
        return "x".join(map(str, shape))

    @property
    def name(self) -> str:
        """What `--case` is matched against, such as "layer_norm 1x768 rows out"."""
        return (
            f"{self.op} {self.shape_text} {self.layout} {'out' if self.out else 'new'}"
        )

    @property
    def channel_axis(self) -> int:
        """The axis that holds features or channels."""
        return 1 if self.layout == "NCHW" else len(self.shape) - 1

    @property
    def channels(self) -> int:
        """How many values each parameter has."""
        if self.layout == "flat":
            return 1
        return self.shape[self.channel_axis]


@dataclass(frozen=True)
class Data:
    """The arrays of a case. Engines only read them; what they write is their own."""

    x: Array
    weight: Array
    bias: Array
    running_mean: Array
    running_var: Array
    threads: int

    def output(self) -> Array:
        """A result array whose pages the system has already mapped."""
        return np.full_like(self.x, 0.5)


def make_data(case: Case, dtype: str, threads: int, x: Array | None = None) -> Data:
    """Standard normal input (or `x`), and parameters that are neither one nor zero."""
    rng = np.random.default_rng(20)
    kind = np.dtype(dtype)
    if x is None:
        x = rng.standard_normal(case.shape, dtype=kind.type)
    channels = case.channels
    return Data(
        x=x,
        weight=rng.uniform(0.5, 1.5, channels).astype(kind),
        bias=rng.standard_normal(channels, dtype=kind.type),
        running_mean=rng.standard_normal(channels, dtype=kind.type),
        running_var=rng.uniform(0.5, 1.5, channels).astype(kind),
        threads=threads,
    )


def _pair(
    op: str,
    shape: tuple[int, ...],
    layout: str,
    copy: float | None,
    *,
    microseconds: float | None = None,
    over: Mapping[str, float] | None = None,
    quick: bool = True,
) -> list[Case]:
    """The case with out=, which the bars are for, and the allocating one."""
    bars = Bars(copy, microseconds, over or {})
    small = math.prod(shape) <= 1 << 19
    return [
        Case(op, shape, layout, True, bars, quick),
        Case(op, shape, layout, False, Bars(), quick and small),
    ]


def _images(
    op: str, shape: tuple[int, int, int, int], first: float, last: float
) -> list[Case]:
    n, c, h, w = shape
    return [
        *_pair(op, shape, "NCHW", first),
        *_pair(op, (n, h, w, c), "NHWC", last),
    ]


CASES: tuple[Case, ...] = (
    *_pair(
        "layer_norm",
        (1, 768),
        "rows",
        None,
        microseconds=1.0,
        over={"torch": 8.0},
    ),
    *_pair("layer_norm", (16, 768), "rows", None),
    *_pair("layer_norm", (128, 768), "rows", 1.8),
    *_pair("layer_norm", (512, 1024), "rows", 1.2),
    *_pair("layer_norm", (2048, 4096), "rows", 1.2),
    *_pair("layer_norm", (65536, 64), "rows", 1.2),
    *_pair("layer_norm", (1024, 16), "rows", 6.0),
    *_pair("rms_norm", (1, 768), "rows", None),
    *_pair("rms_norm", (128, 768), "rows", 1.8),
    *_pair("rms_norm", (512, 1024), "rows", 1.2),
    *_pair("rms_norm", (2048, 4096), "rows", 1.2),
    *_images("batch_norm", (8, 64, 56, 56), 1.15, 1.15),
    *_images("batch_norm", (32, 256, 14, 14), 1.15, 1.15),
    *_images("batch_norm", (1, 2048, 7, 7), 1.8, 1.8),
    *_images("batch_norm", (64, 3, 224, 224), 1.15, 1.15),
    *_images("batch_norm_training", (8, 64, 56, 56), 1.4, 2.0),
    *_images("batch_norm_training", (32, 256, 14, 14), 1.4, 2.0),
    *_images("batch_norm_training", (1, 2048, 7, 7), 4.0, 4.0),
    *_images("batch_norm_training", (64, 3, 224, 224), 1.7, 2.0),
    Case("moments", (1_000_000, 64), "columns", False, quick=False),
    Case("moments", (100_000, 64), "columns", False),
    Case("moments", (1 << 24,), "flat", False),
)


def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression of `--case`, or a ValueError that says what is wrong."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"bench: --case {pattern!r} is not a regular expression: {error}"
        ) from None


def select_cases(pattern: str | None, quick: bool) -> list[Case]:
    """The rows whose name the regular expression is found in, `None` for all.

    A pattern looks at all rows, also those that `--quick` leaves out.

    Raises
    ------
    ValueError
        If the pattern is not a regular expression, or nothing matches.
    """
    if pattern is None:
        return [case for case in CASES if case.quick or not quick]
    wanted = compiled(pattern)
    chosen = [case for case in CASES if wanted.search(case.name)]
    if not chosen:
        raise ValueError(
            f"bench: --case {pattern!r} matches none of the {len(CASES)} cases,"
            f" which are named like {CASES[0].name!r}"
        )
    return chosen
