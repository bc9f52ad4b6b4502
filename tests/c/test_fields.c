/* test_fields.c - types, quantization, residual, epilogue, groups, stored statistics:
 * what is refused, with which status, and what is accepted; structs of older callers.
 * SPDX-License-Identifier: MIT
 */
#include <stddef.h>

#include "args.h"

/* ---- Types ----------------------------------------------------------------------- */

#define CHECK_TYPES(op)                                                                \
  do {                                                                                 \
    const fastnorm_status refused = FASTNORM_ERROR_DTYPE;                              \
    REFUSED(op, refused, args.format.y = (fastnorm_dtype)7);                           \
    REFUSED(op, refused, args.format.y = (fastnorm_dtype)-1);                          \
    REFUSED(op, refused, args.format.y = FASTNORM_FLOAT64);                            \
    REFUSED(op, refused, args.format.params = (fastnorm_dtype)7);                      \
    REFUSED(op, refused, args.format.params = FASTNORM_FLOAT64);                       \
    REFUSED(op, refused, args.format.params = FASTNORM_INT8);                          \
    REFUSED(op, refused, args.format.params = FASTNORM_UINT8);                         \
    REFUSED(op, refused,                                                               \
            (args.dtype = FASTNORM_FLOAT64, args.format.y = FASTNORM_FLOAT32));        \
    REFUSED(op, refused,                                                               \
            (args.dtype = FASTNORM_FLOAT64, args.format.y = FASTNORM_INT8));           \
    REFUSED(op, refused,                                                               \
            (args.dtype = FASTNORM_FLOAT64, args.format.params = FASTNORM_FLOAT16));   \
    ACCEPTED(op, 1, args.dtype = FASTNORM_FLOAT16);                                    \
    ACCEPTED(op, 1, args.dtype = FASTNORM_BFLOAT16);                                   \
    ACCEPTED(op, 1, args.dtype = FASTNORM_UINT8);                                      \
    ACCEPTED(op, 1, args.format.y = FASTNORM_INT8);                                    \
    ACCEPTED(op, 1, args.format.params = FASTNORM_BFLOAT16);                           \
    ACCEPTED(op, 1, (args.dtype = FASTNORM_FLOAT16, args.x = (const char *)m.x + 2));  \
    ACCEPTED(op, 1, (args.dtype = FASTNORM_INT8, args.x = (const char *)m.x + 1));     \
    ACCEPTED(op, 1, (args.format.y = FASTNORM_INT8, args.y = (char *)m.y + 1));        \
  } while (0)

#define CHECK_QUANTIZATION(op, which, is_8_bit)                                        \
  do {                                                                                 \
    const fastnorm_status refused = FASTNORM_ERROR_QUANTIZATION;                       \
    REFUSED(op, refused, args.which.scale = 1.0F);                                     \
    REFUSED(op, refused, args.which.scale = NAN);                                      \
    REFUSED(op, refused, args.which.zero_point = 1);                                   \
    REFUSED(op, refused, (is_8_bit(FASTNORM_UINT8), args.which.scale = -1.0F));        \
    REFUSED(op, refused, (is_8_bit(FASTNORM_UINT8), args.which.scale = NAN));          \
    REFUSED(op, refused, (is_8_bit(FASTNORM_UINT8), args.which.scale = INFINITY));     \
    REFUSED(op, refused, (is_8_bit(FASTNORM_UINT8), args.which.scale = 0x1p-127F));    \
    REFUSED(op, refused, (is_8_bit(FASTNORM_UINT8), args.which.scale = 0x1p127F));     \
    REFUSED(op, refused, (is_8_bit(FASTNORM_UINT8), args.which.zero_point = -1));      \
    REFUSED(op, refused, (is_8_bit(FASTNORM_UINT8), args.which.zero_point = 256));     \
    REFUSED(op, refused, (is_8_bit(FASTNORM_INT8), args.which.zero_point = -129));     \
    REFUSED(op, refused, (is_8_bit(FASTNORM_INT8), args.which.zero_point = 128));      \
    ACCEPTED(op, 1, (is_8_bit(FASTNORM_UINT8), args.which.zero_point = 255));          \
    ACCEPTED(op, 1, (is_8_bit(FASTNORM_INT8), args.which.zero_point = -128));          \
    ACCEPTED(op, 1, (is_8_bit(FASTNORM_INT8), args.which.scale = 0x1p-126F));          \
    ACCEPTED(op, 1, (is_8_bit(FASTNORM_INT8), args.which.scale = 0x1p126F));           \
  } while (0)

