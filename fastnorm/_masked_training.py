# _masked_training.py - gradients of layers by what takes part of a batch.
# SPDX-License-Identifier: MIT
"""What `mask` and `lengths` mean to the `backward` of a layer.

The gradient by what takes part is that of an array of nothing else. So it is made of
calls with such arrays, gathered and put back: one call for batch norm, for the others
one for all samples, or rows, that have the same pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ._core import Gradients
from ._values import real_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    # An index, and the gradients of what is there from those by its result.
    Piece = tuple[Any, Callable[[Array, Array], Gradients]]

__all__ = ["gathered", "same_patterns", "shared_mask", "taking_part"]


def shared_mask(function: str, mask: Any, ndim: int, channel: int) -> Array:
    """The mask, with one entry along the axis of the channels, which must share it."""
    given: Array = np.asarray(mask)
    if given.dtype != np.bool_:
        raise TypeError(
            f"{function}: mask has dtype {given.dtype}, bool is needed in training"
        )
    place = given.ndim - ndim + channel % max(ndim, 1)
    if place < 0 or given.shape[place] < 2:
        return given
    first: Array = given.take([0], place)
    if not np.all(first == given):
        raise ValueError(
            f"{function}: mask differs between channels, which has no gradient here"
        )
    return first


def taking_part(shape: tuple[int, ...], channel: int, mask: Any, lengths: Any) -> Array:
    """Which positions do: bool, of the shape without the channels."""
    channel %= len(shape)
    if mask is not None:
        whole = (*shape[:channel], 1, *shape[channel + 1 :])
        return np.array(np.broadcast_to(mask, whole).squeeze(channel))
    rest = shape[:channel] + shape[channel + 1 :]
    inside = np.arange(rest[1]) < np.asarray(lengths)[:, np.newaxis]
    inside = inside.reshape(rest[:2] + (1,) * (len(rest) - 2))
    return np.array(np.broadcast_to(inside, rest))


def same_patterns(part: Array) -> Iterator[tuple[Array, Array]]:
    """Indices of samples that have one pattern, and the pattern."""
    places: dict[bytes, list[int]] = {}
    for n, pattern in enumerate(part):
        places.setdefault(pattern.tobytes(), []).append(n)
    for found in places.values():
        yield np.array(found), part[found[0]]


def gathered(
    function: str,
    grad_output: Any,
    x: Any,
    keep: bool,
    out: Any,
    view: Callable[[Array], Array],
    pieces: Iterable[Piece],
    shapes: Mapping[str, tuple[int, ...]],
) -> Gradients:
    """The gradients from those of `pieces`, whose indices are into ``view(x)``.

    What is in no piece has none by the input (with `keep` that of its result, which it
    was itself). Those by parameters, of these shapes, are added up in float64.
    """
    x, g = (
        real_array(function, "input", x),
        real_array(function, "grad_output", grad_output),
    )
    if g.shape != x.shape:
        raise ValueError(
            f"{function}: grad_output has shape {g.shape}, input's {x.shape} is needed"
        )
    into = None if out is None else real_array(function, "out", out)
    if into is not None and (into.shape, into.dtype) != (x.shape, x.dtype):
        raise ValueError(
            f"{function}: out has shape {into.shape} and dtype {into.dtype}, "
            f"{x.shape} and {x.dtype} are needed"
        )
    if into is not None and not into.flags.writeable:
        raise ValueError(f"{function}: out is read-only")
    result = np.zeros(x.shape, x.dtype)
    if keep:
        np.copyto(result, g, casting="same_kind")
    sums = {name: np.zeros(shape) for name, shape in shapes.items()}
    xs, gs, results = view(x), view(g), view(result)
    for index, slopes in pieces:
        found = slopes(gs[index], xs[index])
        results[index] = found.input
        for name, total in sums.items():
            part = getattr(found, name)
            total[: len(part)] += part
    if into is not None:
        np.copyto(into, result)
    working = np.float64 if x.dtype == np.float64 else np.float32
    rounded = {name: total.astype(working) for name, total in sums.items()}
    return Gradients(
        result if into is None else out, rounded.get("weight"), rounded.get("bias")
    )
