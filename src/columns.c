/* columns.c - statistics of the columns of a table.
 * SPDX-License-Identifier: MIT
 *
 * Few columns would leave most of a vector empty, so k rows are folded into one of
 * k * cols columns, and the k sums of each column added at the end of a chunk. The fold
 * depends on the shape alone; rows that are not adjacent in memory are packed first, so
 * that their sums are made in the same order. */
#include "columns.h"

#include <string.h>

#include "check.h"
#include "runs.h"
#include "sum.h"

#define FOLD_BELOW                                                                     \
  128 /* columns; from here on a vec or two more or less hardly matter */
#define BLOCK_BYTES  524288
#define FN_TILE_ROWS 16           /* what the kernel sums before it widens */
#define PACK_ROWS    FN_TILE_ROWS /* of folded rows */

size_t fn_column_block(size_t rows, size_t cols, fastnorm_dtype dtype) {
  const size_t element = dtype == FASTNORM_FLOAT32 ? 4 : 8;
  const size_t fit = BLOCK_BYTES / element / rows / FN_PAD * FN_PAD;
  const size_t block = fit < 2 * FN_PAD ? 2 * FN_PAD : fit;
  return cols <= block ? (cols < FN_COLUMNS ? cols : FN_COLUMNS)
                       : (block < FN_COLUMNS ? block : FN_COLUMNS);
}

/* A folded row is whole vecs if it can be, else half ones: the last of a row costs as
 * much as a full one, and its rows then begin on a line each. */
size_t fn_column_fold(size_t cols) {
  const size_t most = FN_FOLD_TO / cols;
  if (cols >= FOLD_BELOW)
    return 1;
  for (size_t width = FN_PAD; width > 1; width /= 2)
    for (size_t fold = most; 2 * fold > most; fold--)
      if (fold * cols % width == 0)
        return fold;
  return most;
}

void fn_wide_parts(fastnorm_dtype dtype, const void *y, size_t rows, size_t cols,
                   fn_wide_part parts[3]) {
  const size_t total = rows * cols, line = 64 - (uintptr_t)y % 64;
  const size_t head = line % 64 / fn_dtype_size(dtype);
  const size_t width = fn_column_fold(cols) * cols;
  const size_t first = head < total ? head : total, wide = (total - first) / width;
  const size_t last = first + wide * width;
  parts[0] = (fn_wide_part){0, first > 0, first};
  parts[1] = (fn_wide_part){first, wide, width};
  parts[2] = (fn_wide_part){last, last < total, total - last};
}

void fn_wide_numbers(fastnorm_dtype dtype, const fn_wide_part *part, size_t cols,
                     const void *numbers, fn_column_array *to) {
  const size_t element = fn_dtype_size(dtype);
  for (size_t i = 0, c = part->from % cols, n; i < part->width; i += n, c = 0) {
    n = part->width - i < cols - c ? part->width - i : cols - c;
    memcpy((char *)to + i * element, (const char *)numbers + c * element, n * element);
  }
}

static size_t fold_of(const fn_table *t) {
  return t->fold < t->rows ? t->fold : t->rows;
}

size_t fn_column_chunks(const fn_table *t) {
  const size_t rows = fold_of(t) * FN_COLUMN_CHUNK;
  return (t->rows + rows - 1) / rows;
}

fn_table fn_table_rows(const fn_table *t, fastnorm_dtype dtype, size_t r, size_t n) {
  const size_t element = t->source ? t->source->element : fn_dtype_size(dtype);
  fn_table part = *t;
  part.x = (const char *)t->x + (ptrdiff_t)r * t->stride * (ptrdiff_t)element;
  part.at += r;
  part.rows = n;
  return part;
}

/* Adds the sums of a table; whole tiles of rows at a time where they must be gathered,
 * so that the order of the sums is the same. */
static void add_moments(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                        const fn_column_array *shift, double *sum, double *sq) {
  fn_stage stage;
  if (!t->source) {
    k->moments_columns(t, shift, sum, sq);
    return;
  }
  const size_t fit = fn_stage_elements(dtype) / t->cols / FN_TILE_ROWS * FN_TILE_ROWS;
  for (size_t r = 0; r < t->rows; r += fit) {
    const fn_table some =
        fn_table_rows(t, dtype, r, t->rows - r < fit ? t->rows - r : fit);
    const fn_table staged = fn_gather_table(dtype, &some, &stage);
    k->moments_columns(&staged, shift, sum, sq);
  }
}

