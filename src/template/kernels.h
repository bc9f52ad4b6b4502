/* template/kernels.h - every kernel of one instruction set and one dtype.
 * SPDX-License-Identifier: MIT
 *
 * Parameters, defined by the including isa_*.c:
 *   FN_ISA   suffix of the functions: portable, avx2, ...
 *   FN_T     prefix of the words of the dtype: f32 or f64
 *   FN_BUNDLE  fn_kernels.bundle
 *   FN_HALVES  1 where runs may be of 16-bit elements, else 0
 *   FN_IN_STEP 1 where two chains of sums at a time are quicker than one after the
 *              other, else 0 (in eight registers each they hardly fit)
 *   FN_ROWS    how many rows of a table the application and the gradient take in step:
 *              4, or 1 where there are too few registers for parameters to stay in
 *              them, and rows one after another are what the processor asks ahead for
 *              (sums of products then go row by row too)
 *   FN_PEELS   1 where the first elements of a row are worth a partial vec of their own
 *              for the stores after it to begin on lines, else 0
 *   FN_ACTIVATES 1 where activate_runs gains something, else 0
 *   FN_PIPELINES 1 where norm_runs does without a mean, 2 where it does with one (and
 *              then a bias, so that two runs in step, which share what is loaded of
 *              that and of the weight, are what it has to gain against), else 0
 *   FN_STREAMS  1 where a line that is streamed need not be read before; 2 where that
 *              pays also for elements that are narrowed on the way. (avx2: int8 of
 *              [2048, 4096] stored, a row at a time, takes 3.9 ms; streamed 4.1, and
 *              two rows at a time 6.0. AMD EPYC Zen 3.)
 * The words of simd/ must be in scope. V(word) is that word of the dtype; a wide is a
 * vec of 16 doubles whatever the dtype, for the few numbers there are per row. */

#if FN_T_IS_FLOAT
#include "wide.h"
#if FN_PIPELINES
#include "one.h"
#endif
#define FN_T    f32
#define T       float
#define FN_HALF 16
#define FN_BITS uint32_t
#else
#define FN_T    f64
#define T       double
#define FN_HALF 8
#define FN_BITS uint64_t
#endif
#define FN_VEC               (2 * FN_HALF)
#define FN_WORD_OF_(t, word) t##_##word
#define FN_WORD_OF(t, word)  FN_WORD_OF_(t, word)
#define V(word)              FN_WORD_OF(FN_T, word)
#define FN_KERNEL(name)      FN_CAT(name, FN_T, FN_ISA)
typedef V(vec) FN_KERNEL(vec_type);
#define vec FN_KERNEL(vec_type)

#include "fetch.h"

#include "moments.h"

#include "shift.h"

#include "moments_columns.h"

#include "finish.h"

#include "apply.h"

#if FN_PIPELINES
#include "norm_runs.h"
#endif

#include "apply_columns.h"

#include "products.h"

#include "products_tables.h"

#include "gradients.h"

#include "products_rows.h"

#include "channels.h"

#include "activation.h"

#include "elements.h"

#include "extremes.h"

#include "results.h"

#include "masks.h"

#include "image.h"

/* The table, from the list: a kernel that is listed but not written does not compile.
 * */
static const fn_kernels FN_KERNEL(table) = {
#define X(name) .name = FN_KERNEL(name),
    FN_KERNEL_LIST(X)
#if FN_T_IS_FLOAT
        FN_FLOAT_KERNEL_LIST(X)
#endif
#if FN_T_IS_FLOAT && FN_ACTIVATES
            X(activate_runs)
#endif
#if FN_PIPELINES
                X(norm_runs)
#endif
#undef X
                    .halves = FN_T_IS_FLOAT && FN_HALVES,
    .norms_centered = FN_PIPELINES > 1,
    .bundle = FN_BUNDLE,
};

#undef vec
#undef FN_T
#undef T
#undef FN_HALF
#undef FN_BITS
#undef FN_VEC
#undef V
#undef FN_WORD_OF
#undef FN_WORD_OF_
#undef FN_KERNEL
#undef FN_RUN_DTYPES
