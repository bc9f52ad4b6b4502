/* batch_norm_work.h - batch norm: between the arguments and the work.
 * SPDX-License-Identifier: MIT */
#ifndef FN_BATCH_NORM_WORK_H
#define FN_BATCH_NORM_WORK_H

#include "channels.h"
#include "masked.h"
#include "renorm.h"
#include "running.h"

typedef struct fn_batch_work {
  fn_channels a;
  fn_formats f;
  void *y;
  ptrdiff_t y_stride, y_channel_stride;
  const void *post_add;
  ptrdiff_t post_add_stride, post_add_channel_stride;
  fn_vector weight, bias;
  fn_vector running_mean, running_var; /* inference: what to apply */
  fn_running running;                  /* training: what to update, or no mean */
  void *mean, *rstd;
  double eps;
  bool training, stream;
  const fn_mask *mask;     /* NULL, or which positions take part */
  const fn_renorm *renorm; /* training: NULL, or the limits and where r and d go */
} fn_batch_work;

/* Arguments are checked, extents not 0. */
void fn_batch_run(fn_batch_work *w);

/* fastnorm_batch_norm(); with `renorm`, which needs running statistics, batch renorm;
 * `about_zero` in training, weight norm: its g is the weight, its norm goes to rstd. */
fastnorm_status fn_batch_norm(const fastnorm_batch_norm_args *args,
                              const fn_renorm *renorm, bool about_zero);

/* ---- between the files of it ---- */

#define FN_BATCH_PIECE 1048576 /* bytes that one thread takes at a time */

/* The stored statistics of n channels from `first`, as arrays of our own. */
void fn_batch_read_running(const fn_batch_work *w, size_t first, size_t n, void *mean,
                           double *var);

/* The statistics of channel c go to the caller, and into the running ones. */
void fn_batch_report(const fn_batch_work *w, size_t c, const fn_column_result *found);

/* Those of n channels of which none is slow; lo is NULL if hi was given. */
void fn_batch_report_all(const fn_batch_work *w, size_t first, size_t n, const void *hi,
                         const void *lo, const double *var, const void *rstd);

/* Those of weight norm. */
void fn_batch_report_norms(const fn_batch_work *w, size_t first, size_t n,
                           const double *norms);

/* y from channel `first` of sample n on; rows are channels, segments samples. */
fn_output fn_batch_output(const fn_batch_work *w, size_t first, size_t sample);

/* Up to FN_GROUP channels that are runs, from statistics to output. */
typedef struct fn_batch_parameters {
  fn_group_array rstd, scale, offset, weight_room, bias_room;
  const void *weight, *bias;
  /* Batch renormalization: by what to scale, and whether that is the stored one. */
  double var[FN_GROUP];
  bool is_stored[FN_GROUP];
} fn_batch_parameters;

void fn_batch_scale(const fn_batch_work *w, size_t first, const fn_runs *g,
                    fn_group_stats *s, fn_batch_parameters *p);
void fn_batch_report_group(const fn_batch_work *w, size_t first, size_t rows,
                           const fn_group_stats *s, const fn_batch_parameters *p);

/* Channels whose samples follow each other in x are one segment there, but perhaps not
 * in y: here each sample is a segment again. */
fn_runs fn_batch_samples(const fn_batch_work *w, size_t first, size_t rows,
                         size_t sample, size_t samples);

/* g, or the part of it whose samples begin at x and y. */
void fn_batch_apply(const fn_batch_work *w, size_t first, size_t sample,
                    const fn_runs *g, const fn_output *out, const fn_group_stats *s,
                    const fn_batch_parameters *p);

/* So many, or as many as a mask lets be taken at a time. */
size_t fn_batch_masked_group(const fn_batch_work *w, size_t group);

/* Stored statistics, channels as runs (batch_norm_inference.c). */
void fn_batch_inference(const fn_batch_work *w, size_t bytes);

/* A block of channels, where they are columns (batch_norm_columns.c). */
void fn_batch_columns(const fn_batch_work *w, size_t first, size_t cols);

/* With a mask (batch_norm_masked.c): the same, and what is applied to runs g of
 * channels from `first` on, a segment for each sample from `sample` on. */
void fn_batch_masked_columns(const fn_batch_work *w, size_t first, size_t cols);
void fn_batch_masked_apply(const fn_batch_work *w, size_t first, size_t sample,
                           const fn_run_apply *a, const fn_runs *g,
                           const fn_output *out);

/* w for channels like this one, of `count` values each: how their running statistics
 * are updated. */
fn_batch_work fn_batch_of_count(const fn_batch_work *w, size_t channel, size_t count);

#endif
