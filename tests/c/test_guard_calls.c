/* test_guard_calls.c - drawn calls of every operation between pages that nobody may
 * touch.
 * SPDX-License-Identifier: MIT
 *
 * An array lies against the page after it, so at any alignment, as its size may be any;
 * or against the page before it. */
#include "guard.h"

static void *guarded(size_t bytes);
static void leave(void *p);
#define BLOCK_ALLOCATE(bytes) guarded(bytes)
#define BLOCK_FREE(p)         leave(p)

#include "any_run.h"

enum { ROOM_COUNT = 24, ROOM_BYTES = 1 << 22, DRAWN_BYTES = 400 };

static unsigned char *rooms[ROOM_COUNT];
static size_t next_room;
static int at_end;

static void *guarded(size_t bytes) {
  if (bytes > ROOM_BYTES || next_room == ROOM_COUNT) {
    return malloc(bytes);
  }
  unsigned char *room = rooms[next_room++];
  return at_end ? room + ROOM_BYTES - bytes : room;
}

static void leave(void *p) {
  for (size_t i = 0; i < ROOM_COUNT; i++) {
    if ((uintptr_t)p - (uintptr_t)rooms[i] < ROOM_BYTES) {
      return;
    }
  }
  free(p);
}

static size_t alignments[64];

static size_t seen_alignments(void) {
  size_t seen = 0;
  for (size_t i = 0; i < LENGTH(alignments); i++) {
    seen += alignments[i] > 0;
  }
  return seen;
}

static int has_new_alignment(const any_call *c) {
  int found = 0;
  for (size_t k = 0; k < c->blocks; k++) {
    found |= alignments[(uintptr_t)c->block[k].p % 64] == 0;
  }
  return found;
}

/* Call `seed`; with `only_new`, if an array of it lies as none before it did. */
static int drawn_call(uint64_t seed, int only_new, size_t isas) {
  unsigned char bytes[DRAWN_BYTES];
  rng r = {seed};
  int accepted = 0;
  for (size_t k = 0; k < sizeof bytes; k++) {
    bytes[k] = (unsigned char)rng_below(&r, 256);
  }
  source s = {bytes, sizeof bytes};
  next_room = 0;
  at_end = seed % 3 != 0;
  any_call *c = draw_any_call(&s);
  if (!only_new || has_new_alignment(c)) {
    snprintf(running_now, sizeof running_now, "call %llu: %.200s",
             (unsigned long long)seed, describe_call(c));
    accepted = check_call(c, fastnorm_isa_name(seed % isas)) == FASTNORM_OK;
    for (size_t k = 0; accepted && k < c->blocks; k++) {
      alignments[(uintptr_t)c->block[k].p % 64]++;
    }
  }
  free_any_call(c);
  return accepted;
}

static void drawn_calls(void) {
  const uint64_t count = (uint64_t)AT_LEVEL(6000, 2000, 1000);
  size_t accepted = 0, isas = 1;
  uint64_t i;
  for (i = 0; i < ROOM_COUNT; i++) {
    rooms[i] = new_room(ROOM_BYTES);
  }
  while (fastnorm_isa_name(isas) != NULL) {
    isas++;
  }
  for (i = 0; i < count; i++) {
    accepted += (size_t)drawn_call(i, 0, isas);
  }
  CHECK(accepted * 3 > count, "only %zu calls were accepted", accepted);
  /* Odd ones are those of byte arrays, of which there are few. */
  while (seen_alignments() < LENGTH(alignments) && i < 20 * count) {
    drawn_call(i++, 1, isas);
  }
  CHECK(seen_alignments() == 64, "only %zu alignments", seen_alignments());
}

int main(int argc, char **argv) {
  static const test_case tests[] = {{"drawn_calls", drawn_calls}};
  return RUN_TESTS(argc, argv, tests);
}
