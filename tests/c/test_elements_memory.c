/* test_elements_memory.c - gather and scatter: all types, and the bytes they may touch.
 * SPDX-License-Identifier: MIT
 *
 * Every kernel on every instruction set, against elements.h; arrays lie against pages
 * that nobody may touch, and what a call may not write is compared. */
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "elements.h"

/* Those of floating point first. */
static const fastnorm_dtype in_types[] = {FASTNORM_FLOAT32, FASTNORM_FLOAT16,
                                          FASTNORM_BFLOAT16, FASTNORM_INT8,
                                          FASTNORM_UINT8};

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
  const fastnorm_dtype residual_type = wide ? working : in_types[kinds % 3];
  const fastnorm_dtype bias_type = wide ? working : in_types[kinds / 3 % 3];
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
      for (size_t k = (n + kinds) % AT_LEVEL(1, 3, 5); k < LENGTH(in_types);
           k += AT_LEVEL(1, 3, 5)) {
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
  const fastnorm_dtype add_type = wide ? working : in_types[flags / 8 % 3];
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
    for (unsigned flags = 0; flags < 48; flags += AT_LEVEL(1, 3, 5)) {
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

ON_EACH_ISA(gathering)
ON_EACH_ISA(scattering)

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"gathering", gathering_on_each},
      {"scattering", scattering_on_each},
  };
  open_rooms();
  return RUN_TESTS(argc, argv, tests);
}
