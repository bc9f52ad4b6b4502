/* l2_norm_backward.c - the gradient of L2 norm.
 * SPDX-License-Identifier: MIT */
#include "check.h"
#include "rows_backward.h"

fastnorm_status
fastnorm_l2_norm_backward(const fastnorm_l2_norm_backward_args *callers) {
  fastnorm_l2_norm_backward_args args;
  fn_rows_gradient work;
  fastnorm_status s = fn_read_args(&args, sizeof(args), sizeof(args), callers);
  if (s != FASTNORM_OK)
    return s;
  const fastnorm_layer_norm_backward_args layer = {.size = sizeof(layer),
                                                   .dtype = args.dtype,
                                                   .grad_y = args.grad_y,
                                                   .x = args.x,
                                                   .grad_x = args.grad_x,
                                                   .rows = args.rows,
                                                   .cols = args.cols,
                                                   .inner = args.inner,
                                                   .grad_y_stride = args.grad_y_stride,
                                                   .x_stride = args.x_stride,
                                                   .grad_x_stride = args.grad_x_stride,
                                                   .eps = args.eps,
                                                   .exec = args.exec,
                                                   .format = args.format};
  s = fn_rows_gradient_check(&layer, FN_SUM_OF_SQUARES, FASTNORM_RMS_PLAIN, &work);
  if (s == FASTNORM_OK && work.norm.rows > 0)
    fn_rows_gradient_run(&work);
  return s;
}
