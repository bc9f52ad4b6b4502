/* test_elements.c - elements on their way in and out: gather, scatter, largest, masks.
 * SPDX-License-Identifier: MIT
 *
 * The values of every kernel on every instruction set, against elements.h. */
#include "elements.h"

static const fastnorm_dtype float_types[] = {FASTNORM_FLOAT32, FASTNORM_FLOAT16,
                                             FASTNORM_BFLOAT16};

static int same_float(float x, float y) {
  return bits_of(x) == bits_of(y);
}

/* ---- Values ---------------------------------------------------------------------- */

static void widening(void) {
  enum { COUNT = 65536 };
  static uint16_t x[COUNT];
  static float out[COUNT];
  for (size_t i = 0; i < COUNT; i++) {
    x[i] = (uint16_t)i;
  }
  for (size_t k = 1; k < LENGTH(float_types); k++) {
    const fn_gather g = {.dtype = float_types[k]};
    kernels_of(FASTNORM_FLOAT32)->gather(&g, x, COUNT, out);
    for (size_t i = 0; i < COUNT; i++) {
      const float wanted = decode_small(g.dtype, x[i]);
      CHECK(same_float(out[i], wanted), "%s: %s %04zx is %08x, not %08x",
            fastnorm_isa(), type_name(g.dtype), i, bits_of(wanted), bits_of(out[i]));
    }
  }
}

static void dequantising(void) {
  static const float scales[] = {1.0f, 0.02f, 1.0f / 255, 0x1p-126f, 0x1p120f};
  uint8_t x[256];
  float out[256];
  for (size_t i = 0; i < 256; i++) {
    x[i] = (uint8_t)i;
  }
  for (size_t k = 0; k < 5 * 256; k++) {
    for (int sign = 0; sign < 2; sign++) {
      const fn_gather g = {.dtype = sign ? FASTNORM_INT8 : FASTNORM_UINT8,
                           .scale = scales[k / 256],
                           .zero_point = (int)(k % 256) - (sign ? 128 : 0)};
      kernels_of(FASTNORM_FLOAT32)->gather(&g, x, 256, out);
      for (size_t i = 0; i < 256; i++) {
        const float wanted =
            ((float)element(g.dtype, x, i) - (float)g.zero_point) * g.scale;
        CHECK(same_float(out[i], wanted), "%s: %s %zu with %d, %g is %g, not %g",
              fastnorm_isa(), type_name(g.dtype), i, g.zero_point, (double)g.scale,
              (double)wanted, (double)out[i]);
      }
    }
  }
}

static void check_scattered(const fn_scatter *s, const float *v, size_t n) {
  static uint16_t y[1 << 17], wanted[1 << 17];
  kernels_of(FASTNORM_FLOAT32)->scatter(s, v, n, y, false);
  const size_t size = bytes_of(s->dtype);
  for (size_t i = 0; i < n; i++) {
    set_element(s->dtype, wanted, i, (double)v[i], s->inverse_scale, s->zero_point);
    if (v[i] != v[i]) { /* the way through double may have changed its payload */
      if (size == 2) {
        wanted[i] = encode_small(s->dtype, v[i]);
      }
    }
    CHECK(memcmp((char *)y + i * size, (char *)wanted + i * size, size) == 0,
          "%s: %08x (%.9g) to %s, scale 1/%g, zero point %d", fastnorm_isa(),
          bits_of(v[i]), (double)v[i], type_name(s->dtype), (double)s->inverse_scale,
          s->zero_point);
  }
}

