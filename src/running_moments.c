/* running_moments.c - moments of batches that come one after another.
 * SPDX-License-Identifier: MIT */
#include "running_moments.h"

#include <math.h>
#include <string.h>

#include "check.h"
#include "denormals.h"
#include "dispatch.h"
#include "order.h"
#include "sum.h"
#include "threads.h"

#define STATE_ARRAYS 8
#define FIRST_SIZE   sizeof(fastnorm_running_moments_args)

/* ---- The state ------------------------------------------------------------------- */

static void describe(const fastnorm_running_moments *s, fn_use use, fn_array *arrays) {
  const void *p[STATE_ARRAYS] = {s->count, s->weight, s->mean, s->mean_low,
                                 s->m2,    s->m2_low, s->min,  s->max};
  for (size_t i = 0; i < STATE_ARRAYS; i++)
    arrays[i] = (fn_array){p[i], {1, 1, s->features}, {0, 0, 1}, 8, use, true};
}

static fastnorm_status read_state(const fastnorm_running_moments *callers,
                                  fastnorm_running_moments *s) {
  const fastnorm_status status = fn_read_args(s, sizeof(*s), sizeof(*s), callers);
  size_t count;
  if (status != FASTNORM_OK)
    return status;
  return fn_count((const size_t[3]){1, 1, s->features}, 8, &count)
             ? FASTNORM_OK
             : FASTNORM_ERROR_SHAPE;
}

static void clear(const fastnorm_running_moments *s, size_t c) {
  s->count[c] = 0;
  s->weight[c] = s->mean[c] = s->mean_low[c] = s->m2[c] = s->m2_low[c] = 0.0;
  s->min[c] = (double)INFINITY;
  s->max[c] = -(double)INFINITY;
}

fastnorm_status fastnorm_running_moments_init(const fastnorm_running_moments *callers) {
  fastnorm_running_moments s;
  fn_array arrays[STATE_ARRAYS];
  fastnorm_status status = read_state(callers, &s);
  if (status != FASTNORM_OK || s.features == 0)
    return status;
  describe(&s, FN_OUTPUT, arrays);
  status = fn_check_arrays(arrays, STATE_ARRAYS);
  for (size_t c = 0; status == FASTNORM_OK && c < s.features; c++)
    clear(&s, c);
  return status;
}

/* ---- Merging --------------------------------------------------------------------- */

/* One feature of a state. */
typedef struct part {
  int64_t count;
  double weight, mean, mean_low, m2, m2_low, min, max;
} part;

static part part_of(const fastnorm_running_moments *s, size_t c) {
  return (part){s->count[c], s->weight[c], s->mean[c], s->mean_low[c],
                s->m2[c],    s->m2_low[c], s->min[c],  s->max[c]};
}

static void put_part(const fastnorm_running_moments *s, size_t c, const part *p) {
  s->count[c] = p->count;
  s->weight[c] = p->weight;
  s->mean[c] = p->mean;
  s->mean_low[c] = p->mean_low;
  s->m2[c] = p->m2;
  s->m2_low[c] = p->m2_low;
  s->min[c] = p->min;
  s->max[c] = p->max;
}

/* value + rounding, with nothing of the second in the first, unless not finite. */
static void settle(double *value, double *rounding) {
  const double total = *value + *rounding;
  *rounding = isfinite(total) ? (*value - total) + *rounding : 0.0;
  *value = total;
}

/* Chan, Golub and LeVeque's formulae, from the larger part, so that the mean moves by
 * little and the order of the two hardly matters; the differences are taken, and the
 * results kept, as sums of two doubles. */
static void move_mean(part *a, const part *b, double all) {
  fn_sum delta = {b->mean, b->mean_low - a->mean_low};
  fn_sum_add(&delta, -a->mean);
  const double d = delta.value + delta.rounding, share = b->weight / all;
  const double step = d * share, rest = fma(d, share, -step);
  fn_sum mean = {a->mean, a->mean_low};
  fn_sum_add(&mean, step);
  fn_sum m2 = {a->m2, a->m2_low + b->m2_low};
  fn_sum_add(&m2, b->m2);
  fn_sum_add(&m2, d * d * (a->weight * share));
  mean.rounding += rest + ((delta.value - d) + delta.rounding) * share;
  if (!isfinite(d)) { /* two finite means this far apart, or one that is not */
    const bool far = isfinite(a->mean) && isfinite(b->mean);
    mean.value =
        far ? a->mean * (a->weight / all) + b->mean * share : a->mean + b->mean;
    mean.rounding = 0.0;
    m2.value = far && !isnan(a->m2 + b->m2) ? (double)INFINITY : (double)NAN;
  }
  if (!isfinite(m2.value))
    m2.rounding = 0.0;
  a->mean = mean.value, a->mean_low = mean.rounding;
  a->m2 = m2.value, a->m2_low = m2.rounding;
  settle(&a->mean, &a->mean_low);
  settle(&a->m2, &a->m2_low);
}

