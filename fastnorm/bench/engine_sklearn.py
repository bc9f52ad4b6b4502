"""The scikit-learn engine: StandardScaler, where a table is what is worked on.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

from functools import partial

import numpy as np

from .cases import EPS, Case, Data
from .engine import Engine, Job
from .scaler import sklearn_scaler


def _moments(case: Case, data: Data) -> Job | None:
    from sklearn.preprocessing import StandardScaler

    if case.layout != "columns":
        return None
    x = data.x
    # a new scaler each time: partial_fit would go on from the last call's counts
    return Job(
        lambda: StandardScaler().partial_fit(x),
        lambda scaler: (scaler.mean_, scaler.var_),
    )


def _batch_norm(case: Case, data: Data) -> Job | None:
    """A StandardScaler whose mean and scale hold the whole affine step."""
    from sklearn.preprocessing import StandardScaler

    if case.layout != "NHWC" or case.out:
        return None
    table = data.x.reshape(-1, case.channels)
    scaler = StandardScaler().fit(table[:2])
    scale = np.sqrt(data.running_var + EPS) / data.weight
    scaler.scale_ = scale
    scaler.mean_ = data.running_mean - data.bias * scale
    return Job(
        partial(scaler.transform, table),
        lambda result: (result.reshape(case.shape),),
    )


SKLEARN = Engine(
    "sklearn",
    ("sklearn",),
    {
        "batch_norm": _batch_norm,
        "moments": _moments,
        "running_moments": _moments,
        "scaler_fit": sklearn_scaler,
        "scaler_transform": sklearn_scaler,
    },
)
