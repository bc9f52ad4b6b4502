/* simd/neon.h - the vector vocabulary on AArch64 Advanced SIMD.
 * SPDX-License-Identifier: MIT
 *
 * A vec is eight registers in the order of the lanes. The words are described in
 * simd/portable.h; the loops over registers have constant bounds and are unrolled. */

#include "tables.h"

typedef struct {
  float32x4_t v[8];
} f32_vec;
typedef struct {
  float64x2_t v[8];
} f64_vec;

#define FN_EACH(expression)                                                            \
  _Pragma("GCC unroll 8") for (int k = 0; k < 8; k++) r.v[k] = (expression);           \
  return r

#define FN_MAP(T, R, S)                                                                \
  FN_WORD T##_vec T##_splat(S x) {                                                     \
    T##_vec r;                                                                         \
    FN_EACH(vdupq_n_##R(x));                                                           \
  }                                                                                    \
  FN_WORD T##_vec T##_load(const S *p) {                                               \
    T##_vec r;                                                                         \
    FN_EACH(vld1q_##R(p + k * T##_REG));                                               \
  }                                                                                    \
  FN_WORD void T##_store(S *p, T##_vec x) {                                            \
    _Pragma("GCC unroll 8") for (int k = 0; k < 8; k++)                                \
        vst1q_##R(p + k * T##_REG, x.v[k]);                                            \
  }                                                                                    \
  FN_WORD T##_vec T##_load_partial_or(const S *p, size_t n, T##_vec f) {               \
    S t[8 * T##_REG];                                                                  \
    T##_store(t, f);                                                                   \
    memcpy(t, p, n * sizeof(S));                                                       \
    return T##_load(t);                                                                \
  }                                                                                    \
  FN_WORD void T##_store_partial(S *p, size_t n, T##_vec x) {                          \
    S t[8 * T##_REG];                                                                  \
    T##_store(t, x);                                                                   \
    memcpy(p, t, n * sizeof(S));                                                       \
  }                                                                                    \
  FN_WORD void T##_stream(S *p, T##_vec x) {                                           \
    T##_store(p, x);                                                                   \
  }                                                                                    \
  FN_WORD T##_vec T##_splat2(S x, S y) {                                               \
    T##_vec r;                                                                         \
    FN_EACH(vdupq_n_##R(k < 4 ? x : y));                                               \
  }                                                                                    \
  FN_WORD T##_vec T##_load2_or(const S *p, const S *q, size_t n, T##_vec f) {          \
    S t[8 * T##_REG];                                                                  \
    T##_store(t, f);                                                                   \
    memcpy(t, p, n * sizeof(S));                                                       \
    memcpy(t + T##_HALF, q, n * sizeof(S));                                            \
    return T##_load(t);                                                                \
  }                                                                                    \
  FN_WORD void T##_store2(S *p, S *q, size_t n, T##_vec x) {                           \
    S t[8 * T##_REG];                                                                  \
    T##_store(t, x);                                                                   \
    memcpy(p, t, n * sizeof(S));                                                       \
    memcpy(q, t + T##_HALF, n * sizeof(S));                                            \
  }                                                                                    \
  FN_WORD T##_vec T##_add(T##_vec x, T##_vec y) {                                      \
    T##_vec r;                                                                         \
    FN_EACH(vaddq_##R(x.v[k], y.v[k]));                                                \
  }                                                                                    \
  FN_WORD T##_vec T##_sub(T##_vec x, T##_vec y) {                                      \
    T##_vec r;                                                                         \
    FN_EACH(vsubq_##R(x.v[k], y.v[k]));                                                \
  }                                                                                    \
  FN_WORD T##_vec T##_mul(T##_vec x, T##_vec y) {                                      \
    T##_vec r;                                                                         \
    FN_EACH(vmulq_##R(x.v[k], y.v[k]));                                                \
  }                                                                                    \
  FN_WORD T##_vec T##_fma(T##_vec x, T##_vec y, T##_vec z) {                           \
    T##_vec r;                                                                         \
    FN_EACH(vfmaq_##R(z.v[k], x.v[k], y.v[k]));                                        \
  }                                                                                    \
  FN_WORD void T##_store_folded(S *p, T##_vec x) {                                     \
    _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++)                                \
        vst1q_##R(p + k * T##_REG, vaddq_##R(x.v[k], x.v[k + 4]));                     \
  }                                                                                    \
  /* A slot folded to one register. */                                                 \
  FN_WORD T##_reg T##_fold(const S *p) {                                               \
    const T##_reg x = vaddq_##R(vld1q_##R(p), vld1q_##R(p + 2 * T##_REG));             \
    const T##_reg y = vaddq_##R(vld1q_##R(p + T##_REG), vld1q_##R(p + 3 * T##_REG));   \
    return vaddq_##R(x, y);                                                            \
  }

