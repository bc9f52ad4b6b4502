# _backward.pxi - what the gradients of all norms share: arrays, layouts, the C calls.
# SPDX-License-Identifier: MIT

Gradients = namedtuple("Gradients", ("input", "weight", "bias"), module="fastnorm")
Gradients.__doc__ = """The gradients of a loss by the arguments of a norm.

Attributes
----------
input, weight, bias : ndarray or None
    None for what was not asked for, and for a weight that there is not.
"""

cdef tuple three_names = ("input", "weight", "bias")
cdef tuple two_names = ("input", "weight")
cdef tuple only_input = ("input",)
cdef tuple length_names = ("v", "g")


cdef enum Need:
    # Bits of what is wanted, in the order of the names.
    NEED_INPUT = 1
    NEED_WEIGHT = 2
    NEED_BIAS = 4


cdef struct Strides:
    # Of grad_y, x and grad_x: from row to row or sample to sample, channel to channel.
    Py_ssize_t[3] outer
    Py_ssize_t[3] channel


cdef struct GradientCall:
    # What the C API's structs for gradients hold; no norm has use for all of it.
    # `run` makes the call, or only says what scratch it can use if that is not NULL.
    c.fastnorm_status (*run)(const GradientCall *call, size_t *scratch) noexcept nogil
    c.fastnorm_dtype dtype
    const void *grad_y
    const void *x
    void *grad_x
    const void *weight
    void *grad_weight
    void *grad_bias
    const void *mean
    const void *rstd
    const void *r
    const void *d
    size_t[3] extents  # rows, cols, inner; or batch, channels, spatial
    size_t groups
    bint channels_last
    bint own_stats
    Strides strides
    c.fastnorm_rms_mode mode
    double eps
    void *scratch
    size_t scratch_size
    c.fastnorm_exec exec_
    c.fastnorm_format format


@cython.final
@cython.auto_pickle(False)
@cython.freelist(8)
cdef class Backward:
    """The arrays of one call, and where and how they lie."""

    cdef str fn
    cdef object out
    # As they are read, and grad_input: `result` as the caller has it, `y` as C sees it,
    # None if not wanted.
    cdef ndarray x, g, y, result
    # The caller's arrays by name; `used` keeps alive what C reads in their place.
    cdef list given, used
    cdef int needs
    cdef int axis  # the channels', or the first of the normalised ones
    cdef Form[2] forms  # beside IMAGES
    cdef GradientCall call


cdef int as_needs(str fn, object needs, tuple known) except -1:
    cdef int found = 0, i
    if needs is known:
        return (1 << len(known)) - 1
    if isinstance(needs, str):
        raise TypeError(f"{fn}: needs is a str, a tuple of names is needed")
    try:
        names = tuple(needs)
    except TypeError:
        raise TypeError(
            f"{fn}: needs is {type(needs).__name__}, a tuple of names is needed"
        ) from None
    for name in names:
        for i in range(len(known)):
            if name == known[i]:
                found |= 1 << i
                break
        else:
            raise ValueError(
                f"{fn}: needs names {name!r}, which is not one of {', '.join(known)}"
            )
    return found


cdef ndarray as_differentiable(str fn, str name, object value):
    """An input as the forward takes it, but for the 8-bit types."""
    cdef ndarray a = as_input(fn, name, value)
    if is_byte(dtype_of(a)):
        raise TypeError(
            f"{fn}: {name} has dtype {a.dtype}, not float32, float64, float16 or "
            "bfloat16"
        )
    return a


cdef Backward begin_backward(
    str fn, str name, object grad_output, object input, object out,
    object needs, tuple known, object num_threads, bint flush_denormals,
):
    """Check what all gradients take; `name` is that of input."""
    cdef Backward b = Backward.__new__(Backward)
    cdef c.fastnorm_dtype dtype
    memset(&b.call, 0, sizeof(b.call))
    b.fn = fn
    b.out = out
    input = host_view(fn, name, input)
    grad_output = host_view(fn, "grad_output", grad_output)
    b.given = [(name, input), ("grad_output", grad_output)]
    b.used = []
    b.x = as_differentiable(fn, name, input)
    b.g = as_companion(fn, "grad_output", grad_output, b.x)
    b.needs = NEED_INPUT if known is only_input else as_needs(fn, needs, known)
    dtype = dtype_of(b.x)
    if b.needs & NEED_INPUT:
        b.result = b.y = as_output_of(fn, out, b.x, dtype)
    elif out is not None:
        raise ValueError(f"{fn}: out is given and needs does not name {known[0]!r}")
    b.call.format.y = dtype
    b.call.exec_.num_threads = as_num_threads(fn, num_threads)
    b.call.exec_.flush_denormals = flush_denormals
    if dtype_of(b.g) != dtype:
        # The C API has one type for both; float32 holds all numbers of the others.
        dtype = c.FASTNORM_FLOAT32
        b.x = in_dtype(b.x, dtype)
        b.g = in_dtype(b.g, dtype)
    b.call.dtype = dtype
    return b


