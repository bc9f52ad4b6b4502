/* factors.c - which sums of products are within the range of plain arithmetic.
 * SPDX-License-Identifier: MIT */
#include <math.h>

#include "range.h"
#include "rows_backward.h"

fn_range fn_products_range(fastnorm_dtype dtype, double n, double sum_d, double sum_dt,
                           double sum_x, double b) {
  const bool f32 = dtype == FASTNORM_FLOAT32;
  const double most = f32 ? f32_PRODUCTS_MAX : f64_PRODUCTS_MAX;
  const double least = f32 ? f32_PRODUCTS_MIN : f64_PRODUCTS_MIN;
  if (!(fabs(sum_d) <= most && fabs(sum_dt) <= most && fabs(sum_x) <= most &&
        fabs(b) <= most))
    return FN_OUTSIDE;
  return fabs(sum_dt) < n * least ? FN_SMALL : FN_WITHIN;
}

bool fn_difference_within(fastnorm_dtype dtype, double largest, double shift,
                          bool exact) {
  const double least = dtype == FASTNORM_FLOAT32 ? f32_D_MIN : f64_D_MIN;
  return largest >= least || (largest <= 0.0 && (exact || fabs(shift) >= least));
}
