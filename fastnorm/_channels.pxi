# _channels.pxi - what batch, group and instance norm share: channels in memory.
# SPDX-License-Identifier: MIT
#
# The C API sees [batch, channels, spatial]; which axes those are, and in which of the
# forms below an array is such a thing without a copy, is found here.


cdef bint fold_axes(
    ndarray a, int first, int last, int skipped, cnp.npy_intp *step
) noexcept:
    """Whether the axes first, ..., last without `skipped` step through memory as one.

    The step, in bytes, goes to *step: 0 where there is nothing to step over.
    """
    cdef const cnp.npy_intp *shape = cnp.PyArray_DIMS(a)
    cdef const cnp.npy_intp *strides = cnp.PyArray_STRIDES(a)
    cdef cnp.npy_intp reach = 0
    cdef int i
    step[0] = 0
    for i in range(last, first - 1, -1):
        if i == skipped or shape[i] == 1:
            continue
        if step[0] == 0:
            step[0] = reach = strides[i]
        elif strides[i] != reach:
            return False
        # A step of zero (a broadcast axis) cannot be said to the C API.
        if reach == 0 or step[0] % cnp.PyArray_ITEMSIZE(a) != 0:
            return False
        reach *= shape[i]
    return True


cdef struct Channels:
    Py_ssize_t sample_stride
    Py_ssize_t channel_stride


cdef enum Form:
    # How the C API's [batch, channels, spatial] is seen in an array.
    IMAGES  # the axes before the channels are the batch, those after it spatial
    TABLE   # all others are the batch, and the channels are adjacent
    RUNS    # all others are spatial, and packed
    LAST    # the first axis is the batch, the second the channels, which are adjacent


cdef bint find_channels(ndarray a, int channel, Form form, Channels *found) noexcept:
    """Whether a has the form, and its strides."""
    cdef int last = cnp.PyArray_NDIM(a) - 1
    cdef cnp.npy_intp item = cnp.PyArray_ITEMSIZE(a)
    cdef cnp.npy_intp batch = 0, channels = 0, spatial = 0
    cdef bint fits
    found.sample_stride = found.channel_stride = 0
    if form == IMAGES or form == LAST:
        fits = fold_axes(a, channel + 1, last, -1, &spatial) and (
            fold_axes(a, 0, channel - 1, -1, &batch)
        )
    elif form == TABLE:
        fits = fold_axes(a, 0, last, channel, &batch)
    else:
        fits = fold_axes(a, 0, last, channel, &spatial)
    if not fits or not fold_axes(a, channel, channel, -1, &channels):
        return False
    found.sample_stride = batch // item
    if form == LAST:
        found.channel_stride = spatial // item
        return channels == 0 or channels == item
    found.channel_stride = channels // item
    if spatial != 0:
        return spatial == item
    # Where each channel is one value wide, the channels must be adjacent.
    return channels == 0 or channels == item


cdef ndarray samples_first(ndarray a, int channel):
    """A view of a with the channels second; the other axes keep their order."""
    cdef cnp.npy_intp axes[MAX_AXES]
    cdef cnp.PyArray_Dims order
    cdef int i, others = 0
    if a is None or channel == 1:
        return a
    order.ptr = axes
    order.len = cnp.PyArray_NDIM(a)
    for i in range(order.len):
        if i != channel:
            axes[others if others == 0 else others + 1] = i
            others += 1
    axes[1] = channel
    return cnp.PyArray_Transpose(a, &order)


cdef ndarray packed_as(ndarray a, int channel, Form form):
    """The elements of a, packed as the form has them; of use by its address only."""
    if form == TABLE or form == LAST:
        a = np.moveaxis(a, channel, -1)
    elif form == RUNS:
        a = np.moveaxis(a, channel, 0)
    return native_copy(a)


cdef enum Operation:
    BATCH
    GROUP
    INSTANCE


cdef enum Variant:
    # Of BATCH, the operation.
    PLAIN
    RENORM
    LENGTH  # weight norm: `norm.weight` is g, `norm.rstd` the norm


