/* weight_norm_backward.c - the gradient of weight norm.
 * SPDX-License-Identifier: MIT */
#include "check.h"
#include "samples_backward.h"

static fn_backward_call call_of(const fastnorm_weight_norm_backward_args *args) {
  return (fn_backward_call){FN_BACKWARD_FIELDS(args), .weight = args->g,
                            .norm = args->norm,       .grad_weight = args->grad_g,
                            .eps = FASTNORM_EPS_ZERO, .statistics = FN_ABOUT_ZERO};
}

fastnorm_status
fastnorm_weight_norm_backward(const fastnorm_weight_norm_backward_args *callers) {
  fastnorm_weight_norm_backward_args args;
  const fastnorm_status s = fn_read_args(&args, sizeof(args), sizeof(args), callers);
  if (s != FASTNORM_OK)
    return s;
  const fn_backward_call call = call_of(&args);
  return fn_backward_run(&call);
}

size_t fastnorm_weight_norm_backward_scratch(
    const fastnorm_weight_norm_backward_args *callers) {
  fastnorm_weight_norm_backward_args args;
  if (fn_read_args(&args, sizeof(args), sizeof(args), callers) != FASTNORM_OK)
    return 0;
  const fn_backward_call call = call_of(&args);
  return fn_backward_scratch(&call);
}
