/* fields.h - every field of every args struct of fastnorm.h: what it is, what it means.
 * SPDX-License-Identifier: MIT
 *
 * From these tables calls are drawn (any_call.h) and refusals checked
 * (test_every_field.c, which also fails where a struct or a field is missing here). */
#ifndef FN_TEST_FIELDS_H
#define FN_TEST_FIELDS_H

#include <stddef.h>

#include "fastnorm.h"

typedef enum kind {
  ARRAY,
  SIZE_FIELD,
  DTYPE,       /* of x */
  DTYPE_OTHER, /* of y, parameters and the like; 0 is a default */
  EXTENT,
  GROUPS,
  STRIDE, /* of an array, which names it */
  MASK_STRIDE,
  EPS,
  MOMENTUM,
  LIMIT, /* r_max and d_max */
  TRACKED,
  FLAG,
  SCRATCH,
  SCRATCH_SIZE,
  THREADS,
  HOST_POOL,
  HOST_CONTEXT,
  SCALE, /* of 8-bit elements */
  ZERO_POINT,
  ACTIVATION,
  ALPHA_BETA,
  POSITIONS,
  MASKED,
  MODE,
  POLICY,
  PIXEL_SCALE,
  DDOF,
  FEATURES
} kind;

typedef enum element_kind {
  LIKE_X,
  LIKE_Y,
  LIKE_PARAMS,
  LIKE_RESIDUAL,
  LIKE_POST_ADD,
  LIKE_WEIGHTS,
  WORKING,
  DOUBLES,
  FLOATS,
  SIZES,
  COUNTS, /* int64_t */
  BYTES_01
} element_kind;

/* What an array holds: drawn numbers, or ones that make sense in their place. */
typedef enum content {
  ANY,
  AROUND_ONE,
  POSITIVE,
  ZERO,
  LENGTHS, /* not above what they count */
  MEMBERS, /* 0 or not */
  PARTS_OF /* weights */
} content;

typedef enum extent_kind {
  WHOLE,      /* the shape of x, with strides */
  FIRST,      /* rows or samples */
  PARAMETERS, /* columns or channels */
  STATISTICS  /* one for all that is normalised together */
} extent_kind;

typedef enum use { READ, WRITTEN, UPDATED } use;

typedef struct field {
  const char *name;
  size_t at, bytes;
  kind kind;
  element_kind element;
  extent_kind extent;
  use use;
  content content;
  int needed;
  size_t stride_at, channel_stride_at, spatial_stride_at; /* 0: none */
  size_t whole; /* of SIZE_FIELD: what it must be */
} field;

typedef enum layout {
  ROWS_LAYOUT,
  CHANNELS_LAYOUT,
  SAMPLES_LAYOUT,
  IMAGE_LAYOUT,
  STATE_LAYOUT /* features alone */
} layout;

typedef struct known_operation {
  const char *name;
  size_t bytes;
  const field *fields;
  size_t count;
  layout layout;
  fastnorm_status (*call)(const void *args);
  size_t (*scratch)(const void *args);
} known_operation;

/* ---- One field ------------------------------------------------------------------- */

#define BYTES_OF(type, path) sizeof(((type *)0)->path)
#define FIELD(type, path, k)                                                           \
  {                                                                                    \
    .name = #path, .at = offsetof(type, path), .bytes = BYTES_OF(type, path),          \
    .kind = (k)                                                                        \
  }
#define LIST(type, path, what, n, how, has, must)                                      \
  {                                                                                    \
    .name = #path, .at = offsetof(type, path), .bytes = BYTES_OF(type, path),          \
    .kind = ARRAY, .element = (what), .extent = (n), .use = (how), .content = (has),   \
    .needed = (must)                                                                   \
  }
#define STRIDED(type, path, what, how, must, stride1, stride2)                         \
  {                                                                                    \
    .name = #path, .at = offsetof(type, path), .bytes = BYTES_OF(type, path),          \
    .kind = ARRAY, .element = (what), .extent = WHOLE, .use = (how), .needed = (must), \
    .stride_at = offsetof(type, stride1), .channel_stride_at = (stride2)               \
  }
