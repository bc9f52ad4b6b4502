/* simd/narrow_avx2.h - words for 16-bit and 8-bit elements on AVX2 and F16C.
 * SPDX-License-Identifier: MIT */

/* 32 elements of two bytes, and of one. */
typedef struct {
  __m128i a, b, c, d;
} u16_vec;
typedef struct {
  __m256i v;
} u8_vec;

FN_WORD u16_vec u16_load(const uint16_t *p) {
  const __m128i *q = (const __m128i *)p;
  return (u16_vec){_mm_loadu_si128(q), _mm_loadu_si128(q + 1), _mm_loadu_si128(q + 2),
                   _mm_loadu_si128(q + 3)};
}
FN_WORD void u16_store(uint16_t *p, u16_vec x) {
  __m128i *q = (__m128i *)p;
  _mm_storeu_si128(q, x.a);
  _mm_storeu_si128(q + 1, x.b);
  _mm_storeu_si128(q + 2, x.c);
  _mm_storeu_si128(q + 3, x.d);
}
FN_WORD void u16_stream(uint16_t *p, u16_vec x) {
  __m128i *q = (__m128i *)p;
  _mm_stream_si128(q, x.a);
  _mm_stream_si128(q + 1, x.b);
  _mm_stream_si128(q + 2, x.c);
  _mm_stream_si128(q + 3, x.d);
}
FN_WORD u8_vec u8_load(const uint8_t *p) {
  return (u8_vec){_mm256_loadu_si256((const __m256i *)p)};
}
FN_WORD void u8_store(uint8_t *p, u8_vec x) {
  _mm256_storeu_si256((__m256i *)p, x.v);
}
FN_WORD void u8_stream(uint8_t *p, u8_vec x) {
  _mm256_stream_si256((__m256i *)p, x.v);
}

/* There is no masked access to so small elements; the ends of arrays go by memory. */
#define FN_MAP(T, S)                                                                   \
  FN_WORD T##_vec T##_load_partial(const S *p, size_t n) {                             \
    S t[32] = {0};                                                                     \
    memcpy(t, p, n * sizeof(S));                                                       \
    return T##_load(t);                                                                \
  }                                                                                    \
  FN_WORD void T##_store_partial(S *p, size_t n, T##_vec x) {                          \
    S t[32];                                                                           \
    T##_store(t, x);                                                                   \
    memcpy(p, t, n * sizeof(S));                                                       \
  }
FN_MAP(u16, uint16_t)
FN_MAP(u8, uint8_t)
#undef FN_MAP

FN_WORD f32_vec f32_from_f16(u16_vec x) {
#define F(r) _mm256_cvtph_ps(x.r)
  return FN_EACH(f32, F);
#undef F
}
FN_WORD u16_vec f32_to_f16(f32_vec x) {
#define F(r) _mm256_cvtps_ph(x.r, _MM_FROUND_TO_NEAREST_INT)
  return FN_EACH(u16, F);
#undef F
}
FN_WORD f32_vec f32_from_bf16(u16_vec x) {
#define F(r) _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x.r), 16))
  return FN_EACH(f32, F);
#undef F
}
FN_WORD __m256i f32_upper_half(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd =
      _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_srli_epi32(
      _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
}
/* NaN as one that rounding leaves as it is: quiet, and the lower half 0. */
FN_WORD __m256 f32_roundable(__m256 x) {
  const __m256 upper = _mm256_castsi256_ps(_mm256_set1_epi32((int)0xffff0000)),
               quiet = _mm256_castsi256_ps(_mm256_set1_epi32(0x00400000));
  return _mm256_blendv_ps(x, _mm256_or_ps(_mm256_and_ps(x, upper), quiet),
                          _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}
FN_WORD u16_vec f32_to_bf16(f32_vec x) {
  /* Rounding would carry out of a NaN. One branch is less than three operations for
   * each register. */
  const __m256 nan = _mm256_or_ps(_mm256_cmp_ps(x.a, x.b, _CMP_UNORD_Q),
                                  _mm256_cmp_ps(x.c, x.d, _CMP_UNORD_Q));
  if (!FN_LIKELY(_mm256_movemask_ps(nan) == 0)) {
#define F(r) f32_roundable(x.r)
    x = FN_EACH(f32, F);
#undef F
  }
  /* Packing works on 128-bit halves: 0xD8 puts their quarters back in order. */
  const __m256i p = _mm256_permute4x64_epi64(
      _mm256_packus_epi32(f32_upper_half(x.a), f32_upper_half(x.b)), 0xD8);
  const __m256i q = _mm256_permute4x64_epi64(
      _mm256_packus_epi32(f32_upper_half(x.c), f32_upper_half(x.d)), 0xD8);
  return (u16_vec){_mm256_castsi256_si128(p), _mm256_extracti128_si256(p, 1),
                   _mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1)};
}
#define FN_MAP(T)                                                                      \
  FN_WORD f32_vec f32_from_##T##8(u8_vec x) {                                          \
    const __m128i p = _mm256_castsi256_si128(x.v),                                     \
                  q = _mm256_extracti128_si256(x.v, 1);                                \
    return (f32_vec){_mm256_cvtepi32_ps(FN_CVT(p)),                                    \
                     _mm256_cvtepi32_ps(FN_CVT(_mm_srli_si128(p, 8))),                 \
                     _mm256_cvtepi32_ps(FN_CVT(q)),                                    \
                     _mm256_cvtepi32_ps(FN_CVT(_mm_srli_si128(q, 8)))};                \
  }
#define FN_CVT(h) _mm256_cvtepu8_epi32(h)
FN_MAP(u)
#undef FN_CVT
#define FN_CVT(h) _mm256_cvtepi8_epi32(h)
FN_MAP(i)
#undef FN_CVT
#undef FN_MAP
FN_WORD u8_vec f32_to_bytes(f32_vec x, int more) {
  const __m256i low = _mm256_set1_epi32(0xff);
#define F(r) _mm256_and_si256(_mm256_castps_si256(x.r), low)
  const __m256i p = _mm256_packus_epi32(F(a), F(b)),
                q = _mm256_packus_epi32(F(c), F(d));
#undef F
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(p, q), order);
  return (u8_vec){_mm256_add_epi8(bytes, _mm256_set1_epi8((char)more))};
}
#undef FN_EACH
