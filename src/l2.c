/* l2.c - from sums of squares to a division by the Euclidean norm.
 * SPDX-License-Identifier: MIT */
#include "l2.h"

#include <math.h>

#include "scale.h"

/* From the mean of squares of a run or column that is not slow to the square of what x
 * is divided by; the norm itself is the result. */
static double l2_of(double *var, double n, double eps) {
  const double norm_sq = *var * n, norm = sqrt(norm_sq);
  *var = norm < eps ? eps * eps : norm_sq;
  if (norm <= 0.0)
    *var = 1.0;
  return norm;
}

void fn_runs_l2(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *g, double eps,
                const void *weight, fn_group_stats *s, void *scale) {
  const double n = (double)g->segs * (double)g->len;
  for (size_t r = 0; r < g->rows; r++)
    if (s->any_slow && s->is_slow[r])
      s->var[r] = 1.0;
    else
      s->sum[r] = l2_of(&s->var[r], n, eps);
  const fn_scale_input in = {.n = g->rows, .var = s->var, .weight = weight};
  fn_scale(k, dtype, &in, &s->any_slow, s->is_slow, NULL, scale, NULL);
  for (size_t r = 0; s->any_slow && r < g->rows; r++) {
    const fn_runs one = fn_run_alone(g, dtype, r);
    if (!s->is_slow[r])
      continue;
    fn_slow_stats(dtype, &one, 0.0, false, &s->slow[r]);
    s->sum[r] = fn_slow_l2(&s->slow[r], n, eps);
  }
}

void fn_columns_l2(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                   double eps, fn_column_parameters *p, fn_column_stats *s,
                   fn_slow *slow) {
  const double n = (double)t->rows;
  for (size_t c = 0; c < t->cols; c++)
    if (s->any_slow && s->is_slow[c])
      s->var[c] = 1.0;
    else
      s->sum[c] = l2_of(&s->var[c], n, eps);
  p->eps = 0.0;
  fn_columns_scale(k, dtype, t->cols, p, s);
  for (size_t c = 0; s->any_slow && c < t->cols; c++) {
    const fn_runs run = fn_table_column(t, dtype, c);
    if (!s->is_slow[c])
      continue;
    fn_slow_stats(dtype, &run, 0.0, false, &slow[c]);
    s->sum[c] = fn_slow_l2(&slow[c], n, eps);
  }
  p->slow = slow;
}
