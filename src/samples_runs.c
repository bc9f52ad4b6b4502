/* samples_runs.c - groups of channels that lie apart: [batch, channels, spatial].
 * SPDX-License-Identifier: MIT
 *
 * A group is a run; its statistics are then those of each of its channels, which have
 * weights and biases of their own. */

#include "check.h"
#include "dispatch.h"
#include "samples.h"
#include "scale.h"

#define GROUP_BYTES 28672

/* Groups first.. of a sample as runs of one segment each. Where the channels of a group
 * are not adjacent they are made so by a source, so that the sums, and with them the
 * bits, are the same. */
static fn_runs groups_of(const fn_samples_work *w, size_t sample, size_t first,
                         size_t n, fn_masked_source *masked) {
  if (w->is_masked && !fn_samples_given(w))
    return fn_samples_masked_run(w, sample, first, n, masked);
  const size_t channels = w->channels / w->groups;
  const ptrdiff_t at = (ptrdiff_t)sample * w->x_stride +
                       (ptrdiff_t)(first * channels) * w->x_channel_stride;
  const bool adjacent = w->x_channel_stride == (ptrdiff_t)w->spatial;
  return (fn_runs){.x = (const char *)w->x + at * (ptrdiff_t)w->f.source.element,
                   .rows = n,
                   .row_stride = (ptrdiff_t)channels * w->x_channel_stride,
                   .segs = 1,
                   .len = channels * w->spatial,
                   .far = w->far,
                   .source = !adjacent && channels > 1 ? &w->apart
                             : w->f.gathers            ? &w->f.source
                                                       : NULL};
}

/* Some groups between the two passes over them. */
typedef struct group_state {
  size_t first, n;
  bool empty; /* nothing takes part, and all is done */
  fn_group_stats found;
} group_state;

/* Up to FN_GROUP channels between the statistics of their groups and their output. */
typedef struct channel_block {
  fn_group_stats *s, room;
  fn_group_array rstd, scale, offset, weight_room, bias_room;
  const void *weight, *bias;
} channel_block;

/* The statistics of channels first.. of the sample: channel c is of group c / channels.
 * Groups of a channel each, if all of them are asked for, are as they were found. */
static void spread(const fn_samples_work *w, group_state *state, size_t first, size_t n,
                   channel_block *b) {
  const size_t channels = w->channels / w->groups;
  fn_group_stats *found = &state->found;
  size_t g = first / channels - state->first, left = channels - first % channels;
  b->s = channels == 1 && n == state->n ? found : &b->room;
  if (b->s == found)
    return;
  b->s->any_slow = found->any_slow;
  for (size_t i = 0, some; i < n; i += some, g++, left = channels) {
    some = n - i < left ? n - i : left;
    fn_fill(w->dtype, &b->s->hi, i, some, fn_get(w->dtype, &found->hi, g));
    fn_fill(w->dtype, &b->s->lo, i, some, fn_get(w->dtype, &found->lo, g));
    fn_fill(FASTNORM_FLOAT64, b->s->var, i, some, found->var[g]);
    for (size_t k = i; found->any_slow && k < i + some; k++) {
      b->s->is_slow[k] = found->is_slow[g];
      if (b->s->is_slow[k])
        b->s->slow[k] = found->slow[g];
    }
  }
}

/* Scale and offset; channels whose weight takes them out of range become slow, with the
 * statistics of their group. */
static void scale(const fn_samples_work *w, size_t first, size_t n, channel_block *b) {
  bool was_slow[FN_GROUP];
  const bool any_was = b->s->any_slow;
  for (size_t i = 0; any_was && i < n; i++)
    was_slow[i] = b->s->is_slow[i];
  b->weight =
      fn_vector_read(w->kernels, w->dtype, &w->weight, first, n, &b->weight_room);
  b->bias = fn_vector_read(w->kernels, w->dtype, &w->bias, first, n, &b->bias_room);
  const fn_scale_input in = {.n = n,
                             .eps = w->eps,
                             .given = fn_samples_given(w),
                             .hi = &b->s->hi,
                             .lo = &b->s->lo,
                             .var = b->s->var,
                             .weight = b->weight,
                             .bias = b->bias};
  fn_scale(w->kernels, w->dtype, &in, &b->s->any_slow, b->s->is_slow, &b->rstd,
           &b->scale, &b->offset);
  for (size_t i = 0; b->s->any_slow && i < n; i++)
    if (b->s->is_slow[i] && !(any_was && was_slow[i]))
      fn_slow_given(fn_get(w->dtype, &b->s->hi, i), fn_get(w->dtype, &b->s->lo, i),
                    b->s->var[i], w->eps, &b->s->slow[i]);
}

