# SPDX-License-Identifier: MIT
"""test_normalize_image_binding.py - memory layouts, out, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from images import INPUT_DTYPES, Array, parameters, pixels
from oracle import same_bits

import fastnorm

RNG = np.random.default_rng(8)


# ---- Layouts -----------------------------------------------------------------------


def views(dtype: str) -> dict[str, Array]:
    """Pictures of one shape whose pixels lie in memory in every manner."""
    wide = pixels((4, 30, 40, 3), dtype)
    swapped = wide[:2, :12, :17].astype(wide.dtype.newbyteorder())
    return {
        "cropped": wide[:2, 5:17, 9:26],
        "upside down": wide[:2, 16:4:-1, 9:26],
        "every second row": wide[:2, 2:26:2, :17],
        "every second picture": wide[::2, 5:17, 9:26],
        "from the last": wide[3:1:-1, 5:17, 9:26],
        "mirrored": wide[:2, :12, 16::-1],
        "every second pixel": wide[:2, :12, :34:2],
        "channels first in memory": np.moveaxis(
            np.moveaxis(wide[:2, :12, :17], -1, 1).copy(), 1, -1
        ),
        "transposed": wide[:2, :17, :12].transpose(0, 2, 1, 3),
        "one picture twice": np.broadcast_to(wide[:1, :12, :17], (2, 12, 17, 3)),
        "one row": np.broadcast_to(wide[:2, :1, :17], (2, 12, 17, 3)),
        "swapped bytes": swapped,
    }


@pytest.mark.parametrize("layout", ["chw", "hwc"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_every_memory_layout_gives_what_a_packed_copy_gives(
    dtype: str, layout: str
) -> None:
    mean, std = parameters(3)
    for name, x in views(dtype).items():
        packed = np.array(x, np.dtype(dtype), order="C")
        y = fastnorm.normalize_image(x, mean, std, layout=layout)
        assert same_bits(y, fastnorm.normalize_image(packed, mean, std, layout=layout))
        np.testing.assert_array_equal(x, packed, err_msg=name)


def test_any_number_of_leading_axes() -> None:
    x = pixels((2, 3, 4, 5, 6, 3))
    y = fastnorm.normalize_image(x)
    assert y.shape == (2, 3, 4, 3, 5, 6)
    assert same_bits(y[1, 2, 3], fastnorm.normalize_image(x[1, 2, 3]))
    part = x[:, 1:, ::2]
    assert same_bits(fastnorm.normalize_image(part), y[:, 1:, ::2].copy())


def test_lists_and_other_libraries() -> None:
    x = pixels((3, 4, 3)).astype(np.float64)
    assert same_bits(
        fastnorm.normalize_image((x / 2).tolist()), fastnorm.normalize_image(x / 2)
    )
    torch = pytest.importorskip("torch")
    image = pixels((3, 4, 3))
    out = torch.zeros((3, 3, 4))
    assert fastnorm.normalize_image(torch.from_numpy(image), 0.5, out=out) is out
    assert same_bits(out.numpy(), fastnorm.normalize_image(image, 0.5))


def test_nothing_in_gives_nothing_out() -> None:
    for shape in ((0, 4, 4, 3), (0, 4, 3), (2, 4, 0, 3)):
        y = fastnorm.normalize_image(np.zeros(shape, np.uint8), "imagenet")
        assert y.shape == (*shape[:-3], 3, *shape[-3:-1])


# ---- out ---------------------------------------------------------------------------


def test_out_is_filled_and_returned() -> None:
    x = pixels((2, 9, 8, 3))
    y = fastnorm.normalize_image(x, 0.5, 0.25)
    wide = np.full((4, 5, 9, 8), 7, np.float32)
    for out in (
        np.zeros((2, 3, 9, 8), np.float32),
        wide[::2, 1:4],
        wide[::-2, 1:4],
        np.zeros((2, 9, 8, 3), np.float32).transpose(0, 3, 1, 2),
    ):
        assert fastnorm.normalize_image(x, 0.5, 0.25, out=out) is out
        np.testing.assert_array_equal(out, y)
    assert np.all(wide[:, 0] == 7) and np.all(wide[:, 4] == 7)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", INPUT_DTYPES[1:])
def test_in_place(dtype: str, turned: bool) -> None:
    options: dict[str, Any] = {"layout": "hwc", "reverse_channels": turned}
    for shape in ((70, 50, 3), (2, 9, 8, 1), (300, 5)):
        x = pixels((*shape, 4)[-4:], dtype)
        mean, std = parameters(x.shape[-1])
        y = fastnorm.normalize_image(x, mean, std, **options)
        assert fastnorm.normalize_image(x, mean, std, out=x, **options) is x
        assert same_bits(x.view("u1"), y.view("u1"))
    wide = pixels((2, 12, 12, 3), dtype)
    part = wide[:, 2:9, 3:10]
    y = fastnorm.normalize_image(part, 0.5, **options)
    fastnorm.normalize_image(part, 0.5, out=part, **options)
    assert same_bits(part.copy().view("u1"), y.view("u1"))


# ---- What is refused ----------------------------------------------------------------

IMAGE = pixels((2, 4, 5, 3))
REFUSED = [
    ((IMAGE.astype(np.int8),), {}, TypeError, "input has dtype int8, uint8 or a float"),
    ((IMAGE.astype(np.int64),), {}, TypeError, "input has dtype int64, not float32"),
    ((IMAGE[0, 0],), {}, ValueError, "input has shape (5, 3), (..., height, width, ch"),
    ((np.zeros((4, 5, 17)),), {}, ValueError, "input has 17 channels (its last axis)"),
    ((np.zeros((4, 5, 0)),), {}, ValueError, "input has 0 channels"),
    ((None,), {}, TypeError, "input has dtype object"),
    ((np.ma.masked_array(IMAGE),), {}, TypeError, "input is a masked array"),
    ((IMAGE, [0.5, 0.5]), {}, ValueError, "mean has shape (2,), input with 3 channels"),
    ((IMAGE, [[0.5] * 3]), {}, ValueError, "mean has shape (1, 3), input with 3"),
    ((IMAGE[..., :1], "imagenet"), {}, ValueError, "mean has shape (3,), input with 1"),
    ((IMAGE, "ImageNet"), {}, ValueError, "mean is 'ImageNet', 'imagenet' or numbers"),
    ((IMAGE, None, "cifar"), {}, ValueError, "std is 'cifar', 'imagenet' or numbers"),
    ((IMAGE, [1j] * 3), {}, TypeError, "mean has dtype complex128, real numbers"),
    ((IMAGE, ["a"] * 3), {}, TypeError, "mean has dtype <U1, real numbers"),
    ((IMAGE, np.nan), {}, ValueError, "mean is nan, a magnitude of at most 1e100"),
    ((IMAGE, [0, 0, -np.inf]), {}, ValueError, "mean is -inf, a magnitude of at most"),
    ((IMAGE, None, 0), {}, ValueError, "std is 0.0, a positive number of 1e-100 to"),
    ((IMAGE, None, [1, -1, 1]), {}, ValueError, "std is -1.0, a positive number"),
    ((IMAGE, None, np.nan), {}, ValueError, "std is nan, a positive number"),
    ((IMAGE, None, 1e-101), {}, ValueError, "std is 1e-101, a positive number"),
    ((IMAGE,), {"scale": 0}, ValueError, "scale is 0.0, a magnitude of 1e-100 to"),
    ((IMAGE,), {"scale": np.inf}, ValueError, "scale is inf, a magnitude"),
    ((IMAGE,), {"scale": np.nan}, ValueError, "scale is nan, a magnitude"),
    ((IMAGE,), {"scale": "1"}, TypeError, "scale is str, a real number is needed"),
    ((IMAGE,), {"layout": "nchw"}, ValueError, "layout is 'nchw', 'chw' or 'hwc' is"),
    (
        (IMAGE,),
        {"layout": None},
        ValueError,
        "layout is None, 'chw' or 'hwc' is needed",
    ),
    ((IMAGE,), {"out_dtype": "u1"}, TypeError, "out_dtype is uint8, a float is needed"),
    ((IMAGE,), {"out_dtype": "f8"}, TypeError, "out_dtype is float64, which uint8"),
    ((IMAGE,), {"out_dtype": "c8"}, TypeError, "out_dtype is complex64, not one of"),
    ((IMAGE * 1.0,), {"out_dtype": "f4"}, TypeError, "out_dtype is float32, which flo"),
    (
        (IMAGE,),
        {"num_threads": 0},
        ValueError,
        "num_threads is 0, at least 1 is needed",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"), REFUSED, ids=[c[3] for c in REFUSED]
)
def test_refused_by_name(
    arguments: tuple[Any, ...], options: dict[str, Any], error: type, text: str
) -> None:
    out = np.full((2, 3, 4, 5), 7, np.float32)
    with pytest.raises(error, match=f"^normalize_image: {re.escape(text)}"):
        fastnorm.normalize_image(*arguments, **options, out=out)
    assert np.all(out == 7)


def test_outs_that_are_refused() -> None:
    good = np.zeros((2, 3, 4, 5), np.float32)
    locked = good.copy()
    locked.flags.writeable = False
    rows = np.lib.stride_tricks.as_strided(
        np.zeros(20, np.float32), good.shape, (0, 0, 20, 4)
    )
    cases: list[tuple[Any, type, str]] = [
        (
            good.astype("f8"),
            TypeError,
            "out has dtype float64, the result's float32 is",
        ),
        (good[:1], ValueError, "out has shape (1, 3, 4, 5), the result's (2, 3, 4, 5)"),
        (
            np.zeros(IMAGE.shape, "f4"),
            ValueError,
            "out has shape (2, 4, 5, 3), the res",
        ),
        (locked, ValueError, "out is read-only"),
        (good.tolist(), TypeError, "out is list, an ndarray, a buffer or a DLPack"),
        (rows, ValueError, "out has elements that share memory"),
    ]
    for out, error, text in cases:
        with pytest.raises(error, match=f"^normalize_image: {re.escape(text)}"):
            fastnorm.normalize_image(IMAGE, out=out)


def test_overlaps_are_refused() -> None:
    room = np.zeros(4000, np.uint8)
    image = room[100:145].reshape(3, 5, 3)
    image[...] = 9
    before = room.copy()
    with pytest.raises(ValueError, match="^normalize_image: out overlaps input"):
        fastnorm.normalize_image(image, out=room[:180].view("f4").reshape(3, 3, 5))
    cube = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    kept = cube.copy()
    with pytest.raises(ValueError, match="^normalize_image: out overlaps input"):
        fastnorm.normalize_image(cube, out=cube)  # of one shape, not in one order
    halves = cube.view(np.float16)[..., :3]
    with pytest.raises(ValueError, match="^normalize_image: out overlaps input"):
        fastnorm.normalize_image(cube, out_dtype="f2", layout="hwc", out=halves)
    mean = room[:24].view(np.float64)
    with pytest.raises(ValueError, match="^normalize_image: out overlaps mean"):
        fastnorm.normalize_image(
            image.copy(), mean, out=room[:180].view("f4").reshape(3, 3, 5)
        )
    np.testing.assert_array_equal(room, before)
    np.testing.assert_array_equal(cube, kept)


def test_interleaved_arrays_may_be_apart() -> None:
    both = np.zeros((4, 6, 7, 3), np.float32)
    both[::2] = RNG.normal(size=(2, 6, 7, 3))
    y = fastnorm.normalize_image(both[::2].copy(), 0.5, layout="hwc")
    fastnorm.normalize_image(both[::2], 0.5, layout="hwc", out=both[1::2])
    np.testing.assert_array_equal(both[1::2], y)
