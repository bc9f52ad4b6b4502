# test_fold.py - batch norm folded into weights: the same network, one layer fewer.
# SPDX-License-Identifier: MIT
"""fold_batch_norm against its definition, torch's layers and torch's own folding."""

from __future__ import annotations

import doctest
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import random, same_bits

from fastnorm import fold_batch_norm

# name: torch's class, its arguments, the shape of an input.
Case = tuple[str, dict[str, Any], tuple[int, ...]]
CASES: dict[str, Case] = {
    "linear": ("Linear", {"in_features": 24, "out_features": 8}, (5, 24)),
    "conv1d": ("Conv1d", {"kernel_size": 3, "padding": 1}, (2, 6, 20)),
    "conv2d": ("Conv2d", {"kernel_size": 3, "padding": 1, "stride": 2}, (2, 6, 9, 8)),
    "conv2d of one pixel": ("Conv2d", {"kernel_size": 1}, (2, 6, 9, 8)),
    "conv3d": ("Conv3d", {"kernel_size": (1, 2, 3)}, (2, 6, 4, 5, 6)),
    "groups": ("Conv2d", {"kernel_size": 3, "groups": 2}, (2, 6, 7, 7)),
    "depthwise": (
        "Conv2d", {"kernel_size": 3, "groups": 6, "out_channels": 12}, (2, 6, 7, 7),
    ),
    "transposed 1d": ("ConvTranspose1d", {"kernel_size": 4, "stride": 2}, (2, 6, 9)),
    "transposed 2d": (
        "ConvTranspose2d",
        {"kernel_size": 3, "stride": 2, "output_padding": 1}, (2, 6, 5, 5),
    ),
    "transposed 3d": ("ConvTranspose3d", {"kernel_size": 2}, (1, 6, 3, 3, 3)),
    "transposed groups": (
        "ConvTranspose2d", {"kernel_size": 3, "groups": 2}, (2, 6, 5, 5),
    ),
    "transposed depthwise": (
        "ConvTranspose1d",
        {"kernel_size": 3, "groups": 6, "out_channels": 18}, (2, 6, 5),
    ),
}  # fmt: skip


def build(name: str, bias: bool, affine: bool) -> tuple[Any, Any, NDArray[Any]]:
    """A layer and its norm in float64, with statistics of data, and an input."""
    torch = pytest.importorskip("torch")
    kind, options, shape = CASES[name]
    torch.manual_seed(len(name))
    if kind != "Linear":
        options = {"in_channels": 6, "out_channels": 8, **options}
    layer = getattr(torch.nn, kind)(**options, bias=bias).double()
    channels = options.get("out_channels", options.get("out_features"))
    rank = "1d" if kind == "Linear" else kind[-2:]
    norm = getattr(torch.nn, f"BatchNorm{rank}")(channels, affine=affine).double()
    if affine:
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    for seed in range(5):
        norm(layer(torch.from_numpy(1 + random(shape, "f8", seed))))
    return layer, norm.eval(), 1 + random(shape, "f8", 99)


def arguments(layer: Any, norm: Any, dtype: str) -> Any:
    def array(tensor: Any) -> Any:
        return None if tensor is None else tensor.detach().numpy().astype(dtype)

    return tuple(
        array(tensor)
        for tensor in (
            layer.weight, layer.bias, norm.running_mean, norm.running_var,
            norm.weight, norm.bias,
        )
    )  # fmt: skip


def options_of(layer: Any) -> dict[str, Any]:
    transposed = "Transpose" in type(layer).__name__
    return {"transposed": transposed, "groups": getattr(layer, "groups", 1)}


