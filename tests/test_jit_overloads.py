# test_jit_overloads.py - the functions inside @njit against the same ones outside.
# SPDX-License-Identifier: MIT
"""One Python function is run as it is and compiled: results and errors are the same."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import fastnorm

numba = pytest.importorskip("numba")

from numba import njit, prange, types  # noqa: E402
from numba.core.runtime import _nrt_python as nrt  # noqa: E402
from numba.core.runtime import rtsys  # noqa: E402

from fastnorm.jit import _overloads as overloads  # noqa: E402

DOCS = Path(__file__).parents[1] / "docs" / "njit.md"


class Data(NamedTuple):
    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    row_weight: np.ndarray
    row_bias: np.ndarray


def hostile(dtype: str) -> Data:
    rng = np.random.default_rng(33)
    x = rng.normal(1e3, 2, (5, 6, 4, 3))
    x[0, 0] = 3.3
    x[1] *= 1e30
    x[2, 1, 0, 0] = np.nan
    x[3] *= 1e-40
    w, b, m = rng.normal(size=(3, 6))
    v = rng.uniform(0.5, 2, 6)
    rows = rng.normal(size=(2, 4, 3))
    return Data(*(a.astype(dtype) for a in (x, w, b, m, v, *rows)))


def layer_norm(d):
    x, w, b = d.x, d.row_weight, d.row_bias
    y = fastnorm.layer_norm(x, x.shape[2:], w, b, 1e-3)
    z = fastnorm.layer_norm(x, normalized_shape=(4, 3), bias=b, num_threads=2)
    return y, z, fastnorm.layer_norm(x, 3), fastnorm.layer_norm(x, x.shape, eps=0)


def rms_norm(d):
    y = fastnorm.rms_norm(d.x, (d.x.shape[2], 3), d.row_weight)
    z = fastnorm.rms_norm(d.x, 3, eps=0.5)
    return y, z, fastnorm.rms_norm(d.x, 3, None, None)


def l2_norm(d):
    y = fastnorm.l2_norm(d.x), fastnorm.l2_norm(d.x, (-1, 2), 100.0)
    z = fastnorm.normalize(d.x, 2, -1), fastnorm.normalize(d.row_bias, eps=True)
    return y, z, fastnorm.normalize(d.row_bias, p=2.0, dim=1)


def l1_norm(d):
    y = fastnorm.l1_norm(d.x), fastnorm.l1_norm(d.x, (-1, 2), 100.0)
    return y, fastnorm.normalize(d.x, 1, -1), fastnorm.normalize(d.row_bias, p=1.0)


def batch_norm(d):
    x, m, v, rows = d.x, d.mean, d.var, d.row_weight
    y = fastnorm.batch_norm(x, m, v, d.weight, d.bias)
    z = fastnorm.batch_norm(rows, rows[0], rows[1] ** 2, eps=1e-3, channel_axis=-1)
    return y, z, fastnorm.batch_norm(x, running_var=v, running_mean=m, weight=m)


def batch_norm_training(d):
    x, m, v = d.x, d.mean, d.var
    y = fastnorm.batch_norm(x, m, v, d.weight, d.bias, True)
    z = fastnorm.batch_norm(x, None, None, bias=d.bias, training=True, eps=0.1)
    fastnorm.batch_norm(x[3:], m, v, training=True, momentum=0)
    fastnorm.batch_norm(x[3:], m, v, training=True, momentum=1, num_threads=2)
    for i in range(3):
        fastnorm.batch_norm(
            x[i:], m, v, training=i > 0, momentum=None, num_batches_tracked=i
        )
    return y, z, m.copy(), v.copy()


def group_norm(d):
    y = fastnorm.group_norm(d.x, 3, d.weight, d.bias)
    return y, fastnorm.group_norm(d.row_bias, d.row_bias.shape[1], eps=1e-3)


def instance_norm(d):
    x, m, v = d.x, d.mean, d.var
    y = fastnorm.instance_norm(x, m, v, d.weight, d.bias, momentum=0.3)
    z = fastnorm.instance_norm(x, m, v, use_input_stats=False, channel_axis=-3)
    fastnorm.instance_norm(x[:1], m, v, momentum=0.0)
    return y, z, fastnorm.instance_norm(x), m.copy(), v.copy()


def moments(d):
    x = d.x
    a, b = fastnorm.moments(x, (0, 2, -1)), fastnorm.moments(x)
    c, e = fastnorm.moments(x, 1, ddof=1, keepdims=True), fastnorm.moments(x[0, 0, 0])
    f, g = fastnorm.moments(x, (1, 3), num_threads=2), fastnorm.moments(x[:1], 3)
    y, z = x[:, :1].copy(), x[:1, :, :, :1].copy()  # single entries do not count
    h, i = fastnorm.moments(y, (0, 3)), fastnorm.moments(z, (1, 2))
    j, k = fastnorm.moments(x[3:3], 0), fastnorm.moments(d.bias, ddof=6)
    return a, b, c, e, f, g, h, i, j, k, c.var.copy()


FUNCTIONS = [
    layer_norm,
    rms_norm,
    l2_norm,
    l1_norm,
    batch_norm,
    batch_norm_training,
    group_norm,
    instance_norm,
    moments,
]


def same(a, b):
    """Whether two results have the same types and bits."""
    if isinstance(a, tuple):
        return type(a) is type(b) and all(map(same, a, b)) and len(a) == len(b)
    assert isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    return a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_bits_and_types_are_those_of_the_call_outside(function, dtype):
    outside, inside = hostile(dtype), hostile(dtype)
    expected = function(outside)
    assert same(njit(function)(inside), expected)
    assert same(inside, outside)  # running statistics, and nothing else


@pytest.mark.parametrize("function", overloads.OVERLOADS, ids=lambda f: f.__name__)
def test_arguments_have_the_names_order_and_defaults_of_the_function(function):
    def summary(signature, names):
        parameters = signature.parameters.values()
        return [(p.name, p.default, p.kind) for p in parameters if p.name in names]

    real = inspect.signature(getattr(fastnorm, function.__name__))
    own = inspect.signature(function)
    names = list(own.parameters)[:-1]  # the last is **refused
    assert summary(own, names) == summary(real, names)
    positional = [
        p.name for p in real.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    assert names[: len(positional)] == positional
    given = dict.fromkeys(("normalized_shape", "num_groups"), types.intp)
    given |= dict.fromkeys(("running_mean", "running_var"), types.float32[::1])
    needed = [
        given[name] for name, default, _ in summary(own, given) if default is own.empty
    ]
    compiled = inspect.signature(function(types.float32[:, ::1], *needed))
    assert [p[:2] for p in summary(compiled, names)] == [
        p[:2] for p in summary(own, names)
    ]
    assert list(compiled.parameters) == names


def in_place(x, w, out):
    a = fastnorm.layer_norm(x, x.shape[1], w, out=out)
    b = fastnorm.rms_norm(x, x.shape[1], out=x)
    fastnorm.l2_norm(out, out=out)
    fastnorm.batch_norm(out, w, w**2, training=False, out=out)
    fastnorm.group_norm(out, 1, out=out)
    return a, b


def test_out_is_returned_as_the_same_object_and_may_be_the_input():
    rng = np.random.default_rng(34)
    x, w = rng.normal(size=(7, 9)), rng.normal(size=9)
    expected = in_place(x.copy(), w, np.empty_like(x))
    out = np.empty_like(x)
    y, z = njit(in_place)(x, w, out)
    assert y is out and z is x
    assert same((y, z), expected)


def layouts(x, w):
    y = fastnorm.layer_norm(x, x.shape[1], w, w), fastnorm.l2_norm(x)
    return y, fastnorm.batch_norm(x, w, w**2, w), fastnorm.moments(x, 1)


def test_other_layouts_and_read_only_arrays_are_read():
    x, w = np.random.default_rng(35).normal(size=(8, 12)), np.arange(1.0, 25.0)
    x.flags.writeable = False
    compiled = njit(layouts)
    for view in (x[::2], x[:, 1:], x[::-1, ::-1], x.T):
        packed, weight = np.ascontiguousarray(view), w[: 2 * view.shape[1] : 2]
        assert same(compiled(view, weight), layouts(packed, weight.copy()))


def optional(x, w, has_weight, b=None):
    weight = None
    if has_weight:
        weight = w
    return fastnorm.layer_norm(x, x.shape[1], weight, b)


def test_a_weight_may_be_none_at_run_time():
    x, w = np.random.default_rng(36).normal(size=(2, 3, 4)).astype("f")[:, :, :3]
    x, w = np.ascontiguousarray(x), np.ascontiguousarray(w[0])
    compiled = njit(optional)
    for given in (True, False):
        assert same(compiled(x, w, given), optional(x, w, given))
    with pytest.raises(ValueError, match=r"weight has 2 values, normalized_shape"):
        compiled(x, w[:2], True)
    assert same(compiled(x, w[:2], False), optional(x, w, False))


def test_empty_arrays():
    @njit
    def empty(x, w):
        y = fastnorm.layer_norm(x, x.shape[1:], None, None), fastnorm.group_norm(x, 1)
        fastnorm.batch_norm(x, w, w, training=True)
        return y, fastnorm.moments(x, (0, 2))

    for shape in ((0, 2, 3), (2, 0, 3), (2, 3, 0)):
        x, w = np.empty(shape, "f"), np.full(shape[1], 7, "f")
        assert same(empty(x, w), empty.py_func(x, w))
        assert (w == 7).all()


def test_in_a_parallel_loop():
    @njit(parallel=True)
    def each(x, w, b, out):
        sums = np.empty(x.shape[0])
        for i in prange(x.shape[0]):
            fastnorm.group_norm(x[i], 2, w, b, out=out[i])
            y = fastnorm.layer_norm(x[i, :, 0], x.shape[3])
            sums[i] = fastnorm.moments(y).var.item() + y[0, 0]
        return sums

    x = np.random.default_rng(37).normal(size=(300, 5, 4, 6)).astype("f")
    w, b = np.arange(1, 9, dtype="f").reshape(2, 4)
    out = np.empty_like(x)
    sums = each(x, w, b, out)
    assert same(out, fastnorm.group_norm(x.reshape(-1, 4, 6), 2, w, b).reshape(x.shape))
    y = fastnorm.layer_norm(x[:, :, 0], 6)
    assert sums.tolist() == [fastnorm.moments(v).var + v[0, 0] for v in y]


def test_in_threads_without_the_gil():
    @njit(nogil=True)
    def norm(x):
        return fastnorm.layer_norm(x, x.shape[1], num_threads=2)

    rng = np.random.default_rng(38)
    many = [rng.normal(size=(50, 600)).astype("f") for _ in range(40)]
    with ThreadPoolExecutor(4) as pool:
        for x, y in zip(many, pool.map(norm, many), strict=True):
            assert same(y, fastnorm.layer_norm(x, 600))


def test_copies_and_results_are_freed():
    @njit
    def many(x, w, n):
        for _ in range(n):
            fastnorm.layer_norm(x, x.shape[1], w if n > 1 else None)
            fastnorm.moments(x, 0)

    x, w = np.ones((6, 4))[::2], np.ones(4)
    many(x, w, 2)
    nrt.memsys_enable_stats()
    try:
        before = rtsys.get_allocation_stats()
        many(x, w, 100)
        after = rtsys.get_allocation_stats()
    finally:
        nrt.memsys_disable_stats()
    assert after.alloc - before.alloc >= 400
    assert after.alloc - after.free == before.alloc - before.free


PROGRAM = """
import sys
import numpy as np
import fastnorm
assert "numba" not in sys.modules
from numba import njit, prange

