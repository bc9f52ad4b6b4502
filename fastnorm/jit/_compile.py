# SPDX-License-Identifier: MIT
"""_compile.py - how kernels are compiled, and whether what was compiled is kept.

Kernels take seconds to compile, so they are kept on disk by Numba's own cache, which
knows its version and the processor: in ``__pycache__`` beside the source, or where
``NUMBA_CACHE_DIR`` says. ``FASTNORM_JIT_CACHE=0`` in the environment keeps nothing.
"""

import os

from numba import njit

CACHE = os.environ.get("FASTNORM_JIT_CACHE", "1") != "0"


def for_one(function):
    """The kernel for the calling thread alone; it takes no GIL."""
    return njit(function, nogil=True, error_model="numpy", cache=CACHE)


def for_many(function):
    """The same with its loops over `prange` shared among Numba's threads."""
    return njit(function, nogil=True, error_model="numpy", parallel=True, cache=CACHE)
