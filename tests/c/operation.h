/* operation.h - one description for a call of any operation, so that tests can loop.
 * SPDX-License-Identifier: MIT
 *
 * Every operation here works on x [n0, n1, n2], element (i, j, k) at i*s0 + j*s1 + k.
 * Norms of rows reduce over j, one group per (i, k), with weight and bias [n1]; batch
 * norm and moments over i and k, one group per j, with weight and bias [n1]. Group and
 * instance norm have `groups` groups of channels per i; their channels are j, or k
 * where they are last. */
#ifndef FN_TEST_OPERATION_H
#define FN_TEST_OPERATION_H

#include "test.h"

typedef enum operation {
  LAYER_NORM,
  LAYER_STORED, /* with stored_mean and stored_var */
  RMS_NORM,
  L2_NORM,
  L1_NORM,
  BATCH_INFERENCE,
  BATCH_TRAINING,
  BATCH_RENORM, /* in training */
  WEIGHT_NORM,
  GROUP_NORM,
  GROUP_LAST, /* channels last */
  GROUP_STORED,
  INSTANCE_NORM,
  INSTANCE_LAST,
  INSTANCE_INFERENCE, /* with use_running_stats */
  INSTANCE_INFERENCE_LAST,
  MOMENTS,
  OPERATIONS
} operation;

static const char *const operation_names[] = {"layer_norm",
                                              "layer_norm stored",
                                              "rms_norm",
                                              "l2_norm",
                                              "l1_norm",
                                              "batch_norm inference",
                                              "batch_norm training",
                                              "batch_renorm",
                                              "weight_norm",
                                              "group_norm",
                                              "group_norm last",
                                              "group_norm stored",
                                              "instance_norm",
                                              "instance_norm last",
                                              "instance_norm inference",
                                              "instance_norm inference last",
                                              "moments"};

/* Zero strides mean contiguous, as in the API. running_mean and running_var are also
 * the stored statistics. For MOMENTS, mean and rstd are arrays of double for mean
 * and m2; for L2_NORM, L1_NORM and WEIGHT_NORM, rstd receives the norm. */
typedef struct job {
  operation op;
  fastnorm_dtype dtype;
  size_t n0, n1, n2, groups;
  ptrdiff_t x_s0, x_s1, y_s0, y_s1;
  const void *x, *weight, *bias;
  void *y, *mean, *rstd, *running_mean, *running_var;
  double eps, momentum;
  uint64_t tracked;
  double r_max, d_max; /* BATCH_RENORM alone, as are r and d */
  void *r, *d;
  void *scratch;
  size_t scratch_size;
  fastnorm_exec exec;
  fastnorm_format format;
  fastnorm_epilogue epilogue;
  const void *residual, *residual_bias;
  void *residual_out;
  fastnorm_dtype residual_dtype;
  ptrdiff_t residual_stride, residual_out_stride;
  float *y_scale;
  fastnorm_mask mask; /* of layer norm .lengths and .masked alone */
  size_t *count;      /* of MOMENTS, and */
  double *sums;       /* their weights */
  fastnorm_rms_mode mode;
} job;

/* ---- What an operation is like --------------------------------------------------- */

static inline int is_row_norm(operation op) {
  return op <= L1_NORM;
}

static inline int is_sample_norm(operation op) {
  return op >= GROUP_NORM && op <= INSTANCE_INFERENCE_LAST;
}

static inline int is_instance_norm(operation op) {
  return op >= INSTANCE_NORM && op <= INSTANCE_INFERENCE_LAST;
}

static inline int is_channels_last(operation op) {
  return op == GROUP_LAST || op == INSTANCE_LAST || op == INSTANCE_INFERENCE_LAST;
}

static inline int has_weight(operation op) {
  return op != L2_NORM && op != L1_NORM && op != MOMENTS;
}

static inline int has_bias(operation op) {
  return has_weight(op) && op != RMS_NORM && op != WEIGHT_NORM;
}

/* x is divided by its length, which comes in place of rstd. */
static inline int is_length(operation op) {
  return op == L2_NORM || op == L1_NORM || op == WEIGHT_NORM;
}

/* Statistics of channels: read by some, and updated by others. */
static inline int updates_stored(operation op) {
  return op == BATCH_TRAINING || op == BATCH_RENORM || op == INSTANCE_NORM ||
         op == INSTANCE_LAST;
}

