# _rows.pxi - what layer, RMS, L2 and L1 norm share: which axes, and rows in memory.
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
    if span.inner == 0:
        # To the C API an inner of 0 is one of 1: say elsewhere that there is nothing.
        span.rows = 0
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


cdef ndarray stats_array(ndarray x, Span *span, int typenum):
    """An array of x's shape with the normalised axes of extent 1, for mean or rstd."""
    cdef cnp.npy_intp shape[MAX_AXES]
    cdef ndarray stats
    cdef int i
    for i in range(cnp.PyArray_NDIM(x)):
        shape[i] = cnp.PyArray_DIM(x, i)
        if span.first <= i <= span.last:
            shape[i] = 1
    stats = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(x), shape, typenum, 0)
    if span.cols == 0:
        stats.fill(NAN)
    return stats


cdef inline bint is_tiny(size_t count, ndarray x) noexcept:
    """Whether a call is better made with the GIL held."""
    # Below 32 KB of input a norm takes a few microseconds: less than taking the GIL
    # back can cost when another thread wants it, and no other thread waits long.
    return count * cnp.PyArray_ITEMSIZE(x) < 32768


cdef enum RowNorm:
    LAYER_NORM
    RMS_NORM
    L2_NORM
    L1_NORM


cdef struct RowCall:
    RowNorm norm
    c.fastnorm_rms_mode mode
    c.fastnorm_dtype y  # the type of the result
    bint tiny
    bint direct  # the parameters lie where the caller has them
    c.fastnorm_layer_norm_args args  # the other norms have some of these


cdef c.fastnorm_status run_rms_norm(const RowCall *call) noexcept nogil:
    cdef const c.fastnorm_layer_norm_args *args = &call.args
    cdef c.fastnorm_rms_norm_args rms
    memset(&rms, 0, sizeof(rms))
    rms.size = sizeof(rms)
    rms.dtype = args.dtype
    rms.x = args.x
    rms.y = args.y
    rms.weight = args.weight
    rms.rstd = args.rstd
    rms.rows = args.rows
    rms.cols = args.cols
    rms.inner = args.inner
    rms.x_stride = args.x_stride
    rms.y_stride = args.y_stride
    rms.eps = args.eps
    rms.exec_ = args.exec_
    rms.format = args.format
    rms.residual = args.residual
    rms.residual_bias = args.residual_bias
    rms.residual_out = args.residual_out
    rms.residual_dtype = args.residual_dtype
    rms.residual_stride = args.residual_stride
    rms.residual_out_stride = args.residual_out_stride
    rms.epilogue = args.epilogue
    rms.y_scale = args.y_scale
    rms.mode = call.mode
    return c.fastnorm_rms_norm(&rms)


cdef c.fastnorm_status run_lp_norm(const RowCall *call) noexcept nogil:
    cdef const c.fastnorm_layer_norm_args *args = &call.args
    cdef c.fastnorm_l2_norm_args lp
    memset(&lp, 0, sizeof(lp))
    lp.size = sizeof(lp)
    lp.dtype = args.dtype
    lp.x = args.x
    lp.y = args.y
    lp.norm = args.rstd
    lp.rows = args.rows
    lp.cols = args.cols
    lp.inner = args.inner
    lp.x_stride = args.x_stride
    lp.y_stride = args.y_stride
    lp.eps = args.eps
    lp.exec_ = args.exec_
    lp.format = args.format
    if call.norm == L1_NORM:
        return c.fastnorm_l1_norm(&lp)
    return c.fastnorm_l2_norm(&lp)


cdef c.fastnorm_status run_rows_nogil(const RowCall *call) noexcept nogil:
    if call.norm == LAYER_NORM:
        return c.fastnorm_layer_norm(&call.args)
    if call.norm == RMS_NORM:
        return run_rms_norm(call)
    return run_lp_norm(call)


cdef inline int run_rows(RowCall *call) except -1:
    cdef c.fastnorm_status status
    if fnp_backend is not NULL:
        return rows_elsewhere(call)
    if call.tiny:
        return run_rows_nogil(call)
    with nogil:
        status = run_rows_nogil(call)
    return status


cdef object norm_rows(
    str fn, RowNorm norm, object input, object normalized_shape, object weight,
    object bias, double eps, object out, object axis, bint return_stats,
    object num_threads, Extras extras,
):
    """All four norms; `extras` is None where none of its keywords was given."""
    if cnp.PyArray_CheckExact(input) and is_plain(weight) and is_plain(bias):
        return norm_views(
            fn, norm, input, normalized_shape, weight, bias, eps, out, axis,
            return_stats, num_threads, extras,
        )
    return norm_views(
        fn, norm, host_view(fn, "input", input), normalized_shape,
        host_view(fn, "weight", weight), host_view(fn, "bias", bias), eps, out, axis,
        return_stats, num_threads, extras,
    )


