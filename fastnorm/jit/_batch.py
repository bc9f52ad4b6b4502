# SPDX-License-Identifier: MIT
"""_batch.py - batch norm of channels whose positions are adjacent.

A channel is one run of segments. Few and long channels are cut into pieces that threads
share: the cuts depend on the shape alone, and what they find is added in their order.
Without y there are statistics alone. Arguments are those of _channels.py.
"""

import math

import numpy as np
from numba import prange

from ._apply import STAGE, past
from ._channels import (
    apply_one,
    apply_run,
    find_run,
    given,
    is_found_used,
    parameter,
    prepared,
    report_all,
    set_factors,
    set_found,
    set_found_factors,
    stated,
)
from ._columns import finish_columns, move_shift
from ._compile import compiled
from ._hooks import line_of, moved_line
from ._memory import fence, keep, load_own, size_of, working
from ._rows import report
from ._statistics import (
    is_lost,
    reciprocal_root,
    run_sums,
    samples_of,
    shift_at,
    split_mean,
    two_sum,
    whole,
)

SPAN = 32768
"""Elements that are not cut."""


@compiled
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


@compiled
def apply_channel(
    x, step, c, place, root, arrays, shape, strides, likes, hooks, extras
):
    """All samples of a channel, which at x are a step apart."""
    for n in range(shape[0]):
        here = x + n * step * size_of(likes[0])
        to = arrays[1] + (n * strides[2] + c * strides[3]) * size_of(likes[1])
        line = (line_of(extras[0], n, c), line_of(extras[1], n, c))
        apply_run(here, to, shape[2], place, root, c, arrays, likes, hooks, line, 0)


@compiled
def _sums_of_channels(first, n, x, shape, strides, like, shift, sums):
    """Shifts of channels and sums about them, as find_moments() has them."""
    segs, _, length, _ = shape
    step, size = strides[0], size_of(like)
    of_n = 1.0 / (np.float64(segs) * np.float64(length))
    # One loop after the other: in one they wait for each other (2048 channels of 49
    # elements: 36 us, where these take 22).
    places = samples_of(segs, step, length)
    for k in range(n):
        p = x + (first + k) * strides[1] * size
        shift[k] = np.float64(shift_at(p, places, like))
    for k in range(n):
        p = x + (first + k) * strides[1] * size
        h = working(shift[k], like)
        sums[0, k], sums[1, k] = run_sums(p, segs, step, length, size, like, h)
    for k in range(n):
        for _ in range(2):
            m, square = sums[0, k] * of_n, sums[1, k] * of_n
            if not m * m > square - m * m:
                break
            again = split_mean(working(shift[k], like), m, like)[0]
            if again == shift[k] or not math.isfinite(again):
                break
            p = x + (first + k) * strides[1] * size
            shift[k] = np.float64(again)
            sums[0, k], sums[1, k] = run_sums(p, segs, step, length, size, like, again)


@compiled
def _channels(first, n, arrays, shape, strides, options, likes, hooks, extras, found):
    """Channels [first, first + n): what follows from their sums is made of vectors."""
    batch, _, spatial, _ = shape
    like = likes[0]
    room = np.empty((15, n), np.float64)
    shift, sums, columns = room[0], room[1:3], room[3:8]
    here, by = room[8:12], room[12:15]
    _sums_of_channels(first, n, arrays[0], shape, strides, like, shift, sums)
    count = np.float64(batch) * np.float64(spatial)
    finish_columns(shift, sums, count, like, options[1], columns)
    kind = working(0, like)
    own = (
        arrays[0], arrays[1], past(arrays[2], first, likes[2]),
        past(arrays[3], first, likes[2]), past(arrays[4], first, kind),
        past(arrays[5], first, kind), 0, 0,
    )  # fmt: skip
    bad = set_found_factors(own, n, options[1], likes, by, columns, here)
    report_all(own, 0, n, here, like)
    at = by[0].ctypes.data, by[1].ctypes.data, by[2].ctypes.data
    samples = batch if arrays[1] != 0 else 0
    for k in range(n):
        found[0, first + k], found[1, first + k] = here[0, k], here[1, k]
    for k in range(n):
        if bad > 0 and here[3, k] != 0.0:
            _channel(first + k, arrays, shape, strides, options, likes, hooks, extras,
                     found)  # fmt: skip
            continue
        values = _own_factors(at, k, kind)
        for i in range(samples):
            x, y, line = _ends(i, first + k, arrays, strides, likes, extras)
            apply_one(x, y, spatial, values, likes, hooks, line, 0)
    keep(room)


