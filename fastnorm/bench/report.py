"""What comes out: a document for machines, tables and a plot for people.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .errors import ErrorRow
from .loop import Result

OP_TEXT = {
    "layer_norm": "layer norm",
    "rms_norm": "RMS norm",
    "batch_norm": "batch norm",
    "batch_norm_training": "batch norm, training",
    "moments": "mean and variance",
}
_SHORT = {
    "layer_norm": "LN",
    "rms_norm": "RMS",
    "batch_norm": "BN",
    "batch_norm_training": "BN train",
    "moments": "moments",
}
_LEAST_WIDTH = 120  # what the table needs; a narrower terminal wraps its lines
_OURS, _FLOOR = "fastnorm", "copyto"


def timing_document(
    results: Sequence[Result], machine: dict[str, Any], settings: dict[str, Any]
) -> dict[str, Any]:
    """All figures as plain JSON values. An error that is not finite is "inf"."""
    return {
        "kind": "timings",
        "machine": machine,
        "settings": settings,
        "cases": [_case_document(result) for result in results],
    }


def _case_document(result: Result) -> dict[str, Any]:
    case = result.case
    bars = {
        "copy": case.bars.copy,
        "microseconds": case.bars.microseconds,
        "over": dict(case.bars.over),
    }
    return {
        "name": case.name,
        "op": case.op,
        "shape": list(case.shape),
        "shape_text": case.shape_text,
        "layout": case.layout,
        "out": case.out,
        "bars": {name: bar for name, bar in bars.items() if bar},
        "engines": {
            name: {
                "median_us": m.median_us,
                "copy_ratio": m.copy_ratio,
                "error": _json_error(m.error),
                "allocates": m.allocates,
            }
            for name, m in result.measurements.items()
        },
        "speedups": result.speedups,
        "losses": result.losses,
    }


def accuracy_document(
    rows: Sequence[ErrorRow], machine: dict[str, Any], settings: dict[str, Any]
) -> dict[str, Any]:
    """The error table as plain JSON values."""
    return {
        "kind": "accuracy",
        "machine": machine,
        "settings": settings,
        "rows": [
            {
                "op": row.op,
                "input": row.input,
                "errors": {name: _json_error(e) for name, e in row.errors.items()},
            }
            for row in rows
        ],
    }


def _json_error(error: float | None) -> float | str | None:
    return "inf" if error == math.inf else error


def time_text(microseconds: float) -> str:
    """Three significant digits, with separators: "0.412", "23.1", "8,120"."""
    if microseconds >= 100:
        return f"{microseconds:,.0f}"
    return f"{microseconds:.{1 if microseconds >= 10 else 2}f}"


def error_text(error: float | str | None) -> str:
    """Two digits, "0" for exact, "not finite" where that is what came out."""
    if error is None:
        return ""
    value = float(error)
    if value == 0:
        return "0"
    return f"{value:.1e}" if math.isfinite(value) else "not finite"


def speedup_text(document: dict[str, Any], peer: str) -> str:
    """How many times faster than `peer` a case is; "*" if that allocates."""
    speedup = document["speedups"].get(peer)
    if speedup is None:
        return ""
    star = "*" if document["engines"][peer]["allocates"] else ""
    return f"{ratio_text(speedup)}x{star}"


def ratio_text(ratio: float) -> str:
    """At least three significant digits: "0.93", "1.17", "12.3"."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}"


def shape_label(document: dict[str, Any]) -> str:
    """The shape, the layout unless that is plain rows, and "new" if it allocates."""
    shape: str = document["shape_text"]
    layout = "" if document["layout"] == "rows" else f" {document['layout']}"
    new = "" if document["out"] or document["op"] == "moments" else " new"
    return shape + layout + new


def peers_of(document: dict[str, Any]) -> list[str]:
    """The engines that fastnorm is compared with, in the order of the table."""
    names: dict[str, None] = {}
    for case in document["cases"]:
        names |= dict.fromkeys(case["engines"])
    return [name for name in names if name not in (_OURS, _FLOOR)]


def _console() -> Any:
    from rich.console import Console

    console = Console()
    return Console(width=max(console.width, _LEAST_WIDTH))


def _table(title: str, labels: Sequence[str], figures: Sequence[str]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for label in labels:
        table.add_column(label, no_wrap=True)
    for figure in figures:
        table.add_column(figure, justify="right", no_wrap=True)
    return table


def print_timings(document: dict[str, Any], foot: str) -> None:
    """The table on stdout, and every loss in a sentence below it."""
    peers = peers_of(document)
    table = _table(
        "fastnorm: time, ratio to np.copyto (bar), speed-up over each peer",
        ("work", "shape"),
        ("us", "x copyto", *peers, "error", ""),
    )
    previous = None
    for case in document["cases"]:
        if previous not in (None, case["op"]):
            table.add_section()
        previous = case["op"]
        ours = case["engines"][_OURS]
        bar = f" ({case['bars']['copy']:g})" if "copy" in case["bars"] else ""
        table.add_row(
            _SHORT[case["op"]],
            shape_label(case),
            time_text(ours["median_us"]),
            ratio_text(ours["copy_ratio"]) + bar,
            *(speedup_text(case, peer) for peer in peers),
            error_text(ours["error"]),
            "LOSS" if case["losses"] else "",
            style="red" if case["losses"] else None,
        )
    console = _console()
    console.print(table)
    console.print(foot, markup=False, highlight=False)
    console.print("LN, RMS, BN: into out=, but for those marked new", highlight=False)
    if any(m["allocates"] for c in document["cases"] for m in c["engines"].values()):
        console.print("* makes a new array, for want of an out=")
    lost = [case for case in document["cases"] if case["losses"]]
    console.print(f"{len(lost)} of {len(document['cases'])} cases lost")
    for case in lost:
        line = f"  LOSS {case['name']}: {'; '.join(case['losses'])}"
        console.print(line, soft_wrap=True, highlight=False)


def print_accuracy(document: dict[str, Any], foot: str) -> None:
    """The error table on stdout."""
    names = list(dict.fromkeys(n for row in document["rows"] for n in row["errors"]))
    table = _table("largest error, relative to max(1, |y|)", ("work", "input"), names)
    previous = None
    for row in document["rows"]:
        if previous not in (None, row["op"]):
            table.add_section()
        previous = row["op"]
        errors = (error_text(row["errors"].get(name)) for name in names)
        table.add_row(OP_TEXT[row["op"]], row["input"], *errors)
    console = _console()
    console.print(table)
    console.print(foot, markup=False, highlight=False)
