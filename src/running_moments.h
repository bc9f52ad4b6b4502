/* running_moments.h - one batch's moments, and how two states become one.
 * SPDX-License-Identifier: MIT */
#ifndef FN_RUNNING_MOMENTS_H
#define FN_RUNNING_MOMENTS_H

#include "channels.h"
#include "fastnorm.h"

/* A caller's bytes or weights beside x: element (n, c, s). */
typedef struct fn_beside {
  const void *p; /* or NULL */
  fastnorm_dtype dtype;
  ptrdiff_t stride, channel_stride, spatial_stride;
} fn_beside;

/* What has gone wrong in a piece of work: bits. */
enum { FN_FOUND_NAN = 1, FN_FOUND_WEIGHT = 2 };

/* Arguments are checked, extents not 0. The working type is double, in which the
 * moments of narrower floats have no rounding to speak of; for 8-bit elements float, in
 * which their sums are exact. */
typedef struct fn_running_work {
  fn_channels a;
  fn_source gather; /* that of a.source, or for packing elements that have the type */
  const fn_kernels *narrow; /* those of float where x is float, else NULL */
  fastnorm_nan_policy nan;
  fn_beside mask, weights;
  /* Pieces of work, by shape alone: so many features, and so many positions of the
   * batch * spatial that each has. */
  size_t group, groups, positions, pieces;
} fn_running_work;

/* Cuts the work; a.batch and the rest are set. */
void fn_running_cut(fn_running_work *w);

/* Piece number i: the moments of its features go to a state of all. FN_FOUND_... */
int fn_running_piece(const fn_running_work *w, size_t i,
                     const fastnorm_running_moments *out);

/* Features [first, first + n) of `state` take in those of `other`. */
void fn_running_merge(const fastnorm_running_moments *state,
                      const fastnorm_running_moments *other, size_t first, size_t n);

#endif
