"""The watch over the ranks of one training: when one of them fails, all end within seconds, and one sentence says why.

A rank whose process has ended leaves the others blocked in a collective call, in MPI and NCCL for ever.  So each
process has a thread with a TCP connection of its own to that of the root: it reports the error that ends the rank, or
that it has finished, and regularly how far it is.  The root prints the sentence and lets the others end.  If the root
itself is gone, rank 1 prints it.  A connection that ends without a report is that of a process that was killed.
"""

from __future__ import annotations

import atexit
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable

from minicaffe.errors import MinicaffeError, printable_line
from minicaffe.parallel.ending import attempt, end_process, print_sentence
from minicaffe.parallel.launcher import is_worker
from minicaffe.parallel.pace import Pace, Silence
from minicaffe.parallel.wires import Loop

TICK = 1.0  #: seconds between two messages of a rank that it is there
LOST_SECONDS = 60.0  #: without a message, after which a rank's computer or network counts as failed
_REPLY_SECONDS = 2.0  #: how long a rank that fails waits for the root to print its sentence
_LEAVE_SECONDS = 4.0  #: after which the process of a rank that has failed is ended: MPI's own end may hang


class Watch:
    """This rank's part of the watch; see the subclasses in watch_root.py and watch_rank.py.  Made by `watch_over`.

    names: of all ranks, such as "2 (host, process 123)".
    end: ends this process with a status; another function in tests.
    pace: what this rank does, for its messages.
    on_loss: called before this process is ended because of another rank; it may write to the standard streams.
    """

    def __init__(self, rank: int, names: list[str], end: Callable[[int], None] = end_process) -> None:
        self.rank, self.size, self.names = rank, len(names), names
        self.pace = Pace()
        self.on_loss: Callable[[], None] = lambda: None
        self._end_process = end
        self._process = os.getpid()
        self._status = 1  # of this process's end after `fail`
        self._leave_at: float | None = None  # when this process is ended, after `fail`
        self._over = False  # the training has ended, by a failure or because all have finished
        self._ending = threading.Event()  # it has ended by a failure
        self._ended = threading.Event()  # and this process has been ended; reached only in tests
        self._done = threading.Event()  # all have finished, or it has ended by a failure
        self._replied = threading.Event()  # to `fail`
        self._printed = False  # whether a sentence about the failure is printed
        self._silence = Silence(LOST_SECONDS, TICK, time.monotonic())
        self._loop = Loop("minicaffe watch", self._tick, TICK)
        if is_worker() and stat.S_ISFIFO(os.fstat(0).st_mode):
            self._loop.add(0, self._read_standard_input)

    # -- for the main thread -----------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Report that this rank has finished, wait until all have, and end the watch."""
        self._loop.post(self._finish)
        self._done.wait()
        if not self.fails_elsewhere(0):
            self.close()

    def fail(self, what: str, status: int = 1) -> bool:
        """Report that this rank ends the training; return whether a sentence about it is printed by now.

        what: the rest of the sentence, after the rank's name: ": ..." or " was ...".
        status: with which this process ends.
        """
        self._status = status
        self._loop.post(lambda: self._fail(printable_line(what)))
        self._replied.wait(_REPLY_SECONDS)
        return self._printed

    def fails_elsewhere(self, seconds: float) -> bool:
        """Wait for the failure of another rank, which ends this process, too; return whether there was one.

        It returns True only if `end` does not end the process.
        """
        return self._ending.wait(seconds) and self._ended.wait()

    def close(self) -> None:
        """End the thread and the connections.  The other ranks take this for a failure, unless all have finished."""
        atexit.unregister(self.at_exit)
        self._loop.close()

    def at_exit(self) -> None:
        """Report that the interpreter ends, by an exception or because the program is at its end."""
        error = getattr(sys, "last_value", None)
        if os.getpid() != self._process:  # a forked one
            return
        if self._leave_at is None and error is None:
            self.finish()
            return
        if self._leave_at is None and error is not None:
            self.fail(*reason(error))
        self._end_process(self._status)

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        raise NotImplementedError

    def _fail(self, what: str) -> None:
        raise NotImplementedError

    def _leave(self) -> None:
        """Give the main thread some time to end the process."""
        self._leave_at = time.monotonic() + _LEAVE_SECONDS

    def _reply(self, printed: bool) -> None:
        """End the wait of `fail`."""
        self._printed = printed
        self._replied.set()

    def _end(self) -> None:
        """End the process, unless its main thread is about to do so."""
        self._over, self._printed = True, True
        self._ending.set()
        self._done.set()
        self._replied.set()
        if self._leave_at is None:
            attempt(self.on_loss)
            self._end_process(1)
        self._ended.set()

    def _all_finished(self) -> None:
        self._over = True
        self._done.set()

    def _tick(self, now: float) -> None:
        gap = self._silence.gap(now)
        if gap:
            self.pace.skip(gap)
            self._was_suspended(now)
        if self._leave_at is not None and now >= self._leave_at:
            self._end_process(self._status)

    def _was_suspended(self, now: float) -> None:
        """Called when this process has been stopped, and goes on now."""

    def _read_standard_input(self) -> None:
        if not os.read(0, 1 << 16):
            self._loop.remove(0)
            if not self._over:
                self._launcher_ended()

    def _launcher_ended(self) -> None:
        raise NotImplementedError

    def _print(self, sentence: str) -> None:
        print_sentence(sentence)


def reason(error: BaseException) -> tuple[str, int]:
    """Return the arguments of `Watch.fail` for an exception that ends the rank."""
    if isinstance(error, KeyboardInterrupt):
        return " was interrupted", 128 + getattr(error, "number", signal.SIGINT)
    if isinstance(error, SystemExit):
        return f" has ended with the exit status {error.code}", error.code if isinstance(error.code, int) else 1
    if isinstance(error, MinicaffeError):
        return f": {error}", 1
    return f": {type(error).__name__}: {error}", 1


def rank_name(rank: int, host: str, process: int) -> str:
    """Return a rank as messages name it."""
    return f"{rank} ({host}, process {process})"
