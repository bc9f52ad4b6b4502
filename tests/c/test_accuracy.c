/* test_accuracy.c - every operation against the oracle, on hostile input, on every ISA.
 * SPDX-License-Identifier: MIT
 */
#include "oracle.h"

static operation own_statistics(operation op) {
  switch (op) {
  case LAYER_STORED:
    return LAYER_NORM;
  case GROUP_STORED:
    return GROUP_NORM;
  case INSTANCE_INFERENCE:
    return INSTANCE_NORM;
  case INSTANCE_INFERENCE_LAST:
    return INSTANCE_LAST;
  default:
    return BATCH_TRAINING;
  }
}

/* Stored statistics close to those of the data, within the range of the type. */
static void store_statistics(job *j, const arrays *a) {
  job own = *j;
  own.op = own_statistics(j->op);
  for (size_t g = 0; g < stored_count(j); g++) {
    group_truth t = find_truth(&own, g);
    const long double most = largest_of(j->dtype);
    if (j->op == BATCH_RENORM) { /* some within the limits, some not */
      t.hi += sqrtl(t.var) * (long double)(g % 4) * 2.0L;
      t.var *= g % 3 == 0 ? 1.5L : g % 3 == 1 ? 100.0L : 0.01L;
    }
    put(a->running_mean, j->dtype, (ptrdiff_t)g,
        (double)(fabsl(t.hi) > most ? most : t.hi));
    put(a->running_var, j->dtype, (ptrdiff_t)g, (double)(t.var > most ? most : t.var));
  }
  j->running_mean = a->running_mean;
  j->running_var = a->running_var;
}

/* Runs the job on every ISA and compares it with the oracle. */
static void check_job(job *j, const arrays *a, pattern p) {
  const int stored = reads_stored(j->op) || j->op == BATCH_RENORM;
  if (stored) {
    store_statistics(j, a);
  }
  group_truth *truths = find_truths(j);
  const char *name;
  for (size_t i = 0; (name = fastnorm_isa_name(i)) != NULL; i++) {
    fastnorm_set_isa(name);
    if (stored && updates_stored(j->op)) { /* the last call has changed them */
      store_statistics(j, a);
    }
    const fastnorm_status status = run_job(j);
    if (status != FASTNORM_OK) {
      fail("%s: %s", describe(j, pattern_names[p]), fastnorm_strerror(status));
      continue;
    }
    if (j->op != MOMENTS) {
      check_y(j, truths, pattern_names[p]);
    }
    check_statistics(j, truths, pattern_names[p]);
  }
  fastnorm_set_isa(NULL);
  free(truths);
}

/* Three ways to lay out groups of one length. */
static job lay_out(operation op, size_t length, int layout) {
  job j = {.op = op, .groups = 1};
  if (is_row_norm(op)) {
    const size_t inner[] = {1, 2, 17};
    j.n0 = 3;
    j.n1 = length;
    j.n2 = inner[layout];
  } else if (is_sample_norm(op)) {
    const size_t per = length % 3 == 0 ? 3 : length % 2 == 0 ? 2 : 1;
    const size_t groups[] = {2, 3, 17};
    const size_t channels[] = {per, is_instance_norm(op) ? 1 : length, 1};
    set_samples(&j, layout == 2 ? 1 : 2, groups[layout], channels[layout],
                is_instance_norm(op) ? length : length / channels[layout]);
  } else {
    const size_t batch[] = {1, length, length % 2 == 0 ? 2 : 3};
    const size_t spatial[] = {length, 1, length / batch[2]};
    j.n0 = batch[layout];
    j.n1 = layout == 0 ? 2 : 17;
    j.n2 = spatial[layout];
  }
  return j;
}

static void check_length(const arrays *a, operation op, fastnorm_dtype dtype, pattern p,
                         size_t length, int layout, unsigned variant) {
  const job shape = lay_out(op, length, layout);
  if (shape.n2 == 0 || is_too_short(&shape)) {
    return;
  }
  job j = make_job(a, op, dtype, shape.n0, shape.n1, shape.n2, variant);
  j.groups = shape.groups;
  fill_x(&j, a->x, p, (uint64_t)length * 100 + (uint64_t)p);
  check_job(&j, a, p);
}

