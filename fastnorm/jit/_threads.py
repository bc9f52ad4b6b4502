# SPDX-License-Identifier: MIT
"""_threads.py - how many threads a kernel of this backend gets, and when only one.

Numba's threads belong to the process: its workqueue layer ends the process when two
threads use it at once, OpenMP gives each a team of its own, and after a fork the child
has none (OpenMP ends it when it asks for them). So one caller at a time has threads and
others do the work themselves, as in the C backend, and so does a child of a process
that had begun to use them.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import numba

import fastnorm

from . import _fork
from ._compile import kernel

if TYPE_CHECKING:
    from collections.abc import Callable

BYTES_PER_THREAD = 1048576
"""Work that is worth a thread: layer norm of 128 x 768, which is less, took 21 us with
one and 80 with two that sleep (OMP_WAIT_POLICY=PASSIVE; AMD EPYC Zen 5)."""

_busy = threading.Lock()


def _after_fork() -> None:
    global _busy
    _busy = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def run(
    make: Callable[..., Any], hooks: tuple[Any, ...], wanted: int, size: int, *args: Any
) -> None:
    """Call the kernel over `size` bytes.

    With as many threads as `wanted`, or as `fastnorm.set_num_threads` says for 0, if
    the work is worth it, there are as many, and nobody uses them.
    """
    count = 1
    if size >= 2 * BYTES_PER_THREAD and wanted != 1:
        count = wanted if wanted > 0 else fastnorm.get_num_threads()
        count = min(count, size // BYTES_PER_THREAD, numba.config.NUMBA_NUM_THREADS)
    if count < 2 or not _shared(kernel(make, hooks, True), count, args):
        kernel(make, hooks, False)(*args)


def _shared(call: Callable[..., None], count: int, args: tuple[Any, ...]) -> bool:
    """Whether there were threads for the call, which has been made then."""
    lock = _busy
    if _fork.left_behind or not lock.acquire(blocking=False):
        return False
    try:
        before = numba.get_num_threads()
        numba.set_num_threads(count)
        try:
            call(*args)
        finally:
            numba.set_num_threads(before)
    finally:
        lock.release()
    return True
