"""One buffer of numbers and the places where copies of it live: the host, and what engines add.

Caffe calls this `SyncedMemory`.  Reading at a place gives the newest values there; writing at a place marks it as the
only valid copy; copies are made lazily, on read.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from minicaffe import forks
from minicaffe.core.places import HOST, BufferPlan, Copy, Place, observed
from minicaffe.errors import DeviceError

_ALIGN = 64
_SMALL = 64 << 20
#: held while a copy is allocated, on the host or elsewhere: threads may read one blob
_allocating = forks.renewed(threading.RLock())

T = TypeVar("T")


def aligned_zeros(count: int, dtype: np.dtype) -> np.ndarray:
    """(count,) zeros that begin on a cache line, for vector instructions and oneDNN."""
    raw = np.zeros(count * dtype.itemsize + _ALIGN, np.uint8)
    start = -raw.ctypes.data % _ALIGN
    return raw[start : start + count * dtype.itemsize].view(dtype)


def check_room(nbytes: int) -> None:
    """Raise MemoryError unless so many bytes could be allocated now.

    A few megabytes can: allocating and freeing them would only change how the C library places what follows.
    """
    if nbytes < _SMALL:
        return
    try:
        np.empty(nbytes, np.uint8)
    except (MemoryError, ValueError, OverflowError):
        raise MemoryError(f"{nbytes} bytes cannot be allocated") from None


class Memory:
    """`count` numbers of one dtype, zero at first.

    copies: by place, the copies beside the host's.
    fresh: the set of places, as bits, that hold the newest values; 0 while all are zero.  While a script holds a view,
    which it may write to at any time, no copy elsewhere stays valid beside the host's.
    refused: whether there was no room for it at a place; memory at a place is allocated when it is first used.
    plan: what lets it share buffers with other memory, or is to be notified of writes; None for most.
    view: a weak reference to the array that `live` returned last; None before, and once that array is gone.

    Raises MemoryError for more than the host could hold.
    """

    __slots__ = ("count", "dtype", "copies", "fresh", "refused", "plan", "view", "_version", "_host", "__weakref__")

    def __init__(self, count: int, dtype: np.dtype) -> None:
        check_room(count * dtype.itemsize)
        self.count, self.dtype = count, dtype
        self.copies: dict[Place, Any] = {}
        self.fresh = 0
        self.refused = False
        self.plan: BufferPlan | None = None
        self._version: object = object()  # None: of values that a held view may have changed since it was asked for
        self._host: np.ndarray | None = None
        self.view: weakref.ref | None = None

    def fitted(self, count: int, place: Place) -> Memory:
        """Memory for `count` numbers: this, or other memory where this is too small, or too large to be had.

        place: where it will be used.  Raises MemoryError, and changes nothing.
        """
        if count == self.count:
            return self
        if self.plan is not None:
            self.plan.resized(self)
        if count < self.count and self._is_there(place):
            return self
        memory = Memory(count, self.dtype)
        if count < self.count and self.fresh:
            memory.host_place()[:] = self.host()[:count]
            memory.fresh = HOST.bit
        return memory

    def _is_there(self, place: Place) -> bool:
        """Whether it holds something, or is about to, and there was room for it where it is used."""
        on_the_way = place is not HOST and not self.copies and not self.held
        return (bool(self.fresh) or not self.lasts) and not self.refused and not on_the_way

    def room(self, nbytes: int) -> np.ndarray:
        """A buffer of at least so many bytes, aligned: zeros, or one that is shared, whatever it holds."""
        part = self.plan.room(self, nbytes) if self.plan is not None else None
        return aligned_zeros(nbytes, np.dtype(np.uint8)) if part is None else part

    def forget(self) -> None:
        """Let go of all buffers: all values are zero from here on."""
        self._host, self.view, self.fresh, self._version = None, None, 0, object()
        self.copies.clear()

    def forget_host(self) -> None:
        """Let go of the host's array; the newest values are at another place."""
        self._host, self.fresh = None, self.fresh & ~HOST.bit

    @property
    def lasts(self) -> bool:
        """Whether the values stay until they are overwritten, and not only until the end of the pass."""
        return self.plan is None or not self.plan.shares(self)

    def allocate(self, make: Callable[[], T]) -> T:
        """`make()`, which allocates memory for these numbers; notes when there is no room."""
        try:
            return make()
        except (MemoryError, DeviceError):
            self.refused = True
            raise

    @property
    def version(self) -> object:
        """An object that identifies the values: another one after each write (while a view is held, at each call)."""
        if self.held or self._version is None:
            self._version = None if self.held else object()
        return self._version or object()

    def clear(self) -> None:
        """Set all to zero: where the newest values are, if that place can, else on the host."""
        plan = self.plan
        if plan is not None:
            plan.used(self)
            plan.written(self)
        self._version = object()
        for place, copy in tuple(self.copies.items()):
            if self.fresh & place.bit and hasattr(copy, "zero"):
                if observed.observer is not None:
                    observed.observer.wrote(self, place)
                copy.zero()
                self.fresh = place.bit
                return
        if self.fresh:
            self.host_place().fill(0)
            self.fresh = HOST.bit

    # -- the host --------------------------------------------------------------------------------------------------

    def host_place(self) -> np.ndarray:
        """The flat host array, whatever it holds at the moment."""
        if self._host is None:
            with _allocating:
                if self._host is None:
                    self._host = self.allocate(self._make_host)
        return self._host

    def _make_host(self) -> np.ndarray:
        if self.plan is None or not self.count:
            return aligned_zeros(self.count, self.dtype)
        # a memoryview between the arrays keeps the buffer alive that `room` gave, not only its memory
        held = memoryview(self.room(self.count * self.dtype.itemsize))  # type: ignore[arg-type]  # as in `live`
        return np.frombuffer(held, self.dtype, self.count)

    def host(self) -> np.ndarray:
        """The flat host array with the newest values, for reading."""
        if self.plan is not None:
            self.plan.used(self)
        if observed.observer is not None:
            observed.observer.used_on_host(self)
        host = self.host_place()
        if not self.fresh & HOST.bit:
            if self.fresh:
                self.copies[self._newest()].to_host(host)
            self.fresh = HOST.bit if self.held else self.fresh | HOST.bit
        return host

    def live(self) -> np.ndarray:
        """A flat view that may be read, written and kept; the host's copy is the only valid one from here on.

        While the view, or any slice of it, is referenced, an engine's results are copied back to the host after each
        layer (`settle`) and its inputs are read from there, so the view always shows the blob's values.
        """
        host = self.host()
        self.wrote_host()
        view = self.view() if self.view is not None else None
        if view is None:
            # a memoryview between the two arrays makes slices of the view keep the view alive, not only its buffer
            held = memoryview(host)  # type: ignore[arg-type]  # numpy's stubs have the buffer from Python 3.12 on
            view = np.frombuffer(held, self.dtype) if self.count else host[:0]
            self.view = weakref.ref(view, functools.partial(_forget_view, weakref.ref(self)))
        return view

    def wrote_host(self) -> None:
        """The host array has been written, or may be from now on: it is the only valid copy."""
        if self.plan is not None:
            self.plan.written(self)
        self.fresh, self._version = HOST.bit, object()

    @property
    def held(self) -> bool:
        """Whether a script keeps a view that `live` returned."""
        return self.view is not None and self.view() is not None

    def replayed(self, fresh: int) -> None:
        """New values were written to the places `fresh`, to the same copies as in an earlier pass."""
        self.rewritten(fresh)
        self.settle()

    def rewritten(self, fresh: int) -> None:
        """As `replayed`; views that scripts hold are brought up to date later."""
        if self.plan is not None:
            self.plan.written(self)
        self.fresh, self._version = fresh, object()

    def settle(self) -> None:
        """Copy what was written elsewhere to the host if a script holds a view; called after the layer that wrote."""
        if self.fresh & ~HOST.bit and self.held:
            self.host()
            self.fresh = HOST.bit

    # -- other places ----------------------------------------------------------------------------------------------

    def newest(self) -> Place:
        """A place other than the host with the newest values, if there is one that may be read as it stands."""
        return self._newest() if self.fresh & ~HOST.bit and not self.held else HOST

    def _newest(self) -> Place:
        """The first place other than the host, in the order of registration, with the newest values."""
        return min((place for place in tuple(self.copies) if self.fresh & place.bit), key=lambda place: place.bit)

    def valid_at(self, place: Place) -> bool:
        """Whether the copy there may be read as it stands."""
        return self.fresh & place.bit != 0 and (self.view is None or self.view() is None)  # not held

    def read(self, place: Place) -> Any:
        """The copy at a place other than the host, with the newest values, for reading."""
        if self.plan is not None:
            self.plan.used(self)
        observer = observed.observer
        current = observer is not None and observer.reads(self, place)
        copy = self.copies.get(place)
        if copy is None:
            with _allocating:
                copy = self.copies.get(place)
                if copy is None:
                    copy = self.copies[place] = self.allocate(lambda: place.allocate(self.count, self.dtype))
        if not current and (not self.fresh & place.bit or (self.fresh & HOST.bit and self.held)):
            self._bring(place, copy)
        return copy

    def _bring(self, place: Place, copy: Any) -> None:
        """Bring the copy at a place up to date: from that at another place if it can, else through the host."""
        written_by_script = self.fresh & HOST.bit and self.held
        others = () if written_by_script else [p for p in tuple(self.copies) if p is not place and self.fresh & p.bit]
        if any(other.convert(self.copies[other], place, copy) for other in others):
            self.fresh |= place.bit
            return
        if self.fresh:
            copy.from_host(self.host())
        else:
            copy.zero()
        self.fresh = HOST.bit if self.held else self.fresh | place.bit

    def write(self, place: Place) -> Any:
        """The copy at a place, with the newest values, for writing; it is the only valid one from here on."""
        copy = self.read(place)
        self.wrote(place)
        if observed.observer is not None:
            observed.observer.wrote(self, place)
        return copy

    def wrote(self, place: Place, copy: Copy | None = None) -> None:
        """The copy at a place, now `copy` if given, is written to: it is the only valid one from here on."""
        if self.plan is not None:
            self.plan.written(self)
        if copy is not None:
            self.copies[place] = copy
        self.fresh, self._version = place.bit, object()


def _forget_view(memory: weakref.ref[Memory], view: weakref.ref) -> None:
    """Called when the array that `view` refers to is gone."""
    owner = memory()
    if owner is not None and owner.view is view:
        owner.view = None
