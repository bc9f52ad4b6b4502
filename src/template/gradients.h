/* template/gradients.h - from sums of products to gradients; on products.h.
 * SPDX-License-Identifier: MIT */

/* ---- from sums to factors, in double ---- */

/* What d was shifted by too little comes back with c: constant gradients, whose d is 0,
 * give exact zeros. */
static bool FN_KERNEL(factors)(size_t n, double count, const double *slope,
                               const double *sum_d, const double *sum_dt,
                               const double *sum_x, const void *scale, void *offset,
                               void *shift, void *a, void *b, void *c) {
  const f64_vec number = f64_splat(count), zero = f64_splat(0.0);
  const f64_vec most = f64_splat(V(PRODUCTS_MAX));
  const f64_vec least = f64_splat(count * V(PRODUCTS_MIN));
  bool good = true;
  for (size_t i = 0; i < n; i += 16) {
    const size_t lanes = n - i < 16 ? n - i : 16;
    const f64_vec rstd = FN_KERNEL(parameter)((const T *)scale + i, lanes);
    const f64_vec dt = f64_load_partial_or(sum_dt + i, lanes, number);
    f64_vec q = dt;
    if (shift) {
      const f64_vec x = f64_load_partial_or(sum_x + i, lanes, zero);
      const f64_vec d = f64_load_partial_or(sum_d + i, lanes, zero);
      const f64_vec off = FN_KERNEL(parameter)((const T *)offset + i, lanes);
      const f64_vec s = FN_KERNEL(parameter)((const T *)shift + i, lanes);
      const f64_vec t = f64_fma(rstd, f64_div(x, number), off);
      const f64_vec m = f64_div(d, number), z = f64_add(s, m), added = f64_sub(z, s);
      const f64_vec error = f64_add(f64_sub(s, f64_sub(z, added)), f64_sub(m, added));
      const f64_vec rounded = V(round)(z), rest = f64_add(f64_sub(z, rounded), error);
      q = f64_fnma(d, t, dt);
      V(store_narrow)((T *)offset + i, f64_sub(off, t));
      V(store_narrow)((T *)shift + i, rounded);
      V(store_narrow)((T *)c + i, f64_mul(f64_sub(zero, rest), rstd));
      good &= f64_all_le(f64_abs(d), most);
      good &= f64_all_le(f64_abs(x), most);
    } else {
      V(store_narrow)((T *)c + i, zero);
    }
    const f64_vec by = f64_mul(f64_load_partial_or(slope + i, lanes, zero), q);
    const f64_vec along = f64_mul(f64_sub(zero, rstd), by);
    V(store_narrow)((T *)a + i, rstd);
    V(store_narrow)((T *)b + i, along);
    good &= f64_all_le(f64_abs(dt), most);
    good &= f64_all_le(least, f64_abs(dt));
    good &= f64_all_le(f64_abs(along), most);
  }
  return good;
}

/* ---- gradients ---- */

/* y = t * b + (d * a + c) at y, from n elements. */
FN_WORD void FN_KERNEL(gradient_piece)(const T *g, const T *x, vec weight, T *y,
                                       size_t n, const terms *f, vec a, vec b, vec c,
                                       bool centered, bool weighted, bool stream) {
  const vec gi = FN_KERNEL(fetch)(FASTNORM_DEFAULT, g, 0, n);
  const vec xi = FN_KERNEL(fetch)(FASTNORM_DEFAULT, x, 0, n);
  const vec d = FN_KERNEL(difference)(gi, weight, f->minus_shift, weighted);
  const vec t = FN_KERNEL(normalized)(xi, f->hi, f->scale, f->offset, centered);
  const vec v = V(fma)(t, b, V(fma)(d, a, c));
  FN_KERNEL(put)(FASTNORM_DEFAULT, y, 0, n, v, NULL, stream);
}

