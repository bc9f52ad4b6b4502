/* slow.h - the rows whose numbers leave the range of plain arithmetic, in scaled
 * double.
 * SPDX-License-Identifier: MIT
 *
 * Scalar, and the same code on every instruction set: such rows are rare. */
#ifndef FN_SLOW_H
#define FN_SLOW_H

#include <stdbool.h>

#include "fastnorm.h"
#include "kernels.h"

/* With X = x * 2^-exponent: mean of X is hi + lo, its variance var, and
 * 1 / sqrt(var + eps * 2^(-2 * exponent)) is rstd * 2^rstd_exponent. */
typedef struct fn_slow {
  double hi, lo, var, rstd;
  int exponent, rstd_exponent;
} fn_slow;

/* Element i of an array of the dtype, as a double. */
static inline double fn_get(fastnorm_dtype dtype, const void *p, size_t i) {
  return dtype == FASTNORM_FLOAT32 ? (double)((const float *)p)[i]
                                   : ((const double *)p)[i];
}

static inline void fn_set(fastnorm_dtype dtype, void *p, size_t i, double value) {
  if (dtype == FASTNORM_FLOAT32)
    ((float *)p)[i] = (float)value;
  else
    ((double *)p)[i] = value;
}

/* Elements i to i + n. */
static inline void fn_fill(fastnorm_dtype dtype, void *p, size_t i, size_t n,
                           double value) {
  if (dtype == FASTNORM_FLOAT32)
    for (size_t k = i; k < i + n; k++)
      ((float *)p)[k] = (float)value;
  else
    for (size_t k = i; k < i + n; k++)
      ((double *)p)[k] = value;
}

/* Statistics of run 0 of g: about its mean, or about zero if not centered. Where it
 * asks for magnitudes var is n times the square of their mean, so that fn_slow_lp()
 * finds the L1 norm as it does the L2 norm. */
void fn_slow_stats(fastnorm_dtype dtype, const fn_runs *g, double eps, bool centered,
                   fn_slow *s);

/* The same from a mean + lo and variance that are given. */
void fn_slow_given(double mean, double lo, double var, double eps, fn_slow *s);

/* The exponent for finite elements of that largest magnitude, else 0; and what is left
 * to do when hi, lo, var and exponent are set. */
int fn_slow_exponent(double largest, bool finite, double eps);
void fn_slow_finish(fn_slow *s, double eps);

/* From now on it is 1 / sqrt(var + eps) of another variance, on the scale of x. */
void fn_slow_rescale(double var, double eps, fn_slow *s);

/* From moments about zero of n elements to those of the norm, which is the result:
 * 1 / rstd becomes max(norm, eps). */
double fn_slow_lp(fn_slow *s, double n, double eps);

/* Back to the scale of x; what leaves the range of double becomes 0 or Inf. */
double fn_slow_mean(const fn_slow *s);
double fn_slow_var(const fn_slow *s);
double fn_slow_rstd(const fn_slow *s);

/* y = (X - mean) * rstd * weight + bias over run 0 of g, which has no source. Element i
 * of the run (counted through its segments) uses weight[i * step] and bias[i * step];
 * either may be NULL. */
void fn_slow_apply(fastnorm_dtype dtype, const fn_runs *g, void *y,
                   ptrdiff_t y_seg_stride, const fn_slow *s, const void *weight,
                   const void *bias, size_t step);

#endif
