# SPDX-License-Identifier: MIT
"""test_channel_fusions.py - what batch, group and instance norm do in the same pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channel_cases import FLOAT32, SHORT, case, every_axis, images, norms, plain_size
from numpy.typing import NDArray
from oracle import BOUND, error, random, same_bits

import fastnorm
from fastnorm import reference

ACTIVATIONS: list[Any] = [
    "relu", "leaky_relu", ("leaky_relu", 0.3), "relu6", ("clamp", -0.5, 0.75), "gelu",
    "gelu_tanh", "silu", "sigmoid", "tanh", "hardswish",
]  # fmt: skip

# ---- Fused ----------------------------------------------------------------------


@norms
@every_axis
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.usefixtures("isa")
def test_activations(norm: str, axis: int, activation: Any, dtype: str) -> None:
    call = case(norm, axis=axis)
    x = images(axis).astype(dtype)
    parameters = {"weight": 3 * random(12, dtype), "bias": random(12, dtype, 1)}
    if norm == "batch inference":
        parameters |= {
            "running_mean": random(12, dtype, 2), "running_var": np.ones(12, dtype),
        }  # fmt: skip
    y = call(fastnorm, x, activation=activation, **parameters)
    exact = call(reference, x, activation=activation, **parameters)
    before = call(reference, x, **parameters)
    terms = np.abs(call(reference, x, **(parameters | {"bias": None}))) + 4
    # No slope exceeds 1.5; a few units in the last place are the function's own.
    allowed = 1.5 * BOUND[x.dtype] * np.maximum(terms, np.abs(before))
    allowed += 4 * np.finfo(dtype).eps * np.maximum(1, np.abs(exact))
    assert np.all(np.abs(y - exact) <= allowed)


@norms
@every_axis
@pytest.mark.parametrize("added", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("given", ["float32", "bfloat16", "int8"])
@pytest.mark.usefixtures("isa")
def test_post_add_and_relu(norm: str, axis: int, added: str, given: str) -> None:
    call = case(norm, axis=axis)
    x = images(axis).astype(SHORT.get(given, given))
    post = images(axis, seed=9).astype(SHORT.get(added, added)) - 3
    kept = post.copy()
    options = {"post_add": post, "activation": "relu", "out_dtype": "float32"}
    y = call(fastnorm, x, **options)
    exact = call(reference, x, post_add=post, activation="relu")
    size = plain_size(call, x) + np.abs(post.astype("f4"))
    assert error(y, exact, size) <= FLOAT32
    assert same_bits(post, kept)
    assert np.any(y == 0) and np.any(y > 0)


def after(y: NDArray[Any], post: NDArray[Any] | None, relu: bool) -> NDArray[Any]:
    with np.errstate(invalid="ignore"):
        y = y if post is None else y + post
    return np.where(y < 0, y.dtype.type(0), y) if relu else y


SPANS = [(2, 5, n) for n in (1, 7, 15, 16, 31, 32, 33, 49, 64, 100, 129, 196, 1000)]
TABLES = [
    (rows, n) for rows in (1, 3, 4, 9) for n in (1, 3, 16, 17, 32, 64, 100, 144, 600)
] + [(1500, 3), (1029, 8), (1024, 64)]


@pytest.mark.parametrize("shape", SPANS + TABLES, ids=str)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.usefixtures("isa")
def test_post_add_and_relu_have_the_bits_of_steps(
    shape: tuple[int, ...], dtype: str, relu: bool
) -> None:
    channels = shape[1]
    x, post = random(shape, dtype, 1), random(shape, dtype, 2)
    x.flat[0], post.flat[-1] = np.nan, -np.inf
    x.flat[-2:] = np.inf
    spread = np.zeros((*shape[:-1], 2 * shape[-1]), dtype)
    spread[..., ::2] = post
    wide = np.zeros((*shape[:-1], shape[-1] + 3), dtype)
    parameters = (random(channels, dtype, 3), np.full(channels, 2, dtype))
    plain = fastnorm.batch_norm(x, *parameters)
    options: dict[str, Any] = {"activation": "relu"} if relu else {}
    for added in (None, post, spread[..., ::2]):
        inside = x.copy()
        for given, out in ((x, None), (x, wide[..., : shape[-1]]), (inside, inside)):
            y = fastnorm.batch_norm(
                given, *parameters, post_add=added, out=out, **options
            )
            assert same_bits(y, after(plain, added, relu))


@norms
def test_post_add_in_other_layouts(norm: str) -> None:
    call, x = case(norm), images(1)
    post = images(1, seed=9)
    wanted = call(fastnorm, x, post_add=post)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(post, 1, -1)), -1, 1)
    for other in (
        last, np.asfortranarray(post), post.astype(post.dtype.newbyteorder()),
        np.repeat(post, 2, axis=1)[:, ::2], post.tolist(),
    ):  # fmt: skip
        assert same_bits(call(fastnorm, x, post_add=other), wanted)
    inside = x.copy()
    assert same_bits(call(fastnorm, inside, post_add=last, out=inside), wanted)


@pytest.mark.parametrize("training", [False, True])
def test_post_add_in_tables(training: bool) -> None:
    x, post = random((33, 7), seed=1), random((33, 7), seed=2)
    mean, var = random(7, seed=3), np.ones(7, np.float32)
    wanted = reference.batch_norm(x, mean, var, training=training, post_add=post)
    mean = random(7, seed=3)
    for a in (x, np.asfortranarray(x)):
        for b in (post, np.asfortranarray(post), np.repeat(post, 2, axis=1)[:, ::2]):
            for out in (np.empty_like(x), np.asfortranarray(x)):
                var[:] = 1
                y = fastnorm.batch_norm(
                    a, mean.copy(), var, training=training, post_add=b, out=out
                )
                assert error(y, wanted, 6) <= FLOAT32


@norms
def test_a_post_add_that_is_the_output_is_refused(norm: str) -> None:
    call, x, post = case(norm), images(1), images(1, seed=9)
    kept = post.copy()
    with pytest.raises(ValueError, match="norm: out overlaps post_add$"):
        call(fastnorm, x, post_add=post, out=post)
    assert same_bits(post, kept)


# ---- Same bits ------------------------------------------------------------------


@norms
@every_axis
@pytest.mark.parametrize("given", ["float32", "float16", "bfloat16", "int8", "uint8"])
@pytest.mark.parametrize("out", [None, "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("activation", [None, "gelu", "silu"])
def test_same_bits_on_every_isa_and_thread(
    norm: str, axis: int, given: str, out: str | None, activation: str | None
) -> None:
    shape = (3, 12, 40, 41)
    call = case(norm, shape, axis)
    x = images(axis, shape=shape).astype(SHORT.get(given, given))
    post = images(axis, seed=9, shape=shape).astype(SHORT["bfloat16"])
    options = {"post_add": post, "activation": activation, "out_dtype": out}
    if out == "int8":
        options["out_scale"] = 0.03
    fastnorm.set_isa("portable")
    wanted = call(fastnorm, x, num_threads=1, **options)
    for isa in fastnorm.isas():
        fastnorm.set_isa(isa)
        for threads in (1, 2, 5):
            assert same_bits(call(fastnorm, x, num_threads=threads, **options), wanted)


# ---- Denormals ------------------------------------------------------------------


@norms
@pytest.mark.usefixtures("isa")
def test_flush_denormals_and_back(norm: str) -> None:
    call, x = case(norm), images(1)
    tiny = np.float32(1e-40)
    post = np.full_like(x, tiny)
    bare = {"weight": np.zeros(12, np.float32), "bias": None, "post_add": post}
    for threads in (1, 3):
        options = bare | {"num_threads": threads}
        assert np.all(call(fastnorm, x, **options) == tiny)
        assert np.all(call(fastnorm, x, flush_denormals=True, **options) == 0)
        # The control register is as before, here and in the workers.
        assert tiny * np.float32(0.5) != 0
        assert np.all(call(fastnorm, x, **options) == tiny)
    normal = call(fastnorm, x)
    assert same_bits(call(fastnorm, x, flush_denormals=True), normal)


# ---- What is refused ------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {"post_add": np.zeros((2, 3), "f4")},
        ValueError,
        "post_add has shape (2, 3), input's",
    ),
    ({"post_add": np.zeros((2, 12, 5, 7), int)}, TypeError, "post_add has dtype int64"),
    ({"post_add": np.zeros((2, 12, 5, 7))}, TypeError, "post_add has dtype float64"),
    ({"activation": "swish"}, ValueError, "activation is 'swish', not one of relu"),
    ({"activation": 3}, TypeError, "activation is int"),
    ({"activation": "clamp"}, ValueError, "'clamp' takes two numbers"),
    ({"activation": ("relu", 1)}, ValueError, "'relu' takes no numbers"),
    ({"activation": ("clamp", 1, 0)}, ValueError, "low <= high"),
    ({"activation": ("leaky_relu", np.nan)}, ValueError, "slope is nan"),
    ({"out_dtype": "float64"}, TypeError, "out_dtype is float64, which float32 input"),
    ({"out_dtype": int}, TypeError, "out_dtype is int64, not one of"),
    ({"out_dtype": "int8"}, ValueError, "out_dtype int8 needs out_scale"),
    (
        {"out_dtype": "int8", "out_scale": 0.0},
        ValueError,
        "out_scale is 0.0, a pos",
    ),
    ({"out_dtype": "int8", "out_scale": np.inf}, ValueError, "out_scale is inf"),
    (
        {"out_dtype": "int8", "out_scale": 1.0, "out_zero_point": 128},
        ValueError,
        "out_zero_point is 128, int8 needs -128 to 127",
    ),
    (
        {"out_dtype": "uint8", "out_scale": 1.0, "out_zero_point": -1},
        ValueError,
        "out_zero_point is -1, uint8 needs 0 to 255",
    ),
    ({"out_scale": 1.0}, ValueError, "out_scale and out_zero_point are for int8"),
    ({"in_zero_point": 1}, ValueError, "in_scale and in_zero_point are for int8"),
    ({"weight": np.ones(12)}, TypeError, "weight has dtype float64, float32 or a 16"),
    ({"bias": np.ones(12, np.int8)}, TypeError, "bias has dtype int8"),
]


@norms
@pytest.mark.parametrize(("options", "kind", "text"), REFUSED)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    norm: str, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    call, x = case(norm), images(1)
    out = np.full(x.shape, 9, np.float32)
    if "out_dtype" not in options:
        options = options | {"out": out}
    with pytest.raises(kind) as raised:
        call(fastnorm, x, **options)
    assert str(raised.value).startswith(f"{norm.split()[0]}_norm: ")
    assert text in str(raised.value)
    assert np.all(out == 9)


@norms
def test_an_output_of_the_wrong_dtype_is_refused(norm: str) -> None:
    call, x = case(norm), images(1)
    with pytest.raises(TypeError, match="norm: out has dtype float32, the result's fl"):
        call(fastnorm, x, out_dtype="float16", out=np.empty_like(x))
    with pytest.raises(TypeError, match="norm: out has dtype float16, input's float32"):
        call(fastnorm, x, out=x.astype("f2"))


@norms
def test_float64_does_not_mix(norm: str) -> None:
    call, x = case(norm), images(1).astype("f8")
    with pytest.raises(TypeError, match="weight has dtype float32, input's float64"):
        call(fastnorm, x)


@norms
@pytest.mark.parametrize("shape", [(0, 12, 4), (2, 12, 0)], ids=str)
@pytest.mark.parametrize("given", ["float16", "bfloat16", "uint8"])
def test_empty_input(norm: str, shape: tuple[int, ...], given: str) -> None:
    x = np.empty(shape, SHORT.get(given, given))
    y = case(norm, shape)(
        fastnorm, x, post_add=np.empty(shape, np.float32), activation="gelu"
    )
    assert y.shape == shape
    assert y.dtype == (np.float32 if given == "uint8" else x.dtype)


def overlapping(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A writable array whose elements share one memory, in part."""
    room = np.full(int(np.prod(shape)) + 1, 9, np.float32)
    strides = (4,) * len(shape)
    return np.lib.stride_tricks.as_strided(room, shape, strides, writeable=True)


