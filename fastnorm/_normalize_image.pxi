# _normalize_image.pxi - normalize_image and the constants of ImageNet.
# SPDX-License-Identifier: MIT

# Mean and standard deviation of the pixels of ImageNet's training images: red, green
# and blue, on the scale from 0 to 1. Most published image models are trained with them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

cdef ndarray imagenet_means = np.array(IMAGENET_MEAN)
cdef ndarray imagenet_stds = np.array(IMAGENET_STD)

cdef enum:
    MOST_CHANNELS = 16

cdef double LEAST_MAGNITUDE = 1e-100
cdef double MOST_MAGNITUDE = 1e100


cdef struct ImageShape:
    int lead  # axes before height, width and channels
    size_t images
    size_t height
    size_t width
    size_t channels


def normalize_image(
    input,
    mean=None,
    std=None,
    *,
    scale=None,
    layout="chw",
    reverse_channels=False,
    out_dtype=None,
    out=None,
    num_threads=None,
):
    """Images as decoders give them to what a network reads, in one pass.

    Parameters
    ----------
    input : array_like, shape (..., height, width, channels)
        Of uint8, float32, float16, bfloat16 or float64, with 1 to 16 channels; a grey
        image needs an axis of one channel, ``image[..., None]``. Rows of packed pixels
        are read in place: crops, every second row, images upside down. Anything else,
        such as a mirrored image, is copied first.
    mean, std : "imagenet", float or sequence of float, optional
        Of each channel, or one number for all, after the multiplication with `scale`,
        in the order of the result. "imagenet" is `IMAGENET_MEAN` and `IMAGENET_STD`
        (red, green, blue). 0 and 1 if not given.
    scale : float, optional
        What elements are multiplied with first: 1/255 for uint8 and 1 for other dtypes
        if not given.
    layout : {"chw", "hwc"}, default "chw"
        The order of the last three axes of the result.
    reverse_channels : bool, default False
        Take the channels from the last to the first: BGR to RGB, or back.
    out_dtype : dtype, optional
        float32, float16 or bfloat16; float64 for float64 input alone. Input's own, and
        float32 for uint8, if not given.
    out : array of the result's shape and dtype, optional
        Written and returned. May be `input` itself with layout "hwc" and equal dtypes.
        An array whose images are not packed costs a copy.
    num_threads : int, optional
        At most this many threads, for this call; see `set_num_threads`.

    Returns
    -------
    y : ndarray, shape (..., channels, height, width) or that of input
        ``(input * scale - mean) / std``; `out` if given, else a new array.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `layer_norm`; nothing has been written then. Magnitudes of `scale` and
        `std` are 1e-100 to 1e100, those of `mean` at most 1e100; `std` is positive.

    Notes
    -----
    Each value is worked out in float64 with a relative error of at most 4e-16 and then
    rounded to float32: within 0.50001 units in the last place of the exact value of the
    formula. 16-bit results are rounded once more, from the float32 value. NaN and Inf
    stay in their element.

    References
    ----------
    Of the data set behind "imagenet": Deng, Dong, Socher, Li, Li, Fei-Fei: ImageNet: a
    large-scale hierarchical image database. CVPR (2009).

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> image = np.array([[[0, 128, 255]]], dtype=np.uint8)  # one pixel
    >>> fastnorm.normalize_image(image, "imagenet", "imagenet").ravel()
    array([-2.117904  ,  0.20518208,  2.64      ], dtype=float32)
    >>> fastnorm.normalize_image(image, scale=1.0, layout="hwc").shape
    (1, 1, 3)
    """
    cdef str fn = "normalize_image"
    cdef c.fastnorm_normalize_image_args args
    cdef ImageShape shape
    cdef ndarray x, means, deviations

    input = host_view(fn, "input", input)
    x = as_input(fn, "input", input)
    memset(&args, 0, sizeof(args))
    args.size = sizeof(args)
    args.dtype = dtype_of(x)
    if args.dtype == c.FASTNORM_INT8:
        raise TypeError(f"{fn}: input has dtype int8, uint8 or a float is needed")
    read_image_shape(fn, x, &shape)
    args.images = shape.images
    args.height = shape.height
    args.width = shape.width
    args.channels = shape.channels
    args.channels_first = is_channels_first(fn, layout)
    args.reverse_channels = bool(reverse_channels)
    args.exec_.num_threads = as_num_threads(fn, num_threads)
    args.format.y = image_dtype(fn, out_dtype, args.dtype)
    if scale is not None:
        args.scale = as_number(fn, "scale", scale)
        check_magnitude(fn, "scale", args.scale, abs(args.scale))
    means = image_channels(fn, "mean", mean, imagenet_means, &shape)
    deviations = image_channels(fn, "std", std, imagenet_stds, &shape)
    if means is not None:
        for value in means.tolist():
            if not abs(value) <= MOST_MAGNITUDE:
                raise ValueError(
                    f"{fn}: mean is {value}, a magnitude of at most 1e100 is needed"
                )
        args.mean = <const double *>cnp.PyArray_DATA(means)
    if deviations is not None:
        for value in deviations.tolist():
            check_magnitude(fn, "std", value, value)
        args.std = <const double *>cnp.PyArray_DATA(deviations)
    return place_image(fn, &args, &shape, x, out, input, mean, std)


