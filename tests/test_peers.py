# SPDX-License-Identifier: MIT
"""test_peers.py - second opinions: the same meaning as torch, ONNX and scikit-learn.

Their float32 errors are larger than ours, so the tolerances here are theirs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import random

import fastnorm


def close(a: NDArray[Any], b: Any) -> None:
    np.testing.assert_allclose(a, np.asarray(b), rtol=2e-5, atol=2e-5)


# ---- torch ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 64), (2, 5, 768), (3, 4, 6, 5)], ids=str)
def test_layer_norm_is_torchs(shape: tuple[int, ...], dtype: str) -> None:
    torch = pytest.importorskip("torch")
    x, n = random(shape, dtype), shape[2:] or shape[-1:]
    weight, bias = random(n, dtype, 1), random(n, dtype, 2)
    tensors = [torch.from_numpy(a) for a in (x, weight, bias)]
    functional = torch.nn.functional
    close(fastnorm.layer_norm(x, n), functional.layer_norm(tensors[0], n))
    y, mean, rstd = fastnorm.layer_norm(x, n, weight, bias, 1e-3, return_stats=True)
    theirs = torch.native_layer_norm(tensors[0], n, *tensors[1:], 1e-3)
    for a, b in zip((y, mean, rstd), theirs, strict=True):
        assert a.shape == tuple(b.shape)
        close(a, b)


@pytest.mark.parametrize("eps", [None, 1e-6])
def test_rms_norm_is_torchs(eps: float | None, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    # So small that the default eps decides.
    x, weight = 1e-4 * random((5, 96), dtype), random(96, dtype, 1)
    theirs = torch.nn.functional.rms_norm(
        torch.from_numpy(x), (96,), torch.from_numpy(weight), eps
    )
    close(fastnorm.rms_norm(x, (96,), weight, eps), theirs)


@pytest.mark.parametrize("shape", [(16, 5), (4, 5, 7), (2, 5, 6, 3)], ids=str)
@pytest.mark.parametrize("momentum", [0.1, 0.7])
def test_batch_norm_and_its_running_statistics_are_torchs(
    shape: tuple[int, ...], momentum: float, dtype: str
) -> None:
    torch = pytest.importorskip("torch")
    mean, var = random(5, dtype, 1), np.abs(random(5, dtype, 2)) + np.asarray(1, dtype)
    weight, bias = random(5, dtype, 3), random(5, dtype, 4)
    theirs = [torch.from_numpy(a.copy()) for a in (mean, var, weight, bias)]
    for step in range(3):
        x = 3 + random(shape, dtype, seed=10 + step)
        y = fastnorm.batch_norm(x, mean, var, weight, bias, True, momentum)
        z = torch.nn.functional.batch_norm(torch.from_numpy(x), *theirs, True, momentum)
        close(y, z)
        close(mean, theirs[0])
        close(var, theirs[1])
        close(
            fastnorm.batch_norm(x, mean, var, weight, bias),
            torch.nn.functional.batch_norm(torch.from_numpy(x), *theirs),
        )


def test_cumulative_momentum_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    layer = torch.nn.BatchNorm1d(4, momentum=None)
    mean, var = np.zeros(4, "f4"), np.ones(4, "f4")
    for i in range(5):
        x = random((8, 4), seed=i)
        layer(torch.from_numpy(x))
        fastnorm.batch_norm(
            x, mean, var, training=True, momentum=None, num_batches_tracked=i
        )
        close(mean, layer.running_mean)
        close(var, layer.running_var)


def test_torch_too_refuses_one_value_per_channel() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="more than 1 value"):
        torch.nn.functional.batch_norm(torch.ones(1, 3), None, None, training=True)
    with pytest.raises(ValueError, match="batch_norm"):
        fastnorm.batch_norm(np.ones((1, 3)), None, None, training=True)


# ---- ONNX Runtime ----------------------------------------------------------------


def run_onnx(
    op: str,
    version: int,
    inputs: dict[str, NDArray[Any]],
    outputs: int = 1,
    **attrs: Any,
) -> list[NDArray[Any]]:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    helper = onnx.helper
    names = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, list(inputs), names, **attrs)
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, a.shape)
            for name, a in inputs.items()
        ],
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in names
        ],
    )
    opset = [helper.make_opsetid("", version)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, inputs)


def test_layer_norm_is_onnxs() -> None:
    x, w, b = random((4, 9, 33)), random(33, seed=1), random(33, seed=2)
    inputs = {"x": x, "w": w, "b": b}
    found = fastnorm.layer_norm(x, 33, w, b, 1e-4, return_stats=True)
    theirs = run_onnx("LayerNormalization", 17, inputs, 3, axis=-1, epsilon=1e-4)
    for a, c in zip(found, theirs, strict=True):
        assert a.shape == c.shape
        close(a, c)


def test_batch_norm_inference_is_onnxs() -> None:
    x = random((2, 6, 5, 4))
    w, b, mean = (random(6, seed=seed) for seed in (1, 2, 3))
    var = np.abs(random(6, seed=4)) + np.float32(0.1)
    inputs = {"x": x, "w": w, "b": b, "mean": mean, "var": var}
    (theirs,) = run_onnx("BatchNormalization", 15, inputs, epsilon=1e-3)
    close(fastnorm.batch_norm(x, mean, var, w, b, eps=1e-3), theirs)


# ---- scikit-learn -----------------------------------------------------------------


def test_batch_norm_without_eps_is_a_standard_scaler() -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x = random((500, 20), "f8") * np.arange(1, 21) + 100
    x[:, 7] = 3.3
    scaler = preprocessing.StandardScaler().fit(x)
    y = fastnorm.batch_norm(x, None, None, training=True, eps=0.0)
    np.testing.assert_allclose(y, scaler.transform(x), rtol=0, atol=1e-12)
    mean, var = fastnorm.moments(x, axis=0)
    np.testing.assert_allclose(mean, scaler.mean_, rtol=1e-14)
    np.testing.assert_allclose(np.delete(var, 7), np.delete(scaler.var_, 7), rtol=1e-12)


def test_merged_moments_are_partial_fits() -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    scaler = preprocessing.StandardScaler()
    parts = [50 + random((n, 8), "f8", seed=n) for n in (1, 30, 200, 7)]
    total = None
    for part in parts:
        scaler.partial_fit(part)
        state = fastnorm.moments(part, axis=0, return_state=True)
        total = state if total is None else fastnorm.merge_moments(total, state)
    assert total is not None and total.count == scaler.n_samples_seen_
    np.testing.assert_allclose(total.mean, scaler.mean_, rtol=1e-14)
    np.testing.assert_allclose(total.m2 / total.count, scaler.var_, rtol=1e-12)
