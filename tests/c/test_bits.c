/* test_bits.c - the same bits: on every ISA, thread count and alignment.
 * SPDX-License-Identifier: MIT
 *
 * `test_bits --hash ISA` prints a hash of all outputs for a fixed set of inputs on that
 * instruction set, to compare machines. */
#include "outputs.h"
#include "running_moments.h"

enum { SHIFTS = 16 };

/* ---- What may not change them -------------------------------------------------- */

static void check_isas(const job *j) {
  outputs expected = new_outputs(j);
  fastnorm_set_isa("portable");
  run_into(*j, &expected, 0);
  const char *name;
  for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
    outputs o = new_outputs(j);
    fastnorm_set_isa(name);
    run_into(*j, &o, 0);
    check_same(j, &expected, 0, &o, 0, "not as on portable");
    free_outputs(&o);
  }
  fastnorm_set_isa(NULL);
  free_outputs(&expected);
}

static void isas(void) {
  each_size(check_isas);
}

static void check_alignment(const job *j) {
  if (j->n0 * j->n1 * j->n2 > 4000) {
    return;
  }
  outputs expected = new_outputs(j);
  run_into(*j, &expected, 0);
  const size_t size = element_size(j->dtype);
  unsigned char *x = new_bytes(x_extent(j) * size + SLACK * size);
  for (size_t shift = 1; shift <= SHIFTS; shift += AT_LEVEL(1, 3, 5)) {
    outputs o = new_outputs(j);
    job shifted = *j;
    memcpy(x + shift * size, j->x, x_extent(j) * size);
    shifted.x = x + shift * size;
    run_into(shifted, &o, shift * 5 % (SHIFTS + 1));
    check_same(j, &expected, 0, &o, shift * 5 % (SHIFTS + 1), "shifted");
    free_outputs(&o);
  }
  free(x);
  free_outputs(&expected);
}

static void alignment(void) {
  const char *name;
  for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
    fastnorm_set_isa(name);
    for (size_t length = 1; length <= 130;
         length += length < 70 ? AT_LEVEL(1, 2, 4) : 7) {
      each_job(length, check_alignment);
    }
  }
  fastnorm_set_isa(NULL);
}

/* ---- Threads ------------------------------------------------------------------- */

static void backwards(void *context, size_t count, fastnorm_task task,
                      void *task_context) {
  (void)context;
  while (count > 0) {
    task(task_context, --count);
  }
}

static void check_threads(const job *j) {
  outputs expected = new_outputs(j);
  run_into(*j, &expected, 0);
  void *scratch = new_bytes(scratch_bytes(j));
  static const int counts[] = {1, 2, 3, 8};
  for (size_t i = 0; i < LENGTH(counts); i += AT_LEVEL(1, 3, 3)) {
    for (int how = 0; how < 3; how++) {
      outputs o = new_outputs(j);
      job shared = *j;
      shared.exec.num_threads = counts[i];
      shared.exec.parallel_for = how == 1 ? backwards : NULL;
      if (how == 2) {
        shared.scratch = scratch;
        shared.scratch_size = scratch_bytes(j);
      }
      run_into(shared, &o, 0);
      check_same(j, &expected, 0, &o, 0, how == 2 ? "threads and scratch" : "threads");
      free_outputs(&o);
    }
  }
  free(scratch);
  free_outputs(&expected);
}

static void threads(void) {
  static const size_t shapes[][3] = {
      {400, 768, 1}, {3, 200000, 1}, {70000, 5, 1},  {8, 64, 784},  {4, 3, 50176},
      {5000, 64, 1}, {1, 16, 40000}, {20000, 16, 1}, {2, 700, 300}, {1, 1, 900000}};
  for (size_t i = 0; i < LENGTH(shapes); i += AT_LEVEL(1, 3, 3)) {
    for (int op = (int)i % AT_LEVEL(1, 1, 4); op < OPERATIONS;
         op += AT_LEVEL(1, 1, 4)) {
      job j = {.op = (operation)op,
               .dtype = working_type((int)(i % 2)),
               .n0 = shapes[i][0],
               .n1 = shapes[i][1],
               .n2 = shapes[i][2]};
      const size_t channels = parameter_count(&j);
      j.groups = channels % 16 == 0 ? channels / 16 : 1;
      if (is_too_short(&j)) {
        continue;
      }
      with_input(j, bit_patterns[i % 3], (unsigned)i, check_threads);
    }
  }
}

/* ---- The hash ------------------------------------------------------------------ */

static void add_to_hash(const job *j) {
  outputs o = new_outputs(j);
  run_into(*j, &o, 0);
  const struct {
    const void *p;
    size_t bytes, size;
  } found[] = {
      {o.y, o.y_bytes, j->op == MOMENTS ? sizeof(double) : element_size(j->dtype)},
      {o.mean, o.statistic_bytes, statistic_size(j)},
      {o.rstd, o.statistic_bytes, statistic_size(j)},
      {o.running_mean, o.stored_bytes, element_size(j->dtype)},
      {o.running_var, o.stored_bytes, element_size(j->dtype)},
  };
  for (size_t i = 0; i < LENGTH(found); i++) {
    running_hash = hash_array(running_hash, found[i].p, found[i].bytes, found[i].size);
  }
  free_outputs(&o);
}

