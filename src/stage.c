/* stage.c - elements between the caller's arrays and the kernels that want the working
 * type.
 * SPDX-License-Identifier: MIT */
#include "stage.h"

#include "check.h"
#include "masked.h"
#include "runs.h"

static void *at(const void *p, size_t element, ptrdiff_t i) {
  return (char *)p + i * (ptrdiff_t)element;
}

static void *at_or_null(const void *p, size_t element, ptrdiff_t i) {
  return p ? at(p, element, i) : NULL;
}

bool fn_source_is_stage(fastnorm_dtype working, const fn_source *s) {
  return s->gather.residual_out && s->gather.residual_dtype == working;
}

static void *residual_out_at(const fn_source *s, size_t row, size_t i) {
  return at_or_null(s->gather.residual_out, s->residual_element,
                    (ptrdiff_t)row * s->residual_out_stride + (ptrdiff_t)i);
}

/* n elements from x on, which is element i of row `row`. */
static void gather_span(const fn_source *s, const void *x, size_t row, size_t i,
                        size_t n, bool last, void *out) {
  const ptrdiff_t r = (ptrdiff_t)row, c = (ptrdiff_t)i;
  fn_gather g = s->gather;
  g.residual = at_or_null(g.residual, s->residual_element, r * s->residual_stride + c);
  g.residual_bias = at_or_null(g.residual_bias, s->residual_bias_element, c);
  g.residual_out = last ? residual_out_at(s, row, i) : NULL;
  if (g.residual_out == out)
    g.residual_out = NULL;
  s->kernels->gather(&g, x, n, out);
}

/* The same of a run in pieces, as if x were adjacent from element 0 on. */
static void gather_pieces(fastnorm_dtype working, const fn_source *s, const void *x,
                          size_t row, size_t i, size_t n, char *out) {
  const char *begin = at(x, s->element, -(ptrdiff_t)i);
  for (size_t end = i + n; i < end;) {
    const size_t piece = i / s->piece, from = i % s->piece;
    const size_t some = end - i < s->piece - from ? end - i : s->piece - from;
    gather_span(
        s, at(begin, s->element, (ptrdiff_t)piece * s->piece_stride + (ptrdiff_t)from),
        row, i, some, false, out);
    out = fn_element(working, out, (ptrdiff_t)some);
    i += some;
  }
}

/* Runs of what takes part, as if that were adjacent from element 0 on. */
static fn_runs gather_positions(fastnorm_dtype working, const fn_runs *g, void *stage) {
  const fn_source *s = g->source;
  const size_t n = g->segs * g->len;
  const bool packed = fn_positions_pack(working, g, stage);
  for (size_t r = 0; !packed && r < g->rows; r++)
    fn_positions_gather(
        working, s,
        at(g->x, s->element, (ptrdiff_t)r * g->row_stride - (ptrdiff_t)g->at), g->at, n,
        s->positions->width, fn_element(working, stage, (ptrdiff_t)(r * n)));
  return (fn_runs){.x = stage,
                   .rows = g->rows,
                   .row_stride = (ptrdiff_t)n,
                   .segs = g->segs,
                   .seg_stride = (ptrdiff_t)g->len,
                   .len = g->len,
                   .magnitudes = g->magnitudes};
}

fn_runs fn_gather_runs(fastnorm_dtype working, const fn_runs *g, bool last,
                       void *stage) {
  const fn_source *s = g->source;
  if (s->positions)
    return gather_positions(working, g, stage);
  const bool adds =
      s->gather.residual || s->gather.residual_bias || s->gather.residual_out;
  size_t rows = g->rows, segs = g->segs, len = g->len;
  if (last && fn_source_is_stage(working, s)) { /* to rows of one segment alone */
    for (size_t r = 0; r < rows; r++)
      gather_span(s, at(g->x, s->element, (ptrdiff_t)r * g->row_stride), g->row + r,
                  g->at, len, true, residual_out_at(s, g->row + r, g->at));
    return (fn_runs){.x = residual_out_at(s, g->row, g->at),
                     .rows = rows,
                     .row_stride = s->residual_out_stride,
                     .segs = 1,
                     .len = len,
                     .magnitudes = g->magnitudes};
  }
  if (!adds && !s->piece && (segs == 1 || g->seg_stride == (ptrdiff_t)len)) {
    len *= segs, segs = 1; /* what is adjacent goes in one call */
    if (rows == 1 || g->row_stride == (ptrdiff_t)len)
      len *= rows, rows = 1;
  }
  char *out = stage;
  for (size_t r = 0; r < rows; r++)
    for (size_t seg = 0; seg < segs; seg++) {
      const ptrdiff_t i = (ptrdiff_t)r * g->row_stride + (ptrdiff_t)seg * g->seg_stride;
      const void *x = at(g->x, s->element, i);
      if (s->piece)
        gather_pieces(working, s, x, g->row + r, g->at, len, out);
      else
        gather_span(s, x, g->row + r, g->at + seg * g->len, len, last, out);
      out = fn_element(working, out, (ptrdiff_t)len);
    }
  return (fn_runs){.x = stage,
                   .rows = g->rows,
                   .row_stride = (ptrdiff_t)(g->segs * g->len),
                   .segs = g->segs,
                   .seg_stride = (ptrdiff_t)g->len,
                   .len = g->len,
                   .magnitudes = g->magnitudes};
}

