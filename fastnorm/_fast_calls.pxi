# _fast_calls.pxi - calls of layer_norm and rms_norm with the oldest arguments only.
# SPDX-License-Identifier: MIT
#
# Taking apart a call costs by the number of parameters that there are, not of those
# that are given: with the many keywords of the row norms, a sixth of the time of a row of
# 768 floats. So their vectorcall slot (PEP 590) points here: what has positional
# arguments and the oldest keywords goes on directly, everything else to what Cython made.


cdef extern from *:
    """
    typedef PyObject *(*fnp_vectorcall)(PyObject *, PyObject **, size_t, PyObject *);
    static fnp_vectorcall fnp_swap_vectorcall(PyObject *callable, fnp_vectorcall by) {
      const PyTypeObject *type = Py_TYPE(callable);
      fnp_vectorcall *slot, before;
      if (!(type->tp_flags & Py_TPFLAGS_HAVE_VECTORCALL) ||
          type->tp_vectorcall_offset <= 0)
        return NULL;
      slot = (fnp_vectorcall *)((char *)callable + type->tp_vectorcall_offset);
      before = *slot;
      if (before)
        *slot = by;
      return before;
    }
    """
    ctypedef object (*fnp_vectorcall)(object, PyObject **, size_t, PyObject *)
    fnp_vectorcall fnp_swap_vectorcall(object callable, fnp_vectorcall by)

cdef extern from "Python.h":
    Py_ssize_t PyVectorcall_NARGS(size_t nargsf)

# The names in a call are interned, so that they are the very same objects.
cdef str out_name = sys.intern("out")
cdef str axis_name = sys.intern("axis")
cdef str return_stats_name = sys.intern("return_stats")
cdef str num_threads_name = sys.intern("num_threads")
cdef object default_layer_norm_eps = 1e-5
cdef fnp_vectorcall any_layer_norm = NULL
cdef fnp_vectorcall any_rms_norm = NULL


cdef struct OldKeywords:
    PyObject *out
    PyObject *axis
    PyObject *return_stats
    PyObject *num_threads


cdef inline bint read_old(
    Py_ssize_t count, Py_ssize_t most, PyObject **arguments, PyObject *names,
    OldKeywords *found,
) noexcept:
    """Whether there are only positional arguments, and the oldest keywords at most."""
    cdef Py_ssize_t i
    cdef PyObject *name
    if not 2 <= count <= most:
        return False
    found.out = found.axis = found.num_threads = <PyObject *>None
    found.return_stats = <PyObject *><object>False
    if names is NULL:
        return True
    for i in range(PyTuple_GET_SIZE(<object>names)):
        name = PyTuple_GET_ITEM(<object>names, i)
        if name == <PyObject *>out_name:
            found.out = arguments[count + i]
        elif name == <PyObject *>num_threads_name:
            found.num_threads = arguments[count + i]
        elif name == <PyObject *>return_stats_name:
            found.return_stats = arguments[count + i]
        elif name == <PyObject *>axis_name:
            found.axis = arguments[count + i]
        else:
            return False
    return True


cdef inline object argument(
    PyObject **arguments, Py_ssize_t count, Py_ssize_t index, object otherwise
):
    return <object>arguments[index] if index < count else otherwise


cdef object call_layer_norm(
    object function, PyObject **arguments, size_t flags, PyObject *names
):
    cdef Py_ssize_t count = PyVectorcall_NARGS(flags)
    cdef OldKeywords old
    if not read_old(count, 5, arguments, names, &old):
        return any_layer_norm(function, arguments, flags, names)
    return norm_rows(
        "layer_norm", LAYER_NORM, <object>arguments[0], <object>arguments[1],
        argument(arguments, count, 2, None), argument(arguments, count, 3, None),
        as_eps("layer_norm", argument(arguments, count, 4, default_layer_norm_eps)),
        <object>old.out, <object>old.axis, <object>old.return_stats,
        <object>old.num_threads, None,
    )


cdef object call_rms_norm(
    object function, PyObject **arguments, size_t flags, PyObject *names
):
    cdef Py_ssize_t count = PyVectorcall_NARGS(flags)
    cdef OldKeywords old
    cdef double eps = 0.0
    if not read_old(count, 4, arguments, names, &old):
        return any_rms_norm(function, arguments, flags, names)
    if count > 3 and <object>arguments[3] is not None:
        eps = as_eps("rms_norm", <object>arguments[3])
    return norm_rows(
        "rms_norm", RMS_NORM, <object>arguments[0], <object>arguments[1],
        argument(arguments, count, 2, None), None, eps, <object>old.out,
        <object>old.axis, <object>old.return_stats, <object>old.num_threads, None,
    )


any_layer_norm = fnp_swap_vectorcall(layer_norm, call_layer_norm)
any_rms_norm = fnp_swap_vectorcall(rms_norm, call_rms_norm)
