/* simd/tables.h - numbers that the words of every instruction set share.
 * SPDX-License-Identifier: MIT */
#ifndef FN_TABLES_H
#define FN_TABLES_H

/* For pow2_eighths: the bits of 2^(j / 8) less j << 20, as its shift puts j there. */
#define FN_EIGHTHS                                                                     \
  0x3f800000, 0x3f7b95c2, 0x3f7837f0, 0x3f75fed7, 0x3f7504f3, 0x3f75672a, 0x3f7744fd,  \
      0x3f7ac0c7

/* For pack: which bytes of four words of four bytes remain, side by side, for each
 * pattern of bits; and how many words these are. */
#define FN_FOUR_BYTES(i) 4 * (i), 4 * (i) + 1, 4 * (i) + 2, 4 * (i) + 3
#define FN_FOUR_WORDS(i, j, k, l)                                                      \
  { FN_FOUR_BYTES(i), FN_FOUR_BYTES(j), FN_FOUR_BYTES(k), FN_FOUR_BYTES(l) }
#define FN_PACKED                                                                      \
  FN_FOUR_WORDS(0, 0, 0, 0), FN_FOUR_WORDS(0, 0, 0, 0), FN_FOUR_WORDS(1, 0, 0, 0),     \
      FN_FOUR_WORDS(0, 1, 0, 0), FN_FOUR_WORDS(2, 0, 0, 0), FN_FOUR_WORDS(0, 2, 0, 0), \
      FN_FOUR_WORDS(1, 2, 0, 0), FN_FOUR_WORDS(0, 1, 2, 0), FN_FOUR_WORDS(3, 0, 0, 0), \
      FN_FOUR_WORDS(0, 3, 0, 0), FN_FOUR_WORDS(1, 3, 0, 0), FN_FOUR_WORDS(0, 1, 3, 0), \
      FN_FOUR_WORDS(2, 3, 0, 0), FN_FOUR_WORDS(0, 2, 3, 0), FN_FOUR_WORDS(1, 2, 3, 0), \
      FN_FOUR_WORDS(0, 1, 2, 3)
#define FN_PACKED_COUNTS 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4

#endif
