# _overload_checks.py - what calls inside @njit are refused for, and what they share.
# SPDX-License-Identifier: MIT
"""Types are checked while Numba compiles, shapes and numbers before each C call."""

import inspect
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic

import fastnorm
from fastnorm.jit._compile import compiled
from fastnorm.jit._overload_kernels import error_message

ERROR_ISA = 12  # FASTNORM_ERROR_ISA

# Compiled code passes the parts of a message on; what is raised is made from them here,
# with the types that callers know.


class RefusalError(ValueError):
    """Becomes a ValueError.

    The values must not be of literal types (int() sees to that): old releases of Numba
    take what they stand for in one raise for that of others.
    """

    def __new__(cls, text: str, *values: object) -> Any:
        return ValueError(text.format(*values))


class ShapeError(ValueError):
    """Becomes the ValueError for a shape that is not that of axes first, ... ."""

    def __new__(
        cls, fn: str, name: str, shape: Any, whose: str, axes: Any, first: int
    ) -> Any:
        wanted = axes[first : first + len(shape)]
        size, needed = np.prod(shape, dtype=int), np.prod(wanted, dtype=int)
        if size != needed:
            return ValueError(f"{fn}: {name} has {size} values, {whose} needs {needed}")
        return ValueError(f"{fn}: {name} has shape {shape}, {whose} needs {wanted}")


class StatusError(ValueError):
    """Becomes the exception for a status of the C API."""

    def __new__(cls, fn: str, status: int) -> Any:
        if status == ERROR_ISA:
            try:
                fastnorm.isa()
            except RuntimeError as error:
                return RuntimeError(str(error).replace("isa:", f"{fn}:", 1))
        return ValueError(f"{fn}: {error_message(status)}")


def is_none(ty: Any) -> bool:
    return (
        ty is None
        or isinstance(ty, types.NoneType)
        or (isinstance(ty, types.Omitted) and ty.value is None)
    )


def constant(ty: Any) -> Any:
    """The value that is known while compiling, or None."""
    if isinstance(ty, types.Literal):
        return ty.literal_value
    if isinstance(ty, types.Omitted):
        return ty.value
    if isinstance(ty, types.BaseTuple):
        values = tuple(constant(part) for part in ty.types)
        return None if None in values else values
    return None if isinstance(ty, types.Type) else ty


def spelled(ty: Any) -> str:
    return f"a {ty.dtype} array" if isinstance(ty, types.Array) else str(ty)


@intrinsic
def present(typing_context: Any, value: Any) -> Any:
    """An optional array that is not None, as an array."""
    inner = value.type if isinstance(value, types.Optional) else value

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array = context.cast(builder, values[0], signature.args[0], inner)
        return impl_ret_borrowed(context, builder, inner, array)

    return inner(value), generate


OUT_SHAPE = "{}: out has shape {}, input's {} is needed"
THREADS = "{}: num_threads is {}, at least 1 is needed"
EPS = "{}: eps is {}, a finite number >= 0 is needed"


@compiled
def nothing(a, shape, first):
    return None


@compiled
def fresh(out, x):
    return np.empty(x.shape, x.dtype)


@compiled
def extent(shape, first, last):
    """How many elements axes first, ..., last - 1 have."""
    product = 1
    for i in range(first, last):
        product *= shape[i]
    return product