#define AT(type, path) offsetof(type, path)

/* ---- Fields that many structs have ----------------------------------------------- */

#define SIZED(t, path, of)                                                             \
  {                                                                                    \
    .name = #path, .at = offsetof(t, path), .bytes = BYTES_OF(t, path),                \
    .kind = SIZE_FIELD, .whole = sizeof(of)                                            \
  }
#define BEGIN_FIELDS(t) SIZED(t, size, t), FIELD(t, dtype, DTYPE)
#define EXEC_FIELDS(t)                                                                 \
  FIELD(t, exec.num_threads, THREADS), FIELD(t, exec.parallel_for, HOST_POOL),         \
      FIELD(t, exec.context, HOST_CONTEXT), FIELD(t, exec.flush_denormals, FLAG),      \
      FIELD(t, exec.check_only, FLAG)
#define FORMAT_FIELDS(t)                                                               \
  FIELD(t, format.y, DTYPE_OTHER), FIELD(t, format.params, DTYPE_OTHER),               \
      FIELD(t, format.x_quantization.scale, SCALE),                                    \
      FIELD(t, format.x_quantization.zero_point, ZERO_POINT),                          \
      FIELD(t, format.y_quantization.scale, SCALE),                                    \
      FIELD(t, format.y_quantization.zero_point, ZERO_POINT)
#define EPILOGUE_FIELDS(t, channel_stride)                                             \
  STRIDED(t, epilogue.post_add, LIKE_POST_ADD, READ, 0, epilogue.post_add_stride,      \
          channel_stride),                                                             \
      FIELD(t, epilogue.post_add_dtype, DTYPE_OTHER),                                  \
      FIELD(t, epilogue.post_add_stride, STRIDE),                                      \
      FIELD(t, epilogue.post_add_channel_stride, STRIDE),                              \
      FIELD(t, epilogue.activation, ACTIVATION), FIELD(t, epilogue.alpha, ALPHA_BETA), \
      FIELD(t, epilogue.beta, ALPHA_BETA)
#define BESIDE(t, path, what, has, s0, s1, s2)                                         \
  {                                                                                    \
    .name = #path, .at = offsetof(t, path), .bytes = BYTES_OF(t, path), .kind = ARRAY, \
    .element = (what), .extent = WHOLE, .use = READ, .content = (has),                 \
    .stride_at = offsetof(t, s0), .channel_stride_at = offsetof(t, s1),                \
    .spatial_stride_at = offsetof(t, s2)                                               \
  }
#define MASK_FIELDS(t)                                                                 \
  BESIDE(t, mask.mask, BYTES_01, MEMBERS, mask.stride, mask.channel_stride,            \
         mask.spatial_stride),                                                         \
      FIELD(t, mask.stride, MASK_STRIDE), FIELD(t, mask.channel_stride, MASK_STRIDE),  \
      FIELD(t, mask.spatial_stride, MASK_STRIDE),                                      \
      LIST(t, mask.lengths, SIZES, FIRST, READ, LENGTHS, 0),                           \
      FIELD(t, mask.positions, POSITIONS), FIELD(t, mask.masked, MASKED),              \
      BESIDE(t, mask.weights, LIKE_WEIGHTS, PARTS_OF, mask.stride,                     \
             mask.channel_stride, mask.spatial_stride),                                \
      FIELD(t, mask.weights_dtype, DTYPE_OTHER)
#define SCRATCH_FIELDS(t)                                                              \
  FIELD(t, scratch, SCRATCH), FIELD(t, scratch_size, SCRATCH_SIZE)

#define ROW_EXTENTS(t)                                                                 \
  FIELD(t, rows, EXTENT), FIELD(t, cols, EXTENT), FIELD(t, inner, EXTENT)
#define CHANNEL_EXTENTS(t)                                                             \
  FIELD(t, batch, EXTENT), FIELD(t, channels, EXTENT), FIELD(t, spatial, EXTENT)
