/* any_call.h - a call of any operation, good or bad, drawn from bytes.
 * SPDX-License-Identifier: MIT
 *
 * Which fields there are, and what they mean, say the tables of known_operations.h.
 * Each array lies in a block of its own, as large as the call says and no larger, so
 * that a sanitizer sees every byte beside it; outputs may lie in the block of another
 * array. A source that has run out gives zeros: the defaults. */
#ifndef FN_TEST_ANY_CALL_H
#define FN_TEST_ANY_CALL_H

#include "elements.h"
#include "job.h"
#include "known_operations.h"

typedef struct source {
  const unsigned char *bytes;
  size_t left;
} source;

static inline size_t draw_byte(source *s) {
  if (s->left == 0) {
    return 0;
  }
  s->left--;
  return *s->bytes++;
}

static inline size_t draw_below(source *s, size_t n) {
  const size_t low = draw_byte(s);
  return (n <= 256 ? low : low << 16 | draw_byte(s) << 8 | draw_byte(s)) % n;
}

static inline int one_in(source *s, size_t n) {
  return draw_byte(s) % n == n - 1;
}

/* An array of a call. */
typedef struct block {
  const field *field;
  fastnorm_dtype type; /* 0: of bytes that are no numbers of a fastnorm_dtype */
  size_t element, n[3];
  ptrdiff_t stride[3];
  size_t below, bytes; /* below the pointer, and in all */
  int whole;           /* all its elements have memory */
  size_t home;         /* the block in whose memory it lies: itself, or another */
  ptrdiff_t at;        /* bytes from the pointer of that one to its own */
  size_t lead;         /* elements of the memory before it; that is not its own */
  unsigned char *p, *memory, *before;
  size_t memory_bytes;
} block;

enum { MOST_BLOCKS = 24, MOST_ARGS = 1024 };

typedef struct any_call {
  const known_operation *op;
  union {
    unsigned char bytes[MOST_ARGS];
    double align;
    void *pointer;
  } args;
  size_t n[4]; /* rows or samples, columns or channels, inner or spatial; channels of
                  an image */
  size_t groups;
  int channels_last;
  fastnorm_dtype x, y, params, working, residual, post_add, weights;
  int bad; /* a field in so many is a bad one; 0: none */
  int raw; /* the arrays hold any bits */
  pattern pattern;
  uint64_t seed;
  size_t positions, mask_choice;
  int stored;
  size_t blocks;
  block block[MOST_BLOCKS];
  unsigned char *scratch;
} any_call;

/* ---- Fields ---------------------------------------------------------------------- */

static inline void put_field(any_call *c, size_t at, const void *v, size_t bytes) {
  memcpy(c->args.bytes + at, v, bytes);
}

/* Of 4 or 8 bytes: integers, enumerations, strides. */
static inline void put_integer(any_call *c, const field *f, int64_t v) {
  const int32_t small = (int32_t)v;
  put_field(c, f->at, f->bytes == sizeof small ? (const void *)&small : &v, f->bytes);
}

static inline int64_t get_integer(const any_call *c, size_t at, size_t bytes) {
  int64_t v = 0;
  int32_t small = 0;
  memcpy(bytes == sizeof small ? (void *)&small : &v, c->args.bytes + at, bytes);
  return bytes == sizeof small ? small : v;
}

static inline void put_double(any_call *c, const field *f, double v) {
  const float small = (float)v;
  put_field(c, f->at, f->bytes == sizeof small ? (const void *)&small : &v, f->bytes);
}

/* Whether its path is `name`, or ends with it: "batch.x_stride" with "x_stride". */
static inline int is_named(const field *f, const char *name) {
  const size_t all = strlen(f->name), some = strlen(name);
  return all >= some && strcmp(f->name + all - some, name) == 0 &&
         (all == some || f->name[all - some - 1] == '.');
}

static inline const field *find_field(const known_operation *op, const char *name) {
  for (size_t i = 0; i < op->count; i++) {
    if (is_named(&op->fields[i], name)) {
      return &op->fields[i];
    }
  }
  return NULL;
}

