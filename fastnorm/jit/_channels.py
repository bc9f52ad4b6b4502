# SPDX-License-Identifier: MIT
"""_channels.py - batch, group and instance norm of channels of adjacent positions.

A channel of batch norm is one run of segments, a group of a sample too. Few and long
channels are cut into pieces that threads share: the cuts depend on the shape alone,
and what they find is added in their order. Without y there are statistics alone.

`arrays` are the addresses of x, y, weight, bias, mean and rstd and of two stored or
running statistics; `shape` batch, channels, spatial and groups; `strides` those of
samples and channels of x, then of y.
"""

import math

import numpy as np
from numba import njit, prange

from ._apply import STAGE, apply_centered, apply_slow, prepare
from ._hooks import line_of, moved_line
from ._memory import (
    fence,
    fetch,
    keep,
    load,
    load_own,
    narrow,
    size_of,
    store,
    store_own,
    stream,
    widen,
    working,
)
from ._rows import report
from ._statistics import (
    find_moments,
    is_lost,
    reciprocal_root,
    run_sums,
    shift_of,
    slow_moments,
    split_mean,
    two_sum,
)

SPAN = 32768
"""Elements that are not cut."""


@njit(error_model="numpy", forceinline=True)
def parameter(p, i, like, otherwise):
    """Parameter i in float64; `otherwise` without any."""
    return np.float64(widen(load(p, i, like))) if p != 0 else otherwise


@njit(error_model="numpy")
def factors(hi, lo, root, w, b, like):
    """(hi, scale, offset) of the working type, and whether that has room for them."""
    scale = root * w
    offset = b - np.float64(lo) * scale
    good = math.isfinite(scale) and math.isfinite(offset)
    if size_of(like) == 4:
        good = (scale == 0.0 or 1e-30 < abs(scale) < 1e36) and abs(offset) < 1e38
    return (hi, working(scale, like), working(offset, like)), good


@njit(error_model="numpy")
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


@njit(error_model="numpy")
def given(mean, var, eps, like):
    """The same of statistics that are there already."""
    hi = working(mean, like)
    lo = working(mean - np.float64(hi), like)
    return (0.0, np.float64(hi), np.float64(lo)), mean, var, reciprocal_root(var, eps)


@njit(error_model="numpy")
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


@njit(error_model="numpy")
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


@njit(error_model="numpy")
def stated(root, power):
    """rstd as the caller knows it, of what was scaled by a power of two."""
    return root * power if power != 0.0 else root


@njit(error_model="numpy")
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


@njit(error_model="numpy")
def _channel(c, arrays, shape, strides, options, likes, hooks, extras, found):
    batch, _, spatial, _ = shape
    eps = options[1]
    like, size = likes[0], size_of(likes[0])
    x = arrays[0] + c * strides[1] * size
    step = strides[0]
    room = np.empty(batch * spatial if hooks[1] is not None else 0, np.float64)
    if hooks[1] is None:
        place, mean, var, root = find_run(x, batch, step, spatial, like, eps)
        if arrays[1] != 0:
            apply_channel(x, step, c, place, root, arrays, shape, strides, likes, hooks,
                          extras)  # fmt: skip
    else:
        p = room.ctypes.data
        prepared(x, batch, step, spatial, p, likes, hooks, extras, (0, c), False)
        zero = working(0, like)
        place, mean, var, root = find_run(p, batch, spatial, spatial, zero, eps)
        made = (zero, likes[1], likes[2])
        later = (None, None, hooks[2])
        apply_channel(p, spatial, c, place, root, arrays, shape, strides, made, later,
                      extras)  # fmt: skip
    keep(room)
    report(arrays[4], c, mean, like)
    report(arrays[5], c, stated(root, place[0]), like)
    found[0, c], found[1, c] = mean, var


@njit(error_model="numpy")
def apply_channel(
    x, step, c, place, root, arrays, shape, strides, likes, hooks, extras
):
    """All samples of a channel, which at x are a step apart."""
    for n in range(shape[0]):
        here = x + n * step * size_of(likes[0])
        to = arrays[1] + (n * strides[2] + c * strides[3]) * size_of(likes[1])
        line = (line_of(extras[0], n, c), line_of(extras[1], n, c))
        apply_run(here, to, shape[2], place, root, c, arrays, likes, hooks, line, 0)


