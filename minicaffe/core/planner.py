"""Which memories of a net may use one buffer, because their values are not needed at the same time.

In a forward pass over a whole net the data of a top are needed from the layer that writes them to the last one that
reads them; its diff, in the backward pass, from the last layer that reads the top back to the one that writes it.
Fused layers count as one, for they read and write in any order.  Memories whose intervals do not overlap may use one
buffer, a `Slab`.  What a script finds in a blob whose buffer another one has taken is decided in sharing.py.
"""

from __future__ import annotations

import weakref
from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from minicaffe.core.memory import Memory, aligned_zeros

if TYPE_CHECKING:
    from minicaffe.core.net import Net

_BYTES = np.dtype(np.uint8)
_CONSIDERED = 256  #: slabs among which one is searched, so that a net of many thousands of layers is planned in time


class Interval:
    """The part of a pass in which one memory is needed: from step `first` to step `last`, both included."""

    __slots__ = ("first", "last")

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last

    def include(self, first: int, last: int) -> None:
        """Make it contain the steps first to last, too."""
        self.first, self.last = min(self.first, first), max(self.last, last)

    def overlaps(self, other: Interval) -> bool:
        """Whether both memories are needed in one step."""
        return self.first <= other.last and other.first <= self.last

    def __repr__(self) -> str:
        return f"Interval({self.first}, {self.last})"


Intervals = dict[Memory, Interval]


def forward_intervals(net: Net, groups: Mapping[int, Any]) -> Intervals:
    """When the data of bottoms and tops are needed; a step is a layer's index.

    groups: fused layers, `start` to `end` (inclusive), by the index of their first layer.
    """
    found: Intervals = {}
    for first, last in _steps(len(net.layers), groups):
        for i in range(first, last + 1):
            for blob in (*net.bottoms[i], *net.tops[i]):
                _include(found, blob.data_memory, first, last)
    return found


def backward_intervals(net: Net, groups: Mapping[int, Any]) -> Intervals:
    """When the diffs of bottoms and tops are needed that a layer writes; a step is a layer's index times -1."""
    found: Intervals = {}
    written: set[Memory] = set()
    for first, last in _steps(len(net.layers), groups):
        for i in range(first, last + 1):
            if not net.layer_need_backward[i]:
                continue
            for blob, needed in zip(net.bottoms[i], net.bottom_need_backward[i]):
                if needed:
                    written.add(blob.diff_memory)
            for blob in (*net.bottoms[i], *net.tops[i]):
                _include(found, blob.diff_memory, -last, -first)
    return {memory: interval for memory, interval in found.items() if memory in written}


def _steps(count: int, groups: Mapping[int, Any]) -> Iterator[tuple[int, int]]:
    """(first, last) layer of everything that runs as one."""
    i = 0
    while i < count:
        last = groups[i].end if i in groups else i
        yield i, last
        i = last + 1


def _include(found: Intervals, memory: Memory, first: int, last: int) -> None:
    if memory in found:
        found[memory].include(first, last)
    else:
        found[memory] = Interval(first, last)


# -- buffers -----------------------------------------------------------------------------------------------------------


def _first(interval: Interval) -> int:
    return interval.first


