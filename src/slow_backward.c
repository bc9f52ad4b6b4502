/* slow_backward.c - gradients of runs whose numbers leave the range of plain
 * arithmetic, in scaled double.
 * SPDX-License-Identifier: MIT
 *
 * Products of g and weight are scaled by a power of two to about 1, as x is by fn_slow;
 * so nothing but the result itself can leave the range of double. */
#include <float.h>
#include <math.h>

#include "rows_backward.h"
#include "sum.h"

static size_t length(const fn_slow_run *run) {
  return run->x.segs * run->x.len;
}

/* Element i of a run, as a double. */
static double element(const fn_slow_run *run, const fn_runs *of, size_t i) {
  const ptrdiff_t at = of->segs == 1 ? (ptrdiff_t)i : (ptrdiff_t)i * of->seg_stride;
  double room;
  if (!of->source)
    return fn_get(run->dtype, fn_element(run->dtype, of->x, at), 0);
  const void *x = (const char *)of->x + at * (ptrdiff_t)of->source->element;
  run->kernels->gather(&of->source->gather, x, 1, &room);
  return fn_get(run->dtype, &room, 0);
}

static double weight_of(const fn_slow_run *run, size_t i) {
  double room;
  const void *p = fn_vector_read(run->kernels, run->dtype, &run->weight, i, 1, &room);
  return p ? fn_get(run->dtype, p, 0) : 1.0;
}

static bool is_finite(double x) {
  return fabs(x) <= DBL_MAX;
}

/* g * weight of element i as a number of about 1, and its exponent. */
static double product(const fn_slow_run *run, size_t i, int *exponent) {
  int e = 0, f = 0;
  double g = element(run, &run->g, i), w = weight_of(run, i);
  if (is_finite(g)) /* else frexp leaves the exponent open */
    g = frexp(g, &e);
  if (is_finite(w))
    w = frexp(w, &f);
  *exponent = e + f;
  return g * w;
}

static double difference(const fn_slow_run *run, const fn_slow_gradient *s, size_t i) {
  int e;
  const double p = product(run, i, &e);
  return ldexp(p, e - s->exponent) - s->first;
}

static double normalised(const fn_slow_run *run, const fn_slow_gradient *s, size_t i) {
  const double x = element(run, &run->x, i);
  const int half = -s->s.exponent / 2; /* in two steps: neither leaves the range */
  const double scaled = ldexp(ldexp(x, half), -s->s.exponent - half);
  const double from_mean = (scaled - s->s.hi) - s->s.lo;
  const int e = s->s.rstd_exponent; /* up before the product: it may be subnormal */
  return e > 0 ? ldexp(from_mean, e) * s->s.rstd : ldexp(from_mean * s->s.rstd, e);
}

static void given(double mean, double rstd, fn_slow *s) {
  int e = 0;
  fn_slow_given(mean, 0.0, 0.0, 0.0, s); /* scaled so that x - mean has a value */
  s->rstd = is_finite(rstd) ? frexp(rstd, &e) : rstd;
  s->rstd_exponent = e + s->exponent;
}

void fn_slow_gradient_statistics(const fn_slow_run *run, fn_rows_norm norm, double eps,
                                 const void *mean, const void *rstd, size_t i,
                                 fn_slow *s, double *slope) {
  const double n = (double)length(run);
  *slope = 1.0 / n;
  if (rstd) {
    given(mean ? fn_get(run->dtype, mean, i) : 0.0, fn_get(run->dtype, rstd, i), s);
  } else if (norm == FN_SUM_OF_SQUARES) {
    fn_slow_stats(run->dtype, &run->x, 0.0, false, s);
    *slope = fn_slow_lp(s, n, eps) < eps ? 0.0 : 1.0;
  } else {
    fn_slow_stats(run->dtype, &run->x, eps, norm == FN_CENTERED, s);
  }
}

void fn_slow_gradient_find(const fn_slow_run *run, bool centered, double slope,
                           fn_slow_gradient *s) {
  const size_t n = length(run);
  fn_sum sum_d = {0.0, 0.0}, sum_dt = {0.0, 0.0}, sum_t = {0.0, 0.0};
  bool any = false;
  s->exponent = 0;
  s->first = s->mean_d = s->mean_t = 0.0;
  for (size_t i = 0; i < n; i++) {
    int e;
    const double p = product(run, i, &e);
    if (is_finite(p) && (p < 0.0 || p > 0.0) && (!any || e > s->exponent))
      s->exponent = e, any = true;
  }
  if (centered)
    s->first = difference(run, s, 0);
  for (size_t i = 0; i < n; i++) {
    const double d = difference(run, s, i), t = normalised(run, s, i);
    fn_sum_add(&sum_d, d);
    fn_sum_add(&sum_dt, d * t);
    fn_sum_add(&sum_t, t);
  }
  if (centered) {
    s->mean_d = fn_sum_value(&sum_d) / (double)n;
    s->mean_t = fn_sum_value(&sum_t) / (double)n;
  }
  s->slope = slope * fma(-fn_sum_value(&sum_d), s->mean_t, fn_sum_value(&sum_dt));
}

void fn_slow_gradient_apply(const fn_slow_run *run, const fn_slow_gradient *s) {
  const size_t n = length(run);
  const int e = s->s.rstd_exponent - s->s.exponent + s->exponent;
  for (size_t i = 0; i < n; i++) {
    const double d = difference(run, s, i) - s->mean_d;
    const double t = normalised(run, s, i) - s->mean_t;
    const double v = ldexp((d - t * s->slope) * s->s.rstd, e);
    const ptrdiff_t at = (ptrdiff_t)i * run->y_step;
    double room;
    if (!run->sink) {
      fn_set(run->dtype, fn_element(run->dtype, run->y, at), 0, v);
      continue;
    }
    fn_set(run->dtype, &room, 0, v);
    run->kernels->scatter(&run->sink->scatter, &room, 1,
                          (char *)run->y + at * (ptrdiff_t)run->sink->element, false);
  }
}

void fn_slow_gradient_sum(const fn_slow_run *run, const fn_slow_gradient *s, size_t i,
                          double *sum_g, double *sum_gt) {
  const double g = element(run, &run->g, i);
  if (sum_g)
    *sum_g += g;
  *sum_gt += g * (normalised(run, s, i) - s->mean_t);
}
