/* scale.h - from mean and variance to scale and offset, and which of them are safe.
 * SPDX-License-Identifier: MIT */
#ifndef FN_SCALE_H
#define FN_SCALE_H

#include "fastnorm.h"
#include "kernels.h"

typedef struct fn_scale_input {
  size_t n;
  double eps;
  bool given; /* mean and variance came from the caller: lo is not used, and hi may
                         be any number */
  const void *hi, *lo; /* hi == NULL: not centered */
  const double *var;
  const void *weight, *bias; /* [n], or NULL */
} fn_scale_input;

/* 1 / sqrt(t), rstd where t is the variance plus eps, and 0 of 0: what does not vary is
 * not divided by that. NaN and Inf as the quotient has them. */
double fn_reciprocal_root(double t);

/* rstd, scale and offset of n runs or columns; those whose parameters are too large or
 * too small for plain arithmetic join the slow ones. is_slow is set if *any_slow is. */
void fn_scale(const fn_kernels *k, fastnorm_dtype dtype, const fn_scale_input *in,
              bool *any_slow, bool *is_slow, void *rstd, void *scale, void *offset);

#endif