cdef inline bint is_plain(object value) noexcept:
    return value is None or cnp.PyArray_CheckExact(value)


cdef object norm_views(
    str fn, RowNorm norm, object input, object normalized_shape, object weight,
    object bias, double eps, object out, object axis, bint return_stats,
    object num_threads, Extras extras,
):
    cdef RowCall call
    cdef Span span
    cdef ndarray x = as_input(fn, "input", input)
    cdef ndarray w = None, b = None

    find_span(&span, fn, x, normalized_shape, axis)
    memset(&call, 0, sizeof(call))
    call.norm = norm
    call.direct = True
    call.args.size = sizeof(call.args)
    call.args.dtype = dtype_of(x)
    call.args.rows = span.rows
    call.args.cols = span.cols
    call.args.inner = span.inner
    call.args.eps = eps
    call.args.exec_.num_threads = as_num_threads(fn, num_threads)
    call.y = default_output(call.args.dtype)
    call.tiny = is_tiny(span.rows * span.cols * span.inner, x)
    if extras is not None:
        read_row_extras(fn, &call, &span, x, extras)
    if weight is not None:
        w = row_parameter(fn, "weight", weight, x, &span)
    if bias is not None:
        b = row_parameter(fn, "bias", bias, x, &span)
    call.args.format.params = joined_dtype(joined_dtype(c.FASTNORM_DEFAULT, w), b)
    if extras is not None and extras.used_bias is not None:
        join_residual_bias(&call, extras)
    if w is not None:
        w = in_dtype(w, call.args.format.params)
        call.args.weight = cnp.PyArray_DATA(w)
    if b is not None:
        b = in_dtype(b, call.args.format.params)
        call.args.bias = cnp.PyArray_DATA(b)
    call.direct = call.direct and w is weight and b is bias
    if return_stats or (extras is not None and extras.scale is not None):
        return place_rows_with_stats(
            fn, &call, &span, x, out, input, weight, bias, return_stats, extras
        )
    return place_rows(fn, &call, x, span.first, out, input, weight, bias, extras)


cdef tuple place_rows_with_stats(
    str fn, RowCall *call, Span *span, ndarray x, object out, object input,
    object weight, object bias, bint return_stats, Extras extras,
):
    """The result, its dynamic scales if it has any, and the statistics if wanted."""
    cdef int working = typenum_of(fn, working_dtype(call.args.dtype))
    cdef ndarray mean = None, rstd = None
    if return_stats:
        rstd = stats_array(x, span, working)
        call.args.rstd = cnp.PyArray_DATA(rstd)
        if call.norm == LAYER_NORM:
            mean = stats_array(x, span, working)
            call.args.mean = cnp.PyArray_DATA(mean)
    y = place_rows(fn, call, x, span.first, out, input, weight, bias, extras)
    scale = None if extras is None else extras.scale
    return tuple([part for part in (y, scale, mean, rstd) if part is not None])


cdef inline ndarray row_parameter(
    str fn, str name, object value, ndarray x, const Span *span
):
    return as_parameter(
        fn, name, value, x, span.last - span.first + 1,
        cnp.PyArray_DIMS(x) + span.first, "normalized_shape",
    )


cdef object place_rows(
    str fn, RowCall *call, ndarray x, int first, object out, object input,
    object weight, object bias, Extras extras,
):
    """Call C on x and out, whose layouts and overlaps are settled here.

    `input`, `weight` and `bias` are views of the caller's own.
    """
    cdef c.fastnorm_layer_norm_args *args = &call.args
    cdef ndarray y = as_output_of(fn, out, x, call.y)
    cdef ndarray read = x, written = y
    cdef bint writes_own = out is not None or args.residual_out is not NULL
    cdef int status
    if not find_row_stride(x, first, &args.x_stride):
        read = native_copy(x)
    if not find_row_stride(y, first, &args.y_stride):
        refuse_self_overlap(fn, "out", y)
        written = fresh_as(y)
    if extras is not None:
        place_row_extras(fn, call, first, extras)
    if writes_own and not (call.direct and read is input and written is y):
        refuse_row_overlaps(fn, out, y, input, weight, bias, extras)
    args.x = cnp.PyArray_DATA(read)
    args.y = cnp.PyArray_DATA(written)
    status = run_rows(call)
    if status == c.FASTNORM_ERROR_OVERLAP and writes_own:
        # The C API goes by first and last byte; interleaved arrays may be apart.
        refuse_row_overlaps(fn, out, y, input, weight, bias, extras)
        written = fresh_as(y)
        args.y = cnp.PyArray_DATA(written)
        args.y_stride = 0
        if extras is not None:
            write_sum_apart(call, extras)
        status = run_rows(call)
    check_status(fn, <c.fastnorm_status>status)
    if written is not y:
        np.copyto(y, written)
    if extras is not None:
        finish_row_extras(extras)
    return y if out is None else out
