/* channels_backward.c - gradients of the norms of channels: from sums to gradients.
 * SPDX-License-Identifier: MIT
 *
 * Where a group has more channels than a block, blocks are gone through twice, and
 * their sums found twice where they are asked for. */
#include "channels_backward.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "channels_statistics.h"
#include "check.h"
#include "threads.h"

#define PIECE_BYTES 1048576

/* ---- views ---- */

static fn_runs runs_of(const fn_backward *w, const void *p, ptrdiff_t stride,
                       ptrdiff_t channel_stride, size_t sample, size_t first,
                       size_t n) {
  const bool all = sample == FN_ALL_SAMPLES;
  const ptrdiff_t apart = w->channels_last ? 1 : channel_stride;
  const ptrdiff_t at =
      (all ? 0 : (ptrdiff_t)sample * stride) + (ptrdiff_t)first * apart;
  fn_runs g = {.x = (const char *)p + at * (ptrdiff_t)w->f.source.element,
               .rows = n,
               .row_stride = apart,
               .source = w->f.gathers ? &w->f.source : NULL};
  if (w->channels_last) { /* the samples of batch norm are its rows */
    g.segs = all ? w->batch : w->spatial;
    g.seg_stride = all ? stride : channel_stride;
    g.len = 1;
  } else {
    g.segs = all ? w->batch : 1;
    g.seg_stride = stride;
    g.len = w->spatial;
  }
  return g;
}

fn_view fn_view_of(const fn_backward *w, size_t sample, size_t first, size_t n) {
  const bool all = sample == FN_ALL_SAMPLES;
  const fn_output y = {.y = w->y,
                       .row_stride = w->channels_last ? 1 : w->y_channel_stride,
                       .seg_stride =
                           all || !w->channels_last ? w->y_stride : w->y_channel_stride,
                       .sink = w->f.scatters ? &w->f.sink : NULL,
                       .stream = w->stream};
  fn_view v = {
      .g = runs_of(w, w->g, w->g_stride, w->g_channel_stride, sample, first, n),
      .x = runs_of(w, w->x, w->x_stride, w->x_channel_stride, sample, first, n),
      .y = y,
      .columns = w->channels_last,
      .fold = n == w->channels ? fn_column_fold(n) : 1,
      .first = first,
      .statistic = (all ? 0 : sample * (w->channels / w->per)) + first / w->per};
  const size_t element = v.y.sink ? w->f.sink.element : fn_dtype_size(w->dtype);
  const ptrdiff_t at =
      (all ? 0 : (ptrdiff_t)sample * w->y_stride) + (ptrdiff_t)first * v.y.row_stride;
  if (w->y)
    v.y.y = (char *)w->y + at * (ptrdiff_t)element;
  return v;
}

fn_view fn_view_rows(const fn_backward *w, const fn_view *v, size_t row, size_t n) {
  fn_view part = *v;
  part.g = fn_run_alone(&v->g, w->dtype, row);
  part.x = fn_run_alone(&v->x, w->dtype, row);
  part.g.rows = part.x.rows = n;
  if (v->y.y)
    part.y = fn_output_at(w->dtype, &v->y, row, 0, 0);
  part.first += row;
  part.statistic = v->statistic + row / w->per;
  part.fold = n == v->g.rows ? v->fold : 1;
  return part;
}

static fn_runs segments(const fn_backward *w, const fn_runs *g, size_t seg, size_t n) {
  const size_t element = g->source ? g->source->element : fn_dtype_size(w->dtype);
  fn_runs part = *g;
  part.x = (const char *)g->x + (ptrdiff_t)seg * g->seg_stride * (ptrdiff_t)element;
  part.segs = n;
  return part;
}

fn_view fn_view_segments(const fn_backward *w, const fn_view *v, size_t seg, size_t n) {
  fn_view part = *v;
  part.g = segments(w, &v->g, seg, n);
  part.x = segments(w, &v->x, seg, n);
  if (v->y.y)
    part.y = fn_output_at(w->dtype, &v->y, 0, seg, 0);
  return part;
}

/* ---- a block ---- */

double fn_weight_of(const fn_backward *w, size_t channel) {
  double room;
  const void *p = fn_vector_read(w->kernels, w->dtype, &w->weight, channel, 1, &room);
  const double weight = p ? fn_get(w->dtype, p, 0) : 1.0;
  return w->r ? weight * fn_get(w->dtype, w->r, channel) : weight;
}

