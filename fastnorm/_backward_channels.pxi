# _backward_channels.pxi - the gradients of batch norm and renorm, and of channels.
# SPDX-License-Identifier: MIT


cdef fused ChannelArgs:
    c.fastnorm_batch_norm_backward_args
    c.fastnorm_batch_renorm_backward_args
    c.fastnorm_group_norm_backward_args
    c.fastnorm_instance_norm_backward_args
    c.fastnorm_weight_norm_backward_args


cdef void fill_channels(ChannelArgs *args, const GradientCall *call) noexcept nogil:
    """All that the structs of the C API have in common."""
    memset(args, 0, sizeof(args[0]))
    args.size = sizeof(args[0])
    args.dtype = call.dtype
    args.grad_y = call.grad_y
    args.x = call.x
    args.grad_x = call.grad_x
    args.batch = call.extents[0]
    args.channels = call.extents[1]
    args.spatial = call.extents[2]
    args.grad_y_stride = call.strides.outer[0]
    args.x_stride = call.strides.outer[1]
    args.grad_x_stride = call.strides.outer[2]
    args.grad_y_channel_stride = call.strides.channel[0]
    args.x_channel_stride = call.strides.channel[1]
    args.grad_x_channel_stride = call.strides.channel[2]
    args.scratch = call.scratch
    args.scratch_size = call.scratch_size
    args.exec_ = call.exec_
    args.format = call.format
    if ChannelArgs is c.fastnorm_weight_norm_backward_args:
        args.g = call.weight
        args.grad_g = call.grad_weight
    else:
        args.weight = call.weight
        args.grad_weight = call.grad_weight
        args.grad_bias = call.grad_bias
        args.mean = call.mean
        args.rstd = call.rstd
        args.eps = call.eps
    if ChannelArgs is c.fastnorm_batch_norm_backward_args:
        args.training = call.own_stats
    elif ChannelArgs is c.fastnorm_batch_renorm_backward_args:
        args.training = call.own_stats
        args.r = call.r
        args.d = call.d
    elif ChannelArgs is c.fastnorm_group_norm_backward_args:
        args.groups = call.groups
        args.channels_last = call.channels_last
    elif ChannelArgs is c.fastnorm_instance_norm_backward_args:
        args.use_running_stats = not call.own_stats
        args.channels_last = call.channels_last


cdef c.fastnorm_status run_batch_gradient(
    const GradientCall *call, size_t *scratch
) noexcept nogil:
    cdef c.fastnorm_batch_norm_backward_args args
    fill_channels(&args, call)
    if scratch is NULL:
        return c.fastnorm_batch_norm_backward(&args)
    scratch[0] = c.fastnorm_batch_norm_backward_scratch(&args)
    return c.FASTNORM_OK


cdef c.fastnorm_status run_renorm_gradient(
    const GradientCall *call, size_t *scratch
) noexcept nogil:
    cdef c.fastnorm_batch_renorm_backward_args args
    fill_channels(&args, call)
    if scratch is NULL:
        return c.fastnorm_batch_renorm_backward(&args)
    scratch[0] = c.fastnorm_batch_renorm_backward_scratch(&args)
    return c.FASTNORM_OK


cdef c.fastnorm_status run_group_gradient(
    const GradientCall *call, size_t *scratch
) noexcept nogil:
    cdef c.fastnorm_group_norm_backward_args args
    fill_channels(&args, call)
    if scratch is NULL:
        return c.fastnorm_group_norm_backward(&args)
    scratch[0] = c.fastnorm_group_norm_backward_scratch(&args)
    return c.FASTNORM_OK


cdef c.fastnorm_status run_instance_gradient(
    const GradientCall *call, size_t *scratch
) noexcept nogil:
    cdef c.fastnorm_instance_norm_backward_args args
    fill_channels(&args, call)
    if scratch is NULL:
        return c.fastnorm_instance_norm_backward(&args)
    scratch[0] = c.fastnorm_instance_norm_backward_scratch(&args)
    return c.FASTNORM_OK


cdef bint find_triple(Backward b, ndarray y, Form form, bint *fits) noexcept:
    """Whether all arrays have the form; which of them do, and their strides."""
    cdef Channels found
    cdef ndarray a
    cdef bint every = True
    cdef bint empty = cnp.PyArray_SIZE(b.x) == 0  # whose strides say nothing
    cdef int i
    for i in range(3):
        a = b.g if i == 0 else b.x if i == 1 else y
        found.sample_stride = found.channel_stride = 0
        fits[i] = a is None or empty or find_channels(a, b.axis, form, &found)
        every = every and fits[i]
        b.call.strides.outer[i] = found.sample_stride if fits[i] else 0
        b.call.strides.channel[i] = found.channel_stride if fits[i] else 0
    return every


