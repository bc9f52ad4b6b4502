/* test_running_moments_state.c - what a state refuses, and what comes out of one.
 * SPDX-License-Identifier: MIT */
#include "running_moments.h"

/* ---- What is refused ------------------------------------------------------------ */

static struct {
  store a, b;
  double scratch[4096];
  float x[4096];
  unsigned char mask[64];
  float weights[64];
  double results[5][FEATURES];
} m, before;

static batch_args good_batch(void) {
  memset(&m, 0, sizeof m);
  memset(m.mask, 1, sizeof m.mask);
  const state s = state_of(&m.a, 4);
  fastnorm_running_moments_init(&s);
  for (int i = 0; i < 64; i++) {
    m.weights[i] = 1;
  }
  return (batch_args){.size = sizeof(batch_args),
                      .x = m.x,
                      .batch = 5,
                      .channels = 4,
                      .spatial = 3,
                      .scratch = m.scratch,
                      .scratch_size = sizeof m.scratch};
}

static void check_update(const state *s, const batch_args *a, fastnorm_status wanted,
                         const char *what) {
  memcpy(&before, &m, sizeof m);
  const fastnorm_status got = fastnorm_running_moments_update(s, a);
  CHECK(got == wanted, "%s: status %d, not %d", what, (int)got, (int)wanted);
  memcpy(&before.scratch, &m.scratch, sizeof m.scratch); /* is the call's to write */
  CHECK(memcmp(&m, &before, sizeof m) == 0, "%s: memory was written", what);
}

