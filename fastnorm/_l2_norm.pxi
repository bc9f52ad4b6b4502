# _l2_norm.pxi - l2_norm and normalize.
# SPDX-License-Identifier: MIT


def l2_norm(
    input,
    axis=-1,
    eps=1e-12,
    *,
    out=None,
    return_norm=False,
    num_threads=None,
    out_dtype=None,
    in_scale=None,
    in_zero_point=None,
    out_scale=None,
    out_zero_point=None,
    flush_denormals=False,
):
    """Division by the Euclidean norm: each sample becomes a vector of length 1.

    Parameters
    ----------
    input : array_like, any shape
        Of float32, float64, float16, bfloat16, int8 or uint8. Rows of packed values
        that lie one constant step apart are read in place; anything else is copied
        first.
    axis : int or tuple of int, default -1
        The axes that are normalised together, which must be adjacent.
    eps : float, default 1e-12
        The least norm that is divided by. At least 0.
    out : array of input's shape, optional
        Written and returned; may be `input` itself. As for `layer_norm`.
    return_norm : bool, default False
        Return the norm as well.
    num_threads : int, optional
        At most this many threads, for this call; see `set_num_threads`.
    out_dtype, in_scale, in_zero_point, out_scale, out_zero_point, flush_denormals
        As for `layer_norm`; int8 and uint8 results need `out_scale`.

    Returns
    -------
    y : ndarray of input's shape
        `out` if given, else a C-contiguous array of `out_dtype` or input's dtype
        (float32 for int8 and uint8).
    norm : ndarray of float32, or float64 for float64 input
        Only with ``return_norm=True``, as a tuple ``(y, norm)``: input's shape with 1
        for each normalised axis.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `layer_norm`; nothing has been written then.

    Notes
    -----
    ``y = input / max(norm, eps)`` with ``norm = sqrt(sum(input**2))`` [1]_. The squares
    may leave the range of the dtype: the result is within a few units in the last place
    of the exact one all the same. Zeros give zeros, also where `eps` is 0.

    References
    ----------
    .. [1] W. Liu, A. Rabinovich, A. C. Berg, "ParseNet: Looking Wider to See Better",
       2015, arXiv:1506.04579 (L2 norm as a layer).

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.array([[3, 4], [0, 0]], dtype=np.float32)
    >>> fastnorm.l2_norm(x)
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    cdef Extras extras = format_extras(
        out_dtype, in_scale, in_zero_point, out_scale, out_zero_point, flush_denormals
    )
    if axis is None:
        raise ValueError("l2_norm: axis is None, an axis is needed")
    return norm_rows(
        "l2_norm", L2_NORM, input, None, None, None, as_eps("l2_norm", eps), out, axis,
        return_norm, num_threads, extras,
    )


def normalize(
    input,
    p=2.0,
    dim=1,
    eps=1e-12,
    *,
    out=None,
    num_threads=None,
    out_dtype=None,
    in_scale=None,
    in_zero_point=None,
    out_scale=None,
    out_zero_point=None,
    flush_denormals=False,
):
    """`l2_norm` or `l1_norm`, with the signature of ``torch.nn.functional.normalize``.

    Parameters
    ----------
    input : array_like, any shape
        As for `l2_norm`.
    p : float, default 2.0
        The exponent of the norm: 1 (see `l1_norm`) or 2.
    dim : int, default 1
        The axis along which the norm is taken.
    eps : float, default 1e-12
        The least norm that is divided by. At least 0.
    out, num_threads, out_dtype, in_scale, in_zero_point, out_scale, out_zero_point, \
flush_denormals
        As for `l2_norm`.

    Returns
    -------
    y : ndarray of input's shape
        `out` if given, else a C-contiguous array of `out_dtype` or input's dtype
        (float32 for int8 and uint8).

    Raises
    ------
    ValueError
        If `p` is neither 1 nor 2 or `dim` is not an axis.
    TypeError, ValueError, RuntimeError
        As for `layer_norm`; nothing has been written then.

    Notes
    -----
    ``y = input / max(norm, eps)`` along `dim`, for the L2 norm as in [1]_. Where `eps` is 0, zeros give zeros
    and not NaN.

    References
    ----------
    .. [1] W. Liu, A. Rabinovich, A. C. Berg, "ParseNet: Looking Wider to See Better",
       2015, arXiv:1506.04579 (L2 norm as a layer).

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> fastnorm.normalize(np.array([[3.0, 0.0], [4.0, 0.5]]), dim=0)
    array([[0.6, 0. ],
           [0.8, 1. ]])
    """
    cdef Extras extras = format_extras(
        out_dtype, in_scale, in_zero_point, out_scale, out_zero_point, flush_denormals
    )
    cdef double exponent = as_number("normalize", "p", p)
    if exponent != 1.0 and exponent != 2.0:
        raise ValueError(f"normalize: p is {p}, only 1 and 2 are supported")
    input = host_view("normalize", "input", input)
    cdef ndarray x = as_input("normalize", "input", input)
    if not isinstance(input, ndarray):
        input = x
    return norm_rows(
        "normalize", L1_NORM if exponent == 1.0 else L2_NORM, input, None, None, None,
        as_eps("normalize", eps), out,
        as_axis("normalize", "dim", dim, cnp.PyArray_NDIM(x)), False, num_threads,
        extras,
    )


cdef Extras format_extras(
    object out_dtype, object in_scale, object in_zero_point, object out_scale,
    object out_zero_point, object flush_denormals,
):
    """None where nothing is asked for."""
    cdef Extras extras
    if (
        out_dtype is None
        and in_scale is None
        and in_zero_point is None
        and out_scale is None
        and out_zero_point is None
        and not flush_denormals
    ):
        return None
    extras = Extras.__new__(Extras)
    extras.out_dtype = out_dtype
    extras.in_scale = in_scale
    extras.in_zero_point = in_zero_point
    extras.out_scale = out_scale
    extras.out_zero_point = out_zero_point
    extras.flush_denormals = flush_denormals
    return extras
