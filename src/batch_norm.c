/* batch_norm.c - batch norm: inference from stored statistics, and training.
 * SPDX-License-Identifier: MIT */
#include "batch_norm_work.h"
#include "check.h"
#include "denormals.h"
#include "dispatch.h"

/* the size of the struct before `format` was added */
#define FIRST_SIZE offsetof(fastnorm_batch_norm_args, format)

static fastnorm_status read_channels(const fastnorm_batch_norm_args *args,
                                     fn_formats *f, fn_channels *a) {
  const fastnorm_moments_args x = {.size = sizeof(x),
                                   .x = args->x,
                                   .batch = args->batch,
                                   .channels = args->channels,
                                   .spatial = args->spatial,
                                   .x_stride = args->x_stride,
                                   .x_channel_stride = args->x_channel_stride};
  fastnorm_status s = fn_formats_read(args->dtype, &args->format, &args->epilogue, f);
  if (s == FASTNORM_OK)
    s = fn_channels_read(&x, &args->exec, f, a);
  return s;
}

static fastnorm_status read_parameters(const fastnorm_batch_norm_args *args,
                                       fn_batch_work *w) {
  const double momentum = args->momentum;
  const fastnorm_status s = fn_read_eps(args->eps, 1e-5, &w->eps);
  if (s != FASTNORM_OK)
    return s;
  if (momentum > 0.0 && momentum <= 1.0)
    w->running.factor = momentum;
  else if (momentum >= 0.0 && momentum <= 0.0)
    w->running.factor = 0.1;
  else if (momentum <= FASTNORM_MOMENTUM_CUMULATIVE &&
           momentum >= FASTNORM_MOMENTUM_CUMULATIVE)
    w->running.factor = 1.0 / ((double)args->num_batches_tracked + 1.0);
  else
    return FASTNORM_ERROR_MOMENTUM;
  if (!args->running_mean != !args->running_var)
    return FASTNORM_ERROR_RUNNING;
  if (!args->training && !args->running_mean && args->channels > 0)
    return FASTNORM_ERROR_RUNNING;
  return FASTNORM_OK;
}

static fastnorm_status check_arrays(const fastnorm_batch_norm_args *args,
                                    const fn_renorm *renorm, const fn_array *mask,
                                    fn_batch_work *w) {
  const size_t n = args->channels, batch = args->batch, spatial = args->spatial;
  const size_t stats = fn_dtype_size(w->a.dtype), params = fn_dtype_size(w->f.params);
  const fn_use running = args->training ? FN_OUTPUT : FN_INPUT;
  size_t count = 0;
  fn_array all[FN_MOST_ARRAYS];
#define ADD(p, a, c, s, sa, sc, element, use, needed)                                  \
  all[count++] = (fn_array){p, {a, c, s}, {sa, sc, 1}, element, use, needed}
  ADD(args->y, batch, n, spatial, w->y_stride, w->y_channel_stride, w->f.sink.element,
      FN_IN_PLACE, true);
  ADD(args->x, batch, n, spatial, w->a.stride, w->a.channel_stride, w->a.element,
      FN_INPUT, true);
  ADD(args->weight, 1, 1, n, 0, 0, params, FN_INPUT, false);
  ADD(args->bias, 1, 1, n, 0, 0, params, FN_INPUT, false);
  ADD(args->running_mean, 1, 1, n, 0, 0, params, running, false);
  ADD(args->running_var, 1, 1, n, 0, 0, params, running, false);
  ADD(args->mean, 1, 1, n, 0, 0, stats, FN_OUTPUT, false);
  ADD(args->rstd, 1, 1, n, 0, 0, stats, FN_OUTPUT, false);
  ADD(args->epilogue.post_add, batch, n, spatial, w->post_add_stride,
      w->post_add_channel_stride, fn_dtype_size(w->f.post_add), FN_INPUT, false);
  if (renorm) {
    ADD(renorm->r, 1, 1, n, 0, 0, stats, FN_OUTPUT, false);
    ADD(renorm->d, 1, 1, n, 0, 0, stats, FN_OUTPUT, false);
  }
#undef ADD
  if (mask->p)
    all[count++] = *mask;
  all[count] = fn_scratch_array(args->scratch, args->scratch_size,
                                args->training ? fn_channels_scratch(&w->a) : 0);
  w->a.scratch = (double *)all[count++].p;
  return fn_check_arrays(all, count);
}

/* Strides of y and post_add: false if the channels of a table are not adjacent. */
static bool read_strides(const fastnorm_batch_norm_args *args, fn_batch_work *w) {
  const fastnorm_epilogue *e = &args->epilogue;
  const ptrdiff_t spatial = (ptrdiff_t)args->spatial;
  const ptrdiff_t sample = (ptrdiff_t)args->channels * spatial;
  w->y_stride = fn_stride(args->y_stride, args->batch, (size_t)sample);
  w->y_channel_stride =
      fn_stride(args->y_channel_stride, args->channels, (size_t)spatial);
  w->post_add_stride = fn_stride(e->post_add_stride, args->batch, (size_t)sample);
  w->post_add_channel_stride =
      fn_stride(e->post_add_channel_stride, args->channels, (size_t)spatial);
  return args->spatial != 1 || args->channels == 1 ||
         (w->y_channel_stride == 1 &&
          (!e->post_add || w->post_add_channel_stride == 1));
}

