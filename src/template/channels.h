/* template/channels.h - from the sums of channels to their gradients, 16 at a time.
 * SPDX-License-Identifier: MIT
 *
 * The formulas of channels_totals.c, in double and in the same order, so that a channel
 * gets the same bits here and there; what leaves the range is left to that. */

FN_WORD bool FN_KERNEL(within)(f64_vec x, double most) {
  return f64_all_le(f64_abs(x), f64_splat(most));
}

static bool FN_KERNEL(channel_terms)(size_t n, const fn_channel_lanes *c) {
  const fn_channel_limits *most = c->limits;
  const f64_vec number = f64_splat(c->count), least = f64_splat(most->least);
  /* If both were small, their sum would be less than this. */
  const f64_vec small = f64_splat(2.0 * c->count * most->least);
  bool good = true;
  for (size_t i = 0; i < n; i += 16) {
    const f64_vec weight = f64_load(c->weight + i), d = f64_load(c->d + i);
    const f64_vec shift = V(load_wide)((const T *)c->shift + i);
    const f64_vec scale = V(load_wide)((const T *)c->scale + i);
    const f64_vec dt = f64_load(c->dt + i), t = f64_mul(f64_load(c->x + i), scale);
    const f64_vec more = f64_sub(f64_mul(weight, shift), f64_load(c->first + i));
    const f64_vec rstd = f64_abs(c->rstd ? f64_load(c->rstd + i) : scale);
    const f64_vec size = f64_add(f64_abs(d), f64_abs(dt));
    f64_store(c->g + i, f64_add(f64_mul(more, number), f64_mul(weight, d)));
    f64_store(c->gt + i, f64_add(f64_mul(more, t), f64_mul(weight, dt)));
    f64_store(c->t + i, t);
    good &= f64_all_le(least, rstd) && FN_KERNEL(within)(rstd, most->scale) &&
            f64_all_le(small, size) && FN_KERNEL(within)(size, most->sum) &&
            FN_KERNEL(within)(shift, most->scale) &&
            FN_KERNEL(within)(t, c->count * most->t);
  }
  return good;
}

static bool FN_KERNEL(channel_factors)(size_t n, const fn_channel_lanes *c) {
  const fn_channel_limits *most = c->limits;
  const f64_vec number = f64_splat(c->count), zero = f64_splat(0.0);
  bool good = true;
  for (size_t i = 0; i < n; i += 16) {
    const f64_vec weight = f64_load(c->weight + i), d = f64_load(c->d + i);
    const f64_vec shift = V(load_wide)((const T *)c->shift + i);
    const f64_vec scale = V(load_wide)((const T *)c->scale + i);
    const f64_vec rstd = c->rstd ? f64_load(c->rstd + i) : scale;
    const f64_vec ratio = c->rstd ? f64_div(rstd, scale) : f64_splat(1.0);
    const f64_vec mean_t = f64_load(c->mean_t + i);
    const f64_vec rest = f64_sub(
        f64_sub(f64_mul(weight, shift), f64_load(c->first + i)), f64_load(c->mean + i));
    const f64_vec near = f64_sub(shift, f64_div(rest, weight)), to = V(round)(near);
    const f64_vec a = f64_mul(weight, rstd);
    const f64_vec b = f64_mul(f64_mul(f64_mul(f64_sub(zero, rstd), ratio), ratio),
                              f64_load(c->slope + i));
    const f64_vec left =
        f64_mul(rstd, f64_add(rest, f64_mul(weight, f64_sub(to, shift))));
    const f64_vec of_weight =
        f64_add(f64_sub(f64_load(c->dt + i), f64_mul(mean_t, d)),
                f64_mul(shift, f64_sub(f64_load(c->t + i), f64_mul(number, mean_t))));
    f64_store(c->grad_bias + i, f64_add(f64_mul(number, shift), d));
    f64_store(c->grad_weight + i, f64_mul(ratio, of_weight));
    V(store_narrow)((T *)c->new_shift + i, to);
    V(store_narrow)((T *)c->offset + i, f64_sub(zero, mean_t));
    V(store_narrow)((T *)c->a + i, a);
    V(store_narrow)((T *)c->b + i, b);
    V(store_narrow)((T *)c->c + i, left);
    good &= f64_all_le(f64_splat(most->normal), f64_abs(a)) &&
            FN_KERNEL(within)(a, most->factor) &&
            FN_KERNEL(within)(near, most->factor) &&
            FN_KERNEL(within)(left, most->sum) &&
            FN_KERNEL(within)(f64_mul(b, f64_splat(c->root)), most->sum);
  }
  return good;
}
