/* channel_gradients.h - one description for a call of any gradient of a norm of
 * channels, and the exact answers.
 * SPDX-License-Identifier: MIT
 *
 * All arrays are [samples, channels, spatial]; with the channels last the memory is
 * [samples, spatial, channels]. */
#ifndef FN_TEST_CHANNEL_GRADIENTS_H
#define FN_TEST_CHANNEL_GRADIENTS_H

#include "elements.h"
#include "oracle.h"

typedef enum norm {
  BATCH,
  BATCH_FIXED, /* training = 0 */
  RENORM,
  RENORM_FIXED,
  GROUP,
  GROUPS_LAST, /* channels last */
  INSTANCE,
  INSTANCES_LAST,
  INSTANCE_FIXED, /* with use_running_stats */
  INSTANCE_FIXED_LAST,
  WEIGHT,
  NORMS
} norm;

static const char *const norm_names[] = {
    "batch_norm",          "batch_norm fixed",
    "batch_renorm",        "batch_renorm fixed",
    "group_norm",          "group_norm last",
    "instance_norm",       "instance_norm last",
    "instance_norm fixed", "instance_norm fixed last",
    "weight_norm"};

/* The arrays that a call reads and writes. */
typedef enum part {
  GRAD_Y,
  INPUT,
  GRAD_X,
  WEIGHTS,
  GRAD_WEIGHT,
  GRAD_BIAS,
  MEANS,
  RSTDS, /* norms, for WEIGHT */
  R,
  D,
  PARTS
} part;

/* Strides of grad_y, x and grad_x; zeros mean contiguous, as in the API. */
typedef struct gradient_job {
  norm op;
  fastnorm_dtype dtype;
  size_t samples, channels, spatial, groups;
  ptrdiff_t stride[3], middle_stride[3];
  void *p[PARTS];
  double eps;
  void *scratch;
  size_t scratch_size;
  fastnorm_exec exec;
  fastnorm_format format;
} gradient_job;

static inline int is_fixed(norm op) {
  return op == BATCH_FIXED || op == RENORM_FIXED || op == INSTANCE_FIXED ||
         op == INSTANCE_FIXED_LAST;
}

static inline int is_by_sample(norm op) {
  return op >= GROUP && op <= INSTANCE_FIXED_LAST;
}

static inline int is_last(norm op) {
  return op == GROUPS_LAST || op == INSTANCES_LAST || op == INSTANCE_FIXED_LAST;
}

static inline int is_renorm(norm op) {
  return op == RENORM || op == RENORM_FIXED;
}

static inline size_t groups_of_job(const gradient_job *j) {
  return j->op == GROUP || j->op == GROUPS_LAST ? j->groups : j->channels;
}

static inline size_t statistics_of(const gradient_job *j) {
  return (is_by_sample(j->op) ? j->samples : 1) * groups_of_job(j);
}

/* One value has no variance: such a call is refused. */
static inline int is_single(const gradient_job *j) {
  const int refuses =
      j->op == BATCH || j->op == RENORM || j->op == INSTANCE || j->op == INSTANCES_LAST;
  return refuses && (is_by_sample(j->op) ? 1 : j->samples) * j->spatial == 1;
}

static inline fastnorm_dtype working_of(fastnorm_dtype dtype) {
  return dtype == FASTNORM_FLOAT64 ? FASTNORM_FLOAT64 : FASTNORM_FLOAT32;
}

static inline fastnorm_dtype type_of(const gradient_job *j, part id) {
  switch (id) {
  case GRAD_Y:
  case INPUT:
    return j->dtype;
  case GRAD_X:
    return j->format.y ? j->format.y : j->dtype;
  case WEIGHTS:
    return j->format.params ? j->format.params : j->dtype;
  default:
    return working_of(j->dtype);
  }
}

