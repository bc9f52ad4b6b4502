/* test_every_field.c - each field of each struct: that it is known here, and what its
 * bad values give.
 * SPDX-License-Identifier: MIT
 *
 * Known means: in the tables of fields.h and known_operations.h. A struct of the header
 * that is in none of them, or one whose bytes they do not cover, fails. */
#include "good_call.h"

/* ---- Nothing is missing ---------------------------------------------------------- */

/* What a struct with these fields and no others would need: its gaps are at most what
 * alignment leaves. */
static void no_field_is_missing(void) {
  for (size_t i = 0; i < KNOWN_OPERATIONS; i++) {
    const known_operation *o = &known_operations[i];
    unsigned char *covered = new_bytes(o->bytes);
    size_t gap = 0;
    for (size_t k = 0; k < o->count; k++) {
      const field *f = &o->fields[k];
      CHECK(f->at + f->bytes <= o->bytes && covered[f->at] == 0, "%s: %s twice",
            o->name, f->name);
      memset(covered + f->at, 1, f->bytes);
    }
    for (size_t b = 0; b < o->bytes; b++) {
      gap = covered[b] ? 0 : gap + 1;
      /* as a new field is aligned to itself, it leaves no gap like that of padding */
      CHECK(gap < sizeof(void *) && (gap < 4 || b % 8 == 7),
            "%s: nothing is at byte %zu", o->name, b);
    }
    free(covered);
  }
}

static int is_known(const char *name, size_t length, const char *format,
                    const char *const *others, size_t count) {
  char known[80];
  for (size_t i = 0; i < count; i++) {
    if (strlen(others[i]) == length && memcmp(others[i], name, length) == 0) {
      return 1;
    }
  }
  for (size_t i = 0; i < KNOWN_OPERATIONS; i++) {
    snprintf(known, sizeof known, format, known_operations[i].name);
    if (strlen(known) == length && memcmp(known, name, length) == 0) {
      return 1;
    }
  }
  return 0;
}

static void check_struct(const char *name) {
  static const char *const others[] = {"fastnorm_quantization",
                                       "fastnorm_format",
                                       "fastnorm_epilogue",
                                       "fastnorm_mask",
                                       "fastnorm_exec",
                                       "fastnorm_running_moments",
                                       "fastnorm_running_moments_args",
                                       "fastnorm_running_results"};
  const size_t length = strcspn(name, " {\n");
  CHECK(is_known(name, length, "fastnorm_%s_args", others, LENGTH(others)),
        "%.*s is in no table", (int)length, name);
}

/* `at` is where its arguments begin. */
static void check_function(const char *line, const char *at) {
  static const char *const others[] = {
      "fastnorm_running_moments_init", "fastnorm_running_moments_update",
      "fastnorm_running_moments_merge", "fastnorm_running_moments_finish"};
  static const char scratch[] = "_scratch";
  const char *name = at;
  while (name > line && strchr(" *", name[-1]) == NULL) {
    name--;
  }
  const size_t length = (size_t)(at - name), end = sizeof scratch - 1;
  const int asks = length > end && memcmp(at - end, scratch, end) == 0;
  CHECK(asks || is_known(name, length, "fastnorm_%s", others, LENGTH(others)),
        "%.*s is in no table", (int)length, name);
}

