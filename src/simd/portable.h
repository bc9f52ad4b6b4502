/* simd/portable.h - the vector vocabulary in plain C: the definition of every word.
 * SPDX-License-Identifier: MIT
 *
 * A vec holds 128 bytes on every instruction set: 32 float or 16 double lanes, so that
 * lane i of every accumulator sees the same elements everywhere. Each word rounds once
 * per lane, as IEEE 754 says, so the bits agree with the vector units; fma() may be a
 * slow library call, but it is the same number.
 *
 *   splat(x)                  all lanes x
 *   load(p) store(p, v)       a vec, any alignment
 *   load_partial_or(p, n, f)  the first n lanes from memory (no byte more), others of f
 *   store_partial(p, n, v)    the first n lanes
 *   stream(p, v)              store past the cache where there is a way; p on a 64-byte
 *                             line; stream_end() before others may look
 *   splat2 load2_or store2    two short rows at once: one in each half, n lanes of each
 *   add sub mul div           lane by lane
 *   fma(x, y, z)              x * y + z, rounded once
 *   max(x, y)                 x > y ? x : y, so y where one is NaN
 *   min(x, y)                 x < y ? x : y
 *   select_le(x, y, a, b)     x <= y ? a : b
 *   abs                       absolute value
 *   pow2(t)                   for t = 1.5 * 2^23 + 127 + k (double: 1.5 * 2^52 + 1023 +
 *                             k): 2^k; 0 for k = -127, Inf for k = 128 (-1023, 1024)
 *   pow2_eighths(t)           float only, for t = 1.5 * 2^20 + k, k in eighths:
 *                             2^k, rounded; Inf for k = 128
 *   lookup(table, t)          float only: entry number (low 4 bits of t) of 16
 *   max_magnitude(x, y)       the larger of x and |y|, NaN if there is one; x has no
 *                             sign
 *   store_folded(p, v)        lane i + lane (i + half), half a vec: first level of the
 *                             tree
 *   hsum(p)                   the rest of the tree: half, quarter, ... down to one
 *   reduce16(s, out)          out[i] = hsum(s[i]) for 16 slots
 *   load_wide(p)              16 elements as doubles (for f64: load)
 *   store_narrow(p, v)        16 doubles, each rounded to the dtype (for f64: store)
 *   round(v)                  doubles rounded to the dtype and back
 *   add_wide(p, v)            p[i] += lane i, in double, over all lanes of v
 * by FN_PARTS parts of FN_VEC / FN_PARTS lanes, for loops with more values than there
 * are registers (simd/parts.h where one part is all):
 *   FN_ASIDE(v)               a variable that waits, in memory where registers are few
 *   part_of(v, k) whole(p)    part k of a vec at v; the vec of these
 *   part_load part_add part_sub part_mul part_fma   as above
 *   part_store(p, x, stream)  as store, or as stream
 *   FN_BESIDE                 parts to take at a time where they have a sum each
 * on doubles only, for the few numbers per row:
 *   fnma(x, y, z)             z - x * y, rounded once
 *   sqrt                      square root
 *   inverse                   1 / x, and 0 for 0
 *   max_zero                  x, or 0 if it is negative; NaN stays NaN
 *   all_le(x, y)              is x <= y in every lane (so false if any is NaN) */

#include "tables.h"

#define FN_LANES(expression)                                                           \
  for (size_t i = 0; i < sizeof(r.v) / sizeof(r.v[0]); i++)                            \
    r.v[i] = (expression);                                                             \
  return r

