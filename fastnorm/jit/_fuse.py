# SPDX-License-Identifier: MIT
"""_fuse.py - a user's scalar functions compiled into the loops of a norm."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numba
import numpy as np
from numba.core.dispatcher import Dispatcher
from numba.core.registry import cpu_target
from numpy.typing import ArrayLike, NDArray

import fastnorm
from fastnorm._core import host_array, run_on

from ._backend import Backend
from ._compile import compiled
from ._memory import LIKE

NORMS = ("layer_norm", "rms_norm", "batch_norm", "group_norm", "instance_norm")
_WIDENED = {"float16": np.float32, "bfloat16": np.float32}


def _named(norm: str | Callable[..., Any]) -> str:
    name = norm if isinstance(norm, str) else getattr(norm, "__name__", "")
    if name not in NORMS:
        raise ValueError(f"fuse: norm is {norm!r}, one of {', '.join(NORMS)} is needed")
    return name


class Hook:
    """One of the user's functions, and the names of the arrays that it takes."""

    def __init__(self, place: str, function: Callable[..., Any], norm: str) -> None:
        plain = function.py_func if isinstance(function, Dispatcher) else function
        if not inspect.isfunction(plain):
            raise TypeError(
                f"fuse: {place} is {function!r} ({type(function).__name__}), a Python "
                "function or what numba.njit made of one is needed"
            )
        self.place = place
        self.name = plain.__name__
        parameters = list(inspect.signature(plain).parameters.values())
        if not parameters or any(
            p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
            for p in parameters
        ):
            raise TypeError(
                f"fuse: {place} {self.name!r} must take the element first and then one "
                "element of each further array, by position"
            )
        self.arrays = tuple(p.name for p in parameters[1:])
        taken = inspect.signature(getattr(fastnorm, norm)).parameters
        for name in self.arrays:
            if name in taken:
                raise ValueError(
                    f"fuse: {place} {self.name!r} has a parameter {name!r}, which is "
                    f"one of {norm}: give it another name"
                )
        self.compiled = (
            function if isinstance(function, Dispatcher) else compiled(plain)
        )

    def check(self, working: np.dtype[Any], arrays: Mapping[str, Any]) -> None:
        """TypeError if the function cannot be compiled for these types."""
        kinds = tuple(
            numba.from_dtype(kind)
            for kind in (working, *(_kind(arrays[name]) for name in self.arrays))
        )
        said = f"fuse: {self.place} {self.name!r}"
        given = ", ".join(str(kind) for kind in kinds)
        try:
            result = self._result(kinds)
        except numba.core.errors.NumbaError as error:
            reason = " ".join(str(error).split())
            raise TypeError(
                f"{said} cannot be compiled for ({given}): {reason}"
            ) from error
        if not isinstance(result, numba.types.Number | numba.types.Boolean) or (
            isinstance(result, numba.types.Complex)
        ):
            raise TypeError(
                f"{said} gives {result} for ({given}), a real number is needed"
            )

    def _result(self, kinds: tuple[Any, ...]) -> Any:
        context = cpu_target.typing_context
        found = numba.typeof(self.compiled).get_call_type(context, kinds, {})
        if found is None:
            raise numba.core.errors.TypingError("none of its signatures takes them")
        return found.return_type


def _kind(array: NDArray[Any]) -> np.dtype[Any]:
    """The dtype of its elements as a hook sees them."""
    return np.dtype(_WIDENED.get(array.dtype.name, array.dtype))


def _as_extra(said: str, name: str, value: ArrayLike) -> NDArray[Any]:
    array = host_array(said, name, value)
    if array.dtype == np.bool_ or array.dtype in (np.int16, np.uint16):
        return array.astype(np.int32)  # the kernels take 16 bits for halves
    if array.dtype.name not in _WIDENED and array.dtype.kind not in "iuf":
        raise TypeError(f"{said}: {name} has dtype {array.dtype}, numbers are needed")
    if array.dtype.char == "g" or not array.dtype.isnative:
        raise TypeError(
            f"{said}: {name} has dtype {array.dtype}, a native one of at most 64 bits "
            "is needed"
        )
    return array


