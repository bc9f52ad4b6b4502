/* rows_backward_rows.c - gradients of the norms of rows: rows in groups, inner = 1.
 * SPDX-License-Identifier: MIT
 *
 * A group of rows stays in the cache from its statistics to its gradient: first the
 * statistics of x, unless they were given; then sums of products along each row, from
 * which its factors follow; then sums of products across the rows, for the gradients of
 * weight and bias; and last the gradient, as it may be written over g or x. Where it is
 * not, the last two read g and x once: of [512, 1024] 259 -> 212 us, of [128, 768] 49
 * -> 38 (AMD EPYC Zen 4, avx512); 284 -> 222 and 53 -> 44 (avx2). */
#include "check.h"
#include "rows_worker.h"

/* ---- what a gradient is made of ---- */

/* Of rows from i of the group on, columns from `from` on, and where it goes. */
static fn_gradient gradient_of(const fn_row_worker *m, size_t i, size_t from,
                               fn_output *out) {
  const fn_rows_work *w = &m->w->norm;
  const fn_output all = {.y = w->y,
                         .row_stride = w->y_stride,
                         .sink = w->f.scatters ? &w->f.sink : NULL,
                         .stream = w->stream};
  *out = fn_output_at(w->dtype, &all, m->group.first + i, 0, from);
  return (fn_gradient){.a = fn_element(w->dtype, &m->group.a, (ptrdiff_t)i),
                       .b = fn_element(w->dtype, &m->group.b, (ptrdiff_t)i),
                       .c = fn_element(w->dtype, &m->group.c, (ptrdiff_t)i),
                       .y = out->y,
                       .row_stride = out->row_stride,
                       .stream = out->stream};
}

/* Whether a group is read once for its sums across rows and for its gradient. Not where
 * y is written over what a sum that leaves the range is made of again by hand. */
static bool written_at_once(const fn_row_worker *m) {
  const fn_rows_work *w = &m->w->norm;
  return m->group.rows % FN_PRODUCT_ROWS == 0 && !m->group.any_slow && w->weight.p &&
         fn_vector_is_plain(&w->weight, w->dtype) && w->y && w->y != w->x &&
         w->y != m->w->g && !w->stream && !w->f.gathers && !w->f.scatters;
}

/* ---- sums across the rows ---- */

/* n rows from i on, none of them slow, columns [from, from + len): all in double. */
static void add_by_hand(fn_row_worker *m, const fn_pairs *p, double *sum_g,
                        double *sum_gt) {
  const fastnorm_dtype dtype = m->w->norm.dtype;
  for (size_t r = 0; r < p->rows; r++)
    for (size_t c = 0; c < p->len; c++) {
      const ptrdiff_t k = (ptrdiff_t)c, row = (ptrdiff_t)r;
      const double g =
          fn_get(dtype, fn_element(dtype, p->g, row * p->g_row_stride + k), 0);
      const double x =
          fn_get(dtype, fn_element(dtype, p->x, row * p->x_row_stride + k), 0);
      double t = x - (p->hi ? fn_get(dtype, p->hi, r) : 0.0);
      t = t * fn_get(dtype, p->scale, r) + (p->hi ? fn_get(dtype, p->offset, r) : 0.0);
      if (sum_g)
        sum_g[c] += g;
      sum_gt[c] += g * t;
    }
}

/* With `writes` also their gradient. */
static void add_rows(fn_row_worker *m, size_t i, size_t n, size_t from, size_t len,
                     double *sum_g, double *sum_gt, bool writes) {
  const fn_rows_work *w = &m->w->norm;
  fn_pairs p = fn_row_read_part(m, m->group.first + i, n, from, from + len);
  bool good;
  fn_row_set_factors(m, i, &p);
  if (writes) {
    fn_output out;
    const fn_gradient y = gradient_of(m, i, from, &out);
    p.weight = fn_row_read_weight(m, from, from + len);
    good = w->kernels->gradient_rows(&p, &y, sum_g, sum_gt);
  } else {
    p.shift = NULL;
    good = w->kernels->products_rows(&p, sum_g, sum_gt);
  }
  if (!good)
    add_by_hand(m, &p, sum_g, sum_gt);
}

/* The same with slow ones among them. */
static void add_mixed_rows(fn_row_worker *m, size_t i, size_t n, size_t from,
                           size_t len, double *sum_g, double *sum_gt) {
  const fn_row_group *g = &m->group;
  for (size_t end; n > 0; n -= end - i, i = end) {
    end = i + 1;
    if (!g->is_slow[i]) {
      while (end < i + n && !g->is_slow[end])
        end++;
      add_rows(m, i, end - i, from, len, sum_g, sum_gt, false);
      continue;
    }
    const fn_slow_run run = fn_row_slow_run(m, i);
    for (size_t c = 0; c < len; c++)
      fn_slow_gradient_sum(&run, &g->slow[i], from + c, sum_g ? sum_g + c : NULL,
                           sum_gt + c);
  }
}

