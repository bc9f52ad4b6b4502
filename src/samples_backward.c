/* samples_backward.c - gradients of norms of channels: from arguments to pieces.
 * SPDX-License-Identifier: MIT
 *
 * Statistics are over the batch, or of each sample. In the second case the gradients of
 * weight and bias are sums over samples, added in their order: from scratch, where all
 * samples have left theirs, or, without it, by pieces that are some channels of all
 * samples. */
#include "samples_backward.h"

#include <string.h>

#include "check.h"
#include "denormals.h"
#include "dispatch.h"
#include "threads.h"

#define PIECE_BYTES 262144
#define GROUP_BYTES 131072
#define LONG_BYTES  1048576 /* a channel that no core's own cache keeps */

/* Gradients of batch norm are streamed sooner than other results: their y is written in
 * many places at once, which is slow where it must be read first, and g and x take room
 * in the caches too. y of 6 MiB, from caches and from memory: [32, 256, 14, 14] 520 ->
 * 410 and 950 -> 800 us, [6272, 256] 770 -> 690 and 1270 -> 1170; no slower with a
 * reader of y behind it (AMD EPYC Zen 5, avx512). So are those of samples with channels
 * last: [32, 14, 14, 256] called again and again 1410 -> 920, between a step that
 * writes g and one that reads y 2300 -> 1990, with x from memory 2060 -> 1930 (Zen 4,
 * avx512). With channels first, where pieces are whole stretches of memory, that gains
 * on Zen 4 (683 -> 618, 1570 -> 1380, 1310 -> 1240) and loses on Zen 5 (835 -> 957,
 * with x from memory). */
#define STREAM_EARLY (FN_STREAM_BYTES / 4 * 3)

/* ---- arguments ---- */

static fastnorm_status read_formats(const fn_backward_call *c, fn_formats *f) {
  const fastnorm_epilogue none = {.activation = FASTNORM_IDENTITY};
  const fastnorm_status s = fn_formats_read(c->dtype, c->format, &none, f);
  if (s == FASTNORM_OK && (fn_dtype_size(f->x) == 1 || fn_dtype_size(f->y) == 1))
    return FASTNORM_ERROR_DTYPE;
  return s;
}

static void fill(const fn_backward_call *c, fn_backward *w) {
  const size_t sample = c->channels * c->spatial;
  const bool last = c->channels_last && c->by_sample;
  const size_t row = last ? c->channels : c->spatial;
  const size_t lines = last ? c->spatial : c->channels;
  const bool needs_x = c->statistics != FN_FIXED || c->grad_weight;
  w->dtype = w->f.working;
  w->statistics = c->statistics;
  w->g = c->g;
  w->x = needs_x ? c->x : c->g;
  w->y = c->y;
  w->batch = c->batch;
  w->channels = c->channels;
  w->spatial = c->spatial;
  w->per = c->by_sample && c->groups ? c->channels / c->groups : 1;
  w->channels_last = c->by_sample ? c->channels_last : c->spatial == 1;
  w->g_stride = fn_stride(c->stride[0], c->batch, sample);
  w->x_stride = needs_x ? fn_stride(c->stride[1], c->batch, sample) : w->g_stride;
  w->y_stride = fn_stride(c->stride[2], c->batch, sample);
  w->g_channel_stride = fn_stride(c->channel_stride[0], lines, row);
  w->x_channel_stride =
      needs_x ? fn_stride(c->channel_stride[1], lines, row) : w->g_channel_stride;
  w->y_channel_stride = fn_stride(c->channel_stride[2], lines, row);
  w->weight = fn_vector_of(c->weight, w->f.params);
  w->mean = c->mean;
  w->rstd = c->rstd;
  w->norm = c->norm;
  w->r = c->r;
  w->d = c->d;
  w->grad_weight = c->grad_weight;
  w->grad_bias = c->grad_bias;
  w->sums = c->grad_weight || c->grad_bias || (c->y && c->statistics != FN_FIXED);
  w->stream =
      c->batch * sample * w->f.sink.element >=
          (c->by_sample && !c->channels_last ? FN_STREAM_BYTES : STREAM_EARLY) &&
      c->y != c->g && c->y != c->x;
  w->exec = c->exec;
}

