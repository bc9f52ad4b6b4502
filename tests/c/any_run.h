/* any_run.h - runs a drawn call and says what it should not have done.
 * SPDX-License-Identifier: MIT
 *
 * A refused call has written nothing; an accepted one no more than its outputs, the
 * same bits as the portable kernels with one thread, and, where the oracle knows the
 * operation, what is close to the exact answer. */
#ifndef FN_TEST_ANY_RUN_H
#define FN_TEST_ANY_RUN_H

#include "any_arrays.h"
#include "oracle.h"

static inline const char *describe_call(const any_call *c) {
  static char text[400];
  int n = snprintf(text, sizeof text,
                   "%s x %d y %d params %d [%zu, %zu, %zu] groups %zu last %d pattern "
                   "%d raw %d bad %d isa %s:",
                   c->op->name, (int)c->x, (int)c->y, (int)c->params, c->n[0], c->n[1],
                   c->n[2], c->groups, c->channels_last, (int)c->pattern, c->raw,
                   c->bad, fastnorm_isa());
  for (size_t i = 0; i < c->blocks && n < (int)sizeof text - 60; i++) {
    const block *b = &c->block[i];
    n += snprintf(text + n, sizeof text - (size_t)n, " %s(%td,%td)%s", b->field->name,
                  b->stride[0], b->stride[1], b->home != i ? "*" : "");
  }
  return text;
}

static inline void set_integer(any_call *c, const char *name, int64_t v) {
  const field *f = find_field(c->op, name);
  if (f != NULL) {
    put_integer(c, f, v);
  }
}

static inline void restore(const any_call *c) {
  for (size_t i = 0; i < c->blocks; i++) {
    if (c->block[i].home == i) {
      memcpy(c->block[i].memory, c->block[i].before, c->block[i].memory_bytes);
    }
  }
}

static inline int is_untouched(const any_call *c) {
  for (size_t i = 0; i < c->blocks; i++) {
    const block *b = &c->block[i];
    if (b->home == i && memcmp(b->memory, b->before, b->memory_bytes) != 0) {
      return 0;
    }
  }
  return 1;
}

/* The bytes of each home's memory that the call may write. */
static inline unsigned char *writable(const any_call *c, size_t home) {
  unsigned char *map = new_bytes(c->block[home].memory_bytes);
  for (size_t i = 0; i < c->blocks; i++) {
    const block *b = &c->block[i];
    if (b->home == home && b->field->use != READ && b->whole) {
      for (size_t k = 0; k < element_count(b); k++) {
        memset(map + (b->p + element_at(b, k) - c->block[home].memory), 1, b->element);
      }
    }
  }
  return map;
}

static inline void check_bounds(const any_call *c) {
  for (size_t i = 0; i < c->blocks; i++) {
    const block *b = &c->block[i];
    if (b->home != i) {
      continue;
    }
    unsigned char *map = writable(c, i);
    for (size_t k = 0; k < b->memory_bytes; k++) {
      if (!map[k] && b->memory[k] != b->before[k]) {
        fail("%s: byte %zu of %s was written", describe_call(c), k, b->field->name);
        break;
      }
    }
    free(map);
  }
}

/* Which NaN is not promised. */
static inline int same_element(const block *b, const unsigned char *p,
                               const unsigned char *q) {
  return memcmp(p, q, b->element) == 0 ||
         (b->type != FASTNORM_DEFAULT && !is_byte_type(b->type) &&
          isnan(element(b->type, p, 0)) && isnan(element(b->type, q, 0)));
}

static inline void check_same_bits(const any_call *c, unsigned char *const *first,
                                   const char *what) {
  for (size_t i = 0; i < c->blocks; i++) {
    const block *b = &c->block[i], *home = &c->block[b->home];
    for (size_t k = 0; b->field->use != READ && k < element_count(b); k++) {
      const unsigned char *p = b->p + element_at(b, k);
      const unsigned char *q = first[b->home] + (p - home->memory);
      if (!same_element(b, p, q)) {
        fail("%s: %s[%zu] is %g, %s %g", describe_call(c), b->field->name, k,
             b->type ? element(b->type, q, 0) : (double)*q, what,
             b->type ? element(b->type, p, 0) : (double)*p);
        return;
      }
    }
  }
}

/* ---- The oracle ------------------------------------------------------------------ */

