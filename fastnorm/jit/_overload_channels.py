# _overload_channels.py - batch, group and instance norm and moments inside @njit.
# SPDX-License-Identifier: MIT
"""What Numba is given for each function: types in, an implementation out."""

from itertools import groupby
from typing import Any

import numpy as np

from fastnorm import Moments
from fastnorm.jit._compile import compiled
from fastnorm.jit._overload_checks import (
    Call,
    RefusalError,
    constant,
    extent,
    is_none,
)
from fastnorm.jit._overload_kernels import chosen, kernel

AXIS = "batch_norm: channel_axis is {}, input has {} axes"
GROUPS = "group_norm: num_groups is {}, at least 1 is needed"
DIVIDES = "group_norm: num_groups is {}, which does not divide {} channels"
MOMENTUM = "{}: momentum is {}, a number from 0 to 1 {}is needed"
DDOF = "moments: ddof is {}, at least 0 is needed"
TRACKED = "batch_norm: num_batches_tracked is {}, at least 0 is needed"
UNTRACKED = "batch_norm: momentum=None needs num_batches_tracked"
RUNNING = "{}: running_mean and running_var are None, which needs {}=True"
ONE_VALUE = (
    "batch_norm: expected more than 1 value per channel when training, "
    "input has shape {}"
)
ONE_ELEMENT = (
    "instance_norm: expected more than 1 spatial element with use_input_stats=True, "
    "input has shape {}"
)


def channel_parameter(call: Call, name: str, ty: Any, written: bool = False) -> Any:
    return call.parameter(name, ty, 1, "the channel axis", written)


class Running:
    """The running statistics of a call, whose `flag` says whether they are updated."""

    def __init__(self, call: Call, mean: Any, var: Any, flag: str, ty: Any) -> None:
        call.flag(flag, ty)
        if is_none(mean) != is_none(var):
            raise call.error("running_mean and running_var must come together")
        self.given = not is_none(mean)
        self.updating = constant(ty)  # None where it shows at run time
        if not self.given and self.updating is False:
            raise call.error(
                f"running_mean and running_var are None, which needs {flag}=True"
            )
        written = self.updating is not False
        self.read_mean = channel_parameter(call, "running_mean", mean, written)
        self.read_var = channel_parameter(call, "running_var", var, written)


def momentum_of(call: Call, momentum: Any, tracked: Any, running: Running) -> Any:
    """Compiled: the momentum of the C API, and num_batches_tracked."""
    fn = call.fn
    if not is_none(momentum):
        or_none = "" if fn == "instance_norm" else "or None "
        call.number("momentum", momentum)
        if not is_none(tracked):
            raise call.error("num_batches_tracked is only used with momentum=None")

        @compiled
        def check(momentum, tracked, training):
            if not 0.0 <= momentum <= 1.0:
                raise RefusalError(MOMENTUM, fn, momentum, or_none)
            return momentum, 0

        return check

    if is_none(tracked):
        needed = running.given

        @compiled
        def check_nothing(momentum, tracked, training):
            if needed and training:
                raise RefusalError(UNTRACKED)
            return -1.0, 0

        return check_nothing

    call.integer("num_batches_tracked", tracked)

    @compiled
    def check_tracked(momentum, tracked, training):
        if tracked < 0:
            raise RefusalError(TRACKED, int(tracked))
        return -1.0, tracked

    return check_tracked


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: Any = False,
    momentum: Any = 0.1,
    eps: Any = 1e-5,
    *,
    channel_axis: Any = 1,
    num_batches_tracked: Any = None,
    out: Any = None,
    num_threads: Any = None,
    **refused: Any,
) -> Any:
    call = Call("batch_norm", input, refused)
    call.integer("channel_axis", channel_axis)
    running = Running(call, running_mean, running_var, "training", training)
    given, read_mean, read_var = running.given, running.read_mean, running.read_var
    read_weight = channel_parameter(call, "weight", weight)
    read_bias = channel_parameter(call, "bias", bias)
    read_momentum = momentum_of(call, momentum, num_batches_tracked, running)
    read_eps = call.eps(eps)
    read_out, read_threads = call.output(out), call.threads(num_threads)
    nd, bits, check = input.ndim, input.dtype.bitwidth, call.status()
    infer, train = kernel(f"batch_norm_f{bits}"), kernel(f"batch_norm_training_f{bits}")

    def implementation(
        input,
        running_mean,
        running_var,
        weight=None,
        bias=None,
        training=False,
        momentum=0.1,
        eps=1e-5,
        channel_axis=1,
        num_batches_tracked=None,
        out=None,
        num_threads=None,
    ):
        if not -nd <= channel_axis < nd:
            raise RefusalError(AXIS, int(channel_axis), nd)
        axis = channel_axis + nd if channel_axis < 0 else channel_axis
        shape = input.shape
        factor, tracked = read_momentum(momentum, num_batches_tracked, training)
        w = read_weight(weight, shape, axis)
        b = read_bias(bias, shape, axis)
        mean = read_mean(running_mean, shape, axis)
        var = read_var(running_var, shape, axis)
        used_eps, threads = read_eps(eps), read_threads(num_threads)
        batch, channels = extent(shape, 0, axis), shape[axis]
        spatial = extent(shape, axis + 1, nd)
        if training:
            if batch * spatial == 1 and channels > 0:
                raise RefusalError(ONE_VALUE, shape)
        elif not given:
            raise RefusalError(RUNNING, "batch_norm", "training")
        y = read_out(out, input)
        x = np.ascontiguousarray(input)
        if training:
            status = train(
                (x, y, None, None, w, b, mean, var),
                (batch, channels, spatial, factor, tracked, used_eps, threads),
            )
        else:
            status = infer(
                (x, y, mean, var, w, b), (batch, channels, spatial, used_eps, threads)
            )
        check(status)
        return y

    return implementation


