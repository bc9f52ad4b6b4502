# SPDX-License-Identifier: MIT
"""Python servers: many threads on one prepared layer, sub-interpreters, no GIL."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import numpy as np
import pytest

import fastnorm

LAYERS = {
    "LayerNorm": (fastnorm.LayerNorm(96), (40, 96)),
    "RMSNorm": (fastnorm.RMSNorm(96), (40, 96)),
    "BatchNorm": (fastnorm.BatchNorm(24).eval(), (6, 24, 50)),
    "GroupNorm": (fastnorm.GroupNorm(4, 24), (6, 24, 50)),
    "InstanceNorm": (fastnorm.InstanceNorm(24), (6, 24, 50)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_32_threads_hammer_one_prepared_layer(name: str) -> None:
    """Each with arrays of its own size, new and given outputs, while the layer's
    weights are loaded again and again: the same ones, so that any mixture shows.
    """
    layer, shape = LAYERS[name]
    state = {
        key: np.random.default_rng(1).uniform(0.5, 2, value.shape)
        if value.dtype.kind == "f"
        else value
        for key, value in layer.state_dict().items()
    }
    layer.load_state_dict(state)
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal((k % 7 + 1, *shape[1:]), np.float32) for k in range(32)
    ]
    expected = [layer(x) for x in arrays]
    begin, stop = threading.Barrier(33), threading.Event()
    wrong: list[int] = []

    def serve(k: int) -> None:
        out = np.empty_like(arrays[k])
        begin.wait()
        for turn in range(200):
            got = layer(arrays[k], out=out if turn % 2 else None)
            if not np.array_equal(got, expected[k]):
                wrong.append(k)
                return

    def load() -> None:
        while not stop.is_set():
            layer.load_state_dict(state)

    threads = [threading.Thread(target=serve, args=(k,)) for k in range(32)]
    loader = threading.Thread(target=load)
    for thread in [*threads, loader]:
        thread.start()
    begin.wait()
    for thread in threads:
        thread.join()
    stop.set()
    loader.join()
    assert not wrong


SUBINTERPRETER = """
import numpy as np
import fastnorm

try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

code = '''
try:
    import fastnorm
except ImportError as error:
    print("refused:", error)
'''
other = interpreters.create()
(getattr(interpreters, "run_string", None) or interpreters.exec)(other, code)
interpreters.destroy(other)
print(fastnorm.layer_norm(np.arange(2.0), 2).round(2))
"""


def test_a_second_interpreter_in_the_process_is_refused_clearly(tmp_path: Path) -> None:
    # In a process of its own: what is imported there stays as it is.
    done = subprocess.run(
        [sys.executable, "-c", SUBINTERPRETER], capture_output=True, text=True,
        check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refusal, result = done.stdout.splitlines()
    assert refusal.startswith("refused: ")
    assert "interpreter" in refusal.lower()
    assert result == "[-1.  1.]"


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="Python with a GIL"
)
def test_importing_it_does_not_bring_the_gil_back() -> None:
    assert not sys._is_gil_enabled()  # type: ignore[attr-defined, unused-ignore]