/* A third takes no part: elements, or what is beyond a length of layer norm's rows; and
 * the elements once more, with weights. */
static void add_masked(const job *j) {
  const int rows = is_row_norm(j->op);
  const size_t channels = parameter_count(j), spatial = spatial_of(j);
  if ((rows && (j->op != LAYER_NORM || j->n2 > 1)) || j->op == BATCH_RENORM ||
      j->op == WEIGHT_NORM || group_length(j) < 30) {
    return;
  }
  job masked = *j;
  size_t *lengths = new_bytes(j->n0 * sizeof *lengths), *counts = NULL;
  unsigned char *mask = new_bytes(j->n0 * channels * spatial);
  float *weights = new_bytes(j->n0 * channels * spatial * sizeof *weights);
  for (size_t n = 0; n < j->n0; n++) {
    lengths[n] = (n + 1) * j->n1 / (j->n0 + 1);
    for (size_t i = 0; i < channels * spatial; i++) {
      const size_t k = n * channels * spatial + i;
      mask[k] = (n + i / spatial + i % spatial) % 3 != 1;
      weights[k] = mask[k] ? 0.7F + (float)(k % 5) * 0.3F : 0.0F;
    }
  }
  if (rows) {
    masked.mask.lengths = lengths;
  } else {
    masked.mask.mask = mask;
    masked.mask.stride = (ptrdiff_t)(channels * spatial);
    masked.mask.channel_stride = (ptrdiff_t)spatial;
    masked.mask.spatial_stride = spatial == 1 ? 0 : 1;
  }
  if (j->op == MOMENTS) {
    masked.count = counts = new_bytes(group_count(j) * sizeof *counts);
  }
  add_to_hash(&masked);
  if (!rows) {
    masked.mask.mask = NULL;
    masked.mask.weights = weights;
    add_to_hash(&masked);
  }
  free(lengths);
  free(counts);
  free(mask);
  free(weights);
}

/* Batches with and without weights into one state, and that merged with another. */
static void add_running_moments(void) {
  static const size_t shapes[][3] = {
      {700, 3, 1}, {40, 300, 1}, {1, 5, 4097}, {6, 5, 49}};
  static const fastnorm_dtype types[] = {FASTNORM_FLOAT32, FASTNORM_FLOAT64,
                                         FASTNORM_UINT8};
  static store stores[2];
  for (size_t i = 0; i < LENGTH(shapes) * LENGTH(types); i++) {
    const size_t *shape = shapes[i / LENGTH(types)];
    const fastnorm_dtype dtype = types[i % LENGTH(types)];
    const size_t all = shape[0] * shape[1] * shape[2];
    batch_args a = {.size = sizeof a,
                    .dtype = dtype,
                    .batch = shape[0],
                    .channels = shape[1],
                    .spatial = shape[2]};
    rng r = {i};
    unsigned char *x = new_bytes(all * sizeof(double));
    float *weights = new_bytes(all * sizeof *weights);
    for (size_t k = 0; k < all; k++) {
      weights[k] = (float)rng_below(&r, 4) * 0.3F;
      if (dtype == FASTNORM_UINT8) {
        x[k] = (unsigned char)rng_below(&r, 256);
      } else {
        put(x, dtype, (ptrdiff_t)k, 1e6 + rng_normal(&r));
      }
    }
    a.x = x;
    a.weights_stride = (ptrdiff_t)(shape[1] * shape[2]);
    a.weights_channel_stride = (ptrdiff_t)shape[2];
    a.weights_spatial_stride = 1;
    const state s[] = {state_of(&stores[0], shape[1]), state_of(&stores[1], shape[1])};
    memset(stores, 0, sizeof stores);
    for (int k = 0; k < 4; k++) {
      if (k < 2) {
        fastnorm_running_moments_init(&s[k]);
      }
      a.weights = k > 1 ? weights : NULL;
      a.scratch_size = fastnorm_running_moments_scratch(&a);
      a.scratch = new_bytes(a.scratch_size);
      CHECK(fastnorm_running_moments_update(&s[k % 2], &a) == FASTNORM_OK, "update");
      free(a.scratch);
    }
    CHECK(fastnorm_running_moments_merge(&s[0], &s[1]) == FASTNORM_OK, "merge");
    running_hash = hash_array(running_hash, stores, sizeof stores, sizeof(double));
    free(weights);
    free(x);
  }
}

static void add_all(void) {
  static const size_t lengths[] = {33, 66, 257, 1000};
  each_size(add_to_hash);
  for (size_t i = 0; i < LENGTH(lengths); i++) {
    each_job(lengths[i], add_masked);
  }
  add_running_moments();
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"isas", isas}, {"alignment", alignment}, {"threads", threads}};
  PRINT_HASH_IF_ASKED(argc, argv, add_all);
  return RUN_TESTS(argc, argv, tests);
}
