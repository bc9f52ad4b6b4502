/* oracle.h - the exact answers: plain long double loops over the definition.
 * SPDX-License-Identifier: MIT
 *
 * The mean is kept as hi + lo: with an offset of 1e6 even the 64 bits of a long double
 * would leave more than the error that float64 results may have. */
#ifndef FN_TEST_ORACLE_H
#define FN_TEST_ORACLE_H

#include "job.h"

typedef struct group_truth {
  long double hi, lo; /* the mean; zero for RMS, L2 and L1 norm */
  long double m2;     /* sum of squared deviations from it */
  long double var;    /* biased */
  long double rstd;   /* 0 where var + eps is 0, as documented; of a length: 1 / it */
  long double length; /* what the norms that divide by one report */
  long double r, d;   /* 1 and 0 but for batch renormalization, and r before limits */
  long double ratio;
} group_truth;

/* Neumaier's sum: the error does not grow with the number of terms. */
typedef struct compensated {
  long double sum, rest;
} compensated;

static inline void add(compensated *c, long double value) {
  const long double t = c->sum + value;
  c->rest +=
      fabsl(c->sum) >= fabsl(value) ? (c->sum - t) + value : (value - t) + c->sum;
  c->sum = t;
}

static inline long double effective_eps(const job *j) {
  if (j->eps == FASTNORM_EPS_ZERO || j->op == WEIGHT_NORM) {
    return 0.0L;
  }
  if (j->eps != 0.0) {
    return (long double)j->eps;
  }
  if (is_length(j->op)) {
    return (long double)1e-12;
  }
  if (j->op == RMS_NORM) {
    return j->dtype == FASTNORM_FLOAT32 ? 0x1p-23L : 0x1p-52L;
  }
  return (long double)1e-5;
}

static inline long double group_x(const job *j, size_t g, size_t index) {
  const place p = group_element(j, g, index);
  return (long double)get(j->x, j->dtype, x_offset(j, p.i0, p.i1, p.i2));
}

static inline long double larger(long double a, long double b) {
  return a > b ? a : b;
}

static inline long double reciprocal_root(long double value) {
  return value == 0.0L ? 0.0L : 1.0L / sqrtl(value);
}

static inline long double limited(long double x, long double least, long double most) {
  return x < least ? least : x > most ? most : x;
}

/* Batch renormalization: r and d from t and the stored statistics. */
static inline void find_corrections(const job *j, size_t g, group_truth *t) {
  const long double mean = (long double)get(j->running_mean, j->dtype, (ptrdiff_t)g);
  const long double var = (long double)get(j->running_var, j->dtype, (ptrdiff_t)g);
  const long double rstd = reciprocal_root(var + effective_eps(j));
  const long double r_max = j->r_max > 0.0 ? (long double)j->r_max : 3.0L;
  const long double d_max = j->d_max < 0.0   ? 0.0L
                            : j->d_max > 0.0 ? (long double)j->d_max
                                             : 5.0L;
  t->ratio = sqrtl(t->var + effective_eps(j)) * rstd;
  t->r = limited(t->ratio, 1.0L / r_max, r_max);
  t->d = limited(((t->hi - mean) + t->lo) * rstd, -d_max, d_max);
}

static inline group_truth find_truth(const job *j, size_t g) {
  group_truth t = {.r = 1.0L};
  if (reads_stored(j->op)) {
    const ptrdiff_t at = (ptrdiff_t)stored_of(j, g);
    t.hi = (long double)get(j->running_mean, j->dtype, at);
    t.var = (long double)get(j->running_var, j->dtype, at);
    t.rstd = reciprocal_root(t.var + effective_eps(j));
    return t;
  }
  const size_t n = group_length(j);
  if (j->op != RMS_NORM && !is_length(j->op)) {
    compensated sum = {0.0L, 0.0L};
    for (size_t i = 0; i < n; i++) {
      add(&sum, group_x(j, g, i));
    }
    t.hi = (sum.sum + sum.rest) / (long double)n;
    compensated deviations = {0.0L, 0.0L};
    for (size_t i = 0; i < n; i++) {
      add(&deviations, group_x(j, g, i) - t.hi);
    }
    t.lo = (deviations.sum + deviations.rest) / (long double)n;
  }
  compensated squares = {0.0L, 0.0L}, magnitudes = {0.0L, 0.0L};
  for (size_t i = 0; i < n; i++) {
    const long double d = (group_x(j, g, i) - t.hi) - t.lo;
    add(&squares, d * d);
    add(&magnitudes, fabsl(d));
  }
  t.m2 = squares.sum + squares.rest;
  t.var = t.m2 / (long double)n;
  t.length = j->op == L1_NORM ? magnitudes.sum + magnitudes.rest : sqrtl(t.m2);
  if (is_length(j->op)) {
    const long double by = larger(t.length, effective_eps(j));
    t.rstd = by == 0.0L ? 0.0L : 1.0L / by;
  } else {
    t.rstd = reciprocal_root(t.var + effective_eps(j));
  }
  if (j->op == BATCH_RENORM) {
    find_corrections(j, g, &t);
  }
  return t;
}

/* Of each group; taken before the call, which may update the running statistics. */
static inline group_truth *find_truths(const job *j) {
  group_truth *truths = new_bytes(group_count(j) * sizeof *truths);
  for (size_t g = 0; g < group_count(j); g++) {
    truths[g] = find_truth(j, g);
  }
  return truths;
}

