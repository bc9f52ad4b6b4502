/* channels_totals.c - from the sums of channels to those of their group, and on.
 * SPDX-License-Identifier: MIT
 *
 * All in double, and relative to the first channel's weight * shift: a large mean of
 * the gradient costs nothing, and where weight * g is constant everything is exactly
 * 0.
 *
 * Where channels are short this is as much work as their elements are. So kernels do
 * what they can (channels_lanes.c), and the rest of a block goes through one loop for
 * each dtype, which calls nothing but for rare channels. */
#include <float.h>
#include <math.h>

#include "channels_totals.h"
#include "check.h"

FN_WORD fn_total_terms terms_of(const fn_channel_sums *c, double first) {
  const double more = c->weight * c->shift - first;
  return (fn_total_terms){more * c->n + c->weight * c->d,
                          more * c->t + c->weight * c->dt, c->t};
}

FN_WORD double base_of(fn_statistics how, const fn_channel_sums *c) {
  return how == FN_OF_X ? c->weight * c->shift : 0.0;
}

void fn_totals_add(fn_statistics how, const fn_channel_sums *c, fn_group_totals *t) {
  if (t->channels++ == 0)
    t->first = base_of(how, c);
  const fn_total_terms one = terms_of(c, t->first);
  fn_totals_take(t, &one);
}

void fn_totals_finish(fn_statistics how, double n, const fn_group_totals *t,
                      fn_group_line *line) {
  const fn_total_terms sum = fn_totals_value(t);
  *line = fn_line_of(how, 1.0 / n, &sum, t->first);
}

FN_WORD double rest_of(fn_statistics how, const fn_group_line *line,
                       const fn_channel_sums *c) {
  return how == FN_OF_X ? (c->weight * c->shift - line->first) - line->mean : 0.0;
}

double fn_line_rest(fn_statistics how, const fn_group_line *line,
                    const fn_channel_sums *c) {
  return rest_of(how, line, c);
}

FN_WORD double weight_of(const fn_group_line *line, const fn_channel_sums *c) {
  return (c->dt - line->mean_t * c->d) + c->shift * (c->t - c->n * line->mean_t);
}

double fn_line_weight(const fn_group_line *line, const fn_channel_sums *c) {
  return weight_of(line, c);
}

FN_WORD double bias_of(const fn_channel_sums *c) {
  return c->n * c->shift + c->d;
}

double fn_line_bias(const fn_channel_sums *c) {
  return bias_of(c);
}

/* ---- blocks ---- */

static const fn_channel_limits of_f32 = {0x1p-100, 0x1p100, 0x1p120,
                                         0x1p60,   0x1p100, FLT_MIN};
static const fn_channel_limits of_f64 = {0x1p-900, 0x1p900,  0x1p1000,
                                         0x1p420,  0x1p1000, DBL_MIN};

FN_WORD double number(bool f32, const void *p, size_t i) {
  return f32 ? (double)((const float *)p)[i] : ((const double *)p)[i];
}

FN_WORD void put(bool f32, fn_column_array *a, size_t i, double x) {
  if (f32)
    a->f32[i] = (float)x;
  else
    a->f64[i] = x;
}

/* What the loops over a block need, where no store can be thought to change it. */
typedef struct loop {
  const fn_block_work *k;
  fn_channel_block *b;
  fn_channel_gradients to;
  const void *r, *d;
  double count, root, inverse;
  fn_statistics how;
  bool f32, exact, factors; /* rstd is the scale; there is a y */
} loop;

FN_WORD double rstd_of(const loop *l, size_t i) {
  return l->exact ? number(l->f32, &l->b->scale, i) : l->b->rstd[i];
}

FN_WORD fn_channel_sums sums_of(const loop *l, size_t i) {
  const fn_channel_block *b = l->b;
  return (fn_channel_sums){.n = l->count,
                           .weight = b->weight[i],
                           .shift = number(l->f32, &b->shift, i),
                           .d = b->d[i],
                           .dt = b->dt[i],
                           .t = b->x[i] * number(l->f32, &b->scale, i)};
}