static void add_sums(fn_row_worker *m, const fn_rows_sums *to, bool writes) {
  const size_t rows = m->group.rows;
  for (size_t c = 0; c < to->cols; c += FN_PRODUCT_COLUMNS) {
    const size_t len = fn_smaller(to->cols - c, FN_PRODUCT_COLUMNS);
    for (size_t i = 0; i < rows; i += FN_PRODUCT_ROWS) {
      const size_t n = fn_smaller(rows - i, FN_PRODUCT_ROWS);
      double *sum_g = to->g ? to->g + c : NULL;
      if (m->group.any_slow)
        add_mixed_rows(m, i, n, to->first + c, len, sum_g, to->gt + c);
      else
        add_rows(m, i, n, to->first + c, len, sum_g, to->gt + c, writes);
    }
  }
}

/* Rows i to i + n of the group, which fit a part, or a part of one; none is slow. */
static void write_part(fn_row_worker *m, size_t i, size_t n, size_t from, size_t to) {
  const fn_rows_work *w = &m->w->norm;
  const fastnorm_dtype dtype = w->dtype;
  const size_t row = m->group.first + i;
  fn_pairs p = fn_row_read_part(m, row, n, from, to);
  fn_output out;
  fn_gradient y = gradient_of(m, i, from, &out);
  p.weight = fn_row_read_weight(m, from, to);
  fn_row_set_factors(m, i, &p);
  if (!out.sink && !w->f.gathers && row + m->group.rows + n <= w->rows) {
    /* the same rows of the next fn_row_group */
    y.ahead_g = fn_element(dtype, p.g, (ptrdiff_t)m->group.rows * p.g_row_stride);
    y.ahead_x = fn_element(dtype, p.x, (ptrdiff_t)m->group.rows * p.x_row_stride);
  }
  if (!out.sink) {
    w->kernels->gradient_runs(&p, &y);
    return;
  }
  const fn_runs staged = {.x = &m->g,
                          .rows = n,
                          .row_stride = (ptrdiff_t)(to - from),
                          .segs = 1,
                          .len = to - from};
  y.y = &m->g;
  y.row_stride = staged.row_stride;
  y.stream = false;
  m->rows = 0;
  w->kernels->gradient_runs(&p, &y);
  fn_scatter_runs(dtype, &staged, &out);
}

static void write_gradient(fn_row_worker *m, size_t i, size_t n) {
  const size_t cols = m->w->norm.cols, part = fn_row_part_elements(m->w);
  const fn_row_group *g = &m->group;
  if (fn_row_per_part(m->w) == 0 && !g->is_slow[i]) {
    for (size_t from = 0; from < cols; from += part)
      write_part(m, i, 1, from, fn_smaller(from + part, cols));
    return;
  }
  for (size_t end; n > 0; n -= end - i, i = end) {
    end = i + 1;
    if (g->is_slow[i]) {
      const fn_slow_run run = fn_row_slow_run(m, i);
      fn_slow_gradient_apply(&run, &g->slow[i]);
      continue;
    }
    while (end < i + n && !g->is_slow[end])
      end++;
    write_part(m, i, end - i, 0, cols);
  }
}

/* ---- */

/* Rows of a group: whole blocks of the sums across rows, if there are any. */
static size_t group_rows(const fn_rows_gradient *w) {
  const size_t fit = fn_row_per_part(w);
  if (fn_rows_wants_sums(w))
    return fit > FN_PRODUCT_ROWS ? FN_ROW_GROUP : FN_PRODUCT_ROWS;
  return fit > 0 ? fit : 1;
}

void fn_rows_piece(const fn_rows_gradient *w, size_t index, const fn_rows_sums *to,
                   bool gradient) {
  const fn_rows_pieces pieces = fn_rows_pieces_of(w);
  const size_t first = index * pieces.rows, most = group_rows(w);
  const size_t end = fn_smaller(w->norm.rows, first + pieces.rows);
  const size_t fit = fn_row_per_part(w) > 0 ? fn_row_per_part(w) : 1;
  fn_row_worker m; /* some 130 KiB: not to be cleared */
  m.w = w;
  m.rows = m.weight_to = m.weight_from = 0;
  m.row = m.from = m.to = 0;
  for (size_t r = 0; r < FN_ROW_GROUP; r++) /* of L2 norm they are another matter */
    m.group.slope[r] = 1.0 / (double)w->norm.cols;
  for (size_t r = first; r < end; r += most) {
    const size_t rows = fn_smaller(end - r, most);
    m.group.first = r;
    m.group.rows = rows;
    m.group.any_slow = false;
    for (size_t i = 0; i < rows; i += fit)
      fn_row_find_factors(&m, i, fn_smaller(rows - i, fit));
    const bool at_once = to && gradient && written_at_once(&m);
    if (to)
      add_sums(&m, to, at_once);
    for (size_t i = 0; gradient && !at_once && i < rows; i += fit)
      write_gradient(&m, i, fn_smaller(rows - i, fit));
  }
}