static inline int64_t field_value(const any_call *c, const char *name) {
  const field *f = find_field(c->op, name);
  return f == NULL ? 0 : get_integer(c, f->at, f->bytes);
}

static inline int is_backward(const known_operation *op) {
  return strstr(op->name, "backward") != NULL;
}

static inline int is_byte_type(fastnorm_dtype t) {
  return t == FASTNORM_INT8 || t == FASTNORM_UINT8;
}

/* ---- Drawing what is no array ---------------------------------------------------- */

static inline int draw_bad(any_call *c, source *s) {
  return c->bad != 0 && one_in(s, (size_t)c->bad);
}

static inline void draw_extents(any_call *c, source *s) {
  static const size_t long_sizes[] = {127, 128, 255, 257, 511, 513, 1025, 4099};
  const size_t style = draw_byte(s);
  size_t n[3] = {1 + draw_below(s, 4), 1 + draw_below(s, 70), 1 + draw_below(s, 9)};
  if (style < 160) {
    n[0] = 1 + draw_below(s, 8);
  } else if (style < 200) {
    const size_t k = draw_below(s, 3);
    n[1] = 1 + n[1] % 8;
    n[k] = 1 + draw_below(s, 600);
  } else if (style < 240) {
    n[1] = 1 + n[1] % 4;
    n[draw_below(s, 3)] = long_sizes[draw_below(s, LENGTH(long_sizes))];
  } else if (style < 254) {
    n[0] = draw_below(s, 3), n[1] = draw_below(s, 3), n[2] = draw_below(s, 3);
  } else { /* large enough for threads */
    n[draw_below(s, 2)] = 2000 + draw_below(s, 60000);
  }
  if (one_in(s, 3)) {
    n[2] = 1;
  }
  const size_t most = style < 254 ? 5000 : 200000;
  while (n[0] * n[1] * n[2] > most) {
    size_t k = 3; /* long ones stay long */
    for (size_t i = 0; i < 3; i++) {
      k = n[i] > 1 && (k == 3 || n[i] < n[k]) ? i : k;
    }
    n[k] /= 2;
  }
  const size_t pixel = 1 + draw_below(s, 4);
  const size_t all[] = {n[0], n[1], n[2], pixel};
  static const size_t bad[] = {SIZE_MAX, (size_t)PTRDIFF_MAX + 1, SIZE_MAX / 2 + 2};
  memcpy(c->n, all, sizeof all);
  for (size_t i = 0, k = 0; i < c->op->count; i++) {
    const field *f = &c->op->fields[i];
    if (f->kind == EXTENT) {
      c->n[k] = draw_bad(c, s) ? bad[draw_below(s, LENGTH(bad))] : c->n[k];
      put_integer(c, f, (int64_t)c->n[k++]);
    } else if (f->kind == FEATURES) {
      const int differs =
          is_named(f, "other.features") || strcmp(c->op->name, "running_update") == 0;
      const size_t more = differs && draw_bad(c, s) ? 1 : 0;
      put_integer(c, f, (int64_t)(c->n[1] + more));
    }
  }
  if (c->op->layout == ROWS_LAYOUT && c->n[2] == 0) {
    c->n[2] = 1; /* the default */
  }
  if (c->op->layout == STATE_LAYOUT) {
    c->n[0] = c->n[2] = 1;
  }
}

static inline int64_t draw_dtype(any_call *c, const field *f, source *s) {
  static const signed char x[] = {0, 1, 1, 2, 2, 3, 4, 5, 6},
                           wide[] = {0, 0, 2, 2, 0, 2},
                           narrow[] = {0, 0, 0, 1, 3, 4, 5, 6}, bad[] = {7, -1, 2, 5};
  const size_t no_bytes = is_backward(c->op) ? 2 : 0;
  if (draw_bad(c, s)) {
    return bad[draw_below(s, LENGTH(bad))];
  }
  if (f->kind == DTYPE) {
    return x[draw_below(s, LENGTH(x) - no_bytes)];
  }
  if (is_named(f, "weights_dtype")) {
    return (int64_t)draw_below(s, 8) == 7 ? 2 : 0;
  }
  const size_t most = is_named(f, "format.y") ? 8 - no_bytes : 6;
  return c->x == FASTNORM_FLOAT64 ? wide[draw_below(s, LENGTH(wide))]
                                  : narrow[draw_below(s, most)];
}