cdef int check_magnitude(str fn, str name, double value, double magnitude) except -1:
    if not LEAST_MAGNITUDE <= magnitude <= MOST_MAGNITUDE:
        kind = "a positive number" if name == "std" else "a magnitude"
        raise ValueError(
            f"{fn}: {name} is {value}, {kind} of 1e-100 to 1e100 is needed"
        )
    return 0


cdef int read_image_shape(str fn, ndarray x, ImageShape *shape) except -1:
    cdef int nd = cnp.PyArray_NDIM(x)
    cdef int i
    if nd < 3:
        raise ValueError(
            f"{fn}: input has shape {np.shape(x)}, "
            "(..., height, width, channels) is needed"
        )
    shape.lead = nd - 3
    shape.images = 1
    for i in range(nd - 3):
        shape.images *= cnp.PyArray_DIM(x, i)
    shape.height = cnp.PyArray_DIM(x, nd - 3)
    shape.width = cnp.PyArray_DIM(x, nd - 2)
    shape.channels = cnp.PyArray_DIM(x, nd - 1)
    if not 1 <= shape.channels <= MOST_CHANNELS:
        raise ValueError(
            f"{fn}: input has {shape.channels} channels (its last axis), "
            f"1 to {MOST_CHANNELS} are needed"
        )
    return 0


cdef bint is_channels_first(str fn, object layout) except -1:
    if isinstance(layout, str):
        if layout == "chw":
            return True
        if layout == "hwc":
            return False
    raise ValueError(f"{fn}: layout is {layout!r}, 'chw' or 'hwc' is needed")


cdef c.fastnorm_dtype image_dtype(
    str fn, object out_dtype, c.fastnorm_dtype x
) except? c.FASTNORM_UINT8:
    cdef c.fastnorm_dtype y
    if out_dtype is None:
        return default_output(x)
    y = as_dtype(fn, out_dtype)
    if is_byte(y):
        raise TypeError(f"{fn}: out_dtype is {dtype_names[y]}, a float is needed")
    if working_dtype(y) != working_dtype(x):
        raise TypeError(
            f"{fn}: out_dtype is {dtype_names[y]}, "
            f"which {dtype_names[x]} input does not mix with"
        )
    return y


cdef ndarray image_channels(
    str fn, str name, object value, ndarray imagenet, const ImageShape *shape
):
    """mean or std as packed float64 of each channel; None where it is not given."""
    if value is None:
        return None
    if isinstance(value, str):
        if value != "imagenet":
            raise ValueError(
                f"{fn}: {name} is {value!r}, 'imagenet' or numbers are needed"
            )
        if shape.channels == 3:
            return imagenet
        value = imagenet
    cdef ndarray a = as_base_array(fn, name, value)
    if (a.dtype.kind not in "fiu" or a.dtype.itemsize > 8) and (
        dtype_of(a) != c.FASTNORM_BFLOAT16
    ):
        raise TypeError(f"{fn}: {name} has dtype {a.dtype}, real numbers are needed")
    if cnp.PyArray_NDIM(a) > 0 and np.shape(a) != (shape.channels,):
        raise ValueError(
            f"{fn}: {name} has shape {np.shape(a)}, input with {shape.channels} "
            f"channels needs ({shape.channels},)"
        )
    if dtype_of(a) == c.FASTNORM_BFLOAT16:
        a = widened(a)
    a = a.astype(np.float64)
    if cnp.PyArray_NDIM(a) == 0:
        a = np.full(shape.channels, a)
    return np.ascontiguousarray(a)


cdef tuple image_result_shape(ndarray x, int lead, bint channels_first):
    cdef tuple shape = np.shape(x)
    if not channels_first:
        return shape
    return shape[:lead] + (shape[lead + 2], shape[lead], shape[lead + 1])


