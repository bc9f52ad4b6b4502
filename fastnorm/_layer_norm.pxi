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
):
    """Layer normalization: each sample by its own mean and variance.

    Parameters
    ----------
    input : array_like of float32 or float64, shape (..., *normalized_shape)
        Rows of packed values that lie one constant step apart are read in place (that
        step may be negative); anything else is copied first.
    normalized_shape : int, sequence of int, or None
        The extents of the normalised axes: the trailing ones, or those of `axis`.
        None only with `axis`.
    weight, bias : array_like of input's dtype, shape normalized_shape, optional
        Scale and shift per value; ones and zeros if None. Lists take input's dtype.
    eps : float, default 1e-5
        Added to the variance, inside the square root. At least 0.
    out : ndarray of input's shape and dtype, optional
        Written and returned. May be `input` itself; must not overlap it, or `weight`
        or `bias`, in any other way. Giving it saves the cost of a fresh array, which on
        large arrays is more than that of the norm. An `out` whose rows are not packed
        and one constant step apart is written through a temporary array.
    axis : int or tuple of int, optional
        Normalise these axes, which must be adjacent, in place of the trailing ones: for
        example ``axis=1`` for the channels of ``[N, C, H, W]``, without a transposed
        copy.
    return_stats : bool, default False
        Return the mean and the reciprocal standard deviation as well.
    num_threads : int, optional
        At most this many threads, for this call; see `set_num_threads`.

    Returns
    -------
    y : ndarray of input's shape and dtype
        `out` if given, else a C-contiguous array.
    mean, rstd : ndarray of input's dtype
        Only with ``return_stats=True``, as a tuple ``(y, mean, rstd)``: input's shape
        with 1 for each normalised axis. NaN where the normalised axes are empty.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64 or is not input's, or an argument is
        of the wrong kind. Nothing is cast silently.
    ValueError
        If shapes do not fit, `eps` is negative or not finite, `out` is read-only or
        overlaps. Nothing has been written then.
    RuntimeError
        If the environment variable ``FASTNORM_ISA`` names no usable instruction set.

    Notes
    -----
    ``y = (input - mean) / sqrt(var + eps) * weight + bias`` with the biased variance,
    over the normalised axes of each sample [1]_.

    A sample's result is within a few units in the last place of the exact one for every
    finite input, and has the same bits whatever the batch, the memory layout, the
    number of threads or the instruction set. A constant sample gives exactly the bias.

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

    In place:

    >>> fastnorm.layer_norm(x, 4, out=x) is x
    True
    """
    return norm_rows(
        "layer_norm", False, input, normalized_shape, weight, bias,
        as_eps("layer_norm", eps), out, axis, return_stats, num_threads,
    )
