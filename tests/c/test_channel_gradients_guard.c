/* test_channel_gradients_guard.c - gradients of the norms of channels touch no byte
 * outside their arrays.
 * SPDX-License-Identifier: MIT
 */
#include "channel_gradient_jobs.h"

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

int main(int argc, char **argv) {
  static const test_case tests[] = {{"guarded", guarded},
                                    {"guarded_larger", guarded_larger}};
  open_rooms();
  return RUN_TESTS(argc, argv, tests);
}
