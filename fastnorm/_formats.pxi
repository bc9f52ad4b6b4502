# _formats.pxi - dtypes, quantization and fused operations: what all norms share.
# SPDX-License-Identifier: MIT
#
# An operation calls, after as_input (which takes all six dtypes) has given x:
#
#   dtype_of(a)            the C API's dtype of an array; FASTNORM_DEFAULT: none of ours
#   working_dtype(d)       float64 for float64, else float32: arithmetic and statistics
#   default_output(d)      y's dtype where nothing is said: x's, float32 for 8-bit x
#   as_parameter, joined_dtype, in_dtype
#                          weight, bias, running statistics: each as_parameter(...) is
#                          float32, float16 or bfloat16 (float64 with float64 x only);
#                          params = joined_dtype(joined_dtype(FASTNORM_DEFAULT, w), b)
#                          is what all can be widened to exactly, in_dtype(w, params)
#                          does so; args.format.params = params
#   read_format(...)       out_dtype and the quantization keywords, into args.format and
#                          y's dtype; the result is whether scales are dynamic
#   read_activation(...)   activation, into args.epilogue
#   as_companion(...)      post_add, residual: of input's shape, float32 or 16-bit, or
#                          float64 with float64 x; a copy if it is not behaved
#   as_output_of(...)      out, checked, of the given dtype; fresh if it is None
#   fresh_of(x, d)         an uninitialised C-contiguous array of x's shape
#   fresh_as(a)            another one of a's shape and dtype
#   as_written(...)        what a call writes besides out (running statistics): a
#                          writable view of arrays, buffers and DLPack objects, of any
#                          dtype
#   host_view(...)         the caller's object as an ndarray on its memory, for overlap
#                          checks; lists and None as they are
#
# Where no keyword but the oldest is given, there are no Extras: one test for all of it.

cdef str DTYPE_NAMES = "float32, float64, float16, bfloat16, int8 or uint8"

cdef dict dtype_names = {
    c.FASTNORM_FLOAT32: "float32", c.FASTNORM_FLOAT64: "float64",
    c.FASTNORM_FLOAT16: "float16", c.FASTNORM_BFLOAT16: "bfloat16",
    c.FASTNORM_INT8: "int8", c.FASTNORM_UINT8: "uint8",
}

cdef dict activation_codes = {
    "relu": c.FASTNORM_RELU, "leaky_relu": c.FASTNORM_LEAKY_RELU,
    "relu6": c.FASTNORM_RELU6, "clamp": c.FASTNORM_CLAMP, "gelu": c.FASTNORM_GELU,
    "gelu_tanh": c.FASTNORM_GELU_TANH, "silu": c.FASTNORM_SILU,
    "sigmoid": c.FASTNORM_SIGMOID, "tanh": c.FASTNORM_TANH,
    "hardswish": c.FASTNORM_HARDSWISH,
}

# NumPy numbers the types of other packages as they come; that of ml_dtypes is kept here
# once it has been seen. -2 is nobody's number.
cdef int bfloat16_typenum = -2
# Stands for bfloat16 within the binding where ml_dtypes is missing: for views only.
cdef object bfloat16_stand_in = None


@cython.final
@cython.freelist(8)
@cython.auto_pickle(False)
cdef class Extras:
    """The keywords of a call beside the oldest ones, as they came."""

    cdef object residual, residual_bias, residual_out, post_add, activation, out_dtype
    cdef object in_scale, in_zero_point, out_scale, out_zero_point, mean, var, mode
    cdef object masking, lengths, masked
    cdef bint flush_denormals
    # What C is given for them, and the scales of rows: kept alive by the call.
    cdef ndarray used_residual, used_bias, sum_view, sum_written, used_add
    cdef ndarray used_mean, used_var, used_lengths, scale


cdef bint is_stand_in(ndarray a) noexcept:
    return (
        bfloat16_stand_in is not None
        and cnp.PyArray_TYPE(a) == cnp.NPY_VOID
        and a.dtype == bfloat16_stand_in
    )


