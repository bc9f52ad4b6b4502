/* draw_call.h - calls with formats, residual and epilogue, drawn at random.
 * SPDX-License-Identifier: MIT
 */
#ifndef FN_TEST_DRAW_CALL_H
#define FN_TEST_DRAW_CALL_H

#include "by_hand.h"

static inline void put_numbers(whole_call *c, slot s, double centre, double spread,
                               rng *r) {
  for (size_t i = 0; i < c->count[s]; i++) {
    const double v = centre + spread * rng_normal(r);
    if (is_8_bit(c->type[s])) {
      c->before[s][i] = (unsigned char)rng_below(r, 256);
    } else {
      set_element(c->type[s], c->before[s], i, v, 1.0F, 0);
    }
  }
}

static inline void fill_call(whole_call *c, rng *r) {
  static const double kinds[][2] = {{0, 1},   {0, 1},    {100, 1},  {3.3, 0},
                                    {0, 3e4}, {0, 1e-6}, {0, 1e18}, {0, 1e-30}};
  const double *kind = kinds[rng_below(r, LENGTH(kinds))];
  for (int s = 0; s < SLOTS; s++) {
    c->before[s] = new_bytes(bytes_in(c, (slot)s));
    c->after[s] = new_bytes(bytes_in(c, (slot)s));
  }
  put_numbers(c, X, kind[0], kind[1], r);
  if (rng_below(r, 8) == 0 && !is_8_bit(c->type[X])) {
    static const double bad[] = {(double)NAN, (double)INFINITY};
    set_element(c->type[X], c->before[X], (size_t)rng_below(r, (int64_t)c->count[X]),
                bad[rng_below(r, 2)], 1.0F, 0);
  }
  put_numbers(c, WEIGHT, 1.0, 0.5, r);
  put_numbers(c, BIAS, 0.0, 0.5, r);
  put_numbers(c, RUNNING_MEAN, kind[0], kind[1], r);
  put_numbers(c, RUNNING_VAR, 9.0, 1.0, r);
  put_numbers(c, RESIDUAL, 0.0, kind[1], r);
  put_numbers(c, RESIDUAL_BIAS, 0.0, 1.0, r);
  put_numbers(c, POST_ADD, 0.0, 2.0, r);
  memset(c->before[Y], 0xa5, bytes_in(c, Y));
  memset(c->before[RESIDUAL_OUT], 0xa5, bytes_in(c, RESIDUAL_OUT));
  for (int s = 0; s < SLOTS; s++) {
    memcpy(c->after[s], c->before[s], bytes_in(c, (slot)s));
  }
}

static inline void free_call(whole_call *c) {
  for (int s = 0; s < SLOTS; s++) {
    free(c->before[s]);
    free(c->after[s]);
  }
}

static inline int maybe(rng *r) {
  return (int)rng_below(r, 2);
}

/* Gaps after samples, and after channels where they are not part of one run. */
static inline ptrdiff_t sample_stride(const job *j, ptrdiff_t channel_stride, rng *r) {
  const ptrdiff_t step = channel_stride != 0 ? channel_stride : (ptrdiff_t)j->n2;
  return (ptrdiff_t)j->n1 * step + (ptrdiff_t)rng_below(r, 4);
}

static inline ptrdiff_t channel_stride(const job *j, rng *r) {
  const int may =
      is_channels_last(j->op) || (j->n2 > 1 && !is_row_norm(j->op) &&
                                  j->op != GROUP_NORM && j->op != GROUP_STORED);
  return may && maybe(r) ? (ptrdiff_t)(j->n2 + (size_t)rng_below(r, 3)) : 0;
}

static inline void choose_strides(job *j, int in_place, rng *r) {
  j->x_s1 = channel_stride(j, r);
  j->x_s0 = sample_stride(j, j->x_s1, r);
  j->y_s1 = in_place ? j->x_s1 : channel_stride(j, r);
  j->y_s0 = in_place ? j->x_s0 : sample_stride(j, j->y_s1, r);
  j->epilogue.post_add_channel_stride = channel_stride(j, r);
  j->epilogue.post_add_stride =
      sample_stride(j, j->epilogue.post_add_channel_stride, r);
  j->residual_stride = (ptrdiff_t)(j->n1 + (size_t)rng_below(r, 3));
  j->residual_out_stride = (ptrdiff_t)(j->n1 + (size_t)rng_below(r, 3));
}

static inline fastnorm_quantization choose_quantization(fastnorm_dtype type, rng *r) {
  static const float scales[] = {0.0F, 0.02F, 1.0F / 255, 0.3F};
  const int low = type == FASTNORM_INT8 ? -128 : 0;
  if (!is_8_bit(type)) {
    return (fastnorm_quantization){0.0F, 0};
  }
  return (fastnorm_quantization){scales[rng_below(r, 4)],
                                 low + (maybe(r) ? -low : (int)rng_below(r, 256))};
}

static inline fastnorm_dtype choose_companion(fastnorm_dtype x, rng *r) {
  static const fastnorm_dtype types[] = {FASTNORM_DEFAULT, FASTNORM_FLOAT32,
                                         FASTNORM_FLOAT16, FASTNORM_BFLOAT16};
  return x == FASTNORM_FLOAT64 ? (maybe(r) ? x : FASTNORM_DEFAULT)
                               : types[rng_below(r, 4)];
}

