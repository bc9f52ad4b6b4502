# reference/_results.py - what comes before a norm (residual) and after it (the store).
# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ._arrays import (
    Array,
    Input,
    as_float64,
    check_shape,
    fitted,
    flushed,
    spread,
)
from ._elements import (
    Activation,
    activate,
    as_dtype,
    checked_scale,
    checked_zero_point,
    is_byte,
    quantize,
    quantize_rows,
    round_to,
    wide,
)
from ._masks import Masking

Results: TypeAlias = Array | tuple[Array, ...]


class Output:
    """Where and how a result is stored; checked before anything is computed."""

    def __init__(
        self,
        function: str,
        given: Input,
        out: Array | None,
        out_dtype: DTypeLike | None,
        scale: float | None,
        zero_point: int | None,
        post_add: ArrayLike | None = None,
        activation: Activation | None = None,
    ) -> None:
        shape = given.x.shape
        self.x = given.x
        check_shape(function, "out", out, shape)
        wanted = None if out_dtype is None else as_dtype(out_dtype)
        if out is not None and wanted is not None and out.dtype != wanted:
            raise TypeError(
                f"{function}: out has dtype {out.dtype}, out_dtype is {wanted}"
            )
        self.function = function
        dtype: Any = wanted if out is None else out.dtype
        self.dtype = dtype
        self.bytes = dtype is not None and is_byte(dtype)
        self.out = out
        self.scale, self.zero_point = scale, zero_point
        self.least = given.least
        if self.bytes:
            checked_scale(function, "out_scale", scale)
            checked_zero_point(function, "out_zero_point", zero_point, dtype)
        elif scale is not None or zero_point is not None:
            raise ValueError(
                f"{function}: out_scale and out_zero_point need an int8 or uint8 output"
            )
        self.post_add = fitted(function, "post_add", post_add, shape)
        activate(np.zeros(0), activation)
        self.activation = activation

    def store(
        self,
        y: Array,
        rows: tuple[int, ...] | None = None,
        masking: Masking | None = None,
    ) -> tuple[Array, ...]:
        """The stored result, and the scales if each row over `rows` has its own."""
        with np.errstate(invalid="ignore"):
            if self.post_add is not None:
                y = y + flushed(self.post_add, self.least)
        y = flushed(activate(y, self.activation), self.least)
        scales: tuple[Array, ...] = ()
        if self.bytes and self.scale is None:
            if rows is None:
                raise ValueError(f"{self.function}: {self.dtype} needs out_scale")
            found, scale = quantize_rows(y, self.dtype, rows, self.zero_point)
            scales = (scale,)
        else:
            found = self._stored(y)
        if masking is not None and masking.part is not None:
            instead = self._stored(self.x if masking.keep else np.zeros_like(y))
            found = np.where(masking.part, found, instead)
        if self.out is None:
            return (found, *scales)
        self.out[...] = found
        return (self.out, *scales)

    @property
    def has_row_scales(self) -> bool:
        """Each row is stored with a scale of its own."""
        return self.bytes and self.scale is None

    def _stored(self, y: Array) -> Any:
        if self.bytes:
            return quantize(y, self.dtype, self.scale, self.zero_point)
        return as_float64(y) if self.dtype is None else round_to(y, self.dtype)


def results(stored: tuple[Array, ...], stats: tuple[Array, ...]) -> Results:
    """One array, or a tuple with the statistics last."""
    if len(stored) == 1 and not stats:
        return stored[0]
    return (*stored, *(as_float64(s) for s in stats))


def residual_sum(
    function: str,
    given: Input,
    axes: tuple[int, ...],
    residual: ArrayLike | None,
    residual_bias: ArrayLike | None,
    residual_out: Array | None,
) -> Array:
    """What is normalized: the input, or its sum with the residual and its bias."""
    x = given.x
    added = fitted(function, "residual", residual, x.shape)
    bias = spread(function, "residual_bias", residual_bias, x, axes)
    check_shape(function, "residual_out", residual_out, x.shape)
    if added is None:
        if bias is not None or residual_out is not None:
            raise ValueError(
                f"{function}: residual_bias and residual_out need residual"
            )
        return x
    with np.errstate(invalid="ignore"):
        x = _rounded_sum(x, added, given)
        if bias is not None:
            x = _rounded_sum(x, bias, given)
    if residual_out is not None:
        residual_out[...] = round_to(x, residual_out.dtype)
    return x


def _rounded_sum(x: Array, other: Array, given: Input) -> Array:
    total: Any = round_to(x + flushed(other, given.least), given.work).astype(wide)
    return flushed(total, given.least)
