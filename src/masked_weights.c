/* masked_weights.c - masks that are weights: the statistics of runs.
 * SPDX-License-Identifier: MIT
 *
 * All positions are read as they lie, in pieces of one size, whatever is 0 among the
 * weights; the sums are of doubles (weighted.c), about an element near the mean, and
 * again about the mean that was found if that was too far. Runs of one pattern are read
 * side by side. What leaves the range of that is scaled. */
#include <math.h>
#include <string.h>

#include "masked.h"
#include "range.h"
#include "threads.h"
#include "weighted.h"

#define PIECE 65536 /* positions; its sums fit the scratch of four chunks of a run */

/* One reading of up to FN_GROUP runs. */
typedef struct reading {
  fastnorm_dtype dtype;
  const fn_runs *g;
  double scale, weight_scale; /* powers of two */
  double shift[FN_GROUP];
  bool wanted[FN_GROUP];
  fn_weighted *pieces; /* of run 0, in scratch; or NULL */
} reading;

static size_t all_positions(const fn_positions *p) {
  return p->samples * p->positions;
}

static const void *weight_at(const fn_positions *p, size_t i) {
  return p->bytes + (ptrdiff_t)(i / p->positions) * p->stride +
         (ptrdiff_t)(i % p->positions) * p->position_stride;
}

static const void *x_at(const fn_runs *g, size_t r, size_t i) {
  const fn_positions *p = g->source->positions;
  const ptrdiff_t at = (ptrdiff_t)r * g->row_stride +
                       (ptrdiff_t)(i / p->positions) * p->x_stride +
                       (ptrdiff_t)(i % p->positions) * p->x_position_stride;
  return (const char *)g->x + at * (ptrdiff_t)g->source->element;
}

/* n elements of a run from position i on, `step` apart: where they are, if they have
 * the working type, else in `room`. */
static const void *elements(fastnorm_dtype dtype, const fn_runs *g, size_t r, size_t i,
                            size_t n, void *room, ptrdiff_t *step) {
  const fn_source *s = g->source;
  const void *x = x_at(g, r, i);
  *step = s->positions->x_position_stride;
  if (s->gather.dtype == dtype)
    return x;
  fn_masked_gather(dtype, s, x, *step, n, room);
  *step = 1;
  return room;
}

/* Positions that follow i in its sample, at most a block of them; their weights. */
static size_t read_weights(const fn_positions *p, size_t i, size_t most,
                           double *weights) {
  const size_t left = p->positions - i % p->positions;
  const size_t fit = most < FN_WEIGHTS_BLOCK ? most : FN_WEIGHTS_BLOCK;
  const size_t n = left < fit ? left : fit;
  fn_weights_read(weight_at(p, i), p->position_stride, p->element, n, weights);
  return n;
}

static void read_piece(const reading *w, size_t piece, fn_weighted *sums) {
  const fn_positions *p = w->g->source->positions;
  const size_t first = piece * PIECE, left = all_positions(p) - first;
  const size_t end = first + (left < PIECE ? left : PIECE);
  double weights[FN_WEIGHTS_BLOCK], room[FN_WEIGHTS_BLOCK];
  size_t n;
  memset(sums, 0, w->g->rows * sizeof(*sums));
  for (size_t i = first; i < end; i += n) {
    n = read_weights(p, i, end - i, weights);
    if (weights[0] <= 0.0 && fn_mask_count_some(p->kernels, weight_at(p, i),
                                                p->position_stride, p->element, n) == 0)
      continue;
    for (size_t k = 0; w->weight_scale != 1.0 && k < n; k++)
      weights[k] *= w->weight_scale;
    for (size_t r = 0; r < w->g->rows; r++) {
      ptrdiff_t step;
      if (!w->wanted[r])
        continue;
      const void *x = elements(w->dtype, w->g, r, i, n, room, &step);
      fn_weighted_add(w->dtype, n, x, step, weights, 1, w->scale, w->shift[r],
                      &sums[r]);
    }
  }
}

static void piece_task(void *context, size_t index) {
  const reading *w = context;
  read_piece(w, index, w->pieces + index);
}

