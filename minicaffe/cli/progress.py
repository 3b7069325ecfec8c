"""The log of a command, above the status line of its terminal (minicaffe/progress/), and in a file."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator

from minicaffe.cli.outputs import AppendedFile
from minicaffe.errors import MinicaffeError, UsageError
from minicaffe.parallel import rank_log
from minicaffe.progress.terminal import StatusLine

__all__ = ["LineHandler", "StatusLine", "logging_to"]

log = logging.getLogger("minicaffe")

_SEVERITIES = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


class LineHandler(logging.Handler):
    """Handler that passes each record, formatted as in glog, to a function."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write
        rank_log.prepare(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        self._write(self.format(record))


@contextlib.contextmanager
def logging_to(status: StatusLine, path: str | None = None, quiet: bool = False) -> Iterator[None]:
    """Send minicaffe's log to the status line's stream, unless `quiet`, and append it to the file `path`, if given.

    GLOG_minloglevel in the environment (0 to 3) hides less severe records, as in the original.  A MinicaffeError that
    leaves the block is logged to the file.  At the end, the logger's handlers and level are restored.
    UsageError when the file cannot be opened, DataError at the end if a line could not be written.
    """
    file = _open_log(path) if path else None
    handlers = [] if quiet else [LineHandler(status.print)]
    if file is not None:
        handlers.append(LineHandler(lambda line: file.write(f"{line}\n".encode(errors="backslashreplace"))))
    was = log.level, log.propagate
    for handler in handlers:
        log.addHandler(handler)
    minimum = os.environ.get("GLOG_minloglevel", "0")
    log.setLevel(_SEVERITIES[int(minimum)] if minimum in ("0", "1", "2", "3") else logging.INFO)
    log.propagate = False
    try:
        yield
        for output in (file, status.output):
            if output is not None:
                output.check()
    except MinicaffeError as error:
        if file is not None:
            handlers[-1].emit(log.makeRecord(log.name, logging.CRITICAL, "minicaffe", 0, str(error), (), None))
        raise
    finally:
        status.clear()
        for handler in handlers:
            log.removeHandler(handler)
        if file is not None:
            file.close()
        log.setLevel(was[0])
        log.propagate = was[1]


def _open_log(path: str) -> AppendedFile:
    try:
        return AppendedFile(path, f"the log '{path}'")
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise UsageError(f"cannot write the log '{path}': {getattr(error, 'strerror', None) or error}") from None
