/* samples.c - groups of channels within each sample: arguments and pieces.
 * SPDX-License-Identifier: MIT */
#include "samples.h"

#include "dispatch.h"
#include "threads.h"

#define PIECE_BYTES    131072
#define RUNNING_GROUPS 32

static fastnorm_status check_arrays(const fastnorm_group_norm_args *a,
                                    const fn_array *running, const fn_samples_work *w) {
  const size_t n = w->channels, params = fn_dtype_size(w->f.params);
  const size_t stats = fn_dtype_size(w->dtype);
  const ptrdiff_t groups = (ptrdiff_t)w->groups;
  const size_t middle = w->channels_last ? w->spatial : n;
  const size_t last = w->channels_last ? n : w->spatial;
  size_t count = 0;
  fn_array all[12];
#define ADD(p, a, b, c, sa, sb, element, use, needed)                                  \
  all[count++] = (fn_array){p, {a, b, c}, {sa, sb, 1}, element, use, needed}
  ADD(a->y, w->batch, middle, last, w->y_stride, w->y_channel_stride, w->f.sink.element,
      FN_IN_PLACE, true);
  ADD(a->x, w->batch, middle, last, w->x_stride, w->x_channel_stride,
      w->f.source.element, FN_INPUT, true);
  ADD(a->weight, 1, 1, n, 0, 0, params, FN_INPUT, false);
  ADD(a->bias, 1, 1, n, 0, 0, params, FN_INPUT, false);
  ADD(a->mean, 1, w->batch, w->groups, 0, groups, stats, FN_OUTPUT, false);
  ADD(a->rstd, 1, w->batch, w->groups, 0, groups, stats, FN_OUTPUT, false);
  ADD(a->epilogue.post_add, w->batch, middle, last, w->post_add_stride,
      w->post_add_channel_stride, fn_dtype_size(w->f.post_add), FN_INPUT, false);
  ADD(a->stored_mean, 1, w->batch, w->groups, 0, groups, stats, FN_INPUT, false);
  ADD(a->stored_var, 1, w->batch, w->groups, 0, groups, stats, FN_INPUT, false);
#undef ADD
  for (int i = 0; running && i < 2; i++) {
    all[count] = running[i];
    all[count++].element = params;
  }
  if (w->mask_array.p)
    all[count++] = w->mask_array;
  return fn_check_arrays(all, count);
}

static void fill(const fastnorm_group_norm_args *a, fn_samples_work *w) {
  const fastnorm_epilogue *e = &a->epilogue;
  const size_t sample = a->channels * a->spatial;
  w->dtype = w->f.working;
  w->batch = a->batch;
  w->channels = a->channels;
  w->spatial = a->spatial;
  w->groups = a->groups;
  w->channels_last = a->channels_last != 0;
  const size_t row = w->channels_last ? a->channels : a->spatial;
  const size_t lines = w->channels_last ? a->spatial : a->channels;
  w->x_stride = fn_stride(a->x_stride, a->batch, sample);
  w->y_stride = fn_stride(a->y_stride, a->batch, sample);
  w->post_add_stride = fn_stride(e->post_add_stride, a->batch, sample);
  w->x_channel_stride = fn_stride(a->x_channel_stride, lines, row);
  w->y_channel_stride = fn_stride(a->y_channel_stride, lines, row);
  w->post_add_channel_stride = fn_stride(e->post_add_channel_stride, lines, row);
  w->x = a->x;
  w->y = a->y;
  w->mean = a->mean;
  w->rstd = a->rstd;
  w->post_add = e->post_add;
  w->stored_mean = a->stored_mean;
  w->stored_var = a->stored_var;
  w->weight = fn_vector_of(a->weight, w->f.params);
  w->bias = fn_vector_of(a->bias, w->f.params);
  w->running_mean = w->running_var = fn_vector_of(NULL, w->f.params);
  w->use_running = false;
  w->far = a->batch * sample * w->f.source.element >= FN_STREAM_BYTES;
  w->stream = a->batch * sample * w->f.sink.element >= FN_STREAM_BYTES && a->x != a->y;
}

