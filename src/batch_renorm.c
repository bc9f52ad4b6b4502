/* batch_renorm.c - batch norm that keeps to the running statistics in training too.
 * SPDX-License-Identifier: MIT */
#include <math.h>

#include "batch_norm_work.h"
#include "check.h"

static fastnorm_status read_limits(const fastnorm_batch_renorm_args *args,
                                   fn_renorm *limits) {
  const double r_max = args->r_max, d_max = args->d_max;
  limits->r_max = r_max >= 0.0 && r_max <= 0.0 ? 3.0 : r_max;
  limits->d_max = d_max >= 0.0 && d_max <= 0.0 ? 5.0 : d_max;
  if (d_max <= FASTNORM_D_MAX_ZERO && d_max >= FASTNORM_D_MAX_ZERO)
    limits->d_max = 0.0;
  limits->r = args->r;
  limits->d = args->d;
  return limits->r_max >= 1.0 && limits->d_max >= 0.0 ? FASTNORM_OK
                                                      : FASTNORM_ERROR_LIMITS;
}

static fastnorm_batch_norm_args as_batch_norm(const fastnorm_batch_renorm_args *args) {
  return (fastnorm_batch_norm_args){.size = sizeof(fastnorm_batch_norm_args),
                                    .dtype = args->dtype,
                                    .x = args->x,
                                    .y = args->y,
                                    .weight = args->weight,
                                    .bias = args->bias,
                                    .running_mean = args->running_mean,
                                    .running_var = args->running_var,
                                    .mean = args->mean,
                                    .rstd = args->rstd,
                                    .batch = args->batch,
                                    .channels = args->channels,
                                    .spatial = args->spatial,
                                    .x_stride = args->x_stride,
                                    .y_stride = args->y_stride,
                                    .x_channel_stride = args->x_channel_stride,
                                    .y_channel_stride = args->y_channel_stride,
                                    .training = args->training,
                                    .momentum = args->momentum,
                                    .num_batches_tracked = args->num_batches_tracked,
                                    .eps = args->eps,
                                    .scratch = args->scratch,
                                    .scratch_size = args->scratch_size,
                                    .exec = args->exec,
                                    .format = args->format,
                                    .epilogue = args->epilogue};
}

fastnorm_status fastnorm_batch_renorm(const fastnorm_batch_renorm_args *callers) {
  fastnorm_batch_renorm_args args;
  fn_renorm limits;
  fastnorm_status s = fn_read_args(&args, sizeof(args), sizeof(args), callers);
  if (s == FASTNORM_OK)
    s = read_limits(&args, &limits);
  if (s != FASTNORM_OK)
    return s;
  const fastnorm_batch_norm_args norm = as_batch_norm(&args);
  return fn_batch_norm(&norm, &limits, false);
}

size_t fastnorm_batch_renorm_scratch(const fastnorm_batch_renorm_args *callers) {
  fastnorm_batch_renorm_args args;
  if (fn_read_args(&args, sizeof(args), sizeof(args), callers) != FASTNORM_OK)
    return 0;
  const fastnorm_batch_norm_args norm = as_batch_norm(&args);
  return fastnorm_batch_norm_scratch(&norm);
}
