/* known_operations.h - the table of all operations: their fields, and how to call them.
 * SPDX-License-Identifier: MIT
 *
 * What takes two structs is described as one of this file that holds both. */
#ifndef FN_TEST_KNOWN_OPERATIONS_H
#define FN_TEST_KNOWN_OPERATIONS_H

#include "fields.h"

typedef struct init_args {
  fastnorm_running_moments state;
} init_args;

typedef struct update_args {
  fastnorm_running_moments_args batch;
  fastnorm_running_moments state;
} update_args;

typedef struct merge_args {
  fastnorm_running_moments state, other;
} merge_args;

typedef struct finish_args {
  fastnorm_running_moments state;
  fastnorm_running_results results;
} finish_args;

/* ---- Fields ---------------------------------------------------------------------- */

#define STATE_ARRAY(t, path, what, how, has)                                           \
  LIST(t, path, what, PARAMETERS, how, has, 1)
#define STATE_FIELDS(t, s, how)                                                        \
  SIZED(t, s.size, fastnorm_running_moments), FIELD(t, s.features, FEATURES),          \
      STATE_ARRAY(t, s.count, COUNTS, how, LENGTHS),                                   \
      STATE_ARRAY(t, s.weight, DOUBLES, how, POSITIVE),                                \
      STATE_ARRAY(t, s.mean, DOUBLES, how, ANY),                                       \
      STATE_ARRAY(t, s.mean_low, DOUBLES, how, ZERO),                                  \
      STATE_ARRAY(t, s.m2, DOUBLES, how, POSITIVE),                                    \
      STATE_ARRAY(t, s.m2_low, DOUBLES, how, ZERO),                                    \
      STATE_ARRAY(t, s.min, DOUBLES, how, ANY),                                        \
      STATE_ARRAY(t, s.max, DOUBLES, how, ANY)

#define T init_args
static const field running_init_fields[] = {STATE_FIELDS(T, state, WRITTEN)};
#undef T

#define T update_args
static const field running_update_fields[] = {
    SIZED(T, batch.size, fastnorm_running_moments_args),
    FIELD(T, batch.dtype, DTYPE),
    STRIDED(T, batch.x, LIKE_X, READ, 1, batch.x_stride, AT(T, batch.x_channel_stride)),
    FIELD(T, batch.batch, EXTENT),
    FIELD(T, batch.channels, EXTENT),
    FIELD(T, batch.spatial, EXTENT),
    FIELD(T, batch.x_stride, STRIDE),
    FIELD(T, batch.x_channel_stride, STRIDE),
    FIELD(T, batch.nan, POLICY),
    BESIDE(T, batch.mask, BYTES_01, MEMBERS, batch.mask_stride,
           batch.mask_channel_stride, batch.mask_spatial_stride),
    FIELD(T, batch.mask_stride, MASK_STRIDE),
    FIELD(T, batch.mask_channel_stride, MASK_STRIDE),
    FIELD(T, batch.mask_spatial_stride, MASK_STRIDE),
    BESIDE(T, batch.weights, LIKE_WEIGHTS, PARTS_OF, batch.weights_stride,
           batch.weights_channel_stride, batch.weights_spatial_stride),
    FIELD(T, batch.weights_dtype, DTYPE_OTHER),
    FIELD(T, batch.weights_stride, MASK_STRIDE),
    FIELD(T, batch.weights_channel_stride, MASK_STRIDE),
    FIELD(T, batch.weights_spatial_stride, MASK_STRIDE),
    FIELD(T, batch.scratch, SCRATCH),
    FIELD(T, batch.scratch_size, SCRATCH_SIZE),
    FIELD(T, batch.exec.num_threads, THREADS),
    FIELD(T, batch.exec.parallel_for, HOST_POOL),
    FIELD(T, batch.exec.context, HOST_CONTEXT),
    FIELD(T, batch.exec.flush_denormals, FLAG),
    FIELD(T, batch.exec.check_only, FLAG),
    STATE_FIELDS(T, state, UPDATED)};
#undef T

#define T merge_args
static const field running_merge_fields[] = {STATE_FIELDS(T, state, UPDATED),
                                             STATE_FIELDS(T, other, READ)};
#undef T

#define T               finish_args
#define RESULT(t, path) LIST(t, path, DOUBLES, PARAMETERS, WRITTEN, ANY, 0)
static const field running_finish_fields[] = {
    STATE_FIELDS(T, state, READ), SIZED(T, results.size, fastnorm_running_results),
    FIELD(T, results.ddof, DDOF), RESULT(T, results.mean),
    RESULT(T, results.var),       RESULT(T, results.std),
    RESULT(T, results.min),       RESULT(T, results.max)};
