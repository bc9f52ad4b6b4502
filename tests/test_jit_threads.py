# test_jit_threads.py - the Numba backend and threads: its own and the caller's.
# SPDX-License-Identifier: MIT
"""The bits for any number of threads, and who is given threads."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import random, same_bits

import fastnorm

numba = pytest.importorskip("numba")

import fastnorm.jit as jit  # noqa: E402
from fastnorm.jit import _threads  # noqa: E402

Array = NDArray[Any]
Results = tuple[Array, ...]
Operation = Callable[..., Results]

several = pytest.mark.skipif(
    numba.config.NUMBA_NUM_THREADS < 2, reason="Numba has one thread here"
)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many threads each kernel was given, of those that were given several."""
    found: list[int] = []
    own = _threads._shared

    def counted(call: Any, count: int, *args: Any) -> bool:
        def called(*args: Any) -> None:
            found.append(numba.get_num_threads())
            call(*args)

        before = numba.get_num_threads()
        shared = own(called, count, *args)
        assert numba.get_num_threads() == before
        return shared

    monkeypatch.setattr(_threads, "_shared", counted)
    # Smaller arrays than are worth it, so that the tests are quick.
    monkeypatch.setattr(_threads, "BYTES_PER_THREAD", 262144)
    return found


class Clock:
    """Calls of a loop that take these seconds, alone and with threads."""

    def __init__(self, alone: float, shared: float) -> None:
        self.loop, self.now = _threads._Loop(), 0.0
        self.seconds = alone, shared

    def calls(self, count: int, between: float = 1e-6, of: str = "a") -> list[bool]:
        """Which of them were shared."""
        found = []
        for _ in range(count):
            begun = self.now = self.now + between
            found.append(self.loop.shares(of, begun))
            self.now += self.seconds[found[-1]]
            self.loop.note(begun, self.now, found[-1])
        return found


def test_a_loop_of_small_calls_is_shared_while_that_is_quicker() -> None:
    first, tries = _threads._Loop.CALLS, _threads._Loop.TRIES
    pause = _threads._Loop.PAUSE
    quick = Clock(10e-6, 6e-6)
    assert quick.calls(1000) == [False] * first + [True] * (1000 - first)
    assert quick.calls(2, between=1e-3) == [False] * 2
    assert quick.calls(first)[-2:] == [False, True]
    assert not any(quick.calls(first, of="b"))
    slow = Clock(10e-6, 80e-6)
    assert slow.calls(first + tries) == [False] * first + [True] * tries
    assert slow.calls(pause + tries + 1) == ([False] * pause + [True] * tries + [False])


@several
def test_small_calls_of_a_loop_have_the_same_bits(
    counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_threads, "BYTES_PER_THREAD", 1048576)
    monkeypatch.setattr(_threads._Loop, "GAP", 60.0)
    x = hostile((4, 20, 1003))
    wanted = jit.layer_norm(x, 1003, num_threads=1)
    found = [jit.layer_norm(x, 1003, num_threads=2) for _ in range(12)]
    assert counts.count(2) == 12 - _threads._Loop.CALLS
    assert all(same_bits(y, wanted) for y in found)


# ---- Bits ----


def hostile(shape: tuple[int, ...], dtype: str = "float32") -> Array:
    """Far from zero, with parts that are done over in float64, and one that is NaN."""
    x = 1e3 + random(shape, dtype)
    x[0, 1] *= np.float32(1e32)
    x[1, :, -1] *= np.float32(1e-38)
    x[..., 0] *= np.float32(1e3)
    x[-1, -1, 2] = np.nan
    return x


def rows(x: Array, **options: Any) -> Results:
    n = x.shape[-1]
    weight, bias = random(n, x.dtype, 1), random(n, x.dtype, 2)
    y = jit.layer_norm(x, n, weight, bias, return_stats=True, **options)
    return (*y, *jit.rms_norm(x, n, weight, return_stats=True, **options))


def middle(x: Array, **options: Any) -> Results:
    weight, bias = random(x.shape[1], seed=1), random(x.shape[1], seed=2)
    y = jit.layer_norm(x, None, weight, bias, axis=1, return_stats=True, **options)
    return (*y, jit.rms_norm(x, None, weight, axis=1, **options))