@norms
def test_elements_that_share_memory_are_refused(norm: str) -> None:
    call, x, out = case(norm), images(1), overlapping((2, 12, 5, 7))
    with pytest.raises(ValueError, match="norm: out has elements that share memory$"):
        call(fastnorm, x, out=out)
    assert np.all(out == 9)
    if norm in ("batch training", "instance"):
        one = np.full(1, 9, np.float32)
        running = np.lib.stride_tricks.as_strided(one, (12,), (0,), writeable=True)
        for name, other in (
            ("running_mean", "running_var"), ("running_var", "running_mean"),
        ):  # fmt: skip
            with pytest.raises(ValueError, match=f"norm: {name} has elements that"):
                call(fastnorm, x, **{name: running, other: np.ones(12, np.float32)})
            assert np.all(running == 9)


@norms
def test_what_is_copied_is_still_seen_to_overlap(norm: str) -> None:
    call, x, out = case(norm), images(1), images(1, seed=9)
    kept = out.copy()
    swapped = out.view(out.dtype.newbyteorder())
    with pytest.raises(ValueError, match="norm: out overlaps post_add$"):
        call(fastnorm, x, post_add=swapped, out=out)
    with pytest.raises(ValueError, match="norm: out overlaps weight$"):
        call(fastnorm, x, weight=swapped[0, 0].reshape(-1)[:12], out=out)
    with pytest.raises(ValueError, match="norm: out overlaps input$"):
        call(fastnorm, swapped, out=out)
    assert same_bits(out, kept)
