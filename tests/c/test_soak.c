/* test_soak.c - many mixed calls: no allocation, no more memory, no more threads,
 * the same bits each time.
 * SPDX-License-Identifier: MIT
 *
 * The calls are drawn once and repeated, some with several threads, from several
 * threads at once. `test_soak --long` is the million; without that there are fewer. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "any_arrays.h"

#if defined(__has_feature)
#define SANITIZED                                                                      \
  (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||              \
   __has_feature(memory_sanitizer))
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* ---- Allocations ----------------------------------------------------------------- */

/* Of the threads of this test what they allocate within a call counts; of all others,
 * which are the library's, anything. */
static _Atomic long allocations;
static _Thread_local int is_ours, is_in_call;

#if defined(__GLIBC__) && !SANITIZED
#define COUNTS 1

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t n, size_t bytes);
void *__libc_realloc(void *p, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void *memalign(size_t alignment, size_t bytes);

static void count_allocation(void) {
  if (!is_ours || is_in_call) {
    atomic_fetch_add(&allocations, 1);
  }
}

void *malloc(size_t bytes) {
  count_allocation();
  return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes) {
  count_allocation();
  return __libc_calloc(n, bytes);
}

void *realloc(void *p, size_t bytes) {
  count_allocation();
  return __libc_realloc(p, bytes);
}

void *memalign(size_t alignment, size_t bytes) {
  count_allocation();
  return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
  return memalign(alignment, bytes);
}

int posix_memalign(void **p, size_t alignment, size_t bytes) {
  *p = memalign(alignment, bytes);
  return *p == NULL ? 12 : 0;
}

#if defined(SYS_mmap) && UINTPTR_MAX > UINT32_MAX
void *mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset) {
  count_allocation();
  return (void *)syscall(SYS_mmap, at, bytes, protection, flags, file, offset);
}
#endif
#else
#define COUNTS 0
#endif

/* A call of the test itself counts: else a zero would say nothing. */
static void allocations_are_counted(void) {
  void *volatile p[4];
  const long before = atomic_load(&allocations);
  is_in_call = 1;
  p[0] = malloc(10);
  p[1] = calloc(10, 1);
  p[2] = realloc(NULL, 10);
  p[3] = aligned_alloc(64, 64);
  is_in_call = 0;
  for (int i = 0; i < 4; i++) {
    free(p[i]);
  }
  CHECK(!COUNTS || atomic_load(&allocations) == before + 4, "%ld of 4 were counted",
        atomic_load(&allocations) - before);
}

/* ---- The process ----------------------------------------------------------------- */

static long status_number(const char *name) {
  char line[256];
  long value = -1;
  FILE *f = fopen("/proc/self/status", "r");
  while (f != NULL && fgets(line, sizeof line, f) != NULL) {
    if (strncmp(line, name, strlen(name)) == 0) {
      value = strtol(line + strlen(name), NULL, 10);
    }
  }
  if (f != NULL) {
    fclose(f);
  }
  return value;
}

/* ---- The calls ------------------------------------------------------------------- */

enum { CALL_BYTES = 400, POOL = 600, CALLERS = 3, MOST_THREADS = 8 };

typedef struct drawn {
  any_call *call;
  fastnorm_status status;            /* of the first time */
  unsigned char *after[MOST_BLOCKS]; /* and what it left */
} drawn;

typedef struct caller {
  pthread_t thread;
  uint64_t seed;
  long calls;
  long accepted;
  int wrong;
  drawn pool[POOL];
} caller;

static fastnorm_status run_once(any_call *c) {
  for (size_t i = 0; i < c->blocks; i++) {
    if (c->block[i].home == i) {
      memcpy(c->block[i].memory, c->block[i].before, c->block[i].memory_bytes);
    }
  }
  is_in_call = 1;
  const fastnorm_status s = c->op->call(c->args.bytes);
  is_in_call = 0;
  return s;
}

static drawn draw_one(uint64_t seed, int num_threads) {
  unsigned char bytes[CALL_BYTES];
  rng r = {seed};
  for (size_t i = 0; i < sizeof bytes; i++) {
    bytes[i] = (unsigned char)rng_below(&r, 256);
  }
  source s = {bytes, sizeof bytes};
  drawn d = {.call = draw_any_call(&s)};
  const field *threads = find_field(d.call->op, "num_threads");
  if (threads != NULL && num_threads > 0) {
    put_integer(d.call, threads, num_threads);
  }
  d.status = run_once(d.call);
  for (size_t i = 0; i < d.call->blocks; i++) {
    const block *b = &d.call->block[i];
    if (b->home == i) {
      d.after[i] = new_bytes(b->memory_bytes);
      memcpy(d.after[i], b->memory, b->memory_bytes);
    }
  }
  return d;
}

static void free_one(drawn *d) {
  for (size_t i = 0; i < d->call->blocks; i++) {
    free(d->after[i]);
  }
  free_any_call(d->call);
}

