/* threads.c - who runs the pieces of a call: its thread alone, a host's pool, or the
 * shared workers (workers.c).
 * SPDX-License-Identifier: MIT */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* sched_getaffinity */
#endif

#include "threads.h"

#include "denormals.h"
#include "workers.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#if FN_HAVE_PTHREADS
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

/* ---- With a host's pool -------------------------------------------------------- */

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
    fn_on_this_thread(count, task, context);
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
    fn_on_this_thread(count, task, context);
  } else {
    fn_run_shared(threads, count, bytes, task, context);
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
