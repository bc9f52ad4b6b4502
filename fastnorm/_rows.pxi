# _rows.pxi - what layer norm and RMS norm share: which axes, and rows in memory.
# SPDX-License-Identifier: MIT


cdef struct Span:
    # The normalised axes are first, ..., last. As the C API sees it, the array is
    # [rows, cols, inner].
    int first
    int last
    size_t rows
    size_t cols
    size_t inner


cdef int trailing_axes(ndarray x, object shape) except -1:
    """How many trailing axes an exact int or tuple of ints names; 0 if it does not."""
    cdef int nd = cnp.PyArray_NDIM(x)
    cdef const cnp.npy_intp *extents = cnp.PyArray_DIMS(x)
    cdef Py_ssize_t length, i
    cdef int overflow = 0
    if PyLong_CheckExact(shape):
        return PyLong_AsLongLongAndOverflow(shape, &overflow) == extents[nd - 1]
    if not PyTuple_CheckExact(shape):
        return 0
    length = PyTuple_GET_SIZE(shape)
    if length > nd:
        return 0
    for i in range(length):
        item = <object>PyTuple_GET_ITEM(shape, i)
        if not PyLong_CheckExact(item) or (
            PyLong_AsLongLongAndOverflow(item, &overflow) != extents[nd - length + i]
        ):
            return 0
    return <int>length


cdef int find_span(
    Span *span, str fn, ndarray x, object normalized_shape, object axis
) except -1:
    cdef int nd = cnp.PyArray_NDIM(x)
    cdef const cnp.npy_intp *shape = cnp.PyArray_DIMS(x)
    cdef int i, length = 0
    if axis is None:
        length = trailing_axes(x, normalized_shape)
    if length > 0:
        span.first = nd - length
        span.last = nd - 1
    else:
        find_span_slow(span, fn, x, normalized_shape, axis)
    span.rows = 1
    span.cols = 1
    span.inner = 1
    for i in range(span.first):
        span.rows *= shape[i]
    for i in range(span.first, span.last + 1):
        span.cols *= shape[i]
    for i in range(span.last + 1, nd):
        span.inner *= shape[i]
    return 0


cdef int find_span_slow(
    Span *span, str fn, ndarray x, object normalized_shape, object axis
) except -1:
    cdef int nd = cnp.PyArray_NDIM(x)
    cdef tuple wanted = None
    shape = np.shape(x)
    if normalized_shape is not None:
        if isinstance(normalized_shape, (list, tuple)):
            wanted = tuple(
                [as_index(fn, "normalized_shape", n) for n in normalized_shape]
            )
        else:
            wanted = (as_index(fn, "normalized_shape", normalized_shape),)
    if axis is not None:
        axes = as_axes(fn, axis, nd)
        if not axes:
            raise ValueError(f"{fn}: axis is empty, at least one axis is needed")
        span.first = axes[0]
        span.last = axes[-1]
        if span.last - span.first + 1 != len(axes):
            raise ValueError(
                f"{fn}: axis {tuple(axes)} names axes that are not adjacent"
            )
        extents = shape[span.first : span.last + 1]
        if wanted is not None and wanted != extents:
            raise ValueError(
                f"{fn}: normalized_shape is {wanted}, input has {extents} along axis"
            )
        return 0
    if wanted is None:
        raise ValueError(f"{fn}: normalized_shape is None, which needs axis")
    if not wanted:
        raise ValueError(
            f"{fn}: normalized_shape is empty, at least one axis is needed"
        )
    if shape[max(nd - len(wanted), 0) :] != wanted:
        raise ValueError(
            f"{fn}: normalized_shape is {wanted}, input has shape {shape}"
        )
    span.first = nd - <int>len(wanted)
    span.last = nd - 1
    return 0


cdef bint find_row_stride(ndarray a, int first, Py_ssize_t *stride) noexcept:
    """Whether a is rows of packed values, all the same step apart.

    A row is all of the axes from `first` on. The step, in elements, goes to *stride;
    it is 0, the C API's "as packed", where there is nothing to step over.
    """
    cdef const cnp.npy_intp *shape = cnp.PyArray_DIMS(a)
    cdef const cnp.npy_intp *strides = cnp.PyArray_STRIDES(a)
    cdef cnp.npy_intp expected = cnp.PyArray_ITEMSIZE(a)
    cdef cnp.npy_intp item = expected
    cdef cnp.npy_intp step = 0
    cdef cnp.npy_intp reach = 0
    cdef int i
    stride[0] = 0
    if cnp.PyArray_IS_C_CONTIGUOUS(a):
        return True
    for i in range(cnp.PyArray_NDIM(a) - 1, first - 1, -1):
        if shape[i] == 1:
            continue
        if strides[i] != expected:
            return False
        expected *= shape[i]
    for i in range(first - 1, -1, -1):
        if shape[i] == 1:
            continue
        if step == 0:
            step = strides[i]
            reach = step
        elif strides[i] != reach:
            return False
        # A step of zero (broadcast rows) cannot be said to the C API.
        if step == 0 or step % item != 0:
            return False
        reach *= shape[i]
    stride[0] = step // item
    return True