/* Rows one after another: in place if they are, else copied to pack. */
static const void *adjacent(fastnorm_dtype dtype, const fn_table *t, fn_stage *pack) {
  const size_t bytes = t->cols * fn_dtype_size(dtype);
  if (t->source)
    return fn_gather_table(dtype, t, pack).x;
  if (t->stride == (ptrdiff_t)t->cols)
    return t->x;
  for (size_t r = 0; r < t->rows; r++)
    memcpy((char *)pack + r * bytes, fn_table_rows(t, dtype, r, 1).x, bytes);
  return pack;
}

/* The folded sums of rows [first, end) into sum and sq, which are added to. */
static void folded_sums(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                        size_t fold, const fn_column_array *shift, size_t first,
                        size_t end, double *sum, double *sq) {
  fn_stage pack;
  const bool packed = t->source || t->stride != (ptrdiff_t)t->cols;
  while (first < end) {
    size_t folded = (end - first) / fold;
    if (packed && folded > PACK_ROWS)
      folded = PACK_ROWS;
    const size_t rows = folded > 0 ? folded * fold : end - first; /* the last few */
    const fn_table some = fn_table_rows(t, dtype, first, rows);
    const fn_table f = {.x = adjacent(dtype, &some, &pack),
                        .rows = folded > 0 ? folded : 1,
                        .stride = (ptrdiff_t)(fold * t->cols),
                        .cols = folded > 0 ? fold * t->cols : rows * t->cols,
                        .magnitudes = t->magnitudes};
    k->moments_columns(&f, shift, sum, sq);
    first += rows;
  }
}

void fn_columns_chunk(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                      const fn_column_array *shift, size_t chunk, double *sum,
                      double *sq) {
  const size_t fold = fold_of(t), rows = fold * FN_COLUMN_CHUNK, first = chunk * rows;
  const size_t end = t->rows - first < rows ? t->rows : first + rows;
  _Alignas(64) double wide_sum[FN_COLUMNS], wide_sq[FN_COLUMNS];
  memset(wide_sum, 0, sizeof(wide_sum));
  memset(wide_sq, 0, sizeof(wide_sq));
  if (fold > 1) {
    folded_sums(k, dtype, t, fold, shift, first, end, wide_sum, wide_sq);
  } else {
    const fn_table part = fn_table_rows(t, dtype, first, end - first);
    add_moments(k, dtype, &part, shift, wide_sum, wide_sq);
  }
  if (fold == 1) {
    memcpy(sum, wide_sum, t->cols * sizeof(double));
    memcpy(sq, wide_sq, t->cols * sizeof(double));
    return;
  }
  for (size_t c = 0; c < t->cols; c++) {
    fn_sum total = {0.0, 0.0}, total_sq = {0.0, 0.0};
    for (size_t i = 0; i < fold; i++) {
      fn_sum_add(&total, wide_sum[i * t->cols + c]);
      fn_sum_add(&total_sq, wide_sq[i * t->cols + c]);
    }
    sum[c] = fn_sum_value(&total);
    sq[c] = fn_sum_value(&total_sq);
  }
}

/* The shift of each column, once per folded row, and zeros in the padding. */
static void replicate_shift(fastnorm_dtype dtype, const fn_table *t,
                            fn_column_stats *s) {
  const size_t element = dtype == FASTNORM_FLOAT32 ? 4 : 8, fold = fold_of(t);
  const size_t bytes = t->cols * element;
  char *p = (char *)&s->shift;
  for (size_t i = 1; i < fold; i++)
    memcpy(p + i * bytes, p, bytes);
  memset(p + fold * bytes, 0, FN_COLUMNS * element - fold * bytes);
}

/* The mean of up to 16 rows, evenly spaced: few enough to cost little, and enough that
 * hardly any column of a wide table needs a second pass. */
