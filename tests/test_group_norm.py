# SPDX-License-Identifier: MIT
"""test_group_norm.py - group_norm against the exact result, on every ISA."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import BOUND, assert_close, error, hostile, random, same_bits, shifted

import fastnorm
from fastnorm import reference

Array = NDArray[Any]

# Input shape and number of groups: one, each channel, tables, tails, long and short.
CASES = [
    ((2, 3), 1), ((5, 6), 3), ((4, 32), 8), ((1, 2, 1), 1), ((3, 1, 7), 1),
    ((2, 6, 1, 1), 2), ((2, 6, 5), 6), ((1, 64, 7, 7), 32), ((2, 32, 14, 14), 8),
    ((2, 12, 3, 4, 5), 4), ((1, 4, 5000), 2), ((1, 2, 20011), 1), ((3, 515, 2), 5),
    ((2, 33, 31), 11), ((0, 4, 3), 2), ((2, 0, 3), 1), ((2, 4, 0), 2),
]  # fmt: skip
SOME = [((5, 6), 3), ((2, 32, 14, 14), 8), ((2, 33, 31), 11), ((1, 4, 5000), 2)]
cases = pytest.mark.parametrize(("shape", "groups"), CASES, ids=str)
some = pytest.mark.parametrize(("shape", "groups"), SOME, ids=str)


def affine(channels: int, dtype: str) -> tuple[Array, Array]:
    return random(channels, dtype, 1), random(channels, dtype, 2)


def last(x: Array) -> Array:
    """The same images, packed with the channels last."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


@cases
@pytest.mark.parametrize("layout", ["first", "last"])
@pytest.mark.usefixtures("backend")
def test_every_shape_is_within_the_bound(
    shape: tuple[int, ...], groups: int, layout: str, dtype: str
) -> None:
    x = 1e3 + random(shape, dtype)
    exact, exact_mean, exact_rstd = reference.group_norm(x, groups, return_stats=True)
    weight, bias = affine(shape[1], dtype)
    plain = reference.group_norm(x, groups, weight)
    full = reference.group_norm(x, groups, weight, bias)
    axis = 1
    if layout == "last":
        x, axis = last(x), -1
    y, mean, rstd = fastnorm.group_norm(x, groups, channel_axis=axis, return_stats=True)
    assert y.shape == x.shape and y.dtype == x.dtype and y.flags.c_contiguous
    assert mean.shape == rstd.shape == (shape[0], groups)
    assert mean.dtype == rstd.dtype == x.dtype
    assert_close(np.moveaxis(y, axis, 1), exact)
    if x.size:
        assert_close(mean, exact_mean)
        assert error(rstd / exact_rstd, np.ones(rstd.shape)) <= BOUND[x.dtype]
    else:
        assert np.all(np.isnan(mean)) and np.all(np.isnan(rstd))
    y = fastnorm.group_norm(x, groups, weight, bias, channel_axis=axis)
    assert_close(np.moveaxis(y, axis, 1), full, np.abs(plain) + 4)
    y = fastnorm.group_norm(x, groups, weight, channel_axis=axis)
    assert_close(np.moveaxis(y, axis, 1), plain, 4)


@pytest.mark.parametrize("size", [(1, 2), (2, 3), (4, 16), (3, 172), (4, 1024)])
@pytest.mark.parametrize("layout", ["batch", "groups", "batch last", "groups last"])
@pytest.mark.parametrize("eps", [1e-5, 0.0])
@pytest.mark.usefixtures("backend")
def test_hostile_groups_are_within_the_bound(
    size: tuple[int, int], layout: str, eps: float, dtype: str
) -> None:
    channels, spatial = size
    rows = hostile(channels * spatial, dtype)
    x = np.stack(list(rows.values()))
    if layout.startswith("batch"):
        x, groups = x.reshape(len(rows), channels, spatial), 1
    else:
        x, groups = x.reshape(1, len(rows) * channels, spatial), len(rows)
    exact = reference.group_norm(x, groups, eps=eps)
    if layout.endswith("last"):
        y = fastnorm.group_norm(last(x), groups, eps=eps, channel_axis=-1)
        y = np.moveaxis(y, -1, 1)
    else:
        y = fastnorm.group_norm(x, groups, eps=eps)
    y, exact = (a.reshape(len(rows), -1) for a in (y, exact))
    errors = {
        name: e
        for name, a, b in zip(rows, y, exact, strict=True)
        if (e := error(a, b)) > BOUND[x.dtype]
    }
    assert not errors


