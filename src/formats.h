/* formats.h - the types of a call, and what is done to elements on their way.
 * SPDX-License-Identifier: MIT */
#ifndef FN_FORMATS_H
#define FN_FORMATS_H

#include "fastnorm.h"
#include "kernels.h"
#include "stage.h"

typedef struct fn_formats {
  fastnorm_dtype working; /* FLOAT32 or FLOAT64 */
  fastnorm_dtype x, y, params, post_add;
  fn_source source; /* only to be used if `gathers` */
  fn_sink sink;     /* only to be used if `scatters` */
  bool gathers, scatters;
} fn_formats;

/* Checks and completes them; the kernels of source and sink are set by the caller. */
fastnorm_status fn_formats_read(fastnorm_dtype dtype, const fastnorm_format *format,
                                const fastnorm_epilogue *epilogue, fn_formats *f);

/* The type of an array that goes beside x: `given`, or if that is 0 what x has, and
 * float32 for 8-bit x. False if it is none, or cannot go with the working type. */
bool fn_companion_dtype(const fn_formats *f, fastnorm_dtype given,
                        fastnorm_dtype *dtype);

#endif
