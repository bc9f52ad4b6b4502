/* masked.h - which positions take part: masks, weights and lengths.
 * SPDX-License-Identifier: MIT
 *
 * Statistics are those of a run (or table) of what takes part, packed: a source hands
 * it to the kernels chunk by chunk, so that sums, and with them the bits, are those of
 * the same call on packed data. Results are written span by span. Statistics of weights
 * that are not all 0 or 1 are those of masked_weights.c. */
#ifndef FN_MASKED_H
#define FN_MASKED_H

#include <string.h>

#include "check.h"
#include "columns.h"
#include "fastnorm.h"
#include "formats.h"
#include "runs.h"

/* Of so many samples bytes may become lengths, and of so many times 64 positions bits.
 */
#define FN_MASK_SAMPLES 256
#define FN_MASK_WORDS   1024

/* A caller's mask, checked; not to be copied. Channels of `positions` each in every one
 * of `samples`; a table [batch, channels] is one sample, but for lengths. */
typedef struct fn_mask {
  const fn_kernels *kernels;
  const unsigned char *bytes;                        /* or NULL: lengths */
  ptrdiff_t stride, channel_stride, position_stride; /* bytes; 0: shared */
  size_t element; /* 1, or of float or double weights: what is 0 takes no part */
  bool weighted;  /* fn_mask_look() has found weights other than 0 and 1 */
  const size_t *lengths;
  size_t samples, positions, channels;
  bool keep;
  size_t found[FN_MASK_SAMPLES]; /* where lengths point that fn_mask_look() has found */
  size_t
      words_per_sample; /* 0: there are none; bit i of word k is position 64 * k + i */
  uint64_t words[FN_MASK_WORDS];
} fn_mask;

/* False if there is none. `array` is what fn_check_arrays() is to look at. */
bool fn_mask_is_given(const fastnorm_mask *args);
fastnorm_status fn_mask_read(const fastnorm_mask *args, size_t batch, size_t channels,
                             size_t spatial, fn_mask *m, fn_array *array);

/* One pattern for all channels. */
static inline bool fn_mask_is_shared(const fn_mask *m) {
  return !m->bytes || m->channel_stride == 0 || m->channels == 1;
}

/* Whether an element of a mask is not 0, and not the other zero either. */
static inline bool fn_mask_takes(const unsigned char *p, size_t element) {
  uint32_t four;
  uint64_t eight;
  if (element == 1)
    return *p != 0;
  if (element == 4) {
    memcpy(&four, p, sizeof(four));
    return four << 1 != 0;
  }
  memcpy(&eight, p, sizeof(eight));
  return eight << 1 != 0;
}

/* How many of n elements, `step` bytes apart, are not 0. */
size_t fn_mask_count_some(const fn_kernels *k, const unsigned char *bytes,
                          ptrdiff_t step, size_t element, size_t n);

/* Which of n, at most 64, they are: bit i is that of element i. */
uint64_t fn_mask_bits(const fn_kernels *k, const unsigned char *bytes, ptrdiff_t step,
                      size_t element, size_t n);

static inline uint64_t fn_low_bits(size_t n) {
  return n < 64 ? (UINT64_C(1) << n) - 1 : ~UINT64_C(0);
}

/* From element i on: where the first one is that is 0, or is not; n if none is. */
size_t fn_mask_find(const unsigned char *bytes, ptrdiff_t step, size_t element,
                    size_t i, size_t n, bool zero);

/* Whether what takes part of a channel in a sample is one stretch, and where it is. */
bool fn_mask_is_stretch(const fn_mask *m, size_t sample, size_t channel, size_t *first,
                        size_t *count);

/* Positions of a channel that take part: in one sample, and in all. */
size_t fn_mask_count(const fn_mask *m, size_t sample, size_t channel);
size_t fn_mask_count_all(const fn_mask *m, size_t channel);

/* Where m is weighted the sums of their weights, else the same. */
double fn_mask_weight(const fn_mask *m, size_t sample, size_t channel);
double fn_mask_weight_all(const fn_mask *m, size_t channel);

/* n / (n - 1), for such a number. */
static inline double fn_mask_unbias(double n) {
  return n < 0x1p60 ? n / (n - 1.0) : 1.0;
}

/* What must be known before anything is written. The counts are those of a channel, or
 * with `by_sample` of a channel in one sample; of weights, their sums. */
typedef struct fn_mask_survey {
  bool all;    /* nothing is left out, nor weighted */
  bool single; /* some count is 1, or sum of weights at most 1 but not 0 */
  double most; /* the largest count */
} fn_mask_survey;

/* FASTNORM_ERROR_MASK if a length is above the number of positions,
 * FASTNORM_ERROR_WEIGHT if a weight is none. Finds out whether m is weighted, and where
 * bytes say no more than lengths would makes them lengths, and others, if they are one
 * pattern for all channels, bits: bytes are not read again for every channel (training
 * of [32, 256, 196], padded: 964 -> 540 us). */