class Slab:
    """A buffer of `size` bytes for memories whose intervals do not overlap.

    tenants: those that it is planned for; users: those that have got it, with the view of it that they got.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.tenants: Intervals = {}
        self.users: dict[Memory, weakref.ref] = {}
        self._in_order: list[Interval] = []  # those of the tenants
        self._buffer: np.ndarray | None = None

    def free_in(self, interval: Interval) -> bool:
        """Whether none of the tenants needs it in this part of a pass."""
        at = bisect_right(self._in_order, interval.first, key=_first)
        return not any(interval.overlaps(other) for other in self._in_order[max(at - 1, 0) : at + 1])

    def add(self, memory: Memory, interval: Interval) -> None:
        """Plan it for a memory; its interval overlaps no other tenant's."""
        self.tenants[memory] = interval
        insort(self._in_order, interval, key=_first)

    def give(self, memory: Memory) -> np.ndarray:
        """The buffer, for a memory; allocated when it is first used."""
        if self._buffer is None:
            self._buffer = aligned_zeros(self.size, _BYTES)
        view = self._buffer[:]
        self.users[memory] = weakref.ref(view)
        return view

    def used_by(self, memory: Memory) -> bool:
        """Whether a memory still has the view that it got."""
        return memory in self.users and self.users[memory]() is not None

    @property
    def abandoned(self) -> bool:
        """Whether it was used, and no memory has its view any more: blobs have other shapes now."""
        return self._buffer is not None and not any(view() is not None for view in self.users.values())

    def overwritten(self) -> Iterable[Memory]:
        """The users whose values are gone at the end of a pass: all but the last one."""
        return sorted(self.users, key=lambda memory: self.tenants[memory].first)[:-1]


def assign(intervals: Intervals) -> dict[Memory, Slab]:
    """A slab for each memory that holds its values without padding: the largest first, each in the best fit."""
    slabs: list[Slab] = []
    found: dict[Memory, Slab] = {}
    for memory in sorted(intervals, key=lambda memory: -_nbytes(memory)):
        found[memory] = _best_fit(slabs, _nbytes(memory), intervals[memory])
        found[memory].add(memory, intervals[memory])
    return found


def _best_fit(slabs: list[Slab], nbytes: int, interval: Interval) -> Slab:
    """The smallest slab that is large enough and free, among the newest; a new one where there is none."""
    fitting = (slab for slab in slabs[-_CONSIDERED:] if slab.size >= nbytes and slab.free_in(interval))
    slab = min(fitting, key=lambda slab: slab.size, default=None)
    if slab is None:
        slab = Slab(nbytes)
        slabs.append(slab)
    return slab


def _nbytes(memory: Memory) -> int:
    return memory.count * memory.dtype.itemsize


class Slabs:
    """The slabs of one kind of pass of one net."""

    def __init__(self, intervals: Intervals) -> None:
        self.intervals = intervals
        self._of = {memory: [slab] for memory, slab in assign(intervals).items()}
        self._all = list(dict.fromkeys(slab for (slab,) in self._of.values()))
        self._overwritten: list[Memory] | None = None

    def room(self, memory: Memory, nbytes: int) -> np.ndarray:
        """A buffer of at least so many bytes; a memory that needs several at a time (layouts) gets different ones."""
        self._overwritten = None
        own = (slab for slab in self._of[memory] if slab.size >= nbytes and not slab.used_by(memory))
        slab = next(own, None)
        if slab is None:
            self._drop_abandoned()
            slab = _best_fit(self._all, nbytes, self.intervals[memory])
            slab.add(memory, self.intervals[memory])
            self._of[memory].append(slab)
        return slab.give(memory)

    def _drop_abandoned(self) -> None:
        """Free buffers that only blobs of earlier shapes used."""
        if any(slab.abandoned for slab in self._all):
            self._all = [slab for slab in self._all if not slab.abandoned]
            self._of = {memory: [slab for slab in own if not slab.abandoned] for memory, own in self._of.items()}

    def overwritten(self) -> list[Memory]:
        """The memories whose values are gone at the end of a pass, for others have taken their buffers."""
        if self._overwritten is None:
            gone = {memory for slab in self._all for memory in slab.overwritten()}
            self._overwritten = [memory for memory in self.intervals if memory in gone]
        return self._overwritten

    def leave_out(self, memory: Memory) -> None:
        """Give this memory no buffers any more; those that it has stay reserved."""
        self.intervals.pop(memory, None)
        self._overwritten = None
        for slab in self._all:
            slab.users.pop(memory, None)

    @property
    def shared(self) -> bool:
        """Whether any two memories share a buffer."""
        return any(len(slab.tenants) > 1 for slab in self._all)

    @property
    def nbytes(self) -> int:
        """Bytes of all slabs that are in use."""
        return sum(slab.size for slab in self._all if slab.users)
