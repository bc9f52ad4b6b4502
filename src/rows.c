/* rows.c - norms of the rows of a table: layer, RMS, L2 and L1 norm.
 * SPDX-License-Identifier: MIT
 *
 * Rows are taken in groups that stay in the first-level cache between the two passes; a
 * piece of work for a thread is some groups. Neither size depends on the number of
 * threads. */
#include "rows.h"

#include "check.h"
#include "columns.h"
#include "denormals.h"
#include "dispatch.h"
#include "lp.h"
#include "order.h"
#include "runs.h"
#include "scale.h"
#include "threads.h"

/* Of x: with as much of y it fits the first-level cache. See fn_bundle_bytes(). */
#define GROUP_BYTES 24576
#define TWO_BYTES   32768 /* two rows share the loads of weight and bias */
#define PIECE_BYTES 131072
/* Eight vecs. */
#define PIPELINE_BYTES 1024

static bool is_centered(const fn_rows_work *w) {
  return w->norm == FN_CENTERED;
}

static void set_stat(const fn_rows_work *w, void *p, size_t i, double value) {
  if (p)
    fn_set(w->dtype, p, i, value);
}

/* ---- rows ---- */

/* Statistics that were given. */
static void find_given(const fn_rows_work *w, size_t first, const fn_runs *g,
                       fn_rows_stats *found) {
  fn_group_stats *s = &found->s;
  s->any_slow = false;
  for (size_t r = 0; r < g->rows; r++) {
    fn_set(w->dtype, &s->hi, r, fn_get(w->dtype, w->stored_mean, first + r));
    s->var[r] = fn_get(w->dtype, w->stored_var, first + r);
  }
  const fn_scale_input in = {
      .n = g->rows, .eps = w->eps, .given = true, .hi = &s->hi, .var = s->var};
  fn_group_array rstd;
  fn_scale(w->kernels, w->dtype, &in, &s->any_slow, s->is_slow, &rstd, &found->scale,
           &found->offset);
  for (size_t r = 0; s->any_slow && r < g->rows; r++)
    if (s->is_slow[r])
      fn_slow_given(fn_get(w->dtype, &s->hi, r), 0.0, s->var[r], w->eps, &s->slow[r]);
}

void fn_rows_find(const fn_rows_work *w, size_t first, const fn_runs *g,
                  fn_rows_stats *found) {
  fn_group_stats *s = &found->s;
  if (w->stored_mean) {
    find_given(w, first, g, found);
    return;
  }
  if (fn_is_lp(w->norm)) {
    fn_runs runs = *g;
    runs.magnitudes = w->norm == FN_SUM_OF_MAGNITUDES;
    fn_runs_stats(w->kernels, w->dtype, &runs, 0.0, false, s);
    fn_runs_lp(w->kernels, w->dtype, &runs, w->eps, NULL, s, &found->scale);
    return;
  }
  const bool centered = is_centered(w);
  fn_runs_stats(w->kernels, w->dtype, g, w->eps, centered, s);
  w->kernels->affine(g->rows, s->var, w->eps, NULL, centered ? &s->lo : NULL, NULL,
                     NULL, NULL, &found->scale, centered ? &found->offset : NULL);
}

void fn_rows_write_stats(const fn_rows_work *w, size_t first, size_t rows,
                         const fn_rows_stats *found) {
  const fn_group_stats *s = &found->s;
  for (size_t r = 0; (w->mean || w->rstd) && r < rows; r++) {
    const bool slow = s->any_slow && s->is_slow[r];
    if (w->mean)
      set_stat(w, w->mean, first + r,
               slow ? fn_slow_mean(&s->slow[r]) : fn_get(w->dtype, &s->hi, r));
    if (fn_is_lp(w->norm))
      set_stat(w, w->rstd, first + r, s->sum[r]);
    else
      set_stat(w, w->rstd, first + r,
               slow ? fn_slow_rstd(&s->slow[r]) : fn_get(w->dtype, &found->scale, r));
  }
}

static fn_runs runs_at(const fn_rows_work *w, size_t first, size_t rows) {
  return (fn_runs){.x = fn_element(w->dtype, w->x, (ptrdiff_t)first * w->x_stride),
                   .rows = rows,
                   .row_stride = w->x_stride,
                   .segs = 1,
                   .len = w->cols,
                   .far = w->far};
}

