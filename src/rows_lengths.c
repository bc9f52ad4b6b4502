/* rows_lengths.c - norms of rows of which only the first values take part.
 * SPDX-License-Identifier: MIT
 *
 * A row of n values is a row of a table of n columns: rows of one length that follow
 * each other are taken as that, so their bits are those of such a table. */
#include "masked.h"
#include "rows.h"
#include "threads.h"

typedef struct lengths_work {
  const fn_rows_work *w;
  size_t piece; /* rows, or columns where inner > 1 */
} lengths_work;

/* n adjacent elements from column `col` and inner `i` of row r on take no part. */
static void fill(const fn_rows_work *w, size_t r, size_t col, size_t i, size_t n) {
  fn_mask mask; /* nothing else of it is read, and to clear it takes longer */
  mask.keep = w->keep;
  const fn_masked_output o = {&mask, &w->f, w->x == w->y};
  const ptrdiff_t at = (ptrdiff_t)(col * w->inner + i), row = (ptrdiff_t)r;
  fn_masked_fill(
      &o,
      (const char *)w->x + (row * w->x_stride + at) * (ptrdiff_t)w->f.source.element,
      (char *)w->y + (row * w->y_stride + at) * (ptrdiff_t)w->f.sink.element, n);
}

static void empty_stats(const fn_rows_work *w, size_t first, size_t n) {
  for (size_t i = first; w->mean && i < first + n; i++)
    fn_set(w->dtype, w->mean, i, 0.0);
  for (size_t i = first; w->rstd && i < first + n; i++)
    fn_set(w->dtype, w->rstd, i, 0.0);
}

static void rows_task(void *context, size_t index) {
  const lengths_work *l = context;
  const fn_rows_work *w = l->w;
  const size_t first = index * l->piece;
  const size_t end = w->rows - first < l->piece ? w->rows : first + l->piece;
  for (size_t r = first; r < end;) {
    const size_t length = w->lengths[r], from = r;
    while (r < end && w->lengths[r] == length)
      r++;
    fn_rows_work same = *w;
    same.cols = length;
    if (length > 0)
      fn_rows_some(&same, from, r);
    else
      empty_stats(w, from, r - from);
    for (size_t i = from; length < w->cols && i < r; i++)
      fill(w, i, length, 0, w->cols - length);
  }
}

static void columns_task(void *context, size_t index) {
  const lengths_work *l = context;
  const fn_rows_work *w = l->w;
  const size_t blocks = (w->inner + l->piece - 1) / l->piece;
  const size_t r = index / blocks, c = index % blocks * l->piece;
  const size_t n = w->inner - c < l->piece ? w->inner - c : l->piece;
  fn_rows_work one = *w;
  one.cols = w->lengths[r];
  if (one.cols > 0)
    fn_rows_columns(&one, r, c, n);
  else
    empty_stats(w, r * w->inner + c, n);
  for (size_t col = one.cols; col < w->cols; col++)
    fill(w, r, col, c, n);
}

void fn_rows_lengths(const fn_rows_work *w, size_t pieces, size_t piece, size_t bytes,
                     const fastnorm_exec *exec) {
  lengths_work l = {w, piece};
  fn_parallel_for(exec, pieces, bytes, w->inner == 1 ? rows_task : columns_task, &l);
}
