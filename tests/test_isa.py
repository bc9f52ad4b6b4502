# SPDX-License-Identifier: MIT
"""test_isa.py - which instruction set is used, and that each one is the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from oracle import ISAS, LENGTHS, hostile, random, same_bits

import fastnorm


def run(tmp_path: Path, name: str, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "import fastnorm, numpy as np\n" + code],
        env=os.environ | {"FASTNORM_ISA": name},
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_names_are_known_and_portable_is_last() -> None:
    names = fastnorm.isas()
    assert set(names) <= set(ISAS) and len(set(names)) == len(names)
    assert names[-1] == "portable"


def test_none_chooses_the_best() -> None:
    fastnorm.set_isa("portable")
    assert fastnorm.isa() == "portable"
    fastnorm.set_isa(None)
    assert fastnorm.isa() == fastnorm.isas()[0]


def test_the_isa_is_the_one_that_was_asked_for(isa: str) -> None:
    assert fastnorm.isa() == isa


@pytest.mark.parametrize("name", ["", "sse9", "AVX2", "avx2 ", "avx512\0", "best"])
def test_an_unknown_name_is_an_error_and_changes_nothing(name: str) -> None:
    fastnorm.set_isa("portable")
    with pytest.raises(ValueError, match="set_isa"):
        fastnorm.set_isa(name)
    assert fastnorm.isa() == "portable"


def test_an_isa_that_the_machine_lacks_is_an_error() -> None:
    missing = [name for name in ISAS if name not in fastnorm.isas()]
    if not missing:
        pytest.skip("this machine has every instruction set")
    for name in missing:
        with pytest.raises(ValueError, match=name):
            fastnorm.set_isa(name)


@pytest.mark.parametrize("name", ISAS)
def test_the_environment_variable_chooses(name: str, tmp_path: Path) -> None:
    if name not in fastnorm.isas():
        pytest.skip(f"this machine has no {name}")
    result = run(tmp_path, name, "print(fastnorm.isa())")
    assert result.stdout.strip() == name, result.stderr


def test_a_wrong_environment_variable_is_an_error_not_a_fallback(
    tmp_path: Path,
) -> None:
    for code in (
        "fastnorm.layer_norm(np.ones((2, 3)), 3)",
        "fastnorm.rms_norm(np.ones((2, 3)), 3)",
        "fastnorm.batch_norm(np.ones((2, 3)), None, None, training=True)",
        "fastnorm.moments(np.ones((2, 3)))",
        "fastnorm.isa()",
    ):
        result = run(tmp_path, "sse9", code)
        assert result.returncode != 0, code
        assert "RuntimeError" in result.stderr and "sse9" in result.stderr
    code = "fastnorm.set_isa('portable'); print(fastnorm.moments(np.ones(4)).mean)"
    assert run(tmp_path, "sse9", code).stdout.strip() == "1.0"


def test_every_length_and_hostile_row_has_the_same_bits(isa: str, dtype: str) -> None:
    for n in LENGTHS:
        x = np.vstack([random((7, n), dtype, n), *hostile(n, dtype).values()])
        weight, bias = random(n, dtype, 1), random(n, dtype, 2)
        tall = np.ascontiguousarray(x.T)

        def everything(x=x, tall=tall, weight=weight, bias=bias, n=n):
            yield from fastnorm.layer_norm(x, n, weight, bias, return_stats=True)
            yield from fastnorm.layer_norm(x, n, eps=0.0, return_stats=True)
            yield from fastnorm.layer_norm(tall, None, axis=0, return_stats=True)
            yield from fastnorm.rms_norm(x, n, weight, return_stats=True)
            yield from fastnorm.rms_norm(tall, None, axis=0, return_stats=True)
            yield from fastnorm.moments(x, axis=1)
            yield from fastnorm.moments(tall, axis=0)
            yield from fastnorm.batch_norm(
                x, None, None, weight, bias, True, return_stats=True
            )
            if n > 1:
                yield from fastnorm.batch_norm(
                    tall, None, None, training=True, return_stats=True
                )

        found = list(everything())
        fastnorm.set_isa("portable")
        for i, (a, b) in enumerate(zip(found, everything(), strict=True)):
            assert same_bits(a, b), (n, i)
        fastnorm.set_isa(isa)
