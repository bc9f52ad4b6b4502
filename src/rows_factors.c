/* rows_factors.c - gradients of the norms of rows: reading, statistics, factors.
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "check.h"
#include "rows_worker.h"
#include "sum.h"

size_t fn_row_part_elements(const fn_rows_gradient *w) {
  return PART_BYTES / fn_dtype_size(w->norm.dtype);
}

size_t fn_row_per_part(const fn_rows_gradient *w) {
  const size_t fit = fn_row_part_elements(w) / w->norm.cols;
  return fit < FN_ROW_GROUP ? fit : FN_ROW_GROUP;
}

/* ---- reading ---- */

static fn_runs runs_of(const fn_rows_gradient *w, const void *p, ptrdiff_t stride,
                       size_t row, size_t rows, size_t from, size_t to) {
  const ptrdiff_t at = (ptrdiff_t)row * stride + (ptrdiff_t)from;
  return (fn_runs){.x = (const char *)p + at * (ptrdiff_t)w->norm.f.source.element,
                   .rows = rows,
                   .row_stride = stride,
                   .segs = 1,
                   .len = to - from,
                   .source = w->norm.f.gathers ? &w->norm.f.source : NULL,
                   .row = row,
                   .at = from};
}

fn_pairs fn_row_read_part(fn_row_worker *m, size_t row, size_t rows, size_t from,
                          size_t to) {
  const fn_rows_gradient *w = m->w;
  const fastnorm_dtype dtype = w->norm.dtype;
  const fn_runs g = runs_of(w, w->g, w->g_stride, row, rows, from, to);
  const fn_runs x = runs_of(w, w->norm.x, w->norm.x_stride, row, rows, from, to);
  fn_pairs p = {.g = g.x,
                .x = x.x,
                .rows = rows,
                .segs = 1,
                .len = to - from,
                .g_row_stride = g.row_stride,
                .x_row_stride = x.row_stride};
  if (!g.source)
    return p;
  if (row < m->row || row + rows > m->row + m->rows || from < m->from || to > m->to) {
    fn_gather_runs(dtype, &g, false, &m->g);
    fn_gather_runs(dtype, &x, false, &m->x);
    m->row = row;
    m->rows = rows;
    m->from = from;
    m->to = to;
  }
  p.g_row_stride = p.x_row_stride = (ptrdiff_t)(m->to - m->from);
  const ptrdiff_t at =
      (ptrdiff_t)(row - m->row) * p.g_row_stride + (ptrdiff_t)(from - m->from);
  p.g = fn_element(dtype, &m->g, at);
  p.x = fn_element(dtype, &m->x, at);
  return p;
}

const void *fn_row_read_weight(fn_row_worker *m, size_t from, size_t to) {
  const fn_rows_work *n = &m->w->norm;
  if (m->weight_from != from || m->weight_to != to) {
    m->weight = fn_vector_read(n->kernels, n->dtype, &n->weight, from, to - from,
                               &m->weight_room);
    m->weight_from = from;
    m->weight_to = to;
  }
  return m->weight;
}

void fn_row_set_factors(const fn_row_worker *m, size_t i, fn_pairs *p) {
  const fastnorm_dtype dtype = m->w->norm.dtype;
  const fn_row_group *g = &m->group;
  const bool centered = m->w->norm.norm == FN_CENTERED;
  p->scale = fn_element(dtype, &g->scale, (ptrdiff_t)i);
  if (!centered)
    return;
  p->hi = fn_element(dtype, &g->hi, (ptrdiff_t)i);
  p->offset = fn_element(dtype, &g->offset, (ptrdiff_t)i);
  p->shift = fn_element(dtype, &g->shift, (ptrdiff_t)i);
}

/* ---- the factors of a group ---- */

static void copy(fastnorm_dtype dtype, fn_row_array *to, size_t i, const void *from,
                 size_t n) {
  memcpy(fn_element(dtype, to, (ptrdiff_t)i), from, n * fn_dtype_size(dtype));
}

/* Mean and rstd of n rows that were given. */
static void read_statistics(fn_row_worker *m, size_t i, size_t n) {
  const fn_rows_gradient *w = m->w;
  const fastnorm_dtype dtype = w->norm.dtype;
  const ptrdiff_t row = (ptrdiff_t)(m->group.first + i);
  fn_row_group *g = &m->group;
  copy(dtype, &g->scale, i, fn_element(dtype, w->rstd, row), n);
  memset(fn_element(dtype, &g->offset, (ptrdiff_t)i), 0, n * fn_dtype_size(dtype));
  if (w->mean)
    copy(dtype, &g->hi, i, fn_element(dtype, w->mean, row), n);
  for (size_t r = i; r < i + n; r++)
    g->is_slow[r] = !fn_statistics_within(
        dtype, w->mean ? fn_get(dtype, &g->hi, r) : 0.0, fn_get(dtype, &g->scale, r));
}

