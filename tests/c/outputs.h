/* outputs.h - runs jobs into fresh arrays and compares all that they wrote, bit by bit.
 * SPDX-License-Identifier: MIT
 */
#ifndef FN_TEST_OUTPUTS_H
#define FN_TEST_OUTPUTS_H

#include "job.h"

enum { SLACK = 64 }; /* room for shifted arrays */

/* The outputs of one call, each in an array of its own. */
typedef struct outputs {
  size_t y_bytes, statistic_bytes, stored_bytes;
  unsigned char *y, *mean, *rstd, *running_mean, *running_var;
} outputs;

static inline size_t x_extent(const job *j) {
  return (size_t)x_offset(j, j->n0 - 1, j->n1 - 1, j->n2 - 1) + 1;
}

static inline outputs new_outputs(const job *j) {
  outputs o;
  o.y_bytes = j->op == MOMENTS
                  ? 0
                  : ((size_t)y_offset(j, j->n0 - 1, j->n1 - 1, j->n2 - 1) + 1) *
                        element_size(j->dtype);
  o.statistic_bytes = group_count(j) * statistic_size(j);
  o.y = new_bytes(o.y_bytes + SLACK * sizeof(double));
  o.mean = new_bytes(o.statistic_bytes + SLACK);
  o.rstd = new_bytes(o.statistic_bytes + SLACK);
  o.stored_bytes = stored_count(j) * element_size(j->dtype);
  o.running_mean = new_bytes(o.stored_bytes + SLACK);
  o.running_var = new_bytes(o.stored_bytes + SLACK);
  return o;
}

static inline void free_outputs(outputs *o) {
  free(o->y);
  free(o->mean);
  free(o->rstd);
  free(o->running_mean);
  free(o->running_var);
}

static inline void fill_stored(const job *j, const outputs *o) {
  fill_flat(o->running_mean, j->dtype, stored_count(j), 0.5, 1.0, 21);
  fill_flat(o->running_var, j->dtype, stored_count(j), 9.0, 1.0, 22);
}

/* Runs the job into `o`; running statistics begin from fixed values. */
static inline void run_into(job j, outputs *o, size_t y_shift) {
  j.y = o->y + y_shift * element_size(j.dtype);
  j.mean = o->mean;
  j.rstd = o->rstd;
  if (has_stored(j.op)) {
    j.running_mean = o->running_mean;
    j.running_var = o->running_var;
    fill_stored(&j, o);
  }
  const fastnorm_status status = run_job(&j);
  CHECK(status == FASTNORM_OK, "%s [%zu, %zu, %zu]: %s", operation_names[j.op], j.n0,
        j.n1, j.n2, fastnorm_strerror(status));
}

static inline void check_same(const job *j, const outputs *a, size_t a_shift,
                              const outputs *b, size_t b_shift, const char *what) {
  const size_t size = element_size(j->dtype);
  const int y_same =
      memcmp(a->y + a_shift * size, b->y + b_shift * size, a->y_bytes) == 0;
  const int statistics_same =
      memcmp(a->mean, b->mean, a->statistic_bytes) == 0 &&
      memcmp(a->rstd, b->rstd, a->statistic_bytes) == 0 &&
      memcmp(a->running_mean, b->running_mean, a->stored_bytes) == 0 &&
      memcmp(a->running_var, b->running_var, a->stored_bytes) == 0;
  CHECK(y_same && statistics_same,
        "%s %s [%zu, %zu, %zu] w %d b %d on %s: %s: %s differ", operation_names[j->op],
        dtype_name(j->dtype), j->n0, j->n1, j->n2, j->weight != NULL, j->bias != NULL,
        fastnorm_isa(), what, y_same ? "statistics" : "results");
}

/* ---- The set of jobs ----------------------------------------------------------- */

typedef void (*job_check)(const job *j);

