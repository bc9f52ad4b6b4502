/* good_call.h - a call of any operation that is good, each array in a place of its own.
 * SPDX-License-Identifier: MIT */
#ifndef FN_TEST_GOOD_CALL_H
#define FN_TEST_GOOD_CALL_H

#include "any_arrays.h"

/* Places of so many bytes, one after the other. */
typedef struct places {
  unsigned char *memory;
  size_t bytes;
} places;

/* Float32, with extents as they are given by name, and every array that may be there
 * with all others; nothing is written to the places. */
static inline any_call good_call(const known_operation *o, const places *in,
                                 size_t (*extent)(const field *f)) {
  static const char *const left_out[] = {"mask",     "weights",       "lengths",
                                         "residual", "residual_bias", "residual_out",
                                         "y_scale",  "stored_mean",   "stored_var"};
  const fastnorm_dtype type = FASTNORM_FLOAT32;
  any_call c = {.op = o, .x = type, .y = type, .params = type, .working = type};
  unsigned char *next = in->memory;
  c.post_add = type;
  for (size_t i = 0; i < o->count; i++) {
    const field *f = &o->fields[i];
    int given = f->kind == ARRAY || f->kind == SCRATCH;
    for (size_t k = 0; k < LENGTH(left_out); k++) {
      given = given && !is_named(f, left_out[k]);
    }
    if (f->kind == SIZE_FIELD) {
      put_field(&c, f->at, &f->whole, sizeof f->whole);
    } else if (f->kind == EXTENT || f->kind == FEATURES) {
      const size_t n = extent(f);
      put_field(&c, f->at, &n, sizeof n);
    } else if (f->kind == SCRATCH_SIZE) {
      put_field(&c, f->at, &in->bytes, sizeof in->bytes);
    } else if (f->kind == GROUPS || (f->kind == FLAG && is_named(f, "training"))) {
      put_integer(&c, f, 1);
    } else if (given) {
      put_field(&c, f->at, &next, sizeof next);
      next += in->bytes;
    }
  }
  return c;
}

/* NULL: not given. */
static inline unsigned char *pointer_of(const any_call *c, const field *f) {
  unsigned char *p;
  memcpy(&p, c->args.bytes + f->at, sizeof p);
  return p;
}

#endif /* FN_TEST_GOOD_CALL_H */
