#!/usr/bin/env python3
# abi.py - the binary interface: what programs that are built already rely on.
# SPDX-License-Identifier: MIT
"""Compare the header with tests/c/abi.txt: functions, layouts of structs, constants.

    python tests/c/abi.py [--write] [COMPILER [FLAGS...]]

What is in abi.txt stays as it is: a new field goes to the end of its struct, a new
constant has a new value, a function is never changed. With --write lines are added, and
only then a size may grow; what would change or go is refused. RUN is put before the
program that measures, for instance "qemu-s390x -L /usr/s390x-linux-gnu". The file holds
for every platform of 64 bits whose C has the usual alignment.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = Path(__file__).with_name("abi.txt")

STRUCT = re.compile(r"typedef struct (fastnorm_\w+) \{(.*?)\} \1;", re.S)
ENUM = re.compile(r"typedef enum (fastnorm_\w+) \{(.*?)\} \1;", re.S)
FUNCTION = re.compile(r"^FASTNORM_API ([^;]*);", re.M)
POINTER = re.compile(r"^typedef (\w+ \(\*fastnorm_\w+\)[^;]*);", re.M)
NUMBER = re.compile(r"^#define (FASTNORM_[A-Z_]+)\s+(?:\\\s*)?(\(-?[\d.]+\))$", re.M)


def declared() -> str:
    """The header without its comments."""
    text = (ROOT / "include" / "fastnorm.h").read_text(encoding="utf-8")
    return re.sub(r"\s*/\*.*?\*/", "", text, flags=re.S)


def members(body: str) -> list[str]:
    """The names of a struct's fields, in order."""
    found = []
    for declaration in body.split(";"):
        for part in declaration.split(","):
            name = re.search(r"(\w+)(?:\[[^\]]*\])?\s*$", part)
            if name is not None:
                found.append(name[1])
    return found


def program(header: str) -> str:
    """C that prints what only a compiler knows."""
    lines = []
    for struct, body in STRUCT.findall(header):
        lines.append(f'printf("struct {struct}: %zu\\n", sizeof({struct}));')
        for name in members(body):
            at = f"offsetof({struct}, {name}), sizeof((({struct} *)0)->{name})"
            lines.append(f'printf("struct {struct} . {name}: %zu + %zu\\n", {at});')
    for enum, body in ENUM.findall(header):
        lines.append(f'printf("enum {enum}: %zu\\n", sizeof({enum}));')
        for name in re.findall(r"(FASTNORM_\w+)(?: =|,|\s*$)", body):
            lines.append(f'printf("enum {enum} . {name}: %d\\n", (int){name});')
    body = "\n  ".join(lines)
    return (
        "#include <fastnorm.h>\n#include <stddef.h>\n#include <stdio.h>\n"
        f"int main(void) {{\n  {body}\n  return 0;\n}}\n"
    )


def interface(command: list[str]) -> dict[str, str]:
    """Lines of the interface: what is meant, and how it is."""
    header = declared()
    found = {}
    for text in FUNCTION.findall(header) + POINTER.findall(header):
        plain = " ".join(text.split())
        name = re.search(r"fastnorm_\w+(?=\(|\))", plain)
        assert name is not None, plain
        found[f"function {name[0]}"] = plain
    for name, value in NUMBER.findall(header):
        found[f"number {name}"] = value
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "abi.c"), Path(folder, "abi")
        source.write_text(program(header), encoding="utf-8")
        include = f"-I{ROOT / 'include'}"
        subprocess.run([*command, include, source, "-o", binary], check=True)
        run = [*shlex.split(os.environ.get("RUN", "")), str(binary)]
        done = subprocess.run(run, check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        what, _, how = line.partition(": ")
        found[what] = how
    return found


def read() -> dict[str, str]:
    if not LOCK.exists():
        return {}
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    return dict(line.split(": ", 1) for line in lines if not line.startswith("#"))


def write(found: dict[str, str]) -> None:
    lines = ["# abi.txt - the binary interface of fastnorm.h; written by abi.py."]
    lines += [f"{what}: {how}" for what, how in sorted(found.items())]
    LOCK.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    arguments = sys.argv[1:]
    writes = arguments[:1] == ["--write"]
    found, locked = interface(arguments[writes:] or ["cc"]), read()
    wrong = []
    for what, how in locked.items():
        now = found.get(what, "gone")
        size = what.startswith("struct ") and " . " not in what
        if now != how and not (writes and size and int(now) > int(how)):
            wrong.append(f"{what}: was {how}, is {now}")
    new = sorted(found.keys() - locked.keys())
    if not writes:
        wrong += [f"{what}: not in {LOCK.name}; see --write" for what in new]
    for line in wrong:
        print(line)
    if writes and not wrong:
        write(found)
    print(f"{len(locked)} locked, {len(new)} new, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
