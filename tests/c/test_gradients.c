/* test_gradients.c - gradients of the norms of rows against the exact answers.
 * SPDX-License-Identifier: MIT
 */
#include "gradients.h"

static void on_each_isa(const row_call *c, const row_truth *t, const char *what) {
  const char *name;
  for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
    fastnorm_set_isa(name);
    const fastnorm_status s = run_row_call(c);
    CHECK(s == FASTNORM_OK, "%s: %s", describe_row_call(c, what), fastnorm_strerror(s));
    check_row_call(c, t, what);
  }
  fastnorm_set_isa(NULL);
}

/* Statistics that the type cannot hold cannot be given. */
static void drop_lost_statistics(row_call *c) {
  const double least = c->dtype == FASTNORM_FLOAT64 ? DBL_MIN : (double)FLT_MIN;
  for (size_t i = 0; c->rstd != NULL && i < c->rows * inner_of(c); i++) {
    const double rstd = get(c->rstd, c->dtype, (ptrdiff_t)i);
    if (isinf(rstd) || (rstd != 0.0 && rstd < least)) {
      free((void *)c->mean);
      free((void *)c->rstd);
      c->mean = c->rstd = NULL;
    }
  }
}

static void check_exact(row_call shape, pattern g, pattern x, unsigned variant) {
  char what[64];
  shape.eps = variant & 4 ? FASTNORM_EPS_ZERO : variant & 8 ? 1e-3 : 0.0;
  row_call c = new_row_call(shape, g, x, variant);
  drop_lost_statistics(&c);
  const row_truth t = find_row_truth(&c);
  snprintf(what, sizeof what, "g %s, x %s", pattern_names[g], pattern_names[x]);
  on_each_isa(&c, &t, what);
  row_truth mutable_truth = t;
  free_truth(&mutable_truth);
  free_row_call(&c);
}

static void each_kind(size_t rows, size_t cols, size_t inner, pattern g, pattern x) {
  for (int of = 0; of < ROW_GRADIENTS; of++)
    for (int type = 0; type < 2; type++) {
      row_call c = {.of = (row_gradient)of,
                    .dtype = working_type(type),
                    .rows = rows,
                    .cols = cols,
                    .inner = inner};
      const unsigned variant =
          (unsigned)(rows * 5 + cols * 3 + inner + (size_t)type * 7 + (size_t)g + x);
      check_exact(c, g, x, variant % 16);
    }
}

static void shapes(void) {
  static const size_t larger[] = {255, 256, 257, 511, 512, 513, 1000, 2049, 4097};
  for (size_t cols = 1; cols <= 70; cols += AT_LEVEL(1, 1, 3)) {
    each_kind(1 + cols % 37, cols, 1, NORMAL, NORMAL);
    each_kind(1 + cols % 3, cols, 2 + cols % 5, NORMAL, OFFSET_1E3);
  }
  for (size_t i = 0; i < LENGTH(larger) - AT_LEVEL(0, 4, 5); i++) {
    each_kind(i + 1, larger[i], 1, NORMAL, OFFSET_100);
    each_kind(1, larger[i], 3, NORMAL, NORMAL);
    each_kind(larger[i], 5, 1, OFFSET_1E3, NORMAL);
    each_kind(2, 3, larger[i], NORMAL, NORMAL);
  }
  each_kind(2, AT_LEVEL(40000, 9000, 9000), 1, NORMAL, OFFSET_1E4);
  each_kind(1, AT_LEVEL(9000, 2000, 500), 33, NORMAL, OFFSET_1E4);
}

static void hostile(void) {
  static const size_t sizes[][3] = {{3, 2, 1},   {2, 40, 1}, {3, 300, 1},
                                    {19, 65, 1}, {2, 33, 4}, {1, 20, 40}};
  for (int g = 0; g < PATTERNS; g++)
    for (int x = 0; x < PATTERNS; x++)
      for (size_t i = 0; i < LENGTH(sizes); i++)
        if ((g + x + (int)i) % AT_LEVEL(1, 5, 17) == 0)
          each_kind(sizes[i][0], sizes[i][1], sizes[i][2], (pattern)g, (pattern)x);
}