static fastnorm_status read_mask(const fastnorm_group_norm_args *a,
                                 fn_samples_work *w) {
  fn_mask *m = &w->mask;
  fn_array *array = &w->mask_array;
  if (!w->is_masked)
    return FASTNORM_OK;
  const fastnorm_status s =
      fn_mask_read(&a->mask, a->batch, a->channels, a->spatial, m, array);
  if (s == FASTNORM_OK && m->bytes && a->spatial == 1) {
    m->samples = a->batch; /* not a table, as it is for batch norm */
    m->positions = 1;
  }
  return s == FASTNORM_OK && m->positions != a->spatial ? FASTNORM_ERROR_MASK : s;
}

static fastnorm_status look_at_mask(fn_samples_work *w, bool *single) {
  fn_mask_survey found;
  if (!w->is_masked)
    return FASTNORM_OK;
  const fastnorm_status s = fn_mask_look(&w->mask, true, &found);
  w->is_masked = !found.all;
  w->most = found.most;
  *single = found.single;
  return s;
}

fastnorm_status fn_samples_check(const fastnorm_group_norm_args *a,
                                 const fn_array *running, fn_samples_work *w,
                                 bool *single) {
  const size_t shape[3] = {a->batch, a->channels, a->spatial};
  size_t count;
  w->batch = 0;
  w->is_masked = fn_mask_is_given(&a->mask);
  w->mask_array.p = NULL;
  *single = a->spatial == 1;
  fastnorm_status s = fn_formats_read(a->dtype, &a->format, &a->epilogue, &w->f);
  if (s == FASTNORM_OK)
    s = fn_read_eps(a->eps, 1e-5, &w->eps);
  if (s != FASTNORM_OK)
    return s;
  if (a->exec.num_threads < 0)
    return FASTNORM_ERROR_THREADS;
  if (a->groups == 0 || a->channels % a->groups != 0)
    return FASTNORM_ERROR_GROUPS;
  if (!a->stored_mean != !a->stored_var)
    return FASTNORM_ERROR_COMBINATION;
  const size_t x = w->f.source.element, y = w->f.sink.element;
  if (!fn_count(shape, x > y ? x : y, &count))
    return FASTNORM_ERROR_SHAPE;
  if (count == 0)
    return FASTNORM_OK;
  fill(a, w);
  s = read_mask(a, w);
  if (s == FASTNORM_OK)
    s = check_arrays(a, running, w);
  if (s == FASTNORM_OK)
    s = look_at_mask(w, single);
  if (s == FASTNORM_OK && !(w->kernels = fn_dispatch(w->dtype)))
    s = FASTNORM_ERROR_ISA;
  if (s != FASTNORM_OK) {
    w->batch = 0;
    return s;
  }
  w->f.source.kernels = w->f.sink.kernels = w->kernels;
  w->apart = w->f.source;
  w->apart.piece = w->spatial;
  w->apart.piece_stride = w->x_channel_stride;
  return FASTNORM_OK;
}

void fn_samples_report(const fn_samples_work *w, size_t i, double mean, double rstd) {
  if (w->mean)
    fn_set(w->dtype, w->mean, i, mean);
  if (w->rstd)
    fn_set(w->dtype, w->rstd, i, rstd);
}

bool fn_samples_given(const fn_samples_work *w) {
  return w->stored_mean || w->use_running;
}

void fn_samples_stored(const fn_samples_work *w, size_t sample, size_t first, size_t n,
                       double *mean, double *var) {
  fn_column_array room;
  const fn_vector stored[2] = {fn_vector_of(w->stored_mean, w->dtype),
                               fn_vector_of(w->stored_var, w->dtype)};
  const fn_vector *v[2] = {w->use_running ? &w->running_mean : &stored[0],
                           w->use_running ? &w->running_var : &stored[1]};
  const size_t at = w->use_running ? first : sample * w->groups + first;
  for (int k = 0; k < 2; k++) {
    double *to = k == 0 ? mean : var;
    const void *p = fn_vector_read(w->kernels, w->dtype, v[k], at, n, &room);
    for (size_t i = 0; i < n; i++)
      to[i] = fn_get(w->dtype, p, i);
  }
}

/* Groups of a sample that make a piece: some that the second-level cache holds. With
 * channels last as many channels as a block of columns may have, or one group. */