cdef c.fastnorm_dtype dtype_of_foreign(ndarray a) noexcept:
    global bfloat16_typenum
    if is_stand_in(a):
        return c.FASTNORM_BFLOAT16
    if not cnp.PyArray_ISUSERDEF(a) or cnp.PyArray_ITEMSIZE(a) != 2:
        return c.FASTNORM_DEFAULT
    try:
        if a.dtype.name != "bfloat16":
            return c.FASTNORM_DEFAULT
    except Exception:
        return c.FASTNORM_DEFAULT
    bfloat16_typenum = cnp.PyArray_TYPE(a)
    return c.FASTNORM_BFLOAT16


cdef inline c.fastnorm_dtype dtype_of(ndarray a) noexcept:
    """FASTNORM_DEFAULT for what the C API has no dtype for."""
    cdef int typenum = cnp.PyArray_TYPE(a)
    if typenum == cnp.NPY_FLOAT32:
        return c.FASTNORM_FLOAT32
    if typenum == cnp.NPY_FLOAT64:
        return c.FASTNORM_FLOAT64
    if typenum == cnp.NPY_FLOAT16:
        return c.FASTNORM_FLOAT16
    if typenum == cnp.NPY_INT8:
        return c.FASTNORM_INT8
    if typenum == cnp.NPY_UINT8:
        return c.FASTNORM_UINT8
    if typenum == bfloat16_typenum:
        return c.FASTNORM_BFLOAT16
    if typenum < cnp.NPY_VOID:
        return c.FASTNORM_DEFAULT
    return dtype_of_foreign(a)


cdef inline bint is_byte(c.fastnorm_dtype dtype) noexcept:
    return dtype == c.FASTNORM_INT8 or dtype == c.FASTNORM_UINT8


cdef inline c.fastnorm_dtype working_dtype(c.fastnorm_dtype dtype) noexcept:
    if dtype == c.FASTNORM_FLOAT64:
        return c.FASTNORM_FLOAT64
    return c.FASTNORM_FLOAT32


cdef inline c.fastnorm_dtype default_output(c.fastnorm_dtype x) noexcept:
    return c.FASTNORM_FLOAT32 if is_byte(x) else x


cdef inline bint mixes(c.fastnorm_dtype dtype, c.fastnorm_dtype x) noexcept:
    """Whether numbers of this type, which must be a float, can accompany those of x."""
    if dtype == c.FASTNORM_DEFAULT or is_byte(dtype):
        return False
    return working_dtype(dtype) == working_dtype(x)


cdef str needed_dtypes(c.fastnorm_dtype x):
    """The end of a sentence that refuses a dtype for what does not mix with x."""
    if x == c.FASTNORM_FLOAT64:
        return "input's float64 is needed"
    return f"float32 or a 16-bit float is needed with {dtype_names[x]} input"


cdef int load_bfloat16(str fn) except -1:
    """Import ml_dtypes: a result of bfloat16 is wanted that no argument has brought."""
    try:
        ml_dtypes = __import__("ml_dtypes")
    except ImportError:
        raise ImportError(
            f"{fn}: a bfloat16 array needs the package ml_dtypes, or give out"
        ) from None
    dtype_of(np.empty(0, ml_dtypes.bfloat16))
    return 0


cdef object bfloat16_for_views():
    """A dtype for bfloat16 memory: that of ml_dtypes, or the stand-in without it."""
    global bfloat16_stand_in
    if bfloat16_typenum < 0:
        try:
            load_bfloat16("")
        except ImportError:
            if bfloat16_stand_in is None:
                bfloat16_stand_in = np.dtype([("bfloat16", "=u2")], align=True)
            return bfloat16_stand_in
    return cnp.PyArray_DescrFromType(bfloat16_typenum)


cdef int typenum_of(str fn, c.fastnorm_dtype dtype) except -1:
    """NumPy's number of the type."""
    if dtype == c.FASTNORM_FLOAT32:
        return cnp.NPY_FLOAT32
    if dtype == c.FASTNORM_FLOAT64:
        return cnp.NPY_FLOAT64
    if dtype == c.FASTNORM_FLOAT16:
        return cnp.NPY_FLOAT16
    if dtype == c.FASTNORM_INT8:
        return cnp.NPY_INT8
    if dtype == c.FASTNORM_UINT8:
        return cnp.NPY_UINT8
    if bfloat16_typenum < 0:
        load_bfloat16(fn)
    return bfloat16_typenum


