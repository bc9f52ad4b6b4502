/* gradients.h - calls for gradients of the norms of rows, and the exact answers.
 * SPDX-License-Identifier: MIT
 *
 * exact_gradient() serves any norm: it is told the elements that share statistics. It
 * is plain long double, whose range holds all products of doubles. */
#ifndef FN_TEST_GRADIENTS_H
#define FN_TEST_GRADIENTS_H

#include "elements.h"
#include "job.h"

/* ---- The exact answer ------------------------------------------------------------ */

typedef enum statistics {
  CENTERED,   /* mean and variance */
  ABOUT_ZERO, /* mean of squares */
  LENGTH_OF   /* the Euclidean norm, or eps if that is more */
} statistics;

/* What shares statistics: n elements of the gradient, times their weights, and of x. */
typedef struct exact {
  size_t n;
  const long double *gw, *x;
  long double eps;
  long double *grad_x, *x_hat; /* [n], written */
  long double rstd, size;      /* written; the largest magnitude of a term of grad_x */
} exact;

typedef struct exact_sum {
  long double value, rest;
} exact_sum;

/* Neumaier's sum. */
static inline void exact_add(exact_sum *s, long double v) {
  const long double t = s->value + v;
  s->rest += fabsl(s->value) >= fabsl(v) ? (s->value - t) + v : (v - t) + s->value;
  s->value = t;
}

static inline void exact_x_hat(statistics how, exact *e) {
  const long double n = (long double)e->n;
  long double mean = 0.0L, rest = 0.0L;
  exact_sum sum = {0.0L, 0.0L}, squares = {0.0L, 0.0L};
  for (int pass = 0; how == CENTERED && pass < 2; pass++) {
    sum = (exact_sum){0.0L, 0.0L};
    for (size_t i = 0; i < e->n; i++)
      exact_add(&sum, e->x[i] - mean);
    *(pass == 0 ? &mean : &rest) = (sum.value + sum.rest) / n;
  }
  for (size_t i = 0; i < e->n; i++) {
    e->x_hat[i] = (e->x[i] - mean) - rest;
    exact_add(&squares, e->x_hat[i] * e->x_hat[i]);
  }
  const long double m2 = squares.value + squares.rest, length = sqrtl(m2);
  const long double by = how != LENGTH_OF  ? sqrtl(m2 / n + e->eps)
                         : length < e->eps ? e->eps
                                           : length;
  e->rstd = by == 0.0L ? 0.0L : 1.0L / by;
  for (size_t i = 0; i < e->n; i++)
    e->x_hat[i] *= e->rstd;
}

static inline void exact_gradient(statistics how, exact *e) {
  const long double n = how == LENGTH_OF ? 1.0L : (long double)e->n;
  exact_sum sum = {0.0L, 0.0L}, products = {0.0L, 0.0L};
  exact_x_hat(how, e);
  for (size_t i = 0; i < e->n; i++) {
    exact_add(&sum, e->gw[i]);
    exact_add(&products, e->gw[i] * e->x_hat[i]);
  }
  const long double mean = how == CENTERED ? (sum.value + sum.rest) / n : 0.0L;
  long double along = (products.value + products.rest) / n;
  if (how == LENGTH_OF && e->rstd * e->eps == 1.0L)
    along = 0.0L; /* divided by eps, which is no function of x */
  e->size = fabsl(mean);
  for (size_t i = 0; i < e->n; i++) {
    const long double b = e->x_hat[i] * along;
    e->grad_x[i] = e->rstd * (e->gw[i] - mean - b);
    e->size = fmaxl(e->size, fmaxl(fabsl(e->gw[i]), fabsl(b)));
  }
  e->size *= e->rstd;
}

/* ---- Calls ----------------------------------------------------------------------- */

typedef enum row_gradient { OF_LAYER, OF_RMS, OF_L2, ROW_GRADIENTS } row_gradient;