/* Rows that want more than one part, with values that are not plain. */
static void hostile_long(void) {
  static const pattern some[] = {TINY, EXTREME, CONSTANT, OUTLIER_FIRST, SUBNORMAL};
  for (size_t i = 0; i < LENGTH(some); i++) {
    const size_t only = AT_LEVEL(3, 3, i % 3);
    if (only == 0 || only == 3)
      each_kind(2, 9001, 1, some[i], NORMAL);
    if (only == 1 || only == 3)
      each_kind(2, 9001, 1, NORMAL, some[i]);
    if (only == 2 || only == 3)
      each_kind(1, 2100, 3, some[i], some[(i + 1) % LENGTH(some)]);
  }
}

static void weights_plus_one(void) {
  static const fastnorm_rms_mode modes[] = {FASTNORM_RMS_ONE_PLUS_WEIGHT,
                                            FASTNORM_RMS_CAST_BEFORE_WEIGHT};
  for (size_t i = 0; i < LENGTH(modes); i++)
    for (int type = 0; type < 2; type++)
      for (size_t inner = 1; inner <= 3; inner += 2) {
        const row_call c = {.of = OF_RMS,
                            .dtype = working_type(type),
                            .rows = 5,
                            .cols = 77,
                            .inner = inner,
                            .mode = modes[i]};
        check_exact(c, NORMAL, NORMAL, 1);
      }
}

/* ---- Zeros that theory promises -------------------------------------------------- */

static int all_zero(const void *p, fastnorm_dtype dtype, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (!(get(p, dtype, (ptrdiff_t)i) == 0.0))
      return 0;
  return 1;
}

static void check_zeros(size_t rows, size_t cols, size_t inner, fastnorm_dtype dtype,
                        unsigned variant) {
  static const pattern xs[] = {NORMAL, OFFSET_1E6, CONSTANT, CONSTANT_HUGE, TINY};
  for (int of = 0; of < ROW_GRADIENTS; of++)
    for (size_t k = 0; k < LENGTH(xs); k++) {
      const size_t all = rows * cols * inner;
      const row_call shape = {.of = (row_gradient)of,
                              .dtype = dtype,
                              .rows = rows,
                              .cols = cols,
                              .inner = inner,
                              .eps = variant & 4 ? FASTNORM_EPS_ZERO : 0.0};
      row_call c = new_row_call(shape, ZEROS, xs[k], variant);
      drop_lost_statistics(&c);
      run_row_call(&c);
      CHECK(all_zero(c.grad_x, dtype, all), "%s", describe_row_call(&c, "g = 0"));
      CHECK(!c.grad_weight || all_zero(c.grad_weight, dtype, cols), "%s",
            describe_row_call(&c, "g = 0: grad_weight"));
      free_row_call(&c);
      const pattern gs[] = {CONSTANT, CONSTANT_HUGE, CONSTANT_SUBNORMAL};
      for (size_t g = 0; g < LENGTH(gs); g++) {
        c = new_row_call(shape, gs[g], xs[k], variant & ~1U);
        drop_lost_statistics(&c);
        run_row_call(&c);
        CHECK(of != OF_LAYER || all_zero(c.grad_x, dtype, all), "%s",
              describe_row_call(&c, "constant g"));
        free_row_call(&c);
      }
      c = new_row_call(shape, NORMAL, k % 2 ? CONSTANT : CONSTANT_HUGE, variant);
      drop_lost_statistics(&c);
      run_row_call(&c);
      CHECK(of != OF_LAYER || all_zero(c.grad_weight, dtype, cols), "%s",
            describe_row_call(&c, "constant x: grad_weight"));
      CHECK(of != OF_LAYER || cols > 1 || all_zero(c.grad_x, dtype, all), "%s",
            describe_row_call(&c, "one column"));
      for (size_t i = 0; i < all; i++)
        CHECK(isfinite(get(c.grad_x, dtype, (ptrdiff_t)i)), "%s",
              describe_row_call(&c, "constant x"));
      free_row_call(&c);
    }
}

