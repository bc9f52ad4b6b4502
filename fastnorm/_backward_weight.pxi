# _backward_weight.pxi - the gradients of weight_norm.
# SPDX-License-Identifier: MIT


cdef c.fastnorm_status run_weight_gradient(
    const GradientCall *call, size_t *scratch
) noexcept nogil:
    cdef c.fastnorm_weight_norm_backward_args args
    fill_channels(&args, call)
    args.norm = call.rstd
    if scratch is NULL:
        return c.fastnorm_weight_norm_backward(&args)
    scratch[0] = c.fastnorm_weight_norm_backward_scratch(&args)
    return c.FASTNORM_OK


def weight_norm_backward(
    grad_output,
    v,
    g,
    dim=0,
    *,
    norm=None,
    out=None,
    needs=length_names,
    num_threads=None,
    flush_denormals=False,
):
    """The gradients of `weight_norm` by the direction v and the length g.

    Parameters
    ----------
    grad_output : array_like of v's shape
        The gradient of the loss by the weight; as for `layer_norm_backward`.
    v, g, dim
        As `weight_norm` had them; not of 8-bit types.
    norm : array_like, optional
        That of v, as `weight_norm` returns it with ``return_norm=True``. Without, it is
        found again, which costs another pass over v.
    out : array of v's shape and dtype, optional
        Written and returned as the gradient of v. May be `grad_output` (if of v's
        dtype) or `v` itself; otherwise as for `layer_norm_backward`.
    needs : tuple of str, default ("v", "g")
        The gradients to compute.
    num_threads, flush_denormals
        As for `layer_norm_backward`.

    Returns
    -------
    grad_v : ndarray of v's shape, or None
        `out` if given, else a C-contiguous array of v's dtype.
    grad_g : ndarray of g's shape, or None
        Of float64 for float64 v, else float32.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `layer_norm_backward`; nothing has been written then.

    Notes
    -----
    With ``u = v / norm(v)`` and sums over all axes but `dim` [1]_::

        grad_g = sum(grad_output * u)
        grad_v = g / norm(v) * (grad_output - u * grad_g)

    Both are 0 where v is.

    References
    ----------
    .. [1] T. Salimans, D. P. Kingma, "Weight Normalization", 2016, arXiv:1602.07868.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> v, g = np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[5.0], [1.0]])
    >>> grad_v, grad_g = fastnorm.weight_norm_backward(np.ones((2, 2)), v, g)
    >>> grad_v.round(3)
    array([[ 0.16, -0.12],
           [ 0.  ,  0.  ]])
    >>> grad_g
    array([[1.4],
           [0. ]])
    """
    cdef Backward b = begin_backward(
        "weight_norm_backward", "v", grad_output, v, out, needs, length_names,
        num_threads, flush_denormals,
    )
    cdef ndarray seen = b.x, lengths, norms, grad_g = None
    if dim is None:
        seen = b.x[np.newaxis]
        b.axis = 0
    else:
        b.axis = as_axis(b.fn, "dim", dim, cnp.PyArray_NDIM(b.x))
    b.forms[0] = TABLE
    b.forms[1] = RUNS
    g = host_view(b.fn, "g", g)
    lengths = as_vector_lengths(b.fn, "g", g, b.x, seen, b.axis)
    b.given.append(("g", g))
    b.used.append(lengths)
    if norm is not None:
        norm = host_view(b.fn, "norm", norm)
        norms = as_vector_lengths(b.fn, "norm", norm, b.x, seen, b.axis)
        norms = in_dtype(norms, working_dtype(b.call.dtype))
        b.given.append(("norm", norm))
        b.used.append(norms)
        b.call.rstd = cnp.PyArray_DATA(norms)
    b.call.weight = cnp.PyArray_DATA(lengths)
    b.call.format.params = dtype_of(lengths)
    if b.needs & NEED_WEIGHT:
        grad_g = np.empty(
            np.shape(g), np.float64 if b.call.dtype == c.FASTNORM_FLOAT64 else np.float32
        )
        b.call.grad_weight = cnp.PyArray_DATA(grad_g)
    if dim is None:
        b.x = seen
        b.g = b.g[np.newaxis]
        b.y = None if b.y is None else b.y[np.newaxis]
    b.call.run = run_weight_gradient
    return finish_backward(b, lay_out_channels), grad_g
