# _batch_norm.pxi - batch_norm.
# SPDX-License-Identifier: MIT


cdef bint fold_axes(
    ndarray a, int first, int last, int skipped, cnp.npy_intp *step
) noexcept:
    """Whether the axes first, ..., last without `skipped` step through memory as one.

    The step, in bytes, goes to *step: 0 where there is nothing to step over.
    """
    cdef const cnp.npy_intp *shape = cnp.PyArray_DIMS(a)
    cdef const cnp.npy_intp *strides = cnp.PyArray_STRIDES(a)
    cdef cnp.npy_intp reach = 0
    cdef int i
    step[0] = 0
    for i in range(last, first - 1, -1):
        if i == skipped or shape[i] == 1:
            continue
        if step[0] == 0:
            step[0] = reach = strides[i]
        elif strides[i] != reach:
            return False
        # A step of zero (a broadcast axis) cannot be said to the C API.
        if reach == 0 or step[0] % cnp.PyArray_ITEMSIZE(a) != 0:
            return False
        reach *= shape[i]
    return True


cdef struct Channels:
    Py_ssize_t sample_stride
    Py_ssize_t channel_stride


cdef enum Form:
    # How the C API's [batch, channels, spatial] is seen in an array.
    IMAGES  # the axes before the channels are the batch, those after it spatial
    TABLE   # all others are the batch, and the channels are adjacent
    RUNS    # all others are spatial, and packed


cdef bint find_channels(ndarray a, int channel, Form form, Channels *found) noexcept:
    """Whether a has the form, and its strides."""
    cdef int last = cnp.PyArray_NDIM(a) - 1
    cdef cnp.npy_intp item = cnp.PyArray_ITEMSIZE(a)
    cdef cnp.npy_intp batch = 0, channels = 0, spatial = 0
    cdef bint fits
    found.sample_stride = found.channel_stride = 0
    if form == IMAGES:
        fits = fold_axes(a, channel + 1, last, -1, &spatial) and (
            fold_axes(a, 0, channel - 1, -1, &batch)
        )
    elif form == TABLE:
        fits = fold_axes(a, 0, last, channel, &batch)
    else:
        fits = fold_axes(a, 0, last, channel, &spatial)
    if not fits or not fold_axes(a, channel, channel, -1, &channels):
        return False
    if spatial != 0 and spatial != item:
        return False
    # Where each channel is one value wide, the channels must be adjacent.
    if spatial == 0 and channels != 0 and channels != item:
        return False
    found.sample_stride = batch // item
    found.channel_stride = channels // item
    return True


cdef ndarray as_running(str name, object value, ndarray x, int channel):
    """running_mean or running_var of a training call, or a packed copy of it."""
    cdef ndarray a = as_writable("batch_norm", name, value, x)
    check_parameter_shape(
        "batch_norm", name, a, 1, cnp.PyArray_DIMS(x) + channel, "the channel axis"
    )
    if cnp.PyArray_IS_C_CONTIGUOUS(a):
        return a
    refuse_self_overlap("batch_norm", name, a)
    return native_copy(a)


cdef tuple find_running(
    bint training, object running_mean, object running_var, ndarray x, int channel
):
    """The running arrays as C can take them, or None twice."""
    cdef const cnp.npy_intp *extent = cnp.PyArray_DIMS(x) + channel
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: running_mean and running_var must come together")
    if not training:
        if running_mean is None:
            raise ValueError(
                "batch_norm: running_mean and running_var are None, "
                "which needs training=True"
            )
        return tuple([
            as_parameter("batch_norm", name, value, x, 1, extent, "the channel axis")
            for name, value in (
                ("running_mean", running_mean), ("running_var", running_var)
            )
        ])
    if extent[0] > 0 and cnp.PyArray_SIZE(x) == extent[0]:
        raise ValueError(
            "batch_norm: expected more than 1 value per channel when training, "
            f"input has shape {np.shape(x)}"
        )
    if running_mean is None:
        return None, None
    return (
        as_running("running_mean", running_mean, x, channel),
        as_running("running_var", running_var, x, channel),
    )


