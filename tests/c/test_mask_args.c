/* test_mask_args.c - masks and lengths that are refused, before anything is written.
 * SPDX-License-Identifier: MIT
 */
#include "args.h"

static unsigned char bytes[64];
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

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"arguments", arguments},
      {"single_values", single_values},
  };
  return RUN_TESTS(argc, argv, tests);
}
