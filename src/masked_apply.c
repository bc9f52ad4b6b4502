/* masked_apply.c - masks and lengths: results, and what stands where there are none.
 * SPDX-License-Identifier: MIT
 *
 * A stretch of positions that all take part goes to the kernels as it is. Where both
 * kinds alternate within a block, all of the block does, and what takes no part is
 * written over: a call per position would cost more. */
#include <string.h>

#include "masked.h"

#define BLOCK 256 /* positions; FN_MASKED_RUNS of them fit a stage */

/* Whether keeping x is a copy of its bytes. */
static bool is_copy(const fn_formats *f) {
  const fn_gather *g = &f->source.gather;
  const fn_scatter *s = &f->sink.scatter;
  if (f->x != f->y || f->sink.element > 1)
    return f->x == f->y;
  const float inverse = 1.0f / g->scale;
  return inverse >= s->inverse_scale && inverse <= s->inverse_scale &&
         g->zero_point == s->zero_point;
}

static void convert(const fn_formats *f, const char *x, char *y, size_t n) {
  fn_scatter s = f->sink.scatter;
  s.activation = FASTNORM_IDENTITY;
  s.post_add = s.ahead = NULL;
  for (size_t i = 0; i < n; i += BLOCK) {
    _Alignas(64) double room[BLOCK];
    const size_t some = n - i < BLOCK ? n - i : BLOCK;
    f->source.kernels->gather(&f->source.gather, x + i * f->source.element, some, room);
    f->source.kernels->scatter(&s, room, some, y + i * f->sink.element, false);
  }
}

static void keep(const fn_formats *f, const void *x, void *y, size_t n) {
  if (!is_copy(f))
    convert(f, x, y, n);
  else if (x != y)
    memcpy(y, x, n * f->sink.element);
}

void fn_masked_fill(const fn_masked_output *o, const void *x, void *y, size_t n) {
  const fn_formats *f = o->f;
  const bool is_byte = f->sink.element == 1;
  if (o->mask->keep)
    keep(f, x, y, n);
  else
    memset(y, is_byte ? f->sink.scatter.zero_point : 0, n * f->sink.element);
}

/* ---- stretches ---- */

typedef enum kind { NONE, ALL, SOME } kind;

/* Positions from `first` on, up to `most`, that are of one kind; SOME are at most
 * `block` of both. */
static size_t stretch(const fn_mask *m, const unsigned char *bytes, size_t sample,
                      size_t first, size_t most, size_t block, kind *is) {
  size_t n = 0;
  if (!bytes) {
    const size_t length = m->lengths[sample],
                 left = length > first ? length - first : 0;
    *is = left > 0 ? ALL : NONE;
    return left > 0 && left < most ? left : most;
  }
  while (n < most) {
    const size_t some = most - n < block ? most - n : block;
    const size_t count = fn_mask_count_some(
        m->kernels, bytes + (ptrdiff_t)(first + n) * m->position_stride,
        m->position_stride, m->element, some);
    const kind found = count == 0 ? NONE : count == some ? ALL : SOME;
    if (n > 0 && found != *is)
      return n;
    *is = found;
    n += some;
    if (found == SOME)
      return n;
  }
  return n;
}

static const unsigned char *bytes_of(const fn_mask *m, size_t sample, size_t channel) {
  return m->bytes ? m->bytes + (ptrdiff_t)sample * m->stride +
                        (ptrdiff_t)channel * m->channel_stride
                  : NULL;
}

/* Stretches of a block in which nothing takes part. */
typedef struct gaps {
  size_t count;
  struct {
    size_t first, n;
  } at[FN_COLUMNS / 2];
} gaps;

static void find_gaps(const unsigned char *bytes, ptrdiff_t step, size_t element,
                      size_t n, gaps *g) {
  g->count = 0;
  for (size_t i = 0; (i = fn_mask_find(bytes, step, element, i, n, true)) < n;) {
    const size_t end = fn_mask_find(bytes, step, element, i, n, false);
    g->at[g->count].first = i;
    g->at[g->count++].n = end - i;
    i = end;
  }
}

/* Whether gaps are to be zeros of the working type: then a pattern of bits clears them,
 * where many gaps would cost a call each. */
static bool clears(const fn_masked_output *o) {
  return !o->mask->keep && fn_dtype_size(o->f->working) == o->f->sink.element;
}

/* Lines of results, in a stage or already where they belong, that share a pattern. */
typedef struct results {
  size_t rows, n;
  char *from, *y;
  ptrdiff_t from_stride, y_stride; /* bytes */
} results;

