/* simd/image_x86.h - words for images that AVX2 and AVX-512 share.
 * SPDX-License-Identifier: MIT
 *
 * Bytes are shuffled within 128-bit halves: each half takes 16 pixels of its own. */

/* Where bytes k, 3 + k, 6 + k, ... of 48 are, in three vectors of 16, for each k; -1
 * for those in another vector. */
static const int8_t split3_from[3][3][16] = {
    {{0, 3, 6, 9, 12, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
     {-1, -1, -1, -1, -1, -1, 2, 5, 8, 11, 14, -1, -1, -1, -1, -1},
     {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 1, 4, 7, 10, 13}},
    {{1, 4, 7, 10, 13, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
     {-1, -1, -1, -1, -1, 0, 3, 6, 9, 12, 15, -1, -1, -1, -1, -1},
     {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 2, 5, 8, 11, 14}},
    {{2, 5, 8, 11, 14, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
     {-1, -1, -1, -1, -1, 1, 4, 7, 10, 13, -1, -1, -1, -1, -1, -1},
     {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 3, 6, 9, 12, 15}}};

FN_WORD __m256i u8_halves(const uint8_t *low, const uint8_t *high) {
  const __m128i p = _mm_loadu_si128((const __m128i *)low);
  return _mm256_inserti128_si256(_mm256_castsi128_si256(p),
                                 _mm_loadu_si128((const __m128i *)high), 1);
}
FN_WORD __m256i u8_picked(__m256i x, const int8_t *from) {
  return _mm256_shuffle_epi8(
      x, _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)from)));
}
FN_WORD void u8_split3(const uint8_t *x, uint8_t *y, size_t pitch) {
  const __m256i p = u8_halves(x, x + 48), q = u8_halves(x + 16, x + 64),
                r = u8_halves(x + 32, x + 80);
  for (int k = 0; k < 3; k++)
    _mm256_storeu_si256(
        (__m256i *)(y + (size_t)k * pitch),
        _mm256_or_si256(_mm256_or_si256(u8_picked(p, split3_from[k][0]),
                                        u8_picked(q, split3_from[k][1])),
                        u8_picked(r, split3_from[k][2])));
}

/* 8 pixels: their first bytes, then their second ones, ..., each an element of 8. */
FN_WORD __m256i u8_gathered4(const uint8_t *x) {
  static const int8_t from[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  const __m256i p = u8_picked(_mm256_loadu_si256((const __m256i *)x), from);
  return _mm256_permutevar8x32_epi32(p, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
FN_WORD void u8_split4(const uint8_t *x, uint8_t *y, size_t pitch) {
  const __m256i p = u8_gathered4(x), q = u8_gathered4(x + 32), r = u8_gathered4(x + 64),
                s = u8_gathered4(x + 96);
  const __m256i even_low = _mm256_unpacklo_epi64(p, q),
                even_high = _mm256_unpacklo_epi64(r, s),
                odd_low = _mm256_unpackhi_epi64(p, q),
                odd_high = _mm256_unpackhi_epi64(r, s);
  const __m256i planes[4] = {_mm256_permute2x128_si256(even_low, even_high, 0x20),
                             _mm256_permute2x128_si256(odd_low, odd_high, 0x20),
                             _mm256_permute2x128_si256(even_low, even_high, 0x31),
                             _mm256_permute2x128_si256(odd_low, odd_high, 0x31)};
  for (int k = 0; k < 4; k++)
    _mm256_storeu_si256((__m256i *)(y + (size_t)k * pitch), planes[k]);
}
