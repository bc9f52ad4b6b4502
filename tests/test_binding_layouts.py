# test_binding_layouts.py - any memory layout gives what a packed copy gives.
# SPDX-License-Identifier: MIT
"""Strides, byte order, alignment, subclasses and overlap, at the binding."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastnorm

RNG = np.random.default_rng(20)
DTYPES = [np.float32, np.float64]


def views(shape, dtype):
    """Arrays of one shape whose elements lie in memory in every manner."""
    wide = RNG.normal(3, 2, [2 * n + 1 for n in shape]).astype(dtype)
    cut = tuple(slice(0, n) for n in shape)
    yield "packed", wide[cut].copy()
    yield "corner", wide[cut]
    yield "steps", wide[tuple(slice(0, 2 * n, 2) for n in shape)]
    yield "outer steps", wide[(slice(0, 2 * shape[0], 2), *cut[1:])].copy()[::-1]
    yield "negative", wide[tuple(slice(n, 0, -1) for n in shape)]
    yield "fortran", np.asfortranarray(wide[cut])
    yield "row views", wide.reshape(-1)[: np.prod(shape)].reshape(shape)[::-1]
    yield "broadcast", np.broadcast_to(wide[cut][:1], shape)
    yield "swapped", wide[cut].astype(np.dtype(dtype).newbyteorder())
    raw = np.zeros(np.prod(shape) * np.dtype(dtype).itemsize + 1, np.uint8)
    unaligned = raw[1:].view(dtype).reshape(shape)
    unaligned[...] = wide[cut]
    yield "unaligned", unaligned
    yield "channels last", np.moveaxis(np.moveaxis(wide[cut], 1, -1).copy(), -1, 1)
    read_only = wide[cut].copy()
    read_only.flags.writeable = False
    yield "read-only", read_only


def outs(shape, dtype):
    for name, out in views(shape, dtype):
        if name not in ("broadcast", "swapped", "unaligned", "read-only"):
            yield name, out


SHAPES = [(4, 3, 5), (1, 6, 2), (3, 1, 4), (2, 3, 4, 2), (5, 7)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("function", [fastnorm.layer_norm, fastnorm.rms_norm])
def test_row_norms_take_every_layout(function, shape, dtype):
    weight = RNG.normal(size=shape).astype(dtype)
    for axes in [(-1,), (1,), (0,), (0, 1), tuple(range(len(shape)))]:
        part = tuple(shape[a] for a in axes)
        w = weight.reshape(-1)[: np.prod(part)].reshape(part)
        for name, x in views(shape, dtype):
            before = x.copy()
            plain = np.array(x, dtype=dtype)
            wanted = function(plain, part, w, axis=axes, return_stats=True)
            got = function(x, part, np.asfortranarray(w), axis=axes, return_stats=True)
            for a, b in zip(wanted, got, strict=True):
                assert a.flags.c_contiguous and a.dtype == dtype, name
                np.testing.assert_array_equal(a, b, err_msg=f"{name} {axes}")
            np.testing.assert_array_equal(x, before)
            for out_name, out in outs(shape, dtype):
                assert function(x, None, w, axis=axes, out=out) is out
                np.testing.assert_array_equal(
                    out, wanted[0], err_msg=f"{name} {out_name} {axes}"
                )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_takes_every_layout(shape, dtype, training):
    for axis in range(-len(shape), len(shape)):
        channels = shape[axis]
        w, b, m, v = (abs(RNG.normal(size=(4, channels))) + 1).astype(dtype)
        for name, x in views(shape, dtype):
            plain = np.moveaxis(np.array(x, dtype=dtype), axis, -1)
            plain = np.ascontiguousarray(plain.reshape(-1, channels))
            m1, v1 = m.copy(), v.copy()
            y = fastnorm.batch_norm(plain, m1, v1, w, b, training)
            y = np.moveaxis(y.reshape(np.moveaxis(x, axis, -1).shape), -1, axis)
            # The sums of a strided layout may be grouped otherwise.
            close = {"rtol": 4e-6, "atol": 4e-6}
            for out_name, out in [("fresh", None), *outs(shape, dtype)]:
                m2, v2 = m[::-1].copy()[::-1], np.repeat(v, 2)[::2]
                got = fastnorm.batch_norm(
                    x, m2, v2, w, b, training, channel_axis=axis, out=out
                )
                assert got is out or (out is None and got.flags.c_contiguous)
                text = f"{name} {out_name} {axis}"
                np.testing.assert_allclose(got, y, err_msg=text, **close)
                np.testing.assert_allclose(m2, m1, err_msg=text, **close)
                np.testing.assert_allclose(v2, v1, err_msg=text, **close)


@given(data=st.data())
def test_moments_over_any_axes_of_any_layout(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=5)))
    axes = data.draw(
        st.none() | st.lists(st.integers(0, len(shape) - 1), unique=True).map(tuple)
    )
    ddof = data.draw(st.integers(0, 1))
    keep = data.draw(st.booleans())
    order = data.draw(st.permutations(range(len(shape))))
    arrays = dict(views(shape, np.float64))
    arrays["permuted"] = (
        arrays["packed"].transpose(order).copy().transpose(np.argsort(order))
    )
    for name, x in arrays.items():
        native = x.astype(np.float64)
        got = fastnorm.moments(x, axes, ddof=ddof, keepdims=keep)
        mean = np.asarray(native.mean(axis=axes, keepdims=keep))
        squares = (native - native.mean(axis=axes, keepdims=True)) ** 2
        m2 = np.asarray(squares.sum(axis=axes, keepdims=keep))
        count = x.size // max(mean.size, 1)
        assert got.mean.dtype == got.var.dtype == np.float64
        np.testing.assert_allclose(got.mean, mean, 1e-12, 1e-12, err_msg=name)
        if count > ddof:
            var = m2 / (count - ddof)
            np.testing.assert_allclose(got.var, var, 1e-12, 1e-12, err_msg=name)
        else:
            assert np.isnan(got.var).all() and got.var.shape == mean.shape
        state = fastnorm.moments(x, axes, keepdims=keep, return_state=True)
        assert state.count == count
        np.testing.assert_allclose(state.m2, m2, 1e-12, 1e-12, err_msg=name)


class Subclass(np.ndarray):
    pass


def test_arrays_that_are_not_plain_are_taken_as_numpy_takes_them(tmp_path):
    x = RNG.normal(size=(4, 6))
    wanted = fastnorm.layer_norm(x, 6)
    lists = fastnorm.layer_norm(x.tolist(), 6)
    assert lists.dtype == np.float64
    np.testing.assert_array_equal(lists, wanted)
    got = fastnorm.layer_norm(x.view(Subclass), 6)
    assert type(got) is np.ndarray
    np.testing.assert_array_equal(got, wanted)

    class Wrapped:
        def __array__(self, dtype=None, copy=None):
            return x

    np.testing.assert_array_equal(fastnorm.layer_norm(Wrapped(), 6), wanted)

    class Exchanged:
        def __dlpack__(self, **options):
            return x.__dlpack__(**options)

        def __dlpack_device__(self):
            return x.__dlpack_device__()

    np.testing.assert_array_equal(fastnorm.layer_norm(Exchanged(), 6), wanted)
    mapped = np.lib.format.open_memmap(
        tmp_path / "y.npy", mode="w+", dtype=x.dtype, shape=x.shape
    )
    assert fastnorm.layer_norm(x, 6, out=mapped) is mapped
    np.testing.assert_array_equal(mapped, wanted)


def test_list_parameters_take_the_dtype_of_the_input():
    x = RNG.normal(size=(2, 3)).astype(np.float32)
    got = fastnorm.layer_norm(x, [3], [1, 2, 3], (0.5, 0, 1))
    assert got.dtype == np.float32
    wanted = fastnorm.layer_norm(
        x, 3, np.array([1, 2, 3], np.float32), np.array([0.5, 0, 1], np.float32)
    )
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("layout", ["packed", "corner", "channels last", "fortran"])
def test_in_place_gives_what_a_fresh_output_gives(layout):
    for run in (
        lambda x, out: fastnorm.layer_norm(x, None, axis=1, out=out),
        lambda x, out: fastnorm.rms_norm(x, 4, out=out),
        lambda x, out: fastnorm.batch_norm(x, None, None, training=True, out=out),
    ):
        x = dict(views((2, 3, 4), np.float32))[layout]
        wanted = run(x, np.empty_like(x))
        assert run(x, x) is x
        np.testing.assert_array_equal(x, wanted)
        x[...] = RNG.normal(size=x.shape)
        wanted = run(x, np.empty_like(x))
        view = x[...]  # another object on the same memory
        assert run(x, view) is view
        np.testing.assert_array_equal(x, wanted)


def test_interleaved_arrays_do_not_overlap():
    both = RNG.normal(size=(5, 2, 8)).astype(np.float32)
    wanted = fastnorm.layer_norm(both[:, 0], 8)
    fastnorm.layer_norm(both[:, 0], 8, out=both[:, 1])
    np.testing.assert_array_equal(both[:, 1], wanted)
    wanted = fastnorm.batch_norm(both[:, 0], None, None, training=True)
    fastnorm.batch_norm(both[:, 0], None, None, training=True, out=both[:, 1])
    np.testing.assert_array_equal(both[:, 1], wanted)
    # Channels-last images side by side, seen as NCHW.
    both = RNG.normal(size=(2, 3, 4, 2, 5)).astype(np.float32)
    x, out = (both[..., i, :].transpose(0, 3, 1, 2) for i in range(2))
    wanted = fastnorm.batch_norm(x, None, None, training=True)
    fastnorm.batch_norm(x, None, None, training=True, out=out)
    np.testing.assert_allclose(out, wanted, rtol=4e-6, atol=4e-6)


def test_empty_arrays():
    y, mean, rstd = fastnorm.layer_norm(np.zeros((0, 4)), 4, return_stats=True)
    assert y.shape == (0, 4) and mean.shape == rstd.shape == (0, 1)
    y, mean, rstd = fastnorm.layer_norm(np.zeros((3, 0)), 0, return_stats=True)
    assert y.shape == (3, 0) and mean.shape == (3, 1)
    assert np.isnan(mean).all() and np.isnan(rstd).all()
    m, v = np.full(3, 5.0), np.full(3, 7.0)
    fastnorm.batch_norm(np.zeros((0, 3)), m, v, training=True)
    assert (m == 5).all() and (v == 7).all()
    empty = fastnorm.moments(np.zeros((0, 3)), 0)
    assert np.isnan(empty.mean).all() and np.isnan(empty.var).all()
    state = fastnorm.moments(np.zeros((0, 3)), 0, return_state=True)
    assert state.count == 0 and (state.mean == 0).all() and (state.m2 == 0).all()


def test_momentum_of_zero_and_cumulative_statistics():
    x = RNG.normal(size=(6, 3))
    m, v = np.zeros(3), np.ones(3)
    fastnorm.batch_norm(x, m, v, training=True, momentum=0.0)
    assert (m == 0).all() and (v == 1).all()
    for k, part in enumerate((x[:2], x[2:4], x[4:])):
        fastnorm.batch_norm(
            part, m, v, training=True, momentum=None, num_batches_tracked=k
        )
    np.testing.assert_allclose(m, x.mean(axis=0))
    parts = np.stack([x[i : i + 2].var(axis=0, ddof=1) for i in (0, 2, 4)])
    np.testing.assert_allclose(v, parts.mean(axis=0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_sliding_windows_are_read_in_place(dtype):
    # Rows that overlap each other: fine to read.
    x = RNG.normal(2, 3, 40).astype(dtype)
    windows = np.lib.stride_tricks.sliding_window_view(x, 8)
    for function in (fastnorm.layer_norm, fastnorm.rms_norm):
        np.testing.assert_array_equal(function(windows, 8), function(windows.copy(), 8))
    m, v = np.zeros(8, dtype), np.ones(8, dtype)
    np.testing.assert_allclose(
        fastnorm.batch_norm(windows, m, v, training=True),
        fastnorm.batch_norm(windows.copy(), None, None, training=True),
        rtol=4e-6,
        atol=4e-6,
    )
    got, wanted = fastnorm.moments(windows, 0), fastnorm.moments(windows.copy(), 0)
    np.testing.assert_allclose(got.var, wanted.var, rtol=1e-12)


def peak_memory(run):
    run()
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_can_be_read_in_place_is_not_copied():
    """A copy would show as memory; the statistics are a small part of the input."""
    wide = np.ones((64, 2, 8192), np.float32)
    rows = wide[::-2, 1, :4096]
    out = np.ones((32, 2, 4096), np.float32)[:, 0]
    last = np.ones((2, 32, 32, 64), np.float32).transpose(0, 3, 1, 2)
    table = np.asfortranarray(np.ones((4096, 32), np.float32))
    image = np.ones((8, 16, 1024), np.float32)
    m, v = np.zeros((2, 64), np.float32)
    in_place = {
        "row": (rows, lambda: fastnorm.layer_norm(rows, 4096, out=out)),
        "rms": (rows, lambda: fastnorm.rms_norm(rows, 4096, out=out)),
        "axis": (image, lambda: fastnorm.layer_norm(image, None, axis=1, out=image)),
        "table": (
            rows,
            lambda: fastnorm.batch_norm(rows.T, m[:32], v[:32], out=out.T),
        ),
        "last": (last, lambda: fastnorm.batch_norm(last, m, v, out=last)),
        "fortran": (table, lambda: fastnorm.moments(table, 0)),
        "fortran image": (image.T, lambda: fastnorm.moments(image.T, (0, 2))),
        "middle": (image, lambda: fastnorm.moments(image[:, ::2], (0, 2))),
        "outer": (image, lambda: fastnorm.moments(image, 1)),
        "window": (wide, lambda: fastnorm.moments(wide[:, :, 1:], (1, 2))),
    }
    for name, (array, run) in in_place.items():
        assert peak_memory(run) < array.nbytes / 2, name
    copied = rows[:, ::-1]  # as documented: so the measurement does see copies
    assert peak_memory(lambda: fastnorm.rms_norm(copied, 4096, out=out)) > copied.nbytes


def test_an_empty_axis_behind_the_normalised_ones_writes_nothing():
    memory = np.full((2, 3, 6, 4), 7.0)
    x, out = memory[0, :, :, :0], memory[1, :, :, :0]
    weight = np.ones(6)
    assert fastnorm.layer_norm(x, 6, weight, weight, axis=1, out=out) is out
    fastnorm.layer_norm(x, 6, axis=1, out=out, lengths=[1, 2, 3])
    fastnorm.rms_norm(x, 6, weight, axis=1, out=out)
    fastnorm.l2_norm(x, 1, out=out)
    found = fastnorm.layer_norm(x, 6, axis=1, return_stats=True)
    assert [a.shape for a in found] == [(3, 6, 0), (3, 1, 0), (3, 1, 0)]
    for gradients in (
        fastnorm.layer_norm_backward(x, x, 6, weight, axis=1, out=out),
        fastnorm.rms_norm_backward(x, x, 6, weight, axis=1, out=out),
    ):
        assert gradients.input is out and np.all(gradients.weight == 0)
    fastnorm.l2_norm_backward(x, x, 1, out=out)
    assert np.all(memory == 7)
