/* simd/image_neon.h - words for images on Advanced SIMD.
 * SPDX-License-Identifier: MIT
 *
 * The words are described in simd/image_portable.h. */

FN_WORD f64_vec f32_low_wide(f32_vec x) {
  f64_vec r;
  _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++) {
    r.v[2 * k] = vcvt_f64_f32(vget_low_f32(x.v[k]));
    r.v[2 * k + 1] = vcvt_high_f64_f32(x.v[k]);
  }
  return r;
}
FN_WORD f64_vec f32_high_wide(f32_vec x) {
  f64_vec r;
  _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++) {
    r.v[2 * k] = vcvt_f64_f32(vget_low_f32(x.v[k + 4]));
    r.v[2 * k + 1] = vcvt_high_f64_f32(x.v[k + 4]);
  }
  return r;
}
FN_WORD f32_vec f32_from_wide(f64_vec x, f64_vec y) {
  f32_vec r;
  _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++) {
    r.v[k] = vcvt_high_f32_f64(vcvt_f32_f64(x.v[2 * k]), x.v[2 * k + 1]);
    r.v[k + 4] = vcvt_high_f32_f64(vcvt_f32_f64(y.v[2 * k]), y.v[2 * k + 1]);
  }
  return r;
}
FN_WORD void u8_split3(const uint8_t *x, uint8_t *y, size_t pitch) {
  for (size_t i = 0; i < 32; i += 16) {
    const uint8x16x3_t p = vld3q_u8(x + 3 * i);
    for (size_t k = 0; k < 3; k++)
      vst1q_u8(y + k * pitch + i, p.val[k]);
  }
}
FN_WORD void u8_split4(const uint8_t *x, uint8_t *y, size_t pitch) {
  for (size_t i = 0; i < 32; i += 16) {
    const uint8x16x4_t p = vld4q_u8(x + 4 * i);
    for (size_t k = 0; k < 4; k++)
      vst1q_u8(y + k * pitch + i, p.val[k]);
  }
}
