/* by_hand.h - what a call with formats, a residual and an epilogue must give: every
 * array widened by hand, the plain operation, and the rest one element at a time.
 * SPDX-License-Identifier: MIT
 */
#ifndef FN_TEST_BY_HAND_H
#define FN_TEST_BY_HAND_H

#include "elements.h"
#include "job.h"

typedef enum slot {
  X,
  Y,
  WEIGHT,
  BIAS,
  MEAN,
  RSTD,
  RUNNING_MEAN,
  RUNNING_VAR,
  RESIDUAL,
  RESIDUAL_BIAS,
  RESIDUAL_OUT,
  POST_ADD,
  Y_SCALE,
  SLOTS
} slot;

/* A call and its arrays: their elements, how they begin, and how they must end. What
 * the call does not get has no elements; `home` is the slot whose memory an array is in
 * (Y may be in X, RESIDUAL_OUT in RESIDUAL). */
typedef struct whole_call {
  job j;
  fastnorm_dtype working, type[SLOTS];
  size_t count[SLOTS];
  slot home[SLOTS];
  unsigned char *before[SLOTS], *after[SLOTS];
} whole_call;

static inline size_t bytes_in(const whole_call *c, slot s) {
  return c->count[s] * bytes_of(c->type[s]);
}

static inline int is_8_bit(fastnorm_dtype type) {
  return type == FASTNORM_INT8 || type == FASTNORM_UINT8;
}

/* The type of y, parameters, residual and post_add if none is given. */
static inline fastnorm_dtype or_default(fastnorm_dtype given, fastnorm_dtype x) {
  return given != FASTNORM_DEFAULT ? given : is_8_bit(x) ? FASTNORM_FLOAT32 : x;
}

static inline ptrdiff_t post_add_offset(const job *j, place p) {
  const fastnorm_epilogue *e = &j->epilogue;
  return element_offset(j, e->post_add_stride,
                        is_row_norm(j->op) ? 0 : e->post_add_channel_stride, p.i0, p.i1,
                        p.i2);
}

static inline ptrdiff_t residual_offset(const job *j, ptrdiff_t stride, place p) {
  return (ptrdiff_t)p.i0 * (stride != 0 ? stride : (ptrdiff_t)j->n1) + (ptrdiff_t)p.i1;
}

/* The number that element i of a slot stands for, and stands for at first. A sum or
 * product of two floats, computed in double and rounded, is that of float. */
static inline double number(const whole_call *c, slot s, ptrdiff_t i) {
  const double e = element(c->type[s], c->before[s], (size_t)i);
  const fastnorm_quantization q = c->j.format.x_quantization;
  if (!is_8_bit(c->type[s])) {
    return e;
  }
  return rounded(c->working,
                 (e - q.zero_point) * (double)(q.scale > 0.0F ? q.scale : 1.0F));
}

/* Where `scale` is NaN or Inf no number has an element. */
static inline void store(whole_call *c, slot s, ptrdiff_t i, double v, float scale) {
  const int none = is_8_bit(c->type[s]) && isnan((float)v * (1.0F / scale));
  set_element(c->type[s], c->after[c->home[s]], (size_t)i, none ? (double)NAN : v,
              1.0F / scale, c->j.format.y_quantization.zero_point);
}

/* A parameter in the working type; NULL if the call has none. */
static inline void *widened(const whole_call *c, slot s, double plus) {
  if (c->count[s] == 0) {
    return NULL;
  }
  void *wide = new_bytes(c->count[s] * sizeof(double));
  for (ptrdiff_t i = 0; i < (ptrdiff_t)c->count[s]; i++) {
    put(wide, c->working, i, plus > 0.0 ? number(c, s, i) + plus : number(c, s, i));
  }
  return wide;
}

/* The plain call's index of an element: all of its arrays are contiguous. */
static inline ptrdiff_t plain_index(const job *j, place p) {
  return (ptrdiff_t)((p.i0 * j->n1 + p.i1) * j->n2 + p.i2);
}

static inline place place_of(const job *j, size_t e) {
  const size_t row = e / j->n2;
  return (place){row / j->n1, row % j->n1, e % j->n2};
}

static inline double with_residual(whole_call *c, place p) {
  const job *j = &c->j;
  double v = number(c, X, x_offset(j, p.i0, p.i1, p.i2));
  if (c->count[RESIDUAL] > 0) {
    v = rounded(c->working,
                v + number(c, RESIDUAL, residual_offset(j, j->residual_stride, p)));
  }
  if (c->count[RESIDUAL_BIAS] > 0) {
    v = rounded(c->working, v + number(c, RESIDUAL_BIAS, (ptrdiff_t)p.i1));
  }
  if (c->count[RESIDUAL_OUT] > 0) {
    store(c, RESIDUAL_OUT, residual_offset(j, j->residual_out_stride, p), v, 1.0F);
  }
  return v;
}