@pytest.mark.parametrize("layout", ["first", "last"])
@pytest.mark.parametrize("eps", [1e-5, 0.0])
@pytest.mark.usefixtures("backend")
def test_constant_groups_give_exactly_the_bias(
    layout: str, eps: float, dtype: str
) -> None:
    shape, axis = ((3, 6, 7, 11), 1) if layout == "first" else ((3, 7, 11, 6), 3)
    weight, bias = affine(6, dtype)
    y = fastnorm.group_norm(
        np.full(shape, 3.3, dtype), 2, weight, bias, eps, channel_axis=axis
    )
    wanted = bias.reshape([6 if i == axis else 1 for i in range(4)])
    np.testing.assert_array_equal(y, np.broadcast_to(wanted, shape))
    # One value in each group, which has no variance either.
    y = fastnorm.group_norm(random((4, 6), dtype), 6, weight, bias, eps)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, (4, 6)))


@pytest.mark.usefixtures("either")
def test_groups_at_the_ends_are_layer_and_instance_norm(dtype: str) -> None:
    x = 5 + random((3, 8, 6, 5), dtype)
    y = fastnorm.group_norm(x, 1)
    assert same_bits(y, fastnorm.layer_norm(x, (8, 6, 5)))
    assert same_bits(fastnorm.group_norm(x, 8), fastnorm.layer_norm(x, (6, 5)))


@some
def test_stored_statistics_are_used(
    isa: str, shape: tuple[int, ...], groups: int, dtype: str
) -> None:
    assert fastnorm.isa() == isa
    x = random(shape, dtype)
    mean = random((shape[0], groups), dtype, 5)
    var = np.abs(random((shape[0], groups), dtype, 6)) + np.asarray(0.1, dtype)
    weight, bias = affine(shape[1], dtype)
    for array, axis in ((x, 1), (last(x), -1)):
        y, used, rstd = fastnorm.group_norm(
            array, groups, weight, bias, channel_axis=axis, mean=mean, var=var,
            return_stats=True,
        )  # fmt: skip
        exact = reference.group_norm(
            array, groups, weight, bias, channel_axis=axis, mean=mean, var=var
        )
        assert_close(y, exact, 2 * np.abs(exact) + 8)
        assert same_bits(used, mean)
        assert_close(rstd, 1 / np.sqrt(var.astype("f8") + 1e-5))
    zeros = np.zeros_like(mean)
    y = fastnorm.group_norm(x, groups, None, bias, 0.0, mean=mean, var=zeros)
    wanted = bias.reshape([-1] + [1] * (x.ndim - 2))
    np.testing.assert_array_equal(y, np.broadcast_to(wanted, shape))


# ---- Same bits ------------------------------------------------------------------


def run(x: Array, groups: int, axis: int = 1, **options: Any) -> tuple[Array, ...]:
    weight, bias = affine(x.shape[axis], x.dtype.name)
    y = fastnorm.group_norm(
        x, groups, weight, bias, channel_axis=axis, return_stats=True, **options
    )
    assert isinstance(y, tuple)
    return y


def assert_same(found: tuple[Array, ...], expected: tuple[Array, ...]) -> None:
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert same_bits(a, b), i


