/* fastnorm.h - normalization of arrays on CPUs: the one public header.
 * SPDX-License-Identifier: MIT
 *
 * One function per operation, one args struct per function:
 *
 *     fastnorm_status s = fastnorm_layer_norm(&(fastnorm_layer_norm_args){
 *         .size = sizeof(fastnorm_layer_norm_args),
 *         .x = x, .y = y, .weight = w, .bias = b, .rows = 128, .cols = 768 });
 *     if (s != FASTNORM_OK) fputs(fastnorm_strerror(s), stderr);
 *
 * What holds for every function here:
 *
 * - Any thread may call anything at any time, also on the same input arrays. Two
 *   calls that write the same memory at once are the caller's mistake.
 * - Nothing is allocated. The shared worker threads are started lazily, and only when
 *   a call may use more than one thread and has work for them. After fork() the child
 *   starts with no workers and may call anything, also if the parent was in mid-call.
 * - No function aborts, prints, or throws. A bad argument gives a status, and then no
 *   output byte has been written.
 * - No byte outside the stated ranges is read or written.
 * - `y` may be `x` (same pointer and same strides): in place. Any other overlap between
 *   an output and an input, or between two outputs, is refused; scratch is an output.
 * - A field that is zero means its default, so designated initialisers name only what
 *   matters. `.size` is the exception: it must be the sizeof of the struct as the
 *   caller was compiled. Fields are only ever appended, so older callers keep working.
 * - Pointers must be aligned to their element; nothing more is asked for. Strides count
 *   elements, not bytes, and may be negative.
 * - An array with no elements is a success that writes nothing.
 *
 * What holds for every result:
 *
 * - Same bits: a row's (or channel's) result depends on its values, its length and the
 *   parameters alone: not on the other rows, their number, alignment, the number of
 *   threads, in place or not, or the instruction set. One exception: the statistics of
 *   a channel in a table (spatial = 1) are summed in an order that depends on how many
 *   channels the table has. The sources must be compiled without -ffast-math.
 * - True results: within a few units in the last place of the exact answer for every
 *   finite input; no finite input gives NaN or Inf unless the exact answer leaves the
 *   range of the type. A constant row gives exactly the bias.
 * - NaN and Inf in the input stay within their row (or channel).
 * - Variance is the biased one (divided by the count) wherever it normalises, and eps
 *   is inside the square root: rstd = 1 / sqrt(var + eps). Where var + eps is zero,
 *   rstd is taken as zero, so that the result is the bias and not NaN.
 */
#ifndef FASTNORM_H
#define FASTNORM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FASTNORM_VERSION_MAJOR  0
#define FASTNORM_VERSION_MINOR  1
#define FASTNORM_VERSION_PATCH  0
#define FASTNORM_VERSION_STRING "0.1.0"

/* FASTNORM_API marks what a shared library exports. Define FASTNORM_SHARED when you
 * build or use one on Windows, and FASTNORM_BUILD as well while building it. */
#if defined(FASTNORM_API)
/* the embedder has chosen */
#elif defined(_WIN32) && defined(FASTNORM_SHARED)
#if defined(FASTNORM_BUILD)
#define FASTNORM_API __declspec(dllexport)
#else
#define FASTNORM_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define FASTNORM_API __attribute__((visibility("default")))
#else
#define FASTNORM_API
#endif

/* The version of the library at run time, as FASTNORM_VERSION_STRING. Static memory. */
FASTNORM_API const char *fastnorm_version(void);

/* ---- Status ------------------------------------------------------------------- */

typedef enum fastnorm_status {
  FASTNORM_OK = 0,
  /* args is NULL, or .size is not one that this library knows */
  FASTNORM_ERROR_ARGS = 1,
  /* .dtype is not one of fastnorm_dtype */
  FASTNORM_ERROR_DTYPE = 2,
  /* a required pointer is NULL */
  FASTNORM_ERROR_NULL = 3,
  /* the extents overflow size_t, or ptrdiff_t in bytes; two states have other features,
   * or together count more than their type holds */
  FASTNORM_ERROR_SHAPE = 4,
  /* output elements overlap, or the channels of a table are not adjacent */
  FASTNORM_ERROR_STRIDE = 5,
  /* a pointer is not aligned to its element */
  FASTNORM_ERROR_ALIGNMENT = 6,
  /* an output overlaps an input or another output */
  FASTNORM_ERROR_OVERLAP = 7,
  /* eps is NaN, infinite, or negative (but for FASTNORM_EPS_ZERO) */
  FASTNORM_ERROR_EPS = 8,
  /* momentum is neither in (0, 1] nor FASTNORM_MOMENTUM_CUMULATIVE */
  FASTNORM_ERROR_MOMENTUM = 9,
  /* running_mean and running_var must come together, and inference needs them */
  FASTNORM_ERROR_RUNNING = 10,
  /* training with one value per channel, or weights of a sum of at most 1, has no
   * (unbiased) variance; or ddof of results is negative or not finite */
  FASTNORM_ERROR_COUNT = 11,
  /* an instruction set that is unknown or that this CPU lacks */
  FASTNORM_ERROR_ISA = 12,
  /* a negative number of threads */
  FASTNORM_ERROR_THREADS = 13,
  /* a quantization scale or zero point is out of range, or none is needed */
  FASTNORM_ERROR_QUANTIZATION = 14,
  /* an activation that is not one of fastnorm_activation, or its alpha or beta is NaN
   * or out of order */
  FASTNORM_ERROR_ACTIVATION = 15,
  /* groups is zero or does not divide channels */
  FASTNORM_ERROR_GROUPS = 16,
  /* a residual, y_scale or stored statistics where they have no meaning, or one of two
   * that belong together */
  FASTNORM_ERROR_COMBINATION = 17,
  /* an image of no or too many channels, or a scale, mean or std out of range */
  FASTNORM_ERROR_IMAGE = 18,
  /* r_max is below 1, d_max is negative (but for FASTNORM_D_MAX_ZERO), or one is NaN */
  FASTNORM_ERROR_LIMITS = 19,
  /* a NaN where the call says that none may be, or .nan is no fastnorm_nan_policy */
  FASTNORM_ERROR_NAN = 20,
  /* a weight is negative, infinite or NaN */
  FASTNORM_ERROR_WEIGHT = 21,
  /* .scratch_size is less than the call needs */
  FASTNORM_ERROR_SCRATCH = 22,
  /* two of mask, weights and lengths together, a length above the number of positions,
   * .positions that do not fit, or .masked is no fastnorm_masked */
  FASTNORM_ERROR_MASK = 23
} fastnorm_status;

/* One English sentence for a status. Static memory; never NULL, for any value. */
FASTNORM_API const char *fastnorm_strerror(fastnorm_status status);

/* The type of the elements of an array. Zero means a default, which each field states;
 * that of .dtype, the type of x, is float32.
 *
 * Arithmetic and the statistics that come back are double for float64 and float for
 * everything else (the working type): 16-bit elements are widened exactly, 8-bit ones
 * to their number rounded to float (exactly where the scale is a power of two), and a
 * result is rounded once, to nearest even, where it is stored. float64 does not mix
 * with the other types in one call; these mix freely. */