/* Where element (n, c, s) of array 0, 1 or 2 is: grad_y, x, grad_x. */
static inline ptrdiff_t place_in(const gradient_job *j, int which, size_t n, size_t c,
                                 size_t s) {
  const size_t middle = is_last(j->op) ? s : c, inner = is_last(j->op) ? c : s;
  const size_t row = is_last(j->op) ? j->channels : j->spatial;
  const ptrdiff_t step =
      j->middle_stride[which] ? j->middle_stride[which] : (ptrdiff_t)row;
  const ptrdiff_t sample =
      j->stride[which] ? j->stride[which] : (ptrdiff_t)(j->channels * j->spatial);
  return (ptrdiff_t)n * sample + (ptrdiff_t)middle * step + (ptrdiff_t)inner;
}

/* Elements of an array, gaps and all. */
static inline size_t count_of(const gradient_job *j, part id) {
  switch (id) {
  case GRAD_Y:
  case INPUT:
    return (size_t)place_in(j, id == INPUT, j->samples - 1, j->channels - 1,
                            j->spatial - 1) +
           1;
  case GRAD_X:
    return (size_t)place_in(j, 2, j->samples - 1, j->channels - 1, j->spatial - 1) + 1;
  case MEANS:
  case RSTDS:
    return statistics_of(j);
  default:
    return j->channels;
  }
}

/* ---- Calls ----------------------------------------------------------------------- */

#define GRADIENT_FIELDS(j)                                                             \
  .dtype = (j)->dtype, .grad_y = (j)->p[GRAD_Y], .x = (j)->p[INPUT],                   \
  .grad_x = (j)->p[GRAD_X], .batch = (j)->samples, .channels = (j)->channels,          \
  .spatial = (j)->spatial, .grad_y_stride = (j)->stride[0],                            \
  .x_stride = (j)->stride[1], .grad_x_stride = (j)->stride[2],                         \
  .grad_y_channel_stride = (j)->middle_stride[0],                                      \
  .x_channel_stride = (j)->middle_stride[1],                                           \
  .grad_x_channel_stride = (j)->middle_stride[2], .scratch = (j)->scratch,             \
  .scratch_size = (j)->scratch_size, .exec = (j)->exec, .format = (j)->format
#define NORM_GRADIENT_FIELDS(j)                                                        \
  GRADIENT_FIELDS(j), .weight = (j)->p[WEIGHTS], .grad_weight = (j)->p[GRAD_WEIGHT],   \
                      .grad_bias = (j)->p[GRAD_BIAS], .mean = (j)->p[MEANS],           \
                      .rstd = (j)->p[RSTDS], .eps = (j)->eps

/* The call itself, or how much scratch it can use. */
#define CALL_OR_ASK(name, ...)                                                         \
  do {                                                                                 \
    const fastnorm_##name##_args args = {.size = sizeof args, __VA_ARGS__};            \
    if (ask) {                                                                         \
      *ask = fastnorm_##name##_scratch(&args);                                         \
      return FASTNORM_OK;                                                              \
    }                                                                                  \
    return fastnorm_##name(&args);                                                     \
  } while (0)

static inline fastnorm_status call_gradient(const gradient_job *j, size_t *ask) {
  switch (j->op) {
  case BATCH:
  case BATCH_FIXED:
    CALL_OR_ASK(batch_norm_backward, NORM_GRADIENT_FIELDS(j),
                .training = j->op == BATCH);
  case RENORM:
  case RENORM_FIXED:
    CALL_OR_ASK(batch_renorm_backward, NORM_GRADIENT_FIELDS(j),
                .training = j->op == RENORM, .r = j->p[R], .d = j->p[D]);
  case GROUP:
  case GROUPS_LAST:
    CALL_OR_ASK(group_norm_backward, NORM_GRADIENT_FIELDS(j), .groups = j->groups,
                .channels_last = is_last(j->op));
  case WEIGHT:
    CALL_OR_ASK(weight_norm_backward, GRADIENT_FIELDS(j), .g = j->p[WEIGHTS],
                .grad_g = j->p[GRAD_WEIGHT], .norm = j->p[RSTDS]);
  default:
    CALL_OR_ASK(instance_norm_backward, NORM_GRADIENT_FIELDS(j),
                .use_running_stats = is_fixed(j->op), .channels_last = is_last(j->op));
  }
}

static inline fastnorm_status run_gradient(const gradient_job *j) {
  return call_gradient(j, NULL);
}

