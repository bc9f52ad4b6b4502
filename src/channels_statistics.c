/* channels_statistics.c - gradients of channels: mean and rstd, given or found.
 * SPDX-License-Identifier: MIT
 *
 * Those of a group are merged from those of its channels, which all have as many
 * elements: its variance is the mean of theirs and the variance of their means (Welford
 * 1962). The part of the mean that hi loses is found with the sums. */
#include "channels_statistics.h"

#include <float.h>
#include <string.h>

#include "channels.h"
#include "check.h"
#include "scale.h"

/* to[i] = from[i / per], i < n, which is a multiple of per or, of one group, less */
#define SPREAD(T)                                                                      \
  static void spread_##T(const T *from, size_t per, size_t n, T *to) {                 \
    for (size_t i = 0; i < n; i += per, from++)                                        \
      for (size_t k = i; k < i + per && k < n; k++)                                    \
        to[k] = *from;                                                                 \
  }
SPREAD(float)
SPREAD(double)
#undef SPREAD

static void spread(fastnorm_dtype dtype, const void *from, size_t per, size_t n,
                   void *to) {
  if (per == 1)
    memcpy(to, from, n * fn_dtype_size(dtype));
  else if (dtype == FASTNORM_FLOAT32)
    spread_float(from, per, n, to);
  else
    spread_double(from, per, n, to);
}

static void read_given(const fn_backward *w, const fn_view *v, fn_channel_block *b) {
  const ptrdiff_t first = (ptrdiff_t)v->statistic;
  const size_t n = v->g.rows;
  if (w->mean)
    spread(w->dtype, fn_element(w->dtype, w->mean, first), w->per, n, &b->hi);
  else
    memset(&b->hi, 0, n * fn_dtype_size(w->dtype));
  memset(b->is_slow, 0, n);
  if (w->rstd)
    spread(w->dtype, fn_element(w->dtype, w->rstd, first), w->per, n, &b->scale);
  for (size_t i = 0; w->norm && i < n; i++) {
    const double norm = fn_get(w->dtype, w->norm, v->statistic + i / w->per);
    b->rstd[i] = norm > 0.0 || norm < 0.0 || norm != norm ? 1.0 / norm : 0.0;
    b->is_slow[i] = !(norm <= DBL_MAX); /* rounded to Inf */
  }
}

/* ---- of each channel: mean to d + dt, variance to x, of the block ---- */

static void keep(fn_channel_block *b, size_t i, fastnorm_dtype dtype, const void *hi,
                 const void *lo, size_t from, double var, bool slow) {
  b->d[i] = hi ? fn_get(dtype, hi, from) : 0.0;
  b->dt[i] = lo ? fn_get(dtype, lo, from) : 0.0;
  b->x[i] = var;
  b->is_slow[i] = slow;
}

static fn_channels channels_of(const fn_backward *w) {
  return (fn_channels){.kernels = w->kernels,
                       .dtype = w->dtype,
                       .source = w->f.gathers ? &w->f.source : NULL,
                       .element = w->f.source.element,
                       .x = w->x,
                       .batch = w->batch,
                       .channels = w->channels,
                       .spatial = w->spatial,
                       .stride = w->x_stride,
                       .channel_stride = w->x_channel_stride,
                       .scratch = w->scratch,
                       .about_zero = w->statistics == FN_ABOUT_ZERO,
                       .exec = w->exec};
}

static void find_columns(const fn_backward *w, const fn_view *v, bool shared,
                         fn_channel_block *b) {
  const bool centered = w->statistics != FN_ABOUT_ZERO;
  const fn_channels all = channels_of(w);
  const fn_table t = {.x = v->x.x,
                      .rows = v->x.segs,
                      .stride = v->x.seg_stride,
                      .cols = v->x.rows,
                      .fold = v->fold,
                      .source = v->x.source};
  fn_column_stats s;
  if (shared)
    fn_channels_columns(&all, &t, w->eps, &s);
  else
    fn_columns_stats(w->kernels, w->dtype, &t, w->eps, centered, &s);
  for (size_t c = 0; c < t.cols; c++)
    keep(b, c, w->dtype, centered ? &s.hi : NULL, centered ? &s.lo : NULL, c, s.var[c],
         s.any_slow && s.is_slow[c]);
}

