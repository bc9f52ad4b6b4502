/* test_channel_gradients_bits.c - gradients of the norms of channels: the same bits on
 * every instruction set, with any number of threads, with or without scratch, in place,
 * anywhere in memory, of 16-bit elements.
 * SPDX-License-Identifier: MIT
 */
#include "channel_gradient_jobs.h"

/* A copy whose outputs are its own. */
static gradient_job with_outputs(const gradient_job *j) {
  gradient_job copy = *j;
  const part outputs[] = {GRAD_X, GRAD_WEIGHT, GRAD_BIAS};
  for (size_t i = 0; i < LENGTH(outputs); i++) {
    copy.p[outputs[i]] = new_bytes(bytes_in(j, outputs[i]) + 1);
  }
  return copy;
}

static void free_outputs_of(gradient_job *j) {
  free(j->p[GRAD_X]);
  free(j->p[GRAD_WEIGHT]);
  free(j->p[GRAD_BIAS]);
}

/* NaN for NaN: which NaN is not promised of 16-bit results. */
static void check_bits(const gradient_job *a, const gradient_job *b, const char *what) {
  for (part id = GRAD_X; id <= GRAD_BIAS; id++) {
    const fastnorm_dtype type = type_of(a, id);
    const size_t size = bytes_of(type);
    if (id == WEIGHTS || (id == GRAD_BIAS && a->op == WEIGHT)) {
      continue;
    }
    for (size_t n = 0; n < a->samples; n++) {
      for (size_t c = 0; c < a->channels; c++) {
        for (size_t s = 0; s < a->spatial; s++) {
          const size_t at = id == GRAD_X ? (size_t)place_in(a, 2, n, c, s) : c;
          const size_t of = id == GRAD_X ? (size_t)place_in(b, 2, n, c, s) : c;
          const double v = element(type, a->p[id], at), w = element(type, b->p[id], of);
          if (memcmp((char *)a->p[id] + at * size, (char *)b->p[id] + of * size,
                     size) != 0 &&
              !(isnan(v) && isnan(w))) {
            fail("%s: array %d [%zu, %zu, %zu]: %.17g and %.17g",
                 gradient_name(a, what), (int)id, n, c, s, v, w);
            return;
          }
        }
      }
    }
  }
}

/* ---- Same bits ------------------------------------------------------------------- */

static void check_places(const gradient_job *j, const gradient_job *first) {
  gradient_job other = with_outputs(j);
  const size_t size = bytes_of(j->dtype);
  /* one element further on, all of them */
  for (part id = 0; id < PARTS; id++) {
    const size_t bytes = bytes_in(j, id);
    const size_t step = bytes_of(type_of(j, id));
    if (j->p[id] == NULL) {
      continue;
    }
    if (id == GRAD_X || id == GRAD_WEIGHT || id == GRAD_BIAS) {
      free(other.p[id]);
    }
    other.p[id] = new_bytes(bytes + step);
    other.p[id] = (char *)other.p[id] + step;
    memcpy(other.p[id], j->p[id], bytes);
  }
  run_or_fail(&other, "elsewhere");
  check_bits(first, &other, "elsewhere");
  for (part id = 0; id < PARTS; id++) {
    if (j->p[id] != NULL) {
      free((char *)other.p[id] - bytes_of(type_of(j, id)));
    }
  }
  for (part id = GRAD_Y; id <= INPUT && type_of(j, GRAD_X) == j->dtype; id++) {
    gradient_job in_place = with_outputs(j);
    void *own = in_place.p[GRAD_X];
    memcpy(own, j->p[id], count_of(j, id) * size);
    in_place.p[id] = own;
    run_or_fail(&in_place, "in place");
    check_bits(first, &in_place, id == GRAD_Y ? "in place of g" : "in place of x");
    free_outputs_of(&in_place);
  }
}

