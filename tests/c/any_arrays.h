/* any_arrays.h - the arrays of a call of any_call.h: strides, places, contents.
 * SPDX-License-Identifier: MIT
 */
#ifndef FN_TEST_ANY_ARRAYS_H
#define FN_TEST_ANY_ARRAYS_H

#include "any_call.h"

/* Where blocks come from; a test may have places of its own. */
#ifndef BLOCK_ALLOCATE
#define BLOCK_ALLOCATE(bytes) malloc(bytes)
#define BLOCK_FREE(p)         free(p)
#endif

/* ---- Which there are, of what type and shape ------------------------------------- */

static inline fastnorm_dtype array_type(const any_call *c, element_kind what) {
  switch (what) {
  case LIKE_X:
    return c->x;
  case LIKE_Y:
    return c->y;
  case LIKE_PARAMS:
    return c->params;
  case LIKE_RESIDUAL:
    return c->residual;
  case LIKE_POST_ADD:
    return c->post_add;
  case LIKE_WEIGHTS:
    return c->weights;
  case WORKING:
    return c->working;
  case DOUBLES:
    return FASTNORM_FLOAT64;
  case FLOATS:
    return FASTNORM_FLOAT32;
  default:
    return FASTNORM_DEFAULT;
  }
}

/* 8 where a bad type says nothing. */
static inline size_t array_element(fastnorm_dtype type, element_kind what) {
  if (what == BYTES_01) {
    return 1;
  }
  if (type == FASTNORM_DEFAULT) {
    return what == SIZES ? sizeof(size_t) : 8;
  }
  return (int)type < 0 || type > FASTNORM_UINT8 ? 8 : bytes_of(type);
}

/* A call without bad fields gives what belongs together together. */
static inline int is_given(any_call *c, const field *f, source *s) {
  const int maybe = one_in(s, 2);
  if (draw_bad(c, s)) {
    return maybe;
  }
  if (is_named(f, "mask") || is_named(f, "weights") || f->content == LENGTHS) {
    const size_t own = is_named(f, "mask") ? 1 : is_named(f, "weights") ? 2 : 3;
    return f->needed || c->mask_choice == own;
  }
  if (strncmp(f->name, "stored", 6) == 0 || strncmp(f->name, "running", 7) == 0) {
    return c->stored;
  }
  if (is_named(f, "y_scale")) {
    const field *scale = find_field(c->op, "format.y_quantization.scale");
    const int none = get_integer(c, scale->at, 4) == 0;
    return maybe && none && is_byte_type(c->y) && c->n[2] == 1;
  }
  if (strncmp(f->name, "residual", 8) == 0) {
    const int has = c->n[2] == 1 && c->mask_choice == 0 && c->seed % 3 == 0;
    return has && (maybe || is_named(f, "residual"));
  }
  if (is_backward(c->op) && f->use == READ && f->extent == STATISTICS) {
    return c->stored;
  }
  return f->needed || maybe;
}

static inline void set_shape(const any_call *c, block *b) {
  const size_t *n = c->n;
  const int samples = c->op->layout == SAMPLES_LAYOUT;
  size_t count = 1;
  b->stride[2] = 1;
  if (b->field->extent == WHOLE) {
    const int swapped = samples && c->channels_last && !b->field->spatial_stride_at;
    b->n[0] = n[0];
    b->n[1] = swapped ? n[2] : n[1];
    b->n[2] = swapped ? n[1] : n[2];
    if (c->op->layout == IMAGE_LAYOUT) {
      b->n[2] = n[2] * n[3];
      if (b->field->use == WRITTEN) { /* images are packed */
        b->n[2] *= n[1];
        b->n[1] = 1;
      }
    }
    return;
  }
  if (b->field->extent == FIRST) {
    count = c->positions > 1 && n[2] == 1 ? n[0] / c->positions : n[0];
  } else if (b->field->extent == PARAMETERS) {
    count = c->op->layout == IMAGE_LAYOUT ? n[3] : n[1];
  } else {
    count = c->op->layout == ROWS_LAYOUT ? n[0] * n[2]
            : samples                    ? n[0] * c->groups
                                         : n[1];
  }
  b->n[0] = b->n[1] = 1;
  b->n[2] = count;
}

/* ---- Strides --------------------------------------------------------------------- */

/* Of a mask: steps of a packed one, or none where one value serves all. */
static inline void draw_mask_strides(any_call *c, block *b, source *s) {
  const size_t at[3] = {b->field->stride_at, b->field->channel_stride_at,
                        b->field->spatial_stride_at};
  size_t step = 1;
  for (int k = 2; k >= 0; k--) {
    b->stride[k] = one_in(s, 3) ? 0 : (ptrdiff_t)step;
    step *= b->n[k];
    if (one_in(s, 16) && b->stride[k] > 0) {
      b->stride[k] = -b->stride[k];
    }
    put_field(c, at[k], &b->stride[k], sizeof b->stride[k]);
  }
}