#undef T

/* ---- Calls ----------------------------------------------------------------------- */

#define CALL(op)                                                                       \
  static fastnorm_status call_##op(const void *args) {                                 \
    return fastnorm_##op(args);                                                        \
  }
#define CALL_AND_SCRATCH(op)                                                           \
  CALL(op)                                                                             \
  static size_t scratch_##op(const void *args) {                                       \
    return fastnorm_##op##_scratch(args);                                              \
  }

CALL(layer_norm)
CALL(rms_norm)
CALL(l1_norm)
CALL(l2_norm)
CALL_AND_SCRATCH(batch_norm)
CALL_AND_SCRATCH(batch_renorm)
CALL_AND_SCRATCH(weight_norm)
CALL(group_norm)
CALL(instance_norm)
CALL_AND_SCRATCH(moments)
CALL_AND_SCRATCH(layer_norm_backward)
CALL_AND_SCRATCH(rms_norm_backward)
CALL(l2_norm_backward)
CALL_AND_SCRATCH(batch_norm_backward)
CALL_AND_SCRATCH(batch_renorm_backward)
CALL_AND_SCRATCH(group_norm_backward)
CALL_AND_SCRATCH(instance_norm_backward)
CALL_AND_SCRATCH(weight_norm_backward)
CALL(normalize_image)

static fastnorm_status call_running_init(const void *p) {
  return fastnorm_running_moments_init(&((const init_args *)p)->state);
}
static fastnorm_status call_running_update(const void *p) {
  const update_args *a = p;
  return fastnorm_running_moments_update(&a->state, &a->batch);
}
static size_t scratch_running_update(const void *p) {
  return fastnorm_running_moments_scratch(&((const update_args *)p)->batch);
}
static fastnorm_status call_running_merge(const void *p) {
  const merge_args *a = p;
  return fastnorm_running_moments_merge(&a->state, &a->other);
}
static fastnorm_status call_running_finish(const void *p) {
  const finish_args *a = p;
  return fastnorm_running_moments_finish(&a->state, &a->results);
}

#define KNOWN_AS(op, type, where, scratch_of)                                          \
  {                                                                                    \
#op, sizeof(type), op##_fields, sizeof op##_fields / sizeof(field), where,         \
        call_##op, scratch_of                                                          \
  }
#define KNOWN(op, where)      KNOWN_AS(op, fastnorm_##op##_args, where, NULL)
#define KNOWN_WITH(op, where) KNOWN_AS(op, fastnorm_##op##_args, where, scratch_##op)

static const known_operation known_operations[] = {
    KNOWN(layer_norm, ROWS_LAYOUT),
    KNOWN(rms_norm, ROWS_LAYOUT),
    KNOWN(l1_norm, ROWS_LAYOUT),
    KNOWN(l2_norm, ROWS_LAYOUT),
    KNOWN_WITH(batch_norm, CHANNELS_LAYOUT),
    KNOWN_WITH(batch_renorm, CHANNELS_LAYOUT),
    KNOWN_WITH(weight_norm, CHANNELS_LAYOUT),
    KNOWN(group_norm, SAMPLES_LAYOUT),
    KNOWN(instance_norm, SAMPLES_LAYOUT),
    KNOWN_WITH(moments, CHANNELS_LAYOUT),
    KNOWN_WITH(layer_norm_backward, ROWS_LAYOUT),
    KNOWN_WITH(rms_norm_backward, ROWS_LAYOUT),
    KNOWN(l2_norm_backward, ROWS_LAYOUT),
    KNOWN_WITH(batch_norm_backward, CHANNELS_LAYOUT),
    KNOWN_WITH(batch_renorm_backward, CHANNELS_LAYOUT),
    KNOWN_WITH(group_norm_backward, SAMPLES_LAYOUT),
    KNOWN_WITH(instance_norm_backward, SAMPLES_LAYOUT),
    KNOWN_WITH(weight_norm_backward, CHANNELS_LAYOUT),
    KNOWN(normalize_image, IMAGE_LAYOUT),
    KNOWN_AS(running_init, init_args, STATE_LAYOUT, NULL),
    KNOWN_AS(running_update, update_args, CHANNELS_LAYOUT, scratch_running_update),
    KNOWN_AS(running_merge, merge_args, STATE_LAYOUT, NULL),
    KNOWN_AS(running_finish, finish_args, STATE_LAYOUT, NULL),
};

enum { KNOWN_OPERATIONS = sizeof known_operations / sizeof known_operations[0] };

#endif /* FN_TEST_KNOWN_OPERATIONS_H */
