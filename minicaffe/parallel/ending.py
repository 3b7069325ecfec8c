"""The end of a process whose main thread may be blocked, in MPI, NCCL or a full pipe: from another thread."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable

from minicaffe.errors import printable_line

_SECONDS = 1.0  #: how long writing to the standard streams may take: their readers may have stopped


def print_sentence(sentence: str) -> None:
    """Print a sentence to standard error in the form of the command line; a status line of the terminal is erased."""

    def write() -> None:
        erase = "\r\x1b[K" if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else ""
        sys.stderr.write(f"{erase}minicaffe: {printable_line(sentence)}\n")
        sys.stderr.flush()

    attempt(write)


def end_process(status: int) -> None:
    """Write what the standard streams hold back, and end the process, whatever its other threads do."""

    def flush() -> None:
        sys.stdout.flush()
        sys.stderr.flush()

    attempt(flush)
    os._exit(status)


def attempt(write: Callable[[], None]) -> None:
    """Call a function that writes to the standard streams, but do not wait for it any longer than `_SECONDS`."""

    def write_if_open() -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or None
            write()

    thread = threading.Thread(target=write_if_open, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is shutting down
        write_if_open()
    else:
        thread.join(_SECONDS)
