# SPDX-License-Identifier: MIT
"""_tables.py - norms whose statistics are those of columns.

Batch norm of [N, C] and of images whose channels are last, group and instance norm of
these, and layer and RMS norm over a middle axis. Arguments are those of _channels.py
and _rows.py.
"""

import numpy as np
from numba import prange

from ._apply import prepare
from ._channels import (
    factors,
    given,
    is_found_used,
    parameter,
    report_all,
    set_factors,
    set_found,
    set_found_factors,
)
from ._columns import (
    add_to,
    apply_kept,
    apply_line,
    apply_line_in_place,
    apply_table,
    column_shift,
    column_sums,
    find_columns,
    finish_columns,
    kept_column,
    move_shift,
    own_arrays,
    set_column,
    slow_column,
)
from ._compile import compiled
from ._hooks import line_of, moved_line
from ._memory import load, size_of, widen, working
from ._rows import report
from ._samples import group_statistics
from ._statistics import reciprocal_root, slow_moments, split_mean, two_sum, whole


@compiled
def _part(x, step, like, rows, chunks, i):
    """Where chunk i of a table begins, its first row and number of rows."""
    first = i * rows // chunks
    return x + first * step * size_of(like), first, (i + 1) * rows // chunks - first


@compiled
def _settle(c, x, rows, step, by, columns, found, wide, options, arrays, likes):
    """The factors of column c to `by` and `wide`, statistics to the caller.

    False if the working type has no room for them.
    """
    training, eps, _ = options
    like = likes[0]
    w = parameter(arrays[2], c, likes[2], 1.0)
    b = parameter(arrays[3], c, likes[2], 0.0)
    power = 1.0
    if not training:
        place, mean, var, root = given(
            parameter(arrays[6], c, likes[2], 0.0),
            parameter(arrays[7], c, likes[2], 1.0),
            eps,
            like,
        )
        hi, lo = place[1], place[2]
    elif columns[3, c] != 0.0:
        copy = kept_column(x, rows, step, c, like)
        power, hi, lo, root, mean, var = slow_column(copy, eps, True)
    else:
        hi, lo, mean, var = columns[0, c], columns[1, c], columns[4, c], columns[2, c]
        root = reciprocal_root(var, eps)
    values, good = factors(working(hi, like), working(lo, like), root, w, b, like)
    good = good and not (training and columns[3, c] != 0.0)
    zero = working(0, like)
    if good:
        set_column(by, c, values[0], values[1], values[2])
    else:
        set_column(by, c, zero, zero, zero)
    wide[0, c], wide[1, c], wide[2, c], wide[3, c] = power, hi, lo, root
    wide[4, c], wide[5, c] = w, b
    report(arrays[4], c, mean, like)
    report(arrays[5], c, root * power, like)
    found[0, c], found[1, c] = mean, var
    return good


@compiled
def _columns_at(c, wide):
    return wide[0, c], wide[1, c], wide[2, c], wide[3, c], wide[4, c], wide[5, c]


@compiled
def _keep(x, rows, step, cols, good, like):
    """Copies of the columns that are not good, before y is written, which may be x."""
    count = 0
    for c in range(cols):
        count += 0 if good[c] else 1
    kept = np.empty((count, rows), np.float64)
    k = 0
    for c in range(cols):
        if not good[c]:
            copy = kept_column(x, rows, step, c, like)
            for r in range(rows):
                kept[k, r] = copy[r]
            k += 1
    return kept


@compiled
def _apply_all_kept(kept, good, wide, y, step, across, likes, hooks, extras, at):
    k = 0
    for c in range(good.size):
        if not good[c]:
            apply_kept(kept[k], y, step, c, _columns_at(c, wide), across, likes, hooks,
                       extras, at)  # fmt: skip
            k += 1


