"""The ONNX Runtime engine: one-node graphs, with I/O binding where out= is given.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .cases import EPS, Array, Case, Data
from .engine import Engine, Job

# an old enough file format and the first opset that has the operation in this form
_IR_VERSION = 10


def _load(
    case: Case,
    data: Data,
    op: str,
    opset: int,
    parameters: Mapping[str, Array],
) -> Any:
    import onnxruntime
    from onnx import helper, numpy_helper

    kind = helper.np_dtype_to_tensor_dtype(data.x.dtype)
    node = helper.make_node(op, ["x", *parameters], ["y"], epsilon=EPS)
    graph = helper.make_graph(
        [node],
        op,
        [helper.make_tensor_value_info("x", kind, case.shape)],
        [helper.make_tensor_value_info("y", kind, case.shape)],
        [numpy_helper.from_array(value, name) for name, value in parameters.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=_IR_VERSION,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = data.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _job(case: Case, data: Data, session: Any) -> Job:
    if not case.out:
        run: Callable[[], Any] = partial(session.run, ["y"], {"x": data.x})
        return Job(run, lambda result: tuple(result))
    out = data.output()
    binding = session.io_binding()
    binding.bind_cpu_input("x", data.x)
    binding.bind_output("y", "cpu", 0, out.dtype.type, out.shape, out.ctypes.data)
    # reading through `out` also keeps the buffer alive while the binding points at it
    return Job(partial(session.run_with_iobinding, binding), lambda _: (out,))


def _layer_norm(case: Case, data: Data) -> Job:
    parameters = {"weight": data.weight, "bias": data.bias}
    session = _load(case, data, "LayerNormalization", 17, parameters)
    return _job(case, data, session)


def _rms_norm(case: Case, data: Data) -> Job:
    session = _load(case, data, "RMSNormalization", 23, {"weight": data.weight})
    return _job(case, data, session)


def _batch_norm(case: Case, data: Data) -> Job | None:
    if case.layout != "NCHW":
        return None  # ONNX has no channels-last batch norm
    parameters = {
        "weight": data.weight,
        "bias": data.bias,
        "mean": data.running_mean,
        "var": data.running_var,
    }
    session = _load(case, data, "BatchNormalization", 15, parameters)
    return _job(case, data, session)


ONNXRUNTIME = Engine(
    "onnxruntime",
    ("onnx", "onnxruntime"),
    {"layer_norm": _layer_norm, "rms_norm": _rms_norm, "batch_norm": _batch_norm},
)
