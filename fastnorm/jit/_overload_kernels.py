# _overload_kernels.py - the C functions of _core.pxd as Numba intrinsics.
# SPDX-License-Identifier: MIT
"""Calls from compiled code: by symbol, so that Numba's cache on disk stays valid."""

import ctypes
import functools
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

from fastnorm import _core

_CORE = "fastnorm._core"
_CAPSULES: dict[str, object] = vars(_core)["__pyx_capi__"]
_capsule_name = ctypes.pythonapi.PyCapsule_GetName
_capsule_name.restype = ctypes.c_char_p
_capsule_name.argtypes = [ctypes.py_object]
_NUMBERS = {
    "double": types.float64,
    "int": types.intc,
    "size_t": types.uintp,
    "uint64_t": types.uint64,
}


def error_message(status: int) -> str:
    """One English sentence for a status of the C API."""
    function = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_int)(
        get_cython_function_address(_CORE, "error_message")
    )
    sentence: bytes = function(status)
    return sentence.decode()


def _symbol(name: str) -> str:
    return f"fastnorm_core_{name}"


def add_symbols() -> None:
    """Make the exported functions known to LLVM, also for code from the cache."""
    for name in _CAPSULES:
        address = get_cython_function_address(_CORE, name)
        llvmlite.binding.add_symbol(_symbol(name), address)


def _pointer(context: Any, builder: Any, ty: Any, value: Any) -> Any:
    """The address of an array's data; NULL for None."""
    null = cgutils.voidptr_t(None)
    if isinstance(ty, types.NoneType):
        return null
    if isinstance(ty, types.Optional):
        optional = context.make_helper(builder, ty, value)
        data = _pointer(context, builder, ty.type, optional.data)
        return builder.select(optional.valid, data, null)
    array = context.make_array(ty)(context, builder, value)
    return builder.bitcast(array.data, cgutils.voidptr_t)


@functools.cache
def kernel(name: str) -> Any:
    """An intrinsic that calls an exported function: its arrays and its numbers, tuples.

    That arrays are in a tuple keeps them alive during the call, copies too.
    """
    signature = _capsule_name(_CAPSULES[name]).decode()
    wanted = signature[signature.index("(") + 1 : -1].split(", ")

    @intrinsic
    def call(typing_context: Any, arrays: Any, numbers: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            given = [ty for part in signature.args for ty in part.types]
            parts = [
                element
                for ty, value in zip(signature.args, values, strict=True)
                for element in cgutils.unpack_tuple(builder, value, len(ty))
            ]
            passed = []
            for ctype, ty, value in zip(wanted, given, parts, strict=True):
                if ctype.endswith("*"):
                    passed.append(_pointer(context, builder, ty, value))
                else:
                    number = _NUMBERS[ctype]
                    passed.append(context.cast(builder, value, ty, number))
            kind = ir.FunctionType(
                context.get_value_type(types.intc), [value.type for value in passed]
            )
            function = cgutils.get_or_insert_function(
                builder.module, kind, _symbol(name)
            )
            return builder.call(function, passed)

        return types.intc(arrays, numbers), generate

    return call


@intrinsic
def extents(typing_context: Any, shape: Any) -> Any:
    """An int, or a tuple of ints of whatever types, as a tuple of intp."""
    given = shape.types if isinstance(shape, types.BaseTuple) else (shape,)
    result = types.UniTuple(types.intp, len(given))

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        parts = values
        if isinstance(signature.args[0], types.BaseTuple):
            parts = cgutils.unpack_tuple(builder, values[0], len(given))
        cast = [
            context.cast(builder, part, ty, types.intp)
            for part, ty in zip(parts, given, strict=True)
        ]
        return context.make_tuple(builder, result, cast)

    return result(shape), generate


@functools.cache
def chosen(axes: tuple[int | None, ...]) -> Any:
    """An intrinsic from a shape to a tuple of these of its extents; 1 for None."""
    result = types.UniTuple(types.intp, len(axes))

    @intrinsic
    def choose(typing_context: Any, shape: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            parts = cgutils.unpack_tuple(builder, values[0], len(signature.args[0]))
            one = context.get_constant(types.intp, 1)
            picked = [one if axis is None else parts[axis] for axis in axes]
            return context.make_tuple(builder, result, picked)

        return result(shape), generate

    return choose
