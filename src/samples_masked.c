/* samples_masked.c - groups of channels where not all positions take part.
 * SPDX-License-Identifier: MIT */
#include "samples.h"

static size_t channels_per_group(const fn_samples_work *w) {
  return w->channels / w->groups;
}

size_t fn_samples_count(const fn_samples_work *w, size_t sample, size_t first) {
  const size_t per = channels_per_group(w);
  size_t count = 0;
  if (!w->is_masked)
    return per * w->spatial;
  if (fn_mask_is_shared(&w->mask))
    return per * fn_mask_count(&w->mask, sample, 0);
  for (size_t c = first * per; c < (first + 1) * per; c++)
    count += fn_mask_count(&w->mask, sample, c);
  return count;
}

double fn_samples_weight(const fn_samples_work *w, size_t sample, size_t channel,
                         size_t count) {
  return w->is_masked && w->mask.weighted ? fn_mask_weight(&w->mask, sample, channel)
                                          : (double)count;
}

size_t fn_samples_block(const fn_samples_work *w) {
  return w->is_masked ? fn_masked_most(&w->mask) : FN_GROUP;
}

static const void *x_of(const fn_samples_work *w, ptrdiff_t i) {
  return (const char *)w->x + i * (ptrdiff_t)w->f.source.element;
}

static void *y_of(const fn_samples_work *w, ptrdiff_t i) {
  return (char *)w->y + i * (ptrdiff_t)w->f.sink.element;
}

void fn_samples_empty(const fn_samples_work *w, size_t sample, size_t first, size_t n) {
  const fn_masked_output o = {&w->mask, &w->f, w->x == w->y};
  const size_t per = channels_per_group(w);
  const ptrdiff_t from = (ptrdiff_t)(first * per), i = (ptrdiff_t)sample;
  for (size_t g = 0; g < n; g++)
    fn_samples_report(w, sample * w->groups + first + g, 0.0, 0.0);
  for (size_t s = 0; w->channels_last && s < w->spatial; s++)
    fn_masked_fill(
        &o, x_of(w, i * w->x_stride + (ptrdiff_t)s * w->x_channel_stride + from),
        y_of(w, i * w->y_stride + (ptrdiff_t)s * w->y_channel_stride + from), n * per);
  for (size_t c = 0; !w->channels_last && c < n * per; c++)
    fn_masked_fill(
        &o, x_of(w, i * w->x_stride + (from + (ptrdiff_t)c) * w->x_channel_stride),
        y_of(w, i * w->y_stride + (from + (ptrdiff_t)c) * w->y_channel_stride),
        w->spatial);
}

fn_runs fn_samples_masked_run(const fn_samples_work *w, size_t sample, size_t first,
                              size_t n, fn_masked_source *s) {
  const size_t per = channels_per_group(w);
  const ptrdiff_t from = (ptrdiff_t)(first * per), channels = (ptrdiff_t)per;
  const ptrdiff_t next = w->channels_last ? 1 : w->x_channel_stride;
  const ptrdiff_t at = (ptrdiff_t)sample * w->x_stride + from * next;
  const bool wide =
      w->channels_last && fn_mask_is_shared(&w->mask) && !w->mask.weighted;
  fn_positions *p = &s->where;
  size_t begin, count;
  if (!w->channels_last && per == 1 && !w->mask.weighted &&
      fn_mask_is_stretch(&w->mask, sample, first, &begin, &count))
    return (fn_runs){.x = x_of(w, at + (ptrdiff_t)begin), /* as they lie there */
                     .rows = n,
                     .row_stride = w->x_channel_stride,
                     .segs = 1,
                     .len = count,
                     .source = w->f.gathers ? &w->f.source : NULL};
  fn_masked_begin_sample(&w->mask, &w->f, sample, first * per,
                         w->channels_last ? w->x_channel_stride : 1, s);
  if (wide) {
    p->width = per;
  } else { /* its channels are what samples are to a channel of batch norm */
    p->samples = per;
    p->stride = w->mask.channel_stride;
    p->lengths_step = 0;
    p->x_stride = next;
  }
  return (fn_runs){.x = x_of(w, at),
                   .rows = n,
                   .row_stride = channels * next,
                   .segs = 1,
                   .len = fn_samples_count(w, sample, first),
                   .source = &s->source};
}

fn_table fn_samples_masked_table(const fn_samples_work *w, size_t sample,
                                 const fn_table *all, fn_masked_source *s) {
  fn_table t = *all;
  fn_masked_begin_sample(&w->mask, &w->f, sample, 0, t.stride, s);
  t.rows = fn_mask_count(&w->mask, sample, 0);
  t.source = &s->source;
  return t;
}
