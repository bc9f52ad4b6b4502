/* runs.c - statistics of runs: rows of layer norm, channels of [N, C, S].
 * SPDX-License-Identifier: MIT */
#include "runs.h"

#include "check.h"
#include "masked.h"
#include "sum.h"

/* Element i of x, whatever x is an array of. */
static void *element_of_x(const fn_runs *g, fastnorm_dtype dtype, ptrdiff_t i) {
  return (char *)g->x +
         i * (ptrdiff_t)(g->source ? g->source->element : fn_dtype_size(dtype));
}

fn_runs fn_run_alone(const fn_runs *g, fastnorm_dtype dtype, size_t r) {
  fn_runs one = *g;
  one.x = element_of_x(g, dtype, (ptrdiff_t)r * g->row_stride);
  one.rows = 1;
  one.row += r;
  return one;
}

/* A chunk is some whole segments, or a part of one where segments are long. */
static size_t segments_per_chunk(const fn_runs *g, fastnorm_dtype dtype) {
  const size_t most = fn_stage_elements(dtype);
  return g->len < most ? most / g->len : 1;
}

static size_t parts_per_segment(const fn_runs *g, fastnorm_dtype dtype) {
  const size_t most = fn_stage_elements(dtype);
  return (g->len + most - 1) / most;
}

size_t fn_run_chunks(const fn_runs *g, fastnorm_dtype dtype) {
  const size_t segs = segments_per_chunk(g, dtype);
  return (g->segs + segs - 1) / segs * parts_per_segment(g, dtype);
}

void fn_run_chunk_begin(const fn_runs *g, fastnorm_dtype dtype, size_t i, size_t *seg,
                        size_t *from) {
  const size_t parts = parts_per_segment(g, dtype);
  *seg = i / parts * segments_per_chunk(g, dtype);
  *from = i % parts * fn_stage_elements(dtype);
}

fn_runs fn_run_chunk(const fn_runs *g, fastnorm_dtype dtype, size_t r, size_t i) {
  const size_t most = fn_stage_elements(dtype), segs = segments_per_chunk(g, dtype);
  size_t seg, from;
  fn_run_chunk_begin(g, dtype, i, &seg, &from);
  fn_runs c = fn_run_alone(g, dtype, r);
  c.x = element_of_x(&c, dtype, (ptrdiff_t)seg * g->seg_stride + (ptrdiff_t)from);
  c.segs = g->segs - seg < segs ? g->segs - seg : segs;
  c.len = g->len - from < most ? g->len - from : most;
  c.at += seg * g->len + from;
  return c;
}

/* Up to four vecs, evenly spaced: within a tenth of a deviation or so of the mean of
 * ordinary data, and the (rounded) mean itself of the shortest runs. Two are enough
 * where four would be half of the run (instance norm of [4, 256, 196]: 36.6 us for
 * 38.8, AMD EPYC Zen 5, avx512). */
void fn_run_samples(const fn_runs *g, fastnorm_dtype dtype, fn_samples *s) {
  const size_t vec = dtype == FASTNORM_FLOAT32 ? 32 : 16;
  /* Divisions are slow, but for those by a constant: five of others took 1.4 % of group
   * norm of [32, 256, 196]. */
  const size_t per_segment =
      dtype == FASTNORM_FLOAT32 ? (g->len + 31) / 32 : (g->len + 15) / 16;
  const size_t steps = g->segs * per_segment;
  s->count = steps < 4 ? steps : steps < 8 ? 2 : 4;
  s->all = 0;
  const size_t apart = s->count == 4 ? steps / 4 : steps < 4 ? 1 : steps / 2;
  for (size_t i = 0; i < s->count; i++) {
    const size_t step = apart * i;
    const size_t seg = g->segs == 1 ? 0 : step / per_segment;
    const size_t from = (step - seg * per_segment) * vec;
    s->at[i] = (ptrdiff_t)seg * g->seg_stride + (ptrdiff_t)from;
    s->n[i] = g->len - from < vec ? g->len - from : vec;
    s->all += s->n[i];
  }
}

