# _moments_layout.pxi - moments: arrays and masks as the C API takes them.
# SPDX-License-Identifier: MIT


cdef struct Block:
    # Adjacent axes of one kind that step through memory as one.
    bint reduced
    Py_ssize_t extent
    Py_ssize_t stride  # bytes
    Py_ssize_t mask  # that of the mask, in its elements


cdef int find_blocks(
    ndarray a, ndarray mask, const bint *reduced, Block *blocks
) noexcept:
    """Fold the axes of a, and of its mask if it has one, into blocks; how many."""
    cdef const cnp.npy_intp *shape = cnp.PyArray_DIMS(a)
    cdef const cnp.npy_intp *strides = cnp.PyArray_STRIDES(a)
    cdef Py_ssize_t step = 0, item = 1 if mask is None else cnp.PyArray_ITEMSIZE(mask)
    cdef int count = 0
    cdef int i
    for i in range(cnp.PyArray_NDIM(a)):
        if shape[i] == 1:
            continue
        if mask is not None:
            step = cnp.PyArray_STRIDE(mask, i) // item
        if (
            count > 0
            and blocks[count - 1].reduced == reduced[i]
            and blocks[count - 1].stride == strides[i] * shape[i]
            and blocks[count - 1].mask == step * shape[i]
        ):
            blocks[count - 1].extent *= shape[i]
            blocks[count - 1].stride = strides[i]
            blocks[count - 1].mask = step
            continue
        blocks[count] = Block(reduced[i], shape[i], strides[i], step)
        count += 1
    return count


cdef bint set_layout(
    c.fastnorm_moments_args *args, const Block *blocks, int count, Py_ssize_t item
) noexcept:
    """Describe blocks, [reduced], kept, [reduced], to the C API if it can take them."""
    cdef int i = 0, k
    args.batch = args.channels = args.spatial = 1
    args.x_stride = args.x_channel_stride = 0
    args.mask.stride = args.mask.channel_stride = args.mask.spatial_stride = 0
    for k in range(count):
        if blocks[k].stride == 0 or blocks[k].stride % item != 0:
            return False
    # A packed run that is all there is comes as one channel, not as a column.
    if count == 1 and blocks[0].reduced and blocks[0].stride == item:
        args.spatial = blocks[0].extent
        args.mask.spatial_stride = blocks[0].mask
        return True
    if i < count and blocks[i].reduced:
        args.batch = blocks[i].extent
        args.x_stride = blocks[i].stride // item
        args.mask.stride = blocks[i].mask
        i += 1
    if i < count and not blocks[i].reduced:
        args.channels = blocks[i].extent
        args.x_channel_stride = blocks[i].stride // item
        args.mask.channel_stride = blocks[i].mask
        i += 1
    if i < count and blocks[i].reduced and blocks[i].stride == item:
        args.spatial = blocks[i].extent
        args.mask.spatial_stride = blocks[i].mask
        i += 1
    # Where each channel is one value wide, the channels must be adjacent.
    if args.spatial == 1 and args.channels > 1 and args.x_channel_stride != 1:
        return False
    return i == count


cdef int run_moments(
    c.fastnorm_moments_args *args, Py_ssize_t outer, Py_ssize_t outer_step,
    Py_ssize_t mask_step, bint tiny,
) except -1:
    """C calls for `outer` arrays that lie outer_step bytes apart."""
    cdef c.fastnorm_status status
    if fnp_backend is not NULL:
        return moments_elsewhere(args, outer, outer_step)
    args.scratch_size = c.fastnorm_moments_scratch(args)
    if args.scratch_size > 0:
        # Without memory for it the call takes longer; the result is the same.
        args.scratch = PyMem_RawMalloc(args.scratch_size)
        if args.scratch is NULL:
            args.scratch_size = 0
    if tiny:
        status = step_moments(args, outer, outer_step, mask_step)
    else:
        with nogil:
            status = step_moments(args, outer, outer_step, mask_step)
    PyMem_RawFree(args.scratch)
    return status


cdef c.fastnorm_status step_moments(
    c.fastnorm_moments_args *args, Py_ssize_t outer, Py_ssize_t outer_step,
    Py_ssize_t mask_step,
) noexcept nogil:
    cdef c.fastnorm_status status
    cdef Py_ssize_t i
    for i in range(outer):
        status = c.fastnorm_moments(args)
        if status != c.FASTNORM_OK:
            return status
        args.x = <const char *>args.x + outer_step
        args.mean += args.channels
        args.m2 += args.channels
        if args.weight is not NULL:
            args.weight += args.channels
        if args.mask.mask is not NULL:
            args.mask.mask += mask_step
        elif args.mask.weights is not NULL:
            args.mask.weights = <const char *>args.mask.weights + mask_step
    return c.FASTNORM_OK


cdef object reduce_moments(
    const c.fastnorm_moments_args *options, ndarray x, ndarray mask,
    const bint *reduced, ndarray mean, ndarray m2, ndarray counts,
):
    """Fill mean and m2, packed, with the moments over the reduced axes of x.

    counts, which there is where there is a mask, with how many values they are of, or
    the sums of their weights.
    """
    cdef c.fastnorm_moments_args args = options[0]
    cdef Block blocks[MAX_AXES]
    cdef Py_ssize_t outer = 1, outer_step = 0, mask_step = 0
    cdef int count = find_blocks(x, mask, reduced, blocks)
    cdef int skip = 0
    # A kept axis in front of what the C API knows is walked here.
    if count > 2 and not blocks[0].reduced:
        outer = blocks[0].extent
        outer_step = blocks[0].stride
        mask_step = blocks[0].mask
        if mask is not None:
            mask_step *= cnp.PyArray_ITEMSIZE(mask)
        skip = 1
    if not set_layout(&args, blocks + skip, count - skip, cnp.PyArray_ITEMSIZE(x)):
        return False
    args.x = cnp.PyArray_DATA(x)
    args.mean = <double *>cnp.PyArray_DATA(mean)
    args.m2 = <double *>cnp.PyArray_DATA(m2)
    if mask is not None:
        set_mask_data(&args.mask, mask)
        args.weight = <double *>cnp.PyArray_DATA(counts)
    check_status(
        "moments",
        <c.fastnorm_status>run_moments(
            &args, outer, outer_step, mask_step, is_tiny(cnp.PyArray_SIZE(x), x)
        ),
    )
    return True


