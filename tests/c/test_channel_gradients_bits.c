/* test_channel_gradients_bits.c - gradients of the norms of channels: the same bits on
 * every instruction set, with any number of threads, with or without scratch, in place,
 * anywhere in memory, of 16-bit elements; and no byte outside the arrays is touched.
 * SPDX-License-Identifier: MIT
 */
#include "channel_gradients.h"
#include "guard.h"

enum { ROOM = 1 << 23 };

static unsigned char *rooms[PARTS]; /* ROOM bytes each, between guard pages */

static void open_rooms(void) {
  for (int i = 0; i < PARTS; i++) {
    rooms[i] = new_room(ROOM);
  }
}

static size_t bytes_in(const gradient_job *j, part id) {
  return j->p[id] ? count_of(j, id) * bytes_of(type_of(j, id)) : 0;
}

/* ---- Jobs ------------------------------------------------------------------------ */

typedef struct shape {
  size_t samples, channels, spatial, groups;
} shape;

static const pattern x_patterns[] = {NORMAL,    OFFSET_1E6, MIXED_SCALES, EXTREME,
                                     HUGE_LAST, CONSTANT,   SUBNORMAL,    NORMAL};
static const pattern g_patterns[] = {NORMAL, NORMAL, SUBNORMAL,  OFFSET_1E3,
                                     NORMAL, NORMAL, VERY_LARGE, CONSTANT};

/* Arrays of its own, filled; `variant` chooses weight, statistics, eps and input. */
static gradient_job new_gradient(int op, fastnorm_dtype dtype, shape s,
                                 unsigned variant) {
  gradient_job j = {.op = (norm)op,
                    .dtype = dtype,
                    .samples = s.samples,
                    .channels = s.channels,
                    .spatial = s.spatial,
                    .groups = s.groups};
  const size_t k = variant % LENGTH(x_patterns);
  j.eps = variant & 4 ? FASTNORM_EPS_ZERO : 0.0;
  j.exec.num_threads = 1;
  if (dtype == FASTNORM_FLOAT16 || dtype == FASTNORM_BFLOAT16) {
    j.format.y = variant & 1 ? FASTNORM_FLOAT32 : FASTNORM_DEFAULT;
    j.format.params = variant & 2 ? FASTNORM_FLOAT32 : FASTNORM_DEFAULT;
  }
  for (part id = 0; id < PARTS; id++) {
    const size_t size = bytes_of(type_of(&j, id));
    j.p[id] = new_bytes((count_of(&j, id) + 1) * size);
  }
  fill_elements(&j, INPUT, x_patterns[k], 1 + variant);
  fill_elements(&j, GRAD_Y, g_patterns[k], 2 + variant);
  fill_numbers(&j, WEIGHTS, 1.0, 0.5, 11);
  fill_numbers(&j, R, 1.0, 0.2, 12);
  fill_numbers(&j, D, 0.0, 0.5, 13);
  fill_numbers(&j, MEANS, 0.1, 0.1, 14);
  fill_numbers(&j, RSTDS, 1.0, 0.1, 15);
  return j;
}

/* Which of its arrays a call gets; the rest stay allocated in `all`. */
static gradient_job chosen(const gradient_job *all, unsigned variant) {
  gradient_job j = *all;
  if (variant % 3 == 0) {
    j.p[WEIGHTS] = NULL;
  }
  if (variant % 2 == 0 && !is_fixed(j.op)) {
    j.p[MEANS] = j.p[RSTDS] = NULL;
  }
  return j;
}

static void free_gradient(gradient_job *j) {
  for (int i = 0; i < PARTS; i++) {
    free(j->p[i]);
  }
}

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

