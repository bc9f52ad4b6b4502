# SPDX-License-Identifier: MIT
"""_samples.py - group and instance norm of channels whose positions are adjacent.

A group of a sample is a run. Arguments are those of _channels.py.
"""

import numpy as np
from numba import prange

from ._channels import apply_run, find_run, given, parameter, prepared, stated
from ._compile import compiled
from ._hooks import line_of
from ._memory import keep, size_of, working
from ._rows import report


@compiled
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


@compiled
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


@compiled
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