#define FN_MAP(T, S, FMA)                                                              \
  typedef struct {                                                                     \
    S v[2 * T##_HALF];                                                                 \
  } T##_vec;                                                                           \
  FN_WORD T##_vec T##_splat(S x) {                                                     \
    T##_vec r;                                                                         \
    FN_LANES(x);                                                                       \
  }                                                                                    \
  FN_WORD T##_vec T##_load(const S *p) {                                               \
    T##_vec r;                                                                         \
    FN_LANES(p[i]);                                                                    \
  }                                                                                    \
  FN_WORD T##_vec T##_load_partial_or(const S *p, size_t n, T##_vec f) {               \
    T##_vec r;                                                                         \
    FN_LANES(i < n ? p[i] : f.v[i]);                                                   \
  }                                                                                    \
  FN_WORD void T##_store_partial(S *p, size_t n, T##_vec x) {                          \
    for (size_t i = 0; i < n; i++)                                                     \
      p[i] = x.v[i];                                                                   \
  }                                                                                    \
  FN_WORD void T##_store(S *p, T##_vec x) {                                            \
    T##_store_partial(p, 2 * T##_HALF, x);                                             \
  }                                                                                    \
  FN_WORD void T##_stream(S *p, T##_vec x) {                                           \
    T##_store(p, x);                                                                   \
  }                                                                                    \
  FN_WORD T##_vec T##_splat2(S x, S y) {                                               \
    T##_vec r;                                                                         \
    FN_LANES(i < T##_HALF ? x : y);                                                    \
  }                                                                                    \
  FN_WORD T##_vec T##_load2_or(const S *p, const S *q, size_t n, T##_vec f) {          \
    T##_vec r = f;                                                                     \
    for (size_t i = 0; i < n; i++)                                                     \
      r.v[i] = p[i], r.v[i + T##_HALF] = q[i];                                         \
    return r;                                                                          \
  }                                                                                    \
  FN_WORD void T##_store2(S *p, S *q, size_t n, T##_vec x) {                           \
    for (size_t i = 0; i < n; i++)                                                     \
      p[i] = x.v[i], q[i] = x.v[i + T##_HALF];                                         \
  }                                                                                    \
  FN_WORD T##_vec T##_add(T##_vec x, T##_vec y) {                                      \
    T##_vec r;                                                                         \
    FN_LANES(x.v[i] + y.v[i]);                                                         \
  }                                                                                    \
  FN_WORD T##_vec T##_sub(T##_vec x, T##_vec y) {                                      \
    T##_vec r;                                                                         \
    FN_LANES(x.v[i] - y.v[i]);                                                         \
  }                                                                                    \
  FN_WORD T##_vec T##_mul(T##_vec x, T##_vec y) {                                      \
    T##_vec r;                                                                         \
    FN_LANES(x.v[i] * y.v[i]);                                                         \
  }                                                                                    \
  FN_WORD T##_vec T##_fma(T##_vec x, T##_vec y, T##_vec z) {                           \
    T##_vec r;                                                                         \
    FN_LANES(FMA(x.v[i], y.v[i], z.v[i]));                                             \
  }                                                                                    \
  FN_WORD void T##_store_folded(S *p, T##_vec x) {                                     \
    for (size_t i = 0; i < T##_HALF; i++)                                              \
      p[i] = x.v[i] + x.v[i + T##_HALF];                                               \
  }                                                                                    \
  FN_WORD S T##_hsum(const S *p) {                                                     \
    S t[T##_HALF];                                                                     \
    for (size_t i = 0; i < T##_HALF; i++)                                              \
      t[i] = p[i];                                                                     \
    for (size_t h = T##_HALF / 2; h > 0; h /= 2)                                       \
      for (size_t i = 0; i < h; i++)                                                   \
        t[i] += t[i + h];                                                              \
    return t[0];                                                                       \
  }                                                                                    \
  FN_WORD void T##_reduce16(const S(*s)[T##_HALF], S *out) {                           \
    for (size_t i = 0; i < 16; i++)                                                    \
      out[i] = T##_hsum(s[i]);                                                         \
  }

#define f32_HALF 16
#define f64_HALF 8
FN_MAP(f32, float, fmaf)
FN_MAP(f64, double, fma)
#undef FN_MAP

FN_WORD f64_vec f64_fnma(f64_vec x, f64_vec y, f64_vec z) {
  f64_vec r;
  FN_LANES(fma(-x.v[i], y.v[i], z.v[i]));
}
FN_WORD f64_vec f64_div(f64_vec x, f64_vec y) {
  f64_vec r;
  FN_LANES(x.v[i] / y.v[i]);
}
FN_WORD f64_vec f64_sqrt(f64_vec x) {
  f64_vec r;
  FN_LANES(sqrt(x.v[i]));
}
FN_WORD f64_vec f64_inverse(f64_vec x) {
  f64_vec r;
  FN_LANES(x.v[i] < 0 || x.v[i] > 0 || x.v[i] != x.v[i] ? 1.0 / x.v[i] : 0.0);
}
FN_WORD f64_vec f64_max_zero(f64_vec x) {
  f64_vec r;
  FN_LANES(x.v[i] < 0 ? 0.0 : x.v[i]);
}
FN_WORD f64_vec f64_abs(f64_vec x) {
  f64_vec r;
  FN_LANES(fabs(x.v[i]));
}
FN_WORD bool f64_all_le(f64_vec x, f64_vec y) {
  bool all = true;
  for (size_t i = 0; i < 16; i++)
    all &= x.v[i] <= y.v[i];
  return all;
}

FN_WORD f64_vec f32_load_wide(const float *p) {
  f64_vec r;
  FN_LANES((double)p[i]);
}
FN_WORD void f32_store_narrow(float *p, f64_vec x) {
  for (size_t i = 0; i < 16; i++)
    p[i] = (float)x.v[i];
}
FN_WORD f64_vec f32_round(f64_vec x) {
  f64_vec r;
  FN_LANES((double)(float)x.v[i]);
}
FN_WORD void f32_add_wide(double *p, f32_vec x) {
  for (size_t i = 0; i < 32; i++)
    p[i] += (double)x.v[i];
}
FN_WORD void stream_end(void) {}

FN_WORD uint32_t f32_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}
FN_WORD float f32_of_bits(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}
FN_WORD uint64_t f64_bits(double x) {
  uint64_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}
FN_WORD double f64_of_bits(uint64_t u) {
  double x;
  memcpy(&x, &u, sizeof x);
  return x;
}

FN_WORD f32_vec f32_div(f32_vec x, f32_vec y) {
  f32_vec r;
  FN_LANES(x.v[i] / y.v[i]);
}
FN_WORD f32_vec f32_abs(f32_vec x) {
  f32_vec r;
  FN_LANES(fabsf(x.v[i]));
}

FN_WORD f32_vec f32_lookup(const float *table, f32_vec x) {
  f32_vec r;
  FN_LANES(table[f32_bits(x.v[i]) & 15]);
}
FN_WORD f32_vec f32_pow2_eighths(f32_vec x) {
  static const uint32_t table[] = {FN_EIGHTHS};
  f32_vec r;
  FN_LANES(f32_of_bits(table[f32_bits(x.v[i]) & 7] + (f32_bits(x.v[i]) << 20)));
}

#define FN_MAP(T, EXPONENT)                                                            \
  FN_WORD T##_vec T##_max(T##_vec x, T##_vec y) {                                      \
    T##_vec r;                                                                         \
    FN_LANES(x.v[i] > y.v[i] ? x.v[i] : y.v[i]);                                       \
  }                                                                                    \
  FN_WORD T##_vec T##_min(T##_vec x, T##_vec y) {                                      \
    T##_vec r;                                                                         \
    FN_LANES(x.v[i] < y.v[i] ? x.v[i] : y.v[i]);                                       \
  }                                                                                    \
  FN_WORD T##_vec T##_select_le(T##_vec x, T##_vec y, T##_vec yes, T##_vec no) {       \
    T##_vec r;                                                                         \
    FN_LANES(x.v[i] <= y.v[i] ? yes.v[i] : no.v[i]);                                   \
  }                                                                                    \
  FN_WORD T##_vec T##_pow2(T##_vec x) {                                                \
    T##_vec r;                                                                         \
    FN_LANES(T##_of_bits(T##_bits(x.v[i]) << EXPONENT));                               \
  }                                                                                    \
  FN_WORD T##_vec T##_max_magnitude(T##_vec x, T##_vec y) {                            \
    const T##_vec z = T##_abs(y);                                                      \
    T##_vec r;                                                                         \
    FN_LANES(T##_bits(z.v[i]) > T##_bits(x.v[i]) ? z.v[i] : x.v[i]);                   \
  }
FN_MAP(f32, 23)
FN_MAP(f64, 52)
#undef FN_MAP
