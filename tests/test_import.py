# test_import.py - what an import costs and brings, and what is installed.
# SPDX-License-Identifier: MIT
"""The package as it is installed: its imports, names, documentation and files."""

import doctest
import importlib.metadata
import inspect
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnorm
import fastnorm._core

OPTIONAL = [
    "albucore", "click", "cv2", "matplotlib", "ml_dtypes", "numba", "onnxruntime",
    "rich", "sklearn", "threadpoolctl", "torch",
]  # fmt: skip
NAMES = [
    "layer_norm", "rms_norm", "l2_norm", "l1_norm", "normalize", "batch_norm",
    "group_norm", "instance_norm", "batch_renorm", "weight_norm", "moments",
    "merge_moments",
]  # fmt: skip
LP_SIGNATURE = (
    "(input, axis=-1, eps=1e-12, *, out=None, return_norm=False, "
    "num_threads=None, out_dtype=None, in_scale=None, in_zero_point=None, "
    "out_scale=None, out_zero_point=None, flush_denormals=False)"
)
SECTIONS = ["Parameters", "Returns", "Raises", "Notes", "References", "Examples"]


def in_subprocess(code):
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_import_brings_numpy_and_the_extension_only():
    code = """
import sys
import numpy
before = set(sys.modules)
import fastnorm
print(*sorted(name for name in set(sys.modules) - before))
"""
    brought = in_subprocess(code).split()
    assert {n for n in brought if n.startswith("fastnorm")} == {
        "fastnorm",
        "fastnorm._core",
    }
    assert not set(OPTIONAL) & {name.partition(".")[0] for name in brought}
    assert not [name for name in brought if name.startswith("numpy")]


def test_import_takes_at_most_15_ms_beyond_numpy():
    code = """
import time
import numpy
start = time.perf_counter()
import fastnorm
print(time.perf_counter() - start)
"""
    # The least of several: what is measured is the import, not a busy machine.
    assert min(float(in_subprocess(code)) for _ in range(5)) < 0.015


def test_all_names_are_there_and_documented():
    # Constants, classes, functions: the order that ruff asks for.
    order = [
        (not name.isupper(), not name[0].isupper(), name) for name in fastnorm.__all__
    ]
    assert order == sorted(order)
    for name in fastnorm.__all__:
        value = getattr(fastnorm, name)
        if callable(value):
            assert value.__doc__, name
    for name in NAMES:
        doc = getattr(fastnorm, name).__doc__
        for section in SECTIONS:
            heading = f"\n    {section}\n    {'-' * len(section)}\n"
            assert heading in doc, (name, section)


def test_modules_come_when_they_are_asked_for_and_nothing_else_is_listed():
    code = """
import sys
import fastnorm
print("fastnorm.jit" in sys.modules, fastnorm.jit.__name__, fastnorm.reference.__name__)
print("numba" in sys.modules, hasattr(fastnorm, "nothing"))
print(*[name for name in dir(fastnorm) if not name.startswith("__")])
"""
    first, second, names = in_subprocess(code).splitlines()
    assert first == "False fastnorm.jit fastnorm.reference"
    assert second == "False False"
    public = [name for name in fastnorm.__all__ if not name.startswith("__")]
    assert names.split() == sorted([*public, "jit", "reference"])


def test_signatures_are_those_of_the_contract():
    signatures = {
        name: str(inspect.signature(getattr(fastnorm, name))) for name in NAMES
    }
    assert signatures == {
        "layer_norm": "(input, normalized_shape, weight=None, bias=None, eps=1e-05, *, "
        "out=None, axis=None, return_stats=False, num_threads=None, "
        "residual=None, residual_bias=None, residual_out=None, "
        "post_add=None, activation=None, out_dtype=None, in_scale=None, "
        "in_zero_point=None, out_scale=None, out_zero_point=None, mean=None, "
        "var=None, flush_denormals=False, "
        "lengths=None, masked='zero')",
        "rms_norm": "(input, normalized_shape, weight=None, eps=None, *, "
        "out=None, axis=None, return_stats=False, num_threads=None, "
        "residual=None, residual_bias=None, residual_out=None, "
        "post_add=None, activation=None, out_dtype=None, in_scale=None, "
        "in_zero_point=None, out_scale=None, out_zero_point=None, "
        "mode='plain', flush_denormals=False)",
        "l2_norm": LP_SIGNATURE,
        "l1_norm": LP_SIGNATURE,
        "normalize": "(input, p=2.0, dim=1, eps=1e-12, *, out=None, num_threads=None, "
        "out_dtype=None, in_scale=None, in_zero_point=None, out_scale=None, "
        "out_zero_point=None, flush_denormals=False)",
        "batch_norm": "(input, running_mean, running_var, weight=None, bias=None, "
        "training=False, momentum=0.1, eps=1e-05, *, channel_axis=1, "
        "num_batches_tracked=None, out=None, return_stats=False, num_threads=None, "
        "post_add=None, activation=None, out_dtype=None, in_scale=None, "
        "in_zero_point=None, out_scale=None, out_zero_point=None, "
        "flush_denormals=False, "
        "mask=None, lengths=None, masked='zero')",
        "group_norm": "(input, num_groups, weight=None, bias=None, eps=1e-05, *, "
        "channel_axis=1, out=None, return_stats=False, num_threads=None, "
        "post_add=None, activation=None, out_dtype=None, in_scale=None, "
        "in_zero_point=None, out_scale=None, out_zero_point=None, mean=None, "
        "var=None, flush_denormals=False, "
        "mask=None, lengths=None, masked='zero')",
        "instance_norm": "(input, running_mean=None, running_var=None, weight=None, "
        "bias=None, use_input_stats=True, momentum=0.1, eps=1e-05, *, channel_axis=1, "
        "out=None, return_stats=False, num_threads=None, "
        "post_add=None, activation=None, out_dtype=None, in_scale=None, "
        "in_zero_point=None, out_scale=None, out_zero_point=None, "
        "flush_denormals=False, "
        "mask=None, lengths=None, masked='zero')",
        "batch_renorm": "(input, running_mean, running_var, weight=None, bias=None, "
        "training=False, momentum=0.1, eps=1e-05, *, r_max=3.0, d_max=5.0, "
        "channel_axis=1, num_batches_tracked=None, out=None, return_stats=False, "
        "num_threads=None, post_add=None, activation=None, out_dtype=None, "
        "in_scale=None, in_zero_point=None, out_scale=None, out_zero_point=None, "
        "flush_denormals=False)",
        "weight_norm": "(v, g, dim=0, *, out=None, return_norm=False, "
        "num_threads=None, flush_denormals=False)",
        "moments": "(input, axis=None, *, ddof=0, keepdims=False, return_state=False, "
        "num_threads=None, in_scale=None, in_zero_point=None, flush_denormals=False, "
        "mask=None, lengths=None)",
        "merge_moments": "(a, b)",
    }


