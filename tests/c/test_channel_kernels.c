/* test_channel_kernels.c - the kernels between the sums of channels and their
 * gradients, on every ISA.
 * SPDX-License-Identifier: MIT
 *
 * Against the formulas of their header in double, to the bit: they are what channels
 * one by one go through, and a channel must not know which way it went. */
#include "elements.h"

enum { MOST = 64, BEHIND = 16 };
static const double COUNT = 37.0, ELEMENTS = 111.0;

static fastnorm_dtype dtype; /* of the test that runs */

typedef struct numbers {
  double weight[MOST], d[MOST], dt[MOST], x[MOST], rstd[MOST], first[MOST];
  double mean[MOST], mean_t[MOST], slope[MOST];
  double scale[MOST], shift[MOST]; /* of the type */
} numbers;

typedef struct results {
  double g[MOST], gt[MOST], t[MOST], grad_weight[MOST], grad_bias[MOST];
  double new_shift[MOST], offset[MOST], a[MOST], b[MOST], c[MOST]; /* of the type */
} results;

static fn_channel_limits limits_here(void) {
  return dtype == FASTNORM_FLOAT32
             ? (fn_channel_limits){0x1p-100, 0x1p100, 0x1p120, 0x1p60, 0x1p100, FLT_MIN}
             : (fn_channel_limits){0x1p-900, 0x1p900,  0x1p1000,
                                   0x1p420,  0x1p1000, DBL_MIN};
}

static numbers new_numbers(size_t n) {
  rng r = {n * 31 + 7};
  numbers s;
  for (size_t i = 0; i < MOST; i++) {
    double *all[] = {&s.weight[i], &s.d[i],    &s.dt[i],     &s.x[i],
                     &s.first[i],  &s.mean[i], &s.mean_t[i], &s.slope[i]};
    for (size_t k = 0; k < LENGTH(all); k++)
      *all[k] = i < n ? rng_normal(&r) : 1.0;
    s.rstd[i] = i < n ? 0.5 + fabs(rng_normal(&r)) : 1.0;
    put(s.scale, dtype, (ptrdiff_t)i, s.rstd[i]);
    put(s.shift, dtype, (ptrdiff_t)i, i < n ? rng_normal(&r) : 0.0);
  }
  return s;
}

static fn_channel_lanes lanes_of(const numbers *s, const fn_channel_limits *limits,
                                 bool exact, results *to) {
  return (fn_channel_lanes){.count = COUNT,
                            .root = sqrt(ELEMENTS),
                            .limits = limits,
                            .weight = s->weight,
                            .d = s->d,
                            .dt = s->dt,
                            .x = s->x,
                            .rstd = exact ? NULL : s->rstd,
                            .scale = s->scale,
                            .shift = s->shift,
                            .first = s->first,
                            .g = to->g,
                            .gt = to->gt,
                            .t = to->t,
                            .mean = s->mean,
                            .mean_t = s->mean_t,
                            .slope = s->slope,
                            .new_shift = to->new_shift,
                            .offset = to->offset,
                            .a = to->a,
                            .b = to->b,
                            .c = to->c,
                            .grad_weight = to->grad_weight,
                            .grad_bias = to->grad_bias};
}

static void same(const char *what, size_t n, size_t i, double got, double wanted) {
  CHECK(memcmp(&got, &wanted, sizeof got) == 0,
        "%s of %zu channels of %s on %s: %zu is %a, not %a", what, n, dtype_name(dtype),
        fastnorm_isa(), i, got, wanted);
}

static void check_channel(const numbers *s, const results *to, bool exact, size_t n,
                          size_t i) {
  const ptrdiff_t at = (ptrdiff_t)i;
  const double scale = get(s->scale, dtype, at), shift = get(s->shift, dtype, at);
  const double rstd = exact ? scale : s->rstd[i], ratio = exact ? 1.0 : rstd / scale;
  const double w = s->weight[i], t = s->x[i] * scale, m = s->mean_t[i];
  const double more = w * shift - s->first[i];
  same("g", n, i, to->g[i], more * COUNT + w * s->d[i]);
  same("gt", n, i, to->gt[i], more * t + w * s->dt[i]);
  same("t", n, i, to->t[i], t);
  const double rest = more - s->mean[i], near = rounded(dtype, shift - rest / w);
  same("weight", n, i, to->grad_weight[i],
       ratio * ((s->dt[i] - m * s->d[i]) + shift * (t - COUNT * m)));
  same("bias", n, i, to->grad_bias[i], COUNT * shift + s->d[i]);
  same("shift", n, i, get(to->new_shift, dtype, at), near);
  same("offset", n, i, get(to->offset, dtype, at), rounded(dtype, -m));
  same("a", n, i, get(to->a, dtype, at), rounded(dtype, w * rstd));
  same("b", n, i, get(to->b, dtype, at),
       rounded(dtype, -rstd * ratio * ratio * s->slope[i]));
  same("c", n, i, get(to->c, dtype, at),
       rounded(dtype, rstd * (rest + w * (near - shift))));
}

