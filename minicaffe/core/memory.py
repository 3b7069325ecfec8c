"""One buffer of numbers and the places where copies of it live: the host, the CUDA device, an engine's own layout.

Caffe calls this `SyncedMemory`.  Reading at a place gives the newest values there; writing at a place marks it as the
only valid copy; copies are made lazily, on read.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from minicaffe import forks
from minicaffe.core.settings import config
from minicaffe.errors import DeviceError

HOST, GPU, ENGINE = 1, 2, 4

_ALIGN = 64
_SURELY_THERE = 64 << 20
#: held while the host's array is made: threads may read one blob
_allocating = forks.renewed(threading.Lock())


class EngineCopy(Protocol):
    """What an engine leaves with a buffer: its own copy, in its own layout."""

    def to_host(self, flat: np.ndarray) -> None:
        """Write the values, in (N, C, H, W) order, into a flat host array."""


def aligned_zeros(count: int, dtype: np.dtype) -> np.ndarray:
    """(count,) zeros whose first byte lies on a cache line, as vector units and oneDNN like it."""
    raw = np.zeros(count * dtype.itemsize + _ALIGN, np.uint8)
    start = -raw.ctypes.data % _ALIGN
    return raw[start : start + count * dtype.itemsize].view(dtype)


class _Watching(threading.local):
    """`watcher` is called for each use of memory in this thread, while a step is captured (minicaffe.cuda.graph)."""

    watcher: Any = None


watching = _Watching()


def check_room(nbytes: int) -> None:
    """Raise MemoryError unless so many bytes could be allocated now.

    A few megabytes can: allocating and freeing them would only change how the C library places what follows.
    """
    if nbytes < _SURELY_THERE:
        return
    try:
        np.empty(nbytes, np.uint8)
    except (MemoryError, ValueError, OverflowError):
        raise MemoryError(f"{nbytes} bytes cannot be allocated") from None


class Memory:
    """`count` numbers of one dtype, zero at first.

    fresh: the set of places, as bits, that hold the newest values.  While a script holds a view, which it may write to
    at any time, no copy elsewhere stays valid beside the host's.
    refused: whether there was no room for it at a place; memory at a place is allocated when it is first used.

    Raises MemoryError for more than the host could hold.
    """

    __slots__ = ("count", "dtype", "fresh", "refused", "engine", "_version", "_host", "_gpu", "_view", "__weakref__")

    def __init__(self, count: int, dtype: np.dtype) -> None:
        check_room(count * dtype.itemsize)
        self.count, self.dtype = count, dtype
        self.fresh = 0  # nowhere: zeros
        self.refused = False
        self.engine: Any = None
        self._version: object = object()  # None: of values that a held view may have changed since it was asked for
        self._host: np.ndarray | None = None
        self._gpu: Any = None
        self._view: weakref.ref | None = None

    def fitted(self, count: int) -> Memory:
        """Memory for `count` numbers: this, or other memory where this is too small, or too large to be had.

        Raises MemoryError, and changes nothing.
        """
        if count == self.count or (count < self.count and self._is_there()):
            return self
        memory = Memory(count, self.dtype)
        if count < self.count and self.fresh:
            memory.host_place()[:] = self.host()[:count]
            memory.fresh = HOST
        return memory

    def _is_there(self) -> bool:
        """Whether it holds something, and there was room for it where it is used."""
        on_the_way = config.gpu and self._gpu is None and not self.held
        return bool(self.fresh) and not self.refused and not on_the_way

    def allocate(self, make: Callable[[], Any]) -> Any:
        """`make()`, which allocates memory for these numbers; notes when there is no room."""
        try:
            return make()
        except (MemoryError, DeviceError):
            self.refused = True
            raise

    # -- host ------------------------------------------------------------------------------------------------------

    def host_place(self) -> np.ndarray:
        """The flat host array, whatever it holds at the moment."""
        if self._host is None:
            with _allocating:
                if self._host is None:
                    self._host = self.allocate(lambda: aligned_zeros(self.count, self.dtype))
        return self._host

    def host(self) -> np.ndarray:
        """The flat host array with the newest values, for reading."""
        if watching.watcher is not None:
            watching.watcher.used_on_host(self)
        self.host_place()
        if not self.fresh & HOST:
            if self.fresh & ENGINE:
                self.engine.to_host(self._host)
            elif self.fresh & GPU:
                self._gpu.to_host(self._host)
            self.fresh = HOST if self.held else self.fresh | HOST
        return self._host

    def live(self) -> np.ndarray:
        """A flat view that may be read, written and kept: the host is the head from here on.

        While the view, or any slice of it, is referenced, an engine's results are copied back to the host after each
        layer (`settle`) and its inputs are read from there, so the view always shows the blob's values.
        """
        host = self.host()
        self.wrote_host()
        view = self._view() if self._view is not None else None
        if view is None:
            # a memoryview between the two arrays makes slices of the view keep the view alive, not only its buffer
            view = np.frombuffer(memoryview(host), self.dtype) if self.count else host[:0]
            self._view = weakref.ref(view)
        return view

    def wrote_host(self) -> None:
        """The host array has been written, or may be from now on: it is the only valid copy."""
        self.fresh, self._version = HOST, object()

    @property
    def held(self) -> bool:
        """Whether a script keeps a view that `live` handed out."""
        return self._view is not None and self._view() is not None

    @property
    def version(self) -> object:
        """An object that identifies the values: another one after each write (while a view is held, at each call)."""
        if self.held or self._version is None:
            self._version = None if self.held else object()
        return self._version or object()

    def clear(self) -> None:
        """Set all to zero: on the device if the newest values live there, else on the host."""
        self._version = object()
        if self.fresh & GPU:
            if watching.watcher is not None:
                watching.watcher.wrote_on_gpu(self)
            self._gpu.fill_zero()
            self.fresh = GPU
        elif self.fresh:
            self.host_place().fill(0)
            self.fresh = HOST

    # -- CUDA device -----------------------------------------------------------------------------------------------

    def gpu(self) -> int:
        """The device pointer of the newest values, for reading."""
        if watching.watcher is not None:
            watching.watcher.read_on_gpu(self)
        if self._gpu is None:
            from minicaffe.cuda.memory import DeviceBuffer

            self._gpu = self.allocate(lambda: DeviceBuffer(max(self.count, 1) * self.dtype.itemsize))
        uploaded = watching.watcher is not None and watching.watcher.uploads(self)
        if not uploaded and (not self.fresh & GPU or (self.fresh & HOST and self.held)):
            if self.fresh:
                self._gpu.from_host(self.host())
            else:
                self._gpu.fill_zero()
            self.fresh = HOST if self.held else self.fresh | GPU
        return self._gpu.ptr

    def mutable_gpu(self) -> int:
        """The device pointer of the newest values, for writing: the device is the head from here on."""
        pointer = self.gpu()
        self.wrote_gpu()
        if watching.watcher is not None:
            watching.watcher.wrote_on_gpu(self)
        return pointer

    def wrote_gpu(self) -> None:
        """The device's memory has been written, or is about to be: it is the only valid copy."""
        self.fresh, self._version = GPU, object()

    # -- an engine's layout ----------------------------------------------------------------------------------------

    @property
    def engine_fresh(self) -> bool:
        """Whether the engine's copy may be read as it stands."""
        return bool(self.fresh & ENGINE) and not self.held

    def wrote_engine(self, copy: EngineCopy) -> None:
        """An engine has written, or is about to write, `copy`: it is the head from here on."""
        self.engine = copy
        self.fresh, self._version = ENGINE, object()

    def settle(self) -> None:
        """Copy what was written elsewhere to the host if a script holds a view; called after the layer that wrote."""
        if self.fresh & ~HOST and self.held:
            self.host()
            self.fresh = HOST