#define CHECK_FORMAT(op)                                                               \
  do {                                                                                 \
    CHECK_TYPES(op);                                                                   \
    CHECK_QUANTIZATION(op, format.x_quantization, x_type);                             \
    CHECK_QUANTIZATION(op, format.y_quantization, y_type);                             \
  } while (0)

static void formats(void) {
#define x_type(type) args.dtype = (type)
#define y_type(type) args.format.y = (type)
  CHECK_FORMAT(layer_norm);
  CHECK_FORMAT(rms_norm);
  CHECK_FORMAT(l2_norm);
  CHECK_FORMAT(l1_norm);
  CHECK_FORMAT(batch_norm);
  CHECK_FORMAT(group_norm);
  CHECK_FORMAT(instance_norm);
  CHECK_QUANTIZATION(moments, x_quantization, x_type);
  ACCEPTED(moments, 1, args.dtype = FASTNORM_BFLOAT16);
#undef x_type
#undef y_type
}

/* ---- Epilogue -------------------------------------------------------------------- */

#define ACTIVATION(a, b, c)                                                            \
  args.epilogue.activation = (fastnorm_activation)(a), args.epilogue.alpha = (b),      \
  args.epilogue.beta = (c)

#define CHECK_ACTIVATION(op)                                                           \
  do {                                                                                 \
    const fastnorm_status refused = FASTNORM_ERROR_ACTIVATION;                         \
    const double nan = (double)NAN, inf = (double)INFINITY;                            \
    REFUSED(op, refused, (ACTIVATION(-1, 0, 0)));                                      \
    REFUSED(op, refused, (ACTIVATION(11, 0, 0)));                                      \
    REFUSED(op, refused, (ACTIVATION(FASTNORM_CLAMP, nan, 1)));                        \
    REFUSED(op, refused, (ACTIVATION(FASTNORM_CLAMP, 0, nan)));                        \
    REFUSED(op, refused, (ACTIVATION(FASTNORM_CLAMP, 2, 1)));                          \
    REFUSED(op, refused, (ACTIVATION(FASTNORM_LEAKY_RELU, nan, 0)));                   \
    REFUSED(op, refused, (ACTIVATION(FASTNORM_LEAKY_RELU, inf, 0)));                   \
    REFUSED(op, refused, (ACTIVATION(FASTNORM_LEAKY_RELU, 0.1, 1)));                   \
    REFUSED(op, refused, (ACTIVATION(FASTNORM_RELU, 0.1, 0)));                         \
    REFUSED(op, refused, (ACTIVATION(FASTNORM_GELU, 0, 0.1)));                         \
    REFUSED(op, refused, (ACTIVATION(FASTNORM_IDENTITY, nan, 0)));                     \
    ACCEPTED(op, 1, (ACTIVATION(FASTNORM_HARDSWISH, 0, 0)));                           \
    ACCEPTED(op, 1, (ACTIVATION(FASTNORM_CLAMP, -inf, inf)));                          \
    ACCEPTED(op, 1, (ACTIVATION(FASTNORM_CLAMP, 1, 1)));                               \
    ACCEPTED(op, 1, (ACTIVATION(FASTNORM_LEAKY_RELU, -0.5, 0)));                       \
  } while (0)

