# _rms_norm.pxi - rms_norm.
# SPDX-License-Identifier: MIT


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
):
    """Root-mean-square normalization: each sample by its own root mean square.

    Parameters
    ----------
    input : array_like of float32 or float64, shape (..., *normalized_shape)
        Rows of packed values that lie one constant step apart are read in place (that
        step may be negative); anything else is copied first.
    normalized_shape : int, sequence of int, or None
        The extents of the normalised axes: the trailing ones, or those of `axis`.
        None only with `axis`.
    weight : array_like of input's dtype, shape normalized_shape, optional
        Scale per value; ones if None. A list takes input's dtype.
    eps : float, optional
        Added to the mean square, inside the square root. At least 0. None is the
        machine epsilon of input's dtype: ``2**-23`` or ``2**-52``.
    out : ndarray of input's shape and dtype, optional
        Written and returned; may be `input` itself. As for `layer_norm`.
    axis : int or tuple of int, optional
        Normalise these axes, which must be adjacent, in place of the trailing ones.
    return_stats : bool, default False
        Return the reciprocal root mean square as well.
    num_threads : int, optional
        At most this many threads, for this call; see `set_num_threads`.

    Returns
    -------
    y : ndarray of input's shape and dtype
        `out` if given, else a C-contiguous array.
    rstd : ndarray of input's dtype
        Only with ``return_stats=True``, as a tuple ``(y, rstd)``: input's shape with 1
        for each normalised axis. NaN where the normalised axes are empty.

    Raises
    ------
    TypeError, ValueError, RuntimeError
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
    """
    return norm_rows(
        "rms_norm", True, input, normalized_shape, weight, None,
        0.0 if eps is None else as_eps("rms_norm", eps), out, axis, return_stats,
        num_threads,
    )
