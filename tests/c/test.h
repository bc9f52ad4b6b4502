/* test.h - a tiny harness: tests are functions, listed in a table by their file's main.
 * SPDX-License-Identifier: MIT
 *
 * A function that main forgets is an unused static function, so a compile error.
 * Usage: test_x [--quick] [name...]; --quick is for emulators and sanitizers. */
#ifndef FN_TEST_H
#define FN_TEST_H

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastnorm.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

typedef struct test_case {
  const char *name;
  void (*run)(void);
} test_case;

static int test_quick;
static int test_failures; /* of the running test */
static const char *test_name = "";

/* One line per failure; a test stops talking after five. */
__attribute__((format(printf, 1, 2))) static inline void fail(const char *format, ...) {
  if (++test_failures <= 5) {
    va_list arguments;
    va_start(arguments, format);
    printf("FAIL %s: ", test_name);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    fflush(stdout);
  }
}

#define CHECK(condition, ...) ((condition) ? (void)0 : fail(__VA_ARGS__))

static inline int run_tests(int argc, char **argv, const test_case *tests,
                            size_t count) {
  int passed = 0;
  int failed = 0;
  int first = 1;
  if (first < argc && strcmp(argv[first], "--quick") == 0) {
    test_quick = 1;
    first++;
  }
  for (size_t i = 0; i < count; i++) {
    int wanted = first >= argc;
    for (int k = first; k < argc; k++) {
      wanted |= strcmp(argv[k], tests[i].name) == 0;
    }
    if (wanted) {
      test_name = tests[i].name;
      test_failures = 0;
      tests[i].run();
      *(test_failures == 0 ? &passed : &failed) += 1;
    }
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed != 0 || passed == 0;
}

#define RUN_TESTS(argc, argv, tests) run_tests(argc, argv, tests, LENGTH(tests))

/* ---- Numbers that are the same on every machine ---------------------------------- */

typedef struct rng {
  uint64_t state;
} rng;

/* SplitMix64 (Steele, Lea, Flood 2014). */
static inline uint64_t rng_next(rng *r) {
  uint64_t z = (r->state += UINT64_C(0x9e3779b97f4a7c15));
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static inline int64_t rng_below(rng *r, int64_t limit) {
  return (int64_t)(rng_next(r) % (uint64_t)limit);
}

/* About N(0, 1): the sum of twelve uniforms, added as integers, so that no rounding and
 * no compiler can make two machines differ. */
static inline double rng_normal(rng *r) {
  int64_t sum = 0;
  for (int i = 0; i < 12; i++) {
    sum += (int64_t)(rng_next(r) >> 12);
  }
  sum -= INT64_C(6) << 52;
  return (double)sum * 0x1p-52;
}

/* FNV-1a. */
static inline uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t count) {
  const unsigned char *p = bytes;
  for (size_t i = 0; i < count; i++) {
    hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
  }
  return hash;
}

/* ---- Memory -------------------------------------------------------------------- */

static inline void *new_bytes(size_t count) {
  void *p = calloc(count + 1, 1);
  if (p == NULL) {
    fprintf(stderr, "out of memory\n");
    exit(3);
  }
  return p;
}

/* ---- Elements of either type --------------------------------------------------- */

/* Number 0 or 1 of them. */
static inline fastnorm_dtype working_type(int i) {
  return i ? FASTNORM_FLOAT64 : FASTNORM_FLOAT32;
}

static inline size_t element_size(fastnorm_dtype dtype) {
  return dtype == FASTNORM_FLOAT32 ? sizeof(float) : sizeof(double);
}

static inline double get(const void *array, fastnorm_dtype dtype, ptrdiff_t i) {
  return dtype == FASTNORM_FLOAT32 ? (double)((const float *)array)[i]
                                   : ((const double *)array)[i];
}

static inline void put(void *array, fastnorm_dtype dtype, ptrdiff_t i, double value) {
  if (dtype == FASTNORM_FLOAT32) {
    ((float *)array)[i] = (float)value;
  } else {
    ((double *)array)[i] = value;
  }
}

static inline const char *dtype_name(fastnorm_dtype dtype) {
  return dtype == FASTNORM_FLOAT32 ? "float32" : "float64";
}

#endif /* FN_TEST_H */
