/* check.h - arguments: read, checked, and described before anything is written.
 * SPDX-License-Identifier: MIT */
#ifndef FN_CHECK_H
#define FN_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "fastnorm.h"

typedef enum fn_use {
  FN_INPUT,
  FN_OUTPUT,
  FN_IN_PLACE /* an output that may be the very array that comes next in the list */
} fn_use;

/* A caller's array: up to three extents, strides in elements, bytes of an element. */
typedef struct fn_array {
  const void *p;
  size_t n[3];
  ptrdiff_t stride[3];
  size_t element;
  fn_use use;
  bool needed; /* NULL is an error; without this it is an array that takes no part */
} fn_array;

/* Copies a caller's args struct, older (shorter) or newer (longer), into one of ours.
 * A newer caller must have left what we do not know zero. */
fastnorm_status fn_read_args(void *args, size_t size, size_t first_size,
                             const void *callers);

/* Bytes of an element; 0 if dtype is none. */
static inline size_t fn_dtype_size(fastnorm_dtype dtype) {
  static const unsigned char bytes[] = {0, 4, 8, 2, 2, 1, 1};
  return (size_t)dtype < sizeof(bytes) ? bytes[dtype] : 0;
}

static inline bool fn_is_8_bit(fastnorm_dtype dtype) {
  return dtype == FASTNORM_INT8 || dtype == FASTNORM_UINT8;
}

/* A caller's stride; 0 means packed. That of a single element leads nowhere, and may be
 * any number: it is not used. */
static inline ptrdiff_t fn_stride(ptrdiff_t stride, size_t extent, size_t packed) {
  return stride && extent > 1 ? stride : (ptrdiff_t)packed;
}

/* The product, or false if it or its size in bytes leaves ptrdiff_t. */
bool fn_count(const size_t n[3], size_t element, size_t *count);

/* Checks each array: a missing pointer, alignment, a byte range outside the address
 * space, and for outputs elements that share memory; and that no output shares memory
 * with another array. Columns side by side in rows of one stride do not count as
 * shared. */
#define FN_MOST_ARRAYS 16
fastnorm_status fn_check_arrays(const fn_array *arrays, size_t n);

/* Memory that a call can do without, as one more array to check: the first `need` bytes
 * of a caller's `size`; NULL if there are fewer, as these count as none. */
static inline fn_array fn_scratch_array(const void *scratch, size_t size, size_t need) {
  const void *p = need > 0 && size >= need ? scratch : NULL;
  const size_t doubles = need / sizeof(double);
  return (fn_array){p, {1, 1, doubles}, {0, 0, 1}, sizeof(double), FN_OUTPUT, false};
}

/* eps as documented: 0 is the default, FASTNORM_EPS_ZERO is none. */
fastnorm_status fn_read_eps(double eps, double initial, double *out);

#endif
