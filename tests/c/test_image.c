/* test_image.c - normalize_image: exact bytes, layouts, guard pages.
 * SPDX-License-Identifier: MIT */
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "elements.h"

enum { ROOM = 1 << 17 };

/* A room between two pages that nobody may touch, for x and for y. */
static unsigned char *rooms[2];

static void on_fault(int signal_number) {
  (void)signal_number;
  static const char text[] = "FAIL a guard page was touched\n0 passed, 1 failed\n";
  _exit(write(1, text, sizeof text - 1) < 0 ? 2 : 1);
}

static void open_rooms(void) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  for (int i = 0; i < 2; i++) {
    unsigned char *p =
        mmap(NULL, ROOM + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + page, ROOM, PROT_READ | PROT_WRITE) != 0) {
      perror("mmap");
      exit(3);
    }
    rooms[i] = p + page;
  }
  signal(SIGSEGV, on_fault);
  signal(SIGBUS, on_fault);
}

static double means[16], stds[16];

static void fill_parameters(uint64_t seed) {
  rng r = {seed};
  for (int k = 0; k < 16; k++) {
    means[k] = rng_normal(&r);
    stds[k] = 0.05 + fabs(rng_normal(&r));
  }
}

typedef fastnorm_normalize_image_args image_args;

static fastnorm_dtype y_type(const image_args *a) {
  return a->format.y                  ? a->format.y
         : a->dtype == FASTNORM_UINT8 ? FASTNORM_FLOAT32
                                      : a->dtype;
}

static size_t element_count(const image_args *a) {
  return a->images * a->height * a->width * a->channels;
}

/* Where element (n, h, w, c) of x, and of y, is. */
static ptrdiff_t x_place(const image_args *a, size_t n, size_t h, size_t w, size_t c) {
  const ptrdiff_t row =
      a->x_row_stride ? a->x_row_stride : (ptrdiff_t)(a->width * a->channels);
  const ptrdiff_t image = a->x_stride ? a->x_stride : (ptrdiff_t)a->height * row;
  return (ptrdiff_t)n * image + (ptrdiff_t)h * row + (ptrdiff_t)(w * a->channels + c);
}

static ptrdiff_t y_place(const image_args *a, size_t n, size_t h, size_t w, size_t c) {
  const size_t image = a->height * a->width * a->channels;
  const size_t at = a->channels_first ? (c * a->height + h) * a->width + w
                                      : (h * a->width + w) * a->channels + c;
  return (ptrdiff_t)n * (a->y_stride ? a->y_stride : (ptrdiff_t)image) + (ptrdiff_t)at;
}

static long double exact_value(const image_args *a, double x, size_t c) {
  const double scale = a->scale < 0 || a->scale > 0 ? a->scale
                       : a->dtype == FASTNORM_UINT8 ? 1.0 / 255
                                                    : 1.0;
  return ((long double)x * scale - (a->mean ? a->mean[c] : 0)) /
         (a->std ? a->std[c] : 1);
}

/* Within 0.50001 units of float32, whose unit is that of the exact value. */
static int is_near(double y, long double exact) {
  int exponent;
  frexpl(exact, &exponent);
  exponent = exponent < -125 ? -125 : exponent;
  return fabsl((long double)y - exact) <= ldexpl(0.50001L, exponent - 24);
}

/* The stored element against the exact value; 16-bit ones against its float. */
static int is_right(const image_args *a, ptrdiff_t at, long double exact) {
  const fastnorm_dtype type = y_type(a);
  const double y = element(type, a->y, (size_t)at);
  if (type == FASTNORM_FLOAT32) {
    return is_near(y, exact);
  }
  if (type == FASTNORM_FLOAT64) {
    return fabsl((long double)y - exact) <= 1e-15L * (1 + fabsl(exact));
  }
  double stored = 0; /* room for any type */
  set_element(type, &stored, 0, (double)(float)exact, 1.0F, 0);
  return y <= element(type, &stored, 0) && y >= element(type, &stored, 0);
}