#define REFUSED(status, change)                                                        \
  do {                                                                                 \
    batch_args a = good_batch();                                                       \
    state s = state_of(&m.a, 4);                                                       \
    change;                                                                            \
    check_update(&s, &a, FASTNORM_ERROR_##status, #change);                            \
  } while (0)

static void refusals(void) {
  const state fine = state_of(&m.a, 4);
  const batch_args some = good_batch();
  check_update(NULL, &some, FASTNORM_ERROR_ARGS, "no state");
  check_update(&fine, NULL, FASTNORM_ERROR_ARGS, "no batch");
  batch_args only = some;
  only.exec.check_only = 1;
  check_update(&fine, &only, FASTNORM_OK, "check only");
  REFUSED(ARGS, a.size = 8);
  REFUSED(ARGS, s.size = 8);
  REFUSED(DTYPE, a.dtype = (fastnorm_dtype)7);
  REFUSED(DTYPE, a.weights_dtype = FASTNORM_FLOAT16);
  REFUSED(NAN, a.nan = (fastnorm_nan_policy)3);
  REFUSED(NULL, a.x = NULL);
  REFUSED(NULL, a.scratch = NULL);
  REFUSED(NULL, s.count = NULL);
  REFUSED(NULL, s.m2_low = NULL);
  REFUSED(SCRATCH, a.scratch_size = fastnorm_running_moments_scratch(&a) - 8);
  REFUSED(THREADS, a.exec.num_threads = -1);
  REFUSED(SHAPE, a.channels = 5);
  REFUSED(SHAPE, s.features = 3);
  REFUSED(SHAPE, a.batch = SIZE_MAX / 4);
  REFUSED(SHAPE, a.x_stride = PTRDIFF_MAX / 2);
  REFUSED(STRIDE, (a.spatial = 1, a.x_channel_stride = 2));
  REFUSED(ALIGNMENT, a.x = (char *)m.x + 1);
  REFUSED(ALIGNMENT, a.scratch = (char *)m.scratch + 4);
  REFUSED(ALIGNMENT, (a.weights = (char *)m.weights + 2, a.weights_stride = 1));
  REFUSED(OVERLAP, a.x = m.a.rows[3]);
  REFUSED(OVERLAP, a.mask = (unsigned char *)(void *)m.a.count);
  REFUSED(OVERLAP, a.scratch = m.x);
  REFUSED(OVERLAP, s.m2 = s.mean);
  REFUSED(NAN, (a.nan = FASTNORM_NAN_ERROR, m.x[59] = (float)NAN));
  REFUSED(WEIGHT, (a.weights = m.weights, m.weights[0] = -1.0f));
  REFUSED(WEIGHT, (a.weights = m.weights, m.weights[0] = (float)NAN));
  REFUSED(WEIGHT, (a.weights = m.weights, m.weights[0] = (float)INFINITY));
  REFUSED(SHAPE, m.a.count[3] = INT64_MAX - 14);
  for (int i = FASTNORM_ERROR_NAN; i <= FASTNORM_ERROR_SCRATCH; i++) {
    CHECK(strcmp(fastnorm_strerror((fastnorm_status)i), "unknown status") != 0,
          "status %d has no text", i);
  }
}

static void nothing_to_do(void) {
  batch_args a = good_batch();
  const state s = state_of(&m.a, 4);
  a.batch = 0;
  a.x = a.scratch = NULL;
  CHECK(fastnorm_running_moments_scratch(&a) == 0, "scratch for nothing");
  check_update(&s, &a, FASTNORM_OK, "no samples");
  a = good_batch();
  a.spatial = 0;
  check_update(&s, &a, FASTNORM_OK, "no positions");
  const state none = {.size = sizeof(state)};
  CHECK(fastnorm_running_moments_init(&none) == FASTNORM_OK, "no features");
  CHECK(fastnorm_running_moments_merge(&none, &none) == FASTNORM_OK, "no features");
}

static void merge_refusals(void) {
  const state a = state_of(&m.a, 4), b = state_of(&m.b, 4);
  state odd = b;
  good_batch();
  fastnorm_running_moments_init(&b);
  memcpy(&before, &m, sizeof m);
  CHECK(fastnorm_running_moments_merge(&a, NULL) == FASTNORM_ERROR_ARGS, "NULL");
  odd.features = 3;
  CHECK(fastnorm_running_moments_merge(&a, &odd) == FASTNORM_ERROR_SHAPE, "features");
  odd = b;
  odd.max = m.a.rows[6];
  CHECK(fastnorm_running_moments_merge(&a, &odd) == FASTNORM_ERROR_OVERLAP, "overlap");
  odd.max = NULL;
  CHECK(fastnorm_running_moments_merge(&a, &odd) == FASTNORM_ERROR_NULL, "no max");
  CHECK(memcmp(&m, &before, sizeof m) == 0, "memory was written");
  m.a.count[1] = INT64_MAX, m.b.count[1] = 1;
  memcpy(&before, &m, sizeof m);
  CHECK(fastnorm_running_moments_merge(&a, &b) == FASTNORM_ERROR_SHAPE, "counts");
  m.b.count[1] = -1;
  before.b.count[1] = -1;
  CHECK(fastnorm_running_moments_merge(&a, &b) == FASTNORM_ERROR_SHAPE, "negative");
  m.a.count[1] = -1, m.b.count[1] = 1;
  memcpy(&before, &m, sizeof m);
  CHECK(fastnorm_running_moments_merge(&a, &b) == FASTNORM_ERROR_SHAPE, "negative");
  CHECK(memcmp(&m, &before, sizeof m) == 0, "memory was written");
}

/* ---- Results -------------------------------------------------------------------- */

static void finish(void) {
  double x[150];
  rng random = {3};
  for (size_t i = 0; i < LENGTH(x); i++) {
    x[i] = 5.0 + rng_normal(&random);
  }
  const batch_args batch = {.size = sizeof batch,
                            .dtype = FASTNORM_FLOAT64,
                            .x = x,
                            .batch = 50,
                            .channels = 3,
                            .spatial = 1,
                            .scratch = m.scratch,
                            .scratch_size = sizeof m.scratch};
  const state st = state_of(&m.a, 3);
  fastnorm_running_moments_init(&st);
  CHECK(fastnorm_running_moments_update(&st, &batch) == FASTNORM_OK, "update");
  m.a.count[2] = 0;
  m.a.rows[0][2] = 0;
  fastnorm_running_results r = {.size = sizeof r,
                                .ddof = 1,
                                .mean = m.results[0],
                                .var = m.results[1],
                                .std = m.results[2],
                                .min = m.results[3],
                                .max = m.results[4]};
  CHECK(fastnorm_running_moments_finish(&st, &r) == FASTNORM_OK, "finish");
  for (size_t k = 0; k < 2; k++) {
    const double var = (m.a.rows[3][k] + m.a.rows[4][k]) / 49;
    CHECK(fabs(m.results[0][k] - m.a.rows[1][k]) <= 1e-12, "mean");
    CHECK(fabs(m.results[1][k] - var) <= 0, "var");
    CHECK(fabs(m.results[2][k] - sqrt(var)) <= 0, "std");
    CHECK(fabs(m.results[3][k] - m.a.rows[5][k]) <= 0, "min");
    CHECK(fabs(m.results[4][k] - m.a.rows[6][k]) <= 0, "max");
  }
  for (int i = 0; i < 5; i++) {
    CHECK(isnan(m.results[i][2]), "a result of no values");
  }
  r.ddof = 50;
  CHECK(fastnorm_running_moments_finish(&st, &r) == FASTNORM_OK, "finish");
  CHECK(isnan(m.results[1][0]) && isnan(m.results[2][0]), "no degrees of freedom");
  memcpy(&before, &m, sizeof m);
  r.ddof = -1;
  CHECK(fastnorm_running_moments_finish(&st, &r) == FASTNORM_ERROR_COUNT, "ddof");
  r.ddof = (double)NAN;
  CHECK(fastnorm_running_moments_finish(&st, &r) == FASTNORM_ERROR_COUNT, "ddof");
  r.ddof = 0;
  r.var = m.a.rows[0];
  CHECK(fastnorm_running_moments_finish(&st, &r) == FASTNORM_ERROR_OVERLAP, "overlap");
  r.size = 8;
  CHECK(fastnorm_running_moments_finish(&st, &r) == FASTNORM_ERROR_ARGS, "size");
  CHECK(memcmp(&m, &before, sizeof m) == 0, "memory was written");
}

/* Floats at an offset of a million: the sums are made in double. */
static void far_from_zero(void) {
  enum { N = 1 << 19 };
  float *x = new_bytes(N * sizeof *x);
  rng r = {5};
  long double sum = 0, sq = 0;
  for (size_t i = 0; i < N; i++) {
    x[i] = (float)(1e6 + rng_normal(&r));
    sum += (long double)x[i] - 1e6L;
    sq += ((long double)x[i] - 1e6L) * ((long double)x[i] - 1e6L);
  }
  const long double m2 = sq - sum * sum / N;
  for (int across = 0; across < 2; across++) {
    store got;
    const state s = state_of(&got, 1);
    batch_args a = {.size = sizeof a,
                    .x = x,
                    .batch = across ? N : 1,
                    .channels = 1,
                    .spatial = across ? 1 : N};
    a.scratch_size = fastnorm_running_moments_scratch(&a);
    a.scratch = new_bytes(a.scratch_size);
    fastnorm_running_moments_init(&s);
    CHECK(fastnorm_running_moments_update(&s, &a) == FASTNORM_OK, "update");
    CHECK(fabsl((long double)got.rows[3][0] - m2) <= 1e-14L * m2, "m2 %g, not %Lg",
          got.rows[3][0], m2);
    free(a.scratch);
  }
  free(x);
}

/* From the mean of one value far away, rounded to its own size, little would be left:
 * the mean is to move from that of the larger part, whichever that is. */
static void merge_goes_from_the_larger(void) {
  static double near[999999], far[1] = {1e24};
  static double scratch[1 << 12];
  for (size_t i = 0; i < LENGTH(near); i++) {
    near[i] = 1.0;
  }
  for (int swap = 0; swap < 2; swap++) {
    store got;
    const state s = state_of(&got, 1);
    fastnorm_running_moments_init(&s);
    for (int k = 0; k < 2; k++) {
      const int is_far = k != swap;
      batch_args a = {.size = sizeof a,
                      .x = is_far ? far : near,
                      .dtype = FASTNORM_FLOAT64,
                      .batch = 1,
                      .channels = 1,
                      .spatial = is_far ? 1 : LENGTH(near),
                      .scratch = scratch,
                      .scratch_size = sizeof scratch};
      CHECK(fastnorm_running_moments_update(&s, &a) == FASTNORM_OK, "update");
    }
    CHECK(fabs(got.rows[1][0] - (1e18 + 1.0)) <= 0x1p-50 * 1e18, "mean %.17g",
          got.rows[1][0]);
  }
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"refusals", refusals},
      {"nothing_to_do", nothing_to_do},
      {"merge_refusals", merge_refusals},
      {"finish", finish},
      {"far_from_zero", far_from_zero},
      {"merge_goes_from_the_larger", merge_goes_from_the_larger},
  };
  return RUN_TESTS(argc, argv, tests);
}
