/* rows_check.c - norms of rows: the arguments.
 * SPDX-License-Identifier: MIT */
#include "check.h"
#include "dispatch.h"
#include "rows.h"

double fn_rows_initial_eps(fn_rows_norm norm, const fn_formats *f) {
  if (norm == FN_CENTERED)
    return 1e-5;
  if (fn_is_lp(norm))
    return 1e-12;
  return f->working == FASTNORM_FLOAT32 ? 0x1p-23 : 0x1p-52;
}

/* What only makes sense together, or only for whole rows. */
static fastnorm_status check_combination(const fastnorm_layer_norm_args *a,
                                         const fn_formats *f, size_t inner) {
  const bool adds = a->residual || a->residual_bias || a->residual_out;
  const float scale = a->format.y_quantization.scale;
  if (inner > 1 && (adds || a->y_scale))
    return FASTNORM_ERROR_COMBINATION;
  if (!a->residual && (a->residual_bias || a->residual_out))
    return FASTNORM_ERROR_COMBINATION;
  if (!a->stored_mean != !a->stored_var)
    return FASTNORM_ERROR_COMBINATION;
  if (a->lengths && (adds || a->y_scale || a->stored_mean))
    return FASTNORM_ERROR_COMBINATION;
  if (a->masked != FASTNORM_MASKED_ZERO &&
      (!a->lengths || a->masked != FASTNORM_MASKED_KEEP))
    return FASTNORM_ERROR_MASK;
  if (a->y_scale && (!fn_is_8_bit(f->y) || scale < 0.0f || scale > 0.0f))
    return FASTNORM_ERROR_COMBINATION;
  return FASTNORM_OK;
}

static fastnorm_status check_arrays(const fastnorm_layer_norm_args *a,
                                    const fn_formats *f, size_t inner,
                                    fastnorm_dtype residual) {
  const size_t rows = a->rows, cols = a->cols, row = cols * inner;
  const ptrdiff_t in = (ptrdiff_t)inner;
  const size_t x = fn_dtype_size(f->x), y = fn_dtype_size(f->y);
  const size_t params = fn_dtype_size(f->params), stats = fn_dtype_size(f->working);
  const size_t added = fn_dtype_size(residual);
  size_t n = 0;
  fn_array all[14];
#define ADD(p, a, b, c, sa, sb, element, use, needed)                                  \
  all[n++] = (fn_array){p, {a, b, c}, {sa, sb, 1}, element, use, needed}
  ADD(a->y, rows, cols, inner, fn_stride(a->y_stride, a->rows, row), in, y, FN_IN_PLACE,
      true);
  ADD(a->x, rows, cols, inner, fn_stride(a->x_stride, a->rows, row), in, x, FN_INPUT,
      true);
  if (a->weight)
    ADD(a->weight, 1, 1, cols, 0, 0, params, FN_INPUT, false);
  if (a->bias)
    ADD(a->bias, 1, 1, cols, 0, 0, params, FN_INPUT, false);
  if (a->mean)
    ADD(a->mean, 1, rows, inner, 0, in, stats, FN_OUTPUT, false);
  if (a->rstd)
    ADD(a->rstd, 1, rows, inner, 0, in, stats, FN_OUTPUT, false);
  if (a->residual) {
    ADD(a->residual_out, rows, 1, cols, fn_stride(a->residual_out_stride, a->rows, row),
        0, added, FN_IN_PLACE, false);
    ADD(a->residual, rows, 1, cols, fn_stride(a->residual_stride, a->rows, row), 0,
        added, FN_INPUT, false);
    ADD(a->residual_bias, 1, 1, cols, 0, 0, params, FN_INPUT, false);
  }
  if (a->epilogue.post_add)
    ADD(a->epilogue.post_add, rows, cols, inner,
        fn_stride(a->epilogue.post_add_stride, a->rows, row), in,
        fn_dtype_size(f->post_add), FN_INPUT, false);
  if (a->stored_mean) {
    ADD(a->stored_mean, 1, rows, inner, 0, in, stats, FN_INPUT, false);
    ADD(a->stored_var, 1, rows, inner, 0, in, stats, FN_INPUT, false);
  }
  if (a->y_scale)
    ADD(a->y_scale, 1, 1, rows, 0, 0, sizeof(float), FN_OUTPUT, false);
  if (a->lengths)
    ADD(a->lengths, 1, 1, rows, 0, 0, sizeof(size_t), FN_INPUT, false);
#undef ADD
  return fn_check_arrays(all, n);
}

static void set_source(const fastnorm_layer_norm_args *a, fastnorm_dtype residual,
                       fn_formats *f) {
  fn_source *s = &f->source;
  s->gather.residual = a->residual;
  s->gather.residual_bias = a->residual_bias;
  s->gather.residual_out = a->residual_out;
  s->gather.residual_dtype = residual;
  s->gather.bias_dtype = f->params;
  s->residual_element = fn_dtype_size(residual);
  s->residual_bias_element = fn_dtype_size(f->params);
  s->residual_stride = fn_stride(a->residual_stride, a->rows, a->cols);
  s->residual_out_stride = fn_stride(a->residual_out_stride, a->rows, a->cols);
  f->gathers |= a->residual != NULL;
}

