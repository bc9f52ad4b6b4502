/* rows_staged.c - norms of rows whose elements pass through a stage.
 * SPDX-License-Identifier: MIT
 *
 * Rows that fit the stage are gathered once, and lie there between the two passes;
 * longer ones are gathered by each pass, part by part. Weights go with a part, widened
 * if they must be: those of the last part are kept, as rows of one part are many. Rows
 * of 16-bit elements that stay such need no stage: the kernels read and write them. */
#include "check.h"
#include "dispatch.h"
#include "order.h"
#include "rows.h"
#include "runs.h"

#define STAGED_BYTES 16384

typedef union part_room {
  float f32[STAGED_BYTES / 4];
  double f64[STAGED_BYTES / 8];
} part_room;

typedef struct staged_rows {
  const fn_rows_work *w;
  part_room stage[2];
  fn_rows_stats found;
  size_t from, to; /* the columns whose weight and bias are at hand */
  const void *weight, *bias;
  part_room weight_room, bias_room;
  bool halves, bytes; /* see narrow_results() */
  bool activated;     /* see activate_rows() */
} staged_rows;

static size_t part_of(const fn_rows_work *w) {
  return STAGED_BYTES / fn_dtype_size(w->dtype);
}

static const void *filled(part_room *room, size_t n, float value) {
  for (size_t i = 0; i < n; i++)
    room->f32[i] = value;
  return room;
}

static void read_part(staged_rows *p, size_t from, size_t to) {
  const fn_rows_work *w = p->w;
  if (p->from == from && p->to == to)
    return;
  p->from = from;
  p->to = to;
  p->weight = fn_vector_read(w->kernels, w->dtype, &w->weight, from, to - from,
                             &p->weight_room);
  p->bias =
      fn_vector_read(w->kernels, w->dtype, &w->bias, from, to - from, &p->bias_room);
  const bool wanted = p->halves || p->bytes || p->activated;
  if (wanted && !p->weight) /* neither changes a bit of the result */
    p->weight = filled(&p->weight_room, to - from, 1.0f);
  if (wanted && !p->bias)
    p->bias = filled(&p->bias_room, to - from, -0.0f);
}

static const void *x_at(const fn_rows_work *w, size_t row, size_t i) {
  const ptrdiff_t at = (ptrdiff_t)row * w->x_stride + (ptrdiff_t)i;
  return (const char *)w->x + at * (ptrdiff_t)w->f.source.element;
}

static fn_output output_of(const fn_rows_work *w, size_t row, size_t at) {
  const fn_output all = {.y = w->y,
                         .row_stride = w->y_stride,
                         .post_add = w->post_add,
                         .post_add_row_stride = w->post_add_stride,
                         .sink = w->f.scatters ? &w->f.sink : NULL,
                         .stream = w->stream};
  return fn_output_at(w->dtype, &all, row, 0, at);
}

/* Columns [from, to) of g, without a source, to `out`, without a sink. */
static void apply_part(staged_rows *p, const fn_runs *g, const fn_output *out,
                       size_t from, size_t to) {
  const fn_rows_work *w = p->w;
  const fn_rows_stats *found = &p->found;
  const bool cast = w->mode == FASTNORM_RMS_CAST_BEFORE_WEIGHT;
  fn_run_apply a = {.kernels = w->kernels,
                    .dtype = w->dtype,
                    .hi = w->norm == FN_CENTERED ? &found->s.hi : NULL,
                    .scale = &found->scale,
                    .offset = &found->offset,
                    .s = &found->s,
                    .step = 1};
  read_part(p, from, to);
  if (!cast) {
    a.weight = p->weight;
    a.bias = w->norm == FN_CENTERED ? p->bias : NULL;
  }
  fn_runs_apply(&a, g, out);
}

/* What is staged from `at` on becomes what the type of x would hold, times weight. */
static void cast_and_weigh(staged_rows *p, const fn_runs *staged) {
  const fn_rows_work *w = p->w;
  fn_group_array ones;
  for (size_t r = 0; r < staged->rows; r++)
    fn_set(w->dtype, &ones, r, 1.0);
  if (p->weight)
    w->kernels->apply_runs(staged, (void *)staged->x, staged->row_stride, 0, NULL,
                           &ones, NULL, p->weight, NULL, false);
}

/* A float32 scale for a row of this largest magnitude, and its use. */
static float row_scale(double largest) {
  const double least = 0x1p-126; /* whose reciprocal is still a number */
  if (largest <= 0.0)
    return 1.0f;
  return largest / 127.0 < least ? (float)least : (float)(largest / 127.0);
}

