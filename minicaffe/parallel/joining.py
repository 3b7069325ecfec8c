"""How ranks connect to the root over TCP: the root accepts those that prove that they know the token.

The root sends a random challenge to each connection; a rank replies with its rank, the size that it expects, and a
HMAC-SHA256 of the challenge and these numbers under the token, so the token itself is never sent.  Other programs
may connect, and send anything or nothing: they are ignored.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import secrets
import selectors
import socket
import struct
import time
from typing import Any

from minicaffe.errors import ParallelError
from minicaffe.parallel.calls import Call
from minicaffe.parallel.peers import Peer

_CHALLENGE = struct.Struct("!8s32s")  # magic, random bytes
_HELLO = struct.Struct("!8sII32s")  # magic, rank, size, digest
_MAGIC = b"minicaf1"
_BACKLOG = 1024  #: connections that the system accepts ahead of the root
_JOIN = Call("join")  #: the root's reply to a hello: a message with the reason of a refusal, or without content


def _digest(token: str, challenge: bytes, rank: int, size: int) -> bytes:
    return hmac.digest(token.encode(), challenge + struct.pack("!II", rank, size), "sha256")


# -- the root ----------------------------------------------------------------------------------------------------------


class Accepting:
    """The root's side of joining: the connections of ranks 1, 2, ..., and those that have not said who they are."""

    def __init__(self, listener: socket.socket, size: int, token: str) -> None:
        self._size, self._token = size, token
        self._peers: dict[int, Peer] = {}
        self._challenges: dict[socket.socket, bytes] = {}  # of the connections without a whole hello
        self._hellos: dict[socket.socket, bytes] = {}  # what they have sent so far
        self._refused = ""
        self._listener = listener
        self._selector = selectors.DefaultSelector()

    def peers(self, timeout: float) -> list[Peer]:
        """Return the connections to ranks 1, 2, ..., once all have joined.

        Raises ParallelError, at the ranks that have joined, too, if others do not join within `timeout` seconds.
        """
        end = time.monotonic() + timeout
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        try:
            while len(self._peers) < self._size - 1:
                ready = self._selector.select(max(end - time.monotonic(), 0))
                if not ready and time.monotonic() >= end:
                    raise self._missing(timeout)
                for key, _ in ready:
                    self._serve(key.fileobj)
            return [self._peers[rank] for rank in sorted(self._peers)]
        except ParallelError as error:
            for peer in self._peers.values():
                peer.send_failure(str(error))
                peer.close()
            raise
        finally:
            for connection in list(self._challenges):
                self._forget(connection)
                connection.close()
            self._selector.close()

    def _serve(self, connection: Any) -> None:
        """Accept a connection, or read from one; never wait."""
        try:
            if connection is self._listener:
                self._challenge()
            elif connection in self._challenges:
                self._read(connection)
        except (OSError, ParallelError):  # that connection has ended
            if connection is not self._listener:
                self._forget(connection)
                connection.close()

    def _challenge(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        self._challenges[connection], self._hellos[connection] = secrets.token_bytes(32), b""
        self._selector.register(connection, selectors.EVENT_READ)
        connection.send(_CHALLENGE.pack(_MAGIC, self._challenges[connection]))

    def _read(self, connection: socket.socket) -> None:
        """Read a part of a hello; judge it when it is whole."""
        content = connection.recv(_HELLO.size - len(self._hellos[connection]))
        self._hellos[connection] += content
        if content and len(self._hellos[connection]) < _HELLO.size:
            return
        challenge, hello = self._challenges[connection], self._hellos[connection]
        self._forget(connection)
        if len(hello) < _HELLO.size or not hello.startswith(_MAGIC):
            connection.close()
            return
        _, rank, size, digest = _HELLO.unpack(hello)
        refusal = self._refusal(rank, size, hmac.compare_digest(digest, _digest(self._token, challenge, rank, size)))
        peer = Peer(connection, rank, own=0)
        peer.send(_JOIN, refusal.encode())
        if refusal:
            self._refused = refusal
            peer.close()
        else:
            self._peers[rank] = peer

    def _refusal(self, rank: int, size: int, authentic: bool) -> str:
        """Return why a process cannot join; "" if it can."""
        if not authentic:
            return "its token is not that of rank 0: the processes do not belong to one training"
        if size != self._size:
            return f"rank 0 expects {self._size} ranks, rank {rank} expects {size}"
        if not 0 < rank < size:
            return f"rank {rank} is not one of 1 to {size - 1}"
        return f"there are two processes of rank {rank}" if rank in self._peers else ""

    def _forget(self, connection: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection)
        self._challenges.pop(connection, None)
        self._hellos.pop(connection, None)

    def _missing(self, timeout: float) -> ParallelError:
        ranks = [str(rank) for rank in range(1, self._size) if rank not in self._peers]
        refused = f"; a process was refused: {self._refused}" if self._refused else ""
        which = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(ranks)}"
        return ParallelError(f"{which} of {self._size} did not join within {timeout:g} seconds{refused}")


