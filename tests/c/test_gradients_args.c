/* test_gradients_args.c - gradients of the norms of rows: every bad argument gives its
 * status and writes nothing; what is accepted; empty arrays.
 * SPDX-License-Identifier: MIT
 */
#include "args.h"

/* grad_y is m.residual, grad_weight m.mean, grad_bias m.rstd. */
static fastnorm_layer_norm_backward_args good_layer_norm_backward(void) {
  return (fastnorm_layer_norm_backward_args){
      .size = sizeof(fastnorm_layer_norm_backward_args),
      .grad_y = m.residual,
      .x = m.x,
      .grad_x = m.y,
      .weight = m.weight,
      .grad_weight = m.mean,
      .grad_bias = m.rstd,
      .rows = 4,
      .cols = 6};
}

static fastnorm_rms_norm_backward_args good_rms_norm_backward(void) {
  return (fastnorm_rms_norm_backward_args){.size =
                                               sizeof(fastnorm_rms_norm_backward_args),
                                           .grad_y = m.residual,
                                           .x = m.x,
                                           .grad_x = m.y,
                                           .weight = m.weight,
                                           .grad_weight = m.mean,
                                           .rows = 4,
                                           .cols = 6};
}

static fastnorm_l2_norm_backward_args good_l2_norm_backward(void) {
  return (fastnorm_l2_norm_backward_args){.size =
                                              sizeof(fastnorm_l2_norm_backward_args),
                                          .grad_y = m.residual,
                                          .x = m.x,
                                          .grad_x = m.y,
                                          .rows = 4,
                                          .cols = 6};
}