/* A group of rows: their statistics, and while these are in the cache their results. */
static void do_group(const fn_rows_work *w, size_t first, size_t rows) {
  fn_rows_stats found;
  fn_runs g = runs_at(w, first, rows);
  if (first + 2 * rows <= w->rows) /* the next one */
    g.ahead = fn_element(w->dtype, g.x, (ptrdiff_t)rows * w->x_stride);
  fn_rows_find(w, first, &g, &found);
  const fn_run_apply a = {.kernels = w->kernels,
                          .dtype = w->dtype,
                          .hi = is_centered(w) ? &found.s.hi : NULL,
                          .scale = &found.scale,
                          .offset = &found.offset,
                          .s = &found.s,
                          .weight = w->weight.p,
                          .bias = w->bias.p,
                          .step = 1};
  const fn_output out = {.y =
                             fn_element(w->dtype, w->y, (ptrdiff_t)first * w->y_stride),
                         .row_stride = w->y_stride,
                         .stream = w->stream};
  fn_runs_apply(&a, &g, &out);
  fn_rows_write_stats(w, first, rows, &found);
}

static size_t row_bytes(const fn_rows_work *w) {
  return w->cols * fn_dtype_size(w->dtype);
}

static size_t group_rows(const fn_rows_work *w) {
  const size_t row = row_bytes(w);
  const size_t fit = fn_bundle_bytes(w->kernels, GROUP_BYTES) / row;
  if (fit < 2)
    return 2 * row <= TWO_BYTES ? 2 : 1;
  return fit > FN_GROUP ? FN_GROUP : fit;
}

static size_t piece_rows(const fn_rows_work *w) {
  const size_t fit = PIECE_BYTES / row_bytes(w);
  const size_t group = group_rows(w);
  return fit < group ? group : fit / group * group;
}

/* Whether the next is for these rows: of 8 vecs, as norm_runs wants, to what the cache
 * holds. Before and after, us, one thread, rows 16 bytes off a line, AMD EPYC Zen 4:
 * layer norm (avx512) of [128, 768] 15.8 -> 14.2, of [512, 1024] 100 -> 83, of [2048,
 * 256] 106 -> 94; RMS norm of [512, 1024] 88 -> 72 (avx2: 90 -> 67). */
static bool go_through_pipeline(const fn_rows_work *w) {
  const fn_kernels *k = w->kernels;
  const size_t bytes = row_bytes(w);
  const bool centered = is_centered(w);
  return k->norm_runs && (!centered || (k->norms_centered && w->bias.p)) &&
         w->weight.p && bytes >= PIPELINE_BYTES && fn_fits_first_level(5 * bytes) &&
         w->cols <= fn_stage_elements(w->dtype) && !w->stored_mean &&
         !fn_is_lp(w->norm) && !w->stream;
}

/* Up to FN_GROUP rows by norm_runs, before the first that it does not do. */
static size_t pipeline(const fn_rows_work *w, size_t first, size_t rows) {
  const size_t some = fn_smaller(rows, FN_GROUP);
  const fn_runs g = runs_at(w, first, some);
  fn_rows_stats found;
  fn_samples samples;
  const fn_norm n = {.samples = &samples,
                     .eps = w->eps,
                     .y = fn_element(w->dtype, w->y, (ptrdiff_t)first * w->y_stride),
                     .y_row_stride = w->y_stride,
                     .hi = is_centered(w) ? &found.s.hi : NULL,
                     .scale = &found.scale,
                     .offset = &found.offset,
                     .weight = w->weight.p,
                     .bias = w->bias.p};
  fn_run_samples(&g, w->dtype, &samples);
  const size_t done = w->kernels->norm_runs(&g, &n);
  found.s.any_slow = false;
  fn_rows_write_stats(w, first, done, &found);
  return done;
}

void fn_rows_some(const fn_rows_work *w, size_t first, size_t end) {
  const size_t group = group_rows(w);
  const bool at_once = !w->staged && go_through_pipeline(w);
  if (w->staged) {
    fn_rows_staged(w, first, end);
    return;
  }
  for (size_t r = first; r < end;) {
    const size_t done = at_once ? pipeline(w, r, end - r) : 0;
    const size_t left = end - r - done;
    r += done;
    /* where it ended for none of the right reasons: others like this row may follow */
    if (left > 0 && done < FN_GROUP) {
      do_group(w, r, fn_smaller(left, group));
      r += fn_smaller(left, group);
    }
  }
}

static void rows_task(void *context, size_t index) {
  const fn_rows_work *w = context;
  const size_t piece = piece_rows(w), first = index * piece;
  fn_rows_some(w, first, w->rows - first < piece ? w->rows : first + piece);
}

/* ---- inner > 1: the columns of a table [cols, inner] per row, some at a time ---- */

