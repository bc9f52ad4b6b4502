/* samples_columns.c - groups of channels, last: [batch, spatial, channels].
 * SPDX-License-Identifier: MIT
 *
 * A channel is a column. The statistics of a group are merged from those of its
 * columns, all of the same number of elements: the mean is that of their means; the
 * variance is the mean of theirs and the variance of their means, which is found one
 * after another (Welford 1962), so that all terms are positive. All in double, the mean
 * with what it loses beside it: a constant group stays exact. For float data plain sums
 * of the differences from the first mean are exact enough, and quicker. */
#include <math.h>

#include "check.h"
#include "range.h"
#include "samples.h"
#include "scale.h"
#include "sum.h"

typedef struct group_sums {
  double hi, lo;  /* a mean to count from */
  double average; /* of the differences from it, so far */
  fn_sum means, squares, vars;
  size_t count;
  bool slow, differs;
} group_sums;

/* Where the n columns from c on are the first of a group: from which of them its means
 * are counted. Not from an outlier, whose own bits would be missing in every
 * difference: the one between the other two of three. */
static void set_origin(group_sums *g, const fn_column_stats *s, size_t c, size_t n) {
  const size_t at[3] = {c, c + n / 2, c + n - 1};
  for (int i = 0; i < 3; i++) {
    const double x = s->hi.f64[at[i]], y = s->hi.f64[at[(i + 1) % 3]],
                 z = s->hi.f64[at[(i + 2) % 3]];
    if ((y <= x && x <= z) || (z <= x && x <= y) || i == 2) {
      g->hi = x;
      g->lo = s->lo.f64[at[i]];
      return;
    }
  }
}

/* A column whose mean is hi + lo. */
static void add_column(group_sums *g, double hi, double lo, double var) {
  const double k = (double)++g->count;
  const double d = (hi - g->hi) + (lo - g->lo), step = d - g->average;
  fn_sum_add(&g->means, hi);
  fn_sum_add(&g->means, lo);
  g->average += step / k;
  fn_sum_add(&g->squares, step * step * ((k - 1.0) / k));
  fn_sum_add(&g->vars, var);
  g->differs |= d < 0.0 || d > 0.0;
}

/* What there is to know of a group. */
typedef struct group_found {
  double mean, lo, var; /* the mean is mean + lo */
  bool is_slow;
  fn_slow slow;
} group_found;

static fn_table columns_of(const fn_samples_work *w, size_t sample, size_t first,
                           size_t n) {
  const ptrdiff_t at = (ptrdiff_t)sample * w->x_stride + (ptrdiff_t)first;
  return (fn_table){.x = (const char *)w->x + at * (ptrdiff_t)w->f.source.element,
                    .rows = w->spatial,
                    .stride = w->x_channel_stride,
                    .cols = n,
                    .fold = n == w->channels ? fn_column_fold(n) : 1,
                    .source = w->f.gathers ? &w->f.source : NULL};
}

/* The whole group as one run, where its numbers leave the range. */
static void find_slow(const fn_samples_work *w, size_t sample, size_t group,
                      group_found *found) {
  const size_t channels = w->channels / w->groups;
  const fn_table t = columns_of(w, sample, group * channels, channels);
  fn_masked_source masked;
  const fn_runs run = w->is_masked ? fn_samples_masked_run(w, sample, group, 1, &masked)
                                   : (fn_runs){.x = t.x,
                                               .rows = 1,
                                               .segs = w->spatial,
                                               .seg_stride = t.stride,
                                               .len = channels,
                                               .source = t.source};
  fn_slow_stats(w->dtype, &run, w->eps, true, &found->slow);
  found->is_slow = true;
  found->mean = fn_slow_mean(&found->slow);
  found->lo = 0.0;
  found->var = fn_slow_var(&found->slow);
}

static void add_float_column(group_sums *g, double mean, double var) {
  if (g->count++ == 0)
    g->hi = mean;
  const double d = mean - g->hi;
  g->average += d; /* their sum */
  g->squares.value += d * d;
  g->vars.value += var;
}

