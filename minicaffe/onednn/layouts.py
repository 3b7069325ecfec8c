"""A blob's numbers in oneDNN's layouts.

A blob's buffer (`minicaffe.core.memory.Memory`) knows where its newest values are.  Its copy at the place
`LAYOUTS` is the `Layouts` of this module: one tensor per layout that was asked for, and which of them are fresh.
The rules:

- Reading without naming a layout gives the newest values in their current one: nothing is converted.  `data` and `diff`
  convert bfloat16 to float32; only `read` returns it, to layers that compute in it.
- Reading in a named layout gives a copy in it, converted at most once after each write.  Where that is of bfloat16 and
  the values are of float32, they stay the newest ones: what is read next is converted from them.
- Row-major memory *is* the host's array: between numpy and a primitive that computes in Caffe's order nothing moves.
- While a script holds a view of `blob.data`, the host's copy is the valid one.
- Values that a layer needs later are kept with `keep`: memory that is kept is not written to, the blob's next values go
  to other memory.
- Nets in several threads may share parameters: conversions of one buffer take turns.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable

import numpy as np

from minicaffe import forks
from minicaffe.core.blob import Blob
from minicaffe.core.memory import Memory
from minicaffe.core.places import HOST, Place, observed
from minicaffe.onednn.conversion import reorder, to_numpy
from minicaffe.onednn.tensors import MemoryDesc, Tensor, plain

Shape = tuple[int, ...]

_MOST_COPIES = 8  # of one buffer


class _Layouts(Place):
    """Memory in oneDNN's layouts; the copies are `Layouts`, made by `write` and `read` below."""

    def keep(self, source: Blob, target: Blob) -> Kept | None:
        return lend(source, target)


LAYOUTS = _Layouts("onednn")