def batch(x: Array, axis: int = 1, **options: Any) -> Results:
    c = x.shape[axis]
    found: list[Array] = []
    for training in (True, False):
        mean, var = random(c, seed=3), np.abs(random(c, seed=4)) + np.float32(0.5)
        call = (mean, var, random(c, seed=1), random(c, seed=2), training)
        more = {"channel_axis": axis, "return_stats": True, **options}
        found += [*jit.batch_norm(x, *call, **more), mean, var]
    axes = tuple(a for a in range(x.ndim) if a != axis % x.ndim)
    return (*found, *jit.moments(x, axes, **options))


def batch_last(x: Array, **options: Any) -> Results:
    return batch(x, -1, **options)


def groups(x: Array, axis: int = 1, **options: Any) -> Results:
    c = x.shape[axis]
    mean, var = np.zeros(c, np.float32), np.ones(c, np.float32)
    options["channel_axis"] = axis
    return (
        *jit.group_norm(x, 3, random(c), random(c), return_stats=True, **options),
        jit.instance_norm(x, mean, var, **options),
        mean,
        var,
        jit.instance_norm(x, mean, var, use_input_stats=False, **options),
    )


def groups_last(x: Array, **options: Any) -> Results:
    return groups(x, -1, **options)


OPERATIONS = [
    pytest.param(rows, [(3, 100, 1003), (2, 40000, 6), (2, 3, 50001)], id="rows"),
    pytest.param(middle, [(5, 100, 701), (40, 33, 200)], id="a middle axis"),
    pytest.param(batch, [(9, 20, 1603), (4, 17, 33, 70)], id="images"),
    pytest.param(batch, [(3, 3, 90001), (400, 2, 701)], id="channels in pieces"),
    pytest.param(batch_last, [(9, 700, 45), (2, 30011, 6)], id="tables"),
    pytest.param(groups, [(9, 12, 2003), (3, 6, 40, 500)], id="groups"),
    pytest.param(groups_last, [(9, 2003, 12), (5, 400, 90)], id="groups last"),
]


@several
@pytest.mark.parametrize(("operation", "shapes"), OPERATIONS)
def test_the_bits_are_the_same_for_one_thread_and_two(
    operation: Operation, shapes: list[tuple[int, ...]], counts: list[int]
) -> None:
    for shape in shapes:
        x = hostile(shape)
        one = operation(x, num_threads=1)
        assert not counts
        two = operation(x, num_threads=2)
        assert set(counts) == {2}, shape
        counts.clear()
        assert all(map(same_bits, one, two)), shape
        assert np.any(np.isnan(one[0])) and not np.all(np.isnan(one[0]))


@several
def test_the_channels_of_one_sample_are_those_of_many(counts: list[int]) -> None:
    c = 600
    x, mean, var = 3 + random((1, c, 157)), random(c, seed=1), np.ones(c, np.float32)
    weight, bias = random(c, seed=2), random(c, seed=3)
    var[::7], weight[::7] = 1e-14, 1e30  # more than their kernel trusts a float with
    for statistics in (False, True):  # with them the kernel keeps more of channels
        call = (mean, var, weight, bias)
        more = {"return_stats": statistics, "eps": 0.0}
        found = [jit.batch_norm(x, *call, num_threads=n, **more) for n in (1, 2)]
        twice = np.repeat(x, 2, 0)
        found.append(jit.batch_norm(twice, *call, num_threads=1, **more))
        assert counts == [2]
        counts.clear()
        if not statistics:
            found = [(y,) for y in found]
        assert all(map(same_bits, found[0], found[1]))
        assert same_bits(found[0][0][0], found[2][0][1])
        wanted = fastnorm.batch_norm(x, *call, eps=0.0)
        np.testing.assert_allclose(found[0][0], wanted, 1e-6, 1e-6)


@several
def test_the_bits_of_float64_are_the_same_for_one_thread_and_two() -> None:
    x = hostile((3, 100, 1003), "float64")
    assert all(map(same_bits, rows(x, num_threads=1), rows(x, num_threads=2)))