/* A table's channels are adjacent, as in the forward pass. */
static bool strides_are_good(const fn_backward_call *c, const fn_backward *w) {
  return c->by_sample || c->spatial != 1 || c->channels == 1 ||
         (w->g_channel_stride == 1 && w->x_channel_stride == 1 &&
          (!c->y || w->y_channel_stride == 1));
}

static fastnorm_status check_arrays(const fn_backward_call *c, const fn_array *scratch,
                                    const fn_backward *w, bool empty) {
  const size_t n = c->channels, stats = fn_dtype_size(w->dtype);
  const size_t params = fn_dtype_size(w->f.params), element = w->f.source.element;
  const bool last = c->by_sample && c->channels_last;
  const size_t middle = last ? c->spatial : n, inner = last ? n : c->spatial;
  const size_t batch = c->by_sample ? c->batch : 1;
  const size_t groups = c->by_sample ? c->groups : n;
  const bool needs_mean = c->statistics == FN_FIXED && c->grad_weight;
  size_t count = 0;
  fn_array all[FN_MOST_ARRAYS];
#define ADD(p, a, b, c, sa, sb, element, use, needed)                                  \
  all[count++] = (fn_array){p, {a, b, c}, {sa, sb, 1}, element, use, needed}
  ADD(c->grad_weight, 1, 1, n, 0, 0, stats, FN_OUTPUT, false);
  ADD(c->grad_bias, 1, 1, n, 0, 0, stats, FN_OUTPUT, false);
  if (!empty) { /* what y may be comes after it */
    ADD(c->y, c->batch, middle, inner, w->y_stride, w->y_channel_stride,
        w->f.sink.element, FN_IN_PLACE, false);
    const fn_array g = {c->g,
                        {c->batch, middle, inner},
                        {w->g_stride, w->g_channel_stride, 1},
                        element,
                        FN_INPUT,
                        true};
    const fn_array x = {w->x == c->g ? c->g : c->x,
                        {c->batch, middle, inner},
                        {w->x_stride, w->x_channel_stride, 1},
                        element,
                        FN_INPUT,
                        true};
    const bool is_x = c->y && c->y == x.p && c->y != c->g;
    all[count++] = is_x ? x : g;
    if (x.p != c->g || w->x_stride != w->g_stride ||
        w->x_channel_stride != w->g_channel_stride)
      all[count++] = is_x ? g : x;
    ADD(c->mean, 1, batch, groups, 0, (ptrdiff_t)groups, stats, FN_INPUT, needs_mean);
    ADD(c->rstd, 1, batch, groups, 0, (ptrdiff_t)groups, stats, FN_INPUT,
        c->statistics == FN_FIXED);
    ADD(c->weight, 1, 1, n, 0, 0, params, FN_INPUT, false);
    ADD(c->norm, 1, 1, n, 0, 0, stats, FN_INPUT, false);
    ADD(c->r, 1, 1, n, 0, 0, stats, FN_INPUT, false);
    ADD(c->d, 1, 1, n, 0, 0, stats, FN_INPUT, false);
    all[count++] = *scratch;
  }
#undef ADD
  return fn_check_arrays(all, count);
}

