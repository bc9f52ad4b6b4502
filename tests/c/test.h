/* test.h - a tiny harness: tests are functions, listed in a table by their file's main.
 * SPDX-License-Identifier: MIT
 *
 * A function that main forgets is an unused static function, so a compile error.
 * Usage: test_x [--quick | --brief] [name...]: fewer cases of every kind; the fewest
 * are for emulators and sanitizers. */
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

static enum { FULL, QUICK, BRIEF } test_level;
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

#define AT_LEVEL(full, quick, brief)                                                   \
  (test_level == FULL ? (full) : test_level == QUICK ? (quick) : (brief))

#define CHECK(condition, ...) ((condition) ? (void)0 : fail(__VA_ARGS__))

static inline int run_tests(int argc, char **argv, const test_case *tests,
                            size_t count) {
  int passed = 0;
  int failed = 0;
  int first = 1;
  if (first < argc && strcmp(argv[first], "--quick") == 0) {
    test_level = QUICK;
    first++;
  } else if (first < argc && strcmp(argv[first], "--brief") == 0) {
    test_level = BRIEF;
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

/* About N(0, 1): the sum of three uniforms from -1 to 1, added as integers, so that no
 * rounding and no compiler can make two machines differ. */
static inline double rng_normal(rng *r) {
  int64_t sum = 0;
  for (int i = 0; i < 3; i++) {
    sum += (int64_t)(rng_next(r) >> 12);
  }
  sum -= INT64_C(3) << 51;
  return (double)sum * 0x1p-51;
}

/* FNV-1a of `count` bytes that are elements of `size`, taken as a little-endian machine
 * has them. */
static inline uint64_t hash_array(uint64_t hash, const void *array, size_t count,
                                  size_t size) {
  const uint16_t one = 1;
  const size_t flip = *(const unsigned char *)&one ? 0 : size - 1;
  const unsigned char *p = array;
  for (size_t i = 0; i < count; i++) {
    hash = (hash ^ p[i - i % size + (i % size ^ flip)]) * UINT64_C(0x100000001b3);
  }
  return hash;
}

static inline uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t count) {
  return hash_array(hash, bytes, count, 1);
}

/* ---- A hash of results, to compare machines -------------------------------------- */

static uint64_t running_hash;

/* `test_x --hash ISA`: prints the hash of what `add_all` adds to it on that instruction
 * set. */
static inline int print_hash(const char *isa, void (*add_all)(void)) {
  if (fastnorm_set_isa(isa) != FASTNORM_OK) {
    fprintf(stderr, "no %s here\n", isa);
    return 1;
  }
  running_hash = UINT64_C(0xcbf29ce484222325);
  test_level = QUICK;
  add_all();
  printf("%016llx\n", (unsigned long long)running_hash);
  return test_failures != 0;
}

#define PRINT_HASH_IF_ASKED(argc, argv, add_all)                                       \
  do {                                                                                 \
    if ((argc) > 1 && strcmp((argv)[1], "--hash") == 0) {                              \
      return print_hash((argc) > 2 ? (argv)[2] : NULL, add_all);                       \
    }                                                                                  \
  } while (0)

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
