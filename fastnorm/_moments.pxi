# _moments.pxi - moments and merge_moments.
# SPDX-License-Identifier: MIT


Moments = namedtuple("Moments", ("mean", "var"), module="fastnorm")
Moments.__doc__ = """Mean and variance, float64: what `moments` returns.

Attributes
----------
mean, var : ndarray of float64
    0-d where all axes were reduced and not kept.
"""

MomentsState = namedtuple("MomentsState", ("count", "mean", "m2"), module="fastnorm")
MomentsState.__doc__ = """Moments that can be merged with others, see `merge_moments`.

Attributes
----------
count : int
    How many values each mean is of.
mean : ndarray of float64
m2 : ndarray of float64
    The sum of squared deviations from the mean.
"""


def moments(
    input,
    axis=None,
    *,
    ddof=0,
    keepdims=False,
    return_state=False,
    num_threads=None,
    in_scale=None,
    in_zero_point=None,
    flush_denormals=False,
    mask=None,
    lengths=None,
):
    """Mean and variance over any axes, in float64.

    Parameters
    ----------
    input : array_like
        float32, float64, float16, bfloat16, int8 or uint8. Read in place whatever the
        order of its axes in memory, as long as the reduced axes and the others form at
        most four alternating blocks, each of one constant step and the innermost packed
        (trailing axes, leading axes, all but the channels of ``[N, C, H, W]`` and so
        on); other patterns are copied first.
    axis : int or tuple of int, optional
        The axes to reduce; None reduces all.
    ddof : int, default 0
        The variance is divided by ``count - ddof``: 0 is the biased, 1 the unbiased.
    keepdims : bool, default False
        Keep the reduced axes, with extent 1.
    return_state : bool, default False
        Return what `merge_moments` can merge; `ddof` is then not used and must be 0.
    num_threads : int, optional
        At most this many threads, for this call; see `set_num_threads`.
    in_scale, in_zero_point : float and int, optional
        An int8 or uint8 element of `input` stands for ``(element - in_zero_point) *
        in_scale``, rounded to float32; 1 and 0 if None.
    flush_denormals : bool, default False
        Count subnormal numbers as zero, which is faster where there are many.
    mask : array_like of bool, float32 or float64, optional
        Broadcastable to input's shape: what is False takes no part, whatever it holds,
        NaN and Inf too. Numbers are weights, and their sum stands for the count.
    lengths : array_like of int, shape (N,), optional
        In place of `mask`: of entry n of the first axis only the first ``lengths[n]``
        positions along the first other axis that is reduced take part.

    Returns
    -------
    Moments
        The named tuple ``(mean, var)``, float64 whatever input's dtype. NaN where there
        are no values, and for the variance where there are not more than `ddof`.
    MomentsState
        With ``return_state=True`` the named tuple ``(count, mean, m2)``; mean and m2
        are 0 where there are no values.

    Raises
    ------
    TypeError
        If the dtype is none of those above, or an argument is of the wrong kind.
    ValueError
        If an axis does not exist or is named twice, `ddof` is negative, or quantization
        parameters are given where they have no use.
    RuntimeError
        If the environment variable ``FASTNORM_ISA`` names no usable instruction set.

    Notes
    -----
    Chunks are reduced by two passes and merged by the formulae of [1]_; no sum of
    squares is subtracted from another. The result has the same bits whatever the number
    of threads or the instruction set. Values are taken in the order of memory, so that
    the last bits of a transposed array may differ from those of its copy.

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise
       algorithm for computing sample variances", 1979, Stanford STAN-CS-79-773.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.array([[1, 2], [3, 6]], dtype=np.float32)
    >>> fastnorm.moments(x, axis=0)
    Moments(mean=array([2., 4.]), var=array([1., 4.]))
    """
    cdef ndarray x = as_input("moments", "input", input)
    cdef int nd = cnp.PyArray_NDIM(x)
    cdef c.fastnorm_moments_args options
    memset(&options, 0, sizeof(options))
    options.size = sizeof(options)
    options.dtype = dtype_of(x)
    options.exec_.num_threads = as_num_threads("moments", num_threads)
    options.exec_.flush_denormals = bool(flush_denormals)
    if in_scale is not None or in_zero_point is not None:
        if not is_byte(options.dtype):
            raise ValueError(
                "moments: in_scale and in_zero_point are for int8 and uint8, "
                f"input has dtype {x.dtype}"
            )
        read_quantization(
            "moments", "in", in_scale, in_zero_point, options.dtype,
            &options.x_quantization,
        )
    axes = list(range(nd)) if axis is None else as_axes("moments", axis, nd)
    dof = as_index("moments", "ddof", ddof)
    if dof < 0:
        raise ValueError(f"moments: ddof is {dof}, at least 0 is needed")
    if return_state and dof != 0:
        raise ValueError("moments: ddof has no use with return_state=True")
    taking_part = moments_mask(mask, lengths, x, axes)
    count, mean, m2 = moments_of(&options, x, axes, taking_part)
    if return_state and taking_part is not None:
        count = common_count(count, taking_part, axes)
    if not keepdims:
        mean = mean.squeeze(tuple(axes))
        m2 = m2.squeeze(tuple(axes))
    if return_state:
        if count == 0:
            mean.fill(0.0)
            m2.fill(0.0)
        return MomentsState(count, mean, m2)
    if taking_part is not None:
        count = count.reshape(mean.shape)
        mean[count == 0] = NAN
        m2 /= np.where(count > dof, count - dof, NAN)
    elif count > dof:
        m2 /= count - dof
    else:
        m2.fill(NAN)
    return Moments(mean, m2)


