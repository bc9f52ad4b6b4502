/* l2_norm.c - L2 norm: rows divided by their Euclidean length.
 * SPDX-License-Identifier: MIT */
#include "check.h"
#include "rows.h"

fastnorm_status fn_rows_lp(const fastnorm_l2_norm_args *callers, fn_rows_norm norm) {
  fastnorm_l2_norm_args args;
  fn_rows_work work;
  fastnorm_status s = fn_read_args(&args, sizeof(args), sizeof(args), callers);
  if (s != FASTNORM_OK)
    return s;
  const fastnorm_layer_norm_args layer = {.size = sizeof(layer),
                                          .dtype = args.dtype,
                                          .x = args.x,
                                          .y = args.y,
                                          .rstd = args.norm,
                                          .rows = args.rows,
                                          .cols = args.cols,
                                          .inner = args.inner,
                                          .x_stride = args.x_stride,
                                          .y_stride = args.y_stride,
                                          .eps = args.eps,
                                          .exec = args.exec,
                                          .format = args.format};
  s = fn_rows_check(&layer, norm, FASTNORM_RMS_PLAIN, &work);
  if (s == FASTNORM_OK && work.rows > 0)
    fn_rows_run(&work, &args.exec);
  return s;
}

fastnorm_status fastnorm_l2_norm(const fastnorm_l2_norm_args *callers) {
  return fn_rows_lp(callers, FN_SUM_OF_SQUARES);
}