#define POST_ADD(p) args.epilogue.post_add = (p)
#define CHECK_POST_ADD(op)                                                             \
  do {                                                                                 \
    const fastnorm_status dtype = FASTNORM_ERROR_DTYPE;                                \
    const fastnorm_status overlap = FASTNORM_ERROR_OVERLAP;                            \
    REFUSED(op, dtype,                                                                 \
            (POST_ADD(m.post_add), args.epilogue.post_add_dtype = FASTNORM_INT8));     \
    REFUSED(op, dtype,                                                                 \
            (POST_ADD(m.post_add), args.epilogue.post_add_dtype = FASTNORM_FLOAT64));  \
    REFUSED(op, FASTNORM_ERROR_ALIGNMENT, POST_ADD(NOT_ALIGNED(m.post_add)));          \
    REFUSED(op, overlap, POST_ADD(m.y));                                               \
    REFUSED(op, overlap, POST_ADD(m.y + 23));                                          \
    REFUSED(op, overlap, POST_ADD(m.rstd));                                            \
    REFUSED(op, overlap, (args.y = m.x, POST_ADD(m.x)));                               \
    REFUSED(op, FASTNORM_ERROR_SHAPE,                                                  \
            (POST_ADD(m.post_add), args.epilogue.post_add_stride = PTRDIFF_MAX / 2));  \
    ACCEPTED(op, 1, POST_ADD(m.post_add));                                             \
    ACCEPTED(op, 1, POST_ADD(m.x));                                                    \
    ACCEPTED(op, 1, (POST_ADD(m.post_add), args.epilogue.post_add_stride = 1));        \
    ACCEPTED(op, 1,                                                                    \
             (POST_ADD((char *)m.post_add + 2),                                        \
              args.epilogue.post_add_dtype = FASTNORM_FLOAT16));                       \
  } while (0)

static void epilogues(void) {
  CHECK_ACTIVATION(layer_norm);
  CHECK_ACTIVATION(rms_norm);
  CHECK_ACTIVATION(batch_norm);
  CHECK_ACTIVATION(group_norm);
  CHECK_ACTIVATION(instance_norm);
  CHECK_POST_ADD(layer_norm);
  CHECK_POST_ADD(rms_norm);
  CHECK_POST_ADD(batch_norm);
  CHECK_POST_ADD(group_norm);
  CHECK_POST_ADD(instance_norm);
  REFUSED(batch_norm, FASTNORM_ERROR_STRIDE,
          (args.spatial = 1, args.channels = 4, POST_ADD(m.post_add),
           args.epilogue.post_add_channel_stride = 2));
}

/* ---- Residual, dynamic scale, stored statistics ---------------------------------- */

#define ADDS(out) args.residual = m.residual, args.residual_out = (out)
#define CHECK_RESIDUAL(op)                                                             \
  do {                                                                                 \
    const fastnorm_status wrong = FASTNORM_ERROR_COMBINATION;                          \
    const fastnorm_status alignment = FASTNORM_ERROR_ALIGNMENT;                        \
    const fastnorm_status overlap = FASTNORM_ERROR_OVERLAP;                            \
    REFUSED(op, wrong, args.residual_bias = m.residual_bias);                          \
    REFUSED(op, wrong, args.residual_out = m.residual_out);                            \
    REFUSED(op, wrong, (ADDS(NULL), args.inner = 2));                                  \
    REFUSED(op, FASTNORM_ERROR_DTYPE,                                                  \
            (ADDS(NULL), args.residual_dtype = FASTNORM_INT8));                        \
    REFUSED(op, FASTNORM_ERROR_DTYPE,                                                  \
            (ADDS(NULL), args.residual_dtype = FASTNORM_FLOAT64));                     \
    REFUSED(op, alignment, args.residual = NOT_ALIGNED(m.residual));                   \
    REFUSED(op, alignment, (ADDS(NOT_ALIGNED(m.residual_out))));                       \
    REFUSED(op, alignment,                                                             \
            (ADDS(NULL), args.residual_bias = NOT_ALIGNED(m.residual_bias)));          \
    REFUSED(op, overlap, (ADDS(m.residual + 1)));                                      \
    REFUSED(op, overlap, (ADDS(m.residual), args.residual_out_stride = 7));            \
    REFUSED(op, overlap, (ADDS(m.x)));                                                 \
    REFUSED(op, overlap, (ADDS(m.y + 23)));                                            \
    REFUSED(op, overlap, (ADDS(m.weight + 5)));                                        \
    REFUSED(op, overlap, (ADDS(m.residual_out), args.residual_bias = m.residual_out)); \
    REFUSED(op, overlap, args.residual = m.y + 23);                                    \
    REFUSED(op, FASTNORM_ERROR_STRIDE,                                                 \
            (ADDS(m.residual_out), args.residual_out_stride = 5));                     \
    REFUSED(op, FASTNORM_ERROR_SHAPE,                                                  \
            (ADDS(NULL), args.residual_stride = PTRDIFF_MAX / 2));                     \
    ACCEPTED(op, 1, (ADDS(NULL)));                                                     \
    ACCEPTED(op, 1, (ADDS(m.residual)));                                               \
    ACCEPTED(op, 1, (ADDS(m.residual_out), args.residual_bias = m.residual_bias));     \
    ACCEPTED(op, 1, args.residual = m.x);                                              \
    ACCEPTED(op, 1, (ADDS(NULL), args.residual_stride = 1));                           \
    REFUSED(op, wrong, args.y_scale = m.y_scale);                                      \
    REFUSED(op, wrong,                                                                 \
            (args.y_scale = m.y_scale, args.format.y = FASTNORM_INT8,                  \
             args.format.y_quantization.scale = 0.5F));                                \
    REFUSED(                                                                           \
        op, wrong,                                                                     \
        (args.y_scale = m.y_scale, args.format.y = FASTNORM_INT8, args.inner = 2));    \
    REFUSED(op, alignment,                                                             \
            (args.y_scale = NOT_ALIGNED(m.y_scale), args.format.y = FASTNORM_INT8));   \
    REFUSED(op, overlap, (args.y_scale = m.rstd, args.format.y = FASTNORM_INT8));      \
    REFUSED(op, overlap, (args.y_scale = m.x + 3, args.format.y = FASTNORM_INT8));     \
    REFUSED(op, overlap, (args.y_scale = m.x + 62, args.format.y = FASTNORM_INT8));    \
    ACCEPTED(op, 1, (args.y_scale = m.y_scale, args.format.y = FASTNORM_UINT8));       \
  } while (0)

