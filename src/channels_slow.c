/* channels_slow.c - gradients of channels whose numbers leave the range of plain
 * arithmetic, in scaled double.
 * SPDX-License-Identifier: MIT
 *
 * g, x and weight are scaled by powers of two to the middle of the range of double, and
 * the same sums, totals and terms follow as in plain arithmetic. Scalar; such groups
 * are rare. */
#include <float.h>
#include <math.h>

#include "channels_backward.h"
#include "check.h"

/* n elements of a segment of row 0, from `from` on, as doubles. */
#define SPAN 128
typedef struct span_room {
  double v[SPAN];
} span_room;

static void read_span(const fn_backward *w, const fn_runs *g, size_t seg, size_t from,
                      size_t n, span_room *out) {
  const size_t element = g->source ? g->source->element : fn_dtype_size(w->dtype);
  const ptrdiff_t at = (ptrdiff_t)seg * g->seg_stride + (ptrdiff_t)from;
  _Alignas(64) double room[SPAN];
  fn_runs part = *g;
  part.x = (const char *)g->x + at * (ptrdiff_t)element;
  part.rows = part.segs = 1;
  part.len = n;
  const void *p = g->source ? fn_gather_runs(w->dtype, &part, false, room).x : part.x;
  for (size_t i = 0; i < n; i++)
    out->v[i] = fn_get(w->dtype, p, i);
}

static void write_span(const fn_backward *w, const fn_output *y, size_t seg,
                       size_t from, size_t n, const span_room *in) {
  _Alignas(64) double room[SPAN];
  const fn_output to = fn_output_at(w->dtype, y, 0, seg, from);
  for (size_t i = 0; i < n; i++)
    fn_set(w->dtype, y->sink ? room : to.y, i, in->v[i]);
  const fn_runs staged = {.x = room, .rows = 1, .segs = 1, .len = n};
  if (y->sink)
    fn_scatter_runs(w->dtype, &staged, &to);
}

static double largest_of(const fn_backward *w, const fn_runs *g) {
  span_room p;
  double largest = 0.0;
  for (size_t seg = 0; seg < g->segs; seg++)
    for (size_t from = 0; from < g->len; from += SPAN) {
      const size_t n = g->len - from < SPAN ? g->len - from : SPAN;
      read_span(w, g, seg, from, n, &p);
      for (size_t i = 0; i < n; i++) {
        const double size = fabs(p.v[i]);
        if (size <= DBL_MAX && size > largest)
          largest = size;
      }
    }
  return largest;
}

double fn_view_largest(const fn_backward *w, const fn_view *v, size_t r) {
  const fn_runs one = fn_run_alone(&v->g, w->dtype, r);
  return largest_of(w, &one);
}

static int exponent_of(double x) {
  int e = 0;
  if (x > 0.0 && x <= DBL_MAX)
    frexp(x, &e);
  return e;
}

static double larger(double a, double b) {
  return a > b ? a : b;
}

/* What the elements of a group go through: G = g * 2^-g_exponent, weights alike, t =
 * ((x * 2^-exponent - hi) - lo) * rstd * 2^t_exponent. */
typedef struct scaled {
  int g_exponent, weight_exponent, exponent, t_exponent;
  double hi, lo, rstd;
  int rstd_exponent; /* of x as it is: 1 / deviation is rstd * 2^rstd_exponent */
  fn_group_line line;
} scaled;

/* All of the group as one run. */
static fn_runs as_one(const fn_view *v) {
  fn_runs one = v->x;
  one.rows = 1;
  if (v->x.rows == 1)
    return one;
  if (v->columns) {
    one.len = v->x.rows;
  } else {
    one.segs = v->x.rows;
    one.seg_stride = v->x.row_stride;
  }
  return one;
}

static double elements_of(const fn_view *v) {
  return (double)v->x.rows * (double)v->x.segs * (double)v->x.len;
}

static void find_statistics(const fn_backward *w, const fn_view *v, scaled *s) {
  const fn_runs one = as_one(v);
  fn_slow f;
  fn_slow_stats(w->dtype, &one, w->eps, w->statistics != FN_ABOUT_ZERO, &f);
  if (w->statistics == FN_ABOUT_ZERO)
    fn_slow_lp(&f, elements_of(v), 0.0);
  s->exponent = f.exponent;
  s->hi = f.hi;
  s->lo = f.lo;
  s->rstd = f.rstd;
  s->t_exponent = f.rstd_exponent;
  s->rstd_exponent = f.rstd_exponent - f.exponent;
}

/* 1 / deviation of the caller, if it is a number of use. */
static bool read_statistics(const fn_backward *w, const fn_view *v, scaled *s) {
  if (!w->rstd && !w->norm)
    return false;
  const double given = fn_get(w->dtype, w->norm ? w->norm : w->rstd, v->statistic);
  const double mean = w->mean ? fn_get(w->dtype, w->mean, v->statistic) : 0.0;
  const double least = w->dtype == FASTNORM_FLOAT32 ? FLT_MIN : DBL_MIN;
  const bool lost = fabs(given) < least && fabs(given) > 0.0; /* bits, as a subnormal */
  const bool usable = fabs(given) <= DBL_MAX && fabs(mean - mean) <= 0.0 && !lost;
  if (!usable && w->statistics != FN_FIXED)
    return false;
  double largest = fabs(mean);
  for (size_t r = 0; r < v->x.rows; r++) {
    const fn_runs row = fn_run_alone(&v->x, w->dtype, r);
    largest = larger(largest, largest_of(w, &row));
  }
  int e = 0;
  s->exponent = exponent_of(largest) + 1;
  s->hi = ldexp(mean, -s->exponent);
  s->lo = 0.0;
  s->rstd = usable ? frexp(given, &e) : given;
  if (w->norm && usable) {
    s->rstd = given > 0.0 || given < 0.0 ? 1.0 / s->rstd : 0.0;
    e = -e;
  }
  s->rstd_exponent = e;
  s->t_exponent = e + s->exponent;
  return true;
}