/* The sums of each run that is wanted. */
static void read_all(const reading *w, const fastnorm_exec *exec, fn_weighted *sums) {
  const fn_runs *g = w->g;
  const size_t all = all_positions(g->source->positions);
  const size_t pieces = (all + PIECE - 1) / PIECE;
  fn_weighted own[FN_GROUP];
  if (w->pieces)
    fn_parallel_for(exec, pieces, all * g->source->element, piece_task, (void *)w);
  for (size_t i = 0; i < pieces; i++) {
    const fn_weighted *piece = w->pieces ? w->pieces + i : own;
    if (!w->pieces)
      read_piece(w, i, own);
    for (size_t r = 0; r < g->rows; r++)
      if (w->wanted[r] && i > 0)
        fn_weighted_merge(&sums[r], &piece[r]);
      else if (w->wanted[r])
        sums[r] = piece[r];
  }
}

static double element(fastnorm_dtype dtype, const fn_runs *g, size_t r, size_t i) {
  ptrdiff_t step;
  double room;
  return fn_get(dtype, elements(dtype, g, r, i, 1, &room, &step), 0);
}

/* The first position from i on that takes part; what there are if none does. */
static size_t next_part(const fn_positions *p, size_t i) {
  const size_t all = all_positions(p);
  while (i < all) {
    const size_t from = i % p->positions, begin = i - from;
    const size_t at = fn_mask_find(weight_at(p, begin), p->position_stride, p->element,
                                   from, p->positions, false);
    if (at < p->positions)
      return begin + at;
    i = begin + p->positions;
  }
  return i;
}

/* Some element that takes part, so that a constant run has no deviations: of a few, the
 * one that is nearest to their mean. */
static void find_shifts(reading *w) {
  const fn_positions *p = w->g->source->positions;
  const size_t all = all_positions(p), step = all / 16 + 1;
  size_t at[16], n = 0;
  for (size_t i = 0; i < all; i += step)
    if (fn_mask_takes(weight_at(p, i), p->element))
      at[n++] = i;
  if (n == 0)
    at[n++] = next_part(p, 0);
  for (size_t r = 0; r < w->g->rows; r++) {
    double x[16] = {0.0}, mean = 0.0;
    for (size_t i = 0; i < n; i++) {
      x[i] = element(w->dtype, w->g, r, at[i]);
      mean += x[i] / (double)n;
    }
    w->shift[r] = x[0];
    for (size_t i = 1; i < n; i++)
      if (fabs(x[i] - mean) < fabs(w->shift[r] - mean))
        w->shift[r] = x[i];
    w->wanted[r] = true;
  }
}

/* Whether plain sums say what is to be known, and the dtype can. */
static bool in_range(fastnorm_dtype dtype, const fn_weighted *sums, const fn_moment *m,
                     double eps) {
  const double n = fn_sum_value(&sums->weight);
  const double least = dtype == FASTNORM_FLOAT32 ? f32_VAR_MIN : f64_VAR_MIN;
  return m->finite && n >= 0x1p-100 && n <= 0x1p100 &&
         fn_sum_value(&sums->sq) <= f64_SQ_MAX && fabs(m->mean) <= f64_MEAN_MAX &&
         (m->m2 + m->m2_low) / n + eps >= least;
}