static inline block *find_block(any_call *c, const char *name) {
  for (size_t i = 0; i < c->blocks; i++) {
    if (strcmp(c->block[i].field->name, name) == 0) {
      return &c->block[i];
    }
  }
  return NULL;
}

/* As it was before the call. */
static inline void *earlier(any_call *c, const char *name) {
  const block *b = find_block(c, name);
  return b == NULL ? NULL
                   : c->block[b->home].before + (b->p - c->block[b->home].memory);
}

static inline void *now_at(any_call *c, const char *name) {
  const block *b = find_block(c, name);
  return b == NULL ? NULL : b->p;
}

static inline int oracle_operation(any_call *c) {
  static const struct {
    const char *name;
    operation op, other;
    const char *if_set;
  } known[] = {
      {"layer_norm", LAYER_NORM, LAYER_STORED, "stored_mean"},
      {"rms_norm", RMS_NORM, RMS_NORM, ""},
      {"l1_norm", L1_NORM, L1_NORM, ""},
      {"l2_norm", L2_NORM, L2_NORM, ""},
      {"batch_norm", BATCH_INFERENCE, BATCH_TRAINING, "training"},
      {"batch_renorm", OPERATIONS, BATCH_RENORM, "training"},
      {"weight_norm", WEIGHT_NORM, WEIGHT_NORM, ""},
      {"group_norm", GROUP_NORM, GROUP_STORED, "stored_mean"},
      {"instance_norm", INSTANCE_NORM, INSTANCE_INFERENCE, "use_running_stats"},
      {"moments", MOMENTS, MOMENTS, ""}};
  for (size_t i = 0; i < LENGTH(known); i++) {
    if (strcmp(known[i].name, c->op->name) == 0) {
      const int other = find_block(c, known[i].if_set) != NULL ||
                        field_value(c, known[i].if_set) != 0;
      const operation op = other ? known[i].other : known[i].op;
      const int last =
          op == GROUP_NORM || op == INSTANCE_NORM || op == INSTANCE_INFERENCE;
      return (int)op + (c->channels_last && last ? 1 : 0);
    }
  }
  return OPERATIONS;
}

static inline double real_field(const any_call *c, const char *name) {
  const field *f = find_field(c->op, name);
  double v = 0.0;
  if (f != NULL) {
    memcpy(&v, c->args.bytes + f->at, sizeof v);
  }
  return v;
}

/* Values of float or double, all finite, nothing before or after the norm. */
static inline int is_plain(any_call *c) {
  static const char *const extras[] = {"residual",     "epilogue.post_add", "mask.mask",
                                       "mask.weights", "mask.lengths",      "lengths",
                                       "y_scale"};
  if (c->raw || c->bad != 0 || c->x != c->working || c->y != c->x ||
      c->params != c->x || field_value(c, "activation") != 0 ||
      field_value(c, "mode") != 0 || field_value(c, "flush_denormals") != 0) {
    return 0;
  }
  for (size_t i = 0; i < LENGTH(extras); i++) {
    if (find_block(c, extras[i]) != NULL) {
      return 0;
    }
  }
  for (size_t k = 0; k < c->blocks; k++) {
    const block *b = &c->block[k];
    const block *home = &c->block[b->home];
    const unsigned char *values = home->before + (b->p - home->memory);
    for (size_t i = 0; b->field->use != WRITTEN && i < element_count(b); i++) {
      if (!isfinite(element(b->type, values + element_at(b, i), 0))) {
        return 0;
      }
    }
  }
  return 1;
}

static inline ptrdiff_t stride_of(any_call *c, const char *name, int which) {
  const block *b = find_block(c, name);
  return b == NULL ? 0 : b->stride[which];
}

/* The call, for the oracle: x and what else is read as they were before it. */
static inline job job_of(any_call *c) {
  const int op = oracle_operation(c), last = c->channels_last;
  const int moments = op == MOMENTS, stored = op == LAYER_STORED || op == GROUP_STORED;
  job j = {.op = (operation)op,
           .dtype = c->x,
           .n0 = c->n[0],
           .n1 = last ? c->n[2] : c->n[1],
           .n2 = last ? c->n[1] : c->n[2],
           .groups = c->groups};
  j.x_s0 = stride_of(c, "x", 0), j.x_s1 = stride_of(c, "x", 1);
  j.y_s0 = stride_of(c, "y", 0), j.y_s1 = stride_of(c, "y", 1);
  j.x = earlier(c, "x");
  j.y = now_at(c, "y");
  j.weight = earlier(c, op == WEIGHT_NORM ? "g" : "weight");
  j.bias = earlier(c, "bias");
  j.mean = now_at(c, "mean");
  j.rstd = now_at(c, moments ? "m2" : is_length(j.op) ? "norm" : "rstd");
  j.running_mean = earlier(c, stored ? "stored_mean" : "running_mean");
  j.running_var = earlier(c, stored ? "stored_var" : "running_var");
  j.eps = real_field(c, "eps");
  j.r_max = real_field(c, "r_max");
  j.d_max = real_field(c, "d_max");
  return j;
}

