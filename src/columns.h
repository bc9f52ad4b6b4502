/* columns.h - statistics of the columns of a table, and their application to its rows.
 * SPDX-License-Identifier: MIT */
#ifndef FN_COLUMNS_H
#define FN_COLUMNS_H

#include "fastnorm.h"
#include "kernels.h"
#include "slow.h"
#include "stage.h"

/* Columns are handled in blocks of at most this many. */
#define FN_COLUMNS 512

/* Rows of few columns are folded into one of about this many. */
#define FN_FOLD_TO 256

typedef union fn_column_array {
  _Alignas(64) float f32[FN_COLUMNS];
  double f64[FN_COLUMNS];
} fn_column_array;

/* What there is to know of a block of columns; about 40 KiB, on the stack. */
typedef struct fn_column_stats {
  fn_column_array shift, hi, lo, rstd, scale, offset;
  _Alignas(64) double sum[FN_COLUMNS], sq[FN_COLUMNS], var[FN_COLUMNS];
  bool any_slow;
  bool is_slow[FN_COLUMNS]; /* set only if any_slow: hi, lo, var do not hold for it */
} fn_column_stats;

/* How many columns to take at a time so that a block of them stays in the cache between
 * the passes: a multiple of FN_PAD, by shape alone. */
size_t fn_column_block(size_t rows, size_t cols, fastnorm_dtype dtype);

/* How many rows of a table of so many columns are best summed as one; 1 if it is wide.
 * */
size_t fn_column_fold(size_t cols);

/* A table whose rows follow one another, in x and in y, is any other cut of its
 * elements: for an application one that begins at the first line of y, of rows of some
 * 1 KiB each, between two short ones. So no store straddles two lines. */
typedef struct fn_wide_part {
  size_t from, rows, width; /* elements */
} fn_wide_part;

void fn_wide_parts(fastnorm_dtype dtype, const void *y, size_t rows, size_t cols,
                   fn_wide_part parts[3]);

/* The numbers of columns for a row of a part, from those of the columns. */
void fn_wide_numbers(fastnorm_dtype dtype, const fn_wide_part *part, size_t cols,
                     const void *numbers, fn_column_array *to);

/* The sums of a table are made of chunks of rows: how many, and the sums of one (about
 * the shift that fn_columns_shift() has set). */
size_t fn_column_chunks(const fn_table *t);
void fn_columns_shift(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                      fn_column_stats *s);
void fn_columns_chunk(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                      const fn_column_array *shift, size_t chunk, double *sum,
                      double *sq);

/* Mean and variance. `chunk_sums`, if not NULL, holds what fn_columns_chunk() made of
 * each chunk in turn: cols sums, then cols sums of squares. Else all is done here. */
void fn_columns_finish(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                       double eps, bool centered, const double *chunk_sums,
                       fn_column_stats *s);
void fn_columns_stats(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                      double eps, bool centered, fn_column_stats *s);

/* Parameters of one application: per column (batch norm) they go into scale and offset;
 * per row (norm over a middle axis) they are applied beside them. */
typedef struct fn_column_parameters {
  double eps;
  bool centered;
  bool given; /* s->hi and s->var were given, not found in the table; s->lo is unused */
  const void *weight, *bias; /* per column, of the working type, or NULL */
  bool per_row;              /* these and not those: */
  fn_vector row_weight, row_bias;
  const fn_slow *slow;     /* NULL, or [cols]: what fn_slow_stats() would say */
  bool cast_before_weight; /* to cast_dtype; with per_row */
  fastnorm_dtype cast_dtype;
} fn_column_parameters;

/* From mean and variance to rstd, scale and offset, with the weight and bias if they
 * are per column; marks as slow the columns whose parameters are out of range. */
void fn_columns_scale(const fn_kernels *k, fastnorm_dtype dtype, size_t cols,
                      const fn_column_parameters *p, fn_column_stats *s);

/* Statistics of column c on the scale of x. To be read before fn_columns_apply() in
 * place, as those of a slow column are computed once more. */
typedef struct fn_column_result {
  double mean, var, rstd;
} fn_column_result;

/* Of those, mean and var alone: s need not have been through fn_columns_scale(). */
void fn_column_moments(fastnorm_dtype dtype, const fn_table *t, double eps,
                       bool centered, const fn_column_stats *s, size_t c,
                       fn_column_result *out);

void fn_column_read(fastnorm_dtype dtype, const fn_table *t, double eps, bool centered,
                    const fn_column_stats *s, size_t c, fn_column_result *out);

/* The same where mean and variance were given. */
void fn_column_given(fastnorm_dtype dtype, double eps, const fn_column_stats *s,
                     size_t c, fn_column_result *out);

/* The rows of `out` are segments: seg_stride, post_add_seg_stride. */
void fn_columns_apply(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                      const fn_output *out, const fn_column_stats *s,
                      const fn_column_parameters *p);

/* Table t from row r on; n rows of it. */
fn_table fn_table_rows(const fn_table *t, fastnorm_dtype dtype, size_t r, size_t n);

/* Column c of it, as a run of one-element segments. */
fn_runs fn_table_column(const fn_table *t, fastnorm_dtype dtype, size_t c);

#endif
