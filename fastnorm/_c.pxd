# _c.pxd - the C API of fastnorm.h as Cython sees it; private to _core.pyx.
# SPDX-License-Identifier: MIT
from libc.stdint cimport uint64_t


cdef extern from "fastnorm.h" nogil:
    const char *FASTNORM_VERSION_STRING
    const char *fastnorm_version()

    ctypedef enum fastnorm_status:
        FASTNORM_OK
        FASTNORM_ERROR_ARGS
        FASTNORM_ERROR_DTYPE
        FASTNORM_ERROR_NULL
        FASTNORM_ERROR_SHAPE
        FASTNORM_ERROR_STRIDE
        FASTNORM_ERROR_ALIGNMENT
        FASTNORM_ERROR_OVERLAP
        FASTNORM_ERROR_EPS
        FASTNORM_ERROR_MOMENTUM
        FASTNORM_ERROR_RUNNING
        FASTNORM_ERROR_COUNT
        FASTNORM_ERROR_ISA
        FASTNORM_ERROR_THREADS

    const char *fastnorm_strerror(fastnorm_status status)

    ctypedef enum fastnorm_dtype:
        FASTNORM_FLOAT32
        FASTNORM_FLOAT64

    const char *fastnorm_isa()
    const char *fastnorm_isa_name(size_t index)
    fastnorm_status fastnorm_set_isa(const char *name)

    int fastnorm_get_num_threads()
    fastnorm_status fastnorm_set_num_threads(int num_threads)

    # parallel_for and context are left out: Python has no use for them, and a struct
    # that is cleared first holds NULL there.
    ctypedef struct fastnorm_exec:
        int num_threads

    const double FASTNORM_EPS_ZERO
    const double FASTNORM_MOMENTUM_CUMULATIVE

    ctypedef struct fastnorm_layer_norm_args:
        size_t size
        fastnorm_dtype dtype
        const void *x
        void *y
        const void *weight
        const void *bias
        void *mean
        void *rstd
        size_t rows
        size_t cols
        size_t inner
        Py_ssize_t x_stride
        Py_ssize_t y_stride
        double eps
        fastnorm_exec exec_ "exec"

    fastnorm_status fastnorm_layer_norm(const fastnorm_layer_norm_args *args)

    ctypedef struct fastnorm_rms_norm_args:
        size_t size
        fastnorm_dtype dtype
        const void *x
        void *y
        const void *weight
        void *rstd
        size_t rows
        size_t cols
        size_t inner
        Py_ssize_t x_stride
        Py_ssize_t y_stride
        double eps
        fastnorm_exec exec_ "exec"

    fastnorm_status fastnorm_rms_norm(const fastnorm_rms_norm_args *args)

    ctypedef struct fastnorm_batch_norm_args:
        size_t size
        fastnorm_dtype dtype
        const void *x
        void *y
        const void *weight
        const void *bias
        void *running_mean
        void *running_var
        void *mean
        void *rstd
        size_t batch
        size_t channels
        size_t spatial
        Py_ssize_t x_stride
        Py_ssize_t y_stride
        Py_ssize_t x_channel_stride
        Py_ssize_t y_channel_stride
        int training
        double momentum
        uint64_t num_batches_tracked
        double eps
        void *scratch
        size_t scratch_size
        fastnorm_exec exec_ "exec"

    fastnorm_status fastnorm_batch_norm(const fastnorm_batch_norm_args *args)
    size_t fastnorm_batch_norm_scratch(const fastnorm_batch_norm_args *args)

    ctypedef struct fastnorm_moments_args:
        size_t size
        fastnorm_dtype dtype
        const void *x
        double *mean
        double *m2
        size_t batch
        size_t channels
        size_t spatial
        Py_ssize_t x_stride
        Py_ssize_t x_channel_stride
        void *scratch
        size_t scratch_size
        fastnorm_exec exec_ "exec"

    fastnorm_status fastnorm_moments(const fastnorm_moments_args *args)
    size_t fastnorm_moments_scratch(const fastnorm_moments_args *args)
    fastnorm_status fastnorm_moments_merge(
        size_t channels,
        uint64_t *count,
        double *mean,
        double *m2,
        uint64_t other_count,
        const double *other_mean,
        const double *other_m2,
    )
