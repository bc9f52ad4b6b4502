"""The benchmark's cases under pytest-benchmark, from the same tables.

SPDX-License-Identifier: MIT

    pytest bench --benchmark-group-by=param:case -k "layer_norm and 128x768"

Not part of the tests: it measures, it does not judge. `fastnorm bench` is the
measurement to quote, because there the engines take turns.
"""

import os

import pytest

from fastnorm import bench
from fastnorm.bench.cases import make_data

pytest.importorskip("pytest_benchmark")

THREADS = int(os.environ.get("FASTNORM_BENCH_THREADS", "1"))


@pytest.mark.parametrize("engine", [bench.FLOOR, *bench.ENGINES], ids=lambda e: e.name)
@pytest.mark.parametrize("case", bench.CASES, ids=lambda c: c.name.replace(" ", "-"))
def test_case(benchmark, case, engine):
    if not engine.available():
        pytest.skip(f"{engine.name} is not installed")
    if not case.runs("float32"):
        pytest.skip(f"{case.name} needs ml_dtypes")
    with engine.session(THREADS):
        job = engine.prepare(case, make_data(case, "float32", THREADS))
        if job is None:
            pytest.skip(f"{engine.name} has no {case.name}")
        benchmark.group = case.name
        benchmark(job.call)
