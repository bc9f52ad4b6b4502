/* order.h - the smaller and the larger of two.
 * SPDX-License-Identifier: MIT */
#ifndef FN_ORDER_H
#define FN_ORDER_H

#include <stddef.h>

static inline size_t fn_smaller(size_t a, size_t b) {
  return a < b ? a : b;
}

/* NaN if one is: nothing is larger. */
static inline double fn_larger(double so_far, double x) {
  return x <= so_far || so_far != so_far ? so_far : x;
}

#endif
