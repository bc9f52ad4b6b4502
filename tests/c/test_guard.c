/* test_guard.c - no byte outside the stated ranges is read or written.
 * SPDX-License-Identifier: MIT
 *
 * Every array lies between two pages that nobody may touch: once against the page
 * after it, once against the page before. What a call may not write is compared. */
#include "guard.h"
#include "job.h"

enum { ARRAYS = 8, ROOM = 1 << 19 };

typedef enum array_id {
  X,
  Y,
  WEIGHT,
  BIAS,
  MEAN,
  RSTD,
  RUNNING_MEAN,
  RUNNING_VAR
} array_id;

static unsigned char *rooms[ARRAYS]; /* ROOM bytes each, between guard pages */
static unsigned char *copies[ARRAYS];

static void open_rooms(void) {
  for (int i = 0; i < ARRAYS; i++) {
    rooms[i] = new_room(ROOM);
    copies[i] = new_bytes(ROOM);
  }
}

static size_t bytes_of(const job *j, array_id id) {
  const size_t size = element_size(j->dtype);
  const job end = *j;
  switch (id) {
  case X:
    return ((size_t)x_offset(&end, j->n0 - 1, j->n1 - 1, j->n2 - 1) + 1) * size;
  case Y:
    return ((size_t)y_offset(&end, j->n0 - 1, j->n1 - 1, j->n2 - 1) + 1) * size;
  case MEAN:
  case RSTD:
    return group_count(j) * statistic_size(j);
  case RUNNING_MEAN:
  case RUNNING_VAR:
    return stored_count(j) * size;
  default:
    return parameter_count(j) * size;
  }
}

/* What the call may write in `id`, of the byte at `offset` in the array. */
static unsigned char *writable_map(const job *j, array_id id) {
  const size_t bytes = bytes_of(j, id);
  unsigned char *map = new_bytes(bytes);
  const size_t size = element_size(j->dtype);
  if (id == Y) {
    for (size_t a = 0; a < j->n0; a++) {
      for (size_t b = 0; b < j->n1; b++) {
        const size_t at = (size_t)y_offset(j, a, b, 0);
        memset(map + at * size, 1, j->n2 * size);
      }
    }
  } else if (id == MEAN || id == RSTD ||
             (id >= RUNNING_MEAN && updates_stored(j->op))) {
    memset(map, 1, bytes);
  }
  return map;
}

/* The part of a room that is looked at: the array and a margin on its open side. */
static size_t window_start(const job *j, array_id id, int at_end) {
  return at_end ? ROOM - bytes_of(j, id) - MARGIN : 0;
}

static size_t window_bytes(const job *j, array_id id) {
  return bytes_of(j, id) + MARGIN;
}

static void place_arrays(const job *shape, job *j, int at_end) {
  unsigned char *p[ARRAYS];
  for (int i = 0; i < ARRAYS; i++) {
    const size_t bytes = bytes_of(shape, (array_id)i);
    if (bytes + MARGIN > ROOM) {
      fprintf(stderr, "shape too large for the rooms\n");
      exit(3);
    }
    memset(rooms[i] + window_start(shape, (array_id)i, at_end), 0xa5, bytes + MARGIN);
    p[i] = at_end ? rooms[i] + ROOM - bytes : rooms[i];
  }
  j->x = p[X];
  j->y = p[Y];
  j->weight = shape->weight != NULL ? p[WEIGHT] : NULL;
  j->bias = shape->bias != NULL ? p[BIAS] : NULL;
  j->mean = p[MEAN];
  j->rstd = p[RSTD];
  fill_x(shape, p[X], NORMAL, 1);
  fill_flat(p[WEIGHT], j->dtype, parameter_count(j), 1.0, 0.5, 2);
  fill_flat(p[BIAS], j->dtype, parameter_count(j), 0.0, 0.5, 3);
  if (has_stored(j->op)) {
    j->running_mean = p[RUNNING_MEAN];
    j->running_var = p[RUNNING_VAR];
    fill_flat(p[RUNNING_MEAN], j->dtype, stored_count(j), 0.0, 1.0, 4);
    fill_flat(p[RUNNING_VAR], j->dtype, stored_count(j), 9.0, 1.0, 5);
  }
}

static void check_untouched(const job *j, int at_end) {
  for (int i = 0; i < ARRAYS; i++) {
    const size_t bytes = bytes_of(j, (array_id)i);
    const size_t start = at_end ? ROOM - bytes : 0;
    unsigned char *map = writable_map(j, (array_id)i);
    const size_t first = window_start(j, (array_id)i, at_end);
    for (size_t b = first; b < first + window_bytes(j, (array_id)i); b++) {
      const int may = b >= start && b < start + bytes && map[b - start];
      if (rooms[i][b] != copies[i][b] && !may) {
        fail("%s: array %d: byte %zu was written", running_now, i, b - start);
        break;
      }
    }
    free(map);
  }
}