static const char *const row_gradient_names[] = {
    "layer_norm_backward", "rms_norm_backward", "l2_norm_backward"};

static inline statistics statistics_of(row_gradient of) {
  return of == OF_LAYER ? CENTERED : of == OF_RMS ? ABOUT_ZERO : LENGTH_OF;
}

/* The arguments of any of them; strides of 0 mean packed. */
typedef struct row_call {
  row_gradient of;
  fastnorm_dtype dtype, y, params;
  size_t rows, cols, inner;
  ptrdiff_t g_stride, x_stride, y_stride;
  const void *g, *x, *weight, *mean, *rstd;
  void *grad_x, *grad_weight, *grad_bias;
  double eps;
  fastnorm_rms_mode mode;
  void *scratch;
  size_t scratch_size;
  fastnorm_exec exec;
} row_call;

static inline fastnorm_dtype working_of(fastnorm_dtype dtype) {
  return dtype == FASTNORM_FLOAT64 ? FASTNORM_FLOAT64 : FASTNORM_FLOAT32;
}

#define GRADIENT_FIELDS(call)                                                          \
  .dtype = (call)->dtype, .grad_y = (call)->g, .x = (call)->x,                         \
  .grad_x = (call)->grad_x, .rows = (call)->rows, .cols = (call)->cols,                \
  .inner = (call)->inner, .grad_y_stride = (call)->g_stride,                           \
  .x_stride = (call)->x_stride, .grad_x_stride = (call)->y_stride, .eps = (call)->eps, \
  .exec = (call)->exec, .format = {.y = (call)->y, .params = (call)->params}

static inline fastnorm_layer_norm_backward_args layer_args(const row_call *c) {
  return (fastnorm_layer_norm_backward_args){
      .size = sizeof(fastnorm_layer_norm_backward_args),
      GRADIENT_FIELDS(c),
      .weight = c->weight,
      .grad_weight = c->grad_weight,
      .grad_bias = c->grad_bias,
      .mean = c->mean,
      .rstd = c->rstd,
      .scratch = c->scratch,
      .scratch_size = c->scratch_size};
}

static inline fastnorm_rms_norm_backward_args rms_args(const row_call *c) {
  return (fastnorm_rms_norm_backward_args){.size =
                                               sizeof(fastnorm_rms_norm_backward_args),
                                           GRADIENT_FIELDS(c),
                                           .weight = c->weight,
                                           .grad_weight = c->grad_weight,
                                           .rstd = c->rstd,
                                           .scratch = c->scratch,
                                           .scratch_size = c->scratch_size,
                                           .mode = c->mode};
}

static inline fastnorm_status run_row_call(const row_call *c) {
  if (c->of == OF_LAYER) {
    const fastnorm_layer_norm_backward_args args = layer_args(c);
    return fastnorm_layer_norm_backward(&args);
  }
  if (c->of == OF_RMS) {
    const fastnorm_rms_norm_backward_args args = rms_args(c);
    return fastnorm_rms_norm_backward(&args);
  }
  const fastnorm_l2_norm_backward_args args = {.size = sizeof(args),
                                               GRADIENT_FIELDS(c)};
  return fastnorm_l2_norm_backward(&args);
}

static inline size_t row_scratch(const row_call *c) {
  const fastnorm_layer_norm_backward_args layer = layer_args(c);
  const fastnorm_rms_norm_backward_args rms = rms_args(c);
  return c->of == OF_LAYER ? fastnorm_layer_norm_backward_scratch(&layer)
         : c->of == OF_RMS ? fastnorm_rms_norm_backward_scratch(&rms)
                           : 0;
}

/* ---- Places, extents, numbers -------------------------------------------------- */

static inline size_t inner_of(const row_call *c) {
  return c->inner ? c->inner : 1;
}

static inline size_t row_place(const row_call *c, ptrdiff_t stride, size_t r, size_t j,
                               size_t i) {
  const ptrdiff_t packed = (ptrdiff_t)(c->cols * inner_of(c));
  return (size_t)((ptrdiff_t)r * (stride ? stride : packed)) + j * inner_of(c) + i;
}

