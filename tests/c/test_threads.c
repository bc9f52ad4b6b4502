/* test_threads.c - the pool, concurrent calls, the host's pool and small work.
 * SPDX-License-Identifier: MIT
 */
#include <fenv.h>
#include <pthread.h>

#include "callers.h"

/* ---- fn_parallel_for itself ---------------------------------------------------- */

static int each_once(const _Atomic int *hits, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (hits[i] != 1) {
      return 0;
    }
  }
  return 1;
}

static void every_index_exactly_once(void) {
  static _Atomic int hits[1000];
  for (int round = 0; round < AT_LEVEL(2000, 200, 100); round++) {
    const size_t count = (size_t)round % LENGTH(hits);
    const fastnorm_exec exec = {.num_threads = round % 9};
    counters c = {hits};
    memset((void *)hits, 0, sizeof hits);
    fn_parallel_for(&exec, count, MUCH, count_one, &c);
    CHECK(each_once(hits, count), "round %d, %zu pieces", round, count);
  }
}

static void count_ten(void *context, size_t index) {
  const counters *c = context;
  const fastnorm_exec exec = {.num_threads = 4};
  counters part = {c->hits + index * 10};
  fn_parallel_for(&exec, 10, MUCH, count_one, &part);
}

static void nested_calls_run_alone(void) {
  static _Atomic int hits[500];
  for (int round = 0; round < 300; round++) {
    const fastnorm_exec exec = {.num_threads = 3};
    counters c = {hits};
    memset((void *)hits, 0, sizeof hits);
    fn_parallel_for(&exec, 50, MUCH, count_ten, &c);
    CHECK(each_once(hits, LENGTH(hits)), "round %d", round);
  }
}

/* ---- Concurrent use ------------------------------------------------------------ */

static void concurrent_callers(void) {
  float *x = new_input();
  float *expected = new_matrix();
  normalise(x, expected, (fastnorm_exec){.num_threads = 1});
  caller callers[6];
  for (int i = 0; i < 6; i++) {
    callers[i] = (caller){.rounds = AT_LEVEL(100, 20, 10),
                          .num_threads = i,
                          .x = x,
                          .expected = expected};
    CHECK(pthread_create(&callers[i].thread, NULL, call_often, &callers[i]) == 0,
          "cannot start a thread");
  }
  for (int i = 0; i < 6; i++) {
    pthread_join(callers[i].thread, NULL);
    CHECK(callers[i].wrong == 0, "caller %d: %d wrong results", i, callers[i].wrong);
  }
  free(x);
  free(expected);
}

static void *change_settings(void *stop) {
  while (!atomic_load((_Atomic int *)stop)) {
    const char *name;
    for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
      fastnorm_set_isa(name);
      fastnorm_set_num_threads((int)(i % 4) + 1);
    }
    usleep(100);
  }
  return NULL;
}

static void settings_change_during_calls(void) {
  float *x = new_input();
  float *expected = new_matrix();
  normalise(x, expected, (fastnorm_exec){.num_threads = 1});
  caller c = {.rounds = AT_LEVEL(300, 50, 20), .x = x, .expected = expected};
  _Atomic int stop = 0;
  pthread_t thread;
  pthread_create(&thread, NULL, change_settings, &stop);
  call_often(&c);
  atomic_store(&stop, 1);
  pthread_join(thread, NULL);
  CHECK(c.wrong == 0, "%d wrong results", c.wrong);
  fastnorm_set_isa(NULL);
  fastnorm_set_num_threads(0);
  free(x);
  free(expected);
}

#if !defined(FASTNORM_NO_THREADS)
typedef struct modes {
  _Atomic int here;
  _Atomic int rounding[2];
} modes;

static void note_rounding(void *context, size_t index) {
  modes *m = context;
  CHECK(meet(&m->here), "no worker came");
  atomic_store(&m->rounding[index], fegetround());
}