FN_WORD void FN_KERNEL(gradient_of_segment)(const T *g, const T *x, const T *weight,
                                            T *y, size_t len, const terms *f, vec a,
                                            vec b, vec c, const T *ahead_g,
                                            const T *ahead_x, bool centered,
                                            bool weighted, bool stream) {
  const vec one = V(splat)((T)1);
  size_t i = FN_KERNEL(peel)(y, len);
  if (i > 0)
    FN_KERNEL(gradient_piece)
  (g, x, weighted ? V(load_partial_or)(weight, i, one) : one, y, i, f, a, b, c,
   centered, weighted, false);
  for (; i + FN_VEC <= len; i += FN_VEC) {
    if (ahead_g) {
      FN_PREFETCH_VEC(ahead_g + i);
      FN_PREFETCH_VEC(ahead_x + i);
    }
    FN_KERNEL(gradient_piece)
    (g + i, x + i, weighted ? V(load)(weight + i) : one, y + i, FN_VEC, f, a, b, c,
     centered, weighted, stream);
  }
  if (ahead_g && i < len) {
    FN_PREFETCH_VEC(ahead_g + i);
    FN_PREFETCH_VEC(ahead_x + i);
  }
  if (i < len)
    FN_KERNEL(gradient_piece)
  (g + i, x + i, weighted ? V(load_partial_or)(weight + i, len - i, one) : one, y + i,
   len - i, f, a, b, c, centered, weighted, false);
}

/* Segment by segment: those of adjacent runs follow each other in memory. */
FN_WORD void FN_KERNEL(gradient_of_runs)(const fn_pairs *p, const fn_gradient *o,
                                         bool centered, bool weighted) {
  const size_t len = p->len;
  for (size_t seg = 0; seg < p->segs; seg++) {
    const ptrdiff_t of_g = (ptrdiff_t)seg * p->g_seg_stride;
    const ptrdiff_t of_x = (ptrdiff_t)seg * p->x_seg_stride;
    const T *g = (const T *)p->g + of_g, *x = (const T *)p->x + of_x;
    const T *ahead_g = o->ahead_g ? (const T *)o->ahead_g + of_g : NULL;
    const T *ahead_x = o->ahead_g ? (const T *)o->ahead_x + of_x : NULL;
    T *y = (T *)o->y + (ptrdiff_t)seg * o->seg_stride;
    for (size_t r = 0; r < p->rows; r++) {
      const terms f = FN_KERNEL(terms_of_run)(p, r, centered);
      const vec a = V(splat)(((const T *)o->a)[r]), b = V(splat)(((const T *)o->b)[r]);
      const vec c = V(splat)(((const T *)o->c)[r]);
      /* peel() aligns long spans alone */
      if (o->stream && len >= 4 * FN_VEC)
        FN_KERNEL(gradient_of_segment)
      (g, x, (const T *)p->weight, y, len, &f, a, b, c, ahead_g, ahead_x, centered,
       weighted, true);
      else FN_KERNEL(gradient_of_segment)(g, x, (const T *)p->weight, y, len, &f, a, b,
                                          c, ahead_g, ahead_x, centered, weighted,
                                          false);
      g += p->g_row_stride;
      x += p->x_row_stride;
      if (ahead_g) {
        ahead_g += p->g_row_stride;
        ahead_x += p->x_row_stride;
      }
      y += o->row_stride;
    }
  }
  if (o->stream)
    stream_end();
}

/* What the elements of a run have in common. */
typedef struct FN_KERNEL(run_factors) {
  terms f;
  vec a, b, c;
} FN_KERNEL(run_factors);
#define run_factors FN_KERNEL(run_factors)

FN_WORD run_factors FN_KERNEL(factors_of_run)(const fn_pairs *p, const fn_gradient *o,
                                              size_t r) {
  return (run_factors){FN_KERNEL(terms_of_run)(p, r, true),
                       V(splat)(((const T *)o->a)[r]), V(splat)(((const T *)o->b)[r]),
                       V(splat)(((const T *)o->c)[r])};
}

/* Those of p in n lanes, of q in the others. */
FN_WORD run_factors FN_KERNEL(mixed_factors)(const run_factors *p, const run_factors *q,
                                             size_t n) {
  const vec lane = FN_KERNEL(lane_numbers)(), last = V(splat)((T)n - (T)1);
#define MIXED(member) V(select_le)(lane, last, p->member, q->member)
  return (run_factors){
      {MIXED(f.hi), MIXED(f.scale), MIXED(f.offset), MIXED(f.minus_shift)},
      MIXED(a),
      MIXED(b),
      MIXED(c)};
#undef MIXED
}

