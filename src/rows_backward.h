/* rows_backward.h - gradients of the norms of rows: layer, RMS and L2 norm.
 * SPDX-License-Identifier: MIT */
#ifndef FN_ROWS_BACKWARD_H
#define FN_ROWS_BACKWARD_H

#include <math.h>

#include "columns.h"
#include "range.h"
#include "rows.h"

/* Arguments are checked, extents not 0. */
typedef struct fn_rows_gradient {
  fn_rows_work norm; /* of x; its y is grad_x, or NULL */
  const void *g;
  ptrdiff_t g_stride;
  const void *mean, *rstd;       /* given, or NULL; mean is NULL as well for RMS norm */
  void *grad_weight, *grad_bias; /* of the working type, or NULL */
  double *scratch;               /* NULL if there is too little */
  const fastnorm_exec *exec;
} fn_rows_gradient;

/* Fills `w` from the arguments, after all checks; w->norm.rows is 0 if there is nothing
 * left to do. RMS and L2 norm come as layer norms without what they do not have. */
fastnorm_status fn_rows_gradient_check(const fastnorm_layer_norm_backward_args *args,
                                       fn_rows_norm norm, fastnorm_rms_mode mode,
                                       fn_rows_gradient *w);

void fn_rows_gradient_run(const fn_rows_gradient *w);

/* Bytes of scratch for arguments as above, or 0. */
size_t fn_rows_gradient_scratch(const fastnorm_layer_norm_backward_args *args);

/* ---- between the files of it ---- */

/* The numbers of so many rows are kept at a time. */
#define FN_ROW_GROUP 32

static inline bool fn_rows_wants_sums(const fn_rows_gradient *w) {
  return w->grad_weight || w->grad_bias;
}

/* The work is cut into pieces: some rows, and where inner > 1 a block of the columns of
 * each. Sums for grad_weight and grad_bias are made of those of the pieces, which are
 * added in their order. */
typedef struct fn_rows_pieces {
  size_t rows;          /* per piece */
  size_t block, blocks; /* inner > 1: columns of a piece; pieces side by side */
  size_t count;
} fn_rows_pieces;

fn_rows_pieces fn_rows_pieces_of(const fn_rows_gradient *w);

/* Sums of `cols` columns from `first` on: of g * xhat, and of g if g is not NULL. Both
 * have padding. */
typedef struct fn_rows_sums {
  size_t first, cols;
  double *g, *gt;
} fn_rows_sums;

/* A piece: its sums are added to `to` if not NULL, its gradient goes to grad_x if
 * `gradient`. The first for inner = 1, the second (rows_backward_inner.c) for more. */
void fn_rows_piece(const fn_rows_gradient *w, size_t index, const fn_rows_sums *to,
                   bool gradient);
void fn_inner_piece(const fn_rows_gradient *w, size_t index, const fn_rows_sums *to,
                    bool gradient);

/* ---- what is within the range of plain arithmetic (factors.c) ---- */

typedef enum fn_range {
  FN_WITHIN,
  FN_SMALL, /* if there are products other than 0, they may have been lost */
  FN_OUTSIDE
} fn_range;

/* Of the sums of n elements, with b as the kernel `factors` makes it of them. sum_d and
 * sum_x are 0 if the run is not centered. */
fn_range fn_products_range(fastnorm_dtype dtype, double n, double sum_d, double sum_dt,
                           double sum_x, double b);

/* Of statistics that were given. */
static inline bool fn_statistics_within(fastnorm_dtype dtype, double mean,
                                        double rstd) {
  const bool f32 = dtype == FASTNORM_FLOAT32;
  const double size = fabs(rstd);
  return fabs(mean) <= (f32 ? f32_MEAN_MAX : f64_MEAN_MAX) &&
         size <= (f32 ? f32_SCALE_MAX : f64_SCALE_MAX) &&
         (size <= 0.0 || size >= (f32 ? f32_SCALE_MIN : f64_SCALE_MIN));
}

/* Of products that are small: those of d, of this largest magnitude. `exact` says that
 * no product of g and weight was rounded to nothing: there is no weight, or all are
 * 0. */
bool fn_difference_within(fastnorm_dtype dtype, double largest, double shift,
                          bool exact);

/* ---- runs whose numbers leave that range, in scaled double (slow_backward.c) ---- */

/* A run, wherever its elements are: rows are one segment, columns segments of one. */
typedef struct fn_slow_run {
  const fn_kernels *kernels;
  fastnorm_dtype dtype;
  fn_runs g, x; /* of one row; with a source, or of the working type */
  fn_vector weight;
  void *y;
  ptrdiff_t y_step; /* elements from one to the next */
  const fn_sink *sink;
} fn_slow_run;

/* With t of fn_slow and d = g * weight * 2^-exponent - first, the gradient is d -
 * mean_d - (t - mean_t) * slope, times rstd. */
typedef struct fn_slow_gradient {
  fn_slow s;
  int exponent;
  double first, mean_d, mean_t, slope;
} fn_slow_gradient;

/* Statistics of a run, from those given for number `i`, or, if rstd is NULL, from x;
 * and the slope for the kernel `factors`. */
void fn_slow_gradient_statistics(const fn_slow_run *run, fn_rows_norm norm, double eps,
                                 const void *mean, const void *rstd, size_t i,
                                 fn_slow *s, double *slope);

/* From s->s, which is there already. */
void fn_slow_gradient_find(const fn_slow_run *run, bool centered, double slope,
                           fn_slow_gradient *s);

void fn_slow_gradient_apply(const fn_slow_run *run, const fn_slow_gradient *s);

/* Element i: adds g to *sum_g (if not NULL), g * t to *sum_gt. */
void fn_slow_gradient_sum(const fn_slow_run *run, const fn_slow_gradient *s, size_t i,
                          double *sum_g, double *sum_gt);

#endif
