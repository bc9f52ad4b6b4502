# layer_cases.py - every layer in every form, with random parameters.
# SPDX-License-Identifier: MIT
"""What the tests of fastnorm's layers share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import random

import fastnorm
from fastnorm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm

C = 6
SHAPE = (4, C, 5, 3)


def variances(n: int, dtype: str = "float32", seed: int = 9) -> NDArray[Any]:
    return np.asarray(np.abs(random(n, dtype, seed)) + 0.1, dtype)


def new(kind: Any, *arguments: Any, **options: Any) -> Any:
    """An object of the class, of arguments whose types may be wrong."""
    return kind(*arguments, **options)


def values(layer: Any, seed: int = 0) -> dict[str, NDArray[Any]]:
    """A state of random numbers for the layer."""
    state: dict[str, NDArray[Any]] = layer.state_dict()
    for i, (name, old) in enumerate(state.items()):
        if name == "num_batches_tracked":
            state[name] = np.array(7 + seed)
        elif name == "running_var":
            state[name] = variances(C, old.dtype.name, seed + i)
        else:
            state[name] = random(old.shape, old.dtype, seed + i)
    return state


# Constructor arguments, the function's call with the state, and torch's module.
LAYERS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "layer": (LayerNorm, (3,), {}),
    "layer of two axes": (LayerNorm, ((5, 3),), {"eps": 1e-3}),
    "layer without bias": (LayerNorm, (3,), {"bias": False}),
    "layer without weight": (LayerNorm, ([3],), {"elementwise_affine": False}),
    "rms": (RMSNorm, (3,), {}),
    "rms of two axes": (RMSNorm, ((5, 3),), {"eps": 1e-6}),
    "rms without weight": (RMSNorm, (3,), {"elementwise_affine": False}),
    "batch": (BatchNorm, (C,), {}),
    "batch without bias": (BatchNorm, (C,), {"bias": False, "eps": 0.1}),
    "batch without weight": (BatchNorm, (C,), {"affine": False, "momentum": None}),
    "batch of its input": (BatchNorm, (C,), {"track_running_stats": False}),
    "group": (GroupNorm, (2, C), {}),
    "group without weight": (GroupNorm, (3, C), {"affine": False, "eps": 0.01}),
    "instance": (InstanceNorm, (C,), {}),
    "instance with weight": (InstanceNorm, (C,), {"affine": True}),
    "instance with statistics": (
        InstanceNorm, (C,), {"affine": True, "track_running_stats": True},
    ),
}  # fmt: skip
every_layer = pytest.mark.parametrize("name", LAYERS)
MODULES = {
    "LayerNorm": "LayerNorm",
    "RMSNorm": "RMSNorm",
    "BatchNorm": "BatchNorm2d",
    "GroupNorm": "GroupNorm",
    "InstanceNorm": "InstanceNorm2d",
}


def build(name: str, **more: Any) -> Any:
    kind, arguments, options = LAYERS[name]
    return new(kind, *arguments, **options, **more)


def call(layer: Any, x: NDArray[Any], **options: Any) -> Any:
    """The function with the layer's parameters, as a user would write it."""
    weight, bias, eps = layer.weight, layer.bias, layer.eps
    if isinstance(layer, LayerNorm):
        shape = layer.normalized_shape
        return fastnorm.layer_norm(x, shape, weight, bias, eps, **options)
    if isinstance(layer, RMSNorm):
        return fastnorm.rms_norm(x, layer.normalized_shape, weight, eps, **options)
    if isinstance(layer, GroupNorm):
        groups = layer.num_groups
        return fastnorm.group_norm(x, groups, weight, bias, eps, **options)
    mean, var = layer.running_mean, layer.running_var
    if isinstance(layer, BatchNorm):
        training = mean is None
        return fastnorm.batch_norm(
            x, mean, var, weight, bias, training, eps=eps, **options
        )
    return fastnorm.instance_norm(
        x, mean, var, weight, bias, mean is None, eps=eps, **options
    )
