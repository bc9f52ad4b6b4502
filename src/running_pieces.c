/* running_pieces.c - the moments of one piece of a batch.
 * SPDX-License-Identifier: MIT
 *
 * The elements of a piece pass, block by block, through a stage in the first-level
 * cache, in the working type; there the kernels find their extremes and their moments
 * about a shift near the mean. That is all for most data. Where something is masked,
 * missing, weighted or not finite, the block is prepared first (running_care.c): what
 * takes no part becomes the shift, so that it adds exactly nothing, and is not counted.
 */
#include <math.h>
#include <string.h>

#include "check.h"
#include "running_care.h"
#include "weighted.h"

#define TILE_ROWS   16     /* of folded rows that the kernel sums before it widens */
#define LARGE_TILES 16     /* of a block that stays where it is, in the second level */
#define CHUNK_TILES 64     /* whose sums are then added with compensation */
#define PIECE       262144 /* elements: below, more pieces cost more than they help */
#define MOST_PIECES 64

static bool is_8_bit(const fn_running_work *w) {
  return w->a.dtype == FASTNORM_FLOAT32;
}

/* Several features of few values each, or one at a time; or columns of a table. */
static bool are_short_runs(const fn_running_work *w) {
  return !fn_channels_are_columns(&w->a) &&
         w->a.batch * w->a.spatial <= FN_BLOCK_ELEMENTS;
}

void fn_running_cut(fn_running_work *w) {
  const fn_channels *a = &w->a;
  const size_t length = a->batch * a->spatial;
  size_t unit = FN_BLOCK_ELEMENTS;
  if (fn_channels_are_columns(a)) {
    w->group = a->channels < FN_FOLD_TO ? a->channels : FN_FOLD_TO;
    unit = TILE_ROWS * fn_column_fold(w->group);
  } else {
    const size_t fit = length < FN_BLOCK_ELEMENTS ? FN_BLOCK_ELEMENTS / length : 1;
    w->group = fit < FN_GROUP ? fit : FN_GROUP;
  }
  w->groups = (a->channels + w->group - 1) / w->group;
  const size_t most = w->groups < MOST_PIECES ? MOST_PIECES / w->groups : 1;
  const size_t enough = length / (PIECE / w->group);
  const size_t pieces = enough < 1 ? 1 : enough < most ? enough : most;
  w->positions = ((length + pieces - 1) / pieces + unit - 1) / unit * unit;
  w->pieces = (length + w->positions - 1) / w->positions;
}

/* ---- Blocks of elements in the working type ------------------------------------- */

static void gather_segments(const fn_running_work *w, size_t channel, size_t position,
                            size_t segs, size_t len, void *out) {
  const fn_channels *a = &w->a;
  const size_t n = position / a->spatial, s = position % a->spatial;
  const fn_runs g = {.x = (const char *)fn_channels_at(a, n, channel) + s * a->element,
                     .rows = 1,
                     .segs = segs,
                     .seg_stride = a->stride,
                     .len = len,
                     .source = &w->gather};
  fn_gather_runs(a->dtype, &g, false, out);
}

/* One feature's positions: the rest of a segment, whole ones, and a part of one. */
static void gather_run(const fn_running_work *w, const fn_extent *e, char *out) {
  const size_t spatial = w->a.spatial;
  size_t at = e->from;
  while (at < e->to) {
    const size_t left = e->to - at, rest = spatial - at % spatial;
    const bool whole = rest == spatial && left >= spatial;
    const size_t segs = whole ? left / spatial : 1;
    const size_t len = whole ? spatial : left < rest ? left : rest;
    gather_segments(w, e->first, at, segs, len, out);
    out = fn_element(w->a.dtype, out, (ptrdiff_t)(segs * len));
    at += segs * len;
  }
}

static fn_table table_of(const fn_running_work *w, const fn_extent *e) {
  const fn_table all = fn_channels_table(&w->a, e->first, e->cols);
  return fn_table_rows(&all, w->a.dtype, e->from, e->to - e->from);
}

/* Whether the elements are packed in memory and need no stage: of the working type, or
 * floats that the kernels widen as they read them. */
static bool stays(const fn_running_work *w, const fn_extent *e) {
  const fn_channels *a = &w->a;
  if (a->source && !w->narrow)
    return false;
  if (fn_channels_are_columns(a))
    return a->stride == (ptrdiff_t)e->cols || fn_column_fold(e->cols) == 1;
  return a->batch == 1 || a->stride == (ptrdiff_t)a->spatial;
}

