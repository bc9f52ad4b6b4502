"""The ONNX Runtime engine: small graphs, with I/O binding where out= is given.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .cases import EPS, GROUPS, INT8_SCALE, ORDER, Array, Case, Data
from .engine import Engine, Job

# an old enough file format, and opsets where all operations have the form used here
_IR_VERSION = 10
_OPSET = 21
_CONTRIBUTED = "com.microsoft"


def _load(
    data: Data,
    nodes: Sequence[Any],
    parameters: Mapping[str, Array],
    outputs: Mapping[str, Array],
    opset: int = _OPSET,
) -> Any:
    """A session whose inputs are "x" and, if a node reads it, "other"."""
    import onnxruntime
    from onnx import helper, numpy_helper

    def value(name: str, array: Array) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        return helper.make_tensor_value_info(name, kind, array.shape)

    graph = helper.make_graph(
        nodes,
        "norm",
        [value(name, array) for name, array in _inputs(data, nodes).items()],
        [value(name, array) for name, array in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in parameters.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[
            helper.make_opsetid("", opset),
            helper.make_opsetid(_CONTRIBUTED, 1),
        ],
        ir_version=_IR_VERSION,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = data.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _inputs(data: Data, nodes: Sequence[Any]) -> dict[str, Array]:
    read = {name for node in nodes for name in node.input}
    return {"x": data.x} | ({"other": data.other} if "other" in read else {})


def _node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    from onnx import helper

    # "-" is a result that is not wanted
    names = ["" if name == "-" else name for name in outputs.split()]
    return helper.make_node(op, inputs.split(), names, **attributes)


def _job(
    case: Case,
    data: Data,
    nodes: Sequence[Any],
    parameters: Mapping[str, Array],
    outputs: Mapping[str, Array] | None = None,
    opset: int = _OPSET,
) -> Job:
    """The graph as a call. `outputs` are arrays for the results; "y" alone if None."""
    kept = {"y": data.output()} if outputs is None else dict(outputs)
    session = _load(data, nodes, parameters, kept, opset)
    inputs = _inputs(data, nodes)
    if not case.out:
        run: Callable[[], Any] = partial(session.run, list(kept), inputs)
        return Job(run, lambda result: tuple(result))
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)
    for name, array in kept.items():
        binding.bind_output(
            name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data
        )
    # reading through `kept` also keeps the buffers alive while the binding points there
    call = partial(session.run_with_iobinding, binding)
    return Job(call, lambda _: tuple(kept.values()))


def _affine(data: Data) -> dict[str, Array]:
    return {"weight": data.weight, "bias": data.bias}


def _layer_norm_node(output: str = "y") -> Any:
    return _node("LayerNormalization", "x weight bias", output, epsilon=EPS)


def _layer_norm(case: Case, data: Data) -> Job | None:
    if case.detail in ("bfloat16", "flushed"):
        return None  # its Python API has no bfloat16, and flushes a whole session
    return _job(case, data, [_layer_norm_node()], _affine(data))


def _rms_norm(case: Case, data: Data) -> Job:
    node = _node("RMSNormalization", "x weight", epsilon=EPS)
    return _job(case, data, [node], {"weight": data.weight}, opset=23)


def _residual(case: Case, data: Data) -> Job | None:
    if data.x.dtype != np.float32:
        return None
    parameters, op = _affine(data), "SkipLayerNormalization"
    if case.op == "rms_norm_residual":
        parameters, op = {"weight": data.weight}, "SkipSimplifiedLayerNormalization"
    inputs = " ".join(["x", "other", *parameters])
    node = _node(op, inputs, "y - - sum", epsilon=EPS, domain=_CONTRIBUTED)
    outputs = {"y": data.output(), "sum": data.output()}
    return _job(case, data, [node], parameters, outputs)


def _int8(case: Case, data: Data) -> Job | None:
    if case.detail == "dynamic":
        return None  # it quantizes dynamically by one scale for the whole array
    nodes = [_layer_norm_node("t"), _node("QuantizeLinear", "t scale zero")]
    parameters = _affine(data) | {
        "scale": np.array(INT8_SCALE, np.float32),
        "zero": np.array(0, np.int8),
    }
    out = data.output("int8")
    job = _job(case, data, nodes, parameters, {"y": out})
    return Job(job.call, lambda _: (out * np.float64(INT8_SCALE),))


def _activation(case: Case, data: Data) -> Job | None:
    if case.detail == "gelu" and data.x.dtype != np.float32:
        return None
    nodes = {
        "relu": [_node("Relu", "t")],
        "gelu": [_node("Gelu", "t", approximate="none")],
        "gelu_tanh": [_node("Gelu", "t", approximate="tanh")],
        "silu": [_node("Sigmoid", "t", "u"), _node("Mul", "t u")],
    }[case.detail]
    return _job(case, data, [_layer_norm_node("t"), *nodes], _affine(data))


def _batch_norm(case: Case, data: Data) -> Job | None:
    if case.layout != "NCHW":
        return None  # ONNX has no channels-last batch norm
    parameters = _affine(data) | {"mean": data.running_mean, "var": data.running_var}
    op, inputs = "BatchNormalization", "x weight bias mean var"
    nodes = [_node(op, inputs, epsilon=EPS)]
    if case.op == "batch_norm_add_relu":
        nodes = [
            _node(op, inputs, "t", epsilon=EPS),
            _node("Add", "t other", "u"),
            _node("Relu", "u"),
        ]
    return _job(case, data, nodes, parameters)


def _group_norm(case: Case, data: Data) -> Job | None:
    if case.layout != "NCHW":
        return None  # nor a channels-last group or instance norm
    if case.op == "group_norm":
        op = "GroupNormalization"
        node = _node(op, "x weight bias", epsilon=EPS, num_groups=GROUPS)
    elif data.x.dtype == np.float32:
        node = _node("InstanceNormalization", "x weight bias", epsilon=EPS)
    else:
        return None
    return _job(case, data, [node], _affine(data))


def _lp_norm(case: Case, data: Data) -> Job:
    node = _node("LpNormalization", "x", p=ORDER[case.op], axis=-1)
    return _job(case, data, [node], {})


ONNXRUNTIME = Engine(
    "onnxruntime",
    ("onnx", "onnxruntime"),
    {
        "layer_norm": _layer_norm,
        "rms_norm": _rms_norm,
        "layer_norm_residual": _residual,
        "rms_norm_residual": _residual,
        "layer_norm_16bit": _layer_norm,
        "layer_norm_int8": _int8,
        "layer_norm_activation": _activation,
        "layer_norm_subnormal": _layer_norm,
        "batch_norm": _batch_norm,
        "batch_norm_add_relu": _batch_norm,
        "group_norm": _group_norm,
        "instance_norm": _group_norm,
        **dict.fromkeys(ORDER, _lp_norm),
    },
)
