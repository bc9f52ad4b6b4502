# test_jit_overloads_errors.py - what is refused inside @njit, and in what words.
# SPDX-License-Identifier: MIT
"""Wrong types are errors of compilation; wrong values have the message of outside."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import fastnorm

numba = pytest.importorskip("numba")

from numba import njit  # noqa: E402
from numba.core.errors import TypingError  # noqa: E402

F, D = np.ones((2, 3), "f"), np.ones((2, 3))
READ_ONLY = F.copy()
READ_ONLY.flags.writeable = False
# A call, its x and y, and the message after the function's name.
TYPES = [
    (
        "layer_norm(x, 3)",
        F.astype("i4"),
        0,
        "input has dtype int32, float32 or float64",
    ),
    (
        "layer_norm(x, 3)",
        F.astype("f2"),
        0,
        "input has dtype float16, float32 or float",
    ),
    ("layer_norm(x, 3)", 1.5, 0, "input is float64, an array is needed"),
    ("layer_norm(x, 3)", [1.5], 0, "input is .*list.*, an array is needed"),
    ("l2_norm(x)", np.ones(()), 0, "input is 0-d, at least one axis is needed"),
    ("layer_norm(x, 3, y)", F, D[0], "weight has dtype float64, input's float32 is "),
    ("layer_norm(x, 3, y)", D, F[0], "weight has dtype float32, input's float64 is "),
    ("layer_norm(x, 3, bias=y)", F, D[0], "bias has dtype float64, input's float32 "),
    ("rms_norm(x, 3, y)", F, F, "weight has 2 axes, 1 is needed"),
    ("rms_norm(x, 3, y)", F, 2.0, "weight is float64, an array is needed"),
    ("layer_norm(x, 3.0)", F, 0, "normalized_shape is float64, an integer or a tuple"),
    ("layer_norm(x, [3])", F, 0, "normalized_shape is .*list.*, an integer or a tuple"),
    ("layer_norm(x, (3, 1.0))", F, 0, "normalized_shape is Tuple.*, an integer or a "),
    ("layer_norm(x, ())", F, 0, "normalized_shape is empty, at least one axis is nee"),
    ("layer_norm(x, (2, 3, 4))", F, 0, "normalized_shape has 3 axes, input has 2"),
    ("layer_norm(x, 3, eps='a')", F, 0, "eps is .*, a real number is needed"),
    ("layer_norm(x, 3, eps=None)", F, 0, "eps is none, a real number is needed"),
    ("layer_norm(x, 3, num_threads=1.0)", F, 0, "num_threads is float64, an integer "),
    ("layer_norm(x, 3, residual=x)", F, 0, "residual cannot be given inside @njit"),
    ("moments(x, mask=y)", F, F, "mask cannot be given inside @njit"),
    ("layer_norm(x, 3, mask=y)", F, F, "there is no argument mask"),
    ("l2_norm(x, return_norm=True)", F, 0, "return_norm cannot be given inside @njit"),
    ("layer_norm(x, 3, out=y)", F, D, "out has dtype float64, input's float32 is nee"),
    ("layer_norm(x, 3, out=y)", F, F[0], "out has 1 axis, 2 are needed"),
    ("layer_norm(x, 3, out=y)", F, F[:, ::-1], "out is not C-contiguous, which is ne"),
    ("layer_norm(x, 3, out=y)", F, READ_ONLY, "out is read-only"),
    ("layer_norm(x, 3, out=y)", F, 1, "out is .*, an array is needed"),
    ("l2_norm(x, 0)", F, 0, "axis is 0, inside @njit it must be last"),
    ("l2_norm(x, None)", F, 0, "axis is None, an integer or a tuple of integers is "),
    ("l2_norm(x, (1, -1))", F, 0, r"axis \(1, -1\) names an axis twice"),
    ("l2_norm(x, y)", F, 1, "axis is int64, a constant is needed"),
    ("normalize(x, dim=0)", F, 0, "dim is 0, inside @njit it must be last"),
    ("normalize(x, dim=2)", F, 0, "dim is 2, input has 2 axes"),
    ("batch_norm(x, None, None)", F, 0, "running_mean and running_var are None, whic"),
    ("batch_norm(x, x[0], None)", F, 0, "running_mean and running_var must come toge"),
    ("batch_norm(x, y, y, training=True)", F, READ_ONLY[0], "running_mean is read-on"),
    ("batch_norm(x, x[0], x[0], training=1.0)", F, 0, "training is float64, a bool i"),
    (
        "batch_norm(x, x[0], x[0], num_batches_tracked=1)",
        F,
        0,
        "num_batches_tracked is only used with momentum=None",
    ),
    ("batch_norm(x, x[0], x[0], momentum='a')", F, 0, "momentum is .*, a real number"),
    ("batch_norm(x, x[0], x[0], channel_axis=1.0)", F, 0, "channel_axis is float64, "),
    ("group_norm(x, 1, channel_axis=0)", F, 0, "channel_axis is 0, 1 is needed insid"),
    ("group_norm(x[0], 1)", F, 0, "input has 1 axis, at least 2 are needed"),
    ("group_norm(x, 1.0)", F, 0, "num_groups is float64, an integer is needed"),
    ("instance_norm(x, channel_axis=y)", F, 1, "channel_axis is int64, a constant is"),
    ("instance_norm(x, momentum=None)", F, 0, "momentum is None, a real number is ne"),
    ("moments(x, 2)", F, 0, "axis is 2, input has 2 axes"),
    ("moments(x, keepdims=y)", F, True, "keepdims is a variable, a constant is need"),
    (
        "moments(x, (1, 3))",
        np.ones((2,) * 5),
        0,
        r"axis \(1, 3\) of 5 axes needs a tra",
    ),
    (
        "moments(x, (0, 2))",
        np.ones((2,) * 4),
        0,
        r"axis \(0, 2\) of 4 axes needs a tra",
    ),
]


def function_of(text, arguments):
    return eval(f"lambda {arguments}: fastnorm.{text}", {"fastnorm": fastnorm})


@pytest.mark.parametrize(("text", "x", "y", "message"), TYPES)
def test_types_are_refused_while_compiling(text, x, y, message):
    name = text[: text.index("(")]
    with pytest.raises(TypingError, match=f"{name}: {message}"):
        njit(function_of(text, "x, y"))(x, y)


def test_keyword_only_arguments_have_no_place():
    with pytest.raises(TypingError, match="positional"):
        njit(function_of("layer_norm(x, 3, None, None, 1e-5, y)", "x, y"))(F, F)


Z = np.arange(24.0).reshape(2, 3, 4)
# A call of x, y, which is to stay as it is, its parts m and v, and n.
VALUES = [
    ("layer_norm(x, n, out=y)", 5),
    ("layer_norm(x, (n, 4), out=y)", 4),
    ("layer_norm(x, (3, n), out=y)", 5),
    ("layer_norm(x, 4, x[0, 0, n:], out=y)", 1),
    ("layer_norm(x, (3, 4), x[0, :n, :n], out=y)", 2),
    ("layer_norm(x, (3, 4), x.reshape(2, 4, 3)[n], out=y)", 0),
    ("layer_norm(x, (2, 3, 4), bias=x[:, n:], out=y)", 3),
    ("layer_norm(x, 4, eps=n, out=y)", -1.0),
    ("rms_norm(x, 4, eps=n, out=y)", np.nan),
    ("rms_norm(x, 4, x[0, 0, :n], out=y)", 3),
    ("l2_norm(x, eps=n, out=y)", np.inf),
    ("layer_norm(x, 4, num_threads=n, out=y)", 0),
    ("layer_norm(x, 4, num_threads=n, out=y)", 2**31),
    ("layer_norm(x, 4, out=y[:n])", 1),
    ("normalize(x, n, -1, out=y)", 1.5),
    ("batch_norm(x, x[0, 0], x[0, 1], channel_axis=n, out=y)", 3),
    ("batch_norm(x, x[0, 0], x[0, 1], channel_axis=n, out=y)", -4),
    ("batch_norm(x, x[0, 0, :n], x[0, 1, :3], out=y)", 2),
    ("batch_norm(x, x[0, 0, :3], x[0, 1, :n], out=y)", 2),
    ("batch_norm(x, None, None, training=n, out=y)", False),
    ("batch_norm(x, None, None, training=True, momentum=n, out=y)", 1.5),
    ("batch_norm(x, m, v, training=n, momentum=None)", True),
    ("batch_norm(x, m, v, training=True, momentum=None, num_batches_tracked=n)", -1),
    ("batch_norm(x[:n, :, :n], m, v, training=True)", 1),
    ("group_norm(x, n, out=y)", 2),
    ("group_norm(x, n, out=y)", 0),
    ("group_norm(x, 3, x[0, 0, n:], out=y)", 0),
    ("instance_norm(x[:, :, :n], m, v)", 1),
    ("instance_norm(x, use_input_stats=n, out=y)", False),
    ("instance_norm(x, momentum=n, out=y)", -0.5),
    ("moments(x, ddof=n)", -1),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_values_are_refused_as_outside_and_nothing_is_written(text, value):
    function = function_of(text, "x, y, m, v, n")
    x, y = Z.copy(), np.full_like(Z, 7)
    given = (x, y, y[0, 0, :3], y[0, 1, :3], value)
    with pytest.raises(ValueError, match=":") as outside:
        function(*given)
    with pytest.raises(ValueError, match=re.escape(str(outside.value))) as inside:
        njit(function)(*given)
    assert type(inside.value) is ValueError
    assert str(inside.value) == str(outside.value)
    np.testing.assert_array_equal(x, Z)
    assert (y == 7).all()


@pytest.mark.parametrize(
    "text",
    [
        "layer_norm(x, 4, out=y)",
        "rms_norm(z, 4, y[0], out=y)",
        "l2_norm(x, out=y)",
        "batch_norm(z, y[0], z[0], out=y)",
        "batch_norm(z, y[0], z[0], training=True, out=y)",
        "group_norm(x, 2, out=y)",
        "instance_norm(z.reshape(1, 3, 4), weight=y[0, :3], out=y.reshape(1, 3, 4))",
    ],
)
@pytest.mark.parametrize("shift", [1, 11])
def test_overlaps_are_refused_and_nothing_is_written(text, shift):
    memory = np.arange(24.0)
    x, y = memory[:12].reshape(3, 4), memory[shift : shift + 12].reshape(3, 4)
    z = np.arange(12.0).reshape(3, 4)
    name = text[: text.index("(")]
    with pytest.raises(ValueError, match=f"{name}: an output overlaps an input or"):
        njit(function_of(text, "x, y, z"))(x, y, z)
    np.testing.assert_array_equal(memory, np.arange(24.0))


def test_an_unknown_instruction_set_is_the_error_that_it_is_outside():
    code = """
import numpy as np
import fastnorm
from numba import njit

def norm(x):
    return fastnorm.layer_norm(x, 3)

for function in (norm, njit(norm)):
    try:
        function(np.ones((2, 3)))
    except RuntimeError as error:
        print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"FASTNORM_ISA": "mmx"},
    )
    outside, inside = done.stdout.splitlines()
    assert "'mmx'" in outside and inside == outside
