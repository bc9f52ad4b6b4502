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

#define part    V(part)
#define FN_PART (FN_VEC / FN_PARTS)

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

/* The sums of a chain while it grows. Where a vec is four registers there are twelve of
 * these sums, which stay in them only if everything else is done by parts too, loads
 * included: gradient of batch norm of [6272, 256] 1290 -> 1000 us (AMD EPYC Zen 3). */
typedef struct FN_KERNEL(sums) {
  part d[FN_PARTS], dt[FN_PARTS], x[FN_PARTS];
} FN_KERNEL(sums);
#define sums FN_KERNEL(sums)

FN_WORD sums FN_KERNEL(sums_of)(const products *s) {
  sums q;
  FN_UNROLL
  for (int k = 0; k < FN_PARTS; k++) {
    q.d[k] = V(part_of)(&s->d, k);
    q.dt[k] = V(part_of)(&s->dt, k);
    q.x[k] = V(part_of)(&s->x, k);
  }
  return q;
}

FN_WORD products FN_KERNEL(products_of)(const sums *q) {
  return (products){V(whole)(q->d), V(whole)(q->dt), V(whole)(q->x)};
}

/* Terms of a part. */
typedef struct FN_KERNEL(part_terms) {
  part hi, scale, offset, minus_shift;
} FN_KERNEL(part_terms);
#define part_terms FN_KERNEL(part_terms)

FN_WORD void FN_KERNEL(add_to)(part *sum_d, part *sum_dt, part *sum_x, part g, part x,
                               part weight, const part_terms *f, bool centered,
                               bool weighted) {
  const part d = V(part_add)(weighted ? V(part_mul)(g, weight) : g, f->minus_shift);
  const part less = centered ? V(part_sub)(x, f->hi) : x;
  const part t =
      centered ? V(part_fma)(less, f->scale, f->offset) : V(part_mul)(less, f->scale);
  *sum_d = V(part_add)(*sum_d, d);
  *sum_dt = V(part_fma)(d, t, *sum_dt);
  if (centered)
    *sum_x = V(part_add)(*sum_x, less);
}

FN_WORD void FN_KERNEL(add_part)(sums *q, int k, part g, part x, part weight,
                                 const terms *f, bool centered, bool weighted) {
  const part_terms of = {V(part_of)(&f->hi, k), V(part_of)(&f->scale, k),
                         V(part_of)(&f->offset, k), V(part_of)(&f->minus_shift, k)};
  FN_KERNEL(add_to)
  (&q->d[k], &q->dt[k], &q->x[k], g, x, weight, &of, centered, weighted);
}

FN_WORD void FN_KERNEL(add_product)(sums *q, vec g, vec x, vec weight, const terms *f,
                                    bool centered, bool weighted) {
  FN_UNROLL
  for (int k = 0; k < FN_PARTS; k++)
    FN_KERNEL(add_part)
  (q, k, V(part_of)(&g, k), V(part_of)(&x, k), V(part_of)(&weight, k), f, centered,
   weighted);
}

/* The same of some parts, from `first` on, of a vec in memory. */
FN_WORD void FN_KERNEL(add_parts_of)(sums *q, int first, int parts, const T *g,
                                     const T *x, const T *weight, const terms *f,
                                     bool centered, bool weighted) {
  const vec one = V(splat)((T)1);
  FN_UNROLL
  for (int k = first; k < first + parts; k++)
    FN_KERNEL(add_part)
  (q, k, V(part_load)(g + k * FN_PART), V(part_load)(x + k * FN_PART),
   weighted ? V(part_load)(weight + k * FN_PART) : V(part_of)(&one, k), f, centered,
   weighted);
}

/* n elements, fewer than a vec: the other lanes count nothing, as d and x - hi are
 * 0. */
FN_WORD void FN_KERNEL(add_few)(products *s, const T *g, const T *x, const T *weight,
                                size_t n, const terms *f, bool centered,
                                bool weighted) {
  const vec zero = V(splat)((T)0), one = V(splat)((T)1);
  sums q = FN_KERNEL(sums_of)(s);
  FN_KERNEL(add_product)
  (&q, V(load_partial_or)(g, n, V(sub)(zero, f->minus_shift)),
   V(load_partial_or)(x, n, f->hi), weighted ? V(load_partial_or)(weight, n, one) : one,
   f, centered, weighted);
  *s = FN_KERNEL(products_of)(&q);
}

/* FN_BESIDE parts from k on. Twelve sums at a time went through the stack, which costs
 * a fifth, and a third where the core has another thread: layer norm's of [16, 768] 2.7
 * to 4.0 us -> 2.3 to 2.8 (AMD EPYC Zen 3, avx2). */
FN_WORD void FN_KERNEL(add_products_of_parts)(sums *q, int k, const T *g, const T *x,
                                              const T *weight, size_t steps,
                                              const terms *f, bool centered,
                                              bool weighted, bool ahead) {
  for (size_t i = 0; i < steps * FN_VEC; i += FN_VEC) {
    if (ahead && k == 0) {
      FN_PREFETCH_VEC(g + i + 16 * FN_VEC);
      FN_PREFETCH_VEC(x + i + 16 * FN_VEC);
    }
    FN_KERNEL(add_parts_of)
    (q, k, FN_BESIDE, g + i, x + i, weighted ? weight + i : NULL, f, centered,
     weighted);
  }
}

FN_WORD void FN_KERNEL(add_products)(products *s, const T *g, const T *x,
                                     const T *weight, size_t steps, const terms *f,
                                     bool centered, bool weighted, bool ahead) {
  sums q = FN_KERNEL(sums_of)(s);
  FN_UNROLL
  for (int k = 0; k < FN_PARTS; k += FN_BESIDE)
    if (FN_PARTS > 1 && weighted) /* within the loop it would cost registers */
      FN_KERNEL(add_products_of_parts)
  (&q, k, g, x, weight, steps, f, centered, true, ahead);
  else if (FN_PARTS > 1) FN_KERNEL(add_products_of_parts)(&q, k, g, x, NULL, steps, f,
                                                          centered, false, ahead);
  else FN_KERNEL(add_products_of_parts)(&q, k, g, x, weight, steps, f, centered,
                                        weighted, ahead);
  *s = FN_KERNEL(products_of)(&q);
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
