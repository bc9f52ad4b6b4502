/* rows.c - layer norm and RMS norm: the work that they share.
 * SPDX-License-Identifier: MIT
 *
 * Rows are taken in groups that stay in the first-level cache between the two passes;
 * a piece of work for a thread is some groups. Both sizes depend on the shape alone. */
#include "rows.h"

#include "check.h"
#include "columns.h"
#include "dispatch.h"
#include "runs.h"
#include "threads.h"

#define GROUP_BYTES 32768
#define PIECE_BYTES 131072

fastnorm_status fn_rows_check(const fastnorm_layer_norm_args *args, bool centered,
                              fn_rows_work *work) {
  const size_t element = fn_dtype_size(args->dtype);
  const size_t inner = args->inner ? args->inner : 1;
  const size_t shape[3] = {args->rows, args->cols, inner};
  const double initial = centered ? 1e-5 : element == 4 ? 0x1p-23 : 0x1p-52;
  size_t count, row;
  double eps;
  if (element == 0)
    return FASTNORM_ERROR_DTYPE;
  fastnorm_status s = fn_read_eps(args->eps, initial, &eps);
  if (s != FASTNORM_OK)
    return s;
  if (args->exec.num_threads < 0)
    return FASTNORM_ERROR_THREADS;
  if (!fn_count(shape, element, &count))
    return FASTNORM_ERROR_SHAPE;
  *work = (fn_rows_work){.rows = 0};
  if (count == 0)
    return FASTNORM_OK;
  row = args->cols * inner;
  const ptrdiff_t x_stride = args->x_stride ? args->x_stride : (ptrdiff_t)row;
  const ptrdiff_t y_stride = args->y_stride ? args->y_stride : (ptrdiff_t)row;
  const ptrdiff_t in = (ptrdiff_t)inner;
  const fn_array arrays[] = {
      {args->y, {args->rows, args->cols, inner}, {y_stride, in, 1}},
      {args->x, {args->rows, args->cols, inner}, {x_stride, in, 1}},
      {args->weight, {1, 1, args->cols}, {0, 0, 1}},
      {args->bias, {1, 1, args->cols}, {0, 0, 1}},
      {args->mean, {1, args->rows, inner}, {0, in, 1}},
      {args->rstd, {1, args->rows, inner}, {0, in, 1}},
  };
  s = fn_check_arrays(arrays, 3, 2, element);
  if (s != FASTNORM_OK)
    return s;
  const fn_kernels *kernels = fn_dispatch(args->dtype);
  if (!kernels)
    return FASTNORM_ERROR_ISA;
  *work = (fn_rows_work){.kernels = kernels,
                         .dtype = args->dtype,
                         .x = args->x,
                         .weight = args->weight,
                         .bias = args->bias,
                         .y = args->y,
                         .mean = args->mean,
                         .rstd = args->rstd,
                         .rows = args->rows,
                         .cols = args->cols,
                         .inner = inner,
                         .x_stride = x_stride,
                         .y_stride = y_stride,
                         .eps = eps,
                         .centered = centered,
                         .stream =
                             count * element >= FN_STREAM_BYTES && args->x != args->y};
  return FASTNORM_OK;
}

/* Rows of which some were slow: one at a time. */
static void apply_mixed(const fn_rows_work *w, const fn_runs *g, void *y,
                        const fn_group_stats *s, const fn_group_array *scale,
                        const fn_group_array *offset) {
  for (size_t r = 0; r < g->rows; r++) {
    const fn_runs one = fn_run_alone(g, w->dtype, r);
    const ptrdiff_t i = (ptrdiff_t)r;
    void *out = fn_element(w->dtype, y, i * w->y_stride);
    if (s->is_slow[r])
      fn_slow_apply(w->dtype, &one, out, 0, &s->slow[r], w->weight, w->bias, 1);
    else
      w->kernels->apply_runs(
          &one, out, 0, 0, w->centered ? fn_element(w->dtype, &s->hi, i) : NULL,
          fn_element(w->dtype, scale, i), fn_element(w->dtype, offset, i), w->weight,
          w->bias, false);
  }
}

static void write_stats(const fn_rows_work *w, size_t first, size_t rows,
                        const fn_group_stats *s, const fn_group_array *rstd) {
  for (size_t r = 0; r < rows; r++) {
    const bool slow = s->any_slow && s->is_slow[r];
    if (w->mean)
      fn_set(w->dtype, w->mean, first + r,
             slow ? fn_slow_mean(&s->slow[r]) : fn_get(w->dtype, &s->hi, r));
    if (w->rstd)
      fn_set(w->dtype, w->rstd, first + r,
             slow ? fn_slow_rstd(&s->slow[r]) : fn_get(w->dtype, rstd, r));
  }
}

/* A group between its two passes. */
typedef struct group_state {
  size_t first;
  fn_runs g;
  fn_group_stats s;
  fn_group_array scale, offset; /* scale is rstd: the weights come with the columns */
} group_state;

