/* layer_norm.c - layer norm.
 * SPDX-License-Identifier: MIT */
#include <stddef.h>

#include "check.h"
#include "rows.h"

/* the size of the struct before `format` was added */
#define FIRST_SIZE offsetof(fastnorm_layer_norm_args, format)

fastnorm_status fastnorm_layer_norm(const fastnorm_layer_norm_args *callers) {
  fastnorm_layer_norm_args args;
  fn_rows_work work;
  fastnorm_status s = fn_read_args(&args, sizeof(args), FIRST_SIZE, callers);
  if (s == FASTNORM_OK)
    s = fn_rows_check(&args, FN_CENTERED, FASTNORM_RMS_PLAIN, &work);
  if (s == FASTNORM_OK && work.rows > 0)
    fn_rows_run(&work, &args.exec);
  return s;
}
