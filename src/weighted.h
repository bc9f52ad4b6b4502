/* weighted.h - sums of weighted elements, and moments from sums.
 * SPDX-License-Identifier: MIT */
#ifndef FN_WEIGHTED_H
#define FN_WEIGHTED_H

#include <stdbool.h>
#include <stddef.h>

#include "fastnorm.h"
#include "sum.h"

#define FN_WEIGHTS_BLOCK 128

/* n weights, `step` bytes apart, of 4 or 8 bytes each; their sum goes to the total. */
void fn_weights_read(const void *p, ptrdiff_t step, size_t element, size_t n,
                     double *w);
void fn_weights_sum(const double *w, size_t n, fn_sum *total);

/* Of weights w and elements x: the sums of w, of w * (x - shift), and of w * (x -
 * shift)^2. */
typedef struct fn_weighted {
  fn_sum weight, sum, sq;
} fn_weighted;

/* n elements of the dtype (float or double) times `scale`, a power of two, are added.
 * Steps are elements. What has a weight of 0 adds exactly nothing, NaN or not. */
void fn_weighted_add(fastnorm_dtype dtype, size_t n, const void *x, ptrdiff_t x_step,
                     const double *w, ptrdiff_t w_step, double scale, double shift,
                     fn_weighted *sums);

/* One set of sums takes in another, about the same shift. */
void fn_weighted_merge(fn_weighted *to, const fn_weighted *from);

/* Mean and sum of squared deviations, each with what one double does not hold. */
typedef struct fn_moment {
  double mean, mean_low, m2, m2_low;
  double share;      /* of the second sum, that m2 has lost for the shift */
  bool finite, good; /* good: not worth another pass about this mean */
} fn_moment;

/* From the sums about a shift of elements of the weight (or number) n. */
fn_moment fn_moment_of(double shift, double n, const fn_sum *sum, const fn_sum *sq);

#endif