static void quantise(const fn_rows_work *w, const void *v, size_t n, float scale,
                     const fn_output *out) {
  fn_scatter s = {.dtype = w->f.y,
                  .inverse_scale = 1.0f / scale,
                  .zero_point = w->f.sink.scatter.zero_point,
                  .ahead = out->ahead,
                  .ahead_element = out->ahead_element};
  w->kernels->scatter(&s, v, n, out->y, out->stream);
}

/* post_add and activation, in the stage: what the largest is to be taken of. */
static void finish_in_stage(const fn_rows_work *w, void *v, size_t n,
                            const fn_output *out) {
  fn_scatter s = w->f.sink.scatter;
  s.dtype = w->dtype;
  s.post_add = out->post_add;
  w->kernels->scatter(&s, v, n, v, false);
}

static size_t element_of(const fn_rows_work *w, const fn_runs *g) {
  return g->source ? w->f.source.element : fn_dtype_size(w->dtype);
}

/* Columns from `from` on of g, as far as one part goes, whose weight and bias are then
 * at hand. */
static fn_runs part_at(staged_rows *p, const fn_runs *g, size_t from) {
  const fn_rows_work *w = p->w;
  const size_t part = part_of(w), end = w->cols - from < part ? w->cols : from + part;
  fn_runs some = *g;
  some.x = (const char *)g->x + from * element_of(w, g);
  some.len = end - from;
  read_part(p, from, end);
  return some;
}

/* The scales of rows none of which is slow, by all that follows but to write it: less
 * work than to keep the results, to look for the largest and to read them again. */
static void scale_rows(staged_rows *p, size_t first, const fn_runs *g,
                       float *inverse_scales) {
  const fn_rows_work *w = p->w;
  const fn_rows_stats *found = &p->found;
  double largest[FN_GROUP], size[FN_GROUP];
  for (size_t from = 0; from < w->cols; from += part_of(w)) {
    const fn_runs some = part_at(p, g, from);
    w->kernels->largest_runs(&some, w->norm == FN_CENTERED ? &found->s.hi : NULL,
                             &found->scale, &found->offset, p->weight, p->bias, size);
    for (size_t r = 0; r < g->rows; r++)
      largest[r] = from == 0 ? size[r] : fn_larger(largest[r], size[r]);
  }
  for (size_t r = 0; r < g->rows; r++) {
    w->y_scale[first + r] = row_scale(largest[r]);
    inverse_scales[r] = 1.0f / w->y_scale[first + r];
  }
}

/* The results of rows none of which is slow: of 16-bit elements to y of the same type,
 * or of the working type to bytes. */
static void narrow_results(staged_rows *p, size_t first, const fn_runs *g) {
  const fn_rows_work *w = p->w;
  const fn_rows_stats *found = &p->found;
  float inverse_scales[FN_GROUP];
  /* What is asked for meanwhile has to lie as what is read does. */
  const bool ahead = first + 2 * g->rows <= w->rows && g->row_stride == w->x_stride &&
                     element_of(w, g) == w->f.source.element;
  if (w->y_scale)
    scale_rows(p, first, g, inverse_scales);
  for (size_t from = 0; from < w->cols; from += part_of(w)) {
    const fn_output y = output_of(w, first, from);
    fn_runs some = part_at(p, g, from);
    some.bytes = p->bytes ? &w->f.sink.scatter : NULL;
    some.inverse_scales = w->y_scale ? inverse_scales : NULL;
    if (ahead)
      some.ahead = x_at(w, first + g->rows, from);
    w->kernels->apply_runs(&some, y.y, y.row_stride, 0,
                           w->norm == FN_CENTERED ? &found->s.hi : NULL, &found->scale,
                           &found->offset, p->weight, p->bias, w->stream);
  }
}

/* Which 16-bit elements the kernels read themselves. Not those that magnitudes are
 * summed of: rare calls, for which a stage will do. */
static fastnorm_dtype halves_of(const fn_rows_work *w) {
  const bool may = w->f.gathers && w->norm != FN_SUM_OF_MAGNITUDES;
  return fn_source_dtype(may ? &w->f.source : NULL);
}

static bool are_halves(const fn_rows_work *w) {
  const fn_scatter *s = &w->f.sink.scatter;
  return halves_of(w) && w->f.y == w->f.x && s->activation == FASTNORM_IDENTITY &&
         !w->post_add && w->mode != FASTNORM_RMS_CAST_BEFORE_WEIGHT;
}

/* Bytes, for which no stage is needed behind the norm. */
static bool are_bytes(const fn_rows_work *w) {
  const fn_scatter *s = &w->f.sink.scatter;
  return w->dtype == FASTNORM_FLOAT32 && fn_dtype_size(w->f.y) == 1 &&
         s->activation == FASTNORM_IDENTITY && !w->post_add &&
         w->mode != FASTNORM_RMS_CAST_BEFORE_WEIGHT;
}

