/* channels.c - arrays [batch, channels, spatial]: what batch norm and moments share.
 * SPDX-License-Identifier: MIT */
#include "channels.h"

#include "check.h"
#include "sum.h"
#include "threads.h"

#define GROUP_BYTES 65536  /* always */
#define MOST_BYTES  262144 /* where there are enough groups for many threads */
#define GROUPS      16
#define LONG_BYTES  1048576 /* a channel that no core's own cache keeps anyway */

fastnorm_status fn_channels_read(const fastnorm_moments_args *args,
                                 const fastnorm_exec *exec, const fn_formats *f,
                                 fn_channels *a) {
  const size_t shape[3] = {args->batch, args->channels, args->spatial};
  const size_t x = f->source.element, y = f->sink.element;
  size_t count;
  if (exec->num_threads < 0)
    return FASTNORM_ERROR_THREADS;
  if (!fn_count(shape, x > y ? x : y, &count))
    return FASTNORM_ERROR_SHAPE;
  const ptrdiff_t s = (ptrdiff_t)args->spatial;
  *a = (fn_channels){
      .dtype = f->working,
      .source = f->gathers ? &f->source : NULL,
      .element = x,
      .x = args->x,
      .batch = count ? args->batch : 0,
      .channels = args->channels,
      .spatial = args->spatial,
      .stride = fn_stride(args->x_stride, args->batch, args->channels * args->spatial),
      .channel_stride = fn_stride(args->x_channel_stride, args->channels, (size_t)s),
      .exec = exec};
  /* a table's channels are adjacent: others can be described with spatial > 1 */
  return args->spatial == 1 && args->channels > 1 && a->channel_stride != 1
             ? FASTNORM_ERROR_STRIDE
             : FASTNORM_OK;
}

const void *fn_channels_at(const fn_channels *a, size_t n, size_t c) {
  const ptrdiff_t at = (ptrdiff_t)n * a->stride + (ptrdiff_t)c * a->channel_stride;
  /* the size of the scratch is also asked for without arrays */
  return a->x ? (const char *)a->x + at * (ptrdiff_t)a->element : NULL;
}

bool fn_channels_are_columns(const fn_channels *a) {
  return a->spatial == 1;
}

static size_t element_of(const fn_channels *a) {
  return fn_dtype_size(a->dtype);
}

static size_t channel_bytes(const fn_channels *a) {
  return a->batch * a->spatial * element_of(a);
}

bool fn_channels_are_long(const fn_channels *a) {
  return !fn_channels_are_columns(a) && channel_bytes(a) > LONG_BYTES;
}

size_t fn_channels_scratch(const fn_channels *a) {
  if (a->batch == 0 || a->channels == 0 || a->spatial == 0)
    return 0;
  if (fn_channels_are_columns(a)) {
    const size_t cols = a->channels < FN_COLUMNS ? a->channels : FN_COLUMNS;
    const fn_table t = fn_channels_table(a, 0, cols);
    const size_t chunks = fn_column_chunks(&t);
    return chunks < 2 ? 0 : chunks * cols * 2 * sizeof(double);
  }
  if (!fn_channels_are_long(a))
    return 0;
  const fn_runs g = fn_channels_runs(a, 0, 1);
  return fn_run_chunks(&g, a->dtype) * 2 * sizeof(double);
}

fn_table fn_channels_table(const fn_channels *a, size_t first, size_t cols) {
  return (fn_table){.x = fn_channels_at(a, 0, first),
                    .source = a->source,
                    .rows = a->batch,
                    .stride = a->stride,
                    .cols = cols,
                    .fold = fn_column_fold(a->channels)};
}

/* The channels of a sample are one stretch, and memory is slow to begin another.
 * Training of [32, 256, 196] with groups of 64, 128, 256 and 512 KiB: from a cache 300,
 * 300, 290, 284 us, from memory 880, 850, 830, 815; masked 505, 425, 390, 380 (AMD EPYC
 * Zen 5, avx512). Other processors have less of a second-level cache. */
size_t fn_channels_group(const fn_channels *a) {
  const size_t least = GROUP_BYTES / channel_bytes(a);
  const size_t most = MOST_BYTES / channel_bytes(a), share = a->channels / GROUPS;
  const size_t more = share < most ? share : most, fit = least > more ? least : more;
  return fit < 1 ? 1 : fit > FN_GROUP ? FN_GROUP : fit;
}

/* Short segments end before what is asked for is read. */
static bool is_far(const fn_channels *a) {
  const size_t channel = a->spatial * a->element;
  return channel >= 16384 && a->batch * a->channels * channel >= FN_STREAM_BYTES;
}

