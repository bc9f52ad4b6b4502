/* check.h - arguments: read, checked, and described before anything is written.
 * SPDX-License-Identifier: MIT */
#ifndef FN_CHECK_H
#define FN_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "fastnorm.h"

/* A caller's array: up to three extents, strides in elements. */
typedef struct fn_array {
  const void *p;
  size_t n[3];
  ptrdiff_t stride[3];
} fn_array;

/* Copies a caller's args struct, older (shorter) or newer (longer), into one of ours.
 * A newer caller must have left what we do not know zero. */
fastnorm_status fn_read_args(void *args, size_t size, size_t first_size,
                             const void *callers);

size_t fn_dtype_size(fastnorm_dtype dtype); /* 0 if it is none */

/* The product, or false if it or its size in bytes leaves ptrdiff_t. */
bool fn_count(const size_t n[3], size_t element, size_t *count);

/* What makes an array unusable: a missing pointer, alignment, a byte range outside the
 * address space, and for outputs elements that share memory. */
fastnorm_status fn_check_array(const fn_array *a, size_t element, bool output);

/* May the bytes of one be bytes of the other? By their ranges; false if either is NULL.
 * */
bool fn_overlap_bytes(const fn_array *a, size_t a_element, const fn_array *b,
                      size_t b_element);

/* Checks each array, and that no output shares memory with another array: arrays[0] is
 * the main output, then come n_in inputs and n_out further outputs. Arrays without a
 * pointer are skipped, except the main output and the first input; these two may be the
 * very same array. Columns side by side in rows of one stride do not count as shared.
 * */
#define FN_MOST_ARRAYS 8
fastnorm_status fn_check_arrays(const fn_array *arrays, size_t n_in, size_t n_out,
                                size_t element);

/* eps as documented: 0 is the default, FASTNORM_EPS_ZERO is none. */
fastnorm_status fn_read_eps(double eps, double initial, double *out);

#endif
