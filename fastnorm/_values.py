# _values.py - parameters as they come: lists, arrays, tensors of other libraries.
# SPDX-License-Identifier: MIT
"""Conversions that are done once per parameter, so they may be generous."""

from __future__ import annotations

import operator
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["integer", "is_real", "real_array", "rounded"]


def is_real(dtype: np.dtype[Any]) -> bool:
    """Whether it holds real numbers; bfloat16 is not one of NumPy's own kinds."""
    return dtype.kind in "fiu" or dtype.name == "bfloat16"


def integer(function: str, name: str, value: Any) -> int:
    """`value` as an int; TypeError if it is none."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(
            f"{function}: {name} is {value!r}, an integer is needed"
        ) from None


def real_array(function: str, name: str, value: Any) -> NDArray[Any]:
    """`value` as an array of real numbers, which may share its memory.

    Whatever NumPy or DLPack takes. Of tensors that record gradients the values are
    read; bfloat16 tensors, which NumPy cannot see, are widened to float32.

    Raises
    ------
    TypeError
        If it is no array, holds no real numbers, is masked or not in host memory.
    """
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(value, masked.MaskedArray):
        raise TypeError(f"{function}: {name} is a masked array, a plain one is needed")
    try:
        if hasattr(value, "detach"):
            value = value.detach()
        if str(getattr(value, "dtype", "")) == "torch.bfloat16":
            value = value.float()
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            array = np.from_dlpack(value)
        else:
            array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise TypeError(f"{function}: {name} is not an array: {error}") from error
    if not is_real(array.dtype):
        raise TypeError(
            f"{function}: {name} has dtype {array.dtype}, real numbers are needed"
        )
    return array


def rounded(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A new array of `dtype`, rounded once, to nearest even; too large becomes Inf."""
    with np.errstate(over="ignore", under="ignore"):
        if dtype.name != "bfloat16":
            return values.astype(dtype)
        # The conversion to bfloat16 goes through float32. Rounded to odd there, the
        # second rounding is the only one that counts (Boldo, Melquiond 2008).
        near = values.astype(np.float32)
        bits = near.view(np.uint32)
        bits -= (np.abs(near) > np.abs(values)).astype(np.uint32)
        bits |= (near != values) & ~np.isnan(values)
        return near.astype(dtype)
