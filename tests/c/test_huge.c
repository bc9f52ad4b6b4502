/* test_huge.c - more than 2^31 elements, strides beyond 2^31, extents that overflow.
 * SPDX-License-Identifier: MIT
 *
 * The memory is not there: pages of one small file, mapped again and again, or pages
 * between which nothing is. As they are mapped all the same, `test_huge --long` takes a
 * minute; without that, and with --brief, there is less. */
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "any_arrays.h"

#define IS_WIDE (SIZE_MAX > UINT32_MAX)

#if IS_WIDE

static int is_long;

enum { FILE_BYTES = 1 << 26, MORE = 12345 };
static const size_t HUGE_COUNT = ((size_t)1 << 31) + MORE;

/* ---- Memory ---------------------------------------------------------------------- */

static void *reserve(size_t bytes) {
  void *p =
      mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) {
    perror("mmap");
    exit(3);
  }
  return p;
}

/* `bytes` of which each FILE_BYTES are the same memory. */
static unsigned char *repeated(size_t bytes) {
  const size_t all = (bytes + FILE_BYTES - 1) / FILE_BYTES * FILE_BYTES;
  unsigned char *p = reserve(all);
  const int file = (int)syscall(SYS_memfd_create, "test_huge", 0);
  int failed = file < 0 || ftruncate(file, FILE_BYTES) != 0;
  for (size_t at = 0; at < all && !failed; at += FILE_BYTES) {
    failed = mmap(p + at, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                  file, 0) == MAP_FAILED;
  }
  if (failed) {
    perror("memfd_create");
    exit(3);
  }
  close(file);
  return p;
}

static void forget(void *p, size_t bytes) {
  munmap(p, (bytes + FILE_BYTES - 1) / FILE_BYTES * FILE_BYTES);
}

/* The `bytes` at p, within what is reserved, can be used from now on. */
static void open_pages(void *p, size_t bytes) {
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  const uintptr_t first = (uintptr_t)p / page * page;
  if (mprotect((void *)first, (uintptr_t)p + bytes - first, PROT_READ | PROT_WRITE) !=
      0) {
    perror("mprotect");
    exit(3);
  }
}

/* ---- More than 2^31 elements ----------------------------------------------------- */

/* Bytes whose sums are known, in memory of HUGE_COUNT of them; their exact mean and
 * variance. */
static unsigned char *huge_bytes(double *mean, double *var) {
  unsigned char *x = repeated(HUGE_COUNT);
  unsigned long long sum[2] = {0, 0}, squares[2] = {0, 0};
  for (size_t i = 0; i < FILE_BYTES; i++) {
    x[i] = (unsigned char)((i * 2654435761U >> 13) % 251 + (i < MORE ? 4 : 0));
    for (int k = 0; k < 2; k++) {
      if (k == 0 || i < HUGE_COUNT % FILE_BYTES) {
        sum[k] += x[i];
        squares[k] += (unsigned long long)x[i] * x[i];
      }
    }
  }
  const unsigned long long times = HUGE_COUNT / FILE_BYTES;
  const long double n = (long double)HUGE_COUNT;
  const long double m = (long double)(times * sum[0] + sum[1]) / n;
  *mean = (double)m;
  *var = (double)((long double)(times * squares[0] + squares[1]) / n - m * m);
  return x;
}

static void check_near(const char *what, double got, double wanted, double relative) {
  CHECK(fabs(got - wanted) <= relative * fabs(wanted), "%s is %.17g, not %.17g", what,
        got, wanted);
}

static void moments_of(const char *what, fastnorm_moments_args args, double mean,
                       double var) {
  double m[4] = {0}, m2[4] = {0};
  size_t count[4] = {0};
  args.size = sizeof args;
  args.mean = m;
  args.m2 = m2;
  args.count = count;
  const size_t n = args.batch * args.spatial;
  const fastnorm_status s = fastnorm_moments(&args);
  CHECK(s == FASTNORM_OK, "%s: %s", what, fastnorm_strerror(s));
  for (size_t c = 0; c < args.channels; c++) {
    check_near(what, m[c], mean, 1e-6);
    check_near(what, m2[c], var * (double)n, 1e-6);
    CHECK(count[c] == n, "%s: count %zu", what, count[c]);
  }
}

