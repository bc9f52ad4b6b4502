# _overload_rows.py - layer, RMS, L2 and L1 norm inside @njit.
# SPDX-License-Identifier: MIT
"""What Numba is given for each function: types in, an implementation out."""

from typing import Any

import numpy as np
from numba import types

from fastnorm.jit._compile import compiled
from fastnorm.jit._overload_checks import (
    Call,
    RefusalError,
    constant,
    extent,
    spelled,
)
from fastnorm.jit._overload_kernels import extents, kernel

SHAPE = "{}: normalized_shape is {}, input has shape {}"


def trailing(call: Call, shape: Any) -> tuple[int, Any]:
    """The first normalised axis, and compiled: a check of normalized_shape."""
    fn, nd = call.fn, call.input.ndim
    given = shape.types if isinstance(shape, types.BaseTuple) else (shape,)
    if not given:
        raise call.error("normalized_shape is empty, at least one axis is needed")
    if not all(isinstance(part, types.Integer) for part in given):
        raise call.error(
            f"normalized_shape is {spelled(shape)}, "
            "an integer or a tuple of integers is needed"
        )
    if len(given) > nd:
        raise call.error(f"normalized_shape has {len(given)} axes, input has {nd}")
    first = nd - len(given)

    @compiled
    def check(shape, x):
        wanted = extents(shape)
        for i in range(first, nd):
            if wanted[i - first] != x.shape[i]:
                raise RefusalError(SHAPE, fn, wanted, x.shape)

    return first, check


def layer_norm(
    input: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: Any = 1e-5,
    *,
    out: Any = None,
    num_threads: Any = None,
    **refused: Any,
) -> Any:
    call = Call("layer_norm", input, refused)
    first, check_shape = trailing(call, normalized_shape)
    nd = input.ndim
    read_weight = call.parameter("weight", weight, nd - first, "normalized_shape")
    read_bias = call.parameter("bias", bias, nd - first, "normalized_shape")
    read_eps = call.eps(eps)
    read_out, read_threads = call.output(out), call.threads(num_threads)
    check, run = call.status(), kernel(f"layer_norm_f{input.dtype.bitwidth}")

    def implementation(
        input,
        normalized_shape,
        weight=None,
        bias=None,
        eps=1e-5,
        out=None,
        num_threads=None,
    ):
        check_shape(normalized_shape, input)
        w = read_weight(weight, input.shape, first)
        b = read_bias(bias, input.shape, first)
        used_eps, threads = read_eps(eps), read_threads(num_threads)
        y = read_out(out, input)
        rows, cols = extent(input.shape, 0, first), extent(input.shape, first, nd)
        x = np.ascontiguousarray(input)
        check(run((x, y, w, b), (rows, cols, used_eps, threads)))
        return y

    return implementation


def rms_norm(
    input: Any,
    normalized_shape: Any,
    weight: Any = None,
    eps: Any = None,
    *,
    out: Any = None,
    num_threads: Any = None,
    **refused: Any,
) -> Any:
    call = Call("rms_norm", input, refused)
    first, check_shape = trailing(call, normalized_shape)
    nd = input.ndim
    read_weight = call.parameter("weight", weight, nd - first, "normalized_shape")
    read_eps = call.eps(eps, 2.0**-23 if input.dtype is types.float32 else 2.0**-52)
    read_out, read_threads = call.output(out), call.threads(num_threads)
    check, run = call.status(), kernel(f"rms_norm_f{input.dtype.bitwidth}")

    def implementation(
        input, normalized_shape, weight=None, eps=None, out=None, num_threads=None
    ):
        check_shape(normalized_shape, input)
        w = read_weight(weight, input.shape, first)
        used_eps, threads = read_eps(eps), read_threads(num_threads)
        y = read_out(out, input)
        rows, cols = extent(input.shape, 0, first), extent(input.shape, first, nd)
        x = np.ascontiguousarray(input)
        check(run((x, y, w), (rows, cols, used_eps, threads)))
        return y

    return implementation


def lp_rows(call: Call, name: str, axis: Any, eps: Any, out: Any, threads: Any) -> Any:
    """Compiled: the Lp norm, p = 1 or 2, over the last axes, which `axis` must name."""
    axes, nd, dtype = call.axes(name, axis), call.input.ndim, call.input.dtype
    first = nd - len(axes)
    if not axes or axes[0] != first:
        raise call.error(f"{name} is {constant(axis)}, inside @njit it must be last")
    read_eps, read_out, read_threads = (
        call.eps(eps),
        call.output(out),
        call.threads(threads),
    )
    check = call.status()
    run1, run2 = (
        kernel(f"l1_norm_f{dtype.bitwidth}"),
        kernel(f"l2_norm_f{dtype.bitwidth}"),
    )

    @compiled
    def norm(input, p, eps, out, num_threads):
        used_eps, threads = read_eps(eps), read_threads(num_threads)
        y = read_out(out, input)
        rows, cols = extent(input.shape, 0, first), extent(input.shape, first, nd)
        x = np.ascontiguousarray(input)
        if p == 1.0:
            check(run1((x, y), (rows, cols, used_eps, threads)))
        else:
            check(run2((x, y), (rows, cols, used_eps, threads)))
        return y

    return norm


def by_axis(call: Call, p: float, axis: Any, eps: Any, out: Any, threads: Any) -> Any:
    if isinstance(axis, types.NoneType):
        raise call.error("axis is None, an integer or a tuple of integers is needed")
    norm = lp_rows(call, "axis", axis, eps, out, threads)

    def implementation(
        input,
        axis=-1,
        eps=1e-12,
        out=None,
        num_threads=None,
    ):
        return norm(input, p, eps, out, num_threads)

    return implementation


def l2_norm(
    input: Any,
    axis: Any = -1,
    eps: Any = 1e-12,
    *,
    out: Any = None,
    num_threads: Any = None,
    **refused: Any,
) -> Any:
    call = Call("l2_norm", input, refused)
    return by_axis(call, 2.0, axis, eps, out, num_threads)


def l1_norm(
    input: Any,
    axis: Any = -1,
    eps: Any = 1e-12,
    *,
    out: Any = None,
    num_threads: Any = None,
    **refused: Any,
) -> Any:
    call = Call("l1_norm", input, refused)
    return by_axis(call, 1.0, axis, eps, out, num_threads)


def normalize(
    input: Any,
    p: Any = 2.0,
    dim: Any = 1,
    eps: Any = 1e-12,
    *,
    out: Any = None,
    num_threads: Any = None,
    **refused: Any,
) -> Any:
    call = Call("normalize", input, refused)
    call.number("p", p)
    call.integer("dim", dim)
    norm = lp_rows(call, "dim", dim, eps, out, num_threads)

    def implementation(
        input,
        p=2.0,
        dim=1,
        eps=1e-12,
        out=None,
        num_threads=None,
    ):
        if p != 1.0 and p != 2.0:
            raise RefusalError(
                "normalize: p is {}, only 1 and 2 are supported", float(p)
            )
        return norm(input, p, eps, out, num_threads)

    return implementation
