/* calls.h - from the one description of operation.h to the call of each operation.
 * SPDX-License-Identifier: MIT
 */
#ifndef FN_TEST_CALLS_H
#define FN_TEST_CALLS_H

/* The fields that all operations with a y have. */
#define COMMON_FIELDS(j)                                                               \
  .dtype = (j)->dtype, .x = (j)->x, .y = (j)->y, .x_stride = (j)->x_s0,                \
  .y_stride = (j)->y_s0, .eps = (j)->eps, .exec = (j)->exec, .format = (j)->format
#define ROW_FIELDS(j)                                                                  \
  .weight = (j)->weight, .rows = (j)->n0, .cols = (j)->n1, .inner = (j)->n2,           \
  .rstd = (j)->rstd, .residual = (j)->residual, .residual_bias = (j)->residual_bias,   \
  .residual_out = (j)->residual_out, .residual_dtype = (j)->residual_dtype,            \
  .residual_stride = (j)->residual_stride,                                             \
  .residual_out_stride = (j)->residual_out_stride, .epilogue = (j)->epilogue,          \
  .y_scale = (j)->y_scale
#define CHANNEL_FIELDS(j)                                                              \
  .weight = (j)->weight, .bias = (j)->bias, .mean = (j)->mean, .rstd = (j)->rstd,      \
  .batch = (j)->n0, .channels = parameter_count(j), .spatial = spatial_of(j),          \
  .x_channel_stride = (j)->x_s1, .y_channel_stride = (j)->y_s1,                        \
  .epilogue = (j)->epilogue

static inline fastnorm_batch_norm_args batch_norm_args(const job *j) {
  return (fastnorm_batch_norm_args){
      .size = sizeof(fastnorm_batch_norm_args),
      COMMON_FIELDS(j),
      CHANNEL_FIELDS(j),
      .running_mean = j->running_mean,
      .running_var = j->running_var,
      .training = j->op == BATCH_TRAINING,
      .momentum = j->momentum,
      .num_batches_tracked = j->tracked,
      .scratch = j->scratch,
      .scratch_size = j->scratch_size,
      .mask = j->mask,
  };
}

static inline fastnorm_batch_renorm_args batch_renorm_args(const job *j) {
  return (fastnorm_batch_renorm_args){
      .size = sizeof(fastnorm_batch_renorm_args),
      COMMON_FIELDS(j),
      CHANNEL_FIELDS(j),
      .running_mean = j->running_mean,
      .running_var = j->running_var,
      .r = j->r,
      .d = j->d,
      .training = 1,
      .momentum = j->momentum,
      .num_batches_tracked = j->tracked,
      .r_max = j->r_max,
      .d_max = j->d_max,
      .scratch = j->scratch,
      .scratch_size = j->scratch_size,
  };
}

static inline fastnorm_weight_norm_args weight_norm_args(const job *j) {
  return (fastnorm_weight_norm_args){
      .size = sizeof(fastnorm_weight_norm_args),
      .dtype = j->dtype,
      .x = j->x,
      .y = j->y,
      .g = j->weight,
      .norm = j->rstd,
      .batch = j->n0,
      .channels = j->n1,
      .spatial = j->n2,
      .x_stride = j->x_s0,
      .y_stride = j->y_s0,
      .x_channel_stride = j->x_s1,
      .y_channel_stride = j->y_s1,
      .scratch = j->scratch,
      .scratch_size = j->scratch_size,
      .exec = j->exec,
      .format = j->format,
  };
}

static inline fastnorm_moments_args moments_args(const job *j) {
  return (fastnorm_moments_args){
      .size = sizeof(fastnorm_moments_args),
      .dtype = j->dtype,
      .x = j->x,
      .mean = j->mean,
      .m2 = j->rstd,
      .batch = j->n0,
      .channels = j->n1,
      .spatial = j->n2,
      .x_stride = j->x_s0,
      .x_channel_stride = j->x_s1,
      .scratch = j->scratch,
      .scratch_size = j->scratch_size,
      .exec = j->exec,
      .x_quantization = j->format.x_quantization,
      .mask = j->mask,
      .count = j->count,
      .weight = j->sums,
  };
}

