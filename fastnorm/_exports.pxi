# _exports.pxi - the functions that _core.pxd exports.
# SPDX-License-Identifier: MIT


cdef double eps_argument(double eps) noexcept nogil:
    """eps for the C API, where 0 means the default and -1 means 0."""
    if eps == 0.0:
        return c.FASTNORM_EPS_ZERO
    return eps if eps > 0.0 else NAN


cdef int packed_layer_norm(
    c.fastnorm_dtype dtype, const void *x, void *y, const void *weight,
    const void *bias, size_t rows, size_t cols, double eps, int num_threads,
) noexcept nogil:
    cdef c.fastnorm_layer_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = dtype
    args.x = x
    args.y = y
    args.weight = weight
    args.bias = bias
    args.rows = rows
    args.cols = cols
    args.eps = eps_argument(eps)
    args.exec_.num_threads = num_threads
    return c.fastnorm_layer_norm(&args)


cdef int layer_norm_f32(
    const float *x, float *y, const float *weight, const float *bias, size_t rows,
    size_t cols, double eps, int num_threads,
) noexcept nogil:
    return packed_layer_norm(
        c.FASTNORM_FLOAT32, x, y, weight, bias, rows, cols, eps, num_threads
    )


cdef int layer_norm_f64(
    const double *x, double *y, const double *weight, const double *bias, size_t rows,
    size_t cols, double eps, int num_threads,
) noexcept nogil:
    return packed_layer_norm(
        c.FASTNORM_FLOAT64, x, y, weight, bias, rows, cols, eps, num_threads
    )


cdef int packed_rms_norm(
    c.fastnorm_dtype dtype, const void *x, void *y, const void *weight, size_t rows,
    size_t cols, double eps, int num_threads,
) noexcept nogil:
    cdef c.fastnorm_rms_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = dtype
    args.x = x
    args.y = y
    args.weight = weight
    args.rows = rows
    args.cols = cols
    args.eps = eps_argument(eps)
    args.exec_.num_threads = num_threads
    return c.fastnorm_rms_norm(&args)


cdef int rms_norm_f32(
    const float *x, float *y, const float *weight, size_t rows, size_t cols, double eps,
    int num_threads,
) noexcept nogil:
    return packed_rms_norm(
        c.FASTNORM_FLOAT32, x, y, weight, rows, cols, eps, num_threads
    )


cdef int rms_norm_f64(
    const double *x, double *y, const double *weight, size_t rows, size_t cols,
    double eps, int num_threads,
) noexcept nogil:
    return packed_rms_norm(
        c.FASTNORM_FLOAT64, x, y, weight, rows, cols, eps, num_threads
    )


cdef int packed_lp_norm(
    bint l1, c.fastnorm_dtype dtype, const void *x, void *y, size_t rows, size_t cols,
    double eps, int num_threads,
) noexcept nogil:
    cdef c.fastnorm_l2_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = dtype
    args.x = x
    args.y = y
    args.rows = rows
    args.cols = cols
    args.eps = eps_argument(eps)
    args.exec_.num_threads = num_threads
    return c.fastnorm_l1_norm(&args) if l1 else c.fastnorm_l2_norm(&args)


cdef int l2_norm_f32(
    const float *x, float *y, size_t rows, size_t cols, double eps, int num_threads,
) noexcept nogil:
    return packed_lp_norm(False, c.FASTNORM_FLOAT32, x, y, rows, cols, eps, num_threads)


cdef int l2_norm_f64(
    const double *x, double *y, size_t rows, size_t cols, double eps, int num_threads,
) noexcept nogil:
    return packed_lp_norm(False, c.FASTNORM_FLOAT64, x, y, rows, cols, eps, num_threads)


cdef int l1_norm_f32(
    const float *x, float *y, size_t rows, size_t cols, double eps, int num_threads,
) noexcept nogil:
    return packed_lp_norm(True, c.FASTNORM_FLOAT32, x, y, rows, cols, eps, num_threads)


cdef int l1_norm_f64(
    const double *x, double *y, size_t rows, size_t cols, double eps, int num_threads,
) noexcept nogil:
    return packed_lp_norm(True, c.FASTNORM_FLOAT64, x, y, rows, cols, eps, num_threads)


