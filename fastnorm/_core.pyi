# _core.pyi - the types of the compiled functions.
# SPDX-License-Identifier: MIT
from collections.abc import Callable, Sequence
from typing import (
    Any,
    Literal,
    NamedTuple,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    overload,
)

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from typing_extensions import Buffer

__version__: str
IMAGENET_MEAN: tuple[float, float, float]
IMAGENET_STD: tuple[float, float, float]

# What a call gives is said where that is simple: an array of float32 or float64, from
# which the result and its statistics take their type. All else (16-bit and 8-bit
# elements, out_dtype, tensors as outputs, lists) is Any: a union would have to be
# narrowed by every user.
_F = TypeVar("_F", np.float32, np.float64)
_Float64: TypeAlias = NDArray[np.float64]
_Axes: TypeAlias = int | Sequence[int]
_Activation: TypeAlias = str | tuple[str] | tuple[str, float] | tuple[str, float, float]
_ImageLayout: TypeAlias = Literal["chw", "hwc"]
_Masked: TypeAlias = Literal["zero", "keep"]
_RmsMode: TypeAlias = Literal["plain", "cast_before_weight", "one_plus_weight"]

class _DLPack(Protocol):
    def __dlpack__(self) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, Any]: ...

_Input: TypeAlias = ArrayLike | _DLPack
_Channels: TypeAlias = (
    Literal["imagenet"] | float | Sequence[float] | NDArray[Any] | None
)
_Output: TypeAlias = NDArray[Any] | Buffer | _DLPack

class Moments(NamedTuple):
    mean: _Float64
    var: _Float64

class MomentsState(NamedTuple):
    count: int  # type: ignore[assignment]  # hides tuple.count
    mean: _Float64
    m2: _Float64

# Each of them an array or None, which would have to be narrowed by every user.
class Gradients(NamedTuple):
    input: Any
    weight: Any
    bias: Any

class _Config(TypedDict):
    version: str
    isa: str | None
    isas: tuple[str, ...]
    num_threads: int
    compiler: str
    cython: str
    numpy: str

