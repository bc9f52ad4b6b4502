"""The gradients among the cases: their calls in fastnorm and torch, and what is exact.

SPDX-License-Identifier: MIT

`data.other` is the gradient of the output. Mean and rstd are those of the forward, made
before the clock runs, and all gradients are asked for. The result is that of the input,
and those of weight and bias divided by the number of terms that they are sums of: so
that an error is relative to the size of a term.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import fastnorm

from .cases import EPS, GROUPS, L2_EPS, Array, Case, Data
from .engine import Job
from .weights import row_lengths

_LIMITS: dict[str, Any] = {"r_max": 1.2, "d_max": 0.3}  # of some channels, not all


def _results(case: Case, found: Any) -> tuple[Array, ...]:
    if case.op == "l2_norm_backward":
        return (found,)
    # The sums of weight norm are projections, which do not grow with the terms.
    terms = math.prod(case.shape) // case.channels
    if case.op == "weight_norm_backward":
        terms = 1
    rest = (part for part in found[1:] if part is not None)
    return (found[0], *(part / part.dtype.type(terms) for part in rest))


def _call(module: Any, case: Case, data: Data, **more: Any) -> partial[Any]:
    """The gradient, with what the norm itself has returned beside its result."""
    x, weight, bias = data.x, data.weight, data.bias
    norm = case.op.removesuffix("_backward")
    function, gradient = getattr(module, norm), getattr(module, case.op)
    gradient = partial(gradient, data.other, x)
    if norm == "l2_norm":
        return partial(gradient, -1, L2_EPS, **more)
    if norm == "weight_norm":
        lengths = row_lengths(data)
        size = function(x, lengths, return_norm=True)[1]
        return partial(gradient, lengths, norm=size, **more)
    if case.layout == "rows":
        shape = case.shape[1:]
        parameters = (weight,) if norm == "rms_norm" else (weight, bias)
        _, *stats = function(x, shape, *parameters, EPS, return_stats=True)
        return partial(gradient, shape, weight, *stats, EPS, **more)
    wanted: dict[str, Any] = {"eps": EPS, "return_stats": True}
    wanted["channel_axis"] = more["channel_axis"] = case.channel_axis
    if norm == "group_norm":
        _, *stats = function(x, GROUPS, weight, bias, **wanted)
        return partial(gradient, GROUPS, weight, *stats, **more)
    running: tuple[Any, ...] = (None, None)
    if norm == "batch_renorm":
        running = data.running_mean, data.running_var
        wanted |= _LIMITS | {"momentum": 0.0}
    _, *stats = function(x, *running, weight, bias, True, **wanted)
    return partial(gradient, weight, *stats, **more)


def fastnorm_gradient(case: Case, data: Data) -> Job:
    """The public function."""
    out = {"out": data.output()} if case.out else {}
    return Job(_call(fastnorm, case, data, **out), partial(_results, case))


def exact_gradient(case: Case, data: Data) -> tuple[Array, ...]:
    """From fastnorm.reference, as float64."""
    from fastnorm import reference

    return _results(case, _call(reference, case, data)())


def torch_autograd(case: Case, data: Data) -> Job:
    """The backward of a graph that is kept."""
    import torch
    from torch.nn import functional

    # The session's inference mode has no graphs.
    with torch.inference_mode(False), torch.enable_grad():
        g, *leaves = (
            torch.from_numpy(a) for a in (data.other, data.x, data.weight, data.bias)
        )
        if case.op == "weight_norm_backward":
            leaves[1] = torch.from_numpy(row_lengths(data))
        x, weight, bias = (leaf.requires_grad_() for leaf in leaves)
        y, leaves = {
            "rms_norm_backward": lambda: (
                functional.rms_norm(x, case.shape[1:], weight, EPS), [x, weight],
            ),
            "l2_norm_backward": lambda: (
                functional.normalize(x, 2.0, -1, L2_EPS), [x],
            ),
            "instance_norm_backward": lambda: (
                functional.instance_norm(x, weight=weight, bias=bias, eps=EPS),
                [x, weight, bias],
            ),
            "weight_norm_backward": lambda: (
                torch._weight_norm(x, weight, 0), [x, weight],
            ),
        }[case.op]()  # fmt: skip

    def call() -> Any:
        with torch.inference_mode(False):
            return torch.autograd.grad(y, leaves, g, retain_graph=True)

    def read(found: Any) -> tuple[Array, ...]:
        parts = [part.numpy() for part in found]
        return _results(case, parts if len(parts) > 1 else parts[0])

    return Job(call, read, allocates=True)


def torch_gradient(case: Case, data: Data) -> Job:
    """The function that autograd calls, by itself."""
    import torch

    aten = torch.ops.aten
    last = case.layout == "NHWC"

    def tensor(array: Array) -> Any:
        t = torch.from_numpy(array)
        return t.permute(0, 3, 1, 2) if last and t.ndim == 4 else t

    g, x, weight, bias = map(tensor, (data.other, data.x, data.weight, data.bias))
    every = [True, True, True]
    if case.op == "layer_norm_backward":
        shape = list(case.shape[1:])
        _, mean, rstd = aten.native_layer_norm(x, shape, weight, bias, EPS)
        call = partial(
            aten.native_layer_norm_backward,
            g,
            x,
            shape,
            mean,
            rstd,
            weight,
            bias,
            every,
        )
    elif case.op == "group_norm_backward":
        n, c = x.shape[:2]
        sizes = n, c, x[0, 0].numel()
        _, mean, rstd = aten.native_group_norm(x, weight, bias, *sizes, GROUPS, EPS)
        call = partial(
            aten.native_group_norm_backward, g, x, mean, rstd, weight, *sizes, GROUPS,
            every,
        )  # fmt: skip
    else:
        _, mean, rstd = aten.native_batch_norm(
            x, weight, bias, None, None, True, 0.1, EPS
        )
        call = partial(
            aten.native_batch_norm_backward, g, x, weight, None, None, mean, rstd, True,
            EPS, every,
        )  # fmt: skip

    def read(result: Any) -> tuple[Array, ...]:
        first = result[0].permute(0, 2, 3, 1) if last else result[0]
        return _results(case, [part.numpy() for part in (first, *result[1:])])

    return Job(call, read, allocates=True)
