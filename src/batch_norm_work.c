/* batch_norm_work.c - batch norm: the work, from statistics to result.
 * SPDX-License-Identifier: MIT
 *
 * Training takes a group of channels from statistics to result before the next, so that
 * the second read comes from the cache where a channel fits it. Inference walks through
 * memory in order. */
#include <string.h>

#include "batch_norm_work.h"
#include "check.h"
#include "scale.h"
#include "threads.h"

#define PIECE_BYTES 1048576

/* n channels from `first` on take in the batch's statistics. */
static void update_running(const fn_batch_work *w, size_t first, size_t n,
                           const void *hi, const void *lo, const double *var) {
  const fn_kernels *k = w->a.kernels;
  const fastnorm_dtype dtype = w->a.dtype;
  fn_column_array mean, variance;
  fn_running r = w->running;
  if (w->running_mean.dtype == dtype) {
    fn_running_update(&r, first, n, hi, lo, var);
    return;
  }
  fn_vector_read(k, dtype, &w->running_mean, first, n, &mean);
  fn_vector_read(k, dtype, &w->running_var, first, n, &variance);
  r.mean = &mean;
  r.var = &variance;
  fn_running_update(&r, 0, n, hi, lo, var);
  fn_vector_write(k, &w->running_mean, first, n, &mean);
  fn_vector_write(k, &w->running_var, first, n, &variance);
}

/* The statistics of channel c go to the caller, and into the running ones. */
static void report(const fn_batch_work *w, size_t c, const fn_column_result *found) {
  const fastnorm_dtype dtype = w->a.dtype;
  if (w->mean)
    fn_set(dtype, w->mean, c, found->mean);
  if (w->rstd)
    fn_set(dtype, w->rstd, c, found->rstd);
  if (!w->running.mean)
    return;
  if (w->running_mean.dtype == dtype) {
    fn_running_update_one(&w->running, c, found->mean, found->var);
  } else {
    fn_group_array hi, lo;
    fn_set(dtype, &hi, 0, found->mean);
    fn_set(dtype, &lo, 0, 0.0);
    update_running(w, c, 1, &hi, &lo, &found->var);
  }
}

/* Those of n channels of which none is slow; lo is NULL if hi was given. */
static void report_all(const fn_batch_work *w, size_t first, size_t n, const void *hi,
                       const void *lo, const double *var, const void *rstd) {
  const fastnorm_dtype dtype = w->a.dtype;
  const size_t bytes = n * fn_dtype_size(dtype);
  if (w->mean) /* hi is the mean rounded to the dtype */
    memcpy(fn_element(dtype, w->mean, (ptrdiff_t)first), hi, bytes);
  if (w->rstd)
    memcpy(fn_element(dtype, w->rstd, (ptrdiff_t)first), rstd, bytes);
  if (w->running.mean)
    update_running(w, first, n, hi, lo, var);
}

/* The stored statistics of n channels from `first`, as arrays of our own. */
static void read_running(const fn_batch_work *w, size_t first, size_t n, void *hi,
                         double *var) {
  const fastnorm_dtype dtype = w->a.dtype;
  fn_column_array room;
  const void *mean =
      fn_vector_read(w->a.kernels, dtype, &w->running_mean, first, n, &room);
  memcpy(hi, mean, n * fn_dtype_size(dtype));
  const void *variance =
      fn_vector_read(w->a.kernels, dtype, &w->running_var, first, n, &room);
  if (dtype == FASTNORM_FLOAT32)
    for (size_t i = 0; i < n; i++)
      var[i] = (double)((const float *)variance)[i];
  else
    memcpy(var, variance, n * sizeof(double));
}

/* y from channel `first` of sample n on; rows are channels, segments samples. */
static fn_output output_of(const fn_batch_work *w, size_t first, size_t sample) {
  const fn_output all = {.y = w->y,
                         .row_stride = w->y_channel_stride,
                         .seg_stride = w->y_stride,
                         .post_add = w->post_add,
                         .post_add_row_stride = w->post_add_channel_stride,
                         .post_add_seg_stride = w->post_add_stride,
                         .sink = w->f.scatters ? &w->f.sink : NULL,
                         .stream = w->stream};
  return fn_output_at(w->a.dtype, &all, first, sample, 0);
}

/* ---- channels as runs ---- */

typedef struct group_parameters {
  fn_group_array rstd, scale, offset, weight_room, bias_room;
  const void *weight, *bias;
} group_parameters;

