# SPDX-License-Identifier: MIT
"""fastnorm.cli - where the command line starts, with or without its packages.

The commands are in fastnorm.commands, which needs them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``fastnorm`` with these arguments (default ``sys.argv``).

    Returns
    -------
    int
        The exit status: 0, 2 for a mistake of the user's, 128 + n for signal n.
    """
    try:
        from .commands import app
        from .terminal import run_command
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("click", "rich"):
            raise
        print(
            f"fastnorm: the command line needs {package}, "
            "install it with: pip install 'fastnorm[cli]'",
            file=sys.stderr,
        )
        return 2
    return run_command(app, sys.argv[1:] if arguments is None else arguments)