/* The elements of it, position by position, packed: where they are if they may stay
 * there, else in the stage, which has room for them. */
static const void *block(const fn_running_work *w, const fn_extent *e, bool may_stay,
                         void *stage) {
  const fn_channels *a = &w->a;
  if (may_stay && stays(w, e))
    return fn_channels_are_columns(a)
               ? fn_channels_at(a, e->from, e->first)
               : (const char *)fn_channels_at(a, 0, e->first) + e->from * a->element;
  if (fn_channels_are_columns(a)) {
    fn_table t = table_of(w, e);
    t.source = &w->gather;
    return fn_gather_table(a->dtype, &t, stage).x;
  }
  gather_run(w, e, stage);
  return stage;
}

/* ---- Moments --------------------------------------------------------------------- */

static fn_moment tally_moment(const fn_running_work *w, const fn_tally *t, size_t c) {
  fn_moment r = {.finite = true, .good = true};
  if (t->count[c] > 0)
    r = fn_moment_of(fn_get(w->a.dtype, &t->shift, c), fn_sum_value(&t->weight[c]),
                     &t->sum[c], &t->sq[c]);
  r.good |= is_8_bit(w);
  return r;
}

static void store(const fastnorm_running_moments *out, size_t at, const fn_tally *t,
                  size_t c, const fn_moment *r) {
  out->count[at] = t->count[c];
  out->weight[at] = fn_sum_value(&t->weight[c]);
  out->mean[at] = r->mean;
  out->mean_low[at] = r->mean_low;
  out->m2[at] = r->m2;
  out->m2_low[at] = r->m2_low;
  out->min[at] = fn_get(t->found, &t->low, c);
  out->max[at] = fn_get(t->found, &t->high, c);
}

static void fill(fastnorm_dtype dtype, fn_column_array *p, double value) {
  for (size_t i = 0; i < FN_COLUMNS; i++)
    fn_set(dtype, p, i, value);
}

static void clear_sums(fn_tally *t) {
  memset(t->sum, 0, sizeof(t->sum));
  memset(t->sq, 0, sizeof(t->sq));
  memset(t->weight, 0, sizeof(t->weight));
  memset(t->count, 0, sizeof(t->count));
  fill(t->found, &t->low, (double)INFINITY);
  fill(t->found, &t->high, -(double)INFINITY);
}

/* ---- The plain way --------------------------------------------------------------- */

static void first_shift(const fn_running_work *w, const fn_extent *e, fn_tally *t) {
  const fn_channels *a = &w->a;
  const fastnorm_dtype dtype = a->dtype;
  if (is_8_bit(w)) { /* |x - shift| <= 128: float sums of 1024 squares are exact */
    fill(dtype, &t->shift, w->gather.gather.dtype == FASTNORM_UINT8 ? 128.0 : 0.0);
  } else if (fn_channels_are_columns(a)) {
    fn_column_stats s;
    const fn_table all = table_of(w, e);
    fn_columns_shift(a->kernels, dtype, &all, &s);
    memcpy(&t->shift, &s.shift, sizeof(t->shift));
  } else {
    const fn_runs g = fn_channels_runs(a, e->first, e->cols);
    fill(dtype, &t->shift, 0.0);
    fn_runs_shift(a->kernels, dtype, &g, &t->shift);
  }
}

/* Features of few values: a block of all of them. */
static void add_runs(const fn_running_work *w, const fn_extent *e, fn_tally *t) {
  const fn_channels *a = &w->a;
  const fn_runs all = fn_channels_runs(a, e->first, e->cols);
  fn_stage stage;
  fn_runs g = all;
  if (a->source || a->batch > 1) {
    g.source = &w->gather;
    g = fn_gather_runs(a->dtype, &g, false, &stage);
  }
  double sum[FN_GROUP], sq[FN_GROUP];
  a->kernels->moments_runs(&g, &t->shift, sum, sq);
  a->kernels->extremes_runs(&g, &t->low, &t->high);
  for (size_t r = 0; r < e->cols; r++) {
    t->sum[r] = (fn_sum){sum[r], 0.0};
    t->sq[r] = (fn_sum){sq[r], 0.0};
  }
}

