/* rows_backward_inner.c - gradients of the norms of rows: inner > 1.
 * SPDX-License-Identifier: MIT
 *
 * A row of the call is a table [cols, inner] here, whose columns are normalised, some
 * of them at a time. The weights go with the rows of the table, and so do their
 * gradients: those are sums along its rows, of g with the normalised x, which is put
 * down for it. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "lp.h"
#include "order.h"
#include "rows_backward.h"
#include "sum.h"

/* Of the table, what is read at a time: whole blocks of the sums of its columns. */
#define PART_ELEMENTS (FN_PRODUCT_ROWS * FN_COLUMNS)

typedef union part_room {
  _Alignas(64) float f32[PART_ELEMENTS];
  double f64[PART_ELEMENTS];
} part_room;

typedef union weight_room {
  float f32[FN_COLUMN_CHUNK];
  double f64[FN_COLUMN_CHUNK];
} weight_room;

/* One thread at work on a block of columns of row `row`. */
typedef struct worker {
  const fn_rows_gradient *w;
  size_t row, first; /* column */
  fn_table g, x;
  fn_column_stats s; /* hi, scale, offset, shift */
  fn_column_array a, b, c;
  double slope[FN_COLUMNS];
  bool any_slow, is_slow[FN_COLUMNS];
  part_room g_room, x_room;
  weight_room weights;
} worker;

static fn_table table_of(const worker *m, const void *p, ptrdiff_t stride,
                         size_t cols) {
  const fn_rows_work *n = &m->w->norm;
  const ptrdiff_t at = (ptrdiff_t)m->row * stride + (ptrdiff_t)m->first;
  return (fn_table){.x = (const char *)p + at * (ptrdiff_t)n->f.source.element,
                    .rows = n->cols,
                    .stride = (ptrdiff_t)n->inner,
                    .cols = cols,
                    .fold = 1,
                    .source = n->f.gathers ? &n->f.source : NULL};
}

/* How many rows to read at a time. */
static size_t part_rows(const worker *m) {
  if (!m->g.source)
    return FN_COLUMN_CHUNK;
  const size_t fit = PART_ELEMENTS / m->g.cols / FN_PRODUCT_ROWS * FN_PRODUCT_ROWS;
  return fn_smaller(fit, FN_COLUMN_CHUNK);
}

/* Rows j.. of both tables with the factors of the columns, in the working type. */
static fn_pairs read_rows(worker *m, size_t j, size_t rows) {
  const fn_rows_work *n = &m->w->norm;
  fn_table g = fn_table_rows(&m->g, n->dtype, j, rows);
  fn_table x = fn_table_rows(&m->x, n->dtype, j, rows);
  if (g.source) {
    g = fn_gather_table(n->dtype, &g, &m->g_room);
    x = fn_gather_table(n->dtype, &x, &m->x_room);
  }
  fn_pairs p = {.g = g.x,
                .x = x.x,
                .rows = rows,
                .segs = 1,
                .len = g.cols,
                .g_row_stride = g.stride,
                .x_row_stride = x.stride,
                .scale = &m->s.scale};
  p.weight = fn_vector_read(n->kernels, n->dtype, &n->weight, j, rows, &m->weights);
  if (n->norm == FN_CENTERED) {
    p.hi = &m->s.hi;
    p.offset = &m->s.offset;
    p.shift = &m->s.shift;
  }
  return p;
}

/* Columns [from, to) of those. */
static fn_pairs some_columns(fastnorm_dtype dtype, const fn_pairs *all, size_t from,
                             size_t to) {
  const ptrdiff_t c = (ptrdiff_t)from;
  fn_pairs p = *all;
  p.len = to - from;
  p.g = fn_element(dtype, p.g, c);
  p.x = fn_element(dtype, p.x, c);
  p.scale = fn_element(dtype, p.scale, c);
  p.hi = p.hi ? fn_element(dtype, p.hi, c) : NULL;
  p.offset = p.offset ? fn_element(dtype, p.offset, c) : NULL;
  p.shift = p.shift ? fn_element(dtype, p.shift, c) : NULL;
  return p;
}