static inline size_t row_extent(const row_call *c, ptrdiff_t stride) {
  return row_place(c, stride, c->rows - 1, c->cols - 1, inner_of(c) - 1) + 1;
}

static inline fastnorm_dtype y_of(const row_call *c) {
  return c->y ? c->y : c->dtype;
}

static inline fastnorm_dtype params_of(const row_call *c) {
  return c->params ? c->params : c->dtype;
}

/* The weight that is used: of the working type, also after 1 was added. */
static inline long double weight_at(const row_call *c, size_t j) {
  if (c->weight == NULL)
    return 1.0L;
  const double w = element(params_of(c), c->weight, j);
  if (c->of != OF_RMS || c->mode != FASTNORM_RMS_ONE_PLUS_WEIGHT)
    return (long double)w;
  return (long double)(c->dtype == FASTNORM_FLOAT64 ? 1.0 + w
                                                    : (double)(1.0F + (float)w));
}

static inline long double eps_of(const row_call *c) {
  if (c->eps == FASTNORM_EPS_ZERO)
    return 0.0L;
  if (c->eps > 0.0)
    return (long double)c->eps;
  return c->of == OF_LAYER              ? (long double)1e-5
         : c->of == OF_L2               ? (long double)1e-12
         : c->dtype == FASTNORM_FLOAT64 ? 0x1p-52L
                                        : 0x1p-23L;
}

/* ---- Everything a call may write, and what it should be ------------------------- */

typedef struct row_truth {
  long double *grad_x, *bound; /* [rows, cols, inner]; the bound without rounding */
  long double *weight, *bias;  /* [cols] */
  long double *weight_size, *bias_size;
} row_truth;

static inline long double *new_numbers(size_t n) {
  return new_bytes(n * sizeof(long double));
}

static inline void free_truth(row_truth *t) {
  free(t->grad_x);
  free(t->bound);
  free(t->weight);
  free(t->bias);
  free(t->weight_size);
  free(t->bias_size);
}

static inline row_truth find_row_truth(const row_call *c) {
  const size_t cols = c->cols, inner = inner_of(c), all = c->rows * cols * inner;
  const statistics how = statistics_of(c->of);
  row_truth t = {new_numbers(all),  new_numbers(all),  new_numbers(cols),
                 new_numbers(cols), new_numbers(cols), new_numbers(cols)};
  long double *room = new_numbers(4 * cols);
  exact_sum *sums = new_bytes(2 * cols * sizeof *sums);
  for (size_t set = 0; set < c->rows * inner; set++) {
    const size_t r = set / inner, i = set % inner;
    exact e = {cols, room, room + cols, eps_of(c), room + 2 * cols, room + 3 * cols,
               0,    0};
    for (size_t j = 0; j < cols; j++) {
      const double g = element(c->dtype, c->g, row_place(c, c->g_stride, r, j, i));
      room[j] = (long double)g * weight_at(c, j);
      room[cols + j] =
          (long double)element(c->dtype, c->x, row_place(c, c->x_stride, r, j, i));
    }
    exact_gradient(how, &e);
    for (size_t j = 0; j < cols; j++) {
      const size_t at = (r * cols + j) * inner + i;
      const long double g =
          (long double)element(c->dtype, c->g, row_place(c, c->g_stride, r, j, i));
      const long double least = how == CENTERED ? 1.0L : 0.0L;
      t.grad_x[at] = e.grad_x[j];
      t.bound[at] = e.size;
      exact_add(&sums[j], g * e.x_hat[j]);
      exact_add(&sums[cols + j], g);
      t.weight_size[j] += fabsl(g) * fmaxl(least, fabsl(e.x_hat[j]));
      t.bias_size[j] += fabsl(g);
    }
  }
  for (size_t j = 0; j < cols; j++) {
    t.weight[j] = sums[j].value + sums[j].rest;
    t.bias[j] = sums[cols + j].value + sums[cols + j].rest;
  }
  free(room);
  free(sums);
  return t;
}

