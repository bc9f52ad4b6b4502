/* template/apply.h - the application along runs; to those that lie one after another in
 * apply_adjacent.h, across the rows of a table in apply_columns.h.
 * SPDX-License-Identifier: MIT
 *
 * t = fma(x - hi, scale, offset) with offset = -lo * scale (+ bias): the same three
 * terms as ((x - hi) - lo) * scale + bias, with one rounding less. x - hi is exact or
 * rounded relative to itself, so a large mean costs nothing; x * a + b would cancel. */

/* Which of the optional factors are there is known at compile time in each instance:
 * mode is 1 for a weight plus 2 for a bias. Beside hi there are both or neither: ones
 * and -0 in place of a missing one change no bit, and half the instances do. */
#define FN_KERNEL_MODES                                                                \
  if (!hi && !weight) {                                                                \
    CASE(false, 0);                                                                    \
  } else if (!hi) {                                                                    \
    CASE(false, 1);                                                                    \
  } else if (!weight && !bias) {                                                       \
    CASE(true, 0);                                                                     \
  } else {                                                                             \
    CASE(true, 3);                                                                     \
  }

FN_WORD vec FN_KERNEL(normalized)(vec x, vec hi, vec scale, vec offset, bool centered) {
  if (!centered)
    return V(mul)(x, scale);
  return V(fma)(V(sub)(x, hi), scale, offset);
}

FN_WORD vec FN_KERNEL(weigh)(vec t, vec weight, vec bias, int mode) {
  switch (mode) {
  case 1:
    return V(mul)(t, weight);
  case 3:
    return V(fma)(t, weight, bias);
  default:
    return t;
  }
}

/* Element i of one run, or of two in step (which then share the weight and bias). */
typedef struct FN_KERNEL(lines) {
  const void *x, *ahead;
  void *y;
  ptrdiff_t x_apart, y_apart;
  vec hi[2], scale[2], offset[2];
  const T *weight, *bias;
  const fn_scatter *bytes; /* how y of FASTNORM_UINT8 is quantised, */
  vec inverse_scale[2];    /* and by what each run */
} FN_KERNEL(lines);
#define lines FN_KERNEL(lines)

/* Lines of y that cannot be streamed come from memory before they are written: so many
 * bytes ahead they are asked for. ([65536, 64], 16 bytes off a line: layer norm 1250 us
 * without, 1050 with; half as far ahead gains half as much. AMD EPYC Zen 5, avx512.) */
#define FN_ASK 8192

FN_WORD vec FN_KERNEL(inverse_scale_of)(const fn_runs *g, size_t r) {
  return V(splat)(
      (T)(g->inverse_scales ? g->inverse_scales[r] : g->bytes->inverse_scale));
}

FN_WORD quantizer FN_KERNEL(with_scale)(const quantizer *q, vec inverse_scale) {
  quantizer own = *q;
  own.scale = inverse_scale;
  return own;
}

/* The types of x and y are `dtype` and `to`, both known at compile time. */
FN_WORD void FN_KERNEL(apply_vec)(const lines *l, const quantizer *q, size_t i,
                                  bool centered, int mode, int runs,
                                  fastnorm_dtype dtype, fastnorm_dtype to, bool stream,
                                  bool asks) {
  const vec zero = V(splat)((T)0);
  const vec w = mode & 1 ? V(load)(l->weight + i) : zero;
  const vec c = mode & 2 ? V(load)(l->bias + i) : zero;
  FN_UNROLL
  for (int k = 0; k < runs; k++) {
    const void *x = FN_KERNEL(element)(dtype, l->x, k * l->x_apart);
    void *y = (void *)FN_KERNEL(element)(to, l->y, k * l->y_apart);
    const vec t = FN_KERNEL(normalized)(FN_KERNEL(fetch)(dtype, x, i, FN_VEC), l->hi[k],
                                        l->scale[k], l->offset[k], centered);
    if (asks)
      FN_PREFETCH_VEC((const char *)y + i * FN_KERNEL(element_bytes)(to) + FN_ASK);
    if ((stream || to == FASTNORM_UINT8) && l->ahead)
      FN_PREFETCH_VEC(
          FN_KERNEL(element)(dtype, l->ahead, k * l->x_apart + (ptrdiff_t)i));
    const quantizer own = FN_KERNEL(with_scale)(q, l->inverse_scale[k]);
    FN_KERNEL(put)
    (to, y, i, FN_VEC, FN_KERNEL(weigh)(t, w, c, mode), &own, stream);
  }
}

