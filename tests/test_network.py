# test_network.py - small trained networks, in torch and with fastnorm's layers.
# SPDX-License-Identifier: MIT
"""A residual network and a transformer that read digits: the same answers.

The convolutions and matrix products of both are torch's or NumPy's, the norms of one
torch's and of the other fastnorm's, fused with what follows them. The judge is the same
network in float64.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastnorm import BatchNorm, LayerNorm, fold_batch_norm

torch = pytest.importorskip("torch")
datasets = pytest.importorskip("sklearn.datasets")

Array = NDArray[Any]
# Of a logit, relative to max(1, |logit|): both networks round in float32 all the way.
BOUND = 1e-5


def digits() -> tuple[Array, Array, Array, Array]:
    """Images [n, 8, 8] from 0 to 1 and labels, to train with and to test with."""
    found = datasets.load_digits()
    images = (found.images / 16).astype(np.float32)
    return images[:1300], found.target[:1300], images[1300:], found.target[1300:]


def trained(network: Any, images: Array, labels: Array) -> Any:
    generator = torch.Generator().manual_seed(3)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    x, target = torch.from_numpy(images), torch.from_numpy(labels)
    loss = torch.nn.functional.cross_entropy
    threads = torch.get_num_threads()
    # On such small arrays more threads are slower, on a busy machine much slower.
    torch.set_num_threads(1)
    network.train()
    for _ in range(6):
        for batch in torch.randperm(len(x), generator=generator).split(100):
            optimizer.zero_grad()
            loss(network(x[batch]), target[batch]).backward()
            optimizer.step()
    torch.set_num_threads(threads)
    return network.eval()


def exact_logits(network: Any, images: Array) -> Array:
    with torch.no_grad():
        wide = copy.deepcopy(network).double()
        logits: Array = wide(torch.from_numpy(images).double()).numpy()
    return logits


def check(found: Array, network: Any, images: Array, labels: Array) -> None:
    """Within the bound of the exact network, near to torch's, of the same classes."""
    exact = exact_logits(network, images)
    with torch.no_grad():
        theirs = network(torch.from_numpy(images)).numpy()
    size = np.maximum(1, np.abs(exact))
    assert found.dtype == np.float32
    assert np.max(np.abs(found - exact) / size) <= BOUND
    assert np.max(np.abs(found - theirs) / size) <= 2 * BOUND
    best = np.sort(exact, axis=1)[:, -2:]
    # Where two classes are as near as the bound, either is an answer.
    clear = best[:, 1] - best[:, 0] > 2 * BOUND * np.abs(best).max(axis=1).clip(1)
    assert np.mean(clear) > 0.99
    predicted = found.argmax(axis=1)
    assert np.array_equal(predicted[clear], theirs.argmax(axis=1)[clear])
    # Otherwise the agreement would be one about noise.
    assert np.mean(predicted == labels) > 0.85


# ---- A residual network -----------------------------------------------------------


def residual_network() -> Any:
    """Convolution, norm, ReLU; a block with an identity; pooling; classes."""
    nn = torch.nn

    class Network(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(16)
            self.conv3 = nn.Conv2d(16, 16, 3, padding=1)
            self.bn3 = nn.BatchNorm2d(16)
            self.classes = nn.Linear(16 * 16, 10)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.bn1(self.conv1(x)))
            y = torch.relu(self.bn2(self.conv2(x)))
            y = torch.relu(self.bn3(self.conv3(y)) + x)
            return self.classes(nn.functional.max_pool2d(y, 2).flatten(1))

    torch.manual_seed(1)
    return Network()


@pytest.fixture(scope="module")
def residual() -> tuple[Any, Array, Array]:
    images, labels, test_images, test_labels = digits()
    network = trained(residual_network(), images[:, None], labels)
    return network, test_images[:, None], test_labels


def convolve(x: Array, weight: Array, bias: Array | None = None) -> Array:
    tensors = [None if a is None else torch.from_numpy(a) for a in (x, weight, bias)]
    result: Array = torch.nn.functional.conv2d(*tensors, padding=1).numpy()
    return result


def classify(y: Array, state: dict[str, Array]) -> Array:
    pooled = y.reshape(len(y), 16, 4, 2, 4, 2).max(axis=(3, 5)).reshape(len(y), -1)
    return np.asarray(pooled @ state["classes.weight"].T + state["classes.bias"])


