/* args.h - good calls of every operation, and what becomes of them with one change.
 * SPDX-License-Identifier: MIT
 */
#ifndef FN_TEST_ARGS_H
#define FN_TEST_ARGS_H

#include "test.h"

/* All arrays of all calls; compared as a whole after a refused call. */
typedef struct memory {
  float x[64], y[64], weight[16], bias[16], mean[16], rstd[16];
  float running_mean[16], running_var[16];
  float residual[64], residual_bias[16], residual_out[64], post_add[64], y_scale[16];
  float stored_mean[16], stored_var[16];
  double moment_mean[16], moment_m2[16], scratch[4096];
} memory;

static memory m, before;

static inline void reset_memory(void) {
  memset(&m, 0, sizeof m);
  for (int i = 0; i < 64; i++) {
    m.x[i] = (float)(i * i % 17);
    m.y[i] = -7.0F;
  }
  for (int i = 0; i < 16; i++) {
    m.weight[i] = m.running_var[i] = 1.0F;
    m.mean[i] = m.rstd[i] = -7.0F;
    m.moment_mean[i] = m.moment_m2[i] = -7.0;
  }
  memcpy(&before, &m, sizeof m);
}

static inline fastnorm_layer_norm_args good_layer_norm(void) {
  return (fastnorm_layer_norm_args){.size = sizeof(fastnorm_layer_norm_args),
                                    .x = m.x,
                                    .y = m.y,
                                    .weight = m.weight,
                                    .bias = m.bias,
                                    .mean = m.mean,
                                    .rstd = m.rstd,
                                    .rows = 4,
                                    .cols = 6};
}

static inline fastnorm_rms_norm_args good_rms_norm(void) {
  return (fastnorm_rms_norm_args){.size = sizeof(fastnorm_rms_norm_args),
                                  .x = m.x,
                                  .y = m.y,
                                  .weight = m.weight,
                                  .rstd = m.rstd,
                                  .rows = 4,
                                  .cols = 6};
}

static inline fastnorm_batch_norm_args good_batch_norm(void) {
  return (fastnorm_batch_norm_args){.size = sizeof(fastnorm_batch_norm_args),
                                    .x = m.x,
                                    .y = m.y,
                                    .weight = m.weight,
                                    .bias = m.bias,
                                    .running_mean = m.running_mean,
                                    .running_var = m.running_var,
                                    .mean = m.mean,
                                    .rstd = m.rstd,
                                    .batch = 2,
                                    .channels = 3,
                                    .spatial = 4,
                                    .training = 1};
}

static inline fastnorm_batch_renorm_args good_batch_renorm(void) {
  return (fastnorm_batch_renorm_args){.size = sizeof(fastnorm_batch_renorm_args),
                                      .x = m.x,
                                      .y = m.y,
                                      .weight = m.weight,
                                      .bias = m.bias,
                                      .running_mean = m.running_mean,
                                      .running_var = m.running_var,
                                      .mean = m.mean,
                                      .rstd = m.rstd,
                                      .r = m.stored_mean,
                                      .d = m.stored_var,
                                      .batch = 2,
                                      .channels = 3,
                                      .spatial = 4,
                                      .training = 1};
}

static inline fastnorm_weight_norm_args good_weight_norm(void) {
  return (fastnorm_weight_norm_args){.size = sizeof(fastnorm_weight_norm_args),
                                     .x = m.x,
                                     .y = m.y,
                                     .g = m.weight,
                                     .norm = m.rstd,
                                     .batch = 2,
                                     .channels = 3,
                                     .spatial = 4};
}

static inline fastnorm_moments_args good_moments(void) {
  return (fastnorm_moments_args){.size = sizeof(fastnorm_moments_args),
                                 .x = m.x,
                                 .mean = m.moment_mean,
                                 .m2 = m.moment_m2,
                                 .batch = 2,
                                 .channels = 3,
                                 .spatial = 4};
}

static inline fastnorm_l2_norm_args good_l2_norm(void) {
  return (fastnorm_l2_norm_args){.size = sizeof(fastnorm_l2_norm_args),
                                 .x = m.x,
                                 .y = m.y,
                                 .norm = m.rstd,
                                 .rows = 4,
                                 .cols = 6};
}

static inline fastnorm_l1_norm_args good_l1_norm(void) {
  return good_l2_norm();
}

static inline fastnorm_group_norm_args good_group_norm(void) {
  return (fastnorm_group_norm_args){.size = sizeof(fastnorm_group_norm_args),
                                    .x = m.x,
                                    .y = m.y,
                                    .weight = m.weight,
                                    .bias = m.bias,
                                    .mean = m.mean,
                                    .rstd = m.rstd,
                                    .batch = 2,
                                    .channels = 4,
                                    .spatial = 3,
                                    .groups = 2};
}

static inline fastnorm_instance_norm_args good_instance_norm(void) {
  return (fastnorm_instance_norm_args){.size = sizeof(fastnorm_instance_norm_args),
                                       .x = m.x,
                                       .y = m.y,
                                       .weight = m.weight,
                                       .bias = m.bias,
                                       .running_mean = m.running_mean,
                                       .running_var = m.running_var,
                                       .mean = m.mean,
                                       .rstd = m.rstd,
                                       .batch = 2,
                                       .channels = 3,
                                       .spatial = 4};
}

static inline void check_refused(fastnorm_status got, fastnorm_status wanted,
                                 const char *what) {
  CHECK(got == wanted, "%s: status %d, not %d", what, (int)got, (int)wanted);
  CHECK(memcmp(&m, &before, sizeof m) == 0, "%s: memory was written", what);
}

static inline void check_accepted(fastnorm_status got, int writes, const char *what) {
  CHECK(got == FASTNORM_OK, "%s: %s", what, fastnorm_strerror(got));
  CHECK((memcmp(&m, &before, sizeof m) != 0) == writes, "%s: %s", what,
        writes ? "nothing was written" : "memory was written");
}

/* A good call with one change. */
#define REFUSED(op, status, change)                                                    \
  do {                                                                                 \
    reset_memory();                                                                    \
    fastnorm_##op##_args args = good_##op();                                           \
    change;                                                                            \
    check_refused(fastnorm_##op(&args), status, #op ": " #change);                     \
    args.exec.check_only = 1;                                                          \
    check_refused(fastnorm_##op(&args), status, #op ", check only: " #change);         \
  } while (0)

#define ACCEPTED(op, writes, change)                                                   \
  do {                                                                                 \
    reset_memory();                                                                    \
    fastnorm_##op##_args args = good_##op();                                           \
    change;                                                                            \
    memcpy(&before, &m, sizeof m);                                                     \
    args.exec.check_only = 1;                                                          \
    check_accepted(fastnorm_##op(&args), 0, #op ", check only: " #change);             \
    args.exec.check_only = 0;                                                          \
    check_accepted(fastnorm_##op(&args), writes, #op ": " #change);                    \
  } while (0)

#define NOT_ALIGNED(pointer) ((void *)((char *)(pointer) + 1))

#endif /* FN_TEST_ARGS_H */