/* ---- Comparing ---------------------------------------------------------------- */

static inline long double bound_of(fastnorm_dtype dtype) {
  return dtype == FASTNORM_FLOAT32 ? 4e-7L : 1e-15L;
}

static inline long double smallest_of(fastnorm_dtype dtype) {
  return dtype == FASTNORM_FLOAT32 ? 0x1p-149L : 0x1p-1074L;
}

static inline long double largest_of(fastnorm_dtype dtype) {
  return dtype == FASTNORM_FLOAT32 ? (long double)FLT_MAX : (long double)DBL_MAX;
}

/* A root halves the error of its sum; a sum of magnitudes has all of it. */
static inline long double slack_of(const job *j) {
  return j->op != L1_NORM ? 1.0L : j->dtype == FASTNORM_FLOAT32 ? 2.0L : 3.0L;
}

/* |got - exact| <= bound * scale + one subnormal step; past the range, an infinity. */
static inline int is_close(double got, long double exact, long double scale,
                           fastnorm_dtype dtype) {
  if (fabsl(exact) > largest_of(dtype)) {
    return isinf(got) && (got > 0) == (exact > 0);
  }
  const long double error = fabsl((long double)got - exact);
  return error <= bound_of(dtype) * scale + smallest_of(dtype);
}

static inline const char *describe(const job *j, const char *what) {
  static char text[256];
  snprintf(text, sizeof text, "%s %s [%zu, %zu, %zu] %s%s eps %g on %s: %s",
           operation_names[j->op], dtype_name(j->dtype), j->n0, j->n1, j->n2,
           j->weight ? "w" : "", j->bias ? "b" : "", j->eps, fastnorm_isa(), what);
  return text;
}

/* The error of y relative to max(1, |y|), for lengths to |y| or the smallest normal
 * number; where a bias cancels the normalised value, relative to that value. */
static inline void check_y(const job *j, const group_truth *truths, const char *what) {
  const long double normal = j->dtype == FASTNORM_FLOAT32 ? FLT_MIN : DBL_MIN;
  for (size_t g = 0; g < group_count(j); g++) {
    const group_truth t = truths[g];
    for (size_t i = 0; i < group_length(j); i++) {
      const place p = group_element(j, g, i);
      const ptrdiff_t q = (ptrdiff_t)parameter_of(j, p);
      const long double w =
          j->weight != NULL ? (long double)get(j->weight, j->dtype, q) : 1.0L;
      const long double b =
          j->bias != NULL ? (long double)get(j->bias, j->dtype, q) : 0.0L;
      const long double plain = ((group_x(j, g, i) - t.hi) - t.lo) * t.rstd * w;
      const long double scaled = plain * t.r, moved = t.d * w;
      const long double exact = scaled + moved + b;
      const long double least = is_length(j->op) ? normal : 1.0L;
      /* what the batch's mean may be off by is relative to its deviation */
      const long double terms = fabsl(scaled) + fabsl(moved) + t.ratio * fabsl(w);
      const long double scale = larger(least, larger(terms, fabsl(exact)));
      const double got = get(j->y, j->dtype, y_offset(j, p.i0, p.i1, p.i2));
      if (!is_close(got, exact, scale * slack_of(j), j->dtype)) {
        fail("%s: group %zu element %zu is %.17g, not %.21Lg", describe(j, what), g, i,
             got, exact);
        return;
      }
    }
  }
}

static inline void check_statistics(const job *j, const group_truth *truths,
                                    const char *what) {
  for (size_t g = 0; g < group_count(j); g++) {
    const group_truth t = truths[g];
    const ptrdiff_t at = (ptrdiff_t)g;
    const long double std = sqrtl(t.var);
    if (j->op == MOMENTS) {
      const double mean = ((const double *)j->mean)[g];
      const double m2 = ((const double *)j->rstd)[g];
      const long double mean_error = fabsl((long double)mean - t.hi - t.lo);
      CHECK(mean_error <=
                bound_of(j->dtype) * std + 2.3e-16L * fabsl(t.hi) + 0x1p-1074L,
            "%s: mean %zu is %.17g, not %.21Lg", describe(j, what), g, mean, t.hi);
      const int m2_good =
          t.m2 > (long double)DBL_MAX
              ? isinf(m2) != 0
              : fabsl((long double)m2 - t.m2) <= bound_of(j->dtype) * t.m2 + 0x1p-1074L;
      CHECK(m2_good, "%s: m2 %zu is %.17g, not %.21Lg", describe(j, what), g, m2, t.m2);
      continue;
    }
    if (j->mean != NULL && j->op != RMS_NORM && !is_length(j->op)) {
      const double mean = get(j->mean, j->dtype, at);
      CHECK(is_close(mean, t.hi + t.lo, larger(std, fabsl(t.hi)), j->dtype),
            "%s: mean %zu is %.17g, not %.21Lg", describe(j, what), g, mean, t.hi);
    }
    if (j->rstd != NULL) {
      const double rstd = get(j->rstd, j->dtype, at);
      const long double exact = is_length(j->op) ? t.length : t.rstd;
      CHECK(is_close(rstd, exact, exact * slack_of(j), j->dtype),
            "%s: rstd %zu is %.17g, not %.21Lg", describe(j, what), g, rstd, exact);
    }
  }
}

#endif /* FN_TEST_ORACLE_H */
