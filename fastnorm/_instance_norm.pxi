# _instance_norm.pxi - instance_norm.
# SPDX-License-Identifier: MIT


def instance_norm(
    input,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    use_input_stats=True,
    momentum=0.1,
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
    flush_denormals=False,
    mask=None,
    lengths=None,
    masked="zero",
):
    """Instance normalization: each channel of each sample by its own statistics.

    Parameters
    ----------
    input : array_like, shape (N, C, ...)
        float32, float64, float16, bfloat16, int8 or uint8. The first axis that is not
        `channel_axis` is the samples, all others are positions. Read in place in the
        layouts of `group_norm`.
    running_mean, running_var : array, shape (C,), or None
        Both or neither. With `use_input_stats` they must be writable and are updated in
        place, else they are needed and only read. dtypes as for `batch_norm`.
    weight, bias : array_like, shape (C,), optional
        Scale and shift per channel; ones and zeros if None.
    use_input_stats : bool, default True
        Normalise by the statistics of `input`. False applies the running ones: then
        this is batch norm in inference.
    momentum : float, default 0.1
        The weight of the new value in the update of the running statistics, from 0,
        which leaves them as they are, to 1.
    eps : float, default 1e-5
        Added to the variance, inside the square root. At least 0.
    channel_axis : int, default 1
        The axis of the channels: -1 for channels-last images, and 1, 0, ... .
    out : ndarray of input's shape and the result's dtype, optional
        As for `group_norm`; may be `input` itself.
    return_stats : bool, default False
        Return the mean and the reciprocal standard deviation that were used as well.
    num_threads : int, optional
        At most this many threads, for this call; see `set_num_threads`.
    post_add, activation, out_dtype, in_scale, in_zero_point, out_scale, \
out_zero_point, flush_denormals
        As for `batch_norm`.
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
    mean, rstd : ndarray, shape (N, C)
        Only with ``return_stats=True``, as a tuple ``(y, mean, rstd)``: float64 for
        float64 input, else float32. NaN where `input` has no values.

    Raises
    ------
    TypeError
        If a dtype is none of those above, float64 is mixed with another, or an argument
        is of the wrong kind. Nothing is narrowed silently.
    ValueError
        If shapes do not fit, `eps` or `momentum` is out of range, a channel of a sample
        has a single value (which has no variance) and `use_input_stats` is true,
        running statistics are needed and missing, or arrays overlap. Nothing has been
        written then.
    RuntimeError
        If the environment variable ``FASTNORM_ISA`` names no usable instruction set.

    Notes
    -----
    ``y = (input - mean) / sqrt(var + eps) * weight + bias`` with the biased variance,
    over all positions of a channel of a sample [1]_. The running statistics become ``(1
    - momentum) * running + momentum * observed``, where the observed ones are the means
    over the samples of their means and of their unbiased variances. An empty batch
    leaves them as they are.

    An instance's result is within a few units in the last place of the exact one for
    every finite input, and has the same bits whatever the batch, the number of threads
    or the instruction set. A constant instance gives exactly the bias.

    References
    ----------
    .. [1] D. Ulyanov, A. Vedaldi, V. Lempitsky, "Instance Normalization: The Missing
       Ingredient for Fast Stylization", 2016, arXiv:1607.08022.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.array([[[1, 2, 3], [10, 20, 30]]], dtype=np.float32)
    >>> mean, var = np.zeros(2, np.float32), np.ones(2, np.float32)
    >>> fastnorm.instance_norm(x, mean, var, momentum=0.5).round(3)
    array([[[-1.225,  0.   ,  1.225],
            [-1.225,  0.   ,  1.225]]], dtype=float32)
    >>> mean, var
    (array([ 1., 10.], dtype=float32), array([ 1. , 50.5], dtype=float32))
    """
    cdef ChannelCall call
    cdef ndarray x = as_input("instance_norm", "input", input)
    cdef int channel = as_samples_axis("instance_norm", channel_axis, x)
    cdef ndarray w, b, m, v, mean = None, rstd = None
    cdef cnp.npy_intp shape[2]
    cdef bint empty = cnp.PyArray_SIZE(x) == 0
    begin_channels(&call, INSTANCE, "instance_norm", x, channel, eps, num_threads)
    masking = read_masking("instance_norm", mask, lengths, masked, x, channel)
    call.norm.training = bool(use_input_stats)
    call.norm.momentum = as_number("instance_norm", "momentum", momentum)
    if not 0.0 <= call.norm.momentum <= 1.0:
        raise ValueError(
            f"instance_norm: momentum is {call.norm.momentum}, "
            "a number from 0 to 1 is needed"
        )
    shape[0] = call.norm.batch
    shape[1] = call.norm.channels
    w = channel_parameter("instance_norm", "weight", weight, x, channel)
    b = channel_parameter("instance_norm", "bias", bias, x, channel)
    m, v = find_running(
        "instance_norm", call.norm.training, running_mean, running_var, x, channel
    )
    if not call.norm.training:
        if m is None:
            raise ValueError(
                "instance_norm: running_mean and running_var are None, "
                "which needs use_input_stats=True"
            )
    elif call.norm.spatial == 1:
        raise ValueError(
            "instance_norm: expected more than 1 spatial element with "
            f"use_input_stats=True, input has shape {np.shape(x)}"
        )
    elif call.norm.momentum == 0.0:
        m = v = None
    if return_stats:
        mean = stats_of("instance_norm", x, 2, shape, empty)
        rstd = stats_of("instance_norm", x, 2, shape, empty)
        call.norm.mean = cnp.PyArray_DATA(mean)
        call.norm.rstd = cnp.PyArray_DATA(rstd)
    y = run_with_parameters(
        &call, "instance_norm", x, channel, out,
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
