# SPDX-License-Identifier: MIT
"""fastnorm.__main__ - ``python -m fastnorm`` is ``fastnorm``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
