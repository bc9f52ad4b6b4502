/* template/products_tables.h - the sums of products.h of each column of a table: rows r
 * to r + rows, columns c to c + FN_VEC.
 * SPDX-License-Identifier: MIT */

/* A chain of a column, with the factors of the column. */
FN_WORD products FN_KERNEL(column_chain)(const fn_pairs *p, size_t r, size_t rows,
                                         size_t c, const terms *f, bool centered) {
  const T *g = (const T *)p->g + (ptrdiff_t)r * p->g_row_stride + c;
  const T *x = (const T *)p->x + (ptrdiff_t)r * p->x_row_stride + c;
  const T *weight = p->weight;
  const size_t left = p->len - c;
  const vec none = V(sub)(V(splat)((T)0), f->minus_shift);
  const products none_yet = FN_KERNEL(no_products)();
  sums q = FN_KERNEL(sums_of)(&none_yet);
  for (size_t i = 0; i < rows; i++, g += p->g_row_stride, x += p->x_row_stride) {
    const vec w = V(splat)(weight ? weight[r + i] : (T)1);
    if (left >= FN_VEC)
      FN_KERNEL(add_product)
    (&q, V(load)(g), V(load)(x), w, f, centered, true);
    else FN_KERNEL(add_product)(&q, V(load_partial_or)(g, left, none),
                                V(load_partial_or)(x, left, f->hi), w, f, centered,
                                true);
  }
  return FN_KERNEL(products_of)(&q);
}

/* As the moments of columns have it. */
FN_WORD void FN_KERNEL(ask_for_tiles)(const fn_pairs *p, size_t r, size_t c) {
  const tile next = FN_KERNEL(tile_ahead)(r, c, p->len);
  const ptrdiff_t row = (ptrdiff_t)next.r;
  if (next.r + 2 * FN_STEPS > p->rows)
    return;
  const T *g = (const T *)p->g + row * p->g_row_stride + next.c;
  const T *x = (const T *)p->x + row * p->x_row_stride + next.c;
  FN_KERNEL(ask_for_tile)
  ((const char *)g, p->g_row_stride * (ptrdiff_t)sizeof(T));
  FN_KERNEL(ask_for_tile)
  ((const char *)x, p->x_row_stride * (ptrdiff_t)sizeof(T));
}

/* Sums of two chains of so many columns, in memory, so that rows can be read one after
 * the other, as they lie there: that is what the processor asks ahead for, which gains
 * more than loads and stores of sums cost. Gradient of batch norm of [6272, 256] 1390
 * -> 830 us, of group norm of [32, 196, 256] 3880 -> 2260, with the gradient row by row
 * as well; before the last touches 2270 with one row, 2540 with two or four in step. Of
 * 512 columns a band of 256 takes half as long again (AMD EPYC Zen 3, avx2). Where
 * there are registers for the sums, a column after the other is quicker, unless rows
 * are pages apart: then all lines of a chain want the same place in the first-level
 * cache. [392, 1024] 309 -> 237 us, [392, 2048] 646 -> 490, [392, 768], the other way,
 * 140 -> 157 (AMD EPYC Zen 4, avx512). */
#define FN_BAND (2048 / sizeof(T))
#define FN_PAGE 4096
typedef struct FN_KERNEL(band) {
  _Alignas(64) T d[2][FN_BAND], dt[2][FN_BAND], x[2][FN_BAND];
} FN_KERNEL(band);
#define band FN_KERNEL(band)

/* Row r, n columns from c on, whole vecs; `begin`: there are no sums yet; `shifted`:
 * there are an offset and a shift. */
FN_WORD void FN_KERNEL(add_row_to_band)(const fn_pairs *p, size_t r, size_t c, size_t n,
                                        band *to, int chain, bool begin, bool centered,
                                        bool shifted) {
  const T *hi = p->hi, *scale = p->scale, *offset = p->offset, *shift = p->shift;
  const T *g = (const T *)p->g + (ptrdiff_t)r * p->g_row_stride;
  const T *x = (const T *)p->x + (ptrdiff_t)r * p->x_row_stride;
  const vec weight = V(splat)(p->weight ? ((const T *)p->weight)[r] : (T)1);
  const vec zero = V(splat)((T)0);
  const part none = V(part_of)(&zero, 0);
  for (size_t i = 0; i < n; i += FN_PART) {
    const size_t k = c + i;
    part d = begin ? none : V(part_load)(to->d[chain] + i);
    part dt = begin ? none : V(part_load)(to->dt[chain] + i);
    part less = begin ? none : V(part_load)(to->x[chain] + i);
    const part_terms f = {
        centered ? V(part_load)(hi + k) : none, V(part_load)(scale + k),
        shifted || (centered && offset) ? V(part_load)(offset + k) : none,
        shifted || shift ? V(part_sub)(none, V(part_load)(shift + k)) : none};
    FN_KERNEL(add_to)
    (&d, &dt, &less, V(part_load)(g + k), V(part_load)(x + k), V(part_of)(&weight, 0),
     &f, centered, true);
    V(part_store)(to->d[chain] + i, d, false);
    V(part_store)(to->dt[chain] + i, dt, false);
    if (centered)
      V(part_store)(to->x[chain] + i, less, false);
  }
}