/* Reads the header that lies beside these sources. */
static void nothing_of_the_header_is_missing(void) {
  static const char here[] = __FILE__, header[] = "../../include/fastnorm.h";
  static const char begin[] = "typedef struct ";
  const char *slash = strrchr(here, '/');
  char path[1000], line[500];
  int structs = 0, functions = 0;
  snprintf(path, sizeof path, "%.*s%s", slash ? (int)(slash + 1 - here) : 0, here,
           header);
  FILE *f = fopen(path, "r");
  CHECK(f != NULL, "cannot read %s", path);
  while (f != NULL && fgets(line, sizeof line, f) != NULL) {
    const char *arguments = strstr(line, "(const fastnorm_");
    if (strncmp(line, begin, sizeof begin - 1) == 0) {
      check_struct(line + sizeof begin - 1);
      structs++;
    } else if (arguments != NULL && strncmp(line, " *", 2) != 0) {
      check_function(line, arguments);
      functions++;
    } else if (strncmp(line, "fastnorm_", 9) == 0 && strchr(line, '(') != NULL) {
      check_function(line, strchr(line, '('));
      functions++;
    }
  }
  CHECK(structs >= 26 && functions >= 26, "only %d structs and %d functions", structs,
        functions);
  if (f != NULL) {
    fclose(f);
  }
}

/* ---- Bad values ------------------------------------------------------------------ */

/* All arrays of a call, each in a place of its own. */
enum { PLACE = 512, PLACES = 32 };
static union {
  double align;
  unsigned char bytes[PLACES * PLACE];
} memory, before;

static size_t two(const field *f) {
  (void)f;
  return 2;
}

/* What an array of a good call holds: numbers that make sense in their place. */
static void fill_place(unsigned char *p, const field *f) {
  const double v = 1.0;
  const float v4 = 1.0F;
  const int wide = f->element == DOUBLES;
  memset(p, f->use == READ || f->element == COUNTS ? 0 : 0x3f, PLACE);
  for (size_t k = 0; k < 16 && f->content == POSITIVE; k++) {
    memcpy(p + k * (wide ? 8 : 4), wide ? (const void *)&v : &v4, wide ? 8 : 4);
  }
}

/* Extents of 2. */
static any_call make_good(const known_operation *o) {
  const places in = {memory.bytes, PLACE};
  const any_call c = good_call(o, &in, two);
  memset(&memory, 0, sizeof memory);
  for (size_t i = 0; i < o->count; i++) {
    const field *f = &o->fields[i];
    if (f->kind == ARRAY && pointer_of(&c, f) != NULL) {
      fill_place(pointer_of(&c, f), f);
    }
  }
  memcpy(&before, &memory, sizeof memory);
  return c;
}

static void expect(const any_call *c, const field *f, const char *what,
                   fastnorm_status wanted) {
  const fastnorm_status got = c->op->call(c->args.bytes);
  CHECK(got == wanted, "%s: %s %s: status %d, not %d", c->op->name, f->name, what,
        (int)got, (int)wanted);
  CHECK(got == FASTNORM_OK || memcmp(&memory, &before, sizeof memory) == 0,
        "%s: %s %s: memory was written", c->op->name, f->name, what);
}

static void expect_integer(const known_operation *o, const field *f, int64_t v,
                           fastnorm_status wanted) {
  char what[40];
  any_call c = make_good(o);
  put_integer(&c, f, v);
  snprintf(what, sizeof what, "= %lld", (long long)v);
  expect(&c, f, what, wanted);
}

static void expect_number(const known_operation *o, const field *f, double v,
                          fastnorm_status wanted) {
  char what[40];
  any_call c = make_good(o);
  put_double(&c, f, v);
  snprintf(what, sizeof what, "= %g", v);
  expect(&c, f, what, wanted);
}

static void expect_pointer(const known_operation *o, const field *f, const void *p,
                           const char *what, fastnorm_status wanted) {
  any_call c = make_good(o);
  put_field(&c, f->at, &p, sizeof p);
  expect(&c, f, what, wanted);
}

