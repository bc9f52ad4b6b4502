/* dispatch.h - which instruction set is in use.
 * SPDX-License-Identifier: MIT */
#ifndef FN_DISPATCH_H
#define FN_DISPATCH_H

#include "fastnorm.h"
#include "kernels.h"

/* The kernels in use for a dtype; NULL if FASTNORM_ISA names none that can be. */
const fn_kernels *fn_dispatch(fastnorm_dtype dtype);

#endif
