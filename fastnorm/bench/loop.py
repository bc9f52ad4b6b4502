"""The loop: every engine's call of a case, in turns, and what came of it.

SPDX-License-Identifier: MIT

One sample is a loop of k calls that lasts at least `sample_seconds`, after calls that
are not timed, so that each engine finds its own arrays in the caches and not the
neighbour's. One such call is not enough: arrays of 6 MB take some eight calls until
they are in a last-level cache that others have filled. The engines take turns (A B C A
B C ...), so that a machine that slows down slows all of them. A time is the median over
the rounds; a ratio is the median of the ratios within the rounds. The garbage collector
is off while a sample runs.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np

from .cases import Case, make_data
from .engine import Engine, Job
from .engine_fastnorm import FASTNORM
from .engine_numba import NUMBA
from .engines import FLOOR
from .errors import largest_error
from .exact import error_unit, exact_key, exact_results


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    rounds: int
    sample_seconds: float
    warm_seconds: float = 0.0  # before each sample: at least a call


FULL = Effort(rounds=21, sample_seconds=1e-3, warm_seconds=4e-3)
QUICK = Effort(rounds=5, sample_seconds=2e-4, warm_seconds=1e-3)

# the place of fastnorm's run of the plain case among the jobs of a case
PLAIN = "plain"


@dataclass
class Measurement:
    """What one engine did on one case."""

    median_us: float
    copy_ratio: float  # its time over np.copyto's
    error: float | None  # largest; None for the copy itself
    allocates: bool  # makes a new array although the case gives out=


@dataclass
class Result:
    """What all engines did on one case. `speedups` are of fastnorm over each peer.

    `plain_ratio` is fastnorm's time over its time for the case's plain one.
    """

    case: Case
    measurements: dict[str, Measurement]
    speedups: dict[str, float] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)
    plain_ratio: float | None = None


def run(
    cases: Iterable[Case],
    engines: list[Engine],
    effort: Effort,
    *,
    threads: int = 1,
    dtype: str = "float32",
) -> Iterator[Result]:
    """Measure case after case. The engines keep their threads between two results."""
    # some cases have the same exact results: kept until the last of them
    chosen = list(cases)
    keys = [exact_key(case) for case in chosen]
    exact: dict[tuple[Any, ...], tuple[np.ndarray, ...]] = {}
    with sessions(engines, threads):
        for place, (case, key) in enumerate(zip(chosen, keys, strict=True)):
            data = make_data(case, dtype, threads)
            jobs = {FLOOR.name: FLOOR.prepare(case, data)}
            if case.plain is not None:
                plain_data = make_data(case.plain, dtype, threads)
                jobs[PLAIN] = FASTNORM.prepare(case.plain, plain_data)
            jobs |= {engine.name: engine.prepare(case, data) for engine in engines}
            if key not in exact:
                exact[key] = exact_results(case, data)
            yield measure(
                case,
                {name: job for name, job in jobs.items() if job is not None},
                exact[key],
                effort,
                barred=threads == 1 and dtype == "float32",
            )
            if key not in keys[place + 1 :]:
                del exact[key]


def sessions(engines: list[Engine], threads: int) -> ExitStack:
    """All engines held to `threads` until the stack is closed."""
    with ExitStack() as stack:
        for engine in engines:
            stack.enter_context(engine.session(threads))
        return stack.pop_all()


def measure(
    case: Case,
    jobs: dict[str, Job],
    exact: tuple[np.ndarray, ...],
    effort: Effort,
    *,
    barred: bool = True,
) -> Result:
    """Time the jobs in turns and judge them; `barred` applies the case's bars."""
    unit = error_unit(case, exact[0])
    judged = [name for name in jobs if name != PLAIN]
    errors = {
        name: None
        if name == FLOOR.name
        else largest_error(jobs[name].read(jobs[name].call()), exact, unit)
        for name in judged
    }
    counts = {
        name: _calibrate(job.call, effort.sample_seconds) for name, job in jobs.items()
    }
    times = np.array(
        [
            [
                _sample(job.call, counts[name], effort.warm_seconds)
                for name, job in jobs.items()
            ]
            for _ in range(effort.rounds)
        ]
    )
    column = dict(zip(jobs, times.T, strict=True))
    copy = column[FLOOR.name]
    result = Result(
        case,
        {
            name: Measurement(
                median_us=float(np.median(column[name])) * 1e6,
                copy_ratio=float(np.median(column[name] / copy)),
                error=errors[name],
                allocates=case.out and jobs[name].allocates,
            )
            for name in judged
        },
    )
    ours = column[FASTNORM.name]
    if PLAIN in column:
        result.plain_ratio = float(np.median(ours / column[PLAIN]))
    result.speedups = {
        name: float(np.median(column[name] / ours))
        for name in judged
        if name not in (FASTNORM.name, FLOOR.name)
    }
    result.losses = find_losses(result, barred)
    return result


def find_losses(result: Result, barred: bool) -> list[str]:
    """Where fastnorm is slower than a peer or over one of its bars, in words."""
    ours = result.measurements[FASTNORM.name]
    losses = [
        f"slower than {name} ({speedup:.2f}x)"
        for name, speedup in result.speedups.items()
        if speedup < 1 and name != NUMBA.name  # fastnorm's own other backend
    ]
    bars = result.case.bars
    if barred and bars.copy is not None and ours.copy_ratio > bars.copy:
        losses.append(f"{ours.copy_ratio:.2f}x copyto, bar {bars.copy:g}x")
    plain = result.plain_ratio
    if barred and bars.plain is not None and plain is not None and plain > bars.plain:
        losses.append(f"{plain:.2f}x the plain case, bar {bars.plain:g}x")
    if barred and bars.microseconds is not None and ours.median_us > bars.microseconds:
        losses.append(f"{ours.median_us:.2f} us, bar {bars.microseconds:g} us")
    if barred:
        losses += [
            f"{result.speedups[name]:.2f}x faster than {name}, bar {wanted:g}x"
            for name, wanted in bars.over.items()
            if 1 <= result.speedups.get(name, math.inf) < wanted
        ]
    return losses


def _sample(call: Callable[[], Any], count: int, warm_seconds: float = 0.0) -> float:
    """Seconds per call, over `count` calls after some that are not timed."""
    warm = time.perf_counter_ns() + warm_seconds * 1e9
    call()
    while time.perf_counter_ns() < warm:
        call()
    enabled = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter_ns()
        for _ in repeat(None, count):
            call()
        return (time.perf_counter_ns() - start) / count * 1e-9
    finally:
        if enabled:
            gc.enable()


def _calibrate(call: Callable[[], Any], seconds: float) -> int:
    """How many calls a sample of at least `seconds` takes."""
    count = 1
    while True:
        spent = _sample(call, count) * count
        if spent >= seconds:
            return count
        growth = seconds / max(spent, 1e-9)
        # a tenth more than the estimate, and never more than tenfold at a time
        count = min(math.ceil(count * growth * 1.1), count * 10) + (growth < 1.01)
        if count > sys.maxsize // 10:
            raise RuntimeError("bench: the clock does not advance")