cdef bint is_shared(ndarray mask, const bint *reduced) noexcept:
    """Whether all that is kept has one pattern."""
    cdef int i
    for i in range(cnp.PyArray_NDIM(mask)):
        if not reduced[i] and cnp.PyArray_DIM(mask, i) > 1:
            if cnp.PyArray_STRIDE(mask, i) != 0:
                return False
    return True


cdef ndarray packed_bytes(ndarray mask, const bint *reduced):
    """A copy of a mask whose axes fold; what is shared stays shared."""
    if not is_shared(mask, reduced):
        return np.ascontiguousarray(mask)
    one = tuple([slice(None if reduced[i] else 1) for i in range(mask.ndim)])
    return np.broadcast_to(np.ascontiguousarray(mask[one]), np.shape(mask))


cdef int fill_moments(
    const c.fastnorm_moments_args *options, ndarray x, ndarray mask, bint *reduced,
    ndarray mean, ndarray m2, ndarray counts,
) except -1:
    """reduce_moments, after such copies as it needs."""
    cdef int nd = cnp.PyArray_NDIM(x)
    cdef int i
    if reduce_moments(options, x, mask, reduced, mean, m2, counts):
        return 0
    if mask is not None:
        mask = packed_bytes(mask, reduced)
        if reduce_moments(options, x, mask, reduced, mean, m2, counts):
            return 0
    # No layout that the C API takes: packed, with the reduced axes last.
    kept_axes = [i for i in range(nd) if not reduced[i]]
    order = kept_axes + [i for i in range(nd) if reduced[i]]
    for i in range(nd):
        reduced[i] = i >= len(kept_axes)
    if mask is not None:
        mask = packed_bytes(mask.transpose(order), reduced)
    x = native_copy(x.transpose(order))
    reduce_moments(options, x, mask, reduced, mean, m2, counts)
    return 0


cdef tuple moments_of(
    const c.fastnorm_moments_args *options, ndarray x, list axes, ndarray mask
):
    """Count, mean and m2; the last two of x's shape with reduced axes of 1.

    The count is an int; with a mask it is an array of such a shape too.
    """
    cdef int nd = cnp.PyArray_NDIM(x)
    cdef bint reduced[MAX_AXES]
    cdef ndarray mean, m2, counts = None
    shape = np.shape(x)
    # Axes in the order of memory, so that no Fortran-ordered table is copied.
    order = list(range(nd))
    if not cnp.PyArray_IS_C_CONTIGUOUS(x):
        steps = np.abs((<object>x).strides)
        order = np.argsort(-steps, kind="stable").tolist()
    kept = [1 if axis in axes else shape[axis] for axis in order]
    count = 1
    for axis in axes:
        count *= shape[axis]
    mean = np.empty(kept)
    m2 = np.empty(kept)
    if mask is not None:
        counts = np.zeros(kept)
        mask = mask.transpose(order)
    if count == 0:
        mean.fill(NAN)
        m2.fill(NAN)
    elif cnp.PyArray_SIZE(mean) > 0:
        for i in range(nd):
            reduced[i] = order[i] in axes
        fill_moments(options, x.transpose(order), mask, reduced, mean, m2, counts)
    back = np.argsort(order)
    return (
        count if counts is None else counts.transpose(back),
        np.ascontiguousarray(mean.transpose(back)),
        np.ascontiguousarray(m2.transpose(back)),
    )


cdef ndarray moments_mask(object mask, object lengths, ndarray x, list axes):
    """The bytes of a mask of x's shape, or weights, or None."""
    if mask is not None and lengths is not None:
        raise ValueError("moments: mask and lengths cannot be given together")
    if mask is not None:
        return as_mask("moments", mask, x)
    if lengths is None:
        return None
    positions = [axis for axis in axes if axis != 0]
    if not positions:
        raise ValueError(
            "moments: lengths needs a reduced axis of positions beside the first"
        )
    shape = np.shape(x)
    most = shape[positions[0]]
    return mask_of_lengths(
        as_lengths("moments", lengths, shape[:1], most), shape, 0, positions[0]
    )


cdef object common_count(ndarray counts, ndarray mask, list axes):
    """The one count of all moments, as an int."""
    cdef bint reduced[MAX_AXES]
    cdef int i
    for i in range(cnp.PyArray_NDIM(mask)):
        reduced[i] = i in axes
    if not is_shared(mask, reduced):
        raise ValueError(
            "moments: return_state=True needs a mask that is the same for all that is "
            "kept (RunningMoments has counts of their own)"
        )
    count = counts.flat[0] if cnp.PyArray_SIZE(counts) > 0 else 0.0
    if count % 1.0 != 0.0 or count >= 2.0**53:
        raise ValueError(
            "moments: return_state=True needs weights whose sum is a whole number, "
            f"not {count} (RunningMoments merges any)"
        )
    return int(count)