/* Not there, not aligned, or in the memory of another. */
static void check_array(const known_operation *o, const field *f) {
  const any_call c = make_good(o);
  unsigned char *p = pointer_of(&c, f);
  if (p == NULL) {
    return; /* what is not given in a good call: test_fields.c, test_mask_args.c */
  }
  if (f->needed) {
    expect_pointer(o, f, NULL, "NULL", FASTNORM_ERROR_NULL);
  }
  if (f->element != BYTES_01) {
    expect_pointer(o, f, p + 1, "not aligned", FASTNORM_ERROR_ALIGNMENT);
  }
  for (size_t i = 0; i < o->count; i++) {
    const field *other = &o->fields[i];
    unsigned char *q = pointer_of(&c, other);
    const int writes = f->use != READ || other->use != READ;
    if (other->kind == ARRAY && other != f && q != NULL && writes) {
      /* their second element: no operation in place */
      const size_t second = array_element(array_type(&c, f->element), f->element);
      if (second >= 2 * array_element(array_type(&c, other->element), other->element)) {
        continue; /* beyond the two that there are at least: size_t of 32 bits */
      }
      expect_pointer(o, f, q + second, other->name, FASTNORM_ERROR_OVERLAP);
    }
  }
}

static fastnorm_status status_of_extent(const known_operation *o, const field *f) {
  return o->layout == IMAGE_LAYOUT && is_named(f, "channels") ? FASTNORM_ERROR_IMAGE
                                                              : FASTNORM_ERROR_SHAPE;
}

static void check_numbers(const known_operation *o, const field *f) {
  const double nan = (double)NAN, inf = (double)INFINITY;
  switch (f->kind) {
  case EPS:
    expect_number(o, f, nan, FASTNORM_ERROR_EPS);
    expect_number(o, f, inf, FASTNORM_ERROR_EPS);
    expect_number(o, f, -0.5, FASTNORM_ERROR_EPS);
    expect_number(o, f, -2.0, FASTNORM_ERROR_EPS);
    break;
  case MOMENTUM:
    expect_number(o, f, nan, FASTNORM_ERROR_MOMENTUM);
    expect_number(o, f, 1.5, FASTNORM_ERROR_MOMENTUM);
    expect_number(o, f, -0.5, FASTNORM_ERROR_MOMENTUM);
    break;
  case LIMIT:
    expect_number(o, f, nan, FASTNORM_ERROR_LIMITS);
    expect_number(o, f, -3.0, FASTNORM_ERROR_LIMITS);
    break;
  case PIXEL_SCALE:
    expect_number(o, f, nan, FASTNORM_ERROR_IMAGE);
    expect_number(o, f, 1e200, FASTNORM_ERROR_IMAGE);
    expect_number(o, f, 1e-200, FASTNORM_ERROR_IMAGE);
    break;
  case DDOF:
    expect_number(o, f, nan, FASTNORM_ERROR_COUNT);
    expect_number(o, f, inf, FASTNORM_ERROR_COUNT);
    expect_number(o, f, -1.0, FASTNORM_ERROR_COUNT);
    break;
  case ALPHA_BETA:
    expect_number(o, f, nan, FASTNORM_ERROR_ACTIVATION);
    expect_number(o, f, 0.5, FASTNORM_ERROR_ACTIVATION);
    break;
  case SCALE:
    if (o->layout != IMAGE_LAYOUT) {
      expect_number(o, f, nan, FASTNORM_ERROR_QUANTIZATION);
      expect_number(o, f, 1.0, FASTNORM_ERROR_QUANTIZATION);
    }
    break;
  default:
    break;
  }
}

