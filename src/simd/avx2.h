/* simd/avx2.h - the vector vocabulary on AVX2 with FMA and F16C.
 * SPDX-License-Identifier: MIT
 *
 * A vec is four registers, a to d in the order of the lanes. The words are described in
 * simd/portable.h. */

#include "tables.h"

typedef struct {
  __m256 a, b, c, d;
} f32_vec;
typedef struct {
  __m256d a, b, c, d;
} f64_vec;

/* `expression` of each of the four registers. */
#define FN_EACH(T, F)                                                                  \
  (T##_vec) {                                                                          \
    F(a), F(b), F(c), F(d)                                                             \
  }

#define FN_MAP(T, R, S)                                                                \
  FN_WORD T##_vec T##_splat(S x) {                                                     \
    const T##_reg v = _mm256_set1_##R(x);                                              \
    return (T##_vec){v, v, v, v};                                                      \
  }                                                                                    \
  FN_WORD T##_vec T##_load(const S *p) {                                               \
    return (T##_vec){_mm256_loadu_##R(p), _mm256_loadu_##R(p + T##_REG),               \
                     _mm256_loadu_##R(p + 2 * T##_REG),                                \
                     _mm256_loadu_##R(p + 3 * T##_REG)};                               \
  }                                                                                    \
  FN_WORD void T##_store(S *p, T##_vec x) {                                            \
    _mm256_storeu_##R(p, x.a);                                                         \
    _mm256_storeu_##R(p + T##_REG, x.b);                                               \
    _mm256_storeu_##R(p + 2 * T##_REG, x.c);                                           \
    _mm256_storeu_##R(p + 3 * T##_REG, x.d);                                           \
  }                                                                                    \
  FN_WORD T##_vec T##_add(T##_vec x, T##_vec y) {                                      \
    return (T##_vec){_mm256_add_##R(x.a, y.a), _mm256_add_##R(x.b, y.b),               \
                     _mm256_add_##R(x.c, y.c), _mm256_add_##R(x.d, y.d)};              \
  }                                                                                    \
  FN_WORD T##_vec T##_sub(T##_vec x, T##_vec y) {                                      \
    return (T##_vec){_mm256_sub_##R(x.a, y.a), _mm256_sub_##R(x.b, y.b),               \
                     _mm256_sub_##R(x.c, y.c), _mm256_sub_##R(x.d, y.d)};              \
  }                                                                                    \
  FN_WORD T##_vec T##_mul(T##_vec x, T##_vec y) {                                      \
    return (T##_vec){_mm256_mul_##R(x.a, y.a), _mm256_mul_##R(x.b, y.b),               \
                     _mm256_mul_##R(x.c, y.c), _mm256_mul_##R(x.d, y.d)};              \
  }                                                                                    \
  FN_WORD T##_vec T##_fma(T##_vec x, T##_vec y, T##_vec z) {                           \
    return (T##_vec){_mm256_fmadd_##R(x.a, y.a, z.a), _mm256_fmadd_##R(x.b, y.b, z.b), \
                     _mm256_fmadd_##R(x.c, y.c, z.c),                                  \
                     _mm256_fmadd_##R(x.d, y.d, z.d)};                                 \
  }                                                                                    \
  FN_WORD T##_reg T##_partial(const S *p, size_t n, size_t from, T##_reg fill) {       \
    const __m256i m = T##_mask(n, from);                                               \
    const S *q = n > from ? p + from : p; /* all lanes masked: nothing is read */      \
    return _mm256_blendv_##R(fill, _mm256_maskload_##R(q, m), T##_from_mask(m));       \
  }                                                                                    \
  FN_WORD T##_vec T##_load_partial_or(const S *p, size_t n, T##_vec f) {               \
    return (T##_vec){T##_partial(p, n, 0, f.a), T##_partial(p, n, T##_REG, f.b),       \
                     T##_partial(p, n, 2 * T##_REG, f.c),                              \
                     T##_partial(p, n, 3 * T##_REG, f.d)};                             \
  }                                                                                    \
  FN_NOINLINE void T##_store_first(S *p, size_t n, const S *x) {                       \
    for (; n >= T##_REG; n -= T##_REG, p += T##_REG, x += T##_REG)                     \
      _mm256_storeu_##R(p, _mm256_loadu_##R(x));                                       \
    if (n > 0) /* after all four registers there is nothing left to read */            \
      T##_store_few(p, n, _mm256_loadu_##R(x));                                        \
  }                                                                                    \
  FN_WORD void T##_store_partial(S *p, size_t n, T##_vec x) {                          \
    S lanes[4 * T##_REG];                                                              \
    T##_store(lanes, x);                                                               \
    T##_store_first(p, n, lanes);                                                      \
  }                                                                                    \
  FN_WORD void T##_stream(S *p, T##_vec x) {                                           \
    _mm256_stream_##R(p, x.a);                                                         \
    _mm256_stream_##R(p + T##_REG, x.b);                                               \
    _mm256_stream_##R(p + 2 * T##_REG, x.c);                                           \
    _mm256_stream_##R(p + 3 * T##_REG, x.d);                                           \
  }                                                                                    \
  FN_WORD T##_vec T##_splat2(S x, S y) {                                               \
    const T##_reg v = _mm256_set1_##R(x), w = _mm256_set1_##R(y);                      \
    return (T##_vec){v, v, w, w};                                                      \
  }                                                                                    \
  FN_WORD T##_vec T##_load2_or(const S *p, const S *q, size_t n, T##_vec f) {          \
    return (T##_vec){T##_partial(p, n, 0, f.a), T##_partial(p, n, T##_REG, f.b),       \
                     T##_partial(q, n, 0, f.c), T##_partial(q, n, T##_REG, f.d)};      \
  }                                                                                    \
  FN_WORD void T##_store2(S *p, S *q, size_t n, T##_vec x) {                           \
    if (n >= T##_REG) {                                                                \
      _mm256_storeu_##R(p, x.a);                                                       \
      _mm256_storeu_##R(q, x.c);                                                       \
      if (n == 2 * T##_REG) {                                                          \
        _mm256_storeu_##R(p + T##_REG, x.b);                                           \
        _mm256_storeu_##R(q + T##_REG, x.d);                                           \
        return;                                                                        \
      }                                                                                \
      T##_store_few(p + T##_REG, n - T##_REG, x.b);                                    \
      T##_store_few(q + T##_REG, n - T##_REG, x.d);                                    \
    } else {                                                                           \
      T##_store_few(p, n, x.a);                                                        \
      T##_store_few(q, n, x.c);                                                        \
    }                                                                                  \
  }                                                                                    \
  FN_WORD void T##_store_folded(S *p, T##_vec x) {                                     \
    _mm256_storeu_##R(p, _mm256_add_##R(x.a, x.c));                                    \
    _mm256_storeu_##R(p + T##_REG, _mm256_add_##R(x.b, x.d));                          \
  }                                                                                    \
  FN_WORD T##_part T##_part_of(const T##_vec *v, int k) {                              \
    const T##_reg r[4] = {v->a, v->b, v->c, v->d};                                     \
    return r[k];                                                                       \
  }                                                                                    \
  FN_WORD T##_vec T##_whole(const T##_part *p) {                                       \
    return (T##_vec){p[0], p[1], p[2], p[3]};                                          \
  }                                                                                    \
  FN_WORD T##_part T##_part_load(const S *p) {                                         \
    return _mm256_loadu_##R(p);                                                        \
  }                                                                                    \
  FN_WORD void T##_part_store(S *p, T##_part x, bool stream) {                         \
    if (stream)                                                                        \
      _mm256_stream_##R(p, x);                                                         \
    else                                                                               \
      _mm256_storeu_##R(p, x);                                                         \
  }                                                                                    \
  FN_WORD T##_part T##_part_add(T##_part x, T##_part y) {                              \
    return _mm256_add_##R(x, y);                                                       \
  }                                                                                    \
  FN_WORD T##_part T##_part_sub(T##_part x, T##_part y) {                              \
    return _mm256_sub_##R(x, y);                                                       \
  }                                                                                    \
  FN_WORD T##_part T##_part_mul(T##_part x, T##_part y) {                              \
    return _mm256_mul_##R(x, y);                                                       \
  }                                                                                    \
  FN_WORD T##_part T##_part_fma(T##_part x, T##_part y, T##_part z) {                  \
    return _mm256_fmadd_##R(x, y, z);                                                  \
  }