static double smaller(double a, double b) { /* NaN if one is */
  return b < a || b != b ? b : a;
}

static part merged(const part *a, const part *b) {
  if (a->count == 0 || b->count == 0)
    return a->count == 0 ? *b : *a;
  const bool swapped = b->weight > a->weight;
  part large = swapped ? *b : *a;
  const part *small = swapped ? a : b;
  const double all = a->weight + b->weight;
  move_mean(&large, small, all);
  large.count = a->count + b->count;
  large.weight = all;
  large.min = smaller(a->min, b->min);
  large.max = fn_larger(a->max, b->max);
  return large;
}

void fn_running_merge(const fastnorm_running_moments *state,
                      const fastnorm_running_moments *other, size_t first, size_t n) {
  for (size_t c = first; c < first + n; c++) {
    const part a = part_of(state, c), b = part_of(other, c), both = merged(&a, &b);
    put_part(state, c, &both);
  }
}

/* Whether the counts can be added. */
static bool fits(const fastnorm_running_moments *s, const fastnorm_running_moments *o) {
  for (size_t c = 0; c < s->features; c++)
    if (s->count[c] < 0 || o->count[c] < 0 || s->count[c] > INT64_MAX - o->count[c])
      return false;
  return true;
}

static bool same_state(const fastnorm_running_moments *a,
                       const fastnorm_running_moments *b) {
  return a->count == b->count && a->weight == b->weight && a->mean == b->mean &&
         a->mean_low == b->mean_low && a->m2 == b->m2 && a->m2_low == b->m2_low &&
         a->min == b->min && a->max == b->max;
}

fastnorm_status
fastnorm_running_moments_merge(const fastnorm_running_moments *callers,
                               const fastnorm_running_moments *callers_other) {
  fastnorm_running_moments s, other;
  fn_array arrays[2 * STATE_ARRAYS];
  fastnorm_status status = read_state(callers, &s);
  if (status == FASTNORM_OK)
    status = read_state(callers_other, &other);
  if (status != FASTNORM_OK)
    return status;
  if (s.features != other.features)
    return FASTNORM_ERROR_SHAPE;
  if (s.features == 0)
    return FASTNORM_OK;
  describe(&s, FN_OUTPUT, arrays);
  describe(&other, FN_INPUT, arrays + STATE_ARRAYS);
  status =
      fn_check_arrays(arrays, same_state(&s, &other) ? STATE_ARRAYS : 2 * STATE_ARRAYS);
  if (status == FASTNORM_OK && !fits(&s, &other))
    status = FASTNORM_ERROR_SHAPE;
  if (status == FASTNORM_OK)
    fn_running_merge(&s, &other, 0, s.features);
  return status;
}

/* ---- A batch --------------------------------------------------------------------- */

static bool read_beside(const void *p, fastnorm_dtype dtype, ptrdiff_t stride,
                        ptrdiff_t channel_stride, ptrdiff_t spatial_stride,
                        fn_beside *b) {
  *b = (fn_beside){p, dtype, stride, channel_stride, spatial_stride};
  return dtype == FASTNORM_FLOAT32 || dtype == FASTNORM_FLOAT64;
}

