/* template/products.h - sums of products of a gradient with an input.
 * SPDX-License-Identifier: MIT
 *
 * t is the normalised input, d the gradient less a number near its mean. Products are
 * of d with t and not with x - mean, so that they have the size of d, whatever that of
 * x; and a gradient is a sum of three terms of its own size.
 *
 * Sums are made as those of the moments: two chains of FN_STEPS additions in a lane
 * make a block, a tree adds its lanes, and blocks are added in double. */

#define FN_STEPS 8

/* Of one run or one vec of columns. */
typedef struct FN_KERNEL(terms) {
  vec hi, scale, offset, minus_shift;
} FN_KERNEL(terms);
#define terms FN_KERNEL(terms)

/* Three sums of a chain or block. */
typedef struct FN_KERNEL(products) {
  vec d, dt, x;
} FN_KERNEL(products);
#define products FN_KERNEL(products)

FN_WORD terms FN_KERNEL(terms_of_run)(const fn_pairs *p, size_t r, bool centered) {
  const T *hi = p->hi, *scale = p->scale, *offset = p->offset, *shift = p->shift;
  return (terms){V(splat)(centered ? hi[r] : (T)0), V(splat)(scale[r]),
                 V(splat)(centered && offset ? offset[r] : (T)0),
                 V(splat)(shift ? -shift[r] : (T)0)};
}

FN_WORD terms FN_KERNEL(terms_of_columns)(const fn_pairs *p, size_t c, bool centered) {
  const T *hi = p->hi, *scale = p->scale, *offset = p->offset, *shift = p->shift;
  const vec zero = V(splat)((T)0);
  return (terms){centered ? V(load)(hi + c) : zero, V(load)(scale + c),
                 centered && offset ? V(load)(offset + c) : zero,
                 shift ? V(sub)(zero, V(load)(shift + c)) : zero};
}

FN_WORD products FN_KERNEL(no_products)(void) {
  const vec zero = V(splat)((T)0);
  return (products){zero, zero, zero};
}

FN_WORD products FN_KERNEL(both_products)(const products *a, const products *b) {
  return (products){V(add)(a->d, b->d), V(add)(a->dt, b->dt), V(add)(a->x, b->x)};
}

/* The product is rounded as that which made the shift: d of equal products is 0. */
FN_WORD vec FN_KERNEL(difference)(vec g, vec weight, vec minus_shift, bool weighted) {
  return V(add)(weighted ? V(mul)(g, weight) : g, minus_shift);
}

FN_WORD void FN_KERNEL(add_product)(products *s, vec g, vec x, vec weight,
                                    const terms *f, bool centered, bool weighted) {
  const vec d = FN_KERNEL(difference)(g, weight, f->minus_shift, weighted);
  const vec less = centered ? V(sub)(x, f->hi) : x;
  const vec t = centered ? V(fma)(less, f->scale, f->offset) : V(mul)(less, f->scale);
  s->d = V(add)(s->d, d);
  s->dt = V(fma)(d, t, s->dt);
  if (centered)
    s->x = V(add)(s->x, less);
}

/* n elements, fewer than a vec: the other lanes count nothing, as d and x - hi are
 * 0. */
FN_WORD void FN_KERNEL(add_few)(products *s, const T *g, const T *x, const T *weight,
                                size_t n, const terms *f, bool centered,
                                bool weighted) {
  const vec zero = V(splat)((T)0), one = V(splat)((T)1);
  FN_KERNEL(add_product)
  (s, V(load_partial_or)(g, n, V(sub)(zero, f->minus_shift)),
   V(load_partial_or)(x, n, f->hi), weighted ? V(load_partial_or)(weight, n, one) : one,
   f, centered, weighted);
}

FN_WORD void FN_KERNEL(add_products)(products *s, const T *g, const T *x,
                                     const T *weight, size_t steps, const terms *f,
                                     bool centered, bool weighted, bool ahead) {
  const vec one = V(splat)((T)1);
  for (size_t i = 0; i < steps * FN_VEC; i += FN_VEC) {
    if (ahead) {
      FN_PREFETCH_VEC(g + i + 16 * FN_VEC);
      FN_PREFETCH_VEC(x + i + 16 * FN_VEC);
    }
    FN_KERNEL(add_product)
    (s, V(load)(g + i), V(load)(x + i), weighted ? V(load)(weight + i) : one, f,
     centered, weighted);
  }
}

