# SPDX-License-Identifier: MIT
"""test_masks_errors.py - masks and lengths that are refused, or odd and are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from oracle import random, same_bits

import fastnorm

axes = pytest.mark.parametrize("axis", [1, 2])


@pytest.mark.parametrize(
    ("options", "error_type", "match"),
    [
        ({"mask": np.ones(7, bool)}, ValueError, r"mask has shape \(7,\)"),
        ({"mask": np.ones((2, 3, 4, 1), bool)}, ValueError, "does not broadcast"),
        ({"mask": np.ones((2, 3, 4), np.float16)}, TypeError, "mask has dtype float16"),
        ({"mask": np.ones((2, 3, 4), np.uint8)}, TypeError, "bool is needed"),
        (
            {"mask": [[[0.5, 1, -1e-30, 2]]]},
            ValueError,
            "mask holds a weight that is n",
        ),
        (
            {"mask": np.array([1, 0, 1, np.inf], "f4")},
            ValueError,
            "mask holds a weight",
        ),
        ({"mask": [[[1.0], [1.0], [np.nan]]]}, ValueError, "mask holds a weight that"),
        ({"mask": np.ones(3), "lengths": [1, 2]}, ValueError, "cannot be given toget"),
        ({"lengths": [1, 2, 3]}, ValueError, r"lengths has shape \(3,\), \(2,\) is"),
        ({"lengths": [1, 5]}, ValueError, "lengths has 5, a number from 0 to 4"),
        ({"lengths": [-1, 2]}, ValueError, "lengths has -1, a number from 0 to 4"),
        ({"lengths": [1.0, 2.0]}, TypeError, "lengths has dtype float64"),
        ({"lengths": [True, False]}, TypeError, "lengths has dtype bool"),
        ({"lengths": 3}, ValueError, r"lengths has shape \(\)"),
        ({"lengths": [1, 2], "mask": True}, ValueError, "cannot be given together"),
        ({"masked": "keep"}, ValueError, "needs mask or lengths"),
        ({"mask": True, "masked": "drop"}, ValueError, "not one of zero, keep"),
        ({"mask": True, "masked": 0}, TypeError, "masked is int"),
    ],
)
@pytest.mark.parametrize("norm", ["batch_norm", "group_norm", "instance_norm"])
def test_mistakes_name_function_and_argument(
    norm: str, options: dict[str, Any], error_type: type[Exception], match: str
) -> None:
    x, out = random((2, 3, 4)), np.full((2, 3, 4), 7, np.float32)
    args: tuple[Any, ...] = (3,) if norm == "group_norm" else (None, None)
    more = {"training": True} if norm == "batch_norm" else {}
    with pytest.raises(error_type, match=f"{norm}: .*{match}"):
        getattr(fastnorm, norm)(x, *args, out=out, **more, **options)
    assert np.all(out == 7)


@axes
@pytest.mark.parametrize("elements", [False, True])
@pytest.mark.parametrize("norm", ["batch_norm", "instance_norm"])
def test_exactly_one_value_is_refused_and_changes_nothing(
    norm: str, axis: int, elements: bool
) -> None:
    x, out = random((2, 3, 3)), np.full((2, 3, 3), 7, np.float32)
    mean, var = np.zeros(3), np.ones(3)
    mask = np.zeros((2, 3, 3) if elements else (2, 1, 1), bool)
    mask[0] = True
    mask = np.broadcast_to(mask, (2, 3, 3)).copy()
    mask[0, :, 1:] = False  # of each channel of [N, C, T]
    if elements:
        mask[0, 1:] = True
    if axis == 2:
        x, mask = np.ascontiguousarray(x.transpose(0, 2, 1)), mask.transpose(0, 2, 1)
    if not elements:
        mask = mask[:, :1] if axis == 1 else mask[:, :, :1]
    more = {"training": True} if norm == "batch_norm" else {}
    mean, var = mean.astype("f4"), var.astype("f4")
    with pytest.raises(ValueError, match=f"{norm}: .*more than one value"):
        getattr(fastnorm, norm)(
            x, mean, var, mask=mask, channel_axis=axis, out=out, **more
        )
    assert np.all(out == 7) and not np.any(mean) and np.all(var == 1)


def test_tables_have_no_positions_for_lengths() -> None:
    with pytest.raises(ValueError, match="lengths needs an axis of positions"):
        fastnorm.batch_norm(random((4, 3)), None, None, training=True, lengths=[1] * 4)
    with pytest.raises(ValueError, match="lengths needs a reduced axis"):
        fastnorm.moments(random((4, 3)), 0, lengths=[1] * 4)
    with pytest.raises(ValueError, match="moments: mask and lengths"):
        fastnorm.moments(random((4, 3)), lengths=[1] * 4, mask=True)


def test_out_may_not_be_the_memory_of_the_mask() -> None:
    room = np.zeros(2 * 3 * 8 * 4, np.uint8)
    out = room.view(np.float32).reshape(2, 3, 8)
    mask = room.view(np.bool_)[: 2 * 8].reshape(2, 1, 8)
    with pytest.raises(ValueError, match="out overlaps mask"):
        fastnorm.group_norm(random((2, 3, 8)), 3, mask=mask, out=out)
    assert not np.any(room)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 3, 0), (2, 0, 4)], ids=str)
def test_empty_input_is_an_empty_result(shape: tuple[int, ...]) -> None:
    x = np.empty(shape, np.float32)
    n, c, t = shape
    mean, var = np.full(c, 2.0, np.float32), np.full(c, 3.0, np.float32)
    lengths = [0] * n
    y = fastnorm.batch_norm(x, mean, var, training=True, lengths=lengths)
    assert y.shape == shape and np.all(mean == 2) and np.all(var == 3)
    assert fastnorm.instance_norm(x, mask=np.ones(t, bool)).shape == shape
    if c:
        assert fastnorm.group_norm(x, 1, lengths=lengths).shape == shape
    found = fastnorm.moments(x, (0, 2), mask=np.ones(shape, bool))
    assert found.mean.shape == (c,) and np.all(np.isnan(found.mean))


def test_lists_and_arrays_of_any_integer(dtype: str) -> None:
    x = random((3, 2, 6), dtype)
    wanted = fastnorm.group_norm(x, 1, lengths=np.array([6, 0, 2]))
    for lengths in ([6, 0, 2], (6, 0, 2), np.array([6, 0, 2], np.uint8),
                    np.array([6, 9, 0, 9, 2, 9], ">i4")[::2]):  # fmt: skip
        assert same_bits(fastnorm.group_norm(x, 1, lengths=lengths), wanted)
    mask = [[[True] * 6], [[False] * 6], [[True] * 2 + [False] * 4]]
    assert same_bits(fastnorm.group_norm(x, 1, mask=mask), wanted)