#define CHECK_ALL(op)                                                                  \
  do {                                                                                 \
    const fastnorm_status dtype = FASTNORM_ERROR_DTYPE, shape = FASTNORM_ERROR_SHAPE;  \
    const fastnorm_status overlap = FASTNORM_ERROR_OVERLAP;                            \
    const fastnorm_status alignment = FASTNORM_ERROR_ALIGNMENT;                        \
    const fastnorm_status quantization = FASTNORM_ERROR_QUANTIZATION;                  \
    reset_memory();                                                                    \
    check_refused(fastnorm_##op(NULL), FASTNORM_ERROR_ARGS, #op ": NULL");             \
    REFUSED(op, FASTNORM_ERROR_ARGS, args.size = 0);                                   \
    REFUSED(op, FASTNORM_ERROR_ARGS, args.size -= sizeof(void *));                     \
    REFUSED(op, dtype, args.dtype = (fastnorm_dtype)7);                                \
    REFUSED(op, dtype, args.dtype = (fastnorm_dtype)-1);                               \
    REFUSED(op, dtype, args.dtype = FASTNORM_INT8);                                    \
    REFUSED(op, dtype, args.dtype = FASTNORM_UINT8);                                   \
    REFUSED(op, dtype, args.format.y = FASTNORM_INT8);                                 \
    REFUSED(op, dtype, args.format.y = FASTNORM_FLOAT64);                              \
    REFUSED(op, dtype, args.format.y = (fastnorm_dtype)9);                             \
    REFUSED(op, dtype, args.format.params = FASTNORM_UINT8);                           \
    REFUSED(op, quantization, args.format.x_quantization.scale = 1.0F);                \
    REFUSED(op, quantization, args.format.y_quantization.zero_point = 1);              \
    REFUSED(op, FASTNORM_ERROR_NULL, args.x = NULL);                                   \
    REFUSED(op, FASTNORM_ERROR_NULL, args.grad_y = NULL);                              \
    REFUSED(op, alignment, args.x = NOT_ALIGNED(m.x));                                 \
    REFUSED(op, alignment, args.grad_y = NOT_ALIGNED(m.residual));                     \
    REFUSED(op, alignment, args.grad_x = NOT_ALIGNED(m.y));                            \
    REFUSED(op, shape, args.rows = args.cols = SIZE_MAX);                              \
    REFUSED(op, shape, args.rows = SIZE_MAX / 4);                                      \
    REFUSED(op, shape, args.rows = (size_t)PTRDIFF_MAX / 8);                           \
    REFUSED(op, shape, args.inner = SIZE_MAX / 3);                                     \
    REFUSED(op, shape, args.x_stride = PTRDIFF_MAX);                                   \
    REFUSED(op, shape, args.x_stride = PTRDIFF_MIN);                                   \
    REFUSED(op, shape, args.grad_y_stride = PTRDIFF_MAX / 2);                          \
    REFUSED(op, shape, args.grad_x_stride = PTRDIFF_MAX / 2);                          \
    REFUSED(op, FASTNORM_ERROR_STRIDE, args.grad_x_stride = 5);                        \
    REFUSED(op, FASTNORM_ERROR_STRIDE, args.grad_x_stride = -5);                       \
    REFUSED(op, overlap, args.grad_x = m.x + 1);                                       \
    REFUSED(op, overlap, args.grad_x = m.residual + 23);                               \
    REFUSED(op, overlap, (args.grad_x = m.x, args.grad_x_stride = 7));                 \
    REFUSED(op, overlap, (args.grad_x = m.residual, args.grad_x_stride = 7));          \
    REFUSED(op, overlap, (args.grad_x = m.x, args.grad_y = m.x));                      \
    REFUSED(op, overlap, (args.grad_x = m.x, args.format.y = FASTNORM_FLOAT16));       \
    REFUSED(op, FASTNORM_ERROR_EPS, args.eps = (double)NAN);                           \
    REFUSED(op, FASTNORM_ERROR_EPS, args.eps = (double)INFINITY);                      \
    REFUSED(op, FASTNORM_ERROR_EPS, args.eps = -0.5);                                  \
    REFUSED(op, FASTNORM_ERROR_THREADS, args.exec.num_threads = -1);                   \
    ACCEPTED(op, 1, (void)args);                                                       \
    ACCEPTED(op, 1, args.eps = FASTNORM_EPS_ZERO);                                     \
    ACCEPTED(op, 1, args.exec.num_threads = 5);                                        \
    ACCEPTED(op, 1, args.grad_x = m.x);                                                \
    ACCEPTED(op, 1, (args.grad_x = m.residual, m.residual[3] = 1.0F));                 \
    ACCEPTED(op, 1, args.grad_y = m.x);                                                \
    ACCEPTED(op, 1, args.x_stride = args.grad_y_stride = 2);                           \
    ACCEPTED(op, 1, (args.grad_x = m.y + 18, args.grad_x_stride = -6));                \
    ACCEPTED(op, 1, args.dtype = FASTNORM_BFLOAT16);                                   \
    ACCEPTED(op, 1, args.format.y = FASTNORM_FLOAT16);                                 \
    ACCEPTED(op, 1, (args.inner = 2, args.cols = 3));                                  \
    ACCEPTED(op, 0, (args.rows = 0, args.cols = 0));                                   \
  } while (0)

#define CHECK_WEIGHTS(op)                                                              \
  do {                                                                                 \
    const fastnorm_status overlap = FASTNORM_ERROR_OVERLAP;                            \
    const fastnorm_status alignment = FASTNORM_ERROR_ALIGNMENT;                        \
    REFUSED(op, FASTNORM_ERROR_DTYPE, args.format.params = FASTNORM_FLOAT64);          \
    REFUSED(op, alignment, args.weight = NOT_ALIGNED(m.weight));                       \
    REFUSED(op, alignment, args.grad_weight = NOT_ALIGNED(m.mean));                    \
    REFUSED(op, alignment,                                                             \
            (args.scratch = NOT_ALIGNED(m.scratch),                                    \
             args.scratch_size = sizeof m.scratch - 8));                               \
    REFUSED(op, overlap, args.weight = m.y + 3);                                       \
    REFUSED(op, overlap, args.grad_weight = m.y + 23);                                 \
    REFUSED(op, overlap, args.grad_weight = m.x + 23);                                 \
    REFUSED(op, overlap, args.grad_weight = m.residual);                               \
    REFUSED(op, overlap, args.grad_weight = m.weight);                                 \
    ACCEPTED(op, 1, args.weight = NULL);                                               \
    ACCEPTED(op, 1, args.grad_x = NULL);                                               \
    ACCEPTED(op, 1, args.format.params = FASTNORM_FLOAT16);                            \
    ACCEPTED(op, 1, (args.scratch = m.scratch, args.scratch_size = sizeof m.scratch)); \
    ACCEPTED(op, 1, (args.scratch = m.scratch, args.scratch_size = 8));                \
    ACCEPTED(op, 1, args.rows = 0); /* sums of nothing */                              \
  } while (0)

static void layer_norm(void) {
  CHECK_ALL(layer_norm_backward);
  CHECK_WEIGHTS(layer_norm_backward);
  const fastnorm_status overlap = FASTNORM_ERROR_OVERLAP;
#define mean_and_rstd args.mean = m.stored_mean, args.rstd = m.stored_var
#define CHECK_GIVEN(change)                                                            \
  REFUSED(layer_norm_backward, overlap, (mean_and_rstd, change))
  REFUSED(layer_norm_backward, FASTNORM_ERROR_COMBINATION, args.mean = m.stored_mean);
  REFUSED(layer_norm_backward, FASTNORM_ERROR_COMBINATION, args.rstd = m.stored_var);
  REFUSED(layer_norm_backward, FASTNORM_ERROR_ALIGNMENT,
          (mean_and_rstd, args.mean = NOT_ALIGNED(m.stored_mean)));
  REFUSED(layer_norm_backward, FASTNORM_ERROR_ALIGNMENT,
          args.grad_bias = NOT_ALIGNED(m.rstd));
  CHECK_GIVEN(args.mean = m.y);
  CHECK_GIVEN(args.rstd = m.y + 20);
  CHECK_GIVEN(args.rstd = m.mean + 5);
  CHECK_GIVEN(args.mean = m.rstd);
  REFUSED(layer_norm_backward, overlap, args.grad_bias = m.mean + 5);
  REFUSED(layer_norm_backward, overlap, args.grad_bias = m.y);
  ACCEPTED(layer_norm_backward, 1, (mean_and_rstd, args.mean = m.stored_var));
  ACCEPTED(layer_norm_backward, 1, args.grad_weight = args.grad_bias = NULL);
  ACCEPTED(layer_norm_backward, 1, args.grad_x = args.grad_weight = NULL);
  ACCEPTED(layer_norm_backward, 0,
           args.grad_x = args.grad_weight = args.grad_bias = NULL);
  ACCEPTED(layer_norm_backward, 0, args.cols = 0);
#undef mean_and_rstd
#undef CHECK_GIVEN
}

static void rms_norm(void) {
  CHECK_ALL(rms_norm_backward);
  CHECK_WEIGHTS(rms_norm_backward);
  const fastnorm_status wrong = FASTNORM_ERROR_COMBINATION;
  REFUSED(rms_norm_backward, wrong, args.mode = (fastnorm_rms_mode)3);
  REFUSED(rms_norm_backward, wrong, args.mode = (fastnorm_rms_mode)-1);
  REFUSED(rms_norm_backward, FASTNORM_ERROR_ALIGNMENT,
          args.rstd = NOT_ALIGNED(m.stored_var));
  REFUSED(rms_norm_backward, FASTNORM_ERROR_OVERLAP, args.rstd = m.y + 20);
  ACCEPTED(rms_norm_backward, 1, args.mode = FASTNORM_RMS_ONE_PLUS_WEIGHT);
  ACCEPTED(rms_norm_backward, 1, args.rstd = m.stored_var);
  ACCEPTED(rms_norm_backward, 0, args.grad_x = args.grad_weight = NULL);
}

static void l2_norm(void) {
  CHECK_ALL(l2_norm_backward);
  ACCEPTED(l2_norm_backward, 0, args.grad_x = NULL);
  ACCEPTED(l2_norm_backward, 0, args.rows = 0);
}

/* No rows: the sums of nothing are zero. */
static void empty(void) {
  reset_memory();
  fastnorm_layer_norm_backward_args args = good_layer_norm_backward();
  args.rows = 0;
  for (int i = 0; i < 16; i++)
    m.mean[i] = m.rstd[i] = -7.0F;
  CHECK(fastnorm_layer_norm_backward(&args) == FASTNORM_OK, "refused");
  for (int i = 0; i < 16; i++) {
    const float wanted = i < 6 ? 0.0F : -7.0F;
    CHECK(m.mean[i] == wanted && m.rstd[i] == wanted, "%d: %g, %g", i,
          (double)m.mean[i], (double)m.rstd[i]);
  }
  CHECK(m.y[0] == -7.0F, "grad_x was written");
}

static void scratch_sizes(void) {
  fastnorm_layer_norm_backward_args args = good_layer_norm_backward();
  const size_t both = fastnorm_layer_norm_backward_scratch(&args);
  CHECK(both > 0 && both % sizeof(double) == 0, "%zu", both);
  args.grad_bias = NULL;
  CHECK(fastnorm_layer_norm_backward_scratch(&args) == both / 2, "without grad_bias");
  args.grad_weight = NULL;
  CHECK(fastnorm_layer_norm_backward_scratch(&args) == 0, "without either");
  args = good_layer_norm_backward();
  args.rows = 0;
  CHECK(fastnorm_layer_norm_backward_scratch(&args) == 0, "without rows");
  CHECK(fastnorm_layer_norm_backward_scratch(NULL) == 0, "NULL");
  CHECK(fastnorm_rms_norm_backward_scratch(NULL) == 0, "NULL");
  args = good_layer_norm_backward();
  args.rows = 100000; /* grows no further: there are few pieces */
  const size_t tall = fastnorm_layer_norm_backward_scratch(&args);
  args.rows *= 100;
  CHECK(fastnorm_layer_norm_backward_scratch(&args) <= 32 * both && tall <= 32 * both,
        "%zu for many rows", tall);
}

int main(int argc, char **argv) {
  static const test_case tests[] = {
      {"layer_norm", layer_norm},
      {"rms_norm", rms_norm},
      {"l2_norm", l2_norm},
      {"empty", empty},
      {"scratch_sizes", scratch_sizes},
  };
  return RUN_TESTS(argc, argv, tests);
}
