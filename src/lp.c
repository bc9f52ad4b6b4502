/* lp.c - from sums of squares or magnitudes to a division by the L2 or L1 norm.
 * SPDX-License-Identifier: MIT */
#include "lp.h"

#include <math.h>

#include "scale.h"

/* The square of a divisor. One whose square would be 0 or Inf is far outside the range
 * of fn_scale(), and stays outside, which makes its run slow. */
static double square(double divisor) {
  const double least = 0x1p-511, most = 0x1p511;
  const double d = divisor < least ? least : divisor > most ? most : divisor;
  return d * d;
}

/* From the mean of squares of a run or column that is not slow, or the sum of
 * magnitudes if it is one of those, to the square of what x is divided by; the norm
 * itself is the result. */
static double lp_of(double *var, double n, const double *magnitudes, double eps) {
  const double norm_sq = *var * n, norm = magnitudes ? *magnitudes : sqrt(norm_sq);
  if (norm <= 0.0)
    *var = 1.0;
  else if (magnitudes || norm < eps)
    *var = square(norm < eps ? eps : norm);
  else
    *var = norm_sq;
  return norm;
}

void fn_runs_lp(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *g, double eps,
                const void *weight, fn_group_stats *s, void *scale) {
  const double n = (double)g->segs * (double)g->len;
  for (size_t r = 0; r < g->rows; r++)
    if (s->any_slow && s->is_slow[r])
      s->var[r] = 1.0;
    else
      s->sum[r] = lp_of(&s->var[r], n, g->magnitudes ? &s->sq[r] : NULL, eps);
  const fn_scale_input in = {.n = g->rows, .var = s->var, .weight = weight};
  fn_scale(k, dtype, &in, &s->any_slow, s->is_slow, NULL, scale, NULL);
  for (size_t r = 0; s->any_slow && r < g->rows; r++) {
    const fn_runs one = fn_run_alone(g, dtype, r);
    if (!s->is_slow[r])
      continue;
    fn_slow_stats(dtype, &one, 0.0, false, &s->slow[r]);
    s->sum[r] = fn_slow_lp(&s->slow[r], n, eps);
  }
}

void fn_columns_lp(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                   double eps, fn_column_parameters *p, fn_column_stats *s,
                   fn_slow *slow) {
  const double n = (double)t->rows;
  for (size_t c = 0; c < t->cols; c++)
    if (s->any_slow && s->is_slow[c])
      s->var[c] = 1.0;
    else
      s->sum[c] = lp_of(&s->var[c], n, t->magnitudes ? &s->sq[c] : NULL, eps);
  p->eps = 0.0;
  fn_columns_scale(k, dtype, t->cols, p, s);
  for (size_t c = 0; s->any_slow && c < t->cols; c++) {
    const fn_runs run = fn_table_column(t, dtype, c);
    if (!s->is_slow[c])
      continue;
    fn_slow_stats(dtype, &run, 0.0, false, &slow[c]);
    s->sum[c] = fn_slow_lp(&slow[c], n, eps);
  }
  p->slow = slow;
}