/* ---- factors ---- */

static void find_statistics(worker *m) {
  const fn_rows_gradient *w = m->w;
  const fn_rows_work *n = &w->norm;
  const size_t number = m->row * n->inner + m->first;
  fn_column_stats *s = &m->s;
  fn_column_parameters p = {.eps = n->eps, .centered = n->norm == FN_CENTERED};
  fn_slow slow[FN_COLUMNS];
  s->any_slow = false;
  if (w->rstd) {
    memset(&s->offset, 0, sizeof(s->offset));
    for (size_t c = 0; c < m->x.cols; c++) {
      fn_set(n->dtype, &s->hi, c,
             p.centered ? fn_get(n->dtype, w->mean, number + c) : 0.0);
      fn_set(n->dtype, &s->scale, c, fn_get(n->dtype, w->rstd, number + c));
    }
  } else if (n->norm == FN_SUM_OF_SQUARES) {
    fn_columns_stats(n->kernels, n->dtype, &m->x, 0.0, false, s);
    fn_columns_lp(n->kernels, n->dtype, &m->x, n->eps, &p, s, slow);
  } else {
    fn_columns_stats(n->kernels, n->dtype, &m->x, n->eps, p.centered, s);
    fn_columns_scale(n->kernels, n->dtype, m->x.cols, &p, s);
  }
  m->any_slow = false;
  for (size_t c = 0; c < m->x.cols; c++) {
    double scale = fn_get(n->dtype, &s->scale, c);
    const double hi = p.centered ? fn_get(n->dtype, &s->hi, c) : 0.0;
    m->slope[c] = 1.0 / (double)n->cols;
    m->is_slow[c] = s->any_slow && s->is_slow[c];
    if (n->norm == FN_SUM_OF_SQUARES && !m->is_slow[c]) {
      m->slope[c] = s->sum[c] < n->eps ? 0.0 : 1.0;
      if (s->sum[c] < n->eps || s->sum[c] <= 0.0)
        scale = n->eps > 0.0 ? 1.0 / n->eps : 0.0;
      fn_set(n->dtype, &s->scale, c, scale);
    }
    m->is_slow[c] = m->is_slow[c] || !fn_statistics_within(n->dtype, hi, scale);
  }
}

/* Of d, of d * t, of x - hi. */
typedef double column_sums[3][FN_COLUMNS];

/* Over all rows: compensated from chunk to chunk. */
static void sum_columns(worker *m, column_sums all) {
  const fn_rows_work *n = &m->w->norm;
  const size_t step = part_rows(m), cols = m->x.cols;
  column_sums part, lost;
  memset(all, 0, sizeof(column_sums));
  memset(lost, 0, sizeof(column_sums));
  for (size_t chunk = 0; chunk < n->cols; chunk += FN_COLUMN_CHUNK) {
    const size_t end = fn_smaller(chunk + FN_COLUMN_CHUNK, n->cols);
    memset(part, 0, sizeof(column_sums));
    for (size_t j = chunk; j < end; j += step) {
      const fn_pairs p = read_rows(m, j, fn_smaller(step, end - j));
      n->kernels->products_columns(&p, part[0], part[1], part[2]);
    }
    for (size_t i = 0; i < 3; i++)
      for (size_t c = 0; c < cols; c++) {
        fn_sum sum = {all[i][c], lost[i][c]};
        fn_sum_add(&sum, part[i][c]);
        all[i][c] = sum.value;
        lost[i][c] = sum.rounding;
      }
  }
  for (size_t i = 0; i < 3; i++)
    for (size_t c = 0; c < cols; c++) {
      const fn_sum sum = {all[i][c], lost[i][c]};
      all[i][c] = fn_sum_value(&sum);
    }
}