static inline void check_oracle(any_call *c) {
  job j;
  if (oracle_operation(c) >= OPERATIONS || !is_plain(c)) {
    return;
  }
  j = job_of(c);
  if (j.op == MOMENTS) {
    j.weight = NULL;
  }
  if (j.op == GROUP_STORED && c->channels_last) {
    return; /* no operation of the oracle's */
  }
  group_truth *truths = find_truths(&j);
  if (j.op != MOMENTS) {
    check_y(&j, truths, "drawn");
  }
  check_statistics(&j, truths, "drawn");
  free(truths);
}

/* ---- A call ---------------------------------------------------------------------- */

/* What the values of the arrays decide is not known before. */
static inline int may_come_later(const any_call *c, fastnorm_status s) {
  return strcmp(c->op->name, "running_update") == 0 &&
         (s == FASTNORM_ERROR_NAN || s == FASTNORM_ERROR_WEIGHT ||
          s == FASTNORM_ERROR_SHAPE);
}

static inline int has_elements(const any_call *c) {
  return c->n[0] != 0 && c->n[1] != 0 && c->n[2] != 0;
}

/* What is written must be so whatever was there. */
static inline void spoil_outputs(const any_call *c) {
  for (size_t i = 0; i < c->blocks; i++) {
    const block *b = &c->block[i];
    if (b->field->use == WRITTEN && b->home == i) {
      int alone = 1;
      for (size_t k = 0; k < c->blocks; k++) {
        alone = alone && (k == i || c->block[k].home != i);
      }
      for (size_t k = 0; alone && k < element_count(b); k++) {
        memset(b->p + element_at(b, k), 0x3c, b->element);
      }
    }
  }
}

static inline void check_portable(any_call *c) {
  unsigned char *first[MOST_BLOCKS] = {NULL};
  fastnorm_parallel_for none = NULL;
  for (size_t i = 0; i < c->blocks; i++) {
    if (c->block[i].home == i) {
      first[i] = new_bytes(c->block[i].memory_bytes);
      memcpy(first[i], c->block[i].memory, c->block[i].memory_bytes);
    }
  }
  restore(c);
  spoil_outputs(c);
  set_integer(c, "num_threads", 1);
  const field *pool = find_field(c->op, "parallel_for");
  if (pool != NULL) {
    put_field(c, pool->at, &none, sizeof none);
  }
  fastnorm_set_isa("portable");
  const fastnorm_status s = c->op->call(c->args.bytes);
  CHECK(s == FASTNORM_OK, "%s: portable: %s", describe_call(c), fastnorm_strerror(s));
  check_same_bits(c, first, "portable");
  for (size_t i = 0; i < c->blocks; i++) {
    free(first[i]);
  }
}

/* Runs it on `isa`; the status. */
static inline fastnorm_status check_call(any_call *c, const char *isa) {
  fastnorm_set_isa(isa);
  set_integer(c, "check_only", 1);
  const int can_only_check = find_field(c->op, "check_only") != NULL;
  const fastnorm_status first =
      can_only_check ? c->op->call(c->args.bytes) : FASTNORM_OK;
  CHECK(!can_only_check || is_untouched(c), "%s: check_only wrote", describe_call(c));
  set_integer(c, "check_only", 0);
  const fastnorm_status s = c->op->call(c->args.bytes);
  CHECK(!can_only_check || s == first || (first == FASTNORM_OK && may_come_later(c, s)),
        "%s: status %d, but %d if only checked", describe_call(c), (int)s, (int)first);
  if (s != FASTNORM_OK) {
    CHECK(is_untouched(c), "%s: refused with %d, but it wrote", describe_call(c),
          (int)s);
  } else {
    check_bounds(c);
    if (has_elements(c)) {
      check_oracle(c);
      check_portable(c);
    }
  }
  fastnorm_set_isa(NULL);
  return s;
}

#endif /* FN_TEST_ANY_RUN_H */
