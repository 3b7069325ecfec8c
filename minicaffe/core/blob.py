"""Blob: an N-d array and its diff, the unit in which layers, nets and solvers exchange numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minicaffe.core.memory import Memory
from minicaffe.core.places import Place
from minicaffe.core.settings import settings
from minicaffe.errors import BlobError
from minicaffe.limits import MAX_COUNT
from minicaffe.proto import caffe_pb2
from minicaffe.varint import varint

MAX_AXES = 32  #: of a blob, as in Caffe


class Blob:
    """An N-d array of float32 and its diff (the gradient of the loss), in Caffe's order: images are (N, C, H, W).

    shape: axis lengths; `()` is a scalar, one number.
    dtype: float32; float64 where a gradient is checked.

    signature: shape and memory identity, (shape, data_memory, diff_memory); layers compare it to decide whether to
        reshape.
    data_memory, diff_memory: the buffers behind `data` and `diff`, for engines.

    `data` and `diff` are live numpy arrays: reading brings the newest values to the host, writing into them changes
    the blob.  A larger shape gets larger memory; a smaller one keeps the memory it has.
    """

    __slots__ = ("_shape", "_count", "data_memory", "diff_memory", "signature", "dtype", "__weakref__")

    def __init__(self, shape: Sequence[int] = (), dtype: np.typing.DTypeLike = np.float32) -> None:
        self.dtype = np.dtype(dtype)
        memory = Memory(0, self.dtype)
        self._set((), memory, memory)
        self.reshape(shape)

    # -- shape -----------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes; `()` for a scalar."""
        return self._shape

    @property
    def count(self) -> int:
        """How many numbers: the product of the shape, 1 for a scalar."""
        return self._count

    @property
    def num_axes(self) -> int:
        """The number of axes; 0 for a scalar."""
        return len(self._shape)

    def reshape(self, *shape: int | Sequence[int]) -> None:
        """Change the shape: `reshape(2, 3)` or `reshape((2, 3))`.

        Up to the capacity the memory stays, and so do the values that fit; beyond it the blob gets new memory, zero at
        first.  Where a blob grows again, the values that were beyond the smaller shape are undefined.
        Raises BlobError for negative lengths, more than 2^31 - 1 numbers or more than 32 axes, as in Caffe; MemoryError
        where there is no room.  The blob is then as it was.
        """
        dims = shape[0] if len(shape) == 1 and not isinstance(shape[0], (int, np.integer)) else shape
        dims = tuple(int(d) for d in dims)  # type: ignore[arg-type]  # TypeError for a sequence among them
        check_shape(dims)
        count = math.prod(dims)
        try:
            place = settings.engine.place
            data, diff = self.data_memory.fitted(count, place), self.diff_memory.fitted(count, place)
        except MemoryError as error:
            raise MemoryError(f"there is no room for a blob of shape {dims}: {error}") from error
        if diff is data:
            diff = Memory(count, self.dtype)
        self._set(dims, data, diff)

    def _set(self, shape: tuple[int, ...], data: Memory, diff: Memory) -> None:
        self._shape, self._count = shape, math.prod(shape)
        self.data_memory, self.diff_memory = data, diff
        self.signature = shape, data, diff

    def restore(self, signature: tuple) -> None:
        """Take up the shape and the memory of an earlier `signature`."""
        self._set(*signature)

    def canonical_axis(self, axis: int) -> int:
        """`axis` counted from the front: -1 is the last one."""
        return canonical_axis(axis, self.num_axes)

    def count_range(self, start: int, end: int | None = None) -> int:
        """The product of the lengths of axes start to end - 1."""
        return math.prod(self._shape[start:end])

    def _legacy(self, index: int) -> int:
        if self.num_axes > 4:
            raise BlobError(f"num, channels, height and width are for blobs of at most 4 axes, got {self._shape}")
        return self._shape[index] if index < self.num_axes else 1

    @property
    def num(self) -> int:
        """Length of axis 0, or 1 (legacy name)."""
        return self._legacy(0)

    @property
    def channels(self) -> int:
        """Length of axis 1, or 1 (legacy name)."""
        return self._legacy(1)

    @property
    def height(self) -> int:
        """Length of axis 2, or 1 (legacy name)."""
        return self._legacy(2)

    @property
    def width(self) -> int:
        """Length of axis 3, or 1 (legacy name)."""
        return self._legacy(3)

    # -- values on the host ----------------------------------------------------------------------------------------

    @property
    def data(self) -> np.ndarray:
        """The values, a live array of the blob's shape."""
        return self.data_memory.live()[: self._count].reshape(self._shape)

    @data.setter
    def data(self, values: np.typing.ArrayLike) -> None:
        self.data[...] = values

    @property
    def diff(self) -> np.ndarray:
        """The gradient of the loss with respect to the values, a live array of the blob's shape."""
        return self.diff_memory.live()[: self._count].reshape(self._shape)

    @diff.setter
    def diff(self, values: np.typing.ArrayLike) -> None:
        self.diff[...] = values

    def read_data(self) -> np.ndarray:
        """The values for reading only: copies elsewhere stay valid."""
        return self.data_memory.host()[: self._count].reshape(self._shape)

    def read_diff(self) -> np.ndarray:
        """The diff for reading only: copies elsewhere stay valid."""
        return self.diff_memory.host()[: self._count].reshape(self._shape)

    # -- values on the CUDA device ---------------------------------------------------------------------------------

    def gpu_data(self) -> int:
        """Device pointer of the values, for reading."""
        return self.data_memory.read(Place.named("gpu")).ptr

    def gpu_diff(self) -> int:
        """Device pointer of the diff, for reading."""
        return self.diff_memory.read(Place.named("gpu")).ptr

    def mutable_gpu_data(self) -> int:
        """Device pointer of the values, for writing: the device holds the newest ones from here on."""
        return self.data_memory.write(Place.named("gpu")).ptr

    def mutable_gpu_diff(self) -> int:
        """Device pointer of the diff, for writing: the device holds the newest values from here on."""
        return self.diff_memory.write(Place.named("gpu")).ptr

    def clear_diff(self) -> None:
        """Set the diff to zero, wherever it lives."""
        self.diff_memory.clear()

    def settle(self) -> None:
        """Bring the views of data and diff that a script holds up to date; called after each layer."""
        self.data_memory.settle()
        self.diff_memory.settle()

    # -- sharing ---------------------------------------------------------------------------------------------------

    def share_data(self, other: Blob) -> None:
        """Use the other blob's values as one's own: same memory, own shape of the same count."""
        self._check_count(other)
        for memory in (self.data_memory, other.data_memory) if self.data_memory is not other.data_memory else ():
            plan = memory.plan
            if plan is not None:
                plan.used(memory)
                plan.written(memory)
        self._set(self._shape, other.data_memory, self.diff_memory)

    def share_diff(self, other: Blob) -> None:
        """Use the other blob's diff as one's own: same memory, own shape of the same count."""
        self._check_count(other)
        self._set(self._shape, self.data_memory, other.diff_memory)

    def _check_count(self, other: Blob) -> None:
        if self._count != other._count:
            raise BlobError(f"blobs that share memory need equal counts, got {self._shape} and {other._shape}")

    # -- on disk ---------------------------------------------------------------------------------------------------

    def to_proto(self, write_diff: bool = False) -> caffe_pb2.BlobProto:
        """A BlobProto with shape and data, and with `write_diff` the diff."""
        proto = caffe_pb2.BlobProto()
        proto.shape.dim.extend(self._shape)
        prefix = "double_" if self.dtype == np.float64 else ""
        _set_packed(proto, prefix + "data", self.read_data())
        if write_diff:
            _set_packed(proto, prefix + "diff", self.read_diff())
        return proto

    def from_proto(self, proto: caffe_pb2.BlobProto, reshape: bool = True) -> None:
        """Take shape (unless `reshape` is off), data and diff of a BlobProto, float or double, new or legacy."""
        if reshape:
            self.reshape(proto_shape(proto))
        elif not proto_fits(proto, self._shape):
            raise BlobError(f"expected a blob of shape {self._shape}, got {proto_shape(proto)}")
        for name, values in (("data", proto.double_data or proto.data), ("diff", proto.double_diff or proto.diff)):
            if len(values):
                if len(values) != self._count:
                    raise BlobError(
                        f"expected {self._count} numbers of {name} for shape {self._shape}, got {len(values)}"
                    )
                getattr(self, name)[...] = np.asarray(values, self.dtype).reshape(self._shape)

    def __reduce__(self):
        return _with_values, (self.dtype, self.read_data().copy(), self.read_diff().copy())

    def __repr__(self) -> str:
        return f"Blob({self._shape}, {self.dtype.name})"


