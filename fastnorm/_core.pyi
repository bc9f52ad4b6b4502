# _core.pyi - the types of the compiled functions.
# SPDX-License-Identifier: MIT
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, TypedDict, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

__version__: str

# float32 or float64, as the input. A list of numbers makes it float64, and an object
# with __array__ can be either, so the type of the result cannot say more.
_Float: TypeAlias = np.float32 | np.float64
_F = TypeVar("_F", np.float32, np.float64)
_Array: TypeAlias = NDArray[_Float]
_Float64: TypeAlias = NDArray[np.float64]

class Moments(NamedTuple):
    mean: _Float64
    var: _Float64

class MomentsState(NamedTuple):
    count: int  # type: ignore[assignment]  # hides tuple.count
    mean: _Float64
    m2: _Float64

class _Config(TypedDict):
    version: str
    isa: str | None
    isas: tuple[str, ...]
    num_threads: int
    compiler: str
    cython: str
    numpy: str

@overload
def layer_norm(
    input: NDArray[_F],
    normalized_shape: int | Sequence[int] | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    out: NDArray[_F] | None = None,
    axis: int | Sequence[int] | None = None,
    return_stats: Literal[False] = False,
    num_threads: int | None = None,
) -> NDArray[_F]: ...
@overload
def layer_norm(
    input: NDArray[_F],
    normalized_shape: int | Sequence[int] | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    out: NDArray[_F] | None = None,
    axis: int | Sequence[int] | None = None,
    return_stats: Literal[True],
    num_threads: int | None = None,
) -> tuple[NDArray[_F], NDArray[_F], NDArray[_F]]: ...
@overload
def layer_norm(
    input: ArrayLike,
    normalized_shape: int | Sequence[int] | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    out: _Array | None = None,
    axis: int | Sequence[int] | None = None,
    return_stats: Literal[False] = False,
    num_threads: int | None = None,
) -> _Array: ...
@overload
def layer_norm(
    input: ArrayLike,
    normalized_shape: int | Sequence[int] | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    out: _Array | None = None,
    axis: int | Sequence[int] | None = None,
    return_stats: Literal[True],
    num_threads: int | None = None,
) -> tuple[_Array, _Array, _Array]: ...
@overload
def layer_norm(
    input: ArrayLike,
    normalized_shape: int | Sequence[int] | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    out: _Array | None = None,
    axis: int | Sequence[int] | None = None,
    return_stats: bool,
    num_threads: int | None = None,
) -> _Array | tuple[_Array, _Array, _Array]: ...
@overload
def rms_norm(
    input: NDArray[_F],
    normalized_shape: int | Sequence[int] | None,
    weight: ArrayLike | None = None,
    eps: float | None = None,
    *,
    out: NDArray[_F] | None = None,
    axis: int | Sequence[int] | None = None,
    return_stats: Literal[False] = False,
    num_threads: int | None = None,
) -> NDArray[_F]: ...
@overload
def rms_norm(
    input: NDArray[_F],
    normalized_shape: int | Sequence[int] | None,
    weight: ArrayLike | None = None,
    eps: float | None = None,
    *,
    out: NDArray[_F] | None = None,
    axis: int | Sequence[int] | None = None,
    return_stats: Literal[True],
    num_threads: int | None = None,
) -> tuple[NDArray[_F], NDArray[_F]]: ...
@overload
def rms_norm(
    input: ArrayLike,
    normalized_shape: int | Sequence[int] | None,
    weight: ArrayLike | None = None,
    eps: float | None = None,
    *,
    out: _Array | None = None,
    axis: int | Sequence[int] | None = None,
    return_stats: Literal[False] = False,
    num_threads: int | None = None,
) -> _Array: ...
@overload
def rms_norm(
    input: ArrayLike,
    normalized_shape: int | Sequence[int] | None,
    weight: ArrayLike | None = None,
    eps: float | None = None,
    *,
    out: _Array | None = None,
    axis: int | Sequence[int] | None = None,
    return_stats: Literal[True],
    num_threads: int | None = None,
) -> tuple[_Array, _Array]: ...
@overload
def rms_norm(
    input: ArrayLike,
    normalized_shape: int | Sequence[int] | None,
    weight: ArrayLike | None = None,
    eps: float | None = None,
    *,
    out: _Array | None = None,
    axis: int | Sequence[int] | None = None,
    return_stats: bool,
    num_threads: int | None = None,
) -> _Array | tuple[_Array, _Array]: ...
@overload
def batch_norm(
    input: NDArray[_F],
    running_mean: ArrayLike | None,
    running_var: ArrayLike | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    num_batches_tracked: int | None = None,
    out: NDArray[_F] | None = None,
    return_stats: Literal[False] = False,
    num_threads: int | None = None,
) -> NDArray[_F]: ...
@overload
def batch_norm(
    input: NDArray[_F],
    running_mean: ArrayLike | None,
    running_var: ArrayLike | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    num_batches_tracked: int | None = None,
    out: NDArray[_F] | None = None,
    return_stats: Literal[True],
    num_threads: int | None = None,
) -> tuple[NDArray[_F], NDArray[_F], NDArray[_F]]: ...
@overload
def batch_norm(
    input: ArrayLike,
    running_mean: ArrayLike | None,
    running_var: ArrayLike | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    num_batches_tracked: int | None = None,
    out: _Array | None = None,
    return_stats: Literal[False] = False,
    num_threads: int | None = None,
) -> _Array: ...
@overload
def batch_norm(
    input: ArrayLike,
    running_mean: ArrayLike | None,
    running_var: ArrayLike | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    num_batches_tracked: int | None = None,
    out: _Array | None = None,
    return_stats: Literal[True],
    num_threads: int | None = None,
) -> tuple[_Array, _Array, _Array]: ...
@overload
def batch_norm(
    input: ArrayLike,
    running_mean: ArrayLike | None,
    running_var: ArrayLike | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    num_batches_tracked: int | None = None,
    out: _Array | None = None,
    return_stats: bool,
    num_threads: int | None = None,
) -> _Array | tuple[_Array, _Array, _Array]: ...
@overload
def moments(
    input: ArrayLike,
    axis: int | Sequence[int] | None = None,
    *,
    ddof: int = 0,
    keepdims: bool = False,
    return_state: Literal[False] = False,
    num_threads: int | None = None,
) -> Moments: ...
@overload
def moments(
    input: ArrayLike,
    axis: int | Sequence[int] | None = None,
    *,
    ddof: int = 0,
    keepdims: bool = False,
    return_state: Literal[True],
    num_threads: int | None = None,
) -> MomentsState: ...
@overload
def moments(
    input: ArrayLike,
    axis: int | Sequence[int] | None = None,
    *,
    ddof: int = 0,
    keepdims: bool = False,
    return_state: bool,
    num_threads: int | None = None,
) -> Moments | MomentsState: ...
def merge_moments(a: MomentsState, b: MomentsState) -> MomentsState: ...
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
