# load.py - many request threads of Python that normalise at once, beside torch.
# SPDX-License-Identifier: MIT
"""Throughput and latency of a prepared layer norm in a server of request threads.

    python bench/load.py [ROWS COLS [ROUNDS [REQUEST_THREADS]]]

Each request thread normalises an array of its own in place. Throughput is that of
threads that call again and again, as many as there are CPUs and REQUEST_THREADS (16);
latency that of REQUEST_THREADS requests that come at once, from when they came to when
each is done. Engines take turns, round by round; both have all CPUs. The C program
bench/c/load.c measures the same without Python's lock.
"""

import os
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

import fastnorm

ROUND_SECONDS = 0.5
PAUSE_SECONDS = 0.001

Call = Callable[[np.ndarray], object]


def engines(cols: int) -> dict[str, Call]:
    layer = fastnorm.LayerNorm(cols)
    alone = fastnorm.LayerNorm(cols, num_threads=1)
    found: dict[str, Call] = {
        "fastnorm": lambda x: layer(x, out=x),
        "fastnorm, one thread a call": lambda x: alone(x, out=x),
    }
    try:
        import torch
    except ImportError:
        print("no torch", file=sys.stderr)
        return found
    norm = torch.nn.LayerNorm(cols)

    def of_torch(x: np.ndarray) -> object:
        with torch.inference_mode():
            return norm(torch.from_numpy(x))

    found[f"torch {torch.__version__}"] = of_torch
    return found


def closed(call: Call, arrays: list[np.ndarray]) -> float:
    """Calls a second."""
    counts = [0] * len(arrays)
    barrier = threading.Barrier(len(arrays) + 1)
    going = True

    def serve(i: int) -> None:
        barrier.wait()
        while going:
            call(arrays[i])
            counts[i] += 1

    threads = [threading.Thread(target=serve, args=(i,)) for i in range(len(arrays))]
    for thread in threads:
        thread.start()
    barrier.wait()
    begun = time.perf_counter()
    time.sleep(ROUND_SECONDS)
    going = False
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - begun)


def at_once(call: Call, arrays: list[np.ndarray]) -> tuple[float, float]:
    """Median and 99th percentile of the time that a request takes, in seconds."""
    times: list[list[float]] = [[] for _ in arrays]
    begin, end = (threading.Barrier(len(arrays) + 1) for _ in range(2))
    came = 0.0
    going = True

    def serve(i: int) -> None:
        while True:
            begin.wait()
            if not going:
                return
            call(arrays[i])
            times[i].append(time.perf_counter() - came)
            end.wait()

    threads = [threading.Thread(target=serve, args=(i,)) for i in range(len(arrays))]
    for thread in threads:
        thread.start()
    until = time.perf_counter() + ROUND_SECONDS
    while time.perf_counter() < until:
        came = time.perf_counter()
        begin.wait()
        end.wait()
        time.sleep(PAUSE_SECONDS)
    going = False
    begin.wait()
    for thread in threads:
        thread.join()
    median, late = np.quantile([t for own in times for t in own], [0.5, 0.99])
    return float(median), float(late)


def main() -> None:
    numbers = [int(text) for text in sys.argv[1:]]
    rows, cols, rounds, many = (*numbers, *(512, 1024, 7, 16)[len(numbers) :])
    few = len(os.sched_getaffinity(0))
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((rows, cols), np.float32) for _ in range(many)]
    calls = engines(cols)
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in calls}
    for call in calls.values():
        call(arrays[0])
    for _ in range(rounds):
        for name, call in calls.items():
            rates = closed(call, arrays[:few]), closed(call, arrays)
            found[name].append((*rates, *at_once(call, arrays)))
    print(
        f"fastnorm {fastnorm.__version__}, {fastnorm.isa()}, layer norm {rows}x{cols}, "
        f"{few} CPUs, {rounds} rounds in turn"
    )
    print(
        f"{'':28} {'calls/s':>9} {'calls/s':>9} {'median us':>10} {'99 % us':>9} ratio"
    )
    print(f"{'':28} {few:9} {many:9}   {many} at once")
    for name, results in found.items():
        a, b, median, late = np.median(results, axis=0)
        print(
            f"{name:28} {a:9.0f} {b:9.0f} {median * 1e6:10.0f} {late * 1e6:9.0f} "
            f"{late / median:5.1f}"
        )


if __name__ == "__main__":
    main()