/* |got - exact| <= bound + some subnormal steps; past the range, an infinity. */
static inline int is_near(double got, long double truth, long double bound,
                          long double steps, fastnorm_dtype dtype) {
  const int wide = dtype == FASTNORM_FLOAT64;
  const long double most = wide ? (long double)DBL_MAX : (long double)FLT_MAX;
  const long double step = wide ? 0x1p-1074L : 0x1p-149L;
  if (fabsl(truth) - bound > most)
    return isinf(got) && (got > 0) == (truth > 0);
  if (isinf(got))
    return got > 0 ? truth + bound > most : truth - bound < -most;
  return fabsl((long double)got - truth) <= bound + steps * step;
}

static inline const char *describe_row_call(const row_call *c, const char *what) {
  static char text[256];
  snprintf(text, sizeof text, "%s %s [%zu, %zu, %zu] w %d given %d eps %g on %s: %s",
           row_gradient_names[c->of], type_name(c->dtype), c->rows, c->cols,
           inner_of(c), c->weight != NULL, c->rstd != NULL, c->eps, fastnorm_isa(),
           what);
  return text;
}

/* The bound that is stated: the error of grad_x relative to the terms that it is made
 * of, that of the sums to the sum of the magnitudes of theirs. */
static inline void check_row_call(const row_call *c, const row_truth *t,
                                  const char *what) {
  const fastnorm_dtype working = working_of(c->dtype);
  const long double bound = working == FASTNORM_FLOAT64 ? 2e-15L : 8e-7L;
  for (size_t r = 0; c->grad_x != NULL && r < c->rows; r++)
    for (size_t k = 0; k < c->cols * inner_of(c); k++) {
      const size_t at = r * c->cols * inner_of(c) + k;
      const double got =
          element(y_of(c), c->grad_x, row_place(c, c->y_stride, r, 0, k));
      if (!is_near(got, t->grad_x[at], bound * t->bound[at], 2.0L, working)) {
        fail("%s: row %zu element %zu is %.17g, not %.21Lg; of %Lg",
             describe_row_call(c, what), r, k, got, t->grad_x[at], t->bound[at]);
        return;
      }
    }
  const long double most =
      working == FASTNORM_FLOAT64 ? (long double)DBL_MAX : HUGE_VALL;
  const long double sets = (long double)(c->rows * inner_of(c)) + 2.0L;
  for (size_t j = 0; j < c->cols; j++) {
    const double weight =
        c->grad_weight ? get(c->grad_weight, working, (ptrdiff_t)j) : 0;
    const double bias = c->grad_bias ? get(c->grad_bias, working, (ptrdiff_t)j) : 0;
    /* a subnormal x_hat may be some steps off; partial sums may leave the range */
    const long double steps = sets + t->bias_size[j] * (long double)c->cols;
    CHECK(c->grad_weight == NULL || t->weight_size[j] > most ||
              is_near(weight, t->weight[j], bound * t->weight_size[j], steps, working),
          "%s: grad_weight %zu is %.17g, not %.21Lg; of %Lg",
          describe_row_call(c, what), j, weight, t->weight[j], t->weight_size[j]);
    CHECK(c->grad_bias == NULL || t->bias_size[j] > most ||
              is_near(bias, t->bias[j], bound * t->bias_size[j], sets, working),
          "%s: grad_bias %zu is %.17g, not %.21Lg; of %Lg", describe_row_call(c, what),
          j, bias, t->bias[j], t->bias_size[j]);
  }
}

/* ---- Arrays of a call ------------------------------------------------------------ */

enum { ROW_SLACK = 64 };

