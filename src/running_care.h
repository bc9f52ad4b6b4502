/* running_care.h - blocks of a batch of which not all elements take part.
 * SPDX-License-Identifier: MIT */
#ifndef FN_RUNNING_CARE_H
#define FN_RUNNING_CARE_H

#include "running_moments.h"
#include "sum.h"

#define FN_BLOCK_ELEMENTS 4096 /* of a block: fits the first-level cache */

/* Positions [from, to) of features [first, first + cols). */
typedef struct fn_extent {
  size_t first, cols, from, to;
} fn_extent;

/* What has been found of each feature. The shift and the extremes, which are of the
 * type `found` and do not know NaN, are folded. Without weights the weight is the
 * count. */
typedef struct fn_tally {
  fn_column_array shift, low, high;
  fastnorm_dtype found;
  fn_sum sum[FN_FOLD_TO], sq[FN_FOLD_TO], weight[FN_FOLD_TO];
  int64_t count[FN_FOLD_TO];
} fn_tally;

/* What is known of a block's elements, and of the features so far. */
typedef struct fn_care {
  double scale; /* 1, or what the elements are multiplied by: a power of two */
  unsigned char takes[FN_BLOCK_ELEMENTS];
  double weight[FN_BLOCK_ELEMENTS];
  bool seen[FN_FOLD_TO]; /* the shift is that of an element */
  size_t unseen;
  double taking[FN_FOLD_TO];  /* elements that the mask and the weights let take part */
  double counted[FN_COLUMNS]; /* those of them that are not NaN, folded */
  bool nan[FN_FOLD_TO];       /* there are others */
} fn_care;

/* The shift of each column, once per folded row, and zeros in the padding. */
void fn_replicate_shift(fastnorm_dtype dtype, size_t cols, size_t fold, fn_tally *t);

/* Finds out what takes part in the block in `stage`: the rest becomes NaN there. With
 * weights all is added here. FN_FOUND_WEIGHT or 0. */
int fn_care_prepare(const fn_running_work *w, const fn_extent *e, fn_stage *stage,
                    fn_care *k, fn_tally *t);

/* Adds a table of folded rows of it, of which what is NaN does not take part. */
void fn_care_add(const fn_running_work *w, const fn_table *f, fn_care *k, fn_tally *t,
                 double *sum, double *sq);

/* When all has been added: the counts, and the NaNs. FN_FOUND_NAN or 0. */
int fn_care_count(const fn_running_work *w, const fn_extent *e, fn_care *k,
                  fn_tally *t);

#endif
