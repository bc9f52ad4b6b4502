# backward_cases.py - every norm with its gradient, in fastnorm, reference and torch.
# SPDX-License-Identifier: MIT
"""A case knows a norm as a function of all that it has gradients for.

`values` are those arrays by name; "input" is the first ("v" of weight norm). `forward`
is the norm of them, `backward` the gradients by name, `torch` the norm of tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray
from oracle import random

Array = NDArray[Any]
Values = dict[str, Any]

EPS = 1e-5


@dataclass(frozen=True)
class Case:
    """One norm on one shape; `shapes` are those of the values."""

    op: str
    shapes: dict[str, tuple[int, ...]]
    forward: Callable[[Any, Values], Any]
    # of a module, the gradient of the output, the values and further keywords
    call: Callable[..., Any]
    torch: Callable[[Any, Values], Any] | None
    # what `call` can be given of the forward's statistics, as keywords
    statistics: Callable[[Any, Values], dict[str, Array]] | None = None
    # the axes of view(input) that share statistics; none if these are given
    axes: tuple[int, ...] = ()
    kind: str = "centred"
    view: Callable[[Array], Array] = lambda a: a
    # the axes that weight and bias belong to
    along: tuple[int, ...] = ()
    # what the normalized input is multiplied by, that broadcasts with it
    gain: Callable[[Values], Any] = lambda _: 1.0

    @property
    def function(self) -> str:
        """The name of the gradient in fastnorm."""
        return f"{self.op}_backward"

    @property
    def first(self) -> str:
        """The name of the value that is normalized."""
        return next(iter(self.shapes))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.shapes[self.first]

    def values(self, dtype: DTypeLike = "float64", seed: int = 0) -> Values:
        """Random values; the normalized one is not centred."""
        made = {
            name: random(shape, "float64", seed + i)
            for i, (name, shape) in enumerate(self.shapes.items())
        }
        made[self.first] = 2 * made[self.first] + 3
        return {name: array.astype(dtype) for name, array in made.items()}

    def grad(self, dtype: DTypeLike = "float64", seed: int = 50) -> Array:
        return (random(self.shape, "float64", seed) + 0.5).astype(dtype)

    def backward(self, module: Any, grad: Array, values: Values, **more: Any) -> Values:
        """The gradients by name, without those that are not given."""
        found = self.call(module, grad, values, **more)
        if self.op == "l2_norm":
            found = (found,)
        pairs = zip(self.names, found, strict=False)
        return {name: array for name, array in pairs if array is not None}

    @property
    def names(self) -> tuple[str, ...]:
        """The fields of what the function returns."""
        if self.op == "weight_norm":
            return ("v", "g")
        return ("input", "weight", "bias")


def _weighted(shape: tuple[int, ...], parameters: tuple[int, ...], names: str) -> Any:
    return {"input": shape} | {
        name: parameters for name in ("weight", "bias") if name[0] in names
    }


def _spread(
    name: str,
    shape: tuple[int, ...],
    along: tuple[int, ...],
    change: Callable[[Any], Any] = lambda w: w,
) -> Callable[[Values], Any]:
    """A parameter, changed, in a shape that broadcasts with the input."""
    kept = [n if i in along else 1 for i, n in enumerate(shape)]
    ones = np.ones([shape[i] for i in along])

    def gain(v: Values) -> Any:
        w = change(np.asarray(v.get(name, ones), "f8") if name in v else ones)
        return w.reshape(kept)

    return gain


def _mean_and_rstd(forward: Callable[..., Any]) -> Callable[..., dict[str, Array]]:
    def statistics(module: Any, v: Values) -> dict[str, Array]:
        _, mean, rstd = forward(module, v, return_stats=True)
        return {"mean": mean, "rstd": rstd}

    return statistics


def layer(
    shape: tuple[int, ...], axes: tuple[int, ...], names: str = "wb", **how: Any
) -> Case:
    """Over these axes; given to the functions as `axis` unless they are the last."""
    n = tuple(shape[i] for i in axes)
    trailing = axes[-1] == len(shape) - 1
    how = how if trailing else {**how, "axis": axes}

    def forward(module: Any, v: Values, **more: Any) -> Any:
        weight, bias = v.get("weight"), v.get("bias")
        return module.layer_norm(v["input"], n, weight, bias, EPS, **how, **more)

    def call(module: Any, grad: Array, v: Values, **more: Any) -> Any:
        options = {"eps": EPS, **how, **more}
        return module.layer_norm_backward(
            grad, v["input"], n, v.get("weight"), **options
        )

    def peer(torch: Any, v: Values) -> Any:
        x = v["input"].movedim(axes, tuple(range(-len(axes), 0)))
        y = torch.nn.functional.layer_norm(x, n, v.get("weight"), v.get("bias"), EPS)
        return y.movedim(tuple(range(-len(axes), 0)), axes)

    shapes = _weighted(shape, n, names)
    gain = _spread("weight", shape, axes)
    return Case(
        "layer_norm", shapes, forward, call, peer, _mean_and_rstd(forward),
        axes, along=axes,
        gain=gain,
    )  # fmt: skip


def rms(
    shape: tuple[int, ...], axes: tuple[int, ...], names: str = "w", **how: Any
) -> Case:
    n = tuple(shape[i] for i in axes)
    how = how if axes[-1] == len(shape) - 1 else {**how, "axis": axes}

    def forward(module: Any, v: Values, **more: Any) -> Any:
        return module.rms_norm(v["input"], n, v.get("weight"), EPS, **how, **more)

    def call(module: Any, grad: Array, v: Values, **more: Any) -> Any:
        options = {"eps": EPS, **how, **more}
        return module.rms_norm_backward(grad, v["input"], n, v.get("weight"), **options)

    def peer(torch: Any, v: Values) -> Any:
        x = v["input"].movedim(axes, tuple(range(-len(axes), 0)))
        weight: Any = v.get("weight")
        if how.get("mode") == "one_plus_weight":
            weight = 1 + weight
        y = torch.nn.functional.rms_norm(x, n, weight, EPS)
        return y.movedim(tuple(range(-len(axes), 0)), axes)

    def statistics(module: Any, v: Values) -> dict[str, Array]:
        return {"rstd": forward(module, v, return_stats=True)[1]}

    shapes = _weighted(shape, n, names)
    plus = how.get("mode") == "one_plus_weight"
    gain = _spread("weight", shape, axes, lambda w: w + plus)
    return Case(
        "rms_norm", shapes, forward, call, peer, statistics, axes, "rms", along=axes,
        gain=gain,
    )  # fmt: skip


def batch(
    shape: tuple[int, ...], axis: int = 1, names: str = "wb", training: bool = True
) -> Case:
    c = shape[axis]
    stored = {"mean": random(c, "f8", 7), "var": np.abs(random(c, "f8", 8)) + 0.5}

    def running(v: Values) -> tuple[Any, Any]:
        dtype = "f8" if v["input"].dtype == np.float64 else "f4"
        return stored["mean"].astype(dtype), stored["var"].astype(dtype)

    def forward(module: Any, v: Values, **more: Any) -> Any:
        mean, var = (None, None) if training else running(v)
        return module.batch_norm(
            v["input"], mean, var, v.get("weight"), v.get("bias"), training, eps=EPS,
            channel_axis=axis, **more,
        )  # fmt: skip

    def call(module: Any, grad: Array, v: Values, **more: Any) -> Any:
        options: dict[str, Any] = {"training": training, "eps": EPS}
        options["channel_axis"] = axis
        if not training:
            mean, var = running(v)
            rstd = (1 / np.sqrt(var.astype("f8") + EPS)).astype(var.dtype)
            options |= {"mean": mean, "rstd": rstd}
        return module.batch_norm_backward(
            grad, v["input"], v.get("weight"), **(options | more)
        )

    def peer(torch: Any, v: Values) -> Any:
        mean, var = (torch.from_numpy(a) for a in stored.values())
        if training:
            mean = var = None
        else:
            mean, var = mean.to(v["input"].dtype), var.to(v["input"].dtype)
        y = torch.nn.functional.batch_norm(
            v["input"].movedim(axis, 1), mean, var, v.get("weight"), v.get("bias"),
            training, eps=EPS,
        )  # fmt: skip
        return y.movedim(1, axis)

    axes = tuple(i for i in range(len(shape)) if i != axis % len(shape))
    shapes = _weighted(shape, (c,), names)
    along = (axis % len(shape),)
    return Case(
        "batch_norm", shapes, forward, call, peer, _mean_and_rstd(forward),
        axes if training else (),
        along=along, gain=_spread("weight", shape, along),
    )  # fmt: skip


def renorm(shape: tuple[int, ...], axis: int = 1, names: str = "wb") -> Case:
    """In training: a batch norm whose scale and shift per channel are changed."""
    c = shape[axis]
    r, d = 1 + np.abs(random(c, "f8", 9)) / 4, random(c, "f8", 10)

    def forward(module: Any, v: Values) -> Any:
        weight, bias = v.get("weight", np.ones(c)), v.get("bias", np.zeros(c))
        return module.batch_norm(
            v["input"], None, None, weight * r, bias + weight * d, True, eps=EPS,
            channel_axis=axis,
        )  # fmt: skip

    def call(module: Any, grad: Array, v: Values, **more: Any) -> Any:
        work = "f8" if v["input"].dtype == np.float64 else "f4"
        options: dict[str, Any] = {"r": r.astype(work), "d": d.astype(work)}
        options |= {"eps": EPS, "channel_axis": axis}
        return module.batch_renorm_backward(
            grad, v["input"], v.get("weight"), **(options | more)
        )

    def statistics(module: Any, v: Values) -> dict[str, Array]:
        _, mean, rstd = module.batch_norm(
            v["input"], None, None, training=True, eps=EPS, channel_axis=axis,
            return_stats=True,
        )  # fmt: skip
        return {"mean": mean, "rstd": rstd}

    axes = tuple(i for i in range(len(shape)) if i != axis % len(shape))
    shapes = _weighted(shape, (c,), names)
    along = (axis % len(shape),)
    gain = _spread("weight", shape, along, lambda w: w * r)
    return Case(
        "batch_renorm", shapes, forward, call, None, statistics, axes, along=along,
        gain=gain,
    )  # fmt: skip


def group(
    shape: tuple[int, ...], groups: int, axis: int = 1, names: str = "wb"
) -> Case:
    c = shape[axis]

    def forward(module: Any, v: Values, **more: Any) -> Any:
        weight, bias = v.get("weight"), v.get("bias")
        return module.group_norm(
            v["input"], groups, weight, bias, EPS, channel_axis=axis, **more
        )

    def call(module: Any, grad: Array, v: Values, **more: Any) -> Any:
        options = {"eps": EPS, "channel_axis": axis, **more}
        return module.group_norm_backward(
            grad, v["input"], groups, v.get("weight"), **options
        )

    def peer(torch: Any, v: Values) -> Any:
        y = torch.nn.functional.group_norm(
            v["input"].movedim(axis, 1), groups, v.get("weight"), v.get("bias"), EPS
        )
        return y.movedim(1, axis)

    shapes = _weighted(shape, (c,), names)
    along = (axis % len(shape),)

    def view(a: Array) -> Array:
        return np.moveaxis(a, axis, 1).reshape(shape[0], groups, -1)

    return Case(
        "group_norm", shapes, forward, call, peer, _mean_and_rstd(forward),
        (2,), view=view,
        along=along, gain=_spread("weight", shape, along),
    )  # fmt: skip


def instance(
    shape: tuple[int, ...], axis: int = 1, names: str = "wb", stored: bool = False
) -> Case:
    n, c = shape[0 if axis % len(shape) else 1], shape[axis]
    mean, var = random(c, "f8", 7), np.abs(random(c, "f8", 8)) + 0.5

    def forward(module: Any, v: Values, **more: Any) -> Any:
        dtype = "f8" if v["input"].dtype == np.float64 else "f4"
        running = (mean.astype(dtype), var.astype(dtype)) if stored else (None, None)
        return module.instance_norm(
            v["input"], *running, v.get("weight"), v.get("bias"), not stored, eps=EPS,
            channel_axis=axis, **more,
        )  # fmt: skip

    def call(module: Any, grad: Array, v: Values, **more: Any) -> Any:
        options: dict[str, Any] = {"eps": EPS, "channel_axis": axis}
        if stored:
            dtype = "f8" if v["input"].dtype == np.float64 else "f4"
            rstd = 1 / np.sqrt(var + EPS)
            options |= {
                "use_input_stats": False,
                "mean": np.tile(mean.astype(dtype), (n, 1)),
                "rstd": np.tile(rstd.astype(dtype), (n, 1)),
            }
        return module.instance_norm_backward(
            grad, v["input"], v.get("weight"), **(options | more)
        )

    def peer(torch: Any, v: Values) -> Any:
        x = v["input"].movedim(axis, 1)
        running = [torch.from_numpy(a).to(x.dtype) for a in (mean, var)]
        y = torch.nn.functional.instance_norm(
            x, *(running if stored else (None, None)), v.get("weight"), v.get("bias"),
            not stored, eps=EPS,
        )  # fmt: skip
        return y.movedim(1, axis)

    first = 0 if axis % len(shape) else 1
    axes = tuple(i for i in range(len(shape)) if i not in (first, axis % len(shape)))
    shapes = _weighted(shape, (c,), names)
    along = (axis % len(shape),)
    return Case(
        "instance_norm", shapes, forward, call, peer, _mean_and_rstd(forward),
        () if stored else axes, along=along, gain=_spread("weight", shape, along),
    )  # fmt: skip


def l2(shape: tuple[int, ...], axes: tuple[int, ...], eps: float = 1e-12) -> Case:
    def forward(module: Any, v: Values) -> Any:
        return module.l2_norm(v["input"], axes, eps)

    def call(module: Any, grad: Array, v: Values, **more: Any) -> Any:
        return module.l2_norm_backward(grad, v["input"], axes, eps, **more)

    def peer(torch: Any, v: Values) -> Any:  # noqa: ARG001
        x = v["input"]
        return x / x.square().sum(axes, keepdim=True).sqrt().clamp_min(eps)

    kind = "length" if eps < 1 else "scale"
    return Case("l2_norm", {"input": shape}, forward, call, peer, None, axes, kind)


def weight(shape: tuple[int, ...], dim: int | None) -> Case:
    lengths = tuple(
        n if dim is not None and i == dim % len(shape) else 1
        for i, n in enumerate(shape)
    )
    others = tuple(i for i, n in enumerate(lengths) if n == 1)

    def forward(module: Any, v: Values) -> Any:  # noqa: ARG001
        norm = np.sqrt(np.square(v["v"]).sum(others, keepdims=True))
        return v["g"] * v["v"] / norm

    def call(module: Any, grad: Array, v: Values, **more: Any) -> Any:
        return module.weight_norm_backward(grad, v["v"], v["g"], dim, **more)

    def peer(torch: Any, v: Values) -> Any:
        if dim is None:
            return v["g"] * v["v"] / torch.linalg.vector_norm(v["v"])
        return torch._weight_norm(v["v"], v["g"], dim % len(shape))

    shapes = {"v": shape, "g": lengths}
    return Case(
        "weight_norm", shapes, forward, call, peer, None, others, "length",
        along=tuple(i for i in range(len(shape)) if i not in others),
        gain=lambda v: np.asarray(v["g"], "f8"),
    )  # fmt: skip


CASES: dict[str, Case] = {
    "layer": layer((5, 7), (1,)),
    "layer of two axes": layer((2, 3, 4, 5), (2, 3)),
    "layer of a middle axis": layer((2, 5, 3, 4), (1,)),
    "layer without weight": layer((5, 7), (1,), ""),
    "layer without bias": layer((5, 7), (1,), "w"),
    "rms": rms((5, 7), (1,)),
    "rms of a middle axis": rms((2, 5, 3, 4), (1,)),
    "rms without weight": rms((5, 7), (1,), ""),
    "rms of one plus weight": rms((5, 7), (1,), mode="one_plus_weight"),
    "batch": batch((4, 3, 2, 5)),
    "batch channels last": batch((4, 2, 5, 3), -1),
    "batch table": batch((9, 6)),
    "batch channels first": batch((3, 11), 0),
    "batch without weight": batch((4, 3, 7), names=""),
    "batch inference": batch((4, 3, 2, 5), training=False),
    "batch inference table": batch((9, 6), training=False),
    "renorm": renorm((4, 3, 2, 5)),
    "renorm table": renorm((9, 6), names=""),
    "group": group((3, 6, 2, 5), 2),
    "group channels last": group((3, 2, 5, 6), 3, -1),
    "group without weight": group((3, 6, 5), 2, names=""),
    "instance": instance((3, 4, 2, 5)),
    "instance channels last": instance((3, 2, 5, 4), -1),
    "instance without weight": instance((3, 4, 11), names=""),
    "instance stored": instance((3, 4, 2, 5), stored=True),
    "l2": l2((5, 7), (1,)),
    "l2 of a middle axis": l2((2, 5, 3), (1,)),
    "l2 below eps": l2((5, 7), (1,), 100.0),
    "weight": weight((5, 3, 4), 0),
    "weight along the last": weight((5, 3, 4), -1),
    "weight of everything": weight((5, 3), None),
}
every_case = pytest.mark.parametrize("name", CASES)