cdef int lay_out_channels(Backward b, ndarray y) except -1:
    """In the first of the forms that all three arrays have."""
    cdef GradientCall *call = &b.call
    cdef size_t before = 1, after = 1
    cdef bint[3] fits
    cdef Form form = IMAGES
    cdef int i
    for i in range(cnp.PyArray_NDIM(b.x)):
        if i < b.axis:
            before *= cnp.PyArray_DIM(b.x, i)
        elif i > b.axis:
            after *= cnp.PyArray_DIM(b.x, i)
    if not find_triple(b, y, form, fits):
        for i in range(2):
            form = b.forms[i]
            if find_triple(b, y, form, fits):
                break
        else:
            # Those that are no images are copied.
            form = IMAGES
            find_triple(b, y, form, fits)
    call.channels_last = form == LAST
    call.extents[0] = 1 if form == RUNS else before * after if form == TABLE else before
    call.extents[1] = cnp.PyArray_DIM(b.x, b.axis)
    call.extents[2] = 1 if form == TABLE else before * after if form == RUNS else after
    if not fits[0]:
        b.g = native_copy(b.g)
    if not fits[1]:
        b.x = native_copy(b.x)
    b.y = y
    if not fits[2]:
        refuse_self_overlap(b.fn, "out", y)
        b.y = fresh_as(y)
    return 0


cdef Backward begin_channels_backward(
    str fn, bint by_samples, object grad_output, object input, object channel_axis,
    object out, object needs, object num_threads, bint flush_denormals,
):
    """by_samples: the norm has statistics of its own for each sample."""
    cdef Backward b = begin_backward(
        fn, "input", grad_output, input, out, needs, three_names, num_threads,
        flush_denormals,
    )
    if by_samples:
        b.axis = as_samples_axis(fn, channel_axis, b.x)
        b.x = samples_first(b.x, b.axis)
        b.g = samples_first(b.g, b.axis)
        b.y = samples_first(b.y, b.axis)
        b.axis = 1
        b.forms[0] = b.forms[1] = LAST
    else:
        b.axis = as_axis(fn, "channel_axis", channel_axis, cnp.PyArray_NDIM(b.x))
        b.forms[0] = TABLE
        b.forms[1] = RUNS
    return b


cdef object end_channels_backward(Backward b, object weight, object eps):
    """Read what is left, call C, and return the gradients."""
    cdef const cnp.npy_intp *extent = cnp.PyArray_DIMS(b.x) + b.axis
    cdef ndarray grad_weight = None, grad_bias = None
    b.call.eps = as_eps(b.fn, eps)
    if weight is not None:
        b.call.weight = read_parameter(
            b, "weight", weight, 1, extent, "the channel axis", False
        )
        grad_weight = sums_wanted(b, NEED_WEIGHT, 1, extent)
        b.call.grad_weight = data_of(grad_weight)
    grad_bias = sums_wanted(b, NEED_BIAS, 1, extent)
    b.call.grad_bias = data_of(grad_bias)
    grad_input = finish_backward(b, lay_out_channels)
    return Gradients(grad_input, grad_weight, grad_bias)


cdef int refuse_one_value(Backward b, cnp.npy_intp sets, str when) except -1:
    """ValueError where each of so many sets of values has only one."""
    if sets > 0 and cnp.PyArray_SIZE(b.x) == sets:
        raise ValueError(
            f"{b.fn}: expected more than 1 value per channel when {when}, "
            f"input has shape {np.shape(b.result if b.result is not None else b.x)}"
        )
    return 0