#define ROW_XY(t)                                                                      \
  STRIDED(t, x, LIKE_X, READ, 1, x_stride, 0),                                         \
      STRIDED(t, y, LIKE_Y, WRITTEN, 1, y_stride, 0), FIELD(t, x_stride, STRIDE),      \
      FIELD(t, y_stride, STRIDE)
#define CHANNEL_XY(t)                                                                  \
  STRIDED(t, x, LIKE_X, READ, 1, x_stride, AT(t, x_channel_stride)),                   \
      STRIDED(t, y, LIKE_Y, WRITTEN, 1, y_stride, AT(t, y_channel_stride)),            \
      FIELD(t, x_stride, STRIDE), FIELD(t, y_stride, STRIDE),                          \
      FIELD(t, x_channel_stride, STRIDE), FIELD(t, y_channel_stride, STRIDE)
#define PARAMETER(t, path, how, has) LIST(t, path, LIKE_PARAMS, PARAMETERS, how, has, 0)
#define WEIGHT_AND_BIAS(t)                                                             \
  PARAMETER(t, weight, READ, AROUND_ONE), PARAMETER(t, bias, READ, AROUND_ONE)
#define STATISTIC(t, path, how, has) LIST(t, path, WORKING, STATISTICS, how, has, 0)
#define STATISTICS_OUT(t)                                                              \
  STATISTIC(t, mean, WRITTEN, ANY), STATISTIC(t, rstd, WRITTEN, ANY)
#define STORED_FIELDS(t)                                                               \
  STATISTIC(t, stored_mean, READ, ANY), STATISTIC(t, stored_var, READ, POSITIVE)
#define RUNNING_FIELDS(t)                                                              \
  PARAMETER(t, running_mean, UPDATED, ANY), PARAMETER(t, running_var, UPDATED, POSITIVE)

/* ---- Norms of rows --------------------------------------------------------------- */

#define RESIDUAL_FIELDS(t)                                                             \
  STRIDED(t, residual, LIKE_RESIDUAL, READ, 0, residual_stride, 0),                    \
      PARAMETER(t, residual_bias, READ, AROUND_ONE),                                   \
      STRIDED(t, residual_out, LIKE_RESIDUAL, WRITTEN, 0, residual_out_stride, 0),     \
      FIELD(t, residual_dtype, DTYPE_OTHER), FIELD(t, residual_stride, STRIDE),        \
      FIELD(t, residual_out_stride, STRIDE),                                           \
      LIST(t, y_scale, FLOATS, FIRST, WRITTEN, ANY, 0)

#define T fastnorm_layer_norm_args
static const field layer_norm_fields[] = {
    BEGIN_FIELDS(T),         ROW_XY(T),
    WEIGHT_AND_BIAS(T),      STATISTICS_OUT(T),
    ROW_EXTENTS(T),          FIELD(T, eps, EPS),
    EXEC_FIELDS(T),          FORMAT_FIELDS(T),
    RESIDUAL_FIELDS(T),      EPILOGUE_FIELDS(T, 0),
    STORED_FIELDS(T),        LIST(T, lengths, SIZES, FIRST, READ, LENGTHS, 0),
    FIELD(T, masked, MASKED)};
#undef T

#define T fastnorm_rms_norm_args
static const field rms_norm_fields[] = {BEGIN_FIELDS(T),
                                        ROW_XY(T),
                                        PARAMETER(T, weight, READ, AROUND_ONE),
                                        STATISTIC(T, rstd, WRITTEN, ANY),
                                        ROW_EXTENTS(T),
                                        FIELD(T, eps, EPS),
                                        EXEC_FIELDS(T),
                                        FORMAT_FIELDS(T),
                                        RESIDUAL_FIELDS(T),
                                        EPILOGUE_FIELDS(T, 0),
                                        FIELD(T, mode, MODE)};
#undef T

