/* test_apply_kernels.c - the application along runs, on every ISA: wherever runs and
 * their lines begin, streamed or not; how large it gets, and activated.
 * SPDX-License-Identifier: MIT
 *
 * Against the formula of its header, to the bit. All arrays end where a page that
 * nobody may touch begins, and what lies between runs of y stays. */
#include "elements.h"
#include "guard.h"

enum { ROOM = 1 << 18, MOST_ROWS = 7 };

static fastnorm_dtype dtype; /* of the test that runs */
static unsigned char *rooms[5];

typedef struct layout {
  size_t rows, len, apart; /* elements between one run and the next */
  size_t end;              /* elements of y behind the last run: where it begins */
  bool stream;
  int which; /* what there is: 1 hi and offset, 2 weight, 4 bias */
} layout;

/* n numbers, and `end` more, up to the protected page. */
static void *guarded(int room, size_t n, size_t end, rng *r) {
  unsigned char *p = rooms[room] + ROOM - (n + end) * element_size(dtype);
  for (size_t i = 0; i < n + end; i++)
    put(p, dtype, (ptrdiff_t)i, rng_normal(r));
  return p;
}

static double fused(double a, double b, double c) {
  return dtype == FASTNORM_FLOAT32 ? (double)fmaf((float)a, (float)b, (float)c)
                                   : fma(a, b, c);
}

static double wanted(const layout *l, double x, const double *hi_scale_offset,
                     double weight, double bias) {
  const double *p = hi_scale_offset;
  double t = l->which & 1 ? fused(rounded(dtype, x - p[0]), p[1], p[2])
                          : rounded(dtype, x * p[1]);
  if ((l->which & 6) == 6)
    return fused(t, weight, bias);
  if (l->which & 2)
    t = rounded(dtype, t * weight);
  return l->which & 4 ? rounded(dtype, t + bias) : t;
}

/* Of what apply_runs has made of x in y. */
static double largest_of(const layout *l, const void *y, size_t run) {
  double largest = 0.0;
  for (size_t k = 0; k < l->len; k++) {
    const double v = get(y, dtype, (ptrdiff_t)(run * (l->len + l->apart) + k));
    if (fabs(v) > largest)
      largest = fabs(v);
  }
  return largest;
}

/* What apply_runs has made of x in y, through each activation. */
static void check_activated(const layout *l, const fn_runs *g, const float *y,
                            const double (*parameters)[FN_PAD], const void *weight,
                            const void *bias) {
#define X(name) FASTNORM_##name,
  static const fastnorm_activation names[] = {FN_ACTIVATED(X)};
#undef X
  const fn_kernels *k = kernels_of(dtype);
  const size_t row = l->len + l->apart, all = (l->rows - 1) * row + l->len;
  float *out = (float *)(void *)(rooms[4] + ROOM) - all, want[2048];
  for (size_t a = 0; k->activate_runs && a < LENGTH(names); a++) {
    const fn_scatter s = {.dtype = dtype, .activation = names[a]};
    for (size_t i = 0; i < all; i++)
      out[i] = -7.0F;
    k->activate_runs(g, out, (ptrdiff_t)row, l->which & 1 ? parameters[0] : NULL,
                     parameters[1], l->which & 1 ? parameters[2] : NULL, weight, bias,
                     names[a]);
    for (size_t i = 0; i < all; i++) {
      if (i % row == 0)
        k->scatter(&s, y + i, l->len, want, false);
      const float wanted_here = i % row < l->len ? want[i % row] : -7.0F;
      CHECK(bits_of(out[i]) == bits_of(wanted_here),
            "activation %d of [%zu, %zu], %zu apart, %d, on %s: element %zu is %a, not "
            "%a",
            (int)names[a], l->rows, l->len, l->apart, l->which, fastnorm_isa(), i,
            (double)out[i], (double)wanted_here);
    }
  }
}

/* With a NaN in one run, somewhere, the second time. */
static void check_largest(const layout *l, const fn_runs *g, void *x, const void *y,
                          const double (*parameters)[FN_PAD], const void *weight,
                          const void *bias) {
  const bool centered = l->which & 1;
  const size_t bad = l->len % l->rows, at = (l->len * 37 + l->end) % l->len;
  for (int time = 0; time < 2; time++) {
    double got[FN_PAD];
    if (time == 1)
      put(x, dtype, (ptrdiff_t)(bad * (l->len + l->apart) + at), NAN);
    kernels_of(dtype)->largest_runs(g, centered ? parameters[0] : NULL, parameters[1],
                                    centered ? parameters[2] : NULL, weight, bias, got);
    for (size_t run = 0; run < l->rows; run++) {
      const double want = time == 1 && run == bad ? NAN : largest_of(l, y, run);
      CHECK(got[run] == want || (isnan(got[run]) && isnan(want)),
            "largest of [%zu, %zu], %d, on %s: of run %zu is %a, not %a", l->rows,
            l->len, l->which, fastnorm_isa(), run, got[run], want);
    }
  }
}

