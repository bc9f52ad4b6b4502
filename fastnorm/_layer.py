# _layer.py - what the layers share: their parameters, read and replaced as a whole.
# SPDX-License-Identifier: MIT
"""The base of the classes in fastnorm.layers, and the keywords of their calls."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias, TypedDict

import numpy as np

from ._training import Trainable
from ._values import integer, real_array

if TYPE_CHECKING:
    # numpy.typing takes longer to import than all of this package.
    from numpy.typing import DTypeLike, NDArray

    from ._core import _Activation, _Input, _Masked, _Output

    Array: TypeAlias = NDArray[Any]

Shape: TypeAlias = tuple[int, ...]


class Options(TypedDict, total=False):
    """What a layer can be told for all of its calls, and each call otherwise."""

    activation: _Activation | None
    num_threads: int | None
    flush_denormals: bool
    out_dtype: DTypeLike | None
    in_scale: float | None
    in_zero_point: int | None
    out_scale: float | None
    out_zero_point: int | None


class CallOptions(Options, total=False):
    """What a call of any layer can be told."""

    post_add: _Input | None


class ChannelCallOptions(CallOptions, total=False):
    """What a call of a layer of channels can be told."""

    mask: _Input | None
    lengths: _Input | None
    masked: _Masked


class RowCallOptions(CallOptions, total=False):
    """What a call of LayerNorm or RMSNorm can be told."""

    residual: _Input | None
    residual_bias: _Input | None
    residual_out: _Output | None


class LayerCallOptions(RowCallOptions, total=False):
    """What a call of LayerNorm can be told."""

    lengths: _Input | None
    masked: _Masked


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` with ``strict=False`` has passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Layer(Trainable):
    """A norm with its parameters.

    `_now` holds all that a call reads: the function's arguments, the options, and last
    the state that they were made of. Calls read it once, and it is replaced as a whole,
    so that a call in another thread sees the old parameters or the new ones. In
    training the arrays of the state are changed in place.
    """

    __slots__ = ("__weakref__", "_now", "_shapes", "dtype", "eps", "options")

    # The constructor's arguments in the order of repr, which names all but the first.
    _fields: ClassVar[tuple[str, ...]]
    _unnamed: ClassVar[int] = 1
    # Those that repr leaves out where they have this value.
    _usual: ClassVar[dict[str, Any]] = {"dtype": np.dtype(np.float32)}

    _now: tuple[Any, ...]
    _shapes: dict[str, Shape]
    dtype: np.dtype[Any]
    eps: float | None
    options: dict[str, Any]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"{type(self).__name__}: {name} cannot be set; load_state_dict replaces "
            "parameters, and a new object has other options"
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}: {name} cannot be deleted")

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _start(
        self,
        dtype: DTypeLike,
        eps: float | None,
        options: Mapping[str, Any],
        parameters: dict[str, tuple[Shape, Any]],
    ) -> None:
        """Check and keep everything; `parameters` are shapes and values by name.

        To be called last, when the attributes of the class itself are set.
        """
        name = type(self).__name__
        work = np.dtype(dtype)
        if work not in (np.float32, np.float64):
            raise TypeError(
                f"{name}: dtype is {work}, float32 or float64 is needed (16-bit and "
                "8-bit data take float32 parameters)"
            )
        unknown = sorted(options.keys() - Options.__annotations__.keys())
        if unknown:
            raise TypeError(f"{name}: unexpected arguments {', '.join(unknown)}")
        self._set(
            dtype=work.newbyteorder("="),
            eps=None if eps is None else number(name, "eps", eps),
            options={key: v for key, v in options.items() if v is not None},
            _shapes={key: shape for key, (shape, _) in parameters.items()},
            _training=False,
            _kept=None,
            _part=None,
            _grads={},
        )
        state = {
            key: self._parameter(name, key, value)
            for key, (_, value) in parameters.items()
        }
        self._set(_now=self._prepare(state))
        self._try_out()

    def _try_out(self) -> None:
        """What the function says to no data: its checks of eps and options."""
        zero_point = self.options.get("in_zero_point")
        if zero_point is None and "in_scale" not in self.options:
            data = self.dtype
        else:
            data = np.dtype(np.int8 if (zero_point or 0) < 128 else np.uint8)
        self(np.zeros(self._empty_shape(), data))

    def _empty_shape(self) -> Shape:
        """A shape that the layer takes, if possible of no elements."""
        raise NotImplementedError

    @abstractmethod
    def __call__(self, x: _Input, out: _Output | None = None) -> Any:
        """The norm of x."""

    def _parameter(self, function: str, name: str, value: Any) -> Array:
        """A packed, native, read-only copy of the layer's dtype."""
        array = real_array(function, name, value)
        if array.shape != self._shapes[name]:
            raise ValueError(
                f"{function}: {name} has shape {array.shape}, {self._shapes[name]} is "
                "needed"
            )
        if name == "num_batches_tracked":
            if array.dtype.kind not in "iu":
                raise TypeError(
                    f"{function}: {name} has dtype {array.dtype}, an integer is needed"
                )
            array = np.array(operator.index(array[()]), np.int64)
        else:
            array = np.array(array, self.dtype, order="C", copy=True)
        array.flags.writeable = False
        return array

    def _get(self, name: str) -> Array | None:
        found: Array | None = self._now[-1].get(name)
        return found

    @property
    def weight(self) -> Array | None:
        """The scale, or None; read-only but in training."""
        return self._get("weight")

    @property
    def bias(self) -> Array | None:
        """The shift, or None; read-only but in training."""
        return self._get("bias")

    def state_dict(self, *, prefix: str = "") -> dict[str, Array]:
        """Copies of the parameters and statistics, by the names that torch gives them.

        Parameters
        ----------
        prefix : str
            What to put before each name.

        Returns
        -------
        dict of str to ndarray
            The keys in torch's order; of one moment, also while another thread loads.
        """
        state: dict[str, Array] = self._now[-1]
        return {prefix + name: value.copy() for name, value in state.items()}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, *, prefix: str = ""
    ) -> IncompatibleKeys:
        """Replace parameters and statistics, all at once.

        Calls in other threads finish with the old ones or begin with the new ones. In
        training the arrays of the layer stay the same objects, with other values.

        Parameters
        ----------
        state_dict : mapping of str to array_like
            What `state_dict` or that of a torch module returned: arrays, or tensors
            that NumPy or DLPack can read. They are copied, and converted to the layer's
            dtype as torch converts to that of its parameter.
        strict : bool, default True
            Missing and unexpected keys are errors. Otherwise what is missing stays as
            it is. ``num_batches_tracked`` may always be missing, as in torch.
        prefix : str
            Look only at keys that begin so, without this beginning: one layer's part of
            the state of a network.

        Returns
        -------
        IncompatibleKeys
            The missing and the unexpected keys, empty if `strict`.

        Raises
        ------
        ValueError
            If keys are missing or unexpected or a shape is another. All are named, and
            nothing has changed.
        TypeError
            If a value is no array of real numbers in host memory; nothing has changed.
        """
        function = f"{type(self).__name__}.load_state_dict"
        given = {
            key.removeprefix(prefix): value
            for key, value in state_dict.items()
            if key.startswith(prefix)
        }
        optional = {"num_batches_tracked"}
        missing = [n for n in self._shapes if n not in given and n not in optional]
        unexpected = [key for key in given if key not in self._shapes]
        faults = []
        if strict and missing:
            faults.append(f"missing keys: {', '.join(missing)}")
        if strict and unexpected:
            faults.append(f"unexpected keys: {', '.join(unexpected)}")
        state: dict[str, Array] = {}
        for name in self._shapes.keys() & given.keys():
            try:
                state[name] = self._parameter(function, name, given[name])
            except ValueError as error:
                faults.append(str(error).removeprefix(f"{function}: "))
        if faults:
            raise ValueError(f"{function}: {'; '.join(faults)}")
        if self._training:
            for name, array in state.items():
                np.copyto(self._now[-1][name], array)
        else:
            self._set(_now=self._prepare({**self._now[-1], **state}))
        return IncompatibleKeys(missing, unexpected)

    def _config(self) -> dict[str, Any]:
        """Arguments that construct such a layer."""
        config = {name: getattr(self, name) for name in self._fields}
        if "bias" in config:
            config["bias"] = "bias" in self._shapes
        return {**config, "dtype": self.dtype, **self.options}

    def __reduce__(self) -> tuple[Any, ...]:
        made_of = type(self), self._config(), self.state_dict(), self._training
        return _rebuild, made_of

    def __repr__(self) -> str:
        words = []
        for i, (name, value) in enumerate(self._config().items()):
            if i < self._unnamed:
                words.append(repr(value))
            elif name not in self._usual or value != self._usual[name]:
                shown = value.name if isinstance(value, np.dtype) else repr(value)
                words.append(f"{name}={shown}")
        return f"{type(self).__name__}({', '.join(words)})"


