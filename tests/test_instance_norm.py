# SPDX-License-Identifier: MIT
"""test_instance_norm.py - instance_norm against the exact result, on every ISA."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import BOUND, assert_close, error, hostile, random, same_bits

import fastnorm
from fastnorm import reference

Array = NDArray[Any]

SHAPES = [
    (1, 1, 2), (2, 3, 5), (3, 17, 7, 7), (2, 33, 14, 14), (1, 5, 3, 4, 6), (2, 2, 5000),
    (1, 1, 20011), (1, 515, 3), (4, 8, 64),
]  # fmt: skip
EMPTY = [(0, 3, 4), (2, 0, 4), (2, 3, 0)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def parameters(channels: int, dtype: str) -> list[Array]:
    """Weight, bias, running mean, running variance."""
    rows = [random(channels, dtype, seed) for seed in range(3)]
    return [*rows, np.abs(random(channels, dtype, 3)) + np.asarray(0.1, dtype)]


def last(x: Array) -> Array:
    """The same images, packed with the channels last."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


@shapes
@pytest.mark.parametrize("layout", ["first", "last"])
@pytest.mark.usefixtures("backend")
def test_every_shape_is_within_the_bound(
    shape: tuple[int, ...], layout: str, dtype: str
) -> None:
    x = 1e3 + random(shape, dtype)
    weight, bias, _, _ = parameters(shape[1], dtype)
    exact, exact_mean, exact_rstd = reference.instance_norm(x, return_stats=True)
    full = reference.instance_norm(x, None, None, weight, bias)
    axis = 1
    if layout == "last":
        x, axis = last(x), -1
    y, mean, rstd = fastnorm.instance_norm(x, channel_axis=axis, return_stats=True)
    assert mean.shape == rstd.shape == shape[:2]
    assert y.dtype == mean.dtype == rstd.dtype == x.dtype
    assert_close(np.moveaxis(y, axis, 1), exact)
    assert_close(mean, exact_mean)
    assert error(rstd / exact_rstd, np.ones(shape[:2])) <= BOUND[x.dtype]
    y = fastnorm.instance_norm(x, None, None, weight, bias, channel_axis=axis)
    assert_close(np.moveaxis(y, axis, 1), full, 2 * np.abs(full) + 4)


@shapes
@pytest.mark.parametrize("layout", ["first", "last"])
@pytest.mark.parametrize("momentum", [0.1, 1.0])
@pytest.mark.usefixtures("backend")
def test_running_statistics_are_updated_and_applied(
    shape: tuple[int, ...], layout: str, momentum: float, dtype: str
) -> None:
    x = 2 + random(shape, dtype)
    weight, bias, mean, var = parameters(shape[1], dtype)
    exact_mean, exact_var = mean.astype("f8"), var.astype("f8")
    exact = reference.instance_norm(x, exact_mean, exact_var, momentum=momentum)
    axis = 1
    if layout == "last":
        x, axis = last(x), -1
    y = fastnorm.instance_norm(x, mean, var, momentum=momentum, channel_axis=axis)
    assert_close(np.moveaxis(y, axis, 1), exact)
    assert_close(mean, exact_mean)
    assert_close(var, exact_var)
    kept = mean.copy(), var.copy()
    stored, used, rstd = fastnorm.instance_norm(
        x, mean, var, weight, bias, False, channel_axis=axis, return_stats=True
    )
    exact = reference.instance_norm(x, *kept, weight, bias, False, channel_axis=axis)
    assert_close(stored, exact, 2 * np.abs(exact) + 4)
    assert same_bits(mean, kept[0]) and same_bits(var, kept[1])
    assert same_bits(used, np.tile(mean, (shape[0], 1)))
    wanted = np.tile(1 / np.sqrt(var.astype("f8") + 1e-5), (shape[0], 1))
    assert error(rstd / wanted, np.ones(shape[:2])) <= BOUND[x.dtype]
    plain = fastnorm.batch_norm(x, mean, var, weight, bias, channel_axis=axis)
    assert_close(stored, plain, 2 * np.abs(exact) + 4)


