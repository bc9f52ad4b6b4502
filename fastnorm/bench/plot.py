"""The plot: every engine's time over np.copyto's, case by case.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

from typing import Any

from .report import OP_TEXT, peers_of, ratio_text

_COLORS = ("#1b6ca8", "#b0b0b0", "#d9822b", "#5a9e6f", "#8d6ab8", "#c05a7a", "#7a6a4f")
_BAR_INCHES = 0.12
_CASE_GAP_INCHES = 0.14
_PANEL_INCHES = 0.75  # title and axis of one panel
_OUTPUTS = ((True, "out= given"), (False, "new output"))


def save_plot(document: dict[str, Any], path: str, foot: str) -> None:
    """Write the picture; the ending of `path` chooses the format.

    One panel per operation, on the left the cases with out=, on the right those that
    allocate. One bar per engine; the line at 1 is the copy.

    Raises
    ------
    ValueError
        If the ending is not one of a picture that matplotlib writes.
    OSError
        If the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    engines = ["fastnorm", *peers_of(document)]
    panels: dict[str, dict[bool, list[dict[str, Any]]]] = {}
    for case in document["cases"]:
        panel = panels.setdefault(case["op"], {True: [], False: []})
        panel[case["out"]].append(case)
    heights = [
        _PANEL_INCHES
        + max(map(len, panel.values()))
        * (_most_bars(panel) * _BAR_INCHES + _CASE_GAP_INCHES)
        for panel in panels.values()
    ]
    figure = Figure(figsize=(13, sum(heights) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 2, squeeze=False, height_ratios=heights)
    span = _span(document)
    for row, (op, panel) in enumerate(panels.items()):
        for column, (out, text) in enumerate(_OUTPUTS):
            place = axes[row][column]
            if not panel[out]:
                place.set_axis_off()
                continue
            _panel(place, panel[out], engines, span)
            # downwards, and as many places as the longer of the two columns has
            place.set_ylim(max(map(len, panel.values())) - 0.4, -0.6)
            place.set_title(f"{OP_TEXT[op]}, {text}", fontsize=9, loc="left")
    handles = [_handle(name, engines) for name in engines]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(engines))
    figure.supxlabel(
        f"time / np.copyto (log axis, shorter is better)\n{foot}", fontsize=8
    )
    figure.savefig(path, dpi=110)


def _most_bars(panel: dict[bool, list[dict[str, Any]]]) -> int:
    """How many bars the case with the most has, without that of the copy."""
    return max(len(case["engines"]) - 1 for cases in panel.values() for case in cases)


def _color(name: str, engines: list[str]) -> str:
    return _COLORS[engines.index(name) % len(_COLORS)]


def _handle(name: str, engines: list[str]) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=_color(name, engines), label=name)


def _span(document: dict[str, Any]) -> tuple[float, float]:
    """The same axis for all panels, so that bars can be compared across them."""
    ratios = [m["copy_ratio"] for c in document["cases"] for m in c["engines"].values()]
    return min(*ratios, 1.0) / 1.3, max(ratios) * 1.8


def _panel(
    axes: Any,
    cases: list[dict[str, Any]],
    engines: list[str],
    span: tuple[float, float],
) -> None:
    left = span[0]
    most = max(len(case["engines"]) - 1 for case in cases)
    for index, case in enumerate(cases):
        present = [name for name in engines if name in case["engines"]]
        for place, name in enumerate(present):
            ratio = case["engines"][name]["copy_ratio"]
            height = 0.85 / most
            y = index + height * (place + 0.5 - len(present) / 2)
            axes.barh(y, ratio - left, height, left, color=_color(name, engines))
            axes.text(ratio, y, f" {ratio_text(ratio)}", va="center", fontsize=6.5)
    labels = [_label(case) for case in cases]
    axes.set_yticks(range(len(cases)), labels, fontsize=7)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(*span)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="x", linewidth=0.3)
    axes.set_axisbelow(True)


def _label(case: dict[str, Any]) -> str:
    layout = "" if case["layout"] == "rows" else case["layout"]
    second = f"{layout} {case['detail']}".strip()
    return "\n".join(line for line in (case["shape_text"], second) if line)
