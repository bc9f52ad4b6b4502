# test_jit.py - what the Numba backend promises beside what all backends do.
# SPDX-License-Identifier: MIT
"""Its imports, refusals and layouts.

Within the bounds of error of the C backend it is held by that one's own tests, which
run over both by the fixtures `backend` and `either`.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import test_binding_errors as errors
import test_binding_layouts as layouts
import test_promises as promises
from numpy.typing import NDArray
from oracle import random, same_bits, shifted

import fastnorm

pytest.importorskip("numba")
pytest.importorskip("ml_dtypes")

import fastnorm.jit as jit

Array = NDArray[Any]
Call = Callable[..., Any]
SERVED = [
    "batch_norm", "group_norm", "instance_norm", "layer_norm", "moments", "rms_norm",
]  # fmt: skip


@pytest.fixture
def by_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes fastnorm's functions those of the Numba backend."""
    for name in SERVED:
        monkeypatch.setattr(fastnorm, name, getattr(jit, name))


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


# ---- What it is ----


@pytest.mark.parametrize("name", SERVED)
def test_signatures_are_those_of_fastnorm(name: str) -> None:
    function = getattr(jit, name)
    assert inspect.signature(function) == inspect.signature(getattr(fastnorm, name))
    assert function.__name__ == name and "Numba" in function.__doc__


def test_all_names_are_there_and_no_others() -> None:
    assert sorted([*SERVED, "fuse", "merge_moments"]) == jit.__all__
    assert jit.merge_moments is fastnorm.merge_moments
    assert callable(jit.fuse)
    with pytest.raises(AttributeError, match="has no attribute 'fused'"):
        jit.fused  # noqa: B018


def test_imports_bring_no_numba_and_compile_nothing() -> None:
    brought = python("""
        import sys
        import fastnorm
        print("numba" in sys.modules, "fastnorm.jit" in sys.modules)
        import fastnorm.jit
        print("numba" in sys.modules, "fastnorm.jit._backend" in sys.modules)
    """)
    assert brought.split() == ["False"] * 4


def test_without_numba_an_import_error_says_what_to_install() -> None:
    said = python("""
        import sys
        import numpy as np
        sys.modules["numba"] = None
        import fastnorm
        import fastnorm.jit
        x = np.ones((2, 4), np.float32)
        out = x.copy()
        calls = (
            lambda: fastnorm.jit.layer_norm(x, 4, out=out),
            lambda: fastnorm.jit.moments(x),
            lambda: fastnorm.jit.fuse,
            lambda: fastnorm.jit.layer_norm(x, 4, out=out),
        )
        for call in calls:
            try:
                call()
            except ImportError as error:
                print(error)
        assert (out == 1).all()
        fastnorm.layer_norm(x, 4, out=out)
        assert (out == 0).all()
    """).splitlines()
    assert len(said) == 4
    assert all("pip install 'fastnorm[jit]'" in line for line in said)


# ---- What it refuses ----

X = random((3, 4, 5))
V = np.ones(4, np.float32)
BYTES = X.astype(np.uint8)
LENGTHS = np.array([1, 2, 3])
MASK = np.ones((3, 1, 5), bool)
LACKS: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("layer_norm", (X, 5), {"residual": X}, "residual"),
    ("layer_norm", (X, 5), {"lengths": LENGTHS[:, None] + np.zeros(4, int)}, "lengths"),
    ("layer_norm", (BYTES, 5), {}, "8-bit"),
    ("batch_norm", (BYTES, V, V), {}, "8-bit"),
    ("group_norm", (BYTES, 2), {}, "8-bit"),
    ("instance_norm", (BYTES,), {}, "8-bit"),
    ("moments", (BYTES,), {}, "8-bit"),
    ("batch_norm", (X, V, V), {"mask": MASK}, "mask"),
    ("group_norm", (X, 2), {"mask": MASK}, "mask"),
    ("instance_norm", (X,), {"mask": MASK}, "mask"),
    ("moments", (X, (0, 2)), {"mask": MASK}, "mask"),
    *(
        (name, args, option, next(iter(option)))
        for name, args in (
            ("layer_norm", (X, 5)),
            ("rms_norm", (X, 5)),
            ("batch_norm", (X, V, V)),
            ("group_norm", (X, 2)),
            ("instance_norm", (X,)),
        )
        for option in (
            {"post_add": X},
            {"activation": "relu"},
            {"flush_denormals": True},
        )
    ),
]


@pytest.mark.parametrize(("name", "args", "options", "text"), LACKS)
def test_what_it_has_not_got_is_refused_by_name(
    name: str, args: tuple[Any, ...], options: dict[str, Any], text: str
) -> None:
    out = np.full(X.shape, 7, np.float32)
    given = options if name == "moments" else {**options, "out": out}
    getattr(fastnorm, name)(*args, **given)  # a good call
    out[...] = 7
    with pytest.raises(NotImplementedError, match=f"^{name}: .*{text}"):
        getattr(jit, name)(*args, **given)
    assert np.all(out == 7)


def test_8_bit_output_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="^layer_norm: .*8-bit"):
        jit.layer_norm(X, 5, out_dtype=np.int8, out_scale=0.1)


def test_running_statistics_stay_where_a_call_is_refused() -> None:
    mean, var = V.copy(), V.copy()
    with pytest.raises(NotImplementedError, match="activation"):
        jit.batch_norm(X, mean, var, training=True, activation="relu")
    assert np.all(mean == 1) and np.all(var == 1)