static size_t piece_groups(const fn_samples_work *w) {
  const size_t channels = w->channels / w->groups;
  if (w->is_masked && !fn_mask_is_shared(&w->mask))
    return 1;
  if (w->channels_last) {
    const size_t fit = fn_column_block(w->spatial, w->channels, w->dtype) / channels;
    return fit < 1 ? 1 : fit;
  }
  const size_t bytes = channels * w->spatial * fn_dtype_size(w->dtype);
  const size_t fit = PIECE_BYTES / bytes;
  return fit < 1 ? 1 : fit > FN_GROUP ? FN_GROUP : fit;
}

static void piece(const fn_samples_work *w, size_t sample, size_t first, size_t n,
                  fn_sample_sums *sums) {
  if (w->channels_last)
    fn_samples_columns(w, sample, first, n, sums);
  else
    fn_samples_runs(w, sample, first, n, sums);
}

static void sample_task(void *context, size_t index) {
  const fn_samples_work *w = context;
  const size_t some = piece_groups(w), pieces = (w->groups + some - 1) / some;
  const size_t first = index % pieces * some;
  piece(w, index / pieces, first, w->groups - first < some ? w->groups - first : some,
        NULL);
}

/* The variance comes unbiased, but for the factor that one of the largest count would
 * have; so where all counts are the same all weights are one. */
void fn_samples_sum(const fn_samples_work *w, fn_sample_sums *sums, size_t i,
                    double count, double mean, double var) {
  const double most = w->is_masked ? w->most : count, weight = count / most;
  fn_samples_add(&sums->mean[i], mean, weight);
  fn_samples_add(&sums->var[i], var,
                 weight * (fn_mask_unbias(count) / fn_mask_unbias(most)));
  sums->weight[i] += weight;
}

/* Running statistics take in the mean over the batch of the means and of the unbiased
 * variances of the instances, as PyTorch has it. */
static void update(const fn_samples_work *w, size_t first, size_t n,
                   const fn_sample_sums *sums) {
  const double values = w->is_masked ? w->most : (double)w->spatial;
  const double factor = w->momentum;
  const struct {
    const fn_vector *running;
    const fn_wide_sum *sum;
    double by;
  } both[2] = {{&w->running_mean, sums->mean, 1.0},
               {&w->running_var, sums->var, fn_mask_unbias(values)}};
  for (int k = 0; k < 2; k++) {
    fn_column_array room;
    const void *old =
        fn_vector_read(w->kernels, w->dtype, both[k].running, first, n, &room);
    for (size_t i = 0; i < n; i++)
      fn_set(w->dtype, &room, i,
             sums->weight[i] <= 0.0
                 ? fn_get(w->dtype, old, i) /* no sample had anything */
                 : (1.0 - factor) * fn_get(w->dtype, old, i) +
                       factor * (fn_samples_mean(&both[k].sum[i], sums->weight[i]) *
                                 both[k].by));
    fn_vector_write(w->kernels, both[k].running, first, n, &room);
  }
}

/* With running statistics a piece is of all samples: fewer groups, for many threads. */
static size_t running_groups(const fn_samples_work *w) {
  const size_t fit = piece_groups(w);
  return w->channels_last || fit < RUNNING_GROUPS ? fit : RUNNING_GROUPS;
}

static void channels_task(void *context, size_t index) {
  const fn_samples_work *w = context;
  const size_t some = running_groups(w), first = index * some;
  const size_t n = w->groups - first < some ? w->groups - first : some;
  fn_sample_sums sums = {.mean = {{0.0, 0.0}}};
  for (size_t sample = 0; sample < w->batch; sample++)
    piece(w, sample, first, n, &sums);
  update(w, first, n, &sums);
}

void fn_samples_run(const fn_samples_work *w, const fastnorm_exec *exec) {
  if (exec->check_only)
    return;
  const bool all_samples = w->running_mean.p && !w->use_running;
  const size_t some = all_samples ? running_groups(w) : piece_groups(w);
  const size_t pieces = (w->groups + some - 1) / some;
  const size_t bytes =
      w->batch * w->channels * w->spatial * (w->f.source.element + w->f.sink.element);
  if (all_samples)
    fn_parallel_for(exec, pieces, bytes, channels_task, (void *)w);
  else
    fn_parallel_for(exec, w->batch * pieces, bytes, sample_task, (void *)w);
}
