# train_digits.py - a small network that learns to read digits, in NumPy and fastnorm.
# SPDX-License-Identifier: MIT
"""Linear, batch norm, ReLU, linear, layer norm, linear; stochastic gradient descent.

scikit-learn's 1797 digits of 8 x 8 pixels: 1347 to learn from, 450 to test with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import fastnorm

WIDTH, EPOCHS, BATCH = 64, 30, 32
RATE, MOMENTUM = 0.05, 0.9


class Linear:
    """y = x @ weight + bias, with the methods that fastnorm's layers have."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator) -> None:
        bound = inputs**-0.5
        self.weight = rng.uniform(-bound, bound, (inputs, outputs)).astype(np.float32)
        self.bias = rng.uniform(-bound, bound, outputs).astype(np.float32)
        self.grads: dict[str, np.ndarray] = {}

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        return x @ self.weight + self.bias

    def backward(self, grad: np.ndarray) -> np.ndarray:
        self.grads = {"weight": self.x.T @ grad, "bias": grad.sum(0)}
        return grad @ self.weight.T

    def named_parameters(self) -> list[tuple[str, np.ndarray]]:
        return [("weight", self.weight), ("bias", self.bias)]

    def zero_grad(self) -> None:
        self.grads = {}


class ReLU:
    """max(x, 0)."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.positive = x > 0
        return x * self.positive

    def backward(self, grad: np.ndarray) -> np.ndarray:
        return grad * self.positive


class Network:
    """Layers one after the other, and what stochastic gradient descent remembers."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.norms = fastnorm.BatchNorm(WIDTH), fastnorm.LayerNorm(WIDTH)
        self.layers: list[Any] = [
            Linear(64, WIDTH, rng), self.norms[0], ReLU(),
            Linear(WIDTH, WIDTH, rng), self.norms[1], Linear(WIDTH, 10, rng),
        ]  # fmt: skip
        self.learning = [x for x in self.layers if hasattr(x, "named_parameters")]
        self.speeds: dict[int, np.ndarray] = {}

    def __call__(self, x: np.ndarray) -> np.ndarray:
        for layer in self.layers:
            x = layer(x)
        return x

    def train(self, mode: bool = True) -> None:
        for norm in self.norms:
            norm.train(mode)

    def backward(self, grad: np.ndarray) -> None:
        for layer in reversed(self.layers):
            grad = layer.backward(grad)

    def step(self) -> None:
        """Every parameter moves on by its speed, which the gradient changes."""
        for layer in self.learning:
            for name, parameter in layer.named_parameters():
                speed = self.speeds.setdefault(id(parameter), np.zeros_like(parameter))
                speed *= MOMENTUM
                speed += layer.grads[name]
                parameter -= RATE * speed
            layer.zero_grad()


def gradient_of_loss(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of the mean cross entropy of the softmax, by the logits."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    chances: np.ndarray = powers / powers.sum(1, keepdims=True)
    chances[np.arange(len(labels)), labels] -= 1
    chances /= len(labels)
    return chances


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images and labels to learn from, and those to test with."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images = (data.data[order] / 16).astype(np.float32)
    labels = data.target[order]
    return images[:1347], labels[:1347], images[1347:], labels[1347:]


def batches(seed: int) -> list[np.ndarray]:
    """Which images are learnt from, batch by batch, for all epochs."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(1347) for _ in range(EPOCHS)]
    return [o[i : i + BATCH] for o in orders for i in range(0, 1347 - BATCH, BATCH)]


def learn(seed: int = 0) -> tuple[Network, float]:
    """A network that has learnt, and the share of the test's digits it can read."""
    network = Network(np.random.default_rng(seed))
    images, labels, unseen, answers = digits()
    network.train()
    for chosen in batches(seed):
        logits = network(images[chosen])
        network.backward(gradient_of_loss(logits, labels[chosen]))
        network.step()
    network.train(False)
    return network, float(np.mean(network(unseen).argmax(1) == answers))


if __name__ == "__main__":
    network, accuracy = learn()
    print("reads 97 % or more of the digits it has not seen:", accuracy >= 0.97)
    print("its batch norm has seen", network.norms[0].num_batches_tracked, "batches")

# Prints:
# reads 97 % or more of the digits it has not seen: True
# its batch norm has seen 1260 batches
