# _core.pyx - the extension: NumPy arrays in, one C call per function, arrays out.
# SPDX-License-Identifier: MIT
#
# cython: language_level=3, freethreading_compatible=True, binding=True
# cython: cdivision=True, autotestdict=False
"""The compiled functions of fastnorm; use them as ``fastnorm.layer_norm`` and so on."""

cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyObject_CheckBuffer
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_AsDouble, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.limits cimport INT_MAX
from libc.math cimport INFINITY, NAN
from libc.stdint cimport (
    UINT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t,
)
from libc.stdlib cimport getenv
from libc.string cimport memcmp, memset
from numpy cimport ndarray

from fastnorm cimport _c as c

import operator
import os
import sys
from collections import namedtuple

import numpy as np


cdef extern from "Python.h":
    # cpython.long has no twin of this that leaves an int of any size without an error.
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow)


cnp.import_array()

cdef enum:
    MAX_AXES = 64  # NumPy 2's limit; NumPy 1 has 32

__version__ = c.fastnorm_version().decode()

include "_dlpack.pxi"
include "_checks.pxi"
include "_formats.pxi"
include "_control.pxi"
include "_row_extras.pxi"
include "_backend.pxi"
include "_rows.pxi"
include "_layer_norm.pxi"
include "_rms_norm.pxi"
include "_fast_calls.pxi"
include "_l2_norm.pxi"
include "_l1_norm.pxi"
include "_channels.pxi"
include "_mask.pxi"
include "_channel_calls.pxi"
include "_batch_norm.pxi"
include "_batch_renorm.pxi"
include "_weight_norm.pxi"
include "_group_norm.pxi"
include "_instance_norm.pxi"
include "_moments_layout.pxi"
include "_moments.pxi"
include "_running_moments.pxi"
include "_normalize_image.pxi"
include "_backward.pxi"
include "_backward_rows.pxi"
include "_backward_channels.pxi"
include "_backward_samples.pxi"
include "_backward_weight.pxi"
include "_exports.pxi"
