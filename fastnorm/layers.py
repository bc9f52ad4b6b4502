# layers.py - norms with their parameters: prepared once, called from any thread.
# SPDX-License-Identifier: MIT
"""LayerNorm, RMSNorm, BatchNorm, BatchRenorm, GroupNorm, InstanceNorm, WeightNorm.

Constructors follow ``torch.nn``; what torch lacks is keyword-only. A call is one call
of the function of the same name. A layer begins in evaluation, unlike torch's, and then
never changes but by `load_state_dict`, which replaces all of its parameters at once;
between `train` and `eval` it learns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import numpy as np

from . import _core
from ._channel_layers import BatchNorm
from ._layer import (
    IncompatibleKeys,
    Layer,
    LayerCallOptions,
    Options,
    RowCallOptions,
    Shape,
    affine_parameters,
    count,
)
from ._renorm_layer import BatchRenorm
from ._sample_layers import GroupNorm, InstanceNorm
from ._values import integer
from ._weight_layer import WeightNorm

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from ._core import _Input, _Output, _RmsMode
    from ._layer import Array
    from ._masked_training import Piece

__all__ = [
    "BatchNorm",
    "BatchRenorm",
    "GroupNorm",
    "IncompatibleKeys",
    "InstanceNorm",
    "LayerNorm",
    "RMSNorm",
    "WeightNorm",
]


class _Rows(Layer):
    """LayerNorm and RMSNorm: over trailing axes, or over `axis`."""

    __slots__ = ("axis", "elementwise_affine", "normalized_shape")

    normalized_shape: Shape
    elementwise_affine: bool
    axis: int | tuple[int, ...] | None

    def _set_axes(
        self,
        normalized_shape: int | Sequence[int],
        axis: int | Sequence[int] | None,
        elementwise_affine: bool,
    ) -> None:
        name = type(self).__name__
        self._set(
            normalized_shape=_counts(name, "normalized_shape", normalized_shape),
            axis=axis if axis is None else _axes(name, axis),
            elementwise_affine=bool(elementwise_affine),
        )

    def _empty_shape(self) -> Shape:
        if self.axis is None:
            return (0, *self.normalized_shape)
        axes = (self.axis,) if isinstance(self.axis, int) else self.axis
        last = max(-a if a < 0 else a + 2 for a in axes)
        shape = [0] * (last + 1)
        for a, n in zip(
            sorted(a % len(shape) for a in axes), self.normalized_shape, strict=False
        ):
            shape[a] = n
        return tuple(shape)


class LayerNorm(_Rows):
    """Layer normalization with its weight and bias; see `layer_norm`.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        Extents of the axes that are normalized together.
    eps : float, default 1e-5
        Added to the variance, inside the square root.
    elementwise_affine : bool, default True
        Whether there is a weight, and with `bias` a bias.
    bias : bool or array_like of shape normalized_shape, default True
        Whether there is a bias, or its values; zeros for True.
    weight : array_like of shape normalized_shape, optional
        Ones if not given. Parameters are copied.
    axis : int or sequence of int, optional
        Adjacent axes that are normalized instead of the trailing ones, such as 1 for
        the channels of images.
    dtype : dtype, default float32
        float32 or float64, of the parameters, to which they are converted. 16-bit and
        8-bit data go with float32.
    **options
        For every call: activation, num_threads, flush_denormals, out_dtype, in_scale,
        in_zero_point, out_scale, out_zero_point, as for `layer_norm`.

    Attributes
    ----------
    weight, bias : ndarray or None, read-only but in training
    normalized_shape, eps, elementwise_affine, axis, dtype, options
        As given; none can be set.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> norm = fastnorm.LayerNorm(4, bias=[0, 0, 0, 1])
    >>> norm
    LayerNorm((4,), eps=1e-05, elementwise_affine=True, bias=True)
    >>> x = np.array([[1, 2, 3, 4]], dtype=np.float32)
    >>> norm(x, out=x)
    array([[-1.3416355, -0.4472118,  0.4472118,  2.3416355]], dtype=float32)
    """

    __slots__ = ()
    _masks = frozenset({"lengths", "masked"})
    _fields = ("normalized_shape", "eps", "elementwise_affine", "bias", "axis")
    _usual: ClassVar = {**Layer._usual, "axis": None}

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool | ArrayLike | None = True,
        *,
        weight: ArrayLike | None = None,
        axis: int | Sequence[int] | None = None,
        dtype: DTypeLike = np.float32,
        **options: Unpack[Options],
    ) -> None:
        self._set_axes(normalized_shape, axis, elementwise_affine)
        shape, flag = self.normalized_shape, self.elementwise_affine
        parameters = affine_parameters(
            "LayerNorm", "elementwise_affine", shape, flag, weight, bias
        )
        self._start(dtype, eps, options, parameters)

    def _prepare(self, state: dict[str, Array]) -> tuple[Any, ...]:
        weight, bias = state.get("weight"), state.get("bias")
        options = dict(self.options)
        if self.axis is not None:
            options["axis"] = self.axis
        return self.normalized_shape, weight, bias, self.eps, options, state

    def __call__(
        self, x: _Input, out: _Output | None = None, **options: Unpack[LayerCallOptions]
    ) -> Any:
        """`layer_norm` of x with this weight and bias, into `out` if given.

        Further keywords: lengths, masked, residual, residual_bias, residual_out,
        post_add, and those of the constructor's options, which they override for this
        call. Returns the array, or what `layer_norm` returns for an 8-bit `out_dtype`
        without a scale.
        """
        if self._training:
            return self._trained(x, out, options)
        shape, weight, bias, eps, always, _ = self._now
        if always or options:
            every = {**always, **options}
            return _core.layer_norm(x, shape, weight, bias, eps, out=out, **every)
        # Without the dictionary a call costs half as much above that of the function.
        return _core.layer_norm(x, shape, weight, bias, eps, out=out)

    def _learn(
        self, x: _Input, out: _Output | None, options: Mapping[str, Any]
    ) -> tuple[Any, tuple[Any, ...]]:
        shape, weight, bias, eps, _, _ = self._now
        y, *stats = _core.layer_norm(
            x, shape, weight, bias, eps, out=out, axis=self.axis, return_stats=True,
            **options,
        )  # fmt: skip
        return y, tuple(stats)

    def _slopes(
        self, grad_output: _Input, kept: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        x, mean, rstd = kept
        shape, weight, _, eps, _, _ = self._now
        return _core.layer_norm_backward(
            grad_output, x, shape, weight, mean, rstd, eps, axis=self.axis, **options
        )

    def _find_part(self, shape: Shape, mask: Any, lengths: Any) -> Array:  # noqa: ARG002
        return np.array(lengths, np.intp)

    def _view(self, array: Array) -> Array:
        rows = (
            array.ndim - len(self.normalized_shape)
            if self.axis is None
            else min(a % array.ndim for a in np.atleast_1d(self.axis))
        )
        return array.reshape(math.prod(array.shape[:rows]), *array.shape[rows:])

    def _pieces(
        self, kept: tuple[Any, ...], part: Array, options: Mapping[str, Any]
    ) -> Iterator[Piece]:
        stats, lengths = [self._view(values) for values in kept[1:]], part.ravel()
        for length in np.unique(lengths[lengths > 0]):
            rows = np.flatnonzero(lengths == length)
            of_these = [values[rows] for values in stats]
            slopes = partial(self._slopes_of, length, of_these, options)
            yield (rows, slice(length)), slopes

    def _slopes_of(
        self, length: int, stats: list[Array], options: Mapping[str, Any], g: Array,
        x: Array,
    ) -> Any:  # fmt: skip
        axes = tuple(range(1, 1 + len(self.normalized_shape)))
        weight = None if self.weight is None else self.weight[:length]
        return _core.layer_norm_backward(
            g, x, None, weight, stats[0], stats[1], axis=axes, **options
        )


class RMSNorm(_Rows):
    """RMS normalization with its weight; see `rms_norm`.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        Extents of the axes that are normalized together.
    eps : float, optional
        Inside the square root; by default the machine epsilon of the data's type.
    elementwise_affine : bool, default True
        Whether there is a weight.
    weight : array_like of shape normalized_shape, optional
        By default such that it changes nothing: ones, or zeros for "one_plus_weight".
    mode : {"plain", "cast_before_weight", "one_plus_weight"}
        What becomes of the weight, as for `rms_norm`.
    axis, dtype, **options
        As for `LayerNorm`.

    Attributes
    ----------
    weight : ndarray or None, read-only but in training
    normalized_shape, eps, elementwise_affine, mode, axis, dtype, options
        As given; none can be set.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> norm = fastnorm.RMSNorm(2, eps=0.0, weight=[1.0, 10.0])
    >>> norm(np.array([[3.0, 4.0]], dtype=np.float32)).round(3)
    array([[ 0.849, 11.314]], dtype=float32)
    """

    __slots__ = ("mode",)
    _fields = ("normalized_shape", "eps", "elementwise_affine", "axis", "mode")
    _usual: ClassVar = {**Layer._usual, "axis": None, "mode": "plain"}

    mode: _RmsMode

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        weight: ArrayLike | None = None,
        mode: _RmsMode = "plain",
        axis: int | Sequence[int] | None = None,
        dtype: DTypeLike = np.float32,
        **options: Unpack[Options],
    ) -> None:
        self._set_axes(normalized_shape, axis, elementwise_affine)
        self._set(mode=mode)
        shape, flag = self.normalized_shape, self.elementwise_affine
        if weight is None and flag and mode == "one_plus_weight":
            weight = np.zeros(shape, np.float32)
        parameters = affine_parameters(
            "RMSNorm", "elementwise_affine", shape, flag, weight, False
        )
        self._start(dtype, eps, options, parameters)

    def _prepare(self, state: dict[str, Array]) -> tuple[Any, ...]:
        options = dict(self.options)
        if self.axis is not None:
            options["axis"] = self.axis
        if self.mode != "plain":
            options["mode"] = self.mode
        return self.normalized_shape, state.get("weight"), self.eps, options, state

    def __call__(
        self, x: _Input, out: _Output | None = None, **options: Unpack[RowCallOptions]
    ) -> Any:
        """`rms_norm` of x with this weight, into `out` if given.

        Keywords and result as for `LayerNorm`.
        """
        if self._training:
            return self._trained(x, out, options)
        shape, weight, eps, always, _ = self._now
        if always or options:
            every = {**always, **options}
            return _core.rms_norm(x, shape, weight, eps, out=out, **every)
        return _core.rms_norm(x, shape, weight, eps, out=out)

    def _learn(
        self, x: _Input, out: _Output | None, options: Mapping[str, Any]
    ) -> tuple[Any, tuple[Any, ...]]:
        shape, weight, eps, _, _ = self._now
        y, *stats = _core.rms_norm(
            x, shape, weight, eps, out=out, axis=self.axis, return_stats=True,
            mode=self.mode, **options,
        )  # fmt: skip
        return y, tuple(stats)

    def _slopes(
        self, grad_output: _Input, kept: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        x, rstd = kept
        shape, weight, eps, _, _ = self._now
        return _core.rms_norm_backward(
            grad_output, x, shape, weight, rstd, eps, mode=self.mode, axis=self.axis,
            **options,
        )  # fmt: skip


def _counts(function: str, name: str, value: int | Sequence[int]) -> Shape:
    values = value if isinstance(value, Sequence) else [value]
    return tuple(count(function, name, n) for n in values)


def _axes(function: str, value: int | Sequence[int]) -> int | tuple[int, ...]:
    if isinstance(value, Sequence):
        return tuple(integer(function, "axis", axis) for axis in value)
    return integer(function, "axis", value)
