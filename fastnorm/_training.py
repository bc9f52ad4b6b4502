# _training.py - layers that learn: training mode, gradients, parameters to update.
# SPDX-License-Identifier: MIT
"""What the layers do between `train` and `eval`; see docs/gradients.md."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import numpy as np

from ._masked_training import gathered
from ._values import real_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._core import _Input, _Output
    from ._masked_training import Piece

    Array: TypeAlias = NDArray[Any]

# What a call in training may be told: all else has no gradient here.
_HARMLESS = frozenset({"num_threads", "flush_denormals"})
_STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked"})


class Trainable(ABC):
    """The training side of a layer.

    In evaluation, where every layer begins, its arrays are read-only and replaced as a
    whole. In training they are writable, stay the same objects, and belong to one
    thread; `_kept` is what `backward` needs of the last call, and `_part` what took
    part of its input, where that was not all: a pattern, and whether the rest was kept.
    """

    __slots__ = ("_grads", "_kept", "_part", "_training")
    # What else a call in training may be told.
    _masks: ClassVar[frozenset[str]] = frozenset()

    _now: tuple[Any, ...]
    _training: bool
    _kept: tuple[Any, ...] | None
    _part: tuple[Array, bool] | None
    _shapes: dict[str, tuple[int, ...]]
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

    def _checked_mask(self, mask: Any, axes: int) -> Any:
        """The mask of an input of so many axes, refused if it has no gradient."""
        raise NotImplementedError

    def _find_part(self, shape: tuple[int, ...], mask: Any, lengths: Any) -> Array:
        """What takes part by one of the two, which `_learn` has checked."""
        raise NotImplementedError

    def _view(self, array: Array) -> Array:
        """The input, or what is of its shape, as the indices of `_pieces` see it."""
        raise NotImplementedError

    def _pieces(
        self, kept: tuple[Any, ...], part: Array, options: Mapping[str, Any]
    ) -> Iterator[Piece]:
        """For `gathered`."""
        raise NotImplementedError

    def _count_batch(self) -> None:
        """A batch of which something takes part has come."""
        tracked = self._now[-1].get("num_batches_tracked")
        if tracked is not None:
            tracked += 1

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
        known = _HARMLESS | self._masks
        refused = sorted(given.keys() - known)
        if refused:
            raise ValueError(
                f"{name}: {refused[0]} has no gradient here; in training "
                f"{', '.join(sorted(known))} can be given"
            )
        if out is not None and np.may_share_memory(
            real_array(name, "x", x), real_array(name, "out", out)
        ):
            raise ValueError(f"{name}: out is the input, which backward needs")
        shape: tuple[int, ...] = np.shape(x)  # type: ignore[arg-type]
        if "mask" in given:
            given["mask"] = self._checked_mask(given["mask"], len(shape))
        y, kept = self._learn(x, out, {**self.options, **given})
        part = None
        if "mask" in given or "lengths" in given:
            part = self._find_part(shape, given.get("mask"), given.get("lengths"))
        if 0 not in shape and (part is None or part.any()):
            self._count_batch()
        keep = given.get("masked") == "keep"
        self._set(_kept=(x, *kept), _part=None if part is None else (part, keep))
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
        names = [name for name, _ in self.named_parameters()]
        options = {**self.options, "needs": ("input", *names)}
        if self._part is None:
            found = self._slopes(grad_output, self._kept, {**options, "out": out})
        else:
            part, keep = self._part
            found = gathered(
                f"{type(self).__name__}.backward", grad_output, self._kept[0], keep,
                out, self._view, self._pieces(self._kept, part, options),
                {name: self._shapes[name] for name in names},
            )  # fmt: skip
        for name in names:
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
