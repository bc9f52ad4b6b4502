# _backend.pxi - calls that another backend serves in place of the C kernels.
# SPDX-License-Identifier: MIT
#
# What a call means, which arrays it needs and what is wrong with it is found out in one
# place, here and in the C API, for every backend: what arrives there are addresses,
# extents and strides in elements that the C API has accepted.

cdef extern from *:
    """
    /* Borrowed from run_on(), which is further up on the stack of this thread. */
    static _Thread_local PyObject *fnp_backend;
    """
    PyObject *fnp_backend


def run_on(backend, function, tuple args, dict kwargs):
    """Return ``function(*args, **kwargs)``, its norms and moments made by `backend`.

    Only on this thread. `backend` has methods ``rows``, ``channels`` and ``moments``
    (see `rows_elsewhere` and so on for what they are given), which must not be asked
    for what they cannot do: they raise an error then, before anything is written.
    """
    global fnp_backend
    cdef PyObject *before = fnp_backend
    fnp_backend = <PyObject *>backend
    try:
        return function(*args, **kwargs)
    finally:
        fnp_backend = before


def host_array(str fn, str name, value):
    """value as an exact ndarray on its own memory, for those who call `run_on`."""
    return as_base_array(fn, name, value)


cdef inline size_t address(const void *p) noexcept:
    return <size_t>p


cdef dict epilogue_of(const c.fastnorm_epilogue *e, c.fastnorm_dtype plain):
    cdef dict more = {}
    if e.post_add is not NULL:
        more["post_add"] = address(e.post_add)
        more["post_add_dtype"] = <int>(e.post_add_dtype or plain)
        more["post_add_strides"] = e.post_add_stride, e.post_add_channel_stride
    if e.activation != c.FASTNORM_IDENTITY:
        more["activation"] = <int>e.activation, e.alpha, e.beta
    return more


cdef object more_rows(const RowCall *call):
    """What few calls ask for, by name."""
    cdef const c.fastnorm_layer_norm_args *args = &call.args
    cdef dict more = epilogue_of(&args.epilogue, args.dtype)
    if args.residual is not NULL:
        more["residual"] = address(args.residual), address(args.residual_bias)
        more["residual_out"] = address(args.residual_out)
        more["residual_dtype"] = <int>(args.residual_dtype or args.dtype)
        more["residual_strides"] = args.residual_stride, args.residual_out_stride
    if args.stored_mean is not NULL:
        more["stored"] = address(args.stored_mean), address(args.stored_var)
    if call.mode != c.FASTNORM_RMS_PLAIN:
        more["mode"] = <int>call.mode
    if args.lengths is not NULL:
        more["lengths"] = address(args.lengths)
    if args.exec_.flush_denormals:
        more["flush_denormals"] = True
    if call.norm == L1_NORM:
        more["l1_norm"] = True  # younger than backends, which refuse what they know not
    return more


cdef int rows_elsewhere(RowCall *call) except -1:
    """The status of a call of a row norm, which fnp_backend serves if it is good.

    ``rows(norm, dtypes, x, y, weight, bias, mean, rstd, rows, cols, inner, x_stride,
    y_stride, eps, num_threads, more)``: `norm` is "layer_norm", "rms_norm",
    "l2_norm" or "l1_norm", `dtypes` those of x, y and the parameters; arrays are
    addresses or 0.
    """
    cdef c.fastnorm_layer_norm_args *args = &call.args
    cdef size_t row = args.cols * args.inner
    cdef c.fastnorm_status status
    args.exec_.check_only = True
    status = run_rows_nogil(call)
    args.exec_.check_only = False
    if status == c.FASTNORM_OK and args.rows * row > 0:
        (<object>fnp_backend).rows(
            ("layer_norm", "rms_norm", "l2_norm", "l1_norm")[<int>call.norm],
            (
                <int>args.dtype, <int>call.y,
                <int>(args.format.params or default_output(args.dtype)),
            ),
            address(args.x), address(args.y), address(args.weight), address(args.bias),
            address(args.mean), address(args.rstd), args.rows, args.cols, args.inner,
            args.x_stride or <Py_ssize_t>row, args.y_stride or <Py_ssize_t>row, args.eps,
            args.exec_.num_threads, more_rows(call),
        )
    return status


