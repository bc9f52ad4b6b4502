/* test_channel_gradients.c - gradients of the norms of channels against the oracle, on
 * hostile input, on every ISA; and where they are exactly 0.
 * SPDX-License-Identifier: MIT
 */
#include "channel_gradients.h"

enum { CAPACITY = 1 << 20 }; /* elements of each array */

static double *room[PARTS];

static void open_rooms(void) {
  for (int i = 0; i < PARTS; i++) {
    room[i] = new_bytes(CAPACITY * sizeof(double));
  }
}

/* ---- Comparing ------------------------------------------------------------------- */

static long double bound(fastnorm_dtype dtype) {
  return dtype == FASTNORM_FLOAT32 ? 8e-7L : 2e-15L;
}

/* Within bound * scale and some subnormal steps; past the range, an infinity. */
static int is_near(double got, long double exact, long double scale, long double steps,
                   fastnorm_dtype dtype) {
  if (fabsl(exact) > largest_of(dtype) * (1.0L - bound(dtype))) {
    return isinf(got) || fabsl((long double)got) > largest_of(dtype) * 0.999L;
  }
  const long double error = fabsl((long double)got - exact);
  return error <= bound(dtype) * scale + steps * smallest_of(dtype);
}

static void check_parameters(const gradient_job *j, const parameter_truth *parameters,
                             const char *what) {
  const fastnorm_dtype type = working_of(j->dtype);
  const long double count = (long double)(j->samples * j->spatial);
  for (size_t c = 0; c < j->channels; c++) {
    const parameter_truth *q = &parameters[c];
    const double weight = number(j, GRAD_WEIGHT, (ptrdiff_t)c);
    /* xhat may be subnormal beside eps, and then has steps of its own */
    const long double steps = count + 1.0L + q->bias_scale;
    CHECK(is_near(weight, total(&q->weight), q->weight_scale, steps, type),
          "%s: grad_weight[%zu] is %.17g, not %.21Lg (terms %.3Lg)",
          gradient_name(j, what), c, weight, total(&q->weight), q->weight_scale);
    if (j->op != WEIGHT) {
      const double bias = number(j, GRAD_BIAS, (ptrdiff_t)c);
      CHECK(is_near(bias, total(&q->bias), q->bias_scale, count + 1.0L, type),
            "%s: grad_bias[%zu] is %.17g, not %.21Lg", gradient_name(j, what), c, bias,
            total(&q->bias));
    }
  }
}

static void check_elements(const gradient_job *j, const gradient_truth *truths,
                           const char *what) {
  for (size_t g = 0; g < statistics_of(j); g++) {
    for (size_t i = 0; i < members(j); i++) {
      size_t n, c, s;
      member(j, g, i, &n, &c, &s);
      const long double exact = exact_gradient(j, &truths[g], n, c, s);
      const double got = number(j, GRAD_X, place_in(j, 2, n, c, s));
      if (!is_near(got, exact, truths[g].scale, 2.0L, working_of(j->dtype))) {
        fail("%s: group %zu element %zu is %.17g, not %.21Lg (terms %.3Lg)",
             gradient_name(j, what), g, i, got, exact, truths[g].scale);
        return;
      }
    }
  }
}

/* Runs the job on every ISA, or on the best one, and compares all that it wrote. */
static void check_gradient(const gradient_job *j, int everywhere, const char *what) {
  parameter_truth *parameters = new_bytes(j->channels * sizeof *parameters);
  gradient_truth *truths = new_bytes(statistics_of(j) * sizeof *truths);
  const char *name;
  for (size_t g = 0; g < statistics_of(j); g++) {
    truths[g] = find_gradient(j, g, parameters);
  }
  for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
    if (i > 0 && !everywhere) {
      break;
    }
    fastnorm_set_isa(name);
    const fastnorm_status status = run_gradient(j);
    if (status != FASTNORM_OK) {
      fail("%s: %s", gradient_name(j, what), fastnorm_strerror(status));
      continue;
    }
    check_elements(j, truths, what);
    check_parameters(j, parameters, what);
  }
  fastnorm_set_isa(NULL);
  free(truths);
  free(parameters);
}

/* ---- Jobs ------------------------------------------------------------------------ */

/* mean and rstd as the norm would write them, or, where they do not depend on x, others
 * near those. */