/* Each number of the type, what lies half-way to the next, and the floats beside. */
static void narrowing(void) {
  static float v[65536];
  rng r = {1};
  for (size_t k = 1; k < LENGTH(float_types); k++) {
    const fn_scatter s = {.dtype = float_types[k]};
    const uint32_t half = s.dtype == FASTNORM_FLOAT16 ? 1u << 12 : 1u << 15;
    for (int beside = -1; beside <= 1; beside++) {
      for (size_t i = 0; i < 65536; i++) {
        const float x = decode_small(s.dtype, (uint16_t)i);
        const float next = decode_small(s.dtype, (uint16_t)(i + 1));
        const float middle = isfinite(x) && isfinite(next) && (i & 0x7fff) != 0x7fff
                                 ? (float)(((double)x + (double)next) / 2)
                                 : float_of(bits_of(x) + half);
        v[i] = float_of(bits_of(middle) + (uint32_t)beside);
      }
      check_scattered(&s, v, 65536);
      for (size_t i = 0; i < 65536; i++) {
        const float x = decode_small(s.dtype, (uint16_t)i);
        v[i] = float_of(bits_of(x) + (uint32_t)beside);
      }
      check_scattered(&s, v, 65536);
      for (size_t i = 0; i < 65536; i++) {
        v[i] = float_of((uint32_t)rng_next(&r));
      }
      check_scattered(&s, v, 65536);
    }
  }
}

static void quantising(void) {
  static const float inverses[] = {1.0f, 0.5f, 3.0f, 127.0f / 3, 0x1p-120f, 0x1p120f};
  static const int zero_points[] = {-128, -127, -3, 0, 1, 100, 127};
  static float v[4096];
  rng r = {2};
  for (size_t k = 0; k < LENGTH(inverses) * LENGTH(zero_points) * 2; k++) {
    const int sign = k % 2 == 0;
    const fn_scatter s = {.dtype = sign ? FASTNORM_INT8 : FASTNORM_UINT8,
                          .inverse_scale = inverses[k / 2 % LENGTH(inverses)],
                          .zero_point =
                              zero_points[k / 2 / LENGTH(inverses)] + (sign ? 0 : 128)};
    size_t n = 0;
    for (int i = -260; i <= 260; i++) { /* ties, and beside them */
      for (int beside = -1; beside <= 1; beside++) {
        const float x = ((float)i + 0.5f) / s.inverse_scale;
        v[n++] = float_of(bits_of(x) + (uint32_t)beside);
        v[n++] = (float)i / s.inverse_scale;
      }
    }
    static const float special[] = {0.0f,  -0.0f, 1e9f,   -1e9f,     2147483648.0f,
                                    -3e9f, 3e38f, -3e38f, HUGE_VALF, -HUGE_VALF,
                                    NAN,   -NAN,  1e-40f, 8388609.0f};
    memcpy(v + n, special, sizeof special);
    n += LENGTH(special);
    while (n < LENGTH(v)) {
      v[n++] = float_of((uint32_t)rng_next(&r));
    }
    check_scattered(&s, v, n);
  }
}

static void largest_of(fastnorm_dtype working, size_t n) {
  double doubles[300];
  float floats[300];
  rng r = {n};
  for (size_t at = 0; at < n; at += n < 40 ? 1 : 11) {
    for (int special = 0; special < 4; special++) {
      for (size_t i = 0; i < n; i++) {
        doubles[i] = floats[i] = (float)rng_normal(&r);
      }
      static const double values[] = {-77.0, 78.0, -HUGE_VAL, NAN};
      doubles[at] = floats[at] = (float)values[special];
      doubles[n - 1 - at] = floats[n - 1 - at] += special > 1 ? 0 : 1;
      double wanted = 0;
      for (size_t i = 0; i < n; i++) {
        const double a = fabs(doubles[i]);
        wanted = a > wanted || a != a ? a : wanted;
      }
      const void *v = working == FASTNORM_FLOAT64 ? (void *)doubles : (void *)floats;
      const double got = kernels_of(working)->largest(v, n);
      CHECK(got == wanted || (got != got && special == 3),
            "%s: largest of %zu is %g, not %g", fastnorm_isa(), n, wanted, got);
    }
  }
}

