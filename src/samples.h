/* samples.h - statistics of groups of channels within each sample: what group norm and
 * instance norm share.
 * SPDX-License-Identifier: MIT */
#ifndef FN_SAMPLES_H
#define FN_SAMPLES_H

#include "check.h"
#include "columns.h"
#include "fastnorm.h"
#include "formats.h"
#include "masked.h"
#include "runs.h"

/* Arguments are checked, extents not 0. Element (n, c, s) of x is at n * x_stride +
 * c * x_channel_stride + s, or channels last at n * x_stride + s * x_channel_stride +
 * c. */
typedef struct fn_samples_work {
  const fn_kernels *kernels;
  fn_formats f;
  fn_source apart;      /* that of groups whose channels are not adjacent */
  fastnorm_dtype dtype; /* the working type */
  const void *x, *post_add, *stored_mean, *stored_var;
  void *y, *mean, *rstd;
  fn_vector weight, bias;
  size_t batch, channels, spatial, groups;
  bool channels_last, stream, far;
  ptrdiff_t x_stride, x_channel_stride, y_stride, y_channel_stride;
  ptrdiff_t post_add_stride, post_add_channel_stride;
  double eps;
  /* Instance norm's running statistics, or NULL: to be applied, or else to be updated;
   * a piece of work is then some channels of all samples, in order, and not of one. */
  fn_vector running_mean, running_var;
  bool use_running;
  double momentum;
  bool is_masked;
  fn_mask mask;        /* if so, which positions take part, */
  fn_array mask_array; /* where that is, */
  double most;         /* and the largest count of an instance, or sum of weights */
} fn_samples_work;

/* work->batch is 0 if there is nothing to do. Instance norm comes as a group norm of
 * one channel per group; `running` is NULL, or its two arrays without their element
 * size. `single` is whether an instance has exactly one position that takes part; a
 * mask that leaves out nothing counts as none. */
fastnorm_status fn_samples_check(const fastnorm_group_norm_args *args,
                                 const fn_array *running, fn_samples_work *work,
                                 bool *single);

void fn_samples_run(const fn_samples_work *work, const fastnorm_exec *exec);

/* ---- between the files of it ---- */

/* A sum that does not overflow where the mean would not: huge terms apart, scaled. */
typedef struct fn_wide_sum {
  double sum, huge;
} fn_wide_sum;
#define FN_HUGE 0x1p900

static inline void fn_samples_add(fn_wide_sum *s, double x, double weight) {
  if (x > FN_HUGE || x < -FN_HUGE)
    s->huge += x / 0x1p100 * weight;
  else
    s->sum += x * weight;
}

static inline double fn_samples_mean(const fn_wide_sum *s, double n) {
  return s->sum / n + s->huge / n * 0x1p100;
}

/* Sums over the samples of the statistics of up to FN_COLUMNS channels, each weighted
 * by its count over the largest one. */
typedef struct fn_sample_sums {
  fn_wide_sum mean[FN_COLUMNS], var[FN_COLUMNS];
  double weight[FN_COLUMNS];
} fn_sample_sums;

/* Takes in channel i of an instance of `count` values, or of their sum of weights. */
void fn_samples_sum(const fn_samples_work *w, fn_sample_sums *sums, size_t i,
                    double count, double mean, double var);

/* Mean and variance of groups first.. of a sample, if they were given. */
bool fn_samples_given(const fn_samples_work *w);
void fn_samples_stored(const fn_samples_work *w, size_t sample, size_t first, size_t n,
                       double *mean, double *var);

/* Statistics of group i (counted through all samples) go to the caller. */
void fn_samples_report(const fn_samples_work *w, size_t i, double mean, double rstd);

/* How many values of a group take part; of those from `first` on, all the same, or that
 * of one group. */
size_t fn_samples_count(const fn_samples_work *w, size_t sample, size_t first);

/* That of one channel; where the mask is weighted, the sum of its weights. */
double fn_samples_weight(const fn_samples_work *w, size_t sample, size_t channel,
                         size_t count);

/* Where nothing of n groups does: what is reported, and stands in y. */
void fn_samples_empty(const fn_samples_work *w, size_t sample, size_t first, size_t n);

/* Groups as runs of what takes part: of their channels one after another, or, where
 * those are last and share a pattern, of positions. */
fn_runs fn_samples_masked_run(const fn_samples_work *w, size_t sample, size_t first,
                              size_t n, fn_masked_source *s);

/* What takes part of a table of a sample, whose columns share a pattern. */
fn_table fn_samples_masked_table(const fn_samples_work *w, size_t sample,
                                 const fn_table *all, fn_masked_source *s);

/* How many channels are applied at a time, where they lie apart. */
size_t fn_samples_block(const fn_samples_work *w);

/* Groups first to first + n of a sample: with channels apart, and last. */
void fn_samples_runs(const fn_samples_work *w, size_t sample, size_t first, size_t n,
                     fn_sample_sums *sums);
void fn_samples_columns(const fn_samples_work *w, size_t sample, size_t first, size_t n,
                        fn_sample_sums *sums);

#endif