@pytest.mark.usefixtures("either")
def test_zero_momentum_leaves_the_running_statistics() -> None:
    _, _, mean, var = parameters(5, "float32")
    kept = mean.copy(), var.copy()
    fastnorm.instance_norm(random((6, 5, 4)), mean, var, momentum=0.0)
    assert same_bits(mean, kept[0]) and same_bits(var, kept[1])


@pytest.mark.parametrize("shape", EMPTY, ids=str)
@pytest.mark.usefixtures("either")
def test_an_empty_batch_leaves_the_running_statistics(shape: tuple[int, ...]) -> None:
    c = shape[1]
    mean, var = np.full(c, 2.0), np.full(c, 3.0)
    y, used, rstd = fastnorm.instance_norm(
        np.empty(shape), mean, var, return_stats=True
    )
    assert y.shape == shape and np.all(mean == 2) and np.all(var == 3)
    assert used.shape == rstd.shape == shape[:2] and np.all(np.isnan(used))


@pytest.mark.parametrize("n", [2, 6, 64, 516, 4096])
@pytest.mark.parametrize("layout", ["first", "last"])
@pytest.mark.parametrize("eps", [1e-5, 0.0])
@pytest.mark.usefixtures("backend")
def test_hostile_instances_are_within_the_bound(
    n: int, layout: str, eps: float, dtype: str
) -> None:
    rows = hostile(n, dtype)
    x = np.stack(list(rows.values()))[np.newaxis]
    exact = reference.instance_norm(x, eps=eps)[0]
    if layout == "last":
        y = fastnorm.instance_norm(last(x), eps=eps, channel_axis=-1)[0].T
    else:
        y = fastnorm.instance_norm(x, eps=eps)[0]
    errors = {
        name: e
        for name, a, b in zip(rows, y, exact, strict=True)
        if (e := error(a, b)) > BOUND[x.dtype]
    }
    assert not errors


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.usefixtures("backend")
def test_a_constant_instance_gives_exactly_the_bias(axis: int, dtype: str) -> None:
    shape = (3, 6, 7, 11) if axis == 1 else (3, 7, 11, 6)
    weight, bias, _, _ = parameters(6, dtype)
    y = fastnorm.instance_norm(
        np.full(shape, 3.3, dtype), None, None, weight, bias, channel_axis=axis
    )
    wanted = bias.reshape(1, 6, 1, 1) if axis == 1 else bias
    np.testing.assert_array_equal(y, np.broadcast_to(wanted, shape))


@shapes
@pytest.mark.usefixtures("either")
def test_it_is_group_norm_with_a_channel_in_each_group(
    shape: tuple[int, ...], dtype: str
) -> None:
    x = 5 + random(shape, dtype)
    weight, bias, _, _ = parameters(shape[1], dtype)
    for array, axis in ((x, 1), (last(x), -1)):
        found = fastnorm.instance_norm(
            array, None, None, weight, bias, channel_axis=axis, return_stats=True
        )
        wanted = fastnorm.group_norm(
            array, shape[1], weight, bias, channel_axis=axis, return_stats=True
        )
        for a, b in zip(found, wanted, strict=True):
            assert same_bits(a, b)


@shapes
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("own", [True, False])
def test_same_bits_whatever_runs_it(
    isa: str, shape: tuple[int, ...], axis: int, own: bool, dtype: str
) -> None:
    x = 50 + random(shape, dtype)
    x = x if axis == 1 else last(x)
    weight, bias, mean, var = parameters(shape[1], dtype)

    def run(x: Array, **options: Any) -> tuple[Array, ...]:
        m, v = mean.copy(), var.copy()
        y = fastnorm.instance_norm(
            x, m, v, weight, bias, own, channel_axis=axis, return_stats=True, **options
        )
        return (*y, m, v)

    found = run(x, num_threads=1)
    inside = x.copy()
    others = [run(x, num_threads=t) for t in (2, 3, 5)]
    others.append(run(inside, out=inside))
    fastnorm.set_isa("portable")
    others.append(run(x))
    for other in others:
        for i, (a, b) in enumerate(zip(other, found, strict=True)):
            assert same_bits(a, b), (isa, i)


