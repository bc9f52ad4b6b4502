/* batch_norm.c - batch norm: inference from stored statistics, and training.
 * SPDX-License-Identifier: MIT
 *
 * Training takes a group of channels from statistics to result before the next, so that
 * the second read comes from the cache where a channel fits it. Inference walks through
 * memory in order. */
#include <string.h>

#include "channels.h"
#include "check.h"
#include "dispatch.h"
#include "running.h"
#include "scale.h"
#include "threads.h"

#define PIECE_BYTES 1048576

typedef struct batch_work {
  fn_channels a;
  void *y;
  ptrdiff_t y_stride, y_channel_stride;
  const void *weight, *bias;
  const void *stored_mean, *stored_var; /* inference: what to apply */
  fn_running running;                   /* training: what to update, or no mean */
  void *mean, *rstd;
  double eps;
  bool training, stream;
  size_t samples; /* runs, inference: how many of the batch make a piece */
} batch_work;

static const void *offset_by(const batch_work *w, const void *p, size_t i) {
  return p ? fn_element(w->a.dtype, p, (ptrdiff_t)i) : NULL;
}

/* The statistics of channel c go to the caller, and into the running ones. */
static void report(const batch_work *w, size_t c, const fn_column_result *found) {
  const fastnorm_dtype dtype = w->a.dtype;
  if (w->mean)
    fn_set(dtype, w->mean, c, found->mean);
  if (w->rstd)
    fn_set(dtype, w->rstd, c, found->rstd);
  if (w->running.mean)
    fn_running_update_one(&w->running, c, found->mean, found->var);
}

/* Those of n channels of which none is slow; lo is NULL if hi was given. */
static void report_all(const batch_work *w, size_t first, size_t n, const void *hi,
                       const void *lo, const double *var, const void *rstd) {
  const fastnorm_dtype dtype = w->a.dtype;
  const size_t bytes = n * fn_dtype_size(dtype);
  if (w->mean) /* hi is the mean rounded to the dtype */
    memcpy(fn_element(dtype, w->mean, (ptrdiff_t)first), hi, bytes);
  if (w->rstd)
    memcpy(fn_element(dtype, w->rstd, (ptrdiff_t)first), rstd, bytes);
  if (w->running.mean)
    fn_running_update(&w->running, first, n, hi, lo, var);
}

/* The stored statistics of n channels from `first`, as arrays of our own. */
static void read_running(const batch_work *w, size_t first, size_t n, void *hi,
                         double *var) {
  const void *mean = offset_by(w, w->stored_mean, first);
  const void *variance = offset_by(w, w->stored_var, first);
  memcpy(hi, mean, n * (w->a.dtype == FASTNORM_FLOAT32 ? 4 : 8));
  if (w->a.dtype == FASTNORM_FLOAT32)
    for (size_t i = 0; i < n; i++)
      var[i] = (double)((const float *)variance)[i];
  else
    memcpy(var, variance, n * sizeof(double));
}

/* ---- channels as runs ---- */

typedef struct group_parameters {
  fn_group_array rstd, scale, offset;
} group_parameters;

static void scale_group(const batch_work *w, size_t first, const fn_runs *g,
                        fn_group_stats *s, group_parameters *p) {
  const fn_scale_input in = {.n = g->rows,
                             .eps = w->eps,
                             .given = !w->training,
                             .hi = &s->hi,
                             .lo = &s->lo,
                             .var = s->var,
                             .weight = offset_by(w, w->weight, first),
                             .bias = offset_by(w, w->bias, first)};
  fn_scale(w->a.kernels, w->a.dtype, &in, &s->any_slow, s->is_slow, &p->rstd, &p->scale,
           &p->offset);
  for (size_t r = 0; s->any_slow && r < g->rows; r++) {
    const fn_runs one = fn_run_alone(g, w->a.dtype, r);
    if (!s->is_slow[r])
      continue;
    if (w->training)
      fn_slow_stats(w->a.dtype, &one, w->eps, true, &s->slow[r]);
    else
      fn_slow_given(fn_get(w->a.dtype, &s->hi, r), s->var[r], w->eps, &s->slow[r]);
  }
}

