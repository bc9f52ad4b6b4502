# SPDX-License-Identifier: MIT
"""_backend.py - from calls that the binding has accepted to kernels.

What the methods of `Backend` are given is said in the binding (`run_on`). They choose a
kernel and whether threads share it; what this backend has not got is refused here,
before anything is written.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnorm import get_num_threads

from . import _batch, _channels, _rows, _samples, _tables
from ._compile import Kernel
from ._hooks import NO_HOOKS
from ._memory import LIKE
from ._threads import BYTES_IN_LOOPS, BYTES_PER_THREAD, run

STREAM_BYTES = 16777216  # read and written: results that no cache would keep
PIECES = 64
CACHE_BYTES = 262144  # what a second-level cache keeps beside other things
NO_EXTRAS = (None, None)
NOTHING = np.empty((6, 0))
update = Kernel(_channels.update_running)
CALLED = {  # what the binding hands over, and what a caller gives for it
    "mask": "mask or lengths",
    "post_add_dtype": "post_add",
    "post_add_strides": "post_add",
    "residual_dtype": "residual",
    "residual_out": "residual",
    "residual_strides": "residual",
    "stored": "mean and var",
    "variant": "batch_renorm",
}
DTYPES = {1: "float32", 2: "float64", 3: "float16", 4: "bfloat16"}


@functools.lru_cache(maxsize=64)
def _likes(norm: str, dtypes: tuple[int, ...]) -> tuple[Any, int, int]:
    """What tells kernels the types of arrays; bytes of the first and second."""
    for dtype in dtypes:
        if dtype not in LIKE:
            raise NotImplementedError(
                f"{norm}: the Numba backend takes {', '.join(DTYPES.values())}, not "
                "8-bit data (fastnorm's own function does)"
            )
    likes: tuple[Any, ...] = tuple(LIKE[dtype] for dtype in dtypes)
    return likes, likes[0].nbytes, likes[1 % len(likes)].nbytes


def _refuse(norm: str, more: dict[str, Any]) -> None:
    named = sorted({CALLED.get(name, name) for name in more})
    if named:
        raise NotImplementedError(
            f"{norm}: the Numba backend has no {', '.join(named)} (fastnorm's own "
            "function has)"
        )


class Backend:
    """What serves the calls of `run_on`, with hooks of a user or none.

    Hooks read `beside` bytes of arrays of theirs, if they read each once.
    """

    def __init__(
        self, hooks: Any = NO_HOOKS, extras: Any = None, beside: int = 0
    ) -> None:
        self.hooks = hooks
        self.extras = extras
        self.beside = beside

    def rows(
        self, norm: str, dtypes: tuple[int, int, int], x: int, y: int, weight: int,
        bias: int, mean: int, rstd: int, rows: int, cols: int, inner: int,
        x_stride: int, y_stride: int, eps: float, num_threads: int,
        more: dict[str, Any],
    ) -> None:  # fmt: skip
        """Layer and RMS norm."""
        if inner > 1 and self.hooks[0] is not None:
            lines, steps = (rows, cols, inner), (x_stride, inner)
            made, then = self._after_prologue(x, lines, steps, dtypes, num_threads)
            then.rows(
                norm, (_working(dtypes[0]), *dtypes[1:]), made.ctypes.data, y, weight,
                bias, mean, rstd, rows, cols, inner, cols * inner, y_stride, eps,
                num_threads, more,
            )  # fmt: skip
            return
        threads = num_threads or get_num_threads()
        likes, centered, initial, size, streams, blocks = _row_way(
            norm, dtypes, rows, cols, inner, self.beside, threads == 1
        )
        one = 0.0
        if more or norm == "l2_norm":
            one = self._row_options(norm, dtypes, more)
        if eps <= 0.0:  # as the C API has it
            eps = initial if eps == 0.0 else 0.0
        call = (weight, bias, mean, rstd, cols, eps, one)
        arrays = (x, y, rows, x_stride, y_stride)
        kinds, extras = dtypes, NO_EXTRAS
        if self.extras is not None:
            lines = (rows, cols, inner) if inner > 1 else (rows, 1, cols)
            kinds, extras = None, self.extras(lines, False)
        if inner > 1:
            args = (call, arrays, inner, likes, centered, *extras)
            run(_tables.inner, self.hooks, threads, size, kinds, args)
            return
        args = (call, arrays, likes, centered, streams and x != y, blocks, *extras)
        run(_rows.rows, self.hooks, threads, size, kinds, args)

    def _row_options(
        self, norm: str, dtypes: tuple[int, ...], more: dict[str, Any]
    ) -> float:
        """What is added to the weights."""
        mode = more.pop("mode", PLAIN_WEIGHT)
        rounds = mode not in (PLAIN_WEIGHT, ONE_PLUS_WEIGHT)
        if rounds and dtypes[0] != _working(dtypes[0]):
            more["mode='cast_before_weight' of 16-bit data"] = True
        if norm == "l2_norm":
            more["l2_norm"] = True
        _refuse(norm, more)
        return 1.0 if mode == ONE_PLUS_WEIGHT else 0.0

    def channels(
        self, norm: str, dtypes: tuple[int, int, int], arrays: tuple[int, ...],
        extents: tuple[int, int, int, int, bool], strides: tuple[int, int, int, int],
        training: bool, numbers: tuple[float, int, float], num_threads: int,
        more: dict[str, Any],
    ) -> None:  # fmt: skip
        """Batch, group and instance norm."""
        if norm == "group_norm":
            training = "stored" not in more
        prologue = self.hooks[0] is not None
        if prologue and training and _of_columns(norm, extents, strides):
            batch, channels, spatial, _, last = extents
            lines = (batch, spatial, channels) if last else (1, batch, channels)
            steps = strides[:2] if last else (0, strides[0])
            made, then = self._after_prologue(
                arrays[0], lines, steps, dtypes, num_threads, True
            )
            then.channels(
                norm, (_working(dtypes[0]), *dtypes[1:]),
                (made.ctypes.data, *arrays[1:]), extents,
                (channels * spatial, channels if last else 1, *strides[2:]), training,
                numbers, num_threads, more,
            )  # fmt: skip
            return
        x, y, weight, bias, running_mean, running_var, mean, rstd = arrays
        used = (running_mean, running_var)
        if more:
            used = more.pop("stored", used)
            _refuse(norm, more)
        threads = num_threads or get_num_threads()
        make, cut, lines, last, likes, size = _channel_way(
            norm, dtypes, extents, strides, training, prologue, threads == 1
        )
        places = (x, y, weight, bias, mean, rstd, *used)
        momentum, tracked, eps = numbers
        if eps <= 0.0:  # as the C API has it
            eps = 1e-5 if eps == 0.0 else 0.0
        streams = size + self.beside >= STREAM_BYTES and x != y
        options: tuple[Any, ...]
        if norm == "batch_norm":
            options = (training, eps, streams)
            # That kernel makes it itself where it is needed.
            found = NOTHING if make is _batch.inference else np.empty((6, extents[1]))
        else:
            options = (training, eps, norm == "instance_norm", streams)
            found = np.empty((2, extents[0] * extents[3]))
        kinds, extras = dtypes, NO_EXTRAS
        if self.extras is not None:
            kinds, extras = None, self.extras(lines, last)
        run(make, self.hooks, threads, size, kinds,
            (places, extents[:4], strides, options, likes, found, *cut, *extras)
        )  # fmt: skip
        if training and running_mean:
            n = extents[2]
            if norm == "batch_norm":
                n *= extents[0]
            else:
                found = found.reshape(2, extents[0], extents[3]).mean(1)
            factor = _factor(momentum, tracked)
            update((dtypes[2], dtypes[0]),
                   ((running_mean, running_var), factor, n / (n - 1.0), found, likes[2],
                    likes[0]))  # fmt: skip

    def _after_prologue(
        self, x: int, lines: tuple[int, int, int], steps: tuple[int, int],
        dtypes: tuple[int, ...], num_threads: int, last: bool = False,
    ) -> tuple[NDArray[Any], Backend]:  # fmt: skip
        """What the prologue makes of all lines, and the backend for what comes after.

        For statistics of columns, whose kernels read each element more than once and
        in an order of their own.
        """
        likes, _, _ = _likes("fuse", dtypes)
        made = np.empty(lines, DTYPES[_working(dtypes[0])])
        before = None if self.extras is None else self.extras(lines, last)[0]
        threads = num_threads or get_num_threads()
        args = (x, made.ctypes.data, lines, steps, likes, before)
        run(_tables.prepared, (self.hooks[0], None), threads, 2 * made.nbytes, None,
            args)  # fmt: skip
        after = self.extras and (lambda *which: (None, self.extras(*which)[1]))
        return made, Backend((None, self.hooks[1]), after, self.beside)

    def moments(
        self, dtype: int, x: int, mean: int, m2: int, extents: tuple[int, int, int],
        strides: tuple[int, int], num_threads: int, more: dict[str, Any],
    ) -> None:  # fmt: skip
        """Mean and sum of squared deviations of channels."""
        _refuse("moments", more)
        batch, channels, spatial = extents
        threads = num_threads or get_num_threads()
        dtypes = (dtype,) * 3
        make, cut, _, _, likes, size = _channel_way(
            "moments", dtypes, (*extents, channels, False), (*strides, 0, 0), True,
            False, threads == 1,
        )  # fmt: skip
        found = np.empty((6, channels))
        run(make, self.hooks, threads, size // 2, dtypes,
            ((x, 0, 0, 0, 0, 0, 0, 0), (*extents, channels), (*strides, 0, 0),
             (True, 0.0, False), likes, found, *cut, *NO_EXTRAS))  # fmt: skip
        _channels.write_moments(found, float(batch * spatial), mean, m2)


FEW_CHANNELS = 16
LONG_CHANNEL = 262144
PLAIN_WEIGHT = 0
ONE_PLUS_WEIGHT = 2
EPSILON = {1: 2.0**-23, 2: 2.0**-52}


def _working(dtype: int) -> int:
    return 2 if dtype == 2 else 1


def _of_columns(
    norm: str, extents: tuple[int, int, int, int, bool], strides: tuple[int, ...]
) -> bool:
    """Whether the statistics are those of columns: channels are last."""
    table = extents[2] == 1 and (extents[1] == 1 or strides[1] == 1)
    return extents[4] or (table and norm in ("batch_norm", "moments"))


def _blocks(lines: int, size: int, alone: bool) -> int:
    """Into how many blocks lines are cut, as threads may share `size` bytes."""
    if alone or size < 2 * BYTES_IN_LOOPS:
        return 1
    return min(lines, 32 if size >= 2 * BYTES_PER_THREAD else 4)


@functools.lru_cache(maxsize=256)
def _row_way(
    norm: str, dtypes: tuple[int, int, int], rows: int, cols: int, inner: int,
    beside: int, alone: bool,
) -> tuple[Any, bool, float, int, bool, int]:  # fmt: skip
    """Of a norm of rows: types, whether it is centered, its default eps, bytes in all,
    whether results are worth streaming, and into how many blocks the rows are cut.
    """
    likes, size_x, size_y = _likes(norm, dtypes)
    centered = norm == "layer_norm"
    size = rows * cols * inner * (size_x + size_y)
    streams = size + beside >= STREAM_BYTES and cols * size_y >= 2048
    blocks = _blocks(rows, size, alone)
    initial = 1e-5 if centered else EPSILON[_working(dtypes[0])]
    return likes, centered, initial, size, streams, blocks


@functools.lru_cache(maxsize=256)
def _channel_way(
    norm: str, dtypes: tuple[int, int, int], extents: tuple[int, int, int, int, bool],
    strides: tuple[int, ...], training: bool, prologue: bool, alone: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """Of a norm of channels: the kernel, into how much it cuts the work, its lines, and
    whether channels are last; types, and bytes in all.
    """
    likes, size_x, size_y = _likes(norm, dtypes)
    batch, channels, spatial, _, last = extents
    size = batch * channels * spatial * (size_x + size_y)
    cut: tuple[int, ...] = ()
    columns = _of_columns(norm, extents, strides)
    lines = (batch, spatial, channels) if last else extents[:3]
    if norm in ("group_norm", "instance_norm"):
        make = (_tables if columns else _samples).samples
    elif columns:
        # What a chunk costs per column is what some rows cost.
        chunks = max(min(PIECES, batch * channels // 131072, batch // 32), 1)
        make, cut, lines, last = _tables.batch, (chunks,), (1, batch, channels), True
    elif (
        channels < FEW_CHANNELS
        and batch * spatial >= LONG_CHANNEL
        and not (prologue and training)
    ):
        units = batch * -(-spatial // _batch.SPAN)
        make, cut = _batch.pieces, (min(PIECES, units),)
    elif training:
        fit = CACHE_BYTES // (batch * spatial * likes[0].nbytes)
        # Each block makes arrays of its own; many blocks are for many threads.
        most = 64 if size >= 2 * BYTES_PER_THREAD else 512
        make, cut = _batch.batch, (max(min(fit, most), 1),)
    else:
        make, cut = _batch.inference, (_blocks(batch * channels, size, alone),)
    return make, cut, lines, last, likes, size


def _factor(momentum: float, tracked: int) -> float:
    """What the new value counts; as in the C API 0 is the default, and a negative one
    the average of all batches.
    """
    if momentum < 0.0:
        return 1.0 / (tracked + 1.0)
    return momentum or 0.1