static void check_layout(const layout *l) {
  const size_t row = l->len + l->apart, all = (l->rows - 1) * row + l->len;
  rng r = {l->rows * 7919 + l->len * 31 + l->end + (size_t)l->which};
  void *x = guarded(0, all, 0, &r);
  const void *weight = guarded(1, l->len, 0, &r);
  void *bias = guarded(2, l->len, 0, &r);
  void *y = guarded(3, all, l->end, &r);
  double parameters[3][FN_PAD];
  for (int k = 0; k < 3; k++)
    for (size_t i = 0; i < FN_PAD; i++)
      put(parameters[k], dtype, (ptrdiff_t)i, rng_normal(&r));
  for (size_t i = 0; i < all + l->end; i++)
    put(y, dtype, (ptrdiff_t)i, -7.0);
  const bool centered = l->which & 1;
  const fn_runs g = {
      .x = x, .rows = l->rows, .row_stride = (ptrdiff_t)row, .segs = 1, .len = l->len};
  kernels_of(dtype)->apply_runs(
      &g, y, (ptrdiff_t)row, 0, centered ? parameters[0] : NULL, parameters[1],
      centered ? parameters[2] : NULL, l->which & 2 ? weight : NULL,
      l->which & 4 ? bias : NULL, l->stream);
  for (size_t i = 0; i < all + l->end; i++) {
    const size_t run = i < all ? i / row : 0, k = i < all ? i % row : l->len;
    const ptrdiff_t at = (ptrdiff_t)run;
    const double p[3] = {get(parameters[0], dtype, at), get(parameters[1], dtype, at),
                         get(parameters[2], dtype, at)};
    const double got = get(y, dtype, (ptrdiff_t)i);
    const double want = k >= l->len ? -7.0
                                    : wanted(l, get(x, dtype, (ptrdiff_t)i), p,
                                             get(weight, dtype, (ptrdiff_t)k),
                                             get(bias, dtype, (ptrdiff_t)k));
    CHECK(memcmp(&got, &want, sizeof got) == 0,
          "[%zu, %zu], %zu apart, %zu before a page, %s, %d, of %s on %s: %zu of run "
          "%zu is %a, not %a",
          l->rows, l->len, l->apart, l->end, l->stream ? "streamed" : "stored",
          l->which, dtype_name(dtype), fastnorm_isa(), k, run, got, want);
  }
  if (dtype == FASTNORM_FLOAT32 && l->which & 2) {
    for (size_t i = 0; !(l->which & 4) && i < l->len; i++)
      put(bias, dtype, (ptrdiff_t)i, -0.0); /* as good as none */
    check_activated(l, &g, y, parameters, weight, bias);
    check_largest(l, &g, x, y, parameters, weight, bias);
  }
}

/* The same to 16-bit elements, of such, or to bytes, of float: of rows of one scale, or
 * each of its own. Every byte of y is compared, and what lies between and behind. */
typedef struct narrow {
  fastnorm_dtype x, y;
  bool own_scales;
} narrow;

