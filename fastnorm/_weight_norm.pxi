# _weight_norm.pxi - weight_norm.
# SPDX-License-Identifier: MIT


cdef ndarray as_vector_lengths(
    str fn, str name, object g, ndarray x, ndarray seen, int axis
):
    """g as packed values [channels]; `seen` is x, with one channel where dim is None."""
    cdef cnp.npy_intp channels = cnp.PyArray_DIM(seen, axis)
    cdef ndarray a
    cdef int i
    if isinstance(g, (list, tuple, int, float)):
        a = real_list(fn, name, g, dtype_of(x))
    else:
        a = as_base_array(fn, name, g)
    if not mixes(dtype_of(a), dtype_of(x)):
        raise TypeError(
            f"{fn}: {name} has dtype {a.dtype}, {needed_dtypes(dtype_of(x))}"
        )
    shape = [1] * cnp.PyArray_NDIM(x)
    if seen is x:
        shape[axis] = channels
    if np.shape(a) not in ((channels,), tuple(shape)) and not (
        seen is not x and np.shape(a) == ()
    ):
        raise ValueError(
            f"{fn}: {name} has shape {np.shape(a)}, {tuple(shape)} or "
            f"{(channels,) if seen is x else ()} is needed"
        )
    a = a.reshape(-1)
    return a if cnp.PyArray_ISCARRAY_RO(a) else native_copy(a)


def weight_norm(
    v,
    g,
    dim=0,
    *,
    out=None,
    return_norm=False,
    num_threads=None,
    flush_denormals=False,
):
    """Weights from a direction and a length: ``g * v / norm(v)`` along an axis.

    Parameters
    ----------
    v : array_like, any shape
        The direction: float32, float64, float16, bfloat16, int8 or uint8. Memory is
        read in place as by `batch_norm` with `dim` for the channel axis.
    g : array_like
        The lengths, one for each index of `dim`: of v's shape with 1 for every other
        axis, or of one axis. With ``dim=None`` one number, of any such shape or none.
        float64 with float64 `v`, else float32 or a 16-bit float.
    dim : int or None, default 0
        The axis that is kept: the norm is that of all values at one index of it.
        Negative numbers count from the end. None: one norm of everything.
    out : ndarray of v's shape, optional
        Written and returned; may be `v` itself. As for `batch_norm`.
    return_norm : bool, default False
        Return the norm as well.
    num_threads : int, optional
        At most this many threads, for this call; see `set_num_threads`.
    flush_denormals : bool, default False
        Count subnormal numbers as zero, which is faster where there are many.

    Returns
    -------
    w : ndarray of v's shape
        `out` if given, else a C-contiguous array of v's dtype (float32 for int8 and
        uint8).
    norm : ndarray of float32, or float64 for float64 `v`
        Only with ``return_norm=True``, as a tuple ``(w, norm)``: v's shape with 1 for
        every axis but `dim`.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `batch_norm`; nothing has been written then.

    Notes
    -----
    The formula is that of [1]_. Squares may leave the range of the dtype: the result is
    within a few units in the last place of the exact one all the same. Zeros, which
    have no direction, stay zeros.

    References
    ----------
    .. [1] T. Salimans, D. P. Kingma, "Weight Normalization: A Simple Reparameterization
       to Accelerate Training of Deep Neural Networks", 2016, arXiv:1602.07868.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> v = np.array([[3.0, 4.0], [0.0, 0.5]])
    >>> fastnorm.weight_norm(v, [10.0, 1.0])
    array([[6., 8.],
           [0., 1.]])
    >>> fastnorm.weight_norm(v, [[5.0, 1.0]], dim=1, return_norm=True)[1].round(2)
    array([[3.  , 4.03]])
    """
    cdef str fn = "weight_norm"
    cdef ChannelCall call
    cdef ndarray x = as_input(fn, "v", v), seen = x, norm = None, written, lengths
    cdef c.fastnorm_dtype dtype = default_output(dtype_of(x))
    cdef int axis = 0
    cdef ndarray y
    v = host_view(fn, "v", v)
    cdef bint direct = x is v
    if dim is None:
        seen = x[np.newaxis]
        v = v[np.newaxis] if isinstance(v, ndarray) else v
    else:
        axis = as_axis(fn, "dim", dim, cnp.PyArray_NDIM(x))
    begin_channels(&call, BATCH, fn, seen, axis, 0.0, num_threads)
    call.variant = LENGTH
    call.norm.training = True
    call.norm.exec_.flush_denormals = bool(flush_denormals)
    lengths = as_vector_lengths(fn, "g", g, x, seen, axis)
    call.norm.weight = cnp.PyArray_DATA(lengths)
    call.norm.format.params = dtype_of(lengths)
    if return_norm:
        shape = [1] * cnp.PyArray_NDIM(seen)
        shape[axis] = np.shape(seen)[axis]
        norm = np.zeros(
            shape, np.float64 if dtype == c.FASTNORM_FLOAT64 else np.float32
        )
        call.norm.rstd = cnp.PyArray_DATA(norm)
        if dim is None:
            norm = norm[0]
    y = as_output_of(fn, out, x, dtype)
    written = y if dim is not None else y[np.newaxis]
    norm_channels(
        &call, fn, seen, written, None, axis, None if out is None else written,
        (("v", v), ("g", g)),
        direct and lengths is g and (out is None or y is out),
    )
    result = y if out is None else out
    return (result, norm) if return_norm else result