def check_samples(call: Call, channel_axis: Any) -> None:
    """Refuse what is not [samples, channels, ...]."""
    if call.input.ndim < 2:
        raise call.error("input has 1 axis, at least 2 are needed")
    if call.axes("channel_axis", channel_axis) != (1,):
        raise call.error(
            f"channel_axis is {constant(channel_axis)}, 1 is needed inside @njit"
        )


def group_norm(
    input: Any,
    num_groups: Any,
    weight: Any = None,
    bias: Any = None,
    eps: Any = 1e-5,
    *,
    channel_axis: Any = 1,
    out: Any = None,
    num_threads: Any = None,
    **refused: Any,
) -> Any:
    call = Call("group_norm", input, refused)
    check_samples(call, channel_axis)
    call.integer("num_groups", num_groups)
    read_weight = channel_parameter(call, "weight", weight)
    read_bias = channel_parameter(call, "bias", bias)
    read_eps = call.eps(eps)
    read_out, read_threads = call.output(out), call.threads(num_threads)
    check, run = call.status(), kernel(f"group_norm_f{input.dtype.bitwidth}")
    nd = input.ndim

    def implementation(
        input,
        num_groups,
        weight=None,
        bias=None,
        eps=1e-5,
        channel_axis=1,
        out=None,
        num_threads=None,
    ):
        shape = input.shape
        batch, channels, spatial = shape[0], shape[1], extent(shape, 2, nd)
        if num_groups < 1:
            raise RefusalError(GROUPS, int(num_groups))
        if channels % num_groups != 0:
            raise RefusalError(DIVIDES, int(num_groups), channels)
        w = read_weight(weight, shape, 1)
        b = read_bias(bias, shape, 1)
        used_eps, threads = read_eps(eps), read_threads(num_threads)
        y = read_out(out, input)
        x = np.ascontiguousarray(input)
        numbers = (batch, channels, spatial, num_groups, used_eps, threads)
        check(run((x, y, w, b), numbers))
        return y

    return implementation


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: Any = True,
    momentum: Any = 0.1,
    eps: Any = 1e-5,
    *,
    channel_axis: Any = 1,
    out: Any = None,
    num_threads: Any = None,
    **refused: Any,
) -> Any:
    call = Call("instance_norm", input, refused)
    check_samples(call, channel_axis)
    if is_none(momentum):
        raise call.error("momentum is None, a real number is needed")
    running = Running(
        call, running_mean, running_var, "use_input_stats", use_input_stats
    )
    given, read_mean, read_var = running.given, running.read_mean, running.read_var
    read_weight = channel_parameter(call, "weight", weight)
    read_bias = channel_parameter(call, "bias", bias)
    read_momentum = momentum_of(call, momentum, None, running)
    read_eps = call.eps(eps)
    read_out, read_threads = call.output(out), call.threads(num_threads)
    run = kernel(f"instance_norm_running_f{input.dtype.bitwidth}")
    nd, check = input.ndim, call.status()

    def implementation(
        input,
        running_mean=None,
        running_var=None,
        weight=None,
        bias=None,
        use_input_stats=True,
        momentum=0.1,
        eps=1e-5,
        channel_axis=1,
        out=None,
        num_threads=None,
    ):
        shape = input.shape
        batch, channels, spatial = shape[0], shape[1], extent(shape, 2, nd)
        factor, _ = read_momentum(momentum, None, use_input_stats)
        w = read_weight(weight, shape, 1)
        b = read_bias(bias, shape, 1)
        mean = read_mean(running_mean, shape, 1)
        var = read_var(running_var, shape, 1)
        used_eps, threads = read_eps(eps), read_threads(num_threads)
        if use_input_stats:
            if spatial == 1:
                raise RefusalError(ONE_ELEMENT, shape)
        elif not given:
            raise RefusalError(RUNNING, "instance_norm", "use_input_stats")
        y = read_out(out, input)
        x = np.ascontiguousarray(input)
        status = run(
            (x, y, None, None, w, b, mean, var),
            (batch, channels, spatial, use_input_stats, factor, used_eps, threads),
        )
        check(status)
        return y

    return implementation


