/* cpu.c - what this CPU and its operating system support.
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
#endif

bool fn_cpu_any(void) {
  return true;
}
