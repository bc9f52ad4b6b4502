/* rms_norm_backward.c - the gradients of RMS norm.
 * SPDX-License-Identifier: MIT */
#include "check.h"
#include "rows_backward.h"

static fastnorm_status read_args(const fastnorm_rms_norm_backward_args *callers,
                                 fastnorm_rms_norm_backward_args *args,
                                 fastnorm_layer_norm_backward_args *layer) {
  const fastnorm_status s = fn_read_args(args, sizeof(*args), sizeof(*args), callers);
  if (s != FASTNORM_OK)
    return s;
  if ((int)args->mode < FASTNORM_RMS_PLAIN || args->mode > FASTNORM_RMS_ONE_PLUS_WEIGHT)
    return FASTNORM_ERROR_COMBINATION;
  *layer = (fastnorm_layer_norm_backward_args){.size = sizeof(*layer),
                                               .dtype = args->dtype,
                                               .grad_y = args->grad_y,
                                               .x = args->x,
                                               .grad_x = args->grad_x,
                                               .weight = args->weight,
                                               .grad_weight = args->grad_weight,
                                               .rstd = args->rstd,
                                               .rows = args->rows,
                                               .cols = args->cols,
                                               .inner = args->inner,
                                               .grad_y_stride = args->grad_y_stride,
                                               .x_stride = args->x_stride,
                                               .grad_x_stride = args->grad_x_stride,
                                               .eps = args->eps,
                                               .scratch = args->scratch,
                                               .scratch_size = args->scratch_size,
                                               .exec = args->exec,
                                               .format = args->format};
  return FASTNORM_OK;
}

fastnorm_status
fastnorm_rms_norm_backward(const fastnorm_rms_norm_backward_args *callers) {
  fastnorm_rms_norm_backward_args args;
  fastnorm_layer_norm_backward_args layer;
  fn_rows_gradient work;
  fastnorm_status s = read_args(callers, &args, &layer);
  if (s == FASTNORM_OK)
    s = fn_rows_gradient_check(&layer, FN_MEAN_SQUARE, args.mode, &work);
  if (s == FASTNORM_OK && work.norm.rows > 0)
    fn_rows_gradient_run(&work);
  return s;
}

size_t
fastnorm_rms_norm_backward_scratch(const fastnorm_rms_norm_backward_args *callers) {
  fastnorm_rms_norm_backward_args args;
  fastnorm_layer_norm_backward_args layer;
  if (read_args(callers, &args, &layer) != FASTNORM_OK)
    return 0;
  return fn_rows_gradient_scratch(&layer);
}
