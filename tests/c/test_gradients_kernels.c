/* test_gradients_kernels.c - the kernels of the gradients, one by one, on every ISA.
 * SPDX-License-Identifier: MIT
 *
 * Against long double, with numbers whose sums and products are exact in the type: so
 * every sum that is not made of all elements, once each, is seen. Padding holds NaN. */
#include "elements.h"
#include "guard.h"

enum { MOST = 1100, ROOM = 1 << 19 };

static fastnorm_dtype dtype; /* of the test that runs */
static unsigned char *rooms[2];

/* Small multiples of 1/4: sums of a million products of three of them are exact. */
static double number(rng *r) {
  return (double)(rng_below(r, 9) - 4) * 0.25;
}

/* n numbers that end where a page that nobody may touch begins. */
static void *guarded(int which, size_t n, rng *r) {
  unsigned char *p = rooms[which] + ROOM - n * element_size(dtype);
  for (size_t i = 0; i < n; i++)
    put(p, dtype, (ptrdiff_t)i, number(r));
  return p;
}

/* n numbers with padding of NaN. */
static void *padded(size_t n, rng *r) {
  const size_t all = (n + FN_PAD) / FN_PAD * FN_PAD + FN_PAD;
  void *p = new_bytes(all * sizeof(double));
  for (size_t i = 0; i < all; i++)
    put(p, dtype, (ptrdiff_t)i, i < n ? number(r) : (double)NAN);
  return p;
}

typedef struct setting {
  fn_pairs p;
  size_t factors; /* per run or column */
  bool per_column;
  void *arrays[5];
  void *a, *b, *c, *y;
} setting;

static double at(const void *p, size_t i) {
  return p ? get(p, dtype, (ptrdiff_t)i) : 0.0;
}

/* `which` says what there is: 1 hi, 2 weight, 4 shift, 8 offset. */
static setting new_setting(size_t rows, size_t segs, size_t len, bool per_column,
                           int which) {
  rng r = {rows * 1000 + segs * 100 + len + (size_t)which};
  setting s = {.factors = per_column ? len : rows, .per_column = per_column};
  const size_t weights = per_column ? rows : len, row = segs * len + 5;
  for (int i = 0; i < 4; i++)
    s.arrays[i] = padded(s.factors, &r);
  s.arrays[4] = padded(weights, &r);
  s.a = padded(s.factors, &r);
  s.b = padded(s.factors, &r);
  s.c = padded(s.factors, &r);
  s.y = new_bytes((rows * row + FN_PAD) * sizeof(double));
  s.p = (fn_pairs){.g = guarded(0, rows * row - 5, &r),
                   .x = guarded(1, rows * row - 5, &r),
                   .rows = rows,
                   .segs = segs,
                   .len = len,
                   .g_row_stride = (ptrdiff_t)row,
                   .x_row_stride = (ptrdiff_t)row,
                   .g_seg_stride = (ptrdiff_t)len,
                   .x_seg_stride = (ptrdiff_t)len,
                   .scale = s.arrays[0],
                   .hi = which & 1 ? s.arrays[1] : NULL,
                   .weight = which & 2 ? s.arrays[4] : NULL,
                   .shift = which & 4 ? s.arrays[2] : NULL,
                   .offset = which & 8 ? s.arrays[3] : NULL};
  return s;
}

static void free_setting(setting *s) {
  for (int i = 0; i < 5; i++)
    free(s->arrays[i]);
  free(s->a);
  free(s->b);
  free(s->c);
  free(s->y);
}

/* What the header says of one element. */
typedef struct element_truth {
  long double g, d, t, less;
} element_truth;

static element_truth truth_at(const setting *s, size_t r, size_t seg, size_t i) {
  const fn_pairs *p = &s->p;
  const size_t k = s->per_column ? i : r;
  const size_t e = r * (size_t)p->g_row_stride + seg * p->len + i;
  const long double x = (long double)at(p->x, e), g = (long double)at(p->g, e);
  const long double w =
      p->weight ? (long double)at(p->weight, s->per_column ? r : i) : 1.0L;
  const long double less = p->hi ? x - (long double)at(p->hi, k) : x;
  return (element_truth){.g = g,
                         .d = g * w - (long double)at(p->shift, k),
                         .t = less * (long double)at(p->scale, k) +
                              (p->hi ? (long double)at(p->offset, k) : 0.0L),
                         .less = less};
}

static void check_sum(const setting *s, const char *what, size_t i, double got,
                      long double wanted) {
  CHECK((long double)got == wanted,
        "%s of %s [%zu, %zu, %zu] on %s: %zu is %.17g, not %Lg", what,
        dtype_name(dtype), s->p.rows, s->p.segs, s->p.len, fastnorm_isa(), i, got,
        wanted);
}