static void check_values(const image_args *a) {
  for (size_t n = 0; n < a->images; n++) {
    for (size_t i = 0; i < a->height * a->width; i++) {
      for (size_t c = 0; c < a->channels; c++) {
        const size_t h = i / a->width, w = i % a->width;
        const size_t from = a->reverse_channels ? a->channels - 1 - c : c;
        const double x = element(a->dtype, a->x, (size_t)x_place(a, n, h, w, from));
        const ptrdiff_t at = y_place(a, n, h, w, c);
        CHECK(is_right(a, at, exact_value(a, x, c)),
              "%s to %s on %s: [%zu, %zu, %zu, %zu] is %.9g of %.9g",
              type_name(a->dtype), type_name(y_type(a)), fastnorm_isa(), n, h, w, c,
              element(y_type(a), a->y, (size_t)at), x);
      }
    }
  }
}

static void fill_pixels(fastnorm_dtype dtype, void *x, size_t count, uint64_t seed) {
  rng r = {seed};
  for (size_t i = 0; i < count; i++) {
    if (dtype == FASTNORM_UINT8) {
      ((uint8_t *)x)[i] = (uint8_t)rng_next(&r);
    } else {
      set_element(dtype, x, i, rng_normal(&r), 1.0F, 0);
    }
  }
}

static image_args new_args(fastnorm_dtype dtype, size_t images, size_t height,
                           size_t width, size_t channels) {
  return (image_args){.size = sizeof(image_args),
                      .dtype = dtype,
                      .images = images,
                      .height = height,
                      .width = width,
                      .channels = channels,
                      .mean = means,
                      .std = stds,
                      .exec = {.num_threads = 1}};
}

/* ---- Accuracy -------------------------------------------------------------------- */

static void every_byte(void) {
  uint8_t x[256 * 16];
  static float y[256 * 16];
  for (int i = 0; i < 256 * 16; i++) {
    x[i] = (uint8_t)(i / 16);
  }
  static const double scales[] = {0, 1, -1.0 / 127.5, 1e-3};
  for (uint64_t seed = 0; seed < AT_LEVEL(40, 4, 2); seed++) {
    fill_parameters(seed);
    image_args a = new_args(FASTNORM_UINT8, 1, 16, 16, 16);
    a.x = x;
    a.y = y;
    a.scale = scales[seed % 4];
    a.channels_first = (int)(seed / 4 % 2);
    CHECK(fastnorm_normalize_image(&a) == FASTNORM_OK, "refused");
    check_values(&a);
  }
}

/* A byte whose product with scale is next to mean. */
static void cancellation(void) {
  uint8_t x[256];
  float y[256];
  for (int i = 0; i < 256; i++) {
    x[i] = (uint8_t)i;
  }
  for (int byte = 1; byte < 256; byte += AT_LEVEL(3, 50, 90)) {
    for (double away = 1e-3; fabs(away) > 1e-14; away *= -0.03) {
      const double mean = byte / 255.0 + away, std = 0.229;
      image_args a = new_args(FASTNORM_UINT8, 1, 1, 256, 1);
      a.x = x;
      a.y = y;
      a.mean = &mean;
      a.std = &std;
      CHECK(fastnorm_normalize_image(&a) == FASTNORM_OK, "refused");
      check_values(&a);
    }
  }
}

/* ---- Layouts, and the bytes around them ------------------------------------------ */

/* Runs a with x and y against the guard pages after, or before, both. */
static void run_guarded(image_args a, int at_end, size_t x_bytes, ptrdiff_t x_start) {
  const size_t y_bytes = element_count(&a) * bytes_of(y_type(&a));
  if (x_bytes > ROOM || y_bytes > ROOM) {
    fprintf(stderr, "image too large for the rooms\n");
    exit(3);
  }
  unsigned char *x = at_end ? rooms[0] + ROOM - x_bytes : rooms[0];
  unsigned char *y = at_end ? rooms[1] + ROOM - y_bytes : rooms[1];
  memset(rooms[1], 0xa5, ROOM);
  fill_pixels(a.dtype, x, x_bytes / bytes_of(a.dtype), 3);
  const uint64_t before = hash_bytes(1, x, x_bytes);
  a.x = x + x_start * (ptrdiff_t)bytes_of(a.dtype);
  a.y = y;
  const fastnorm_status status = fastnorm_normalize_image(&a);
  CHECK(status == FASTNORM_OK, "%s", fastnorm_strerror(status));
  check_values(&a);
  CHECK(hash_bytes(1, x, x_bytes) == before, "x was written");
  const unsigned char *rest = at_end ? rooms[1] : y + y_bytes;
  for (size_t i = 0; i < ROOM - y_bytes; i++) {
    if (rest[i] != 0xa5) {
      fail("%s: a byte beside y was written", fastnorm_isa());
      return;
    }
  }
}

