# _checks.pxi - from Python objects to arrays and numbers that the C API can take.
# SPDX-License-Identifier: MIT
#
# Every function takes the names of the public function and of the argument, because
# every error says both. What is in order already passes without a Python call.


cdef inline bint is_float(ndarray a) noexcept:
    cdef int typenum = cnp.PyArray_TYPE(a)
    return typenum == cnp.NPY_FLOAT32 or typenum == cnp.NPY_FLOAT64


cdef inline c.fastnorm_dtype dtype_of(ndarray a) noexcept:
    if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32:
        return c.FASTNORM_FLOAT32
    return c.FASTNORM_FLOAT64


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
    """An exact ndarray of whatever dtype, sharing memory where NumPy can."""
    if cnp.PyArray_CheckExact(value):
        return value
    refuse_masked(fn, name, value)
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (TypeError, BufferError) as error:
        raise TypeError(f"{fn}: {name} is not an array: {error}") from error
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{fn}: {name} is not an array: {error}") from error


cdef ndarray as_input(str fn, str name, object value):
    """value as float32 or float64, native and aligned, of any strides."""
    if (
        cnp.PyArray_CheckExact(value)
        and is_float(<ndarray>value)
        and cnp.PyArray_ISBEHAVED_RO(<ndarray>value)
        and cnp.PyArray_NDIM(<ndarray>value) > 0
    ):
        return <ndarray>value
    cdef ndarray a = as_base_array(fn, name, value)
    if not is_float(a):
        raise TypeError(f"{fn}: {name} has dtype {a.dtype}, not float32 or float64")
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
    """value as packed values of x's dtype with exactly this shape."""
    cdef ndarray a
    if (
        cnp.PyArray_CheckExact(value)
        and cnp.PyArray_TYPE(<ndarray>value) == cnp.PyArray_TYPE(x)
        and cnp.PyArray_ISCARRAY_RO(<ndarray>value)
        and has_shape(<ndarray>value, nd, shape)
    ):
        return <ndarray>value
    if isinstance(value, (list, tuple)):
        # A list has no dtype of its own, so it takes the input's.
        a = as_base_array(fn, name, value)
        if a.dtype.kind not in "fiub" or a.dtype.itemsize > 8:
            raise TypeError(
                f"{fn}: {name} has dtype {a.dtype}, real numbers are needed"
            )
        a = np.asarray(a, dtype=x.dtype)
    else:
        a = as_base_array(fn, name, value)
    if cnp.PyArray_TYPE(a) != cnp.PyArray_TYPE(x):
        raise TypeError(
            f"{fn}: {name} has dtype {a.dtype}, input's {x.dtype.name} is needed"
        )
    check_parameter_shape(fn, name, a, nd, shape, whose)
    if not cnp.PyArray_ISCARRAY_RO(a):
        return native_copy(a)
    return a


cdef ndarray as_writable(str fn, str name, object value, ndarray x):
    """value as an array of x's dtype that a call may write: never a copy."""
    if not isinstance(value, ndarray):
        raise TypeError(
            f"{fn}: {name} is {type(value).__name__}, a numpy.ndarray is needed"
        )
    cdef ndarray a = as_base_array(fn, name, value)
    if cnp.PyArray_TYPE(a) != cnp.PyArray_TYPE(x):
        raise TypeError(
            f"{fn}: {name} has dtype {a.dtype}, input's {x.dtype.name} is needed"
        )
    if not cnp.PyArray_ISWRITEABLE(a):
        raise ValueError(f"{fn}: {name} is read-only")
    if not cnp.PyArray_ISNOTSWAPPED(a):
        raise ValueError(f"{fn}: {name} is not in native byte order")
    if not cnp.PyArray_ISALIGNED(a):
        raise ValueError(f"{fn}: {name} is not aligned to its elements")
    return a


cdef inline ndarray as_output(str fn, object out, ndarray x):
    """out, checked, as an exact ndarray; a fresh array if out is None."""
    if out is None:
        return fresh_like(x)
    if (
        cnp.PyArray_CheckExact(out)
        and cnp.PyArray_TYPE(<ndarray>out) == cnp.PyArray_TYPE(x)
        and cnp.PyArray_ISBEHAVED(<ndarray>out)
        and has_shape(<ndarray>out, cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x))
    ):
        return <ndarray>out
    return as_output_slow(fn, out, x)


cdef ndarray as_output_slow(str fn, object out, ndarray x):
    cdef ndarray y = as_writable(fn, "out", out, x)
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


cdef bint shares_memory(ndarray a, object other) except -1:
    """Whether any element is shared; if that is too hard to say, whether any may be."""
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
    at the caller's own arrays. The input itself, element on element, is in place.
    """
    for other_name, other in others:
        if not isinstance(other, ndarray):
            continue
        if other_name == "input" and same_view(written, other):
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
    if status in (
        c.FASTNORM_ERROR_ARGS, c.FASTNORM_ERROR_NULL, c.FASTNORM_ERROR_DTYPE,
        c.FASTNORM_ERROR_ALIGNMENT, c.FASTNORM_ERROR_THREADS,
    ):
        # The binding has seen to these: a fault of ours, not of the caller.
        raise RuntimeError(f"{fn}: {sentence}")
    raise ValueError(f"{fn}: {sentence}")