/* All but scratch and kernels; *count is that of the elements. */
static fastnorm_status read_call(const fn_backward_call *c, fn_backward *w,
                                 size_t *count) {
  const size_t shape[3] = {c->batch, c->channels, c->spatial};
  fastnorm_status s = read_formats(c, &w->f);
  if (s == FASTNORM_OK)
    s = fn_read_eps(c->eps, 1e-5, &w->eps);
  if (s != FASTNORM_OK)
    return s;
  if (c->exec->num_threads < 0)
    return FASTNORM_ERROR_THREADS;
  if (c->by_sample && (c->groups == 0 || c->channels % c->groups != 0))
    return FASTNORM_ERROR_GROUPS;
  if (c->statistics == FN_OF_X && !c->mean != !c->rstd)
    return FASTNORM_ERROR_COMBINATION;
  const size_t x = w->f.source.element, y = w->f.sink.element;
  if (!fn_count(shape, x > y ? x : y, count))
    return FASTNORM_ERROR_SHAPE;
  fill(c, w);
  return strides_are_good(c, w) ? FASTNORM_OK : FASTNORM_ERROR_STRIDE;
}

/* ---- statistics over the batch ---- */

static size_t channel_bytes(const fn_backward *w) {
  return w->batch * w->spatial * fn_dtype_size(w->dtype);
}

static double whole(double value, double huge) {
  return huge < 0.0 || huge > 0.0 || huge != huge ? value + huge * 0x1p100 : value;
}

/* Channels [first, first + n): gradients of weight and bias go to the caller. */
static void batch_piece(const fn_backward *w, size_t first, size_t n, bool shared) {
  fn_part weight[FN_COLUMNS], bias[FN_COLUMNS];
  const fn_view v = fn_view_of(w, FN_ALL_SAMPLES, first, n);
  const fn_channel_gradients to = {.to = n, .weight = weight, .bias = bias};
  if (shared)
    fn_view_backward_shared(w, &v, &to);
  else
    fn_view_backward(w, &v, &to);
  for (size_t i = 0; i < n; i++) {
    if (w->grad_weight)
      fn_set(w->dtype, w->grad_weight, first + i,
             whole(weight[i].value, weight[i].huge));
    if (w->grad_bias)
      fn_set(w->dtype, w->grad_bias, first + i, whole(bias[i].value, bias[i].huge));
  }
}

static size_t batch_group(const fn_backward *w) {
  const size_t fit = GROUP_BYTES / channel_bytes(w);
  return fit < 1 ? 1 : fit > FN_GROUP ? FN_GROUP : fit;
}

static void batch_task(void *context, size_t index) {
  const fn_backward *w = context;
  const size_t group = batch_group(w), first = index * group;
  const size_t left = w->channels - first;
  batch_piece(w, first, left < group ? left : group, false);
}

/* Channels that threads share, and how many at a time. */
static size_t shared_channels(const fn_backward *w) {
  if (w->channels_last)
    return w->channels < FN_COLUMNS ? w->channels : FN_COLUMNS;
  return channel_bytes(w) > LONG_BYTES ? 1 : 0;
}

static size_t bytes_of(const fn_backward *w) {
  return w->batch * w->channels * w->spatial *
         (2 * w->f.source.element + w->f.sink.element);
}

static void run_batch(fn_backward *w) {
  const size_t some = shared_channels(w), group = batch_group(w);
  if (some > 0 && (w->channels_last || w->scratch)) {
    for (size_t c = 0; c < w->channels; c += some)
      batch_piece(w, c, w->channels - c < some ? w->channels - c : some, true);
    return;
  }
  fn_parallel_for(w->exec, (w->channels + group - 1) / group, bytes_of(w), batch_task,
                  w);
}

/* ---- statistics of each sample ---- */

/* Groups that make a piece of a sample: some that the second-level cache holds; with
 * channels last as many as a block of columns has room for. */
static size_t sample_groups(const fn_backward *w) {
  const size_t groups = w->channels / w->per;
  const size_t bytes = w->per * w->spatial * fn_dtype_size(w->dtype);
  size_t fit = w->channels_last
                   ? fn_column_block(w->spatial, w->channels, w->dtype) / w->per
                   : PIECE_BYTES / bytes;
  if (fit * w->per > FN_COLUMNS)
    fit = FN_COLUMNS / w->per;
  return fit < 1 ? 1 : fit > groups ? groups : fit;
}