static void give_statistics(gradient_job *j) {
  const fastnorm_dtype type = type_of(j, MEANS);
  gradient_job own = *j;
  own.op = j->op == BATCH_FIXED           ? BATCH
           : j->op == RENORM_FIXED        ? RENORM
           : j->op == INSTANCE_FIXED      ? INSTANCE
           : j->op == INSTANCE_FIXED_LAST ? INSTANCES_LAST
                                          : j->op;
  j->p[MEANS] = room[MEANS];
  j->p[RSTDS] = room[RSTDS];
  for (size_t g = 0; g < statistics_of(j); g++) {
    const statistic t = find_statistic(&own, g);
    long double rstd = t.rstd, mean = t.hi + t.lo;
    if (j->op == WEIGHT) {
      rstd = t.rstd > 0.0L ? 1.0L / t.rstd : 0.0L; /* the norm */
    } else if (is_fixed(j->op)) {
      rstd *= 0.9L;
      mean += t.rstd > 0.0L ? 0.1L / t.rstd : 0.0L;
    }
    if (is_fixed(j->op) && rstd > largest_of(type)) {
      rstd = largest_of(type);
    }
    put(j->p[MEANS], type, (ptrdiff_t)g, (double)mean);
    put(j->p[RSTDS], type, (ptrdiff_t)g,
        rstd > largest_of(type) ? (double)INFINITY : (double)rstd);
  }
}

/* `variant` chooses eps, weight, and whether statistics are given. */
static gradient_job make_gradient(int op, int type, size_t samples, size_t channels,
                                  size_t spatial, size_t groups, unsigned variant) {
  gradient_job j = {.op = (norm)op,
                    .dtype = working_type(type),
                    .samples = samples,
                    .channels = channels,
                    .spatial = spatial,
                    .groups = channels % groups == 0 ? groups : 1};
  for (int i = 0; i < PARTS; i++) {
    j.p[i] = room[i];
  }
  j.eps = variant & 4 ? FASTNORM_EPS_ZERO : variant & 8 ? 1e-3 : 0.0;
  j.exec.num_threads = 1;
  fill_numbers(&j, WEIGHTS, 1.0, 0.5, 11);
  fill_numbers(&j, R, 1.0, 0.2, 12);
  fill_numbers(&j, D, 0.0, 0.5, 13);
  j.p[WEIGHTS] = variant & 1 ? room[WEIGHTS] : NULL;
  j.p[MEANS] = j.p[RSTDS] = NULL;
  return j;
}

static void with_patterns(gradient_job j, pattern x, pattern g, unsigned variant,
                          int everywhere) {
  char what[80];
  const size_t needed = (size_t)(count_of(&j, INPUT) | count_of(&j, GRAD_X));
  if (is_single(&j) || needed > CAPACITY) {
    return;
  }
  fill_elements(&j, INPUT, x, 1 + j.samples + 7 * j.spatial);
  fill_elements(&j, GRAD_Y, g, 2 + j.channels + 5 * j.spatial);
  if (is_fixed(j.op) || variant & 2) {
    give_statistics(&j);
  }
  snprintf(what, sizeof what, "x %s, g %s", pattern_names[x], pattern_names[g]);
  check_gradient(&j, everywhere, what);
}

/* ---- Tests ----------------------------------------------------------------------- */

/* Lengths around every vector, chain and block; channels in every layout. */
static void check_length(size_t length, int everywhere) {
  for (int op = 0; op < NORMS; op++) {
    for (int type = 0; type < 2; type++) {
      if (((size_t)(op + type) + length) % AT_LEVEL(1, 1, 4) != 0) {
        continue;
      }
      const unsigned v = (unsigned)(length + (size_t)op * 3);
      const size_t few = 1 + length % 5;
      const struct {
        size_t samples, channels, spatial, groups;
      } shapes[] = {{few, 3, length, 3},
                    {length, few, 1, 1},
                    {2, length, few, 1},
                    {2, 6, length, 2}};
      for (size_t i = 0; i < LENGTH(shapes); i++) {
        const gradient_job j =
            make_gradient(op, type, shapes[i].samples, shapes[i].channels,
                          shapes[i].spatial, shapes[i].groups, v + (unsigned)i);
        with_patterns(j, NORMAL, NORMAL, v + (unsigned)i, everywhere);
      }
    }
  }
}

static void lengths(void) {
  static const size_t larger_ones[] = {127, 128, 129, 255,  256,  257,
                                       511, 513, 777, 1025, 2049, 4099};
  for (size_t length = 1; length <= 70; length += AT_LEVEL(1, 11, 13)) {
    check_length(length, 1);
  }
  for (size_t i = 0; i < LENGTH(larger_ones); i += AT_LEVEL(1, 5, 5)) {
    check_length(larger_ones[i], i % 4 == 0);
  }
}

