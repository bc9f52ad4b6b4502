# SPDX-License-Identifier: MIT
"""_statistics.py - mean and variance of runs of elements.

A run is `segs` segments of `length` contiguous elements, a step of `step` elements
apart: a row of layer norm has one, a channel of [N, C, S] has N. It is read once: sums
of d = x - shift and of d^2 are made block by block in the working type, in as many
lanes as the compiler likes, and added up in float64; `shift` is the mean of eight
samples. With that mean = shift + sum(d) / n and the variance is sum(d^2) / n less
(sum(d) / n)^2, which cancels nothing while the shift is within a deviation of the mean;
where it is not, the run is read again about the mean that was found. Runs whose squares
leave the range of the type are done over in float64, scaled by a power of two.
"""

import math

import numpy as np

from ._compile import compiled
from ._memory import fetch, size_of, widen, working

BLOCK = 256
"""Elements whose sums are made in the working type. With 16 lanes and four sums in each
that is four additions: what a lane loses beside an outlier grows with their number."""

# Sums may be made in any order (each has its own lanes, whose number is fixed when the
# kernel is compiled) and products contracted: neither is exact about rounding. Nothing
# is assumed about NaN, infinities or the sign of zero.
SUMS = {"reassoc", "contract"}
# Everything else is as it is written, but for contraction.
PLAIN = {"contract"}


@compiled(fastmath=SUMS, forceinline=True)
def _sums(p, length, like, shift):
    """Of d and d^2 over a block."""
    s = working(0, like)
    q = working(0, like)
    for i in range(length):
        d = widen(fetch(p, i, like)) - shift
        s += d
        q += d * d
    return np.float64(s), np.float64(q)


@compiled(fastmath=SUMS)
def _squares(p, length, like):
    q = working(0, like)
    for i in range(length):
        x = widen(fetch(p, i, like))
        q += x * x
    return np.float64(q)


@compiled(fastmath=SUMS)
def _scaled_sums(p, length, like, scale, shift):
    s = 0.0
    q = 0.0
    for i in range(length):
        d = np.float64(widen(fetch(p, i, like))) * scale - shift
        s += d
        q += d * d
    return s, q


@compiled
def two_sum(total, rest, value):
    """total + rest + value as such a pair: Neumaier's summation."""
    new = total + value
    if abs(total) >= abs(value):
        return new, rest + ((total - new) + value)
    return new, rest + ((value - new) + total)


@compiled(forceinline=True)
def whole(total, rest):
    """The value of such a pair; where it is infinite the rest is none."""
    both = total + rest
    return both if both == both else total


@compiled(forceinline=True)
def _sample(i, n, segs, step, length):
    k = i * (n >> 3) if n >= 8 else i % n
    return k // length * step + k % length if segs > 1 else k


@compiled(forceinline=True)
def samples_of(segs, step, length):
    """Eight places from all over a run, each element more than once if it has fewer."""
    n = segs * length
    return (
        _sample(0, n, segs, step, length), _sample(1, n, segs, step, length),
        _sample(2, n, segs, step, length), _sample(3, n, segs, step, length),
        _sample(4, n, segs, step, length), _sample(5, n, segs, step, length),
        _sample(6, n, segs, step, length), _sample(7, n, segs, step, length),
    )  # fmt: skip


@compiled(forceinline=True)
def _two(p, first, second, like):
    return widen(fetch(p, first, like)) + widen(fetch(p, second, like))


@compiled(forceinline=True)
def shift_at(p, places, like):
    """The mean of what is there, without a loop, in which each would wait.

    Sums that overflow are those of runs whose squares do long before.
    """
    a, b, c, d, e, f, g, h = places
    first = _two(p, a, b, like) + _two(p, c, d, like)
    last = _two(p, e, f, like) + _two(p, g, h, like)
    return (first + last) * working(0.125, like)


@compiled(forceinline=True)
def run_sums(p, segs, step, length, size, like, shift):
    """Sums of d and d^2 over a run."""
    if segs == 1 and length <= BLOCK:
        return _sums(p, length, like, shift)
    s = r = q = t = 0.0
    for seg in range(segs):
        base = p + seg * step * size
        for i in range(0, length, BLOCK):
            a, b = _sums(base + i * size, min(BLOCK, length - i), like, shift)
            s, r = two_sum(s, r, a)
            q, t = two_sum(q, t, b)
    return whole(s, r), whole(q, t)


@compiled
def split_mean(shift, m, like):
    """shift + m as a number of the working type and the rest of it."""
    base = np.float64(shift)
    total = base + m
    hi = working(total, like)
    part = total - base
    rest = (base - (total - part)) + (m - part)
    return hi, working((total - np.float64(hi)) + rest, like)