cdef ndarray stats_array(ndarray x, Span *span):
    """An array of x's shape with the normalised axes of extent 1, for mean or rstd."""
    cdef cnp.npy_intp shape[MAX_AXES]
    cdef ndarray stats
    cdef int i
    for i in range(cnp.PyArray_NDIM(x)):
        shape[i] = cnp.PyArray_DIM(x, i)
        if span.first <= i <= span.last:
            shape[i] = 1
    stats = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(x), shape, cnp.PyArray_TYPE(x), 0)
    if span.cols == 0:
        stats.fill(NAN)
    return stats


cdef inline bint is_tiny(size_t count, ndarray x) noexcept:
    """Whether a call is better made with the GIL held."""
    # Below 32 KB of input a norm takes a few microseconds: less than taking the GIL
    # back can cost when another thread wants it, and no other thread waits long.
    return count * cnp.PyArray_ITEMSIZE(x) < 32768


cdef c.fastnorm_status run_rows_nogil(
    const c.fastnorm_layer_norm_args *args, bint rms
) noexcept nogil:
    cdef c.fastnorm_rms_norm_args rms_args
    if not rms:
        return c.fastnorm_layer_norm(args)
    memset(&rms_args, 0, sizeof(rms_args))
    rms_args.size = sizeof(rms_args)
    rms_args.dtype = args.dtype
    rms_args.x = args.x
    rms_args.y = args.y
    rms_args.weight = args.weight
    rms_args.rstd = args.rstd
    rms_args.rows = args.rows
    rms_args.cols = args.cols
    rms_args.inner = args.inner
    rms_args.x_stride = args.x_stride
    rms_args.y_stride = args.y_stride
    rms_args.eps = args.eps
    rms_args.exec_ = args.exec_
    return c.fastnorm_rms_norm(&rms_args)


cdef inline c.fastnorm_status run_rows(
    const c.fastnorm_layer_norm_args *args, bint rms, bint tiny
) noexcept:
    cdef c.fastnorm_status status
    if tiny:
        return run_rows_nogil(args, rms)
    with nogil:
        status = run_rows_nogil(args, rms)
    return status


cdef object norm_rows(
    str fn, bint rms, object input, object normalized_shape, object weight,
    object bias, double eps, object out, object axis, bint return_stats,
    object num_threads,
):
    """layer_norm, or rms_norm, which has no mean and no bias."""
    cdef c.fastnorm_layer_norm_args args
    cdef Span span
    cdef ndarray x = as_input(fn, "input", input)
    cdef ndarray w = None, b = None, mean = None, rstd = None
    cdef const cnp.npy_intp *extents
    cdef int axes

    find_span(&span, fn, x, normalized_shape, axis)
    extents = cnp.PyArray_DIMS(x) + span.first
    axes = span.last - span.first + 1
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = dtype_of(x)
    args.rows = span.rows
    args.cols = span.cols
    args.inner = span.inner
    args.eps = eps
    args.exec_.num_threads = as_num_threads(fn, num_threads)
    if weight is not None:
        w = as_parameter(fn, "weight", weight, x, axes, extents, "normalized_shape")
        args.weight = cnp.PyArray_DATA(w)
    if bias is not None:
        b = as_parameter(fn, "bias", bias, x, axes, extents, "normalized_shape")
        args.bias = cnp.PyArray_DATA(b)
    if return_stats:
        rstd = stats_array(x, &span)
        args.rstd = cnp.PyArray_DATA(rstd)
        if not rms:
            mean = stats_array(x, &span)
            args.mean = cnp.PyArray_DATA(mean)
    y = place_rows(
        fn, rms, &args, x, span.first, out, input, weight, bias,
        w is weight and b is bias,
    )
    if not return_stats:
        return y
    return (y, rstd) if rms else (y, mean, rstd)


cdef object place_rows(
    str fn, bint rms, c.fastnorm_layer_norm_args *args, ndarray x, int first,
    object out, object input, object weight, object bias, bint direct,
):
    """Call C on x and out, whose layouts and overlaps are settled here.

    `input`, `weight` and `bias` are the caller's own; `direct` says that C is given
    the last two as they are.
    """
    cdef ndarray y = as_output(fn, out, x)
    cdef ndarray read = x, written = y
    cdef bint tiny = is_tiny(args.rows * args.cols * args.inner, x)
    cdef c.fastnorm_status status
    if not find_row_stride(x, first, &args.x_stride):
        read = native_copy(x)
    if not find_row_stride(y, first, &args.y_stride):
        refuse_self_overlap(fn, "out", y)
        written = fresh_like(x)
    if out is not None and not (direct and read is input and written is out):
        refuse_overlap(fn, "out", y, rows_read(input, weight, bias))
    args.x = cnp.PyArray_DATA(read)
    args.y = cnp.PyArray_DATA(written)
    status = run_rows(args, rms, tiny)
    if status == c.FASTNORM_ERROR_OVERLAP and out is not None and written is y:
        # The C API goes by first and last byte; interleaved arrays may be apart.
        refuse_overlap(fn, "out", y, rows_read(input, weight, bias))
        written = fresh_like(x)
        args.y = cnp.PyArray_DATA(written)
        args.y_stride = 0
        status = run_rows(args, rms, tiny)
    check_status(fn, status)
    if written is not y:
        np.copyto(y, written)
    return y if out is None else out


cdef tuple rows_read(object input, object weight, object bias):
    return ("input", input), ("weight", weight), ("bias", bias)
