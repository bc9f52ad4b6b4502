/* channels_gradient.c - gradients of channels: y from what was found of each channel.
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "channels_backward.h"
#include "check.h"

#define BLOCK 4096 /* elements of short runs that are staged at a time */

/* From g and x (both of the working type) to y, which has no sink; parameters from
 * `from` on. */
static void apply_plain(const fn_backward *w, const fn_runs *g, const fn_runs *x,
                        const fn_output *y, bool columns, size_t ahead, size_t from,
                        const fn_channel_block *b) {
  const ptrdiff_t i = (ptrdiff_t)from, rows = (ptrdiff_t)ahead;
  const fn_kernels *k = w->kernels;
  const void *a = fn_element(w->dtype, &b->a, i);
  const fn_table t = {
      .x = g->x, .rows = g->segs, .stride = g->seg_stride, .cols = g->rows, .fold = 1};
  const fn_pairs p = {.g = g->x,
                      .x = x->x,
                      .rows = columns ? g->segs : g->rows,
                      .segs = columns ? 1 : g->segs,
                      .len = columns ? g->rows : g->len,
                      .g_row_stride = columns ? g->seg_stride : g->row_stride,
                      .g_seg_stride = g->seg_stride,
                      .x_row_stride = columns ? x->seg_stride : x->row_stride,
                      .x_seg_stride = x->seg_stride,
                      .hi = fn_element(w->dtype, &b->hi, i),
                      .scale = fn_element(w->dtype, &b->scale, i),
                      .offset = fn_element(w->dtype, &b->offset, i),
                      .shift = fn_element(w->dtype, &b->shift, i)};
  const fn_gradient to = {
      .a = a,
      .b = fn_element(w->dtype, &b->b, i),
      .c = fn_element(w->dtype, &b->c, i),
      .y = y->y,
      .row_stride = columns ? y->seg_stride : y->row_stride,
      .seg_stride = y->seg_stride,
      .stream = y->stream,
      .ahead_g = ahead ? fn_element(w->dtype, g->x, rows * g->row_stride) : NULL,
      .ahead_x = ahead ? fn_element(w->dtype, x->x, rows * x->row_stride) : NULL};
  if (w->statistics == FN_FIXED && columns)
    k->apply_columns(&t, y->y, y->seg_stride, NULL, a, NULL, NULL, NULL, y->stream);
  else if (w->statistics == FN_FIXED)
    k->apply_runs(g, y->y, y->row_stride, y->seg_stride, NULL, a, NULL, NULL, NULL,
                  y->stream);
  else if (columns)
    k->gradient_columns(&p, &to);
  else
    k->gradient_runs(&p, &to);
}

/* What a stage holds of a view, as runs or as the rows of a table. */
static fn_runs gathered(const fn_backward *w, const fn_runs *g, bool columns,
                        fn_stage *stage) {
  if (!g->source)
    return *g;
  if (!columns)
    return fn_gather_runs(w->dtype, g, false, stage);
  const fn_table t = {.x = g->x,
                      .rows = g->segs,
                      .stride = g->seg_stride,
                      .cols = g->rows,
                      .source = g->source};
  const fn_table staged = fn_gather_table(w->dtype, &t, stage);
  fn_runs rows = *g;
  rows.x = staged.x;
  rows.seg_stride = staged.stride;
  rows.source = NULL;
  return rows;
}

/* A view, or a part of it, that fits the stage. */
static void apply_staged(const fn_backward *w, const fn_view *v, size_t from,
                         const fn_channel_block *b) {
  fn_stage stage[2];
  const fn_runs g = gathered(w, &v->g, v->columns, &stage[0]);
  const fn_runs x =
      w->statistics == FN_FIXED ? g : gathered(w, &v->x, v->columns, &stage[1]);
  if (!v->y.sink) {
    apply_plain(w, &g, &x, &v->y, v->columns, v->ahead, from, b);
    return;
  }
  fn_output staged = fn_stage_output(&stage[0], &g);
  if (v->columns)
    staged.seg_stride = (ptrdiff_t)g.rows;
  apply_plain(w, &g, &x, &staged, v->columns, 0, from, b);
  const fn_runs rows = {.x = &stage[0],
                        .rows = v->columns ? 1 : g.rows,
                        .row_stride = staged.row_stride,
                        .segs = g.segs,
                        .seg_stride = staged.seg_stride,
                        .len = v->columns ? g.rows : g.len};
  fn_scatter_runs(w->dtype, &rows, &v->y);
}

