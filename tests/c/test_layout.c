/* test_layout.c - the same bits: in place, through strides, alone or among others.
 * SPDX-License-Identifier: MIT
 */
#include "outputs.h"

static void check_in_place(const job *j) {
  if (j->op == MOMENTS) {
    return;
  }
  outputs expected = new_outputs(j);
  outputs o = new_outputs(j);
  run_into(*j, &expected, 0);
  memcpy(o.y, j->x, o.y_bytes);
  job in_place = *j;
  in_place.x = o.y;
  run_into(in_place, &o, 0);
  check_same(j, &expected, 0, &o, 0, "in place");
  free_outputs(&o);
  free_outputs(&expected);
}

static void in_place(void) {
  each_size(check_in_place);
}

/* Gaps between rows and channels (not those of a table: they are adjacent), read and
 * written through strides; also backwards. */
static void check_strided(const job *j) {
  outputs expected = new_outputs(j);
  run_into(*j, &expected, 0);
  const int rows_only = is_row_norm(j->op);
  const int adjacent = rows_only || (j->n2 == 1 && !is_sample_norm(j->op));
  job wide = *j;
  const ptrdiff_t step1 = (ptrdiff_t)j->n2 + (adjacent ? 0 : 3);
  wide.x_s1 = wide.y_s1 = rows_only ? 0 : step1;
  wide.x_s0 = step1 * (ptrdiff_t)j->n1 + 5;
  wide.y_s0 = step1 * (ptrdiff_t)j->n1 + 2;
  void *x = new_bytes(x_extent(&wide) * sizeof(double));
  outputs o = new_outputs(&wide);
  outputs dense = new_outputs(j);
  const job forward = wide;
  wide.x = x;
  for (int backward = 0; backward < 2; backward++) {
    if (backward) {
      wide.x_s0 = -wide.x_s0;
      wide.x = (const unsigned char *)x +
               (size_t)x_offset(&forward, j->n0 - 1, 0, 0) * element_size(j->dtype);
    }
    for (size_t a = 0; a < j->n0; a++) {
      for (size_t b = 0; b < j->n1; b++) {
        for (size_t c = 0; c < j->n2; c++) {
          const size_t from = backward ? j->n0 - 1 - a : a;
          put(x, j->dtype, x_offset(&forward, from, b, c),
              get(j->x, j->dtype, x_offset(j, a, b, c)));
        }
      }
    }
    run_into(wide, &o, 0);
    for (size_t a = 0; j->op != MOMENTS && a < j->n0; a++) {
      for (size_t b = 0; b < j->n1; b++) {
        for (size_t c = 0; c < j->n2; c++) {
          put(dense.y, j->dtype, y_offset(j, a, b, c),
              get(o.y, j->dtype, y_offset(&wide, a, b, c)));
        }
      }
    }
    memcpy(dense.mean, o.mean, o.statistic_bytes);
    memcpy(dense.rstd, o.rstd, o.statistic_bytes);
    memcpy(dense.running_mean, o.running_mean, o.stored_bytes);
    memcpy(dense.running_var, o.running_var, o.stored_bytes);
    check_same(j, &expected, 0, &dense, 0, backward ? "backwards" : "strided");
  }
  free(x);
  free_outputs(&o);
  free_outputs(&dense);
  free_outputs(&expected);
}

static void strided(void) {
  each_size(check_strided);
}

/* Part `i` of a job, on its own: a sample, or a channel of batch norm and moments. */
static job part_of(const job *j, size_t i, const outputs *o) {
  const size_t size = element_size(j->dtype), width = statistic_size(j);
  const int by_sample = is_row_norm(j->op) || is_sample_norm(j->op);
  const size_t start = by_sample ? i * j->n1 * j->n2 : i * j->n2;
  const size_t statistic = by_sample ? i * (group_count(j) / j->n0) : i;
  const size_t stored = stores_groups(j->op) ? statistic : by_sample ? 0 : i;
  job one = *j;
  if (by_sample) {
    one.n0 = 1;
  } else {
    one.n1 = 1;
    one.x_s0 = one.y_s0 = (ptrdiff_t)(j->n1 * j->n2);
    one.weight = !j->weight ? NULL : (const char *)j->weight + i * size;
    one.bias = !j->bias ? NULL : (const char *)j->bias + i * size;
  }
  one.x = (const unsigned char *)j->x + start * size;
  one.y = o->y + start * size;
  one.mean = o->mean + statistic * width;
  one.rstd = o->rstd + statistic * width;
  if (has_stored(j->op)) {
    one.running_mean = o->running_mean + stored * size;
    one.running_var = o->running_var + stored * size;
  }
  return one;
}

