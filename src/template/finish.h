/* template/finish.h - from sums to mean, variance, scale and offset, 16 rows at a time.
 * SPDX-License-Identifier: MIT
 *
 * All in double, so that nothing here adds to the rounding of a float32 result. For
 * double data the mean's last bits matter too: shift + m is added with its error
 * (Knuth's TwoSum), and the mean travels as hi + lo. */

static bool FN_KERNEL(finish)(size_t n, double count, double eps, const double *sum,
                              const double *sq, const void *shift, void *hi, void *lo,
                              double *var) {
  const f64_vec inv = f64_splat(1.0 / count), four = f64_splat(4.0);
  const f64_vec most = f64_splat(V(SQ_MAX)), least = f64_splat(V(VAR_MIN));
  const f64_vec epsilon = f64_splat(eps);
  bool good = true;
  for (size_t i = 0; i < n; i += 16) {
    double tail[3][16] = {{0}};
    T tail_shift[16] = {0};
    const double *s = sum + i, *q = sq + i;
    const T *origin = shift ? (const T *)shift + i : NULL;
    if (n - i < 16) { /* the unused lanes must not look like bad rows */
      for (size_t k = 0; k < n - i; k++) {
        if (shift) tail[0][k] = s[k], tail_shift[k] = origin[k];
        tail[1][k] = q[k];
      }
      for (size_t k = n - i; k < 16; k++) tail[1][k] = count;
      s = tail[0], q = tail[1];
      if (shift) origin = tail_shift;
    }
    const f64_vec sq_i = f64_load(q);
    f64_vec v = sq_i;
    if (shift) {
      const f64_vec sum_i = f64_load(s), m = f64_mul(sum_i, inv);
      const f64_vec x0 = V(load_wide)(origin), z = f64_add(x0, m), part = f64_sub(z, x0);
      const f64_vec error =
          f64_add(f64_sub(x0, f64_sub(z, part)), f64_sub(m, part));
      const f64_vec rounded = V(round)(z);
      v = f64_max_zero(f64_fnma(sum_i, m, sq_i));
      V(store_narrow)((T *)hi + i, rounded);
      V(store_narrow)((T *)lo + i, f64_add(f64_sub(z, rounded), error));
      good &= f64_all_le(f64_mul(sum_i, m), f64_mul(four, v));
    }
    v = f64_mul(v, inv);
    f64_store(var + i, v);
    good &= f64_all_le(sq_i, most);
    good &= f64_all_le(least, f64_add(v, epsilon));
  }
  return good;
}

FN_WORD f64_vec FN_KERNEL(parameter)(const T *p, size_t left) {
  T tail[16] = {0};
  if (left >= 16) return V(load_wide)(p);
  for (size_t k = 0; k < left; k++) tail[k] = p[k];
  return V(load_wide)(tail);
}

static bool FN_KERNEL(affine)(size_t n, const double *var, double eps, const void *lo,
                              const void *weight, const void *bias, void *rstd,
                              void *scale, void *offset) {
  const f64_vec most = f64_splat(V(SCALE_MAX)), least = f64_splat(V(SCALE_MIN));
  const f64_vec epsilon = f64_splat(eps);
  bool good = true;
  for (size_t i = 0; i < n; i += 16) {
    f64_vec a = f64_inverse(f64_sqrt(f64_add(f64_load(var + i), epsilon)));
    if (rstd) V(store_narrow)((T *)rstd + i, a);
    if (weight)
      a = f64_mul(a, FN_KERNEL(parameter)((const T *)weight + i, n - i));
    V(store_narrow)((T *)scale + i, a);
    good &= f64_all_le(f64_abs(a), most);
    good &= f64_all_le(least, f64_abs(a));
    if (offset) {
      f64_vec b = bias ? FN_KERNEL(parameter)((const T *)bias + i, n - i) : f64_splat(0.0);
      if (lo) b = f64_fnma(V(load_wide)((const T *)lo + i), a, b);
      V(store_narrow)((T *)offset + i, b);
    }
  }
  return good;
}
