/* weight_norm.c - weight norm: channels divided by their length, and scaled.
 * SPDX-License-Identifier: MIT */
#include "batch_norm_work.h"
#include "check.h"

static fastnorm_batch_norm_args as_batch_norm(const fastnorm_weight_norm_args *args) {
  return (fastnorm_batch_norm_args){.size = sizeof(fastnorm_batch_norm_args),
                                    .dtype = args->dtype,
                                    .x = args->x,
                                    .y = args->y,
                                    .weight = args->g,
                                    .rstd = args->norm,
                                    .batch = args->batch,
                                    .channels = args->channels,
                                    .spatial = args->spatial,
                                    .x_stride = args->x_stride,
                                    .y_stride = args->y_stride,
                                    .x_channel_stride = args->x_channel_stride,
                                    .y_channel_stride = args->y_channel_stride,
                                    .training = 1,
                                    .eps = FASTNORM_EPS_ZERO,
                                    .scratch = args->scratch,
                                    .scratch_size = args->scratch_size,
                                    .exec = args->exec,
                                    .format = args->format};
}

fastnorm_status fastnorm_weight_norm(const fastnorm_weight_norm_args *callers) {
  fastnorm_weight_norm_args args;
  const fastnorm_status s = fn_read_args(&args, sizeof(args), sizeof(args), callers);
  if (s != FASTNORM_OK)
    return s;
  const fastnorm_batch_norm_args norm = as_batch_norm(&args);
  return fn_batch_norm(&norm, NULL, true);
}

size_t fastnorm_weight_norm_scratch(const fastnorm_weight_norm_args *callers) {
  fastnorm_weight_norm_args args;
  if (fn_read_args(&args, sizeof(args), sizeof(args), callers) != FASTNORM_OK)
    return 0;
  const fastnorm_batch_norm_args norm = as_batch_norm(&args);
  return fastnorm_batch_norm_scratch(&norm);
}