typedef enum fastnorm_dtype {
  FASTNORM_DEFAULT = 0,
  FASTNORM_FLOAT32 = 1,
  FASTNORM_FLOAT64 = 2,
  FASTNORM_FLOAT16 = 3,  /* IEEE 754 binary16 */
  FASTNORM_BFLOAT16 = 4, /* the upper half of a float32 */
  FASTNORM_INT8 = 5,
  FASTNORM_UINT8 = 6
} fastnorm_dtype;

/* What 8-bit elements stand for: number = (element - zero_point) * scale. A number is
 * stored as round(number / scale) + zero_point, to nearest even, limited to the range
 * of the type (by a multiplication with the reciprocal of scale, rounded to float); NaN
 * as zero_point. Of x or weight and bias only x may be 8-bit, and y. */
typedef struct fastnorm_quantization {
  float scale;        /* 0 means 1; else positive and finite, as is its reciprocal */
  int32_t zero_point; /* within the range of the type */
} fastnorm_quantization;

/* The types of a call beside .dtype, the type of x. */
typedef struct fastnorm_format {
  fastnorm_dtype y;      /* 0 means that of x, or float32 where x is 8-bit */
  fastnorm_dtype params; /* weight, bias, running statistics; 0 means as for y's 0 */
  fastnorm_quantization x_quantization, y_quantization; /* where x or y is 8-bit */
} fastnorm_format;

/* With v the result so far; vector polynomials, the same bits on every instruction set.
 * docs/numerics.md bounds the error of each function itself. */
typedef enum fastnorm_activation {
  FASTNORM_IDENTITY = 0,
  FASTNORM_RELU = 1,       /* max(v, 0); NaN stays NaN */
  FASTNORM_LEAKY_RELU = 2, /* v < 0 ? alpha * v : v; alpha 0 means 0.01 */
  FASTNORM_RELU6 = 3,      /* min(max(v, 0), 6) */
  FASTNORM_CLAMP = 4,      /* min(max(v, alpha), beta), alpha <= beta as they are */
  FASTNORM_GELU = 5,       /* v * (1 + erf(v / sqrt(2))) / 2 */
  FASTNORM_GELU_TANH = 6,  /* v * (1 + tanh(sqrt(2/pi) * (v + 0.044715 v^3))) / 2 */
  FASTNORM_SILU = 7,       /* v / (1 + exp(-v)) */
  FASTNORM_SIGMOID = 8,    /* 1 / (1 + exp(-v)) */
  FASTNORM_TANH = 9,       /* tanh(v) */
  FASTNORM_HARDSWISH = 10  /* v * min(max(v + 3, 0), 6) / 6 */
} fastnorm_activation;

/* What happens between the norm and the store, in the same pass over memory:
 * y = activation(norm + post_add). */
typedef struct fastnorm_epilogue {
  const void *post_add;          /* of the shape of y, or NULL; not y itself */
  fastnorm_dtype post_add_dtype; /* 0 means that of x, or float32 where x is 8-bit */
  ptrdiff_t post_add_stride;     /* as .y_stride */
  ptrdiff_t post_add_channel_stride; /* as .y_channel_stride, where there is one */
  fastnorm_activation activation;
  double alpha, beta;
} fastnorm_epilogue;

/* ---- Masks and lengths ----------------------------------------------------------- */

/* What stands in y where a position takes no part. */
typedef enum fastnorm_masked {
  FASTNORM_MASKED_ZERO = 0, /* zero, whatever post_add and activation are; zero_point
                               where y is 8-bit */
  FASTNORM_MASKED_KEEP = 1  /* x, converted to the type of y, or quantised anew; in
                               place too, where that mostly changes nothing */
} fastnorm_masked;

/* Which elements of x [batch, channels, spatial] take part. The others are in no
 * statistics, whatever they hold, NaN and Inf too. All zero: all of them do. A mask
 * that leaves out nothing counts as none. Of `mask`, `weights` and `lengths` only one
 * may be given.
 *
 * Statistics, and with them the results, have the bits of the same call on an array of
 * what takes part alone, where there is such an array: the mask is the same for all
 * channels, and what is left of each sample (of all samples, for batch norm) is put one
 * after another. Counts are then those of what takes part: the variance of n such
 * values is divided by n, its running one by n - 1.
 *
 * - Where nothing of a channel, group or instance takes part its mean and rstd are
 *   given as 0, and its running statistics stay as they are.
 * - Where statistics of the batch need more than one value per channel (batch norm) or
 *   instance (instance norm), exactly one is FASTNORM_ERROR_COUNT.
 * - With stored or running statistics to be applied, only y depends on the mask.
 *
 * Weights w that are all 0 or 1 are such a mask. Others say how often each element
 * counts: with W the sum of them, the mean is sum(w * x) / W and the variance
 * sum(w * (x - mean)^2) / W. An element of weight 0 takes no part; each other one is
 * normalised as any. W stands for the count in running statistics, whose variance is
 * that sum divided by W - 1: where they are to be updated, 0 < W <= 1 is
 * FASTNORM_ERROR_COUNT. */
typedef struct fastnorm_mask {
  /* NULL, or bytes: element (n, c, s) takes part if the one at n * stride +
   * c * channel_stride + s * spatial_stride is not 0. A stride of 0 is one byte (or
   * weight) for all of them. */
  const unsigned char *mask;
  ptrdiff_t stride, channel_stride, spatial_stride;
  /* NULL, or [batch]: the first lengths[n] of the spatial positions of sample n take
   * part. Where spatial = 1 samples are `positions` rows of the table each, and there
   * are batch / positions of them; elsewhere positions is 0 or spatial. */
  const size_t *lengths;
  size_t positions;
  fastnorm_masked masked;
  /* NULL, or weights, float32 (0 too) or float64, with the strides of the mask: finite
   * and not negative, else FASTNORM_ERROR_WEIGHT. */
  const void *weights;
  fastnorm_dtype weights_dtype;
} fastnorm_mask;

/* ---- Instruction sets ---------------------------------------------------------- */

/* The name of the instruction set that calls use now: "avx512", "avx2", "neon" or
 * "portable". The first use of the library chooses the best one that CPU and operating
 * system support, or the one that the environment variable FASTNORM_ISA names. If that
 * name is unknown or unsupported, this returns NULL and every operation returns
 * FASTNORM_ERROR_ISA until fastnorm_set_isa() succeeds. */
FASTNORM_API const char *fastnorm_isa(void);

/* The names this machine can use, best first: index 0, 1, ... until NULL. */
FASTNORM_API const char *fastnorm_isa_name(size_t index);

/* Use this instruction set from now on, for the whole process; NULL chooses the best.
 * FASTNORM_ERROR_ISA, and no change, if the name is unknown or unsupported here. Calls
 * in other threads finish with the set that they began with (same bits either way). */
FASTNORM_API fastnorm_status fastnorm_set_isa(const char *name);

/* ---- Threads ------------------------------------------------------------------- */

/* How many threads a call may use when its .exec does not say. At first: the
 * environment variable FASTNORM_NUM_THREADS if it holds a positive number, else the
 * number of CPUs that the process may run on. */
FASTNORM_API int fastnorm_get_num_threads(void);

