/* test_elements.c - elements on their way in and out: gather, scatter, largest.
 * SPDX-License-Identifier: MIT
 *
 * Every kernel on every instruction set, against elements.h; arrays lie against pages
 * that nobody may touch, and what a call may not write is compared. */
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "elements.h"

static const fastnorm_dtype in_types[] = {FASTNORM_FLOAT32, FASTNORM_FLOAT16,
                                          FASTNORM_BFLOAT16, FASTNORM_INT8,
                                          FASTNORM_UINT8};
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

/* ---- Memory ---------------------------------------------------------------------- */

enum { ROOMS = 4, ROOM = 1 << 13, MOST = 600 };
static unsigned char *rooms[ROOMS]; /* ROOM bytes each, between guard pages */
static unsigned char copies[ROOMS][ROOM];

static void on_fault(int signal_number) {
  (void)signal_number;
  static const char text[] = "FAIL a guard page was touched\n0 passed, 1 failed\n";
  _exit(write(1, text, sizeof text - 1) < 0 ? 2 : 1);
}

static void open_rooms(void) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const size_t room = ROOM > page ? ROOM : page;
  for (int i = 0; i < ROOMS; i++) {
    unsigned char *p =
        mmap(NULL, room + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + page, room, PROT_READ | PROT_WRITE) != 0) {
      perror("mmap");
      exit(3);
    }
    rooms[i] = p + page + (room - ROOM);
  }
  signal(SIGSEGV, on_fault);
  signal(SIGBUS, on_fault);
}

/* Where n elements begin in a room: against its end, or `offset` from its start. */
static void *place(int room, fastnorm_dtype dtype, size_t n, size_t offset) {
  const size_t size = bytes_of(dtype);
  return offset == SIZE_MAX ? rooms[room] + ROOM - n * size
                            : rooms[room] + offset * size;
}

static void fill(fastnorm_dtype dtype, void *p, size_t n, rng *r) {
  for (size_t i = 0; i < n; i++) {
    const double v = (double)rng_below(r, 2000) * 0.01 - 10;
    set_element(dtype, p, i, (float)v, 12, dtype == FASTNORM_UINT8 ? 128 : 0);
  }
}

static void remember(void) {
  for (int k = 0; k < ROOMS; k++) {
    memcpy(copies[k], rooms[k], ROOM);
  }
}

/* Compares all rooms with their copies, in which the expected results were put. */
static void check_rooms(const char *what, size_t n, size_t offset) {
  for (int k = 0; k < ROOMS; k++) {
    if (memcmp(copies[k], rooms[k], ROOM) != 0) {
      size_t at = 0;
      while (copies[k][at] == rooms[k][at]) {
        at++;
      }
      fail("%s: %s, %zu elements, offset %zd: byte %zu of array %d", fastnorm_isa(),
           what, n, (ptrdiff_t)offset, at, k);
    }
  }
}

static void *in_copy(const void *p, int room) {
  return copies[room] + ((const unsigned char *)p - rooms[room]);
}

/* Rooms: x, residual, bias, residual_out; out lies in memory of its own. `kinds` holds
 * which parts there are and of which type. */
