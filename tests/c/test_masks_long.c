/* test_masks_long.c - masks of runs that are longer than what is packed at a time.
 * SPDX-License-Identifier: MIT
 *
 * What is packed fills its room to the end here, and the next part begins within a
 * word of the mask's bits. */
#include "test.h"

enum { POSITIONS = 40000, CHANNELS = 3, COUNT = CHANNELS * POSITIONS };

static float x[COUNT], y[COUNT], packed[COUNT], wanted[COUNT];
static unsigned char mask[POSITIONS];

/* About `tenths` in ten take part. How many. */
static size_t make(uint64_t seed, int64_t tenths) {
  rng r = {seed};
  size_t count = 0;
  for (size_t i = 0; i < POSITIONS; i++) {
    mask[i] = rng_below(&r, 10) < tenths;
    count += mask[i];
  }
  for (size_t i = 0, n = 0; i < COUNT; i++) {
    x[i] = mask[i % POSITIONS] ? (float)(5.0 + rng_normal(&r)) : (float)NAN;
    if (mask[i % POSITIONS]) {
      packed[n++] = x[i];
    }
  }
  return count;
}

static void compare(const char *what, const float *stats, const float *wanted_stats,
                    size_t n) {
  CHECK(memcmp(stats, wanted_stats, n * sizeof *stats) == 0, "%s: statistics", what);
  for (size_t i = 0, k = 0; i < COUNT; i++) {
    const float should = mask[i % POSITIONS] ? wanted[k++] : 0.0f;
    if (memcmp(&y[i], &should, sizeof should) != 0) {
      fail("%s: element %zu is %g, not %g", what, i, (double)y[i], (double)should);
      return;
    }
  }
}

static void instances(size_t count) {
  float mean[2][CHANNELS], rstd[2][CHANNELS];
  fastnorm_instance_norm_args a = {.size = sizeof a,
                                   .x = packed,
                                   .y = wanted,
                                   .mean = mean[0],
                                   .rstd = rstd[0],
                                   .batch = 1,
                                   .channels = CHANNELS,
                                   .spatial = count};
  CHECK(fastnorm_instance_norm(&a) == FASTNORM_OK, "instance norm, packed");
  a.x = x, a.y = y, a.mean = mean[1], a.rstd = rstd[1], a.spatial = POSITIONS;
  a.mask.mask = mask, a.mask.spatial_stride = 1;
  CHECK(fastnorm_instance_norm(&a) == FASTNORM_OK, "instance norm, masked");
  compare("instance norm, mean", mean[1], mean[0], CHANNELS);
  compare("instance norm, rstd", rstd[1], rstd[0], CHANNELS);
}

/* One group of all channels. */
static void groups(size_t count) {
  float mean[2], rstd[2];
  fastnorm_group_norm_args a = {.size = sizeof a,
                                .x = packed,
                                .y = wanted,
                                .mean = &mean[0],
                                .rstd = &rstd[0],
                                .batch = 1,
                                .channels = CHANNELS,
                                .groups = 1,
                                .spatial = count};
  CHECK(fastnorm_group_norm(&a) == FASTNORM_OK, "group norm, packed");
  a.x = x, a.y = y, a.mean = &mean[1], a.rstd = &rstd[1], a.spatial = POSITIONS;
  a.mask.mask = mask, a.mask.spatial_stride = 1;
  CHECK(fastnorm_group_norm(&a) == FASTNORM_OK, "group norm, masked");
  compare("group norm, mean", &mean[1], &mean[0], 1);
  compare("group norm, rstd", &rstd[1], &rstd[0], 1);
}

static void long_runs(void) {
  for (int64_t tenths = 1; tenths < 10; tenths += 2) {
    const size_t count = make(31 + (uint64_t)tenths, tenths);
    const char *isa;
    for (size_t i = 0; (isa = fastnorm_isa_name(i)) != NULL; i++) {
      fastnorm_set_isa(isa);
      instances(count);
      groups(count);
    }
    fastnorm_set_isa(NULL);
  }
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"long_runs", long_runs},
  };
  return RUN_TESTS(argc, argv, tests);
}
