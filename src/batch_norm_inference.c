/* batch_norm_inference.c - batch norm from stored statistics, channels as runs.
 * SPDX-License-Identifier: MIT */
#include "batch_norm_work.h"
#include "threads.h"

#define TASKS      8       /* at least, if there is enough to do */
#define NEAR_BYTES 1048576 /* of y, and as much of x: a core's own cache has them */
#define LONG_BYTES 262144  /* of y: a task beside which its parameters are nothing */

/* A task is a group of channels in some samples. Where there are few channels their
 * parameters are found once, else by each task. */
typedef struct inference {
  const fn_batch_work *w;
  size_t group, groups, samples;
  bool shared;
  fn_group_stats s;
  fn_batch_parameters p;
} inference;

static void find_stored(const fn_batch_work *w, size_t first, size_t rows, bool report,
                        fn_group_stats *s, fn_batch_parameters *p) {
  const fn_runs g = fn_channels_runs(&w->a, first, rows);
  fn_batch_read_running(w, first, rows, &s->hi, s->var);
  s->any_slow = false;
  fn_batch_scale(w, first, &g, s, p);
  if (report)
    fn_batch_report_group(w, first, rows, s, p);
}

static void apply_samples(const inference *i, size_t index, const fn_group_stats *s,
                          const fn_batch_parameters *p) {
  const fn_batch_work *w = i->w;
  const size_t first = index % i->groups * i->group, left = w->a.channels - first;
  const size_t rows = left < i->group ? left : i->group;
  const size_t from = index / i->groups * i->samples;
  const size_t to = w->a.batch - from < i->samples ? w->a.batch : from + i->samples;
  for (size_t n = from; n < to; n++) {
    const fn_runs sample = fn_batch_samples(w, first, rows, n, 1);
    const fn_output out = fn_batch_output(w, first, n);
    fn_batch_apply(w, first, n, &sample, &out, s, p);
  }
}

static void inference_task(void *context, size_t index) {
  const inference *i = context;
  fn_group_stats s;
  fn_batch_parameters p;
  if (i->shared) {
    apply_samples(i, index, &i->s, &i->p);
    return;
  }
  const size_t first = index % i->groups * i->group, left = i->w->a.channels - first;
  find_stored(i->w, first, left < i->group ? left : i->group, index < i->groups, &s,
              &p);
  apply_samples(i, index, &s, &p);
}

static size_t clamped(size_t n, size_t least, size_t most) {
  return n < least ? least : n > most ? most : n;
}

/* Tasks enough for many threads, by shape alone. Where x comes from memory they are of
 * many channels, as it is idle between the ends of one stretch and the beginning of the
 * next; in a cache of many samples, as then parameters are found less often. */
static void cut_inference(const fn_batch_work *w, inference *i) {
  const fn_channels *a = &w->a;
  const size_t channel = a->spatial * w->f.sink.element;
  const size_t all = a->batch * a->channels * channel;
  const size_t beside = all <= NEAR_BYTES ? a->batch : 1;
  i->shared = a->channels <= FN_GROUP && a->batch >= TASKS && !w->mask &&
              a->channels * channel <= LONG_BYTES;
  const size_t many = all / (4 * TASKS), few = all / TASKS;
  const size_t most = i->shared || many > LONG_BYTES ? many : LONG_BYTES;
  const size_t task = clamped(few < most ? few : most, 1, FN_BATCH_PIECE);
  const size_t group = clamped(task / (beside * channel) / 32 * 32, 32, FN_GROUP);
  i->group = i->shared ? a->channels : fn_batch_masked_group(w, group);
  i->groups = (a->channels + i->group - 1) / i->group;
  i->samples = clamped(task / (i->group * channel), 1, a->batch);
}

void fn_batch_inference(const fn_batch_work *w, size_t bytes) {
  inference i;
  i.w = w;
  cut_inference(w, &i);
  if (i.shared)
    find_stored(w, 0, w->a.channels, true, &i.s, &i.p);
  const size_t pieces = (w->a.batch + i.samples - 1) / i.samples;
  fn_parallel_for(w->a.exec, pieces * i.groups, bytes, inference_task, &i);
}
