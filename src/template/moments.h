/* template/moments.h - the two reductions: moments of runs and moments of columns.
 * SPDX-License-Identifier: MIT
 *
 * One shifted pass: with d = x - shift, the sums of d and of d * d give mean and variance
 * with no cancellation as long as the shift is within about a deviation of the mean; the
 * operation checks that afterwards (fn_finish_one) and repeats the rare run that fails,
 * shifted by the mean that was found. A constant run has d = 0 exactly.
 *
 * Rounding: a lane takes at most FN_BLOCK additions before the lanes are summed by a
 * tree, and the sums of blocks are added in double. So the error does not grow with the
 * length of a run, and stays small even where every addition rounds the same way (as for
 * elements of one magnitude): the worst over 16 equal addends is 5.4 half-ulps. */

#define FN_BLOCK 16

/* Partial sums of blocks, waiting until 16 of them can share one tree. */
typedef struct FN_KERNEL(pending) {
  T sum[16][FN_HALF];
  T sq[16][FN_HALF];
  size_t row[16];
  size_t n;
} FN_KERNEL(pending);
#define pending FN_KERNEL(pending)

FN_WORD void FN_KERNEL(drain)(pending *p, bool centered, double *sum, double *sq) {
  T s[16], q[16];
  if (p->n > 3) {
    for (size_t i = p->n; i < 16; i++)
      for (size_t k = 0; k < FN_HALF; k++) p->sum[i][k] = p->sq[i][k] = 0;
    if (centered) V(reduce16)((const T(*)[FN_HALF])p->sum, s);
    V(reduce16)((const T(*)[FN_HALF])p->sq, q);
  } else {
    for (size_t i = 0; i < p->n; i++) {
      if (centered) s[i] = V(hsum)(p->sum[i]);
      q[i] = V(hsum)(p->sq[i]);
    }
  }
  for (size_t i = 0; i < p->n; i++) {
    if (centered) sum[p->row[i]] += (double)s[i];
    sq[p->row[i]] += (double)q[i];
  }
  p->n = 0;
}

FN_WORD void FN_KERNEL(moments_of_runs)(const fn_runs *g, const T *shift, double *sum,
                                        double *sq, bool centered) {
  pending p;
  p.n = 0;
  for (size_t r = 0; r < g->rows; r++) {
    const T *row = (const T *)g->x + (ptrdiff_t)r * g->row_stride;
    const vec shift_r = V(splat)(centered ? shift[r] : (T)0);
    vec s = V(splat)((T)0), q = s;
    size_t steps = 0;
    if (centered) sum[r] = 0.0;
    sq[r] = 0.0;
    for (size_t seg = 0; seg < g->segs; seg++) {
      const T *x = row + (ptrdiff_t)seg * g->seg_stride;
      size_t left = g->len;
      while (left > 0) {
        const size_t full = left / FN_VEC, room = FN_BLOCK - steps;
        const size_t now = full < room ? full : room;
        for (const T *end = x + now * FN_VEC; x != end; x += FN_VEC) {
          const vec v = V(load)(x);
          const vec d = centered ? V(sub)(v, shift_r) : v;
          if (centered) s = V(add)(s, d);
          q = V(fma)(d, d, q);
        }
        left -= now * FN_VEC;
        steps += now;
        if (left > 0 && left < FN_VEC && steps < FN_BLOCK) {
          const vec v = V(load_partial_or)(x, left, shift_r);
          const vec d = centered ? V(sub)(v, shift_r) : v;
          if (centered) s = V(add)(s, d);
          q = V(fma)(d, d, q);
          left = 0;
          steps++;
        }
        if (steps == FN_BLOCK || (left == 0 && seg + 1 == g->segs)) {
          if (centered) V(store_folded)(p.sum[p.n], s);
          V(store_folded)(p.sq[p.n], q);
          p.row[p.n++] = r;
          if (p.n == 16) FN_KERNEL(drain)(&p, centered, sum, sq);
          s = q = V(splat)((T)0);
          steps = 0;
        }
      }
    }
  }
  if (p.n > 0) FN_KERNEL(drain)(&p, centered, sum, sq);
}

static void FN_KERNEL(moments_runs)(const fn_runs *g, const void *shift, double *sum,
                                    double *sq) {
  if (shift)
    FN_KERNEL(moments_of_runs)(g, shift, sum, sq, true);
  else
    FN_KERNEL(moments_of_runs)(g, NULL, sum, sq, false);
}

/* A quarter of each: for a constant run the sum is exact, and it cannot overflow. */
static void FN_KERNEL(shift_runs)(const fn_runs *g, const ptrdiff_t sample[4],
                                  void *shift) {
  const T quarter = (T)0.25;
  for (size_t r = 0; r < g->rows; r++) {
    const T *x = (const T *)g->x + (ptrdiff_t)r * g->row_stride;
    const T a = quarter * x[sample[0]], b = quarter * x[sample[1]];
    const T c = quarter * x[sample[2]], d = quarter * x[sample[3]];
    ((T *)shift)[r] = (a + b) + (c + d);
  }
}

FN_WORD void FN_KERNEL(moments_of_columns)(const fn_table *t, const T *shift,
                                           double *sum, double *sq, bool centered) {
  for (size_t r = 0; r < t->rows; r += FN_BLOCK) {
    const size_t rows = t->rows - r < FN_BLOCK ? t->rows - r : FN_BLOCK;
    const T *block = (const T *)t->x + (ptrdiff_t)r * t->stride;
    for (size_t c = 0; c < t->cols; c += FN_VEC) {
      const size_t left = t->cols - c;
      const vec shift_c = centered ? V(load)(shift + c) : V(splat)((T)0);
      const T *x = block + c;
      vec s = V(splat)((T)0), q = s;
      for (size_t i = 0; i < rows; i++, x += t->stride) {
        const vec v =
            left >= FN_VEC ? V(load)(x) : V(load_partial_or)(x, left, shift_c);
        const vec d = centered ? V(sub)(v, shift_c) : v;
        if (centered) s = V(add)(s, d);
        q = V(fma)(d, d, q);
      }
      if (centered) V(add_wide)(sum + c, s);
      V(add_wide)(sq + c, q);
    }
  }
}

static void FN_KERNEL(moments_columns)(const fn_table *t, const void *shift, double *sum,
                                       double *sq) {
  if (shift)
    FN_KERNEL(moments_of_columns)(t, shift, sum, sq, true);
  else
    FN_KERNEL(moments_of_columns)(t, NULL, sum, sq, false);
}
#undef pending
#undef FN_BLOCK