/* Sums so small that they may have lost bits: whether they were nothing from the
 * beginning, or g is not that small. */
static bool small_is_safe(const fn_block_work *k, size_t i) {
  const double largest = fn_view_largest(k->w, k->v, i);
  const bool f32 = k->w->dtype == FASTNORM_FLOAT32;
  return largest <= 0.0 || largest >= (f32 ? 0x1p-110 : 0x1p-960);
}

/* Whether plain sums of channel i can be trusted: t = (x - hi) * scale has a scale of
 * full precision, nothing was too large, and what is small has lost nothing. */
FN_WORD bool sums_are_safe(const loop *l, const fn_channel_sums *c, size_t i) {
  const fn_channel_limits *most = l->f32 ? &of_f32 : &of_f64;
  const double scale = fabs(rstd_of(l, i)), small = c->n * most->least;
  const double d = fabs(c->d), dt = fabs(c->dt);
  if (!(scale >= most->least || scale <= 0.0) || !(scale <= most->scale) ||
      !(d + dt <= most->sum) || !(fabs(c->shift) <= most->scale) ||
      !(fabs(c->t) <= c->n * most->t))
    return false;
  return d >= small || dt >= small || small_is_safe(l->k, i);
}

/* Adds up to FN_TOTAL_CHAIN channels to `sum`. */
FN_WORD bool add_channels(const loop *l, size_t from, size_t end, double first,
                          fn_total_terms *sum) {
  bool good = true;
  for (size_t i = from; i < end; i++) {
    const fn_channel_sums c = sums_of(l, i);
    const fn_total_terms one = terms_of(&c, first);
    sum->g += one.g;
    sum->gt += one.gt;
    sum->t += one.t;
    good &= sums_are_safe(l, &c, i);
  }
  return good;
}

/* The totals of channels [from, end), and of those that `large` has; few need no
 * compensation. */
FN_WORD bool total_channels(const loop *l, size_t from, size_t end,
                            fn_group_totals *large, double *first,
                            fn_total_terms *sum) {
  const fn_channel_sums c = sums_of(l, from);
  *first = large && large->channels ? large->first : base_of(l->how, &c);
  if (!large && end - from <= FN_TOTAL_CHAIN)
    return add_channels(l, from, end, *first, sum);
  fn_group_totals own = {.channels = 0}, *t = large ? large : &own;
  bool good = true;
  t->first = *first;
  t->channels += end - from;
  for (size_t i = from; i < end && good; i += FN_TOTAL_CHAIN) {
    fn_total_terms some = {0.0, 0.0, 0.0};
    good = add_channels(l, i, end - i < FN_TOTAL_CHAIN ? end : i + FN_TOTAL_CHAIN,
                        *first, &some);
    fn_totals_take(t, &some);
  }
  *sum = fn_totals_value(t);
  return good;
}

/* a, b and c of channel i; false if one leaves the range, or a term of y may though
 * their sum does not. */
FN_WORD bool set_channel(const loop *l, const fn_group_line *line,
                         const fn_channel_sums *c, double ratio, size_t i) {
  const fn_channel_limits *most = l->f32 ? &of_f32 : &of_f64;
  fn_channel_block *b = l->b;
  const double rstd = rstd_of(l, i);
  const double a = c->weight * rstd, slope = -rstd * ratio * ratio * line->slope;
  double rest = rest_of(l->how, line, c);
  put(l->f32, &b->a, i, a);
  if (!(fabs(a) <= most->factor) || (fabs(a) < most->normal && fabs(a) > 0.0))
    return false;
  if (l->how == FN_FIXED)
    return true;
  /* About the mean of g itself, where it is known: then the rest is next to nothing. */
  const double near = c->shift - rest / c->weight;
  if (l->how == FN_OF_X && fabs(near) <= most->factor) {
    put(l->f32, &b->shift, i, near);
    rest += c->weight * (number(l->f32, &b->shift, i) - c->shift);
  }
  put(l->f32, &b->b, i, slope);
  put(l->f32, &b->c, i, rstd * rest);
  put(l->f32, &b->offset, i, -line->mean_t);
  return fabs(rstd * rest) <= most->sum && fabs(slope) * l->root <= most->sum;
}

