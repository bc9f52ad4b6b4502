# _weight_layer.py - WeightNorm of fastnorm.layers.
# SPDX-License-Identifier: MIT
"""A weight that is kept as a direction and a length."""

from __future__ import annotations

import operator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np

from . import _core
from ._layer import IncompatibleKeys, Layer, _rebuild
from ._values import real_array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, DTypeLike

    from ._core import _Input, _Output
    from ._layer import Array

# What torch.nn.utils.parametrizations calls them; our names are torch.nn.utils's.
_NAMES = {
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
}


class WeightOptions(TypedDict, total=False):
    """What the layer can be told for all of its calls, and each call otherwise."""

    num_threads: int | None
    flush_denormals: bool


_OPTIONS = WeightOptions.__annotations__.keys()


class WeightNorm(Layer):
    """The weight ``g * v / norm(v)`` of another layer, as its v and g.

    Calls, which take no input, give the weight. See `weight_norm`; training is as for
    the other layers, but `backward` takes the gradient by the weight and only adds to
    `grads`.

    Parameters
    ----------
    v : array_like
        The direction; copied.
    g : array_like, optional
        The lengths: of v's shape with 1 for every axis but `dim`, or of no axes with
        ``dim=None``. By default the norm of v, so that the weight is v.
    dim : int or None, default 0
        The axis that has a length for each index; None: one length.
    dtype : dtype, default float32
        float32 or float64, of both.
    **options
        For every call: num_threads, flush_denormals, as for `weight_norm`.

    Attributes
    ----------
    weight_g, weight_v : ndarray, read-only but in training
    dim, dtype, options : as given; none can be set

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, shape or range.

    Notes
    -----
    `state_dict` has the names of ``torch.nn.utils.weight_norm``; `load_state_dict`
    takes these and those of ``torch.nn.utils.parametrizations.weight_norm``, and with
    ``strict=False`` passes over a bias. In evaluation the weight is computed once.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> layer = fastnorm.WeightNorm([[3.0, 4.0]], [[10.0]])
    >>> layer, layer()
    (WeightNorm((1, 2), dim=0), array([[6., 8.]], dtype=float32))
    """

    __slots__ = ("dim",)
    __module__ = "fastnorm.layers"

    dim: int | None

    def __init__(
        self,
        v: ArrayLike,
        g: ArrayLike | None = None,
        dim: int | None = 0,
        *,
        dtype: DTypeLike = np.float32,
        **options: Unpack[WeightOptions],
    ) -> None:
        unknown = sorted(options.keys() - _OPTIONS)
        if unknown:
            raise TypeError(f"WeightNorm: unexpected arguments {', '.join(unknown)}")
        given = real_array("WeightNorm", "v", v).astype(np.dtype(dtype), copy=False)
        length = 1  # also for a dim that weight_norm will refuse
        if dim is not None and -given.ndim <= dim < given.ndim:
            length = given.shape[dim]
        ones = np.ones(length, given.dtype)
        norm = _core.weight_norm(given, ones, dim, return_norm=True)[1]
        norm = norm if dim is not None else norm.reshape(())
        self._set(dim=dim if dim is None else operator.index(dim))
        parameters = {
            "weight_g": (norm.shape, norm if g is None else g),
            "weight_v": (given.shape, given),
        }
        self._start(dtype, None, options, parameters)

    @property
    def weight(self) -> Array:
        """The same as a call; read-only in evaluation."""
        found: Array = self()
        return found

    @property
    def weight_g(self) -> Array:
        """The lengths, read-only but in training."""
        return self._now[-1]["weight_g"]  # type: ignore[no-any-return]

    @property
    def weight_v(self) -> Array:
        """The direction, read-only but in training."""
        return self._now[-1]["weight_v"]  # type: ignore[no-any-return]

    def _try_out(self) -> None:
        """`_prepare` has."""

    def _prepare(self, state: dict[str, Array]) -> tuple[Any, ...]:
        v, g = state["weight_v"], state["weight_g"]
        if v.flags.writeable:
            return None, state
        weight = _core.weight_norm(v, g, self.dim, **self.options)
        weight.flags.writeable = False
        return weight, state

    def __call__(  # type: ignore[override]
        self, out: _Output | None = None, **options: Unpack[WeightOptions]
    ) -> Any:
        """The weight, into `out` if given; else in evaluation the same array each time.

        The options of the constructor can be given for this call.
        """
        weight, state = self._now
        if self._training:
            return self._trained(state["weight_v"], out, options)
        if out is None and not options:
            return weight
        every = {**self.options, **options}
        v, g = state["weight_v"], state["weight_g"]
        return _core.weight_norm(v, g, self.dim, out=out, **every)

    def forward(  # type: ignore[override]
        self, out: _Output | None = None, **options: Unpack[WeightOptions]
    ) -> Any:
        """The same as calling the layer."""
        return self(out, **options)

    def _learn(
        self, x: _Input, out: _Output | None, options: Mapping[str, Any]
    ) -> tuple[Any, tuple[Any, ...]]:
        weight, norm = _core.weight_norm(
            x, self.weight_g, self.dim, out=out, return_norm=True, **options
        )
        return weight, (norm,)

    def backward(self, grad_output: _Input) -> None:  # type: ignore[override]
        """Add the gradients of `weight_g` and `weight_v` to `grads`.

        Parameters
        ----------
        grad_output : array_like
            The gradient of the loss by the weight that the last call returned.

        Raises
        ------
        RuntimeError
            If there was no call in training since the last `backward`.
        TypeError, ValueError
            As for `weight_norm_backward`; then nothing has changed.
        """
        super().backward(grad_output)

    def _slopes(
        self, grad_output: _Input, kept: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        v, norm = kept
        given = {key: value for key, value in options.items() if key in _OPTIONS}
        along, across = _core.weight_norm_backward(
            grad_output, v, self.weight_g, self.dim, norm=norm, **given
        )
        return SimpleNamespace(input=None, weight_g=across, weight_v=along)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, *, prefix: str = ""
    ) -> IncompatibleKeys:
        """Replace v and g, by the names of either of torch's weight norms.

        Parameters, result and errors as for the other layers.
        """
        names = {prefix + theirs: prefix + ours for theirs, ours in _NAMES.items()}
        renamed = {names.get(key, key): value for key, value in state_dict.items()}
        return super().load_state_dict(renamed, strict, prefix=prefix)

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.state_dict()
        given = {"v": state["weight_v"], "g": state["weight_g"], "dim": self.dim}
        config = {**given, "dtype": self.dtype, **self.options}
        return _rebuild, (type(self), config, state, self._training)

    def __repr__(self) -> str:
        more = {} if self.dtype == np.float32 else {"dtype": self.dtype.name}
        words = [
            f"{k}={v!r}" for k, v in {"dim": self.dim, **more, **self.options}.items()
        ]
        return f"WeightNorm({', '.join([str(self.weight_v.shape), *words])})"
