# _batch_norm.pxi - batch_norm, and running statistics.
# SPDX-License-Identifier: MIT


cdef ndarray as_running(str fn, str name, object value, ndarray x, int channel):
    """running_mean or running_var of a call that updates it: the caller's memory."""
    cdef ndarray a = as_written(fn, name, value)
    if not mixes(dtype_of(a), dtype_of(x)):
        raise TypeError(
            f"{fn}: {name} has dtype {a.dtype}, {needed_dtypes(dtype_of(x))}"
        )
    check_parameter_shape(
        fn, name, a, 1, cnp.PyArray_DIMS(x) + channel, "the channel axis"
    )
    if not cnp.PyArray_IS_C_CONTIGUOUS(a):
        refuse_self_overlap(fn, name, a)
    return a


cdef tuple find_running(
    str fn, bint update, object running_mean, object running_var, ndarray x, int channel
):
    """The running arrays as arrays, or None twice."""
    if (running_mean is None) != (running_var is None):
        raise ValueError(f"{fn}: running_mean and running_var must come together")
    if running_mean is None:
        return None, None
    if update:
        return (
            as_running(fn, "running_mean", running_mean, x, channel),
            as_running(fn, "running_var", running_var, x, channel),
        )
    return (
        channel_parameter(fn, "running_mean", running_mean, x, channel),
        channel_parameter(fn, "running_var", running_var, x, channel),
    )


cdef double as_momentum(
    str fn, object momentum, object batches, uint64_t *tracked
) except? -2:
    """The C API's momentum, 0.0 for no update at all; *tracked if it is cumulative."""
    tracked[0] = 0
    if momentum is not None:
        if batches is not None:
            raise ValueError(
                f"{fn}: num_batches_tracked is only used with momentum=None"
            )
        value = as_number(fn, "momentum", momentum)
        if not 0.0 <= value <= 1.0:
            raise ValueError(
                f"{fn}: momentum is {value}, a number from 0 to 1 or None is needed"
            )
        return value
    if batches is not None:
        batches = as_index(fn, "num_batches_tracked", batches)
        if not 0 <= batches < UINT64_MAX:
            raise ValueError(
                f"{fn}: num_batches_tracked is {batches}, at least 0 is needed"
            )
        tracked[0] = batches
    return c.FASTNORM_MOMENTUM_CUMULATIVE


