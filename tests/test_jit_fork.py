# test_jit_fork.py - whole processes that use the Numba backend, from threads and forks.
# SPDX-License-Identifier: MIT
"""Each of Numba's threading layers, in processes of their own that are to end well."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("numba")

BEGIN = """
    import os, sys, threading, time
    from concurrent.futures import ThreadPoolExecutor
    import numba
    import numpy as np
    import fastnorm.jit as jit

    x = np.random.default_rng(0).normal(3, 2, (300, 1003)).astype(np.float32)
    images = x[:, :1000].reshape(100, 3, 1000)
    calls = [
        lambda n: jit.layer_norm(x, 1003, num_threads=n),
        lambda n: jit.batch_norm(images, None, None, training=True, num_threads=n),
        lambda n: jit.moments(x, 0, num_threads=n).var,
    ]
    expected = [call(1).tobytes() for call in calls]

    def right(i, n=2):
        return calls[i % 3](n).tobytes() == expected[i % 3]
"""
LAYERS = ["default", "workqueue"]
each_layer = pytest.mark.parametrize("layer", LAYERS)


def run(code: str, layer: str, begin: str = BEGIN) -> str:
    """What a process prints, which is to end well; `layer` that of Numba's threads."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(begin) + textwrap.dedent(code)],
        env={**os.environ, "NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr[-2000:])
    return done.stdout.strip()


@each_layer
def test_eight_threads_at_once_give_right_results(layer: str) -> None:
    said = run(
        """
        assert all(right(i) for i in range(3))
        with ThreadPoolExecutor(8) as pool:
            print(sum(pool.map(right, range(240))), numba.threading_layer())
        """,
        layer,
    ).split()
    assert said[0] == "240"
    assert layer in ("default", said[1])


@each_layer
def test_a_process_may_fork_after_it_used_threads(layer: str) -> None:
    said = run(
        """
        assert all(right(i) for i in range(3))
        for turn in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0 if right(turn) and right(turn + 1) else 7)
            assert right(turn)
            assert os.waitpid(child, 0) == (child, 0), turn
        print("all right")
        """,
        layer,
    )
    assert said == "all right"


@each_layer
def test_a_process_may_fork_while_another_thread_computes(layer: str) -> None:
    said = run(
        """
        assert all(right(i) for i in range(3))
        wrong, over = [], threading.Event()

        def compute():
            while not over.is_set():
                wrong.append(not right(len(wrong)))

        other = threading.Thread(target=compute)
        other.start()
        for turn in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0 if right(turn) and right(turn + 1) else 7)
            assert os.waitpid(child, 0) == (child, 0), turn
        over.set()
        other.join()
        print(len(wrong) > 20, sum(wrong))
        """,
        layer,
    )
    assert said == "True 0"


@each_layer
def test_a_process_may_fork_after_it_used_numbas_threads_itself(layer: str) -> None:
    said = run(
        """
        @numba.njit(parallel=True)
        def total(a):
            s = 0.0
            for i in numba.prange(a.size):
                s += a[i]
            return s

        assert total(np.ones(1000)) == 1000
        child = os.fork()
        if child == 0:
            os._exit(0 if right(0) else 7)
        assert os.waitpid(child, 0) == (child, 0)
        assert right(0)
        print("all right")
        """,
        layer,
    )
    assert said == "all right"


def test_a_child_has_threads_if_its_parent_had_begun_none() -> None:
    said = run(
        """
        from fastnorm.jit import _threads
        given, own = [], _threads._shared
        _threads._shared = lambda *args: given.append(own(*args)) or given[-1]
        child = os.fork()
        if child == 0:
            os._exit(0 if right(0) and given == [True] else 7)
        assert os.waitpid(child, 0) == (child, 0)
        print("all right")
        """,
        "default",
    )
    assert said == "all right"
