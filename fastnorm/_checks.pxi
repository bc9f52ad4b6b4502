# _checks.pxi - from Python objects to arrays and numbers that the C API can take.
# SPDX-License-Identifier: MIT
#
# Every function takes the names of the public function and of the argument, because
# every error says both. What is in order already passes without a Python call.


cdef inline ndarray fresh_like(ndarray a):
    """An uninitialised C-contiguous array of a's shape and dtype."""
    return cnp.PyArray_EMPTY(
        cnp.PyArray_NDIM(a), cnp.PyArray_DIMS(a), cnp.PyArray_TYPE(a), 0
    )


cdef ndarray native_copy(ndarray a):
    """A C-contiguous, aligned copy in native byte order."""
    return np.array(a, dtype=a.dtype.newbyteorder("="), order="C", copy=True)


cdef int refuse_masked(str fn, str name, object value) except -1:
    # No masked array can exist before its module is loaded; loading it costs time.
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(value, masked.MaskedArray):
        raise TypeError(
            f"{fn}: {name} is a masked array, a plain array is needed "
            "(masked values would enter the statistics)"
        )
    return 0


cdef ndarray as_base_array(str fn, str name, object value):
    """An exact ndarray of whatever dtype, sharing memory where that can be."""
    if cnp.PyArray_CheckExact(value):
        return value
    refuse_masked(fn, name, value)
    if not isinstance(value, ndarray) and hasattr(value, "__dlpack__"):
        return from_dlpack(fn, name, value, False)
    try:
        return np.asarray(value)
    except (TypeError, BufferError) as error:
        raise TypeError(f"{fn}: {name} is not an array: {error}") from error
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{fn}: {name} is not an array: {error}") from error


cdef inline object host_view(str fn, str name, object value):
    """value as an exact ndarray on the caller's memory; lists and None as they are."""
    if cnp.PyArray_CheckExact(value) or value is None:
        return value
    return host_view_slow(fn, name, value)


cdef object host_view_slow(str fn, str name, object value):
    if isinstance(value, (list, tuple)):
        return value
    return as_base_array(fn, name, value)


cdef ndarray as_input(str fn, str name, object value):
    """value in one of the dtypes of the C API, native and aligned, of any strides."""
    if (
        cnp.PyArray_CheckExact(value)
        and dtype_of(<ndarray>value) != c.FASTNORM_DEFAULT
        and cnp.PyArray_ISBEHAVED_RO(<ndarray>value)
        and cnp.PyArray_NDIM(<ndarray>value) > 0
    ):
        return <ndarray>value
    cdef ndarray a = as_base_array(fn, name, value)
    if dtype_of(a) == c.FASTNORM_DEFAULT:
        raise TypeError(f"{fn}: {name} has dtype {a.dtype}, not {DTYPE_NAMES}")
    if cnp.PyArray_NDIM(a) == 0:
        raise ValueError(f"{fn}: {name} is 0-d, at least one axis is needed")
    if not cnp.PyArray_ISBEHAVED_RO(a):
        return native_copy(a)
    return a


cdef bint has_shape(ndarray a, int nd, const cnp.npy_intp *shape) noexcept:
    cdef int i
    if cnp.PyArray_NDIM(a) != nd:
        return False
    for i in range(nd):
        if cnp.PyArray_DIM(a, i) != shape[i]:
            return False
    return True


cdef tuple shape_tuple(int nd, const cnp.npy_intp *shape):
    return tuple([shape[i] for i in range(nd)])


cdef int check_parameter_shape(
    str fn, str name, ndarray a, int nd, const cnp.npy_intp *shape, str whose
) except -1:
    cdef cnp.npy_intp wanted = 1
    cdef int i
    if has_shape(a, nd, shape):
        return 0
    for i in range(nd):
        wanted *= shape[i]
    if cnp.PyArray_SIZE(a) != wanted:
        raise ValueError(
            f"{fn}: {name} has {cnp.PyArray_SIZE(a)} values, {whose} needs {wanted}"
        )
    raise ValueError(
        f"{fn}: {name} has shape {np.shape(a)}, {whose} needs {shape_tuple(nd, shape)}"
    )


