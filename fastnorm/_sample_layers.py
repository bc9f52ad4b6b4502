# _sample_layers.py - InstanceNorm and GroupNorm of fastnorm.layers.
# SPDX-License-Identifier: MIT
"""The layers whose statistics belong to a sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from . import _core
from ._channel_layers import Channels, Tracking
from ._layer import (
    ChannelCallOptions,
    Options,
    affine_parameters,
    count,
    number,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from ._core import _Input, _Output
    from ._layer import Array


class InstanceNorm(Tracking):
    """Instance normalization, of any number of axes; see `instance_norm`.

    Parameters
    ----------
    num_features, eps, momentum
        As for `BatchNorm`.
    affine : bool, default False
        Whether there is a weight, and with `bias` a bias.
    track_running_stats : bool, default False
        Whether there are running statistics. With them calls normalize every instance
        by these, as a torch module does in evaluation: that is batch normalization.
    bias, weight, running_mean, running_var, channel_axis, dtype, **options
        As for `BatchNorm`.

    Attributes
    ----------
    weight, bias, running_mean, running_var, num_batches_tracked : ndarray or None
        Read-only but in training.
    num_features, eps, momentum, affine, track_running_stats : as given
    channel_axis, dtype, options : as given
        None can be set.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> norm = fastnorm.InstanceNorm(1, eps=0.0)
    >>> norm(np.array([[[1, 3]], [[10, 30]]], dtype=np.float32))
    array([[[-1.,  1.]],
    <BLANKLINE>
           [[-1.,  1.]]], dtype=float32)
    """

    __slots__ = ()
    __module__ = "fastnorm.layers"

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool | ArrayLike | None = True,
        weight: ArrayLike | None = None,
        running_mean: ArrayLike | None = None,
        running_var: ArrayLike | None = None,
        channel_axis: int = 1,
        dtype: DTypeLike = np.float32,
        **options: Unpack[Options],
    ) -> None:
        self._start_tracking(
            num_features, eps, momentum, affine, track_running_stats,
            bias=bias, weight=weight, running_mean=running_mean,
            running_var=running_var, channel_axis=channel_axis, dtype=dtype,
            options=options,
        )  # fmt: skip

    def __call__(
        self,
        x: _Input,
        out: _Output | None = None,
        **options: Unpack[ChannelCallOptions],
    ) -> Any:
        """`instance_norm` of x with these parameters, into `out` if given.

        Further keywords as for `BatchNorm`.
        """
        if self._training:
            return self._trained(x, out, options)
        mean, var, weight, bias, own_stats, eps, axis, always, _ = self._now
        every = {**always, **options}
        if own_stats:
            return _core.instance_norm(
                x, None, None, weight, bias, True, 0.1, eps,
                channel_axis=axis, out=out, **every,
            )  # fmt: skip
        return _core.batch_norm(
            x, mean, var, weight, bias, False, 0.1, eps,
            channel_axis=axis, out=out, **every,
        )  # fmt: skip

    def _learn(
        self, x: _Input, out: _Output | None, options: Mapping[str, Any]
    ) -> tuple[Any, tuple[Any, ...]]:
        state = self._now[-1]
        momentum, count = self.momentum, state.get("num_batches_tracked")
        if momentum is None:
            momentum = 0.1 if count is None else 1.0 / (int(count) + 1)
        y, *stats = _core.instance_norm(
            x, state.get("running_mean"), state.get("running_var"),
            state.get("weight"), state.get("bias"), True, momentum, self.eps or 0.0,
            channel_axis=self.channel_axis, out=out, return_stats=True, **options,
        )  # fmt: skip
        return y, tuple(stats)

    def _slopes(
        self, grad_output: _Input, kept: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        x, mean, rstd = kept
        return _core.instance_norm_backward(
            grad_output, x, self._now[-1].get("weight"), mean, rstd,
            **{"channel_axis": self.channel_axis, **options},
        )  # fmt: skip


class GroupNorm(Channels):
    """Group normalization, of any number of axes; see `group_norm`.

    Parameters
    ----------
    num_groups : int
        Groups; divides num_channels.
    num_channels : int
        Channels.
    eps : float, default 1e-5
        Added to the variance, inside the square root.
    affine : bool, default True
        Whether there is a weight, and with `bias` a bias.
    bias : bool or array_like of shape (num_channels,), default True
        Whether there is a bias, or its values; zeros for True.
    weight : array_like of shape (num_channels,), optional
        Ones if not given. Parameters are copied.
    channel_axis, dtype, **options
        As for `BatchNorm`.

    Attributes
    ----------
    weight, bias : ndarray or None, read-only but in training
    num_groups, num_channels, eps, affine, channel_axis, dtype, options
        As given; none can be set.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> norm = fastnorm.GroupNorm(1, 2, eps=0.0)
    >>> norm(np.array([[[1, 1], [3, 3]]], dtype=np.float32))
    array([[[-1., -1.],
            [ 1.,  1.]]], dtype=float32)
    """

    __slots__ = ("num_channels", "num_groups")
    __module__ = "fastnorm.layers"
    _fields = ("num_groups", "num_channels", "eps", "affine", "bias", "channel_axis")
    _unnamed = 2

    num_groups: int
    num_channels: int

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool | ArrayLike | None = True,
        weight: ArrayLike | None = None,
        channel_axis: int = 1,
        dtype: DTypeLike = np.float32,
        **options: Unpack[Options],
    ) -> None:
        self._set_channels(affine, channel_axis)
        self._set(
            num_groups=count("GroupNorm", "num_groups", num_groups),
            num_channels=count("GroupNorm", "num_channels", num_channels),
        )
        if self.num_groups == 0 or self.num_channels % self.num_groups != 0:
            raise ValueError(
                f"GroupNorm: num_groups is {num_groups}, which does not divide the "
                f"{num_channels} channels"
            )
        parameters = affine_parameters(
            "GroupNorm", "affine", (self.num_channels,), self.affine, weight, bias
        )
        self._start(dtype, number("GroupNorm", "eps", eps), options, parameters)

    def _channels(self) -> int:
        return self.num_channels

    def _prepare(self, state: dict[str, Array]) -> tuple[Any, ...]:
        weight, bias = state.get("weight"), state.get("bias")
        return weight, bias, self.num_groups, self.eps, self.channel_axis, state

    def __call__(
        self,
        x: _Input,
        out: _Output | None = None,
        **options: Unpack[ChannelCallOptions],
    ) -> Any:
        """`group_norm` of x with these parameters, into `out` if given.

        Further keywords as for `BatchNorm`.
        """
        if self._training:
            return self._trained(x, out, options)
        weight, bias, groups, eps, axis, _ = self._now
        return _core.group_norm(
            x, groups, weight, bias, eps,
            channel_axis=axis, out=out, **{**self.options, **options},
        )  # fmt: skip

    def _learn(
        self, x: _Input, out: _Output | None, options: Mapping[str, Any]
    ) -> tuple[Any, tuple[Any, ...]]:
        weight, bias, groups, eps, axis, _ = self._now
        y, *stats = _core.group_norm(
            x, groups, weight, bias, eps, channel_axis=axis, out=out, return_stats=True,
            **options,
        )  # fmt: skip
        return y, tuple(stats)

    def _slopes(
        self, grad_output: _Input, kept: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        x, mean, rstd = kept
        weight, _, groups, _, axis, _ = self._now
        return _core.group_norm_backward(
            grad_output, x, groups, weight, mean, rstd,
            **{"channel_axis": axis, **options},
        )  # fmt: skip
