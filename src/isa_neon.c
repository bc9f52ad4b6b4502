/* isa_neon.c - the kernels for AArch64, whose baseline has Advanced SIMD.
 * SPDX-License-Identifier: MIT */
#include "compiler.h"
#if defined(FN_NEON)
#include <arm_neon.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"
#include "range.h"

#define FN_ISA       neon
#define FN_BUNDLE    FN_IN_FIRST_LEVEL
#define FN_HALVES    0
#define FN_IN_STEP   0
#define FN_ROWS      4
#define FN_PEELS     1
#define FN_STREAMS   0
#define FN_ACTIVATES 0
#define FN_PIPELINES 0
#include "simd/neon.h"

/* The next two stand on the one above, the others on these. */
#include "simd/narrow_neon.h"
#include "simd/parts.h"

#include "simd/image_neon.h"
#include "simd/masks_neon.h"

#define FN_T_IS_FLOAT 1
#include "template/kernels.h"
#undef FN_T_IS_FLOAT
#define FN_T_IS_FLOAT 0
#include "template/kernels.h"

const fn_isa fn_isa_neon = {"neon", {&table_f32_neon, &table_f64_neon}};
#endif
