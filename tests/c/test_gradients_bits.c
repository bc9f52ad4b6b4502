/* test_gradients_bits.c - gradients of the norms of rows: the same bits on every ISA,
 * thread count, alignment, layout and type.
 * SPDX-License-Identifier: MIT
 */
#include "row_outputs.h"

static void each_shape(call_check check) {
  static const size_t larger[] = {255, 257, 512, 1000, 4096, 9001};
  for (size_t cols = 1; cols <= 70; cols += AT_LEVEL(3, 5, 9)) {
    each_type(1 + cols * 5 % 41, cols, 1, check);
    each_type(1 + cols % 3, cols, 2 + cols % 3 * 17, check);
  }
  for (size_t i = 0; i < LENGTH(larger) - AT_LEVEL(0, 2, 3); i++) {
    each_type(1 + i * 3, larger[i], 1, check);
    each_type(2, larger[i], 1 + i, check);
  }
  each_type(3, 5, 1200, check);
  each_type(700, 9, 1, check);
}

/* ---- What may not change them -------------------------------------------------- */

static void check_isas(const row_call *c) {
  row_outputs expected = new_row_outputs(c);
  fastnorm_set_isa("portable");
  run_call_into(*c, &expected, 0);
  const char *name;
  for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
    row_outputs o = new_row_outputs(c);
    fastnorm_set_isa(name);
    run_call_into(*c, &o, 0);
    check_equal(c, &expected, &o, 0, "not as on portable");
    free_row_outputs(&o);
  }
  fastnorm_set_isa(NULL);
  free_row_outputs(&expected);
}

static void isas(void) {
  each_shape(check_isas);
}

static void backwards(void *context, size_t count, fastnorm_task task,
                      void *task_context) {
  (void)context;
  while (count > 0)
    task(task_context, --count);
}

static void check_threads(const row_call *c) {
  row_outputs expected = new_row_outputs(c);
  run_call_into(*c, &expected, 0);
  const size_t bytes = row_scratch(c);
  void *scratch = new_bytes(bytes);
  for (int how = AT_LEVEL(0, 1, 1); how < AT_LEVEL(6, 4, 4); how++) {
    row_outputs o = new_row_outputs(c);
    row_call shared = *c;
    shared.exec.num_threads = 1 + how;
    shared.exec.parallel_for = how % 2 ? backwards : NULL;
    shared.scratch = how < 4 ? scratch : NULL;
    shared.scratch_size = how == 3 && bytes > 0 ? bytes - 1 : bytes;
    memset(scratch, 0x7f, bytes);
    run_call_into(shared, &o, 0);
    check_equal(c, &expected, &o, 0, "threads and scratch");
    free_row_outputs(&o);
  }
  free(scratch);
  free_row_outputs(&expected);
}

static void threads(void) {
  static const size_t shapes[][3] = {{400, 768, 1}, {3, 40000, 1}, {20000, 5, 1},
                                     {40, 64, 300}, {1, 16, 4000}, {300, 16, 9},
                                     {1000, 600, 1}};
  each_shape(check_threads);
  for (size_t i = 0; i < LENGTH(shapes) - AT_LEVEL(0, 4, 5); i++)
    each_type(shapes[i][0],
              shapes[i][1] > 20000 ? AT_LEVEL(40000, 20000, 20000) : shapes[i][1],
              shapes[i][2], check_threads);
}

static void check_alignment(const row_call *c) {
  row_outputs expected = new_row_outputs(c);
  run_call_into(*c, &expected, 0);
  const size_t size = bytes_of(c->dtype);
  const size_t extent = row_extent(c, 0) * size;
  unsigned char *g = new_bytes(extent + ROW_SLACK * size);
  unsigned char *x = new_bytes(extent + ROW_SLACK * size);
  for (size_t shift = 1; shift <= 16; shift += 3) {
    row_outputs o = new_row_outputs(c);
    row_call shifted = *c;
    memcpy(g + shift * size, c->g, extent);
    memcpy(x + (16 - shift) * size, c->x, extent);
    shifted.g = g + shift * size;
    shifted.x = x + (16 - shift) * size;
    run_call_into(shifted, &o, shift * 5 % 17);
    check_equal(c, &expected, &o, shift * 5 % 17, "shifted");
    free_row_outputs(&o);
  }
  free(g);
  free(x);
  free_row_outputs(&expected);
}

static void alignment(void) {
  for (size_t cols = 1; cols < 150; cols += AT_LEVEL(7, 17, 29)) {
    each_type(3, cols, 1, check_alignment);
    each_type(1, 3, cols, check_alignment);
  }
}

/* ---- In place -------------------------------------------------------------------- */

