/* test_running_moments.c - moments of batches: exact, the same bits, within bounds.
 * SPDX-License-Identifier: MIT */
#include "guard.h"
#include "running_moments.h"

enum { ROOM = 1 << 23 };

/* What a batch is, apart from its values. */
typedef struct shape {
  size_t batch, channels, spatial;
  size_t gap, channel_gap; /* elements between samples and between channels */
} shape;

static const shape shapes[] = {
    {1, 1, 1, 0, 0},     {700, 3, 1, 0, 0},   {700, 3, 1, 2, 0},   {70, 64, 1, 0, 0},
    {33, 127, 1, 0, 0},  {19, 128, 1, 5, 0},  {40, 300, 1, 0, 0},  {5, 600, 1, 7, 0},
    {1, 600, 1, 0, 0},   {1, 40, 17, 0, 0},   {1, 5, 4096, 0, 0},  {1, 5, 4097, 0, 3},
    {1, 1, 30011, 0, 0}, {6, 5, 49, 0, 0},    {6, 5, 49, 11, 3},   {90, 2, 196, 0, 0},
    {3, 2, 5000, 1, 0},  {20000, 1, 1, 0, 0}, {70001, 5, 1, 0, 0}, {1, 2, 300001, 0, 1},
};

static const fastnorm_dtype dtypes[] = {FASTNORM_FLOAT32, FASTNORM_FLOAT64,
                                        FASTNORM_UINT8, FASTNORM_INT8,
                                        FASTNORM_BFLOAT16};

static size_t bytes_of(fastnorm_dtype dtype) {
  return dtype == FASTNORM_FLOAT64    ? 8
         : dtype == FASTNORM_FLOAT32  ? 4
         : dtype == FASTNORM_BFLOAT16 ? 2
                                      : 1;
}

static void put_value(void *x, fastnorm_dtype dtype, size_t i, double value) {
  if (dtype == FASTNORM_BFLOAT16) {
    const float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    ((uint16_t *)x)[i] = (uint16_t)(bits >> 16);
  } else if (dtype == FASTNORM_UINT8) {
    ((uint8_t *)x)[i] = (uint8_t)value;
  } else if (dtype == FASTNORM_INT8) {
    ((int8_t *)x)[i] = (int8_t)(value - 100);
  } else {
    put(x, dtype, (ptrdiff_t)i, value);
  }
}

static double get_value(const void *x, fastnorm_dtype dtype, size_t i) {
  if (dtype == FASTNORM_BFLOAT16) {
    const uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
  }
  if (dtype == FASTNORM_UINT8) {
    return (double)((const uint8_t *)x)[i];
  }
  return dtype == FASTNORM_INT8 ? (double)((const int8_t *)x)[i]
                                : get(x, dtype, (ptrdiff_t)i);
}

/* ---- A case: arrays between guard pages, at the end or the start of theirs ------ */

static unsigned char *rooms[4];
enum { X, MASK, WEIGHTS, SCRATCH };

typedef struct scene {
  shape s;
  fastnorm_dtype dtype;
  batch_args args;
  size_t stride, channel_stride, elements; /* of x */
} scene;

static void *place(int room, size_t bytes, int at_end) {
  if (rooms[room] == NULL) {
    rooms[room] = new_room(ROOM);
  }
  if (bytes > ROOM) {
    printf("room %d is too small for %zu bytes\n", room, bytes);
    exit(3);
  }
  return rooms[room] + (at_end ? ROOM - bytes : 0);
}

static size_t x_at(const scene *c, size_t n, size_t k, size_t s) {
  return n * c->stride + k * c->channel_stride + s;
}

