# test_layers_state.py - parameters of layers: torch's names, one moment, no sharing.
# SPDX-License-Identifier: MIT
"""state_dict and load_state_dict, copies, many threads."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
from layer_cases import (
    LAYERS,
    MODULES,
    SHAPE,
    C,
    build,
    call,
    every_layer,
    new,
    values,
    variances,
)
from numpy.typing import NDArray
from oracle import random, same_bits

import fastnorm
from fastnorm import BatchNorm, LayerNorm, RMSNorm
from fastnorm.layers import IncompatibleKeys

# ---- Immutable in use -------------------------------------------------------------


def test_nothing_is_shared_with_the_caller() -> None:
    mean, var = random(C, seed=1), variances(C)
    weight, bias = random(C, seed=3), random(C, seed=4)
    arrays = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": var}
    layer = new(BatchNorm, C, **arrays)
    other = BatchNorm(C)
    other.load_state_dict({**arrays, "num_batches_tracked": np.array(3)})
    x = random(SHAPE)
    before = layer(x)
    for array in arrays.values():
        array[:] = 99
    for array in layer.state_dict().values():
        array[...] = 98
    assert same_bits(layer(x), before)
    assert same_bits(other(x), before)


def test_nothing_can_be_set() -> None:
    layer = BatchNorm(C)
    for name in ("weight", "eps", "channel_axis", "running_mean", "other"):
        with pytest.raises(AttributeError, match=f"BatchNorm: {name} cannot be set"):
            setattr(layer, name, 1)
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del layer.eps
    for array in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 2


@pytest.mark.parametrize("name", ["batch", "layer of two axes", "rms"])
def test_threads_see_the_old_parameters_or_the_new_ones(name: str) -> None:
    layer = build(name)
    states = [values(layer, seed) for seed in (10, 20)]
    x = random(SHAPE)
    expected = []
    for state in states:
        layer.load_state_dict(state)
        expected.append(layer(x).tobytes())
    assert expected[0] != expected[1]
    faults: list[object] = []
    seen: set[bytes] = set()
    done = threading.Event()

    def serve() -> None:
        out = np.empty_like(x)
        while not done.is_set():
            found = layer(x, out).tobytes()
            seen.add(found)
            taken = layer.state_dict()
            if found not in expected:
                faults.append("a mixture was applied")
            if not any(
                all(np.array_equal(taken[k], state[k]) for k in taken)
                for state in states
            ):
                faults.append("a mixture was handed out")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=serve) for _ in range(3)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 60
        loads = 0
        while loads < 1500 or (len(seen) < 2 and time.monotonic() < end):
            layer.load_state_dict(states[loads % 2])
            loads += 1
        done.set()
        for thread in threads:
            thread.join()
    finally:
        done.set()
        sys.setswitchinterval(interval)
    assert not faults
    assert len(seen) == 2


# ---- State ------------------------------------------------------------------------


@every_layer
def test_the_state_of_a_torch_module_loads_and_goes_back(name: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    kind, arguments, options = LAYERS[name]
    module = getattr(torch.nn, MODULES[kind.__name__])(
        *arguments, **options, dtype=getattr(torch, dtype)
    )
    layer = build(name, dtype=dtype)
    assert list(layer.state_dict()) == list(module.state_dict())
    state = {key: torch.from_numpy(v) for key, v in values(layer).items()}
    module.load_state_dict(state)
    module.eval()
    x = 3 + random(SHAPE, dtype, 50)
    theirs = module(torch.from_numpy(x)).detach().numpy()
    for given in (
        module.state_dict(),
        {k: v.numpy() for k, v in module.state_dict().items()},
        # Not detached: parameters that record gradients.
        {**module.state_dict(), **dict(module.named_parameters())},
    ):
        other = build(name, dtype=dtype)
        assert other.load_state_dict(given) == IncompatibleKeys([], [])
        np.testing.assert_allclose(other(x), theirs, rtol=2e-5, atol=2e-5)
        assert same_bits(other(x), call(other, x))
        tensors = {k: torch.from_numpy(v) for k, v in other.state_dict().items()}
        module.load_state_dict(tensors)


@every_layer
def test_repr_is_torchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    kind, arguments, options = LAYERS[name]
    module = getattr(torch.nn, MODULES[kind.__name__])(*arguments, **options)
    assert repr(build(name)) == repr(module).replace("2d(", "(")


def test_repr_says_what_torch_has_not() -> None:
    assert repr(BatchNorm(3, channel_axis=-1, dtype="f8", num_threads=1)) == (
        "BatchNorm(3, eps=1e-05, momentum=0.1, affine=True, bias=True, "
        "track_running_stats=True, channel_axis=-1, dtype=float64, num_threads=1)"
    )
    assert repr(RMSNorm(3, axis=1)) == (
        "RMSNorm((3,), eps=None, elementwise_affine=True, axis=1)"
    )


def test_bfloat16_tensors_load_exactly() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.LayerNorm(C, dtype=torch.bfloat16)
    torch.nn.init.normal_(module.weight)
    layer = LayerNorm(C)
    layer.load_state_dict(module.state_dict())
    assert layer.weight is not None
    assert layer.weight.tolist() == module.weight.float().tolist()


def test_a_tensor_elsewhere_is_refused() -> None:
    torch = pytest.importorskip("torch")
    layer = RMSNorm(C)
    with pytest.raises(TypeError, match="RMSNorm.load_state_dict: weight is not an"):
        layer.load_state_dict({"weight": torch.ones(C, device="meta")})


class OnlyDLPack:
    """An array of a library that NumPy knows nothing of."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def test_dlpack_arrays_load() -> None:
    w = random(C)
    layer = RMSNorm(C)
    layer.load_state_dict({"weight": OnlyDLPack(w)})
    assert layer.weight is not None and same_bits(layer.weight, w)