def borders(call: Call, axes: tuple[int, ...]) -> tuple[int, int, int]:
    """Where batch, channels and spatial begin; kept axes may stand before the batch."""
    nd = call.input.ndim
    kinds = [i in axes for i in range(nd)]
    lengths = [(kind, len(list(run))) for kind, run in groupby(kinds)]
    if lengths[-1][0] is False:
        lengths.append((True, 0))  # no spatial axes
    if len(lengths) == 1:
        lengths.insert(0, (False, 0))
    if len(lengths) == 2:
        lengths.insert(0, (True, 0))  # no batch
    if len(lengths) == 3:
        lengths.insert(0, (False, 0))
    if len(lengths) != 4:
        raise call.error(
            f"axis {axes} of {nd} axes needs a transposed copy, "
            "which is not made inside @njit"
        )
    outer, batch, channels, _ = [length for _, length in lengths]
    return outer, outer + batch, outer + batch + channels


def moments(
    input: Any,
    axis: Any = None,
    *,
    ddof: Any = 0,
    keepdims: Any = False,
    num_threads: Any = None,
    **refused: Any,
) -> Any:
    call = Call("moments", input, refused)
    axes = call.axes("axis", axis)
    call.integer("ddof", ddof)
    call.flag("keepdims", keepdims)
    keep = constant(keepdims)
    if keep is None:
        raise call.error("keepdims is a variable, a constant is needed")
    first, second, third = borders(call, axes)
    nd = input.ndim
    shape_of = chosen(
        tuple(None if i in axes else i for i in range(nd) if keep or i not in axes)
    )
    read_threads, check = call.threads(num_threads), call.status()
    run = kernel(f"moments_f{input.dtype.bitwidth}")

    def implementation(
        input,
        axis=None,
        ddof=0,
        keepdims=False,
        num_threads=None,
    ):
        if ddof < 0:
            raise RefusalError(DDOF, int(ddof))
        threads = read_threads(num_threads)
        shape = input.shape
        outer, batch = extent(shape, 0, first), extent(shape, first, second)
        channels, spatial = extent(shape, second, third), extent(shape, third, nd)
        # The order of sums goes by the axes that have more than one entry.
        if batch == 1:
            outer, channels = 1, outer * channels
        if channels == 1:
            outer, batch, channels, spatial = 1, 1, outer, batch * spatial
        mean = np.full(outer * channels, np.nan)
        var = np.full(outer * channels, np.nan)
        count = batch * spatial
        x = np.ascontiguousarray(input).reshape(input.size)
        if count > 0:
            for i in range(outer):
                a, b = i * channels, i * channels + channels
                arrays = (x[a * count : b * count], mean[a:b], var[a:b])
                check(run(arrays, (batch, channels, spatial, threads)))
        if count > ddof:
            var /= count - ddof
        else:
            var[:] = np.nan
        kept = shape_of(shape)
        return Moments(mean.reshape(kept), var.reshape(kept))

    return implementation