void fn_weighted_stats(fastnorm_dtype dtype, const fn_runs *g, double eps,
                       const fastnorm_exec *exec, double *scratch, fn_group_stats *s) {
  fn_weighted sums[FN_GROUP];
  fn_moment m[FN_GROUP];
  reading w = {.dtype = dtype, .g = g, .scale = 1.0, .weight_scale = 1.0};
  w.pieces = (fn_weighted *)(void *)scratch;
  bool good = false;
  find_shifts(&w);
  for (int pass = 0; pass < 2 && !good; pass++) {
    read_all(&w, exec, sums);
    good = true;
    for (size_t r = 0; r < g->rows; r++) {
      if (!w.wanted[r])
        continue;
      const double n = fn_sum_value(&sums[r].weight);
      m[r] = fn_moment_of(w.shift[r], n, &sums[r].sum, &sums[r].sq);
      w.wanted[r] = m[r].finite && !m[r].good && m[r].share > n * (eps * 0x1p-24);
      good &= !w.wanted[r];
      if (w.wanted[r])
        w.shift[r] = m[r].mean;
    }
  }
  s->any_slow = false;
  for (size_t r = 0; r < g->rows; r++) {
    s->is_slow[r] = !in_range(dtype, &sums[r], &m[r], eps);
    s->any_slow |= s->is_slow[r];
    if (s->is_slow[r]) { /* and harmless to those that look at all */
      const fn_runs one = fn_run_alone(g, dtype, r);
      fn_weighted_slow(dtype, &one, eps, &s->slow[r]);
      m[r] = (fn_moment){.mean = 0.0};
    }
    fn_set(dtype, &s->hi, r, m[r].mean);
    fn_set(dtype, &s->lo, r, (m[r].mean - fn_get(dtype, &s->hi, r)) + m[r].mean_low);
    s->var[r] =
        s->is_slow[r] ? 1.0 : (m[r].m2 + m[r].m2_low) / fn_sum_value(&sums[r].weight);
  }
}

/* ---- Out of range ---------------------------------------------------------------- */

/* What takes part: the largest magnitude, the largest weight, and a first element. */
typedef struct extremes {
  double largest, heaviest, first;
  double infinite; /* the sum of values that are not finite */
  bool finite, any;
} extremes;

static void find_extremes(fastnorm_dtype dtype, const fn_runs *g, extremes *e) {
  const fn_positions *p = g->source->positions;
  const size_t all = all_positions(p);
  double weights[FN_WEIGHTS_BLOCK], room[FN_WEIGHTS_BLOCK];
  size_t n;
  *e = (extremes){.finite = true};
  for (size_t i = 0; i < all; i += n) {
    ptrdiff_t step;
    n = read_weights(p, i, all - i, weights);
    const void *x = elements(dtype, g, 0, i, n, room, &step);
    for (size_t k = 0; k < n; k++) {
      if (!(weights[k] > 0.0))
        continue;
      const double value = fn_get(dtype, fn_element(dtype, x, (ptrdiff_t)k * step), 0);
      if (!e->any)
        e->first = value;
      e->any = true;
      if (!isfinite(value)) {
        e->finite = false;
        e->infinite += value;
      }
      e->largest = fmax(e->largest, fabs(value));
      e->heaviest = fmax(e->heaviest, weights[k]);
    }
  }
}

static double power(int exponent) {
  return ldexp(1.0, exponent < -1000 ? -1000 : exponent > 1000 ? 1000 : exponent);
}

void fn_weighted_slow(fastnorm_dtype dtype, const fn_runs *g, double eps, fn_slow *s) {
  extremes e;
  fn_weighted sums;
  fn_moment m = {.good = false};
  int heavy;
  find_extremes(dtype, g, &e);
  frexp(e.heaviest, &heavy);
  s->exponent = fn_slow_exponent(e.largest, e.finite, eps);
  if (s->exponent > 1000 || s->exponent < -1000)
    s->exponent = s->exponent < 0 ? -1000 : 1000;
  reading w = {.dtype = dtype,
               .g = g,
               .scale = power(-s->exponent),
               .weight_scale = power(-heavy),
               .shift = {e.first * power(-s->exponent)},
               .wanted = {true}};
  for (int pass = 0; pass < 2 && e.any; pass++) {
    read_all(&w, NULL, &sums);
    m = fn_moment_of(w.shift[0], fn_sum_value(&sums.weight), &sums.sum, &sums.sq);
    if (m.finite)
      w.shift[0] = m.mean;
  }
  s->hi = e.finite ? m.mean : e.infinite;
  s->lo = e.finite ? m.mean_low : 0.0;
  s->var = e.any ? (m.m2 + m.m2_low) / fn_sum_value(&sums.weight) : 0.0;
  fn_slow_finish(s, eps);
}