static void apply(const fn_samples_work *w, size_t sample, size_t first, size_t n,
                  const channel_block *b) {
  const ptrdiff_t at =
      (ptrdiff_t)sample * w->x_stride + (ptrdiff_t)first * w->x_channel_stride;
  const fn_runs g = {.x = (const char *)w->x + at * (ptrdiff_t)w->f.source.element,
                     .rows = n,
                     .row_stride = w->x_channel_stride,
                     .segs = 1,
                     .len = w->spatial,
                     .source = w->f.gathers ? &w->f.source : NULL};
  const fn_output all = {.y = w->y,
                         .row_stride = w->y_channel_stride,
                         .seg_stride = w->y_stride,
                         .post_add = w->post_add,
                         .post_add_row_stride = w->post_add_channel_stride,
                         .post_add_seg_stride = w->post_add_stride,
                         .sink = w->f.scatters ? &w->f.sink : NULL,
                         .stream = w->stream};
  const fn_output out = fn_output_at(w->dtype, &all, first, sample, 0);
  const fn_run_apply a = {.kernels = w->kernels,
                          .dtype = w->dtype,
                          .hi = &b->s->hi,
                          .scale = &b->scale,
                          .offset = &b->offset,
                          .s = b->s,
                          .weight = b->weight,
                          .bias = b->bias,
                          .step = 0};
  if (w->is_masked) {
    const fn_masked_output o = {&w->mask, &w->f, w->x == w->y};
    fn_masked_apply_runs(&o, &a, &g, &out, sample, first);
  } else {
    fn_runs_apply(&a, &g, &out);
  }
}

static void find(const fn_samples_work *w, const fn_runs *g, size_t sample,
                 size_t first, fn_group_stats *s) {
  double mean[FN_GROUP];
  if (!fn_samples_given(w)) {
    fn_runs_stats(w->kernels, w->dtype, g, w->eps, true, s);
    return;
  }
  s->any_slow = false;
  fn_samples_stored(w, sample, first, g->rows, mean, s->var);
  for (size_t r = 0; r < g->rows; r++) {
    fn_set(w->dtype, &s->hi, r, mean[r]);
    fn_set(w->dtype, &s->lo, r, 0.0);
  }
}

/* Mean and rstd of n groups, to the caller and into the sums over samples, there from
 * `to` on. */
static void report(const fn_samples_work *w, size_t at, size_t n, size_t count,
                   const fn_group_stats *s, fn_sample_sums *sums, size_t to) {
  for (size_t r = 0; (w->mean || w->rstd || sums) && r < n; r++) {
    const bool slow = s->any_slow && s->is_slow[r];
    const double t = s->var[r] + w->eps;
    const double mean = slow
                            ? fn_slow_mean(&s->slow[r])
                            : fn_get(w->dtype, &s->hi, r) + fn_get(w->dtype, &s->lo, r);
    fn_samples_report(w, at + r, mean,
                      slow ? fn_slow_rstd(&s->slow[r]) : fn_reciprocal_root(t));
    if (sums)
      fn_samples_sum(w, sums, to + r,
                     fn_samples_weight(w, at / w->groups, at % w->groups + r, count),
                     mean, slow ? fn_slow_var(&s->slow[r]) : s->var[r]);
  }
}

/* Whether what takes part of these groups fits a stage, and is not weighted. */
static bool is_packed(const fn_samples_work *w, const fn_runs *g) {
  return g->source && g->source->positions && !w->mask.weighted &&
         g->rows * g->len <= fn_stage_elements(w->dtype);
}

static void begin(const fn_samples_work *w, size_t sample, size_t first, size_t n,
                  fn_sample_sums *sums, size_t to, group_state *state) {
  const size_t count = fn_samples_count(w, sample, first);
  state->first = first;
  state->n = n;
  state->empty = count == 0 && !fn_samples_given(w);
  if (state->empty) {
    fn_samples_empty(w, sample, first, n);
    return;
  }
  fn_masked_source masked;
  fn_stage stage;
  fn_runs g = groups_of(w, sample, first, n, &masked);
  if (is_packed(w, &g)) /* from here on runs like any other, and taken together */
    g = fn_gather_runs(w->dtype, &g, false, &stage);
  find(w, &g, sample, first, &state->found);
  report(w, sample * w->groups + first, n, count, &state->found, sums, to);
}

static void end(const fn_samples_work *w, size_t sample, group_state *state) {
  const size_t channels = w->channels / w->groups, block = fn_samples_block(w);
  const size_t from = state->first * channels, to = from + state->n * channels;
  for (size_t c = from; !state->empty && c < to; c += block) {
    const size_t some = to - c < block ? to - c : block;
    channel_block b;
    spread(w, state, c, some, &b);
    scale(w, c, some, &b);
    apply(w, sample, c, some, &b);
  }
}

/* Groups that stay in the first-level cache between the two passes. [32, 256, 196] in
 * 32 groups: 207 us, with 128 KiB of them at once 235; beginning the statistics of the
 * next before these are applied pushes them out: 250 (AMD EPYC Zen 5, avx512). Not so
 * everywhere: fn_bundle_bytes(). */
static size_t groups_at_once(const fn_samples_work *w) {
  const size_t group = w->channels / w->groups * w->spatial * fn_dtype_size(w->dtype);
  const size_t fit = fn_bundle_bytes(w->kernels, GROUP_BYTES) / group;
  if (fit < 16)
    return fit < 1 ? 1 : fit;
  return fit / 16 * 16; /* the kernels finish 16 at a time */
}

void fn_samples_runs(const fn_samples_work *w, size_t sample, size_t first, size_t n,
                     fn_sample_sums *sums) {
  const size_t fit = groups_at_once(w), some = fit < n ? fit : n, last = first + n;
  group_state state;
  for (size_t r = first; r < last; r += some) {
    begin(w, sample, r, last - r < some ? last - r : some, sums, r - first, &state);
    end(w, sample, &state);
  }
}
