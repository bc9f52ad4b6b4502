/* check.c - arguments: read, checked, and described before anything is written.
 * SPDX-License-Identifier: MIT */
#include "check.h"

#include <float.h>
#include <stdint.h>
#include <string.h>

fastnorm_status fn_read_args(void *args, size_t size, size_t first_size,
                             const void *callers) {
  size_t given;
  if (!callers)
    return FASTNORM_ERROR_ARGS;
  memcpy(&given, callers, sizeof(given)); /* every args struct starts with its size */
  if (given < first_size || given > 65536)
    return FASTNORM_ERROR_ARGS;
  for (size_t i = size; i < given; i++)
    if (((const unsigned char *)callers)[i] != 0)
      return FASTNORM_ERROR_ARGS;
  if (given < size)
    memset(args, 0, size);
  memcpy(args, callers, given < size ? given : size);
  return FASTNORM_OK;
}

/* a * b, or false if it leaves size_t. */
static bool multiply(size_t a, size_t b, size_t *product) {
#if defined(__GNUC__)
  return !__builtin_mul_overflow(a, b,
                                 product); /* no division: this is on every call */
#else
  *product = a * b;
  return a == 0 || b <= SIZE_MAX / a;
#endif
}

bool fn_count(const size_t n[3], size_t element, size_t *count) {
  size_t product = 1;
  *count = 0;
  for (int k = 0; k < 3; k++)
    if (n[k] == 0)
      return true;
  for (int k = 0; k < 3; k++)
    if (!multiply(product, n[k], &product))
      return false;
  size_t bytes;
  if (!multiply(product, element, &bytes) || bytes > (size_t)PTRDIFF_MAX)
    return false;
  *count = product;
  return true;
}

/* First and last byte, as addresses; false if they cannot be. */
static bool byte_range(const fn_array *a, uintptr_t *first, uintptr_t *last) {
  const size_t element = a->element;
  const uintptr_t base = (uintptr_t)a->p;
  size_t below = 0, above = element - 1; /* bytes from base */
  for (int k = 0; k < 3; k++) {
    const ptrdiff_t stride = a->stride[k];
    const size_t step = stride < 0 ? (size_t)0 - (size_t)stride : (size_t)stride;
    size_t *side = stride < 0 ? &below : &above;
    size_t bytes;
    if (a->n[k] == 1 || step == 0)
      continue;
    if (!multiply(step, a->n[k] - 1, &bytes) || !multiply(bytes, element, &bytes) ||
        bytes > (size_t)PTRDIFF_MAX - *side)
      return false;
    *side += bytes;
  }
  if (below > base || above > UINTPTR_MAX - base)
    return false;
  *first = base - below;
  *last = base + above;
  return true;
}

/* Whether two elements share memory: ordered by stride, each dimension must step over
 * all that the smaller ones span. */
static bool overlaps_itself(const fn_array *a) {
  bool done[3] = {false, false, false};
  size_t span = 1;
  for (int round = 0; round < 3; round++) {
    int next = -1;
    size_t smallest = 0;
    for (int k = 0; k < 3; k++) {
      const ptrdiff_t s = a->stride[k];
      const size_t step = s < 0 ? (size_t)0 - (size_t)s : (size_t)s;
      if (done[k] || a->n[k] == 1)
        continue;
      if (next < 0 || step < smallest)
        next = k, smallest = step;
    }
    if (next < 0)
      return false;
    if (smallest < span)
      return true;
    span = smallest * (a->n[next] - 1) + span;
    done[next] = true;
  }
  return false;
}

/* Its bytes, from first to last; or what is wrong with it. */
typedef struct byte_span {
  uintptr_t first, last;
} byte_span;

static fastnorm_status check(const fn_array *a, byte_span *span) {
  if ((uintptr_t)a->p % a->element != 0)
    return FASTNORM_ERROR_ALIGNMENT;
  if (!byte_range(a, &span->first, &span->last))
    return FASTNORM_ERROR_SHAPE;
  if (a->use != FN_INPUT && overlaps_itself(a))
    return FASTNORM_ERROR_STRIDE;
  return FASTNORM_OK;
}

/* Columns [from, to) of rows with one stride, both arrays: side by side in one buffer.
 * */
static bool side_by_side(const fn_array *a, const fn_array *b) {
  const ptrdiff_t stride = a->stride[0];
  size_t width[2];
  if (stride != b->stride[0] || a->element != b->element || stride <= 0)
    return false;
  const fn_array *both[2] = {a, b};
  for (int i = 0; i < 2; i++) {
    width[i] = 1;
    for (int k = 1; k < 3; k++) {
      if (both[i]->stride[k] < 0)
        return false;
      width[i] += (both[i]->n[k] - 1) * (size_t)both[i]->stride[k];
    }
    width[i] *= a->element;
  }
  const size_t step = (size_t)stride * a->element;
  const uintptr_t p = (uintptr_t)a->p, q = (uintptr_t)b->p;
  const size_t apart = q >= p ? (q - p) % step : (step - (p - q) % step) % step;
  return apart >= width[0] && step - apart >= width[1];
}

/* The very same array: the operation in place. */
static bool same_array(const fn_array *a, const fn_array *b) {
  bool same = a->p == b->p && a->element == b->element;
  for (int k = 0; k < 3; k++)
    same &= a->n[k] == b->n[k] && (a->n[k] == 1 || a->stride[k] == b->stride[k]);
  return same;
}

fastnorm_status fn_check_arrays(const fn_array *arrays, size_t n) {
  byte_span spans[FN_MOST_ARRAYS];
  for (size_t i = 0; i < n; i++) {
    if (!arrays[i].p && arrays[i].needed)
      return FASTNORM_ERROR_NULL;
    if (!arrays[i].p)
      continue;
    const fastnorm_status s = check(&arrays[i], &spans[i]);
    if (s != FASTNORM_OK)
      return s;
  }
  for (size_t i = 0; i < n; i++) /* every pair of which one is an output */
    for (size_t j = arrays[i].p ? i + 1 : n; j < n; j++) {
      if (!arrays[j].p || (arrays[i].use == FN_INPUT && arrays[j].use == FN_INPUT))
        continue;
      if (spans[i].last < spans[j].first || spans[j].last < spans[i].first)
        continue;
      if (j == i + 1 && arrays[i].use == FN_IN_PLACE &&
          same_array(&arrays[i], &arrays[j]))
        continue;
      if (!side_by_side(&arrays[i], &arrays[j]))
        return FASTNORM_ERROR_OVERLAP;
    }
  return FASTNORM_OK;
}

fastnorm_status fn_read_eps(double eps, double initial, double *out) {
  if (eps < 0.0 || eps > 0.0) { /* not the default, and not NaN */
    if (!(eps <= DBL_MAX))
      return FASTNORM_ERROR_EPS;
    if (eps < 0.0 && (eps < FASTNORM_EPS_ZERO || eps > FASTNORM_EPS_ZERO))
      return FASTNORM_ERROR_EPS;
    *out = eps < 0.0 ? 0.0 : eps;
    return FASTNORM_OK;
  }
  *out = initial;
  return eps != eps ? FASTNORM_ERROR_EPS : FASTNORM_OK;
}