static void check_products_runs(size_t rows, size_t segs, size_t len, int which) {
  setting s = new_setting(rows, segs, len, false, which);
  const bool centered = which & 1;
  double d[MOST], dt[MOST], x[MOST];
  for (size_t i = 0; i < MOST; i++)
    d[i] = dt[i] = x[i] = -7.0;
  kernels_of(dtype)->products_runs(&s.p, which & 4 ? d : NULL, dt, centered ? x : NULL);
  for (size_t r = 0; r < rows; r++) {
    long double sum[3] = {0.0L, 0.0L, 0.0L};
    for (size_t i = 0; i < segs * len; i++) {
      const element_truth e = truth_at(&s, r, i / len, i % len);
      sum[0] += e.d;
      sum[1] += e.d * e.t;
      sum[2] += e.less;
    }
    if (which & 4)
      check_sum(&s, "d", r, d[r], sum[0]);
    check_sum(&s, "d * t", r, dt[r], sum[1]);
    if (centered)
      check_sum(&s, "x - hi", r, x[r], sum[2]);
  }
  CHECK(dt[rows] == -7.0 && d[rows] == -7.0 && x[rows] == -7.0,
        "products_runs wrote behind %zu runs", rows);
  free_setting(&s);
}

static void check_products_columns(size_t rows, size_t len, int which) {
  setting s = new_setting(rows, 1, len, true, which);
  double d[MOST], dt[MOST], x[MOST];
  for (size_t i = 0; i < MOST; i++)
    d[i] = dt[i] = x[i] = 1.5; /* they are added to */
  kernels_of(dtype)->products_columns(&s.p, which & 4 ? d : NULL, dt,
                                      which & 1 ? x : NULL);
  for (size_t c = 0; c < len; c++) {
    long double sum[3] = {1.5L, 1.5L, 1.5L};
    for (size_t r = 0; r < rows; r++) {
      const element_truth e = truth_at(&s, r, 0, c);
      sum[0] += e.d;
      sum[1] += e.d * e.t;
      sum[2] += e.less;
    }
    check_sum(&s, "d of a column", c, d[c], which & 4 ? sum[0] : 1.5L);
    check_sum(&s, "d * t of a column", c, dt[c], sum[1]);
    check_sum(&s, "x - hi of a column", c, x[c], which & 1 ? sum[2] : 1.5L);
  }
  free_setting(&s);
}

/* Sums across rows, which were 2.5 before. */
static void check_sums_across(const setting *s, const double *g, const double *gt) {
  for (size_t c = 0; c < s->p.len; c++) {
    long double sum[2] = {2.5L, 2.5L};
    for (size_t r = 0; r < s->p.rows; r++) {
      const element_truth e = truth_at(s, r, 0, c);
      sum[0] += e.g;
      sum[1] += e.g * e.t;
    }
    if (g)
      check_sum(s, "g across rows", c, g[c], sum[0]);
    check_sum(s, "g * t across rows", c, gt[c], sum[1]);
  }
}

/* The elements between rows were -7. */
static void check_written(const setting *s, const void *y) {
  const size_t row = (size_t)s->p.g_row_stride, len = s->p.len, all = s->p.segs * len;
  for (size_t r = 0; r < s->p.rows; r++) {
    for (size_t i = 0; i < all; i++) {
      const element_truth e = truth_at(s, r, i / len, i % len);
      const size_t k = s->per_column ? i : r;
      check_sum(s, "gradient", r * all + i, at(y, r * row + i),
                e.t * (long double)at(s->b, k) +
                    (e.d * (long double)at(s->a, k) + (long double)at(s->c, k)));
    }
    if (r + 1 < s->p.rows)
      check_sum(s, "between rows", r, at(y, r * row + all), -7.0L);
  }
}

/* s.y, `shift` elements on, all of it -7. */
static fn_gradient output_of(const setting *s, size_t shift, bool stream) {
  for (size_t i = 0; i < s->p.rows * (size_t)s->p.g_row_stride; i++)
    put(s->y, dtype, (ptrdiff_t)(i + shift), -7.0);
  return (fn_gradient){.a = s->a,
                       .b = s->b,
                       .c = s->c,
                       .y = (char *)s->y + shift * element_size(dtype),
                       .row_stride = s->p.g_row_stride,
                       .seg_stride = (ptrdiff_t)s->p.len,
                       .stream = stream};
}

/* What no sum may hold; put into the last row of g. */
static void put_bad(const setting *s, size_t k) {
  const double bad[] = {(double)NAN, (double)INFINITY,
                        dtype == FASTNORM_FLOAT64 ? 1e300 : 3e38};
  const size_t last = (s->p.rows - 1) * (size_t)s->p.g_row_stride;
  put((void *)s->p.g, dtype, (ptrdiff_t)(last + s->p.len / 2), bad[k]);
}

