/* simd/masks_avx2.h - words for masks on AVX2.
 * SPDX-License-Identifier: MIT */

/* All bits of the lanes whose bit is set. */
FN_WORD __m256 f32_spread(uint32_t bits) {
  const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i v = _mm256_and_si256(_mm256_set1_epi32((int)bits), lane);
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(v, lane));
}
FN_WORD __m256d f64_spread(uint32_t bits) {
  const __m256i lane = _mm256_setr_epi64x(1, 2, 4, 8);
  const __m256i v = _mm256_and_si256(_mm256_set1_epi64x(bits), lane);
  return _mm256_castsi256_pd(_mm256_cmpeq_epi64(v, lane));
}
FN_WORD f32_vec f32_keep(uint32_t bits, f32_vec x) {
  return (f32_vec){_mm256_and_ps(x.a, f32_spread(bits)),
                   _mm256_and_ps(x.b, f32_spread(bits >> 8)),
                   _mm256_and_ps(x.c, f32_spread(bits >> 16)),
                   _mm256_and_ps(x.d, f32_spread(bits >> 24))};
}
FN_WORD f64_vec f64_keep(uint32_t bits, f64_vec x) {
  return (f64_vec){_mm256_and_pd(x.a, f64_spread(bits)),
                   _mm256_and_pd(x.b, f64_spread(bits >> 4)),
                   _mm256_and_pd(x.c, f64_spread(bits >> 8)),
                   _mm256_and_pd(x.d, f64_spread(bits >> 12))};
}
/* Four floats, or two doubles, of a register at a time. */
FN_WORD size_t f32_pack_four(float *p, uint32_t bits, __m128 x) {
  static const uint8_t bytes[16][16] = {FN_PACKED}, counts[16] = {FN_PACKED_COUNTS};
  const __m128i order = _mm_loadu_si128((const __m128i *)(const void *)bytes[bits]);
  _mm_storeu_ps(p, _mm_castsi128_ps(_mm_shuffle_epi8(_mm_castps_si128(x), order)));
  return counts[bits];
}
FN_WORD size_t f32_pack_register(float *p, uint32_t bits, __m256 x) {
  const size_t n = f32_pack_four(p, bits & 15, _mm256_castps256_ps128(x));
  return n + f32_pack_four(p + n, bits >> 4 & 15, _mm256_extractf128_ps(x, 1));
}
FN_WORD size_t f32_pack(float *p, uint32_t bits, f32_vec x) {
  size_t n = f32_pack_register(p, bits, x.a);
  n += f32_pack_register(p + n, bits >> 8, x.b);
  n += f32_pack_register(p + n, bits >> 16, x.c);
  return n + f32_pack_register(p + n, bits >> 24, x.d);
}
FN_WORD size_t f64_pack_two(double *p, uint32_t bits, __m128d x) {
  const __m128d upper = _mm_unpackhi_pd(x, x);
  _mm_storeu_pd(p, bits & 1 ? x : upper);
  return (bits & 1) + (bits >> 1 & 1);
}
FN_WORD size_t f64_pack_register(double *p, uint32_t bits, __m256d x) {
  const size_t n = f64_pack_two(p, bits, _mm256_castpd256_pd128(x));
  return n + f64_pack_two(p + n, bits >> 2, _mm256_extractf128_pd(x, 1));
}
FN_WORD size_t f64_pack(double *p, uint32_t bits, f64_vec x) {
  size_t n = f64_pack_register(p, bits, x.a);
  n += f64_pack_register(p + n, bits >> 4, x.b);
  n += f64_pack_register(p + n, bits >> 8, x.c);
  return n + f64_pack_register(p + n, bits >> 12, x.d);
}

FN_WORD uint32_t u8_nonzero(u8_vec x) {
  return ~(uint32_t)_mm256_movemask_epi8(
      _mm256_cmpeq_epi8(x.v, _mm256_setzero_si256()));
}
