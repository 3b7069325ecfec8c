"""A group over TCP, with nothing but the standard library: the other ranks are connected to the root.

It serves the processes of one machine, and ranks without MPI.  Every number goes through the root: a cluster with many
nodes needs MPI (mpi.py) or NCCL.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Iterator

import numpy as np

from minicaffe.errors import ParallelError
from minicaffe.parallel.calls import Call, bytes_of, parts
from minicaffe.parallel.group import Group
from minicaffe.parallel.joining import Accepting, connect, listen
from minicaffe.parallel.peers import Peer

JOIN_SECONDS = 60.0  #: how long a rank waits for the others
_PART = 1 << 20  #: bytes of the terms that are added at a time; they remain in the cache


class SocketGroup(Group):
    """The ranks of one training, connected by TCP.

    address: (host, port) at which the root listens, the same at all ranks.
    token: a secret that all ranks have, "" for none: other processes cannot join without it.
    timeout: seconds to wait for the others.  ParallelError if they do not come, or do not agree on the size.
    listener: at the root, a socket that listens already, instead of one at `address`; it is closed.

    The root starts each call when all others have sent theirs; at an error it sends the sentence to all of them.
    """

    name = "TCP"

    def __init__(
        self,
        address: tuple[str, int],
        rank: int,
        size: int,
        token: str = "",
        timeout: float = JOIN_SECONDS,
        listener: socket.socket | None = None,
    ) -> None:
        if not 0 <= rank < size:
            raise ParallelError(f"a group of {size} has the ranks 0 to {size - 1}, got {rank}")
        super().__init__(rank, size)
        self._terms = np.empty(0 if rank else _PART, np.uint8)
        self._peers: list[Peer] = []  # at the root: ranks 1, 2, ...; at another rank: the root
        if rank:
            self._peers = [connect(address, rank, size, token, timeout)]
        elif size > 1 or listener:
            with listener or listen(address) as listening:
                self._peers = Accepting(listening, size, token).peers(timeout)

    # -- collective calls --------------------------------------------------------------------------------------------

    def sum(self, array: np.ndarray) -> None:
        call = Call.on("sum", array)
        if self.rank:
            self._peers[0].send(call, bytes_of(array))
            self._peers[0].receive_into(call, array)
            return
        with self._meeting(call):
            for part in parts(array, _PART):
                term = self._terms[: part.nbytes].view(part.dtype)
                for peer in self._peers:  # in the order of the ranks
                    peer.fill(bytes_of(term))
                    part += term
            self._send_to_all(call, bytes_of(array))

    def broadcast(self, array: np.ndarray) -> None:
        call = Call.on("broadcast", array)
        if self.rank:
            self._peers[0].send(call)
            self._peers[0].receive_into(call, array)
            return
        with self._meeting(call):
            self._send_to_all(call, bytes_of(array))

    def gather_bytes(self, content: bytes) -> list[bytes]:
        call = Call("gather")
        if self.rank:
            self._peers[0].send(call, content)
            return []
        with self._reporting():
            return [content, *(peer.receive(call) for peer in self._peers)]

    def share_bytes(self, content: bytes) -> bytes:
        call = Call("share")
        if self.rank:
            self._peers[0].send(call)
            return self._peers[0].receive(call)
        with self._meeting(call):
            self._send_to_all(call, content)
        return content

    @contextlib.contextmanager
    def _meeting(self, call: Call) -> Iterator[None]:
        """At the root: wait until all other ranks are at `call`; report an error of the block to them."""
        with self._reporting():
            for peer in self._peers:
                peer.expect(call)
            yield

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """At the root: send an error of the block to all other ranks, which wait for the root."""
        try:
            yield
        except ParallelError as error:
            for peer in self._peers:
                peer.send_failure(str(error))
            raise

    def _send_to_all(self, call: Call, content: bytes | memoryview) -> None:
        for peer in self._peers:
            peer.send(call, content)

    # -- the group ---------------------------------------------------------------------------------------------------

    def duplicate(self) -> SocketGroup:
        if self.rank:
            host = self._peers[0].hosts[1]
            port, token = self.share()
            return SocketGroup((host, port), self.rank, self.size, token)
        hosts = {peer.hosts[0] for peer in self._peers}
        listener = listen((hosts.pop() if len(hosts) == 1 else "", 0))
        port, token = self.share([listener.getsockname()[1], secrets.token_hex(16)])
        return SocketGroup(("", port), 0, self.size, token, listener=listener)

    def close(self) -> None:
        super().close()
        for peer in self._peers:
            peer.close()


def free_address(host: str = "127.0.0.1") -> tuple[str, int]:
    """Return an address at which no process listens now."""
    with socket.create_server((host, 0)) as listener:
        return host, listener.getsockname()[1]
