/* test_args.c - every bad argument gives its status and writes nothing; the settings.
 * SPDX-License-Identifier: MIT
 */
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "args.h"

/* What all operations share. */
#define CHECK_COMMON(op)                                                               \
  do {                                                                                 \
    reset_memory();                                                                    \
    check_refused(fastnorm_##op(NULL), FASTNORM_ERROR_ARGS, #op ": NULL");             \
    REFUSED(op, FASTNORM_ERROR_ARGS, args.size = 0);                                   \
    REFUSED(op, FASTNORM_ERROR_ARGS, args.size = 40);                                  \
    REFUSED(op, FASTNORM_ERROR_DTYPE, args.dtype = (fastnorm_dtype)7);                 \
    REFUSED(op, FASTNORM_ERROR_DTYPE, args.dtype = (fastnorm_dtype)-1);                \
    REFUSED(op, FASTNORM_ERROR_NULL, args.x = NULL);                                   \
    REFUSED(op, FASTNORM_ERROR_NULL, args.mean_or_y = NULL);                           \
    REFUSED(op, FASTNORM_ERROR_ALIGNMENT, args.x = NOT_ALIGNED(m.x));                  \
    REFUSED(op, FASTNORM_ERROR_SHAPE, args.x_stride = PTRDIFF_MAX);                    \
    REFUSED(op, FASTNORM_ERROR_SHAPE, args.x_stride = PTRDIFF_MIN);                    \
    REFUSED(op, FASTNORM_ERROR_THREADS, args.exec.num_threads = -1);                   \
    ACCEPTED(op, 1, (void)args);                                                       \
    ACCEPTED(op, 1, args.x_stride = 2);                                                \
    ACCEPTED(op, 1, args.exec.num_threads = 5);                                        \
  } while (0)

static void every_operation(void) {
#define mean_or_y y
  CHECK_COMMON(layer_norm);
  CHECK_COMMON(rms_norm);
  CHECK_COMMON(batch_norm);
  CHECK_COMMON(batch_renorm);
  CHECK_COMMON(weight_norm);
  CHECK_COMMON(l2_norm);
  CHECK_COMMON(l1_norm);
  CHECK_COMMON(group_norm);
  CHECK_COMMON(instance_norm);
#undef mean_or_y
#define mean_or_y mean
  CHECK_COMMON(moments);
#undef mean_or_y
}

#define AT_ADDRESS(number) ((void *)(uintptr_t)(number))

#define CHECK_ROWS(op)                                                                 \
  do {                                                                                 \
    REFUSED(op, FASTNORM_ERROR_SHAPE, args.rows = args.cols = SIZE_MAX);               \
    REFUSED(op, FASTNORM_ERROR_SHAPE, args.rows = SIZE_MAX / 4);                       \
    REFUSED(op, FASTNORM_ERROR_SHAPE, args.rows = (size_t)PTRDIFF_MAX / 8);            \
    REFUSED(op, FASTNORM_ERROR_SHAPE, args.inner = SIZE_MAX / 3);                      \
    REFUSED(op, FASTNORM_ERROR_SHAPE, args.y_stride = PTRDIFF_MAX / 2);                \
    REFUSED(op, FASTNORM_ERROR_STRIDE, args.y_stride = 5);                             \
    REFUSED(op, FASTNORM_ERROR_STRIDE, args.y_stride = -5);                            \
    REFUSED(op, FASTNORM_ERROR_ALIGNMENT, args.y = NOT_ALIGNED(m.y));                  \
    REFUSED(op, FASTNORM_ERROR_ALIGNMENT, args.weight = NOT_ALIGNED(m.weight));        \
    REFUSED(op, FASTNORM_ERROR_ALIGNMENT, args.rstd = NOT_ALIGNED(m.rstd));            \
    REFUSED(op, FASTNORM_ERROR_OVERLAP, args.y = m.x + 1);                             \
    REFUSED(op, FASTNORM_ERROR_OVERLAP, args.y = m.x + 23);                            \
    REFUSED(op, FASTNORM_ERROR_OVERLAP, args.x = m.y + 23);                            \
    REFUSED(op, FASTNORM_ERROR_OVERLAP, (args.y = m.x, args.y_stride = 7));            \
    REFUSED(op, FASTNORM_ERROR_OVERLAP, args.weight = m.y + 3);                        \
    REFUSED(op, FASTNORM_ERROR_OVERLAP, args.rstd = m.y + 20);                         \
    REFUSED(op, FASTNORM_ERROR_OVERLAP, args.rstd = m.x + 23);                         \
    REFUSED(op, FASTNORM_ERROR_OVERLAP, args.rstd = m.weight + 5);                     \
    REFUSED(op, FASTNORM_ERROR_EPS, args.eps = (double)NAN);                           \
    REFUSED(op, FASTNORM_ERROR_EPS, args.eps = (double)INFINITY);                      \
    REFUSED(op, FASTNORM_ERROR_EPS, args.eps = -0.5);                                  \
    ACCEPTED(op, 1, args.eps = FASTNORM_EPS_ZERO);                                     \
    ACCEPTED(op, 1, args.y = m.x);                                                     \
    ACCEPTED(op, 1, args.y = m.x + 24);                                                \
    /* columns side by side in rows of one stride, and what comes into the next row */ \
    ACCEPTED(op, 1, (args.y = m.x + 6, args.x_stride = args.y_stride = 12));           \
    ACCEPTED(op, 1, (args.x = m.y + 6, args.x_stride = args.y_stride = 12));           \
    REFUSED(op, FASTNORM_ERROR_OVERLAP,                                                \
            (args.y = m.x + 6, args.x_stride = args.y_stride = 11));                   \
    REFUSED(op, FASTNORM_ERROR_OVERLAP,                                                \
            (args.x = m.y + 6, args.x_stride = args.y_stride = 11));                   \
    REFUSED(op, FASTNORM_ERROR_OVERLAP,                                                \
            (args.y = m.x + 5, args.x_stride = args.y_stride = 12));                   \
    /* beyond either end of the address space */                                       \
    REFUSED(op, FASTNORM_ERROR_SHAPE, args.x = AT_ADDRESS(UINTPTR_MAX - 91));          \
    REFUSED(op, FASTNORM_ERROR_SHAPE, (args.x = AT_ADDRESS(64), args.x_stride = -6));  \
    ACCEPTED(op, 1, args.weight = m.x);                                                \
    ACCEPTED(op, 1, (args.y = m.y + 18, args.y_stride = -6));                          \
    ACCEPTED(op, 1, (args.weight = NULL, args.rstd = NULL));                           \
    ACCEPTED(op, 0, args.rows = 0);                                                    \
    ACCEPTED(op, 0, args.cols = 0);                                                    \
    ACCEPTED(op, 0, (args.rows = 0, args.x = NULL, args.y = NULL));                    \
  } while (0)

static void row_norms(void) {
  CHECK_ROWS(layer_norm);
  CHECK_ROWS(rms_norm);
  REFUSED(layer_norm, FASTNORM_ERROR_ALIGNMENT, args.bias = NOT_ALIGNED(m.bias));
  REFUSED(layer_norm, FASTNORM_ERROR_ALIGNMENT, args.mean = NOT_ALIGNED(m.mean));
  REFUSED(layer_norm, FASTNORM_ERROR_OVERLAP, args.mean = m.rstd);
  REFUSED(layer_norm, FASTNORM_ERROR_OVERLAP, args.mean = m.rstd + 3);
  REFUSED(layer_norm, FASTNORM_ERROR_OVERLAP, args.mean = m.y);
  REFUSED(layer_norm, FASTNORM_ERROR_OVERLAP, args.bias = m.y + 23);
  REFUSED(layer_norm, FASTNORM_ERROR_OVERLAP, args.mean = m.bias + 5);
  ACCEPTED(layer_norm, 1, args.bias = m.weight);
}

static void batch_norm(void) {
  const fastnorm_status shape = FASTNORM_ERROR_SHAPE, overlap = FASTNORM_ERROR_OVERLAP;
  const fastnorm_status stride = FASTNORM_ERROR_STRIDE;
  REFUSED(batch_norm, shape, args.batch = args.channels = SIZE_MAX);
  REFUSED(batch_norm, shape, args.spatial = SIZE_MAX / 2);
  REFUSED(batch_norm, shape, args.x_channel_stride = PTRDIFF_MAX / 2);
  REFUSED(batch_norm, shape, args.y_channel_stride = PTRDIFF_MAX / 2);
  REFUSED(batch_norm, stride, args.y_channel_stride = 3);
  REFUSED(batch_norm, stride, args.y_stride = 11);
  REFUSED(batch_norm, FASTNORM_ERROR_ALIGNMENT, args.y = NOT_ALIGNED(m.y));
  REFUSED(batch_norm, FASTNORM_ERROR_ALIGNMENT, args.running_var = NOT_ALIGNED(m.mean));
  REFUSED(batch_norm, overlap, args.y = m.x + 1);
  REFUSED(batch_norm, overlap, (args.y = m.x, args.y_stride = 13));
  REFUSED(batch_norm, overlap, args.running_mean = m.running_var + 2);
  REFUSED(batch_norm, overlap, args.running_mean = m.x + 23);
  REFUSED(batch_norm, overlap, args.running_var = m.y);
  REFUSED(batch_norm, overlap, args.mean = m.running_mean);
  REFUSED(batch_norm, overlap, (args.training = 0, args.mean = m.running_mean));
  REFUSED(batch_norm, overlap, args.weight = m.rstd + 2);
  REFUSED(batch_norm, FASTNORM_ERROR_MOMENTUM, args.momentum = 1.5);
  REFUSED(batch_norm, FASTNORM_ERROR_MOMENTUM, args.momentum = -0.5);
  REFUSED(batch_norm, FASTNORM_ERROR_MOMENTUM, args.momentum = (double)NAN);
  REFUSED(batch_norm, FASTNORM_ERROR_RUNNING, args.running_mean = NULL);
  REFUSED(batch_norm, FASTNORM_ERROR_RUNNING, args.running_var = NULL);
  REFUSED(batch_norm, FASTNORM_ERROR_RUNNING,
          (args.training = 0, args.running_mean = args.running_var = NULL));
  REFUSED(batch_norm, FASTNORM_ERROR_COUNT, args.batch = args.spatial = 1);
  REFUSED(batch_norm, FASTNORM_ERROR_EPS, args.eps = -2.0);
  ACCEPTED(batch_norm, 1, (args.training = 0, args.batch = args.spatial = 1));
  ACCEPTED(batch_norm, 1, args.running_mean = args.running_var = NULL);
  ACCEPTED(batch_norm, 1, args.momentum = FASTNORM_MOMENTUM_CUMULATIVE);
  ACCEPTED(batch_norm, 1, args.momentum = 1.0);
  ACCEPTED(batch_norm, 1, args.y = m.x);
  ACCEPTED(batch_norm, 1, (args.x_stride = 20, args.x_channel_stride = 5));
  ACCEPTED(batch_norm, 0, args.batch = 0);
  ACCEPTED(batch_norm, 0, args.channels = 0);
  ACCEPTED(batch_norm, 0, args.spatial = 0);
}

static void batch_renorm(void) {
  const fastnorm_status limits = FASTNORM_ERROR_LIMITS;
  const fastnorm_status overlap = FASTNORM_ERROR_OVERLAP;
  REFUSED(batch_renorm, limits, args.r_max = 0.99);
  REFUSED(batch_renorm, limits, args.r_max = -3.0);
  REFUSED(batch_renorm, limits, args.r_max = (double)NAN);
  REFUSED(batch_renorm, limits, args.d_max = -0.5);
  REFUSED(batch_renorm, limits, args.d_max = -2.0);
  REFUSED(batch_renorm, limits, args.d_max = (double)NAN);
  REFUSED(batch_renorm, FASTNORM_ERROR_RUNNING,
          args.running_mean = args.running_var = NULL);
  REFUSED(batch_renorm, FASTNORM_ERROR_RUNNING, args.running_var = NULL);
  REFUSED(batch_renorm, FASTNORM_ERROR_MOMENTUM, args.momentum = 1.5);
  REFUSED(batch_renorm, FASTNORM_ERROR_COUNT, args.batch = args.spatial = 1);
  REFUSED(batch_renorm, FASTNORM_ERROR_STRIDE, args.y_channel_stride = 3);
  REFUSED(batch_renorm, FASTNORM_ERROR_ALIGNMENT, args.r = NOT_ALIGNED(args.r));
  REFUSED(batch_renorm, FASTNORM_ERROR_ALIGNMENT, args.d = NOT_ALIGNED(args.d));
  REFUSED(batch_renorm, overlap, args.r = m.x);
  REFUSED(batch_renorm, overlap, args.d = m.y + 23);
  REFUSED(batch_renorm, overlap, args.d = m.running_mean);
  REFUSED(batch_renorm, overlap, args.r = args.d);
  ACCEPTED(batch_renorm, 1, args.r_max = (double)INFINITY);
  ACCEPTED(batch_renorm, 1, args.d_max = (double)INFINITY);
  ACCEPTED(batch_renorm, 1, args.d_max = FASTNORM_D_MAX_ZERO);
  ACCEPTED(batch_renorm, 1, (args.r = args.d = args.mean = args.rstd = NULL));
  ACCEPTED(batch_renorm, 1, (args.training = 0, args.batch = args.spatial = 1));
  ACCEPTED(batch_renorm, 1, args.y = m.x);
  ACCEPTED(batch_renorm, 0, args.batch = 0);
  ACCEPTED(batch_renorm, 0, args.channels = 0);
}

static void weight_norm(void) {
  const fastnorm_status overlap = FASTNORM_ERROR_OVERLAP;
  REFUSED(weight_norm, FASTNORM_ERROR_SHAPE, args.batch = args.channels = SIZE_MAX);
  REFUSED(weight_norm, FASTNORM_ERROR_STRIDE, args.y_channel_stride = 3);
  REFUSED(weight_norm, FASTNORM_ERROR_STRIDE,
          (args.spatial = 1, args.x_channel_stride = 2));
  REFUSED(weight_norm, FASTNORM_ERROR_ALIGNMENT, args.g = NOT_ALIGNED(m.weight));
  REFUSED(weight_norm, FASTNORM_ERROR_ALIGNMENT, args.norm = NOT_ALIGNED(m.rstd));
  REFUSED(weight_norm, overlap, args.y = m.x + 1);
  REFUSED(weight_norm, overlap, args.g = m.y + 3);
  REFUSED(weight_norm, overlap, args.norm = m.x + 23);
  REFUSED(weight_norm, overlap, args.norm = m.weight);
  ACCEPTED(weight_norm, 1, args.g = NULL);
  ACCEPTED(weight_norm, 1, args.norm = NULL);
  ACCEPTED(weight_norm, 1, args.y = m.x);
  ACCEPTED(weight_norm, 1, args.batch = args.spatial = 1);
  ACCEPTED(weight_norm, 0, args.batch = 0);
  ACCEPTED(weight_norm, 0, args.spatial = 0);
}

static void moments(void) {
  REFUSED(moments, FASTNORM_ERROR_NULL, args.m2 = NULL);
  REFUSED(moments, FASTNORM_ERROR_SHAPE, args.batch = args.channels = SIZE_MAX);
  REFUSED(moments, FASTNORM_ERROR_ALIGNMENT, args.mean = NOT_ALIGNED(m.moment_mean));
  REFUSED(moments, FASTNORM_ERROR_OVERLAP, args.m2 = m.moment_mean + 2);
  REFUSED(moments, FASTNORM_ERROR_OVERLAP, args.mean = (double *)(void *)m.x);
  ACCEPTED(moments, 0, args.batch = 0);
  ACCEPTED(moments, 0, args.channels = 0);
}

static void merging(void) {
  uint64_t n = 3;
  double *a = m.moment_mean, *b = m.moment_m2;
  const double *c = m.scratch, *d = m.scratch + 8;
  reset_memory();
  const fastnorm_status null = FASTNORM_ERROR_NULL;
  check_refused(fastnorm_moments_merge(2, NULL, a, b, 1, c, d), null, "no count");
  check_refused(fastnorm_moments_merge(2, &n, NULL, b, 1, c, d), null, "no mean");
  check_refused(fastnorm_moments_merge(2, &n, a, NULL, 1, c, d), null, "no m2");
  check_refused(fastnorm_moments_merge(2, &n, a, b, 1, NULL, d), null, "no other mean");
  check_refused(fastnorm_moments_merge(2, &n, a, b, 1, c, NULL), null, "no other m2");
  const fastnorm_status overlap = FASTNORM_ERROR_OVERLAP;
  const fastnorm_status aligned = FASTNORM_ERROR_ALIGNMENT;
  check_refused(fastnorm_moments_merge(2, &n, a, a, 1, c, d), overlap, "m2 is mean");
  check_refused(fastnorm_moments_merge(2, &n, a, a + 1, 1, c, d), overlap,
                "m2 in mean");
  check_refused(fastnorm_moments_merge(2, &n, a, b, 1, b, d), overlap, "mean is m2");
  check_refused(fastnorm_moments_merge(2, &n, a, b, 1, a, d), overlap, "half itself");
  check_refused(fastnorm_moments_merge(2, &n, a, b, 1, a + 1, b + 1), overlap,
                "in itself");
  double *odd = NOT_ALIGNED(m.scratch + 16);
  check_refused(fastnorm_moments_merge(2, &n, odd, b, 1, c, d), aligned, "mean");
  check_refused(fastnorm_moments_merge(2, &n, a, odd, 1, c, d), aligned, "m2");
  check_refused(fastnorm_moments_merge(2, &n, a, b, 1, odd, d), aligned, "other mean");
  check_refused(fastnorm_moments_merge(2, &n, a, b, 1, c, odd), aligned, "other m2");
  const fastnorm_status shape = FASTNORM_ERROR_SHAPE;
  check_refused(fastnorm_moments_merge(SIZE_MAX / 4, &n, a, b, 1, c, d), shape, "huge");
  check_refused(fastnorm_moments_merge(2, &n, a, b, UINT64_MAX - 2, c, d), shape,
                "more samples than can be counted");
  CHECK(n == 3, "a refused merge changed the count");
  check_accepted(fastnorm_moments_merge(2, &n, a, b, UINT64_MAX - 3, c, d), 1,
                 "as many as can be counted");
  CHECK(n == UINT64_MAX, "%llu samples", (unsigned long long)n);
  reset_memory();
  n = 3;
  check_accepted(fastnorm_moments_merge(2, &n, a, b, 3, a, b), 1, "with itself");
  CHECK(n == 6 && a[1] + 7.0 == 0.0 && b[1] + 14.0 == 0.0, "with itself: %g %g", a[1],
        b[1]);
  check_accepted(fastnorm_moments_merge(0, &n, NULL, NULL, 3, NULL, NULL), 1, "none");
  CHECK(n == 9, "of no channels: %llu samples", (unsigned long long)n);
}

/* A caller built with a later header, whose new fields are all zero. */
static void larger_structs(void) {
  struct {
    fastnorm_layer_norm_args args;
    uint64_t later[4];
  } longer;
  reset_memory();
  memset(&longer, 0, sizeof longer);
  longer.args = good_layer_norm();
  longer.args.size = sizeof longer;
  longer.later[3] = 1;
  check_refused(fastnorm_layer_norm(&longer.args), FASTNORM_ERROR_ARGS,
                "unknown field");
  longer.later[3] = 0;
  check_accepted(fastnorm_layer_norm(&longer.args), 1, "longer struct");
}

static void status_texts(void) {
  for (int s = 0; s <= 18; s++) {
    const char *text = fastnorm_strerror((fastnorm_status)s);
    CHECK(text != NULL && strlen(text) > 1, "status %d has no text", s);
    for (int k = 0; k < s; k++) {
      CHECK(text == NULL || strcmp(text, fastnorm_strerror((fastnorm_status)k)) != 0,
            "statuses %d and %d say the same", s, k);
    }
  }
  CHECK(fastnorm_strerror((fastnorm_status)99) != NULL, "99: NULL");
  CHECK(fastnorm_strerror((fastnorm_status)-1) != NULL, "-1: NULL");
}

static void version(void) {
  char text[32];
  snprintf(text, sizeof text, "%d.%d.%d", FASTNORM_VERSION_MAJOR,
           FASTNORM_VERSION_MINOR, FASTNORM_VERSION_PATCH);
  CHECK(strcmp(fastnorm_version(), FASTNORM_VERSION_STRING) == 0, "run time");
  CHECK(strcmp(text, FASTNORM_VERSION_STRING) == 0, "macros");
}

/* ---- Settings ------------------------------------------------------------------ */

static void isa_names(void) {
  size_t count = 0;
  const char *name;
  for (; (name = fastnorm_isa_name(count)) != NULL; count++) {
    CHECK(fastnorm_set_isa(name) == FASTNORM_OK, "%s: refused", name);
    CHECK(strcmp(fastnorm_isa(), name) == 0, "%s: now %s", name, fastnorm_isa());
    CHECK(fastnorm_set_isa("sse9") == FASTNORM_ERROR_ISA, "sse9: accepted");
    CHECK(fastnorm_set_isa("") == FASTNORM_ERROR_ISA, "empty name: accepted");
    CHECK(fastnorm_set_isa("portable ") == FASTNORM_ERROR_ISA, "a space: accepted");
    CHECK(strcmp(fastnorm_isa(), name) == 0, "a refusal changed %s", name);
  }
  CHECK(count > 0 && strcmp(fastnorm_isa_name(count - 1), "portable") == 0,
        "portable is not the last");
  CHECK(fastnorm_isa_name(count + 1) == NULL && fastnorm_isa_name(SIZE_MAX) == NULL,
        "names past the end");
  CHECK(fastnorm_set_isa(NULL) == FASTNORM_OK &&
            strcmp(fastnorm_isa(), fastnorm_isa_name(0)) == 0,
        "NULL is not the best");
#if defined(FASTNORM_PORTABLE_ONLY)
  CHECK(count == 1, "%zu sets in the portable build", count);
#elif defined(__aarch64__)
  CHECK(count == 2, "%zu sets, not neon and portable", count);
#endif
}

static void thread_numbers(void) {
  const int first = fastnorm_get_num_threads();
  CHECK(first >= 1, "%d threads at first", first);
  CHECK(fastnorm_set_num_threads(7) == FASTNORM_OK, "7: refused");
  CHECK(fastnorm_get_num_threads() == 7, "not 7");
  CHECK(fastnorm_set_num_threads(-1) == FASTNORM_ERROR_THREADS, "-1: accepted");
  CHECK(fastnorm_get_num_threads() == 7, "a refusal changed it");
  CHECK(fastnorm_set_num_threads(0) == FASTNORM_OK, "0: refused");
  CHECK(fastnorm_get_num_threads() == first, "0 does not restore");
}

/* The environment is read at first use, so in children of a process that has used
 * nothing yet: this test comes first. */
static void in_child_with(const char *name, const char *value,
                          void (*body)(const char *value)) {
  fflush(stdout);
  const pid_t pid = fork();
  if (pid == 0) {
    test_failures = 0;
    if (setenv(name, value, 1) != 0) {
      _exit(1);
    }
    body(value);
    fflush(stdout);
    _exit(test_failures != 0);
  }
  int status = 0;
  CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "%s=%s: %#x", name,
        value, (unsigned)status);
}