/* Sets it for the whole process; 0 restores the first value. FASTNORM_ERROR_THREADS,
 * and no change, if it is negative. */
FASTNORM_API fastnorm_status fastnorm_set_num_threads(int num_threads);

/* A piece of work: call it once with every index below the count, in any order and from
 * any threads. It does not block, allocate, or call back into parallel_for. */
typedef void (*fastnorm_task)(void *task_context, size_t index);

/* A host's own thread pool: run task(task_context, i) for every i < count and return
 * when all have finished. `context` is the pointer that .exec holds. */
typedef void (*fastnorm_parallel_for)(void *context, size_t count, fastnorm_task task,
                                      void *task_context);

/* Who does the work of one call. All zero: the library's shared workers, with at most
 * fastnorm_get_num_threads() threads. Work is cut into the same pieces for any number
 * of them, the calling thread always takes part, and a call that finds the workers busy
 * with another caller runs on its own thread. Small work never leaves the calling
 * thread. */
typedef struct fastnorm_exec {
  int num_threads; /* 0: the process-wide number; 1: this thread alone */
  fastnorm_parallel_for parallel_for; /* not NULL: used instead of the shared workers */
  void *context;                      /* passed to parallel_for */
  /* 1: subnormal inputs and results count as zero on every thread that works for the
   * call; the control register of each is restored. 0: as IEEE 754 says. Meant for data
   * full of subnormals, whose arithmetic is slow on many CPUs. */
  int flush_denormals;
  /* 1: the arguments are checked and nothing more: the status is that of the call,
   * nothing is computed, no byte is written. For a host that wants to know before it
   * matters, or that lets other code do the work. (What the values of x decide is not
   * known then: FASTNORM_ERROR_NAN, and in running moments FASTNORM_ERROR_WEIGHT.) */
  int check_only;
} fastnorm_exec;

/* ---- Layer norm and RMS norm ---------------------------------------------------- */

#define FASTNORM_EPS_ZERO (-1.0) /* for .eps: exactly zero (0 means the default) */

/* y = (x - mean) / sqrt(var + eps) * weight + bias, mean and variance over the `cols`
 * values of each row (Ba, Kiros, Hinton 2016, arXiv:1607.06450).
 *
 * x and y are [rows, cols, inner]: element (r, c, i) is at r * stride + c * inner + i.
 * inner = 1 is the usual norm over the last axis. inner > 1 normalises over a middle
 * axis, such as the channels of an image [N, C, H * W], without a transposed copy. */
typedef struct fastnorm_layer_norm_args {
  size_t size; /* sizeof(fastnorm_layer_norm_args) */
  fastnorm_dtype dtype;
  const void *x;
  void *y;
  const void *weight; /* [cols], or NULL for ones */
  const void *bias;   /* [cols], or NULL for zeros */
  void *mean;         /* [rows, inner] of the working type, written if not NULL */
  void *rstd; /* [rows, inner] of the working type, if not NULL; it may round to Inf
                          where the deviation is below 1 / the largest number */
  size_t rows;
  size_t cols;
  size_t inner;       /* 0 means 1 */
  ptrdiff_t x_stride; /* elements from row to row; 0 means cols * inner */
  ptrdiff_t y_stride;
  double eps; /* 0 means 1e-5; FASTNORM_EPS_ZERO means none */
  fastnorm_exec exec;
  fastnorm_format format;
  /* Added to x before the norm, in the working type: s = x + residual + residual_bias.
   * The statistics are those of s before it is rounded to residual_out, which may be
   * residual itself. Only for inner = 1. */
  const void *residual;          /* [rows, cols], or NULL */
  const void *residual_bias;     /* [cols] of format.params, or NULL */
  void *residual_out;            /* [rows, cols]: receives s if not NULL */
  fastnorm_dtype residual_dtype; /* of both; 0 means that of x, float32 for 8-bit x */
  ptrdiff_t residual_stride;     /* elements from row to row; 0 means cols */
  ptrdiff_t residual_out_stride;
  fastnorm_epilogue epilogue; /* post_add is [rows, cols, inner] */
  /* [rows]: where y is int8 or uint8, write each row with a scale of its own, that of
   * its largest magnitude over 127 (1 for a row of zeros; NaN or Inf if it has one),
   * and the scale here. y_quantization.scale must then be 0. Only for inner = 1. */
  float *y_scale;
  /* [rows, inner] of the working type: normalise by these and not by the statistics of
   * x. Both or neither. */
  const void *stored_mean;
  const void *stored_var;
  /* [rows], each at most cols: of row r (for every inner) the first lengths[r] values
   * are normalised by the statistics of these, exactly as if cols were lengths[r]. What
   * is behind them comes out as .masked says, whatever it holds; mean and rstd of
   * nothing are given as 0. Not with residual, y_scale or stored statistics. */
  const size_t *lengths;
  fastnorm_masked masked;
} fastnorm_layer_norm_args;

FASTNORM_API fastnorm_status fastnorm_layer_norm(const fastnorm_layer_norm_args *args);

/* y = x / sqrt(mean(x^2) + eps) * weight over the `cols` values of each row (Zhang,
 * Sennrich 2019, arXiv:1910.07467). Layout as for layer norm. */
typedef enum fastnorm_rms_mode {
  /* x_hat * weight in the working type, one rounding at the end (torch) */
  FASTNORM_RMS_PLAIN = 0,
  /* x_hat is rounded to the type of x before the weight (LLaMA, T5) */
  FASTNORM_RMS_CAST_BEFORE_WEIGHT = 1,
  /* x_hat * (1 + weight), the sum rounded to the working type (Gemma) */
  FASTNORM_RMS_ONE_PLUS_WEIGHT = 2
} fastnorm_rms_mode;

typedef struct fastnorm_rms_norm_args {
  size_t size; /* sizeof(fastnorm_rms_norm_args) */
  fastnorm_dtype dtype;
  const void *x;
  void *y;
  const void *weight; /* [cols], or NULL for ones */
  void *rstd; /* [rows, inner]: 1 / sqrt(mean(x^2) + eps), written if not NULL */
  size_t rows;
  size_t cols;
  size_t inner;       /* 0 means 1 */
  ptrdiff_t x_stride; /* elements from row to row; 0 means cols * inner */
  ptrdiff_t y_stride;
  double eps; /* 0 means the machine epsilon of dtype (2^-23 or 2^-52);
                          FASTNORM_EPS_ZERO means none */
  fastnorm_exec exec;
  /* All of these as in fastnorm_layer_norm_args. */
  fastnorm_format format;
  const void *residual;
  const void *residual_bias;
  void *residual_out;
  fastnorm_dtype residual_dtype;
  ptrdiff_t residual_stride;
  ptrdiff_t residual_out_stride;
  fastnorm_epilogue epilogue;
  float *y_scale;
  fastnorm_rms_mode mode;
} fastnorm_rms_norm_args;

FASTNORM_API fastnorm_status fastnorm_rms_norm(const fastnorm_rms_norm_args *args);

/* ---- L2 norm -------------------------------------------------------------------- */

/* y = x / max(norm, eps), norm = sqrt(sum of x^2) over the `cols` values of each row.
 * Layout as for layer norm. A row of zeros stays zeros. */
