# setup.py - builds the one extension from the Cython binding and the C core.
# SPDX-License-Identifier: MIT
"""What pyproject.toml cannot say: the extension, the header's copy, the version."""

import functools
import os
import platform
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from typing import Any

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

HEADER = os.path.join("include", "fastnorm.h")


def version() -> str:
    """The version that the C header states; it is stated nowhere else."""
    with open(HEADER, encoding="utf-8") as file:
        found = re.search(r'#define FASTNORM_VERSION_STRING "([^"]+)"', file.read())
    if found is None:
        raise SystemExit(f"{HEADER} does not state FASTNORM_VERSION_STRING")
    return found[1]


class BuildPy(build_py):
    """Puts the C header into the package, where fastnorm.get_include() finds it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = os.path.join(self.build_lib, "fastnorm", "include")
            self.mkpath(target)
            shutil.copy2(HEADER, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        header = os.path.join(self.build_lib, "fastnorm", HEADER)
        return [*super().get_outputs(include_bytecode), header]


class BuildExt(build_ext):
    """Compiles the C files of the extension in parallel."""

    def build_extension(self, ext: Extension) -> None:
        compile_all = self.compiler.compile

        @functools.cache
        def takes(flag: str) -> bool:
            """Whether this compiler has the flag: not all are GCC."""
            with tempfile.TemporaryDirectory() as folder:
                source = os.path.join(folder, "empty.c")
                with open(source, "w", encoding="utf-8") as file:
                    file.write("typedef int empty;\n")
                try:
                    compile_all(
                        [source], output_dir=folder, extra_postargs=["-Werror", flag]
                    )
                except CompileError:
                    return False
            return True

        def compile_one(source: str, options: dict[str, Any]) -> list[str]:
            flags = list(options["extra_postargs"])
            flags += [flag for flag in smaller(os.path.basename(source)) if takes(flag)]
            options = {**options, "extra_postargs": flags}
            return compile_all([source], **options)

        def compile_parallel(sources: list[str], **options: Any) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                parts = pool.map(lambda one: compile_one(one, options), sources)
                return [name for part in parts for name in part]

        self.compiler.compile = compile_parallel
        super().build_extension(ext)


def smaller(source: str) -> list[str]:
    """Flags after -O3 that keep an installation small (-O3 alone: 1.3 MB more)."""
    # Nothing is ever unwound through C that throws nothing.
    flags = ["-fno-align-functions", "-fno-align-jumps", "-fno-align-labels"]
    flags += ["-fno-asynchronous-unwind-tables"]
    if source.startswith("isa_"):
        # Their short loops say FN_UNROLL. On x86 the portable one's time goes to calls
        # of fma().
        on_x86 = platform.machine() in ("x86_64", "AMD64", "i686")
        level = "-Os" if on_x86 and source == "isa_portable.c" else "-O2"
        return [*flags, level]
    flags += ["-fno-align-loops"]
    if source == "_core.c":
        # always_inline, or else a Py_DECREF would be a call: 0.87 us for layer norm of
        # a row of 768 where this takes 0.61, and -O2 takes 0.57 and 180 KB.
        flags += ["-Os", "-Dinline=inline __attribute__((always_inline))"]
    elif source == "masked.c" or any(
        word in source for word in ("slow", "care", "running_moments")
    ):
        # What hostile data need, and the arguments of masks and of a state.
        flags += ["-Os"]
    else:
        # -Os saves 40 KB, and costs batch norm with lengths a half of its speed.
        flags += ["-O2", "-fvect-cost-model=dynamic"]
    return flags


link_args = []
if sys.platform == "linux":
    # No symbol table: a third of the size. Our calls are bound to our own functions,
    # whatever else in the process exports the same names.
    link_args = ["-Wl,--strip-all", "-Wl,-Bsymbolic", "-Wl,-z,noseparate-code"]

core = Extension(
    "fastnorm._core",
    sources=["fastnorm/_core.pyx", *sorted(glob("src/*.c"))],
    include_dirs=["include", "src", np.get_include()],
    depends=[HEADER, *glob("src/**/*.h", recursive=True), *glob("fastnorm/*.pxi")],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_25_API_VERSION")],
    # Contraction off: results must have the same bits with every compiler.
    extra_compile_args=["-O3", "-ffp-contract=off", "-fvisibility=hidden", "-pthread"],
    extra_link_args=["-pthread", *link_args],
)

setup(
    version=version(),
    ext_modules=cythonize([core], build_dir="build/cython"),
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy},
)
