/* moments.c - mean and sum of squared deviations per channel, and how to merge them.
 * SPDX-License-Identifier: MIT */
#include <math.h>

#include "channels.h"
#include "check.h"
#include "denormals.h"
#include "dispatch.h"
#include "sum.h"
#include "threads.h"

/* the size of the struct before `x_quantization` was added */
#define FIRST_SIZE offsetof(fastnorm_moments_args, x_quantization)

typedef struct moments_work {
  fn_channels a;
  fn_formats f;
  double *mean, *m2;
  size_t *count;       /* or NULL */
  double *weight;      /* or NULL */
  const fn_mask *mask; /* or NULL */
} moments_work;

static double scaled_m2(const fn_slow *slow, double n) {
  return fn_slow_var(slow) * n;
}

/* The weight of each of `channels` of one pattern, and `count` values, is returned. */
static double store_count(const moments_work *w, size_t first, size_t channels,
                          size_t count) {
  const double weight = w->mask && w->mask->weighted && count > 0
                            ? fn_mask_weight_all(w->mask, first)
                            : (double)count;
  for (size_t c = first; w->count && c < first + channels; c++)
    w->count[c] = count;
  for (size_t c = first; w->weight && c < first + channels; c++)
    w->weight[c] = weight;
  return weight;
}

/* Of runs of `count` elements each. */
static void store_runs(const moments_work *w, size_t first, size_t rows, size_t count,
                       const fn_group_stats *s) {
  const double n = store_count(w, first, rows, count);
  const fastnorm_dtype dtype = w->a.dtype;
  for (size_t r = 0; r < rows; r++) {
    const bool slow = s->any_slow && s->is_slow[r];
    w->mean[first + r] = slow ? fn_slow_mean(&s->slow[r])
                              : fn_get(dtype, &s->hi, r) + fn_get(dtype, &s->lo, r);
    w->m2[first + r] = slow ? scaled_m2(&s->slow[r], n) : s->var[r] * n;
  }
}

static void group_task(void *context, size_t index) {
  const moments_work *w = context;
  const fn_channels *a = &w->a;
  const size_t group = fn_channels_group(a), first = index * group;
  const fn_runs g = fn_channels_runs(
      a, first, a->channels - first < group ? a->channels - first : group);
  fn_group_stats s;
  fn_runs_stats(a->kernels, a->dtype, &g, 0.0, true, &s);
  store_runs(w, first, g.rows, a->batch * a->spatial, &s);
}

static void long_channels(const moments_work *w) {
  for (size_t c = 0; c < w->a.channels; c++) {
    const fn_runs g = fn_channels_runs(&w->a, c, 1);
    fn_group_stats s;
    fn_channels_long(&w->a, &g, 0.0, &s);
    store_runs(w, c, 1, w->a.batch * w->a.spatial, &s);
  }
}

static void store_nothing(const moments_work *w, size_t first, size_t channels) {
  for (size_t c = first; c < first + channels; c++)
    w->mean[c] = w->m2[c] = 0.0;
  store_count(w, first, channels, 0);
}

/* Channels that share a pattern, or one with its own; columns that are weighted. */
static size_t masked_group(const moments_work *w) {
  if (!fn_mask_is_shared(w->mask) || fn_channels_are_columns(&w->a))
    return fn_masked_most(w->mask);
  return fn_channels_group(&w->a);
}

static void masked_task(void *context, size_t index) {
  const moments_work *w = context;
  const fn_channels *a = &w->a;
  const size_t group = masked_group(w), first = index * group;
  const size_t rows = a->channels - first < group ? a->channels - first : group;
  const size_t count = fn_mask_count_all(w->mask, first);
  fn_masked_source source;
  fn_group_stats s;
  if (count == 0) {
    store_nothing(w, first, rows);
    return;
  }
  const fn_runs g =
      fn_channels_masked_runs(a, w->mask, &w->f, first, rows, count, &source);
  fn_runs_stats(a->kernels, a->dtype, &g, 0.0, true, &s);
  store_runs(w, first, rows, count, &s);
}

static void columns(const moments_work *w) {
  const fn_channels *a = &w->a;
  const size_t count = w->mask ? fn_mask_count_all(w->mask, 0) : a->batch;
  for (size_t first = 0; first < a->channels; first += FN_COLUMNS) {
    const size_t left = a->channels - first;
    const size_t cols = left < FN_COLUMNS ? left : FN_COLUMNS;
    fn_masked_source source;
    if (count == 0) {
      store_nothing(w, first, cols);
      continue;
    }
    const fn_table t = w->mask ? fn_channels_masked_table(a, w->mask, &w->f, first,
                                                          cols, count, &source)
                               : fn_channels_table(a, first, cols);
    fn_column_stats s;
    fn_channels_columns(a, &t, 0.0, &s);
    for (size_t c = 0; c < t.cols; c++) {
      fn_column_result column;
      fn_column_moments(a->dtype, &t, 0.0, true, &s, c, &column);
      w->mean[first + c] = column.mean;
      w->m2[first + c] = column.var * (double)t.rows;
    }
    store_count(w, first, cols, count);
  }
}

static fastnorm_status read_channels(const fastnorm_moments_args *args, fn_formats *f,
                                     fn_channels *a) {
  const fastnorm_format format = {.x_quantization = args->x_quantization};
  const fastnorm_epilogue none = {.activation = FASTNORM_IDENTITY};
  const fastnorm_status s = fn_formats_read(args->dtype, &format, &none, f);
  return s == FASTNORM_OK ? fn_channels_read(args, &args->exec, f, a) : s;
}