/* Gaps between samples and between channels: the same sums, in the same order. */
static void check_gaps(const gradient_job *j, const gradient_job *first) {
  gradient_job gaps = *j;
  const size_t row = is_last(j->op) ? j->channels : j->spatial;
  const size_t middle = is_last(j->op) ? j->spatial : j->channels;
  const int table = !is_by_sample(j->op) && j->spatial == 1;
  for (int i = 0; i < 3; i++) {
    gaps.middle_stride[i] = table ? 1 : (ptrdiff_t)row + i;
    gaps.stride[i] = gaps.middle_stride[i] * (ptrdiff_t)middle + 3 - i;
  }
  for (part id = GRAD_Y; id <= GRAD_X; id++) {
    gaps.p[id] = new_bytes(count_of(&gaps, id) * sizeof(double));
  }
  for (size_t n = 0; n < j->samples; n++) {
    for (size_t c = 0; c < j->channels; c++) {
      for (size_t s = 0; s < j->spatial; s++) {
        for (part id = GRAD_Y; id <= INPUT; id++) {
          const size_t size = bytes_of(j->dtype);
          memcpy((char *)gaps.p[id] + (size_t)place_in(&gaps, (int)id, n, c, s) * size,
                 (char *)j->p[id] + (size_t)place_in(j, (int)id, n, c, s) * size, size);
        }
      }
    }
  }
  gaps.p[GRAD_WEIGHT] = new_bytes(j->channels * sizeof(double));
  gaps.p[GRAD_BIAS] = new_bytes(j->channels * sizeof(double));
  run_or_fail(&gaps, "gaps");
  check_bits(first, &gaps, "gaps");
  free(gaps.p[GRAD_Y]);
  free(gaps.p[INPUT]);
  free_outputs_of(&gaps);
}

static void check_same_bits(int op, fastnorm_dtype dtype, shape s, unsigned variant) {
  gradient_job all = new_gradient(op, dtype, s, variant);
  const gradient_job j = chosen(&all, variant);
  gradient_job first = with_outputs(&j);
  const char *name;
  if (is_single(&j)) {
    free_outputs_of(&first);
    free_gradient(&all);
    return;
  }
  run_or_fail(&first, "first");
  for (size_t i = 1; (name = fastnorm_isa_name(i)) != NULL; i++) {
    gradient_job other = with_outputs(&j);
    fastnorm_set_isa(name);
    run_or_fail(&other, "another set");
    check_bits(&first, &other, "another set");
    free_outputs_of(&other);
  }
  fastnorm_set_isa(NULL);
  check_places(&j, &first);
  check_gaps(&j, &first);
  free_outputs_of(&first);
  free_gradient(&all);
}

static void same_bits(void) {
  /* Rows of 1024 are pages apart, and not with gaps. */
  static const shape shapes[] = {{3, 6, 5, 2},      {2, 6, 49, 3},    {5, 12, 1, 4},
                                 {60, 40, 1, 8},    {2, 130, 33, 13}, {3, 4, 700, 2},
                                 {2, 1024, 20, 32}, {700, 3, 1, 3},   {2, 520, 3, 1},
                                 {1, 144, 90, 9},   {1, 6, 196, 6},   {40, 1024, 1, 4}};
  for (size_t i = 0; i < LENGTH(shapes); i += AT_LEVEL(1, 3, 3)) {
    for (int op = 0; op < NORMS; op++) {
      for (size_t t = 0; t < LENGTH(dtypes); t++) {
        for (unsigned v = 0; v < AT_LEVEL(3, 3, 1); v++) {
          check_same_bits(op, dtypes[t], shapes[i],
                          (unsigned)(i + t * 5) + 3 * v + (unsigned)op);
        }
      }
    }
  }
}

/* Large enough for threads to share the work, in every way there is. */
static void threads(void) {
  static const shape shapes[] = {{4, 3, 100000, 3}, {8, 40, 1000, 8}, {100000, 6, 1, 2},
                                 {4000, 96, 1, 4},  {6, 1030, 30, 2}, {3, 700, 100, 7}};
  for (size_t i = 0; i < LENGTH(shapes); i += AT_LEVEL(1, 3, 3)) {
    for (int op = (int)i / 3 * 2 % AT_LEVEL(1, 1, 4); op < NORMS;
         op += AT_LEVEL(1, 1, 4)) {
      const unsigned v = (unsigned)i + (unsigned)op;
      gradient_job all = new_gradient(op, dtypes[v % 2], shapes[i], v % 2 ? 7 : 8);
      const gradient_job j = chosen(&all, v);
      gradient_job first = with_outputs(&j);
      if (is_single(&j)) {
        free_outputs_of(&first);
        free_gradient(&all);
        continue;
      }
      run_or_fail(&first, "one thread");
      for (int k = 0; k < 4; k++) {
        gradient_job other = with_outputs(&j);
        const size_t bytes = gradient_scratch(&j);
        other.exec.num_threads = k < 3 ? 1 + k : 1;
        other.scratch = k ? new_bytes(bytes) : NULL;
        other.scratch_size = k == 3 && bytes > 0 ? bytes - 1 : bytes;
        run_or_fail(&other, "threads");
        check_bits(&first, &other, k ? "threads and scratch" : "no scratch");
        free(other.scratch);
        other.scratch = NULL;
        other.exec.num_threads = 3;
        run_or_fail(&other, "threads");
        check_bits(&first, &other, "threads");
        free_outputs_of(&other);
      }
      free_outputs_of(&first);
      free_gradient(&all);
    }
  }
}