/* One pair for each group, of the working type. */
static inline int stores_groups(operation op) {
  return op == LAYER_STORED || op == GROUP_STORED;
}

static inline int reads_stored(operation op) {
  return stores_groups(op) || op == BATCH_INFERENCE || op == INSTANCE_INFERENCE ||
         op == INSTANCE_INFERENCE_LAST;
}

static inline int has_stored(operation op) {
  return reads_stored(op) || updates_stored(op);
}

/* ---- Groups and places ----------------------------------------------------------- */

static inline size_t parameter_count(const job *j) {
  return is_channels_last(j->op) ? j->n2 : j->n1;
}

static inline size_t spatial_of(const job *j) {
  return is_channels_last(j->op) ? j->n1 : j->n2;
}

static inline size_t groups_of(const job *j) {
  return is_instance_norm(j->op) ? parameter_count(j) : j->groups;
}

static inline size_t channels_per_group(const job *j) {
  return parameter_count(j) / groups_of(j);
}

static inline size_t group_count(const job *j) {
  if (is_sample_norm(j->op)) {
    return j->n0 * groups_of(j);
  }
  return is_row_norm(j->op) ? j->n0 * j->n2 : j->n1;
}

static inline size_t group_length(const job *j) {
  if (is_sample_norm(j->op)) {
    return channels_per_group(j) * spatial_of(j);
  }
  return is_row_norm(j->op) ? j->n1 : j->n0 * j->n2;
}

static inline size_t stored_count(const job *j) {
  return stores_groups(j->op) ? group_count(j) : parameter_count(j);
}

/* Which of the stored statistics are those of group g. */
static inline size_t stored_of(const job *j, size_t g) {
  return is_instance_norm(j->op) ? g % parameter_count(j) : g;
}

static inline size_t statistic_size(const job *j) {
  return j->op == MOMENTS ? sizeof(double) : element_size(j->dtype);
}

/* One value per channel has no variance: such a call is refused. */
static inline int is_too_short(const job *j) {
  if (j->op == INSTANCE_NORM || j->op == INSTANCE_LAST) {
    return spatial_of(j) == 1;
  }
  return (j->op == BATCH_TRAINING || j->op == BATCH_RENORM) && j->n0 * j->n2 == 1;
}

typedef struct place {
  size_t i0, i1, i2;
} place;

static inline place group_element(const job *j, size_t g, size_t index) {
  if (is_row_norm(j->op)) {
    return (place){g / j->n2, index, g % j->n2};
  }
  if (!is_sample_norm(j->op)) {
    return (place){index / j->n2, g, index % j->n2};
  }
  const size_t per = channels_per_group(j);
  const size_t sample = g / groups_of(j), first = g % groups_of(j) * per;
  if (is_channels_last(j->op)) {
    return (place){sample, index / per, first + index % per};
  }
  return (place){sample, first + index / j->n2, index % j->n2};
}

/* Which group a place is in, and which parameter is its own. */
static inline size_t group_of(const job *j, place p) {
  if (is_row_norm(j->op)) {
    return p.i0 * j->n2 + p.i2;
  }
  if (!is_sample_norm(j->op)) {
    return p.i1;
  }
  const size_t channel = is_channels_last(j->op) ? p.i2 : p.i1;
  return p.i0 * groups_of(j) + channel / channels_per_group(j);
}

static inline size_t position_in_group(const job *j, place p) {
  if (is_row_norm(j->op)) {
    return p.i1;
  }
  if (!is_sample_norm(j->op)) {
    return p.i0 * j->n2 + p.i2;
  }
  const size_t per = channels_per_group(j);
  return is_channels_last(j->op) ? p.i1 * per + p.i2 % per : p.i1 % per * j->n2 + p.i2;
}

static inline size_t parameter_of(const job *j, place p) {
  return is_channels_last(j->op) ? p.i2 : p.i1;
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

/* A shape for group and instance norm; for the latter every channel is a group. */
static inline void set_samples(job *j, size_t batch, size_t groups, size_t per,
                               size_t spatial) {
  const size_t channels = groups * per;
  j->n0 = batch;
  j->n1 = is_channels_last(j->op) ? spatial : channels;
  j->n2 = is_channels_last(j->op) ? channels : spatial;
  j->groups = groups;
}

#include "calls.h"

#endif /* FN_TEST_OPERATION_H */