/* A number near the mean of g * weight in each column, and that of a constant one. */
static void find_shift(worker *m) {
  const fastnorm_dtype dtype = m->w->norm.dtype;
  const fn_pairs p = read_rows(m, 0, 1);
  memset(&m->s.shift, 0, sizeof(m->s.shift));
  for (size_t c = 0; c < p.len; c++)
    fn_set(dtype, &m->s.shift, c,
           fn_get(dtype, p.g, c) * (p.weight ? fn_get(dtype, p.weight, 0) : 1.0));
}

/* Whether products of each column that are small are good enough. */
static void find_small(worker *m, bool *within) {
  const fn_rows_work *n = &m->w->norm;
  const size_t cols = m->x.cols, step = fn_smaller(part_rows(m), FN_PRODUCT_ROWS);
  fn_column_array ones, zeros;
  const fn_gradient d = {.a = &ones,
                         .b = &zeros,
                         .c = &zeros,
                         .y = &m->g_room,
                         .row_stride = (ptrdiff_t)cols};
  double of_d[FN_COLUMNS] = {0.0}, of_g[FN_COLUMNS] = {0.0}, of_weight = 0.0;
  memset(&zeros, 0, sizeof(zeros));
  for (size_t c = 0; c < FN_COLUMNS; c++)
    fn_set(n->dtype, &ones, c, 1.0);
  for (size_t j = 0; j < n->cols; j += step) {
    const size_t rows = fn_smaller(step, n->cols - j);
    const fn_pairs p = read_rows(m, j, rows);
    for (size_t r = 0; r < rows; r++) {
      const void *g = fn_element(n->dtype, p.g, (ptrdiff_t)r * p.g_row_stride);
      for (size_t c = 0; c < cols; c++)
        of_g[c] = fn_larger(of_g[c], fabs(fn_get(n->dtype, g, c)));
      if (p.weight)
        of_weight = fn_larger(of_weight, fabs(fn_get(n->dtype, p.weight, r)));
    }
    n->kernels->gradient_columns(&p, &d);
    for (size_t i = 0; i < rows * cols; i++)
      of_d[i % cols] = fn_larger(of_d[i % cols], fabs(fn_get(n->dtype, &m->g_room, i)));
  }
  for (size_t c = 0; c < cols; c++)
    within[c] = fn_difference_within(
        n->dtype, of_d[c],
        n->norm == FN_CENTERED ? fn_get(n->dtype, &m->s.shift, c) : 0.0,
        !n->weight.p || of_g[c] <= 0.0 || of_weight <= 0.0);
}

static void find_factors(worker *m) {
  const fn_rows_work *n = &m->w->norm;
  const double rows = (double)n->cols;
  column_sums sums;
  bool any_small = false, small[FN_COLUMNS], within[FN_COLUMNS];
  find_statistics(m);
  find_shift(m);
  sum_columns(m, sums);
  if (!n->kernels->factors(m->x.cols, rows, m->slope, sums[0], sums[1], sums[2],
                           &m->s.scale, &m->s.offset,
                           n->norm == FN_CENTERED ? &m->s.shift : NULL, &m->a, &m->b,
                           &m->c))
    for (size_t c = 0; c < m->x.cols; c++) {
      const fn_range range = fn_products_range(n->dtype, rows, sums[0][c], sums[1][c],
                                               sums[2][c], fn_get(n->dtype, &m->b, c));
      m->is_slow[c] = m->is_slow[c] || range == FN_OUTSIDE;
      small[c] = range == FN_SMALL && !m->is_slow[c];
      any_small |= small[c];
    }
  if (any_small)
    find_small(m, within);
  for (size_t c = 0; c < m->x.cols; c++) {
    m->is_slow[c] = m->is_slow[c] || (any_small && small[c] && !within[c]);
    m->any_slow |= m->is_slow[c];
  }
}

/* ---- slow columns ---- */

