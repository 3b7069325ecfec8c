"""The root's part of the watch: it hears all ranks, finds what is wrong, and ends the training."""

from __future__ import annotations

import functools
import logging
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from minicaffe.parallel.ending import end_process
from minicaffe.parallel.pace import SILENT_SECONDS, Beat, SlowRanks, left_early
from minicaffe.parallel.watch import TICK, Watch
from minicaffe.parallel.wires import Message, Wire

log = logging.getLogger("minicaffe")

_CLOSING_SECONDS = 2.0  #: how long the root waits for the others' ends before its own
_PATIENCE = 1.5  #: how long a rank may wait for one that has finished


class RootWatch(Watch):
    """The watch of rank 0.

    connections: to the watches of ranks 1, 2, ...
    """

    def __init__(
        self, connections: Sequence[socket.socket], names: list[str], end: Callable[[int], None] = end_process
    ) -> None:
        super().__init__(0, names, end)
        self._wires = {rank: Wire(each) for rank, each in enumerate(connections, 1)}  # of the ranks that are connected
        self._beats = {rank: Beat() for rank in range(self.size)}
        self._finished: set[int] = set()
        self._slow = SlowRanks(names)
        self._compare_from = 0.0  # when the ranks' work is compared, after a time in which they were suspended
        self._end_at: float | None = None
        for rank, wire in self._wires.items():
            self._silence.heard(rank, time.monotonic())
            self._loop.add(wire.socket, functools.partial(self._read, rank, wire))
        self._loop.start()

    def close(self) -> None:
        super().close()
        for wire in self._wires.values():
            wire.close()

    # -- messages ----------------------------------------------------------------------------------------------------

    def _read(self, rank: int, wire: Wire) -> None:
        messages = wire.receive()
        for message in messages or ():
            self._take(rank, message)
        if messages is None:
            self._loop.remove(wire.socket)
            wire.close()
            del self._wires[rank]
            if self._end_at is not None:
                self._end_when_alone()
            elif not self._over:
                self._fails(rank, " was killed, or its connection was lost")

    def _take(self, rank: int, message: Message) -> None:
        """Act on a message of another rank."""
        self._silence.heard(rank, time.monotonic())
        kind = message.get("kind")
        if kind == "beat":
            self._beats[rank] = _beat(message)
        elif kind == "finished":
            self._beats[rank] = _beat(message)
            self._has_finished(rank)
        elif kind == "failed":
            self._fails(rank, str(message.get("what")))
            if rank in self._wires:
                self._wires[rank].send(kind="printed")

    # -- ends --------------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self._beats[0] = self.pace.beat()
        self._has_finished(0)

    def _has_finished(self, rank: int) -> None:
        self._finished.add(rank)
        if len(self._finished) == self.size and not self._over:
            self._send_all("all finished")
            self._all_finished()

    def _fail(self, what: str) -> None:
        self._leave()
        self._fails(0, what)
        self._reply(True)

    def _fails(self, rank: int, what: str) -> None:
        self._stop_all(f"rank {self.names[rank]}{what}")

    def _launcher_ended(self) -> None:
        self._stop_all("the process that has started the training has ended")

    def _stop_all(self, sentence: str) -> None:
        """Print why the training ends, unless a sentence is printed already, and end all ranks."""
        if self._over:
            return
        self._over = True
        self._print(sentence)
        self._send_all("end")
        self._end_at = time.monotonic() + _CLOSING_SECONDS
        self._ending.set()
        self._end_when_alone()

    def _end_when_alone(self) -> None:
        """End this process once the others have ended, so that no launcher ends them before they print a traceback."""
        if self._end_at is not None and (not self._wires or time.monotonic() >= self._end_at):
            self._end_at = None
            self._end()

    def _send_all(self, kind: str) -> None:
        for wire in self._wires.values():
            wire.send(kind=kind)

    # -- regularly ---------------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        super()._tick(now)
        self._end_when_alone()
        if self._over:
            return
        self._send_all("beat")
        self._beats[0] = self.pace.beat()
        for rank in self._silence.lost(now):
            seconds = f"{self._silence.limit:g} s"
            self._fails(
                rank, f" has sent nothing for {seconds}: its computer or network has failed, or it is suspended"
            )
            return
        early = left_early(self._beats, self._finished, _PATIENCE)
        if early is not None:
            self._fails(early, " has ended its training before the others")
        elif not self._finished and now >= self._compare_from:
            self._log_slow_ranks(now)

    def _was_suspended(self, now: float) -> None:
        """Begin to compare the ranks again once they have stated what they do now: their work has that time in it."""
        self._slow = SlowRanks(self.names)
        self._compare_from = now + 3 * TICK

    def _log_slow_ranks(self, now: float) -> None:
        silent = {rank for rank in self._beats if self._silence.of(rank, now) > SILENT_SECONDS}
        sentences = [self._slow.waits(self._beats, silent), *self._slow.work(self._beats, now)]
        for sentence in filter(None, sentences):
            log.warning("%s", sentence)


def _beat(message: dict[str, Any]) -> Beat:
    """Return the `Beat` in a message."""
    return Beat(**{name: message[name] for name in vars(Beat()) if name in message})
