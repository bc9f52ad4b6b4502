/* denormals.h - subnormal numbers as zero, for the time of a call.
 * SPDX-License-Identifier: MIT */
#ifndef FN_DENORMALS_H
#define FN_DENORMALS_H

#include "fastnorm.h"

/* The control register of this thread before a call; restored by fn_denormals_end(). */
typedef struct fn_denormals {
  unsigned long long control;
  int changed;
} fn_denormals;

fn_denormals fn_denormals_begin(const fastnorm_exec *exec);
void fn_denormals_end(const fn_denormals *before);

#endif