@several
def test_the_bits_of_a_fused_norm_are_the_same_for_one_thread_and_two(
    counts: list[int],
) -> None:
    fused = jit.fuse(
        "layer_norm",
        prologue=lambda v, low: v if v > low else low,
        epilogue=lambda v, gate: v * gate if v > 0 else v * np.float32(0.25),
    )
    x, gate = hostile((3, 100, 1003)), random((100, 1003), seed=4)
    one, two = (
        fused(x, 1003, low=0.5, gate=gate, num_threads=count) for count in (1, 2)
    )
    assert counts == [2]
    assert same_bits(one, two)


# ---- Who is given threads ----

X = 3 + random((300, 1003))


@several
def test_the_number_of_fastnorm_is_obeyed(counts: list[int]) -> None:
    for count in (1, 2, 64):
        fastnorm.set_num_threads(count)
        jit.layer_norm(X, 1003)
    most = numba.config.NUMBA_NUM_THREADS
    assert counts == [2, min(9, most)]  # there is work for nine


@several
def test_little_work_has_no_threads(counts: list[int]) -> None:
    jit.layer_norm(X[:60], 1003, num_threads=2)
    assert not counts
    jit.layer_norm(X[:100], 1003, num_threads=2)
    assert counts == [2]


@several
def test_limits_of_threadpoolctl_are_obeyed(counts: list[int]) -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    import fastnorm.interop.threadpoolctl as bridge

    bridge.register()
    fastnorm.set_num_threads(2)
    with threadpoolctl.threadpool_limits(limits=1):
        jit.layer_norm(X, 1003)
    assert not counts
    with threadpoolctl.threadpool_limits(limits=1, user_api="fastnorm"):
        jit.layer_norm(X, 1003)
    assert not counts
    jit.layer_norm(X, 1003)
    assert counts == [2]


@several
def test_numba_has_its_own_number_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = numba.get_num_threads()
    seen: list[int] = []

    def fails(*_: Any) -> None:
        seen.append(numba.get_num_threads())
        raise ValueError("stop")

    try:
        for own in (1, 2):
            numba.set_num_threads(own)
            jit.layer_norm(X, 1003, num_threads=3 - own)
            jit.layer_norm(X, 1003, num_threads=2)
            assert numba.get_num_threads() == own
        numba.set_num_threads(1)
        monkeypatch.setattr(_threads, "kernel", lambda *_: fails)
        for _ in range(2):  # what failed has let go of them
            with pytest.raises(ValueError, match="stop"):
                jit.layer_norm(X, 1003, num_threads=2)
        assert seen == [2, 2] and numba.get_num_threads() == 1
    finally:
        numba.set_num_threads(before)


@several
def test_one_caller_at_a_time_has_threads(counts: list[int]) -> None:
    expected = jit.layer_norm(X, 1003, num_threads=2)
    assert counts == [2]
    with _threads._busy:
        assert same_bits(jit.layer_norm(X, 1003, num_threads=2), expected)
    assert counts == [2]
    jit.layer_norm(X, 1003, num_threads=2)
    assert counts == [2, 2]


def test_the_gil_is_released_around_kernels() -> None:
    gate, times = threading.Lock(), []
    x = random((2000, 1003))
    out = np.empty_like(x)
    jit.layer_norm(x, 1003, out=out, num_threads=1)

    def wait() -> None:
        with gate:
            times.append(time.perf_counter())

    def is_seen_meanwhile() -> bool:
        times.clear()
        gate.acquire()
        waiting = threading.Thread(target=wait)
        waiting.start()
        start = time.perf_counter()
        gate.release()
        jit.layer_norm(x, 1003, out=out, num_threads=1)
        end = time.perf_counter()
        waiting.join()
        return start < times[0] < end

    interval = sys.getswitchinterval()
    # As long as nobody asks for the GIL, it is had when a call lets go of it.
    sys.setswitchinterval(60)
    try:
        assert any(is_seen_meanwhile() for _ in range(100))
    finally:
        sys.setswitchinterval(interval)