@compiled
def limits(like):
    """Mean squares between which those of the working type can be trusted."""
    if size_of(like) == 8:
        return 1e-280, 1e300
    return 1e-30, 1e36


@compiled
def reciprocal_root(var, eps):
    """1 / sqrt(var + eps); 0 where there is nothing to divide by."""
    total = var + eps
    return 0.0 if total == 0.0 else 1.0 / math.sqrt(total)


@compiled
def is_lost(mean_square, eps, like):
    """Whether squares may have left the range of the type, and it matters."""
    least, most = limits(like)
    if not mean_square <= most:
        return True
    return mean_square < least and eps < 1e12 * least


@compiled
def find_moments(p, segs, step, length, size, like, eps):
    """Mean as hi + lo, the same in float64, the variance, and whether to trust them."""
    of_n = 1.0 / (np.float64(segs) * np.float64(length))
    shift = shift_at(p, samples_of(segs, step, length), like)
    s, q = run_sums(p, segs, step, length, size, like, shift)
    m, square = s * of_n, q * of_n
    for _ in range(2):
        if not m * m > square - m * m:
            break
        again = split_mean(shift, m, like)[0]
        if again == shift or not math.isfinite(again):
            break
        shift = again
        s, q = run_sums(p, segs, step, length, size, like, shift)
        m, square = s * of_n, q * of_n
    hi, lo = split_mean(shift, m, like)
    mean = np.float64(shift) + m
    return hi, lo, mean, max(square - m * m, 0.0), not is_lost(square, eps, like)


@compiled
def find_mean_square(p, segs, step, length, size, like, eps):
    """The mean of x^2, and whether it can be trusted."""
    if segs == 1 and length <= BLOCK:
        mean = _squares(p, length, like) / np.float64(length)
        return mean, not is_lost(mean, eps, like)
    q = t = 0.0
    for seg in range(segs):
        base = p + seg * step * size
        for i in range(0, length, BLOCK):
            b = _squares(base + i * size, min(BLOCK, length - i), like)
            q, t = two_sum(q, t, b)
    mean = whole(q, t) / (np.float64(segs) * np.float64(length))
    return mean, not is_lost(mean, eps, like)


# ---- runs that leave the range ----


@compiled
def _largest(p, segs, step, length, size, like):
    most = 0.0
    for seg in range(segs):
        for i in range(length):
            x = abs(np.float64(widen(fetch(p + seg * step * size, i, like))))
            most = max(most, x) if x <= math.inf else x
    return most


@compiled
def _scaled(
    p, segs, step, length, size, like, scale,
    shift,
):  # fmt: skip
    s = r = q = t = 0.0
    for seg in range(segs):
        base = p + seg * step * size
        for i in range(0, length, BLOCK):
            a, b = _scaled_sums(
                base + i * size, min(BLOCK, length - i), like, scale, shift
            )
            s, r = two_sum(s, r, a)
            q, t = two_sum(q, t, b)
    n = np.float64(segs) * np.float64(length)
    return whole(s, r) / n, whole(q, t) / n


@compiled
def slow_moments(
    p, segs, step, length, size, like, eps,
    centered,
):  # fmt: skip
    """The scale s, mean as hi + lo and variance of s * x, and s^2 * eps, all float64.

    The scale is a power of two that brings the largest element near 1. Without
    `centered` the mean is 0 and the variance the mean of squares.
    """
    largest = _largest(p, segs, step, length, size, like)
    scale = 1.0
    if 0.0 < largest < math.inf:
        exponent = -math.frexp(largest)[1]
        # Beyond this eps is all that counts, and its product must be finite.
        exponent = max(min(exponent, 400 if eps > 0.0 else 1000), -1020)
        scale = math.ldexp(1.0, exponent)
    elif largest == math.inf:
        scale = math.ldexp(1.0, -1020)  # with which no sum of the others is infinite
    if not centered:
        _, q = _scaled(p, segs, step, length, size, like, scale, 0.0)
        return scale, 0.0, 0.0, q, eps * scale * scale
    first, _ = _scaled(p, segs, step, length, size, like, scale, 0.0)
    if not math.isfinite(first):  # no deviation from it is a number
        return scale, first, 0.0, math.nan, eps
    m, q = _scaled(p, segs, step, length, size, like, scale, first)
    hi, lo = split_mean(first, m, np.float64(0))
    return scale, hi, lo, max(q - m * m, 0.0), eps * scale * scale
