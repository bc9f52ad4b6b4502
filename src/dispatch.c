/* dispatch.c - which instruction set is in use.
 * SPDX-License-Identifier: MIT
 *
 * One immutable table per instruction set and one atomic pointer to the one in use. The
 * first use resolves it; two threads that do so at once find the same answer, so no
 * lock is needed and nobody ever sees a table half chosen. */
#include "dispatch.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "compiler.h"
#include "cpu.h"

typedef struct candidate {
  const fn_isa *isa;
  bool (*supported)(void);
} candidate;

/* Best first. A new instruction set is one line here. */
static const candidate candidates[] = {
#if defined(FN_X86)
    {&fn_isa_avx512, fn_cpu_has_avx512},
    {&fn_isa_avx2, fn_cpu_has_avx2},
#endif
#if defined(FN_NEON)
    {&fn_isa_neon, fn_cpu_any},
#endif
    {&fn_isa_portable, fn_cpu_any},
};
static const size_t candidate_count = sizeof(candidates) / sizeof(candidates[0]);

static _Atomic(const fn_isa *) in_use;

/* The supported set of this name, or the best if name is NULL; NULL if there is none.
 * */
static const fn_isa *find(const char *name) {
  for (size_t i = 0; i < candidate_count; i++)
    if ((!name || strcmp(name, candidates[i].isa->name) == 0) &&
        candidates[i].supported())
      return candidates[i].isa;
  return NULL;
}

static const fn_isa *current(void) {
  const fn_isa *isa = atomic_load_explicit(&in_use, memory_order_acquire);
  if (FN_LIKELY(isa != NULL))
    return isa;
  const char *name = getenv("FASTNORM_ISA");
  const fn_isa *found = find(name && name[0] ? name : NULL);
  if (!found)
    return NULL;
  /* Whoever called fastnorm_set_isa() in the meantime wins. */
  if (atomic_compare_exchange_strong(&in_use, &isa, found))
    isa = found;
  return isa;
}

const fn_kernels *fn_dispatch(fastnorm_dtype dtype) {
  const fn_isa *isa = current();
  return isa ? isa->working[dtype == FASTNORM_FLOAT64] : NULL;
}

/* In a first-level cache of 32 KiB the lines of y push those of x out just before the
 * second pass gets there, and a bundle costs some hundred cycles between the passes.
 * From 24 KiB to 128 KiB, with such a cache: layer norm of [128, 768] 17.5 -> 15.4 us,
 * [512, 1024] 109 -> 101, of a sum of [512, 1024] 154 -> 141, with GELU 201 -> 192,
 * group norm of [8, 64, 3136] 330 -> 302, instance norm 357 -> 318 (AMD EPYC Zen 4,
 * avx512). With 48 KiB the small ones are better: samples_runs.c. */
#define SMALL_FIRST_LEVEL 40960
#define SECOND_LEVEL      131072

size_t fn_bundle_bytes(const fn_kernels *kernels, size_t first_level) {
  switch (kernels->bundle) {
  case FN_IN_SECOND_LEVEL:
    return SECOND_LEVEL;
  case FN_BY_FIRST_LEVEL: {
    const size_t has = fn_cpu_first_level();
    return has > 0 && has < SMALL_FIRST_LEVEL ? SECOND_LEVEL : first_level;
  }
  default:
    return first_level;
  }
}

bool fn_fits_first_level(size_t bytes) {
  const size_t has = fn_cpu_first_level();
  return bytes <= (has > 0 ? has : 32768);
}

const char *fastnorm_isa(void) {
  const fn_isa *isa = current();
  return isa ? isa->name : NULL;
}

const char *fastnorm_isa_name(size_t index) {
  for (size_t i = 0; i < candidate_count; i++)
    if (candidates[i].supported() && index-- == 0)
      return candidates[i].isa->name;
  return NULL;
}

fastnorm_status fastnorm_set_isa(const char *name) {
  const fn_isa *isa = find(name);
  if (!isa)
    return FASTNORM_ERROR_ISA;
  atomic_store_explicit(&in_use, isa, memory_order_release);
  return FASTNORM_OK;
}
