"""The gradients among the cases: their calls in fastnorm and torch, and what is exact.

SPDX-License-Identifier: MIT

`data.other` is the gradient of the output. Mean and rstd are those of the forward, made
before the clock runs, and all three gradients are asked for. The result is that of the
input, and those of weight and bias divided by the number of terms that they are sums
of: so that an error is relative to the size of a term.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import fastnorm

from .cases import EPS, GROUPS, Array, Case, Data
from .engine import Job


def _forward(module: Any, case: Case, data: Data) -> Any:
    """The result, mean and rstd of the norm."""
    x, weight, bias = data.x, data.weight, data.bias
    more: dict[str, Any] = {"return_stats": True}
    if case.op == "layer_norm_backward":
        return module.layer_norm(x, case.shape[1:], weight, bias, EPS, **more)
    more["channel_axis"] = case.channel_axis
    if case.op == "group_norm_backward":
        return module.group_norm(x, GROUPS, weight, bias, EPS, **more)
    return module.batch_norm(x, None, None, weight, bias, True, eps=EPS, **more)


def _results(case: Case, found: Sequence[Array]) -> tuple[Array, ...]:
    terms = math.prod(case.shape) // case.channels
    return (found[0], *(part / part.dtype.type(terms) for part in found[1:]))


def _call(module: Any, case: Case, data: Data, **more: Any) -> partial[Any]:
    _, mean, rstd = _forward(module, case, data)
    given = data.other, data.x
    statistics = data.weight, mean, rstd
    if case.op == "layer_norm_backward":
        shape = case.shape[1:]
        return partial(module.layer_norm_backward, *given, shape, *statistics, **more)
    more["channel_axis"] = case.channel_axis
    if case.op == "group_norm_backward":
        return partial(module.group_norm_backward, *given, GROUPS, *statistics, **more)
    return partial(module.batch_norm_backward, *given, *statistics, **more)


def fastnorm_gradient(case: Case, data: Data) -> Job:
    """The public function."""
    out = {"out": data.output()} if case.out else {}
    return Job(_call(fastnorm, case, data, **out), partial(_results, case))


def exact_gradient(case: Case, data: Data) -> tuple[Array, ...]:
    """From fastnorm.reference, as float64."""
    from fastnorm import reference

    return _results(case, _call(reference, case, data)())


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