/* The same where x must be gathered: the samples of a run, packed. */
static void shift_of_source(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *g,
                            const fn_samples *s, void *shift) {
  const size_t vec = 128 / fn_dtype_size(dtype);
  for (size_t r = 0; r < g->rows; r++) {
    _Alignas(64) char four[4 * 128];
    fn_group_array one;
    fn_samples packed = *s;
    for (size_t i = 0; i < s->count; i++) {
      fn_runs piece = fn_run_alone(g, dtype, r);
      piece.x = element_of_x(&piece, dtype, s->at[i]);
      piece.at += g->segs == 1 ? (size_t)s->at[i] : 0;
      piece.segs = 1;
      piece.len = s->n[i];
      fn_gather_runs(dtype, &piece, false, four + i * 128);
      packed.at[i] = (ptrdiff_t)(i * vec);
    }
    const fn_runs run = {.x = four, .rows = 1, .segs = 2, .len = 4 * vec};
    k->shift_runs(&run, &packed, &one);
    fn_set(dtype, shift, r, fn_get(dtype, &one, 0));
  }
}

void fn_runs_shift(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *g,
                   void *shift) {
  fn_samples s;
  fn_run_samples(g, dtype, &s);
  if (fn_runs_are_staged(g))
    shift_of_source(k, dtype, g, &s, shift);
  else
    k->shift_runs(g, &s, shift);
}

void fn_chunk_sums(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *chunk,
                   const void *shift, double *sum, double *sq) {
  fn_stage stage;
  fn_runs in_place;
  if (!fn_runs_are_staged(chunk)) {
    k->moments_runs(chunk, shift, sum, sq);
    return;
  }
  if (chunk->source->positions && fn_positions_adjacent(dtype, chunk, &in_place)) {
    k->moments_runs(&in_place, shift, sum, sq);
    return;
  }
  const fn_runs staged = fn_gather_runs(dtype, chunk, false, &stage);
  k->moments_runs(&staged, shift, sum, sq);
}

static void sums(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *g,
                 const void *shift, double *sum, double *sq) {
  const size_t chunks =
      g->segs * g->len <= fn_stage_elements(dtype) ? 1 : fn_run_chunks(g, dtype);
  if (chunks == 1 && !fn_runs_are_staged(g)) {
    k->moments_runs(g, shift, sum, sq);
    return;
  }
  for (size_t r = 0; r < g->rows; r++) {
    fn_sum total = {0.0, 0.0}, total_sq = {0.0, 0.0};
    for (size_t i = 0; i < chunks; i++) {
      const fn_runs c = fn_run_chunk(g, dtype, r, i);
      double part[FN_PAD] = {0.0}, part_sq[FN_PAD] = {0.0};
      fn_chunk_sums(k, dtype, &c, shift ? fn_element(dtype, shift, (ptrdiff_t)r) : NULL,
                    part, part_sq);
      fn_sum_add(&total, part[0]);
      fn_sum_add(&total_sq, part_sq[0]);
    }
    sum[r] = fn_sum_value(&total);
    sq[r] = fn_sum_value(&total_sq);
  }
}

static bool is_zero(const fn_kernels *k, fastnorm_dtype dtype, const fn_runs *one) {
  for (size_t seg = 0; seg < one->segs; seg++) {
    const void *x = fn_element(dtype, one->x, (ptrdiff_t)seg * one->seg_stride);
    if (!(k->largest(x, one->len) <= 0.0))
      return false;
  }
  return true;
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
  if (!centered && !g->source && is_zero(k, dtype, &one)) {
    s->var[r] = 0.0; /* as eps is, or nearly: rows of padding need not be slow */
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
  if (fn_runs_are_weighted(g)) {
    fn_weighted_stats(dtype, g, eps, NULL, NULL, s);
    return;
  }
  if (centered)
    fn_runs_shift(k, dtype, g, &s->shift);
  sums(k, dtype, g, centered ? &s->shift : NULL, s->sum, s->sq);
  fn_runs_finish(k, dtype, g, eps, centered, s);
}