/* 1e3 + N(0, 1) for floats, 0 to 200 for bytes (less 100 where they have a sign). */
static void set_scene(scene *c, const shape *s, fastnorm_dtype dtype, int at_end) {
  rng r = {s->batch * 31 + s->channels};
  c->s = *s;
  c->dtype = dtype;
  c->channel_stride = s->spatial + s->channel_gap;
  c->stride = c->channel_stride * s->channels + s->gap;
  c->elements = x_at(c, s->batch - 1, s->channels - 1, s->spatial - 1) + 1;
  void *x = place(X, c->elements * bytes_of(dtype), at_end);
  for (size_t i = 0; i < c->elements; i++) {
    const double z = rng_normal(&r);
    put_value(x, dtype, i, bytes_of(dtype) == 1 ? fabs(z) * 28 : 1e3 + z);
  }
  c->args = (batch_args){.size = sizeof(batch_args),
                         .dtype = dtype,
                         .x = x,
                         .batch = s->batch,
                         .channels = s->channels,
                         .spatial = s->spatial,
                         .x_stride = (ptrdiff_t)c->stride,
                         .x_channel_stride = (ptrdiff_t)c->channel_stride};
  c->args.scratch_size = fastnorm_running_moments_scratch(&c->args);
  c->args.scratch = place(SCRATCH, c->args.scratch_size, at_end);
}

/* Shared along the channels (kind 1), along the samples (2), or of each element (3). */
static void add_mask(scene *c, int kind, int at_end) {
  const shape *s = &c->s;
  batch_args *a = &c->args;
  rng r = {7};
  a->mask_spatial_stride = 1;
  a->mask_channel_stride = kind == 1 ? 0 : (ptrdiff_t)s->spatial;
  a->mask_stride = kind == 2   ? 0
                   : kind == 1 ? (ptrdiff_t)s->spatial
                               : (ptrdiff_t)(s->spatial * s->channels);
  const size_t n = (size_t)a->mask_stride * (s->batch - 1) +
                   (size_t)a->mask_channel_stride * (s->channels - 1) + s->spatial;
  unsigned char *mask = place(MASK, n, at_end);
  for (size_t i = 0; i < n; i++) {
    mask[i] = (unsigned char)(rng_below(&r, 4) * 64); /* 0, or any other byte */
  }
  a->mask = mask;
}

static void add_weights(scene *c, fastnorm_dtype dtype, int at_end) {
  const shape *s = &c->s;
  batch_args *a = &c->args;
  const size_t n = s->batch * s->channels * s->spatial;
  rng r = {9};
  void *weights = place(WEIGHTS, n * bytes_of(dtype), at_end);
  for (size_t i = 0; i < n; i++) {
    put(weights, dtype, (ptrdiff_t)i, (double)rng_below(&r, 5) / 4);
  }
  a->weights = weights;
  a->weights_dtype = dtype;
  a->weights_spatial_stride = 1;
  a->weights_channel_stride = (ptrdiff_t)s->spatial;
  a->weights_stride = (ptrdiff_t)(s->spatial * s->channels);
}

static ptrdiff_t beside(ptrdiff_t n_stride, ptrdiff_t c_stride, ptrdiff_t s_stride,
                        size_t n, size_t k, size_t s) {
  return (ptrdiff_t)n * n_stride + (ptrdiff_t)k * c_stride + (ptrdiff_t)s * s_stride;
}

static double weight_at(const scene *c, size_t n, size_t k, size_t s) {
  const batch_args *a = &c->args;
  if (a->mask && !a->mask[beside(a->mask_stride, a->mask_channel_stride,
                                 a->mask_spatial_stride, n, k, s)]) {
    return 0;
  }
  return a->weights ? get(a->weights, a->weights_dtype,
                          beside(a->weights_stride, a->weights_channel_stride,
                                 a->weights_spatial_stride, n, k, s))
                    : 1;
}

/* ---- The exact result ----------------------------------------------------------- */

