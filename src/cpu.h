/* cpu.h - what this CPU and its operating system support, and what it has.
 * SPDX-License-Identifier: MIT */
#ifndef FN_CPU_H
#define FN_CPU_H

#include <stdbool.h>
#include <stddef.h>

bool fn_cpu_has_avx2(void);   /* with FMA and F16C */
bool fn_cpu_has_avx512(void); /* F, DQ, VL, BW */
bool fn_cpu_any(void);        /* true: the baseline */

/* Bytes of a core's first-level data cache; 0 if the CPU does not say. */
size_t fn_cpu_first_level(void);

#endif
