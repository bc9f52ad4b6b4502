# test_backward_refused.py - what the gradients refuse, and that nothing has happened.
# SPDX-License-Identifier: MIT
"""Errors name function, argument, what was given and what is wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backward_cases import CASES, every_case
from oracle import random, same_bits

import fastnorm

X = random((4, 6), "f4")
W = np.ones(6, "f4")
T = np.ones((4, 1), "f4")
I = random((2, 6, 3), "f4")  # noqa: E741
# Called with arguments whose types are wrong.
norms: Any = fastnorm
ln, bn = norms.layer_norm_backward, norms.batch_norm_backward
gn, inorm = norms.group_norm_backward, norms.instance_norm_backward
rms, l2 = norms.rms_norm_backward, norms.l2_norm_backward
wn, rn = norms.weight_norm_backward, norms.batch_renorm_backward
read_only = np.zeros((4, 6), "f4")
read_only.flags.writeable = False

REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "shape of grad": (
        lambda: ln(X[0], X, 6), ValueError,
        r"layer_norm_backward: grad_output has shape \(6,\), input's \(4, 6\) is",
    ),
    "type of grad": (
        lambda: ln(X.astype("f8"), X, 6), TypeError,
        "layer_norm_backward: grad_output has dtype float64, float32 or a 16-bit",
    ),
    "8-bit grad": (
        lambda: bn(X.astype("i1"), X), TypeError,
        "batch_norm_backward: grad_output has dtype int8, float32 or a 16-bit float",
    ),
    "8-bit input": (
        lambda: bn(X, X.astype("u1")), TypeError,
        "batch_norm_backward: input has dtype uint8, not float32, float64, float16 or",
    ),
    "8-bit v": (
        lambda: wn(X, X.astype("i1"), T), TypeError,
        "weight_norm_backward: v has dtype int8, not float32",
    ),
    "complex input": (
        lambda: ln(X, X.astype("c8"), 6), TypeError,
        "layer_norm_backward: input has dtype complex64",
    ),
    "masked": (
        lambda: ln(np.ma.ones((4, 6), "f4"), X, 6), TypeError,
        "layer_norm_backward: grad_output is a masked array",
    ),
    "normalized_shape": (
        lambda: ln(X, X, 5), ValueError,
        r"layer_norm_backward: normalized_shape is \(5,\), input has shape \(4, 6\)",
    ),
    "weight": (
        lambda: ln(X, X, 6, W[:4]), ValueError,
        "layer_norm_backward: weight has 4 values, normalized_shape needs 6",
    ),
    "type of weight": (
        lambda: ln(X, X, 6, W.astype("f8")), TypeError,
        "layer_norm_backward: weight has dtype float64",
    ),
    "shape of mean": (
        lambda: ln(X, X, 6, W, T[:, 0], T), ValueError,
        (
            r"layer_norm_backward: mean has shape \(4,\), input with 1 for each "
            r"normalised axis needs \(4, 1\)"
        ),
    ),
    "mean alone": (
        lambda: ln(X, X, 6, W, T), ValueError,
        "layer_norm_backward: mean and rstd must come together",
    ),
    "rstd alone": (
        lambda: bn(X, X, W, None, W), ValueError,
        "batch_norm_backward: mean and rstd must come together",
    ),
    "rstd of rms": (
        lambda: rms(X, X, 6, W, T[:3]), ValueError,
        (
            "rms_norm_backward: rstd has 3 values, input with 1 for each normalised "
            "axis needs 4"
        ),
    ),
    "eps": (
        lambda: ln(X, X, 6, eps=-1.0), ValueError,
        "layer_norm_backward: eps is -1.0, a finite number >= 0 is needed",
    ),
    "kind of eps": (
        lambda: l2(X, X, eps="1"), TypeError, "l2_norm_backward: eps is str, a real",
    ),
    "axis": (
        lambda: l2(X, X, 2), ValueError,
        "l2_norm_backward: axis is 2, input has 2 axes",
    ),
    "no axis": (
        lambda: l2(X, X, None), ValueError,
        "l2_norm_backward: axis is None, an axis is needed",
    ),
    "mode": (
        lambda: rms(X, X, 6, mode="gemma"), ValueError,
        "rms_norm_backward: mode is 'gemma', not one of plain",
    ),
    "needs": (
        lambda: ln(X, X, 6, needs=("input", "wait")), ValueError,
        "layer_norm_backward: needs names 'wait', which is not one of input, weight, b",
    ),
    "bias of rms": (
        lambda: rms(X, X, 6, needs=("bias",)), ValueError,
        "rms_norm_backward: needs names 'bias', which is not one of input, weight",
    ),
    "kind of needs": (
        lambda: ln(X, X, 6, needs="input"), TypeError,
        "layer_norm_backward: needs is a str, a tuple of names is needed",
    ),
    "needs a number": (
        lambda: ln(X, X, 6, needs=3), TypeError,
        "layer_norm_backward: needs is int, a tuple of names is needed",
    ),
    "out not needed": (
        lambda: ln(X, X, 6, out=X.copy(), needs=("weight",)), ValueError,
        "layer_norm_backward: out is given and needs does not name 'input'",
    ),
    "shape of out": (
        lambda: ln(X, X, 6, out=np.empty((4, 5), "f4")), ValueError,
        r"layer_norm_backward: out has shape \(4, 5\), input's \(4, 6\) is needed",
    ),
    "type of out": (
        lambda: ln(X, X, 6, out=np.empty((4, 6), "f2")), TypeError,
        "layer_norm_backward: out has dtype float16, input's float32 is needed",
    ),
    "read-only out": (
        lambda: ln(X, X, 6, out=read_only), ValueError,
        "layer_norm_backward: out is read-only",
    ),
    "list as out": (
        lambda: ln(X, X, 6, out=[[0.0] * 6] * 4), TypeError,
        "layer_norm_backward: out is list",
    ),
    "threads": (
        lambda: ln(X, X, 6, num_threads=0), ValueError,
        "layer_norm_backward: num_threads is 0, at least 1 is needed",
    ),
    "channel axis": (
        lambda: bn(X, X, channel_axis=2), ValueError,
        "batch_norm_backward: channel_axis is 2, input has 2 axes",
    ),
    "one value": (
        lambda: bn(X[:1], X[:1]), ValueError,
        (
            "batch_norm_backward: expected more than 1 value per channel when "
            r"training, input has shape \(1, 6\)"
        ),
    ),
    "inference": (
        lambda: bn(X, X, training=False), ValueError,
        "batch_norm_backward: mean and rstd are None, which needs training=True",
    ),
    "no r": (
        lambda: rn(X, X), ValueError,
        "batch_renorm_backward: r and d are None, which needs training=False",
    ),
    "r alone": (
        lambda: rn(X, X, r=W), ValueError,
        "batch_renorm_backward: r and d must come together",
    ),
    "shape of d": (
        lambda: rn(X, X, r=W, d=W[:2]), ValueError,
        "batch_renorm_backward: d has 2 values, the channel axis needs 6",
    ),
    "groups": (
        lambda: gn(I, I, 4), ValueError,
        "group_norm_backward: num_groups is 4, which does not divide 6 channels",
    ),
    "statistics of groups": (
        lambda: gn(I, I, 2, None, W, W), ValueError,
        "group_norm_backward: mean has 6 values, num_groups needs 4",
    ),
    "axes of groups": (
        lambda: gn(W, W, 2), ValueError,
        r"group_norm_backward: input has shape \(6,\), at least 2 axes are needed",
    ),
    "one position": (
        lambda: inorm(I[..., :1], I[..., :1]), ValueError,
        (
            "instance_norm_backward: expected more than 1 value per channel when "
            "use_input_stats=True"
        ),
    ),
    "stored": (
        lambda: inorm(I, I, use_input_stats=False), ValueError,
        "instance_norm_backward: mean and rstd are None, which needs use_input_stats",
    ),
    "shape of g": (
        lambda: wn(X, X, np.ones((6, 1), "f4")), ValueError,
        r"weight_norm_backward: g has shape \(6, 1\), \(4, 1\)",
    ),
    "needs of v": (
        lambda: wn(X, X, T, needs=("input",)), ValueError,
        "weight_norm_backward: needs names 'input', which is not one of v, g",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_errors_say_what_is_wrong(name: str) -> None:
    call, kind, message = REFUSED[name]
    with pytest.raises(kind, match="^" + message):
        call()


def test_overlaps_are_refused_and_nothing_is_written() -> None:
    room = np.abs(random(200, "f4"))
    x, w, grad = room[:24].reshape(4, 6), room[30:36], random((4, 6), seed=3)
    mean, rstd = room[60:64].reshape(4, 1), room[90:94].reshape(4, 1)
    kept = room.copy()
    for name, start in (("input", 1), ("weight", 35), ("mean", 63), ("rstd", 93)):
        out = room[start : start + 24].reshape(4, 6)
        with pytest.raises(ValueError, match=f"^layer_norm_.*: out overlaps {name}"):
            ln(grad, x, 6, w, mean, rstd, out=out)
        assert same_bits(room, kept)
    with pytest.raises(ValueError, match="out overlaps grad_output"):
        ln(x, grad, 6, out=room[3:27].reshape(4, 6))
    with pytest.raises(ValueError, match="batch_norm_backward: out overlaps weight"):
        bn(X, X, w, out=room[27:51].reshape(4, 6))
    with pytest.raises(ValueError, match="weight_norm_backward: out overlaps g"):
        wn(X, X, room[100:104], out=room[90:114].reshape(4, 6))
    with pytest.raises(ValueError, match="elements of an output overlap"):
        ln(X, X, 6, out=np.lib.stride_tricks.as_strided(room, (4, 6), (4, 4)))
    assert same_bits(room, kept)


@every_case
def test_a_failed_call_has_written_nothing(name: str) -> None:
    case = CASES[name]
    grad, values = case.grad("f4"), case.values("f4")
    out = np.full(case.shape, 7, np.float32)
    wrong: list[dict[str, Any]] = [{"num_threads": -1}]
    if case.op not in ("l2_norm", "weight_norm"):
        wrong += [{"eps": np.nan}]
    if case.op != "l2_norm":
        wrong += [{"needs": ("input", "v", 5)}]
    for more in wrong:
        with pytest.raises((ValueError, TypeError)):
            case.backward(fastnorm, grad, values, out=out, **more)
        assert np.all(out == 7)
    with pytest.raises((ValueError, TypeError)):
        case.backward(fastnorm, grad[:-1], values, out=out)
    assert np.all(out == 7)
