/* simd/image_avx2.h - words for images on AVX2.
 * SPDX-License-Identifier: MIT
 *
 * The words are described in simd/image_portable.h. */
#include "image_x86.h"

FN_WORD __m256d f32_wide_half(__m256 x, bool high) {
  return _mm256_cvtps_pd(high ? _mm256_extractf128_ps(x, 1)
                              : _mm256_castps256_ps128(x));
}
FN_WORD f64_vec f32_low_wide(f32_vec x) {
  return (f64_vec){f32_wide_half(x.a, false), f32_wide_half(x.a, true),
                   f32_wide_half(x.b, false), f32_wide_half(x.b, true)};
}
FN_WORD f64_vec f32_high_wide(f32_vec x) {
  return (f64_vec){f32_wide_half(x.c, false), f32_wide_half(x.c, true),
                   f32_wide_half(x.d, false), f32_wide_half(x.d, true)};
}
FN_WORD __m256 f32_joined(__m256d low, __m256d high) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)),
                              _mm256_cvtpd_ps(high), 1);
}
FN_WORD f32_vec f32_from_wide(f64_vec x, f64_vec y) {
  return (f32_vec){f32_joined(x.a, x.b), f32_joined(x.c, x.d), f32_joined(y.a, y.b),
                   f32_joined(y.c, y.d)};
}
