# threadpoolctl.py - lets threadpoolctl see and limit fastnorm's threads.
# SPDX-License-Identifier: MIT
"""A threadpoolctl controller, for programs that limit all their libraries at once.

Examples
--------
>>> import fastnorm.interop.threadpoolctl
>>> from threadpoolctl import threadpool_limits
>>> fastnorm.interop.threadpoolctl.register()
>>> with threadpool_limits(limits=1, user_api="fastnorm"):
...     fastnorm.get_num_threads()
1
"""

from __future__ import annotations

import threadpoolctl

import fastnorm

__all__ = ["FastnormController", "register"]


class FastnormController(threadpoolctl.LibController):
    """Reads and sets the process-wide number of threads of fastnorm.

    threadpoolctl finds libraries by file name. Other packages have a ``_core`` as well,
    so a library also has to export fastnorm's own symbol.
    """

    user_api = "fastnorm"
    internal_api = "fastnorm"
    filename_prefixes = ("_core.",)
    check_symbols = ("fastnorm_get_num_threads",)

    def get_num_threads(self) -> int:
        """Return how many threads a call may use."""
        return fastnorm.get_num_threads()

    def set_num_threads(self, num_threads: int) -> None:
        """Set how many threads a call may use, for the whole process."""
        fastnorm.set_num_threads(num_threads)

    def get_version(self) -> str:
        """Return the version of fastnorm."""
        return fastnorm.__version__

    def set_additional_attributes(self) -> None:
        """Show the instruction set as OpenBLAS does its architecture."""
        self.architecture = fastnorm.show_config(mode="dicts")["isa"]


_registered = False


def register() -> None:
    """Make fastnorm known to threadpoolctl, for the rest of the process.

    Calling it again does nothing. ``threadpoolctl.threadpool_limits`` and
    ``threadpool_info`` then include fastnorm, under the ``user_api`` ``"fastnorm"``.
    """
    global _registered
    if not _registered:
        threadpoolctl.register(FastnormController)
        _registered = True