static void finish_float(const group_sums *g, group_found *found) {
  const double n = (double)g->count, d = g->average / n;
  const double square = g->squares.value - g->average * d;
  found->mean = g->hi + d;
  found->lo = 0.0;
  found->var = (g->vars.value + (square > 0.0 ? square : 0.0)) / n;
}

static void finish(const fn_samples_work *w, size_t sample, size_t group,
                   const group_sums *g, group_found *found) {
  const double n = (double)g->count;
  found->is_slow = false;
  if (w->dtype == FASTNORM_FLOAT32) { /* no square of a float is out of range */
    finish_float(g, found);
    if (g->slow)
      find_slow(w, sample, group, found);
    return;
  }
  fn_sum mean = {g->means.value / n, 0.0};
  fn_sum_add(&mean, (fma(-mean.value, n, g->means.value) + g->means.rounding) / n);
  found->mean = mean.value;
  found->lo = mean.rounding;
  const double square = fn_sum_value(&g->squares);
  found->var = (fn_sum_value(&g->vars) + square) / n;
  /* means so far apart, or all so small, that their squares are out of range */
  if (g->slow || !(square <= f64_SQ_MAX) || !(fabs(mean.value) <= f64_MEAN_MAX) ||
      (g->differs && found->var + w->eps < f64_VAR_MIN))
    find_slow(w, sample, group, found);
}

/* Which group a channel is of, without a division for each. */
typedef struct place {
  size_t group, left, channels;
} place;

static place place_of(const fn_samples_work *w, size_t channel, size_t base) {
  const size_t channels = w->channels / w->groups;
  return (place){channel / channels - base, channels - channel % channels, channels};
}

static void step(place *p) {
  if (--p->left == 0) {
    p->group++;
    p->left = p->channels;
  }
}

/* Columns c to c + n, of the same group. */
static void add_span(fastnorm_dtype dtype, const fn_column_stats *s, size_t c, size_t n,
                     group_sums *sums) {
  group_sums g = *sums; /* in registers */
  for (size_t i = c; i < c + n; i++) {
    if (s->any_slow && s->is_slow[i])
      g.slow = true;
    else if (dtype == FASTNORM_FLOAT32)
      add_float_column(&g, (double)s->hi.f32[i] + (double)s->lo.f32[i], s->var[i]);
    else {
      if (g.count == 0)
        set_origin(&g, s, i, c + n - i);
      add_column(&g, s->hi.f64[i], s->lo.f64[i], s->var[i]);
    }
  }
  *sums = g;
}

/* How many of n channels are of the same group, and then the place behind them. */
static size_t span(place *p, size_t n) {
  const size_t some = n < p->left ? n : p->left;
  p->group++;
  p->left = p->channels;
  return some;
}

/* Adds columns [0, n) of s, which are channels from `first` on, to the sums of their
 * groups, of which sums[0] is that of group `base`. */
static void add_columns(const fn_samples_work *w, size_t n, const fn_column_stats *s,
                        size_t first, size_t base, group_sums *sums) {
  place at = place_of(w, first, base);
  for (size_t c = 0, some; c < n; c += some) {
    group_sums *g = &sums[at.group];
    some = span(&at, n - c);
    add_span(w->dtype, s, c, some, g);
  }
}

/* A group of channels with patterns of their own. */
static void find_apart(const fn_samples_work *w, size_t sample, size_t group,
                       group_found *found) {
  fn_masked_source masked;
  fn_group_stats s;
  const fn_runs run = fn_samples_masked_run(w, sample, group, 1, &masked);
  fn_runs_stats(w->kernels, w->dtype, &run, w->eps, true, &s);
  if (s.any_slow)
    find_slow(w, sample, group, found);
  else
    *found = (group_found){.mean = fn_get(w->dtype, &s.hi, 0),
                           .lo = fn_get(w->dtype, &s.lo, 0),
                           .var = s.var[0]};
}