# fmt: off
@overload
def layer_norm(
    input: NDArray[_F], normalized_shape: _Axes | None, weight: _Input | None = None,
    bias: _Input | None = None, eps: float = 1e-5, *, out: NDArray[_F] | None = None,
    axis: _Axes | None = None, return_stats: Literal[False] = False,
    num_threads: int | None = None, residual: _Input | None = None,
    residual_bias: _Input | None = None, residual_out: NDArray[_F] | None = None,
    post_add: _Input | None = None, activation: _Activation | None = None,
    out_dtype: None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, mean: _Input | None = None,
    var: _Input | None = None, flush_denormals: bool = False,
    lengths: _Input | None = None, masked: _Masked = "zero",
) -> NDArray[_F]: ...
@overload
def layer_norm(
    input: NDArray[_F], normalized_shape: _Axes | None, weight: _Input | None = None,
    bias: _Input | None = None, eps: float = 1e-5, *, out: NDArray[_F] | None = None,
    axis: _Axes | None = None, return_stats: Literal[True],
    num_threads: int | None = None, residual: _Input | None = None,
    residual_bias: _Input | None = None, residual_out: NDArray[_F] | None = None,
    post_add: _Input | None = None, activation: _Activation | None = None,
    out_dtype: None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, mean: _Input | None = None,
    var: _Input | None = None, flush_denormals: bool = False,
    lengths: _Input | None = None, masked: _Masked = "zero",
) -> tuple[NDArray[_F], NDArray[_F], NDArray[_F]]: ...
@overload
def layer_norm(
    input: _Input, normalized_shape: _Axes | None, weight: _Input | None = None,
    bias: _Input | None = None, eps: float = 1e-5, *, out: _Output | None = None,
    axis: _Axes | None = None, return_stats: bool = False,
    num_threads: int | None = None, residual: _Input | None = None,
    residual_bias: _Input | None = None, residual_out: _Output | None = None,
    post_add: _Input | None = None, activation: _Activation | None = None,
    out_dtype: DTypeLike | None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, mean: _Input | None = None,
    var: _Input | None = None, flush_denormals: bool = False,
    lengths: _Input | None = None, masked: _Masked = "zero",
) -> Any: ...
@overload
def rms_norm(
    input: NDArray[_F], normalized_shape: _Axes | None, weight: _Input | None = None,
    eps: float | None = None, *, out: NDArray[_F] | None = None,
    axis: _Axes | None = None, return_stats: Literal[False] = False,
    num_threads: int | None = None, residual: _Input | None = None,
    residual_bias: _Input | None = None, residual_out: NDArray[_F] | None = None,
    post_add: _Input | None = None, activation: _Activation | None = None,
    out_dtype: None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, mode: _RmsMode = "plain",
    flush_denormals: bool = False,
) -> NDArray[_F]: ...
@overload
def rms_norm(
    input: NDArray[_F], normalized_shape: _Axes | None, weight: _Input | None = None,
    eps: float | None = None, *, out: NDArray[_F] | None = None,
    axis: _Axes | None = None, return_stats: Literal[True],
    num_threads: int | None = None, residual: _Input | None = None,
    residual_bias: _Input | None = None, residual_out: NDArray[_F] | None = None,
    post_add: _Input | None = None, activation: _Activation | None = None,
    out_dtype: None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, mode: _RmsMode = "plain",
    flush_denormals: bool = False,
) -> tuple[NDArray[_F], NDArray[_F]]: ...
@overload
def rms_norm(
    input: _Input, normalized_shape: _Axes | None, weight: _Input | None = None,
    eps: float | None = None, *, out: _Output | None = None, axis: _Axes | None = None,
    return_stats: bool = False, num_threads: int | None = None,
    residual: _Input | None = None, residual_bias: _Input | None = None,
    residual_out: _Output | None = None, post_add: _Input | None = None,
    activation: _Activation | None = None, out_dtype: DTypeLike | None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    out_scale: float | None = None, out_zero_point: int | None = None,
    mode: _RmsMode = "plain", flush_denormals: bool = False,
) -> Any: ...
@overload
def l1_norm(
    input: NDArray[_F], axis: _Axes = -1, eps: float = 1e-12, *,
    out: NDArray[_F] | None = None, return_norm: Literal[False] = False,
    num_threads: int | None = None, out_dtype: None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    out_scale: float | None = None, out_zero_point: int | None = None,
    flush_denormals: bool = False,
) -> NDArray[_F]: ...
@overload
def l1_norm(
    input: NDArray[_F], axis: _Axes = -1, eps: float = 1e-12, *,
    out: NDArray[_F] | None = None, return_norm: Literal[True],
    num_threads: int | None = None, out_dtype: None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    out_scale: float | None = None, out_zero_point: int | None = None,
    flush_denormals: bool = False,
) -> tuple[NDArray[_F], NDArray[_F]]: ...
@overload
def l1_norm(
    input: _Input, axis: _Axes = -1, eps: float = 1e-12, *,
    out: NDArray[Any] | None = None, return_norm: Literal[False] = False,
    num_threads: int | None = None, out_dtype: DTypeLike | None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    out_scale: float | None = None, out_zero_point: int | None = None,
    flush_denormals: bool = False,
) -> NDArray[Any]: ...
@overload
def l1_norm(
    input: _Input, axis: _Axes = -1, eps: float = 1e-12, *, out: _Output | None = None,
    return_norm: bool = False, num_threads: int | None = None,
    out_dtype: DTypeLike | None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, flush_denormals: bool = False,
) -> Any: ...
@overload
def l2_norm(
    input: NDArray[_F], axis: _Axes = -1, eps: float = 1e-12, *,
    out: NDArray[_F] | None = None, return_norm: Literal[False] = False,
    num_threads: int | None = None, out_dtype: None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    out_scale: float | None = None, out_zero_point: int | None = None,
    flush_denormals: bool = False,
) -> NDArray[_F]: ...
@overload
def l2_norm(
    input: NDArray[_F], axis: _Axes = -1, eps: float = 1e-12, *,
    out: NDArray[_F] | None = None, return_norm: Literal[True],
    num_threads: int | None = None, out_dtype: None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    out_scale: float | None = None, out_zero_point: int | None = None,
    flush_denormals: bool = False,
) -> tuple[NDArray[_F], NDArray[_F]]: ...
@overload
def l2_norm(
    input: _Input, axis: _Axes = -1, eps: float = 1e-12, *,
    out: NDArray[Any] | None = None, return_norm: Literal[False] = False,
    num_threads: int | None = None, out_dtype: DTypeLike | None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    out_scale: float | None = None, out_zero_point: int | None = None,
    flush_denormals: bool = False,
) -> NDArray[Any]: ...
@overload
def l2_norm(
    input: _Input, axis: _Axes = -1, eps: float = 1e-12, *, out: _Output | None = None,
    return_norm: bool = False, num_threads: int | None = None,
    out_dtype: DTypeLike | None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, flush_denormals: bool = False,
) -> Any: ...
@overload
def normalize(
    input: NDArray[_F], p: float = 2.0, dim: int = 1, eps: float = 1e-12, *,
    out: NDArray[_F] | None = None, num_threads: int | None = None,
    out_dtype: None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, flush_denormals: bool = False,
) -> NDArray[_F]: ...
@overload
def normalize(
    input: _Input, p: float = 2.0, dim: int = 1, eps: float = 1e-12, *,
    out: NDArray[Any] | None = None, num_threads: int | None = None,
    out_dtype: DTypeLike | None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, flush_denormals: bool = False,
) -> NDArray[Any]: ...
@overload
def normalize(
    input: _Input, p: float = 2.0, dim: int = 1, eps: float = 1e-12, *,
    out: _Output | None = None, num_threads: int | None = None,
    out_dtype: DTypeLike | None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, flush_denormals: bool = False,
) -> Any: ...
@overload
def batch_norm(
    input: NDArray[_F], running_mean: _Input | None, running_var: _Input | None,
    weight: _Input | None = None, bias: _Input | None = None, training: bool = False,
    momentum: float | None = 0.1, eps: float = 1e-5, *, channel_axis: int = 1,
    num_batches_tracked: int | None = None, out: NDArray[_F] | None = None,
    return_stats: Literal[False] = False, num_threads: int | None = None,
    post_add: _Input | None = None, activation: _Activation | None = None,
    out_dtype: None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, flush_denormals: bool = False,
    mask: _Input | None = None, lengths: _Input | None = None,
    masked: _Masked = "zero",
) -> NDArray[_F]: ...
@overload
def batch_norm(
    input: NDArray[_F], running_mean: _Input | None, running_var: _Input | None,
    weight: _Input | None = None, bias: _Input | None = None, training: bool = False,
    momentum: float | None = 0.1, eps: float = 1e-5, *, channel_axis: int = 1,
    num_batches_tracked: int | None = None, out: NDArray[_F] | None = None,
    return_stats: Literal[True], num_threads: int | None = None,
    post_add: _Input | None = None, activation: _Activation | None = None,
    out_dtype: None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, flush_denormals: bool = False,
    mask: _Input | None = None, lengths: _Input | None = None,
    masked: _Masked = "zero",
) -> tuple[NDArray[_F], NDArray[_F], NDArray[_F]]: ...
@overload
def batch_norm(
    input: _Input, running_mean: _Input | None, running_var: _Input | None,
    weight: _Input | None = None, bias: _Input | None = None, training: bool = False,
    momentum: float | None = 0.1, eps: float = 1e-5, *, channel_axis: int = 1,
    num_batches_tracked: int | None = None, out: NDArray[Any] | None = None,
    return_stats: Literal[False] = False, num_threads: int | None = None,
    post_add: _Input | None = None, activation: _Activation | None = None,
    out_dtype: DTypeLike | None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, flush_denormals: bool = False,
    mask: _Input | None = None, lengths: _Input | None = None,
    masked: _Masked = "zero",
) -> NDArray[Any]: ...
@overload
def batch_norm(
    input: _Input, running_mean: _Input | None, running_var: _Input | None,
    weight: _Input | None = None, bias: _Input | None = None, training: bool = False,
    momentum: float | None = 0.1, eps: float = 1e-5, *, channel_axis: int = 1,
    num_batches_tracked: int | None = None, out: _Output | None = None,
    return_stats: bool = False, num_threads: int | None = None,
    post_add: _Input | None = None, activation: _Activation | None = None,
    out_dtype: DTypeLike | None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, flush_denormals: bool = False,
    mask: _Input | None = None, lengths: _Input | None = None,
    masked: _Masked = "zero",
) -> Any: ...
@overload
def batch_renorm(
    input: NDArray[_F], running_mean: _Input, running_var: _Input,
    weight: _Input | None = None, bias: _Input | None = None, training: bool = False,
    momentum: float | None = 0.1, eps: float = 1e-5, *, r_max: float = 3.0,
    d_max: float = 5.0, channel_axis: int = 1, num_batches_tracked: int | None = None,
    out: NDArray[_F] | None = None, return_stats: Literal[False] = False,
    num_threads: int | None = None, post_add: _Input | None = None,
    activation: _Activation | None = None, out_dtype: None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    out_scale: float | None = None, out_zero_point: int | None = None,
    flush_denormals: bool = False,
) -> NDArray[_F]: ...
@overload
def batch_renorm(
    input: NDArray[_F], running_mean: _Input, running_var: _Input,
    weight: _Input | None = None, bias: _Input | None = None, training: bool = False,
    momentum: float | None = 0.1, eps: float = 1e-5, *, r_max: float = 3.0,
    d_max: float = 5.0, channel_axis: int = 1, num_batches_tracked: int | None = None,
    out: NDArray[_F] | None = None, return_stats: Literal[True],
    num_threads: int | None = None, post_add: _Input | None = None,
    activation: _Activation | None = None, out_dtype: None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    out_scale: float | None = None, out_zero_point: int | None = None,
    flush_denormals: bool = False,
) -> tuple[
    NDArray[_F], NDArray[_F], NDArray[_F], NDArray[_F], NDArray[_F]
]: ...
@overload
def batch_renorm(
    input: _Input, running_mean: _Input, running_var: _Input,
    weight: _Input | None = None, bias: _Input | None = None, training: bool = False,
    momentum: float | None = 0.1, eps: float = 1e-5, *, r_max: float = 3.0,
    d_max: float = 5.0, channel_axis: int = 1, num_batches_tracked: int | None = None,
    out: NDArray[Any] | None = None, return_stats: Literal[False] = False,
    num_threads: int | None = None, post_add: _Input | None = None,
    activation: _Activation | None = None, out_dtype: DTypeLike | None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    out_scale: float | None = None, out_zero_point: int | None = None,
    flush_denormals: bool = False,
) -> NDArray[Any]: ...
@overload
def batch_renorm(
    input: _Input, running_mean: _Input, running_var: _Input,
    weight: _Input | None = None, bias: _Input | None = None, training: bool = False,
    momentum: float | None = 0.1, eps: float = 1e-5, *, r_max: float = 3.0,
    d_max: float = 5.0, channel_axis: int = 1, num_batches_tracked: int | None = None,
    out: _Output | None = None, return_stats: bool = False,
    num_threads: int | None = None, post_add: _Input | None = None,
    activation: _Activation | None = None, out_dtype: DTypeLike | None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    out_scale: float | None = None, out_zero_point: int | None = None,
    flush_denormals: bool = False,
) -> Any: ...
@overload
def weight_norm(
    v: NDArray[_F], g: _Input, dim: int | None = 0, *, out: NDArray[_F] | None = None,
    return_norm: Literal[False] = False, num_threads: int | None = None,
    flush_denormals: bool = False,
) -> NDArray[_F]: ...
@overload
def weight_norm(
    v: NDArray[_F], g: _Input, dim: int | None = 0, *, out: NDArray[_F] | None = None,
    return_norm: Literal[True], num_threads: int | None = None,
    flush_denormals: bool = False,
) -> tuple[NDArray[_F], NDArray[_F]]: ...
@overload
def weight_norm(
    v: _Input, g: _Input, dim: int | None = 0, *, out: NDArray[Any] | None = None,
    return_norm: Literal[False] = False, num_threads: int | None = None,
    flush_denormals: bool = False,
) -> NDArray[Any]: ...
@overload
def weight_norm(
    v: _Input, g: _Input, dim: int | None = 0, *, out: _Output | None = None,
    return_norm: bool = False, num_threads: int | None = None,
    flush_denormals: bool = False,
) -> Any: ...
@overload
def group_norm(
    input: NDArray[_F], num_groups: int, weight: _Input | None = None,
    bias: _Input | None = None, eps: float = 1e-5, *, channel_axis: int = 1,
    out: NDArray[_F] | None = None, return_stats: Literal[False] = False,
    num_threads: int | None = None, post_add: _Input | None = None,
    activation: _Activation | None = None, out_dtype: None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    out_scale: float | None = None, out_zero_point: int | None = None,
    mean: _Input | None = None, var: _Input | None = None,
    flush_denormals: bool = False,
    mask: _Input | None = None, lengths: _Input | None = None,
    masked: _Masked = "zero",
) -> NDArray[_F]: ...
@overload
def group_norm(
    input: NDArray[_F], num_groups: int, weight: _Input | None = None,
    bias: _Input | None = None, eps: float = 1e-5, *, channel_axis: int = 1,
    out: NDArray[_F] | None = None, return_stats: Literal[True],
    num_threads: int | None = None, post_add: _Input | None = None,
    activation: _Activation | None = None, out_dtype: None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    out_scale: float | None = None, out_zero_point: int | None = None,
    mean: _Input | None = None, var: _Input | None = None,
    flush_denormals: bool = False,
    mask: _Input | None = None, lengths: _Input | None = None,
    masked: _Masked = "zero",
) -> tuple[NDArray[_F], NDArray[_F], NDArray[_F]]: ...
@overload
def group_norm(
    input: _Input, num_groups: int, weight: _Input | None = None,
    bias: _Input | None = None, eps: float = 1e-5, *, channel_axis: int = 1,
    out: NDArray[Any] | None = None, return_stats: Literal[False] = False,
    num_threads: int | None = None, post_add: _Input | None = None,
    activation: _Activation | None = None, out_dtype: DTypeLike | None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    out_scale: float | None = None, out_zero_point: int | None = None,
    mean: _Input | None = None, var: _Input | None = None,
    flush_denormals: bool = False,
    mask: _Input | None = None, lengths: _Input | None = None,
    masked: _Masked = "zero",
) -> NDArray[Any]: ...
@overload
def group_norm(
    input: _Input, num_groups: int, weight: _Input | None = None,
    bias: _Input | None = None, eps: float = 1e-5, *, channel_axis: int = 1,
    out: _Output | None = None, return_stats: bool = False,
    num_threads: int | None = None, post_add: _Input | None = None,
    activation: _Activation | None = None, out_dtype: DTypeLike | None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    out_scale: float | None = None, out_zero_point: int | None = None,
    mean: _Input | None = None, var: _Input | None = None,
    flush_denormals: bool = False,
    mask: _Input | None = None, lengths: _Input | None = None,
    masked: _Masked = "zero",
) -> Any: ...
@overload
def instance_norm(
    input: NDArray[_F], running_mean: _Input | None = None,
    running_var: _Input | None = None, weight: _Input | None = None,
    bias: _Input | None = None, use_input_stats: bool = True, momentum: float = 0.1,
    eps: float = 1e-5, *, channel_axis: int = 1, out: NDArray[_F] | None = None,
    return_stats: Literal[False] = False, num_threads: int | None = None,
    post_add: _Input | None = None, activation: _Activation | None = None,
    out_dtype: None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, flush_denormals: bool = False,
    mask: _Input | None = None, lengths: _Input | None = None,
    masked: _Masked = "zero",
) -> NDArray[_F]: ...
@overload
def instance_norm(
    input: NDArray[_F], running_mean: _Input | None = None,
    running_var: _Input | None = None, weight: _Input | None = None,
    bias: _Input | None = None, use_input_stats: bool = True, momentum: float = 0.1,
    eps: float = 1e-5, *, channel_axis: int = 1, out: NDArray[_F] | None = None,
    return_stats: Literal[True], num_threads: int | None = None,
    post_add: _Input | None = None, activation: _Activation | None = None,
    out_dtype: None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, flush_denormals: bool = False,
    mask: _Input | None = None, lengths: _Input | None = None,
    masked: _Masked = "zero",
) -> tuple[NDArray[_F], NDArray[_F], NDArray[_F]]: ...
@overload
def instance_norm(
    input: _Input, running_mean: _Input | None = None,
    running_var: _Input | None = None, weight: _Input | None = None,
    bias: _Input | None = None, use_input_stats: bool = True, momentum: float = 0.1,
    eps: float = 1e-5, *, channel_axis: int = 1, out: NDArray[Any] | None = None,
    return_stats: Literal[False] = False, num_threads: int | None = None,
    post_add: _Input | None = None, activation: _Activation | None = None,
    out_dtype: DTypeLike | None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, flush_denormals: bool = False,
    mask: _Input | None = None, lengths: _Input | None = None,
    masked: _Masked = "zero",
) -> NDArray[Any]: ...
@overload
def instance_norm(
    input: _Input, running_mean: _Input | None = None,
    running_var: _Input | None = None, weight: _Input | None = None,
    bias: _Input | None = None, use_input_stats: bool = True, momentum: float = 0.1,
    eps: float = 1e-5, *, channel_axis: int = 1, out: _Output | None = None,
    return_stats: bool = False, num_threads: int | None = None,
    post_add: _Input | None = None, activation: _Activation | None = None,
    out_dtype: DTypeLike | None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, out_scale: float | None = None,
    out_zero_point: int | None = None, flush_denormals: bool = False,
    mask: _Input | None = None, lengths: _Input | None = None,
    masked: _Masked = "zero",
) -> Any: ...
@overload
def moments(
    input: _Input, axis: _Axes | None = None, *, ddof: int = 0, keepdims: bool = False,
    return_state: Literal[False] = False, num_threads: int | None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    flush_denormals: bool = False,
    mask: _Input | None = None, lengths: _Input | None = None,
) -> Moments: ...
@overload
def moments(
    input: _Input, axis: _Axes | None = None, *, ddof: int = 0, keepdims: bool = False,
    return_state: Literal[True], num_threads: int | None = None,
    in_scale: float | None = None, in_zero_point: int | None = None,
    flush_denormals: bool = False,
    mask: _Input | None = None, lengths: _Input | None = None,
) -> MomentsState: ...
@overload
def moments(
    input: _Input, axis: _Axes | None = None, *, ddof: int = 0, keepdims: bool = False,
    return_state: bool, num_threads: int | None = None, in_scale: float | None = None,
    in_zero_point: int | None = None, flush_denormals: bool = False,
    mask: _Input | None = None, lengths: _Input | None = None,
) -> Moments | MomentsState: ...
@overload
def normalize_image(
    input: NDArray[np.uint8], mean: _Channels = None, std: _Channels = None, *,
    scale: float | None = None, layout: _ImageLayout = "chw",
    reverse_channels: bool = False, out_dtype: None = None,
    out: NDArray[np.float32] | None = None, num_threads: int | None = None,
) -> NDArray[np.float32]: ...
@overload
def normalize_image(
    input: NDArray[_F], mean: _Channels = None, std: _Channels = None, *,
    scale: float | None = None, layout: _ImageLayout = "chw",
    reverse_channels: bool = False, out_dtype: None = None,
    out: NDArray[_F] | None = None, num_threads: int | None = None,
) -> NDArray[_F]: ...
@overload
def normalize_image(
    input: _Input, mean: _Channels = None, std: _Channels = None, *,
    scale: float | None = None, layout: _ImageLayout = "chw",
    reverse_channels: bool = False, out_dtype: DTypeLike | None = None,
    out: _Output | None = None, num_threads: int | None = None,
) -> Any: ...
def layer_norm_backward(
    grad_output: _Input, input: _Input, normalized_shape: _Axes | None,
    weight: _Input | None = None, mean: _Input | None = None,
    rstd: _Input | None = None, eps: float = 1e-5, *, axis: _Axes | None = None,
    out: _Output | None = None, needs: Sequence[str] = ("input", "weight", "bias"),
    num_threads: int | None = None, flush_denormals: bool = False,
) -> Gradients: ...
def rms_norm_backward(
    grad_output: _Input, input: _Input, normalized_shape: _Axes | None,
    weight: _Input | None = None, rstd: _Input | None = None,
    eps: float | None = None, *, mode: _RmsMode = "plain", axis: _Axes | None = None,
    out: _Output | None = None, needs: Sequence[str] = ("input", "weight"),
    num_threads: int | None = None, flush_denormals: bool = False,
) -> Gradients: ...
@overload
def l2_norm_backward(
    grad_output: _Input, input: NDArray[_F], axis: _Axes = -1, eps: float = 1e-12, *,
    out: NDArray[_F] | None = None, num_threads: int | None = None,
    flush_denormals: bool = False,
) -> NDArray[_F]: ...
@overload
def l2_norm_backward(
    grad_output: _Input, input: _Input, axis: _Axes = -1, eps: float = 1e-12, *,
    out: _Output | None = None, num_threads: int | None = None,
    flush_denormals: bool = False,
) -> Any: ...
def batch_norm_backward(
    grad_output: _Input, input: _Input, weight: _Input | None = None,
    mean: _Input | None = None, rstd: _Input | None = None, training: bool = True,
    eps: float = 1e-5, *, channel_axis: int = 1, out: _Output | None = None,
    needs: Sequence[str] = ("input", "weight", "bias"), num_threads: int | None = None,
    flush_denormals: bool = False,
) -> Gradients: ...
def batch_renorm_backward(
    grad_output: _Input, input: _Input, weight: _Input | None = None,
    mean: _Input | None = None, rstd: _Input | None = None, r: _Input | None = None,
    d: _Input | None = None, training: bool = True, eps: float = 1e-5, *,
    channel_axis: int = 1, out: _Output | None = None,
    needs: Sequence[str] = ("input", "weight", "bias"), num_threads: int | None = None,
    flush_denormals: bool = False,
) -> Gradients: ...
def group_norm_backward(
    grad_output: _Input, input: _Input, num_groups: int, weight: _Input | None = None,
    mean: _Input | None = None, rstd: _Input | None = None, eps: float = 1e-5, *,
    channel_axis: int = 1, out: _Output | None = None,
    needs: Sequence[str] = ("input", "weight", "bias"), num_threads: int | None = None,
    flush_denormals: bool = False,
) -> Gradients: ...
def instance_norm_backward(
    grad_output: _Input, input: _Input, weight: _Input | None = None,
    mean: _Input | None = None, rstd: _Input | None = None,
    use_input_stats: bool = True, eps: float = 1e-5, *, channel_axis: int = 1,
    out: _Output | None = None, needs: Sequence[str] = ("input", "weight", "bias"),
    num_threads: int | None = None, flush_denormals: bool = False,
) -> Gradients: ...
def weight_norm_backward(
    grad_output: _Input, v: _Input, g: _Input, dim: int | None = 0, *,
    norm: _Input | None = None, out: _Output | None = None,
    needs: Sequence[str] = ("v", "g"), num_threads: int | None = None,
    flush_denormals: bool = False,
) -> tuple[Any, Any]: ...
# fmt: on
def run_on(
    backend: object, function: Callable[..., Any], args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any: ...  # fmt: skip
def host_array(fn: str, name: str, value: _Input) -> NDArray[Any]: ...
def merge_moments(a: MomentsState, b: MomentsState) -> MomentsState: ...
def _batch_state(
    batch: _Input, axis: _Axes | None, mask: ArrayLike | None,
    weights: ArrayLike | None, nan: str, num_threads: int | None,
    flush_denormals: bool, wanted: tuple[int, ...] | None,
) -> tuple[NDArray[np.int64], _Float64, tuple[int, ...]]: ...  # fmt: skip
def _merge_states(
    count: NDArray[np.int64], rows: _Float64,
    other_count: NDArray[np.int64], other_rows: _Float64,
) -> None: ...  # fmt: skip
def _state_results(
    count: NDArray[np.int64], rows: _Float64, ddof: float
) -> _Float64: ...
def isa() -> str: ...
def isas() -> tuple[str, ...]: ...
def set_isa(name: str | None) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(num_threads: int | None) -> None: ...
def get_include() -> str: ...
@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> _Config: ...
