/* simd/masks_avx512.h - words for masks on AVX-512.
 * SPDX-License-Identifier: MIT */

#define f32_only(m, x)    _mm512_maskz_mov_ps((__mmask16)(m), x)
#define f64_only(m, x)    _mm512_maskz_mov_pd((__mmask8)(m), x)
#define f32_squeeze(m, x) _mm512_maskz_compress_ps((__mmask16)(m), x)
#define f64_squeeze(m, x) _mm512_maskz_compress_pd((__mmask8)(m), x)
#define FN_MAP(T, R, S)                                                                \
  FN_WORD size_t T##_pack(S *p, uint32_t bits, T##_vec x) {                            \
    const uint32_t low = bits & T##_mask(T##_HALF);                                    \
    const uint32_t high = bits >> T##_HALF & T##_mask(T##_HALF);                       \
    const size_t n = (size_t)__builtin_popcount(low);                                  \
    _mm512_storeu_##R(p, T##_squeeze(low, x.a));                                       \
    _mm512_storeu_##R(p + n, T##_squeeze(high, x.b));                                  \
    return n + (size_t)__builtin_popcount(high);                                       \
  }                                                                                    \
  FN_WORD T##_vec T##_keep(uint32_t bits, T##_vec x) {                                 \
    return (T##_vec){T##_only(bits, x.a), T##_only(bits >> T##_HALF, x.b)};            \
  }
FN_MAP(f32, ps, float)
FN_MAP(f64, pd, double)
#undef FN_MAP

FN_WORD uint32_t u8_nonzero(u8_vec x) {
  return _mm256_test_epi8_mask(x.v, x.v);
}
