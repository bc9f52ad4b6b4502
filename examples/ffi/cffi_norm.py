# SPDX-License-Identifier: MIT
"""cffi_norm.py - the installed C library called with cffi, declared by its own header.

    python cffi_norm.py /usr/local/lib/libfastnorm.so /usr/local/include/fastnorm.h

cffi reads C declarations, but no preprocessor's: the C compiler's takes the header
apart first, so that nothing has to be written a second time.
"""

import subprocess
import sys
from math import sqrt

import cffi


def declarations(header: str) -> str:
    """What fastnorm.h declares, without the system's headers."""
    # __GNUC__ undefined: no attributes, which cffi does not read.
    command = ["cc", "-E", "-P", "-U__GNUC__", "-DFASTNORM_API=", "-"]
    with open(header, encoding="utf-8") as file:  # noqa: PTH123
        lines = [line for line in file if not line.startswith("#include")]
    done = subprocess.run(
        command, input="".join(lines), capture_output=True, text=True, check=True
    )
    return done.stdout


def main() -> None:
    path, header = sys.argv[1:]
    ffi = cffi.FFI()
    ffi.cdef(declarations(header))
    library = ffi.dlopen(path)

    rows, cols = 3, 64
    values = [5.0 + (i * 7919) % 101 / 10 for i in range(rows * cols)]
    x, y = ffi.new("float[]", values), ffi.new("float[]", rows * cols)
    args = ffi.new("fastnorm_rms_norm_args *")  # zeros: everything has its default
    args.size = ffi.sizeof("fastnorm_rms_norm_args")
    args.x, args.y, args.rows, args.cols = x, y, rows, cols
    args.epilogue.activation = library.FASTNORM_RELU
    status = library.fastnorm_rms_norm(args)
    if status != library.FASTNORM_OK:
        raise SystemExit(ffi.string(library.fastnorm_strerror(status)).decode())

    largest = 0.0
    for r in range(rows):
        row = list(x[r * cols : (r + 1) * cols])
        rstd = 1 / sqrt(sum(v * v for v in row) / cols + 2**-23)
        for i, v in enumerate(row):
            largest = max(largest, abs(max(v * rstd, 0.0) - y[r * cols + i]))
    print(f"differs by at most {largest:.1e}")
    if largest > 1e-6:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
