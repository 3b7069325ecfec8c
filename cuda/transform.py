"""Batches of images that are stored on the device as uint8, gathered and transformed by one kernel.

``DeviceBatches`` uploads a whole data set once. ``StagedBatches`` is for larger data sets: it uploads the next batch
from pinned memory while the device computes. In both, random state and position are in device memory and are advanced
by kernels, so that each replay of a captured step (minicaffe.cuda.graph) uses the next batch. Batches and random crops
are the same as on the CPU.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from minicaffe.cuda import context, graph, memory, ops
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.random import DeviceStream
from minicaffe.errors import DataError

_ROWS = 32  # rows of an image, of all channels, that a block makes
_RESERVE = 0.5  # part of the free device memory that a data set may use, leaving the rest to the net


def room() -> int:
    """Return the number of bytes that a data set on the device may have: half of the free memory."""
    return int(memory.usage()["free"] * _RESERVE)


def fits(nbytes: int) -> bool:
    """Whether a data set of `nbytes` bytes may be stored on the device."""
    return nbytes <= room()


class _Batches:
    """Base class: makes batches of crops from images on the device, with the settings of a BatchTransformer.

    shape: (T, C, H, W) of the images on the device.  labelled: whether they have labels.
    transformer, dtype: as for `DeviceBatches`.
    """

    def __init__(self, shape: tuple[int, ...], labelled: bool, transformer: Any, dtype: Any) -> None:
        transformer.check_mean(shape[1:])
        self.total, self.channels, self.height, self.width = shape
        self.shape = transformer.output_shape(shape[1:])  #: (C, H, W) of the tops
        self.dtype = np.dtype(dtype)
        self._images = DeviceBuffer(int(np.prod(shape)))
        self._labels = DeviceBuffer(4 * self.total) if labelled else None
        room = self.height - self.shape[1], self.width - self.shape[2]
        crops = bool(transformer.train and any(room))
        self._room = (*room, crops, bool(transformer.mirror))
        self._draws = DeviceStream(transformer.rng) if crops or transformer.mirror else None
        self._mean, self._mean_kind = self._upload_mean(transformer.mean)
        self._scale = transformer.scale
        self._cursor = DeviceBuffer(8)
        self._cursor.zero()

    def next_batch(self, count: int, top: int, label_top: int = 0) -> None:
        """Write the next `count` images, (count, *shape), and their labels, (count,), to device memory.

        top, label_top: device pointers; label_top 0 (default) for no labels.
        """
        images, labels = self._buffers()
        if not graph.capturing():
            self._advance(count, images, labels)
        graph.before_replay(lambda: self._advance(count, images, labels))
        random = self._draws.draw(3 * count) if self._draws else 0
        parts = -(-self.channels * self.shape[1] // _ROWS)
        source = count, self.total, self._cursor, ops.tickets(1), random, *self._room, labels or 0, label_top
        sizes = parts, self.channels, self.height, self.width, *self.shape[1:]
        batch = kernel("transform", "batch", self.dtype)
        batch.launch((count * parts, 1), 256, *source, *sizes, images, self._mean_kind, self._mean, self._scale, top)

    def _buffers(self) -> tuple[DeviceBuffer, DeviceBuffer | None]:
        """Return the images and labels that the next batch is made from."""
        return self._images, self._labels

    def _advance(self, count: int, images: DeviceBuffer, labels: DeviceBuffer | None) -> None:
        """Advance the position by a batch of `count` images in these buffers; runs on the host, once per batch."""
        raise NotImplementedError

    def _upload_mean(self, mean: np.ndarray | None) -> tuple[Any, int]:
        if mean is None:
            return 0, 0
        buffer = DeviceBuffer(mean.size * self.dtype.itemsize)
        buffer.from_host(mean.astype(self.dtype))
        return buffer, 1 if mean.size == 1 else 2 if mean.size == len(mean) else 3


class DeviceBatches(_Batches):
    """Batches of a data set on the device, in order, repeated endlessly.

    images: uint8 (T, C, H, W).  labels: (T,), or None.
    transformer: a minicaffe.data.transformer.BatchTransformer, which gives crop, mirror, mean, scale and random stream.
    dtype: dtype of the tops, float32 (default) or float64.
    Raises DataError if the images are not uint8 (T, C, H, W), or the mean or the crop does not fit them.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray | None, transformer: Any, dtype: Any = np.float32
    ) -> None:
        _check_bytes(images)
        super().__init__(images.shape, labels is not None, transformer, dtype)
        self.position = 0  #: index of the first image of the next batch; may be set
        self._on_device = 0  # the value of `_cursor` at the next batch
        self._images.from_host(images)
        if self._labels is not None:
            self._labels.from_host(np.asarray(labels, np.float32))

    def _advance(self, count: int, images: DeviceBuffer, labels: DeviceBuffer | None) -> None:
        if self._on_device != self.position:
            self._cursor.from_host(np.array([self.position], np.uint64))
        self.position = self._on_device = (self.position + count) % self.total


