"""Sphinx: `pip install -e .[docs]`, then `python -m sphinx -W docs site`."""

import re
import sys
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.highlighting import lexers

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from reference.docstrings import parts  # noqa: E402

import minicaffe  # noqa: E402  (needs the line above)

project = "minicaffe"
version = release = minicaffe.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
suppress_warnings = ["ref.python"]  # `type` is ambiguous: an attribute of layers and of solvers
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {"np.typing.DTypeLike": "DTypeLike"}
myst_heading_anchors = 3
lexers["prototxt"] = TextLexer()


def to_restructured_text(lines: list[str]) -> list[str]:
    """Convert a docstring, written as plain text, to reStructuredText."""
    out = []
    for kind, text, label in parts("\n".join(lines)):
        if kind == "code":
            out += ["::", "", *(f"    {row}" for row in text.split("\n")), ""]
        elif kind == "item":
            out += [f"- {f'**{_inline(label)}**: ' if label else ''}{_inline(text)}", ""]
        else:
            out += [_inline(text), ""]
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