cdef int packed_batch_norm(
    c.fastnorm_dtype dtype, const void *x, void *y, const void *mean, const void *var,
    const void *weight, const void *bias, size_t batch, size_t channels, size_t spatial,
    double eps, int num_threads,
) noexcept nogil:
    cdef c.fastnorm_batch_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = dtype
    args.x = x
    args.y = y
    args.running_mean = <void *>mean  # only read in inference
    args.running_var = <void *>var  # only read in inference
    args.weight = weight
    args.bias = bias
    args.batch = batch
    args.channels = channels
    args.spatial = spatial
    args.eps = eps_argument(eps)
    args.exec_.num_threads = num_threads
    return c.fastnorm_batch_norm(&args)


cdef int batch_norm_f32(
    const float *x, float *y, const float *mean, const float *var, const float *weight,
    const float *bias, size_t batch, size_t channels, size_t spatial, double eps,
    int num_threads,
) noexcept nogil:
    return packed_batch_norm(
        c.FASTNORM_FLOAT32, x, y, mean, var, weight, bias, batch, channels, spatial,
        eps, num_threads
    )


cdef int batch_norm_f64(
    const double *x, double *y, const double *mean, const double *var,
    const double *weight, const double *bias, size_t batch, size_t channels,
    size_t spatial, double eps, int num_threads,
) noexcept nogil:
    return packed_batch_norm(
        c.FASTNORM_FLOAT64, x, y, mean, var, weight, bias, batch, channels, spatial,
        eps, num_threads
    )


cdef int packed_batch_norm_training(
    c.fastnorm_dtype dtype, const void *x, void *y, void *mean, void *rstd,
    const void *weight, const void *bias, void *running_mean, void *running_var,
    size_t batch, size_t channels, size_t spatial, double momentum,
    uint64_t num_batches_tracked, double eps, int num_threads,
) noexcept nogil:
    cdef c.fastnorm_batch_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = dtype
    args.training = 1
    args.x = x
    args.y = y
    args.mean = mean
    args.rstd = rstd
    args.weight = weight
    args.bias = bias
    if momentum != 0.0:  # to the C API 0 means the default
        args.running_mean = running_mean
        args.running_var = running_var
    args.batch = batch
    args.channels = channels
    args.spatial = spatial
    args.momentum = momentum
    args.num_batches_tracked = num_batches_tracked
    args.eps = eps_argument(eps)
    args.exec_.num_threads = num_threads
    return c.fastnorm_batch_norm(&args)


cdef int batch_norm_training_f32(
    const float *x, float *y, float *mean, float *rstd, const float *weight,
    const float *bias, float *running_mean, float *running_var, size_t batch,
    size_t channels, size_t spatial, double momentum, uint64_t num_batches_tracked,
    double eps, int num_threads,
) noexcept nogil:
    return packed_batch_norm_training(
        c.FASTNORM_FLOAT32, x, y, mean, rstd, weight, bias, running_mean, running_var,
        batch, channels, spatial, momentum, num_batches_tracked, eps, num_threads
    )


cdef int batch_norm_training_f64(
    const double *x, double *y, double *mean, double *rstd, const double *weight,
    const double *bias, double *running_mean, double *running_var, size_t batch,
    size_t channels, size_t spatial, double momentum, uint64_t num_batches_tracked,
    double eps, int num_threads,
) noexcept nogil:
    return packed_batch_norm_training(
        c.FASTNORM_FLOAT64, x, y, mean, rstd, weight, bias, running_mean, running_var,
        batch, channels, spatial, momentum, num_batches_tracked, eps, num_threads
    )


cdef int packed_group_norm(
    c.fastnorm_dtype dtype, const void *x, void *y, const void *weight,
    const void *bias, size_t batch, size_t channels, size_t spatial, size_t groups,
    double eps, int num_threads,
) noexcept nogil:
    cdef c.fastnorm_group_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = dtype
    args.x = x
    args.y = y
    args.weight = weight
    args.bias = bias
    args.batch = batch
    args.channels = channels
    args.spatial = spatial
    args.groups = groups
    args.eps = eps_argument(eps)
    args.exec_.num_threads = num_threads
    return c.fastnorm_group_norm(&args)


cdef int group_norm_f32(
    const float *x, float *y, const float *weight, const float *bias, size_t batch,
    size_t channels, size_t spatial, size_t groups, double eps, int num_threads,
) noexcept nogil:
    return packed_group_norm(
        c.FASTNORM_FLOAT32, x, y, weight, bias, batch, channels, spatial, groups, eps,
        num_threads
    )


cdef int group_norm_f64(
    const double *x, double *y, const double *weight, const double *bias, size_t batch,
    size_t channels, size_t spatial, size_t groups, double eps, int num_threads,
) noexcept nogil:
    return packed_group_norm(
        c.FASTNORM_FLOAT64, x, y, weight, bias, batch, channels, spatial, groups, eps,
        num_threads
    )


