"""Sphinx: `pip install -e .[docs]`, then `python -m sphinx -W docs site`."""

import re
import sys
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.highlighting import lexers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import minicaffe  # noqa: E402  (needs the line above)

project = "minicaffe"
version = release = minicaffe.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
suppress_warnings = ["ref.python"]  # `type` is ambiguous: an attribute of layers and of solvers
html_theme = "furo"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
myst_heading_anchors = 3
lexers["prototxt"] = TextLexer()

_NAMES = r"[\w*.]+(?:, [\w*.]+)*"  # before the colon of a field: one name, or several


def to_restructured_text(lines: list[str]) -> list[str]:
    """Convert a docstring, written as plain text, to reStructuredText.

    A paragraph that is indented as a whole becomes a code block.  Lines such as "axis: the first axis (1)" become list
    items, which include the indented lines below them; the rest is text.
    """
    out = []
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")):
        rows = paragraph.split("\n")
        if all(row.startswith("    ") for row in rows):
            out += ["::", "", *rows, ""]
            continue
        items: list[str] = []
        for row in rows:
            new = not row.startswith(" ") and re.match(rf"- |{_NAMES}: ", row)
            goes_on = row[:1] in (" ", "`", "(") or row[:1].islower() or not items or not items[-1].startswith("- ")
            if items and goes_on and not new:
                items[-1] += " " + row.strip()
            else:
                items.append(re.sub(rf"^({_NAMES}): ", r"- \1: ", row.strip()))
        for item in items:
            out += [_inline(item), ""]
    return out


def _inline(text: str) -> str:
    pieces = re.split(r"`+([^`]+)`+", text)
    for i, piece in enumerate(pieces):
        glued = i + 1 < len(pieces) and pieces[i + 1][:1].isalnum()
        pieces[i] = f"``{piece}``" + "\\ " * glued if i % 2 else re.sub(r"([|*_\\])", r"\\\1", piece)
    return "".join(pieces)


def setup(app):
    """Entry point of a Sphinx extension: convert docstrings when autodoc has read them."""

    def process(app, what, name, obj, options, lines):
        if "minicaffe" in name:
            lines[:] = to_restructured_text(lines)

    app.connect("autodoc-process-docstring", process)