/* More elements, columns or rows than any chunk, block or stage. */
static void large_shapes(void) {
  static const struct {
    size_t samples, channels, spatial, groups;
  } shapes[] = {{3, 2, 40000, 1},  {1, 1, 300000, 1}, {40000, 3, 1, 1},
                {3000, 130, 1, 2}, {2, 1100, 9, 2},   {2, 600, 50, 600},
                {70000, 7, 1, 7},  {2, 700, 1, 1},    {9, 96, 200, 32}};
  for (size_t i = 0; i < LENGTH(shapes); i += AT_LEVEL(1, 4, 5)) {
    for (int op = 0; op < NORMS; op++) {
      for (int type = 0; type < 2; type++) {
        const unsigned v = (unsigned)(i + (size_t)op);
        if ((v + (unsigned)type) % AT_LEVEL(1, 1, 3) != 0) {
          continue;
        }
        const gradient_job j =
            make_gradient(op, type, shapes[i].samples, shapes[i].channels,
                          shapes[i].spatial, shapes[i].groups, v);
        with_patterns(j, v % 2 ? NORMAL : OFFSET_1E4, v % 3 ? NORMAL : OFFSET_100, v,
                      0);
      }
    }
  }
}

/* Every pattern of x with ordinary gradients, and the reverse; and some of both. */
static void patterns(void) {
  static const struct {
    size_t samples, channels, spatial, groups;
  } shapes[] = {{3, 4, 50, 2}, {60, 5, 1, 1}, {2, 6, 7, 3}, {2, 40, 33, 2}};
  for (size_t i = 0; i < LENGTH(shapes); i += AT_LEVEL(1, 3, 3)) {
    for (int op = 0; op < NORMS; op++) {
      for (int type = 0; type < 2; type++) {
        for (unsigned v = 0; v < 2 * PATTERNS; v++) {
          const unsigned variant = v + (unsigned)i + (unsigned)op;
          if ((variant + (unsigned)type) % AT_LEVEL(1, 1, 5) != 0) {
            continue;
          }
          const pattern p = (pattern)(v % PATTERNS);
          const pattern other = (pattern)((v * 7 + 3 + (unsigned)op) % PATTERNS);
          const gradient_job j =
              make_gradient(op, type, shapes[i].samples, shapes[i].channels,
                            shapes[i].spatial, shapes[i].groups, variant);
          with_patterns(j, p, NORMAL, variant, 0);
          with_patterns(j, NORMAL, p, variant, 0);
          with_patterns(j, p, other, variant, 0);
        }
      }
    }
  }
}

/* Each of the three gradients alone has the bits that it has among the others; x and
 * mean are not looked at where they are not needed. */
static void wanted(void) {
  for (int op = 0; op < NORMS; op++) {
    for (int type = 0; type < 2; type++) {
      const size_t size = element_size(working_type(type));
      gradient_job j = make_gradient(op, type, 5, 6, 37, 2, 3);
      fill_elements(&j, INPUT, NORMAL, 5);
      fill_elements(&j, GRAD_Y, NORMAL, 6);
      give_statistics(&j);
      CHECK(run_gradient(&j) == FASTNORM_OK, "%s", gradient_name(&j, "all"));
      for (part id = GRAD_X; id <= GRAD_BIAS; id++) {
        gradient_job one = j;
        if (id == WEIGHTS || (id == GRAD_BIAS && op == WEIGHT)) {
          continue;
        }
        one.p[GRAD_X] = one.p[GRAD_WEIGHT] = one.p[GRAD_BIAS] = NULL;
        one.p[id] = new_bytes(count_of(&j, id) * size);
        if (is_fixed(j.op) && id != GRAD_WEIGHT) {
          one.p[INPUT] = one.p[MEANS] = NULL;
        }
        CHECK(run_gradient(&one) == FASTNORM_OK &&
                  memcmp(one.p[id], j.p[id], count_of(&j, id) * size) == 0,
              "%s", gradient_name(&one, "alone"));
        free(one.p[id]);
      }
    }
  }
}

static void check_zero(const gradient_job *j, part id, const char *what) {
  for (size_t i = 0; i < count_of(j, id); i++) {
    const double got = number(j, id, (ptrdiff_t)i);
    if (got < 0.0 || got > 0.0 || isnan(got)) {
      fail("%s: [%zu] is %g", gradient_name(j, what), i, got);
      return;
    }
  }
}