static void formulas_here(void) {
  for (int type = 0; type < 2; type++) {
    dtype = working_type(type);
    const fn_channel_limits limits = limits_here();
    for (size_t n = 1; n <= MOST - BEHIND; n++)
      for (int exact = 0; exact < 2; exact++) {
        const numbers s = new_numbers(n);
        results to;
        const fn_channel_lanes c = lanes_of(&s, &limits, exact, &to);
        CHECK(kernels_of(dtype)->channel_terms(n, &c), "terms of %zu channels", n);
        CHECK(kernels_of(dtype)->channel_factors(n, &c), "factors of %zu channels", n);
        for (size_t i = 0; i < n; i++)
          check_channel(&s, &to, exact, n, i);
      }
  }
}

/* One number of one channel is out of range: whether the two kernels say so. */
static void check_refused(const char *what, const numbers *s, size_t n, size_t i,
                          bool terms) {
  const fn_channel_limits limits = limits_here();
  results to;
  const fn_channel_lanes c = lanes_of(s, &limits, false, &to);
  const bool good = kernels_of(dtype)->channel_terms(n, &c);
  CHECK(good != terms, "%s of channel %zu of %zu of %s on %s: terms %s", what, i, n,
        dtype_name(dtype), fastnorm_isa(), good ? "taken" : "refused");
  if (!terms)
    CHECK(!kernels_of(dtype)->channel_factors(n, &c),
          "%s of channel %zu of %zu of %s on %s: factors taken", what, i, n,
          dtype_name(dtype), fastnorm_isa());
}

static void refusals_here(void) {
  const size_t n = 40;
  for (int type = 0; type < 2; type++) {
    dtype = working_type(type);
    const fn_channel_limits most = limits_here();
    for (size_t i = 0; i < n; i += 3) {
      numbers s;
#define REFUSED(what, terms, change)                                                   \
  s = new_numbers(n);                                                                  \
  change;                                                                              \
  check_refused(what, &s, n, i, terms)
      REFUSED("rstd of 0", true, s.rstd[i] = 0.0);
      REFUSED("tiny rstd", true, s.rstd[i] = most.least / 2.0);
      REFUSED("huge rstd", true, s.rstd[i] = most.scale * 2.0);
      REFUSED("NaN of rstd", true, s.rstd[i] = NAN);
      REFUSED("huge sum of d", true, s.d[i] = -2.0 * most.sum);
      REFUSED("huge sum of d * t", true, s.dt[i] = 2.0 * most.sum);
      REFUSED("NaN of a sum", true, s.dt[i] = NAN);
      REFUSED("huge shift", true, put(s.shift, dtype, (ptrdiff_t)i, 2.0 * most.scale));
      REFUSED("huge x", true, s.x[i] = 16.0 * COUNT * most.t);
      REFUSED("sums of 0", true, s.d[i] = s.dt[i] = 0.0);
      REFUSED("small sums", true, s.d[i] = s.dt[i] = 0.5 * COUNT * most.least);
      REFUSED("weight of 0", false, s.weight[i] = 0.0);
      REFUSED("tiny weight", false, s.weight[i] = most.normal / 1024.0);
      REFUSED("huge mean", false, s.mean[i] = INFINITY);
      REFUSED("huge slope", false, s.slope[i] = -INFINITY);
      REFUSED("NaN of slope", false, s.slope[i] = NAN);
#undef REFUSED
    }
  }
}

static void formulas(void) {
  each_isa(formulas_here);
}

static void refusals(void) {
  each_isa(refusals_here);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {{"formulas", formulas}, {"refusals", refusals}};
  return RUN_TESTS(argc, argv, tests);
}
