/* running.c - running statistics: averages of mean and variance over batches.
 * SPDX-License-Identifier: MIT */
#include "running.h"

#include "compiler.h"
#include "slow.h"

FN_WORD double average(double factor, double before, double now) {
  return (1.0 - factor) * before + factor * now;
}

/* One loop per dtype, without a branch: the compiler makes vectors of it. */
#define UPDATE(T)                                                                      \
  static void update_##T(const fn_running *r, size_t first, size_t n, const T *hi,     \
                         const T *lo, const double *var) {                             \
    T *running_mean = (T *)r->mean + first, *running_var = (T *)r->var + first;        \
    const double factor = r->factor, unbias = r->unbias;                               \
    for (size_t i = 0; i < n; i++) {                                                   \
      const double mean = (double)hi[i] + (lo ? (double)lo[i] : 0.0);                  \
      running_mean[i] = (T)average(factor, (double)running_mean[i], mean);             \
      running_var[i] = (T)average(factor, (double)running_var[i], var[i] * unbias);    \
    }                                                                                  \
  }
UPDATE(float)
UPDATE(double)
#undef UPDATE

void fn_running_update(const fn_running *r, size_t first, size_t n, const void *hi,
                       const void *lo, const double *var) {
  if (r->dtype == FASTNORM_FLOAT32)
    update_float(r, first, n, hi, lo, var);
  else
    update_double(r, first, n, hi, lo, var);
}

void fn_running_update_one(const fn_running *r, size_t c, double mean, double var) {
  fn_set(r->dtype, r->mean, c, average(r->factor, fn_get(r->dtype, r->mean, c), mean));
  fn_set(r->dtype, r->var, c,
         average(r->factor, fn_get(r->dtype, r->var, c), var * r->unbias));
}
