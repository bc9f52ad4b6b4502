/* template/apply_columns.h - the application across the rows of a table: see apply.h.
 * SPDX-License-Identifier: MIT */

/* Rows that begin up to so far apart ask for those of the next bundle: lines of 8
 * places are more than the processor foresees. [6272, 256]: 180 -> 165 us from caches
 * and 590 -> 500 from memory; [25088, 64]: 163 -> 155 and 540 -> 475 (AMD EPYC Zen 5,
 * avx512). In longer ones it has time to, and lines a page apart push each other out of
 * a first-level cache: [49, 2048] asks 24.3 us, 14.6 if it does not, [784, 2048] 366
 * and 265; from memory there is no difference (AMD EPYC Zen 4, avx512). What a call
 * gets of long rows are some of their columns, so it is not how many these are that
 * counts. */
#define ASKING_ROW 2048 /* bytes */

/* Some rows of a table in step: they share the loads of the parameters per column. */
typedef struct FN_KERNEL(bundle) {
  const T *x, *hi, *scale, *offset;
  T *y;
  ptrdiff_t x_apart, y_apart;
  vec w[FN_ROWS], c[FN_ROWS]; /* weight and bias of each row */
  const T *post_add;
  ptrdiff_t post_add_apart;
  vec least;
  bool asks;
} FN_KERNEL(bundle);
#define bundle FN_KERNEL(bundle)

/* n columns from i on: a vec of them, or fewer. */
FN_WORD void FN_KERNEL(bundle_vec)(const bundle *b, size_t i, size_t n, bool centered,
                                   int mode, int rows, bool stream, bool more) {
  /* Not the few at the ends, which share lines; and as norms of channels have it: layer
   * norm across rows has just read them, and others are 14 KB of instructions. */
  const bool asks = rows > 1 && n == FN_VEC && centered && mode == 0;
  const vec zero = V(splat)((T)0);
  const vec h = centered ? V(load)(b->hi + i) : zero;
  const vec o = centered ? V(load)(b->offset + i) : zero;
  const vec a = V(load)(b->scale + i);
  FN_UNROLL
  for (int k = 0; k < rows; k++) {
    const T *x = b->x + k * b->x_apart + i;
    T *y = b->y + k * b->y_apart + i;
    if (asks && b->asks) {
      FN_PREFETCH_VEC(x + rows * b->x_apart);
      if (!stream)
        FN_PREFETCH_VEC(y + rows * b->y_apart);
    }
    const vec v = FN_KERNEL(fetch)(FASTNORM_DEFAULT, x, 0, n);
    const vec w = FN_KERNEL(weigh)(FN_KERNEL(normalized)(v, h, a, o, centered), b->w[k],
                                   b->c[k], mode);
    const T *post_add =
        more && b->post_add ? b->post_add + k * b->post_add_apart + i : NULL;
    const vec t = FN_KERNEL(added)(w, post_add, n, b->least, more);
    FN_KERNEL(put)(FASTNORM_DEFAULT, y, 0, n, t, NULL, stream);
  }
}

FN_WORD void FN_KERNEL(apply_bundle)(const fn_table *t, size_t r, T *y,
                                     ptrdiff_t y_stride, const T *hi, const T *scale,
                                     const T *offset, const T *weight, const T *bias,
                                     const fn_addend *add, bool stream, bool centered,
                                     int mode, int rows, bool more) {
  const size_t cols = t->cols;
  bundle b = {.x = (const T *)t->x + (ptrdiff_t)r * t->stride,
              .y = y + (ptrdiff_t)r * y_stride,
              .x_apart = t->stride,
              .y_apart = y_stride,
              .hi = hi,
              .scale = scale,
              .offset = offset,
              .least = FN_KERNEL(least_of)(add),
              .asks = t->stride * (ptrdiff_t)sizeof(T) <= ASKING_ROW};
  if (more && add->post_add)
    b.post_add = (const T *)add->post_add + (ptrdiff_t)r * add->row_stride;
  if (more)
    b.post_add_apart = add->row_stride;
  FN_UNROLL
  for (int k = 0; k < rows; k++) {
    b.w[k] = V(splat)(weight ? weight[r + (size_t)k] : (T)1);
    b.c[k] = V(splat)(bias ? bias[r + (size_t)k] : -(T)0);
  }
  size_t i = FN_PEELS || stream ? FN_KERNEL(peel)(b.y, cols) : 0;
  if (i > 0)
    FN_KERNEL(bundle_vec)(&b, 0, i, centered, mode, rows, false, more);
  if (stream && (uintptr_t)(b.y + i) % 64 == 0)
    for (; i + FN_VEC <= cols; i += FN_VEC) {
      FN_KERNEL(bundle_vec)(&b, i, FN_VEC, centered, mode, rows, true, more);
    }
  for (; i + FN_VEC <= cols; i += FN_VEC) {
    FN_KERNEL(bundle_vec)(&b, i, FN_VEC, centered, mode, rows, false, more);
  }
  if (i < cols)
    FN_KERNEL(bundle_vec)(&b, i, cols - i, centered, mode, rows, false, more);
}

FN_WORD void FN_KERNEL(apply_to_columns)(const fn_table *t, T *y, ptrdiff_t y_stride,
                                         const T *hi, const T *scale, const T *offset,
                                         const T *weight, const T *bias,
                                         const fn_addend *add, bool stream,
                                         bool centered, int mode, bool more) {
  const size_t rows = t->rows;
  size_t r = 0;
#if FN_ROWS > 1
  if (y_stride * (ptrdiff_t)sizeof(T) % 64 == 0) /* else their lines begin apart */
    for (; r + FN_ROWS <= rows; r += FN_ROWS) {
      FN_KERNEL(apply_bundle)
      (t, r, y, y_stride, hi, scale, offset, weight, bias, add, stream, centered, mode,
       FN_ROWS, more);
    }
#endif
  for (; r < rows; r++) {
    FN_KERNEL(apply_bundle)
    (t, r, y, y_stride, hi, scale, offset, weight, bias, add, stream, centered, mode, 1,
     more);
  }
  if (stream)
    stream_end();
}

static void FN_KERNEL(apply_columns)(const fn_table *t, void *y, ptrdiff_t y_stride,
                                     const void *hi, const void *scale,
                                     const void *offset, const void *weight,
                                     const void *bias, bool stream) {
#define CASE(centered, mode)                                                           \
  FN_KERNEL(apply_to_columns)                                                          \
  (t, y, y_stride, hi, scale, offset, weight, bias, NULL, stream, centered, mode, false)
  FN_KERNEL_MODES
#undef CASE
}

static void FN_KERNEL(apply_add_columns)(const fn_table *t, void *y, ptrdiff_t y_stride,
                                         const void *hi, const void *scale,
                                         const void *offset, const fn_addend *add,
                                         bool stream) {
  FN_KERNEL(apply_to_columns)
  (t, y, y_stride, hi, scale, offset, NULL, NULL, add, stream, true, 0, true);
}
#undef FN_KERNEL_MODES
#undef bundle
