# _mask.pxi - which positions take part: mask and lengths.
# SPDX-License-Identifier: MIT
#
# A mask is seen as bytes, or as weights, of input's shape, with steps of 0 where it was
# broadcast; the C API wants one step for each of its three extents. Lengths go to it as
# they are where samples and positions are its own, and as a mask where they are not.


@cython.final
@cython.auto_pickle(False)
cdef class Masking:
    """The mask or lengths of a call; and what C is given for them, kept alive."""

    cdef ndarray mask  # bytes or weights, or None
    cdef ndarray lengths  # size_t, of each sample; or None
    cdef bint keep
    cdef ndarray used


cdef bint as_keep(str fn, object masked, bint given) except -1:
    if not isinstance(masked, str):
        raise TypeError(f"{fn}: masked is {type(masked).__name__}, a str is needed")
    if masked not in ("zero", "keep"):
        raise ValueError(f"{fn}: masked is {masked!r}, not one of zero, keep")
    if masked == "keep" and not given:
        raise ValueError(f"{fn}: masked='keep' needs mask or lengths")
    return masked == "keep"


cdef ndarray as_mask(str fn, object value, ndarray x):
    """The bytes of a mask, or weights, of x's shape."""
    cdef ndarray a = as_base_array(fn, "mask", value)
    if cnp.PyArray_ISBOOL(a):
        a = a.view(np.uint8)
    elif cnp.PyArray_TYPE(a) not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64):
        raise TypeError(
            f"{fn}: mask has dtype {a.dtype}; bool is needed, or float32 or float64 "
            "for weights"
        )
    elif not cnp.PyArray_ISBEHAVED_RO(a) or any(
        [step % a.itemsize for step in (<object>a).strides]
    ):
        a = native_copy(a)
    try:
        return np.broadcast_to(a, np.shape(x))
    except ValueError:
        raise ValueError(
            f"{fn}: mask has shape {np.shape(a)}, "
            f"which does not broadcast to input's {np.shape(x)}"
        ) from None


cdef ndarray as_lengths(str fn, object value, tuple shape, Py_ssize_t most):
    """Lengths of this shape as a packed copy: what is checked is what is used."""
    cdef ndarray a = as_base_array(fn, "lengths", value)
    if cnp.PyArray_SIZE(a) == 0 and isinstance(value, (list, tuple)):
        a = a.astype(np.intp)  # an empty list has no integers to be seen by
    if a.dtype.kind not in "iu":
        raise TypeError(f"{fn}: lengths has dtype {a.dtype}, integers are needed")
    if np.shape(a) != shape:
        raise ValueError(f"{fn}: lengths has shape {np.shape(a)}, {shape} is needed")
    if cnp.PyArray_SIZE(a) > 0:
        least, largest = a.min(), a.max()
        if least < 0 or largest > most:
            raise ValueError(
                f"{fn}: lengths has {least if least < 0 else largest}, "
                f"a number from 0 to {most} is needed"
            )
    return np.array(a, dtype=np.uintp, order="C")


cdef tuple sample_axes(str fn, int nd, int channel):
    """The axes of the samples and of the first positions."""
    cdef list others = [i for i in range(nd) if i != channel]
    if len(others) < 2:
        raise ValueError(
            f"{fn}: lengths needs an axis of positions after that of the samples"
        )
    return others[0], others[1]


cdef Masking read_masking(
    str fn, object mask, object lengths, object masked, ndarray x, int channel
):
    """None if there is neither; `masked` says what stands where nothing takes part."""
    cdef Masking m
    cdef bint keep = as_keep(fn, masked, mask is not None or lengths is not None)
    if mask is None and lengths is None:
        return None
    if mask is not None and lengths is not None:
        raise ValueError(f"{fn}: mask and lengths cannot be given together")
    m = Masking.__new__(Masking)
    m.keep = keep
    if mask is not None:
        m.mask = as_mask(fn, mask, x)
    else:
        shape = np.shape(x)
        sample, position = sample_axes(fn, cnp.PyArray_NDIM(x), channel)
        m.lengths = as_lengths(fn, lengths, (shape[sample],), shape[position])
    return m


cdef ndarray mask_of_lengths(ndarray lengths, tuple shape, int sample, int position):
    """The bytes of a mask of this shape."""
    cdef list extents = [1] * len(shape)
    extents[sample] = shape[sample]
    extents[position] = shape[position]
    taking_part = np.arange(shape[position]) < lengths[:, np.newaxis]
    if position < sample:
        taking_part = taking_part.T
    return np.broadcast_to(taking_part.reshape(extents), shape).view(np.uint8)


