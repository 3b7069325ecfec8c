"""Groups of processes that train together, and exchange numbers and states: the interface, and the group of one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np


class Group:
    """The processes (ranks) of one training.  All of its methods are collective: every rank calls them in one order.

    rank: the index of this process, from 0 (the root).  size: the number of processes.
    name: how the ranks are connected, for the log, such as "TCP".

    Every method raises ParallelError if another rank cannot be reached, or is at another call.
    """

    name = ""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._channels: dict[str, Group] = {}

    @property
    def root(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    # -- numbers ---------------------------------------------------------------------------------------------------

    def sum(self, array: np.ndarray) -> None:
        """Replace a flat, contiguous array by its sum over all ranks.

        The terms are added in the order of the ranks, so that all ranks get the same bits, and a repeated run, too.
        """
        raise NotImplementedError

    def broadcast(self, array: np.ndarray) -> None:
        """Replace a flat, contiguous array by the root's."""
        raise NotImplementedError

    # -- values that JSON can hold -----------------------------------------------------------------------------------

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in their order, at the root; [] at the others."""
        return [json.loads(each) for each in self.gather_bytes(json.dumps(value).encode())]

    def share(self, value: Any = None) -> Any:
        """Return the root's value at every rank; the values of the others are ignored."""
        return json.loads(self.share_bytes(json.dumps(value).encode() if self.root else b""))

    def exchange(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in their order, at every rank."""
        return self.share(self.gather(value))

    def gather_bytes(self, content: bytes) -> list[bytes]:
        """Return the bytes of all ranks, in their order, at the root; [] at the others."""
        raise NotImplementedError

    def share_bytes(self, content: bytes) -> bytes:
        """Return the root's bytes at every rank."""
        raise NotImplementedError

    # -- the group ---------------------------------------------------------------------------------------------------

    def duplicate(self) -> Group:
        """Return a group of the same ranks with connections of its own, which another thread may use."""
        raise NotImplementedError

    def channel(self, use: str) -> Group:
        """Return the duplicate of this group for one use, such as "statistics".

        It is made at the first call for a use, which is collective; it belongs to this group, which closes it.
        """
        if use not in self._channels:
            self._channels[use] = self.duplicate()
        return self._channels[use]

    def close(self) -> None:
        """End the connections, those of channels included; the group cannot be used any more.  Not collective."""
        for channel in self._channels.values():
            channel.close()


class Alone(Group):
    """The group of a training with one process."""

    name = "one process"

    def __init__(self) -> None:
        super().__init__(0, 1)

    def sum(self, array: np.ndarray) -> None:
        pass

    def broadcast(self, array: np.ndarray) -> None:
        pass

    def gather_bytes(self, content: bytes) -> list[bytes]:
        return [content]

    def share_bytes(self, content: bytes) -> bytes:
        return content

    def duplicate(self) -> Group:
        return self

    def channel(self, use: str) -> Group:
        return self


ALONE = Alone()
