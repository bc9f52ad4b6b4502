/* simd/tables.h - numbers that the words of every instruction set share.
 * SPDX-License-Identifier: MIT */
#ifndef FN_TABLES_H
#define FN_TABLES_H

/* For pow2_eighths: the bits of 2^(j / 8) less j << 20, as its shift puts j there. */
#define FN_EIGHTHS                                                                     \
  0x3f800000, 0x3f7b95c2, 0x3f7837f0, 0x3f75fed7, 0x3f7504f3, 0x3f75672a, 0x3f7744fd,  \
      0x3f7ac0c7

#endif
