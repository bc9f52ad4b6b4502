"""The scalers of tables among the cases: fastnorm's and scikit-learn's.

SPDX-License-Identifier: MIT

Both are fitted anew in each call of `scaler_fit`, and once to the first rows for
`scaler_transform`; scikit-learn's makes a new array each time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .cases import Array, Case, Data
from .engine import Job

_SOME = 1000  # rows


def _job(kind: Any, case: Case, data: Data) -> Job:
    x = data.x
    if case.op == "scaler_fit":
        # a new one each time: partial_fit would go on from the last call's counts
        return Job(
            lambda: kind().partial_fit(x), lambda scaler: (scaler.mean_, scaler.var_)
        )
    return Job(partial(kind().fit(x[:_SOME]).transform, x), allocates=True)


def _into(job: Job, case: Case, data: Data) -> Job:
    """The same with the caller's array, where the case has one."""
    if not case.out:
        return job
    return Job(partial(job.call, out=data.output()))


def fastnorm_scaler(case: Case, data: Data) -> Job | None:
    """fastnorm.interop.sklearn, where scikit-learn is installed."""
    try:
        from fastnorm.interop.sklearn import StandardScaler
    except ImportError:
        return None
    return _into(_job(StandardScaler, case, data), case, data)


def sklearn_scaler(case: Case, data: Data) -> Job:
    """The original."""
    from sklearn.preprocessing import StandardScaler

    return _job(StandardScaler, case, data)


def numpy_scaler(case: Case, data: Data) -> Job:
    """The formulae."""
    x = data.x
    if case.op == "scaler_fit":
        return Job(lambda: (x.mean(0), x.var(0)), lambda found: found)
    mean, std = x[:_SOME].mean(0), x[:_SOME].std(0)

    def scale(out: Array | None = None) -> Array:
        centered = np.subtract(x, mean, out=out)
        return np.divide(centered, std, out=out)

    return _into(Job(scale, allocates=True), case, data)


def exact_scaler(case: Case, data: Data) -> tuple[Array, ...]:
    """In longdouble, rounded to float64."""
    wide = data.x.astype(np.longdouble)
    some = wide if case.op == "scaler_fit" else wide[:_SOME]
    mean, var = some.mean(0), some.var(0)
    if case.op == "scaler_fit":
        return mean.astype(np.float64), var.astype(np.float64)
    y: Array = ((wide - mean) / np.sqrt(var)).astype(np.float64)
    return (y,)