void fn_columns_shift(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                      fn_column_stats *s) {
  const size_t rows = t->rows < 16 ? t->rows : 16;
  fn_stage stage;
  fn_table sample = {.x = t->x,
                     .rows = rows,
                     .stride = (ptrdiff_t)(t->rows / rows) * t->stride,
                     .cols = t->cols,
                     .source = t->source};
  if (t->source && t->source->positions) { /* which are not evenly spaced */
    const size_t bytes = t->cols * fn_dtype_size(dtype);
    char *room = (char *)&stage;
    for (size_t r = 0; r < rows; r++, room += bytes) {
      const fn_table row = fn_table_rows(t, dtype, t->rows / rows * r, 1);
      fn_gather_table(dtype, &row, room);
    }
    sample = (fn_table){
        .x = &stage, .rows = rows, .stride = (ptrdiff_t)t->cols, .cols = t->cols};
  }
  _Alignas(64) double sum[FN_COLUMNS], sq[FN_COLUMNS];
  memset(sum, 0, sizeof(sum));
  memset(sq, 0, sizeof(sq));
  memset(&s->shift, 0, sizeof(s->shift));
  add_moments(k, dtype, &sample, &s->shift, sum, sq);
  const double share = 1.0 / (double)rows; /* nearly the mean is good enough */
  for (size_t c = 0; c < t->cols; c++)
    fn_set(dtype, &s->shift, c, sum[c] * share);
  replicate_shift(dtype, t, s);
}

static void all_sums(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                     const fn_column_array *shift, const double *chunk_sums,
                     fn_column_stats *s) {
  const size_t chunks = fn_column_chunks(t), n = t->cols;
  double part[2 * FN_COLUMNS], rounding[2 * FN_COLUMNS];
  if (chunks == 1 && !chunk_sums) {
    fn_columns_chunk(k, dtype, t, shift, 0, s->sum, s->sq);
    return;
  }
  for (size_t i = 0; i < chunks; i++) {
    const double *sums = chunk_sums ? chunk_sums + i * 2 * n : part;
    if (!chunk_sums)
      fn_columns_chunk(k, dtype, t, shift, i, part, part + n);
    for (size_t j = 0; j < 2 * n; j++) {
      double *to = j < n ? &s->sum[j] : &s->sq[j - n];
      fn_sum total = {i ? *to : 0.0, i ? rounding[j] : 0.0};
      fn_sum_add(&total, sums[j]);
      *to = total.value;
      rounding[j] = total.rounding;
    }
  }
  for (size_t j = 0; j < 2 * n; j++) {
    double *to = j < n ? &s->sum[j] : &s->sq[j - n];
    const fn_sum total = {*to, rounding[j]};
    *to = fn_sum_value(&total);
  }
}

/* Marks what the kernel found bad; finds it again about the mean it found; what stays
 * bad is slow. Good columns come out of the second pass as they went in. */
static void repair(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                   double eps, bool centered, fn_column_stats *s) {
  const double n = (double)t->rows;
  for (int pass = centered ? 0 : 1; pass < 2; pass++) {
    size_t bad = 0;
    for (size_t c = 0; c < t->cols; c++) {
      fn_group_array hi, lo, shift = {{0}};
      double var[FN_PAD], sum[FN_PAD] = {s->sum[c]}, sq[FN_PAD] = {s->sq[c]};
      if (centered)
        fn_set(dtype, &shift, 0, fn_get(dtype, &s->shift, c));
      s->is_slow[c] =
          !k->finish(1, n, eps, sum, sq, centered ? &shift : NULL, &hi, &lo, var);
      bad += s->is_slow[c];
      if (pass == 0 && s->is_slow[c])
        fn_set(dtype, &s->shift, c, fn_get(dtype, &s->hi, c));
    }
    s->any_slow = bad > 0;
    if (pass == 1 || bad == 0)
      return;
    replicate_shift(dtype, t, s);
    all_sums(k, dtype, t, &s->shift, NULL, s);
    if (k->finish(t->cols, n, eps, s->sum, s->sq, &s->shift, &s->hi, &s->lo, s->var)) {
      s->any_slow = false;
      return;
    }
  }
}

void fn_columns_finish(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                       double eps, bool centered, const double *chunk_sums,
                       fn_column_stats *s) {
  all_sums(k, dtype, t, centered ? &s->shift : NULL, chunk_sums, s);
  s->any_slow = false;
  if (!k->finish(t->cols, (double)t->rows, eps, s->sum, s->sq,
                 centered ? &s->shift : NULL, &s->hi, &s->lo, s->var))
    repair(k, dtype, t, eps, centered, s);
}

void fn_columns_stats(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                      double eps, bool centered, fn_column_stats *s) {
  if (centered)
    fn_columns_shift(k, dtype, t, s);
  fn_columns_finish(k, dtype, t, eps, centered, NULL, s);
}