fn_runs fn_channels_runs(const fn_channels *a, size_t first, size_t rows) {
  return (fn_runs){.x = fn_channels_at(a, 0, first),
                   .source = a->source,
                   .rows = rows,
                   .row_stride = a->channel_stride,
                   .segs = a->batch,
                   .seg_stride = a->stride,
                   .len = a->spatial,
                   .far = is_far(a)};
}

static void begin_masked(const fn_channels *a, const fn_mask *m, const fn_formats *f,
                         size_t first, fn_masked_source *s) {
  if (fn_channels_are_columns(a))
    fn_masked_begin(m, f, first, (ptrdiff_t)m->positions * a->stride, a->stride, s);
  else
    fn_masked_begin(m, f, first, a->stride, 1, s);
}

fn_runs fn_channels_masked_runs(const fn_channels *a, const fn_mask *m,
                                const fn_formats *f, size_t first, size_t rows,
                                size_t count, fn_masked_source *s) {
  begin_masked(a, m, f, first, s);
  return (fn_runs){.x = fn_channels_at(a, 0, first),
                   .source = &s->source,
                   .rows = rows,
                   .row_stride = a->channel_stride,
                   .segs = 1,
                   .len = count};
}

fn_table fn_channels_masked_table(const fn_channels *a, const fn_mask *m,
                                  const fn_formats *f, size_t first, size_t cols,
                                  size_t count, fn_masked_source *s) {
  fn_table t = fn_channels_table(a, first, cols);
  begin_masked(a, m, f, first, s);
  t.source = &s->source;
  t.rows = count;
  return t;
}

/* The context of a task that sums one chunk into its place in scratch. */
typedef struct chunk_work {
  const fn_channels *a;
  const fn_table *t;
  const fn_column_array *column_shift;
  const fn_runs *g;
  const void *run_shift;
} chunk_work;

static void column_chunk_task(void *context, size_t index) {
  const chunk_work *w = context;
  double *sums = w->a->scratch + index * 2 * w->t->cols;
  fn_masked_source own;
  fn_table t = *w->t;
  t.source = fn_masked_own(t.source, &own);
  fn_columns_chunk(w->a->kernels, w->a->dtype, &t, w->column_shift, index, sums,
                   sums + t.cols);
}

void fn_channels_columns(const fn_channels *a, const fn_table *t, double eps,
                         fn_column_stats *s) {
  const size_t chunks = fn_column_chunks(t);
  const bool centered = !a->about_zero;
  if (centered)
    fn_columns_shift(a->kernels, a->dtype, t, s);
  if (chunks > 1 && a->scratch) {
    chunk_work w = {.a = a, .t = t, .column_shift = centered ? &s->shift : NULL};
    fn_parallel_for(a->exec, chunks, t->rows * t->cols * element_of(a),
                    column_chunk_task, &w);
    fn_columns_finish(a->kernels, a->dtype, t, eps, centered, a->scratch, s);
  } else {
    fn_columns_finish(a->kernels, a->dtype, t, eps, centered, NULL, s);
  }
}

static void run_chunk_task(void *context, size_t index) {
  const chunk_work *w = context;
  fn_runs c = fn_run_chunk(w->g, w->a->dtype, 0, index);
  fn_masked_source own;
  c.source = fn_masked_own(c.source, &own);
  double sum[FN_PAD] = {0.0}, sq[FN_PAD] = {0.0};
  fn_chunk_sums(w->a->kernels, w->a->dtype, &c, w->run_shift, sum, sq);
  w->a->scratch[2 * index] = sum[0];
  w->a->scratch[2 * index + 1] = sq[0];
}

void fn_channels_long(const fn_channels *a, const fn_runs *g, double eps,
                      fn_group_stats *s) {
  const size_t chunks = fn_run_chunks(g, a->dtype);
  if (fn_runs_are_weighted(g)) {
    fn_weighted_stats(a->dtype, g, eps, a->exec, a->scratch, s);
    return;
  }
  if (!a->about_zero)
    fn_runs_shift(a->kernels, a->dtype, g, &s->shift);
  for (size_t r = 0; r < g->rows; r++) {
    const fn_runs one = fn_run_alone(g, a->dtype, r);
    const void *shift = fn_element(a->dtype, &s->shift, (ptrdiff_t)r);
    chunk_work w = {.a = a, .g = &one, .run_shift = a->about_zero ? NULL : shift};
    fn_sum sum = {0.0, 0.0}, sq = {0.0, 0.0};
    fn_parallel_for(a->exec, chunks, channel_bytes(a), run_chunk_task, &w);
    for (size_t i = 0; i < chunks; i++) {
      fn_sum_add(&sum, a->scratch[2 * i]);
      fn_sum_add(&sq, a->scratch[2 * i + 1]);
    }
    s->sum[r] = fn_sum_value(&sum);
    s->sq[r] = fn_sum_value(&sq);
  }
  fn_runs_finish(a->kernels, a->dtype, g, eps, !a->about_zero, s);
}