cdef const void *read_parameter(
    Backward b, str name, object value, int nd, const cnp.npy_intp *shape, str whose,
    bint widen,
) except? NULL:
    """Where the values of a parameter are, or with `widen` of statistics, for C."""
    cdef ndarray a
    if value is None:
        return NULL
    value = host_view(b.fn, name, value)
    a = as_parameter(b.fn, name, value, b.x, nd, shape, whose)
    if widen:
        a = in_dtype(a, working_dtype(b.call.dtype))
    else:
        b.call.format.params = dtype_of(a)
    b.given.append((name, value))
    b.used.append(a)
    return cnp.PyArray_DATA(a)


cdef int read_statistics(
    Backward b, object mean, object rstd, int nd, const cnp.npy_intp *shape, str whose
) except -1:
    if (mean is None) != (rstd is None):
        raise ValueError(f"{b.fn}: mean and rstd must come together")
    b.call.mean = read_parameter(b, "mean", mean, nd, shape, whose, True)
    b.call.rstd = read_parameter(b, "rstd", rstd, nd, shape, whose, True)
    return 0


cdef inline ndarray sums_wanted(
    Backward b, int need, int nd, const cnp.npy_intp *shape
):
    """An array for the gradient of a parameter, None if it is not wanted."""
    if not b.needs & need:
        return None
    return cnp.PyArray_EMPTY(
        nd, shape, typenum_of(b.fn, working_dtype(b.call.dtype)), 0
    )


cdef inline void *data_of(ndarray a) noexcept:
    return NULL if a is None else cnp.PyArray_DATA(a)


cdef c.fastnorm_status run_gradient(Backward b):
    """Call C on b.x, b.g and b.y, whose layouts and overlaps are settled by now."""
    cdef GradientCall *call = &b.call
    cdef bint tiny = is_tiny(cnp.PyArray_SIZE(b.x), b.x)
    cdef c.fastnorm_status status
    call.x = cnp.PyArray_DATA(b.x)
    call.grad_y = cnp.PyArray_DATA(b.g)
    call.grad_x = data_of(b.y)
    call.run(call, &call.scratch_size)
    if call.scratch_size > 0:
        # Without memory for it the call takes longer; the result is the same.
        call.scratch = PyMem_RawMalloc(call.scratch_size)
        if call.scratch is NULL:
            call.scratch_size = 0
    if tiny:
        status = call.run(call, NULL)
    else:
        with nogil:
            status = call.run(call, NULL)
    PyMem_RawFree(call.scratch)
    call.scratch = NULL
    call.scratch_size = 0
    return status


# Describes the arrays to C, with y for grad_input; copies what C cannot read in place,
# and leaves in b.y what C is to write.
ctypedef int (*Layout)(Backward b, ndarray y) except -1


cdef object finish_backward(Backward b, Layout lay_out):
    """Call C, through a temporary array where b.y cannot be written as it lies.

    The result is grad_input.
    """
    cdef ndarray y = b.y
    cdef c.fastnorm_status status
    if b.out is not None:
        # Looked at here and not left to C, which is given copies of some.
        refuse_overlap(b.fn, "out", b.result, tuple(b.given))
    lay_out(b, y)
    status = run_gradient(b)
    if status == c.FASTNORM_ERROR_OVERLAP and b.out is not None and b.y is y:
        # The C API goes by first and last byte; interleaved arrays may be apart.
        lay_out(b, fresh_as(y))
        status = run_gradient(b)
    check_status(b.fn, status)
    if b.y is not y:
        np.copyto(y, b.y)
    return b.result if b.out is None else b.out
