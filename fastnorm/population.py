# population.py - statistics of a whole set of batches, and of those seen so far.
# SPDX-License-Identifier: MIT
"""`calibrate`, and the two meanings of "momentum"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ._masked_training import taking_part
from .layers import BatchNorm, InstanceNorm
from .stats import RunningMoments

__all__ = ["calibrate", "momentum"]


def momentum(
    *, new_weight: float | None = None, old_weight: float | None = None
) -> float:
    """The `momentum` of this library from a name that says what it is the weight of.

    A running statistic becomes ``(1 - m) * old + m * new`` with each batch. For
    PyTorch, and for the functions and layers here, momentum is ``m``, the weight of the
    new value (0.1); for Keras and ONNX it is ``1 - m``, that of the old one (0.99).

    Parameters
    ----------
    new_weight : float
        The weight of the new value, from 0 to 1: what PyTorch calls momentum.
    old_weight : float
        That of the old value: what Keras and ONNX call momentum. One of the two.

    Returns
    -------
    float
        To be given as ``momentum=``.

    Raises
    ------
    TypeError
        If both or none are given, or it is no number.
    ValueError
        If it is not from 0 to 1.

    Examples
    --------
    >>> from fastnorm.stats import momentum
    >>> momentum(new_weight=0.25), momentum(old_weight=0.75)
    (0.25, 0.25)
    """
    if (new_weight is None) == (old_weight is None):
        raise TypeError("momentum: one of new_weight and old_weight is needed")
    name = "new_weight" if old_weight is None else "old_weight"
    value = new_weight if old_weight is None else old_weight
    try:
        weight = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"momentum: {name} is {value!r}, a number is needed") from None
    if not 0 <= weight <= 1:
        raise ValueError(f"momentum: {name} is {value}, a number from 0 to 1 is needed")
    return weight if old_weight is None else 1 - weight


def calibrate(
    layer: BatchNorm | InstanceNorm,
    batches: Iterable[Any],
    *,
    forward: Callable[[Any], Any] | None = None,
    unbiased: bool = True,
    num_threads: int | None = None,
) -> BatchNorm | InstanceNorm:
    """Give a layer the exact statistics of a set of batches.

    The mean and variance of each channel over all elements of all batches together:
    unlike an average of the batches' variances, whatever the momentum, this includes
    the variance between batches, does not depend on how the data are split, and counts
    a last, smaller batch for what it is.

    Parameters
    ----------
    layer : BatchNorm or InstanceNorm
        With running statistics.
    batches : iterable
        Inputs of the layer, or, with `forward`, of what comes before it. An input is an
        array, or a dict of the array "x" and the "mask" (of bool, or of weights) or
        "lengths" that a call of the layer would have: only what takes part counts.
    forward : callable, optional
        Called with each batch; what it returns is the input of the layer. To calibrate
        a network, do so layer by layer, from its input on: what a layer gets depends
        on the statistics of those before it.
    unbiased : bool, default True
        Store the variance divided by the count less one, as PyTorch does in training;
        False divides by the count, as ONNX does.
    num_threads : int, optional
        At most this many threads for a batch; see `set_num_threads`.

    Returns
    -------
    BatchNorm or InstanceNorm
        The same layer; ``num_batches_tracked`` is the number of batches.

    Raises
    ------
    TypeError
        If the layer is none of these, or `batches` holds what is no array.
    ValueError
        If the layer keeps no running statistics, a batch has other channels, or there
        are too few elements for a variance. The layer has not changed then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnorm
    >>> norm = fastnorm.BatchNorm(1)
    >>> batches = [np.array([[0.0], [2.0]], np.float32), np.array([[10.0]], np.float32)]
    >>> fastnorm.calibrate(norm, batches).running_mean, norm.running_var
    (array([4.], dtype=float32), array([28.], dtype=float32))
    >>> padded = {"x": np.array([[[1.0, 3.0, 99.0]]], np.float32), "lengths": [2]}
    >>> fastnorm.calibrate(norm, [padded]).running_mean
    array([2.], dtype=float32)
    """
    if not isinstance(layer, (BatchNorm, InstanceNorm)):
        raise TypeError(
            f"calibrate: layer is {type(layer).__name__}, BatchNorm or InstanceNorm is "
            "needed"
        )
    if layer.running_mean is None:
        raise ValueError("calibrate: the layer keeps no running statistics")
    total: RunningMoments | None = None
    number = 0
    for batch in batches:
        x = batch if forward is None else forward(batch)
        moments = _channel_moments(layer, num_threads, *_read(x))
        total = moments if total is None else total.merge(moments)
        number += 1
    ddof = 1 if unbiased else 0
    if total is None or np.any(total.count <= ddof):
        raise ValueError(
            f"calibrate: {0 if total is None else int(np.min(total.count))} values per "
            f"channel, more than {ddof} are needed"
        )
    # What the layer reads from 8-bit elements, if it has been told.
    scale = layer.options.get("in_scale", 1.0)
    zero_point = layer.options.get("in_zero_point", 0)
    state = layer.state_dict()
    state["running_mean"] = (total.mean - zero_point) * scale
    state["running_var"] = total.var(ddof) * scale**2
    state["num_batches_tracked"] = np.array(number)
    layer.load_state_dict(state)
    return layer


def _read(batch: Any) -> tuple[Any, Any, Any]:
    """The input, mask and lengths of a batch."""
    if not isinstance(batch, Mapping):
        return batch, None, None
    unknown = batch.keys() - {"x", "mask", "lengths"}
    if unknown or "x" not in batch:
        raise ValueError(
            f"calibrate: a batch has the keys {', '.join(map(str, batch))}; x, and "
            "mask or lengths, are needed"
        )
    mask, lengths = batch.get("mask"), batch.get("lengths")
    if mask is not None and lengths is not None:
        raise ValueError("calibrate: mask and lengths cannot be given together")
    return batch["x"], mask, lengths


def _channel_moments(
    layer: BatchNorm | InstanceNorm,
    num_threads: int | None,
    x: Any,
    mask: Any,
    lengths: Any,
) -> RunningMoments:
    """Those of a batch, channel by channel, if it is an input of the layer."""
    shape, channel = np.shape(x), layer.channel_axis
    if not -len(shape) <= channel < len(shape):
        raise ValueError(
            f"calibrate: a batch has {len(shape)} axes, the layer's channel_axis is "
            f"{channel}"
        )
    channel %= len(shape)
    if shape[channel] != layer.num_features:
        raise ValueError(
            f"calibrate: a batch has {shape[channel]} channels, the layer has "
            f"{layer.num_features}"
        )
    axes = tuple(i for i in range(len(shape)) if i != channel)
    if lengths is not None:
        if len(axes) < 2 or np.shape(lengths) != (shape[axes[0]],):
            raise ValueError(
                f"calibrate: a batch of shape {shape} has lengths of shape "
                f"{np.shape(lengths)}, one for each sample is needed"
            )
        most = shape[axes[1]]
        given = np.asarray(lengths)
        if given.dtype.kind not in "iu":
            raise TypeError(f"calibrate: a batch has lengths of {given.dtype}")
        if given.size and not 0 <= given.min() <= given.max() <= most:
            raise ValueError(f"calibrate: a batch has lengths outside of 0 to {most}")
        mask = np.expand_dims(taking_part(shape, channel, None, given), channel)
    weights = None
    if mask is not None and np.asarray(mask).dtype.kind == "f":
        mask, weights = None, mask
    return RunningMoments(axes, num_threads=num_threads).update(x, mask, weights)
