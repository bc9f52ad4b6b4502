# SPDX-License-Identifier: MIT
"""fastnorm.blockwise - the norms over files that need not fit in memory.

A norm whose rows fit in a block is one pass of the library's own function, with the
same bits as in memory. Statistics that cross blocks take two passes, streamed moments
that are merged, then the application in float64, rounded once. Both work on the file
as a three-axis array [N, C, S] whose middle axis keeps its own statistics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import (
    MomentsState,
    RunningMoments,
    batch_norm,
    layer_norm,
    merge_moments,
    moments,
    rms_norm,
)
from .files import NewArray, Region, Volume, blocks

__all__ = ["Channels", "Job", "Progress", "Rows", "file_moments", "run"]

# A block in float64 with two temporaries, and the same again in the page cache.
_BYTES_PER_ITEM = 32


class Progress(Protocol):
    """What is told how far the work is, in items read."""

    def expect(self, items: int) -> None: ...

    def advance(self, items: int) -> None: ...


class _Silent:
    def expect(self, items: int) -> None:
        pass

    def advance(self, items: int) -> None:
        pass


@dataclass(frozen=True)
class Rows:
    """Layer or RMS norm over `axes` (adjacent, ascending) of the file."""

    axes: tuple[int, ...]
    centred: bool


@dataclass(frozen=True)
class Channels:
    """Batch norm of `axis`; None takes the whole file as one channel.

    `mean` and `var` are the stored statistics, [C], or None for those of the file.
    """

    axis: int | None
    mean: NDArray[Any] | None = None
    var: NDArray[Any] | None = None


@dataclass(frozen=True)
class Job:
    """What to do with a file, and with how much memory.

    `weight` and `bias` have the shape of the normalized axes, or [C]. `dtype` is that
    of the arithmetic and of the result, float32 or float64. `memory` is in bytes.
    """

    norm: Rows | Channels
    dtype: DTypeLike
    eps: float
    weight: NDArray[Any] | None = None
    bias: NDArray[Any] | None = None
    memory: int = 64 << 20
    num_threads: int | None = None
    progress: Progress = field(default_factory=_Silent)

    @property
    def limit(self) -> int:
        """Items of a block."""
        return max(1, self.memory // _BYTES_PER_ITEM)


def run(array: NDArray[Any], output: NewArray, job: Job) -> None:
    """Normalizes `array` (memory-mapped) into `output`, of its shape and order."""
    if array.size == 0:
        return
    if isinstance(job.norm, Rows):
        _run_rows(array, job.norm, output, job)
    elif job.norm.mean is not None and job.norm.mean.dtype == job.dtype:
        _run_stored(as_volume(array, job.norm.axis), job.norm, output, job)
    else:
        _run_channels(as_volume(array, job.norm.axis), job.norm, output, job)


def as_volume(array: NDArray[Any], axis: int | None) -> Volume:
    """[N, C, S] in the order of the file, C being `axis`; [1, 1, all] for None."""
    shape = array.shape
    if not array.flags.c_contiguous:
        array, shape = array.T, array.shape[::-1]
        axis = None if axis is None else len(shape) - 1 - axis
    if axis is None:
        return Volume(array.reshape(1, 1, -1))
    return Volume(
        array.reshape(
            math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
        )
    )


def file_moments(
    array: NDArray[Any],
    channel: int | None,
    nan: Literal["propagate", "error", "omit"],
    memory: int,
    *,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> RunningMoments:
    """Those of each entry of an axis, or of everything, block by block."""
    volume = as_volume(array, channel)
    # Bytes and floats are taken as they are; float64 holds all other integers exactly,
    # up to 2**53.
    own = array.dtype.name in ("uint8", "int8", "float16", "float32", "float64")
    dtype = array.dtype.newbyteorder("=") if own else np.dtype(np.float64)
    parts: dict[int, RunningMoments] = {}
    for region in blocks(volume.shape, max(1, memory // _BYTES_PER_ITEM)):
        x = volume.read(region, dtype)
        first = region[1].start
        if first not in parts:
            parts[first] = RunningMoments((0, 2), nan=nan, num_threads=num_threads)
        parts[first].update(x)
        if progress is not None:
            progress.advance(x.size)
    if not parts:
        parts[0] = RunningMoments((0, 2), nan=nan).update(np.empty(volume.shape))
    states = [parts[first].to_dict() for first in sorted(parts)]
    axis = None
    if channel is not None:
        others = tuple(i for i in range(array.ndim) if i != channel)
        axis = others[0] if len(others) == 1 else others
    shape = () if channel is None else (volume.shape[1],)
    joined = {
        name: np.concatenate([state[name] for state in states]).reshape(shape)
        for name in states[0].keys() - {"axis", "nan", "shape"}
    }
    return RunningMoments.from_dict(
        {**joined, "axis": axis, "nan": nan, "shape": shape}
    )


# ---- Rows: layer norm and RMS norm ----------------------------------------------


def _run_rows(array: NDArray[Any], norm: Rows, output: NewArray, job: Job) -> None:
    axes, weight, bias = norm.axes, job.weight, job.bias
    if not array.flags.c_contiguous:
        # In the order of the file all axes are reversed, the parameters' too.
        array = array.T
        axes = tuple(array.ndim - 1 - i for i in reversed(axes))
        weight, bias = (None if p is None else p.T for p in (weight, bias))
    outer = math.prod(array.shape[: axes[0]])
    length = math.prod(array.shape[i] for i in axes)
    inner = math.prod(array.shape[axes[-1] + 1 :])
    weight, bias = (None if p is None else p.reshape(length) for p in (weight, bias))
    job = replace(job, weight=weight, bias=bias)
    data = array.reshape(outer, length, inner)
    if length * inner <= job.limit:
        _run_whole_rows(Volume(data), norm, output, job)
        return
    # One row does not fit: its statistics are those of the channels of an array whose
    # channel axis is what lies inside the normalized axes.
    shape = (length, inner, 1) if inner > 1 else (1, 1, length)
    spread = (length, 1, 1) if inner > 1 else (1, 1, length)
    weight, bias = (None if p is None else p.reshape(spread) for p in (weight, bias))
    job.progress.expect(array.size)
    for i in range(outer):
        volume = Volume(data[i].reshape(shape), i * length * inner)
        _two_passes(volume, norm.centred, weight, bias, output, job)


def _run_whole_rows(volume: Volume, norm: Rows, output: NewArray, job: Job) -> None:
    outer, length, inner = volume.shape
    step = max(1, job.limit // (length * inner))
    for first in range(0, outer, step):
        region = (
            slice(first, min(first + step, outer)),
            slice(0, length),
            slice(0, inner),
        )
        x = volume.read(region, job.dtype)
        if norm.centred:
            layer_norm(
                x, None, job.weight, job.bias, job.eps,
                axis=1, out=x, num_threads=job.num_threads,
            )  # fmt: skip
        else:
            rms_norm(
                x, None, job.weight, job.eps,
                axis=1, out=x, num_threads=job.num_threads,
            )  # fmt: skip
        output.write(volume, region, x)
        job.progress.advance(x.size)


# ---- Channels: batch norm and standardization -----------------------------------


def _run_stored(volume: Volume, norm: Channels, output: NewArray, job: Job) -> None:
    """Stored statistics of the file's dtype: the library's inference, same bits."""
    for region in blocks(volume.shape, job.limit):
        c = region[1]
        x = volume.read(region, job.dtype)
        batch_norm(
            x, _cut(norm.mean, c), _cut(norm.var, c), _cut(job.weight, c),
            _cut(job.bias, c), False, 0.1, job.eps, out=x, num_threads=job.num_threads,
        )  # fmt: skip
        output.write(volume, region, x)
        job.progress.advance(x.size)


def _run_channels(volume: Volume, norm: Channels, output: NewArray, job: Job) -> None:
    spread = (1, -1, 1)
    weight, bias = (
        None if p is None else p.reshape(spread) for p in (job.weight, job.bias)
    )
    if norm.mean is None or norm.var is None:
        job.progress.expect(volume.data.size)
        _two_passes(volume, True, weight, bias, output, job)
        return
    region = tuple(slice(0, n) for n in volume.shape)
    pass_ = _Pass(volume, region, job.dtype, job.limit, job.num_threads, job.progress)
    pass_.mean = norm.mean.astype(np.float64)
    zero = np.zeros_like(pass_.mean)
    pass_.apply(zero, norm.var + job.eps, weight, bias, output)


# ---- Two passes -----------------------------------------------------------------


def _two_passes(
    volume: Volume,
    centred: bool,
    weight: NDArray[Any] | None,
    bias: NDArray[Any] | None,
    output: NewArray,
    job: Job,
) -> None:
    """Normalizes each channel of `volume` by its own statistics.

    `weight` and `bias` have three axes that broadcast against the volume.
    """
    n, channels, s = volume.shape
    # So many channels at a time that their statistics are small beside a block.
    step = max(1, job.limit // 8)
    for first in range(0, channels, step):
        c = slice(first, min(first + step, channels))
        region = (slice(0, n), c, slice(0, s))
        pass_ = _Pass(
            volume, region, job.dtype, job.limit, job.num_threads, job.progress
        )
        low, var = pass_.statistics(centred, job.eps)
        pass_.apply(low, var, weight, bias, output)


@dataclass
class _Pass:
    """Passes over some channels of a volume, seen as ``x * scale - mean``."""

    volume: Volume
    region: Region
    dtype: DTypeLike
    limit: int
    num_threads: int | None
    progress: Progress
    scale: NDArray[np.float64] | None = None
    mean: NDArray[np.float64] | None = None

    def _regions(self) -> Iterator[tuple[Region, slice]]:
        """Each block: its region of the volume, and its channels counted from ours."""
        first = self.region[1].start
        shape = tuple(s.stop - s.start for s in self.region)
        for n, c, s in blocks(shape, self.limit):
            yield (n, slice(first + c.start, first + c.stop), s), c

    def _read(self, region: Region, c: slice) -> NDArray[Any]:
        if self.scale is None and self.mean is None:
            return self.volume.read(region, self.dtype)
        # Through the working dtype, so that a conversion rounds as it does elsewhere.
        x = self.volume.read(region, self.dtype).astype(np.float64, copy=False)
        if self.scale is not None:
            x *= self.scale[c, None]
        if self.mean is not None:
            with np.errstate(invalid="ignore"):
                x -= self.mean[c, None]
        return x

    def moments(self) -> MomentsState:
        """One pass: the moments of each channel."""
        states: dict[tuple[int, int], MomentsState] = {}
        for region, c in self._regions():
            x = self._read(region, c)
            state = moments(
                x, axis=(0, 2), return_state=True, num_threads=self.num_threads
            )
            key = (c.start, c.stop)
            states[key] = merge_moments(states[key], state) if key in states else state
            self.progress.advance(x.size)
        ordered = [states[key] for key in sorted(states)]
        return MomentsState(
            ordered[0].count,
            np.concatenate([np.ravel(s.mean) for s in ordered]),
            np.concatenate([np.ravel(s.m2) for s in ordered]),
        )

    def statistics(
        self, centred: bool, eps: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sets `mean` and `scale`; the rest of the mean, and variance + eps, of that.

        float32 data cannot leave the range or the precision of float64 moments.
        float64 data can: then a power of two brings the channel's squares into the
        range, and one more pass over the deviations gives the digits of the mean that
        float64 lacks.
        """
        state = self.moments()
        if self.dtype == np.float64:
            scale = _safe_scale(state, centred, eps)
            if np.any(scale != 1):
                self.scale = scale
                state = self._again()
        scale = np.ones(state.mean.shape) if self.scale is None else self.scale
        scaled_eps = eps * scale * scale
        var = state.m2 / state.count
        if not centred:
            return np.zeros_like(var), var + np.square(state.mean) + scaled_eps
        self.mean = state.mean
        if self.dtype == np.float64 and np.any(np.abs(state.mean) > np.sqrt(var)):
            state = self._again()
            return state.mean, state.m2 / state.count + scaled_eps
        return np.zeros_like(var), var + scaled_eps

    def _again(self) -> MomentsState:
        self.progress.expect(math.prod(s.stop - s.start for s in self.region))
        return self.moments()

    def apply(
        self,
        low: NDArray[np.float64],
        var: NDArray[np.float64],
        weight: NDArray[Any] | None,
        bias: NDArray[Any] | None,
        output: NewArray,
    ) -> None:
        """One pass: writes ``(x * scale - mean - low) / sqrt(var)``, 0 for var = 0."""
        for region, c in self._regions():
            x = self._read(region, c).astype(np.float64, copy=False)
            batch_norm(x, low[c], var[c], eps=0.0, out=x, num_threads=self.num_threads)
            if weight is not None:
                x *= _at(weight, region)
            if bias is not None:
                x += _at(bias, region)
            output.write(self.volume, region, x)
            self.progress.advance(x.size)


def _safe_scale(state: MomentsState, centred: bool, eps: float) -> NDArray[np.float64]:
    """Powers of two that bring what is squared into the range of float64."""
    squares = state.m2
    if not centred:
        with np.errstate(over="ignore"):
            squares = state.m2 + state.count * np.square(state.mean)
    large = ~(np.isfinite(squares) & np.isfinite(state.mean))
    # With eps > 0 a variance that underflows has no weight in the result.
    small = (squares < 1e-290) & (np.abs(state.mean) < 1e30) & (eps == 0)
    return np.where(large, 2.0**-600, np.where(small, 2.0**900, 1.0))


def _cut(values: NDArray[Any] | None, c: slice) -> NDArray[Any] | None:
    return None if values is None else values[c]


def _at(values: NDArray[Any], region: Region) -> NDArray[Any]:
    """What of the broadcast parameters belongs to this region."""
    return values[
        tuple(
            s if n > 1 else slice(None)
            for s, n in zip(region, values.shape, strict=True)
        )
    ]