def batch(prologue, epilogue):
    """The kernel of batch norm in training, channel by channel, with these hooks."""

    def batch_kernel(arrays, shape, strides, options, likes, found, before, after):
        """Channel by channel: the second read of one comes from a cache."""
        for c in prange(shape[1]):
            hooks, extras = (None, prologue, epilogue), (before, after)
            _channel(c, arrays, shape, strides, options, likes, hooks, extras, found)

    return batch_kernel


# ---- inference: what there is to find out is known before x is read ----


@njit(error_model="numpy", forceinline=True)
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


@njit(error_model="numpy")
def set_factors(arrays, channels, eps, likes, by, found):
    """hi, scale and offset of all channels to `by`, mean, var and rstd to `found`.

    How many of them the working type has no room for: found[3] is 1 there. A loop whose
    only branches are about pointers is one that is made of vectors.
    """
    at = by[0].ctypes.data, by[1].ctypes.data, by[2].ctypes.data
    bad = 0
    for c in range(channels):
        mean = parameter(arrays[6], c, likes[2], 0.0)
        var = parameter(arrays[7], c, likes[2], 1.0)
        hi = np.float64(working(mean, likes[0]))
        root, fits = _set_factor(c, hi, mean - hi, var, arrays, eps, likes, at)
        bad += 0 if fits else 1
        found[0, c], found[1, c], found[2, c] = mean, var, root
        found[3, c] = 0.0 if fits else 1.0
    return bad


@njit(error_model="numpy")
def set_found_factors(arrays, channels, eps, likes, by, columns, found):
    """The same from what finish_columns() found."""
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


@njit(error_model="numpy")
def report_all(arrays, channels, found, like):
    for c in range(channels):
        report(arrays[4], c, found[0, c], like)
        report(arrays[5], c, found[2, c], like)


@njit(error_model="numpy")
def _lines(
    first, end, bad, by, arrays, shape, strides, likes, hooks, extras, found, streams
):
    """Lines of a sample and channel in the order of memory."""
    like = working(0, likes[0])
    at = by[0].ctypes.data, by[1].ctypes.data, by[2].ctypes.data
    stage = np.empty(STAGE if streams else 0, np.float64)
    room = stage.ctypes.data if streams else 0
    for i in range(first, end):
        n = i // shape[1]
        c = i - n * shape[1]
        x = arrays[0] + (n * strides[0] + c * strides[1]) * size_of(likes[0])
        y = arrays[1] + (n * strides[2] + c * strides[3]) * size_of(likes[1])
        line = (line_of(extras[0], n, c), line_of(extras[1], n, c))
        if bad > 0 and found[3, c] != 0.0:
            place, _, _, root = given(found[0, c], found[1, c], found[4, c], like)
            apply_run(x, y, shape[2], place, root, c, arrays, likes, hooks, line, 0)
        else:
            values = (
                load_own(at[0], c, like), load_own(at[1], c, like),
                load_own(at[2], c, like),
            )  # fmt: skip
            apply_one(x, y, shape[2], values, likes, hooks, line, room)
    if streams:
        fence()
    keep(stage)


def inference(prologue, epilogue):
    """The kernel of batch norm in inference with these hooks."""

    def inference_kernel(
        arrays, shape, strides, options, likes, found, blocks, before, after
    ):
        channels, lines = shape[1], shape[0] * shape[1]
        by = np.empty((3, channels), np.float64)
        bad = set_factors(arrays, channels, options[1], likes, by, found)
        for c in range(channels if bad > 0 else 0):
            found[4, c] = options[1]
        report_all(arrays, channels, found, likes[0])
        for i in prange(blocks):
            hooks, extras = (None, prologue, epilogue), (before, after)
            _lines(i * lines // blocks, (i + 1) * lines // blocks, bad, by, arrays,
                   shape, strides, likes, hooks, extras, found, options[2])  # fmt: skip

    return inference_kernel


# ---- few long channels, in pieces ----


@njit(error_model="numpy")
def _unit(i, shape, strides, size):
    """Where unit i of a channel is, from its beginning on, and how long."""
    spans = (shape[2] + SPAN - 1) // SPAN
    n, first = i // spans, i % spans * SPAN
    return n, first, min(SPAN, shape[2] - first)


