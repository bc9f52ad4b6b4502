/* renorm.c - batch renormalization: from the batch to the stored statistics, so far.
 * SPDX-License-Identifier: MIT */
#include "renorm.h"

#include <math.h>

#include "compiler.h"
#include "scale.h"

/* NaN stays NaN. */
static double limited(double x, double least, double most) {
  return x <= least ? least : x >= most ? most : x;
}

/* Of one channel: deviation and mean of the batch by those stored, before limits. */
typedef struct ratios {
  double r, d;
} ratios;

static ratios plain_ratios(fastnorm_dtype dtype, const fn_renorm_input *in, size_t c,
                           double rstd) {
  const double mean = fn_get(dtype, in->hi, c) - fn_get(dtype, in->stored_mean, c);
  return (ratios){.r = sqrt(in->var[c] + in->eps) * rstd,
                  .d = (mean + fn_get(dtype, in->lo, c)) * rstd};
}

/* The same of one whose numbers may leave the range of double unless they are
 * scaled. */
static ratios slow_ratios(fastnorm_dtype dtype, const fn_renorm_input *in, size_t c,
                          double rstd) {
  const fn_slow *s = &in->slow[c];
  const double stored = fn_get(dtype, in->stored_mean, c);
  const double deviation = s->rstd > 0.0 ? rstd / s->rstd : s->rstd;
  const int e = s->exponent;
  if (!isfinite(s->hi)) /* no deviation from it is a number */
    return (ratios){(double)NAN, (double)NAN};
  ratios found = {.r = ldexp(deviation, e - s->rstd_exponent)};
  if (e > 0)
    found.d = ldexp(((s->hi - ldexp(stored, -e)) + s->lo) * rstd, e);
  else
    found.d = ((ldexp(s->hi, e) - stored) + ldexp(s->lo, e)) * rstd;
  return found;
}

void fn_renorm_correct(fastnorm_dtype dtype, const fn_renorm *limits,
                       const fn_renorm_input *in, const fn_renorm_output *out) {
  const double most = limits->r_max, least = 1.0 / most;
  const bool unlimited = isinf(most);
  for (size_t c = 0; c < in->n; c++) {
    const bool slow = in->is_slow && in->is_slow[c];
    const double rstd = fn_reciprocal_root(in->stored_var[c] + in->eps);
    const ratios found =
        slow ? slow_ratios(dtype, in, c, rstd) : plain_ratios(dtype, in, c, rstd);
    const double r = limited(found.r, least, most);
    /* + 0.0: no -0.0, which would show where the bias is added */
    const double d = limited(found.d, -limits->d_max, limits->d_max) + 0.0;
    const double weight = in->weight ? fn_get(dtype, in->weight, c) : 1.0;
    const double bias = in->bias ? fn_get(dtype, in->bias, c) : 0.0;
    const bool stored = unlimited || !(found.r <= least || found.r >= most);
    out->is_stored[c] = stored;
    out->var[c] = stored ? in->stored_var[c] : slow ? 1.0 : in->var[c];
    fn_set(dtype, out->weight, c, stored ? weight : weight * r);
    fn_set(dtype, out->bias, c, d >= 0.0 && d <= 0.0 ? bias : fma(d, weight, bias));
    if (limits->r)
      fn_set(dtype, limits->r, in->first + c, r);
    if (limits->d)
      fn_set(dtype, limits->d, in->first + c, d);
  }
}
