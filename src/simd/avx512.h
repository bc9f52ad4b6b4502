/* simd/avx512.h - the vector vocabulary on AVX-512 (F, DQ, VL, BW).
 * SPDX-License-Identifier: MIT
 *
 * A vec is 128 bytes on every instruction set, here two registers: the same number of
 * lanes everywhere is what makes the bits the same everywhere. The words are described
 * in simd/portable.h, whose loops are their definition. */

#include "tables.h"

typedef struct {
  __m512 a, b;
} f32_vec;
typedef struct {
  __m512d a, b;
} f64_vec;

/* Words that do one instruction per register. */
#define FN_MAP(T, R, S)                                                                \
  FN_WORD T##_vec T##_splat(S x) {                                                     \
    return (T##_vec){_mm512_set1_##R(x), _mm512_set1_##R(x)};                          \
  }                                                                                    \
  FN_WORD T##_vec T##_load(const S *p) {                                               \
    return (T##_vec){_mm512_loadu_##R(p), _mm512_loadu_##R(p + T##_HALF)};             \
  }                                                                                    \
  FN_WORD void T##_store(S *p, T##_vec x) {                                            \
    _mm512_storeu_##R(p, x.a);                                                         \
    _mm512_storeu_##R(p + T##_HALF, x.b);                                              \
  }                                                                                    \
  FN_WORD T##_vec T##_add(T##_vec x, T##_vec y) {                                      \
    return (T##_vec){_mm512_add_##R(x.a, y.a), _mm512_add_##R(x.b, y.b)};              \
  }                                                                                    \
  FN_WORD T##_vec T##_sub(T##_vec x, T##_vec y) {                                      \
    return (T##_vec){_mm512_sub_##R(x.a, y.a), _mm512_sub_##R(x.b, y.b)};              \
  }                                                                                    \
  FN_WORD T##_vec T##_mul(T##_vec x, T##_vec y) {                                      \
    return (T##_vec){_mm512_mul_##R(x.a, y.a), _mm512_mul_##R(x.b, y.b)};              \
  }                                                                                    \
  FN_WORD T##_vec T##_fma(T##_vec x, T##_vec y, T##_vec z) {                           \
    return (T##_vec){_mm512_fmadd_##R(x.a, y.a, z.a),                                  \
                     _mm512_fmadd_##R(x.b, y.b, z.b)};                                 \
  }                                                                                    \
  FN_WORD T##_vec T##_load_partial_or(const S *p, size_t n, T##_vec fill) {            \
    const size_t m = n > T##_HALF ? n - T##_HALF : 0;                                  \
    return (T##_vec){_mm512_mask_loadu_##R(fill.a, T##_mask(n - m), p),                \
                     _mm512_mask_loadu_##R(fill.b, T##_mask(m), p + (n - m))};         \
  }                                                                                    \
  FN_WORD void T##_store_partial(S *p, size_t n, T##_vec x) {                          \
    const size_t m = n > T##_HALF ? n - T##_HALF : 0;                                  \
    _mm512_mask_storeu_##R(p, T##_mask(n - m), x.a);                                   \
    _mm512_mask_storeu_##R(p + (n - m), T##_mask(m), x.b);                             \
  }                                                                                    \
  FN_WORD void T##_stream(S *p, T##_vec x) {                                           \
    _mm512_stream_##R(p, x.a);                                                         \
    _mm512_stream_##R(p + T##_HALF, x.b);                                              \
  }                                                                                    \
  FN_WORD T##_vec T##_splat2(S x, S y) {                                               \
    return (T##_vec){_mm512_set1_##R(x), _mm512_set1_##R(y)};                          \
  }                                                                                    \
  FN_WORD T##_vec T##_load2_or(const S *p, const S *q, size_t n, T##_vec fill) {       \
    return (T##_vec){_mm512_mask_loadu_##R(fill.a, T##_mask(n), p),                    \
                     _mm512_mask_loadu_##R(fill.b, T##_mask(n), q)};                   \
  }                                                                                    \
  FN_WORD void T##_store2(S *p, S *q, size_t n, T##_vec x) {                           \
    _mm512_mask_storeu_##R(p, T##_mask(n), x.a);                                       \
    _mm512_mask_storeu_##R(q, T##_mask(n), x.b);                                       \
  }                                                                                    \
  FN_WORD void T##_store_folded(S *p, T##_vec x) {                                     \
    _mm512_storeu_##R(p, _mm512_add_##R(x.a, x.b));                                    \
  }

#define f32_HALF    16
#define f64_HALF    8
#define f32_mask(n) ((__mmask16)((1u << (n)) - 1u))
#define f64_mask(n) ((__mmask8)((1u << (n)) - 1u))
FN_MAP(f32, ps, float)
FN_MAP(f64, pd, double)
#undef FN_MAP

FN_WORD float f32_hsum(const float *p) {
  const __m512 v = _mm512_loadu_ps(p);
  const __m256 h =
      _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}

