/* test_activations.c - the activations against long double, on every instruction set.
 * SPDX-License-Identifier: MIT
 *
 * `test_activations --measure [STEP]` prints the largest errors, over every STEP-th
 * float (1: all of them), and compares them with the bounds below.
 * `test_activations --hash` prints a hash of results, to compare machines. */
#include "elements.h"

/* The error is at most `ulps` units in the last place of the exact result from v = tail
 * on, and below that `tail_ulps` units or `floor`, whichever is larger. */
typedef struct limit {
  double ulps, tail, tail_ulps, floor;
} limit;

typedef struct bound {
  const char *name;
  fastnorm_activation activation;
  limit in[2]; /* float32, float64 */
} bound;

static const bound bounds[] = {
    {"gelu", FASTNORM_GELU, {{5, -3, 0, 1.5e-7}, {7, -37, 0, 0x1p-1015}}},
    {"gelu_tanh", FASTNORM_GELU_TANH, {{6, -3, 0, 2e-8}, {3, -1, 0, 0x1p-53}}},
    {"silu", FASTNORM_SILU, {{3.5, -16, 6, 0x1p-120}, {2.5, -700, 2.5, 0x1p-1010}}},
    {"sigmoid",
     FASTNORM_SIGMOID,
     {{3.5, -16, 6, 0x1p-126}, {2.5, -700, 2.5, 0x1p-1021}}},
    {"tanh", FASTNORM_TANH, {{3.5, -HUGE_VAL, 0, 0}, {3.5, -HUGE_VAL, 0, 0}}},
    {"hardswish", FASTNORM_HARDSWISH, {{2.5, -HUGE_VAL, 0, 0}, {2.5, -HUGE_VAL, 0, 0}}},
};

static long double exact(fastnorm_activation activation, long double v) {
  const long double k = 1.5957691216057307117597842397375274738L; /* 2 sqrt(2 / pi) */
  switch (activation) {
  case FASTNORM_GELU:
    return v * erfcl(-v * 0.70710678118654752440084436210484903928L) / 2;
  case FASTNORM_GELU_TANH:
    return v / (1 + expl(-k * (v + 0.044715L * v * v * v)));
  case FASTNORM_SILU:
    return v / (1 + expl(-v));
  case FASTNORM_SIGMOID:
    return 1 / (1 + expl(-v));
  case FASTNORM_TANH:
    return tanhl(v);
  default: {
    const long double t = v + 3 < 0 ? 0 : v + 3 > 6 ? 6 : v + 3;
    return v * (t / 6);
  }
  }
}

/* The same in double, for float: 20 times faster, and its errors are of no account. */
static double exact_enough(fastnorm_activation activation, double v) {
  switch (activation) {
  case FASTNORM_GELU:
    return v * erfc(-v * 0.70710678118654752440) / 2;
  case FASTNORM_GELU_TANH:
    return v / (1 + exp(-1.5957691216057307118 * (v + 0.044715 * v * v * v)));
  case FASTNORM_SILU:
    return v / (1 + exp(-v));
  case FASTNORM_SIGMOID:
    return 1 / (1 + exp(-v));
  case FASTNORM_TANH:
    return tanh(v);
  default:
    return (double)exact(activation, (long double)v);
  }
}

typedef struct worst {
  double ulps, at;              /* before the tail */
  double tail_ulps, tail_floor; /* in it: where tail_floor is exceeded */
  double absolute, absolute_at; /* anywhere */
  double past;                  /* the largest error over what is allowed */
  double past_at;
} worst;

/* The unit in the last place of x in a format of so many digits. */
static double unit(double x, int digits, int least) {
  const int e = x != 0 ? ilogb(x) : least;
  return ldexp(1.0, (e < least ? least : e) - digits + 1);
}

