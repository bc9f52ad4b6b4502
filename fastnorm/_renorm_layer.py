# _renorm_layer.py - BatchRenorm of fastnorm.layers.
# SPDX-License-Identifier: MIT
"""The batch norm whose training keeps to its running statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from . import _core
from ._channel_layers import BatchNorm
from ._layer import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, DTypeLike

    from ._core import _Input, _Output


class BatchRenorm(BatchNorm):
    """Batch renormalization, of any number of axes; see `batch_renorm`.

    In evaluation it is a `BatchNorm`, and reads the same state.

    Parameters
    ----------
    num_features, eps, momentum, affine, bias, weight, running_mean, running_var, \
channel_axis, dtype, **options
        As for `BatchNorm`; there always are running statistics.
    r_max, d_max : float, default 3.0 and 5.0
        The limits in training, as for `batch_renorm`. The paper begins with 1 and 0,
        which is batch norm, and widens them: see `set_limits`.

    Attributes
    ----------
    weight, bias, running_mean, running_var, num_batches_tracked : ndarray or None
        Read-only but in training.
    r_max, d_max : float
        Only `set_limits` sets them.
    num_features, eps, momentum, affine, channel_axis, dtype, options : as given
        None can be set.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> norm = fastnorm.BatchRenorm(1, d_max=1, eps=0, dtype=np.float64).train()
    >>> norm(np.array([[1.0], [3.0]]))
    array([[0.],
           [2.]])
    >>> norm.eval().running_mean
    array([0.2])
    """

    __slots__ = ("d_max", "r_max")
    _masks = frozenset()  # `batch_renorm` has none
    __module__ = "fastnorm.layers"
    _fields = (
        "num_features", "eps", "momentum", "affine", "bias", "r_max", "d_max",
        "channel_axis",
    )  # fmt: skip

    r_max: float
    d_max: float

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        r_max: float = 3.0,
        d_max: float = 5.0,
        bias: bool | ArrayLike | None = True,
        weight: ArrayLike | None = None,
        running_mean: ArrayLike | None = None,
        running_var: ArrayLike | None = None,
        channel_axis: int = 1,
        dtype: DTypeLike = np.float32,
        **options: Unpack[Options],
    ) -> None:
        self.set_limits(r_max, d_max)
        self._start_tracking(
            num_features, eps, momentum, affine, True,
            bias=bias, weight=weight, running_mean=running_mean,
            running_var=running_var, channel_axis=channel_axis, dtype=dtype,
            options=options,
        )  # fmt: skip

    def set_limits(self, r_max: float, d_max: float) -> None:
        """Set `r_max` and `d_max` for the next calls in training.

        Parameters
        ----------
        r_max, d_max : float
            As for `batch_renorm`.

        Raises
        ------
        TypeError, ValueError
            If one is no number, `r_max` is below 1 or `d_max` below 0.
        """
        for name, value, least in (("r_max", r_max, 1), ("d_max", d_max, 0)):
            try:
                good = float(value) >= least
            except (TypeError, ValueError) as error:
                raise TypeError(
                    f"BatchRenorm: {name} is {value!r}, a number is needed"
                ) from error
            if not good:
                raise ValueError(
                    f"BatchRenorm: {name} is {value}, a number >= {least} is needed"
                )
        self._set(r_max=float(r_max), d_max=float(d_max))

    def _learn(
        self, x: _Input, out: _Output | None, options: Mapping[str, Any]
    ) -> tuple[Any, tuple[Any, ...]]:
        state = self._now[-1]
        tracked = int(state["num_batches_tracked"])
        y, *stats = _core.batch_renorm(
            x, state["running_mean"], state["running_var"], state.get("weight"),
            state.get("bias"), True, self.momentum, self.eps or 0.0, r_max=self.r_max,
            d_max=self.d_max, channel_axis=self.channel_axis, out=out,
            return_stats=True, **options,
            num_batches_tracked=tracked if self.momentum is None else None,
        )  # fmt: skip
        return y, tuple(stats)

    def _slopes(
        self, grad_output: _Input, kept: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        x, mean, rstd, r, d = kept
        return _core.batch_renorm_backward(
            grad_output, x, self._now[-1].get("weight"), mean, rstd, r, d,
            channel_axis=self.channel_axis, **options,
        )  # fmt: skip
