/* channels.h - arrays [batch, channels, spatial]: what batch norm and moments share.
 * SPDX-License-Identifier: MIT */
#ifndef FN_CHANNELS_H
#define FN_CHANNELS_H

#include "columns.h"
#include "fastnorm.h"
#include "formats.h"
#include "masked.h"
#include "runs.h"

typedef struct fn_channels {
  const fn_kernels *kernels;
  fastnorm_dtype dtype;    /* the working type */
  const fn_source *source; /* NULL if x has it */
  size_t element;          /* bytes, of x */
  const void *x;
  size_t batch, channels, spatial;
  ptrdiff_t stride, channel_stride;
  double *scratch; /* NULL if there is too little */
  bool about_zero; /* statistics are not about the mean */
  const fastnorm_exec *exec;
} fn_channels;

/* From arguments, with strides filled in; batch is 0 if the array is empty. `exec`, and
 * `f`, which fn_formats_read() made of the types, must live as long. */
fastnorm_status fn_channels_read(const fastnorm_moments_args *args,
                                 const fastnorm_exec *exec, const fn_formats *f,
                                 fn_channels *a);

/* x from channel c of sample n on. */
const void *fn_channels_at(const fn_channels *a, size_t n, size_t c);

/* spatial == 1: columns of a table; everything else is runs. */
bool fn_channels_are_columns(const fn_channels *a);

/* Bytes of scratch with which all threads can share the statistics. */
size_t fn_channels_scratch(const fn_channels *a);

/* Columns [first, first + cols) as a table; their statistics, by all threads if there
 * is scratch for it. */
fn_table fn_channels_table(const fn_channels *a, size_t first, size_t cols);
void fn_channels_columns(const fn_channels *a, const fn_table *t, double eps,
                         fn_column_stats *s);

/* Channels as runs: how many to take at a time, and `rows` of them from `first`. */
size_t fn_channels_group(const fn_channels *a);
fn_runs fn_channels_runs(const fn_channels *a, size_t first, size_t rows);

/* Of `count` values that take part in each: channels as runs, whatever they are, and
 * columns of one pattern as a table. They read through s. */
fn_runs fn_channels_masked_runs(const fn_channels *a, const fn_mask *m,
                                const fn_formats *f, size_t first, size_t rows,
                                size_t count, fn_masked_source *s);
fn_table fn_channels_masked_table(const fn_channels *a, const fn_mask *m,
                                  const fn_formats *f, size_t first, size_t cols,
                                  size_t count, fn_masked_source *s);

/* Whether channels are so long that threads share each one (needs scratch), and the
 * statistics of a group of them in that case. */
bool fn_channels_are_long(const fn_channels *a);
void fn_channels_long(const fn_channels *a, const fn_runs *g, double eps,
                      fn_group_stats *s);

#endif
