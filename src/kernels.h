/* kernels.h - the list of kernels: what every instruction set provides per dtype.
 * SPDX-License-Identifier: MIT
 *
 * Kernels know no operation: they reduce and apply. The operations (layer_norm.c, ...)
 * are plain C that cuts the work, calls these through a table, and deals with the rare
 * rows that need more than one pass. Every kernel exists for float and double; arrays
 * of the dtype are passed as void so that the operations are written once.
 */
#ifndef FN_KERNELS_H
#define FN_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

#include "compiler.h"

/* A reduction may be asked for at most this many runs at a time, and every array that
 * is indexed by run or by column has room for a multiple of FN_PAD entries: kernels may
 * read and write the padding (never that of a caller's array). */
#define FN_GROUP 32
#define FN_PAD   32

/* Runs: `rows` of them, run r made of `segs` segments of `len` contiguous elements,
 * segment s at x + r * row_stride + s * seg_stride (strides in elements). A row of
 * layer norm is one segment, a channel of [N, C, S] is N of them. */
typedef struct fn_runs {
  const void *x;
  size_t rows;
  ptrdiff_t row_stride;
  size_t segs;
  ptrdiff_t seg_stride;
  size_t len;
} fn_runs;

/* A table: `rows` rows of `cols` contiguous elements each. For statistics, `fold` rows
 * may be taken as one: 1, or what fn_column_fold() says of the whole table. */
typedef struct fn_table {
  const void *x;
  size_t rows;
  ptrdiff_t stride;
  size_t cols;
  size_t fold;
} fn_table;

/* shift_runs: shift[r] = mean of a sample of run r, a number near its mean. */
typedef void fn_shift_runs_kernel(const fn_runs *g, void *shift);

/* moments_runs: sum[r] = sum of (x - shift[r]), sq[r] = sum of (x - shift[r])^2 over
 * run r. Without shift (NULL) only sq, of x itself. */
typedef void fn_moments_runs_kernel(const fn_runs *g, const void *shift, double *sum,
                                    double *sq);

/* moments_columns: adds to sum[c] and sq[c] those of column c; shift as above. At most
 * FN_COLUMN_CHUNK rows per call keep the error independent of the number of rows. */
typedef void fn_moments_columns_kernel(const fn_table *t, const void *shift,
                                       double *sum, double *sq);

/* finish: from the sums of n runs or columns of `count` elements to mean = hi + lo and
 * biased variance. False if some of the n may be inaccurate: shift too far from the
 * mean, or squares too large or too small for the dtype (see fn_finish_one). */
typedef bool fn_finish_kernel(size_t n, double count, double eps, const double *sum,
                              const double *sq, const void *shift, void *hi, void *lo,
                              double *var);

/* affine: rstd = 1 / sqrt(var + eps), scale = weight * rstd, offset = bias - lo *
 * scale; weight, bias, lo and rstd may be NULL (mean, weight and bias are a caller's:
 * no padding). False if a scale, or a mean if given, leaves the range where the dtype
 * is accurate. */
typedef bool fn_affine_kernel(size_t n, const double *var, double eps, const void *mean,
                              const void *lo, const void *weight, const void *bias,
                              void *rstd, void *scale, void *offset);

/* apply_runs: t = (x - hi[r]) * scale[r] + offset[r], then y = t * weight[i] + bias[i]
 * along the segment, each optional. With hi == NULL t = x * scale[r] (no offset, and
 * then no bias). y has the shape of x and strides of its own; it may be x. With
 * `stream` y is written past the caches where it can be. */
typedef void fn_apply_runs_kernel(const fn_runs *g, void *y, ptrdiff_t y_row_stride,
                                  ptrdiff_t y_seg_stride, const void *hi,
                                  const void *scale, const void *offset,
                                  const void *weight, const void *bias, bool stream);

/* apply_columns: the same across a row: hi, scale, offset per column; weight and bias,
 * each optional, per row. */
typedef void fn_apply_columns_kernel(const fn_table *t, void *y, ptrdiff_t y_stride,
                                     const void *hi, const void *scale,
                                     const void *offset, const void *weight,
                                     const void *bias, bool stream);

/* The list: a line here is a member of the table below and a function of this name in
 * template/, which each isa_*.c instantiates. A line without its function does not
 * link. */
#define FN_KERNEL_LIST(X)                                                              \
  X(shift_runs)                                                                        \
  X(moments_runs)                                                                      \
  X(moments_columns)                                                                   \
  X(finish)                                                                            \
  X(affine)                                                                            \
  X(apply_runs)                                                                        \
  X(apply_columns)

typedef struct fn_kernels {
#define X(name) fn_##name##_kernel *name;
  FN_KERNEL_LIST(X)
#undef X
} fn_kernels;

/* One instruction set: both dtypes, indexed by fastnorm_dtype. */
typedef struct fn_isa {
  const char *name;
  const fn_kernels *dtype[2];
} fn_isa;

extern const fn_isa fn_isa_portable, fn_isa_avx2, fn_isa_avx512, fn_isa_neon;

#define FN_COLUMN_CHUNK 1024

/* Outputs of at least this many bytes are streamed: neither they nor the input will
 * stay in the last-level cache, and a streamed line need not be read before it is
 * written. Measured with 32 MiB of it (AMD EPYC, Zen 5): no difference at 8 MiB, layer
 * norm 1.7 x faster at 16 MiB (2048 x 2048) and 1.4 x at 32 MiB. Not in place: then the
 * lines of y are in the cache, as x. */
#define FN_STREAM_BYTES 12582912

#endif