#define f32_HALF 16
#define f64_HALF 8
#define f32_REG  8
#define f64_REG  4
typedef __m256 f32_reg;
typedef __m256d f64_reg;
/* A part is a register: the three sums of a chain of products are twelve, and with what
 * else they need stay in registers for two parts at a time. */
#define FN_PARTS  4
#define FN_BESIDE 2
/* With the sums of one chain and a shift there is no room for those of the chain
 * before. GCC kept them in registers, and what the loop adds to on the stack: layer
 * norm of [65536, 64] 2470 -> 2040 us, instance norm of [32, 256, 196] 660 -> 540 (AMD
 * EPYC Zen 3). */
#define FN_ASIDE(v) __asm__("" : "+m"(v))
typedef f32_reg f32_part;
typedef f64_reg f64_part;
#define f32_from_mask(m) _mm256_castsi256_ps(m)
#define f64_from_mask(m) _mm256_castsi256_pd(m)

/* Lanes whose index, counted from `from`, is below n. */
FN_WORD __m256i f32_mask(size_t n, size_t from) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n - (int)from),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FN_WORD __m256i f64_mask(size_t n, size_t from) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)n - (long long)from),
                            _mm256_setr_epi64x(0, 1, 2, 3));
}
/* The first n lanes, n less than a register, by powers of two: a masked store would be
 * 18 operations of AMD's Zen 3, one in 12 cycles. Out of line, as there are many; that
 * it is given a register spares its callers vzeroupper, and with it all of theirs.
 * (Batch norm of [1, 2048, 49] 106 -> 81 us, layer norm of [1024, 16] 27 -> 15. What
 * store_first reads was stored as registers, or it could not be forwarded.) */
