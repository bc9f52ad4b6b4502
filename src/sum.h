/* sum.h - a compensated sum of doubles.
 * SPDX-License-Identifier: MIT
 *
 * Knuth's TwoSum (The Art of Computer Programming, volume 2, section 4.2.2) recovers
 * the rounding of each addition exactly; the roundings are summed beside the sum. NaN
 * and Inf come out as the plain sum would give them. */
#ifndef FN_SUM_H
#define FN_SUM_H

#include "compiler.h"

typedef struct fn_sum {
  double value, rounding;
} fn_sum;

static inline void fn_sum_add(fn_sum *s, double x) {
  const double total = s->value + x, part = total - s->value;
  s->rounding += (s->value - (total - part)) + (x - part);
  s->value = total;
}

static inline double fn_sum_value(const fn_sum *s) {
  const double total = s->value + s->rounding;
  return total - total == 0.0 ? total : s->value; /* Inf - Inf in the rounding */
}

#endif