cdef struct ChannelCall:
    # What the C API is asked for. `norm` holds what the three operations share and what
    # only batch norm has; its `training` is instance norm's use of its own statistics.
    Operation operation
    Variant variant
    double r_max
    double d_max
    void *r
    void *d
    c.fastnorm_batch_norm_args norm
    size_t groups
    bint channels_last
    const void *stored_mean
    const void *stored_var


cdef c.fastnorm_status run_group_norm(const ChannelCall *call) noexcept nogil:
    cdef c.fastnorm_group_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = call.norm.dtype
    args.x = call.norm.x
    args.y = call.norm.y
    args.weight = call.norm.weight
    args.bias = call.norm.bias
    args.mean = call.norm.mean
    args.rstd = call.norm.rstd
    args.batch = call.norm.batch
    args.channels = call.norm.channels
    args.spatial = call.norm.spatial
    args.groups = call.groups
    args.channels_last = call.channels_last
    args.x_stride = call.norm.x_stride
    args.y_stride = call.norm.y_stride
    args.x_channel_stride = call.norm.x_channel_stride
    args.y_channel_stride = call.norm.y_channel_stride
    args.eps = call.norm.eps
    args.exec_ = call.norm.exec_
    args.format = call.norm.format
    args.epilogue = call.norm.epilogue
    args.stored_mean = call.stored_mean
    args.stored_var = call.stored_var
    args.mask = call.norm.mask
    return c.fastnorm_group_norm(&args)


cdef c.fastnorm_status run_instance_norm(const ChannelCall *call) noexcept nogil:
    cdef c.fastnorm_instance_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = call.norm.dtype
    args.x = call.norm.x
    args.y = call.norm.y
    args.weight = call.norm.weight
    args.bias = call.norm.bias
    args.running_mean = call.norm.running_mean
    args.running_var = call.norm.running_var
    args.mean = call.norm.mean
    args.rstd = call.norm.rstd
    args.batch = call.norm.batch
    args.channels = call.norm.channels
    args.spatial = call.norm.spatial
    args.channels_last = call.channels_last
    args.x_stride = call.norm.x_stride
    args.y_stride = call.norm.y_stride
    args.x_channel_stride = call.norm.x_channel_stride
    args.y_channel_stride = call.norm.y_channel_stride
    args.use_running_stats = not call.norm.training
    args.momentum = call.norm.momentum
    args.eps = call.norm.eps
    args.exec_ = call.norm.exec_
    args.format = call.norm.format
    args.epilogue = call.norm.epilogue
    args.mask = call.norm.mask
    return c.fastnorm_instance_norm(&args)


cdef c.fastnorm_status run_batch_renorm(const ChannelCall *call) noexcept nogil:
    cdef c.fastnorm_batch_renorm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = call.norm.dtype
    args.x = call.norm.x
    args.y = call.norm.y
    args.weight = call.norm.weight
    args.bias = call.norm.bias
    args.running_mean = call.norm.running_mean
    args.running_var = call.norm.running_var
    args.mean = call.norm.mean
    args.rstd = call.norm.rstd
    args.r = call.r
    args.d = call.d
    args.batch = call.norm.batch
    args.channels = call.norm.channels
    args.spatial = call.norm.spatial
    args.x_stride = call.norm.x_stride
    args.y_stride = call.norm.y_stride
    args.x_channel_stride = call.norm.x_channel_stride
    args.y_channel_stride = call.norm.y_channel_stride
    args.training = call.norm.training
    args.momentum = call.norm.momentum
    args.num_batches_tracked = call.norm.num_batches_tracked
    args.eps = call.norm.eps
    args.r_max = call.r_max
    args.d_max = call.d_max
    args.scratch = call.norm.scratch
    args.scratch_size = call.norm.scratch_size
    args.exec_ = call.norm.exec_
    args.format = call.norm.format
    args.epilogue = call.norm.epilogue
    return c.fastnorm_batch_renorm(&args)