static void run_or_fail(const gradient_job *j, const char *what) {
  const fastnorm_status status = run_gradient(j);
  CHECK(status == FASTNORM_OK, "%s: %s", gradient_name(j, what),
        fastnorm_strerror(status));
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

static const fastnorm_dtype dtypes[] = {FASTNORM_FLOAT32, FASTNORM_FLOAT64,
                                        FASTNORM_FLOAT16, FASTNORM_BFLOAT16};

static void same_bits(void) {
  static const shape shapes[] = {{3, 6, 5, 2},   {2, 6, 49, 3},    {5, 12, 1, 4},
                                 {60, 40, 1, 8}, {2, 130, 33, 13}, {3, 4, 700, 2},
                                 {1, 6, 196, 6}, {700, 3, 1, 3},   {2, 520, 3, 1}};
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

/* ---- Guard pages ----------------------------------------------------------------- */

static int is_output(part id) {
  return id == GRAD_X || id == GRAD_WEIGHT || id == GRAD_BIAS;
}

/* What is not an element of grad_x: gaps. */
static void check_gaps_untouched(const gradient_job *j) {
  const size_t size = bytes_of(type_of(j, GRAD_X)), all = bytes_in(j, GRAD_X);
  unsigned char *map = new_bytes(all);
  for (size_t n = 0; n < j->samples; n++) {
    for (size_t c = 0; c < j->channels; c++) {
      for (size_t s = 0; s < j->spatial; s++) {
        memset(map + (size_t)place_in(j, 2, n, c, s) * size, 1, size);
      }
    }
  }
  for (size_t i = 0; i < all; i++) {
    CHECK(map[i] || ((unsigned char *)j->p[GRAD_X])[i] == 0xa5, "%s: a gap was written",
          running_now);
  }
  free(map);
}

static void check_guarded(int op, fastnorm_dtype dtype, shape s, unsigned variant) {
  gradient_job all = new_gradient(op, dtype, s, variant);
  const char *name;
  for (size_t isa = 0; (name = fastnorm_isa_name(isa)) != NULL && !is_single(&all);
       isa++) {
    fastnorm_set_isa(name);
    for (int at_end = 0; at_end < 2; at_end++) {
      gradient_job j = chosen(&all, variant);
      const int table = !is_by_sample(j.op) && j.spatial == 1;
      const size_t row = is_last(j.op) ? j.channels : j.spatial;
      j.middle_stride[2] = table ? 1 : (ptrdiff_t)row + 1;
      j.stride[2] =
          j.middle_stride[2] * (ptrdiff_t)(is_last(j.op) ? j.spatial : j.channels) + 2;
      for (part id = 0; id < PARTS; id++) {
        const size_t bytes = bytes_in(&j, id);
        unsigned char *p = at_end ? rooms[id] + ROOM - bytes : rooms[id];
        memset(at_end ? p - MARGIN : p + bytes, 0xa5, MARGIN);
        if (is_output(id)) {
          memset(p, 0xa5, bytes);
        } else if (j.p[id]) {
          memcpy(p, all.p[id], bytes);
        }
        j.p[id] = j.p[id] ? p : NULL;
      }
      snprintf(running_now, sizeof running_now, "%s",
               gradient_name(&j, at_end ? "guard after" : "guard before"));
      run_or_fail(&j, "guarded");
      check_gaps_untouched(&j);
      for (part id = 0; id < PARTS; id++) {
        const size_t bytes = bytes_in(&j, id);
        const unsigned char *p = j.p[id];
        for (size_t i = 0; p && i < MARGIN; i++) {
          CHECK((at_end ? p - MARGIN : p + bytes)[i] == 0xa5, "%s: array %d: outside",
                running_now, (int)id);
        }
        CHECK(!p || is_output(id) || memcmp(p, all.p[id], bytes) == 0,
              "%s: input %d was changed", running_now, (int)id);
      }
    }
  }
  fastnorm_set_isa(NULL);
  free_gradient(&all);
}

static void guarded(void) {
  for (size_t length = 1; length <= 70; length += AT_LEVEL(2, 13, 17)) {
    for (int op = 0; op < NORMS; op++) {
      for (size_t t = 0; t < 3; t++) {
        const unsigned v = (unsigned)(length + t) + (unsigned)op;
        check_guarded(op, dtypes[t], (shape){1 + length % 3, 3, length, 3}, v);
        check_guarded(op, dtypes[t], (shape){length, 1 + length % 5, 1, 1}, v + 1);
        check_guarded(op, dtypes[t], (shape){2, length, 1 + length % 4, 1}, v + 2);
      }
    }
  }
}

static void guarded_larger(void) {
  static const shape shapes[] = {{2, 3, 513, 1},
                                 {300, 5, 1, 5},
                                 {1, 2, 17000, 2},
                                 {20, 129, 1, 3},
                                 {1, 515, 2, 1}};
  for (size_t i = 0; i < LENGTH(shapes); i++) {
    for (int op = 0; op < NORMS; op++) {
      check_guarded(op, dtypes[((size_t)op + i) % 4], shapes[i],
                    (unsigned)i + (unsigned)op);
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
  static const test_case tests[] = {{"same_bits", same_bits},
                                    {"threads", threads},
                                    {"sixteen_bits", sixteen_bits},
                                    {"guarded", guarded},
                                    {"guarded_larger", guarded_larger}};
  PRINT_HASH_IF_ASKED(argc, argv, add_all);
  open_rooms();
  return RUN_TESTS(argc, argv, tests);
}
