# SPDX-License-Identifier: MIT
"""draw_python.py - a call of the Python API drawn from bytes, and what must hold of it.

Used by fuzz_python.py (atheris) and by tests/test_fuzz_python.py (hypothesis).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import fastnorm
from fastnorm import reference

# What a mistaken call may raise; everything else is a finding.
REFUSALS = (
    TypeError,
    ValueError,
    BufferError,
    NotImplementedError,
    MemoryError,
    OverflowError,
)


class Source:
    """Small numbers from bytes; zeros, which mean what is usual, when they run out."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def below(self, n: int) -> int:
        if self.at >= len(self.data):
            return 0
        self.at += 1
        return self.data[self.at - 1] % n

    def one_in(self, n: int) -> bool:
        return self.below(n) == n - 1

    def choose(self, values: Any) -> Any:
        return values[self.below(len(values))]


class Call(NamedTuple):
    """Of fastnorm.<name>; `changes` are the arrays that it may write."""

    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    changes: list[Any]


# ---- Values -----------------------------------------------------------------------

USUAL = ["f4", "f4", "f4", "f8", "f8", "f2"]
OTHER = ["u1", "i1", "i4", "i8", "?", "c8", "O", ">f4", ">f8", "U3", "M8[s]", "V4"]
WRONG: list[Any] = [
    None, "x", -1, 3, 1.5, float("nan"), 2**70, -(2**70), [], [1, "a"], (), {}, b"\0",
    object, True, np.float32(2), np.array(5), np.zeros((0, 3)), ("relu", 1, 2, 3), 1j,
]  # fmt: skip


def shape(s: Source) -> tuple[int, ...]:
    sizes = [2, 3, 4, 1, 5, 7, 40] if not s.one_in(8) else [0, 1, 2]
    found = tuple(s.choose(sizes) for _ in range(s.choose([2, 3, 3, 4, 1, 0])))
    return found if np.prod(found) <= 20000 else found[:2]


def dtype_of(s: Source) -> np.dtype[Any]:
    return np.dtype(str(s.choose(USUAL if not s.one_in(5) else OTHER)))


