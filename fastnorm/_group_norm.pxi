# _group_norm.pxi - group_norm.
# SPDX-License-Identifier: MIT


cdef size_t as_num_groups(str fn, object value, ndarray x, int channel) except? 0:
    cdef Py_ssize_t channels = cnp.PyArray_DIM(x, channel)
    groups = as_index(fn, "num_groups", value)
    if groups < 1:
        raise ValueError(f"{fn}: num_groups is {groups}, at least 1 is needed")
    if groups > sys.maxsize or channels % groups != 0:
        raise ValueError(
            f"{fn}: num_groups is {groups}, which does not divide {channels} channels"
        )
    return groups


cdef ndarray stored_parameter(str name, object value, ndarray x, cnp.npy_intp *shape):
    """mean or var, which replace the statistics, in the working type."""
    return in_dtype(
        as_parameter("group_norm", name, value, x, 2, shape, "num_groups"),
        working_dtype(dtype_of(x)),
    )


def group_norm(
    input,
    num_groups,
    weight=None,
    bias=None,
    eps=1e-5,
    *,
    channel_axis=1,
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
    mean=None,
    var=None,
    flush_denormals=False,
    mask=None,
    lengths=None,
    masked="zero",
):
    """Group normalization: groups of adjacent channels, each sample by its own.

    Parameters
    ----------
    input : array_like, shape (N, C, ...)
        float32, float64, float16, bfloat16, int8 or uint8. The first axis that is not
        `channel_axis` is the samples, all others are positions. Read in place where the
        positions of a channel are packed, or those of a sample one constant step apart
        and the channels packed (channels-last memory, also seen as NCHW, with an `out`
        of the same layout); anything else is copied first.
    num_groups : int
        How many groups the channels form; must divide their number. 1 is layer norm
        over a whole sample, C is instance norm.
    weight, bias : array_like, shape (C,), optional
        Scale and shift per channel; ones and zeros if None. float64 with float64 input,
        else float32 or a 16-bit float, each as it likes.
    eps : float, default 1e-5
        Added to the variance, inside the square root. At least 0.
    channel_axis : int, default 1
        The axis of the channels: -1 for channels-last images, and 1, 0, ... .
    out : ndarray of input's shape and the result's dtype, optional
        Written and returned. May be `input` itself; must not overlap it or another
        array of the call in any other way. Of a layout as for `input`, or else it is
        written through a temporary array.
    return_stats : bool, default False
        Return the mean and the reciprocal standard deviation as well.
    num_threads : int, optional
        At most this many threads, for this call; see `set_num_threads`.
    post_add, activation, out_dtype, in_scale, in_zero_point, out_scale, \
out_zero_point, flush_denormals
        As for `batch_norm`.
    mean, var : array_like, shape (N, num_groups), optional
        Both or neither: normalise by these and not by the statistics of `input`.
    mask : array_like of bool, float32 or float64, optional
        Broadcastable to input's shape: what is False takes no part, whatever it holds,
        NaN and Inf too: it is in no statistics, nor in the count of values that they
        are of. Numbers, finite and at least 0, are weights of the statistics: how often
        each value counts; their sum stands for the count.
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
    mean, rstd : ndarray, shape (N, num_groups)
        Only with ``return_stats=True``, as a tuple ``(y, mean, rstd)``: float64 for
        float64 input, else float32. NaN where a group has no values.

    Raises
    ------
    TypeError
        If a dtype is none of those above, float64 is mixed with another, or an argument
        is of the wrong kind. Nothing is narrowed silently.
    ValueError
        If shapes do not fit, `num_groups` does not divide the channels, `eps` is
        negative or not finite, arrays overlap, or quantization parameters are given
        where they have no use. Nothing has been written then.
    RuntimeError
        If the environment variable ``FASTNORM_ISA`` names no usable instruction set.

    Notes
    -----
    ``y = (input - mean) / sqrt(var + eps) * weight + bias`` with the biased variance,
    over the channels of a group and all positions of a sample [1]_.

    A group's result is within a few units in the last place of the exact one for every
    finite input, and has the same bits whatever the batch, the number of threads or the
    instruction set. A constant group gives exactly the bias. NaN and Inf stay within
    their group.

    References
    ----------
    .. [1] Y. Wu, K. He, "Group Normalization", 2018, arXiv:1803.08494.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.array([[[1, 3], [5, 7], [2, 2], [2, 2]]], dtype=np.float32)
    >>> y, mean, rstd = fastnorm.group_norm(x, 2, eps=0, return_stats=True)
    >>> y.round(3)
    array([[[-1.342, -0.447],
            [ 0.447,  1.342],
            [ 0.   ,  0.   ],
            [ 0.   ,  0.   ]]], dtype=float32)
    >>> mean
    array([[4., 2.]], dtype=float32)

    Channels last, with an activation:

    >>> last = x.swapaxes(1, 2)
    >>> fastnorm.group_norm(last, 2, channel_axis=-1, activation="relu").round(3)
    array([[[0.   , 0.447, 0.   , 0.   ],
            [0.   , 1.342, 0.   , 0.   ]]], dtype=float32)
    """
    cdef ChannelCall call
    cdef ndarray x = as_input("group_norm", "input", input)
    cdef int channel = as_samples_axis("group_norm", channel_axis, x)
    cdef ndarray w, b, m = None, v = None, used_mean = None, rstd = None
    cdef cnp.npy_intp shape[2]
    cdef bint empty = cnp.PyArray_SIZE(x) == 0
    begin_channels(&call, GROUP, "group_norm", x, channel, eps, num_threads)
    masking = read_masking("group_norm", mask, lengths, masked, x, channel)
    call.groups = as_num_groups("group_norm", num_groups, x, channel)
    shape[0] = call.norm.batch
    shape[1] = call.groups
    w = channel_parameter("group_norm", "weight", weight, x, channel)
    b = channel_parameter("group_norm", "bias", bias, x, channel)
    if (mean is None) != (var is None):
        raise ValueError("group_norm: mean and var must come together")
    if mean is not None:
        m = stored_parameter("mean", mean, x, shape)
        v = stored_parameter("var", var, x, shape)
        call.stored_mean = cnp.PyArray_DATA(m)
        call.stored_var = cnp.PyArray_DATA(v)
    if return_stats:
        used_mean = stats_of("group_norm", x, 2, shape, empty)
        rstd = stats_of("group_norm", x, 2, shape, empty)
        call.norm.mean = cnp.PyArray_DATA(used_mean)
        call.norm.rstd = cnp.PyArray_DATA(rstd)
    y = run_with_parameters(
        &call, "group_norm", x, channel, out,
        channel_extras(
            post_add, activation, out_dtype, in_scale, in_zero_point, out_scale,
            out_zero_point, flush_denormals, masking,
        ),
        (
            ("input", input), ("weight", weight), ("bias", bias), ("mean", mean),
            ("var", var), ("post_add", post_add), ("mask", mask),
        ),
        w, b, None, None,
    )
    return (y, used_mean, rstd) if return_stats else y
