/* job.h - one description for a call of any operation, so that tests can loop.
 * SPDX-License-Identifier: MIT
 *
 * Every operation here works on x [n0, n1, n2], element (i, j, k) at i*s0 + j*s1 + k,
 * with weight and bias [n1]. Layer and RMS norm reduce over j, one group per (i, k);
 * batch norm and moments reduce over i and k, one group per j. */
#ifndef FN_TEST_JOB_H
#define FN_TEST_JOB_H

#include "test.h"

typedef enum operation {
  LAYER_NORM,
  RMS_NORM,
  BATCH_INFERENCE,
  BATCH_TRAINING,
  MOMENTS,
  OPERATIONS
} operation;

static const char *const operation_names[] = {
    "layer_norm", "rms_norm", "batch_norm inference", "batch_norm training", "moments"};

/* Zero strides mean contiguous, as in the API. For MOMENTS, mean and rstd are the
 * arrays of double that receive mean and m2. */
typedef struct job {
  operation op;
  fastnorm_dtype dtype;
  size_t n0, n1, n2;
  ptrdiff_t x_s0, x_s1, y_s0, y_s1;
  const void *x, *weight, *bias;
  void *y, *mean, *rstd, *running_mean, *running_var;
  double eps, momentum;
  uint64_t tracked;
  void *scratch;
  size_t scratch_size;
  fastnorm_exec exec;
} job;

static inline int is_row_norm(operation op) {
  return op == LAYER_NORM || op == RMS_NORM;
}

static inline size_t group_count(const job *j) {
  return is_row_norm(j->op) ? j->n0 * j->n2 : j->n1;
}

static inline size_t group_length(const job *j) {
  return is_row_norm(j->op) ? j->n1 : j->n0 * j->n2;
}

static inline size_t statistic_size(const job *j) {
  return j->op == MOMENTS ? sizeof(double) : element_size(j->dtype);
}

/* Where element (i, j, k) is, with the strides given or contiguous. */
static inline ptrdiff_t element_offset(const job *j, ptrdiff_t s0, ptrdiff_t s1,
                                       size_t i0, size_t i1, size_t i2) {
  const ptrdiff_t step1 = s1 != 0 ? s1 : (ptrdiff_t)j->n2;
  const ptrdiff_t step0 = s0 != 0 ? s0 : (ptrdiff_t)(j->n1 * j->n2);
  return (ptrdiff_t)i0 * step0 + (ptrdiff_t)i1 * step1 + (ptrdiff_t)i2;
}

static inline ptrdiff_t x_offset(const job *j, size_t i0, size_t i1, size_t i2) {
  return element_offset(j, j->x_s0, is_row_norm(j->op) ? 0 : j->x_s1, i0, i1, i2);
}

static inline ptrdiff_t y_offset(const job *j, size_t i0, size_t i1, size_t i2) {
  return element_offset(j, j->y_s0, is_row_norm(j->op) ? 0 : j->y_s1, i0, i1, i2);
}

static inline fastnorm_batch_norm_args batch_norm_args(const job *j) {
  return (fastnorm_batch_norm_args){
      .size = sizeof(fastnorm_batch_norm_args),
      .dtype = j->dtype,
      .x = j->x,
      .y = j->y,
      .weight = j->weight,
      .bias = j->bias,
      .running_mean = j->running_mean,
      .running_var = j->running_var,
      .mean = j->mean,
      .rstd = j->rstd,
      .batch = j->n0,
      .channels = j->n1,
      .spatial = j->n2,
      .x_stride = j->x_s0,
      .y_stride = j->y_s0,
      .x_channel_stride = j->x_s1,
      .y_channel_stride = j->y_s1,
      .training = j->op == BATCH_TRAINING,
      .momentum = j->momentum,
      .num_batches_tracked = j->tracked,
      .eps = j->eps,
      .scratch = j->scratch,
      .scratch_size = j->scratch_size,
      .exec = j->exec,
  };
}

static inline fastnorm_moments_args moments_args(const job *j) {
  return (fastnorm_moments_args){
      .size = sizeof(fastnorm_moments_args),
      .dtype = j->dtype,
      .x = j->x,
      .mean = j->mean,
      .m2 = j->rstd,
      .batch = j->n0,
      .channels = j->n1,
      .spatial = j->n2,
      .x_stride = j->x_s0,
      .x_channel_stride = j->x_s1,
      .scratch = j->scratch,
      .scratch_size = j->scratch_size,
      .exec = j->exec,
  };
}

static inline size_t scratch_bytes(const job *j) {
  if (j->op == MOMENTS) {
    const fastnorm_moments_args args = moments_args(j);
    return fastnorm_moments_scratch(&args);
  }
  if (j->op == BATCH_TRAINING) {
    const fastnorm_batch_norm_args args = batch_norm_args(j);
    return fastnorm_batch_norm_scratch(&args);
  }
  return 0;
}

static inline fastnorm_status run_job(const job *j) {
  if (j->op == LAYER_NORM) {
    return fastnorm_layer_norm(&(fastnorm_layer_norm_args){
        .size = sizeof(fastnorm_layer_norm_args),
        .dtype = j->dtype,
        .x = j->x,
        .y = j->y,
        .weight = j->weight,
        .bias = j->bias,
        .mean = j->mean,
        .rstd = j->rstd,
        .rows = j->n0,
        .cols = j->n1,
        .inner = j->n2,
        .x_stride = j->x_s0,
        .y_stride = j->y_s0,
        .eps = j->eps,
        .exec = j->exec,
    });
  }
  if (j->op == RMS_NORM) {
    return fastnorm_rms_norm(&(fastnorm_rms_norm_args){
        .size = sizeof(fastnorm_rms_norm_args),
        .dtype = j->dtype,
        .x = j->x,
        .y = j->y,
        .weight = j->weight,
        .rstd = j->rstd,
        .rows = j->n0,
        .cols = j->n1,
        .inner = j->n2,
        .x_stride = j->x_s0,
        .y_stride = j->y_s0,
        .eps = j->eps,
        .exec = j->exec,
    });
  }
  if (j->op == MOMENTS) {
    const fastnorm_moments_args args = moments_args(j);
    return fastnorm_moments(&args);
  }
  const fastnorm_batch_norm_args args = batch_norm_args(j);
  return fastnorm_batch_norm(&args);
}

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
        const size_t position = is_row_norm(j->op) ? b : a * j->n2 + c;
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
  j.weight = variant & 1 ? a->weight : NULL;
  j.bias = (variant & 2) && op != RMS_NORM ? a->bias : NULL;
  j.mean = a->mean;
  j.rstd = a->rstd;
  j.eps = variant & 4 ? FASTNORM_EPS_ZERO : variant & 8 ? 1e-3 : 0.0;
  j.exec.num_threads = 1;
  fill_flat(a->weight, dtype, n1, 1.0, 0.5, 11);
  fill_flat(a->bias, dtype, n1, 0.0, 0.5, 12);
  return j;
}

#endif /* FN_TEST_JOB_H */