def contents(s: Source, n: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """An ordinary array of any type, at times with something that is no number."""
    rng = np.random.default_rng(s.below(256))
    values = rng.standard_normal(n) * s.choose([1, 3, 1e-3, 100]) + s.choose([0, 5])
    if values.size and s.one_in(8):
        values.flat[s.below(values.size)] = s.choose([np.nan, np.inf, -np.inf])
    with np.errstate(invalid="ignore", over="ignore"):
        if dtype.kind in "?iu":
            return np.asarray(np.nan_to_num(values) % 100).astype(dtype)
        if dtype.kind in "MV":
            return np.zeros(n, dtype)
        return np.asarray(values).astype(dtype)


def laid_out(s: Source, x: Any) -> Any:
    """The same values in another layout, or as another kind of object."""
    style = s.below(10)
    if style == 1:
        x = np.asfortranarray(x)
    elif style == 2 and x.ndim:
        x = np.repeat(x, 2, axis=-1)[..., ::2]
    elif style == 3 and x.ndim:
        x = np.ascontiguousarray(x[::-1])[::-1]
    elif style == 4 and x.ndim:
        x = np.broadcast_to(x[:1], x.shape)
    elif style == 5:
        x = x.copy()
        x.flags.writeable = False
    elif style == 6 and x.dtype.kind not in "MV":
        return x.tolist()
    elif style == 7 and x.itemsize > 1:
        room = np.zeros(x.nbytes + 1, "u1")[1:]
        room = room.view(x.dtype).reshape(x.shape) if x.dtype.kind != "O" else x
        room[...] = x
        return room
    return x


def array(s: Source, n: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    return laid_out(s, contents(s, n, dtype))


# ---- Calls ------------------------------------------------------------------------

OPTIONS: dict[str, list[Any]] = {
    "eps": [1e-5, 0.0, 1, 0.5, 1e-30],
    "return_stats": [True],
    "return_norm": [True],
    "num_threads": [1, 2, 7, None],
    "activation": ["relu", "gelu", "silu", ("leaky_relu", 0.2), ("clamp", -1, 1)],
    "out_dtype": ["f4", "f2", np.float32, "f8", "u1", "i1"],
    "in_scale": [0.02, 1, 0.5],
    "in_zero_point": [0, 3, 128],
    "out_scale": [0.02, 1, 0.5],
    "out_zero_point": [0, 3, 128],
    "flush_denormals": [False],
    "training": [True],
    "use_input_stats": [True, False],
    "momentum": [0.1, None, 1.0, 0.5],
    "mode": ["plain", "cast_before_weight", "one_plus_weight"],
    "masked": ["zero", "keep"],
    "ddof": [0, 1],
    "keepdims": [True],
    "return_state": [True],
    "p": [2.0, 1, 2],
    "r_max": [3.0, 1.0, float("inf")],
    "d_max": [5.0, 0.0, float("inf")],
    "layout": ["chw", "hwc"],
    "scale": [1.0, 1 / 255, -2.0],
    "reverse_channels": [True],
    "needs": [("input",), ("weight", "input"), ()],
}
NORM = "eps return_stats num_threads activation out_dtype in_scale in_zero_point"
NORM += " out_scale out_zero_point flush_denormals"
CHANNELS = f"{NORM} channel_axis training momentum mask lengths masked post_add"
BACK = "eps num_threads flush_denormals out needs weight mean rstd"
# Which positional arguments, and which keywords, a call may have.
SIGNATURES = {
    "l1_norm": ("x", "axis eps return_norm num_threads out_dtype out"),
    "layer_norm": ("x tail", f"{NORM} weight bias axis residual post_add lengths out"),
    "rms_norm": ("x tail", f"{NORM} weight axis residual post_add mode out"),
    "l2_norm": ("x", "axis eps return_norm num_threads out_dtype out"),
    "normalize": ("x", "p dim eps num_threads out_dtype out"),
    "batch_norm": ("x running running", f"{CHANNELS} weight bias out"),
    "batch_renorm": ("x running running", f"{NORM} channel_axis training r_max d_max"),
    "group_norm": ("x groups", f"{NORM} channel_axis weight bias mask post_add out"),
    "instance_norm": ("x", f"{NORM} channel_axis weight bias use_input_stats mask out"),
    "weight_norm": ("x weight", "dim return_norm num_threads out"),
    "moments": ("x", "axis ddof keepdims return_state num_threads mask lengths"),
    "normalize_image": ("x", "scale layout reverse_channels out_dtype num_threads"),
    "layer_norm_backward": ("x x tail", f"{BACK} axis"),
    "rms_norm_backward": ("x x tail", f"{BACK} axis mode"),
    "l2_norm_backward": ("x x", "axis eps num_threads out"),
    "batch_norm_backward": ("x x", f"{BACK} channel_axis training"),
    "batch_renorm_backward": (
        "x x weight mean rstd r d",
        "eps needs out training channel_axis",
    ),
    "group_norm_backward": ("x x groups", f"{BACK} channel_axis"),
    "instance_norm_backward": ("x x", f"{BACK} channel_axis use_input_stats"),
    "weight_norm_backward": ("x x weight", "dim num_threads out"),
}


class Drawing:
    """The arguments of one call, which must fit each other to be of use."""

    def __init__(self, s: Source) -> None:
        self.s = s
        self.shape = shape(s)
        self.dtype = dtype_of(s)
        self.changes: list[Any] = []
        rank = max(len(self.shape), 1)
        self.rows = False
        self.channel_axis = s.choose([1, 0, -1, 2]) if s.one_in(4) else 1
        self.axis = s.below(rank) - s.below(2) * rank
        self.tail = self.shape[-s.choose([1, 1, 2]) :] or (3,)
        self.x: Any = None

    def channels(self) -> int:
        inside = -len(self.shape) <= self.channel_axis < len(self.shape)
        return self.shape[self.channel_axis] if inside else 3

    def companion(self, n: tuple[int, ...]) -> Any:
        s = self.s
        n = n if not s.one_in(16) else (*n, 1)
        return array(s, n, self.dtype if not s.one_in(8) else dtype_of(s))

    def output(self) -> Any:
        kind = self.s.below(6)
        if kind == 1 and isinstance(self.x, np.ndarray):
            return self.x
        if kind == 2 and isinstance(self.x, np.ndarray) and self.x.ndim:
            return self.x[::-1]
        return self.companion(self.shape)

    def parameter(self, name: str) -> Any:
        per_row = name in ("weight", "bias") and self.rows
        return self.companion(self.tail if per_row else (self.channels(),))

    def value(self, name: str) -> Any:
        s = self.s
        if s.one_in(40):
            return s.choose(WRONG)
        if name == "x":
            self.x = array(s, self.shape, self.dtype)
            return self.x
        if name == "tail":
            return self.tail if len(self.tail) > 1 or s.one_in(2) else self.tail[0]
        if name == "groups":
            return s.choose([1, self.channels(), 2, 3])
        if name in ("axis", "dim"):
            return self.axis
        if name == "channel_axis":
            return self.channel_axis
        if name == "mask":
            return np.random.default_rng(s.below(9)).random(self.shape) < 0.7
        if name == "lengths":
            return [s.below(5) for _ in range(self.shape[0] if self.shape else 0)]
        if name in ("residual", "post_add"):
            return self.companion(self.shape)
        if name == "out":
            return self.output()
        if name == "running":
            v = self.companion((self.channels(),))
            floats = isinstance(v, np.ndarray) and v.dtype.kind == "f"
            return v * v if floats and not s.one_in(8) else v
        if name in OPTIONS:
            return s.choose(OPTIONS[name])
        return self.parameter(name)

    def call(self) -> Call:
        name = self.s.choose(sorted(SIGNATURES))
        positional, keywords = SIGNATURES[name]
        self.rows = name.startswith(("layer", "rms"))
        args = [self.value(a) for a in positional.split()]
        kwargs = {}
        for keyword in keywords.split():
            usual = keyword != "channel_axis" or self.channel_axis == 1
            if self.s.one_in(6) or not usual:
                kwargs[keyword] = self.value(keyword)
        if self.s.one_in(100):
            kwargs["no_such_keyword"] = 1
        changes = [kwargs.get("out")]
        changes += args[1:3] if "running" in positional else []
        return Call(name, args, kwargs, changes)


# ---- What must hold -----------------------------------------------------------------


def copied(values: Any) -> Any:
    return values.copy() if isinstance(values, np.ndarray) else values


def same(a: Any, b: Any) -> bool:
    if not isinstance(a, np.ndarray) or a.dtype.kind in "OV":
        return True
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def numbers(result: Any) -> list[Any]:
    """The arrays of a result, as float64."""
    parts = result if isinstance(result, tuple) else (result,)
    return [None if p is None else np.asarray(p, np.float64) for p in parts]


def is_finite(value: Any) -> bool:
    try:
        return bool(np.all(np.isfinite(np.asarray(value, np.float64))))
    except (TypeError, ValueError):
        return True  # no numbers


def exactly(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    return getattr(reference, name)(*args, **kwargs)


def parts_of(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def largest(*values: Any) -> float:
    """Of all magnitudes that are finite; 1 of no arrays, as what is left out is."""
    given = [np.abs(np.asarray(v, np.float64)) for v in values if v is not None]
    if not given:
        return 1.0
    return max(float(np.max(v, initial=0, where=np.isfinite(v))) for v in given)


def largest_terms(
    call: Call, args: list[Any], kwargs: dict[str, Any]
) -> tuple[float, float]:
    """Of the sums that the gradients of the input, and of parameters, are.

    What is left of terms that cancel has their error: of a group of two, say, the
    gradient is nearly 0 whatever comes in.
    """
    name = call.name.removesuffix("_backward")
    grad, x = args[:2]
    options = ("axis", "channel_axis", "dim", "eps", "mode")
    same_options = {k: kwargs[k] for k in options if k in kwargs}
    if name == "batch_renorm":
        given = ("weight", "mean", "rstd", "r", "d")
        kwargs = {**kwargs, **dict(zip(given, args[2:], strict=True))}
    if name == "batch_norm":
        same_options |= {"running_mean": None, "running_var": None, "training": True}
    if name in ("l2_norm", "weight_norm"):
        y, norm = exactly(name, args[1:], {**same_options, "return_norm": True})
        rstd = 1 / np.where(norm == 0, 1, norm)
        weight = args[2] if name == "weight_norm" else None
    elif kwargs.get("rstd") is not None:
        rstd, weight = kwargs["rstd"], kwargs.get("weight")
        y = (largest(x) + largest(kwargs.get("mean", 0))) * largest(rstd)
    else:
        options = {**same_options, "return_stats": True}
        y, *_, rstd = exactly(name, args[1:], options)
        weight = kwargs.get("weight")
    if kwargs.get("r") is not None:
        rstd = np.asarray(rstd) * largest(kwargs["r"])
    normal = 1 + largest(y) / (largest(weight) if name == "weight_norm" else 1)
    steep = largest(weight) * largest(rstd)
    each = largest(grad) * normal**2
    return each * steep, each * np.size(x)


def check_close(call: Call, got: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    wanted = exactly(call.name, args, kwargs)
    gradient = "backward" in call.name
    terms = largest_terms(call, args, kwargs) if gradient else (0.0, 0.0)
    for i, (a, b, raw) in enumerate(
        zip(numbers(got), numbers(wanted), parts_of(got), strict=True)
    ):
        assert (a is None) == (b is None), call
        if a is None:
            continue
        assert a.shape == b.shape, (call, a.shape, b.shape)
        kind = np.asarray(raw).dtype
        loose = 0.05 if kind == np.float16 else 1e-3
        loose = 1.01 if kind.kind in "iu" else loose
        with np.errstate(all="ignore"):
            size = float(np.max(np.abs(b), initial=0, where=np.isfinite(b)))
            size = size if gradient else max(1.0, size)
            least = np.finfo(kind if kind.kind == "f" else "f4").smallest_subnormal
            most = loose * size + 4e-6 * terms[i > 0] + max(least, 1e-38)
            far = ~(np.abs(a - b) <= most) & np.isfinite(b)
            far &= ~((kind == np.float16) & (np.abs(b) > 60000))
        if "activation" not in call.kwargs:  # of which some have a limit at -Inf
            far |= np.isfinite(a) & ~np.isfinite(b) & (kind.kind == "f")
        assert not far.any(), (call, a[far][:3], b[far][:3], most)


def run(call: Call) -> bool:
    """Whether the call was accepted; AssertionError is a finding, as is anything that
    is not a refusal.
    """
    inputs = [*call.args, *call.kwargs.values()]
    before = [copied(v) for v in inputs]
    kept = [v for v in call.kwargs if v not in ("out", "num_threads")]
    again = {k: copied(call.kwargs[k]) for k in kept if k != "flush_denormals"}
    args = [copied(v) for v in call.args]
    refusal: str | None = None  # not the error, which would keep all arrays alive
    try:
        got = getattr(fastnorm, call.name)(*call.args, **call.kwargs)
    except REFUSALS as error:
        refusal = str(error)
        got = None
    if refusal is not None:
        unchanged = [same(old, new) for old, new in zip(before, inputs, strict=True)]
        assert all(unchanged), f"{call}: refused, but it wrote: {refusal}"
        return False
    out = call.kwargs.get("out")
    if out is not None:
        first = got[0] if isinstance(got, tuple) else got
        assert first is out or first is None, f"{call}: another object than out"
    for old, new in zip(before, inputs, strict=True):
        changed = any(new is c for c in call.changes) or isinstance(out, np.ndarray)
        assert changed or same(old, new), f"{call}: an input changed"
    # Of no values there is nothing to compare; what is in `out` the tests of each
    # function look at.
    # What is not finite makes of the gradients of its row what it will.
    finite = all(is_finite(v) for v in [*args, *again.values()])
    comparable = finite or "backward" not in call.name
    if out is None and np.size(args[0]) > 0 and comparable:
        check_close(call, got, args, again)
    return True
