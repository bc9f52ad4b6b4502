/* simd/masks_neon.h - words for masks on AArch64 Advanced SIMD.
 * SPDX-License-Identifier: MIT */

FN_WORD f32_vec f32_keep(uint32_t bits, f32_vec x) {
  static const uint32_t lanes[4] = {1, 2, 4, 8};
  const uint32x4_t lane = vld1q_u32(lanes);
  f32_vec r;
  _Pragma("GCC unroll 8") for (int k = 0; k < 8; k++, bits >>= 4) {
    const uint32x4_t kept = vtstq_u32(vdupq_n_u32(bits), lane);
    r.v[k] = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x.v[k]), kept));
  }
  return r;
}
FN_WORD f64_vec f64_keep(uint32_t bits, f64_vec x) {
  static const uint64_t lanes[2] = {1, 2};
  const uint64x2_t lane = vld1q_u64(lanes);
  f64_vec r;
  _Pragma("GCC unroll 8") for (int k = 0; k < 8; k++, bits >>= 2) {
    const uint64x2_t kept = vtstq_u64(vdupq_n_u64(bits), lane);
    r.v[k] = vreinterpretq_f64_u64(vandq_u64(vreinterpretq_u64_f64(x.v[k]), kept));
  }
  return r;
}
FN_WORD size_t f32_pack(float *p, uint32_t bits, f32_vec x) {
  static const uint8_t bytes[16][16] = {FN_PACKED}, counts[16] = {FN_PACKED_COUNTS};
  size_t n = 0;
  _Pragma("GCC unroll 8") for (int k = 0; k < 8; k++, bits >>= 4) {
    const uint8x16_t order = vld1q_u8(bytes[bits & 15]);
    vst1q_f32(p + n,
              vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(x.v[k]), order)));
    n += counts[bits & 15];
  }
  return n;
}
FN_WORD size_t f64_pack(double *p, uint32_t bits, f64_vec x) {
  size_t n = 0;
  _Pragma("GCC unroll 8") for (int k = 0; k < 8; k++, bits >>= 2) {
    vst1q_f64(p + n, bits & 1 ? x.v[k] : vdupq_laneq_f64(x.v[k], 1));
    n += (bits & 1) + (bits >> 1 & 1);
  }
  return n;
}
FN_WORD uint32_t u8_nonzero(u8_vec x) {
  static const uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128,
                                  1, 2, 4, 8, 16, 32, 64, 128};
  const uint8x16_t bits = vld1q_u8(bit);
  uint32_t r = 0;
  _Pragma("GCC unroll 2") for (int k = 0; k < 2; k++) {
    const uint8x16_t v = vandq_u8(vtstq_u8(x.v[k], x.v[k]), bits);
    r |= (uint32_t)vaddv_u8(vget_low_u8(v)) << 16 * k;
    r |= (uint32_t)vaddv_u8(vget_high_u8(v)) << (16 * k + 8);
  }
  return r;
}
