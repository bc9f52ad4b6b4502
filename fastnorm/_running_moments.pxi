# _running_moments.pxi - what fastnorm.stats.RunningMoments is made of.
# SPDX-License-Identifier: MIT
#
# A state is two arrays: int64 counts [features], and the seven arrays of doubles of the
# C struct as rows of one float64 array [7, features]: weight, mean, mean_low, m2,
# m2_low, min, max. Features are in C order whatever their axes.

cdef enum:
    STATE_ROWS = 7

cdef dict nan_policies = {
    "propagate": c.FASTNORM_NAN_PROPAGATE, "error": c.FASTNORM_NAN_ERROR,
    "omit": c.FASTNORM_NAN_MISSING,
}


cdef struct Strips:
    # Adjacent axes of one kind that step through each of three arrays as one.
    bint reduced
    Py_ssize_t extent
    Py_ssize_t stride[3]  # bytes: of the batch, the mask, the weights


cdef c.fastnorm_running_moments state_of(ndarray count, ndarray rows, Py_ssize_t first,
                                         Py_ssize_t features):
    """The C struct of `features` features from `first` on."""
    cdef c.fastnorm_running_moments s
    cdef double *p = <double *>cnp.PyArray_DATA(rows) + first
    cdef Py_ssize_t n = cnp.PyArray_SIZE(count)
    s.size = sizeof(s)
    s.features = features
    s.count = <int64_t *>cnp.PyArray_DATA(count) + first
    s.weight = p
    s.mean = p + n
    s.mean_low = p + 2 * n
    s.m2 = p + 3 * n
    s.m2_low = p + 4 * n
    s.min = p + 5 * n
    s.max = p + 6 * n
    return s


cdef int fold_strips(tuple arrays, const bint *reduced, Strips *strips) except -1:
    """Fold the axes of arrays of one shape (or None) into strips; how many."""
    cdef ndarray x = arrays[0], a
    cdef const cnp.npy_intp *shape = cnp.PyArray_DIMS(x)
    cdef int count = 0
    cdef int i, k
    cdef bint fits
    for i in range(cnp.PyArray_NDIM(x)):
        if shape[i] == 1:
            continue
        fits = count > 0 and strips[count - 1].reduced == reduced[i]
        strips[count].reduced = reduced[i]
        strips[count].extent = shape[i]
        for k in range(3):
            a = arrays[k]
            strips[count].stride[k] = 0 if a is None else cnp.PyArray_STRIDE(a, i)
            fits = fits and (
                strips[count - 1].stride[k] == strips[count].stride[k] * shape[i]
            )
        if fits:
            strips[count].extent *= strips[count - 1].extent
            strips[count - 1] = strips[count]
        else:
            count += 1
    return count


cdef bint describe_strips(
    c.fastnorm_running_moments_args *args, const Strips *strips, int count,
    Py_ssize_t item, Py_ssize_t weight_item
) noexcept:
    """Tell the C API of [reduced], kept, [reduced] if that is what there is."""
    cdef int i = 0, k
    args.batch = args.channels = args.spatial = 1
    for k in range(count):
        if strips[k].stride[0] == 0 or strips[k].stride[0] % item != 0:
            return False
        if strips[k].stride[2] % weight_item != 0:
            return False
    # A packed run that is all there is comes as one channel, not as a column.
    if i < count and strips[i].reduced and not (
        count == 1 and strips[0].stride[0] == item
    ):
        args.batch = strips[i].extent
        args.x_stride = strips[i].stride[0] // item
        args.mask_stride = strips[i].stride[1]
        args.weights_stride = strips[i].stride[2] // weight_item
        i += 1
    if i < count and not strips[i].reduced:
        args.channels = strips[i].extent
        args.x_channel_stride = strips[i].stride[0] // item
        args.mask_channel_stride = strips[i].stride[1]
        args.weights_channel_stride = strips[i].stride[2] // weight_item
        i += 1
    if i < count and strips[i].reduced and strips[i].stride[0] == item:
        args.spatial = strips[i].extent
        args.mask_spatial_stride = strips[i].stride[1]
        args.weights_spatial_stride = strips[i].stride[2] // weight_item
        i += 1
    # Where each channel is one value wide, the channels must be adjacent.
    if args.spatial == 1 and args.channels > 1 and args.x_channel_stride != 1:
        return False
    return i == count