class Layouts:
    """The copies of one buffer, by layout; `head` is the one written last.

    spares: by layout, memory that was the buffer's copy while something kept it (`keep`), for reuse once it is let go.
    lock: held during conversions, for nets in several threads may read one buffer.
    """

    __slots__ = ("head", "copies", "spares", "fresh", "lock")

    def __init__(self) -> None:
        self.head: Tensor  # unset before the first write
        self.copies: dict[MemoryDesc, Tensor] = {}
        self.spares: dict[MemoryDesc, list[Tensor]] = {}
        self.fresh: set[MemoryDesc] = set()
        self.lock = forks.renewed(threading.RLock())

    def to_host(self, flat: np.ndarray) -> None:
        """Write the newest values, in Caffe's order, to a flat array."""
        with self.lock:
            desc = plain(self.head.desc.shape)
            host = self.copies.get(desc)
            if host is None:
                host = self.copies[desc] = Tensor(desc, flat[: math.prod(desc.shape)])
            reorder(self.head, host)

    def copy(self, buffer: Memory, desc: MemoryDesc) -> Tensor:
        """The memory for one layout, to be written to; made on first use, in memory of another shape where it fits."""
        memory = self.copies.get(desc)
        if memory is not None and memory.keepers:
            self.spares.setdefault(desc, []).append(memory)
            memory = self.copies[desc] = self.spare(desc)
        if memory is None:
            free = self._drop_other_counts(math.prod(desc.shape))
            if desc.plain:
                memory = Tensor(desc, buffer.host_place()[: desc.size // 4])
            elif free is not None and free.size >= desc.size:
                if desc.padded:
                    free[:] = 0
                memory = Tensor(desc, free)
            else:
                memory = buffer.allocate(lambda: Tensor(desc, None if desc.padded else buffer.room(desc.size)))
            if len(self.copies) >= _MOST_COPIES:
                oldest = next(iter(self.copies))
                del self.copies[oldest]
                self.fresh.discard(oldest)
            self.copies[desc] = memory
        return memory

    def spare(self, desc: MemoryDesc) -> Tensor:
        """A tensor in a layout that nothing uses: one that was kept and is let go, or new."""
        spares = self.spares.setdefault(desc, [])
        free = next((i for i, memory in enumerate(spares) if not memory.keepers), None)
        return Tensor(desc) if free is None else spares.pop(free)

    def drop_plain(self) -> None:
        """Forget the copies in row-major order, which are in the host's array."""
        for desc in [desc for desc in self.copies if desc.plain]:
            del self.copies[desc]
            self.fresh.discard(desc)

    def _drop_other_counts(self, count: int) -> np.ndarray | None:
        """Forget copies for another number of elements; the largest buffer that becomes free."""
        self.spares = {desc: spares for desc, spares in self.spares.items() if math.prod(desc.shape) == count}
        old = [key for key, memory in self.copies.items() if math.prod(memory.desc.shape) != count]
        free = [memory.buffer for memory in map(self.copies.pop, old) if not memory.keepers]
        return max((b for b in free if b.dtype == np.uint8), key=lambda b: b.size, default=None)


class Kept:
    """Values of a blob that stay as they are for as long as this object lives; see `keep`.

    lasts: False for values that last only until the end of the pass (`minicaffe.core.sharing`); none are kept.
    """

    __slots__ = ("memory", "version", "lasts")

    def __init__(self, memory: Tensor, version: object, lasts: bool = True) -> None:
        self.memory, self.version, self.lasts = memory, version, lasts
        memory.keepers += lasts
        if lasts and observed.observer is not None:
            observed.observer.kept()

    def __del__(self) -> None:
        self.memory.keepers -= self.lasts

    def current(self, blob: Blob) -> bool:
        """Whether the blob still holds these values."""
        if blob.data_memory.version is self.version:
            return True
        return blob.data_memory.held and np.array_equal(to_numpy(self.memory), blob.read_data())


def keep(blob: Blob, x: Tensor) -> Kept:
    """Keep `x`, a blob's values as read: the blob's next values go to other memory.

    Nothing is copied, unless x is the host's own array.
    """
    buffer = blob.data_memory
    if not x.desc.plain or not buffer.lasts:
        return Kept(x, buffer.version, buffer.lasts)
    layouts = _layouts(buffer)
    spare = layouts.spare(x.desc)
    layouts.spares[x.desc].append(spare)
    reorder(x, spare)
    return Kept(spare, buffer.version)


def lend(blob: Blob, target: Blob) -> Kept | None:
    """Let another blob of this shape hold the blob's values as they are now, for as long as the result lives.

    Nothing is copied, unless they are the host's own array; the result is None then.
    """
    x = read(blob.data_memory, blob.shape)
    if x.desc.plain:
        reorder(x, mutable_data(target, x.desc))
        return None
    layouts = _layouts(target.data_memory, discard=True)
    if hasattr(layouts, "head") and layouts.head.desc.shape != x.desc.shape:
        layouts.copies.clear()
    layouts.copies[x.desc] = x
    _make_head(target.data_memory, layouts, x)
    return Kept(x, None)


class Deferred:
    """Takes the place of a buffer's `Layouts` until the values are read: then `compute(memory)` writes them.

    What `compute` reads must not change in between: memory of its own, or memory that it keeps (`keep`).
    """

    __slots__ = ("buffer", "layouts", "desc", "compute")

    def __init__(self, buffer: Memory, desc: MemoryDesc, compute: Callable[[Tensor], None]) -> None:
        self.buffer = weakref.ref(buffer)  # which holds this object
        self.layouts, self.desc, self.compute = _layouts(buffer, discard=True), desc, compute

    def settle(self) -> None:
        """Compute the values."""
        with self.layouts.lock:
            buffer = self.buffer()
            if buffer is not None and buffer.copies.get(LAYOUTS) is self:
                self.compute(write(buffer, self.desc))

    def to_host(self, flat: np.ndarray) -> None:
        """Write them, in Caffe's order, to a flat array."""
        self.settle()
        self.layouts.to_host(flat)


def _layouts(buffer: Memory, discard: bool = False) -> Layouts:
    """The layouts of a buffer; deferred values are computed first, unless `discard` or overwritten since."""
    copy = buffer.copies.get(LAYOUTS)
    if copy is None:
        with _making:
            return buffer.copies.setdefault(LAYOUTS, Layouts())
    if type(copy) is Deferred:
        if discard or not buffer.fresh & LAYOUTS.bit:
            buffer.copies[LAYOUTS] = copy.layouts
        else:
            copy.settle()
        return copy.layouts
    return copy


_making = forks.renewed(threading.Lock())


def read(buffer: Memory, shape: Shape, desc: MemoryDesc | None = None) -> Tensor:
    """The newest values of a buffer: in their current layout, or converted to `desc`."""
    layouts = buffer.copies.get(LAYOUTS)
    if type(layouts) is not Layouts:
        layouts = _layouts(buffer)
    shape = shape or (1,)
    if buffer.valid_at(LAYOUTS) and layouts.head.desc.shape == shape:
        head = layouts.head
        if desc is None or desc is head.desc:
            return head
        if desc in layouts.fresh:
            return layouts.copies[desc]
    with layouts.lock:
        if buffer.valid_at(LAYOUTS) and layouts.head.desc.shape == shape:
            return _convert(buffer, layouts, desc)
        return _read_host(buffer, layouts, plain(shape), desc)


def _convert(buffer: Memory, layouts: Layouts, desc: MemoryDesc | None) -> Tensor:
    """The head's values in the layout `desc`, converted at most once after each write."""
    head = layouts.head
    if desc is None or desc is head.desc:
        return head
    if desc not in layouts.fresh:
        reorder(head, layouts.copy(buffer, desc))
        layouts.fresh.add(desc)
        if desc.plain:
            buffer.fresh |= HOST.bit
    return layouts.copies[desc]


def _read_host(buffer: Memory, layouts: Layouts, row_major: MemoryDesc, desc: MemoryDesc | None) -> Tensor:
    """The values of the host's copy, used when it is newer or when the engine's copies have another shape."""
    buffer.host()
    memory = layouts.head = layouts.copy(buffer, row_major)
    if desc is not None and desc is not row_major:
        memory = layouts.copy(buffer, desc)
        reorder(layouts.head, memory)
    layouts.fresh = {row_major, memory.desc}
    if memory.desc.float32:
        layouts.head = memory
    if not buffer.held:
        buffer.fresh |= LAYOUTS.bit
        if not layouts.head.desc.plain and buffer.plan is not None and buffer.plan.keeps_one_copy(buffer):
            layouts.drop_plain()
            buffer.forget_host()
    return memory


def write(buffer: Memory, desc: MemoryDesc) -> Tensor:
    """A tensor in the layout `desc` for new values: it is the head from here on."""
    if buffer.plan is not None:
        buffer.plan.used(buffer)
    layouts = buffer.copies.get(LAYOUTS)
    if type(layouts) is not Layouts:
        layouts = _layouts(buffer, discard=True)
    memory = layouts.copies.get(desc)
    if memory is None or memory.keepers:
        memory = layouts.copy(buffer, desc)
    _make_head(buffer, layouts, memory)
    return memory


def _make_head(buffer: Memory, layouts: Layouts, memory: Tensor) -> None:
    layouts.head, layouts.fresh = memory, {memory.desc}
    buffer.wrote(LAYOUTS, layouts)
    if memory.desc.plain:
        buffer.fresh |= HOST.bit


def data(blob: Blob, desc: MemoryDesc | None = None) -> Tensor:
    """A blob's values for reading: in float32 in their current layout, or converted to `desc`."""
    return _float32(blob.data_memory, blob.shape) if desc is None else read(blob.data_memory, blob.shape, desc)


def diff(blob: Blob, desc: MemoryDesc | None = None) -> Tensor:
    """A blob's diff for reading: in float32 in its current layout, or converted to `desc`."""
    return _float32(blob.diff_memory, blob.shape) if desc is None else read(blob.diff_memory, blob.shape, desc)


def _float32(buffer: Memory, shape: Shape) -> Tensor:
    """The newest values in their current layout; those in bfloat16 in row-major order."""
    newest = read(buffer, shape)
    return newest if newest.desc.float32 else read(buffer, shape, plain(newest.desc.shape))


def mutable_data(blob: Blob, desc: MemoryDesc) -> Tensor:
    """A tensor for a blob's new values."""
    return write(blob.data_memory, desc)


def mutable_diff(blob: Blob, desc: MemoryDesc) -> Tensor:
    """A tensor for a blob's new diff."""
    return write(blob.diff_memory, desc)


def defer(blob: Blob, desc: MemoryDesc, source: Kept, compute: Callable[[Tensor], None]) -> None:
    """Let a blob's new values be those that `compute` writes to memory in the layout `desc`, once they are read.

    source: what `compute` reads; if that does not last, the values are computed now.
    """
    buffer = blob.data_memory
    if not buffer.lasts:
        buffer.forget()
    elif source.lasts:
        buffer.wrote(LAYOUTS, Deferred(buffer, desc, compute))
    else:
        compute(write(buffer, desc))


def add_to_diff(blob: Blob, memory: Tensor) -> None:
    """blob.diff += memory, for the diffs of parameters, which sum up on the host."""
    buffer = blob.diff_memory
    buffer.host()
    target = _layouts(buffer).copy(buffer, plain(memory.desc.shape))
    reorder(memory, target, add=True)
    buffer.wrote_host()
