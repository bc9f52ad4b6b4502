# __init__.pxd - makes the functions of _core.pxd available as `cimport fastnorm`.
# SPDX-License-Identifier: MIT
from fastnorm._core cimport (
    batch_norm_f32,
    batch_norm_f64,
    batch_norm_training_f32,
    batch_norm_training_f64,
    error_message,
    group_norm_f32,
    group_norm_f64,
    instance_norm_f32,
    instance_norm_f64,
    instance_norm_running_f32,
    instance_norm_running_f64,
    l2_norm_f32,
    l2_norm_f64,
    layer_norm_f32,
    layer_norm_f64,
    moments_f32,
    moments_f64,
    rms_norm_f32,
    rms_norm_f64,
)
