"""jit - the figures of docs/jit.md: the Numba backend beside the C kernels.

SPDX-License-Identifier: MIT

    python bench/jit.py docs/jit.md

Replaces what is between the two markers. Calls take turns; medians. A turn is a
twentieth of a second of the same call, of which the second half counts: threads of the
engine before it, which wait by spinning for up to 20 ms, are asleep by then. First
calls are made in processes of their own, once without and once with what Numba keeps on
disk.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fastnorm
from fastnorm import jit
from fastnorm.bench.machine import describe, one_line

BEGIN, END = "<!-- jit:begin -->", "<!-- jit:end -->"
SECONDS = 2.0  # for each line
TURN = 0.05
ROWS = ((128, 768), (512, 1024), (2048, 4096))
IMAGES = ((8, 64, 56, 56), (32, 256, 14, 14), (1, 2048, 7, 7), (64, 3, 224, 224))
FIRST = """
import time, numpy as np, fastnorm.jit as jit
x = np.ones((8, 4, 64), np.float32)
stats = np.zeros(4, np.float32), np.ones(4, np.float32)
begun = time.perf_counter()
{call}
print(time.perf_counter() - begun)
"""
CALLS = {
    "layer_norm": "jit.layer_norm(x, 64)",
    "batch_norm": "jit.batch_norm(x, *stats)",
    "batch_norm, training": "jit.batch_norm(x, *stats, training=True)",
    "group_norm": "jit.group_norm(x, 2)",
    "fuse(layer_norm)": "jit.fuse('layer_norm', lambda v: v + 1)(x, 64)",
}

Call = Callable[[], Any]


def turn(call: Call) -> float:
    """Seconds of a call, of the second half of a turn."""
    times: list[float] = []
    begun = now = time.perf_counter()
    while now < begun + TURN:
        before = now
        call()
        now = time.perf_counter()
        times.append(now - before)
    return statistics.median(times[len(times) // 2 :])


def medians(calls: list[Call]) -> list[float]:
    """Microseconds of each call, which take turns."""
    for call in calls:
        call()
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times[0]) < 5:
        for call, found in zip(calls, times, strict=True):
            found.append(turn(call))
    return [1e6 * statistics.median(found) for found in times]


def first_calls() -> Iterator[tuple[str, float, float]]:
    """Seconds of the first call in a process, compiled and from disk."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        for name, call in CALLS.items():
            code = FIRST.format(call=call)
            compiled, kept = (
                float(
                    subprocess.run(
                        [sys.executable, "-c", code], env=environment, check=True,
                        capture_output=True, text=True,
                        # Not in the checkout, whose package has no compiled core.
                        cwd=folder,
                    ).stdout
                )
                for _ in range(2)
            )  # fmt: skip
            yield name, compiled, kept


def torch_call(name: str, *args: Any) -> Call:
    """The same by torch, or nothing where it is not installed."""
    try:
        import torch
    except ImportError:
        return lambda: None
    torch.set_num_threads(fastnorm.get_num_threads())
    given = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in args]
    return partial(getattr(torch.nn.functional, name), *given)


def steady() -> Iterator[tuple[str, list[Call]]]:
    """Calls of the C backend, of this one, of torch and of copyto."""
    rng = np.random.default_rng(0)
    for shape in ROWS:
        x = rng.standard_normal(shape, dtype=np.float32)
        y, w, n = np.empty_like(x), np.ones(shape[1], np.float32), shape[1]
        copy = partial(np.copyto, y, x)
        text = f"{shape[0]}x{n}"
        yield f"layer_norm {text}", [
            partial(fastnorm.layer_norm, x, n, w, w, out=y),
            partial(jit.layer_norm, x, n, w, w, out=y),
            torch_call("layer_norm", x, (n,), w, w), copy,
        ]  # fmt: skip
        yield f"rms_norm {text}", [
            partial(fastnorm.rms_norm, x, n, w, out=y),
            partial(jit.rms_norm, x, n, w, out=y),
            torch_call("rms_norm", x, (n,), w), copy,
        ]  # fmt: skip
    for shape in IMAGES:
        x = rng.standard_normal(shape, dtype=np.float32)
        for layout, axis in (("NCHW", 1), ("NHWC", -1)):
            own = x if axis == 1 else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
            seen = own if axis == 1 else own.transpose(0, 3, 1, 2)
            y = np.empty_like(own)
            w = np.ones(shape[1], np.float32)
            mean, var = np.zeros_like(w), np.ones_like(w)
            for training in (False, True):
                args = (own, mean, var, w, w, training)
                word = " training" if training else ""
                text = "x".join(map(str, shape))
                yield f"batch_norm{word} {text} {layout}", [
                    partial(fastnorm.batch_norm, *args, channel_axis=axis, out=y),
                    partial(jit.batch_norm, *args, channel_axis=axis, out=y),
                    torch_call("batch_norm", seen, mean, var, w, w, training),
                    partial(np.copyto, y, own),
                ]  # fmt: skip


