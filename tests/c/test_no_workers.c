/* test_no_workers.c - a process that is given no threads.
 * SPDX-License-Identifier: MIT
 *
 * In the place of the C library's, the pthread_create of this program always fails. */
#include <errno.h>

#include "callers.h"

static int asked;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                   void *(*body)(void *), void *context) {
  (void)thread, (void)attributes, (void)body, (void)context;
  asked++;
  return EAGAIN;
}

static void on_self(void *context, size_t index) {
  const pthread_t *self = context;
  (void)index;
  CHECK(pthread_equal(*self, pthread_self()), "a piece ran on another thread");
}

static void calls_run_alone(void) {
  float *x = new_input();
  float *expected = new_matrix();
  normalise(x, expected, (fastnorm_exec){.num_threads = 1});
  CHECK(asked == 0, "asked for a thread without need");
  caller c = {.rounds = 3, .num_threads = 4, .x = x, .expected = expected};
  call_often(&c);
  CHECK(c.wrong == 0, "%d wrong results", c.wrong);
  free(x);
  free(expected);
}

/* A process at its limit does not pay for a failure in every call. */
static void failures_are_few(void) {
  static _Atomic int hits[8];
  pthread_t self = pthread_self();
  const fastnorm_exec exec = {.num_threads = 4};
  const int before = asked;
  for (int i = 0; i < 5000; i++) {
    counters c = {hits};
    memset((void *)hits, 0, sizeof hits);
    fn_parallel_for(&exec, LENGTH(hits), MUCH, count_one, &c);
    for (size_t k = 0; k < LENGTH(hits); k++) {
      CHECK(hits[k] == 1, "call %d: piece %zu ran %d times", i, k, hits[k]);
    }
    fn_parallel_for(&exec, 3, MUCH, on_self, &self);
  }
#if !defined(FASTNORM_NO_THREADS)
  const int more = asked - before;
  CHECK(more >= 2 && more <= 20, "10000 calls asked for a thread %d times", more);
#else
  CHECK(asked == before, "asked for a thread in a build without");
#endif
}

int main(int argc, char **argv) {
  static const test_case tests[] = {{"calls_run_alone", calls_run_alone},
                                    {"failures_are_few", failures_are_few}};
  return RUN_TESTS(argc, argv, tests);
}
