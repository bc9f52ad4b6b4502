/* template/norm_runs.h - runs that are normed one after another, in a pipeline.
 * SPDX-License-Identifier: MIT
 *
 * The numbers of a run (two trees of sums, three divisions, a root) are a chain of some
 * 150 cycles, in which nothing that needs them can begin. So the sums of run r + 1 come
 * before the application of run r, which the processor does while it waits. All that is
 * read and written of both stays in the first-level cache, if that holds five runs: two
 * of x, one of y, the weight and the bias. */

#define FN_L        one
#define lanes       double
#define FN_ROUND(x) ((double)(T)(x))
#include "finish_lanes.h"

/* As finish and affine do it, of run r. */
FN_WORD bool FN_KERNEL(finish_run)(const FN_KERNEL(run_sums) * s, T shift, size_t len,
                                   const fn_norm *n, size_t r, bool centered) {
  const FN_LANES(found) f =
      FN_LANES(find)(s->sum, s->sq, (double)shift, (double)len, n->eps, centered);
  const double rstd = FN_LANES(rstd)(f.var, n->eps);
  ((T *)n->scale)[r] = (T)rstd;
  if (centered) {
    ((T *)n->hi)[r] = (T)f.hi;
    ((T *)n->offset)[r] = (T)one_fnma(f.lo, rstd, 0.0);
  }
  return f.good & FN_LANES(may_scale)(rstd);
}

FN_WORD const T *FN_KERNEL(run)(const fn_runs *g, size_t r) {
  return (const T *)g->x + (ptrdiff_t)r * g->row_stride;
}

FN_WORD size_t FN_KERNEL(norm_each)(const fn_runs *g, const fn_norm *n, bool centered,
                                    int mode) {
  const fn_runs of = *g; /* copies, which no store can change */
  const fn_norm to = *n;
  const fn_samples samples = *n->samples;
  const FN_KERNEL(run_parameters)
      p = {to.y_row_stride, 0, to.hi, to.scale, to.offset, to.weight, to.bias};
  const fn_terms kind = centered ? FN_DEVIATIONS : FN_SQUARES;
  T shift = centered ? FN_KERNEL(shift_of_run)(of.x, &samples) : (T)0, next = shift;
  for (size_t r = 0;; r++, shift = next) {
    FN_KERNEL(run_sums) s = {0.0, 0.0};
    if (r < of.rows)
      s = FN_KERNEL(sums_of_run)(FN_KERNEL(run)(&of, r), of.len, shift, kind, of.far);
    if (centered && r + 1 < of.rows)
      next = FN_KERNEL(shift_of_run)(FN_KERNEL(run)(&of, r + 1), &samples);
    if (r > 0)
      FN_KERNEL(apply_from_run)
    (&of, r - 1, to.y, &p, centered, mode, 1, FASTNORM_DEFAULT, FASTNORM_DEFAULT,
     false);
    if (r == of.rows || !FN_KERNEL(finish_run)(&s, shift, of.len, &to, r, centered))
      return r;
  }
}

static size_t FN_KERNEL(norm_runs)(const fn_runs *g, const fn_norm *n) {
#if FN_PIPELINES > 1
  if (n->hi)
    return FN_KERNEL(norm_each)(g, n, true, 3);
#endif
  return FN_KERNEL(norm_each)(g, n, false, 1);
}

#undef FN_L
#undef lanes
#undef FN_ROUND
#undef FN_LANES