@pytest.mark.parametrize("axis", [1, -1])
def test_bits_do_not_depend_on_the_other_channels_or_a_mask(
    isa: str, axis: int
) -> None:
    # The mean is 100 and so little that one double does not hold all of both.
    x = np.full((1, 2, 200), 100, np.float32)
    x[0, 0, 7] = np.nextafter(x[0, 0, 7], np.float32(101))
    beside = x.copy()
    beside[0, 1] = 3e38 * (-1.0) ** np.arange(200)  # out of range: the slow way
    longer = np.concatenate([x, x[..., :9] + 5], 2)
    mask = np.arange(209) < 200

    def first(x: Array, **options: Any) -> Array:
        x = x if axis == 1 else last(x)
        y = fastnorm.instance_norm(x, channel_axis=axis, **options)
        return np.moveaxis(y, axis, 1)[0, 0, :200].copy()

    assert same_bits(first(beside), first(x)), isa
    part = mask if axis == 1 else mask[:, None]
    assert same_bits(first(longer, mask=part), first(x)), isa


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("own", [True, False])
def test_nan_and_inf_stay_in_their_instance(
    isa: str, axis: int, own: bool, dtype: str
) -> None:
    clean = random((3, 19, 5, 7), dtype)
    mean, var = np.zeros(19, dtype), np.ones(19, dtype)
    for bad in (np.nan, np.inf):
        x = clean.copy()
        x[1, 7, 2, 3] = bad
        y, wanted = (
            np.moveaxis(
                fastnorm.instance_norm(
                    a if axis == 1 else last(a), mean.copy(), var.copy(),
                    use_input_stats=own, channel_axis=axis,
                ),
                axis,
                1,
            ).copy()
            for a in (x, clean)
        )  # fmt: skip
        assert not np.isfinite(y[1, 7, 2, 3]), isa
        if own:
            assert not np.any(np.isfinite(y[1, 7]))
            y[1, 7] = wanted[1, 7] = 0
        else:
            y[1, 7, 2, 3] = wanted[1, 7, 2, 3] = 0
        assert same_bits(y, wanted)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.usefixtures("either")
def test_any_axis_can_be_the_channels(axis: int, own: bool, dtype: str) -> None:
    x = random((4, 6, 2, 8), dtype)
    weight, bias, mean, var = parameters(x.shape[axis], dtype)
    exact_mean, exact_var = mean.copy(), var.copy()
    exact = reference.instance_norm(
        x, exact_mean, exact_var, weight, bias, own, channel_axis=axis
    )
    wide = np.zeros([2 * n for n in x.shape], dtype)
    steps = wide[tuple(slice(0, 2 * n, 2) for n in x.shape)]
    out = steps.copy()
    steps[...] = x
    running = np.repeat(mean, 2)[::2], var[::-1].copy()[::-1]
    y = fastnorm.instance_norm(
        steps, *running, weight, bias, own, channel_axis=axis, out=out[::1]
    )
    assert_close(y, exact, 2 * np.abs(exact) + 4)
    assert_close(running[0].copy(), exact_mean)
    assert_close(running[1].copy(), exact_var)


# ---- Second opinion -------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 5, 7), (2, 5, 6, 3), (1, 5, 4, 3, 2)], ids=str)
@pytest.mark.parametrize("momentum", [0.1, 0.7])
@pytest.mark.usefixtures("either")
def test_torch_says_the_same(
    shape: tuple[int, ...], momentum: float, dtype: str
) -> None:
    torch = pytest.importorskip("torch")
    weight, bias, mean, var = parameters(5, dtype)
    tensors = [torch.from_numpy(a.copy()) for a in (mean, var, weight, bias)]
    norm = torch.nn.functional.instance_norm
    close = {"rtol": 2e-5, "atol": 2e-5} if dtype == "float32" else {"rtol": 1e-9}
    for step in range(3):
        x = 3 + random(shape, dtype, seed=10 + step)
        for own in (True, False):
            y = fastnorm.instance_norm(x, mean, var, weight, bias, own, momentum)
            z = norm(torch.from_numpy(x), *tensors, own, momentum)
            np.testing.assert_allclose(y, z.numpy(), **close)
            np.testing.assert_allclose(mean, tensors[0].numpy(), **close)
            np.testing.assert_allclose(var, tensors[1].numpy(), **close)
    np.testing.assert_allclose(
        fastnorm.instance_norm(x), norm(torch.from_numpy(x)).numpy(), **close
    )


