"""Messages between two ranks over TCP: each states the collective call that it belongs to."""

from __future__ import annotations

import contextlib
import socket
import struct

import numpy as np

from minicaffe.errors import ParallelError
from minicaffe.parallel import calls
from minicaffe.parallel.calls import Call, bytes_of

_LENGTH = struct.Struct("!Q")  # of the content, which follows
_FAILED = Call("failed")  #: a message of the root whose content is the error that ends the training
_AT_ONCE = 1 << 26  #: bytes for one call of send or recv: some systems take less than 2 GB
_SMALL = 1 << 16  #: bytes of a content that is sent together with its header

#: a connection to a machine that is gone ends after about 25 seconds without traffic
_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


class Peer:
    """A connection to another rank.

    connection: the socket.  rank: the other rank.  own: the rank of this process.
    All methods but `close` raise ParallelError if the connection has ended, or if the other rank is at another call.
    """

    def __init__(self, connection: socket.socket, rank: int, own: int) -> None:
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self.connection, self.rank, self._own = connection, rank, own

    @property
    def hosts(self) -> tuple[str, str]:
        """The addresses of this side and of the other one."""
        return self.connection.getsockname()[0], self.connection.getpeername()[0]

    def send(self, call: Call, content: bytes | memoryview = b"") -> None:
        """Send a message: a call, and its content."""
        view = memoryview(content)
        header = call.packed() + _LENGTH.pack(len(view))
        try:
            if len(view) <= _SMALL:
                self.connection.sendall(header + view)
                return
            self.connection.sendall(header)
            for start in range(0, len(view), _AT_ONCE):
                self.connection.sendall(view[start : start + _AT_ONCE])
        except OSError as error:
            self.expect(call)  # raises the error that the root has sent before it ended, if any
            raise self._lost(error) from None

    def send_failure(self, sentence: str) -> None:
        """Send the error that ends the training, which the other rank raises; no error if the connection has ended."""
        content = sentence.encode()
        with contextlib.suppress(OSError):
            self.connection.sendall(_FAILED.packed() + _LENGTH.pack(len(content)) + content)

    def expect(self, call: Call) -> int:
        """Return the length of the content of the next message, which must belong to `call`."""
        header = bytearray(calls.SIZE + _LENGTH.size)
        self.fill(memoryview(header))
        found, (length,) = Call.unpacked(header[: calls.SIZE]), _LENGTH.unpack(header[calls.SIZE :])
        if found == _FAILED:
            raise ParallelError(self._content(length).decode(errors="replace"))
        if found != call:
            raise calls.difference(self._own, call, self.rank, found)
        return length

    def receive(self, call: Call) -> bytes:
        """Return the content of the next message."""
        return self._content(self.expect(call))

    def receive_into(self, call: Call, array: np.ndarray) -> None:
        """Fill a flat array from the next message."""
        self.expect(call)
        self.fill(bytes_of(array))

    def fill(self, room: memoryview) -> None:
        """Fill `room` with the next bytes of the connection."""
        while room:
            try:
                count = self.connection.recv_into(room[:_AT_ONCE])
            except OSError as error:
                raise self._lost(error) from None
            if not count:
                raise self._lost(None)
            room = room[count:]

    def _content(self, length: int) -> bytes:
        content = bytearray(length)
        self.fill(memoryview(content))
        return bytes(content)

    def _lost(self, error: OSError | None) -> ParallelError:
        reason = f": {error.strerror or error}" if error else ""
        return ParallelError(f"rank {self._own} has lost the connection to rank {self.rank}{reason}")

    def close(self) -> None:
        """End the connection; a call that another thread has begun on it fails."""
        with contextlib.suppress(OSError):  # it has ended already
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()