static void note(worst *w, const limit *l, double error, double ulp, double v) {
  const int tail = v < l->tail;
  const double allowed = tail ? fmax(l->tail_ulps * ulp, l->floor) : l->ulps * ulp;
  if (error > w->absolute) {
    w->absolute = error;
    w->absolute_at = v;
  }
  if (!tail && error > w->ulps * ulp) {
    w->ulps = error / ulp;
    w->at = v;
  }
  if (tail && error > l->floor) {
    w->tail_ulps = fmax(w->tail_ulps, error / ulp);
  }
  if (tail && error > l->tail_ulps * ulp) {
    w->tail_floor = fmax(w->tail_floor, error);
  }
  if (error > allowed * w->past) {
    w->past = error / allowed;
    w->past_at = v;
  }
}

enum { CHUNK = 4096 };

static void judge32(const bound *b, const float *v, size_t n, worst *w) {
  float y[CHUNK];
  const fn_scatter s = {.dtype = FASTNORM_FLOAT32, .activation = b->activation};
  kernels_of(FASTNORM_FLOAT32)->scatter(&s, v, n, y, false);
  for (size_t i = 0; i < n; i++) {
    const double x = (double)v[i], wanted = exact_enough(b->activation, x);
    note(w, &b->in[0], fabs((double)y[i] - wanted), unit(wanted, 24, -126), x);
    CHECK(isfinite(y[i]), "%s(%.9g) is %g", b->name, x, (double)y[i]);
    CHECK(b->activation != FASTNORM_TANH || fabsf(y[i]) <= 1, "tanh(%.9g) is %.9g", x,
          (double)y[i]);
    CHECK(b->activation != FASTNORM_SIGMOID || (y[i] >= 0 && y[i] <= 1),
          "sigmoid(%.9g) is %.9g", x, (double)y[i]);
    CHECK(b->activation == FASTNORM_SIGMOID || !(y[i] * v[i] < 0),
          "%s(%.9g) is %.9g, of the other sign", b->name, x, (double)y[i]);
  }
}

static void judge64(const bound *b, const double *v, size_t n, worst *w) {
  double y[CHUNK];
  const fn_scatter s = {.dtype = FASTNORM_FLOAT64, .activation = b->activation};
  kernels_of(FASTNORM_FLOAT64)->scatter(&s, v, n, y, false);
  for (size_t i = 0; i < n; i++) {
    const long double wanted = exact(b->activation, (long double)v[i]);
    note(w, &b->in[1], (double)fabsl((long double)y[i] - wanted),
         unit((double)wanted, 53, -1022), v[i]);
    CHECK(isfinite(y[i]), "%s(%.17g) is %g", b->name, v[i], y[i]);
  }
}

/* Floats of all kinds: `count` bit patterns, or all of them. */
static worst measure32(const bound *b, uint64_t step) {
  worst w = {0};
  float v[CHUNK];
  size_t n = 0;
  for (uint64_t u = step / 3; u < UINT64_C(1) << 32; u += step) {
    const float x = float_of((uint32_t)u);
    if (isfinite(x)) {
      v[n++] = x;
    }
    if (n == CHUNK) {
      judge32(b, v, n, &w);
      n = 0;
    }
  }
  judge32(b, v, n, &w);
  return w;
}

/* As many of each size from 2^-1074 up, and most of them where the function bends. */
static worst measure64(const bound *b, size_t count) {
  worst w = {0};
  double v[CHUNK];
  rng r = {5};
  for (size_t done = 0; done < count; done += CHUNK) {
    for (size_t i = 0; i < CHUNK; i++) {
      const double m = (double)(rng_next(&r) >> 11) * 0x1p-52 - 1;
      const int e = i % 4 == 0   ? (int)rng_below(&r, 2098) - 1074
                    : i % 4 == 1 ? 5 - (int)rng_below(&r, 8)
                                 : 6 - (int)rng_below(&r, 70) % 9 * (int)(i % 8);
      v[i] = i % 4 == 3 ? m * 45 : ldexp(m, e);
    }
    judge64(b, v, CHUNK, &w);
  }
  return w;
}

/* ---- Tests ----------------------------------------------------------------------- */

