/* test_cpu.c - what the library asks the CPU, beside what Linux has found.
 * SPDX-License-Identifier: MIT */
#include "cpu.h"

#include "compiler.h"
#include "dispatch.h"
#include "test.h"

/* The first word of what Linux says of a cache; empty if it says nothing. */
static void said_of_cache(int cache, const char *what, char word[32]) {
  char path[96];
  snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/%s", cache,
           what);
  FILE *file = fopen(path, "r");
  if (!file || fscanf(file, "%31s", word) != 1)
    word[0] = 0;
  if (file)
    fclose(file);
}

static void first_level_is_what_linux_says(void) {
  const size_t bytes = fn_cpu_first_level();
  size_t looked_at = 0;
  for (int i = 0; i < 4; i++) {
    char type[32], level[32], size[32];
    said_of_cache(i, "type", type);
    said_of_cache(i, "level", level);
    said_of_cache(i, "size", size); /* 32K */
    if (strcmp(type, "Data") != 0 || strcmp(level, "1") != 0)
      continue;
    looked_at++;
    CHECK(bytes == 0 || bytes == 1024 * strtoul(size, NULL, 10), "%zu bytes, %s", bytes,
          size);
#if defined(FN_X86) /* only vector code asks */
    CHECK(bytes > 0, "not known, %s", size);
#endif
  }
  if (looked_at == 0)
    printf("first level of the cache: %zu bytes, nothing to compare with\n", bytes);
  CHECK(bytes == fn_cpu_first_level(), "another answer");
}

static void bundles_are_of_either_size(void) {
  const size_t small = 24576, large = 131072, has = fn_cpu_first_level();
  fn_kernels k = {.bundle = FN_IN_FIRST_LEVEL};
  CHECK(fn_bundle_bytes(&k, small) == small, "in the first level");
  k.bundle = FN_IN_SECOND_LEVEL;
  CHECK(fn_bundle_bytes(&k, small) == large, "in the second level");
  k.bundle = FN_BY_FIRST_LEVEL;
  const size_t want = has > 0 && has <= 32768 ? large : small;
  CHECK(fn_bundle_bytes(&k, small) == want, "by a first level of %zu", has);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"first_level_is_what_linux_says", first_level_is_what_linux_says},
      {"bundles_are_of_either_size", bundles_are_of_either_size},
  };
  return run_tests(argc, argv, tests, LENGTH(tests));
}
