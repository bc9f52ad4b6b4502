/* test_denormals.c - flush_denormals: subnormals count as zero for the time of a call,
 * and the control register of every thread is as it was.
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "outputs.h"

/* ---- The control register -------------------------------------------------------- */

#if defined(__x86_64__)
enum { CAN_FLUSH = 1, FLUSHES = 0x8040 };
static uint64_t control(void) {
  return _mm_getcsr();
}
static void set_control(uint64_t value) {
  _mm_setcsr((unsigned)value);
}
/* Exception flags are the record of what happened, not a setting. */
static const uint64_t settings = ~UINT64_C(0x3f);
/* Round towards zero; also flushed already. */
static const uint64_t others[] = {0x1f80, 0x7f80, 0x9fc0};
#elif defined(__aarch64__)
enum { CAN_FLUSH = 1, FLUSHES = 1 << 24 };
static uint64_t control(void) {
  uint64_t value;
  __asm__ volatile("mrs %0, fpcr" : "=r"(value));
  return value;
}
static void set_control(uint64_t value) {
  __asm__ volatile("msr fpcr, %0" : : "r"(value));
}
static const uint64_t settings = ~UINT64_C(0);
static const uint64_t others[] = {0, 3 << 22, 1 << 24};
#else
enum { CAN_FLUSH = 0, FLUSHES = 0 };
static uint64_t control(void) {
  return 0;
}
static void set_control(uint64_t value) {
  (void)value;
}
static const uint64_t settings = 0, others[] = {0, 0, 0};
#endif

/* ---- A host's threads ------------------------------------------------------------ */

enum { THREADS = 3 };

typedef struct host {
  size_t count, next;
  fastnorm_task task;
  void *task_context;
  pthread_mutex_t lock;
  uint64_t first; /* the control register that each thread begins with */
  int changed;    /* threads that did not end with it */
  int calls;
} host;

static void *host_thread(void *context) {
  host *h = context;
  set_control(h->first);
  for (;;) {
    pthread_mutex_lock(&h->lock);
    const size_t i = h->next++;
    pthread_mutex_unlock(&h->lock);
    if (i >= h->count) {
      break;
    }
    h->task(h->task_context, i);
    if ((control() & settings) != (h->first & settings)) {
      pthread_mutex_lock(&h->lock);
      h->changed++;
      pthread_mutex_unlock(&h->lock);
    }
  }
  return NULL;
}

static void host_parallel_for(void *context, size_t count, fastnorm_task task,
                              void *task_context) {
  host *h = context;
  pthread_t threads[THREADS];
  h->count = count;
  h->next = 0;
  h->task = task;
  h->task_context = task_context;
  h->calls++;
  for (int i = 0; i < THREADS; i++) {
    if (pthread_create(&threads[i], NULL, host_thread, h) != 0) {
      exit(3);
    }
  }
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
  }
}

/* ---- Calls ----------------------------------------------------------------------- */

/* Large enough to be shared between threads. */
static job large_shape(operation op, int type) {
  job j = {.op = op, .dtype = working_type(type), .n0 = 32, .n1 = 64, .n2 = 64};
  j.groups = 8;
  if (is_row_norm(op)) {
    j.n0 = 200;
    j.n1 = 1000;
    j.n2 = 1;
  } else if (is_channels_last(op)) {
    j.n1 = 8;
    j.n2 = 1024;
  }
  return j;
}

static void zero_subnormals(void *x, fastnorm_dtype dtype, size_t n) {
  const double least = dtype == FASTNORM_FLOAT32 ? (double)FLT_MIN : DBL_MIN;
  for (ptrdiff_t i = 0; i < (ptrdiff_t)n; i++) {
    const double v = get(x, dtype, i);
    if (fabs(v) < least) {
      put(x, dtype, i, copysign(0.0, v));
    }
  }
}

/* Every other value is subnormal, the rest about one; or all are subnormal. */
static void fill_mixed(void *x, fastnorm_dtype dtype, size_t n, int all) {
  rng r = {7};
  for (ptrdiff_t i = 0; i < (ptrdiff_t)n; i++) {
    const double small = pattern_value(SUBNORMAL, dtype, &r, 0, 1);
    put(x, dtype, i, all || i % 2 ? small : rng_normal(&r));
  }
}

/* Whether some of the outputs are not zero. */
static int any_result(const job *j, const outputs *o) {
  for (size_t i = 0; i < o->y_bytes / element_size(j->dtype); i++) {
    if (get(o->y, j->dtype, (ptrdiff_t)i) != 0.0) {
      return 1;
    }
  }
  return 0;
}

