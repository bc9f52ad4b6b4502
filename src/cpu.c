/* cpu.c - what this CPU and its operating system support, and what it has.
 * SPDX-License-Identifier: MIT
 *
 * The compiler's own run-time knows: __builtin_cpu_supports asks CPUID, and XGETBV for
 * whether the operating system saves the wide registers. */
#include "cpu.h"

#include "compiler.h"

#if defined(FN_X86)
#include <cpuid.h>
#include <stdatomic.h>

/* Not every compiler's run-time knows this one; it works on the registers of AVX. Asked
 * once: in a virtual machine CPUID takes microseconds. */
static bool has_f16c(void) {
  enum { UNKNOWN, NO, YES };
  static atomic_int known;
  int answer = atomic_load_explicit(&known, memory_order_relaxed);
  if (answer == UNKNOWN) {
    unsigned a, b, c, d;
    answer = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) ? YES : NO;
    atomic_store_explicit(&known, answer, memory_order_relaxed);
  }
  return answer == YES;
}

/* Leaf 4 of Intel and leaf 0x8000001D of AMD describe one cache for each number: its
 * kind, level, and ways * partitions * bytes of a line * sets, each less one. The other
 * maker's leaf is empty, or not to be asked at all. */
static size_t first_level_of(unsigned leaf) {
  enum { DATA = 1 };
  unsigned a, b, c, d;
  for (unsigned i = 0; __get_cpuid_count(leaf, i, &a, &b, &c, &d) && (a & 31); i++)
    if ((a & 31) == DATA && (a >> 5 & 7) == 1)
      return (size_t)((b >> 22) + 1) * ((b >> 12 & 1023) + 1) * ((b & 4095) + 1) *
             ((size_t)c + 1);
  return 0;
}

size_t fn_cpu_first_level(void) {
  enum { UNKNOWN = 1 }; /* 0 until it was asked */
  static atomic_size_t known;
  size_t bytes = atomic_load_explicit(&known, memory_order_relaxed);
  if (bytes == 0) {
    bytes = first_level_of(4);
    if (bytes == 0)
      bytes = first_level_of(0x8000001Du);
    if (bytes == 0)
      bytes = UNKNOWN;
    atomic_store_explicit(&known, bytes, memory_order_relaxed);
  }
  return bytes == UNKNOWN ? 0 : bytes;
}

bool fn_cpu_has_avx2(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

bool fn_cpu_has_avx512(void) {
  return fn_cpu_has_avx2() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw");
}
#else
bool fn_cpu_has_avx2(void) {
  return false;
}
bool fn_cpu_has_avx512(void) {
  return false;
}
size_t fn_cpu_first_level(void) {
  return 0;
}
#endif

bool fn_cpu_any(void) {
  return true;
}