/* L2 norm: rows shorter than eps are divided by that, zeros by nothing. */
static void check_lengths(fn_row_worker *m, size_t i, size_t n) {
  const fn_rows_work *norm = &m->w->norm;
  fn_row_group *g = &m->group;
  for (size_t r = 0; r < n; r++) {
    const double length = m->found.s.sum[r];
    if (g->is_slow[i + r])
      continue;
    g->slope[i + r] = length < norm->eps ? 0.0 : 1.0;
    if (length < norm->eps || length <= 0.0) {
      const double scale = norm->eps > 0.0 ? 1.0 / norm->eps : 0.0;
      fn_set(norm->dtype, &g->scale, i + r, scale);
      g->is_slow[i + r] = !fn_statistics_within(norm->dtype, 0.0, scale);
    }
  }
}

/* Statistics of n rows of the group from i on. */
static void find_statistics(fn_row_worker *m, size_t i, size_t n) {
  const fn_rows_gradient *w = m->w;
  const fn_rows_work *norm = &w->norm;
  const size_t row = m->group.first + i;
  const fn_group_stats *s = &m->found.s;
  fn_row_group *g = &m->group;
  if (w->rstd) {
    read_statistics(m, i, n);
    return;
  }
  fn_runs x = runs_of(w, norm->x, norm->x_stride, row, n, 0, norm->cols);
  if (x.source && fn_row_per_part(w) > 0) {
    const fn_pairs p = fn_row_read_part(m, row, n, 0, norm->cols);
    x = (fn_runs){.x = p.x,
                  .rows = n,
                  .row_stride = p.x_row_stride,
                  .segs = 1,
                  .len = norm->cols};
  }
  fn_rows_find(norm, row, &x, &m->found);
  copy(norm->dtype, &g->scale, i, &m->found.scale, n);
  if (norm->norm == FN_CENTERED) {
    copy(norm->dtype, &g->hi, i, &s->hi, n);
    copy(norm->dtype, &g->offset, i, &m->found.offset, n);
  }
  for (size_t r = 0; r < n; r++)
    g->is_slow[i + r] = s->any_slow && s->is_slow[r];
  if (norm->norm == FN_SUM_OF_SQUARES)
    check_lengths(m, i, n);
}

/* Of d; p is one row, or a part of it. */
static double largest_difference(fn_row_worker *m, const fn_pairs *p) {
  const fn_rows_work *norm = &m->w->norm;
  fn_group_array one, zero;
  for (size_t r = 0; r < FN_ROW_GROUP; r++) {
    fn_set(norm->dtype, &one, r, 1.0);
    fn_set(norm->dtype, &zero, r, 0.0);
  }
  const fn_gradient y = {.a = &one, .b = &zero, .c = &zero, .y = &m->weight_room};
  m->weight_from = m->weight_to = 0; /* the room is taken */
  norm->kernels->gradient_runs(p, &y);
  return norm->kernels->largest(&m->weight_room, p->len);
}

fn_slow_run fn_row_slow_run(const fn_row_worker *m, size_t i) {
  const fn_rows_gradient *w = m->w;
  const fn_rows_work *n = &w->norm;
  const size_t row = m->group.first + i;
  const fn_output y = {
      .y = n->y, .row_stride = n->y_stride, .sink = n->f.scatters ? &n->f.sink : NULL};
  return (fn_slow_run){.kernels = n->kernels,
                       .dtype = n->dtype,
                       .g = runs_of(w, w->g, w->g_stride, row, 1, 0, n->cols),
                       .x = runs_of(w, n->x, n->x_stride, row, 1, 0, n->cols),
                       .weight = n->weight,
                       .y = n->y ? fn_output_at(n->dtype, &y, row, 0, 0).y : NULL,
                       .y_step = 1,
                       .sink = y.sink};
}

static void find_slow(fn_row_worker *m, size_t i) {
  const fn_rows_work *n = &m->w->norm;
  const fn_slow_run run = fn_row_slow_run(m, i);
  fn_row_group *g = &m->group;
  fn_slow *s = &g->slow[i].s;
  g->any_slow = true;
  fn_slow_gradient_statistics(&run, n->norm, n->eps, m->w->mean, m->w->rstd,
                              g->first + i, s, &g->slope[i]);
  fn_slow_gradient_find(&run, n->norm == FN_CENTERED, g->slope[i], &g->slow[i]);
}

