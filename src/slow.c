/* slow.c - the rows whose numbers leave the range of plain arithmetic, in scaled
 * double.
 * SPDX-License-Identifier: MIT
 *
 * Scaling by a power of two is exact, so a row near the ends of the range of the dtype
 * is moved to the middle of the range of double, and there a corrected two-pass with
 * compensated sums does the rest. */
#include "slow.h"

#include <float.h>
#include <math.h>

#include "masked.h"
#include "runs.h"
#include "scale.h"
#include "sum.h"

/* x * 2^exponent, in two steps so that neither factor leaves the range. */
typedef struct factor {
  double first, second;
} factor;

static factor power(int exponent) {
  const int half = exponent / 2;
  return (factor){ldexp(1.0, half), ldexp(1.0, exponent - half)};
}

static const void *segment(fastnorm_dtype dtype, const void *x, ptrdiff_t stride,
                           size_t seg) {
  const ptrdiff_t element = dtype == FASTNORM_FLOAT32 ? 4 : 8;
  return (const char *)x + (ptrdiff_t)seg * stride * element;
}

/* n elements of a segment, from `from` on, in the working type. */
#define SPAN 256
typedef union span_room {
  float f32[SPAN];
  double f64[SPAN];
} span_room;

static const void *span(fastnorm_dtype dtype, const fn_runs *g, size_t seg, size_t from,
                        size_t n, span_room *room) {
  const ptrdiff_t i = (ptrdiff_t)seg * g->seg_stride + (ptrdiff_t)from;
  if (!g->source)
    return fn_element(dtype, g->x, i);
  fn_runs part = *g;
  part.x = (const char *)g->x + i * (ptrdiff_t)g->source->element;
  part.at += from;
  part.rows = part.segs = 1;
  part.len = n;
  fn_gather_runs(dtype, &part, false, room);
  return room;
}

/* One walk over the run, for the three questions below. */
typedef struct walk {
  double largest;  /* of the finite magnitudes */
  double first;    /* element */
  double infinite; /* the sum of those that are not finite */
  bool finite;     /* all of them */
  bool constant;   /* all equal to the first */
  fn_sum sum, sq;  /* of X - origin, scaled; sq: or of its magnitudes */
} walk;

static void survey(fastnorm_dtype dtype, const fn_runs *g, walk *w) {
  span_room room;
  *w = (walk){.largest = 0.0, .finite = true, .constant = true};
  w->first = fn_get(dtype, span(dtype, g, 0, 0, 1, &room), 0);
  for (size_t seg = 0; seg < g->segs; seg++)
    for (size_t from = 0; from < g->len; from += SPAN) {
      const size_t n = g->len - from < SPAN ? g->len - from : SPAN;
      const void *p = span(dtype, g, seg, from, n, &room);
      for (size_t i = 0; i < n; i++) {
        const double x = fn_get(dtype, p, i), size = fabs(x);
        w->constant &= x >= w->first && x <= w->first;
        if (!(size <= DBL_MAX)) {
          w->finite = false;
          w->infinite += x;
        } else if (size > w->largest)
          w->largest = size;
      }
    }
}

static void deviations(fastnorm_dtype dtype, const fn_runs *g, factor f, double origin,
                       walk *w) {
  span_room room;
  w->sum = w->sq = (fn_sum){0.0, 0.0};
  for (size_t seg = 0; seg < g->segs; seg++)
    for (size_t from = 0; from < g->len; from += SPAN) {
      const size_t n = g->len - from < SPAN ? g->len - from : SPAN;
      const void *p = span(dtype, g, seg, from, n, &room);
      for (size_t i = 0; i < n; i++) {
        const double d = fn_get(dtype, p, i) * f.first * f.second - origin;
        fn_sum_add(&w->sum, d);
        fn_sum_add(&w->sq, g->magnitudes ? fabs(d) : d * d);
      }
    }
}

static int exponent_of(double x) {
  int e = 0;
  if (x > 0.0)
    frexp(x, &e);
  return e;
}

/* 1 / divisor, on the scale of x; none if that is 0. */
static void set_reciprocal(fn_slow *s, double divisor) {
  int e;
  const double m = frexp(divisor, &e);
  s->rstd = m > 0.0 ? 1.0 / m : 0.0;
  s->rstd_exponent = m > 0.0 ? s->exponent - e : 0;
}

/* eps on the scale of X squared, and the reciprocal root as a number and its exponent.
 * */
void fn_slow_finish(fn_slow *s, double eps) {
  int e;
  if (s->var <= 0.0 && s->var >= 0.0) { /* eps alone, which scaled might be 0 or Inf */
    set_reciprocal(s, sqrt(eps));
    return;
  }
  const double t = s->var + ldexp(eps, -2 * s->exponent);
  double m = frexp(t, &e);
  if (!(t <= DBL_MAX))
    e = 0; /* frexp leaves it open for NaN and Inf */
  if (e % 2 != 0)
    m *= 2.0, e -= 1;
  s->rstd = fn_reciprocal_root(m);
  s->rstd_exponent = s->rstd > 0.0 ? -e / 2 : 0;
}

