/* test_formats.c - 16- and 8-bit elements, residuals, post_add, activations: bit for
 * bit what one gets by hand, one step at a time.
 * SPDX-License-Identifier: MIT
 *
 * Every array lies against a page that nobody may touch, and all of it is compared:
 * also what a call may not write. */
#include "draw_call.h"
#include "guard.h"

enum { ROOM = 1 << 23 };

static unsigned char *rooms[SLOTS];

/* ---- Running and comparing ------------------------------------------------------- */

static void place_call(const whole_call *c, int at_end, job *j) {
  unsigned char *p[SLOTS];
  for (int s = 0; s < SLOTS; s++) {
    const size_t bytes = bytes_in(c, (slot)s);
    unsigned char *room = rooms[c->home[s]];
    p[s] = bytes == 0 ? NULL : at_end ? room + ROOM - bytes : room;
    if (bytes + MARGIN > ROOM) {
      fprintf(stderr, "too large for the rooms\n");
      exit(3);
    }
    if (bytes > 0 && c->home[s] == (slot)s) {
      memset(at_end ? p[s] - MARGIN : p[s] + bytes, 0xa5, MARGIN);
      memcpy(p[s], c->before[s], bytes);
    }
  }
  *j = c->j;
  j->x = p[X];
  j->y = p[Y];
  j->weight = p[WEIGHT];
  j->bias = p[BIAS];
  j->mean = p[MEAN];
  j->rstd = p[RSTD];
  j->running_mean = p[RUNNING_MEAN];
  j->running_var = p[RUNNING_VAR];
  j->residual = p[RESIDUAL];
  j->residual_bias = p[RESIDUAL_BIAS];
  j->residual_out = p[RESIDUAL_OUT];
  j->epilogue.post_add = p[POST_ADD];
  j->y_scale = (float *)(void *)p[Y_SCALE];
}

/* The same bits, or NaN for NaN: which NaN is not promised. */
static int same_elements(fastnorm_dtype type, const void *a, const void *b, size_t n,
                         size_t *at) {
  const size_t size = bytes_of(type);
  for (size_t i = 0; memcmp(a, b, n * size) != 0 && i < n; i++) {
    const double v = element(type, a, i), w = element(type, b, i);
    const int same =
        memcmp((const char *)a + i * size, (const char *)b + i * size, size) == 0;
    if (!same && !(isnan(v) && isnan(w))) {
      *at = i;
      return 0;
    }
  }
  return 1;
}

static void check_call(const whole_call *c, int at_end) {
  for (int s = 0; s < SLOTS; s++) {
    const size_t bytes = bytes_in(c, (slot)s);
    if (bytes == 0 || c->home[s] != (slot)s) {
      continue;
    }
    const unsigned char *p = at_end ? rooms[s] + ROOM - bytes : rooms[s];
    const unsigned char *margin = at_end ? p - MARGIN : p + bytes;
    const slot own = s == X && c->home[Y] == X                           ? Y
                     : s == RESIDUAL && c->home[RESIDUAL_OUT] == (slot)s ? RESIDUAL_OUT
                                                                         : (slot)s;
    size_t at = 0;
    if (!same_elements(c->type[own], p, c->after[s], c->count[s], &at)) {
      fail("%s: array %d element %zu is %.9g, not %.9g", running_now, s, at,
           element(c->type[own], p, at), element(c->type[own], c->after[s], at));
    }
    for (size_t i = 0; i < MARGIN; i++) {
      CHECK(margin[i] == 0xa5, "%s: array %d: outside of it", running_now, s);
    }
  }
}

static void backwards(void *context, size_t count, fastnorm_task task,
                      void *task_context) {
  (void)context;
  while (count > 0) {
    task(task_context, --count);
  }
}

static void describe_call(const whole_call *c, const char *isa, int how) {
  const job *j = &c->j;
  snprintf(
      running_now, sizeof running_now,
      "%s [%zu, %zu, %zu] groups %zu %s -> %s%s, params %s%s%s%s%s%s, activation %d%s, "
      "mode %d, strides %td %td on %s, way %d",
      operation_names[j->op], j->n0, j->n1, j->n2, j->groups, type_name(c->type[X]),
      type_name(c->type[Y]), c->home[Y] == X ? " in place" : "",
      type_name(c->type[WEIGHT]), c->count[WEIGHT] ? " w" : "",
      c->count[BIAS] ? " b" : "", c->count[RESIDUAL] ? " residual" : "",
      c->count[RESIDUAL_OUT] ? " out" : "", c->count[POST_ADD] ? " post_add" : "",
      (int)j->epilogue.activation, c->count[Y_SCALE] ? ", dynamic" : "", (int)j->mode,
      j->x_s0, j->x_s1, isa, how);
}

