/* row_outputs.h - runs calls for gradients of rows into fresh arrays; compares them.
 * SPDX-License-Identifier: MIT
 */
#ifndef FN_TEST_ROW_OUTPUTS_H
#define FN_TEST_ROW_OUTPUTS_H

#include "gradients.h"

/* ---- Outputs of a call, on their own --------------------------------------------- */

typedef struct row_outputs {
  size_t y_bytes, sum_bytes;
  unsigned char *y, *weight, *bias;
} row_outputs;

static inline row_outputs new_row_outputs(const row_call *c) {
  row_outputs o;
  o.y_bytes = row_extent(c, c->y_stride) * bytes_of(y_of(c));
  o.sum_bytes = c->cols * element_size(working_of(c->dtype));
  o.y = new_bytes(o.y_bytes + ROW_SLACK * sizeof(double));
  o.weight = new_bytes(o.sum_bytes + ROW_SLACK);
  o.bias = new_bytes(o.sum_bytes + ROW_SLACK);
  return o;
}

static inline void free_row_outputs(row_outputs *o) {
  free(o->y);
  free(o->weight);
  free(o->bias);
}

static inline void run_call_into(row_call c, row_outputs *o, size_t shift) {
  c.grad_x = c.grad_x ? o->y + shift * bytes_of(y_of(&c)) : NULL;
  c.grad_weight = c.grad_weight ? o->weight : NULL;
  c.grad_bias = c.grad_bias ? o->bias : NULL;
  const fastnorm_status s = run_row_call(&c);
  CHECK(s == FASTNORM_OK, "%s", describe_row_call(&c, fastnorm_strerror(s)));
}

static inline void check_equal(const row_call *c, const row_outputs *a,
                               const row_outputs *b, size_t shift, const char *what) {
  const size_t by = shift * bytes_of(y_of(c));
  CHECK(memcmp(a->y, b->y + by, a->y_bytes) == 0, "%s: grad_x",
        describe_row_call(c, what));
  CHECK(memcmp(a->weight, b->weight, a->sum_bytes) == 0, "%s: grad_weight",
        describe_row_call(c, what));
  CHECK(memcmp(a->bias, b->bias, a->sum_bytes) == 0, "%s: grad_bias",
        describe_row_call(c, what));
}

typedef void (*call_check)(const row_call *c);

static const pattern some_patterns[] = {NORMAL,    OFFSET_1E6, EXTREME,  MIXED_SCALES,
                                        HUGE_LAST, CONSTANT,   SUBNORMAL};

/* A third of the operations and types, each time another; large arrays of the first few
 * patterns alone, since the slow path takes its time. */
static inline void each_type(size_t rows, size_t cols, size_t inner, call_check check) {
  static unsigned turn;
  static const fastnorm_dtype types[][3] = {
      {FASTNORM_FLOAT32, 0, 0},
      {FASTNORM_FLOAT64, 0, 0},
      {FASTNORM_FLOAT16, 0, 0},
      {FASTNORM_BFLOAT16, FASTNORM_FLOAT32, FASTNORM_FLOAT32},
      {FASTNORM_FLOAT32, FASTNORM_FLOAT16, FASTNORM_BFLOAT16}};
  const int large = rows * cols * inner > 100000;
  const size_t kinds = large ? 3 : LENGTH(some_patterns);
  for (int of = 0; of < ROW_GRADIENTS; of++)
    for (size_t type = 0; type < LENGTH(types); type++) {
      const unsigned variant = (unsigned)(rows + cols * 3 + inner + type);
      const size_t p = rows + cols + type;
      if (++turn % (large ? AT_LEVEL(3, 3, 7) : AT_LEVEL(3, 3, 4)) != 0)
        continue;
      const row_call shape = {.of = (row_gradient)of,
                              .dtype = types[type][0],
                              .y = types[type][1],
                              .params = types[type][2],
                              .rows = rows,
                              .cols = cols,
                              .inner = inner,
                              .eps = variant & 4 ? FASTNORM_EPS_ZERO : 0.0};
      row_call c = new_row_call(shape, some_patterns[p % kinds],
                                some_patterns[(p * 3 + p / 7) % kinds], variant);
      check(&c);
      free_row_call(&c);
    }
}

#endif /* FN_TEST_ROW_OUTPUTS_H */
