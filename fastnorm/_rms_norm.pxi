# _rms_norm.pxi - rms_norm.
# SPDX-License-Identifier: MIT


cdef str plain_mode = "plain"  # one object with the default below


def rms_norm(
    input,
    normalized_shape,
    weight=None,
    eps=None,
    *,
    out=None,
    axis=None,
    return_stats=False,
    num_threads=None,
    residual=None,
    residual_bias=None,
    residual_out=None,
    post_add=None,
    activation=None,
    out_dtype=None,
    in_scale=None,
    in_zero_point=None,
    out_scale=None,
    out_zero_point=None,
    mode="plain",
    flush_denormals=False,
):
    """Root-mean-square normalization: each sample by its own root mean square.

    Parameters
    ----------
    input : array_like, shape (..., *normalized_shape)
        Of float32, float64, float16, bfloat16, int8 or uint8; as for `layer_norm`.
    normalized_shape : int, sequence of int, or None
        The extents of the normalised axes: the trailing ones, or those of `axis`.
        None only with `axis`.
    weight : array_like, shape normalized_shape, optional
        Scale per value; ones if None. Dtypes as for `layer_norm`.
    eps : float, optional
        Added to the mean square, inside the square root. At least 0. None is the
        machine epsilon of the arithmetic: ``2**-52`` for float64, else ``2**-23``.
    out : array of input's shape, optional
        Written and returned; may be `input` itself. As for `layer_norm`.
    axis : int or tuple of int, optional
        Normalise these axes, which must be adjacent, in place of the trailing ones.
    return_stats : bool, default False
        Return the reciprocal root mean square as well.
    num_threads : int, optional
        At most this many threads, for this call; see `set_num_threads`.
    residual, residual_bias, residual_out, post_add, activation, out_dtype, in_scale, \
in_zero_point, out_scale, out_zero_point, flush_denormals
        As for `layer_norm`.
    mode : {"plain", "cast_before_weight", "one_plus_weight"}
        "plain" rounds once, at the end. "cast_before_weight" rounds the normalised
        values to input's dtype before the weight, as LLaMA and T5 do on 16-bit data.
        "one_plus_weight" multiplies by ``1 + weight``, as Gemma does.

    Returns
    -------
    y : ndarray of input's shape
        `out` if given, else a C-contiguous array of `out_dtype` or of input's dtype
        (float32 for int8 and uint8).
    scale : ndarray of float32
        Only for an int8 or uint8 `out_dtype` without `out_scale`, after y.
    rstd : ndarray of float32, or float64 for float64 input
        Only with ``return_stats=True``, last: input's shape with 1 for each normalised
        axis. NaN where the normalised axes are empty.

    Raises
    ------
    TypeError, ValueError, ImportError, RuntimeError
        As for `layer_norm`; nothing has been written then.

    Notes
    -----
    ``y = input / sqrt(mean(input**2) + eps) * weight`` over the normalised axes of each
    sample [1]_. A sample's result is within a few units in the last place of the exact
    one for every finite input, and has the same bits whatever the batch, the memory
    layout, the number of threads or the instruction set. Zeros give zeros.

    References
    ----------
    .. [1] B. Zhang, R. Sennrich, "Root Mean Square Layer Normalization", 2019,
       arXiv:1910.07467.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.array([[3, -3, 3, -3], [0, 0, 0, 8]], dtype=np.float32)
    >>> fastnorm.rms_norm(x, 4).round(3)
    array([[ 1., -1.,  1., -1.],
           [ 0.,  0.,  0.,  2.]], dtype=float32)

    With a result of 8 bits and a scale for each row:

    >>> y, scale = fastnorm.rms_norm(x, 4, out_dtype=np.int8)
    >>> y
    array([[ 127, -127,  127, -127],
           [   0,    0,    0,  127]], dtype=int8)
    >>> (scale * 127).round(3)
    array([[1.],
           [2.]], dtype=float32)
    """
    cdef Extras extras = None
    if (
        residual is not None
        or residual_bias is not None
        or residual_out is not None
        or post_add is not None
        or activation is not None
        or out_dtype is not None
        or in_scale is not None
        or in_zero_point is not None
        or out_scale is not None
        or out_zero_point is not None
        or mode is not plain_mode
        or flush_denormals
    ):
        extras = Extras.__new__(Extras)
        extras.residual = residual
        extras.residual_bias = residual_bias
        extras.residual_out = residual_out
        extras.post_add = post_add
        extras.activation = activation
        extras.out_dtype = out_dtype
        extras.in_scale = in_scale
        extras.in_zero_point = in_zero_point
        extras.out_scale = out_scale
        extras.out_zero_point = out_zero_point
        extras.mode = mode
        extras.flush_denormals = flush_denormals
    return norm_rows(
        "rms_norm", RMS_NORM, input, normalized_shape, weight, None,
        0.0 if eps is None else as_eps("rms_norm", eps), out, axis, return_stats,
        num_threads, extras,
    )