static void report_group(const batch_work *w, size_t first, size_t rows,
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
static void apply_group(const batch_work *w, size_t first, const fn_runs *g, void *y,
                        const fn_group_stats *s, const group_parameters *p) {
  const fastnorm_dtype dtype = w->a.dtype;
  if (!s->any_slow) {
    w->a.kernels->apply_runs(g, y, w->y_channel_stride, w->y_stride, &s->hi, &p->scale,
                             &p->offset, NULL, NULL, w->stream);
    return;
  }
  for (size_t r = 0; r < g->rows; r++) {
    const ptrdiff_t i = (ptrdiff_t)r;
    const fn_runs one = fn_run_alone(g, dtype, r);
    void *out = fn_element(dtype, y, i * w->y_channel_stride);
    if (s->is_slow[r])
      fn_slow_apply(dtype, &one, out, w->y_stride, &s->slow[r],
                    offset_by(w, w->weight, first + r),
                    offset_by(w, w->bias, first + r), 0);
    else
      w->a.kernels->apply_runs(&one, out, 0, w->y_stride, fn_element(dtype, &s->hi, i),
                               fn_element(dtype, &p->scale, i),
                               fn_element(dtype, &p->offset, i), NULL, NULL, w->stream);
  }
}

/* Channels whose samples follow each other in x are one segment there, but perhaps not
 * in y: here each sample is a segment again. */
static fn_runs by_sample(const batch_work *w, size_t first, size_t rows, size_t sample,
                         size_t samples) {
  const fn_channels *a = &w->a;
  return (fn_runs){.x = fn_element(a->dtype, a->x,
                                   (ptrdiff_t)first * a->channel_stride +
                                       (ptrdiff_t)sample * a->stride),
                   .rows = rows,
                   .row_stride = a->channel_stride,
                   .segs = samples,
                   .seg_stride = a->stride,
                   .len = a->spatial};
}

static void *output_of(const batch_work *w, size_t first, size_t sample) {
  return fn_element(w->a.dtype, w->y,
                    (ptrdiff_t)first * w->y_channel_stride +
                        (ptrdiff_t)sample * w->y_stride);
}

static void training_task(void *context, size_t index) {
  const batch_work *w = context;
  const size_t group = fn_channels_group(&w->a), first = index * group;
  const size_t left = w->a.channels - first, rows = left < group ? left : group;
  const fn_runs g = fn_channels_runs(&w->a, first, rows);
  fn_group_stats s;
  group_parameters p;
  fn_runs_stats(w->a.kernels, w->a.dtype, &g, w->eps, true, &s);
  scale_group(w, first, &g, &s, &p);
  report_group(w, first, rows, &s, &p);
  const fn_runs samples = by_sample(w, first, rows, 0, w->a.batch);
  apply_group(w, first, &samples, output_of(w, first, 0), &s, &p);
}

static size_t inference_groups(const batch_work *w) {
  return (w->a.channels + FN_GROUP - 1) / FN_GROUP;
}

static void inference_task(void *context, size_t index) {
  const batch_work *w = context;
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
    apply_group(w, first, &sample, output_of(w, first, n), &s, &p);
  }
}

/* A long channel: its statistics by all threads, then its samples by all threads. */
typedef struct long_work {
  const batch_work *w;
  size_t channel;
  const fn_group_stats *s;
  const group_parameters *p;
} long_work;

static void long_apply_task(void *context, size_t index) {
  const long_work *l = context;
  const fn_runs sample = by_sample(l->w, l->channel, 1, index, 1);
  apply_group(l->w, l->channel, &sample, output_of(l->w, l->channel, index), l->s,
              l->p);
}

static void long_channels(const batch_work *w, size_t bytes) {
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
  const batch_work *w;
  const fn_table *t;
  void *y;
  const fn_column_stats *s;
  const fn_column_parameters *p;
  size_t rows; /* per piece */
} column_work;

static void column_apply_task(void *context, size_t index) {
  const column_work *c = context;
  const size_t first = index * c->rows;
  const ptrdiff_t row = (ptrdiff_t)first;
  fn_table part = *c->t;
  part.x = fn_element(c->w->a.dtype, part.x, row * part.stride);
  part.rows = part.rows - first < c->rows ? part.rows - first : c->rows;
  fn_columns_apply(c->w->a.kernels, c->w->a.dtype, &part,
                   fn_element(c->w->a.dtype, c->y, row * c->w->y_stride),
                   c->w->y_stride, c->s, c->p);
}

static void column_block(const batch_work *w, size_t first, size_t cols) {
  const fn_channels *a = &w->a;
  const fn_table t = fn_channels_table(a, first, cols);
  const fn_column_parameters p = {.eps = w->eps,
                                  .centered = true,
                                  .given = !w->training,
                                  .stream = w->stream,
                                  .weight = offset_by(w, w->weight, first),
                                  .bias = offset_by(w, w->bias, first)};
  const size_t row_bytes = cols * (a->dtype == FASTNORM_FLOAT32 ? 4 : 8);
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
                   .y = output_of(w, first, 0),
                   .s = &s,
                   .p = &p,
                   /* a slow column reads the whole of itself: then in one piece */
                   .rows = s.any_slow ? t.rows : fit};
  fn_parallel_for(a->exec, (t.rows + c.rows - 1) / c.rows, 2 * t.rows * row_bytes,
                  column_apply_task, &c);
}

/* ---- the call ---- */