class Call:
    """One call being compiled: its function's name, and the type of its input.

    The methods check the types of other arguments against these, and give the compiled
    functions that check their values.
    """

    def __init__(self, fn: str, input: Any, refused: dict[str, Any]) -> None:
        self.fn = fn
        for name in refused:
            if name in inspect.signature(getattr(fastnorm, fn)).parameters:
                raise self.error(f"{name} cannot be given inside @njit")
            raise self.error(f"there is no argument {name}")
        if not isinstance(input, types.Array):
            raise self.error(f"input is {spelled(input)}, an array is needed")
        if input.dtype not in (types.float32, types.float64):
            raise self.error(
                f"input has dtype {input.dtype}, float32 or float64 is needed"
            )
        if input.ndim == 0:
            raise self.error("input is 0-d, at least one axis is needed")
        self.input = input

    def error(self, text: str) -> Exception:
        error: Exception = TypingError(f"{self.fn}: {text}")
        return error

    def check_array(self, name: str, ty: Any, ndim: int, written: bool = False) -> None:
        optional = isinstance(ty, types.Optional) and not written
        array = ty.type if optional else ty
        if not isinstance(array, types.Array):
            raise self.error(f"{name} is {spelled(ty)}, an array is needed")
        if array.dtype != self.input.dtype:
            raise self.error(
                f"{name} has dtype {array.dtype}, input's {self.input.dtype} is needed"
            )
        if array.ndim != ndim:
            axes = "1 axis" if array.ndim == 1 else f"{array.ndim} axes"
            needed = "1 is" if ndim == 1 else f"{ndim} are"
            raise self.error(f"{name} has {axes}, {needed} needed")
        if (written or optional) and array.layout != "C":
            raise self.error(f"{name} is not C-contiguous, which is needed")
        if written and not array.mutable:
            raise self.error(f"{name} is read-only")

    def parameter(
        self, name: str, ty: Any, ndim: int, whose: str, written: bool = False
    ) -> Any:
        """Compiled: an array as C takes it, with the shape of the axes from `first`."""
        fn = self.fn
        if is_none(ty):
            return nothing
        self.check_array(name, ty, ndim, written)

        @compiled
        def check(a, shape, first):
            for i in range(ndim):
                if a.shape[i] != shape[first + i]:
                    raise ShapeError(fn, name, a.shape, whose, shape, first)
            return np.ascontiguousarray(a)

        @compiled
        def check_optional(a, shape, first):
            if a is not None:
                check(present(a), shape, first)
            return a

        return check_optional if isinstance(ty, types.Optional) else check

    def output(self, ty: Any) -> Any:
        """Compiled: `out`, or a fresh array for None."""
        fn, ndim = self.fn, self.input.ndim
        if is_none(ty):
            return fresh
        self.check_array("out", ty, ndim, written=True)

        @compiled
        def check(out, x):
            for i in range(ndim):
                if out.shape[i] != x.shape[i]:
                    raise RefusalError(OUT_SHAPE, fn, out.shape, x.shape)
            return out

        return check

    def number(self, name: str, ty: Any) -> None:
        ty = ty.value if isinstance(ty, types.Omitted) else ty
        if not isinstance(ty, types.Integer | types.Float | types.Boolean | float):
            raise self.error(f"{name} is {spelled(ty)}, a real number is needed")

    def integer(self, name: str, ty: Any) -> None:
        ty = ty.value if isinstance(ty, types.Omitted) else ty
        if not isinstance(ty, types.Integer | int):
            raise self.error(f"{name} is {spelled(ty)}, an integer is needed")

    def flag(self, name: str, ty: Any) -> None:
        ty = ty.value if isinstance(ty, types.Omitted) else ty
        if not isinstance(ty, types.Boolean | bool):
            raise self.error(f"{name} is {spelled(ty)}, a bool is needed")

    def eps(self, ty: Any, default: float | None = None) -> Any:
        """Compiled: eps, or the default for None."""
        fn = self.fn
        if default is not None and is_none(ty):
            return compiled(lambda eps: default)
        self.number("eps", ty)

        @compiled
        def check(eps):
            if not 0.0 <= eps < np.inf:
                raise RefusalError(EPS, fn, eps)
            return eps

        return check

    def axes(self, name: str, ty: Any) -> tuple[int, ...]:
        """The sorted axes of a constant; all for None."""
        if is_none(ty):
            return tuple(range(self.input.ndim))
        value = constant(ty)
        given = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(axis, int) for axis in given):
            raise self.error(f"{name} is {spelled(ty)}, a constant is needed")
        for axis in given:
            if not -self.input.ndim <= axis < self.input.ndim:
                raise self.error(f"{name} is {axis}, input has {self.input.ndim} axes")
        axes = tuple(sorted({axis % self.input.ndim for axis in given}))
        if len(axes) != len(given):
            raise self.error(f"{name} {given} names an axis twice")
        return axes

    def threads(self, ty: Any) -> Any:
        """Compiled: the number of threads; one for None."""
        fn = self.fn
        if is_none(ty):
            return compiled(lambda count: 1)
        self.integer("num_threads", ty)

        @compiled
        def check(count):
            if not 1 <= count <= 2147483647:
                raise RefusalError(THREADS, fn, int(count))
            return count

        return check

    def status(self) -> Any:
        """Compiled: the exception for what C refused."""
        fn = self.fn

        @compiled
        def check(status):
            if status != 0:
                raise StatusError(fn, status)

        return check
