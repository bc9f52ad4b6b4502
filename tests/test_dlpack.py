# SPDX-License-Identifier: MIT
"""test_dlpack.py - arrays of other libraries, read and written where they are."""

from __future__ import annotations

import array
import ctypes
import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import random, same_bits

import fastnorm

FLOAT, INT, UINT, BFLOAT, COMPLEX, BOOL = 2, 0, 1, 4, 5, 6


class Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("id", ctypes.c_int32)]


class DType(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
    ]


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", Device),
        ("ndim", ctypes.c_int32),
        ("dtype", DType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    ]


class Old(ctypes.Structure):
    _fields_ = [
        ("tensor", Tensor),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    ]


Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, Destructor]


class Producer:
    """A DLPack object of any device, version, flags, type and layout."""

    def __init__(
        self,
        a: NDArray[Any],
        code: int = FLOAT,
        bits: int = 32,
        *,
        lanes: int = 1,
        device: tuple[int, int] = (1, 0),
        major: int = 1,
        flags: int = 0,
        strides: bool = True,
        offset: int = 0,
        counted: bool = False,
    ) -> None:
        self.array, self.device, self.major = a, device, major
        self.alive = 0
        self.asked: list[dict[str, Any]] = []
        self.shape = (ctypes.c_int64 * a.ndim)(*a.shape)
        steps = (ctypes.c_int64 * a.ndim)(*(s // a.itemsize for s in a.strides))
        self.strides = steps
        tensor = Tensor(
            a.ctypes.data - offset,
            Device(*device),
            a.ndim,
            DType(code, bits, lanes),
            self.shape,
            steps if strides else None,
            offset,
        )
        self.held: Any = (
            Old(tensor, None, None)
            if major == 0
            else Versioned(major, 0, None, None, flags, tensor)
        )
        # A destructor in Python must not meet an exception on its way.
        self.destructor = Destructor(self.destroyed) if counted else Destructor()

    def destroyed(self, _: int) -> None:
        self.alive -= 1

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, **options: Any) -> Any:
        self.asked.append(options)
        if self.major == 0 and options:
            raise TypeError("unexpected keyword argument 'max_version'")
        self.alive += 1
        name = b"dltensor" if self.major == 0 else b"dltensor_versioned"
        return new_capsule(ctypes.addressof(self.held), name, self.destructor)


X = random((6, 40))
WANTED = fastnorm.layer_norm(X, 40)


@pytest.mark.parametrize("major", [0, 1])
def test_both_versions_are_read_and_written_in_place(major: int) -> None:
    source, target = Producer(X.copy(), major=major, counted=True), np.empty_like(X)
    out = Producer(target, major=major, counted=True)
    assert fastnorm.layer_norm(source, 40, out=out) is out
    assert same_bits(target, WANTED)
    assert type(fastnorm.layer_norm(source, 40)) is np.ndarray
    assert source.asked[0] == {"max_version": (1, 1)}
    gc.collect()
    assert source.alive == out.alive == 0


def test_the_tensor_is_given_back_after_the_call() -> None:
    source = Producer(X, counted=True)
    for _ in range(100):
        fastnorm.layer_norm(source, 40, return_stats=True)
        assert source.alive == 0


@pytest.mark.parametrize(
    "view",
    [X[::2], X[:, ::2], X[::-1], X.T, X[:0], X[:, 3:20]],
    ids=["rows", "columns", "upside down", "transposed", "empty", "part"],
)
def test_strides_are_kept(view: NDArray[Any]) -> None:
    n = view.shape[1]
    right = fastnorm.layer_norm(np.ascontiguousarray(view), n)
    assert same_bits(fastnorm.layer_norm(Producer(view), n), right)
    target = np.zeros((2 * view.shape[0], 2 * n), np.float32)[::2, ::2]
    fastnorm.layer_norm(Producer(view), n, out=Producer(target))
    np.testing.assert_array_equal(target, right)


def test_no_strides_mean_packed_and_the_offset_counts() -> None:
    source = Producer(X, strides=False, offset=24)
    assert same_bits(fastnorm.layer_norm(source, 40), WANTED)


@pytest.mark.parametrize(
    ("dtype", "code", "bits"),
    [("f2", FLOAT, 16), ("f8", FLOAT, 64), ("i1", INT, 8), ("u1", UINT, 8)],
)
def test_other_dtypes(dtype: str, code: int, bits: int) -> None:
    x = (10 * X).clip(0, 100).astype(dtype)
    right = fastnorm.rms_norm(x, 40)
    assert same_bits(fastnorm.rms_norm(Producer(x, code, bits), 40), right)


def test_every_argument_takes_them() -> None:
    w, b, r = random(40, seed=1), random(40, seed=2), random((6, 40), seed=3)
    total, got_total = np.empty_like(r), np.empty_like(r)
    right = fastnorm.layer_norm(
        X, 40, w, b, residual=r, residual_bias=b, residual_out=total, post_add=X
    )
    got = fastnorm.layer_norm(
        Producer(X), 40, Producer(w), Producer(b), residual=Producer(r),
        residual_bias=Producer(b), residual_out=Producer(got_total),
        post_add=Producer(X),
    )  # fmt: skip
    assert same_bits(got, right) and same_bits(got_total, total)
    stream = r.copy()
    fastnorm.layer_norm(
        X, 40, w, b, residual=Producer(stream), residual_bias=b,
        residual_out=Producer(stream),
    )  # fmt: skip
    assert same_bits(stream, total)


def test_in_place_and_overlap_are_seen_through_tensors() -> None:
    x = X.copy()
    same = Producer(x)
    assert fastnorm.layer_norm(same, 40, out=Producer(x)) is not same
    assert same_bits(x, WANTED)
    long = np.zeros(400, np.float32)
    first, second = long[:240].reshape(6, 40), long[40:280].reshape(6, 40)
    with pytest.raises(ValueError, match="^layer_norm: .*overlap"):
        fastnorm.layer_norm(Producer(first), 40, out=Producer(second))
    columns = np.zeros((6, 80), np.float32)
    with pytest.raises(ValueError, match="^layer_norm: out overlaps input"):
        fastnorm.layer_norm(
            Producer(columns[:, ::2]), 40, out=Producer(columns[:, :40])
        )
    assert not long.any() and not columns.any()


class Broken:
    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("no layout that can be exported")


class NotACapsule(Broken):
    def __dlpack__(self, **options: Any) -> Any:
        return 3


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (Producer(X, device=(2, 1)), TypeError, "is on cuda:1, memory of the CPU is"),
    (Producer(X, device=(10, 0)), TypeError, "is on rocm:0, memory of the CPU is"),
    (Producer(X, device=(99, 3)), TypeError, "is on device type 99:3, memory of"),
    (Producer(X, major=2), TypeError, "is of DLPack version 2, not 1"),
    (Producer(X, INT, 32), TypeError, "has dtype int32, not float32, float64,"),
    (Producer(X, BOOL, 8), TypeError, "has dtype bool8, not float32"),
    (Producer(X, COMPLEX, 64), TypeError, "has dtype complex64, not float32"),
    (Producer(X, FLOAT, 32, lanes=4), TypeError, "has dtype float32x4, not float32"),
    (Broken(), TypeError, "is not an array: no layout that can be exported"),
    (NotACapsule(), TypeError, "is not an array: its __dlpack__ gives no tensor"),
]


