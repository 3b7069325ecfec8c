"""The child process that reads an HDF5 file: it has the library, and a damaged file does no harm outside of it."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import itertools
import json
import os
import signal
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

import numpy as np

from minicaffe import limits
from minicaffe.hdf5_contents import Contents, Problem

try:
    import resource
except ImportError:
    resource = None  # type: ignore[assignment]  # Windows has none

_SECONDS = 8  #: of processor time, and more for
_BYTES_PER_SECOND = 1 << 23  #: bytes of the file and of values
_MOST_FILES = 1 << 16  #: descriptors that are closed where the system sets no limit


class Child:
    """A process with the `Contents` of a file of `size` bytes: the same methods, over two pipes.

    A request is a line of JSON.  A reply is a line of JSON, and after it the values of a dataset.
    """

    def __init__(self, size: int) -> None:
        requests, to_child = os.pipe()
        from_child, replies = os.pipe()
        self._to, self._from = open(to_child, "wb"), open(from_child, "rb")
        self._process = 0
        try:
            self._process = os.fork()  # Python 3.12 warns of other threads; the child uses nothing of theirs
            if not self._process:
                _serve(size, requests, replies)
        except OSError as error:
            self.end()
            raise Problem(f"cannot start a process: {error.strerror}") from None
        finally:
            os.close(requests)
            os.close(replies)

    def call(self, what: str, *words: str) -> Any:
        """Return the result of the method `what` of `Contents`."""
        with contextlib.suppress(BrokenPipeError):
            self._to.write(json.dumps([what, *words]).encode() + b"\n")
            self._to.flush()
        return self._reply()

    def read_into(self, name: str, values: np.ndarray) -> None:
        """Fill `values`, of the dataset's shape and type."""
        self.call("values", name, str(values.nbytes))
        if self._from.readinto(_bytes_of(values)) != values.nbytes:
            raise self._ended()

    def _reply(self) -> Any:
        line = self._from.readline()
        if not line.endswith(b"\n"):
            raise self._ended()
        problem, result = json.loads(line)
        if problem:
            raise Problem(problem)
        return result

    def _ended(self) -> Problem:
        status = self._wait()
        if status == -signal.SIGXCPU:
            return Problem("reading it takes too long")
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return Problem(f"it is damaged: the HDF5 library ended its process with {how}")

    def end(self) -> None:
        """End the process."""
        self._from.close()
        with contextlib.suppress(BrokenPipeError):
            self._to.close()
        if self._process:
            os.kill(self._process, signal.SIGKILL)
            self._wait()

    def _wait(self) -> int:
        """Wait for the end of the process; return its exit status, negative for a signal."""
        process, self._process = self._process, 0
        if not process:
            return 1
        try:
            return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        except ChildProcessError:  # a program that ignores SIGCHLD
            return 1


def _serve(size: int, requests: int, replies: int) -> NoReturn:
    """Answer requests until the pipe is closed."""
    status = 1
    try:
        gc.disable()  # what the parent has may not be closed here
        faulthandler.disable()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _close_all_but({0, 1, 2, requests, replies})
        bounds, contents = _Bounds(size), Contents()
        with open(requests, "rb") as incoming, open(replies, "wb") as outgoing:
            for line in incoming:
                what, *words = json.loads(line)
                if what == "values":
                    bounds.allow(int(words[-1]))
                _answer(outgoing, contents, what, *words)
        status = 0
    finally:
        os._exit(status)


def _answer(outgoing: BinaryIO, contents: Contents, what: str, *words: str) -> None:
    try:
        result, problem = contents.call(what, *words), ""
    except Problem as error:
        result, problem = None, str(error)
    values = result if isinstance(result, np.ndarray) else None
    outgoing.write(json.dumps([problem, result if values is None else None]).encode() + b"\n")
    if values is not None:
        outgoing.write(_bytes_of(values))
    outgoing.flush()


def _bytes_of(values: np.ndarray) -> memoryview:
    return values.reshape(-1).view(np.uint8).data


def _close_all_but(kept: set[int]) -> None:
    last = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if last == resource.RLIM_INFINITY:  # possible on macOS
        last = _MOST_FILES
    for before, after in itertools.pairwise([*sorted(kept), last]):
        os.closerange(before + 1, after)


class _Bounds:
    """Limits of the process: memory and processor time in proportion to the file's size and the values read."""

    def __init__(self, size: int) -> None:
        self._memory = _address_space() + limits.max_expanded() + 4 * size
        self._seconds = _SECONDS + size // _BYTES_PER_SECOND
        _limit(resource.RLIMIT_CORE, 0)
        self.allow(0)

    def allow(self, count: int) -> None:
        """Allow for `count` bytes of values."""
        self._seconds += count // _BYTES_PER_SECOND
        _limit(resource.RLIMIT_AS, self._memory + 3 * count)
        _limit(resource.RLIMIT_CPU, self._seconds)


def _limit(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    with contextlib.suppress(OSError, ValueError):  # not supported by every system
        resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _address_space() -> int:
    """Return the bytes of address space of this process, where the system shows them; else as good as no limit."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 1 << 50


# -- for hdf5_file -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def reader(path: str, size: int) -> Iterator[Contents | Child]:
    """Start reading an HDF5 file of `size` bytes; `Problem` if it is damaged, here or inside the `with` block."""
    contents = Child(size) if hasattr(os, "fork") else Contents()
    try:
        contents.call("open", path)
        yield contents
    finally:
        contents.end()
