# fold_resnet_block.py - a residual block with its batch norms, and with them folded.
# SPDX-License-Identifier: MIT
"""conv, norm, ReLU, conv, norm, + x, ReLU: fused with the norms, or without them."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import fastnorm

CHANNELS = 16
rng = np.random.default_rng(0)


def convolve(x: Any, weight: np.ndarray, bias: Any = 0) -> np.ndarray:
    """A 3 x 3 convolution of [N, C, H, W] that keeps H and W."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, (3, 3), axis=(2, 3))
    y = np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3)))
    return np.ascontiguousarray((y + bias).transpose(0, 3, 1, 2), dtype=np.float32)


def batch_norm() -> fastnorm.BatchNorm:
    """As it comes out of training."""
    mean, weight, bias = rng.normal(0, 1, (3, CHANNELS))
    return fastnorm.BatchNorm(
        CHANNELS, weight=weight, bias=bias, running_mean=mean,
        running_var=rng.uniform(0.5, 2, CHANNELS), activation="relu",
    )  # fmt: skip


shape = (CHANNELS, CHANNELS, 3, 3)
weights = [rng.normal(0, 0.1, shape).astype(np.float32) for _ in range(2)]
norms: list[Any] = [batch_norm(), batch_norm()]
x = rng.standard_normal((4, CHANNELS, 28, 28), np.float32)

# Norm and ReLU, then norm, sum and ReLU: one pass over memory each, in place.
y = convolve(x, weights[0])
norms[0](y, out=y)
y = convolve(y, weights[1])
norms[1](y, out=y, post_add=x)

# The same without norms.
folded = [
    fastnorm.fold_batch_norm(w, None, n.running_mean, n.running_var, n.weight, n.bias)
    for w, n in zip(weights, norms, strict=True)
]
z = np.maximum(convolve(x, *folded[0]), 0)
z = np.maximum(convolve(z, *folded[1]) + x, 0)
print("same:", np.allclose(y, z, rtol=0, atol=1e-5 * y.max()), y.shape)

# Prints:
# same: True (4, 16, 28, 28)
