# __init__.py - the public names of fastnorm; imports NumPy and nothing optional.
# SPDX-License-Identifier: MIT
"""Normalization of NumPy arrays on CPUs, at the speed at which memory is copied.

The functions have the signatures of ``torch.nn.functional`` on NumPy arrays; what torch
lacks is keyword-only. See ``help(fastnorm.layer_norm)`` and so on.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fastnorm._core import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Gradients,
    Moments,
    MomentsState,
    __version__,
    batch_norm,
    batch_norm_backward,
    batch_renorm,
    batch_renorm_backward,
    get_include,
    get_num_threads,
    group_norm,
    group_norm_backward,
    instance_norm,
    instance_norm_backward,
    isa,
    isas,
    l1_norm,
    l2_norm,
    l2_norm_backward,
    layer_norm,
    layer_norm_backward,
    merge_moments,
    moments,
    normalize,
    normalize_image,
    rms_norm,
    rms_norm_backward,
    set_isa,
    set_num_threads,
    show_config,
    weight_norm,
    weight_norm_backward,
)

if TYPE_CHECKING:
    from fastnorm import jit as jit
    from fastnorm import reference as reference
    from fastnorm.fold import fold_batch_norm
    from fastnorm.layers import (
        BatchNorm,
        BatchRenorm,
        GroupNorm,
        InstanceNorm,
        LayerNorm,
        RMSNorm,
        WeightNorm,
    )
    from fastnorm.population import calibrate
    from fastnorm.stats import RunningMoments
    from fastnorm.tables import standardize, unstandardize

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "BatchNorm",
    "BatchRenorm",
    "Gradients",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "Moments",
    "MomentsState",
    "RMSNorm",
    "RunningMoments",
    "WeightNorm",
    "__version__",
    "batch_norm",
    "batch_norm_backward",
    "batch_renorm",
    "batch_renorm_backward",
    "calibrate",
    "fold_batch_norm",
    "get_include",
    "get_num_threads",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "isa",
    "isas",
    "l1_norm",
    "l2_norm",
    "l2_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "merge_moments",
    "moments",
    "normalize",
    "normalize_image",
    "rms_norm",
    "rms_norm_backward",
    "set_isa",
    "set_num_threads",
    "show_config",
    "standardize",
    "unstandardize",
    "weight_norm",
    "weight_norm_backward",
]

# Written in Python, and not needed by those who call the functions: imported when first
# asked for, so that `import fastnorm` stays quick. None of the modules imports what is
# optional before one of its functions is called.
_MODULES = ("jit", "reference")
_LATER = {
    "BatchNorm": "fastnorm.layers",
    "BatchRenorm": "fastnorm.layers",
    "GroupNorm": "fastnorm.layers",
    "InstanceNorm": "fastnorm.layers",
    "LayerNorm": "fastnorm.layers",
    "RMSNorm": "fastnorm.layers",
    "RunningMoments": "fastnorm.stats",
    "WeightNorm": "fastnorm.layers",
    "calibrate": "fastnorm.population",
    "fold_batch_norm": "fastnorm.fold",
    "standardize": "fastnorm.tables",
    "unstandardize": "fastnorm.tables",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"fastnorm.{name}")  # which makes it an attribute
    if name not in _LATER:
        raise AttributeError(f"module 'fastnorm' has no attribute {name!r}")
    value: object = getattr(import_module(_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, *(n for n in globals() if n.startswith("__"))})
