/* group_norm.c - group norm.
 * SPDX-License-Identifier: MIT */
#include "check.h"
#include "samples.h"

fastnorm_status fastnorm_group_norm(const fastnorm_group_norm_args *callers) {
  fastnorm_group_norm_args args;
  fn_samples_work work;
  fastnorm_status s = fn_read_args(&args, sizeof(args), sizeof(args), callers);
  if (s == FASTNORM_OK)
    s = fn_samples_check(&args, NULL, &work);
  if (s == FASTNORM_OK && work.batch > 0)
    fn_samples_run(&work, &args.exec);
  return s;
}
