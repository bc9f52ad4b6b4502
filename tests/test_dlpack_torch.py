# SPDX-License-Identifier: MIT
"""test_dlpack_torch.py - tensors of torch, read and written where they are."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from oracle import random, same_bits

import fastnorm

torch = pytest.importorskip("torch")

X = random((6, 40))
WANTED = fastnorm.layer_norm(X, 40)


@pytest.mark.parametrize("name", ["float32", "float64", "float16", "bfloat16"])
def test_in_and_out(name: str) -> None:
    dtype = getattr(torch, name)
    x, weight = torch.from_numpy(X.copy()).to(dtype), torch.rand(40).to(dtype)
    out = torch.empty_like(x)
    assert fastnorm.rms_norm(x, 40, weight, 1e-6, out=out) is out
    right = torch.nn.functional.rms_norm(x.double(), (40,), weight.double(), 1e-6)
    assert torch.allclose(out.double(), right, 2.0**-8, 1e-6)
    assert fastnorm.rms_norm(x, 40, weight, 1e-6, out=x) is x
    assert torch.equal(x, out)


def test_a_tensor_in_gives_an_ndarray() -> None:
    y = fastnorm.layer_norm(torch.from_numpy(X), 40)
    assert type(y) is np.ndarray and same_bits(y, WANTED)


def test_views() -> None:
    x = torch.from_numpy(X)
    right = fastnorm.layer_norm(np.ascontiguousarray(X.T), 6)
    assert same_bits(fastnorm.layer_norm(x.T, 6), right)
    out = torch.zeros(12, 40)
    fastnorm.layer_norm(x, 40, out=out[::2])
    assert same_bits(out[::2].numpy().copy(), WANTED) and not out[1::2].any()


def test_what_records_gradients_is_refused() -> None:
    x = torch.from_numpy(X.copy()).requires_grad_()
    text = "^layer_norm: input is not an array: .*require gradient"
    with pytest.raises(TypeError, match=text):
        fastnorm.layer_norm(x, 40)
    out = torch.zeros(6, 40, requires_grad=True)
    with pytest.raises(TypeError, match="^layer_norm: out is not an array: .*grad"):
        fastnorm.layer_norm(X, 40, out=out)
    assert same_bits(fastnorm.layer_norm(x.detach(), 40), WANTED)


def test_what_has_no_memory_is_refused() -> None:
    for bad in (torch.zeros(6, 40, device="meta"), torch.zeros(6, 40).to_sparse()):
        with pytest.raises(TypeError, match="^layer_norm: input is not an array: "):
            fastnorm.layer_norm(bad, 40)


def test_channels_too() -> None:
    x = torch.randn(2, 3, 4, 5)
    mean, var = torch.randn(3), torch.rand(3)
    out = torch.empty_like(x)
    assert fastnorm.batch_norm(x, mean, var, out=out) is out
    right = torch.nn.functional.batch_norm(x, mean, var)
    assert torch.allclose(out, right, 1e-5, 1e-6)


WITHOUT_ML_DTYPES = """
import sys
sys.modules["ml_dtypes"] = None
import torch
import fastnorm
torch.manual_seed(1)
x = torch.randn(5, 64).bfloat16()
w = torch.randn(64).bfloat16()
r = torch.randn(5, 64).bfloat16()
out, total = torch.zeros_like(x), torch.zeros_like(x)
assert fastnorm.layer_norm(x, 64, w, out=out) is out
right = torch.nn.functional.layer_norm(x.float(), (64,), w.float())
assert (out.float() - right).abs().max() <= 2**-8 * right.abs().max()
fastnorm.rms_norm(x, 64, w, out=out, residual=r, residual_out=total)
assert torch.equal(total, (x.float() + r.float()).bfloat16())
strided = torch.zeros(5, 128, dtype=torch.bfloat16)[:, ::2]
fastnorm.rms_norm(x[:, ::2].T.contiguous().T, 32, w[::2], out=strided[:, :32])
assert strided[:, :32].any() and not strided[:, 32:].any()
mixed = fastnorm.layer_norm(x, 64, w, bias=w.float(), out_dtype="float32")
right = torch.nn.functional.layer_norm(x.float(), (64,), w.float(), w.float())
assert abs(mixed - right.numpy()).max() <= 1e-5
try:
    fastnorm.layer_norm(x, 64)
except ImportError as error:
    print(error)
"""


def test_bfloat16_tensors_without_ml_dtypes() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_ML_DTYPES],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "layer_norm: a bfloat16 array needs the package ml_dtypes, or give out\n"
    )
