"""The table of benchmark cases: one row per piece of work, its targets beside it.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

EPS = 1e-5
L2_EPS = 1e-12
ORDER = {"l2_norm": 2, "l1_norm": 1}  # p of an Lp norm
MOMENTUM = 0.1
GROUPS = 32
INT8_SCALE = 0.1  # of the cases with a given scale: 127 steps hold every result

# what exists for float32 runs only: the case itself says what the elements are
_OWN_TYPES = (
    "layer_norm_16bit", "layer_norm_int8", "normalize_image", "running_moments_bytes",
)  # fmt: skip
_NORMS = (
    "layer_norm", "rms_norm", "l2_norm", "batch_norm", "batch_renorm", "group_norm",
    "instance_norm", "weight_norm",
)  # fmt: skip
GRADIENTS = tuple(f"{norm}_backward" for norm in _NORMS)
_ERROR_UNITS = {"layer_norm_16bit": "ulp", "layer_norm_int8": "step"}
_SUBNORMAL = 1e-39  # times N(0,1): below the least normal float32, 1.2e-38


@dataclass(frozen=True)
class Bars:
    """Targets of a case for float32 on one thread; None where there is none."""

    copy: float | None = None  # at most this many times np.copyto
    microseconds: float | None = None  # at most this long in all
    over: Mapping[str, float] = field(default_factory=dict)  # times faster than these
    plain: float | None = None  # at most this many times the case's plain one


@dataclass(frozen=True)
class Case:
    """One piece of work.

    `shape` is the shape in memory: NHWC shapes end with the channels. `layout` is
    "rows" (norm over the last axis), "NCHW", "NHWC", "columns" (moments over axis 0)
    or "flat" (moments of everything). `out` tells whether results go to an array that
    the caller keeps, or to a new one. `quick` rows are those of `--quick`.

    `detail` is what `op` leaves open: an activation, a type, where a scale comes from.
    `plain` is the case without it, which fastnorm runs in the same turns, so that the
    time over that of the plain case can be told, and held to `bars.plain`.
    """

    op: str
    shape: tuple[int, ...]
    layout: str
    out: bool
    bars: Bars = Bars()
    quick: bool = True
    detail: str = ""
    plain: Case | None = None

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
        output = "out" if self.out else "new"
        words = (self.op, self.shape_text, self.layout, output, self.detail)
        return " ".join(word for word in words if word)

    @property
    def error_unit(self) -> str:
        """The "ulp" or "step" of the stored type; "" where errors are relative."""
        return _ERROR_UNITS.get(self.op, "")

    def runs(self, dtype: str) -> bool:
        """Whether there are such arrays in a run for this type, on this machine."""
        if self.op in _OWN_TYPES and dtype != "float32":
            return False
        return self.detail != "bfloat16" or bool(importlib.util.find_spec("ml_dtypes"))

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
    """The arrays of a case. Engines only read them; what they write is their own.

    `other` has the shape of `x`: the residual, what is added after the norm, or the
    gradient of its output.
    """

    x: Array
    weight: Array
    bias: Array
    running_mean: Array
    running_var: Array
    threads: int
    other: Array

    def output(self, dtype: str | None = None) -> Array:
        """A result array whose pages the system has already mapped."""
        return np.full_like(self.x, 1 if dtype == "int8" else 0.5, dtype)


def make_data(case: Case, dtype: str, threads: int, x: Array | None = None) -> Data:
    """Standard normal input (or `x`), and parameters that are neither one nor zero."""
    rng = np.random.default_rng(20)
    drawn = np.dtype(dtype).type
    kind = np.dtype(dtype)
    if case.op == "layer_norm_16bit":
        kind = _sixteen_bits(case.detail)
    if x is None and case.op in ("normalize_image", "running_moments_bytes"):
        x = rng.integers(0, 256, case.shape, np.uint8)
    elif x is None:
        x = rng.standard_normal(case.shape, drawn).astype(kind, copy=False)
        if case.op == "layer_norm_subnormal":
            x *= drawn(_SUBNORMAL)
    channels = case.channels
    weight = rng.uniform(0.5, 1.5, channels)
    bias = rng.standard_normal(channels, drawn)
    running_mean = rng.standard_normal(channels, drawn)
    running_var = rng.uniform(0.5, 1.5, channels)
    two = any(word in case.op for word in ("residual", "_add_", "_backward"))
    return Data(
        x=x,
        weight=weight.astype(kind),
        bias=bias.astype(kind),
        running_mean=running_mean.astype(kind),
        running_var=running_var.astype(kind),
        threads=threads,
        other=rng.standard_normal(case.shape, drawn) if two else x,
    )


def _sixteen_bits(name: Any) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    kind: np.dtype[Any] = np.dtype(name)
    return kind


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
    op: str,
    shape: tuple[int, int, int, int],
    first: float,
    last: float,
    quick: bool = True,
) -> list[Case]:
    n, c, h, w = shape
    return [
        *_pair(op, shape, "NCHW", first, quick=quick),
        *_pair(op, (n, h, w, c), "NHWC", last, quick=quick),
    ]


def _residual(op: str, shape: tuple[int, ...]) -> Case:
    bars = Bars(1.25)
    return Case(f"{op}_residual", shape, "rows", True, bars, shape != (2048, 4096))


def _gradient(op: str, *shape: int, layout: str = "NCHW", quick: bool = True) -> Case:
    """At most twice the time of moving as many bytes, and no slower than torch."""
    bars = Bars(2.0, over={"torch": 1.0})
    return Case(f"{op}_backward", shape, layout, True, bars, quick)


def _beside(
    op: str, plain: Case, most: float | None, detail: str, quick: bool = True
) -> Case:
    """A case that is held to the time of another one, on the same shape."""
    return Case(
        op, plain.shape, plain.layout, True, Bars(plain=most), quick, detail, plain
    )


def _table(op: str, out: bool, bars: Bars) -> list[Case]:
    """A large table, which the bars are for, and a small one."""
    large = Case(op, (1_000_000, 64), "columns", out, bars, quick=False)
    return [large, Case(op, _SMALL_TABLE, "columns", out)]


_SMALL_TABLE = (20_000, 64)
_LARGE = Case("layer_norm", (2048, 4096), "rows", True)
_MIDDLE = Case("layer_norm", (512, 1024), "rows", True)
_RESIDUAL = ((128, 768), (512, 1024), (2048, 4096))
_IMAGE = Bars(1.3, over={"numpy": 12.0, "opencv": 3.0})
_RUNNING = Bars(over={"numpy": 6.0, "sklearn": 12.0})
_BYTES = Bars(over={"numpy": 25.0})

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
    *_pair("layer_norm", (2048, 4096), "rows", 1.2, quick=False),
    *_pair("layer_norm", (65536, 64), "rows", 1.2),
    *_pair("layer_norm", (1024, 16), "rows", 6.0),
    *_pair("rms_norm", (1, 768), "rows", None),
    *_pair("rms_norm", (128, 768), "rows", 1.8),
    *_pair("rms_norm", (512, 1024), "rows", 1.2),
    *_pair("rms_norm", (2048, 4096), "rows", 1.2, quick=False),
    *(_residual(op, shape) for op in ("layer_norm", "rms_norm") for shape in _RESIDUAL),
    _beside("layer_norm_16bit", _MIDDLE, None, "bfloat16"),
    _beside("layer_norm_16bit", _LARGE, 0.65, "bfloat16", quick=False),
    _beside("layer_norm_16bit", _LARGE, 0.65, "float16", quick=False),
    _beside("layer_norm_int8", _MIDDLE, None, "dynamic"),
    _beside("layer_norm_int8", _LARGE, 0.85, "dynamic", quick=False),
    _beside("layer_norm_int8", _LARGE, 0.85, "given", quick=False),
    *(
        _beside("layer_norm_activation", _MIDDLE, 1.5, name, name in ("gelu", "silu"))
        for name in ("relu", "gelu", "gelu_tanh", "silu")
    ),
    _beside("layer_norm_subnormal", _LARGE, None, "kept", quick=False),
    _beside("layer_norm_subnormal", _LARGE, None, "flushed", quick=False),
    _beside("layer_norm_subnormal", _MIDDLE, None, "flushed"),
    *_images("batch_norm", (8, 64, 56, 56), 1.15, 1.15),
    *_images("batch_norm", (32, 256, 14, 14), 1.15, 1.15),
    *_images("batch_norm", (1, 2048, 7, 7), 1.8, 1.8),
    *_images("batch_norm", (64, 3, 224, 224), 1.15, 1.15, quick=False),
    *_images("batch_norm_training", (8, 64, 56, 56), 1.4, 2.0),
    *_images("batch_norm_training", (32, 256, 14, 14), 1.4, 2.0),
    *_images("batch_norm_training", (1, 2048, 7, 7), 4.0, 4.0),
    *_images("batch_norm_training", (64, 3, 224, 224), 1.7, 2.0, quick=False),
    Case("batch_norm_add_relu", (32, 256, 14, 14), "NCHW", True),
    Case("batch_norm_add_relu", (32, 14, 14, 256), "NHWC", True),
    *(
        Case("batch_norm_masked", (32, 256, 196), "NCHW", True, detail=detail)
        for detail in ("lengths", "mask")
    ),
    _gradient("layer_norm", 128, 768, layout="rows"),
    _gradient("layer_norm", 512, 1024, layout="rows"),
    _gradient("layer_norm", 2048, 4096, layout="rows", quick=False),
    _gradient("rms_norm", 512, 1024, layout="rows"),
    _gradient("rms_norm", 2048, 4096, layout="rows", quick=False),
    _gradient("l2_norm", 512, 1024, layout="rows"),
    _gradient("weight_norm", 512, 4608, layout="rows"),
    _gradient("batch_norm", 32, 256, 14, 14),
    _gradient("batch_norm", 32, 14, 14, 256, layout="NHWC"),
    _gradient("batch_norm", 8, 64, 56, 56, quick=False),
    _gradient("group_norm", 32, 256, 14, 14),
    _gradient("group_norm", 32, 14, 14, 256, layout="NHWC", quick=False),
    _gradient("instance_norm", 32, 256, 14, 14),
    _gradient("batch_renorm", 32, 256, 14, 14),
    *_images("group_norm", (8, 64, 56, 56), 1.6, 1.6, quick=False),
    *_images("group_norm", (32, 256, 14, 14), 1.6, 1.6),
    *_images("instance_norm", (8, 64, 56, 56), 1.6, 1.6, quick=False),
    *_images("instance_norm", (32, 256, 14, 14), 1.6, 1.6),
    Case("batch_renorm", (32, 256, 14, 14), "NCHW", True, Bars(1.4)),
    Case("batch_renorm", (32, 14, 14, 256), "NHWC", True, Bars(2.0)),
    Case("weight_norm", (512, 4608), "rows", True, Bars(1.4)),
    Case("normalize_image", (32, 224, 224, 3), "NHWC", True, _IMAGE, True, "to NCHW"),
    Case("normalize_image", (32, 224, 224, 3), "NHWC", False, Bars(), False, "to NCHW"),
    *_pair("l2_norm", (65536, 64), "rows", None),
    *_pair("l2_norm", (2048, 4096), "rows", None, quick=False),
    *_pair("l1_norm", (65536, 64), "rows", None),
    *_pair("l1_norm", (2048, 4096), "rows", None, quick=False),
    Case("moments", (1_000_000, 64), "columns", False, quick=False),
    Case("moments", _SMALL_TABLE, "columns", False),
    Case("moments", (1 << 24,), "flat", False, quick=False),
    Case("moments", (1 << 20,), "flat", False),
    Case("running_moments", (1_000_000, 64), "columns", False, _RUNNING, quick=False),
    Case("running_moments", _SMALL_TABLE, "columns", False),
    Case("running_moments_bytes", (256, 224, 224, 3), "NHWC", False, _BYTES, False),
    Case("running_moments_bytes", (8, 224, 224, 3), "NHWC", False),
    *_table("scaler_fit", False, Bars(over={"sklearn": 12.0})),
    *_table("scaler_transform", True, Bars(1.25, over={"sklearn": 1.0})),
    *_table("scaler_transform", False, Bars(over={"sklearn": 1.0})),
)


def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression of `--case`, or a ValueError that says what is wrong."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"bench: --case {pattern!r} is not a regular expression: {error}"
        ) from None


def select_cases(
    pattern: str | None, quick: bool, dtype: str = "float32"
) -> list[Case]:
    """The rows whose name the regular expression is found in, `None` for all.

    A pattern looks at all rows, also those that `--quick` leaves out. Rows that cannot
    be had in `dtype`, or for want of ml_dtypes, are left out.

    Raises
    ------
    ValueError
        If the pattern is not a regular expression, or nothing is left.
    """
    possible = [case for case in CASES if case.runs(dtype)]
    if pattern is None:
        return [case for case in possible if case.quick or not quick]
    wanted = compiled(pattern)
    chosen = [case for case in possible if wanted.search(case.name)]
    if not chosen:
        raise ValueError(
            f"bench: --case {pattern!r} matches none of the {len(possible)} cases for"
            f" {dtype}, which are named like {possible[0].name!r}"
        )
    return chosen
