/* range.h - where plain arithmetic in a dtype is accurate; outside, slow.c takes over.
 * SPDX-License-Identifier: MIT
 *
 * Squares: a sum of squares above SQ_MAX is near overflow; below VAR_MIN + eps so many
 * squares were subnormal that the sum lost bits (an element at 2^-24 of the deviation
 * still has a normal square, also with subnormals flushed to zero).
 * Scale: its product with x - mean neither overflows nor loses bits as a subnormal. */
#ifndef FN_RANGE_H
#define FN_RANGE_H

#define f32_SQ_MAX    0x1p120
#define f32_VAR_MIN   0x1p-75
#define f32_SCALE_MAX 0x1p60
#define f32_SCALE_MIN 0x1p-60
#define f32_MEAN_MAX  0x1p60
#define f64_SQ_MAX    0x1p1000
#define f64_VAR_MIN   0x1p-900
#define f64_SCALE_MAX 0x1p500
#define f64_SCALE_MIN 0x1p-500
#define f64_MEAN_MAX  0x1p500

#endif
