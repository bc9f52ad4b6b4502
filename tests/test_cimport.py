# test_cimport.py - a user's Cython module calls the exported functions without the GIL.
# SPDX-License-Identifier: MIT
"""`cimport fastnorm` against the installed package, and the exported signatures."""

import importlib.util
import re
import subprocess
import sys

import numpy as np
import pytest

import fastnorm
import fastnorm._core
import fastnorm.reference

pytest.importorskip("Cython")
pytest.importorskip("setuptools")

ROWS = "size_t, size_t, double, int"
BATCH = "size_t, size_t, size_t, double, int"
STATISTICS = (
    "T const *, T *, T *, T *, T const *, T const *, T *, T *, size_t, size_t, size_t"
)
# Locked: a module that was compiled against one of these must find it unchanged.
SIGNATURES = {
    "error_message": "char const *(int)",
    **{
        f"{name}_{suffix}": f"int ({arguments.replace('T', ctype)})"
        for suffix, ctype in (("f32", "float"), ("f64", "double"))
        for name, arguments in (
            ("layer_norm", f"T const *, T *, T const *, T const *, {ROWS}"),
            ("rms_norm", f"T const *, T *, T const *, {ROWS}"),
            (
                "batch_norm",
                "T const *, T *, T const *, T const *, T const *, T const *, " + BATCH,
            ),
            ("l2_norm", f"T const *, T *, {ROWS}"),
            ("l1_norm", f"T const *, T *, {ROWS}"),
            (
                "group_norm",
                "T const *, T *, T const *, T const *, size_t, " + BATCH,
            ),
            ("instance_norm", "T const *, T *, T const *, T const *, " + BATCH),
            (
                "batch_norm_training",
                f"{STATISTICS}, double, uint64_t, double, int",
            ),
            (
                "instance_norm_running",
                f"{STATISTICS}, int, double, double, int",
            ),
            ("moments", "T const *, double *, double *, size_t, size_t, size_t, int"),
        )
    },
}

