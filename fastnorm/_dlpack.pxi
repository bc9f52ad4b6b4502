# _dlpack.pxi - arrays of other libraries as ndarrays on the same memory.
# SPDX-License-Identifier: MIT
#
# numpy.from_dlpack knows no bfloat16 and cannot give what may be written from producers
# of the first DLPack version, so the capsule is read here. It is not renamed to "used":
# the ndarray keeps it alive, and when it dies its own destructor frees the tensor.


cdef extern from *:
    """
    /* dlpack.h, versions 0 and 1: a stable binary interface. */
    typedef struct { int32_t type, id; } fnp_dl_device;
    typedef struct { uint8_t code, bits; uint16_t lanes; } fnp_dl_dtype;
    typedef struct {
      void *data;
      fnp_dl_device device;
      int32_t ndim;
      fnp_dl_dtype dtype;
      int64_t *shape, *strides; /* in elements; strides may be NULL: C order */
      uint64_t byte_offset;
    } fnp_dl_tensor;
    typedef struct {
      uint32_t major, minor;
      void *context;
      void (*deleter)(void *);
      uint64_t flags;
      fnp_dl_tensor tensor;
    } fnp_dl_versioned; /* without a version there is the tensor first of all */
    """
    ctypedef struct fnp_dl_device:
        int32_t type
        int32_t id
    ctypedef struct fnp_dl_dtype:
        uint8_t code
        uint8_t bits
        uint16_t lanes
    ctypedef struct fnp_dl_tensor:
        void *data
        fnp_dl_device device
        int32_t ndim
        fnp_dl_dtype dtype
        int64_t *shape
        int64_t *strides
        uint64_t byte_offset
    ctypedef struct fnp_dl_versioned:
        uint32_t major
        uint64_t flags
        fnp_dl_tensor tensor

cdef enum:
    DL_READ_ONLY = 1
    DL_COPIED = 2

# Device types whose memory the CPU can address: the CPU's own, and pinned host memory.
cdef frozenset dl_host_devices = frozenset([1, 3, 11])
cdef dict dl_devices = {
    2: "cuda", 4: "opencl", 7: "vulkan", 8: "metal", 9: "vpi", 10: "rocm",
    12: "ext_dev", 13: "cuda_managed", 14: "oneapi", 15: "webgpu", 16: "hexagon",
    17: "maia", 18: "trainium",
}
cdef dict dl_kinds = {
    0: "int", 1: "uint", 2: "float", 4: "bfloat", 5: "complex", 6: "bool",
}
cdef dict dl_typenums = {
    (2, 32): cnp.NPY_FLOAT32, (2, 64): cnp.NPY_FLOAT64, (2, 16): cnp.NPY_FLOAT16,
    (0, 8): cnp.NPY_INT8, (1, 8): cnp.NPY_UINT8, (4, 16): cnp.NPY_UINT16,
}


cdef object ask_for_capsule(str fn, str name, object value):
    try:
        kind, number = value.__dlpack_device__()
        if int(kind) in dl_host_devices:
            try:
                return value.__dlpack__(max_version=(1, 1))
            except TypeError:
                return value.__dlpack__()  # of before the first version
    except Exception as error:
        raise TypeError(f"{fn}: {name} is not an array: {error}") from error
    device = dl_devices.get(int(kind), f"device type {int(kind)}")
    raise TypeError(
        f"{fn}: {name} is on {device}:{int(number)}, memory of the CPU is needed"
    )


cdef ndarray from_dlpack(str fn, str name, object value, bint written):
    """value, which has __dlpack__, as an exact ndarray on the same memory.

    With `written`, refuses what is read-only, and copies, which the caller would never
    see the result in.
    """
    cdef const fnp_dl_tensor *tensor
    cdef const fnp_dl_versioned *versioned
    cdef uint64_t flags = 0
    capsule = ask_for_capsule(fn, name, value)
    if PyCapsule_IsValid(capsule, "dltensor_versioned"):
        versioned = <const fnp_dl_versioned *>PyCapsule_GetPointer(
            capsule, "dltensor_versioned"
        )
        if versioned.major > 1:
            raise TypeError(
                f"{fn}: {name} is of DLPack version {versioned.major}, not 1"
            )
        flags = versioned.flags
        tensor = &versioned.tensor
    elif PyCapsule_IsValid(capsule, "dltensor"):
        tensor = <const fnp_dl_tensor *>PyCapsule_GetPointer(capsule, "dltensor")
    else:
        raise TypeError(f"{fn}: {name} is not an array: its __dlpack__ gives no tensor")
    if written and flags & DL_READ_ONLY:
        raise ValueError(f"{fn}: {name} is read-only")
    if written and flags & DL_COPIED:
        raise ValueError(f"{fn}: {name} gives a copy of its memory")
    return view_of_tensor(fn, name, tensor, capsule, not flags & DL_READ_ONLY)


cdef str name_of_dl_type(const fnp_dl_tensor *tensor):
    kind = dl_kinds.get(tensor.dtype.code, f"DLPack type {tensor.dtype.code}, bits ")
    lanes = "" if tensor.dtype.lanes == 1 else f"x{tensor.dtype.lanes}"
    return f"{kind}{tensor.dtype.bits}{lanes}"


cdef ndarray view_of_tensor(
    str fn, str name, const fnp_dl_tensor *tensor, object capsule, bint writeable
):
    cdef cnp.npy_intp shape[MAX_AXES]
    cdef cnp.npy_intp strides[MAX_AXES]
    cdef cnp.npy_intp item = tensor.dtype.bits // 8, step = item, size = 1
    cdef ndarray a
    cdef int i
    typenum = None
    if tensor.dtype.lanes == 1:
        typenum = dl_typenums.get((tensor.dtype.code, tensor.dtype.bits))
    if typenum is None:
        raise TypeError(
            f"{fn}: {name} has dtype {name_of_dl_type(tensor)}, not {DTYPE_NAMES}"
        )
    if tensor.ndim > MAX_AXES:
        raise ValueError(f"{fn}: {name} has {tensor.ndim} axes, at most {MAX_AXES}")
    for i in range(tensor.ndim - 1, -1, -1):
        shape[i] = tensor.shape[i]
        strides[i] = step if tensor.strides is NULL else tensor.strides[i] * item
        step *= shape[i]
        size *= shape[i]
    if size == 0:
        a = cnp.PyArray_EMPTY(tensor.ndim, shape, typenum, 0)
    else:
        a = cnp.PyArray_New(
            ndarray, tensor.ndim, shape, typenum, strides,
            <char *>tensor.data + tensor.byte_offset, 0,
            cnp.NPY_ARRAY_WRITEABLE if writeable else 0, None,
        )
        cnp.set_array_base(a, capsule)
    if tensor.dtype.code == 4:
        return a.view(bfloat16_for_views())
    return a