/* An activation that is done at once. */
static bool are_activated(const fn_rows_work *w) {
  const fn_scatter *s = &w->f.sink.scatter;
  if (!w->kernels->activate_runs || w->f.y != w->dtype || w->post_add || w->stream ||
      w->mode == FASTNORM_RMS_CAST_BEFORE_WEIGHT)
    return false;
  switch (s->activation) {
#define X(name) case FASTNORM_##name:
    FN_ACTIVATED(X)
#undef X
    return true;
  default:
    return false;
  }
}

/* [512, 1024] on its way through the stage took with GELU 129 us, 114 like this; with
 * SiLU 127 and 99 (AMD EPYC Zen 5, avx512). */
static void activate_rows(staged_rows *p, size_t first, const fn_runs *g) {
  const fn_rows_work *w = p->w;
  const fn_rows_stats *found = &p->found;
  for (size_t from = 0; from < w->cols; from += part_of(w)) {
    const fn_output y = output_of(w, first, from);
    const fn_runs some = part_at(p, g, from);
    w->kernels->activate_runs(&some, y.y, y.row_stride,
                              w->norm == FN_CENTERED ? &found->s.hi : NULL,
                              &found->scale, &found->offset, p->weight, p->bias,
                              w->f.sink.scatter.activation);
  }
}

/* Rows g, which lie where the norm can read them, by way of the stage. */
static void staged_results(staged_rows *p, size_t first, fn_runs g) {
  const fn_rows_work *w = p->w;
  const size_t part = part_of(w), cols = w->cols;
  const fn_output stage = fn_stage_output(&p->stage, &g);
  fn_output y = output_of(w, first, 0);
  if (first + 2 * g.rows <= w->rows) { /* gathering would wait for memory */
    y.ahead = x_at(w, first + g.rows, 0);
    y.ahead_element = w->f.source.element;
  }
  const fn_output *to = y.sink ? &stage : &y;
  for (size_t from = 0; from < cols; from += part) {
    const size_t end = cols - from < part ? cols : from + part;
    const fn_output out = fn_output_at(w->dtype, to, 0, 0, from);
    fn_runs some = g;
    some.x = fn_element(w->dtype, g.x, (ptrdiff_t)from);
    some.len = end - from;
    apply_part(p, &some, &out, from, end);
    if (w->mode != FASTNORM_RMS_CAST_BEFORE_WEIGHT)
      continue;
    some.x = out.y;
    some.row_stride = out.row_stride;
    for (size_t r = 0; r < g.rows; r++)
      fn_round_span(w->kernels, w->f.x, some.len,
                    fn_element(w->dtype, some.x, (ptrdiff_t)r * some.row_stride));
    cast_and_weigh(p, &some);
  }
  g.x = &p->stage;
  g.row_stride = stage.row_stride;
  if (y.sink && !w->y_scale)
    fn_scatter_runs(w->dtype, &g, &y);
  for (size_t r = 0; w->y_scale && r < g.rows; r++) {
    void *v = fn_element(w->dtype, &p->stage, (ptrdiff_t)(r * cols));
    fn_output row = fn_output_at(w->dtype, &y, r, 0, 0);
    if (y.ahead)
      row.ahead = x_at(w, first + g.rows + r, 0);
    finish_in_stage(w, v, cols, &row);
    w->y_scale[first + r] = row_scale(w->kernels->largest(v, cols));
    quantise(w, v, cols, w->y_scale[first + r], &row);
  }
}

/* Whole rows that fit the stage. */
static void whole_rows(staged_rows *p, size_t first, const fn_runs *source) {
  const fn_rows_work *w = p->w;
  /* From memory, elements of narrower types come quicker by way of the stage, which
   * asks for them; narrow_results() does not. */
  const bool bytes =
      p->bytes && (!w->far || w->f.source.element == fn_dtype_size(w->dtype));
  fn_runs g = *source;
  if (g.source)
    g = fn_gather_runs(w->dtype, source, true, &p->stage);
  fn_rows_find(w, first, &g, &p->found);
  if (p->activated && !p->found.s.any_slow)
    activate_rows(p, first, &g);
  else if (bytes && !p->found.s.any_slow)
    narrow_results(p, first, &g);
  else
    staged_results(p, first, g);
}

