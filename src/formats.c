/* formats.c - the types of a call, and what is done to elements on their way.
 * SPDX-License-Identifier: MIT */
#include "formats.h"

#include <string.h>

#include "check.h"

bool fn_companion_dtype(const fn_formats *f, fastnorm_dtype given,
                        fastnorm_dtype *dtype) {
  *dtype = given ? given : fn_is_8_bit(f->x) ? FASTNORM_FLOAT32 : f->x;
  return fn_dtype_size(*dtype) != 0 && !fn_is_8_bit(*dtype) &&
         (*dtype == FASTNORM_FLOAT64) == (f->working == FASTNORM_FLOAT64);
}

static bool is_zero(const fastnorm_quantization *q) {
  return q->scale >= 0.0f && q->scale <= 0.0f && q->zero_point == 0;
}

/* Scale 0 is 1. Scale and reciprocal must be ordinary numbers, so that a product with
 * either is exact to half a unit. */
static bool read_quantization(const fastnorm_quantization *q, fastnorm_dtype dtype,
                              float *scale, int *zero_point) {
  const int low = dtype == FASTNORM_INT8 ? -128 : 0;
  *scale = q->scale < 0.0f || q->scale > 0.0f ? q->scale : 1.0f;
  *zero_point = q->zero_point;
  if (!fn_is_8_bit(dtype))
    return is_zero(q);
  return q->scale >= 0.0f && *scale >= 0x1p-126f && *scale <= 0x1p126f &&
         q->zero_point >= low && q->zero_point <= low + 255;
}

static fastnorm_status read_epilogue(const fastnorm_epilogue *e, fn_formats *f) {
  const fastnorm_activation a = e->activation;
  const double most = 1.7976931348623157e308;
  fn_scatter *s = &f->sink.scatter;
  if (e->post_add && !fn_companion_dtype(f, e->post_add_dtype, &f->post_add))
    return FASTNORM_ERROR_DTYPE;
  if ((int)a < FASTNORM_IDENTITY || a > FASTNORM_HARDSWISH)
    return FASTNORM_ERROR_ACTIVATION;
  if (e->alpha != e->alpha || e->beta != e->beta)
    return FASTNORM_ERROR_ACTIVATION;
  if (a == FASTNORM_CLAMP && !(e->alpha <= e->beta))
    return FASTNORM_ERROR_ACTIVATION;
  if (a != FASTNORM_CLAMP && (e->beta < 0.0 || e->beta > 0.0))
    return FASTNORM_ERROR_ACTIVATION;
  if (a == FASTNORM_LEAKY_RELU && !(e->alpha >= -most && e->alpha <= most))
    return FASTNORM_ERROR_ACTIVATION;
  if (a != FASTNORM_CLAMP && a != FASTNORM_LEAKY_RELU &&
      (e->alpha < 0.0 || e->alpha > 0.0))
    return FASTNORM_ERROR_ACTIVATION;
  s->activation = a;
  s->alpha = e->alpha;
  s->beta = e->beta;
  if (a == FASTNORM_LEAKY_RELU && e->alpha >= 0.0 && e->alpha <= 0.0)
    s->alpha = 0.01;
  s->post_add = e->post_add;
  s->post_add_dtype = f->post_add;
  f->sink.post_add_element = fn_dtype_size(f->post_add);
  return FASTNORM_OK;
}

/* The call of a host that asks for nothing special should cost it nothing. */
static bool is_plain(fastnorm_dtype dtype, const fastnorm_format *f,
                     const fastnorm_epilogue *e) {
  return (int)dtype >= FASTNORM_DEFAULT && dtype <= FASTNORM_FLOAT64 && !f->y &&
         !f->params && is_zero(&f->x_quantization) && is_zero(&f->y_quantization) &&
         !e->post_add && !e->activation && e->alpha >= 0.0 && e->alpha <= 0.0 &&
         e->beta >= 0.0 && e->beta <= 0.0;
}

static void set_plain(fastnorm_dtype dtype, fn_formats *f) {
  f->working = dtype ? dtype : FASTNORM_FLOAT32;
  f->x = f->y = f->params = f->post_add = f->working;
  f->source.element = f->sink.element = fn_dtype_size(f->working);
  f->source.gather = (fn_gather){.dtype = f->working};
  f->sink.scatter = (fn_scatter){.dtype = f->working};
  f->source.piece = 0;
  f->source.positions = NULL;
  f->gathers = f->scatters = false;
}

fastnorm_status fn_formats_read(fastnorm_dtype dtype, const fastnorm_format *format,
                                const fastnorm_epilogue *epilogue, fn_formats *f) {
  float y_scale;
  if (is_plain(dtype, format, epilogue)) {
    set_plain(dtype, f);
    return FASTNORM_OK;
  }
  memset(f, 0, sizeof(*f));
  f->x = dtype ? dtype : FASTNORM_FLOAT32;
  if (fn_dtype_size(f->x) == 0)
    return FASTNORM_ERROR_DTYPE;
  f->working = f->x == FASTNORM_FLOAT64 ? FASTNORM_FLOAT64 : FASTNORM_FLOAT32;
  if (!fn_companion_dtype(f, fn_is_8_bit(format->y) ? FASTNORM_DEFAULT : format->y,
                          &f->y) ||
      !fn_companion_dtype(f, format->params, &f->params))
    return FASTNORM_ERROR_DTYPE;
  if (fn_is_8_bit(format->y)) {
    if (f->working == FASTNORM_FLOAT64)
      return FASTNORM_ERROR_DTYPE;
    f->y = format->y;
  }
  f->post_add = f->y;
  if (!read_quantization(&format->x_quantization, f->x, &f->source.gather.scale,
                         &f->source.gather.zero_point) ||
      !read_quantization(&format->y_quantization, f->y, &y_scale,
                         &f->sink.scatter.zero_point))
    return FASTNORM_ERROR_QUANTIZATION;
  f->source.gather.dtype = f->x;
  f->source.element = fn_dtype_size(f->x);
  f->sink.scatter.dtype = f->y;
  f->sink.scatter.inverse_scale = 1.0f / y_scale;
  f->sink.element = fn_dtype_size(f->y);
  const fastnorm_status s = read_epilogue(epilogue, f);
  f->gathers = f->x != f->working;
  f->scatters = f->y != f->working || epilogue->post_add || epilogue->activation != 0;
  return s;
}
