"""Text files written by users: lists of images, of HDF5 files, of windows, and class names.

They may have a byte-order mark, the line ends of any system, and file names in any encoding.
"""

from __future__ import annotations

import codecs
import os
import re

from minicaffe.errors import DataError, MinicaffeError
from minicaffe.files import read_bytes

_UTF16 = re.compile(rb"\xff\xfe|\xfe\xff|(?:[\s -~]\0){2}|(?:\0[\s -~]){2}")
_UNPRINTABLE = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def read_text(
    path: str | os.PathLike, what: str, kind: type[MinicaffeError] = DataError, errors: str = "surrogateescape"
) -> str:
    """Read a UTF-8 text file; remove a byte-order mark and convert every line end to "\\n".

    path: a regular file.  what: the kind of file, for messages, such as "image list".
    kind: the exception raised when the file cannot be read or is not text in UTF-8.
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
        raise kind(f"{what} {os.fspath(path)} must be text, but it is a binary file")
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_names(
    path: str | os.PathLike, what: str, kind: type[MinicaffeError] = DataError, errors: str = "surrogateescape"
) -> list[str]:
    """Return the lines of a text file, stripped, without empty lines.  Arguments and errors as for `read_text`."""
    lines = read_text(path, what, kind, errors).split("\n")
    return [line.strip() for line in lines if line.strip()]


def quoted(text: str) -> str:
    """Return a line or word of a file in quotes, for messages: stripped, escaped, at most 100 characters of it."""
    text = text.strip()
    return repr(text if len(text) <= 100 else f"{text[:100]}...")


def is_utf16(content: bytes) -> bool:
    """True if the bytes start with a UTF-16 byte-order mark or with two ASCII characters encoded as UTF-16."""
    return _UTF16.match(content) is not None


def printable(text: str) -> str:
    r"""Replace control characters by escapes such as \x1b, so that names from a file cannot control a terminal.

    Newlines and tabs are kept.  Characters that change the direction of text are replaced too, and bytes that are not
    UTF-8, which `read_text` keeps as surrogates.
    """
    return _UNPRINTABLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte kept by surrogateescape
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
