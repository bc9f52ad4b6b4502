/* test_fork.c - when workers are started, what they inherit, and fork in mid-use.
 * SPDX-License-Identifier: MIT
 *
 * Apart from test_threads.c, as thread sanitizers cannot follow a fork of threads. */
#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
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
  usleep(2000); /* workers that were just started have begun: see fork_among() */
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

#if !defined(FASTNORM_NO_THREADS)
static void on_fault(int number) {
  (void)number;
  _exit(pthread_equal(pthread_self(), main_thread) ? 2 : 0);
}

typedef struct trap {
  _Atomic int here;
  volatile char *closed; /* a page that nothing may touch */
} trap;

static void step_into(void *context, size_t index) {
  trap *t = context;
  (void)index;
  if (meet(&t->here) && !pthread_equal(pthread_self(), main_thread)) {
    *t->closed = 1;
  }
  usleep(1000000);
}

/* If faults were blocked there, the process would end without the host's report. */
static void faulting(void) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  static trap t;
  t.closed = mmap(NULL, page, PROT_NONE, flags, -1, 0);
  main_thread = pthread_self();
  signal(SIGSEGV, on_fault);
  fn_parallel_for(&(fastnorm_exec){.num_threads = 2}, 2, MUCH, step_into, &t);
  CHECK(0, "the host's handler was not called");
}

static void faults_of_workers_reach_the_host(void) {
  in_child(faulting);
}
#endif

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
static void *call_without_pause(void *context) {
  static _Atomic int hits[16];
  caller *of = context;
  counters c = {hits};
  const fastnorm_exec exec = {.num_threads = of->num_threads};
  while (!atomic_load(of->stop)) {
    fn_parallel_for(&exec, LENGTH(hits), MUCH, count_one, &c);
    atomic_store(&of->calls, 1);
  }
  return NULL;
}

/* Both callers call before the first fork and until after the last: a thread that
 * begins or ends allocates, and a sanitizer's allocator, unlike the C library's, does
 * not care for forks: its lock would be held in the child for ever. */
static void fork_among(caller *slow, caller *fast, unsigned pause) {
  _Atomic int stop = 0;
  slow->stop = fast->stop = &stop;
  pthread_create(&slow->thread, NULL, call_often, slow);
  pthread_create(&fast->thread, NULL, call_without_pause, fast);
  while (atomic_load(&slow->calls) == 0 || atomic_load(&fast->calls) == 0) {
    usleep(100);
  }
  for (int i = 0; i < 5; i++) {
    usleep(pause);
    in_child(use_in_child);
    use();
  }
  atomic_store(&stop, 1);
  pthread_join(fast->thread, NULL);
  pthread_join(slow->thread, NULL);
  CHECK(slow->wrong == 0, "%d wrong results while forking", slow->wrong);
}

static void fork_in_mid_use(void) {
  fork_x = new_input();
  fork_expected = new_matrix();
  normalise(fork_x, fork_expected, (fastnorm_exec){.num_threads = 1});
  use();
  in_child(use_in_grandchild_too);
  for (int round = 0; round < AT_LEVEL(40, 5, 2); round++) {
    caller slow = {
        .rounds = INT_MAX, .num_threads = 3, .x = fork_x, .expected = fork_expected};
    caller fast = {.num_threads = 3};
    fork_among(&slow, &fast, (unsigned)round * 37 % 500);
  }
  free(fork_x);
  free(fork_expected);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
    {"workers_are_started_lazily", workers_are_started_lazily},
    {"workers_take_no_signals", workers_take_no_signals},
#if !defined(FASTNORM_NO_THREADS)
    {"faults_of_workers_reach_the_host", faults_of_workers_reach_the_host},
#endif
    {"fork_in_mid_use", fork_in_mid_use},
  };
  return RUN_TESTS(argc, argv, tests);
}
