# SPDX-License-Identifier: MIT
"""_channels.py - what norms of channels share: from statistics to elements.

`arrays` are the addresses of x, y, weight, bias, mean and rstd and of two stored or
running statistics; `shape` batch, channels, spatial and groups; `strides` those of
samples and channels of x, then of y; `likes` say the types of x, y and parameters.
"""

import math

import numpy as np
from numba import njit

from ._apply import STAGE, apply_centered, apply_slow, prepare
from ._compile import compiled
from ._hooks import line_of, moved_line
from ._memory import (
    fetch,
    load,
    narrow,
    size_of,
    store,
    store_own,
    stream,
    widen,
    working,
)
from ._rows import report
from ._statistics import find_moments, reciprocal_root, slow_moments


@compiled(forceinline=True)
def parameter(p, i, like, otherwise):
    """Parameter i in float64; `otherwise` without any."""
    return np.float64(widen(load(p, i, like))) if p != 0 else otherwise


@compiled
def factors(hi, lo, root, w, b, like):
    """(hi, scale, offset) of the working type, and whether that has room for them."""
    scale = root * w
    offset = b - np.float64(lo) * scale
    good = math.isfinite(scale) and math.isfinite(offset)
    if size_of(like) == 4:
        good = (scale == 0.0 or 1e-30 < abs(scale) < 1e36) and abs(offset) < 1e38
    return (hi, working(scale, like), working(offset, like)), good


@compiled
def find_run(p, segs, step, length, like, eps):
    """(power, hi, lo), mean, variance and rstd of a run; a power of 0 if not slow."""
    size = size_of(like)
    hi, lo, mean, var, good = find_moments(p, segs, step, length, size, like, eps)
    if good:
        place = (0.0, np.float64(hi), np.float64(lo))
        return place, mean, var, reciprocal_root(var, eps)
    power, high, low, var, rest = slow_moments(
        p, segs, step, length, size, like, eps, True
    )
    root, back = reciprocal_root(var, rest), 1.0 / power
    return (power, high, low), (high + low) * back, var * back * back, root


@compiled
def given(mean, var, eps, like):
    """The same of statistics that are there already."""
    hi = working(mean, like)
    lo = working(mean - np.float64(hi), like)
    return (0.0, np.float64(hi), np.float64(lo)), mean, var, reciprocal_root(var, eps)


@compiled(forceinline=True)
def apply_one(x, y, n, by, likes, hooks, line, stage):
    """A line by (hi, scale, offset), by way of the stage if there is one."""
    if stage == 0:
        apply_centered(x, y, n, by, (0, 0), likes, hooks, line)
        return
    size_x, size_y = size_of(likes[0]), size_of(likes[1])
    for i in range(0, n, STAGE):
        m = min(STAGE, n - i)
        here = (moved_line(line[0], i), moved_line(line[1], i))
        apply_centered(x + i * size_x, stage, m, by, (0, 0), likes, hooks, here)
        stream(y + i * size_y, stage, m * size_y, x + (i + m) * size_x)


@compiled
def apply_run(x, y, n, place, root, c, arrays, likes, hooks, line, stage):
    """n elements of channel c, by what was found."""
    w = parameter(arrays[2], c, likes[2], 1.0)
    b = parameter(arrays[3], c, likes[2], 0.0)
    power, high, low = place
    like = likes[0]
    by, good = factors(working(high, like), working(low, like), root, w, b, like)
    if power == 0.0 and good:
        apply_one(x, y, n, by, likes, hooks, line, stage)
        return
    wide = (power if power != 0.0 else 1.0, high, low, root, 0.0, w, b)
    apply_slow(x, y, n, wide, (0, 0), likes, hooks, line)


@compiled
def stated(root, power):
    """rstd as the caller knows it, of what was scaled by a power of two."""
    return root * power if power != 0.0 else root


@compiled
def prepared(x, segs, step, length, room, likes, hooks, extras, at, by_sample):
    """Fills `room` with what the first hook makes of a run.

    Segments are samples of channel at[1], or channels from at[1] on of sample at[0].
    """
    size = size_of(working(0, likes[0]))
    for s in range(segs):
        a, b = (at[0], at[1] + s) if by_sample else (s, at[1])
        line = (line_of(extras[0], a, b), ())
        here = x + s * step * size_of(likes[0])
        prepare(
            here, room + s * length * size, length, likes, (None, hooks[1], None), line
        )