def _rebuild(
    kind: type[Layer],
    config: dict[str, Any],
    state: dict[str, Array],
    training: bool = False,
) -> Any:
    layer = kind(**config)
    layer.load_state_dict(state)
    return layer.train(training)


def number(function: str, name: str, value: Any) -> float:
    """A float that is finite and not negative."""
    try:
        given = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{function}: {name} is {value!r}, a number is needed"
        ) from error
    if not 0 <= given < np.inf:
        raise ValueError(
            f"{function}: {name} is {given}, a finite number >= 0 is needed"
        )
    return given


def count(function: str, name: str, value: int) -> int:
    """An integer that is not negative."""
    given = integer(function, name, value)
    if given < 0:
        raise ValueError(f"{function}: {name} is {given}, at least 0 is needed")
    return given


def affine_parameters(
    function: str, flag: str, shape: Shape, wanted: bool, weight: Any, bias: Any
) -> dict[str, tuple[Shape, Any]]:
    """The initial weight and bias: what is given, else ones and zeros, if wanted.

    `bias` is an array, or whether there is one.
    """
    has_bias = not (bias is None or bias is False)
    if not wanted:
        for name, is_given in (
            ("weight", weight is not None),
            ("bias", has_bias and bias is not True),
        ):
            if is_given:
                raise ValueError(f"{function}: {name} is given and {flag} is False")
        return {}
    parameters = {"weight": (shape, np.ones(shape) if weight is None else weight)}
    if has_bias:
        parameters["bias"] = (shape, np.zeros(shape) if bias is True else bias)
    return parameters


