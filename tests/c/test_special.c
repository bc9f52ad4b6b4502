/* test_special.c - constant rows, running statistics and merging, on hostile input.
 * SPDX-License-Identifier: MIT
 */
#include "oracle.h"

/* Groups of `length` values; the first two operations are the only ones without
 * channels apart from their groups. */
static job constant_shape(operation op, size_t length) {
  job j = {.op = op, .n0 = op == LAYER_NORM ? 3 : length, .n2 = 1};
  j.n1 = op == LAYER_NORM ? length : 3;
  if (is_sample_norm(op)) {
    const size_t per = !is_instance_norm(op) && length % 2 == 0 ? 2 : 1;
    set_samples(&j, 1, 3, per, length / per);
  }
  return j;
}

static void check_constant(const arrays *a, operation op, pattern p, size_t length,
                           unsigned variant) {
  const job shape = constant_shape(op, length);
  if (is_too_short(&shape)) {
    return;
  }
  job j = make_job(a, op, working_type((int)(variant / 8)), shape.n0, shape.n1,
                   shape.n2, variant % 8);
  j.groups = shape.groups;
  fill_x(&j, a->x, p, 1);
  const char *name;
  for (size_t k = 0; (name = fastnorm_isa_name(k)) != NULL; k++) {
    fastnorm_set_isa(name);
    run_job(&j);
    for (size_t e = 0; e < 3 * length; e++) {
      const size_t row = e / j.n2;
      const place at = {row / j.n1, row % j.n1, e % j.n2};
      const ptrdiff_t q = (ptrdiff_t)parameter_of(&j, at);
      const double want = j.bias != NULL ? get(j.bias, j.dtype, q) : 0.0;
      const double got = get(j.y, j.dtype, (ptrdiff_t)e);
      CHECK(got == want, "%s: element %zu is %g, not %g",
            describe(&j, pattern_names[p]), e, got, want);
    }
  }
  fastnorm_set_isa(NULL);
}

/* A constant group gives exactly the bias, or zero; one element likewise. */
static void constant_is_exactly_the_bias(void) {
  arrays a = new_arrays(3 * 5000);
  static const size_t lengths[] = {1, 2, 3, 15, 16, 17, 64, 100, 513, 5000};
  static const pattern constants[] = {CONSTANT, CONSTANT_HUGE, CONSTANT_SUBNORMAL,
                                      ZEROS};
  static const operation ops[] = {LAYER_NORM, BATCH_TRAINING, GROUP_NORM,
                                  GROUP_LAST, INSTANCE_NORM,  INSTANCE_LAST};
  for (size_t i = 0; i < LENGTH(lengths) * LENGTH(constants) * LENGTH(ops); i++) {
    const size_t length = lengths[i % LENGTH(lengths)];
    const size_t rest = i / LENGTH(lengths);
    for (unsigned variant = 0; variant < 16; variant++) {
      check_constant(&a, ops[rest / LENGTH(constants)],
                     constants[rest % LENGTH(constants)], length, variant);
    }
  }
  free_arrays(&a);
}

/* Rows of zeros have no direction: they stay zeros, and their norm is zero. */
static void zeros_stay_zeros(void) {
  arrays a = new_arrays(3 * 5000);
  static const size_t lengths[] = {1, 2, 3, 15, 16, 17, 64, 100, 513, 1666};
  static const operation ops[] = {L2_NORM, RMS_NORM, L1_NORM};
  for (size_t i = 0; i < LENGTH(lengths) * 8 * LENGTH(ops); i++) {
    const size_t length = lengths[i % LENGTH(lengths)];
    const size_t rest = i / LENGTH(lengths), inner = rest % 2 == 0 ? 1 : 3;
    const operation op = ops[rest / 8];
    job j = make_job(&a, op, working_type((int)(rest / 2 % 2)), 3 / inner, length,
                     inner, rest / 4 % 2 == 1 ? 4 : 0);
    const char *name;
    memset(a.x, 0, 3 * length * sizeof(double));
    for (size_t k = 0; (name = fastnorm_isa_name(k)) != NULL; k++) {
      fastnorm_set_isa(name);
      memset(a.y, 0xff, 3 * length * sizeof(double));
      memset(a.rstd, 0xff, 3 * sizeof(double));
      run_job(&j);
      for (ptrdiff_t e = 0; e < 3 * (ptrdiff_t)length; e++) {
        CHECK(get(j.y, j.dtype, e) == 0.0, "%s: element %td is %g",
              describe(&j, "zeros"), e, get(j.y, j.dtype, e));
      }
      for (ptrdiff_t r = 0; is_length(op) && r < 3; r++) {
        CHECK(get(j.rstd, j.dtype, r) == 0.0, "%s: the norm is %g",
              describe(&j, "zeros"), get(j.rstd, j.dtype, r));
      }
    }
  }
  fastnorm_set_isa(NULL);
  free_arrays(&a);
}

/* Mean and unbiased variance of channel c: of instance norm their means over the
 * batch. What may be wrong with the mean goes with the spread. */
