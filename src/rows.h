/* rows.h - norms of the rows of a table: layer, RMS, L2 and L1 norm.
 * SPDX-License-Identifier: MIT */
#ifndef FN_ROWS_H
#define FN_ROWS_H

#include "fastnorm.h"
#include "formats.h"
#include "kernels.h"
#include "runs.h"

typedef enum fn_rows_norm {
  FN_CENTERED, /* layer norm */
  FN_MEAN_SQUARE,
  /* rstd is 1 / max(norm, eps), and norm is written, not rstd: */
  FN_SUM_OF_SQUARES,   /* L2 */
  FN_SUM_OF_MAGNITUDES /* L1 */
} fn_rows_norm;

static inline bool fn_is_lp(fn_rows_norm norm) {
  return norm == FN_SUM_OF_SQUARES || norm == FN_SUM_OF_MAGNITUDES;
}

/* What eps is if it is 0. */
double fn_rows_initial_eps(fn_rows_norm norm, const fn_formats *f);

/* y = (x - mean) * rstd * weight + bias over the cols of [rows, cols, inner]. Arguments
 * are checked, extents not 0. */
typedef struct fn_rows_work {
  const fn_kernels *kernels;
  fn_formats f;
  fastnorm_dtype dtype; /* the working type */
  fn_rows_norm norm;
  fastnorm_rms_mode mode;
  const void *x;
  void *y, *mean, *rstd; /* rstd: or the norm */
  const void *stored_mean, *stored_var;
  const void *post_add;
  fn_vector weight, bias;
  float *y_scale;
  size_t rows, cols, inner;
  ptrdiff_t x_stride, y_stride, post_add_stride;
  double eps;
  const size_t *lengths; /* NULL, or how many values of each row take part, */
  bool keep;             /* and what stands behind them */
  bool staged;           /* needs a source, a sink, or parameters that are not plain */
  bool stream, far;      /* see FN_STREAM_BYTES; the latter of x */
} fn_rows_work;

/* Fills `work` from the arguments, after all checks; work->rows is 0 if there is
 * nothing to do. RMS and Lp norms come as layer norms without what they do not have. */
fastnorm_status fn_rows_check(const fastnorm_layer_norm_args *args, fn_rows_norm norm,
                              fastnorm_rms_mode mode, fn_rows_work *work);

void fn_rows_run(const fn_rows_work *work, const fastnorm_exec *exec);

/* L2 and L1 norm, whose arguments are the same. */
fastnorm_status fn_rows_lp(const fastnorm_l2_norm_args *callers, fn_rows_norm norm);

/* ---- between the files of it ---- */

/* Statistics of rows first to first + g->rows, which are g, and their scale (without
 * weights) and offset. */
typedef struct fn_rows_stats {
  fn_group_stats s;
  fn_group_array scale, offset;
} fn_rows_stats;

void fn_rows_find(const fn_rows_work *w, size_t first, const fn_runs *g,
                  fn_rows_stats *found);
void fn_rows_write_stats(const fn_rows_work *w, size_t first, size_t rows,
                         const fn_rows_stats *found);

/* Rows first to end, where inner is 1; columns c to c + n of row r, where it is not. */
void fn_rows_some(const fn_rows_work *w, size_t first, size_t end);
void fn_rows_columns(const fn_rows_work *w, size_t r, size_t c, size_t n);

/* All of it where there are lengths; pieces are of so many rows, or columns
 * (rows_lengths.c). */
void fn_rows_lengths(const fn_rows_work *w, size_t pieces, size_t piece, size_t bytes,
                     const fastnorm_exec *exec);

/* Rows first to end through a stage (rows_staged.c). */
void fn_rows_staged(const fn_rows_work *w, size_t first, size_t end);

#endif