cdef ndarray image_output(
    str fn, object out, tuple shape, c.fastnorm_dtype dtype
):
    """out, checked; a fresh array if it is None."""
    if out is None:
        return np.empty(shape, cnp.PyArray_DescrFromType(typenum_of(fn, dtype)))
    cdef ndarray y = as_written(fn, "out", out)
    if dtype_of(y) != dtype:
        raise TypeError(
            f"{fn}: out has dtype {y.dtype}, "
            f"the result's {dtype_names[dtype]} is needed"
        )
    if np.shape(y) != shape:
        raise ValueError(
            f"{fn}: out has shape {np.shape(y)}, the result's {shape} is needed"
        )
    return y


cdef bint find_image_strides(ndarray x, int lead, Py_ssize_t *row, Py_ssize_t *image):
    """Whether x is rows of packed pixels, all one step apart, as are the images.

    The steps are in elements; 0 where there is nothing to step over.
    """
    cdef const cnp.npy_intp *shape = cnp.PyArray_DIMS(x)
    cdef const cnp.npy_intp *strides = cnp.PyArray_STRIDES(x)
    cdef cnp.npy_intp item = cnp.PyArray_ITEMSIZE(x)
    cdef cnp.npy_intp step = 0, reach = 0
    cdef int i
    row[0] = 0
    image[0] = 0
    if cnp.PyArray_IS_C_CONTIGUOUS(x):
        return True
    if shape[lead + 2] > 1 and strides[lead + 2] != item:
        return False
    if shape[lead + 1] > 1 and strides[lead + 1] != item * shape[lead + 2]:
        return False
    if shape[lead] > 1:
        row[0] = strides[lead] // item
        # A step of zero (broadcast rows) cannot be said to the C API.
        if row[0] == 0 or strides[lead] % item != 0:
            return False
    for i in range(lead - 1, -1, -1):
        if shape[i] == 1:
            continue
        if step == 0:
            step = strides[i]
            reach = step
        elif strides[i] != reach:
            return False
        if step == 0 or step % item != 0:
            return False
        reach *= shape[i]
    image[0] = step // item
    return True


cdef c.fastnorm_status run_image(
    const c.fastnorm_normalize_image_args *args, bint tiny
) noexcept:
    cdef c.fastnorm_status status
    if tiny:
        return c.fastnorm_normalize_image(args)
    with nogil:
        status = c.fastnorm_normalize_image(args)
    return status


cdef int refuse_image_overlaps(
    str fn, c.fastnorm_normalize_image_args *args, ndarray y, object input,
    object mean, object std,
) except -1:
    """As refuse_overlap, and in place only where each element has its own place."""
    others = (("input", input), ("mean", mean), ("std", std))
    refuse_overlap(
        fn, "out", y, tuple([pair for pair in others if not isinstance(pair[1], str)])
    )
    if (
        args.channels_first
        and isinstance(input, ndarray)
        and shares_memory(y, input)
    ):
        raise ValueError(f"{fn}: out overlaps input")
    return 0


cdef object place_image(
    str fn, c.fastnorm_normalize_image_args *args, const ImageShape *shape, ndarray x,
    object out, object input, object mean, object std,
):
    """Call C on x and out, whose layouts and overlaps are settled here."""
    cdef ndarray y = image_output(
        fn, out, image_result_shape(x, shape.lead, args.channels_first), args.format.y
    )
    cdef ndarray read = x, written = y
    cdef c.fastnorm_status status
    cdef bint tiny = is_tiny(cnp.PyArray_SIZE(y), y)
    if not find_image_strides(x, shape.lead, &args.x_row_stride, &args.x_stride):
        read = native_copy(x)
        args.x_row_stride = 0
        args.x_stride = 0
    if not find_row_stride(y, shape.lead, &args.y_stride):
        refuse_self_overlap(fn, "out", y)
        written = fresh_as(y)
        args.y_stride = 0
    if out is not None:
        refuse_image_overlaps(fn, args, y, input, mean, std)
    args.x = cnp.PyArray_DATA(read)
    args.y = cnp.PyArray_DATA(written)
    status = run_image(args, tiny)
    if status == c.FASTNORM_ERROR_OVERLAP and out is not None:
        # The C API goes by first and last byte; interleaved arrays may be apart.
        written = fresh_as(y)
        args.y = cnp.PyArray_DATA(written)
        args.y_stride = 0
        status = run_image(args, tiny)
    check_status(fn, status)
    if written is not y:
        np.copyto(y, written)
    return y if out is None else out
