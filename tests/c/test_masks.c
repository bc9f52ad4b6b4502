/* test_masks.c - what takes no part is nowhere, and is nowhere touched.
 * SPDX-License-Identifier: MIT
 */
#include "guard.h"
#include "outputs.h"

enum { ROOM = 1 << 22, KINDS = 10 };

/* Bytes with a step for each extent, the same for all channels, a length for each
 * sample, and bytes that run backwards and are the same for all samples; bytes that say
 * the same as lengths, and the same from the end on; the first two and the fourth as
 * weights, and the second as weights of 0 and 1. */
typedef enum kind {
  ELEMENTS,
  SHARED,
  LENGTHS,
  BACKWARDS,
  PADDED,
  PADDED_BEFORE,
  WEIGHTS,
  SHARED_WEIGHTS,
  BACKWARD_WEIGHTS,
  ZEROS_AND_ONES
} kind;

static const char *const kind_names[] = {
    "elements",      "shared",  "lengths",        "backwards",        "padded",
    "padded before", "weights", "shared weights", "backward weights", "zeros and ones"};

static const operation operations[] = {LAYER_NORM,
                                       BATCH_INFERENCE,
                                       BATCH_TRAINING,
                                       GROUP_NORM,
                                       GROUP_LAST,
                                       GROUP_STORED,
                                       INSTANCE_NORM,
                                       INSTANCE_LAST,
                                       INSTANCE_INFERENCE,
                                       INSTANCE_INFERENCE_LAST,
                                       MOMENTS};

static unsigned char *x_room, *y_room, *mask_room;

/* ---- Masks --------------------------------------------------------------------- */

static int is_table(const job *j) {
  return !is_sample_norm(j->op) && !is_row_norm(j->op) && j->n2 == 1;
}

static size_t channel_of(const job *j, place p) {
  return is_channels_last(j->op) ? p.i2 : p.i1;
}

static size_t position_of(const job *j, place p) {
  return is_channels_last(j->op) || is_row_norm(j->op) ? p.i1 : p.i2;
}

static double weight_of(const job *j, place p) {
  const fastnorm_mask *a = &j->mask;
  if (a->lengths == NULL) {
    const ptrdiff_t at = (ptrdiff_t)p.i0 * a->stride +
                         (ptrdiff_t)channel_of(j, p) * a->channel_stride +
                         (ptrdiff_t)position_of(j, p) * a->spatial_stride;
    return a->weights ? get(a->weights, a->weights_dtype, at) : a->mask[at] != 0;
  }
  if (is_table(j)) {
    return p.i0 % a->positions < a->lengths[p.i0 / a->positions];
  }
  return position_of(j, p) < a->lengths[p.i0];
}

static int takes_part(const job *j, place p) {
  return weight_of(j, p) > 0.0;
}

/* One stretch of bytes in each sample: at its beginning, or at its end. */
static void pad(unsigned char *mask, int table, size_t batch, size_t spatial,
                int before, rng *r) {
  const size_t samples = table ? 1 : batch, positions = table ? batch : spatial;
  for (size_t n = 0; n < samples; n++) {
    size_t count = (size_t)rng_below(r, (int64_t)positions + 1);
    count -= count == 1;
    for (size_t i = 0; i < positions; i++) {
      mask[n * positions + i] = (before ? i + count >= positions : i < count);
    }
  }
}

/* About half of each; every count is 0 or at least 2. The mask ends with its room, or
 * begins with it. False if there is no such mask. */
