/* template/products_rows.h - the sums of products.h across rows, and the gradient of
 * these rows beside them.
 * SPDX-License-Identifier: MIT */

/* Sums of all columns, of two chains, wait until it is known that none of them left the
 * range. */
typedef struct FN_KERNEL(strip) {
  _Alignas(64) T g[2][FN_PRODUCT_COLUMNS], gt[2][FN_PRODUCT_COLUMNS];
} FN_KERNEL(strip);
#define strip FN_KERNEL(strip)

/* Some rows in step: the sums are loaded and stored once for all of them. */
typedef struct FN_KERNEL(step) {
  const T *g, *x;
  ptrdiff_t g_apart, x_apart;
  part hi[4], scale[4], offset[4];
  /* of the gradient, where it is written too */
  const T *weight;
  T *y;
  ptrdiff_t y_apart;
  part minus_shift[4], a[4], b[4], c[4];
} FN_KERNEL(step);
#define step FN_KERNEL(step)

/* A part of columns, from c on; `begin`: there are no sums yet. */
FN_WORD void FN_KERNEL(add_part_of_columns)(const step *s, T *sum_g, T *sum_gt,
                                            size_t c, bool begin, bool centered,
                                            bool writes, int rows) {
  const vec zero = V(splat)((T)0);
  const part weight = writes ? V(part_load)(s->weight + c) : V(part_of)(&zero, 0);
  part g_sum = begin ? V(part_of)(&zero, 0) : V(part_load)(sum_g + c);
  part gt_sum = begin ? V(part_of)(&zero, 0) : V(part_load)(sum_gt + c);
  FN_UNROLL
  for (int k = 0; k < rows; k++) {
    const part g = V(part_load)(s->g + k * s->g_apart + c);
    const part x = V(part_load)(s->x + k * s->x_apart + c);
    const part less = centered ? V(part_sub)(x, s->hi[k]) : x;
    const part t = centered ? V(part_fma)(less, s->scale[k], s->offset[k])
                            : V(part_mul)(less, s->scale[k]);
    g_sum = V(part_add)(g_sum, g);
    gt_sum = V(part_fma)(g, t, gt_sum);
    if (writes) {
      const part d = V(part_add)(V(part_mul)(g, weight), s->minus_shift[k]);
      V(part_store)
      (s->y + k * s->y_apart + c,
       V(part_fma)(t, s->b[k], V(part_fma)(d, s->a[k], s->c[k])), false);
    }
  }
  V(part_store)(sum_g + c, g_sum, false);
  V(part_store)(sum_gt + c, gt_sum, false);
}

/* The last columns, fewer than a vec, of all rows. */
static void FN_KERNEL(add_few_columns)(const fn_pairs *p, const fn_gradient *o,
                                       strip *to) {
  const size_t c = p->len / FN_VEC * FN_VEC, n = p->len - c;
  const vec zero = V(splat)((T)0), one = V(splat)((T)1);
  const bool centered = p->hi != NULL;
  if (n == 0)
    return;
  for (size_t r = 0; r < p->rows; r++) {
    const T *g = (const T *)p->g + (ptrdiff_t)r * p->g_row_stride + c;
    const T *x = (const T *)p->x + (ptrdiff_t)r * p->x_row_stride + c;
    T *sum_g = to->g[r / FN_STEPS] + c, *sum_gt = to->gt[r / FN_STEPS] + c;
    const terms f = FN_KERNEL(terms_of_run)(p, r, centered);
    const vec gi = V(load_partial_or)(g, n, zero);
    const vec t = FN_KERNEL(normalized)(V(load_partial_or)(x, n, zero), f.hi, f.scale,
                                        f.offset, centered);
    const bool begin = r % FN_STEPS == 0;
    V(store)(sum_g, V(add)(begin ? zero : V(load)(sum_g), gi));
    V(store)(sum_gt, V(fma)(gi, t, begin ? zero : V(load)(sum_gt)));
    if (o)
      FN_KERNEL(gradient_piece)
    (g, x, V(load_partial_or)((const T *)p->weight + c, n, one),
     (T *)o->y + (ptrdiff_t)r * o->row_stride + c, n, &f,
     V(splat)(((const T *)o->a)[r]), V(splat)(((const T *)o->b)[r]),
     V(splat)(((const T *)o->c)[r]), centered, true, false);
  }
}

