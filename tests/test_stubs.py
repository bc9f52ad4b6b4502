# test_stubs.py - the type stubs agree with the module and serve a strict user.
# SPDX-License-Identifier: MIT
"""mypy's stubtest on the extension, and mypy --strict on a user's code."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import fastnorm._core

pytest.importorskip("mypy")

# What only Cython puts there.
ALLOWED = """
fastnorm\\._core\\.Backward
fastnorm\\._core\\.Extras
fastnorm\\._core\\.Masking
fastnorm\\._core\\.__pyx_capi__
"""
USE = """
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import fastnorm

x = np.zeros((2, 3), np.float32)
d = np.zeros((2, 3))
assert_type(fastnorm.layer_norm(x, 3), NDArray[np.float32])
assert_type(fastnorm.rms_norm(d, (3,), out=d, num_threads=1), NDArray[np.float64])
assert_type(
    fastnorm.layer_norm(d, [3], return_stats=True),
    tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
)
assert_type(
    fastnorm.rms_norm(x, None, axis=-1, return_stats=True),
    tuple[NDArray[np.float32], NDArray[np.float32]],
)
assert_type(
    fastnorm.batch_norm(x, None, None, training=True, momentum=None),
    NDArray[np.float32],
)
fastnorm.layer_norm([[1.0, 2.0]], 2, [1, 2])
image = np.zeros((4, 5, 3), np.uint8)
assert_type(fastnorm.normalize_image(image, "imagenet", 0.5), NDArray[np.float32])
assert_type(fastnorm.normalize_image(d[:, None], [0, 1, 2]), NDArray[np.float64])
assert_type(fastnorm.group_norm(x, 3, activation=("clamp", 0, 1)), NDArray[np.float32])
assert_type(
    fastnorm.group_norm(d, 3, return_stats=True),
    tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
)
assert_type(
    fastnorm.instance_norm(d[None], None, None, eps=0.1, num_threads=1),
    NDArray[np.float64],
)
assert_type(
    fastnorm.l2_norm(x, return_norm=True),
    tuple[NDArray[np.float32], NDArray[np.float32]],
)
assert_type(
    fastnorm.l1_norm(d, return_norm=True),
    tuple[NDArray[np.float64], NDArray[np.float64]],
)
assert_type(fastnorm.normalize(d, 2.0, -1), NDArray[np.float64])
assert_type(fastnorm.batch_renorm(x, d[0], d[0], training=True), NDArray[np.float32])
assert_type(
    fastnorm.weight_norm(d, [1.0, 2.0], dim=None, return_norm=True),
    tuple[NDArray[np.float64], NDArray[np.float64]],
)
halves = fastnorm.layer_norm(x.astype(np.float16), 3, out_dtype="bfloat16")
quantized, scale = fastnorm.layer_norm(x, 3, post_add=x, out_dtype=np.int8)
assert_type(fastnorm.moments(x, (0, 1)).mean, NDArray[np.float64])
state = fastnorm.moments(x, 0, return_state=True)
assert_type(state, fastnorm.MomentsState)
assert_type(fastnorm.merge_moments(state, state).count, int)
gradients = fastnorm.layer_norm_backward(x, x, 3, needs=("input",), out=x)
assert_type(gradients, fastnorm.Gradients)
assert_type(fastnorm.l2_norm_backward(d, d, out=d), NDArray[np.float64])
grad_v, grad_g = fastnorm.weight_norm_backward(x, x, np.ones(2, np.float32), -2)
layer = fastnorm.BatchNorm(3).train()
assert_type(layer, fastnorm.BatchNorm)
layer.backward(layer(x))
assert_type(fastnorm.isas(), tuple[str, ...])
assert_type(fastnorm.show_config("dicts")["num_threads"], int)
fastnorm.show_config()
fastnorm.set_isa(None)
fastnorm.set_num_threads(fastnorm.get_num_threads())
"""
MISUSE = [
    'fastnorm.layer_norm(np.zeros(3), "3")',
    "fastnorm.layer_norm(np.zeros(3), 3, None, None, 1e-5, np.zeros(3))",
    "fastnorm.rms_norm(np.zeros(3), 3, bias=np.zeros(3))",
    "fastnorm.layer_norm(np.zeros(3), 3, out=[0.0, 0.0, 0.0])",
    "fastnorm.merge_moments(fastnorm.moments(np.zeros(3)), None)",
    "fastnorm.set_num_threads(1.5)",
    "fastnorm.rms_norm_backward(x := np.zeros(3), x, 3, mean=x)",
]


def mypy(directory, *arguments):
    # -P: the installed package, not one that the working directory holds.
    return subprocess.run(
        [sys.executable, "-P", "-m", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )


def test_stubs_agree_with_the_module(tmp_path):
    (tmp_path / "allowed.txt").write_text(ALLOWED, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text("[mypy]\n", encoding="utf-8")
    done = mypy(
        tmp_path,
        "mypy.stubtest",
        "fastnorm._core",
        "--allowlist=allowed.txt",
        "--mypy-config-file=mypy.ini",
    )
    assert done.returncode == 0, done.stdout + done.stderr


def signature_of(node):
    """The names, kinds and defaults that a function of the stub states."""
    arguments = node.args
    assert not arguments.posonlyargs
    required = len(arguments.args) - len(arguments.defaults)
    stated = list(
        zip(arguments.args, [None] * required + arguments.defaults, strict=True)
    )
    stated += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return [
        (
            argument.arg,
            argument in arguments.kwonlyargs,
            inspect.Parameter.empty if value is None else ast.literal_eval(value),
        )
        for argument, value in stated
    ]


def test_every_overload_has_the_defaults_of_the_module():
    # stubtest looks at the overloads as a whole and lets a wrong default pass.
    stub = Path(fastnorm._core.__file__).with_name("_core.pyi")
    functions = [
        node
        for node in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    ]
    assert len(functions) >= 20
    for node in functions:
        parameters = inspect.signature(getattr(fastnorm._core, node.name)).parameters
        actual = [
            (name, p.kind is p.KEYWORD_ONLY, p.default)
            for name, p in parameters.items()
            if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        # What tells the overloads apart: a default may be left out of some.
        pairs = zip(signature_of(node), actual, strict=True)
        for stated, wanted in pairs:
            if stated[0] in ("mode", "return_norm", "return_state", "return_stats"):
                assert stated[:2] == wanted[:2]
                assert stated[2] in (wanted[2], inspect.Parameter.empty)
            else:
                assert stated == wanted, node.name


def test_a_strict_user_sees_the_right_types(tmp_path):
    (tmp_path / "use.py").write_text(USE, encoding="utf-8")
    done = mypy(tmp_path, "mypy", "--strict", "use.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_misuse_is_seen(tmp_path):
    lines = ["import numpy as np", "import fastnorm", *MISUSE]
    (tmp_path / "misuse.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = mypy(tmp_path, "mypy", "--strict", "misuse.py")
    seen = {line.split(":")[1] for line in done.stdout.splitlines() if "error:" in line}
    assert seen == {str(i) for i in range(3, 3 + len(MISUSE))}, done.stdout