/* Blocks of runs, waiting until 16 of them can share one tree. */
typedef struct FN_KERNEL(waiting) {
  _Alignas(64) T d[16][FN_HALF], dt[16][FN_HALF], x[16][FN_HALF];
  size_t row[16];
  size_t n;
  double *sum_d, *sum_dt, *sum_x; /* the first and last, or NULL */
} FN_KERNEL(waiting);
#define waiting FN_KERNEL(waiting)

FN_WORD void FN_KERNEL(add_slots)(waiting *q, T (*slots)[FN_HALF], double *sum) {
  _Alignas(64) T s[16];
  FN_KERNEL(sum_slots)(slots, q->n, s);
  for (size_t i = 0; i < q->n; i++)
    sum[q->row[i]] += (double)s[i];
}

static void FN_KERNEL(add_waiting)(waiting *q) {
  if (q->sum_d)
    FN_KERNEL(add_slots)(q, q->d, q->sum_d);
  FN_KERNEL(add_slots)(q, q->dt, q->sum_dt);
  if (q->sum_x)
    FN_KERNEL(add_slots)(q, q->x, q->sum_x);
  q->n = 0;
}

FN_WORD void FN_KERNEL(end_products)(waiting *q, size_t r, const products *first,
                                     const products *s) {
  const products both = FN_KERNEL(both_products)(first, s);
  V(store_folded)(q->d[q->n], both.d);
  V(store_folded)(q->dt[q->n], both.dt);
  V(store_folded)(q->x[q->n], both.x);
  q->row[q->n] = r;
  if (++q->n == 16)
    FN_KERNEL(add_waiting)(q);
}

/* Chains and blocks go on from one segment to the next, and a segment's last few
 * elements are a step, as in the moments. */
FN_WORD void FN_KERNEL(products_of_run)(const fn_pairs *p, size_t r, waiting *q,
                                        bool centered, bool weighted) {
  const terms f = FN_KERNEL(terms_of_run)(p, r, centered);
  const T *g = (const T *)p->g + (ptrdiff_t)r * p->g_row_stride;
  const T *x = (const T *)p->x + (ptrdiff_t)r * p->x_row_stride;
  const T *weight = p->weight;
  const size_t len = p->len, segs = p->segs;
  products first = FN_KERNEL(no_products)(), s = first;
  size_t steps = 0; /* in the block */
  for (size_t seg = 0; seg < segs; seg++, g += p->g_seg_stride, x += p->x_seg_stride)
    for (size_t i = 0; i < len;) {
      const size_t full = (len - i) / FN_VEC, room = FN_STEPS - steps % FN_STEPS;
      const size_t now = full < room ? full : room;
      FN_KERNEL(add_products)
      (&s, g + i, x + i, weighted ? weight + i : NULL, now, &f, centered, weighted,
       segs > 1);
      i += now * FN_VEC;
      steps += now;
      if (i < len && len - i < FN_VEC && now < room) {
        FN_KERNEL(add_few)
        (&s, g + i, x + i, weighted ? weight + i : NULL, len - i, &f, centered,
         weighted);
        i = len;
        steps++;
      }
      if (steps == FN_STEPS) {
        first = s;
        s = FN_KERNEL(no_products)();
      } else if (steps == 2 * FN_STEPS) {
        FN_KERNEL(end_products)(q, r, &first, &s);
        first = s = FN_KERNEL(no_products)();
        steps = 0;
      }
    }
  if (steps > 0)
    FN_KERNEL(end_products)(q, r, &first, &s);
}

#include "gradient_segments.h"

/* The sums of up to 16 slots, one per run. */
FN_WORD void FN_KERNEL(store_sums)(T (*slots)[FN_HALF], size_t n, double *sum) {
  _Alignas(64) T s[16];
  FN_KERNEL(sum_slots)(slots, n, s);
  f64_store_partial(sum, n, V(load_wide)(s));
}

/* Runs of one block: 16 at a time, whose sums share a tree and leave as vectors. The
 * sums are those of the runs above, to the bit. */
