"""Connections of the watch: short messages, each a JSON object in a line, over TCP; and the loop that reads them."""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

_LONGEST = 1 << 16  #: bytes of a line; a longer one ends the connection

Message = dict[str, Any]


class Wire:
    """A connection to another process.  No method waits; a lost connection is noticed by `receive`."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self._unsent = b""
        self._received = b""

    def send(self, **message: Any) -> None:
        """Send a message, or keep the rest of it until the next call."""
        self._unsent += json.dumps(message).encode() + b"\n"
        with contextlib.suppress(OSError):  # the other side is slow, or gone
            self._unsent = self._unsent[self.socket.send(self._unsent) :]

    def receive(self) -> list[Message] | None:
        """Return the messages that have arrived; None once the connection has ended, or other things arrive."""
        try:
            content = self.socket.recv(_LONGEST)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            return None
        *lines, self._received = (self._received + content).split(b"\n")
        if not content or len(self._received) > _LONGEST:
            return None
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError:
            return None
        return messages if all(isinstance(each, dict) for each in messages) else None

    def close(self) -> None:
        """End the connection."""
        self.socket.close()


class Loop:
    """A daemon thread that calls functions: when a descriptor can be read, when another thread posts one, regularly.

    tick: called about every `seconds` with the time of `time.monotonic`.
    """

    def __init__(self, name: str, tick: Callable[[float], None], seconds: float) -> None:
        self._tick, self._seconds = tick, seconds
        self._posted: deque[Callable[[], None]] = deque()
        self._selector = selectors.DefaultSelector()
        self._readers: dict[Any, Callable[[], None]] = {}
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._ended = False
        self.add(self._woken, self._run_posted)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def post(self, function: Callable[[], None]) -> None:
        """Let the thread call a function; any thread may call this.  Does nothing once the loop has ended."""
        self._posted.append(function)
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    def add(self, source: Any, readable: Callable[[], None]) -> None:
        """Call `readable` whenever a socket or descriptor can be read; in the loop's thread, or before it starts."""
        self._selector.register(source, selectors.EVENT_READ)
        self._readers[source] = readable

    def remove(self, source: Any) -> None:
        """Undo `add`, before the source is closed."""
        self._selector.unregister(source)
        del self._readers[source]

    def close(self) -> None:
        """End the thread, after the functions that were posted before."""
        self.post(self._end)
        if self._thread.is_alive():
            self._thread.join()
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def _end(self) -> None:
        self._ended = True

    def _run(self) -> None:
        due = time.monotonic() + self._seconds
        while not self._ended:
            for key, _ in self._selector.select(max(due - time.monotonic(), 0)):
                if key.fileobj in self._readers:  # else a function before it has removed it
                    self._readers[key.fileobj]()
            now = time.monotonic()
            if now >= due and not self._ended:
                due = now + self._seconds
                self._tick(now)

    def _run_posted(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(1024)
        while self._posted:
            self._posted.popleft()()
