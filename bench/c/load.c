/* load.c - many request threads that normalise at once: throughput and latency.
 * SPDX-License-Identifier: MIT
 *
 *     fastnorm_load [ROWS COLS [ROUNDS [REQUEST_THREADS]]]
 *
 * Request threads normalise rows of their own, in rounds of a quarter of a second in
 * which these ways of doing so take turns, so that whatever else the machine does
 * happens to all of them:
 *
 *     alone        a call stays on its request thread (num_threads = 1)
 *     shared       the library's own workers, as is the default
 *     OpenMP       the same pieces by an OpenMP loop, given as the host's parallel_for:
 *                  each request thread then has a team of threads
 *
 * Throughput is that of threads that call again and again, as many as there are CPUs,
 * and REQUEST_THREADS (16). Latency is that of REQUEST_THREADS requests that come at
 * once, with a pause before the next ones: from when they came to when each is done,
 * waiting included. */
#include <fastnorm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_THREADS = 256, MOST_ROUNDS = 1001, MOST_CALLS = 1 << 20 };
#define ROUND_SECONDS      0.25
#define PAUSE_MICROSECONDS 500

typedef struct load {
  const char *name;
  fastnorm_exec exec;
} load;

typedef struct request_thread {
  pthread_t thread;
  float *x, *y;
  double *times; /* of calls, seconds */
  size_t calls;
  bool at_once; /* wait for the others before each call */
} request_thread;

typedef struct result {
  double per_second, median, late; /* calls; seconds */
} result;

static size_t rows = 128, cols = 768;
static const load *current;
static _Atomic int go;
static pthread_barrier_t begin;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#if defined(_OPENMP)
static void openmp_for(void *context, size_t count, fastnorm_task task,
                       void *task_context) {
  (void)context;
#pragma omp parallel for schedule(dynamic)
  for (size_t i = 0; i < count; i++)
    task(task_context, i);
}
#endif

static double came; /* when the requests did */

/* When this request came: now, or with the next burst; false if there is none. */
static bool next_request(const request_thread *r, double *when) {
  if (r->at_once) {
    pthread_barrier_wait(&begin);
    *when = came;
  } else {
    *when = now();
  }
  return atomic_load_explicit(&go, memory_order_relaxed) && r->calls < MOST_CALLS;
}

static void *serve(void *context) {
  request_thread *r = context;
  r->calls = 0;
  pthread_barrier_wait(&begin);
  double when;
  while (next_request(r, &when)) {
    const fastnorm_status status = fastnorm_layer_norm(&(fastnorm_layer_norm_args){
        .size = sizeof(fastnorm_layer_norm_args),
        .x = r->x,
        .y = r->y,
        .rows = rows,
        .cols = cols,
        .exec = current->exec,
    });
    r->times[r->calls++] = now() - when;
    if (status != FASTNORM_OK) {
      fprintf(stderr, "layer norm: %s\n", fastnorm_strerror(status));
      exit(1);
    }
    if (r->at_once)
      pthread_barrier_wait(&begin);
  }
  return NULL;
}

static int by_value(const void *a, const void *b) {
  const double d = *(const double *)a - *(const double *)b;
  return (d > 0) - (d < 0);
}

static double *all_times; /* of one round */

static void nap(long microseconds) {
  nanosleep(&(struct timespec){.tv_nsec = microseconds * 1000}, NULL);
}

static result run_round(request_thread *threads, int count, bool at_once) {
  pthread_barrier_init(&begin, NULL, (unsigned)count + 1);
  atomic_store(&go, 1);
  for (int i = 0; i < count; i++) {
    threads[i].at_once = at_once;
    if (pthread_create(&threads[i].thread, NULL, serve, &threads[i]) != 0) {
      fputs("no more threads\n", stderr);
      exit(1);
    }
  }
  pthread_barrier_wait(&begin);
  const double begun = now();
  while (at_once && now() - begun < ROUND_SECONDS) {
    came = now();
    pthread_barrier_wait(&begin);
    pthread_barrier_wait(&begin); /* all are done */
    nap(PAUSE_MICROSECONDS);
  }
  if (!at_once)
    nap((long)(ROUND_SECONDS * 1e6));
  atomic_store(&go, 0);
  if (at_once)
    pthread_barrier_wait(&begin);
  size_t calls = 0;
  for (int i = 0; i < count; i++)
    pthread_join(threads[i].thread, NULL);
  const double seconds = now() - begun;
  for (int i = 0; i < count; i++) {
    memcpy(all_times + calls, threads[i].times, threads[i].calls * sizeof(double));
    calls += threads[i].calls;
  }
  pthread_barrier_destroy(&begin);
  qsort(all_times, calls, sizeof *all_times, by_value);
  return (result){(double)calls / seconds, all_times[calls / 2],
                  all_times[calls * 99 / 100]};
}