/* On every instruction set; alone, with threads, and through a host's parallel_for. */
static void run_call(whole_call *c) {
  static unsigned runs;
  const char *name;
  fastnorm_set_isa("portable");
  describe_call(c, "portable", -1);
  const fastnorm_status plain = find_by_hand(c);
  CHECK(plain == FASTNORM_OK, "by hand: %s: %s", running_now, fastnorm_strerror(plain));
  const int large = bytes_in(c, X) > 60000;
  for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
    for (int how = 0; how < (large && test_level == FULL ? 3 : 1); how++) {
      job j;
      const int way = large && test_level > FULL ? (int)(runs % 3) : how;
      const int at_end = runs++ % 4 != 0;
      fastnorm_set_isa(name);
      describe_call(c, name, way);
      place_call(c, at_end, &j);
      j.exec.num_threads = way == 1 ? 4 : 1;
      if (way == 2) {
        j.exec = (fastnorm_exec){.parallel_for = backwards};
      }
      const fastnorm_status status = run_job(&j);
      CHECK(status == FASTNORM_OK, "%s: %s", running_now, fastnorm_strerror(status));
      check_call(c, at_end);
    }
  }
  fastnorm_set_isa(NULL);
}

/* ---- Shapes and types ------------------------------------------------------------ */

static const fastnorm_dtype x_types[] = {FASTNORM_FLOAT32,  FASTNORM_FLOAT16,
                                         FASTNORM_BFLOAT16, FASTNORM_INT8,
                                         FASTNORM_UINT8,    FASTNORM_FLOAT64};
static const fastnorm_dtype y_types[] = {FASTNORM_DEFAULT, FASTNORM_FLOAT32,
                                         FASTNORM_FLOAT16, FASTNORM_BFLOAT16,
                                         FASTNORM_INT8,    FASTNORM_UINT8};
enum { PARAMETER_TYPES = 4, ACTIVATIONS = FASTNORM_HARDSWISH + 1 };

static void try_call(const job *shape, uint64_t seed) {
  static rng some;
  if (rng_below(&some, AT_LEVEL(1, 1, 5)) == 0 && !is_too_short(shape)) {
    whole_call c = draw_call(shape, seed);
    run_call(&c);
    free_call(&c);
  }
}

/* Types and activation by number; float64 stays among its own. */
static job with_types(job shape, size_t number) {
  shape.dtype = x_types[number % LENGTH(x_types)];
  if (shape.dtype != FASTNORM_FLOAT64) {
    const size_t rest = number / LENGTH(x_types);
    shape.format.y = y_types[rest % LENGTH(y_types)];
    shape.format.params = y_types[rest / LENGTH(y_types) % PARAMETER_TYPES];
  }
  shape.epilogue.activation = (fastnorm_activation)(number % ACTIVATIONS);
  return shape;
}

/* Some calls of a shape, of other types each time. */
static void try_shape(const job *shape) {
  static size_t number;
  for (int i = 0; i < AT_LEVEL(4, 2, 1); i++) {
    const job j = with_types(*shape, number * 7);
    try_call(&j, number++);
  }
}

static job small_shape(operation op) {
  job j = {.op = op, .n0 = 3, .n1 = 6, .n2 = 19, .groups = 2};
  if (is_row_norm(op)) {
    j.n1 = 37;
    j.n2 = 1;
  } else if (is_channels_last(op)) {
    j.n1 = 19;
    j.n2 = 6;
  }
  return j;
}

static void every_mixture(void) {
  const size_t mixtures = LENGTH(x_types) * LENGTH(y_types) * PARAMETER_TYPES;
  for (int op = 0; op < OPERATIONS; op++) {
    const job shape = small_shape((operation)op);
    for (size_t i = 0; i < mixtures; i++) {
      const job j = with_types(shape, i);
      try_call(&j, i + 1000);
    }
  }
}

static void every_activation(void) {
  for (int op = 0; op < OPERATIONS; op++) {
    for (size_t i = 0; i < ACTIVATIONS * LENGTH(x_types); i++) {
      job j = with_types(small_shape((operation)op), i / ACTIVATIONS);
      j.epilogue.activation = (fastnorm_activation)(i % ACTIVATIONS);
      try_call(&j, i + 2000);
    }
  }
}

/* Around vectors, the stage of 8192 floats, and beyond it. */
static void rows(void) {
  static const size_t lengths[] = {127, 128, 129, 1000, 4096, 8191, 8192, 8193, 20000};
  for (int op = 0; op < OPERATIONS && is_row_norm((operation)op); op++) {
    for (size_t cols = 1; cols <= 70; cols++) {
      try_shape(&(job){.op = (operation)op, .n0 = 1 + cols % 5, .n1 = cols, .n2 = 1});
    }
    for (size_t i = 0; i < LENGTH(lengths); i++) {
      try_shape(&(job){.op = (operation)op, .n0 = 3, .n1 = lengths[i], .n2 = 1});
    }
  }
}