@compiled(forceinline=True)
def _set_factor(c, hi, lo, var, arrays, eps, likes, by):
    """Column c of the arrays `by`: hi, scale and offset; rstd, and whether they fit."""
    kind = working(0, likes[0])
    least, most = (1e-30, 1e36) if size_of(kind) == 4 else (0.0, 1e307)
    w = parameter(arrays[2], c, likes[2], 1.0)
    b = parameter(arrays[3], c, likes[2], 0.0)
    root = reciprocal_root(var, eps)
    scale = root * w
    offset = b - lo * scale
    size = abs(scale)
    store_own(by[0], c, working(hi, kind))
    store_own(by[1], c, working(scale, kind))
    store_own(by[2], c, working(offset, kind))
    fits = ((size == 0.0) | ((size > least) & (size < most))) & (abs(offset) < most)
    return root, fits


@compiled(forceinline=True)
def _set_given(c, arrays, eps, likes, at):
    """Column c of `by` from what is stored: mean, var and rstd, and whether it fits."""
    mean = parameter(arrays[6], c, likes[2], 0.0)
    var = parameter(arrays[7], c, likes[2], 1.0)
    hi = np.float64(working(mean, likes[0]))
    root, fits = _set_factor(c, hi, mean - hi, var, arrays, eps, likes, at)
    return mean, var, root, fits


@compiled
def set_factors(arrays, first, end, eps, likes, by):
    """hi, scale and offset of channels [first, end) to `by`, from what is stored.

    How many of them the working type has no room for. A loop whose only branches are
    about pointers is one that is made of vectors.
    """
    at = by[0].ctypes.data, by[1].ctypes.data, by[2].ctypes.data
    bad = 0
    for c in range(first, end):
        _, _, _, fits = _set_given(c, arrays, eps, likes, at)
        bad += 0 if fits else 1
    return bad


@compiled
def is_found_used(bad, arrays):
    """Whether set_found() is called for: it writes 64 KB of 2048 channels."""
    return bad > 0 or arrays[4] != 0 or arrays[5] != 0


@compiled
def set_found(arrays, first, end, eps, likes, by, found):
    """Mean, var and rstd, and 1 where factors do not fit."""
    at = by[0].ctypes.data, by[1].ctypes.data, by[2].ctypes.data
    for c in range(first, end):
        mean, var, root, fits = _set_given(c, arrays, eps, likes, at)
        found[0, c], found[1, c], found[2, c] = mean, var, root
        found[3, c] = 0.0 if fits else 1.0


@compiled
def set_found_factors(arrays, channels, eps, likes, by, columns, found):
    """Both from what finish_columns() found."""
    at = by[0].ctypes.data, by[1].ctypes.data, by[2].ctypes.data
    bad = 0
    for c in range(channels):
        hi, lo, var = columns[0, c], columns[1, c], columns[2, c]
        root, fits = _set_factor(c, hi, lo, var, arrays, eps, likes, at)
        fits = fits & (columns[3, c] == 0.0)
        bad += 0 if fits else 1
        found[0, c], found[1, c], found[2, c] = columns[4, c], var, root
        found[3, c] = 0.0 if fits else 1.0
    return bad


@compiled
def report_all(arrays, first, end, found, like):
    if arrays[4] == 0 and arrays[5] == 0:
        return
    for c in range(first, end):
        report(arrays[4], c, found[0, c], like)
        report(arrays[5], c, found[2, c], like)


# ---- called from Python ----


@njit(error_model="numpy")
def update_running(running, factor, unbias, found, like, like_x):
    """Running mean and variance take in found[0] and found[1], the latter unbiased."""
    for k in range(2):
        by = factor * unbias if k == 1 else factor
        for c in range(found.shape[1]):
            old = np.float64(widen(fetch(running[k], c, like)))
            value = working((1.0 - factor) * old + by * found[k, c], like_x)
            store(running[k], c, narrow(value, like))


@njit(error_model="numpy")
def write_moments(found, count, mean, m2):
    for c in range(found.shape[1]):
        store(mean, c, found[0, c])
        store(m2, c, found[1, c] * count)