#define T fastnorm_l1_norm_args
static const field l1_norm_fields[] = {
    BEGIN_FIELDS(T), ROW_XY(T),          STATISTIC(T, norm, WRITTEN, ANY),
    ROW_EXTENTS(T),  FIELD(T, eps, EPS), EXEC_FIELDS(T),
    FORMAT_FIELDS(T)};
#undef T

#define T fastnorm_l2_norm_args
static const field l2_norm_fields[] = {
    BEGIN_FIELDS(T), ROW_XY(T),          STATISTIC(T, norm, WRITTEN, ANY),
    ROW_EXTENTS(T),  FIELD(T, eps, EPS), EXEC_FIELDS(T),
    FORMAT_FIELDS(T)};
#undef T

/* ---- Norms of channels and of samples -------------------------------------------- */

#define T fastnorm_batch_norm_args
static const field batch_norm_fields[] = {
    BEGIN_FIELDS(T),
    CHANNEL_XY(T),
    WEIGHT_AND_BIAS(T),
    RUNNING_FIELDS(T),
    STATISTICS_OUT(T),
    CHANNEL_EXTENTS(T),
    FIELD(T, training, FLAG),
    FIELD(T, momentum, MOMENTUM),
    FIELD(T, num_batches_tracked, TRACKED),
    FIELD(T, eps, EPS),
    SCRATCH_FIELDS(T),
    EXEC_FIELDS(T),
    FORMAT_FIELDS(T),
    EPILOGUE_FIELDS(T, AT(T, epilogue.post_add_channel_stride)),
    MASK_FIELDS(T)};
#undef T

#define T fastnorm_batch_renorm_args
static const field batch_renorm_fields[] = {
    BEGIN_FIELDS(T),
    CHANNEL_XY(T),
    WEIGHT_AND_BIAS(T),
    RUNNING_FIELDS(T),
    STATISTICS_OUT(T),
    STATISTIC(T, r, WRITTEN, ANY),
    STATISTIC(T, d, WRITTEN, ANY),
    CHANNEL_EXTENTS(T),
    FIELD(T, training, FLAG),
    FIELD(T, momentum, MOMENTUM),
    FIELD(T, num_batches_tracked, TRACKED),
    FIELD(T, eps, EPS),
    FIELD(T, r_max, LIMIT),
    FIELD(T, d_max, LIMIT),
    SCRATCH_FIELDS(T),
    EXEC_FIELDS(T),
    FORMAT_FIELDS(T),
    EPILOGUE_FIELDS(T, AT(T, epilogue.post_add_channel_stride))};
#undef T

#define T fastnorm_weight_norm_args
static const field weight_norm_fields[] = {BEGIN_FIELDS(T),
                                           CHANNEL_XY(T),
                                           PARAMETER(T, g, READ, AROUND_ONE),
                                           STATISTIC(T, norm, WRITTEN, ANY),
                                           CHANNEL_EXTENTS(T),
                                           SCRATCH_FIELDS(T),
                                           EXEC_FIELDS(T),
                                           FORMAT_FIELDS(T)};
#undef T

#define T fastnorm_group_norm_args
static const field group_norm_fields[] = {
    BEGIN_FIELDS(T),
    CHANNEL_XY(T),
    WEIGHT_AND_BIAS(T),
    STATISTICS_OUT(T),
    CHANNEL_EXTENTS(T),
    FIELD(T, groups, GROUPS),
    FIELD(T, channels_last, FLAG),
    FIELD(T, eps, EPS),
    EXEC_FIELDS(T),
    FORMAT_FIELDS(T),
    EPILOGUE_FIELDS(T, AT(T, epilogue.post_add_channel_stride)),
    STORED_FIELDS(T),
    MASK_FIELDS(T)};
#undef T

