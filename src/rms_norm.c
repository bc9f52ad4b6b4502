/* rms_norm.c - RMS norm: layer norm about zero, without a bias.
 * SPDX-License-Identifier: MIT */
#include "check.h"
#include "rows.h"

/* the size of the struct before `format` was added */
#define FIRST_SIZE offsetof(fastnorm_rms_norm_args, format)

fastnorm_status fastnorm_rms_norm(const fastnorm_rms_norm_args *callers) {
  fastnorm_rms_norm_args args;
  fn_rows_work work;
  fastnorm_status s = fn_read_args(&args, sizeof(args), FIRST_SIZE, callers);
  if (s != FASTNORM_OK)
    return s;
  if ((int)args.mode < FASTNORM_RMS_PLAIN || args.mode > FASTNORM_RMS_ONE_PLUS_WEIGHT)
    return FASTNORM_ERROR_COMBINATION;
  const fastnorm_layer_norm_args layer = {
      .size = sizeof(layer),
      .dtype = args.dtype,
      .x = args.x,
      .y = args.y,
      .weight = args.weight,
      .rstd = args.rstd,
      .rows = args.rows,
      .cols = args.cols,
      .inner = args.inner,
      .x_stride = args.x_stride,
      .y_stride = args.y_stride,
      .eps = args.eps,
      .exec = args.exec,
      .format = args.format,
      .residual = args.residual,
      .residual_bias = args.residual_bias,
      .residual_out = args.residual_out,
      .residual_dtype = args.residual_dtype,
      .residual_stride = args.residual_stride,
      .residual_out_stride = args.residual_out_stride,
      .epilogue = args.epilogue,
      .y_scale = args.y_scale,
  };
  s = fn_rows_check(&layer, FN_MEAN_SQUARE, args.mode, &work);
  if (s == FASTNORM_OK && work.rows > 0)
    fn_rows_run(&work, &args.exec);
  return s;
}
