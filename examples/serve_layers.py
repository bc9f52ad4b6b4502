# serve_layers.py - one prepared layer, many request threads, new weights in between.
# SPDX-License-Identifier: MIT
"""A layer is made once; any thread may call it while another loads its weights."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import fastnorm

WIDTH = 768
rng = np.random.default_rng(0)

# A request runs on its own thread, so the norm needs no others.
norm = fastnorm.LayerNorm(WIDTH, num_threads=1)
# Of a torch module: norm.load_state_dict(module.state_dict()), or of one in a network:
# norm.load_state_dict(network.state_dict(), prefix="blocks.0.norm1.").
weight, bias = rng.normal(1, 0.1, WIDTH), rng.normal(0, 0.1, WIDTH)
norm.load_state_dict({"weight": weight, "bias": bias})
print(norm)


def answer(tokens: np.ndarray) -> np.ndarray:
    norm(tokens, out=tokens)  # in place: no fresh memory, nothing to copy
    return tokens


requests = [rng.standard_normal((n, WIDTH), np.float32) for n in range(1, 101)]
alone = [norm(tokens) for tokens in requests]
with ThreadPoolExecutor(8) as pool:
    answers = list(pool.map(answer, requests))
same = sum(np.array_equal(a, b) for a, b in zip(answers, alone, strict=True))
print(same, "of", len(answers), "answers have the bits that they have alone")

# Requests that are under way finish with the old weights, others begin with the new.
norm.load_state_dict({"weight": weight, "bias": bias + 1})
print("mean of the bias:", norm.state_dict()["bias"].mean().round(1))

# Prints:
# LayerNorm((768,), eps=1e-05, elementwise_affine=True, bias=True, num_threads=1)
# 100 of 100 answers have the bits that they have alone
# mean of the bias: 1.0