/* 16-bit elements: what one gets from the same numbers as float, rounded at the end. */
static void sixteen_bits(void) {
  static const shape shapes[] = {
      {3, 6, 5, 2}, {2, 6, 490, 3}, {500, 12, 1, 4}, {2, 4, 20000, 1}};
  for (size_t i = 0; i < LENGTH(shapes); i++) {
    for (int op = 0; op < NORMS; op++) {
      for (unsigned v = (unsigned)op % AT_LEVEL(1, 3, 5); v < 8;
           v += AT_LEVEL(1, 3, 5)) {
        gradient_job all = new_gradient(op, dtypes[2 + v % 2], shapes[i], v * 8 + v);
        const gradient_job j = chosen(&all, v);
        if (is_single(&j)) {
          free_gradient(&all);
          continue;
        }
        gradient_job narrow = with_outputs(&j), wide = with_outputs(&j);
        wide.dtype = FASTNORM_FLOAT32;
        wide.format = (fastnorm_format){.y = FASTNORM_DEFAULT};
        free(wide.p[GRAD_X]);
        wide.p[GRAD_X] = new_bytes(count_of(&wide, GRAD_X) * sizeof(double));
        for (part id = GRAD_Y; id <= WEIGHTS; id++) {
          if (id == GRAD_X || j.p[id] == NULL) {
            continue;
          }
          wide.p[id] = new_bytes(count_of(&wide, id) * sizeof(float));
          for (size_t k = 0; k < count_of(&j, id); k++) {
            ((float *)wide.p[id])[k] = (float)element(type_of(&j, id), j.p[id], k);
          }
        }
        run_or_fail(&narrow, "16-bit");
        run_or_fail(&wide, "float");
        void *rounded = new_bytes(count_of(&j, GRAD_X) * sizeof(float));
        for (size_t k = 0; k < count_of(&j, GRAD_X); k++) {
          set_element(type_of(&j, GRAD_X), rounded, k,
                      (double)((float *)wide.p[GRAD_X])[k], 1.0F, 0);
        }
        void *own = wide.p[GRAD_X];
        wide.p[GRAD_X] = rounded;
        check_bits(&narrow, &wide, "16-bit");
        free(own);
        free(wide.p[GRAD_Y]);
        free(wide.p[INPUT]);
        if (j.p[WEIGHTS] != NULL) {
          free(wide.p[WEIGHTS]);
        }
        free_outputs_of(&wide);
        free_outputs_of(&narrow);
        free_gradient(&all);
      }
    }
  }
}

/* ---- The hash -------------------------------------------------------------------- */

static void add_all(void) {
  static const shape shapes[] = {
      {3, 6, 5, 2}, {2, 6, 49, 3}, {60, 40, 1, 8}, {2, 130, 33, 13}, {3, 4, 700, 2}};
  for (size_t i = 0; i < LENGTH(shapes) * NORMS; i++) {
    const unsigned v = (unsigned)i;
    gradient_job all = new_gradient((int)(i % NORMS), dtypes[i % LENGTH(dtypes)],
                                    shapes[i / NORMS], v);
    const gradient_job j = chosen(&all, v);
    if (!is_single(&j)) {
      run_or_fail(&j, "hash");
      for (part id = GRAD_X; id <= GRAD_BIAS; id++) {
        if (id != WEIGHTS && (id != GRAD_BIAS || j.op != WEIGHT)) {
          hash_elements(type_of(&j, id), j.p[id], count_of(&j, id));
        }
      }
    }
    free_gradient(&all);
  }
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"same_bits", same_bits}, {"threads", threads}, {"sixteen_bits", sixteen_bits}};
  PRINT_HASH_IF_ASKED(argc, argv, add_all);
  open_rooms();
  return RUN_TESTS(argc, argv, tests);
}
