# _backward_rows.pxi - the gradients of layer, RMS and L2 norm.
# SPDX-License-Identifier: MIT


cdef fused RowArgs:
    c.fastnorm_layer_norm_backward_args
    c.fastnorm_rms_norm_backward_args
    c.fastnorm_l2_norm_backward_args


cdef void fill_rows(RowArgs *args, const GradientCall *call) noexcept nogil:
    """All that the structs of the C API have in common."""
    memset(args, 0, sizeof(args[0]))
    args.size = sizeof(args[0])
    args.dtype = call.dtype
    args.grad_y = call.grad_y
    args.x = call.x
    args.grad_x = call.grad_x
    args.rows = call.extents[0]
    args.cols = call.extents[1]
    args.inner = call.extents[2]
    args.grad_y_stride = call.strides.outer[0]
    args.x_stride = call.strides.outer[1]
    args.grad_x_stride = call.strides.outer[2]
    args.eps = call.eps
    args.exec_ = call.exec_
    args.format = call.format
    if RowArgs is not c.fastnorm_l2_norm_backward_args:
        args.weight = call.weight
        args.grad_weight = call.grad_weight
        args.rstd = call.rstd
        args.scratch = call.scratch
        args.scratch_size = call.scratch_size


cdef c.fastnorm_status run_layer_gradient(
    const GradientCall *call, size_t *scratch
) noexcept nogil:
    cdef c.fastnorm_layer_norm_backward_args args
    fill_rows(&args, call)
    args.grad_bias = call.grad_bias
    args.mean = call.mean
    if scratch is NULL:
        return c.fastnorm_layer_norm_backward(&args)
    scratch[0] = c.fastnorm_layer_norm_backward_scratch(&args)
    return c.FASTNORM_OK


cdef c.fastnorm_status run_rms_gradient(
    const GradientCall *call, size_t *scratch
) noexcept nogil:
    cdef c.fastnorm_rms_norm_backward_args args
    fill_rows(&args, call)
    args.mode = call.mode
    if scratch is NULL:
        return c.fastnorm_rms_norm_backward(&args)
    scratch[0] = c.fastnorm_rms_norm_backward_scratch(&args)
    return c.FASTNORM_OK


cdef c.fastnorm_status run_l2_gradient(
    const GradientCall *call, size_t *scratch
) noexcept nogil:
    cdef c.fastnorm_l2_norm_backward_args args
    fill_rows(&args, call)
    if scratch is NULL:
        return c.fastnorm_l2_norm_backward(&args)
    scratch[0] = 0
    return c.FASTNORM_OK


cdef int lay_out_rows(Backward b, ndarray y) except -1:
    cdef Py_ssize_t *strides = b.call.strides.outer
    b.y = y
    if not find_row_stride(b.g, b.axis, &strides[0]):
        b.g = native_copy(b.g)
        strides[0] = 0
    if not find_row_stride(b.x, b.axis, &strides[1]):
        b.x = native_copy(b.x)
        strides[1] = 0
    if y is not None and not find_row_stride(y, b.axis, &strides[2]):
        refuse_self_overlap(b.fn, "out", y)
        b.y = fresh_as(y)
        strides[2] = 0
    return 0


cdef int find_rows(
    Backward b, Span *span, object normalized_shape, object axis
) except -1:
    find_span(span, b.fn, b.x, normalized_shape, axis)
    b.axis = span.first
    b.call.extents[0] = span.rows
    b.call.extents[1] = span.cols
    b.call.extents[2] = span.inner
    return 0


cdef object end_rows_backward(
    Backward b, const Span *span, object weight, object mean, object rstd
):
    """Read what is left, call C, and return the gradients."""
    cdef int i, nd = span.last - span.first + 1
    cdef const cnp.npy_intp *extents = cnp.PyArray_DIMS(b.x) + span.first
    cdef cnp.npy_intp shape[MAX_AXES]
    cdef ndarray grad_weight = None, grad_bias = None
    cdef str kept = "input with 1 for each normalised axis"
    for i in range(cnp.PyArray_NDIM(b.x)):
        normalized = span.first <= i <= span.last
        shape[i] = 1 if normalized else cnp.PyArray_DIM(b.x, i)
    b.call.mean = read_parameter(
        b, "mean", mean, cnp.PyArray_NDIM(b.x), shape, kept, True
    )
    b.call.rstd = read_parameter(
        b, "rstd", rstd, cnp.PyArray_NDIM(b.x), shape, kept, True
    )
    if weight is not None:
        b.call.weight = read_parameter(
            b, "weight", weight, nd, extents, "normalized_shape", False
        )
        grad_weight = sums_wanted(b, NEED_WEIGHT, nd, extents)
        b.call.grad_weight = data_of(grad_weight)
    grad_bias = sums_wanted(b, NEED_BIAS, nd, extents)
    b.call.grad_bias = data_of(grad_bias)
    grad_input = finish_backward(b, lay_out_rows)
    return Gradients(grad_input, grad_weight, grad_bias)


