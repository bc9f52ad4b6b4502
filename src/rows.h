/* rows.h - layer norm and RMS norm: the work that they share.
 * SPDX-License-Identifier: MIT */
#ifndef FN_ROWS_H
#define FN_ROWS_H

#include "fastnorm.h"
#include "kernels.h"

/* Both norms: y = (x - mean) * rstd * weight + bias over the cols of [rows, cols,
 * inner], with mean 0 and no bias if not centered. Arguments are checked, extents not
 * 0. */
typedef struct fn_rows_work {
  const fn_kernels *kernels;
  fastnorm_dtype dtype;
  const void *x, *weight, *bias;
  void *y, *mean, *rstd;
  size_t rows, cols, inner;
  ptrdiff_t x_stride, y_stride;
  double eps;
  bool centered;
  bool stream; /* see FN_STREAM_BYTES */
} fn_rows_work;

/* Fills `work` from the arguments of layer norm, after all checks; work->rows is 0 if
 * there is nothing to do. An RMS norm comes as a layer norm that is not centered. */
fastnorm_status fn_rows_check(const fastnorm_layer_norm_args *args, bool centered,
                              fn_rows_work *work);

void fn_rows_run(const fn_rows_work *work, const fastnorm_exec *exec);

#endif
