/* running.h - running statistics: averages of mean and variance over batches.
 * SPDX-License-Identifier: MIT */
#ifndef FN_RUNNING_H
#define FN_RUNNING_H

#include "fastnorm.h"

/* mean and var are a caller's, one of the dtype per channel. */
typedef struct fn_running {
  fastnorm_dtype dtype;
  void *mean, *var;
  double factor; /* of the new value; 1 - factor is that of the old one */
  double unbias; /* from the biased variance to the unbiased one */
} fn_running;

/* Channels first to first + n take in the batch's mean (hi + lo, or hi alone where lo
 * is NULL) and biased variance. */
void fn_running_update(const fn_running *r, size_t first, size_t n, const void *hi,
                       const void *lo, const double *var);

/* Channel c alone, to the same bits. */
void fn_running_update_one(const fn_running *r, size_t c, double mean, double var);

#endif
