/* channels_backward.c - gradients of the norms of channels: from sums to gradients.
 * SPDX-License-Identifier: MIT
 *
 * Where a group has more channels than a block, blocks are gone through twice, and
 * their sums found twice where they are asked for. */
#include "channels_backward.h"

#include <string.h>

#include "channels_statistics.h"
#include "check.h"
#include "threads.h"

#define PIECE_BYTES 1048576
#define STRIP_BYTES 98304
#define AHEAD_BYTES 131072 /* of a strip: more would not stay in a cache */

/* ---- views ---- */

static fn_runs runs_of(const fn_backward *w, const void *p, ptrdiff_t stride,
                       ptrdiff_t channel_stride, size_t sample, size_t first,
                       size_t n) {
  const bool all = sample == FN_ALL_SAMPLES;
  const ptrdiff_t apart = w->channels_last ? 1 : channel_stride;
  const ptrdiff_t at =
      (all ? 0 : (ptrdiff_t)sample * stride) + (ptrdiff_t)first * apart;
  /* the size of the scratch is also asked for without arrays */
  fn_runs g = {.x = p ? (const char *)p + at * (ptrdiff_t)w->f.source.element : NULL,
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

/* A loop for each dtype: this is per channel, and those may be short. */
static void read_weights(const fn_backward *w, const fn_view *v, fn_channel_block *b) {
  fn_column_array room;
  const size_t n = v->g.rows;
  const void *p = fn_vector_read(w->kernels, w->dtype, &w->weight, v->first, n, &room);
  const float *f32 = p;
  const double *f64 = p;
  if (p && w->dtype == FASTNORM_FLOAT32)
    for (size_t i = 0; i < n; i++)
      b->weight[i] = (double)f32[i];
  else
    for (size_t i = 0; i < n; i++)
      b->weight[i] = p ? f64[i] : 1.0;
  for (size_t i = 0; w->r && i < n; i++)
    b->weight[i] *= fn_get(w->dtype, w->r, v->first + i);
}

/* What the sums need of a block whose means and rstd are known. */
static void prepare(const fn_backward *w, const fn_view *v, fn_channel_block *b) {
  read_weights(w, v, b);
  for (size_t i = 0; !w->rstd && i < v->g.rows; i++)
    fn_set(w->dtype, &b->scale, i, b->rstd[i]);
  if (w->sums)
    fn_view_shift(w, v, b);
  else
    memset(&b->shift, 0, sizeof(b->shift));
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

static fn_block_work block_work(const fn_backward *w, const fn_view *v,
                                fn_channel_block *b) {
  const double count = (double)v->g.segs * (double)v->g.len;
  return (fn_block_work){.w = w,
                         .v = v,
                         .b = b,
                         .count = count,
                         .elements = count * (double)w->per,
                         .adds = w->sums,
                         .finishes = true};
}

/* Whole groups, whose sums are there; those that leave the range are done at once. */
static void finish_block(const fn_backward *w, const fn_view *v, size_t row,
                         const fn_channel_gradients *to, fn_channel_block *b) {
  fn_block_work k = block_work(w, v, b);
  if (to)
    k.to = shifted(to, row);
  if (fn_block_finish(&k))
    return;
  for (size_t i = 0; i < v->g.rows; i += w->per) {
    if (!b->is_slow[i])
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
    fn_set(w->dtype, &b->scale, i, rstd);
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
  fn_channel_block b;
  fn_group_totals totals = {.channels = 0};
  bool good = fn_group_statistics(w, v, &b);
  const double hi = fn_get(w->dtype, &b.hi, 0);
  const double rstd = w->rstd ? fn_get(w->dtype, &b.scale, 0) : b.rstd[0];
  for (int pass = 0; pass < 3; pass++)
    for (size_t c = 0; c < w->per && good; c += FN_COLUMNS) {
      const fn_view part = large_part(w, v, c, hi, rstd, &b);
      fn_block_work k = block_work(w, &part, &b);
      if (to && pass == 2)
        k.to = shifted(to, c);
      k.large = &totals;
      k.adds = pass == 0 && w->sums;
      k.finishes = pass > 0;
      if (w->sums && pass != 1)
        fn_view_sums(w, &part, NULL, &b);
      good = fn_block_finish(&k);
      if (good && pass == 2 && part.y.y)
        fn_view_gradient(w, &part, 0, &b);
    }
  if (!good)
    fn_view_slow(w, v, to);
}

/* ---- all of a view ---- */

/* How many channels, of whole groups, to take at a time: what the second-level cache
 * holds from their sums to their gradient, and with it those that come next. */
static size_t strip_of(const fn_backward *w, const fn_view *v) {
  const size_t most = FN_COLUMNS / w->per * w->per;
  const size_t group = w->per * v->g.len * fn_dtype_size(w->dtype);
  const size_t fit = group < STRIP_BYTES ? STRIP_BYTES / group * w->per : w->per;
  return v->columns || v->g.segs > 1 || fit > most ? most : fit;
}

/* The next channels of all samples may be another thread's. */
static bool works_alone(const fastnorm_exec *exec) {
  const int threads =
      exec->num_threads ? exec->num_threads : fastnorm_get_num_threads();
  return threads == 1 && !exec->parallel_for;
}

/* Whether a strip follows the one of n channels from `row` on: in the sample, or where
 * all of them follow each other in the next; or as many channels of all samples (one
 * thread, [32, 256, 14, 14]: 470 -> 440 us from caches, 820 -> 640 from memory; AMD
 * EPYC Zen 5, avx512). */
static bool has_next(const fn_backward *w, const fn_view *v, size_t row, size_t n) {
  const size_t at = v->first + row, all = w->channels;
  if (v->columns || n * v->g.segs * v->g.len * fn_dtype_size(w->dtype) > AHEAD_BYTES)
    return false;
  if (v->g.segs > 1)
    return at + 2 * n <= all && works_alone(w->exec);
  const size_t sample = v->statistic / (all / w->per);
  const bool packed = w->g_stride == (ptrdiff_t)all * w->g_channel_stride &&
                      w->x_stride == (ptrdiff_t)all * w->x_channel_stride;
  return at + 2 * n <= all || (packed && sample + 1 < w->batch);
}

void fn_view_backward(const fn_backward *w, const fn_view *v,
                      const fn_channel_gradients *to) {
  const size_t most = strip_of(w, v);
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
    fn_view part = fn_view_rows(w, v, c, left < most ? left : most);
    fn_channel_block b;
    part.ahead = has_next(w, v, c, part.g.rows) ? part.g.rows : 0;
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
