# SPDX-License-Identifier: MIT
"""_columns.py - mean and variance of the columns of a table, and what is made of them.

A table is `rows` lines of `cols` contiguous elements, a step of `step` elements apart:
an image whose channels are last, or the axes of a layer norm over a middle axis. Eight
rows at a time are added to sums of the working type, which go on to float64 after 64.
Few columns whose rows follow each other are folded: some rows count as one.
"""

import math

import numpy as np

from ._compile import compiled
from ._hooks import hooked, line_of, moved_line
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
from ._statistics import (
    PLAIN,
    is_lost,
    reciprocal_root,
    slow_moments,
    split_mean,
    whole,
)

FLUSH = 64
FOLD_TO = 512  # elements: rows of 64 are bound by what each costs


@compiled(fastmath=PLAIN)
def _add_eight(p, pitch, cols, like, shift, s, q):
    """Rows p, p + pitch, ... of bytes: d and d^2 to the sums at s and q."""
    p1, p2, p3 = p + pitch, p + 2 * pitch, p + 3 * pitch
    p4, p5, p6, p7 = p1 + 3 * pitch, p2 + 3 * pitch, p3 + 3 * pitch, p + 7 * pitch
    kind = working(0, like)
    for c in range(cols):
        h = fetch(shift, c, kind)
        a, b = widen(fetch(p, c, like)) - h, widen(fetch(p1, c, like)) - h
        d, e = widen(fetch(p2, c, like)) - h, widen(fetch(p3, c, like)) - h
        f, g = widen(fetch(p4, c, like)) - h, widen(fetch(p5, c, like)) - h
        i, j = widen(fetch(p6, c, like)) - h, widen(fetch(p7, c, like)) - h
        new = ((a + b) + (d + e)) + ((f + g) + (i + j))
        squares = ((a * a + b * b) + (d * d + e * e)) + (
            (f * f + g * g) + (i * i + j * j)
        )
        store_own(s, c, load_own(s, c, kind) + new)
        store_own(q, c, load_own(q, c, kind) + squares)


@compiled(fastmath=PLAIN)
def _add_one(p, cols, like, shift, s, q):
    kind = working(0, like)
    for c in range(cols):
        d = widen(fetch(p, c, like)) - fetch(shift, c, kind)
        store_own(s, c, load_own(s, c, kind) + d)
        store_own(q, c, load_own(q, c, kind) + d * d)


@compiled(forceinline=True)
def add_to(sums, k, c, value):
    """Adds to sums[k, c], of which sums[k + 2, c] is what was lost by rounding."""
    total = sums[k, c]
    new = total + value
    # Knuth's, which asks nothing about which is larger: a loop of these has no branch.
    back = new - total
    sums[k + 2, c] += (total - (new - back)) + (value - back)
    sums[k, c] = new


@compiled
def _flush(s, q, cols, like, sums):
    kind = working(0, like)
    for c in range(cols):
        add_to(sums, 0, c, np.float64(load_own(s, c, kind)))
        add_to(sums, 1, c, np.float64(load_own(q, c, kind)))
        store_own(s, c, kind)
        store_own(q, c, kind)


@compiled
def add_table(p, rows, step, cols, like, shift, sums):
    """Adds sums of d and d^2 of each column to sums: see add_to()."""
    room = np.zeros((2, cols), np.float64)
    pitch = step * size_of(like)
    s, q = room[0].ctypes.data, room[1].ctypes.data
    for first in range(0, rows, FLUSH):
        end = min(first + FLUSH, rows)
        r = first
        while r + 8 <= end:
            _add_eight(p + r * pitch, pitch, cols, like, shift, s, q)
            r += 8
        while r < end:
            _add_one(p + r * pitch, cols, like, shift, s, q)
            r += 1
        _flush(s, q, cols, like, sums)
    keep(room)


