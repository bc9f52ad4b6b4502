/* isa_portable.c - the kernels for plain C, on any platform.
 * SPDX-License-Identifier: MIT */
#include "compiler.h"
#include <math.h>

#include <stdint.h>
#include <string.h>

#include "kernels.h"
#include "range.h"

/* Here the words are ordinary functions, inlined as the compiler sees fit: forced into
 * every instance they took a minute to compile and ran no faster. */
#undef FN_WORD
#define FN_WORD static inline

#define FN_ISA       portable
#define FN_BUNDLE    FN_IN_FIRST_LEVEL
#define FN_HALVES    0
#define FN_IN_STEP   0
#define FN_ROWS      4
#define FN_PEELS     0
#define FN_STREAMS   0
#define FN_ACTIVATES 0
#define FN_PIPELINES 0
#include "simd/portable.h"

/* The next two stand on the one above, the others on these. */
#include "simd/narrow_portable.h"
#include "simd/parts.h"

#include "simd/image_portable.h"
#include "simd/masks_portable.h"

#define FN_T_IS_FLOAT 1
#include "template/kernels.h"
#undef FN_T_IS_FLOAT
#define FN_T_IS_FLOAT 0
#include "template/kernels.h"

const fn_isa fn_isa_portable = {"portable", {&table_f32_portable, &table_f64_portable}};
