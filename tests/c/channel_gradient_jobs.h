/* channel_gradient_jobs.h - gradients of the norms of channels, to be run in many ways.
 * SPDX-License-Identifier: MIT
 */
#ifndef FN_TEST_CHANNEL_GRADIENT_JOBS_H
#define FN_TEST_CHANNEL_GRADIENT_JOBS_H

#include "channel_gradients.h"
#include "guard.h"

enum { ROOM = 1 << 23 };

static unsigned char *rooms[PARTS]; /* ROOM bytes each, between guard pages */

static inline void open_rooms(void) {
  for (int i = 0; i < PARTS; i++) {
    rooms[i] = new_room(ROOM);
  }
}

static inline size_t bytes_in(const gradient_job *j, part id) {
  return j->p[id] ? count_of(j, id) * bytes_of(type_of(j, id)) : 0;
}

/* ---- Jobs ------------------------------------------------------------------------ */

typedef struct shape {
  size_t samples, channels, spatial, groups;
} shape;

static const pattern x_patterns[] = {NORMAL,    OFFSET_1E6, MIXED_SCALES, EXTREME,
                                     HUGE_LAST, CONSTANT,   SUBNORMAL,    NORMAL};
static const pattern g_patterns[] = {NORMAL, NORMAL, SUBNORMAL,  OFFSET_1E3,
                                     NORMAL, NORMAL, VERY_LARGE, CONSTANT};

/* Arrays of its own, filled; `variant` chooses weight, statistics, eps and input. */
static inline gradient_job new_gradient(int op, fastnorm_dtype dtype, shape s,
                                        unsigned variant) {
  gradient_job j = {.op = (norm)op,
                    .dtype = dtype,
                    .samples = s.samples,
                    .channels = s.channels,
                    .spatial = s.spatial,
                    .groups = s.groups};
  const size_t k = variant % LENGTH(x_patterns);
  j.eps = variant & 4 ? FASTNORM_EPS_ZERO : 0.0;
  j.exec.num_threads = 1;
  if (dtype == FASTNORM_FLOAT16 || dtype == FASTNORM_BFLOAT16) {
    j.format.y = variant & 1 ? FASTNORM_FLOAT32 : FASTNORM_DEFAULT;
    j.format.params = variant & 2 ? FASTNORM_FLOAT32 : FASTNORM_DEFAULT;
  }
  for (part id = 0; id < PARTS; id++) {
    const size_t size = bytes_of(type_of(&j, id));
    j.p[id] = new_bytes((count_of(&j, id) + 1) * size);
  }
  fill_elements(&j, INPUT, x_patterns[k], 1 + variant);
  fill_elements(&j, GRAD_Y, g_patterns[k], 2 + variant);
  fill_numbers(&j, WEIGHTS, 1.0, 0.5, 11);
  fill_numbers(&j, R, 1.0, 0.2, 12);
  fill_numbers(&j, D, 0.0, 0.5, 13);
  fill_numbers(&j, MEANS, 0.1, 0.1, 14);
  fill_numbers(&j, RSTDS, 1.0, 0.1, 15);
  return j;
}

/* Which of its arrays a call gets; the rest stay allocated in `all`. */
static inline gradient_job chosen(const gradient_job *all, unsigned variant) {
  gradient_job j = *all;
  if (variant % 3 == 0) {
    j.p[WEIGHTS] = NULL;
  }
  if (variant % 2 == 0 && !is_fixed(j.op)) {
    j.p[MEANS] = j.p[RSTDS] = NULL;
  }
  return j;
}

static inline void free_gradient(gradient_job *j) {
  for (int i = 0; i < PARTS; i++) {
    free(j->p[i]);
  }
}

static inline void run_or_fail(const gradient_job *j, const char *what) {
  const fastnorm_status status = run_gradient(j);
  CHECK(status == FASTNORM_OK, "%s: %s", gradient_name(j, what),
        fastnorm_strerror(status));
}

static const fastnorm_dtype dtypes[] = {FASTNORM_FLOAT32, FASTNORM_FLOAT64,
                                        FASTNORM_FLOAT16, FASTNORM_BFLOAT16};

#endif