@some
@pytest.mark.parametrize("axis", [1, -1])
def test_same_bits_whatever_runs_it(
    isa: str, shape: tuple[int, ...], groups: int, axis: int, dtype: str
) -> None:
    x = 50 + random(shape, dtype)
    x = x if axis == 1 else last(x)
    found = run(x, groups, axis, num_threads=1)
    for threads in (2, 3, 4, 7):
        assert_same(run(x, groups, axis, num_threads=threads), found)
    for offset in (1, 3, 8):
        assert_same(run(shifted(x, offset), groups, axis), found)
    inside = x.copy()
    y = run(inside, groups, axis, out=inside)
    assert y[0] is inside
    assert_same(y, found)
    fastnorm.set_isa("portable")
    assert_same(run(x, groups, axis), found)
    assert isa in fastnorm.isas()


@some
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.usefixtures("either")
def test_a_sample_does_not_depend_on_its_batch(
    shape: tuple[int, ...], groups: int, axis: int, dtype: str
) -> None:
    x = 50 + random((7, *shape[1:]), dtype)
    x = x if axis == 1 else last(x)
    whole = run(x, groups, axis)
    for i in range(7):
        alone = run(x[i : i + 1], groups, axis)
        assert_same(alone, tuple(a[i : i + 1] for a in whole))


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_stay_in_their_group(
    isa: str, axis: int, bad: float, dtype: str
) -> None:
    clean = random((3, 24, 9, 5), dtype)
    clean = clean if axis == 1 else last(clean)
    expected = fastnorm.group_norm(clean, 8, channel_axis=axis)
    x = clean.copy()
    np.moveaxis(x, axis, 1)[1, 7, 2, 4] = bad
    y = np.moveaxis(fastnorm.group_norm(x, 8, channel_axis=axis), axis, 1).copy()
    wanted = np.moveaxis(expected, axis, 1).copy()
    assert not np.any(np.isfinite(y[1, 6:9])), isa
    y[1, 6:9] = wanted[1, 6:9] = 0
    assert same_bits(y, wanted)


# ---- Layouts --------------------------------------------------------------------


def views(x: Array) -> dict[str, Array]:
    """The values of x [N, C, H, W] in memory in many manners."""
    wide = np.zeros([2 * n for n in x.shape], x.dtype)
    steps = wide[tuple(slice(0, 2 * n, 2) for n in x.shape)]
    corner = np.zeros([n + 1 for n in x.shape], x.dtype)[tuple(map(slice, x.shape))]
    channels = np.zeros((x.shape[0], 2 * x.shape[1], *x.shape[2:]), x.dtype)[:, ::2]
    rows = np.zeros((x.shape[0], *x.shape[2:], x.shape[1] + 3), x.dtype)
    found = {
        "steps": steps,
        "corner": corner,
        "every other channel": channels,
        "backwards": np.zeros_like(x)[::-1, ::-1],
        "last": np.moveaxis(last(x), -1, 1),
        "cut last": np.moveaxis(rows[..., : x.shape[1]], -1, 1),
        "fortran": np.asfortranarray(x),
        "channels in front": np.zeros((x.shape[1], x.shape[0], *x.shape[2:]), x.dtype)
        .swapaxes(0, 1),
    }  # fmt: skip
    for view in found.values():
        view[...] = x
    return found


@pytest.mark.parametrize("name", list(views(np.zeros((1, 1, 1, 1)))))
@pytest.mark.usefixtures("either")
def test_every_layout_of_input_output_and_post_add(name: str, dtype: str) -> None:
    x, added = 9 + random((2, 6, 5, 4), dtype), random((2, 6, 5, 4), dtype, 1)
    exact = reference.group_norm(x, 3, post_add=added)
    view, more = views(x)[name], views(added)[name]
    for array in (x, view):
        for post in (added, more):
            y = fastnorm.group_norm(array, 3, post_add=post)
            assert_close(y, exact, 4)
            assert y.flags.c_contiguous
            out = views(np.zeros_like(x))[name]
            assert fastnorm.group_norm(array, 3, post_add=post, out=out) is out
            assert_close(out, exact, 4)
    assert fastnorm.group_norm(view, 3, out=view) is view
    assert_close(view, reference.group_norm(x, 3))
    assert np.array_equal(more, added)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2, -4])