static void expect_no_isa(const char *value) {
  CHECK(fastnorm_isa() == NULL, "FASTNORM_ISA=%s: %s", value, fastnorm_isa());
  REFUSED(layer_norm, FASTNORM_ERROR_ISA, (void)args);
  REFUSED(rms_norm, FASTNORM_ERROR_ISA, (void)args);
  REFUSED(batch_norm, FASTNORM_ERROR_ISA, (void)args);
  REFUSED(batch_renorm, FASTNORM_ERROR_ISA, (void)args);
  REFUSED(weight_norm, FASTNORM_ERROR_ISA, (void)args);
  REFUSED(moments, FASTNORM_ERROR_ISA, (void)args);
  REFUSED(l2_norm, FASTNORM_ERROR_ISA, (void)args);
  REFUSED(l1_norm, FASTNORM_ERROR_ISA, (void)args);
  REFUSED(group_norm, FASTNORM_ERROR_ISA, (void)args);
  REFUSED(instance_norm, FASTNORM_ERROR_ISA, (void)args);
  CHECK(fastnorm_set_isa(value) == FASTNORM_ERROR_ISA, "%s: accepted", value);
  CHECK(fastnorm_isa_name(0) != NULL, "the names are gone");
  CHECK(fastnorm_set_isa(NULL) == FASTNORM_OK && fastnorm_isa() != NULL, "no recovery");
  ACCEPTED(layer_norm, 1, (void)args);
}