FN_WORD double f64_hsum(const double *p) {
  const __m512d v = _mm512_loadu_pd(p);
  const __m256d h =
      _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
  const __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
  return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
}

/* The tree of hsum for 16 slots at once: each level folds two registers into one by two
 * shuffles and one add, so that a slot costs 3 instructions instead of 9. A register
 * holds slots in this order after each level (for four levels of pairs i, i + 1):
 * halves, quarters, pairs, and finally lane 4 * j + k is that of input j + 4 * k. */
FN_WORD __m512 f32_fold8(const float *p, const float *q) {
  const __m512 x = _mm512_loadu_ps(p), y = _mm512_loadu_ps(q);
  return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x44),
                       _mm512_shuffle_f32x4(x, y, 0xEE));
}
FN_WORD __m512 f32_fold4(__m512 x, __m512 y) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88),
                       _mm512_shuffle_f32x4(x, y, 0xDD));
}
FN_WORD void f32_reduce16(const float (*s)[16], float *out) {
  __m512 quad[4];
  FN_UNROLL
  for (int k = 0; k < 4; k++) /* inputs 4k..4k+3 are slots k, k + 4, k + 8, k + 12 */
    quad[k] = f32_fold4(f32_fold8(s[k], s[k + 4]), f32_fold8(s[k + 8], s[k + 12]));
  const __m512 p = _mm512_add_ps(_mm512_shuffle_ps(quad[0], quad[1], 0x44),
                                 _mm512_shuffle_ps(quad[0], quad[1], 0xEE));
  const __m512 q = _mm512_add_ps(_mm512_shuffle_ps(quad[2], quad[3], 0x44),
                                 _mm512_shuffle_ps(quad[2], quad[3], 0xEE));
  _mm512_storeu_ps(
      out, _mm512_add_ps(_mm512_shuffle_ps(p, q, 0x88), _mm512_shuffle_ps(p, q, 0xDD)));
}

/* As above with 8 lanes: fold halves, quarters, pairs; lane 2 * j + k is that of input
 * j + 4 * k. */
FN_WORD __m512d f64_fold4(const double *p, const double *q) {
  const __m512d x = _mm512_loadu_pd(p), y = _mm512_loadu_pd(q);
  return _mm512_add_pd(_mm512_shuffle_f64x2(x, y, 0x44),
                       _mm512_shuffle_f64x2(x, y, 0xEE));
}
FN_WORD void f64_reduce16(const double (*s)[8], double *out) {
  FN_UNROLL
  for (int h = 0; h < 16; h += 8) {
    __m512d quad[2];
    FN_UNROLL
    for (int k = 0; k < 2; k++) {
      const __m512d x = f64_fold4(s[h + k], s[h + k + 2]);
      const __m512d y = f64_fold4(s[h + k + 4], s[h + k + 6]);
      quad[k] = _mm512_add_pd(_mm512_shuffle_f64x2(x, y, 0x88),
                              _mm512_shuffle_f64x2(x, y, 0xDD));
    }
    _mm512_storeu_pd(out + h, _mm512_add_pd(_mm512_unpacklo_pd(quad[0], quad[1]),
                                            _mm512_unpackhi_pd(quad[0], quad[1])));
  }
}

FN_WORD f64_vec f64_fnma(f64_vec x, f64_vec y, f64_vec z) {
  return (f64_vec){_mm512_fnmadd_pd(x.a, y.a, z.a), _mm512_fnmadd_pd(x.b, y.b, z.b)};
}
FN_WORD f64_vec f64_div(f64_vec x, f64_vec y) {
  return (f64_vec){_mm512_div_pd(x.a, y.a), _mm512_div_pd(x.b, y.b)};
}
FN_WORD f64_vec f64_sqrt(f64_vec x) {
  return (f64_vec){_mm512_sqrt_pd(x.a), _mm512_sqrt_pd(x.b)};
}
FN_WORD f64_vec f64_inverse(f64_vec x) {
  const __m512d one = _mm512_set1_pd(1.0), zero = _mm512_setzero_pd();
  return (f64_vec){
      _mm512_maskz_div_pd(_mm512_cmp_pd_mask(x.a, zero, _CMP_NEQ_UQ), one, x.a),
      _mm512_maskz_div_pd(_mm512_cmp_pd_mask(x.b, zero, _CMP_NEQ_UQ), one, x.b)};
}
FN_WORD f64_vec f64_max_zero(f64_vec x) { /* vmaxpd gives its second operand for NaN */
  const __m512d zero = _mm512_setzero_pd();
  return (f64_vec){_mm512_max_pd(zero, x.a), _mm512_max_pd(zero, x.b)};
}
FN_WORD f64_vec f64_abs(f64_vec x) {
  return (f64_vec){_mm512_abs_pd(x.a), _mm512_abs_pd(x.b)};
}
FN_WORD bool f64_all_le(f64_vec x, f64_vec y) {
  return (_mm512_cmp_pd_mask(x.a, y.a, _CMP_LE_OQ) &
          _mm512_cmp_pd_mask(x.b, y.b, _CMP_LE_OQ)) == 0xFF;
}