static int make_mask(job *j, kind k, int at_end, uint64_t seed) {
  rng r = {seed};
  const size_t batch = j->n0, channels = parameter_count(j), spatial = spatial_of(j);
  fastnorm_mask *a = &j->mask;
  memset(mask_room, 0xa5, ROOM);
  if (k == LENGTHS) {
    const size_t positions = is_table(j) ? 5 : is_row_norm(j->op) ? j->n1 : spatial;
    const size_t samples = is_table(j) ? batch / positions : batch;
    size_t *lengths = (size_t *)(void *)mask_room;
    if (is_table(j) && (samples == 0 || batch % positions != 0)) {
      return 0;
    }
    if (at_end) {
      lengths = (size_t *)(void *)(mask_room + ROOM - samples * sizeof *lengths);
    }
    for (size_t n = 0; n < samples; n++) {
      lengths[n] = (size_t)rng_below(&r, (int64_t)positions + 1);
      lengths[n] -= lengths[n] == 1;
    }
    a->lengths = lengths;
    a->positions = is_table(j) ? positions : 0;
    return 1;
  }
  if (is_row_norm(j->op)) {
    return 0;
  }
  const int backwards = k == BACKWARDS || k == BACKWARD_WEIGHTS;
  const size_t own = k == ELEMENTS || k == WEIGHTS ? channels : 1;
  const size_t samples = backwards && !is_table(j) ? 1 : batch;
  const size_t all_of_it = samples * own * spatial;
  const fastnorm_dtype dtype = k == WEIGHTS ? FASTNORM_FLOAT32 : FASTNORM_FLOAT64;
  const size_t element = k < WEIGHTS ? 1 : element_size(dtype);
  unsigned char *mask = at_end ? mask_room + ROOM - all_of_it * element : mask_room;
  a->mask = k < WEIGHTS ? mask : NULL;
  a->weights = k < WEIGHTS ? NULL : mask;
  a->weights_dtype = k < WEIGHTS ? FASTNORM_DEFAULT : dtype;
  a->stride = samples == 1 ? 0 : (ptrdiff_t)(own * spatial);
  a->channel_stride = own == 1 ? 0 : (ptrdiff_t)spatial;
  a->spatial_stride = spatial == 1 ? 0 : 1;
  if (k == PADDED || k == PADDED_BEFORE) {
    pad(mask, is_table(j), batch, spatial, k == PADDED_BEFORE, &r);
    return 1;
  }
  /* Pairs along what a channel's values are made of. */
  for (size_t n = 0; n < samples; n++) {
    for (size_t c = 0; c < own; c++) {
      for (size_t s = 0; s < spatial; s++) {
        const size_t at = (n * own + c) * spatial + s;
        const size_t back = is_table(j) ? own : 1, along = is_table(j) ? n : s;
        const size_t all = is_table(j) ? batch : spatial;
        const int64_t most = k == ZEROS_AND_ONES || k < WEIGHTS ? 2 : 4;
        const double drawn = along + 1 == all ? 0.0 : (double)rng_below(&r, most);
        if (k < WEIGHTS) {
          mask[at] = along % 2 == 1 ? mask[at - back]
                     : drawn > 0.0  ? (unsigned char)(1 + rng_below(&r, 255))
                                    : 0;
        } else if (along % 2 == 1) {
          memcpy(mask + at * element, mask + (at - back) * element, element);
        } else {
          put(mask, dtype, (ptrdiff_t)at, most == 2 ? drawn : 0.75 * drawn);
        }
      }
    }
  }
  if (backwards && all_of_it > 1) {
    mask += (all_of_it - 1) * element;
    a->mask = a->mask ? mask : NULL;
    a->weights = a->weights ? mask : NULL;
    a->spatial_stride = -a->spatial_stride;
    a->stride = -a->stride;
  }
  return 1;
}

/* ---- The result by its definition ---------------------------------------------- */

typedef struct moments_of_group {
  size_t count;
  long double weight, mean, var;
} moments_of_group;

static moments_of_group find(const job *j, size_t g) {
  moments_of_group m = {0, 0.0L, 0.0L, 0.0L};
  for (int pass = 0; pass < 2; pass++) {
    long double sum = 0.0L, weight = 0.0L;
    size_t count = 0;
    for (size_t i = 0; i < group_length(j); i++) {
      const place p = group_element(j, g, i);
      if (takes_part(j, p)) {
        const long double v =
            (long double)get(j->x, j->dtype, x_offset(j, p.i0, p.i1, p.i2));
        const long double w = (long double)weight_of(j, p);
        sum += w * (pass == 0 ? v : (v - m.mean) * (v - m.mean));
        weight += w;
        count++;
      }
    }
    m.count = count;
    m.weight = weight;
    *(pass == 0 ? &m.mean : &m.var) = count == 0 ? 0.0L : sum / weight;
  }
  return m;
}

static double bound(const job *j) {
  return j->dtype == FASTNORM_FLOAT64 ? 4e-15 : 4e-6;
}