cdef inline ndarray fresh_of(str fn, ndarray x, c.fastnorm_dtype dtype):
    """An uninitialised C-contiguous array of x's shape."""
    return cnp.PyArray_EMPTY(
        cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), typenum_of(fn, dtype), 0
    )


cdef ndarray fresh_as(ndarray a):
    """An uninitialised C-contiguous array of a's shape and dtype."""
    if cnp.PyArray_TYPE(a) == cnp.NPY_VOID:
        return np.empty(np.shape(a), a.dtype)  # the stand-in
    return fresh_like(a)


cdef inline c.fastnorm_dtype joined_dtype(c.fastnorm_dtype dtype, ndarray a) noexcept:
    """The type that holds all of `dtype` (FASTNORM_DEFAULT: nothing yet) and of a."""
    cdef c.fastnorm_dtype other
    if a is None:
        return dtype
    other = dtype_of(a)
    if dtype == c.FASTNORM_DEFAULT or dtype == other:
        return other
    return c.FASTNORM_FLOAT32  # two different ones of float32 and the 16-bit types


cdef inline ndarray in_dtype(ndarray a, c.fastnorm_dtype dtype):
    """a, or its values in a type that holds all of them exactly."""
    if a is None or dtype_of(a) == dtype:
        return a
    return widened(a)


cdef ndarray widened(ndarray a):
    """A float32 copy of 16-bit values."""
    if is_stand_in(a):
        bits = np.array(a.view(np.uint16), np.uint32, order="C")
        bits <<= 16
        return bits.view(np.float32)
    return np.array(a, np.float32, order="C")


cdef c.fastnorm_dtype as_dtype(str fn, object value) except? c.FASTNORM_UINT8:
    """out_dtype: anything that numpy.dtype takes, and the name "bfloat16"."""
    if isinstance(value, str) and value == "bfloat16":
        return c.FASTNORM_BFLOAT16
    try:
        dtype = np.dtype(value)
    except TypeError:
        raise TypeError(
            f"{fn}: out_dtype is {value!r}, not one of {DTYPE_NAMES}"
        ) from None
    cdef c.fastnorm_dtype found = dtype_of(np.empty(0, dtype))
    if found == c.FASTNORM_DEFAULT or not dtype.isnative:
        raise TypeError(f"{fn}: out_dtype is {dtype}, not one of {DTYPE_NAMES}")
    return found


cdef int read_quantization(
    str fn, str prefix, object scale, object zero_point, c.fastnorm_dtype dtype,
    c.fastnorm_quantization *found,
) except -1:
    """scale and zero_point, each of which may be None, of 8-bit elements."""
    cdef float value
    if scale is not None:
        value = <float>as_number(fn, f"{prefix}_scale", scale)
        if not (0.0 < value < INFINITY and <float>(1.0 / value) < INFINITY):
            raise ValueError(
                f"{fn}: {prefix}_scale is {scale}, a positive finite number is needed"
            )
        found.scale = value
    if zero_point is not None:
        point = as_index(fn, f"{prefix}_zero_point", zero_point)
        low, high = (-128, 127) if dtype == c.FASTNORM_INT8 else (0, 255)
        if not low <= point <= high:
            raise ValueError(
                f"{fn}: {prefix}_zero_point is {point}, {dtype_names[dtype]} needs "
                f"{low} to {high}"
            )
        found.zero_point = point
    return 0


cdef int read_format(
    str fn, Extras extras, c.fastnorm_dtype x, bint may_be_dynamic,
    c.fastnorm_format *format, c.fastnorm_dtype *y,
) except -1:
    """out_dtype and the quantization keywords; 1 if each row needs a scale of its own.

    y is the type of the result. may_be_dynamic says that the operation has such scales.
    """
    y[0] = default_output(x)
    if extras.out_dtype is not None:
        y[0] = as_dtype(fn, extras.out_dtype)
        if working_dtype(y[0]) != working_dtype(x):
            raise TypeError(
                f"{fn}: out_dtype is {dtype_names[y[0]]}, "
                f"which {dtype_names[x]} input does not mix with"
            )
    format.y = y[0]
    if extras.in_scale is not None or extras.in_zero_point is not None:
        if not is_byte(x):
            raise ValueError(
                f"{fn}: in_scale and in_zero_point are for int8 and uint8, "
                f"input has dtype {dtype_names[x]}"
            )
        read_quantization(
            fn, "in", extras.in_scale, extras.in_zero_point, x, &format.x_quantization
        )
    if not is_byte(y[0]):
        if extras.out_scale is not None or extras.out_zero_point is not None:
            raise ValueError(
                f"{fn}: out_scale and out_zero_point are for int8 and uint8, "
                f"the result has dtype {dtype_names[y[0]]}"
            )
        return 0
    read_quantization(
        fn, "out", extras.out_scale, extras.out_zero_point, y[0],
        &format.y_quantization,
    )
    if extras.out_scale is None and not may_be_dynamic:
        raise ValueError(f"{fn}: out_dtype {dtype_names[y[0]]} needs out_scale")
    return extras.out_scale is None