static void clear(const fn_masked_output *o, const unsigned char *bytes, ptrdiff_t step,
                  const results *s) {
  const fn_mask *m = o->mask;
  const fn_kernels *k = o->f->source.kernels;
  for (size_t i = 0; i < s->n; i += 64) {
    const size_t some = s->n - i < 64 ? s->n - i : 64, at = i * o->f->sink.element;
    const uint64_t bits =
        fn_mask_bits(k, bytes + (ptrdiff_t)i * step, step, m->element, some);
    if (s->from == s->y && bits == fn_low_bits(some))
      continue;
    for (ptrdiff_t r = 0; r < (ptrdiff_t)s->rows; r++) {
      char *y = s->y + r * s->y_stride + at;
      if (bits == 0)
        memset(y, 0, some * o->f->sink.element);
      else
        k->clear(s->from + r * s->from_stride + at, some, bits, y);
    }
  }
}

/* Where results go before they are cleared: to y, unless that is streamed. */
static fn_output before_clearing(const fn_output *out, void *stage) {
  fn_output to = *out;
  if (out->stream)
    to.y = stage;
  to.stream = false;
  return to;
}

/* Elements at y that are in a gap become what x, or `saved` in its place, holds. */
static void write_over(const fn_masked_output *o, const gaps *g, const void *x, void *y,
                       const void *saved) {
  const size_t xs = o->f->source.element, ys = o->f->sink.element;
  for (size_t k = 0; k < g->count; k++) {
    const size_t i = g->at[k].first, n = g->at[k].n;
    const char *from = saved ? saved : x;
    fn_masked_fill(o, from + i * xs, (char *)y + i * ys, n);
  }
}

/* ---- runs ---- */

static void cleared_runs(const fn_masked_output *o, const fn_run_apply *a,
                         const fn_runs *g, const fn_output *out,
                         const unsigned char *bytes) {
  const ptrdiff_t size = (ptrdiff_t)o->f->sink.element;
  fn_stage stage;
  fn_output to = before_clearing(out, &stage);
  if (to.y != out->y)
    to.row_stride = (ptrdiff_t)g->len;
  fn_runs_apply(a, g, &to);
  const results s = {
      g->rows, g->len, to.y, out->y, to.row_stride * size, out->row_stride * size};
  clear(o, bytes, o->mask->position_stride, &s);
}

static void mixed_runs(const fn_masked_output *o, const fn_run_apply *a,
                       const fn_runs *g, const fn_output *out,
                       const unsigned char *bytes) {
  const ptrdiff_t xs = (ptrdiff_t)o->f->source.element;
  const ptrdiff_t ys = (ptrdiff_t)o->f->sink.element;
  const size_t line = g->len * o->f->sink.element;
  const bool saves = o->mask->keep && o->in_place;
  fn_stage saved;
  gaps found;
  char *y = out->y, *room = (char *)&saved;
  for (size_t r = 0; saves && r < g->rows; r++)
    memcpy(room + r * line, y + (ptrdiff_t)r * out->row_stride * ys, line);
  fn_runs_apply(a, g, out);
  find_gaps(bytes, o->mask->position_stride, o->mask->element, g->len, &found);
  for (size_t r = 0; r < g->rows; r++)
    write_over(o, &found, (const char *)g->x + (ptrdiff_t)r * g->row_stride * xs,
               y + (ptrdiff_t)r * out->row_stride * ys, saves ? room + r * line : NULL);
}

void fn_masked_apply_runs(const fn_masked_output *o, const fn_run_apply *a,
                          const fn_runs *g, const fn_output *out, size_t sample,
                          size_t channel) {
  const fn_mask *m = o->mask;
  const ptrdiff_t xs = (ptrdiff_t)o->f->source.element;
  const ptrdiff_t ys = (ptrdiff_t)o->f->sink.element;
  const unsigned char *bytes = bytes_of(m, sample, channel);
  size_t n;
  for (size_t p = 0; p < g->len; p += n) {
    kind is = NONE;
    n = stretch(m, bytes, sample, p, g->len - p, BLOCK, &is);
    const fn_output part = fn_output_at(a->dtype, out, 0, 0, p);
    /* Not a copy of g: its fields have just been stored one by one, and a processor
     * waits before it loads two of them at once. */
    const fn_runs some = {.x = (const char *)g->x + (ptrdiff_t)p * xs,
                          .rows = g->rows,
                          .row_stride = g->row_stride,
                          .segs = 1,
                          .len = n,
                          .dtype = g->dtype,
                          .source = g->source,
                          .row = g->row,
                          .at = g->at};
    if (is == ALL)
      fn_runs_apply(a, &some, &part);
    else if (is == SOME)
      (clears(o) ? cleared_runs : mixed_runs)(
          o, a, &some, &part, bytes + (ptrdiff_t)p * m->position_stride);
    for (size_t r = 0; is == NONE && r < g->rows; r++)
      fn_masked_fill(o, (const char *)some.x + (ptrdiff_t)r * g->row_stride * xs,
                     (char *)part.y + (ptrdiff_t)r * part.row_stride * ys, n);
  }
}

/* ---- tables ---- */

