/* test_gradients_guard.c - gradients of the norms of rows touch only their arrays.
 * SPDX-License-Identifier: MIT
 */
#include "guard.h"
#include "row_outputs.h"

enum { GUARDED = 8, GUARD_ROOM = 1 << 17 };
static unsigned char *guard_rooms[GUARDED];

/* A copy of n bytes that ends, or begins, where a page that nobody may touch does. */
static void *guarded(int which, const void *p, size_t n, int at_end) {
  unsigned char *to = at_end ? guard_rooms[which] + GUARD_ROOM - n : guard_rooms[which];
  if (p == NULL)
    return NULL;
  if (n > GUARD_ROOM) {
    fprintf(stderr, "shape too large for the rooms\n");
    exit(3);
  }
  memset(guard_rooms[which], 0xa5, GUARD_ROOM);
  memcpy(to, p, n);
  return to;
}

static void check_guarded(const row_call *c) {
  row_outputs expected = new_row_outputs(c);
  run_call_into(*c, &expected, 0);
  const size_t sets = c->rows * inner_of(c) * element_size(working_of(c->dtype));
  const size_t in = row_extent(c, 0) * bytes_of(c->dtype);
  const size_t scratch = row_scratch(c);
  unsigned char *zeros = new_bytes(scratch + expected.y_bytes + expected.sum_bytes);
  for (int at_end = 0; at_end < 2; at_end++) {
    row_call one = *c;
    row_outputs o = expected;
    snprintf(running_now, sizeof running_now, "%s", describe_row_call(c, "guarded"));
    one.g = guarded(0, c->g, in, at_end);
    one.x = guarded(1, c->x, in, at_end);
    one.weight = guarded(2, c->weight, c->cols * bytes_of(params_of(c)), at_end);
    one.mean = guarded(3, c->mean, sets, at_end);
    one.rstd = guarded(4, c->rstd, sets, at_end);
    o.y = guarded(5, zeros, expected.y_bytes, at_end);
    o.weight = guarded(6, zeros, expected.sum_bytes, at_end);
    o.bias = guarded(7, zeros, expected.sum_bytes, at_end);
    run_call_into(one, &o, 0);
    check_equal(c, &expected, &o, 0, "guarded");
    const unsigned char *outs[] = {o.y, o.weight, o.bias};
    for (int i = 0; i < 3; i++) {
      const size_t bytes = i == 0 ? o.y_bytes : o.sum_bytes;
      const unsigned char *room = guard_rooms[5 + i];
      for (size_t k = 0; k < GUARD_ROOM; k++)
        if (room + k < outs[i] || room + k >= outs[i] + bytes)
          CHECK(room[k] == 0xa5, "%s: byte %zu of output %d was written", running_now,
                k, i);
    }
    CHECK(memcmp(one.g, c->g, in) == 0 && memcmp(one.x, c->x, in) == 0,
          "%s: an input changed", running_now);
  }
  free(zeros);
  free_row_outputs(&expected);
}

static void guard_pages(void) {
  const char *name;
  for (int i = 0; i < GUARDED; i++)
    guard_rooms[i] = new_room(GUARD_ROOM);
  for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
    fastnorm_set_isa(name);
    for (size_t cols = 1; cols < 140; cols += AT_LEVEL(9, 23, 33)) {
      each_type(3, cols, 1, check_guarded);
      each_type(1, cols, 3, check_guarded);
      each_type(1, 2, cols, check_guarded);
    }
    each_type(17, 600, 1, check_guarded);
  }
  fastnorm_set_isa(NULL);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {{"guard_pages", guard_pages}};
  return RUN_TESTS(argc, argv, tests);
}
