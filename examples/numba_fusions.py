# SPDX-License-Identifier: MIT
"""Functions of your own in a norm's loops, one pass over memory: fastnorm.jit.fuse."""

import math

import numpy as np

import fastnorm
from fastnorm.jit import fuse

rng = np.random.default_rng(0)
x = rng.normal(size=(4, 6, 16)).astype(np.float32)
gate = rng.normal(size=x.shape).astype(np.float32)
weight = rng.normal(size=16).astype(np.float32)


# SwiGLU: the half of a projection that gates, times the other half, normalised
def swish_gated(v: float, gate: float) -> float:
    return v * gate / (1 + math.exp(-gate))


swiglu = fuse(fastnorm.rms_norm, epilogue=swish_gated)
y = swiglu(x, 16, weight, 1e-6, gate=gate)
wanted = fastnorm.rms_norm(x, 16, weight, 1e-6) * gate / (1 + np.exp(-gate))
print("gated:", np.allclose(y, wanted, atol=1e-6))

# outliers cut off before they are in the statistics
clipped = fuse(
    fastnorm.layer_norm, prologue=lambda v, bound: max(min(v, bound), -bound)
)
y = clipped(x, 16, bound=1.0)
print("clipped:", np.allclose(y, fastnorm.layer_norm(np.clip(x, -1, 1), 16), atol=1e-6))

# a bound for each channel (axis 1), as a comparison and not a multiplication
mean, var = np.zeros(6, np.float32), np.ones(6, np.float32)
bounds = np.linspace(-1, 1, 6, dtype=np.float32)
bounded = fuse(fastnorm.batch_norm, epilogue=lambda v, least: v if v > least else least)
y = bounded(x, mean, var, least=bounds)
wanted = np.maximum(fastnorm.batch_norm(x, mean, var), bounds[:, None])
print("bounded:", np.array_equal(y, wanted))

# Prints:
# gated: True
# clipped: True
# bounded: True
