"""COUNTING: a small engine, an example of the parts of an engine and a proof that core needs no edit for another one.

It computes with the layers' own numpy code, but on buffers of its own, and counts what is copied between these and the
host.  It consists of

    Buffer, OwnBuffers      a place where copies of numbers are kept (`minicaffe.core.memory`)
    Counting                the engine, registered by `add_engine`
    InOwnBuffers            a blob as the numpy code gets it: `data` and `diff` are the arrays in the engine's buffers
    CountingLayer           base class of its variants of layers; `add_variants` registers one of each type
    ProductReLU             a pair of layers that it computes as one (`minicaffe.core.fusion`)

Importing this module makes `minicaffe.set_engine("COUNTING")` and `engine: "COUNTING"` in a prototxt work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.engine import NUMPY, Engine, add_engine
from minicaffe.core.fusion import Fused, fuses
from minicaffe.core.layer import Layer
from minicaffe.core.places import Place
from minicaffe.core.registry import OWN, register, variants_of
from minicaffe.layers.inner_product import InnerProduct

# -- memory ------------------------------------------------------------------------------------------------------------


class Buffer:
    """The numbers of a `Memory` in an array of the engine's own."""

    def __init__(self, place: OwnBuffers, count: int, dtype: np.dtype) -> None:
        self.place, self.array = place, np.empty(count, dtype)

    def from_host(self, flat: np.ndarray) -> None:
        self.array[:] = flat
        self.place.from_host += 1

    def to_host(self, flat: np.ndarray) -> None:
        flat[:] = self.array
        self.place.to_host += 1

    def zero(self) -> None:
        self.array.fill(0)


class OwnBuffers(Place):
    """The place to which the engine's layers write their results.

    to_host, from_host: the number of copies to the host and from it.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.to_host = self.from_host = 0

    def allocate(self, count: int, dtype: np.dtype) -> Buffer:
        return Buffer(self, count, dtype)

    def keep(self, source: Blob, target: Blob) -> None:
        InOwnBuffers(target).data = InOwnBuffers(source).read_data()


BUFFERS = OwnBuffers("counting")


# -- the engine --------------------------------------------------------------------------------------------------------


class Counting(Engine):
    """Takes part in the passes of the CPU, in float32 and in float64."""

    name, base, place = "COUNTING", NUMPY, BUFFERS


COUNTING = add_engine(Counting())


# -- layers ------------------------------------------------------------------------------------------------------------


class InOwnBuffers(Blob):
    """The same blob as another one, whose `data` and `diff` are arrays in the engine's buffers.

    Both have one `Memory`, which copies between the host and the buffers when either is read.
    """

    __slots__ = ()

    def __init__(self, blob: Blob) -> None:
        super().__init__((), blob.dtype)
        self.restore(blob.signature)

    @Blob.data.getter
    def data(self) -> np.ndarray:
        return self._shaped(self.data_memory.write(BUFFERS))

    @Blob.diff.getter
    def diff(self) -> np.ndarray:
        return self._shaped(self.diff_memory.write(BUFFERS))

    def read_data(self) -> np.ndarray:
        return self._shaped(self.data_memory.read(BUFFERS))

    def read_diff(self) -> np.ndarray:
        return self._shaped(self.diff_memory.read(BUFFERS))

    def _shaped(self, buffer: Buffer) -> np.ndarray:
        return buffer.array[: self.count].reshape(self.shape)


class CountingLayer(Layer):
    """Runs the numpy code of the class behind it in the MRO, with `InOwnBuffers` in place of the blobs."""

    def forward_cpu(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        with self.in_own_buffers(bottom, top) as (bottom, top):
            super().forward_cpu(bottom, top)

    def backward_cpu(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        with self.in_own_buffers(bottom, top) as (bottom, top):
            super().backward_cpu(top, propagate_down, bottom)

    @contextlib.contextmanager
    def in_own_buffers(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> Iterator[tuple[list[Blob], list[Blob]]]:
        """The bottoms and tops as the numpy code gets them; the same for `blobs` within the block."""
        own = {blob: InOwnBuffers(blob) for blob in (*bottom, *top, *self.blobs)}  # in place: one for bottom and top
        blobs, self.blobs = self.blobs, [own[blob] for blob in self.blobs]
        try:
            yield [own[blob] for blob in bottom], [own[blob] for blob in top]
        finally:
            self.blobs = blobs
        for blob in top:
            blob.restore(own[blob].signature)  # the shape may depend on what was computed


#: types that have tops and bottoms, but do not compute: users' code, a file that is written, and shared memory
NOT_COMPUTED = ("Python", "HDF5Output", "Silence", "Split", "Flatten", "Reshape")


def add_variants() -> None:
    """Register a variant of each type of layer that computes tops from bottoms."""
    for cls in variants_of(OWN):
        if cls.exact_num_bottom != 0 and cls.type not in NOT_COMPUTED:
            members = {"__doc__": cls.__doc__, "__module__": __name__}
            register(cls.type, COUNTING.name)(type(f"Counting{cls.__name__}", (CountingLayer, cls), members))


add_variants()


# -- layers computed as one --------------------------------------------------------------------------------------------


@fuses("COUNTING")
class ProductReLU(Fused):
    """An InnerProduct and the ReLU that works in place on its top; they run backward one by one."""

    patterns = ("InnerProduct ReLU",)

    def fits(self) -> bool:
        """Whether the ReLU's backward pass reads only its top: its bottom is not kept."""
        return self.layers[1].kept_blobs is None

    def compute(self) -> None:
        product, relu = self.layers
        with product.in_own_buffers(self.bottom, self.top) as (bottom, top):
            InnerProduct.forward_cpu(product, bottom, top)
            y = top[0].data
            relu.numpy_forward(y, y)