FN_WORD void FN_KERNEL(apply_some)(const lines *l, const quantizer *q, size_t i,
                                   size_t n, bool centered, int mode, int runs,
                                   fastnorm_dtype dtype, fastnorm_dtype to) {
  const vec zero = V(splat)((T)0);
  const vec w = mode & 1 ? V(load_partial_or)(l->weight + i, n, zero) : zero;
  const vec c = mode & 2 ? V(load_partial_or)(l->bias + i, n, zero) : zero;
  FN_UNROLL
  for (int k = 0; k < runs; k++) {
    const void *x = FN_KERNEL(element)(dtype, l->x, k * l->x_apart);
    void *y = (void *)FN_KERNEL(element)(to, l->y, k * l->y_apart);
    const vec v = FN_KERNEL(fetch_or)(dtype, x, i, n, l->hi[k]);
    const vec t =
        FN_KERNEL(normalized)(v, l->hi[k], l->scale[k], l->offset[k], centered);
    const quantizer own = FN_KERNEL(with_scale)(q, l->inverse_scale[k]);
    FN_KERNEL(put)
    (to, y, i, n, FN_KERNEL(weigh)(t, w, c, mode), &own, false);
  }
}

/* Elements up to the first whose address is a multiple of a cache line, as loads and
 * stores that straddle two may cost twice, and only whole lines can be streamed. Which
 * elements share a vec does not matter to the result here. Short runs are not worth
 * it. */
FN_WORD size_t FN_KERNEL(peel_of)(fastnorm_dtype dtype, const void *y, size_t len) {
  const size_t size = FN_KERNEL(element_bytes)(dtype);
  const size_t off = (uintptr_t)y % 64 / size;
  return off == 0 || len < 4 * FN_VEC ? 0 : 64 / size - off;
}
FN_WORD size_t FN_KERNEL(peel)(const T *y, size_t len) {
  return FN_KERNEL(peel_of)(FASTNORM_DEFAULT, y, len);
}

FN_WORD void FN_KERNEL(apply_lines)(const lines *l, size_t len, bool centered, int mode,
                                    int runs, fastnorm_dtype dtype, fastnorm_dtype to,
                                    bool stream) {
  const lines copy = *l; /* in registers over the loop */
  const quantizer q = to == FASTNORM_UINT8 ? FN_KERNEL(quantizer_of)(l->bytes)
                                           : (quantizer){.ahead = NULL};
  size_t i = 0;
  if (to == FASTNORM_UINT8) {
    /* The first vec of y that is on a line of its own is streamed, and those after it;
     * the one before them, which is stored, overlaps it. */
    const bool streams = FN_STREAMS > 1 && stream;
    const size_t peel = streams ? -(uintptr_t)l->y % FN_VEC : 0;
    for (; i + FN_VEC <= len; i = i == 0 && peel > 0 ? peel : i + FN_VEC) {
      FN_KERNEL(apply_vec)
      (&copy, &q, i, centered, mode, runs, dtype, to, streams && i % FN_VEC == peel,
       false);
    }
  } else {
    i = FN_PEELS || stream ? FN_KERNEL(peel_of)(to, l->y, len) : 0;
    if (i > 0)
      FN_KERNEL(apply_some)(&copy, &q, 0, i, centered, mode, runs, dtype, to);
    if (stream && (uintptr_t)FN_KERNEL(element)(to, copy.y, (ptrdiff_t)i) % 64 == 0)
      for (; i + FN_VEC <= len; i += FN_VEC) {
        FN_KERNEL(apply_vec)
        (&copy, &q, i, centered, mode, runs, dtype, to, true, false);
      }
    for (; i + FN_VEC <= len; i += FN_VEC) {
      FN_KERNEL(apply_vec)
      (&copy, &q, i, centered, mode, runs, dtype, to, false, stream);
    }
  }
  if (i < len)
    FN_KERNEL(apply_some)(&copy, &q, i, len - i, centered, mode, runs, dtype, to);
}

