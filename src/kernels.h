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
#include <stdint.h>

#include "compiler.h"
#include "fastnorm.h"
#include "kernels_backward.h"

/* A reduction may be asked for at most this many runs at a time, and every array that
 * is indexed by run or by column has room for a multiple of FN_PAD entries: kernels may
 * read and write the padding (never that of a caller's array). Many, as memory is idle
 * between two groups. With 32, 64, 128 and 256: batch norm inference of [32, 256, 196]
 * 175, 160, 150, 141 us; layer norm of [65536, 64] 1155, 1081, 1005, 1012 (AMD EPYC
 * Zen 5, avx512). */
#define FN_GROUP 256
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
  /* Of x, and of the y of an application: 0 for the working type, or FLOAT16 or
   * BFLOAT16 where that is float. */
  fastnorm_dtype dtype;
  /* What follows is not for the kernels: where x is something else, source says how to
   * read it, and run 0 is row `row` of the call from element `at` on (see stage.h). */
  const struct fn_source *source;
  size_t row, at;
  /* Not for statistics: NULL, or runs of the same strides that will be read next, for
   * which there is time to ask while results are streamed. */
  const void *ahead;
  /* Whether x comes from memory, so that the sums ask for it well ahead. */
  bool far;
  /* For moments_runs without a shift: sums of |x| in place of those of x^2, and then
   * of the working type only. */
  bool magnitudes;
  /* For apply_runs, x of float as working type: NULL, or how y's bytes are quantised,
   * without more than scale and zero point. Then it needs a weight and bias as for
   * 16-bit elements, and runs of a segment each. */
  const struct fn_scatter *bytes;
  const float *inverse_scales; /* NULL, or for each run in place of that of bytes */
} fn_runs;

/* A table: `rows` rows of `cols` contiguous elements each. For statistics, `fold` rows
 * may be taken as one: 1, or what fn_column_fold() says of the whole table. */
typedef struct fn_table {
  const void *x;
  size_t rows;
  ptrdiff_t stride;
  size_t cols;
  size_t fold;
  const struct fn_source *source; /* as in fn_runs */
  size_t at;                      /* row 0 is row `at` of what source reads */
  /* For moments_columns, with a shift, where the working type is double: x is float. */
  bool narrow;
  bool magnitudes; /* as in fn_runs */
} fn_table;

/* What moments are sums of. */
typedef enum fn_terms {
  FN_DEVIATIONS, /* from a shift, and their squares */
  FN_SQUARES,
  FN_MAGNITUDES
} fn_terms;

/* Up to four pieces of a run, of at most a vec each, `all` elements together. */
typedef struct fn_samples {
  size_t count, all, n[4];
  ptrdiff_t at[4];
} fn_samples;

/* shift_runs: shift[r] = mean of the samples of run r, a number near its mean. */
typedef void fn_shift_runs_kernel(const fn_runs *g, const fn_samples *s, void *shift);

/* moments_runs: sum[r] = sum of (x - shift[r]), sq[r] = sum of (x - shift[r])^2 over
 * run r. Without shift (NULL) only sq, of x itself: of x^2, or of |x|. */
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
 * `stream` y is written past the caches where it can be. Runs of 16-bit elements (see
 * fn_runs.dtype) need a weight, and with hi a bias. */
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

/* What follows at once, of the working type: y = t + post_add (unless NULL), or 0 if
 * that is negative (relu). Of a table row_stride alone counts. */
typedef struct fn_addend {
  const void *post_add;
  ptrdiff_t row_stride, seg_stride;
  bool relu;
} fn_addend;

/* apply_add_runs, apply_add_columns: with hi, of the working type; neither weight nor
 * bias. */
typedef void fn_apply_add_runs_kernel(const fn_runs *g, void *y, ptrdiff_t y_row_stride,
                                      ptrdiff_t y_seg_stride, const void *hi,
                                      const void *scale, const void *offset,
                                      const fn_addend *add, bool stream);
typedef void fn_apply_add_columns_kernel(const fn_table *t, void *y, ptrdiff_t y_stride,
                                         const void *hi, const void *scale,
                                         const void *offset, const fn_addend *add,
                                         bool stream);

/* Elements of other types than the working one, or with something added, on their way
 * in. All arrays are contiguous; what is NULL takes no part. */
typedef struct fn_gather {
  /* of x. Where the working type is double: FLOAT64, or a narrower float if nothing is
   * added */
  fastnorm_dtype dtype;
  float scale; /* 8-bit: x = (element - zero_point) * scale */
  int zero_point;
  const void *residual;      /* of residual_dtype, as residual_out */
  const void *residual_bias; /* of bias_dtype */
  fastnorm_dtype residual_dtype, bias_dtype;
  void *residual_out; /* receives the sum, rounded; may be residual */
} fn_gather;

