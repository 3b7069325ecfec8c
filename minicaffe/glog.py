"""Log lines in the original's format: glog's prefix, then the text.

    I0804 10:22:42.074671  8318 base.py:218] Iteration 100, lr = 0.00992565

The prefix holds severity, month and day, time, thread, file and line.  Only the first line of a record has it.
Control characters in names from files are escaped, and newlines, so that a name cannot add a line to the log.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

from minicaffe.text import printable


class PrintableFormatter(logging.Formatter):
    """Format the message of a record alone, control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message; a newline in one of its arguments is escaped, unless the message has newlines itself."""
        text = printable(record.getMessage().removesuffix("\n"))
        return text if "\n" in str(record.msg).removesuffix("\n") else text.replace("\n", r"\n")


class GlogFormatter(PrintableFormatter):
    """Format a record with glog's prefix; one newline at the end of the message is dropped, as glog does."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a newline at its end."""
        severity = {"INFO": "I", "WARNING": "W", "ERROR": "E", "CRITICAL": "F"}.get(record.levelname, "I")
        when = time.strftime("%m%d %H:%M:%S", time.localtime(record.created))
        microseconds = int(record.created % 1 * 1e6)
        place = f"{threading.get_native_id():5d} {record.filename}:{record.lineno}"
        return f"{severity}{when}.{microseconds:06d} {place}] {self.message(record)}"

    def message(self, record: logging.LogRecord) -> str:
        """Return the text after the prefix."""
        return super().format(record)


def write_once(handler: logging.Handler) -> None:
    """Let a handler write, of the records with the same `extra={"once": KEY}`, only the first."""
    written: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        key = getattr(record, "once", None)
        if key is None:
            return True
        with lock:
            new = key not in written
            written.add(key)
        return new

    lock = threading.Lock()
    handler.addFilter(is_new)


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Drop what this thread logs to the logger "minicaffe" inside the block."""
    thread = threading.get_ident()

    def is_other(record: logging.LogRecord) -> bool:
        return record.thread != thread

    log = logging.getLogger("minicaffe")
    log.addFilter(is_other)
    try:
        yield
    finally:
        log.removeFilter(is_other)