@pytest.mark.usefixtures("either")
def test_any_axis_can_be_the_channels(axis: int, dtype: str) -> None:
    x = random((4, 6, 2, 8), dtype)
    weight, bias = affine(x.shape[axis], dtype)
    options = {"channel_axis": axis, "return_stats": True}
    found = fastnorm.group_norm(x, 2, weight, bias, **options)
    exact = reference.group_norm(x, 2, weight, bias, **options)
    for a, b in zip(found, exact, strict=True):
        assert a.shape == b.shape
        assert_close(a, b, 8)
    out = np.full_like(x, 9)
    fastnorm.group_norm(x, 2, weight, bias, channel_axis=axis, out=out)
    assert same_bits(out, found[0])


@pytest.mark.usefixtures("either")
def test_what_can_be_read_in_place_is_not_copied() -> None:
    x = np.ones((4, 16, 64, 64), np.float32)
    images = np.ones((4, 64, 64, 16), np.float32)
    halves, room = images.astype(np.float16), images.astype(np.int8)
    cut = np.ones((4, 32, 64, 64), np.float32)[:, ::2]
    seen = np.moveaxis(images, -1, 1)
    calls: dict[str, Callable[[], object]] = {
        "first": lambda: fastnorm.group_norm(x, 4, out=x),
        "last": lambda: fastnorm.group_norm(images, 4, channel_axis=-1, out=images),
        "seen as first": lambda: fastnorm.group_norm(seen, 4, out=seen),
        "in front": lambda: fastnorm.group_norm(
            x.swapaxes(0, 1), 4, channel_axis=0, out=x.swapaxes(0, 1)
        ),
        "cut": lambda: fastnorm.group_norm(cut, 4, out=cut),
        "post_add": lambda: fastnorm.group_norm(x, 4, out=x, post_add=cut),
        "16 to 8 bits": lambda: fastnorm.group_norm(
            halves, 4, channel_axis=-1, out_dtype="int8", out_scale=0.1, out=room
        ),
    }
    for name, call in calls.items():
        call()
        tracemalloc.start()
        try:
            call()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < x.nbytes / 2, name


@pytest.mark.usefixtures("either")
def test_interleaved_arrays_do_not_overlap(dtype: str) -> None:
    both = random((3, 4, 2, 5), dtype)
    x, out = both[:, :, 0], both[:, :, 1]
    wanted = reference.group_norm(x, 2)
    assert fastnorm.group_norm(x, 2, out=out) is out
    assert_close(out, wanted)


# ---- Second opinion -------------------------------------------------------------


