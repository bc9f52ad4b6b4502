/* workers.c - a small pool of shared workers that idle callers can borrow.
 * SPDX-License-Identifier: MIT
 *
 * Why not OpenMP: it gives every calling thread its own team (16 request threads make
 * 16 teams), spins between calls, and hangs in a forked child. Here there is one set of
 * workers in the process. A call that finds them free borrows them; a call that finds
 * them busy runs on its own thread, which on a loaded server is where its share of the
 * machine is anyway. The caller always works itself, so a worker that wakes late, or
 * could not be started, costs speed and never an answer.
 *
 * The life of a shared call:
 *   1. The caller takes the pool (`busy` 0 -> 1; on failure it runs alone).
 *   2. Under the lock it states the job and a number of seats, for workers that are
 *      awake and for sleepers that are worth waking, and wakes those; if there are none
 *      it gives the pool back and runs alone.
 *   3. Caller and seated workers claim pieces from the atomic counter `next`.
 *   4. Whoever finds no piece left takes the remaining seats away. The caller waits for
 *      the workers that still sit (`active`), and gives the pool back.
 * Everything but `next` and `ended` is written under the lock or by the owner of
 * `busy`. */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* pthread_setname_np */
#endif

#include "workers.h"

#if FN_HAVE_PTHREADS
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* So much for every thread before sleepers are woken: less is shared only with workers
 * that are awake. On a two-core EPYC virtual machine a wake-up costs the caller 10
 * microseconds, and the worker begins some 20 later: after a pause two threads take 21
 * for layer norm of 128 x 768 where one takes 12, and gain only from 4 MiB (60
 * microseconds) on. The tests' build has 0, to share what is small. */
#if !defined(FN_BYTES_PER_WAKE)
#define FN_BYTES_PER_WAKE ((size_t)2048 * 1024)
#endif

/* The pool lives in static memory, so it has a largest size: calls that ask for more
 * threads than this and the caller get this many. */
#define FN_MAX_WORKERS 64

/* A call uses up to some 420 KiB of stack (the gradient of 16-bit rows with inner axes,
 * GCC 12); the C library takes thread-local storage out of the same block, and hosts
 * with many libraries have a lot of it. */
#define FN_STACK_SIZE ((size_t)1024 * 1024)

/* Pauses before going to sleep: 2 to 7 microseconds, a pause being 40 to 140 cycles.
 * Less than a sleep and a wake-up cost, too little to be seen in a profile, and enough
 * to catch the next call of a loop, or the end of another thread's piece. */
#define FN_SPINS 160

/* After a failed pthread_create, calls that go by before the next attempt, so that a
 * process at its limit does not pay for a failure in every call. */
#define FN_RETRY_AFTER 1000

/* Calls that begin this soon after the one before, in nanoseconds, follow each other
 * before workers sleep; after so many of them they are a loop, for which workers are
 * woken however small the calls are. */
#define FN_LOOP_GAP   5000
#define FN_LOOP_CALLS 4

static struct {
  _Atomic int busy; /* 1: some caller owns the pool */

  pthread_mutex_t lock;
  pthread_cond_t wake; /* workers: there are seats */
  pthread_cond_t done; /* the owner: nobody is active any more */

  _Atomic int seats;  /* how many more workers may join; 0 when there is no job */
  _Atomic int active; /* workers that have joined and not left */
  fastnorm_task task;
  void *context;
  size_t count;
  fenv_t environment; /* of the caller: rounding and denormal modes change bits */

  int sleepers; /* workers on `wake` */

  int workers; /* started so far; only the owner of `busy` touches these three */
  int retry_in;
  int close_calls;             /* in a row */
  _Atomic unsigned long ended; /* when the last call did, as now() has it */

  _Alignas(64) _Atomic size_t next; /* the next piece; alone in its cache line */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static pthread_once_t fork_handler_once = PTHREAD_ONCE_INIT;

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("isb" ::: "memory");
#endif
}

/* The child of a fork has no workers, and the parent's copy of the pool may have been
 * caught in any state by threads that do not exist here: all of it starts anew. */
static void reset_in_child(void) {
  pthread_mutex_init(&pool.lock, NULL);
  pthread_cond_init(&pool.wake, NULL);
  pthread_cond_init(&pool.done, NULL);
  atomic_store(&pool.seats, 0);
  atomic_store(&pool.active, 0);
  pool.sleepers = 0;
  pool.workers = 0;
  pool.retry_in = 0;
  atomic_store(&pool.busy, 0);
}

static void register_fork_handler(void) {
  pthread_atfork(NULL, NULL, reset_in_child);
}

static void run_pieces(size_t count, fastnorm_task task, void *context) {
  size_t i;
  while ((i = atomic_fetch_add_explicit(&pool.next, 1, memory_order_relaxed)) < count) {
    task(context, i);
  }
}

/* Called and left with the lock held; returns with a seat taken. */
static void wait_for_seat(void) {
  if (atomic_load_explicit(&pool.seats, memory_order_relaxed) == 0) {
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < FN_SPINS; i++) {
      if (atomic_load_explicit(&pool.seats, memory_order_relaxed) != 0) {
        break;
      }
      relax();
    }
    pthread_mutex_lock(&pool.lock);
  }
  while (atomic_load_explicit(&pool.seats, memory_order_relaxed) == 0) {
    pool.sleepers++;
    pthread_cond_wait(&pool.wake, &pool.lock);
    pool.sleepers--;
  }
  atomic_fetch_sub_explicit(&pool.seats, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&pool.active, 1, memory_order_relaxed);
}

