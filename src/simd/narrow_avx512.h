/* simd/narrow_avx512.h - words for 16-bit and 8-bit elements on AVX-512.
 * SPDX-License-Identifier: MIT */

/* 32 elements of two bytes, and of one. */
typedef struct {
  __m512i v;
} u16_vec;
typedef struct {
  __m256i v;
} u8_vec;

#define u16_mask(n) ((__mmask32)((UINT64_C(1) << (n)) - 1))
FN_WORD u16_vec u16_load(const uint16_t *p) {
  return (u16_vec){_mm512_loadu_si512(p)};
}
FN_WORD u16_vec u16_load_partial(const uint16_t *p, size_t n) {
  return (u16_vec){_mm512_maskz_loadu_epi16(u16_mask(n), p)};
}
FN_WORD void u16_store(uint16_t *p, u16_vec x) {
  _mm512_storeu_si512(p, x.v);
}
FN_WORD void u16_store_partial(uint16_t *p, size_t n, u16_vec x) {
  _mm512_mask_storeu_epi16(p, u16_mask(n), x.v);
}
FN_WORD void u16_stream(uint16_t *p, u16_vec x) {
  _mm512_stream_si512((__m512i *)(void *)p, x.v);
}
#define u8_mask(n) ((__mmask32)((UINT64_C(1) << (n)) - 1))
FN_WORD u8_vec u8_load(const uint8_t *p) {
  return (u8_vec){_mm256_loadu_si256((const __m256i *)p)};
}
FN_WORD u8_vec u8_load_partial(const uint8_t *p, size_t n) {
  return (u8_vec){_mm256_maskz_loadu_epi8(u8_mask(n), p)};
}
FN_WORD void u8_store(uint8_t *p, u8_vec x) {
  _mm256_storeu_si256((__m256i *)p, x.v);
}
FN_WORD void u8_store_partial(uint8_t *p, size_t n, u8_vec x) {
  _mm256_mask_storeu_epi8(p, u8_mask(n), x.v);
}
FN_WORD void u8_stream(uint8_t *p, u8_vec x) {
  _mm256_stream_si256((__m256i *)p, x.v);
}

FN_WORD f32_vec f32_from_f16(u16_vec x) {
  return (f32_vec){_mm512_cvtph_ps(_mm512_castsi512_si256(x.v)),
                   _mm512_cvtph_ps(_mm512_extracti64x4_epi64(x.v, 1))};
}
FN_WORD u16_vec f32_to_f16(f32_vec x) {
#define F(r) _mm512_cvtps_ph(x.r, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
  return (u16_vec){_mm512_inserti64x4(_mm512_castsi256_si512(F(a)), F(b), 1)};
#undef F
}
/* Word i of 0 1 2 ... as both halves of lane i: a word each way is one shuffle. */
FN_WORD __m512i u16_pairs(void) {
  return _mm512_mullo_epi32(
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
      _mm512_set1_epi32(0x10001));
}
FN_WORD f32_vec f32_from_bf16(u16_vec x) {
  const __m512i low = u16_pairs(), high = _mm512_or_si512(low, _mm512_set1_epi16(16));
#define F(i) _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xAAAAAAAA, i, x.v))
  return (f32_vec){F(low), F(high)};
#undef F
}
/* Rounded to nearest even at bit 16; NaN stays one. */
FN_WORD __m512i f32_rounded_to_upper_half(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd =
      _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up =
      _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  return _mm512_mask_or_epi32(up, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), bits,
                              _mm512_set1_epi32(0x400000));
}
FN_WORD u16_vec f32_to_bf16(f32_vec x) {
  const __m512i lane = _mm512_setr_epi32(
      0x30001, 0x70005, 0xb0009, 0xf000d, 0x130011, 0x170015, 0x1b0019, 0x1f001d,
      0x230021, 0x270025, 0x2b0029, 0x2f002d, 0x330031, 0x370035, 0x3b0039, 0x3f003d);
  return (u16_vec){_mm512_permutex2var_epi16(f32_rounded_to_upper_half(x.a), lane,
                                             f32_rounded_to_upper_half(x.b))};
}
FN_WORD f32_vec f32_from_u8(u8_vec x) {
  return (f32_vec){
      _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm256_castsi256_si128(x.v))),
      _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm256_extracti128_si256(x.v, 1)))};
}
FN_WORD f32_vec f32_from_i8(u8_vec x) {
  return (f32_vec){
      _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(x.v))),
      _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(x.v, 1)))};
}
FN_WORD u8_vec f32_to_bytes(f32_vec x, int more) {
  const __m128i low = _mm512_cvtepi32_epi8(_mm512_castps_si512(x.a));
  const __m128i high = _mm512_cvtepi32_epi8(_mm512_castps_si512(x.b));
  return (u8_vec){
      _mm256_add_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1),
                      _mm256_set1_epi8((char)more))};
}
#undef FN_BOTH
