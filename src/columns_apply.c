/* columns_apply.c - a mean, scale and offset per column, applied to the rows of a
 * table.
 * SPDX-License-Identifier: MIT */
#include <stdint.h>

#include "check.h"
#include "columns.h"
#include "runs.h"
#include "scale.h"

fn_runs fn_table_column(const fn_table *t, fastnorm_dtype dtype, size_t c) {
  const size_t element = t->source ? t->source->element : fn_dtype_size(dtype);
  if (t->source && t->source->positions)
    return (fn_runs){.x = (const char *)t->x + c * element,
                     .rows = 1,
                     .segs = 1,
                     .len = t->rows,
                     .source = t->source,
                     .magnitudes = t->magnitudes};
  return (fn_runs){.x = (const char *)t->x + c * element,
                   .rows = 1,
                   .segs = t->rows,
                   .seg_stride = t->stride,
                   .len = 1,
                   .source = t->source,
                   .magnitudes = t->magnitudes};
}

static bool is_slow(const fn_column_stats *s, size_t c) {
  return s->any_slow && s->is_slow[c];
}

void fn_column_moments(fastnorm_dtype dtype, const fn_table *t, double eps,
                       bool centered, const fn_column_stats *s, size_t c,
                       fn_column_result *out) {
  if (is_slow(s, c)) {
    const fn_runs run = fn_table_column(t, dtype, c);
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
  fn_slow_given(out->mean, 0.0, out->var, eps, &slow);
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

/* Weight and bias of the rows at hand, if they are per row. */
typedef struct row_values {
  const void *weight, *bias;
} row_values;

/* With what an output adds, if it is direct, which begins at element `from` of y. */
static void apply_part(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                       void *y, ptrdiff_t y_stride, const void *hi, const void *scale,
                       const void *offset, const row_values *v, const fn_output *out,
                       size_t from, bool stream) {
  if (!out->sink) {
    k->apply_columns(t, y, y_stride, hi, scale, offset, v->weight, v->bias, stream);
    return;
  }
  fn_addend add = fn_output_addend(out, true);
  if (add.post_add)
    add.post_add = fn_element(dtype, add.post_add, (ptrdiff_t)from);
  k->apply_add_columns(t, y, y_stride, hi, scale, offset, &add, stream);
}

/* Columns [from, to), none of them slow. */
static void apply_span(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                       const fn_output *out, const fn_column_stats *s,
                       const fn_column_parameters *p, const row_values *v, size_t from,
                       size_t to) {
  const ptrdiff_t i = (ptrdiff_t)from;
  const fn_table span = {.x = fn_element(dtype, t->x, i),
                         .rows = t->rows,
                         .stride = t->stride,
                         .cols = to - from};
  if (from == to)
    return;
  apply_part(k, dtype, &span, fn_element(dtype, out->y, i), out->seg_stride,
             p->centered ? fn_element(dtype, &s->hi, i) : NULL,
             fn_element(dtype, &s->scale, i), fn_element(dtype, &s->offset, i), v, out,
             from, out->stream);
}

static void apply_slow(fastnorm_dtype dtype, const fn_table *t, const fn_output *out,
                       const fn_column_parameters *p, const row_values *v,
                       const fn_slow *slow, size_t c) {
  const fn_runs run = fn_table_column(t, dtype, c);
  const ptrdiff_t i = (ptrdiff_t)c;
  const void *weight = p->per_row ? v->weight : p->weight;
  const void *bias = p->per_row ? v->bias : p->bias;
  const ptrdiff_t at = p->per_row ? 0 : i;
  fn_slow_apply(dtype, &run, fn_element(dtype, out->y, i), out->seg_stride, &slow[c],
                weight ? fn_element(dtype, weight, at) : NULL,
                bias ? fn_element(dtype, bias, at) : NULL, p->per_row ? 1 : 0);
}

/* Rows one after another. */
static void apply_widened(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                          const fn_output *out, const fn_column_stats *s,
                          const fn_column_parameters *p) {
  const row_values none = {NULL, NULL};
  const size_t cols = t->cols;
  fn_column_array hi, scale, offset;
  fn_wide_part parts[3];
  fn_wide_parts(dtype, out->y, t->rows, cols, parts);
  for (int i = 0; i < 3; i++) {
    const ptrdiff_t from = (ptrdiff_t)parts[i].from;
    const fn_table part = {.x = fn_element(dtype, t->x, from),
                           .rows = parts[i].rows,
                           .stride = (ptrdiff_t)parts[i].width,
                           .cols = parts[i].width};
    if (part.rows == 0)
      continue;
    fn_wide_numbers(dtype, &parts[i], cols, &s->scale, &scale);
    if (p->centered) {
      fn_wide_numbers(dtype, &parts[i], cols, &s->hi, &hi);
      fn_wide_numbers(dtype, &parts[i], cols, &s->offset, &offset);
    }
    fn_output rows_of = *out;
    rows_of.post_add_seg_stride = part.stride;
    apply_part(k, dtype, &part, fn_element(dtype, out->y, from), part.stride,
               p->centered ? &hi : NULL, &scale, &offset, &none, &rows_of,
               parts[i].from, out->stream && i == 1);
  }
}

/* From so many rows on few columns are better as wide rows. ([6272, 256] 16 bytes off a
 * line gain nothing: the kernel puts its stores on lines.) */
#define WIDEN_FROM_ROWS 1024

/* No source, and no sink but a direct one. */
static void apply_plain(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                        const fn_output *out, const fn_column_stats *s,
                        const fn_column_parameters *p, const row_values *v,
                        const fn_slow *slow) {
  const ptrdiff_t cols = (ptrdiff_t)t->cols;
  size_t from = 0;
  if (t->rows >= WIDEN_FROM_ROWS && !s->any_slow && !v->weight && !v->bias &&
      t->cols <= FN_FOLD_TO / 2 && t->stride == cols && out->seg_stride == cols &&
      (!out->post_add || out->post_add_seg_stride == cols)) {
    apply_widened(k, dtype, t, out, s, p);
    return;
  }
  for (size_t c = 0; s->any_slow && c < t->cols; c++) {
    if (!s->is_slow[c])
      continue;
    apply_span(k, dtype, t, out, s, p, v, from, c);
    apply_slow(dtype, t, out, p, v, slow, c);
    from = c + 1;
  }
  apply_span(k, dtype, t, out, s, p, v, from, t->cols);
}

/* Rounds what is staged to another type, and multiplies each row by its weight. */
static void cast_and_weigh(const fn_kernels *k, fastnorm_dtype dtype, fn_table *t,
                           fn_stage *stage, const fn_column_parameters *p,
                           const row_values *v) {
  fn_column_array ones;
  for (size_t c = 0; c < t->cols; c++)
    fn_set(dtype, &ones, c, 1.0);
  fn_round_span(k, p->cast_dtype, t->rows * t->cols, stage);
  if (v->weight)
    k->apply_columns(t, stage, t->stride, NULL, &ones, NULL, v->weight, NULL, false);
}

/* As many rows as the stage holds, or as there is room for the values of. */
#define VALUE_ROWS 1024
static void apply_blocks(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                         const fn_output *out, const fn_column_stats *s,
                         const fn_column_parameters *p, const fn_slow *slow) {
  double weights[VALUE_ROWS], biases[VALUE_ROWS];
  const size_t fit = fn_stage_elements(dtype) / 2 / t->cols;
  const size_t most = fit < VALUE_ROWS ? fit : VALUE_ROWS;
  fn_stage stage;
  for (size_t r = 0; r < t->rows; r += most) {
    const size_t n = t->rows - r < most ? t->rows - r : most;
    const fn_output y = fn_output_at(dtype, out, 0, r, 0);
    const fn_output staged = {.y = &stage, .seg_stride = (ptrdiff_t)t->cols};
    row_values v = {NULL, NULL}, none = {NULL, NULL};
    if (p->per_row) {
      v.weight = fn_vector_read(k, dtype, &p->row_weight, r, n, weights);
      v.bias = fn_vector_read(k, dtype, &p->row_bias, r, n, biases);
    }
    fn_table block = fn_table_rows(t, dtype, r, n);
    if (block.source)
      block = fn_gather_table(dtype, &block, &stage);
    apply_plain(k, dtype, &block, out->sink ? &staged : &y, s, p,
                p->cast_before_weight ? &none : &v, slow);
    if (!out->sink)
      continue;
    block.x = &stage;
    block.stride = staged.seg_stride;
    block.source = NULL;
    if (p->cast_before_weight)
      cast_and_weigh(k, dtype, &block, &stage, p, &v);
    fn_scatter_table(dtype, &block, &y);
  }
}

static void apply(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                  const fn_output *out, const fn_column_stats *s,
                  const fn_column_parameters *p, const fn_slow *slow) {
  const bool direct = out->sink && p->centered && !s->any_slow && !p->per_row &&
                      fn_output_is_direct(out, dtype);
  if (t->source || (out->sink && !direct) ||
      !fn_vector_is_plain(&p->row_weight, dtype) ||
      !fn_vector_is_plain(&p->row_bias, dtype)) {
    apply_blocks(k, dtype, t, out, s, p, slow);
    return;
  }
  const row_values v = {p->row_weight.p, p->row_bias.p};
  apply_plain(k, dtype, t, out, s, p, &v, slow);
}

/* All of the slow columns are read before any is written: y may be x. */
static void apply_with_slow(const fn_kernels *k, fastnorm_dtype dtype,
                            const fn_table *t, const fn_output *out,
                            const fn_column_stats *s, const fn_column_parameters *p) {
  fn_slow slow[FN_COLUMNS];
  for (size_t c = 0; c < t->cols; c++) {
    const fn_runs run = fn_table_column(t, dtype, c);
    if (!s->is_slow[c])
      continue;
    if (p->given)
      fn_slow_given(fn_get(dtype, &s->hi, c), 0.0, s->var[c], p->eps, &slow[c]);
    else
      fn_slow_stats(dtype, &run, p->eps, p->centered, &slow[c]);
  }
  apply(k, dtype, t, out, s, p, slow);
}

void fn_columns_apply(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                      const fn_output *out, const fn_column_stats *s,
                      const fn_column_parameters *p) {
  if (s->any_slow && !p->slow)
    apply_with_slow(k, dtype, t, out, s, p);
  else
    apply(k, dtype, t, out, s, p, p->slow);
}