static void check_operation(operation op) {
  arrays a = new_arrays(3 * 140 * 17);
  const size_t longest = AT_LEVEL(130, 36, 34);
  for (int type = 0; type < 2; type++) {
    for (int p = 0; p < PATTERNS; p++) {
      for (size_t length = 1; length <= longest; length++) {
        for (int layout = 0; layout < 3; layout++) {
          if ((length + (size_t)(p + layout)) % AT_LEVEL(1, 1, 5) != 0) {
            continue;
          }
          /* 16 variants, walked so that every pattern and layout meets each. */
          const unsigned variant =
              (unsigned)(length + 5 * (size_t)p + 3 * (size_t)layout);
          check_length(&a, op, working_type(type), (pattern)p, length, layout, variant);
        }
      }
    }
  }
  free_arrays(&a);
}

static void layer_norm_short(void) {
  check_operation(LAYER_NORM);
}
static void layer_stored_short(void) {
  check_operation(LAYER_STORED);
}
static void rms_norm_short(void) {
  check_operation(RMS_NORM);
}
static void l2_norm_short(void) {
  check_operation(L2_NORM);
}
static void l1_norm_short(void) {
  check_operation(L1_NORM);
}
static void batch_inference_short(void) {
  check_operation(BATCH_INFERENCE);
}
static void batch_training_short(void) {
  check_operation(BATCH_TRAINING);
}
static void batch_renorm_short(void) {
  check_operation(BATCH_RENORM);
}
static void weight_norm_short(void) {
  check_operation(WEIGHT_NORM);
}
static void group_norm_short(void) {
  check_operation(GROUP_NORM);
}
static void group_last_short(void) {
  check_operation(GROUP_LAST);
}
static void group_stored_short(void) {
  check_operation(GROUP_STORED);
}
static void instance_norm_short(void) {
  check_operation(INSTANCE_NORM);
}
static void instance_last_short(void) {
  check_operation(INSTANCE_LAST);
}
static void instance_inference_short(void) {
  check_operation(INSTANCE_INFERENCE);
}
static void instance_inference_last_short(void) {
  check_operation(INSTANCE_INFERENCE_LAST);
}
static void moments_short(void) {
  check_operation(MOMENTS);
}

/* Around the sizes at which kernels change their way. */
static void around_blocks(void) {
  static const size_t lengths[] = {255,  256,  257,   511,   512,  513,
                                   1023, 1024, 1025,  2047,  2049, 4095,
                                   4096, 4097, 16383, 16384, 16385};
  const size_t count = AT_LEVEL(LENGTH(lengths), 6, 3);
  arrays a = new_arrays(17 * 16386 * 3);
  for (size_t i = 0; i < count; i++) {
    for (int op = 0; op < OPERATIONS; op++) {
      for (int type = 0; type < 2; type++) {
        for (int p = 0; p < PATTERNS; p++) {
          const int part = lengths[i] > 2000 ? 5 : AT_LEVEL(2, 2, 7);
          if ((p + op + type + (int)i) % part != 0) {
            continue;
          }
          const unsigned variant = (unsigned)(i + 3 * (size_t)p);
          check_length(&a, (operation)op, working_type(type), (pattern)p, lengths[i],
                       (p + (int)i) % (lengths[i] > 2000 ? 2 : 3), variant);
        }
      }
    }
  }
  free_arrays(&a);
}

/* Two rows of n by `channels`, or channels of n values each: along runs or columns. */
static job lay_out_wide(operation op, size_t channels, size_t n, int layout) {
  job j = {.op = op, .groups = 1};
  if (is_row_norm(op)) {
    j.n0 = 2;
    j.n1 = n;
    j.n2 = channels;
  } else if (is_sample_norm(op)) {
    set_samples(&j, 2, layout == 0 ? 1 : channels, layout == 0 ? channels : 1, n);
  } else {
    const size_t samples = layout == 0 ? n : n == 64 ? 16 : n == 49 ? 7 : 1;
    j.n0 = samples;
    j.n1 = channels;
    j.n2 = n / samples;
  }
  return j;
}

