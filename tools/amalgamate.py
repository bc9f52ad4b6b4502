# SPDX-License-Identifier: MIT
"""Put the whole C library into one file, for programs that take it in with theirs.

    python tools/amalgamate.py DIR      writes DIR/fastnorm.c and DIR/fastnorm.h

The file is the sources one after another, their headers before them. What only one of
them should see stays its own: functions that they share become static, so that nothing
but fastnorm_ is seen outside, and names that two files use for different things get the
file's name as a suffix. What is found where relies on the layout of the sources, in
which definitions begin in column 0; what is not found does not compile.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"

BEGINNING = """\
/* fastnorm.c - the whole library in one file: see fastnorm.h.
 * SPDX-License-Identifier: MIT
 *
 * Made by tools/amalgamate.py from the sources of fastnorm; change those. */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* for threads.c and workers.c */
#endif
"""

INCLUDE = re.compile(r'^#include "(.*?)".*\n', re.M)
GUARD = re.compile(r"^#ifndef (\w+_H)\n#define \1\n", re.M)

# What is defined at the beginning of a line.
DEFINITIONS = [
    re.compile(r"^(?:static|FN_WORD)\b[^;=({]*?\b(\w+)\(", re.M),
    re.compile(r"^static [^;({]*?\b(\w+)(?:\[[^\]]*\])*(?: =|;)", re.M),
    re.compile(r"^typedef [^;({]*?\b(\w+)(?:\[[^\]]*\])*(?:;|\()", re.M),
    re.compile(r"^(?:typedef )?(?:struct|enum|union) (\w+) \{", re.M),
    re.compile(r"^} (\w+);", re.M),
]
CONSTANTS = re.compile(r"^(?:typedef )?enum(?: \w+)? \{(.*?)\}", re.M | re.S)
MACRO = re.compile(r"^#define (\w+)", re.M)
# Words of the vector vocabulary: with their type, and where a macro puts one before it.
TYPES = ("f32", "f64", "one", "u8", "u16", "wide")
WORD = re.compile(rf"\b(?:{'|'.join(TYPES)})_\w+|\bstream_end\b")
PASTED_WORD = re.compile(r"##_([a-z]\w*)|\b[VL]\(([a-z]\w*)\)")

SHARED = re.compile(r"^((?!static\b|typedef\b|FN_WORD\b|return\b)\w[\w *]*?[ \n*])"
                    r"(fn_\w+\()", re.M)  # fmt: skip
SHARED_TABLE = re.compile(r"^(?:extern )?(const fn_isa fn_isa_\w+)", re.M)


def find(name: str, of: Path) -> Path:
    """The file that `of` includes by this name."""
    for folder in (of.parent, SOURCE, ROOT / "include"):
        if (folder / name).exists():
            return (folder / name).resolve()
    raise SystemExit(f"{of}: no {name}")


def is_guarded(path: Path) -> bool:
    return GUARD.search(path.read_text(encoding="utf-8")) is not None


def headers(path: Path) -> Iterator[Path]:
    """The guarded headers that a file needs, each after those that it needs itself."""
    for name in INCLUDE.findall(path.read_text(encoding="utf-8")):
        header = find(name, path)
        yield from headers(header)
        if is_guarded(header):
            yield header


def expanded(path: Path) -> str:
    """A file with its headers that are not guarded in their places, and no others."""

    def replace(found: re.Match[str]) -> str:
        header = find(found[1], path)
        return "" if is_guarded(header) else expanded(header)

    return INCLUDE.sub(replace, path.read_text(encoding="utf-8"))


def names(text: str) -> set[str]:
    """What a source defines for itself alone."""
    found = {name for pattern in DEFINITIONS for name in pattern.findall(text)}
    for body in CONSTANTS.findall(text):
        found.update(re.findall(r"^\s*(\w+)(?: =|,|$)", body, re.M))
    return {name for name in found if not name.startswith(("fn_", "fastnorm_"))}


def words(text: str) -> set[str]:
    """The words of an instruction set."""
    found = {
        f"{kind}_{word}"
        for match in PASTED_WORD.findall(text)
        for word in match
        for kind in TYPES
    }
    return (found | set(WORD.findall(text))) - set(MACRO.findall(text))


def renamed(text: str, theirs: list[str], suffix: str) -> str:
    """The text with a suffix to these names, but for members of structures."""
    if not theirs:
        return text
    name = re.compile(r"(?<![.>\w])(" + "|".join(sorted(theirs)) + r")\b")
    return name.sub(rf"\1_{suffix}", text)


def hidden(text: str) -> str:
    """Functions and tables that the sources share, static."""
    return SHARED_TABLE.sub(r"static \1", SHARED.sub(r"static \1\2", text))


def amalgamation() -> str:
    def order(path: Path) -> tuple[bool, str]:
        return path.name.startswith("isa_"), path.name  # portable is the last

    sources = sorted(SOURCE.glob("*.c"), key=order)
    texts = {path: expanded(path) for path in sources}
    own = {path: names(text) for path, text in texts.items()}
    uses = Counter(name for found in own.values() for name in found)
    needed = dict.fromkeys(header for path in sources for header in headers(path))
    public = ROOT / "include" / "fastnorm.h"
    system = sorted(
        {
            line
            for path in [*needed, *sources]
            for line in re.findall(
                r"^#include <std.*>$|^#include <string.h>$|^#include <math.h>$",
                path.read_text(encoding="utf-8"), re.M,
            )
        }
    )  # fmt: skip

    parts = [
        BEGINNING,
        "\n".join(system) + "\n",
        '#include "fastnorm.h"\n',
    ]
    for header in needed:
        if header != public:
            parts.append(hidden(INCLUDE.sub("", header.read_text(encoding="utf-8"))))
    for path, text in texts.items():
        # Words are pasted together, so that the C preprocessor has to see them.
        pasted = words(text) if path.name.startswith("isa_") else set()
        parts += [f"#define {name} {name}_{path.stem}\n" for name in sorted(pasted)]
        theirs = [name for name in own[path] - pasted if uses[name] > 1]
        parts.append(hidden(renamed(text, theirs, path.stem)))
        gone = [*sorted(pasted), *dict.fromkeys(MACRO.findall(text))]
        parts += [f"#undef {name}\n" for name in gone]
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fastnorm.c").write_text(amalgamation(), encoding="utf-8")
    header = (ROOT / "include" / "fastnorm.h").read_text(encoding="utf-8")
    (folder / "fastnorm.h").write_text(header, encoding="utf-8")


if __name__ == "__main__":
    main()