/* Bits would depend on who computes them otherwise. */
static void workers_round_as_the_caller(void) {
  static const int modes_in_turn[] = {FE_UPWARD, FE_TONEAREST, FE_TOWARDZERO,
                                      FE_DOWNWARD, FE_TONEAREST};
  const fastnorm_exec exec = {.num_threads = 2};
  for (size_t i = 0; i < LENGTH(modes_in_turn); i++) {
    static modes m;
    memset((void *)&m, 0, sizeof m);
    fesetround(modes_in_turn[i]);
    fn_parallel_for(&exec, 2, MUCH, note_rounding, &m);
    CHECK(fegetround() == modes_in_turn[i], "the caller's mode was changed");
    for (size_t k = 0; k < 2; k++) {
      CHECK(m.rounding[k] == modes_in_turn[i], "turn %zu, piece %zu: mode %d, not %d",
            i, k, m.rounding[k], modes_in_turn[i]);
    }
  }
  fesetround(FE_TONEAREST);
}
#endif

/* ---- The host's pool and small work -------------------------------------------- */

typedef struct host {
  int calls;
  size_t count;
  _Atomic int hits[ROWS * 2];
  fastnorm_task task;
  void *task_context;
} host;

static void host_piece(void *context, size_t index) {
  host *h = context;
  atomic_fetch_add(&h->hits[index], 1);
  h->task(h->task_context, index);
}

static void host_parallel_for(void *context, size_t count, fastnorm_task task,
                              void *task_context) {
  host *h = context;
  h->calls++;
  h->count = count;
  h->task = task;
  h->task_context = task_context;
  for (size_t i = count; i > 0; i--) {
    host_piece(h, i - 1);
  }
}

static void host_pool_is_used(void) {
  static _Atomic int hits[ROWS];
  static const struct {
    int num_threads;
    size_t bytes;
    int calls;
    size_t handed;
  } cases[] = {{0, MUCH, 1, ROWS},
               {3, MUCH, 1, 3},
               {ROWS + 1, MUCH, 1, ROWS},
               {1, MUCH, 0, 0},
               {0, 1000, 0, 0}};
  for (size_t i = 0; i < LENGTH(cases); i++) {
    static host h;
    memset((void *)hits, 0, sizeof hits);
    memset(&h, 0, sizeof h);
    const fastnorm_exec exec = {.num_threads = cases[i].num_threads,
                                .parallel_for = host_parallel_for,
                                .context = &h};
    counters c = {hits};
    fn_parallel_for(&exec, ROWS, cases[i].bytes, count_one, &c);
    CHECK(each_once(hits, ROWS), "case %zu: not every piece once", i);
    CHECK(h.calls == cases[i].calls && h.count == cases[i].handed,
          "case %zu: %d calls, %zu indices", i, h.calls, h.count);
  }
}

static void operations_use_the_host_pool(void) {
  float *x = new_input();
  float *y = new_matrix();
  float *expected = new_matrix();
  static host h;
  normalise(x, expected, (fastnorm_exec){.num_threads = 1});
  const fastnorm_exec exec = {.parallel_for = host_parallel_for, .context = &h};
  CHECK(normalise(x, y, exec) == FASTNORM_OK, "failed");
  CHECK(h.calls > 0, "the host's parallel_for was not called");
  CHECK(memcmp(y, expected, ROWS * COLS * sizeof *y) == 0, "other bits");
  free(x);
  free(y);
  free(expected);
}

static void note_thread(void *context, size_t index) {
  (void)index;
  const pthread_t *self = context;
  CHECK(pthread_equal(*self, pthread_self()), "a piece ran on another thread");
}

static void small_work_stays_on_the_caller(void) {
  pthread_t self = pthread_self();
  const fastnorm_exec many = {.num_threads = 8};
  const fastnorm_exec one = {.num_threads = 1};
  for (int i = 0; i < 1000; i++) {
    fn_parallel_for(&many, 100, 100 * 1024, note_thread, &self);
    fn_parallel_for(&one, 100, MUCH, note_thread, &self);
    fn_parallel_for(&many, 1, MUCH, note_thread, &self);
  }
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
    {"every_index_exactly_once", every_index_exactly_once},
    {"nested_calls_run_alone", nested_calls_run_alone},
    {"concurrent_callers", concurrent_callers},
    {"settings_change_during_calls", settings_change_during_calls},
#if !defined(FASTNORM_NO_THREADS)
    {"workers_round_as_the_caller", workers_round_as_the_caller},
#endif
    {"host_pool_is_used", host_pool_is_used},
    {"operations_use_the_host_pool", operations_use_the_host_pool},
    {"small_work_stays_on_the_caller", small_work_stays_on_the_caller},
  };
  return RUN_TESTS(argc, argv, tests);
}
