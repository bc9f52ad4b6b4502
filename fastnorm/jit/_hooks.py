# SPDX-License-Identifier: MIT
"""_hooks.py - what a user's functions do to an element before and after a norm.

Hooks are a pair of compiled functions, each of which may be None. What else they take
are elements of further arrays, `extras`: tuples of an address, two steps and a `like`,
the steps being those from line to line of the norm's own loops. A fifth member says
that a line has one element of it for all.
"""

import numba
from numba import njit, types
from numba.extending import overload

from ._memory import load, size_of, widen

NO_HOOKS = (None, None)


def _generated(arguments, result, **names):
    """A function of tuples whose length is known when it is compiled.

    Tuples of several types can be indexed by constants alone, so that there is no
    loop to be written: the expression is.
    """
    return eval(f"lambda {arguments}: {result}", names)


def element_of(extra, i):
    """The element of an extra that goes with element i of the line."""


@overload(element_of, jit_options={"forceinline": True})
def _element_of(extra, i):
    if len(extra) == 3:
        return lambda extra, i: widen(load(extra[0], 0, extra[1]))
    return lambda extra, i: widen(load(extra[0], i, extra[1]))


def hooked(hook, value, i, line):
    """hook(value, elements of `line`), or the value itself without a hook."""


@overload(hooked, jit_options={"forceinline": True})
def _hooked(hook, value, i, line):
    if isinstance(hook, types.NoneType):
        return lambda hook, value, i, line: value
    elements = "".join(f", element_of(line[{k}], i)" for k in range(len(line)))
    result = f"hook(value{elements})"
    return _generated("hook, value, i, line", result, element_of=element_of)


def line_of(extras, a, b):
    """The extras at line (a, b): addresses and types."""


@overload(line_of, jit_options={"forceinline": True})
def _line_of(extras, a, b):
    if isinstance(extras, types.NoneType):
        return lambda extras, a, b: ()
    lines = ""
    for k, extra in enumerate(extras):
        e = f"extras[{k}]"
        moved = f"{e}[0] + (a * {e}[1] + b * {e}[2]) * size_of({e}[3]), {e}[3]"
        lines += f"({moved}, None), " if len(extra) == 5 else f"({moved}), "
    return _generated("extras, a, b", f"({lines})", size_of=size_of)


def moved_line(line, first):
    """A line from its element `first` on."""


@overload(moved_line, jit_options={"forceinline": True})
def _moved_line(line, first):
    moved = ""
    for k, part in enumerate(line):
        e = f"line[{k}]"
        at = f"{e}[0] + first * size_of({e}[1]), {e}[1]"
        moved += f"({e}[0], {e}[1], None), " if len(part) == 3 else f"({at}), "
    return _generated("line, first", f"({moved})", size_of=size_of)


def compiled(function, name):
    """A user's scalar function, compiled if it is not yet."""
    if function is None or isinstance(function, numba.core.dispatcher.Dispatcher):
        return function
    if not callable(function):
        raise TypeError(
            f"fuse: {name} is {type(function).__name__}, a function of numbers is needed"
        )
    return njit(function)