@njit(cache=True)
def norm(x, n):
    return fastnorm.layer_norm(x, n), fastnorm.moments(x, 0)

@njit(cache=True, parallel=True)
def norms(x):
    y = np.empty_like(x)
    for i in prange(x.shape[0]):
        fastnorm.rms_norm(x[i], x.shape[2], out=y[i])
    return y

x = np.random.default_rng(39).normal(size=(8, 5, 7))
try:
    norm(x[0], 6)
except ValueError as error:
    print(error)
y, (mean, var) = norm(x[0], 7)
assert (y == fastnorm.layer_norm(x[0], 7)).all()
assert (var == fastnorm.moments(x[0], 0).var).all()
assert (norms(x) == fastnorm.rms_norm(x, 7)).all()
print(*(sum(f.stats.cache_hits.values()) for f in (norm, norms)))
"""


def test_code_from_the_cache_on_disk_runs_in_a_new_process(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    for hits in ("0 0", "1 1"):
        done = subprocess.run(
            [sys.executable, "program.py"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == (
            f"layer_norm: normalized_shape is (6,), input has shape (5, 7)\n{hits}\n"
        )


def test_registering_again_does_nothing(monkeypatch):
    monkeypatch.setattr(overloads, "overload", None)
    overloads.register()


def test_the_examples_of_the_page_run(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    assert blocks
    (tmp_path / "page.py").write_text("".join(blocks), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "page.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