static void check_shape(size_t images, size_t height, size_t width, size_t channels) {
  static const fastnorm_dtype types[][2] = {
      {FASTNORM_UINT8, FASTNORM_DEFAULT},    {FASTNORM_UINT8, FASTNORM_FLOAT16},
      {FASTNORM_UINT8, FASTNORM_BFLOAT16},   {FASTNORM_FLOAT32, FASTNORM_DEFAULT},
      {FASTNORM_FLOAT32, FASTNORM_FLOAT16},  {FASTNORM_FLOAT16, FASTNORM_DEFAULT},
      {FASTNORM_FLOAT16, FASTNORM_FLOAT32},  {FASTNORM_BFLOAT16, FASTNORM_DEFAULT},
      {FASTNORM_BFLOAT16, FASTNORM_FLOAT32}, {FASTNORM_FLOAT64, FASTNORM_DEFAULT}};
  for (size_t t = 0; t < LENGTH(types); t++) {
    for (int variant = 0; variant < 8; variant++) {
      image_args a = new_args(types[t][0], images, height, width, channels);
      a.format.y = types[t][1];
      a.channels_first = variant & 1;
      a.reverse_channels = variant >> 1 & 1;
      a.mean = width % 3 ? means : NULL;
      a.std = width % 5 ? stds : NULL;
      run_guarded(a, variant >> 2, element_count(&a) * bytes_of(a.dtype), 0);
    }
  }
}

static void shapes(void) {
  static const size_t widths[] = {1, 2, 15, 16, 17, 31, 32, 33, 63, 65, 100, 131};
  static const size_t channels[] = {1, 2, 3, 4, 5, 16};
  fill_parameters(1);
  for (size_t c = 0; c < LENGTH(channels); c++) {
    for (size_t w = 0; w < LENGTH(widths); w += AT_LEVEL(1, 3, 4)) {
      check_shape(1 + w % 2, 1 + w % 3, widths[w], channels[c]);
    }
  }
  if (test_level == FULL) { /* more than a block of the kernel */
    check_shape(1, 3, 1000, 3);
    check_shape(1, 1, 1000, 16);
  }
}

/* Parts of a larger picture, also from its last row upwards. */
static void strides(void) {
  fill_parameters(2);
  static const fastnorm_dtype types[] = {FASTNORM_UINT8, FASTNORM_FLOAT32,
                                         FASTNORM_FLOAT64};
  for (size_t i = 0; i < LENGTH(types); i++) {
    for (int variant = 0; variant < 8; variant++) {
      const size_t row = 50 * 3, height = 7, image = 9 * row;
      image_args a = new_args(types[i], 2, height, 33, 3);
      const size_t extent = image + (height - 1) * row + 33 * 3;
      const int up = variant & 1;
      a.x_row_stride = up ? -(ptrdiff_t)row : (ptrdiff_t)row;
      a.x_stride = (ptrdiff_t)image;
      a.channels_first = variant >> 1 & 1;
      run_guarded(a, variant >> 2, extent * bytes_of(a.dtype),
                  up ? (ptrdiff_t)((height - 1) * row) : 0);
    }
  }
}

static void gaps_in_y(void) {
  fill_parameters(3);
  uint8_t x[2 * 5 * 7 * 3];
  float y[2 * 200];
  fill_pixels(FASTNORM_UINT8, x, sizeof x, 1);
  for (int first = 0; first < 2; first++) {
    for (int i = 0; i < 400; i++) {
      y[i] = 77;
    }
    image_args a = new_args(FASTNORM_UINT8, 2, 5, 7, 3);
    a.x = x;
    a.y = y;
    a.y_stride = 200;
    a.channels_first = first;
    CHECK(fastnorm_normalize_image(&a) == FASTNORM_OK, "refused");
    check_values(&a);
    for (int i = 105; i < 200; i++) {
      CHECK(y[i] >= 77 && y[200 + i] <= 77, "the gap was written at %d", i);
    }
  }
}

