/* columns_apply.c - a mean, scale and offset per column, applied to the rows of a
 * table.
 * SPDX-License-Identifier: MIT */
#include <stdint.h>

#include "columns.h"
#include "runs.h"
#include "scale.h"

/* A column, as a run of one-element segments. */
static fn_runs column(fastnorm_dtype dtype, const fn_table *t, size_t c) {
  return (fn_runs){.x = fn_element(dtype, t->x, (ptrdiff_t)c),
                   .rows = 1,
                   .segs = t->rows,
                   .seg_stride = t->stride,
                   .len = 1};
}

static bool is_slow(const fn_column_stats *s, size_t c) {
  return s->any_slow && s->is_slow[c];
}

void fn_column_moments(fastnorm_dtype dtype, const fn_table *t, double eps,
                       bool centered, const fn_column_stats *s, size_t c,
                       fn_column_result *out) {
  if (is_slow(s, c)) {
    const fn_runs run = column(dtype, t, c);
    fn_slow slow;
    fn_slow_stats(dtype, &run, eps, centered, &slow);
    *out = (fn_column_result){fn_slow_mean(&slow), fn_slow_var(&slow),
                              fn_slow_rstd(&slow)};
    return;
  }
  out->mean = centered ? fn_get(dtype, &s->hi, c) + fn_get(dtype, &s->lo, c) : 0.0;
  out->var = s->var[c];
}

void fn_column_read(fastnorm_dtype dtype, const fn_table *t, double eps, bool centered,
                    const fn_column_stats *s, size_t c, fn_column_result *out) {
  fn_column_moments(dtype, t, eps, centered, s, c, out);
  if (!is_slow(s, c))
    out->rstd = fn_get(dtype, &s->rstd, c);
}

void fn_column_given(fastnorm_dtype dtype, double eps, const fn_column_stats *s,
                     size_t c, fn_column_result *out) {
  fn_slow slow;
  out->mean = fn_get(dtype, &s->hi, c);
  out->var = s->var[c];
  out->rstd = fn_get(dtype, &s->rstd, c);
  if (!is_slow(s, c))
    return;
  fn_slow_given(out->mean, out->var, eps, &slow);
  out->rstd = fn_slow_rstd(&slow);
}

void fn_columns_scale(const fn_kernels *k, fastnorm_dtype dtype, size_t cols,
                      const fn_column_parameters *p, fn_column_stats *s) {
  const fn_scale_input in = {.n = cols,
                             .eps = p->eps,
                             .given = p->given,
                             .hi = p->centered ? &s->hi : NULL,
                             .lo = &s->lo,
                             .var = s->var,
                             .weight = p->per_row ? NULL : p->weight,
                             .bias = p->per_row ? NULL : p->bias};
  fn_scale(k, dtype, &in, &s->any_slow, s->is_slow, &s->rstd, &s->scale, &s->offset);
}

/* Columns [from, to), none of them slow. */
static void apply_span(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                       void *y, ptrdiff_t y_stride, const fn_column_stats *s,
                       const fn_column_parameters *p, size_t from, size_t to) {
  const ptrdiff_t i = (ptrdiff_t)from;
  const fn_table span = {.x = fn_element(dtype, t->x, i),
                         .rows = t->rows,
                         .stride = t->stride,
                         .cols = to - from};
  if (from == to)
    return;
  k->apply_columns(&span, fn_element(dtype, y, i), y_stride,
                   p->centered ? fn_element(dtype, &s->hi, i) : NULL,
                   fn_element(dtype, &s->scale, i), fn_element(dtype, &s->offset, i),
                   p->per_row ? p->weight : NULL, p->per_row ? p->bias : NULL,
                   p->stream);
}

static void apply_slow(fastnorm_dtype dtype, const fn_table *t, void *y,
                       ptrdiff_t y_stride, const fn_column_stats *s,
                       const fn_column_parameters *p, size_t c) {
  const fn_runs run = column(dtype, t, c);
  const ptrdiff_t at = p->per_row ? 0 : (ptrdiff_t)c;
  fn_slow slow;
  if (p->given)
    fn_slow_given(fn_get(dtype, &s->hi, c), s->var[c], p->eps, &slow);
  else
    fn_slow_stats(dtype, &run, p->eps, p->centered, &slow);
  fn_slow_apply(dtype, &run, fn_element(dtype, y, (ptrdiff_t)c), y_stride, &slow,
                p->weight ? fn_element(dtype, p->weight, at) : NULL,
                p->bias ? fn_element(dtype, p->bias, at) : NULL, p->per_row ? 1 : 0);
}

/* Few columns, rows one after another: as many rows as fill some 1 KiB are one row. The
 * folded rows begin at the first line of y, so that no store straddles two. */
static void apply_folded(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                         void *y, const fn_column_stats *s,
                         const fn_column_parameters *p) {
  fn_column_array hi, scale, offset;
  const size_t element = dtype == FASTNORM_FLOAT32 ? 4 : 8, cols = t->cols;
  const size_t total = t->rows * cols, fold = fn_column_fold(cols);
  size_t head = (64 - (uintptr_t)y % 64) % 64 / element;
  if (head > total)
    head = total;
  const size_t width = fold * cols, rows = (total - head) / width;
  const size_t tail = total - head - rows * width;
  const struct {
    size_t from, rows, width;
  } parts[3] = {{0, 1, head}, {head, rows, width}, {head + rows * width, 1, tail}};
  for (int i = 0; i < 3; i++) {
    const size_t from = parts[i].from;
    const fn_table part = {.x = fn_element(dtype, t->x, (ptrdiff_t)from),
                           .rows = parts[i].rows,
                           .stride = (ptrdiff_t)width,
                           .cols = parts[i].width};
    if (part.rows == 0 || part.cols == 0)
      continue;
    for (size_t j = 0; j < part.cols; j++) { /* the parameters of element from + j */
      const size_t c = (from + j) % cols;
      fn_set(dtype, &scale, j, fn_get(dtype, &s->scale, c));
      if (!p->centered)
        continue;
      fn_set(dtype, &hi, j, fn_get(dtype, &s->hi, c));
      fn_set(dtype, &offset, j, fn_get(dtype, &s->offset, c));
    }
    k->apply_columns(&part, fn_element(dtype, y, (ptrdiff_t)from), part.stride,
                     p->centered ? &hi : NULL, &scale, &offset, NULL, NULL,
                     p->stream && i == 1);
  }
}

void fn_columns_apply(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                      void *y, ptrdiff_t y_stride, const fn_column_stats *s,
                      const fn_column_parameters *p) {
  const ptrdiff_t cols = (ptrdiff_t)t->cols;
  const bool per_row = p->per_row && (p->weight || p->bias);
  size_t from = 0;
  if (!s->any_slow && !per_row && t->cols <= FN_FOLD_TO / 2 && t->stride == cols &&
      y_stride == cols) {
    apply_folded(k, dtype, t, y, s, p);
    return;
  }
  for (size_t c = 0; s->any_slow && c < t->cols; c++) {
    if (!s->is_slow[c])
      continue;
    apply_span(k, dtype, t, y, y_stride, s, p, from, c);
    apply_slow(dtype, t, y, y_stride, s, p, c);
    from = c + 1;
  }
  apply_span(k, dtype, t, y, y_stride, s, p, from, t->cols);
}
