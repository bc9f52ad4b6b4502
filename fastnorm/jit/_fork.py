# SPDX-License-Identifier: MIT
"""_fork.py - whether Numba's threads were left behind by a fork, by whomever started.

Noted from the import of this package on, which Numba brings about itself before it
compiles anything (by the entry point of the overloads); Numba is not imported here.
"""

import os
import sys
from contextlib import suppress

left_behind = False


def _after_fork() -> None:
    global left_behind
    numba = sys.modules.get("numba")
    if numba is not None:
        with suppress(AttributeError, ValueError):  # none has been started
            numba.threading_layer()
            left_behind = True


os.register_at_fork(after_in_child=_after_fork)
