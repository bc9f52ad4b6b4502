/* fuzz_api.c - libFuzzer's target: any call of the C API, and what must hold of it.
 * SPDX-License-Identifier: MIT
 *
 * With -DFASTNORM_FUZZ_ALONE a program for any compiler, which replays files, or draws
 * inputs from a seed:
 *     fuzz_api FILE...
 *     fuzz_api --seed SEED [SECONDS [FIRST [LAST]]] */
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "any_run.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t calls[KNOWN_OPERATIONS], accepted[KNOWN_OPERATIONS];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  source s = {data, size};
  const char *isa = NULL;
  const size_t wanted = draw_byte(&s) % 4;
  for (size_t i = 0; i <= wanted && fastnorm_isa_name(i) != NULL; i++) {
    isa = fastnorm_isa_name(i);
  }
  any_call *c = draw_any_call(&s);
  const size_t op = (size_t)(c->op - known_operations);
  test_name = "fuzz_api";
  calls[op]++;
  accepted[op] += check_call(c, isa) == FASTNORM_OK;
  free_any_call(c);
  if (test_failures != 0) {
    abort(); /* what fuzzers take for a finding */
  }
  return 0;
}

#ifdef FASTNORM_FUZZ_ALONE

enum { INPUT_BYTES = 400 };

static int replay(const char *path) {
  unsigned char bytes[65536];
  FILE *f = fopen(path, "rb");
  if (f == NULL) {
    perror(path);
    return 1;
  }
  const size_t n = fread(bytes, 1, sizeof bytes, f);
  fclose(f);
  printf("%s\n", path);
  return LLVMFuzzerTestOneInput(bytes, n);
}

/* The input of number `count` of a seed is the same wherever it is drawn. */
static void draw_input(uint64_t seed, uint64_t number, unsigned char *bytes) {
  rng r = {seed * UINT64_C(0x9e3779b97f4a7c15) + number};
  for (size_t i = 0; i < INPUT_BYTES; i++) {
    bytes[i] = (unsigned char)rng_below(&r, 256);
  }
}

/* What to say if an input ends the program, however it does. */
static char reproducer[128];

static void say_reproducer(void) {
  fflush(stdout);
  if (write(2, reproducer, strlen(reproducer)) < 0) {
    _exit(2);
  }
}

static void on_signal(int number) {
  say_reproducer();
  signal(number, SIG_DFL);
  raise(number);
}

/* Of the sanitizers, where there is one. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*)(void));

static void watch(void) {
  signal(SIGALRM, on_signal); /* an input that does not end */
  if (__sanitizer_set_death_callback != NULL) {
    __sanitizer_set_death_callback(say_reproducer);
    return;
  }
  static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
  for (size_t i = 0; i < LENGTH(numbers); i++) {
    signal(numbers[i], on_signal);
  }
}

static int draw_inputs(uint64_t seed, double seconds, uint64_t first, uint64_t last) {
  unsigned char bytes[INPUT_BYTES];
  const time_t begun = time(NULL);
  uint64_t i = first;
  for (; i < last && difftime(time(NULL), begun) < seconds; i++) {
    draw_input(seed, i, bytes);
    snprintf(reproducer, sizeof reproducer,
             "reproduce with: fuzz_api --seed %llu 60 %llu %llu\n",
             (unsigned long long)seed, (unsigned long long)i,
             (unsigned long long)i + 1);
    alarm(120);
    LLVMFuzzerTestOneInput(bytes, sizeof bytes);
  }
  alarm(0);
  for (size_t k = 0; k < KNOWN_OPERATIONS; k++) {
    printf("%-24s %8zu calls, %8zu accepted\n", known_operations[k].name, calls[k],
           accepted[k]);
  }
  printf("%llu inputs of seed %llu, no finding\n", (unsigned long long)(i - first),
         (unsigned long long)seed);
  return 0;
}

int main(int argc, char **argv) {
  if (argc > 2 && strcmp(argv[1], "--seed") == 0) {
    watch();
    const uint64_t seed = strtoull(argv[2], NULL, 10);
    const double seconds = argc > 3 ? strtod(argv[3], NULL) : 30.0;
    const uint64_t first = argc > 4 ? strtoull(argv[4], NULL, 10) : 0;
    const uint64_t last = argc > 5 ? strtoull(argv[5], NULL, 10) : UINT64_MAX;
    return draw_inputs(seed, seconds, first, last);
  }
  for (int i = 1; i < argc; i++) {
    replay(argv[i]);
  }
  return argc < 2;
}

#endif