static void check_narrow(const layout *l, const narrow *t) {
  const size_t row = l->len + l->apart, all = (l->rows - 1) * row + l->len;
  const size_t size = bytes_of(t->y), last = l->end * 4 / size; /* as many bytes */
  const bool bytes = size == 1, centered = l->which & 1;
  rng r = {l->rows * 7919 + l->len * 31 + l->end + (size_t)l->which};
  const float *weight = guarded(1, l->len, 0, &r), *bias = guarded(2, l->len, 0, &r);
  unsigned char *x = rooms[0] + ROOM - all * bytes_of(t->x);
  unsigned char *y = rooms[3] + ROOM - (all + last) * size;
  float parameters[3][FN_PAD], scales[FN_PAD];
  for (size_t i = 0; i < FN_PAD; i++) {
    for (int k = 0; k < 3; k++)
      parameters[k][i] = (float)rng_normal(&r);
    scales[i] = t->own_scales ? 3.0F + (float)i : 9.0F;
  }
  for (size_t i = 0; i < all; i++)
    set_element(t->x, x, i, rng_normal(&r), 1.0F, 0);
  memset(y, 0x5a, (all + last) * size);
  const fn_scatter s = {.dtype = t->y, .inverse_scale = 9.0F, .zero_point = 5};
  const fn_runs g = {.x = x,
                     .rows = l->rows,
                     .row_stride = (ptrdiff_t)row,
                     .segs = 1,
                     .len = l->len,
                     .dtype = bytes ? FASTNORM_DEFAULT : t->x,
                     .bytes = bytes ? &s : NULL,
                     .inverse_scales = t->own_scales ? scales : NULL};
  kernels_of(dtype)->apply_runs(
      &g, y, (ptrdiff_t)row, 0, centered ? parameters[0] : NULL, parameters[1],
      centered ? parameters[2] : NULL, weight, centered ? bias : NULL, l->stream);
  for (size_t i = 0; i < all + last; i++) {
    const size_t run = i < all ? i / row : 0, k = i < all ? i % row : l->len;
    const double p[3] = {parameters[0][run], parameters[1][run], parameters[2][run]};
    uint16_t want = bytes ? 0x5a : 0x5a5a, got = bytes ? y[i] : 0;
    if (!bytes)
      memcpy(&got, y + 2 * i, 2);
    if (k < l->len) {
      const float v = (float)wanted(l, element(t->x, x, i), p, weight[k], bias[k]);
      want = bytes ? (uint8_t)quantise(t->y, v, scales[run], s.zero_point)
                   : encode_small(t->y, v);
    }
    CHECK(got == want,
          "[%zu, %zu], %zu apart, %zu before a page, %s, %d, to %s on %s: %zu of run "
          "%zu is %x, not %x",
          l->rows, l->len, l->apart, l->end, l->stream ? "streamed" : "stored",
          l->which, type_name(t->y), fastnorm_isa(), k, run, got, want);
  }
}

static void check_every_narrow(const layout *l) {
  static const narrow ways[] = {{FASTNORM_FLOAT16, FASTNORM_FLOAT16, false},
                                {FASTNORM_BFLOAT16, FASTNORM_BFLOAT16, false},
                                {FASTNORM_FLOAT32, FASTNORM_INT8, false},
                                {FASTNORM_FLOAT32, FASTNORM_UINT8, true}};
  dtype = FASTNORM_FLOAT32;
  for (size_t i = kernels_of(dtype)->halves ? 0 : 2; i < LENGTH(ways); i++)
    check_narrow(l, &ways[i]);
}

/* Lengths around every vec of both types, and where rows are too long to be as one. */
static void layouts_here(void) {
  static const size_t lengths[] = {1,  7,  16, 17,  31,  32,  33,  48,  49,  63,
                                   64, 65, 96, 100, 127, 128, 130, 196, 520, 2048};
  static const int parts[] = {0, 1, 2, 3, 5, 7};
  const size_t step = AT_LEVEL(1, 3, 7);
  for (int type = 0; type < 2; type++) {
    dtype = working_type(type);
    for (size_t i = 0; i < LENGTH(lengths); i++)
      for (size_t end = 0; end < 17; end += step)
        for (int k = 0; k < (int)LENGTH(parts) * 4; k++) {
          const layout l = {.rows = 1 + (i + end + (size_t)k) % MOST_ROWS,
                            .len = lengths[i],
                            .apart = k & 2 ? 3 : 0,
                            .end = end,
                            .stream = k & 1,
                            .which = parts[k / 4]};
          check_layout(&l);
        }
  }
}

static void narrow_layouts_here(void) {
  static const size_t lengths[] = {1,  31,  32,  33,  49,  63,   64,
                                   65, 100, 128, 130, 520, 2040, 2100};
  for (size_t i = 0; i < LENGTH(lengths); i++)
    for (size_t end = 0; end < 17; end += AT_LEVEL(1, 3, 7))
      for (size_t k = 0; k < 8; k++) {
        const layout l = {.rows = 1 + (i + end + k) % MOST_ROWS,
                          .len = lengths[i],
                          .apart = k & 2 ? 3 : 0,
                          .end = end,
                          .stream = k & 1,
                          .which = k & 4 ? 7 : 2};
        check_every_narrow(&l);
      }
}

static void layouts(void) {
  snprintf(running_now, sizeof running_now, "the application along runs");
  each_isa(layouts_here);
}

static void narrow_layouts(void) {
  snprintf(running_now, sizeof running_now, "the application to narrow elements");
  each_isa(narrow_layouts_here);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {{"layouts", layouts},
                                    {"narrow_layouts", narrow_layouts}};
  for (int i = 0; i < 5; i++)
    rooms[i] = new_room(ROOM);
  return RUN_TESTS(argc, argv, tests);
}