static void expect_portable(const char *value) {
  CHECK(fastnorm_isa() != NULL && strcmp(fastnorm_isa(), "portable") == 0,
        "%s: not used", value);
}

static void expect_three_threads(const char *value) {
  CHECK(fastnorm_get_num_threads() == 3, "%s: %d", value, fastnorm_get_num_threads());
}

static void expect_all_cpus(const char *value) {
  cpu_set_t set;
  CHECK(sched_getaffinity(0, sizeof set, &set) == 0, "cannot count the CPUs");
  CHECK(fastnorm_get_num_threads() == CPU_COUNT(&set), "FASTNORM_NUM_THREADS=%s: %d",
        value, fastnorm_get_num_threads());
}

static void environment(void) {
  in_child_with("FASTNORM_ISA", "bogus", expect_no_isa);
  in_child_with("FASTNORM_ISA", "AVX2", expect_no_isa);
  in_child_with("FASTNORM_ISA", "portable", expect_portable);
  in_child_with("FASTNORM_NUM_THREADS", "3", expect_three_threads);
  static const char *const no_numbers[] = {"0", "-2", "three", "3x", ""};
  for (size_t i = 0; i < LENGTH(no_numbers); i++) {
    in_child_with("FASTNORM_NUM_THREADS", no_numbers[i], expect_all_cpus);
  }
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"environment", environment},
      {"every_operation", every_operation},
      {"row_norms", row_norms},
      {"batch_norm", batch_norm},
      {"batch_renorm", batch_renorm},
      {"weight_norm", weight_norm},
      {"moments", moments},
      {"merging", merging},
      {"larger_structs", larger_structs},
      {"status_texts", status_texts},
      {"version", version},
      {"isa_names", isa_names},
      {"thread_numbers", thread_numbers},
  };
  return RUN_TESTS(argc, argv, tests);
}