static void moments(void) {
  double mean, var;
  unsigned char *x = huge_bytes(&mean, &var);
  const fastnorm_moments_args like = {
      .dtype = FASTNORM_UINT8, .x = x, .batch = 1, .channels = 1, .spatial = 1};
  fastnorm_moments_args a = like;
  a.spatial = HUGE_COUNT;
  moments_of("a run", a, mean, var);
  a.spatial = 1;
  a.batch = HUGE_COUNT;
  if (is_long) {
    moments_of("a column", a, mean, var);
  }
  forget(x, HUGE_COUNT);
}

/* y is of a period like x. */
static void check_row(const unsigned char *x, const int8_t *y, double mean,
                      double rstd) {
  for (size_t i = 0; i < FILE_BYTES; i += 7919) {
    const double v = nearbyint(((double)x[i] - mean) * rstd * 20.0);
    const double clamped = v > 127 ? 127 : v < -128 ? -128 : v;
    if (fabs((double)y[i] - clamped) > 1.0) {
      fail("element %zu is %d, not %g", i, y[i], clamped);
      return;
    }
  }
}

static void one_row(void) {
  double mean, var;
  unsigned char *x = huge_bytes(&mean, &var);
  int8_t *y = (int8_t *)repeated(HUGE_COUNT);
  float found[2] = {0};
  const fastnorm_layer_norm_args args = {
      .size = sizeof args,
      .dtype = FASTNORM_UINT8,
      .x = x,
      .y = y,
      .mean = &found[0],
      .rstd = &found[1],
      .rows = 1,
      .cols = HUGE_COUNT,
      .format = {.y = FASTNORM_INT8, .y_quantization = {.scale = 0.05F}}};
  const fastnorm_status s = fastnorm_layer_norm(&args);
  CHECK(s == FASTNORM_OK, "%s", fastnorm_strerror(s));
  check_near("mean", (double)found[0], mean, 1e-6);
  check_near("rstd", (double)found[1], 1.0 / sqrt(var + 1e-5), 1e-6);
  check_row(x, y, (double)found[0], (double)found[1]);
  CHECK(y[HUGE_COUNT - 1] != 0 || y[HUGE_COUNT - 2] != 0, "the end was not written");
  forget(x, HUGE_COUNT);
  forget(y, HUGE_COUNT);
}

/* All rows are the same, so that all repetitions are. */
static void many_rows(void) {
  const size_t rows = HUGE_COUNT / 64, bytes = HUGE_COUNT * sizeof(float);
  float *x = (float *)(void *)repeated(bytes), *y = (float *)(void *)repeated(bytes);
  for (size_t i = 0; i < FILE_BYTES / sizeof *x; i++) {
    x[i] = (float)(i % 64);
  }
  const fastnorm_layer_norm_args args = {
      .size = sizeof args, .x = x, .y = y, .rows = rows, .cols = 64};
  CHECK(fastnorm_layer_norm(&args) == FASTNORM_OK, "layer norm");
  for (size_t i = 0; i < FILE_BYTES / sizeof *x; i += 1237) {
    const double exact = ((double)(i % 64) - 31.5) / sqrt(341.25 + 1e-5);
    if (fabs((double)y[i] - exact) > 1e-6) {
      fail("element %zu is %g, not %g", i, (double)y[i], exact);
      break;
    }
  }
  CHECK(memcmp(y, y + rows * 64 - 64, 64 * sizeof *y) == 0, "the last row differs");
  forget(x, bytes);
  forget(y, bytes);
}

