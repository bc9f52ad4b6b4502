# SPDX-License-Identifier: MIT
"""test_real_data.py - photographs, digits and tables instead of random numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import assert_close, random

import fastnorm
from fastnorm import reference
from fastnorm.cli import main

datasets = pytest.importorskip("sklearn.datasets")
preprocessing = pytest.importorskip("sklearn.preprocessing")


@pytest.fixture(scope="module")
def photographs() -> NDArray[np.uint8]:
    """Two photographs, [2, 427, 640, 3], 0 to 255."""
    return np.stack(datasets.load_sample_images().images)


@pytest.fixture(params=["wine", "breast_cancer", "iris", "diabetes"])
def table(request: pytest.FixtureRequest) -> NDArray[np.float64]:
    return getattr(datasets, f"load_{request.param}")().data


@pytest.mark.usefixtures("isa")
def test_photographs_channels_last(photographs: NDArray[np.uint8], dtype: str) -> None:
    x = photographs.astype(dtype)
    y = fastnorm.batch_norm(x, None, None, training=True, channel_axis=-1)
    exact = reference.batch_norm(x, None, None, training=True, channel_axis=-1)
    assert_close(y, exact)
    mean, var = fastnorm.moments(x, axis=(0, 1, 2))
    np.testing.assert_allclose(mean, photographs.mean((0, 1, 2)), rtol=4e-7)
    np.testing.assert_allclose(var, photographs.var((0, 1, 2)), rtol=4e-7)


@pytest.mark.usefixtures("isa")
def test_photographs_channels_first(photographs: NDArray[np.uint8], dtype: str) -> None:
    # A transposed view, as it comes out of an image reader.
    x = photographs.astype(dtype).transpose(0, 3, 1, 2)
    mean = np.array([123.675, 116.28, 103.53], dtype)
    var = np.array([58.395, 57.12, 57.375], dtype) ** 2
    assert_close(fastnorm.batch_norm(x, mean, var), reference.batch_norm(x, mean, var))
    y = fastnorm.batch_norm(x, None, None, training=True)
    assert_close(y, reference.batch_norm(x, None, None, training=True))


@pytest.mark.usefixtures("isa")
def test_pixels_of_photographs_over_their_channels(
    photographs: NDArray[np.uint8],
) -> None:
    # 3 values a row, and many rows of one colour, which have no variance.
    x = photographs.astype("float32")[:, ::3, ::3]
    assert_close(fastnorm.layer_norm(x, 3), reference.layer_norm(x, 3))
    assert_close(fastnorm.rms_norm(x, 3), reference.rms_norm(x, 3))
    first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    assert_close(
        fastnorm.layer_norm(first, None, axis=1),
        reference.layer_norm(first, None, axis=1),
    )


@pytest.mark.usefixtures("isa")
def test_digits_with_columns_that_never_change(dtype: str) -> None:
    x = datasets.load_digits().data.astype(dtype)
    constant = np.ptp(x, axis=0) == 0
    assert constant.any()
    y = fastnorm.batch_norm(x, None, None, training=True, eps=0.0)
    assert np.all(y[:, constant] == 0)
    assert_close(y, reference.batch_norm(x, None, None, training=True, eps=0.0))
    scaled = preprocessing.StandardScaler().fit_transform(x.astype("f8"))
    np.testing.assert_allclose(y, scaled, rtol=0, atol=2e-5)


@pytest.mark.usefixtures("isa")
def test_tables_as_a_standard_scaler_scales_them(table: NDArray[np.float64]) -> None:
    expected = preprocessing.StandardScaler().fit_transform(table)
    y = fastnorm.batch_norm(table, None, None, training=True, eps=0.0)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-11)
    assert_close(y, reference.batch_norm(table, None, None, training=True, eps=0.0))


def test_the_command_line_on_photographs(
    photographs: NDArray[np.uint8], tmp_path: Path
) -> None:
    np.save(tmp_path / "photos.npy", photographs)
    arguments = ["--op", "standardize", "--dtype", "float32", "--memory", "100K"]
    source, target = str(tmp_path / "photos.npy"), str(tmp_path / "out.npy")
    assert main(["normalize", source, target, *arguments]) == 0
    exact = reference.batch_norm(
        photographs, None, None, training=True, channel_axis=-1, eps=0.0
    )
    assert_close(np.load(target), exact)


def test_stored_statistics_of_a_table_serve_another_one(tmp_path: Path) -> None:
    x = datasets.load_wine().data
    train, test = x[::2], x[1::2]
    np.save(tmp_path / "train.npy", train)
    np.save(tmp_path / "test.npy", test)
    paths = {name: str(tmp_path / name) for name in ("train.npy", "test.npy", "s.npz")}
    assert main(["stats", paths["train.npy"], "--save", paths["s.npz"]]) == 0
    out = str(tmp_path / "out.npy")
    assert main(
        ["normalize", paths["test.npy"], out, "--op", "standardize",
         "--stats", paths["s.npz"]]
    ) == 0  # fmt: skip
    scaler = preprocessing.StandardScaler().fit(train)
    np.testing.assert_allclose(np.load(out), scaler.transform(test), atol=1e-11)


def test_sentences_of_different_length_give_the_same_rows() -> None:
    # Layer norm serves any batch size and length: a row does not know its neighbours.
    weight, bias = random(64, seed=1), random(64, seed=2)
    tokens = random((200, 64), seed=3)
    whole = fastnorm.layer_norm(tokens, 64, weight, bias)
    for start, end in ((0, 1), (1, 18), (18, 200)):
        part = fastnorm.layer_norm(tokens[None, start:end], 64, weight, bias)
        assert np.array_equal(part[0], whole[start:end])