static void check_in_place(const row_call *c) {
  if (y_of(c) != c->dtype)
    return;
  row_outputs expected = new_row_outputs(c);
  run_call_into(*c, &expected, 0);
  const size_t bytes = row_extent(c, 0) * bytes_of(c->dtype), scratch = row_scratch(c);
  for (int how = 0; how < 4; how++) {
    row_outputs o = new_row_outputs(c);
    row_call in_place = *c;
    void *room = new_bytes(scratch);
    memcpy(o.y, how % 2 ? c->x : c->g, bytes);
    *(how % 2 ? &in_place.x : &in_place.g) = o.y;
    in_place.scratch = how < 2 ? room : NULL;
    in_place.scratch_size = how < 2 ? scratch : 0;
    run_call_into(in_place, &o, 0);
    check_equal(c, &expected, &o, 0, how % 2 ? "over x" : "over g");
    free(room);
    free_row_outputs(&o);
  }
  free_row_outputs(&expected);
}

static void in_place(void) {
  each_shape(check_in_place);
}

/* ---- Some of them ---------------------------------------------------------------- */

/* What is wanted does not change what comes out. */
static void check_some(const row_call *c) {
  row_outputs expected = new_row_outputs(c);
  run_call_into(*c, &expected, 0);
  for (int wanted = 0; wanted < 8; wanted++) {
    row_outputs o = new_row_outputs(c);
    row_call some = *c;
    row_outputs zeros = new_row_outputs(c);
    some.grad_x = wanted & 1 ? c->grad_x : NULL;
    some.grad_weight = wanted & 2 ? c->grad_weight : NULL;
    some.grad_bias = wanted & 4 ? c->grad_bias : NULL;
    run_call_into(some, &o, 0);
    const row_outputs want = {expected.y_bytes, expected.sum_bytes,
                              some.grad_x ? expected.y : zeros.y,
                              some.grad_weight ? expected.weight : zeros.weight,
                              some.grad_bias ? expected.bias : zeros.bias};
    check_equal(c, &want, &o, 0, "some of them");
    free_row_outputs(&o);
    free_row_outputs(&zeros);
  }
  free_row_outputs(&expected);
}

static void some(void) {
  for (size_t cols = 1; cols < 40; cols += 3) {
    each_type(5, cols, 1, check_some);
    each_type(2, cols, 3, check_some);
  }
  each_type(70, 600, 1, check_some);
}

/* ---- Strides --------------------------------------------------------------------- */

/* Rows apart, also upside down, are the rows of a packed array. */
static void check_strided(const row_call *c) {
  const size_t row = c->cols * inner_of(c), size = bytes_of(c->dtype);
  const size_t y_size = bytes_of(y_of(c)), apart = row + 3;
  row_outputs expected = new_row_outputs(c);
  run_call_into(*c, &expected, 0);
  for (int down = 0; down < 2; down++) {
    unsigned char *g = new_bytes(c->rows * apart * size);
    unsigned char *x = new_bytes(c->rows * apart * size);
    unsigned char *y = new_bytes(c->rows * apart * y_size);
    row_outputs o = new_row_outputs(c);
    row_call wide = *c;
    const size_t last = down ? (c->rows - 1) * apart : 0;
    for (size_t r = 0; r < c->rows; r++) {
      const size_t to = down ? c->rows - 1 - r : r;
      memcpy(g + to * apart * size, (const char *)c->g + r * row * size, row * size);
      memcpy(x + r * apart * size, (const char *)c->x + r * row * size, row * size);
    }
    memset(y, 0xa5, c->rows * apart * y_size);
    wide.g = g + last * size;
    wide.x = x;
    wide.grad_x = y + last * y_size;
    wide.grad_weight = c->grad_weight ? o.weight : NULL;
    wide.grad_bias = c->grad_bias ? o.bias : NULL;
    wide.x_stride = (ptrdiff_t)apart;
    wide.g_stride = wide.y_stride = down ? -(ptrdiff_t)apart : (ptrdiff_t)apart;
    CHECK(run_row_call(&wide) == FASTNORM_OK, "%s", describe_row_call(c, "strided"));
    for (size_t r = 0; r < c->rows; r++) {
      const size_t from = down ? c->rows - 1 - r : r;
      memcpy(o.y + r * row * y_size, y + from * apart * y_size, row * y_size);
      for (size_t i = row * y_size; i < apart * y_size; i++)
        CHECK(y[from * apart * y_size + i] == 0xa5, "%s",
              describe_row_call(c, "between the rows"));
    }
    check_equal(c, &expected, &o, 0, "strided");
    free(g);
    free(x);
    free(y);
    free_row_outputs(&o);
  }
  free_row_outputs(&expected);
}