static void run(const moments_work *w) {
  const fn_channels *a = &w->a;
  const size_t bytes = a->batch * a->channels * a->spatial * a->element;
  const bool packs = !w->mask || (fn_mask_is_shared(w->mask) && !w->mask->weighted);
  if (fn_channels_are_columns(a) && packs) {
    columns(w);
  } else if (w->mask) {
    const size_t group = masked_group(w);
    fn_parallel_for(a->exec, (a->channels + group - 1) / group, bytes, masked_task,
                    (void *)w);
  } else if (fn_channels_are_long(a) && a->scratch) {
    long_channels(w);
  } else {
    const size_t group = fn_channels_group(a);
    fn_parallel_for(a->exec, (a->channels + group - 1) / group, bytes, group_task,
                    (void *)w);
  }
}

fastnorm_status fastnorm_moments(const fastnorm_moments_args *callers) {
  fastnorm_moments_args args;
  moments_work w;
  fn_mask mask;
  fn_mask_survey found = {.all = true};
  fn_array mask_array = {.p = NULL};
  fastnorm_status s = fn_read_args(&args, sizeof(args), FIRST_SIZE, callers);
  if (s == FASTNORM_OK)
    s = read_channels(&args, &w.f, &w.a);
  if (s != FASTNORM_OK || w.a.batch == 0)
    return s;
  const bool masked = fn_mask_is_given(&args.mask);
  if (masked)
    s = fn_mask_read(&args.mask, args.batch, args.channels, args.spatial, &mask,
                     &mask_array);
  if (s != FASTNORM_OK)
    return s;
  const size_t n = args.channels, wide = sizeof(double);
  const fn_array arrays[] = {
      {args.x,
       {args.batch, n, args.spatial},
       {w.a.stride, w.a.channel_stride, 1},
       w.a.element,
       FN_INPUT,
       true},
      {args.mean, {1, 1, n}, {0, 0, 1}, wide, FN_OUTPUT, true},
      {args.m2, {1, 1, n}, {0, 0, 1}, wide, FN_OUTPUT, true},
      {args.count, {1, 1, n}, {0, 0, 1}, sizeof(size_t), FN_OUTPUT, false},
      {args.weight, {1, 1, n}, {0, 0, 1}, wide, FN_OUTPUT, false},
      fn_scratch_array(args.scratch, args.scratch_size, fn_channels_scratch(&w.a)),
      mask_array,
  };
  s = fn_check_arrays(arrays, mask_array.p ? 7 : 6);
  if (s == FASTNORM_OK && masked)
    s = fn_mask_look(&mask, false, &found);
  if (s != FASTNORM_OK)
    return s;
  w.a.kernels = fn_dispatch(w.f.working);
  if (!w.a.kernels)
    return FASTNORM_ERROR_ISA;
  if (args.exec.check_only)
    return FASTNORM_OK;
  w.f.source.kernels = w.a.kernels;
  w.mean = args.mean, w.m2 = args.m2, w.count = args.count, w.weight = args.weight;
  w.mask = found.all ? NULL : &mask;
  w.a.scratch = (double *)arrays[5].p;
  const fn_denormals before = fn_denormals_begin(&args.exec);
  run(&w);
  fn_denormals_end(&before);
  return FASTNORM_OK;
}

size_t fastnorm_moments_scratch(const fastnorm_moments_args *callers) {
  fastnorm_moments_args args;
  fn_formats f;
  fn_channels a;
  if (fn_read_args(&args, sizeof(args), FIRST_SIZE, callers) != FASTNORM_OK)
    return 0;
  return read_channels(&args, &f, &a) == FASTNORM_OK ? fn_channels_scratch(&a) : 0;
}

fastnorm_status fastnorm_moments_merge(size_t channels, uint64_t *count, double *mean,
                                       double *m2, uint64_t other_count,
                                       const double *other_mean,
                                       const double *other_m2) {
  const size_t shape[3] = {1, 1, channels}, wide = sizeof(double);
  const bool some = channels > 0, itself = mean == other_mean && m2 == other_m2;
  const fn_array arrays[] = {
      {count, {1, 1, 1}, {0, 0, 1}, sizeof(*count), FN_OUTPUT, true},
      {some ? mean : NULL, {1, 1, channels}, {0, 0, 1}, wide, FN_OUTPUT, some},
      {some ? m2 : NULL, {1, 1, channels}, {0, 0, 1}, wide, FN_OUTPUT, some},
      {some ? other_mean : NULL, {1, 1, channels}, {0, 0, 1}, wide, FN_INPUT, some},
      {some ? other_m2 : NULL, {1, 1, channels}, {0, 0, 1}, wide, FN_INPUT, some},
  };
  size_t total;
  if (!fn_count(shape, wide, &total))
    return FASTNORM_ERROR_SHAPE;
  const fastnorm_status s = fn_check_arrays(arrays, some && itself ? 3 : 5);
  if (s != FASTNORM_OK)
    return s;
  if (other_count > UINT64_MAX - *count)
    return FASTNORM_ERROR_SHAPE;
  if (other_count == 0)
    return FASTNORM_OK;
  const double a = (double)*count, b = (double)other_count, n = a + b;
  for (size_t c = 0; c < channels; c++) {
    if (*count == 0) {
      mean[c] = other_mean[c];
      m2[c] = other_m2[c];
      continue;
    }
    const double delta = other_mean[c] - mean[c];
    if (!isfinite(delta)) /* one is infinite, or two are this far apart */
      mean[c] = mean[c] * (a / n) + other_mean[c] * (b / n);
    else /* from the larger set, so that one sample more or less moves it by little */
      mean[c] = b <= a ? mean[c] + delta * (b / n) : other_mean[c] - delta * (a / n);
    m2[c] = m2[c] + other_m2[c] + delta * delta * (a * (b / n));
  }
  *count += other_count;
  return FASTNORM_OK;
}
