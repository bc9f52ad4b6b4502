/* test_scratch.c - memory that a call may use: how much, where, and only that.
 * SPDX-License-Identifier: MIT */
#include <sys/mman.h>

#include "good_call.h"

enum { MOST_PLACES = 20 };
#define PLACE_BYTES ((size_t)16 << 20)

/* Zeros, which take memory only where they are touched. */
static places reserve(int access) {
  const size_t bytes = MOST_PLACES * PLACE_BYTES;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void *p = mmap(NULL, bytes, access, flags, -1, 0);
  CHECK(p != MAP_FAILED, "no %zu bytes of addresses", bytes);
  return (places){p == MAP_FAILED ? NULL : p, PLACE_BYTES};
}

static void release(const places *in) {
  if (in->memory != NULL) {
    munmap(in->memory, MOST_PLACES * PLACE_BYTES);
  }
}

/* So large that threads share each channel, or the sums of all rows. */
static size_t large(const field *f) {
  return is_named(f, "rows")      ? 4096
         : is_named(f, "cols")    ? 64
         : is_named(f, "spatial") ? (size_t)1 << 18
                                  : 2;
}

static void put_scratch(any_call *c, const void *p, size_t bytes) {
  put_field(c, find_field(c->op, "scratch")->at, &p, sizeof p);
  put_field(c, find_field(c->op, "scratch_size")->at, &bytes, sizeof bytes);
}

static void put_check_only(any_call *c, int on) {
  put_integer(c, find_field(c->op, "check_only"), on);
}

/* Running moments cannot do without. */
static int needs_scratch(const known_operation *o) {
  return strcmp(o->name, "running_update") == 0;
}

static void expect(const any_call *c, const char *what, const field *f,
                   fastnorm_status wanted) {
  const fastnorm_status got = c->op->call(c->args.bytes);
  CHECK(got == wanted, "%s: scratch %s %s: status %d, not %d", c->op->name, what,
        f ? f->name : "", (int)got, (int)wanted);
}

/* Its first byte in another array, and its last; and both where it would be, were it
 * not too small to be used. */
static void check_beside(any_call *c, const field *f, size_t need) {
  unsigned char *p = pointer_of(c, f);
  unsigned char *const at[] = {p, p + 8 - need};
  const fastnorm_status overlap = FASTNORM_ERROR_OVERLAP;
  for (size_t i = 0; i < LENGTH(at); i++) {
    put_scratch(c, at[i], need);
    expect(c, i == 0 ? "begins in" : "ends in", f, overlap);
    if (!needs_scratch(c->op)) {
      put_scratch(c, at[i], need - 1);
      expect(c, "is too little to lie in", f, FASTNORM_OK);
    }
  }
}

/* Of memory that cannot be read or written: what is checked is not touched. */
static void is_checked_as_an_array(void) {
  const places in = reserve(PROT_NONE);
  for (size_t i = 0; in.memory != NULL && i < KNOWN_OPERATIONS; i++) {
    const known_operation *o = &known_operations[i];
    if (find_field(o, "scratch") == NULL) {
      continue;
    }
    any_call c = good_call(o, &in, large);
    put_check_only(&c, 1);
    unsigned char *p = pointer_of(&c, find_field(o, "scratch"));
    const size_t need = o->scratch(c.args.bytes);
    CHECK(need > 0 && need % sizeof(double) == 0 && need <= in.bytes,
          "%s: %zu bytes of scratch", o->name, need);
    put_scratch(&c, p, need);
    expect(&c, "as it should be", NULL, FASTNORM_OK);
    put_scratch(&c, p + 4, need);
    expect(&c, "not aligned", NULL, FASTNORM_ERROR_ALIGNMENT);
    put_scratch(&c, NULL, need);
    expect(&c, "NULL", NULL, needs_scratch(o) ? FASTNORM_ERROR_NULL : FASTNORM_OK);
    put_scratch(&c, p, need - 1);
    expect(&c, "too little", NULL,
           needs_scratch(o) ? FASTNORM_ERROR_SCRATCH : FASTNORM_OK);
    for (size_t k = 0; k < o->count; k++) {
      if (o->fields[k].kind == ARRAY && pointer_of(&c, &o->fields[k]) != NULL) {
        check_beside(&c, &o->fields[k], need);
      }
    }
  }
  release(&in);
}

/* Whether all of it is as it was. */
static int is_untouched(const unsigned char *p, size_t bytes) {
  size_t same = 0;
  while (same < bytes && p[same] == 0x5a) {
    same++;
  }
  return same == bytes;
}

/* With all that it asks for it is used, and nothing behind it; with a byte less it is
 * not touched. */
static void is_used_as_far_as_asked(void) {
  const places in = reserve(PROT_READ | PROT_WRITE);
  for (size_t i = 0; in.memory != NULL && i < KNOWN_OPERATIONS; i++) {
    const known_operation *o = &known_operations[i];
    if (find_field(o, "scratch") == NULL) {
      continue;
    }
    any_call c = good_call(o, &in, large);
    unsigned char *p = pointer_of(&c, find_field(o, "scratch"));
    const size_t need = o->scratch(c.args.bytes);
    memset(p, 0x5a, need + 64);
    put_scratch(&c, p, need - 1);
    expect(&c, "too little", NULL,
           needs_scratch(o) ? FASTNORM_ERROR_SCRATCH : FASTNORM_OK);
    CHECK(is_untouched(p, need + 64), "%s: wrote to too little scratch", o->name);
    put_scratch(&c, p, need);
    expect(&c, "enough", NULL, FASTNORM_OK);
    CHECK(!is_untouched(p, need), "%s: made no use of scratch", o->name);
    CHECK(is_untouched(p + need, 64), "%s: wrote behind its scratch", o->name);
  }
  release(&in);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"is_checked_as_an_array", is_checked_as_an_array},
      {"is_used_as_far_as_asked", is_used_as_far_as_asked}};
  return RUN_TESTS(argc, argv, tests);
}
