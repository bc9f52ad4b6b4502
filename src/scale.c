/* scale.c - from mean and variance to scale and offset, and which of them are safe.
 * SPDX-License-Identifier: MIT */
#include "scale.h"

#include <math.h>

#include "range.h"
#include "slow.h"

static bool mean_is_safe(fastnorm_dtype dtype, double mean) {
  return fabs(mean) <= (dtype == FASTNORM_FLOAT32 ? f32_MEAN_MAX : f64_MEAN_MAX);
}

static bool scale_is_safe(fastnorm_dtype dtype, double scale) {
  const bool f32 = dtype == FASTNORM_FLOAT32;
  const double size = fabs(scale);
  if (size <= 0.0)
    return true; /* a weight of zero is harmless */
  return size <= (f32 ? f32_SCALE_MAX : f64_SCALE_MAX) &&
         size >= (f32 ? f32_SCALE_MIN : f64_SCALE_MIN);
}

double fn_reciprocal_root(double t) {
  return t <= 0.0 && t >= 0.0 ? 0.0 : 1.0 / sqrt(t);
}

void fn_scale(const fn_kernels *k, fastnorm_dtype dtype, const fn_scale_input *in,
              bool *any_slow, bool *is_slow, void *rstd, void *scale, void *offset) {
  bool any = false;
  if (k->affine(in->n, in->var, in->eps, in->given ? in->hi : NULL,
                in->hi && !in->given ? in->lo : NULL, in->weight, in->bias, rstd, scale,
                in->hi ? offset : NULL))
    return;
  for (size_t i = 0; i < in->n; i++) {
    const double t = in->var[i] + in->eps;
    const double weight = in->weight ? fn_get(dtype, in->weight, i) : 1.0;
    const double wanted = t <= 0.0 && t >= 0.0 ? 0.0 : weight / sqrt(t);
    is_slow[i] = (*any_slow && is_slow[i]) || !scale_is_safe(dtype, wanted) ||
                 (in->given && !mean_is_safe(dtype, fn_get(dtype, in->hi, i)));
    any |= is_slow[i];
  }
  *any_slow = any;
}
