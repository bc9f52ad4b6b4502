# test_docs.py - what the pages show is so: their programs run and print what they say.
# SPDX-License-Identifier: MIT
"""Blocks of Python of a page are one program, each block of C with a main is one.

What a block prints is in the ``text`` block right after it. C is linked with the
library that is in the extension, which is there already.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["start.md", "embedding.md", "threads.md", "dispatch.md"]
BLOCK = re.compile(r"```(python|c)\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.S)
RUN = """
import ctypes, sys, fastnorm._core
ctypes.CDLL(fastnorm._core.__file__, ctypes.RTLD_GLOBAL)
code = ctypes.CDLL(sys.argv[1]).main()
ctypes.CDLL(None).fflush(None)
sys.exit(code)
"""


def blocks(page: str, language: str) -> list[tuple[str, str]]:
    """The code of a page, and what it prints."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [(code, out) for kind, code, out in BLOCK.findall(text) if kind == language]


def output(cwd: Path, *command: object) -> str:
    """What a command prints; not run in a checkout, whose package is not built."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


C_BLOCKS = [
    pytest.param(code, out, id=f"{page}-{i}")
    for page in PAGES
    for i, (code, out) in enumerate(blocks(page, "c"))
]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.skipif(sys.platform != "linux", reason="links as Linux does")
@pytest.mark.parametrize(("code", "printed"), C_BLOCKS)
def test_a_program_in_c(code: str, printed: str, tmp_path: Path) -> None:
    assert "int main(void)" in code
    source, program = tmp_path / "block.c", tmp_path / "block.so"
    source.write_text(code, encoding="utf-8")
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    flags += ["-shared", "-fPIC", f"-I{ROOT / 'include'}"]
    output(tmp_path, "cc", *flags, source, "-o", program)
    assert output(tmp_path, sys.executable, "-c", RUN, program) == printed


@pytest.mark.parametrize("page", PAGES)
def test_a_program_in_python(page: str, tmp_path: Path) -> None:
    if page == "threads.md" and sys.platform != "linux":
        pytest.skip("affinity and fork as Linux has them")
    shown = blocks(page, "python")
    if not shown:
        pytest.skip("no Python")
    program = tmp_path / "page.py"
    program.write_text("\n".join(code for code, _ in shown), encoding="utf-8")
    assert output(tmp_path, sys.executable, program) == "".join(out for _, out in shown)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(page: str) -> None:
    """Those of docs/ are checked where the site is built."""
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
    assert links or page != "README.md"
    assert [link for link in links if not (ROOT / link).exists()] == []