cdef int packed_instance_norm(
    c.fastnorm_dtype dtype, const void *x, void *y, const void *weight,
    const void *bias, size_t batch, size_t channels, size_t spatial, double eps,
    int num_threads,
) noexcept nogil:
    cdef c.fastnorm_instance_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = dtype
    args.x = x
    args.y = y
    args.weight = weight
    args.bias = bias
    args.batch = batch
    args.channels = channels
    args.spatial = spatial
    args.eps = eps_argument(eps)
    args.exec_.num_threads = num_threads
    return c.fastnorm_instance_norm(&args)


cdef int instance_norm_f32(
    const float *x, float *y, const float *weight, const float *bias, size_t batch,
    size_t channels, size_t spatial, double eps, int num_threads,
) noexcept nogil:
    return packed_instance_norm(
        c.FASTNORM_FLOAT32, x, y, weight, bias, batch, channels, spatial, eps,
        num_threads
    )


cdef int instance_norm_f64(
    const double *x, double *y, const double *weight, const double *bias, size_t batch,
    size_t channels, size_t spatial, double eps, int num_threads,
) noexcept nogil:
    return packed_instance_norm(
        c.FASTNORM_FLOAT64, x, y, weight, bias, batch, channels, spatial, eps,
        num_threads
    )


cdef int packed_instance_norm_running(
    c.fastnorm_dtype dtype, const void *x, void *y, void *mean, void *rstd,
    const void *weight, const void *bias, void *running_mean, void *running_var,
    size_t batch, size_t channels, size_t spatial, int use_input_stats, double momentum,
    double eps, int num_threads,
) noexcept nogil:
    cdef c.fastnorm_instance_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = dtype
    args.x = x
    args.y = y
    args.mean = mean
    args.rstd = rstd
    args.weight = weight
    args.bias = bias
    args.use_running_stats = not use_input_stats
    if momentum != 0.0 or not use_input_stats:  # to the C API 0 means the default
        args.running_mean = running_mean
        args.running_var = running_var
    args.batch = batch
    args.channels = channels
    args.spatial = spatial
    args.momentum = momentum
    args.eps = eps_argument(eps)
    args.exec_.num_threads = num_threads
    return c.fastnorm_instance_norm(&args)


cdef int instance_norm_running_f32(
    const float *x, float *y, float *mean, float *rstd, const float *weight,
    const float *bias, float *running_mean, float *running_var, size_t batch,
    size_t channels, size_t spatial, int use_input_stats, double momentum, double eps,
    int num_threads,
) noexcept nogil:
    return packed_instance_norm_running(
        c.FASTNORM_FLOAT32, x, y, mean, rstd, weight, bias, running_mean, running_var,
        batch, channels, spatial, use_input_stats, momentum, eps, num_threads
    )


cdef int instance_norm_running_f64(
    const double *x, double *y, double *mean, double *rstd, const double *weight,
    const double *bias, double *running_mean, double *running_var, size_t batch,
    size_t channels, size_t spatial, int use_input_stats, double momentum, double eps,
    int num_threads,
) noexcept nogil:
    return packed_instance_norm_running(
        c.FASTNORM_FLOAT64, x, y, mean, rstd, weight, bias, running_mean, running_var,
        batch, channels, spatial, use_input_stats, momentum, eps, num_threads
    )


cdef int packed_moments(
    c.fastnorm_dtype dtype, const void *x, double *mean, double *m2, size_t batch,
    size_t channels, size_t spatial, int num_threads,
) noexcept nogil:
    cdef c.fastnorm_moments_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = dtype
    args.x = x
    args.mean = mean
    args.m2 = m2
    args.batch = batch
    args.channels = channels
    args.spatial = spatial
    args.exec_.num_threads = num_threads
    return c.fastnorm_moments(&args)


cdef int moments_f32(
    const float *x, double *mean, double *m2, size_t batch, size_t channels,
    size_t spatial, int num_threads,
) noexcept nogil:
    return packed_moments(
        c.FASTNORM_FLOAT32, x, mean, m2, batch, channels, spatial, num_threads
    )


cdef int moments_f64(
    const double *x, double *mean, double *m2, size_t batch, size_t channels,
    size_t spatial, int num_threads,
) noexcept nogil:
    return packed_moments(
        c.FASTNORM_FLOAT64, x, mean, m2, batch, channels, spatial, num_threads
    )


cdef const char *error_message(int status) noexcept nogil:
    return c.fastnorm_strerror(<c.fastnorm_status>status)