@pytest.mark.parametrize("shape", [(2, 3, 1), (2, 3), (2, 3, 1, 1), (0, 3, 1)], ids=str)
@pytest.mark.usefixtures("either")
def test_what_torch_refuses_is_refused(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        torch.nn.functional.instance_norm(torch.zeros(shape))
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        fastnorm.instance_norm(np.zeros(shape))
    assert fastnorm.instance_norm(
        np.zeros(shape), np.zeros(3), np.ones(3), use_input_stats=False
    ).shape == shape  # fmt: skip


# ---- What is refused ------------------------------------------------------------

X = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
M, V = np.zeros(4, np.float32), np.ones(4, np.float32)
READ_ONLY = V.copy()
READ_ONLY.flags.writeable = False
REFUSED = [
    ({"input": X[0, 0]}, ValueError, "input has shape (3,), at least 2 axes are"),
    (
        {"input": X[..., :1]},
        ValueError,
        "more than 1 spatial element with use_input_stats=True, input has shape (2, 4",
    ),
    ({"channel_axis": -4}, ValueError, "channel_axis is -4, input has 3 axes"),
    ({"running_mean": None}, ValueError, "and running_var must come together"),
    ({"running_var": None}, ValueError, "and running_var must come together"),
    (
        {"running_mean": None, "running_var": None, "use_input_stats": False},
        ValueError,
        "running_mean and running_var are None, which needs use_input_stats=True",
    ),
    ({"running_mean": [0.0] * 4}, TypeError, "running_mean is list"),
    ({"running_var": READ_ONLY}, ValueError, "running_var is read-only"),
    ({"running_var": V[:3]}, ValueError, "running_var has 3 values, the channel axis"),
    ({"running_mean": M.astype("f8")}, TypeError, "running_mean has dtype float64"),
    ({"momentum": 1.5}, ValueError, "momentum is 1.5, a number from 0 to 1 is needed"),
    ({"momentum": -0.5}, ValueError, "momentum is -0.5, a number from 0 to 1"),
    ({"momentum": np.nan}, ValueError, "momentum is nan"),
    ({"momentum": None}, TypeError, "momentum is NoneType, a real number is needed"),
    ({"weight": V[:2]}, ValueError, "weight has 2 values, the channel axis needs 4"),
    ({"eps": np.inf}, ValueError, "eps is inf, a finite number >= 0 is needed"),
    ({"out": X.astype("f8")}, TypeError, "out has dtype float64"),
    ({"num_threads": 0}, ValueError, "num_threads is 0, at least 1 is needed"),
    ({"activation": ("clamp", 2, 1)}, ValueError, "activation"),
    ({"out_dtype": "uint8"}, ValueError, "out_scale"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "kind", "text"), REFUSED)
@pytest.mark.usefixtures("either")
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    out = np.full_like(options.get("input", X), 9)
    arguments = {
        "input": X, "running_mean": M.copy(), "running_var": V.copy(), "out": out
    } | options  # fmt: skip
    arrays = [a for a in arguments.values() if isinstance(a, np.ndarray)]
    before = [a.tobytes() for a in arrays]
    with pytest.raises(kind, match=f"^instance_norm: .*{re.escape(text)}"):
        fastnorm.instance_norm(**arguments)
    assert before == [a.tobytes() for a in arrays]


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
@pytest.mark.parametrize("other", ["input", "weight", "out", "post_add"])
@pytest.mark.usefixtures("either")
def test_running_statistics_that_overlap_are_refused(name: str, other: str) -> None:
    x, out, post = X.copy(), np.zeros_like(X), X.copy()
    arguments: dict[str, Any] = {
        "input": x, "running_mean": M.copy(), "running_var": V.copy(),
        "weight": V.copy(), "out": out, "post_add": post,
    }  # fmt: skip
    arguments[name] = arguments[other].reshape(-1)[:4]
    before = [a.tobytes() for a in arguments.values()]
    with pytest.raises(ValueError, match=f"^instance_norm: {name} overlaps|^instance_n"
                       f"orm: out overlaps {name}"):  # fmt: skip
        fastnorm.instance_norm(**arguments)
    assert before == [a.tobytes() for a in arguments.values()]