static inline void with_input(job j, pattern p, unsigned variant, job_check check) {
  void *x = new_bytes((x_extent(&j) + SLACK) * sizeof(double));
  const size_t parameters = parameter_count(&j);
  void *weight = new_bytes(parameters * sizeof(double));
  void *bias = new_bytes(parameters * sizeof(double));
  fill_x(&j, x, p, (uint64_t)(j.n0 * 1000003 + j.n1 * 1009 + j.n2));
  fill_flat(weight, j.dtype, parameters, 1.0, 0.5, 31);
  fill_flat(bias, j.dtype, parameters, 0.0, 0.5, 32);
  j.x = x;
  j.weight = variant & 1 && has_weight(j.op) ? weight : NULL;
  j.bias = (variant & 2) && has_bias(j.op) ? bias : NULL;
  j.eps = variant & 4 ? FASTNORM_EPS_ZERO : 0.0;
  j.exec.num_threads = 1;
  check(&j);
  free(x);
  free(weight);
  free(bias);
}

static const pattern bit_patterns[] = {NORMAL,    OFFSET_1E6, MIXED_SCALES, EXTREME,
                                       HUGE_LAST, CONSTANT,   SUBNORMAL};

/* Groups of `length` values in one of four layouts. With layout 3 those of group norm
 * are three times as long. */
static inline job shape_of(operation op, size_t length, int layout) {
  static const size_t others[] = {1, 3, 5, 19};
  const size_t other = others[(length + (size_t)layout) % 4];
  job j = {.op = op, .groups = 1};
  if (is_row_norm(op)) {
    const size_t rows[] = {other, 2, 1, 35};
    const size_t inner[] = {1, other + 1, 33, 1};
    j.n0 = rows[layout];
    j.n1 = length;
    j.n2 = inner[layout];
  } else if (is_sample_norm(op)) {
    const size_t per = length % 3 == 0 ? 3 : length % 2 == 0 ? 2 : 1;
    const size_t batch[] = {1, 2, 3, 2};
    const size_t groups[] = {other, other, 4, 40};
    const size_t channels[] = {1, is_instance_norm(op) ? 1 : length, per, 3};
    const size_t spatial[] = {length, length / channels[1], length / per, length};
    set_samples(&j, batch[layout], groups[layout], channels[layout], spatial[layout]);
  } else {
    const size_t batch[] = {1, length, 3, length};
    const size_t channels[] = {other, other, other, 40};
    const size_t spatial[] = {length, 1, length, 1};
    j.n0 = batch[layout];
    j.n1 = channels[layout];
    j.n2 = spatial[layout];
  }
  return j;
}

/* Every operation and type over `length` values per group, in four layouts; but at the
 * lower levels only a part of the large groups, each time another. */
static inline void each_job(size_t length, job_check check) {
  const size_t part = length < 200 ? AT_LEVEL(1, 1, 5) : AT_LEVEL(1, 3, 7);
  for (int op = 0; op < OPERATIONS; op++) {
    for (int layout = 0; layout < 4; layout++) {
      job j = shape_of((operation)op, length, layout);
      if (is_too_short(&j)) {
        continue;
      }
      for (int type = 0; type < 2; type++) {
        if (((size_t)(op + 5 * layout + 11 * type) + length) % part != 0) {
          continue;
        }
        const unsigned variant = (unsigned)(length + (size_t)layout * 3 + (size_t)type);
        const pattern p =
            bit_patterns[(length + (size_t)op + (size_t)layout) % LENGTH(bit_patterns)];
        j.dtype = working_type(type);
        with_input(j, p, variant, check);
      }
    }
  }
}

static inline void each_size(job_check check) {
  static const size_t larger_sizes[] = {255,  256,  257,  511,  512,  513, 768,
                                        1000, 1024, 2049, 4096, 5003, 9001};
  const size_t last = AT_LEVEL(130, 70, 66);
  for (size_t length = 1; length <= last; length++) {
    each_job(length, check);
  }
  for (size_t i = 0; i < LENGTH(larger_sizes) - AT_LEVEL(0, 5, 7); i++) {
    each_job(larger_sizes[i], check);
  }
}

#endif /* FN_TEST_OUTPUTS_H */
