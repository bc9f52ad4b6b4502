# _exports.pxi - the functions that _core.pxd exports.
# SPDX-License-Identifier: MIT


cdef double eps_argument(double eps) noexcept nogil:
    """eps for the C API, where 0 means the default and -1 means 0."""
    if eps == 0.0:
        return c.FASTNORM_EPS_ZERO
    return eps if eps > 0.0 else NAN


cdef int layer_norm_f32(
    const float *x, float *y, const float *weight, const float *bias, size_t rows,
    size_t cols, double eps, int num_threads,
) noexcept nogil:
    cdef c.fastnorm_layer_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = c.FASTNORM_FLOAT32
    args.x = x
    args.y = y
    args.weight = weight
    args.bias = bias
    args.rows = rows
    args.cols = cols
    args.eps = eps_argument(eps)
    args.exec_.num_threads = num_threads
    return c.fastnorm_layer_norm(&args)


cdef int layer_norm_f64(
    const double *x, double *y, const double *weight, const double *bias, size_t rows,
    size_t cols, double eps, int num_threads,
) noexcept nogil:
    cdef c.fastnorm_layer_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = c.FASTNORM_FLOAT64
    args.x = x
    args.y = y
    args.weight = weight
    args.bias = bias
    args.rows = rows
    args.cols = cols
    args.eps = eps_argument(eps)
    args.exec_.num_threads = num_threads
    return c.fastnorm_layer_norm(&args)


cdef int rms_norm_f32(
    const float *x, float *y, const float *weight, size_t rows, size_t cols, double eps,
    int num_threads,
) noexcept nogil:
    cdef c.fastnorm_rms_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = c.FASTNORM_FLOAT32
    args.x = x
    args.y = y
    args.weight = weight
    args.rows = rows
    args.cols = cols
    args.eps = eps_argument(eps)
    args.exec_.num_threads = num_threads
    return c.fastnorm_rms_norm(&args)


cdef int rms_norm_f64(
    const double *x, double *y, const double *weight, size_t rows, size_t cols,
    double eps, int num_threads,
) noexcept nogil:
    cdef c.fastnorm_rms_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = c.FASTNORM_FLOAT64
    args.x = x
    args.y = y
    args.weight = weight
    args.rows = rows
    args.cols = cols
    args.eps = eps_argument(eps)
    args.exec_.num_threads = num_threads
    return c.fastnorm_rms_norm(&args)


cdef int batch_norm_f32(
    const float *x, float *y, const float *mean, const float *var, const float *weight,
    const float *bias, size_t batch, size_t channels, size_t spatial, double eps,
    int num_threads,
) noexcept nogil:
    cdef c.fastnorm_batch_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = c.FASTNORM_FLOAT32
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


cdef int batch_norm_f64(
    const double *x, double *y, const double *mean, const double *var,
    const double *weight, const double *bias, size_t batch, size_t channels,
    size_t spatial, double eps, int num_threads,
) noexcept nogil:
    cdef c.fastnorm_batch_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = c.FASTNORM_FLOAT64
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


cdef int moments_f32(
    const float *x, double *mean, double *m2, size_t batch, size_t channels,
    size_t spatial, int num_threads,
) noexcept nogil:
    cdef c.fastnorm_moments_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = c.FASTNORM_FLOAT32
    args.x = x
    args.mean = mean
    args.m2 = m2
    args.batch = batch
    args.channels = channels
    args.spatial = spatial
    args.exec_.num_threads = num_threads
    return c.fastnorm_moments(&args)


cdef int moments_f64(
    const double *x, double *mean, double *m2, size_t batch, size_t channels,
    size_t spatial, int num_threads,
) noexcept nogil:
    cdef c.fastnorm_moments_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = c.FASTNORM_FLOAT64
    args.x = x
    args.mean = mean
    args.m2 = m2
    args.batch = batch
    args.channels = channels
    args.spatial = spatial
    args.exec_.num_threads = num_threads
    return c.fastnorm_moments(&args)


cdef const char *error_message(int status) noexcept nogil:
    return c.fastnorm_strerror(<c.fastnorm_status>status)