/* What is added: nothing, a residual of x's type alone, or any of it. */
typedef enum fn_gather_sum { FN_NO_SUM, FN_PLAIN_SUM, FN_ANY_SUM } fn_gather_sum;

/* gather: out[i] = x[i] + residual[i] + residual_bias[i], i < n, in the working type.
 * out may be x where that has the working type. */
typedef void fn_gather_kernel(const fn_gather *g, const void *x, size_t n, void *out);

/* And on their way out. */
typedef struct fn_scatter {
  fastnorm_dtype dtype; /* of y */
  float inverse_scale;  /* 8-bit: element = round(v * inverse_scale) + zero_point */
  int zero_point;
  fastnorm_activation activation;
  double alpha, beta;
  fastnorm_dtype post_add_dtype;
  const void *post_add;
  /* What will be read next, of this element size, or NULL: it is asked for meanwhile,
   * as far as y goes. */
  const void *ahead;
  size_t ahead_element;
} fn_scatter;

/* scatter: y[i] = activation(v[i] + post_add[i]), rounded or quantised, i < n. y may be
 * v where it has the working type. With `stream` y is written past the caches where it
 * can be. */
typedef void fn_scatter_kernel(const fn_scatter *s, const void *v, size_t n, void *y,
                               bool stream);

/* largest: the largest magnitude of v[i], i < n; NaN if there is one. */
typedef double fn_largest_kernel(const void *v, size_t n);

/* largest_runs: that of what apply_runs would make of run r of one segment, for each
 * run. There are a weight and a bias; hi may be NULL, without offset. Float alone. */
typedef void fn_largest_runs_kernel(const fn_runs *g, const void *hi, const void *scale,
                                    const void *offset, const void *weight,
                                    const void *bias, double *largest);

/* extremes_runs: low[r] and high[r] become the smallest and the largest of themselves
 * and the elements of run r. NaN takes no part. extremes_columns: the same of the
 * columns of a table. Both arrays are of the working type; those of columns have
 * padding. */
typedef void fn_extremes_runs_kernel(const fn_runs *g, void *low, void *high);
typedef void fn_extremes_columns_kernel(const fn_table *t, void *low, void *high);

/* Sums of pairs of bits, of fours, of bytes; then a product adds these up. (Compilers
 * know it, where there is an instruction.) */
