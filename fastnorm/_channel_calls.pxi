# _channel_calls.pxi - from what batch, group and instance norm share to the C calls.
# SPDX-License-Identifier: MIT


cdef int refuse_overlaps(
    const ChannelCall *call, str fn, object out, ndarray y, tuple given
) except -1:
    """ValueError if what is written shares memory with anything else of the call.

    `given` are the caller's arrays by name: fourth and fifth the running statistics.
    """
    if out is not None:
        refuse_overlap(fn, "out", y, given)
    if call.norm.training and call.norm.running_mean is not NULL:
        for i in (3, 4):
            name, value = given[i]
            refuse_overlap(
                fn, name, host_view(fn, name, value), given[:i] + given[i + 1 :]
            )
    return 0


cdef object norm_channels(
    ChannelCall *call, str fn, ndarray x, ndarray y, ndarray post_add, int channel,
    object out, tuple given, bint direct, Masking masking=None,
):
    """Call C on x, y and post_add, whose layouts and overlaps are settled here.

    y is `out` as an array, or a fresh one for None. `direct` says that C is given every
    array of the call as it is, so that it sees all overlaps.
    """
    cdef ndarray read = x, target = y, added = post_add
    cdef ndarray written
    cdef int axis = channel
    cdef bint tiny = is_tiny(cnp.PyArray_SIZE(x), x)
    cdef int status
    cdef ChannelCall again = call[0]
    cdef Layouts fits
    cdef Form form = IMAGES
    if call.operation != BATCH:
        read = samples_first(x, channel)
        target = samples_first(y, channel)
        added = samples_first(post_add, channel)
        axis = 1
    written = target
    if not (
        cnp.PyArray_IS_C_CONTIGUOUS(read)
        and cnp.PyArray_IS_C_CONTIGUOUS(target)
        and (added is None or cnp.PyArray_IS_C_CONTIGUOUS(added))
    ):
        fits = find_layouts(call, read, target, added, axis)
        form = fits.form
        direct = direct and fits.x and fits.y and fits.added
        if not fits.x:
            read = packed_as(read, axis, fits.form)
        if not fits.y:
            refuse_self_overlap(fn, "out", y)
            written = np.empty(np.shape(target), y.dtype)
        if not fits.added:
            added = packed_as(added, axis, fits.form)
    if masking is not None:
        direct = False
        if cnp.PyArray_SIZE(x) > 0:
            place_masking(call, masking, read, channel, axis, form)
    if not direct:
        refuse_overlaps(call, fn, out, y, given)
    call.norm.x = cnp.PyArray_DATA(read)
    call.norm.y = cnp.PyArray_DATA(written)
    if added is not None:
        call.norm.epilogue.post_add = cnp.PyArray_DATA(added)
    status = run_channels(call, tiny)
    if status == c.FASTNORM_ERROR_OVERLAP and out is not None and written is target:
        # The C API goes by first and last byte; interleaved arrays may be apart.
        refuse_overlaps(call, fn, out, y, given)
        written = norm_channels(
            &again, fn, x, np.empty(np.shape(y), y.dtype), post_add, channel, None,
            given, False, masking,
        )
        target = y
    else:
        check_status(fn, <c.fastnorm_status>status)
    if written is not target:
        np.copyto(target, written)
    return y if out is None else out


cdef int begin_channels(
    ChannelCall *call, Operation operation, str fn, ndarray x, int channel, object eps,
    object num_threads,
) except -1:
    """Fill in what x, its channel axis and two numbers say."""
    # The batch: of group and instance norm the first axis that is not the channels.
    cdef int first = 1 if channel == 0 else 0
    cdef int i
    memset(call, 0, sizeof(call[0]))
    call.operation = operation
    call.norm.size = sizeof(call.norm)
    call.norm.dtype = dtype_of(x)
    call.norm.channels = cnp.PyArray_DIM(x, channel)
    call.norm.batch = call.norm.spatial = 1
    for i in range(cnp.PyArray_NDIM(x)):
        if i == channel:
            continue
        if i < channel if operation == BATCH else i == first:
            call.norm.batch *= cnp.PyArray_DIM(x, i)
        else:
            call.norm.spatial *= cnp.PyArray_DIM(x, i)
    call.norm.eps = as_eps(fn, eps)
    call.norm.exec_.num_threads = as_num_threads(fn, num_threads)
    return 0


cdef int as_samples_axis(str fn, object value, ndarray x) except -1:
    """The channel axis of a norm that needs samples besides."""
    if cnp.PyArray_NDIM(x) < 2:
        raise ValueError(
            f"{fn}: input has shape {np.shape(x)}, at least 2 axes are needed"
        )
    return as_axis(fn, "channel_axis", value, cnp.PyArray_NDIM(x))


