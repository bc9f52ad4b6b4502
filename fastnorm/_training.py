# _training.py - layers that learn: training mode, gradients, parameters to update.
# SPDX-License-Identifier: MIT
"""What the layers do between `train` and `eval`; see docs/gradients.md."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np

from ._values import real_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._core import _Input, _Output

    Array: TypeAlias = NDArray[Any]

# What a call in training may be told: all else has no gradient here.
_HARMLESS = frozenset({"num_threads", "flush_denormals"})
_STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked"})


class Trainable(ABC):
    """The training side of a layer.

    In evaluation, where every layer begins, its arrays are read-only and replaced as a
    whole. In training they are writable, stay the same objects, and belong to one
    thread; `_kept` is what `backward` needs of the last call.
    """

    __slots__ = ("_grads", "_kept", "_training")

    _now: tuple[Any, ...]
    _training: bool
    _kept: tuple[Any, ...] | None
    _grads: dict[str, Array]
    options: dict[str, Any]

    @abstractmethod
    def _set(self, **values: Any) -> None:
        """Set attributes, which users cannot."""

    @abstractmethod
    def _prepare(self, state: dict[str, Array]) -> tuple[Any, ...]:
        """What becomes `_now`."""

    @abstractmethod
    def _learn(
        self, x: _Input, out: _Output | None, options: Mapping[str, Any]
    ) -> tuple[Any, tuple[Any, ...]]:
        """The norm of x in training, and what `_slopes` needs beside x."""

    @abstractmethod
    def _slopes(
        self, grad_output: _Input, kept: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        """The Gradients, `kept` being x and what `_learn` gave."""

    @property
    def training(self) -> bool:
        """Whether the layer is in training, as after `train`."""
        return self._training

    def train(self, mode: bool = True) -> Self:
        """Begin training, or end it where `mode` is false.

        Calls then keep what `backward` needs, batch statistics update the running ones,
        and the arrays of the layer can be written: an optimizer changes them in place.
        A layer in training belongs to one thread.

        Parameters
        ----------
        mode : bool, default True
            Whether to train.

        Returns
        -------
        The layer itself.

        Raises
        ------
        ValueError
            If the layer has an option that `backward` knows no gradient of: all but
            num_threads and flush_denormals.
        """
        if mode == self._training:
            return self
        refused = sorted(self.options.keys() - _HARMLESS) if mode else []
        if refused:
            raise ValueError(
                f"{type(self).__name__}.train: the layer has {refused[0]}, which has "
                "no gradient here; apply it after the layer"
            )
        state = {name: array.copy() for name, array in self._now[-1].items()}
        for array in state.values():
            array.flags.writeable = bool(mode)
        self._set(_now=self._prepare(state), _training=bool(mode), _kept=None)
        return self

    def eval(self) -> Self:
        """End training: the arrays become read-only copies, calls keep nothing.

        Returns
        -------
        The layer itself.
        """
        return self.train(False)

    def forward(self, x: _Input, out: _Output | None = None, **options: Any) -> Any:
        """The same as calling the layer."""
        return self(x, out, **options)  # type: ignore[operator]

    def _trained(
        self, x: _Input, out: _Output | None, options: Mapping[str, Any]
    ) -> Any:
        """A call in training."""
        name = type(self).__name__
        given = {key: v for key, v in options.items() if v is not None}
        refused = sorted(given.keys() - _HARMLESS)
        if refused:
            raise ValueError(
                f"{name}: {refused[0]} has no gradient here; in training num_threads "
                "and flush_denormals can be given"
            )
        if out is not None and np.may_share_memory(
            real_array(name, "x", x), real_array(name, "out", out)
        ):
            raise ValueError(f"{name}: out is the input, which backward needs")
        y, kept = self._learn(x, out, {**self.options, **given})
        self._set(_kept=(x, *kept))
        return y

    def backward(self, grad_output: _Input, out: _Output | None = None) -> Any:
        """The gradient by the input of the last call.

        Those by parameters are added to `grads`, until `zero_grad`.

        Parameters
        ----------
        grad_output : array_like
            The gradient of the loss by what the call returned.
        out : array, optional
            Written and returned; may be `grad_output`. As for `layer_norm_backward`.

        Returns
        -------
        ndarray
            `out`, or an array of the input's shape and dtype.

        Raises
        ------
        RuntimeError
            If there was no call in training since the last `backward`.
        TypeError, ValueError
            As for `layer_norm_backward`; then nothing has changed, and `backward` can
            be called again.
        """
        if self._kept is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward: there was no call in training since "
                "the last one"
            )
        found = self._slopes(
            grad_output,
            self._kept,
            {
                **self.options,
                "out": out,
                "needs": ("input", *[name for name, _ in self.named_parameters()]),
            },
        )
        for name, _ in self.named_parameters():
            fresh = getattr(found, name)
            if name in self._grads:
                self._grads[name] += fresh
            else:
                self._grads[name] = fresh
        self._set(_kept=None)
        return found.input

    @property
    def grads(self) -> dict[str, Array]:
        """The gradients by name, as far as there are any since `zero_grad`."""
        return self._grads

    def zero_grad(self) -> None:
        """Forget the gradients; what was taken from `grads` stays as it is."""
        self._set(_grads={})

    def named_parameters(self) -> Iterator[tuple[str, Array]]:
        """Names and arrays of what is learnt: weight and bias, as far as there are.

        Writable in training, and then the layer's own: ``array -= rate * gradient`` is
        a step. Read-only in evaluation.
        """
        state: dict[str, Array] = self._now[-1]
        return iter([(n, a) for n, a in state.items() if n not in _STATISTICS])

    def parameters(self) -> Iterator[Array]:
        """The arrays of `named_parameters`."""
        return (array for _, array in self.named_parameters())