/* One stride: 0 for `packed`, or more, or backwards, or (inputs alone) anything. */
static inline ptrdiff_t draw_stride(any_call *c, const block *b, ptrdiff_t packed,
                                    source *s) {
  static const ptrdiff_t bad[] = {PTRDIFF_MIN, 1, -1, 2};
  const size_t style = draw_byte(s) % 16;
  if (draw_bad(c, s)) {
    return bad[draw_below(s, LENGTH(bad))];
  }
  if (style < 8) {
    return 0;
  }
  if (style == 8 && b->field->use == READ) {
    return 1 + (ptrdiff_t)draw_below(s, 5);
  }
  const ptrdiff_t more = (ptrdiff_t)((size_t)packed + draw_below(s, 4));
  return style > 13 && more > 0 ? -more : more;
}

static inline void draw_strides(any_call *c, block *b, source *s) {
  const field *f = b->field;
  const int rows = c->op->layout == ROWS_LAYOUT;
  const int table = c->op->layout == CHANNELS_LAYOUT && b->n[2] == 1;
  ptrdiff_t given[2] = {0, 0};
  b->stride[1] = (ptrdiff_t)b->n[2];
  if (f->channel_stride_at != 0 && !rows && (!table || one_in(s, 64))) {
    given[1] = draw_stride(c, b, b->stride[1], s);
    b->stride[1] = given[1] != 0 ? given[1] : b->stride[1];
    put_field(c, f->channel_stride_at, &given[1], sizeof given[1]);
  }
  const size_t up = (size_t)b->stride[1], step = b->stride[1] < 0 ? 0 - up : up;
  const int image = c->op->layout == IMAGE_LAYOUT;
  if (step < (size_t)1 << 26 && b->n[1] < (size_t)1 << 26) {
    given[0] = draw_stride(c, b, (ptrdiff_t)(b->n[1] * step), s);
  }
  if (given[0] == 0 && given[1] != 0 && !image && step < (size_t)1 << 26) {
    given[0] = (ptrdiff_t)(b->n[1] * step);
  }
  put_field(c, f->stride_at, &given[0], sizeof given[0]);
  b->stride[0] = given[0] != 0 ? given[0]
                 : image       ? (ptrdiff_t)(b->n[1] * (size_t)b->stride[1])
                               : (ptrdiff_t)(b->n[1] * b->n[2]);
}

/* From the first to the last byte. What no call could be given gets little memory: it
 * must be refused before anybody looks. */
static inline void set_range(block *b) {
  size_t above = b->element - 1;
  int small = 1;
  b->below = 0;
  for (int k = 0; k < 3; k++) {
    const ptrdiff_t s = b->stride[k];
    const size_t most = (size_t)1 << 26, n = b->n[k];
    if (n == 0) {
      b->bytes = b->below = 0;
      b->whole = 0;
      return;
    }
    small = small && (n == 1 || (n <= most && s <= (ptrdiff_t)most &&
                                 s >= -(ptrdiff_t)most && (n - 1) <= most));
    if (small && n > 1) {
      *(s < 0 ? &b->below : &above) += (n - 1) * (size_t)(s < 0 ? -s : s) * b->element;
    }
  }
  if (!small || above + b->below > (size_t)1 << 28) {
    b->below = 0;
    above = 63;
    small = 0;
  }
  b->whole = small;
  b->bytes = b->below + above + 1;
}

/* ---- Places ---------------------------------------------------------------------- */

/* In place, or overlapping, or in another part of the same memory. */
static inline void draw_home(any_call *c, size_t i, source *s) {
  block *b = &c->block[i];
  b->home = i;
  if (i == 0 || b->field->use == READ ? !one_in(s, 64) : !one_in(s, 6)) {
    return;
  }
  const size_t other = draw_below(s, i == 0 ? 1 : i);
  const block *home = &c->block[other];
  if (other == i || home->home != other) {
    return;
  }
  b->home = other;
  b->at = one_in(s, 4) ? (ptrdiff_t)(draw_below(s, 80) * b->element) : 0;
  if (b->at == 0 && b->field->stride_at != 0 && home->field->stride_at != 0 &&
      b->field->extent == WHOLE && b->n[1] == home->n[1] &&
      b->field->spatial_stride_at == 0 && home->field->spatial_stride_at == 0) {
    for (int k = 0; k < 2; k++) { /* in place, so of the same strides */
      const size_t from =
          k == 0 ? home->field->stride_at : home->field->channel_stride_at;
      const size_t to = k == 0 ? b->field->stride_at : b->field->channel_stride_at;
      if (from != 0 && to != 0) {
        memcpy(c->args.bytes + to, c->args.bytes + from, sizeof(ptrdiff_t));
        b->stride[k] = home->stride[k];
      }
    }
    set_range(b);
  }
}