static void accuracy(void) {
  for (size_t k = 0; k < LENGTH(bounds); k++) {
    const bound *b = &bounds[k];
    const worst w = measure32(b, AT_LEVEL(3001, 100003, 1000003));
    const worst w64 = measure64(b, AT_LEVEL(400000, 20000, 5000));
    CHECK(w.past <= 1, "%s of float32 %.9g: %.3f times its bound", b->name, w.past_at,
          w.past);
    CHECK(w64.past <= 1, "%s of float64 %.17g: %.3f times its bound", b->name,
          w64.past_at, w64.past);
  }
}

static void limits(void) {
  static const struct {
    fastnorm_activation activation;
    double low, high;
  } wanted[] = {{FASTNORM_IDENTITY, -HUGE_VAL, HUGE_VAL},
                {FASTNORM_RELU, 0, HUGE_VAL},
                {FASTNORM_LEAKY_RELU, -HUGE_VAL, HUGE_VAL},
                {FASTNORM_RELU6, 0, 6},
                {FASTNORM_CLAMP, -2, 5},
                {FASTNORM_GELU, -0.0, HUGE_VAL},
                {FASTNORM_GELU_TANH, -0.0, HUGE_VAL},
                {FASTNORM_SILU, -0.0, HUGE_VAL},
                {FASTNORM_SIGMOID, 0, 1},
                {FASTNORM_TANH, -1, 1},
                {FASTNORM_HARDSWISH, -0.0, HUGE_VAL}};
  static const float special[] = {-HUGE_VALF, HUGE_VALF, NAN,  -FLT_MAX,
                                  FLT_MAX,    0.0f,      -0.0f};
  for (size_t k = 0; k < LENGTH(wanted); k++) {
    fn_scatter s = {.activation = wanted[k].activation, .alpha = -2, .beta = 5};
    if (s.activation == FASTNORM_LEAKY_RELU) {
      s.alpha = 0.25;
    }
    for (int wide = 0; wide < 2; wide++) {
      double v[7], y[7];
      s.dtype = wide ? FASTNORM_FLOAT64 : FASTNORM_FLOAT32;
      for (size_t i = 0; i < 7; i++) {
        set_element(s.dtype, v, i, (double)special[i], 1, 0);
      }
      kernels_of(s.dtype)->scatter(&s, v, 7, y, false);
      const double low = element(s.dtype, y, 0), high = element(s.dtype, y, 1);
      CHECK(low == wanted[k].low && !signbit(low) == !signbit(wanted[k].low),
            "%s: activation %d of -Inf is %g", fastnorm_isa(), s.activation, low);
      CHECK(high == wanted[k].high, "%s: activation %d of Inf is %g", fastnorm_isa(),
            s.activation, high);
      const double nan = element(s.dtype, y, 2);
      CHECK(nan != nan, "%s: activation %d of NaN is %g", fastnorm_isa(), s.activation,
            nan);
      for (size_t i = 3; i < 7; i++) {
        CHECK(isfinite(element(s.dtype, y, i)), "%s: activation %d of %g is %g",
              fastnorm_isa(), s.activation, (double)special[i], element(s.dtype, y, i));
      }
      const double zero = element(s.dtype, y, 5), minus = element(s.dtype, y, 6);
      CHECK(zero == (s.activation == FASTNORM_SIGMOID ? 0.5 : 0.0) && minus == zero,
            "%s: activation %d of 0 is %g, of -0 %g", fastnorm_isa(), s.activation,
            zero, minus);
    }
  }
}

static void limits_on_each(void) {
  each_isa(limits);
}