static inline double draw_number(any_call *c, const field *f, source *s) {
  static const double eps[] = {0, FASTNORM_EPS_ZERO, 1e-3, 1e-30, 1e-300, 1e3},
                      momenta[] = {0, 0.3, 1, FASTNORM_MOMENTUM_CUMULATIVE},
                      limits[] = {0, 1, 2, (double)INFINITY},
                      pixels[] = {0, 0.5, -2, 1e-9}, degrees[] = {0, 1, 2.5},
                      bad[] = {(double)NAN, (double)INFINITY, -0.5, -7, 1.5, 1e200};
  if (draw_bad(c, s)) {
    return bad[draw_below(s, LENGTH(bad))];
  }
  switch (f->kind) {
  case EPS:
    return eps[draw_below(s, LENGTH(eps))];
  case MOMENTUM:
    return momenta[draw_below(s, LENGTH(momenta))];
  case LIMIT:
    return limits[draw_below(s, LENGTH(limits))];
  case PIXEL_SCALE:
    return pixels[draw_below(s, LENGTH(pixels))];
  default:
    return degrees[draw_below(s, LENGTH(degrees))];
  }
}

/* What a field of type says, or its default. */
static inline fastnorm_dtype type_given(const any_call *c, const char *name) {
  const fastnorm_dtype given = (fastnorm_dtype)field_value(c, name);
  return given != FASTNORM_DEFAULT ? given
         : is_byte_type(c->x)      ? FASTNORM_FLOAT32
                                   : c->x;
}

static inline void draw_quantization(any_call *c, const field *f, source *s) {
  static const float scales[] = {0.0F, 0.0F, 0.02F, 1.0F / 255, 3.0F};
  static const float bad_scales[] = {-1.0F, NAN, 0x1p-127F, 0x1p127F, 1.0F};
  const fastnorm_dtype type =
      strstr(f->name, "y_quantization") ? type_given(c, "format.y") : c->x;
  const int low = type == FASTNORM_INT8 ? -128 : 0;
  if (f->kind == SCALE) {
    const float scale = scales[draw_below(s, LENGTH(scales))];
    put_double(c, f,
               (double)(draw_bad(c, s)       ? bad_scales[draw_below(s, 5)]
                        : is_byte_type(type) ? scale
                                             : 0.0F));
  } else {
    const int64_t point = is_byte_type(type) ? low + (int64_t)draw_below(s, 256) : 0;
    put_integer(c, f, draw_bad(c, s) ? 300 : one_in(s, 2) ? point : 0);
  }
}

static inline size_t draw_groups(any_call *c, source *s) {
  size_t groups = 1 + draw_below(s, 40);
  if (draw_bad(c, s)) {
    return one_in(s, 2) ? 0 : c->n[1] + 1;
  }
  while (c->n[1] % groups != 0) {
    groups--;
  }
  return groups;
}

static inline void backwards(void *context, size_t count, fastnorm_task task,
                             void *task_context) {
  (void)context;
  while (count > 0) {
    task(task_context, --count);
  }
}

static inline void draw_activation(any_call *c, const field *f, source *s) {
  const int64_t bad = one_in(s, 2) ? 11 : -1;
  put_integer(c, f,
              draw_bad(c, s) ? bad
              : one_in(s, 2) ? (int64_t)draw_below(s, 11)
                             : 0);
}