/* Memory for all of its arrays, filled from patterns; grad_x and the sums are set. */
static inline row_call new_row_call(row_call c, pattern g, pattern x,
                                    unsigned variant) {
  const size_t inner = inner_of(&c), sets = c.rows * inner;
  const size_t each = sizeof(double), extent = row_extent(&c, c.x_stride);
  const size_t g_extent = row_extent(&c, c.g_stride);
  rng random = {(uint64_t)(c.rows * 1000003 + c.cols * 1009 + inner) + variant};
  unsigned char *gs = new_bytes((g_extent + ROW_SLACK) * each);
  unsigned char *xs = new_bytes((extent + ROW_SLACK) * each);
  unsigned char *weight = new_bytes(c.cols * each);
  const fastnorm_dtype pattern_type = working_of(c.dtype);
  for (size_t r = 0; r < c.rows; r++)
    for (size_t j = 0; j < c.cols; j++)
      for (size_t i = 0; i < inner; i++) {
        const double gv = pattern_value(g, pattern_type, &random, j, c.cols);
        const double xv = pattern_value(x, pattern_type, &random, j, c.cols);
        set_element(c.dtype, gs, row_place(&c, c.g_stride, r, j, i), gv, 1.0F, 0);
        set_element(c.dtype, xs, row_place(&c, c.x_stride, r, j, i), xv, 1.0F, 0);
      }
  for (size_t j = 0; j < c.cols; j++)
    set_element(params_of(&c), weight, j, 1.0 + 0.5 * rng_normal(&random), 1.0F, 0);
  c.g = gs;
  c.x = xs;
  c.weight = variant & 1 && c.of != OF_L2 ? weight : NULL;
  if (c.weight == NULL)
    free(weight);
  c.grad_x = new_bytes((row_extent(&c, c.y_stride) + ROW_SLACK) * each);
  c.grad_weight = c.of == OF_L2 ? NULL : new_bytes((c.cols + ROW_SLACK) * each);
  c.grad_bias = c.of == OF_LAYER ? new_bytes((c.cols + ROW_SLACK) * each) : NULL;
  c.exec.num_threads = c.exec.num_threads ? c.exec.num_threads : 1;
  if (variant & 2 && c.of != OF_L2) {
    c.mean = c.of == OF_LAYER ? new_bytes(sets * each) : NULL;
    c.rstd = new_bytes(sets * each);
    const fastnorm_layer_norm_args layer = {.size = sizeof layer,
                                            .dtype = c.dtype,
                                            .x = c.x,
                                            .y = c.grad_x,
                                            .mean = (void *)c.mean,
                                            .rstd = (void *)c.rstd,
                                            .rows = c.rows,
                                            .cols = c.cols,
                                            .inner = c.inner,
                                            .x_stride = c.x_stride,
                                            .y_stride = c.y_stride,
                                            .eps = c.eps,
                                            .exec = c.exec,
                                            .format = {.y = c.y}};
    const fastnorm_rms_norm_args rms = {.size = sizeof rms,
                                        .dtype = c.dtype,
                                        .x = c.x,
                                        .y = c.grad_x,
                                        .rstd = (void *)c.rstd,
                                        .rows = c.rows,
                                        .cols = c.cols,
                                        .inner = c.inner,
                                        .x_stride = c.x_stride,
                                        .y_stride = c.y_stride,
                                        .eps = c.eps,
                                        .exec = c.exec,
                                        .format = {.y = c.y}};
    const fastnorm_status s =
        c.of == OF_LAYER ? fastnorm_layer_norm(&layer) : fastnorm_rms_norm(&rms);
    CHECK(s == FASTNORM_OK, "forward: %s", fastnorm_strerror(s));
  }
  return c;
}

static inline void free_row_call(row_call *c) {
  free((void *)c->g);
  free((void *)c->x);
  free((void *)c->weight);
  free((void *)c->mean);
  free((void *)c->rstd);
  free(c->grad_x);
  free(c->grad_weight);
  free(c->grad_bias);
}

#endif /* FN_TEST_GRADIENTS_H */
