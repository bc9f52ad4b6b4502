/* rows_backward.c - gradients of the norms of rows: arguments, pieces, totals.
 * SPDX-License-Identifier: MIT */
#include "rows_backward.h"

#include <string.h>

#include "check.h"
#include "dispatch.h"
#include "threads.h"

/* Of x in a piece: with sums more, as each piece has its own, which are added up. */
#define PIECE_BYTES      131072
#define SUMS_PIECE_BYTES 524288
#define MOST_PIECES      32

/* ---- arguments ---- */

static fastnorm_status check_arrays(const fastnorm_layer_norm_backward_args *a,
                                    const fn_formats *f, size_t inner,
                                    fn_array scratch) {
  const size_t rows = a->rows, cols = a->cols, row = cols * inner;
  const size_t x = fn_dtype_size(f->x), y = fn_dtype_size(f->y);
  const size_t params = fn_dtype_size(f->params), sums = fn_dtype_size(f->working);
  const ptrdiff_t in = (ptrdiff_t)inner;
  const fn_array g = {a->grad_y,
                      {rows, cols, inner},
                      {fn_stride(a->grad_y_stride, a->rows, row), in, 1},
                      x,
                      FN_INPUT,
                      true};
  const fn_array in_x = {a->x,
                         {rows, cols, inner},
                         {fn_stride(a->x_stride, a->rows, row), in, 1},
                         x,
                         FN_INPUT,
                         true};
  const bool over_x = a->grad_x == a->x; /* the array that it may be comes next */
  size_t n = 0;
  fn_array all[9];
#define ADD(p, a, b, c, sa, sb, element, use, needed)                                  \
  all[n++] = (fn_array){p, {a, b, c}, {sa, sb, 1}, element, use, needed}
  ADD(a->grad_x, rows, cols, inner, fn_stride(a->grad_x_stride, a->rows, row), in, y,
      FN_IN_PLACE, false);
  all[n++] = over_x ? in_x : g;
  all[n++] = over_x ? g : in_x;
  ADD(a->weight, 1, 1, cols, 0, 0, params, FN_INPUT, false);
  ADD(a->grad_weight, 1, 1, cols, 0, 0, sums, FN_OUTPUT, false);
  ADD(a->grad_bias, 1, 1, cols, 0, 0, sums, FN_OUTPUT, false);
  ADD(a->mean, 1, rows, inner, 0, in, sums, FN_INPUT, false);
  ADD(a->rstd, 1, rows, inner, 0, in, sums, FN_INPUT, false);
#undef ADD
  all[n++] = scratch;
  return fn_check_arrays(all, n);
}

static void fill(const fastnorm_layer_norm_backward_args *a, size_t inner,
                 fn_rows_gradient *w) {
  const size_t row = a->cols * inner;
  fn_rows_work *n = &w->norm;
  n->dtype = n->f.working;
  n->x = a->x;
  n->y = a->grad_x;
  n->weight = fn_vector_of(a->weight, n->f.params);
  n->weight.plus_one = n->mode == FASTNORM_RMS_ONE_PLUS_WEIGHT;
  n->rows = a->rows;
  n->cols = a->cols;
  n->inner = inner;
  n->x_stride = fn_stride(a->x_stride, a->rows, row);
  n->y_stride = fn_stride(a->grad_x_stride, a->rows, row);
  n->stream = a->rows * row * n->f.sink.element >= FN_STREAM_BYTES &&
              a->grad_x != a->x && a->grad_x != a->grad_y;
  w->g = a->grad_y;
  w->g_stride = fn_stride(a->grad_y_stride, a->rows, row);
  w->mean = a->mean;
  w->rstd = a->rstd;
  w->grad_weight = a->grad_weight;
  w->grad_bias = a->grad_bias;
  w->exec = &a->exec;
}

/* Types, eps and extents: what the size of the scratch depends on. *count is 0 if there
 * are no elements. */
static fastnorm_status read_shape(const fastnorm_layer_norm_backward_args *args,
                                  fn_rows_norm norm, fn_rows_gradient *w, size_t *inner,
                                  size_t *count) {
  const fastnorm_epilogue none = {0};
  fn_formats *f = &w->norm.f;
  *inner = args->inner ? args->inner : 1;
  const size_t shape[3] = {args->rows, args->cols, *inner};
  if (fn_is_8_bit(args->dtype) || fn_is_8_bit(args->format.y))
    return FASTNORM_ERROR_DTYPE;
  fastnorm_status s = fn_formats_read(args->dtype, &args->format, &none, f);
  if (s == FASTNORM_OK)
    s = fn_read_eps(args->eps, fn_rows_initial_eps(norm, f), &w->norm.eps);
  if (s != FASTNORM_OK)
    return s;
  const size_t x = f->source.element, y = f->sink.element;
  return fn_count(shape, x > y ? x : y, count) ? FASTNORM_OK : FASTNORM_ERROR_SHAPE;
}