typedef struct fastnorm_l2_norm_args {
  size_t size; /* sizeof(fastnorm_l2_norm_args) */
  fastnorm_dtype dtype;
  const void *x;
  void *y;
  void *norm; /* [rows, inner] of the working type: the norm itself, if not NULL */
  size_t rows;
  size_t cols;
  size_t inner;       /* 0 means 1 */
  ptrdiff_t x_stride; /* elements from row to row; 0 means cols * inner */
  ptrdiff_t y_stride;
  double eps; /* 0 means 1e-12; FASTNORM_EPS_ZERO means none */
  fastnorm_exec exec;
  fastnorm_format format; /* .params is not used */
} fastnorm_l2_norm_args;

FASTNORM_API fastnorm_status fastnorm_l2_norm(const fastnorm_l2_norm_args *args);

/* ---- L1 norm -------------------------------------------------------------------- */

/* y = x / max(norm, eps), norm = sum of |x|; all else as for L2 norm. */
typedef fastnorm_l2_norm_args fastnorm_l1_norm_args;

FASTNORM_API fastnorm_status fastnorm_l1_norm(const fastnorm_l1_norm_args *args);

/* ---- Batch norm ----------------------------------------------------------------- */

#define FASTNORM_MOMENTUM_CUMULATIVE                                                   \
  (-1.0) /* for .momentum: mean of all batches so far */

/* y = (x - mean) / sqrt(var + eps) * weight + bias per channel (Ioffe, Szegedy 2015,
 * arXiv:1502.03167).
 *
 * x and y are [batch, channels, spatial]: element (n, c, s) is at
 * n * stride + c * channel_stride + s. Channels-first images are [N, C, H * W];
 * tables [N, C] have spatial = 1 and adjacent channels (channel_stride 0 or 1, else
 * FASTNORM_ERROR_STRIDE); channels-last images are tables with batch = N * H * W.
 *
 * training = 0: mean and var are running_mean and running_var, which are only read.
 * training = 1: mean and (biased) var are those of each channel over batch and spatial.
 * If given, running_mean and running_var are then updated:
 *     running = (1 - f) * running + f * observed,
 * where the observed variance is the unbiased one (divided by count - 1) and f is
 * momentum, the weight of the new value (ONNX and Keras call 1 - f momentum), or
 * 1 / (num_batches_tracked + 1) for FASTNORM_MOMENTUM_CUMULATIVE: the plain mean of the
 * statistics of all batches. With no elements they stay as they are.
 * Training with exactly one value per channel is FASTNORM_ERROR_COUNT. */
typedef struct fastnorm_batch_norm_args {
  size_t size; /* sizeof(fastnorm_batch_norm_args) */
  fastnorm_dtype dtype;
  const void *x;
  void *y;
  const void *weight; /* [channels], or NULL for ones */
  const void *bias;   /* [channels], or NULL for zeros */
  void *running_mean; /* [channels]: read when training = 0, else updated if not NULL */
  void *running_var;  /* [channels] */
  void *mean;         /* [channels]: the mean used, written if not NULL */
  void *rstd;         /* [channels]: 1 / sqrt(var + eps), written if not NULL */
  size_t batch;
  size_t channels;
  size_t spatial;
  ptrdiff_t x_stride; /* elements from sample to sample; 0 means channels * spatial */
  ptrdiff_t y_stride;
  ptrdiff_t x_channel_stride; /* elements from channel to channel; 0 means spatial */
  ptrdiff_t y_channel_stride;
  int training;
  double momentum;              /* 0 means 0.1 */
  uint64_t num_batches_tracked; /* batches already in the running statistics */
  double eps;                   /* 0 means 1e-5; FASTNORM_EPS_ZERO means none */
  void *scratch;       /* optional: fastnorm_batch_norm_scratch() bytes, aligned to
                                 8. With it the statistics of training use all threads
                                 where spatial = 1; without it, one. Same bits. */
  size_t scratch_size; /* bytes; too few count as none */
  fastnorm_exec exec;
  fastnorm_format format;
  fastnorm_epilogue epilogue;
  fastnorm_mask mask;
} fastnorm_batch_norm_args;

FASTNORM_API fastnorm_status fastnorm_batch_norm(const fastnorm_batch_norm_args *args);

/* Bytes of scratch that this call can use; 0 if it has no use for any. */
FASTNORM_API size_t fastnorm_batch_norm_scratch(const fastnorm_batch_norm_args *args);

/* ---- Batch renormalization ------------------------------------------------------ */

#define FASTNORM_D_MAX_ZERO (-1.0) /* for .d_max: exactly zero (0 means the default) */

/* Batch norm whose training keeps to the running statistics, for small batches or ones
 * that are no fair sample (Ioffe 2017, arXiv:1702.03275). With training = 1:
 *     r = sigma_batch / sigma, limited to [1 / r_max, r_max]
 *     d = (mean_batch - running_mean) / sigma, limited to [-d_max, d_max]
 *     y = ((x - mean_batch) / sigma_batch * r + d) * weight + bias
 * where sigma_batch = sqrt(var_batch + eps) and sigma = sqrt(running_var + eps), with
 * 1 / sigma taken as zero where sigma is. Then the running statistics, which are needed
 * here, are updated as in batch norm: what is averaged is the unbiased variance (the
 * paper averages the deviation). With training = 0 this is batch norm.
 *
 * With r_max = 1 and d_max = 0 results have the bits of batch norm; with both infinite
 * they are those of inference from the running statistics as they were before the call.
 * The error of y is relative to the sum of the magnitudes of its terms and of
 * sigma_batch / sigma * weight; d is exact as to the running_mean that is stored, and
 * one of float32 near 1e6 is a multiple of 1/16. For gradients r and d are
 * constants. */
typedef struct fastnorm_batch_renorm_args {
  size_t size; /* sizeof(fastnorm_batch_renorm_args) */
  fastnorm_dtype dtype;
  const void *x;
  void *y;
  const void *weight; /* [channels], or NULL for ones */
  const void *bias;   /* [channels], or NULL for zeros */
  void *running_mean; /* [channels]: read, and with training = 1 updated */
  void *running_var;  /* [channels] */
  void *mean; /* [channels]: that of the batch, or the running one; if not NULL */
  void *rstd; /* [channels]: 1 / sqrt(var + eps) of the same, if not NULL */
  void *r;    /* [channels] of the working type, written if not NULL; 1 and 0 with */
  void *d;    /* training = 0 */
  size_t batch;
  size_t channels;
  size_t spatial;
  ptrdiff_t x_stride; /* elements from sample to sample; 0 means channels * spatial */
  ptrdiff_t y_stride;
  ptrdiff_t x_channel_stride; /* elements from channel to channel; 0 means spatial */
  ptrdiff_t y_channel_stride;
  int training;
  double momentum; /* as in fastnorm_batch_norm_args, to num_batches_tracked */
  uint64_t num_batches_tracked;
  double eps;          /* 0 means 1e-5; FASTNORM_EPS_ZERO means none */
  double r_max;        /* at least 1, may be Inf; 0 means 3 */
  double d_max;        /* at least 0, may be Inf; 0 means 5 */
  void *scratch;       /* optional: fastnorm_batch_renorm_scratch() bytes, as in */
  size_t scratch_size; /* fastnorm_batch_norm_args */
  fastnorm_exec exec;
  fastnorm_format format;
  fastnorm_epilogue epilogue;
} fastnorm_batch_renorm_args;