/* Sums over more than 2^31 rows' elements. */
static void gradients(void) {
  const size_t rows = HUGE_COUNT / 64, bytes = HUGE_COUNT * sizeof(float);
  float *x = (float *)(void *)repeated(bytes), sums[2][64] = {{0}};
  for (size_t i = 0; i < FILE_BYTES / sizeof *x; i++) {
    x[i] = (float)(i % 64);
  }
  const fastnorm_layer_norm_backward_args args = {.size = sizeof args,
                                                  .grad_y = x,
                                                  .x = x,
                                                  .grad_weight = sums[0],
                                                  .grad_bias = sums[1],
                                                  .rows = rows,
                                                  .cols = 64};
  CHECK(fastnorm_layer_norm_backward(&args) == FASTNORM_OK, "gradient");
  for (size_t j = 0; j < 64; j++) {
    const double g = (double)j * (double)rows;
    const double xhat = ((double)j - 31.5) / sqrt(341.25 + 1e-5);
    CHECK(fabs((double)sums[1][j] - g) <= 8e-7 * g, "bias %zu: %g, not %g", j,
          (double)sums[1][j], g);
    CHECK(fabs((double)sums[0][j] - g * xhat) <= 8e-7 * g * fmax(1.0, fabs(xhat)),
          "weight %zu: %g, not %g", j, (double)sums[0][j], g * xhat);
  }
  forget(x, bytes);
}

/* ---- Strides beyond 2^31 --------------------------------------------------------- */

/* Three rows, or samples of two channels, far apart; from the last to the first too. */
static void far_apart(void) {
  enum { N = 100 };
  const ptrdiff_t apart = ((ptrdiff_t)1 << 31) + 7, sample = 3 * apart;
  const size_t span = ((size_t)(2 * sample + apart) + N) * sizeof(float);
  float *x = reserve(span), *y = reserve(span);
  float near_x[6][N], near_y[6][N];
  for (size_t i = 0; i < 6; i++) {
    const ptrdiff_t at = (ptrdiff_t)(i / 2) * sample + (ptrdiff_t)(i % 2) * apart;
    open_pages(x + at, sizeof near_x[i]);
    open_pages(y + at, sizeof near_x[i]);
    fill_flat(x + at, FASTNORM_FLOAT32, N, 3.0, 2.0, i);
    fill_flat(near_x[i], FASTNORM_FLOAT32, N, 3.0, 2.0, i);
  }
  for (int op = 0; op < 5; op++) {
    for (int back = 0; back < 2; back++) {
      static const operation ops[] = {LAYER_NORM, BATCH_TRAINING, INSTANCE_NORM,
                                      GROUP_NORM, L2_NORM};
      const int rows = is_row_norm(ops[op]);
      job j = {.op = ops[op], .n0 = 3, .n1 = rows ? N : 2, .n2 = rows ? 1 : N};
      job far = j;
      j.dtype = far.dtype = FASTNORM_FLOAT32;
      j.groups = far.groups = 1;
      j.x = near_x, j.y = near_y;
      j.x_s0 = j.y_s0 = 2 * N;
      far.x_s0 = far.y_s0 = back ? -sample : sample;
      far.x_s1 = far.y_s1 = rows ? 0 : apart;
      far.x = x + (back ? 2 * sample : 0);
      far.y = y + (back ? 2 * sample : 0);
      CHECK(run_job(&far) == FASTNORM_OK, "%s: far", operation_names[ops[op]]);
      for (size_t i = 0; i < 6; i++) { /* the same rows in the same order */
        const size_t from = back ? (2 - i / 2) * 2 + i % 2 : i;
        fill_flat(near_x[i], FASTNORM_FLOAT32, N, 3.0, 2.0, from);
      }
      CHECK(run_job(&j) == FASTNORM_OK, "%s: near", operation_names[ops[op]]);
      for (size_t i = 0; i < 6; i += rows ? 2 : 1) {
        const ptrdiff_t at = (ptrdiff_t)(i / 2) * far.y_s0 + (ptrdiff_t)(i % 2) * apart;
        CHECK(memcmp((float *)far.y + at, near_y[i], sizeof near_y[i]) == 0,
              "%s: run %zu differs, back %d", operation_names[ops[op]], i, back);
      }
    }
  }
  munmap(x, span);
  munmap(y, span);
}