typedef struct observation {
  long double mean, var, spread;
} observation;

static observation observe(const job *j, const group_truth *truths, size_t c) {
  const size_t instances = is_instance_norm(j->op) ? j->n0 : 1;
  const long double n = (long double)group_length(j);
  observation o = {0.0L, 0.0L, 0.0L};
  for (size_t i = 0; i < instances; i++) {
    const group_truth t = truths[i * parameter_count(j) + c];
    o.mean += (t.hi + t.lo) / (long double)instances;
    o.var += t.m2 / (n - 1.0L) / (long double)instances;
    o.spread += larger(sqrtl(t.var), fabsl(t.hi)) / (long double)instances;
  }
  return o;
}

/* running = (1 - f) * running + f * observed; cumulatively, f = 1 / (k + 1). */
static void check_running(job *j, const arrays *a, pattern p) {
  double before[2][5];
  for (ptrdiff_t c = 0; c < 5; c++) {
    before[0][c] = get(a->running_mean, j->dtype, c);
    before[1][c] = get(a->running_var, j->dtype, c);
  }
  group_truth *truths = find_truths(j);
  CHECK(run_job(j) == FASTNORM_OK, "%s", describe(j, pattern_names[p]));
  const long double f = j->momentum == FASTNORM_MOMENTUM_CUMULATIVE
                            ? 1.0L / (long double)(j->tracked + 1)
                        : j->momentum == 0.0 ? (long double)0.1
                                             : (long double)j->momentum;
  for (size_t c = 0; c < 5; c++) {
    const observation o = observe(j, truths, c);
    const long double observed[] = {o.mean, o.var}, size[] = {o.spread, o.var};
    void *const stored[] = {a->running_mean, a->running_var};
    for (int s = 0; s < 2; s++) {
      const long double old = (1.0L - f) * (long double)before[s][c];
      const long double exact = old + f * observed[s];
      const double got = get(stored[s], j->dtype, (ptrdiff_t)c);
      CHECK(is_close(got, exact, larger(fabsl(old), f * size[s]), j->dtype),
            "%s: momentum %g: running %s is %.17g, not %.21Lg",
            describe(j, pattern_names[p]), j->momentum, s ? "var" : "mean", got, exact);
    }
  }
  free(truths);
}

static void running_statistics(void) {
  static const double momenta[] = {0.0, 0.1, 0.7, 1.0, FASTNORM_MOMENTUM_CUMULATIVE};
  static const operation ops[] = {BATCH_TRAINING, BATCH_TRAINING, INSTANCE_NORM,
                                  INSTANCE_LAST};
  arrays a = new_arrays(40 * 5 * 7);
  for (int p = 0; p < PATTERNS; p++) {
    for (size_t i = 0; i < LENGTH(momenta) * 2 * LENGTH(ops); i++) {
      const fastnorm_dtype dtype = working_type((int)(i % 2));
      const operation op = ops[i / 2 % LENGTH(ops)];
      const size_t spatial = i / 2 % LENGTH(ops) == 0 ? 1 : 7;
      const int last = is_channels_last(op);
      job j = make_job(&a, op, dtype, 40, last ? spatial : 5, last ? 5 : spatial, 3);
      j.momentum = momenta[i / 2 / LENGTH(ops)];
      j.tracked = i;
      if (is_instance_norm(op) && j.momentum == FASTNORM_MOMENTUM_CUMULATIVE) {
        continue;
      }
      j.running_mean = a.running_mean;
      j.running_var = a.running_var;
      fill_x(&j, a.x, (pattern)p, i);
      fill_flat(a.running_mean, dtype, 5, 3.0, 1.0, 5);
      fill_flat(a.running_var, dtype, 5, 30.0, 1.0, 6);
      check_running(&j, &a, (pattern)p);
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

/* From the mean of one sample far away, rounded to its own size, little would be left:
 * the mean is to move from that of the larger set, whichever set that is. */
static void merge_goes_from_the_larger_set(void) {
  const double near = 1.0, far = 1e24, m2 = 0.0;
  const uint64_t most = 999999;
  const double wanted = near + (far - near) / 1e6;
  for (int swap = 0; swap < 2; swap++) {
    uint64_t count = swap ? 1 : most;
    double mean = swap ? far : near, sum = m2;
    const fastnorm_status status = fastnorm_moments_merge(
        1, &count, &mean, &sum, swap ? most : 1, swap ? &near : &far, &m2);
    CHECK(status == FASTNORM_OK && fabs(mean - wanted) <= 0x1p-50 * wanted,
          "%s: mean %.17g, not %.17g", swap ? "into one" : "one more", mean, wanted);
  }
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"constant_is_exactly_the_bias", constant_is_exactly_the_bias},
      {"zeros_stay_zeros", zeros_stay_zeros},
      {"running_statistics", running_statistics},
      {"merge_is_the_whole", merge_is_the_whole},
      {"merge_goes_from_the_larger_set", merge_goes_from_the_larger_set},
  };
  return RUN_TESTS(argc, argv, tests);
}