def fused() -> Iterator[tuple[str, list[Call]]]:
    """Fused calls, fastnorm's with NumPy around it, and NumPy alone."""
    rng = np.random.default_rng(0)
    x, gate = rng.standard_normal((2, 2048, 1024), dtype=np.float32)
    y, n = np.empty_like(x), 1024
    low, high = np.float32(-2), np.float32(2)

    def numpy_norm(v: Any) -> Any:
        centered = v - v.mean(-1, keepdims=True)
        return centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)

    both = jit.fuse(
        fastnorm.layer_norm,
        lambda v: min(max(v, np.float32(-2)), np.float32(2)),
        lambda v, gate: v * gate,
    )
    yield (
        "clip, layer_norm, gate 2048x1024",
        [
            partial(both, x, n, gate=gate, out=y),
            lambda: np.multiply(
                fastnorm.layer_norm(np.clip(x, low, high), n), gate, out=y
            ),
            lambda: np.multiply(numpy_norm(np.clip(x, low, high)), gate, out=y),
        ],
    )
    images = rng.standard_normal((32, 64, 56, 56), dtype=np.float32)
    out, bound = np.empty_like(images), np.zeros(64, np.float32)
    mean, var, wide = np.zeros_like(bound), np.ones_like(bound), bound[:, None, None]
    shifted = jit.fuse(
        fastnorm.batch_norm,
        lambda v: v * np.float32(2) - np.float32(1),
        lambda v, bound: v if v > bound else bound,
    )
    yield "scale, batch_norm, threshold 32x64x56x56", [
        partial(shifted, images, mean, var, bound=bound, out=out),
        lambda: np.maximum(
            fastnorm.batch_norm(images * 2 - 1, mean, var), wide, out=out
        ),
        lambda: np.maximum(
            (images * 2 - 1 - mean[:, None, None])
            / np.sqrt(var[:, None, None] + np.float32(1e-5)), wide, out=out,
        ),
    ]  # fmt: skip


def table() -> str:
    """The Markdown between the markers."""
    lines = [
        "First call in a process, seconds (float32, one thread):", "",
        "| | compiled | from disk |", "|---|--:|--:|",
    ]  # fmt: skip
    for name, compiled, kept in first_calls():
        lines.append(f"| `{name}` | {compiled:.1f} | {kept:.2f} |")
    for threads in (1, 2):
        fastnorm.set_num_threads(threads)
        many = "threads" if threads > 1 else "thread"
        head = f"After that, microseconds with {threads} {many}, `out=` given:"
        lines += [
            "", head, "",
            "| | C | Numba | Numba / C | torch | `np.copyto` |",
            "|---|--:|--:|--:|--:|--:|",
        ]  # fmt: skip
        for name, calls in steady():
            c, numba, torch, copy = medians(calls)
            figures = f"{c:,.0f} | {numba:,.0f} | {numba / c:.2f} | {torch:,.0f}"
            lines.append(f"| {name} | {figures} | {copy:,.0f} |")
            print(lines[-1], flush=True)
    fastnorm.set_num_threads(1)
    lines += [
        "", "Fused, microseconds with one thread:", "",
        "| | fused | `fastnorm` and NumPy | NumPy |", "|---|--:|--:|--:|",
    ]  # fmt: skip
    for name, calls in fused():
        one, two, three = medians(calls)
        lines.append(
            f"| {name} | {one:,.0f} | {two:,.0f} ({two / one:.1f}x) | "
            f"{three:,.0f} ({three / one:.1f}x) |"
        )
        print(lines[-1], flush=True)
    lines += ["", f"{one_line(describe())}."]
    return "\n".join(lines)


def main(path: str) -> None:
    """Measure, and put the tables into the page."""
    page = Path(path)
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
