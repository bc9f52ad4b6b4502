/* simd/narrow_neon.h - words for 16-bit and 8-bit elements on AArch64 Advanced SIMD.
 * SPDX-License-Identifier: MIT */

/* 32 elements of two bytes, and of one: as many as a f32_vec has lanes. */
typedef struct {
  uint16x4_t v[8];
} u16_vec;
typedef struct {
  uint8x16_t v[2];
} u8_vec;

FN_WORD u16_vec u16_load(const uint16_t *p) {
  u16_vec r;
  FN_EACH(vld1_u16(p + 4 * k));
}
FN_WORD void u16_store(uint16_t *p, u16_vec x) {
  _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++)
      vst1q_u16(p + 8 * k, vcombine_u16(x.v[2 * k], x.v[2 * k + 1]));
}
FN_WORD u8_vec u8_load(const uint8_t *p) {
  return (u8_vec){{vld1q_u8(p), vld1q_u8(p + 16)}};
}
FN_WORD void u8_store(uint8_t *p, u8_vec x) {
  vst1q_u8(p, x.v[0]);
  vst1q_u8(p + 16, x.v[1]);
}
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
  }                                                                                    \
  FN_WORD void T##_stream(S *p, T##_vec x) {                                           \
    T##_store(p, x);                                                                   \
  }
FN_MAP(u16, uint16_t)
FN_MAP(u8, uint8_t)
#undef FN_MAP

FN_WORD f32_vec f32_from_f16(u16_vec x) {
  f32_vec r;
  FN_EACH(vcvt_f32_f16(vreinterpret_f16_u16(x.v[k])));
}
FN_WORD u16_vec f32_to_f16(f32_vec x) {
  u16_vec r;
  FN_EACH(vreinterpret_u16_f16(vcvt_f16_f32(x.v[k])));
}
FN_WORD f32_vec f32_from_bf16(u16_vec x) {
  f32_vec r;
  FN_EACH(vreinterpretq_f32_u32(vshll_n_u16(x.v[k], 16)));
}
FN_WORD uint16x4_t f32_upper_half(float32x4_t x) {
  const uint32x4_t bits = vreinterpretq_u32_f32(x);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t up = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
  return vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), up, quiet), 16);
}
FN_WORD u16_vec f32_to_bf16(f32_vec x) {
  u16_vec r;
  FN_EACH(f32_upper_half(x.v[k]));
}
FN_WORD f32_vec f32_from_u8(u8_vec x) {
  f32_vec r;
  _Pragma("GCC unroll 2") for (int k = 0; k < 2; k++) {
    const uint16x8_t p = vmovl_u8(vget_low_u8(x.v[k])), q = vmovl_high_u8(x.v[k]);
    r.v[4 * k] = vcvtq_f32_u32(vmovl_u16(vget_low_u16(p)));
    r.v[4 * k + 1] = vcvtq_f32_u32(vmovl_high_u16(p));
    r.v[4 * k + 2] = vcvtq_f32_u32(vmovl_u16(vget_low_u16(q)));
    r.v[4 * k + 3] = vcvtq_f32_u32(vmovl_high_u16(q));
  }
  return r;
}
FN_WORD f32_vec f32_from_i8(u8_vec x) {
  f32_vec r;
  _Pragma("GCC unroll 2") for (int k = 0; k < 2; k++) {
    const int8x16_t v = vreinterpretq_s8_u8(x.v[k]);
    const int16x8_t p = vmovl_s8(vget_low_s8(v)), q = vmovl_high_s8(v);
    r.v[4 * k] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(p)));
    r.v[4 * k + 1] = vcvtq_f32_s32(vmovl_high_s16(p));
    r.v[4 * k + 2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(q)));
    r.v[4 * k + 3] = vcvtq_f32_s32(vmovl_high_s16(q));
  }
  return r;
}
FN_WORD u8_vec f32_to_bytes(f32_vec x, int more) {
  const uint8x16_t add = vdupq_n_u8((uint8_t)more);
  u8_vec r;
  _Pragma("GCC unroll 2") for (int k = 0; k < 2; k++) {
    uint16x8_t h[2];
    _Pragma("GCC unroll 2") for (int i = 0; i < 2; i++) {
      const float32x4_t *p = x.v + 4 * k + 2 * i;
      h[i] = vcombine_u16(vmovn_u32(vreinterpretq_u32_f32(p[0])),
                          vmovn_u32(vreinterpretq_u32_f32(p[1])));
    }
    r.v[k] = vaddq_u8(vcombine_u8(vmovn_u16(h[0]), vmovn_u16(h[1])), add);
  }
  return r;
}
#undef FN_EACH