def prepared_norms(state: dict[str, Array]) -> list[BatchNorm]:
    norms = []
    for name in ("bn1.", "bn2.", "bn3."):
        norm = BatchNorm(16, activation="relu")
        norm.load_state_dict(state, prefix=name)
        norms.append(norm)
    return norms


@pytest.mark.usefixtures("isa")
def test_a_residual_network(residual: tuple[Any, Array, Array]) -> None:
    network, images, labels = residual
    state = {k: v.numpy() for k, v in network.state_dict().items()}
    norm1, norm2, norm3 = prepared_norms(state)
    x = convolve(images, state["conv1.weight"])
    norm1(x, out=x)
    y = convolve(x, state["conv2.weight"])
    norm2(y, out=y)
    y = convolve(y, state["conv3.weight"], state["conv3.bias"])
    norm3(y, out=y, post_add=x)
    check(classify(y, state), network, images, labels)


def test_the_residual_network_folded(residual: tuple[Any, Array, Array]) -> None:
    network, images, labels = residual
    state = {k: v.numpy() for k, v in network.state_dict().items()}
    folded = [
        fold_batch_norm(
            state[f"conv{i}.weight"], state.get(f"conv{i}.bias"),
            state[f"bn{i}.running_mean"], state[f"bn{i}.running_var"],
            state[f"bn{i}.weight"], state[f"bn{i}.bias"], network.bn1.eps,
        )
        for i in (1, 2, 3)
    ]  # fmt: skip
    x = np.maximum(convolve(images, *folded[0]), 0)
    y = np.maximum(convolve(x, *folded[1]), 0)
    y = np.maximum(convolve(y, *folded[2]) + x, 0)
    check(classify(y, state), network, images, labels)


# ---- A transformer ----------------------------------------------------------------

WIDTH, HIDDEN = 32, 64


def transformer() -> Any:
    """The rows of an image as tokens: attention, and layers with a norm before GELU."""
    nn = torch.nn

    class Network(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(8, WIDTH)
            self.place = nn.Parameter(torch.randn(8, WIDTH))
            self.norm1 = nn.LayerNorm(WIDTH)
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
            self.norm2 = nn.LayerNorm(WIDTH)
            self.fc1 = nn.Linear(WIDTH, HIDDEN)
            self.norm3 = nn.LayerNorm(HIDDEN)
            self.fc2 = nn.Linear(HIDDEN, WIDTH)
            self.norm4 = nn.LayerNorm(WIDTH)
            self.classes = nn.Linear(8 * WIDTH, 10)

        def forward(self, x: Any) -> Any:
            x = self.embed(x) + self.place
            q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
            x = x + torch.softmax(q @ k.mT / WIDTH**0.5, -1) @ v
            y = nn.functional.gelu(self.norm3(self.fc1(self.norm2(x))))
            return self.classes(self.norm4(x + self.fc2(y)).flatten(1))

    torch.manual_seed(2)
    return Network()


@pytest.fixture(scope="module")
def tokens() -> tuple[Any, Array, Array]:
    images, labels, test_images, test_labels = digits()
    return trained(transformer(), images, labels), test_images, test_labels


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


@pytest.mark.usefixtures("isa")
def test_a_transformer(tokens: tuple[Any, Array, Array]) -> None:
    network, images, labels = tokens
    state = {k: v.numpy() for k, v in network.state_dict().items()}
    norm1, norm2, norm4 = (LayerNorm(WIDTH) for _ in range(3))
    norm3 = LayerNorm(HIDDEN, activation="gelu")
    for i, norm in enumerate((norm1, norm2, norm3, norm4), 1):
        norm.load_state_dict(state, prefix=f"norm{i}.")

    def linear(x: Array, name: str) -> Array:
        return np.asarray(x @ state[f"{name}.weight"].T + state[f"{name}.bias"])

    x = linear(images, "embed") + state["place"]
    q, k, v = np.split(linear(norm1(x), "qkv"), 3, axis=-1)
    attention = softmax(q @ k.swapaxes(-1, -2) / np.float32(WIDTH**0.5)) @ v
    # The sum that goes on to the next residual lands in x, its norm in y.
    y = norm2(attention, residual=x, residual_out=x)
    y = linear(y, "fc1")
    norm3(y, out=y)
    y = norm4(linear(y, "fc2"), residual=x)
    logits = linear(y.reshape(len(y), -1), "classes")
    check(logits, network, images, labels)