def listen(address: tuple[str, int]) -> socket.socket:
    """Return a socket that listens at (host, port).

    host: a loopback address, or any name or address of this machine, "" for none: then all interfaces are used, since
        the name may have another address on the other machines.
    Raises ParallelError if this is not possible.
    """
    host, port = address
    try:
        if host == "localhost" or _is_loopback(host):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, port), family=family, backlog=_BACKLOG)
        if socket.has_dualstack_ipv6():
            with contextlib.suppress(OSError):  # IPv6 may be switched off
                return socket.create_server(("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
        return socket.create_server(("", port), backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise ParallelError(f"rank 0 cannot listen at {_shown(address)}: {_reason(error)}") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


# -- the other ranks ---------------------------------------------------------------------------------------------------


def connect(address: tuple[str, int], rank: int, size: int, token: str, timeout: float, repeat: bool = True) -> Peer:
    """Return the connection to the root, which may start later than this rank.

    repeat: whether to try again where nothing listens yet (default: yes).

    Raises ParallelError if the root is not there within `timeout` seconds, or refuses this rank.
    """
    end = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(_reach(address, end, repeat))  # closed if anything fails
            connection.settimeout(max(end - time.monotonic(), 1.0))
            magic, challenge = _CHALLENGE.unpack(_exactly(connection, _CHALLENGE.size))
            if magic != _MAGIC:
                raise ValueError("another program listens there")
            connection.sendall(_HELLO.pack(_MAGIC, rank, size, _digest(token, challenge, rank, size)))
        except (OSError, ValueError, OverflowError) as error:  # ValueError: a wrong name (UnicodeError), too
            raise ParallelError(f"rank {rank} cannot reach rank 0 at {_shown(address)}: {_reason(error)}") from None
        peer = Peer(connection, 0, own=rank)
        if refusal := peer.receive(_JOIN).decode(errors="replace"):  # the root replies at once
            raise ParallelError(f"rank {rank} cannot join: {refusal}")
        stack.pop_all()
    return peer


def _reach(address: tuple[str, int], end: float, repeat: bool) -> socket.socket:
    """Return a connection to an address; if `repeat`, try until the time `end`, except for an unknown host."""
    while True:
        try:
            connection = socket.create_connection(address, max(end - time.monotonic(), 0.001))
            if connection.getsockname() != connection.getpeername():
                return connection
            connection.close()  # TCP connects a port to itself if no process listens at it
        except OSError as error:
            unknown = isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME
            if unknown or not repeat or time.monotonic() >= end:
                raise
        time.sleep(0.05)


def _exactly(connection: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        more = connection.recv(count - len(content))
        if not more:
            raise ValueError("another program listens there, or rank 0 has ended")
        content += more
    return content


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