cdef c.fastnorm_status update_once(
    const c.fastnorm_running_moments *state, c.fastnorm_running_moments_args *args
) noexcept nogil:
    cdef c.fastnorm_status status = c.fastnorm_running_moments_init(state)
    if status == c.FASTNORM_OK:
        status = c.fastnorm_running_moments_update(state, args)
    return status


cdef int run_strips(
    c.fastnorm_running_moments_args *args, const Strips *outer, Py_ssize_t item,
    ndarray count, ndarray rows
) except -1:
    """C calls for each part along `outer`, a kept strip, or one call if it is NULL."""
    cdef Py_ssize_t i, n = 1 if outer is NULL else outer.extent
    cdef size_t size = c.fastnorm_running_moments_scratch(args)
    cdef c.fastnorm_status status = c.FASTNORM_OK
    cdef c.fastnorm_running_moments state
    args.scratch_size = size
    args.scratch = PyMem_RawMalloc(size if size > 0 else 1)
    if args.scratch is NULL:
        raise MemoryError("RunningMoments.update: no memory for the batch's moments")
    try:
        for i in range(n):
            state = state_of(count, rows, i * args.channels, args.channels)
            with nogil:
                status = update_once(&state, args)
            if status != c.FASTNORM_OK:
                break
            if outer is not NULL:
                args.x = <const char *>args.x + outer.stride[0]
                if args.mask is not NULL:
                    args.mask += outer.stride[1]
                if args.weights is not NULL:
                    args.weights = <const char *>args.weights + outer.stride[2]
    finally:
        PyMem_RawFree(args.scratch)
    if status == c.FASTNORM_ERROR_NAN:
        raise ValueError("RunningMoments.update: batch holds NaN, and nan is 'error'")
    if status == c.FASTNORM_ERROR_WEIGHT:
        raise ValueError(
            "RunningMoments.update: weights holds a number that is negative, infinite "
            "or NaN"
        )
    return check_status("RunningMoments.update", status)


cdef bint reduce_strips(
    const c.fastnorm_running_moments_args *options, tuple arrays, const bint *reduced,
    ndarray count, ndarray rows
) except -1:
    """Fill the state with the moments of arrays[0]; False if that needs a copy."""
    cdef c.fastnorm_running_moments_args args = options[0]
    cdef Strips strips[MAX_AXES]
    cdef const Strips *outer = NULL
    cdef ndarray x = arrays[0], mask = arrays[1], weights = arrays[2]
    cdef int found = fold_strips(arrays, reduced, strips), skip = 0
    cdef Py_ssize_t item = cnp.PyArray_ITEMSIZE(x), weight_item = 1
    if weights is not None:
        weight_item = cnp.PyArray_ITEMSIZE(weights)
        args.weights = cnp.PyArray_DATA(weights)
        args.weights_dtype = dtype_of(weights)
    if mask is not None:
        args.mask = <const unsigned char *>cnp.PyArray_DATA(mask)
    # A kept strip in front of what the C API knows is walked here.
    if found > 2 and not strips[0].reduced:
        outer = &strips[0]
        skip = 1
    if not describe_strips(&args, strips + skip, found - skip, item, weight_item):
        return False
    args.x = cnp.PyArray_DATA(x)
    run_strips(&args, outer, item, count, rows)
    return True


cdef ndarray beside_batch(str name, object value, ndarray x, bint is_mask):
    """A mask or weights as a view of the shape of x, or None."""
    cdef ndarray a
    if value is None:
        return None
    a = as_base_array("RunningMoments.update", name, value)
    if is_mask and a.dtype != np.bool_:
        raise TypeError(
            f"RunningMoments.update: mask has dtype {a.dtype}, bool is needed"
        )
    if not is_mask and a.dtype.kind not in "fiu":
        raise TypeError(
            f"RunningMoments.update: weights has dtype {a.dtype}, real numbers are "
            "needed"
        )
    if not is_mask and (
        a.dtype not in (np.float32, np.float64) or not cnp.PyArray_ISBEHAVED_RO(a)
    ):
        a = np.array(a, np.float64)
    try:
        return np.broadcast_to(a, np.shape(x))
    except ValueError:
        raise ValueError(
            f"RunningMoments.update: {name} has shape {np.shape(a)}, which does not "
            f"broadcast to batch's {np.shape(x)}"
        ) from None


