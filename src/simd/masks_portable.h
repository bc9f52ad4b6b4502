/* simd/masks_portable.h - words for masks in plain C: the definition of every one.
 * SPDX-License-Identifier: MIT
 *
 * Bit i of `bits` is that of lane i.
 *
 *   keep(bits, v)       the lanes whose bit is set, 0 in the others
 *   pack(p, bits, v)    the lanes whose bit is set, side by side at p; how many they
 *                       are. The rest of a vec from p on may be written too
 *   u8_nonzero(v)       a bit for each of 32 lanes: is it not 0 */

#define FN_MAP(T, S)                                                                   \
  FN_WORD size_t T##_pack(S *p, uint32_t bits, T##_vec x) {                            \
    size_t n = 0;                                                                      \
    for (size_t i = 0; i < 2 * T##_HALF; i++, bits >>= 1) {                            \
      p[n] = x.v[i];                                                                   \
      n += bits & 1;                                                                   \
    }                                                                                  \
    return n;                                                                          \
  }                                                                                    \
  FN_WORD T##_vec T##_keep(uint32_t bits, T##_vec x) {                                 \
    T##_vec r;                                                                         \
    for (size_t i = 0; i < 2 * T##_HALF; i++)                                          \
      r.v[i] = bits >> i & 1 ? x.v[i] : 0;                                             \
    return r;                                                                          \
  }
FN_MAP(f32, float)
FN_MAP(f64, double)
#undef FN_MAP

FN_WORD uint32_t u8_nonzero(u8_vec x) {
  uint32_t r = 0;
  for (size_t i = 0; i < 32; i++)
    r |= (uint32_t)(x.v[i] != 0) << i;
  return r;
}