/* Whether channels have patterns of their own. */
static bool are_apart(const fn_samples_work *w) {
  return w->is_masked && (!fn_mask_is_shared(&w->mask) || w->mask.weighted);
}

/* Those of n channels from `from` on that take part. */
static void column_stats(const fn_samples_work *w, size_t sample, size_t from, size_t n,
                         fn_column_stats *s) {
  const fn_table all = columns_of(w, sample, from, n);
  fn_masked_source masked;
  const fn_table t =
      w->is_masked ? fn_samples_masked_table(w, sample, &all, &masked) : all;
  fn_columns_stats(w->kernels, w->dtype, &t, w->eps, true, s);
}

/* Statistics of groups first to first + n: at most FN_COLUMNS channels, or one
 * group. */
static void find(const fn_samples_work *w, size_t sample, size_t first, size_t n,
                 fn_column_stats *s, group_found *found) {
  const size_t channels = w->channels / w->groups;
  const size_t from = first * channels, to = from + n * channels;
  group_sums sums[FN_COLUMNS];
  for (size_t g = 0; g < n; g++)
    sums[g] = (group_sums){.count = 0};
  const bool apart = are_apart(w);
  for (size_t c = from; c < to && !apart && !fn_samples_given(w); c += FN_COLUMNS) {
    const size_t some = to - c < FN_COLUMNS ? to - c : FN_COLUMNS;
    column_stats(w, sample, c, some, s);
    add_columns(w, some, s, c, first, sums);
  }
  double mean[FN_COLUMNS], var[FN_COLUMNS];
  if (fn_samples_given(w))
    fn_samples_stored(w, sample, first, n, mean, var);
  for (size_t g = 0; g < n; g++) {
    if (fn_samples_given(w))
      found[g] = (group_found){.mean = mean[g], .var = var[g]};
    else if (apart)
      find_apart(w, sample, first + g, &found[g]);
    else
      finish(w, sample, first + g, &sums[g], &found[g]);
  }
}

/* Groups of a channel each: their statistics are those of their columns, s, all of them
 * on their own. Only if one is slow there is something in `found`. */
static void find_each(const fn_samples_work *w, size_t sample, size_t first, size_t n,
                      fn_column_stats *s, group_found *found) {
  column_stats(w, sample, first, n, s);
  for (size_t g = 0; s->any_slow && g < n; g++) {
    const double hi = fn_get(w->dtype, &s->hi, g), lo = fn_get(w->dtype, &s->lo, g);
    found[g] = (group_found){.mean = hi + lo, .var = s->var[g]};
    if (!s->is_slow[g])
      continue;
    find_slow(w, sample, first + g, &found[g]);
    s->var[g] = 1.0;
  }
}

/* What is found of n groups from `first` on, to the caller and into the sums over
 * samples; `found` or, if that is NULL, s. */
static void report(const fn_samples_work *w, size_t sample, size_t first, size_t n,
                   size_t count, const group_found *found, const fn_column_stats *s,
                   fn_sample_sums *sums) {
  for (size_t g = 0; (w->mean || w->rstd || sums) && g < n; g++) {
    const bool slow = found && found[g].is_slow;
    const double mean = found
                            ? found[g].mean
                            : fn_get(w->dtype, &s->hi, g) + fn_get(w->dtype, &s->lo, g);
    const double var = found ? found[g].var : s->var[g], t = var + w->eps;
    fn_samples_report(w, sample * w->groups + first + g, mean,
                      slow ? fn_slow_rstd(&found[g].slow) : fn_reciprocal_root(t));
    if (sums)
      fn_samples_sum(w, sums, g, fn_samples_weight(w, sample, first + g, count), mean,
                     var);
  }
}

/* The statistics of n channels from `from` on, which lie within the groups from `base`
 * on. */
