/* simd/image_portable.h - words for images in plain C: the definition of every one.
 * SPDX-License-Identifier: MIT
 *
 *   f32_low_wide(x) f32_high_wide(x)  lanes 0 to 15, and 16 to 31, as doubles
 *   f32_from_wide(x, y)               the other way, each rounded
 *   u8_split3(x, y, pitch)            x is 32 pixels of 3 bytes; byte k of pixel i goes
 *                                     to y[k * pitch + i]
 *   u8_split4(x, y, pitch)            the same for 4 bytes */

FN_WORD f64_vec f32_low_wide(f32_vec x) {
  f64_vec r;
  for (int i = 0; i < 16; i++)
    r.v[i] = (double)x.v[i];
  return r;
}
FN_WORD f64_vec f32_high_wide(f32_vec x) {
  f64_vec r;
  for (int i = 0; i < 16; i++)
    r.v[i] = (double)x.v[i + 16];
  return r;
}
FN_WORD f32_vec f32_from_wide(f64_vec x, f64_vec y) {
  f32_vec r;
  for (int i = 0; i < 16; i++) {
    r.v[i] = (float)x.v[i];
    r.v[i + 16] = (float)y.v[i];
  }
  return r;
}
FN_WORD void u8_split3(const uint8_t *x, uint8_t *y, size_t pitch) {
  for (size_t i = 0; i < 32; i++)
    for (size_t k = 0; k < 3; k++)
      y[k * pitch + i] = x[3 * i + k];
}
FN_WORD void u8_split4(const uint8_t *x, uint8_t *y, size_t pitch) {
  for (size_t i = 0; i < 32; i++)
    for (size_t k = 0; k < 4; k++)
      y[k * pitch + i] = x[4 * i + k];
}