/* A segment of each of adjacent runs, which is one in memory. */
typedef struct FN_KERNEL(adjacent) {
  const T *g, *x, *ahead_g, *ahead_x;
  T *y;
} FN_KERNEL(adjacent);
#define adjacent FN_KERNEL(adjacent)

FN_WORD void FN_KERNEL(adjacent_piece)(const adjacent *s, size_t i, size_t n,
                                       const run_factors *k, bool stream) {
  if (s->ahead_g) {
    FN_PREFETCH_VEC(s->ahead_g + i);
    FN_PREFETCH_VEC(s->ahead_x + i);
  }
  FN_KERNEL(gradient_piece)
  (s->g + i, s->x + i, V(splat)((T)1), s->y + i, n, &k->f, k->a, k->b, k->c, true,
   false, stream);
}

/* As apply_adjacent(): stores begin on lines, and only where two runs meet do lanes
 * differ. */
FN_WORD void FN_KERNEL(gradient_of_adjacent)(const fn_pairs *p, const fn_gradient *o,
                                             const adjacent *at, bool stream) {
  const adjacent s = *at;
  const size_t rows = p->rows, len = p->len, total = rows * len;
  run_factors k = FN_KERNEL(factors_of_run)(p, o, 0);
  size_t i = FN_KERNEL(peel)(s.y, total), end = len;
  if (i > 0)
    FN_KERNEL(adjacent_piece)(&s, 0, i, &k, false);
  for (size_t r = 0; i < total;) {
    for (; i + FN_VEC <= end; i += FN_VEC) {
      FN_KERNEL(adjacent_piece)(&s, i, FN_VEC, &k, stream);
    }
    const size_t n = end - i, left = total - i;
    const size_t m = left < FN_VEC ? left : FN_VEC; /* n of run r, then of the next */
    const run_factors before = k;
    if (++r < rows)
      k = FN_KERNEL(factors_of_run)(p, o, r);
    end += len;
    if (n == 0)
      continue;
    const run_factors both = FN_KERNEL(mixed_factors)(&before, &k, n);
    if (m == FN_VEC)
      FN_KERNEL(adjacent_piece)(&s, i, FN_VEC, &both, stream);
    else
      FN_KERNEL(adjacent_piece)(&s, i, m, &both, false);
    i += m;
  }
}

FN_WORD bool FN_KERNEL(are_adjacent)(const fn_pairs *p, const fn_gradient *o) {
  const ptrdiff_t len = (ptrdiff_t)p->len;
  return p->rows > 1 && p->len >= FN_VEC && p->hi && !p->weight &&
         p->g_row_stride == len && p->x_row_stride == len && o->row_stride == len;
}

static void FN_KERNEL(gradient_of_adjacents)(const fn_pairs *p, const fn_gradient *o) {
  const bool asks = o->ahead_g != NULL;
  adjacent s = {(const T *)p->g, (const T *)p->x, asks ? (const T *)o->ahead_g : NULL,
                asks ? (const T *)o->ahead_x : NULL, (T *)o->y};
  for (size_t seg = 0; seg < p->segs; seg++) {
    if (o->stream && p->rows * p->len >= 4 * FN_VEC)
      FN_KERNEL(gradient_of_adjacent)(p, o, &s, true);
    else
      FN_KERNEL(gradient_of_adjacent)(p, o, &s, false);
    s.g += p->g_seg_stride;
    s.x += p->x_seg_stride;
    s.y += o->seg_stride;
    if (asks) {
      s.ahead_g += p->g_seg_stride;
      s.ahead_x += p->x_seg_stride;
    }
  }
  if (o->stream)
    stream_end();
}

static void FN_KERNEL(gradient_runs)(const fn_pairs *p, const fn_gradient *o) {
  if (FN_KERNEL(are_adjacent)(p, o))
    FN_KERNEL(gradient_of_adjacents)(p, o);
  else if (p->hi)
    FN_KERNEL(gradient_of_runs)(p, o, true, p->weight != NULL);
  else
    FN_KERNEL(gradient_of_runs)(p, o, false, p->weight != NULL);
}