#define T fastnorm_instance_norm_args
static const field instance_norm_fields[] = {
    BEGIN_FIELDS(T),
    CHANNEL_XY(T),
    WEIGHT_AND_BIAS(T),
    RUNNING_FIELDS(T),
    STATISTICS_OUT(T),
    CHANNEL_EXTENTS(T),
    FIELD(T, channels_last, FLAG),
    FIELD(T, use_running_stats, FLAG),
    FIELD(T, momentum, MOMENTUM),
    FIELD(T, eps, EPS),
    EXEC_FIELDS(T),
    FORMAT_FIELDS(T),
    EPILOGUE_FIELDS(T, AT(T, epilogue.post_add_channel_stride)),
    MASK_FIELDS(T)};
#undef T

#define T fastnorm_moments_args
static const field moments_fields[] = {
    BEGIN_FIELDS(T),
    STRIDED(T, x, LIKE_X, READ, 1, x_stride, AT(T, x_channel_stride)),
    LIST(T, mean, DOUBLES, PARAMETERS, WRITTEN, ANY, 1),
    LIST(T, m2, DOUBLES, PARAMETERS, WRITTEN, ANY, 1),
    CHANNEL_EXTENTS(T),
    FIELD(T, x_stride, STRIDE),
    FIELD(T, x_channel_stride, STRIDE),
    SCRATCH_FIELDS(T),
    EXEC_FIELDS(T),
    FIELD(T, x_quantization.scale, SCALE),
    FIELD(T, x_quantization.zero_point, ZERO_POINT),
    MASK_FIELDS(T),
    LIST(T, count, SIZES, PARAMETERS, WRITTEN, ANY, 0),
    LIST(T, weight, DOUBLES, PARAMETERS, WRITTEN, ANY, 0)};
#undef T

/* ---- Gradients ------------------------------------------------------------------- */

#define ROW_GRADIENTS_XY(t)                                                            \
  STRIDED(t, grad_y, LIKE_X, READ, 1, grad_y_stride, 0),                               \
      STRIDED(t, x, LIKE_X, READ, 1, x_stride, 0),                                     \
      STRIDED(t, grad_x, LIKE_Y, WRITTEN, 0, grad_x_stride, 0),                        \
      FIELD(t, grad_y_stride, STRIDE), FIELD(t, x_stride, STRIDE),                     \
      FIELD(t, grad_x_stride, STRIDE)
#define CHANNEL_GRADIENTS_XY(t)                                                        \
  STRIDED(t, grad_y, LIKE_X, READ, 1, grad_y_stride, AT(t, grad_y_channel_stride)),    \
      STRIDED(t, x, LIKE_X, READ, 1, x_stride, AT(t, x_channel_stride)),               \
      STRIDED(t, grad_x, LIKE_Y, WRITTEN, 0, grad_x_stride,                            \
              AT(t, grad_x_channel_stride)),                                           \
      FIELD(t, grad_y_stride, STRIDE), FIELD(t, x_stride, STRIDE),                     \
      FIELD(t, grad_x_stride, STRIDE), FIELD(t, grad_y_channel_stride, STRIDE),        \
      FIELD(t, x_channel_stride, STRIDE), FIELD(t, grad_x_channel_stride, STRIDE)
#define SUMS(t, path) LIST(t, path, WORKING, PARAMETERS, WRITTEN, ANY, 0)
#define GIVEN_STATISTICS(t)                                                            \
  STATISTIC(t, mean, READ, ANY), STATISTIC(t, rstd, READ, POSITIVE)

#define T fastnorm_layer_norm_backward_args
static const field layer_norm_backward_fields[] = {
    BEGIN_FIELDS(T),      ROW_GRADIENTS_XY(T), PARAMETER(T, weight, READ, AROUND_ONE),
    SUMS(T, grad_weight), SUMS(T, grad_bias),  GIVEN_STATISTICS(T),
    ROW_EXTENTS(T),       FIELD(T, eps, EPS),  SCRATCH_FIELDS(T),
    EXEC_FIELDS(T),       FORMAT_FIELDS(T)};
#undef T