FN_NOINLINE void f32_store_few(float *p, size_t n, __m256 x) {
  __m128 rest = _mm256_castps256_ps128(x);
  if (n & 4) {
    _mm_storeu_ps(p, rest);
    rest = _mm256_extractf128_ps(x, 1);
    p += 4;
  }
  if (n & 2) {
    _mm_storel_pi((__m64 *)p, rest);
    rest = _mm_movehl_ps(rest, rest);
    p += 2;
  }
  if (n & 1)
    _mm_store_ss(p, rest);
}
FN_NOINLINE void f64_store_few(double *p, size_t n, __m256d x) {
  __m128d rest = _mm256_castpd256_pd128(x);
  if (n & 2) {
    _mm_storeu_pd(p, rest);
    rest = _mm256_extractf128_pd(x, 1);
    p += 2;
  }
  if (n & 1)
    _mm_store_sd(p, rest);
}
FN_MAP(f32, ps, float)
FN_MAP(f64, pd, double)
#undef FN_MAP

FN_WORD float f32_hsum(const float *p) {
  const __m256 h = _mm256_add_ps(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
FN_WORD double f64_hsum(const double *p) {
  const __m256d h = _mm256_add_pd(_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4));
  const __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
  return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
}

/* The tree of hsum for 8 slots at once; see simd/avx512.h for the order: two halves of
 * a register, so lane 4 * j + k is that of input j + 2 * k. */
FN_WORD __m256 f32_fold4(const float *p, const float *q) {
  const __m256 x = _mm256_add_ps(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
  const __m256 y = _mm256_add_ps(_mm256_loadu_ps(q), _mm256_loadu_ps(q + 8));
  return _mm256_add_ps(_mm256_permute2f128_ps(x, y, 0x20),
                       _mm256_permute2f128_ps(x, y, 0x31));
}
FN_WORD __m256 f32_fold2(__m256 x, __m256 y) {
  return _mm256_add_ps(_mm256_shuffle_ps(x, y, 0x44), _mm256_shuffle_ps(x, y, 0xEE));
}
FN_WORD void f32_reduce16(const float (*s)[16], float *out) {
  FN_UNROLL
  for (int h = 0; h < 16; h += 8) {
    const __m256 x =
        f32_fold2(f32_fold4(s[h], s[h + 4]), f32_fold4(s[h + 1], s[h + 5]));
    const __m256 y =
        f32_fold2(f32_fold4(s[h + 2], s[h + 6]), f32_fold4(s[h + 3], s[h + 7]));
    _mm256_storeu_ps(out + h, _mm256_add_ps(_mm256_shuffle_ps(x, y, 0x88),
                                            _mm256_shuffle_ps(x, y, 0xDD)));
  }
}
FN_WORD __m256d f64_fold2(const double *p, const double *q) {
  const __m256d x = _mm256_add_pd(_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4));
  const __m256d y = _mm256_add_pd(_mm256_loadu_pd(q), _mm256_loadu_pd(q + 4));
  return _mm256_add_pd(_mm256_permute2f128_pd(x, y, 0x20),
                       _mm256_permute2f128_pd(x, y, 0x31));
}
FN_WORD void f64_reduce16(const double (*s)[8], double *out) {
  FN_UNROLL
  for (int h = 0; h < 16; h += 4) {
    const __m256d x = f64_fold2(s[h], s[h + 2]), y = f64_fold2(s[h + 1], s[h + 3]);
    _mm256_storeu_pd(out + h,
                     _mm256_add_pd(_mm256_unpacklo_pd(x, y), _mm256_unpackhi_pd(x, y)));
  }
}

FN_WORD f64_vec f64_fnma(f64_vec x, f64_vec y, f64_vec z) {
#define F(r) _mm256_fnmadd_pd(x.r, y.r, z.r)
  return FN_EACH(f64, F);
#undef F
}
FN_WORD f64_vec f64_div(f64_vec x, f64_vec y) {
#define F(r) _mm256_div_pd(x.r, y.r)
  return FN_EACH(f64, F);
#undef F
}
FN_WORD f64_vec f64_sqrt(f64_vec x) {
#define F(r) _mm256_sqrt_pd(x.r)
  return FN_EACH(f64, F);
#undef F
}
FN_WORD f64_vec f64_inverse(f64_vec x) {
  const __m256d one = _mm256_set1_pd(1.0), zero = _mm256_setzero_pd();
#define F(r)                                                                           \
  _mm256_and_pd(_mm256_cmp_pd(x.r, zero, _CMP_NEQ_UQ), _mm256_div_pd(one, x.r))
  return FN_EACH(f64, F);
#undef F
}
FN_WORD f64_vec f64_max_zero(f64_vec x) { /* vmaxpd gives its second operand for NaN */
  const __m256d zero = _mm256_setzero_pd();
#define F(r) _mm256_max_pd(zero, x.r)
  return FN_EACH(f64, F);
#undef F
}
FN_WORD f64_vec f64_abs(f64_vec x) {
  const __m256d sign = _mm256_set1_pd(-0.0);
#define F(r) _mm256_andnot_pd(sign, x.r)
  return FN_EACH(f64, F);
#undef F
}
FN_WORD bool f64_all_le(f64_vec x, f64_vec y) {
#define F(r) _mm256_cmp_pd(x.r, y.r, _CMP_LE_OQ)
  const f64_vec le = FN_EACH(f64, F);
#undef F
  return _mm256_movemask_pd(
             _mm256_and_pd(_mm256_and_pd(le.a, le.b), _mm256_and_pd(le.c, le.d))) == 15;
}

FN_WORD f64_vec f32_load_wide(const float *p) {
  return (f64_vec){
      _mm256_cvtps_pd(_mm_loadu_ps(p)), _mm256_cvtps_pd(_mm_loadu_ps(p + 4)),
      _mm256_cvtps_pd(_mm_loadu_ps(p + 8)), _mm256_cvtps_pd(_mm_loadu_ps(p + 12))};
}
FN_WORD void f32_store_narrow(float *p, f64_vec x) {
  _mm_storeu_ps(p, _mm256_cvtpd_ps(x.a));
  _mm_storeu_ps(p + 4, _mm256_cvtpd_ps(x.b));
  _mm_storeu_ps(p + 8, _mm256_cvtpd_ps(x.c));
  _mm_storeu_ps(p + 12, _mm256_cvtpd_ps(x.d));
}
FN_WORD f64_vec f32_round(f64_vec x) {
#define F(r) _mm256_cvtps_pd(_mm256_cvtpd_ps(x.r))
  return FN_EACH(f64, F);
#undef F
}
FN_WORD void f32_add_wide(double *p, f32_vec x) {
  const __m256 r[4] = {x.a, x.b, x.c, x.d};
  FN_UNROLL
  for (int k = 0; k < 4; k++, p += 8) {
    const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(r[k]));
    const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(r[k], 1));
    _mm256_storeu_pd(p, _mm256_add_pd(_mm256_loadu_pd(p), low));
    _mm256_storeu_pd(p + 4, _mm256_add_pd(_mm256_loadu_pd(p + 4), high));
  }
}
FN_WORD void stream_end(void) {
  _mm_sfence();
}

