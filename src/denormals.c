/* denormals.c - subnormal numbers as zero, for the time of a call.
 * SPDX-License-Identifier: MIT */
#include "denormals.h"

#include "compiler.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
/* flush to zero (results) and denormals are zero (operands): Intel SDM volume 1, 10.2.3
 */
#define FLUSH 0x8040ull
static unsigned long long control(void) {
  return _mm_getcsr();
}
static void set_control(unsigned long long value) {
  _mm_setcsr((unsigned int)value);
}
#elif defined(__aarch64__) && defined(__GNUC__)
/* FPCR.FZ; FZ16 is left alone: conversions from float16 stay exact */
#define FLUSH 0x1000000ull
static unsigned long long control(void) {
  unsigned long long value;
  __asm__ volatile("mrs %0, fpcr" : "=r"(value));
  return value;
}
static void set_control(unsigned long long value) {
  __asm__ volatile("msr fpcr, %0" : : "r"(value));
}
#else
#define FLUSH 0ull
static unsigned long long control(void) {
  return 0;
}
static void set_control(unsigned long long value) {
  (void)value;
}
#endif

fn_denormals fn_denormals_begin(const fastnorm_exec *exec) {
  fn_denormals before = {0, 0};
  if (!exec->flush_denormals)
    return before;
  before.control = control();
  before.changed = 1;
  set_control(before.control | FLUSH);
  return before;
}

void fn_denormals_end(const fn_denormals *before) {
  if (before->changed)
    set_control(before->control);
}
