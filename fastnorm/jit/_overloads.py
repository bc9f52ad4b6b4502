# _overloads.py - fastnorm's functions inside a user's own @njit code.
# SPDX-License-Identifier: MIT
"""Overloads that call the C kernels; Numba finds them by an entry point."""

from numba.extending import overload

import fastnorm
from fastnorm.jit import _overload_channels as channels
from fastnorm.jit import _overload_rows as rows
from fastnorm.jit._compile import UNWRAPPED
from fastnorm.jit._overload_kernels import add_symbols

OVERLOADS = (
    rows.layer_norm,
    rows.rms_norm,
    rows.l2_norm,
    rows.l1_norm,
    rows.normalize,
    channels.batch_norm,
    channels.group_norm,
    channels.instance_norm,
    channels.moments,
)
_registered = False


def register() -> None:
    """Tell Numba of them; once, however often it is called."""
    global _registered
    if _registered:
        return
    _registered = True
    add_symbols()
    for function in OVERLOADS:
        # The implementations leave out the mark for keyword-only arguments, which is
        # where the strict comparison of signatures would end.
        overload(
            getattr(fastnorm, function.__name__),
            strict=False,
            prefer_literal=True,
            target="cpu",
            jit_options=UNWRAPPED,
        )(function)
