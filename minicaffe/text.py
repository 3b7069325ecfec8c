"""Text files written by users: lists of images, of HDF5 files, of windows, and class names; tables written as CSV.

Lists may have a byte-order mark, the line ends of any system, and file names in any encoding.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Iterable
from typing import Any

from minicaffe.errors import DataError, MinicaffeError, printable, printable_line
from minicaffe.files import read_bytes

__all__ = ["class_names", "csv_text", "is_utf16", "printable", "printable_line", "read_names", "read_text"]

_UTF16 = re.compile(rb"\xff\xfe|\xfe\xff|(?:[\s -~]\0){2}|(?:\0[\s -~]){2}")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  #: how a cell starts that a spreadsheet computes


def read_text(
    path: str | os.PathLike, what: str, kind: type[MinicaffeError] = DataError, errors: str = "surrogateescape",
    hint: str = "",
) -> str:  # fmt: skip
    """Read a UTF-8 text file; remove a byte-order mark and convert every line end to "\\n".

    path: a regular file.  what: the kind of file, for messages, such as "image list".
    kind: the exception raised when the file cannot be read or is not text in UTF-8.
    hint: the end of the message about a binary file (default "").
    errors: how bytes that are not UTF-8 are decoded.  The default keeps them as `os.fsdecode` does, so that a path in
        another encoding still opens its file; "replace" is for text to be displayed.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        raise kind(f"cannot read {what} {os.fspath(path)}: {error.strerror or error}") from error
    if is_utf16(content):
        raise kind(f"{what} {os.fspath(path)} is UTF-16: save it as UTF-8")
    if b"\0" in content:
        raise kind(f"{what} {os.fspath(path)} must be text, but it is {_binary(content)}{hint}")
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_names(
    path: str | os.PathLike, what: str, kind: type[MinicaffeError] = DataError, errors: str = "surrogateescape",
    hint: str = "",
) -> list[str]:  # fmt: skip
    """Return the lines of a text file, stripped, without empty lines.  Arguments and errors as for `read_text`."""
    lines = read_text(path, what, kind, errors, hint).split("\n")
    return [line.strip() for line in lines if line.strip()]


def class_names(path: str | os.PathLike, count: int | None = None) -> list[str]:
    """Return the names of classes in a labels file, one a line.

    count: the number of classes (default: not compared).
    DataError as for `read_names`, and for another number of names.
    """
    names = read_names(path, "labels file", errors="replace")
    if count is not None and len(names) != count:
        raise DataError(f"labels '{os.fspath(path)}': expected {count} names, one for each class, got {len(names)}")
    return names


def quoted(text: str) -> str:
    """Return a line or word of a file in quotes, for messages: stripped, escaped, at most 100 characters of it."""
    text = text.strip()
    return repr(text if len(text) <= 100 else f"{text[:100]}...")


def _binary(content: bytes) -> str:
    """Return the kind of a binary file, by its first bytes, for messages."""
    kinds = {b"\x89HDF": "an HDF5 file", b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image"}
    return next((kind for start, kind in kinds.items() if content.startswith(start)), "a binary file")


def is_utf16(content: bytes) -> bool:
    """True if the bytes start with a UTF-16 byte-order mark or with two ASCII characters encoded as UTF-16."""
    return _UTF16.match(content) is not None


def number_names(name: str, count: int) -> list[str]:
    """Return a name for each number of a blob: that of the blob for one, "name[0]" and so on for several."""
    return [name] if count == 1 else [f"{name}[{i}]" for i in range(count)]


def csv_text(rows: Iterable[Iterable[Any]], delimiter: str = ",") -> str:
    """Format rows of numbers and texts as CSV.

    Control characters are escaped.  A text that a spreadsheet would compute, such as "=1+1", is preceded by an
    apostrophe; numbers, and texts that are numbers, are not.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    is_formula = value.startswith(_FORMULA) and not _is_number(value)
    return ("'" if is_formula else "") + printable(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