static void check_gather(fastnorm_dtype working, fastnorm_dtype x_type, unsigned kinds,
                         size_t n, size_t offset, rng *r) {
  const int wide = working == FASTNORM_FLOAT64;
  const fastnorm_dtype residual_type = wide ? working : float_types[kinds % 3];
  const fastnorm_dtype bias_type = wide ? working : float_types[kinds / 3 % 3];
  const unsigned parts = kinds / 9; /* residual, bias, out, out in place */
  char what[100];
  snprintf(what, sizeof what, "gather %s + %s + %s, parts %u", type_name(x_type),
           type_name(residual_type), type_name(bias_type), parts);
  for (int k = 0; k < ROOMS; k++) {
    memset(rooms[k], 0xa5, ROOM);
  }
  void *x = place(0, x_type, n, offset);
  void *residual = place(1, residual_type, n, offset);
  void *bias = place(2, bias_type, n, offset);
  const int out_room = (parts & 9) == 9 ? 1 : 3;
  void *sum = place(out_room, residual_type, n, offset);
  fill(x_type, x, n, r);
  fill(residual_type, residual, n, r);
  fill(bias_type, bias, n, r);
  remember();
  double wanted[MOST], out[MOST];
  float *out32 = (float *)(void *)out;
  const fn_gather g = {.dtype = x_type,
                       .scale = 0.05f,
                       .zero_point = 3,
                       .residual = parts & 1 ? residual : NULL,
                       .residual_bias = parts & 2 ? bias : NULL,
                       .residual_dtype = residual_type,
                       .bias_dtype = bias_type,
                       .residual_out = parts & 12 ? sum : NULL};
  for (size_t i = 0; i < n; i++) {
    double v = element(x_type, x, i);
    if (bytes_of(x_type) == 1) {
      v = (float)(v - 3) * 0.05f;
    }
    if (parts & 1) {
      v += element(residual_type, residual, i);
      v = wide ? v : (float)v;
    }
    if (parts & 2) {
      v += element(bias_type, bias, i);
      v = wide ? v : (float)v;
    }
    if (g.residual_out) {
      set_element(residual_type, in_copy(sum, out_room), i, v, 1, 0);
    }
    wanted[i] = v;
  }
  kernels_of(working)->gather(&g, x, n, out);
  check_rooms(what, n, offset);
  for (size_t i = 0; i < n; i++) {
    const double got = wide ? out[i] : (double)out32[i];
    CHECK(got == wanted[i], "%s: %s, element %zu of %zu is %.9g, not %.9g",
          fastnorm_isa(), what, i, n, wanted[i], got);
  }
}

static const size_t offsets[] = {SIZE_MAX, 0, 1, 7};

static void gathering(void) {
  rng r = {3};
  for (size_t n = 0; n <= 70; n++) {
    for (unsigned kinds = 0; kinds < 9 * 16; kinds++) {
      const size_t offset = offsets[(n + kinds) % LENGTH(offsets)];
      for (size_t k = 0; k < LENGTH(in_types); k += test_quick ? 3 : 1) {
        check_gather(FASTNORM_FLOAT32, in_types[k], kinds, n, offset, &r);
      }
      if (kinds % 9 == 0) {
        check_gather(FASTNORM_FLOAT64, FASTNORM_FLOAT64, kinds, n, offset, &r);
      }
    }
  }
}

/* The sums above are taken in double and rounded: right for two floats, as a double has
 * more than twice their digits. */

static double plain_activation(const fn_scatter *s, double v, fastnorm_dtype working) {
  const int wide = working == FASTNORM_FLOAT64;
  switch (s->activation) {
  case FASTNORM_RELU:
    return v > 0 ? v : 0;
  case FASTNORM_LEAKY_RELU: {
    const double slope = s->alpha == 0 ? 0.01 : s->alpha;
    return v >= 0 ? v : wide ? slope * v : (float)slope * (float)v;
  }
  case FASTNORM_RELU6:
    return v < 0 ? 0 : v > 6 ? 6 : v;
  case FASTNORM_CLAMP:
    return v < s->alpha ? s->alpha : v > s->beta ? s->beta : v;
  case FASTNORM_HARDSWISH:
    if (wide) {
      const double t = v + 3 < 0 ? 0 : v + 3 > 6 ? 6 : v + 3;
      return (v < -3 ? -3 : v) * (t * (1.0 / 6));
    } else {
      const float f = (float)v + 3, t = f < 0 ? 0 : f > 6 ? 6 : f;
      return (float)(v < -3 ? -3 : v) * (t * (float)(1.0 / 6));
    }
  default:
    return v;
  }
}

/* The others as the portable set has them; test_activations.c looks at their values. */
static void activate_portably(const fn_scatter *s, double *t, size_t n,
                              fastnorm_dtype working) {
  const char *isa = fastnorm_isa();
  const fn_scatter bare = {.dtype = working, .activation = s->activation};
  float narrow[MOST];
  void *v = t;
  if (working == FASTNORM_FLOAT32) {
    v = narrow;
    for (size_t i = 0; i < n; i++) {
      narrow[i] = (float)t[i];
    }
  }
  fastnorm_set_isa("portable");
  kernels_of(working)->scatter(&bare, v, n, v, false);
  fastnorm_set_isa(isa);
  for (size_t i = 0; i < n; i++) {
    t[i] = element(working, v, i);
  }
}