/* What the runs share. */
typedef struct FN_KERNEL(run_parameters) {
  ptrdiff_t y_row_stride, y_seg_stride;
  const T *hi, *scale, *offset, *weight, *bias;
} FN_KERNEL(run_parameters);
#define run_parameters FN_KERNEL(run_parameters)

/* Run r, and with `runs` 2 also r + 1. */
FN_WORD void FN_KERNEL(apply_from_run)(const fn_runs *g, size_t r, void *y,
                                       const run_parameters *p, bool centered, int mode,
                                       int runs, fastnorm_dtype dtype,
                                       fastnorm_dtype to, bool stream) {
  const vec zero = V(splat)((T)0);
  const ptrdiff_t x_at = (ptrdiff_t)r * g->row_stride, y_stride = p->y_row_stride;
  const size_t segs = g->segs, len = g->len;
  const ptrdiff_t x_seg_stride = g->seg_stride, y_seg_stride = p->y_seg_stride;
  lines l = {.x_apart = g->row_stride,
             .y_apart = y_stride,
             .weight = p->weight,
             .bias = p->bias,
             .bytes = g->bytes};
  if (g->ahead)
    l.ahead = FN_KERNEL(element)(dtype, g->ahead, x_at);
  FN_UNROLL
  for (int k = 0; k < runs; k++) {
    l.scale[k] = V(splat)(p->scale[r + (size_t)k]);
    l.hi[k] = centered ? V(splat)(p->hi[r + (size_t)k]) : zero;
    l.offset[k] = centered ? V(splat)(p->offset[r + (size_t)k]) : zero;
    if (to == FASTNORM_UINT8)
      l.inverse_scale[k] = FN_KERNEL(inverse_scale_of)(g, r + (size_t)k);
  }
  l.x = FN_KERNEL(element)(dtype, g->x, x_at);
  l.y = (void *)FN_KERNEL(element)(to, y, (ptrdiff_t)r * y_stride);
  for (size_t seg = 0; seg < segs; seg++) {
    if (seg > 0) { /* the stride of a single segment may be any number */
      l.x = FN_KERNEL(element)(dtype, l.x, x_seg_stride);
      l.y = (void *)FN_KERNEL(element)(to, l.y, y_seg_stride);
    }
    if (to == FASTNORM_UINT8)
      FN_KERNEL(apply_lines)(&l, len, centered, mode, runs, dtype, to, stream);
    else if (stream)
      FN_KERNEL(apply_lines)(&l, len, centered, mode, runs, dtype, to, true);
    else
      FN_KERNEL(apply_lines)(&l, len, centered, mode, runs, dtype, to, false);
  }
}

FN_WORD void FN_KERNEL(apply_to_runs)(const fn_runs *g, void *y,
                                      const run_parameters *p, bool stream,
                                      bool centered, int mode, fastnorm_dtype dtype,
                                      fastnorm_dtype to) {
  const size_t rows = g->rows;
  const ptrdiff_t size = (ptrdiff_t)FN_KERNEL(element_bytes)(to);
  size_t r = 0;
  /* Two at a time where there is a weight or a bias to share, unless the lines of y
   * that are streamed would not begin together. To bytes and 16-bit elements only where
   * there are registers for it: FN_STREAMS. (Layer norm of bfloat16 [512, 1024] 259 us
   * two at a time, 236 one; AMD EPYC Zen 3, avx2.) */
  const bool fit = to == FASTNORM_DEFAULT || FN_STREAMS > 1;
  if (mode != 0 && fit && !(stream && p->y_row_stride * size % 64 != 0))
    for (; r + 2 <= rows; r += 2) {
      FN_KERNEL(apply_from_run)(g, r, y, p, centered, mode, 2, dtype, to, stream);
    }
  for (; r < rows; r++) {
    FN_KERNEL(apply_from_run)(g, r, y, p, centered, mode, 1, dtype, to, stream);
  }
  if (stream)
    stream_end();
}