def state_of_batch_norm() -> dict[str, Any]:
    return values(BatchNorm(C), 30)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            lambda s: (s.pop("running_var"), s.pop("weight")), ValueError,
            "BatchNorm.load_state_dict: missing keys: weight, running_var",
        ),
        (
            lambda s: s.update(gamma=1, beta=2), ValueError,
            "BatchNorm.load_state_dict: unexpected keys: gamma, beta",
        ),
        (
            lambda s: s.update(weight=np.ones(5)), ValueError,
            r"BatchNorm.load_state_dict: weight has shape \(5,\), \(6,\) is needed",
        ),
        (
            lambda s: (s.pop("bias"), s.update(a=1, weight=np.ones(5))), ValueError,
            r"missing keys: bias; unexpected keys: a; weight has shape \(5,\)",
        ),
        (
            lambda s: s.update(weight=1.0), ValueError,
            r"weight has shape \(\), \(6,\) is needed",
        ),
        (
            lambda s: s.update(num_batches_tracked=np.ones(2, int)), ValueError,
            r"num_batches_tracked has shape \(2,\), \(\) is needed",
        ),
        (
            lambda s: s.update(num_batches_tracked=1.5), TypeError,
            "num_batches_tracked has dtype float64, an integer is needed",
        ),
        (
            lambda s: s.update(running_mean=["a"] * C), TypeError,
            "running_mean has dtype <U1, real numbers are needed",
        ),
        (
            lambda s: s.update(running_mean=np.ones(C, complex)), TypeError,
            "running_mean has dtype complex128, real numbers are needed",
        ),
        (
            lambda s: s.update(bias=[[1], [2, 3]]), TypeError,
            "BatchNorm.load_state_dict: bias is not an array",
        ),
        (
            lambda s: s.update(bias=np.ma.ones(C)), TypeError,
            "BatchNorm.load_state_dict: bias is a masked array",
        ),
    ],
)  # fmt: skip
def test_a_state_that_does_not_fit_changes_nothing(
    change: Any, kind: type[Exception], message: str
) -> None:
    layer = BatchNorm(C)
    layer.load_state_dict(values(layer, 5))
    before = pickle.dumps(layer.state_dict())
    state = state_of_batch_norm()
    change(state)
    with pytest.raises(kind, match=message):
        layer.load_state_dict(state)
    assert pickle.dumps(layer.state_dict()) == before


def test_not_strict_takes_what_fits() -> None:
    layer = BatchNorm(C)
    old = layer.state_dict()
    state = state_of_batch_norm()
    del state["bias"], state["num_batches_tracked"]
    state["gamma"] = np.ones(3)
    found = layer.load_state_dict(state, strict=False)
    assert found == IncompatibleKeys(["bias"], ["gamma"])
    now = layer.state_dict()
    assert same_bits(now["weight"], state["weight"])
    assert same_bits(now["bias"], old["bias"])
    x = random(SHAPE)
    expected = fastnorm.batch_norm(
        x, state["running_mean"], state["running_var"], state["weight"], old["bias"]
    )
    assert same_bits(layer(x), expected)
    with pytest.raises(ValueError, match="weight has shape"):
        layer.load_state_dict({"weight": np.ones(3)}, strict=False)


def test_the_count_of_batches_may_be_missing_as_in_torch() -> None:
    layer = BatchNorm(C)
    layer.load_state_dict({**state_of_batch_norm(), "num_batches_tracked": np.array(4)})
    state = state_of_batch_norm()
    del state["num_batches_tracked"]
    assert layer.load_state_dict(state) == IncompatibleKeys([], [])
    assert layer.num_batches_tracked == 4


def test_one_layer_of_a_network() -> None:
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(
        torch.nn.Linear(4, C), torch.nn.BatchNorm1d(C), torch.nn.LayerNorm(C)
    )
    torch.nn.init.normal_(network[1].weight)
    norm = BatchNorm(C)
    norm.load_state_dict(network.state_dict(), prefix="1.")
    assert norm.weight is not None
    assert norm.weight.tolist() == network[1].weight.tolist()
    names = [name for name in network.state_dict() if name.startswith("1.")]
    assert list(norm.state_dict(prefix="1.")) == names
    with pytest.raises(ValueError, match="missing keys: weight, bias"):
        LayerNorm(C).load_state_dict(network.state_dict(), prefix="3.")


@every_layer
@pytest.mark.parametrize("how", ["pickle", "copy", "deepcopy"])
def test_copies_are_the_same_and_apart(name: str, how: str) -> None:
    layer = build(name, num_threads=1)
    layer.load_state_dict(values(layer))
    other = {
        "pickle": lambda: pickle.loads(pickle.dumps(layer)),
        "copy": lambda: copy.copy(layer),
        "deepcopy": lambda: copy.deepcopy(layer),
    }[how]()
    assert type(other) is type(layer)
    assert repr(other) == repr(layer)
    assert other.options == {"num_threads": 1}
    x = random(SHAPE)
    expected = layer(x)
    assert same_bits(other(x), expected)
    if layer.state_dict():
        other.load_state_dict(values(layer, 77))
        assert not same_bits(other(x), expected)
    assert same_bits(layer(x), expected)
