# SPDX-License-Identifier: MIT
"""ctypes_norm.py - the installed C library called with ctypes alone.

    python ctypes_norm.py /usr/local/lib/libfastnorm.so

No NumPy, no compiler: a struct of the fields that are used and those before them.
``size`` tells the library where the struct ends; what would follow has its default.
"""

import ctypes
import ctypes.util
import sys
from math import sqrt

SIZE, POINTER, STRIDE = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_ssize_t


class Exec(ctypes.Structure):
    """fastnorm_exec"""

    _fields_ = (
        ("num_threads", ctypes.c_int),
        ("parallel_for", POINTER),
        ("context", POINTER),
        ("flush_denormals", ctypes.c_int),
        ("check_only", ctypes.c_int),
    )


class LayerNormArgs(ctypes.Structure):
    """fastnorm_layer_norm_args, as far as `exec`"""

    _fields_ = (
        ("size", SIZE),
        ("dtype", ctypes.c_int),
        ("x", POINTER),
        ("y", POINTER),
        ("weight", POINTER),
        ("bias", POINTER),
        ("mean", POINTER),
        ("rstd", POINTER),
        ("rows", SIZE),
        ("cols", SIZE),
        ("inner", SIZE),
        ("x_stride", STRIDE),
        ("y_stride", STRIDE),
        ("eps", ctypes.c_double),
        ("exec", Exec),
    )


def load(path: str | None) -> ctypes.CDLL:
    """The library, its functions declared."""
    path = path or ctypes.util.find_library("fastnorm")
    if path is None:
        raise SystemExit("libfastnorm is not installed: give its path")
    library = ctypes.CDLL(path)
    library.fastnorm_layer_norm.argtypes = [ctypes.POINTER(LayerNormArgs)]
    library.fastnorm_layer_norm.restype = ctypes.c_int
    library.fastnorm_strerror.argtypes = [ctypes.c_int]
    library.fastnorm_strerror.restype = ctypes.c_char_p
    library.fastnorm_version.restype = ctypes.c_char_p
    return library


def main() -> None:
    library = load(sys.argv[1] if len(sys.argv) > 1 else None)
    rows, cols = 4, 10
    values = [1e4 + (i * 7919) % 101 for i in range(rows * cols)]
    x = (ctypes.c_double * len(values))(*values)
    y = (ctypes.c_double * len(values))()
    args = LayerNormArgs(
        size=ctypes.sizeof(LayerNormArgs),
        dtype=2,  # FASTNORM_FLOAT64
        x=ctypes.addressof(x),
        y=ctypes.addressof(y),
        rows=rows,
        cols=cols,
    )
    status = library.fastnorm_layer_norm(ctypes.byref(args))
    if status != 0:
        raise SystemExit(library.fastnorm_strerror(status).decode())

    largest = 0.0
    for r in range(rows):
        row = values[r * cols : (r + 1) * cols]
        mean = sum(row) / cols
        rstd = 1 / sqrt(sum((v - mean) ** 2 for v in row) / cols + 1e-5)
        for i, v in enumerate(row):
            largest = max(largest, abs((v - mean) * rstd - y[r * cols + i]))
    version = library.fastnorm_version().decode()
    print(f"fastnorm {version}: differs by at most {largest:.1e}")
    if largest > 1e-12:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
