"""The PyTorch engine: torch.nn.functional in inference mode.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

import fastnorm

from .cases import EPS, GROUPS, INT8_SCALE, L2_EPS, MOMENTUM, ORDER, Array, Case, Data
from .engine import Engine, Job
from .gradients import torch_autograd, torch_gradient
from .masks import torch_masked
from .weights import torch_weight_norm


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


def _tensor(array: Array) -> Any:
    """The same memory; torch cannot be told of ml_dtypes' bfloat16 directly."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _tensors(case: Case, data: Data) -> tuple[Any, Any, Any]:
    return _image(case, data.x), _tensor(data.weight), _tensor(data.bias)


def _image(case: Case, array: Array) -> Any:
    x = _tensor(array)
    if case.layout == "NHWC":
        x = x.permute(0, 3, 1, 2)  # torch's channels_last: the same memory
    return x


def _reader(case: Case) -> Any:
    """How to read one result in the layout of the case."""

    def read(result: Any) -> tuple[Array, ...]:
        if case.layout == "NHWC":
            result = result.permute(0, 2, 3, 1)
        return (result.numpy(),)

    return read


def _layer_norm_call(case: Case, data: Data) -> Any:
    from torch.nn import functional

    x, weight, bias = _tensors(case, data)
    return partial(functional.layer_norm, x, tuple(case.shape[1:]), weight, bias, EPS)


def _layer_norm(case: Case, data: Data) -> Job:
    return Job(_layer_norm_call(case, data), allocates=True)


def _residual(case: Case, data: Data) -> Job:
    from torch.nn import functional

    x, weight, bias = _tensors(case, data)
    other, shape = _tensor(data.other), tuple(case.shape[1:])

    def call() -> Any:
        total = x + other
        if case.op == "rms_norm_residual":
            return functional.rms_norm(total, shape, weight, EPS), total
        return functional.layer_norm(total, shape, weight, bias, EPS), total

    return Job(call, lambda r: tuple(part.numpy() for part in r), allocates=True)


def _sixteen_bits(case: Case, data: Data) -> Job:
    import torch

    def read(result: Any) -> tuple[Array, ...]:
        return (result.view(torch.int16).numpy().view(data.x.dtype),)

    return Job(_layer_norm_call(case, data), read, allocates=True)


def _int8(case: Case, data: Data) -> Job:
    import torch

    norm = _layer_norm_call(case, data)

    def call() -> Any:
        y = norm()
        scale: Any = INT8_SCALE
        if case.detail == "dynamic":
            scale = y.abs().amax(-1, keepdim=True).div_(127)
        return y.div_(scale).round_().clamp_(-128, 127).to(torch.int8), scale

    def read(result: Any) -> tuple[Array, ...]:
        return (result[0].numpy() * np.asarray(result[1], np.float64),)

    return Job(call, read, allocates=True)


def _activation(case: Case, data: Data) -> Job:
    from torch.nn import functional

    norm = _layer_norm_call(case, data)
    calls: dict[str, Any] = {
        "relu": lambda: norm().relu_(),
        "gelu": lambda: functional.gelu(norm()),
        "gelu_tanh": lambda: functional.gelu(norm(), approximate="tanh"),
        "silu": lambda: functional.silu(norm(), inplace=True),
    }
    return Job(calls[case.detail], allocates=True)


def _subnormal(case: Case, data: Data) -> Job | None:
    # torch's way to flush them is a setting of the process, not of a call
    return None if case.detail == "flushed" else _layer_norm(case, data)


def _rms_norm(case: Case, data: Data) -> Job:
    from torch.nn import functional

    x, weight, _ = _tensors(case, data)
    shape = tuple(case.shape[1:])
    return Job(partial(functional.rms_norm, x, shape, weight, EPS), allocates=True)


def _batch_norm(case: Case, data: Data) -> Job:
    import torch
    from torch.nn import functional

    x, weight, bias = _tensors(case, data)
    norm = partial(
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
    if case.op != "batch_norm_add_relu":
        return Job(norm, _reader(case), allocates=True)
    other = _image(case, data.other)
    return Job(lambda: norm().add_(other).relu_(), _reader(case), allocates=True)


def _group_norm(case: Case, data: Data) -> Job:
    from torch.nn import functional

    x, weight, bias = _tensors(case, data)
    call = partial(functional.group_norm, x, GROUPS, weight, bias, EPS)
    return Job(call, _reader(case), allocates=True)


def _instance_norm(case: Case, data: Data) -> Job:
    from torch.nn import functional

    x, weight, bias = _tensors(case, data)
    call = partial(functional.instance_norm, x, weight=weight, bias=bias, eps=EPS)
    return Job(call, _reader(case), allocates=True)


def _lp_norm(case: Case, data: Data) -> Job:
    import torch
    from torch.nn import functional

    out = {"out": torch.from_numpy(data.output())} if case.out else {}
    x = torch.from_numpy(data.x)
    order = float(ORDER[case.op])
    return Job(partial(functional.normalize, x, order, -1, L2_EPS, **out))


def _normalize_image(case: Case, data: Data) -> Job:
    import torch

    x = _image(case, data.x)
    mean = torch.tensor(fastnorm.IMAGENET_MEAN).view(-1, 1, 1)
    std = torch.tensor(fastnorm.IMAGENET_STD).view(-1, 1, 1)
    packed = torch.contiguous_format

    def call() -> Any:
        y = x.to(torch.float32, memory_format=packed)
        return y.div_(255).sub_(mean).div_(std)

    return Job(call, allocates=True)


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
        "layer_norm_residual": _residual,
        "rms_norm_residual": _residual,
        "layer_norm_16bit": _sixteen_bits,
        "layer_norm_int8": _int8,
        "layer_norm_activation": _activation,
        "layer_norm_subnormal": _subnormal,
        "batch_norm": _batch_norm,
        "batch_norm_training": _batch_norm,
        "batch_norm_add_relu": _batch_norm,
        "group_norm": _group_norm,
        "instance_norm": _instance_norm,
        "layer_norm_backward": torch_gradient,
        "batch_norm_backward": torch_gradient,
        "group_norm_backward": torch_gradient,
        "rms_norm_backward": torch_autograd,
        "l2_norm_backward": torch_autograd,
        "instance_norm_backward": torch_autograd,
        "weight_norm_backward": torch_autograd,
        "batch_norm_masked": torch_masked,
        **dict.fromkeys(ORDER, _lp_norm),
        "normalize_image": _normalize_image,
        "moments": _moments,
        "weight_norm": torch_weight_norm,
    },
    _session,
)