static void read_weights(const fn_backward *w, const fn_view *v, fn_channel_block *b) {
  fn_column_array room;
  const size_t n = v->g.rows;
  const void *p = fn_vector_read(w->kernels, w->dtype, &w->weight, v->first, n, &room);
  for (size_t i = 0; i < n; i++) {
    b->weight[i] = p ? fn_get(w->dtype, p, i) : 1.0;
    if (w->r)
      b->weight[i] *= fn_get(w->dtype, w->r, v->first + i);
  }
}

/* What the sums need of a block whose means and rstd are known. */
static void prepare(const fn_backward *w, const fn_view *v, fn_channel_block *b) {
  read_weights(w, v, b);
  for (size_t i = 0; i < v->g.rows; i++)
    fn_set(w->dtype, &b->scale, i, b->rstd[i]);
  if (w->sums)
    fn_view_shift(w, v, b);
  else
    memset(&b->shift, 0, sizeof(b->shift));
}

static fn_channel_sums sums_of(const fn_backward *w, const fn_view *v,
                               const fn_channel_block *b, size_t i) {
  return (fn_channel_sums){.n = (double)v->g.segs * (double)v->g.len,
                           .weight = b->weight[i],
                           .shift = fn_get(w->dtype, &b->shift, i),
                           .d = b->d[i],
                           .dt = b->dt[i],
                           .t = b->x[i] * fn_get(w->dtype, &b->scale, i)};
}

static bool is_within(fastnorm_dtype dtype, double x, double f32, double f64) {
  return fabs(x) <= (dtype == FASTNORM_FLOAT32 ? f32 : f64);
}

/* Whether plain sums of channel i can be trusted: t = (x - hi) * scale has a scale of
 * full precision, nothing was too large, and if all is so small that it may have been
 * lost, it was nothing from the beginning. */
static bool sums_are_safe(const fn_backward *w, const fn_view *v,
                          const fn_channel_block *b, size_t i) {
  const fn_channel_sums c = sums_of(w, v, b, i);
  const double scale = fabs(b->rstd[i]), most = c.n * 0x1p20;
  const double d = fabs(c.d), dt = fabs(c.dt);
  const bool f32 = w->dtype == FASTNORM_FLOAT32;
  const double tiny = f32 ? 0x1p-100 : 0x1p-900;
  if (scale > 0.0 && !(scale >= tiny && is_within(w->dtype, scale, 0x1p100, 0x1p900)))
    return false;
  if (!is_within(w->dtype, scale, 0x1p100, 0x1p900) ||
      !is_within(w->dtype, d + dt, 0x1p120, 0x1p1000) ||
      !is_within(w->dtype, c.shift, 0x1p100, 0x1p900) ||
      !is_within(w->dtype, c.t, most * 0x1p40, most * 0x1p400))
    return false;
  if (d >= c.n * tiny || dt >= c.n * tiny)
    return true;
  const double largest = fn_view_largest(w, v, i);
  return largest <= 0.0 || largest >= tiny * (f32 ? 0x1p-10 : 0x1p-60);
}

/* The group whose channels are [from, from + n) of the block. */
static bool group_is_safe(const fn_backward *w, const fn_view *v,
                          const fn_channel_block *b, size_t from, size_t n) {
  for (size_t i = from; w->sums && i < from + n; i++)
    if (!sums_are_safe(w, v, b, i))
      return false;
  return true;
}

/* a, b and c of channel i; false if one leaves the range, or a term of y may though
 * their sum does not. */
static bool set_channel(const fn_backward *w, const fn_group_line *line,
                        const fn_channel_sums *c, double elements, size_t i,
                        fn_channel_block *b) {
  const fastnorm_dtype dtype = w->dtype;
  const double scale = fn_get(dtype, &b->scale, i), rstd = b->rstd[i];
  const double ratio = scale > 0.0 ? rstd / scale : 1.0;
  const double a = c->weight * rstd, slope = -rstd * ratio * ratio * line->slope;
  double rest = fn_line_rest(w->statistics, line, c);
  const double least = dtype == FASTNORM_FLOAT32 ? FLT_MIN : DBL_MIN;
  if (!is_within(dtype, a, 0x1p100, 0x1p1000) || (fabs(a) > 0.0 && fabs(a) < least))
    return false;
  fn_set(dtype, &b->a, i, a);
  if (w->statistics == FN_FIXED)
    return true;
  /* About the mean of g itself, where it is known: then the rest is next to nothing. */
  const double near = c->shift - rest / c->weight;
  if (w->statistics == FN_OF_X && is_within(dtype, near, 0x1p100, 0x1p1000)) {
    fn_set(dtype, &b->shift, i, near);
    rest += c->weight * (fn_get(dtype, &b->shift, i) - c->shift);
  }
  fn_set(dtype, &b->b, i, slope);
  fn_set(dtype, &b->c, i, rstd * rest);
  fn_set(dtype, &b->offset, i, -line->mean_t);
  return is_within(dtype, rstd * rest, 0x1p120, 0x1p1000) &&
         is_within(dtype, slope * sqrt(elements), 0x1p120, 0x1p1000);
}