/* Many channels over few values, and many columns: the other way round. */
static void wide(void) {
  static const size_t widths[] = {1,  2,  3,  7,   15,  16,  17,
                                  31, 33, 64, 100, 129, 513, 1030};
  static const size_t lengths[] = {2, 5, 49, 64};
  arrays a = new_arrays(2 * 1030 * 64);
  for (size_t i = 0; i < LENGTH(widths); i += AT_LEVEL(1, 1, 3)) {
    for (int op = 0; op < OPERATIONS; op++) {
      for (int type = 0; type < 2; type++) {
        const pattern p = (pattern)((i + (size_t)op * 3) % PATTERNS);
        for (size_t k = 0; k < 2 * LENGTH(lengths); k++) {
          const size_t n = lengths[k / 2];
          const job shape = lay_out_wide((operation)op, widths[i], n, (int)(k % 2));
          if (k % 2 == 1 && is_row_norm((operation)op)) {
            continue;
          }
          job j = make_job(&a, (operation)op, working_type(type), shape.n0, shape.n1,
                           shape.n2, (unsigned)i);
          j.groups = shape.groups;
          fill_x(&j, a.x, p, i);
          check_job(&j, &a, p);
        }
      }
    }
  }
  free_arrays(&a);
}

/* A reduction of four million values, along a row and down columns; of fewer in most
 * cases. */
static void four_million(void) {
  arrays a = new_arrays(4000000);
  static const pattern patterns[] = {OFFSET_100, OFFSET_1E6, EXTREME, OUTLIER_LAST};
  for (size_t i = 0; i < LENGTH(patterns); i++) {
    for (int type = 0; type < 2; type++) {
      for (int op = 0; op < OPERATIONS; op++) {
        const int rows = is_row_norm((operation)op);
        const int longest = (2 * (int)i + type + op) % AT_LEVEL(8, 8, 4) == 0;
        if (!longest && test_level == BRIEF) {
          continue;
        }
        const size_t length = AT_LEVEL(longest ? 4000000 : 100000, 50000, 20000);
        const int down = rows || is_channels_last((operation)op);
        job j = make_job(&a, (operation)op, working_type(type), 1, down ? length : 1,
                         down ? 1 : length, 3);
        fill_x(&j, a.x, patterns[i], 77 + i);
        check_job(&j, &a, patterns[i]);
        if (!rows) {
          j.n0 = length / 4;
          j.n1 = 4;
          j.n2 = 1;
          if (is_sample_norm((operation)op)) {
            set_samples(&j, 1, 2, 2, length / 4);
          }
          fill_flat(a.weight, j.dtype, 4, 1.0, 0.5, 13);
          fill_flat(a.bias, j.dtype, 4, 0.0, 0.5, 14);
          fill_x(&j, a.x, patterns[i], 78 + i);
          check_job(&j, &a, patterns[i]);
        }
      }
    }
  }
  free_arrays(&a);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"layer_norm_short", layer_norm_short},
      {"layer_stored_short", layer_stored_short},
      {"rms_norm_short", rms_norm_short},
      {"l2_norm_short", l2_norm_short},
      {"l1_norm_short", l1_norm_short},
      {"batch_inference_short", batch_inference_short},
      {"batch_training_short", batch_training_short},
      {"batch_renorm_short", batch_renorm_short},
      {"weight_norm_short", weight_norm_short},
      {"group_norm_short", group_norm_short},
      {"group_last_short", group_last_short},
      {"group_stored_short", group_stored_short},
      {"instance_norm_short", instance_norm_short},
      {"instance_last_short", instance_last_short},
      {"instance_inference_short", instance_inference_short},
      {"instance_inference_last_short", instance_inference_last_short},
      {"moments_short", moments_short},
      {"around_blocks", around_blocks},
      {"wide", wide},
      {"four_million", four_million},
  };
  return RUN_TESTS(argc, argv, tests);
}