def running_parameters(
    function: str, shape: Shape, wanted: bool, mean: Any, var: Any
) -> dict[str, tuple[Shape, Any]]:
    """The initial running statistics: what is given, else zeros and ones, if wanted."""
    if not wanted:
        for name, value in (("running_mean", mean), ("running_var", var)):
            if value is not None:
                raise ValueError(
                    f"{function}: {name} is given and track_running_stats is False"
                )
        return {}
    return {
        "running_mean": (shape, np.zeros(shape) if mean is None else mean),
        "running_var": (shape, np.ones(shape) if var is None else var),
        "num_batches_tracked": ((), np.array(0)),
    }


def prepared(
    mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array, Array | None, Array | None, float]:
    """Arguments that give the same bits as these, with the root and quotient taken.

    The scale of a channel is computed as `batch_norm` does it, in float64, and rounded
    once. Where plain arithmetic may not do for it, all stay as they are.
    """
    with np.errstate(all="ignore"):
        root = np.sqrt(var.astype(np.float64) + eps)
        scale = 1.0 / root
        if weight is not None:
            scale = scale * weight
        size = np.abs(scale)
        plain = (size <= 2.0**40) & ((size >= 2.0**-40) | (size == 0))
        if not np.all(plain & (root > 0) & (np.abs(mean) <= 2.0**40)):
            return mean, var, weight, bias, eps
    return mean, np.ones_like(var), scale.astype(var.dtype), bias, 0.0