FN_WORD void FN_KERNEL(products_of_short_runs)(const fn_pairs *p, double *sum_d,
                                               double *sum_dt, double *sum_x,
                                               bool centered, bool weighted) {
  const size_t steps = p->len / FN_VEC, left = p->len % FN_VEC, at = steps * FN_VEC;
  const size_t chain = steps < FN_STEPS ? steps : FN_STEPS;
  const T *weight = p->weight;
  for (size_t r = 0; r < p->rows; r += 16) {
    const size_t rows = p->rows - r < 16 ? p->rows - r : 16;
    _Alignas(64) T d[16][FN_HALF], dt[16][FN_HALF], x[16][FN_HALF];
    for (size_t k = 0; k < rows; k++) {
      const terms f = FN_KERNEL(terms_of_run)(p, r + k, centered);
      const T *gs = (const T *)p->g + (ptrdiff_t)(r + k) * p->g_row_stride;
      const T *xs = (const T *)p->x + (ptrdiff_t)(r + k) * p->x_row_stride;
      products first = FN_KERNEL(no_products)(), s = first;
      FN_KERNEL(add_products)
      (&s, gs, xs, weight, chain, &f, centered, weighted, false);
      if (chain == FN_STEPS) {
        const size_t i = FN_STEPS * FN_VEC;
        first = s;
        s = FN_KERNEL(no_products)();
        FN_KERNEL(add_products)
        (&s, gs + i, xs + i, weighted ? weight + i : NULL, steps - chain, &f, centered,
         weighted, false);
      }
      if (left > 0)
        FN_KERNEL(add_few)
      (&s, gs + at, xs + at, weighted ? weight + at : NULL, left, &f, centered,
       weighted);
      const products both = FN_KERNEL(both_products)(&first, &s);
      V(store_folded)(d[k], both.d);
      V(store_folded)(dt[k], both.dt);
      V(store_folded)(x[k], both.x);
    }
    if (sum_d)
      FN_KERNEL(store_sums)(d, rows, sum_d + r);
    FN_KERNEL(store_sums)(dt, rows, sum_dt + r);
    if (sum_x)
      FN_KERNEL(store_sums)(x, rows, sum_x + r);
  }
}

FN_WORD void FN_KERNEL(products_of_runs)(const fn_pairs *p, double *sum_d,
                                         double *sum_dt, double *sum_x, bool centered,
                                         bool weighted) {
  waiting q;
  if (p->segs == 1 && p->len <= 2 * FN_STEPS * FN_VEC) {
    FN_KERNEL(products_of_short_runs)(p, sum_d, sum_dt, sum_x, centered, weighted);
    return;
  }
  q.n = 0;
  q.sum_d = sum_d;
  q.sum_dt = sum_dt;
  q.sum_x = sum_x;
  for (size_t r = 0; r < p->rows; r++) {
    if (sum_d)
      sum_d[r] = 0.0;
    sum_dt[r] = 0.0;
    if (sum_x)
      sum_x[r] = 0.0;
    if (weighted || !FN_KERNEL(has_short_segments)(p))
      FN_KERNEL(products_of_run)(p, r, &q, centered, weighted);
  }
  if (!weighted && FN_KERNEL(has_short_segments)(p))
    FN_KERNEL(products_of_segments)(p, &q, centered);
  if (q.n > 0)
    FN_KERNEL(add_waiting)(&q);
}

/* Whether there is hi is known at compile time in each instance. Whether there is a
 * weight is asked for each vec, a branch that always goes the same way: instances of
 * their own would be 65 KB more, and at most 3 % quicker. */
static void FN_KERNEL(products_runs)(const fn_pairs *p, double *sum_d, double *sum_dt,
                                     double *sum_x) {
  if (p->hi)
    FN_KERNEL(products_of_runs)(p, sum_d, sum_dt, sum_x, true, p->weight != NULL);
  else
    FN_KERNEL(products_of_runs)(p, sum_d, sum_dt, sum_x, false, p->weight != NULL);
}

/* ---- tables: rows r to r + rows, columns c to c + FN_VEC ---- */