static void report(const fn_backward *w, const fn_channel_gradients *to,
                   const fn_group_line *line, const fn_channel_sums *c, double rstd,
                   size_t channel, size_t i) {
  const double scale = w->dtype == FASTNORM_FLOAT32 ? (double)(float)rstd : rstd;
  const double ratio = scale > 0.0 ? rstd / scale : 1.0;
  const double r = w->r ? fn_get(w->dtype, w->r, channel) : 1.0;
  const double d = w->d ? fn_get(w->dtype, w->d, channel) : 0.0;
  const double bias = fn_line_bias(c);
  if (!to || i < to->from || i >= to->to)
    return;
  to->bias[i - to->from] = (fn_part){bias, 0.0};
  to->weight[i - to->from] =
      (fn_part){ratio * r * fn_line_weight(line, c) + (w->d ? d * bias : 0.0), 0.0};
}

/* Channels [from, from + n) of the block, which are `row` and so on of the view they
 * came from, have the totals of their group: coefficients and sums of each. */
static bool set_channels(const fn_backward *w, const fn_view *v,
                         const fn_group_totals *totals, double elements, size_t from,
                         size_t n, size_t row, const fn_channel_gradients *to,
                         fn_channel_block *b) {
  fn_group_line line;
  fn_totals_finish(w->statistics, elements, totals, &line);
  bool good = true;
  for (size_t i = from; i < from + n; i++) {
    const fn_channel_sums c = sums_of(w, v, b, i);
    report(w, to, &line, &c, b->rstd[i], v->first + i, row + i);
    if (v->y.y)
      good &= set_channel(w, &line, &c, elements, i, b);
  }
  return good;
}

static void add_channels(const fn_backward *w, const fn_view *v,
                         const fn_channel_block *b, size_t from, size_t n,
                         fn_group_totals *totals) {
  for (size_t i = from; w->sums && i < from + n; i++) {
    const fn_channel_sums c = sums_of(w, v, b, i);
    fn_totals_add(w->statistics, &c, totals);
  }
}

static fn_channel_gradients shifted(const fn_channel_gradients *to, size_t row) {
  fn_channel_gradients t = *to;
  t.from = to->from > row ? to->from - row : 0;
  t.to = to->to > row ? to->to - row : 0;
  if (to->from < row) {
    t.weight += row - to->from;
    t.bias += row - to->from;
  }
  return t;
}

/* Whole groups, whose sums are there; those that leave the range are done at once. */
static void finish_block(const fn_backward *w, const fn_view *v, size_t row,
                         const fn_channel_gradients *to, fn_channel_block *b) {
  const double channel = (double)v->g.segs * (double)v->g.len;
  for (size_t i = 0; i < v->g.rows; i += w->per) {
    fn_group_totals totals = {.channels = 0};
    add_channels(w, v, b, i, w->per, &totals);
    const bool good =
        !b->is_slow[i] && group_is_safe(w, v, b, i, w->per) &&
        set_channels(w, v, &totals, channel * (double)w->per, i, w->per, row, to, b);
    for (size_t k = i; k < i + w->per; k++)
      b->is_slow[k] = !good;
    if (good)
      continue;
    const fn_view group = fn_view_rows(w, v, i, w->per);
    fn_channel_gradients part;
    if (to)
      part = shifted(to, row + i);
    fn_view_slow(w, &group, to ? &part : NULL);
  }
}

/* Block of channels [c, c + ...) of a large group. */
static fn_view large_part(const fn_backward *w, const fn_view *v, size_t c, double hi,
                          double rstd, fn_channel_block *b) {
  const size_t left = w->per - c;
  const fn_view part = fn_view_rows(w, v, c, left < FN_COLUMNS ? left : FN_COLUMNS);
  for (size_t i = 0; i < part.g.rows; i++) {
    fn_set(w->dtype, &b->hi, i, hi);
    b->rstd[i] = rstd;
    b->is_slow[i] = false;
  }
  prepare(w, &part, b);
  return part;
}

