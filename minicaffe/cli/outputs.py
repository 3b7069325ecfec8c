"""Outputs that grow while a command runs: log files, event files, standard output and standard error.

A log or an event file that cannot be written (a full disk, a closed pipe) does not end the run: the first failure is
logged as a warning, and is the command's error at its end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from typing import TextIO

from minicaffe.output import Output

#: errors of writing; without a file's name they are of standard output, for other files are written under their names
WRITE_ERRORS = frozenset(
    getattr(errno, name) for name in ("EPIPE", "ENOSPC", "EDQUOT", "EFBIG", "EBADF") if hasattr(errno, name)
)


class AppendedFile(Output):
    """A file to which records are appended, each whole or not at all.

    OSError when it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike, name: str) -> None:
        super().__init__(name)
        self._file = open(path, "ab", buffering=0)

    def write(self, record: bytes) -> None:
        """Append one record; see `Output.attempt` for failures."""
        self.attempt(lambda: self._append(record))

    def close(self) -> None:
        """Close the file."""
        self.attempt(self._file.close)

    def _append(self, record: bytes) -> None:
        done = 0
        try:
            while done < len(record):
                done += self._file.write(record[done:])
        except OSError:
            with contextlib.suppress(OSError):
                state = os.fstat(self._file.fileno())
                if done and stat.S_ISREG(state.st_mode):
                    os.ftruncate(self._file.fileno(), state.st_size - done)
            raise


# -- standard output and standard error --------------------------------------------------------------------------------


def open_standard_streams() -> None:
    """Open those of descriptors 0 to 2 that are closed, so that no other file gets their numbers.

    Writing to standard output is an error then; standard error is discarded.
    """
    for descriptor, name, mode in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            if os.open(os.devnull, mode) == descriptor and getattr(sys, name) is None:
                setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))


def flush(stream: TextIO) -> OSError | None:
    """Write what a stream holds back; return the error if that fails, and discard further output then.

    Otherwise Python would report it once more when it ends.
    """
    try:
        stream.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        return error
    except ValueError:  # it is closed
        pass
    return None
