# _channel_layers.py - BatchNorm of fastnorm.layers, and what layers of channels share.
# SPDX-License-Identifier: MIT
"""The layers whose parameters belong to channels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import numpy as np

from . import _core
from ._layer import (
    ChannelCallOptions,
    Layer,
    Options,
    Shape,
    affine_parameters,
    count,
    number,
    prepared,
    running_parameters,
)
from ._masked_training import same_patterns, shared_mask, taking_part
from ._values import integer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from ._core import _Input, _Output
    from ._layer import Array
    from ._masked_training import Piece


class Channels(Layer):
    """Norms of an axis of channels, each with its own weight and bias."""

    __slots__ = ("affine", "channel_axis")
    _usual: ClassVar = {**Layer._usual, "channel_axis": 1}
    _masks = frozenset({"mask", "lengths", "masked"})

    affine: bool
    channel_axis: int

    def _set_channels(self, affine: bool, channel_axis: int) -> None:
        axis = integer(type(self).__name__, "channel_axis", channel_axis)
        self._set(affine=bool(affine), channel_axis=axis)

    @abstractmethod
    def _channels(self) -> int:
        """How many there are."""

    def _empty_shape(self) -> Shape:
        axis = self.channel_axis
        shape = [0] * max(axis + 1, -axis, 3)
        shape[axis] = self._channels()
        return tuple(shape)

    def _checked_mask(self, mask: Any, axes: int) -> Array:
        return shared_mask(type(self).__name__, mask, axes, self.channel_axis)

    def _find_part(self, shape: Shape, mask: Any, lengths: Any) -> Array:
        return taking_part(shape, self.channel_axis, mask, lengths)

    def _view(self, array: Array) -> Array:
        return np.moveaxis(array, self.channel_axis, -1)

    def _pieces(
        self, kept: tuple[Any, ...], part: Array, options: Mapping[str, Any]
    ) -> Iterator[Piece]:
        for samples, pattern in same_patterns(part):
            index = samples[:, np.newaxis], *(i[np.newaxis] for i in pattern.nonzero())
            of_these = [values[samples] for values in kept[1:]]
            yield index, partial(self._slopes_of, of_these, options)

    def _slopes_of(
        self, stats: Sequence[Array], options: Mapping[str, Any], g: Array, x: Array
    ) -> Any:
        return self._slopes(g, (x, *stats), {**options, "channel_axis": -1})


class Tracking(Channels):
    """BatchNorm and InstanceNorm, which may have running statistics."""

    __slots__ = ("momentum", "num_features", "track_running_stats")
    _fields: ClassVar[tuple[str, ...]] = (
        "num_features", "eps", "momentum", "affine", "bias", "track_running_stats",
        "channel_axis",
    )  # fmt: skip

    num_features: int
    momentum: float | None
    track_running_stats: bool

    def _start_tracking(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        *,
        bias: bool | ArrayLike | None,
        weight: ArrayLike | None,
        running_mean: ArrayLike | None,
        running_var: ArrayLike | None,
        channel_axis: int,
        dtype: DTypeLike,
        options: Options,
    ) -> None:
        """What the constructors of all of them do."""
        name = type(self).__name__
        self._set_channels(affine, channel_axis)
        if momentum is not None and number(name, "momentum", momentum) > 1:
            raise ValueError(
                f"{name}: momentum is {momentum}, None or a number from 0 to 1 is "
                "needed"
            )
        self._set(
            num_features=count(name, "num_features", num_features),
            momentum=momentum,
            track_running_stats=bool(track_running_stats),
        )
        shape = (self.num_features,)
        parameters = affine_parameters(
            name, "affine", shape, self.affine, weight, bias
        ) | running_parameters(
            name, shape, self.track_running_stats, running_mean, running_var
        )
        self._start(dtype, number(name, "eps", eps), options, parameters)

    def _channels(self) -> int:
        return self.num_features

    def _prepare(self, state: dict[str, Array]) -> tuple[Any, ...]:
        weight, bias = state.get("weight"), state.get("bias")
        options, axis, tracked = self.options, self.channel_axis, "running_var" in state
        if not tracked:
            return None, None, weight, bias, True, self.eps, axis, options, state
        mean, var, weight, bias, eps = prepared(
            state["running_mean"], state["running_var"], weight, bias, self.eps or 0.0
        )
        return mean, var, weight, bias, False, eps, axis, options, state

    @property
    def running_mean(self) -> Array | None:
        """The stored means, or None; read-only but in training."""
        return self._get("running_mean")

    @property
    def running_var(self) -> Array | None:
        """The stored variances, or None; read-only but in training."""
        return self._get("running_var")

    @property
    def num_batches_tracked(self) -> Array | None:
        """How many batches are in them, an integer array of no axes, or None."""
        return self._get("num_batches_tracked")


class BatchNorm(Tracking):
    """Batch normalization, of any number of axes; see `batch_norm`.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float, default 1e-5
        Added to the variance, inside the square root.
    momentum : float or None, default 0.1
        In training the weight of a batch in the running statistics; None weights all
        batches alike.
    affine : bool, default True
        Whether there is a weight, and with `bias` a bias.
    track_running_stats : bool, default True
        Whether there are running statistics, by which calls normalize. Without, calls
        normalize by the statistics of their input, as a torch module does then.
    bias : bool or array_like of shape (num_features,), default True
        Whether there is a bias, or its values; zeros for True.
    weight, running_mean, running_var : array_like of shape (num_features,), optional
        Ones, zeros and ones if not given. Parameters are copied.
    channel_axis : int, default 1
        The axis of the channels: -1 for channels-last images.
    dtype : dtype, default float32
        float32 or float64, of the parameters, to which they are converted. 16-bit and
        8-bit data go with float32.
    **options
        For every call: activation, num_threads, flush_denormals, out_dtype, in_scale,
        in_zero_point, out_scale, out_zero_point, as for `batch_norm`.

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

    Notes
    -----
    The scale ``weight / sqrt(running_var + eps)`` is computed once, in float64, and
    rounded once: the results have the bits of `batch_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> norm = fastnorm.BatchNorm(2, running_mean=[1, 2], running_var=[4, 9], eps=0.0)
    >>> norm(np.array([[3, 5], [1, -1]], dtype=np.float32))
    array([[ 1.,  1.],
           [ 0., -1.]], dtype=float32)
    >>> list(norm.state_dict())
    ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    """

    __slots__ = ()
    __module__ = "fastnorm.layers"

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
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
        """`batch_norm` of x with these parameters, into `out` if given.

        Further keywords: mask, lengths, masked, post_add, and those of the
        constructor's options, which they override for this call.
        """
        if self._training:
            return self._trained(x, out, options)
        mean, var, weight, bias, training, eps, axis, always, _ = self._now
        if always or options:
            every = {**always, **options}
            return _core.batch_norm(
                x, mean, var, weight, bias, training, 0.1, eps,
                channel_axis=axis, out=out, **every,
            )  # fmt: skip
        return _core.batch_norm(
            x, mean, var, weight, bias, training, 0.1, eps, channel_axis=axis, out=out
        )

    def _learn(
        self, x: _Input, out: _Output | None, options: Mapping[str, Any]
    ) -> tuple[Any, tuple[Any, ...]]:
        state = self._now[-1]
        count = state.get("num_batches_tracked")
        cumulative = count is not None and self.momentum is None
        y, *stats = _core.batch_norm(
            x, state.get("running_mean"), state.get("running_var"),
            state.get("weight"), state.get("bias"), True,
            0.1 if count is None else self.momentum, self.eps or 0.0,
            channel_axis=self.channel_axis, out=out, return_stats=True,
            num_batches_tracked=int(count) if cumulative else None, **options,
        )  # fmt: skip
        return y, tuple(stats)

    def _slopes(
        self, grad_output: _Input, kept: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        x, mean, rstd = kept
        return _core.batch_norm_backward(
            grad_output, x, self._now[-1].get("weight"), mean, rstd,
            **{"channel_axis": self.channel_axis, **options},
        )  # fmt: skip

    def _pieces(
        self, kept: tuple[Any, ...], part: Array, options: Mapping[str, Any]
    ) -> Iterator[Piece]:
        yield part, partial(self._slopes_of, kept[1:], options)