/* NaN with any payload stays one: integer operations on its bits must not heal it. */
static void nans(void) {
  float v[CHUNK], y[CHUNK];
  rng r = {6};
  for (int a = 0; a <= FASTNORM_HARDSWISH; a++) {
    for (size_t i = 0; i < CHUNK; i++) {
      v[i] = float_of((uint32_t)rng_next(&r) | 0x7f800001u);
    }
    const fn_scatter s = {.dtype = FASTNORM_FLOAT32,
                          .activation = (fastnorm_activation)a,
                          .alpha = -1,
                          .beta = 1};
    kernels_of(FASTNORM_FLOAT32)->scatter(&s, v, CHUNK, y, false);
    for (size_t i = 0; i < CHUNK; i++) {
      CHECK(y[i] != y[i], "%s: activation %d of NaN %08x is %g", fastnorm_isa(), a,
            bits_of(v[i]), (double)y[i]);
    }
  }
}

static void nans_on_each(void) {
  each_isa(nans);
}

static uint64_t hash_of(fastnorm_activation activation, fastnorm_dtype working) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  double v[CHUNK], y[CHUNK];
  rng r = {7};
  for (int chunk = 0; chunk < AT_LEVEL(64, 4, 1); chunk++) {
    for (size_t i = 0; i < CHUNK; i++) {
      const uint64_t u = rng_next(&r);
      const double m = (double)(int64_t)u * 0x1p-63;
      set_element(working, v, i, ldexp(m, (int)(u % 40) - 32), 1, 0);
    }
    const fn_scatter s = {.dtype = working, .activation = activation};
    kernels_of(working)->scatter(&s, v, CHUNK, y, false);
    hash = hash_bytes(hash, y, CHUNK * bytes_of(working));
  }
  return hash;
}

static void same_bits(void) {
  for (int k = 0; k < 2 * (FASTNORM_HARDSWISH + 1); k++) {
    const fastnorm_activation activation = (fastnorm_activation)(k / 2);
    const fastnorm_dtype working = k % 2 ? FASTNORM_FLOAT64 : FASTNORM_FLOAT32;
    fastnorm_set_isa("portable");
    const uint64_t wanted = hash_of(activation, working);
    const char *name;
    for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
      fastnorm_set_isa(name);
      CHECK(hash_of(activation, working) == wanted, "activation %d, %s: %s differs",
            activation, type_name(working), name);
    }
  }
  fastnorm_set_isa(NULL);
}

static int print_hash_of_all(void) {
  uint64_t hash = 0;
  for (int k = 0; k < 2 * (FASTNORM_HARDSWISH + 1); k++) {
    hash = hash * 31 + hash_of((fastnorm_activation)(k / 2),
                               k % 2 ? FASTNORM_FLOAT64 : FASTNORM_FLOAT32);
  }
  printf("%016llx\n", (unsigned long long)hash);
  return 0;
}

static int tell(const char *name, const char *type, const worst *w) {
  printf("%-9s %s %.3f ulp at %.9g, in the tail %.3f or %.3g; absolute %.3g at %.9g, "
         "%.3f of the bound at %.9g\n",
         name, type, w->ulps, w->at, w->tail_ulps, w->tail_floor, w->absolute,
         w->absolute_at, w->past, w->past_at);
  fflush(stdout);
  return w->past > 1;
}

static int measure(uint64_t step) {
  int failed = 0;
  for (size_t k = 0; k < LENGTH(bounds); k++) {
    const worst w = measure32(&bounds[k], step);
    const worst w64 = measure64(&bounds[k], step > 100 ? 1000000 : 20000000);
    failed |= tell(bounds[k].name, "float32", &w);
    failed |= tell(bounds[k].name, "float64", &w64);
  }
  return failed || test_failures != 0;
}

int main(int argc, char **argv) {
  static const test_case tests[] = {{"accuracy", accuracy},
                                    {"limits", limits_on_each},
                                    {"nans", nans_on_each},
                                    {"same_bits", same_bits}};
  if (argc > 1 && strcmp(argv[1], "--measure") == 0) {
    return measure(argc > 2 ? strtoull(argv[2], NULL, 10) : 1009);
  }
  if (argc > 1 && strcmp(argv[1], "--hash") == 0) {
    return print_hash_of_all();
  }
  return RUN_TESTS(argc, argv, tests);
}