@njit(error_model="numpy")
def _sums_of_piece(task, pieces, arrays, shape, strides, like, shift, part):
    c, piece = task // pieces, task % pieces
    size = size_of(like)
    units = shape[0] * ((shape[2] + SPAN - 1) // SPAN)
    s = r = q = t = 0.0
    for i in range(piece * units // pieces, (piece + 1) * units // pieces):
        n, first, length = _unit(i, shape, strides, size)
        p = arrays[0] + (n * strides[0] + c * strides[1] + first) * size
        a, b = run_sums(p, 1, 0, length, size, like, working(shift[c], like))
        s, r = two_sum(s, r, a)
        q, t = two_sum(q, t, b)
    part[c, piece, 0], part[c, piece, 1] = s + r, q + t


@njit(error_model="numpy")
def _merge(part, c, count):
    s = r = q = t = 0.0
    for piece in range(part.shape[1]):
        s, r = two_sum(s, r, part[c, piece, 0])
        q, t = two_sum(q, t, part[c, piece, 1])
    return (s + r) / count, (q + t) / count


@njit(error_model="numpy")
def _moved(part, shift, count, like):
    """As move_shift() of columns."""
    moved = False
    for c in range(shift.size):
        m, square = _merge(part, c, count)
        if m * m > square - m * m:
            again = np.float64(split_mean(working(shift[c], like), m, like)[0])
            if again != shift[c] and math.isfinite(again):
                shift[c] = again
                moved = True
    return moved


@njit(error_model="numpy")
def _finish_channel(c, part, shift, arrays, shape, strides, eps, like, found):
    """Mean, variance, power, hi, lo and rstd to found[:, c]."""
    count = np.float64(shape[0]) * np.float64(shape[2])
    m, square = _merge(part, c, count)
    if is_lost(square, eps, like):
        x = arrays[0] + c * strides[1] * size_of(like)
        place, mean, var, root = find_run(x, shape[0], strides[0], shape[2], like, eps)
    else:
        hi, lo = split_mean(working(shift[c], like), m, like)
        place = (0.0, np.float64(hi), np.float64(lo))
        mean, var = shift[c] + m, max(square - m * m, 0.0)
        root = reciprocal_root(var, eps)
    found[0, c], found[1, c] = mean, var
    found[2, c], found[3, c], found[4, c] = place
    found[5, c] = root


@njit(error_model="numpy")
def _apply_piece(
    task, pieces, arrays, shape, strides, likes, hooks, extras, found, streams
):
    c, piece = task // pieces, task % pieces
    size = size_of(likes[0])
    units = shape[0] * ((shape[2] + SPAN - 1) // SPAN)
    place = (found[2, c], found[3, c], found[4, c])
    stage = np.empty(STAGE if streams else 0, np.float64)
    room = stage.ctypes.data if streams else 0
    for i in range(piece * units // pieces, (piece + 1) * units // pieces):
        n, first, length = _unit(i, shape, strides, size)
        x = arrays[0] + (n * strides[0] + c * strides[1] + first) * size
        y = arrays[1] + (n * strides[2] + c * strides[3] + first) * size_of(likes[1])
        line = (line_at(extras[0], n, c, first), line_at(extras[1], n, c, first))
        apply_run(x, y, length, place, found[5, c], c, arrays, likes, hooks, line, room)
    if streams:
        fence()
    keep(stage)


@njit(error_model="numpy", forceinline=True)
def line_at(extras, n, c, first):
    """line_of() from position `first` on."""
    return moved_line(line_of(extras, n, c), first)


def pieces(prologue, epilogue):
    """The kernel of batch norm, channels in pieces, with these hooks."""

    def pieces_kernel(
        arrays, shape, strides, options, likes, found, pieces, before, after
    ):
        channels = shape[1]
        training, eps, streams = options
        like = likes[0]
        shift = np.zeros(channels, np.float64)
        part = np.zeros((channels, pieces, 2), np.float64)
        count = np.float64(shape[0]) * np.float64(shape[2])
        for c in range(channels if training else 0):
            x = arrays[0] + c * strides[1] * size_of(like)
            shift[c] = np.float64(
                shift_of(x, shape[0], strides[0], shape[2], size_of(like), like)
            )
        for turn in range(3 if training else 0):
            for task in prange(channels * pieces):
                _sums_of_piece(task, pieces, arrays, shape, strides, like, shift, part)
            if turn == 2 or not _moved(part, shift, count, like):
                break
        for c in range(channels):
            if training:
                _finish_channel(
                    c, part, shift, arrays, shape, strides, eps, like, found
                )
            else:
                mean = parameter(arrays[6], c, likes[2], 0.0)
                var = parameter(arrays[7], c, likes[2], 1.0)
                place, mean, var, root = given(mean, var, eps, like)
                found[0, c], found[1, c] = mean, var
                found[2, c], found[3, c], found[4, c] = place
                found[5, c] = root
            report(arrays[4], c, found[0, c], like)
            report(arrays[5], c, stated(found[5, c], found[2, c]), like)
        if arrays[1] != 0:
            for task in prange(channels * pieces):
                hooks, extras = (None, prologue, epilogue), (before, after)
                _apply_piece(task, pieces, arrays, shape, strides, likes, hooks, extras,
                             found, streams)  # fmt: skip

    return pieces_kernel


# ---- groups of samples ----


@njit(error_model="numpy")
def group_statistics(i, arrays, shape, options, likes):
    """Mean and variance that are given for group i."""
    groups = shape[3]
    if options[2]:  # of channels, the same for all samples
        c = i % groups
        return (
            parameter(arrays[6], c, likes[2], 0.0),
            parameter(arrays[7], c, likes[2], 1.0),
        )
    kind = working(0, likes[0])
    return parameter(arrays[6], i, kind, 0.0), parameter(arrays[7], i, kind, 1.0)


@njit(error_model="numpy")
def _group(i, arrays, shape, strides, options, likes, hooks, extras, found):
    _, channels, spatial, groups = shape
    per = channels // groups
    n, first = i // groups, i % groups * per
    like = likes[0]
    x = arrays[0] + (n * strides[0] + first * strides[1]) * size_of(like)
    step = strides[1]
    size = per * spatial
    room = np.empty(size if hooks[1] is not None and options[0] else 0, np.float64)
    if not options[0]:
        mean, var = group_statistics(i, arrays, shape, options, likes)
        place, mean, var, root = given(mean, var, options[1], like)
        apply_group(x, step, n, first, place, root, arrays, shape, strides, likes,
                    hooks, extras)  # fmt: skip
    elif hooks[1] is None:
        if step == spatial or per == 1:
            place, mean, var, root = find_run(x, 1, 0, size, like, options[1])
        else:
            place, mean, var, root = find_run(x, per, step, spatial, like, options[1])
        apply_group(x, step, n, first, place, root, arrays, shape, strides, likes,
                    hooks, extras)  # fmt: skip
    else:
        p = room.ctypes.data
        prepared(x, per, step, spatial, p, likes, hooks, extras, (n, first), True)
        zero = working(0, like)
        place, mean, var, root = find_run(p, 1, 0, size, zero, options[1])
        made = (zero, likes[1], likes[2])
        later = (None, None, hooks[2])
        apply_group(p, spatial, n, first, place, root, arrays, shape, strides, made,
                    later, extras)  # fmt: skip
    keep(room)
    report(arrays[4], i, mean, like)
    report(arrays[5], i, stated(root, place[0]), like)
    found[0, i], found[1, i] = mean, var


@njit(error_model="numpy")
def apply_group(x, step, n, first, place, root, arrays, shape, strides, likes, hooks,
                extras):  # fmt: skip
    """The channels of a group from channel `first` on, which at x are a step apart."""
    for k in range(shape[1] // shape[3]):
        c = first + k
        here = x + k * step * size_of(likes[0])
        to = arrays[1] + (n * strides[2] + c * strides[3]) * size_of(likes[1])
        line = (line_of(extras[0], n, c), line_of(extras[1], n, c))
        apply_run(here, to, shape[2], place, root, c, arrays, likes, hooks, line, 0)


def samples(prologue, epilogue):
    """The kernel of group and instance norm with these hooks."""

    def samples_kernel(arrays, shape, strides, options, likes, found, before, after):
        """options: whether statistics are those of x, eps, whether given by channel."""
        for i in prange(shape[0] * shape[3]):
            hooks, extras = (None, prologue, epilogue), (before, after)
            _group(i, arrays, shape, strides, options, likes, hooks, extras, found)

    return samples_kernel


# ---- what is left for one thread ----


@njit(error_model="numpy")
def update_running(running, factor, unbias, mean, var, like, like_x):
    """Running mean and variance take in those of a batch, the variance unbiased."""
    for c in range(mean.size):
        for k in range(2):
            old = np.float64(widen(fetch(running[k], c, like)))
            value = mean[c] if k == 0 else var[c] * unbias
            new = working((1.0 - factor) * old + factor * value, like_x)
            store(running[k], c, narrow(new, like))


@njit(error_model="numpy")
def write_moments(found, count, mean, m2):
    for c in range(found.shape[1]):
        store(mean, c, found[0, c])
        store(m2, c, found[1, c] * count)