static int is_as_before(const drawn *d) {
  for (size_t i = 0; i < d->call->blocks; i++) {
    const block *b = &d->call->block[i];
    if (b->home == i && memcmp(b->memory, d->after[i], b->memory_bytes) != 0) {
      return 0;
    }
  }
  return 1;
}

static void repeat(caller *c, long calls) {
  for (long i = 0; i < calls; i++) {
    drawn *d = &c->pool[i % POOL];
    const fastnorm_status s = run_once(d->call);
    c->accepted += s == FASTNORM_OK;
    c->wrong += s != d->status || (i % 16 == 0 && !is_as_before(d));
  }
  c->calls += calls;
}

/* ---- One thread ------------------------------------------------------------------ */

static void one_thread_allocates_nothing(void) {
  const long threads = status_number("Threads:");
  const long before = atomic_load(&allocations);
  long accepted = 0;
  for (uint64_t i = 0; i < (uint64_t)AT_LEVEL(6000, 2000, 1000); i++) {
    drawn d = draw_one(i, 1);
    accepted += d.status == FASTNORM_OK;
    free_one(&d);
  }
  CHECK(accepted > 300, "only %ld calls were accepted", accepted);
  CHECK(atomic_load(&allocations) == before, "%ld allocations",
        atomic_load(&allocations) - before);
  CHECK(status_number("Threads:") == threads, "%ld threads, and %ld at first",
        status_number("Threads:"), threads);
}

/* ---- Many ------------------------------------------------------------------------ */

static pthread_barrier_t warm, counted;
static long calls_each;
static int is_long;

static void *call_often(void *context) {
  caller *c = context;
  is_ours = 1;
  for (size_t i = 0; i < POOL; i++) {
    c->pool[i] = draw_one(c->seed + i, 0);
  }
  repeat(c, POOL);
  pthread_barrier_wait(&warm);
  pthread_barrier_wait(&counted); /* the process is looked at */
  repeat(c, calls_each);
  pthread_barrier_wait(&warm);
  pthread_barrier_wait(&counted);
  for (size_t i = 0; i < POOL; i++) {
    free_one(&c->pool[i]);
  }
  return NULL;
}

/* Starts as many of the shared workers as there will be. */
static void start_workers(void) {
  const size_t n = (size_t)1 << 21;
  float *x = new_bytes(n * sizeof *x);
  const fastnorm_layer_norm_args args = {.size = sizeof args,
                                         .x = x,
                                         .y = x,
                                         .rows = n / 1024,
                                         .cols = 1024,
                                         .exec.num_threads = MOST_THREADS};
  CHECK(fastnorm_layer_norm(&args) == FASTNORM_OK, "the first call");
  free(x);
}

static void soak(void) {
  static caller callers[CALLERS];
  calls_each = (is_long ? 1000000 : AT_LEVEL(100000, 40000, 20000)) / CALLERS;
  fastnorm_set_num_threads(3);
  start_workers();
  const long first = atomic_load(&allocations);
  pthread_barrier_init(&warm, NULL, CALLERS + 1);
  pthread_barrier_init(&counted, NULL, CALLERS + 1);
  for (size_t i = 0; i < CALLERS; i++) {
    callers[i].seed = 1000000 * (i + 1);
    if (pthread_create(&callers[i].thread, NULL, call_often, &callers[i]) != 0) {
      perror("pthread_create");
      exit(3);
    }
  }
  pthread_barrier_wait(&warm);
  const long threads = status_number("Threads:"), memory = status_number("VmRSS:");
  pthread_barrier_wait(&counted);
  pthread_barrier_wait(&warm);
  const long threads_now = status_number("Threads:");
  const long memory_now = status_number("VmRSS:");
  pthread_barrier_wait(&counted);
  for (size_t i = 0; i < CALLERS; i++) {
    pthread_join(callers[i].thread, NULL);
    CHECK(callers[i].wrong == 0, "caller %zu: %d calls were not as the first time", i,
          callers[i].wrong);
    CHECK(callers[i].accepted * 3 > callers[i].calls, "caller %zu: %ld of %ld accepted",
          i, callers[i].accepted, callers[i].calls);
  }
  CHECK(threads_now == threads, "%ld threads, and %ld after the first calls",
        threads_now, threads);
  /* Parts of the workers' stacks are first used late. */
  CHECK(SANITIZED || memory_now <= memory + 4096,
        "%ld KiB, and %ld after the first calls", memory_now, memory);
  CHECK(atomic_load(&allocations) == first, "%ld allocations after the first call",
        atomic_load(&allocations) - first);
  printf("%ld calls, %ld KiB before and %ld after, %ld threads\n", calls_each * CALLERS,
         memory, memory_now, threads_now);
  fastnorm_set_num_threads(0);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"allocations_are_counted", allocations_are_counted},
      {"one_thread_allocates_nothing", one_thread_allocates_nothing},
      {"soak", soak}};
  is_ours = 1;
  if (argc > 1 && strcmp(argv[1], "--long") == 0) {
    is_long = 1;
    argc--;
    argv++;
  }
  return RUN_TESTS(argc, argv, tests);
}
