/* simd/image_avx512.h - words for images on AVX-512.
 * SPDX-License-Identifier: MIT
 *
 * The words are described in simd/image_portable.h. */
#include "image_x86.h"

FN_WORD f64_vec f32_wide_halves(__m512 x) {
  return (f64_vec){_mm512_cvtps_pd(_mm512_castps512_ps256(x)),
                   _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1))};
}
FN_WORD f64_vec f32_low_wide(f32_vec x) {
  return f32_wide_halves(x.a);
}
FN_WORD f64_vec f32_high_wide(f32_vec x) {
  return f32_wide_halves(x.b);
}
FN_WORD __m512 f32_joined(f64_vec x) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(x.a)),
                            _mm512_cvtpd_ps(x.b), 1);
}
FN_WORD f32_vec f32_from_wide(f64_vec x, f64_vec y) {
  return (f32_vec){f32_joined(x), f32_joined(y)};
}