def batch(prologue, epilogue):
    """The kernel of batch norm of a table with these hooks."""

    def batch_kernel(
        arrays, shape, strides, options, likes, found, chunks, before, after
    ):
        """Rows are samples; found[0] and found[1] become mean and variance."""
        rows, cols, like = shape[0], shape[1], likes[0]
        x, x_step, y_step = arrays[0], strides[0], strides[2]
        trained = cols if options[0] else 0  # whose statistics are those of x
        shift = np.zeros(trained, np.float64)
        parts = np.empty((chunks, 2, trained), np.float64)
        sums = np.zeros((2, trained), np.float64)
        if options[0]:
            shift = column_shift(x, rows, x_step, cols, like)
        for turn in range(3 if options[0] else 0):
            for i in prange(chunks):
                p, _, n = _part(x, x_step, like, rows, chunks, i)
                sums_to(parts, i, column_sums(p, n, x_step, cols, like, shift))
            add_parts(parts, sums)
            if turn == 2 or not move_shift(shift, sums, np.float64(rows), like):
                break
        columns = np.empty((5, trained), np.float64)
        by = own_arrays(cols)
        if options[0]:
            finish_columns(shift, sums, np.float64(rows), like, options[1], columns)
            bad = set_found_factors(arrays, cols, options[1], likes, by, columns, found)
        else:
            bad = set_factors(arrays, 0, cols, options[1], likes, by)
            if is_found_used(bad, arrays):
                set_found(arrays, 0, cols, options[1], likes, by, found)
        report_all(arrays, 0, cols, found, like)
        # Columns whose factors need float64 are few, and mostly none.
        lost = cols if bad > 0 else 0
        wide = np.empty((6, lost), np.float64)
        good = np.ones(lost, np.bool_)
        for c in range(lost):
            if found[3, c] != 0.0:
                good[c] = _settle(
                    c, x, rows, x_step, by, columns, found, wide, options, arrays, likes
                )
        if arrays[1] != 0:
            kept = _keep(x, rows, x_step, lost, good, like)
            for i in prange(chunks):
                hooks, extras = (None, prologue, epilogue), (before, after)
                p, first, n = _part(x, x_step, like, rows, chunks, i)
                y = arrays[1] + first * y_step * size_of(likes[1])
                apply_table(p, y, n, x_step, y_step, cols, by, likes, hooks, extras,
                            (0, first), options[2])  # fmt: skip
            _apply_all_kept(
                kept, good, wide, arrays[1], y_step, (0, 0, 0.0), likes,
                (None, prologue, epilogue), (before, after), (0, 0, 0),
            )  # fmt: skip

    return batch_kernel


@compiled
def sums_to(parts, i, sums):
    for k in range(2):
        for c in range(sums.shape[1]):
            parts[i, k, c] = sums[k, c]


@compiled
def add_parts(parts, sums):
    """The sums of all chunks, in their order."""
    if parts.shape[0] == 1:
        # Not sums[:] = parts[0], whose error message takes a second to compile.
        for k in range(2):
            for c in range(sums.shape[1]):
                sums[k, c] = parts[0, k, c]
        return
    both = np.zeros((4, sums.shape[1]), np.float64)
    for i in range(parts.shape[0]):
        for k in range(2):
            for c in range(sums.shape[1]):
                add_to(both, k, c, parts[i, k, c])
    for k in range(2):
        for c in range(sums.shape[1]):
            sums[k, c] = whole(both[k, c], both[k + 2, c])


# ---- group and instance norm, channels last ----


@compiled
def _join(found, first, per, like):
    """Mean as hi + lo, in float64, and variance of `per` columns from `first` on."""
    base = found[0, first]
    total = 0.0
    for c in range(first, first + per):
        total += (found[0, c] - base) + found[1, c]
    m = total / per
    var = rest = 0.0
    for c in range(first, first + per):
        apart = ((found[0, c] - base) + found[1, c]) - m
        var, rest = two_sum(var, rest, found[2, c] + apart * apart)
    var = whole(var, rest)
    hi, lo = split_mean(working(base, like), m, like)
    return np.float64(hi), np.float64(lo), base + m, var / per


@compiled
def _sample(n, arrays, shape, strides, options, likes, hooks, extras, found):
    _, cols, rows, groups = shape
    per = cols // groups
    like = likes[0]
    size = size_of(like)
    x, x_step = arrays[0] + n * strides[0] * size, strides[1]
    y, y_step = arrays[1] + n * strides[2] * size_of(likes[1]), strides[3]
    columns = np.zeros((5, cols), np.float64)
    if options[0]:
        columns = find_columns(x, rows, x_step, cols, like, options[1], True)
    by = own_arrays(cols)
    wide = np.empty((6, cols), np.float64)
    good = np.ones(cols, np.bool_)
    for g in range(groups):
        first, i = g * per, n * groups + g
        power, high, low, mean, var, root = _group_place(
            i, x, x_step, rows, first, per, columns, arrays, shape, options, likes
        )
        for c in range(first, first + per):
            w = parameter(arrays[2], c, likes[2], 1.0)
            b = parameter(arrays[3], c, likes[2], 0.0)
            values, fits = factors(
                working(high, like), working(low, like), root, w, b, like
            )
            good[c] = fits and power == 0.0
            set_column(by, c, values[0], values[1], values[2])
            wide[0, c] = power if power != 0.0 else 1.0
            wide[1, c], wide[2, c], wide[3, c] = high, low, root
            wide[4, c], wide[5, c] = w, b
        report(arrays[4], i, mean, like)
        report(arrays[5], i, root * power if power != 0.0 else root, like)
        found[0, i], found[1, i] = mean, var
    kept = _keep(x, rows, x_step, cols, good, like)
    apply_table(x, y, rows, x_step, y_step, cols, by, likes, hooks, extras, (n, 0),
                options[3])  # fmt: skip
    _apply_all_kept(
        kept, good, wide, y, y_step, (0, 0, 0.0), likes, hooks, extras, (n, 0, 0)
    )