static inline void choose_extras(whole_call *c, rng *r, size_t *out) {
  job *j = &c->j;
  const size_t all = j->n0 * j->n1 * j->n2;
  const int plain_rows = is_row_norm(j->op) && has_weight(j->op) && j->n2 == 1;
  *out = 0;
  if (plain_rows && maybe(r)) {
    j->residual_dtype = choose_companion(j->dtype, r);
    c->count[RESIDUAL] =
        (size_t)residual_offset(j, j->residual_stride, place_of(j, all - 1)) + 1;
    c->count[RESIDUAL_BIAS] = maybe(r) ? j->n1 : 0;
    *out = (size_t)rng_below(r, 3);
  }
  if (plain_rows && is_8_bit(c->type[Y]) && maybe(r)) {
    c->count[Y_SCALE] = j->n0;
    j->format.y_quantization.scale = 0.0F;
  }
  if (!is_length(j->op) && j->op != MOMENTS) {
    j->epilogue.post_add_dtype = choose_companion(j->dtype, r);
    if (maybe(r)) {
      c->count[POST_ADD] = (size_t)post_add_offset(j, place_of(j, all - 1)) + 1;
    }
    if (j->epilogue.activation == FASTNORM_LEAKY_RELU) {
      j->epilogue.alpha = maybe(r) ? 0.2 : 0.0;
    } else if (j->epilogue.activation == FASTNORM_CLAMP) {
      j->epilogue.alpha = -0.75;
      j->epilogue.beta = 1.5;
    }
  } else {
    j->epilogue.activation = FASTNORM_IDENTITY;
  }
  if (j->op == RMS_NORM) {
    j->mode = (fastnorm_rms_mode)rng_below(r, 3);
  }
}

static inline void set_types(whole_call *c) {
  const job *j = &c->j;
  const fastnorm_dtype x = j->dtype;
  c->working = x == FASTNORM_FLOAT64 ? FASTNORM_FLOAT64 : FASTNORM_FLOAT32;
  const fastnorm_dtype params = or_default(j->format.params, x);
  const fastnorm_dtype residual = or_default(j->residual_dtype, x);
  const fastnorm_dtype stored = stores_groups(j->op) ? c->working : params;
  const fastnorm_dtype statistic = j->op == MOMENTS ? FASTNORM_FLOAT64 : c->working;
  const fastnorm_dtype types[SLOTS] = {[X] = x,
                                       [Y] = or_default(j->format.y, x),
                                       [WEIGHT] = params,
                                       [BIAS] = params,
                                       [MEAN] = statistic,
                                       [RSTD] = statistic,
                                       [RUNNING_MEAN] = stored,
                                       [RUNNING_VAR] = stored,
                                       [RESIDUAL] = residual,
                                       [RESIDUAL_BIAS] = params,
                                       [RESIDUAL_OUT] = residual,
                                       [POST_ADD] =
                                           or_default(j->epilogue.post_add_dtype, x),
                                       [Y_SCALE] = FASTNORM_FLOAT32};
  memcpy(c->type, types, sizeof types);
}

/* Numbers of elements of the arrays that the call gets. */
static inline void choose_arrays(whole_call *c, size_t out, rng *r) {
  job *j = &c->j;
  const place last = place_of(j, j->n0 * j->n1 * j->n2 - 1);
  c->count[X] = (size_t)x_offset(j, last.i0, last.i1, last.i2) + 1;
  c->count[Y] =
      j->op == MOMENTS ? 0 : (size_t)y_offset(j, last.i0, last.i1, last.i2) + 1;
  c->count[WEIGHT] = has_weight(j->op) && maybe(r) ? parameter_count(j) : 0;
  c->count[BIAS] = has_bias(j->op) && maybe(r) ? parameter_count(j) : 0;
  c->count[MEAN] =
      j->op == MOMENTS || (has_bias(j->op) && maybe(r)) ? group_count(j) : 0;
  c->count[RSTD] = j->op == MOMENTS || maybe(r) ? group_count(j) : 0;
  if (reads_stored(j->op) || j->op == BATCH_RENORM || (has_stored(j->op) && maybe(r))) {
    c->count[RUNNING_MEAN] = c->count[RUNNING_VAR] = stored_count(j);
  }
  if (out > 0) {
    j->residual_out_stride = out == 1 ? j->residual_stride : j->residual_out_stride;
    c->home[RESIDUAL_OUT] = out == 1 ? RESIDUAL : RESIDUAL_OUT;
    c->count[RESIDUAL_OUT] =
        (size_t)residual_offset(j, j->residual_out_stride, last) + 1;
  }
}

/* A call of this shape, types and activation; all else is drawn. */
static inline whole_call draw_call(const job *shape, uint64_t seed) {
  rng r = {seed};
  whole_call c = {.j = *shape};
  job *j = &c.j;
  size_t out;
  set_types(&c);
  for (int s = 0; s < SLOTS; s++) {
    c.home[s] = (slot)s;
  }
  if (bytes_of(c.type[X]) == bytes_of(c.type[Y]) && j->op != MOMENTS && maybe(&r)) {
    c.home[Y] = X;
  }
  j->format.x_quantization = choose_quantization(c.type[X], &r);
  j->format.y_quantization = choose_quantization(c.type[Y], &r);
  choose_strides(j, c.home[Y] == X, &r);
  choose_extras(&c, &r, &out);
  set_types(&c);
  choose_arrays(&c, out, &r);
  fill_call(&c, &r);
  return c;
}

#endif /* FN_TEST_DRAW_CALL_H */
