# SPDX-License-Identifier: MIT
"""fuzz_python.py - atheris on the Python API.

``python tests/fuzz/fuzz_python.py -max_total_time=60 [CORPUS]`` with libFuzzer's
options. The library itself is not instrumented: coverage is that of its Python code.
"""

from __future__ import annotations

import sys
import warnings

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports():
    from draw_python import Drawing, Source, run

    import fastnorm.layers
    import fastnorm.reference
    import fastnorm.stats  # noqa: F401


def one_input(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(Drawing(Source(data)).call())


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