fn_table fn_gather_table(fastnorm_dtype working, const fn_table *t, void *stage) {
  const fn_source *s = t->source;
  const fn_runs rows = {.x = t->x,
                        .rows = 1,
                        .segs = t->rows,
                        .seg_stride = t->stride,
                        .len = t->cols,
                        .source = t->source};
  if (s->positions)
    fn_positions_gather(working, s, at(t->x, s->element, -(ptrdiff_t)t->at * t->stride),
                        t->at * t->cols, t->rows * t->cols, t->cols, stage);
  else
    fn_gather_runs(working, &rows, false, stage);
  return (fn_table){.x = stage,
                    .rows = t->rows,
                    .stride = (ptrdiff_t)t->cols,
                    .cols = t->cols,
                    .fold = t->fold,
                    .magnitudes = t->magnitudes};
}

fn_output fn_output_at(fastnorm_dtype working, const fn_output *out, size_t row,
                       size_t seg, size_t i) {
  const ptrdiff_t r = (ptrdiff_t)row, s = (ptrdiff_t)seg, c = (ptrdiff_t)i;
  const size_t element = out->sink ? out->sink->element : fn_dtype_size(working);
  fn_output o = *out;
  o.y = at(o.y, element, r * o.row_stride + s * o.seg_stride + c);
  if (o.post_add)
    o.post_add = at(o.post_add, o.sink->post_add_element,
                    r * o.post_add_row_stride + s * o.post_add_seg_stride + c);
  return o;
}

bool fn_output_is_direct(const fn_output *out, fastnorm_dtype working) {
  const fn_scatter *s = &out->sink->scatter;
  return s->dtype == working && (!out->post_add || s->post_add_dtype == working) &&
         (s->activation == FASTNORM_IDENTITY || s->activation == FASTNORM_RELU);
}

fn_addend fn_output_addend(const fn_output *out, bool is_table) {
  return (fn_addend){.post_add = out->post_add,
                     .row_stride =
                         is_table ? out->post_add_seg_stride : out->post_add_row_stride,
                     .seg_stride = out->post_add_seg_stride,
                     .relu = out->sink->scatter.activation == FASTNORM_RELU};
}

fn_output fn_stage_output(void *stage, const fn_runs *g) {
  return (fn_output){.y = stage,
                     .row_stride = (ptrdiff_t)(g->segs * g->len),
                     .seg_stride = (ptrdiff_t)g->len};
}

void fn_scatter_runs(fastnorm_dtype working, const fn_runs *staged,
                     const fn_output *out) {
  const fn_sink *sink = out->sink;
  size_t rows = staged->rows, segs = staged->segs, len = staged->len;
  if (segs == 1 || (out->seg_stride == (ptrdiff_t)len &&
                    (!out->post_add || out->post_add_seg_stride == (ptrdiff_t)len))) {
    len *= segs, segs = 1;
    if (rows == 1 || (out->row_stride == (ptrdiff_t)len &&
                      (!out->post_add || out->post_add_row_stride == (ptrdiff_t)len)))
      len *= rows, rows = 1;
  }
  const void *v = staged->x;
  for (size_t r = 0; r < rows; r++)
    for (size_t seg = 0; seg < segs; seg++) {
      const fn_output o = fn_output_at(working, out, r, seg, 0);
      fn_scatter s = sink->scatter;
      s.post_add = o.post_add;
      s.ahead_element = out->ahead_element;
      s.ahead = at_or_null(out->ahead, out->ahead_element,
                           (ptrdiff_t)((r * segs + seg) * len));
      sink->kernels->scatter(&s, v, len, o.y, out->stream);
      v = fn_element(working, v, (ptrdiff_t)len);
    }
}

void fn_scatter_table(fastnorm_dtype working, const fn_table *staged,
                      const fn_output *out) {
  const fn_runs rows = {.x = staged->x,
                        .rows = 1,
                        .segs = staged->rows,
                        .seg_stride = staged->stride,
                        .len = staged->cols};
  fn_scatter_runs(working, &rows, out);
}

void fn_round_span(const fn_kernels *k, fastnorm_dtype dtype, size_t n, void *v) {
  const fn_scatter narrow = {.dtype = dtype, .inverse_scale = 1.0f};
  const fn_gather widen = {.dtype = dtype, .scale = 1.0f};
  float *f = v;
  for (size_t i = 0; i < n; i += 512) {
    _Alignas(64) unsigned short rounded[512];
    const size_t some = n - i < 512 ? n - i : 512;
    k->scatter(&narrow, f + i, some, rounded, false);
    k->gather(&widen, rounded, some, f + i);
  }
}

fn_vector fn_vector_of(const void *p, fastnorm_dtype dtype) {
  return (fn_vector){.p = p, .dtype = dtype, .element = fn_dtype_size(dtype)};
}

bool fn_vector_is_plain(const fn_vector *v, fastnorm_dtype working) {
  return !v->p || (v->dtype == working && !v->plus_one);
}

const void *fn_vector_read(const fn_kernels *k, fastnorm_dtype working,
                           const fn_vector *v, size_t first, size_t n, void *room) {
  const void *p = at_or_null(v->p, v->element, (ptrdiff_t)first);
  const fn_gather g = {.dtype = v->dtype, .scale = 1.0f};
  if (fn_vector_is_plain(v, working))
    return p;
  k->gather(&g, p, n, room);
  if (v->plus_one && working == FASTNORM_FLOAT32)
    for (size_t i = 0; i < n; i++)
      ((float *)room)[i] += 1.0f;
  else if (v->plus_one)
    for (size_t i = 0; i < n; i++)
      ((double *)room)[i] += 1.0;
  return room;
}

void fn_vector_write(const fn_kernels *k, const fn_vector *v, size_t first, size_t n,
                     const void *from) {
  const fn_scatter s = {.dtype = v->dtype, .inverse_scale = 1.0f};
  k->scatter(&s, from, n, at(v->p, v->element, (ptrdiff_t)first), false);
}
