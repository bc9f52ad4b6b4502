# reference/__init__.py - slow, readable twins of the compiled functions.
# SPDX-License-Identifier: MIT
"""Slow, readable twins of the compiled functions, in more than float64.

Same names, same arguments, same shapes, same errors for the same shapes. Every formula
here is the definition that docs and tests hold the compiled code to.

All arithmetic is done in ``numpy.longdouble``, and the result is float64, rounded
once, where neither `out` nor `out_dtype` says otherwise. Where longdouble is the 80-bit
or the 128-bit format (x86 with GCC or clang, AArch64 Linux) it has 15 bits of exponent,
so that no finite float64 overflows when it is squared, and at least 11 more bits of
precision than float64, so that these functions can judge float64 results. Where it is
float64 (MSVC, macOS on ARM) they can judge float32 only.

`num_threads` is accepted so that the signatures agree; NumPy decides here.

Beside the twins there are their parts that tests need alone: `activate`, `dequantize`,
`quantize` and `round_to`.
"""

from ._backward_channels import (
    batch_norm_backward,
    batch_renorm_backward,
    group_norm_backward,
    instance_norm_backward,
)
from ._backward_lengths import l2_norm_backward, weight_norm_backward
from ._backward_rows import layer_norm_backward, rms_norm_backward
from ._channels import batch_norm
from ._elements import activate, dequantize, quantize, round_to
from ._image import normalize_image
from ._moments import merge_moments, moments
from ._renorm import batch_renorm
from ._rows import l1_norm, l2_norm, layer_norm, normalize, rms_norm
from ._running import RunningMoments
from ._samples import group_norm, instance_norm
from ._weight_norm import weight_norm

__all__ = [
    "RunningMoments",
    "activate",
    "batch_norm",
    "batch_norm_backward",
    "batch_renorm",
    "batch_renorm_backward",
    "dequantize",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "l1_norm",
    "l2_norm",
    "l2_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "merge_moments",
    "moments",
    "normalize",
    "normalize_image",
    "quantize",
    "rms_norm",
    "rms_norm_backward",
    "round_to",
    "weight_norm",
    "weight_norm_backward",
]
