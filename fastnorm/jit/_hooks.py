# SPDX-License-Identifier: MIT
"""_hooks.py - what a user's functions do to an element before and after a norm.

Hooks are None and two compiled functions, each of which may be None too: Numba
calls functions that a tuple begins with through pointers. What else they take
are elements of further arrays: `extras` is None, or for each array in turn five of a
tuple: its address, two steps from line to line of the norm's own loops, a `like`, and
True where a line has one element for all (its type says so, not its value: else 0).
"""

from numba import types
from numba.extending import overload

from ._compile import INLINE
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


@overload(element_of, jit_options=INLINE)
def _element_of(extra, i):
    if extra[2] == types.boolean:
        return lambda extra, i: widen(load(extra[0], 0, extra[1]))
    return lambda extra, i: widen(load(extra[0], i, extra[1]))


def hooked(hook, value, i, line):
    """hook(value, elements of `line`), or the value itself without a hook."""


@overload(hooked, jit_options=INLINE)
def _hooked(hook, value, i, line):
    if isinstance(hook, types.NoneType):
        return lambda hook, value, i, line: value
    elements = "".join(f", element_of(line[{k}], i)" for k in range(len(line)))
    result = f"hook(value{elements})"
    return _generated("hook, value, i, line", result, element_of=element_of)


def line_of(extras, a, b):
    """The extras at line (a, b): addresses and types."""


@overload(line_of, jit_options=INLINE)
def _line_of(extras, a, b):
    if isinstance(extras, types.NoneType):
        return lambda extras, a, b: ()
    lines = ""
    for k in range(0, len(extras), 5):
        address, first, second, like, wide = (f"extras[{k + j}]" for j in range(5))
        step = f"(a * {first} + b * {second}) * size_of({like})"
        lines += f"({address} + {step}, {like}, {wide}), "
    return _generated("extras, a, b", f"({lines})", size_of=size_of)


def moved_line(line, first):
    """A line from its element `first` on."""


@overload(moved_line, jit_options=INLINE)
def _moved_line(line, first):
    moved = ""
    for k in range(len(line)):
        e = f"line[{k}]"
        step = "0" if line[k][2] == types.boolean else f"first * size_of({e}[1])"
        moved += f"({e}[0] + {step}, {e}[1], {e}[2]), "
    return _generated("line, first", f"({moved})", size_of=size_of)
