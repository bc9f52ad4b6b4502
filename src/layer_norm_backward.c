/* layer_norm_backward.c - the gradients of layer norm.
 * SPDX-License-Identifier: MIT */
#include "check.h"
#include "rows_backward.h"

fastnorm_status
fastnorm_layer_norm_backward(const fastnorm_layer_norm_backward_args *callers) {
  fastnorm_layer_norm_backward_args args;
  fn_rows_gradient work;
  fastnorm_status s = fn_read_args(&args, sizeof(args), sizeof(args), callers);
  if (s == FASTNORM_OK)
    s = fn_rows_gradient_check(&args, FN_CENTERED, FASTNORM_RMS_PLAIN, &work);
  if (s == FASTNORM_OK && work.norm.rows > 0)
    fn_rows_gradient_run(&work);
  return s;
}

size_t
fastnorm_layer_norm_backward_scratch(const fastnorm_layer_norm_backward_args *callers) {
  fastnorm_layer_norm_backward_args args;
  if (fn_read_args(&args, sizeof(args), sizeof(args), callers) != FASTNORM_OK)
    return 0;
  return fn_rows_gradient_scratch(&args);
}