/* Memory for all that share a home, from the lowest byte to the highest. */
static inline void allocate(any_call *c, size_t i, size_t off, size_t lead) {
  block *home = &c->block[i];
  ptrdiff_t low = -(ptrdiff_t)home->below,
            high = (ptrdiff_t)(home->bytes - home->below);
  for (size_t k = 0; k < c->blocks; k++) {
    const block *b = &c->block[k];
    if (b->home == i && k != i) {
      const ptrdiff_t first = b->at - (ptrdiff_t)b->below;
      low = first < low ? first : low;
      high = first + (ptrdiff_t)b->bytes > high ? first + (ptrdiff_t)b->bytes : high;
    }
  }
  home->lead = lead * 8;
  home->memory_bytes = home->lead + off + (size_t)(high - low);
  home->memory = BLOCK_ALLOCATE(home->memory_bytes > 0 ? home->memory_bytes : 1);
  home->before = new_bytes(home->memory_bytes);
  if (home->memory == NULL) {
    fprintf(stderr, "out of memory\n");
    exit(3);
  }
  memset(home->memory, 0x77, home->memory_bytes);
  for (size_t k = 0; k < c->blocks; k++) {
    block *b = &c->block[k];
    if (b->home == i) {
      b->p = home->memory + home->lead + off + (b->at - low);
      put_field(c, b->field->at, &b->p, sizeof b->p);
    }
  }
}

/* ---- Contents -------------------------------------------------------------------- */

static inline ptrdiff_t element_at(const block *b, size_t i) {
  const size_t k = i % b->n[2], j = i / b->n[2] % b->n[1], n = i / b->n[2] / b->n[1];
  return ((ptrdiff_t)n * b->stride[0] + (ptrdiff_t)j * b->stride[1] +
          (ptrdiff_t)k * b->stride[2]) *
         (ptrdiff_t)b->element;
}

static inline size_t element_count(const block *b) {
  return !b->whole ? 0 : b->n[0] * b->n[1] * b->n[2];
}

static inline double content_value(const any_call *c, const block *b, rng *r, size_t i,
                                   size_t length) {
  const fastnorm_dtype wide =
      b->type == FASTNORM_FLOAT64 ? FASTNORM_FLOAT64 : FASTNORM_FLOAT32;
  const double v = pattern_value(c->pattern, wide, r, i, length);
  switch (b->field->content) {
  case AROUND_ONE:
    return 1.0 + 0.5 * rng_normal(r);
  case POSITIVE:
    return 0.01 + fabs(rng_normal(r)) * 5.0;
  case ZERO:
    return 0.0;
  case PARTS_OF:
    return (double)rng_below(r, 3) * (rng_below(r, 2) != 0 ? 0.7 : 1.0);
  default:
    return v;
  }
}

static inline void fill_integers(const any_call *c, const block *b, rng *r) {
  const size_t most = c->positions != 0              ? c->positions
                      : c->op->layout == ROWS_LAYOUT ? c->n[1]
                                                     : c->n[2];
  for (size_t i = 0; i < b->n[2]; i++) {
    const size_t length = (size_t)rng_below(r, (int64_t)(most % 4096) + 1);
    const int64_t count = rng_below(r, 40);
    if (b->field->element == COUNTS) {
      memcpy(b->p + i * sizeof count, &count, sizeof count);
    } else {
      const size_t wrong = c->bad != 0 && rng_below(r, 64) == 0 ? most + 1 : length;
      memcpy(b->p + i * sizeof wrong, &wrong, sizeof wrong);
    }
  }
}

static inline void fill_block(const any_call *c, const block *b, rng *r) {
  unsigned char *memory = b->p - b->below;
  const int raw = c->raw && b->type != FASTNORM_DEFAULT;
  for (size_t i = 0; i < b->bytes; i++) {
    const int may = b->field->use == WRITTEN && !raw;
    memory[i] = may                             ? 0xa5
                : b->field->element == BYTES_01 ? (unsigned char)(rng_below(r, 3) != 0)
                                                : (unsigned char)rng_below(r, 256);
  }
  if (raw || b->field->use == WRITTEN || !b->whole || b->field->element == BYTES_01 ||
      is_byte_type(b->type)) {
    return;
  }
  if (b->type == FASTNORM_DEFAULT) {
    fill_integers(c, b, r);
    return;
  }
  const size_t n = element_count(b), length = b->n[2] > 1 ? b->n[2] : b->n[1];
  const size_t bad = (size_t)rng_below(r, 40 * (int64_t)(n + 1));
  for (size_t i = 0; i < n; i++) {
    const double v = content_value(c, b, r, i % length, length);
    const double special = rng_below(r, 2) != 0 ? (double)NAN : (double)INFINITY;
    unsigned char *p = b->p + element_at(b, i);
    if ((uintptr_t)p % b->element == 0) {
      set_element(b->type, p, 0, i == bad ? special : v, 1.0F, 0);
    }
  }
}