#define f32_HALF 16
#define f64_HALF 8
#define f32_REG  4
#define f64_REG  2
typedef float32x4_t f32_reg;
typedef float64x2_t f64_reg;
FN_MAP(f32, f32, float)
FN_MAP(f64, f64, double)
#undef FN_MAP

/* Two registers of four lanes: lanes 0 and 1 plus lanes 2 and 3 of each. */
FN_WORD float32x4_t f32_fold2(float32x4_t x, float32x4_t y) {
  const float64x2_t p = vreinterpretq_f64_f32(x), q = vreinterpretq_f64_f32(y);
  return vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(p, q)),
                   vreinterpretq_f32_f64(vzip2q_f64(p, q)));
}
FN_WORD float f32_hsum(const float *p) {
  const float32x4_t x = f32_fold(p), y = f32_fold2(x, x);
  return vgetq_lane_f32(y, 0) + vgetq_lane_f32(y, 1);
}
FN_WORD double f64_hsum(const double *p) {
  const float64x2_t x = f64_fold(p);
  return vgetq_lane_f64(x, 0) + vgetq_lane_f64(x, 1);
}
FN_WORD void f32_reduce16(const float (*s)[16], float *out) {
  for (int h = 0; h < 16; h += 4) {
    const float32x4_t x = f32_fold2(f32_fold(s[h]), f32_fold(s[h + 1]));
    const float32x4_t y = f32_fold2(f32_fold(s[h + 2]), f32_fold(s[h + 3]));
    vst1q_f32(out + h, vaddq_f32(vuzp1q_f32(x, y), vuzp2q_f32(x, y)));
  }
}
FN_WORD void f64_reduce16(const double (*s)[8], double *out) {
  for (int h = 0; h < 16; h += 2) {
    const float64x2_t x = f64_fold(s[h]), y = f64_fold(s[h + 1]);
    vst1q_f64(out + h, vaddq_f64(vzip1q_f64(x, y), vzip2q_f64(x, y)));
  }
}

FN_WORD f64_vec f64_fnma(f64_vec x, f64_vec y, f64_vec z) {
  f64_vec r;
  FN_EACH(vfmsq_f64(z.v[k], x.v[k], y.v[k]));
}
FN_WORD f64_vec f64_div(f64_vec x, f64_vec y) {
  f64_vec r;
  FN_EACH(vdivq_f64(x.v[k], y.v[k]));
}
FN_WORD f64_vec f64_sqrt(f64_vec x) {
  f64_vec r;
  FN_EACH(vsqrtq_f64(x.v[k]));
}
FN_WORD f64_vec f64_inverse(f64_vec x) {
  f64_vec r;
  const float64x2_t one = vdupq_n_f64(1.0), zero = vdupq_n_f64(0.0);
  FN_EACH(vbslq_f64(vceqq_f64(x.v[k], zero), zero, vdivq_f64(one, x.v[k])));
}
FN_WORD f64_vec f64_max_zero(f64_vec x) { /* not fmax: the sign of a zero is kept */
  f64_vec r;
  const float64x2_t zero = vdupq_n_f64(0.0);
  FN_EACH(vbslq_f64(vcltq_f64(x.v[k], zero), zero, x.v[k]));
}
FN_WORD f64_vec f64_abs(f64_vec x) {
  f64_vec r;
  FN_EACH(vabsq_f64(x.v[k]));
}
FN_WORD bool f64_all_le(f64_vec x, f64_vec y) {
  uint64x2_t all = vdupq_n_u64(UINT64_MAX);
  for (int k = 0; k < 8; k++)
    all = vandq_u64(all, vcleq_f64(x.v[k], y.v[k]));
  return (vgetq_lane_u64(all, 0) & vgetq_lane_u64(all, 1)) != 0;
}

FN_WORD f64_vec f32_load_wide(const float *p) {
  f64_vec r;
  FN_EACH(vcvt_f64_f32(vld1_f32(p + 2 * k)));
}
FN_WORD void f32_store_narrow(float *p, f64_vec x) {
  for (int k = 0; k < 8; k++)
    vst1_f32(p + 2 * k, vcvt_f32_f64(x.v[k]));
}
FN_WORD f64_vec f32_round(f64_vec x) {
  f64_vec r;
  FN_EACH(vcvt_f64_f32(vcvt_f32_f64(x.v[k])));
}
FN_WORD void f32_add_wide(double *p, f32_vec x) {
  for (int k = 0; k < 8; k++, p += 4) {
    vst1q_f64(p, vaddq_f64(vld1q_f64(p), vcvt_f64_f32(vget_low_f32(x.v[k]))));
    vst1q_f64(p + 2, vaddq_f64(vld1q_f64(p + 2), vcvt_high_f64_f32(x.v[k])));
  }
}
FN_WORD void stream_end(void) {}

