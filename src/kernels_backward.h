/* kernels_backward.h - the kernels of gradients: what they are given and give.
 * SPDX-License-Identifier: MIT
 *
 * The list of all kernels is in kernels.h. */
#ifndef FN_KERNELS_BACKWARD_H
#define FN_KERNELS_BACKWARD_H

#include <stdbool.h>
#include <stddef.h>

/* Pairs: runs of g, the gradient of an output, and of x, the input of the norm, of the
 * same extents (see fn_runs); a table is rows of one segment. With
 *
 *     t = (x - hi) * scale + offset   (without hi: x * scale)
 *     d = g * weight - shift          (without weight: g - shift)
 *
 * The parameters are of the working type; which one goes with an element is said
 * below. hi, shift and weight may be NULL, offset as well (zeros). `shift` is a number
 * near the mean of g * weight, so that nothing cancels in the sums. */
typedef struct fn_pairs {
  const void *g, *x;
  size_t rows, segs, len;
  ptrdiff_t g_row_stride, g_seg_stride, x_row_stride, x_seg_stride;
  const void *hi, *scale, *offset, *shift, *weight;
} fn_pairs;

/* products_runs: for each run (any number of them, without padding) the sums of d, of d
 * * t and of x - hi; the first and last only if not NULL. hi, scale, offset and shift
 * are per run, weight[i] is for element i of every segment. */
typedef void fn_products_runs_kernel(const fn_pairs *p, double *sum_d, double *sum_dt,
                                     double *sum_x);

/* products_columns: adds the same sums of each column of a table to arrays with
 * padding. hi, scale, offset and shift are per column, with padding; weight[r] is for
 * row r. At most FN_COLUMN_CHUNK rows per call. */
typedef void fn_products_columns_kernel(const fn_pairs *p, double *sum_d,
                                        double *sum_dt, double *sum_x);

/* products_rows: adds the sums of g (if sum_g is not NULL) and of g * t of each column
 * of a table, over its rows, to arrays with padding. hi, scale and offset are per row;
 * neither shift nor weight. At most FN_PRODUCT_ROWS rows and FN_PRODUCT_COLUMNS columns
 * per call. False, and nothing added, if a sum leaves the safe range. */
#define FN_PRODUCT_ROWS    16
#define FN_PRODUCT_COLUMNS 512
typedef bool fn_products_rows_kernel(const fn_pairs *p, double *sum_g, double *sum_gt);

/* What a gradient is made of: y = t * b + (d * a + c). y may be g or x, with its
 * strides. With `stream` it is written past the caches where it can be. */
typedef struct fn_gradient {
  const void *a, *b, *c;
  void *y;
  ptrdiff_t row_stride, seg_stride;
  bool stream;
  /* NULL, or what will be read next, as g and x: it is asked for while results are
   * streamed (runs only). */
  const void *ahead_g, *ahead_x;
} fn_gradient;

/* gradient_runs: a, b, c per run, as hi, scale, offset, shift; weight along segments.
 * gradient_columns: a, b, c per column, with padding, as those; weight per row. */
typedef void fn_gradient_runs_kernel(const fn_pairs *p, const fn_gradient *y);
typedef void fn_gradient_columns_kernel(const fn_pairs *p, const fn_gradient *y);

/* gradient_rows: products_rows and gradient_runs of FN_PRODUCT_ROWS rows, which are
 * read once for both: with a weight, and y neither g nor x, nor streamed. shift is for
 * y alone. */
typedef bool fn_gradient_rows_kernel(const fn_pairs *p, const fn_gradient *y,
                                     double *sum_g, double *sum_gt);

/* factors: from the sums of products of n runs or columns of `count` elements to what
 * their gradient is made of. In: scale and offset that t was made with, shift that d
 * was; slope[i] is what the sum of d * t is to be multiplied with. Out: offset, so that
 * the mean of t is 0; shift, the rounded mean of g * weight, and c, the rest of it; a
 * and b. Without shift (NULL) the run is not centered: c is 0 and offset not used.
 * False if for some run sums or b leave the safe range, or are so small that products
 * may have been lost (see range.h). Arrays of the working type have padding. */
typedef bool fn_factors_kernel(size_t n, double count, const double *slope,
                               const double *sum_d, const double *sum_dt,
                               const double *sum_x, const void *scale, void *offset,
                               void *shift, void *a, void *b, void *c);

/* Up to where plain double arithmetic can be trusted with the sums of channels. */
typedef struct fn_channel_limits {
  double least, scale, sum, t, factor, normal;
} fn_channel_limits;

/* Channels between their sums and their gradient: the names and formulas are those of
 * channels_totals.c. All arrays have entries for a multiple of 16, harmless ones from n
 * on. */
typedef struct fn_channel_lanes {
  double count, root; /* elements of a channel, root of those of its group */
  const fn_channel_limits *limits;
  const double *weight, *d, *dt, *x; /* the last three are the sums of products */
  const double *rstd;                /* NULL: scale is it */
  const void *scale, *shift;
  const double *first; /* weight * shift of the first channel of the group */
  double *g, *gt, *t;
  /* the second step: what the groups have made of these, for each channel */
  const double *mean, *mean_t, *slope;
  void *new_shift, *offset, *a, *b, *c;
  double *grad_weight, *grad_bias;
} fn_channel_lanes;

/* channel_terms: what each of n channels adds to the totals of its group: g, gt and t.
 * channel_factors: new_shift (which may be shift), offset, a, b, c and the gradients of
 * weight and bias. False if some of it may be inaccurate, or not defined. */
typedef bool fn_channel_terms_kernel(size_t n, const fn_channel_lanes *c);
typedef bool fn_channel_factors_kernel(size_t n, const fn_channel_lanes *c);

#endif