cdef double as_momentum(object momentum, object batches, uint64_t *tracked) except? -2:
    """The C API's momentum, 0.0 for no update at all; *tracked if it is cumulative."""
    tracked[0] = 0
    if momentum is not None:
        if batches is not None:
            raise ValueError(
                "batch_norm: num_batches_tracked is only used with momentum=None"
            )
        value = as_number("batch_norm", "momentum", momentum)
        if not 0.0 <= value <= 1.0:
            raise ValueError(
                f"batch_norm: momentum is {value}, "
                "a number from 0 to 1 or None is needed"
            )
        return value
    if batches is not None:
        batches = as_index("batch_norm", "num_batches_tracked", batches)
        if not 0 <= batches < UINT64_MAX:
            raise ValueError(
                f"batch_norm: num_batches_tracked is {batches}, at least 0 is needed"
            )
        tracked[0] = batches
    return c.FASTNORM_MOMENTUM_CUMULATIVE


cdef c.fastnorm_status run_batch_norm(
    c.fastnorm_batch_norm_args *args, bint tiny
) noexcept:
    cdef c.fastnorm_status status
    args.scratch_size = c.fastnorm_batch_norm_scratch(args)
    if args.scratch_size > 0:
        # Without memory for it the call takes longer; the result is the same.
        args.scratch = PyMem_RawMalloc(args.scratch_size)
        if args.scratch is NULL:
            args.scratch_size = 0
    if tiny:
        status = c.fastnorm_batch_norm(args)
    else:
        with nogil:
            status = c.fastnorm_batch_norm(args)
    PyMem_RawFree(args.scratch)
    args.scratch = NULL
    return status


cdef int find_layouts(
    c.fastnorm_batch_norm_args *args, ndarray x, ndarray y, int channel,
    bint *x_fits, bint *y_fits,
) except -1:
    """Describe x and y to the C API; what does not fit has to be packed first."""
    cdef Channels x_found, y_found
    cdef Form form
    cdef size_t others = args.batch * args.spatial
    for form in (IMAGES, TABLE, RUNS):
        x_fits[0] = find_channels(x, channel, form, &x_found)
        y_fits[0] = find_channels(y, channel, form, &y_found)
        if x_fits[0] and y_fits[0]:
            if form != IMAGES:
                args.batch = others if form == TABLE else 1
                args.spatial = others if form == RUNS else 1
            break
    else:
        # One of them at least is copied, to the form of a packed array.
        x_fits[0] = find_channels(x, channel, IMAGES, &x_found)
        y_fits[0] = find_channels(y, channel, IMAGES, &y_found)
    if x_fits[0]:
        args.x_stride = x_found.sample_stride
        args.x_channel_stride = x_found.channel_stride
    if y_fits[0]:
        args.y_stride = y_found.sample_stride
        args.y_channel_stride = y_found.channel_stride
    return 0


cdef object norm_channels(
    c.fastnorm_batch_norm_args *args, ndarray x, int channel, object out, tuple given,
    bint direct,
):
    """Call C on x and out, whose layouts and overlaps are settled here.

    `given` are the caller's other arrays, by name, input first; `direct` says that C is
    given them as they are.
    """
    cdef ndarray y = as_output("batch_norm", out, x)
    cdef ndarray read = x, written = y
    cdef bint x_fits = True, y_fits = True
    cdef bint tiny = is_tiny(cnp.PyArray_SIZE(x), x)
    cdef c.fastnorm_status status
    cdef c.fastnorm_batch_norm_args packed = args[0]
    if not (cnp.PyArray_IS_C_CONTIGUOUS(x) and cnp.PyArray_IS_C_CONTIGUOUS(y)):
        find_layouts(args, x, y, channel, &x_fits, &y_fits)
    if not x_fits:
        read = native_copy(x)
    if not y_fits:
        refuse_self_overlap("batch_norm", "out", y)
        written = fresh_like(x)
    direct = direct and read is given[0][1] and (out is None or written is out)
    if not direct:
        refuse_overlaps(args, out, y, given)
    args.x = cnp.PyArray_DATA(read)
    args.y = cnp.PyArray_DATA(written)
    status = run_batch_norm(args, tiny)
    if status == c.FASTNORM_ERROR_OVERLAP and out is not None and written is y:
        # The C API goes by first and last byte; interleaved arrays may be apart.
        refuse_overlaps(args, out, y, given)
        written = norm_channels(&packed, x, channel, None, given, False)
    else:
        check_status("batch_norm", status)
    if written is not y:
        np.copyto(y, written)
    return y if out is None else out