/* n numbers, one per column. */
FN_WORD vec FN_KERNEL(per_column)(const void *numbers, size_t c, size_t n) {
  const T *p = (const T *)numbers + c;
  return n == FN_VEC ? V(load)(p) : V(load_partial_or)(p, n, V(splat)((T)0));
}

/* Of columns c to c + n. */
FN_WORD run_factors FN_KERNEL(factors_of_columns)(const fn_pairs *p,
                                                  const fn_gradient *o, size_t c,
                                                  size_t n, bool centered) {
  const vec zero = V(splat)((T)0);
  return (run_factors){
      {centered ? FN_KERNEL(per_column)(p->hi, c, n) : zero,
       FN_KERNEL(per_column)(p->scale, c, n),
       centered && p->offset ? FN_KERNEL(per_column)(p->offset, c, n) : zero,
       p->shift ? V(sub)(zero, FN_KERNEL(per_column)(p->shift, c, n)) : zero},
      FN_KERNEL(per_column)(o->a, c, n),
      FN_KERNEL(per_column)(o->b, c, n),
      FN_KERNEL(per_column)(o->c, c, n)};
}

/* Row r of columns c to c + FN_VEC asks for that which is so many rows further. */
FN_WORD void FN_KERNEL(ask_for_row)(const fn_pairs *p, const fn_gradient *o,
                                    ptrdiff_t r, size_t c, int further, bool stream) {
  const ptrdiff_t row = r + further;
  FN_PREFETCH_VEC((const T *)p->g + row * p->g_row_stride + c);
  FN_PREFETCH_VEC((const T *)p->x + row * p->x_row_stride + c);
  if (!stream)
    FN_PREFETCH_VEC((const T *)o->y + row * o->row_stride + c);
}

/* Some rows from r on in step, a part of a vec of columns, from c on: what is per
 * column is loaded once, and stays in registers. As gradient_piece(); `plain` is said
 * below. */
FN_WORD void FN_KERNEL(gradient_of_part)(const fn_pairs *p, const fn_gradient *o,
                                         ptrdiff_t r, size_t c, bool plain, bool stream,
                                         int rows) {
  const vec zero = V(splat)((T)0);
  const part none = V(part_of)(&zero, 0);
#define PER_COLUMN(numbers) V(part_load)((const T *)(numbers) + c)
  const part hi = plain || p->hi ? PER_COLUMN(p->hi) : none;
  const part scale = PER_COLUMN(p->scale);
  const part offset = plain || p->offset ? PER_COLUMN(p->offset) : none;
  const part shift = plain || p->shift ? V(part_sub)(none, PER_COLUMN(p->shift)) : none;
  const part by_d = PER_COLUMN(o->a), by_t = PER_COLUMN(o->b), rest = PER_COLUMN(o->c);
#undef PER_COLUMN
  FN_UNROLL
  for (int i = 0; i < rows; i++) {
    const ptrdiff_t row = r + i;
    const part g = V(part_load)((const T *)p->g + row * p->g_row_stride + c);
    const part x = V(part_load)((const T *)p->x + row * p->x_row_stride + c);
    part weighted = g, t;
    if (!plain && p->weight) {
      const vec weight = V(splat)(((const T *)p->weight)[row]);
      weighted = V(part_mul)(g, V(part_of)(&weight, 0));
    }
    if (plain || p->hi)
      t = V(part_fma)(V(part_sub)(x, hi), scale, offset);
    else
      t = V(part_mul)(x, scale);
    const part d = V(part_add)(weighted, shift);
    V(part_store)
    ((T *)o->y + row * o->row_stride + c,
     V(part_fma)(t, by_t, V(part_fma)(d, by_d, rest)), stream);
  }
}

/* Lines of 12 places are more than the processor foresees, so each row asks for those
 * that follow: [6272, 256] from caches 1110 -> 900 us, from memory 1380 -> 1100 (AMD
 * EPYC Zen 5, avx512, a noisy hour). Long rows do not, as in apply_columns.h: [392,
 * 2048] 717 -> 650 us (Zen 4). */