/* The work, without kernels; batch is 0 if there are no elements. */
static fastnorm_status read_work(const fastnorm_running_moments_args *args,
                                 fn_running_work *w) {
  const fastnorm_moments_args like = {.x = args->x,
                                      .batch = args->batch,
                                      .channels = args->channels,
                                      .spatial = args->spatial,
                                      .x_stride = args->x_stride,
                                      .x_channel_stride = args->x_channel_stride};
  const fastnorm_format format = {.y = FASTNORM_DEFAULT};
  const fastnorm_epilogue none = {.activation = FASTNORM_IDENTITY};
  fn_formats f;
  fastnorm_status s = fn_formats_read(args->dtype, &format, &none, &f);
  if (s != FASTNORM_OK)
    return s;
  if (args->nan != FASTNORM_NAN_PROPAGATE && args->nan != FASTNORM_NAN_ERROR &&
      args->nan != FASTNORM_NAN_MISSING)
    return FASTNORM_ERROR_NAN;
  const fastnorm_dtype dtype =
      args->weights_dtype ? args->weights_dtype : FASTNORM_FLOAT32;
  if (!read_beside(args->weights, dtype, args->weights_stride,
                   args->weights_channel_stride, args->weights_spatial_stride,
                   &w->weights))
    return FASTNORM_ERROR_DTYPE;
  read_beside(args->mask, FASTNORM_FLOAT32, args->mask_stride,
              args->mask_channel_stride, args->mask_spatial_stride, &w->mask);
  const bool byte = fn_dtype_size(f.x) == 1;
  f.working = byte ? FASTNORM_FLOAT32 : FASTNORM_FLOAT64;
  f.gathers = f.x != f.working;
  s = fn_channels_read(&like, &args->exec, &f, &w->a);
  if (s != FASTNORM_OK)
    return s;
  w->nan = args->nan;
  w->gather = (fn_source){.gather = {.dtype = f.x, .scale = 1.0f},
                          .element = fn_dtype_size(f.x)};
  w->narrow = NULL;
  if (w->a.batch > 0)
    fn_running_cut(w);
  return FASTNORM_OK;
}

static bool is_float(const fn_running_work *w) {
  return w->gather.gather.dtype == FASTNORM_FLOAT32;
}

static size_t states_of(const fn_running_work *w) {
  return w->pieces * STATE_ARRAYS * w->a.channels;
}

/* Doubles of scratch: a state for each piece that a feature is cut into, and a byte for
 * each piece of all. */
static size_t scratch_doubles(const fn_running_work *w) {
  return w->a.batch == 0 ? 0 : states_of(w) + (w->groups * w->pieces + 7) / 8;
}

static fastnorm_running_moments state_in(double *scratch, size_t features, size_t i) {
  double *p = scratch + i * STATE_ARRAYS * features;
  const size_t n = features;
  return (fastnorm_running_moments){.size = sizeof(fastnorm_running_moments),
                                    .features = n,
                                    .count = (int64_t *)(void *)p,
                                    .weight = p + n,
                                    .mean = p + 2 * n,
                                    .mean_low = p + 3 * n,
                                    .m2 = p + 4 * n,
                                    .m2_low = p + 5 * n,
                                    .min = p + 6 * n,
                                    .max = p + 7 * n};
}

static void piece_task(void *context, size_t index) {
  const fn_running_work *w = context;
  double *scratch = w->a.scratch;
  unsigned char *found = (unsigned char *)(scratch + states_of(w));
  const fastnorm_running_moments out =
      state_in(scratch, w->a.channels, index % w->pieces);
  found[index] = (unsigned char)fn_running_piece(w, index, &out);
}

/* All of the batch, into the first state of scratch. */
static fastnorm_status run(fn_running_work *w) {
  const fn_channels *a = &w->a;
  const size_t count = w->groups * w->pieces;
  const unsigned char *found = (const unsigned char *)(a->scratch + states_of(w));
  const fastnorm_running_moments whole = state_in(a->scratch, a->channels, 0);
  int all = 0;
  fn_parallel_for(a->exec, count, a->batch * a->channels * a->spatial * a->element,
                  piece_task, w);
  for (size_t i = 0; i < count; i++)
    all |= found[i];
  if (all)
    return all & FN_FOUND_WEIGHT ? FASTNORM_ERROR_WEIGHT : FASTNORM_ERROR_NAN;
  for (size_t i = 1; i < w->pieces; i++) {
    const fastnorm_running_moments piece = state_in(a->scratch, a->channels, i);
    fn_running_merge(&whole, &piece, 0, a->channels);
  }
  return FASTNORM_OK;
}

static fastnorm_status check_batch(const fastnorm_running_moments *s,
                                   const fastnorm_running_moments_args *args,
                                   const fn_running_work *w, size_t scratch) {
  fn_array arrays[STATE_ARRAYS + 4];
  const size_t n[3] = {args->batch, args->channels, args->spatial};
  const fn_beside *m = &w->mask, *v = &w->weights;
  describe(s, FN_OUTPUT, arrays);
  fn_array *next = arrays + STATE_ARRAYS;
  next[0] = (fn_array){
      args->x,      {n[0], n[1], n[2]}, {w->a.stride, w->a.channel_stride, 1},
      w->a.element, FN_INPUT,           true};
  next[1] = (fn_array){
      m->p, {n[0], n[1], n[2]}, {m->stride, m->channel_stride, m->spatial_stride},
      1,    FN_INPUT,           false};
  next[2] = (fn_array){v->p,
                       {n[0], n[1], n[2]},
                       {v->stride, v->channel_stride, v->spatial_stride},
                       fn_dtype_size(v->dtype),
                       FN_INPUT,
                       false};
  next[3] = (fn_array){args->scratch, {1, 1, scratch}, {0, 0, 1}, 8, FN_OUTPUT, true};
  const fastnorm_status status = fn_check_arrays(arrays, STATE_ARRAYS + 4);
  if (status != FASTNORM_OK)
    return status;
  return args->scratch_size / sizeof(double) >= scratch ? FASTNORM_OK
                                                        : FASTNORM_ERROR_SCRATCH;
}