def outcome(function: Call, args: Any, options: dict[str, Any]) -> Any:
    """What is raised, in which words; no array of the call is changed."""
    arrays = [a for a in (*args, *options.values()) if isinstance(a, np.ndarray)]
    before = [a.tobytes() for a in arrays]
    try:
        function(*args, **options)
    except Exception as error:
        assert before == [a.tobytes() for a in arrays]
        return type(error), str(error)
    return None


def mistakes() -> list[tuple[str, Any, dict[str, Any]]]:
    """Calls that the C backend refuses; base[..] are arrays that overlap."""
    base = np.zeros(64, np.float32)
    x, out = base[:12].reshape(3, 4), base[4:16].reshape(3, 4)
    rows = ["layer_norm", "rms_norm"]
    norms = [*rows, "batch_norm"]
    found = [(name, args, more) for name in rows for args, more, *_ in errors.SHAPES]
    found += [(n, errors.call(n, bad), {}) for n in norms for bad, *_ in errors.INPUTS]
    for n in norms:
        call = errors.call(n)
        found += [(n, call, {"weight": bad}) for bad, *_ in errors.PARAMETERS]
        found += [(n, call, {"out": bad}) for bad, *_ in errors.OUTS]
        found += [(n, call, more) for more, *_ in (*errors.EPS, *errors.THREADS)]
        found.append((n, errors.call(n, x), {"out": out}))
        found.append((n, call, {"weight": base[1:5], "out": x}))
    batch = {"input": errors.X, "running_mean": errors.M, "running_var": errors.V}
    found += [("batch_norm", (), {**batch, **more}) for more, *_ in errors.BATCH]
    found += [
        ("moments", (errors.X,), {"axis": 2}),
        ("moments", (errors.X,), {"ddof": -1}),
        ("group_norm", (X, 3), {}),
        ("group_norm", (X, 0), {}),
        ("group_norm", (X, 2), {"weight": V[:3]}),
        ("group_norm", (x.reshape(3, 2, 2), 2), {"out": out.reshape(3, 2, 2)}),
        ("instance_norm", (X[..., :1],), {}),
        ("instance_norm", (X, V), {}),
        ("instance_norm", (X,), {"channel_axis": 3}),
    ]
    return found


def test_mistakes_are_refused_in_the_same_words() -> None:
    calls = mistakes()
    assert len(calls) > 150
    for name, args, options in calls:
        wanted = outcome(getattr(fastnorm, name), args, options)
        assert wanted is not None, (name, args, options)
        assert outcome(getattr(jit, name), args, options) == wanted


# ---- Layouts ----


@pytest.mark.usefixtures("by_numba")
@pytest.mark.parametrize("shape", [(4, 3, 5), (2, 3, 4, 2), (5, 7)])
def test_row_norms_take_every_layout(shape: tuple[int, ...]) -> None:
    for function in (fastnorm.layer_norm, fastnorm.rms_norm):
        layouts.test_row_norms_take_every_layout(function, shape, np.float32)


@pytest.mark.usefixtures("by_numba")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(4, 3, 5), (2, 3, 4, 2), (5, 7)])
def test_batch_norm_takes_every_layout(shape: tuple[int, ...], training: bool) -> None:
    layouts.test_batch_norm_takes_every_layout(shape, np.float32, training)


@pytest.mark.parametrize("axis", [1, -1])
def test_group_and_instance_norm_take_every_layout(axis: int) -> None:
    for function, more in ((jit.group_norm, (2,)), (jit.instance_norm, ())):
        for name, x in layouts.views((3, 4, 5, 4), np.float32):
            y = function(np.array(x, np.float32), *more, channel_axis=axis)
            assert y.std() > 0.9
            for out_name, out in layouts.outs((3, 4, 5, 4), np.float32):
                assert function(x, *more, channel_axis=axis, out=out) is out
                np.testing.assert_allclose(
                    out, y, 4e-6, 4e-6, err_msg=f"{name} {out_name}"
                )


@pytest.mark.usefixtures("by_numba")
@promises.every_norm
def test_in_place_gives_the_same_bits(norm: promises.Operation) -> None:
    for shape in ((3, 5, 7), (9, 300), (4, 70, 33), (64, 6)):
        x = 1e3 + random(shape)
        x[0] *= np.float32(1e30)  # done over in float64
        x[:, -1] *= np.float32(1e-36)
        wanted = norm(x)
        out = x.copy()
        got = norm(out, out=out)
        assert got[0] is out
        assert all(map(same_bits, got, wanted))


@pytest.mark.parametrize("axis", [1, -1])
def test_groups_in_place_give_the_same_bits(axis: int) -> None:
    x = 1e3 + random((3, 6, 5, 6))
    x[1] *= np.float32(1e33)
    for function, more in ((jit.group_norm, (3,)), (jit.instance_norm, ())):
        out = x.copy()
        function(out, *more, channel_axis=axis, out=out)
        assert same_bits(out, function(x, *more, channel_axis=axis))


@pytest.mark.usefixtures("by_numba")
@promises.every_operation
def test_where_arrays_begin_changes_no_bit(operation: promises.Operation) -> None:
    x = 3 + random((6, 67, 33))
    wanted = operation(x)
    for elements in (1, 3, 5):
        got = operation(shifted(x, elements))
        assert all(map(same_bits, got, wanted))