static inline void draw_alpha_beta(any_call *c, const field *f, source *s) {
  const int64_t activation = field_value(c, "activation");
  const int alpha = is_named(f, "alpha");
  double v = 0.0;
  if (activation == FASTNORM_CLAMP) {
    v = alpha ? -0.75 : 1.5;
  } else if (activation == FASTNORM_LEAKY_RELU && alpha) {
    v = one_in(s, 2) ? 0.2 : 0.0;
  }
  put_double(c, f, draw_bad(c, s) ? (double)NAN : v);
}

static inline void draw_flag(any_call *c, const field *f, source *s) {
  const int rare = is_named(f, "flush_denormals");
  int64_t v = rare ? one_in(s, 8) : one_in(s, 2);
  if (is_named(f, "check_only")) {
    v = 0; /* who runs the call sets it */
  } else if (is_named(f, "channels_last")) {
    c->channels_last = (int)v;
  }
  put_integer(c, f, v == 1 && one_in(s, 16) ? -3 : v);
}

/* What is not drawn with the arrays. */
static inline void draw_field(any_call *c, const field *f, source *s) {
  static const signed char threads[] = {1, 1, 2, 3, 8, 0};
  fastnorm_parallel_for host = backwards;
  switch (f->kind) {
  case SIZE_FIELD:
    put_integer(c, f, draw_bad(c, s) ? 8 : (int64_t)f->whole);
    break;
  case DTYPE_OTHER:
    put_integer(c, f, draw_dtype(c, f, s));
    break;
  case GROUPS:
    c->groups = draw_groups(c, s);
    put_integer(c, f, (int64_t)c->groups);
    break;
  case EPS:
  case MOMENTUM:
  case LIMIT:
  case PIXEL_SCALE:
  case DDOF:
    put_double(c, f, draw_number(c, f, s));
    break;
  case TRACKED:
    put_integer(c, f, (int64_t)draw_below(s, 3));
    break;
  case FLAG:
    draw_flag(c, f, s);
    break;
  case THREADS:
    put_integer(c, f, draw_bad(c, s) ? -1 : threads[draw_below(s, LENGTH(threads))]);
    break;
  case HOST_POOL:
    if (one_in(s, 8)) {
      put_field(c, f->at, &host, sizeof host);
    }
    break;
  case SCALE:
  case ZERO_POINT:
    draw_quantization(c, f, s);
    break;
  case ACTIVATION:
    draw_activation(c, f, s);
    break;
  case ALPHA_BETA:
    draw_alpha_beta(c, f, s);
    break;
  case MODE:
  case POLICY:
    put_integer(c, f, draw_bad(c, s) ? 3 : (int64_t)draw_below(s, 3));
    break;
  default:
    break;
  }
}

/* All but the arrays, strides, masks and scratch. */
static inline void draw_fields(any_call *c, source *s) {
  c->groups = 1;
  draw_extents(c, s);
  const field *type = find_field(c->op, "dtype");
  c->x = FASTNORM_FLOAT64;
  if (type != NULL) {
    c->x = (fastnorm_dtype)draw_dtype(c, type, s);
    put_integer(c, type, c->x);
    c->x = c->x == FASTNORM_DEFAULT ? FASTNORM_FLOAT32 : c->x;
  }
  for (size_t i = 0; i < c->op->count; i++) {
    draw_field(c, &c->op->fields[i], s);
  }
  if (c->op->layout == SAMPLES_LAYOUT && find_field(c->op, "groups") == NULL) {
    c->groups = c->n[1];
  }
  c->y = type_given(c, "format.y");
  c->params = type_given(c, "format.params");
  c->residual = type_given(c, "residual_dtype");
  c->post_add = type_given(c, "post_add_dtype");
  c->working = c->x == FASTNORM_FLOAT64 ? FASTNORM_FLOAT64 : FASTNORM_FLOAT32;
  c->weights = (fastnorm_dtype)field_value(c, "weights_dtype");
  if (c->weights == FASTNORM_DEFAULT) {
    c->weights = FASTNORM_FLOAT32;
  }
}

#endif /* FN_TEST_ANY_CALL_H */