def test_examples_in_docstrings():
    results = doctest.testmod(fastnorm._core)
    assert results.attempted >= 40
    assert results.failed == 0


def test_examples_of_the_threadpoolctl_bridge():
    pytest.importorskip("threadpoolctl")
    import fastnorm.interop.threadpoolctl

    results = doctest.testmod(fastnorm.interop.threadpoolctl)
    assert results.attempted >= 3
    assert results.failed == 0


def test_results_can_be_pickled():
    x = np.arange(6.0).reshape(2, 3)
    for value in (fastnorm.moments(x, 0), fastnorm.moments(x, 0, return_state=True)):
        back = pickle.loads(pickle.dumps(value))
        assert type(back) is type(value)
        for a, b in zip(back, value, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_version_is_that_of_the_header_and_of_the_distribution():
    header = Path(fastnorm.get_include(), "fastnorm.h").read_text(encoding="utf-8")
    found = re.search(r'FASTNORM_VERSION_STRING "([^"]+)"', header)
    assert found is not None
    assert fastnorm.__version__ == found[1]
    assert fastnorm.__version__ == importlib.metadata.version("fastnorm")
    assert fastnorm.show_config("dicts")["version"] == found[1]


def test_show_config_prints_what_it_returns(capsys):
    config = fastnorm.show_config("dicts")
    assert config["isa"] == fastnorm.isa()
    assert config["isas"] == fastnorm.isas()
    assert fastnorm.show_config() is None
    printed = capsys.readouterr().out.splitlines()
    lines = dict(line.split(maxsplit=1) for line in printed)
    assert lines["isa:"] == fastnorm.isa()
    assert lines["isas:"] == ", ".join(fastnorm.isas())
    assert lines["num_threads:"] == str(fastnorm.get_num_threads())
    assert set(lines) == {f"{key}:" for key in config}


def package():
    return Path(fastnorm.__file__).parent


def installed_files():
    files = importlib.metadata.distribution("fastnorm").files or []
    return [Path(file.locate()) for file in files]


def test_the_installation_is_at_most_3_mb_and_complete():
    files = [file for file in installed_files() if file.exists()]
    if not any(file.name == "_core.pyx" or file.suffix == ".so" for file in files):
        pytest.skip("an editable install has no installed files")
    # The code of the extra for Numba is apart: who wants it installs 200 MB beside it.
    extra = [file for file in files if file.is_relative_to(package() / "jit")]
    others = [file for file in files if file not in set(extra)]
    assert sum(file.stat().st_size for file in others) <= 3_000_000
    assert sum(file.stat().st_size for file in extra) <= 450_000
    names = {file.name for file in files}
    assert {"py.typed", "_core.pyi", "_core.pxd", "__init__.pxd", "fastnorm.h"} <= names


@pytest.mark.skipif(sys.platform != "linux", reason="nm reads ELF")
@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_the_extension_exports_its_own_names_only():
    done = subprocess.run(
        ["nm", "-D", "--defined-only", os.fspath(fastnorm._core.__file__)],
        capture_output=True,
        text=True,
        check=True,
    )
    names = {line.split()[-1] for line in done.stdout.splitlines()}
    assert "PyInit__core" in names
    names -= {"PyInit__core", "_init", "_fini"}
    assert names
    assert all(name.startswith("fastnorm_") for name in names), names
