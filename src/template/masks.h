/* template/masks.h - patterns of bits: from bytes, and what they leave of elements.
 * SPDX-License-Identifier: MIT */

FN_WORD uint32_t FN_KERNEL(mark)(const unsigned char *bytes, size_t n) {
  return u8_nonzero(n >= 32 ? u8_load(bytes) : u8_load_partial(bytes, n));
}

static uint64_t FN_KERNEL(marks)(const unsigned char *bytes, size_t n) {
  const uint64_t low = FN_KERNEL(mark)(bytes, n);
  return n <= 32 ? low : low | (uint64_t)FN_KERNEL(mark)(bytes + 32, n - 32) << 32;
}

static size_t FN_KERNEL(count)(const unsigned char *bytes, size_t n) {
  size_t count = 0;
  for (size_t i = 0; i < n; i += 32)
    count += fn_count_bits(FN_KERNEL(mark)(bytes + i, n - i));
  return count;
}

static size_t FN_KERNEL(pack)(const void *v, size_t n, uint64_t bits, void *out) {
  T *y = (T *)out;
  size_t count = 0;
  for (size_t i = 0; i < n; i += FN_VEC, bits >>= FN_VEC) {
    const size_t m = n - i < FN_VEC ? n - i : FN_VEC;
    count +=
        V(pack)(y + count, (uint32_t)bits, FN_KERNEL(fetch)(FASTNORM_DEFAULT, v, i, m));
  }
  return count;
}

static void FN_KERNEL(clear)(const void *v, size_t n, uint64_t bits, void *y) {
  for (size_t i = 0; i < n; i += FN_VEC, bits >>= FN_VEC) {
    const size_t m = n - i < FN_VEC ? n - i : FN_VEC;
    const vec some = FN_KERNEL(fetch)(FASTNORM_DEFAULT, v, i, m);
    FN_KERNEL(put)
    (FASTNORM_DEFAULT, y, i, m, V(keep)((uint32_t)bits, some), NULL, false);
  }
}