/* The sums of folded columns go to the fn_tally. */
static void unfold(size_t cols, size_t fold, double *sum, double *sq, fn_tally *t) {
  for (size_t i = 0; i < fold; i++)
    for (size_t c = 0; c < cols; c++) {
      fn_sum_add(&t->sum[c], sum[i * cols + c]);
      fn_sum_add(&t->sq[c], sq[i * cols + c]);
    }
  memset(sum, 0, FN_COLUMNS * sizeof(double));
  memset(sq, 0, FN_COLUMNS * sizeof(double));
}

static void unfold_extremes(size_t cols, size_t fold, fn_tally *t) {
  for (size_t i = cols; i < fold * cols; i++) {
    const size_t c = i % cols;
    const double low = fn_get(t->found, &t->low, i);
    const double high = fn_get(t->found, &t->high, i);
    if (low < fn_get(t->found, &t->low, c))
      fn_set(t->found, &t->low, c, low);
    if (high > fn_get(t->found, &t->high, c))
      fn_set(t->found, &t->high, c, high);
  }
}

/* A table of folded rows, as they are. */
static void add_table(const fn_running_work *w, const fn_table *f, fn_tally *t,
                      double *sum, double *sq) {
  if (f->rows == 0 || f->cols == 0)
    return;
  w->a.kernels->moments_columns(f, &t->shift, sum, sq);
  (f->narrow ? w->narrow : w->a.kernels)->extremes_columns(f, &t->low, &t->high);
}

/* Features of many values, side by side or one alone: a table, folded. With care if `k`
 * is not NULL; then what it returns is FN_FOUND_... */
static int add_columns(const fn_running_work *w, const fn_extent *e, fn_care *k,
                       fn_tally *t) {
  const size_t cols = e->cols, fold = fn_column_fold(cols), width = fold * cols;
  const bool here = !k && stays(w, e), narrow = t->found != w->a.dtype;
  const size_t element = narrow ? sizeof(float) : fn_dtype_size(w->a.dtype);
  const size_t tiles = here ? LARGE_TILES : 1, rows = tiles * TILE_ROWS * fold;
  fn_stage stage;
  _Alignas(64) double sum[FN_COLUMNS] = {0.0}, sq[FN_COLUMNS] = {0.0};
  size_t summed = 0;
  int found = 0;
  fn_replicate_shift(w->a.dtype, cols, fold, t);
  for (fn_extent b = *e; b.from < e->to && !found; b.from = b.to) {
    b.to = e->to - b.from < rows ? e->to : b.from + rows;
    const size_t folded = (b.to - b.from) / fold, rest = (b.to - b.from) % fold;
    fn_table f = {.x = block(w, &b, here, &stage),
                  .rows = folded,
                  .stride = here && fold == 1 ? w->a.stride : (ptrdiff_t)width,
                  .cols = width,
                  .narrow = narrow};
    fn_table last = f;
    last.x = (const char *)f.x + folded * width * element;
    last.rows = 1;
    last.cols = rest * cols;
    if (k) {
      found = fn_care_prepare(w, &b, &stage, k, t);
      fn_care_add(w, &f, k, t, sum, sq);
      fn_care_add(w, &last, k, t, sum, sq);
    } else {
      add_table(w, &f, t, sum, sq);
      add_table(w, &last, t, sum, sq);
    }
    summed += tiles;
    if (summed % CHUNK_TILES == 0)
      unfold(cols, fold, sum, sq, t);
  }
  unfold(cols, fold, sum, sq, t);
  unfold_extremes(cols, fold, t);
  return found;
}

/* Where a piece of all its elements was good in one or two passes; else it must be read
 * with care. */
static bool plain_piece(const fn_running_work *w, const fn_extent *e,
                        const fastnorm_running_moments *out) {
  const double n = (double)(e->to - e->from);
  fn_tally t;
  fn_moment r[FN_FOLD_TO];
  const bool narrow = !are_short_runs(w) && w->narrow && stays(w, e);
  t.found = narrow ? FASTNORM_FLOAT32 : w->a.dtype;
  first_shift(w, e, &t);
  for (int pass = 0; pass < 2; pass++) {
    bool good = true;
    clear_sums(&t);
    if (are_short_runs(w))
      add_runs(w, e, &t);
    else
      add_columns(w, e, NULL, &t);
    for (size_t c = 0; c < e->cols; c++) {
      t.count[c] = (int64_t)(e->to - e->from);
      t.weight[c] = (fn_sum){n, 0.0};
      r[c] = tally_moment(w, &t, c);
      if (!r[c].finite)
        return false;
      good &= r[c].good;
    }
    if (good)
      break;
    for (size_t c = 0; pass == 0 && c < e->cols; c++)
      if (!r[c].good)
        fn_set(w->a.dtype, &t.shift, c, r[c].mean);
  }
  for (size_t c = 0; c < e->cols; c++)
    store(out, e->first + c, &t, c, &r[c]);
  return true;
}

