"""The PyTorch engine: torch.nn.functional in inference mode.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from .cases import EPS, MOMENTUM, Array, Case, Data
from .engine import Engine, Job


@contextmanager
def _session(threads: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


def _tensors(case: Case, data: Data) -> tuple[Any, Any, Any]:
    import torch

    x = torch.from_numpy(data.x)
    if case.layout == "NHWC":
        x = x.permute(0, 3, 1, 2)  # torch's channels_last: the same memory
    return x, torch.from_numpy(data.weight), torch.from_numpy(data.bias)


def _layer_norm(case: Case, data: Data) -> Job:
    from torch.nn import functional

    x, weight, bias = _tensors(case, data)
    shape = tuple(case.shape[1:])
    return Job(
        partial(functional.layer_norm, x, shape, weight, bias, EPS), allocates=True
    )


def _rms_norm(case: Case, data: Data) -> Job:
    from torch.nn import functional

    x, weight, _ = _tensors(case, data)
    shape = tuple(case.shape[1:])
    return Job(partial(functional.rms_norm, x, shape, weight, EPS), allocates=True)


def _batch_norm(case: Case, data: Data) -> Job:
    import torch
    from torch.nn import functional

    x, weight, bias = _tensors(case, data)
    call = partial(
        functional.batch_norm,
        x,
        torch.from_numpy(data.running_mean.copy()),
        torch.from_numpy(data.running_var.copy()),
        weight,
        bias,
        case.op == "batch_norm_training",
        MOMENTUM,
        EPS,
    )

    def read(result: Any) -> tuple[Array, ...]:
        if case.layout == "NHWC":
            result = result.permute(0, 2, 3, 1)
        return (result.numpy(),)

    return Job(call, read, allocates=True)


def _moments(case: Case, data: Data) -> Job:
    import torch

    x, _, _ = _tensors(case, data)
    axis = {"dim": 0} if case.layout == "columns" else {}
    call = partial(torch.var_mean, x, correction=0, **axis)
    return Job(call, lambda result: (result[1].numpy(), result[0].numpy()))


TORCH = Engine(
    "torch",
    ("torch",),
    {
        "layer_norm": _layer_norm,
        "rms_norm": _rms_norm,
        "batch_norm": _batch_norm,
        "batch_norm_training": _batch_norm,
        "moments": _moments,
    },
    _session,
)