static void strided(void) {
  for (size_t cols = 1; cols < 100; cols += AT_LEVEL(6, 13, 23)) {
    each_type(4, cols, 1, check_strided);
    each_type(3, cols, 4, check_strided);
  }
  each_type(20, 4096, 1, check_strided);
}

/* ---- Small types are wide ones, rounded at the end ------------------------------ */

static void *widened(const void *p, fastnorm_dtype dtype, size_t n) {
  float *wide = new_bytes(n * sizeof(float));
  for (size_t i = 0; p != NULL && i < n; i++)
    wide[i] = (float)element(dtype, p, i);
  return wide;
}

static void check_types(const row_call *c) {
  if (c->dtype == FASTNORM_FLOAT64)
    return;
  const size_t extent = row_extent(c, 0);
  row_outputs small = new_row_outputs(c);
  run_call_into(*c, &small, 0);
  row_call wide = *c;
  void *g = widened(c->g, c->dtype, extent), *x = widened(c->x, c->dtype, extent);
  void *weight = widened(c->weight, params_of(c), c->cols);
  wide.g = g;
  wide.x = x;
  wide.weight = c->weight ? weight : NULL;
  wide.dtype = wide.y = wide.params = FASTNORM_FLOAT32;
  if (c->of == OF_RMS && c->eps == 0.0)
    wide.eps = 0x1p-23;
  row_outputs expected = new_row_outputs(&wide);
  run_call_into(wide, &expected, 0);
  row_outputs rounded = new_row_outputs(c);
  for (size_t i = 0; i < extent; i++)
    set_element(y_of(c), rounded.y, i, element(FASTNORM_FLOAT32, expected.y, i), 1.0F,
                0);
  memcpy(rounded.weight, expected.weight, expected.sum_bytes);
  memcpy(rounded.bias, expected.bias, expected.sum_bytes);
  check_equal(c, &rounded, &small, 0, "not as the wide call");
  free(g);
  free(x);
  free(weight);
  free_row_outputs(&small);
  free_row_outputs(&rounded);
  free_row_outputs(&expected);
}

static void types(void) {
  each_shape(check_types);
}

/* ---- Alone ----------------------------------------------------------------------- */

/* The gradient of a row does not depend on the others. */
static void check_alone(const row_call *c) {
  row_outputs expected = new_row_outputs(c);
  run_call_into(*c, &expected, 0);
  const size_t row = c->cols * inner_of(c), sets = inner_of(c);
  const size_t stat = element_size(working_of(c->dtype));
  for (size_t r = 0; r < c->rows; r += 1 + c->rows / 5) {
    row_call one = *c;
    one.rows = 1;
    one.g = (const char *)c->g + r * row * bytes_of(c->dtype);
    one.x = (const char *)c->x + r * row * bytes_of(c->dtype);
    one.mean = c->mean ? (const char *)c->mean + r * sets * stat : NULL;
    one.rstd = c->rstd ? (const char *)c->rstd + r * sets * stat : NULL;
    one.grad_weight = one.grad_bias = NULL;
    row_outputs o = new_row_outputs(&one);
    run_call_into(one, &o, 0);
    const size_t size = bytes_of(y_of(c));
    CHECK(memcmp(o.y, expected.y + r * row * size, row * size) == 0, "%s: row %zu",
          describe_row_call(c, "alone"), r);
    free_row_outputs(&o);
  }
  free_row_outputs(&expected);
}

static void alone(void) {
  each_shape(check_alone);
}

/* ---- The hash -------------------------------------------------------------------- */

static void add_to_hash(const row_call *c) {
  const fastnorm_dtype working = working_of(c->dtype);
  row_outputs o = new_row_outputs(c);
  run_call_into(*c, &o, 0);
  hash_elements(y_of(c), o.y, o.y_bytes / bytes_of(y_of(c)));
  hash_elements(working, o.weight, o.sum_bytes / bytes_of(working));
  hash_elements(working, o.bias, o.sum_bytes / bytes_of(working));
  free_row_outputs(&o);
}

static void add_all(void) {
  static const size_t cols[] = {1, 7, 33, 64, 129, 257, 600, 1025};
  for (size_t i = 0; i < LENGTH(cols); i++) {
    each_type(5, cols[i], 1, add_to_hash);
    each_type(2, cols[i], 3, add_to_hash);
    each_type(3, 5, cols[i], add_to_hash);
  }
  each_type(300, 9, 1, add_to_hash);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"isas", isas},         {"threads", threads}, {"alignment", alignment},
      {"in_place", in_place}, {"some", some},       {"strided", strided},
      {"types", types},       {"alone", alone},
  };
  PRINT_HASH_IF_ASKED(argc, argv, add_all);
  return RUN_TESTS(argc, argv, tests);
}