@compiled
def fold_of(rows, step, cols):
    """How many rows count as one."""
    if cols > FOLD_TO // 2 or step != cols:
        return 1
    return max(min(FOLD_TO // cols, rows), 1)


@compiled
def column_sums(p, rows, step, cols, like, shift):
    """The same of a table whose few columns may be folded; shift is an array."""
    fold = fold_of(rows, step, cols)
    wide = np.empty(fold * cols, np.float64)
    place = wide.ctypes.data
    for k in range(fold):
        for c in range(cols):
            store(place, k * cols + c, working(shift[c], like))
    rest = np.zeros((4, cols), np.float64)
    full = rows // fold if fold > 1 else 0
    if full > 0:
        sums = np.zeros((4, fold * cols), np.float64)
        add_table(p, full, fold * step, fold * cols, like, place, sums)
        for k in range(fold):
            for c in range(cols):
                for i in range(2):
                    add_to(rest, i, c, sums[i, k * cols + c])
                    rest[i + 2, c] += sums[i + 2, k * cols + c]
    left = rows - full * fold
    if left > 0:
        there = p + full * fold * step * size_of(like)
        add_table(there, left, step, cols, like, place, rest)
    keep(wide)
    for c in range(cols):
        rest[0, c] = whole(rest[0, c], rest[2, c])
        rest[1, c] = whole(rest[1, c], rest[3, c])
    return rest[:2]


@compiled
def column_shift(p, rows, step, cols, like):
    """The mean of 32 elements of each column, in the working type.

    So many that of thousands of columns hardly one is so far from its mean that all of
    the table would have to be read again.
    """
    shift = np.zeros(cols, np.float64)
    count, apart = min(rows, 32), max(rows >> 5, 1)
    for i in range(count):
        row = p + i * apart * step * size_of(like)
        for c in range(cols):
            shift[c] += 0.03125 * np.float64(widen(fetch(row, c, like)))
    for c in range(cols):
        shift[c] = np.float64(working(shift[c] * (32.0 / count), like))
    return shift


@compiled
def move_shift(shift, sums, count, like):
    """Whether a shift was too far from its mean; those that were are moved there."""
    far = 0
    for c in range(shift.size):  # without branches, as there is hardly ever one
        m, square = sums[0, c] / count, sums[1, c] / count
        far += 1 if m * m > square - m * m else 0
    moved = False
    for c in range(shift.size if far > 0 else 0):
        m, square = sums[0, c] / count, sums[1, c] / count
        if m * m > square - m * m:
            again = np.float64(split_mean(working(shift[c], like), m, like)[0])
            if again != shift[c] and math.isfinite(again):
                shift[c] = again
                moved = True
    return moved


@compiled
def finish_columns(shift, sums, count, like, eps, found):
    """found: mean as hi and lo, variance, 1 where these cannot be trusted, and mean."""
    for c in range(shift.size):
        m, square = sums[0, c] / count, sums[1, c] / count
        hi, lo = split_mean(working(shift[c], like), m, like)
        found[0, c], found[1, c] = np.float64(hi), np.float64(lo)
        found[2, c] = max(square - m * m, 0.0)
        found[3, c] = 1.0 if is_lost(square, eps, like) else 0.0
        found[4, c] = shift[c] + m


@compiled
def find_columns(p, rows, step, cols, like, eps, centered):
    """The same of a table that one thread reads; or hi = lo = 0 and mean squares."""
    if not centered:
        shift = np.zeros(cols, np.float64)
        sums = column_sums(p, rows, step, cols, like, shift)
        for c in range(cols):
            sums[0, c] = 0.0
        found = np.empty((5, cols), np.float64)
        finish_columns(shift, sums, np.float64(rows), like, eps, found)
        return found
    shift = column_shift(p, rows, step, cols, like)
    found = np.empty((5, cols), np.float64)
    sums = column_sums(p, rows, step, cols, like, shift)
    for _ in range(2):
        if not move_shift(shift, sums, np.float64(rows), like):
            break
        sums = column_sums(p, rows, step, cols, like, shift)
    finish_columns(shift, sums, np.float64(rows), like, eps, found)
    return found


# ---- application ----


@compiled(fastmath=PLAIN)
def apply_line(x, y, n, by, across, likes, hooks, line):
    """A row: (x - hi) * scale + offset by column, then * weight + bias of the row."""
    hi, scale, offset = by
    kind = working(0, likes[0])
    w, b = across
    for c in range(n):
        v = hooked(hooks[1], widen(fetch(x, c, likes[0])), c, line[0])
        t = (v - load_own(hi, c, kind)) * load_own(scale, c, kind) + load_own(
            offset, c, kind
        )
        t = t * w + b
        store(y, c, narrow(hooked(hooks[2], t, c, line[1]), likes[1]))


@compiled(fastmath=PLAIN)
def apply_line_in_place(y, n, by, across, likes, hooks, line):
    hi, scale, offset = by
    kind = working(0, likes[0])
    w, b = across
    for c in range(n):
        v = hooked(hooks[1], widen(fetch(y, c, likes[0])), c, line[0])
        t = (v - load_own(hi, c, kind)) * load_own(scale, c, kind) + load_own(
            offset, c, kind
        )
        t = t * w + b
        store(y, c, narrow(hooked(hooks[2], t, c, line[1]), likes[1]))


@compiled
def own_arrays(cols):
    """Room for hi, scale and offset of columns, in the working type."""
    return np.empty((3, cols), np.float64)


@compiled(forceinline=True)
def set_column(by, c, hi, scale, offset):
    store_own(by[0].ctypes.data, c, hi)
    store_own(by[1].ctypes.data, c, scale)
    store_own(by[2].ctypes.data, c, offset)


@compiled
def _repeated(by, cols, fold, kind):
    wide = np.empty((3, fold * cols), np.float64)
    for k in range(3):
        source, to = by[k].ctypes.data, wide[k].ctypes.data
        for i in range(fold):
            for c in range(cols):
                store_own(to, i * cols + c, load_own(source, c, kind))
    return wide


@compiled
def _apply_rows(x, y, rows, x_step, y_step, cols, by, likes, hooks, extras, at, room):
    # One after the other. Four in step share the loads of what goes with a column, but
    # are eight streams with the same place in a page, for eight ways of a first-level
    # cache: batch norm of [6272, 256] 710 us, this 400 (AMD EPYC Zen 3).
    across = (working(1, likes[0]), working(0, likes[0]))
    place = (by[0].ctypes.data, by[1].ctypes.data, by[2].ctypes.data)
    pitch_x, pitch_y = x_step * size_of(likes[0]), y_step * size_of(likes[1])
    width = cols * size_of(likes[1])
    plain = hooks[1] is None and hooks[2] is None
    staged = rows // 4 * 4 if plain and room != 0 and x != y else 0
    for r in range(rows):
        here, to = x + r * pitch_x, y + r * pitch_y
        if r < staged:
            to = room + r % 4 * width
        a, b = at[0], at[1] + r
        line = (line_of(extras[0], a, b), line_of(extras[1], a, b))
        if here == to:
            apply_line_in_place(to, cols, place, across, likes, hooks, line)
        else:
            apply_line(here, to, cols, place, across, likes, hooks, line)
        if r < staged and r % 4 == 3:
            stream(y + (r - 3) * pitch_y, room, 4 * width, here + pitch_x)


@compiled
def apply_table(
    x, y, rows, x_step, y_step, cols, by, likes, hooks, extras, at, streams
):
    """Rows by the columns' hi, scale and offset.

    Lines (at[0], at[1] + r) of the extras go with row r. Few columns are folded where
    nothing but x and y goes along.
    """
    fold = fold_of(rows, x_step, cols)
    packed = streams and y_step == cols and fold * cols <= 4 * FOLD_TO
    stage = np.empty(16 * FOLD_TO if packed else 0, np.float64)
    room = stage.ctypes.data if packed else 0
    if hooks[1] is None and hooks[2] is None and fold > 1 and y_step == cols:
        wide = _repeated(by, cols, fold, working(0, likes[0]))
        full = rows // fold
        _apply_rows(x, y, full, fold * cols, fold * cols, fold * cols, wide, likes,
                    hooks, extras, at, room)  # fmt: skip
        done = full * fold
        x += done * cols * size_of(likes[0])
        y += done * cols * size_of(likes[1])
        rows -= done
    _apply_rows(x, y, rows, x_step, y_step, cols, by, likes, hooks, extras, at, room)
    if packed:
        fence()
    keep(stage)


# ---- columns that leave the range ----


@compiled
def kept_column(x, rows, step, c, like):
    """A copy of column c, as float64; the table may be overwritten."""
    kept = np.empty(rows, np.float64)
    for r in range(rows):
        kept[r] = np.float64(widen(fetch(x + r * step * size_of(like), c, like)))
    return kept


@compiled
def slow_column(kept, eps, centered):
    """slow_moments of such a copy, its rstd in place of eps, and mean and variance."""
    power, hi, lo, var, rest = slow_moments(
        kept.ctypes.data, kept.size, 1, 1, 8, np.float64(0), eps, centered
    )
    mean, back = (hi + lo) / power, 1.0 / power
    return power, hi, lo, reciprocal_root(var, rest), mean, var * back * back


@compiled
def apply_kept(kept, y, y_step, c, by, across, likes, hooks, extras, at):
    """Column c of y from its copy; `across` weights and biases of rows, or 0, and what
    is added to the weights; `at` the extras' first line and its first element.
    """
    power, hi, lo, rstd, weight, bias = by
    w, b, one = across
    for r in range(kept.size):
        a, e = at[0], at[1] + r
        line = (
            moved_line(line_of(extras[0], a, e), at[2]),
            moved_line(line_of(extras[1], a, e), at[2]),
        )
        v = np.float64(hooked(hooks[1], working(kept[r], likes[0]), c, line[0]))
        t = ((v * power - hi) - lo) * rstd * weight + bias
        if w != 0:
            t *= np.float64(widen(load(w, r, likes[2]))) + one
        if b != 0:
            t += np.float64(widen(load(b, r, likes[2])))
        last = hooked(hooks[2], working(t, likes[0]), c, line[1])
        store(y + r * y_step * size_of(likes[1]), c, narrow(last, likes[1]))
