/* runs.c - statistics of runs: rows of layer norm, channels of [N, C, S].
 * SPDX-License-Identifier: MIT */
#include "runs.h"

#include "sum.h"

void *fn_element(fastnorm_dtype dtype, const void *p, ptrdiff_t i) {
  return (char *)p + i * (dtype == FASTNORM_FLOAT32 ? 4 : 8);
}

fn_runs fn_run_alone(const fn_runs *g, fastnorm_dtype dtype, size_t r) {
  fn_runs one = *g;
  one.x = fn_element(dtype, g->x, (ptrdiff_t)r * g->row_stride);
  one.rows = 1;
  return one;
}

/* A chunk is some whole segments, or a part of one where segments are long. */
static size_t segments_per_chunk(const fn_runs *g) {
  return g->len < FN_RUN_CHUNK ? FN_RUN_CHUNK / g->len : 1;
}

static size_t parts_per_segment(const fn_runs *g) {
  return (g->len + FN_RUN_CHUNK - 1) / FN_RUN_CHUNK;
}

size_t fn_run_chunks(const fn_runs *g) {
  const size_t segs = segments_per_chunk(g);
  return (g->segs + segs - 1) / segs * parts_per_segment(g);
}

fn_runs fn_run_chunk(const fn_runs *g, fastnorm_dtype dtype, size_t r, size_t i) {
  const size_t segs = segments_per_chunk(g), parts = parts_per_segment(g);
  const size_t seg = i / parts * segs, from = i % parts * FN_RUN_CHUNK;
  fn_runs c = fn_run_alone(g, dtype, r);
  c.x = fn_element(dtype, c.x, (ptrdiff_t)seg * g->seg_stride + (ptrdiff_t)from);
  c.segs = g->segs - seg < segs ? g->segs - seg : segs;
  c.len = g->len - from < FN_RUN_CHUNK ? g->len - from : FN_RUN_CHUNK;
  return c;
}

static void sums(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *g,
                 const void *shift, double *sum, double *sq) {
  const size_t chunks = g->segs * g->len <= FN_RUN_CHUNK ? 1 : fn_run_chunks(g);
  if (chunks == 1) {
    k->moments_runs(g, shift, sum, sq);
    return;
  }
  for (size_t r = 0; r < g->rows; r++) {
    fn_sum total = {0.0, 0.0}, total_sq = {0.0, 0.0};
    for (size_t i = 0; i < chunks; i++) {
      const fn_runs c = fn_run_chunk(g, dtype, r, i);
      double part[FN_PAD] = {0.0}, part_sq[FN_PAD] = {0.0};
      k->moments_runs(&c, shift ? fn_element(dtype, shift, (ptrdiff_t)r) : NULL, part,
                      part_sq);
      fn_sum_add(&total, part[0]);
      fn_sum_add(&total_sq, part_sq[0]);
    }
    sum[r] = fn_sum_value(&total);
    sq[r] = fn_sum_value(&total_sq);
  }
}

/* Run r once more, on its own: about its mean, and failing that the slow way. */
static void repair(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *g,
                   double eps, bool centered, fn_group_stats *s, size_t r) {
  const double n = (double)g->segs * (double)g->len;
  const fn_runs one = fn_run_alone(g, dtype, r);
  fn_group_array shift = {{0}}, hi, lo;
  double sum[FN_PAD] = {s->sum[r]}, sq[FN_PAD] = {s->sq[r]}, var[FN_PAD];
  void *from = fn_element(dtype, &s->shift, (ptrdiff_t)r);
  fn_set(dtype, &shift, 0, fn_get(dtype, from, 0));
  for (int pass = 0; pass < (centered ? 2 : 1); pass++) {
    if (pass == 1) { /* the rounded mean that the first pass found */
      fn_set(dtype, &shift, 0, fn_get(dtype, &s->hi, r));
      sums(k, dtype, &one, &shift, sum, sq);
    }
    if (!k->finish(1, n, eps, sum, sq, centered ? &shift : NULL, &hi, &lo, var))
      continue;
    if (centered) {
      fn_set(dtype, &s->hi, r, fn_get(dtype, &hi, 0));
      fn_set(dtype, &s->lo, r, fn_get(dtype, &lo, 0));
    }
    s->var[r] = var[0];
    return;
  }
  s->any_slow = s->is_slow[r] = true;
  fn_slow_stats(dtype, &one, eps, centered, &s->slow[r]);
}

void fn_runs_finish(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *g,
                    double eps, bool centered, fn_group_stats *s) {
  const double n = (double)g->segs * (double)g->len;
  s->any_slow = false;
  if (k->finish(g->rows, n, eps, s->sum, s->sq, centered ? &s->shift : NULL, &s->hi,
                &s->lo, s->var))
    return;
  for (size_t r = 0; r < g->rows; r++) {
    s->is_slow[r] = false;
    repair(k, dtype, g, eps, centered, s, r);
  }
}

void fn_runs_stats(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *g,
                   double eps, bool centered, fn_group_stats *s) {
  if (centered)
    k->shift_runs(g, &s->shift);
  sums(k, dtype, g, centered ? &s->shift : NULL, s->sum, s->sq);
  fn_runs_finish(k, dtype, g, eps, centered, s);
}
