/* batch_norm_backward.c - the gradient of batch norm.
 * SPDX-License-Identifier: MIT */
#include "check.h"
#include "samples_backward.h"

static fn_backward_call call_of(const fastnorm_batch_norm_backward_args *args) {
  return (fn_backward_call){FN_NORM_BACKWARD_FIELDS(args),
                            .refuses_one = args->training != 0,
                            .statistics = args->training ? FN_OF_X : FN_FIXED};
}

fastnorm_status
fastnorm_batch_norm_backward(const fastnorm_batch_norm_backward_args *callers) {
  fastnorm_batch_norm_backward_args args;
  const fastnorm_status s = fn_read_args(&args, sizeof(args), sizeof(args), callers);
  if (s != FASTNORM_OK)
    return s;
  const fn_backward_call call = call_of(&args);
  return fn_backward_run(&call);
}

size_t
fastnorm_batch_norm_backward_scratch(const fastnorm_batch_norm_backward_args *callers) {
  fastnorm_batch_norm_backward_args args;
  if (fn_read_args(&args, sizeof(args), sizeof(args), callers) != FASTNORM_OK)
    return 0;
  const fn_backward_call call = call_of(&args);
  return fn_backward_scratch(&call);
}