@compiled
def _group_place(i, x, step, rows, first, per, columns, arrays, shape, options, likes):
    """Power (0 if not slow), mean as hi + lo and in all, variance and rstd."""
    like = likes[0]
    if not options[0]:
        mean, var = group_statistics(i, arrays, shape, options, likes)
        place, mean, var, root = given(mean, var, options[1], like)
        return 0.0, place[1], place[2], mean, var, root
    lost = False
    for c in range(first, first + per):
        lost = lost or columns[3, c] != 0.0
    if not lost:
        high, low, mean, var = _join(columns, first, per, like)
        return 0.0, high, low, mean, var, reciprocal_root(var, options[1])
    size = size_of(like)
    power, high, low, var, rest = slow_moments(
        x + first * size, rows, step, per, size, like, options[1], True
    )
    root, back = reciprocal_root(var, rest), 1.0 / power
    return power, high, low, (high + low) * back, var * back * back, root


def samples(prologue, epilogue):
    """The kernel of group and instance norm, channels last."""

    def samples_kernel(arrays, shape, strides, options, likes, found, before, after):
        for n in prange(shape[0]):
            hooks, extras = (None, prologue, epilogue), (before, after)
            _sample(n, arrays, shape, strides, options, likes, hooks, extras, found)

    return samples_kernel


# ---- rows whose normalised axis is not the last ----


@compiled
def _inner_block(r, first, n, call, arrays, inner, likes, centered, hooks, extras):
    w, b, mean, rstd, cols, eps, one = call
    x, y, _, x_stride, y_stride = arrays
    like = likes[0]
    here = x + (r * x_stride + first) * size_of(like)
    to = y + (r * y_stride + first) * size_of(likes[1])
    found = find_columns(here, cols, inner, n, like, eps, centered)
    by = own_arrays(n)
    wide = np.ones((6, n), np.float64)
    good = np.ones(n, np.bool_)
    for c in range(n):
        hi, lo = working(found[0, c], like), working(found[1, c], like)
        root = reciprocal_root(found[2, c], eps)
        stated, middle = root, found[4, c]
        values, _ = factors(hi, lo, root, 1.0, 0.0, like)
        set_column(by, c, values[0], values[1], values[2])
        wide[5, c] = 0.0
        if found[3, c] != 0.0:
            good[c] = False
            copy = kept_column(here, cols, inner, c, like)
            power, high, low, root, middle, _ = slow_column(copy, eps, centered)
            wide[0, c], wide[1, c], wide[2, c], wide[3, c] = power, high, low, root
            stated = root * power
        report(mean, r * inner + first + c, middle, like)
        report(rstd, r * inner + first + c, stated, like)
    kept = _keep(here, cols, inner, n, good, like)
    _apply_inner(here, to, cols, inner, n, by, (w, b), one, likes, hooks, extras,
                 (r, first))  # fmt: skip
    _apply_all_kept(
        kept, good, wide, to, inner, (w, b, one), likes, hooks, extras, (r, 0, first)
    )


@compiled
def _apply_inner(x, y, cols, inner, n, by, across, one, likes, hooks, extras, at):
    place = (by[0].ctypes.data, by[1].ctypes.data, by[2].ctypes.data)
    unit, zero = working(1, likes[0]), working(0, likes[0])
    w, b = across
    for r in range(cols):
        here = x + r * inner * size_of(likes[0])
        to = y + r * inner * size_of(likes[1])
        line = (
            moved_line(line_of(extras[0], at[0], r), at[1]),
            moved_line(line_of(extras[1], at[0], r), at[1]),
        )
        weight = (
            widen(load(w, r, likes[2])) + working(one, likes[0]) if w != 0 else unit
        )
        bias = widen(load(b, r, likes[2])) if b != 0 else zero
        pair = (working(weight, likes[0]), working(bias, likes[0]))
        if here == to:
            apply_line_in_place(to, n, place, pair, likes, hooks, line)
        else:
            apply_line(here, to, n, place, pair, likes, hooks, line)


WIDTH = 256


def inner(prologue, epilogue):
    """The kernel of rows with inner axes."""

    def inner_kernel(call, arrays, inner, likes, centered, before, after):
        blocks = (inner + WIDTH - 1) // WIDTH
        for task in prange(arrays[2] * blocks):
            hooks, extras = (None, prologue, epilogue), (before, after)
            first = task % blocks * WIDTH
            _inner_block(task // blocks, first, min(WIDTH, inner - first), call, arrays,
                         inner, likes, centered, hooks, extras)  # fmt: skip

    return inner_kernel


# ---- input that statistics of columns are to be those of ----


def prepared(prologue, _):
    """The kernel that writes what a prologue makes of lines to an array of its own."""

    def prepared_kernel(x, to, shape, steps, likes, before):
        a, b, n = shape
        size = size_of(likes[0])
        for line in prange(a * b):
            i, j = line // b, line % b
            here = x + (i * steps[0] + j * steps[1]) * size
            out = to + line * n * size_of(working(0, likes[0]))
            extras = (line_of(before, i, j), ())
            prepare(here, out, n, likes, (None, prologue, None), extras)

    return prepared_kernel
