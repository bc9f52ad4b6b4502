/* template/shift.h - a number near the mean of a run: the mean of some samples.
 * SPDX-License-Identifier: MIT */

/* The sum of `count` samples of a run, lane by lane; `whole`: each is a vec. Two, as
 * short runs have, are added without a loop: batch norm training of [1, 2048, 7, 7]
 * 24.0 -> 20.9 us (AMD EPYC Zen 5, avx512). Four would gain 2 % for 2 KB more. */
FN_WORD vec FN_KERNEL(sum_of_samples)(const void *x, const fn_samples *p, size_t count,
                                      bool whole, fastnorm_dtype dtype) {
  vec s = V(splat)((T)0);
#define ADD(i)                                                                         \
  s = V(add)(s, FN_KERNEL(fetch)(dtype, FN_KERNEL(element)(dtype, x, p->at[i]), 0,     \
                                 whole ? FN_VEC : p->n[i]))
  if (count == 2) {
    ADD(0);
    ADD(1);
  } else {
    for (size_t i = 0; i < count; i++)
      ADD(i);
  }
#undef ADD
  return s;
}

/* Of runs r to r + rows, folded. */
FN_WORD void FN_KERNEL(add_samples)(const fn_runs *g, size_t r, size_t rows,
                                    const fn_samples *p, size_t count,
                                    T (*slots)[FN_HALF], fastnorm_dtype dtype) {
  const fn_samples of = *p; /* slots may not change it */
  for (size_t k = 0; k < rows; k++) {
    const void *x = FN_KERNEL(element)(dtype, g->x, (ptrdiff_t)(r + k) * g->row_stride);
    V(store_folded)(slots[k], FN_KERNEL(sum_of_samples)(x, &of, count, false, dtype));
  }
}

FN_WORD void FN_KERNEL(shift_of)(const fn_runs *g, const fn_samples *p, T *shift,
                                 fastnorm_dtype dtype) {
  const f64_vec number = f64_splat((double)p->all);
  const bool tiny = p->all <= FN_HALF && g->segs == 1 && dtype == FASTNORM_DEFAULT;
  for (size_t r = 0; r < g->rows; r += 16) {
    const size_t rows = g->rows - r < 16 ? g->rows - r : 16;
    _Alignas(64) T slots[16][FN_HALF], sums[16];
    const T *x = (const T *)g->x + (ptrdiff_t)r * g->row_stride;
    if (tiny) {
      for (size_t k = 0; k < rows; k += 2, x += 2 * g->row_stride) {
        const T *partner = k + 1 < rows ? x + g->row_stride : x;
        V(store)(slots[k], V(load2_or)(x, partner, g->len, V(splat)((T)0)));
      }
    } else if (p->count == 2) {
      FN_KERNEL(add_samples)(g, r, rows, p, 2, slots, dtype);
    } else {
      FN_KERNEL(add_samples)(g, r, rows, p, p->count, slots, dtype);
    }
    FN_KERNEL(sum_slots)(slots, rows, sums);
    V(store_narrow)(shift + r, f64_div(V(load_wide)(sums), number));
  }
}

#if FN_PIPELINES
/* The same of one run, of four whole vecs. */
FN_WORD T FN_KERNEL(shift_of_run)(const T *x, const fn_samples *p) {
  _Alignas(64) T slot[FN_HALF];
  V(store_folded)
  (slot, FN_KERNEL(sum_of_samples)(x, p, 4, true, FASTNORM_DEFAULT));
  return (T)((double)V(hsum)(slot) / (double)p->all);
}
#endif

static void FN_KERNEL(shift_runs)(const fn_runs *g, const fn_samples *p, void *shift) {
#define CASE(dtype) FN_KERNEL(shift_of)(g, p, (T *)shift, dtype)
  FN_RUN_DTYPES(g->dtype)
#undef CASE
}