@pytest.mark.parametrize(("value", "error", "text"), REFUSED)
@pytest.mark.parametrize("name", ["input", "weight", "out", "residual"])
def test_what_is_refused(
    name: str, value: Any, error: type[Exception], text: str
) -> None:
    kwargs: dict[str, Any] = {"input": X, "normalized_shape": 40, name: value}
    with pytest.raises(error) as raised:
        fastnorm.layer_norm(**kwargs)
    assert str(raised.value).startswith(f"layer_norm: {name} {text}"), raised.value


def test_what_cannot_be_written_is_refused() -> None:
    target = np.zeros_like(X)
    for flags, text in ((1, "is read-only"), (2, "gives a copy of its memory")):
        with pytest.raises(ValueError, match=f"^layer_norm: out {text}$"):
            fastnorm.layer_norm(X, 40, out=Producer(target, flags=flags))
    assert not target.any()
    # To read, both will do.
    for flags in (1, 2):
        assert same_bits(fastnorm.layer_norm(Producer(X, flags=flags), 40), WANTED)


def test_buffers_are_read_and_written_in_place() -> None:
    row, wanted = X[0], WANTED[0]
    for out in (
        array.array("f", [0.0] * 40),
        memoryview(bytearray(160)).cast("f"),
        (ctypes.c_float * 40)(),
    ):
        assert fastnorm.layer_norm(array.array("f", row), 40, out=out) is out
        np.testing.assert_array_equal(np.asarray(out), wanted)
    matrix = memoryview(bytearray(960)).cast("f", (6, 40))
    fastnorm.layer_norm(X.data, 40, out=matrix)
    np.testing.assert_array_equal(np.asarray(matrix), WANTED)
    assert fastnorm.l2_norm(bytearray(b"\x03\x04"), 0).tolist() == [
        np.float32(0.6),
        np.float32(0.8),
    ]


