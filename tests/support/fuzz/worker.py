"""Runs cases in a process of its own, which may crash, hang or use up memory without harm to the caller.

Outcomes: "done", "refused" (one sentence), and the faults "traceback", "memory", "left" (files left behind),
"crash" (the process ended by a signal), "hang" (over ten seconds of processor time, or sixty by the clock).
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import logging
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fuzz.kind import Action, Case, Kind
from minicaffe.cli import main
from minicaffe.errors import MinicaffeError

SECONDS = 10  #: of processor time that a case may take
CLOCK = 60  #: seconds that a case may take by the clock, in which it may have to wait for the processor


class Outcome(NamedTuple):
    """What became of one content."""

    number: int
    verdict: str
    text: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether this should not have happened."""
        return self.verdict not in ("done", "refused")


def outcomes(kind: Kind, contents: Iterable[tuple[int, bytes]]) -> Iterator[Outcome]:
    """Yield the outcome of each numbered content of a kind; a new process is started after a crash or a hang."""
    waiting = iter(contents)
    while True:
        child = _Child(kind, waiting)
        try:
            for number, content in waiting:
                outcome = child.run(number, content)
                yield outcome
                if outcome.verdict in ("crash", "hang", "memory"):
                    break
            else:
                return
        finally:
            child.end()


class _Child:
    """The process that runs the cases, and the two pipes to it."""

    def __init__(self, kind: Kind, waiting: Iterator[tuple[int, bytes]]) -> None:
        kind.draw(0)  # makes the examples before the fork
        sys.stdout.flush()
        to_child, self._to = os.pipe()
        self._from, from_child = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._to)
            os.close(self._from)
            _serve(kind, os.fdopen(to_child, "rb"), os.fdopen(from_child, "wb"))
        os.close(to_child)
        os.close(from_child)

    def run(self, number: int, content: bytes) -> Outcome:
        """Send one content and wait for its outcome."""
        with contextlib.suppress(BrokenPipeError):
            _write(self._to, len(content).to_bytes(8, "little") + content)
        began, used = time.monotonic(), self._processor_time()
        while not select.select([self._from], [], [], 0.2)[0]:
            if self._processor_time() - used > SECONDS or time.monotonic() - began > CLOCK:
                os.kill(self.pid, signal.SIGKILL)
                return Outcome(number, "hang", f"{time.monotonic() - began:.0f} s")
        head = _read(self._from, 8)
        if not head:
            status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.pid = 0
            return Outcome(number, "crash", signal.Signals(-status).name if status < 0 else f"status {status}")
        verdict, text = json.loads(_read(self._from, int.from_bytes(head, "little")))
        return Outcome(number, verdict, text)

    def _processor_time(self) -> float:
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End the process."""
        os.close(self._to)
        os.close(self._from)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _read(descriptor: int, count: int) -> bytes:
    data = b""
    while len(data) < count and (part := os.read(descriptor, count - len(data))):
        data += part
    return data


# -- in the process ----------------------------------------------------------------------------------------------------


def _serve(kind: Kind, incoming: io.BufferedReader, outgoing: io.BufferedWriter) -> None:
    """Run the contents that arrive, until the pipe is closed."""
    status = 1
    try:
        for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, _size() + 2 * (kind.memory or 1 << 32))):
            resource.setrlimit(limit, (value, value))
        faulthandler.disable()  # a crash is an outcome
        warnings.simplefilter("ignore")
        logging.raiseExceptions = True
        home = os.getcwd()
        while head := incoming.read(8):
            content = incoming.read(int.from_bytes(head, "little"))
            folder = tempfile.mkdtemp(prefix="fuzz-")
            os.chdir(folder)
            verdict = _verdict(kind.case(content), kind.memory)
            os.chdir(home)
            shutil.rmtree(folder, ignore_errors=True)
            answer = json.dumps(verdict).encode()
            outgoing.write(len(answer).to_bytes(8, "little") + answer)
            outgoing.flush()
        status = 0
    finally:
        os._exit(status)


def _verdict(case: Case, memory: int | None) -> tuple[str, str]:
    """Write the files of a case, run its actions, and return the verdict with its text."""
    for name, content in case.files.items():
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(name, "wb") as file:
            file.write(content)
    before, used = _files(), _reset_peak()
    verdict, text = "done", ""
    for action in case.actions:
        verdict, text = _run(action)
        new = _files() - before
        if verdict == "refused" and new or any(os.path.basename(name).startswith(".") for name in new):
            return "left", f"{sorted(new)[:3]} after: {text}"
        if memory is not None and (_peak() - used > memory or "not enough memory" in text):
            return "memory", f"{(_peak() - used) >> 20} MiB: {text}"
        if verdict not in ("done", "refused"):
            break
        before |= new
    return verdict, text


def _run(action: Action) -> tuple[str, str]:
    """Run one action with its output captured."""
    output, errors = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            if callable(action):
                action()
                return "done", ""
            status = main(action)
    except MinicaffeError as error:
        sentence = str(error)
        return ("refused" if sentence and "\n" not in sentence.strip() else "traceback"), f"{type(error)}: {sentence}"
    except MemoryError as error:  # beyond the limit of the process
        return "memory", _place(error)
    except BaseException as error:
        return "traceback", _place(error)
    shown = errors.getvalue()
    sentences = [line for line in shown.splitlines() if line.startswith("minicaffe: ")]
    if "Traceback" in shown or (status and len(sentences) != 1):
        return "traceback", f"{action[0]}: status {status}: {shown[-500:]}"
    return ("refused" if status else "done"), " ".join(sentences)


def _place(error: BaseException) -> str:
    """Return an exception with the innermost line of minicaffe in its traceback."""
    parts = ("minicaffe", "layers", "solvers", "cuda")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if any(f"/{part}/" in frame.filename for part in parts)
    ]
    last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(last.filename)}:{last.lineno} {type(error).__name__}: {str(error)[:200]}"


def _files() -> set[str]:
    return {os.path.join(folder, name) for folder, _, names in os.walk(".") for name in names}


def _status(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(key))


def _size() -> int:
    return _status("VmSize:")


def _peak() -> int:
    return _status("VmHWM:")


def _reset_peak() -> int:
    """Set the highest resident size back to the present one, and return it."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _status("VmRSS:")
