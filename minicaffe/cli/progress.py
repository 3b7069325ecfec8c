"""The log in a terminal, and a status line below it that is updated in place.

`StatusLine` is that line, `logging_to` prints the log above it; `TrainingProgress` is an observer of a solver that
writes progress, loss, accuracy, images per second and remaining time to it.  If the output is not a terminal, no status
is printed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from minicaffe import parallel
from minicaffe.cli.outputs import AppendedFile, Output
from minicaffe.errors import MinicaffeError, UsageError
from minicaffe.parallel import rank_log
from minicaffe.text import printable_line

log = logging.getLogger("minicaffe")

_SEVERITIES = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
_CLEAR = "\r\x1b[K"
_REDRAW_SECONDS = 0.1


class StatusLine:
    """The last line of a terminal; `print` writes text above it.  Other streams receive the printed text only.

    stream: a text stream; None (default): the value of `sys.stderr` at each write.
    output: keeps the first error of writing to it.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._given = stream
        self.output = Output("to standard error")
        self._text = ""
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

    def set(self, text: str, now: bool = False) -> None:
        """Show `text`, truncated to the terminal's width.

        now: if False (default), the call is ignored within 0.1 s of the previous update.
        """
        if not self.is_terminal or (not now and time.monotonic() - self._drawn < _REDRAW_SECONDS):
            return
        self._drawn = time.monotonic()
        self._text = printable_line(text)
        self._write(_CLEAR + self._text[: self._width() - 1])

    def print(self, text: str) -> None:
        """Write text and a newline above the status line."""
        if not self._text:
            self._write(text + "\n")
            return
        self._write(f"{_CLEAR}{text}\n{self._text[: self._width() - 1]}")

    def clear(self) -> None:
        """Erase the status line."""
        if self._text:
            self._text = ""
            self._write(_CLEAR)

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


def bar(part: float, width: int = 20, fancy: bool = True) -> str:
    """Return a progress bar of `width` characters, filled to the fraction `part` (0 to 1).

    fancy: use block characters (default); otherwise ASCII, in brackets that add two characters.
    """
    full = round(width * min(max(part, 0.0), 1.0))
    return ("█" * full).ljust(width, "░") if fancy else f"[{'#' * full:.<{width}}]"


def duration(seconds: float) -> str:
    """Format seconds: 59 -> "0:59", 3725 -> "1:02:05"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class TrainingProgress:
    """Observer of a solver that updates the status line.

    The rate is measured over the last 63 iterations, without the time of tests; the remaining time includes the
    remaining tests.
    """

    def __init__(self, status: StatusLine, solver: Any) -> None:
        self.status = status
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), solver.iter)], maxlen=64)
        self._images = images_per_iteration(solver) * parallel.current().size  # of all ranks
        self._smooth_loss: float | None = None
        self._accuracy = ""
        self._test_began: float | None = None
        self._test_seconds = 0.0
        self._line(solver)

    def on_iteration(self, solver: Any, loss: float | None) -> None:
        """Called after the passes of one iteration: update the count, and the smoothed loss unless `loss` is None."""
        if loss is not None:
            self._smooth_loss = loss if self._smooth_loss is None else 0.95 * self._smooth_loss + 0.05 * loss
        self._recent.append((time.monotonic(), solver.iter + 1))
        self._line(solver)

    def on_test_batch(self, solver: Any, net_id: int, batch: int) -> None:
        """Called after one batch of a test: show the progress of the test."""
        if batch == 0 and net_id == 0:
            self._test_began = time.monotonic()
        batches = solver.param.test_iter[net_id]
        part = bar((batch + 1) / batches, fancy=self.status.fancy)
        self.status.set(f"{solver.net.name}  testing  {part}  {batch + 1}/{batches}")

    def on_test(self, solver: Any, net_id: int, scores: dict[str, list[float]]) -> None:
        """Called after a test: keep its accuracy, and exclude the test's time from the rate."""
        named = [(name, values) for name, values in scores.items() if "acc" in name.lower() and len(values) == 1]
        if named:
            self._accuracy = f"  {named[0][0]} {named[0][1][0]:.4f}"
        if self._test_began is not None and net_id == len(solver.test_nets) - 1:
            self._test_seconds = time.monotonic() - self._test_began
            shifted = [(when + self._test_seconds, it) for when, it in self._recent]
            self._recent.clear()
            self._recent.extend(shifted)
            self._test_began = None

    def _rate(self) -> float:
        """Iterations per second."""
        (begin, first), (end, last) = self._recent[0], self._recent[-1]
        return (last - first) / (end - begin) if last > first and end > begin else 0.0

    def _line(self, solver: Any) -> None:
        done, total = self._recent[-1][1], solver.param.max_iter
        part = done / total if total else 1.0
        text = f"{solver.net.name}  {bar(part, fancy=self.status.fancy)} {part:4.0%}  {done}/{total}"
        if self._smooth_loss is not None:
            text += f"  loss {self._smooth_loss:.4g}"
        text += self._accuracy
        rate = self._rate()
        if rate:
            every = solver.param.test_interval if solver.test_nets else 0
            tests = total // every - done // every if every else 0
            left = (total - done) / rate + tests * self._test_seconds
            speed = f"{rate * self._images:,.0f} images/s" if self._images else f"{rate:,.1f} iterations/s"
            text += f"  {speed}  {duration(left)} left"
        self.status.set(text)


def images_per_iteration(solver: Any) -> int:
    """Number of images per update: the batch size of the first data layer times iter_size; 0 if there is none."""
    for tops, bottoms in zip(solver.net.tops, solver.net.bottoms):
        if tops and not bottoms and tops[0].shape:
            return tops[0].shape[0] * max(solver.param.iter_size, 1)
    return 0
