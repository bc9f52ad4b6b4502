/* test_bits.c - the same bits: on every ISA, thread count and alignment.
 * SPDX-License-Identifier: MIT
 *
 * `test_bits --hash` prints a hash of all outputs for a fixed set of inputs, to compare
 * machines; `--hash ISA` computes it on that instruction set. */
#include "outputs.h"

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
  for (size_t shift = 1; shift <= SHIFTS; shift++) {
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
    for (size_t length = 1; length <= 130; length += length < 70 ? 1 : 7) {
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
  for (int threads = 1; threads <= 8; threads += test_quick ? 7 : 1) {
    for (int how = 0; how < 3; how++) {
      outputs o = new_outputs(j);
      job shared = *j;
      shared.exec.num_threads = threads;
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
  for (size_t i = 0; i < LENGTH(shapes); i += test_quick ? 3 : 1) {
    for (int op = 0; op < OPERATIONS; op++) {
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

static uint64_t running_hash;

static void add_to_hash(const job *j) {
  outputs o = new_outputs(j);
  run_into(*j, &o, 0);
  running_hash = hash_bytes(running_hash, o.y, o.y_bytes);
  running_hash = hash_bytes(running_hash, o.mean, o.statistic_bytes);
  running_hash = hash_bytes(running_hash, o.rstd, o.statistic_bytes);
  running_hash = hash_bytes(running_hash, o.running_mean, o.stored_bytes);
  running_hash = hash_bytes(running_hash, o.running_var, o.stored_bytes);
  free_outputs(&o);
}

static int print_hash(const char *isa) {
  if (fastnorm_set_isa(isa) != FASTNORM_OK) {
    fprintf(stderr, "no %s here\n", isa);
    return 1;
  }
  running_hash = UINT64_C(0xcbf29ce484222325);
  test_quick = 1;
  each_size(add_to_hash);
  printf("%016llx\n", (unsigned long long)running_hash);
  return test_failures != 0;
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"isas", isas}, {"alignment", alignment}, {"threads", threads}};
  if (argc > 1 && strcmp(argv[1], "--hash") == 0) {
    return print_hash(argc > 2 ? argv[2] : NULL);
  }
  return RUN_TESTS(argc, argv, tests);
}
