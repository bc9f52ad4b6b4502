# _backward_samples.pxi - the gradients of group and instance norm.
# SPDX-License-Identifier: MIT


def group_norm_backward(
    grad_output,
    input,
    num_groups,
    weight=None,
    mean=None,
    rstd=None,
    eps=1e-5,
    *,
    channel_axis=1,
    out=None,
    needs=three_names,
    num_threads=None,
    flush_denormals=False,
):
    """The gradients of `group_norm` by its input, weight and bias.

    Parameters
    ----------
    grad_output, channel_axis, out, needs, num_threads, flush_denormals
        As for `batch_norm_backward`.
    input : array_like, shape (N, C, ...), channels where `channel_axis` says
        The input that `group_norm` had: float32, float64, float16 or bfloat16. Used in
        place as by `batch_norm_backward`.
    num_groups, eps
        As `group_norm` had them.
    weight : array_like, shape (C,), optional
        The weight that `group_norm` had; ones if None, which then have no gradient.
    mean, rstd : array_like, shape (N, num_groups), optional
        What `group_norm` returned with ``return_stats=True``. Both or neither; found
        from `input` and `eps` if None.

    Returns
    -------
    Gradients
        As for `batch_norm_backward`.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `layer_norm_backward`, and ValueError if `num_groups` does not divide the
        channels. Nothing has been written then.

    Notes
    -----
    Those of `layer_norm` within each group [1]_: with ``G = grad_output * weight`` and
    means over a group ::

        grad_input = rstd * (G - mean(G) - x_hat * mean(G * x_hat))
        grad_weight = sum(grad_output * x_hat)       over samples and positions
        grad_bias = sum(grad_output)

    References
    ----------
    .. [1] Y. Wu, K. He, "Group Normalization", 2018, arXiv:1803.08494.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.array([[[1, 3], [5, 7], [2, 2], [2, 2]]], dtype=np.float32)
    >>> grad_y = np.zeros_like(x)
    >>> grad_y[0, 0, 0] = 1
    >>> found = fastnorm.group_norm_backward(grad_y, x, 2, np.ones(4, np.float32))
    >>> found.input.round(3)
    array([[[ 0.134, -0.179],
            [-0.045,  0.089],
            [ 0.   ,  0.   ],
            [ 0.   ,  0.   ]]], dtype=float32)
    >>> found.weight.round(3)
    array([-1.342,  0.   ,  0.   ,  0.   ], dtype=float32)
    """
    cdef Backward b = begin_channels_backward(
        "group_norm_backward", True, grad_output, input, channel_axis, out, needs,
        num_threads, flush_denormals,
    )
    cdef cnp.npy_intp shape[2]
    b.call.groups = as_num_groups(b.fn, num_groups, b.x, b.axis)
    shape[0] = cnp.PyArray_DIM(b.x, 0)
    shape[1] = b.call.groups
    read_statistics(b, mean, rstd, 2, shape, "num_groups")
    b.call.run = run_group_gradient
    return end_channels_backward(b, weight, eps)


def instance_norm_backward(
    grad_output,
    input,
    weight=None,
    mean=None,
    rstd=None,
    use_input_stats=True,
    eps=1e-5,
    *,
    channel_axis=1,
    out=None,
    needs=three_names,
    num_threads=None,
    flush_denormals=False,
):
    """The gradients of `instance_norm` by its input, weight and bias.

    Parameters
    ----------
    grad_output, input, weight, channel_axis, out, needs, num_threads, flush_denormals
        As for `group_norm_backward`.
    mean, rstd : array_like, shape (N, C), optional
        What `instance_norm` returned with ``return_stats=True``. Both or neither. Found
        from `input` and `eps` if None, which needs `use_input_stats`.
    use_input_stats : bool, default True
        As `instance_norm` had it. If false, mean and rstd are constants.
    eps : float, default 1e-5
        As `instance_norm` had it; used where mean and rstd are None.

    Returns
    -------
    Gradients
        As for `batch_norm_backward`.

    Raises
    ------
    TypeError, RuntimeError
        As for `layer_norm_backward`.
    ValueError
        As for `layer_norm_backward`; if a channel of a sample has a single value and
        `use_input_stats` is true, or without it mean and rstd are missing. Nothing has
        been written then.

    Notes
    -----
    Those of `group_norm` with groups of one channel [1]_; without `use_input_stats`
    ``grad_input = grad_output * weight * rstd``.

    References
    ----------
    .. [1] D. Ulyanov, A. Vedaldi, V. Lempitsky, "Instance Normalization: The Missing
       Ingredient for Fast Stylization", 2016, arXiv:1607.08022.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.array([[[1.0, 2, 3], [7, 7, 7]]])
    >>> grad_y = np.array([[[0.0, 0, 1], [1, 1, 1]]])
    >>> fastnorm.instance_norm_backward(grad_y, x).input.round(3)
    array([[[ 0.204, -0.408,  0.204],
            [ 0.   ,  0.   ,  0.   ]]])
    """
    cdef Backward b = begin_channels_backward(
        "instance_norm_backward", True, grad_output, input, channel_axis, out, needs,
        num_threads, flush_denormals,
    )
    b.call.own_stats = bool(use_input_stats)
    read_statistics(
        b, mean, rstd, 2, cnp.PyArray_DIMS(b.x), "the samples and channels"
    )
    if b.call.own_stats:
        refuse_one_value(
            b, cnp.PyArray_DIM(b.x, 0) * cnp.PyArray_DIM(b.x, 1), "use_input_stats=True"
        )
    elif rstd is None:
        raise ValueError(
            f"{b.fn}: mean and rstd are None, which needs use_input_stats=True"
        )
    b.call.run = run_instance_gradient
    return end_channels_backward(b, weight, eps)
