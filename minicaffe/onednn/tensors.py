"""Layouts, and buffers in a layout.

A layout is a `MemoryDesc`.  Equal layouts are the same Python object, so `a is b` compares them and they serve as keys
of caches.  A `Tensor` is a buffer in one layout.
"""

from __future__ import annotations

import functools
import weakref
from ctypes import POINTER, byref, c_int, c_int64, c_void_p
from typing import Any

import numpy as np

from minicaffe.core.memory import aligned_zeros
from minicaffe.onednn import library
from minicaffe.onednn.constants import Tag
from minicaffe.onednn.library import F32, call

_BLOCKED = 2
# dnnl_query_t
_STRIDES, _NDIMS, _DIMS, _TYPE, _OFFSET, _PADDED_DIMS, _KIND, _NBLOCKS, _BLOCKS, _BLOCK_AXES = (
    14,
    256,
    257,
    258,
    259,
    260,
    262,
    263,
    264,
    265,
)

_KEPT = 1024  # descriptors of each kind that outlive their users


class MemoryDesc:
    """A shape, a type and a layout (dnnl_memory_desc_t).

    The type is float32, bfloat16, or what a primitive's own notes have (workspace, scratchpad).

    Made by `plain`, `any_layout`, `strided` and by primitives.

    shape: the dimensions; size: bytes it occupies, padding included; float32: whether that is the type.
    plain: whether it is a C-contiguous numpy array of float32.
    padded_shape: the dimensions, channels padded to the layout's block.
    padded: whether they are more than `shape` (the padding must be, and by oneDNN is, kept at zero).
    """

    __slots__ = (
        "handle", "shape", "dtype", "size", "blocked", "float32", "plain", "padded_shape", "padded", "key", "_free",
        "__weakref__",
    )  # fmt: skip

    def __init__(self, handle: c_void_p, key: tuple):
        self.handle = handle
        self.key = key
        kind, self.dtype, self.shape, self.padded_shape, strides, blocks, _, offset = key
        self.size = int(library.load().dnnl_memory_desc_get_size(handle))
        self.padded = self.padded_shape != self.shape
        self.blocked = kind == _BLOCKED
        self.float32 = self.dtype == F32
        self.plain = (
            self.blocked
            and self.float32
            and not blocks
            and not self.padded
            and not offset
            and all(s == t or n == 1 for n, s, t in zip(self.shape, strides, _row_major(self.shape), strict=True))
        )
        self._free = library.load().dnnl_memory_desc_destroy  # kept here: modules may be gone at exit

    def __del__(self):
        if hasattr(self, "_free"):
            self._free(self.handle)

    def __repr__(self):
        if not self.blocked:
            return f"MemoryDesc({self.shape}, any layout)"
        strides, sizes, axes = self.key[4:7]
        blocks = "".join(f" {n}{'abcdefghijkl'[axis]}" for n, axis in zip(sizes, axes, strict=True))
        kind = "" if self.float32 else f", type {self.dtype}"
        return f"MemoryDesc({self.shape}, strides {strides}{', blocks' + blocks if blocks else ''}{kind})"


def _row_major(shape: tuple[int, ...]) -> list[int]:
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return strides


def _number(handle: c_void_p, what: int) -> int:
    """A number out of a memory descriptor."""
    result = c_int(0)
    call("memory_desc_query", handle, what, byref(result))
    return result.value


def _numbers(handle: c_void_p, what: int, count: int) -> tuple[int, ...]:
    """`count` numbers out of a memory descriptor."""
    if count == 0:
        return ()
    result = POINTER(c_int64)()
    call("memory_desc_query", handle, what, byref(result))
    return tuple(result[:count])


def intern_desc(handle: c_void_p) -> MemoryDesc | None:
    """The one MemoryDesc for a dnnl_memory_desc_t that belongs to the caller. None for an empty descriptor."""
    ndims = _number(handle, _NDIMS) if handle else 0
    if not ndims:
        return None
    kind, dtype = _number(handle, _KIND), _number(handle, _TYPE)
    if kind == _BLOCKED:
        offset = c_int64(0)
        call("memory_desc_query", handle, _OFFSET, byref(offset))
        blocks = _number(handle, _NBLOCKS)
        key = (
            kind,
            dtype,
            _numbers(handle, _DIMS, ndims),
            _numbers(handle, _PADDED_DIMS, ndims),
            _numbers(handle, _STRIDES, ndims),
            _numbers(handle, _BLOCKS, blocks),
            _numbers(handle, _BLOCK_AXES, blocks),
            offset.value,
        )
    else:
        shape = _numbers(handle, _DIMS, ndims)
        key = (kind, dtype, shape, shape, (), (), (), 0)
    with library.RUNTIME.lock:
        desc = library.RUNTIME.descs.get(key)
        if desc is None:
            mine = c_void_p()
            call("memory_desc_clone", byref(mine), handle)
            desc = library.RUNTIME.descs[key] = MemoryDesc(mine, key)
        return desc


def _adopt(handle: c_void_p) -> MemoryDesc:
    """Intern a descriptor that was created for us, and let the original go."""
    desc = intern_desc(handle)
    assert desc is not None  # it has dimensions
    call("memory_desc_destroy", handle)
    return desc


@functools.lru_cache(maxsize=_KEPT)
def strided(shape: tuple[int, ...], strides: tuple[int, ...], dtype: int = F32) -> MemoryDesc:
    """The layout of an array with these strides, counted in elements."""
    handle = c_void_p()
    dims, steps = library.dims(shape), library.dims(strides)
    call("memory_desc_create_with_strides", byref(handle), len(shape), dims, dtype, steps)
    return _adopt(handle)


