"""readme_table - the figures of the README, from what `fastnorm bench --json` wrote.

SPDX-License-Identifier: MIT

    fastnorm bench --json bench/results.json
    python bench/readme_table.py bench/results.json README.md

Replaces what is between the two markers. With --check it writes nothing, and fails if
the README is not what it would have written.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from fastnorm.bench.machine import one_line
from fastnorm.bench.report import (
    OP_TEXT,
    columns_of,
    error_text,
    others_text,
    plain_text,
    ratio_text,
    shape_label,
    speedup_text,
    time_text,
)

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def table(document: dict[str, Any]) -> str:
    """The Markdown: cases with out= (moments: all), then what was lost, and where.

    One table. A line that names the operation stands above its cases.
    """
    peers, others = columns_of(document)
    heads = ["work", "µs", "x copy", "bar", "x plain (bar)"]
    heads += [f"over {peer}" for peer in peers] + ["over others"] * bool(others)
    heads.append("error")
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    groups: dict[str, list[dict[str, Any]]] = {}
    for case in document["cases"]:
        if case["out"] or case["op"] == "moments":
            groups.setdefault(case["op"], []).append(case)
    for op, cases in groups.items():
        lines.append(f"| *{OP_TEXT[op]}* |" + " |" * (len(heads) - 1))
        lines += [f"| {' | '.join(_cells(case, peers, others))} |" for case in cases]
    return "\n".join([*lines, "", *_notes(document)])


def _cells(case: dict[str, Any], peers: list[str], others: list[str]) -> list[str]:
    ours = case["engines"]["fastnorm"]
    label = shape_label(case)
    over = [speedup_text(case, peer) for peer in peers]
    if others:
        over.append(", ".join(others_text(case, others)))
    return [
        f"**{label}**" if case["losses"] else label,
        time_text(ours["median_us"]),
        ratio_text(ours["copy_ratio"]),
        f"{case['bars']['copy']:g}" if "copy" in case["bars"] else "",
        plain_text(case),
        *(text.replace("*", "\\*") for text in over),
        error_text(ours["error"], case.get("error_unit", "")),
    ]


def _notes(document: dict[str, Any]) -> list[str]:
    settings = document["settings"]
    lost = [case for case in document["cases"] if case["losses"]]
    notes = f"""\
Times are medians; "over" is how many times faster than that engine. Results go to
`out=`, but for losses named "new"; engines marked \\* have none, and allocate. numba is
fastnorm's own other backend, `fastnorm.jit`. "x plain" is the time over that of layer
norm of the same shape in float32 with nothing added. Error: largest, relative to
max(1, |y|), against extended precision: where weight and bias cancel more than the 4e-7
of docs/numerics.md, which are relative to what cancels; of 16-bit results in units in
the last place, of int8 results in steps.

{one_line(document["machine"])}; {settings["dtype"]}, threads: {settings["threads"]},
{settings["rounds"]} rounds.
""".splitlines()
    notes.append("")
    if not lost:
        notes.append(f"No losses in {len(document['cases'])} cases.")
        return notes
    notes.append(f"Losses (bold above), {len(lost)} of {len(document['cases'])} cases:")
    notes.append("")
    for case in lost:
        label = f"{OP_TEXT[case['op']]} {shape_label(case)}"
        notes.append(f"- {label}: {'; '.join(case['losses'])}")
    return notes


def insert(readme: str, text: str) -> str:
    """The README with `text` between its markers.

    Raises
    ------
    ValueError
        If the markers are not there once each, in order.
    """
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in tail:
        raise ValueError(f"readme_table: needs one {BEGIN} and one {END} after it")
    return f"{head}{BEGIN}\n{text}\n{END}{tail}"


def main(arguments: list[str]) -> int:
    """Run the program; 1 if --check finds the README out of date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("readme", type=Path)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args(arguments)
    document = json.loads(given.results.read_text(encoding="utf-8"))
    if document.get("kind") != "timings":
        parser.error(f"{given.results} does not hold timings")
    before = given.readme.read_text(encoding="utf-8")
    try:
        after = insert(before, table(document))
    except ValueError as error:
        parser.error(str(error))
    if given.check:
        if after != before:
            print(f"{given.readme} is not what {given.results} gives", file=sys.stderr)
        return int(after != before)
    given.readme.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