/* ---- All of it ------------------------------------------------------------------- */

static inline void draw_mask(any_call *c, source *s) {
  static const unsigned char choices[] = {0, 0, 0, 1, 2, 3};
  const field *masked = find_field(c->op, "masked");
  const field *positions = find_field(c->op, "positions");
  c->mask_choice = choices[draw_below(s, LENGTH(choices))];
  const int by_length = c->mask_choice == 3 && c->op->layout == CHANNELS_LAYOUT;
  if (positions != NULL && by_length && c->n[2] == 1) {
    c->positions = 1 + draw_below(s, 40);
    while (c->positions > 1 && c->n[0] % c->positions != 0) {
      c->positions--;
    }
  }
  if (positions != NULL) {
    c->positions = draw_bad(c, s) ? 7777 : c->positions;
    put_integer(c, positions, (int64_t)c->positions);
  }
  if (masked != NULL && c->mask_choice != 0) {
    put_integer(c, masked, draw_bad(c, s) ? 2 : (int64_t)draw_below(s, 2));
  }
}

static inline void draw_blocks(any_call *c, source *s) {
  for (size_t i = 0; i < c->op->count; i++) {
    const field *f = &c->op->fields[i];
    if (f->kind != ARRAY || !is_given(c, f, s)) {
      continue;
    }
    block *b = &c->block[c->blocks++];
    *b = (block){.field = f, .type = array_type(c, f->element)};
    b->element = array_element(b->type, f->element);
    set_shape(c, b);
    if (f->spatial_stride_at != 0) {
      draw_mask_strides(c, b, s);
    } else if (f->extent == WHOLE) {
      draw_strides(c, b, s);
    }
    set_range(b);
  }
  for (size_t i = 0; i < c->blocks; i++) {
    draw_home(c, i, s);
  }
  for (size_t i = 0; i < c->blocks; i++) {
    if (c->block[i].home == i) {
      const size_t off = draw_bad(c, s) ? 1 : 0,
                   lead = one_in(s, 8) ? draw_below(s, 8) : 0;
      allocate(c, i, off, lead);
    }
  }
}

static inline void draw_scratch(any_call *c, source *s) {
  const field *f = find_field(c->op, "scratch"),
              *of = find_field(c->op, "scratch_size");
  if (f == NULL) {
    return;
  }
  const size_t need = c->op->scratch(c->args.bytes);
  const int needed = strcmp(c->op->name, "running_update") == 0;
  if (need == 0 || need > (size_t)1 << 26 || (!needed && one_in(s, 3)) ||
      draw_bad(c, s)) {
    return;
  }
  const size_t given = draw_bad(c, s) ? need - 1 : need;
  c->scratch = malloc(given > 0 ? given : 1);
  if (c->scratch != NULL) {
    memset(c->scratch, 0x5a, given);
  }
  put_field(c, f->at, &c->scratch, sizeof c->scratch);
  put_field(c, of->at, &given, sizeof given);
}

static inline any_call *draw_any_call(source *s) {
  any_call *c = new_bytes(sizeof *c);
  c->op = &known_operations[draw_below(s, KNOWN_OPERATIONS)];
  c->bad = one_in(s, 3) ? 24 : 0;
  c->raw = one_in(s, 10);
  c->pattern = (pattern)draw_below(s, PATTERNS);
  c->seed = draw_byte(s) << 8 | draw_byte(s);
  c->stored = one_in(s, 2);
  draw_fields(c, s);
  draw_mask(c, s);
  draw_blocks(c, s);
  draw_scratch(c, s);
  rng r = {c->seed};
  for (size_t i = 0; i < c->blocks; i++) {
    fill_block(c, &c->block[i], &r);
  }
  for (size_t i = 0; i < c->blocks; i++) {
    if (c->block[i].home == i) {
      memcpy(c->block[i].before, c->block[i].memory, c->block[i].memory_bytes);
    }
  }
  return c;
}

static inline void free_any_call(any_call *c) {
  for (size_t i = 0; i < c->blocks; i++) {
    if (c->block[i].home == i) {
      BLOCK_FREE(c->block[i].memory);
      free(c->block[i].before);
    }
  }
  free(c->scratch);
  free(c);
}

#endif /* FN_TEST_ANY_ARRAYS_H */
