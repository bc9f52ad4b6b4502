# SPDX-License-Identifier: MIT
"""test_masks_statistics.py - masks: counts, running statistics, hostile data, types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channel_cases import assert_rounded, assert_steps
from numpy.typing import NDArray
from oracle import BOUND, assert_close, error, hostile, random, same_bits

import fastnorm
from fastnorm import reference

Array = NDArray[Any]
axes = pytest.mark.parametrize("axis", [1, 2])


def interleaved(rows: Array, seed: int = 1) -> tuple[Array, Array]:
    """Rows [C, n] among as much garbage, [C, 2 n], and where they are, [2 n]."""
    n = rows.shape[1]
    part = np.zeros(2 * n, bool)
    part[np.random.default_rng(seed).permutation(2 * n)[:n]] = True
    x = np.full((len(rows), 2 * n), np.nan, rows.dtype)
    x[:, part] = rows
    return x, part


@pytest.mark.parametrize("layout", ["first", "last", "elements first", "elements last"])
@pytest.mark.parametrize("n", [2, 17, 64, 4096])
@pytest.mark.parametrize("eps", [1e-5, 0.0])
@pytest.mark.usefixtures("isa")
def test_hostile_channels_are_within_the_bound(
    layout: str, n: int, eps: float, dtype: str
) -> None:
    rows = hostile(n, dtype)
    x, part = interleaved(np.stack(list(rows.values())))
    x, mask = x[None], part[None, None]
    if layout.endswith("last"):
        x, mask = np.ascontiguousarray(x.transpose(0, 2, 1)), part[None, :, None]
    if layout.startswith("elements"):
        mask = np.broadcast_to(mask, x.shape).copy()
        mask[..., -1] &= x.shape[-1] < 0  # one channel (or position) has nothing
    axis = 2 if layout.endswith("last") else 1
    options: dict[str, Any] = {"eps": eps, "channel_axis": axis, "mask": mask}
    y = fastnorm.batch_norm(x, None, None, training=True, **options)
    exact: Any = reference.batch_norm(x, None, None, training=True, **options)
    groups = fastnorm.group_norm(x, x.shape[axis], **options)
    errors = {}
    for i, name in enumerate(rows):
        wanted = exact.take(i, axis)
        for found in (y, groups):
            e = error(found.take(i, axis), wanted)
            if e > BOUND[x.dtype]:
                errors[name] = e
    assert not errors


@pytest.mark.parametrize("per", [1, 3, 7])
@pytest.mark.parametrize("n", [3, 40, 700])
@axes
@pytest.mark.parametrize("elements", [False, True])
def test_hostile_groups_are_within_the_bound(
    per: int, n: int, axis: int, elements: bool, dtype: str
) -> None:
    rows = hostile(per * n, dtype)
    x, part = interleaved(np.stack(list(rows.values())).reshape(-1, n), seed=n)
    x, mask = x[None], part[None, None]
    if axis == 2:
        x, mask = np.ascontiguousarray(x.transpose(0, 2, 1)), part[None, :, None]
    if elements:
        mask = np.broadcast_to(mask, x.shape).copy()
        mask[0, 1, 0] = False
    for groups in (len(rows), 1):
        given = x if groups > 1 else x[..., : 3 * per] if axis == 2 else x[:, : 3 * per]
        part = (
            mask if mask.shape[axis] == 1 else mask.take(range(given.shape[axis]), axis)
        )
        options: dict[str, Any] = {"eps": 0.0, "channel_axis": axis, "mask": part}
        y = fastnorm.group_norm(given, groups, **options)
        exact = reference.group_norm(given, groups, **options)
        wrong = np.abs(y - exact) > BOUND[x.dtype] * np.maximum(1, np.abs(exact))
        assert not np.any(wrong), list(rows)[np.argwhere(wrong)[0][axis] // per]


@axes
@pytest.mark.parametrize("scale", [1e30, 1e-30])
@pytest.mark.parametrize("per", [3, 5, 7])
def test_groups_out_of_range_have_the_bits_of_what_takes_part_alone(
    axis: int, scale: float, per: int
) -> None:
    x = (scale * random((1, 2 * per, 500))).astype("f4")
    part = np.random.default_rng(3).random(500) < 0.5
    given = np.where(part, x, np.float32(np.nan))
    alone = np.ascontiguousarray(x[..., part])
    if axis == 2:
        given, alone = (
            np.ascontiguousarray(a.transpose(0, 2, 1)) for a in (given, alone)
        )
    mask = part if axis == 1 else part[:, None]
    for groups in (1, 2):
        y = fastnorm.group_norm(given, groups, eps=0.0, mask=mask, channel_axis=axis)
        wanted = fastnorm.group_norm(alone, groups, eps=0.0, channel_axis=axis)
        taken = y[..., part] if axis == 1 else y[:, part]
        assert same_bits(taken, wanted)


@pytest.mark.parametrize("momentum", [0.1, 1.0])
@axes
@pytest.mark.parametrize("elements", [False, True])
def test_running_statistics_are_those_of_the_true_counts(
    momentum: float, axis: int, elements: bool, dtype: str
) -> None:
    x = 5 + random((3, 4, 50), dtype)
    mask = np.random.default_rng(2).random((3, 4 if elements else 1, 50)) < 0.5
    if elements:
        mask[:, 2] = False
    wide = np.where(mask, x, 0).astype("f8")
    count = np.broadcast_to(mask, x.shape).sum((0, 2))
    mean = np.full(4, 2.0, dtype)
    var = np.full(4, 3.0, dtype)
    if axis == 2:
        x = np.ascontiguousarray(x.transpose(0, 2, 1))
        given = mask.transpose(0, 2, 1)
    else:
        given = mask
    fastnorm.batch_norm(
        x, mean, var, training=True, momentum=momentum, mask=given, channel_axis=axis
    )
    with np.errstate(invalid="ignore"):
        found = wide.sum((0, 2)) / count
        rest = np.where(mask, wide - found[:, None], 0)
        spread = np.square(rest).sum((0, 2)) / (count - 1)
    assert_close(mean, np.where(count, (1 - momentum) * 2 + momentum * found, 2))
    assert_close(var, np.where(count, (1 - momentum) * 3 + momentum * spread, 3))


@axes
@pytest.mark.parametrize("elements", [False, True])
def test_instances_enter_the_running_statistics_by_their_counts(
    axis: int, elements: bool, dtype: str
) -> None:
    x = 5 + random((3, 4, 50), dtype)
    lengths = np.array([50, 0, 7])
    mask = np.broadcast_to(np.arange(50) < lengths[:, None, None], x.shape).copy()
    if elements:
        mask[0, 1, 20:] = False
        mask[:, 2] = False
    options: dict[str, Any] = {"mask": mask} if elements else {"lengths": lengths}
    if axis == 2:
        x = np.ascontiguousarray(x.transpose(0, 2, 1))
        mask = mask.transpose(0, 2, 1)
        options = {"mask": mask} if elements else options
    arrays = [(np.full(4, 2.0, dtype), np.full(4, 3.0, dtype)) for _ in range(2)]
    for module, (mean, var) in zip((fastnorm, reference), arrays, strict=True):
        module.instance_norm(x, mean, var, momentum=0.3, channel_axis=axis, **options)
    for found, wanted in zip(*arrays, strict=True):
        assert_close(found, wanted)
    counts = mask.sum(axis=1 if axis == 2 else 2).astype("f8")
    wide = np.where(mask, x, 0).astype("f8").sum(axis=1 if axis == 2 else 2)
    total = counts.sum(0)
    with np.errstate(invalid="ignore"):
        expected = np.where(total, 0.7 * 2 + 0.3 * wide.sum(0) / total, 2)
    assert_close(arrays[0][0], expected)


def test_equal_counts_are_instances_of_that_length(dtype: str) -> None:
    x = 5 + random((3, 4, 50), dtype)
    found, wanted = ((np.full(4, 2.0, dtype), np.full(4, 3.0, dtype)) for _ in range(2))
    fastnorm.instance_norm(x, *found, lengths=[20, 20, 20])
    fastnorm.instance_norm(np.ascontiguousarray(x[..., :20]), *wanted)
    assert all(map(same_bits, found, wanted))


def test_cumulative_statistics_count_batches(dtype: str) -> None:
    mean, var = np.zeros(2, dtype), np.zeros(2, dtype)
    batches = [random((3, 2, 9), dtype, seed) for seed in range(4)]
    lengths = [[9, 4, 2], [1, 1, 1], [0, 9, 0], [3, 3, 3]]
    for i, (x, n) in enumerate(zip(batches, lengths, strict=True)):
        fastnorm.batch_norm(
            x, mean, var, training=True, momentum=None, num_batches_tracked=i, lengths=n
        )
    found = [
        fastnorm.moments(x, (0, 2), ddof=1, lengths=n)
        for x, n in zip(batches, lengths, strict=True)
    ]
    tolerance = 10 * BOUND[mean.dtype]
    wanted = np.mean([m.mean for m in found], 0)
    np.testing.assert_allclose(mean, wanted, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(
        var, np.mean([m.var for m in found], 0), rtol=tolerance, atol=tolerance
    )


@axes
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("masked", ["zero", "keep"])
def test_16_bit_elements(name: str, axis: int, masked: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    short = np.dtype(np.float16 if name == "float16" else ml_dtypes.bfloat16)
    x = (3 + random((3, 6, 40))).astype(short)
    part = np.random.default_rng(3).random((3, 1, 40)) < 0.6
    if axis == 2:
        x, part = np.ascontiguousarray(x.transpose(0, 2, 1)), part.transpose(0, 2, 1)
    mask = np.broadcast_to(part, x.shape)
    x[~mask] = np.inf
    options: dict[str, Any] = {"channel_axis": axis, "mask": part, "masked": masked}
    for norm in ("batch_norm", "group_norm", "instance_norm"):
        args: tuple[Any, ...] = {"batch_norm": (None, None), "group_norm": (2,)}.get(
            norm, ()
        )
        more = {"training": True} if norm == "batch_norm" else {}
        y = getattr(fastnorm, norm)(x, *args, **more, **options)
        exact = getattr(reference, norm)(x, *args, **more, **options)
        assert y.dtype == short
        assert_rounded(y[mask], exact[mask])
        rest = x[~mask] if masked == "keep" else np.zeros_like(x[~mask])
        assert same_bits(y[~mask], rest)
        wide = getattr(fastnorm, norm)(
            x, *args, **more, **options, out_dtype=np.float32
        )
        assert same_bits(wide[~mask], rest.astype("f4"))


@axes
def test_what_is_kept_is_converted_and_nothing_else(axis: int) -> None:
    x = (3 + random((3, 6, 40))).astype(np.float16)
    mask = np.random.default_rng(3).random((3, 1, 40)) < 0.6
    mask[1] = False
    if axis == 2:
        x, mask = np.ascontiguousarray(x.transpose(0, 2, 1)), mask.transpose(0, 2, 1)
    y = fastnorm.group_norm(
        x, 3, mask=mask, masked="keep", channel_axis=axis, activation="sigmoid",
        post_add=random(x.shape, seed=9), out_dtype=np.float32,
    )  # fmt: skip
    left_out = ~np.broadcast_to(mask, x.shape)
    assert same_bits(y[left_out], x[left_out].astype("f4"))
    assert np.all((y[~left_out] > 0) & (y[~left_out] < 1))


@axes
@pytest.mark.parametrize("masked", ["zero", "keep"])
@pytest.mark.parametrize("elements", [False, True])
def test_bytes_in_and_out(axis: int, masked: str, elements: bool) -> None:
    rng = np.random.default_rng(6)
    x = rng.integers(0, 256, (3, 6, 40)).astype(np.uint8)
    mask = rng.random((3, 6 if elements else 1, 40)) < 0.6
    if axis == 2:
        x, mask = np.ascontiguousarray(x.transpose(0, 2, 1)), mask.transpose(0, 2, 1)
    options: dict[str, Any] = {
        "channel_axis": axis, "mask": mask, "masked": masked, "in_scale": 0.02,
        "in_zero_point": 100, "out_scale": 0.05, "out_zero_point": -7,
        "out_dtype": np.int8, "training": True,
    }  # fmt: skip
    y = fastnorm.batch_norm(x, None, None, **options)
    plain = dict.fromkeys(("out_dtype", "out_scale", "out_zero_point"))
    exact = reference.batch_norm(x, None, None, **options | plain)
    assert_steps(y, exact, 0.05, -7)
    left_out = ~np.broadcast_to(mask, x.shape)
    if masked == "zero":
        assert np.all(y[left_out] == -7)
    same: dict[str, Any] = options | {
        "out_dtype": np.uint8, "out_scale": 0.02, "out_zero_point": 100,
        "masked": "keep",
    }  # fmt: skip
    y = fastnorm.batch_norm(x, None, None, **same)
    assert same_bits(y[left_out], x[left_out])
    y = fastnorm.batch_norm(x, None, None, **same | {"out_zero_point": 90})
    moved = np.maximum(x[left_out].astype(int) - 10, 0)
    assert np.array_equal(y[left_out], moved)


@axes
@pytest.mark.parametrize("kind", ["lengths", "mask", "elements"])
def test_zero_comes_after_post_add_and_activation(
    axis: int, kind: str, dtype: str
) -> None:
    shape = (3, 6, 40) if axis == 1 else (3, 40, 6)
    x, added = random(shape, dtype), random(shape, dtype, 1)
    part = np.arange(40) < np.array([40, 0, 13])[:, None]
    part = part[:, None] if axis == 1 else part[:, :, None]
    added[~np.broadcast_to(part, shape)] = np.nan
    options: dict[str, Any] = {
        "channel_axis": axis, "training": True, "post_add": added,
        "activation": "sigmoid", "bias": np.ones(6, dtype),
    }  # fmt: skip
    kinds: dict[str, dict[str, Any]] = {
        "lengths": {"lengths": [40, 0, 13]},
        "mask": {"mask": part},
        "elements": {"mask": np.broadcast_to(part, shape).copy()},
    }
    options |= kinds[kind]
    y = fastnorm.batch_norm(x, None, None, **options)
    exact = reference.batch_norm(x, None, None, **options)
    assert_close(y, exact, 8)
    assert not np.any(y[~np.broadcast_to(part, shape)])


def test_weights_out_of_range_and_channels_of_nothing() -> None:
    x = random((4, 3, 10))
    mask = np.ones((4, 3, 10), bool)
    mask[:, 1] = False
    weight = np.array([1, 1e30, 1e-30], np.float32)
    for axis in (1, 2):
        given = (
            (x, mask) if axis == 1 else (x.transpose(0, 2, 1), mask.transpose(0, 2, 1))
        )
        y = fastnorm.batch_norm(
            np.ascontiguousarray(given[0]), None, None, weight, training=True,
            mask=given[1], channel_axis=axis,
        )  # fmt: skip
        assert not np.any(y.take(1, axis)) and np.all(y.take(2, axis) != 0)


@axes
@pytest.mark.parametrize("elements", [False, True])
def test_stored_statistics_out_of_range(axis: int, elements: bool) -> None:
    x = random((4, 6, 30))
    mean = np.array([0, 1e30, -1e30, 0, 3, 0], np.float32)
    var = np.array([1, 1, 1e-30, 1e30, 1e-38, 0], np.float32)
    mask = np.random.default_rng(5).random((4, 6 if elements else 1, 30)) < 0.5
    if axis == 2:
        x, mask = np.ascontiguousarray(x.transpose(0, 2, 1)), mask.transpose(0, 2, 1)
    options: dict[str, Any] = {"channel_axis": axis, "eps": 1e-37}
    y = fastnorm.batch_norm(x, mean, var, mask=mask, **options)
    plain = fastnorm.batch_norm(x, mean, var, **options)
    assert same_bits(y, np.where(mask, plain, np.float32(0)))
