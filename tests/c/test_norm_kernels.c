/* test_norm_kernels.c - runs normed in a pipeline, on every ISA that has one: the same
 * bits as the kernels one by one.
 * SPDX-License-Identifier: MIT
 *
 * All arrays end where a page that nobody may touch begins, and what lies between runs
 * of y stays, as do the runs from the first on that is not done. */
#include "elements.h"
#include "guard.h"
#include "runs.h"

enum { ROOM = 1 << 18, MOST_ROWS = 9 };

static fastnorm_dtype dtype; /* of the test that runs */
static unsigned char *rooms[4];
static void *wanted;

typedef struct layout {
  size_t rows, len, apart; /* elements between one run and the next */
  bool centered, in_place, far;
  size_t bad; /* the run that holds `value` */
  double value;
} layout;

/* n numbers up to the protected page. */
static void *guarded(int room, size_t n, rng *r) {
  unsigned char *p = rooms[room] + ROOM - n * element_size(dtype);
  for (size_t i = 0; i < n; i++)
    put(p, dtype, (ptrdiff_t)i, rng_normal(r) + 3.0);
  return p;
}

typedef struct numbers {
  fn_group_array shift, hi, lo, scale, offset;
  double sum[FN_GROUP], sq[FN_GROUP], var[FN_GROUP];
} numbers;

/* What the kernels find of one run, which may be good for nothing. */
static bool find(const fn_kernels *k, const fn_runs *g, size_t r, double eps,
                 bool centered, const fn_samples *samples, numbers *n) {
  const fn_runs one = fn_run_alone(g, dtype, r);
  if (centered)
    k->shift_runs(&one, samples, &n->shift);
  k->moments_runs(&one, centered ? &n->shift : NULL, n->sum, n->sq);
  const bool good = k->finish(1, (double)g->len, eps, n->sum, n->sq,
                              centered ? &n->shift : NULL, &n->hi, &n->lo, n->var);
  return k->affine(1, n->var, eps, NULL, centered ? &n->lo : NULL, NULL, NULL, NULL,
                   &n->scale, centered ? &n->offset : NULL) &&
         good;
}

/* All samples of the run from x on: so its shift is far from its mean, if they are less
 * than half of it. */
static void put_samples(void *x, const fn_samples *s, double value) {
  for (size_t i = 0; i < s->count; i++)
    for (size_t k = 0; k < s->n[i]; k++)
      put(x, dtype, s->at[i] + (ptrdiff_t)k, value);
}

static void same_number(const layout *l, const char *what, size_t r, const void *got,
                        const void *want) {
  const double a = get(got, dtype, (ptrdiff_t)r), b = get(want, dtype, 0);
  CHECK(a == b, "%s of run %zu of [%zu, %zu], %s, %s, on %s: %.17g, not %.17g", what, r,
        l->rows, l->len, l->centered ? "centered" : "not centered", dtype_name(dtype),
        fastnorm_isa(), a, b);
}

