"""Hints for messages about image lists: what to write instead of a line that is not read as it is meant."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterator

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"[^\s,;]+")
_BETWEEN = f"{string.whitespace},;"
_NAMES = {"\t": "a tab", ",": "a comma", ";": "a semicolon"}


def of_line(line: str) -> str:
    """Return the hint for a line that does not end in a space and a whole number, beginning with ": "; "" for none."""
    if hint := of_label(line):
        return hint
    return "" if re.search(r"\s", line.strip()) else ": there is no label behind the path"


def of_label(line: str) -> str:
    """Return the hint for a line that ends in another label than a space and a whole number; "" if it has none."""
    line = line.strip()
    before = line.rstrip(string.digits)
    if before != line:
        before = before[:-1] if before.endswith(("+", "-")) else before
        path = before.rstrip(_BETWEEN)
        separator = next((each for each in ",;\t" if each in before[len(path) :]), None)
        if path and separator:
            return f": path and label are separated by {_NAMES[separator]}, write a space"
    words = line.split()
    if len(words) > 1 and _NUMBER.fullmatch(words[-1]):
        return ": labels of image lists are classes; for other values use HDF5Data"
    return ""


def of_missing(root: str, name: str) -> str:
    """Return the hint for an image that does not exist, beginning with ": "; "" if there is no similar file.

    root, name: the root folder and the path in the list, whose concatenation is the path of the image.
    """
    return next((f": {hint}" for path, hint in _similar(root, name) if os.path.isfile(path)), "")


def _similar(root: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield paths that may be meant, and the hint for each."""
    if root and not root.endswith("/"):
        yield f"{root}/{name}", f"the root folder is put before each path as it is: write '{root}/', with a slash"
    bare = name.strip().strip("\"'")
    if bare != name.strip():
        yield root + bare, f"the list has quotes around the path: write {bare}"
    for before, after in (("\\ ", " "), ("\\", "/")):
        if before in name:
            changed = name.replace(before, after)
            yield root + changed, f"the list has backslashes in the path: write {changed}"
    short = name.rstrip(_BETWEEN)
    if not {"\t", ",", ";"}.isdisjoint(name[len(short) :]):
        yield root + short, f"only a space separates path and label: write {short} and the label"
    if path := _before_numbers(name):
        yield (
            root + path,
            "the line has several labels, and only the last is read as one: for several labels use HDF5Data, or a data "
            "layer of its own for the labels",
        )


def _before_numbers(name: str) -> str:
    """Return what is before the numbers that `name` ends in; "" if it ends in none."""
    words = list(_WORD.finditer(name))
    count = len(words)
    while len(words) > 1 and _NUMBER.fullmatch(words[-1][0]):
        words.pop()
    return name[: words[-1].end()] if len(words) < count else ""
