# __init__.py - the public names of fastnorm; imports NumPy and the extension only.
# SPDX-License-Identifier: MIT
"""Normalization of NumPy arrays on CPUs, at the speed at which memory is copied.

The functions have the signatures of ``torch.nn.functional`` on NumPy arrays; what torch
lacks is keyword-only. See ``help(fastnorm.layer_norm)`` and so on.
"""

from fastnorm._core import (
    Moments,
    MomentsState,
    __version__,
    batch_norm,
    get_include,
    get_num_threads,
    isa,
    isas,
    layer_norm,
    merge_moments,
    moments,
    rms_norm,
    set_isa,
    set_num_threads,
    show_config,
)

__all__ = [
    "Moments",
    "MomentsState",
    "__version__",
    "batch_norm",
    "get_include",
    "get_num_threads",
    "isa",
    "isas",
    "layer_norm",
    "merge_moments",
    "moments",
    "rms_norm",
    "set_isa",
    "set_num_threads",
    "show_config",
]
