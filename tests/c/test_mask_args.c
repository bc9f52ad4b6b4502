/* test_mask_args.c - masks and lengths that are refused, before anything is written.
 * SPDX-License-Identifier: MIT
 */
#include "args.h"

static unsigned char bytes[64];
static float weights[24];
static const size_t lengths[4] = {2, 1, 0, 1}, long_lengths[4] = {2, 5, 0, 7};

#define MASKED(op, change)                                                             \
  REFUSED(op, FASTNORM_ERROR_MASK, args.mask.mask = bytes; change)
#define ALL_REFUSED(op)                                                                \
  do {                                                                                 \
    MASKED(op, args.mask.lengths = lengths);                                           \
    MASKED(op, args.mask.positions = args.spatial);                                    \
    MASKED(op, args.mask.masked = (fastnorm_masked)2);                                 \
    MASKED(op, args.mask.masked = (fastnorm_masked)-1);                                \
    REFUSED(op, FASTNORM_ERROR_MASK, args.mask.lengths = long_lengths);                \
    REFUSED(op, FASTNORM_ERROR_MASK, args.mask.lengths = lengths;                      \
            args.mask.positions = 2);                                                  \
    REFUSED(op, FASTNORM_ERROR_MASK, args.mask.lengths = lengths;                      \
            args.mask.stride = 1);                                                     \
    REFUSED(op, FASTNORM_ERROR_MASK, args.mask.stride = 1);                            \
    REFUSED(op, FASTNORM_ERROR_MASK, args.mask.masked = FASTNORM_MASKED_KEEP);         \
    REFUSED(op, FASTNORM_ERROR_ALIGNMENT, args.mask.lengths = NOT_ALIGNED(lengths));   \
    REFUSED(op, FASTNORM_ERROR_SHAPE, args.mask.mask = bytes;                          \
            args.mask.spatial_stride = PTRDIFF_MAX);                                   \
    MASKED(op, args.mask.weights = weights);                                           \
    MASKED(op, args.mask.weights_dtype = FASTNORM_FLOAT32);                            \
    REFUSED(op, FASTNORM_ERROR_MASK, args.mask.weights_dtype = FASTNORM_FLOAT32);      \
    REFUSED(op, FASTNORM_ERROR_MASK, args.mask.weights = weights;                      \
            args.mask.lengths = lengths);                                              \
    REFUSED(op, FASTNORM_ERROR_MASK, args.mask.weights = weights;                      \
            args.mask.positions = args.spatial);                                       \
    REFUSED(op, FASTNORM_ERROR_DTYPE, args.mask.weights = weights;                     \
            args.mask.weights_dtype = FASTNORM_FLOAT16);                               \
    REFUSED(op, FASTNORM_ERROR_ALIGNMENT, args.mask.weights = NOT_ALIGNED(weights));   \
    REFUSED(op, FASTNORM_ERROR_SHAPE, args.mask.weights = weights;                     \
            args.mask.spatial_stride = PTRDIFF_MAX);                                   \
    for (int k = 0; k < 3; k++) {                                                      \
      weights[5] = k == 0 ? -1e-30f : k == 1 ? (float)NAN : (float)INFINITY;           \
      REFUSED(op, FASTNORM_ERROR_WEIGHT, args.mask.weights = weights;                  \
              args.mask.stride = 4; args.mask.spatial_stride = 1);                     \
    }                                                                                  \
    weights[5] = 0.0f;                                                                 \
  } while (0)

