# SPDX-License-Identifier: MIT
"""The examples of README, docs/jit.md and examples/ run as they stand, and say what
they should: those in examples/ end with it, after a line `# Prints:`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def block(language: str, after: str = "") -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"```{language}\n(.*?)```", text[text.index(after) :], re.S)
    assert found is not None
    return found.group(1)


def test_the_python_examples(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    both = block("python") + block("python", "goes with it, in one pass")
    file.write_text(both, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, file], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "True (2, 64, 32, 24) (64,)\nTrue (3, 224, 224)\n"


def test_what_the_page_on_numba_shows_is_so() -> None:
    pytest.importorskip("numba")
    page = (ROOT / "docs" / "jit.md").read_text(encoding="utf-8")
    shown = "".join(re.findall(r"```python\n(.*?)```", page, re.S))
    assert shown.count("assert") == 4
    exec(compile(shown, "docs/jit.md", "exec"), {})


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_c_example_builds_with_its_one_command(tmp_path: Path) -> None:
    (tmp_path / "example.c").write_text(block("c"), encoding="utf-8")
    for folder in ("include", "src"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    command = block("sh", "<!-- command: c -->")
    assert " -O3 " in command
    # Half a minute less; that optimisation changes nothing is what tests/c asserts.
    command = command.replace(" -O3 ", " -O1 ")
    subprocess.run(["sh", "-c", command], check=True, cwd=tmp_path)
    done = subprocess.run(
        [tmp_path / "example"], capture_output=True, text=True, check=True
    )
    expected = ["-1.341635", "-0.447212", "0.447212", "1.341635"]
    assert done.stdout.split() == [value for value in expected for _ in range(2)]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem
)
def test_an_example_prints_what_it_says(path: Path, tmp_path: Path) -> None:
    _, marker, expected = path.read_text(encoding="utf-8").rpartition("# Prints:\n")
    assert marker
    done = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    missing = re.search(r"ModuleNotFoundError: No module named '(\w+)", done.stderr)
    if missing is not None and missing[1] != "fastnorm":
        pytest.skip(f"no {missing[1]}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(
        line.removeprefix("# ") for line in expected.splitlines(keepends=True)
    )