FN_WORD f32_vec f32_div(f32_vec x, f32_vec y) {
#define F(r) _mm256_div_ps(x.r, y.r)
  return FN_EACH(f32, F);
#undef F
}
FN_WORD f32_vec f32_abs(f32_vec x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
#define F(r) _mm256_andnot_ps(sign, x.r)
  return FN_EACH(f32, F);
#undef F
}
FN_WORD f32_vec f32_pow2(f32_vec x) {
#define F(r) _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x.r), 23))
  return FN_EACH(f32, F);
#undef F
}
FN_WORD f64_vec f64_pow2(f64_vec x) {
#define F(r) _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(x.r), 52))
  return FN_EACH(f64, F);
#undef F
}
FN_WORD f32_vec f32_pow2_eighths(f32_vec x) {
  const __m256i table = _mm256_setr_epi32(FN_EIGHTHS);
#define F(r)                                                                           \
  _mm256_castsi256_ps(                                                                 \
      _mm256_add_epi32(_mm256_permutevar8x32_epi32(table, _mm256_castps_si256(x.r)),   \
                       _mm256_slli_epi32(_mm256_castps_si256(x.r), 20)))
  return FN_EACH(f32, F);
#undef F
}
FN_WORD f32_vec f32_lookup(const float *table, f32_vec x) {
  const __m256 low = _mm256_loadu_ps(table), high = _mm256_loadu_ps(table + 8);
#define F(r)                                                                           \
  _mm256_blendv_ps(                                                                    \
      _mm256_permutevar8x32_ps(low, _mm256_castps_si256(x.r)),                         \
      _mm256_permutevar8x32_ps(high, _mm256_castps_si256(x.r)),                        \
      _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x.r), 28)))
  return FN_EACH(f32, F);