static void check_place(const job *j, const outputs *o, place p,
                        const moments_of_group *m, const char *what) {
  const ptrdiff_t at = y_offset(j, p.i0, p.i1, p.i2);
  const double y = get(o->y, j->dtype, at);
  const double x = get(j->x, j->dtype, x_offset(j, p.i0, p.i1, p.i2));
  const size_t c = parameter_of(j, p);
  if (!takes_part(j, p)) {
    const int kept = j->mask.masked == FASTNORM_MASKED_KEEP;
    CHECK(kept ? memcmp(&y, &x, sizeof y) == 0 : y >= 0.0 && y <= 0.0 && !signbit(y),
          "%s: %s: %g where nothing takes part", what, operation_names[j->op], y);
    return;
  }
  const double weight = j->weight ? get(j->weight, j->dtype, (ptrdiff_t)c) : 1.0;
  const double bias = j->bias ? get(j->bias, j->dtype, (ptrdiff_t)c) : 0.0;
  const double wanted =
      (double)(((long double)x - m->mean) / sqrtl(m->var + (long double)1e-5) *
                   (long double)weight +
               (long double)bias);
  CHECK(fabs(y - wanted) <= bound(j) * (1.0 + fabs(wanted) + fabs(bias)),
        "%s: %s [%zu, %zu, %zu]: %.9g, not %.9g", what, operation_names[j->op], j->n0,
        j->n1, j->n2, y, wanted);
}

static void check_results(const job *j, const outputs *o, const char *what) {
  const size_t step = group_count(j) > 64 ? AT_LEVEL(1, 1, 7) : 1;
  for (size_t g = 0; g < group_count(j); g += step) {
    moments_of_group m = find(j, g);
    if (j->op == MOMENTS) {
      const double *mean = (const double *)(void *)o->mean;
      const double *m2 = (const double *)(void *)o->rstd;
      const double n = (double)m.weight;
      CHECK(j->count[g] == m.count, "%s: count %zu, not %zu", what, j->count[g],
            m.count);
      CHECK(fabs(j->sums[g] - n) <= 1e-12 * n, "%s: weight %g", what, j->sums[g]);
      CHECK(fabs(mean[g] - (double)m.mean) <= 1e-6 &&
                fabs(m2[g] - (double)m.var * n) <= 1e-5 * n,
            "%s: mean %g, not %g", what, mean[g], (double)m.mean);
      continue;
    }
    const double mean = get(o->mean, j->dtype, (ptrdiff_t)g);
    const double rstd = get(o->rstd, j->dtype, (ptrdiff_t)g);
    if (reads_stored(j->op)) {
      const ptrdiff_t s = (ptrdiff_t)stored_of(j, g);
      m.mean = (long double)get(o->running_mean, j->dtype, s);
      m.var = (long double)get(o->running_var, j->dtype, s);
    } else if (m.count == 0) {
      CHECK(mean >= 0.0 && mean <= 0.0 && rstd >= 0.0 && rstd <= 0.0,
            "%s: %s: statistics of nothing: %g, %g", what, operation_names[j->op], mean,
            rstd);
    } else {
      CHECK(fabs(mean - (double)m.mean) <= bound(j) &&
                fabs(rstd / (double)(1.0L / sqrtl(m.var + 1e-5L)) - 1.0) <= bound(j),
            "%s: %s: mean %g, not %g", what, operation_names[j->op], mean,
            (double)m.mean);
    }
    for (size_t i = 0; i < group_length(j); i++) {
      check_place(j, o, group_element(j, g, i), &m, what);
    }
  }
}

/* ---- Every operation, kind and instruction set --------------------------------- */

/* NaN where nothing takes part. */
static void spoil(const job *j, void *x) {
  for (size_t a = 0; a < j->n0; a++) {
    for (size_t b = 0; b < j->n1; b++) {
      for (size_t c = 0; c < j->n2; c++) {
        if (!takes_part(j, (place){a, b, c})) {
          put(x, j->dtype, x_offset(j, a, b, c), (double)NAN);
        }
      }
    }
  }
}

static void check_same_outputs(const outputs *a, const outputs *b, const char *what) {
  CHECK(memcmp(a->y, b->y, a->y_bytes) == 0, "%s: other results", what);
  CHECK(memcmp(a->mean, b->mean, a->statistic_bytes) == 0 &&
            memcmp(a->rstd, b->rstd, a->statistic_bytes) == 0,
        "%s: other statistics", what);
  CHECK(memcmp(a->running_mean, b->running_mean, a->stored_bytes) == 0 &&
            memcmp(a->running_var, b->running_var, a->stored_bytes) == 0,
        "%s: other running statistics", what);
}

