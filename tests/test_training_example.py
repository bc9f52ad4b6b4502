# test_training_example.py - examples/train_digits.py learns what torch learns.
# SPDX-License-Identifier: MIT
"""The same network, digits, batches and steps, once more in torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")


@pytest.fixture(name="example")
def _example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    folder = Path(__file__).parents[1] / "examples"
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("train_digits", None)
    import train_digits

    # These matrices are too small for more threads than one.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield train_digits
    torch.set_num_threads(threads)


def torchs(example: Any, seed: int) -> Any:
    """The example's network as it begins."""
    width = example.WIDTH
    network = example.Network(np.random.default_rng(seed))
    nn = torch.nn
    theirs = nn.Sequential(
        nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(),
        nn.Linear(width, width), nn.LayerNorm(width), nn.Linear(width, 10),
    )  # fmt: skip
    with torch.no_grad():
        for mine, module in zip(network.layers, theirs, strict=True):
            if isinstance(mine, example.Linear):
                module.weight.copy_(torch.from_numpy(mine.weight.T))
                module.bias.copy_(torch.from_numpy(mine.bias))
    return theirs


def learn_in_torch(example: Any, seed: int, steps: int | None = None) -> Any:
    network = torchs(example, seed)
    images, labels, *_ = (torch.from_numpy(array) for array in example.digits())
    optimizer = torch.optim.SGD(
        network.parameters(), lr=example.RATE, momentum=example.MOMENTUM
    )
    for chosen in example.batches(seed)[:steps]:
        loss = torch.nn.functional.cross_entropy(
            network(images[chosen]), labels[chosen]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def test_the_first_steps_are_torchs(example: Any) -> None:
    steps = 20
    theirs = learn_in_torch(example, 0, steps)
    images, labels, *_ = example.digits()
    network = example.Network(np.random.default_rng(0))
    network.train()
    for chosen in example.batches(0)[:steps]:
        logits = network(images[chosen])
        network.backward(example.gradient_of_loss(logits, labels[chosen]))
        network.step()
    network.train(False)
    moved = 0.0
    for mine, module in zip(network.layers, theirs, strict=True):
        state = {name: t.numpy() for name, t in module.state_dict().items()}
        if isinstance(mine, example.Linear):
            found = {"weight": mine.weight.T, "bias": mine.bias}
        else:
            found = mine.state_dict() if state else {}
        assert found.keys() == state.keys()
        for name, array in found.items():
            np.testing.assert_allclose(array, state[name], rtol=0, atol=2e-5)
        if state:
            moved = max(moved, float(np.ptp(state["bias"])))
    assert moved > 0.01


def test_it_reads_as_many_digits_as_torch(example: Any) -> None:
    *_, unseen, answers = example.digits()
    shares = []
    for seed in range(4):
        network, accuracy = example.learn(seed)
        theirs = learn_in_torch(example, seed)
        with torch.no_grad():
            found = theirs(torch.from_numpy(unseen)).numpy().argmax(1)
        shares.append((accuracy, float(np.mean(found == answers))))
        # In evaluation every answer is its own: not one of the batch.
        every = network(unseen)
        np.testing.assert_allclose(network(unseen[:1]), every[:1], rtol=0, atol=1e-4)
    mine, peers = np.mean(shares, axis=0)
    text = f"fastnorm reads {mine:.4f} of the digits, torch {peers:.4f}: {shares}"
    print(text)
    assert np.min(shares) >= 0.96, text
    assert abs(mine - peers) <= 0.01, text
