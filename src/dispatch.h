/* dispatch.h - which instruction set is in use.
 * SPDX-License-Identifier: MIT */
#ifndef FN_DISPATCH_H
#define FN_DISPATCH_H

#include "fastnorm.h"
#include "kernels.h"

/* The kernels in use for a dtype; NULL if FASTNORM_ISA names none that can be. */
const fn_kernels *fn_dispatch(fastnorm_dtype dtype);

/* How many bytes of x two passes are to go over before the next: `first_level`, which
 * fits a first-level cache of 48 KiB with as much of y, or what the second level holds.
 * No bit of a result depends on it. */
size_t fn_bundle_bytes(const fn_kernels *kernels, size_t first_level);

/* Whether the first-level cache holds as much; its size is guessed if it is not known.
 * The same holds for results. */
bool fn_fits_first_level(size_t bytes);

#endif
