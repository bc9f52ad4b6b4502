/* test_special.c - constant rows, running statistics and merging, on hostile input.
 * SPDX-License-Identifier: MIT
 */
#include "oracle.h"

/* A constant row gives exactly the bias, or zero; one element likewise. */
static void constant_is_exactly_the_bias(void) {
  arrays a = new_arrays(3 * 5000);
  static const size_t lengths[] = {1, 2, 3, 15, 16, 17, 64, 100, 513, 5000};
  static const pattern constants[] = {CONSTANT, CONSTANT_HUGE, CONSTANT_SUBNORMAL,
                                      ZEROS};
  for (size_t i = 0; i < LENGTH(lengths) * LENGTH(constants) * 32; i++) {
    const size_t length = lengths[i % LENGTH(lengths)];
    const size_t rest = i / LENGTH(lengths);
    const operation op = rest / 16 % 2 == 0 ? LAYER_NORM : BATCH_TRAINING;
    const pattern p = constants[rest / 32];
    if (op == BATCH_TRAINING && length == 1) {
      continue;
    }
    const unsigned variant = (unsigned)(rest / 2 % 8);
    job j =
        make_job(&a, op, working_type((int)(rest % 2)), op == LAYER_NORM ? 3 : length,
                 op == LAYER_NORM ? length : 3, 1, variant);
    fill_x(&j, a.x, p, 1);
    const char *name;
    for (size_t k = 0; (name = fastnorm_isa_name(k)) != NULL; k++) {
      fastnorm_set_isa(name);
      run_job(&j);
      for (size_t e = 0; e < 3 * length; e++) {
        const ptrdiff_t q = (ptrdiff_t)(e % j.n1);
        const double want = j.bias != NULL ? get(j.bias, j.dtype, q) : 0.0;
        const double got = get(j.y, j.dtype, (ptrdiff_t)e);
        CHECK(got == want, "%s: element %zu is %g, not %g",
              describe(&j, pattern_names[p]), e, got, want);
      }
    }
  }
  fastnorm_set_isa(NULL);
  free_arrays(&a);
}

/* running = (1 - f) * running + f * observed, the variance unbiased; cumulatively,
 * f = 1 / (k + 1). */
static void running_statistics(void) {
  static const double momenta[] = {0.0, 0.1, 0.7, 1.0, FASTNORM_MOMENTUM_CUMULATIVE};
  arrays a = new_arrays(40 * 5 * 7);
  for (int p = 0; p < PATTERNS; p++) {
    for (size_t i = 0; i < LENGTH(momenta) * 2 * 2; i++) {
      const fastnorm_dtype dtype = working_type((int)(i % 2));
      job j = make_job(&a, BATCH_TRAINING, dtype, 40, 5, i / 2 % 2 == 0 ? 1 : 7, 3);
      j.momentum = momenta[i / 4];
      j.tracked = i;
      j.running_mean = a.running_mean;
      j.running_var = a.running_var;
      fill_x(&j, a.x, (pattern)p, i);
      fill_flat(a.running_mean, dtype, 5, 3.0, 1.0, 5);
      fill_flat(a.running_var, dtype, 5, 30.0, 1.0, 6);
      double before[2][5];
      for (ptrdiff_t c = 0; c < 5; c++) {
        before[0][c] = get(a.running_mean, dtype, c);
        before[1][c] = get(a.running_var, dtype, c);
      }
      group_truth *truths = find_truths(&j);
      CHECK(run_job(&j) == FASTNORM_OK, "%s", describe(&j, pattern_names[p]));
      const long double f = j.momentum == FASTNORM_MOMENTUM_CUMULATIVE
                                ? 1.0L / (long double)(i + 1)
                            : j.momentum == 0.0 ? (long double)0.1
                                                : (long double)j.momentum;
      const size_t n = group_length(&j);
      for (size_t c = 0; c < 5; c++) {
        const long double observed[] = {truths[c].hi + truths[c].lo,
                                        truths[c].m2 / (long double)(n - 1)};
        void *const stored[] = {a.running_mean, a.running_var};
        const long double spread[] = {sqrtl(truths[c].var), 0.0L};
        for (int s = 0; s < 2; s++) {
          const long double old = (1.0L - f) * (long double)before[s][c];
          const long double exact = old + f * observed[s];
          const long double scale =
              larger(fabsl(old), f * larger(fabsl(observed[s]), spread[s]));
          const double got = get(stored[s], dtype, (ptrdiff_t)c);
          CHECK(is_close(got, exact, scale, dtype),
                "%s: momentum %g: running %s is %.17g, not %.21Lg",
                describe(&j, pattern_names[p]), j.momentum, s ? "var" : "mean", got,
                exact);
        }
      }
      free(truths);
    }
  }
  free_arrays(&a);
}

/* The parts' means come as doubles: half a unit in the last place of a mean is an error
 * of std * |mean| * 2^-52 per sample in the merged m2, whatever the merge does. */
static void check_merged(group_truth t, double mean, double m2, const char *what) {
  const long double std = sqrtl(t.var);
  const long double mean_error = fabsl((long double)mean - t.hi - t.lo);
  CHECK(mean_error <= 1e-15L * std + 0x1p-51L * fabsl(t.hi) + 0x1p-1074L,
        "%s: merged mean %.17g, not %.21Lg", what, mean, t.hi);
  const long double slack = 300.0L * std * fabsl(t.hi) * 0x1p-52L;
  CHECK(t.m2 > (long double)DBL_MAX
            ? isinf(m2)
            : fabsl((long double)m2 - t.m2) <= 3e-15L * t.m2 + slack + 0x1p-1074L,
        "%s: merged m2 %.17g, not %.21Lg", what, m2, t.m2);
}

/* Chan's merge of any split is the whole. */
static void merge_is_the_whole(void) {
  arrays a = new_arrays(300 * 5);
  for (int p = 0; p < PATTERNS; p++) {
    for (size_t cut = 0; cut <= 300; cut += p % 2 == 0 ? 50 : 30) {
      job j = make_job(&a, MOMENTS, FASTNORM_FLOAT64, 300, 5, 1, 0);
      fill_x(&j, a.x, (pattern)p, 9);
      group_truth *truths = find_truths(&j);
      double mean[2][5];
      double m2[2][5];
      job part = j;
      part.n0 = cut;
      part.mean = mean[0];
      part.rstd = m2[0];
      memset(mean, 0xff, sizeof mean);
      memset(m2, 0xff, sizeof m2);
      run_job(&part);
      part.n0 = 300 - cut;
      part.x = (const double *)a.x + cut * 5;
      part.mean = mean[1];
      part.rstd = m2[1];
      run_job(&part);
      uint64_t count = cut;
      const fastnorm_status status =
          fastnorm_moments_merge(5, &count, mean[0], m2[0], 300 - cut, mean[1], m2[1]);
      CHECK(status == FASTNORM_OK && count == 300, "merge at %zu: %s", cut,
            fastnorm_strerror(status));
      for (size_t c = 0; c < 5; c++) {
        check_merged(truths[c], mean[0][c], m2[0][c], pattern_names[p]);
      }
      free(truths);
    }
  }
  free_arrays(&a);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"constant_is_exactly_the_bias", constant_is_exactly_the_bias},
      {"running_statistics", running_statistics},
      {"merge_is_the_whole", merge_is_the_whole},
  };
  return RUN_TESTS(argc, argv, tests);
}
