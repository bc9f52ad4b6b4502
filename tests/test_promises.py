# SPDX-License-Identifier: MIT
"""test_promises.py - same bits, nothing written that should not be, a good guest."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import random, same_bits, shifted

import fastnorm

Results = tuple[NDArray[Any], ...]
Operation = Callable[..., Results]


def layer_norm(x: NDArray[Any], **options: Any) -> Results:
    n = x.shape[-1]
    w, b = random(n, x.dtype, 1), random(n, x.dtype, 2)
    return fastnorm.layer_norm(x, n, w, b, return_stats=True, **options)


def layer_norm_middle(x: NDArray[Any], **options: Any) -> Results:
    w, b = random(x.shape[1], x.dtype, 1), random(x.shape[1], x.dtype, 2)
    return fastnorm.layer_norm(x, None, w, b, axis=1, return_stats=True, **options)


def rms_norm(x: NDArray[Any], **options: Any) -> Results:
    n = x.shape[-1]
    return fastnorm.rms_norm(x, n, random(n, x.dtype, 1), return_stats=True, **options)


def _batch_norm(
    x: NDArray[Any], training: bool, axis: int, options: dict[str, Any]
) -> Results:
    c = x.shape[axis]
    w, b, mean = (random(c, x.dtype, seed) for seed in (1, 2, 3))
    var = np.abs(random(c, x.dtype, 4)) + x.dtype.type(0.5)
    results = fastnorm.batch_norm(
        x, mean, var, w, b, training, channel_axis=axis, return_stats=True, **options
    )
    return (*results, mean, var)


def batch_norm_inference(x: NDArray[Any], **options: Any) -> Results:
    return _batch_norm(x, False, 1, options)


def batch_norm_training(x: NDArray[Any], **options: Any) -> Results:
    return _batch_norm(x, True, 1, options)


def batch_norm_training_last(x: NDArray[Any], **options: Any) -> Results:
    return _batch_norm(x, True, -1, options)


def moments_rows(x: NDArray[Any], **options: Any) -> Results:
    return tuple(fastnorm.moments(x, axis=-1, **options))


def moments_columns(x: NDArray[Any], **options: Any) -> Results:
    return tuple(fastnorm.moments(x, axis=tuple(range(x.ndim - 1)), **options))


NORMS = [
    layer_norm, layer_norm_middle, rms_norm, batch_norm_inference, batch_norm_training,
    batch_norm_training_last,
]  # fmt: skip
OPERATIONS = [*NORMS, moments_rows, moments_columns]
every_norm = pytest.mark.parametrize("norm", NORMS, ids=lambda f: f.__name__)
every_operation = pytest.mark.parametrize(
    "operation", OPERATIONS, ids=lambda f: f.__name__
)
# Short rows, tails, one row for all threads, more rows than cache, few channels.
SHAPES = [(3, 5), (70, 16, 3), (5, 33, 49), (1, 200_000), (2000, 3), (20, 64, 28, 28)]


def assert_same(found: Results, expected: Results, what: object) -> None:
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert same_bits(a, b), (what, i)


def data(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    return 50 + random(shape, dtype, seed=len(shape))


# ---- Same bits ------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_operation
def test_same_bits_on_every_isa(
    operation: Operation, shape: tuple[int, ...], dtype: str
) -> None:
    if len(fastnorm.isas()) == 1:
        pytest.skip("this machine has one instruction set")
    if shape[0] == 1 and operation in (batch_norm_training, batch_norm_training_last):
        pytest.skip("one value per channel")
    x = data(shape, dtype)
    fastnorm.set_isa("portable")
    expected = operation(x)
    for name in fastnorm.isas():
        fastnorm.set_isa(name)
        assert_same(operation(x), expected, name)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_operation
def test_same_bits_for_any_number_of_threads(
    operation: Operation, shape: tuple[int, ...], dtype: str
) -> None:
    if shape[0] == 1 and operation in (batch_norm_training, batch_norm_training_last):
        pytest.skip("one value per channel")
    x = data(shape, dtype)
    expected = operation(x, num_threads=1)
    for threads in (2, 3, 4, 5, 6, 7, 8):
        assert_same(operation(x, num_threads=threads), expected, threads)
        fastnorm.set_num_threads(threads)
        assert_same(operation(x), expected, threads)


@pytest.mark.parametrize("n", [1, 3, 8, 16, 17, 64, 100, 768, 5000])
@pytest.mark.parametrize("norm", [layer_norm, rms_norm], ids=lambda f: f.__name__)
@pytest.mark.usefixtures("isa")
def test_same_bits_alone_and_in_any_batch(norm: Operation, n: int, dtype: str) -> None:
    x = random((37, n), dtype)
    whole = norm(x)
    for rows in (slice(0, 1), slice(5, 6), slice(36, 37), slice(3, 12), slice(1, 36)):
        assert_same(norm(x[rows]), tuple(a[rows] for a in whole), rows)


@pytest.mark.parametrize(("training", "axis"), [(False, 1), (False, -1), (True, 1)])
@pytest.mark.usefixtures("isa")
def test_same_bits_for_a_channel_among_any_others(
    training: bool, axis: int, dtype: str
) -> None:
    x = random((6, 37, 11, 37), dtype)
    options: dict[str, Any] = {"training": training, "channel_axis": axis}
    mean, var = random(37, dtype, 1), random(37, dtype, 2) ** 2
    whole = fastnorm.batch_norm(x, mean.copy(), var.copy(), **options)
    for c in (slice(0, 1), slice(5, 6), slice(36, 37), slice(3, 20)):
        part = x[:, c] if axis == 1 else x[..., c]
        y = fastnorm.batch_norm(part, mean[c].copy(), var[c].copy(), **options)
        assert same_bits(y, whole[:, c] if axis == 1 else whole[..., c]), c


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 16, 37, 64, 130, 515])
@pytest.mark.usefixtures("isa")
def test_same_bits_for_a_column_at_any_place_of_a_table(
    channels: int, dtype: str
) -> None:
    # The training statistics of a table may depend on the number of its channels.
    x = random((301, channels), dtype)
    order = np.random.default_rng(0).permutation(channels)
    shuffled = np.ascontiguousarray(x[:, order])
    y = fastnorm.batch_norm(x, None, None, training=True)
    other = fastnorm.batch_norm(shuffled, None, None, training=True)
    assert same_bits(other, y[:, order])
    for a, b in zip(
        fastnorm.moments(x, axis=0), fastnorm.moments(shuffled, axis=0), strict=True
    ):
        assert same_bits(b, a[order])


@every_operation
@pytest.mark.usefixtures("isa")
def test_same_bits_at_any_alignment(operation: Operation, dtype: str) -> None:
    for shape in ((9, 5), (7, 64), (3, 333), (2, 5, 49)):
        x = data(shape, dtype)
        expected = operation(x)
        for elements in (0, 1, 2, 3, 5, 7, 8, 13, 15):
            assert_same(operation(shifted(x, elements)), expected, (shape, elements))


@every_norm
@pytest.mark.usefixtures("isa")
def test_same_bits_in_place(norm: Operation, dtype: str) -> None:
    for shape in ((9, 5), (64, 100), (3, 5000), (4, 33, 49)):
        x = data(shape, dtype)
        expected = norm(x)
        for elements in (0, 3):
            out = shifted(np.zeros_like(x), elements)
            results = norm(x, out=out)
            assert results[0] is out
            assert_same(results, expected, (shape, "out"))
        results = norm(x, out=x)
        assert results[0] is x
        assert_same(results, expected, (shape, "in place"))


@every_operation
@pytest.mark.usefixtures("isa")
def test_same_bits_from_strided_rows(operation: Operation, dtype: str) -> None:
    shapes: list[tuple[int, ...]] = [(10, 7), (10, 100), (6, 12, 49)]
    if operation is moments_columns:
        # Of three axes it packs what does not fold, in another order than a copy's.
        del shapes[2]
    for shape in shapes:
        big = data((2 * shape[0], *shape[1:-1], shape[-1] + 5), dtype)
        for view in (
            big[::2, ..., : shape[-1]],
            big[1::2, ..., 5:],
            big[::-2, ..., 2:-3],
        ):
            assert not view.flags.c_contiguous
            found, expected = operation(view), operation(view.copy())
            assert_same(found, expected, shape)


@every_norm
def test_same_bits_into_strided_rows(norm: Operation, dtype: str) -> None:
    x = data((8, 6, 40), dtype)
    room = np.full((16, 6, 50), 7, dtype)
    view = room[::2, :, 3:43]
    expected = norm(x)
    results = norm(x, out=view)
    assert results[0] is view
    assert_same(results, expected, "strided out")
    view[...] = 7
    assert np.all(room == 7), "bytes outside of out were written"


# ---- Writes only what it should --------------------------------------------------


@every_operation
def test_the_input_is_unchanged(operation: Operation, dtype: str) -> None:
    for shape in ((9, 5), (40, 1000), (4, 33, 49)):
        x = data(shape, dtype)
        kept = x.copy()
        x.flags.writeable = False
        operation(x)
        assert same_bits(x, kept)


@every_norm
@pytest.mark.usefixtures("isa")
def test_nothing_outside_of_out_is_written(norm: Operation, dtype: str) -> None:
    for shape in ((9, 5), (5, 16), (64, 100), (3, 7, 49), (2, 4097)):
        x = data(shape, dtype)
        for elements in (1, 16):
            room = np.full(x.size + 2 * elements + 32, 7, dtype)
            out = room[elements : elements + x.size].reshape(shape)
            norm(x, out=out)
            assert np.all(room[:elements] == 7)
            assert np.all(room[elements + x.size :] == 7)


def bad_calls() -> list[tuple[str, Callable[..., Any]]]:
    x, w = random((6, 8)), random(8)
    f = fastnorm
    return [
        ("layer weight", lambda o, _m, _v, _r: f.layer_norm(x, 8, w[:7], out=o)),
        ("layer bias", lambda o, _m, _v, _r: f.layer_norm(x, 8, w, w[:3], out=o)),
        ("layer eps", lambda o, _m, _v, _r: f.layer_norm(x, 8, eps=-1.0, out=o)),
        ("layer nan eps", lambda o, _m, _v, _r: f.layer_norm(x, 8, eps=np.nan, out=o)),
        ("layer shape", lambda o, _m, _v, _r: f.layer_norm(x, 9, out=o)),
        ("layer dtype", lambda o, _m, _v, _r: f.layer_norm(x.astype("f8"), 8, out=o)),
        ("layer threads", lambda o, _m, _v, _r: f.layer_norm(
            x, 8, num_threads=-1, out=o)),
        ("layer overlap", lambda _o, _m, _v, r: f.layer_norm(
            r[:48].reshape(6, 8), 8, out=r[4:52].reshape(6, 8))),
        ("rms weight", lambda o, _m, _v, _r: f.rms_norm(x, 8, w[:7], out=o)),
        ("rms axis", lambda o, _m, _v, _r: f.rms_norm(x, None, axis=5, out=o)),
        ("batch weight", lambda o, m, v, _r: f.batch_norm(
            x, m, v, w[:5], None, True, out=o)),
        ("batch momentum", lambda o, m, v, _r: f.batch_norm(
            x, m, v, training=True, momentum=1.5, out=o)),
        ("batch eps", lambda o, m, v, _r: f.batch_norm(
            x, m, v, training=True, eps=np.inf, out=o)),
        ("batch one running", lambda o, m, _v, _r: f.batch_norm(
            x, m, None, training=True, out=o)),
        ("batch running shape", lambda o, m, v, _r: f.batch_norm(
            x, m, v[:3], training=True, out=o)),
        ("batch running overlap", lambda o, m, _v, _r: f.batch_norm(
            x, m, m, training=True, out=o)),
        ("batch axis", lambda o, m, v, _r: f.batch_norm(
            x, m, v, training=True, channel_axis=2, out=o)),
        ("batch read-only", lambda o, m, v, _r: f.batch_norm(
            x, frozen(m), v, training=True, out=o)),
    ]  # fmt: skip


def frozen(a: NDArray[Any]) -> NDArray[Any]:
    view = a.view()
    view.flags.writeable = False
    return view


@pytest.mark.parametrize("call", [c for _, c in bad_calls()],
                         ids=[name for name, _ in bad_calls()])  # fmt: skip
def test_a_failed_call_has_changed_nothing(call: Callable[..., Any]) -> None:
    arrays = [np.full(shape, 7, "f4") for shape in ((6, 8), 8, 8)]
    arrays.append(random(64, seed=9))
    kept = [a.copy() for a in arrays]
    with pytest.raises((TypeError, ValueError), match=r"^(layer|rms|batch)_norm: "):
        call(*arrays)
    for now, before in zip(arrays, kept, strict=True):
        assert same_bits(now, before)


# ---- A good guest ----------------------------------------------------------------


def test_many_python_threads_at_once_get_the_same_bits() -> None:
    jobs = [
        (operation, data(shape, "float32"))
        for operation in OPERATIONS
        for shape in ((64, 768), (400, 16, 49))
    ]
    expected = [operation(x, num_threads=1) for operation, x in jobs]
    failures: list[object] = []
    start = threading.Barrier(8)

    def work(first: int) -> None:
        start.wait()
        try:
            for i in range(2 * len(jobs)):
                k = (first + i) % len(jobs)
                operation, x = jobs[k]
                assert_same(operation(x, num_threads=1 + i % 4), expected[k], k)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(2 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive(), "a call hangs"
    assert not failures


def test_switching_isa_in_mid_use_changes_no_bit() -> None:
    x = data((500, 300), "float32")
    expected = layer_norm(x)
    done = threading.Event()

    def switch() -> None:
        while not done.is_set():
            for name in fastnorm.isas():
                fastnorm.set_isa(name)

    switcher = threading.Thread(target=switch)
    switcher.start()
    try:
        for _ in range(50):
            assert_same(layer_norm(x), expected, "while switching")
    finally:
        done.set()
        switcher.join()


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on Windows")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_forked_child_works_also_in_mid_use(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, threading, warnings
        import numpy as np, fastnorm

        warnings.simplefilter("ignore")
        x = np.random.default_rng(0).standard_normal((2000, 768)).astype("float32")
        expected = fastnorm.layer_norm(x, 768, num_threads=1)
        fastnorm.set_num_threads(4)
        stop = threading.Event()

        def busy():
            while not stop.is_set():
                assert np.array_equal(fastnorm.layer_norm(x, 768), expected)

        threads = [threading.Thread(target=busy) for _ in range(2)]
        for thread in threads:
            thread.start()
        children = []
        for _ in range(10):
            child = os.fork()
            if child == 0:
                good = all(
                    np.array_equal(fastnorm.layer_norm(x, 768), expected)
                    for _ in range(5)
                )
                os._exit(0 if good else 1)
            children.append(child)
        assert np.array_equal(fastnorm.layer_norm(x, 768), expected)
        codes = [os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children]
        stop.set()
        for thread in threads:
            thread.join()
        assert codes == [0] * 10, codes
        """
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, cwd=tmp_path)
