/* template/apply.h - the two applications: along runs and across the rows of a table.
 * SPDX-License-Identifier: MIT
 *
 * t = fma(x - hi, scale, offset) with offset = -lo * scale (+ bias): the same three
 * terms as ((x - hi) - lo) * scale + bias, with one rounding less. x - hi is exact or
 * rounded relative to itself, so a large mean costs nothing; x * a + b would cancel. */

typedef enum { /* which of the optional factors are there: known at compile time below */
  FN_KERNEL(plain) = 0,
  FN_KERNEL(weighted) = 1,
  FN_KERNEL(biased) = 2
} FN_KERNEL(mode);

FN_WORD vec FN_KERNEL(normalized)(vec x, vec hi, vec scale, vec offset, bool centered) {
  if (!centered) return V(mul)(x, scale);
  return V(fma)(V(sub)(x, hi), scale, offset);
}

FN_WORD vec FN_KERNEL(weigh)(vec t, vec weight, vec bias, int mode) {
  switch (mode) {
    case 1: return V(mul)(t, weight);
    case 2: return V(add)(t, bias);
    case 3: return V(fma)(t, weight, bias);
    default: return t;
  }
}

FN_WORD void FN_KERNEL(apply_to_runs)(const fn_runs *g, T *y, ptrdiff_t y_row_stride,
                                      ptrdiff_t y_seg_stride, const T *hi,
                                      const T *scale, const T *offset, const T *weight,
                                      const T *bias, bool centered, int mode) {
  const vec zero = V(splat)((T)0);
  for (size_t r = 0; r < g->rows; r++) {
    const vec a = V(splat)(scale[r]);
    const vec h = centered ? V(splat)(hi[r]) : zero;
    const vec b = centered ? V(splat)(offset[r]) : zero;
    for (size_t seg = 0; seg < g->segs; seg++) {
      const T *x = (const T *)g->x + (ptrdiff_t)r * g->row_stride +
                   (ptrdiff_t)seg * g->seg_stride;
      T *out = y + (ptrdiff_t)r * y_row_stride + (ptrdiff_t)seg * y_seg_stride;
      size_t i = 0;
      for (; i + FN_VEC <= g->len; i += FN_VEC) {
        const vec w = mode & 1 ? V(load)(weight + i) : zero;
        const vec c = mode & 2 ? V(load)(bias + i) : zero;
        const vec t = FN_KERNEL(normalized)(V(load)(x + i), h, a, b, centered);
        V(store)(out + i, FN_KERNEL(weigh)(t, w, c, mode));
      }
      if (i < g->len) {
        const size_t n = g->len - i;
        const vec w = mode & 1 ? V(load_partial_or)(weight + i, n, zero) : zero;
        const vec c = mode & 2 ? V(load_partial_or)(bias + i, n, zero) : zero;
        const vec v = V(load_partial_or)(x + i, n, h);
        const vec t = FN_KERNEL(normalized)(v, h, a, b, centered);
        V(store_partial)(out + i, n, FN_KERNEL(weigh)(t, w, c, mode));
      }
    }
  }
}

static void FN_KERNEL(apply_runs)(const fn_runs *g, void *y, ptrdiff_t y_row_stride,
                                  ptrdiff_t y_seg_stride, const void *hi,
                                  const void *scale, const void *offset,
                                  const void *weight, const void *bias) {
#define CASE(centered, mode)                                                         \
  FN_KERNEL(apply_to_runs)(g, y, y_row_stride, y_seg_stride, hi, scale, offset, weight, \
                           bias, centered, mode)
  if (!hi) {
    if (weight)
      CASE(false, 1);
    else
      CASE(false, 0);
  } else if (weight && bias) {
    CASE(true, 3);
  } else if (weight) {
    CASE(true, 1);
  } else if (bias) {
    CASE(true, 2);
  } else {
    CASE(true, 0);
  }
#undef CASE
}

FN_WORD void FN_KERNEL(apply_to_columns)(const fn_table *t, T *y, ptrdiff_t y_stride,
                                         const T *hi, const T *scale, const T *offset,
                                         const T *weight, const T *bias, bool centered,
                                         int mode) {
  const vec zero = V(splat)((T)0);
  for (size_t r = 0; r < t->rows; r++) {
    const T *x = (const T *)t->x + (ptrdiff_t)r * t->stride;
    T *out = y + (ptrdiff_t)r * y_stride;
    const vec w = mode & 1 ? V(splat)(weight[r]) : zero;
    const vec c = mode & 2 ? V(splat)(bias[r]) : zero;
    for (size_t i = 0; i < t->cols; i += FN_VEC) {
      const size_t n = t->cols - i;
      const vec h = centered ? V(load)(hi + i) : zero;
      const vec b = centered ? V(load)(offset + i) : zero;
      const vec a = V(load)(scale + i);
      const vec v = n >= FN_VEC ? V(load)(x + i) : V(load_partial_or)(x + i, n, h);
      const vec u = FN_KERNEL(weigh)(FN_KERNEL(normalized)(v, h, a, b, centered), w, c,
                                     mode);
      if (n >= FN_VEC)
        V(store)(out + i, u);
      else
        V(store_partial)(out + i, n, u);
    }
  }
}

static void FN_KERNEL(apply_columns)(const fn_table *t, void *y, ptrdiff_t y_stride,
                                     const void *hi, const void *scale,
                                     const void *offset, const void *weight,
                                     const void *bias) {
#define CASE(centered, mode)                                                           \
  FN_KERNEL(apply_to_columns)(t, y, y_stride, hi, scale, offset, weight, bias, centered, \
                              mode)
  if (!hi) {
    if (weight)
      CASE(false, 1);
    else
      CASE(false, 0);
  } else if (weight && bias) {
    CASE(true, 3);
  } else if (weight) {
    CASE(true, 1);
  } else if (bias) {
    CASE(true, 2);
  } else {
    CASE(true, 0);
  }
#undef CASE
}
