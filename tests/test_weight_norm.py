# SPDX-License-Identifier: MIT
"""test_weight_norm.py - weight_norm against the exact result, on every ISA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from formats import HALVES, assert_rounded, hostile_rows, some
from numpy.typing import NDArray
from oracle import BOUND, hostile, random, same_bits

import fastnorm
from fastnorm import reference

SHAPES = [
    (1,), (7,), (5000,), (1, 9), (9, 1), (64, 27), (100, 300), (2, 1030), (1030, 2),
    (16, 3, 3, 3), (8, 64, 1, 1), (3, 5, 4097), (2, 3, 70000), (20000, 3),
]  # fmt: skip

Array = NDArray[Any]


def kept(shape: tuple[int, ...], dim: int | None) -> tuple[int, ...]:
    axis = None if dim is None else dim % len(shape)
    return tuple(n if i == axis else 1 for i, n in enumerate(shape))


def assert_near(y: Array, exact: Any) -> None:
    """Within the bound, relative to the result itself, or a subnormal step."""
    limits = np.finfo(y.dtype)
    exact = np.asarray(exact)
    assert np.all(np.isfinite(exact)), "the exact result is not finite: a bad test"
    allowed = BOUND[y.dtype] * np.abs(exact) + float(limits.smallest_subnormal)
    assert np.all(np.abs(y - exact) <= allowed)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("isa")
def test_every_axis_is_exact(shape: tuple[int, ...], dtype: str) -> None:
    v = random(shape, dtype)
    for dim in (None, *range(-len(shape), len(shape))):
        g = random(kept(shape, dim), dtype, 1)
        w, norm = fastnorm.weight_norm(v, g, dim, return_norm=True)
        exact, exact_norm = reference.weight_norm(v, g, dim, return_norm=True)
        assert w.dtype == norm.dtype == v.dtype and norm.shape == g.shape
        assert_near(w, exact)
        assert_near(norm, exact_norm)
        assert same_bits(w, fastnorm.weight_norm(v, g.reshape(-1), dim))


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("n", [1, 2, 5, 64, 769, 20000])
@pytest.mark.usefixtures("isa")
def test_hostile_directions(n: int, dim: int, dtype: str) -> None:
    named = hostile(n, dtype)
    v = np.stack(list(named.values()))
    v = v if dim == 0 else np.ascontiguousarray(v.T)
    g = np.linspace(-2, 2, len(named)).astype(dtype)
    w, norm = fastnorm.weight_norm(v, g, dim, return_norm=True)
    exact, exact_norm = reference.weight_norm(v, g, dim, return_norm=True)
    for i, name in enumerate(named):
        found = w.take(i, dim)
        assert np.all(np.isfinite(found)), name
        assert_near(found, exact.take(i, dim))
        if exact_norm.ravel()[i] <= np.finfo(dtype).max:
            assert_near(norm.ravel()[i : i + 1], exact_norm.ravel()[i : i + 1])
        else:
            assert norm.ravel()[i] == np.inf, name


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("length", [1e-30, 1e30])
@pytest.mark.usefixtures("isa")
def test_tiny_and_huge_lengths(length: float, dim: int | None, dtype: str) -> None:
    v = random((12, 40), dtype)
    for scale in (1e-30, 1.0, 1e30):
        scaled = (v * np.asarray(scale, dtype)).astype(dtype)
        g = np.full(kept(v.shape, dim), length, dtype)
        exact = reference.weight_norm(scaled, g, dim)
        assert_near(fastnorm.weight_norm(scaled, g, dim), exact)


@pytest.mark.parametrize("name", ["float32", "float64", *HALVES])
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.usefixtures("isa")
def test_zeros_stay_zeros(name: str, dim: int | None) -> None:
    for n in (1, 5, 64, 700):
        v = some((3, n) if dim != 1 else (n, 3), name)
        index: Any = (slice(None), 1) if dim == 1 else (1,) if dim == 0 else ...
        v[index] = 0
        g = some(kept(v.shape, dim), name, 1)
        w, norm = fastnorm.weight_norm(v, g, dim, return_norm=True)
        assert not w[index].astype("f4").any()
        assert np.all(np.isfinite(w.astype("f4")))
        assert norm.ravel()[1 if dim is not None else 0] == 0


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.usefixtures("isa")
def test_halves_are_rounded_once(name: str, dim: int) -> None:
    for n in (1, 5, 100, 769, 20000):
        named = hostile_rows(n, name)
        v = np.stack(list(named.values()))
        v = v if dim == 0 else np.ascontiguousarray(v.T)
        for g in (random(len(named)), some(len(named), name)):
            w, norm = fastnorm.weight_norm(v, g, dim, return_norm=True)
            exact = reference.weight_norm(v, g, dim)
            assert w.dtype == v.dtype and norm.dtype == np.float32
            assert_rounded(w, exact)
            right = fastnorm.weight_norm(
                v.astype(np.float32), g.astype(np.float32), dim
            )
            assert same_bits(w, right.astype(w.dtype))


def test_bytes_are_numbers() -> None:
    v = some((6, 50), "int8")
    w = fastnorm.weight_norm(v, np.ones(6, np.float32))
    assert w.dtype == np.float32
    assert same_bits(w, fastnorm.weight_norm(v.astype("f4"), np.ones(6, np.float32)))


@pytest.mark.parametrize("dim", [0, 1, 2, None])
@pytest.mark.usefixtures("isa")
def test_nan_and_inf_stay_with_their_index(dim: int | None, dtype: str) -> None:
    clean = random((20, 19, 18), dtype)
    g = random(kept(clean.shape, dim), dtype, 1)
    expected = fastnorm.weight_norm(clean, g, dim)
    for bad in (np.nan, np.inf):
        v = clean.copy()
        v[7, 7, 7] = bad
        w = fastnorm.weight_norm(v, g, dim)
        assert np.isnan(w[7, 7, 7])
        if dim is not None:
            assert same_bits(np.delete(w, 7, dim), np.delete(expected, 7, dim))


@pytest.mark.parametrize("dim", [0, 1, -1, None])
def test_layouts_in_place_and_threads(dim: int | None, dtype: str) -> None:
    v = random((60, 50, 70), dtype)
    g = random(kept(v.shape, dim), dtype, 1)
    w = fastnorm.weight_norm(v, g, dim, num_threads=1)
    assert same_bits(w, fastnorm.weight_norm(v, g, dim, num_threads=4))
    exact = reference.weight_norm(v, g, dim)
    for order in ((2, 0, 1), (1, 2, 0), (0, 2, 1)):
        other = np.ascontiguousarray(v.transpose(order)).transpose(np.argsort(order))
        assert_near(fastnorm.weight_norm(other, g, dim), exact)
        out = np.empty_like(other)
        assert fastnorm.weight_norm(other, g, dim, out=out) is out
        assert_near(out, exact)
    spread = np.empty((60, 50, 140), dtype)[..., ::2]
    assert fastnorm.weight_norm(v, g, dim, out=spread) is spread
    assert same_bits(np.ascontiguousarray(spread), w)
    assert fastnorm.weight_norm(v, g, dim, out=v) is v
    assert same_bits(v, w)


@pytest.mark.parametrize("dim", [0, 1, None])
def test_an_empty_input_gives_an_empty_result(dim: int | None) -> None:
    for shape in ((0, 5), (5, 0), (0, 0)):
        g = np.ones(kept(shape, dim))
        w, norm = fastnorm.weight_norm(np.empty(shape), g, dim, return_norm=True)
        assert w.shape == shape and norm.shape == g.shape and not norm.any()
        theirs = reference.weight_norm(np.empty(shape), g, dim, return_norm=True)
        assert theirs[1].shape == norm.shape and not theirs[1].any()


def test_one_length_for_everything_comes_in_any_shape() -> None:
    v = random((4, 5), "f8")
    wanted = v / np.sqrt(np.sum(v**2)) * 3
    for g in (3, 3.0, [3.0], np.float64(3), np.array(3.0), np.array([[3.0]])):
        np.testing.assert_allclose(fastnorm.weight_norm(v, g, None), wanted)
        np.testing.assert_allclose(reference.weight_norm(v, g, None), wanted)


def test_lengths_come_as_lists_too() -> None:
    v = random((2, 3))
    right = fastnorm.weight_norm(v, np.array([1, 2], np.float32))
    assert same_bits(fastnorm.weight_norm(v, [1, 2]), right)
    assert same_bits(fastnorm.weight_norm(v, [[1.0], [2.0]]), right)
    wide = fastnorm.weight_norm(v.tolist(), [1, 2])
    assert wide.dtype == np.float64
    np.testing.assert_allclose(wide, right, rtol=3e-7)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # its own successor has no None
@pytest.mark.parametrize("shape", [(16, 3, 3, 3), (64, 32), (7,)], ids=str)
def test_torch_agrees(shape: tuple[int, ...], dtype: str) -> None:
    torch: Any = pytest.importorskip("torch")
    v = random(shape, dtype)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    for dim in {0, len(shape) - 1}:
        g = random(kept(shape, dim), dtype, 1)
        theirs = torch._weight_norm(torch.from_numpy(v), torch.from_numpy(g), dim)
        ours = fastnorm.weight_norm(v, g, dim)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=tolerance)
    linear = torch.nn.utils.weight_norm(torch.nn.Linear(6, 4), dim=None)
    with torch.no_grad():
        linear(torch.zeros(1, 6))
    ours = fastnorm.weight_norm(
        linear.weight_v.detach().numpy(), linear.weight_g.detach().numpy(), None
    )
    np.testing.assert_allclose(ours, linear.weight.detach().numpy(), rtol=1e-6)


V = random((3, 4))
G = np.ones(3, np.float32)
REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"v": V.astype(int)}, TypeError, "v has dtype int64, not float32, float64, fl"),
    ({"v": np.float32(1)}, ValueError, "v is 0-d, at least one axis is needed"),
    ({"dim": 2}, ValueError, "dim is 2, input has 2 axes"),
    ({"dim": -3}, ValueError, "dim is -3, input has 2 axes"),
    ({"dim": "0"}, TypeError, "dim is str, an integer is needed"),
    ({"g": G[:2]}, ValueError, "g has shape (2,), (3, 1) or (3,) is needed"),
    ({"g": G[None]}, ValueError, "g has shape (1, 3), (3, 1) or (3,) is needed"),
    ({"g": 1.0}, ValueError, "g has shape (), (3, 1) or (3,) is needed"),
    ({"dim": None}, ValueError, "g has shape (3,), (1, 1) or () is needed"),
    ({"g": G.astype("f8")}, TypeError, "g has dtype float64, float32 or a 16-bit"),
    ({"g": ["1", "2", "3"]}, TypeError, "g has dtype <U1, real numbers are needed"),
    ({"g": None}, TypeError, "g has dtype object"),
    ({"out": V[:2].copy()}, ValueError, "out has shape (2, 4), input's (3, 4)"),
    ({"out": V.astype("f8")}, TypeError, "out has dtype float64, input's float32"),
    ({"num_threads": 0}, ValueError, "num_threads is 0, at least 1 is needed"),
]


@pytest.mark.parametrize(("kwargs", "error", "text"), REFUSED)
def test_what_is_refused(
    kwargs: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as raised:
        fastnorm.weight_norm(**{"v": V, "g": G, **kwargs})
    assert str(raised.value).startswith(f"weight_norm: {text}"), str(raised.value)


def test_an_output_over_another_array_is_refused() -> None:
    memory = random(40)
    v, g = memory[:12].reshape(3, 4), memory[5:8]
    kept_memory = memory.copy()
    with pytest.raises(ValueError, match="weight_norm: out overlaps v"):
        fastnorm.weight_norm(v, G, out=memory[1:13].reshape(3, 4))
    with pytest.raises(ValueError, match="weight_norm: out overlaps g"):
        fastnorm.weight_norm(V, g, out=v)
    with pytest.raises(ValueError, match="weight_norm: out overlaps v"):
        fastnorm.weight_norm(v, 1.0, None, out=memory[1:13].reshape(3, 4))
    assert same_bits(memory, kept_memory)


def test_the_gradients_take_the_norm_that_was_returned() -> None:
    for dim in (0, 1, -1, None):
        for dtype in ("f4", "f8", "f2"):
            v, grad = random((4, 5, 3), "f4").astype(dtype), random((4, 5, 3), "f4", 2)
            grad = grad.astype(dtype)
            g = np.asarray(2.5, v.dtype)
            g = g if dim is None else np.full(v.shape[dim], g)
            norm = fastnorm.weight_norm(v, g, dim, return_norm=True)[1]
            found = fastnorm.weight_norm_backward(grad, v, g, dim, norm=norm)
            for one, other in zip(
                found, fastnorm.weight_norm_backward(grad, v, g, dim), strict=True
            ):
                np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)
            # It is used: another norm gives what the formula says of it.
            wide = norm * 2
            flat = wide.ravel()[0] if dim is None else wide.ravel()
            for given in (wide, flat):
                by_v, by_g = fastnorm.weight_norm_backward(grad, v, g, dim, norm=given)
                right: Any = reference.weight_norm_backward(grad, v, g, dim, norm=wide)
                tolerance = 2e-3 if dtype == "f2" else 1e-5
                np.testing.assert_allclose(by_v, right[0], tolerance, tolerance)
                np.testing.assert_allclose(by_g, right[1], tolerance, tolerance)
    v = random((3, 4))
    for norm, words in (
        (np.ones(4), r"norm has dtype float64"),
        (np.ones(4, "f4"), r"norm has shape \(4,\), \(3, 1\)"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            fastnorm.weight_norm_backward(v, v, np.ones(3, "f4"), norm=norm)
    out, norm = v.copy(), np.ones(3, "f4")
    with pytest.raises(ValueError, match="out overlaps norm"):
        fastnorm.weight_norm_backward(v, v, norm, norm=out[:, 0], out=out)