#include "apply_adjacent.h"

static void FN_KERNEL(apply_add_runs)(const fn_runs *g, void *y, ptrdiff_t y_row_stride,
                                      ptrdiff_t y_seg_stride, const void *hi,
                                      const void *scale, const void *offset,
                                      const fn_addend *add, bool stream) {
  const ptrdiff_t len = (ptrdiff_t)g->len;
  const bool adjacent = g->row_stride == len && y_row_stride == len &&
                        (!add->post_add || add->row_stride == len) && g->len >= FN_VEC;
  const size_t step = adjacent ? g->rows : 1;
  for (size_t r = 0; r < g->rows; r += step) {
    fn_runs some = *g;
    fn_addend more = *add;
    some.x = (const T *)g->x + (ptrdiff_t)r * g->row_stride;
    some.rows = step;
    if (add->post_add)
      more.post_add = (const T *)add->post_add + (ptrdiff_t)r * add->row_stride;
    const run_parameters p = {y_row_stride,
                              y_seg_stride,
                              (const T *)hi + r,
                              (const T *)scale + r,
                              (const T *)offset + r,
                              NULL,
                              NULL};
    FN_KERNEL(apply_to_adjacent)
    (&some, (T *)y + (ptrdiff_t)r * y_row_stride, &p, &more, stream, true);
  }
}

/* Rows of half a vec: two in each. */
FN_WORD void FN_KERNEL(apply_to_tiny_runs)(const fn_runs *g, T *y,
                                           ptrdiff_t y_row_stride, const T *hi,
                                           const T *scale, const T *offset,
                                           const T *weight, const T *bias,
                                           bool centered, int mode) {
  const vec zero = V(splat)((T)0);
  const size_t n = g->len;
  const vec w = mode & 1 ? V(load2_or)(weight, weight, n, zero) : zero;
  const vec c = mode & 2 ? V(load2_or)(bias, bias, n, zero) : zero;
  for (size_t r = 0; r < g->rows; r += 2) { /* an odd last row is its own partner */
    const size_t p = r + 1 < g->rows ? r + 1 : r;
    const vec a = V(splat2)(scale[r], scale[p]);
    const vec h = centered ? V(splat2)(hi[r], hi[p]) : zero;
    const vec b = centered ? V(splat2)(offset[r], offset[p]) : zero;
    const vec v = V(load2_or)((const T *)g->x + (ptrdiff_t)r * g->row_stride,
                              (const T *)g->x + (ptrdiff_t)p * g->row_stride, n, h);
    const vec t = FN_KERNEL(normalized)(v, h, a, b, centered);
    V(store2)
    (y + (ptrdiff_t)r * y_row_stride, y + (ptrdiff_t)p * y_row_stride, n,
     FN_KERNEL(weigh)(t, w, c, mode));
  }
}

/* Runs of 16-bit elements, or to bytes: in fewer modes, as each is a loop more. A
 * caller without a weight or a bias gives ones or -0, which change no bit
 * (fn_apply_runs_kernel). */
