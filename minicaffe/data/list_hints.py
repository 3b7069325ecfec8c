"""Hints for messages about image lists: what to write instead of a line that is not read as it is meant."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_OTHER_SEPARATOR = re.compile(r"(?s)(?P<path>.+?)\s*(?P<separator>[\t,;])\s*[+-]?\d+")
_SEVERAL = re.compile(rf"(?s)(?P<path>.+?)(?:[\s,;]+{_NUMBER})+")
_NAMES = {"\t": "a tab", ",": "a comma", ";": "a semicolon"}


def of_line(line: str) -> str:
    """Return the hint for a line that does not end in a space and a whole number, beginning with ": "; "" for none."""
    line = line.strip()
    if found := _OTHER_SEPARATOR.fullmatch(line):
        return f": path and label are separated by {_NAMES[found['separator']]}, write a space"
    if re.search(rf"\s{_NUMBER}$", line):
        return ": labels of image lists are classes; for other values use HDF5Data"
    return "" if re.search(r"\s", line) else ": there is no label behind the path"


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
    if re.search(r"[\t,;]\s*$", name):
        short = re.sub(r"[\s,;]+$", "", name)
        yield root + short, f"only a space separates path and label: write {short} and the label"
    if found := _SEVERAL.fullmatch(name):
        yield (
            root + found["path"],
            "the line has several labels, and only the last is read as one: for several labels use HDF5Data, or a data "
            "layer of its own for the labels",
        )
