"""A blob's numbers in oneDNN's layouts.

A blob's buffer (`minicaffe.memory.Memory`) knows where its newest values are.  When that is an engine, what the buffer
holds as `engine` is the `Layouts` of this module: one copy per layout somebody asked for, and which of them are fresh.
The rules:

- Who reads without naming a layout gets the newest values as they lie: nothing is converted.
- Who names a layout gets a copy in it, converted at most once after each write.
- Row-major memory *is* the host's array: between numpy and a primitive that computes in Caffe's order nothing moves.
- A script's view of `blob.data` stays true: while somebody holds one, the host has the last word.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minicaffe.blob import Blob
from minicaffe.memory import ENGINE, HOST
from minicaffe.memory import Memory as Buffer
from minicaffe.onednn.memory import Memory, MemoryDesc, plain, reorder

Shape = tuple[int, ...]

_MOST_COPIES = 8  # of one buffer


class Layouts:
    """The copies of one buffer, by layout; `head` is the one written last, `version` changes with the values."""

    __slots__ = ("head", "copies", "fresh", "version")

    def __init__(self) -> None:
        self.head: Memory | None = None
        self.copies: dict[MemoryDesc, Memory] = {}
        self.fresh: set[MemoryDesc] = set()
        self.version = object()

    def to_host(self, flat: np.ndarray) -> None:
        """Write the newest values, in Caffe's order, to a flat array."""
        desc = plain(self.head.desc.shape)
        host = self.copies.get(desc)
        if host is None:
            host = self.copies[desc] = Memory(desc, flat[: math.prod(desc.shape)])
        reorder(self.head, host)

    def copy(self, buffer: Buffer, desc: MemoryDesc) -> Memory:
        """The memory for one layout; made on first use, in memory that another shape has left behind where it fits."""
        memory = self.copies.get(desc)
        if memory is None:
            spare = self._drop_other_counts(math.prod(desc.shape))
            if desc.plain:
                memory = Memory(desc, buffer.host_place()[: desc.size // 4])
            elif spare is not None and spare.size >= desc.size:
                if desc.padded:
                    spare[:] = 0
                memory = Memory(desc, spare)
            else:
                memory = buffer.allocate(lambda: Memory(desc))
            if len(self.copies) >= _MOST_COPIES:
                oldest = next(iter(self.copies))
                del self.copies[oldest]
                self.fresh.discard(oldest)
            self.copies[desc] = memory
        return memory

    def _drop_other_counts(self, count: int) -> np.ndarray | None:
        """Forget copies for another number of elements; the largest buffer that becomes free."""
        old = [key for key, memory in self.copies.items() if math.prod(memory.desc.shape) != count]
        buffers = [self.copies.pop(key).buffer for key in old]
        return max((b for b in buffers if b.dtype == np.uint8), key=lambda b: b.size, default=None)


class Deferred:
    """Stands in a buffer for values that nobody has needed so far: `compute` writes them when somebody asks."""

    __slots__ = ("buffer", "layouts", "compute")

    def __init__(self, buffer: Buffer, compute: Callable[[], None]) -> None:
        self.buffer, self.layouts, self.compute = buffer, _layouts(buffer, discard=True), compute

    def settle(self) -> None:
        """Compute them now."""
        self.buffer.engine = self.layouts
        self.compute()

    def to_host(self, flat: np.ndarray) -> None:
        """Write them, in Caffe's order, to a flat array."""
        self.settle()
        self.layouts.to_host(flat)


def _layouts(buffer: Buffer, discard: bool = False) -> Layouts:
    """The layouts of a buffer; values that were put off are computed first, unless they do not count any more."""
    if buffer.engine is None:
        buffer.engine = Layouts()
    elif type(buffer.engine) is Deferred:
        if discard:
            buffer.engine = buffer.engine.layouts
        else:
            buffer.engine.settle()
    return buffer.engine


def read(buffer: Buffer, shape: Shape, desc: MemoryDesc | None = None) -> Memory:
    """The newest values of a buffer: as they lie, or in the layout `desc`."""
    layouts = _layouts(buffer)
    shape = shape or (1,)
    head = layouts.head
    if buffer.engine_fresh and head.desc.shape == shape:
        if desc is None or desc is head.desc:
            return head
        memory = layouts.copy(buffer, desc)
        if desc not in layouts.fresh:
            reorder(head, memory)
            layouts.fresh.add(desc)
            if desc.plain:
                buffer.fresh |= HOST
        return memory
    return _read_host(buffer, layouts, plain(shape), desc)


def _read_host(buffer: Buffer, layouts: Layouts, row_major: MemoryDesc, desc: MemoryDesc | None) -> Memory:
    """The values of the host, which has the last word or is the only one to understand this shape."""
    buffer.host()
    memory = layouts.copy(buffer, row_major)
    layouts.fresh, layouts.version = {row_major}, object()
    if desc is not None and desc is not row_major:
        source, memory = memory, layouts.copy(buffer, desc)
        reorder(source, memory)
        layouts.fresh.add(desc)
    layouts.head = memory
    buffer.fresh |= ENGINE
    return memory


def write(buffer: Buffer, desc: MemoryDesc) -> Memory:
    """Memory in the layout `desc` whose old values do not count: it is the head from here on."""
    layouts = _layouts(buffer, discard=True)
    return _make_head(buffer, layouts, layouts.copy(buffer, desc))


def _make_head(buffer: Buffer, layouts: Layouts, memory: Memory) -> Memory:
    layouts.head = memory
    layouts.fresh, layouts.version = {memory.desc}, object()
    buffer.wrote_engine(layouts)
    if memory.desc.plain:
        buffer.fresh |= HOST
    return memory


def data(blob: Blob, desc: MemoryDesc | None = None) -> Memory:
    """A blob's values for reading: as they lie, or in the layout `desc`."""
    return read(blob.data_memory, blob.shape, desc)


def diff(blob: Blob, desc: MemoryDesc | None = None) -> Memory:
    """A blob's diff for reading: as it lies, or in the layout `desc`."""
    return read(blob.diff_memory, blob.shape, desc)


def mutable_data(blob: Blob, desc: MemoryDesc) -> Memory:
    """Memory for a blob's new values."""
    return write(blob.data_memory, desc)


def mutable_data_beside(blob: Blob, x: Memory, spare: Memory | None) -> tuple[Memory, Memory]:
    """For a layer that works in place but needs its input `x` in backward: (where x is kept, memory for new values).

    The blob gets `spare`, which the layer kept the last time, and the layer keeps x: nothing is copied.  Only row-major
    memory, which is the host's own, cannot be given away: there x is copied.
    """
    if spare is None or spare.desc is not x.desc:
        spare = Memory(x.desc)
    if x.desc.plain:
        reorder(x, spare)
        return spare, mutable_data(blob, x.desc)
    layouts = _layouts(blob.data_memory)
    layouts.copies[x.desc] = spare
    return x, _make_head(blob.data_memory, layouts, spare)


def mutable_diff(blob: Blob, desc: MemoryDesc) -> Memory:
    """Memory for a blob's new diff."""
    return write(blob.diff_memory, desc)


def defer(blob: Blob, compute: Callable[[], None]) -> None:
    """Let a blob's new values be those that `compute` writes, and compute them only if somebody asks."""
    buffer = blob.data_memory
    buffer.wrote_engine(Deferred(buffer, compute))


def version(blob: Blob) -> object:
    """Something that is another object as soon as the values were written to."""
    buffer = blob.data_memory
    if not buffer.engine_fresh:
        read(buffer, blob.shape)
    return object() if buffer.held else buffer.engine.version


def add_to_diff(blob: Blob, memory: Memory) -> None:
    """blob.diff += memory, for the diffs of parameters, which sum up on the host."""
    buffer = blob.diff_memory
    buffer.host()
    target = _layouts(buffer).copy(buffer, plain(memory.desc.shape))
    reorder(memory, target, add=True)
    buffer.fresh = HOST
