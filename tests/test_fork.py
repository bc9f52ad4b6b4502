# SPDX-License-Identifier: MIT
"""Servers that fork: worker pools, preloaded workers that are replaced, many forks.

Each runs in a process of its own, whose end is waited for: what could go wrong is that
nothing happens any more.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no fork on Windows")

SETUP = """
import multiprocessing, os, signal, socket, struct, sys, threading, time, warnings
import numpy as np, fastnorm

warnings.simplefilter("ignore")
fastnorm.set_num_threads(4)
layer = fastnorm.LayerNorm(768)

def made(seed):
    return np.random.default_rng(seed).standard_normal((1000, 768), np.float32)

def alone(seed):
    return fastnorm.layer_norm(made(seed), 768, num_threads=1)

def ends(children):
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
"""


def run(script: str, tmp_path: Path, timeout: float = 120) -> str:
    path = tmp_path / "script.py"
    path.write_text(SETUP + textwrap.dedent(script), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, check=False,
        timeout=timeout, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_pool_of_processes_after_the_parent_used_threads(
    method: str, tmp_path: Path
) -> None:
    script = f"""
        def check(seed):
            return np.array_equal(layer(made(seed)), alone(seed))

        if __name__ == "__main__":
            assert check(0)
            context = multiprocessing.get_context({method!r})
            if {method!r} == "forkserver":
                context.set_forkserver_preload(["fastnorm"])
            for _ in range(3):
                with context.Pool(3) as pool:
                    busy = threading.Thread(target=check, args=(1,))
                    busy.start()
                    assert all(pool.map(check, range(12)))
                    busy.join()
                assert check(2)
        """
    run(script, tmp_path)


def test_preloaded_workers_serve_and_are_replaced(tmp_path: Path) -> None:
    """As servers do that load a model once and fork: each worker has request threads,
    is stopped after some requests, and another one is forked while requests go on.
    """
    script = """
        assert np.array_equal(layer(made(0)), alone(0))  # the parent has its workers
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)

        def receive(connection, size):
            data = bytearray()
            while len(data) < size:
                part = connection.recv(size - len(data))
                if not part:
                    return None
                data += part
            return bytes(data)

        def serve_one(connection):
            with connection:
                (seed,) = struct.unpack("<I", receive(connection, 4))
                connection.sendall(layer(made(seed)).tobytes())

        def worker(requests):
            signal.alarm(100)
            threads = []
            for _ in range(requests):
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=serve_one, args=(connection,)))
                threads[-1].start()
            for thread in threads:
                thread.join()
            os._exit(0)

        def start():
            child = os.fork()
            if child == 0:
                worker(10)
            return child

        wrong = []

        def ask(seed):
            with socket.create_connection(listener.getsockname()) as connection:
                connection.sendall(struct.pack("<I", seed))
                answer = receive(connection, 1000 * 768 * 4)
            if answer is None or answer != alone(seed).tobytes():
                wrong.append(seed)

        workers = {start() for _ in range(3)}
        answered = 0
        for generation in range(8):
            clients = [
                threading.Thread(target=ask, args=(seed,)) for seed in range(10)
            ]
            for client in clients:
                client.start()
            ended, status = os.waitpid(-1, os.WNOHANG)
            while not ended and any(client.is_alive() for client in clients):
                time.sleep(0.005)
                ended, status = os.waitpid(-1, os.WNOHANG)
            for client in clients:
                client.join()
            answered += len(clients)
            if ended:
                assert os.waitstatus_to_exitcode(status) == 0
                workers.remove(ended)
                workers.add(start())  # while the layer is in use by the parent, too
            assert np.array_equal(layer(made(generation)), alone(generation))
        for child in workers:
            os.kill(child, signal.SIGTERM)
        codes = ends(workers)
        assert set(codes) <= {0, -signal.SIGTERM}, codes
        assert not wrong, wrong
        print(answered)
        """
    assert run(script, tmp_path) == "80\n"


def test_a_thousand_forks_while_threads_compute(tmp_path: Path) -> None:
    script = """
        x, expected = made(0)[:300], alone(0)[:300]
        stop = threading.Event()

        def busy():
            while not stop.is_set():
                assert np.array_equal(layer(x), expected)

        threads = [threading.Thread(target=busy) for _ in range(2)]
        for thread in threads:
            thread.start()
        bad = 0
        for _ in range(100):
            children = []
            for _ in range(10):
                child = os.fork()
                if child == 0:
                    signal.alarm(60)
                    os._exit(0 if np.array_equal(layer(x), expected) else 1)
                children.append(child)
            bad += sum(code != 0 for code in ends(children))
        stop.set()
        for thread in threads:
            thread.join()
        assert np.array_equal(layer(x), expected)
        print(bad)
        """
    assert run(script, tmp_path) == "0\n"