def _set_packed(proto, name: str, values: np.ndarray) -> None:
    """Set a packed field by parsing its wire format, which takes a hundredth of the time of appending each number."""
    content = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    if content:
        tag = proto.DESCRIPTOR.fields_by_name[name].number << 3 | 2  # 2: a length and so many bytes follow
        proto.MergeFromString(varint(tag) + varint(len(content)) + content)


def settle(blobs: Sequence[Blob]) -> None:
    """`Blob.settle` for each; blobs of which scripts hold no view are passed over quickly."""
    for blob in blobs:
        if blob.data_memory.view is not None or blob.diff_memory.view is not None:
            blob.settle()


def check_shape(dims: tuple[int, ...]) -> None:
    """Raise BlobError for a shape that no blob can have: negative lengths, too many axes or numbers.

    Axes of length 0 are left out of the product: numpy, too, limits the product of the others.
    """
    if any(d < 0 for d in dims):
        raise BlobError(f"a blob's shape cannot hold negative lengths, got {dims}")
    if len(dims) > MAX_AXES:
        raise BlobError(f"a blob has at most {MAX_AXES} axes, got {len(dims)}")
    if math.prod(d for d in dims if d) > MAX_COUNT:
        raise BlobError(f"a blob holds at most {MAX_COUNT} numbers, got the shape {dims}")


