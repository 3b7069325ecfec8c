"""Channels-last copies of blobs on the device, which layers of the TENSOR engine hand to each other unconverted.

A copy is an array (N, places, channels), its channels padded with zeros to a multiple of 8: a thread reads and writes
8 channels of a place in 16 bytes of bfloat16, or twice 16 of float32. It is one of the copies of a Memory, at the place
`LAST`:

- `read` gives the newest values in a layout, converted at most once after each write; `write` gives the array for new
  values. Any other use of the blob (`data`, `gpu_data`) converts to the ordinary copy, (N, C, H, W) in float32.
- Where the values are those of the ordinary copy and the array is in bfloat16, the ordinary copy stays the newest: what
  is read elsewhere is not rounded.
- An array may belong to several memories (`lend`), and a layer may keep one for its backward pass (`Kept`). New values
  of a memory whose array has other users are written to another one.
- `read_made` keeps what is made from parameters, such as packed weights, in the same way.

In a captured step (`graph`) conversions are recorded. What was converted before it is brought up to date before each
replay.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import numpy as np

from minicaffe import forks
from minicaffe.core.blob import Blob
from minicaffe.core.memory import Memory
from minicaffe.core.places import HOST, Place, observed
from minicaffe.cuda import context
from minicaffe.cuda.kernels import BLOCK, Kernel
from minicaffe.cuda.kernels import kernel as _kernel
from minicaffe.cuda.memory import GPU, DeviceBuffer, copy_to_host

VECTOR = 8  #: channels that a thread reads and writes at once
_MOST_MADE = 4  # arrays of a memory that are made of parameters, for several shapes
_MOST_SPARES = 4  # arrays of a memory that wait for reuse, for each layout
_CHUNK = 8  # vectors of a row that a block works on: 128 bytes of bfloat16
_MAP_BLOCKS, _SUM_BLOCKS = 8, 2  # most blocks for each multiprocessor
_LEAST_ROWS = 4  # rows of a thread
_TILE, _NARROW_TILE = (64, 64), (8, 512)  # channels and places that a block converts


class Layout(NamedTuple):
    """Shape and element type of an array."""

    samples: int
    channels: int
    places: int
    bf16: bool  # else float32

    @property
    def vectors(self) -> int:
        """The vectors of 8 channels of a place."""
        return -(-self.channels // VECTOR)

    @property
    def rows(self) -> int:
        """The places of all samples."""
        return self.samples * self.places

    @property
    def nbytes(self) -> int:
        """The size of an array."""
        return self.rows * self.vectors * VECTOR * (2 if self.bf16 else 4)

    @property
    def size(self) -> int:
        """The vectors of 8 channels of all rows."""
        return self.rows * self.vectors

    def kernel(self, name: str, stem: str = "channels_last") -> Kernel:
        """A kernel for arrays of this element type."""
        return _kernel(stem, name, np.float32, ("-DBF16",) if self.bf16 else ())

    # -- launches of kernels that work on channels: blocks of 256 threads, each with a chunk of the vectors of its rows

    @property
    def chunks(self) -> int:
        """The chunks of vectors."""
        return -(-self.vectors // _CHUNK)

    @property
    def block_rows(self) -> int:
        """The rows of which a block works on a chunk at once."""
        return BLOCK // min(self.vectors, _CHUNK)

    def row_blocks(self) -> tuple[tuple[int, int], int]:
        """The grid of a kernel that maps rows, and the distance between the rows of a thread."""
        most = -(-_MAP_BLOCKS * context.current().multiprocessors // self.chunks)
        blocks = max(1, min(most, self.rows // (_LEAST_ROWS * self.block_rows)))
        return (self.chunks * blocks, 1), blocks * self.block_rows

    def parts(self) -> tuple[tuple[int, int], int, int]:
        """The grid of a kernel that sums rows, the number of parts of the rows, and their length."""
        most = -(-_SUM_BLOCKS * context.current().multiprocessors // self.chunks)
        parts = max(1, min(most, self.rows // (_LEAST_ROWS * self.block_rows)))
        length = -(-self.rows // parts)
        parts = -(-self.rows // length)
        return (self.chunks * parts, 1), parts, length


def layout_of(shape: tuple[int, ...], bf16: bool) -> Layout:
    """The layout of a blob of shape (N, C, ...)."""
    return Layout(shape[0], shape[1], math.prod(shape[2:]), bf16)


class Array:
    """A buffer with values in a layout; `int(array)` is its address.

    users: how many memories and layers use it; without any it may be written to.
    """

    __slots__ = ("buffer", "users", "_observer")

    def __init__(self, nbytes: int) -> None:
        self.buffer, self.users = DeviceBuffer(nbytes), 0
        self._observer: weakref.ref | None = None

    def __int__(self) -> int:
        return self.buffer.ptr

    __index__ = __int__

    def made(self) -> None:
        """Its values are computed now, in the run of a step if one is being recorded."""
        self._observer = None if observed.observer is None else weakref.ref(observed.observer)

    @property
    def made_here(self) -> bool:
        """Whether that was in the run of a step that is being recorded now."""
        return self._observer is not None and self._observer() is observed.observer


class Arrays:
    """The arrays of one memory by key, a Layout or what `read_made` was given.

    head: the layout that was written last; unset where it only holds conversions.
    fresh: the keys whose arrays hold the newest values, as long as the memory has them at `LAST`.
    lock: held during conversions, for nets in several threads may share parameters.
    """

    __slots__ = ("head", "copies", "spares", "fresh", "lock")

    def __init__(self) -> None:
        self.head: Layout | None = None
        self.copies: dict[Hashable, Array] = {}
        self.spares: dict[Hashable, list[Array]] = {}
        self.fresh: set[Hashable] = set()
        self.lock = forks.renewed(threading.RLock())

    def to_host(self, flat: np.ndarray) -> None:
        """Write the newest values, in the order (N, C, H, W), to a flat array."""
        assert self.head is not None
        count = self.head.samples * self.head.channels * self.head.places
        buffer = DeviceBuffer(4 * count)
        from_array(self.head, self.copies[self.head], buffer)
        copy_to_host(flat[:count], buffer.ptr)

    def put(self, key: Hashable, array: Array) -> None:
        """Use an array for a key; the one before waits for reuse."""
        before = self.copies.get(key)
        if before is array:
            return
        if before is not None:
            self._release(key, before)
        else:
            self._make_room(key)
        array.users += 1
        self.copies[key] = array

    def writable(self, buffer: Memory, key: Hashable, nbytes: int) -> Array:
        """The array for new values: that of the key, or another one if it has other users."""
        array = self.copies.get(key)
        if array is None or array.users > 1:
            array = self._unused(buffer, key, nbytes)
            self.put(key, array)
        return array

    def reserve(self, buffer: Memory, key: Hashable, nbytes: int) -> None:
        """Have another array ready for the next values: a captured step does not allocate."""
        spares = self.spares.setdefault(key, [])
        if not spares:
            spares.append(buffer.allocate(lambda: Array(nbytes)))

    def _unused(self, buffer: Memory, key: Hashable, nbytes: int) -> Array:
        spares = self.spares.get(key, [])
        free = next((i for i, array in enumerate(spares) if not array.users), None)
        return buffer.allocate(lambda: Array(nbytes)) if free is None else spares.pop(free)

    def _release(self, key: Hashable, array: Array) -> None:
        array.users -= 1
        spares = self.spares.setdefault(key, [])
        if array not in spares:
            spares.append(array)
        del spares[:-_MOST_SPARES]

    def _make_room(self, key: Hashable) -> None:
        """Before a key is added: forget the arrays of other shapes, or the oldest one that is made of parameters."""
        made = [other for other in self.copies if not isinstance(other, Layout)]
        old = made[: 1 - _MOST_MADE] if len(made) >= _MOST_MADE else []
        if isinstance(key, Layout):
            old = [other for other in self.copies if isinstance(other, Layout) and other[:3] != key[:3]]
        for other in old:
            self.copies.pop(other).users -= 1
            self.spares.pop(other, None)
            self.fresh.discard(other)


class _ChannelsLast(Place):
    """The Place of channels-last copies; they are `Arrays`, made by `read` and `write` below."""

    def convert(self, source: Arrays, place: Place, target: Any) -> bool:
        if place is not GPU or source.head is None:
            return False
        from_array(source.head, source.copies[source.head], target)
        return True

    def keep(self, source: Blob, target: Blob) -> None:
        head = _arrays(source.data_memory).head
        assert head is not None  # the newest values are here
        lend(source.data_memory, target.data_memory, head)


LAST = _ChannelsLast("channels_last")
_making = forks.renewed(threading.Lock())


def _arrays(memory: Memory) -> Arrays:
    arrays = memory.copies.get(LAST)
    if arrays is None:
        with _making:
            arrays = memory.copies.setdefault(LAST, Arrays())
    return arrays


def _valid(memory: Memory) -> bool:
    """Whether the arrays that are fresh may be read as they stand: no view of a script is newer."""
    return bool(memory.fresh & LAST.bit) and not (memory.fresh & HOST.bit and memory.held)


# -- reading -----------------------------------------------------------------------------------------------------------


def read(memory: Memory, layout: Layout) -> Array:
    """The newest values in a layout, for reading."""
    return read_made(memory, layout, layout.nbytes, lambda source, array: to_array(layout, source, array))


def read_made(memory: Memory, key: Hashable, nbytes: int, make: Callable[[Any, Any], None]) -> Array:
    """What `make(source, array)` makes of the newest values, in the ordinary copy `source`: once after each write."""
    arrays = _arrays(memory)
    with arrays.lock:
        if _valid(memory) and key in arrays.fresh:
            array = arrays.copies[key]
        else:
            array = arrays.writable(memory, key, nbytes)
            _make(memory, arrays, key, array, make)
    if observed.observer is not None and not array.made_here:
        array.buffer.ptr  # noqa: B018  (the step holds a buffer whose address is read)
        observed.observer.before_replay(lambda: _remake(memory, key, array, make))
    return array


def _make(memory: Memory, arrays: Arrays, key: Hashable, array: Array, make: Callable[[Any, Any], None]) -> None:
    make(memory.read(GPU), array)
    array.made()
    if not memory.fresh & LAST.bit:
        arrays.head, arrays.fresh = None, set()
    arrays.fresh.add(key)
    if not memory.held:
        memory.fresh |= LAST.bit


def _remake(memory: Memory, key: Hashable, array: Array, make: Callable[[Any, Any], None]) -> None:
    """Let `array`, which a captured step reads, hold the newest values."""
    arrays = _arrays(memory)
    with arrays.lock:
        if not (_valid(memory) and key in arrays.fresh and arrays.copies[key] is array):
            _make(memory, arrays, key, array, make)
            arrays.put(key, array)


# -- writing -----------------------------------------------------------------------------------------------------------


def write(memory: Memory, layout: Layout) -> Array:
    """An array for new values: it holds the newest ones from here on."""
    if memory.plan is not None:
        memory.plan.used(memory)
    arrays = _arrays(memory)
    with arrays.lock:
        array = arrays.writable(memory, layout, layout.nbytes)
        _wrote(memory, arrays, layout)
    array.made()
    return array


def lend(source: Memory, target: Memory, layout: Layout) -> None:
    """Give one memory the values of another without a copy."""
    array = read(source, layout)
    _arrays(source).reserve(source, layout, layout.nbytes)
    arrays = _arrays(target)
    with arrays.lock:
        arrays.put(layout, array)
        _wrote(target, arrays, layout)


def _wrote(memory: Memory, arrays: Arrays, layout: Layout) -> None:
    arrays.head, arrays.fresh = layout, {layout}
    memory.wrote(LAST, arrays)
    if observed.observer is not None:
        observed.observer.wrote(memory, LAST)


class Kept:
    """The values of a blob that a layer keeps for its backward pass; the blob's next values are in another array.

    array: None while nothing is kept.
    """

    def __init__(self) -> None:
        self.array: Array | None = None

    def keep(self, memory: Memory, layout: Layout) -> Array:
        """Keep the newest values of a memory, in place of those that were kept until now."""
        self._hold(None)
        array = read(memory, layout)
        self._hold(array)
        _arrays(memory).reserve(memory, layout, layout.nbytes)
        if observed.observer is not None:
            observed.observer.before_replay(lambda: self._hold(array))
        return array

    def _hold(self, array: Array | None) -> None:
        if self.array is not None:
            self.array.users -= 1
        if array is not None:
            array.users += 1
        self.array = array

    def __del__(self) -> None:
        self._hold(None)


# -- replays -----------------------------------------------------------------------------------------------------------


class Marks:
    """Which copies of a memory are the newest, at the end of a step that has written to it."""

    def __init__(self, memory: Memory) -> None:
        self._memory, self._fresh = memory, memory.fresh & ~HOST.bit or GPU.bit
        self._arrays: Arrays | None = memory.copies.get(LAST) if self._fresh & LAST.bit else None
        if self._arrays is not None:
            self._head = self._arrays.head
            self._newest = {key: self._arrays.copies[key] for key in self._arrays.fresh}

    def restore(self) -> None:
        """Mark them again: the step has been replayed."""
        self._memory.rewritten(self._fresh)
        arrays = self._arrays
        if arrays is not None:
            self._memory.copies[LAST] = arrays
            for key, array in self._newest.items():
                arrays.put(key, array)
            arrays.head, arrays.fresh = self._head, set(self._newest)


def forget_conversions(memory: Memory) -> None:
    """Let what was made of the ordinary copy be made again at the next use."""
    if memory.fresh & GPU.bit:
        memory.fresh &= ~LAST.bit


# -- conversions -------------------------------------------------------------------------------------------------------


def to_array(layout: Layout, source: Any, array: Any) -> None:
    """Queue the conversion of an ordinary copy, (N, C, places) in float32."""
    _convert("to_last", layout, source, array)


def from_array(layout: Layout, array: Any, target: Any) -> None:
    """Queue the conversion to an ordinary copy."""
    _convert("from_last", layout, array, target)


def _convert(name: str, layout: Layout, source: Any, target: Any) -> None:
    narrow = layout.channels <= VECTOR
    channels, places = _NARROW_TILE if narrow else _TILE
    across, down = -(-layout.places // places), -(-layout.channels // channels)
    convert = layout.kernel(f"{name}_narrow" if narrow else name)
    convert.launch(
        (across * down * layout.samples, 1), 256, layout.channels, layout.places, across, down, source, target
    )