static void *worker_main(void *unused) {
  (void)unused;
#if defined(__linux__)
  pthread_setname_np(pthread_self(), "fastnorm");
#endif
  pthread_mutex_lock(&pool.lock);
  for (;;) {
    wait_for_seat();
    const fastnorm_task task = pool.task;
    void *const context = pool.context;
    const size_t count = pool.count;
    fesetenv(&pool.environment);
    pthread_mutex_unlock(&pool.lock);

    run_pieces(count, task, context);

    pthread_mutex_lock(&pool.lock);
    atomic_store_explicit(&pool.seats, 0, memory_order_relaxed);
    if (atomic_fetch_sub_explicit(&pool.active, 1, memory_order_relaxed) == 1) {
      pthread_cond_signal(&pool.done);
    }
  }
  return NULL;
}

static int start_worker(void) {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) {
    return 0;
  }
  pthread_attr_setstacksize(&attributes, FN_STACK_SIZE);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);

  /* The host's handlers run on the host's threads. Faults stay deliverable: blocked,
   * they would end the process without the host's crash report. */
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  sigdelset(&all, SIGSEGV);
  sigdelset(&all, SIGBUS);
  sigdelset(&all, SIGFPE);
  sigdelset(&all, SIGILL);
  sigdelset(&all, SIGTRAP);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int failed = pthread_create(&thread, &attributes, worker_main, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return failed == 0;
}

/* How many of the wanted helpers there are, after starting what is missing. */
static int ensure_workers(int wanted) {
  if (pool.workers < wanted && pool.retry_in > 0) {
    pool.retry_in--;
  } else {
    while (pool.workers < wanted) {
      if (!start_worker()) {
        pool.retry_in = FN_RETRY_AFTER;
        break;
      }
      pool.workers++;
    }
  }
  return pool.workers < wanted ? pool.workers : wanted;
}

static void wait_until_done(void) {
  pthread_mutex_lock(&pool.lock);
  atomic_store_explicit(&pool.seats, 0, memory_order_relaxed);
  if (atomic_load_explicit(&pool.active, memory_order_relaxed) != 0) {
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < FN_SPINS; i++) {
      if (atomic_load_explicit(&pool.active, memory_order_relaxed) == 0) {
        break;
      }
      relax();
    }
    pthread_mutex_lock(&pool.lock);
  }
  while (atomic_load_explicit(&pool.active, memory_order_relaxed) != 0) {
    pthread_cond_wait(&pool.done, &pool.lock);
  }
  pthread_mutex_unlock(&pool.lock);
}

/* Nanoseconds, from any beginning; differences are right though it may wrap. */
static unsigned long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (unsigned long)t.tv_sec * 1000000000UL + (unsigned long)t.tv_nsec;
}

/* Whether calls follow each other closely; counts this one. */
static bool is_loop(void) {
  const unsigned long ended = atomic_load_explicit(&pool.ended, memory_order_relaxed);
  const bool close = now() - ended < FN_LOOP_GAP;
  pool.close_calls = close ? pool.close_calls + (pool.close_calls < FN_LOOP_CALLS) : 0;
  return pool.close_calls == FN_LOOP_CALLS;
}

/* How many of the wanted helpers are worth what they cost. */
static int worthwhile_helpers(int wanted, size_t bytes) {
  const size_t share = FN_BYTES_PER_WAKE ? bytes / FN_BYTES_PER_WAKE : SIZE_MAX;
  if (is_loop() || share > (size_t)wanted)
    return wanted;
  pthread_mutex_lock(&pool.lock);
  const int awake = pool.workers - pool.sleepers;
  pthread_mutex_unlock(&pool.lock);
  const int worth = share > 1 ? (int)share - 1 : 0,
            helpers = awake > worth ? awake : worth;
  return helpers < wanted ? helpers : wanted;
}

static void seat(int helpers, size_t count, fastnorm_task task, void *context) {
  pthread_mutex_lock(&pool.lock);
  pool.task = task;
  pool.context = context;
  pool.count = count;
  fegetenv(&pool.environment);
  atomic_store_explicit(&pool.next, 0, memory_order_relaxed);
  atomic_store_explicit(&pool.seats, helpers, memory_order_relaxed);
  const int awake = pool.workers - pool.sleepers;
  pthread_mutex_unlock(&pool.lock);
  for (int i = awake; i < helpers; i++) {
    pthread_cond_signal(&pool.wake);
  }
}

void fn_run_shared(size_t threads, size_t count, size_t bytes, fastnorm_task task,
                   void *context) {
  /* Registered before anyone owns the pool: a child never inherits an owned one. */
  pthread_once(&fork_handler_once, register_fork_handler);
  int free_pool = 0;
  if (!atomic_compare_exchange_strong_explicit(
          &pool.busy, &free_pool, 1, memory_order_acquire, memory_order_relaxed)) {
    fn_on_this_thread(count, task, context);
    return;
  }
  const size_t most = FN_MAX_WORKERS + 1;
  const int wanted = (int)(threads < most ? threads : most) - 1;
  const int helpers = ensure_workers(worthwhile_helpers(wanted, bytes));
  if (helpers > 0) {
    seat(helpers, count, task, context);
    run_pieces(count, task, context);
    wait_until_done();
  }
  atomic_store_explicit(&pool.busy, 0, memory_order_release);
  if (helpers == 0) {
    fn_on_this_thread(count, task, context);
  }
  atomic_store_explicit(&pool.ended, now(), memory_order_relaxed);
}

#else /* no threads on this platform, or none wanted */

void fn_run_shared(size_t threads, size_t count, size_t bytes, fastnorm_task task,
                   void *context) {
  (void)threads;
  (void)bytes;
  fn_on_this_thread(count, task, context);
}

#endif