/* What kernels do without a stage: weight and bias alone, to the same 16-bit type, to
 * bytes (every second time with a scale for each row), or with an activation that there
 * is a kernel for. Few calls that are drawn are such. */
static void rows_without_a_stage(void) {
  static const fastnorm_dtype types[][2] = {
      {FASTNORM_FLOAT32, FASTNORM_INT8},    {FASTNORM_FLOAT32, FASTNORM_UINT8},
      {FASTNORM_FLOAT16, FASTNORM_DEFAULT}, {FASTNORM_BFLOAT16, FASTNORM_DEFAULT},
      {FASTNORM_FLOAT32, FASTNORM_FLOAT32}, {FASTNORM_BFLOAT16, FASTNORM_FLOAT32},
      {FASTNORM_FLOAT16, FASTNORM_INT8}};
  static const fastnorm_activation activations[] = {
#define X(name) FASTNORM_##name,
      FN_ACTIVATED(X)
#undef X
  };
  static const size_t lengths[] = {2, 31, 32, 33, 100, 301, 4096, 5000, 8300};
  for (int op = 0; op < OPERATIONS && is_row_norm((operation)op); op++) {
    for (size_t i = 0; i < LENGTH(types) * LENGTH(lengths); i++) {
      const fastnorm_dtype *type = types[i % LENGTH(types)];
      const size_t n = lengths[i / LENGTH(types)];
      job j = {.op = (operation)op,
               .n0 = 1 + i % 11,
               .n1 = n,
               .n2 = 1,
               .dtype = type[0],
               .format.y = type[1]};
      if (type[1] == FASTNORM_FLOAT32) {
        j.epilogue.activation = activations[(i + n) % LENGTH(activations)];
      }
      int left = AT_LEVEL(8, 4, 2);
      for (uint64_t seed = 3000 + i; left > 0; seed += 100) {
        whole_call c = draw_call(&j, seed);
        const int dynamic = left % 2 && has_weight(j.op) && is_8_bit(c.type[Y]);
        const int adds = type[1] != FASTNORM_DEFAULT;
        if ((adds || !c.count[RESIDUAL]) && !c.count[POST_ADD] &&
            (c.count[Y_SCALE] > 0) == dynamic) {
          run_call(&c);
          left--;
        }
        free_call(&c);
      }
    }
  }
}

static void middle_axes(void) {
  static const size_t inner[] = {3, 64, 600}, cols[] = {1, 2, 7, 33, 70, 1100};
  for (int op = 0; op < OPERATIONS && is_row_norm((operation)op); op++) {
    for (size_t i = 0; i < LENGTH(inner) * LENGTH(cols); i++) {
      const size_t k = inner[i % LENGTH(inner)], n = cols[i / LENGTH(inner)];
      try_shape(&(job){.op = (operation)op, .n0 = n > 1000 ? 1 : 2, .n1 = n, .n2 = k});
    }
  }
}

static void images(void) {
  static const size_t spatial[] = {1, 7, 49, 3136, 20000};
  static const size_t channels[] = {1, 6, 40, 130}, groups[] = {1, 3, 8, 65};
  for (int op = BATCH_INFERENCE; op < OPERATIONS; op++) {
    for (size_t i = 0; i < LENGTH(spatial) * LENGTH(channels); i++) {
      const size_t n = spatial[i % LENGTH(spatial)], c = channels[i / LENGTH(spatial)];
      const int last = is_channels_last((operation)op);
      if (n * c <= 130000) {
        try_shape(&(job){.op = (operation)op,
                         .n0 = n == 49 ? 5 : 2,
                         .n1 = last ? n : c,
                         .n2 = last ? c : n,
                         .groups = groups[i / LENGTH(spatial)]});
      }
    }
  }
}

static void tables(void) {
  static const size_t batch[] = {2, 17, 50, 1100}, channels[] = {1, 3, 64, 130, 600};
  for (int op = BATCH_INFERENCE; op < OPERATIONS; op++) {
    for (size_t i = 0; !is_sample_norm((operation)op) && i < 4 * LENGTH(channels);
         i++) {
      const size_t n = batch[i % 4], c = channels[i / 4];
      if (n * c < 200000) {
        try_shape(&(job){.op = (operation)op, .n0 = n, .n1 = c, .n2 = 1});
      }
    }
  }
}

int main(int argc, char **argv) {
  static const test_case tests[] = {{"every_mixture", every_mixture},
                                    {"every_activation", every_activation},
                                    {"rows", rows},
                                    {"rows_without_a_stage", rows_without_a_stage},
                                    {"middle_axes", middle_axes},
                                    {"images", images},
                                    {"tables", tables}};
  for (int s = 0; s < SLOTS; s++) {
    rooms[s] = new_room(ROOM);
  }
  return RUN_TESTS(argc, argv, tests);
}
