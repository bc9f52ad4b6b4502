/* runs.h - statistics of runs: rows of layer norm, channels of [N, C, S].
 * SPDX-License-Identifier: MIT */
#ifndef FN_RUNS_H
#define FN_RUNS_H

#include "kernels.h"
#include "slow.h"

/* Room for FN_GROUP numbers of either dtype. */
typedef union fn_group_array {
  _Alignas(64) float f32[FN_GROUP];
  double f64[FN_GROUP];
} fn_group_array;

/* What there is to know of up to FN_GROUP runs. */
typedef struct fn_group_stats {
  fn_group_array shift, hi, lo;
  double sum[FN_GROUP], sq[FN_GROUP], var[FN_GROUP];
  bool any_slow;          /* if false, the next two are not set */
  bool is_slow[FN_GROUP]; /* this run is in slow[], not in hi, lo, var */
  fn_slow slow[FN_GROUP];
} fn_group_stats;

/* Elements of a run are summed in chunks of this many at most, and the chunks' sums
 * added with compensation; also the grain of work where one run is shared by threads.
 * */
#define FN_RUN_CHUNK 16384

/* The sub-run of run r that is its chunk number i. */
size_t fn_run_chunks(const fn_runs *g);
fn_runs fn_run_chunk(const fn_runs *g, fastnorm_dtype dtype, size_t r, size_t i);

/* The run r alone; element i of an array of the dtype. */
fn_runs fn_run_alone(const fn_runs *g, fastnorm_dtype dtype, size_t r);
void *fn_element(fastnorm_dtype dtype, const void *p, ptrdiff_t i);

/* Moments of runs (at most FN_GROUP), about their means or, if not centered, about 0.
 * */
void fn_runs_stats(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *g,
                   double eps, bool centered, fn_group_stats *s);

/* The second half of that, from sums about s->shift that are already there. */
void fn_runs_finish(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *g,
                    double eps, bool centered, fn_group_stats *s);

#endif