static void check_feature(const scene *c, size_t k, const store *got,
                          const char *what) {
  long double w = 0, sum = 0, sq = 0;
  double low = (double)INFINITY, high = -(double)INFINITY;
  int64_t count = 0;
  const long double shift = bytes_of(c->dtype) == 1 ? 50 : 1e3L;
  for (size_t n = 0; n < c->s.batch; n++) {
    for (size_t s = 0; s < c->s.spatial; s++) {
      const double weight = weight_at(c, n, k, s);
      const double x = get_value(c->args.x, c->dtype, x_at(c, n, k, s));
      if (!(weight > 0) || (c->args.nan == FASTNORM_NAN_MISSING && isnan(x))) {
        continue;
      }
      count++;
      w += (long double)weight;
      sum += (long double)weight * ((long double)x - shift);
      sq += (long double)weight * ((long double)x - shift) * ((long double)x - shift);
      low = x < low ? x : low;
      high = x > high ? x : high;
    }
  }
  CHECK(got->count[k] == count, "%s: count", what);
  CHECK(got->rows[5][k] <= low && got->rows[5][k] >= low, "%s: min", what);
  CHECK(got->rows[6][k] <= high && got->rows[6][k] >= high, "%s: max", what);
  if (count == 0) {
    return;
  }
  const long double mean = shift + sum / w, m2 = fabsl(sq - sum * sum / w);
  const long double found = (long double)got->rows[1][k] + (long double)got->rows[2][k];
  const long double found_m2 =
      (long double)got->rows[3][k] + (long double)got->rows[4][k];
  CHECK(fabsl((long double)got->rows[0][k] - w) <= 1e-15L * w, "%s: weight", what);
  CHECK(fabsl(found - mean) <= 1e-15L * sqrtl(m2 / w) + 1e-18L * fabsl(mean),
        "%s: mean %Lg, not %Lg", what, found, mean);
  CHECK(fabsl(found_m2 - m2) <= 1e-14L * m2 + 1e-18L * sq, "%s: m2 %Lg, not %Lg", what,
        found_m2, m2);
}

/* Runs the scene on every instruction set and with several threads: one result, and
 * nothing else in the state is touched. */
static void check_scene(scene *c, const char *what) {
  store first, got;
  const size_t features = c->s.channels;
  const char *name;
  int runs = 0;
  snprintf(running_now, sizeof running_now, "%s [%zu, %zu, %zu] dtype %d", what,
           c->s.batch, c->s.channels, c->s.spatial, (int)c->dtype);
  for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
    fastnorm_set_isa(name);
    for (int threads = 1; threads <= 3; threads += 2) {
      fill_store(&got, 0xa5);
      const state s = state_of(&got, features);
      c->args.exec.num_threads = threads;
      CHECK(fastnorm_running_moments_init(&s) == FASTNORM_OK, "init");
      const fastnorm_status status = fastnorm_running_moments_update(&s, &c->args);
      CHECK(status == FASTNORM_OK, "%s: %s", running_now, fastnorm_strerror(status));
      CHECK(runs == 0 || memcmp(&first, &got, sizeof got) == 0, "%s: other bits on %s",
            running_now, name);
      if (runs++ == 0) {
        first = got;
      }
    }
  }
  fastnorm_set_isa(NULL);
  store untouched;
  fill_store(&untouched, 0xa5);
  for (size_t k = features; k < FEATURES; k++) {
    CHECK(first.count[k] == untouched.count[k] &&
              memcmp(&first.rows[1][k], &untouched.rows[1][k], 8) == 0,
          "%s: wrote beyond the features", running_now);
  }
  for (size_t k = 0; k < features && test_failures == 0; k++) {
    check_feature(c, k, &first, running_now);
  }
}

static void each_scene(void (*alter)(scene *c, int at_end), const char *what) {
  scene c;
  for (size_t i = 0; i < LENGTH(shapes) - AT_LEVEL(0, 2, 2); i++) {
    for (size_t d = 0; d < LENGTH(dtypes); d++) {
      for (int at_end = 0; at_end < 2; at_end++) {
        set_scene(&c, &shapes[i], dtypes[d], at_end);
        if (alter) {
          alter(&c, at_end);
        }
        check_scene(&c, what);
      }
    }
  }
}

static void plain(void) {
  each_scene(NULL, "plain");
}

static void alter_missing(scene *c, int at_end) {
  (void)at_end;
  rng r = {3};
  c->args.nan = FASTNORM_NAN_MISSING;
  for (size_t i = 0; bytes_of(c->dtype) > 1 && i < c->elements; i += 1 + i % 5) {
    put_value((void *)(uintptr_t)c->args.x, c->dtype, i, (double)NAN);
  }
  (void)r;
}

