/* weighted.c - sums of weighted elements, and moments from sums.
 * SPDX-License-Identifier: MIT
 *
 * Products and sums are of doubles, whatever the elements are: 16 additions in each of
 * four chains make a block, and blocks are added with compensation, so that the error
 * does not grow with the length. */
#include "weighted.h"

#include <math.h>
#include <string.h>

#include "compiler.h"

#define LANES 4
#define BLOCK 64

void fn_weights_read(const void *p, ptrdiff_t step, size_t element, size_t n,
                     double *w) {
  const char *from = p;
  float f;
  if (element == sizeof(float))
    for (size_t i = 0; i < n; i++, from += step) {
      memcpy(&f, from, sizeof(f));
      w[i] = (double)f;
    }
  else
    for (size_t i = 0; i < n; i++, from += step)
      memcpy(&w[i], from, sizeof(double));
}

static double of_lanes(const double *s) {
  return (s[0] + s[2]) + (s[1] + s[3]);
}

void fn_weights_sum(const double *w, size_t n, fn_sum *total) {
  for (size_t first = 0; first < n; first += BLOCK) {
    const size_t end = n - first < BLOCK ? n : first + BLOCK;
    double sum[LANES] = {0.0};
    for (size_t i = first; i < end; i++)
      sum[i % LANES] += w[i];
    fn_sum_add(total, of_lanes(sum));
  }
}

/* The lane's element; the choice keeps NaN out without a branch. */
#define ADD_ONE(lane)                                                                  \
  do {                                                                                 \
    const double v = *w, d = v > 0.0 ? (double)*x * scale - shift : 0.0, p = v * d;    \
    weight[lane] += v;                                                                 \
    sum[lane] += p;                                                                    \
    sq[lane] += p * d;                                                                 \
    x += x_step;                                                                       \
    w += w_step;                                                                       \
  } while (0)

#define ADD(T)                                                                         \
  static void add_##T(size_t n, const T *x, ptrdiff_t x_step, const double *w,         \
                      ptrdiff_t w_step, double scale, double shift,                    \
                      fn_weighted *sums) {                                             \
    for (size_t left = n; left > 0;) {                                                 \
      size_t some = left < BLOCK ? left : BLOCK;                                       \
      double weight[LANES] = {0.0}, sum[LANES] = {0.0}, sq[LANES] = {0.0};             \
      left -= some;                                                                    \
      for (; some >= LANES; some -= LANES) {                                           \
        ADD_ONE(0);                                                                    \
        ADD_ONE(1);                                                                    \
        ADD_ONE(2);                                                                    \
        ADD_ONE(3);                                                                    \
      }                                                                                \
      for (size_t lane = 0; lane < some; lane++)                                       \
        ADD_ONE(lane);                                                                 \
      fn_sum_add(&sums->weight, of_lanes(weight));                                     \
      fn_sum_add(&sums->sum, of_lanes(sum));                                           \
      fn_sum_add(&sums->sq, of_lanes(sq));                                             \
    }                                                                                  \
  }
ADD(float)
ADD(double)
#undef ADD
#undef ADD_ONE

void fn_weighted_add(fastnorm_dtype dtype, size_t n, const void *x, ptrdiff_t x_step,
                     const double *w, ptrdiff_t w_step, double scale, double shift,
                     fn_weighted *sums) {
  if (dtype == FASTNORM_FLOAT32)
    add_float(n, x, x_step, w, w_step, scale, shift, sums);
  else
    add_double(n, x, x_step, w, w_step, scale, shift, sums);
}

static void take_in(fn_sum *to, const fn_sum *from) {
  fn_sum_add(to, from->value);
  to->rounding += from->rounding;
}

void fn_weighted_merge(fn_weighted *to, const fn_weighted *from) {
  take_in(&to->weight, &from->weight);
  take_in(&to->sum, &from->sum);
  take_in(&to->sq, &from->sq);
}

/* The quotient and the square of the sum are taken with their roundings, so that whole
 * numbers give the exact result, rounded. */
fn_moment fn_moment_of(double shift, double n, const fn_sum *sum, const fn_sum *sq) {
  const double s = fn_sum_value(sum), m = s / n, rest = fma(-m, n, s) / n;
  const double share = s * m;
  fn_sum mean = {shift, rest}, m2 = *sq;
  fn_sum_add(&mean, m);
  fn_moment r = {.share = share, .finite = isfinite(s) && isfinite(fn_sum_value(sq))};
  if (!r.finite) {
    r.mean = shift + m;
    r.m2 = isfinite(s) ? (double)INFINITY : (double)NAN;
    return r;
  }
  fn_sum_add(&m2, -share);
  fn_sum_add(&m2, -(fma(s, m, -share) + s * rest));
  r.mean = mean.value + mean.rounding;
  r.mean_low = (mean.value - r.mean) + mean.rounding;
  r.m2 = m2.value + m2.rounding;
  r.m2_low = (m2.value - r.m2) + m2.rounding;
  if (r.m2 < 0.0)
    r.m2 = r.m2_low = 0.0;
  r.good = share <= r.m2;
  return r;
}
