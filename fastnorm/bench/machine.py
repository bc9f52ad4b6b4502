"""Where the figures come from: machine, instruction set and versions.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "numpy",
    "torch",
    "onnxruntime",
    "scikit-learn",
    "opencv-python",
    "opencv-python-headless",
    "albucore",
    "numba",
)


def describe() -> dict[str, Any]:
    """What a reader needs to compare figures with those of another machine."""
    import fastnorm

    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": _cpu_model(),
        "cpus": _usable_cpus(),
        "caches": _caches(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "isa": fastnorm.isa(),
        "versions": {"fastnorm": fastnorm.__version__, **_versions()},
    }


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _caches() -> dict[str, str]:
    """Sizes of the first CPU's data caches, such as {"L2": "1024K"}; Linux only."""
    sizes = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind = (index / "type").read_text().strip()
            level = (index / "level").read_text().strip()
            size = (index / "size").read_text().strip()
        except OSError:
            continue
        if kind != "Instruction":
            sizes[f"L{level}"] = size
    return sizes


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def one_line(machine: dict[str, Any]) -> str:
    """The description in a line, for the foot of a table."""
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    versions = ", ".join(f"{n} {v}" for n, v in machine["versions"].items())
    place = machine["cpu"] + (f" ({caches})" if caches else "")
    return f"{place}, {machine['isa']}; {versions}; {machine['date']}"
