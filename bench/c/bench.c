/* bench.c - norms beside memcpy of the same arrays, without Python.
 * SPDX-License-Identifier: MIT
 *
 *     fastnorm_bench [THREADS [ROUNDS]]
 *
 * Each case takes turns with a copy of its input to its output, so that whatever else
 * the machine does happens to both; what is printed are medians, and their ratio. The
 * comparison with other libraries is that of `fastnorm bench`. */
#include <fastnorm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_ROUNDS = 1001, ELEMENTS = 1 << 23, CHANNELS = 4096 };

static float *x, *y, *weight, *bias, *running_mean, *running_var;
static int threads = 1;

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct shape {
  size_t n0, n1, n2; /* rows and cols; or batch, channels and spatial */
} shape;

typedef fastnorm_status norm(const shape *s);

static fastnorm_status layer_norm(const shape *s) {
  return fastnorm_layer_norm(&(fastnorm_layer_norm_args){
      .size = sizeof(fastnorm_layer_norm_args),
      .x = x,
      .y = y,
      .weight = weight,
      .bias = bias,
      .rows = s->n0,
      .cols = s->n1,
      .exec.num_threads = threads,
  });
}

static fastnorm_status rms_norm(const shape *s) {
  return fastnorm_rms_norm(&(fastnorm_rms_norm_args){
      .size = sizeof(fastnorm_rms_norm_args),
      .x = x,
      .y = y,
      .weight = weight,
      .rows = s->n0,
      .cols = s->n1,
      .exec.num_threads = threads,
  });
}

static fastnorm_status batch_norm(const shape *s, int training) {
  return fastnorm_batch_norm(&(fastnorm_batch_norm_args){
      .size = sizeof(fastnorm_batch_norm_args),
      .x = x,
      .y = y,
      .weight = weight,
      .bias = bias,
      .running_mean = running_mean,
      .running_var = running_var,
      .batch = s->n0,
      .channels = s->n1,
      .spatial = s->n2,
      .training = training,
      .exec.num_threads = threads,
  });
}

static fastnorm_status batch_norm_inference(const shape *s) {
  return batch_norm(s, 0);
}
static fastnorm_status batch_norm_training(const shape *s) {
  return batch_norm(s, 1);
}

static fastnorm_status group_norm(const shape *s) {
  return fastnorm_group_norm(&(fastnorm_group_norm_args){
      .size = sizeof(fastnorm_group_norm_args),
      .x = x,
      .y = y,
      .weight = weight,
      .bias = bias,
      .batch = s->n0,
      .channels = s->n1,
      .spatial = s->n2,
      .groups = s->n1 < 32 ? 1 : 32,
      .exec.num_threads = threads,
  });
}

static const struct {
  const char *name;
  norm *norm;
  shape shape;
} cases[] = {
    {"layer norm", layer_norm, {1, 768, 1}},
    {"layer norm", layer_norm, {128, 768, 1}},
    {"layer norm", layer_norm, {512, 1024, 1}},
    {"layer norm", layer_norm, {2048, 4096, 1}},
    {"RMS norm", rms_norm, {128, 768, 1}},
    {"RMS norm", rms_norm, {2048, 4096, 1}},
    {"batch norm", batch_norm_inference, {8, 64, 56 * 56}},
    {"batch norm", batch_norm_inference, {32, 256, 14 * 14}},
    {"batch norm, channels last", batch_norm_inference, {32 * 14 * 14, 256, 1}},
    {"batch norm, training", batch_norm_training, {8, 64, 56 * 56}},
    {"batch norm, training", batch_norm_training, {32, 256, 14 * 14}},
    {"group norm", group_norm, {32, 256, 14 * 14}},
};

static int by_value(const void *a, const void *b) {
  const double d = *(const double *)a - *(const double *)b;
  return (d > 0) - (d < 0);
}

static double median(double *times, size_t rounds) {
  qsort(times, rounds, sizeof *times, by_value);
  return times[rounds / 2];
}

/* One line of the table; more rounds for what is over soon. */
static fastnorm_status measure(size_t which, size_t rounds) {
  static double norm_times[MOST_ROUNDS], copy_times[MOST_ROUNDS];
  const shape *s = &cases[which].shape;
  const size_t elements = s->n0 * s->n1 * s->n2;
  size_t repeats = 200000 / elements;
  repeats = repeats < 1 ? 1 : repeats;
  for (size_t i = 0; i < rounds; i++) {
    double begun = seconds();
    for (size_t k = 0; k < repeats; k++) {
      const fastnorm_status status = cases[which].norm(s);
      if (status != FASTNORM_OK)
        return status;
    }
    norm_times[i] = seconds() - begun;
    begun = seconds();
    for (size_t k = 0; k < repeats; k++) {
      memcpy(y, x, elements * sizeof *x);
      __asm__ volatile("" : : "r"(y) : "memory"); /* each copy counts */
    }
    copy_times[i] = seconds() - begun;
  }
  const double n = median(norm_times, rounds) * 1e6 / (double)repeats;
  const double c = median(copy_times, rounds) * 1e6 / (double)repeats;
  char text[64];
  if (s->n2 == 1)
    snprintf(text, sizeof text, "%zux%zu", s->n0, s->n1);
  else
    snprintf(text, sizeof text, "%zux%zux%zu", s->n0, s->n1, s->n2);
  printf("%-26s %-13s %10.2f %10.2f %8.2f\n", cases[which].name, text, n, c, n / c);
  return FASTNORM_OK;
}

static float *array(size_t count) {
  float *p = aligned_alloc(64, count * sizeof *p);
  if (!p) {
    fputs("no memory\n", stderr);
    exit(1);
  }
  for (size_t i = 0; i < count; i++)
    p[i] = 1.0f + (float)(i * 2654435761u % 1009) / 1009;
  return p;
}

int main(int argc, char **argv) {
  long rounds = argc > 2 ? strtol(argv[2], NULL, 10) : 51;
  threads = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1;
  if (threads < 1 || rounds < 1 || rounds > MOST_ROUNDS) {
    fprintf(stderr, "usage: %s [THREADS [ROUNDS]], at most %d rounds\n", argv[0],
            MOST_ROUNDS);
    return 2;
  }
  x = array(ELEMENTS);
  y = array(ELEMENTS);
  weight = array(CHANNELS);
  bias = array(CHANNELS);
  running_mean = array(CHANNELS);
  running_var = array(CHANNELS);
  printf("fastnorm %s, %s, %d threads, float32, medians of %ld rounds in turn\n",
         fastnorm_version(), fastnorm_isa(), threads, rounds);
  printf("%-26s %-13s %10s %10s %8s\n", "", "", "us", "memcpy us", "ratio");
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const fastnorm_status status = measure(i, (size_t)rounds);
    if (status != FASTNORM_OK) {
      fprintf(stderr, "%s: %s\n", cases[i].name, fastnorm_strerror(status));
      return 1;
    }
  }
  return 0;
}