/* ---- The careful way ------------------------------------------------------------- */

#define SHRINK 0x1p-70 /* of values whose sums overflow: any number of doubles fits */

/* All of the piece once, about the shift, which is found on the way where it has not
 * been seen. */
static int careful_pass(const fn_running_work *w, const fn_extent *e, fn_care *k,
                        fn_tally *t) {
  clear_sums(t);
  memset(k->taking, 0, sizeof(k->taking));
  memset(k->counted, 0, sizeof(k->counted));
  const int found = add_columns(w, e, k, t);
  return found | fn_care_count(w, e, k, t);
}

/* NaN or Inf is among the values. */
static bool is_special(const fn_care *k, const fn_tally *t, size_t c) {
  return k->nan[c] || isinf(fn_get(t->found, &t->low, c)) ||
         isinf(fn_get(t->found, &t->high, c));
}

/* The mean of finite values whose sums overflow, which only doubles can. */
static void shrink(const fn_running_work *w, const fn_extent *e, fn_care *k,
                   fn_tally *t, fn_moment *r) {
  k->scale = SHRINK;
  for (size_t c = 0; c < e->cols; c++)
    t->shift.f64[c] *= SHRINK;
  careful_pass(w, e, k, t);
  for (size_t c = 0; c < e->cols; c++) {
    if (r[c].finite || is_special(k, t, c))
      continue;
    r[c] = tally_moment(w, t, c);
    r[c].mean /= SHRINK;
    r[c].mean_low /= SHRINK;
    r[c].m2 = r[c].m2 / SHRINK / SHRINK;
    r[c].m2_low = 0.0;
  }
}

static void store_careful(const fastnorm_running_moments *out, size_t first,
                          size_t cols, const fn_care *k, fn_tally *t, fn_moment *r) {
  for (size_t c = 0; c < cols; c++) {
    if (k->nan[c]) {
      r[c] = (fn_moment){.mean = (double)NAN, .m2 = (double)NAN};
      fn_set(t->found, &t->low, c, (double)NAN);
      fn_set(t->found, &t->high, c, (double)NAN);
    }
    store(out, first + c, t, c, &r[c]);
  }
}

static int careful_piece(const fn_running_work *w, const fn_extent *e,
                         const fastnorm_running_moments *out) {
  fn_tally t = {.found = w->a.dtype};
  fn_moment r[FN_FOLD_TO];
  fn_care k = {.scale = 1.0, .unseen = e->cols};
  bool good = false, finite = true;
  for (int pass = 0; pass < 2 && !good; pass++) {
    const int found = careful_pass(w, e, &k, &t);
    if (found)
      return found;
    good = finite = true;
    for (size_t c = 0; c < e->cols; c++) {
      r[c] = tally_moment(w, &t, c);
      finite &= r[c].finite || is_special(&k, &t, c);
      good &= r[c].good || !r[c].finite;
      if (pass == 0 && r[c].finite && !r[c].good)
        fn_set(w->a.dtype, &t.shift, c, r[c].mean);
    }
  }
  if (!finite)
    shrink(w, e, &k, &t, r);
  store_careful(out, e->first, e->cols, &k, &t, r);
  return 0;
}

int fn_running_piece(const fn_running_work *w, size_t i,
                     const fastnorm_running_moments *out) {
  const size_t g = i / w->pieces, p = i % w->pieces,
               left = w->a.channels - g * w->group;
  const size_t length = w->a.batch * w->a.spatial;
  fn_extent e = {.first = g * w->group,
                 .cols = left < w->group ? left : w->group,
                 .from = p * w->positions};
  e.to = length - e.from < w->positions ? length : e.from + w->positions;
  if (!w->mask.p && !w->weights.p && plain_piece(w, &e, out))
    return 0;
  if (fn_channels_are_columns(&w->a))
    return careful_piece(w, &e, out);
  int found = 0;
  for (size_t end = e.first + e.cols; e.first < end && !found; e.first++) {
    e.cols = 1;
    found = careful_piece(w, &e, out);
  }
  return found;
}
