"""Text files that users write: lists of images, of HDF5 files, of windows, names of classes.

They come from many editors: with or without a byte-order mark, with the line ends of any system, and with file names
in any encoding.
"""

from __future__ import annotations

import codecs
import os
import re

from minicaffe.errors import DataError, MinicaffeError

_UTF16 = re.compile(rb"\xff\xfe|\xfe\xff|(?:[\s -~]\0){2}|(?:\0[\s -~]){2}")


def read_text(
    path: str | os.PathLike, what: str, kind: type[MinicaffeError] = DataError, errors: str = "surrogateescape"
) -> str:
    """The text of a UTF-8 file: a byte-order mark is left out, every line ends with "\\n".

    errors: how bytes that are not UTF-8 are decoded.  The default keeps them as `os.fsdecode` does, so that a path in
    another encoding still opens its file; "replace" is for text to be shown.
    Raises `kind`, which names `what` and the path, when the file cannot be read or is no UTF-8 text.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise kind(f"cannot read {what} {os.fspath(path)}: {error.strerror or error}") from error
    if is_utf16(content):
        raise kind(f"{what} {os.fspath(path)} is UTF-16: save it as UTF-8")
    if b"\0" in content:
        raise kind(f"{what} {os.fspath(path)} must be text, but it is a binary file")
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_names(
    path: str | os.PathLike, what: str, kind: type[MinicaffeError] = DataError, errors: str = "surrogateescape"
) -> list[str]:
    """The lines of a text file without blanks around them; empty ones are left out.  Arguments as for `read_text`."""
    lines = read_text(path, what, kind, errors).split("\n")
    return [line.strip() for line in lines if line.strip()]


def is_utf16(content: bytes) -> bool:
    """Whether the bytes are UTF-16: they begin with its byte-order mark, or with two characters of ASCII in it."""
    return _UTF16.match(content) is not None