/* Each sample (or channel) computed by a call of its own. */
static void check_alone(const job *j) {
  const int by_sample = is_row_norm(j->op) || is_sample_norm(j->op);
  if (!by_sample && j->op != BATCH_INFERENCE && j->n2 == 1) {
    return; /* statistics of a table: the exception that fastnorm.h names */
  }
  outputs together = new_outputs(j);
  outputs apart = new_outputs(j);
  run_into(*j, &together, 0);
  fill_stored(j, &apart);
  for (size_t i = 0; i < (by_sample ? j->n0 : j->n1); i++) {
    job one = part_of(j, i, &apart);
    if (updates_stored(j->op) && by_sample) { /* by those of all samples at once */
      one.running_mean = one.running_var = NULL;
      memcpy(apart.running_mean, together.running_mean, together.stored_bytes);
      memcpy(apart.running_var, together.running_var, together.stored_bytes);
    }
    CHECK(run_job(&one) == FASTNORM_OK, "%s alone", operation_names[j->op]);
  }
  if (!has_stored(j->op)) {
    memcpy(apart.running_mean, together.running_mean, together.stored_bytes);
    memcpy(apart.running_var, together.running_var, together.stored_bytes);
  }
  check_same(j, &together, 0, &apart, 0, "alone");
  free_outputs(&together);
  free_outputs(&apart);
}

static void alone(void) {
  const char *name;
  for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
    fastnorm_set_isa(name);
    each_size(check_alone);
  }
  fastnorm_set_isa(NULL);
}

/* Over a middle axis: the same columns with fewer others beside them. */
static void check_middle_axis(const job *j) {
  if (!is_row_norm(j->op) || reads_stored(j->op) || j->n2 < 3) {
    return;
  }
  const size_t first = 1; /* the columns [1, 1 + kept) */
  const size_t kept = j->n2 > 20 ? j->n2 - 11 : j->n2 - 1;
  outputs whole = new_outputs(j);
  run_into(*j, &whole, 0);
  job part = *j;
  part.n2 = kept;
  void *x = new_bytes(x_extent(&part) * sizeof(double));
  part.x = x;
  for (size_t e = 0; e < x_extent(&part); e++) {
    const size_t from = e / kept * j->n2 + first + e % kept;
    put(x, j->dtype, (ptrdiff_t)e, get(j->x, j->dtype, (ptrdiff_t)from));
  }
  outputs got = new_outputs(&part);
  outputs expected = new_outputs(&part);
  run_into(part, &got, 0);
  for (size_t e = 0; e < x_extent(&part); e++) {
    const size_t from = e / kept * j->n2 + first + e % kept;
    put(expected.y, j->dtype, (ptrdiff_t)e, get(whole.y, j->dtype, (ptrdiff_t)from));
  }
  for (size_t g = 0; g < group_count(&part); g++) {
    const ptrdiff_t from = (ptrdiff_t)(g / kept * j->n2 + first + g % kept);
    put(expected.mean, j->dtype, (ptrdiff_t)g, get(whole.mean, j->dtype, from));
    put(expected.rstd, j->dtype, (ptrdiff_t)g, get(whole.rstd, j->dtype, from));
  }
  check_same(&part, &expected, 0, &got, 0, "fewer columns");
  free(x);
  free_outputs(&whole);
  free_outputs(&got);
  free_outputs(&expected);
}

static void middle_axis(void) {
  each_size(check_middle_axis);
}

/* ---- NaN and Inf --------------------------------------------------------------- */