fastnorm_status
fastnorm_running_moments_update(const fastnorm_running_moments *callers,
                                const fastnorm_running_moments_args *batch) {
  fastnorm_running_moments s;
  fastnorm_running_moments_args args;
  fn_running_work w;
  fastnorm_status status = read_state(callers, &s);
  if (status == FASTNORM_OK)
    status = fn_read_args(&args, sizeof(args), FIRST_SIZE, batch);
  if (status == FASTNORM_OK)
    status = read_work(&args, &w);
  if (status != FASTNORM_OK)
    return status;
  if (args.channels != s.features)
    return FASTNORM_ERROR_SHAPE;
  if (w.a.batch == 0)
    return FASTNORM_OK;
  status = check_batch(&s, &args, &w, scratch_doubles(&w));
  if (status != FASTNORM_OK)
    return status;
  w.a.kernels = fn_dispatch(w.a.dtype);
  const fn_kernels *single = fn_dispatch(FASTNORM_FLOAT32);
  if (!w.a.kernels || !single)
    return FASTNORM_ERROR_ISA;
  if (args.exec.check_only)
    return FASTNORM_OK;
  w.gather.kernels = w.a.kernels;
  w.narrow = is_float(&w) ? single : NULL;
  w.a.source = w.a.source ? &w.gather : NULL;
  w.a.scratch = args.scratch;
  const fn_denormals before = fn_denormals_begin(&args.exec);
  status = run(&w);
  const fastnorm_running_moments whole = state_in(w.a.scratch, s.features, 0);
  if (status == FASTNORM_OK && !fits(&s, &whole))
    status = FASTNORM_ERROR_SHAPE;
  if (status == FASTNORM_OK)
    fn_running_merge(&s, &whole, 0, s.features);
  fn_denormals_end(&before);
  return status;
}

size_t fastnorm_running_moments_scratch(const fastnorm_running_moments_args *batch) {
  fastnorm_running_moments_args args;
  fn_running_work w;
  if (fn_read_args(&args, sizeof(args), FIRST_SIZE, batch) != FASTNORM_OK ||
      read_work(&args, &w) != FASTNORM_OK)
    return 0;
  const size_t doubles = scratch_doubles(&w);
  return doubles > PTRDIFF_MAX / sizeof(double) ? 0 : doubles * sizeof(double);
}

/* ---- Results --------------------------------------------------------------------- */

fastnorm_status
fastnorm_running_moments_finish(const fastnorm_running_moments *callers,
                                const fastnorm_running_results *callers_results) {
  fastnorm_running_moments s;
  fastnorm_running_results r;
  fn_array arrays[STATE_ARRAYS + 5];
  fastnorm_status status = read_state(callers, &s);
  if (status == FASTNORM_OK)
    status = fn_read_args(&r, sizeof(r), sizeof(r), callers_results);
  if (status != FASTNORM_OK)
    return status;
  if (!(r.ddof >= 0.0 && isfinite(r.ddof)))
    return FASTNORM_ERROR_COUNT;
  if (s.features == 0)
    return FASTNORM_OK;
  double *const results[5] = {r.mean, r.var, r.std, r.min, r.max};
  describe(&s, FN_INPUT, arrays);
  for (size_t i = 0; i < 5; i++)
    arrays[STATE_ARRAYS + i] = (fn_array){results[i],     {1, 1, s.features}, {0, 0, 1},
                                          sizeof(double), FN_OUTPUT,          false};
  status = fn_check_arrays(arrays, STATE_ARRAYS + 5);
  for (size_t c = 0; status == FASTNORM_OK && c < s.features; c++) {
    const part p = part_of(&s, c);
    const double nan = (double)NAN, degrees = p.weight - r.ddof;
    const double var = degrees > 0.0 ? (p.m2 + p.m2_low) / degrees : nan;
    const double all[5] = {p.mean + p.mean_low, var, sqrt(var), p.min, p.max};
    for (size_t i = 0; i < 5; i++)
      if (results[i])
        results[i][c] = p.count > 0 ? all[i] : nan;
  }
  return status;
}