FN_WORD void FN_KERNEL(gradient_of_rows)(const fn_pairs *p, const fn_gradient *o,
                                         size_t r, size_t c, bool plain, bool stream,
                                         int rows) {
  if (rows > 1 && o->row_stride * (ptrdiff_t)sizeof(T) <= ASKING_ROW) {
    FN_UNROLL
    for (int i = 0; i < rows; i++)
      FN_KERNEL(ask_for_row)(p, o, (ptrdiff_t)r + i, c, rows, stream);
  }
  FN_UNROLL
  for (int k = 0; k < FN_PARTS; k++)
    FN_KERNEL(gradient_of_part)
  (p, o, (ptrdiff_t)r, c + (size_t)k * FN_PART, plain, stream, rows);
}

/* The same of fewer columns than a vec: not written out, which saves 50 KB. */
FN_WORD void FN_KERNEL(gradient_of_few)(const fn_pairs *p, const fn_gradient *o,
                                        size_t r, size_t c, size_t n, bool plain,
                                        int rows) {
  const bool centered = plain || p->hi;
  const run_factors k = FN_KERNEL(factors_of_columns)(p, o, c, n, centered);
  FN_ROLLED
  for (int i = 0; i < rows; i++) {
    const ptrdiff_t row = (ptrdiff_t)r + i;
    const vec weight = V(splat)(p->weight ? ((const T *)p->weight)[row] : (T)1);
    FN_KERNEL(gradient_piece)
    ((const T *)p->g + row * p->g_row_stride + c,
     (const T *)p->x + row * p->x_row_stride + c, weight,
     (T *)o->y + row * o->row_stride + c, n, &k.f, k.a, k.b, k.c, centered, true,
     false);
  }
}

FN_WORD void FN_KERNEL(gradient_of_bundle)(const fn_pairs *p, const fn_gradient *o,
                                           size_t r, bool plain, int rows) {
  const size_t len = p->len;
  const T *y = (const T *)o->y + (ptrdiff_t)r * o->row_stride;
  size_t c = FN_PEELS || o->stream ? FN_KERNEL(peel)(y, len) : 0;
  if (c > 0)
    FN_KERNEL(gradient_of_few)(p, o, r, 0, c, plain, rows);
  if (o->stream && len >= 4 * FN_VEC)
    for (; c + FN_VEC <= len; c += FN_VEC)
      FN_KERNEL(gradient_of_rows)(p, o, r, c, plain, true, rows);
  for (; c + FN_VEC <= len; c += FN_VEC)
    FN_KERNEL(gradient_of_rows)(p, o, r, c, plain, false, rows);
  if (c < len)
    FN_KERNEL(gradient_of_few)(p, o, r, c, len - c, plain, rows);
}

FN_WORD void FN_KERNEL(gradient_of_columns)(const fn_pairs *pairs,
                                            const fn_gradient *gradient, bool plain) {
  /* Copies, which no store can change: theirs were read again after each. */
  const fn_pairs own_p = *pairs, *p = &own_p;
  const fn_gradient own_o = *gradient, *o = &own_o;
  size_t r = 0;
  /* else their lines begin apart */
  if (FN_ROWS > 1 && o->row_stride * (ptrdiff_t)sizeof(T) % 64 == 0)
    for (; r + FN_ROWS <= p->rows; r += FN_ROWS)
      FN_KERNEL(gradient_of_bundle)(p, o, r, plain, FN_ROWS);
  for (; r < p->rows; r++)
    FN_KERNEL(gradient_of_bundle)(p, o, r, plain, 1);
  if (o->stream)
    stream_end();
}

/* Plain: about a mean and a shift, and without a weight. Where that is known nothing is
 * asked for each part. */
static void FN_KERNEL(gradient_columns)(const fn_pairs *p, const fn_gradient *o) {
  if (p->hi && p->offset && p->shift && !p->weight)
    FN_KERNEL(gradient_of_columns)(p, o, true);
  else
    FN_KERNEL(gradient_of_columns)(p, o, false);
}

#undef ASKING_ROW
#undef run_factors
#undef adjacent