#define STORED(mean_, var_) args.stored_mean = (mean_), args.stored_var = (var_)
#define CHECK_STORED(op)                                                               \
  do {                                                                                 \
    const fastnorm_status wrong = FASTNORM_ERROR_COMBINATION;                          \
    REFUSED(op, wrong, (STORED(m.stored_mean, NULL)));                                 \
    REFUSED(op, wrong, (STORED(NULL, m.stored_var)));                                  \
    REFUSED(op, FASTNORM_ERROR_ALIGNMENT,                                              \
            (STORED(NOT_ALIGNED(m.stored_mean), m.stored_var)));                       \
    REFUSED(op, FASTNORM_ERROR_ALIGNMENT,                                              \
            (STORED(m.stored_mean, NOT_ALIGNED(m.stored_var))));                       \
    REFUSED(op, FASTNORM_ERROR_OVERLAP, (STORED(m.mean, m.stored_var)));               \
    REFUSED(op, FASTNORM_ERROR_OVERLAP, (STORED(m.stored_mean, m.y)));                 \
    ACCEPTED(op, 1, (STORED(m.stored_mean, m.stored_var)));                            \
    ACCEPTED(op, 1, (STORED(m.x, m.x)));                                               \
  } while (0)

static void residuals_and_statistics(void) {
  CHECK_RESIDUAL(layer_norm);
  CHECK_RESIDUAL(rms_norm);
  CHECK_STORED(layer_norm);
  CHECK_STORED(group_norm);
  REFUSED(rms_norm, FASTNORM_ERROR_COMBINATION, args.mode = (fastnorm_rms_mode)3);
  REFUSED(rms_norm, FASTNORM_ERROR_COMBINATION, args.mode = (fastnorm_rms_mode)-1);
  ACCEPTED(rms_norm, 1, args.mode = FASTNORM_RMS_ONE_PLUS_WEIGHT);
}

/* ---- The operations that have groups, L2 and L1 norm ----------------------------- */

