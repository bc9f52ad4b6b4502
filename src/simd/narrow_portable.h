/* simd/narrow_portable.h - words for 16-bit and 8-bit elements, in plain C.
 * SPDX-License-Identifier: MIT
 *
 * On float only, with the 32 elements that go with its lanes: u16 or u8 by their size.
 *   u16_load u16_store u16_load_partial u16_store_partial u16_stream, the same for u8:
 *                             as in simd/portable.h; the lanes past n are 0
 *   from_f16 from_bf16 from_i8 from_u8   widened, which is exact; NaN keeps sign and
 *                             payload (a signaling NaN of f16 is made quiet)
 *   to_f16 to_bf16            rounded to nearest even; NaN is made quiet and keeps its
 *                             sign and the upper bits of its payload
 *   to_bytes(v, more)         the low byte of a lane's bits, plus more, modulo 256 */

/* 32 elements of two bytes, and of one. */
typedef struct {
  uint16_t v[32];
} u16_vec;
typedef struct {
  uint8_t v[32];
} u8_vec;

#define FN_MAP(T, S)                                                                   \
  FN_WORD T##_vec T##_load(const S *p) {                                               \
    T##_vec r;                                                                         \
    memcpy(r.v, p, sizeof r.v);                                                        \
    return r;                                                                          \
  }                                                                                    \
  FN_WORD T##_vec T##_load_partial(const S *p, size_t n) {                             \
    T##_vec r = {{0}};                                                                 \
    memcpy(r.v, p, n * sizeof(S));                                                     \
    return r;                                                                          \
  }                                                                                    \
  FN_WORD void T##_store(S *p, T##_vec x) {                                            \
    memcpy(p, x.v, sizeof x.v);                                                        \
  }                                                                                    \
  FN_WORD void T##_store_partial(S *p, size_t n, T##_vec x) {                          \
    memcpy(p, x.v, n * sizeof(S));                                                     \
  }                                                                                    \
  FN_WORD void T##_stream(S *p, T##_vec x) {                                           \
    T##_store(p, x);                                                                   \
  }
FN_MAP(u16, uint16_t)
FN_MAP(u8, uint8_t)
#undef FN_MAP

/* Exponent and mantissa move up by 13 bits, and the bias changes from 15 to 127; the
 * exponent of Inf and NaN by as much again. Subnormals are that many units. */
FN_WORD float f32_widened(uint16_t h) {
  const uint32_t a = h & 0x7fffu;
  const uint32_t shifted = (a << 13) + (112u << 23);
  const uint32_t special = (shifted + (112u << 23)) | (a > 0x7c00u ? 0x400000u : 0u);
  const uint32_t small = f32_bits((float)(int32_t)a * 0x1p-24f);
  const uint32_t r = a < 0x400u ? small : a < 0x7c00u ? shifted : special;
  return f32_of_bits(r | (h & 0x8000u) << 16);
}
/* The same backwards; the carry of rounding may go on into the exponent, up to Inf. One
 * half has a unit of 2^-24, that of a subnormal, so adding it rounds to those. NaN only
 * keeps what fits, and the quiet bit keeps it a NaN. */
FN_WORD uint16_t f32_narrowed(float x) {
  const uint32_t bits = f32_bits(x), a = bits & 0x7fffffffu;
  const uint32_t up = (a + 0xfffu + (a >> 13 & 1u) - (112u << 23)) >> 13;
  const uint32_t small = f32_bits(f32_of_bits(a) + 0.5f) - 0x3f000000u;
  const uint32_t nan = (a >> 13 & 0x3ffu) | 0x7e00u;
  const uint32_t large = a > 0x7f800000u ? nan : 0x7c00u;
  const uint32_t r = a < 0x38800000u ? small : a < 0x47800000u ? up : large;
  return (uint16_t)(r | (bits >> 16 & 0x8000u));
}
FN_WORD uint16_t f32_upper_half(float x) {
  const uint32_t bits = f32_bits(x);
  const uint32_t up = bits + 0x7fffu + (bits >> 16 & 1u);
  const uint32_t quiet = bits | 0x400000u;
  return (uint16_t)((x != x ? quiet : up) >> 16);
}

FN_WORD f32_vec f32_from_f16(u16_vec x) {
  f32_vec r;
  FN_LANES(f32_widened(x.v[i]));
}
FN_WORD u16_vec f32_to_f16(f32_vec x) {
  u16_vec r;
  FN_LANES(f32_narrowed(x.v[i]));
}
FN_WORD f32_vec f32_from_bf16(u16_vec x) {
  f32_vec r;
  FN_LANES(f32_of_bits((uint32_t)x.v[i] << 16));
}
FN_WORD u16_vec f32_to_bf16(f32_vec x) {
  u16_vec r;
  FN_LANES(f32_upper_half(x.v[i]));
}
FN_WORD f32_vec f32_from_u8(u8_vec x) {
  f32_vec r;
  FN_LANES((float)x.v[i]);
}
FN_WORD f32_vec f32_from_i8(u8_vec x) {
  f32_vec r;
  FN_LANES((float)(int8_t)x.v[i]);
}
FN_WORD u8_vec f32_to_bytes(f32_vec x, int more) {
  u8_vec r;
  FN_LANES((uint8_t)(f32_bits(x.v[i]) + (uint32_t)more));
}
#undef FN_LANES