static void check_integers(const known_operation *o, const field *f) {
  const int image = o->layout == IMAGE_LAYOUT;
  const fastnorm_status mask = FASTNORM_ERROR_MASK, dtype = FASTNORM_ERROR_DTYPE;
  switch (f->kind) {
  case SIZE_FIELD:
    expect_integer(o, f, 0, FASTNORM_ERROR_ARGS);
    expect_integer(o, f, 8, FASTNORM_ERROR_ARGS);
    expect_integer(o, f, 1 << 20, FASTNORM_ERROR_ARGS);
    break;
  case DTYPE:
    expect_integer(o, f, 7, dtype);
    expect_integer(o, f, -1, dtype);
    break;
  case DTYPE_OTHER:
    if (is_named(f, "weights_dtype")) { /* and the rest of the mask is not there */
      expect_integer(o, f, 7, strstr(f->name, "mask.") ? mask : dtype);
    } else if (is_named(f, "format.y") || (!image && !is_named(f, "post_add_dtype"))) {
      expect_integer(o, f, 7, dtype);
      expect_integer(o, f, -1, dtype);
      expect_integer(o, f, FASTNORM_FLOAT64, dtype);
    }
    break;
  case EXTENT:
    expect_integer(o, f, -1, status_of_extent(o, f));
    expect_integer(o, f, INT64_MAX, status_of_extent(o, f));
    break;
  case FEATURES:
    if (strcmp(o->name, "running_init") != 0 &&
        strcmp(o->name, "running_finish") != 0) {
      expect_integer(o, f, 3, FASTNORM_ERROR_SHAPE);
    }
    expect_integer(o, f, INT64_MAX, FASTNORM_ERROR_SHAPE);
    break;
  case GROUPS:
    expect_integer(o, f, 0, FASTNORM_ERROR_GROUPS);
    expect_integer(o, f, 3, FASTNORM_ERROR_GROUPS);
    break;
  case THREADS:
    expect_integer(o, f, -1, FASTNORM_ERROR_THREADS);
    break;
  case ZERO_POINT:
    if (!image) {
      expect_integer(o, f, 1, FASTNORM_ERROR_QUANTIZATION);
    }
    break;
  case ACTIVATION:
    expect_integer(o, f, 11, FASTNORM_ERROR_ACTIVATION);
    expect_integer(o, f, -1, FASTNORM_ERROR_ACTIVATION);
    break;
  case POSITIONS:
    expect_integer(o, f, 3, mask);
    break;
  case MASKED:
    expect_integer(o, f, 2, mask);
    expect_integer(o, f, -1, mask);
    break;
  case MASK_STRIDE:
    if (strstr(f->name, "mask.") != NULL) { /* a stride of nothing */
      expect_integer(o, f, 1, mask);
    }
    break;
  case MODE:
    expect_integer(o, f, 3, FASTNORM_ERROR_COMBINATION);
    expect_integer(o, f, -1, FASTNORM_ERROR_COMBINATION);
    break;
  case POLICY:
    expect_integer(o, f, 3, FASTNORM_ERROR_NAN);
    expect_integer(o, f, -1, FASTNORM_ERROR_NAN);
    break;
  default:
    break;
  }
}

/* Of an array that a good call has. */
static void check_stride(const known_operation *o, const field *f) {
  const any_call c = make_good(o);
  for (size_t i = 0; i < o->count; i++) {
    const field *array = &o->fields[i];
    const int is_its = f->at == array->stride_at || f->at == array->channel_stride_at;
    if (f->kind == STRIDE && array->kind == ARRAY && is_its && pointer_of(&c, array)) {
      expect_integer(o, f, PTRDIFF_MIN, FASTNORM_ERROR_SHAPE);
      expect_integer(o, f, PTRDIFF_MAX, FASTNORM_ERROR_SHAPE);
      if (array->use != READ) {
        expect_integer(o, f, 1, FASTNORM_ERROR_STRIDE);
      }
    }
  }
}

static void bad_values(void) {
  for (size_t i = 0; i < KNOWN_OPERATIONS; i++) {
    const known_operation *o = &known_operations[i];
    const any_call good = make_good(o);
    expect(&good, &o->fields[0], "as it is", FASTNORM_OK);
    for (size_t k = 0; k < o->count; k++) {
      const field *f = &o->fields[k];
      if (f->kind == ARRAY) {
        check_array(o, f);
      }
      check_numbers(o, f);
      check_integers(o, f);
      check_stride(o, f);
    }
  }
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"no_field_is_missing", no_field_is_missing},
      {"nothing_of_the_header_is_missing", nothing_of_the_header_is_missing},
      {"bad_values", bad_values}};
  return RUN_TESTS(argc, argv, tests);
}
