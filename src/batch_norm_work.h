/* batch_norm_work.h - batch norm: between the arguments and the work.
 * SPDX-License-Identifier: MIT */
#ifndef FN_BATCH_NORM_WORK_H
#define FN_BATCH_NORM_WORK_H

#include "channels.h"
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
  size_t samples; /* runs, inference: how many of the batch make a piece */
} fn_batch_work;

/* Arguments are checked, extents not 0. */
void fn_batch_run(fn_batch_work *w);

#endif
