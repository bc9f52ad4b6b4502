/* renorm.h - batch renormalization: from the batch to the stored statistics, so far.
 * SPDX-License-Identifier: MIT */
#ifndef FN_RENORM_H
#define FN_RENORM_H

#include "fastnorm.h"
#include "slow.h"

typedef struct fn_renorm {
  double r_max, d_max;
  void *r, *d; /* a caller's, of the working type, or NULL */
} fn_renorm;

/* The statistics of n channels from `first` on: those of the batch and the stored. */
typedef struct fn_renorm_input {
  size_t first, n;
  double eps;
  const void *hi, *lo;
  const double *var;
  const bool *is_slow; /* NULL if none is; else these are in slow[] */
  const fn_slow *slow;
  const void *stored_mean;
  const double *stored_var;
  const void *weight, *bias; /* of the working type, or NULL */
} fn_renorm_input;

/* With which (x - mean of the batch) / sqrt(var + eps) * weight + bias is the result.
 * Where r is within its limits it is in var, which is then the stored one: so no number
 * on the way leaves the range of the type unless the result does. */
typedef struct fn_renorm_output {
  void *weight, *bias; /* may be the input's */
  double *var;
  bool *is_stored;
} fn_renorm_output;

/* Also writes r and d to the caller. */
void fn_renorm_correct(fastnorm_dtype dtype, const fn_renorm *limits,
                       const fn_renorm_input *in, const fn_renorm_output *out);

#endif