cdef ndarray as_parameter(
    str fn, str name, object value, ndarray x, int nd, const cnp.npy_intp *shape,
    str whose,
):
    """value as packed values of exactly this shape, of a dtype that mixes with x's."""
    cdef c.fastnorm_dtype dtype = dtype_of(x)
    cdef ndarray a
    if (
        cnp.PyArray_CheckExact(value)
        and mixes(dtype_of(<ndarray>value), dtype)
        and cnp.PyArray_ISCARRAY_RO(<ndarray>value)
        and has_shape(<ndarray>value, nd, shape)
    ):
        return <ndarray>value
    if isinstance(value, (list, tuple)):
        a = real_list(fn, name, value, dtype)
    else:
        a = as_base_array(fn, name, value)
    if not mixes(dtype_of(a), dtype):
        raise TypeError(f"{fn}: {name} has dtype {a.dtype}, {needed_dtypes(dtype)}")
    check_parameter_shape(fn, name, a, nd, shape, whose)
    if not cnp.PyArray_ISCARRAY_RO(a):
        return native_copy(a)
    return a


cdef ndarray as_written(str fn, str name, object value):
    """value as an array that a call may write, of whatever dtype: never a copy."""
    cdef ndarray a
    if isinstance(value, ndarray):
        a = as_base_array(fn, name, value)
    elif hasattr(value, "__dlpack__"):
        a = from_dlpack(fn, name, value, True)
    elif PyObject_CheckBuffer(value) or hasattr(value, "__array_interface__"):
        a = as_base_array(fn, name, value)
    else:
        raise TypeError(
            f"{fn}: {name} is {type(value).__name__}, "
            "an ndarray, a buffer or a DLPack object is needed"
        )
    if not cnp.PyArray_ISWRITEABLE(a):
        raise ValueError(f"{fn}: {name} is read-only")
    if not cnp.PyArray_ISNOTSWAPPED(a):
        raise ValueError(f"{fn}: {name} is not in native byte order")
    if not cnp.PyArray_ISALIGNED(a):
        raise ValueError(f"{fn}: {name} is not aligned to its elements")
    return a


cdef inline ndarray as_output_of(
    str fn, object out, ndarray x, c.fastnorm_dtype dtype
):
    """out, checked, as an exact ndarray; a fresh array if out is None."""
    if out is None:
        return fresh_of(fn, x, dtype)
    if (
        cnp.PyArray_CheckExact(out)
        and dtype_of(<ndarray>out) == dtype
        and cnp.PyArray_ISBEHAVED(<ndarray>out)
        and has_shape(<ndarray>out, cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x))
    ):
        return <ndarray>out
    return as_output_slow(fn, out, x, dtype)


cdef ndarray as_output_slow(str fn, object out, ndarray x, c.fastnorm_dtype dtype):
    cdef ndarray y = as_written(fn, "out", out)
    if dtype_of(y) != dtype:
        whose = "input's" if dtype == dtype_of(x) else "the result's"
        raise TypeError(
            f"{fn}: out has dtype {y.dtype}, {whose} {dtype_names[dtype]} is needed"
        )
    if not has_shape(y, cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x)):
        raise ValueError(
            f"{fn}: out has shape {np.shape(y)}, input's {np.shape(x)} is needed"
        )
    return y


cdef double as_number(str fn, str name, object value) except? -1.0:
    if PyFloat_CheckExact(value):
        return PyFloat_AS_DOUBLE(value)
    try:
        return PyFloat_AsDouble(value)
    except TypeError:
        raise TypeError(
            f"{fn}: {name} is {type(value).__name__}, a real number is needed"
        ) from None


cdef double as_eps(str fn, object value) except? -1.0:
    """The C API's eps: its zero means the default, so a true zero has its own name."""
    cdef double eps = as_number(fn, "eps", value)
    if not (0.0 <= eps < INFINITY):
        raise ValueError(f"{fn}: eps is {eps}, a finite number >= 0 is needed")
    return c.FASTNORM_EPS_ZERO if eps == 0.0 else eps


cdef object as_index(str fn, str name, object value):
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(
            f"{fn}: {name} is {type(value).__name__}, an integer is needed"
        ) from None


cdef int as_num_threads(str fn, object value) except -1:
    """0, the process-wide number, for None."""
    if value is None:
        return 0
    count = as_index(fn, "num_threads", value)
    if not 1 <= count <= INT_MAX:
        raise ValueError(f"{fn}: num_threads is {count}, at least 1 is needed")
    return count


cdef int as_axis(str fn, str name, object value, int nd) except -1:
    axis = as_index(fn, name, value)
    if not -nd <= axis < nd:
        raise ValueError(f"{fn}: {name} is {axis}, input has {nd} axes")
    return axis + nd if axis < 0 else axis


