/* group_norm.c - group norm.
 * SPDX-License-Identifier: MIT */
#include <stddef.h>

#include "check.h"
#include "samples.h"

/* the size of the struct before `mask` was added */
#define FIRST_SIZE offsetof(fastnorm_group_norm_args, mask)

fastnorm_status fastnorm_group_norm(const fastnorm_group_norm_args *callers) {
  fastnorm_group_norm_args args;
  fn_samples_work work;
  bool single;
  fastnorm_status s = fn_read_args(&args, sizeof(args), FIRST_SIZE, callers);
  if (s == FASTNORM_OK)
    s = fn_samples_check(&args, NULL, &work, &single);
  if (s == FASTNORM_OK && work.batch > 0)
    fn_samples_run(&work, &args.exec);
  return s;
}