static inline double activated(const whole_call *c, double v) {
  const fastnorm_epilogue *e = &c->j.epilogue;
  const fn_scatter s = {.dtype = c->working,
                        .activation = e->activation,
                        .alpha = e->activation == FASTNORM_LEAKY_RELU && e->alpha == 0.0
                                     ? 0.01
                                     : e->alpha,
                        .beta = e->beta};
  double room[1];
  put(room, c->working, 0, v);
  kernels_of(c->working)->scatter(&s, room, 1, room, false);
  return get(room, c->working, 0);
}

/* Whether the plain result is rounded before it is multiplied by the weight. */
static inline int casts(const whole_call *c) {
  return c->j.op == RMS_NORM && c->j.mode == FASTNORM_RMS_CAST_BEFORE_WEIGHT &&
         bytes_of(c->type[X]) == 2;
}

/* From the plain result to what is stored. */
static inline double finished(const whole_call *c, place p, double v,
                              const void *weight) {
  const job *j = &c->j;
  if (casts(c)) {
    double cast[1];
    set_element(c->type[X], cast, 0, v, 1.0F, 0);
    v = element(c->type[X], cast, 0);
  }
  if (casts(c) && weight != NULL) {
    v = rounded(c->working, v * get(weight, c->working, (ptrdiff_t)p.i1));
  }
  if (c->count[POST_ADD] > 0) {
    v = rounded(c->working, v + number(c, POST_ADD, post_add_offset(j, p)));
  }
  return activated(c, v);
}

static inline float row_scale(const whole_call *c, const void *v, size_t row) {
  double most = 0.0;
  for (size_t i = 0; i < c->j.n1; i++) {
    const double a = fabs(get(v, c->working, (ptrdiff_t)(row * c->j.n1 + i)));
    most = a > most || a != a ? a : most;
    if (a != a) {
      break;
    }
  }
  const double scale = most / 127.0;
  return most == 0.0 ? 1.0F : scale < 0x1p-126 ? 0x1p-126F : (float)scale;
}

static inline void store_results(whole_call *c, void *v, const void *weight) {
  const job *j = &c->j;
  const size_t all = j->n0 * j->n1 * j->n2;
  const float given = j->format.y_quantization.scale;
  for (size_t e = 0; e < all; e++) {
    const double wide = get(v, c->working, (ptrdiff_t)e);
    put(v, c->working, (ptrdiff_t)e, finished(c, place_of(j, e), wide, weight));
  }
  float scale = given > 0.0F ? given : 1.0F;
  for (size_t e = 0; e < all; e++) {
    const place p = place_of(j, e);
    if (c->count[Y_SCALE] > 0 && e % j->n1 == 0) {
      scale = row_scale(c, v, p.i0);
      memcpy(c->after[Y_SCALE] + p.i0 * sizeof scale, &scale, sizeof scale);
    }
    store(c, Y, y_offset(j, p.i0, p.i1, p.i2), get(v, c->working, (ptrdiff_t)e), scale);
  }
}

/* Fills c->after, on the instruction set in use. */
static inline fastnorm_status find_by_hand(whole_call *c) {
  const job *j = &c->j;
  const size_t all = j->n0 * j->n1 * j->n2;
  const int plus_one = j->op == RMS_NORM && j->mode == FASTNORM_RMS_ONE_PLUS_WEIGHT;
  void *x = new_bytes(all * sizeof(double));
  void *weight = widened(c, WEIGHT, plus_one ? 1.0 : 0.0);
  job plain = {.op = j->op,
               .dtype = c->working,
               .n0 = j->n0,
               .n1 = j->n1,
               .n2 = j->n2,
               .groups = j->groups,
               .x = x,
               .weight = casts(c) ? NULL : weight,
               .eps = j->eps,
               .momentum = j->momentum,
               .tracked = j->tracked,
               .exec.num_threads = 1};
  void *bias = widened(c, BIAS, 0.0);
  plain.bias = bias;
  plain.running_mean = widened(c, RUNNING_MEAN, 0.0);
  plain.running_var = widened(c, RUNNING_VAR, 0.0);
  plain.y = new_bytes(all * sizeof(double));
  plain.mean = c->count[MEAN] > 0 ? c->after[MEAN] : NULL;
  plain.rstd = c->count[RSTD] > 0 ? c->after[RSTD] : NULL;
  for (size_t e = 0; e < all; e++) {
    put(x, c->working, (ptrdiff_t)e, with_residual(c, place_of(j, e)));
  }
  const fastnorm_status status = run_job(&plain);
  if (c->count[Y] > 0) {
    store_results(c, plain.y, weight);
  }
  for (ptrdiff_t i = 0; updates_stored(j->op) && i < (ptrdiff_t)c->count[RUNNING_MEAN];
       i++) {
    store(c, RUNNING_MEAN, i, get(plain.running_mean, c->working, i), 1.0F);
    store(c, RUNNING_VAR, i, get(plain.running_var, c->working, i), 1.0F);
  }
  free(x);
  free(weight);
  free(bias);
  free(plain.running_mean);
  free(plain.running_var);
  free(plain.y);
  return status;
}

#endif /* FN_TEST_BY_HAND_H */