#undef F
}
FN_WORD f32_vec f32_max_magnitude(f32_vec x, f32_vec y) {
  const f32_vec z = f32_abs(y);
#define F(r)                                                                           \
  _mm256_castsi256_ps(                                                                 \
      _mm256_max_epu32(_mm256_castps_si256(x.r), _mm256_castps_si256(z.r)))
  return FN_EACH(f32, F);
#undef F
}
FN_WORD f64_vec f64_max_magnitude(f64_vec x, f64_vec y) {
  const f64_vec z = f64_abs(y); /* no sign bits: a signed comparison will do */
#define F(r)                                                                           \
  _mm256_blendv_pd(x.r, z.r,                                                           \
                   _mm256_castsi256_pd(_mm256_cmpgt_epi64(_mm256_castpd_si256(z.r),    \
                                                          _mm256_castpd_si256(x.r))))
  return FN_EACH(f64, F);
#undef F
}

#define FN_MAP(T, R)                                                                   \
  FN_WORD T##_vec T##_max(T##_vec x, T##_vec y) {                                      \
    return (T##_vec){_mm256_max_##R(x.a, y.a), _mm256_max_##R(x.b, y.b),               \
                     _mm256_max_##R(x.c, y.c), _mm256_max_##R(x.d, y.d)};              \
  }                                                                                    \
  FN_WORD T##_vec T##_min(T##_vec x, T##_vec y) {                                      \
    return (T##_vec){_mm256_min_##R(x.a, y.a), _mm256_min_##R(x.b, y.b),               \
                     _mm256_min_##R(x.c, y.c), _mm256_min_##R(x.d, y.d)};              \
  }                                                                                    \
  FN_WORD T##_reg T##_choose_le(T##_reg x, T##_reg y, T##_reg yes, T##_reg no) {       \
    return _mm256_blendv_##R(no, yes, _mm256_cmp_##R(x, y, _CMP_LE_OQ));               \
  }                                                                                    \
  FN_WORD T##_vec T##_select_le(T##_vec x, T##_vec y, T##_vec yes, T##_vec no) {       \
    return (T##_vec){                                                                  \
        T##_choose_le(x.a, y.a, yes.a, no.a), T##_choose_le(x.b, y.b, yes.b, no.b),    \
        T##_choose_le(x.c, y.c, yes.c, no.c), T##_choose_le(x.d, y.d, yes.d, no.d)};   \
  }
FN_MAP(f32, ps)
FN_MAP(f64, pd)
#undef FN_MAP
