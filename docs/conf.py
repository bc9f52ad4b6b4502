# conf.py - how Sphinx makes the site: sphinx-build -W --keep-going docs build/docs
# SPDX-License-Identifier: MIT
"""The pages are plain Markdown, to be read on a code host as well.

What the site has beyond them is put in here, while it is built:

- ``<!-- reference: MODULE NAME ... -->`` stands for the docstrings of these names, or
  of all in ``__all__`` where there is none; ``<!-- header -->`` for include/fastnorm.h.
- The lists of index.md are the contents.
- Names in code spans (`fastnorm_isa()`, `fastnorm.isa`, `layer_norm`) are links.

A public name that has no entry is an error, as is a link that leads nowhere, and a code
span with a C function that the header does not declare.
"""

import re
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import cast

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.ext.autodoc.mock import mock
from sphinx.util import logging

import fastnorm.interop

HERE = Path(__file__).parent
ROOT = HERE.parent
HEADER = ROOT / "include" / "fastnorm.h"
sys.path.insert(0, str(ROOT / "tools"))
import header_reference  # noqa: E402

project = "fastnorm"
author = "fastnorm developers"
project_copyright = "fastnorm developers, MIT licence"
version = release = fastnorm.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc"]
root_doc = "index"
nitpicky = True
smartquotes = False  # "relu" is what one types
# Types of C and NumPy, which are not described here.
nitpick_ignore = [
    ("c:identifier", name)
    for name in ("size_t", "ptrdiff_t", "int32_t", "int64_t", "uint64_t")
]
suppress_warnings = ["ref.python"]  # numpydoc looks up attributes that many have
default_role = "code"
# The pages are the same whether or not these are installed.
autodoc_mock_imports = ["llvmlite", "numba", "scipy", "sklearn", "threadpoolctl"]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
numpydoc_show_class_members = False
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"fastnorm {release}"
html_copy_source = False
html_show_sphinx = False
html_static_path: list[str] = []

MODULES = [
    "fastnorm",
    "fastnorm.fold",
    "fastnorm.jit",
    "fastnorm.layers",
    "fastnorm.population",
    "fastnorm.reference",
    "fastnorm.stats",
    "fastnorm.tables",
    *(m.name for m in iter_modules(fastnorm.interop.__path__, "fastnorm.interop.")),
]
REFERENCE = re.compile(r"<!-- reference: (\S+)((?: \w+)*) -->")
ENUMERATORS = header_reference.enumerators(HEADER.read_text(encoding="utf-8"))
log = logging.getLogger("fastnorm")


@mock(autodoc_mock_imports)
def docstrings(found: re.Match[str]) -> str:
    """The directives that show these names of a module."""
    lines = ["```{eval-rst}"]
    module = import_module(found[1])
    for name in found[2].split() or module.__all__:
        value = getattr(module, name)
        kind = "class" if isinstance(value, type) else "function"
        if not callable(value):
            kind = "data"
        lines.append(f".. auto{kind}:: {found[1]}.{name}")
    return "\n".join([*lines, "```"])


def put_in(app: Sphinx, page: str, source: list[str]) -> None:
    """What the comments of a page stand for."""
    text = REFERENCE.sub(docstrings, source[0])
    if "<!-- header -->" in text:
        app.env.note_dependency(HEADER)
        made = header_reference.page(HEADER.read_text(encoding="utf-8"))
        text = text.replace("<!-- header -->", made)
    if page == "index":
        for heading, part in re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", text, re.M):
            pages = "\n".join(re.findall(r"^- \[.*?\]\((\S+)\.md\)", part, re.M))
            text += f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{pages}\n```\n"
    source[0] = text


def escape_stars(*event: object) -> None:
    """`(..., *shape)` is no emphasis that begins."""
    text = cast("list[str]", event[-1])
    text[:] = [re.sub(r"(?<=[ (])\*(?=\w+\))", r"\\*", line) for line in text]


def link_names(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Code spans that are a name become links to it."""
    c = {name: entry for name, _, *entry in app.env.domains["c"].get_objects()}
    for name, enum in ENUMERATORS.items():
        c.setdefault(name, c[enum])
    python = app.env.domains["py"].objects
    for node in list(doctree.findall(nodes.literal)):
        name = node.astext().removesuffix("()")
        if isinstance(node.parent, nodes.reference) or not name.isascii():
            continue
        if name in c:
            _, target, anchor, _ = c[name]
        elif found := python.get(name) or python.get(f"fastnorm.{name}"):
            target, anchor = found.docname, found.node_id
        else:
            if re.fullmatch(r"fastnorm_\w*[a-z]", name):
                log.warning("no %s in fastnorm.h", name, location=node)
            continue
        uri = app.builder.get_relative_uri(page, target) + "#" + anchor
        link = nodes.reference("", "", internal=True, refuri=uri)
        node.replace_self(link)
        link += node


@mock(autodoc_mock_imports)
def check(app: Sphinx, error: Exception | None) -> None:
    """Every public name has an entry, in the HTML that was written."""
    if error is not None or app.builder.name != "html":
        return
    pages = [p.read_text(encoding="utf-8") for p in Path(app.outdir).glob("*.html")]
    anchors = {id_ for p in pages for id_ in re.findall(r'<dt[^>]* id="([^"]+)"', p)}
    code = re.sub(r"/\*.*?\*/", "", HEADER.read_text(encoding="utf-8"), flags=re.S)
    names = re.findall(r"\b(fastnorm_\w+)\(", code)
    types = r"\(\*(fastnorm_\w+)\)|^(?:\}|typedef \w+) (fastnorm_\w+);"
    names += re.findall(types, code, re.M)
    missing = {name for name in map("".join, names) if f"c.{name}" not in anchors}
    modules = [import_module(module) for module in MODULES]
    for module in modules:
        for name in module.__all__:
            same = [m for m in modules if getattr(m, name, m) is getattr(module, name)]
            if not any(f"{m.__name__}.{name}" in anchors for m in same):
                missing.add(f"{module.__name__}.{name}")
    if missing:
        raise ExtensionError(f"not in the reference: {', '.join(sorted(missing))}")
    log.info("the reference has the %d names of fastnorm.h", len(names))


def setup(app: Sphinx) -> None:
    app.connect("source-read", put_in)
    # Before numpydoc, whose number is 500.
    app.connect("autodoc-process-docstring", escape_stars, priority=400)
    app.connect("doctree-resolved", link_names)
    app.connect("build-finished", check)
