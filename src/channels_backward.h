/* channels_backward.h - gradients of the norms of channels: batch, group, instance and
 * weight norm.
 * SPDX-License-Identifier: MIT
 *
 * All of them are one thing: channels whose elements share statistics with those of
 * `per` adjacent channels. With the sums of each channel (fn_products_*), those of its
 * group, and from these a, b and c of each channel (fn_gradient_*), the gradient is one
 * more pass. */
#ifndef FN_CHANNELS_BACKWARD_H
#define FN_CHANNELS_BACKWARD_H

#include "columns.h"
#include "fastnorm.h"
#include "formats.h"
#include "runs.h"
#include "sum.h"

typedef enum fn_statistics {
  FN_OF_X,      /* mean and deviation of x: the gradient goes through them */
  FN_FIXED,     /* they do not depend on x */
  FN_ABOUT_ZERO /* the norm of x: weight norm */
} fn_statistics;

typedef struct fn_backward {
  const fn_kernels *kernels;
  fn_formats f;
  fastnorm_dtype dtype; /* the working type */
  fn_statistics statistics;
  const void *g, *x; /* x is g where it is not needed */
  void *y;           /* or NULL */
  size_t batch, channels, spatial;
  size_t per; /* channels of a group */
  bool channels_last;
  ptrdiff_t g_stride, g_channel_stride, x_stride, x_channel_stride, y_stride,
      y_channel_stride;
  fn_vector weight;
  const void *mean, *rstd; /* given, or NULL */
  const void *norm;        /* given, or NULL: FN_ABOUT_ZERO */
  const void *r, *d;       /* batch renorm's, or NULL */
  void *grad_weight, *grad_bias;
  double eps;
  bool sums, stream; /* whether any are needed, for y or for the others */
  double *scratch;   /* NULL if there is too little */
  const fastnorm_exec *exec;
} fn_backward;

/* Channels first.. of it: rows are channels, segments what belongs to each. In a table
 * (`columns`) rows are adjacent and segments have one element. */
typedef struct fn_view {
  fn_runs g, x;
  fn_output y;
  bool columns;
  size_t fold;      /* columns: fn_column_fold() */
  size_t first;     /* channel */
  size_t statistic; /* the index of the first group's mean and rstd */
  size_t ahead;     /* 0, or how many rows further on is what will be read next */
} fn_view;

/* Up to FN_COLUMNS channels of a view. */
typedef struct fn_channel_block {
  fn_column_array hi, scale, offset, shift, a, b, c;
  _Alignas(64) double d[FN_COLUMNS], dt[FN_COLUMNS], x[FN_COLUMNS]; /* sums */
  double weight[FN_COLUMNS], rstd[FN_COLUMNS]; /* the second not where w->rstd is */
  bool is_slow[FN_COLUMNS];
} fn_channel_block;

/* A number that may leave the range of double, though sums with others do not: what is
 * huge is apart, in units of 2^100. */
typedef struct fn_part {
  double value, huge;
} fn_part;

/* The gradients of weight and bias of channels [from, to) of a view, from one sample or
 * all: those of the first go to [0]. */
typedef struct fn_channel_gradients {
  size_t from, to;
  fn_part *weight, *bias;
} fn_channel_gradients;

/* Channels [first, first + n) of sample `sample`, or of all. */
#define FN_ALL_SAMPLES ((size_t)-1)
fn_view fn_view_of(const fn_backward *w, size_t sample, size_t first, size_t n);

/* n of its rows from `row` on; n of its segments from `seg` on. */
fn_view fn_view_rows(const fn_backward *w, const fn_view *v, size_t row, size_t n);
fn_view fn_view_segments(const fn_backward *w, const fn_view *v, size_t seg, size_t n);

/* Whole groups: their sums to `to` (or NULL), their gradient to y if there is one. */
void fn_view_backward(const fn_backward *w, const fn_view *v,
                      const fn_channel_gradients *to);