static void largest(void) {
  for (size_t n = 1; n < 290; n += n < 140 ? 1 : 37) {
    largest_of(FASTNORM_FLOAT32, n);
    largest_of(FASTNORM_FLOAT64, n);
  }
  CHECK(kernels_of(FASTNORM_FLOAT32)->largest(NULL, 0) == 0.0, "largest of nothing");
}

/* Patterns of n bits, elements against their end, and what pack may write beyond. */
static void patterns_of(fastnorm_dtype working, size_t n, uint64_t bits) {
  const fn_kernels *k = kernels_of(working);
  const size_t size = bytes_of(working), vec = 128 / size;
  const size_t room = (n + vec - 1) / vec * vec * size;
  unsigned char *mark = new_bytes(n), *v = new_bytes(n * size),
                *cleared = new_bytes(n * size);
  unsigned char packed[64 * 8 + 1], wanted[64 * 8];
  size_t count = 0;
  for (size_t i = 0; i < n; i++) {
    mark[i] = (unsigned char)(bits >> i & 1 ? 1 + i * 7 % 255 : 0);
    memset(v + i * size, (int)(i + 1), size);
  }
  for (size_t i = 0; i < n; i++)
    if (mark[i])
      memcpy(wanted + size * count++, v + i * size, size);
  memset(packed, 0xcd, sizeof packed);
  memset(cleared, 0xcd, n * size);
  const uint64_t marks = k->marks(mark, n);
  const size_t counted = k->count(mark, n), found = k->pack(v, n, bits, packed);
  CHECK(marks == bits && counted == count, "%s: %zu marks are %llx and %zu, not %llx",
        fastnorm_isa(), n, (unsigned long long)marks, counted,
        (unsigned long long)bits);
  CHECK(found == count && memcmp(packed, wanted, count * size) == 0 &&
            packed[room] == 0xcd,
        "%s: %llx of %zu packed", fastnorm_isa(), (unsigned long long)bits, n);
  k->clear(v, n, bits, cleared);
  for (size_t i = 0; i < n; i++) {
    static const unsigned char zeros[8];
    CHECK(memcmp(cleared + i * size, mark[i] ? v + i * size : zeros, size) == 0,
          "%s: %llx of %zu cleared, %zu", fastnorm_isa(), (unsigned long long)bits, n,
          i);
  }
  free(mark);
  free(v);
  free(cleared);
}

/* Every four bits at every place, few and many bits, and none and all. */
static void patterns(void) {
  rng r = {3};
  for (size_t n = 1; n <= 64; n++) {
    const uint64_t all = n < 64 ? ((uint64_t)1 << n) - 1 : ~(uint64_t)0;
    for (int i = 0; i < 64; i++) {
      const uint64_t a = rng_next(&r), b = rng_next(&r), c = rng_next(&r);
      const uint64_t some[] = {a, a & b & c, a | b | c, i == 0 ? 0 : ~(uint64_t)0};
      for (size_t k = 0; k < LENGTH(some); k++) {
        patterns_of(FASTNORM_FLOAT32, n, some[k] & all);
        patterns_of(FASTNORM_FLOAT64, n, some[k] & all);
      }
    }
  }
  static unsigned char mark[3000];
  size_t count = 0;
  for (size_t i = 0; i < sizeof mark; i++) {
    CHECK(kernels_of(FASTNORM_FLOAT32)->count(mark, i) == count, "%s: %zu counted",
          fastnorm_isa(), i);
    mark[i] = (unsigned char)rng_below(&r, 3);
    count += mark[i] != 0;
  }
}

ON_EACH_ISA(widening)
ON_EACH_ISA(dequantising)
ON_EACH_ISA(narrowing)
ON_EACH_ISA(quantising)
ON_EACH_ISA(largest)
ON_EACH_ISA(patterns)

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"widening", widening_on_each},   {"dequantising", dequantising_on_each},
      {"narrowing", narrowing_on_each}, {"quantising", quantising_on_each},
      {"largest", largest_on_each},     {"patterns", patterns_on_each},
  };
  return RUN_TESTS(argc, argv, tests);
}
