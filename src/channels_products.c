/* channels_products.c - gradients of channels: the sums of each channel.
 * SPDX-License-Identifier: MIT
 *
 * In chunks as those of the statistics: parts of a run, or rows of a table of which
 * `fold` are taken as one. */
#include <string.h>

#include "channels_backward.h"
#include "check.h"

#define BLOCK 4096 /* elements of short runs that are gathered at a time */

/* The parameters of rows from `from` on. */
static fn_pairs pairs_of(const fn_backward *w, const fn_channel_block *b, size_t from) {
  const ptrdiff_t i = (ptrdiff_t)from;
  return (fn_pairs){.hi = fn_element(w->dtype, &b->hi, i),
                    .scale = fn_element(w->dtype, &b->scale, i),
                    .shift = fn_element(w->dtype, &b->shift, i)};
}

static void set_runs(fn_pairs *p, const fn_runs *g, const fn_runs *x) {
  p->g = g->x;
  p->g_row_stride = g->row_stride;
  p->g_seg_stride = g->seg_stride;
  p->x = x->x;
  p->x_row_stride = x->row_stride;
  p->x_seg_stride = x->seg_stride;
  p->rows = x->rows;
  p->segs = x->segs;
  p->len = x->len;
}

/* ---- runs ---- */

/* Runs of a chunk each, or parts of one. */
static void sum_runs(const fn_backward *w, const fn_channel_block *b, size_t from,
                     const fn_runs *g, const fn_runs *x, double *d, double *dt,
                     double *sum_x) {
  fn_pairs p = pairs_of(w, b, from);
  if (!x->source) {
    set_runs(&p, g, x);
    w->kernels->products_runs(&p, d, dt, sum_x);
    return;
  }
  fn_stage stage[2];
  const fn_runs staged_g = fn_gather_runs(w->dtype, g, false, &stage[0]);
  const fn_runs staged_x = fn_gather_runs(w->dtype, x, false, &stage[1]);
  set_runs(&p, &staged_g, &staged_x);
  w->kernels->products_runs(&p, d, dt, sum_x);
}

static void run_sums(const fn_backward *w, const fn_view *v, const double *chunk_sums,
                     fn_channel_block *b) {
  const size_t chunks = fn_run_chunks(&v->x, w->dtype), rows = v->x.rows;
  const size_t run = v->x.segs * v->x.len, fit = run <= BLOCK ? BLOCK / run : 1;
  const size_t some = v->x.source ? fit : rows;
  for (size_t r = 0; chunks == 1 && r < rows; r += some) {
    const fn_view part = fn_view_rows(w, v, r, rows - r < some ? rows - r : some);
    sum_runs(w, b, r, &part.g, &part.x, b->d + r, b->dt + r, b->x + r);
  }
  for (size_t r = 0; chunks > 1 && r < rows; r++) {
    const fn_view row = fn_view_rows(w, v, r, 1);
    fn_sum total[3] = {{0.0, 0.0}, {0.0, 0.0}, {0.0, 0.0}};
    for (size_t i = 0; i < chunks; i++) {
      const fn_runs g = fn_run_chunk(&row.g, w->dtype, 0, i);
      const fn_runs x = fn_run_chunk(&row.x, w->dtype, 0, i);
      double part[3];
      if (!chunk_sums)
        sum_runs(w, b, r, &g, &x, &part[0], &part[1], &part[2]);
      for (size_t k = 0; k < 3; k++)
        fn_sum_add(&total[k], chunk_sums ? chunk_sums[3 * i + k] : part[k]);
    }
    b->d[r] = fn_sum_value(&total[0]);
    b->dt[r] = fn_sum_value(&total[1]);
    b->x[r] = fn_sum_value(&total[2]);
  }
}

/* ---- columns ---- */

/* Wide sums: of d, dt and x. */
typedef struct wide_sums {
  _Alignas(64) double d[FN_COLUMNS], dt[FN_COLUMNS], x[FN_COLUMNS];
} wide_sums;

static size_t fold_of(const fn_view *v) {
  return v->fold < v->x.segs ? v->fold : v->x.segs;
}

/* Rows [from, from + n) of a table, one after another: in place if they are, else
 * copied to `stage`; with what they are folded to. */
static const void *packed(const fn_backward *w, const fn_runs *table, size_t from,
                          size_t n, size_t fold, fn_stage *stage, ptrdiff_t *stride) {
  const size_t element =
      table->source ? table->source->element : fn_dtype_size(w->dtype);
  const char *x =
      (const char *)table->x + (ptrdiff_t)from * table->seg_stride * (ptrdiff_t)element;
  const fn_table t = {.x = x,
                      .rows = n,
                      .stride = table->seg_stride,
                      .cols = table->rows,
                      .source = table->source};
  const size_t bytes = t.cols * element;
  *stride = (ptrdiff_t)(fold * t.cols);
  if (t.source)
    return fn_gather_table(w->dtype, &t, stage).x;
  if (fold == 1)
    *stride = t.stride;
  if (fold == 1 || t.stride == (ptrdiff_t)t.cols)
    return x;
  for (size_t r = 0; r < n; r++, x += t.stride * (ptrdiff_t)element)
    memcpy((char *)stage + r * bytes, x, bytes);
  return stage;
}