static inline size_t gradient_scratch(const gradient_job *j) {
  size_t bytes = 0;
  call_gradient(j, &bytes);
  return bytes;
}

static inline const char *gradient_name(const gradient_job *j, const char *what) {
  static char text[300];
  snprintf(text, sizeof text, "%s %s [%zu, %zu, %zu] %zu groups %s%s eps %g on %s: %s",
           norm_names[j->op], type_name(j->dtype), j->samples, j->channels, j->spatial,
           groups_of_job(j), j->p[WEIGHTS] ? "weight " : "",
           j->p[RSTDS] ? "given" : "found", j->eps, fastnorm_isa(), what);
  return text;
}

/* ---- Input ----------------------------------------------------------------------- */

static inline double number(const gradient_job *j, part id, ptrdiff_t at) {
  return element(type_of(j, id), j->p[id], (size_t)at);
}

/* Group g's member number i. */
static inline void member(const gradient_job *j, size_t g, size_t i, size_t *n,
                          size_t *c, size_t *s) {
  const size_t per = j->channels / groups_of_job(j), groups = groups_of_job(j);
  *s = i % j->spatial;
  if (is_by_sample(j->op)) {
    *n = g / groups;
    *c = g % groups * per + i / j->spatial;
  } else {
    *n = i / j->spatial;
    *c = g;
  }
}

static inline size_t members(const gradient_job *j) {
  return is_by_sample(j->op) ? j->channels / groups_of_job(j) * j->spatial
                             : j->samples * j->spatial;
}

static inline void fill_elements(gradient_job *j, part id, pattern p, uint64_t seed) {
  rng r = {seed};
  size_t n, c, s;
  for (size_t g = 0; g < statistics_of(j); g++) {
    for (size_t i = 0; i < members(j); i++) {
      member(j, g, i, &n, &c, &s);
      const double v = pattern_value(p, type_of(j, id), &r, i, members(j));
      set_element(type_of(j, id), j->p[id], (size_t)place_in(j, id == INPUT, n, c, s),
                  v, 1.0F, 0);
    }
  }
}

static inline void fill_numbers(gradient_job *j, part id, double centre, double scale,
                                uint64_t seed) {
  rng r = {seed};
  for (size_t i = 0; j->p[id] && i < count_of(j, id); i++) {
    set_element(type_of(j, id), j->p[id], i, centre + scale * rng_normal(&r), 1.0F, 0);
  }
}

/* ---- The exact answers ----------------------------------------------------------- */

typedef struct statistic {
  long double hi, lo, rstd;
} statistic;

static inline long double total(const compensated *c) {
  return c->sum + c->rest;
}

static inline long double x_of(const gradient_job *j, size_t g, size_t i) {
  size_t n, c, s;
  member(j, g, i, &n, &c, &s);
  return (long double)number(j, INPUT, place_in(j, 1, n, c, s));
}

static inline statistic find_statistic(const gradient_job *j, size_t g) {
  statistic t = {0.0L, 0.0L, 0.0L};
  const long double count = (long double)members(j);
  const long double eps = j->op == WEIGHT || j->eps == FASTNORM_EPS_ZERO ? 0.0L
                          : j->eps == 0.0 ? (long double)1e-5
                                          : (long double)j->eps;
  if (is_fixed(j->op)) {
    t.hi = j->p[MEANS] ? (long double)number(j, MEANS, (ptrdiff_t)g) : 0.0L;
    t.rstd = (long double)number(j, RSTDS, (ptrdiff_t)g);
    return t;
  }
  compensated sum = {0.0L, 0.0L}, less = sum, squares = sum;
  for (size_t i = 0; j->op != WEIGHT && i < members(j); i++) {
    add(&sum, x_of(j, g, i));
  }
  t.hi = total(&sum) / count;
  for (size_t i = 0; j->op != WEIGHT && i < members(j); i++) {
    add(&less, x_of(j, g, i) - t.hi);
  }
  t.lo = total(&less) / count;
  for (size_t i = 0; i < members(j); i++) {
    const long double d = (x_of(j, g, i) - t.hi) - t.lo;
    add(&squares, d * d);
  }
  t.rstd = reciprocal_root(j->op == WEIGHT ? total(&squares)
                                           : total(&squares) / count + eps);
  return t;
}

