/* l1_norm.c - L1 norm: rows divided by the sum of their magnitudes.
 * SPDX-License-Identifier: MIT */
#include "rows.h"

fastnorm_status fastnorm_l1_norm(const fastnorm_l1_norm_args *callers) {
  return fn_rows_lp(callers, FN_SUM_OF_MAGNITUDES);
}