cdef list as_axes(str fn, object value, int nd):
    """The sorted, distinct axes that an int or a sequence of ints names."""
    if not isinstance(value, (list, tuple)):
        return [as_axis(fn, "axis", value, nd)]
    axes = sorted([as_axis(fn, "axis", item, nd) for item in value])
    if len(set(axes)) != len(axes):
        raise ValueError(f"{fn}: axis {tuple(value)} names an axis twice")
    return axes


cdef bint is_packed_apart(ndarray a, object other) noexcept:
    """Whether both are packed, and one begins where the other has ended."""
    cdef ndarray b
    cdef char *first
    cdef char *second
    if not cnp.PyArray_CheckExact(other):
        return False
    b = <ndarray>other
    if not (cnp.PyArray_IS_C_CONTIGUOUS(a) and cnp.PyArray_IS_C_CONTIGUOUS(b)):
        return False
    first = cnp.PyArray_BYTES(a)
    second = cnp.PyArray_BYTES(b)
    return (
        first + cnp.PyArray_NBYTES(a) <= second
        or second + cnp.PyArray_NBYTES(b) <= first
    )


cdef bint shares_memory(ndarray a, object other) except -1:
    """Whether any element is shared; if that is too hard to say, whether any may be."""
    if is_packed_apart(a, other):
        return False
    try:
        return np.shares_memory(a, other, max_work=100_000)
    except np.exceptions.TooHardError:
        return True


cdef bint same_view(ndarray a, ndarray b) noexcept:
    cdef int nd = cnp.PyArray_NDIM(a)
    return (
        cnp.PyArray_DATA(a) == cnp.PyArray_DATA(b)
        and cnp.PyArray_TYPE(a) == cnp.PyArray_TYPE(b)
        and cnp.PyArray_ISNOTSWAPPED(a) == cnp.PyArray_ISNOTSWAPPED(b)
        and has_shape(a, cnp.PyArray_NDIM(b), cnp.PyArray_DIMS(b))
        and memcmp(
            cnp.PyArray_STRIDES(a), cnp.PyArray_STRIDES(b), nd * sizeof(cnp.npy_intp)
        ) == 0
    )


cdef int refuse_overlap(str fn, str name, ndarray written, tuple others) except -1:
    """ValueError if `written` shares memory with one of the (name, array) pairs.

    The C API sees only what it is given: where the binding works on copies, this looks
    at the caller's own arrays. Element on element is in place: `out` or running
    statistics on the input or the gradient, `residual_out` on the residual.
    """
    in_place = ("input", "grad_output", "v")
    if name == "residual_out":
        in_place = ("residual",)
    for other_name, other in others:
        other = host_view(fn, other_name, other)
        if not isinstance(other, ndarray):
            continue
        if other_name in in_place and same_view(written, other):
            continue
        if shares_memory(written, other):
            raise ValueError(f"{fn}: {name} overlaps {other_name}")
    return 0


cdef int refuse_self_overlap(str fn, str name, ndarray a) except -1:
    """ValueError unless every stride steps over all that the smaller ones reach."""
    cdef cnp.npy_intp reach = cnp.PyArray_ITEMSIZE(a)
    if cnp.PyArray_SIZE(a) == 0:
        return 0
    for stride, extent in sorted(
        [(abs(s), n) for s, n in zip((<object>a).strides, np.shape(a)) if n > 1]
    ):
        if stride < reach:
            raise ValueError(f"{fn}: {name} has elements that share memory")
        reach = stride * extent
    return 0


cdef inline int check_status(str fn, c.fastnorm_status status) except -1:
    if status == c.FASTNORM_OK:
        return 0
    raise_status(fn, status)
    return -1


cdef int raise_status(str fn, c.fastnorm_status status) except -1:
    """The exception for what the C library refused."""
    if status == c.FASTNORM_ERROR_ISA:
        raise RuntimeError(f"{fn}: {environment_isa_sentence()}")
    sentence = c.fastnorm_strerror(status).decode()
    if status == c.FASTNORM_ERROR_WEIGHT:
        sentence = "mask holds a weight that is negative, infinite or NaN"
    if status in (
        c.FASTNORM_ERROR_ARGS, c.FASTNORM_ERROR_NULL, c.FASTNORM_ERROR_DTYPE,
        c.FASTNORM_ERROR_ALIGNMENT, c.FASTNORM_ERROR_THREADS,
    ):
        # The binding has seen to these: a fault of ours, not of the caller.
        raise RuntimeError(f"{fn}: {sentence}")
    raise ValueError(f"{fn}: {sentence}")
