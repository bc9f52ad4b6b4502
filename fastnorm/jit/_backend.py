# SPDX-License-Identifier: MIT
"""_backend.py - from calls that the binding has accepted to kernels.

What the methods of `Backend` are given is said in the binding (`run_on`). They choose a
kernel and whether threads share it; what this backend has not got is refused here,
before anything is written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _channels, _rows, _tables
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

    def _extras_of(self, *extents: int) -> Any:
        """The extras as the kernels have them, whose lines these extents give."""
        return NO_EXTRAS if self.extras is None else self.extras(extents)

    def rows(
        self, norm: str, dtypes: tuple[int, int, int], x: int, y: int, weight: int,
        bias: int, mean: int, rstd: int, rows: int, cols: int, inner: int,
        x_stride: int, y_stride: int, eps: float, num_threads: int,
        more: dict[str, Any],
    ) -> None:  # fmt: skip
        """Layer and RMS norm."""
        one = 1.0 if more.pop("mode", 0) == ONE_PLUS_WEIGHT else 0.0
        if norm == "l2_norm":
            more["l2_norm"] = True
        _refuse(norm, dtypes, more)
        likes = tuple(LIKE[dtype] for dtype in dtypes)
        centered = norm == "layer_norm"
        kind = likes[0].dtype if likes[0].dtype.kind == "f" else np.dtype(np.float32)
        default = 1e-5 if centered else float(np.finfo(kind).eps)
        call = (weight, bias, mean, rstd, cols, _eps(eps, default), one)
        arrays = (x, y, rows, x_stride, y_stride)
        size = rows * cols * inner * (likes[0].nbytes + likes[1].nbytes)
        with threads(num_threads, size) as count:
            if inner > 1:
                kernel = _tables.inner_shared if count > 1 else _tables.inner_alone
                extras = self._extras_of(rows, cols, inner)
                kernel(call, arrays, inner, likes, centered, self.hooks, extras)
                return
            streams = (
                x != y
                and rows * cols * likes[1].nbytes >= STREAM_BYTES
                and cols * likes[1].nbytes >= 2048
                and self.hooks[0] is None
            )
            kernel = _rows.rows_shared if count > 1 else _rows.rows_alone
            blocks = min(rows, 4 * count) if count > 1 else 1
            extras = self._extras_of(rows, 1, cols)
            kernel(call, arrays, likes, centered, streams, blocks, self.hooks, extras)

    def channels(
        self, norm: str, dtypes: tuple[int, int, int], arrays: tuple[int, ...],
        extents: tuple[int, int, int, int, bool], strides: tuple[int, int, int, int],
        training: bool, numbers: tuple[float, int, float], num_threads: int,
        more: dict[str, Any],
    ) -> None:  # fmt: skip
        """Batch, group and instance norm."""
        x, y, weight, bias, running_mean, running_var, mean, rstd = arrays
        stored = more.pop("stored", None)
        _refuse(norm, dtypes, more)
        likes = tuple(LIKE[dtype] for dtype in dtypes)
        batch, channels, spatial, groups, last = extents
        momentum, tracked, eps = numbers
        if norm == "group_norm":
            training = stored is None
        used = stored or (running_mean, running_var)
        places = (x, y, weight, bias, mean, rstd, *used)
        shape = (batch, channels, spatial, groups)
        size = batch * channels * spatial * (likes[0].nbytes + likes[1].nbytes)
        eps = _eps(eps, 1e-5)
        if norm == "batch_norm":
            found = self._batch(places, shape, strides, (training, eps), likes, size,
                                num_threads)  # fmt: skip
            n = batch * spatial
        else:
            by_channel = norm == "instance_norm"
            found = np.empty((2, batch * groups))
            options = (training, eps, by_channel)
            extras = self._extras_of(
                *((batch, spatial, channels) if last else shape[:3])
            )
            with threads(num_threads, size) as count:
                module = _tables if last else _channels
                kernel = module.samples_shared if count > 1 else module.samples_alone
                kernel(places, shape, strides, options, likes, self.hooks, extras,
                       found)  # fmt: skip
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
        strides: tuple[int, ...], options: tuple[bool, float], likes: Any, size: int,
        num_threads: int,
    ) -> Any:  # fmt: skip
        """Mean and variance of channels of the batch; y too unless it is 0."""
        batch, channels, spatial = shape[:3]
        is_table = spatial == 1 and (channels == 1 or strides[1] == 1)
        extras = self._extras_of(*((1, batch, channels) if is_table else shape[:3]))
        found = np.empty((6, channels))
        common = (places, shape, strides, options, likes, self.hooks, extras, found)
        with threads(num_threads, size) as count:
            if is_table:
                chunks = max(min(PIECES, batch * channels // 32768), 1)
                kernel = _tables.batch_shared if count > 1 else _tables.batch_alone
                kernel(*common, chunks)
            elif channels >= FEW_CHANNELS or batch * spatial < LONG_CHANNEL:
                kernel = _channels.batch_shared if count > 1 else _channels.batch_alone
                kernel(*common)
            else:
                kernel = (
                    _channels.pieces_shared if count > 1 else _channels.pieces_alone
                )
                units = batch * -(-spatial // _channels.SPAN)
                kernel(*common, min(PIECES, units))
        return found

    def moments(
        self, dtype: int, x: int, mean: int, m2: int, extents: tuple[int, int, int],
        strides: tuple[int, int], num_threads: int, more: dict[str, Any],
    ) -> None:  # fmt: skip
        """Mean and sum of squared deviations of channels."""
        _refuse("moments", (dtype,), more)
        like = LIKE[dtype]
        batch, channels, spatial = extents
        size = batch * channels * spatial * like.nbytes
        found = self._batch(
            (x, 0, 0, 0, 0, 0, 0, 0), (*extents, channels), (*strides, 0, 0),
            (True, 0.0), (like, like, like), size, num_threads,
        )  # fmt: skip
        _channels.write_moments(found, float(batch * spatial), mean, m2)


FEW_CHANNELS = 16
LONG_CHANNEL = 262144
ONE_PLUS_WEIGHT = 2


def _factor(momentum: float, tracked: int) -> float:
    """What the new value counts; as in the C API 0 is the default, and a negative one
    the average of all batches."""
    if momentum < 0.0:
        return 1.0 / (tracked + 1.0)
    return momentum or 0.1
