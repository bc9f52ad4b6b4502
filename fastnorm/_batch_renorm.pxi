# _batch_renorm.pxi - batch_renorm.
# SPDX-License-Identifier: MIT


cdef double as_limit(str fn, str name, object value, double least) except? -1.0:
    """A number from `least` to infinity."""
    cdef double limit = as_number(fn, name, value)
    if not limit >= least:
        raise ValueError(
            f"{fn}: {name} is {limit}, a number >= {int(least)} is needed"
        )
    return limit


def batch_renorm(
    input,
    running_mean,
    running_var,
    weight=None,
    bias=None,
    training=False,
    momentum=0.1,
    eps=1e-5,
    *,
    r_max=3.0,
    d_max=5.0,
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
):
    """Batch renormalization: batch norm that trains on what inference will do.

    For batches that are small, or no fair sample of all data: how far the statistics of
    a batch may take the result from that of the running statistics is limited.

    Parameters
    ----------
    input : array_like, shape (..., C, ...)
        As for `batch_norm`.
    running_mean, running_var : array, shape (C,)
        Needed. With `training` they must be writable and are updated in place, as by
        `batch_norm`: begin with those of a first batch, or with zeros and ones.
    weight, bias : array_like, shape (C,), optional
        Scale and shift per channel; ones and zeros if None.
    training : bool, default False
        Without, this is `batch_norm`.
    momentum : float or None, default 0.1
        The weight of the new value in the update; see `batch_norm`.
    eps : float, default 1e-5
        Added to both variances, inside the square roots. At least 0.
    r_max : float, default 3.0
        The most that the ratio of deviations, or its reciprocal, may be: at least 1.
        Infinity means no limit.
    d_max : float, default 5.0
        The most that the means may differ, in running deviations: at least 0. Infinity
        means no limit.
    channel_axis, num_batches_tracked, out, num_threads, post_add, activation, \
out_dtype, in_scale, in_zero_point, out_scale, out_zero_point, flush_denormals
        As for `batch_norm`.
    return_stats : bool, default False
        Return the mean and the reciprocal standard deviation of the batch (or the
        running ones) and the corrections as well.

    Returns
    -------
    y : ndarray of input's shape
        `out` if given, else a C-contiguous array.
    mean, rstd, r, d : ndarray, shape (C,)
        Only with ``return_stats=True``, as a tuple ``(y, mean, rstd, r, d)``: float64
        for float64 input, else float32. NaN where `input` has no values; `r` is 1 and
        `d` 0 without `training`.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `batch_norm`, and ValueError if `r_max` is below 1 or `d_max` below 0.
        Nothing has been written then.

    Notes
    -----
    In training [1]_::

        r = clip(sigma_batch / sigma, 1 / r_max, r_max)
        d = clip((mean_batch - running_mean) / sigma, -d_max, d_max)
        y = ((input - mean_batch) / sigma_batch * r + d) * weight + bias

    with ``sigma = sqrt(running_var + eps)`` and ``sigma_batch = sqrt(var_batch + eps)``
    from the biased variance; then the running statistics take in the batch. The average
    is one of unbiased variances, as in `batch_norm`; the paper averages deviations.
    Where `sigma` is zero its reciprocal counts as zero. For gradients `r` and `d` are
    constants.

    With ``r_max=1`` and ``d_max=0`` the result has the bits of `batch_norm`; with both
    infinite it is inference from the running statistics as they were. The error is a
    few units in the last place of the largest of the terms that are added and of
    ``sigma_batch / sigma * weight``. `d` is exact as to the `running_mean` that is
    stored: one of float32 near 1e6 is a multiple of 1/16.

    References
    ----------
    .. [1] S. Ioffe, "Batch Renormalization: Towards Reducing Minibatch Dependence in
       Batch-Normalized Models", 2017, arXiv:1702.03275.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.array([[1.0], [3.0]])
    >>> mean, var = np.zeros(1), np.ones(1)
    >>> fastnorm.batch_renorm(x, mean, var, training=True, d_max=1.0, eps=0.0)
    array([[0.],
           [2.]])
    >>> mean, var
    (array([0.2]), array([1.1]))
    """
    cdef str fn = "batch_renorm"
    cdef ChannelCall call
    cdef ndarray x = as_input(fn, "input", input)
    cdef int channel = as_axis(fn, "channel_axis", channel_axis, cnp.PyArray_NDIM(x))
    cdef const cnp.npy_intp *extent = cnp.PyArray_DIMS(x) + channel
    cdef ndarray w, b, m, v
    cdef bint empty = cnp.PyArray_SIZE(x) == 0
    begin_channels(&call, BATCH, fn, x, channel, eps, num_threads)
    call.variant = RENORM
    call.norm.training = bool(training)
    call.norm.momentum = as_momentum(
        fn, momentum, num_batches_tracked, &call.norm.num_batches_tracked
    )
    call.r_max = as_limit(fn, "r_max", r_max, 1.0)
    call.d_max = as_limit(fn, "d_max", d_max, 0.0)
    if call.d_max == 0.0:
        call.d_max = c.FASTNORM_D_MAX_ZERO
    w = channel_parameter(fn, "weight", weight, x, channel)
    b = channel_parameter(fn, "bias", bias, x, channel)
    if running_mean is None or running_var is None:
        raise ValueError(f"{fn}: running_mean and running_var are needed")
    m, v = find_running(fn, call.norm.training, running_mean, running_var, x, channel)
    if call.norm.training:
        refuse_untrainable(fn, x, channel, momentum is None, num_batches_tracked)
        if call.norm.momentum == 0.0:
            # They are read all the same: the update goes into copies.
            m, v = native_copy(m), native_copy(v)
    stats = ()
    if return_stats:
        stats = tuple([stats_of(fn, x, 1, extent, empty) for _ in range(4)])
        call.norm.mean = cnp.PyArray_DATA(<ndarray>stats[0])
        call.norm.rstd = cnp.PyArray_DATA(<ndarray>stats[1])
        call.r = cnp.PyArray_DATA(<ndarray>stats[2])
        call.d = cnp.PyArray_DATA(<ndarray>stats[3])
    y = run_with_parameters(
        &call, fn, x, channel, out,
        channel_extras(
            post_add, activation, out_dtype, in_scale, in_zero_point, out_scale,
            out_zero_point, flush_denormals,
        ),
        (
            ("input", input), ("weight", weight), ("bias", bias),
            ("running_mean", running_mean), ("running_var", running_var),
            ("post_add", post_add),
        ),
        w, b, m, v,
    )
    return (y, *stats) if return_stats else y