@some
@pytest.mark.usefixtures("either")
def test_torch_says_the_same(shape: tuple[int, ...], groups: int, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    x, (weight, bias) = random(shape, dtype), affine(shape[1], dtype)
    theirs = torch.nn.functional.group_norm(
        *map(torch.from_numpy, (x,)), groups, *map(torch.from_numpy, (weight, bias))
    )
    y = fastnorm.group_norm(x, groups, weight, bias)
    tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(y, theirs.numpy(), rtol=tolerance, atol=tolerance)


# ---- What is refused ------------------------------------------------------------

X = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
REFUSED = [
    ({"num_groups": 3}, ValueError, "is 3, which does not divide 4 channels"),
    ({"num_groups": 0}, ValueError, "num_groups is 0, at least 1 is needed"),
    ({"num_groups": -2}, ValueError, "num_groups is -2, at least 1 is needed"),
    ({"num_groups": 8}, ValueError, "is 8, which does not divide 4 channels"),
    ({"num_groups": 2**70}, ValueError, f"num_groups is {2**70}, which does not"),
    ({"num_groups": 2.0}, TypeError, "num_groups is float, an integer is needed"),
    ({"input": X[0, 0]}, ValueError, "input has shape (3,), at least 2 axes are"),
    ({"input": X > 3}, TypeError, "input has dtype bool"),
    ({"input": np.ma.masked_array(X)}, TypeError, "input is a masked array"),
    ({"channel_axis": 3}, ValueError, "channel_axis is 3, input has 3 axes"),
    ({"weight": X[0, 0]}, ValueError, "weight has 3 values, the channel axis needs 4"),
    ({"bias": X[0]}, ValueError, "bias has 12 values, the channel axis needs 4"),
    ({"bias": np.ones(4)}, TypeError, "bias has dtype float64"),
    ({"eps": -1.0}, ValueError, "eps is -1.0, a finite number >= 0 is needed"),
    ({"num_threads": 0}, ValueError, "num_threads is 0, at least 1 is needed"),
    ({"out": X[:, :2].copy()}, ValueError, "out has shape (2, 2, 3)"),
    ({"out": X.astype("f8")}, TypeError, "out has dtype float64"),
    ({"mean": np.ones((2, 2), "f4")}, ValueError, "mean and var must come together"),
    ({"var": np.ones((2, 2), "f4")}, ValueError, "mean and var must come together"),
    (
        {"mean": np.ones((2, 2), "f4"), "var": np.ones((2, 4), "f4")},
        ValueError,
        "var has 8 values, num_groups needs 4",
    ),
    (
        {"mean": np.ones(4, "f4"), "var": np.ones((2, 2), "f4")},
        ValueError,
        "mean has shape (4,), num_groups needs (2, 2)",
    ),
    ({"post_add": X[:1]}, ValueError, "post_add has shape (1, 4, 3)"),
    ({"activation": "swoosh"}, ValueError, "activation is 'swoosh'"),
    ({"out_dtype": "int8"}, ValueError, "out_scale"),
    ({"out_scale": 1.0}, ValueError, "out_scale"),
    ({"in_scale": 1.0}, ValueError, "in_scale"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "kind", "text"), REFUSED)
@pytest.mark.usefixtures("either")
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    out = np.full_like(X, 9)
    arguments = {"input": X, "num_groups": 2, "out": out} | options
    arrays = [a for a in arguments.values() if isinstance(a, np.ndarray)]
    before = [a.tobytes() for a in arrays]
    with pytest.raises(kind, match=f"^group_norm: .*{re.escape(text)}"):
        fastnorm.group_norm(**arguments)
    assert before == [a.tobytes() for a in arrays]


@pytest.mark.parametrize("name", ["input", "weight", "bias", "post_add", "mean", "var"])
@pytest.mark.usefixtures("either")
def test_an_overlapping_output_is_refused(name: str) -> None:
    room = np.arange(64, dtype=np.float32)
    out = room[4:28].reshape(2, 4, 3)
    shapes = {"input": (2, 4, 3), "post_add": (2, 4, 3), "mean": (2, 2), "var": (2, 2)}
    shape = shapes.get(name, (4,))
    shared = room[5 : 5 + int(np.prod(shape))].reshape(shape)
    arguments: dict[str, Any] = {"input": X, "num_groups": 2, "out": out}
    if name in ("mean", "var"):
        arguments |= {"mean": np.ones((2, 2), "f4"), "var": np.ones((2, 2), "f4")}
    arguments[name] = shared
    before = room.tobytes()
    with pytest.raises(ValueError, match=f"^group_norm: out overlaps {name}$"):
        fastnorm.group_norm(**arguments)
    assert room.tobytes() == before


@pytest.mark.slow
@pytest.mark.usefixtures("either")
def test_ten_million_values_in_a_group_are_within_the_bound() -> None:
    x = (1e4 + random((1, 2, 5_000_000))).astype("float32")
    y = fastnorm.group_norm(x, 1)
    wide = x.astype("f8")
    wide -= wide.mean()
    wide -= wide.mean()
    assert_close(y, wide / np.sqrt(np.square(wide).mean() + 1e-5))
