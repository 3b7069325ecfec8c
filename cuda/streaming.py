"""Data that does not fit on the device: while a step computes, the batch of the next one crosses the bus.

Batches go through page-locked memory and the copy stream into a buffer of their own; the step then takes them from
there with one copy on the device. So a captured step finds its images at the same place each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minicaffe.cuda import context, graph, memory
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.transform import DeviceBatches
from minicaffe.data.reader import Batch
from minicaffe.errors import DataError


class StreamedBatches(DeviceBatches):
    """Batches from a reader, transformed on the device.

    first: the first batch, uint8 (N, C, H, W), which says the shape of all others; read: gives the batches after it.
    transformer, dtype: as DeviceBatches.
    `reader_position` is the reader's position after the batch that was used last.
    """

    def __init__(self, first: Batch, read: Callable[[], Batch], transformer: Any, dtype: Any = np.float32) -> None:
        super().__init__(first.images, first.labels, transformer, dtype)
        self._shape, self._read = first.images.shape, read
        self.reader_position: dict = {}
        self._staged_images = memory.pinned(self._shape, np.uint8)
        self._staged_labels = memory.pinned(self._shape[:1], np.float32)
        self._incoming = DeviceBuffer(self._images.nbytes), DeviceBuffer(self._labels.nbytes)
        self._arrived, self._taken = context.event(), context.event()
        self._taken.record(context.stream())
        self._send(first)

    def next_batch(self, count: int, top: int, label_top: int = 0) -> None:
        """As DeviceBatches; `count` is the size of every batch."""
        if not graph.capturing():
            self._take()
        graph.before_replay(self._take)
        super().next_batch(count, top, label_top)

    def _take(self) -> None:
        """Copy what has arrived to where the step reads it, and send the next batch off."""
        stream = context.stream()
        stream.wait_for_event(self._arrived)
        self._images.copy_from(self._incoming[0])
        self._labels.copy_from(self._incoming[1])
        self._taken.record(stream)
        self.reader_position = self._coming.position
        self._send(self._read())

    def _send(self, batch: Batch) -> None:
        """Start the copy of a batch; the page-locked memory is free again once the last copy from it has arrived."""
        if not isinstance(batch.images, np.ndarray) or batch.images.shape != self._shape:
            raise DataError(f"all images of a database must be of one size, {self._shape[1:]}, to be streamed")
        device = context.current()
        self._arrived.synchronize()
        self._coming = batch
        self._staged_images[...], self._staged_labels[...] = batch.images, batch.labels
        device.copy.wait_for_event(self._taken)
        for target, staged in zip(self._incoming, (self._staged_images, self._staged_labels)):
            device.driver.memcpy_htod_async(target.ptr, staged, device.copy)
        self._arrived.record(device.copy)