FASTNORM_API fastnorm_status
fastnorm_batch_renorm(const fastnorm_batch_renorm_args *args);
FASTNORM_API size_t
fastnorm_batch_renorm_scratch(const fastnorm_batch_renorm_args *args);

/* ---- Weight norm ---------------------------------------------------------------- */

/* y = x / norm * g per channel, norm = sqrt(sum of x^2) over all of the channel: the
 * weights of a layer as a direction and a length (Salimans, Kingma 2016,
 * arXiv:1602.07868). A channel of zeros stays zeros.
 *
 * x and y are [batch, channels, spatial], laid out as for batch norm: the channels are
 * the axis that is kept, batch and spatial what comes before and after it. One norm of
 * everything is batch = channels = 1. */
typedef struct fastnorm_weight_norm_args {
  size_t size; /* sizeof(fastnorm_weight_norm_args) */
  fastnorm_dtype dtype;
  const void *x;
  void *y;
  const void *g; /* [channels] of format.params, or NULL for ones */
  void *norm;    /* [channels] of the working type: the norm itself, if not NULL */
  size_t batch;
  size_t channels;
  size_t spatial;
  ptrdiff_t x_stride; /* as in fastnorm_batch_norm_args */
  ptrdiff_t y_stride;
  ptrdiff_t x_channel_stride;
  ptrdiff_t y_channel_stride;
  void *scratch; /* optional: fastnorm_weight_norm_scratch() bytes, aligned to 8: with
                    it all threads share long channels and tall tables. Same bits. */
  size_t scratch_size;
  fastnorm_exec exec;
  fastnorm_format format;
} fastnorm_weight_norm_args;

FASTNORM_API fastnorm_status
fastnorm_weight_norm(const fastnorm_weight_norm_args *args);
FASTNORM_API size_t fastnorm_weight_norm_scratch(const fastnorm_weight_norm_args *args);

/* ---- Group norm and instance norm ------------------------------------------------ */

/* y = (x - mean) / sqrt(var + eps) * weight + bias, mean and variance over each group
 * of channels / groups adjacent channels of each sample (Wu, He 2018,
 * arXiv:1803.08494).
 *
 * x and y are [batch, channels, spatial]: element (n, c, s) is at n * stride +
 * c * channel_stride + s. With channels_last they are [batch, spatial, channels]:
 * element (n, s, c) is at n * stride + s * channel_stride + c. */
typedef struct fastnorm_group_norm_args {
  size_t size; /* sizeof(fastnorm_group_norm_args) */
  fastnorm_dtype dtype;
  const void *x;
  void *y;
  const void *weight; /* [channels], or NULL for ones */
  const void *bias;   /* [channels], or NULL for zeros */
  void *mean;         /* [batch, groups] of the working type, written if not NULL */
  void *rstd;
  size_t batch;
  size_t channels;
  size_t spatial;
  size_t groups; /* divides channels */
  int channels_last;
  ptrdiff_t x_stride; /* elements from sample to sample; 0 means channels * spatial */
  ptrdiff_t y_stride;
  ptrdiff_t x_channel_stride; /* 0 means spatial; with channels_last, channels */
  ptrdiff_t y_channel_stride;
  double eps; /* 0 means 1e-5; FASTNORM_EPS_ZERO means none */
  fastnorm_exec exec;
  fastnorm_format format;
  fastnorm_epilogue epilogue;
  const void *stored_mean; /* as in fastnorm_layer_norm_args, [batch, groups] */
  const void *stored_var;
  fastnorm_mask mask;
} fastnorm_group_norm_args;

FASTNORM_API fastnorm_status fastnorm_group_norm(const fastnorm_group_norm_args *args);

/* Group norm with one channel per group (Ulyanov, Vedaldi, Lempitsky 2016,
 * arXiv:1607.08022), and what PyTorch does about running statistics.
 *
 * If given, running_mean and running_var are updated as in batch norm, by the means
 * over the batch of the statistics of all instances (of their unbiased variances), with
 * a mask each weighted by how many of its values take part. With
 * use_running_stats they are applied instead, and only read: then this is batch norm.
 * One value per instance (spatial = 1) is FASTNORM_ERROR_COUNT unless
 * use_running_stats. */
typedef struct fastnorm_instance_norm_args {
  size_t size; /* sizeof(fastnorm_instance_norm_args) */
  fastnorm_dtype dtype;
  const void *x;
  void *y;
  const void *weight;
  const void *bias;
  void *running_mean; /* [channels] of format.params, both or neither */
  void *running_var;
  void *mean; /* [batch, channels] of the working type, written if not NULL */
  void *rstd;
  size_t batch;
  size_t channels;
  size_t spatial;
  int channels_last;
  ptrdiff_t x_stride; /* as in fastnorm_group_norm_args */
  ptrdiff_t y_stride;
  ptrdiff_t x_channel_stride;
  ptrdiff_t y_channel_stride;
  int use_running_stats;
  double momentum; /* 0 means 0.1 */
  double eps;      /* 0 means 1e-5; FASTNORM_EPS_ZERO means none */
  fastnorm_exec exec;
  fastnorm_format format;
  fastnorm_epilogue epilogue;
  fastnorm_mask mask;
} fastnorm_instance_norm_args;

FASTNORM_API fastnorm_status
fastnorm_instance_norm(const fastnorm_instance_norm_args *args);

/* ---- Gradients of the norms of channels ------------------------------------------ */

/* From grad_y, the gradient of a loss by y, those by x, weight and bias, with xhat =
 * (x - mean) * rstd and means over all that shares its statistics:
 *     grad_x = rstd * (G - mean(G) - xhat * mean(G * xhat)),  G = grad_y * weight
 *     grad_weight = sum of grad_y * xhat,  grad_bias = sum of grad_y   (per channel)
 *
 * What holds for all of them, beside what is said at the top:
 * - Each of grad_x, grad_weight and grad_bias is worked out if it is not NULL. grad_x
 *   may be grad_y or x (of its type and strides).
 * - grad_y and x are of .dtype, any but 8-bit; weight is of format.params; grad_x of
 *   format.y; all others are of the working type, so that sums are not rounded to 16
 *   bits.
 * - mean and rstd are those that the norm has written, or both NULL: then they are
 *   found from x and eps, which is not used otherwise. The part of the mean that its
 *   rounding lost is found again from x.
 * - Errors: of grad_x at most 8e-7 (float64: 2e-15) of the largest magnitude of rstd
 *   * G, rstd * mean(G) and rstd * xhat * mean(G * xhat) in what shares statistics; of
 *   the sums as much of the sum of the magnitudes of their terms, with |xhat| plus its
 *   root mean square for xhat. Where grad_y is constant and weight is one number,
 *   grad_x is exactly 0; where x is constant, grad_weight is exactly 0. A number that
 *   becomes subnormal on the way is exact to a subnormal step.
 * - An array with no elements has grad_weight and grad_bias of zeros. */

/* Of batch norm; extents and layouts as there. With training = 0 the statistics do not
 * depend on x: grad_x = grad_y * weight * rstd; then rstd is needed, and x and mean
 * are for grad_weight alone. */
