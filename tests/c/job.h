/* job.h - input for the calls of operation.h: values that have broken some library.
 * SPDX-License-Identifier: MIT
 */
#ifndef FN_TEST_JOB_H
#define FN_TEST_JOB_H

#include "operation.h"

/* ---- Input --------------------------------------------------------------------- */

/* Values that have broken some library; {float32, float64} where the type matters. */
typedef enum pattern {
  NORMAL,
  OFFSET_100,
  OFFSET_1E3,
  OFFSET_1E4,
  OFFSET_1E6,
  OFFSET_MINUS_1E6,
  TINY,
  LARGE,
  VERY_LARGE,
  EXTREME,
  MIXED_SCALES,
  SUBNORMAL,
  CONSTANT,
  CONSTANT_HUGE,
  CONSTANT_SUBNORMAL,
  ZEROS,
  OUTLIER_FIRST,
  OUTLIER_LAST,
  HUGE_FIRST,
  HUGE_LAST,
  NEARLY_CONSTANT,
  BYTES,
  PATTERNS
} pattern;

static const char *const pattern_names[] = {
    "normal",       "100 + normal",  "1e3 + normal",
    "1e4 + normal", "1e6 + 10 n",    "-1e6 + 10 n",
    "tiny",         "large",         "very large",
    "extreme",      "mixed scales",  "subnormal",
    "constant",     "constant huge", "constant subnormal",
    "zeros",        "outlier first", "outlier last",
    "huge first",   "huge last",     "nearly constant",
    "bytes"};

static inline int is_constant(pattern p) {
  return p == CONSTANT || p == CONSTANT_HUGE || p == CONSTANT_SUBNORMAL || p == ZEROS;
}

/* The value at `position` of `length`: positions matter to outliers. */
static inline double pattern_value(pattern p, fastnorm_dtype dtype, rng *r,
                                   size_t position, size_t length) {
  const int wide = dtype == FASTNORM_FLOAT64;
  const double n = rng_normal(r);
  switch (p) {
  case OFFSET_100:
    return 100.0 + n;
  case OFFSET_1E3:
    return 1e3 + n;
  case OFFSET_1E4:
    return 1e4 + n;
  case OFFSET_1E6:
    return 1e6 + 10.0 * n;
  case OFFSET_MINUS_1E6:
    return -1e6 + 10.0 * n;
  case TINY:
    return n * (wide ? 1e-200 : 1e-30);
  case LARGE:
    return n * (wide ? 1e160 : 1e20);
  case VERY_LARGE:
    return n * (wide ? 1e300 : 1e30);
  case EXTREME:
    return (n < 0 ? -1.0 : 1.0) * (wide ? 1.7e308 : 3e38);
  case MIXED_SCALES:
    return ldexp(n, (int)rng_below(r, wide ? 1600 : 200) - (wide ? 800 : 100));
  case SUBNORMAL:
    return ldexp((double)rng_below(r, 2000) - 1000.0, wide ? -1074 : -149);
  case CONSTANT:
    return 3.3;
  case CONSTANT_HUGE:
    return wide ? -1.7e308 : -3e38;
  case CONSTANT_SUBNORMAL:
    return ldexp(5.0, wide ? -1074 : -149);
  case ZEROS:
    return 0.0;
  case OUTLIER_FIRST:
    return position == 0 ? 1e6 : n;
  case OUTLIER_LAST:
    return position + 1 == length ? -1e6 : n;
  case HUGE_FIRST:
    return position == 0 ? (wide ? 1e200 : 1e30) : n;
  case HUGE_LAST:
    return position + 1 == length ? (wide ? 1e200 : 1e30) : n;
  case NEARLY_CONSTANT:
    return 3.3 + (position + 1 == length ? 1e-6 : 0.0);
  case BYTES:
    return (double)rng_below(r, 256);
  default:
    return n;
  }
}

/* Fills the groups of x, each with the pattern over its own length. */
static inline void fill_x(const job *j, void *x, pattern p, uint64_t seed) {
  rng r = {seed};
  const size_t length = group_length(j);
  for (size_t a = 0; a < j->n0; a++) {
    for (size_t b = 0; b < j->n1; b++) {
      for (size_t c = 0; c < j->n2; c++) {
        const size_t position = position_in_group(j, (place){a, b, c});
        const double v = pattern_value(p, j->dtype, &r, position, length);
        put(x, j->dtype, x_offset(j, a, b, c), v);
      }
    }
  }
}

/* Parameters and stored statistics: [count] values around `centre`. */
static inline void fill_flat(void *array, fastnorm_dtype dtype, size_t count,
                             double centre, double scale, uint64_t seed) {
  rng r = {seed};
  for (size_t i = 0; i < count; i++) {
    put(array, dtype, (ptrdiff_t)i, centre + scale * rng_normal(&r));
  }
}

/* ---- Arrays ---------------------------------------------------------------------- */

/* All arrays of a job of up to `capacity` elements, groups and parameters. */
typedef struct arrays {
  size_t capacity;
  void *x, *y, *weight, *bias, *mean, *rstd, *running_mean, *running_var;
} arrays;

static inline arrays new_arrays(size_t capacity) {
  arrays a;
  a.capacity = capacity;
  a.x = new_bytes(capacity * sizeof(double));
  a.y = new_bytes(capacity * sizeof(double));
  a.weight = new_bytes(capacity * sizeof(double));
  a.bias = new_bytes(capacity * sizeof(double));
  a.mean = new_bytes(capacity * sizeof(double));
  a.rstd = new_bytes(capacity * sizeof(double));
  a.running_mean = new_bytes(capacity * sizeof(double));
  a.running_var = new_bytes(capacity * sizeof(double));
  return a;
}

static inline void free_arrays(arrays *a) {
  free(a->x);
  free(a->y);
  free(a->weight);
  free(a->bias);
  free(a->mean);
  free(a->rstd);
  free(a->running_mean);
  free(a->running_var);
}

/* `variant` chooses eps and which of weight and bias are given. */
static inline job make_job(const arrays *a, operation op, fastnorm_dtype dtype,
                           size_t n0, size_t n1, size_t n2, unsigned variant) {
  job j = {.op = op, .dtype = dtype, .n0 = n0, .n1 = n1, .n2 = n2};
  j.x = a->x;
  j.y = a->y;
  j.groups = 1;
  j.weight = variant & 1 && has_weight(op) ? a->weight : NULL;
  j.bias = (variant & 2) && has_bias(op) ? a->bias : NULL;
  j.mean = a->mean;
  j.rstd = a->rstd;
  j.eps = variant & 4 ? FASTNORM_EPS_ZERO : variant & 8 ? 1e-3 : 0.0;
  j.exec.num_threads = 1;
  fill_flat(a->weight, dtype, parameter_count(&j), 1.0, 0.5, 11);
  fill_flat(a->bias, dtype, parameter_count(&j), 0.0, 0.5, 12);
  return j;
}

#endif /* FN_TEST_JOB_H */