static size_t sample_pieces(const fn_backward *w) {
  const size_t some = sample_groups(w), groups = w->channels / w->per;
  return (groups + some - 1) / some;
}

/* Piece number `piece` of a sample. */
static fn_view sample_view(const fn_backward *w, size_t sample, size_t piece) {
  const size_t some = sample_groups(w) * w->per, first = piece * some;
  const size_t left = w->channels - first;
  return fn_view_of(w, sample, first, left < some ? left : some);
}

static void sample_task(void *context, size_t index) {
  const fn_backward *w = context;
  const size_t pieces = sample_pieces(w), sample = index / pieces;
  const fn_view v = sample_view(w, sample, index % pieces);
  if (!w->scratch) {
    fn_view_backward(w, &v, NULL);
    return;
  }
  fn_part *weight = (fn_part *)w->scratch + 2 * sample * w->channels + v.first;
  const fn_channel_gradients to = {
      .to = v.g.rows, .weight = weight, .bias = weight + w->channels};
  fn_view_backward(w, &v, &to);
}

/* Sums over samples of the gradients of some channels' weights and biases: those of a
 * few samples are added plainly, and then to what is compensated. */
#define CHAIN 8
typedef struct wide_sum {
  double few;
  fn_sum value, huge;
} wide_sum;
typedef struct sample_sums {
  wide_sum weight[FN_COLUMNS], bias[FN_COLUMNS];
} sample_sums;

static void begin_sums(size_t n, sample_sums *s) {
  memset(s->weight, 0, n * sizeof(wide_sum));
  memset(s->bias, 0, n * sizeof(wide_sum));
}

static void add_part(wide_sum *s, const fn_part *x, bool ends) {
  s->few += x->value;
  if (x->huge < 0.0 || x->huge > 0.0 || x->huge != x->huge)
    fn_sum_add(&s->huge, x->huge);
  if (ends) {
    fn_sum_add(&s->value, s->few);
    s->few = 0.0;
  }
}

static void add_sample(const fn_backward *w, size_t sample, const fn_part *weight,
                       const fn_part *bias, size_t n, sample_sums *s) {
  const bool ends = sample % CHAIN == CHAIN - 1 || sample + 1 == w->batch;
  for (size_t i = 0; i < n; i++) {
    add_part(&s->weight[i], &weight[i], ends);
    add_part(&s->bias[i], &bias[i], ends);
  }
}

static double sum_of(const wide_sum *s) {
  return whole(fn_sum_value(&s->value), fn_sum_value(&s->huge));
}

static void store_sums(const fn_backward *w, size_t first, size_t n,
                       const sample_sums *s) {
  for (size_t i = 0; i < n; i++) {
    if (w->grad_weight)
      fn_set(w->dtype, w->grad_weight, first + i, sum_of(&s->weight[i]));
    if (w->grad_bias)
      fn_set(w->dtype, w->grad_bias, first + i, sum_of(&s->bias[i]));
  }
}

static void add_from_scratch(const fn_backward *w) {
  for (size_t c = 0; c < w->channels; c += FN_COLUMNS) {
    const size_t left = w->channels - c, n = left < FN_COLUMNS ? left : FN_COLUMNS;
    sample_sums s;
    begin_sums(n, &s);
    for (size_t sample = 0; sample < w->batch; sample++) {
      const fn_part *weight =
          (const fn_part *)w->scratch + 2 * sample * w->channels + c;
      add_sample(w, sample, weight, weight + w->channels, n, &s);
    }
    store_sums(w, c, n, &s);
  }
}

/* A piece of all samples. The groups of a view with more channels than there is room
 * for are gone through for some of the channels at a time, and then for y. */