static void zeros(void) {
  static const size_t sizes[] = {1, 2, 3, 31, 64, 100, 513};
  for (size_t i = 0; i < LENGTH(sizes); i++)
    for (int type = 0; type < 2; type++)
      for (unsigned variant = 0; variant < 8; variant += AT_LEVEL(1, 1, 3)) {
        check_zeros(3, sizes[i], 1, working_type(type), variant);
        check_zeros(2, sizes[i], 3, working_type(type), variant);
      }
  check_zeros(1, AT_LEVEL(20000, 20000, 9001), 1, FASTNORM_FLOAT32, 0);
}

/* L2 norm: below eps it is a division, and zeros without eps have the gradient 0. */
static void l2_below_eps(void) {
  float x[4] = {0.0F, 0.0F, 0.0F, 0.0F}, g[4] = {1.0F, -2.0F, 3.0F, 0.5F}, y[4];
  row_call c = {.of = OF_L2,
                .dtype = FASTNORM_FLOAT32,
                .rows = 1,
                .cols = 4,
                .g = g,
                .x = x,
                .grad_x = y,
                .eps = 0.25};
  CHECK(run_row_call(&c) == FASTNORM_OK, "refused");
  for (int i = 0; i < 4; i++)
    CHECK(y[i] == 4.0F * g[i], "zeros: %g", (double)y[i]);
  c.eps = FASTNORM_EPS_ZERO;
  run_row_call(&c);
  for (int i = 0; i < 4; i++)
    CHECK(y[i] == 0.0F, "zeros without eps: %g", (double)y[i]);
  c.eps = 1e-30; /* whose reciprocal is out of the plain range */
  run_row_call(&c);
  for (int i = 0; i < 4; i++)
    CHECK(fabs((double)y[i] / ((double)g[i] * 1e30) - 1.0) < 1e-6, "1e-30: %g",
          (double)y[i]);
}

/* ---- Not finite ------------------------------------------------------------------ */

static void check_other_rows(const row_call *clean, const row_call *spoilt, size_t set,
                             const char *what) {
  for (size_t r = 0; r < clean->rows; r++)
    for (size_t k = 0; k < clean->cols * inner_of(clean); k++) {
      const size_t own = r * inner_of(clean) + k % inner_of(clean);
      const size_t at =
          (r * clean->cols * inner_of(clean) + k) * element_size(clean->dtype);
      const char *a = clean->grad_x, *b = spoilt->grad_x;
      CHECK(own == set || memcmp(a + at, b + at, element_size(clean->dtype)) == 0,
            "%s: row %zu changed by %zu", describe_row_call(clean, what), own, set);
    }
}

static void check_not_finite(row_call shape, double bad, unsigned variant) {
  row_call clean = new_row_call(shape, NORMAL, NORMAL, variant);
  run_row_call(&clean);
  const size_t inner = inner_of(&shape), set = shape.rows * inner / 2;
  const size_t j = shape.cols / 3;
  for (int in_x = 0; in_x < 2; in_x++) {
    row_call spoilt = new_row_call(shape, NORMAL, NORMAL, variant);
    const size_t at = row_place(&shape, 0, set / inner, j, set % inner);
    put((void *)(in_x ? spoilt.x : spoilt.g), shape.dtype, (ptrdiff_t)at, bad);
    if (in_x && spoilt.rstd) { /* what the forward says of such a row */
      if (spoilt.mean)
        put((void *)spoilt.mean, shape.dtype, (ptrdiff_t)set, (double)NAN);
      put((void *)spoilt.rstd, shape.dtype, (ptrdiff_t)set, (double)NAN);
    }
    run_row_call(&spoilt);
    check_other_rows(&clean, &spoilt, set, in_x ? "bad x" : "bad g");
    const double own = get(spoilt.grad_x, shape.dtype, (ptrdiff_t)at);
    CHECK(!isfinite(own), "%s: %g became %g", describe_row_call(&shape, "its own"), bad,
          own);
    for (size_t k = 0; k < shape.cols; k++) { /* columns of g that have none */
      const ptrdiff_t i = (ptrdiff_t)k;
      if (!in_x && k != j && shape.of != OF_L2)
        CHECK(get(clean.grad_weight, shape.dtype, i) ==
                      get(spoilt.grad_weight, shape.dtype, i) ||
                  variant & 8 ||
                  fabs(get(clean.grad_weight, shape.dtype, i) -
                       get(spoilt.grad_weight, shape.dtype, i)) < 1e-4,
              "%s: grad_weight %zu", describe_row_call(&shape, "bad g"), k);
      if (shape.of == OF_LAYER && (in_x || k != j))
        CHECK(isfinite(get(spoilt.grad_bias, shape.dtype, i)), "%s: grad_bias %zu",
              describe_row_call(&shape, "bad g"), k);
    }
    if (!in_x && shape.of != OF_L2)
      CHECK(!isfinite(get(spoilt.grad_weight, shape.dtype, (ptrdiff_t)j)),
            "%s: a finite grad_weight", describe_row_call(&shape, "bad g"));
    free_row_call(&spoilt);
  }
  free_row_call(&clean);
}