static size_t column_block(const fn_rows_work *w) {
  return fn_column_block(w->cols, w->inner, w->dtype);
}

/* Statistics of the columns of t, which begin at number `first` of all, and their
 * scale; the caller's arrays of them. */
static void columns_find(const fn_rows_work *w, const fn_table *t, size_t first,
                         fn_column_parameters *p, fn_column_stats *s, fn_slow *slow) {
  const bool centered = is_centered(w), given = w->stored_mean != NULL;
  if (given) {
    s->any_slow = false;
    for (size_t c = 0; c < t->cols; c++) {
      fn_set(w->dtype, &s->hi, c, fn_get(w->dtype, w->stored_mean, first + c));
      s->var[c] = fn_get(w->dtype, w->stored_var, first + c);
    }
  } else {
    fn_columns_stats(w->kernels, w->dtype, t, fn_is_lp(w->norm) ? 0.0 : w->eps,
                     centered, s);
  }
  if (fn_is_lp(w->norm)) {
    fn_columns_lp(w->kernels, w->dtype, t, w->eps, p, s, slow);
    for (size_t c = 0; c < t->cols; c++)
      set_stat(w, w->rstd, first + c, s->sum[c]);
    return;
  }
  fn_columns_scale(w->kernels, w->dtype, t->cols, p, s);
  for (size_t c = 0; (w->mean || w->rstd) && c < t->cols; c++) {
    fn_column_result column;
    if (given)
      fn_column_given(w->dtype, w->eps, s, c, &column);
    else
      fn_column_read(w->dtype, t, w->eps, centered, s, c, &column);
    set_stat(w, w->mean, first + c, column.mean);
    set_stat(w, w->rstd, first + c, column.rstd);
  }
}

void fn_rows_columns(const fn_rows_work *w, size_t r, size_t c, size_t n) {
  const ptrdiff_t row = (ptrdiff_t)r, inner = (ptrdiff_t)w->inner;
  const ptrdiff_t x_at = row * w->x_stride + (ptrdiff_t)c;
  const fn_table t = {.x = (const char *)w->x + x_at * (ptrdiff_t)w->f.source.element,
                      .rows = w->cols,
                      .stride = inner,
                      .cols = n,
                      .fold = 1,
                      .source = w->f.gathers ? &w->f.source : NULL,
                      .magnitudes = w->norm == FN_SUM_OF_MAGNITUDES};
  fn_column_parameters p = {.eps = w->eps,
                            .centered = is_centered(w),
                            .given = w->stored_mean != NULL,
                            .per_row = true,
                            .row_weight = w->weight,
                            .row_bias = w->bias,
                            .cast_before_weight =
                                w->mode == FASTNORM_RMS_CAST_BEFORE_WEIGHT,
                            .cast_dtype = w->f.x};
  fn_output out = {.y = w->y,
                   .row_stride = w->y_stride,
                   .seg_stride = inner,
                   .post_add = w->post_add,
                   .post_add_row_stride = w->post_add_stride,
                   .post_add_seg_stride = inner,
                   .sink = w->f.scatters ? &w->f.sink : NULL,
                   .stream = w->stream};
  out = fn_output_at(w->dtype, &out, r, 0, c);
  fn_column_stats s;
  fn_slow slow[FN_COLUMNS];
  columns_find(w, &t, r * w->inner + c, &p, &s, slow);
  fn_columns_apply(w->kernels, w->dtype, &t, &out, &s, &p);
}

static void columns_task(void *context, size_t index) {
  const fn_rows_work *w = context;
  const size_t block = column_block(w), blocks = (w->inner + block - 1) / block;
  const size_t c = index % blocks * block;
  fn_rows_columns(w, index / blocks, c, w->inner - c < block ? w->inner - c : block);
}

void fn_rows_run(const fn_rows_work *w, const fastnorm_exec *exec) {
  if (exec->check_only)
    return;
  const fn_formats *f = &w->f;
  const size_t count = w->rows * w->cols * w->inner;
  const size_t bytes = count * (f->source.element + f->sink.element);
  const size_t piece = w->inner == 1 ? piece_rows(w) : column_block(w);
  const size_t pieces = w->inner == 1 ? (w->rows + piece - 1) / piece
                                      : w->rows * ((w->inner + piece - 1) / piece);
  if (w->lengths)
    fn_rows_lengths(w, pieces, piece, bytes, exec);
  else
    fn_parallel_for(exec, pieces, bytes, w->inner == 1 ? rows_task : columns_task,
                    (void *)w);
}