FN_WORD f64_vec f32_load_wide(const float *p) {
  return (f64_vec){_mm512_cvtps_pd(_mm256_loadu_ps(p)),
                   _mm512_cvtps_pd(_mm256_loadu_ps(p + 8))};
}
FN_WORD void f32_store_narrow(float *p, f64_vec x) {
  _mm256_storeu_ps(p, _mm512_cvtpd_ps(x.a));
  _mm256_storeu_ps(p + 8, _mm512_cvtpd_ps(x.b));
}
FN_WORD f64_vec f32_round(f64_vec x) {
  return (f64_vec){_mm512_cvtps_pd(_mm512_cvtpd_ps(x.a)),
                   _mm512_cvtps_pd(_mm512_cvtpd_ps(x.b))};
}
FN_WORD void f32_add_wide(double *p, f32_vec x) {
  const __m512 half[2] = {x.a, x.b};
  FN_UNROLL
  for (int h = 0; h < 2; h++, p += 16) {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(half[h]));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(half[h], 1));
    _mm512_storeu_pd(p, _mm512_add_pd(_mm512_loadu_pd(p), low));
    _mm512_storeu_pd(p + 8, _mm512_add_pd(_mm512_loadu_pd(p + 8), high));
  }
}
FN_WORD void stream_end(void) {
  _mm_sfence();
}

/* Words that do the same to both halves. */
#define FN_BOTH(T, F)                                                                  \
  (T##_vec) {                                                                          \
    F(a), F(b)                                                                         \
  }

FN_WORD f32_vec f32_div(f32_vec x, f32_vec y) {
#define F(r) _mm512_div_ps(x.r, y.r)
  return FN_BOTH(f32, F);
#undef F
}
FN_WORD f32_vec f32_abs(f32_vec x) {
#define F(r) _mm512_abs_ps(x.r)
  return FN_BOTH(f32, F);
#undef F
}
FN_WORD f32_vec f32_pow2(f32_vec x) {
#define F(r) _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x.r), 23))
  return FN_BOTH(f32, F);
#undef F
}
FN_WORD f64_vec f64_pow2(f64_vec x) {
#define F(r) _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(x.r), 52))
  return FN_BOTH(f64, F);
#undef F
}
FN_WORD f32_vec f32_pow2_eighths(f32_vec x) {
  const __m512i table = _mm512_broadcast_i32x8(_mm256_setr_epi32(FN_EIGHTHS));
#define F(r)                                                                           \
  _mm512_castsi512_ps(                                                                 \
      _mm512_add_epi32(_mm512_permutexvar_epi32(_mm512_castps_si512(x.r), table),      \
                       _mm512_slli_epi32(_mm512_castps_si512(x.r), 20)))
  return FN_BOTH(f32, F);
#undef F
}
FN_WORD f32_vec f32_lookup(const float *table, f32_vec x) {
  const __m512 t = _mm512_loadu_ps(table);
#define F(r) _mm512_permutexvar_ps(_mm512_castps_si512(x.r), t)
  return FN_BOTH(f32, F);
#undef F
}
FN_WORD f32_vec f32_max_magnitude(f32_vec x, f32_vec y) {
#define F(r)                                                                           \
  _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(x.r),                       \
                                       _mm512_castps_si512(_mm512_abs_ps(y.r))))
  return FN_BOTH(f32, F);
#undef F
}
FN_WORD f64_vec f64_max_magnitude(f64_vec x, f64_vec y) {
#define F(r)                                                                           \
  _mm512_castsi512_pd(_mm512_max_epu64(_mm512_castpd_si512(x.r),                       \
                                       _mm512_castpd_si512(_mm512_abs_pd(y.r))))
  return FN_BOTH(f64, F);
#undef F
}

#define FN_MAP(T, R)                                                                   \
  FN_WORD T##_vec T##_max(T##_vec x, T##_vec y) {                                      \
    return (T##_vec){_mm512_max_##R(x.a, y.a), _mm512_max_##R(x.b, y.b)};              \
  }                                                                                    \
  FN_WORD T##_vec T##_min(T##_vec x, T##_vec y) {                                      \
    return (T##_vec){_mm512_min_##R(x.a, y.a), _mm512_min_##R(x.b, y.b)};              \
  }                                                                                    \
  FN_WORD T##_vec T##_select_le(T##_vec x, T##_vec y, T##_vec yes, T##_vec no) {       \
    return (T##_vec){_mm512_mask_blend_##R(                                            \
                         _mm512_cmp_##R##_mask(x.a, y.a, _CMP_LE_OQ), no.a, yes.a),    \
                     _mm512_mask_blend_##R(                                            \
                         _mm512_cmp_##R##_mask(x.b, y.b, _CMP_LE_OQ), no.b, yes.b)};   \
  }
FN_MAP(f32, ps)
FN_MAP(f64, pd)
#undef FN_MAP
