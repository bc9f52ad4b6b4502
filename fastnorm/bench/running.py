"""Running moments among the cases: one batch, taken in by what is new each time.

SPDX-License-Identifier: MIT

`running_moments` is of a table's columns: the mean, variance, minimum and maximum are
all found, mean and variance compared. `running_moments_bytes` is of the channels of
uint8 images.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnorm

from .cases import Array, Case, Data
from .engine import Job, pair


def _axes(case: Case) -> tuple[int, ...]:
    return tuple(range(len(case.shape) - 1))


def fastnorm_running(case: Case, data: Data) -> Job:
    axes, x, threads = _axes(case), data.x, data.threads
    return Job(
        lambda: fastnorm.RunningMoments(axes, num_threads=threads).update(x),
        lambda moments: (moments.mean, moments.var()),
    )


def numpy_running(case: Case, data: Data) -> Job:
    axes, x = _axes(case), data.x
    return Job(lambda: (x.mean(axes), x.var(axes)), pair)


def exact_bytes(x: Array) -> tuple[Array, Array]:
    """Of each channel, from sums that are whole numbers."""
    n = x.size // x.shape[-1]
    found: list[Any] = []
    for c in range(x.shape[-1]):
        counts = np.bincount(x[..., c].reshape(-1), minlength=256).tolist()
        total = sum(v * k for v, k in enumerate(counts))
        square = sum(v * v * k for v, k in enumerate(counts))
        found.append((total / n, (square * n - total * total) / (n * n)))
    means, variances = zip(*found, strict=True)
    return np.array(means), np.array(variances)
