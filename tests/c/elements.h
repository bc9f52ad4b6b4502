/* elements.h - what elements stand for, one at a time: the definition to test against.
 * SPDX-License-Identifier: MIT */
#ifndef FN_TEST_ELEMENTS_H
#define FN_TEST_ELEMENTS_H

#include "dispatch.h"
#include "kernels.h"
#include "test.h"

static inline size_t bytes_of(fastnorm_dtype dtype) {
  switch (dtype) {
  case FASTNORM_FLOAT64:
    return 8;
  case FASTNORM_FLOAT16:
  case FASTNORM_BFLOAT16:
    return 2;
  case FASTNORM_INT8:
  case FASTNORM_UINT8:
    return 1;
  default:
    return 4;
  }
}

static inline const char *type_name(fastnorm_dtype dtype) {
  static const char *const names[] = {"default",  "float32", "float64", "float16",
                                      "bfloat16", "int8",    "uint8"};
  return names[dtype];
}

static inline uint32_t bits_of(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

static inline float float_of(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}

/* A binary format below float: explicit bits of the significand, least exponent. */
typedef struct small_format {
  int digits, least;
} small_format;

static inline small_format small_format_of(fastnorm_dtype dtype) {
  return dtype == FASTNORM_FLOAT16 ? (small_format){10, -14} : (small_format){7, -126};
}

static inline uint16_t small_infinity(small_format f) {
  return (uint16_t)(0x7fff >> f.digits << f.digits);
}

/* By the meaning of the fields; NaN is made quiet if it is float16. */
static inline float decode_small(fastnorm_dtype dtype, uint16_t h) {
  const small_format f = small_format_of(dtype);
  const uint16_t a = h & 0x7fff;
  const int exponent = a >> f.digits, m = a & ((1 << f.digits) - 1);
  float r;
  if (a > small_infinity(f)) {
    const uint32_t quiet = dtype == FASTNORM_FLOAT16 ? 0x400000 : 0;
    return float_of((uint32_t)(h & 0x8000) << 16 | 0x7f800000 | quiet |
                    (uint32_t)m << (23 - f.digits));
  }
  if (a == small_infinity(f)) {
    r = HUGE_VALF;
  } else if (exponent == 0) {
    r = ldexpf((float)m, f.least - f.digits);
  } else {
    r = ldexpf((float)(m + (1 << f.digits)), exponent - 1 + f.least - f.digits);
  }
  return h & 0x8000 ? -r : r;
}

/* The nearest multiple of the unit at x, ties to even; its fields. */
static inline uint16_t encode_small(fastnorm_dtype dtype, float x) {
  const small_format f = small_format_of(dtype);
  const uint16_t sign = (uint16_t)(signbit(x) ? 0x8000 : 0);
  const double a = fabs((double)x);
  if (x != x) {
    const uint32_t payload = (bits_of(x) & 0x7fffff) >> (23 - f.digits);
    return (uint16_t)(sign | small_infinity(f) | 1u << (f.digits - 1) | payload);
  }
  int e = a > 0 && !isinf(a) ? ilogb(a) : f.least;
  e = e < f.least ? f.least : e;
  const double m = isinf(a) ? HUGE_VAL : nearbyint(ldexp(a, f.digits - e));
  const double limit = ldexp(2.0 - ldexp(1.0, -f.digits), 1 - f.least);
  if (ldexp(m, e - f.digits) > limit) {
    return sign | small_infinity(f);
  }
  return (uint16_t)(sign | ((e - f.least) * (1 << f.digits) + (int)m));
}

static inline double element(fastnorm_dtype dtype, const void *p, size_t i) {
  switch (dtype) {
  case FASTNORM_FLOAT64:
    return ((const double *)p)[i];
  case FASTNORM_FLOAT16:
  case FASTNORM_BFLOAT16:
    return (double)decode_small(dtype, ((const uint16_t *)p)[i]);
  case FASTNORM_INT8:
    return ((const int8_t *)p)[i];
  case FASTNORM_UINT8:
    return ((const uint8_t *)p)[i];
  default:
    return (double)((const float *)p)[i];
  }
}

static inline int quantise(fastnorm_dtype dtype, float v, float inverse_scale,
                           int zero_point) {
  const int low = dtype == FASTNORM_INT8 ? -128 : 0;
  const double r = nearbyint((double)(v * inverse_scale)) + zero_point;
  return v != v ? zero_point : r < low ? low : r > low + 255 ? low + 255 : (int)r;
}

/* Stores what `v`, a number of the working type, becomes as element i. */
static inline void set_element(fastnorm_dtype dtype, void *p, size_t i, double v,
                               float inverse_scale, int zero_point) {
  switch (dtype) {
  case FASTNORM_FLOAT64:
    ((double *)p)[i] = v;
    break;
  case FASTNORM_FLOAT16:
  case FASTNORM_BFLOAT16:
    ((uint16_t *)p)[i] = encode_small(dtype, (float)v);
    break;
  case FASTNORM_INT8:
  case FASTNORM_UINT8:
    ((uint8_t *)p)[i] = (uint8_t)quantise(dtype, (float)v, inverse_scale, zero_point);
    break;
  default:
    ((float *)p)[i] = (float)v;
    break;
  }
}

static inline double rounded(fastnorm_dtype working, double v) {
  return working == FASTNORM_FLOAT32 ? (double)(float)v : v;
}

/* The kernels of the instruction set in use. */
static inline const fn_kernels *kernels_of(fastnorm_dtype working) {
  return fn_dispatch(working);
}

/* Runs `test` with each instruction set of this machine. */
static inline void each_isa(void (*test)(void)) {
  const char *name;
  for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
    fastnorm_set_isa(name);
    test();
  }
  fastnorm_set_isa(NULL);
}

/* Adds n elements to the hash; which NaN is not promised. */
static inline void hash_elements(fastnorm_dtype dtype, const void *p, size_t n) {
  for (size_t i = 0; i < n; i++) {
    const double v = element(dtype, p, i);
    const uint64_t nan = 0;
    const void *hashed = isnan(v) ? (const void *)&nan : &v;
    running_hash = hash_array(running_hash, hashed, sizeof v, sizeof v);
  }
}

/* A test for the table of tests. */
#define ON_EACH_ISA(name)                                                              \
  static void name##_on_each(void) {                                                   \
    each_isa(name);                                                                    \
  }

#endif