/* The sums of n rows of the group from i on, which fit a part, or of a part of one. */
static void sum_part(fn_row_worker *m, size_t i, size_t n, size_t from, size_t to,
                     double *d, double *dt, double *x) {
  const fn_rows_work *norm = &m->w->norm;
  const fastnorm_dtype dtype = norm->dtype;
  const bool centered = norm->norm == FN_CENTERED;
  fn_pairs p = fn_row_read_part(m, m->group.first + i, n, from, to);
  p.weight = fn_row_read_weight(m, from, to);
  for (size_t r = 0; from == 0 && r < n; r++) {
    const double first =
        fn_get(dtype, fn_element(dtype, p.g, (ptrdiff_t)r * p.g_row_stride), 0);
    fn_set(dtype, &m->group.shift, i + r,
           p.weight ? first * fn_get(dtype, p.weight, 0) : first);
  }
  fn_row_set_factors(m, i, &p);
  norm->kernels->products_runs(&p, centered ? d : NULL, dt, centered ? x : NULL);
}

/* Whether products of row i that are small are good enough. */
static bool small_is_within(fn_row_worker *m, size_t i) {
  const fn_rows_work *n = &m->w->norm;
  const size_t cols = n->cols, part = fn_row_part_elements(m->w);
  bool no_g = true, no_weight = true;
  double largest = 0.0;
  for (size_t from = 0; from < cols; from += part) {
    const size_t to = fn_smaller(from + part, cols);
    fn_pairs p = fn_row_read_part(m, m->group.first + i, 1, from, to);
    p.weight = fn_row_read_weight(m, from, to);
    fn_row_set_factors(m, i, &p);
    no_g = no_g && n->kernels->largest(p.g, p.len) <= 0.0;
    no_weight = no_weight && p.weight && n->kernels->largest(p.weight, p.len) <= 0.0;
    const double size = largest_difference(m, &p);
    largest = size <= largest ? largest : size; /* or NaN */
  }
  return fn_difference_within(n->dtype, largest, fn_get(n->dtype, &m->group.shift, i),
                              !n->weight.p || no_g || no_weight);
}

void fn_row_find_factors(fn_row_worker *m, size_t i, size_t n) {
  const fn_rows_work *norm = &m->w->norm;
  const fastnorm_dtype dtype = norm->dtype;
  const size_t cols = norm->cols, part = fn_row_part_elements(m->w);
  fn_row_group *g = &m->group;
  double d[FN_ROW_GROUP] = {0.0}, dt[FN_ROW_GROUP], x[FN_ROW_GROUP] = {0.0};
  find_statistics(m, i, n);
  if (fn_row_per_part(m->w) > 0) {
    sum_part(m, i, n, 0, cols, d, dt, x);
  } else {
    fn_sum all[3] = {{0.0, 0.0}, {0.0, 0.0}, {0.0, 0.0}};
    for (size_t from = 0; from < cols; from += part) {
      sum_part(m, i, 1, from, fn_smaller(from + part, cols), d, dt, x);
      fn_sum_add(&all[0], d[0]);
      fn_sum_add(&all[1], dt[0]);
      fn_sum_add(&all[2], x[0]);
    }
    d[0] = fn_sum_value(&all[0]);
    dt[0] = fn_sum_value(&all[1]);
    x[0] = fn_sum_value(&all[2]);
  }
  const ptrdiff_t at = (ptrdiff_t)i;
  const bool good = norm->kernels->factors(
      n, (double)cols, g->slope + i, d, dt, x, fn_element(dtype, &g->scale, at),
      fn_element(dtype, &g->offset, at),
      norm->norm == FN_CENTERED ? fn_element(dtype, &g->shift, at) : NULL,
      fn_element(dtype, &g->a, at), fn_element(dtype, &g->b, at),
      fn_element(dtype, &g->c, at));
  for (size_t r = 0; r < n; r++) {
    const fn_range range = good ? FN_WITHIN
                                : fn_products_range(dtype, (double)cols, d[r], dt[r],
                                                    x[r], fn_get(dtype, &g->b, i + r));
    if (range == FN_OUTSIDE || (range == FN_SMALL && !small_is_within(m, i + r)))
      g->is_slow[i + r] = true;
    if (g->is_slow[i + r])
      find_slow(m, i + r);
  }
}
