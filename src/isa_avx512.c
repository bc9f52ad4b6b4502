/* isa_avx512.c - the kernels for x86-64 with AVX-512 F, DQ, VL and BW.
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
#pragma clang attribute push(                                                          \
    __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma,f16c"))),       \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma,f16c")
#endif

#define FN_ISA       avx512
#define FN_BUNDLE    FN_BY_FIRST_LEVEL
#define FN_HALVES    1
#define FN_IN_STEP   1
#define FN_ROWS      4
#define FN_PEELS     1
#define FN_STREAMS   2
#define FN_ACTIVATES 1
#define FN_PIPELINES 2
#include "simd/avx512.h"

/* The next two stand on the one above, the others on these. */
#include "simd/narrow_avx512.h"
#include "simd/parts.h"

#include "simd/image_avx512.h"
#include "simd/masks_avx512.h"

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

const fn_isa fn_isa_avx512 = {"avx512", {&table_f32_avx512, &table_f64_avx512}};
#endif