/* One row by parts: to y, or, if `largest` is given, only to see how large it gets. */
static void row_by_parts(staged_rows *p, size_t row, const fn_runs *g,
                         double *largest) {
  const fn_rows_work *w = p->w;
  const size_t part = part_of(w);
  for (size_t from = 0; from < w->cols; from += part) {
    const size_t end = w->cols - from < part ? w->cols : from + part;
    const fn_output y = output_of(w, row, from);
    fn_runs some = *g;
    some.x = (const char *)g->x + from * w->f.source.element;
    some.at = from;
    some.len = end - from;
    if (some.source)
      some = fn_gather_runs(w->dtype, &some, !largest, &p->stage);
    const fn_output stage = fn_stage_output(&p->stage, &some);
    apply_part(p, &some, y.sink ? &stage : &y, from, end);
    if (!y.sink)
      continue;
    some.x = &p->stage;
    if (w->mode == FASTNORM_RMS_CAST_BEFORE_WEIGHT) {
      fn_round_span(w->kernels, w->f.x, some.len, &p->stage);
      cast_and_weigh(p, &some);
    }
    if (!w->y_scale) {
      fn_scatter_runs(w->dtype, &some, &y);
      continue;
    }
    finish_in_stage(w, &p->stage, some.len, &y);
    if (largest)
      *largest = fn_larger(*largest, w->kernels->largest(&p->stage, some.len));
    if (!largest)
      quantise(w, &p->stage, some.len, w->y_scale[row], &y);
  }
}

/* Where rows do not pass through the stage its size is no limit, and more of them are
 * quicker. [2048, 4096], two rows at a time and eight: to 16 bits 1150 and 960 us, to
 * bytes, 16 bytes off a line, 1740 and 1450; a sum that is where the norm reads it 4.5
 * and 4.1 ms (AMD EPYC Zen 5, avx512). */
#define LEAST_ROWS 8
static size_t rows_of_bundle(const fn_rows_work *w) {
  const size_t row = w->cols * fn_dtype_size(w->dtype);
  const size_t rows = fn_bundle_bytes(w->kernels, LEAST_ROWS * row) / row;
  return rows < LEAST_ROWS ? LEAST_ROWS : rows > FN_GROUP ? FN_GROUP : rows;
}

/* How many rows are taken at once: 0 if not even one fits the stage that it needs. */
static size_t rows_at_once(const fn_rows_work *w) {
  const size_t stage = 2 * part_of(w) / w->cols, fit = fn_smaller(stage, FN_GROUP);
  const bool in_place = fn_source_is_stage(w->dtype, &w->f.source) && !w->f.scatters;
  const size_t least = in_place && fit > 0 ? rows_of_bundle(w) : 0;
  return fit < least ? least : fit;
}

/* One row that does not fit the stage. */
static void long_row(staged_rows *p, size_t row, const fn_runs *g) {
  const fn_rows_work *w = p->w;
  fn_rows_find(w, row, g, &p->found);
  if (w->y_scale) {
    double largest = 0.0;
    row_by_parts(p, row, g, &largest);
    w->y_scale[row] = row_scale(largest);
  }
  row_by_parts(p, row, g, NULL);
}

/* Rows that the kernels read and write where they are. */
static bool need_no_stage(const staged_rows *p) {
  return p->halves || ((p->bytes || p->activated) && !p->w->f.gathers);
}

/* Rows from `first` on: at once if they are narrow; else as many at a time as fit the
 * stage, or one if that is 0. */
static void do_rows(staged_rows *p, size_t first, size_t rows, size_t fit) {
  const fn_rows_work *w = p->w;
  const size_t some = fit > 0 ? fit : 1;
  const fn_runs g = {.x = x_at(w, first, 0),
                     .rows = rows,
                     .row_stride = w->x_stride,
                     .segs = 1,
                     .len = w->cols,
                     .dtype = halves_of(w),
                     .source = w->f.gathers ? &w->f.source : NULL,
                     .row = first,
                     .far = w->far};
  if (need_no_stage(p)) {
    fn_rows_find(w, first, &g, &p->found);
    if (!p->found.s.any_slow) {
      if (p->activated)
        activate_rows(p, first, &g);
      else
        narrow_results(p, first, &g);
      fn_rows_write_stats(w, first, rows, &p->found);
      return;
    }
  }
  for (size_t r = 0; r < rows; r += some) {
    fn_runs few = fn_run_alone(&g, w->dtype, r);
    few.rows = rows - r < some ? rows - r : some;
    if (fit > 0)
      whole_rows(p, first + r, &few);
    else
      long_row(p, first + r, &few);
    fn_rows_write_stats(w, first + r, few.rows, &p->found);
  }
}

void fn_rows_staged(const fn_rows_work *w, size_t first, size_t end) {
  staged_rows p; /* some 90 KiB: not to be cleared */
  p.w = w;
  p.from = p.to = 0;
  p.halves = are_halves(w);
  p.bytes = are_bytes(w);
  p.activated = are_activated(w);
  const size_t fit = rows_at_once(w);
  const size_t least = need_no_stage(&p) ? rows_of_bundle(w) : 1;
  const size_t most = fit < least ? least : fit;
  for (size_t r = first; r < end; r += most)
    do_rows(&p, r, end - r < most ? end - r : most, fit);
}