FN_WORD void FN_KERNEL(add_rows_to_band)(const fn_pairs *p, size_t r, size_t rows,
                                         size_t c, size_t n, band *to, bool centered,
                                         bool shifted) {
  for (size_t i = 0; i < rows; i++) {
    const int chain = i < FN_STEPS ? 0 : 1;
    if (i % FN_STEPS == 0)
      FN_KERNEL(add_row_to_band)
    (p, r + i, c, n, to, chain, true, centered, shifted);
    else FN_KERNEL(add_row_to_band)(p, r + i, c, n, to, chain, false, centered,
                                    shifted);
  }
}

FN_WORD void FN_KERNEL(products_of_band)(const fn_pairs *p, size_t r, size_t rows,
                                         size_t c, size_t n, double *sum_d,
                                         double *sum_dt, double *sum_x, bool centered) {
  band s;
  if (centered && p->offset && p->shift)
    FN_KERNEL(add_rows_to_band)(p, r, rows, c, n, &s, centered, true);
  else
    FN_KERNEL(add_rows_to_band)(p, r, rows, c, n, &s, centered, false);
#define BOTH(member)                                                                   \
  (rows > FN_STEPS ? V(add)(V(load)(s.member[0] + k), V(load)(s.member[1] + k))        \
                   : V(load)(s.member[0] + k))
  for (size_t k = 0; k < n; k += FN_VEC) {
    if (sum_d)
      V(add_wide)(sum_d + c + k, BOTH(d));
    V(add_wide)(sum_dt + c + k, BOTH(dt));
    if (centered && sum_x)
      V(add_wide)(sum_x + c + k, BOTH(x));
  }
#undef BOTH
}

FN_WORD void FN_KERNEL(products_of_columns)(const fn_pairs *p, double *sum_d,
                                            double *sum_dt, double *sum_x,
                                            bool centered) {
  const bool by_rows =
      FN_ROWS == 1 || p->x_row_stride * (ptrdiff_t)sizeof(T) % FN_PAGE == 0;
  for (size_t r = 0; r < p->rows; r += 2 * FN_STEPS) {
    const size_t left = p->rows - r, rows = left < 2 * FN_STEPS ? left : 2 * FN_STEPS;
    const size_t chain = rows < FN_STEPS ? rows : FN_STEPS;
    size_t c = 0;
    for (size_t n; by_rows && c + FN_VEC <= p->len; c += n) {
      n = p->len - c < FN_BAND ? (p->len - c) / FN_VEC * FN_VEC : FN_BAND;
      FN_KERNEL(products_of_band)(p, r, rows, c, n, sum_d, sum_dt, sum_x, centered);
    }
    for (; c < p->len; c += FN_VEC) {
      if (FN_ROWS > 1)
        FN_KERNEL(ask_for_tiles)(p, r, c);
      const terms f = FN_KERNEL(terms_of_columns)(p, c, centered);
      const products first = FN_KERNEL(column_chain)(p, r, chain, c, &f, centered);
      const products second =
          FN_KERNEL(column_chain)(p, r + chain, rows - chain, c, &f, centered);
      const products both = FN_KERNEL(both_products)(&first, &second);
      if (sum_d)
        V(add_wide)(sum_d + c, both.d);
      V(add_wide)(sum_dt + c, both.dt);
      if (centered && sum_x)
        V(add_wide)(sum_x + c, both.x);
    }
  }
}

static void FN_KERNEL(products_columns)(const fn_pairs *p, double *sum_d,
                                        double *sum_dt, double *sum_x) {
  /* Without a weight it is one, as in gradient_columns(). */
  if (p->hi)
    FN_KERNEL(products_of_columns)(p, sum_d, sum_dt, sum_x, true);
  else
    FN_KERNEL(products_of_columns)(p, sum_d, sum_dt, sum_x, false);
}

#undef FN_BAND
#undef band
#undef part_terms
#undef sums
#undef FN_TILES_AHEAD
#undef tile
