/* batch_norm_columns.c - batch norm where channels are the columns of a table.
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "batch_norm_work.h"
#include "check.h"
#include "lp.h"
#include "threads.h"

typedef struct column_work {
  const fn_batch_work *w;
  const fn_table *t;
  size_t first; /* channel */
  const fn_column_stats *s;
  const fn_column_parameters *p;
  size_t rows; /* per piece */
} column_work;

static void column_apply_task(void *context, size_t index) {
  const column_work *c = context;
  const size_t first = index * c->rows, left = c->t->rows - first;
  const fn_table part =
      fn_table_rows(c->t, c->w->a.dtype, first, left < c->rows ? left : c->rows);
  const fn_output out = fn_batch_output(c->w, c->first, first);
  fn_columns_apply(c->w->a.kernels, c->w->a.dtype, &part, &out, c->s, c->p);
}

static void report_columns(const fn_batch_work *w, size_t first, const fn_table *t,
                           const fn_column_stats *s) {
  if (!s->any_slow)
    fn_batch_report_all(w, first, t->cols, &s->hi, w->training ? &s->lo : NULL, s->var,
                        &s->rstd);
  for (size_t c = 0; s->any_slow && c < t->cols; c++) {
    fn_column_result found = {0.0, 0.0, 0.0};
    if (w->training)
      fn_column_read(w->a.dtype, t, w->eps, true, s, c, &found);
    else
      fn_column_given(w->a.dtype, w->eps, s, c, &found);
    fn_batch_report(w, first + c, &found);
  }
}

static void apply_block(const fn_batch_work *w, size_t first, const fn_table *t,
                        const fn_column_stats *s, const fn_column_parameters *p) {
  const size_t row_bytes = t->cols * fn_dtype_size(w->a.dtype);
  const size_t fit = FN_BATCH_PIECE / row_bytes;
  column_work c = {.w = w,
                   .t = t,
                   .first = first,
                   .s = s,
                   .p = p,
                   /* a slow column reads the whole of itself: then in one piece */
                   .rows = s->any_slow ? t->rows : fit};
  fn_parallel_for(w->a.exec, (t->rows + c.rows - 1) / c.rows, 2 * t->rows * row_bytes,
                  column_apply_task, &c);
}

/* The slow ones that `known` has not yet. */
static void slow_columns(const fn_batch_work *w, const fn_table *t,
                         const fn_column_stats *s, bool *known, fn_slow *slow) {
  for (size_t c = 0; s->any_slow && c < t->cols; c++) {
    const fn_runs run = fn_table_column(t, w->a.dtype, c);
    if (s->is_slow[c] && !known[c])
      fn_slow_stats(w->a.dtype, &run, w->eps, true, &slow[c]);
    known[c] = s->is_slow[c];
  }
}

/* As renorm_group(), for a block of columns; and all that follows. */
static void renorm_block(const fn_batch_work *w, size_t first, const fn_table *t,
                         fn_column_parameters *p, fn_column_stats *s) {
  const fastnorm_dtype dtype = w->a.dtype;
  fn_column_array mean, weight, bias;
  double stored[FN_COLUMNS], batch[FN_COLUMNS];
  bool known[FN_COLUMNS] = {false}, is_stored[FN_COLUMNS];
  fn_slow slow[FN_COLUMNS];
  slow_columns(w, t, s, known, slow);
  fn_batch_read_running(w, first, t->cols, &mean, stored);
  memcpy(batch, s->var, sizeof(batch));
  const fn_renorm_input in = {.first = first,
                              .n = t->cols,
                              .eps = w->eps,
                              .hi = &s->hi,
                              .lo = &s->lo,
                              .var = batch,
                              .is_slow = s->any_slow ? s->is_slow : NULL,
                              .slow = slow,
                              .stored_mean = &mean,
                              .stored_var = stored,
                              .weight = p->weight,
                              .bias = p->bias};
  const fn_renorm_output out = {&weight, &bias, s->var, is_stored};
  fn_renorm_correct(dtype, w->renorm, &in, &out);
  if (p->weight || w->renorm->r_max > 1.0)
    p->weight = &weight;
  if (p->bias || w->renorm->d_max > 0.0)
    p->bias = &bias;
  fn_columns_scale(w->a.kernels, dtype, t->cols, p, s);
  memcpy(s->var, batch, sizeof(batch));
  w->a.kernels->affine(t->cols, s->var, w->eps, NULL, NULL, NULL, NULL, &s->rstd,
                       &s->shift, NULL);
  report_columns(w, first, t, s);
  slow_columns(w, t, s, known, slow);
  for (size_t c = 0; s->any_slow && c < t->cols; c++)
    if (s->is_slow[c] && is_stored[c])
      fn_slow_rescale(stored[c], w->eps, &slow[c]);
  p->slow = slow;
  apply_block(w, first, t, s, p);
}

/* Weight norm, from the sums on. */
static void length_block(const fn_batch_work *w, size_t first, const fn_table *t,
                         fn_column_parameters *p, fn_column_stats *s) {
  fn_slow slow[FN_COLUMNS];
  fn_columns_lp(w->a.kernels, w->a.dtype, t, 0.0, p, s, slow);
  fn_batch_report_norms(w, first, t->cols, s->sum);
  apply_block(w, first, t, s, p);
}

void fn_batch_columns(const fn_batch_work *w, size_t first, size_t cols) {
  const fn_channels *a = &w->a;
  const fn_table t = fn_channels_table(a, first, cols);
  fn_column_array weight, bias;
  fn_column_parameters p = {
      .eps = w->eps,
      .centered = !a->about_zero,
      .given = !w->training,
      .weight = fn_vector_read(a->kernels, a->dtype, &w->weight, first, cols, &weight),
      .bias = fn_vector_read(a->kernels, a->dtype, &w->bias, first, cols, &bias)};
  fn_column_stats s;
  if (w->training) {
    fn_channels_columns(a, &t, w->eps, &s);
  } else {
    fn_batch_read_running(w, first, cols, &s.hi, s.var);
    s.any_slow = false;
  }
  if (w->renorm) {
    renorm_block(w, first, &t, &p, &s);
    return;
  }
  if (a->about_zero) {
    length_block(w, first, &t, &p, &s);
    return;
  }
  fn_columns_scale(a->kernels, a->dtype, cols, &p, &s);
  report_columns(w, first, &t, &s);
  apply_block(w, first, &t, &s, &p);
}
