/* running_care.c - blocks of a batch of which not all elements take part.
 * SPDX-License-Identifier: MIT */
#include "running_care.h"

#include <math.h>
#include <string.h>

#include "check.h"
#include "weighted.h"

void fn_replicate_shift(fastnorm_dtype dtype, size_t cols, size_t fold, fn_tally *t) {
  for (size_t i = cols; i < FN_COLUMNS; i++)
    fn_set(dtype, &t->shift, i,
           i < fold * cols ? fn_get(dtype, &t->shift, i % cols) : 0.0);
}

/* Where position i of feature 0 of the block is in an array beside x. */
static ptrdiff_t beside_at(const fn_running_work *w, const fn_beside *b,
                           const fn_extent *e, size_t i) {
  const size_t n = (e->from + i) / w->a.spatial, s = (e->from + i) % w->a.spatial;
  return (ptrdiff_t)n * b->stride + (ptrdiff_t)s * b->spatial_stride +
         (ptrdiff_t)e->first * b->channel_stride;
}

static void read_mask(const fn_running_work *w, const fn_extent *e, fn_care *k) {
  const fn_beside *b = &w->mask;
  const size_t rows = e->to - e->from, cols = e->cols;
  memset(k->takes, 1, rows * cols);
  for (size_t i = 0; b->p && i < rows; i++) {
    const unsigned char *p = (const unsigned char *)b->p + beside_at(w, b, e, i);
    if (b->channel_stride == 0)
      memset(k->takes + i * cols, *p != 0, cols);
    else
      for (size_t c = 0; c < cols; c++)
        k->takes[i * cols + c] = p[(ptrdiff_t)c * b->channel_stride] != 0;
  }
}

static int read_weights(const fn_running_work *w, const fn_extent *e, fn_care *k) {
  const fn_beside *b = &w->weights;
  const size_t rows = e->to - e->from;
  int found = 0;
  for (size_t i = 0; b->p && i < rows; i++) {
    const void *p = fn_element(b->dtype, b->p, beside_at(w, b, e, i));
    for (size_t c = 0; c < e->cols; c++) {
      const void *q = fn_element(b->dtype, p, (ptrdiff_t)c * b->channel_stride);
      const size_t j = i * e->cols + c;
      const double weight = fn_get(b->dtype, q, 0);
      if (k->takes[j] && !(weight >= 0.0 && isfinite(weight)))
        found = FN_FOUND_WEIGHT;
      k->takes[j] &= weight > 0.0;
      k->weight[j] = k->takes[j] ? weight : 0.0;
    }
  }
  return found;
}

/* The first finite number of each feature is the shift to begin with. */
static void find_shift(const fn_running_work *w, size_t n, size_t cols,
                       const fn_stage *x, fn_care *k, fn_tally *t) {
  const size_t unseen = k->unseen;
  for (size_t j = 0, c = 0; j < n && k->unseen > 0; j++, c = c + 1 < cols ? c + 1 : 0) {
    const double value = fn_get(w->a.dtype, x, j);
    if (!k->takes[j] || k->seen[c] || !isfinite(value))
      continue;
    fn_set(w->a.dtype, &t->shift, c, value);
    k->seen[c] = true;
    k->unseen--;
  }
  if (k->unseen < unseen)
    fn_replicate_shift(w->a.dtype, cols, fn_column_fold(cols), t);
}

/* What takes no part becomes NaN. */
static void leave_out(const fn_running_work *w, const fn_extent *e, const fn_care *k,
                      fn_stage *x) {
  const size_t rows = e->to - e->from, cols = e->cols;
  const bool shared = !w->weights.p && w->mask.channel_stride == 0;
  for (size_t i = 0; i < rows; i++) {
    const unsigned char *takes = k->takes + i * cols;
    if (shared && takes[0])
      continue;
    for (size_t c = 0; c < cols; c++)
      if (!takes[c])
        fn_set(w->a.dtype, x, i * cols + c, (double)NAN);
  }
}

