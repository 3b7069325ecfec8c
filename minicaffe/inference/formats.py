"""The formats of predictions: text, CSV, JSON lines, .npz, HDF5."""

from __future__ import annotations

import os
from typing import NamedTuple

from minicaffe.errors import UsageError


class Format(NamedTuple):
    """The extensions of a format, and whether it is lines, which standard output takes as well."""

    extensions: tuple[str, ...]
    is_lines: bool = False


FORMATS = {
    "text": Format((), True),
    "csv": Format((".csv",), True),
    "jsonl": Format((".jsonl", ".json"), True),
    "npz": Format((".npz",)),
    "h5": Format((".h5", ".hdf5")),
}
EXTENSIONS = {extension: name for name, each in FORMATS.items() for extension in each.extensions}


def format_of(path: str, name: str = "") -> str:
    """Return the format for a file, one of `FORMATS`: `name` if it is given, else that of the path's extension.

    path: "" for standard output, which takes formats of lines (default: text).
    UsageError if there is no such format.
    """
    if not path:
        if name and not FORMATS[name].is_lines:
            raise UsageError(f"--format {name} is for files: give --output FILE")
        return name or "text"
    found = name or EXTENSIONS.get(os.path.splitext(path)[1].lower(), "")
    if not found:
        *most, last = (each.extensions[0] for each in FORMATS.values() if each.extensions)
        raise UsageError(f"expected a file that ends in {', '.join(most)} or {last}, got '{path}'")
    return found