/* Inputs may overlap, so one page can be 2^32 elements. */
static void overlapping_input(void) {
  static float x[2 << 16];
  for (size_t i = 0; i < LENGTH(x); i++) {
    x[i] = (float)(i % 2);
  }
  const fastnorm_moments_args a = {.x = x,
                                   .batch = (size_t)1 << 16,
                                   .channels = 1,
                                   .spatial = (size_t)1 << 16,
                                   .x_stride = 1,
                                   .x_channel_stride = (ptrdiff_t)1 << 33};
  moments_of("overlapping samples", a, 0.5, 0.25);
}

#endif /* IS_WIDE */

/* ---- Extents that overflow ------------------------------------------------------- */

/* Of every operation: products that leave ptrdiff_t, also those that come back to 0 or
 * to something small, in elements or only in bytes. */
static void extents(void) {
  const size_t half = (size_t)1 << (sizeof(size_t) * 4), most = (size_t)PTRDIFF_MAX;
  const size_t bad[][3] = {{half, half, 1},      {half, 1, half},
                           {1, half, half},      {half, half + 1, 1},
                           {most / 4 + 1, 1, 1}, {2, most / 4, 1},
                           {1, most / 8 + 1, 2}, {3, SIZE_MAX / 3, 1},
                           {SIZE_MAX, 1, 1},     {half * 2, half / 2, 2}};
  static double memory[64];
  for (size_t op = 0; op < KNOWN_OPERATIONS; op++) {
    const known_operation *o = &known_operations[op];
    for (size_t i = 0; i < LENGTH(bad) && o->layout != STATE_LAYOUT; i++) {
      any_call c = {.op = o};
      size_t extent = 0;
      for (size_t k = 0; k < o->count; k++) {
        const field *f = &o->fields[k];
        const void *p = memory;
        const size_t n = extent < 3 ? bad[i][extent] : 1;
        if (f->kind == SIZE_FIELD) {
          put_field(&c, f->at, &f->whole, sizeof f->whole);
        } else if (f->kind == EXTENT) {
          put_field(&c, f->at, &n, sizeof n);
          extent++;
        } else if (f->kind == FEATURES) {
          put_field(&c, f->at, &bad[i][1], sizeof n);
        } else if (f->kind == GROUPS) {
          const size_t one = 1;
          put_field(&c, f->at, &one, sizeof one);
        } else if (f->kind == ARRAY && f->needed) {
          put_field(&c, f->at, &p, sizeof p);
        }
      }
      const fastnorm_status s = o->call(c.args.bytes);
      CHECK(s == FASTNORM_ERROR_SHAPE, "%s [%zu, %zu, %zu]: status %d", o->name,
            bad[i][0], bad[i][1], bad[i][2], (int)s);
      CHECK(o->scratch == NULL || o->scratch(c.args.bytes) == 0,
            "%s [%zu, %zu, %zu]: scratch", o->name, bad[i][0], bad[i][1], bad[i][2]);
    }
  }
  for (size_t i = 0; i < LENGTH(memory); i++) {
    CHECK(memory[i] == 0.0, "memory was written");
  }
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
    {"extents", extents},
#if IS_WIDE
    {"far_apart", far_apart},
    {"overlapping_input", overlapping_input},
    {"moments", moments},
    {"one_row", one_row},
    {"many_rows", many_rows},
    {"gradients", gradients},
#endif
  };
  size_t count = LENGTH(tests);
#if IS_WIDE
  if (argc > 1 && strcmp(argv[1], "--long") == 0) {
    is_long = 1;
    argc--;
    argv++;
  } else if (argc > 1 && strcmp(argv[1], "--brief") == 0) {
    count -= 4;
  } else {
    count -= argc > 1 && strcmp(argv[1], "--quick") == 0 ? 3 : 2;
  }
#endif
  return run_tests(argc, argv, tests, count);
}