#if FN_T_IS_FLOAT
FN_WORD void FN_KERNEL(apply_narrow)(const fn_runs *g, void *y, const run_parameters *p,
                                     bool stream, fastnorm_dtype dtype,
                                     fastnorm_dtype to) {
  if (FN_STREAMS > 1 && stream && FN_KERNEL(apply_off_lines)(g, y, p, dtype, to))
    return;
  if (p->hi)
    FN_KERNEL(apply_to_runs)(g, y, p, stream, true, 3, dtype, to);
  else
    FN_KERNEL(apply_to_runs)(g, y, p, stream, false, 1, dtype, to);
}
#endif

static fn_apply_runs_kernel FN_KERNEL(apply_runs);

/* A weight without a bias, or a bias without a weight: a strip at a time, for which
 * there are some in place of those that are missing. */
#define STRIP 1024
FN_NOINLINE void FN_KERNEL(apply_strips)(const fn_runs *g, T *y,
                                         const run_parameters *p, bool stream) {
  T instead[STRIP];
  for (size_t i = 0; i < STRIP && i < g->len; i += FN_VEC)
    V(store)(instead + i, V(splat)(p->weight ? -(T)0 : (T)1));
  for (size_t at = 0; at < g->len; at += STRIP) {
    fn_runs strip = *g;
    strip.x = (const T *)g->x + at;
    strip.ahead = g->ahead ? (const T *)g->ahead + at : NULL;
    strip.len = g->len - at < STRIP ? g->len - at : STRIP;
    FN_KERNEL(apply_runs)
    (&strip, y + at, p->y_row_stride, p->y_seg_stride, p->hi, p->scale, p->offset,
     p->weight ? p->weight + at : instead, p->bias ? p->bias + at : instead, stream);
  }
}
#undef STRIP

static void FN_KERNEL(apply_runs)(const fn_runs *g, void *y, ptrdiff_t y_row_stride,
                                  ptrdiff_t y_seg_stride, const void *hi,
                                  const void *scale, const void *offset,
                                  const void *weight, const void *bias, bool stream) {
  const ptrdiff_t len = (ptrdiff_t)g->len;
  const run_parameters p = {y_row_stride, y_seg_stride, hi,  scale,
                            offset,       weight,       bias};
#if FN_T_IS_FLOAT
  if (g->bytes) {
    FN_KERNEL(apply_narrow)(g, y, &p, stream, FASTNORM_DEFAULT, FASTNORM_UINT8);
    return;
  }
#endif
#if FN_T_IS_FLOAT && FN_HALVES
  if (g->dtype == FASTNORM_FLOAT16) {
    FN_KERNEL(apply_narrow)(g, y, &p, stream, FASTNORM_FLOAT16, FASTNORM_FLOAT16);
    return;
  }
  if (g->dtype == FASTNORM_BFLOAT16) {
    FN_KERNEL(apply_narrow)(g, y, &p, stream, FASTNORM_BFLOAT16, FASTNORM_BFLOAT16);
    return;
  }
#endif
  if (g->rows > 1 && g->row_stride == len && y_row_stride == len && g->len >= FN_VEC &&
      hi && !weight && !bias) {
    FN_KERNEL(apply_plainly)(g, y, &p, stream);
    return;
  }
  if (FN_T_IS_FLOAT && FN_STREAMS > 0 && stream &&
      FN_KERNEL(apply_off_lines)(g, y, &p, FASTNORM_DEFAULT, FASTNORM_DEFAULT))
    return;
  if (hi && !weight != !bias) {
    FN_KERNEL(apply_strips)(g, y, &p, stream);
    return;
  }
#define CASE(centered, mode)                                                           \
  if (g->segs == 1 && g->len <= FN_HALF)                                               \
    FN_KERNEL(apply_to_tiny_runs)                                                      \
  (g, y, y_row_stride, hi, scale, offset, weight, bias, centered, mode);               \
  else FN_KERNEL(apply_to_runs)(g, y, &p, stream, centered, mode, FASTNORM_DEFAULT,    \
                                FASTNORM_DEFAULT)
  FN_KERNEL_MODES
#undef CASE
}

#undef lines
#undef FN_ASK
#undef run_parameters