/* The parameters of a column, over and over. */
static void repeat(fastnorm_dtype dtype, const void *p, size_t cols, size_t fold,
                   fn_column_array *to) {
  const size_t bytes = cols * fn_dtype_size(dtype);
  memset(to, 0, sizeof(*to)); /* also the padding */
  for (size_t k = 0; k < fold; k++)
    memcpy((char *)to + k * bytes, p, bytes);
}

/* Adds the sums of rows [first, end). */
static void add_rows(const fn_backward *w, const fn_view *v, const fn_pairs *parameters,
                     size_t first, size_t end, wide_sums *sums) {
  const size_t cols = v->x.rows, fold = fold_of(v);
  const bool packs = v->x.source || (fold > 1 && (v->x.seg_stride != (ptrdiff_t)cols ||
                                                  v->g.seg_stride != (ptrdiff_t)cols));
  const size_t fit =
      fn_stage_elements(w->dtype) / (fold * cols) / FN_PRODUCT_ROWS * FN_PRODUCT_ROWS;
  fn_stage stage[2];
  while (first < end) {
    size_t folded = (end - first) / fold;
    if (packs && folded > fit)
      folded = fit;
    const size_t rows = folded > 0 ? folded * fold : end - first; /* the last few */
    fn_pairs p = *parameters;
    p.g = packed(w, &v->g, first, rows, fold, &stage[0], &p.g_row_stride);
    p.x = packed(w, &v->x, first, rows, fold, &stage[1], &p.x_row_stride);
    p.rows = folded > 0 ? folded : 1;
    p.segs = 1;
    p.len = folded > 0 ? fold * cols : rows * cols;
    w->kernels->products_columns(&p, sums->d, sums->dt, sums->x);
    first += rows;
  }
}

static size_t column_chunks(const fn_view *v) {
  const size_t rows = fold_of(v) * FN_COLUMN_CHUNK;
  return (v->x.segs + rows - 1) / rows;
}

static void column_chunk(const fn_backward *w, const fn_view *v,
                         const fn_channel_block *b, size_t i, double *sums) {
  const size_t cols = v->x.rows, fold = fold_of(v), rows = fold * FN_COLUMN_CHUNK;
  const size_t first = i * rows, left = v->x.segs - first;
  fn_pairs p = pairs_of(w, b, 0);
  fn_column_array hi, scale, shift;
  wide_sums wide;
  memset(&wide, 0, sizeof(wide));
  if (fold > 1) {
    repeat(w->dtype, &b->hi, cols, fold, &hi);
    repeat(w->dtype, &b->scale, cols, fold, &scale);
    repeat(w->dtype, &b->shift, cols, fold, &shift);
    p.hi = &hi;
    p.scale = &scale;
    p.shift = &shift;
  }
  add_rows(w, v, &p, first, first + (left < rows ? left : rows), &wide);
  for (size_t c = 0; c < cols; c++) {
    double d = wide.d[c], dt = wide.dt[c], x = wide.x[c];
    for (size_t k = c + cols; k < fold * cols; k += cols)
      d += wide.d[k], dt += wide.dt[k], x += wide.x[k];
    sums[c] = d;
    sums[cols + c] = dt;
    sums[2 * cols + c] = x;
  }
}

/* Chunk i of so many is added to n sums. */
static void add_chunk(size_t i, size_t chunks, const double *part, size_t n, double *to,
                      double *rounding) {
  for (size_t c = 0; c < n; c++) {
    fn_sum total = {i ? to[c] : 0.0, i ? rounding[c] : 0.0};
    fn_sum_add(&total, part[c]);
    to[c] = i + 1 == chunks ? fn_sum_value(&total) : total.value;
    rounding[c] = total.rounding;
  }
}

static void column_sums(const fn_backward *w, const fn_view *v,
                        const double *chunk_sums, fn_channel_block *b) {
  const size_t chunks = column_chunks(v), cols = v->x.rows;
  double part[3 * FN_COLUMNS], rounding[3 * FN_COLUMNS];
  for (size_t i = 0; i < chunks; i++) {
    const double *sums = chunk_sums ? chunk_sums + i * 3 * cols : part;
    if (!chunk_sums)
      column_chunk(w, v, b, i, part);
    add_chunk(i, chunks, sums, cols, b->d, rounding);
    add_chunk(i, chunks, sums + cols, cols, b->dt, rounding + cols);
    add_chunk(i, chunks, sums + 2 * cols, cols, b->x, rounding + 2 * cols);
  }
}

/* ---- either ---- */

size_t fn_view_chunks(const fn_backward *w, const fn_view *v) {
  return v->columns ? column_chunks(v) : fn_run_chunks(&v->x, w->dtype);
}