/* How a call is made: alone, by the library's workers, by a host's threads. */
static void run_flushed(job j, int how, uint64_t first, outputs *o) {
  host h = {.first = first, .lock = PTHREAD_MUTEX_INITIALIZER};
  const uint64_t mine = control();
  j.exec = (fastnorm_exec){.num_threads = how == 0 ? 1 : THREADS,
                           .parallel_for = how == 2 ? host_parallel_for : NULL,
                           .context = &h,
                           .flush_denormals = 1};
  set_control(first);
  run_into(j, o, 0);
  const uint64_t after = control();
  set_control(mine);
  CHECK((after & settings) == (first & settings),
        "%s on %s: the caller's control register is %#llx, was %#llx",
        operation_names[j.op], fastnorm_isa(), (unsigned long long)after,
        (unsigned long long)first);
  CHECK(h.changed == 0, "%s: %d pieces left another control register",
        operation_names[j.op], h.changed);
  CHECK(how != 2 || h.calls > 0, "%s: the host's threads were not used",
        operation_names[j.op]);
}

/* The same bits as zeros give; and not so if nobody asks for it. */
static void check_operation(operation op, int type, int all) {
  job j = large_shape(op, type);
  const size_t n = j.n0 * j.n1 * j.n2;
  void *x = new_bytes(n * sizeof(double)), *zeros = new_bytes(n * sizeof(double));
  fill_mixed(x, j.dtype, n, all);
  memcpy(zeros, x, n * sizeof(double));
  zero_subnormals(zeros, j.dtype, n);
  j.eps = is_row_norm(op) && op != LAYER_STORED ? FASTNORM_EPS_ZERO : 0.0;
  j.exec.num_threads = 1;
  outputs expected = new_outputs(&j), flushed = new_outputs(&j), kept = new_outputs(&j);
  j.x = zeros;
  run_flushed(j, 0, control(), &expected);
  j.x = x;
  for (int how = 0; how < 3; how++) {
    run_flushed(j, how, control(), &flushed);
    check_same(&j, &expected, 0, &flushed, 0, "subnormals do not count as zero");
  }
  run_into(j, &kept, 0);
  if (all && is_row_norm(op) && op != LAYER_STORED) {
    CHECK(!any_result(&j, &flushed), "%s: flushed, but not zero", operation_names[op]);
    CHECK(any_result(&j, &kept), "%s: flushed unasked", operation_names[op]);
  }
  free(x);
  free(zeros);
  free_outputs(&expected);
  free_outputs(&flushed);
  free_outputs(&kept);
}

static void subnormals_count_as_zero(void) {
  const char *name;
  for (size_t i = 0; CAN_FLUSH && (name = fastnorm_isa_name(i)) != NULL; i++) {
    fastnorm_set_isa(name);
    for (int op = 0; op < OPERATIONS; op++) {
      for (int type = 0; type < 2; type++) {
        for (int all = 0; all < 2; all++) {
          if ((op + type + all) % AT_LEVEL(1, 1, 3) == 0) {
            check_operation((operation)op, type, all);
          }
        }
      }
    }
  }
  fastnorm_set_isa(NULL);
}

/* Whatever it was; and also by a call that is refused or has nothing to do. */
static void control_is_restored(void) {
  for (size_t i = 0; i < LENGTH(others); i++) {
    for (int op = (int)i % AT_LEVEL(1, 1, 3); op < OPERATIONS;
         op += AT_LEVEL(1, 1, 3)) {
      for (int how = 0; how < 3; how++) {
        job j = large_shape((operation)op, 0);
        void *x = new_bytes(x_extent(&j) * sizeof(double));
        outputs o = new_outputs(&j);
        fill_x(&j, x, NORMAL, 3);
        j.x = x;
        run_flushed(j, how, others[i], &o);
        free(x);
        free_outputs(&o);
      }
      const uint64_t mine = control();
      job j = large_shape((operation)op, 0);
      j.exec.flush_denormals = 1;
      set_control(others[i]);
      const fastnorm_status status = run_job(&j);
      const uint64_t after = control();
      set_control(mine);
      CHECK(status != FASTNORM_OK && (after & settings) == (others[i] & settings),
            "%s refused: control register %#llx", operation_names[op],
            (unsigned long long)after);
    }
  }
}

/* The library's own workers: a later call on them flushes nothing. */
static void workers_are_as_before(void) {
  job j = large_shape(RMS_NORM, 0);
  const size_t n = j.n0 * j.n1;
  void *x = new_bytes(n * sizeof(double));
  fill_mixed(x, j.dtype, n, 1);
  j.x = x;
  j.eps = FASTNORM_EPS_ZERO;
  j.exec.num_threads = 1;
  outputs alone = new_outputs(&j), shared = new_outputs(&j);
  run_into(j, &alone, 0);
  for (int round = 0; round < 20; round++) {
    run_flushed(j, 1, control(), &shared);
    j.exec = (fastnorm_exec){.num_threads = THREADS};
    run_into(j, &shared, 0);
    check_same(&j, &alone, 0, &shared, 0, "after a call that flushes");
  }
  free(x);
  free_outputs(&alone);
  free_outputs(&shared);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"subnormals_count_as_zero", subnormals_count_as_zero},
      {"control_is_restored", control_is_restored},
      {"workers_are_as_before", workers_are_as_before},
  };
  return RUN_TESTS(argc, argv, tests);
}
