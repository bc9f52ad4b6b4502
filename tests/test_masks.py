# SPDX-License-Identifier: MIT
"""test_masks.py - masks and lengths: the bits of what takes part alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import assert_close, random, same_bits

import fastnorm
from fastnorm import reference

Array = NDArray[Any]
BAD = [np.nan, np.inf, -np.inf, 3e38, -1e-40]
SHAPES = [
    (3, 5, 7), (2, 3, 1000), (4, 70, 50), (2, 2, 40_000), (5, 33, 64), (1, 4, 9),
    (3, 6, 130),
]  # fmt: skip
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
KINDS = ["lengths", "random", "blocks", "aligned"]
kinds = pytest.mark.parametrize("kind", KINDS)
axes = pytest.mark.parametrize("axis", [1, 2])


def pattern(kind: str, n: int, t: int, seed: int = 3) -> Array:
    """What takes part of [n, t]; at least two of the first sample do."""
    rng = np.random.default_rng(seed)
    part = rng.random((n, t)) < 0.6
    if kind == "lengths":
        part = np.arange(t) < rng.integers(0, t + 1, (n, 1))
    elif kind == "blocks":
        part = np.sin(np.arange(n * t) / (3 + t / 20)).reshape(n, t) < 0.3
    elif kind == "aligned":
        part[:] = np.arange(t) // 256 % 2 == 0
        part[-1, -1] = False
    part[0, :2] = True
    if kind == "lengths":
        part[0] = np.arange(t) < max(2, part[0].sum())
    return part


def poisoned(x: Array, part: Array) -> Array:
    """Numbers that would spoil any statistics where nothing takes part."""
    with np.errstate(over="ignore"):
        bad = np.resize(np.array(BAD, np.float64), x.shape).astype(x.dtype)
    return np.where(part, x, bad)


def given(kind: str, part: Array, axis: int) -> dict[str, Any]:
    """The keyword that says so of [N, C, T], or [N, T, C] where axis is 2."""
    if kind == "lengths":
        return {"lengths": part.sum(1)}
    return {"mask": part[:, None, :] if axis == 1 else part[:, :, None]}


def placed(x: Array, axis: int) -> Array:
    return x if axis == 1 else np.ascontiguousarray(x.transpose(0, 2, 1))


def packed(x: Array, part: Array, axis: int) -> Array:
    """[1, C, count] or [count, C]: what takes part of [N, C, T], one after another."""
    columns = x.transpose(1, 0, 2)[:, part]
    return np.ascontiguousarray(columns[None] if axis == 1 else columns.T)


def taken(y: Array, part: Array, axis: int) -> Array:
    return packed(y if axis == 1 else y.transpose(0, 2, 1), part, axis)


def left_out(y: Array, part: Array, axis: int) -> Array:
    rest = y if axis == 1 else y.transpose(0, 2, 1)
    return rest.transpose(1, 0, 2)[:, ~part]


def parameters(channels: int, dtype: str) -> list[Array]:
    rows = [random(channels, dtype, seed) for seed in range(3)]
    return [*rows, np.abs(random(channels, dtype, 3)) + np.asarray(0.1, dtype)]


@shapes
@kinds
@axes
@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.usefixtures("isa")
def test_batch_norm_has_the_bits_of_what_takes_part_alone(
    shape: tuple[int, int, int], kind: str, axis: int, offset: float, dtype: str
) -> None:
    n, c, t = shape
    x = offset + random(shape, dtype)
    part = pattern(kind, n, t)
    bad = placed(poisoned(x, part[:, None]), axis)
    alone = packed(x, part, axis)
    weight, bias, mean, var = parameters(c, dtype)
    running = [(mean.copy(), var.copy()) for _ in range(2)]
    options: dict[str, Any] = {"channel_axis": axis, **given(kind, part, axis)}
    y, *stats = fastnorm.batch_norm(
        bad, *running[0], weight, bias, True, return_stats=True, **options
    )
    wanted, *wanted_stats = fastnorm.batch_norm(
        alone, *running[1], weight, bias, True, return_stats=True
    )
    assert same_bits(taken(y, part, axis), wanted)
    assert not np.any(left_out(y, part, axis))
    assert all(map(same_bits, stats, wanted_stats))
    assert all(map(same_bits, *running))
    y = fastnorm.batch_norm(bad, mean, var, weight, bias, masked="keep", **options)
    wanted = fastnorm.batch_norm(alone, mean, var, weight, bias)
    assert same_bits(taken(y, part, axis), wanted)
    assert same_bits(left_out(y, part, axis), left_out(bad, part, axis))


@shapes
@kinds
@axes
@pytest.mark.parametrize("instance", [False, True])
@pytest.mark.usefixtures("isa")
def test_groups_have_the_bits_of_what_takes_part_alone(
    shape: tuple[int, int, int], kind: str, axis: int, instance: bool, dtype: str
) -> None:
    n, c, t = shape
    x = 100 + random(shape, dtype)
    part = pattern(kind, n, t)
    if instance:  # one value has no variance
        part[part.sum(1) == 1] = False
    bad = placed(poisoned(x, part[:, None]), axis)
    weight, bias = parameters(c, dtype)[:2]
    groups = next(g for g in (5, 3, 2) if c % g == 0)

    def run(x: Array, **options: Any) -> Any:
        options |= {"channel_axis": axis, "return_stats": True}
        if instance:
            return fastnorm.instance_norm(x, None, None, weight, bias, **options)
        return fastnorm.group_norm(x, groups, weight, bias, **options)

    y, mean, rstd = run(bad, **given(kind, part, axis))
    for i in range(n):
        own = part[i : i + 1]
        assert not np.any(left_out(y[i : i + 1], own, axis))
        if not np.any(own):
            assert not np.any(mean[i]) and not np.any(rstd[i])
            continue
        alone = packed(x[i : i + 1], own, axis)
        wanted = run(alone if axis == 1 else alone[None])
        assert same_bits(taken(y[i : i + 1], own, axis), wanted[0].reshape(alone.shape))
        assert same_bits(mean[i : i + 1], wanted[1])
        assert same_bits(rstd[i : i + 1], wanted[2])


@pytest.mark.parametrize("rows", [5, 100, 3000])
@pytest.mark.parametrize("c", [1, 3, 64, 130, 600])
@pytest.mark.usefixtures("isa")
def test_a_table_has_the_bits_of_the_rows_that_take_part(
    rows: int, c: int, dtype: str
) -> None:
    x = 7 + random((rows, c), dtype)
    part = pattern("random", 1, rows)[0]
    y, mean, rstd = fastnorm.batch_norm(
        poisoned(x, part[:, None]), None, None, training=True, return_stats=True,
        mask=part[:, None],
    )  # fmt: skip
    wanted = fastnorm.batch_norm(x[part], None, None, training=True, return_stats=True)
    assert same_bits(y[part], wanted[0]) and not np.any(y[~part])
    assert same_bits(mean, wanted[1]) and same_bits(rstd, wanted[2])
    state = fastnorm.moments(poisoned(x, part[:, None]), 0, mask=part[:, None])
    assert all(map(same_bits, state, fastnorm.moments(x[part], 0)))


NORMS = ["batch", "batch inference", "group", "instance", "instance inference"]
norms = pytest.mark.parametrize("norm", NORMS)


def run(module: Any, norm: str, x: Array, **options: Any) -> Any:
    """A norm of [..., 6 channels, ...] at options["channel_axis"]."""
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    weight, bias, mean, var = parameters(6, np.dtype(dtype).name)
    given = {"weight": weight, "bias": bias, **options}
    if norm == "group":
        return module.group_norm(x, 3, **given)
    if norm.startswith("instance"):
        stored = (mean, var) if norm == "instance inference" else (None, None)
        own = norm == "instance"
        return module.instance_norm(x, *stored, use_input_stats=own, **given)
    stored = (mean, var) if norm == "batch inference" else (None, None)
    return module.batch_norm(x, *stored, training=norm == "batch", **given)


LAYOUTS = ["NCHW", "NHWC", "NHWC seen as NCHW", "CNHW", "strided", "backwards"]


def laid_out(x: Array, layout: str) -> tuple[Array, int]:
    """[N, C, H, W] otherwise in memory, and the axis of its channels."""
    if layout == "NHWC":
        return np.ascontiguousarray(np.moveaxis(x, 1, -1)), 3
    if layout == "NHWC seen as NCHW":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1), 1
    if layout == "CNHW":
        return np.ascontiguousarray(np.moveaxis(x, 1, 0)), 0
    if layout == "strided":
        wide = np.zeros((*x.shape[:3], 2 * x.shape[3]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2], 1
    return np.ascontiguousarray(x[::-1])[::-1] if layout == "backwards" else x, 1


MASKS = {
    "pixels": (3, 1, 4, 5),
    "rows": (3, 1, 4, 1),
    "columns": (1, 1, 1, 5),
    "elements": (3, 6, 4, 5),
    "channels": (1, 6, 1, 1),
    "samples": (3, 1, 1, 1),
    "channel rows": (1, 6, 4, 1),
    "all": (),
}


@norms
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("masked", ["zero", "keep"])
@pytest.mark.parametrize("mask", MASKS)
def test_every_layout_and_mask_is_that_of_the_reference(
    norm: str, layout: str, masked: str, mask: str, dtype: str
) -> None:
    x = 10 + random((3, 6, 4, 5), dtype)
    part = np.random.default_rng(5).random(MASKS[mask]) < 0.7
    if mask in ("elements", "pixels"):
        part[:, :, :, :2] = True
    given, axis = laid_out(x, layout)
    part = np.asarray(part)
    if part.ndim and axis != 1:
        part = np.moveaxis(part, 1, axis)
    options: dict[str, Any] = {"mask": part, "masked": masked, "channel_axis": axis}
    counts = np.broadcast_to(part, given.shape)
    if norm in ("batch", "instance"):
        others = tuple(i for i in range(4) if i != axis)
        over = others if norm == "batch" else others[1:]
        if np.any(np.count_nonzero(counts, axis=over) == 1):
            with pytest.raises(ValueError, match="more than one value"):
                run(fastnorm, norm, given, **options)
            return
    y, *stats = run(fastnorm, norm, given, return_stats=True, **options)
    exact, *exact_stats = run(reference, norm, given, return_stats=True, **options)
    assert y.shape == given.shape
    assert_close(y, exact, np.abs(exact) + 4)
    for found, wanted in zip(stats, exact_stats, strict=True):
        assert_close(found, wanted)


@norms
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("masked", ["zero", "keep"])
def test_lengths_are_a_mask_in_every_layout(
    norm: str, layout: str, masked: str, dtype: str
) -> None:
    x, axis = laid_out(3 + random((3, 6, 4, 5), dtype), layout)
    lengths = [2, 0, 4]
    sample, height = [i for i in range(4) if i != axis][:2]
    shape = [1] * 4
    shape[sample], shape[height] = 3, 4
    part = np.arange(4) < np.array(lengths)[:, None]
    a = run(
        fastnorm, norm, x, channel_axis=axis, lengths=lengths, masked=masked,
        return_stats=True,
    )  # fmt: skip
    b = run(
        fastnorm, norm, x, channel_axis=axis, mask=part.reshape(shape), masked=masked,
        return_stats=True,
    )  # fmt: skip
    assert all(map(same_bits, a, b))


@norms
@pytest.mark.parametrize("axis", [1, -1])
def test_what_takes_no_part_may_hold_anything(norm: str, axis: int, dtype: str) -> None:
    x = random((3, 6, 50), dtype)
    part = pattern("random", 3, 50)[:, None]
    part[:, :, :2] = True
    if axis == -1:
        x, part = placed(x, 2), part.transpose(0, 2, 1)
    mask = np.broadcast_to(part, x.shape)
    clean = run(fastnorm, norm, np.where(mask, x, 0), channel_axis=axis, mask=part)
    for bad in BAD:
        spoilt = np.where(mask, x, np.asarray(bad, dtype))
        y = run(fastnorm, norm, spoilt, channel_axis=axis, mask=part)
        assert same_bits(y, clean)
        elements = run(fastnorm, norm, spoilt, channel_axis=axis, mask=mask.copy())
        assert_close(elements, clean, np.abs(clean) + 4)


@norms
@axes
@pytest.mark.parametrize("wide", [False, True])
def test_a_mask_that_leaves_out_nothing_changes_nothing(
    norm: str, axis: int, wide: bool, dtype: str
) -> None:
    x = placed(random((3, 6, 40), dtype), axis)
    plain = run(fastnorm, norm, x, channel_axis=axis, return_stats=True)
    mask = np.ones(x.shape if wide else (40, 1) if axis == 2 else 40, bool)
    y = run(fastnorm, norm, x, channel_axis=axis, return_stats=True, mask=mask)
    assert all(map(same_bits, y, plain))
    y = run(fastnorm, norm, x, channel_axis=axis, return_stats=True, lengths=[40] * 3)
    assert all(map(same_bits, y, plain))


@norms
@axes
@pytest.mark.parametrize("elements", [False, True])
def test_nothing_at_all_is_zero_or_the_input(
    norm: str, axis: int, elements: bool, dtype: str
) -> None:
    x = placed(random((3, 6, 40), dtype), axis)
    mask = np.zeros(x.shape if elements else (), bool)
    y, mean, rstd = run(
        fastnorm, norm, x, channel_axis=axis, mask=mask, return_stats=True
    )
    assert same_bits(y, np.zeros_like(x))
    if "inference" not in norm:
        assert not np.any(mean) and not np.any(rstd)
    y = run(fastnorm, norm, x, channel_axis=axis, mask=mask, masked="keep")
    assert same_bits(y, x)


@norms
@axes
@kinds
@pytest.mark.parametrize("masked", ["zero", "keep"])
def test_in_place_has_the_bits_of_out_of_place(
    norm: str, axis: int, kind: str, masked: str, dtype: str
) -> None:
    part = pattern(kind, 3, 700)
    part[:, :2] = True
    x = placed(poisoned(random((3, 6, 700), dtype), part[:, None]), axis)
    options = {"channel_axis": axis, "masked": masked, **given(kind, part, axis)}
    wanted = run(fastnorm, norm, x, **options)
    assert run(fastnorm, norm, x, out=x, **options) is x
    assert same_bits(x, wanted)


@norms
@axes
@kinds
@pytest.mark.usefixtures("isa")
def test_what_is_kept_in_place_is_quantized_anew(
    norm: str, axis: int, kind: str
) -> None:
    part = pattern(kind, 3, 700)
    part[:, :2] = True
    x = placed((50 * random((3, 6, 700))).clip(-127, 127).astype(np.int8), axis)
    options = {"channel_axis": axis, "masked": "keep", **given(kind, part, axis)}
    options |= {"in_scale": 0.1, "out_dtype": np.int8, "out_scale": 0.5}
    wanted = run(fastnorm, norm, x, **options)
    assert run(fastnorm, norm, x, out=x, **options) is x
    assert same_bits(x, wanted)


@norms
@axes
@kinds
@pytest.mark.parametrize("elements", [False, True])
def test_threads_and_instruction_sets_do_not_change_bits(
    norm: str, axis: int, kind: str, elements: bool
) -> None:
    shape = (4, 6, 30_000)
    part = pattern(kind, 4, shape[2])
    part[:, :2] = True
    x = placed(poisoned(random(shape), part[:, None]), axis)
    options = {"channel_axis": axis, **given(kind, part, axis)}
    if elements:
        mask = part[:, None] if axis == 1 else part[:, :, None]
        mask = np.broadcast_to(mask, x.shape).copy()
        options = {"channel_axis": axis, "mask": mask}
    found = []
    for isa in fastnorm.isas():
        fastnorm.set_isa(isa)
        for threads in (1, 2, 5):
            found.append(run(fastnorm, norm, x, num_threads=threads, **options))
    assert all(same_bits(y, found[0]) for y in found)


@kinds
@pytest.mark.parametrize("elements", [False, True])
def test_threads_share_long_channels(kind: str, elements: bool) -> None:
    shape = (4, 2, 150_000)
    part = pattern(kind, 4, shape[2])[:, None]
    x = 1e3 + random(shape)
    mask = np.broadcast_to(part, shape).copy()
    mask[1, 1, 5:] = False  # of its own
    mask = mask if elements else part
    mean, rstd = (np.zeros(2, np.float32) for _ in range(2))
    options: dict[str, Any] = {"training": True, "mask": mask, "return_stats": True}
    one = fastnorm.batch_norm(poisoned(x, mask), None, None, num_threads=1, **options)
    for threads in (2, 5):
        y = fastnorm.batch_norm(
            poisoned(x, mask), mean, rstd, num_threads=threads, **options
        )
        assert all(map(same_bits, y, one))
    taken_part = x.transpose(1, 0, 2)[:, np.broadcast_to(mask, shape)[:, 0]][None]
    wanted = fastnorm.batch_norm(
        np.ascontiguousarray(taken_part), None, None, training=True, return_stats=True
    )
    assert same_bits(one[1][:1], wanted[1][:1])