static void run_guarded(const job *shape) {
  const char *name;
  for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
    fastnorm_set_isa(name);
    for (int at_end = 0; at_end < 2; at_end++) {
      job j = *shape;
      place_arrays(shape, &j, at_end);
      snprintf(running_now, sizeof running_now, "%s %s [%zu, %zu, %zu] on %s, %s",
               operation_names[j.op], dtype_name(j.dtype), j.n0, j.n1, j.n2, name,
               at_end ? "guard after" : "guard before");
      for (int k = 0; k < ARRAYS; k++) {
        const size_t first = window_start(&j, (array_id)k, at_end);
        memcpy(copies[k] + first, rooms[k] + first, window_bytes(&j, (array_id)k));
      }
      const fastnorm_status status = run_job(&j);
      CHECK(status == FASTNORM_OK, "%s: %s", running_now, fastnorm_strerror(status));
      check_untouched(&j, at_end);
    }
  }
  fastnorm_set_isa(NULL);
}

/* `variant` chooses weight and bias; the pointers only say "given" until placed. */
static job make_shape(int op, int type, size_t n0, size_t n1, size_t n2,
                      size_t variant) {
  static const char given;
  job j = {
      .op = (operation)op, .dtype = working_type(type), .n0 = n0, .n1 = n1, .n2 = n2};
  j.groups = 1;
  j.weight = variant % 2 == 0 && has_weight(j.op) ? &given : NULL;
  j.bias = variant / 2 % 2 == 0 && has_bias(j.op) ? &given : NULL;
  j.exec.num_threads = 1;
  return j;
}

static void check_size(size_t length) {
  for (int op = 0; op < OPERATIONS; op++) {
    for (int type = 0; type < 2; type++) {
      const size_t v = length + (size_t)op;
      const int rows = is_row_norm((operation)op);
      const size_t few = 1 + length % 5;
      const job shapes[] = {
          make_shape(op, type, few, length, 1, v),
          rows ? make_shape(op, type, 2, length, few, v + 1)
               : make_shape(op, type, few, 3, length, v + 1),
          rows ? make_shape(op, type, 1, few + 1, length, v + 2)
               : make_shape(op, type, length, few, 1, v + 2),
      };
      for (size_t i = 0; i < LENGTH(shapes); i++) {
        job j = shapes[i];
        if (i > 0 && parameter_count(&j) % 3 == 0) {
          j.groups = parameter_count(&j) / 3;
        }
        if (!is_too_short(&j)) {
          run_guarded(&j);
        }
      }
    }
  }
}

static void small_sizes(void) {
  for (size_t length = 1; length <= 70; length += length > 20 ? AT_LEVEL(1, 7, 7) : 1) {
    check_size(length);
  }
}

static void larger_sizes(void) {
  static const size_t lengths[] = {127, 128,  129,  255,  257, 511,
                                   513, 1000, 1025, 2047, 4099};
  for (size_t i = 0; i < LENGTH(lengths); i += AT_LEVEL(1, 4, 4)) {
    check_size(lengths[i]);
  }
}

/* Gaps between rows and channels belong to somebody else. */
static void gaps(void) {
  for (size_t length = 1; length <= 40; length += AT_LEVEL(1, 9, 9)) {
    for (int op = 0; op < OPERATIONS; op++) {
      for (int type = 0; type < 2; type++) {
        const int rows = is_row_norm((operation)op);
        job j = rows ? make_shape(op, type, 3, length, 1 + length % 3, length)
                     : make_shape(op, type, 3, 1 + length % 4, length, length);
        if (is_too_short(&j)) {
          continue;
        }
        if (!rows && j.n2 > 1) { /* the channels of a table are adjacent */
          j.x_s1 = (ptrdiff_t)j.n2 + 1;
          j.y_s1 = (ptrdiff_t)j.n2 + 2;
        }
        j.x_s0 = (ptrdiff_t)(j.n1 * (j.n2 + 1) + 3);
        j.y_s0 = (ptrdiff_t)(j.n1 * (j.n2 + 2) + 1);
        run_guarded(&j);
      }
    }
  }
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"small_sizes", small_sizes}, {"larger_sizes", larger_sizes}, {"gaps", gaps}};
  open_rooms();
  return RUN_TESTS(argc, argv, tests);
}
