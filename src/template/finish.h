/* template/finish.h - from sums to mean, variance, scale and offset, 16 rows at a time.
 * SPDX-License-Identifier: MIT
 *
 * All in double, so that nothing here adds to the rounding of a float32 result. For
 * double data the mean's last bits matter too: shift + m is added with its error
 * (Knuth's TwoSum), and the mean travels as hi + lo. For a constant run the quotient is
 * exact, so that shift + m is the constant also where the shift was rounded.
 *
 * A shift is good if it is at most a deviation away from the mean: then the difference
 * of the two sums magnifies their rounding by no more than 2. A deviation that is
 * nothing beside eps does not count: else rows of subnormals, whose squares are 0,
 * would all be slow. */

#define FN_L        f64
#define lanes       f64_vec
#define FN_ROUND(x) V(round)(x)
#include "finish_lanes.h"

static bool FN_KERNEL(finish)(size_t n, double count, double eps, const double *sum,
                              const double *sq, const void *shift, void *hi, void *lo,
                              double *var) {
  bool good = true;
  for (size_t i = 0; i < n; i += 16) {
    /* Lanes that stand for no run get the sums of a harmless one. */
    const size_t left = n - i < 16 ? n - i : 16;
    const f64_vec sq_i = f64_load_partial_or(sq + i, left, f64_splat(count));
    FN_LANES(found) f;
    if (shift) {
      const f64_vec sum_i = f64_load_partial_or(sum + i, left, f64_splat(0.0));
      const f64_vec shift_i = V(load_wide)((const T *)shift + i);
      f = FN_LANES(find)(sum_i, sq_i, shift_i, count, eps, true);
      V(store_narrow)((T *)hi + i, f.hi);
      V(store_narrow)((T *)lo + i, f.lo);
    } else {
      f = FN_LANES(find)(f64_splat(0.0), sq_i, f64_splat(0.0), count, eps, false);
    }
    f64_store(var + i, f.var);
    good &= f.good;
  }
  return good;
}

/* 16 of a caller's numbers, or those that are left, and ones, which are harmless. */
FN_WORD f64_vec FN_KERNEL(parameter)(const T *p, size_t left) {
  T tail[16];
  if (left >= 16)
    return V(load_wide)(p);
  V(store_narrow)(tail, f64_splat(1.0));
  for (size_t k = 0; k < left; k++)
    tail[k] = p[k];
  return V(load_wide)(tail);
}

static bool FN_KERNEL(affine)(size_t n, const double *var, double eps, const void *mean,
                              const void *lo, const void *weight, const void *bias,
                              void *rstd, void *scale, void *offset) {
  bool good = true;
  for (size_t i = 0; i < n; i += 16) {
    const size_t left = n - i < 16 ? n - i : 16; /* the others are harmless */
    const f64_vec v = f64_load_partial_or(var + i, left, f64_splat(1.0));
    f64_vec a = FN_LANES(rstd)(v, eps);
    if (rstd)
      V(store_narrow)((T *)rstd + i, a);
    if (weight)
      a = f64_mul(a, FN_KERNEL(parameter)((const T *)weight + i, n - i));
    V(store_narrow)((T *)scale + i, a);
    good &= FN_LANES(may_scale)(a);
    if (mean)
      good &= f64_all_le(f64_abs(FN_KERNEL(parameter)((const T *)mean + i, n - i)),
                         f64_splat(V(MEAN_MAX)));
    if (offset) {
      f64_vec b =
          bias ? FN_KERNEL(parameter)((const T *)bias + i, n - i) : f64_splat(0.0);
      if (lo)
        b = f64_fnma(V(load_wide)((const T *)lo + i), a, b);
      V(store_narrow)((T *)offset + i, b);
    }
  }
  return good;
}

#undef FN_L
#undef lanes
#undef FN_ROUND
#undef FN_LANES