def run(layer: Any, x: Any, weight: Any, bias: Any) -> Any:
    """The layer with other weights, in torch."""
    torch = sys.modules["torch"]
    state = {
        "weight": torch.from_numpy(np.asarray(weight)),
        "bias": torch.from_numpy(np.asarray(bias)),
    }
    if layer.bias is None:
        layer.bias = torch.nn.Parameter(state["bias"])
    result = torch.func.functional_call(layer, state, torch.from_numpy(x))
    return result.detach().numpy()


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_the_folded_layer_is_the_two_within_the_stated_bound(
    name: str, bias: bool, affine: bool
) -> None:
    torch = pytest.importorskip("torch")
    layer, norm, x = build(name, bias, affine)
    # What float32 can hold, so that all of it means the same in float64.
    for tensor in (*layer.parameters(), *norm.parameters(), *norm.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.float().double()
    exact = norm(layer(torch.from_numpy(x))).detach().numpy()
    given = arguments(layer, norm, "float32")
    given = (*given, norm.eps)
    weight, shift = fold_batch_norm(*given, **options_of(layer))
    assert weight.dtype == shift.dtype == np.float32
    assert weight.shape == tuple(layer.weight.shape) and weight.flags.c_contiguous
    # Applied in float64, only the rounding of the folded weights is left.
    wide = [a.astype(np.float64) for a in (weight, shift)]
    y = run(layer, x, *wide)
    terms = run(layer, np.abs(x), *(np.abs(a) for a in wide))
    ratio = np.max(np.abs(y - exact) / terms)
    assert 2.0**-30 < ratio <= 2.0**-24 * (1 + 1e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_float64_and_torchs_own_folding(name: str, bias: bool) -> None:
    torch = pytest.importorskip("torch")
    layer, norm, x = build(name, bias, True)
    given = arguments(layer, norm, "float64")
    given = (*given, norm.eps)
    weight, shift = fold_batch_norm(*given, **options_of(layer))
    exact = norm(layer(torch.from_numpy(x))).detach().numpy()
    if (
        options_of(layer) == {"transposed": True, "groups": 1}
        or not (options_of(layer)["transposed"])
    ):
        theirs = torch.nn.utils.fusion.fuse_conv_bn_weights(
            layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps,
            norm.weight, norm.bias, transpose=options_of(layer)["transposed"],
        )  # fmt: skip
        for a, b in zip((weight, shift), theirs, strict=True):
            np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(run(layer, x, weight, shift), exact, 1e-12, 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_one_rounding_of_the_exact_value(dtype: str) -> None:
    if dtype == "bfloat16":
        kind = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    else:
        kind = np.dtype(dtype)
    weight = random((16, 300), seed=1).astype(kind)
    mean, var, gamma, beta = (random(16, "f8", seed) for seed in (2, 3, 4, 5))
    var = np.abs(var)
    found, shift = fold_batch_norm(weight, None, mean, var, gamma, beta)
    assert found.dtype == shift.dtype == kind
    scale = gamma / np.sqrt(var + 1e-5)
    exact = weight.astype("f8") * scale[:, None]
    near = found.astype("f8")
    # No neighbour is nearer than what was found.
    bits = found.view(f"u{kind.itemsize}")
    for step in (-1, 1):
        other = (bits + bits.dtype.type(step % 2**16)).view(kind).astype("f8")
        assert np.all(np.abs(near - exact) <= np.abs(other - exact))
    np.testing.assert_allclose(
        shift.astype("f8"),
        -mean * scale + beta,
        rtol=2**-8 if kind.itemsize == 2 else 1e-6,
    )


def test_bfloat16_rounds_once_and_not_twice() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    # 1 + 2**-8 lies half way between two bfloat16; a little above it is float32's.
    scale = np.array([1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-8, 1 + 2.0**-8 - 2.0**-40])
    weight = np.ones((3, 1), ml_dtypes.bfloat16)
    found, _ = fold_batch_norm(weight, None, np.zeros(3), np.ones(3), scale, eps=0.0)
    assert found.ravel().astype(float).tolist() == [1 + 2.0**-7, 1.0, 1.0]
    found, _ = fold_batch_norm(-weight, None, np.zeros(3), np.ones(3), scale, eps=0.0)
    assert found.ravel().astype(float).tolist() == [-1 - 2.0**-7, -1.0, -1.0]
    special = np.array([np.nan, np.inf, -np.inf, 0.0])
    weight = np.ones((4, 1), ml_dtypes.bfloat16)
    found, _ = fold_batch_norm(weight, None, np.zeros(4), np.ones(4), special, eps=0.0)
    assert found.ravel().astype(float).tolist()[1:] == [np.inf, -np.inf, 0.0]
    assert np.isnan(found[0, 0].astype(float))


def test_the_bias_does_not_cancel_in_a_narrow_type() -> None:
    # (bias - mean) * scale + beta of numbers that float32 could not subtract.
    bias, mean = np.array([16777216.0], "f4"), np.array([16777215.0], "f4")
    var, gamma, beta = (
        np.array([0.25], "f4"),
        np.array([3.0], "f4"),
        np.array([-5.0], "f4"),
    )
    weight = np.ones((1, 1), "f4")
    _, shift = fold_batch_norm(weight, bias, mean, var, gamma, beta, 0.0)
    exact = (Fraction(16777216) - 16777215) * 3 / Fraction(1, 2) - 5
    assert shift.tolist() == [float(exact)] == [1.0]


def test_a_channel_without_variance_becomes_its_bias_as_in_batch_norm() -> None:
    weight, bias = fold_batch_norm(
        np.ones((2, 3), "f4"), [5, 6], [1, 1], [0, 4], [2, 2], [7, 8], eps=0.0
    )
    assert weight.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert bias.tolist() == [7, 13]


def test_the_caller_keeps_its_arrays() -> None:
    weight = random((4, 3, 2, 2))
    arrays = [weight, *(np.abs(random(4, seed=i)) for i in range(5))]
    before = [a.copy() for a in arrays]
    found = fold_batch_norm(*arrays)
    for a, b in zip(arrays, before, strict=True):
        assert same_bits(a, b)
    assert not any(np.shares_memory(a, b) for a in arrays for b in found)


def test_other_layouts_and_libraries() -> None:
    torch = pytest.importorskip("torch")
    weight, stats = random((4, 6, 3, 2)), [np.abs(random(4, seed=i)) for i in range(5)]
    expected = fold_batch_norm(weight, *stats)
    tensors = [torch.nn.Parameter(torch.from_numpy(a)) for a in (weight, *stats)]
    strided = weight[::-1].copy()[::-1]
    for given in (
        (np.asfortranarray(weight), *stats),
        (strided, *stats),
        (weight.astype(">f4"), *(a.tolist() for a in stats)),
        tensors,
    ):
        for a, b in zip(fold_batch_norm(*given), expected, strict=True):
            assert same_bits(a, b)


def test_nothing_to_fold() -> None:
    weight, bias = fold_batch_norm(np.ones((0, 3)), None, [], [])
    assert weight.shape == (0, 3) and bias.shape == (0,)
    weight, bias = fold_batch_norm(np.ones((3, 0)), [1, 2, 3], [1, 1, 1], [1, 1, 1])
    assert weight.shape == (3, 0) and bias.shape == (3,)
    weight, bias = fold_batch_norm(
        np.ones((4, 0, 3)), None, [], [], transposed=True, groups=2
    )
    assert weight.shape == (4, 0, 3) and bias.shape == (0,)


ONES = np.ones(4)


@pytest.mark.parametrize(
    ("given", "options", "kind", "message"),
    [
        ((np.ones(4), None, ONES, ONES), {}, ValueError,
         r"weight has shape \(4,\), at least 2 axes are needed"),
        ((np.ones((4, 2), int), None, ONES, ONES), {}, TypeError,
         "weight has dtype int64, one of float32, float64, float16, bfloat16"),
        ((np.ones((4, 2), complex), None, ONES, ONES), {}, TypeError,
         "weight has dtype complex128"),
        ((np.ones((3, 2)), None, ONES, ONES), {}, ValueError,
         r"running_mean has shape \(4,\), weight of shape \(3, 2\) needs \(3,\)"),
        ((np.ones((4, 2)), ONES[:3], ONES, ONES), {}, ValueError, "bias has shape"),
        ((np.ones((4, 2)), None, ONES, ONES[:1]), {}, ValueError,
         "running_var has shape"),
        ((np.ones((4, 2)), None, ONES, ONES, 1.0), {}, ValueError,
         r"bn_weight has shape \(\)"),
        ((np.ones((4, 2)), None, ONES, ONES, None, ONES[:, None]), {}, ValueError,
         r"bn_bias has shape \(4, 1\)"),
        ((np.ones((4, 2)), None, None, ONES), {}, TypeError,
         "running_mean and running_var are needed"),
        ((np.ones((4, 2)), None, ONES, [1, -1, 1, 1]), {}, ValueError,
         "running_var is -1.0 in channel 1, a number >= 0 is needed"),
        ((np.ones((4, 2)), None, ONES, [1, 1, 1, np.nan]), {}, ValueError,
         "running_var is nan in channel 3"),
        ((np.ones((4, 2)), None, ONES, ONES, None, None, -1), {}, ValueError,
         "eps is -1"),
        ((np.ones((4, 2)), None, ONES, ONES), {"groups": 3}, ValueError,
         "groups is 3, which does not divide the 4 output channels"),
        ((np.ones((4, 2)), None, ONES, ONES), {"groups": 0}, ValueError, "groups is 0"),
        ((np.ones((5, 2)), None, ONES, ONES), {"groups": 2, "transposed": True},
         ValueError, "groups is 2, which does not divide the 5 input channels"),
        ((np.ones((4, 2)), None, ONES, ONES), {"groups": 1.5}, TypeError,
         "fold_batch_norm: groups is 1.5, an integer is needed"),
        ((np.ones((4, 2), "f2"), None, ONES, ONES, ONES * 1e6), {}, ValueError,
         "the folded weight is too large for float16"),
        ((np.ones((4, 2), "f4"), None, ONES * 1e39, ONES), {}, ValueError,
         "the folded bias is too large for float32"),
        ((np.ma.ones((4, 2)), None, ONES, ONES), {}, TypeError,
         "weight is a masked array"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(
    given: tuple[Any, ...], options: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        fold_batch_norm(*given, **options)


def test_examples_in_docstrings() -> None:
    results = doctest.testmod(sys.modules["fastnorm.fold"])
    assert results.attempted >= 3
    assert results.failed == 0
