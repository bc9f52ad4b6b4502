# _core.pxd - what `cimport fastnorm` and `from fastnorm cimport ...` give.
# SPDX-License-Identifier: MIT
#
# The functions need no GIL, no header and no library: Cython fetches their addresses
# from the extension at import. Arrays are packed (C order) and aligned; y may be x.
#
# Each returns 0, or a fastnorm_status; then nothing has been written, and
# error_message() says why. weight and bias may be NULL. eps is used as it is, 0
# included. num_threads is 1 for the calling thread alone, 0 for the number that
# fastnorm.set_num_threads() set.

from libc.stdint cimport uint64_t

# y = (x - mean) / sqrt(var + eps) * weight + bias for each row of x [rows, cols].
cdef int layer_norm_f32(
    const float *x, float *y, const float *weight, const float *bias, size_t rows,
    size_t cols, double eps, int num_threads,
) noexcept nogil
cdef int layer_norm_f64(
    const double *x, double *y, const double *weight, const double *bias, size_t rows,
    size_t cols, double eps, int num_threads,
) noexcept nogil

# y = x / sqrt(mean(x^2) + eps) * weight for each row of x [rows, cols].
cdef int rms_norm_f32(
    const float *x, float *y, const float *weight, size_t rows, size_t cols, double eps,
    int num_threads,
) noexcept nogil
cdef int rms_norm_f64(
    const double *x, double *y, const double *weight, size_t rows, size_t cols,
    double eps, int num_threads,
) noexcept nogil

# y = x / max(norm, eps) for each row of x [rows, cols], norm = sqrt(sum of x^2).
cdef int l2_norm_f32(
    const float *x, float *y, size_t rows, size_t cols, double eps, int num_threads,
) noexcept nogil
cdef int l2_norm_f64(
    const double *x, double *y, size_t rows, size_t cols, double eps, int num_threads,
) noexcept nogil

# The same with norm = sum of |x|.
cdef int l1_norm_f32(
    const float *x, float *y, size_t rows, size_t cols, double eps, int num_threads,
) noexcept nogil
cdef int l1_norm_f64(
    const double *x, double *y, size_t rows, size_t cols, double eps, int num_threads,
) noexcept nogil

# y = (x - mean) / sqrt(var + eps) * weight + bias for each channel of
# x [batch, channels, spatial], by the given statistics.
cdef int batch_norm_f32(
    const float *x, float *y, const float *mean, const float *var, const float *weight,
    const float *bias, size_t batch, size_t channels, size_t spatial, double eps,
    int num_threads,
) noexcept nogil
cdef int batch_norm_f64(
    const double *x, double *y, const double *mean, const double *var,
    const double *weight, const double *bias, size_t batch, size_t channels,
    size_t spatial, double eps, int num_threads,
) noexcept nogil

# The same by the statistics of the batch, each channel's; mean and rstd [channels]
# receive them, and running_mean and running_var are updated; each pair may be NULL.
# momentum is the weight of the new value, 0 for no update; -1 weights all batches
# alike, with num_batches_tracked of them before this one (not used otherwise).
cdef int batch_norm_training_f32(
    const float *x, float *y, float *mean, float *rstd, const float *weight,
    const float *bias, float *running_mean, float *running_var, size_t batch,
    size_t channels, size_t spatial, double momentum, uint64_t num_batches_tracked,
    double eps, int num_threads,
) noexcept nogil
cdef int batch_norm_training_f64(
    const double *x, double *y, double *mean, double *rstd, const double *weight,
    const double *bias, double *running_mean, double *running_var, size_t batch,
    size_t channels, size_t spatial, double momentum, uint64_t num_batches_tracked,
    double eps, int num_threads,
) noexcept nogil

# The same by the statistics of each group of channels / groups channels of a sample,
# and of each channel of a sample.
cdef int group_norm_f32(
    const float *x, float *y, const float *weight, const float *bias, size_t batch,
    size_t channels, size_t spatial, size_t groups, double eps, int num_threads,
) noexcept nogil
cdef int group_norm_f64(
    const double *x, double *y, const double *weight, const double *bias, size_t batch,
    size_t channels, size_t spatial, size_t groups, double eps, int num_threads,
) noexcept nogil
cdef int instance_norm_f32(
    const float *x, float *y, const float *weight, const float *bias, size_t batch,
    size_t channels, size_t spatial, double eps, int num_threads,
) noexcept nogil
cdef int instance_norm_f64(
    const double *x, double *y, const double *weight, const double *bias, size_t batch,
    size_t channels, size_t spatial, double eps, int num_threads,
) noexcept nogil

# instance_norm with running statistics: updated by those of this call, or, where
# use_input_stats is 0, applied in their place. mean and rstd are [batch, channels].
cdef int instance_norm_running_f32(
    const float *x, float *y, float *mean, float *rstd, const float *weight,
    const float *bias, float *running_mean, float *running_var, size_t batch,
    size_t channels, size_t spatial, int use_input_stats, double momentum, double eps,
    int num_threads,
) noexcept nogil
cdef int instance_norm_running_f64(
    const double *x, double *y, double *mean, double *rstd, const double *weight,
    const double *bias, double *running_mean, double *running_var, size_t batch,
    size_t channels, size_t spatial, int use_input_stats, double momentum, double eps,
    int num_threads,
) noexcept nogil

# Mean and sum of squared deviations of each channel of x [batch, channels, spatial].
cdef int moments_f32(
    const float *x, double *mean, double *m2, size_t batch, size_t channels,
    size_t spatial, int num_threads,
) noexcept nogil
cdef int moments_f64(
    const double *x, double *mean, double *m2, size_t batch, size_t channels,
    size_t spatial, int num_threads,
) noexcept nogil

# One English sentence for a status. Static memory.
cdef const char *error_message(int status) noexcept nogil
