# SPDX-License-Identifier: MIT
"""test_cli.py - what normalize computes from any file, in blocks of any size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commandline import complaint, leftovers, normalize
from oracle import assert_close, hostile, random, same_bits

import fastnorm
from fastnorm import reference
from fastnorm.cli import main

pytestmark = pytest.mark.usefixtures("own_directory")


# ---- normalize: what it computes ---------------------------------------------------

MEMORY = ["32", "1000", "64M"]
SHAPES = [(7,), (33, 5), (3, 4, 50), (2, 5, 4, 3), (1, 300), (300, 1)]


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", ">f8"])
def test_layer_and_rms_norm_of_any_file_over_any_axes(
    memory: str, order: str, kind: str
) -> None:
    for shape in SHAPES:
        x = np.asarray((100 + random(shape, "f8")).astype(kind), order=order)
        native = x.astype(x.dtype.newbyteorder("="))
        axes = [(i,) for i in range(x.ndim)] + [(i, i + 1) for i in range(x.ndim - 1)]
        for axis in [*axes, tuple(range(x.ndim))]:
            n = tuple(shape[i] for i in axis)
            weight, bias = random(n, native.dtype, 1), random(n, native.dtype, 2)
            np.save("w.npy", weight)
            np.save("b.npy", bias)
            common = ["--axis", ",".join(map(str, axis)), "--memory", memory]
            y = normalize(x, "--op", "layer_norm", *common)
            assert y.dtype == native.dtype and y.shape == shape
            assert y.flags.f_contiguous == x.flags.f_contiguous
            assert_close(y, reference.layer_norm(x, None, axis=axis))
            y = normalize(x, "--op", "rms_norm", *common, "--weight", "w.npy")
            assert_close(y, reference.rms_norm(native, None, weight, axis=axis))
            y = normalize(
                x, "--op", "layer_norm", *common, "--weight", "w.npy", "--bias", "b.npy"
            )
            exact = reference.layer_norm(x, None, weight, bias, axis=axis)
            assert_close(y, exact, np.abs(exact) + 4)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f8"])
def test_channels_of_any_file(memory: str, order: str, kind: str) -> None:
    for shape in SHAPES:
        x = np.asarray((100 + random(shape, "f8")).astype(kind), order=order)
        native = x.dtype.newbyteorder("=")
        for axis in range(x.ndim):
            c = shape[axis]
            if c == x.size:
                continue
            common = ["--channel-axis", axis, "--memory", memory]
            exact = reference.batch_norm(
                x, None, None, training=True, eps=0.0, channel_axis=axis
            )
            assert_close(normalize(x, "--op", "standardize", *common), exact)
            rows = [random(c, native, seed) for seed in (1, 2, 3)]
            weight, bias, mean = rows
            var = random(c, native, 4) ** 2
            for name, array in zip("wbmv", (weight, bias, mean, var), strict=True):
                np.save(f"{name}.npy", array)
            affine = ["--weight", "w.npy", "--bias", "b.npy"]
            y = normalize(x, "--op", "batch_norm", *common, *affine)
            exact = reference.batch_norm(
                x, None, None, weight, bias, True, channel_axis=axis
            )
            assert_close(y, exact, np.abs(exact) + 4)
            y = normalize(
                x, "--op", "batch_norm", *common, *affine,
                "--running-mean", "m.npy", "--running-var", "v.npy", "--eps", "1e-3",
            )  # fmt: skip
            in_memory = fastnorm.batch_norm(
                x, mean, var, weight, bias, eps=1e-3, channel_axis=axis
            )
            assert same_bits(y, in_memory)


@pytest.mark.parametrize("memory", ["3K", "64M"])
def test_rows_that_fit_a_block_have_the_library_s_bits(memory: str, dtype: str) -> None:
    x, weight = random((500, 64), dtype), random(64, dtype, 1)
    np.save("w.npy", weight)
    y = normalize(x, "--op", "layer_norm", "--weight", "w.npy", "--memory", memory)
    assert same_bits(y, fastnorm.layer_norm(x, 64, weight))
    y = normalize(x, "--op", "rms_norm", "--weight", "w.npy", "--memory", memory)
    assert same_bits(y, fastnorm.rms_norm(x, 64, weight))


@pytest.mark.parametrize("eps", ["0", "1e-5"])
@pytest.mark.parametrize("memory", ["500", "20K", "64M"])
def test_hostile_files_are_within_the_bound(eps: str, memory: str, dtype: str) -> None:
    rows = hostile(600, dtype)
    x = np.stack(list(rows.values()))
    common = ["--eps", eps, "--memory", memory]
    options = {"training": True, "eps": float(eps)}
    for array, axis in ((x, 0), (np.ascontiguousarray(x.T), 1)):
        exact = reference.batch_norm(array, None, None, channel_axis=axis, **options)
        y = normalize(array, "--op", "standardize", "--channel-axis", axis, *common)
        assert_close(y, exact)
        other = 1 - axis
        y = normalize(array, "--op", "layer_norm", "--axis", other, *common)
        assert_close(y, exact)
        y = normalize(array, "--op", "rms_norm", "--axis", other, *common)
        exact = reference.rms_norm(array, None, eps=float(eps), axis=other)
        assert_close(y, exact)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i4", "f2", "?"])
def test_integers_are_converted_when_asked(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    x = (50 * np.abs(random((40, 30, 3)))).astype(kind)
    np.save("x.npy", x)
    said = complaint(capsys, "normalize", "x.npy", "y.npy", "--op", "standardize")
    assert "--dtype float32" in said and str(x.dtype) in said
    assert not Path("y.npy").exists()
    for dtype in ("float32", "float64"):
        y = normalize(x, "--op", "standardize", "--dtype", dtype, "--memory", "2K")
        exact = reference.batch_norm(
            x, None, None, training=True, eps=0.0, channel_axis=-1
        )
        assert y.dtype == dtype
        assert_close(y, exact)


def test_a_file_of_one_axis_is_one_feature() -> None:
    x = 5 + random(1000)
    y = normalize(x, "--op", "standardize", "--memory", "1K")
    assert_close(y, reference.layer_norm(x, 1000, eps=0.0))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)])
def test_an_empty_file_gives_an_empty_file(shape: tuple[int, ...]) -> None:
    for op in ("layer_norm", "standardize"):
        assert normalize(np.empty(shape, "f4"), "--op", op).shape == shape


def test_nan_stays_in_its_feature() -> None:
    x = random((100, 5))
    x[17, 3] = np.nan
    y = normalize(x, "--op", "standardize", "--memory", "700")
    assert np.all(np.isnan(y[:, 3]))
    assert np.all(np.isfinite(np.delete(y, 3, 1)))


def test_in_place_with_force() -> None:
    x = random((200, 16))
    np.save("x.npy", x)
    arguments = ["x.npy", "x.npy", "--op", "layer_norm", "--force", "--memory", "1K"]
    assert main(["normalize", *arguments]) == 0
    assert same_bits(np.load("x.npy"), fastnorm.layer_norm(x, 16))
    assert not leftovers()


def test_a_link_keeps_pointing_and_the_mode_stays() -> None:
    np.save("real.npy", random((4, 4)))
    Path("real.npy").chmod(0o640)
    Path("link.npy").symlink_to("real.npy")
    x = random((8, 3))
    np.save("x.npy", x)
    assert (
        main(["normalize", "x.npy", "link.npy", "--op", "layer_norm", "--force"]) == 0
    )
    assert Path("link.npy").is_symlink()
    assert Path("real.npy").stat().st_mode & 0o777 == 0o640
    assert same_bits(np.load("real.npy"), fastnorm.layer_norm(x, 3))


@pytest.mark.slow
def test_a_file_larger_than_the_memory_it_may_use() -> None:
    # 256 MB through a process whose own memory is far below that.
    rows, n = 65536, 1024
    x = np.lib.format.open_memmap("x.npy", "w+", "f4", (rows, n))
    for i in range(0, rows, 4096):
        x[i : i + 4096] = 10 + random((4096, n), seed=i)
    x.flush()
    script = (
        "import resource, sys; from fastnorm.cli import main;"
        "resource.setrlimit(resource.RLIMIT_DATA, (300 << 20, 300 << 20));"
        "sys.exit(main(sys.argv[1:]))"
    )
    for op in ("layer_norm", "standardize"):
        arguments = ["normalize", "x.npy", f"{op}.npy", "--op", op, "--memory", "16M"]
        subprocess.run([sys.executable, "-c", script, *arguments], check=True)
    y = np.load("layer_norm.npy", mmap_mode="r")
    for i in (0, 30000, rows - 8):
        assert same_bits(y[i : i + 8], fastnorm.layer_norm(x[i : i + 8], n))
    y = np.load("standardize.npy", mmap_mode="r")
    exact = reference.batch_norm(x[:, :3], None, None, training=True, eps=0.0)
    assert_close(np.array(y[:, :3]), exact)