static inline size_t fn_count_bits(uint64_t v) {
  v -= v >> 1 & UINT64_C(0x5555555555555555);
  v = (v & UINT64_C(0x3333333333333333)) + (v >> 2 & UINT64_C(0x3333333333333333));
  v = (v + (v >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
  return (size_t)(v * UINT64_C(0x0101010101010101) >> 56);
}

/* count: how many of n bytes are not 0. marks: which of at most 64: bit i is that of
 * byte i. */
typedef size_t fn_count_kernel(const unsigned char *bytes, size_t n);
typedef uint64_t fn_marks_kernel(const unsigned char *bytes, size_t n);

/* pack: those of n elements, at most 64, whose bit is set go to out, side by side; how
 * many they are. No bit from n on is set; out has room for n, rounded up to a vec. */
typedef size_t fn_pack_kernel(const void *v, size_t n, uint64_t bits, void *out);

/* clear: n elements, at most 64, go from v to y, or 0 where the bit is not set. */
typedef void fn_clear_kernel(const void *v, size_t n, uint64_t bits, void *y);

/* present_columns: each NaN of column c becomes shift[c], in place; how many elements
 * were none is added to count[c]. Both arrays have padding; at most 2^24 rows. */
typedef void fn_present_columns_kernel(const fn_table *t, const void *shift,
                                       double *count);

/* Pixels of interleaved channels, and what becomes of them: (x * scale - mean) / std.
 * With `planes` channel k of pixel i goes to y[k * plane + i], else to y[i * channels +
 * k]; with `reverse` the channels of x come from its end. minus_mean and inverse_std
 * are those of the channels of y, over and over. */
#define FN_IMAGE_CHANNELS 16
typedef struct fn_image {
  fastnorm_dtype x, y; /* FLOAT64 both or neither */
  size_t channels;     /* at most FN_IMAGE_CHANNELS */
  bool planes, reverse;
  ptrdiff_t plane;
  double scale;
  double minus_mean[FN_IMAGE_CHANNELS + 32], inverse_std[FN_IMAGE_CHANNELS + 32];
} fn_image;

/* image: n pixels, side by side. y may be x where it has its type and no planes. With
 * `stream` y is written past the caches where it can be. */
typedef void fn_image_kernel(const fn_image *im, const void *x, size_t n, void *y,
                             bool stream);

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
  X(apply_columns)                                                                     \
  X(apply_add_runs)                                                                    \
  X(apply_add_columns)                                                                 \
  X(gather)                                                                            \
  X(scatter)                                                                           \
  X(largest)                                                                           \
  X(count)                                                                             \
  X(marks)                                                                             \
  X(pack)                                                                              \
  X(clear)                                                                             \
  X(extremes_runs)                                                                     \
  X(extremes_columns)                                                                  \
  X(present_columns)                                                                   \
  X(products_runs)                                                                     \
  X(products_columns)                                                                  \
  X(products_rows)                                                                     \
  X(gradient_rows)                                                                     \
  X(factors)                                                                           \
  X(gradient_runs)                                                                     \
  X(gradient_columns)                                                                  \
  X(channel_terms)                                                                     \
  X(channel_factors)                                                                   \
  X(image)

/* Those that the table of double does not have: NULL there. */
#define FN_FLOAT_KERNEL_LIST(X) X(largest_runs)

/* activate_runs: y = activation of what apply_runs would make of runs of one segment,
 * for those named below, which leave no other parameters open; weight, hi and bias as
 * for largest_runs. NULL where it is no quicker than to take two steps. */
typedef void fn_activate_runs_kernel(const fn_runs *g, void *y, ptrdiff_t y_row_stride,
                                     const void *hi, const void *scale,
                                     const void *offset, const void *weight,
                                     const void *bias, fastnorm_activation activation);
#define FN_ACTIVATED(X) X(RELU) X(GELU) X(GELU_TANH) X(SILU)

/* norm_runs: each of g, of one segment and of the working type, through its statistics
 * to y, so that one's second pass comes beside the next one's first: what shift_runs,
 * moments_runs, finish, affine and apply_runs make of it, to the bit. How many were
 * done is returned: it ends before one of which finish or affine would be false. NULL
 * where nothing is gained, and norms_centered says whether there may be a hi. */
typedef struct fn_norm {
  const fn_samples *samples; /* four whole vecs, also if there is no hi */
  double eps;
  void *y; /* may be x */
  ptrdiff_t y_row_stride;
  void *hi, *scale, *offset; /* become those of apply_runs; without hi no offset, */
  const void *weight, *bias; /* and then no bias, else both */
} fn_norm;
typedef size_t fn_norm_runs_kernel(const fn_runs *g, const fn_norm *n);

/* How much of x two passes go over before the next: see fn_bundle_bytes(). */
typedef enum fn_bundle {
  FN_IN_FIRST_LEVEL, /* what the first-level cache keeps, with as much of y */
  FN_IN_SECOND_LEVEL,
  FN_BY_FIRST_LEVEL, /* either, by how large that cache is */
} fn_bundle;

typedef struct fn_kernels {
#define X(name) fn_##name##_kernel *name;
  FN_KERNEL_LIST(X)
  FN_FLOAT_KERNEL_LIST(X)
#undef X
  fn_activate_runs_kernel *activate_runs;
  fn_norm_runs_kernel *norm_runs;
  bool norms_centered;
  bool halves; /* whether runs may be of 16-bit elements: fn_runs.dtype */
  fn_bundle bundle;
} fn_kernels;

/* One instruction set: for the working types float and double. */
typedef struct fn_isa {
  const char *name;
  const fn_kernels *working[2];
} fn_isa;

extern const fn_isa fn_isa_portable;
#if defined(FN_X86)
extern const fn_isa fn_isa_avx2, fn_isa_avx512;
#elif defined(FN_NEON)
extern const fn_isa fn_isa_neon;
#endif

#define FN_COLUMN_CHUNK 1024

/* Outputs of at least this many bytes are streamed: neither they nor the input will
 * stay in the last-level cache, and a streamed line need not be read before it is
 * written. Measured with 32 MiB of it that others use too (AMD EPYC Zen 5), between a
 * step that writes x and one that reads y, in us, the three together: layer norm of
 * [2048, 1024], 8 MiB, 970 -> 830, of [2600, 1024] 1560 -> 1200, batch norm of 9.6 MB
 * no difference beyond the noise; group norm of 6.4 MB 486 -> 582. Layer norm called
 * again and again, with nothing in between: 8 MiB 300 -> 350, 10 MiB 590 -> 455. Not in
 * place: then the lines of y are in the cache, as x. */
#define FN_STREAM_BYTES 8388608

#endif
