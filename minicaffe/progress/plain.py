"""Progress where lines cannot be updated in place, such as in a file: a line every ten seconds."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from minicaffe.errors import printable_line
from minicaffe.progress.parts import Bar, Parts

_SECONDS = 10.0


class PlainLines:
    """Lines in a text stream, at most one every ten seconds, and the last one.

    stream: None (default): the value of `sys.stderr` at each write.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._given = stream
        self._parts: Parts | str = ""
        self._written = time.monotonic()

    def set(self, parts: Parts | str, now: bool = False) -> None:
        """Write the parts in a line, without bars, unless the previous line is less than ten seconds old.

        now: write it in any case (default False).
        """
        self._parts = parts
        if now or time.monotonic() - self._written >= _SECONDS:
            self._write()

    def keep(self) -> None:
        """Write the newest line."""
        self._write()

    def clear(self) -> None:
        """Do nothing: what is written stays."""

    def _write(self) -> None:
        if self._parts:
            self._written = time.monotonic()
            print(self._text(), file=self._given or sys.stderr, flush=True)
            self._parts = ""

    def _text(self) -> str:
        if isinstance(self._parts, str):
            return printable_line(self._parts)
        return "  ".join(part.shown for part in self._parts if not isinstance(part, Bar))