fastnorm_status fn_mask_look(fn_mask *m, bool by_sample, fn_mask_survey *found);

/* Asks for what is read or written later, where samples are short: the memory does not
 * see that they come next, as the mask is looked at in between. */
static inline void fn_mask_ask(const void *p, size_t bytes) {
  for (size_t i = 0; i < bytes && i < 1024; i += 128)
    FN_PREFETCH_VEC((const char *)p + i);
}

/* ---- reading ---- */

/* The positions of a run in order, and a place among them. Reading on from where one
 * was costs nothing; going back begins again. */
typedef struct fn_positions {
  const fn_kernels *kernels;
  const unsigned char *bytes;
  const size_t *lengths;
  ptrdiff_t stride, position_stride;
  size_t element;
  bool weighted;       /* read by masked_weights.c: all positions, in any order */
  size_t lengths_step; /* 1, or 0 where all samples have the same length */
  size_t samples, positions;
  const uint64_t
      *words;        /* NULL, or see fn_mask: those of a sample, and from one sample */
  size_t words_step; /* to the next */
  size_t width;      /* adjacent elements of x at each position */
  ptrdiff_t x_stride, x_position_stride; /* elements */
  size_t index, sample, position;
} fn_positions;

/* A source of what takes part; of one thread, as reading moves its place. */
typedef struct fn_masked_source {
  fn_source source;
  fn_positions where;
} fn_masked_source;

/* Channel `channel`, and those that follow if they share its pattern. The samples of x
 * are x_stride apart, its positions x_position_stride. */
void fn_masked_begin(const fn_mask *m, const fn_formats *f, size_t channel,
                     ptrdiff_t x_stride, ptrdiff_t x_position_stride,
                     fn_masked_source *s);

/* The same of one sample alone. */
void fn_masked_begin_sample(const fn_mask *m, const fn_formats *f, size_t sample,
                            size_t channel, ptrdiff_t x_position_stride,
                            fn_masked_source *s);

/* The same source, or a copy of one with a place of its own. */
const fn_source *fn_masked_own(const fn_source *s, fn_masked_source *own);

/* n elements of x, `step` apart, in the working type. */
void fn_masked_gather(fastnorm_dtype working, const fn_source *s, const void *x,
                      ptrdiff_t step, size_t n, void *out);

/* n elements from element i on, of `width` at each position, position 0 of sample 0 of
 * which is at x. */
void fn_positions_gather(fastnorm_dtype working, const fn_source *s, const void *x,
                         size_t i, size_t n, size_t width, void *out);

/* The same of all of several runs from their beginning on, where the mask's bits are
 * there and x has the working type: false, and nothing done, elsewhere. */
bool fn_positions_pack(fastnorm_dtype working, const fn_runs *g, void *out);

/* Whether the elements of a run lie one after another in x, which has the working
 * type: then `in_place` is that run without a source. */
bool fn_positions_adjacent(fastnorm_dtype working, const fn_runs *g, fn_runs *in_place);

/* ---- weights ---- */

static inline bool fn_runs_are_weighted(const fn_runs *g) {
  return g->source && g->source->positions && g->source->positions->weighted;
}

/* What fn_runs_stats() and fn_slow_stats() give for such runs. With scratch, of
 * fn_channels_scratch(), all threads share one run. */
void fn_weighted_stats(fastnorm_dtype dtype, const fn_runs *g, double eps,
                       const fastnorm_exec *exec, double *scratch, fn_group_stats *s);
void fn_weighted_slow(fastnorm_dtype dtype, const fn_runs *g, double eps, fn_slow *s);

/* ---- writing ---- */

typedef struct fn_masked_output {
  const fn_mask *mask;
  const fn_formats *f;
  bool in_place;
} fn_masked_output;

/* Runs of one pattern that are taken at a time: a block of them fits a stage, and
 * threads share the others. Those of patterns of their own are taken one by one. */
#define FN_MASKED_RUNS 32

static inline size_t fn_masked_most(const fn_mask *m) {
  return fn_mask_is_shared(m) ? FN_MASKED_RUNS : 1;
}

/* g is one segment of all positions of a sample, of at most so many channels that share
 * the pattern of `channel`; out begins where g does. */
void fn_masked_apply_runs(const fn_masked_output *o, const fn_run_apply *a,
                          const fn_runs *g, const fn_output *out, size_t sample,
                          size_t channel);

/* t is rows of a table that are positions first.. of a sample, from column `channel`
 * on. */
typedef struct fn_masked_rows {
  size_t sample, first, channel;
} fn_masked_rows;

void fn_masked_apply_table(const fn_masked_output *o, const fn_kernels *k,
                           const fn_table *t, const fn_output *out,
                           const fn_column_stats *s, const fn_column_parameters *p,
                           const fn_masked_rows *at);

/* n elements that take no part, read at x and written at y. */
void fn_masked_fill(const fn_masked_output *o, const void *x, void *y, size_t n);

#endif
