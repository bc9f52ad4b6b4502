# test_threads_api.py - the number of threads, and threadpoolctl.
# SPDX-License-Identifier: MIT
"""What Python says about threads; that they change no bit is tested per operation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastnorm


@pytest.fixture(autouse=True)
def _restored():
    yield
    fastnorm.set_num_threads(None)


def in_subprocess(code, **environment):
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_number_can_be_set_and_restored():
    first = fastnorm.get_num_threads()
    for count in (1, 3, first + 1):
        fastnorm.set_num_threads(count)
        assert fastnorm.get_num_threads() == count
    fastnorm.set_num_threads(None)
    assert fastnorm.get_num_threads() == first


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0, ValueError, "num_threads is 0, at least 1 is needed"),
        (-1, ValueError, "num_threads is -1, at least 1 is needed"),
        (2**40, ValueError, "num_threads is 1099511627776"),
        (2.0, TypeError, "num_threads is float, an integer is needed"),
    ],
)
def test_a_wrong_number_changes_nothing(value, error, text):
    fastnorm.set_num_threads(2)
    with pytest.raises(error, match=f"^set_num_threads: {text}"):
        fastnorm.set_num_threads(value)
    assert fastnorm.get_num_threads() == 2


def test_the_environment_gives_the_first_number():
    code = "import fastnorm; print(fastnorm.get_num_threads())"
    assert in_subprocess(code, FASTNORM_NUM_THREADS="3") == "3"
    cpus = str(len(os.sched_getaffinity(0)))
    for nonsense in ("", "0", "-4", "many"):
        assert in_subprocess(code, FASTNORM_NUM_THREADS=nonsense) == cpus


def test_threadpoolctl_limits_and_restores():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    import fastnorm.interop.threadpoolctl as bridge

    bridge.register()
    bridge.register()
    fastnorm.set_num_threads(3)
    with threadpoolctl.threadpool_limits(limits=1):
        assert fastnorm.get_num_threads() == 1
    assert fastnorm.get_num_threads() == 3
    with threadpoolctl.threadpool_limits(limits=2, user_api="fastnorm"):
        assert fastnorm.get_num_threads() == 2
    with threadpoolctl.threadpool_limits(limits=1, user_api="blas"):
        assert fastnorm.get_num_threads() == 3
    ours = [i for i in threadpoolctl.threadpool_info() if i["user_api"] == "fastnorm"]
    assert len(ours) == 1
    assert ours[0]["num_threads"] == 3
    assert ours[0]["version"] == fastnorm.__version__
    assert ours[0]["architecture"] == fastnorm.isa()


def test_threadpoolctl_is_told_once(monkeypatch):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    import fastnorm.interop.threadpoolctl as bridge

    told = []
    monkeypatch.setattr(threadpoolctl, "register", told.append)
    monkeypatch.setattr(bridge, "_registered", False)
    bridge.register()
    bridge.register()
    assert told == [bridge.FastnormController]


def test_threadpoolctl_knows_nothing_until_it_is_told():
    pytest.importorskip("threadpoolctl")
    code = """
import fastnorm, threadpoolctl
print([i["user_api"] for i in threadpoolctl.threadpool_info()].count("fastnorm"))
"""
    assert in_subprocess(code) == "0"


WORKERS = """
import pathlib, time, numpy, fastnorm
fastnorm.set_num_threads(2)
def calls(rows, count, pause):
    x = numpy.ones((rows, 1024), numpy.float32)
    for _ in range(count):
        fastnorm.layer_norm(x, 1024, out=x)
        if pause:
            time.sleep(pause)
    names = pathlib.Path("/proc/self/task").glob("*/comm")
    return sum(name.read_text() == "fastnorm\\n" for name in names)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize(
    ("then", "workers"),
    [
        ("calls(128, 20, 1e-3)", 0),  # 1 MiB after pauses is not worth a wake-up,
        ("calls(512, 20, 1e-3)", 1),  # 4 MiB are,
        ("int(any(calls(128, 1000, 0) for _ in range(100)))", 1),  # and a loop is
    ],
)
def test_workers_start_when_they_are_worth_it(then, workers):
    assert in_subprocess(f"{WORKERS}\nprint({then})") == str(workers)