def test_buffers_that_cannot_be_written_are_refused() -> None:
    frozen = memoryview(bytes(160)).cast("f")
    with pytest.raises(ValueError, match="^layer_norm: out is read-only"):
        fastnorm.layer_norm(X[0], 40, out=frozen)
    with pytest.raises(TypeError, match="^layer_norm: out has dtype float64, input's"):
        fastnorm.layer_norm(X[0], 40, out=array.array("d", [0.0] * 40))
    with pytest.raises(ValueError, match="^layer_norm: out has shape"):
        fastnorm.layer_norm(X, 40, out=array.array("f", [0.0] * 40))


class Interface:
    def __init__(self, a: NDArray[Any]) -> None:
        self.a = a
        self.__array_interface__ = a.__array_interface__


class OnlyArray:
    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return X.copy()


def test_the_array_interface_is_read_and_written_in_place() -> None:
    target = np.empty_like(X)
    source, out = Interface(X), Interface(target)
    fastnorm.layer_norm(source, 40, out=out)  # type: ignore[call-overload]
    assert same_bits(target, WANTED)


def test_what_may_be_a_copy_is_no_out() -> None:
    assert same_bits(fastnorm.layer_norm(OnlyArray(), 40), WANTED)
    text = "^layer_norm: out is OnlyArray, an ndarray, a buffer or a DLPack object is"
    with pytest.raises(TypeError, match=text):
        fastnorm.layer_norm(X, 40, out=OnlyArray())  # type: ignore[call-overload]


def test_bfloat16_without_torch() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = X.astype(ml_dtypes.bfloat16)
    target = np.empty_like(x)
    right = fastnorm.layer_norm(x, 40)
    got = fastnorm.layer_norm(
        Producer(x, BFLOAT, 16), 40, out=Producer(target, BFLOAT, 16)
    )
    assert isinstance(got, Producer)
    assert same_bits(target, right)
    fresh = fastnorm.layer_norm(Producer(x, BFLOAT, 16), 40)
    assert fresh.dtype == x.dtype and same_bits(fresh, right)


def test_fused_norms_take_what_plain_ones_take() -> None:
    pytest.importorskip("numba")
    ml_dtypes = pytest.importorskip("ml_dtypes")
    from fastnorm.jit import fuse

    gated = fuse("rms_norm", epilogue=lambda v, gate: v * gate)
    x, gate = (a.astype(ml_dtypes.bfloat16) for a in (X, np.arange(40.0)))
    right = gated(x, 40, gate=gate)
    target = np.empty_like(x)
    source, by = Producer(x, BFLOAT, 16), Producer(gate, BFLOAT, 16)
    assert same_bits(gated(source, 40, gate=by), right)
    gated(source, 40, gate=by, out=Producer(target, BFLOAT, 16))
    assert same_bits(target, right)
    elsewhere = Producer(X, device=(2, 1))
    for given in ({"gate": elsewhere}, {"gate": 1.0, "out": elsewhere}):
        with pytest.raises(TypeError, match=r"^fuse\(rms_norm\): \w+ .*cuda"):
            gated(X, 40, **given)
    with pytest.raises(TypeError, match=r"^fuse\(rms_norm\): input .*cuda"):
        gated(elsewhere, 40, gate=1.0)


def test_nothing_is_copied() -> None:
    x, out = np.ones((64, 8192), np.float32), np.ones((64, 8192), np.float32)
    source, target = Producer(x), Producer(out)
    fastnorm.layer_norm(source, 8192, out=target)
    tracemalloc.start()
    try:
        fastnorm.layer_norm(source, 8192, out=target)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < x.nbytes / 8
