/* range.h - where plain arithmetic in a dtype is accurate; outside, slow.c takes over.
 * SPDX-License-Identifier: MIT
 *
 * Squares: a sum of squares above SQ_MAX is near overflow; below VAR_MIN + eps so many
 * squares were subnormal that the sum lost bits (an element at 2^-24 of the deviation
 * still has a normal square, also with subnormals flushed to zero).
 * Scale: its product with x - mean neither overflows nor loses bits as a subnormal.
 * Products, of differences d and normalised t: a sum of them above PRODUCTS_MAX is near
 * overflow, here or as a factor. Below PRODUCTS_MIN per element they may have been
 * subnormal, unless some d is at least D_MIN: as t has the size of 1 and less, what is
 * lost is nothing beside it. Columns: a few sums of up to COLUMN_MAX may be added in
 * double. */
#ifndef FN_RANGE_H
#define FN_RANGE_H

#define f32_SQ_MAX       0x1p120
#define f32_VAR_MIN      0x1p-75
#define f32_SCALE_MAX    0x1p60
#define f32_SCALE_MIN    0x1p-60
#define f32_MEAN_MAX     0x1p60
#define f32_PRODUCTS_MAX 0x1p100
#define f32_PRODUCTS_MIN 0x1p-90
#define f32_D_MIN        0x1p-60
#define f32_COLUMN_MAX   0x1p120
#define f64_SQ_MAX       0x1p1000
#define f64_VAR_MIN      0x1p-900
#define f64_SCALE_MAX    0x1p500
#define f64_SCALE_MIN    0x1p-500
#define f64_MEAN_MAX     0x1p500
#define f64_PRODUCTS_MAX 0x1p900
#define f64_PRODUCTS_MIN 0x1p-900
#define f64_D_MIN        0x1p-800
#define f64_COLUMN_MAX   0x1p960

#endif