def layer_norm_backward(
    grad_output,
    input,
    normalized_shape,
    weight=None,
    mean=None,
    rstd=None,
    eps=1e-5,
    *,
    axis=None,
    out=None,
    needs=three_names,
    num_threads=None,
    flush_denormals=False,
):
    """The gradients of `layer_norm` by its input, weight and bias.

    Parameters
    ----------
    grad_output : array_like of input's shape
        The gradient of the loss by the result. float64 with float64 input, else
        float32, float16 or bfloat16. Read in place where `input` would be; where it is
        not of input's dtype, both are copied to float32 first.
    input : array_like, shape (..., *normalized_shape)
        The input that `layer_norm` had: float32, float64, float16 or bfloat16. Read in
        place, or copied, as `layer_norm` does.
    normalized_shape, axis
        As `layer_norm` had them.
    weight : array_like, shape normalized_shape, optional
        The weight that `layer_norm` had; ones if None, which then have no gradient.
    mean, rstd : array_like, optional
        What `layer_norm` returned with ``return_stats=True``: input's shape with 1 for
        each normalised axis. Both or neither; found from `input` and `eps` if None.
    eps : float, default 1e-5
        As `layer_norm` had it; used where mean and rstd are None.
    out : array of input's shape and dtype, optional
        Written and returned as the gradient of the input. May be `grad_output` (if of
        input's dtype) or `input` itself; must not overlap another array of the call in
        any other way. Otherwise as for `layer_norm`.
    needs : tuple of str, default ("input", "weight", "bias")
        The gradients to compute. Each that is left out saves time.
    num_threads : int, optional
        At most this many threads, for this call; see `set_num_threads`.
    flush_denormals : bool, default False
        Count subnormal numbers as zero, which is faster where there are many.

    Returns
    -------
    Gradients
        A named tuple of three. ``input``: `out` if given, else a C-contiguous array of
        input's shape and dtype. ``weight`` and ``bias``: shape normalized_shape, of
        float64 for float64 input, else float32. None for what is not in `needs`, and
        for ``weight`` where there is none.

    Raises
    ------
    TypeError
        If a dtype is none of those above, float64 is mixed with another, or an argument
        is of the wrong kind. Nothing is narrowed silently.
    ValueError
        If shapes do not fit, `eps` is out of range, one of mean and rstd is missing,
        `needs` names what there is not, `out` is given for what is not needed, or
        arrays overlap. Nothing has been written then.
    RuntimeError
        If the environment variable ``FASTNORM_ISA`` names no usable instruction set.

    Notes
    -----
    With ``x_hat = (input - mean) * rstd`` and ``G = grad_output * weight``, and means
    over the normalised axes [1]_::

        grad_input = rstd * (G - mean(G) - x_hat * mean(G * x_hat))
        grad_weight = sum(grad_output * x_hat)
        grad_bias = sum(grad_output)

    with sums over all other axes. What a mean of float32 has lost by its rounding is
    found again from the input, so that an input far from zero loses nothing. Without a
    weight a constant `grad_output` gives exactly zero. The bits are the same for every
    number of threads and every instruction set.

    References
    ----------
    .. [1] J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016,
       arXiv:1607.06450.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.array([[1, 2, 3, 4], [5, 5, 5, 9]], dtype=np.float32)
    >>> y, mean, rstd = fastnorm.layer_norm(x, 4, return_stats=True)
    >>> grad_y = np.array([[1, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float32)
    >>> found = fastnorm.layer_norm_backward(grad_y, x, 4, None, mean, rstd)
    >>> (found.input * 1000).round()
    array([[ 268., -358.,  -89.,  179.],
           [  -0.,   -0.,   -0.,    0.]], dtype=float32)
    >>> found.bias
    array([1., 0., 0., 1.], dtype=float32)

    In place, and nothing but the gradient of the input:

    >>> only = fastnorm.layer_norm_backward(
    ...     grad_y, x, 4, None, mean, rstd, out=grad_y, needs=("input",)
    ... )
    >>> only.input is grad_y, only.bias
    (True, None)
    """
    cdef Span span
    cdef Backward b = begin_backward(
        "layer_norm_backward", "input", grad_output, input, out, needs, three_names,
        num_threads, flush_denormals,
    )
    find_rows(b, &span, normalized_shape, axis)
    if (mean is None) != (rstd is None):
        raise ValueError("layer_norm_backward: mean and rstd must come together")
    b.call.eps = as_eps(b.fn, eps)
    b.call.run = run_layer_gradient
    return end_rows_backward(b, &span, weight, mean, rstd)