static void fill(const fastnorm_layer_norm_args *a, size_t inner, fn_rows_work *w) {
  const size_t row = a->cols * inner;
  fn_formats *f = &w->f;
  w->dtype = f->working;
  w->x = a->x;
  w->y = a->y;
  w->mean = a->mean;
  w->rstd = a->rstd;
  w->stored_mean = a->stored_mean;
  w->stored_var = a->stored_var;
  w->post_add = a->epilogue.post_add;
  w->weight = fn_vector_of(a->weight, f->params);
  w->bias = fn_vector_of(a->bias, f->params);
  w->weight.plus_one = w->mode == FASTNORM_RMS_ONE_PLUS_WEIGHT;
  w->y_scale = a->y_scale;
  w->rows = a->rows;
  w->cols = a->cols;
  w->inner = inner;
  w->x_stride = fn_stride(a->x_stride, a->rows, row);
  w->y_stride = fn_stride(a->y_stride, a->rows, row);
  w->post_add_stride = fn_stride(a->epilogue.post_add_stride, a->rows, row);
  if (w->mode == FASTNORM_RMS_CAST_BEFORE_WEIGHT) {
    if (f->x == FASTNORM_FLOAT16 || f->x == FASTNORM_BFLOAT16)
      f->scatters = true; /* the rounding happens in a stage */
    else
      w->mode = FASTNORM_RMS_PLAIN;
  }
  f->scatters |= a->y_scale != NULL;
  w->staged = f->gathers || f->scatters || !fn_vector_is_plain(&w->weight, w->dtype) ||
              !fn_vector_is_plain(&w->bias, w->dtype);
  w->keep = a->masked == FASTNORM_MASKED_KEEP;
  w->far = a->rows * row * f->source.element >= FN_STREAM_BYTES;
  /* A y of bytes is small beside the x that passes through the caches with it: to int8
   * [2048, 4096] takes 1640 us for 1870, with scales that are found 2110 for 2310 (AMD
   * EPYC Zen 5, avx512). */
  const size_t most = f->sink.element > 1 ? f->sink.element : f->source.element;
  w->stream = a->rows * row * most >= FN_STREAM_BYTES && a->x != a->y;
}

/* Lengths that leave out nothing count as none. */
static fastnorm_status read_lengths(const fastnorm_layer_norm_args *a,
                                    fn_rows_work *w) {
  w->lengths = NULL;
  for (size_t r = 0; a->lengths && r < a->rows; r++) {
    if (a->lengths[r] > a->cols)
      return FASTNORM_ERROR_MASK;
    if (a->lengths[r] < a->cols)
      w->lengths = a->lengths;
  }
  return FASTNORM_OK;
}

fastnorm_status fn_rows_check(const fastnorm_layer_norm_args *args, fn_rows_norm norm,
                              fastnorm_rms_mode mode, fn_rows_work *w) {
  const size_t inner = args->inner ? args->inner : 1;
  const size_t shape[3] = {args->rows, args->cols, inner};
  size_t count;
  fastnorm_dtype residual = FASTNORM_DEFAULT;
  w->rows = 0;
  w->norm = norm;
  w->mode = mode;
  fastnorm_status s =
      fn_formats_read(args->dtype, &args->format, &args->epilogue, &w->f);
  if (s == FASTNORM_OK && !fn_companion_dtype(&w->f, args->residual_dtype, &residual))
    s = FASTNORM_ERROR_DTYPE;
  if (s == FASTNORM_OK)
    s = fn_read_eps(args->eps, fn_rows_initial_eps(norm, &w->f), &w->eps);
  if (s == FASTNORM_OK)
    s = check_combination(args, &w->f, inner);
  if (s != FASTNORM_OK)
    return s;
  if (args->exec.num_threads < 0)
    return FASTNORM_ERROR_THREADS;
  const size_t x = w->f.source.element, y = w->f.sink.element;
  if (!fn_count(shape, x > y ? x : y, &count))
    return FASTNORM_ERROR_SHAPE;
  if (count == 0)
    return FASTNORM_OK;
  s = check_arrays(args, &w->f, inner, residual);
  if (s == FASTNORM_OK)
    s = read_lengths(args, w);
  if (s != FASTNORM_OK)
    return s;
  w->kernels = fn_dispatch(w->f.working);
  if (!w->kernels)
    return FASTNORM_ERROR_ISA;
  w->f.source.kernels = w->f.sink.kernels = w->kernels;
  set_source(args, residual, &w->f);
  fill(args, inner, w);
  return FASTNORM_OK;
}