static void fill(const fastnorm_batch_norm_args *args, fn_batch_work *w) {
  const double n = (double)args->batch * (double)args->spatial;
  const fastnorm_dtype params = w->f.params;
  w->f.source.kernels = w->f.sink.kernels = w->a.kernels;
  w->y = args->y;
  w->post_add = args->epilogue.post_add;
  w->weight = fn_vector_of(args->weight, params);
  w->bias = fn_vector_of(args->bias, params);
  w->running_mean = fn_vector_of(args->running_mean, params);
  w->running_var = fn_vector_of(args->running_var, params);
  w->mean = args->mean;
  w->rstd = args->rstd;
  w->training = args->training != 0;
  if (w->training) {
    w->running.dtype = w->f.working;
    w->running.mean = args->running_mean;
    w->running.var = args->running_var;
    w->running.unbias = n / (n - 1.0);
  }
}

/* Stored statistics are applied as they are. */
static void no_correction(const fn_renorm *renorm, const fn_batch_work *w) {
  for (size_t c = 0; renorm->r && c < w->a.channels; c++)
    fn_set(w->a.dtype, renorm->r, c, 1.0);
  for (size_t c = 0; renorm->d && c < w->a.channels; c++)
    fn_set(w->a.dtype, renorm->d, c, 0.0);
}

/* Before anything is written: what the mask says of the counts. */
static fastnorm_status read_mask(const fastnorm_batch_norm_args *args, fn_mask *mask,
                                 fn_batch_work *w) {
  fn_mask_survey found;
  const fastnorm_status s = fn_mask_look(mask, false, &found);
  if (s == FASTNORM_OK && args->training && found.single &&
      (args->running_mean || !mask->weighted))
    return FASTNORM_ERROR_COUNT;
  w->mask = found.all ? NULL : mask;
  return s;
}

fastnorm_status fn_batch_norm(const fastnorm_batch_norm_args *args,
                              const fn_renorm *renorm, bool about_zero) {
  const bool masked = fn_mask_is_given(&args->mask);
  fn_array mask_array = {.p = NULL};
  fn_mask mask;
  fn_batch_work w = {.y = NULL};
  fastnorm_status s = read_channels(args, &w.f, &w.a);
  if (s == FASTNORM_OK)
    s = read_parameters(args, &w);
  if (s == FASTNORM_OK && renorm && !args->running_mean && args->channels > 0)
    s = FASTNORM_ERROR_RUNNING;
  if (s != FASTNORM_OK || w.a.batch == 0)
    return s;
  if (!read_strides(args, &w))
    return FASTNORM_ERROR_STRIDE;
  if (masked)
    s = fn_mask_read(&args->mask, args->batch, args->channels, args->spatial, &mask,
                     &mask_array);
  if (s == FASTNORM_OK)
    s = check_arrays(args, renorm, &mask_array, &w);
  if (s == FASTNORM_OK && masked)
    s = read_mask(args, &mask, &w);
  if (s != FASTNORM_OK)
    return s;
  if (args->training && !about_zero && !w.mask && args->batch * args->spatial == 1)
    return FASTNORM_ERROR_COUNT;
  w.a.kernels = fn_dispatch(w.f.working);
  if (!w.a.kernels)
    return FASTNORM_ERROR_ISA;
  if (args->exec.check_only)
    return FASTNORM_OK;
  fill(args, &w);
  w.a.about_zero = about_zero;
  const fn_denormals before = fn_denormals_begin(&args->exec);
  if (renorm && w.training)
    w.renorm = renorm;
  else if (renorm)
    no_correction(renorm, &w);
  fn_batch_run(&w);
  fn_denormals_end(&before);
  return FASTNORM_OK;
}

fastnorm_status fastnorm_batch_norm(const fastnorm_batch_norm_args *callers) {
  fastnorm_batch_norm_args args;
  const fastnorm_status s = fn_read_args(&args, sizeof(args), FIRST_SIZE, callers);
  return s == FASTNORM_OK ? fn_batch_norm(&args, NULL, false) : s;
}

size_t fastnorm_batch_norm_scratch(const fastnorm_batch_norm_args *callers) {
  fastnorm_batch_norm_args args;
  fn_formats f;
  fn_channels a;
  if (fn_read_args(&args, sizeof(args), FIRST_SIZE, callers) != FASTNORM_OK)
    return 0;
  if (read_channels(&args, &f, &a) != FASTNORM_OK)
    return 0;
  return args.training ? fn_channels_scratch(&a) : 0;
}
