/* lp.h - from sums of squares or magnitudes to a division by the L2 or L1 norm.
 * SPDX-License-Identifier: MIT */
#ifndef FN_LP_H
#define FN_LP_H

#include "columns.h"
#include "runs.h"

/* Of runs whose statistics are those about zero (of squares, or of magnitudes if the
 * runs say so), with eps 0: the norms go to s->sum,
 * weight (NULL, or one per run) / max(norm, eps) to scale, for the slow ones to
 * s->slow. Zeros are divided by one. */
void fn_runs_lp(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *g, double eps,
                const void *weight, fn_group_stats *s, void *scale);

/* The same of columns, with the weights of p; the slow ones become p->slow. */
void fn_columns_lp(const fn_kernels *k, fastnorm_dtype dtype, const fn_table *t,
                   double eps, fn_column_parameters *p, fn_column_stats *s,
                   fn_slow *slow);

#endif