/* A chain of a column, with the factors of the column. */
FN_WORD products FN_KERNEL(column_chain)(const fn_pairs *p, size_t r, size_t rows,
                                         size_t c, const terms *f, bool centered) {
  const T *g = (const T *)p->g + (ptrdiff_t)r * p->g_row_stride + c;
  const T *x = (const T *)p->x + (ptrdiff_t)r * p->x_row_stride + c;
  const T *weight = p->weight;
  const size_t left = p->len - c;
  const vec none = V(sub)(V(splat)((T)0), f->minus_shift);
  products s = FN_KERNEL(no_products)();
  for (size_t i = 0; i < rows; i++, g += p->g_row_stride, x += p->x_row_stride) {
    const vec w = V(splat)(weight ? weight[r + i] : (T)1);
    if (left >= FN_VEC)
      FN_KERNEL(add_product)
    (&s, V(load)(g), V(load)(x), w, f, centered, true);
    else FN_KERNEL(add_product)(&s, V(load_partial_or)(g, left, none),
                                V(load_partial_or)(x, left, f->hi), w, f, centered,
                                true);
  }
  return s;
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

FN_WORD void FN_KERNEL(products_of_columns)(const fn_pairs *p, double *sum_d,
                                            double *sum_dt, double *sum_x,
                                            bool centered) {
  for (size_t r = 0; r < p->rows; r += 2 * FN_STEPS) {
    const size_t left = p->rows - r, rows = left < 2 * FN_STEPS ? left : 2 * FN_STEPS;
    const size_t chain = rows < FN_STEPS ? rows : FN_STEPS;
    for (size_t c = 0; c < p->len; c += FN_VEC) {
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
  vec hi[4], scale[4], offset[4];
} FN_KERNEL(step);
#define step FN_KERNEL(step)

/* Columns c to c + n; `begin`: there are no sums yet. */
FN_WORD void FN_KERNEL(add_columns)(const step *s, T *sum_g, T *sum_gt, size_t c,
                                    size_t n, bool begin, bool centered, int rows) {
  const vec zero = V(splat)((T)0);
  vec g_sum = begin ? zero : V(load)(sum_g + c);
  vec gt_sum = begin ? zero : V(load)(sum_gt + c);
  FN_UNROLL
  for (int k = 0; k < rows; k++) {
    const T *g = s->g + k * s->g_apart + c, *x = s->x + k * s->x_apart + c;
    const vec gi = n == FN_VEC ? V(load)(g) : V(load_partial_or)(g, n, zero);
    const vec xi = n == FN_VEC ? V(load)(x) : V(load_partial_or)(x, n, zero);
    const vec t =
        FN_KERNEL(normalized)(xi, s->hi[k], s->scale[k], s->offset[k], centered);
    g_sum = V(add)(g_sum, gi);
    gt_sum = V(fma)(gi, t, gt_sum);
  }
  V(store)(sum_g + c, g_sum);
  V(store)(sum_gt + c, gt_sum);
}

FN_WORD void FN_KERNEL(add_step)(const fn_pairs *p, size_t r, strip *to, bool centered,
                                 int rows) {
  const size_t chain = r / FN_STEPS, len = p->len;
  T *sum_g = to->g[chain], *sum_gt = to->gt[chain];
  step s = {.g = (const T *)p->g + (ptrdiff_t)r * p->g_row_stride,
            .x = (const T *)p->x + (ptrdiff_t)r * p->x_row_stride,
            .g_apart = p->g_row_stride,
            .x_apart = p->x_row_stride};
  FN_UNROLL
  for (int k = 0; k < rows; k++) {
    const terms f = FN_KERNEL(terms_of_run)(p, r + (size_t)k, centered);
    s.hi[k] = f.hi;
    s.scale[k] = f.scale;
    s.offset[k] = f.offset;
  }
  size_t c = 0;
  if (r % FN_STEPS == 0)
    for (; c + FN_VEC <= len; c += FN_VEC) {
      FN_KERNEL(add_columns)(&s, sum_g, sum_gt, c, FN_VEC, true, centered, rows);
    }
  else
    for (; c + FN_VEC <= len; c += FN_VEC) {
      FN_KERNEL(add_columns)(&s, sum_g, sum_gt, c, FN_VEC, false, centered, rows);
    }
  if (c < len)
    FN_KERNEL(add_columns)
  (&s, sum_g, sum_gt, c, len - c, r % FN_STEPS == 0, centered, rows);
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

FN_WORD bool FN_KERNEL(products_of_rows)(const fn_pairs *p, double *sum_g,
                                         double *sum_gt, bool centered) {
  strip s;
  size_t r = 0;
  for (; r + 4 <= p->rows; r += 4) {
    FN_KERNEL(add_step)(p, r, &s, centered, 4);
  }
  for (; r < p->rows; r++) {
    FN_KERNEL(add_step)(p, r, &s, centered, 1);
  }
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
  return p->hi ? FN_KERNEL(products_of_rows)(p, sum_g, sum_gt, true)
               : FN_KERNEL(products_of_rows)(p, sum_g, sum_gt, false);
}

#undef FN_STEPS
#undef FN_TILES_AHEAD
#undef tile
#undef products
#undef waiting
#undef strip
#undef step