cdef inline ndarray channel_parameter(
    str fn, str name, object value, ndarray x, int channel
):
    if value is None:
        return None
    return as_parameter(
        fn, name, value, x, 1, cnp.PyArray_DIMS(x) + channel, "the channel axis"
    )


cdef ndarray stats_of(str fn, ndarray x, int nd, const cnp.npy_intp *shape, bint empty):
    """An array of the working type for statistics; NaN where they are of nothing."""
    cdef ndarray stats = cnp.PyArray_EMPTY(
        nd, shape, typenum_of(fn, working_dtype(dtype_of(x))), 0
    )
    if empty:
        stats.fill(NAN)
    return stats


cdef Extras channel_extras(
    object post_add, object activation, object out_dtype, object in_scale,
    object in_zero_point, object out_scale, object out_zero_point, bint flush_denormals,
    Masking masking=None,
):
    """The keywords that few calls use; None if none is."""
    cdef Extras extras
    if (
        post_add is None and activation is None and out_dtype is None
        and in_scale is None and in_zero_point is None and out_scale is None
        and out_zero_point is None and not flush_denormals and masking is None
    ):
        return None
    extras = Extras.__new__(Extras)
    extras.post_add = post_add
    extras.activation = activation
    extras.out_dtype = out_dtype
    extras.in_scale = in_scale
    extras.in_zero_point = in_zero_point
    extras.out_scale = out_scale
    extras.out_zero_point = out_zero_point
    extras.flush_denormals = flush_denormals
    extras.masking = masking
    return extras


cdef object finish_channels(
    ChannelCall *call, str fn, ndarray x, int channel, object out, Extras extras,
    tuple given, bint direct,
):
    """Read what is left of the arguments, and make the call; y, or `out`."""
    cdef c.fastnorm_dtype dtype = default_output(call.norm.dtype)
    cdef ndarray y, post_add = None
    cdef Masking masking = None
    if extras is not None:
        read_format(
            fn, extras, call.norm.dtype, False, &call.norm.format, &dtype
        )
        read_activation(fn, extras.activation, &call.norm.epilogue)
        call.norm.exec_.flush_denormals = extras.flush_denormals
        masking = extras.masking
        if extras.post_add is not None:
            post_add = as_companion(fn, "post_add", extras.post_add, x)
            call.norm.epilogue.post_add_dtype = dtype_of(post_add)
            direct = direct and post_add is extras.post_add
    y = as_output_of(fn, out, x, dtype)
    direct = direct and x is given[0][1] and (out is None or y is out)
    return norm_channels(
        call, fn, x, y, post_add, channel, out, given, direct, masking
    )


cdef inline ndarray packed_parameter(ndarray a, c.fastnorm_dtype dtype):
    """a, or a packed copy in the type that the call has its parameters in."""
    a = in_dtype(a, dtype)
    if a is None or cnp.PyArray_IS_C_CONTIGUOUS(a):
        return a
    return native_copy(a)


cdef object run_with_parameters(
    ChannelCall *call, str fn, ndarray x, int channel, object out, Extras extras,
    tuple given, ndarray weight, ndarray bias, ndarray running_mean,
    ndarray running_var,
):
    """finish_channels with parameters of one type, and running arrays put back."""
    cdef ndarray w, b, m, v
    cdef bint direct = weight is given[1][1] and bias is given[2][1]
    cdef c.fastnorm_dtype params = joined_dtype(c.FASTNORM_DEFAULT, weight)
    params = joined_dtype(params, bias)
    params = joined_dtype(params, running_mean)
    params = joined_dtype(params, running_var)
    w = in_dtype(weight, params)
    b = in_dtype(bias, params)
    m = packed_parameter(running_mean, params)
    v = packed_parameter(running_var, params)
    call.norm.format.params = params
    if w is not None:
        call.norm.weight = cnp.PyArray_DATA(w)
    if b is not None:
        call.norm.bias = cnp.PyArray_DATA(b)
    if m is not None:
        call.norm.running_mean = cnp.PyArray_DATA(m)
        call.norm.running_var = cnp.PyArray_DATA(v)
        direct = direct and m is given[3][1] and v is given[4][1]
    y = finish_channels(
        call, fn, x, channel, out, extras, given,
        direct and w is weight and b is bias,
    )
    if call.norm.training and not (m is running_mean and v is running_var):
        np.copyto(running_mean, m, casting="unsafe")
        np.copyto(running_var, v, casting="unsafe")
    return y