/* The same, shared by threads: columns, or one long channel, of one group each. With
 * w->scratch of fn_view_scratch() bytes the sums are shared as well. */
void fn_view_backward_shared(const fn_backward *w, const fn_view *v,
                             const fn_channel_gradients *to);
size_t fn_view_scratch(const fn_backward *w, const fn_view *v);

/* A number that the gradients of a caller are made of. */
double fn_weight_of(const fn_backward *w, size_t channel);

/* ---- channels_products.c: sums over a view of at most FN_COLUMNS rows ---- */

/* The middle one of three elements of row r of g: near its mean also where another is
 * far away, and the number itself where it is constant; b->shift: that of each row. */
double fn_view_middle(const fn_backward *w, const fn_view *v, size_t r);
void fn_view_shift(const fn_backward *w, const fn_view *v, fn_channel_block *b);

/* Sums are made of chunks: of a table of some rows of it, else of row 0 of the view.
 * The sums of chunk i: d, dt and x of all rows, one after another. */
size_t fn_view_chunks(const fn_backward *w, const fn_view *v);
void fn_view_chunk(const fn_backward *w, const fn_view *v, const fn_channel_block *b,
                   size_t i, double *sums);

/* b->d, b->dt, b->x, from chunk_sums if not NULL. */
void fn_view_sums(const fn_backward *w, const fn_view *v, const double *chunk_sums,
                  fn_channel_block *b);

/* ---- channels_gradient.c ---- */

/* y of rows [from, from + v->g.rows) of the block that are not slow. */
void fn_view_gradient(const fn_backward *w, const fn_view *v, size_t from,
                      const fn_channel_block *b);

/* ---- channels_totals.c: from the sums of channels to those of their group ---- */

typedef struct fn_group_totals {
  size_t channels;
  double first; /* weight * shift of the first channel */
  fn_sum g, gt, t;
} fn_group_totals;

/* What channels of a group have in common. */
typedef struct fn_group_line {
  double first, mean; /* that of weight * g is their sum */
  double mean_t, slope;
} fn_group_line;

/* A channel of n elements: sums of d = g - shift, d * t and t. */
typedef struct fn_channel_sums {
  double n, weight, shift, d, dt, t;
} fn_channel_sums;

void fn_totals_add(fn_statistics how, const fn_channel_sums *c, fn_group_totals *t);
void fn_totals_finish(fn_statistics how, double n, const fn_group_totals *t,
                      fn_group_line *line);

/* With d of a channel, y = rstd * (d * weight + rest - (t - mean_t) * slope). */
double fn_line_rest(fn_statistics how, const fn_group_line *line,
                    const fn_channel_sums *c);

/* Sums of g * xhat, with `ratio` the exact rstd by that of t, and of g. */
double fn_line_weight(const fn_group_line *line, const fn_channel_sums *c);
double fn_line_bias(const fn_channel_sums *c);

/* A block of whole groups that has sums. They are added, then what follows from them is
 * found: a, b, c, offset and shift of each channel, and its gradients. Groups of which
 * a number leaves the range become slow. */
typedef struct fn_block_work {
  const fn_backward *w;
  const fn_view *v;
  fn_channel_block *b;
  fn_channel_gradients to; /* from == to: none */
  double count, elements;  /* of a channel, of a group */
  bool adds, finishes;     /* both, or one at a time: */
  fn_group_totals *large;  /* NULL, or those of the group the block is a part of */
} fn_block_work;

/* False if some are slow. */
bool fn_block_finish(const fn_block_work *k);

/* ---- channels_slow.c: a group that leaves the range, in scaled double ---- */

/* v: all channels of one group. */
void fn_view_slow(const fn_backward *w, const fn_view *v,
                  const fn_channel_gradients *to);

/* The largest magnitude of g in row r; NaN and Inf do not count. */
double fn_view_largest(const fn_backward *w, const fn_view *v, size_t r);

#endif