def _with_values(dtype: np.dtype, data: np.ndarray, diff: np.ndarray) -> Blob:
    """A copied or unpickled Blob, with memory of its own."""
    blob = Blob(data.shape, dtype)
    blob.data, blob.diff = data, diff
    return blob


def proto_shape(proto) -> tuple[int, ...]:
    """The shape of a BlobProto; the legacy fields num, channels, height and width make four axes."""
    if is_legacy(proto):
        return (proto.num, proto.channels, proto.height, proto.width)
    return tuple(proto.shape.dim)


def is_legacy(proto) -> bool:
    """Whether a BlobProto has its shape in the legacy fields num, channels, height, width."""
    return any(proto.HasField(name) for name in ("num", "channels", "height", "width"))


def proto_fits(proto, shape: tuple[int, ...]) -> bool:
    """Whether a BlobProto is of this shape; a legacy one may have 1s in front: (1, 1, 10, 64) fits (10, 64).

    C3D's biases have the shape (1, 1, 1, 1, num_output).
    """
    found = proto_shape(proto)
    if len(shape) == 1 and len(found) == 5:
        return found == (1, 1, 1, 1, *shape)
    if is_legacy(proto):
        return len(shape) <= 4 and found == (1,) * (4 - len(shape)) + tuple(shape)
    return found == tuple(shape)


def canonical_axis(axis: int, num_axes: int) -> int:
    """`axis` counted from the front, for an array of `num_axes` axes; `BlobError` when there is no such axis."""
    if not -num_axes <= axis < num_axes:
        raise BlobError(f"axis {axis} is out of range for a blob of {num_axes} axes")
    return axis % num_axes if num_axes else 0