#define CHECK_SAMPLES(op)                                                              \
  do {                                                                                 \
    const fastnorm_status shape = FASTNORM_ERROR_SHAPE;                                \
    const fastnorm_status overlap = FASTNORM_ERROR_OVERLAP;                            \
    REFUSED(op, shape, args.batch = SIZE_MAX / 2);                                     \
    REFUSED(op, shape, args.spatial = SIZE_MAX / 2);                                   \
    REFUSED(op, shape, args.x_channel_stride = PTRDIFF_MAX / 2);                       \
    REFUSED(op, shape, args.y_channel_stride = PTRDIFF_MIN);                           \
    REFUSED(op, FASTNORM_ERROR_STRIDE, args.y_channel_stride = 2);                     \
    REFUSED(op, FASTNORM_ERROR_STRIDE, args.y_stride = 11);                            \
    REFUSED(op, FASTNORM_ERROR_STRIDE,                                                 \
            (args.channels_last = 1, args.y_channel_stride = 2));                      \
    REFUSED(op, FASTNORM_ERROR_ALIGNMENT, args.y = NOT_ALIGNED(m.y));                  \
    REFUSED(op, FASTNORM_ERROR_ALIGNMENT, args.weight = NOT_ALIGNED(m.weight));        \
    REFUSED(op, FASTNORM_ERROR_ALIGNMENT, args.mean = NOT_ALIGNED(m.mean));            \
    REFUSED(op, overlap, args.y = m.x + 1);                                            \
    REFUSED(op, overlap, (args.y = m.x, args.y_stride = 13));                          \
    REFUSED(op, overlap, args.mean = m.rstd + 3);                                      \
    REFUSED(op, overlap, args.bias = m.y + 23);                                        \
    REFUSED(op, overlap, args.rstd = m.x + 23);                                        \
    REFUSED(op, FASTNORM_ERROR_EPS, args.eps = -0.5);                                  \
    REFUSED(op, FASTNORM_ERROR_EPS, args.eps = (double)NAN);                           \
    ACCEPTED(op, 1, args.y = m.x);                                                     \
    ACCEPTED(op, 1, args.channels_last = 1);                                           \
    ACCEPTED(op, 1, (args.x_stride = 20, args.x_channel_stride = 5));                  \
    ACCEPTED(op, 1, (args.weight = NULL, args.mean = NULL, args.rstd = NULL));         \
    ACCEPTED(op, 0, args.batch = 0);                                                   \
    ACCEPTED(op, 0, args.spatial = 0);                                                 \
    ACCEPTED(op, 0, args.channels = 0);                                                \
  } while (0)

static void groups_and_instances(void) {
  CHECK_SAMPLES(group_norm);
  CHECK_SAMPLES(instance_norm);
  const fastnorm_status groups = FASTNORM_ERROR_GROUPS;
  REFUSED(group_norm, groups, args.groups = 0);
  REFUSED(group_norm, groups, args.groups = 3);
  REFUSED(group_norm, groups, args.groups = 8);
  REFUSED(group_norm, groups, (args.groups = 0, args.channels = 0));
  ACCEPTED(group_norm, 1, args.groups = 4);
  ACCEPTED(group_norm, 1, args.spatial = 1);
  const fastnorm_status running = FASTNORM_ERROR_RUNNING;
  const fastnorm_status momentum = FASTNORM_ERROR_MOMENTUM;
  const fastnorm_status overlap = FASTNORM_ERROR_OVERLAP;
  REFUSED(instance_norm, FASTNORM_ERROR_COUNT, args.spatial = 1);
  ACCEPTED(instance_norm, 1, (args.spatial = 1, args.use_running_stats = 1));
  REFUSED(instance_norm, running, args.running_mean = NULL);
  REFUSED(instance_norm, running, args.running_var = NULL);
  REFUSED(instance_norm, running,
          (args.running_mean = args.running_var = NULL, args.use_running_stats = 1));
  ACCEPTED(instance_norm, 1, args.running_mean = args.running_var = NULL);
  REFUSED(instance_norm, momentum, args.momentum = 1.5);
  REFUSED(instance_norm, momentum, args.momentum = FASTNORM_MOMENTUM_CUMULATIVE);
  REFUSED(instance_norm, momentum, args.momentum = (double)NAN);
  ACCEPTED(instance_norm, 1, args.momentum = 1.0);
  REFUSED(instance_norm, FASTNORM_ERROR_ALIGNMENT,
          args.running_var = NOT_ALIGNED(m.running_var));
  REFUSED(instance_norm, overlap, args.running_mean = m.running_var + 2);
  REFUSED(instance_norm, overlap, args.running_mean = m.y);
  REFUSED(instance_norm, overlap, args.mean = m.running_mean);
  REFUSED(instance_norm, overlap,
          (args.use_running_stats = 1, args.mean = m.running_mean));
  ACCEPTED(instance_norm, 1,
           (args.use_running_stats = 1, args.running_mean = args.running_var = m.bias));
}