/* What theory says is 0 is exactly that. */
static void zeros(void) {
  static const double numbers[] = {1.0, 3.3, -1e-3, 1e6 + 0.1, 1e-30, 7e29, 0.0};
  for (int op = 0; op < NORMS; op++) {
    for (int type = 0; type < 2; type++) {
      for (size_t k = 0; k < 14; k++) {
        const size_t spatial = 1 + (k * 37) % 150, samples = 2 + k % 4;
        gradient_job j = make_gradient(op, type, samples, 6, spatial, 2, k % 2 ? 2 : 0);
        const pattern p = k % 3 ? NORMAL : OFFSET_1E4;
        if (is_single(&j)) {
          continue;
        }
        fill_elements(&j, INPUT, p, k);
        fill_numbers(&j, GRAD_Y, numbers[k % LENGTH(numbers)], 0.0, 1);
        if (is_fixed(j.op) || k % 2) {
          give_statistics(&j);
        }
        CHECK(run_gradient(&j) == FASTNORM_OK, "%s", gradient_name(&j, "zeros"));
        if (!is_fixed(j.op) && (op != WEIGHT || k % LENGTH(numbers) == 6)) {
          check_zero(&j, GRAD_X, "grad_x of a constant gradient");
        }
        fill_elements(&j, GRAD_Y, NORMAL, k);
        fill_numbers(&j, INPUT, op == WEIGHT ? 0.0 : numbers[k % LENGTH(numbers)], 0.0,
                     1);
        j.p[D] = NULL;
        if (j.p[MEANS]) {
          give_statistics(&j);
        }
        for (size_t g = 0; is_fixed(j.op) && g < statistics_of(&j); g++) {
          put(j.p[MEANS], j.dtype, (ptrdiff_t)g, number(&j, INPUT, 0));
        }
        CHECK(run_gradient(&j) == FASTNORM_OK, "%s", gradient_name(&j, "zeros"));
        check_zero(&j, GRAD_WEIGHT, "grad_weight of a constant input");
        if (op == WEIGHT) {
          check_zero(&j, GRAD_X, "grad_x of zeros");
        }
      }
    }
  }
}

/* A NaN or Inf stays in the channels that share its statistics. */
static void not_finite(void) {
  static const double bad[] = {(double)NAN, (double)INFINITY};
  for (int op = 0; op < NORMS; op++) {
    for (int k = 0; k < 8; k++) {
      gradient_job j = make_gradient(op, k % 2, 3, 6, 19, 3, 1);
      const part id = k / 2 % 2 ? GRAD_Y : INPUT;
      fill_elements(&j, INPUT, NORMAL, 5);
      fill_elements(&j, GRAD_Y, NORMAL, 6);
      give_statistics(&j);
      put(j.p[id], j.dtype, place_in(&j, 0, 1, 3, 8), bad[k / 4]);
      CHECK(run_gradient(&j) == FASTNORM_OK, "%s", gradient_name(&j, "NaN"));
      for (size_t g = 0; g < statistics_of(&j); g++) {
        for (size_t i = 0; i < members(&j); i++) {
          size_t n, c, s;
          member(&j, g, i, &n, &c, &s);
          const int near = (j.op != BATCH && is_by_sample(j.op) ? n == 1 : 1) &&
                           c / (j.channels / groups_of_job(&j)) ==
                               3 / (j.channels / groups_of_job(&j));
          const double got = number(&j, GRAD_X, place_in(&j, 2, n, c, s));
          CHECK(near || isfinite(got), "%s: [%zu, %zu, %zu] is %g",
                gradient_name(&j, "NaN"), n, c, s, got);
        }
      }
      CHECK(!isfinite(number(&j, GRAD_WEIGHT, 3)) &&
                isfinite(number(&j, GRAD_WEIGHT, 0)),
            "%s: grad_weight", gradient_name(&j, "NaN"));
    }
  }
}

/* No elements: sums of nothing. */
static void empty(void) {
  for (int op = 0; op < NORMS; op++) {
    for (int k = 0; k < 2; k++) {
      gradient_job j = make_gradient(op, k, 2, 6, 3, 2, 1);
      fill_numbers(&j, GRAD_WEIGHT, 7.0, 0.0, 1);
      fill_numbers(&j, GRAD_BIAS, 7.0, 0.0, 1);
      j.samples = k ? 0 : 2;
      j.spatial = k ? 3 : 0;
      CHECK(run_gradient(&j) == FASTNORM_OK, "%s", gradient_name(&j, "empty"));
      check_zero(&j, GRAD_WEIGHT, "grad_weight");
      if (op != WEIGHT) {
        check_zero(&j, GRAD_BIAS, "grad_bias");
      }
    }
  }
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"lengths", lengths},   {"large_shapes", large_shapes},
      {"patterns", patterns}, {"wanted", wanted},
      {"zeros", zeros},       {"not_finite", not_finite},
      {"empty", empty}};
  open_rooms();
  return RUN_TESTS(argc, argv, tests);
}
