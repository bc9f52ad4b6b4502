# SPDX-License-Identifier: MIT
"""test_masks_weights.py - masks that are weights of the statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channel_cases import assert_rounded, assert_steps
from numpy.typing import NDArray
from oracle import BOUND, assert_close, error, hostile, random, same_bits
from test_masks import LAYOUTS, MASKS, laid_out, run

import fastnorm
from fastnorm import reference

Array = NDArray[Any]
NORMS = ["batch", "batch inference", "group", "instance", "instance inference"]
norms = pytest.mark.parametrize("norm", NORMS)
axes = pytest.mark.parametrize("axis", [1, 2])
types = pytest.mark.parametrize("of", ["f4", "f8"])


def some_weights(shape: tuple[int, ...], of: str = "f4", seed: int = 8) -> Array:
    """Between 0 and 3, a third of them 0, of what comes first none."""
    rng = np.random.default_rng(seed)
    w = np.asarray(3 * rng.random(shape) * (rng.random(shape) < 0.67))
    w.flat[:3] = 1.25
    return w.astype(of)


def spoilt(x: Array, w: Array) -> Array:
    """NaN and Inf where the weight is 0."""
    bad = np.resize(np.array([np.nan, np.inf, -np.inf], x.dtype), x.shape)
    return np.where(np.broadcast_to(w, x.shape) > 0, x, bad)


def turned(a: Array, axis: int) -> Array:
    """[N, C, T], or [N, T, C] where the channels are to be the last axis."""
    return a if axis == 1 else np.ascontiguousarray(a.transpose(0, 2, 1))


@norms
@types
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mask", MASKS)
def test_zeros_and_ones_have_the_bits_of_a_mask(
    norm: str, layout: str, mask: str, of: str, dtype: str
) -> None:
    x, axis = laid_out(10 + random((3, 6, 4, 5), dtype), layout)
    part = np.asarray(np.random.default_rng(5).random(MASKS[mask]) < 0.7)
    if mask in ("elements", "pixels"):
        part[:, :, :, :2] = True
    if part.ndim and axis != 1:
        part = np.moveaxis(part, 1, axis)
    weights = np.where(part, 1.0, -0.0).astype(of)
    for masked in ("zero", "keep"):
        options = {"masked": masked, "channel_axis": axis, "return_stats": True}
        try:
            wanted = run(fastnorm, norm, x, mask=part, **options)
        except ValueError as refused:
            with pytest.raises(ValueError, match=str(refused)):
                run(fastnorm, norm, x, mask=weights, **options)
            continue
        found = run(fastnorm, norm, x, mask=weights, **options)
        assert all(map(same_bits, found, wanted))


@norms
@axes
def test_ones_alone_are_no_mask(norm: str, axis: int, dtype: str) -> None:
    x = turned(random((3, 6, 40), dtype), axis)
    for weights in (np.ones((), "f4"), np.ones(x.shape)):
        assert same_bits(
            run(fastnorm, norm, x, mask=weights, channel_axis=axis),
            run(fastnorm, norm, x, channel_axis=axis),
        )


@norms
@types
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mask", MASKS)
def test_every_layout_and_weights_are_those_of_the_reference(
    norm: str, layout: str, mask: str, of: str, dtype: str
) -> None:
    weights = some_weights(MASKS[mask], of)
    x = spoilt(10 + random((3, 6, 4, 5), dtype), weights)
    x, axis = laid_out(x, layout)
    if weights.ndim and axis != 1:
        weights = np.moveaxis(weights, 1, axis)
    for masked in ("zero", "keep") if norm.startswith("batch") else ("zero",):
        options = {"mask": weights, "masked": masked, "channel_axis": axis}
        y, *stats = run(fastnorm, norm, x, return_stats=True, **options)
        exact, *wanted = run(reference, norm, x, return_stats=True, **options)
        taken = np.broadcast_to(weights, x.shape) > 0
        assert_close(y[taken], exact[taken], np.abs(exact[taken]) + 4)
        for a, b in zip(stats, wanted, strict=True):
            assert_close(a, b)
        rest = x if masked == "keep" else np.zeros_like(x)
        assert same_bits(y[~taken], rest[~taken])


KINDS: dict[str, Any] = {
    "some": lambda w: w,
    "whole": np.ceil,
    "far apart": lambda w: np.where(w > 0, 10 ** (4 * w - 6), 0),
    "one heavy": lambda w: np.where(w == w.max(), 1e3, w),
    "tiny": lambda w: 1e-30 * w,
    "huge": lambda w: 1e30 * w,
    "tinier": lambda w: 1e-304 * w,
    "hugest": lambda w: 5e307 * w,
    "alike": lambda w: np.full_like(w, 0.3),
}


@pytest.mark.parametrize("layout", ["first", "last", "elements first", "elements last"])
@pytest.mark.parametrize("n", [2, 17, 64, 4096])
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_channels_are_within_the_bound(
    layout: str, n: int, kind: str, dtype: str
) -> None:
    rows = hostile(n, dtype)
    weights = KINDS[kind](some_weights((n,), "f8"))
    of = "f8" if kind in ("tinier", "hugest") else "f4"
    w = weights.astype(of)[None, None]
    x = spoilt(np.stack(list(rows.values()))[None], w)
    axis = 2 if layout.endswith("last") else 1
    x, w = turned(x, axis), turned(w, axis)
    if layout.startswith("elements"):
        w = np.broadcast_to(w, x.shape).copy()
    for eps in (1e-5, 0.0):
        options: dict[str, Any] = {"eps": eps, "channel_axis": axis, "mask": w}
        y = fastnorm.batch_norm(x, None, None, training=True, **options)
        exact: Any = reference.batch_norm(x, None, None, training=True, **options)
        groups = fastnorm.group_norm(x, x.shape[axis], **options)
        errors = {
            name: e
            for i, name in enumerate(rows)
            for found in (y, groups)
            if (e := error(found.take(i, axis), exact.take(i, axis))) > BOUND[x.dtype]
        }
        assert not errors


@axes
@pytest.mark.parametrize("shape", [(4, 3, 9), (2, 5, 700), (1, 3, 70_000)])
def test_whole_weights_are_repetitions(
    axis: int, shape: tuple[int, int, int], dtype: str
) -> None:
    n, c, t = shape
    x = 100 + random(shape, dtype)
    times = np.random.default_rng(3).integers(0, 4, (n, t))
    times[:, 0] = 2
    flat = x.transpose(1, 0, 2).reshape(c, -1)
    again = np.ascontiguousarray(np.repeat(flat, times.ravel(), axis=1))[None]
    mean, var, mean2, var2 = (np.full(c, k, dtype) for k in (2, 3, 2, 3))
    w = times[:, None].astype("f4") if axis == 1 else times[:, :, None].astype("f4")
    _, *stats = fastnorm.batch_norm(
        turned(x, axis), mean, var, training=True, mask=w, channel_axis=axis,
        return_stats=True,
    )  # fmt: skip
    _, *wanted = fastnorm.batch_norm(
        again, mean2, var2, training=True, return_stats=True
    )
    for a, b in ((mean, mean2), (var, var2), *zip(stats, wanted, strict=True)):
        assert_close(a, b)
    found = fastnorm.moments(flat, 1, ddof=1, mask=times.astype("f8").ravel())
    exact = fastnorm.moments(again[0], 1, ddof=1)
    np.testing.assert_allclose(found.mean, exact.mean, rtol=BOUND[x.dtype])
    np.testing.assert_allclose(found.var, exact.var, rtol=2 * BOUND[x.dtype])
    state: Any = fastnorm.moments(
        flat, 1, mask=times.astype("f4").ravel(), return_state=True
    )
    assert state.count == times.sum() and isinstance(state.count, int)


@axes
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("norm", ["batch_norm", "instance_norm"])
def test_running_statistics_are_by_the_sum_of_weights(
    norm: str, axis: int, own: bool, dtype: str
) -> None:
    x = 5 + random((3, 4, 50), dtype)
    weights = some_weights((3, 4 if own else 1, 50))
    weights[1] = 0
    if own:
        weights[:, 2] = 0
    w = np.broadcast_to(weights, x.shape).astype("f8")
    over = (0, 2) if norm == "batch_norm" else (2,)
    total = w.sum(over)
    with np.errstate(invalid="ignore"):
        mean = (w * x).sum(over) / total
        apart = x - mean.reshape([-1, 4, 1])
        var = (w * apart**2).sum(over) / (total - 1)
        if norm == "instance_norm":
            mean = np.nansum(mean * total, 0) / total.sum(0)
            var = np.nansum(var * total, 0) / total.sum(0)
    found = np.full(4, 2, dtype), np.full(4, 3, dtype)
    exact = np.full(4, 2.0), np.full(4, 3.0)
    more: dict[str, Any] = {"training": True} if norm == "batch_norm" else {}
    more |= {"mask": turned(weights, axis), "channel_axis": axis, "momentum": 0.3}
    getattr(fastnorm, norm)(turned(x, axis), *found, **more)
    getattr(reference, norm)(turned(x, axis), *exact, **more)
    seen = total.reshape(-1, 4).sum(0) > 0
    wanted = np.where(seen, 1.4 + 0.3 * mean, 2), np.where(seen, 2.1 + 0.3 * var, 3)
    for a, b, c in zip(found, exact, wanted, strict=True):
        assert_close(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-6 if dtype == "float32" else 1e-13)


@axes
@pytest.mark.parametrize("norm", ["batch_norm", "instance_norm"])
def test_running_statistics_need_a_sum_above_one(norm: str, axis: int) -> None:
    x = turned(random((2, 3, 4)), axis)
    w = np.full((2, 1, 4), 2.0)
    w[:] = [0.5, 0.25, 0, 0] if norm == "instance_norm" else [0.25, 0.25, 0, 0]
    if norm == "instance_norm":
        w[0] = 2
    more: dict[str, Any] = {"training": True} if norm == "batch_norm" else {}
    more |= {"mask": turned(w, axis), "channel_axis": axis}
    mean, var, out = (np.full(n, 7, "f4") for n in (3, 3, x.shape))
    with pytest.raises(ValueError, match=f"{norm}: .*weights whose sum is above 1"):
        getattr(fastnorm, norm)(x, mean, var, out=out, **more)
    assert np.all(mean == 7) and np.all(var == 7) and np.all(out == 7)
    with pytest.raises(ValueError, match="more than one value"):
        getattr(reference, norm)(x, mean, var, **more)
    # Without them only what the weights are to each other counts.
    y = getattr(fastnorm, norm)(x, None, None, **more)
    again = getattr(fastnorm, norm)(x, None, None, **more | {"mask": more["mask"] * 64})
    assert same_bits(y, again)


@norms
@axes
@pytest.mark.parametrize("own", [False, True])
def test_threads_and_instruction_sets_do_not_change_bits(
    norm: str, axis: int, own: bool
) -> None:
    weights = turned(some_weights((4, 6 if own else 1, 30_000)), axis)
    x = spoilt(turned(1e3 + random((4, 6, 30_000)), axis), weights)
    found = []
    for isa in fastnorm.isas():
        fastnorm.set_isa(isa)
        for threads in (1, 2, 5):
            found.append(run(
                fastnorm, norm, x, num_threads=threads, mask=weights, channel_axis=axis
            ))  # fmt: skip
    assert all(same_bits(y, found[0]) for y in found)


@pytest.mark.parametrize("own", [False, True])
def test_threads_share_long_channels(own: bool, dtype: str) -> None:
    x = 1e6 + random((3, 2, 300_000), dtype)
    weights = some_weights((3, 2 if own else 1, 300_000))
    options: dict[str, Any] = {"training": True, "mask": weights, "return_stats": True}
    one = fastnorm.batch_norm(x, None, None, num_threads=1, **options)
    for threads in (2, 5):
        mean, var = np.zeros(2, dtype), np.zeros(2, dtype)
        y = fastnorm.batch_norm(x, mean, var, num_threads=threads, **options)
        assert all(map(same_bits, y, one))
    exact = reference.batch_norm(x, None, None, **options)
    assert_close(one[0], exact[0])
    alone = fastnorm.batch_norm(
        x[:, :1].copy(), None, None, **options | {"mask": weights[:, :1]}
    )
    assert same_bits(alone[0], one[0][:, :1].copy())


@norms
@axes
@pytest.mark.parametrize("masked", ["zero", "keep"])
def test_in_place_has_the_bits_of_out_of_place(
    norm: str, axis: int, masked: str, dtype: str
) -> None:
    weights = turned(some_weights((3, 1, 700)), axis)
    x = spoilt(turned(random((3, 6, 700), dtype), axis), weights)
    options = {"channel_axis": axis, "masked": masked, "mask": weights}
    wanted = run(fastnorm, norm, x, **options)
    assert run(fastnorm, norm, x, out=x, **options) is x
    assert same_bits(x, wanted)


@norms
@axes
def test_nan_and_inf_of_some_weight_stay_in_their_channel(norm: str, axis: int) -> None:
    x = random((2, 6, 50))
    weights = some_weights((2, 1, 50))
    clean = run(fastnorm, norm, turned(x, axis), mask=turned(weights, axis),
                channel_axis=axis)  # fmt: skip
    for bad in (np.nan, np.inf):
        x[1, 5, 30], weights[1, 0, 30] = bad, 0.5
        clean = run(fastnorm, norm, turned(np.where(np.isfinite(x), x, 0), axis),
                    mask=turned(weights, axis), channel_axis=axis)  # fmt: skip
        y = run(fastnorm, norm, turned(x, axis), mask=turned(weights, axis),
                channel_axis=axis)  # fmt: skip
        y, wanted = (turned(a, axis) if axis == 2 else a for a in (y, clean))
        others = slice(0, 4)  # in no group with it
        assert same_bits(y[:, others].copy(), wanted[:, others].copy())
        assert not np.isfinite(y[1, 5, 30])


@axes
@pytest.mark.parametrize("name", ["float16", "bfloat16", "uint8"])
def test_short_elements(name: str, axis: int) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    short = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    x = turned((30 + 9 * random((3, 6, 400))).astype(short), axis)
    weights = turned(some_weights((3, 1, 400)), axis)
    options: dict[str, Any] = {"mask": weights, "channel_axis": axis}
    if name == "uint8":
        options |= {"in_scale": 0.1, "in_zero_point": 90, "out_dtype": np.float32}
    taken = np.broadcast_to(weights, x.shape) > 0
    for norm, args in (("batch_norm", (None, None)), ("group_norm", (2,)),
                       ("instance_norm", ())):  # fmt: skip
        more = {"training": True} if norm == "batch_norm" else {}
        y = getattr(fastnorm, norm)(x, *args, **more, **options)
        exact = getattr(reference, norm)(x, *args, **more, **options)
        if name == "uint8":
            assert_close(y, exact)
        else:
            assert_rounded(y[taken], exact[taken])
    if name == "uint8":
        del options["out_dtype"]
        y = fastnorm.group_norm(x, 2, out_dtype=np.int8, out_scale=0.05, **options)
        assert_steps(y[taken], reference.group_norm(x, 2, **options)[taken], 0.05, 0)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, (0, 2), (1, 2), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("pattern", [(4, 1, 9), (4, 5, 9), (1, 5, 1), (1, 1, 9), ()])
@pytest.mark.parametrize("order", ["C", "F", "strided"])
@types
def test_weighted_moments(
    axis: Any, pattern: tuple[int, ...], order: str, of: str, dtype: str
) -> None:
    weights = some_weights(pattern, of)
    x = spoilt(1e3 + random((4, 5, 9), dtype), weights)
    if order == "F":
        x = np.asfortranarray(x)
    elif order == "strided":
        x = np.repeat(x, 2, axis=2)[..., ::2]
        weights = np.repeat(weights[None], 2, 0)[0]
    seen = fastnorm.RunningMoments(axis).update(x, weights=weights)
    for ddof in (0, 1):
        found = fastnorm.moments(x, axis, mask=weights, ddof=ddof)
        wanted: Any = reference.moments(x, axis, mask=weights, ddof=ddof)
        for other in (wanted, (seen.mean, seen.var(ddof))):
            for a, b in zip(found, other, strict=True):
                assert a.shape == b.shape and np.array_equal(np.isnan(a), np.isnan(b))
                np.testing.assert_allclose(a, b, 4 * BOUND[x.dtype], BOUND[x.dtype])


def test_states_are_of_whole_sums_of_weights() -> None:
    x = random((8, 3))
    w = np.array([2, 0, 1, 3, 0, 0, 5, 1], "f4")[:, None]
    a = fastnorm.moments(x[:5], 0, mask=w[:5], return_state=True)
    b = fastnorm.moments(x[5:], 0, mask=w[5:], return_state=True)
    both: Any = fastnorm.merge_moments(a, b)
    whole: Any = fastnorm.moments(x, 0, mask=w, return_state=True)
    assert both.count == whole.count == 12
    np.testing.assert_allclose(both.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(both.m2, whole.m2, rtol=1e-12)
    for module in (fastnorm, reference):
        with pytest.raises(ValueError, match="whole"):
            module.moments(x, 0, mask=w + w / 8, return_state=True)


@norms
def test_weights_may_lie_anywhere(norm: str) -> None:
    x = random((3, 6, 40))
    w = some_weights((3, 6, 40), "f8")
    wanted = run(fastnorm, norm, x, mask=w)
    record = np.zeros(w.shape, [("a", "u1"), ("w", "f8")])
    record["w"] = w
    wide = np.zeros((3, 6, 80))
    wide[..., ::2] = w
    views = (
        record["w"],
        wide[..., ::2],
        w.astype(">f8"),
        np.asfortranarray(w),
        np.ascontiguousarray(w[::-1, :, ::-1])[::-1, :, ::-1],
        w.tolist(),
    )
    assert all(same_bits(run(fastnorm, norm, x, mask=view), wanted) for view in views)