static void not_finite_stays_in_its_row(void) {
  static const double bad[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
  static const size_t sizes[][3] = {{5, 3, 1}, {40, 70, 1}, {3, 600, 1}, {2, 30, 5}};
  for (int of = 0; of < ROW_GRADIENTS; of++)
    for (int type = 0; type < 2; type++)
      for (size_t i = 0; i < LENGTH(sizes); i++)
        for (size_t k = 0; k < LENGTH(bad); k++) {
          const row_call c = {.of = (row_gradient)of,
                              .dtype = working_type(type),
                              .rows = sizes[i][0],
                              .cols = sizes[i][1],
                              .inner = sizes[i][2]};
          check_not_finite(c, bad[k], (unsigned)(i + k) % 4);
        }
}

/* ---- The exact answers themselves ------------------------------------------------ */

static long double loss(statistics how, size_t n, const long double *gw,
                        const long double *x, long double eps) {
  long double x_hat[16], grad_x[16], sum = 0.0L;
  exact e = {n, gw, x, eps, grad_x, x_hat, 0.0L, 0.0L};
  exact_x_hat(how, &e);
  for (size_t i = 0; i < n; i++)
    sum += gw[i] * x_hat[i];
  return sum;
}

/* Central differences of the sum of gw * x_hat. */
static void finite_differences(void) {
  const long double h = 0x1p-16L;
  rng r = {77};
  for (int how = 0; how < 3; how++)
    for (size_t n = 2; n <= 16; n++) {
      long double gw[16], x[16], grad_x[16], x_hat[16];
      for (size_t i = 0; i < n; i++) {
        gw[i] = (long double)rng_normal(&r);
        x[i] = (long double)rng_normal(&r) + 2.0L;
      }
      const long double eps = n % 2 ? 0.1L : how == LENGTH_OF && n == 4 ? 100.0L : 0.0L;
      exact e = {n, gw, x, eps, grad_x, x_hat, 0.0L, 0.0L};
      exact_gradient((statistics)how, &e);
      for (size_t i = 0; i < n; i++) {
        const long double own = x[i];
        x[i] = own + h;
        const long double above = loss((statistics)how, n, gw, x, eps);
        x[i] = own - h;
        const long double below = loss((statistics)how, n, gw, x, eps);
        x[i] = own;
        const long double slope = (above - below) / (2.0L * h);
        CHECK(fabsl(slope - grad_x[i]) < 1e-7L * (1.0L + e.size),
              "kind %d, %zu values: %.12Lg, not %.12Lg", how, n, grad_x[i], slope);
      }
    }
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"finite_differences", finite_differences},
      {"shapes", shapes},
      {"hostile", hostile},
      {"hostile_long", hostile_long},
      {"weights_plus_one", weights_plus_one},
      {"zeros", zeros},
      {"l2_below_eps", l2_below_eps},
      {"not_finite_stays_in_its_row", not_finite_stays_in_its_row},
  };
  return RUN_TESTS(argc, argv, tests);
}