cdef int read_activation(
    str fn, object activation, c.fastnorm_epilogue *epilogue
) except -1:
    """A name, or a tuple of a name and numbers."""
    if activation is None:
        return 0
    name, numbers = activation, ()
    if isinstance(activation, (tuple, list)) and len(activation) > 0:
        name, numbers = activation[0], tuple(activation[1:])
    if not isinstance(name, str):
        raise TypeError(
            f"{fn}: activation is {type(activation).__name__}, "
            "a name or a tuple of a name and numbers is needed"
        )
    code = activation_codes.get(name)
    if code is None:
        raise ValueError(
            f"{fn}: activation is {name!r}, not one of {', '.join(activation_codes)}"
        )
    wanted = {"clamp": (2,), "leaky_relu": (0, 1)}.get(name, (0,))
    if len(numbers) not in wanted:
        takes = {
            "clamp": "two numbers, low and high", "leaky_relu": "one number, the slope",
        }.get(name, "no numbers")
        raise ValueError(f"{fn}: activation {name!r} takes {takes}")
    epilogue.activation = code
    if name == "leaky_relu" and numbers:
        return read_slope(fn, numbers[0], epilogue)
    if name == "clamp":
        epilogue.alpha = as_number(fn, "activation's low", numbers[0])
        epilogue.beta = as_number(fn, "activation's high", numbers[1])
        if not epilogue.alpha <= epilogue.beta:
            raise ValueError(
                f"{fn}: activation is clamp from {epilogue.alpha} to {epilogue.beta}, "
                "low <= high is needed"
            )
    return 0


cdef int read_slope(str fn, object slope, c.fastnorm_epilogue *epilogue) except -1:
    epilogue.alpha = as_number(fn, "activation's slope", slope)
    if not -INFINITY < epilogue.alpha < INFINITY:
        raise ValueError(
            f"{fn}: activation's slope is {epilogue.alpha}, a finite number is needed"
        )
    if epilogue.alpha == 0.0:
        # The C API's zero means the default.
        epilogue.activation = c.FASTNORM_RELU
    return 0


cdef ndarray as_companion(str fn, str name, object value, ndarray x):
    """value, of x's shape and a type that mixes with x's; a copy if not behaved."""
    cdef c.fastnorm_dtype dtype = dtype_of(x)
    cdef ndarray a
    if isinstance(value, (list, tuple)):
        a = real_list(fn, name, value, dtype)
    else:
        a = as_base_array(fn, name, value)
    if not mixes(dtype_of(a), dtype):
        raise TypeError(f"{fn}: {name} has dtype {a.dtype}, {needed_dtypes(dtype)}")
    if not has_shape(a, cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x)):
        raise ValueError(
            f"{fn}: {name} has shape {np.shape(a)}, input's {np.shape(x)} is needed"
        )
    if not cnp.PyArray_ISBEHAVED_RO(a):
        return native_copy(a)
    return a


cdef ndarray real_list(str fn, str name, object value, c.fastnorm_dtype x):
    """A list has no dtype of its own: it takes that of the arithmetic."""
    cdef ndarray a = as_base_array(fn, name, value)
    if a.dtype.kind not in "fiub" or a.dtype.itemsize > 8:
        raise TypeError(f"{fn}: {name} has dtype {a.dtype}, real numbers are needed")
    return np.asarray(
        a, np.float64 if x == c.FASTNORM_FLOAT64 else np.float32
    )