def rms_norm_backward(
    grad_output,
    input,
    normalized_shape,
    weight=None,
    rstd=None,
    eps=None,
    *,
    mode="plain",
    axis=None,
    out=None,
    needs=two_names,
    num_threads=None,
    flush_denormals=False,
):
    """The gradients of `rms_norm` by its input and weight.

    Parameters
    ----------
    grad_output, input, normalized_shape, axis, weight, out, needs, num_threads, \
flush_denormals
        As for `layer_norm_backward`; there is no "bias" that `needs` could name.
    rstd : array_like, optional
        What `rms_norm` returned with ``return_stats=True``: input's shape with 1 for
        each normalised axis; found from `input` and `eps` if None.
    eps : float, optional
        As `rms_norm` had it; used where rstd is None.
    mode : {"plain", "cast_before_weight", "one_plus_weight"}
        As `rms_norm` had it. With "one_plus_weight" ``1 + weight`` is the weight; the
        rounding of "cast_before_weight" counts as the identity.

    Returns
    -------
    Gradients
        As for `layer_norm_backward`; ``bias`` is None.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `layer_norm_backward`; nothing has been written then.

    Notes
    -----
    With ``x_hat = input * rstd`` and ``G = grad_output * weight`` [1]_::

        grad_input = rstd * (G - x_hat * mean(G * x_hat))
        grad_weight = sum(grad_output * x_hat)

    References
    ----------
    .. [1] B. Zhang, R. Sennrich, "Root Mean Square Layer Normalization", 2019,
       arXiv:1910.07467.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.array([[3, 4]], dtype=np.float32)
    >>> weight = np.ones(2, np.float32)
    >>> found = fastnorm.rms_norm_backward(np.ones_like(x), x, 2, weight, eps=0.0)
    >>> (found.input * 1000).round()
    array([[ 45., -34.]], dtype=float32)
    >>> found.weight.round(3)
    array([0.849, 1.131], dtype=float32)
    """
    cdef Span span
    cdef Backward b = begin_backward(
        "rms_norm_backward", "input", grad_output, input, out, needs, two_names,
        num_threads, flush_denormals,
    )
    find_rows(b, &span, normalized_shape, axis)
    b.call.mode = read_mode(b.fn, mode)
    if eps is not None:
        b.call.eps = as_eps(b.fn, eps)
    b.call.run = run_rms_gradient
    return end_rows_backward(b, &span, weight, None, rstd)


def l2_norm_backward(
    grad_output,
    input,
    axis=-1,
    eps=1e-12,
    *,
    out=None,
    num_threads=None,
    flush_denormals=False,
):
    """The gradient of `l2_norm` by its input.

    Parameters
    ----------
    grad_output, input, out, num_threads, flush_denormals
        As for `layer_norm_backward`.
    axis : int or tuple of int, default -1
        As `l2_norm` had it.
    eps : float, default 1e-12
        As `l2_norm` had it.

    Returns
    -------
    ndarray of input's shape
        `out` if given, else a C-contiguous array of input's dtype.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `layer_norm_backward`; nothing has been written then.

    Notes
    -----
    With ``y = input / norm`` and the sum over `axis` ::

        grad_input = (grad_output - y * sum(grad_output * y)) / norm

    and ``grad_output / eps`` where the norm is below `eps`; 0 where both are 0.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.array([[3, 4], [0, 0]], dtype=np.float32)
    >>> grad = np.array([[25, 0], [1, 1]], dtype=np.float32)
    >>> fastnorm.l2_norm_backward(grad, x, eps=0.5).round(3)
    array([[ 3.2, -2.4],
           [ 2. ,  2. ]], dtype=float32)
    """
    cdef Span span
    cdef Backward b = begin_backward(
        "l2_norm_backward", "input", grad_output, input, out, None, only_input,
        num_threads, flush_denormals,
    )
    if axis is None:
        raise ValueError("l2_norm_backward: axis is None, an axis is needed")
    find_rows(b, &span, None, axis)
    b.call.eps = as_eps(b.fn, eps)
    b.call.run = run_l2_gradient
    return finish_backward(b, lay_out_rows)
