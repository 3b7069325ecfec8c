"""Batches from images that lie on the device as bytes: gathered and transformed by two kernels.

``DeviceBatches`` holds a whole data set, uploaded once. ``StagedBatches`` is for larger ones: the next batch of bytes
crosses the bus from pinned memory while the device computes. In both, random numbers and position live in device memory
and move on by themselves, so a captured step (minicaffe.cuda.graph) takes the next batch each time it is replayed, and
takes the one that the processor's path would have taken.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from minicaffe.cuda import context, graph, memory
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.random import DeviceStream
from minicaffe.errors import DataError

_RESERVE = 0.5  # of the free memory: a larger data set would leave too little for the net


def room() -> int:
    """How many bytes of a data set may stay on the device."""
    return int(memory.usage()["free"] * _RESERVE)


def fits(nbytes: int) -> bool:
    """Whether a data set of so many bytes may stay on the device."""
    return nbytes <= room()


class _Batches:
    """Cuts batches out of `total` images (C, H, W) on the device, as a BatchTransformer wants them."""

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
        self._cuts: DeviceBuffer | None = None

    def next_batch(self, count: int, top: int, label_top: int = 0) -> None:
        """Write the next `count` images (count, *shape) to the pointer `top`, and their labels to `label_top`."""
        if self._cuts is None or self._cuts.nbytes < 16 * count:
            self._cuts = DeviceBuffer(16 * count)
        if not graph.capturing():
            self._advance(count)
        graph.before_replay(lambda: self._advance(count))
        random = self._draws.draw(3 * count) if self._draws else 0
        self._kernel("plan").launch(
            (1, 1), 256, count, self.total, self._cursor, random, *self._room, self._cuts, self._labels or 0, label_top
        )
        sizes = (self.channels, self.height, self.width, *self.shape[1:])
        n = count * int(np.prod(self.shape))
        self._kernel("transform")(n, *sizes, self._cuts, self._images, self._mean_kind, self._mean, self._scale, top)

    def _advance(self, count: int) -> None:
        """What the host does for each batch."""
        raise NotImplementedError

    def _kernel(self, name: str):
        return kernel("transform", name, self.dtype)

    def _upload_mean(self, mean: np.ndarray | None) -> tuple[Any, int]:
        if mean is None:
            return 0, 0
        buffer = DeviceBuffer(mean.size * self.dtype.itemsize)
        buffer.from_host(mean.astype(self.dtype))
        return buffer, 1 if mean.size == 1 else 2 if mean.size == len(mean) else 3


class DeviceBatches(_Batches):
    """Batches of a data set on the device, in order, round and round.

    images: uint8 (T, C, H, W); labels: (T,), or None.
    transformer: minicaffe.data.transformer.BatchTransformer, whose crop, mirror, mean, scale and stream count.
    dtype: of the tops.
    Raises DataError when the mean or the crop does not fit the images.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray | None, transformer: Any, dtype: Any = np.float32
    ) -> None:
        _check_bytes(images)
        super().__init__(images.shape, labels is not None, transformer, dtype)
        self.position = 0  #: of the record that the next batch begins with; may be set
        self._on_device = 0  # the position that the device will find at the next batch
        self._images.from_host(images)
        if self._labels is not None:
            self._labels.from_host(np.asarray(labels, np.float32))

    def _advance(self, count: int) -> None:
        if self._on_device != self.position:
            self._cursor.from_host(np.array([self.position], np.uint64))
        self.position = self._on_device = (self.position + count) % self.total


class _Slot:
    """Pinned memory for one batch, its copy on the device, and the event after the copy's last use."""

    def __init__(self, images: DeviceBuffer, labels: DeviceBuffer | None) -> None:
        self.host = memory.pinned((images.nbytes,), np.uint8)
        self.host_labels = memory.pinned((labels.nbytes // 4,), np.float32) if labels else None
        self.images, self.labels = DeviceBuffer(images.nbytes), DeviceBuffer(labels.nbytes) if labels else None
        self.copied, self.used = context.event(), context.event()
        self.used.record(context.stream())
        self._error = context.current().driver.Error

    def __del__(self) -> None:  # only then may others have the memory: the copy runs on a stream of its own
        with contextlib.suppress(self._error):
            self.copied.synchronize()


class StagedBatches(_Batches):
    """Batches that the host hands over one by one: `put` the next one, then `next_batch` takes it.

    shape: (N, C, H, W) of a batch of bytes; labelled: whether labels come along; the rest as in DeviceBatches.
    A `put` returns as soon as the bytes lie in pinned memory. There are two slots: do it right after the launch of a
    step, and the batch for the next one is copied while this one computes.
    """

    def __init__(self, shape: tuple[int, ...], labelled: bool, transformer: Any, dtype: Any = np.float32) -> None:
        super().__init__(shape, labelled, transformer, dtype)
        self._slots = [_Slot(self._images, self._labels) for _ in range(2)]
        self._put = self._taken = 0

    def put(self, images: np.ndarray, labels: np.ndarray | None = None) -> None:
        """Queue a batch: uint8 (N, C, H, W), and labels (N,). At most two may wait."""
        _check_bytes(images)
        expected = (self.total, self.channels, self.height, self.width)
        if images.shape != expected:
            raise DataError(f"a batch of shape {images.shape} was put where {expected} was announced")
        if self._put - self._taken == len(self._slots):
            raise DataError("a third batch was put before the first was taken")
        device, slot = context.current(), self._slots[self._put % len(self._slots)]
        slot.used.synchronize()  # the device has taken what lay here
        slot.host[:] = images.reshape(-1)
        device.driver.memcpy_htod_async(slot.images.ptr, slot.host, device.copy)
        if slot.labels is not None and slot.host_labels is not None:
            slot.host_labels[:] = labels
            device.driver.memcpy_htod_async(slot.labels.ptr, slot.host_labels, device.copy)
        slot.copied.record(device.copy)
        self._put += 1

    def _advance(self, count: int) -> None:
        """Move the batch to where the kernels look for it, as soon as it has arrived."""
        if count != self.total or self._put == self._taken:
            raise DataError(
                f"{count} images were asked for: a batch holds {self.total}, waiting: {self._put - self._taken}"
            )
        slot = self._slots[self._taken % len(self._slots)]
        context.stream().wait_for_event(slot.copied)
        self._images.copy_from(slot.images)
        if slot.labels is not None and self._labels is not None:
            self._labels.copy_from(slot.labels)
        slot.used.record(context.stream())
        self._taken += 1


def _check_bytes(images: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(f"images for the device must be uint8 (T, C, H, W), got {images.dtype} {images.shape}")