def _batch_state(
    batch, axis, mask, weights, str nan, num_threads, flush_denormals, wanted
):
    """The state of one batch, and the shape of its features.

    `axis` None reduces all axes; `wanted`, if not None, is the shape that is needed.
    """
    cdef str fn = "RunningMoments.update"
    cdef ndarray x = as_input(fn, "batch", batch), count, rows
    cdef int nd = cnp.PyArray_NDIM(x)
    cdef c.fastnorm_running_moments_args options
    cdef bint reduced[MAX_AXES]
    memset(&options, 0, sizeof(options))
    options.size = sizeof(options)
    options.dtype = dtype_of(x)
    options.nan = nan_policies[nan]
    options.exec_.num_threads = as_num_threads(fn, num_threads)
    options.exec_.flush_denormals = bool(flush_denormals)
    axes = list(range(nd)) if axis is None else as_axes(fn, axis, nd)
    shape = tuple([n for i, n in enumerate(np.shape(x)) if i not in axes])
    if wanted is not None and shape != wanted:
        raise ValueError(
            f"{fn}: batch has shape {np.shape(x)}, features of shape {shape}; the "
            f"batches before had {wanted}"
        )
    beside = (
        x,
        beside_batch("mask", mask, x, True),
        beside_batch("weights", weights, x, False),
    )
    order = list(range(nd))
    if not cnp.PyArray_IS_C_CONTIGUOUS(x):
        # Axes in the order of memory, so that no Fortran-ordered table is copied.
        order = np.argsort(-np.abs((<object>x).strides), kind="stable").tolist()
    kept = [i for i in order if i not in axes]
    features = [np.shape(x)[i] for i in kept]
    count = np.zeros(features, np.int64)
    rows = np.zeros([STATE_ROWS, *features])
    rows[5].fill(INFINITY)
    rows[6].fill(-INFINITY)
    if cnp.PyArray_SIZE(x) > 0:
        for i in range(nd):
            reduced[i] = order[i] in axes
        ordered = tuple([None if a is None else a.transpose(order) for a in beside])
        if not reduce_strips(&options, ordered, reduced, count, rows):
            # No layout that the C API takes: packed, with the reduced axes last.
            ordered = tuple([
                None if a is None else native_copy(a.transpose(kept + axes))
                for a in beside
            ])
            for i in range(nd):
                reduced[i] = i >= len(kept)
            reduce_strips(&options, ordered, reduced, count, rows)
    back = np.argsort(kept).tolist()
    rows_back = [0] + [i + 1 for i in back]
    return (
        np.ascontiguousarray(count.transpose(back)).ravel(),
        np.ascontiguousarray(rows.transpose(rows_back)).reshape(STATE_ROWS, -1),
        shape,
    )


def _merge_states(ndarray count, ndarray rows, ndarray other_count, ndarray other_rows):
    """The first state, of arrays that are not shared, takes in the second."""
    cdef Py_ssize_t n = cnp.PyArray_SIZE(count)
    cdef c.fastnorm_running_moments state = state_of(count, rows, 0, n)
    cdef c.fastnorm_running_moments other = state_of(other_count, other_rows, 0, n)
    if c.fastnorm_running_moments_merge(&state, &other) != c.FASTNORM_OK:
        raise OverflowError("RunningMoments: the counts add up to more than 2**63-1")


def _state_results(ndarray count, ndarray rows, double ddof):
    """Mean, variance, deviation, minimum and maximum, as rows of one array."""
    cdef Py_ssize_t n = cnp.PyArray_SIZE(count)
    cdef c.fastnorm_running_moments state = state_of(count, rows, 0, n)
    cdef c.fastnorm_running_results results
    cdef ndarray found = np.empty((5, n))
    cdef double *p = <double *>cnp.PyArray_DATA(found)
    results.size = sizeof(results)
    results.ddof = ddof
    results.mean = p
    results.var = p + n
    results.std = p + 2 * n
    results.min = p + 3 * n
    results.max = p + 4 * n
    check_status(
        "RunningMoments", c.fastnorm_running_moments_finish(&state, &results)
    )
    return found