/* NaN and Inf have no scale; plain formulas carry them through the run. */
int fn_slow_exponent(double largest, bool finite, double eps) {
  const int e = exponent_of(largest), least = eps > 0.0 ? exponent_of(eps) / 2 : e;
  return !finite ? 0 : least > e ? least : e;
}

void fn_slow_stats(fastnorm_dtype dtype, const fn_runs *g, double eps, bool centered,
                   fn_slow *s) {
  walk w;
  const double n = (double)g->segs * (double)g->len;
  if (fn_runs_are_weighted(g)) {
    fn_weighted_slow(dtype, g, eps, s);
    return;
  }
  survey(dtype, g, &w);
  s->exponent = fn_slow_exponent(w.largest, w.finite, eps);
  const factor f = power(-s->exponent);
  s->hi = s->lo = s->var = 0.0;
  if (centered && w.constant) {
    s->hi = w.first * f.first * f.second;
    s->var = w.first - w.first; /* 0, but NaN where all are Inf */
  } else if (centered && !w.finite) {
    s->hi = w.infinite; /* Inf, or NaN where both signs are there */
    s->var = (double)NAN;
  } else if (centered) {
    deviations(dtype, g, f, 0.0, &w);
    s->hi = fn_sum_value(&w.sum) / n;
    deviations(dtype, g, f, s->hi, &w);
    const double sum = fn_sum_value(&w.sum);
    s->lo = sum / n;
    s->var = fma(-sum, s->lo, fn_sum_value(&w.sq)) / n;
    if (s->var < 0.0)
      s->var = 0.0;
  } else {
    deviations(dtype, g, f, 0.0, &w);
    const double sum = fn_sum_value(&w.sq);
    s->var = (g->magnitudes ? sum * sum : sum) / n;
  }
  fn_slow_finish(s, eps);
}

void fn_slow_given(double mean, double lo, double var, double eps, fn_slow *s) {
  int e = exponent_of(fabs(mean));
  if (!(fabs(mean) <= DBL_MAX))
    e = 0;
  /* X = x / 4 keeps x - mean of two huge numbers within range. */
  *s = (fn_slow){.exponent = e > 1000 ? 2 : 0, .var = var};
  const factor f = power(-s->exponent);
  s->hi = mean * f.first * f.second;
  s->lo = lo * f.first * f.second;
  s->var = var * power(-2 * s->exponent).first * power(-2 * s->exponent).second;
  fn_slow_finish(s, eps);
}

void fn_slow_rescale(double var, double eps, fn_slow *s) {
  fn_slow other;
  fn_slow_given(0.0, 0.0, var, eps, &other);
  s->rstd = other.rstd;
  s->rstd_exponent = other.rstd_exponent - other.exponent + s->exponent;
}

double fn_slow_lp(fn_slow *s, double n, double eps) {
  const double norm_sq = s->var * n, norm = ldexp(sqrt(norm_sq), s->exponent);
  s->var = norm_sq;
  if (norm < eps)
    set_reciprocal(s, eps); /* whose square may be 0 or Inf */
  else
    fn_slow_finish(s, 0.0);
  return norm;
}

double fn_slow_mean(const fn_slow *s) {
  return ldexp(s->hi + s->lo, s->exponent);
}
double fn_slow_var(const fn_slow *s) {
  return ldexp(s->var, 2 * s->exponent);
}
double fn_slow_rstd(const fn_slow *s) {
  return ldexp(s->rstd, s->rstd_exponent - s->exponent);
}

void fn_slow_apply(fastnorm_dtype dtype, const fn_runs *g, void *y,
                   ptrdiff_t y_seg_stride, const fn_slow *s, const void *weight,
                   const void *bias, size_t step) {
  const factor f = power(-s->exponent);
  for (size_t seg = 0; seg < g->segs; seg++) {
    const void *p = segment(dtype, g->x, g->seg_stride, seg);
    void *out = (void *)segment(dtype, y, y_seg_stride, seg);
    for (size_t i = 0; i < g->len; i++) {
      const size_t k = (seg * g->len + i) * step;
      const double x = fn_get(dtype, p, i) * f.first * f.second;
      int e = 0;
      const double w = weight ? frexp(fn_get(dtype, weight, k), &e) : 1.0;
      const int exponent = e + s->rstd_exponent, half = exponent > 0 ? exponent / 2 : 0;
      double t = (x - s->hi) - s->lo;
      if (exponent !=
          0) /* up before the product, as t may be subnormal; then the rest */
        t = ldexp(ldexp(t, half) * s->rstd * w, exponent - half);
      else
        t = t * s->rstd * w;
      fn_set(dtype, out, i, bias ? t + fn_get(dtype, bias, k) : t);
    }
  }
}