@functools.lru_cache(maxsize=_KEPT)
def plain(shape: tuple[int, ...]) -> MemoryDesc:
    """Row-major order, Caffe's own. A scalar counts as shape (1,)."""
    shape = tuple(shape) or (1,)
    return strided(shape, tuple(_row_major(shape)))


def channels_last(shape: tuple[int, ...], dtype: int = F32) -> MemoryDesc:
    """Axis 1 innermost, the others in order: (N, H, W, C) for images."""
    inner = _row_major((shape[0], *shape[2:], shape[1]))
    return strided(tuple(shape), (inner[0], inner[-1], *inner[1:-1]), dtype)


@functools.lru_cache(maxsize=_KEPT)
def in_vectors(desc: MemoryDesc) -> MemoryDesc:
    """The layout for a primitive that is slow unless channels fill whole vectors, such as batch normalization.

    Blocks of 16 channels for (N, C, H, W) of float32 in channels last where 16 does not divide C, else `desc`.
    """
    if len(desc.shape) != 4 or desc.shape[1] % 16 == 0 or desc is not channels_last(desc.shape):
        return desc
    return _tagged(desc.shape, Tag.BLOCKED[4, 16])


@functools.lru_cache(maxsize=_KEPT)
def any_layout(shape: tuple[int, ...], dtype: int = F32) -> MemoryDesc:
    """No layout yet, of numbers in float32 or BF16: the primitive that is created with it chooses."""
    return _tagged(shape, Tag.ANY, dtype)


def _tagged(shape: tuple[int, ...], tag: int, dtype: int = F32) -> MemoryDesc:
    handle = c_void_p()
    call("memory_desc_create_with_tag", byref(handle), len(shape), library.dims(shape), dtype, tag)
    return _adopt(handle)


@functools.lru_cache(maxsize=_KEPT)
def like(desc: MemoryDesc, shape: tuple[int, ...]) -> MemoryDesc:
    """The layout for another shape with channels in blocks as in `desc`, or last as in `desc`; else row-major."""
    sizes, axes = desc.key[5:7]
    tag = Tag.BLOCKED.get((len(shape), sizes[0])) if axes == (1,) and len(shape) == len(desc.shape) else None
    if tag is not None and desc is _tagged(desc.shape, tag):
        return _tagged(shape, tag)
    if 1 < len(shape) == len(desc.shape) and desc is channels_last(desc.shape):
        return channels_last(shape)
    return plain(shape)


@functools.lru_cache(maxsize=_KEPT)
def submemory(desc: MemoryDesc, shape: tuple[int, ...], offsets: tuple[int, ...]) -> MemoryDesc:
    """A part of a larger array, to be used with the memory of the whole.

    Raises OneDNNError where the part does not begin and end at the layout's blocks.
    """
    handle = c_void_p()
    call("memory_desc_create_submemory", byref(handle), desc.handle, library.dims(shape), library.dims(offsets))
    return _adopt(handle)


def aligned(size: int) -> np.ndarray:
    """`size` zero bytes that begin on a cache line."""
    return aligned_zeros(size, np.dtype(np.uint8))


class Tensor:
    """A buffer in one layout (dnnl_memory_t): `Tensor(desc)` owns zeros, `Tensor(desc, array)` uses the array's."""

    __slots__ = ("desc", "buffer", "handle", "filled", "keepers", "_free", "__weakref__")

    def __init__(self, desc: MemoryDesc, buffer: np.ndarray | None = None):
        self.desc = desc
        self.buffer = aligned(desc.size) if buffer is None else buffer
        self.keepers = 0  # how many `layouts.Kept` rely on the values: it is not written to while there are any
        #: the last reorder into this memory, ready to be repeated: reference to the source, add, Execution
        self.filled: tuple[weakref.ref[Tensor], bool, Any] | None = None
        self.handle = c_void_p()
        call("memory_create", byref(self.handle), desc.handle, library.engine(), c_void_p(self.buffer.ctypes.data))

        self._free = library.load().dnnl_memory_destroy  # kept here: modules may be gone at exit

    def __del__(self):
        if hasattr(self, "_free"):
            self._free(self.handle)

    def move(self, buffer: np.ndarray) -> None:
        """Look at another buffer of at least the same size from now on."""
        if buffer.ctypes.data != self.buffer.ctypes.data:
            call("memory_set_data_handle", self.handle, c_void_p(buffer.ctypes.data))
        self.buffer = buffer

    def array(self) -> np.ndarray:
        """The numbers as a numpy array that shares this memory; only for plain layouts."""
        if not self.desc.plain:
            raise library.OneDNNError(f"{self.desc!r} is no plain array")
        return self.buffer.view(np.uint8).reshape(-1)[: self.desc.size].view(np.float32).reshape(self.desc.shape)


def of_array(array: np.ndarray) -> Tensor:
    """A tensor that shares a float32 numpy array's numbers and strides."""
    if array.dtype != np.float32:
        raise library.OneDNNError(f"oneDNN computes in float32 here, got an array of {array.dtype}")
    if array.flags.c_contiguous:
        return Tensor(plain(array.shape), array)
    return Tensor(strided(array.shape, tuple(s // 4 for s in array.strides)), array)


def scratch(size: int) -> np.ndarray:
    """This thread's scratch buffer, at least `size` bytes; every primitive of the thread uses the same one."""
    local = library.local()
    if local.scratch is None or local.scratch.size < size:
        local.scratch = aligned(size)
    return local.scratch
