/* compiler.h - the few things that depend on the compiler, and nothing else.
 * SPDX-License-Identifier: MIT */
#ifndef FN_COMPILER_H
#define FN_COMPILER_H

/* The vector code needs GCC's or clang's target regions; elsewhere, or when the
 * embedder asks for it, only the portable kernels are built. */
#if defined(__GNUC__) && !defined(FASTNORM_PORTABLE_ONLY)
#if defined(__x86_64__)
#define FN_X86 1
#elif defined(__aarch64__) && defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN)
#define FN_NEON 1
#endif
#endif

/* a * b + c written as two operations stays two: a compiler that fuses them, as GCC
 * does by default also for intrinsics, changes bits. Where one rounding is meant, the
 * code says fma. (No effect where -ffp-contract=off is given anyway.) */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=off")
#else
#pragma STDC FP_CONTRACT OFF
#endif

/* Words of the simd vocabulary: inlined even without optimisation, so that no vector
 * wider than the baseline ABI ever crosses a real call. */
#if defined(__GNUC__)
#define FN_WORD      static inline __attribute__((always_inline, unused))
#define FN_LIKELY(x) __builtin_expect(!!(x), 1)
/* The opposite: what many places would have a copy of. */
#define FN_NOINLINE static __attribute__((noinline, unused))
/* The 128 bytes of a vec, wherever p points: it is not read. */
#define FN_PREFETCH_VEC(p)                                                             \
  (__builtin_prefetch(p), __builtin_prefetch((const char *)(p) + 64))
/* Loops of a few steps, their number known in each instance, are to be written out at
 * any optimisation: what they index stays in registers then. */
#define FN_UNROLL _Pragma("GCC unroll 8")
/* The opposite: for what is rare, or not what takes the time. */
#define FN_ROLLED _Pragma("GCC unroll 1")
#else
#define FN_WORD     static inline
#define FN_NOINLINE static
#define FN_UNROLL
#define FN_ROLLED
#define FN_LIKELY(x)       (x)
#define FN_PREFETCH_VEC(p) ((void)(p))
#endif

#define FN_CAT_(a, b, c) a##_##b##_##c
#define FN_CAT(a, b, c)  FN_CAT_(a, b, c)

#endif