#define T fastnorm_rms_norm_backward_args
static const field rms_norm_backward_fields[] = {BEGIN_FIELDS(T),
                                                 ROW_GRADIENTS_XY(T),
                                                 PARAMETER(T, weight, READ, AROUND_ONE),
                                                 SUMS(T, grad_weight),
                                                 STATISTIC(T, rstd, READ, POSITIVE),
                                                 ROW_EXTENTS(T),
                                                 FIELD(T, eps, EPS),
                                                 SCRATCH_FIELDS(T),
                                                 EXEC_FIELDS(T),
                                                 FORMAT_FIELDS(T),
                                                 FIELD(T, mode, MODE)};
#undef T

#define T fastnorm_l2_norm_backward_args
static const field l2_norm_backward_fields[] = {BEGIN_FIELDS(T), ROW_GRADIENTS_XY(T),
                                                ROW_EXTENTS(T),  FIELD(T, eps, EPS),
                                                EXEC_FIELDS(T),  FORMAT_FIELDS(T)};
#undef T

#define CHANNEL_GRADIENTS(t)                                                           \
  BEGIN_FIELDS(t), CHANNEL_GRADIENTS_XY(t), CHANNEL_EXTENTS(t), SCRATCH_FIELDS(t),     \
      EXEC_FIELDS(t), FORMAT_FIELDS(t)
#define CENTERED_GRADIENTS(t)                                                          \
  CHANNEL_GRADIENTS(t), PARAMETER(t, weight, READ, AROUND_ONE), SUMS(t, grad_weight),  \
      SUMS(t, grad_bias), GIVEN_STATISTICS(t), FIELD(t, eps, EPS)

#define T fastnorm_batch_norm_backward_args
static const field batch_norm_backward_fields[] = {CENTERED_GRADIENTS(T),
                                                   FIELD(T, training, FLAG)};
#undef T

#define T fastnorm_batch_renorm_backward_args
static const field batch_renorm_backward_fields[] = {
    CENTERED_GRADIENTS(T), FIELD(T, training, FLAG), STATISTIC(T, r, READ, AROUND_ONE),
    STATISTIC(T, d, READ, ANY)};
#undef T

#define T fastnorm_group_norm_backward_args
static const field group_norm_backward_fields[] = {
    CENTERED_GRADIENTS(T), FIELD(T, groups, GROUPS), FIELD(T, channels_last, FLAG)};
#undef T

#define T fastnorm_instance_norm_backward_args
static const field instance_norm_backward_fields[] = {
    CENTERED_GRADIENTS(T), FIELD(T, channels_last, FLAG),
    FIELD(T, use_running_stats, FLAG)};
#undef T

#define T fastnorm_weight_norm_backward_args
static const field weight_norm_backward_fields[] = {
    CHANNEL_GRADIENTS(T), PARAMETER(T, g, READ, AROUND_ONE), SUMS(T, grad_g),
    STATISTIC(T, norm, READ, POSITIVE)};
#undef T

/* ---- Images ---------------------------------------------------------------------- */

#define T fastnorm_normalize_image_args
static const field normalize_image_fields[] = {
    BEGIN_FIELDS(T),
    STRIDED(T, x, LIKE_X, READ, 1, x_stride, AT(T, x_row_stride)),
    STRIDED(T, y, LIKE_Y, WRITTEN, 1, y_stride, 0),
    FIELD(T, images, EXTENT),
    FIELD(T, height, EXTENT),
    FIELD(T, width, EXTENT),
    FIELD(T, channels, EXTENT),
    FIELD(T, x_stride, STRIDE),
    FIELD(T, x_row_stride, STRIDE),
    FIELD(T, y_stride, STRIDE),
    FIELD(T, channels_first, FLAG),
    FIELD(T, reverse_channels, FLAG),
    FIELD(T, scale, PIXEL_SCALE),
    LIST(T, mean, DOUBLES, PARAMETERS, READ, AROUND_ONE, 0),
    LIST(T, std, DOUBLES, PARAMETERS, READ, POSITIVE, 0),
    EXEC_FIELDS(T),
    FORMAT_FIELDS(T)};
#undef T

#endif /* FN_TEST_FIELDS_H */
