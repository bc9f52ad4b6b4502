# SPDX-License-Identifier: MIT
"""Turn the comments of include/fastnorm.h into the page of the C API.

    python tools/header_reference.py include/fastnorm.h      prints it, as MyST Markdown

The header's comments are plain ones, written to be read where they are, which the
documentation tools that read C pass over. What this relies on is the layout of the
header: a comment that begins in column 0 belongs to the declaration in the next line,
or, before an empty line, to its section; ``/* ---- Name ---- */`` begins a section.
What is laid out in another way is an error here.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

SECTION = re.compile(r"/\* -{4} (.+?) -+ \*/$")
MACRO = re.compile(r"#define (\w+)\s+(\S.*?)\s*(?:/\* (.*) \*/)?$")
BEGINS = re.compile(r"typedef (struct|enum) (\w+) \{$")
NAME = re.compile(r"\b(fastnorm_\w+(?:\(\))?|FASTNORM_[A-Z0-9_]+\b(?!\*))")
PAGE = re.compile(r"\b(docs/(\w+)\.md)")
CODE = re.compile(r"(`[^`]*`)")
SPECIAL = re.compile(r"([\\*_\[\]<>|{}#~])")


def items(header: str) -> Iterator[tuple[str, str]]:
    """What stands in column 0: ("section" or "comment" or "macro" ..., its text)."""
    lines = iter(header.splitlines())
    depth = 0  # of conditions whose contents are for the compiler alone
    for line in lines:
        if line.startswith("#if"):
            if depth or line != "#ifndef FASTNORM_H":
                depth += 1
        elif line.startswith("#endif"):
            depth = max(0, depth - 1)
        elif depth or line.startswith("#include") or line == "#define FASTNORM_H":
            continue
        elif not line:
            yield "end", ""
        elif found := SECTION.match(line):
            yield "section", found[1]
        elif line.startswith("/*"):
            yield "comment", gathered(line, lines, "*/")
        elif line.startswith("#define"):
            while line.endswith("\\"):
                line = line.removesuffix("\\") + next(lines).strip()
            yield "macro", line
        elif found := BEGINS.match(line):
            yield found[1], gathered(line, lines, f"}} {found[2]};")
        elif line.startswith("typedef"):
            yield "type", gathered(line, lines, ";")
        elif line.startswith("FASTNORM_API"):
            yield "function", gathered(line, lines, ";")
        else:
            raise SystemExit(f"fastnorm.h has a line that is nothing known: {line}")


def gathered(line: str, lines: Iterator[str], end: str) -> str:
    """A line and those that follow, to the one that ends so."""
    found = [line]
    while not found[-1].endswith(end):
        found.append(next(lines))
    return "\n".join(found)


def prose(comment: str) -> str:
    """The text of a comment as Markdown that says the same."""
    inner = comment.removeprefix("/*").removesuffix("*/")
    lines = [re.sub(r"^ \* ?", "", line).rstrip() for line in inner.splitlines()]
    lines[0] = lines[0].strip()
    result: list[str] = []
    in_code = False
    for line in lines:
        is_code = line.startswith("    ")
        if is_code != in_code and result and result[-1]:
            result.append("")  # Markdown wants it around code, people do not
        result.append(line if is_code else escaped(line))
        in_code = is_code or (in_code and not line)
    return "\n".join(result).strip("\n")


def escaped(line: str) -> str:
    bullet = "- " if line.startswith("- ") else ""
    parts = CODE.split(line.removeprefix(bullet))
    for i in range(0, len(parts), 2):
        between = NAME.split(parts[i])
        between[::2] = [SPECIAL.sub(r"\\\1", text) for text in between[::2]]
        between[1::2] = [f"`{name}`" for name in between[1::2]]
        parts[i] = PAGE.sub(r"[\1](\2.md)", "".join(between))
    return bullet + "".join(parts)


def declared(kind: str, text: str, comment: str) -> str:
    """A declaration with its comment, as a directive of Sphinx's domain of C."""
    if kind == "macro":
        found = MACRO.match(text)
        assert found is not None, text
        signature = found[1]
        body = f"{escaped(found[3] or '')}\n\n```c\n#define {found[1]} {found[2]}\n```"
    elif kind in ("struct", "enum"):
        signature = text.split()[2]
        body = f"```c\n{text}\n```"
    else:
        words = " ".join(text.split()).removesuffix(";").replace("( ", "(")
        signature = words.removeprefix("FASTNORM_API ").removeprefix("typedef ")
        body = ""
    said = prose(comment) if comment else ""
    return f"````{{c:{kind}}} {signature}\n{said}\n\n{body}\n````\n"


def page(header: str) -> str:
    """The whole page, but for its heading."""
    header = re.sub(r"\A/\* .*\n \* SPDX.*\n \*\n", "/*\n", header)
    result: list[str] = []
    comment = ""
    for kind, text in items(header):
        if kind in ("end", "section", "comment"):
            if comment:
                result.append(prose(comment) + "\n")
            comment = text if kind == "comment" else ""
            if kind == "section":
                result.append(f"## {text}\n")
        else:
            result.append(declared(kind, text, comment))
            comment = ""
    return "\n".join(result)


def enumerators(header: str) -> dict[str, str]:
    """The enum in which each of them is declared."""
    found = ((text.split()[2], text) for kind, text in items(header) if kind == "enum")
    constant = re.compile(r"^  (FASTNORM_\w+) =", re.M)
    return {name: enum for enum, text in found for name in constant.findall(text)}


if __name__ == "__main__":
    sys.stdout.write(page(Path(sys.argv[1]).read_text(encoding="utf-8")))
