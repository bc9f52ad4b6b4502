# SPDX-License-Identifier: MIT
"""fastnorm.__main__ - where the command line starts, with or without its packages."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``fastnorm`` with these arguments (default ``sys.argv``).

    Returns
    -------
    int
        The exit status: 0, 2 for a mistake of the user's, 130 or 143 if interrupted.
    """
    try:
        from .cli import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("click", "rich"):
            raise
        print(
            f"fastnorm: the command line needs {error.name}, "
            "install it with: pip install 'fastnorm[cli]'",
            file=sys.stderr,
        )
        return 2
    return run(sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