typedef struct fastnorm_batch_norm_backward_args {
  size_t size; /* sizeof(fastnorm_batch_norm_backward_args) */
  fastnorm_dtype dtype;
  const void *grad_y;
  const void *x;
  void *grad_x;       /* or NULL */
  const void *weight; /* [channels], or NULL for ones */
  void *grad_weight;  /* [channels] of the working type, or NULL */
  void *grad_bias;    /* [channels] of the working type, or NULL */
  const void *mean;   /* [channels] of the working type */
  const void *rstd;   /* [channels] of the working type */
  size_t batch;
  size_t channels;
  size_t spatial;
  ptrdiff_t grad_y_stride; /* elements from sample to sample; 0: channels * spatial */
  ptrdiff_t x_stride;
  ptrdiff_t grad_x_stride;
  ptrdiff_t grad_y_channel_stride; /* elements from channel to channel; 0: spatial */
  ptrdiff_t x_channel_stride;
  ptrdiff_t grad_x_channel_stride;
  int training;
  double eps;    /* 0 means 1e-5; FASTNORM_EPS_ZERO means none */
  void *scratch; /* optional: fastnorm_batch_norm_backward_scratch() bytes, aligned to
                    8: with it all threads share long channels and tall tables. Same
                    bits. */
  size_t scratch_size;
  fastnorm_exec exec;
  fastnorm_format format;
} fastnorm_batch_norm_backward_args;

FASTNORM_API fastnorm_status
fastnorm_batch_norm_backward(const fastnorm_batch_norm_backward_args *args);
FASTNORM_API size_t
fastnorm_batch_norm_backward_scratch(const fastnorm_batch_norm_backward_args *args);

/* Of batch renorm: y = (xhat * r + d) * weight + bias with r and d constants. So G =
 * grad_y * weight * r, and grad_weight is the sum of grad_y * (xhat * r + d). */
typedef struct fastnorm_batch_renorm_backward_args {
  size_t size; /* sizeof(fastnorm_batch_renorm_backward_args) */
  fastnorm_dtype dtype;
  const void *grad_y;
  const void *x;
  void *grad_x;
  const void *weight;
  void *grad_weight;
  void *grad_bias;
  const void *mean;
  const void *rstd;
  const void *r; /* [channels] of the working type, or NULL for ones */
  const void *d; /* [channels] of the working type, or NULL for zeros */
  size_t batch;
  size_t channels;
  size_t spatial;
  ptrdiff_t grad_y_stride; /* all that follow as in batch norm's */
  ptrdiff_t x_stride;
  ptrdiff_t grad_x_stride;
  ptrdiff_t grad_y_channel_stride;
  ptrdiff_t x_channel_stride;
  ptrdiff_t grad_x_channel_stride;
  int training;
  double eps;
  void *scratch;
  size_t scratch_size;
  fastnorm_exec exec;
  fastnorm_format format;
} fastnorm_batch_renorm_backward_args;

FASTNORM_API fastnorm_status
fastnorm_batch_renorm_backward(const fastnorm_batch_renorm_backward_args *args);
FASTNORM_API size_t
fastnorm_batch_renorm_backward_scratch(const fastnorm_batch_renorm_backward_args *args);

/* Of group norm; extents and layouts as there. */
typedef struct fastnorm_group_norm_backward_args {
  size_t size; /* sizeof(fastnorm_group_norm_backward_args) */
  fastnorm_dtype dtype;
  const void *grad_y;
  const void *x;
  void *grad_x;
  const void *weight;
  void *grad_weight;
  void *grad_bias;
  const void *mean; /* [batch, groups] of the working type */
  const void *rstd;
  size_t batch;
  size_t channels;
  size_t spatial;
  size_t groups; /* divides channels */
  int channels_last;
  ptrdiff_t grad_y_stride; /* elements from sample to sample; 0: channels * spatial */
  ptrdiff_t x_stride;
  ptrdiff_t grad_x_stride;
  ptrdiff_t grad_y_channel_stride; /* 0: spatial; with channels_last, channels */
  ptrdiff_t x_channel_stride;
  ptrdiff_t grad_x_channel_stride;
  double eps;    /* 0 means 1e-5; FASTNORM_EPS_ZERO means none */
  void *scratch; /* optional: fastnorm_group_norm_backward_scratch() bytes, aligned to
                    8: with it threads share the samples also for grad_weight and
                    grad_bias. Same bits. */
  size_t scratch_size;
  fastnorm_exec exec;
  fastnorm_format format;
} fastnorm_group_norm_backward_args;

FASTNORM_API fastnorm_status
fastnorm_group_norm_backward(const fastnorm_group_norm_backward_args *args);
FASTNORM_API size_t
fastnorm_group_norm_backward_scratch(const fastnorm_group_norm_backward_args *args);

/* Of instance norm. With use_running_stats the statistics do not depend on x, as with
 * training = 0 in batch norm. One value per instance (spatial = 1) is
 * FASTNORM_ERROR_COUNT unless use_running_stats. */
typedef struct fastnorm_instance_norm_backward_args {
  size_t size; /* sizeof(fastnorm_instance_norm_backward_args) */
  fastnorm_dtype dtype;
  const void *grad_y;
  const void *x;
  void *grad_x;
  const void *weight;
  void *grad_weight;
  void *grad_bias;
  const void *mean; /* [batch, channels] of the working type */
  const void *rstd;
  size_t batch;
  size_t channels;
  size_t spatial;
  int channels_last;
  int use_running_stats;
  ptrdiff_t grad_y_stride; /* all that follow as in group norm's */
  ptrdiff_t x_stride;
  ptrdiff_t grad_x_stride;
  ptrdiff_t grad_y_channel_stride;
  ptrdiff_t x_channel_stride;
  ptrdiff_t grad_x_channel_stride;
  double eps;
  void *scratch;
  size_t scratch_size;
  fastnorm_exec exec;
  fastnorm_format format;
} fastnorm_instance_norm_backward_args;

FASTNORM_API fastnorm_status
fastnorm_instance_norm_backward(const fastnorm_instance_norm_backward_args *args);
FASTNORM_API size_t fastnorm_instance_norm_backward_scratch(
    const fastnorm_instance_norm_backward_args *args);

/* Of weight norm, y = x / norm * g:
 *     grad_g = sum of grad_y * x / norm
 *     grad_x = g / norm * (grad_y - x / norm * grad_g)
 * Both are 0 for a channel of zeros. */
typedef struct fastnorm_weight_norm_backward_args {
  size_t size; /* sizeof(fastnorm_weight_norm_backward_args) */
  fastnorm_dtype dtype;
  const void *grad_y;
  const void *x;
  void *grad_x;     /* or NULL */
  const void *g;    /* [channels] of format.params, or NULL for ones */
  void *grad_g;     /* [channels] of the working type, or NULL */
  const void *norm; /* [channels] of the working type, or NULL: it is found from x */
  size_t batch;
  size_t channels;
  size_t spatial;
  ptrdiff_t grad_y_stride; /* all that follow as in batch norm's */
  ptrdiff_t x_stride;
  ptrdiff_t grad_x_stride;
  ptrdiff_t grad_y_channel_stride;
  ptrdiff_t x_channel_stride;
  ptrdiff_t grad_x_channel_stride;
  void *scratch;
  size_t scratch_size;
  fastnorm_exec exec;
  fastnorm_format format;
} fastnorm_weight_norm_backward_args;

