"""Device memory from one pool, and pinned host memory for copies that overlap with computation.

Memory freed to the pool is reused at once, without waiting for the device. That is safe for work on the compute stream,
which runs in order; a buffer used on another stream must be kept until an event on that stream has completed.
``MINICAFFE_DEVICE_POOL=0`` allocates every buffer from the driver instead, with exactly the requested size: slower, but
memory checkers then detect every overrun.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

import numpy as np

from minicaffe.core.places import Place, observed
from minicaffe.cuda import context
from minicaffe.errors import DeviceError


def _pool(device: Any) -> Any:
    if "pool" not in device.cache:
        with device.lock:
            if "pool" not in device.cache:
                _make_pool(device)
    return device.cache["pool"]


def _make_pool(device: Any) -> None:
    from pycuda.tools import DeviceMemoryPool

    pool = device.cache["pool"] = DeviceMemoryPool()
    # Buffers may outlive the context when the program ends, and PyCUDA aborts if the pool is destroyed before them.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(pool))


class DeviceBuffer:
    """``nbytes`` bytes of device memory, uninitialised; ``.ptr`` and ``int(buffer)`` are its address.

    Read ``.ptr`` at each use instead of storing it: a step being captured holds a reference to each buffer whose
    address is read. All copies and fills are queued on the compute stream. ``from_host`` and ``to_host`` return when
    the host array may be used again. Raises DeviceError if there is not enough device memory.
    """

    __slots__ = ("nbytes", "_allocation", "_address")

    def __init__(self, nbytes: int) -> None:
        device = context.current()
        self.nbytes = int(nbytes)
        try:
            pooled = os.environ.get("MINICAFFE_DEVICE_POOL", "1") != "0"
            allocate = _pool(device).allocate if pooled else device.driver.mem_alloc
            self._allocation = allocate(max(self.nbytes, 1))
        except (device.driver.MemoryError, MemoryError) as error:
            free, total = device.driver.mem_get_info()
            raise DeviceError(
                f"GPU {device.index} ({device.name}) has no room for {self.nbytes} bytes more: {free} of its "
                f"{total} bytes are free; a smaller batch_size needs less"
            ) from error
        self._address = int(self._allocation)

    def __del__(self, entered: Any = context.entered) -> None:  # kept here: modules may be gone at exit
        with entered():
            self._allocation = None

    @property
    def ptr(self) -> int:
        """The device address, as an int."""
        if observed.observer is not None:
            observed.observer.used_buffer(self)
        return self._address

    def __int__(self) -> int:
        return self.ptr

    __index__ = __int__

    def from_host(self, array: np.ndarray, offset: int = 0) -> None:
        """Copy a host array into the buffer, from byte ``offset`` (default 0) on; DeviceError if it does not fit."""
        array = np.ascontiguousarray(array)
        self._check(array.nbytes, offset)
        copy_to_device(self.ptr + offset, array)

    def to_host(self, array: np.ndarray, offset: int = 0) -> np.ndarray:
        """Fill a contiguous host array from the buffer, from byte ``offset`` (default 0) on, and return the array.

        Raises DeviceError if the buffer is too short.
        """
        self._check(array.nbytes, offset)
        return copy_to_host(array, self.ptr + offset)

    def copy_from(self, other: DeviceBuffer, nbytes: int | None = None) -> None:
        """Copy the first ``nbytes`` (default: all) of another buffer into this one; DeviceError if they do not fit."""
        nbytes = other.nbytes if nbytes is None else nbytes
        self._check(nbytes, 0)
        copy_on_device(self.ptr, other.ptr, nbytes)

    def part(self, start: int, nbytes: int) -> DeviceBuffer:
        """Return ``nbytes`` bytes from byte ``start`` on as a buffer; it keeps this one alive."""
        self._check(nbytes, start)
        part = object.__new__(DeviceBuffer)
        part.nbytes, part._allocation, part._address = nbytes, self, self._address + start
        return part

    def zero(self) -> None:
        """Set every byte to zero."""
        fill_bytes(self.ptr, 0, self.nbytes)

    def _check(self, nbytes: int, offset: int) -> None:
        if offset < 0 or offset + nbytes > self.nbytes:
            raise DeviceError(
                f"{nbytes} bytes from byte {offset} on do not fit in a device buffer of {self.nbytes} bytes"
            )


class _Device(Place):
    """The Place of device memory, on this thread's device; its copies are DeviceBuffers."""

    def allocate(self, count: int, dtype: np.dtype) -> DeviceBuffer:
        return DeviceBuffer(max(count, 1) * dtype.itemsize)

    def keep(self, source: Any, target: Any) -> None:
        copy_on_device(target.mutable_gpu_data(), source.gpu_data(), source.count * source.dtype.itemsize)


GPU = _Device("gpu")


def copy_to_device(ptr: int, array: np.ndarray) -> None:
    """Copy a contiguous host array to a device address; returns when the host array may be changed again."""
    if not array.nbytes:
        return
    stream = context.stream()
    context.current().driver.memcpy_htod_async(int(ptr), array, stream)
    stream.synchronize()


def copy_to_host(array: np.ndarray, ptr: int) -> np.ndarray:
    """Fill a contiguous host array from a device address, after all queued work is done; returns the array."""
    if array.nbytes:
        stream = context.stream()
        context.current().driver.memcpy_dtoh_async(array, int(ptr), stream)
        stream.synchronize()
    return array


def copy_on_device(target: int, source: int, nbytes: int) -> None:
    """Queue a copy of ``nbytes`` bytes between two device addresses."""
    if nbytes and int(target) != int(source):
        context.current().driver.memcpy_dtod_async(int(target), int(source), nbytes, context.stream())


def fill_bytes(ptr: int, byte: int, nbytes: int, stream: Any = None) -> None:
    """Queue setting ``nbytes`` bytes at a device address; on this thread's stream unless another is given."""
    if nbytes:
        context.current().driver.memset_d8_async(int(ptr), byte, nbytes, stream or context.stream())


def pinned(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Return an uninitialised host array in page-locked memory, which the device accesses directly (DMA)."""
    return context.current().driver.pagelocked_empty(shape, dtype)


def usage() -> dict[str, int]:
    """Return bytes of device memory: ``active`` (in buffers), ``held`` by the pool, ``free`` and ``total``."""
    device = context.current()
    free, total = device.driver.mem_get_info()
    pool = _pool(device)
    return {"active": pool.active_bytes, "held": pool.managed_bytes, "free": free, "total": total}


def free_held() -> None:
    """Free the memory that the pool keeps for reuse."""
    _pool(context.current()).free_held()