static void activate(const fn_scatter *s, double *t, size_t n, fastnorm_dtype working) {
  switch (s->activation) {
  case FASTNORM_GELU:
  case FASTNORM_GELU_TANH:
  case FASTNORM_SILU:
  case FASTNORM_SIGMOID:
  case FASTNORM_TANH:
    activate_portably(s, t, n, working);
    break;
  default:
    for (size_t i = 0; i < n; i++) {
      t[i] = plain_activation(s, t[i], working);
    }
  }
}

/* Rooms: v, post_add, y; in place where the types allow it and `flags` says so. */
static void check_scatter(fastnorm_dtype working, fastnorm_dtype y_type,
                          fastnorm_activation activation, unsigned flags, size_t n,
                          size_t offset, rng *r) {
  const int wide = working == FASTNORM_FLOAT64;
  const fastnorm_dtype add_type = wide ? working : float_types[flags / 8 % 3];
  const int in_place = (flags & 4) && y_type == working;
  char what[100];
  snprintf(what, sizeof what, "scatter to %s, activation %d, + %s, flags %u",
           type_name(y_type), activation, type_name(add_type), flags);
  for (int k = 0; k < ROOMS; k++) {
    memset(rooms[k], 0xa5, ROOM);
  }
  void *v = place(0, working, n, offset);
  void *add = place(1, add_type, n, offset);
  void *y = in_place ? v : place(2, y_type, n, offset);
  fill(working, v, n, r);
  fill(add_type, add, n, r);
  remember();
  const fn_scatter s = {.dtype = y_type,
                        .inverse_scale = 17.3f,
                        .zero_point = 5,
                        .activation = activation,
                        .alpha = flags & 32 ? -0.5 : 0,
                        .beta = 0.75,
                        .post_add_dtype = add_type,
                        .post_add = flags & 1 ? add : NULL};
  double t[MOST];
  for (size_t i = 0; i < n; i++) {
    t[i] = element(working, v, i);
    if (flags & 1) {
      t[i] += element(add_type, add, i);
      t[i] = wide ? t[i] : (float)t[i];
    }
  }
  activate(&s, t, n, working);
  for (size_t i = 0; i < n; i++) {
    set_element(y_type, in_copy(y, in_place ? 0 : 2), i, t[i], s.inverse_scale,
                s.zero_point);
  }
  kernels_of(working)->scatter(&s, v, n, y, (flags & 2) != 0);
  check_rooms(what, n, offset);
}

static void scattering(void) {
  rng r = {4};
  for (size_t n = 0; n <= MOST; n += n < 70 ? 1 : 88) {
    for (unsigned flags = 0; flags < 48; flags += test_quick ? 3 : 1) {
      for (int a = 0; a <= FASTNORM_HARDSWISH; a++) {
        const size_t offset = offsets[(n + flags) % LENGTH(offsets)];
        const fastnorm_activation activation = (fastnorm_activation)a;
        const size_t k = (n + flags + (size_t)a) % LENGTH(in_types);
        check_scatter(FASTNORM_FLOAT32, in_types[k], activation, flags, n, offset, &r);
        if (flags < 8) {
          check_scatter(FASTNORM_FLOAT64, FASTNORM_FLOAT64, activation, flags, n,
                        offset, &r);
        }
      }
    }
  }
}

#define EACH(name)                                                                     \
  static void name##_on_each(void) {                                                   \
    each_isa(name);                                                                    \
  }
EACH(widening)
EACH(dequantising)
EACH(narrowing)
EACH(quantising)
EACH(largest)
EACH(gathering)
EACH(scattering)

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"widening", widening_on_each},     {"dequantising", dequantising_on_each},
      {"narrowing", narrowing_on_each},   {"quantising", quantising_on_each},
      {"largest", largest_on_each},       {"gathering", gathering_on_each},
      {"scattering", scattering_on_each},
  };
  open_rooms();
  return RUN_TESTS(argc, argv, tests);
}
