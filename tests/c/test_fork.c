/* test_fork.c - when workers are started, what they inherit, and fork in mid-use.
 * SPDX-License-Identifier: MIT
 *
 * Apart from test_threads.c, as thread sanitizers cannot follow a fork of threads. */
#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "callers.h"

static int thread_count(void) {
  DIR *directory = opendir("/proc/self/task");
  int count = 0;
  if (directory == NULL) {
    return -1;
  }
  for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    count += entry->d_name[0] != '.';
  }
  closedir(directory);
  return count;
}

/* Runs `body` in a child with a clean pool; its failures count here. */
static void in_child(void (*body)(void)) {
  fflush(stdout);
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(60);
    test_failures = 0;
    body();
    fflush(stdout);
    _exit(test_failures != 0);
  }
  int status = 0;
  CHECK(pid > 0 && waitpid(pid, &status, 0) == pid, "no child");
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %#x",
        (unsigned)status);
}

static void lazily(void) {
  static _Atomic int hits[64];
  counters c = {hits};
  const int before = thread_count();
  if (before < 0) {
    return;
  }
  float *x = new_input();
  fastnorm_exec exec = {.num_threads = 1};
  normalise(x, x, exec);
  fn_parallel_for(&exec, 64, MUCH, count_one, &c);
  exec.num_threads = 4;
  fn_parallel_for(&exec, 64, 1000, count_one, &c);
  fn_parallel_for(&exec, 1, MUCH, count_one, &c);
  CHECK(thread_count() == before, "threads were started without need");
#if !defined(FASTNORM_NO_THREADS)
  fn_parallel_for(&exec, 64, MUCH, count_one, &c);
  CHECK(thread_count() == before + 3, "%d threads started, not 3",
        thread_count() - before);
  fn_parallel_for(&exec, 64, MUCH, count_one, &c);
  CHECK(thread_count() == before + 3, "the workers are not used again");
#endif
  free(x);
}

static void workers_are_started_lazily(void) {
  in_child(lazily);
}

static _Atomic int signals_elsewhere;
static pthread_t main_thread;

static void on_signal(int number) {
  (void)number;
  if (!pthread_equal(pthread_self(), main_thread)) {
    atomic_fetch_add(&signals_elsewhere, 1);
  }
}

static void interrupted(void) {
  static _Atomic int hits[64];
  counters c = {hits};
  const fastnorm_exec exec = {.num_threads = 4};
  main_thread = pthread_self();
  signal(SIGUSR1, on_signal);
  fn_parallel_for(&exec, 64, MUCH, count_one, &c);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  kill(getpid(), SIGUSR1); /* only a worker could take it now */
  usleep(50000);
  CHECK(atomic_load(&signals_elsewhere) == 0, "a worker ran the host's signal handler");
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void workers_take_no_signals(void) {
  in_child(interrupted);
}

/* ---- Fork ---------------------------------------------------------------------- */

static float *fork_x;
static float *fork_expected;

static void use(void) {
  caller c = {.rounds = 5, .num_threads = 4, .x = fork_x, .expected = fork_expected};
  call_often(&c);
  CHECK(c.wrong == 0, "%d wrong results after fork", c.wrong);
}

/* A child gets workers of its own, also if the pool was in use when it was forked. */
static void use_in_child(void) {
  const int before = thread_count();
  use();
#if defined(FASTNORM_NO_THREADS)
  const int started = 0;
#else
  const int started = 3;
#endif
  CHECK(before < 0 || thread_count() == before + started, "%d threads, then %d", before,
        thread_count());
}

static void use_in_grandchild_too(void) {
  use_in_child();
  in_child(use_in_child);
  use();
}

/* Calls of almost no work: they keep the pool's lock taken as often as can be. */
static void *call_without_pause(void *stop) {
  static _Atomic int hits[16];
  counters c = {hits};
  const fastnorm_exec exec = {.num_threads = 3};
  while (!atomic_load((_Atomic int *)stop)) {
    fn_parallel_for(&exec, LENGTH(hits), MUCH, count_one, &c);
  }
  return NULL;
}

static void fork_in_mid_use(void) {
  fork_x = new_input();
  fork_expected = new_matrix();
  normalise(fork_x, fork_expected, (fastnorm_exec){.num_threads = 1});
  use();
  in_child(use_in_grandchild_too);
  for (int round = 0; round < AT_LEVEL(40, 5, 2); round++) {
    caller slow = {
        .rounds = 60, .num_threads = 3, .x = fork_x, .expected = fork_expected};
    _Atomic int stop = 0;
    pthread_t fast;
    pthread_create(&slow.thread, NULL, call_often, &slow);
    pthread_create(&fast, NULL, call_without_pause, &stop);
    for (int i = 0; i < 5; i++) {
      usleep((useconds_t)(round * 37 % 500));
      in_child(use_in_child);
      use();
    }
    atomic_store(&stop, 1);
    pthread_join(fast, NULL);
    pthread_join(slow.thread, NULL);
    CHECK(slow.wrong == 0, "%d wrong results while forking", slow.wrong);
  }
  free(fork_x);
  free(fork_expected);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"workers_are_started_lazily", workers_are_started_lazily},
      {"workers_take_no_signals", workers_take_no_signals},
      {"fork_in_mid_use", fork_in_mid_use},
  };
  return RUN_TESTS(argc, argv, tests);
}
