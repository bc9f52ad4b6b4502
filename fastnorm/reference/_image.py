# reference/_image.py - normalize_image.
# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ._arrays import Array, as_float64, check_shape, numbers, widened
from ._elements import as_dtype, is_byte, round_to, wide

Channels: TypeAlias = str | ArrayLike | None

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize_image(
    input: ArrayLike,
    mean: Channels = None,
    std: Channels = None,
    *,
    scale: float | None = None,
    layout: str = "chw",
    reverse_channels: bool = False,
    out_dtype: DTypeLike | None = None,
    out: Array | None = None,
    num_threads: int | None = None,  # noqa: ARG001
) -> Array:
    """Pixels for a network: ``(input * scale - mean) / std``, channels first.

    Parameters
    ----------
    input : array_like, shape (..., height, width, channels)
    mean, std : "imagenet", float or sequence of float, optional
        Of each channel of the result, or one number for all; 0 and 1 if not given.
    scale : float, optional
        The float64 next to 1/255 for uint8, and 1 for other types, if not given.
    layout : {"chw", "hwc"}
        The order of the last three axes of the result.
    reverse_channels : bool
        Take the channels from the last to the first.
    out_dtype : dtype, optional
        Round the result to float32 and then to this type (float64: once).
    out : ndarray, optional
        Receives the result, rounded to its dtype in the same way.
    num_threads : int, optional
        Has no effect here.

    Returns
    -------
    y : ndarray
        float64 (or `out`, or of `out_dtype`); shape (..., channels, height, width), or
        that of `input`.

    Raises
    ------
    ValueError
        If shapes do not fit, or `std` is not positive.
    """
    fn = "normalize_image"
    given = numbers(input)
    if given.ndim < 3:
        raise ValueError(
            f"{fn}: input has shape {given.shape}, "
            "(..., height, width, channels) is needed"
        )
    if layout not in ("chw", "hwc"):
        raise ValueError(f"{fn}: layout is {layout!r}, 'chw' or 'hwc' is needed")
    if scale is None:
        scale = 1 / 255 if is_byte(given.dtype) else 1.0
    x = widened(given)[..., :: -1 if reverse_channels else 1]
    m = _of_channels("mean", mean, IMAGENET_MEAN, 0.0, x)
    s = _of_channels("std", std, IMAGENET_STD, 1.0, x)
    if not np.all(s > 0):
        raise ValueError(f"{fn}: std is {s}, positive numbers are needed")
    with np.errstate(all="ignore"):
        y = (x * wide(scale) - m) / s
    if layout == "chw":
        y = np.moveaxis(y, -1, -3)
    check_shape(fn, "out", out, y.shape)
    if out is None:
        return as_float64(y) if out_dtype is None else _stored(y, out_dtype)
    out[...] = _stored(y, out.dtype)
    return out


def _stored(y: Array, dtype: DTypeLike) -> Array:
    wanted = as_dtype(dtype)
    return round_to(y if wanted == np.float64 else round_to(y, np.float32), wanted)


def _of_channels(
    name: str, value: Channels, imagenet: tuple[float, ...], initial: float, x: Array
) -> Array:
    if isinstance(value, str):
        if value != "imagenet":
            raise ValueError(f"normalize_image: {name} is {value!r}, not 'imagenet'")
        value = imagenet
    numbers_of = widened(initial if value is None else value)
    if numbers_of.shape not in ((), x.shape[-1:]):
        raise ValueError(
            f"normalize_image: {name} has shape {numbers_of.shape}, input with "
            f"{x.shape[-1]} channels needs {x.shape[-1:]}"
        )
    return numbers_of