static void missing(void) {
  each_scene(alter_missing, "missing");
}

static int mask_kind;
static void alter_mask(scene *c, int at_end) {
  add_mask(c, mask_kind, at_end);
}

static void masked(void) {
  for (mask_kind = 1; mask_kind <= 3; mask_kind++) {
    each_scene(alter_mask, "masked");
  }
}

static void alter_weights(scene *c, int at_end) {
  if (c->s.batch * c->s.channels * c->s.spatial * 8 > ROOM) {
    return;
  }
  add_mask(c, 1 + at_end, at_end);
  add_weights(c, at_end ? FASTNORM_FLOAT32 : FASTNORM_FLOAT64, at_end);
}

static void weighted(void) {
  each_scene(alter_weights, "weighted");
}

/* A table read backwards and through a mask read backwards: the same counts, the same
 * extremes, and the same moments within the bound. */
static void backwards(void) {
  scene c;
  const shape s = {300, 7, 1, 3, 0};
  set_scene(&c, &s, FASTNORM_FLOAT32, 1);
  c.args.x = (const float *)c.args.x + (s.batch - 1) * c.stride;
  c.args.x_stride = -(ptrdiff_t)c.stride;
  store got;
  const state st = state_of(&got, 7);
  fastnorm_running_moments_init(&st);
  CHECK(fastnorm_running_moments_update(&st, &c.args) == FASTNORM_OK, "backwards");
  set_scene(&c, &s, FASTNORM_FLOAT32, 1);
  for (size_t k = 0; k < 7; k++) {
    check_feature(&c, k, &got, "backwards");
  }
}

/* ---- Merging -------------------------------------------------------------------- */

/* A table in parts: one state that takes them in, and one state of each, merged from
 * the last to the first, are the whole; a state merged with itself is twice that. */
static void parts(void) {
  scene c;
  const shape s = {1000, 5, 1, 0, 0};
  static const size_t cuts[] = {0, 1, 1, 400, 417, 999, 1000};
  for (size_t d = 0; d < LENGTH(dtypes); d++) {
    store taken, merged, part;
    const state t = state_of(&taken, 5), g = state_of(&merged, 5),
                p = state_of(&part, 5);
    set_scene(&c, &s, dtypes[d], 0);
    fastnorm_running_moments_init(&t);
    fastnorm_running_moments_init(&g);
    for (size_t i = 0; i + 1 < LENGTH(cuts); i++) {
      for (int last = 0; last < 2; last++) {
        const size_t k = last ? LENGTH(cuts) - 2 - i : i;
        batch_args a = c.args;
        a.batch = cuts[k + 1] - cuts[k];
        a.x = (const char *)a.x + cuts[k] * c.stride * bytes_of(dtypes[d]);
        const state *into = last ? &p : &t;
        if (last) {
          fastnorm_running_moments_init(&p);
        }
        CHECK(fastnorm_running_moments_update(into, &a) == FASTNORM_OK, "part");
      }
      CHECK(fastnorm_running_moments_merge(&g, &p) == FASTNORM_OK, "merge");
    }
    for (size_t k = 0; k < 5; k++) {
      check_feature(&c, k, &taken, "taken in");
      check_feature(&c, k, &merged, "merged");
    }
    const store once = merged;
    CHECK(fastnorm_running_moments_merge(&g, &g) == FASTNORM_OK, "itself");
    for (size_t k = 0; k < 5; k++) {
      CHECK(merged.count[k] == 2 * once.count[k], "itself: count");
      CHECK(fabs(merged.rows[1][k] - once.rows[1][k]) <= 0, "itself: mean");
      CHECK(fabs(merged.rows[3][k] - 2 * once.rows[3][k]) <= 0, "itself: m2");
    }
  }
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"plain", plain},       {"missing", missing},     {"masked", masked},
      {"weighted", weighted}, {"backwards", backwards}, {"parts", parts},
  };
  return RUN_TESTS(argc, argv, tests);
}
