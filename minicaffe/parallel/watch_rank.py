"""The part of the watch of a rank that is not the root: it reports to the root, and ends when the root ends all."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from minicaffe.parallel.ending import end_process
from minicaffe.parallel.watch import Watch
from minicaffe.parallel.wires import Message, Wire

_LAUNCHER_SECONDS = 1.0  #: how long the root may take to end all when the launcher has ended


class RankWatch(Watch):
    """The watch of a rank from 1 on.

    connection: to the root's watch.
    """

    def __init__(
        self, connection: socket.socket, rank: int, names: list[str], end: Callable[[int], None] = end_process
    ) -> None:
        super().__init__(rank, names, end)
        self._wire = Wire(connection)
        self._end_at: float | None = None
        self._silence.heard(0, time.monotonic())
        self._loop.add(connection, self._read)
        self._loop.start()

    def close(self) -> None:
        super().close()
        self._wire.close()

    # -- messages ----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        messages = self._wire.receive()
        for message in messages or ():
            self._take(message)
        if messages is None:
            self._loop.remove(self._wire.socket)
            if not self._over:
                self._root_fails(" was killed, or its connection was lost")

    def _take(self, message: Message) -> None:
        """Act on a message of the root."""
        self._silence.heard(0, time.monotonic())
        kind = message.get("kind")
        if kind == "end":
            self._end()
        elif kind == "printed":
            self._reply(True)
        elif kind == "all finished":
            self._all_finished()

    # -- ends --------------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self._wire.send(kind="finished", **vars(self.pace.beat()))

    def _fail(self, what: str) -> None:
        self._leave()
        if self._over:
            self._reply(True)
        else:
            self._wire.send(kind="failed", what=what)

    def _root_fails(self, what: str) -> None:
        """End because the root has gone; rank 1 prints the sentence, and a rank that is failing prints its own."""
        self._over = True
        if self._leave_at is not None:
            self._reply(False)
            return
        if self.rank == 1:
            self._print(f"rank {self.names[0]}{what}")
        self._end()

    def _launcher_ended(self) -> None:
        self._end_at = time.monotonic() + _LAUNCHER_SECONDS

    def _tick(self, now: float) -> None:
        super()._tick(now)
        if self._end_at is not None and now >= self._end_at:
            self._end()
        if self._over:
            return
        self._wire.send(kind="beat", **vars(self.pace.beat()))
        if self._silence.lost(now):
            self._root_fails(f" has sent nothing for {self._silence.limit:g} s: its computer or network has failed")
