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
 *   an output and an input, or between two outputs, is refused.
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
  /* the extents overflow size_t, or ptrdiff_t in bytes */
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
  /* training with one value per channel has no variance */
  FASTNORM_ERROR_COUNT = 11,
  /* an instruction set that is unknown or that this CPU lacks */
  FASTNORM_ERROR_ISA = 12,
  /* a negative number of threads */
  FASTNORM_ERROR_THREADS = 13
} fastnorm_status;

/* One English sentence for a status. Static memory; never NULL, for any value. */
FASTNORM_API const char *fastnorm_strerror(fastnorm_status status);

/* The type of the elements of every array of a call. */
typedef enum fastnorm_dtype {
  FASTNORM_FLOAT32 = 0,
  FASTNORM_FLOAT64 = 1
} fastnorm_dtype;

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
 * fastnorm_get_num_threads() threads. Work is cut into pieces by its shape alone, the
 * calling thread always takes part, and a call that finds the workers busy with another
 * caller runs on its own thread. Small work never leaves the calling thread. */
typedef struct fastnorm_exec {
  int num_threads; /* 0: the process-wide number; 1: this thread alone */
  fastnorm_parallel_for parallel_for; /* not NULL: used instead of the shared workers */
  void *context;                      /* passed to parallel_for */
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
  void *mean;         /* [rows, inner] of dtype, written if not NULL */
  void *rstd; /* [rows, inner] of dtype, written if not NULL; it may round to Inf
                          where the deviation is below 1 / the largest number */
  size_t rows;
  size_t cols;
  size_t inner;       /* 0 means 1 */
  ptrdiff_t x_stride; /* elements from row to row; 0 means cols * inner */
  ptrdiff_t y_stride;
  double eps; /* 0 means 1e-5; FASTNORM_EPS_ZERO means none */
  fastnorm_exec exec;
} fastnorm_layer_norm_args;

FASTNORM_API fastnorm_status fastnorm_layer_norm(const fastnorm_layer_norm_args *args);

/* y = x / sqrt(mean(x^2) + eps) * weight over the `cols` values of each row (Zhang,
 * Sennrich 2019, arXiv:1910.07467). Layout as for layer norm. */
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
} fastnorm_rms_norm_args;

FASTNORM_API fastnorm_status fastnorm_rms_norm(const fastnorm_rms_norm_args *args);

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
} fastnorm_batch_norm_args;

FASTNORM_API fastnorm_status fastnorm_batch_norm(const fastnorm_batch_norm_args *args);

/* Bytes of scratch that this call can use; 0 if it has no use for any. */
FASTNORM_API size_t fastnorm_batch_norm_scratch(const fastnorm_batch_norm_args *args);

/* ---- Moments -------------------------------------------------------------------- */

/* Mean and sum of squared deviations of each channel of x [batch, channels, spatial],
 * laid out as for batch norm. Moments of every row of a table [R, n] are batch = 1,
 * channels = R, spatial = n; of every column of it, batch = R, channels = n, spatial =
 * 1; of a whole array, batch = 1, channels = 1.
 *
 * The variance with d degrees of freedom is m2[c] / (batch * spatial - d). */
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
} fastnorm_moments_args;

FASTNORM_API fastnorm_status fastnorm_moments(const fastnorm_moments_args *args);
FASTNORM_API size_t fastnorm_moments_scratch(const fastnorm_moments_args *args);

/* Merges the moments of two sets of samples, per channel, into `count`, `mean`, `m2`
 * (Chan, Golub, LeVeque 1979: "Updating formulae and a pairwise algorithm for computing
 * sample variances"). The first set is of *count samples, the second of other_count; a
 * set of no samples takes no part, whatever its mean and m2 hold. All arrays are
 * [channels]. */
FASTNORM_API fastnorm_status fastnorm_moments_merge(size_t channels, uint64_t *count,
                                                    double *mean, double *m2,
                                                    uint64_t other_count,
                                                    const double *other_mean,
                                                    const double *other_m2);

#ifdef __cplusplus
}
#endif

#endif /* FASTNORM_H */