cdef dict more_channels(const ChannelCall *call):
    cdef const c.fastnorm_batch_norm_args *norm = &call.norm
    cdef dict more = epilogue_of(&norm.epilogue, norm.dtype)
    if call.stored_mean is not NULL:
        more["stored"] = address(call.stored_mean), address(call.stored_var)
    if call.variant != PLAIN:
        more["variant"] = <int>call.variant
    if norm.mask.mask is not NULL or norm.mask.weights is not NULL or (
        norm.mask.lengths is not NULL
    ):
        more["mask"] = True
    if norm.exec_.flush_denormals:
        more["flush_denormals"] = True
    return more


cdef int channels_elsewhere(ChannelCall *call) except -1:
    """The status of a call of a norm of channels, which fnp_backend serves if it is good.

    ``channels(norm, dtypes, arrays, extents, strides, training, numbers, num_threads,
    more)``: `norm` is "batch_norm", "group_norm" or "instance_norm"; arrays are x, y,
    weight, bias, running_mean, running_var, mean and rstd; extents batch, channels,
    spatial, groups and whether channels are last; strides those of samples and channels
    of x, then of y; numbers momentum, num_batches_tracked and eps.
    """
    cdef c.fastnorm_batch_norm_args *norm = &call.norm
    cdef size_t sample = norm.channels * norm.spatial
    cdef size_t line = norm.channels if call.channels_last else norm.spatial
    cdef c.fastnorm_status status
    norm.exec_.check_only = True
    status = run_channels_nogil(call)
    norm.exec_.check_only = False
    if status == c.FASTNORM_OK and norm.batch * sample > 0:
        (<object>fnp_backend).channels(
            ("batch_norm", "group_norm", "instance_norm")[<int>call.operation],
            (
                <int>norm.dtype,
                <int>(norm.format.y or default_output(norm.dtype)),
                <int>(norm.format.params or default_output(norm.dtype)),
            ),
            (
                address(norm.x), address(norm.y), address(norm.weight),
                address(norm.bias), address(norm.running_mean),
                address(norm.running_var), address(norm.mean), address(norm.rstd),
            ),
            (
                norm.batch, norm.channels, norm.spatial, call.groups or norm.channels,
                bool(call.channels_last),
            ),
            (
                norm.x_stride or <Py_ssize_t>sample,
                norm.x_channel_stride or <Py_ssize_t>line,
                norm.y_stride or <Py_ssize_t>sample,
                norm.y_channel_stride or <Py_ssize_t>line,
            ),
            bool(norm.training),
            (norm.momentum, norm.num_batches_tracked, norm.eps),
            norm.exec_.num_threads,
            more_channels(call),
        )
    return status


cdef int moments_elsewhere(
    c.fastnorm_moments_args *args, Py_ssize_t outer, Py_ssize_t outer_step
) except -1:
    """The status of moments of `outer` arrays, which fnp_backend serves if it is good.

    ``moments(dtype, x, mean, m2, extents, strides, num_threads, more)``, once for each:
    extents are batch, channels and spatial, strides those of samples and channels.
    """
    cdef size_t sample = args.channels * args.spatial
    cdef c.fastnorm_status status
    cdef Py_ssize_t i
    cdef dict more = {}
    args.exec_.check_only = True
    status = c.fastnorm_moments(args)
    args.exec_.check_only = False
    if args.weight is not NULL:
        more["mask"] = True
    if args.exec_.flush_denormals:
        more["flush_denormals"] = True
    for i in range(outer if status == c.FASTNORM_OK else 0):
        (<object>fnp_backend).moments(
            <int>args.dtype, address(args.x) + i * outer_step,
            address(args.mean + i * <Py_ssize_t>args.channels),
            address(args.m2 + i * <Py_ssize_t>args.channels),
            (args.batch, args.channels, args.spatial),
            (
                args.x_stride or <Py_ssize_t>sample,
                args.x_channel_stride or <Py_ssize_t>args.spatial,
            ),
            args.exec_.num_threads, more,
        )
    return status
