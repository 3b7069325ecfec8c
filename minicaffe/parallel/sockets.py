"""A group over TCP, with nothing but the standard library: the other ranks are connected to the root.

It serves the processes of one machine, and ranks without MPI.  Every number goes through the root: a cluster with many
nodes needs MPI (mpi.py) or NCCL.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import socket
import struct
import time

import numpy as np

from minicaffe.errors import ParallelError
from minicaffe.parallel.group import Group

JOIN_SECONDS = 60.0  #: how long a rank waits for the others
_HEADER = struct.Struct("!cQ")  # kind of a message, length of its content


class SocketGroup(Group):
    """The ranks of one training, connected by TCP.

    address: (host, port) at which the root listens, the same at all ranks.
    token: a secret that all ranks have, "" for none: other processes cannot join without it.
    timeout: seconds to wait for the others.  ParallelError if they do not come, or do not agree on the size.
    """

    name = "TCP"

    def __init__(
        self, address: tuple[str, int], rank: int, size: int, token: str = "", timeout: float = JOIN_SECONDS
    ) -> None:
        super().__init__(rank, size)
        self._token = token
        if rank == 0:
            with _listen(address) as listener:
                self._peers = self._accept(listener, timeout)
        else:
            self._peers = [self._connect(address, timeout)]

    # -- joining -----------------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket, timeout: float) -> list[Peer]:
        """Return the connections to ranks 1, 2 ..., once all have come."""
        peers: dict[int, Peer] = {}
        end = time.monotonic() + timeout
        while len(peers) < self.size - 1:
            listener.settimeout(max(end - time.monotonic(), 0.001))
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                missing = ", ".join(str(rank) for rank in range(1, self.size) if rank not in peers)
                raise ParallelError(f"rank {missing} of {self.size} did not join within {timeout:g} seconds") from None
            peer = Peer(connection, 0)
            with contextlib.suppress(ParallelError, OSError, ValueError, TypeError, KeyError):
                hello = json.loads(peer.receive(b"h"))
                refusal = self._refusal(hello, peers)
                peer.send(b"h", json.dumps(refusal).encode())
                if not refusal:
                    peer.rank = hello["rank"]
                    peers[peer.rank] = peer
                    continue
            peer.close()
        return [peers[rank] for rank in sorted(peers)]

    def _refusal(self, hello: dict, peers: dict[int, Peer]) -> str:
        """Return why a process that has sent `hello` cannot join; "" if it can."""
        if not hmac.compare_digest(str(hello["token"]), self._token):
            return "the processes do not belong to one training: their tokens differ"
        if hello["size"] != self.size:
            return f"rank 0 expects {self.size} ranks, rank {hello['rank']} expects {hello['size']}"
        if hello["rank"] not in range(1, self.size) or hello["rank"] in peers:
            return f"there are two ranks {hello['rank']}, or it is not below {self.size}"
        return ""

    def _connect(self, address: tuple[str, int], timeout: float) -> Peer:
        """Return the connection to the root, which may start later than this rank."""
        end = time.monotonic() + timeout
        while True:
            try:
                peer = Peer(socket.create_connection(address, max(end - time.monotonic(), 0.001)), 0)
                break
            except OSError as error:
                if time.monotonic() >= end:
                    where = "{}:{}".format(*address)
                    raise ParallelError(f"rank 0 cannot be reached at {where}: {error.strerror or error}") from None
                time.sleep(0.05)
        peer.send(b"h", json.dumps({"rank": self.rank, "size": self.size, "token": self._token}).encode())
        refusal = json.loads(peer.receive(b"h"))
        if refusal:
            raise ParallelError(f"rank {self.rank} cannot join: {refusal}")
        return peer

    # -- collective calls --------------------------------------------------------------------------------------------

    def sum(self, array: np.ndarray) -> None:
        if self.root:
            term = np.empty_like(array)
            for peer in self._peers:  # in the order of the ranks
                peer.receive_into(b"s", term)
                array += term
        else:
            self._peers[0].send(b"s", _bytes_of(array))
        self.broadcast(array)

    def broadcast(self, array: np.ndarray) -> None:
        if self.root:
            for peer in self._peers:
                peer.send(b"b", _bytes_of(array))
        else:
            self._peers[0].receive_into(b"b", array)

    def gather_bytes(self, content: bytes) -> list[bytes]:
        if self.root:
            return [content, *(peer.receive(b"g") for peer in self._peers)]
        self._peers[0].send(b"g", content)
        return []

    def share_bytes(self, content: bytes) -> bytes:
        if not self.root:
            return self._peers[0].receive(b"v")
        for peer in self._peers:
            peer.send(b"v", content)
        return content

    def duplicate(self) -> SocketGroup:
        if not self.root:
            host = self._peers[0].host
            return SocketGroup((host, self.share()), self.rank, self.size, self._token)
        address = free_address("")
        self.share(address[1])
        return SocketGroup(address, self.rank, self.size, self._token)

    def close(self) -> None:
        super().close()
        for peer in self._peers:
            peer.close()


class Peer:
    """A connection to one rank; each message has a kind, by which ranks that are at different calls are found."""

    def __init__(self, connection: socket.socket, rank: int) -> None:
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket, self.rank = connection, rank

    @property
    def host(self) -> str:
        """The address of the other side."""
        return self._socket.getpeername()[0]

    def send(self, kind: bytes, content: bytes | memoryview) -> None:
        """Send a message."""
        try:
            self._socket.sendall(_HEADER.pack(kind, len(content)))
            self._socket.sendall(content)
        except OSError as error:
            raise self._lost(error) from None

    def receive(self, kind: bytes) -> bytes:
        """Return the content of the next message."""
        content = bytearray(self._expect(kind))
        self._fill(memoryview(content))
        return bytes(content)

    def receive_into(self, kind: bytes, array: np.ndarray) -> None:
        """Fill a flat array from the next message."""
        length = self._expect(kind)
        if length != array.nbytes:
            raise ParallelError(f"rank {self.rank} sent {length} bytes, expected {array.nbytes}: the nets differ")
        self._fill(_bytes_of(array))

    def _expect(self, kind: bytes) -> int:
        header = bytearray(_HEADER.size)
        self._fill(memoryview(header))
        found, length = _HEADER.unpack(header)
        if found != kind:
            raise ParallelError(f"rank {self.rank} is at another step of the training than this one")
        return length

    def _fill(self, room: memoryview) -> None:
        while room:
            try:
                count = self._socket.recv_into(room)
            except OSError as error:
                raise self._lost(error) from None
            if not count:
                raise self._lost(None)
            room = room[count:]

    def _lost(self, error: OSError | None) -> ParallelError:
        reason = f": {error.strerror or error}" if error else ""
        return ParallelError(f"the connection to rank {self.rank} has ended{reason}")

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


def _bytes_of(array: np.ndarray) -> memoryview:
    """Return the bytes of a flat, contiguous array."""
    return array.view(np.uint8).data


def _listen(address: tuple[str, int]) -> socket.socket:
    host, port = address
    try:
        return socket.create_server(address, backlog=128)
    except OSError as error:
        raise ParallelError(f"cannot listen at {host}:{port}: {error.strerror or error}") from None


def free_address(host: str = "127.0.0.1") -> tuple[str, int]:
    """Return an address at which no process listens now."""
    with socket.create_server((host, 0)) as listener:
        return host, listener.getsockname()[1]