class _Lines:
    """The extras of a call, as its kernels will want them."""

    def __init__(
        self, hooks: tuple[Hook | None, Hook | None], arrays: Mapping[str, Any],
        shape: tuple[int, ...], channel: int | None, samples: bool,
    ) -> None:  # fmt: skip
        self.hooks = hooks
        self.arrays = arrays
        self.shape = shape
        self.channel = channel
        self.samples = samples
        self.kept: list[NDArray[Any]] = []

    def _order(self, extents: tuple[int, ...], last: bool) -> list[int]:
        """The axes in the order of the kernel's lines, and of elements in a line."""
        axes = list(range(len(self.shape)))
        if self.channel is None:
            return axes
        others = [axis for axis in axes if axis != self.channel]
        if last:
            return [*others, self.channel]
        if self.samples:
            return [others[0], self.channel, *others[1:]]
        before = int(np.prod(self.shape[: self.channel]))
        return axes if before == extents[0] else [self.channel, *others]

    def __call__(self, extents: tuple[int, ...], last: bool) -> tuple[Any, Any]:
        order = self._order(extents, last)
        return tuple(
            None
            if hook is None or not hook.arrays
            else self._flat(hook, order, extents)
            for hook in self.hooks
        )  # type: ignore[return-value]

    def _flat(self, hook: Hook, order: list[int], extents: tuple[int, ...]) -> Any:
        found: list[Any] = []
        for name in hook.arrays:
            lines = self.arrays[name].transpose(order).reshape(extents)
            size = lines.itemsize
            if lines.strides[2] not in (0, size) or any(
                s % size for s in lines.strides
            ):
                lines = np.ascontiguousarray(lines)
            self.kept.append(lines)
            steps = [s // size for s in lines.strides]
            wide = np.True_ if steps[2] == 0 else 0
            found += [lines.ctypes.data, steps[0], steps[1], _like(lines), wide]
        return tuple(found)


def _like(array: NDArray[Any]) -> Any:
    code = {"float16": 3, "bfloat16": 4}.get(array.dtype.name)
    return array.dtype.type(0) if code is None else LIKE[code]


class Fused:
    """A norm with functions of a user's in its loops; see `fuse`."""

    def __init__(
        self, norm: str, prologue: Callable[..., Any] | None,
        epilogue: Callable[..., Any] | None,
    ) -> None:  # fmt: skip
        self.norm = norm
        self.hooks = (
            None if prologue is None else Hook("prologue", prologue, norm),
            None if epilogue is None else Hook("epilogue", epilogue, norm),
        )
        self._function = getattr(fastnorm, norm)
        self._compiled = tuple(h and h.compiled for h in self.hooks)
        self._checked: set[Any] = set()

    def __repr__(self) -> str:
        hooks = ", ".join(f"{h.place}={h.name}" for h in self.hooks if h is not None)
        return f"<fastnorm.jit.fuse({self.norm}, {hooks})>"

    def __call__(self, input: ArrayLike, *args: Any, **kwargs: Any) -> Any:
        """The norm of input; the functions' arrays by the names they have there."""
        names = dict.fromkeys(n for h in self.hooks if h is not None for n in h.arrays)
        said = f"fuse({self.norm})"
        missing = [name for name in names if name not in kwargs]
        if missing:
            raise TypeError(f"{said}: {', '.join(missing)} must be given by name")
        given = {name: _as_extra(said, name, kwargs.pop(name)) for name in names}
        x = host_array(said, "input", input)
        channel = self._channel(x, kwargs)
        arrays = {
            name: _spread(said, name, array, x, channel)
            for name, array in given.items()
        }
        if kwargs.get("out") is not None:
            written = host_array(said, "out", kwargs["out"])
            for name, array in arrays.items():
                if np.may_share_memory(array, written):
                    arrays[name] = array.copy()
        self._check(x, arrays)
        samples = self.norm in ("group_norm", "instance_norm")
        lines = _Lines(self.hooks, arrays, x.shape, channel, samples)
        beside = sum(array.nbytes for array in given.values())
        backend = Backend(self._compiled, lines, beside)
        return run_on(backend, self._function, (x, *args), kwargs)

    def _channel(self, x: NDArray[Any], kwargs: Mapping[str, Any]) -> int | None:
        if self.norm in ("layer_norm", "rms_norm"):
            return None
        try:
            axis = operator.index(kwargs.get("channel_axis", 1))
        except TypeError:
            return 0  # the norm refuses it
        return axis % x.ndim if -x.ndim <= axis < x.ndim else 0

    def _check(self, x: NDArray[Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        working = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
        key = working, tuple(a.dtype for a in arrays.values())
        if key in self._checked:
            return
        for hook in self.hooks:
            if hook is not None:
                hook.check(working, arrays)
        self._checked.add(key)


def _spread(
    said: str, name: str, array: NDArray[Any], x: NDArray[Any], channel: int | None
) -> NDArray[Any]:
    """The array with input's shape, in steps of 0 where it is broadcast."""
    seen = array
    if channel is not None and array.ndim == 1 and x.ndim > 1 and array.size > 1:
        if array.size != x.shape[channel]:
            raise ValueError(
                f"{said}: {name} has {array.size} values, one per channel "
                f"({x.shape[channel]}) or a shape that broadcasts is needed"
            )
        seen = array.reshape([-1 if i == channel else 1 for i in range(x.ndim)])
    try:
        return np.broadcast_to(seen, x.shape)
    except ValueError:
        raise ValueError(
            f"{said}: {name} has shape {array.shape}, which does not broadcast to "
            f"input's {x.shape}"
        ) from None


def fuse(
    norm: str | Callable[..., Any],
    prologue: Callable[..., Any] | None = None,
    epilogue: Callable[..., Any] | None = None,
) -> Fused:
    """Compile scalar functions into the loops of a norm.

    Parameters
    ----------
    norm : function or str
        `layer_norm`, `rms_norm`, `batch_norm`, `group_norm` or `instance_norm`.
    prologue : function, optional
        ``prologue(element, ...)`` of an element of input: what is normalised in its
        place. Plain Python or compiled by ``numba.njit``; of numbers, to a number.
    epilogue : function, optional
        ``epilogue(element, ...)`` of an element of the result, after weight and bias:
        what is stored in its place.

    Returns
    -------
    Fused
        A function with the arguments of the norm. The functions' further parameters
        become keyword arguments of it, which must be given: arrays of which each call
        of a function gets the element that goes with its own. They broadcast to input's
        shape as in NumPy; for the norms of channels an array with one axis has a value
        for each channel, as weight has. Elements are numbers of any real dtype, float32
        where they have 16 bits of floating point.

    Raises
    ------
    ValueError
        If norm is none of those, or a parameter has the name of one of the norm's.
    TypeError
        If a function cannot be used; when it is called, if it cannot be compiled for
        the dtypes of the call: the error names the function.

    Notes
    -----
    Functions see numbers of the working type: float64 for float64 input, else float32.
    Without fast-math: NaN and infinities are themselves, and what a plain Python
    function divides by zero becomes one of them. Functions that `numba.njit` compiled
    do what they were told to; an error that they raise leaves ``out`` half written.
    Statistics are those of what the prologue gives. Everything is compiled at the first
    call with new dtypes, which takes seconds.

    How often a function is called for an element, and in which order, is not promised:
    it must give the same for the same. Where statistics are those of columns (channels
    last but for inference, and a middle axis) what the prologue makes of the input is
    kept in an array of its own, which is a pass more; everywhere else memory is gone
    through as often as without functions.

    Examples
    --------
    Clip, then normalise; and a gated activation:

    >>> import math
    >>> import numpy as np
    >>> import fastnorm
    >>> from fastnorm.jit import fuse
    >>> clipped = fuse(fastnorm.layer_norm, prologue=lambda v, most: min(v, most))
    >>> x = np.array([[1, 2, 3, 1000]], dtype=np.float32)
    >>> clipped(x, 4, most=4.0).round(3)
    array([[-1.342, -0.447,  0.447,  1.342]], dtype=float32)
    >>> def gated(v, gate):
    ...     return v / (1 + math.exp(-v)) * gate
    >>> swiglu = fuse(fastnorm.rms_norm, epilogue=gated)
    >>> swiglu(x, 4, gate=np.ones_like(x)).shape
    (1, 4)
    """
    if prologue is None and epilogue is None:
        raise TypeError("fuse: a prologue, an epilogue or both are needed")
    return Fused(_named(norm), prologue, epilogue)
