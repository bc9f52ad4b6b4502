# SPDX-License-Identifier: MIT
"""_backend.py - from calls that the binding has accepted to kernels.

What the methods of `Backend` are given is said in the binding (`run_on`). They choose a
kernel and whether threads share it; what this backend has not got is refused here,
before anything is written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _channels, _rows, _tables
from ._compile import kernel
from ._hooks import NO_HOOKS
from ._memory import LIKE
from ._threads import threads

STREAM_BYTES = 12582912  # outputs that no cache keeps
PIECES = 64
NO_EXTRAS = (None, None)
DTYPES = {1: "float32", 2: "float64", 3: "float16", 4: "bfloat16"}


def _refuse(norm: str, dtypes: tuple[int, ...], more: dict[str, Any]) -> None:
    for dtype in dtypes:
        if dtype not in LIKE:
            raise NotImplementedError(
                f"{norm}: the Numba backend takes {', '.join(DTYPES.values())}, not "
                "8-bit data (fastnorm's own function does)"
            )
    if more:
        raise NotImplementedError(
            f"{norm}: the Numba backend has no {', '.join(sorted(more))} (fastnorm's "
            "own function has)"
        )


def _eps(value: float, default: float) -> float:
    """As the C API has it: 0 is the default, a negative one exactly 0."""
    return default if value == 0.0 else max(value, 0.0)


class Backend:
    """What serves the calls of `run_on`, with hooks of a user or none."""

    def __init__(self, hooks: Any = NO_HOOKS, extras: Any = None) -> None:
        self.hooks = hooks
        self.extras = extras

    def _extras_of(self, extents: tuple[int, ...], last: bool = False) -> Any:
        """The extras of both hooks for the kernel's lines, which these extents give."""
        return NO_EXTRAS if self.extras is None else self.extras(extents, last)

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
        one = 1.0 if more.pop("mode", 0) == ONE_PLUS_WEIGHT else 0.0
        if norm == "l2_norm":
            more["l2_norm"] = True
        _refuse(norm, dtypes, more)
        likes: tuple[Any, ...] = tuple(LIKE[dtype] for dtype in dtypes)
        centered = norm == "layer_norm"
        kind = likes[0].dtype if likes[0].dtype.kind == "f" else np.dtype(np.float32)
        default = 1e-5 if centered else float(np.finfo(kind).eps)
        call = (weight, bias, mean, rstd, cols, _eps(eps, default), one)
        arrays = (x, y, rows, x_stride, y_stride)
        size = rows * cols * inner * (likes[0].nbytes + likes[1].nbytes)
        with threads(num_threads, size) as count:
            if inner > 1:
                run = kernel(_tables.inner, self.hooks, count > 1)
                extras = self._extras_of((rows, cols, inner))
                run(call, arrays, inner, likes, centered, *extras)
                return
            streams = (
                x != y
                and rows * cols * likes[1].nbytes >= STREAM_BYTES
                and cols * likes[1].nbytes >= 2048
                and self.hooks[0] is None
            )
            run = kernel(_rows.rows, self.hooks, count > 1)
            blocks = min(rows, 4 * count) if count > 1 else 1
            extras = self._extras_of((rows, 1, cols))
            run(call, arrays, likes, centered, streams, blocks, *extras)

    def channels(
        self, norm: str, dtypes: tuple[int, int, int], arrays: tuple[int, ...],
        extents: tuple[int, int, int, int, bool], strides: tuple[int, int, int, int],
        training: bool, numbers: tuple[float, int, float], num_threads: int,
        more: dict[str, Any],
    ) -> None:  # fmt: skip
        """Batch, group and instance norm."""
        if norm == "group_norm":
            training = "stored" not in more
        columns = extents[4] or (norm == "batch_norm" and _is_table(extents, strides))
        if columns and training and self.hooks[0] is not None:
            batch, channels, spatial, groups, last = extents
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
        stored = more.pop("stored", None)
        _refuse(norm, dtypes, more)
        likes: tuple[Any, ...] = tuple(LIKE[dtype] for dtype in dtypes)
        batch, channels, spatial, groups, last = extents
        momentum, tracked, eps = numbers
        used = stored or (running_mean, running_var)
        places = (x, y, weight, bias, mean, rstd, *used)
        shape = (batch, channels, spatial, groups)
        count = batch * channels * spatial
        size = count * (likes[0].nbytes + likes[1].nbytes)
        eps = _eps(eps, 1e-5)
        streams = x != y and count * likes[1].nbytes >= STREAM_BYTES
        if norm == "batch_norm":
            options = (training, eps, streams)
            found = self._batch(places, shape, strides, options, likes, size,
                                num_threads)  # fmt: skip
            n = batch * spatial
        else:
            by_channel = norm == "instance_norm"
            found = np.empty((2, batch * groups))
            choices = (training, eps, by_channel, streams)
            lines = (batch, spatial, channels) if last else shape[:3]
            extras = self._extras_of(lines, last)
            make = (_tables if last else _channels).samples
            with threads(num_threads, size) as many:
                run = kernel(make, self.hooks, many > 1)
                run(places, shape, strides, choices, likes, found, *extras)
            if training and running_mean:
                found = found.reshape(2, batch, groups).mean(1)
            n = spatial
        if training and running_mean:
            factor = _factor(momentum, tracked)
            _channels.update_running(
                (running_mean, running_var), factor, n / (n - 1.0), found[0], found[1],
                likes[2], likes[0],
            )  # fmt: skip

    def _batch(
        self, places: tuple[int, ...], shape: tuple[int, ...],
        strides: tuple[int, ...], options: tuple[bool, float, bool], likes: Any,
        size: int, num_threads: int,
    ) -> Any:  # fmt: skip
        """Mean and variance of channels of the batch; y too unless it is 0."""
        batch, channels, spatial = shape[:3]
        found = np.empty((6, channels))
        common = (places, shape, strides, options, likes, found)
        few = channels < FEW_CHANNELS and batch * spatial >= LONG_CHANNEL
        with threads(num_threads, size) as count:
            if _is_table(shape, strides):
                chunks = max(min(PIECES, batch * channels // 32768), 1)
                run = kernel(_tables.batch, self.hooks, count > 1)
                run(*common, chunks, *self._extras_of((1, batch, channels), True))
                return found
            extras = self._extras_of(shape[:3])
            if few and (self.hooks[0] is None or not options[0]):
                run = kernel(_channels.pieces, self.hooks, count > 1)
                units = batch * -(-spatial // _channels.SPAN)
                run(*common, min(PIECES, units), *extras)
            elif options[0]:
                kernel(_channels.batch, self.hooks, count > 1)(*common, *extras)
            else:
                run = kernel(_channels.inference, self.hooks, count > 1)
                run(*common, 4 * count if count > 1 else 1, *extras)
        return found

    def _after_prologue(
        self, x: int, lines: tuple[int, int, int], steps: tuple[int, int],
        dtypes: tuple[int, ...], num_threads: int, last: bool = False,
    ) -> tuple[NDArray[Any], Backend]:  # fmt: skip
        """What the prologue makes of all lines, and the backend for what comes after.

        For statistics of columns, whose kernels read each element more than once and
        in an order of their own.
        """
        likes: tuple[Any, ...] = tuple(LIKE[dtype] for dtype in dtypes)
        made = np.empty(lines, DTYPES[_working(dtypes[0])])
        before, _ = self._extras_of(lines, last)
        with threads(num_threads, 2 * made.nbytes) as count:
            run = kernel(_tables.prepared, (self.hooks[0], None), count > 1)
            run(x, made.ctypes.data, lines, steps, likes, before)
        after = self.extras and (lambda *which: (None, self.extras(*which)[1]))
        return made, Backend((None, self.hooks[1]), after)

    def moments(
        self, dtype: int, x: int, mean: int, m2: int, extents: tuple[int, int, int],
        strides: tuple[int, int], num_threads: int, more: dict[str, Any],
    ) -> None:  # fmt: skip
        """Mean and sum of squared deviations of channels."""
        _refuse("moments", (dtype,), more)
        like: Any = LIKE[dtype]
        batch, channels, spatial = extents
        size = batch * channels * spatial * like.nbytes
        found = self._batch(
            (x, 0, 0, 0, 0, 0, 0, 0), (*extents, channels), (*strides, 0, 0),
            (True, 0.0, False), (like, like, like), size, num_threads,
        )  # fmt: skip
        _channels.write_moments(found, float(batch * spatial), mean, m2)


FEW_CHANNELS = 16
LONG_CHANNEL = 262144
ONE_PLUS_WEIGHT = 2


def _working(dtype: int) -> int:
    return 2 if dtype == 2 else 1


def _is_table(extents: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether the channels of batch norm are columns."""
    return extents[2] == 1 and (extents[1] == 1 or strides[1] == 1)


def _factor(momentum: float, tracked: int) -> float:
    """What the new value counts; as in the C API 0 is the default, and a negative one
    the average of all batches.
    """
    if momentum < 0.0:
        return 1.0 / (tracked + 1.0)
    return momentum or 0.1