fastnorm_status fn_rows_gradient_check(const fastnorm_layer_norm_backward_args *args,
                                       fn_rows_norm norm, fastnorm_rms_mode mode,
                                       fn_rows_gradient *w) {
  size_t inner, count;
  *w = (fn_rows_gradient){.norm = {.norm = norm, .mode = mode}};
  fastnorm_status s = read_shape(args, norm, w, &inner, &count);
  if (s != FASTNORM_OK)
    return s;
  if (args->exec.num_threads < 0)
    return FASTNORM_ERROR_THREADS;
  if (norm == FN_CENTERED ? !args->mean != !args->rstd : args->mean != NULL)
    return FASTNORM_ERROR_COMBINATION;
  if (count == 0 && args->cols > 0) { /* sums of nothing */
    const fn_array sums[2] = {{args->grad_weight,
                               {1, 1, args->cols},
                               {0, 0, 1},
                               fn_dtype_size(w->norm.f.working),
                               FN_OUTPUT,
                               false},
                              {args->grad_bias,
                               {1, 1, args->cols},
                               {0, 0, 1},
                               fn_dtype_size(w->norm.f.working),
                               FN_OUTPUT,
                               false}};
    s = fn_check_arrays(sums, 2);
    for (int i = 0; s == FASTNORM_OK && i < 2; i++)
      if (sums[i].p && !args->exec.check_only)
        memset((void *)sums[i].p, 0, args->cols * sums[i].element);
  }
  if (s != FASTNORM_OK || count == 0)
    return s;
  const fn_array scratch = fn_scratch_array(args->scratch, args->scratch_size,
                                            fn_rows_gradient_scratch(args));
  s = check_arrays(args, &w->norm.f, inner, scratch);
  if (s != FASTNORM_OK)
    return s;
  w->norm.kernels = fn_dispatch(w->norm.f.working);
  if (!w->norm.kernels)
    return FASTNORM_ERROR_ISA;
  w->norm.f.source.kernels = w->norm.f.sink.kernels = w->norm.kernels;
  fill(args, inner, w);
  if (!w->norm.y && !fn_rows_wants_sums(w))
    w->norm.rows = 0;
  w->scratch = (double *)scratch.p;
  return FASTNORM_OK;
}

/* ---- pieces ---- */

static size_t padded(size_t n) {
  return (n + FN_PAD - 1) / FN_PAD * FN_PAD;
}

fn_rows_pieces fn_rows_pieces_of(const fn_rows_gradient *w) {
  const fn_rows_work *n = &w->norm;
  const size_t row = n->cols * n->inner * fn_dtype_size(n->dtype);
  fn_rows_pieces p = {.rows = PIECE_BYTES / row, .block = n->inner, .blocks = 1};
  if (n->inner > 1) {
    p.block = fn_column_block(2 * n->cols, n->inner, n->dtype); /* g and x */
    p.blocks = (n->inner + p.block - 1) / p.block;
  }
  if (fn_rows_wants_sums(w)) {
    const size_t most = MOST_PIECES / p.blocks > 1 ? MOST_PIECES / p.blocks : 1;
    const size_t least = (n->rows + most - 1) / most;
    p.rows = SUMS_PIECE_BYTES / row > least ? SUMS_PIECE_BYTES / row : least;
  }
  if (n->inner == 1) /* whole groups */
    p.rows = (p.rows + FN_ROW_GROUP - 1) / FN_ROW_GROUP * FN_ROW_GROUP;
  p.rows = p.rows > 1 ? p.rows : 1;
  p.count = (n->rows + p.rows - 1) / p.rows * p.blocks;
  return p;
}

/* Of g and of g * t, the former only if grad_bias is wanted. */
static size_t sums_per_piece(const fn_rows_gradient *w) {
  return padded(w->norm.cols) * (w->grad_bias ? 2 : 1);
}

size_t fn_rows_gradient_scratch(const fastnorm_layer_norm_backward_args *args) {
  fn_rows_gradient w = {.g = NULL};
  size_t inner, count;
  if (read_shape(args, FN_CENTERED, &w, &inner, &count) != FASTNORM_OK || count == 0)
    return 0;
  fill(args, inner, &w);
  if (!fn_rows_wants_sums(&w))
    return 0;
  const size_t pieces = fn_rows_pieces_of(&w).count, each = sums_per_piece(&w);
  return each > PTRDIFF_MAX / sizeof(double) / pieces ? 0
                                                      : pieces * each * sizeof(double);
}