static inline size_t scratch_bytes(const job *j) {
  if (j->op == MOMENTS) {
    const fastnorm_moments_args args = moments_args(j);
    return fastnorm_moments_scratch(&args);
  }
  if (j->op == BATCH_TRAINING) {
    const fastnorm_batch_norm_args args = batch_norm_args(j);
    return fastnorm_batch_norm_scratch(&args);
  }
  if (j->op == BATCH_RENORM) {
    const fastnorm_batch_renorm_args args = batch_renorm_args(j);
    return fastnorm_batch_renorm_scratch(&args);
  }
  if (j->op == WEIGHT_NORM) {
    const fastnorm_weight_norm_args args = weight_norm_args(j);
    return fastnorm_weight_norm_scratch(&args);
  }
  return 0;
}

static inline fastnorm_status run_row_norm(const job *j) {
  if (j->op == RMS_NORM) {
    return fastnorm_rms_norm(
        &(fastnorm_rms_norm_args){.size = sizeof(fastnorm_rms_norm_args),
                                  COMMON_FIELDS(j),
                                  ROW_FIELDS(j),
                                  .mode = j->mode});
  }
  if (j->op == L2_NORM || j->op == L1_NORM) {
    const fastnorm_l2_norm_args args = {.size = sizeof(fastnorm_l2_norm_args),
                                        COMMON_FIELDS(j),
                                        .norm = j->rstd,
                                        .rows = j->n0,
                                        .cols = j->n1,
                                        .inner = j->n2};
    return j->op == L1_NORM ? fastnorm_l1_norm(&args) : fastnorm_l2_norm(&args);
  }
  const int stored = j->op == LAYER_STORED;
  return fastnorm_layer_norm(
      &(fastnorm_layer_norm_args){.size = sizeof(fastnorm_layer_norm_args),
                                  COMMON_FIELDS(j),
                                  ROW_FIELDS(j),
                                  .bias = j->bias,
                                  .mean = j->mean,
                                  .stored_mean = stored ? j->running_mean : NULL,
                                  .stored_var = stored ? j->running_var : NULL,
                                  .lengths = j->mask.lengths,
                                  .masked = j->mask.masked});
}

static inline fastnorm_status run_sample_norm(const job *j) {
  if (is_instance_norm(j->op)) {
    return fastnorm_instance_norm(
        &(fastnorm_instance_norm_args){.size = sizeof(fastnorm_instance_norm_args),
                                       COMMON_FIELDS(j),
                                       CHANNEL_FIELDS(j),
                                       .running_mean = j->running_mean,
                                       .running_var = j->running_var,
                                       .channels_last = is_channels_last(j->op),
                                       .use_running_stats = reads_stored(j->op),
                                       .momentum = j->momentum,
                                       .mask = j->mask});
  }
  const int stored = j->op == GROUP_STORED;
  return fastnorm_group_norm(
      &(fastnorm_group_norm_args){.size = sizeof(fastnorm_group_norm_args),
                                  COMMON_FIELDS(j),
                                  CHANNEL_FIELDS(j),
                                  .groups = j->groups,
                                  .channels_last = is_channels_last(j->op),
                                  .stored_mean = stored ? j->running_mean : NULL,
                                  .stored_var = stored ? j->running_var : NULL,
                                  .mask = j->mask});
}

static inline fastnorm_status run_job(const job *j) {
  if (is_row_norm(j->op)) {
    return run_row_norm(j);
  }
  if (is_sample_norm(j->op)) {
    return run_sample_norm(j);
  }
  if (j->op == MOMENTS) {
    const fastnorm_moments_args args = moments_args(j);
    return fastnorm_moments(&args);
  }
  if (j->op == BATCH_RENORM) {
    const fastnorm_batch_renorm_args args = batch_renorm_args(j);
    return fastnorm_batch_renorm(&args);
  }
  if (j->op == WEIGHT_NORM) {
    const fastnorm_weight_norm_args args = weight_norm_args(j);
    return fastnorm_weight_norm(&args);
  }
  const fastnorm_batch_norm_args args = batch_norm_args(j);
  return fastnorm_batch_norm(&args);
}

#endif /* FN_TEST_CALLS_H */
