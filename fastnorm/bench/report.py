"""What comes out: a document for machines, tables and a plot for people.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .cases import GRADIENTS
from .errors import ErrorRow
from .loop import Result

OP_TEXT = {
    "layer_norm": "layer norm",
    "rms_norm": "RMS norm",
    "layer_norm_residual": "layer norm of a sum",
    "rms_norm_residual": "RMS norm of a sum",
    "layer_norm_16bit": "layer norm, 16-bit",
    "layer_norm_int8": "layer norm to int8",
    "layer_norm_activation": "layer norm, activation",
    "layer_norm_subnormal": "layer norm of subnormals",
    "batch_norm": "batch norm",
    "batch_norm_training": "batch norm, training",
    "batch_norm_add_relu": "batch norm, sum, ReLU",
    "batch_norm_masked": "batch norm of a part, training",
    "group_norm": "group norm",
    "instance_norm": "instance norm",
    "normalize_image": "images",
    "l2_norm": "L2 norm",
    "l1_norm": "L1 norm",
    "moments": "mean and variance",
    "running_moments": "running moments",
    "running_moments_bytes": "running moments of bytes",
    "batch_renorm": "batch renormalization",
    "weight_norm": "weight norm",
    "scaler_fit": "table scaler, fit",
    "scaler_transform": "table scaler, transform",
}
_SHORT = {
    "layer_norm": "LN",
    "rms_norm": "RMS",
    "layer_norm_residual": "LN sum",
    "rms_norm_residual": "RMS sum",
    "layer_norm_16bit": "LN",
    "layer_norm_int8": "LN int8",
    "layer_norm_activation": "LN",
    "layer_norm_subnormal": "LN tiny",
    "batch_norm": "BN",
    "batch_norm_training": "BN train",
    "batch_norm_add_relu": "BN+ReLU",
    "batch_norm_masked": "BN part",
    "group_norm": "GN",
    "instance_norm": "IN",
    "normalize_image": "image",
    "l2_norm": "L2",
    "l1_norm": "L1",
    "moments": "moments",
    "running_moments": "running",
    "running_moments_bytes": "bytes",
    "batch_renorm": "renorm",
    "weight_norm": "WN",
    "scaler_fit": "fit",
    "scaler_transform": "scale",
}
for _gradient in GRADIENTS:
    _norm = _gradient.removesuffix("_backward")
    OP_TEXT[_gradient] = f"{OP_TEXT[_norm]}, gradient"
    _SHORT[_gradient] = f"{_SHORT[_norm]} grad"
_LEAST_WIDTH = 152  # what the table needs; a narrower terminal wraps its lines
_OURS, _FLOOR = "fastnorm", "copyto"
_SELDOM = 0.2  # peers in a smaller part of the cases than this share a column


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
        "plain": case.bars.plain,
        "over": dict(case.bars.over),
    }
    return {
        "name": case.name,
        "op": case.op,
        "shape": list(case.shape),
        "shape_text": case.shape_text,
        "layout": case.layout,
        "out": case.out,
        "detail": case.detail,
        "plain": case.plain.name if case.plain else None,
        "plain_ratio": result.plain_ratio,
        "error_unit": case.error_unit,
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


def error_text(error: float | str | None, unit: str = "") -> str:
    """Two digits, "0" for exact, "not finite" where that is what came out."""
    if error is None:
        return ""
    value = float(error)
    if not math.isfinite(value):
        return "not finite"
    if unit:
        return f"{value:.2f} {unit}"
    return f"{value:.1e}" if value else "0"


def plain_text(document: dict[str, Any]) -> str:
    """The ratio to the plain case, and its bar, such as "0.61 (0.65)"; often none."""
    ratio = document.get("plain_ratio")
    if ratio is None:
        return ""
    bar = document["bars"].get("plain")
    return ratio_text(ratio) + (f" ({bar:g})" if bar else "")


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


def others_text(document: dict[str, Any], peers: Sequence[str]) -> list[str]:
    """How many times faster than each of those a case is, with their names."""
    texts = [(peer, speedup_text(document, peer)) for peer in peers]
    return [f"{peer} {text}" for peer, text in texts if text]


def shape_label(document: dict[str, Any]) -> str:
    """The shape, the layout unless that is plain rows, and "new" if it allocates."""
    words = [document["shape_text"]]
    if document["layout"] != "rows":
        words.append(document["layout"])
    if document.get("detail"):
        words.append(document["detail"])
    if not document["out"] and "moments" not in document["op"]:
        words.append("new")
    return " ".join(words)


def peers_of(document: dict[str, Any]) -> list[str]:
    """The engines that fastnorm is compared with, in the order of the table."""
    names: dict[str, None] = {}
    for case in document["cases"]:
        names |= dict.fromkeys(case["engines"])
    return [name for name in names if name not in (_OURS, _FLOOR)]


def columns_of(document: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The peers, in the same order: with a column of their own, and without one."""
    cases = document["cases"]
    own: list[str] = []
    others: list[str] = []
    for peer in peers_of(document):
        part = sum(peer in case["engines"] for case in cases) / len(cases)
        (others if part < _SELDOM else own).append(peer)
    return own, others


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
    peers, others = columns_of(document)
    table = _table(
        "fastnorm: time, ratio to np.copyto (bar), speed-up over each peer",
        ("work", "shape"),
        ("us", "x copyto", "x plain", *peers, *_others(others), "error", ""),
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
            plain_text(case),
            *(speedup_text(case, peer) for peer in peers),
            *("\n".join(others_text(case, others)) for _ in _others(others)),
            error_text(ours["error"], case["error_unit"]),
            "LOSS" if case["losses"] else "",
            style="red" if case["losses"] else None,
        )
    console = _console()
    console.print(table)
    console.print(foot, markup=False, highlight=False)
    console.print("into out=, but for moments and those marked new", highlight=False)
    if any(case["plain"] for case in document["cases"]):
        line = "x plain: time over that of layer norm of the shape in plain float32"
        console.print(line, highlight=False)
    if any(m["allocates"] for c in document["cases"] for m in c["engines"].values()):
        console.print("* makes a new array, for want of an out=")
    lost = [case for case in document["cases"] if case["losses"]]
    console.print(f"{len(lost)} of {len(document['cases'])} cases lost")
    for case in lost:
        line = f"  LOSS {case['name']}: {'; '.join(case['losses'])}"
        console.print(line, soft_wrap=True, highlight=False)


def _others(peers: Sequence[str]) -> list[str]:
    """The heading of the column that peers share, if there are any."""
    return ["others"] if peers else []


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
