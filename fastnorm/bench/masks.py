"""Batch norm of a part of each sample among the cases, in training.

SPDX-License-Identifier: MIT

`detail` says how the part is told: by lengths, or by a mask of bytes for the same
positions. Half of them take part, more or less; the others come out as zero.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import fastnorm

from .cases import EPS, Array, Case, Data
from .engine import Job


def _part(case: Case) -> dict[str, Array]:
    """The keyword."""
    samples, positions = case.shape[0], case.shape[-1]
    lengths = np.random.default_rng(4).integers(2, positions + 1, samples)
    if case.detail == "lengths":
        return {"lengths": lengths}
    return {"mask": (np.arange(positions) < lengths[:, np.newaxis])[:, np.newaxis]}


def _call(module: Any, case: Case, data: Data, **more: Any) -> partial[Any]:
    return partial(
        module.batch_norm, data.x, None, None, data.weight, data.bias, True, eps=EPS,
        **_part(case), **more,
    )  # fmt: skip


def fastnorm_masked(case: Case, data: Data) -> Job:
    """The public function."""
    return Job(
        _call(fastnorm, case, data, **({"out": data.output()} if case.out else {}))
    )


def exact_masked(case: Case, data: Data) -> Any:
    """From fastnorm.reference, as float64."""
    from fastnorm import reference

    return _call(reference, case, data)()


def _mask(case: Case) -> Array:
    return _part(Case(case.op, case.shape, case.layout, True, detail="mask"))["mask"]


def numpy_masked(case: Case, data: Data) -> Job:
    """What takes part is summed by ``where=``."""
    x, mask = data.x, _mask(case)
    out = data.output() if case.out else None
    weight, bias = data.weight[:, np.newaxis], data.bias[:, np.newaxis]

    def call() -> Any:
        mean = x.mean((0, 2), keepdims=True, where=mask)
        var = x.var((0, 2), keepdims=True, where=mask)
        y = np.subtract(x, mean, out=out)
        np.multiply(y, weight / np.sqrt(var + EPS), out=y)
        np.add(y, bias, out=y)
        return np.multiply(y, mask, out=y)

    return Job(call)


def torch_masked(case: Case, data: Data) -> Job:
    """Sums of products with the mask, which is how one writes it there."""
    import torch

    x = torch.from_numpy(data.x)
    mask = torch.from_numpy(_mask(case)).to(x.dtype)
    weight, bias = (torch.from_numpy(p)[:, None] for p in (data.weight, data.bias))
    count = mask.sum()

    def call() -> Any:
        mean = (x * mask).sum((0, 2), keepdim=True) / count
        centred = (x - mean).mul_(mask)
        var = (centred * centred).sum((0, 2), keepdim=True) / count
        return centred.mul_(weight * torch.rsqrt(var + EPS)).add_(bias).mul_(mask)

    return Job(call, allocates=True)