cdef int refuse_overlaps(
    c.fastnorm_batch_norm_args *args, object out, ndarray y, tuple given
) except -1:
    if out is not None:
        refuse_overlap("batch_norm", "out", y, given)
    if args.training and args.running_mean is not NULL:
        refuse_overlap("batch_norm", "running_mean", given[3][1], given[:3] + given[4:])
        refuse_overlap("batch_norm", "running_var", given[4][1], given[:4])
    return 0


cdef ndarray channel_stats(ndarray x, int channel):
    cdef ndarray stats = cnp.PyArray_EMPTY(
        1, cnp.PyArray_DIMS(x) + channel, cnp.PyArray_TYPE(x), 0
    )
    if cnp.PyArray_SIZE(x) == 0:
        stats.fill(NAN)
    return stats


def batch_norm(
    input,
    running_mean,
    running_var,
    weight=None,
    bias=None,
    training=False,
    momentum=0.1,
    eps=1e-5,
    *,
    channel_axis=1,
    num_batches_tracked=None,
    out=None,
    return_stats=False,
    num_threads=None,
):
    """Batch normalization: each channel by statistics over all other axes.

    Parameters
    ----------
    input : array_like of float32 or float64, shape (..., C, ...)
        Read in place where the axes before the channels are one constant step apart and
        those after it are packed, and, with an `out` of the same layout, in
        channels-last memory seen as NCHW and in transposed tables; anything else is
        copied first.
    running_mean, running_var : array of input's dtype, shape (C,), or None
        Both or neither. Without `training` they are needed and only read. With
        `training` they must be writable ndarrays and are updated in place.
    weight, bias : array_like of input's dtype, shape (C,), optional
        Scale and shift per channel; ones and zeros if None. Lists take input's dtype.
    training : bool, default False
        Normalise by the statistics of `input`, not by the running ones.
    momentum : float or None, default 0.1
        The weight of the new value in the update of the running statistics (other
        libraries call one minus this momentum), from 0, which leaves them as they are,
        to 1. None weights all batches alike, and needs `num_batches_tracked`.
    eps : float, default 1e-5
        Added to the variance, inside the square root. At least 0.
    channel_axis : int, default 1
        The axis of the channels: -1 for channels-last images, and 1, 0, ... .
    num_batches_tracked : int, optional
        With ``momentum=None``: how many batches are in the running statistics already.
        The caller counts; this function changes no number.
    out : ndarray of input's shape and dtype, optional
        Written and returned. May be `input` itself; must not overlap it or another
        array of the call in any other way. Of a layout as for `input`, or else it is
        written through a temporary array.
    return_stats : bool, default False
        Return the mean and the reciprocal standard deviation that were used as well.
    num_threads : int, optional
        At most this many threads, for this call; see `set_num_threads`.

    Returns
    -------
    y : ndarray of input's shape and dtype
        `out` if given, else a C-contiguous array.
    mean, rstd : ndarray of input's dtype, shape (C,)
        Only with ``return_stats=True``, as a tuple ``(y, mean, rstd)``. NaN where
        `input` has no values.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64 or is not input's, or an argument is
        of the wrong kind. Nothing is cast silently.
    ValueError
        If shapes do not fit, `eps` or `momentum` is out of range, running statistics
        are needed and missing, training has one value per channel, or arrays overlap.
        Nothing has been written then.
    RuntimeError
        If the environment variable ``FASTNORM_ISA`` names no usable instruction set.

    Notes
    -----
    ``y = (input - mean) / sqrt(var + eps) * weight + bias`` [1]_. In training mean and
    (biased) variance are those of the batch, and the running statistics become
    ``(1 - f) * running + f * observed`` where the observed variance is the unbiased one
    and ``f`` is `momentum`, or ``1 / (num_batches_tracked + 1)`` for None. An empty
    batch leaves them as they are.

    A channel's result is within a few units in the last place of the exact one for
    every finite input, and has the same bits whatever the number of threads or the
    instruction set. A constant channel gives exactly the bias in training.

    References
    ----------
    .. [1] S. Ioffe, C. Szegedy, "Batch Normalization", 2015, arXiv:1502.03167.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.array([[1, 10], [2, 20], [3, 30]], dtype=np.float32)
    >>> mean, var = np.zeros(2, np.float32), np.ones(2, np.float32)
    >>> fastnorm.batch_norm(x, mean, var, training=True, momentum=0.5).round(3)
    array([[-1.225, -1.225],
           [ 0.   ,  0.   ],
           [ 1.225,  1.225]], dtype=float32)
    >>> mean, var
    (array([ 1., 10.], dtype=float32), array([ 1. , 50.5], dtype=float32))
    """
    cdef c.fastnorm_batch_norm_args args
    cdef ndarray x = as_input("batch_norm", "input", input)
    cdef int nd = cnp.PyArray_NDIM(x)
    cdef int channel = as_axis("batch_norm", "channel_axis", channel_axis, nd)
    cdef const cnp.npy_intp *extent = cnp.PyArray_DIMS(x) + channel
    cdef ndarray w = None, b = None, mean = None, rstd = None, m = None, v = None
    cdef bint is_training = training
    cdef int i

    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = dtype_of(x)
    args.training = is_training
    args.channels = extent[0]
    args.batch = args.spatial = 1
    for i in range(channel):
        args.batch *= cnp.PyArray_DIM(x, i)
    for i in range(channel + 1, nd):
        args.spatial *= cnp.PyArray_DIM(x, i)
    args.eps = as_eps("batch_norm", eps)
    args.exec_.num_threads = as_num_threads("batch_norm", num_threads)
    args.momentum = as_momentum(
        momentum, num_batches_tracked, &args.num_batches_tracked
    )
    if weight is not None:
        w = as_parameter(
            "batch_norm", "weight", weight, x, 1, extent, "the channel axis"
        )
        args.weight = cnp.PyArray_DATA(w)
    if bias is not None:
        b = as_parameter("batch_norm", "bias", bias, x, 1, extent, "the channel axis")
        args.bias = cnp.PyArray_DATA(b)
    m, v = find_running(is_training, running_mean, running_var, x, channel)
    if is_training and m is not None:
        if momentum is None and num_batches_tracked is None:
            raise ValueError("batch_norm: momentum=None needs num_batches_tracked")
        if args.momentum == 0.0:
            m = v = None
    if m is not None:
        args.running_mean = cnp.PyArray_DATA(m)
        args.running_var = cnp.PyArray_DATA(v)
    if return_stats:
        mean = channel_stats(x, channel)
        rstd = channel_stats(x, channel)
        args.mean = cnp.PyArray_DATA(mean)
        args.rstd = cnp.PyArray_DATA(rstd)
    y = norm_channels(
        &args, x, channel, out,
        (
            ("input", input), ("weight", weight), ("bias", bias),
            ("running_mean", running_mean), ("running_var", running_var),
        ),
        w is weight and b is bias
        and (m is None or (m is running_mean and v is running_var)),
    )
    if is_training and m is not None and not (m is running_mean and v is running_var):
        np.copyto(running_mean, m)
        np.copyto(running_var, v)
    return (y, mean, rstd) if return_stats else y
