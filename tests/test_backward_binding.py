# test_backward_binding.py - gradients of arrays of any layout and kind.
# SPDX-License-Identifier: MIT
"""Layouts, interleaved arrays, other libraries' arrays, empty arrays, the GIL."""

from __future__ import annotations

import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from backward_cases import CASES, Case, batch, every_case, group, layer
from oracle import random, same_bits

import fastnorm

Array = np.ndarray


def reversed_view(a: Array) -> Array:
    return np.ascontiguousarray(a[::-1])[::-1]


def every_other(a: Array) -> Array:
    """Elements that lie two apart."""
    wide = np.full((*a.shape, 2), np.nan, a.dtype)
    wide[..., 0] = a
    return wide[..., 0]


def padded(a: Array) -> Array:
    """Rows that lie further apart than they are long."""
    wide = np.full((*a.shape[:-1], a.shape[-1] + 3), np.nan, a.dtype)
    wide[..., : a.shape[-1]] = a
    return wide[..., : a.shape[-1]]


def fortran(a: Array) -> Array:
    return np.asfortranarray(a)


def turned(a: Array) -> Array:
    """With the memory of channels last seen as channels first."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


def swapped(a: Array) -> Array:
    return a.astype(a.dtype.newbyteorder())


def unaligned(a: Array) -> Array:
    room = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    room[...] = a
    return room


LAYOUTS = {
    f.__name__: f
    for f in (reversed_view, every_other, padded, fortran, turned, swapped, unaligned)
}


@pytest.mark.parametrize("layout", LAYOUTS)
@every_case
def test_arrays_of_any_layout(name: str, layout: str) -> None:
    case, change = CASES[name], LAYOUTS[layout]
    grad, values = case.grad("f4"), case.values("f4")
    expected = case.backward(fastnorm, grad, values)
    for which in ("both", "grad", "input"):
        given = dict(values)
        if which != "grad":
            given[case.first] = change(values[case.first])
        g = grad if which == "input" else change(grad)
        kept = g.copy(), given[case.first].copy()
        found = case.backward(fastnorm, g, given)
        assert found.keys() == expected.keys()
        for key, array in found.items():
            # Channels that lie otherwise are added up in another order.
            np.testing.assert_allclose(
                array, expected[key], rtol=0, atol=2e-6 * np.max(np.abs(expected[key]))
            )
        assert found[case.names[0]].flags.c_contiguous
        np.testing.assert_array_equal(g, kept[0])
        np.testing.assert_array_equal(given[case.first], kept[1])


@pytest.mark.parametrize(
    "layout", [key for key in LAYOUTS if key not in ("swapped", "unaligned")]
)
@every_case
def test_outputs_of_any_layout(name: str, layout: str) -> None:
    case, change = CASES[name], LAYOUTS[layout]
    grad, values = case.grad("f4"), case.values("f4")
    expected = case.backward(fastnorm, grad, values)[case.names[0]]
    bound = 2e-6 * np.max(np.abs(expected))
    out = change(np.zeros_like(grad))
    found = case.backward(fastnorm, grad, values, out=out)[case.names[0]]
    assert found is out
    np.testing.assert_allclose(out, expected, rtol=0, atol=bound)
    for target in ("grad", "input"):
        given = {key: array.copy() for key, array in values.items()}
        g = change(grad.copy())
        given[case.first] = change(given[case.first])
        out = g if target == "grad" else given[case.first]
        found = case.backward(fastnorm, g, given, out=out)[case.names[0]]
        assert found is out
        np.testing.assert_allclose(out, expected, rtol=0, atol=bound)
    # What lies between is nobody's.
    if layout in ("padded", "every_other"):
        out = change(np.zeros_like(grad))
        case.backward(fastnorm, grad, values, out=out)
        base = out.base
        assert base is not None and np.isnan(base).sum() == base.size - out.size


@pytest.mark.parametrize(
    "case",
    [batch((16, 64, 28, 28)), group((8, 64, 28, 28), 8), layer((1024, 1024), (1,))],
    ids=lambda case: case.op,
)
@pytest.mark.parametrize("layout", ["as it is", "turned"])
def test_nothing_is_copied_where_it_need_not_be(case: Case, layout: str) -> None:
    grad, values = case.grad("f4"), case.values("f4")
    if layout == "turned":
        grad = turned(grad) if grad.ndim > 2 else padded(grad)
        values["input"] = (
            turned(values["input"]) if grad.ndim > 2 else padded(values["input"])
        )
    case.backward(fastnorm, grad, values, out=grad)
    grad[...] = 1
    tracemalloc.start()
    case.backward(fastnorm, grad, values, out=grad)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # What is left is scratch for the sums: no array of the input's size.
    assert peak < grad.nbytes / 2


def test_interleaved_arrays_are_apart() -> None:
    both = np.zeros((6, 40), np.float32)
    x, grad = random((6, 20)), random((6, 20), seed=1)
    w = random(20, seed=2)
    both[:, :20] = grad
    expected = fastnorm.layer_norm_backward(grad, x, 20, w)
    found = fastnorm.layer_norm_backward(both[:, :20], x, 20, w, out=both[:, 20:])
    assert same_bits(both[:, 20:], expected.input)
    assert same_bits(both[:, :20], grad)
    assert same_bits(found.weight, expected.weight)
    # Not the columns of one buffer, to the C API: an overlap from first to last byte.
    out = both[::-1, 20:]
    found = fastnorm.layer_norm_backward(both[:, :20], x, 20, w, out=out)
    assert found.input is out
    assert same_bits(np.ascontiguousarray(out), expected.input)
    assert same_bits(found.weight, expected.weight)


# ---- Other libraries' arrays, lists, nothing ----------------------------------------


def test_tensors_are_read_and_written_where_they_are() -> None:
    torch = pytest.importorskip("torch")
    x, grad, w = random((5, 8)), random((5, 8), seed=1), random(8, seed=2)
    expected = fastnorm.layer_norm_backward(grad, x, 8, w)
    out = torch.empty(5, 8)
    found = fastnorm.layer_norm_backward(
        torch.tensor(grad), torch.tensor(x), 8, torch.tensor(w), out=out
    )
    assert found.input is out
    assert same_bits(out.numpy(), expected.input)
    assert same_bits(found.weight, expected.weight)
    short, tight = (torch.tensor(a, dtype=torch.bfloat16) for a in (x, grad))
    into = torch.empty(5, 8, dtype=torch.bfloat16)
    assert fastnorm.l2_norm_backward(tight, short, out=into) is into
    wide = fastnorm.l2_norm_backward(tight.float().numpy(), short.float().numpy())
    assert torch.equal(into, torch.tensor(wide).bfloat16())


def test_lists_are_taken_as_numpy_takes_them() -> None:
    x, grad = [[1.0, 2.0, 4.0]], [[1.0, 0.0, 0.0]]
    found = fastnorm.layer_norm_backward(grad, x, 3, [1, 1, 1])
    expected = fastnorm.layer_norm_backward(np.array(grad), np.array(x), 3, np.ones(3))
    for a, b in zip(found, expected, strict=True):
        assert same_bits(a, b)
    assert found.weight.dtype == np.float64


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_empty_arrays(shape: tuple[int, ...]) -> None:
    x = np.empty(shape, np.float32)
    w, c = np.ones(shape[2], np.float32), np.ones(shape[1], np.float32)
    results = [
        fastnorm.layer_norm_backward(x, x, shape[2], w),
        fastnorm.batch_norm_backward(x, x, c),
        fastnorm.batch_norm_backward(x, x, c, c, c, False),
        fastnorm.instance_norm_backward(x, x, c),
        fastnorm.group_norm_backward(x, x, 1, c),
        fastnorm.rms_norm_backward(x, x, shape[2], w),
    ]
    for found in results:
        assert found.input.shape == shape
        np.testing.assert_array_equal(found.weight, 0)
        if found.bias is not None:
            np.testing.assert_array_equal(found.bias, 0)
    assert fastnorm.l2_norm_backward(x, x).shape == shape
    lengths = np.ones((shape[0], 1, 1), np.float32)
    grad_v, grad_g = fastnorm.weight_norm_backward(x, x, lengths)
    assert grad_v.shape == shape and grad_g.shape == lengths.shape
    np.testing.assert_array_equal(grad_g, 0)


# ---- Threads ------------------------------------------------------------------------


LARGE = [layer((1024, 2048), (1,)), batch((64, 64, 32, 16)), group((32, 64, 512), 8)]
large = pytest.mark.parametrize("case", LARGE, ids=lambda case: case.op)


def is_seen_meanwhile(case: Case, grad: Array, values: dict[str, Array]) -> bool:
    """Whether another thread that waited for the GIL ran during the call."""
    gate, times = threading.Lock(), []
    gate.acquire()

    def wait() -> None:
        with gate:
            times.append(time.perf_counter())

    waiting = threading.Thread(target=wait)
    waiting.start()
    start = time.perf_counter()
    gate.release()
    case.backward(fastnorm, grad, values)
    end = time.perf_counter()
    waiting.join()
    return start < times[0] < end


@large
def test_other_threads_run_meanwhile(case: Case) -> None:
    grad, values = case.grad("f4"), case.values("f4")
    interval = sys.getswitchinterval()
    # Nobody is asked to give the GIL back: it is had when the call lets go of it. The
    # other thread may be late for one call, but not for all.
    sys.setswitchinterval(60)
    try:
        assert any(is_seen_meanwhile(case, grad, values) for _ in range(100))
    finally:
        sys.setswitchinterval(interval)


@large
def test_many_threads_at_once(case: Case) -> None:
    grad, values = case.grad("f4"), case.values("f4")
    expected = case.backward(fastnorm, grad, values)
    with ThreadPoolExecutor(4) as pool:
        calls = [
            pool.submit(case.backward, fastnorm, grad, values, num_threads=1 + i % 3)
            for i in range(8)
        ]
    for call in calls:
        for key, array in call.result().items():
            assert same_bits(array, expected[key])
