# SPDX-License-Identifier: MIT
"""_compile.py - how kernels are compiled, and whether what was compiled is kept.

Kernels take seconds to compile, so they are kept on disk by Numba's own cache, which
knows its version and the processor: in ``__pycache__`` beside the source, or where
``NUMBA_CACHE_DIR`` says. ``FASTNORM_JIT_CACHE=0`` in the environment keeps nothing;
kernels with a user's functions in them are never kept.
"""

import functools
import os
import threading
import zlib
from pathlib import Path
from typing import Any

from numba import njit, typeof

CACHE = os.environ.get("FASTNORM_JIT_CACHE", "1") != "0"
MOST = 256
"""Kernels that are kept in memory: there are 22, and more of a user's functions."""

UNWRAPPED = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Options of what compiled code alone calls.

What Python and C need to call a function is a quarter of the time that a kernel with
some fifty of them takes to compile.
"""

compiled = functools.partial(njit, error_model="numpy", **UNWRAPPED)
"""The decorator of what kernels are made of."""

INLINE = {"forceinline": True, **UNWRAPPED}
"""For overloads of what is done to one element."""

_making = threading.Lock()
_made: dict[Any, Any] = {}


def _after_fork():
    global _making
    _making = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class Kernel:
    """A function that Numba compiles for the types that it is called with.

    `kinds` says which these are, or is None where it is unknown. Of known ones Numba
    need not look at each of some forty arguments to find what it has compiled: half of
    a microsecond of one.
    """

    def __init__(self, dispatcher):
        self.dispatcher = dispatcher
        self.compiled = {}

    def __call__(self, kinds, args):
        call = self.compiled.get(kinds)
        if call is not None:
            call(*args)
            return
        self.dispatcher(*args)
        found = self.dispatcher.overloads.get(tuple(typeof(arg) for arg in args))
        if kinds is not None and found is not None:
            self.compiled[kinds] = found.entry_point


def kernel(make, hooks, shared):
    """The function that `make` makes with these hooks, compiled; it takes no GIL.

    Either for the calling thread alone or with its loops over `prange` shared among
    Numba's threads. The same one for all callers, though they come at once.
    """
    found = _made.get((make, hooks, shared))
    if found is not None:
        return found
    with _making:
        if len(_made) >= MOST:
            del _made[next(iter(_made))]  # the oldest; a program that fuses on and on
        return _made.setdefault((make, hooks, shared), _kernel(make, hooks, shared))


@functools.cache
def _code():
    """A word for the source of all that a kernel may be made of."""
    found = 0
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found = zlib.crc32(path.read_bytes(), found)
    return f"{found:08x}"


def _kernel(make, hooks, shared):
    function = make(*hooks)
    # What is kept on disk is found by this name and the time of this one source file,
    # whatever the options are and the code that is called.
    function.__qualname__ += f"_shared_{_code()}" if shared else f"_{_code()}"
    return Kernel(
        njit(
            function,
            nogil=True,
            error_model="numpy",
            no_cfunc_wrapper=True,
            parallel=shared,
            cache=CACHE and hooks == (None, None),
        )
    )