static double median_of(const result *results, size_t rounds, size_t field) {
  double values[MOST_ROUNDS];
  for (size_t i = 0; i < rounds; i++)
    memcpy(&values[i], (const char *)&results[i] + field, sizeof(double));
  qsort(values, rounds, sizeof *values, by_value);
  return values[rounds / 2];
}

static void *room(size_t bytes) {
  void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!p) {
    fputs("no memory\n", stderr);
    exit(1);
  }
  memset(p, 0, bytes);
  return p;
}

static const load loads[] = {
    {"alone", {.num_threads = 1}},
    {"shared", {0}},
#if defined(_OPENMP)
    {"OpenMP", {.parallel_for = openmp_for}},
#endif
};
enum { LOADS = sizeof loads / sizeof *loads, FEW = 0, MANY, AT_ONCE, KINDS };

static request_thread threads[MOST_THREADS];
static result results[KINDS][LOADS][MOST_ROUNDS];

static void make_requests(int count) {
  for (int i = 0; i < count; i++) {
    threads[i].x = room(rows * cols * sizeof(float));
    threads[i].y = room(rows * cols * sizeof(float));
    threads[i].times = room(MOST_CALLS * sizeof(double));
    for (size_t k = 0; k < rows * cols; k++)
      threads[i].x[k] = (float)(k * 2654435761u % 1009);
  }
  all_times = room((size_t)count * MOST_CALLS * sizeof(double));
}

/* Median and 99th percentile in microseconds, and how much later the latter is. */
static void print_latency(const result *r, size_t rounds) {
  const double median = median_of(r, rounds, offsetof(result, median));
  const double late = median_of(r, rounds, offsetof(result, late));
  printf(" %10.1f %10.1f %6.1f", median * 1e6, late * 1e6, late / median);
}

static void print_table(int few, int many, size_t rounds) {
  printf("fastnorm %s, %s, layer norm %zux%zu, %d CPUs, %zu rounds in turn\n",
         fastnorm_version(), fastnorm_isa(), rows, cols, few, rounds);
  printf("%8s %10s %10s %28s %28s\n", "threads:", "few", "many", "many", "at once");
  printf("%8s %10d %10d %28d %28d\n", "", few, many, many, many);
  printf("%8s %10s %10s", "", "calls/s", "calls/s");
  for (int i = 0; i < 2; i++)
    printf(" %10s %10s %6s", "median us", "99 % us", "ratio");
  for (int l = 0; l < LOADS; l++) {
    printf("\n%-8s", loads[l].name);
    for (int kind = FEW; kind <= MANY; kind++)
      printf(" %10.0f",
             median_of(results[kind][l], rounds, offsetof(result, per_second)));
    for (int kind = MANY; kind <= AT_ONCE; kind++)
      print_latency(results[kind][l], rounds);
  }
  putchar('\n');
}

int main(int argc, char **argv) {
  size_t rounds = 9;
  int many = 16;
  if (argc > 2) {
    rows = strtoull(argv[1], NULL, 10);
    cols = strtoull(argv[2], NULL, 10);
  }
  if (argc > 3)
    rounds = strtoull(argv[3], NULL, 10);
  if (argc > 4)
    many = (int)strtol(argv[4], NULL, 10);
  const int few = (int)sysconf(_SC_NPROCESSORS_ONLN);
  if (rows * cols == 0 || rounds < 1 || rounds > MOST_ROUNDS || many < 1 ||
      many > MOST_THREADS || few > MOST_THREADS) {
    fprintf(stderr, "usage: %s [ROWS COLS [ROUNDS [REQUEST_THREADS]]]\n", argv[0]);
    return 2;
  }
  make_requests(many > few ? many : few);

  for (size_t round = 0; round < rounds; round++)
    for (int l = 0; l < LOADS; l++) {
      current = &loads[l];
      results[FEW][l][round] = run_round(threads, few, false);
      results[MANY][l][round] = run_round(threads, many, false);
      results[AT_ONCE][l][round] = run_round(threads, many, true);
    }
  print_table(few, many, rounds);
  return 0;
}
