/* test_image_args.c - normalize_image: what is refused, with nothing written.
 * SPDX-License-Identifier: MIT */
#include "test.h"

typedef fastnorm_normalize_image_args image_args;

static struct {
  float x[64], y[64];
  double mean[4], std[4];
} m, before;

static void check_refused(const image_args *a, fastnorm_status wanted,
                          const char *what) {
  memcpy(&before, &m, sizeof m);
  const fastnorm_status got = fastnorm_normalize_image(a);
  CHECK(got == wanted, "%s: status %d, not %d", what, (int)got, (int)wanted);
  CHECK(memcmp(&m, &before, sizeof m) == 0, "%s: memory was written", what);
}

static image_args good(void) {
  for (int k = 0; k < 4; k++) {
    m.mean[k] = 0.5;
    m.std[k] = 0.25;
  }
  return (image_args){.size = sizeof(image_args),
                      .x = m.x,
                      .y = m.y,
                      .images = 2,
                      .height = 3,
                      .width = 2,
                      .channels = 3,
                      .mean = m.mean,
                      .std = m.std};
}

#define REFUSED(status, change)                                                        \
  do {                                                                                 \
    image_args a = good();                                                             \
    change;                                                                            \
    check_refused(&a, FASTNORM_ERROR_##status, #change);                               \
    a.exec.check_only = 1;                                                             \
    check_refused(&a, FASTNORM_ERROR_##status, "check only: " #change);                \
  } while (0)

static void refusals(void) {
  check_refused(NULL, FASTNORM_ERROR_ARGS, "NULL");
  REFUSED(ARGS, a.size = 8);
  REFUSED(DTYPE, a.dtype = FASTNORM_INT8);
  REFUSED(DTYPE, a.dtype = (fastnorm_dtype)7);
  REFUSED(DTYPE, a.format.y = FASTNORM_UINT8);
  REFUSED(DTYPE, a.format.y = FASTNORM_INT8);
  REFUSED(DTYPE, a.format.y = FASTNORM_FLOAT64);
  REFUSED(DTYPE, a.format.y = (fastnorm_dtype)-1);
  REFUSED(DTYPE, (a.dtype = FASTNORM_FLOAT64, a.format.y = FASTNORM_FLOAT32));
  REFUSED(NULL, a.x = NULL);
  REFUSED(NULL, a.y = NULL);
  REFUSED(IMAGE, a.channels = 0);
  REFUSED(IMAGE, a.channels = 17);
  REFUSED(IMAGE, a.scale = NAN);
  REFUSED(IMAGE, a.scale = INFINITY);
  REFUSED(IMAGE, a.scale = -1e-101);
  REFUSED(IMAGE, m.mean[2] = NAN);
  REFUSED(IMAGE, m.mean[0] = -2e100);
  REFUSED(IMAGE, m.std[1] = 0);
  REFUSED(IMAGE, m.std[1] = -1);
  REFUSED(IMAGE, m.std[2] = NAN);
  REFUSED(IMAGE, m.std[0] = INFINITY);
  REFUSED(THREADS, a.exec.num_threads = -1);
  REFUSED(ALIGNMENT, a.x = (char *)m.x + 1);
  REFUSED(ALIGNMENT, a.y = (char *)m.y + 2);
  REFUSED(ALIGNMENT, a.mean = (double *)(void *)((char *)m.mean + 4));
  REFUSED(SHAPE, a.images = SIZE_MAX / 8);
  REFUSED(SHAPE, (a.height = SIZE_MAX / 2, a.width = 3));
  REFUSED(SHAPE, a.x_row_stride = PTRDIFF_MAX / 2);
  REFUSED(SHAPE, a.x_row_stride = PTRDIFF_MIN);
  REFUSED(SHAPE, a.x_stride = PTRDIFF_MAX / 2);
  REFUSED(STRIDE, a.y_stride = 17);
  REFUSED(OVERLAP, a.y = m.x + 1);
  REFUSED(OVERLAP, (a.y = m.x, a.channels_first = 1));
  REFUSED(OVERLAP, (a.y = m.x, a.channels_first = 1, a.height = 1));
  REFUSED(OVERLAP, (a.y = m.x, a.format.y = FASTNORM_FLOAT16));
  REFUSED(OVERLAP, (a.y = m.x, a.x_row_stride = 7));
  REFUSED(OVERLAP, a.y = m.mean);
  REFUSED(OVERLAP, a.y = m.std + 2);
  CHECK(strstr(fastnorm_strerror(FASTNORM_ERROR_IMAGE), "image") != NULL, "no text");
}

static void nothing_to_do(void) {
  image_args a = good();
  a.width = 0;
  a.x = a.y = NULL;
  check_refused(&a, FASTNORM_OK, "width 0");
  a = good();
  a.images = 0;
  a.height = SIZE_MAX;
  check_refused(&a, FASTNORM_OK, "no images");
  a = good();
  a.exec.check_only = 1;
  check_refused(&a, FASTNORM_OK, "check only");
}

int main(int argc, char **argv) {
  static const test_case tests[] = {{"refusals", refusals},
                                    {"nothing_to_do", nothing_to_do}};
  return RUN_TESTS(argc, argv, tests);
}