FN_WORD f32_vec f32_div(f32_vec x, f32_vec y) {
  f32_vec r;
  FN_EACH(vdivq_f32(x.v[k], y.v[k]));
}
FN_WORD f32_vec f32_abs(f32_vec x) {
  f32_vec r;
  FN_EACH(vabsq_f32(x.v[k]));
}
FN_WORD f32_vec f32_pow2(f32_vec x) {
  f32_vec r;
  FN_EACH(vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(x.v[k]), 23)));
}
FN_WORD f64_vec f64_pow2(f64_vec x) {
  f64_vec r;
  FN_EACH(vreinterpretq_f64_u64(vshlq_n_u64(vreinterpretq_u64_f64(x.v[k]), 52)));
}
/* The indices of the four bytes of lane j of a table: 4 * j + 0, 1, 2, 3. */
FN_WORD uint8x16_t f32_bytes_of_lane(uint32x4_t bits, uint32_t lanes) {
  const uint32x4_t j = vandq_u32(bits, vdupq_n_u32(lanes));
  return vreinterpretq_u8_u32(
      vmlaq_u32(vdupq_n_u32(0x03020100), j, vdupq_n_u32(0x04040404)));
}
FN_WORD float32x4_t f32_pow2_eighths_of(float32x4_t x) {
  static const uint32_t eighths[] = {FN_EIGHTHS};
  const uint8x16x2_t table = {{vreinterpretq_u8_u32(vld1q_u32(eighths)),
                               vreinterpretq_u8_u32(vld1q_u32(eighths + 4))}};
  const uint32x4_t bits = vreinterpretq_u32_f32(x);
  const uint8x16_t found = vqtbl2q_u8(table, f32_bytes_of_lane(bits, 7));
  return vreinterpretq_f32_u32(
      vaddq_u32(vreinterpretq_u32_u8(found), vshlq_n_u32(bits, 20)));
}
FN_WORD f32_vec f32_pow2_eighths(f32_vec x) {
  f32_vec r;
  FN_EACH(f32_pow2_eighths_of(x.v[k]));
}
FN_WORD float32x4_t f32_lookup_of(uint8x16x4_t table, float32x4_t x) {
  return vreinterpretq_f32_u8(
      vqtbl4q_u8(table, f32_bytes_of_lane(vreinterpretq_u32_f32(x), 15)));
}
FN_WORD f32_vec f32_lookup(const float *table, f32_vec x) {
  uint8x16x4_t t;
  f32_vec r;
  for (int k = 0; k < 4; k++)
    t.val[k] = vreinterpretq_u8_f32(vld1q_f32(table + 4 * k));
  FN_EACH(f32_lookup_of(t, x.v[k]));
}
FN_WORD f32_vec f32_max_magnitude(f32_vec x, f32_vec y) {
  f32_vec r;
  FN_EACH(vreinterpretq_f32_u32(vmaxq_u32(vreinterpretq_u32_f32(x.v[k]),
                                          vreinterpretq_u32_f32(vabsq_f32(y.v[k])))));
}
FN_WORD f64_vec f64_max_magnitude(f64_vec x, f64_vec y) {
  const f64_vec z = f64_abs(y);
  f64_vec r;
  FN_EACH(
      vbslq_f64(vcgtq_u64(vreinterpretq_u64_f64(z.v[k]), vreinterpretq_u64_f64(x.v[k])),
                z.v[k], x.v[k]));
}

/* By comparison and choice: fmax and fmin treat NaN in another way. */
#define FN_MAP(T, R)                                                                   \
  FN_WORD T##_vec T##_max(T##_vec x, T##_vec y) {                                      \
    T##_vec r;                                                                         \
    FN_EACH(vbslq_##R(vcgtq_##R(x.v[k], y.v[k]), x.v[k], y.v[k]));                     \
  }                                                                                    \
  FN_WORD T##_vec T##_min(T##_vec x, T##_vec y) {                                      \
    T##_vec r;                                                                         \
    FN_EACH(vbslq_##R(vcltq_##R(x.v[k], y.v[k]), x.v[k], y.v[k]));                     \
  }                                                                                    \
  FN_WORD T##_vec T##_select_le(T##_vec x, T##_vec y, T##_vec yes, T##_vec no) {       \
    T##_vec r;                                                                         \
    FN_EACH(vbslq_##R(vcleq_##R(x.v[k], y.v[k]), yes.v[k], no.v[k]));                  \
  }
FN_MAP(f32, f32)
FN_MAP(f64, f64)
#undef FN_MAP
