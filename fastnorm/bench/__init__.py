"""fastnorm.bench - how fast and how exact fastnorm is here, beside its peers.

SPDX-License-Identifier: MIT

`main` is what `fastnorm bench` runs. The tables are in cases.py and engines.py, the one
loop in loop.py; the pytest benchmarks use the same tables.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import machine, report
from .cases import CASES, Case, select_cases
from .engine import Engine, Job
from .engines import ENGINE_NAMES, ENGINES, FLOOR, select_engines
from .errors import hostile_cases, run_accuracy
from .loop import FULL, QUICK, Result, measure, run, sessions

__all__ = [
    "CASES",
    "ENGINES",
    "ENGINE_NAMES",
    "FLOOR",
    "Case",
    "Engine",
    "Job",
    "Result",
    "main",
    "measure",
    "run",
    "sessions",
]


def main(
    *,
    quick: bool = False,
    json_path: str | None = None,
    plot: str | None = None,
    case: str | None = None,
    engines: Sequence[str] = (),
    threads: int = 1,
    rounds: int | None = None,
    accuracy: bool = False,
    dtype: str = "float32",
) -> None:
    """Run the benchmark and report it: a table on stdout, JSON, a plot.

    Parameters
    ----------
    quick : bool
        Fewer and shorter samples, and only part of the cases.
    json_path : str, optional
        Where the figures go as JSON; "-" is stdout, in place of the table.
    plot : str, optional
        Where a picture of the ratios goes (needs matplotlib).
    case : str, optional
        A regular expression: only the cases whose name it is found in.
    engines : sequence of str
        The peers to run beside fastnorm and np.copyto; all installed ones if empty.
    threads : int
        How many threads every engine may use.
    rounds : int, optional
        How many rounds of samples; more than `quick` or the usual run would take.
    accuracy : bool
        Print the errors on hostile input instead of timing. `case` is then matched
        against "op: input", such as "layer_norm: 1e4 + N(0,1)".
    dtype : {"float32", "float64"}
        The type of all arrays. Bars are for float32 on one thread only.

    Raises
    ------
    ValueError
        If an argument makes no sense, or names what is not installed.
    OSError
        If a file cannot be written.
    """
    _check(json_path, plot, threads, rounds, accuracy, dtype)
    chosen = select_engines(engines)
    about = machine.describe()
    foot = machine.one_line(about)
    settings: dict[str, Any] = {"dtype": dtype, "threads": threads}
    if accuracy:
        document = _errors(chosen, case, about, settings)
        show = report.print_accuracy
    else:
        effort = QUICK if quick else FULL
        if rounds is not None:
            effort = replace(effort, rounds=rounds)
        settings |= {
            "quick": quick,
            "rounds": effort.rounds,
            "sample_seconds": effort.sample_seconds,
            "warm_seconds": effort.warm_seconds,
        }
        cases = select_cases(case, quick, dtype)
        results = []
        with _progress(len(cases)) as advance:
            for result in run(cases, chosen, effort, threads=threads, dtype=dtype):
                results.append(result)
                advance(result.case.name)
        document = report.timing_document(results, about, settings)
        show = report.print_timings
    if json_path is not None:
        _write_json(document, json_path)
    if json_path != "-":
        show(document, f"{foot}; {dtype}, threads: {threads}")
    if plot is not None:
        from .plot import save_plot

        save_plot(document, plot, f"{foot}; {dtype}, threads: {threads}")


def _check(
    json_path: str | None,
    plot: str | None,
    threads: int,
    rounds: int | None,
    accuracy: bool,
    dtype: str,
) -> None:
    """Refuse now what would otherwise fail after minutes of measuring."""
    if threads < 1:
        raise ValueError(f"bench: threads is {threads}, it must be at least 1")
    if rounds is not None and rounds < 1:
        raise ValueError(f"bench: rounds is {rounds}, it must be at least 1")
    if dtype not in ("float32", "float64"):
        raise ValueError(f"bench: dtype is {dtype!r}, it must be float32 or float64")
    if json_path != "-" and importlib.util.find_spec("rich") is None:
        raise ValueError("bench: the table needs rich to be installed; --json does not")
    if plot is not None:
        if accuracy:
            raise ValueError("bench: there is no plot of the accuracy table")
        if importlib.util.find_spec("matplotlib") is None:
            raise ValueError("bench: the plot needs matplotlib to be installed")
        from matplotlib.backend_bases import FigureCanvasBase

        endings = FigureCanvasBase.get_supported_filetypes()
        if Path(plot).suffix.removeprefix(".").lower() not in endings:
            raise ValueError(
                f"bench: plot {plot!r} ends with none of {', '.join(sorted(endings))}"
            )
    for path in (json_path, plot):
        if path not in (None, "-"):
            existed = Path(path).exists()
            with Path(path).open("ab"):
                pass
            if not existed:
                Path(path).unlink()


def _errors(
    engines: list[Engine],
    pattern: str | None,
    about: dict[str, Any],
    settings: dict[str, Any],
) -> dict[str, Any]:
    pairs = hostile_cases(pattern)
    rows = []
    with _progress(len(pairs)) as advance, sessions(engines, settings["threads"]):
        for row in run_accuracy(pairs, engines, settings["dtype"]):
            rows.append(row)
            advance(f"{row.op}: {row.input}")
    return report.accuracy_document(rows, about, settings)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr if that is a terminal; redrawn only between two cases.

    A bar that redraws itself would do so from a thread, in the middle of a sample.
    """
    if not sys.stderr.isatty() or importlib.util.find_spec("rich") is None:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("starting", total=total)
        bar.refresh()

        def advance(text: str) -> None:
            bar.update(task, advance=1, description=text)
            bar.refresh()

        yield advance


def _write_json(document: dict[str, Any], path: str) -> None:
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        Path(path).write_text(text, encoding="utf-8")