/* j has x, parameters and a mask; y is at the same end of its room as they are. */
static void check_job(job j, int at_end) {
  const char *name;
  outputs first = new_outputs(&j);
  size_t *counts = new_bytes(group_count(&j) * sizeof *counts);
  double *sums = new_bytes(group_count(&j) * sizeof *sums);
  void *scratch = new_bytes(scratch_bytes(&j) + 8);
  if (j.op == MOMENTS) {
    j.count = counts;
    j.sums = sums;
  }
  for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
    fastnorm_set_isa(name);
    for (int threads = 1; threads <= 3; threads += 2) {
      outputs o = new_outputs(&j);
      unsigned char *own = o.y;
      job run = j;
      run.exec.num_threads = threads;
      run.scratch = threads > 1 ? scratch : NULL;
      run.scratch_size = threads > 1 ? scratch_bytes(&j) : 0;
      o.y = at_end ? y_room + ROOM - o.y_bytes : y_room;
      memset(o.mean, 0x5a, o.statistic_bytes);
      memset(o.rstd, 0x5a, o.statistic_bytes);
      run_into(run, &o, 0);
      if (i == 0 && threads == 1) {
        memcpy(first.y, o.y, o.y_bytes);
        memcpy(first.mean, o.mean, o.statistic_bytes);
        memcpy(first.rstd, o.rstd, o.statistic_bytes);
        memcpy(first.running_mean, o.running_mean, o.stored_bytes);
        memcpy(first.running_var, o.running_var, o.stored_bytes);
        check_results(&j, &o, running_now);
      }
      check_same_outputs(&first, &o, running_now);
      o.y = own;
      free_outputs(&o);
    }
  }
  fastnorm_set_isa(NULL);
  free(scratch);
  free(counts);
  free(sums);
  free_outputs(&first);
}

typedef struct shape {
  size_t n0, n1, n2, groups;
} shape;

static void check_shape(const arrays *a, operation op, fastnorm_dtype dtype,
                        const shape *s, int gap) {
  for (int k = 0; k < KINDS; k++) {
    for (int at_end = 0; at_end < 2; at_end++) {
      job j = make_job(a, op, dtype, s->n0, s->n1, s->n2, 3);
      j.groups = s->groups;
      j.mask.masked = at_end ? FASTNORM_MASKED_KEEP : FASTNORM_MASKED_ZERO;
      if (is_sample_norm(op)) {
        set_samples(&j, s->n0, s->groups, s->n1 / s->groups, s->n2);
      }
      if (gap && !is_row_norm(op) && !is_table(&j)) {
        j.x_s1 = j.y_s1 = (ptrdiff_t)j.n2 + 3;
        j.x_s0 = j.y_s0 = (ptrdiff_t)j.n1 * j.x_s1 + 5;
      }
      fill_flat(a->weight, dtype, parameter_count(&j), 1.0, 0.5, 11);
      fill_flat(a->bias, dtype, parameter_count(&j), 0.0, 0.5, 12);
      if (is_too_short(&j) || !make_mask(&j, (kind)k, at_end, 7 + s->n2)) {
        continue;
      }
      const size_t bytes = x_extent(&j) * element_size(dtype);
      void *x = at_end ? x_room + ROOM - bytes : x_room;
      snprintf(running_now, sizeof running_now, "%s %s [%zu, %zu, %zu] %s%s",
               operation_names[op], dtype_name(dtype), j.n0, j.n1, j.n2, kind_names[k],
               at_end ? " at the end" : "");
      fill_x(&j, x, NORMAL, 31);
      spoil(&j, x);
      j.x = x;
      memset(y_room, 0x5a, ROOM);
      check_job(j, at_end);
    }
  }
}

static void every_operation(void) {
  static const shape shapes[] = {{3, 6, 1, 3},      {10, 4, 1, 2},   {2, 6, 7, 3},
                                 {5, 2, 64, 1},     {1, 34, 33, 2},  {2, 3, 300, 3},
                                 {2, 40, 65, 4},    {3, 2, 9000, 1}, {500, 3, 1, 1},
                                 {8, 256, 126, 64}, {35, 130, 1, 2}, {4000, 2, 1, 1},
                                 {300, 2, 5, 1}};
  const arrays a = new_arrays(1 << 16);
  arrays mutable = a;
  x_room = new_room(ROOM);
  y_room = new_room(ROOM);
  mask_room = new_room(ROOM);
  for (size_t o = 0; o < LENGTH(operations); o++) {
    for (size_t s = 0; s < LENGTH(shapes); s += AT_LEVEL(1, 3, 3)) {
      for (int w = 0; w < 2; w++) {
        check_shape(&a, operations[o], working_type(w), &shapes[s], s % 2 == 1);
      }
    }
  }
  free_arrays(&mutable);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"every_operation", every_operation},
  };
  return RUN_TESTS(argc, argv, tests);
}
