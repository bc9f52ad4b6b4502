/* test_channel_gradients_args.c - gradients of the norms of channels: what is refused,
 * with which status, before anything is written; and what is accepted.
 * SPDX-License-Identifier: MIT
 */
#include "test.h"

/* All arrays of all calls; compared as a whole after a refused call. */
typedef struct memory {
  float grad_y[64], x[64], grad_x[64], weight[16], mean[16], rstd[16], r[16], d[16];
  float grad_weight[16], grad_bias[16];
  double scratch[4096];
} memory;

static memory m, before;

static void reset_memory(void) {
  memset(&m, 0, sizeof m);
  for (int i = 0; i < 64; i++) {
    m.x[i] = (float)(i * i % 17);
    m.grad_y[i] = (float)(i * i % 13);
    m.grad_x[i] = -7.0F;
  }
  for (int i = 0; i < 16; i++) {
    m.weight[i] = m.rstd[i] = m.r[i] = 1.0F;
    m.grad_weight[i] = m.grad_bias[i] = -7.0F;
  }
  memcpy(&before, &m, sizeof m);
}

#define GOOD(op, ...)                                                                  \
  (fastnorm_##op##_args) {                                                             \
    .size = sizeof(fastnorm_##op##_args), .grad_y = m.grad_y, .x = m.x,                \
    .grad_x = m.grad_x, .batch = 2, .channels = 4, .spatial = 3, __VA_ARGS__           \
  }
#define GOOD_NORM(op, ...)                                                             \
  GOOD(op, .weight = m.weight, .grad_weight = m.grad_weight, .grad_bias = m.grad_bias, \
       .mean = m.mean, .rstd = m.rstd, __VA_ARGS__)

static fastnorm_batch_norm_backward_args good_batch_norm_backward(void) {
  return GOOD_NORM(batch_norm_backward, .training = 1);
}

static fastnorm_batch_renorm_backward_args good_batch_renorm_backward(void) {
  return GOOD_NORM(batch_renorm_backward, .training = 1, .r = m.r, .d = m.d);
}

static fastnorm_group_norm_backward_args good_group_norm_backward(void) {
  return GOOD_NORM(group_norm_backward, .groups = 2);
}

static fastnorm_instance_norm_backward_args good_instance_norm_backward(void) {
  return GOOD_NORM(instance_norm_backward, .channels_last = 0);
}

static fastnorm_weight_norm_backward_args good_weight_norm_backward(void) {
  return GOOD(weight_norm_backward, .g = m.weight, .grad_g = m.grad_weight,
              .norm = m.rstd);
}

static void check_refused(fastnorm_status got, fastnorm_status wanted,
                          const char *what) {
  CHECK(got == wanted, "%s: status %d, not %d", what, (int)got, (int)wanted);
  CHECK(memcmp(&m, &before, sizeof m) == 0, "%s: memory was written", what);
}

static void check_accepted(fastnorm_status got, int writes, const char *what) {
  CHECK(got == FASTNORM_OK, "%s: %s", what, fastnorm_strerror(got));
  CHECK((memcmp(&m, &before, sizeof m) != 0) == writes, "%s: %s", what,
        writes ? "nothing was written" : "memory was written");
}

/* A good call with one change. */
#define REFUSED(op, status, change)                                                    \
  do {                                                                                 \
    reset_memory();                                                                    \
    fastnorm_##op##_args args = good_##op();                                           \
    change;                                                                            \
    check_refused(fastnorm_##op(&args), FASTNORM_ERROR_##status, #op ": " #change);    \
    args.exec.check_only = 1;                                                          \
    check_refused(fastnorm_##op(&args), FASTNORM_ERROR_##status,                       \
                  #op ", check only: " #change);                                       \
  } while (0)

#define ACCEPTED(op, writes, change)                                                   \
  do {                                                                                 \
    reset_memory();                                                                    \
    fastnorm_##op##_args args = good_##op();                                           \
    change;                                                                            \
    memcpy(&before, &m, sizeof m);                                                     \
    args.exec.check_only = 1;                                                          \
    check_accepted(fastnorm_##op(&args), 0, #op ", check only: " #change);             \
    args.exec.check_only = 0;                                                          \
    check_accepted(fastnorm_##op(&args), writes, #op ": " #change);                    \
  } while (0)

#define NOT_ALIGNED(pointer) ((void *)((char *)(pointer) + 1))

/* ---- What all of them have ------------------------------------------------------- */

#define CHECK_STRUCT(op)                                                               \
  do {                                                                                 \
    reset_memory();                                                                    \
    check_refused(fastnorm_##op(NULL), FASTNORM_ERROR_ARGS, #op ": NULL");             \
    CHECK(fastnorm_##op##_scratch(NULL) == 0, #op ": scratch of NULL");                \
    REFUSED(op, ARGS, args.size = 0);                                                  \
    REFUSED(op, ARGS, args.size -= 8);                                                 \
    REFUSED(op, ARGS, args.size = 1 << 20);                                            \
    REFUSED(op, NULL, args.grad_y = NULL);                                             \
    REFUSED(op, NULL, args.x = NULL);                                                  \
    REFUSED(op, SHAPE, args.batch = SIZE_MAX / 4);                                     \
    REFUSED(op, SHAPE, args.spatial = SIZE_MAX);                                       \
    REFUSED(op, SHAPE, args.x_stride = PTRDIFF_MAX / 2);                               \
    REFUSED(op, STRIDE, args.grad_x_stride = 1);                                       \
    REFUSED(op, STRIDE, args.grad_x_channel_stride = 1);                               \
    REFUSED(op, THREADS, args.exec.num_threads = -1);                                  \
    ACCEPTED(op, 1, args.exec.num_threads = 3);                                        \
    ACCEPTED(op, 0, args.grad_x = NULL; CLEAR_SUMS(op));                               \
    ACCEPTED(op, 1, args.grad_x = NULL);                                               \
    ACCEPTED(op, 1, CLEAR_SUMS(op));                                                   \
    ACCEPTED(op, 1, args.x_stride = 15);                                               \
    ACCEPTED(op, 1, (args.x = m.x + 40, args.x_stride = -14));                         \
  } while (0)

#define CHECK_OVERLAPS(op)                                                             \
  do {                                                                                 \
    REFUSED(op, ALIGNMENT, args.grad_y = NOT_ALIGNED(m.grad_y));                       \
    REFUSED(op, ALIGNMENT, args.x = NOT_ALIGNED(m.x));                                 \
    REFUSED(op, ALIGNMENT, args.grad_x = NOT_ALIGNED(m.grad_x));                       \
    REFUSED(op, ALIGNMENT, args.WEIGHT_OF(op) = NOT_ALIGNED(m.weight));                \
    REFUSED(op, ALIGNMENT, args.GRAD_WEIGHT_OF(op) = NOT_ALIGNED(m.grad_weight));      \
    REFUSED(op, OVERLAP, args.grad_x = m.grad_y + 1);                                  \
    REFUSED(op, OVERLAP, args.grad_x = m.x + 1);                                       \
    REFUSED(op, OVERLAP,                                                               \
            (args.grad_x = m.x, args.x_channel_stride = 4, args.x_stride = 16));       \
    REFUSED(op, OVERLAP, args.GRAD_WEIGHT_OF(op) = m.grad_x + 4);                      \
    REFUSED(op, OVERLAP, args.GRAD_WEIGHT_OF(op) = m.weight);                          \
    REFUSED(op, OVERLAP, args.GRAD_WEIGHT_OF(op) = m.x + 23);                          \
    ACCEPTED(op, 1, args.grad_x = m.grad_y);                                           \
    ACCEPTED(op, 1, args.grad_x = m.x);                                                \
    ACCEPTED(op, 1, args.x = m.grad_y);                                                \
  } while (0)

#define CHECK_TYPES(op)                                                                \
  do {                                                                                 \
    REFUSED(op, DTYPE, args.dtype = (fastnorm_dtype)7);                                \
    REFUSED(op, DTYPE, args.dtype = (fastnorm_dtype)-1);                               \
    REFUSED(op, DTYPE, args.dtype = FASTNORM_INT8);                                    \
    REFUSED(op, DTYPE, args.dtype = FASTNORM_UINT8);                                   \
    REFUSED(op, DTYPE, args.format.y = FASTNORM_INT8);                                 \
    REFUSED(op, DTYPE, args.format.y = FASTNORM_UINT8);                                \
    REFUSED(op, DTYPE, args.format.y = FASTNORM_FLOAT64);                              \
    REFUSED(op, DTYPE, args.format.y = (fastnorm_dtype)9);                             \
    REFUSED(op, DTYPE, args.format.params = FASTNORM_FLOAT64);                         \
    REFUSED(op, DTYPE, args.format.params = FASTNORM_INT8);                            \
    REFUSED(op, QUANTIZATION, args.format.x_quantization.scale = 1.0F);                \
    REFUSED(op, QUANTIZATION, args.format.y_quantization.zero_point = 1);              \
    REFUSED(op, OVERLAP, (args.format.y = FASTNORM_FLOAT16, args.grad_x = m.x));       \
    ACCEPTED(op, 1, args.dtype = FASTNORM_FLOAT32);                                    \
    ACCEPTED(op, 1, args.dtype = FASTNORM_FLOAT16);                                    \
    ACCEPTED(op, 1, args.dtype = FASTNORM_BFLOAT16);                                   \
    ACCEPTED(op, 1, args.format.y = FASTNORM_BFLOAT16);                                \
    ACCEPTED(op, 1, args.format.params = FASTNORM_FLOAT16);                            \
    ACCEPTED(op, 1,                                                                    \
             (args.dtype = FASTNORM_BFLOAT16, args.format.params = FASTNORM_FLOAT32,   \
              args.format.y = FASTNORM_FLOAT16));                                      \
  } while (0)

#define CHECK_SCRATCH(op)                                                              \
  do {                                                                                 \
    ACCEPTED(op, 1, (args.scratch = m.scratch, args.scratch_size = 1));                \
    ACCEPTED(op, 1, (args.scratch = m.scratch, args.scratch_size = sizeof m.scratch)); \
    ACCEPTED(op, 1, args.scratch_size = sizeof m.scratch);                             \
  } while (0)

/* weight norm's have names of their own */
#define WEIGHT_OF(op)                         WEIGHT_OF_##op
#define GRAD_WEIGHT_OF(op)                    GRAD_WEIGHT_OF_##op
#define WEIGHT_OF_batch_norm_backward         weight
#define WEIGHT_OF_batch_renorm_backward       weight
#define WEIGHT_OF_group_norm_backward         weight
#define WEIGHT_OF_instance_norm_backward      weight
#define WEIGHT_OF_weight_norm_backward        g
#define GRAD_WEIGHT_OF_batch_norm_backward    grad_weight
#define GRAD_WEIGHT_OF_batch_renorm_backward  grad_weight
#define GRAD_WEIGHT_OF_group_norm_backward    grad_weight
#define GRAD_WEIGHT_OF_instance_norm_backward grad_weight
#define GRAD_WEIGHT_OF_weight_norm_backward   grad_g
#define CLEAR_SUMS(op)                        CLEAR_SUMS_##op
#define CLEAR_NORM_SUMS                       args.grad_weight = args.grad_bias = NULL
#define CLEAR_SUMS_batch_norm_backward        CLEAR_NORM_SUMS
#define CLEAR_SUMS_batch_renorm_backward      CLEAR_NORM_SUMS
#define CLEAR_SUMS_group_norm_backward        CLEAR_NORM_SUMS
#define CLEAR_SUMS_instance_norm_backward     CLEAR_NORM_SUMS
#define CLEAR_SUMS_weight_norm_backward       args.grad_g = NULL

#define EACH(check)                                                                    \
  do {                                                                                 \
    check(batch_norm_backward);                                                        \
    check(batch_renorm_backward);                                                      \
    check(group_norm_backward);                                                        \
    check(instance_norm_backward);                                                     \
    check(weight_norm_backward);                                                       \
  } while (0)

static void structs(void) {
  EACH(CHECK_STRUCT);
}

static void overlaps(void) {
  EACH(CHECK_OVERLAPS);
}

static void types(void) {
  EACH(CHECK_TYPES);
}

static void scratch(void) {
  EACH(CHECK_SCRATCH);
}

/* ---- What only norms have -------------------------------------------------------- */

#define CHECK_NORM(op)                                                                 \
  do {                                                                                 \
    REFUSED(op, EPS, args.eps = -0.5);                                                 \
    REFUSED(op, EPS, args.eps = (double)NAN);                                          \
    REFUSED(op, EPS, args.eps = (double)INFINITY);                                     \
    ACCEPTED(op, 1, args.eps = FASTNORM_EPS_ZERO);                                     \
    REFUSED(op, COMBINATION, args.mean = NULL);                                        \
    REFUSED(op, COMBINATION, args.rstd = NULL);                                        \
    ACCEPTED(op, 1, (args.mean = NULL, args.rstd = NULL));                             \
    REFUSED(op, ALIGNMENT, args.mean = NOT_ALIGNED(m.mean));                           \
    REFUSED(op, ALIGNMENT, args.rstd = NOT_ALIGNED(m.rstd));                           \
    REFUSED(op, ALIGNMENT, args.grad_bias = NOT_ALIGNED(m.grad_bias));                 \
    REFUSED(op, OVERLAP, args.grad_bias = m.grad_weight);                              \
    REFUSED(op, OVERLAP, args.grad_bias = m.grad_weight + 3);                          \
    REFUSED(op, OVERLAP, args.grad_bias = m.mean);                                     \
    REFUSED(op, OVERLAP, args.grad_x = m.rstd);                                        \
    ACCEPTED(op, 1, args.grad_bias = NULL);                                            \
    ACCEPTED(op, 1, args.grad_weight = NULL);                                          \
    ACCEPTED(op, 1, args.weight = NULL);                                               \
  } while (0)

/* Statistics that do not depend on x: what is then needed. */
#define CHECK_FIXED(op, fix)                                                           \
  do {                                                                                 \
    ACCEPTED(op, 1, fix);                                                              \
    REFUSED(op, NULL, (fix, args.rstd = NULL));                                        \
    REFUSED(op, NULL, (fix, args.mean = NULL));                                        \
    REFUSED(op, NULL, (fix, args.x = NULL));                                           \
    ACCEPTED(op, 1, (fix, args.grad_weight = NULL, args.mean = NULL, args.x = NULL));  \
    REFUSED(op, NULL, (fix, args.grad_weight = NULL, args.rstd = NULL));               \
  } while (0)

static void norms(void) {
  CHECK_NORM(batch_norm_backward);
  CHECK_NORM(batch_renorm_backward);
  CHECK_NORM(group_norm_backward);
  CHECK_NORM(instance_norm_backward);
  CHECK_FIXED(batch_norm_backward, args.training = 0);
  CHECK_FIXED(batch_renorm_backward, args.training = 0);
  CHECK_FIXED(instance_norm_backward, args.use_running_stats = 1);
  REFUSED(batch_renorm_backward, ALIGNMENT, args.r = NOT_ALIGNED(m.r));
  REFUSED(batch_renorm_backward, OVERLAP, args.r = m.grad_bias);
  REFUSED(batch_renorm_backward, OVERLAP, args.d = m.grad_x);
  ACCEPTED(batch_renorm_backward, 1, args.r = NULL);
  ACCEPTED(batch_renorm_backward, 1, args.d = NULL);
  REFUSED(group_norm_backward, GROUPS, args.groups = 0);
  REFUSED(group_norm_backward, GROUPS, args.groups = 3);
  ACCEPTED(group_norm_backward, 1, args.channels_last = 1);
  ACCEPTED(instance_norm_backward, 1, args.channels_last = 1);
  ACCEPTED(weight_norm_backward, 1, args.norm = NULL);
  ACCEPTED(weight_norm_backward, 1, args.g = NULL);
  REFUSED(weight_norm_backward, ALIGNMENT, args.norm = NOT_ALIGNED(m.rstd));
  REFUSED(weight_norm_backward, OVERLAP, args.grad_g = m.rstd);
}

/* Extents: one value, none, and tables. */
static void extents(void) {
  REFUSED(batch_norm_backward, COUNT, (args.batch = 1, args.spatial = 1));
  REFUSED(batch_renorm_backward, COUNT, (args.batch = 1, args.spatial = 1));
  REFUSED(instance_norm_backward, COUNT, args.spatial = 1);
  ACCEPTED(instance_norm_backward, 1, (args.spatial = 1, args.use_running_stats = 1));
  ACCEPTED(batch_norm_backward, 1,
           (args.batch = 1, args.spatial = 1, args.training = 0));
  ACCEPTED(group_norm_backward, 1, (args.spatial = 1, args.groups = 4));
  ACCEPTED(weight_norm_backward, 1, (args.batch = 1, args.spatial = 1));
  REFUSED(batch_norm_backward, STRIDE, (args.spatial = 1, args.x_channel_stride = 2));
  REFUSED(batch_norm_backward, STRIDE,
          (args.spatial = 1, args.grad_y_channel_stride = 2));
  REFUSED(batch_norm_backward, STRIDE,
          (args.spatial = 1, args.grad_x_channel_stride = 2, args.grad_x_stride = 8));
  REFUSED(weight_norm_backward, STRIDE, (args.spatial = 1, args.x_channel_stride = 2));
  ACCEPTED(batch_norm_backward, 1, args.spatial = 1);
  ACCEPTED(batch_norm_backward, 0, args.channels = 0);
  ACCEPTED(group_norm_backward, 0, args.channels = 0);
  ACCEPTED(instance_norm_backward, 0, args.channels = 0);
  ACCEPTED(batch_norm_backward, 1,
           (args.batch = 0, args.grad_y = args.x = NULL, args.grad_x = NULL));
  ACCEPTED(batch_norm_backward, 0,
           (args.batch = 0, args.grad_weight = args.grad_bias = NULL));
  ACCEPTED(instance_norm_backward, 1, args.spatial = 0);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {{"structs", structs}, {"overlaps", overlaps},
                                    {"types", types},     {"scratch", scratch},
                                    {"norms", norms},     {"extents", extents}};
  return RUN_TESTS(argc, argv, tests);
}
