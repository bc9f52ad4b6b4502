/* batch_norm_work.c - batch norm: the work, from statistics to result.
 * SPDX-License-Identifier: MIT
 *
 * Training takes a group of channels from statistics to result before the next, so that
 * the second read comes from the cache where a channel fits it. */
#include <string.h>

#include "batch_norm_work.h"
#include "check.h"
#include "lp.h"
#include "scale.h"
#include "threads.h"

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

void fn_batch_report(const fn_batch_work *w, size_t c, const fn_column_result *found) {
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

void fn_batch_report_all(const fn_batch_work *w, size_t first, size_t n, const void *hi,
                         const void *lo, const double *var, const void *rstd) {
  const fastnorm_dtype dtype = w->a.dtype;
  const size_t bytes = n * fn_dtype_size(dtype);
  if (w->mean) /* hi is the mean rounded to a float; that of doubles may lack a bit */
    memcpy(fn_element(dtype, w->mean, (ptrdiff_t)first), hi, bytes);
  for (size_t i = 0; w->mean && lo && dtype == FASTNORM_FLOAT64 && i < n; i++)
    ((double *)w->mean)[first + i] += ((const double *)lo)[i];
  if (w->rstd)
    memcpy(fn_element(dtype, w->rstd, (ptrdiff_t)first), rstd, bytes);
  if (w->running.mean)
    update_running(w, first, n, hi, lo, var);
}

void fn_batch_report_norms(const fn_batch_work *w, size_t first, size_t n,
                           const double *norms) {
  for (size_t c = 0; w->rstd && c < n; c++)
    fn_set(w->a.dtype, w->rstd, first + c, norms[c]);
}

void fn_batch_read_running(const fn_batch_work *w, size_t first, size_t n, void *hi,
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

fn_output fn_batch_output(const fn_batch_work *w, size_t first, size_t sample) {
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

/* The weight and bias that r and d make of a group's. rstd, which is to be reported,
 * is found here: the scale will be another. */
static void renorm_group(const fn_batch_work *w, size_t first, size_t rows,
                         const fn_group_stats *s, fn_batch_parameters *p) {
  const fastnorm_dtype dtype = w->a.dtype;
  fn_group_array mean;
  double var[FN_GROUP];
  fn_batch_read_running(w, first, rows, &mean, var);
  const fn_renorm_input in = {.first = first,
                              .n = rows,
                              .eps = w->eps,
                              .hi = &s->hi,
                              .lo = &s->lo,
                              .var = s->var,
                              .is_slow = s->any_slow ? s->is_slow : NULL,
                              .slow = s->slow,
                              .stored_mean = &mean,
                              .stored_var = var,
                              .weight = p->weight,
                              .bias = p->bias};
  const fn_renorm_output out = {&p->weight_room, &p->bias_room, p->var, p->is_stored};
  fn_renorm_correct(dtype, w->renorm, &in, &out);
  w->a.kernels->affine(rows, s->var, w->eps, NULL, NULL, NULL, NULL, &p->rstd,
                       &p->scale, NULL);
  /* Where r and d say nothing, all is as without them, to the bit. */
  if (p->weight || w->renorm->r_max > 1.0)
    p->weight = &p->weight_room;
  if (p->bias || w->renorm->d_max > 0.0)
    p->bias = &p->bias_room;
}

void fn_batch_scale(const fn_batch_work *w, size_t first, const fn_runs *g,
                    fn_group_stats *s, fn_batch_parameters *p) {
  const fn_kernels *k = w->a.kernels;
  const fastnorm_dtype dtype = w->a.dtype;
  p->weight = fn_vector_read(k, dtype, &w->weight, first, g->rows, &p->weight_room);
  p->bias = fn_vector_read(k, dtype, &w->bias, first, g->rows, &p->bias_room);
  if (w->a.about_zero) {
    fn_runs_lp(k, dtype, g, 0.0, p->weight, s, &p->scale);
    return;
  }
  if (w->renorm)
    renorm_group(w, first, g->rows, s, p);
  const fn_scale_input in = {.n = g->rows,
                             .eps = w->eps,
                             .given = !w->training,
                             .hi = &s->hi,
                             .lo = &s->lo,
                             .var = w->renorm ? p->var : s->var,
                             .weight = p->weight,
                             .bias = p->bias};
  fn_scale(k, dtype, &in, &s->any_slow, s->is_slow, w->renorm ? NULL : &p->rstd,
           &p->scale, &p->offset);
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

/* What was reported of slow channels is not what batch renormalization applies. */
static void rescale_slow(const fn_batch_work *w, size_t rows, fn_group_stats *s,
                         const fn_batch_parameters *p) {
  for (size_t r = 0; w->renorm && s->any_slow && r < rows; r++)
    if (s->is_slow[r] && p->is_stored[r])
      fn_slow_rescale(p->var[r], w->eps, &s->slow[r]);
}

void fn_batch_report_group(const fn_batch_work *w, size_t first, size_t rows,
                           const fn_group_stats *s, const fn_batch_parameters *p) {
  const fastnorm_dtype dtype = w->a.dtype;
  if (w->a.about_zero) {
    fn_batch_report_norms(w, first, rows, s->sum);
    return;
  }
  if (!s->any_slow) {
    fn_batch_report_all(w, first, rows, &s->hi, w->training ? &s->lo : NULL, s->var,
                        &p->rstd);
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
    fn_batch_report(w, first + r, &found);
  }
}

void fn_batch_apply(const fn_batch_work *w, size_t first, size_t sample,
                    const fn_runs *g, const fn_output *out, const fn_group_stats *s,
                    const fn_batch_parameters *p) {
  const fn_run_apply a = {.kernels = w->a.kernels,
                          .dtype = w->a.dtype,
                          .hi = w->a.about_zero ? NULL : &s->hi,
                          .scale = &p->scale,
                          .offset = &p->offset,
                          .s = s,
                          .weight = p->weight,
                          .bias = p->bias,
                          .step = 0};
  if (w->mask)
    fn_batch_masked_apply(w, first, sample, &a, g, out);
  else
    fn_runs_apply(&a, g, out);
}

fn_runs fn_batch_samples(const fn_batch_work *w, size_t first, size_t rows,
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
  fn_batch_parameters p;
  fn_runs_stats(w->a.kernels, w->a.dtype, &g, w->eps, !w->a.about_zero, &s);
  fn_batch_scale(w, first, &g, &s, &p);
  fn_batch_report_group(w, first, rows, &s, &p);
  rescale_slow(w, rows, &s, &p);
  const fn_runs samples = fn_batch_samples(w, first, rows, 0, w->a.batch);
  const fn_output out = fn_batch_output(w, first, 0);
  fn_batch_apply(w, first, 0, &samples, &out, &s, &p);
}

size_t fn_batch_masked_group(const fn_batch_work *w, size_t group) {
  const size_t most = w->mask ? fn_masked_most(w->mask) : group;
  return group < most ? group : most;
}

/* Statistics of `rows` channels of which not all takes part. */
static void masked_group_stats(const fn_batch_work *w, size_t first, size_t rows,
                               bool is_long, fn_group_stats *s,
                               fn_batch_parameters *p) {
  const fn_channels *a = &w->a;
  const size_t count = fn_mask_count_all(w->mask, first);
  const fn_batch_work one = fn_batch_of_count(w, first, count);
  fn_masked_source source;
  for (size_t r = 0; count == 0 && r < rows; r++)
    fn_batch_report(&one, first + r, &(fn_column_result){0.0, 0.0, 0.0});
  if (count == 0)
    return;
  const fn_runs g =
      fn_channels_masked_runs(a, w->mask, &w->f, first, rows, count, &source);
  if (is_long)
    fn_channels_long(a, &g, w->eps, s);
  else
    fn_runs_stats(a->kernels, a->dtype, &g, w->eps, true, s);
  fn_batch_scale(&one, first, &g, s, p);
  fn_batch_report_group(&one, first, rows, s, p);
}

static void masked_training_task(void *context, size_t index) {
  const fn_batch_work *w = context;
  const size_t group = fn_batch_masked_group(w, fn_channels_group(&w->a));
  const size_t first = index * group, left = w->a.channels - first;
  const size_t rows = left < group ? left : group;
  fn_group_stats s;
  fn_batch_parameters p;
  masked_group_stats(w, first, rows, false, &s, &p);
  const fn_runs samples = fn_batch_samples(w, first, rows, 0, w->a.batch);
  const fn_output out = fn_batch_output(w, first, 0);
  fn_batch_apply(w, first, 0, &samples, &out, &s, &p);
}

/* A long channel: its statistics by all threads, then its samples by all threads. */
typedef struct long_work {
  const fn_batch_work *w;
  size_t channel;
  const fn_group_stats *s;
  const fn_batch_parameters *p;
} long_work;

static void long_apply_task(void *context, size_t index) {
  const long_work *l = context;
  const fn_runs sample = fn_batch_samples(l->w, l->channel, 1, index, 1);
  const fn_output out = fn_batch_output(l->w, l->channel, index);
  fn_batch_apply(l->w, l->channel, index, &sample, &out, l->s, l->p);
}

static void long_channels(const fn_batch_work *w, size_t bytes) {
  for (size_t c = 0; c < w->a.channels; c++) {
    const fn_runs g = fn_channels_runs(&w->a, c, 1);
    fn_group_stats s;
    fn_batch_parameters p;
    long_work l = {.w = w, .channel = c, .s = &s, .p = &p};
    if (w->mask) {
      masked_group_stats(w, c, 1, true, &s, &p);
    } else {
      fn_channels_long(&w->a, &g, w->eps, &s);
      fn_batch_scale(w, c, &g, &s, &p);
      fn_batch_report_group(w, c, 1, &s, &p);
      rescale_slow(w, 1, &s, &p);
    }
    fn_parallel_for(w->a.exec, w->a.batch, bytes / w->a.channels, long_apply_task, &l);
  }
}

void fn_batch_run(fn_batch_work *w) {
  const fn_channels *a = &w->a;
  const size_t sample = a->channels * a->spatial * w->f.sink.element;
  const size_t bytes = a->batch * (sample + a->channels * a->spatial * a->element);
  w->stream = a->batch * sample >= FN_STREAM_BYTES && a->x != w->y;
  if (fn_channels_are_columns(a)) {
    for (size_t c = 0; c < a->channels; c += FN_COLUMNS)
      (w->mask ? fn_batch_masked_columns : fn_batch_columns)(
          w, c, a->channels - c < FN_COLUMNS ? a->channels - c : FN_COLUMNS);
  } else if (!w->training) {
    fn_batch_inference(w, bytes);
  } else if (fn_channels_are_long(a) && a->scratch) {
    long_channels(w, bytes);
  } else {
    const size_t group = fn_batch_masked_group(w, fn_channels_group(a));
    fn_parallel_for(a->exec, (a->channels + group - 1) / group, bytes,
                    w->mask ? masked_training_task : training_task, w);
  }
}