/* Whole vecs of some rows; with o also their gradient. */
FN_WORD void FN_KERNEL(add_step)(const fn_pairs *p, const fn_gradient *o, size_t r,
                                 strip *to, bool centered, int rows) {
  const size_t chain = r / FN_STEPS, whole = p->len / FN_VEC * FN_VEC;
  T *sum_g = to->g[chain], *sum_gt = to->gt[chain];
  step s = {.g = (const T *)p->g + (ptrdiff_t)r * p->g_row_stride,
            .x = (const T *)p->x + (ptrdiff_t)r * p->x_row_stride,
            .g_apart = p->g_row_stride,
            .x_apart = p->x_row_stride};
  FN_UNROLL
  for (int k = 0; k < rows; k++) {
    const terms f = FN_KERNEL(terms_of_run)(p, r + (size_t)k, centered);
    s.hi[k] = V(part_of)(&f.hi, 0);
    s.scale[k] = V(part_of)(&f.scale, 0);
    s.offset[k] = V(part_of)(&f.offset, 0);
    if (o) {
      const vec a = V(splat)(((const T *)o->a)[r + (size_t)k]);
      const vec b = V(splat)(((const T *)o->b)[r + (size_t)k]);
      const vec c = V(splat)(((const T *)o->c)[r + (size_t)k]);
      s.minus_shift[k] = V(part_of)(&f.minus_shift, 0);
      s.a[k] = V(part_of)(&a, 0);
      s.b[k] = V(part_of)(&b, 0);
      s.c[k] = V(part_of)(&c, 0);
    }
  }
  if (o) {
    s.weight = p->weight;
    s.y = (T *)o->y + (ptrdiff_t)r * o->row_stride;
    s.y_apart = o->row_stride;
  }
  /* Two loops, as in each it is known whether there are sums. */
  if (r % FN_STEPS == 0) {
    for (size_t c = 0; c < whole; c += FN_PART)
      FN_KERNEL(add_part_of_columns)(&s, sum_g, sum_gt, c, true, centered, o, rows);
  } else {
    for (size_t c = 0; c < whole; c += FN_PART)
      FN_KERNEL(add_part_of_columns)(&s, sum_g, sum_gt, c, false, centered, o, rows);
  }
}

/* Adds the second chain to the first; false if a sum is out of range. */
FN_WORD bool FN_KERNEL(end_chains)(strip *s, size_t len, bool both) {
  const f64_vec most = f64_splat(V(COLUMN_MAX));
  T lanes[FN_VEC];
  vec largest = V(splat)((T)0);
  for (size_t c = 0; c < len; c += FN_VEC) {
    vec g = V(load)(s->g[0] + c), gt = V(load)(s->gt[0] + c);
    if (both) {
      g = V(add)(g, V(load)(s->g[1] + c));
      gt = V(add)(gt, V(load)(s->gt[1] + c));
      V(store)(s->g[0] + c, g);
      V(store)(s->gt[0] + c, gt);
    }
    largest = V(max_magnitude)(V(max_magnitude)(largest, g), gt);
  }
  V(store)(lanes, largest);
  for (size_t i = 0; i < FN_VEC; i += 16)
    if (!f64_all_le(V(load_wide)(lanes + i), most))
      return false;
  return true;
}

FN_WORD bool FN_KERNEL(products_of_rows)(const fn_pairs *p, const fn_gradient *o,
                                         double *sum_g, double *sum_gt, bool centered,
                                         int rows) {
  strip s;
  size_t r = 0;
  for (; r + (size_t)rows <= p->rows; r += (size_t)rows) {
    FN_KERNEL(add_step)(p, o, r, &s, centered, rows);
  }
  for (; !o && r < p->rows; r++) {
    FN_KERNEL(add_step)(p, o, r, &s, centered, 1);
  }
  FN_KERNEL(add_few_columns)(p, o, &s);
  if (!FN_KERNEL(end_chains)(&s, p->len, p->rows > FN_STEPS))
    return false;
  for (size_t c = 0; c < p->len; c += FN_VEC) {
    if (sum_g)
      V(add_wide)(sum_g + c, V(load)(s.g[0] + c));
    V(add_wide)(sum_gt + c, V(load)(s.gt[0] + c));
  }
  return true;
}

static bool FN_KERNEL(products_rows)(const fn_pairs *p, double *sum_g, double *sum_gt) {
  return p->hi ? FN_KERNEL(products_of_rows)(p, NULL, sum_g, sum_gt, true, 4)
               : FN_KERNEL(products_of_rows)(p, NULL, sum_g, sum_gt, false, 4);
}

/* Two rows in step share the loads and stores of the sums, unless they are pages apart:
 * then lines of g, x and y all want the same place in the first-level cache. Where
 * there are few registers one is as good. No lines are asked for: they would push out
 * those of the group. One row and two: gradient of layer norm of [512, 768] 166 and 150
 * us, of [512, 1024] 222 and 241 (AMD EPYC Zen 4, avx512); 171 and 174, 229 and 245
 * (avx2). */
FN_WORD bool FN_KERNEL(gradient_of_product_rows)(const fn_pairs *p,
                                                 const fn_gradient *o, double *sum_g,
                                                 double *sum_gt, bool centered) {
  const bool two = FN_ROWS > 1 && p->x_row_stride * (ptrdiff_t)sizeof(T) % FN_PAGE != 0;
  return two ? FN_KERNEL(products_of_rows)(p, o, sum_g, sum_gt, centered, 2)
             : FN_KERNEL(products_of_rows)(p, o, sum_g, sum_gt, centered, 1);
}

static bool FN_KERNEL(gradient_rows)(const fn_pairs *p, const fn_gradient *o,
                                     double *sum_g, double *sum_gt) {
  /* Copies, which no store can change. */
  const fn_pairs own_p = *p;
  const fn_gradient own_o = *o;
  return p->hi
             ? FN_KERNEL(gradient_of_product_rows)(&own_p, &own_o, sum_g, sum_gt, true)
             : FN_KERNEL(gradient_of_product_rows)(&own_p, &own_o, sum_g, sum_gt,
                                                   false);
}

#undef FN_PART
#undef part
#undef terms
#undef FN_STEPS
#undef FN_PAGE
#undef products
#undef waiting
#undef strip
#undef step
