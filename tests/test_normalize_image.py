# SPDX-License-Identifier: MIT
"""test_normalize_image.py - every byte exact, on every instruction set."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from images import CLASS, INPUT_DTYPES, dtype_named, formula, parameters, pixels, units
from numpy.typing import NDArray
from oracle import ISAS, same_bits, shifted

import fastnorm
from fastnorm import reference

Array = NDArray[Any]

ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(7)
ALL_BYTES = np.arange(256, dtype=np.uint8)

# ---- Accuracy ---------------------------------------------------------------------


@pytest.mark.usefixtures("isa")
def test_every_byte_with_the_constants_of_imagenet() -> None:
    image = np.repeat(ALL_BYTES, 3).reshape(16, 16, 3)
    y = fastnorm.normalize_image(image, "imagenet", "imagenet")
    exact = formula(
        image, fastnorm.IMAGENET_MEAN, fastnorm.IMAGENET_STD, 1 / 255
    ).transpose(2, 0, 1)
    assert units(y, exact) <= CLASS
    np.testing.assert_array_equal(y, exact.astype(np.float32))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_every_byte_with_any_parameters(dtype: str) -> None:
    image = np.repeat(ALL_BYTES, 16).reshape(8, 32, 16)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scale = float(rng.choice([1 / 255, 1.0, -1 / 127.5, rng.uniform(1e-3, 10)]))
        mean = scale * rng.choice([0.0, 255.0, 127.5, 1e5], 16) * rng.uniform(0, 1, 16)
        std = 10.0 ** rng.uniform(-5, 5, 16)
        x = image.astype(dtype)
        y = fastnorm.normalize_image(x, mean, std, scale=scale, layout="hwc")
        assert units(y, formula(image, mean, std, scale)) <= CLASS, seed


@pytest.mark.usefixtures("isa")
def test_next_to_the_mean_no_digit_is_lost() -> None:
    # x * scale - mean cancels: rounded in between, little or nothing would be left.
    near = np.nextafter(np.float32(0.485), np.float32([[[0], [1]]]))
    y = fastnorm.normalize_image(near, 0.485, 0.229)
    assert units(y, formula(near, 0.485, 0.229, 1.0).transpose(2, 0, 1)) <= CLASS
    image = ALL_BYTES.reshape(16, 16, 1)
    for byte in (1, 100, 124, 255):
        for away in (1e-3, -1e-6, 1e-9, 0.0):
            mean = byte / 255 + away
            y = fastnorm.normalize_image(image, mean, 0.2)
            exact = formula(image, mean, 0.2, 1 / 255).transpose(2, 0, 1)
            assert units(y, exact) <= CLASS


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("out_dtype", ["float16", "bfloat16"])
def test_16_bit_results_are_the_rounded_float32_ones(out_dtype: str) -> None:
    wanted = dtype_named(out_dtype)
    image = np.repeat(ALL_BYTES, 3).reshape(16, 16, 3)
    single = fastnorm.normalize_image(image, "imagenet", "imagenet")
    y = fastnorm.normalize_image(image, "imagenet", "imagenet", out_dtype=out_dtype)
    assert y.dtype == wanted
    assert same_bits(y.view(np.uint16), single.astype(wanted).view(np.uint16))


@pytest.mark.parametrize("layout", ["chw", "hwc"])
@pytest.mark.parametrize("dtype", INPUT_DTYPES)
def test_all_shapes_and_types_agree_with_the_reference(dtype: str, layout: str) -> None:
    shapes = [(1, 1, 1), (2, 5, 7, 3), (3, 1, 33, 4), (63, 65, 2), (2, 2, 9, 31, 5)]
    shapes += [(40, 70, 3), (21, 100, 4), (1, 300, 16), (4, 4, 7)]
    for shape in shapes:
        x = pixels(shape, dtype)
        mean, std = parameters(shape[-1])
        outs = [None] if dtype == "float64" else [None, "float32", "float16"]
        for out_dtype in outs:
            for turned in (False, True):
                options: dict[str, Any] = {
                    "layout": layout, "reverse_channels": turned,
                    "out_dtype": out_dtype,
                }  # fmt: skip
                found = []
                for name in fastnorm.isas():
                    fastnorm.set_isa(name)
                    found.append(fastnorm.normalize_image(x, mean, std, **options))
                y = found[0]
                assert all(y.tobytes() == other.tobytes() for other in found)
                assert y.flags.c_contiguous
                options["out_dtype"] = y.dtype
                exact = reference.normalize_image(x, mean, std, **options)
                assert y.shape == exact.shape
                if dtype == "float64":
                    np.testing.assert_allclose(y, exact, rtol=1e-15, atol=1e-15)
                else:
                    assert same_bits(y, exact)


def test_the_defaults_scale_bytes_to_one_and_leave_floats() -> None:
    image = pixels((3, 4, 3))
    y = fastnorm.normalize_image(image)
    assert y.dtype == np.float32 and y.max() <= 1
    np.testing.assert_array_equal(y, (image / 255).astype("f4").transpose(2, 0, 1))
    x = RNG.normal(size=(3, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(fastnorm.normalize_image(x, layout="hwc"), x)


def test_mean_and_std_have_the_order_of_the_result() -> None:
    blue_green_red = pixels((6, 5, 3))
    red_green_blue = blue_green_red[..., ::-1].copy()
    for layout in ("chw", "hwc"):
        y = fastnorm.normalize_image(
            blue_green_red, "imagenet", "imagenet", reverse_channels=True, layout=layout
        )
        plain = fastnorm.normalize_image(
            red_green_blue, "imagenet", "imagenet", layout=layout
        )
        assert same_bits(y, plain)


def test_one_number_is_for_all_channels() -> None:
    image = pixels((6, 5, 3))
    for value in (0.5, np.float32(0.5), np.array(0.5)):
        y = fastnorm.normalize_image(image, value, value)
        z = fastnorm.normalize_image(image, [0.5] * 3, np.full(3, 0.5, np.float16))
        assert same_bits(y, z)


# ---- Hostile values ----------------------------------------------------------------


@pytest.mark.usefixtures("isa")
def test_nan_and_inf_stay_where_they_are() -> None:
    plain = RNG.normal(size=(1, 9, 45, 3)).astype(np.float32)
    y = fastnorm.normalize_image(plain, [0.1, 0.2, 0.3], 0.5)
    for bad in (np.nan, np.inf, -np.inf):
        x = plain.copy()
        x[0, 4, 17, 1] = bad
        z = fastnorm.normalize_image(x, [0.1, 0.2, 0.3], 0.5)
        np.testing.assert_equal(z[0, 1, 4, 17], np.float32(bad))
        z[0, 1, 4, 17] = y[0, 1, 4, 17]
        assert same_bits(z, y)


@pytest.mark.usefixtures("isa")
def test_the_ends_of_the_range() -> None:
    top, least = np.finfo("f4").max, np.finfo("f4").smallest_subnormal
    x = np.array([top, -top, least, -least, 0.0, 1e-30, 1e30], "f4").reshape(1, 7, 1)
    cases = [(0.0, 1.0, 1.0), (0.0, 1e100, 1e100), (0.0, 1e-100, 1e-100)]
    cases += [(1e100, 1e100, 1.0), (1e-30, 1.5, 1.0), (-1.0, 2.0, 1e-40)]
    for mean, std, scale in cases:
        exact = reference.normalize_image(x, mean, std, scale=scale, out_dtype="f4")
        y = fastnorm.normalize_image(x, mean, std, scale=scale)
        assert np.all(np.isfinite(y))
        assert same_bits(y, exact)
    # Beyond the type there is only Inf: float32 with the scale, float16 by itself.
    y = fastnorm.normalize_image(x, scale=10.0)
    np.testing.assert_array_equal(y.ravel()[:2], [np.inf, -np.inf])
    y = fastnorm.normalize_image(pixels((4, 4, 3)), 0.0, 1e-6, out_dtype="f2")
    assert np.isinf(y).any() and not np.isnan(y).any()


# ---- Same bits ---------------------------------------------------------------------


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["chw", "hwc"])
def test_threads_and_alignment_change_no_bits(layout: str) -> None:
    # More than one piece per image, and enough bytes for stores past the cache.
    x = pixels((5, 509, 431, 3))
    y = fastnorm.normalize_image(
        x, "imagenet", "imagenet", layout=layout, num_threads=1
    )
    assert y.nbytes > 12 * 2**20
    for threads in (2, 3):
        z = fastnorm.normalize_image(
            x, "imagenet", "imagenet", layout=layout, num_threads=threads
        )
        assert same_bits(y, z)
    for elements in (1, 5, 15):
        out = shifted(np.zeros_like(y), elements)
        fastnorm.normalize_image(x, "imagenet", "imagenet", layout=layout, out=out)
        assert same_bits(y, out)
    alone = fastnorm.normalize_image(x[3], "imagenet", "imagenet", layout=layout)
    assert same_bits(y[3], alone)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_nothing_beside_the_output_is_written(channels: int) -> None:
    mean, std = parameters(channels)
    for layout in ("chw", "hwc"):
        for width in (1, 15, 32, 33, 100):
            x = pixels((2, 3, width, channels))
            y = fastnorm.normalize_image(x, mean, std, layout=layout)
            for start in (0, 1, 7):
                room = np.full(y.size + 64, 77.0, np.float32)
                out = room[start : start + y.size].reshape(y.shape)
                fastnorm.normalize_image(x, mean, std, layout=layout, out=out)
                assert same_bits(out, y)
                assert np.all(room[:start] == 77)
                assert np.all(room[start + y.size :] == 77)


# ---- Other engines, the documentation, a photograph ---------------------------------


def test_torch_gives_the_same_answer() -> None:
    torch = pytest.importorskip("torch")
    image = pixels((2, 30, 31, 3))
    mean, std = (
        torch.tensor(v).reshape(3, 1, 1)
        for v in (fastnorm.IMAGENET_MEAN, fastnorm.IMAGENET_STD)
    )
    x = torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255
    y = fastnorm.normalize_image(image, "imagenet", "imagenet")
    np.testing.assert_allclose(y, ((x - mean) / std).numpy(), rtol=2e-6, atol=1e-6)


@pytest.mark.usefixtures("isa")
def test_a_photograph() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    pytest.importorskip("PIL")
    photograph = datasets.load_sample_image("china.jpg")
    y = fastnorm.normalize_image(photograph, "imagenet", "imagenet")
    assert y.shape == (3, 427, 640)
    back = y * np.reshape(fastnorm.IMAGENET_STD, (3, 1, 1))
    back = (back + np.reshape(fastnorm.IMAGENET_MEAN, (3, 1, 1))) * 255
    np.testing.assert_array_equal(np.rint(back).transpose(1, 2, 0), photograph)


def test_the_twin_has_the_same_signature() -> None:
    twin = inspect.signature(reference.normalize_image)
    compiled = inspect.signature(fastnorm.normalize_image)
    assert list(twin.parameters) == list(compiled.parameters)
    for name, parameter in twin.parameters.items():
        other = compiled.parameters[name]
        assert (parameter.kind, parameter.default) == (other.kind, other.default), name
    assert fastnorm.IMAGENET_MEAN == (0.485, 0.456, 0.406)
    assert fastnorm.IMAGENET_STD == (0.229, 0.224, 0.225)


def test_the_documentation_runs(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "images.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, "images.md", "exec"), names)


def test_all_instruction_sets_of_this_machine_are_tested() -> None:
    assert set(fastnorm.isas()) <= set(ISAS)