cdef tuple as_state(str name, object value):
    if not isinstance(value, MomentsState):
        raise TypeError(
            f"merge_moments: {name} is {type(value).__name__}, a MomentsState is needed"
        )
    count = as_index("merge_moments", f"{name}.count", value.count)
    if not 0 <= count <= UINT64_MAX:
        raise ValueError(
            f"merge_moments: {name}.count is {count}, not from 0 to 2**64-1"
        )
    arrays = []
    for part in ("mean", "m2"):
        array = as_base_array("merge_moments", f"{name}.{part}", getattr(value, part))
        if array.dtype != np.float64:
            raise TypeError(
                f"merge_moments: {name}.{part} has dtype {array.dtype}, "
                "float64 is needed"
            )
        arrays.append(np.array(array, dtype=np.float64, order="C"))
    if arrays[0].shape != arrays[1].shape:
        raise ValueError(
            f"merge_moments: {name}.mean has shape {arrays[0].shape}, "
            f"{name}.m2 has {arrays[1].shape}"
        )
    return count, arrays[0], arrays[1]


def merge_moments(a, b):
    """The moments of two sets of values together, from those of each.

    Parameters
    ----------
    a, b : MomentsState
        From `moments` with ``return_state=True``, or from this function; of one shape.
        A set with a count of 0 takes no part, whatever its mean and m2 hold.

    Returns
    -------
    MomentsState
        New arrays; `a` and `b` are unchanged.

    Raises
    ------
    TypeError
        If `a` or `b` is not a MomentsState of float64 arrays.
    ValueError
        If the shapes differ, a count is negative, or their sum is beyond ``2**64 - 1``.

    Notes
    -----
    The formulae are those of [1]_.

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise
       algorithm for computing sample variances", 1979, Stanford STAN-CS-79-773.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> x = np.arange(6.0)
    >>> a = fastnorm.moments(x[:2], return_state=True)
    >>> b = fastnorm.moments(x[2:], return_state=True)
    >>> merged = fastnorm.merge_moments(a, b)
    >>> merged.count, float(merged.mean), float(merged.m2)
    (6, 2.5, 17.5)
    """
    cdef uint64_t count
    cdef ndarray mean, m2, other_mean, other_m2
    first, mean, m2 = as_state("a", a)
    second, other_mean, other_m2 = as_state("b", b)
    if not has_shape(other_mean, cnp.PyArray_NDIM(mean), cnp.PyArray_DIMS(mean)):
        raise ValueError(
            f"merge_moments: a has shape {np.shape(mean)}, b has {np.shape(other_mean)}"
        )
    if first + second > UINT64_MAX:
        raise ValueError("merge_moments: the counts add up to more than 2**64-1")
    count = first
    check_status(
        "merge_moments",
        c.fastnorm_moments_merge(
            cnp.PyArray_SIZE(mean),
            &count,
            <double *>cnp.PyArray_DATA(mean),
            <double *>cnp.PyArray_DATA(m2),
            second,
            <const double *>cnp.PyArray_DATA(other_mean),
            <const double *>cnp.PyArray_DATA(other_m2),
        ),
    )
    return MomentsState(first + second, mean, m2)
