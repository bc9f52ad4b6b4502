/* isa_avx2.c - the kernels for x86-64 with AVX2, FMA and F16C.
 * SPDX-License-Identifier: MIT */
#include "compiler.h"
#if defined(FN_X86)
#include <immintrin.h>
#include <math.h>

#include <stdint.h>
#include <string.h>

#include "kernels.h"
#include "range.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))),                 \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#define FN_ISA avx2
/* Layer norm of [512, 1024] with 24 KiB 134 us, 64 KiB 116, 128 KiB 114; group norm of
 * [32, 256, 196] 474, 446, 408 (AMD EPYC Zen 3, whose first-level cache has 32 KiB).
 * Batch norm + add + ReLU of [6272, 256] four rows at a time 1720 us, one 635; of
 * [49, 2048] without the addition 28 and 23. Batch norm of [6272, 256], 16 bytes off a
 * line as NumPy's large arrays are, with peeled rows 440 us, without 290; layer norm of
 * bfloat16 [512, 1024] 278 and 242. */
#define FN_BUNDLE    FN_IN_SECOND_LEVEL
#define FN_HALVES    1
#define FN_IN_STEP   0
#define FN_ROWS      1
#define FN_PEELS     0
#define FN_STREAMS   1
#define FN_ACTIVATES 1
#define FN_PIPELINES 1
#include "simd/avx2.h"

/* The next stands on the one above, the others on both. */
#include "simd/narrow_avx2.h"

#include "simd/image_avx2.h"
#include "simd/masks_avx2.h"

#define FN_T_IS_FLOAT 1
#include "template/kernels.h"
#undef FN_T_IS_FLOAT
#define FN_T_IS_FLOAT 0
#include "template/kernels.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const fn_isa fn_isa_avx2 = {"avx2", {&table_f32_avx2, &table_f64_avx2}};
#endif