# Both ways to name the functions: through the package, and from it.
MODULE = """
# cython: language_level=3
cimport fastnorm
from fastnorm cimport error_message, moments_f32, moments_f64, rms_norm_f64


def layer_norm32(float[:, ::1] x, float[::1] w, float[::1] b, double eps):
    cdef float[:, ::1] y = x.copy()
    cdef int status
    with nogil:
        status = fastnorm.layer_norm_f32(
            &x[0, 0], &y[0, 0], &w[0], &b[0], x.shape[0], x.shape[1], eps, 1)
    return status, y


def layer_norm64(double[:, ::1] x, double[::1] w, double[::1] b, double eps):
    cdef double[:, ::1] y = x.copy()
    cdef int status
    with nogil:
        status = fastnorm.layer_norm_f64(
            &x[0, 0], &y[0, 0], &w[0], &b[0], x.shape[0], x.shape[1], eps, 0)
    return status, y


def rms_norm32(float[:, ::1] x, float[::1] w, double eps):
    cdef float[:, ::1] y = x.copy()
    cdef int status
    with nogil:
        status = fastnorm.rms_norm_f32(
            &x[0, 0], &y[0, 0], &w[0], x.shape[0], x.shape[1], eps, 1)
    return status, y


def rms_norm64(double[:, ::1] x, double[::1] w, double eps):
    cdef double[:, ::1] y = x.copy()
    cdef int status
    with nogil:  # in place
        status = rms_norm_f64(
            &y[0, 0], &y[0, 0], &w[0], x.shape[0], x.shape[1], eps, 1)
    return status, y


def batch_norm32(float[:, :, ::1] x, float[::1] m, float[::1] v, double eps):
    cdef float[:, :, ::1] y = x.copy()
    cdef int status
    with nogil:
        status = fastnorm.batch_norm_f32(
            &x[0, 0, 0], &y[0, 0, 0], &m[0], &v[0], NULL, NULL,
            x.shape[0], x.shape[1], x.shape[2], eps, 1)
    return status, y


def batch_norm64(double[:, :, ::1] x, double[::1] m, double[::1] v, double eps):
    cdef double[:, :, ::1] y = x.copy()
    cdef int status
    with nogil:
        status = fastnorm.batch_norm_f64(
            &x[0, 0, 0], &y[0, 0, 0], &m[0], &v[0], NULL, NULL,
            x.shape[0], x.shape[1], x.shape[2], eps, 1)
    return status, y


def l2_norm32(float[:, ::1] x, double eps):
    cdef float[:, ::1] y = x.copy()
    cdef int status
    with nogil:
        status = fastnorm.l2_norm_f32(
            &x[0, 0], &y[0, 0], x.shape[0], x.shape[1], eps, 1)
    return status, y


def l1_norm32(float[:, ::1] x, double eps):
    cdef float[:, ::1] y = x.copy()
    cdef int status
    with nogil:
        status = fastnorm.l1_norm_f32(
            &x[0, 0], &y[0, 0], x.shape[0], x.shape[1], eps, 1)
    return status, y


def group_norm32(
    float[:, :, ::1] x, size_t groups, float[::1] w, float[::1] b, double eps
):
    cdef float[:, :, ::1] y = x.copy()
    cdef int status
    with nogil:
        status = fastnorm.group_norm_f32(
            &x[0, 0, 0], &y[0, 0, 0], &w[0], &b[0],
            x.shape[0], x.shape[1], x.shape[2], groups, eps, 1)
    return status, y


def instance_norm32(float[:, :, ::1] x, double eps):
    cdef float[:, :, ::1] y = x.copy()
    cdef int status
    with nogil:
        status = fastnorm.instance_norm_f32(
            &x[0, 0, 0], &y[0, 0, 0], NULL, NULL,
            x.shape[0], x.shape[1], x.shape[2], eps, 0)
    return status, y


def l2_norm64(double[:, ::1] x, double eps):
    cdef double[:, ::1] y = x.copy()
    cdef int status
    with nogil:
        status = fastnorm.l2_norm_f64(
            &x[0, 0], &y[0, 0], x.shape[0], x.shape[1], eps, 1)
    return status, y


def l1_norm64(double[:, ::1] x, double eps):
    cdef double[:, ::1] y = x.copy()
    cdef int status
    with nogil:
        status = fastnorm.l1_norm_f64(
            &x[0, 0], &y[0, 0], x.shape[0], x.shape[1], eps, 1)
    return status, y


def group_norm64(
    double[:, :, ::1] x, size_t groups, double[::1] w, double[::1] b, double eps
):
    cdef double[:, :, ::1] y = x.copy()
    cdef int status
    with nogil:
        status = fastnorm.group_norm_f64(
            &x[0, 0, 0], &y[0, 0, 0], &w[0], &b[0],
            x.shape[0], x.shape[1], x.shape[2], groups, eps, 1)
    return status, y


def instance_norm64(double[:, :, ::1] x, double eps):
    cdef double[:, :, ::1] y = x.copy()
    cdef int status
    with nogil:
        status = fastnorm.instance_norm_f64(
            &x[0, 0, 0], &y[0, 0, 0], NULL, NULL,
            x.shape[0], x.shape[1], x.shape[2], eps, 0)
    return status, y


def moments32(float[:, :, ::1] x, double[::1] mean, double[::1] m2):
    cdef int status
    with nogil:
        status = moments_f32(
            &x[0, 0, 0], &mean[0], &m2[0], x.shape[0], x.shape[1], x.shape[2], 1)
    return status


def moments64(double[:, :, ::1] x, double[::1] mean, double[::1] m2):
    cdef int status
    with nogil:
        status = moments_f64(
            &x[0, 0, 0], &mean[0], &m2[0], x.shape[0], x.shape[1], x.shape[2], 1)
    return status


def message(int status):
    return error_message(status).decode()
"""
# The functions with running statistics, which also give mean and rstd.
MODULE += "".join(
    f"""

def batch_norm_training{bits}(
    {real}[:, :, ::1] x, {real}[:, ::1] stats, {real}[::1] m, {real}[::1] v,
    double momentum, size_t tracked
):
    cdef {real}[:, :, ::1] y = x.copy()
    cdef int status
    with nogil:
        status = fastnorm.batch_norm_training_f{bits}(
            &x[0, 0, 0], &y[0, 0, 0], &stats[0, 0], &stats[1, 0], NULL, NULL, &m[0],
            &v[0], x.shape[0], x.shape[1], x.shape[2], momentum, tracked, 1e-3, 1)
    return status, y


def instance_norm_running{bits}(
    {real}[:, :, ::1] x, {real}[:, ::1] stats, {real}[::1] m, {real}[::1] v,
    double momentum, int use_input_stats
):
    cdef {real}[:, :, ::1] y = x.copy()
    cdef int status
    with nogil:
        status = fastnorm.instance_norm_running_f{bits}(
            &x[0, 0, 0], &y[0, 0, 0], &stats[0, 0], &stats[x.shape[0], 0], NULL,
            NULL, &m[0], &v[0], x.shape[0], x.shape[1], x.shape[2], use_input_stats,
            momentum, 1e-3, 1)
    return status, y
"""
    for bits, real in ((32, "float"), (64, "double"))
)
SETUP = """
from setuptools import Extension, setup
from Cython.Build import cythonize
setup(name="user", ext_modules=cythonize([Extension("user", ["user.pyx"])]))
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """The module, built as a user would: no header, no library, no option."""
    directory = tmp_path_factory.mktemp("cimport")
    (directory / "user.pyx").write_text(MODULE, encoding="utf-8")
    (directory / "setup.py").write_text(SETUP, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-P", "setup.py", "-q", "build_ext", "--inplace"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = directory.glob("user.*.so")
    spec = importlib.util.spec_from_file_location("user", built)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_exported_signatures_are_locked():
    capsules = fastnorm._core.__pyx_capi__
    found = {
        name: re.search(r'"(.*)"', repr(capsule))[1]
        for name, capsule in capsules.items()
    }
    assert found == SIGNATURES


@pytest.mark.parametrize("suffix", ["32", "64"])
def test_the_functions_do_what_the_python_ones_do(user, suffix):
    dtype = f"float{suffix}"
    rng = np.random.default_rng(21)
    x = rng.normal(2, 3, (5, 12)).astype(dtype)
    w, b = rng.normal(size=(2, 12)).astype(dtype)
    status, y = getattr(user, f"layer_norm{suffix}")(x, w, b, 1e-3)
    assert status == 0
    np.testing.assert_array_equal(y, fastnorm.layer_norm(x, 12, w, b, 1e-3))
    status, y = getattr(user, f"rms_norm{suffix}")(x, w, 1e-3)
    assert status == 0
    np.testing.assert_array_equal(y, fastnorm.rms_norm(x, 12, w, 1e-3))
    x = x.reshape(5, 4, 3)
    m, v = rng.normal(size=4).astype(dtype), rng.uniform(1, 2, 4).astype(dtype)
    status, y = getattr(user, f"batch_norm{suffix}")(x, m, v, 1e-3)
    assert status == 0
    np.testing.assert_array_equal(y, fastnorm.batch_norm(x, m, v, eps=1e-3))
    w, b = rng.normal(size=(2, 4)).astype(dtype)
    status, y = getattr(user, f"group_norm{suffix}")(x, 2, w, b, 1e-3)
    assert status == 0
    np.testing.assert_array_equal(y, fastnorm.group_norm(x, 2, w, b, 1e-3))
    status, y = getattr(user, f"instance_norm{suffix}")(x, 1e-3)
    assert status == 0
    np.testing.assert_array_equal(y, fastnorm.instance_norm(x, eps=1e-3))
    for name in ("l2_norm", "l1_norm"):
        status, y = getattr(user, name + suffix)(x.reshape(5, 12), 100.0)
        assert status == 0
        expected = getattr(fastnorm, name)(x.reshape(5, 12), eps=100.0)
        np.testing.assert_array_equal(y, expected)
    mean, m2 = np.empty((2, 4))
    assert getattr(user, f"moments{suffix}")(x, mean, m2) == 0
    state = fastnorm.moments(x, (0, 2), return_state=True)
    np.testing.assert_array_equal(mean, state.mean)
    np.testing.assert_array_equal(m2, state.m2)


@pytest.mark.parametrize("suffix", ["32", "64"])
@pytest.mark.parametrize("momentum", [0.0, 0.25, 1.0, -1.0])
def test_running_statistics_are_those_of_the_python_functions(user, suffix, momentum):
    dtype = f"float{suffix}"
    rng = np.random.default_rng(23)
    x = rng.normal(2, 3, (5, 4, 3)).astype(dtype)
    first = rng.uniform(1, 2, (2, 4)).astype(dtype)
    own, other = first.copy(), first.copy()
    stats = np.empty((2, 4), dtype)
    status, y = getattr(user, f"batch_norm_training{suffix}")(
        x, stats, *own, momentum, 2
    )
    assert status == 0
    how = {"momentum": momentum}
    if momentum < 0:
        how = {"momentum": None, "num_batches_tracked": 2}
    expected = fastnorm.batch_norm(
        x, *other, training=True, eps=1e-3, return_stats=True, **how
    )
    for a, b in zip((y, *stats, own), (*expected, other), strict=True):
        np.testing.assert_array_equal(a, b)
    if momentum < 0:
        return
    stats = np.empty((10, 4), dtype)
    for use_input_stats in (1, 0):
        status, y = getattr(user, f"instance_norm_running{suffix}")(
            x, stats, *own, momentum, use_input_stats
        )
        assert status == 0
        expected = fastnorm.instance_norm(
            x,
            *other,
            use_input_stats=use_input_stats == 1,
            momentum=momentum,
            eps=1e-3,
            return_stats=True,
        )
        found = (y, stats[:5], stats[5:], own)
        for a, b in zip(found, (*expected, other), strict=True):
            np.testing.assert_array_equal(a, b)
    assert (own == first).all() == (momentum == 0.0)


@pytest.mark.parametrize("momentum", [-0.5, 1.5, float("nan")])
def test_a_momentum_out_of_range_is_refused(user, momentum):
    x = np.arange(24.0).reshape(2, 4, 3)
    stats, (m, v) = np.full((4, 4), 7.0), np.full((2, 4), 7.0)
    for name in ("batch_norm_training64", "instance_norm_running64"):
        status, y = getattr(user, name)(x, stats, m, v, momentum, 1)
        assert "momentum" in user.message(status)
        np.testing.assert_array_equal(y, x)
        assert (stats == 7).all() and (m == 7).all() and (v == 7).all()


@pytest.mark.parametrize("suffix", ["32", "64"])
def test_eps_is_used_as_it_is(user, suffix):
    x = np.array([[0, 0, 0], [1e-4, 2e-4, 3e-4]], dtype=f"float{suffix}")
    w, b = np.ones_like(x)
    status, y = getattr(user, f"layer_norm{suffix}")(x, w, b, 0.0)
    assert status == 0
    np.testing.assert_allclose(y[1], [1 - 1.5**0.5, 1, 1 + 1.5**0.5], rtol=1e-6)
    np.testing.assert_array_equal(y[0], b)
    status, y = getattr(user, f"rms_norm{suffix}")(x, w, 0.0)
    assert status == 0
    np.testing.assert_allclose(np.square(y[1]).mean(), 1, rtol=1e-6)


@pytest.mark.parametrize("suffix", ["32", "64"])
@pytest.mark.parametrize("eps", [-1.0, -1e-5, float("nan"), float("inf")])
def test_a_refused_call_gives_a_sentence_and_writes_nothing(user, suffix, eps):
    x = np.arange(6.0).reshape(2, 3).astype(f"float{suffix}")
    w, b = np.ones_like(x)
    status, y = getattr(user, f"layer_norm{suffix}")(x, w, b, eps)
    assert status != 0
    assert "eps" in user.message(status)
    np.testing.assert_array_equal(y, x)


def test_the_reference_agrees(user):
    x = np.random.default_rng(22).normal(size=(3, 7))
    w, b = np.ones((2, 7))
    _, y = user.layer_norm64(x, w, b, 1e-5)
    np.testing.assert_allclose(
        y, fastnorm.reference.layer_norm(x, 7, w, b), rtol=1e-13, atol=1e-13
    )
