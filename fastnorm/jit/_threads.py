# SPDX-License-Identifier: MIT
"""_threads.py - how many threads a kernel of this backend gets, and when only one.

Numba's threads belong to the process: its workqueue layer ends the process when two
threads use it at once, OpenMP gives each a team of its own, and after a fork the child
has none (OpenMP ends it when it asks for them). So one caller at a time has threads and
others do the work themselves, as in the C backend, and so does a child of a process
that had begun to use them.
"""

from __future__ import annotations

import math
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import numba

from . import _fork
from ._compile import kernel

if TYPE_CHECKING:
    from collections.abc import Callable

BYTES_PER_THREAD = 1048576
"""Work that is worth a thread: layer norm of 128 x 768, which is less, took 21 us with
one and 80 with two that sleep (OMP_WAIT_POLICY=PASSIVE; AMD EPYC Zen 5)."""

BYTES_IN_LOOPS = 131072
"""The same in a loop, where threads that wait by spinning are still awake: 13 us with
two of them."""

_busy = threading.Lock()


def _after_fork() -> None:
    global _busy
    _busy = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class _Loop:
    """Calls of one kernel over one size, each soon after the one before.

    Whether threads sleep is the threading layer's business, so they are tried: work
    that took longer with them some times in a row is done alone for a while.
    """

    GAP = 20e-6  # seconds; what is between two calls in Python is some 4
    CALLS = 8
    TRIES = 4
    PAUSE = 1000  # calls

    def __init__(self) -> None:
        self.of: Any = None
        self.ended = 0.0
        self.calls = 0
        self.seconds = 0.0  # of the fastest call alone
        self.slower = 0
        self.pause = 0

    def shares(self, of: Any, begun: float) -> bool:
        """Whether threads are worth trying for a call that has just begun."""
        if of != self.of or begun - self.ended > self.GAP:
            self.of, self.calls, self.slower, self.seconds = of, 0, 0, math.inf
        self.calls += 1
        if self.pause > 0:
            self.pause -= 1
            return False
        return self.calls > self.CALLS

    def note(self, begun: float, ended: float, shared: bool) -> None:
        """What the call took; results do not depend on it."""
        self.ended = ended
        if not shared:
            self.seconds = min(self.seconds, ended - begun)
            return
        self.slower = self.slower + 1 if ended - begun > self.seconds else 0
        if self.slower == self.TRIES:
            self.slower, self.pause = 0, self.PAUSE


_loop = _Loop()


@numba.njit
def _exchange(count: int) -> int:
    """Set Numba's number of threads; what it was. From Python that takes 1.6 us."""
    before = numba.get_num_threads()
    if before != count:
        numba.set_num_threads(count)
    return before


def run(
    make: Callable[..., Any], hooks: tuple[Any, ...], threads: int, size: int,
    kinds: Any, args: tuple[Any, ...],
) -> None:  # fmt: skip
    """Call the kernel over `size` bytes; kinds: see `Kernel`.

    With as many of these threads as the work is worth, if there are as many and nobody
    uses them.
    """
    if threads == 1 or size < 2 * BYTES_IN_LOOPS:
        kernel(make, hooks, False)(kinds, args)
        return
    is_small = size < 2 * BYTES_PER_THREAD
    share = BYTES_IN_LOOPS if is_small else BYTES_PER_THREAD
    count = min(threads, size // share, numba.config.NUMBA_NUM_THREADS)
    if count > 1 and is_small:
        _small(make, hooks, size, count, kinds, args)
    elif count < 2 or not _shared(kernel(make, hooks, True), count, kinds, args):
        kernel(make, hooks, False)(kinds, args)


def _small(
    make: Callable[..., Any], hooks: Any, size: int, count: int, kinds: Any,
    args: tuple[Any, ...],
) -> None:  # fmt: skip
    """Call it with threads in a loop that gains by them."""
    begun = time.perf_counter()
    shared = _loop.shares((make, hooks, size), begun)
    if shared:
        shared = _shared(kernel(make, hooks, True), count, kinds, args)
    if not shared:
        kernel(make, hooks, False)(kinds, args)
    _loop.note(begun, time.perf_counter(), shared)


def _shared(
    call: Callable[..., None], count: int, kinds: Any, args: tuple[Any, ...]
) -> bool:
    """Whether there were threads for the call, which has been made then."""
    lock = _busy
    if _fork.left_behind or not lock.acquire(blocking=False):
        return False
    try:
        before = _exchange(count)
        try:
            call(kinds, args)
        finally:
            _exchange(before)
    finally:
        lock.release()
    return True
