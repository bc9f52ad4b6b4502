/* cpu.h - what this CPU and its operating system support.
 * SPDX-License-Identifier: MIT */
#ifndef FN_CPU_H
#define FN_CPU_H

#include <stdbool.h>

bool fn_cpu_has_avx2(void);   /* with FMA and F16C */
bool fn_cpu_has_avx512(void); /* F, DQ, VL, BW */
bool fn_cpu_any(void);        /* true: the baseline */

#endif