static void scale_group(const fn_batch_work *w, size_t first, const fn_runs *g,
                        fn_group_stats *s, group_parameters *p) {
  const fn_kernels *k = w->a.kernels;
  const fastnorm_dtype dtype = w->a.dtype;
  p->weight = fn_vector_read(k, dtype, &w->weight, first, g->rows, &p->weight_room);
  p->bias = fn_vector_read(k, dtype, &w->bias, first, g->rows, &p->bias_room);
  const fn_scale_input in = {.n = g->rows,
                             .eps = w->eps,
                             .given = !w->training,
                             .hi = &s->hi,
                             .lo = &s->lo,
                             .var = s->var,
                             .weight = p->weight,
                             .bias = p->bias};
  fn_scale(k, dtype, &in, &s->any_slow, s->is_slow, &p->rstd, &p->scale, &p->offset);
  for (size_t r = 0; s->any_slow && r < g->rows; r++) {
    const fn_runs one = fn_run_alone(g, dtype, r);
    if (!s->is_slow[r])
      continue;
    if (w->training)
      fn_slow_stats(dtype, &one, w->eps, true, &s->slow[r]);
    else
      fn_slow_given(fn_get(dtype, &s->hi, r), 0.0, s->var[r], w->eps, &s->slow[r]);
  }
}

static void report_group(const fn_batch_work *w, size_t first, size_t rows,
                         const fn_group_stats *s, const group_parameters *p) {
  const fastnorm_dtype dtype = w->a.dtype;
  if (!s->any_slow) {
    report_all(w, first, rows, &s->hi, w->training ? &s->lo : NULL, s->var, &p->rstd);
    return;
  }
  for (size_t r = 0; r < rows; r++) {
    fn_column_result found;
    if (s->is_slow[r])
      found = (fn_column_result){fn_slow_mean(&s->slow[r]), fn_slow_var(&s->slow[r]),
                                 fn_slow_rstd(&s->slow[r])};
    else
      found = (fn_column_result){fn_get(dtype, &s->hi, r) +
                                     (w->training ? fn_get(dtype, &s->lo, r) : 0.0),
                                 s->var[r], fn_get(dtype, &p->rstd, r)};
    report(w, first + r, &found);
  }
}

/* g, or the part of it whose samples begin at x and y. */
static void apply_group(const fn_batch_work *w, const fn_runs *g, const fn_output *out,
                        const fn_group_stats *s, const group_parameters *p) {
  const fn_run_apply a = {.kernels = w->a.kernels,
                          .dtype = w->a.dtype,
                          .hi = &s->hi,
                          .scale = &p->scale,
                          .offset = &p->offset,
                          .s = s,
                          .weight = p->weight,
                          .bias = p->bias,
                          .step = 0};
  fn_runs_apply(&a, g, out);
}

/* Channels whose samples follow each other in x are one segment there, but perhaps not
 * in y: here each sample is a segment again. */
static fn_runs by_sample(const fn_batch_work *w, size_t first, size_t rows,
                         size_t sample, size_t samples) {
  const fn_channels *a = &w->a;
  return (fn_runs){.x = fn_channels_at(a, sample, first),
                   .source = a->source,
                   .rows = rows,
                   .row_stride = a->channel_stride,
                   .segs = samples,
                   .seg_stride = a->stride,
                   .len = a->spatial};
}

static void training_task(void *context, size_t index) {
  const fn_batch_work *w = context;
  const size_t group = fn_channels_group(&w->a), first = index * group;
  const size_t left = w->a.channels - first, rows = left < group ? left : group;
  const fn_runs g = fn_channels_runs(&w->a, first, rows);
  fn_group_stats s;
  group_parameters p;
  fn_runs_stats(w->a.kernels, w->a.dtype, &g, w->eps, true, &s);
  scale_group(w, first, &g, &s, &p);
  report_group(w, first, rows, &s, &p);
  const fn_runs samples = by_sample(w, first, rows, 0, w->a.batch);
  const fn_output out = output_of(w, first, 0);
  apply_group(w, &samples, &out, &s, &p);
}

static size_t inference_groups(const fn_batch_work *w) {
  return (w->a.channels + FN_GROUP - 1) / FN_GROUP;
}

static void inference_task(void *context, size_t index) {
  const fn_batch_work *w = context;
  const size_t groups = inference_groups(w), first = index % groups * FN_GROUP;
  const size_t left = w->a.channels - first, rows = left < FN_GROUP ? left : FN_GROUP;
  const size_t from = index / groups * w->samples;
  const size_t to = w->a.batch - from < w->samples ? w->a.batch : from + w->samples;
  const fn_runs g = fn_channels_runs(&w->a, first, rows);
  fn_group_stats s;
  group_parameters p;
  read_running(w, first, rows, &s.hi, s.var);
  s.any_slow = false;
  scale_group(w, first, &g, &s, &p);
  if (from == 0)
    report_group(w, first, rows, &s, &p);
  for (size_t n = from; n < to; n++) {
    const fn_runs sample = by_sample(w, first, rows, n, 1);
    const fn_output out = output_of(w, first, n);
    apply_group(w, &sample, &out, &s, &p);
  }
}