def batch_norm_backward(
    grad_output,
    input,
    weight=None,
    mean=None,
    rstd=None,
    training=True,
    eps=1e-5,
    *,
    channel_axis=1,
    out=None,
    needs=three_names,
    num_threads=None,
    flush_denormals=False,
):
    """The gradients of `batch_norm` by its input, weight and bias.

    Parameters
    ----------
    grad_output, out, needs, num_threads, flush_denormals
        As for `layer_norm_backward`.
    input : array_like, shape (..., C, ...)
        The input that `batch_norm` had: float32, float64, float16 or bfloat16. It,
        grad_output and `out` are used in place where they have one layout of those that
        `batch_norm` reads; otherwise they are copied to images.
    weight : array_like, shape (C,), optional
        The weight that `batch_norm` had; ones if None, which then have no gradient.
    mean, rstd : array_like, shape (C,), optional
        What `batch_norm` returned with ``return_stats=True``. Both or neither. In
        training found from `input` and `eps` if None; needed without.
    training : bool, default True
        Whether mean and rstd are those of `input`, through which it has a gradient too.
        Without, they are constants.
    eps : float, default 1e-5
        As `batch_norm` had it; used where mean and rstd are None.
    channel_axis : int, default 1
        The axis of the channels.

    Returns
    -------
    Gradients
        As for `layer_norm_backward`, with ``weight`` and ``bias`` of shape (C,).

    Raises
    ------
    TypeError, RuntimeError
        As for `layer_norm_backward`.
    ValueError
        As for `layer_norm_backward`; if `training` has one value per channel, or
        without it mean and rstd are missing. Nothing has been written then.

    Notes
    -----
    In training, with ``x_hat = (input - mean) * rstd`` and means and sums over all axes
    but the channels [1]_::

        grad_input = weight * rstd * (g - mean(g) - x_hat * mean(g * x_hat))
        grad_weight = sum(g * x_hat)
        grad_bias = sum(g)

    where g is grad_output; without training ``grad_input = g * weight * rstd``. Of a
    channel whose gradients are constant, grad_input is exactly zero in training; of one
    whose input is constant, grad_weight is. The bits are the same for every number of
    threads and every instruction set.

    References
    ----------
    .. [1] S. Ioffe, C. Szegedy, "Batch Normalization", 2015, arXiv:1502.03167.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.array([[1, 10], [2, 10], [3, 10]], dtype=np.float32)
    >>> grad_y = np.array([[0, 1], [0, 1], [1, 2]], dtype=np.float32)
    >>> weight = np.ones(2, np.float32)
    >>> found = fastnorm.batch_norm_backward(grad_y, x, weight)
    >>> found.weight.round(3)
    array([1.225, 0.   ], dtype=float32)
    >>> found.bias
    array([1., 4.], dtype=float32)
    >>> found.input.round(3)[:, 0]
    array([ 0.204, -0.408,  0.204], dtype=float32)
    """
    cdef Backward b = begin_channels_backward(
        "batch_norm_backward", False, grad_output, input, channel_axis, out, needs,
        num_threads, flush_denormals,
    )
    read_batch_statistics(b, mean, rstd, training)
    b.call.run = run_batch_gradient
    return end_channels_backward(b, weight, eps)


def batch_renorm_backward(
    grad_output,
    input,
    weight=None,
    mean=None,
    rstd=None,
    r=None,
    d=None,
    training=True,
    eps=1e-5,
    *,
    channel_axis=1,
    out=None,
    needs=three_names,
    num_threads=None,
    flush_denormals=False,
):
    """The gradients of `batch_renorm` by its input, weight and bias.

    Parameters
    ----------
    grad_output, input, weight, training, eps, channel_axis, out, needs, num_threads, \
flush_denormals
        As for `batch_norm_backward`.
    mean, rstd : array_like, shape (C,), optional
        What `batch_renorm` returned with ``return_stats=True``; as for
        `batch_norm_backward`.
    r, d : array_like, shape (C,)
        What `batch_renorm` returned with ``return_stats=True``. Both or neither; needed
        in training, and 1 and 0 without if None.

    Returns
    -------
    Gradients
        As for `batch_norm_backward`.

    Raises
    ------
    TypeError, RuntimeError
        As for `batch_norm_backward`.
    ValueError
        As for `batch_norm_backward`, and if r and d are missing in training.

    Notes
    -----
    ``y = (x_hat * r + d) * weight + bias``, and r and d count as constants [1]_::

        grad_input = weight * r * rstd * (g - mean(g) - x_hat * mean(g * x_hat))
        grad_weight = sum(g * (x_hat * r + d))
        grad_bias = sum(g)

    References
    ----------
    .. [1] S. Ioffe, "Batch Renormalization", 2017, arXiv:1702.03275.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.array([[1.0], [2], [3]])
    >>> grad_y = np.array([[0.0], [0], [1]])
    >>> r, d = np.array([2.0]), np.array([0.5])
    >>> found = fastnorm.batch_renorm_backward(grad_y, x, np.ones(1), r=r, d=d)
    >>> found.weight.round(3), found.input.round(3)[:, 0]
    (array([2.949]), array([ 0.408, -0.816,  0.408]))
    """
    cdef Backward b = begin_channels_backward(
        "batch_renorm_backward", False, grad_output, input, channel_axis, out, needs,
        num_threads, flush_denormals,
    )
    cdef const cnp.npy_intp *extent = cnp.PyArray_DIMS(b.x) + b.axis
    if (r is None) != (d is None):
        raise ValueError(f"{b.fn}: r and d must come together")
    if training and r is None:
        raise ValueError(f"{b.fn}: r and d are None, which needs training=False")
    b.call.r = read_parameter(b, "r", r, 1, extent, "the channel axis", True)
    b.call.d = read_parameter(b, "d", d, 1, extent, "the channel axis", True)
    read_batch_statistics(b, mean, rstd, training)
    b.call.run = run_renorm_gradient
    return end_channels_backward(b, weight, eps)


cdef int read_batch_statistics(
    Backward b, object mean, object rstd, bint training
) except -1:
    """And whether they are those of the input."""
    cdef const cnp.npy_intp *extent = cnp.PyArray_DIMS(b.x) + b.axis
    b.call.own_stats = training
    read_statistics(b, mean, rstd, 1, extent, "the channel axis")
    if training:
        refuse_one_value(b, extent[0], "training")
    elif rstd is None:
        raise ValueError(f"{b.fn}: mean and rstd are None, which needs training=True")
    return 0