static fn_output output_of(const worker *m) {
  const fn_rows_work *n = &m->w->norm;
  const fn_output all = {.y = n->y,
                         .row_stride = n->y_stride,
                         .seg_stride = (ptrdiff_t)n->inner,
                         .sink = n->f.scatters ? &n->f.sink : NULL,
                         .stream = n->stream};
  return n->y ? fn_output_at(n->dtype, &all, m->row, 0, m->first) : all;
}

static fn_slow_run slow_column(const worker *m, size_t c, fn_slow_gradient *found) {
  const fn_rows_gradient *w = m->w;
  const fn_rows_work *n = &w->norm;
  const fn_output all = output_of(m);
  fn_slow_run run = {.kernels = n->kernels,
                     .dtype = n->dtype,
                     .g = fn_table_column(&m->g, n->dtype, c),
                     .x = fn_table_column(&m->x, n->dtype, c),
                     .weight = n->weight,
                     .y_step = (ptrdiff_t)n->inner,
                     .sink = all.sink};
  double slope;
  if (all.y)
    run.y = fn_output_at(n->dtype, &all, 0, 0, c).y;
  fn_slow_gradient_statistics(&run, n->norm, n->eps, w->mean, w->rstd,
                              m->row * n->inner + m->first + c, &found->s, &slope);
  fn_slow_gradient_find(&run, n->norm == FN_CENTERED, slope, found);
  return run;
}

/* ---- sums along the rows, for the weights ---- */

/* Row j of p: all in double, but for the slow columns. */
static void sum_by_hand(const worker *m, const fn_pairs *p, size_t j, double *g,
                        double *gt) {
  const fastnorm_dtype dtype = m->w->norm.dtype;
  const void *from = fn_element(dtype, p->g, (ptrdiff_t)j * p->g_row_stride);
  const void *t = fn_element(dtype, p->x, (ptrdiff_t)j * p->x_row_stride);
  *g = *gt = 0.0;
  for (size_t c = 0; c < p->len; c++) {
    if (m->is_slow[c])
      continue;
    *g += fn_get(dtype, from, c);
    *gt += fn_get(dtype, from, c) * fn_get(dtype, t, c);
  }
}

/* Rows j to j + rows of the table. */
static void sum_rows(worker *m, size_t j, size_t rows, double *g, double *gt) {
  const fn_rows_work *n = &m->w->norm;
  const size_t cols = m->x.cols;
  fn_group_array ones;
  fn_pairs p = read_rows(m, j, rows);
  const fn_table x = {.x = p.x, .rows = rows, .stride = p.x_row_stride, .cols = cols};
  n->kernels->apply_columns(&x, &m->x_room, (ptrdiff_t)cols, p.hi, p.scale, p.offset,
                            NULL, NULL, false);
  for (size_t r = 0; r < FN_ROW_GROUP; r++)
    fn_set(n->dtype, &ones, r, 1.0);
  p = (fn_pairs){.g = p.g,
                 .x = &m->x_room,
                 .rows = rows,
                 .segs = 1,
                 .len = cols,
                 .g_row_stride = p.g_row_stride,
                 .x_row_stride = (ptrdiff_t)cols,
                 .scale = &ones};
  n->kernels->products_runs(&p, g, gt, NULL);
  for (size_t r = 0; r < rows; r++)
    if (m->any_slow || !(g[r] - g[r] == 0.0) || !(gt[r] - gt[r] == 0.0))
      sum_by_hand(m, &p, r, &g[r], &gt[r]);
}