FASTNORM_API fastnorm_status
fastnorm_weight_norm_backward(const fastnorm_weight_norm_backward_args *args);
FASTNORM_API size_t
fastnorm_weight_norm_backward_scratch(const fastnorm_weight_norm_backward_args *args);

/* ---- Gradients of the norms of rows ---------------------------------------------- */

/* What is said above of the norms of channels holds here as well, sums being over all
 * rows and inner. For layer norm the magnitude of a term of grad_weight counts as at
 * least that of grad_y. Where all grad_y * weight of a row are one number, grad_x of
 * layer norm is exactly 0. Sums of float64 become Inf or NaN where the magnitudes of
 * their terms add up to that.
 *
 * - If none of the three gradients is wanted, nothing is done.
 * - 16-bit arrays are read through a stage, with the results of the same call on
 *   widened ones, rounded at the end. */

/* Of layer norm; extents and layouts as there. */
typedef struct fastnorm_layer_norm_backward_args {
  size_t size; /* sizeof(fastnorm_layer_norm_backward_args) */
  fastnorm_dtype dtype;
  const void *grad_y;
  const void *x;
  void *grad_x;       /* or NULL */
  const void *weight; /* [cols], or NULL for ones */
  void *grad_weight;  /* [cols] of the working type, or NULL */
  void *grad_bias;    /* [cols] of the working type, or NULL */
  const void *mean;   /* [rows, inner] of the working type, or NULL */
  const void *rstd;   /* [rows, inner] of the working type, or NULL */
  size_t rows;
  size_t cols;
  size_t inner;            /* 0 means 1 */
  ptrdiff_t grad_y_stride; /* elements from row to row; 0 means cols * inner */
  ptrdiff_t x_stride;
  ptrdiff_t grad_x_stride;
  double eps;    /* 0 means 1e-5; FASTNORM_EPS_ZERO means none */
  void *scratch; /* optional: fastnorm_layer_norm_backward_scratch() bytes, aligned to
                    8. Without it grad_weight and grad_bias take a pass over all
                    rows of their own for each 512 columns. Same bits. */
  size_t scratch_size; /* bytes; too few count as none */
  fastnorm_exec exec;
  fastnorm_format format;
} fastnorm_layer_norm_backward_args;

FASTNORM_API fastnorm_status
fastnorm_layer_norm_backward(const fastnorm_layer_norm_backward_args *args);

/* Bytes of scratch that this call can use; 0 if it has no use for any. */
FASTNORM_API size_t
fastnorm_layer_norm_backward_scratch(const fastnorm_layer_norm_backward_args *args);

/* Of RMS norm: grad_x = rstd * (G - xhat * mean(G * xhat)), xhat = x * rstd. With
 * FASTNORM_RMS_ONE_PLUS_WEIGHT G = grad_y * (1 + weight). The rounding of
 * FASTNORM_RMS_CAST_BEFORE_WEIGHT counts as the identity: that mode is as PLAIN. */
typedef struct fastnorm_rms_norm_backward_args {
  size_t size; /* sizeof(fastnorm_rms_norm_backward_args) */
  fastnorm_dtype dtype;
  const void *grad_y;
  const void *x;
  void *grad_x;
  const void *weight;
  void *grad_weight;
  const void *rstd; /* [rows, inner] of the working type, or NULL */
  size_t rows;
  size_t cols;
  size_t inner;
  ptrdiff_t grad_y_stride; /* as in layer norm's */
  ptrdiff_t x_stride;
  ptrdiff_t grad_x_stride;
  double eps;    /* 0 means the machine epsilon; FASTNORM_EPS_ZERO means none */
  void *scratch; /* as in layer norm's */
  size_t scratch_size;
  fastnorm_exec exec;
  fastnorm_format format;
  fastnorm_rms_mode mode;
} fastnorm_rms_norm_backward_args;

FASTNORM_API fastnorm_status
fastnorm_rms_norm_backward(const fastnorm_rms_norm_backward_args *args);
FASTNORM_API size_t
fastnorm_rms_norm_backward_scratch(const fastnorm_rms_norm_backward_args *args);

/* Of L2 norm: grad_x = (grad_y - y * sum(grad_y * y)) / norm, and grad_y / eps where
 * norm < eps; 0 for a row of zeros if eps is none. The norm is found from x. */
typedef struct fastnorm_l2_norm_backward_args {
  size_t size; /* sizeof(fastnorm_l2_norm_backward_args) */
  fastnorm_dtype dtype;
  const void *grad_y;
  const void *x;
  void *grad_x;
  size_t rows;
  size_t cols;
  size_t inner;
  ptrdiff_t grad_y_stride; /* as in layer norm's */
  ptrdiff_t x_stride;
  ptrdiff_t grad_x_stride;
  double eps; /* 0 means 1e-12; FASTNORM_EPS_ZERO means none */
  fastnorm_exec exec;
  fastnorm_format format; /* .params is not used */
} fastnorm_l2_norm_backward_args;

FASTNORM_API fastnorm_status
fastnorm_l2_norm_backward(const fastnorm_l2_norm_backward_args *args);

/* ---- Moments -------------------------------------------------------------------- */

/* Mean and sum of squared deviations of each channel of x [batch, channels, spatial],
 * laid out as for batch norm. Moments of every row of a table [R, n] are batch = 1,
 * channels = R, spatial = n; of every column of it, batch = R, channels = n, spatial =
 * 1; of a whole array, batch = 1, channels = 1.
 *
 * The variance with d degrees of freedom is m2[c] / (batch * spatial - d). Where a mask
 * leaves nothing, mean and m2 are 0. With weights m2 is the sum of w * (x - mean)^2. */
typedef struct fastnorm_moments_args {
  size_t size; /* sizeof(fastnorm_moments_args) */
  fastnorm_dtype dtype;
  const void *x;
  double *mean; /* [channels]; always double */
  double *m2;   /* [channels]: sum of (x - mean)^2; always double */
  size_t batch;
  size_t channels;
  size_t spatial;
  ptrdiff_t x_stride; /* elements from sample to sample; 0 means channels * spatial */
  ptrdiff_t x_channel_stride; /* elements from channel to channel; 0 means spatial */
  void *scratch; /* optional: fastnorm_moments_scratch() bytes, aligned to 8 */
  size_t scratch_size;
  fastnorm_exec exec;
  fastnorm_quantization x_quantization; /* where x is 8-bit */
  fastnorm_mask mask;                   /* .masked has no use here */
  size_t *count; /* [channels], written if not NULL: how many values took part */
  /* [channels], written if not NULL: the sum of their weights, by which m2 is to be
   * divided; the count where there are none */
  double *weight;
} fastnorm_moments_args;

FASTNORM_API fastnorm_status fastnorm_moments(const fastnorm_moments_args *args);
FASTNORM_API size_t fastnorm_moments_scratch(const fastnorm_moments_args *args);

