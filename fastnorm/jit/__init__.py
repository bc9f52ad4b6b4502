# SPDX-License-Identifier: MIT
"""__init__.py - the Numba backend: the norms as parallel kernels that Numba compiles.

The functions have the signatures of fastnorm's own. A kernel is compiled when it is
first called with dtypes that it was not yet called with, which takes seconds; nothing
is compiled at import. See docs/jit.md for when to use which.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import fastnorm
from fastnorm import merge_moments
from fastnorm._core import run_on

from . import _fork  # noqa: F401 (notes what forks leave behind)

if TYPE_CHECKING:
    from ._backend import Backend
    from ._fuse import fuse

__all__ = [
    "batch_norm",
    "fuse",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "merge_moments",
    "moments",
    "rms_norm",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _module(name: str) -> Any:
    # Numba imports this package for all who use it and have fastnorm (see
    # _overloads.py): the kernels are imported when one is called.
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("numba", "llvmlite"):
            raise
        raise ImportError(
            f"fastnorm.jit needs Numba, pip install 'fastnorm[jit]' ({error})",
            name=error.name,
        ) from error


@functools.cache
def _numba() -> Backend:
    backend: Backend = _module("_backend").Backend()
    return backend


def _served(function: _Function) -> _Function:
    """The function with its norms made by Numba."""

    @functools.wraps(function)
    def serve(*args: Any, **kwargs: Any) -> Any:
        return run_on(_numba(), function, args, kwargs)

    name = function.__name__
    serve.__doc__ = f"""`fastnorm.{name}` by kernels that Numba compiles.

    Arguments and result are those of `fastnorm.{name}`. Not taken, with a
    NotImplementedError that says so: 8-bit data, masks, lengths and weights,
    residuals, `post_add`, `activation` and `flush_denormals` (see `fuse` for what goes
    into the loops).

    Within the same bounds of error; the bits are the same for any number of threads,
    but other ones than those of `fastnorm.{name}`, and may differ between processors.
    """
    return cast("_Function", serve)


layer_norm = _served(fastnorm.layer_norm)
rms_norm = _served(fastnorm.rms_norm)
batch_norm = _served(fastnorm.batch_norm)
group_norm = _served(fastnorm.group_norm)
instance_norm = _served(fastnorm.instance_norm)
moments = _served(fastnorm.moments)


def __getattr__(name: str) -> object:
    if name != "fuse":
        raise AttributeError(f"module 'fastnorm.jit' has no attribute {name!r}")
    function: object = _module("_fuse").fuse
    globals()[name] = function
    return function
