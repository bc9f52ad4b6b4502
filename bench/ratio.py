"""ratio - fastnorm's time over np.copyto's for a few cases, while working on a kernel.

SPDX-License-Identifier: MIT

    python bench/ratio.py 'layer_norm 128x768 .* out' [rounds] [threads]

The same loop and cases as `fastnorm bench`, with no other engine and no table.
"""

import sys
from dataclasses import replace

from fastnorm.bench.cases import select_cases
from fastnorm.bench.engine_fastnorm import FASTNORM
from fastnorm.bench.loop import FULL, run
from fastnorm.bench.report import error_text


def main(pattern: str, rounds: str = "31", threads: str = "1") -> None:
    """Print one line per case: time, ratio, bar, error."""
    effort = replace(FULL, rounds=int(rounds))
    for result in run(
        select_cases(pattern, False), [FASTNORM], effort, threads=int(threads)
    ):
        ours = result.measurements[FASTNORM.name]
        bar = result.case.bars.copy
        plain = result.plain_ratio
        print(
            f"{result.case.name:42} {ours.median_us:10.2f} us {ours.copy_ratio:7.3f} x "
            f"{f'(bar {bar:g})' if bar else '':11}"
            f"{f' {plain:.3f} x plain' if plain else ''}"
            f" error {error_text(ours.error, result.case.error_unit)}"
            f" {'LOSS' if result.losses else ''}",
            flush=True,
        )


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