/* A group of more channels than a block: its totals; what each channel would make of
 * them, as nothing may be written if one is out of range; and all again. */
static void large_group(const fn_backward *w, const fn_view *v,
                        const fn_channel_gradients *to) {
  const double elements = (double)w->per * (double)v->g.segs * (double)v->g.len;
  fn_channel_block b;
  fn_group_totals totals = {.channels = 0};
  bool good = fn_group_statistics(w, v, &b);
  const double hi = fn_get(w->dtype, &b.hi, 0), rstd = b.rstd[0];
  for (int pass = 0; pass < 3; pass++)
    for (size_t c = 0; c < w->per && good; c += FN_COLUMNS) {
      const fn_view part = large_part(w, v, c, hi, rstd, &b);
      const size_t n = part.g.rows;
      if (w->sums && pass != 1)
        fn_view_sums(w, &part, NULL, &b);
      if (pass == 0) {
        add_channels(w, &part, &b, 0, n, &totals);
        good &= group_is_safe(w, &part, &b, 0, n);
        continue;
      }
      good &=
          set_channels(w, &part, &totals, elements, 0, n, c, pass == 1 ? NULL : to, &b);
      if (pass == 2 && part.y.y)
        fn_view_gradient(w, &part, 0, &b);
    }
  if (!good)
    fn_view_slow(w, v, to);
}

/* ---- all of a view ---- */

void fn_view_backward(const fn_backward *w, const fn_view *v,
                      const fn_channel_gradients *to) {
  const size_t most = FN_COLUMNS / w->per * w->per;
  if (most == 0) {
    for (size_t c = 0; c < v->g.rows; c += w->per) {
      const fn_view group = fn_view_rows(w, v, c, w->per);
      fn_channel_gradients part;
      if (to)
        part = shifted(to, c);
      large_group(w, &group, to ? &part : NULL);
    }
    return;
  }
  for (size_t c = 0; c < v->g.rows; c += most) {
    const size_t left = v->g.rows - c;
    const fn_view part = fn_view_rows(w, v, c, left < most ? left : most);
    fn_channel_block b;
    fn_block_statistics(w, &part, false, &b);
    prepare(w, &part, &b);
    if (w->sums)
      fn_view_sums(w, &part, NULL, &b);
    finish_block(w, &part, c, to, &b);
    if (part.y.y)
      fn_view_gradient(w, &part, 0, &b);
  }
}

typedef struct shared_work {
  const fn_backward *w;
  const fn_view *v;
  const fn_channel_block *b;
  size_t segs; /* per piece of the gradient */
} shared_work;

static void sums_task(void *context, size_t index) {
  const shared_work *s = context;
  fn_view_chunk(s->w, s->v, s->b, index, s->w->scratch + index * 3 * s->v->g.rows);
}

static void gradient_task(void *context, size_t index) {
  const shared_work *s = context;
  const size_t first = index * s->segs, left = s->v->g.segs - first;
  const fn_view part =
      fn_view_segments(s->w, s->v, first, left < s->segs ? left : s->segs);
  fn_view_gradient(s->w, &part, 0, s->b);
}

size_t fn_view_scratch(const fn_backward *w, const fn_view *v) {
  const size_t chunks = fn_view_chunks(w, v);
  return chunks < 2 ? 0 : chunks * 3 * v->g.rows * sizeof(double);
}

void fn_view_backward_shared(const fn_backward *w, const fn_view *v,
                             const fn_channel_gradients *to) {
  const size_t row = v->g.rows * v->g.len * fn_dtype_size(w->dtype);
  const size_t bytes = 2 * v->g.segs * row, chunks = fn_view_chunks(w, v);
  const bool shared = w->scratch && chunks > 1;
  fn_channel_block b;
  shared_work s = {.w = w, .v = v, .b = &b};
  fn_block_statistics(w, v, shared, &b);
  prepare(w, v, &b);
  if (w->sums && shared)
    fn_parallel_for(w->exec, chunks, bytes, sums_task, &s);
  if (w->sums)
    fn_view_sums(w, v, shared ? w->scratch : NULL, &b);
  finish_block(w, v, 0, to, &b);
  if (!v->y.y)
    return;
  s.segs = PIECE_BYTES / row > 1 ? PIECE_BYTES / row : 1;
  fn_parallel_for(w->exec, (v->g.segs + s.segs - 1) / s.segs, bytes, gradient_task, &s);
}