class _Slot:
    """Pinned memory for one batch, its copy on the device, and events after the upload and after its last use."""

    def __init__(self, images: DeviceBuffer, labels: DeviceBuffer | None) -> None:
        self.host = memory.pinned((images.nbytes,), np.uint8)
        self.host_labels = memory.pinned((labels.nbytes // 4,), np.float32) if labels else None
        self.images, self.labels = DeviceBuffer(images.nbytes), DeviceBuffer(labels.nbytes) if labels else None
        self.copied, self.used = context.event(), context.event()
        self.used.record(context.stream())
        self._error = context.current().driver.Error

    def __del__(self) -> None:  # the upload runs on another stream: it must end before the pool reuses the memory
        with contextlib.suppress(self._error):
            self.copied.synchronize()


class StagedBatches(_Batches):
    """Batches uploaded one by one: `put` queues a batch, `next_batch` uses it.

    shape: (N, C, H, W) of a uint8 batch.  labelled: whether batches have labels.  Other arguments as for DeviceBatches.

    `put` returns as soon as the batch is in pinned memory, and there are two slots. Call it right after a step has been
    launched, so that the batch for the next step is uploaded while the device computes. `next_batch` raises DataError
    unless a batch is queued and `count` is N.
    """

    def __init__(self, shape: tuple[int, ...], labelled: bool, transformer: Any, dtype: Any = np.float32) -> None:
        super().__init__(shape, labelled, transformer, dtype)
        self._slots = [_Slot(self._images, self._labels) for _ in range(2)]
        self._calls = [(self._images, self._labels)]  # what the first, second ... batch of a step is made from
        self._put = self._taken = 0

    def put(self, images: np.ndarray, labels: np.ndarray | None = None) -> None:
        """Queue a batch: uint8 images (N, C, H, W), and labels (N,) if `labelled`.

        Raises DataError for images of another shape or dtype, and if two batches are queued already.
        """
        _check_bytes(images)
        expected = (self.total, self.channels, self.height, self.width)
        if images.shape != expected:
            raise DataError(f"a batch of shape {images.shape} was put where {expected} was announced")
        if self._put - self._taken == len(self._slots):
            raise DataError("a third batch was put before the first was taken")
        device, slot = context.current(), self._slots[self._put % len(self._slots)]
        slot.used.synchronize()  # until the device has used the slot's previous batch
        slot.host[:] = images.reshape(-1)
        device.driver.memcpy_htod_async(slot.images.ptr, slot.host, device.copy)
        if slot.labels is not None and slot.host_labels is not None:
            slot.host_labels[:] = labels
            device.driver.memcpy_htod_async(slot.labels.ptr, slot.host_labels, device.copy)
        slot.copied.record(device.copy)
        self._put += 1

    def _buffers(self) -> tuple[DeviceBuffer, DeviceBuffer | None]:
        """Return buffers of their own for each batch of a step: before a replay all of its batches are copied."""
        call = graph.calls_before(self)
        while call >= len(self._calls):
            labels = DeviceBuffer(self._labels.nbytes) if self._labels else None
            self._calls.append((DeviceBuffer(self._images.nbytes), labels))
        return self._calls[call]

    def _advance(self, count: int, images: DeviceBuffer, labels: DeviceBuffer | None) -> None:
        """Queue the copy of the oldest queued batch, after its upload, into the buffers that the kernels read."""
        if count != self.total or self._put == self._taken:
            raise DataError(
                f"{count} images were asked for: a batch holds {self.total}, waiting: {self._put - self._taken}"
            )
        slot = self._slots[self._taken % len(self._slots)]
        context.stream().wait_for_event(slot.copied)
        images.copy_from(slot.images)
        if slot.labels is not None and labels is not None:
            labels.copy_from(slot.labels)
        slot.used.record(context.stream())
        self._taken += 1


def _check_bytes(images: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(f"images for the device must be uint8 (T, C, H, W), got {images.dtype} {images.shape}")