/* The statistics and results of every group but `g` are those without the bad value. */
static void check_others(const job *j, const outputs *clean, const outputs *spoilt,
                         size_t g, const char *what) {
  for (size_t a = 0; j->op != MOMENTS && a < j->n0; a++) {
    for (size_t b = 0; b < j->n1; b++) {
      for (size_t c = 0; c < j->n2; c++) {
        const size_t own = group_of(j, (place){a, b, c});
        const size_t size = element_size(j->dtype);
        const size_t at = (size_t)y_offset(j, a, b, c) * size;
        const double got = get(spoilt->y, j->dtype, y_offset(j, a, b, c));
        if (own != g && memcmp(clean->y + at, spoilt->y + at, size) != 0) {
          fail("%s: %s [%zu, %zu, %zu] on %s: group %zu changed by group %zu", what,
               operation_names[j->op], j->n0, j->n1, j->n2, fastnorm_isa(), own, g);
          return;
        }
        /* It makes its own group's statistics NaN; stored ones do not know it. */
        const int all = !reads_stored(j->op) && j->op != RMS_NORM && !is_length(j->op);
        if (own == g && all && !isnan(got)) {
          fail("%s: %s [%zu, %zu, %zu] on %s: %g in its own group", what,
               operation_names[j->op], j->n0, j->n1, j->n2, fastnorm_isa(), got);
          return;
        }
      }
    }
  }
  const size_t width = statistic_size(j);
  for (size_t k = 0; k < group_count(j); k++) {
    CHECK(k == g ||
              (memcmp(clean->mean + k * width, spoilt->mean + k * width, width) == 0 &&
               memcmp(clean->rstd + k * width, spoilt->rstd + k * width, width) == 0),
          "%s: %s: statistics of group %zu changed by %zu", what,
          operation_names[j->op], k, g);
  }
  const size_t size = element_size(j->dtype);
  for (size_t k = 0; has_stored(j->op) && k < stored_count(j); k++) {
    const size_t at = k * size;
    CHECK(k == stored_of(j, g) ||
              (memcmp(clean->running_mean + at, spoilt->running_mean + at, size) == 0 &&
               memcmp(clean->running_var + at, spoilt->running_var + at, size) == 0),
          "%s: %s: stored statistics %zu changed by group %zu", what,
          operation_names[j->op], k, g);
  }
}

static void check_not_finite(const job *j) {
  static const double bad[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
  static const char *const names[] = {"NaN", "Inf", "-Inf"};
  const size_t bytes = x_extent(j) * element_size(j->dtype);
  void *x = new_bytes(bytes);
  const char *name;
  for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
    fastnorm_set_isa(name);
    outputs clean = new_outputs(j);
    run_into(*j, &clean, 0);
    for (size_t k = 0; k < LENGTH(bad); k++) {
      const size_t g = (k * 7 + group_length(j)) % group_count(j);
      const size_t index = (k * 5 + 2) % group_length(j);
      const place at = group_element(j, g, index);
      outputs spoilt = new_outputs(j);
      job poisoned = *j;
      memcpy(x, j->x, bytes);
      put(x, j->dtype, x_offset(j, at.i0, at.i1, at.i2), bad[k]);
      poisoned.x = x;
      run_into(poisoned, &spoilt, 0);
      check_others(j, &clean, &spoilt, g, names[k]);
      if (j->op == RMS_NORM || is_length(j->op)) {
        CHECK(isnan(get(spoilt.y, j->dtype, y_offset(j, at.i0, at.i1, at.i2))),
              "%s: %s gave a number for it", names[k], operation_names[j->op]);
      }
      if (j->op == MOMENTS) {
        CHECK(isnan(((const double *)(void *)spoilt.rstd)[g]), "%s: m2 is a number",
              names[k]);
      }
      free_outputs(&spoilt);
    }
    free_outputs(&clean);
  }
  fastnorm_set_isa(NULL);
  free(x);
}

static void not_finite_stays_in_its_group(void) {
  for (size_t length = 2; length <= 80; length += AT_LEVEL(1, 7, 15)) {
    each_job(length, check_not_finite);
  }
  each_job(600, check_not_finite);
  each_job(5000, check_not_finite);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"in_place", in_place},
      {"strided", strided},
      {"alone", alone},
      {"middle_axis", middle_axis},
      {"not_finite_stays_in_its_group", not_finite_stays_in_its_group},
  };
  return RUN_TESTS(argc, argv, tests);
}
