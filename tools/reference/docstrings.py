"""The parts of a docstring, which is written as plain text, and their form in Markdown.

docs/conf.py gives the same parts to Sphinx as reStructuredText.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from typing import NamedTuple

BLOBS = r"(?:[Bb]ottoms?|[Tt]ops?|[Bb]lobs?|Source)\b(?:[\w ,]{0,28}\w)?"  # "top 0", "Bottoms", "bottom, top"
NAMES = r"[\w*.]+(?:, [\w*.]+)*"  # one name, or several
_LABEL = re.compile(rf"({BLOBS}|{NAMES}): ")
_SECOND = re.compile(rf"(?<=\.)  (?={BLOBS}: |\w+_param: )|; (?={BLOBS}: )")  # a label within a line


class Part(NamedTuple):
    """A piece of a docstring: "code", lines as they are; "item", a text with a label before it; or "text".

    A page adds items of its own in "markdown".
    label: the words before the colon of an item; "" for an item of a list with dashes.
    """

    kind: str
    text: str
    label: str = ""


def parts(docstring: str) -> list[Part]:
    """Divide a docstring into parts.

    A paragraph that is indented as a whole is code.  Lines such as "axis: the first axis (1)" or "- first" begin items,
    which include the indented and the unfinished lines below them; the rest is text, a part for each paragraph.
    """
    found: list[Part] = []
    for paragraph in filter(None, re.split(r"\n\s*\n", docstring.strip("\n"))):
        if not all(row.startswith("    ") for row in paragraph.split("\n")):
            found += _joined(_SECOND.sub("\n", paragraph).split("\n"))
        elif found and found[-1].kind == "code":
            found[-1] = Part("code", f"{found[-1].text}\n\n{paragraph}")
        else:
            found.append(Part("code", paragraph))
    return [part._replace(text=textwrap.dedent(part.text)) if part.kind == "code" else part for part in found]


def _joined(rows: Iterable[str]) -> list[Part]:
    found: list[Part] = []
    for row in rows:
        begins = not row.startswith(" ") and (row.startswith("- ") or _LABEL.match(row))
        last = found[-1] if found else None
        if last and not begins and (last.kind == "text" or _goes_on(last.text, row)):
            found[-1] = last._replace(text=f"{last.text} {row.strip()}")
        elif row.startswith("- "):
            found.append(Part("item", row[2:].strip()))
        elif label := _LABEL.match(row):
            found.append(Part("item", row[label.end() :].strip(), label[1]))
        else:
            found.append(Part("text", row.strip()))
    return found


def _goes_on(text: str, row: str) -> bool:
    """Whether a row without a label belongs to the item above it, whose text so far is given."""
    return row[:1] in (" ", "`", "(") or row[:1].islower() or not text.endswith((".", ":"))


def markdown(found: Iterable[Part]) -> list[str]:
    """The lines of Markdown for parts of a docstring."""
    lines: list[str] = []
    was = ""
    for kind, text, label in found:
        if kind == "code":
            lines += ["", "```text", *text.split("\n"), "```"]
        elif kind == "text":
            lines += ["", escaped(text)]
        else:
            lines += [] if was in ("item", "markdown") else [""]
            name = f"**{escaped(capital(label))}**: " if label else ""
            lines.append(f"- {name}{escaped(text) if kind == 'item' else text}")
        was = kind
    return lines


def escaped(text: str) -> str:
    """Text in Markdown: what is not in backticks shows as it is; double spaces behind sentences become single."""
    pieces = re.split(r"(`[^`]+`)", re.sub(r" {2,}", " ", text))
    return "".join(piece if i % 2 else re.sub(r"([*<\\])", r"\\\1", piece) for i, piece in enumerate(pieces))


def cell(text: str) -> str:
    """Text in a cell of a table in Markdown."""
    return escaped(text).replace("|", "\\|")


def capital(text: str) -> str:
    """The text with its first letter in upper case, unless it begins with a name: `x`, `a_b`, `a.b`, `a:`, `a[i]`."""
    word = re.match(r"[a-z]{2,}(?![\w.*:\[])|a ", text)
    return text[:1].upper() + text[1:] if word else text
