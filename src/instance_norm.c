/* instance_norm.c - instance norm: group norm of one channel per group, and running
 * statistics.
 * SPDX-License-Identifier: MIT */
#include <stddef.h>

#include "check.h"
#include "samples.h"

/* the size of the struct before `mask` was added */
#define FIRST_SIZE offsetof(fastnorm_instance_norm_args, mask)

static fastnorm_status read_running(const fastnorm_instance_norm_args *args,
                                    double *momentum) {
  *momentum = args->momentum;
  if (args->momentum >= 0.0 && args->momentum <= 0.0)
    *momentum = 0.1;
  if (!(*momentum > 0.0 && *momentum <= 1.0))
    return FASTNORM_ERROR_MOMENTUM;
  if (!args->running_mean != !args->running_var)
    return FASTNORM_ERROR_RUNNING;
  if (args->use_running_stats && !args->running_mean && args->channels > 0)
    return FASTNORM_ERROR_RUNNING;
  return FASTNORM_OK;
}

static fastnorm_group_norm_args as_groups(const fastnorm_instance_norm_args *args) {
  return (fastnorm_group_norm_args){.size = sizeof(fastnorm_group_norm_args),
                                    .dtype = args->dtype,
                                    .x = args->x,
                                    .y = args->y,
                                    .weight = args->weight,
                                    .bias = args->bias,
                                    .mean = args->mean,
                                    .rstd = args->rstd,
                                    .batch = args->batch,
                                    .channels = args->channels,
                                    .spatial = args->spatial,
                                    .groups = args->channels ? args->channels : 1,
                                    .channels_last = args->channels_last,
                                    .x_stride = args->x_stride,
                                    .y_stride = args->y_stride,
                                    .x_channel_stride = args->x_channel_stride,
                                    .y_channel_stride = args->y_channel_stride,
                                    .eps = args->eps,
                                    .exec = args->exec,
                                    .format = args->format,
                                    .epilogue = args->epilogue,
                                    .mask = args->mask};
}

fastnorm_status fastnorm_instance_norm(const fastnorm_instance_norm_args *callers) {
  fastnorm_instance_norm_args args;
  fn_samples_work work;
  double momentum;
  bool single;
  fastnorm_status s = fn_read_args(&args, sizeof(args), FIRST_SIZE, callers);
  if (s == FASTNORM_OK)
    s = read_running(&args, &momentum);
  if (s != FASTNORM_OK)
    return s;
  const fastnorm_group_norm_args groups = as_groups(&args);
  const fn_use use = args.use_running_stats ? FN_INPUT : FN_OUTPUT;
  const fn_array running[2] = {
      {args.running_mean, {1, 1, args.channels}, {0, 0, 1}, 0, use, false},
      {args.running_var, {1, 1, args.channels}, {0, 0, 1}, 0, use, false},
  };
  s = fn_samples_check(&groups, running, &work, &single);
  if (s != FASTNORM_OK || work.batch == 0)
    return s;
  const bool relative = work.is_masked && work.mask.weighted && !args.running_mean;
  if (!args.use_running_stats && single && !relative)
    return FASTNORM_ERROR_COUNT;
  work.running_mean = fn_vector_of(args.running_mean, work.f.params);
  work.running_var = fn_vector_of(args.running_var, work.f.params);
  work.use_running = args.use_running_stats != 0;
  work.momentum = momentum;
  fn_samples_run(&work, &args.exec);
  return s;
}