static void spread(const fn_samples_work *w, size_t from, size_t n,
                   const group_found *found, size_t base, fn_column_stats *s) {
  place at = place_of(w, from, base);
  s->any_slow = false;
  for (size_t c = 0, some; c < n; c += some) {
    const group_found *g = &found[at.group];
    some = span(&at, n - c);
    s->any_slow |= g->is_slow;
    fn_fill(w->dtype, &s->hi, c, some, g->mean);
    const double lo = (g->mean - fn_get(w->dtype, &s->hi, c)) + g->lo;
    fn_fill(w->dtype, &s->lo, c, some, lo);
    fn_fill(FASTNORM_FLOAT64, s->var, c, some, g->is_slow ? 1.0 : g->var);
    for (size_t k = c; k < c + some; k++)
      s->is_slow[k] = g->is_slow;
  }
}

/* Channels from to.. of the sample, which lie within the groups from `base` on, of
 * which s is what `found` says, or all there is to know if that is NULL. */
static void apply(const fn_samples_work *w, size_t sample, size_t from, size_t n,
                  const group_found *found, size_t base, fn_column_stats *s) {
  const fn_table t = columns_of(w, sample, from, n);
  fn_column_array weight, bias;
  fn_slow slow[FN_COLUMNS];
  fn_column_parameters p = {
      .eps = w->eps,
      .centered = true,
      .given = fn_samples_given(w),
      .weight = fn_vector_read(w->kernels, w->dtype, &w->weight, from, n, &weight),
      .bias = fn_vector_read(w->kernels, w->dtype, &w->bias, from, n, &bias),
      .slow = slow};
  fn_columns_scale(w->kernels, w->dtype, n, &p, s);
  place at = place_of(w, from, base);
  for (size_t c = 0; s->any_slow && c < n; c++, step(&at)) {
    if (found && found[at.group].is_slow)
      slow[c] = found[at.group].slow;
    else if (s->is_slow[c])
      fn_slow_given(fn_get(w->dtype, &s->hi, c),
                    p.given ? 0.0 : fn_get(w->dtype, &s->lo, c), s->var[c], w->eps,
                    &slow[c]);
  }
  const fn_output all = {.y = w->y,
                         .row_stride = w->y_stride,
                         .seg_stride = w->y_channel_stride,
                         .post_add = w->post_add,
                         .post_add_row_stride = w->post_add_stride,
                         .post_add_seg_stride = w->post_add_channel_stride,
                         .sink = w->f.scatters ? &w->f.sink : NULL,
                         .stream = w->stream};
  const fn_output out = fn_output_at(w->dtype, &all, sample, 0, from);
  if (w->is_masked) {
    const fn_masked_output o = {&w->mask, &w->f, w->x == w->y};
    const fn_masked_rows rows = {sample, 0, from};
    fn_masked_apply_table(&o, w->kernels, &t, &out, s, &p, &rows);
  } else {
    fn_columns_apply(w->kernels, w->dtype, &t, &out, s, &p);
  }
}

void fn_samples_columns(const fn_samples_work *w, size_t sample, size_t first, size_t n,
                        fn_sample_sums *sums) {
  const size_t channels = w->channels / w->groups;
  const size_t from = first * channels, to = from + n * channels;
  const size_t count = fn_samples_count(w, sample, first);
  group_found found[FN_COLUMNS];
  fn_column_stats s;
  if (count == 0 && !fn_samples_given(w)) {
    fn_samples_empty(w, sample, first, n);
    return;
  }
  if (w->groups == w->channels && !fn_samples_given(w) && !are_apart(w)) {
    find_each(w, sample, first, n, &s, found);
    report(w, sample, first, n, count, s.any_slow ? found : NULL, &s, sums);
    apply(w, sample, from, n, s.any_slow ? found : NULL, first, &s);
    return;
  }
  find(w, sample, first, n, &s, found);
  report(w, sample, first, n, count, found, NULL, sums);
  for (size_t c = from; c < to; c += FN_COLUMNS) {
    const size_t some = to - c < FN_COLUMNS ? to - c : FN_COLUMNS;
    spread(w, c, some, found, first, &s);
    apply(w, sample, c, some, found, first, &s);
  }
}
