# _l1_norm.pxi - l1_norm.
# SPDX-License-Identifier: MIT


def l1_norm(
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
    """Division by the sum of magnitudes: those of each sample then add up to 1.

    Parameters
    ----------
    input : array_like, any shape
        As for `l2_norm`.
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
        As for `l2_norm`.

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
    ``y = input / max(norm, eps)`` with ``norm = sum(abs(input))``, which is
    LpNormalization of order 1 in ONNX [1]_. The sum may leave the range of the dtype:
    the result is within a few units in the last place of the exact one all the same.
    Zeros give zeros, also where `eps` is 0.

    References
    ----------
    .. [1] ONNX operators, LpNormalization,
       https://onnx.ai/onnx/operators/onnx__LpNormalization.html

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.array([[1, -3], [0, 0]], dtype=np.float32)
    >>> fastnorm.l1_norm(x)
    array([[ 0.25, -0.75],
           [ 0.  ,  0.  ]], dtype=float32)
    """
    cdef Extras extras = format_extras(
        out_dtype, in_scale, in_zero_point, out_scale, out_zero_point, flush_denormals
    )
    if axis is None:
        raise ValueError("l1_norm: axis is None, an axis is needed")
    return norm_rows(
        "l1_norm", L1_NORM, input, None, None, None, as_eps("l1_norm", eps), out, axis,
        return_norm, num_threads, extras,
    )