#define CHECK_LP(op)                                                                   \
  do {                                                                                 \
    REFUSED(op, FASTNORM_ERROR_SHAPE, args.rows = args.cols = SIZE_MAX);               \
    REFUSED(op, FASTNORM_ERROR_SHAPE, args.inner = SIZE_MAX / 3);                      \
    REFUSED(op, FASTNORM_ERROR_STRIDE, args.y_stride = 5);                             \
    REFUSED(op, FASTNORM_ERROR_ALIGNMENT, args.norm = NOT_ALIGNED(m.rstd));            \
    REFUSED(op, FASTNORM_ERROR_OVERLAP, args.norm = m.y + 20);                         \
    REFUSED(op, FASTNORM_ERROR_OVERLAP, args.norm = m.x + 23);                         \
    REFUSED(op, FASTNORM_ERROR_OVERLAP, args.y = m.x + 1);                             \
    REFUSED(op, FASTNORM_ERROR_EPS, args.eps = -0.5);                                  \
    REFUSED(op, FASTNORM_ERROR_EPS, args.eps = (double)INFINITY);                      \
    ACCEPTED(op, 1, args.eps = FASTNORM_EPS_ZERO);                                     \
    ACCEPTED(op, 1, args.norm = NULL);                                                 \
    ACCEPTED(op, 1, args.y = m.x);                                                     \
    ACCEPTED(op, 0, args.rows = 0);                                                    \
    ACCEPTED(op, 0, args.cols = 0);                                                    \
  } while (0)

static void l2_and_l1_norm(void) {
  CHECK_LP(l2_norm);
  CHECK_LP(l1_norm);
}

/* ---- Callers built with an older header ------------------------------------------ */

/* What lies behind the size that they know is not theirs, and is not looked at. */
#define CHECK_OLDER(op, first_field)                                                   \
  do {                                                                                 \
    const size_t first = offsetof(fastnorm_##op##_args, first_field);                  \
    const size_t all = sizeof(fastnorm_##op##_args);                                   \
    for (size_t size = 0; size <= all; size++) {                                       \
      reset_memory();                                                                  \
      fastnorm_##op##_args args = good_##op();                                         \
      memset((char *)&args + size, 0x5a, all - size);                                  \
      memcpy(&args, &size, sizeof size);                                               \
      if (size < first) {                                                              \
        check_refused(fastnorm_##op(&args), FASTNORM_ERROR_ARGS, #op ": too short");   \
      } else if (size % sizeof(void *) == 0) {                                         \
        check_accepted(fastnorm_##op(&args), 1, #op ": an older caller");              \
      }                                                                                \
    }                                                                                  \
  } while (0)

static void older_structs(void) {
  CHECK_OLDER(layer_norm, format);
  CHECK_OLDER(rms_norm, format);
  CHECK_OLDER(batch_norm, format);
  CHECK_OLDER(moments, x_quantization);
  CHECK_OLDER(group_norm, mask);
  CHECK_OLDER(instance_norm, mask);
}

/* These had no older form. */
static void shorter_structs(void) {
  REFUSED(l2_norm, FASTNORM_ERROR_ARGS, args.size -= sizeof(void *));
  REFUSED(l1_norm, FASTNORM_ERROR_ARGS, args.size -= sizeof(void *));
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"formats", formats},
      {"epilogues", epilogues},
      {"residuals_and_statistics", residuals_and_statistics},
      {"groups_and_instances", groups_and_instances},
      {"l2_and_l1_norm", l2_and_l1_norm},
      {"older_structs", older_structs},
      {"shorter_structs", shorter_structs},
  };
  return RUN_TESTS(argc, argv, tests);
}
