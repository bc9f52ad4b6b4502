/* runs.h - statistics of runs: rows of layer norm, channels of [N, C, S].
 * SPDX-License-Identifier: MIT */
#ifndef FN_RUNS_H
#define FN_RUNS_H

#include "kernels.h"
#include "slow.h"
#include "stage.h"

/* Whether the kernels cannot read x where it is. */
static inline bool fn_runs_are_staged(const fn_runs *g) {
  return g->source && g->dtype == FASTNORM_DEFAULT;
}

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

/* Elements of a run are summed in chunks of at most as many as a stage holds, and the
 * chunks' sums added with compensation; a chunk is also the grain of work where one run
 * is shared by threads. */

/* The sub-run of run r that is its chunk number i. */
size_t fn_run_chunks(const fn_runs *g, fastnorm_dtype dtype);
fn_runs fn_run_chunk(const fn_runs *g, fastnorm_dtype dtype, size_t r, size_t i);

/* The segment, and the element of it, with which chunk i begins. */
void fn_run_chunk_begin(const fn_runs *g, fastnorm_dtype dtype, size_t i, size_t *seg,
                        size_t *from);

/* The run r alone; element i of an array of the dtype. */
fn_runs fn_run_alone(const fn_runs *g, fastnorm_dtype dtype, size_t r);
static inline void *fn_element(fastnorm_dtype dtype, const void *p, ptrdiff_t i) {
  return (char *)p + i * (dtype == FASTNORM_FLOAT32 ? 4 : 8);
}

/* What the shift of each run is found from. */
void fn_run_samples(const fn_runs *g, fastnorm_dtype dtype, fn_samples *s);

/* s->shift of each run. */
void fn_runs_shift(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *g,
                   void *shift);

/* Sums of one chunk. */
void fn_chunk_sums(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *chunk,
                   const void *shift, double *sum, double *sq);

/* Moments of runs (at most FN_GROUP), about their means or, if not centered, about 0.
 * */
void fn_runs_stats(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *g,
                   double eps, bool centered, fn_group_stats *s);

/* The second half of that, from sums about s->shift that are already there. */
void fn_runs_finish(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *g,
                    double eps, bool centered, fn_group_stats *s);

/* What is applied to each run of a group. */
typedef struct fn_run_apply {
  const fn_kernels *kernels;
  fastnorm_dtype dtype;
  const void *hi; /* NULL if not centered */
  const void *scale, *offset;
  const fn_group_stats *s;   /* which of them are slow, and how */
  const void *weight, *bias; /* of the working type, or NULL */
  size_t step; /* 1: weight[i] is for element i of every run, and comes after scale and
                  offset; 0: weight[r] is for run r, and is part of its scale */
} fn_run_apply;

void fn_runs_apply(const fn_run_apply *a, const fn_runs *g, const fn_output *out);

#endif
