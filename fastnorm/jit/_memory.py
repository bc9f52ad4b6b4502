# SPDX-License-Identifier: MIT
"""_memory.py - elements at addresses: loads, stores, and what goes past the caches.

Kernels are given addresses and not arrays: a loop over pointers whose loads are known
not to be overwritten needs no checks for overlap, and one compilation serves any
strides. The type of an element is that of `like`, a scalar whose value does not matter:
float32, float64, uint16 for the bits of a float16, int16 for those of a bfloat16.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from ._compile import INLINE, compiled

LIKE: dict[int, object] = {
    1: np.float32(0),
    2: np.float64(0),
    3: np.uint16(0),
    4: np.int16(0),
}
"""By the number that the C API has for the dtype."""


def _pointer(context, builder, signature, args, like):
    """The address of element args[1], of the type of argument `like`."""
    element = context.get_value_type(signature.args[like])
    base = builder.inttoptr(args[0], element.as_pointer())
    return builder.gep(base, [args[1]])


@intrinsic
def load(typing, address, index, like):
    """Element `index`, which nothing overwrites for as long as the kernel runs."""

    def generate(context, builder, signature, args):
        value = builder.load(_pointer(context, builder, signature, args, 2))
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return value

    return like(types.int64, types.int64, like), generate


def _own_scope(builder):
    """The alias scope of what `store_own` writes: the kernel's own arrays."""
    module = builder.module
    domain = module.add_metadata([ir.MetaDataString(module, "fastnorm")])
    scope = module.add_metadata([ir.MetaDataString(module, "fastnorm own"), domain])
    return module.add_metadata([scope])


@intrinsic
def fetch(typing, address, index, like):
    """Element `index` of an array that is not the kernel's own, but may be written."""

    def generate(context, builder, signature, args):
        value = builder.load(_pointer(context, builder, signature, args, 2))
        value.set_metadata("noalias", _own_scope(builder))
        return value

    return like(types.int64, types.int64, like), generate


@intrinsic
def load_own(typing, address, index, like):
    """Element `index` of an array of the kernel's own."""

    def generate(context, builder, signature, args):
        value = builder.load(_pointer(context, builder, signature, args, 2))
        value.set_metadata("alias.scope", _own_scope(builder))
        return value

    return like(types.int64, types.int64, like), generate


@intrinsic
def store_own(typing, address, index, value):
    """Make `value` element `index` of an array of the kernel's own."""

    def generate(context, builder, signature, args):
        to = builder.store(args[2], _pointer(context, builder, signature, args, 2))
        to.set_metadata("alias.scope", _own_scope(builder))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, value), generate


@intrinsic
def store(typing, address, index, value):
    """Make `value` element `index` of an array that is not the kernel's own."""

    def generate(context, builder, signature, args):
        to = builder.store(args[2], _pointer(context, builder, signature, args, 2))
        to.set_metadata("noalias", _own_scope(builder))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, value), generate


@intrinsic
def size_of(typing, like):
    """The bytes of an element."""

    def generate(context, builder, signature, args):
        return context.get_constant(types.int64, like.bitwidth // 8)

    return types.int64(like), generate


@intrinsic
def _cast(typing, value, like):
    """The same bits as another type of the same size."""

    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return like(value, like), generate


@intrinsic
def _from_half(typing, bits):
    def generate(context, builder, signature, args):
        half = builder.bitcast(args[0], ir.HalfType())
        return builder.fpext(half, ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def _to_half(typing, value):
    def generate(context, builder, signature, args):
        half = builder.fptrunc(args[0], ir.HalfType())
        return builder.bitcast(half, ir.IntType(16))

    return types.uint16(types.float32), generate


@compiled(forceinline=True)
def _to_bfloat(value):
    # Round to nearest even by an addition below the 16 bits that stay. NaN, whose
    # fraction could be lost or carried away by that, becomes the quiet one.
    bits = _cast(value, np.uint32(0))
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> (
        np.uint32(16)
    )
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    return np.int16(quiet if value != value else rounded)


def widen(element):
    """The number that an element is, in the working type."""


@overload(widen, inline="never", jit_options=INLINE)
def _widen(element):
    if element == types.uint16:
        return lambda element: _from_half(element)
    if element == types.int16:
        return lambda element: _cast(
            np.uint32(np.uint32(np.uint16(element)) << np.uint32(16)), np.float32(0)
        )
    return lambda element: element


def narrow(value, like):
    """A number as an element of the type of `like`, rounded to nearest even."""


@overload(narrow, inline="never", jit_options=INLINE)
def _narrow(value, like):
    if like == types.uint16:
        return lambda value, like: _to_half(np.float32(value))
    if like == types.int16:
        return lambda value, like: _to_bfloat(np.float32(value))
    if like == types.float32:
        return lambda value, like: np.float32(value)
    return lambda value, like: np.float64(value)


def working(value, like):
    """A number in the working type of elements like `like`."""


@overload(working, inline="never", jit_options=INLINE)
def _working(value, like):
    if like == types.float64:
        return lambda value, like: np.float64(value)
    return lambda value, like: np.float32(value)


@intrinsic
def keep(typing, array):
    """Nothing; but the array, whose address is in use, is not freed before this.

    Numba lets go of an array after its last use, and an address is none.
    """

    def generate(context, builder, signature, args):
        return context.get_dummy_value()

    return types.void(array), generate


@intrinsic
def _prefetch(typing, address):
    def generate(context, builder, signature, args):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        pointer = builder.inttoptr(args[0], byte)
        # to be read, into all caches, of data
        builder.call(prefetch, [pointer, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def _stream_line(typing, to, source):
    """64 bytes past the caches; `to` is aligned to 64."""

    def generate(context, builder, signature, args):
        line = ir.VectorType(ir.FloatType(), 16)
        value = builder.load(builder.inttoptr(args[1], line.as_pointer()), align=1)
        store = builder.store(
            value, builder.inttoptr(args[0], line.as_pointer()), align=64
        )
        mark = builder.module.add_metadata([ir.IntType(32)(1)])
        store.set_metadata("nontemporal", mark)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def fence(typing):
    """What was streamed is seen by other threads before what is stored later."""

    def generate(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@compiled
def stream(to, source, size, ahead):
    """Copy `size` bytes past the caches; ask for as many at `ahead` meanwhile.

    A line that is written past the caches need not be read first, and the processor
    does not look ahead by itself while it writes: rows of 4096 floats, 2048 of them,
    3050 us with neither, 2480 with both (AMD EPYC Zen 5, AVX-512).
    """
    byte = np.uint8(0)
    head = min(-to % 64, size)
    for i in range(head):
        store(to, i, fetch(source, i, byte))
    lines = (size - head) // 64
    for i in range(lines):
        _prefetch(ahead + head + 64 * i)
        _stream_line(to + head + 64 * i, source + head + 64 * i)
    for i in range(head + 64 * lines, size):
        store(to, i, fetch(source, i, byte))