/* How many elements of each feature take part; NaN or not. */
static void count_taking(const fn_running_work *w, const fn_extent *e, fn_care *k) {
  const size_t rows = e->to - e->from, cols = e->cols;
  if (w->weights.p || w->mask.channel_stride != 0) {
    for (size_t i = 0; i < rows; i++)
      for (size_t c = 0; c < cols; c++)
        k->taking[c] += k->takes[i * cols + c];
    return;
  }
  double taking = 0.0; /* the same for all */
  for (size_t i = 0; i < rows; i++)
    taking += k->takes[i * cols];
  for (size_t c = 0; c < cols; c++)
    k->taking[c] += taking;
}

/* Each element has a weight: no kernel does that. NaN spoils the sums, and the feature
 * is NaN then, unless it is missing. */
static void add_weighted(const fn_running_work *w, size_t n, size_t cols,
                         const fn_stage *x, fn_care *k, fn_tally *t) {
  const fastnorm_dtype dtype = w->a.dtype;
  for (size_t j = 0; w->nan == FASTNORM_NAN_MISSING && j < n; j++)
    if (isnan(fn_get(dtype, x, j)))
      k->weight[j] = 0.0;
  for (size_t c = 0; c < cols; c++) {
    fn_weighted sums = {t->weight[c], t->sum[c], t->sq[c]};
    fn_weighted_add(dtype, n / cols, fn_element(dtype, x, (ptrdiff_t)c),
                    (ptrdiff_t)cols, k->weight + c, (ptrdiff_t)cols, k->scale,
                    fn_get(dtype, &t->shift, c), &sums);
    t->weight[c] = sums.weight;
    t->sum[c] = sums.sum;
    t->sq[c] = sums.sq;
  }
}

int fn_care_prepare(const fn_running_work *w, const fn_extent *e, fn_stage *stage,
                    fn_care *k, fn_tally *t) {
  const size_t n = (e->to - e->from) * e->cols;
  read_mask(w, e, k);
  const int found = read_weights(w, e, k);
  find_shift(w, n, e->cols, stage, k, t);
  count_taking(w, e, k);
  if (w->mask.p || w->weights.p)
    leave_out(w, e, k, stage);
  if (w->weights.p)
    add_weighted(w, n, e->cols, stage, k, t);
  return found;
}

void fn_care_add(const fn_running_work *w, const fn_table *f, fn_care *k, fn_tally *t,
                 double *sum, double *sq) {
  const fn_kernels *kernels = w->a.kernels;
  double *x = (double *)f->x;
  if (f->rows == 0 || f->cols == 0)
    return;
  kernels->extremes_columns(f, &t->low, &t->high);
  if (k->scale < 1.0) /* the working type is double */
    for (size_t j = 0; j < f->rows * f->cols; j++)
      x[j] *= k->scale;
  kernels->present_columns(f, &t->shift, k->counted);
  if (!w->weights.p)
    kernels->moments_columns(f, &t->shift, sum, sq);
}

int fn_care_count(const fn_running_work *w, const fn_extent *e, fn_care *k,
                  fn_tally *t) {
  const size_t fold = fn_column_fold(e->cols);
  int found = 0;
  for (size_t c = 0; c < e->cols; c++) {
    double counted = 0.0;
    for (size_t i = 0; i < fold; i++)
      counted += k->counted[i * e->cols + c];
    k->nan[c] = w->nan != FASTNORM_NAN_MISSING && counted < k->taking[c];
    t->count[c] = (int64_t)(k->nan[c] ? k->taking[c] : counted);
    if (!w->weights.p)
      t->weight[c] = (fn_sum){(double)t->count[c], 0.0};
    if (k->nan[c] && w->nan == FASTNORM_NAN_ERROR)
      found = FN_FOUND_NAN;
  }
  return found;
}
