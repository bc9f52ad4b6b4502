/* template/moments_columns.h - the moments of the columns of a table, with the blocks
 * of moments.h.
 * SPDX-License-Identifier: MIT */

/* The first n lanes of a row, the others of f; of floats where the row is narrow. */
FN_WORD vec FN_KERNEL(row_vec)(const void *x, size_t n, vec f, bool narrow) {
#if !FN_T_IS_FLOAT
  T lanes[FN_VEC];
  if (narrow && n >= FN_VEC)
    return f32_load_wide((const float *)x);
  if (narrow) {
    V(store)(lanes, f);
    for (size_t i = 0; i < n; i++)
      lanes[i] = (T)((const float *)x)[i];
    return V(load)(lanes);
  }
#else
  (void)narrow;
#endif
  return n >= FN_VEC ? V(load)((const T *)x) : V(load_partial_or)((const T *)x, n, f);
}

/* Columns c.. of up to FN_CHAIN rows from x on, which are `step` bytes apart. */
FN_WORD chain FN_KERNEL(sum_rows)(vec shift, const char *x, ptrdiff_t step, size_t rows,
                                  size_t cols, bool narrow, fn_terms kind) {
  chain c = FN_KERNEL(empty_chain)();
  if (cols >= FN_VEC)
    for (size_t i = 0; i < rows; i++, x += step)
      FN_KERNEL(add_vec)
  (&c, FN_KERNEL(row_vec)(x, FN_VEC, shift, narrow), shift, kind);
  else for (size_t i = 0; i < rows; i++, x += step)
      FN_KERNEL(add_vec)(&c, FN_KERNEL(row_vec)(x, cols, shift, narrow), shift, kind);
  return c;
}

/* A table is summed by tiles of FN_BLOCK rows and a vec of columns: all those of some
 * rows, then of the next. A tile's lines are further apart than the processor foresees,
 * so each asks for a later one; for one near by, as those of the rows below are as many
 * lines as a set of the first-level cache has where rows are a power of two apart.
 * Moments in us, asking for the rows below, for 4 tiles further, for none:
 * [6272, 256] in a cache 81, 77, 73; from memory [50176, 256] 2030, 1954, 2200, and
 * [12544, 1024] 2762, 2193, 2474 (AMD EPYC Zen 5, avx512). */
#define FN_TILES_AHEAD 4

typedef struct FN_KERNEL(tile) {
  size_t r, c;
} FN_KERNEL(tile);
#define tile FN_KERNEL(tile)

FN_WORD tile FN_KERNEL(tile_ahead)(size_t r, size_t c, size_t cols) {
  const size_t row = (cols + FN_VEC - 1) / FN_VEC * FN_VEC;
  c += FN_TILES_AHEAD * FN_VEC;
  for (; c >= row; c -= row)
    r += FN_BLOCK;
  return (tile){r, c};
}

/* x is element 0 of a tile, its rows are `step` bytes apart. */
FN_WORD void FN_KERNEL(ask_for_tile)(const char *x, ptrdiff_t step) {
  for (int i = 0; i < FN_BLOCK; i++)
    FN_PREFETCH_VEC(x + i * step);
}

/* Rows r to r + rows, columns c to c + FN_VEC. */
FN_WORD void FN_KERNEL(add_tile)(const fn_table *t, size_t r, size_t rows, size_t c,
                                 const T *shift, double *sum, double *sq, bool narrow,
                                 fn_terms kind) {
  const size_t length = rows < FN_CHAIN ? rows : FN_CHAIN;
  const ptrdiff_t element = narrow ? sizeof(float) : sizeof(T);
  const ptrdiff_t step = t->stride * element;
  const char *x = (const char *)t->x + (ptrdiff_t)r * step + (ptrdiff_t)c * element;
  const tile next = FN_KERNEL(tile_ahead)(r, c, t->cols);
  const vec d = kind == FN_DEVIATIONS ? V(load)(shift + c) : V(splat)((T)0);
  chain first = FN_KERNEL(empty_chain)(), second = first;
  if (next.r + FN_BLOCK <= t->rows)
    FN_KERNEL(ask_for_tile)
  (x + (ptrdiff_t)(next.r - r) * step + ((ptrdiff_t)next.c - (ptrdiff_t)c) * element,
   step);
  if (FN_IN_STEP && rows == FN_BLOCK &&
      t->cols - c >= FN_VEC) { /* in step, as in add_blocks() */
    FN_UNROLL
    for (int i = 0; i < FN_CHAIN; i++, x += step) {
      FN_KERNEL(add_vec)(&first, FN_KERNEL(row_vec)(x, FN_VEC, d, narrow), d, kind);
      FN_KERNEL(add_vec)
      (&second, FN_KERNEL(row_vec)(x + FN_CHAIN * step, FN_VEC, d, narrow), d, kind);
    }
  } else {
    first = FN_KERNEL(sum_rows)(d, x, step, length, t->cols - c, narrow, kind);
    x += (ptrdiff_t)length * step;
    second = FN_KERNEL(sum_rows)(d, x, step, rows - length, t->cols - c, narrow, kind);
  }
  if (kind == FN_DEVIATIONS)
    V(add_wide)(sum + c, V(add)(first.s, second.s));
  V(add_wide)(sq + c, V(add)(first.q, second.q));
}

FN_WORD void FN_KERNEL(moments_of_columns)(const fn_table *t, const T *shift,
                                           double *sum, double *sq, bool narrow,
                                           fn_terms kind) {
  for (size_t r = 0; r < t->rows; r += FN_BLOCK) {
    const size_t rows = t->rows - r < FN_BLOCK ? t->rows - r : FN_BLOCK;
    for (size_t c = 0; c < t->cols; c += FN_VEC)
      FN_KERNEL(add_tile)(t, r, rows, c, shift, sum, sq, narrow, kind);
  }
}

static void FN_KERNEL(moments_columns)(const fn_table *t, const void *shift,
                                       double *sum, double *sq) {
#if !FN_T_IS_FLOAT
  if (t->narrow) {
    FN_KERNEL(moments_of_columns)(t, shift, sum, sq, true, FN_DEVIATIONS);
    return;
  }
#endif
  if (shift)
    FN_KERNEL(moments_of_columns)(t, shift, sum, sq, false, FN_DEVIATIONS);
  else if (t->magnitudes)
    FN_KERNEL(moments_of_columns)(t, NULL, sum, sq, false, FN_MAGNITUDES);
  else
    FN_KERNEL(moments_of_columns)(t, NULL, sum, sq, false, FN_SQUARES);
}
#undef pending
#undef chain
#undef FN_BLOCK
#undef FN_CHAIN
