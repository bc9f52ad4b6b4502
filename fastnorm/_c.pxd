# _c.pxd - the C API of fastnorm.h as Cython sees it; private to _core.pyx.
# SPDX-License-Identifier: MIT
from libc.stdint cimport int32_t, int64_t, uint64_t


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
        FASTNORM_ERROR_QUANTIZATION
        FASTNORM_ERROR_ACTIVATION
        FASTNORM_ERROR_GROUPS
        FASTNORM_ERROR_COMBINATION
        FASTNORM_ERROR_IMAGE
        FASTNORM_ERROR_LIMITS
        FASTNORM_ERROR_NAN
        FASTNORM_ERROR_WEIGHT
        FASTNORM_ERROR_SCRATCH
        FASTNORM_ERROR_MASK

    const char *fastnorm_strerror(fastnorm_status status)

    ctypedef enum fastnorm_dtype:
        FASTNORM_DEFAULT
        FASTNORM_FLOAT32
        FASTNORM_FLOAT64
        FASTNORM_FLOAT16
        FASTNORM_BFLOAT16
        FASTNORM_INT8
        FASTNORM_UINT8

    ctypedef struct fastnorm_quantization:
        float scale
        int32_t zero_point

    ctypedef struct fastnorm_format:
        fastnorm_dtype y
        fastnorm_dtype params
        fastnorm_quantization x_quantization
        fastnorm_quantization y_quantization

    ctypedef enum fastnorm_activation:
        FASTNORM_IDENTITY
        FASTNORM_RELU
        FASTNORM_LEAKY_RELU
        FASTNORM_RELU6
        FASTNORM_CLAMP
        FASTNORM_GELU
        FASTNORM_GELU_TANH
        FASTNORM_SILU
        FASTNORM_SIGMOID
        FASTNORM_TANH
        FASTNORM_HARDSWISH

    ctypedef struct fastnorm_epilogue:
        const void *post_add
        fastnorm_dtype post_add_dtype
        Py_ssize_t post_add_stride
        Py_ssize_t post_add_channel_stride
        fastnorm_activation activation
        double alpha
        double beta

    ctypedef enum fastnorm_masked:
        FASTNORM_MASKED_ZERO
        FASTNORM_MASKED_KEEP

    ctypedef struct fastnorm_mask:
        const unsigned char *mask
        Py_ssize_t stride
        Py_ssize_t channel_stride
        Py_ssize_t spatial_stride
        const size_t *lengths
        size_t positions
        fastnorm_masked masked
        const void *weights
        fastnorm_dtype weights_dtype

    const char *fastnorm_isa()
    const char *fastnorm_isa_name(size_t index)
    fastnorm_status fastnorm_set_isa(const char *name)

    int fastnorm_get_num_threads()
    fastnorm_status fastnorm_set_num_threads(int num_threads)

    # parallel_for and context are left out: Python has no use for them, and a struct
    # that is cleared first holds NULL there.
    ctypedef struct fastnorm_exec:
        int num_threads
        int flush_denormals
        int check_only

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
        fastnorm_format format
        const void *residual
        const void *residual_bias
        void *residual_out
        fastnorm_dtype residual_dtype
        Py_ssize_t residual_stride
        Py_ssize_t residual_out_stride
        fastnorm_epilogue epilogue
        float *y_scale
        const void *stored_mean
        const void *stored_var
        const size_t *lengths
        fastnorm_masked masked

    fastnorm_status fastnorm_layer_norm(const fastnorm_layer_norm_args *args)

    ctypedef enum fastnorm_rms_mode:
        FASTNORM_RMS_PLAIN
        FASTNORM_RMS_CAST_BEFORE_WEIGHT
        FASTNORM_RMS_ONE_PLUS_WEIGHT

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
        fastnorm_format format
        const void *residual
        const void *residual_bias
        void *residual_out
        fastnorm_dtype residual_dtype
        Py_ssize_t residual_stride
        Py_ssize_t residual_out_stride
        fastnorm_epilogue epilogue
        float *y_scale
        fastnorm_rms_mode mode

    fastnorm_status fastnorm_rms_norm(const fastnorm_rms_norm_args *args)

    ctypedef struct fastnorm_l2_norm_args:
        size_t size
        fastnorm_dtype dtype
        const void *x
        void *y
        void *norm
        size_t rows
        size_t cols
        size_t inner
        Py_ssize_t x_stride
        Py_ssize_t y_stride
        double eps
        fastnorm_exec exec_ "exec"
        fastnorm_format format

    fastnorm_status fastnorm_l2_norm(const fastnorm_l2_norm_args *args)
    fastnorm_status fastnorm_l1_norm(const fastnorm_l2_norm_args *args)

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
        fastnorm_format format
        fastnorm_epilogue epilogue
        fastnorm_mask mask

    fastnorm_status fastnorm_batch_norm(const fastnorm_batch_norm_args *args)
    size_t fastnorm_batch_norm_scratch(const fastnorm_batch_norm_args *args)

    const double FASTNORM_D_MAX_ZERO

    ctypedef struct fastnorm_batch_renorm_args:
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
        void *r
        void *d
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
        double r_max
        double d_max
        void *scratch
        size_t scratch_size
        fastnorm_exec exec_ "exec"
        fastnorm_format format
        fastnorm_epilogue epilogue

    fastnorm_status fastnorm_batch_renorm(const fastnorm_batch_renorm_args *args)

    ctypedef struct fastnorm_weight_norm_args:
        size_t size
        fastnorm_dtype dtype
        const void *x
        void *y
        const void *g
        void *norm
        size_t batch
        size_t channels
        size_t spatial
        Py_ssize_t x_stride
        Py_ssize_t y_stride
        Py_ssize_t x_channel_stride
        Py_ssize_t y_channel_stride
        void *scratch
        size_t scratch_size
        fastnorm_exec exec_ "exec"
        fastnorm_format format

    fastnorm_status fastnorm_weight_norm(const fastnorm_weight_norm_args *args)

    ctypedef struct fastnorm_group_norm_args:
        size_t size
        fastnorm_dtype dtype
        const void *x
        void *y
        const void *weight
        const void *bias
        void *mean
        void *rstd
        size_t batch
        size_t channels
        size_t spatial
        size_t groups
        int channels_last
        Py_ssize_t x_stride
        Py_ssize_t y_stride
        Py_ssize_t x_channel_stride
        Py_ssize_t y_channel_stride
        double eps
        fastnorm_exec exec_ "exec"
        fastnorm_format format
        fastnorm_epilogue epilogue
        const void *stored_mean
        const void *stored_var
        fastnorm_mask mask

    fastnorm_status fastnorm_group_norm(const fastnorm_group_norm_args *args)

    ctypedef struct fastnorm_instance_norm_args:
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
        int channels_last
        Py_ssize_t x_stride
        Py_ssize_t y_stride
        Py_ssize_t x_channel_stride
        Py_ssize_t y_channel_stride
        int use_running_stats
        double momentum
        double eps
        fastnorm_exec exec_ "exec"
        fastnorm_format format
        fastnorm_epilogue epilogue
        fastnorm_mask mask

    fastnorm_status fastnorm_instance_norm(const fastnorm_instance_norm_args *args)

    ctypedef struct fastnorm_layer_norm_backward_args:
        size_t size
        fastnorm_dtype dtype
        const void *grad_y
        const void *x
        void *grad_x
        const void *weight
        void *grad_weight
        void *grad_bias
        const void *mean
        const void *rstd
        size_t rows
        size_t cols
        size_t inner
        Py_ssize_t grad_y_stride
        Py_ssize_t x_stride
        Py_ssize_t grad_x_stride
        double eps
        void *scratch
        size_t scratch_size
        fastnorm_exec exec_ "exec"
        fastnorm_format format

    fastnorm_status fastnorm_layer_norm_backward(
        const fastnorm_layer_norm_backward_args *args
    )
    size_t fastnorm_layer_norm_backward_scratch(
        const fastnorm_layer_norm_backward_args *args
    )

    ctypedef struct fastnorm_rms_norm_backward_args:
        size_t size
        fastnorm_dtype dtype
        const void *grad_y
        const void *x
        void *grad_x
        const void *weight
        void *grad_weight
        const void *rstd
        size_t rows
        size_t cols
        size_t inner
        Py_ssize_t grad_y_stride
        Py_ssize_t x_stride
        Py_ssize_t grad_x_stride
        double eps
        void *scratch
        size_t scratch_size
        fastnorm_exec exec_ "exec"
        fastnorm_format format
        fastnorm_rms_mode mode

    fastnorm_status fastnorm_rms_norm_backward(
        const fastnorm_rms_norm_backward_args *args
    )
    size_t fastnorm_rms_norm_backward_scratch(
        const fastnorm_rms_norm_backward_args *args
    )

    ctypedef struct fastnorm_l2_norm_backward_args:
        size_t size
        fastnorm_dtype dtype
        const void *grad_y
        const void *x
        void *grad_x
        size_t rows
        size_t cols
        size_t inner
        Py_ssize_t grad_y_stride
        Py_ssize_t x_stride
        Py_ssize_t grad_x_stride
        double eps
        fastnorm_exec exec_ "exec"
        fastnorm_format format

    fastnorm_status fastnorm_l2_norm_backward(
        const fastnorm_l2_norm_backward_args *args
    )

    ctypedef struct fastnorm_batch_norm_backward_args:
        size_t size
        fastnorm_dtype dtype
        const void *grad_y
        const void *x
        void *grad_x
        const void *weight
        void *grad_weight
        void *grad_bias
        const void *mean
        const void *rstd
        size_t batch
        size_t channels
        size_t spatial
        Py_ssize_t grad_y_stride
        Py_ssize_t x_stride
        Py_ssize_t grad_x_stride
        Py_ssize_t grad_y_channel_stride
        Py_ssize_t x_channel_stride
        Py_ssize_t grad_x_channel_stride
        int training
        double eps
        void *scratch
        size_t scratch_size
        fastnorm_exec exec_ "exec"
        fastnorm_format format

    fastnorm_status fastnorm_batch_norm_backward(
        const fastnorm_batch_norm_backward_args *args
    )
    size_t fastnorm_batch_norm_backward_scratch(
        const fastnorm_batch_norm_backward_args *args
    )

    ctypedef struct fastnorm_batch_renorm_backward_args:
        size_t size
        fastnorm_dtype dtype
        const void *grad_y
        const void *x
        void *grad_x
        const void *weight
        void *grad_weight
        void *grad_bias
        const void *mean
        const void *rstd
        const void *r
        const void *d
        size_t batch
        size_t channels
        size_t spatial
        Py_ssize_t grad_y_stride
        Py_ssize_t x_stride
        Py_ssize_t grad_x_stride
        Py_ssize_t grad_y_channel_stride
        Py_ssize_t x_channel_stride
        Py_ssize_t grad_x_channel_stride
        int training
        double eps
        void *scratch
        size_t scratch_size
        fastnorm_exec exec_ "exec"
        fastnorm_format format

    fastnorm_status fastnorm_batch_renorm_backward(
        const fastnorm_batch_renorm_backward_args *args
    )
    size_t fastnorm_batch_renorm_backward_scratch(
        const fastnorm_batch_renorm_backward_args *args
    )

    ctypedef struct fastnorm_group_norm_backward_args:
        size_t size
        fastnorm_dtype dtype
        const void *grad_y
        const void *x
        void *grad_x
        const void *weight
        void *grad_weight
        void *grad_bias
        const void *mean
        const void *rstd
        size_t batch
        size_t channels
        size_t spatial
        size_t groups
        int channels_last
        Py_ssize_t grad_y_stride
        Py_ssize_t x_stride
        Py_ssize_t grad_x_stride
        Py_ssize_t grad_y_channel_stride
        Py_ssize_t x_channel_stride
        Py_ssize_t grad_x_channel_stride
        double eps
        void *scratch
        size_t scratch_size
        fastnorm_exec exec_ "exec"
        fastnorm_format format

    fastnorm_status fastnorm_group_norm_backward(
        const fastnorm_group_norm_backward_args *args
    )
    size_t fastnorm_group_norm_backward_scratch(
        const fastnorm_group_norm_backward_args *args
    )

    ctypedef struct fastnorm_instance_norm_backward_args:
        size_t size
        fastnorm_dtype dtype
        const void *grad_y
        const void *x
        void *grad_x
        const void *weight
        void *grad_weight
        void *grad_bias
        const void *mean
        const void *rstd
        size_t batch
        size_t channels
        size_t spatial
        int channels_last
        int use_running_stats
        Py_ssize_t grad_y_stride
        Py_ssize_t x_stride
        Py_ssize_t grad_x_stride
        Py_ssize_t grad_y_channel_stride
        Py_ssize_t x_channel_stride
        Py_ssize_t grad_x_channel_stride
        double eps
        void *scratch
        size_t scratch_size
        fastnorm_exec exec_ "exec"
        fastnorm_format format

    fastnorm_status fastnorm_instance_norm_backward(
        const fastnorm_instance_norm_backward_args *args
    )
    size_t fastnorm_instance_norm_backward_scratch(
        const fastnorm_instance_norm_backward_args *args
    )

    ctypedef struct fastnorm_weight_norm_backward_args:
        size_t size
        fastnorm_dtype dtype
        const void *grad_y
        const void *x
        void *grad_x
        const void *g
        void *grad_g
        const void *norm
        size_t batch
        size_t channels
        size_t spatial
        Py_ssize_t grad_y_stride
        Py_ssize_t x_stride
        Py_ssize_t grad_x_stride
        Py_ssize_t grad_y_channel_stride
        Py_ssize_t x_channel_stride
        Py_ssize_t grad_x_channel_stride
        void *scratch
        size_t scratch_size
        fastnorm_exec exec_ "exec"
        fastnorm_format format

    fastnorm_status fastnorm_weight_norm_backward(
        const fastnorm_weight_norm_backward_args *args
    )
    size_t fastnorm_weight_norm_backward_scratch(
        const fastnorm_weight_norm_backward_args *args
    )

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
        fastnorm_quantization x_quantization
        fastnorm_mask mask
        size_t *count
        double *weight

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

    ctypedef struct fastnorm_running_moments:
        size_t size
        size_t features
        int64_t *count
        double *weight
        double *mean
        double *mean_low
        double *m2
        double *m2_low
        double *min
        double *max

    ctypedef enum fastnorm_nan_policy:
        FASTNORM_NAN_PROPAGATE
        FASTNORM_NAN_ERROR
        FASTNORM_NAN_MISSING

    ctypedef struct fastnorm_running_moments_args:
        size_t size
        fastnorm_dtype dtype
        const void *x
        size_t batch
        size_t channels
        size_t spatial
        Py_ssize_t x_stride
        Py_ssize_t x_channel_stride
        fastnorm_nan_policy nan
        const unsigned char *mask
        Py_ssize_t mask_stride
        Py_ssize_t mask_channel_stride
        Py_ssize_t mask_spatial_stride
        const void *weights
        fastnorm_dtype weights_dtype
        Py_ssize_t weights_stride
        Py_ssize_t weights_channel_stride
        Py_ssize_t weights_spatial_stride
        void *scratch
        size_t scratch_size
        fastnorm_exec exec_ "exec"

    ctypedef struct fastnorm_running_results:
        size_t size
        double ddof
        double *mean
        double *var
        double *std
        double *min
        double *max

    fastnorm_status fastnorm_running_moments_init(const fastnorm_running_moments *state)
    fastnorm_status fastnorm_running_moments_update(
        const fastnorm_running_moments *state,
        const fastnorm_running_moments_args *batch,
    )
    size_t fastnorm_running_moments_scratch(const fastnorm_running_moments_args *batch)
    fastnorm_status fastnorm_running_moments_merge(
        const fastnorm_running_moments *state, const fastnorm_running_moments *other
    )
    fastnorm_status fastnorm_running_moments_finish(
        const fastnorm_running_moments *state, const fastnorm_running_results *results
    )

    ctypedef struct fastnorm_normalize_image_args:
        size_t size
        fastnorm_dtype dtype
        const void *x
        void *y
        size_t images
        size_t height
        size_t width
        size_t channels
        Py_ssize_t x_stride
        Py_ssize_t x_row_stride
        Py_ssize_t y_stride
        int channels_first
        int reverse_channels
        double scale
        const double *mean
        const double *std
        fastnorm_exec exec_ "exec"
        fastnorm_format format

    fastnorm_status fastnorm_normalize_image(const fastnorm_normalize_image_args *args)