cdef bint fold_bytes(
    ndarray a, int first, int last, int skipped, cnp.npy_intp *step
) noexcept:
    """fold_axes for a mask, whose steps may be 0."""
    cdef const cnp.npy_intp *shape = cnp.PyArray_DIMS(a)
    cdef const cnp.npy_intp *strides = cnp.PyArray_STRIDES(a)
    cdef cnp.npy_intp reach = 0
    cdef bint begun = False
    cdef int i
    step[0] = 0
    for i in range(last, first - 1, -1):
        if i == skipped or shape[i] == 1:
            continue
        if not begun:
            step[0] = reach = strides[i]
            begun = True
        elif strides[i] != reach:
            return False
        reach *= shape[i]
    return True


cdef void set_mask_data(c.fastnorm_mask *to, ndarray a) noexcept:
    to.mask = NULL
    to.weights = NULL
    if cnp.PyArray_TYPE(a) == cnp.NPY_UINT8:
        to.mask = <const unsigned char *>cnp.PyArray_DATA(a)
    else:
        to.weights = cnp.PyArray_DATA(a)
        to.weights_dtype = (
            c.FASTNORM_FLOAT32 if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32
            else c.FASTNORM_FLOAT64
        )


cdef bint set_mask(c.fastnorm_mask *to, ndarray a, int channel, Form form) noexcept:
    """Whether each extent of the form has one step in a."""
    cdef int last = cnp.PyArray_NDIM(a) - 1
    cdef cnp.npy_intp batch = 0, spatial = 0
    cdef bint fits
    cdef Py_ssize_t item = cnp.PyArray_ITEMSIZE(a)
    if form == TABLE:
        fits = fold_bytes(a, 0, last, channel, &batch)
    elif form == RUNS:
        fits = fold_bytes(a, 0, last, channel, &spatial)
    else:
        fits = fold_bytes(a, 0, channel - 1, -1, &batch) and (
            fold_bytes(a, channel + 1, last, -1, &spatial)
        )
    set_mask_data(to, a)
    to.channel_stride = cnp.PyArray_STRIDE(a, channel)
    if cnp.PyArray_DIM(a, channel) == 1:
        to.channel_stride = 0
    to.stride = batch // item
    to.spatial_stride = spatial // item
    to.channel_stride //= item
    return fits


cdef ndarray packed_mask(ndarray a, int channel, Form form):
    """A copy whose axes fold; what all channels share stays shared."""
    if cnp.PyArray_STRIDE(a, channel) == 0:
        one = np.ascontiguousarray(np.take(a, [0], axis=channel))
        return np.broadcast_to(one, np.shape(a))
    packed = packed_as(a, channel, form)
    if form == TABLE or form == LAST:
        return np.moveaxis(packed, -1, channel)
    if form == RUNS:
        return np.moveaxis(packed, 0, channel)
    return packed


cdef int place_masking(
    ChannelCall *call, Masking m, ndarray x, int first, int channel, Form form
) except -1:
    """Describe m to the C API as it sees x, whose channels `first` were the axis."""
    cdef c.fastnorm_mask *to = &call.norm.mask
    cdef ndarray mask = m.mask
    cdef size_t samples, positions
    memset(to, 0, sizeof(to[0]))
    to.masked = c.FASTNORM_MASKED_KEEP if m.keep else c.FASTNORM_MASKED_ZERO
    if mask is None:
        shape = np.shape(x)
        sample, position = sample_axes("", len(shape), channel)
        samples = shape[sample]
        positions = cnp.PyArray_SIZE(x) // (samples * call.norm.channels)
        if call.norm.spatial == 1 or (
            call.norm.batch == samples and call.norm.spatial == positions
        ):
            m.used = m.lengths * <object>(positions // <size_t>shape[position])
            to.lengths = <const size_t *>cnp.PyArray_DATA(m.used)
            to.positions = positions
            return 0
        mask = mask_of_lengths(m.lengths, shape, sample, position)
    elif call.operation != BATCH:
        mask = samples_first(mask, first)
    if not set_mask(to, mask, channel, form):
        mask = packed_mask(mask, channel, form)
        set_mask(to, mask, channel, form)
    m.used = mask
    return 0
