/* test_renorm.c - batch renormalization: r and d, their limits, and batch norm in them.
 * SPDX-License-Identifier: MIT
 */
#include "oracle.h"

enum { CHANNELS = 37, CAPACITY = 37 * 900 };

static const double limits[][2] = {{0.0, 0.0},   {1.0, -1.0},
                                   {1.0, 5.0},   {3.0, FASTNORM_D_MAX_ZERO},
                                   {1.01, 0.01}, {(double)INFINITY, (double)INFINITY}};

/* A table, and channels apart. */
static job make_renorm(const arrays *a, fastnorm_dtype dtype, int table, pattern p,
                       const double *limit) {
  job j = make_job(a, BATCH_RENORM, dtype, table ? 900 : 3, CHANNELS, table ? 1 : 300,
                   p % 4);
  fill_x(&j, a->x, p, 5);
  j.running_mean = a->running_mean;
  j.running_var = a->running_var;
  j.r_max = limit[0];
  j.d_max = limit[1];
  return j;
}

/* Stored statistics of the size of the channel's own; far from them in some. */
static void store(const job *j) {
  job own = *j;
  own.op = BATCH_TRAINING;
  for (size_t c = 0; c < CHANNELS; c++) {
    const group_truth t = find_truth(&own, c);
    const long double most = largest_of(j->dtype);
    const long double var = t.var * (c % 3 == 0 ? 0.01L : c % 3 == 1 ? 1.1L : 50.0L);
    const long double mean = t.hi + sqrtl(t.var) * ((long double)(c % 5) - 2.0L);
    put(j->running_mean, j->dtype, (ptrdiff_t)c, (double)limited(mean, -most, most));
    put(j->running_var, j->dtype, (ptrdiff_t)c, (double)limited(var, 0.0L, most));
  }
}

/* Where nothing may be written beside them, and nothing is left unwritten. */
static void check_corrections(job *j, pattern p) {
  static unsigned char r[(CHANNELS + 2) * 8], d[(CHANNELS + 2) * 8];
  const size_t size = element_size(j->dtype);
  store(j);
  group_truth *truths = find_truths(j);
  memset(r, 0x5a, sizeof r);
  memset(d, 0x5a, sizeof d);
  j->r = r + size;
  j->d = d + size;
  CHECK(run_job(j) == FASTNORM_OK, "%s", describe(j, pattern_names[p]));
  for (size_t c = 0; c < CHANNELS; c++) {
    const group_truth t = truths[c];
    const double got_r = get(j->r, j->dtype, (ptrdiff_t)c);
    const double got_d = get(j->d, j->dtype, (ptrdiff_t)c);
    CHECK(is_close(got_r, t.r, t.r, j->dtype), "%s: r %zu is %.17g, not %.21Lg",
          describe(j, pattern_names[p]), c, got_r, t.r);
    CHECK(got_d != 0.0 || !signbit(got_d), "%s: d %zu is -0",
          describe(j, pattern_names[p]), c);
    CHECK(is_close(got_d, t.d, larger(fabsl(t.d), t.ratio), j->dtype),
          "%s: d %zu is %.17g, not %.21Lg", describe(j, pattern_names[p]), c, got_d,
          t.d);
  }
  for (size_t i = 0; i < size; i++) {
    const size_t after = (CHANNELS + 1) * size + i;
    CHECK(r[i] == 0x5a && d[i] == 0x5a && r[after] == 0x5a && d[after] == 0x5a,
          "%s: written beside r or d", describe(j, pattern_names[p]));
  }
  free(truths);
}

static void corrections(void) {
  arrays a = new_arrays(CAPACITY);
  const char *name;
  for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
    fastnorm_set_isa(name);
    for (int p = 0; p < PATTERNS; p++) {
      for (size_t k = (size_t)p % AT_LEVEL(1, 1, 7); k < 4 * LENGTH(limits);
           k += AT_LEVEL(1, 1, 7)) {
        job j = make_renorm(&a, working_type((int)(k % 2)), k / 2 % 2 == 0, (pattern)p,
                            limits[k / 4]);
        check_corrections(&j, (pattern)p);
      }
    }
  }
  fastnorm_set_isa(NULL);
  free_arrays(&a);
}

/* r_max = 1 and d_max = 0 say nothing: the bits are those of batch norm. */
static void nothing_to_correct(void) {
  arrays a = new_arrays(CAPACITY);
  unsigned char *kept = new_bytes(4 * CAPACITY * sizeof(double));
  for (int p = 0; p < PATTERNS; p++) {
    for (int k = 0; k < 4; k++) {
      job j = make_renorm(&a, working_type(k % 2), k / 2, (pattern)p, limits[1]);
      void *const all[] = {a.y, a.mean, a.rstd, a.running_mean, a.running_var};
      const size_t y = CHANNELS * 900 * element_size(j.dtype);
      const size_t bytes[] = {y, CHANNELS * element_size(j.dtype)};
      size_t at = 0;
      store(&j);
      CHECK(run_job(&j) == FASTNORM_OK, "%s", describe(&j, "renorm"));
      for (size_t i = 0; i < LENGTH(all); i++) {
        memcpy(kept + at, all[i], bytes[i > 0]);
        at += bytes[i > 0];
      }
      store(&j);
      j.op = BATCH_TRAINING;
      CHECK(run_job(&j) == FASTNORM_OK, "%s", describe(&j, "batch norm"));
      at = 0;
      for (size_t i = 0; i < LENGTH(all); i++) {
        CHECK(memcmp(kept + at, all[i], bytes[i > 0]) == 0, "%s: output %zu differs",
              describe(&j, pattern_names[p]), i);
        at += bytes[i > 0];
      }
    }
  }
  free(kept);
  free_arrays(&a);
}

/* Inference corrects nothing, and changes no statistics. */
static void inference(void) {
  arrays a = new_arrays(CAPACITY);
  float r[CHANNELS], d[CHANNELS];
  job j = make_renorm(&a, FASTNORM_FLOAT32, 0, NORMAL, limits[0]);
  store(&j);
  j.r = r;
  j.d = d;
  fastnorm_batch_renorm_args args = batch_renorm_args(&j);
  args.training = 0;
  void *kept = new_bytes(CHANNELS * 300 * 3 * sizeof(float));
  CHECK(fastnorm_batch_renorm(&args) == FASTNORM_OK, "refused");
  memcpy(kept, a.y, CHANNELS * 300 * 3 * sizeof(float));
  for (int c = 0; c < CHANNELS; c++) {
    CHECK(r[c] == 1.0F && d[c] == 0.0F, "channel %d: r %g, d %g", c, (double)r[c],
          (double)d[c]);
  }
  j.op = BATCH_INFERENCE;
  CHECK(run_job(&j) == FASTNORM_OK, "refused");
  CHECK(memcmp(kept, a.y, CHANNELS * 300 * 3 * sizeof(float)) == 0, "not batch norm");
  free(kept);
  free_arrays(&a);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {{"corrections", corrections},
                                    {"nothing_to_correct", nothing_to_correct},
                                    {"inference", inference}};
  return RUN_TESTS(argc, argv, tests);
}
