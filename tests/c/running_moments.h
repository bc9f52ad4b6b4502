/* running_moments.h - the arrays of a state.
 * SPDX-License-Identifier: MIT */
#ifndef FN_TEST_RUNNING_MOMENTS_H
#define FN_TEST_RUNNING_MOMENTS_H

#include "test.h"

typedef fastnorm_running_moments state;
typedef fastnorm_running_moments_args batch_args;

enum { FEATURES = 600, STATE_ARRAYS = 8 };

/* The arrays of a state, of which no one may write more than its features. */
typedef struct store {
  int64_t count[FEATURES];
  double rows[STATE_ARRAYS - 1][FEATURES];
} store;

static inline state state_of(store *s, size_t features) {
  return (state){.size = sizeof(state),
                 .features = features,
                 .count = s->count,
                 .weight = s->rows[0],
                 .mean = s->rows[1],
                 .mean_low = s->rows[2],
                 .m2 = s->rows[3],
                 .m2_low = s->rows[4],
                 .min = s->rows[5],
                 .max = s->rows[6]};
}

static inline void fill_store(store *s, unsigned char byte) {
  memset(s, byte, sizeof *s);
}

#endif /* FN_TEST_RUNNING_MOMENTS_H */