static void run_piece(const fn_rows_gradient *w, size_t index, const fn_rows_sums *to,
                      bool gradient) {
  if (w->norm.inner == 1)
    fn_rows_piece(w, index, to, gradient);
  else
    fn_inner_piece(w, index, to, gradient);
}

/* ---- tasks ---- */

static void gradient_task(void *context, size_t index) {
  run_piece(context, index, NULL, true);
}

static fn_rows_sums sums_of_piece(const fn_rows_gradient *w, size_t index) {
  double *sums = w->scratch + index * sums_per_piece(w);
  return (fn_rows_sums){.cols = w->norm.cols,
                        .gt = sums,
                        .g = w->grad_bias ? sums + padded(w->norm.cols) : NULL};
}

static void both_task(void *context, size_t index) {
  const fn_rows_gradient *w = context;
  const fn_rows_sums to = sums_of_piece(w, index);
  memset(to.gt, 0, sums_per_piece(w) * sizeof(double));
  run_piece(w, index, &to, w->norm.y != NULL);
}

/* Some columns of grad_weight and grad_bias: there are few pieces to add up. */
typedef struct totals {
  size_t first, cols;
  _Alignas(64) double g[FN_COLUMNS], gt[FN_COLUMNS];
} totals;

static void begin_totals(const fn_rows_gradient *w, size_t index, totals *t) {
  t->first = index * FN_COLUMNS;
  t->cols = w->norm.cols - t->first < FN_COLUMNS ? w->norm.cols - t->first : FN_COLUMNS;
  memset(t->g, 0, sizeof(t->g));
  memset(t->gt, 0, sizeof(t->gt));
}

static void add_to_totals(const double *g, const double *gt, totals *t) {
  for (size_t c = 0; c < t->cols; c++)
    t->gt[c] += gt[c];
  for (size_t c = 0; g && c < t->cols; c++)
    t->g[c] += g[c];
}

static void write_totals(const fn_rows_gradient *w, const totals *t) {
  for (size_t c = 0; w->grad_weight && c < t->cols; c++)
    fn_set(w->norm.dtype, w->grad_weight, t->first + c, t->gt[c]);
  for (size_t c = 0; w->grad_bias && c < t->cols; c++)
    fn_set(w->norm.dtype, w->grad_bias, t->first + c, t->g[c]);
}

/* From the sums of all pieces, which are in the scratch. */
static void merge_task(void *context, size_t index) {
  const fn_rows_gradient *w = context;
  const size_t pieces = fn_rows_pieces_of(w).count;
  totals t;
  begin_totals(w, index, &t);
  for (size_t i = 0; i < pieces; i++) {
    const fn_rows_sums s = sums_of_piece(w, i);
    add_to_totals(s.g ? s.g + t.first : NULL, s.gt + t.first, &t);
  }
  write_totals(w, &t);
}

/* The same without scratch: the sums are made here, as they are in both_task(). */
static void sums_task(void *context, size_t index) {
  const fn_rows_gradient *w = context;
  const size_t pieces = fn_rows_pieces_of(w).count;
  _Alignas(64) double g[FN_COLUMNS], gt[FN_COLUMNS];
  totals t;
  begin_totals(w, index, &t);
  for (size_t i = 0; i < pieces; i++) {
    const fn_rows_sums to = {
        .first = t.first, .cols = t.cols, .g = w->grad_bias ? g : NULL, .gt = gt};
    memset(g, 0, sizeof(g));
    memset(gt, 0, sizeof(gt));
    run_piece(w, i, &to, false);
    add_to_totals(to.g, gt, &t);
  }
  write_totals(w, &t);
}

void fn_rows_gradient_run(const fn_rows_gradient *w) {
  if (w->exec->check_only)
    return;
  const fn_rows_work *n = &w->norm;
  const size_t pieces = fn_rows_pieces_of(w).count;
  const size_t blocks = (n->cols + FN_COLUMNS - 1) / FN_COLUMNS;
  const size_t in = n->rows * n->cols * n->inner * 2 * n->f.source.element;
  const size_t bytes =
      in + (n->y ? in / 2 / n->f.source.element * n->f.sink.element : 0);
  void *context = (void *)w;
  if (!fn_rows_wants_sums(w)) {
    fn_parallel_for(w->exec, pieces, bytes, gradient_task, context);
  } else if (w->scratch) {
    fn_parallel_for(w->exec, pieces, bytes, both_task, context);
    fn_parallel_for(w->exec, blocks, pieces * sums_per_piece(w) * sizeof(double),
                    merge_task, context);
  } else {
    fn_parallel_for(w->exec, blocks, in, sums_task, context);
    if (n->y)
      fn_parallel_for(w->exec, pieces, bytes, gradient_task, context);
  }
}
