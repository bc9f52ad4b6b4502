# SPDX-License-Identifier: MIT
"""_apply.py - what becomes of the elements of a line whose statistics are known.

((x - hi) * scale + offset) * weight + bias: never x * a + b, which would lose what the
mean and x have in common. In place there is one pointer for both, so that the compiler
knows that no element is overwritten before it is read.
"""

import numpy as np

from ._compile import compiled
from ._hooks import hooked
from ._memory import fetch, load, narrow, size_of, store, widen, working
from ._statistics import PLAIN

STAGE = 4096
"""Elements that are made at a time where results are streamed."""


@compiled(fastmath=PLAIN, forceinline=True)
def _centered(x, i, by, parameters, likes, hooks, line):
    hi, scale, offset = by
    w, b = parameters
    t = (hooked(hooks[1], x, i, line[0]) - hi) * scale + offset
    if w != 0:
        t = t * widen(load(w, i, likes[2]))
    if b != 0:
        t = t + widen(load(b, i, likes[2]))
    return narrow(hooked(hooks[2], t, i, line[1]), likes[1])


@compiled(fastmath=PLAIN, forceinline=True)
def apply_centered(x, y, n, by, parameters, likes, hooks, line):
    """y of n elements, `by` (hi, scale, offset); weight and bias along them, or 0."""
    if x == y:
        for i in range(n):
            v = widen(fetch(y, i, likes[0]))
            store(y, i, _centered(v, i, by, parameters, likes, hooks, line))
        return
    for i in range(n):
        v = widen(fetch(x, i, likes[0]))
        store(y, i, _centered(v, i, by, parameters, likes, hooks, line))


@compiled(fastmath=PLAIN, forceinline=True)
def _scaled(x, i, by, parameters, likes, hooks, line):
    scale, one = by
    t = hooked(hooks[1], x, i, line[0]) * scale
    if parameters[0] != 0:
        t = t * (widen(load(parameters[0], i, likes[2])) + one)
    return narrow(hooked(hooks[2], t, i, line[1]), likes[1])


@compiled(fastmath=PLAIN, forceinline=True)
def apply_scaled(x, y, n, by, parameters, likes, hooks, line):
    """y = x * scale * (weight + one), `by` (scale, one)."""
    if x == y:
        for i in range(n):
            v = widen(fetch(y, i, likes[0]))
            store(y, i, _scaled(v, i, by, parameters, likes, hooks, line))
        return
    for i in range(n):
        v = widen(fetch(x, i, likes[0]))
        store(y, i, _scaled(v, i, by, parameters, likes, hooks, line))


@compiled
def apply_slow(x, y, n, by, parameters, likes, hooks, line):
    """Either in float64; `by` power of two, mean as hi + lo, rstd, one, and a weight
    and a bias for all of the line.
    """
    power, hi, lo, rstd, one, weight, bias = by
    w, b = parameters
    for i in range(n):
        v = np.float64(hooked(hooks[1], widen(fetch(x, i, likes[0])), i, line[0]))
        t = ((v * power - hi) - lo) * rstd * weight + bias
        if w != 0:
            t = t * (np.float64(widen(load(w, i, likes[2]))) + one)
        if b != 0:
            t = t + np.float64(widen(load(b, i, likes[2])))
        last = hooked(hooks[2], working(t, likes[0]), i, line[1])
        store(y, i, narrow(last, likes[1]))


@compiled
def prepare(x, to, n, likes, hooks, line):
    """What the first hook makes of n elements, in the working type."""
    for i in range(n):
        v = hooked(hooks[1], widen(fetch(x, i, likes[0])), i, line[0])
        store(to, i, working(v, likes[0]))


@compiled(forceinline=True)
def past(p, i, like):
    """Where the parameters from element i on are, of those at p or 0."""
    return p + i * size_of(like) if p != 0 else p