static void check_products_rows(size_t rows, size_t len, int which) {
  setting s = new_setting(rows, 1, len, false, which & 9);
  double g[MOST], gt[MOST];
  for (size_t i = 0; i < MOST; i++)
    g[i] = gt[i] = 2.5;
  CHECK(kernels_of(dtype)->products_rows(&s.p, which & 2 ? g : NULL, gt),
        "products_rows: out of range");
  check_sums_across(&s, which & 2 ? g : NULL, gt);
  CHECK(which & 2 || g[0] == 2.5, "products_rows: a sum of g that nobody wants");
  for (size_t k = 0; k < 3; k++) {
    const double before = gt[0];
    put_bad(&s, k);
    CHECK(!kernels_of(dtype)->products_rows(&s.p, g, gt), "bad %zu was not seen", k);
    CHECK(gt[0] == before, "bad %zu: sums were added", k);
  }
  free_setting(&s);
}

static void check_gradient_rows(size_t len, int which) {
  setting s = new_setting(FN_PRODUCT_ROWS, 1, len, false, which | 2);
  const size_t bytes = FN_PRODUCT_ROWS * (size_t)s.p.g_row_stride * element_size(dtype);
  void *wanted = new_bytes(bytes);
  double g[MOST], gt[MOST];
  for (size_t shift = 0; shift < 2; shift++) {
    const fn_gradient y = output_of(&s, shift, false);
    for (size_t i = 0; i < MOST; i++)
      g[i] = gt[i] = 2.5;
    CHECK(kernels_of(dtype)->gradient_rows(&s.p, &y, len % 3 ? g : NULL, gt),
          "gradient_rows: out of range");
    check_sums_across(&s, len % 3 ? g : NULL, gt);
    check_written(&s, y.y);
  }
  /* Where no sums are added the gradient is still that of gradient_runs. */
  for (size_t k = 0; k < 3; k++) {
    const double before = gt[0];
    put_bad(&s, k);
    fn_gradient y = output_of(&s, 0, false);
    kernels_of(dtype)->gradient_runs(&s.p, &y);
    memcpy(wanted, y.y, bytes);
    y = output_of(&s, 0, false);
    CHECK(!kernels_of(dtype)->gradient_rows(&s.p, &y, g, gt), "bad %zu not seen", k);
    CHECK(gt[0] == before, "bad %zu: sums were added", k);
    CHECK(memcmp(wanted, y.y, bytes) == 0, "bad %zu: not gradient_runs of %zu", k, len);
  }
  free(wanted);
  free_setting(&s);
}

static void check_gradient(size_t rows, size_t segs, size_t len, bool per_column,
                           int which, bool stream) {
  setting s = new_setting(rows, segs, len, per_column, which);
  for (size_t shift = 0; shift < 3; shift++) {
    const fn_gradient y = output_of(&s, shift, stream);
    if (per_column)
      kernels_of(dtype)->gradient_columns(&s.p, &y);
    else
      kernels_of(dtype)->gradient_runs(&s.p, &y);
    check_written(&s, y.y);
  }
  free_setting(&s);
}

static void check_length(size_t len) {
  const int which = (int)(len % 16);
  check_products_runs(1 + len % 37, 1, len, which);
  check_products_runs(2, 1 + len % 5, len, which ^ 5);
  check_products_columns(1 + len % 40, len, which);
  if (len <= FN_PRODUCT_COLUMNS) {
    check_products_rows(1 + len % FN_PRODUCT_ROWS, len, which);
    check_gradient_rows(len, which);
  }
  check_gradient(1 + len % 5, 1, len, false, which, len % 2);
  check_gradient(2, 3, len, false, which ^ 3, false);
  check_gradient(1 + len % 5, 1, len, true, which ^ 9, len % 2);
}

static void kernels_here(void) {
  static const size_t larger[] = {255, 256, 257, 511, 512, 513, 1000, 1024};
  for (int type = 0; type < 2; type++) {
    dtype = working_type(type);
    for (size_t len = 1; len <= AT_LEVEL(140, 40, 34); len++)
      check_length(len);
    for (size_t i = 0; i < LENGTH(larger); i++)
      check_length(larger[i]);
    for (int which = 0; which < 16; which++) {
      check_products_runs(33, 2, 37, which);
      check_products_columns(35, 37, which);
      check_products_rows(16, 70, which);
      check_gradient_rows(90, which);
      check_gradient_rows(507, which); /* rows of whole pages of double */
      check_gradient(3, 1, 200, false, which, true);
      check_gradient(3, 1, 200, true, which, true);
    }
  }
}

static void kernels(void) {
  rooms[0] = new_room(ROOM);
  rooms[1] = new_room(ROOM);
  snprintf(running_now, sizeof running_now, "a kernel of the gradients");
  each_isa(kernels_here);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {{"kernels", kernels}};
  return RUN_TESTS(argc, argv, tests);
}
