"""A status line in a terminal that is updated in place, with printed text above it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from minicaffe.errors import printable_line
from minicaffe.output import Output
from minicaffe.progress.parts import Parts, cut, fitted

_CLEAR = "\r\x1b[K"
_REDRAW_SECONDS = 0.1


class StatusLine:
    """The last line of a terminal; `print` writes text above it.  Other streams receive the printed text only.

    The line never wraps: it is fitted to the terminal's width whenever it is drawn.

    stream: a text stream; None (default): the value of `sys.stderr` at each write.
    output: keeps the first error of writing to it.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._given = stream
        self.output = Output("to standard error")
        self._parts: Parts | str = ""
        self._shown = False
        self._drawn = 0.0

    @property
    def stream(self) -> TextIO:
        """The stream to write to."""
        return self._given or sys.stderr

    @property
    def is_terminal(self) -> bool:
        """Whether the stream is a terminal that can move the cursor."""
        return self.stream.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def fancy(self) -> bool:
        """Whether the terminal's encoding has block characters."""
        return "utf" in (getattr(self.stream, "encoding", None) or "").lower()

    def set(self, parts: Parts | str, now: bool = False) -> None:
        """Show parts that fit into the terminal's width, or as much of a text as does.

        now: if False (default), the call is ignored within 0.1 s of the previous update.
        """
        if not self.is_terminal:
            return
        self._parts = parts
        if now or time.monotonic() - self._drawn >= _REDRAW_SECONDS:
            self._drawn, self._shown = time.monotonic(), True
            self._write(_CLEAR + self._line())

    def print(self, text: str) -> None:
        """Write text and a newline above the status line."""
        self._write(f"{_CLEAR}{text}\n{self._line()}" if self._shown else f"{text}\n")

    def keep(self) -> None:
        """Draw the newest line, and go to the next one."""
        if self._parts:
            self._write(f"{_CLEAR}{self._line()}\n")
            self._parts, self._shown = "", False

    def clear(self) -> None:
        """Erase the status line; the next `set` draws it at once."""
        self._drawn = 0.0
        if self._shown:
            self._shown = False
            self._write(_CLEAR)

    def _line(self) -> str:
        width = self._width() - 1  # terminals wrap after the last column
        if isinstance(self._parts, str):
            return cut(printable_line(self._parts), width)
        return fitted(self._parts, width, self.fancy)

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def _write(self, text: str) -> None:
        self.output.attempt(lambda: self._write_now(text))

    def _write_now(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


@contextlib.contextmanager
def below_log(status: StatusLine, logger: logging.Logger) -> Iterator[None]:
    """Erase the status line, inside the block, before a handler of the logger or its parents writes to a terminal.

    For logs that are not written by `StatusLine.print`, such as those of `init_log`.
    """

    def clear(record: logging.LogRecord) -> bool:
        status.clear()
        return True

    handlers: list[logging.Handler] = []
    above: logging.Logger | None = logger
    while above is not None:
        handlers += [handler for handler in above.handlers if _is_terminal(getattr(handler, "stream", None))]
        above = above.parent if above.propagate else None
    for handler in handlers:
        handler.addFilter(clear)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(clear)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and hasattr(stream, "isatty") and not getattr(stream, "closed", False) and stream.isatty()
