/* rows_worker.h - one thread at work on groups of rows: their gradients.
 * SPDX-License-Identifier: MIT */
#ifndef FN_ROWS_WORKER_H
#define FN_ROWS_WORKER_H

#include "order.h"
#include "rows_backward.h"

/* Elements that are read at a time, from g and from x each: a few rows, or a part of
 * one. Sums along a row are made of such parts. */
#define PART_BYTES 32768

typedef union fn_row_part {
  _Alignas(64) float f32[PART_BYTES / 4];
  double f64[PART_BYTES / 8];
} fn_row_part;

/* Numbers of a group; the kernels write 16 from any row on. */
typedef union fn_row_array {
  _Alignas(64) float f32[FN_ROW_GROUP + 16];
  double f64[FN_ROW_GROUP + 16];
} fn_row_array;

/* What is known of the rows of a group. */
typedef struct fn_row_group {
  size_t first, rows;
  fn_row_array hi, scale, offset, shift, a, b, c;
  double slope[FN_ROW_GROUP];
  bool any_slow, is_slow[FN_ROW_GROUP];
  fn_slow_gradient slow[FN_ROW_GROUP];
} fn_row_group;

/* One thread at work: what it has read last, and where. */
typedef struct fn_row_worker {
  const fn_rows_gradient *w;
  fn_row_group group;
  fn_row_part g, x, weight_room;
  size_t row, rows, from, to; /* of g and x; rows is 0 if they hold nothing */
  size_t weight_from, weight_to;
  const void *weight;
  fn_rows_stats found;
} fn_row_worker;

size_t fn_row_part_elements(const fn_rows_gradient *w);

/* How many rows are read at a time: 0 if not even one. */
size_t fn_row_per_part(const fn_rows_gradient *w);

/* Columns [from, to) of rows row.. of g and x, in the working type; and the weights. */
fn_pairs fn_row_read_part(fn_row_worker *m, size_t row, size_t rows, size_t from,
                          size_t to);
const void *fn_row_read_weight(fn_row_worker *m, size_t from, size_t to);

/* With the factors of row i of the group and those that follow. */
void fn_row_set_factors(const fn_row_worker *m, size_t i, fn_pairs *p);

/* The factors of n rows of the group from i on, which fit a part, or are one. */
void fn_row_find_factors(fn_row_worker *m, size_t i, size_t n);

/* Row i of the group, for where it is slow. */
fn_slow_run fn_row_slow_run(const fn_row_worker *m, size_t i);

#endif