/* Merges the moments of two sets of samples, per channel, into `count`, `mean`, `m2`
 * (Chan, Golub, LeVeque 1979: "Updating formulae and a pairwise algorithm for computing
 * sample variances"). The first set is of *count samples, the second of other_count; a
 * set of no samples takes no part, whatever its mean and m2 hold. All arrays are
 * [channels]; a set may be merged with itself. */
FASTNORM_API fastnorm_status fastnorm_moments_merge(size_t channels, uint64_t *count,
                                                    double *mean, double *m2,
                                                    uint64_t other_count,
                                                    const double *other_mean,
                                                    const double *other_m2);

/* ---- Running moments ------------------------------------------------------------ */

/* Moments of any number of batches, feature by feature, and of all parts that are
 * merged: the same for every split and order, within the bounds of docs/numerics.md.
 * The struct and its arrays, each [features], are the caller's; nobody else looks at
 * them between calls. Calls that read the same state may run at once.
 *
 * `count` values have been seen of a feature, of the sum of weights `weight` (the count
 * where there are none). Their mean is mean + mean_low, the sum of their weighted
 * squared deviations from it m2 + m2_low: what one double cannot hold goes to the
 * second. No sum of squares that is not of deviations is ever kept. */
typedef struct fastnorm_running_moments {
  size_t size; /* sizeof(fastnorm_running_moments) */
  size_t features;
  int64_t *count;
  double *weight;
  double *mean, *mean_low;
  double *m2, *m2_low;
  double *min, *max;
} fastnorm_running_moments;

/* What NaN means. Inf is a value like others: the mean of a feature that has it is Inf
 * or NaN, and its variance NaN. */
typedef enum fastnorm_nan_policy {
  FASTNORM_NAN_PROPAGATE = 0, /* mean, variance, min and max of the feature are NaN */
  FASTNORM_NAN_ERROR = 1,     /* FASTNORM_ERROR_NAN, and nothing has changed */
  FASTNORM_NAN_MISSING = 2    /* it is no value: each feature has a count of its own */
} fastnorm_nan_policy;

/* Starts with no values, whatever the arrays hold. */
FASTNORM_API fastnorm_status
fastnorm_running_moments_init(const fastnorm_running_moments *state);

/* A batch: x [batch, channels, spatial] as for fastnorm_moments; the channels are the
 * features. 8-bit elements are whole numbers, and their sums exact. */
typedef struct fastnorm_running_moments_args {
  size_t size; /* sizeof(fastnorm_running_moments_args) */
  fastnorm_dtype dtype;
  const void *x;
  size_t batch;
  size_t channels; /* the features of the state */
  size_t spatial;
  ptrdiff_t x_stride; /* elements from sample to sample; 0 means channels * spatial */
  ptrdiff_t x_channel_stride; /* elements from channel to channel; 0 means spatial */
  fastnorm_nan_policy nan;
  /* NULL, or what takes part: bytes, of which 0 says that the element does not,
   * whatever it is. Byte (n, c, s) is at n * mask_stride + c * mask_channel_stride +
   * s * mask_spatial_stride: a stride of 0 is one byte for all. */
  const unsigned char *mask;
  ptrdiff_t mask_stride, mask_channel_stride, mask_spatial_stride;
  /* NULL, or weights, float32 (0 too) or float64, with strides as those of the mask. An
   * element of weight 0 takes no part. Negative, infinite or NaN where the mask lets
   * the element take part: FASTNORM_ERROR_WEIGHT, and nothing has changed. */
  const void *weights;
  fastnorm_dtype weights_dtype;
  ptrdiff_t weights_stride, weights_channel_stride, weights_spatial_stride;
  void *scratch; /* needed: fastnorm_running_moments_scratch() bytes, aligned to 8 */
  size_t scratch_size;
  fastnorm_exec exec;
} fastnorm_running_moments_args;

/* Takes a batch in. If the status is not FASTNORM_OK, the state is as it was. */
FASTNORM_API fastnorm_status fastnorm_running_moments_update(
    const fastnorm_running_moments *state, const fastnorm_running_moments_args *batch);
FASTNORM_API size_t
fastnorm_running_moments_scratch(const fastnorm_running_moments_args *batch);

/* Takes in what another state, of as many features, has seen; it may be `state`. */
FASTNORM_API fastnorm_status fastnorm_running_moments_merge(
    const fastnorm_running_moments *state, const fastnorm_running_moments *other);

/* The results, each [features] and written if not NULL: var = (m2 + m2_low) / (weight -
 * ddof), NaN unless weight > ddof, which is finite and not negative; std its root; all
 * NaN where there is no value. */
typedef struct fastnorm_running_results {
  size_t size; /* sizeof(fastnorm_running_results) */
  double ddof;
  double *mean, *var, *std, *min, *max;
} fastnorm_running_results;

FASTNORM_API fastnorm_status fastnorm_running_moments_finish(
    const fastnorm_running_moments *state, const fastnorm_running_results *results);

/* ---- Images --------------------------------------------------------------------- */

/* y = (x * scale - mean) / std per channel: pixels as cameras and decoders give them
 * become what a network reads, in one pass.
 *
 * x is [images, height, width, channels]: element (n, h, w, c) is at n * x_stride +
 * h * x_row_stride + w * channels + c. So a part of an image, or one upside down, is
 * read where it is. y is the same, or, with channels_first, [images, channels, height,
 * width]; each image of it is packed. With reverse_channels channel c of y is channel
 * channels - 1 - c of x (BGR to RGB); mean and std have the order of y.
 *
 * The value is worked out in double, with a relative error of at most 4e-16, and
 * rounded to the type of y: for float32 that is within 0.50001 units in the last place
 * of the exact value. (16-bit results are rounded from the float32 one.)
 *
 * Where x * scale leaves the range of float64, which only a float64 x can, y is Inf. y
 * may be x where their types and layouts are the same. */
typedef struct fastnorm_normalize_image_args {
  size_t size;          /* sizeof(fastnorm_normalize_image_args) */
  fastnorm_dtype dtype; /* of x: any but int8 */
  const void *x;
  void *y;
  size_t images;
  size_t height;
  size_t width;
  size_t channels;    /* 1 to 16, else FASTNORM_ERROR_IMAGE */
  ptrdiff_t x_stride; /* elements from image to image; 0 means height * x_row_stride */
  ptrdiff_t x_row_stride; /* elements from row to row; 0 means width * channels */
  ptrdiff_t y_stride;     /* elements from image to image; 0 means packed */
  int channels_first;
  int reverse_channels;
  /* Magnitudes of scale and std are 1e-100 to 1e100, those of mean at most 1e100; std
   * is positive. Else FASTNORM_ERROR_IMAGE. */
  double scale;       /* 0 means 1 / 255 where x is uint8, else 1 */
  const double *mean; /* [channels], or NULL for zeros */
  const double *std;  /* [channels], or NULL for ones */
  fastnorm_exec exec;
  fastnorm_format format; /* only .y: a float type; float64 for float64 x alone */
} fastnorm_normalize_image_args;

FASTNORM_API fastnorm_status
fastnorm_normalize_image(const fastnorm_normalize_image_args *args);

#ifdef __cplusplus
}
#endif

#endif /* FASTNORM_H */