static void check(const layout *l) {
  const fn_kernels *k = kernels_of(dtype);
  const size_t row = l->len + l->apart, all = (l->rows - 1) * row + l->len;
  const size_t bytes = all * element_size(dtype);
  rng rand = {l->rows * 7919 + l->len * 31 + l->apart};
  void *x = guarded(0, all, &rand), *weight = guarded(1, l->len, &rand);
  void *bias = guarded(2, l->len, &rand), *y = guarded(3, all, &rand);
  const fn_runs g = {.x = x,
                     .rows = l->rows,
                     .row_stride = (ptrdiff_t)row,
                     .segs = 1,
                     .len = l->len,
                     .far = l->far};
  const double eps = 1e-5;
  fn_samples samples;
  numbers n;
  fn_group_array hi, scale, offset;
  fn_run_samples(&g, dtype, &samples);
  if (l->bad < l->rows && l->value == 100.0)
    put_samples((char *)x + l->bad * row * element_size(dtype), &samples, l->value);
  else if (l->bad < l->rows)
    put(x, dtype, (ptrdiff_t)(l->bad * row + l->len / 2), l->value);
  if (l->in_place)
    y = memcpy(y, x, bytes);
  memcpy(wanted, y, bytes);
  const fn_norm norm = {.samples = &samples,
                        .eps = eps,
                        .y = y,
                        .y_row_stride = (ptrdiff_t)row,
                        .hi = l->centered ? &hi : NULL,
                        .scale = &scale,
                        .offset = &offset,
                        .weight = weight,
                        .bias = bias};
  fn_runs of = g;
  if (l->in_place)
    of.x = y;
  const size_t done = k->norm_runs(&of, &norm);
  size_t r = 0;
  for (; r < l->rows && find(k, &g, r, eps, l->centered, &samples, &n); r++) {
    const fn_runs one = fn_run_alone(&g, dtype, r);
    void *to = (char *)wanted + r * row * element_size(dtype);
    k->apply_runs(&one, to, 0, 0, l->centered ? &n.hi : NULL, &n.scale, &n.offset,
                  weight, l->centered ? bias : NULL, false);
    if (r >= done)
      continue;
    same_number(l, "scale", r, &scale, &n.scale);
    if (l->centered)
      same_number(l, "hi", r, &hi, &n.hi);
    if (l->centered)
      same_number(l, "offset", r, &offset, &n.offset);
  }
  CHECK(done == r, "%zu of %zu runs of %zu on %s, not %zu (%g in run %zu)", done,
        l->rows, l->len, fastnorm_isa(), r, l->value, l->bad);
  CHECK(l->bad >= l->rows || done == l->bad, "%g in run %zu: %zu done", l->value,
        l->bad, done);
  for (size_t i = 0; i < all; i++) {
    const double a = get(y, dtype, (ptrdiff_t)i), b = get(wanted, dtype, (ptrdiff_t)i);
    CHECK(memcmp(&a, &b, sizeof a) == 0,
          "[%zu, %zu], %zu apart, %s, %s, on %s: element %zu of run %zu is %a, not %a",
          l->rows, l->len, l->apart, l->centered ? "centered" : "not centered",
          dtype_name(dtype), fastnorm_isa(), i % row, i / row, a, b);
  }
}

static void check_length(size_t len) {
  for (int which = 0; which < 4; which++) {
    layout l = {.rows = 1 + len % MOST_ROWS,
                .len = len,
                .apart = len % 3 * 7,
                .centered = which & 1,
                .in_place = which & 2,
                .far = len % 2,
                .bad = SIZE_MAX};
    if (l.centered && !kernels_of(dtype)->norms_centered)
      continue;
    check(&l);
    const double bad[] = {(double)NAN, (double)INFINITY, 1e300, 100.0};
    const bool shifts = l.centered && len * element_size(dtype) > 10 * 128;
    l.bad = (len + (size_t)which) % l.rows;
    for (size_t i = 0; i < LENGTH(bad) - !shifts; i++) {
      l.value = bad[i]; /* 1e300 is Inf in float */
      check(&l);
    }
  }
}

static void pipelines_here(void) {
  static const size_t lengths[] = {256, 257, 300, 384, 511, 512, 513, 600, 768, 1000};
  for (int type = 0; type < 2; type++) {
    dtype = working_type(type);
    if (!kernels_of(dtype)->norm_runs)
      continue;
    const size_t vec = 128 / element_size(dtype);
    for (size_t len = 8 * vec; len < AT_LEVEL(18, 11, 9) * vec; len += 1 + len % 5)
      check_length(len);
    for (size_t i = 0; i < LENGTH(lengths); i++)
      check_length(lengths[i]);
  }
}

static void pipelines(void) {
  for (int i = 0; i < 4; i++)
    rooms[i] = new_room(ROOM);
  wanted = new_bytes(ROOM);
  snprintf(running_now, sizeof running_now, "norm_runs");
  each_isa(pipelines_here);
  free(wanted);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {{"pipelines", pipelines}};
  return RUN_TESTS(argc, argv, tests);
}