static void group_stats(const fn_rows_work *w, size_t first, size_t rows,
                        group_state *state) {
  state->first = first;
  state->g = (fn_runs){.x = fn_element(w->dtype, w->x, (ptrdiff_t)first * w->x_stride),
                       .rows = rows,
                       .row_stride = w->x_stride,
                       .segs = 1,
                       .len = w->cols};
  fn_runs_stats(w->kernels, w->dtype, &state->g, w->eps, w->centered, &state->s);
  w->kernels->affine(rows, state->s.var, w->eps, NULL,
                     w->centered ? &state->s.lo : NULL, NULL, NULL, NULL, &state->scale,
                     w->centered ? &state->offset : NULL);
}

static void group_apply(const fn_rows_work *w, const group_state *state) {
  const fn_group_stats *s = &state->s;
  void *y = fn_element(w->dtype, w->y, (ptrdiff_t)state->first * w->y_stride);
  if (s->any_slow)
    apply_mixed(w, &state->g, y, s, &state->scale, &state->offset);
  else
    w->kernels->apply_runs(&state->g, y, w->y_stride, 0, w->centered ? &s->hi : NULL,
                           &state->scale, &state->offset, w->weight, w->bias,
                           w->stream);
  if (w->mean || w->rstd)
    write_stats(w, state->first, state->g.rows, s, &state->scale);
}

static size_t group_rows(const fn_rows_work *w) {
  const size_t fit = GROUP_BYTES / (w->cols * fn_dtype_size(w->dtype));
  return fit < 1 ? 1 : fit > FN_GROUP ? FN_GROUP : fit;
}

static size_t piece_rows(const fn_rows_work *w) {
  const size_t fit = PIECE_BYTES / (w->cols * fn_dtype_size(w->dtype));
  const size_t group = group_rows(w);
  return fit < group ? group : fit / group * group;
}

/* The statistics of a group end in a chain of dependent instructions (sums, division,
 * root, division). The next group's are begun before this one is applied, so that the
 * processor has independent work while it waits for them. */
static void rows_task(void *context, size_t index) {
  const fn_rows_work *w = context;
  const size_t piece = piece_rows(w), group = group_rows(w), first = index * piece;
  const size_t end = w->rows - first < piece ? w->rows : first + piece;
  group_state states[2];
  int now = 0;
  group_stats(w, first, end - first < group ? end - first : group, &states[0]);
  for (size_t r = first; r < end; r += group, now = !now) {
    const size_t next = r + group;
    if (next < end)
      group_stats(w, next, end - next < group ? end - next : group, &states[!now]);
    group_apply(w, &states[now]);
  }
}

/* inner > 1: the columns of a table [cols, inner] per row, a block of them at a time.
 * */
static size_t column_block(const fn_rows_work *w) {
  return fn_column_block(w->cols, w->inner, w->dtype);
}

static void columns_task(void *context, size_t index) {
  const fn_rows_work *w = context;
  const size_t block = column_block(w), blocks = (w->inner + block - 1) / block;
  const size_t r = index / blocks, c = index % blocks * block;
  const ptrdiff_t from = (ptrdiff_t)c, row = (ptrdiff_t)r, inner = (ptrdiff_t)w->inner;
  const fn_table t = {.x = fn_element(w->dtype, w->x, row * w->x_stride + from),
                      .rows = w->cols,
                      .stride = inner,
                      .cols = w->inner - c < block ? w->inner - c : block,
                      .fold = 1};
  const fn_column_parameters p = {.eps = w->eps,
                                  .centered = w->centered,
                                  .per_row = true,
                                  .stream = w->stream,
                                  .weight = w->weight,
                                  .bias = w->bias};
  fn_column_stats s;
  fn_columns_stats(w->kernels, w->dtype, &t, w->eps, w->centered, &s);
  fn_columns_scale(w->kernels, w->dtype, t.cols, &p, &s);
  for (size_t i = 0; (w->mean || w->rstd) && i < t.cols; i++) {
    fn_column_result column;
    fn_column_read(w->dtype, &t, w->eps, w->centered, &s, i, &column);
    if (w->mean)
      fn_set(w->dtype, w->mean, r * w->inner + c + i, column.mean);
    if (w->rstd)
      fn_set(w->dtype, w->rstd, r * w->inner + c + i, column.rstd);
  }
  fn_columns_apply(w->kernels, w->dtype, &t,
                   fn_element(w->dtype, w->y, row * w->y_stride + from), inner, &s, &p);
}

void fn_rows_run(const fn_rows_work *w, const fastnorm_exec *exec) {
  const size_t bytes = 2 * w->rows * w->cols * w->inner * fn_dtype_size(w->dtype);
  if (w->inner == 1) {
    const size_t piece = piece_rows(w);
    fn_parallel_for(exec, (w->rows + piece - 1) / piece, bytes, rows_task, (void *)w);
  } else {
    const size_t block = column_block(w);
    fn_parallel_for(exec, w->rows * ((w->inner + block - 1) / block), bytes,
                    columns_task, (void *)w);
  }
}
