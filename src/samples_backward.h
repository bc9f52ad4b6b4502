/* samples_backward.h - gradients of norms of channels: from arguments to pieces.
 * SPDX-License-Identifier: MIT */
#ifndef FN_SAMPLES_BACKWARD_H
#define FN_SAMPLES_BACKWARD_H

#include "channels_backward.h"

/* The arguments of any of them; strides are those of grad_y, x and grad_x. */
typedef struct fn_backward_call {
  fastnorm_dtype dtype;
  const fastnorm_format *format;
  const fastnorm_exec *exec;
  const void *g, *x, *weight, *mean, *rstd, *norm, *r, *d;
  void *y, *grad_weight, *grad_bias;
  size_t batch, channels, spatial;
  ptrdiff_t stride[3], channel_stride[3];
  double eps;
  void *scratch;
  size_t scratch_size;
  fn_statistics statistics;
  bool channels_last;
  bool by_sample;   /* each sample has statistics of its own */
  size_t groups;    /* by_sample */
  bool refuses_one; /* statistics of one element */
} fn_backward_call;

/* The fields that their structs have in common, and those of all but weight norm. */
#define FN_BACKWARD_FIELDS(a)                                                          \
  .dtype = (a)->dtype, .format = &(a)->format, .exec = &(a)->exec, .g = (a)->grad_y,   \
  .x = (a)->x, .y = (a)->grad_x, .batch = (a)->batch, .channels = (a)->channels,       \
  .spatial = (a)->spatial,                                                             \
  .stride = {(a)->grad_y_stride, (a)->x_stride, (a)->grad_x_stride},                   \
  .channel_stride = {(a)->grad_y_channel_stride, (a)->x_channel_stride,                \
                     (a)->grad_x_channel_stride},                                      \
  .scratch = (a)->scratch, .scratch_size = (a)->scratch_size
#define FN_NORM_BACKWARD_FIELDS(a)                                                     \
  FN_BACKWARD_FIELDS(a), .weight = (a)->weight, .mean = (a)->mean, .rstd = (a)->rstd,  \
                         .grad_weight = (a)->grad_weight, .grad_bias = (a)->grad_bias, \
                         .eps = (a)->eps

fastnorm_status fn_backward_run(const fn_backward_call *call);
size_t fn_backward_scratch(const fn_backward_call *call);

#endif
