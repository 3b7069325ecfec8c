"""Log lines in the original's format: glog's prefix, then the text.

    I0804 10:22:42.074671  8318 base.py:218] Iteration 100, lr = 0.00992565

The prefix holds severity, month and day, time, thread, file and line.  Only the first line of a record has it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator

from minicaffe.cli.progress import StatusLine
from minicaffe.errors import MinicaffeError, UsageError

log = logging.getLogger("minicaffe")

_SEVERITIES = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


class GlogFormatter(logging.Formatter):
    """Format a record with glog's prefix; one newline at the end of the message is dropped, as glog does."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a newline at its end."""
        severity = {"INFO": "I", "WARNING": "W", "ERROR": "E", "CRITICAL": "F"}.get(record.levelname, "I")
        when = time.strftime("%m%d %H:%M:%S", time.localtime(record.created))
        microseconds = int(record.created % 1 * 1e6)
        place = f"{threading.get_native_id():5d} {record.filename}:{record.lineno}"
        return f"{severity}{when}.{microseconds:06d} {place}] {record.getMessage().removesuffix(chr(10))}"


class StatusHandler(logging.Handler):
    """Handler that prints records above the status line."""

    def __init__(self, status: StatusLine) -> None:
        super().__init__()
        self.status = status

    def emit(self, record: logging.LogRecord) -> None:
        """Print the formatted record."""
        self.status.print(self.format(record))


@contextlib.contextmanager
def logging_to(status: StatusLine, path: str | None = None, quiet: bool = False) -> Iterator[None]:
    """Send minicaffe's log to the status line's stream, unless `quiet`, and append it to the file `path`, if given.

    GLOG_minloglevel in the environment (0 to 3) hides less severe records, as in the original.  A MinicaffeError that
    leaves the block is logged to the file.  At the end, the logger's handlers and level are restored.
    UsageError when the file cannot be opened.
    """
    files: list[logging.Handler] = []
    if path:
        try:
            files.append(logging.FileHandler(path, encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"cannot write the log '{path}': {error.strerror}") from None
    handlers = files if quiet else [StatusHandler(status), *files]
    was = log.level, log.propagate
    for handler in handlers:
        handler.setFormatter(GlogFormatter())
        log.addHandler(handler)
    minimum = os.environ.get("GLOG_minloglevel", "0")
    log.setLevel(_SEVERITIES[int(minimum)] if minimum in ("0", "1", "2", "3") else logging.INFO)
    log.propagate = False
    try:
        yield
    except MinicaffeError as error:
        for handler in files:
            handler.emit(log.makeRecord(log.name, logging.CRITICAL, "minicaffe", 0, str(error), (), None))
        raise
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
        log.setLevel(was[0])
        log.propagate = was[1]
        status.clear()