static void add_sums(worker *m, const fn_rows_sums *to) {
  const size_t end = to->first + to->cols;
  const size_t step = fn_smaller(PART_ELEMENTS / m->x.cols, FN_ROW_GROUP);
  double g[FN_ROW_GROUP], gt[FN_ROW_GROUP];
  for (size_t j = to->first; j < end; j += step) {
    const size_t rows = fn_smaller(step, end - j), k = j - to->first;
    sum_rows(m, j, rows, g, gt);
    for (size_t r = 0; r < rows; r++) {
      to->gt[k + r] += gt[r];
      if (to->g)
        to->g[k + r] += g[r];
    }
  }
  for (size_t c = 0; m->any_slow && c < m->x.cols; c++) {
    fn_slow_gradient slow;
    if (!m->is_slow[c])
      continue;
    const fn_slow_run run = slow_column(m, c, &slow);
    for (size_t j = to->first; j < end; j++)
      fn_slow_gradient_sum(&run, &slow, j, to->g ? &to->g[j - to->first] : NULL,
                           &to->gt[j - to->first]);
  }
}

/* ---- the gradient ---- */

/* Columns [from, to) of some rows, which p has; none is slow. */
static void write_columns(worker *m, const fn_pairs *p, size_t j, size_t from,
                          size_t to) {
  const fn_rows_work *n = &m->w->norm;
  const fn_output all = output_of(m);
  const fn_output out = fn_output_at(n->dtype, &all, 0, j, from);
  const fn_pairs some = some_columns(n->dtype, p, from, to);
  const fn_table staged = {.x = &m->x_room,
                           .rows = p->rows,
                           .stride = (ptrdiff_t)(to - from),
                           .cols = to - from};
  fn_gradient y = {.a = fn_element(n->dtype, &m->a, (ptrdiff_t)from),
                   .b = fn_element(n->dtype, &m->b, (ptrdiff_t)from),
                   .c = fn_element(n->dtype, &m->c, (ptrdiff_t)from),
                   .y = out.y,
                   .row_stride = out.seg_stride,
                   .stream = out.stream};
  if (out.sink) {
    y.y = (void *)staged.x;
    y.row_stride = staged.stride;
    y.stream = false;
  }
  n->kernels->gradient_columns(&some, &y);
  if (out.sink)
    fn_scatter_table(n->dtype, &staged, &out);
}

static void write_gradient(worker *m) {
  const fn_rows_work *n = &m->w->norm;
  const size_t cols = m->x.cols;
  const size_t fit = PART_ELEMENTS / cols, rows = part_rows(m);
  const size_t step = n->f.scatters ? fn_smaller(fit, rows) : rows;
  for (size_t j = 0; j < n->cols; j += step)
    for (size_t from = 0, to; from < cols; from = to) {
      for (to = from; to < cols && !m->is_slow[to];)
        to++;
      if (to > from) { /* read again, as the stage may have been used */
        const fn_pairs p = read_rows(m, j, fn_smaller(step, n->cols - j));
        write_columns(m, &p, j, from, to);
      }
      to += to < cols; /* the slow one */
    }
  for (size_t c = 0; m->any_slow && c < cols; c++) {
    fn_slow_gradient slow;
    if (!m->is_slow[c])
      continue;
    const fn_slow_run run = slow_column(m, c, &slow);
    fn_slow_gradient_apply(&run, &slow);
  }
}

void fn_inner_piece(const fn_rows_gradient *w, size_t index, const fn_rows_sums *to,
                    bool gradient) {
  const fn_rows_pieces pieces = fn_rows_pieces_of(w);
  const size_t first = index / pieces.blocks * pieces.rows;
  const size_t end = fn_smaller(first + pieces.rows, w->norm.rows);
  worker m; /* some 250 KiB: not to be cleared */
  m.w = w;
  m.first = index % pieces.blocks * pieces.block;
  for (m.row = first; m.row < end; m.row++) {
    const size_t cols = fn_smaller(w->norm.inner - m.first, pieces.block);
    m.g = table_of(&m, w->g, w->g_stride, cols);
    m.x = table_of(&m, w->norm.x, w->norm.x_stride, cols);
    find_factors(&m);
    if (to)
      add_sums(&m, to);
    if (gradient)
      write_gradient(&m);
  }
}