cdef int refuse_untrainable(
    str fn, ndarray x, int channel, bint cumulative, object batches
) except -1:
    cdef cnp.npy_intp channels = cnp.PyArray_DIM(x, channel)
    if channels > 0 and cnp.PyArray_SIZE(x) == channels:
        raise ValueError(
            f"{fn}: expected more than 1 value per channel when training, "
            f"input has shape {np.shape(x)}"
        )
    if cumulative and batches is None:
        raise ValueError(f"{fn}: momentum=None needs num_batches_tracked")
    return 0


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
    post_add=None,
    activation=None,
    out_dtype=None,
    in_scale=None,
    in_zero_point=None,
    out_scale=None,
    out_zero_point=None,
    flush_denormals=False,
    mask=None,
    lengths=None,
    masked="zero",
):
    """Batch normalization: each channel by statistics over all other axes.

    Parameters
    ----------
    input : array_like, shape (..., C, ...)
        float32, float64, float16, bfloat16, int8 or uint8. Read in place where the axes
        before the channels are one constant step apart and those after it are packed,
        and, with an `out` of the same layout, in channels-last memory seen as NCHW and
        in transposed tables; anything else is copied first.
    running_mean, running_var : array, shape (C,), or None
        Both or neither. Without `training` they are needed and only read. With
        `training` they must be writable and are updated in place. float64 with float64
        input, else float32 or a 16-bit float, each as it likes.
    weight, bias : array_like, shape (C,), optional
        Scale and shift per channel; ones and zeros if None. dtypes as for the running
        statistics.
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
    out : ndarray of input's shape and the result's dtype, optional
        Written and returned. May be `input` itself; must not overlap it or another
        array of the call in any other way. Of a layout as for `input`, or else it is
        written through a temporary array.
    return_stats : bool, default False
        Return the mean and the reciprocal standard deviation that were used as well.
    num_threads : int, optional
        At most this many threads, for this call; see `set_num_threads`.
    post_add : array_like of input's shape, optional
        Added after scale and shift, before the activation. float64 with float64 input,
        else float32 or a 16-bit float. Must not overlap `out`.
    activation : str or tuple, optional
        Applied last: ``"relu"``, ``"leaky_relu"``, ``"relu6"``, ``"gelu"``,
        ``"gelu_tanh"``, ``"silu"``, ``"sigmoid"``, ``"tanh"``, ``"hardswish"``,
        ``("leaky_relu", slope)`` or ``("clamp", low, high)``.
    out_dtype : dtype, optional
        The dtype of the result; by default that of `input`, and float32 for int8 and
        uint8. The name ``"bfloat16"`` is understood.
    in_scale, in_zero_point : float and int, optional
        An int8 or uint8 element of `input` stands for ``(element - in_zero_point) *
        in_scale``, rounded to float32; 1 and 0 if None.
    out_scale, out_zero_point : float and int, optional
        A result is stored in int8 or uint8, which need `out_scale`, as ``round(result /
        out_scale) + out_zero_point``, within the limits of the type; NaN as the zero
        point.
    flush_denormals : bool, default False
        Count subnormal numbers as zero, which is faster where there are many.
    mask : array_like of bool, float32 or float64, optional
        Broadcastable to input's shape: what is False takes no part, whatever it holds,
        NaN and Inf too: it is in no statistics, nor in the count of values that they
        are of. Numbers, finite and at least 0, are weights of the statistics: how often
        each value counts; their sum stands for the count, and must be above 1 where
        running statistics are updated.
    lengths : array_like of int, shape (N,), optional
        In place of `mask`: of sample n (the first axis that is not the channels) the
        first ``lengths[n]`` positions along the next axis take part.
    masked : {"zero", "keep"}, default "zero"
        What stands in the result where nothing takes part: zero, also after `post_add`
        and `activation` (the zero point of int8 and uint8), or input's own value.

    Returns
    -------
    y : ndarray of input's shape
        `out` if given, else a C-contiguous array.
    mean, rstd : ndarray, shape (C,)
        Only with ``return_stats=True``, as a tuple ``(y, mean, rstd)``: float64 for
        float64 input, else float32. NaN where `input` has no values.

    Raises
    ------
    TypeError
        If a dtype is none of those above, float64 is mixed with another, or an argument
        is of the wrong kind. Nothing is narrowed silently.
    ValueError
        If shapes do not fit, `eps` or `momentum` is out of range, running statistics
        are needed and missing, training has one value per channel, arrays overlap, or
        quantization parameters are given where they have no use.
        Nothing has been written then.
    RuntimeError
        If the environment variable ``FASTNORM_ISA`` names no usable instruction set.

    Notes
    -----
    ``y = (input - mean) / sqrt(var + eps) * weight + bias`` [1]_. In training mean and
    (biased) variance are those of the batch, and the running statistics become
    ``(1 - f) * running + f * observed`` where the observed variance is the unbiased one
    and ``f`` is `momentum`, or ``1 / (num_batches_tracked + 1)`` for None. An empty
    batch leaves them as they are. ``activation(y + post_add)`` is computed in the same
    pass, in float64 for float64 input and in float32 for all else, and rounded once.

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
    cdef ChannelCall call
    cdef ndarray x = as_input("batch_norm", "input", input)
    cdef int channel = as_axis(
        "batch_norm", "channel_axis", channel_axis, cnp.PyArray_NDIM(x)
    )
    cdef const cnp.npy_intp *extent = cnp.PyArray_DIMS(x) + channel
    cdef ndarray w, b, m, v, mean = None, rstd = None
    cdef bint empty = cnp.PyArray_SIZE(x) == 0
    begin_channels(&call, BATCH, "batch_norm", x, channel, eps, num_threads)
    masking = read_masking("batch_norm", mask, lengths, masked, x, channel)
    call.norm.training = bool(training)
    call.norm.momentum = as_momentum(
        "batch_norm", momentum, num_batches_tracked, &call.norm.num_batches_tracked
    )
    w = channel_parameter("batch_norm", "weight", weight, x, channel)
    b = channel_parameter("batch_norm", "bias", bias, x, channel)
    m, v = find_running(
        "batch_norm", call.norm.training, running_mean, running_var, x, channel
    )
    if not call.norm.training:
        if m is None:
            raise ValueError(
                "batch_norm: running_mean and running_var are None, "
                "which needs training=True"
            )
    else:
        refuse_untrainable(
            "batch_norm", x, channel, m is not None and momentum is None,
            num_batches_tracked,
        )
        if call.norm.momentum == 0.0:
            m = v = None
    if return_stats:
        mean = stats_of("batch_norm", x, 1, extent, empty)
        rstd = stats_of("batch_norm", x, 1, extent, empty)
        call.norm.mean = cnp.PyArray_DATA(mean)
        call.norm.rstd = cnp.PyArray_DATA(rstd)
    y = run_with_parameters(
        &call, "batch_norm", x, channel, out,
        channel_extras(
            post_add, activation, out_dtype, in_scale, in_zero_point, out_scale,
            out_zero_point, flush_denormals, masking,
        ),
        (
            ("input", input), ("weight", weight), ("bias", bias),
            ("running_mean", running_mean), ("running_var", running_var),
            ("post_add", post_add), ("mask", mask),
        ),
        w, b, m, v,
    )
    return (y, mean, rstd) if return_stats else y