static void channels_task(void *context, size_t piece) {
  const fn_backward *w = context;
  const size_t n = sample_view(w, 0, piece).g.rows, most = FN_COLUMNS;
  fn_part weight[FN_COLUMNS], bias[FN_COLUMNS];
  for (size_t c = 0; c < n; c += most) {
    const size_t some = n - c < most ? n - c : most;
    const fn_channel_gradients to = {
        .from = c, .to = c + some, .weight = weight, .bias = bias};
    sample_sums s;
    begin_sums(some, &s);
    for (size_t sample = 0; sample < w->batch; sample++) {
      fn_view v = sample_view(w, sample, piece);
      if (n > most)
        v.y.y = NULL;
      fn_view_backward(w, &v, &to);
      add_sample(w, sample, weight, bias, some, &s);
    }
    store_sums(w, sample_view(w, 0, piece).first + c, some, &s);
  }
  for (size_t sample = 0; n > most && w->y && sample < w->batch; sample++) {
    const fn_view v = sample_view(w, sample, piece);
    fn_view_backward(w, &v, NULL);
  }
}

static void run_samples(const fn_backward *w) {
  const size_t pieces = sample_pieces(w), bytes = bytes_of(w);
  if (!w->scratch && (w->grad_weight || w->grad_bias)) {
    fn_parallel_for(w->exec, pieces, bytes, channels_task, (void *)w);
    return;
  }
  fn_parallel_for(w->exec, w->batch * pieces, bytes, sample_task, (void *)w);
  if (w->scratch)
    add_from_scratch(w);
}

/* ---- either ---- */

static size_t scratch_of(const fn_backward_call *c, const fn_backward *w) {
  if (c->by_sample)
    return w->grad_weight || w->grad_bias ? 2 * w->batch * w->channels * sizeof(fn_part)
                                          : 0;
  const size_t some = shared_channels(w);
  if (some == 0 || !w->sums)
    return 0;
  const fn_view v = fn_view_of(w, FN_ALL_SAMPLES, 0, some);
  return fn_view_scratch(w, &v);
}

size_t fn_backward_scratch(const fn_backward_call *c) {
  fn_backward w;
  size_t count;
  if (read_call(c, &w, &count) != FASTNORM_OK || count == 0)
    return 0;
  return scratch_of(c, &w);
}

fastnorm_status fn_backward_run(const fn_backward_call *c) {
  fn_backward w;
  size_t count;
  fastnorm_status s = read_call(c, &w, &count);
  if (s != FASTNORM_OK)
    return s;
  const fn_array scratch =
      fn_scratch_array(c->scratch, c->scratch_size, count > 0 ? scratch_of(c, &w) : 0);
  if (c->channels > 0)
    s = check_arrays(c, &scratch, &w, count == 0);
  if (s != FASTNORM_OK)
    return s;
  if (c->refuses_one && count > 0 &&
      (c->by_sample ? c->spatial : c->batch * c->spatial) == 1)
    return FASTNORM_ERROR_COUNT;
  w.kernels = fn_dispatch(w.dtype);
  if (!w.kernels)
    return FASTNORM_ERROR_ISA;
  if (c->exec->check_only)
    return FASTNORM_OK;
  const bool zeros = count == 0 && (w.grad_weight || w.grad_bias);
  for (size_t i = 0; zeros && i < c->channels; i++) {
    if (w.grad_weight)
      fn_set(w.dtype, w.grad_weight, i, 0.0);
    if (w.grad_bias)
      fn_set(w.dtype, w.grad_bias, i, 0.0);
  }
  if (count == 0)
    return s;
  w.f.source.kernels = w.f.sink.kernels = w.kernels;
  w.scratch = (double *)scratch.p;
  const fn_denormals before = fn_denormals_begin(c->exec);
  if (c->by_sample)
    run_samples(&w);
  else
    run_batch(&w);
  fn_denormals_end(&before);
  return s;
}