static void apply_runs(const fn_backward *w, const fn_view *v, size_t from,
                       const fn_channel_block *b) {
  const size_t run = v->g.segs * v->g.len, most = fn_stage_elements(w->dtype);
  if (run <= most) {
    const size_t fit = run <= BLOCK ? BLOCK / run : 1, rows = v->g.rows;
    for (size_t r = 0; r < rows; r += fit) {
      const fn_view some = fn_view_rows(w, v, r, rows - r < fit ? rows - r : fit);
      apply_staged(w, &some, from + r, b);
    }
    return;
  }
  const size_t chunks = fn_run_chunks(&v->g, w->dtype);
  for (size_t r = 0; r < v->g.rows; r++)
    for (size_t i = 0; i < chunks; i++) {
      size_t seg, at;
      fn_run_chunk_begin(&v->g, w->dtype, i, &seg, &at);
      const fn_view part = {.g = fn_run_chunk(&v->g, w->dtype, r, i),
                            .x = fn_run_chunk(&v->x, w->dtype, r, i),
                            .y = fn_output_at(w->dtype, &v->y, r, seg, at)};
      apply_staged(w, &part, from + r, b);
    }
}

static void apply_columns(const fn_backward *w, const fn_view *v, size_t from,
                          const fn_channel_block *b) {
  const size_t fit = fn_stage_elements(w->dtype) / 2 / v->g.rows, segs = v->g.segs;
  for (size_t s = 0; s < segs; s += fit) {
    const fn_view some = fn_view_segments(w, v, s, segs - s < fit ? segs - s : fit);
    apply_staged(w, &some, from, b);
  }
}

/* To set the parameters of a wide row takes as long as to apply some rows. */
#define WIDEN_FROM_ROWS 64

/* Columns whose rows follow one another in all three arrays: few, or many whose rows
 * begin off a line. Those share lines with their neighbours, which cannot be streamed,
 * and have few columns left at both ends: [6272, 256], 16 bytes off as NumPy's large
 * arrays are, 660 -> 480 us with its sums (AMD EPYC Zen 5, avx512). */
static bool is_widened(const fn_backward *w, const fn_view *v) {
  const ptrdiff_t cols = (ptrdiff_t)v->g.rows;
  const size_t row = v->g.rows * fn_dtype_size(w->dtype);
  return v->columns && !v->g.source && !v->y.sink && v->g.segs >= WIDEN_FROM_ROWS &&
         v->g.seg_stride == cols && v->x.seg_stride == cols &&
         v->y.seg_stride == cols &&
         (cols <= FN_FOLD_TO / 2 || (row % 64 == 0 && (uintptr_t)v->y.y % 64 != 0));
}

static void apply_widened(const fn_backward *w, const fn_view *v, size_t from,
                          const fn_channel_block *b) {
  const fastnorm_dtype dtype = w->dtype;
  const size_t cols = v->g.rows;
  fn_wide_part parts[3];
  fn_channel_block wide;
  fn_wide_parts(dtype, v->y.y, v->g.segs, cols, parts);
  for (int i = 0; i < 3; i++) {
    const fn_wide_part *part = &parts[i];
    const ptrdiff_t at = (ptrdiff_t)part->from;
    if (part->rows == 0)
      continue;
#define SET(member)                                                                    \
  fn_wide_numbers(dtype, part, cols, fn_element(dtype, &b->member, (ptrdiff_t)from),   \
                  &wide.member)
    SET(a);
    if (w->statistics != FN_FIXED) {
      SET(hi);
      SET(scale);
      SET(offset);
      SET(shift);
      SET(b);
      SET(c);
    }
#undef SET
    fn_view rows = *v;
    rows.g.x = fn_element(dtype, v->g.x, at);
    rows.x.x = fn_element(dtype, v->x.x, at);
    rows.y.y = fn_element(dtype, v->y.y, at);
    rows.g.rows = rows.x.rows = part->width;
    rows.g.segs = rows.x.segs = part->rows;
    rows.g.seg_stride = rows.x.seg_stride = rows.y.seg_stride = (ptrdiff_t)part->width;
    rows.y.stream = v->y.stream && i == 1;
    apply_plain(w, &rows.g, &rows.x, &rows.y, true, 0, 0, &wide);
  }
}

/* Rows none of which is slow. */
static void apply_span(const fn_backward *w, const fn_view *v, size_t from,
                       const fn_channel_block *b) {
  if (is_widened(w, v))
    apply_widened(w, v, from, b);
  else if (!v->g.source && !v->y.sink)
    apply_plain(w, &v->g, &v->x, &v->y, v->columns, v->ahead, from, b);
  else if (v->columns)
    apply_columns(w, v, from, b);
  else
    apply_runs(w, v, from, b);
}

void fn_view_gradient(const fn_backward *w, const fn_view *v, size_t from,
                      const fn_channel_block *b) {
  const size_t rows = v->g.rows;
  if (!memchr(b->is_slow + from, true, rows)) {
    apply_span(w, v, from, b);
    return;
  }
  for (size_t i = 0; i < rows;) {
    size_t end = i;
    while (end < rows && !b->is_slow[from + end])
      end++;
    if (end > i) {
      const fn_view span = fn_view_rows(w, v, i, end - i);
      apply_span(w, &span, from + i, b);
    }
    i = end + (end < rows);
  }
}
