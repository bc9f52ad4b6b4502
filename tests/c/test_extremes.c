/* test_extremes.c - NaN, overflow and the least numbers where few values meet them.
 * SPDX-License-Identifier: MIT */
#include <float.h>

#include "test.h"

enum { COLS = 9000 }; /* more than two parts of a row that is staged */

/* The scale that a row of int8 gets, with this in one place of what is added to it. */
static float scale_with(float weight, size_t at, float added) {
  static float x[COLS], w[COLS], post_add[COLS];
  static int8_t y[COLS];
  float scale = -7.0F;
  for (size_t i = 0; i < COLS; i++) {
    x[i] = (float)(i % 7);
    w[i] = weight;
    post_add[i] = 0.0F;
  }
  post_add[at] = added;
  fastnorm_layer_norm_args a = {.size = sizeof a,
                                .x = x,
                                .y = y,
                                .weight = w,
                                .rows = 1,
                                .cols = COLS,
                                .format.y = FASTNORM_INT8,
                                .epilogue.post_add = post_add,
                                .y_scale = &scale};
  CHECK(fastnorm_layer_norm(&a) == FASTNORM_OK, "refused");
  return scale;
}

/* A NaN in any part of the row is the row's; a scale has a reciprocal. */
static void scales_of_rows(void) {
  static const size_t places[] = {0, 3, 4095, 4096, 5000, COLS - 1};
  for (size_t i = 0; i < LENGTH(places); i++) {
    const float nan = scale_with(1.0F, places[i], NAN);
    const float large = scale_with(1.0F, places[i], 1270.0F);
    CHECK(isnan(nan), "NaN at %zu: scale %g", places[i], (double)nan);
    CHECK(large > 9.9F && large < 10.1F, "1270 at %zu: scale %g", places[i],
          (double)large);
  }
  const float none = scale_with(0.0F, 0, 0.0F), least = scale_with(1e-37F, 0, 0.0F);
  CHECK(none >= 1.0F && none <= 1.0F, "of zeros: %g", (double)none);
  CHECK(least >= FLT_MIN && least <= FLT_MIN, "of tiny numbers: %g", (double)least);
}

/* A sum of weights that is no number is the largest: not Inf, by which nothing can be
 * divided. */
static void weights_without_bound(void) {
  static const double x[] = {1.0, 2.0, 3.0}, weights[] = {1e308, 1e308, 1e308};
  double mean = -7.0, m2 = -7.0, weight = -7.0;
  fastnorm_moments_args a = {.size = sizeof a,
                             .x = x,
                             .dtype = FASTNORM_FLOAT64,
                             .mean = &mean,
                             .m2 = &m2,
                             .weight = &weight,
                             .batch = 1,
                             .channels = 1,
                             .spatial = 3,
                             .mask = {.weights = weights,
                                      .weights_dtype = FASTNORM_FLOAT64,
                                      .spatial_stride = 1}};
  CHECK(fastnorm_moments(&a) == FASTNORM_OK, "refused");
  CHECK(weight >= DBL_MAX && weight <= DBL_MAX, "weight %g", weight);
  CHECK(mean >= 1.0 && mean <= 3.0, "mean %g", mean);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {{"scales_of_rows", scales_of_rows},
                                    {"weights_without_bound", weights_without_bound}};
  return RUN_TESTS(argc, argv, tests);
}
