# test_binding_errors.py - what is refused, in which words, with nothing written.
# SPDX-License-Identifier: MIT
"""Every error names function and argument, and leaves every array as it was."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import fastnorm

X = np.arange(12, dtype=np.float32).reshape(3, 4)
W = np.ones(4, np.float32)
M = np.zeros(4, np.float32)
V = np.ones(4, np.float32)
HUGE = 2**70


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype)
    return raw.reshape(array.shape)


def overlapping(array):
    """An array of the shape and dtype whose rows share one memory."""
    rows = np.zeros(array.shape[1], array.dtype)
    return np.lib.stride_tricks.as_strided(
        rows, array.shape, (0, rows.itemsize), writeable=True
    )


SHAPES = [
    ((X, 5), {}, ValueError, "normalized_shape is (5,), input has shape (3, 4)"),
    ((X, HUGE), {}, ValueError, f"normalized_shape is ({HUGE},), input has shape"),
    ((X, (3, 3, 4)), {}, ValueError, "normalized_shape is (3, 3, 4), input has shape"),
    ((X, ()), {}, ValueError, "normalized_shape is empty, at least one axis is needed"),
    ((X, None), {}, ValueError, "normalized_shape is None, which needs axis"),
    ((X, 4.0), {}, TypeError, "normalized_shape is float, an integer is needed"),
    ((X, ["4"]), {}, TypeError, "normalized_shape is str, an integer is needed"),
    ((X, 4), {"axis": 0}, ValueError, "normalized_shape is (4,), input has (3,) along"),
    ((X, None), {"axis": 2}, ValueError, "axis is 2, input has 2 axes"),
    ((X, None), {"axis": HUGE}, ValueError, f"axis is {HUGE}, input has 2 axes"),
    ((X, None), {"axis": ()}, ValueError, "axis is empty"),
    ((X, None), {"axis": (0, -2)}, ValueError, "axis (0, -2) names an axis twice"),
    ((X, None), {"axis": 1.5}, TypeError, "axis is float, an integer is needed"),
    (
        (X.reshape(3, 2, 2), None),
        {"axis": (0, 2)},
        ValueError,
        "axis (0, 2) names axes that are not adjacent",
    ),
]
INPUTS = [
    (X.astype(int), TypeError, "input has dtype int64, not float32, float64, fl"),
    (X.astype(bool), TypeError, "input has dtype bool"),
    (X.astype(np.int16), TypeError, "input has dtype int16"),
    (X.astype(complex), TypeError, "input has dtype complex128"),
    (X.astype(object), TypeError, "input has dtype object"),
    (X.astype(np.longdouble), TypeError, "input has dtype float"),
    ([[1, 2, 3, 4]], TypeError, "input has dtype int64"),
    ("text", TypeError, "input has dtype <U4"),
    (None, TypeError, "input has dtype object"),
    ([[1.0, 2.0], [3.0]], ValueError, "input is not an array: "),
    (np.float32(3), ValueError, "input is 0-d, at least one axis is needed"),
    (np.ma.masked_array(X), TypeError, "input is a masked array, a plain array is"),
]
PARAMETERS = [
    (W.astype(np.float64), TypeError, "has dtype float64, float32 or a 16-bit"),
    (W.astype(np.int8), TypeError, "has dtype int8, float32 or a 16-bit fl"),
    (["1", "2", "3", "4"], TypeError, "has dtype <U1, real numbers are needed"),
    ([1j, 2, 3, 4], TypeError, "has dtype complex128, real numbers are needed"),
    (W[:3], ValueError, "has 3 values, {whose} needs 4"),
    ([1.0] * 5, ValueError, "has 5 values, {whose} needs 4"),
    (W.reshape(2, 2), ValueError, "has shape (2, 2), {whose} needs (4,)"),
    (np.float32(1), ValueError, "has 1 values, {whose} needs 4"),
    (np.ma.masked_array(W), TypeError, "is a masked array"),
]
OUTS = [
    ([[0.0] * 4] * 3, TypeError, "out is list, an ndarray, a buffer or a DLPack obj"),
    (X.astype(np.float64), TypeError, "out has dtype float64, input's float32"),
    (np.ma.masked_array(X.copy()), TypeError, "out is a masked array"),
    (X[:2].copy(), ValueError, "out has shape (2, 4), input's (3, 4) is needed"),
    (X.reshape(4, 3).copy(), ValueError, "out has shape (4, 3), input's (3, 4)"),
    (read_only(X), ValueError, "out is read-only"),
    (X.astype(np.dtype(np.float32).newbyteorder()), ValueError, "native byte order"),
    (unaligned(X), ValueError, "out is not aligned to its elements"),
    (overlapping(X), ValueError, "out has elements that share memory"),
]
EPS = [
    ({"eps": -1e-9}, ValueError, "eps is -1e-09, a finite number >= 0 is needed"),
    ({"eps": -1.0}, ValueError, "eps is -1.0, a finite number"),
    ({"eps": np.nan}, ValueError, "eps is nan"),
    ({"eps": np.inf}, ValueError, "eps is inf"),
    ({"eps": "1e-5"}, TypeError, "eps is str, a real number is needed"),
]
THREADS = [
    ({"num_threads": 0}, ValueError, "num_threads is 0, at least 1 is needed"),
    ({"num_threads": -2}, ValueError, "num_threads is -2, at least 1 is needed"),
    ({"num_threads": HUGE}, ValueError, f"num_threads is {HUGE}"),
    ({"num_threads": 1.0}, TypeError, "num_threads is float, an integer is needed"),
]
BATCH = [
    ({"running_mean": None}, ValueError, "must come together"),
    ({"running_var": None}, ValueError, "must come together"),
    (
        {"running_mean": None, "running_var": None},
        ValueError,
        "running_mean and running_var are None, which needs training=True",
    ),
    ({"channel_axis": 2}, ValueError, "channel_axis is 2, input has 2 axes"),
    ({"channel_axis": None}, TypeError, "channel_axis is NoneType, an integer"),
    ({"momentum": 1.5}, ValueError, "momentum is 1.5, a number from 0 to 1 or None"),
    ({"momentum": -1.0}, ValueError, "momentum is -1.0"),
    ({"momentum": np.nan}, ValueError, "momentum is nan"),
    ({"momentum": "0.1"}, TypeError, "momentum is str, a real number is needed"),
    ({"num_batches_tracked": 3}, ValueError, "is only used with momentum=None"),
    (
        {"training": True, "momentum": None},
        ValueError,
        "momentum=None needs num_batches_tracked",
    ),
    (
        {"training": True, "momentum": None, "num_batches_tracked": -1},
        ValueError,
        "num_batches_tracked is -1, at least 0 is needed",
    ),
    (
        {"momentum": None, "num_batches_tracked": 1.0},
        TypeError,
        "num_batches_tracked is float, an integer is needed",
    ),
    (
        {"training": True, "input": X[:1]},
        ValueError,
        "expected more than 1 value per channel when training, input has shape (1, 4)",
    ),
    (
        {"training": True, "running_mean": [0.0] * 4},
        TypeError,
        "running_mean is list, an ndarray, a buffer or a DLPack object is needed",
    ),
    ({"training": True, "running_var": read_only(V)}, ValueError, "var is read-only"),
    (
        {"training": True, "running_var": V.astype(float)},
        TypeError,
        "running_var has dtype float64, float32 or a 16-bit float is needed",
    ),
    (
        {"training": True, "running_mean": np.zeros(3, np.float32)},
        ValueError,
        "running_mean has 3 values, the channel axis needs 4",
    ),
    (
        {"running_var": np.zeros(5, np.float32)},
        ValueError,
        "running_var has 5 values, the channel axis needs 4",
    ),
]


def assert_refused(function, args, kwargs, error, text):
    """The error, and that every array of the call is as before."""
    arrays = [a for a in (*args, *kwargs.values()) if isinstance(a, np.ndarray)]
    before = [a.tobytes() for a in arrays]
    with pytest.raises(error, match=f"^{function}: .*{re.escape(text)}") as raised:
        getattr(fastnorm, function)(*args, **kwargs)
    assert type(raised.value) is error
    assert before == [a.tobytes() for a in arrays]


def call(function, x=X):
    """The least that the function takes besides its input."""
    return (x, M, V) if function == "batch_norm" else (x, 4)


@pytest.mark.parametrize("function", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize(("args", "kwargs", "error", "text"), SHAPES)
def test_shapes_and_axes(function, args, kwargs, error, text):
    assert_refused(function, args, kwargs, error, text)


@pytest.mark.parametrize(
    "function", ["layer_norm", "rms_norm", "batch_norm", "moments"]
)
@pytest.mark.parametrize(("value", "error", "text"), INPUTS)
def test_inputs(function, value, error, text):
    args = (value,) if function == "moments" else call(function, value)
    assert_refused(function, args, {}, error, text)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ("layer_norm", "weight"),
        ("layer_norm", "bias"),
        ("rms_norm", "weight"),
        ("batch_norm", "weight"),
        ("batch_norm", "bias"),
    ],
)
@pytest.mark.parametrize(("value", "error", "text"), PARAMETERS)
def test_parameters(function, name, value, error, text):
    whose = "the channel axis" if function == "batch_norm" else "normalized_shape"
    text = f"{name} {text.format(whose=whose)}"
    assert_refused(function, call(function), {name: value}, error, text)


@pytest.mark.parametrize("function", ["layer_norm", "rms_norm", "batch_norm"])
@pytest.mark.parametrize(("value", "error", "text"), OUTS)
def test_outs(function, value, error, text):
    assert_refused(function, call(function), {"out": value}, error, text)


@pytest.mark.parametrize("function", ["layer_norm", "rms_norm", "batch_norm"])
@pytest.mark.parametrize(("kwargs", "error", "text"), [*EPS, *THREADS])
def test_numbers(function, kwargs, error, text):
    assert_refused(function, call(function), kwargs, error, text)


@pytest.mark.parametrize(("kwargs", "error", "text"), THREADS)
def test_numbers_of_moments(kwargs, error, text):
    assert_refused("moments", (X,), kwargs, error, text)


@pytest.mark.parametrize(("kwargs", "error", "text"), BATCH)
def test_batch_norm_arguments(kwargs, error, text):
    given = {"input": X, "running_mean": M, "running_var": V, **kwargs}
    assert_refused("batch_norm", (), given, error, text)


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("function", ["layer_norm", "rms_norm", "batch_norm"])
def test_overlap_is_refused(function, copied):
    base = np.zeros(64, np.float32)
    x, out = base[:12].reshape(3, 4), base[4:16].reshape(3, 4)
    if copied:  # of a layout that the binding has to pack, so that C sees a copy
        x = base[:24].reshape(3, 8)[:, ::2]
    assert_refused(function, call(function, x), {"out": out}, ValueError, "overlap")
    x, w = np.ones((3, 4), np.float32), base[1:5]
    if copied:
        w = base[1:9:2]
    kwargs = {"weight": w, "out": out}
    assert_refused(function, call(function, x), kwargs, ValueError, "overlap")


@pytest.mark.parametrize("step", [1, 2])
def test_running_statistics_must_not_overlap(step):
    m, v = np.zeros(9, np.float32)[: 4 * step : step], V
    for kwargs in (
        {"running_mean": m, "running_var": m},
        {"running_mean": m, "running_var": v, "weight": m},
        {"running_mean": v, "running_var": m, "bias": m},
    ):
        assert_refused(
            "batch_norm", (X,), {"training": True, **kwargs}, ValueError, "overlap"
        )


def test_moments_arguments():
    refused = [
        ({"axis": 2}, ValueError, "axis is 2, input has 2 axes"),
        ({"axis": (0, 0)}, ValueError, "axis (0, 0) names an axis twice"),
        ({"axis": "0"}, TypeError, "axis is str, an integer is needed"),
        ({"ddof": -1}, ValueError, "ddof is -1, at least 0 is needed"),
        ({"ddof": 0.5}, TypeError, "ddof is float, an integer is needed"),
        ({"ddof": 1, "return_state": True}, ValueError, "ddof has no use with return_"),
    ]
    for kwargs, error, text in refused:
        assert_refused("moments", (X,), kwargs, error, text)


def test_merge_moments_arguments():
    state = fastnorm.moments(X, 0, return_state=True)
    refused = [
        ((3, state.mean, state.m2), TypeError, "b is tuple, a MomentsState is needed"),
        (state._replace(count=-1), ValueError, "b.count is -1"),
        (state._replace(count=1.0), TypeError, "b.count is float, an integer"),
        (state._replace(count=2**64 - 1), ValueError, "add up to more than 2**64-1"),
        (state._replace(mean=state.mean[:3]), ValueError, "b.mean has shape (3,), b"),
        (state._replace(m2=state.m2.astype(int)), TypeError, "b.m2 has dtype int64"),
        (
            fastnorm.moments(X, 1, return_state=True),
            ValueError,
            "a has shape (4,), b has (3,)",
        ),
    ]
    for other, error, text in refused:
        assert_refused("merge_moments", (state, other), {}, error, text)


def test_set_isa_arguments():
    before = fastnorm.isa()
    for name in ("sse9", "", "portable\0"):
        text = re.escape(f"set_isa: {name!r} is not")
        with pytest.raises(ValueError, match=f"^{text}"):
            fastnorm.set_isa(name)
    with pytest.raises(TypeError, match="^set_isa: name is int, a str is needed"):
        fastnorm.set_isa(1)
    assert fastnorm.isa() == before


def test_show_config_mode():
    with pytest.raises(ValueError, match="^show_config: mode is 'json', not"):
        fastnorm.show_config("json")


UNKNOWN_ISA = """
import numpy as np
import fastnorm
x = np.ones((2, 4))
calls = [
    fastnorm.isa,
    lambda: fastnorm.layer_norm(x, 4),
    lambda: fastnorm.rms_norm(x, 4),
    lambda: fastnorm.batch_norm(x, None, None, training=True),
    lambda: fastnorm.moments(x),
]
for call in calls:
    try:
        call()
    except RuntimeError as error:
        print(error)
assert fastnorm.show_config("dicts")["isa"] is None
fastnorm.set_isa("portable")
for call in calls:
    call()
"""


def test_an_unknown_isa_in_the_environment_is_a_sentence_not_a_fallback():
    done = subprocess.run(
        [sys.executable, "-P", "-c", UNKNOWN_ISA],
        env={**os.environ, "FASTNORM_ISA": "mmx"},
        capture_output=True,
        text=True,
        check=True,
    )
    sentence = (
        "the environment variable FASTNORM_ISA is 'mmx', which is not an instruction "
        f"set that this machine can use ({', '.join(fastnorm.isas())})"
    )
    names = ("isa", "layer_norm", "rms_norm", "batch_norm", "moments")
    assert done.stdout.splitlines() == [f"{name}: {sentence}" for name in names]
