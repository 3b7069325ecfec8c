"""Reading of XML files of unknown origin."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from minicaffe.errors import DataError
from minicaffe.files import read_bytes
from minicaffe.text import is_utf16

_LARGEST = 1 << 26  # bytes of a file
_DEEPEST = 64  # elements inside each other
_DECLARES_ENCODING = re.compile(rb"\s*<\?xml[^>]*\bencoding")


def read_xml(path: str) -> Element:
    """Return the root element of an XML file: in the encoding that it declares, else in UTF-8 or Windows-1252.

    DataError, with the line, when the file cannot be read, is damaged, larger than 64 MB, or declares entities, by
    which a short file can expand to any length or include other files.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        raise DataError(f"cannot read annotation {path}: {error.strerror or error}") from error
    if len(content) > _LARGEST:
        raise DataError(f"cannot read annotation {path}: it has {len(content)} bytes, more than {_LARGEST}")
    try:
        return _Parser().parse(_in_utf8(content))
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise DataError(f"cannot read annotation {path} as XML: {error}") from error


def _in_utf8(content: bytes) -> bytes:
    """Return a file of an editor that declares no encoding but uses Windows-1252 in UTF-8; any other as it is."""
    if is_utf16(content) or _DECLARES_ENCODING.match(content):
        return content
    try:
        content.decode()
        return content
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace").encode()


class _Parser:
    """Parser that builds a tree of elements, and refuses what XML allows but annotations have no need of."""

    def __init__(self) -> None:
        self._depth, self._builder = 0, TreeBuilder()
        self._expat = expat.ParserCreate()
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._builder.data
        self._expat.EntityDeclHandler = self._refuse_entity

    def parse(self, content: bytes) -> Element:
        """Return the root element; ExpatError, LookupError or ValueError for what cannot be parsed."""
        self._expat.Parse(content, True)
        return self._builder.close()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"line {self._expat.CurrentLineNumber}: more than {_DEEPEST} elements inside each other")
        self._builder.start(name, attributes)

    def _end(self, name: str) -> None:
        self._depth -= 1
        self._builder.end(name)

    def _refuse_entity(self, name: str, *_: object) -> None:
        raise ValueError(f"line {self._expat.CurrentLineNumber}: it declares an entity, {name!r}, which is refused")
