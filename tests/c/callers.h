/* callers.h - calls that are worth sharing, for the tests of threads and fork.
 * SPDX-License-Identifier: MIT
 */
#ifndef FN_TEST_CALLERS_H
#define FN_TEST_CALLERS_H

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "job.h"
#include "threads.h"

enum { ROWS = 200, COLS = 1024, MUCH = 1 << 30 };

typedef struct counters {
  _Atomic int *hits;
} counters;

static inline void count_one(void *context, size_t index) {
  const counters *c = context;
  atomic_fetch_add(&c->hits[index], 1);
}

/* A piece of two that waits until the other has begun, so that they are on different
 * threads; false if it came in vain, after ten seconds. */
static inline int meet(_Atomic int *here) {
  atomic_fetch_add(here, 1);
  for (int i = 0; i < 10000 && atomic_load(here) < 2; i++) {
    usleep(1000);
  }
  return atomic_load(here) >= 2;
}

typedef struct caller {
  pthread_t thread;
  int rounds;
  int num_threads;
  const float *x;
  const float *expected;
  int wrong;
  _Atomic int calls;       /* that have been made */
  const _Atomic int *stop; /* if not NULL: ends the rounds when it is set */
} caller;

static inline fastnorm_status normalise(const float *x, float *y, fastnorm_exec exec) {
  return fastnorm_layer_norm(
      &(fastnorm_layer_norm_args){.size = sizeof(fastnorm_layer_norm_args),
                                  .x = x,
                                  .y = y,
                                  .rows = ROWS,
                                  .cols = COLS,
                                  .exec = exec});
}

static inline float *new_matrix(void) {
  return new_bytes(ROWS * COLS * sizeof(float));
}

static inline float *new_input(void) {
  float *x = new_matrix();
  fill_flat(x, FASTNORM_FLOAT32, ROWS * COLS, 5.0, 2.0, 1);
  return x;
}

static inline void *call_often(void *context) {
  caller *c = context;
  float *y = new_matrix();
  for (int i = 0; i < c->rounds && !(c->stop && atomic_load(c->stop)); i++) {
    const fastnorm_status status =
        normalise(c->x, y, (fastnorm_exec){.num_threads = c->num_threads});
    if (status != FASTNORM_OK || memcmp(y, c->expected, ROWS * COLS * sizeof *y) != 0) {
      c->wrong++;
    }
    memset(y, 0, ROWS * COLS * sizeof *y);
    atomic_fetch_add(&c->calls, 1);
  }
  free(y);
  return NULL;
}

#endif /* FN_TEST_CALLERS_H */