/* weight * r of channel c. */
static inline long double weight_of_channel(const gradient_job *j, size_t c) {
  const ptrdiff_t at = (ptrdiff_t)c;
  const long double w = j->p[WEIGHTS] ? (long double)number(j, WEIGHTS, at) : 1.0L;
  return is_renorm(j->op) && j->p[R] ? w * (long double)number(j, R, at) : w;
}

/* Sums over channels, and of the magnitudes of their terms, for which xhat is at least
 * as large as its root mean square: its error is relative to that. */
typedef struct parameter_truth {
  compensated weight, bias;
  long double weight_scale, bias_scale;
} parameter_truth;

/* What a group's gradient is to be compared with. */
typedef struct gradient_truth {
  statistic t;
  long double mean, slope, scale, rms; /* rms: of xhat */
} gradient_truth;

static inline long double xhat_of(const statistic *t, long double x) {
  return ((x - t->hi) - t->lo) * t->rstd;
}

static inline gradient_truth find_gradient(const gradient_job *j, size_t g,
                                           parameter_truth *parameters) {
  gradient_truth out = {.t = find_statistic(j, g)};
  compensated sum = {0.0L, 0.0L}, product = sum;
  const long double count = j->op == WEIGHT ? 1.0L : (long double)members(j);
  long double largest = 0.0L, largest_xhat = 0.0L;
  size_t n, c, s;
  for (size_t i = 0; i < members(j); i++) {
    const long double xhat = xhat_of(&out.t, x_of(j, g, i));
    out.rms += xhat * xhat / (long double)members(j);
  }
  out.rms = sqrtl(out.rms);
  for (size_t i = 0; i < members(j); i++) {
    member(j, g, i, &n, &c, &s);
    const long double gy = (long double)number(j, GRAD_Y, place_in(j, 0, n, c, s));
    const long double xhat = xhat_of(&out.t, x_of(j, g, i));
    const long double r =
        is_renorm(j->op) && j->p[R] ? (long double)number(j, R, (ptrdiff_t)c) : 1.0L;
    const long double d =
        is_renorm(j->op) && j->p[D] ? (long double)number(j, D, (ptrdiff_t)c) : 0.0L;
    const long double weighted = gy * weight_of_channel(j, c);
    parameter_truth *q = &parameters[c];
    add(&q->weight, gy * (xhat * r + d));
    q->weight_scale += fabsl(gy) * ((fabsl(xhat) + out.rms) * fabsl(r) + fabsl(d));
    add(&q->bias, gy);
    q->bias_scale += fabsl(gy);
    add(&sum, weighted);
    largest = larger(largest, fabsl(weighted));
    largest_xhat = larger(largest_xhat, fabsl(xhat));
  }
  if (!is_fixed(j->op) && j->op != WEIGHT) {
    out.mean = total(&sum) / count;
  }
  for (size_t i = 0; !is_fixed(j->op) && i < members(j); i++) {
    member(j, g, i, &n, &c, &s);
    const long double gy = (long double)number(j, GRAD_Y, place_in(j, 0, n, c, s));
    add(&product,
        (gy * weight_of_channel(j, c) - out.mean) * xhat_of(&out.t, x_of(j, g, i)));
  }
  out.slope = total(&product) / count;
  out.scale =
      out.t.rstd * (largest + fabsl(out.mean) + fabsl(out.slope) * largest_xhat);
  return out;
}

static inline long double exact_gradient(const gradient_job *j, const gradient_truth *t,
                                         size_t n, size_t c, size_t s) {
  const long double gy = (long double)number(j, GRAD_Y, place_in(j, 0, n, c, s));
  const long double x = (long double)number(j, INPUT, place_in(j, 1, n, c, s));
  const long double weighted = gy * weight_of_channel(j, c);
  if (is_fixed(j->op)) {
    return t->t.rstd * weighted;
  }
  return t->t.rstd * ((weighted - t->mean) - xhat_of(&t->t, x) * t->slope);
}

#endif /* FN_TEST_CHANNEL_GRADIENTS_H */