cdef c.fastnorm_status run_weight_norm(const ChannelCall *call) noexcept nogil:
    cdef c.fastnorm_weight_norm_args args
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = call.norm.dtype
    args.x = call.norm.x
    args.y = call.norm.y
    args.g = call.norm.weight
    args.norm = call.norm.rstd
    args.batch = call.norm.batch
    args.channels = call.norm.channels
    args.spatial = call.norm.spatial
    args.x_stride = call.norm.x_stride
    args.y_stride = call.norm.y_stride
    args.x_channel_stride = call.norm.x_channel_stride
    args.y_channel_stride = call.norm.y_channel_stride
    args.scratch = call.norm.scratch
    args.scratch_size = call.norm.scratch_size
    args.exec_ = call.norm.exec_
    args.format = call.norm.format
    return c.fastnorm_weight_norm(&args)


cdef c.fastnorm_status run_channels_nogil(const ChannelCall *call) noexcept nogil:
    if call.variant == RENORM:
        return run_batch_renorm(call)
    if call.variant == LENGTH:
        return run_weight_norm(call)
    if call.operation == GROUP:
        return run_group_norm(call)
    if call.operation == INSTANCE:
        return run_instance_norm(call)
    return c.fastnorm_batch_norm(&call.norm)


cdef int run_channels(ChannelCall *call, bint tiny) except -1:
    cdef c.fastnorm_status status
    if fnp_backend is not NULL:
        return channels_elsewhere(call)
    if call.operation == BATCH:
        call.norm.scratch_size = c.fastnorm_batch_norm_scratch(&call.norm)
    if call.norm.scratch_size > 0:
        # Without memory for it the call takes longer; the result is the same.
        call.norm.scratch = PyMem_RawMalloc(call.norm.scratch_size)
        if call.norm.scratch is NULL:
            call.norm.scratch_size = 0
    if tiny:
        status = run_channels_nogil(call)
    else:
        with nogil:
            status = run_channels_nogil(call)
    PyMem_RawFree(call.norm.scratch)
    call.norm.scratch = NULL
    return status


cdef struct Layouts:
    # What x, y and post_add have in common, and which of them have to be packed first.
    Form form
    bint x
    bint y
    bint added


cdef bint find_form(
    ndarray x, ndarray y, int channel, Form form, Channels *found, Layouts *fits
) noexcept:
    fits.form = form
    fits.x = find_channels(x, channel, form, &found[0])
    fits.y = find_channels(y, channel, form, &found[1])
    return fits.x and fits.y


cdef Layouts find_layouts(
    ChannelCall *call, ndarray x, ndarray y, ndarray added, int channel
) noexcept:
    """Describe the arrays to the C API as they lie in memory."""
    cdef Layouts fits
    cdef Channels found[3]
    cdef size_t others = call.norm.batch * call.norm.spatial
    cdef bint found_form = find_form(x, y, channel, IMAGES, found, &fits)
    if not found_form and call.operation != BATCH:
        found_form = find_form(x, y, channel, LAST, found, &fits)
    elif not found_form:
        found_form = find_form(x, y, channel, TABLE, found, &fits) or (
            find_form(x, y, channel, RUNS, found, &fits)
        )
    if not found_form:
        # One of them at least is copied, to the form of a packed array.
        find_form(x, y, channel, IMAGES, found, &fits)
    fits.added = added is None or find_channels(added, channel, fits.form, &found[2])
    call.channels_last = fits.form == LAST
    if fits.form == TABLE:
        call.norm.batch = others
        call.norm.spatial = 1
    elif fits.form == RUNS:
        call.norm.batch = 1
        call.norm.spatial = others
    if fits.x:
        call.norm.x_stride = found[0].sample_stride
        call.norm.x_channel_stride = found[0].channel_stride
    if fits.y:
        call.norm.y_stride = found[1].sample_stride
        call.norm.y_channel_stride = found[1].channel_stride
    if added is not None and fits.added:
        call.norm.epilogue.post_add_stride = found[2].sample_stride
        call.norm.epilogue.post_add_channel_stride = found[2].channel_stride
    return fits