void fn_view_chunk(const fn_backward *w, const fn_view *v, const fn_channel_block *b,
                   size_t i, double *sums) {
  if (v->columns) {
    column_chunk(w, v, b, i, sums);
    return;
  }
  const fn_runs g = fn_run_chunk(&v->g, w->dtype, 0, i);
  const fn_runs x = fn_run_chunk(&v->x, w->dtype, 0, i);
  sum_runs(w, b, 0, &g, &x, &sums[0], &sums[1], &sums[2]);
}

void fn_view_sums(const fn_backward *w, const fn_view *v, const double *chunk_sums,
                  fn_channel_block *b) {
  if (v->columns)
    column_sums(w, v, chunk_sums, b);
  else
    run_sums(w, v, chunk_sums, b);
}

/* Elements that are not next to each other, as far as can be, but of the first segment,
 * which is read next: as an offset from the first. */
static ptrdiff_t sample_of(const fn_view *v, size_t which) {
  const size_t few = v->g.len > 2 ? v->g.len : v->g.segs * v->g.len;
  const size_t places[] = {few / 6, few / 2, few - 1 - few / 6}, i = places[which];
  const size_t seg = i / v->g.len;
  return (ptrdiff_t)seg * v->g.seg_stride + (ptrdiff_t)(i - seg * v->g.len);
}

/* The element of row r of g at such an offset. */
static double element_of(const fn_backward *w, const fn_view *v, size_t r,
                         ptrdiff_t offset) {
  const ptrdiff_t at = (ptrdiff_t)r * v->g.row_stride + offset;
  double room;
  if (!v->g.source)
    return fn_get(w->dtype, fn_element(w->dtype, v->g.x, at), 0);
  const fn_runs one = {.x = (const char *)v->g.x + at * (ptrdiff_t)v->g.source->element,
                       .rows = 1,
                       .segs = 1,
                       .len = 1,
                       .source = v->g.source};
  return fn_get(w->dtype, fn_gather_runs(w->dtype, &one, false, &room).x, 0);
}

/* The two conditions are not one, so that there is no branch: nobody could foresee it.
 */
#define MIDDLES(T)                                                                     \
  static inline T middle_##T(T a, T b, T c) {                                          \
    const T low = a < b ? a : b, high = a > b ? a : b;                                 \
    const T least = c < high ? c : high;                                               \
    return least < low ? low : least;                                                  \
  }                                                                                    \
  static void middles_##T(const T *g, ptrdiff_t apart, size_t n, const ptrdiff_t *at,  \
                          T *to) {                                                     \
    for (; n > 0; n--, g += apart)                                                     \
      *to++ = middle_##T(g[at[0]], g[at[1]], g[at[2]]);                                \
  }
MIDDLES(float)
MIDDLES(double)
#undef MIDDLES

double fn_view_middle(const fn_backward *w, const fn_view *v, size_t r) {
  return middle_double(element_of(w, v, r, sample_of(v, 0)),
                       element_of(w, v, r, sample_of(v, 1)),
                       element_of(w, v, r, sample_of(v, 2)));
}

static void middles(fastnorm_dtype dtype, const void *g, ptrdiff_t apart, size_t n,
                    const ptrdiff_t *at, void *to) {
  if (dtype == FASTNORM_FLOAT32)
    middles_float(g, apart, n, at, to);
  else
    middles_double(g, apart, n, at, to);
}

/* The three elements of up to FN_GROUP rows from r on, gathered at once. */
static const void *gathered(const fn_backward *w, const fn_view *v, size_t r, size_t n,
                            const ptrdiff_t *at, double *room) {
  const size_t element = v->g.source->element;
  _Alignas(64) char raw[3 * FN_GROUP * sizeof(double)];
  for (size_t i = 0; i < 3 * n; i++) {
    const ptrdiff_t from = (ptrdiff_t)(r + i / 3) * v->g.row_stride + at[i % 3];
    memcpy(raw + i * element, (const char *)v->g.x + from * (ptrdiff_t)element,
           element);
  }
  const fn_runs all = {
      .x = raw, .rows = 1, .segs = 1, .len = 3 * n, .source = v->g.source};
  return fn_gather_runs(w->dtype, &all, false, room).x;
}

void fn_view_shift(const fn_backward *w, const fn_view *v, fn_channel_block *b) {
  const ptrdiff_t at[3] = {sample_of(v, 0), sample_of(v, 1), sample_of(v, 2)};
  const ptrdiff_t packed[3] = {0, 1, 2};
  const size_t rows = v->g.rows;
  if (w->statistics != FN_OF_X)
    memset(&b->shift, 0, sizeof(b->shift));
  else if (!v->g.source)
    middles(w->dtype, v->g.x, v->g.row_stride, rows, at, &b->shift);
  else
    for (size_t r = 0; r < rows; r += FN_GROUP) {
      const size_t n = rows - r < FN_GROUP ? rows - r : FN_GROUP;
      _Alignas(64) double room[3 * FN_GROUP];
      middles(w->dtype, gathered(w, v, r, n, at, room), 3, n, packed,
              fn_element(w->dtype, &b->shift, (ptrdiff_t)r));
    }
}