def batch(prologue, epilogue):
    """The kernel of batch norm in training, channel by channel, with these hooks."""

    def batch_kernel(
        arrays, shape, strides, options, likes, found, some, before, after
    ):
        """The second read of `some` channels comes from a cache."""
        for block in prange((shape[1] + some - 1) // some):
            hooks, extras = (None, prologue, epilogue), (before, after)
            first = block * some
            end = min(first + some, shape[1])
            if prologue is None:
                _channels(first, end - first, arrays, shape, strides, options, likes,
                          hooks, extras, found)  # fmt: skip
            else:
                for c in range(first, end):
                    _channel(c, arrays, shape, strides, options, likes, hooks, extras,
                             found)  # fmt: skip

    return batch_kernel


@compiled
def _given(first, end, channels, arrays, eps, likes, by):
    """Factors of channels [first, end) to `by`, and what is asked for to the caller.

    How many of them the working type has no room for; what is known of the channels
    then.
    """
    bad = set_factors(arrays, first, end, eps, likes, by)
    if not is_found_used(bad, arrays):
        return bad, by  # of which nobody will ask
    found = np.empty((6, channels), np.float64)
    set_found(arrays, first, end, eps, likes, by, found)
    report_all(arrays, first, end, found, likes[0])
    return bad, found


@compiled(forceinline=True)
def _ends(n, c, arrays, strides, likes, extras):
    """Where channel c of sample n is in x and y, and what hooks read beside it."""
    x = arrays[0] + (n * strides[0] + c * strides[1]) * size_of(likes[0])
    y = arrays[1] + (n * strides[2] + c * strides[3]) * size_of(likes[1])
    return x, y, (line_of(extras[0], n, c), line_of(extras[1], n, c))


@compiled(forceinline=True)
def _own_factors(by, c, like):
    return load_own(by[0], c, like), load_own(by[1], c, like), load_own(by[2], c, like)


@compiled
def _lines(
    first, end, bad, by, arrays, shape, strides, options, likes, hooks, extras, found
):
    """Lines of a sample and channel in the order of memory."""
    channels, length = shape[1], shape[2]
    like = working(0, likes[0])
    at = by[0].ctypes.data, by[1].ctypes.data, by[2].ctypes.data
    stage = np.empty(STAGE if options[2] else 0, np.float64)
    room = stage.ctypes.data if options[2] else 0
    line = first
    while line < end:
        n, c = line // channels, line % channels
        last = min(channels, c + end - line)
        line += last - c
        if bad == 0 and room == 0:
            # What lines of 49 elements spend beside these is what they take: 2048 of
            # them 12.0 us with the questions below in the loop, 10.1 without.
            for k in range(c, last):
                x, y, beside = _ends(n, k, arrays, strides, likes, extras)
                apply_one(x, y, length, _own_factors(at, k, like), likes, hooks, beside,
                          0)  # fmt: skip
            continue
        for k in range(c, last):
            x, y, beside = _ends(n, k, arrays, strides, likes, extras)
            if bad > 0 and found[3, k] != 0.0:
                place, _, _, root = given(found[0, k], found[1, k], options[1], like)
                apply_run(x, y, length, place, root, k, arrays, likes, hooks, beside, 0)
            else:
                apply_one(x, y, length, _own_factors(at, k, like), likes, hooks, beside,
                          room)  # fmt: skip
    if options[2]:
        fence()
    keep(stage)


def inference(prologue, epilogue):
    """The kernel of batch norm in inference with these hooks."""

    def inference_kernel(
        arrays, shape, strides, options, likes, _, blocks, before, after
    ):
        """Blocks of one sample have channels of their own, and find their factors."""
        channels, lines = shape[1], shape[0] * shape[1]
        shared = channels if shape[0] > 1 else 0
        by = np.empty((3, channels), np.float64)
        bad, found = _given(0, shared, channels, arrays, options[1], likes, by)
        for i in prange(blocks):
            hooks, extras = (None, prologue, epilogue), (before, after)
            first, end = i * lines // blocks, (i + 1) * lines // blocks
            here, known = bad, found
            if shared == 0:
                here, known = _given(
                    first, end, channels, arrays, options[1], likes, by
                )
            _lines(first, end, here, by, arrays, shape, strides, options, likes, hooks,
                   extras, known)  # fmt: skip

    return inference_kernel


@compiled
def _unit(i, shape, strides, size):
    """Where unit i of a channel is, from its beginning on, and how long."""
    spans = (shape[2] + SPAN - 1) // SPAN
    n, first = i // spans, i % spans * SPAN
    return n, first, min(SPAN, shape[2] - first)


@compiled
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
    part[c, piece, 0], part[c, piece, 1] = whole(s, r), whole(q, t)


@compiled
def _merge(part, sums):
    """The sums of all pieces of each channel, in their order."""
    for c in range(part.shape[0]):
        s = r = q = t = 0.0
        for piece in range(part.shape[1]):
            s, r = two_sum(s, r, part[c, piece, 0])
            q, t = two_sum(q, t, part[c, piece, 1])
        sums[0, c], sums[1, c] = whole(s, r), whole(q, t)


@compiled
def _finish_channel(c, sums, shift, arrays, shape, strides, eps, like, found):
    """Mean, variance, power, hi, lo and rstd to found[:, c]."""
    count = np.float64(shape[0]) * np.float64(shape[2])
    m, square = sums[0, c] / count, sums[1, c] / count
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


@compiled
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


@compiled(forceinline=True)
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
        sums = np.zeros((2, channels), np.float64)
        count = np.float64(shape[0]) * np.float64(shape[2])
        places = samples_of(shape[0], strides[0], shape[2])
        for c in range(channels if training else 0):
            x = arrays[0] + c * strides[1] * size_of(like)
            shift[c] = np.float64(shift_at(x, places, like))
        for turn in range(3 if training else 0):
            for task in prange(channels * pieces):
                _sums_of_piece(task, pieces, arrays, shape, strides, like, shift, part)
            _merge(part, sums)
            if turn == 2 or not move_shift(shift, sums, count, like):
                break
        for c in range(channels):
            if training:
                _finish_channel(
                    c, sums, shift, arrays, shape, strides, eps, like, found
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