static void arguments(void) {
  ALL_REFUSED(batch_norm);
  ALL_REFUSED(group_norm);
  ALL_REFUSED(instance_norm);
  ALL_REFUSED(moments);
#define OVERLAPPED(op, array)                                                          \
  REFUSED(op, FASTNORM_ERROR_OVERLAP, args.mask.mask = (unsigned char *)m.array;       \
          args.mask.spatial_stride = 1)
  OVERLAPPED(batch_norm, y);
  OVERLAPPED(batch_norm, mean);
  OVERLAPPED(batch_norm, running_var);
  OVERLAPPED(group_norm, y);
  OVERLAPPED(group_norm, rstd);
  OVERLAPPED(instance_norm, y);
  OVERLAPPED(instance_norm, running_mean);
  OVERLAPPED(moments, moment_m2);
  REFUSED(moments, FASTNORM_ERROR_OVERLAP, args.count = (size_t *)(void *)m.moment_m2);
  REFUSED(layer_norm, FASTNORM_ERROR_MASK, args.lengths = long_lengths);
  REFUSED(layer_norm, FASTNORM_ERROR_MASK, args.masked = FASTNORM_MASKED_KEEP);
  REFUSED(layer_norm, FASTNORM_ERROR_MASK, args.lengths = lengths;
          args.masked = (fastnorm_masked)2);
  REFUSED(layer_norm, FASTNORM_ERROR_COMBINATION, args.lengths = lengths;
          args.residual = m.residual);
  REFUSED(layer_norm, FASTNORM_ERROR_COMBINATION, args.lengths = lengths;
          args.stored_mean = m.stored_mean; args.stored_var = m.stored_var);
  REFUSED(layer_norm, FASTNORM_ERROR_COMBINATION, args.lengths = lengths;
          args.format.y = FASTNORM_INT8; args.y_scale = m.y_scale);
  ACCEPTED(layer_norm, 1, args.lengths = lengths);
}

/* One value of a channel, or instance, before anything is written. */
static void single_values(void) {
  memset(bytes, 0, sizeof bytes);
  bytes[2] = 1;
  REFUSED(batch_norm, FASTNORM_ERROR_COUNT, args.mask.mask = bytes;
          args.mask.stride = 4; args.mask.spatial_stride = 1);
  REFUSED(instance_norm, FASTNORM_ERROR_COUNT, args.mask.mask = bytes;
          args.mask.spatial_stride = 1);
  REFUSED(batch_norm, FASTNORM_ERROR_COUNT, args.mask.lengths = lengths + 1);
  REFUSED(instance_norm, FASTNORM_ERROR_COUNT, args.mask.lengths = lengths);
  ACCEPTED(batch_norm, 1, args.mask.mask = bytes; args.mask.stride = 4;
           args.mask.spatial_stride = 1; args.training = 0);
  ACCEPTED(batch_norm, 1, args.mask.mask = bytes; args.mask.spatial_stride = 1);
  ACCEPTED(instance_norm, 1, args.mask.mask = bytes; args.mask.spatial_stride = 1;
           args.use_running_stats = 1);
  ACCEPTED(group_norm, 1, args.mask.mask = bytes; args.mask.spatial_stride = 1);
  ACCEPTED(moments, 1, args.mask.mask = bytes; args.mask.spatial_stride = 1);
}

/* Running statistics need a sum of weights above 1; nothing else does. */
static void sums_of_weights(void) {
#define WEIGHTED                                                                       \
  args.mask.weights = weights, args.mask.stride = 4, args.mask.spatial_stride = 1
  memset(weights, 0, sizeof weights);
  weights[0] = weights[4] = 0.25f;
  weights[1] = weights[5] = 0.125f;
  REFUSED(batch_norm, FASTNORM_ERROR_COUNT, WEIGHTED);
  REFUSED(instance_norm, FASTNORM_ERROR_COUNT, WEIGHTED);
  ACCEPTED(batch_norm, 1, WEIGHTED; args.running_mean = args.running_var = NULL);
  ACCEPTED(instance_norm, 1, WEIGHTED; args.running_mean = args.running_var = NULL);
  ACCEPTED(batch_norm, 1, WEIGHTED; args.training = 0);
  ACCEPTED(instance_norm, 1, WEIGHTED; args.use_running_stats = 1);
  ACCEPTED(group_norm, 1, WEIGHTED);
  ACCEPTED(moments, 1, WEIGHTED);
  for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
    weights[i] *= 8.0f;
  }
  ACCEPTED(batch_norm, 1, WEIGHTED);
  ACCEPTED(instance_norm, 1, WEIGHTED);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"arguments", arguments},
      {"single_values", single_values},
      {"sums_of_weights", sums_of_weights},
  };
  return RUN_TESTS(argc, argv, tests);
}