/* A long channel: its statistics by all threads, then its samples by all threads. */
typedef struct long_work {
  const fn_batch_work *w;
  size_t channel;
  const fn_group_stats *s;
  const group_parameters *p;
} long_work;

static void long_apply_task(void *context, size_t index) {
  const long_work *l = context;
  const fn_runs sample = by_sample(l->w, l->channel, 1, index, 1);
  const fn_output out = output_of(l->w, l->channel, index);
  apply_group(l->w, &sample, &out, l->s, l->p);
}

static void long_channels(const fn_batch_work *w, size_t bytes) {
  for (size_t c = 0; c < w->a.channels; c++) {
    const fn_runs g = fn_channels_runs(&w->a, c, 1);
    fn_group_stats s;
    group_parameters p;
    long_work l = {.w = w, .channel = c, .s = &s, .p = &p};
    fn_channels_long(&w->a, &g, w->eps, &s);
    scale_group(w, c, &g, &s, &p);
    report_group(w, c, 1, &s, &p);
    fn_parallel_for(w->a.exec, w->a.batch, bytes / w->a.channels, long_apply_task, &l);
  }
}

/* ---- channels as columns ---- */

typedef struct column_work {
  const fn_batch_work *w;
  const fn_table *t;
  size_t first; /* channel */
  const fn_column_stats *s;
  const fn_column_parameters *p;
  size_t rows; /* per piece */
} column_work;

static void column_apply_task(void *context, size_t index) {
  const column_work *c = context;
  const size_t first = index * c->rows, left = c->t->rows - first;
  const fn_table part =
      fn_table_rows(c->t, c->w->a.dtype, first, left < c->rows ? left : c->rows);
  const fn_output out = output_of(c->w, c->first, first);
  fn_columns_apply(c->w->a.kernels, c->w->a.dtype, &part, &out, c->s, c->p);
}

static void column_block(const fn_batch_work *w, size_t first, size_t cols) {
  const fn_channels *a = &w->a;
  const fn_table t = fn_channels_table(a, first, cols);
  fn_column_array weight, bias;
  const fn_column_parameters p = {
      .eps = w->eps,
      .centered = true,
      .given = !w->training,
      .weight = fn_vector_read(a->kernels, a->dtype, &w->weight, first, cols, &weight),
      .bias = fn_vector_read(a->kernels, a->dtype, &w->bias, first, cols, &bias)};
  const size_t row_bytes = cols * fn_dtype_size(a->dtype);
  const size_t fit = PIECE_BYTES / row_bytes;
  fn_column_stats s;
  if (w->training) {
    fn_channels_columns(a, &t, w->eps, &s);
  } else {
    read_running(w, first, cols, &s.hi, s.var);
    s.any_slow = false;
  }
  fn_columns_scale(a->kernels, a->dtype, cols, &p, &s);
  if (!s.any_slow)
    report_all(w, first, cols, &s.hi, w->training ? &s.lo : NULL, s.var, &s.rstd);
  for (size_t c = 0; s.any_slow && c < cols; c++) {
    fn_column_result found = {0.0, 0.0, 0.0};
    if (w->training)
      fn_column_read(a->dtype, &t, w->eps, true, &s, c, &found);
    else
      fn_column_given(a->dtype, w->eps, &s, c, &found);
    report(w, first + c, &found);
  }
  column_work c = {.w = w,
                   .t = &t,
                   .first = first,
                   .s = &s,
                   .p = &p,
                   /* a slow column reads the whole of itself: then in one piece */
                   .rows = s.any_slow ? t.rows : fit};
  fn_parallel_for(a->exec, (t.rows + c.rows - 1) / c.rows, 2 * t.rows * row_bytes,
                  column_apply_task, &c);
}

void fn_batch_run(fn_batch_work *w) {
  const fn_channels *a = &w->a;
  const size_t sample = a->channels * a->spatial * w->f.sink.element;
  const size_t bytes = a->batch * (sample + a->channels * a->spatial * a->element);
  w->stream = a->batch * sample >= FN_STREAM_BYTES && a->x != w->y;
  if (fn_channels_are_columns(a)) {
    for (size_t c = 0; c < a->channels; c += FN_COLUMNS)
      column_block(w, c, a->channels - c < FN_COLUMNS ? a->channels - c : FN_COLUMNS);
  } else if (!w->training) {
    w->samples = PIECE_BYTES / sample > 1 ? PIECE_BYTES / sample : 1;
    const size_t pieces = (a->batch + w->samples - 1) / w->samples;
    fn_parallel_for(a->exec, pieces * inference_groups(w), bytes, inference_task, w);
  } else if (fn_channels_are_long(a) && a->scratch) {
    long_channels(w, bytes);
  } else {
    const size_t group = fn_channels_group(a);
    fn_parallel_for(a->exec, (a->channels + group - 1) / group, bytes, training_task,
                    w);
  }
}
