/* threads.c - a small pool of shared workers that idle callers can borrow.
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
#define _GNU_SOURCE /* sched_getaffinity, pthread_setname_np */
#endif

#include "threads.h"

#include "denormals.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(FASTNORM_NO_THREADS) || !(defined(__unix__) || defined(__APPLE__))
#define FN_HAVE_PTHREADS 0
#else
#define FN_HAVE_PTHREADS 1
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

/* Every thread must have at least this much to do; so work below twice this stays on
 * the caller. Measured with two threads on a two-core EPYC virtual machine: in
 * back-to-back calls a second thread pays from 4 microseconds of work (100 KiB) and
 * gives 1.8 x from 8. */
#define FN_BYTES_PER_THREAD ((size_t)128 * 1024)

/* So much for every thread before sleepers are woken: less is shared only with workers
 * that are awake. On the same machine a wake-up costs the caller 10 microseconds, and
 * the worker begins some 20 later: after a pause two threads take 21 for layer norm of
 * 128 x 768 where one takes 12, and gain only from 4 MiB (60 microseconds) on. The
 * tests' build has 0, to share what is small. */
#if !defined(FN_BYTES_PER_WAKE)
#define FN_BYTES_PER_WAKE ((size_t)2048 * 1024)
#endif

/* ---- How many threads ---------------------------------------------------------- */

static int count_cpus(void) {
  long count = 1;
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) {
    return CPU_COUNT(&set);
  }
#endif
#if FN_HAVE_PTHREADS && defined(_SC_NPROCESSORS_ONLN)
  count = sysconf(_SC_NPROCESSORS_ONLN);
#endif
  return count < 1 ? 1 : count > INT_MAX ? INT_MAX : (int)count;
}

static int first_num_threads(void) {
  const char *text = getenv("FASTNORM_NUM_THREADS");
  if (text != NULL) {
    char *end = NULL;
    const long value = strtol(text, &end, 10);
    if (value > 0 && *end == '\0') {
      return value > INT_MAX ? INT_MAX : (int)value;
    }
  }
  return count_cpus();
}

static _Atomic int chosen_num_threads;  /* 0: not chosen */
static _Atomic int default_num_threads; /* 0: not looked up yet */

int fastnorm_get_num_threads(void) {
  const int chosen = atomic_load_explicit(&chosen_num_threads, memory_order_relaxed);
  if (chosen > 0) {
    return chosen;
  }
  int value = atomic_load_explicit(&default_num_threads, memory_order_relaxed);
  if (value == 0) {
    /* Two threads may both look it up; the first to store decides for both. */
    int unset = 0;
    value = first_num_threads();
    if (!atomic_compare_exchange_strong(&default_num_threads, &unset, value)) {
      value = unset;
    }
  }
  return value;
}

fastnorm_status fastnorm_set_num_threads(int num_threads) {
  if (num_threads < 0) {
    return FASTNORM_ERROR_THREADS;
  }
  atomic_store_explicit(&chosen_num_threads, num_threads, memory_order_relaxed);
  return FASTNORM_OK;
}

/* ---- Alone, and with a host's pool ---------------------------------------------- */

static void run_alone(size_t count, fastnorm_task task, void *context) {
  for (size_t i = 0; i < count; i++) {
    task(context, i);
  }
}

typedef struct host_job {
  fastnorm_task task;
  void *context;
  size_t count;
  _Atomic size_t next;
} host_job;

static void run_host_lane(void *context, size_t lane) {
  host_job *job = context;
  (void)lane;
  size_t i;
  while ((i = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed)) <
         job->count) {
    job->task(job->context, i);
  }
}

/* A host's pool takes no number of threads. So where the call states one, the host is
 * given that many lanes, which share out the pieces between them. */
static void run_on_host(const fastnorm_exec *exec, size_t threads, size_t count,
                        fastnorm_task task, void *context) {
  if (exec->num_threads == 0 || count <= threads) {
    exec->parallel_for(exec->context, count, task, context);
    return;
  }
  host_job job = {.task = task, .context = context, .count = count};
  atomic_init(&job.next, 0);
  exec->parallel_for(exec->context, threads, run_host_lane, &job);
}

/* ---- The shared workers -------------------------------------------------------- */

#if FN_HAVE_PTHREADS

/* The pool lives in static memory, so it has a largest size: calls that ask for more
 * threads than this and the caller get this many. */
#define FN_MAX_WORKERS 64

/* Kernels use up to 256 KiB of stack; the C library takes thread-local storage out of
 * the same block, and hosts with many libraries have a lot of it. */
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

static void run_shared(size_t threads, size_t count, size_t bytes, fastnorm_task task,
                       void *context) {
  /* Registered before anyone owns the pool: a child never inherits an owned one. */
  pthread_once(&fork_handler_once, register_fork_handler);
  int free_pool = 0;
  if (!atomic_compare_exchange_strong_explicit(
          &pool.busy, &free_pool, 1, memory_order_acquire, memory_order_relaxed)) {
    run_alone(count, task, context);
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
    run_alone(count, task, context);
  }
  atomic_store_explicit(&pool.ended, now(), memory_order_relaxed);
}

#else /* no threads on this platform, or none wanted */

static void run_shared(size_t threads, size_t count, size_t bytes, fastnorm_task task,
                       void *context) {
  (void)threads;
  (void)bytes;
  run_alone(count, task, context);
}

#endif

/* A task whose thread takes subnormals for zero. */
typedef struct flushing {
  const fastnorm_exec *exec;
  fastnorm_task task;
  void *context;
} flushing;

static void flush_task(void *context, size_t index) {
  const flushing *f = context;
  const fn_denormals before = fn_denormals_begin(f->exec);
  f->task(f->context, index);
  fn_denormals_end(&before);
}

static void spread(const fastnorm_exec *exec, size_t count, size_t bytes,
                   fastnorm_task task, void *context) {
  const size_t worthwhile = bytes / FN_BYTES_PER_THREAD;
  if (count < 2 || worthwhile < 2 || exec->num_threads == 1) {
    run_alone(count, task, context);
    return;
  }
  if (exec->parallel_for != NULL) {
    run_on_host(exec, (size_t)exec->num_threads, count, task, context);
    return;
  }
  size_t threads = exec->num_threads > 0 ? (size_t)exec->num_threads
                                         : (size_t)fastnorm_get_num_threads();
  threads = threads < worthwhile ? threads : worthwhile;
  threads = threads < count ? threads : count;
  if (threads < 2) {
    run_alone(count, task, context);
  } else {
    run_shared(threads, count, bytes, task, context);
  }
}

void fn_parallel_for(const fastnorm_exec *exec, size_t count, size_t bytes,
                     fastnorm_task task, void *context) {
  flushing f = {exec, task, context};
  if (exec->flush_denormals)
    spread(exec, count, bytes, flush_task, &f);
  else
    spread(exec, count, bytes, task, context);
}