/* The gradients of its weight and bias, if they are asked for. */
FN_WORD void report(const loop *l, const fn_group_line *line, const fn_channel_sums *c,
                    double ratio, size_t i) {
  const double bias = bias_of(c);
  double weight = ratio * weight_of(line, c);
  if (i < l->to.from || i >= l->to.to)
    return;
  if (l->r)
    weight *= number(l->f32, l->r, i);
  if (l->d)
    weight += number(l->f32, l->d, i) * bias;
  l->to.bias[i - l->to.from] = (fn_part){bias, 0.0};
  l->to.weight[i - l->to.from] = (fn_part){weight, 0.0};
}

/* Channels [from, end) have the totals of their group: their factors and gradients. */
FN_WORD bool finish_channels(const loop *l, const fn_group_line *line, size_t from,
                             size_t end) {
  bool good = true;
  for (size_t i = from; i < end; i++) {
    const fn_channel_sums c = sums_of(l, i);
    const double scale = number(l->f32, &l->b->scale, i);
    const double ratio = l->exact || !(scale > 0.0) ? 1.0 : l->b->rstd[i] / scale;
    report(l, line, &c, ratio, i);
    if (l->factors)
      good &= set_channel(l, line, &c, ratio, i);
  }
  return good;
}

/* Channels [from, end), whole groups, one by one. */
FN_WORD bool one_by_one(const loop *l, size_t from, size_t end) {
  const fn_block_work *k = l->k;
  const size_t per = k->large ? end - from : k->w->per;
  fn_group_totals *const large = k->large;
  bool all = true;
  for (size_t i = from; i < end; i += per) {
    fn_total_terms sum = {0.0, 0.0, 0.0};
    double base = large ? large->first : 0.0;
    bool good = !l->b->is_slow[i];
    if (good && k->adds)
      good = total_channels(l, i, i + per, large, &base, &sum);
    else if (large)
      sum = fn_totals_value(large);
    const fn_group_line line = fn_line_of(l->how, l->inverse, &sum, base);
    if (good && k->finishes)
      good = finish_channels(l, &line, i, i + per);
    if (good)
      continue;
    all = false;
    for (size_t j = i; j < i + per; j++)
      l->b->is_slow[j] = true;
  }
  return all;
}

FN_WORD bool finish(const fn_block_work *k, bool f32) {
  const size_t rows = k->v->g.rows, per = k->w->per;
  const ptrdiff_t first = (ptrdiff_t)k->v->first;
  const loop l = {.k = k,
                  .b = k->b,
                  .to = k->to,
                  .r = k->w->r ? fn_element(k->w->dtype, k->w->r, first) : NULL,
                  .d = k->w->d ? fn_element(k->w->dtype, k->w->d, first) : NULL,
                  .count = k->count,
                  .root = sqrt(k->elements),
                  .inverse = 1.0 / k->elements,
                  .how = k->w->statistics,
                  .f32 = f32,
                  .exact = k->w->rstd != NULL,
                  .factors = k->v->y.y != NULL};
  const bool in_lanes = k->adds && k->finishes && !k->large && l.how == FN_OF_X &&
                        l.factors && !l.r && !l.d &&
                        (FN_AT_ONCE % per == 0 || rows <= FN_AT_ONCE);
  /* Pieces that are not the last one end where the kernels do. */
  const size_t some = in_lanes && FN_AT_ONCE % per == 0 ? FN_AT_ONCE : rows;
  bool all = true;
  for (size_t i = 0; i < rows; i += some) {
    const size_t n = rows - i < some ? rows - i : some;
    if (!in_lanes || !fn_channels_at_once(k, f32 ? &of_f32 : &of_f64, i, n))
      all &= one_by_one(&l, i, i + n);
  }
  return all;
}

bool fn_block_finish(const fn_block_work *k) {
  return k->w->dtype == FASTNORM_FLOAT32 ? finish(k, true) : finish(k, false);
}