static double weight_of(const fn_backward *w, const fn_view *v, const scaled *s,
                        size_t r) {
  return ldexp(fn_weight_of(w, v->first + r), -s->weight_exponent);
}

static double scaled_t(const scaled *s, double x) {
  const double t = ((ldexp(x, -s->exponent) - s->hi) - s->lo) * s->rstd;
  return s->t_exponent ? ldexp(t, s->t_exponent) : t;
}

static double shift_of(const fn_backward *w, const fn_view *v, const scaled *s,
                       size_t r) {
  return w->statistics == FN_OF_X ? ldexp(fn_view_middle(w, v, r), -s->g_exponent)
                                  : 0.0;
}

/* Row r's sums. */
static fn_channel_sums sums_of(const fn_backward *w, const fn_view *v, const scaled *s,
                               size_t r) {
  const fn_view row = fn_view_rows(w, v, r, 1);
  span_room g, x;
  fn_sum d = {0.0, 0.0}, dt = d, sum_t = d;
  fn_channel_sums c = {.n = (double)row.g.segs * (double)row.g.len,
                       .weight = weight_of(w, v, s, r),
                       .shift = shift_of(w, v, s, r)};
  for (size_t seg = 0; seg < row.g.segs; seg++)
    for (size_t from = 0; from < row.g.len; from += SPAN) {
      const size_t n = row.g.len - from < SPAN ? row.g.len - from : SPAN;
      read_span(w, &row.g, seg, from, n, &g);
      read_span(w, &row.x, seg, from, n, &x);
      for (size_t i = 0; i < n; i++) {
        const double less = ldexp(g.v[i], -s->g_exponent) - c.shift;
        const double t = scaled_t(s, x.v[i]);
        fn_sum_add(&d, less);
        fn_sum_add(&dt, less * t);
        fn_sum_add(&sum_t, t);
      }
    }
  c.d = fn_sum_value(&d);
  c.dt = fn_sum_value(&dt);
  c.t = fn_sum_value(&sum_t);
  return c;
}

static void write_row(const fn_backward *w, const fn_view *v, const scaled *s, size_t r,
                      double shift) {
  const fn_view row = fn_view_rows(w, v, r, 1);
  const fn_channel_sums c = {.weight = weight_of(w, v, s, r), .shift = shift};
  const double rest = fn_line_rest(w->statistics, &s->line, &c);
  const int exponent = s->g_exponent + s->weight_exponent + s->rstd_exponent;
  span_room g, x;
  for (size_t seg = 0; seg < row.g.segs; seg++)
    for (size_t from = 0; from < row.g.len; from += SPAN) {
      const size_t n = row.g.len - from < SPAN ? row.g.len - from : SPAN;
      read_span(w, &row.g, seg, from, n, &g);
      if (w->statistics != FN_FIXED)
        read_span(w, &row.x, seg, from, n, &x);
      for (size_t i = 0; i < n; i++) {
        double y = (ldexp(g.v[i], -s->g_exponent) - shift) * c.weight + rest;
        if (w->statistics != FN_FIXED)
          y -= (scaled_t(s, x.v[i]) - s->line.mean_t) * s->line.slope;
        g.v[i] = ldexp(y * s->rstd, exponent);
      }
      write_span(w, &row.y, seg, from, n, &g);
    }
}

static fn_part part_of(double x, int exponent) {
  if (exponent > 900)
    return (fn_part){0.0, ldexp(x, exponent - 100)};
  return (fn_part){ldexp(x, exponent), 0.0};
}

static void report(const fn_backward *w, const fn_view *v, const scaled *s, size_t r,
                   const fn_channel_sums *c, const fn_channel_gradients *to) {
  const double bias = fn_line_bias(c), weight = fn_line_weight(&s->line, c);
  const double by_r = w->r ? fn_get(w->dtype, w->r, v->first + r) : 1.0;
  const double by_d = w->d ? fn_get(w->dtype, w->d, v->first + r) : 0.0;
  if (!to || r < to->from || r >= to->to)
    return;
  to->bias[r - to->from] = part_of(bias, s->g_exponent);
  to->weight[r - to->from] =
      part_of(by_r * weight + (w->d ? by_d * bias : 0.0), s->g_exponent);
}

void fn_view_slow(const fn_backward *w, const fn_view *v,
                  const fn_channel_gradients *to) {
  scaled s = {.g_exponent = 0};
  double g = 0.0, weight = 0.0;
  fn_group_totals totals = {.channels = 0};
  for (size_t r = 0; r < v->g.rows; r++) {
    g = larger(g, fn_view_largest(w, v, r));
    weight = larger(weight, fabs(fn_weight_of(w, v->first + r)));
  }
  s.g_exponent = exponent_of(g);
  s.weight_exponent = exponent_of(weight);
  if (!read_statistics(w, v, &s))
    find_statistics(w, v, &s);
  for (size_t r = 0; w->sums && r < v->g.rows; r++) {
    const fn_channel_sums c = sums_of(w, v, &s, r);
    fn_totals_add(w->statistics, &c, &totals);
  }
  fn_totals_finish(w->statistics, elements_of(v), &totals, &s.line);
  for (size_t r = 0; w->sums && to && r < v->g.rows; r++) {
    const fn_channel_sums c = sums_of(w, v, &s, r);
    report(w, v, &s, r, &c, to);
  }
  for (size_t r = 0; v->y.y && r < v->g.rows; r++)
    write_row(w, v, &s, r, shift_of(w, v, &s, r));
}