static void find_runs(const fn_backward *w, const fn_view *v, bool shared,
                      fn_channel_block *b) {
  const bool centered = w->statistics != FN_ABOUT_ZERO;
  const fn_channels all = channels_of(w);
  for (size_t r = 0; r < v->x.rows; r += FN_GROUP) {
    const size_t left = v->x.rows - r;
    const fn_view some = fn_view_rows(w, v, r, left < FN_GROUP ? left : FN_GROUP);
    fn_group_stats s;
    if (shared)
      fn_channels_long(&all, &some.x, w->eps, &s);
    else
      fn_runs_stats(w->kernels, w->dtype, &some.x, w->eps, centered, &s);
    for (size_t i = 0; i < some.x.rows; i++)
      keep(b, r + i, w->dtype, centered ? &s.hi : NULL, centered ? &s.lo : NULL, i,
           s.var[i], s.any_slow && s.is_slow[i]);
  }
}

static void find_channels(const fn_backward *w, const fn_view *v, bool shared,
                          fn_channel_block *b) {
  if (v->columns)
    find_columns(w, v, shared, b);
  else
    find_runs(w, v, shared, b);
}

/* ---- and of their group ---- */

typedef struct merged {
  double hi, lo;                 /* the first channel's mean */
  double average, squares, vars; /* of the differences from it */
  size_t count;
  bool slow;
} merged;

static void merge(merged *m, const fn_channel_block *b, size_t i) {
  if (m->count++ == 0)
    m->hi = b->d[i], m->lo = b->dt[i];
  const double k = (double)m->count;
  const double step = (b->d[i] - m->hi) + (b->dt[i] - m->lo) - m->average;
  m->average += step / k;
  m->squares += step * step * ((k - 1.0) / k);
  m->vars += b->x[i];
  m->slow |= b->is_slow[i];
}

static double merged_mean(const merged *m) {
  return m->hi + (m->lo + m->average);
}

static double merged_rstd(const fn_backward *w, const fn_view *v, const merged *m) {
  const double k = (double)m->count;
  if (w->statistics == FN_ABOUT_ZERO) /* the sum of squares */
    return fn_reciprocal_root(m->vars * (double)v->x.segs * (double)v->x.len);
  return fn_reciprocal_root((m->vars + m->squares) / k + w->eps);
}

/* Where squares of the differences may have been lost, or were too large. */
static bool is_slow(const fn_backward *w, const merged *m) {
  const double most = w->dtype == FASTNORM_FLOAT32 ? 0x1p250 : 0x1p1000;
  const double least = w->dtype == FASTNORM_FLOAT32 ? 0x1p-250 : 0x1p-900;
  return m->slow || !(m->squares <= most) ||
         (m->count > 1 && m->squares + m->vars + w->eps < least);
}

void fn_block_statistics(const fn_backward *w, const fn_view *v, bool shared,
                         fn_channel_block *b) {
  if (w->rstd || w->norm) {
    read_given(w, v, b);
    return;
  }
  find_channels(w, v, shared, b);
  for (size_t i = 0; i < v->x.rows; i += w->per) {
    merged m = {.count = 0};
    for (size_t k = i; k < i + w->per; k++)
      merge(&m, b, k);
    const double rstd = merged_rstd(w, v, &m), mean = merged_mean(&m);
    const bool slow = is_slow(w, &m);
    for (size_t k = i; k < i + w->per; k++) {
      b->rstd[k] = rstd;
      fn_set(w->dtype, &b->hi, k, mean);
      b->is_slow[k] = slow;
    }
  }
}

bool fn_group_statistics(const fn_backward *w, const fn_view *v, fn_channel_block *b) {
  merged m = {.count = 0};
  if (w->rstd || w->norm) {
    const fn_view one = fn_view_rows(w, v, 0, 1);
    read_given(w, &one, b);
    return true;
  }
  for (size_t c = 0; c < v->x.rows; c += FN_COLUMNS) {
    const size_t left = v->x.rows - c;
    const fn_view part = fn_view_rows(w, v, c, left < FN_COLUMNS ? left : FN_COLUMNS);
    find_channels(w, &part, false, b);
    for (size_t i = 0; i < part.x.rows; i++)
      merge(&m, b, i);
  }
  b->rstd[0] = merged_rstd(w, v, &m);
  fn_set(w->dtype, &b->hi, 0, merged_mean(&m));
  return !is_slow(w, &m);
}
