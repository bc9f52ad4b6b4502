# SPDX-License-Identifier: MIT
"""_rows.py - layer norm and RMS norm of rows.

A kernel is compiled for the calling thread alone, or with its loop over blocks of rows
shared among threads. A row's result is the same in both.
"""

import numpy as np
from numba import prange

from ._apply import STAGE, apply_centered, apply_scaled, apply_slow, past, prepare
from ._compile import compiled
from ._hooks import line_of, moved_line
from ._memory import fence, keep, size_of, store, stream, working
from ._statistics import (
    find_mean_square,
    find_moments,
    reciprocal_root,
    slow_moments,
)


@compiled
def report(to, index, value, like):
    """A statistic for the caller, who may not want it."""
    if to != 0:
        store(to, index, working(value, like))


@compiled
def _slow_row(x, y, r, call, likes, centered, hooks, line):
    w, b, mean, rstd, cols, eps, one = call
    power, hi, lo, var, rest = slow_moments(
        x, 1, 0, cols, size_of(likes[0]), likes[0], eps, centered
    )
    root = reciprocal_root(var, rest)
    report(mean, r, (hi + lo) / power, likes[0])
    report(rstd, r, root * power, likes[0])
    apply_slow(
        x,
        y,
        cols,
        (power, hi, lo, root, one, 1.0, 0.0),
        (w, b),
        likes,
        (None, None, hooks[2]),
        line,
    )


@compiled
def _finish(x, y, call, by, centered, likes, hooks, line, stage, ahead):
    """The row's elements; by way of a stage that stays in the cache if there is one."""
    w, b, _, _, cols, _, _ = call
    later = (None, None, hooks[2])
    if stage == 0:
        if centered:
            apply_centered(x, y, cols, by, (w, b), likes, later, line)
        else:
            apply_scaled(x, y, cols, (by[1], by[2]), (w, b), likes, later, line)
        return
    size_x, size_y = size_of(likes[0]), size_of(likes[1])
    for i in range(0, cols, STAGE):
        n = min(STAGE, cols - i)
        here = (past(w, i, likes[2]), past(b, i, likes[2]))
        part = (moved_line(line[0], i), moved_line(line[1], i))
        if centered:
            apply_centered(x + i * size_x, stage, n, by, here, likes, later, part)
        else:
            pair = (by[1], by[2])
            apply_scaled(x + i * size_x, stage, n, pair, here, likes, later, part)
        stream(y + i * size_y, stage, n * size_y, ahead + i * size_x)


@compiled
def _row(x, y, r, call, likes, centered, hooks, line, stage, ahead):
    cols, eps = call[4], call[5]
    like, size = likes[0], size_of(likes[0])
    one = working(call[6], like)
    zero = working(0, like)
    if centered:
        hi, lo, mean, var, good = find_moments(x, 1, 0, cols, size, like, eps)
    else:
        hi = lo = zero
        mean = 0.0
        var, good = find_mean_square(x, 1, 0, cols, size, like, eps)
    if not good:
        _slow_row(x, y, r, call, likes, centered, hooks, line)
        return
    root = reciprocal_root(var, eps)
    scale = working(root, like)
    report(call[2], r, mean, like)
    report(call[3], r, root, like)
    by = (hi, scale, -lo * scale if centered else one)
    _finish(x, y, call, by, centered, likes, hooks, line, stage, ahead)


def rows(prologue, epilogue):
    """The kernel of rows with these hooks."""

    def rows_kernel(call, arrays, likes, centered, streams, blocks, before, after):
        """All rows, in `blocks` blocks of adjacent ones.

        call: addresses of weight, bias, mean and rstd, cols, eps, and what is added to
        weights;
        arrays: addresses of x and y, rows, strides of x and y.
        """
        x, y, rows, x_stride, y_stride = arrays
        x_step = x_stride * size_of(likes[0])
        y_step = y_stride * size_of(likes[1])
        like = working(0, likes[0])
        for block in prange(blocks):
            hooks, extras = (None, prologue, epilogue), (before, after)
            stage = np.empty(STAGE if streams else 0, np.float64)
            place = stage.ctypes.data if streams else 0
            first = np.empty(call[4] if prologue is not None else 0, np.float64)
            for r in range(block * rows // blocks, (block + 1) * rows // blocks):
                here, to = x + r * x_step, y + r * y_step
                line = (line_of(extras[0], r, 0), line_of(extras[1], r, 0))
                if prologue is None:
                    _row(here, to, r, call, likes, centered, hooks, line, place,
                         here + x_step)  # fmt: skip
                else:
                    prepare(here, first.ctypes.data, call[4], likes, hooks, line)
                    made = (like, likes[1], likes[2])
                    _row(first.ctypes.data, to, r, call, made, centered, hooks, line,
                         place, here + x_step)  # fmt: skip
            if streams:
                fence()
            keep(stage)
            keep(first)

    return rows_kernel
