/* template/extremes.h - the smallest and the largest element of runs and of columns,
 * and what becomes of missing ones; the largest magnitude, which may be missing.
 * SPDX-License-Identifier: MIT
 *
 * min(x, y) and max(x, y) give y where x is NaN: with what was found so far as y, NaN
 * takes no part. */

/* The first `half` lanes with the next ones, down to one. */
FN_WORD T FN_KERNEL(extreme_lane)(vec v, bool largest) {
  T lanes[FN_VEC];
  V(store)(lanes, v);
  for (size_t half = FN_VEC / 2; half > 0; half /= 2)
    for (size_t i = 0; i < half; i++) {
      const T a = lanes[i], b = lanes[i + half];
      lanes[i] = (largest ? b > a : b < a) ? b : a;
    }
  return lanes[0];
}

static void FN_KERNEL(extremes_runs)(const fn_runs *g, void *low, void *high) {
  T *least = (T *)low, *most = (T *)high;
  for (size_t r = 0; r < g->rows; r++) {
    vec a = V(splat)(least[r]), b = V(splat)(most[r]), a2 = a, b2 = b;
    for (size_t seg = 0; seg < g->segs; seg++) {
      const T *x = (const T *)g->x + (ptrdiff_t)r * g->row_stride +
                   (ptrdiff_t)seg * g->seg_stride;
      size_t i = 0;
      for (; i + 2 * FN_VEC <= g->len; i += 2 * FN_VEC) {
        const vec v = V(load)(x + i), w = V(load)(x + i + FN_VEC);
        a = V(min)(v, a), b = V(max)(v, b);
        a2 = V(min)(w, a2), b2 = V(max)(w, b2);
      }
      for (; i < g->len; i += FN_VEC) {
        const size_t n = g->len - i;
        const vec v =
            n >= FN_VEC ? V(load)(x + i) : V(load_partial_or)(x + i, n, V(splat)(x[i]));
        a = V(min)(v, a), b = V(max)(v, b);
      }
    }
    least[r] = FN_KERNEL(extreme_lane)(V(min)(a2, a), false);
    most[r] = FN_KERNEL(extreme_lane)(V(max)(b2, b), true);
  }
}

static void FN_KERNEL(extremes_columns)(const fn_table *t, void *low, void *high) {
  T *least = (T *)low, *most = (T *)high;
  for (size_t c = 0; c < t->cols; c += FN_VEC) {
    const T *x = (const T *)t->x + c;
    const size_t n = t->cols - c;
    vec a = V(load)(least + c), b = V(load)(most + c);
    for (size_t r = 0; r < t->rows; r++, x += t->stride) {
      a = V(min)(n >= FN_VEC ? V(load)(x) : V(load_partial_or)(x, n, a), a);
      b = V(max)(n >= FN_VEC ? V(load)(x) : V(load_partial_or)(x, n, b), b);
    }
    V(store)(least + c, a);
    V(store)(most + c, b);
  }
}

static void FN_KERNEL(present_columns)(const fn_table *t, const void *shift,
                                       double *count) {
  const T *shifts = (const T *)shift;
  const vec one = V(splat)((T)1), zero = V(splat)((T)0);
  for (size_t c = 0; c < t->cols; c += FN_VEC) {
    T *x = (T *)t->x + c;
    const vec shift_c = V(load)(shifts + c);
    vec n = zero;
    for (size_t r = 0; r < t->rows; r++, x += t->stride) {
      if (t->cols - c >= FN_VEC) {
        const vec v = V(load)(x);
        n = V(add)(n, V(select_le)(v, v, one, zero));
        V(store)(x, V(select_le)(v, v, v, shift_c));
        continue;
      }
      for (size_t i = c; i < t->cols; i++) {
        const T v = x[i - c];
        count[i] += v == v;
        x[i - c] = v == v ? v : shifts[i];
      }
    }
    V(add_wide)(count + c, n);
  }
}

/* The largest of magnitudes, NaN if there is one: as whole numbers their bits are in
 * that order. No branches, of which half would be guessed wrong (rows of 128 floats to
 * bytes, each with a scale: 240 ns a row, now 40), and fixed lengths, of which
 * compilers make vectors. */
FN_WORD double FN_KERNEL(magnitude_lane)(vec v) {
  T t[FN_VEC];
  FN_BITS lanes[FN_VEC];
  V(store)(t, v);
  memcpy(lanes, t, sizeof lanes);
#define FOLD(half)                                                                     \
  for (size_t i = 0; i < half; i++)                                                    \
  lanes[i] = lanes[i + half] > lanes[i] ? lanes[i + half] : lanes[i]
  FOLD(FN_HALF);
  FOLD(FN_HALF / 2);
  FOLD(FN_HALF / 4);
  FOLD(FN_HALF / 8);
#if FN_T_IS_FLOAT
  FOLD(FN_HALF / 16);
#endif
#undef FOLD
  memcpy(t, lanes, sizeof t[0]);
  return (double)t[0];
}

static double FN_KERNEL(largest)(const void *v, size_t n) {
  const T *p = (const T *)v;
  vec most[2] = {V(splat)((T)0), V(splat)((T)0)};
  size_t i = 0;
  for (; i + 2 * FN_VEC <= n; i += 2 * FN_VEC) {
    most[0] = V(max_magnitude)(most[0], V(load)(p + i));
    most[1] = V(max_magnitude)(most[1], V(load)(p + i + FN_VEC));
  }
  for (; i < n; i += FN_VEC)
    most[0] =
        V(max_magnitude)(most[0], FN_KERNEL(fetch)(FASTNORM_DEFAULT, p, i,
                                                   n - i < FN_VEC ? n - i : FN_VEC));
  return FN_KERNEL(magnitude_lane)(V(max_magnitude)(most[0], most[1]));
}
