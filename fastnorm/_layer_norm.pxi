# _layer_norm.pxi - layer_norm.
# SPDX-License-Identifier: MIT


def layer_norm(
    input,
    normalized_shape,
    weight=None,
    bias=None,
    eps=1e-5,
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
    mean=None,
    var=None,
    flush_denormals=False,
    lengths=None,
    masked="zero",
):
    """Layer normalization: each sample by its own mean and variance.

    Parameters
    ----------
    input : array_like, shape (..., *normalized_shape)
        Of float32, float64, float16, bfloat16 (the dtype of ml_dtypes), int8 or uint8:
        an array, a buffer, or a DLPack object in the memory of the CPU, which is read
        where it is. Rows of packed values that lie one constant step apart are read in
        place (that step may be negative); anything else is copied first.
    normalized_shape : int, sequence of int, or None
        The extents of the normalised axes: the trailing ones, or those of `axis`.
        None only with `axis`.
    weight, bias : array_like, shape normalized_shape, optional
        Scale and shift per value; ones and zeros if None. float64 for float64 input;
        float32, float16 or bfloat16 for all others, and widened exactly. Lists are
        taken as float32, or float64 for float64 input.
    eps : float, default 1e-5
        Added to the variance, inside the square root. At least 0.
    out : array of input's shape, optional
        Written and returned: an ndarray, a writable buffer or a DLPack object, of
        `out_dtype` or else of the dtype of `y` below. May be `input` itself; must not
        overlap another array of the call in any other way. Giving it saves the cost of
        a fresh array, which on large arrays is more than that of the norm. An `out`
        whose rows are not packed and one constant step apart is written through a
        temporary array.
    axis : int or tuple of int, optional
        Normalise these axes, which must be adjacent, in place of the trailing ones: for
        example ``axis=1`` for the channels of ``[N, C, H, W]``, without a transposed
        copy.
    return_stats : bool, default False
        Return the mean and the reciprocal standard deviation as well.
    num_threads : int, optional
        At most this many threads, for this call; see `set_num_threads`.
    residual : array_like of input's shape, optional
        Added before the norm: ``input + residual + residual_bias``, in float32 (float64
        for float64 input), is what is normalised. Dtypes as for `weight`. Only where
        the normalised axes are the last ones.
    residual_bias : array_like, shape normalized_shape, optional
        Added with the residual. Dtypes as for `weight`.
    residual_out : array of input's shape and residual's dtype, optional
        Receives that sum, rounded; the statistics are those of the sum before rounding.
        May be `residual` itself. Otherwise as `out`.
    post_add : array_like of input's shape, optional
        Added after weight and bias, before the activation. Dtypes as for `weight`.
    activation : str or tuple, optional
        Applied last: "relu", "leaky_relu" (slope 0.01), "relu6", "gelu", "gelu_tanh",
        "silu", "sigmoid", "tanh", "hardswish", ``("leaky_relu", slope)`` or
        ``("clamp", low, high)``.
    out_dtype : dtype, optional
        The dtype of the result: any of input's, but that float64 goes with float64
        only. "bfloat16" by name needs the package ml_dtypes.
    in_scale, in_zero_point : number, optional
        What int8 and uint8 input stands for: ``(input - in_zero_point) * in_scale``; 1
        and 0 if None.
    out_scale, out_zero_point : number, optional
        int8 and uint8 results are ``round(y / out_scale) + out_zero_point``, to nearest
        even, limited to the range of the type; NaN becomes the zero point. Without
        `out_scale` each row gets a scale of its own, which is returned; then the
        normalised axes must be the last ones.
    mean, var : array_like, optional
        Normalise by these statistics and not by those of `input`: input's shape with 1
        for each normalised axis. Both or neither.
    flush_denormals : bool, default False
        Subnormal numbers count as zero during this call, on all its threads.
    lengths : array_like of int, optional
        Of the shape of the axes before the normalised ones: of sample ``i`` only the
        first ``lengths[i]`` entries of the first normalised axis take part, with the
        bits that they have alone. The others are in no statistics, whatever they hold.
        Not with `residual`, `mean` and `var`, or scales that are returned.
    masked : {"zero", "keep"}, default "zero"
        What stands in the result behind `lengths`: zero, also after `post_add` and
        `activation` (the zero point of int8 and uint8), or input's own value.

    Returns
    -------
    y : ndarray of input's shape
        `out` if given, else a C-contiguous array of `out_dtype` or of input's dtype
        (float32 for int8 and uint8).
    scale : ndarray of float32
        Only for an int8 or uint8 `out_dtype` without `out_scale`, after y: input's
        shape with 1 for each normalised axis. The largest magnitude of the row over
        127; 1 for a row of zeros.
    mean, rstd : ndarray of float32, or float64 for float64 input
        Only with ``return_stats=True``, last: input's shape with 1 for each normalised
        axis. NaN where the normalised axes are empty, 0 where a length is.

    Raises
    ------
    TypeError
        If a dtype does not go with input's, an array is not in the memory of the CPU,
        or an argument is of the wrong kind. Nothing is cast silently.
    ValueError
        If shapes do not fit, a number is out of range, an activation is unknown, an
        output is read-only or overlaps. Nothing has been written then.
    ImportError
        If a bfloat16 array has to be made and the package ml_dtypes is missing.
    RuntimeError
        If the environment variable ``FASTNORM_ISA`` names no usable instruction set.

    Notes
    -----
    ``y = (input - mean) / sqrt(var + eps) * weight + bias`` with the biased variance,
    over the normalised axes of each sample [1]_.

    A sample's result is within a few units in the last place of the exact one for every
    finite input, and has the same bits whatever the batch, the memory layout, the
    number of threads or the instruction set. A constant sample gives exactly the bias.
    16-bit and 8-bit data are worked on in float32 and rounded once, where they are
    stored.

    References
    ----------
    .. [1] J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016,
       arXiv:1607.06450.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.array([[1, 2, 3, 4], [5, 5, 5, 5]], dtype=np.float32)
    >>> fastnorm.layer_norm(x, 4, bias=np.ones(4, np.float32)).round(3)
    array([[-0.342,  0.553,  1.447,  2.342],
           [ 1.   ,  1.   ,  1.   ,  1.   ]], dtype=float32)

    Residual, norm and activation in one pass, the sum kept for the next block:

    >>> stream = np.array([[1, 0, 0, 0], [0, 0, 0, 2]], dtype=np.float32)
    >>> y = fastnorm.layer_norm(
    ...     x, 4, residual=stream, residual_out=stream, activation="relu"
    ... )
    >>> y.round(3)
    array([[0.   , 0.   , 0.302, 1.508],
           [0.   , 0.   , 0.   , 1.732]], dtype=float32)
    >>> stream
    array([[2., 2., 3., 4.],
           [5., 5., 5., 7.]], dtype=float32)

    In place:

    >>> fastnorm.layer_norm(x, 4, out=x) is x
    True
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
        or mean is not None
        or var is not None
        or flush_denormals
        or lengths is not None
        or masked != "zero"
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
        extras.mean = mean
        extras.var = var
        extras.flush_denormals = flush_denormals
        extras.lengths = lengths
        extras.masked = masked
    return norm_rows(
        "layer_norm", LAYER_NORM, input, normalized_shape, weight, bias,
        as_eps("layer_norm", eps), out, axis, return_stats, num_threads, extras,
    )