typedef struct table_apply {
  const fn_masked_output *o;
  const fn_kernels *k;
  fastnorm_dtype dtype;
  const fn_column_stats *s;
  const fn_column_parameters *p;
} table_apply;

static void apply_rows(const table_apply *a, const fn_table *t, const fn_output *out) {
  fn_columns_apply(a->k, a->dtype, t, out, a->s, a->p);
}

/* Rows of a pattern for each column. */
static void cleared_rows(const table_apply *a, const fn_table *t, const fn_output *out,
                         const unsigned char *bytes) {
  const fn_mask *m = a->o->mask;
  const ptrdiff_t size = (ptrdiff_t)a->o->f->sink.element;
  fn_stage stage;
  fn_output to = before_clearing(out, &stage);
  if (to.y != out->y)
    to.seg_stride = (ptrdiff_t)t->cols;
  apply_rows(a, t, &to);
  for (ptrdiff_t r = 0; r < (ptrdiff_t)t->rows; r++) {
    const results s = {1,
                       t->cols,
                       (char *)to.y + r * to.seg_stride * size,
                       (char *)out->y + r * out->seg_stride * size,
                       0,
                       0};
    clear(a->o, bytes + r * m->position_stride, m->channel_stride, &s);
  }
}

static void mixed_rows(const table_apply *a, const fn_table *t, const fn_output *out,
                       const unsigned char *bytes) {
  const fn_masked_output *o = a->o;
  const fn_mask *m = o->mask;
  const ptrdiff_t xs = (ptrdiff_t)o->f->source.element;
  const ptrdiff_t ys = (ptrdiff_t)o->f->sink.element;
  const size_t line = t->cols * o->f->sink.element;
  const ptrdiff_t step = fn_mask_is_shared(m) ? 0 : m->channel_stride;
  const bool saves = m->keep && o->in_place;
  fn_stage saved;
  gaps found;
  char *y = out->y, *room = (char *)&saved;
  for (size_t r = 0; saves && r < t->rows; r++)
    memcpy(room + r * line, y + (ptrdiff_t)r * out->seg_stride * ys, line);
  apply_rows(a, t, out);
  for (size_t r = 0; r < t->rows; r++) {
    find_gaps(bytes + (ptrdiff_t)r * m->position_stride, step, m->element, t->cols,
              &found);
    write_over(o, &found, (const char *)t->x + (ptrdiff_t)r * t->stride * xs,
               y + (ptrdiff_t)r * out->seg_stride * ys, saves ? room + r * line : NULL);
  }
}

static void fill_rows(const table_apply *a, const fn_table *t, const fn_output *out) {
  const fn_formats *f = a->o->f;
  const ptrdiff_t cols = (ptrdiff_t)t->cols;
  if (t->stride == cols && out->seg_stride == cols) {
    fn_masked_fill(a->o, t->x, out->y, t->rows * t->cols);
    return;
  }
  for (size_t r = 0; r < t->rows; r++)
    fn_masked_fill(
        a->o,
        (const char *)t->x + (ptrdiff_t)r * t->stride * (ptrdiff_t)f->source.element,
        (char *)out->y + (ptrdiff_t)r * out->seg_stride * (ptrdiff_t)f->sink.element,
        t->cols);
}

void fn_masked_apply_table(const fn_masked_output *o, const fn_kernels *k,
                           const fn_table *t, const fn_output *out,
                           const fn_column_stats *s, const fn_column_parameters *p,
                           const fn_masked_rows *at) {
  const fn_mask *m = o->mask;
  const table_apply a = {o, k, o->f->working, s, p};
  const unsigned char *bytes = bytes_of(m, at->sample, at->channel);
  const size_t fit = FN_STAGE_BYTES / (t->cols * o->f->sink.element);
  const size_t block = fit < BLOCK ? fit : BLOCK;
  size_t n;
  for (size_t r = 0; r < t->rows; r += n) {
    kind is = SOME;
    const size_t left = t->rows - r;
    if (fn_mask_is_shared(m))
      n = stretch(m, bytes, at->sample, at->first + r, left, block, &is);
    else
      n = left < block ? left : block;
    const fn_table some = {.x =
                               (const char *)t->x + (ptrdiff_t)r * t->stride *
                                                        (ptrdiff_t)o->f->source.element,
                           .rows = n,
                           .stride = t->stride,
                           .cols = t->cols,
                           .fold = t->fold,
                           .source = t->source};
    const fn_output part = fn_output_at(a.dtype, out, 0, r, 0);
    if (is == ALL)
      apply_rows(&a, &some, &part);
    else if (is == NONE)
      fill_rows(&a, &some, &part);
    else
      (clears(o) && !fn_mask_is_shared(m) ? cleared_rows : mixed_rows)(
          &a, &some, &part, bytes + (ptrdiff_t)(at->first + r) * m->position_stride);
  }
}