static void run(batch_work *w) {
  const fn_channels *a = &w->a;
  const size_t sample =
      a->channels * a->spatial * (a->dtype == FASTNORM_FLOAT32 ? 4 : 8);
  const size_t bytes = 2 * a->batch * sample;
  w->stream = bytes / 2 >= FN_STREAM_BYTES && a->x != w->y;
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

static fastnorm_status read_channels(const fastnorm_batch_norm_args *args,
                                     fn_channels *a) {
  const fastnorm_moments_args x = {.size = sizeof(x),
                                   .dtype = args->dtype,
                                   .x = args->x,
                                   .batch = args->batch,
                                   .channels = args->channels,
                                   .spatial = args->spatial,
                                   .x_stride = args->x_stride,
                                   .x_channel_stride = args->x_channel_stride,
                                   .exec = args->exec};
  const fastnorm_status s = fn_channels_read(&x, a);
  a->exec = &args->exec;
  return s;
}

static fastnorm_status read_parameters(const fastnorm_batch_norm_args *args,
                                       batch_work *w) {
  const double momentum = args->momentum;
  const fastnorm_status s = fn_read_eps(args->eps, 1e-5, &w->eps);
  if (s != FASTNORM_OK)
    return s;
  if (momentum > 0.0 && momentum <= 1.0)
    w->running.factor = momentum;
  else if (momentum >= 0.0 && momentum <= 0.0)
    w->running.factor = 0.1;
  else if (momentum <= FASTNORM_MOMENTUM_CUMULATIVE &&
           momentum >= FASTNORM_MOMENTUM_CUMULATIVE)
    w->running.factor = 1.0 / ((double)args->num_batches_tracked + 1.0);
  else
    return FASTNORM_ERROR_MOMENTUM;
  if (!args->running_mean != !args->running_var)
    return FASTNORM_ERROR_RUNNING;
  if (!args->training && !args->running_mean && args->channels > 0)
    return FASTNORM_ERROR_RUNNING;
  return FASTNORM_OK;
}

static fastnorm_status check_arrays(const fastnorm_batch_norm_args *args,
                                    const batch_work *w) {
  const size_t n = args->channels;
  const fn_channels *a = &w->a;
  const bool writes = args->training != 0;
  const fn_array running_mean = {args->running_mean, {1, 1, n}, {0, 0, 1}};
  const fn_array running_var = {args->running_var, {1, 1, n}, {0, 0, 1}};
  const fn_array weight = {args->weight, {1, 1, n}, {0, 0, 1}};
  const fn_array bias = {args->bias, {1, 1, n}, {0, 0, 1}};
  const fn_array arrays[] = {
      {args->y, {a->batch, n, a->spatial}, {w->y_stride, w->y_channel_stride, 1}},
      {args->x, {a->batch, n, a->spatial}, {a->stride, a->channel_stride, 1}},
      writes ? weight : running_mean, /* running statistics: inputs, then outputs */
      writes ? bias : running_var,
      writes ? running_mean : weight,
      writes ? running_var : bias,
      {args->mean, {1, 1, n}, {0, 0, 1}},
      {args->rstd, {1, 1, n}, {0, 0, 1}},
  };
  return fn_check_arrays(arrays, writes ? 3 : 5, writes ? 4 : 2,
                         fn_dtype_size(args->dtype));
}

fastnorm_status fastnorm_batch_norm(const fastnorm_batch_norm_args *callers) {
  fastnorm_batch_norm_args args;
  batch_work w = {.samples = 0};
  fastnorm_status s = fn_read_args(&args, sizeof(args), sizeof(args), callers);
  if (s == FASTNORM_OK)
    s = read_channels(&args, &w.a);
  if (s == FASTNORM_OK)
    s = read_parameters(&args, &w);
  if (s != FASTNORM_OK || w.a.batch == 0)
    return s;
  const ptrdiff_t spatial = (ptrdiff_t)args.spatial;
  w.y_stride = args.y_stride ? args.y_stride : (ptrdiff_t)args.channels * spatial;
  w.y_channel_stride = args.y_channel_stride ? args.y_channel_stride : spatial;
  if (args.spatial == 1 && args.channels > 1 && w.y_channel_stride != 1)
    return FASTNORM_ERROR_STRIDE;
  s = check_arrays(&args, &w);
  if (s != FASTNORM_OK)
    return s;
  if (args.training && args.batch * args.spatial == 1)
    return FASTNORM_ERROR_COUNT;
  w.a.kernels = fn_dispatch(args.dtype);
  if (!w.a.kernels)
    return FASTNORM_ERROR_ISA;
  w.y = args.y;
  w.weight = args.weight;
  w.bias = args.bias;
  w.mean = args.mean;
  w.rstd = args.rstd;
  w.training = args.training != 0;
  if (w.training) {
    const double n = (double)args.batch * (double)args.spatial;
    w.running.dtype = args.dtype;
    w.running.mean = args.running_mean;
    w.running.var = args.running_var;
    w.running.unbias = n / (n - 1.0);
  } else {
    w.stored_mean = args.running_mean;
    w.stored_var = args.running_var;
  }
  const size_t need = w.training ? fn_channels_scratch(&w.a) : 0;
  w.a.scratch = need > 0 && args.scratch_size >= need ? args.scratch : NULL;
  run(&w);
  return FASTNORM_OK;
}

size_t fastnorm_batch_norm_scratch(const fastnorm_batch_norm_args *callers) {
  fastnorm_batch_norm_args args;
  fn_channels a;
  if (fn_read_args(&args, sizeof(args), sizeof(args), callers) != FASTNORM_OK)
    return 0;
  if (read_channels(&args, &a) != FASTNORM_OK)
    return 0;
  return args.training ? fn_channels_scratch(&a) : 0;
}