/* Enough rows for more than one piece of work. */
static void many_rows(void) {
  enum { IMAGES = 20, H = 23, W = 63, ROW = (W + 1) * 3 };
  fill_parameters(7);
  uint8_t *x = new_bytes(IMAGES * H * ROW);
  float *y = new_bytes(IMAGES * H * W * 3 * sizeof(float));
  fill_pixels(FASTNORM_UINT8, x, IMAGES * H * ROW, 1);
  for (int first = 0; first < 2; first++) {
    image_args a = new_args(FASTNORM_UINT8, IMAGES, H, W, 3);
    a.x = x;
    a.y = y;
    a.x_row_stride = ROW;
    a.channels_first = first;
    a.exec.num_threads = 2;
    CHECK(fastnorm_normalize_image(&a) == FASTNORM_OK, "refused");
    check_values(&a);
    memset(y, 0, IMAGES * H * W * 3 * sizeof(float));
  }
  free(x);
  free(y);
}

static void in_place(void) {
  fill_parameters(4);
  static float x[3 * 700], y[3 * 700];
  for (int reverse = 0; reverse < 2; reverse++) {
    fill_pixels(FASTNORM_FLOAT32, x, 2100, 9);
    image_args a = new_args(FASTNORM_FLOAT32, 1, 7, 100, 3);
    a.reverse_channels = reverse;
    a.x = x;
    a.y = y;
    CHECK(fastnorm_normalize_image(&a) == FASTNORM_OK, "refused");
    a.y = x;
    CHECK(fastnorm_normalize_image(&a) == FASTNORM_OK, "in place is refused");
    CHECK(memcmp(x, y, sizeof x) == 0, "in place differs, reverse %d", reverse);
  }
}

static void nan_and_inf(void) {
  fill_parameters(5);
  static float x[3 * 200], y[3 * 200];
  fill_pixels(FASTNORM_FLOAT32, x, 600, 9);
  x[3 * 57 + 1] = NAN;
  x[3 * 58 + 2] = -INFINITY;
  image_args a = new_args(FASTNORM_FLOAT32, 1, 1, 200, 3);
  a.x = x;
  a.y = y;
  a.channels_first = 1;
  CHECK(fastnorm_normalize_image(&a) == FASTNORM_OK, "refused");
  for (int i = 0; i < 600; i++) {
    const int expected = i == 200 + 57 || i == 400 + 58;
    CHECK((isfinite(y[i]) == 0) == expected, "%s: %d is %g", fastnorm_isa(), i,
          (double)y[i]);
  }
  CHECK(isnan(y[257]) && y[458] < 0, "NaN or Inf became something else");
}

/* ---- Same bits ------------------------------------------------------------------- */

/* One large image, bit for bit the same on every set, thread count and shift. */
static void same_bits(void) {
  enum { H = 1100, W = 1009, COUNT = H * W * 3 }; /* enough to be streamed */
  uint8_t *x = new_bytes(COUNT);
  float *y = new_bytes((COUNT + 16) * sizeof(float));
  fill_pixels(FASTNORM_UINT8, x, COUNT, 21);
  fill_parameters(6);
  for (int first = 0; first < 2; first++) {
    uint64_t expected = 0;
    const char *name;
    for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
      fastnorm_set_isa(name);
      for (int threads = 1; threads <= 3; threads++) {
        image_args a = new_args(FASTNORM_UINT8, 1, H, W, 3);
        a.x = x;
        a.y = y + threads * 5 % 16;
        a.channels_first = first;
        a.exec.num_threads = threads;
        CHECK(fastnorm_normalize_image(&a) == FASTNORM_OK, "refused");
        const uint64_t hash = hash_bytes(0, a.y, COUNT * sizeof(float));
        expected = expected == 0 ? hash : expected;
        CHECK(hash == expected, "%s with %d threads differs", name, threads);
      }
    }
  }
  fastnorm_set_isa(NULL);
  free(x);
  free(y);
}

/* ---- On every instruction set ---------------------------------------------------- */

static void accuracy_on_all(void) {
  each_isa(every_byte);
  each_isa(cancellation);
}

static void layouts_on_all(void) {
  each_isa(shapes);
  each_isa(strides);
  each_isa(gaps_in_y);
  each_isa(many_rows);
  each_isa(in_place);
  each_isa(nan_and_inf);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {{"accuracy", accuracy_on_all},
                                    {"layouts", layouts_on_all},
                                    {"same_bits", same_bits}};
  open_rooms();
  return RUN_TESTS(argc, argv, tests);
}
